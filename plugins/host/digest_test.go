package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree is a program and its runtime, in a directory that only this user writes.
func tree(t *testing.T) (program, dir string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program, dir = filepath.Join(root, "interpreter"), filepath.Join(root, "lib")
	for _, err := range []error{
		os.WriteFile(program, []byte("program"), 0o700),
		os.MkdirAll(filepath.Join(dir, "deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "deep", "a.py"), []byte("a"), 0o600),
		os.WriteFile(filepath.Join(dir, "b.py"), []byte("b"), 0o600),
		os.Symlink("b.py", filepath.Join(dir, "c.py")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return program, dir
}

func hexOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestDigestIsTheOneThatItsCommentDescribes(t *testing.T) {
	program, dir := tree(t)
	if got, err := Digest(program, nil); got != hexOf("program") || err != nil {
		t.Errorf("Digest of a program: got %s, %v, want sha256sum's", got, err)
	}
	lines := fmt.Sprintf("%s  -\n%s  %s/b.py\n%s  %s/c.py\n%s  %s/deep/a.py\n",
		hexOf("program"), hexOf("b"), dir, hexOf("link b.py"), dir, hexOf("a"), dir)
	if got, err := Digest(program, []string{dir}); got != hexOf(lines) || err != nil {
		t.Errorf("Digest of a tree: got %s, %v, want %s", got, err, hexOf(lines))
	}
}

// Each change to the tree is another digest, or none.
func TestEveryChangeOfARuntimeIsSeen(t *testing.T) {
	rows := []struct {
		name   string
		change func(program, dir string) error
		want   error // nil: another digest
	}{
		{"the program", func(p, _ string) error { return os.WriteFile(p, []byte("Program"), 0o600) }, nil},
		{"a file", func(_, d string) error { return os.WriteFile(d+"/deep/a.py", []byte("A"), 0o600) }, nil},
		{"a new file", func(_, d string) error { return os.WriteFile(d+"/deep/z.py", nil, 0o600) }, nil},
		{"a file gone", func(_, d string) error { return os.Remove(d + "/b.py") }, nil},
		{"a file moved", func(_, d string) error { return os.Rename(d+"/b.py", d+"/d.py") }, nil},
		{"a link", func(_, d string) error {
			return errors.Join(os.Remove(d+"/c.py"), os.Symlink("deep/a.py", d+"/c.py"))
		}, nil},
		{"a file that others may write", func(_, d string) error { return os.Chmod(d+"/b.py", 0o666) }, errWritable},
		{"a directory that others may write", func(_, d string) error { return os.Chmod(d+"/deep", 0o777) }, errWritable},
		{"its parent", func(_, d string) error { return os.Chmod(filepath.Dir(d), 0o777) }, errWritable},
	}
	for _, row := range rows {
		program, dir := tree(t)
		before, err := Digest(program, []string{dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := row.change(program, dir); err != nil {
			t.Fatal(err)
		}
		after, err := Digest(program, []string{dir})
		if !errors.Is(err, row.want) || err == nil && after == before {
			t.Errorf("%s: got %s, %v, want %v or another digest than %s", row.name, after, err, row.want, before)
		}
	}
}

func TestDigestRefusesALinkAsARoot(t *testing.T) {
	program, dir := tree(t)
	link := filepath.Join(filepath.Dir(dir), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Digest(program, []string{link}); err == nil || !strings.Contains(err.Error(), "hint: name "+dir) {
		t.Errorf("Digest: got %v, want a hint to name %s", err, dir)
	}
}

// A plug-in whose gRPC can't take go-plugin's certificates is asked without.
func TestAPlainPluginAnswers(t *testing.T) {
	s := testSpec(t, "honest")
	s.PlainGRPC = true
	if got := mustPrepare(t, launch(t, s), "alice"); got != "alice by k1" {
		t.Errorf("Prepare: got %q", got)
	}
}
