// Command failures prints, of a `go test -json` stream, a line for each package
// and what its failed tests said; and nothing of those that passed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of the stream (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "failures:", err)
		os.Exit(1)
	}
}

// run keeps each test's output until it is known how the test ended.
func run(in io.Reader, out io.Writer) error {
	said := map[string]*strings.Builder{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				e.take(said, out)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (e event) take(said map[string]*strings.Builder, out io.Writer) {
	name := e.Package + e.ImportPath + " " + e.Test
	if e.Test == "" && (e.Action == "pass" || e.Action == "fail") {
		fmt.Fprintf(out, "%-5s %6.1f s  %s\n", e.Action, e.Elapsed, e.Package)
	}
	switch e.Action {
	case "output", "build-output":
		if said[name] == nil {
			said[name] = &strings.Builder{}
		}
		said[name].WriteString(e.Output) //nolint:gosec // a Builder does not fail
	case "fail", "build-fail":
		if b := said[name]; b != nil {
			fmt.Fprintf(out, "\n%s\n%s", name, b)
		}
	case "pass", "skip":
		delete(said, name)
	}
}
