package secret

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// theSecret must turn up in no error.
const theSecret = "hunter2-7f3a"

// place writes the secret to a new file of the given mode.
func place(t *testing.T, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte(theSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "get-pin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// refuses requires Read to fail with want and a hint, and to keep the secret.
func refuses(t *testing.T, s Source, want error, hint string) {
	t.Helper()
	got, err := s.Read(t.Context())
	if !errors.Is(err, want) {
		t.Fatalf("Read(%v): got %v, want %v", s, err, want)
	}
	if got != nil {
		t.Errorf("Read(%v): returned %d bytes with an error", s, len(got))
	}
	if !strings.Contains(err.Error(), "\nhint: ") || !strings.Contains(err.Error(), hint) {
		t.Errorf("Read(%v): %q does not hint at %q", s, err, hint)
	}
	if strings.Contains(err.Error(), theSecret) {
		t.Errorf("Read(%v): the error tells the secret", s)
	}
}

func reads(t *testing.T, s Source) {
	t.Helper()
	got, err := s.Read(t.Context())
	if err != nil || string(got) != theSecret {
		t.Fatalf("Read(%v): got %d bytes, %v", s, len(got), err)
	}
}

func TestCheckWantsExactlyOneSource(t *testing.T) {
	for _, s := range []Source{
		{},
		{Credential: "pin", File: "/pin"},
		{File: "/pin", Command: []string{"/bin/cat"}},
		{File: "pin"},
		{File: "/run/../pin"},
		{Command: []string{"cat"}},
		{Command: []string{""}},
		{Credential: "../pin"},
		{Credential: "a/b"},
		{Credential: ".hidden"},
		{Credential: "a b"},
	} {
		if err := s.Check(); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "\nhint: ") {
			t.Errorf("Check(%+v): got %v, want ErrSource with a hint", s, err)
		}
	}
}

func TestAFileOfOurOwnIsRead(t *testing.T) {
	reads(t, Source{File: place(t, 0o600)})
	reads(t, Source{File: place(t, 0o400)})
}

func TestAFileThatOthersMayReadIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o620, 0o604, 0o601, 0o610} {
		path := place(t, mode)
		refuses(t, Source{File: path}, ErrUnsafe, "chmod 600 "+path)
	}
}

func TestAFileOfAnotherOwnerIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away; CI runs this as root")
	}
	path := place(t, 0o600)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	refuses(t, Source{File: path}, ErrUnsafe, "chown 0 "+path)
}

func TestADirectoryThatOthersMayWriteToIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o720, 0o702, 0o777 | os.ModeSticky} {
		path := place(t, 0o600)
		if err := os.Chmod(filepath.Dir(path), mode); err != nil {
			t.Fatal(err)
		}
		refuses(t, Source{File: path}, ErrUnsafe, "chmod go-w "+filepath.Dir(path))
	}
}

func TestADirectoryOfAnotherOwnerIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a directory away; CI runs this as root")
	}
	path := place(t, 0o600)
	if err := os.Chown(filepath.Dir(path), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	refuses(t, Source{File: path}, ErrUnsafe, "chown 0 ")
}

func TestWhatIsNoRegularFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	fifo, link, folder := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "folder")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(place(t, 0o600), link), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	refuses(t, Source{File: fifo}, ErrSource, "regular file")
	refuses(t, Source{File: folder}, ErrSource, "regular file")
	refuses(t, Source{File: link}, ErrSource, "symbolic link")
	refuses(t, Source{File: filepath.Join(dir, "absent")}, ErrSource, "create the file")
}

func TestSizeIsBounded(t *testing.T) {
	for _, c := range []struct {
		size int
		want error
	}{{0, ErrEmpty}, {1, nil}, {MaxSize, nil}, {MaxSize + 1, ErrTooLarge}, {1 << 20, ErrTooLarge}} {
		path := place(t, 0o600)
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), c.size), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Source{File: path}.Read(t.Context())
		if !errors.Is(err, c.want) || err == nil && len(got) != c.size {
			t.Errorf("Read of %d bytes: got %d bytes, %v; want %v", c.size, len(got), err, c.want)
		}
	}
}

func TestOneNewlineIsTrimmed(t *testing.T) {
	for in, want := range map[string]string{"a": "a", "a\n": "a", "a\r\n": "a", "a\n\n": "a\n", "\n": "", "a\r": "a\r", " a ": " a "} {
		if got := string(trimNewline([]byte(in))); got != want {
			t.Errorf("trimNewline(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestACredentialIsReadFromItsDirectory(t *testing.T) {
	path := place(t, 0o440) // as systemd leaves it for a service of another uid
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	reads(t, Source{Credential: "pin"})
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	refuses(t, Source{Credential: "pin"}, ErrUnsafe, "systemd")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	refuses(t, Source{Credential: "pin"}, ErrSource, "LoadCredential=pin:")
	t.Setenv("CREDENTIALS_DIRECTORY", "relative")
	refuses(t, Source{Credential: "pin"}, ErrSource, "absolute path")
}

func TestACommandPrintsTheSecret(t *testing.T) {
	reads(t, Source{Command: []string{script(t, "echo "+theSecret)}})
	reads(t, Source{Command: []string{script(t, `printf %s "$1"`), theSecret}})
}

func TestACommandGetsNothingOfOurs(t *testing.T) {
	t.Setenv("SIGNET_TEST", theSecret)
	// A descriptor without close-on-exec, as a PKCS#11 module leaves it.
	const leak = 100
	if err := syscall.Dup2(0, leak); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	looks := script(t, "[ -e /proc/self/fd/100 ] && echo descriptor; /usr/bin/env | /bin/grep -o SIGNET_TEST; echo end")
	careless, err := exec.Command(looks).Output()
	if want := "descriptor\nSIGNET_TEST\nend\n"; err != nil || string(careless) != want {
		t.Fatalf("the look itself: got %q, %v; want %q", careless, err, want)
	}
	got, err := Source{Command: []string{looks}}.Read(t.Context())
	if err != nil || string(got) != "end" {
		t.Errorf("the command sees %q of ours, %v", got, err)
	}
}

func TestACommandThatFailsGivesNothing(t *testing.T) {
	fails := script(t, "echo "+theSecret+"; echo "+theSecret+" >&2; exit 3")
	refuses(t, Source{Command: []string{fails}}, ErrCommand, "env -i")
	refuses(t, Source{Command: []string{script(t, "cat /dev/zero")}}, ErrTooLarge, "right one")
	refuses(t, Source{Command: []string{script(t, "true")}}, ErrEmpty, "put the secret there")
	refuses(t, Source{Command: []string{"/absent"}}, ErrSource, "executable")
	refuses(t, Source{Command: []string{place(t, 0o600)}}, ErrCommand, "executable")
}

func TestACommandThatOthersMayReplaceIsRefused(t *testing.T) {
	path := script(t, "echo "+theSecret)
	if err := os.Chmod(path, 0o722); err != nil {
		t.Fatal(err)
	}
	refuses(t, Source{Command: []string{path}}, ErrUnsafe, "chmod go-w "+path)
}

func TestACommandThatHangsIsStopped(t *testing.T) {
	got, err := runWithin(t.Context(), []string{script(t, "echo "+theSecret+"; sleep 600")}, 50*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || got != nil {
		t.Errorf("got %d bytes, %v; want DeadlineExceeded", len(got), err)
	}
}

// What a command started ends with it: the other end of a pipe is closed when
// the last of its processes is gone.
func TestACommandIsStoppedWithItsChildren(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	if _, err := runWithin(t.Context(), []string{script(t, "sleep 600 >"+fifo+" & sleep 600")}, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want DeadlineExceeded", err)
	}
	if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the child's end: got %v, want EOF", err)
	}
}

// What a command leaves behind, in a session of its own, holds the pipe open
// for as long as the test lets it: it must not hold us.
func TestWhatACommandLeavesBehindDoesNotHoldUs(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both: the left one can open its end, and waits for ours to close.
	ours, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	got, err := runWithin(t.Context(), []string{script(t, "setsid /bin/cat "+fifo+" & echo "+theSecret)}, 50*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || got != nil {
		t.Errorf("got %d bytes, %v; want DeadlineExceeded", len(got), err)
	}
}

func TestACallerThatGivesUpStopsTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Source{Command: []string{script(t, "sleep 600")}}).Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: got %v, want Canceled", err)
	}
}

func TestStringHasNoArguments(t *testing.T) {
	s := Source{Command: []string{"/bin/echo", theSecret}}
	if strings.Contains(s.String(), theSecret) {
		t.Errorf("String: %q tells an argument", s)
	}
}

func TestWipe(t *testing.T) {
	b := []byte(theSecret)
	Wipe(b)
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("Wipe left %q", b)
	}
}
