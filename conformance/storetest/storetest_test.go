package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/keyring"
)

// A kept is a record in memory.
type kept struct {
	entry keyring.Entry
	rev   keyring.Revision
}

// A memory is an honest store, or one with a planted fault.
type memory struct {
	fault string

	mu       sync.Mutex
	records  map[string]kept
	durable  map[string]kept
	watchers []chan string
	saves    int
}

func newMemory(fault string) *memory {
	return &memory{fault: fault, records: map[string]kept{}, durable: map[string]kept{}}
}

// deep copies what a record shares.
func deep(e keyring.Entry) keyring.Entry {
	e.Versions = slices.Clone(e.Versions)
	for i := range e.Versions {
		e.Versions[i].Public = bytes.Clone(e.Versions[i].Public)
	}
	return e
}

func (m *memory) Load(_ context.Context, name string) (keyring.Entry, keyring.Revision, error) {
	if err := keyring.CheckName(name); err != nil && m.fault != "loads any name" {
		return keyring.Entry{}, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.records[name]
	switch {
	case !ok && m.fault == "absent is an error":
		return keyring.Entry{}, 0, fmt.Errorf("%q not found", name)
	case !ok && m.fault == "absent has a name":
		return keyring.Entry{Name: name}, 0, nil
	case m.fault == "torn reads" && k.rev > 3:
		k.entry.Backend = "torn"
	case m.fault == "old reads" && k.rev > 3 && m.saves%2 == 0:
		k.rev--
	case m.fault == "lends its memory":
		return k.entry, k.rev, nil
	}
	return deep(k.entry), k.rev, nil
}

func (m *memory) List(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.records))
	if m.fault == "unsorted" {
		slices.Reverse(names)
	}
	if m.fault == "lists less" && len(names) > 0 {
		return names[:len(names)-1], nil
	}
	return names, nil
}

func (m *memory) Save(_ context.Context, name string, e keyring.Entry, prev keyring.Revision) (keyring.Revision, error) {
	if err := keyring.CheckName(name); err != nil && m.fault != "saves any name" {
		return 0, err
	}
	m.mu.Lock()
	have := m.records[name].rev
	if m.fault == "looks before it locks" {
		m.mu.Unlock()
		time.Sleep(time.Second) // of the bubble's time: all the others look, too
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	if have != prev && !m.takesStale(have, prev) {
		if m.fault == "vague conflict" {
			return 0, fmt.Errorf("revision %d", have)
		}
		return 0, fmt.Errorf("revision %d: %w", have, keyring.ErrConflict)
	}
	return m.put(name, e, prev), nil
}

func (m *memory) takesStale(have, prev keyring.Revision) bool {
	return m.fault == "last save wins" || m.fault == "takes newer" && prev > have || m.fault == "takes 0" && prev == 0
}

func (m *memory) put(name string, e keyring.Entry, prev keyring.Revision) keyring.Revision {
	m.saves++
	rev := prev + 1
	switch m.fault {
	case "stuck revision":
		rev = min(rev, 5)
	case "loses a date":
		e = deep(e)
		for i := range e.Versions {
			e.Versions[i].Drained = e.Versions[i].Retired
		}
	case "mixes names up":
		name = name[:1]
	}
	if m.fault != "keeps the caller's memory" {
		e = deep(e)
	}
	m.records[name] = kept{e, rev}
	if m.fault != "late to disk" || m.saves%3 != 0 {
		m.durable[name] = kept{deep(e), rev}
	}
	m.tell(name)
	return rev
}

func (m *memory) tell(name string) {
	for i, w := range m.watchers {
		if m.fault == "deaf" || m.fault == "tells one reader" && i > 0 || m.fault == "tells the first" && m.saves > 1 {
			continue
		}
		w <- name
	}
}

func (m *memory) Watch(ctx context.Context) (<-chan string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := make(chan string, 1000)
	m.watchers = append(m.watchers, w)
	if m.fault == "tells of old saves" {
		for name := range m.records {
			w <- name
		}
	}
	if m.fault != "watches for ever" {
		context.AfterFunc(ctx, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.watchers = slices.DeleteFunc(m.watchers, func(x chan string) bool { return x == w })
			close(w)
		})
	}
	return w, nil
}

func subject(m *memory) Subject {
	return Subject{Store: m, Reopen: func() (keyring.Store, error) {
		again := newMemory(m.fault)
		again.records, again.durable, again.saves = maps.Clone(m.durable), m.durable, m.saves
		m = again
		return again, nil
	}}
}

func TestAnHonestStorePasses(t *testing.T) {
	conformance.Run(t, Checks(), func(*testing.T) Subject { return subject(newMemory("")) })
}

func TestAStoreThatKeepsNothingPasses(t *testing.T) {
	conformance.Run(t, Checks(), func(*testing.T) Subject { return Subject{Store: newMemory("")} })
}

// A witness is a conformance.T that notes failure instead of failing.
type witness struct {
	*testing.T
	mu     sync.Mutex
	failed bool
}

type stop struct{}

func (w *witness) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = true
}

func (w *witness) Logf(string, ...any)   {}
func (w *witness) Errorf(string, ...any) { w.note() }
func (w *witness) Fatalf(string, ...any) { w.note(); panic(stop{}) }

// catches runs a check on time that is not real: it waits for what never comes.
func catches(t *testing.T, c conformance.Check[Subject], fault string) (caught bool) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{T: t}
		defer func() {
			if r := recover(); r != nil && r != (stop{}) {
				panic(r)
			}
			caught = w.failed
		}()
		c.Run(w, subject(newMemory(fault)))
	})
	return caught
}

func TestEachFaultIsCaughtByTheCheckForIt(t *testing.T) {
	faults := map[string]string{
		"absent is an error":        "absent-is-empty",
		"absent has a name":         "absent-is-empty",
		"loses a date":              "keeps-every-field",
		"stuck revision":            "counts-revisions",
		"last save wins":            "refuses-stale-saves",
		"takes newer":               "refuses-stale-saves",
		"takes 0":                   "refuses-stale-saves",
		"vague conflict":            "refuses-stale-saves",
		"looks before it locks":     "one-of-many-wins",
		"mixes names up":            "keeps-names-apart",
		"unsorted":                  "keeps-names-apart",
		"lists less":                "keeps-names-apart",
		"late to disk":              "survives-reopening",
		"keeps the caller's memory": "shares-no-memory",
		"lends its memory":          "shares-no-memory",
		"saves any name":            "refuses-bad-names",
		"loads any name":            "refuses-bad-names",
		"torn reads":                "reads-are-whole",
		"old reads":                 "reads-are-whole",
		"deaf":                      "watch-tells-each-name",
		"tells one reader":          "watch-tells-each-name",
		"tells of old saves":        "watch-tells-each-name",
		"tells the first":           "watch-tells-the-last",
		"watches for ever":          "watch-ends",
	}
	shown := map[string]bool{}
	for _, c := range Checks() {
		for fault, check := range faults {
			if check != c.Name {
				continue
			}
			shown[check] = true
			t.Run(fault, func(t *testing.T) {
				if !catches(t, c, fault) {
					t.Errorf("not caught by %s", check)
				}
			})
		}
		if !shown[c.Name] {
			t.Errorf("%s: no planted fault shows that it can fail", c.Name)
		}
		if c.Why == "" {
			t.Errorf("%s does not say why", c.Name)
		}
	}
	for fault, check := range faults {
		if !shown[check] {
			t.Errorf("%s: there is no check %q", fault, check)
		}
	}
}
