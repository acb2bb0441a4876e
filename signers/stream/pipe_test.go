package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An item and its outcome, as small as they can be.
type item struct {
	id   uint64
	text string
}

func (i item) GetId() uint64 { return i.id }

// A far is the other end of a pipe's streams.
type far struct {
	mu      sync.Mutex
	opened  int
	batches int
	in      chan []item // what the client sent
	out     chan []item // what the far end answers
	broken  chan struct{}
}

func newFar() *far {
	return &far{in: make(chan []item, 100), out: make(chan []item, 100), broken: make(chan struct{})}
}

func (f *far) open(ctx context.Context) (Stream[item, item], error) {
	f.mu.Lock()
	f.opened++
	broken := f.broken
	f.mu.Unlock()
	return Stream[item, item]{
		Send: func(batch []item) error {
			f.mu.Lock()
			f.batches++
			f.mu.Unlock()
			f.in <- slices.Clone(batch)
			return nil
		},
		Recv: func() ([]item, error) {
			select {
			case batch := <-f.out:
				return batch, nil
			case <-broken:
				return nil, io.EOF
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}, nil
}

// snap ends the stream in use; the next one works.
func (f *far) snap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.broken)
	f.broken = make(chan struct{})
}

// echo answers in reverse order, with answers that nobody asked for between.
func (f *far) echo(ctx context.Context) {
	for {
		select {
		case batch := <-f.in:
			slices.Reverse(batch)
			f.out <- append([]item{{id: 1 << 60}}, batch...)
		case <-ctx.Done():
			return
		}
	}
}

func ask(ctx context.Context, p *Pipe[item, item], text string) (item, error) {
	return p.Call(ctx, func(id uint64) item { return item{id, text} })
}

func TestManyCallersEachGetTheirOwnAnswer(t *testing.T) {
	f := newFar()
	p := NewPipe(f.open)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go f.echo(ctx)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 20 {
				text := string(rune('A' + i))
				if got, err := ask(ctx, p, text); err != nil || got.text != text {
					t.Errorf("got %q, %v; want %q", got.text, err, text)
				}
			}
		})
	}
	wg.Wait()
	if f.opened != 1 || f.batches >= 64*20 {
		t.Errorf("%d streams and %d messages for %d calls: nothing was shared", f.opened, f.batches, 64*20)
	}
}

func TestACallerMayGoAway(t *testing.T) {
	f := newFar()
	p := NewPipe(f.open)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := ask(ctx, p, "x")
		done <- err
	}()
	late := <-f.in
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	f.out <- late // the answer comes when nobody waits for it
	go func() { f.out <- <-f.in }()
	if got, err := ask(t.Context(), p, "y"); err != nil || got.text != "y" {
		t.Errorf("the next call: got %q, %v", got.text, err)
	}
}

func TestAStreamThatEndsFailsItsCallsAndNoOthers(t *testing.T) {
	f := newFar()
	p := NewPipe(f.open)
	defer p.Close()
	done := make(chan error)
	for range 3 {
		go func() {
			_, err := ask(t.Context(), p, "x")
			done <- err
		}()
	}
	for n := 0; n < 3; {
		n += len(<-f.in)
	}
	f.snap()
	for range 3 {
		if err := <-done; status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
	}
	go func() { f.out <- <-f.in }()
	if _, err := ask(t.Context(), p, "y"); err != nil || f.opened != 2 {
		t.Errorf("the next call: got %v over %d streams, want a second stream", err, f.opened)
	}
}

func TestAStreamThatDoesNotOpenFailsTheCall(t *testing.T) {
	cause := errors.New("no daemon")
	p := NewPipe(func(context.Context) (Stream[item, item], error) { return Stream[item, item]{}, cause })
	defer p.Close()
	if _, err := ask(t.Context(), p, "x"); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestAClosedPipeTakesNothing(t *testing.T) {
	f := newFar()
	p := NewPipe(f.open)
	p.Close()
	if _, err := ask(t.Context(), p, "x"); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
}
