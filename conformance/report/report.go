// Package report runs a suite without a test binary, for `signet conform`, and
// writes what came of it: a table for people, JSON and JUnit XML for machines.
package report

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/signetd/signet/conformance"
)

// The outcomes of a check.
const (
	Passed  = "passed"
	Failed  = "failed"
	Skipped = "skipped"
)

// A Result is what came of one check.
type Result struct {
	Name    string   `json:"name"`
	Level   int      `json:"level"`
	Why     string   `json:"why"`
	Outcome string   `json:"outcome"`
	Said    []string `json:"said,omitempty"` // errors, reasons and findings, in order
	Seconds float64  `json:"seconds"`
}

// A Report is what came of a suite.
type Report struct {
	Suite   string    `json:"suite"`
	Subject string    `json:"subject"`
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	Results []Result  `json:"results"`
}

// Options say how to run a suite.
type Options struct {
	Suite, Subject string
	Timeout        time.Duration // of one check; 2 min if 0
	Now            func() time.Time
	Began          func(name string, at, of int) // told before each check; may be nil
	Ended          func(Result)                  // told after each check; may be nil
}

// Run runs checks one after the other, each against a subject of its own, until
// ctx ends. A check that hangs fails; what it holds is lost.
func Run[S any](ctx context.Context, o Options, checks []conformance.Check[S], fresh func(conformance.T) S) Report {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	r := Report{Suite: o.Suite, Subject: o.Subject, Begun: o.Now().UTC().Truncate(time.Second)}
	begun := o.Now()
	for i, c := range checks {
		if ctx.Err() != nil {
			r.Results = append(r.Results, Result{Name: c.Name, Level: c.Level, Why: c.Why, Outcome: Skipped, Said: []string{"interrupted"}})
			continue
		}
		if o.Began != nil {
			o.Began(c.Name, i+1, len(checks))
		}
		result := one(ctx, o, c, fresh)
		r.Results = append(r.Results, result)
		if o.Ended != nil {
			o.Ended(result)
		}
	}
	r.Seconds = o.Now().Sub(begun).Seconds()
	return r
}

// one runs one check in a goroutine of its own, which Fatalf and Skipf end.
func one[S any](ctx context.Context, o Options, c conformance.Check[S], fresh func(conformance.T) S) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Timeout) // an interrupt waits for the check
	defer cancel()
	t := &recorder{ctx: ctx}
	begun := o.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("it panicked: %v", p)
			}
		}()
		c.Run(t, fresh(t))
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.Errorf("it did not end within %v", o.Timeout)
	}
	return t.result(c.Name, c.Level, c.Why, o.Now().Sub(begun))
}

// A recorder is the conformance.T of one check.
type recorder struct {
	ctx     context.Context //nolint:containedctx // as testing.T has it
	mu      sync.Mutex
	failed  bool
	skipped bool
	said    []string
}

func (t *recorder) say(format string, args ...any) {
	t.said = append(t.said, fmt.Sprintf(format, args...))
}

// Helper implements conformance.T.
func (t *recorder) Helper() {}

// Context implements conformance.T.
func (t *recorder) Context() context.Context { return t.ctx }

// Logf implements conformance.T.
func (t *recorder) Logf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say(format, args...)
}

// Errorf implements conformance.T.
func (t *recorder) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = true
	t.say(format, args...)
}

// Fatalf implements conformance.T.
func (t *recorder) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// Skipf implements conformance.Skipper.
func (t *recorder) Skipf(format string, args ...any) {
	t.mu.Lock()
	t.skipped = true
	t.say(format, args...)
	t.mu.Unlock()
	runtime.Goexit()
}

func (t *recorder) result(name string, level int, why string, took time.Duration) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Result{Name: name, Level: level, Why: why, Outcome: Passed, Said: append([]string(nil), t.said...), Seconds: took.Seconds()}
	switch {
	case t.failed:
		r.Outcome = Failed
	case t.skipped:
		r.Outcome = Skipped
	}
	return r
}

// Count says how many checks had an outcome.
func (r Report) Count(outcome string) int {
	n := 0
	for _, c := range r.Results {
		if c.Outcome == outcome {
			n++
		}
	}
	return n
}

// Table writes the report for people.
func (r Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LEVEL\tCHECK\tOUTCOME\tTIME")
	for _, c := range r.Results {
		fmt.Fprintf(t, "L%d\t%s\t%s\t%.2f s\n", c.Level, c.Name, c.Outcome, c.Seconds)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range r.Results {
		if len(c.Said) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s: %s\n", c.Name, c.Outcome)
		for _, line := range c.Said {
			fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(line, "\n", "\n  "))
		}
		if c.Outcome == Failed {
			fmt.Fprintf(w, "  why this is promised: %s\n", c.Why)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s on %s: %d passed, %d failed, %d skipped in %.1f s\n",
		r.Suite, r.Subject, r.Count(Passed), r.Count(Failed), r.Count(Skipped), r.Seconds)
	return err
}

// junitSuite and junitCase are what JUnit's readers agree on.
type junitSuite struct {
	XMLName   xml.Name    `xml:"testsuite"`
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string     `xml:"name,attr"`
	Class   string     `xml:"classname,attr"`
	Time    string     `xml:"time,attr"`
	Failure *junitText `xml:"failure,omitempty"`
	Skipped *junitText `xml:"skipped,omitempty"`
	Out     string     `xml:"system-out,omitempty"`
}

type junitText struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report as JUnit XML.
func (r Report) JUnit(w io.Writer) error {
	s := junitSuite{
		Name: r.Suite + " on " + r.Subject, Tests: len(r.Results), Failures: r.Count(Failed), Skipped: r.Count(Skipped),
		Time: seconds(r.Seconds), Timestamp: r.Begun.Format(time.RFC3339),
	}
	for _, c := range r.Results {
		said := strings.Join(c.Said, "\n")
		k := junitCase{Name: c.Name, Class: fmt.Sprintf("%s.L%d", r.Suite, c.Level), Time: seconds(c.Seconds)}
		switch c.Outcome {
		case Failed:
			k.Failure = &junitText{c.Why, said}
		case Skipped:
			k.Skipped = &junitText{Message: said}
		default:
			k.Out = said
		}
		s.Cases = append(s.Cases, k)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	return e.Encode(s)
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }
