package tokens

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/plugins"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func grant(id string) plugins.Grant {
	return plugins.Grant{
		Profile: "pay", Type: "ref", Issuer: "https://issuer.example", TokenID: id, Subject: "alice", Audience: []string{"a", "b"}, Scope: []string{"read"},
		IssuedAt: noon, NotBefore: noon, Expires: noon.Add(time.Hour), Holder: plugins.Holder{Kind: "jkt", Value: "v"}, Claims: []byte(`{"team":"red"}`),
	}
}

// A watch is a clock that a test turns.
type watch struct{ atomic.Pointer[time.Time] }

func (w *watch) set(t time.Time) { w.Store(&t) }
func (w *watch) now() time.Time  { return *w.Load() }

func open(t *testing.T, path string) (*Store, *watch) {
	t.Helper()
	w := &watch{}
	w.set(noon)
	s, err := OpenStore(StoreOptions{Path: path, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, w
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "tokens.db") }

func opaque(t *testing.T) string {
	t.Helper()
	text, err := NewOpaque(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnOpaqueTokenIsKnownUntilItsEnd(t *testing.T) {
	path := file(t)
	before, _ := open(t, path)
	token := opaque(t)
	if err := errors.Join(before.Keep(token, grant("1")), before.Close()); err != nil {
		t.Fatal(err)
	}
	s, w := open(t, path) // after a restart
	got, err := s.Find(token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(grant("1"), got); diff != "" {
		t.Errorf("Find (-kept +found):\n%s", diff)
	}
	if _, err := s.Find(opaque(t)); !errors.Is(err, ErrUnknown) {
		t.Errorf("a token that was never kept: got %v, want ErrUnknown", err)
	}
	w.set(noon.Add(time.Hour - time.Second))
	if _, err := s.Find(token); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	w.set(noon.Add(time.Hour))
	if _, err := s.Find(token); !errors.Is(err, ErrUnknown) {
		t.Errorf("at its end: got %v, want ErrUnknown", err)
	}
}

func TestTheDiskHasNoToken(t *testing.T) {
	path := file(t)
	s, _ := open(t, path)
	token := opaque(t)
	if err := s.Keep(token, grant("1")); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(disk, []byte("alice")) {
		t.Error("the grant is not where this test looks for the token")
	}
	if bytes.Contains(disk, []byte(token[len(OpaquePrefix):])) {
		t.Error("the token is on disk: whoever copies the file has it")
	}
}

func TestManyAtOnceSpendATokenOnce(t *testing.T) {
	s, _ := open(t, file(t))
	var good atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			switch err := s.Spend(grant("1")); {
			case err == nil:
				good.Add(1)
			case !errors.Is(err, ErrSpent):
				t.Errorf("Spend: %v", err)
			}
		})
	}
	all.Wait()
	if good.Load() != 1 || s.Live() != 1 {
		t.Errorf("%d of 64 spent it and %d are remembered, want 1 and 1", good.Load(), s.Live())
	}
	other := grant("1")
	other.Profile = "pa"
	other.TokenID = "y\x001"
	if err := s.Spend(other); err != nil {
		t.Errorf("another profile's token: %v", err)
	}
	for id, want := range map[string]bool{"1": true, "2": false} {
		if used, err := s.Spent(grant(id)); err != nil || used != want {
			t.Errorf("Spent(%s): got %t, %v; want %t", id, used, err, want)
		}
	}
}

// TestAClockThatWasAheadMakesNothingUsableAgain turns the clock on by most of
// Margin, prunes, and turns it back.
func TestAClockThatWasAheadMakesNothingUsableAgain(t *testing.T) {
	s, w := open(t, file(t))
	if err := errors.Join(s.Spend(grant("1")), s.Keep(opaque(t), grant("2"))); err != nil {
		t.Fatal(err)
	}
	w.set(noon.Add(time.Hour + Margin))
	if n, err := s.Prune(); n != 0 || err != nil {
		t.Errorf("Prune: forgot %d, %v; want none before the margin is over", n, err)
	}
	w.set(noon)
	if err := s.Spend(grant("1")); !errors.Is(err, ErrSpent) {
		t.Errorf("got %v, want ErrSpent", err)
	}
	w.set(noon.Add(time.Hour + Margin + time.Second))
	if n, err := s.Prune(); n != 2 || err != nil || s.Live() != 0 {
		t.Errorf("Prune: forgot %d, %v, %d are left; want both gone", n, err, s.Live())
	}
}

func TestMoreThanOneTransactionIsPruned(t *testing.T) {
	s, w := open(t, file(t))
	var all sync.WaitGroup
	for i := range 2*pruneMost + 1 {
		all.Go(func() {
			if err := s.Spend(grant(strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.set(noon.Add(time.Hour + Margin + time.Second))
	if n, err := s.Prune(); n != 2*pruneMost+1 || err != nil {
		t.Errorf("Prune: forgot %d, %v; want %d", n, err, 2*pruneMost+1)
	}
}

func TestThereAreLimits(t *testing.T) {
	path := file(t)
	s, err := OpenStore(StoreOptions{Path: path, Now: func() time.Time { return noon }, Most: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Spend(grant("1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Spend(grant("2")); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("one too many: got %v, want ErrFull and a hint", err)
	}
	if _, err := OpenStore(StoreOptions{Path: path, Now: time.Now}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: got %v, want ErrLocked", err)
	}
	if err := errors.Join(s.Close(), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(StoreOptions{Path: path, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that others can read: got %v, want a refusal with its remedy", err)
	}
}

func TestADamagedStoreIsNotOpened(t *testing.T) {
	path := file(t)
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(StoreOptions{Path: path, Now: time.Now}); err == nil || strings.Count(err.Error(), "hint: ") != 1 || !strings.Contains(err.Error(), "backup") {
		t.Errorf("got %v, want a refusal with its one remedy", err)
	}
}

func TestWhatIsNoOpaqueTokenIsNotLookedUp(t *testing.T) {
	good := opaque(t)
	if !IsOpaque(good) {
		t.Errorf("IsOpaque(%q): got false", good)
	}
	for i := range good {
		b := []byte(good)
		b[i] ^= 1
		if IsOpaque(string(b)) {
			t.Errorf("with a flipped bit in byte %d: still a token", i)
		}
	}
	for _, bad := range []string{"", OpaquePrefix, good + "A", good[:len(good)-1], good + "\n", good[1:]} {
		if IsOpaque(bad) {
			t.Errorf("IsOpaque(%q): got true", bad)
		}
	}
	if _, err := NewOpaque(bytes.NewReader(make([]byte, opaqueBytes-1))); err == nil {
		t.Error("too little randomness: got nil, want an error")
	}
}

// spender is the child of the test below: it spends tokens and says so, until
// it is killed.
const spender = "SIGNET_TEST_SPENDER"

func TestMain(m *testing.M) {
	if path := os.Getenv(spender); path != "" {
		spend(path)
	}
	os.Exit(m.Run())
}

func spend(path string) {
	s, err := OpenStore(StoreOptions{Path: path, Now: func() time.Time { return noon }})
	for i := 0; err == nil; i++ {
		if err = s.Spend(grant(strconv.Itoa(i))); err == nil {
			fmt.Println("spent", i)
		} else if errors.Is(err, ErrSpent) {
			err = nil
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestAKillForgetsNothing kills a process that spends tokens, again and again:
// no token is spent twice, by whichever process.
func TestAKillForgetsNothing(t *testing.T) {
	path, seed := file(t), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	seen := map[string]bool{}
	for range 15 {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), spender+"="+path)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		left := 1 + random.IntN(60)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			id, ok := strings.CutPrefix(lines.Text(), "spent ")
			if !ok {
				continue
			}
			if seen[id] {
				t.Fatalf("token %s was spent twice", id)
			}
			seen[id] = true
			if left--; left == 0 {
				_ = c.Process.Kill()
			}
		}
		_ = c.Wait()
	}
	s, _ := open(t, path)
	if len(seen) < 15 {
		t.Fatalf("%d tokens in 15 lives: the children did not work", len(seen))
	}
	for id := range seen {
		if used, err := s.Spent(grant(id)); err != nil || !used {
			t.Errorf("token %s: got %t, %v; it was said to be spent", id, used, err)
		}
	}
}
