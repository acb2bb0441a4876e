// Package audit is the ledger: what was asked, decided and signed, one record a
// line, each holding the hash of the one before. A [Log] numbers, chains and
// groups records; a [Sink] only stores them.
//
// A token leaves only after its intent and its outcome are durable. When the
// ledger can't be written, nothing is released: see [ErrDown].
//
// Cutting records off the ledger's very end can't be seen from the ledger
// alone: [Verify] takes a head that was noted elsewhere.
package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Sink stores records. When Append returns nil the records survive a power
// cut; when it returns an error the daemon gives out no signature. Append is
// called by one goroutine at a time, in the order of the chain.
type Sink interface {
	Append(batch [][]byte) error
}

// A Mender is a Sink that can go on after a failed Append. Optional.
type Mender interface {
	// Mend drops what was written but never acknowledged, and makes room for
	// more. With urgent it may use space held back for that.
	Mend(urgent bool) error
}

var (
	// ErrDown says that a record could not be made durable.
	ErrDown = errors.New("the ledger can't be written")
	// ErrClosed says that the ledger was closed.
	ErrClosed = errors.New("the ledger is closed")
)

// MaxUnsynced bounds the intents that are ordered but not yet durable, and so
// the signatures that a crash can leave without a record. None of them was
// released.
const MaxUnsynced = 1024

// mendEvery is how long a broken ledger waits before it is tried again.
const mendEvery = time.Second

// Options are what a Log takes from outside. Now is required.
type Options struct {
	Tail Tail // where the ledger ends, from OpenFile
	Now  func() time.Time
}

// A Tail is where a ledger ends.
type Tail struct {
	Seq         uint64
	Hash        [sha256.Size]byte
	Clean       bool   // its last record is "stop", or there is none
	OpenIntents int    // intents without an outcome since the last start
	Torn        int64  // bytes of an unfinished record that were dropped
	Note        string // what was found, for the start record
}

// A Log orders records into a chain and makes them durable in groups: callers
// that wait at the same time share one write.
//
// There is one writer at a time, but no goroutine of its own: the caller that
// finds nobody writing writes for all that wait, and a lone caller need not
// wake anybody.
type Log struct {
	sink Sink
	now  func() time.Time

	mu      sync.Mutex
	queue   []*pending
	writing bool
	inWrite int // records that the sink is at work on
	closed  bool
	epoch   int       // counts breakdowns: an intent of an earlier one is lost
	down    error     // why nothing can be written
	retry   time.Time // when to try again
	idle    sync.Cond // signalled when writing ends

	// Only the writer touches these.
	seq  uint64
	prev [sha256.Size]byte
}

// A pending is a record on its way: wait is nil for one nobody waits for yet.
type pending struct {
	line
	seq  uint64
	of   *pending // an outcome's intent
	wait chan error
}

// Open starts a log on sink, and records that it was started.
func Open(sink Sink, o Options) (*Log, error) {
	if o.Now == nil {
		return nil, errors.New("audit: Options.Now is required")
	}
	l := &Log{sink: sink, now: o.Now, seq: o.Tail.Seq, prev: o.Tail.Hash}
	l.idle.L = &l.mu
	first := line{kind: KindStart, event: Event{Reason: o.Tail.Note}}
	if !o.Tail.Clean {
		first.kind = KindUncleanStop
		first.event.Reason = fmt.Sprintf("%d intents without an outcome; at most %d more signatures, none released, without a record. %s",
			o.Tail.OpenIntents, MaxUnsynced, o.Tail.Note)
	}
	if err := l.put(&pending{line: first}); err != nil {
		return nil, err
	}
	return l, nil
}

// An Entry is an intent that waits for its outcome.
type Entry struct {
	log    *Log
	intent *pending
	epoch  int
}

// Intend orders an intent: it stands in the chain before whatever comes next,
// and is durable when its outcome is. It fails at once if the ledger is down.
func (l *Log) Intend(_ context.Context, e Event) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	if n := len(l.queue) + l.inWrite; n >= MaxUnsynced {
		return nil, fmt.Errorf("audit: %d records wait: %w", n, ErrDown)
	}
	p := &pending{line: line{kind: KindIntent, event: e}}
	l.queue = append(l.queue, p)
	return &Entry{l, p, l.epoch}, nil
}

// Done records that a token came of the intent, by its SHA-256, and returns
// when both are durable. It waits for that whatever becomes of the caller: a
// token that is not on record must not leave.
func (en *Entry) Done(_ context.Context, tokenHash []byte) error {
	return en.end(line{kind: KindOutcome, event: Event{Op: en.intent.event.Op, TokenID: en.intent.event.TokenID}, token: tokenHash})
}

// Failed records that no token came of the intent, and why.
func (en *Entry) Failed(_ context.Context, cause error) error {
	e := Event{Op: en.intent.event.Op, TokenID: en.intent.event.TokenID, Reason: cause.Error()}
	return en.end(line{kind: KindFailed, event: e})
}

func (en *Entry) end(out line) error {
	l := en.log
	l.mu.Lock()
	if l.epoch != en.epoch {
		defer l.mu.Unlock()
		return fmt.Errorf("audit: the intent was lost: %w", ErrDown)
	}
	return l.commit(&pending{line: out, of: en.intent})
}

// Deny records a refusal and returns when it is durable.
func (l *Log) Deny(_ context.Context, e Event) error {
	return l.put(&pending{line: line{kind: KindDenied, event: e}})
}

// Record records what an operator does and returns when it is durable.
func (l *Log) Record(_ context.Context, e Event) error {
	return l.put(&pending{line: line{kind: KindRecord, event: e}})
}

// RecordUrgent is Record for what must work while the ledger is full: it may
// use space that is held back for it.
func (l *Log) RecordUrgent(ctx context.Context, e Event) error {
	err := l.Record(ctx, e)
	if err == nil || !errors.Is(err, ErrDown) {
		return err
	}
	l.mu.Lock()
	cause := l.down
	mendErr := l.mend(true)
	if mendErr != nil {
		l.mu.Unlock()
		return mendErr
	}
	err = l.commit(&pending{line: line{kind: KindRecord, event: e}})
	// What was held back is for urgent records only: the ledger stays down
	// until it could be held back again.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breakDown(cause)
	return err
}

// put orders a record and waits until it is durable.
func (l *Log) put(p *pending) error {
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	return l.commit(p)
}

// usable says whether a record may be ordered now, and tries to mend a ledger
// that has been down for a while. Called with mu held.
func (l *Log) usable() error {
	if l.closed {
		return ErrClosed
	}
	if l.down == nil {
		return nil
	}
	if l.now().Before(l.retry) {
		return l.down
	}
	return l.mend(false)
}

// errLead is not an error: it tells a caller that waits to write from now on.
var errLead = errors.New("audit: lead")

// commit queues p and returns when it is durable or failed. Called with mu
// held; returns without it.
func (l *Log) commit(p *pending) error {
	p.wait = make(chan error, 1)
	l.queue = append(l.queue, p)
	if l.writing {
		l.mu.Unlock()
		if err := <-p.wait; !errors.Is(err, errLead) {
			return err
		}
		l.mu.Lock()
	}
	l.writing = true
	l.write() // p is in the batch
	l.handOver()
	l.mu.Unlock()
	return <-p.wait
}

// handOver makes the first caller that waits the writer, so that none writes
// for others longer than for itself. Intents alone can wait for company.
func (l *Log) handOver() {
	for _, p := range l.queue {
		if p.wait != nil {
			p.wait <- errLead
			return
		}
	}
	l.writing = false
	l.idle.Broadcast()
}

// write writes the queue as one batch. Called with mu held, which it gives up
// while the sink is at work.
func (l *Log) write() {
	batch := l.queue
	l.queue, l.inWrite = nil, len(batch)
	l.mu.Unlock()
	err := l.append(batch)
	l.mu.Lock()
	l.inWrite = 0
	if err != nil {
		l.breakDown(err)
		// What came meanwhile was ordered after records that are lost.
		batch = append(batch, l.queue...)
		l.queue = nil
		err = l.down
	}
	for _, p := range batch {
		if p.wait != nil {
			p.wait <- err
		}
	}
}

// append chains a batch and hands it to the sink. The chain moves on only if
// the sink took it.
func (l *Log) append(batch []*pending) error {
	at, seq, prev := l.now(), l.seq, l.prev
	lines := make([][]byte, len(batch))
	buf := make([]byte, 0, 512*len(batch))
	for i, p := range batch {
		seq++
		p.seq = seq
		if p.of != nil {
			p.intent = p.of.seq
		}
		start := len(buf)
		buf, prev = p.append(buf, seq, at, prev)
		lines[i] = buf[start:len(buf):len(buf)]
	}
	if err := l.sink.Append(lines); err != nil {
		return err
	}
	l.seq, l.prev = seq, prev
	return nil
}

// breakDown stops the log. Called with mu held.
func (l *Log) breakDown(cause error) {
	if cause == nil {
		return
	}
	l.epoch++
	l.retry = l.now().Add(mendEvery)
	l.down = cause
	if !errors.Is(cause, ErrDown) {
		l.down = fmt.Errorf("audit: %w: %w", ErrDown, cause)
	}
}

// mend lets a broken log go on, from the last record that was acknowledged.
// Called with mu held; nobody is writing, since the log is down.
func (l *Log) mend(urgent bool) error {
	if l.down == nil {
		return nil
	}
	for l.writing {
		l.idle.Wait()
	}
	if l.down == nil {
		return nil // another who waited has mended it
	}
	m, ok := l.sink.(Mender)
	if !ok {
		return l.down
	}
	if err := m.Mend(urgent); err != nil {
		l.breakDown(err)
		return l.down
	}
	// The repair record goes first, in a batch with whatever comes next.
	reason := l.down.Error()
	l.down = nil
	l.queue = append([]*pending{{line: line{kind: KindRepair, event: Event{Reason: reason}}}}, l.queue...)
	return nil
}

// Healthy returns nil, or why nothing can be written.
func (l *Log) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// Head returns the number and the hash of the last durable record.
func (l *Log) Head() (uint64, [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing {
		l.idle.Wait()
	}
	return l.seq, l.prev
}

// Close ends the ledger with a stop record and closes the sink if it can be
// closed. Records ordered later fail with ErrClosed.
func (l *Log) Close() error {
	err := l.put(&pending{line: line{kind: KindStop}})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	l.mu.Lock()
	l.closed = true
	for l.writing {
		l.idle.Wait()
	}
	l.mu.Unlock()
	if c, ok := l.sink.(interface{ Close() error }); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}
