package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/storetest"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/signers"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("FILESTORE_TEST_OPEN"); dir != "" {
		_, err := Open(dir, Options{})
		if errors.Is(err, ErrLocked) {
			os.Exit(7)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func mustOpen(t *testing.T, dir string, fault func(string) error) *Store {
	t.Helper()
	s, err := Open(dir, Options{Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "keyring") }

func pay(format string) keyring.Entry {
	return keyring.Entry{
		Name: "pay", Backend: "soft", Algorithm: signers.Ed25519, Format: format,
		Versions: []keyring.Version{{
			Number: 1, ID: "pay-v1-0badcafe", State: keyring.Published, Kid: "kid", Public: []byte{1, 2, 3},
			Created: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
		}},
	}
}

func mustSave(t *testing.T, s *Store, e keyring.Entry) {
	t.Helper()
	if _, err := s.Save(t.Context(), e.Name, e, 0); err != nil {
		t.Fatal(err)
	}
}

func TestItKeepsThePromisesOfAStore(t *testing.T) {
	conformance.Run(t, storetest.Checks(), func(t *testing.T) storetest.Subject {
		dir := newDir(t)
		s := mustOpen(t, dir, nil)
		return storetest.Subject{Store: s, Reopen: func() (keyring.Store, error) {
			if err := s.Close(); err != nil {
				return nil, err
			}
			s = mustOpen(t, dir, nil)
			return s, nil
		}}
	})
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	dir := newDir(t)
	s := mustOpen(t, dir, nil)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "\nhint: ") {
		t.Errorf("a second Open: got %v, want ErrLocked with a hint", err)
	}
	if got := openElsewhere(t, dir); got != 7 {
		t.Errorf("Open in another process: it ended with %d, want 7 for ErrLocked", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := openElsewhere(t, dir); got != 0 {
		t.Errorf("Open in another process, after Close: it ended with %d, want 0", got)
	}
}

// openElsewhere opens dir in a process of its own and returns its exit code.
func openElsewhere(t *testing.T, dir string) int {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "FILESTORE_TEST_OPEN="+dir)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode()
}

func TestAClosedStoreIsClosed(t *testing.T) {
	s := mustOpen(t, newDir(t), nil)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	_, errSave := s.Save(t.Context(), "pay", pay("jwt"), 0)
	_, _, errLoad := s.Load(t.Context(), "pay")
	_, errList := s.List(t.Context())
	_, errWatch := s.Watch(t.Context())
	for i, err := range []error{errSave, errLoad, errList, errWatch} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("method %d after Close: got %v, want ErrClosed", i, err)
		}
	}
}

func TestADirectoryThatOthersMayUseIsRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(dir string) error
	}{
		{"others may read it", func(d string) error { return os.Chmod(d, 0o704) }},
		{"the group may list it", func(d string) error { return os.Chmod(d, 0o710) }},
		{"others may write the records", func(d string) error { return os.Chmod(filepath.Join(d, "keys"), 0o702) }},
		{"another user's", func(d string) error { return os.Chown(d, 4242, -1) }},
		{"another user's records", func(d string) error { return os.Chown(filepath.Join(d, "keys"), 4242, -1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := newDir(t)
			if err := mustOpen(t, dir, nil).Close(); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(dir); errors.Is(err, os.ErrPermission) {
				t.Skip("only root can give a directory away")
			} else if err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, Options{})
			if err == nil || !strings.Contains(err.Error(), "\nhint: ch") {
				t.Errorf("Open: got %v, want an error with a hint", err)
			}
			if err == nil {
				s.Close()
			}
		})
	}
}

// TestEverythingIsPrivate whatever the umask of who starts the daemon.
func TestEverythingIsPrivate(t *testing.T) {
	dir := newDir(t)
	mustSave(t, mustOpen(t, dir, nil), pay("jwt"))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// damaged loads the record after its file was changed, and wants an error that
// names the file and what to do.
func damaged(t *testing.T, s *Store, file string, data []byte, what string) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	e, rev, err := s.Load(t.Context(), "pay")
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "\nhint: restore") {
		t.Errorf("Load, %s: got %v, %d, %v, want ErrDamaged that names %s and has a hint", what, e.Name, rev, err, file)
	}
	if _, err := s.Save(t.Context(), "pay", pay("jwt"), 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("Save as if there were none, %s: got %v, want ErrDamaged", what, err)
	}
}

// TestADamagedRecordIsNeverBelieved flips every bit and cuts at every byte.
func TestADamagedRecordIsNeverBelieved(t *testing.T) {
	dir := newDir(t)
	s := mustOpen(t, dir, nil)
	mustSave(t, s, pay("jwt"))
	file := filepath.Join(dir, "keys", "pay.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := decode(bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d of byte %d flipped: got %v, want ErrDamaged", i%8, i/8, err)
		}
	}
	for i := range good {
		if _, err := decode(good[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: got %v, want ErrDamaged", i, err)
		}
	}
	damaged(t, s, file, nil, "an empty file")
	damaged(t, s, file, append(bytes.Clone(good), good...), "the record twice")
	damaged(t, s, file, append(bytes.Clone(good), ' '), "a space more")
	damaged(t, s, file, bytes.Replace(good, []byte(`"jwt"`), []byte(`"ssh"`), 1), "another format")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(t.Context(), "pay"); err != nil {
		t.Errorf("Load of the record restored: %v", err)
	}
}

// resealed is a record with any fields, under a checksum that is right.
func resealed(t *testing.T, text string) []byte {
	t.Helper()
	if !json.Valid([]byte(text)) {
		t.Fatalf("not JSON: %s", text)
	}
	return []byte(strings.Replace(text, noSum, sum([]byte(text)), 1))
}

func TestARecordIsReadStrictly(t *testing.T) {
	dir := newDir(t)
	s := mustOpen(t, dir, nil)
	file := filepath.Join(dir, "keys", "pay.json")
	sum := `{"sha256":"` + noSum + `",`
	damaged(t, s, file, resealed(t, sum+`"revision":1,"key":{"name":"pay","guard":"dog"}}`), "a field that is not known")
	damaged(t, s, file, resealed(t, sum+`"revision":0,"key":{"name":"pay"}}`), "revision 0")
	damaged(t, s, file, resealed(t, sum+`"revision":1,"key":{"name":"play"}}`), "another key's record")
	damaged(t, s, file, []byte(`{"revision":1,"key":{"name":"pay"}}`), "no checksum")
	if err := os.WriteFile(file, resealed(t, sum+`"revision":3,"key":{"name":"pay"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, rev, err := s.Load(t.Context(), "pay"); rev != 3 || err != nil {
		t.Errorf("Load of a record without a fault: got revision %d, %v: this test plants nothing", rev, err)
	}
}

func TestAFileThatIsNoRecordIsNamed(t *testing.T) {
	for _, name := range []string{"pay.json.bak", "Pay.json", "notes", ".json", "..json.tmp~"} {
		dir := newDir(t)
		s := mustOpen(t, dir, nil)
		file := filepath.Join(dir, "keys", name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.List(t.Context()); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "\nhint: ") {
			t.Errorf("List beside %q: got %v, want an error that names it", name, err)
		}
	}
}

// TestOddDirectories whose names a pattern would not match.
func TestOddDirectories(t *testing.T) {
	for _, name := range []string{"[a-z]", "*", "a b", `back\slash`, "é"} {
		dir := filepath.Join(t.TempDir(), name)
		s := mustOpen(t, dir, nil)
		mustSave(t, s, pay("jwt"))
		names, err := s.List(t.Context())
		if diff := cmp.Diff([]string{"pay"}, names); diff != "" || err != nil {
			t.Errorf("List in %q (-want +got): %v\n%s", name, err, diff)
		}
	}
}

// TestAWatchTellsNewsOnly, and is forgotten when it ends.
func TestAWatchTellsNewsOnly(t *testing.T) {
	s := mustOpen(t, newDir(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		e := pay("jwt")
		e.Name = name
		mustSave(t, s, e)
		if got := <-changed; got != name {
			t.Errorf("told of %q, want %q", got, name)
		}
	}
	cancel()
	if name, open := <-changed; open {
		t.Errorf("told of %q after the end", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) != 0 {
		t.Errorf("%d watchers are still told after the end", len(s.watchers))
	}
}
