package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// written writes a good configuration into a directory of its own.
func written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signet.yaml")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoadReadsAFile(t *testing.T) {
	path := written(t)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "state"); c.StateDir != want {
		t.Errorf("state_dir: got %q, want %q", c.StateDir, want)
	}
}

// TestLoadRefusesWhatItCannotTrust spoils one thing for each row.
func TestLoadRefusesWhatItCannotTrust(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		says  string
		hint  string
	}{
		{"absent", func(t *testing.T, p string) { must(t, os.Remove(p)) }, "no such file", "hint: `signet init DIR` writes one"},
		{"others may write it", func(t *testing.T, p string) { must(t, os.Chmod(p, 0o602)) }, "has mode 0602: others may change it", "hint: chmod go-w "},
		{"a group may write it", func(t *testing.T, p string) { must(t, os.Chmod(p, 0o620)) }, "has mode 0620: others may change it", "hint: chmod go-w "},
		{"others may replace it", func(t *testing.T, p string) { must(t, os.Chmod(filepath.Dir(p), 0o777)) }, "anybody may replace it", "hint: chmod o-w "},
		{"a directory", func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, os.Mkdir(p, 0o700)) }, "is not a file", "hint: name signet.yaml itself"},
		{"a pipe that nobody writes", func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, syscall.Mkfifo(p, 0o600)) }, "is not a file", "hint: name signet.yaml itself"},
		{"too large", func(t *testing.T, p string) { must(t, os.Truncate(p, maxFile+1)) }, "4194305 bytes, the limit is 4194304", "hint: split"},
		{"a mistake", func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte("version: 2\n"), 0o600)) }, "signet.yaml:1:10: version: 2", "hint: version: 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := written(t)
			c.spoil(t, path)
			_, err := Load(path)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.hint) {
				t.Errorf("Load: got %v, want %q and %q", err, c.says, c.hint)
			}
		})
	}
}

func TestLoadSaysThatAFileIsAbsent(t *testing.T) {
	if _, err := Load("/nonexistent/signet.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: got %v, want fs.ErrNotExist", err)
	}
}

// TestRootTakesNoOrdersFromOthers is for a daemon that starts as root: the file
// names a command that it would run.
func TestRootTakesNoOrdersFromOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away; the suite runs as root as well")
	}
	path := written(t)
	must(t, os.Chown(path, 12345, -1))
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") || !strings.Contains(err.Error(), "hint: chown root") {
		t.Errorf("Load: got %v, want a refusal that names the owner", err)
	}
}

// TestASharedDirectoryThatKeepsFilesApartWillDo is /tmp.
func TestASharedDirectoryThatKeepsFilesApartWillDo(t *testing.T) {
	path := written(t)
	must(t, os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky))
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}
