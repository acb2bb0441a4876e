package report

import (
	"bytes"
	"context"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
)

// planted are checks that end in every way there is.
func planted() []conformance.Check[int] {
	check := func(name string, run func(conformance.T, int)) conformance.Check[int] {
		return conformance.Check[int]{Name: name, Level: 2, Why: "it matters", Run: run}
	}
	return []conformance.Check[int]{
		check("passes", func(t conformance.T, n int) { t.Logf("subject %d", n) }),
		check("fails", func(t conformance.T, _ int) { t.Errorf("first"); t.Fatalf("second"); t.Errorf("never") }),
		check("skips", func(t conformance.T, _ int) { conformance.Skip(t, "not here"); t.Errorf("never") }),
		check("panics", func(conformance.T, int) { panic("oops") }),
		check("hangs", func(conformance.T, int) { select {} }),
		check("waits", func(t conformance.T, _ int) { <-t.Context().Done(); t.Errorf("its context ended") }),
	}
}

func run(ctx context.Context, checks []conformance.Check[int]) Report {
	return Run(ctx, Options{Suite: "suite", Subject: "subject", Timeout: 50 * time.Millisecond, Now: time.Now}, checks,
		func(conformance.T) int { return 7 })
}

func TestEveryEndOfACheckIsReported(t *testing.T) {
	r := run(t.Context(), planted())
	for i, want := range []struct{ outcome, said string }{
		{Passed, "subject 7"}, {Failed, "first\nsecond"}, {Skipped, "not here"}, {Failed, "it panicked: oops"},
		{Failed, "it did not end within 50ms"}, {Failed, "end"},
	} {
		got := r.Results[i]
		if got.Outcome != want.outcome || !strings.Contains(strings.Join(got.Said, "\n"), want.said) {
			t.Errorf("%s: got %s, %q; want %s, %q", got.Name, got.Outcome, got.Said, want.outcome, want.said)
		}
	}
}

func TestAnInterruptSkipsTheRest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	checks := append([]conformance.Check[int]{{Name: "interrupts", Run: func(conformance.T, int) { cancel() }}}, planted()...)
	if r := run(ctx, checks); r.Count(Passed) != 1 || r.Count(Skipped) != len(checks)-1 {
		t.Errorf("got %d passed, %d skipped, want 1 and the rest", r.Count(Passed), r.Count(Skipped))
	}
}

func TestTheTableAndJUnitSayTheSame(t *testing.T) {
	r := run(t.Context(), planted())
	var table, junit bytes.Buffer
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	if err := r.JUnit(&junit); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "1 passed, 4 failed, 1 skipped") || !strings.Contains(table.String(), "why this is promised: it matters") {
		t.Errorf("the table lacks its end:\n%s", &table)
	}
	var s junitSuite
	if err := xml.Unmarshal(junit.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Tests != 6 || s.Failures != 4 || s.Skipped != 1 || s.Cases[1].Failure == nil || s.Cases[1].Class != "suite.L2" {
		t.Errorf("JUnit: got %+v", s)
	}
}
