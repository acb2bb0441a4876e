package signers_test

import (
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
)

func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestREADMELinksLeadSomewhere(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readme(t), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("README.md: %v", err)
		}
	}
}

func TestREADMECodeIsGo(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) == 0 {
		t.Error("README.md has no Go code: this test looks for the wrong thing")
	}
	for _, m := range blocks {
		if _, err := parser.ParseFile(token.NewFileSet(), "README.md", m[1], parser.AllErrors); err != nil {
			t.Error(err)
		}
	}
}

// TestREADMENamesChecksThatExist reads the table of checks.
func TestREADMENamesChecksThatExist(t *testing.T) {
	var names []string
	for _, c := range signertest.Checks(signers.ECDSAP256, signers.Ed25519) {
		names = append(names, c.Name)
	}
	_, table, _ := strings.Cut(readme(t), "|---|---|---|\n")
	row, _, ok := strings.Cut(table, "\n")
	if !ok {
		t.Fatal("README.md has no table of checks")
	}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("README.md names check %q, which does not exist", m[1])
		}
	}
}
