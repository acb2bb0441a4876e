// Command failures reads a `go test -json` stream and prints a line for each
// package as it ends, what its failed tests said, which tests were skipped and
// why; and nothing of those that passed. With -counts it also writes how many
// tests passed, failed and were skipped.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	counts := flag.String("counts", "", "file for the numbers of tests that passed, failed and were skipped")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *counts); err != nil {
		fmt.Fprintln(os.Stderr, "failures:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, counts string) error {
	t := newTally(out)
	if err := t.read(in); err != nil {
		return err
	}
	if counts == "" {
		return nil
	}
	return os.WriteFile(counts, fmt.Appendf(nil, "%d %d %d\n", t.passed, t.failed, t.skipped), 0o600)
}

// event is a line of the stream (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// A tally counts tests and keeps what each said until it is known how it ended.
type tally struct {
	out                     io.Writer
	said                    map[string]*strings.Builder
	parents                 map[string]bool // tests with subtests: those are counted, not they
	failures, tests         map[string]int  // of each package
	passed, failed, skipped int
}

func newTally(out io.Writer) *tally {
	return &tally{
		out: out, said: map[string]*strings.Builder{}, parents: map[string]bool{},
		failures: map[string]int{}, tests: map[string]int{},
	}
}

func (t *tally) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			t.take(e)
		} else {
			_, _ = t.out.Write(line) // not from go test: somebody should see it
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(e event) {
	name := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(name, '/'); strings.Contains(e.Test, "/") {
			t.parents[name[:i]] = true
		}
	case "output", "build-output":
		if t.said[name] == nil {
			t.said[name] = &strings.Builder{}
		}
		_, _ = t.said[name].WriteString(e.Output)
	case "pass", "fail", "skip", "build-fail":
		if e.Test != "" {
			t.test(e, name)
		} else {
			t.pkg(e, name)
		}
		delete(t.said, name)
	}
}

// test counts a test that ended. Of a test with subtests only a failure of its
// own counts: theirs are counted already.
func (t *tally) test(e event, name string) {
	switch {
	case e.Action == "fail":
		t.show("FAIL", name)
		if t.parents[name] && t.failures[name] > 0 {
			t.blame(e, 0)
			return
		}
		t.failed++
		t.blame(e, 1)
	case e.Action == "skip":
		t.skipped++
		t.show("skip", name)
	case !t.parents[name]:
		t.passed++
		t.tests[e.Package]++
	}
}

// blame notes a failure with the package and every test around the one that
// failed.
func (t *tally) blame(e event, n int) {
	t.failures[e.Package] += n
	for test := e.Test; strings.Contains(test, "/"); {
		test = test[:strings.LastIndexByte(test, '/')]
		t.failures[e.Package+" "+test]++
	}
}

// pkg prints a package that ended. One that fails without a failed test did
// not build, panicked or ran out of time: that is one failure.
func (t *tally) pkg(e event, name string) {
	switch {
	case e.Action == "build-fail":
		t.show("FAIL", name)
		return
	case e.Action == "skip":
		return // no test files
	case e.Action == "fail" && t.failures[e.Package] == 0:
		t.failed++
		t.show("FAIL", name)
	}
	fmt.Fprintf(t.out, "%-4s %6.1f s %4d passed  %s\n", e.Action, e.Elapsed, t.tests[e.Package], e.Package)
}

func (t *tally) show(how, name string) {
	fmt.Fprintf(t.out, "---- %s %s\n", how, name)
	if b := t.said[name]; b != nil {
		_, _ = io.WriteString(t.out, b.String())
	}
}
