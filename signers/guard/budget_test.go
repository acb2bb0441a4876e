package guard_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/guard"
)

func openBudget(t *testing.T, path string, most int) *guard.Budget {
	t.Helper()
	b, err := guard.OpenBudget(path, most, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestACrashLoopMakesNoMoreKeysThanTheBudget: each round is a daemon that
// starts, asks for keys, the check's among them, and is gone.
func TestACrashLoopMakesNoMoreKeysThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hsm")
		made := 0
		round := func() error {
			m := &moody{Backend: memory(t)}
			b := openGuard(t, m, guard.Config{Budget: openBudget(t, path, 5)})
			defer b.Close()
			b.Watch(guard.Check{Algorithm: signers.ECDSAP256, Every: time.Second, Now: time.Now})
			synctest.Wait()
			_, err := b.Create(t.Context(), "pay", signers.ECDSAP256)
			ids, _ := m.List(t.Context())
			made += len(ids)
			return err
		}
		for range 20 {
			err := round()
			if err != nil && !errors.Is(err, signers.ErrBudget) {
				t.Fatalf("Create: got %v, want ErrBudget", err)
			}
		}
		if made != 5 {
			t.Errorf("20 starts made %d keys, want the budget of 5", made)
		}
		if err := round(); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("past the budget: got %v, want a hint", err)
		}
		time.Sleep(time.Hour)
		if err := round(); err != nil {
			t.Errorf("an hour later: %v", err)
		}
	})
}

func TestABudgetThatCanNotBeKeptMakesNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "hsm")
	m := &moody{Backend: memory(t)}
	b := openGuard(t, m, guard.Config{Budget: openBudget(t, path, 5)}) // there is no such directory
	defer b.Close()
	if _, err := b.Create(t.Context(), "pay", signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("Create: got %v, want ErrUnavailable", err)
	}
	if ids, _ := m.List(t.Context()); len(ids) != 0 {
		t.Errorf("keys were made: %q", ids)
	}
	path = filepath.Join(t.TempDir(), "hsm")
	for _, text := range []string{"2026-02-03T04:05:06Z\n2026", "\n", "\x00\x00\x00"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := guard.OpenBudget(path, 5, time.Now); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("a file with %q: got %v, want an error with a hint", text, err)
		}
	}
}

// TestAClockThatWentBackHoldsTheBudgetForAnHourAtMost, and gives none back.
func TestAClockThatWentBackHoldsTheBudgetForAnHourAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hsm")
		ahead := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339Nano)
		if err := os.WriteFile(path, []byte(ahead+"\n"+ahead+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := openBudget(t, path, 5)
		if n := b.Left(); n != 3 {
			t.Errorf("%d left, want 3", n)
		}
		time.Sleep(time.Hour + time.Second)
		if n := b.Left(); n != 5 {
			t.Errorf("an hour later %d left, want 5", n)
		}
	})
}
