package host

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"
)

// What is kept of an issuer's output: a process that writes for hours must not
// fill the daemon's log or memory.
const (
	maxLine   = 512 // bytes
	maxLines  = 50  // within outputFor
	outputFor = 10 * time.Second
)

// An output writes an issuer's lines to the daemon's log, up to a rate. What
// is over is counted, not kept.
type output struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	from time.Time // when the present window began
	n    int       // lines in it
	over int       // lines dropped
	line string    // the last one

	wrote chan struct{} // closed at the first
}

func newOutput(s Spec) *output {
	return &output{log: s.Log.With(slog.String("issuer", s.Name)), now: s.Now, wrote: make(chan struct{})}
}

// source returns a writer for one of the issuer's streams.
func (o *output) source() io.Writer { return &lines{to: o} }

func (o *output) write(line []byte) {
	text := cleanTo(string(line), maxLine)
	if text == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.line == "" {
		close(o.wrote)
	}
	o.line = text
	if now := o.now(); now.Sub(o.from) >= outputFor {
		o.tellDropped()
		o.from, o.n = now, 0
	}
	if o.n >= maxLines {
		o.over++
		return
	}
	o.n++
	o.log.Info("issuer wrote", slog.String("line", text))
}

// tellDropped must be called with mu held.
func (o *output) tellDropped() {
	if o.over > 0 {
		o.log.Warn("issuer wrote too much", slog.Int("lines_dropped", o.over))
		o.over = 0
	}
}

// last is the last line, for the error of a launch that failed. What a process
// wrote before it ended may still be on its way.
func (o *output) last() string {
	select {
	case <-o.wrote:
	case <-time.After(lastWords):
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.line
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tellDropped()
}

// lines cuts what is written into lines and drops the rest of a long one.
type lines struct {
	to  *output
	buf []byte
}

// Write never fails: an issuer's output is no reason to stop.
func (l *lines) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		if room := maxLine + 1 - len(l.buf); room > 0 {
			l.buf = append(l.buf, line[:min(room, len(line))]...)
		}
		if ended {
			l.to.write(l.buf)
			l.buf = l.buf[:0]
		}
		b = rest
	}
	return n, nil
}
