package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/signetd/signet/"

// mayImport is the layer table: which packages of signet each may import, its
// tests apart. A package that is not in it is refused: add it here, with
// thought. Do not change a row to make a build pass.
var mayImport = map[string][]string{
	"signers":         {},
	"signers/softkey": {"signers"},
	"signers/pkcs11":  {"signers"},

	"keyring":           {"signers"},
	"keyring/filestore": {"keyring"},

	"plugins":              {"signers"},
	"plugins/api/v1":       {},
	"plugins/strictjson":   {},
	"plugins/wire":         {"plugins", "plugins/api/v1", "signers"},
	"plugins/serve":        {"plugins", "plugins/api/v1", "plugins/wire", "signers"},
	"plugins/host":         {"plugins", "plugins/api/v1", "plugins/wire", "plugins/host/sandbox", "signers"},
	"plugins/host/sandbox": {},
	"plugins/jwt":          {"plugins", "plugins/strictjson", "signers"},

	"daemon/api/v1":  {},
	"daemon/peer":    {},
	"daemon/secret":  {},
	"daemon/audit":   {},
	"daemon/metrics": {},
	"daemon/config":  {"signers"},
	"daemon/policy":  {"daemon/peer", "plugins", "plugins/strictjson", "signers"},
	"daemon/client":  {"daemon/api/v1", "signers"},
	"daemon/server": {
		"daemon/api/v1", "daemon/audit", "daemon/metrics", "daemon/peer", "daemon/policy",
		"keyring", "plugins", "plugins/host", "plugins/jwt", "signers",
	},
	"daemon": {
		"daemon/api/v1", "daemon/audit", "daemon/config", "daemon/metrics", "daemon/peer", "daemon/policy",
		"daemon/secret", "daemon/server", "keyring", "keyring/filestore", "plugins", "plugins/host",
		"plugins/jwt", "signers", "signers/pkcs11", "signers/softkey",
	},
	"daemon/cmd/signet": {
		"daemon", "daemon/api/v1", "daemon/audit", "daemon/client", "daemon/cmd/signet/demo", "daemon/config",
		"plugins/host/sandbox", "plugins/jwt", "plugins/serve",
	},
	"daemon/cmd/signet/demo": {"conformance/softhsm", "daemon/api/v1", "daemon/audit", "daemon/client", "plugins/jwt"},

	"conformance":              {},
	"conformance/bench":        {},
	"conformance/cmd/failures": {},
	"conformance/softhsm":      {},
	"conformance/signertest":   {"conformance", "signers"},
	"conformance/storetest":    {"conformance", "keyring", "signers"},
	"conformance/sinktest":     {"conformance", "daemon/audit"},
	"conformance/issuertest":   {"conformance", "plugins", "signers"},

	"examples/client-go/cmd/issue-and-call": {"daemon/client"},
}

// topLevel is what may stand at the top of the tree, dotfiles apart.
var topLevel = []string{"LICENSE", "README.md", "conformance", "daemon", "examples", "go.mod", "go.sum", "keyring", "plugins", "signers"}

// A source is one Go file, parsed.
type source struct {
	path, dir string
	file      *ast.File
	fset      *token.FileSet
	test      bool
	generated bool
	text      string
}

// sources reads every Go file of a tree: the files, not `go list`, whose
// answers the test cache keeps after the layers were broken.
func sources(t *testing.T, tree fs.FS) []source {
	t.Helper()
	var all []source
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && p != ".") {
			return errOr(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		s := source{path: p, dir: path.Dir(p), fset: token.NewFileSet(), test: strings.HasSuffix(p, "_test.go"), text: string(text)}
		s.file, err = parser.ParseFile(s.fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		s.generated = ast.IsGenerated(s.file)
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// brokenLayers lists imports that the table does not allow, and packages that
// it does not know.
func brokenLayers(all []source) []string {
	var found []string
	for _, s := range all {
		if s.test {
			continue
		}
		allowed, known := mayImport[s.dir]
		if !known {
			found = append(found, s.dir+": not in the layer table")
			continue
		}
		for _, imp := range s.file.Imports {
			target, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if ours && !slices.Contains(allowed, target) {
				found = append(found, fmt.Sprintf("%s imports %s, which its layer may not", s.path, target))
			}
			if s.dir == "signers" && strings.Contains(imp.Path.Value, ".") {
				found = append(found, s.path+" imports "+imp.Path.Value+": signers is standard library only")
			}
		}
	}
	return slices.Compact(found)
}

// brokenPlaces lists main packages outside cmd folders, protobufs outside
// api/v1, and packages without exactly one package comment.
func brokenPlaces(all []source) []string {
	var found []string
	docs := map[string]int{}
	for _, s := range all {
		inCmd := strings.Contains("/"+s.dir+"/", "/cmd/")
		if s.file.Name.Name == "main" && !inCmd {
			found = append(found, s.path+": package main outside a cmd folder")
		}
		if strings.HasSuffix(s.path, ".pb.go") != strings.HasSuffix(s.dir, "api/v1") {
			found = append(found, s.path+": protobufs, and nothing else, are in api/v1")
		}
		if s.generated != strings.HasSuffix(s.path, ".pb.go") {
			found = append(found, s.path+": generated code is protobuf code")
		}
		if !s.test && !s.generated {
			docs[s.dir] += boolInt(s.file.Doc != nil)
		}
	}
	for dir, n := range docs {
		if n != 1 {
			found = append(found, fmt.Sprintf("%s: %d package comments, want one", dir, n))
		}
	}
	slices.Sort(found)
	return found
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// keySigns lists the functions of daemon packages that call Sign on a field
// or variable named key: the one place where a key is used.
func keySigns(all []source) []string {
	var found []string
	for _, s := range all {
		if s.test || !strings.HasPrefix(s.dir, "daemon") {
			continue
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && signsWithKey(call) {
					found = append(found, s.dir+"."+fn.Name.Name)
				}
				return true
			})
		}
	}
	return found
}

// signsWithKey matches key.Sign(…) and x.key.Sign(…).
func signsWithKey(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Sign" {
		return false
	}
	switch x := sel.X.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "key")
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "key")
	}
	return false
}

func TestEachLayerImportsOnlyThoseBelow(t *testing.T) {
	for _, broken := range brokenLayers(sources(t, os.DirFS(".."))) {
		t.Error(broken)
	}
}

func TestEverythingIsInItsPlace(t *testing.T) {
	for _, broken := range brokenPlaces(sources(t, os.DirFS(".."))) {
		t.Error(broken)
	}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s: not a name for the top of the tree", e.Name())
		}
	}
}

func TestOneFunctionUsesKeys(t *testing.T) {
	got := keySigns(sources(t, os.DirFS("..")))
	if want := []string{"daemon/server.finish"}; !slices.Equal(got, want) {
		t.Errorf("functions that call Key.Sign: got %v, want %v", got, want)
	}
}

func TestTheTableHasNoDeadRows(t *testing.T) {
	dirs := map[string]bool{}
	for _, s := range sources(t, os.DirFS("..")) {
		dirs[s.dir] = true
	}
	for dir := range mayImport {
		if !dirs[dir] {
			t.Errorf("%s: in the layer table, but not in the tree", dir)
		}
	}
}

// TestThePlantedFaultsAreCaught breaks each rule in a small tree.
func TestThePlantedFaultsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name, path, text string
		check            func([]source) []string
	}{
		{"a layer reached upwards", "keyring/x.go", "package keyring\nimport _ \"github.com/signetd/signet/daemon/policy\"", brokenLayers},
		{"a library under signers", "signers/x.go", "package signers\nimport _ \"golang.org/x/sys/unix\"", brokenLayers},
		{"a package nobody placed", "daemon/new/x.go", "package x", brokenLayers},
		{"main outside cmd", "daemon/x.go", "// Package main is lost.\npackage main", brokenPlaces},
		{"a package without a comment", "daemon/x.go", "package daemon", brokenPlaces},
		{"code by hand in api/v1", "daemon/api/v1/x.go", "// Package v1 is by hand.\npackage v1", brokenPlaces},
		{"a second use of a key", "daemon/server/x.go", "package server\nfunc sneak() { key.Sign(nil, nil) }", keySigns},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{c.path: {Data: []byte(c.text)}}
			if len(c.check(sources(t, tree))) == 0 {
				t.Error("not caught")
			}
		})
	}
}
