package signertest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/signers"
)

var few = []signers.Algorithm{signers.ECDSAP256, signers.Ed25519}

// subject plants a fault in a new back-end, and again each time it is reopened.
func subject(plant func(*memory) signers.Backend) Subject {
	s := &store{keys: map[signers.KeyID]*pair{}}
	reopen := func() (signers.Backend, error) { return plant(&memory{store: s}), nil }
	b, _ := reopen()
	return Subject{Backend: b, Reopen: reopen, Faults: []Fault{{"the token is away", func() func() {
		s.down.Store(true)
		return func() { s.down.Store(false) }
	}}}}
}

func honest(m *memory) signers.Backend { return m }

func TestAnHonestBackendPasses(t *testing.T) {
	algs := append([]signers.Algorithm{"rsa2048-pss-sha256", "rsa2048-pkcs1-sha256", signers.ECDSAP521}, few...)
	conformance.Run(t, Checks(algs...), func(*testing.T) Subject { return subject(honest) })
}

func TestABackendThatKeepsNothingPasses(t *testing.T) {
	conformance.Run(t, Checks(few...), func(*testing.T) Subject { return Subject{Backend: subject(honest).Backend} })
}

func TestChecksNeedAnAlgorithm(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Checks(): got a suite that checks nothing, want a panic")
		}
	}()
	Checks()
}

// TestEveryCheckLeavesNothingBehind keeps a shared token usable: a check that
// passes destroys what it made.
func TestEveryCheckLeavesNothingBehind(t *testing.T) {
	s := &store{keys: map[signers.KeyID]*pair{}}
	reopen := func() (signers.Backend, error) { return &memory{store: s}, nil }
	for _, c := range Checks(few...) {
		b, _ := reopen()
		if said := verdict(t, c, Subject{Backend: b, Reopen: reopen}); len(said) != 0 {
			t.Errorf("%s: %v", c.Name, said)
		}
		if len(s.keys) != 0 {
			t.Errorf("%s: left %d keys behind", c.Name, len(s.keys))
		}
	}
}

// TestEveryFaultIsCaught runs each planted fault against the checks that must
// catch it.
func TestEveryFaultIsCaught(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range Checks(f.algorithms()...) {
				if !slices.Contains(f.checks, c.Name) {
					continue
				}
				said := verdict(t, c, subject(f.plant))
				if len(said) == 0 {
					t.Errorf("check %q did not catch it", c.Name)
					continue
				}
				t.Logf("%s: %s", c.Name, said[0])
			}
		})
	}
}

// TestEveryCheckCatchesAFault makes sure that no check is there for show.
func TestEveryCheckCatchesAFault(t *testing.T) {
	caught := map[string]bool{}
	for _, f := range faults() {
		for _, name := range f.checks {
			caught[name] = true
		}
	}
	for _, c := range Checks(few...) {
		if !caught[c.Name] {
			t.Errorf("no planted fault shows that %q can fail", c.Name)
		}
		if c.Why == "" {
			t.Errorf("%q does not say why", c.Name)
		}
		delete(caught, c.Name)
	}
	for name := range caught {
		t.Errorf("a planted fault names check %q, which does not exist", name)
	}
}

// verdict runs one check and returns what it complained about.
func verdict(t *testing.T, c conformance.Check[Subject], s Subject) []string {
	t.Helper()
	rec := &recorder{ctx: t.Context()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(rec, s)
	}()
	<-done
	return rec.said
}

// A recorder is a conformance.T that keeps what is said.
type recorder struct {
	ctx  context.Context
	mu   sync.Mutex
	said []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Logf(string, ...any)      {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
