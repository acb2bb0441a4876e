// Package storetest is the contract of keyring.Store as checks.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/signers"
)

// A Subject is an empty store.
type Subject struct {
	Store keyring.Store
	// Reopen ends the store as a crash would, and opens it again; nil if it
	// keeps nothing.
	Reopen func() (keyring.Store, error)
}

// Checks are the promises of a Store.
func Checks() []conformance.Check[Subject] {
	return []conformance.Check[Subject]{
		{Name: "absent-is-empty", Why: "the ring tells a new key by revision 0, and a store that fails for one can't make any", Run: absentIsEmpty},
		{Name: "keeps-every-field", Why: "a date or state that is lost lets a key sign too early or be trusted too long", Run: keepsEveryField},
		{Name: "counts-revisions", Why: "a revision that comes twice would let an old record replace a newer one", Run: countsRevisions},
		{Name: "refuses-stale-saves", Why: "a save over another machine's would undo its revocation", Run: refusesStaleSaves},
		{Name: "one-of-many-wins", Why: "two machines that rotate at once must not both think that they did", Run: oneOfManyWins},
		{Name: "keeps-names-apart", Why: "a rotation of one key must not touch another", Run: keepsNamesApart},
		{Name: "survives-reopening", Why: "when Save has returned, a back-end is asked to make or destroy keys", Run: survivesReopening},
		{Name: "shares-no-memory", Why: "the ring hands out records and goes on changing its own", Run: sharesNoMemory},
		{Name: "refuses-bad-names", Why: "a name becomes part of a path or a key in a shared store", Run: refusesBadNames},
		{Name: "reads-are-whole", Why: "half of a record could show two versions that sign, or none", Run: readsAreWhole},
		{Name: "watch-tells-each-name", Why: "a machine that is not told goes on signing with a key that was revoked elsewhere", Run: watchTellsEachName},
		{Name: "watch-tells-the-last", Why: "a slow reader must not end up with a record that is not the newest", Run: watchTellsTheLast},
		{Name: "watch-ends", Why: "a watch that stays open keeps a stopped daemon alive", Run: watchEnds},
	}
}

// patience is how long a check waits for what must come.
const patience = 10 * time.Second

// entry is a record with every field in use.
func entry(name string) keyring.Entry {
	at := func(minute int) time.Time { return time.Date(2026, 2, 3, 4, minute, 5, 0, time.UTC) }
	id := func(n int) signers.KeyID { return signers.KeyID(fmt.Sprintf("%s-v%d-0badcafe", name, n)) }
	return keyring.Entry{
		Name: name, Backend: "hsm", Algorithm: signers.ECDSAP256, Format: "jwt",
		Versions: []keyring.Version{
			{Number: 1, ID: id(1), State: keyring.Destroyed, Kid: "one", Public: []byte{1, 2, 0, 255}, Created: at(1), Published: at(2), Activated: at(3), Retired: at(4), Drained: at(5), Unpublish: at(6), Destroyed: at(7)},
			{Number: 2, ID: id(2), State: keyring.Revoked, Kid: "two", Public: []byte{2}, Created: at(8), Revoked: at(9), Quarantined: "it said <&> \"é\"\n"},
			{Number: 3, ID: id(3), State: keyring.Creating, Created: at(10)},
		},
	}
}

// text is a record as text, to compare by.
func text(e keyring.Entry) string {
	data, err := json.Marshal(e)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func mustSave(t conformance.T, s keyring.Store, e keyring.Entry, prev keyring.Revision) keyring.Revision {
	t.Helper()
	rev, err := s.Save(t.Context(), e.Name, e, prev)
	if err != nil {
		t.Fatalf("Save(%q, revision %d): %v", e.Name, prev, err)
	}
	return rev
}

func mustLoad(t conformance.T, s keyring.Store, name string) (keyring.Entry, keyring.Revision) {
	t.Helper()
	e, rev, err := s.Load(t.Context(), name)
	if err != nil {
		t.Fatalf("Load(%q): %v", name, err)
	}
	return e, rev
}

// holds wants the store to have exactly this record.
func holds(t conformance.T, s keyring.Store, want keyring.Entry, at keyring.Revision) {
	t.Helper()
	got, rev := mustLoad(t, s, want.Name)
	if rev != at {
		t.Errorf("Load(%q): got revision %d, want %d", want.Name, rev, at)
	}
	if text(got) != text(want) {
		t.Errorf("Load(%q):\ngot  %s\nwant %s", want.Name, text(got), text(want))
	}
}

func lists(t conformance.T, s keyring.Store, want ...string) {
	t.Helper()
	got, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("List: got %q, want %q", got, want)
	}
}

func absentIsEmpty(t conformance.T, s Subject) {
	lists(t, s.Store)
	e, rev := mustLoad(t, s.Store, "pay")
	if rev != 0 || text(e) != text(keyring.Entry{}) {
		t.Errorf("Load of a name without a record: got %s at revision %d, want nothing at 0", text(e), rev)
	}
	lists(t, s.Store) // a Load makes nothing
}

func keepsEveryField(t conformance.T, s Subject) {
	want := entry("pay")
	holds(t, s.Store, want, mustSave(t, s.Store, want, 0))
	bare := keyring.Entry{Name: "bare", Backend: "b", Algorithm: signers.Ed25519, Format: "jwt"}
	mustSave(t, s.Store, bare, 0)
	got, _ := mustLoad(t, s.Store, "bare")
	if len(got.Versions) != 0 || got.Spec() != bare.Spec() {
		t.Errorf("Load of a record without versions: got %s, want %s", text(got), text(bare))
	}
}

func countsRevisions(t conformance.T, s Subject) {
	e, rev := entry("pay"), keyring.Revision(0)
	for want := keyring.Revision(1); want <= 12; want++ {
		if rev = mustSave(t, s.Store, e, rev); rev != want {
			t.Fatalf("save %d: got revision %d", want, rev)
		}
	}
	holds(t, s.Store, e, 12)
}

func refusesStaleSaves(t conformance.T, s Subject) {
	want, other := entry("pay"), entry("pay")
	other.Format = "ssh"
	refused := func(prev keyring.Revision) {
		t.Helper()
		if _, err := s.Store.Save(t.Context(), "pay", other, prev); !errors.Is(err, keyring.ErrConflict) {
			t.Errorf("Save over revision %d: got %v, want ErrConflict", prev, err)
		}
	}
	refused(1) // there is none yet
	mustSave(t, s.Store, want, 0)
	mustSave(t, s.Store, want, 1)
	for _, prev := range []keyring.Revision{0, 1, 3, 1 << 40} {
		refused(prev)
	}
	holds(t, s.Store, want, 2)
}

func oneOfManyWins(t conformance.T, s Subject) {
	mustSave(t, s.Store, entry("pay"), 0)
	for round := keyring.Revision(1); round <= 5; round++ {
		winners := race(t, s.Store, round)
		if len(winners) != 1 {
			t.Fatalf("8 saves over revision %d: %d succeeded, want 1", round, len(winners))
		}
		holds(t, s.Store, winners[0], round+1)
	}
}

// race saves eight records over the same revision at once, and returns those
// that were saved.
func race(t conformance.T, s keyring.Store, prev keyring.Revision) []keyring.Entry {
	t.Helper()
	var mu sync.Mutex
	var winners []keyring.Entry
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			e := entry("pay")
			e.Backend = fmt.Sprintf("racer-%d", i)
			_, err := s.Save(t.Context(), "pay", e, prev)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				winners = append(winners, e)
			} else if !errors.Is(err, keyring.ErrConflict) {
				t.Errorf("Save that lost: got %v, want ErrConflict", err)
			}
		})
	}
	all.Wait()
	return winners
}

func keepsNamesApart(t conformance.T, s Subject) {
	names := []string{"a", "a-", "a-b", "a0", "b", strings.Repeat("long-", 8), "lock", "keys"}
	for _, name := range names {
		mustSave(t, s.Store, entry(name), 0)
	}
	changed := entry("a-b")
	changed.Versions = changed.Versions[:1]
	mustSave(t, s.Store, changed, 1)
	for _, name := range names {
		if name != "a-b" {
			holds(t, s.Store, entry(name), 1)
		}
	}
	holds(t, s.Store, changed, 2)
	slices.Sort(names)
	lists(t, s.Store, names...)
}

func survivesReopening(t conformance.T, s Subject) {
	if s.Reopen == nil {
		return
	}
	store := s.Store
	for prev := keyring.Revision(0); prev < 4; prev++ {
		e := entry("pay")
		e.Format = fmt.Sprintf("format-%d", prev)
		mustSave(t, store, e, prev)
		again, err := s.Reopen()
		if err != nil {
			t.Fatalf("reopen: %v", err)
		}
		store = again
		holds(t, store, e, prev+1)
	}
	lists(t, store, "pay")
}

func sharesNoMemory(t conformance.T, s Subject) {
	want, given := entry("pay"), entry("pay")
	mustSave(t, s.Store, given, 0)
	spoil(given)
	holds(t, s.Store, want, 1)
	got, _ := mustLoad(t, s.Store, "pay")
	spoil(got)
	holds(t, s.Store, want, 1)
}

func spoil(e keyring.Entry) {
	for i := range e.Versions {
		e.Versions[i].State = "spoilt"
		if len(e.Versions[i].Public) > 0 {
			e.Versions[i].Public[0] = 99
		}
	}
}

func refusesBadNames(t conformance.T, s Subject) {
	for _, name := range []string{"", "A", "0a", "-a", "a_b", "a.b", "a/b", "../a", "a/../b", "a\x00", "a b", "é", ".", "*", strings.Repeat("a", 41)} {
		if _, err := s.Store.Save(t.Context(), name, entry(name), 0); err == nil {
			t.Errorf("Save(%q): got no error", name)
		}
		if _, _, err := s.Store.Load(t.Context(), name); err == nil {
			t.Errorf("Load(%q): got no error", name)
		}
	}
	lists(t, s.Store)
}

// readsAreWhole reads while another saves records whose parts belong together.
func readsAreWhole(t conformance.T, s Subject) {
	marked := func(rev keyring.Revision) keyring.Entry {
		e := entry("pay")
		e.Backend = fmt.Sprint(rev)
		e.Versions[2].Quarantined = e.Backend
		return e
	}
	mustSave(t, s.Store, marked(1), 0)
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		for prev := keyring.Revision(1); prev < 40; prev++ {
			if _, err := s.Store.Save(t.Context(), "pay", marked(prev+1), prev); err != nil {
				t.Errorf("Save over revision %d: %v", prev, err)
				return
			}
		}
	}()
	defer func() { <-saved }()
	seen := keyring.Revision(0)
	for done := false; !done; {
		select {
		case <-saved:
			done = true // and read once more
		default:
		}
		e, rev := mustLoad(t, s.Store, "pay")
		if rev < seen || text(e) != text(marked(rev)) {
			t.Fatalf("Load while another saves: got revision %d after %d, and %s", rev, seen, text(e))
		}
		seen = rev
	}
}

// told waits until the watch names something.
func told(t conformance.T, changed <-chan string, what string) string {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case name, open := <-changed:
		if !open {
			t.Fatalf("%s: the watch has ended", what)
		}
		return name
	case <-late.C:
		t.Fatalf("%s: not told for %v", what, patience)
	}
	return ""
}

func mustWatch(t conformance.T, s keyring.Store) (<-chan string, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := s.Watch(ctx)
	if err != nil {
		cancel()
		t.Fatalf("Watch: %v", err)
	}
	return changed, cancel
}

func watchTellsEachName(t conformance.T, s Subject) {
	mustSave(t, s.Store, entry("before"), 0)
	first, cancel := mustWatch(t, s.Store)
	defer cancel()
	second, cancel := mustWatch(t, s.Store)
	defer cancel()
	for _, name := range []string{"a", "b", "c"} {
		mustSave(t, s.Store, entry(name), 0)
	}
	for _, changed := range []<-chan string{first, second} {
		seen := map[string]bool{}
		for !seen["a"] || !seen["b"] || !seen["c"] {
			name := told(t, changed, "three names were saved")
			if name == "before" {
				t.Errorf("told of a save from before the watch")
			}
			seen[name] = true
		}
	}
}

func watchTellsTheLast(t conformance.T, s Subject) {
	changed, cancel := mustWatch(t, s.Store)
	defer cancel()
	rev := keyring.Revision(0)
	for round := range 6 {
		for range 10 * round {
			rev = mustSave(t, s.Store, entry("pay"), rev) // nobody reads meanwhile
		}
		rev = mustSave(t, s.Store, entry("pay"), rev)
		told(t, changed, fmt.Sprintf("revision %d was saved", rev))
		// What is read now is at least as new as what was told of; what is
		// saved after it must be told again, in the next round.
		holds(t, s.Store, entry("pay"), rev)
		drain(changed)
	}
}

// drain takes what is waiting already.
func drain(changed <-chan string) {
	for {
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
			return
		}
	}
}

func watchEnds(t conformance.T, s Subject) {
	changed, cancel := mustWatch(t, s.Store)
	mustSave(t, s.Store, entry("pay"), 0)
	cancel()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case _, open := <-changed:
			if !open {
				mustSave(t, s.Store, entry("pay"), 1) // as if nobody had ever watched
				return
			}
		case <-late.C:
			t.Fatalf("the watch is still open %v after its context ended", patience)
		}
	}
}
