package conformance

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheREADMENamesTestsThatExist holds the table of promises against the
// tree.
func TestTheREADMENamesTestsThatExist(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, s := range sources(t, os.DirFS("..")) {
		if s.test {
			all.WriteString(s.text)
		}
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z]+)`").FindAllStringSubmatch(string(readme), -1)
	if len(names) < 10 {
		t.Fatalf("the README names %d tests", len(names))
	}
	for _, n := range names {
		if !strings.Contains(all.String(), "func "+n[1]+"(") {
			t.Errorf("the README names %s, which does not exist", n[1])
		}
	}
}

// TestTheREADMEsSessionIsRun holds its ten lines against the script that runs
// them.
func TestTheREADMEsSessionIsRun(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../daemon/cmd/signet/testdata/session.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "session.txtar runs these very lines -->\n```\n")
	session, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("the README has no session")
	}
	// A script has neither shell redirection nor double quotes.
	asScript := strings.NewReplacer("\"", "'", " > token", "", " < token", "", " &", " &daemon&")
	for line := range strings.Lines(session) {
		line = strings.TrimSpace(asScript.Replace(line))
		command, isSignet := strings.CutPrefix(line, "signet ")
		if isSignet && !strings.Contains(string(script), "exec signet "+strings.ReplaceAll(command, "'monthly'", "monthly")) {
			t.Errorf("the script does not run: signet %s", command)
		}
	}
}

// TestEveryLinkOfAPageLeadsSomewhere follows the links between our own files.
func TestEveryLinkOfAPageLeadsSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	n := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "node_modules" {
			return fs.SkipDir // others' pages
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), l[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || n < 20 {
		t.Errorf("%d links were followed, %v", n, err)
	}
}
