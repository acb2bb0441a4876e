// Package conformance runs a contract's checks against an implementation of
// it. The checks themselves live in one package for each contract (signertest,
// storetest, sinktest, issuertest), know only that contract, and are each shown
// to catch a planted fault.
package conformance

import (
	"context"
	"runtime"
	"testing"
)

// T is the part of *testing.T that a check needs, so that checks also run from
// a command pointed at a real HSM.
type T interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A Skipper is a T that can leave a check out.
type Skipper interface {
	Skipf(format string, args ...any)
}

// Skip ends a check that can't be made here, and says why.
func Skip(t T, format string, args ...any) {
	t.Helper()
	if s, ok := t.(Skipper); ok {
		s.Skipf(format, args...)
	}
	t.Logf(format, args...)
	runtime.Goexit()
}

// A Check is one promise of a contract.
type Check[S any] struct {
	Name  string // short, stable: it is the subtest's name
	Level int    // of a suite that has levels; a higher one asks for more
	Why   string // one sentence, printed when the check fails
	Run   func(t T, subject S)
}

// Run runs every check as a subtest, each against a subject of its own.
func Run[S any](t *testing.T, checks []Check[S], fresh func(*testing.T) S) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("why this is promised: %s", c.Why)
				}
			})
			c.Run(t, fresh(t))
		})
	}
}
