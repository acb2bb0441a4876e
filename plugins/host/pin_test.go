package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinned copies this test binary to a file of its own and returns its path and
// checksum.
func pinned(t *testing.T) (path, sum string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "issuer")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(data)
	return path, hex.EncodeToString(h[:])
}

// swapped is another program: whoever runs it sees an issuer that exits at
// once.
func swapped(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpecsThatAreRefused(t *testing.T) {
	path, sum := pinned(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	scriptSum := sha256.Sum256([]byte("#!/bin/sh\n"))
	rows := []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"no name", func(s *Spec) { s.Name = "" }, "required"},
		{"no clock", func(s *Spec) { s.Now = nil }, "required"},
		{"no log", func(s *Spec) { s.Log = nil }, "required"},
		{"no binary of the daemon's", func(s *Spec) { s.Self = nil }, "Self is required"},
		{"relative path", func(s *Spec) { s.Path = "bin/issuer" }, "hint:"},
		{"no checksum", func(s *Spec) { s.SHA256 = "" }, "sha256 is required"},
		{"checksum without path", func(s *Spec) { s.Path = "" }, "hint:"},
		{"wrong checksum", func(s *Spec) { s.SHA256 = strings.Repeat("0", 64) }, "the binary is not the pinned one"},
		{"short checksum", func(s *Spec) { s.SHA256 = s.SHA256[:32] }, "the binary is not the pinned one"},
		{"no such file", func(s *Spec) { s.Path += "x" }, "no such file"},
		{"a directory", func(s *Spec) { s.Path = filepath.Dir(s.Path) }, "not a regular file"},
		{"a script", func(s *Spec) { s.Path, s.SHA256 = script, hex.EncodeToString(scriptSum[:]) }, "name the interpreter"},
		{"a directory too deep for sockets", func(s *Spec) { s.TempDir = strings.Repeat("/long", 20) }, "too long"},
	}
	for _, row := range rows {
		s := testSpec(t, "honest")
		s.Path, s.SHA256 = path, sum
		row.change(&s)
		if _, err := Launch(context.Background(), s); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error with %q", row.name, err, row.want)
		}
	}
}

func TestWhatWasHashedIsWhatRuns(t *testing.T) {
	t.Parallel()
	path, sum := pinned(t)
	s := testSpec(t, "honest")
	s.Path, s.SHA256 = path, strings.ToUpper(sum)
	p := launch(t, s)
	mustPrepare(t, p, "alice")

	// Another file in its place, then another content in the same file: a
	// restart runs neither.
	other, err := os.ReadFile(swapped(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, other, 0o700); err != nil {
		t.Fatal(err)
	}
	restarted(t, p)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, other, 0o700); err != nil {
		t.Fatal(err)
	}
	restarted(t, p)
}

func restarted(t *testing.T, p *Process) {
	t.Helper()
	n := p.Restarts()
	if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "it is restarted", func() bool { return p.Restarts() > n })
	mustPrepare(t, p, "alice")
	if p.Faults() != p.Restarts() {
		t.Errorf("%d faults for %d restarts: another program ran", p.Faults(), p.Restarts())
	}
}

// The file is swapped again and again while issuers are launched: each launch
// runs the pinned binary or says that it found another.
func TestASwappedBinaryNeverRuns(t *testing.T) {
	t.Parallel()
	path, sum := pinned(t)
	stop := swapInALoop(t, path)
	defer stop()
	launched, refused := 0, 0
	for launched < 3 || refused < 3 {
		s := testSpec(t, "honest")
		s.Path, s.SHA256 = path, sum
		p, err := Launch(context.Background(), s)
		switch {
		case err == nil:
			launched++
			p.Close()
		case errors.Is(err, ErrChecksum):
			refused++
		default:
			t.Fatalf("Launch: got %v: the swapped binary ran", err)
		}
	}
}

// swapInALoop puts the other program at path and the right one back.
func swapInALoop(t *testing.T, path string) (stop func()) {
	t.Helper()
	good, bad, link := path+".good", path+".bad", path+".link"
	if err := errors.Join(os.Rename(path, good), os.Symlink(swapped(t), bad), os.Link(good, path)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			from := good
			if i%2 == 0 {
				from = bad
			}
			_ = os.Remove(link)
			_ = os.Link(from, link)
			_ = os.Rename(link, path)
		}
	})
	return func() { close(done); wg.Wait() }
}

// The planted fault: hash the path, then run the path, as go-plugin's own
// check does. A swap in between runs.
func TestHashingThePathAndRunningThePathIsNotEnough(t *testing.T) {
	path, sum := pinned(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if hex.EncodeToString(h.Sum(nil)) != sum {
		t.Fatal("the checksum is not the file's")
	}
	if err := errors.Join(os.Remove(path), os.Symlink(swapped(t), path)); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(path).Run(); err != nil {
		t.Errorf("the swapped binary did not run: %v", err)
	}
}

func TestThePinnedCopyCannotBeWritten(t *testing.T) {
	path, sum := pinned(t)
	f, err := pin(path, sum, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("WriteAt: got %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("Truncate: got %v, want EPERM", err)
	}
}
