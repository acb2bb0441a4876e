package server

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// notOnTheWire are sentinels that can't reach a caller, and why.
var notOnTheWire = map[string]string{
	"signers.ErrBadSignature": "keyring turns it into its own",
	"signers.ErrExists":       "keyring opens the key instead",
	"audit.ErrHead":           "only Verify returns it",
	"policy.ErrSpent":         "a fault of ours: Internal",
	"policy.ErrNotApproved":   "a fault of ours: Internal",
	"host.ErrChecksum":        "an issuer that is not started: ErrDown",
}

// sentinels are the exported Err variables of a package, read from its files:
// a new one must be given a row.
func sentinels(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	var found []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, n := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(n.Name, "Err") {
						found = append(found, filepath.Base(dir)+"."+n.Name)
					}
				}
			}
		}
	}
	return found
}

func TestEverySentinelHasARow(t *testing.T) {
	table, err := os.ReadFile("status.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"signers", "keyring", "plugins", "plugins/host", "daemon/audit", "daemon/policy", "daemon/server"} {
		for _, name := range sentinels(t, dir) {
			row := "{is: " + strings.TrimPrefix(name, "server.") + ","
			if !strings.Contains(string(table), row) && notOnTheWire[name] == "" {
				t.Errorf("%s has no row in status.go, and no reason why not", name)
			}
		}
	}
}

const canary = "canary-7f3a"

func TestWhatIsWithheldStaysInside(t *testing.T) {
	for _, r := range rows {
		st, _ := wire(fmt.Errorf("%s: %w", canary, r.is))
		if st.Code() != r.code {
			t.Errorf("%v: got %s, want %s", r.is, st.Code(), r.code)
		}
		if r.say != "" && strings.Contains(st.Message(), canary) {
			t.Errorf("%v: its cause reaches the caller: %q", r.is, st.Message())
		}
		if r.say == "" && !strings.Contains(st.Message(), canary) {
			t.Errorf("%v: its text is safe to show and is not shown", r.is)
		}
	}
	st, loud := wire(errors.New(canary))
	if st.Code() != codes.Internal || !loud || strings.Contains(st.Message(), canary) {
		t.Errorf("an error of no row: got %s %q, want Internal, withheld and loud", st.Code(), st.Message())
	}
}

func TestTheWorstOfSeveralErrorsCounts(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want codes.Code
	}{
		{"tampered, though the inspector says refused", fmt.Errorf("%w: %w", ErrTampered, plugins.ErrRefused), codes.Internal},
		{"a bad signature, though quarantine failed", errors.Join(keyring.ErrBadSignature, keyring.ErrConflict), codes.Internal},
		{"rotated", fmt.Errorf("key: %w", keyring.ErrRotated), codes.FailedPrecondition},
		{"a wrong PIN is not the caller's fault", fmt.Errorf("pkcs11: %w", signers.ErrDenied), codes.FailedPrecondition},
		{"a denial", fmt.Errorf("x: %w", &policy.Denial{Rule: "scope", Reason: "no"}), codes.PermissionDenied},
	} {
		if st, _ := wire(c.err); st.Code() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, st.Code(), c.want)
		}
	}
}

// TestWhatIsSaidHints: whoever reads it can do something, or knows who can.
func TestWhatIsSaidHints(t *testing.T) {
	for _, r := range rows {
		if r.say != "" && !strings.Contains(r.say, "\nhint: ") && r.code != codes.Canceled {
			t.Errorf("%v: %q has no hint", r.is, r.say)
		}
	}
}
