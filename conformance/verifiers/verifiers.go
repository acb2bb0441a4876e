// Package verifiers runs verifiers of tokens that nobody here wrote, in other
// languages: node/ has scripts over npm packages (npm ci installs them), python/
// has scripts over Debian's.
package verifiers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// python is Debian's, which has Debian's modules; another may come first in PATH.
const python = "/usr/bin/python3"

// Node runs a script of node/ with in as JSON on its standard input, and reads
// its standard output into out. Without Node.js or the packages the test is
// skipped, or fails where REQUIRE_VERIFIERS is set.
func Node(t testing.TB, script string, in, out any) {
	t.Helper()
	dir := here("node")
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "Node.js", "apt-get install nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err != nil {
		missing(t, "the packages of "+dir, "npm ci --prefix conformance/verifiers/node")
	}
	run(t, in, out, "node", filepath.Join(dir, script))
}

// Python runs a script of python/ as Node does one of node/. It needs modules,
// each with the Debian package that has it.
func Python(t testing.TB, script string, modules map[string]string, in, out any) {
	t.Helper()
	for module, pkg := range modules {
		if err := exec.Command(python, "-c", "import "+module).Run(); err != nil { //nolint:gosec // names that tests choose
			missing(t, "Python's "+module, "apt-get install "+pkg)
		}
	}
	run(t, in, out, python, "-I", filepath.Join(here("python"), script))
}

// here is a folder beside this file.
func here(folder string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), folder)
}

// missing skips on a laptop and fails in CI.
func missing(t testing.TB, what, hint string) {
	t.Helper()
	text := fmt.Sprintf("%s is missing\nhint: %s", what, hint)
	if os.Getenv("REQUIRE_VERIFIERS") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func run(t testing.TB, in, out any, name string, args ...string) {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...) //nolint:gosec // names that tests choose
	var answer, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &answer, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, said.String())
	}
	if err := json.Unmarshal(answer.Bytes(), out); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, answer.String())
	}
}
