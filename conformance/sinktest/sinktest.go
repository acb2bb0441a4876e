// Package sinktest is the contract of audit.Sink as checks.
package sinktest

import (
	"bytes"
	"fmt"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/daemon/audit"
)

// A Subject is a sink and a way to look at what it keeps.
type Subject struct {
	Sink audit.Sink
	// Stored returns the lines that a reader finds after a power cut now.
	Stored func() ([][]byte, error)
	// Break makes the next Append fail, after it may have written a part;
	// nil if the sink can't be made to fail.
	Break func()
}

// Checks are the promises of a Sink.
func Checks() []conformance.Check[Subject] {
	return []conformance.Check[Subject]{
		{Name: "stores-in-order", Why: "the chain is in the order of the calls", Run: inOrder},
		{Name: "durable-on-return", Why: "a token leaves as soon as Append has returned", Run: durable},
		{Name: "keeps-bytes", Why: "a record's hash covers its very bytes", Run: keepsBytes},
		{Name: "does-not-keep-the-buffer", Why: "the log uses its buffers again", Run: noAlias},
		{Name: "fails-loudly", Why: "a record that is lost in silence lets a token leave without one", Run: failsLoudly},
		{Name: "poisoned-after-failure", Why: "a second fsync may report success for pages that are lost", Run: poisoned},
		{Name: "mended-without-loss", Why: "a ledger that was down must go on from what was acknowledged", Run: mended},
	}
}

func records(from, n int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, fmt.Appendf(nil, `{"seq":%d,"text":"é\"\\"}`, from+i))
	}
	return all
}

// holds wants the sink to keep exactly these lines.
func holds(t conformance.T, s Subject, want ...[]byte) {
	t.Helper()
	got, err := s.Stored()
	if err != nil {
		t.Fatalf("read back: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("read back %d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("record %d: got %q, want %q", i, got[i], want[i])
		}
	}
}

func mustAppend(t conformance.T, s Subject, batch [][]byte) {
	t.Helper()
	if err := s.Sink.Append(batch); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

func inOrder(t conformance.T, s Subject) {
	all := records(1, 9)
	mustAppend(t, s, all[:3])
	mustAppend(t, s, all[3:4])
	mustAppend(t, s, all[4:])
	holds(t, s, all...)
}

func durable(t conformance.T, s Subject) {
	for i := range 5 {
		all := records(1, i+1)
		mustAppend(t, s, all[i:])
		holds(t, s, all...)
	}
}

func keepsBytes(t conformance.T, s Subject) {
	all := [][]byte{[]byte(`{}`), bytes.Repeat([]byte("x"), 40_000), []byte("tab\tand é")}
	mustAppend(t, s, all)
	holds(t, s, all...)
}

func noAlias(t conformance.T, s Subject) {
	line := []byte(`{"seq":1}`)
	want := bytes.Clone(line)
	mustAppend(t, s, [][]byte{line})
	copy(line, "overwrite")
	mustAppend(t, s, records(2, 1))
	holds(t, s, want, records(2, 1)[0])
}

func failsLoudly(t conformance.T, s Subject) {
	if s.Break == nil {
		return
	}
	mustAppend(t, s, records(1, 2))
	s.Break()
	if err := s.Sink.Append(records(3, 2)); err == nil {
		t.Errorf("Append on a broken sink: got no error")
	}
}

func poisoned(t conformance.T, s Subject) {
	if s.Break == nil {
		return
	}
	s.Break()
	if s.Sink.Append(records(1, 1)) == nil {
		t.Fatalf("Append on a broken sink: got no error")
	}
	if err := s.Sink.Append(records(1, 1)); err == nil {
		t.Errorf("Append after a failed Append, without Mend: got no error")
	}
}

func mended(t conformance.T, s Subject) {
	m, ok := s.Sink.(audit.Mender)
	if !ok || s.Break == nil {
		return
	}
	mustAppend(t, s, records(1, 2))
	s.Break()
	if s.Sink.Append(records(3, 4)) == nil {
		t.Fatalf("Append on a broken sink: got no error")
	}
	if err := m.Mend(false); err != nil {
		t.Fatalf("Mend: %v", err)
	}
	mustAppend(t, s, records(3, 1))
	holds(t, s, records(1, 3)...)
}
