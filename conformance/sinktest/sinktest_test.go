package sinktest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/signetd/signet/conformance"
)

// A memory is an honest sink, or one with a planted fault.
type memory struct {
	fault    string
	lines    [][]byte
	written  int // lines of a failed batch that a Mend must drop
	breaks   bool
	poisoned bool
}

func (m *memory) Append(batch [][]byte) error {
	if m.poisoned && m.fault != "heals itself" {
		return errors.New("poisoned")
	}
	if m.breaks {
		m.breaks, m.poisoned = false, true
		if m.fault == "swallows failure" {
			return nil
		}
		m.keep(batch[:1])
		m.written = 1
		return errors.New("broken")
	}
	if m.fault == "loses a batch" && len(m.lines) == 4 {
		return nil
	}
	m.keep(batch)
	return nil
}

func (m *memory) keep(batch [][]byte) {
	for _, line := range batch {
		switch m.fault {
		case "keeps the buffer":
			m.lines = append(m.lines, line)
		case "reverses":
			m.lines = append([][]byte{bytes.Clone(line)}, m.lines...)
		case "cuts":
			m.lines = append(m.lines, bytes.Clone(line[:min(len(line), 100)]))
		default:
			m.lines = append(m.lines, bytes.Clone(line))
		}
	}
}

func (m *memory) Mend(bool) error {
	m.poisoned = false
	if m.fault != "keeps what was not acknowledged" {
		m.lines = m.lines[:len(m.lines)-m.written]
	}
	m.written = 0
	return nil
}

func (m *memory) stored() ([][]byte, error) {
	if m.fault == "late" && len(m.lines) > 0 {
		return m.lines[:len(m.lines)-1], nil
	}
	return m.lines, nil
}

func subject(m *memory) Subject {
	return Subject{Sink: m, Stored: m.stored, Break: func() { m.breaks = true }}
}

func TestAnHonestSinkPasses(t *testing.T) {
	conformance.Run(t, Checks(), func(*testing.T) Subject { return subject(&memory{}) })
}

// A witness is a conformance.T that notes failure instead of failing.
type witness struct{ failed bool }

type stop struct{}

func (w *witness) Helper()                  {}
func (w *witness) Context() context.Context { return context.Background() }
func (w *witness) Logf(string, ...any)      {}
func (w *witness) Errorf(string, ...any)    { w.failed = true }
func (w *witness) Fatalf(string, ...any)    { w.failed = true; panic(stop{}) }

func catches(c conformance.Check[Subject], s Subject) (caught bool) {
	w := &witness{}
	defer func() {
		if r := recover(); r != nil && r != (stop{}) {
			panic(r)
		}
		caught = w.failed
	}()
	c.Run(w, s)
	return w.failed
}

func TestEachFaultIsCaughtByTheCheckForIt(t *testing.T) {
	faults := map[string]string{
		"reverses":                        "stores-in-order",
		"late":                            "durable-on-return",
		"loses a batch":                   "stores-in-order",
		"cuts":                            "keeps-bytes",
		"keeps the buffer":                "does-not-keep-the-buffer",
		"swallows failure":                "fails-loudly",
		"heals itself":                    "poisoned-after-failure",
		"keeps what was not acknowledged": "mended-without-loss",
	}
	caught := map[string]bool{}
	for fault, check := range faults {
		for _, c := range Checks() {
			if c.Name == check {
				caught[check] = true
				if !catches(c, subject(&memory{fault: fault})) {
					t.Errorf("%s: not caught by %s", fault, check)
				}
			}
		}
	}
	for _, c := range Checks() {
		if !caught[c.Name] {
			t.Errorf("%s: no planted fault shows that it can fail", c.Name)
		}
	}
}
