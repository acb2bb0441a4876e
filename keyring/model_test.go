package keyring

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A model does whatever comes to mind to two keys, and remembers what states
// their versions were in.
type model struct {
	*world
	seen map[string][]Version
}

var modelNames = []string{"pay", "rent"}

// expected is what an operation that was not cut may say: nothing, or that it
// is not the time for it.
var expected = []error{ErrUnknownKey, ErrUnknownVersion, ErrUnknownKid, ErrExists, ErrIllegalMove, ErrTooEarly, ErrQuarantined, errCut}

func (m *model) tolerate(t *rapid.T, what string, err error) {
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		t.Fatalf("%s: got %v", what, err)
	}
}

// on draws an operation on a name and a number, and does it; the power may be
// cut meanwhile.
func (m *model) on(do func(name string, number int) error) func(*rapid.T) {
	return func(t *rapid.T) {
		name := rapid.SampledFrom(modelNames).Draw(t, "name")
		number := rapid.IntRange(1, max(1, len(m.states(name)))).Draw(t, "number")
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			m.token.power.arm(rapid.IntRange(1, 4).Draw(t, "at"), rapid.Bool().Draw(t, "late"), rapid.Bool().Draw(t, "flicks"))
		}
		m.tolerate(t, fmt.Sprint(name, " ", number), do(name, number))
		dead := m.token.power.off
		m.token.power.on()
		if dead {
			m.restart()
		}
	}
}

func (m *model) kid(name string, number int) string {
	v, err := m.version(name, number)
	if err != nil || v.Kid == "" {
		return string(v.ID)
	}
	return v.Kid
}

func (m *model) operations() map[string]func(*rapid.T) {
	ctx := m.Context()
	return map[string]func(*rapid.T){
		"create": m.on(func(name string, _ int) error { return second(m.Create(ctx, name, spec)) }),
		"rotate": m.on(func(name string, _ int) error { return second(m.Rotate(ctx, name)) }),
		"activate": m.on(func(name string, n int) error {
			return second(m.Activate(ctx, name, n, Activation{Keep: keep}))
		}),
		"activate early": m.on(func(name string, n int) error {
			return second(m.Activate(ctx, name, n, Activation{Early: true, Keep: keep}))
		}),
		"retire":  m.on(func(name string, n int) error { return second(m.Retire(ctx, name, n, keep)) }),
		"revoke":  m.on(func(name string, n int) error { return second(m.Revoke(ctx, name, n)) }),
		"destroy": m.on(func(name string, n int) error { return second(m.Destroy(ctx, name, n, m.kid(name, n))) }),
		"lie": m.on(func(name string, _ int) error {
			m.token.set(func(b *token) { b.lies = true })
			defer m.token.set(func(b *token) { b.lies = false })
			if k, err := m.Current(name); err == nil {
				sig, err := k.Sign(ctx, []byte("pay"))
				if err == nil {
					return fmt.Errorf("got the signature %x, which is wrong", sig)
				}
			}
			return nil
		}),
		"wait": func(t *rapid.T) {
			m.clock.turn(rapid.SampledFrom([]time.Duration{time.Second, drain, leadTime, keep}).Draw(t, "time"))
		},
		"restart": func(*rapid.T) { m.restart() },
		"":        m.check,
	}
}

// check is run after each operation.
func (m *model) check(t *rapid.T) {
	m.sound()
	for _, e := range m.List() {
		if err := e.Check(); err != nil {
			t.Fatalf("record: %v", err)
		}
		m.compare(t, e)
		shown, err := m.Verifiers(e.Name)
		if err != nil {
			t.Fatalf("Verifiers: %v", err)
		}
		k, err := m.Current(e.Name)
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(shown, func(v PublicVersion) bool { return v.Kid == k.Kid() }) {
			t.Fatalf("version %d of %q signs, and verifiers are not shown it", k.Version(), e.Name)
		}
		if k.status.stopped.Load() { // a revocation that could not be saved
			_, err := k.Sign(m.Context(), []byte("pay"))
			is(m.T, err, ErrRevoked)
			continue
		}
		signs(m.T, k)
	}
	if m.Failed() {
		t.Fatalf("see above")
	}
}

// compare holds a record against what it was: states move along the table, and
// what a version is never changes.
func (m *model) compare(t *rapid.T, e Entry) {
	before := m.seen[e.Name]
	if len(e.Versions) < len(before) {
		t.Fatalf("%q had %d versions and has %d", e.Name, len(before), len(e.Versions))
	}
	for i, old := range before {
		now := e.Versions[i]
		if !reaches(old.State, now.State) {
			t.Fatalf("%q version %d went from %s to %s", e.Name, old.Number, old.State, now.State)
		}
		if now.ID != old.ID || old.Kid != "" && now.Kid != old.Kid || old.Quarantined != "" && now.Quarantined == "" {
			t.Fatalf("%q version %d was %v and is %v", e.Name, old.Number, old, now)
		}
	}
	m.seen[e.Name] = e.Versions
}

// reaches says whether legal moves lead from one state to another: one
// operation may make two.
func reaches(from, to State) bool {
	return from == to || slices.ContainsFunc(moves[from], func(next State) bool { return reaches(next, to) })
}

// TestWhateverIsDoneTheInvariantsHold tries random operations, cut at random
// moments.
func TestWhateverIsDoneTheInvariantsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{world: newWorld(t), seen: map[string][]Version{}}
		rt.Repeat(m.operations())
		m.Close()
	})
}
