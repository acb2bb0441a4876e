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
	"signers/stream":  {},
	"signers/awskms":  {"signers", "signers/cost", "signers/handles"},
	"signers/gcpkms":  {"signers", "signers/cost", "signers/handles"},
	"signers/cost":    {"signers"},
	"signers/handles": {"signers"},
	"signers/guard":   {"signers"},
	"signers/api/v1":  {},
	"signers/remote":  {"signers", "signers/api/v1", "signers/stream"},

	"keyring":           {"signers"},
	"keyring/filestore": {"keyring"},

	"plugins":              {"signers"},
	"plugins/api/v1":       {},
	"plugins/strictjson":   {},
	"plugins/wire":         {"plugins", "plugins/api/v1", "signers"},
	"plugins/serve":        {"plugins", "plugins/api/v1", "plugins/wire"},
	"plugins/host":         {"plugins", "plugins/api/v1", "plugins/wire", "plugins/host/sandbox", "signers"},
	"plugins/host/sandbox": {},
	"plugins/jwt":          {"plugins", "plugins/strictjson", "signers"},
	"plugins/sshcert":      {"plugins", "signers"},
	"plugins/paseto":       {"plugins", "plugins/strictjson", "signers"},

	"daemon/api/v1":  {},
	"daemon/peer":    {},
	"daemon/secret":  {},
	"daemon/audit":   {},
	"daemon/metrics": {},
	"daemon/tokens":  {"plugins"},
	"daemon/config":  {"signers"},
	"daemon/policy":  {"daemon/peer", "plugins", "plugins/strictjson"},
	"daemon/client":  {"daemon/api/v1", "signers", "signers/stream"},
	"daemon/server": {
		"daemon/api/v1", "daemon/audit", "daemon/metrics", "daemon/peer", "daemon/policy",
		"daemon/tokens", "keyring", "plugins", "plugins/host", "plugins/jwt", "plugins/paseto", "plugins/sshcert", "signers", "signers/stream",
	},
	"daemon": {
		"plugins/host/sandbox",
		"daemon/api/v1", "daemon/audit", "daemon/config", "daemon/metrics", "daemon/peer", "daemon/policy",
		"daemon/secret", "daemon/server", "daemon/tokens", "keyring", "keyring/filestore", "plugins", "plugins/host",
		"plugins/jwt", "plugins/paseto", "plugins/sshcert", "signers", "signers/awskms", "signers/cost", "signers/gcpkms", "signers/guard", "signers/pkcs11", "signers/remote", "signers/softkey",
	},
	"daemon/cmd/signet": {
		"conformance", "conformance/faultwire", "conformance/issuertest", "conformance/report", "conformance/shim", "conformance/signertest",
		"daemon", "daemon/api/v1", "daemon/audit", "daemon/client", "daemon/cmd/signet/demo", "daemon/config",
		"plugins", "plugins/host", "plugins/host/sandbox", "plugins/jwt", "plugins/paseto", "plugins/serve", "plugins/sshcert", "signers", "signers/cost", "signers/remote",
	},
	"daemon/cmd/signet/demo": {"conformance/softhsm", "daemon/api/v1", "daemon/audit", "daemon/client", "plugins/jwt"},

	"conformance":              {},
	"conformance/bench":        {},
	"conformance/cmd/failures": {},
	"conformance/softhsm":      {},
	"conformance/shim":         {},
	"conformance/fakekms":      {},
	"conformance/fakegcpkms":   {},
	"conformance/kmskill":      {},
	"conformance/faultwire":    {},
	"conformance/cmd/fakekms":  {"conformance/fakegcpkms", "conformance/fakekms", "conformance/faultwire"},
	"conformance/opencryptoki": {},
	"conformance/openssh":      {},
	"conformance/verifiers":    {},
	"conformance/report":       {"conformance"},

	"conformance/foreign":             {},
	"conformance/foreign/cmd/hostile": {"examples/issuer-cwt", "plugins", "plugins/api/v1", "plugins/wire"},

	"conformance/signertest": {"conformance", "signers"},
	"conformance/storetest":  {"conformance", "keyring", "signers"},
	"conformance/sinktest":   {"conformance", "daemon/audit"},
	"conformance/issuertest": {"conformance", "plugins", "signers"},

	"examples/client-go/cmd/issue-and-call": {"daemon/client"},
	"examples/issuer-cwt":                   {"plugins", "plugins/strictjson", "signers"},
	"examples/issuer-cwt/cmd/issuer-cwt":    {"examples/issuer-cwt", "plugins/serve"},
}

// never are the rules behind the table, with their reasons: no row may break
// one, however it is edited. A name stands for its folder and all below it.
var never = []struct{ from, to, why string }{
	{"signers", "keyring", "where keys live does not know what they are called"},
	{"signers", "plugins", "where keys live does not know what is signed"},
	{"signers", "daemon", "where keys live does not know who asks"},
	{"keyring", "plugins", "what a key is called has nothing to do with what a token looks like"},
	{"keyring", "daemon", "keyring knows no policy, audit or tokens"},
	{"plugins", "keyring", "an issuer must not come near a key"},
	{"plugins", "daemon", "an issuer is written without the daemon"},
	{"daemon/policy", "keyring", "policy decides and never holds a key"},
	{"daemon/policy", "daemon/config", "policy takes profiles, wherever they come from"},
	{"daemon/audit", "signers", "the ledger depends on nothing that it records"},
	{"daemon/audit", "keyring", "the ledger depends on nothing that it records"},
	{"daemon/audit", "plugins", "the ledger depends on nothing that it records"},
	{"daemon/audit", "daemon", "the ledger depends on nothing that it records"},
	{"daemon/peer", "daemon", "who is calling comes from the kernel alone"},
	{"daemon/config", "daemon", "a configuration is plain structs; daemon converts them"},
	{"daemon/client", "keyring", "a client knows the wire alone"},
	{"daemon/client", "plugins", "a client knows the wire alone"},
	{"daemon/server", "daemon/config", "the pipeline takes its parts, not a file"},
	{"daemon/server", "signers/softkey", "the pipeline knows no back-end"},
	{"daemon/server", "signers/pkcs11", "the pipeline knows no back-end"},
	{"signers", "conformance", "production code runs no suite"},
	{"keyring", "conformance", "production code runs no suite"},
	{"plugins", "conformance", "production code runs no suite"},
	{"examples", "conformance", "an example uses what users have"},
	{"examples", "keyring", "an example uses what users have"},
	{"conformance", "signers/softkey", "a suite checks a contract, never an implementation"},
	{"conformance", "signers/pkcs11", "a suite checks a contract, never an implementation"},
	{"conformance", "keyring/filestore", "a suite checks a contract, never an implementation"},
	{"conformance", "plugins/jwt", "a suite checks a contract, never an implementation"},
	{"conformance", "plugins/sshcert", "a suite checks a contract, never an implementation"},
	{"conformance", "plugins/paseto", "a suite checks a contract, never an implementation"},
	{"", "daemon/cmd", "a command is run, not imported"},
}

// exempt are the exceptions to never, each with its reason.
var exempt = map[string]string{
	"daemon/cmd/signet>daemon/cmd/signet/demo": "the demo is a part of the command",
	"daemon/policy>daemon/peer":                "the caller is what policy judges",
	"daemon/client>daemon/api/v1":              "the wire itself",
}

// libraries is who may use which of other people's modules, tests apart, and
// why nobody else does.
var libraries = []struct {
	module, why string
	packages    []string
}{
	{"github.com/miekg/pkcs11", "only one package talks to an HSM, and one sets up a token", []string{"signers/pkcs11", "conformance/opencryptoki"}},
	{"github.com/aws/aws-sdk-go-v2", "one package talks to AWS", []string{"signers/awskms"}},
	{"github.com/aws/aws-sdk-go-v2/config", "one package talks to AWS", []string{"signers/awskms"}},
	{"github.com/aws/aws-sdk-go-v2/service/kms", "one package talks to AWS", []string{"signers/awskms"}},
	{"github.com/aws/smithy-go", "one package talks to AWS", []string{"signers/awskms"}},
	{"cloud.google.com/go/kms", "one package talks to Google, and one answers", []string{"signers/gcpkms", "conformance/fakegcpkms"}},
	{"google.golang.org/api", "one package talks to Google", []string{"signers/gcpkms"}},
	{"github.com/googleapis/gax-go/v2", "one package talks to Google", []string{"signers/gcpkms"}},
	{"filippo.io/age", "only softkey opens key files; init makes their secret", []string{"signers/softkey", "daemon/cmd/signet", "daemon/cmd/signet/demo"}},
	{"github.com/go-jose/go-jose/v4", "JWK and its thumbprint, for the kid and the JWKS", []string{"keyring", "plugins/jwt"}},
	{"aidanwoods.dev/go-paseto", "PASETOs are verified by who did not make them", []string{"plugins/paseto"}},
	{"github.com/fxamacker/cbor/v2", "only the example makes CBOR", []string{"examples/issuer-cwt"}},
	{"github.com/go-json-experiment/json", "there is one strict decoder", []string{"plugins/strictjson"}},
	{"github.com/hashicorp/go-plugin", "only the two ends of a process's wire", []string{"plugins/host", "plugins/serve", "signers/remote"}},
	{"github.com/hashicorp/go-hclog", "only the two ends of a process's wire", []string{"plugins/host", "plugins/serve", "signers/remote"}},
	{"github.com/cedar-policy/cedar-go", "conditions are judged in one place", []string{"daemon/policy"}},
	{"github.com/goccy/go-yaml", "only the configuration is YAML", []string{"daemon/config"}},
	{"github.com/prometheus/client_golang", "every metric has its name in one package", []string{"daemon/metrics"}},
	{"github.com/coreos/go-systemd/v22", "only the daemon is a service", []string{"daemon"}},
	{"github.com/spf13/cobra", "only the command line", []string{"daemon/cmd/signet"}},
	{"google.golang.org/grpc", "only what is on a wire", []string{
		"signers/gcpkms", "conformance/fakegcpkms", "conformance/foreign/cmd/hostile",
		"daemon", "daemon/api/v1", "daemon/client", "daemon/cmd/signet", "daemon/cmd/signet/demo",
		"daemon/peer", "daemon/server", "plugins/api/v1", "plugins/host", "plugins/serve",
		"signers/api/v1", "signers/remote", "signers/stream",
	}},
	{"google.golang.org/protobuf", "only what is on a wire", []string{
		"signers/gcpkms", "conformance/fakegcpkms",
		"daemon/api/v1", "plugins/api/v1", "plugins/host", "plugins/serve", "signers/api/v1",
	}},
	{"go.etcd.io/bbolt", "one package remembers tokens", []string{"daemon/tokens"}},
	{"github.com/sony/gobreaker/v2", "one breaker for every back-end", []string{"signers/guard"}},
	{"golang.org/x/time", "one budget for every back-end", []string{"signers/guard"}},
	{"golang.org/x/sync", "only what must wait in turn, with a deadline", []string{"signers/pkcs11"}},
	{"golang.org/x/crypto", "certificates are read in one package; a key to certify where it is judged, and where a file has it; PASERK's ids are BLAKE2b", []string{
		"daemon/cmd/signet", "daemon/policy", "plugins/paseto", "plugins/sshcert",
	}},
	{"golang.org/x/sys", "only what speaks to the kernel", []string{
		"conformance/shim", "daemon", "daemon/audit", "daemon/cmd/signet", "daemon/peer", "daemon/secret", "plugins/host",
		"plugins/host/sandbox", "plugins/serve", "signers/pkcs11", "signers/remote", "signers/softkey",
	}},
}

// topLevel is what stands at the top of the tree: exactly this, and what
// .gitignore names.
var topLevel = []string{
	".ci", ".git", ".github", ".gitignore", ".golangci.yml", "LICENSE", "README.md",
	"conformance", "daemon", "examples", "go.mod", "go.sum", "keyring", "plugins", "signers",
}

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

// ours is the folder of an import of this module.
func ours(imp *ast.ImportSpec) (string, bool) {
	return strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
}

// under reports whether a folder is another or below it; "" is above all.
func under(dir, top string) bool {
	return top == "" || dir == top || strings.HasPrefix(dir, top+"/")
}

// reason is the rule that an import breaks, "" if none.
func reason(from, to string) string {
	if _, ok := exempt[from+">"+to]; ok || from == to {
		return ""
	}
	for _, n := range never {
		if under(from, n.from) && under(to, n.to) {
			return n.why
		}
	}
	return ""
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
			found = append(found, s.dir+": not in the layer table; hint: give it a row in conformance/imports_test.go")
			continue
		}
		for _, imp := range s.file.Imports {
			if to, is := ours(imp); is && !slices.Contains(allowed, to) {
				why := reason(s.dir, to)
				if why == "" {
					why = "its row in the layer table does not name it"
				}
				found = append(found, fmt.Sprintf("%s imports %s: %s", s.path, to, why))
			}
		}
	}
	return slices.Compact(found)
}

// brokenTestLayers lists what tests import from above them. A suite's own tests
// keep its rule too: they use broken subjects, not real ones.
func brokenTestLayers(all []source) []string {
	var found []string
	for _, s := range all {
		suite := under(s.dir, "conformance") && strings.HasSuffix(s.dir, "test")
		library := under(s.dir, "signers") || under(s.dir, "keyring") || under(s.dir, "plugins")
		if !s.test || !suite && !library {
			continue
		}
		for _, imp := range s.file.Imports {
			to, is := ours(imp)
			if why := reason(s.dir, to); is && why != "" && (suite || !under(to, "conformance")) {
				found = append(found, fmt.Sprintf("%s imports %s: %s", s.path, to, why))
			}
		}
	}
	return found
}

// brokenLibraries lists uses of other people's modules that no row allows.
func brokenLibraries(all []source) []string {
	var found []string
	for _, s := range all {
		for _, imp := range s.file.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			host, _, _ := strings.Cut(name, "/")
			if _, is := ours(imp); s.test || is || !strings.Contains(host, ".") {
				continue
			}
			i := slices.IndexFunc(libraries, func(l struct {
				module, why string
				packages    []string
			}) bool {
				return under(name, l.module)
			})
			switch {
			case i < 0:
				found = append(found, fmt.Sprintf("%s imports %s, which no row of the table of libraries names", s.path, name))
			case !slices.Contains(libraries[i].packages, s.dir):
				found = append(found, fmt.Sprintf("%s imports %s: %s", s.path, name, libraries[i].why))
			}
		}
	}
	return found
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

// keySigns lists the functions of daemon packages that can hold a key and
// name a method Sign, called or not: there is one place where a key is used.
func keySigns(all []source) []string {
	holders := map[string]bool{}
	for _, s := range all {
		for _, imp := range s.file.Imports {
			if to, is := ours(imp); is && !s.test && under(s.dir, "daemon") && (to == "keyring" || to == "signers") {
				holders[s.dir] = true
			}
		}
	}
	var found []string
	for _, s := range all {
		if s.test || !holders[s.dir] || under(s.dir, "daemon/client") {
			continue // a client's Sign is a request
		}
		for _, d := range s.file.Decls {
			name := "a declaration"
			if fn, ok := d.(*ast.FuncDecl); ok {
				name = fn.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sign" && !isPipeline(sel.X) {
					found = append(found, s.dir+"."+name)
				}
				return true
			})
		}
	}
	return found
}

// isPipeline matches s.Pipeline, whose Sign is a lane and leads to finish.
func isPipeline(x ast.Expr) bool {
	sel, ok := x.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Pipeline"
}

// brokenTop lists what stands at the top of a tree and should not, or should
// and does not, and protobufs outside api/v1.
func brokenTop(tree fs.FS) []string {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return []string{err.Error()}
	}
	ignore, _ := fs.ReadFile(tree, ".gitignore") // absent: reported below
	var found []string
	missing := slices.Clone(topLevel)
	for _, e := range entries {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == e.Name() })
		if !slices.Contains(topLevel, e.Name()) && !ignored(string(ignore), e.Name()) {
			found = append(found, e.Name()+": not a name for the top of the tree")
		}
	}
	for _, name := range missing {
		if name != ".git" { // an unpacked archive has none
			found = append(found, name+": missing at the top of the tree")
		}
	}
	err = fs.WalkDir(tree, ".", func(p string, _ fs.DirEntry, err error) error {
		if p == ".git" {
			return fs.SkipDir
		}
		if strings.HasSuffix(p, ".proto") && !strings.HasSuffix(path.Dir(p), "api/v1") {
			found = append(found, p+": protobufs are in api/v1")
		}
		return err
	})
	if err != nil {
		found = append(found, err.Error())
	}
	return found
}

// ignored reports whether a pattern of .gitignore names something at the top.
func ignored(patterns, name string) bool {
	for p := range strings.Lines(patterns) {
		if ok, err := path.Match(strings.Trim(strings.TrimSpace(p), "/"), name); ok && err == nil {
			return true
		}
	}
	return false
}

// tree is the whole checkout.
func tree() fs.FS { return os.DirFS("..") }

// report fails for each finding.
func report(t *testing.T, found []string) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

func TestEachLayerImportsOnlyThoseBelow(t *testing.T) {
	all := sources(t, tree())
	if len(all) < 100 {
		t.Fatalf("%d files were read", len(all))
	}
	report(t, brokenLayers(all))
	report(t, brokenTestLayers(all))
}

func TestEachLibraryHasItsPlace(t *testing.T) { report(t, brokenLibraries(sources(t, tree()))) }

func TestEverythingIsInItsPlace(t *testing.T) {
	report(t, brokenPlaces(sources(t, tree())))
	report(t, brokenTop(tree()))
}

func TestOneFunctionUsesKeys(t *testing.T) {
	got := keySigns(sources(t, tree()))
	if want := []string{"daemon/server.finish"}; !slices.Equal(got, want) {
		t.Errorf("functions that name a Sign: got %v, want %v", got, want)
	}
}

// TestTheTableKeepsItsOwnRules: a row that a hurry added must not undo the
// reason for the table.
func TestTheTableKeepsItsOwnRules(t *testing.T) {
	for from, row := range mayImport {
		for _, to := range row {
			if why := reason(from, to); why != "" {
				t.Errorf("the row of %s names %s: %s", from, to, why)
			}
		}
	}
}

// TestTheTablesAllowNoMoreThanIsUsed: what nobody needs, nobody should have.
func TestTheTablesAllowNoMoreThanIsUsed(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t, tree()) {
		for _, imp := range s.file.Imports {
			to, is := ours(imp)
			if s.test {
				continue
			}
			used[s.dir] = true
			if is {
				used[s.dir+">"+to] = true
			}
			for _, l := range libraries {
				used[s.dir+">"+l.module] = used[s.dir+">"+l.module] || under(strings.Trim(imp.Path.Value, `"`), l.module)
			}
		}
	}
	for from, row := range mayImport {
		for _, to := range row {
			if !used[from+">"+to] {
				t.Errorf("the row of %s names %s, which it does not import", from, to)
			}
		}
	}
	for _, l := range libraries {
		for _, p := range l.packages {
			if !used[p+">"+l.module] {
				t.Errorf("the row of %s names %s, which does not import it", l.module, p)
			}
		}
	}
}

// TestTheTableHasNoDeadRows: a package that is gone takes its row with it.
func TestTheTableHasNoDeadRows(t *testing.T) {
	dirs := map[string]bool{}
	for _, s := range sources(t, tree()) {
		dirs[s.dir] = true
	}
	for dir := range mayImport {
		if !dirs[dir] {
			t.Errorf("%s: in the layer table, but not in the tree", dir)
		}
	}
}

// TestThePlantedFaultsAreCaught breaks each rule in a small tree, and keeps it
// in a second one.
func TestThePlantedFaultsAreCaught(t *testing.T) {
	const imports = "\nimport _ \"github.com/signetd/signet/"
	for _, c := range []struct {
		name, path, bad, good string
		check                 func([]source) []string
	}{
		{"a layer reached upwards", "keyring/x.go", "package keyring" + imports + "daemon/policy\"", "package keyring" + imports + "signers\"", brokenLayers},
		{"an issuer that reaches a key", "plugins/jwt/x.go", "package jwt" + imports + "keyring\"", "package jwt" + imports + "plugins\"", brokenLayers},
		{"a neighbour not in the row", "daemon/metrics/x.go", "package metrics" + imports + "daemon/audit\"", "package metrics\nimport _ \"fmt\"", brokenLayers},
		{"a suite that knows an implementation", "conformance/signertest/x.go", "package signertest" + imports + "signers/softkey\"", "package signertest" + imports + "signers\"", brokenLayers},
		{"a suite's test that does", "conformance/signertest/x_test.go", "package signertest" + imports + "signers/softkey\"", "package signertest" + imports + "signers\"", brokenTestLayers},
		{"a test that reaches upwards", "keyring/x_test.go", "package keyring" + imports + "daemon/audit\"", "package keyring" + imports + "conformance/storetest\"", brokenTestLayers},
		{"a library under signers", "signers/x.go", "package signers\nimport _ \"golang.org/x/sys/unix\"", "package signers\nimport _ \"crypto\"", brokenLibraries},
		{"a library that nobody placed", "daemon/x.go", "package daemon\nimport _ \"example.org/left-pad\"", "package daemon\nimport _ \"github.com/coreos/go-systemd/v22/daemon\"", brokenLibraries},
		{"a package that nobody placed", "daemon/new/x.go", "package x", "", brokenLayers},
		{"main outside cmd", "daemon/x.go", "// Package main is lost.\npackage main", "// Package daemon is.\npackage daemon", brokenPlaces},
		{"a package without a comment", "daemon/x.go", "package daemon", "// Package daemon is.\npackage daemon", brokenPlaces},
		{"code by hand in api/v1", "daemon/api/v1/x.go", "// Package v1 is by hand.\npackage v1", "", brokenPlaces},
		{"generated code elsewhere", "daemon/x.go", "// Code generated by x. DO NOT EDIT.\n\n// Package daemon is.\npackage daemon", "// Package daemon is.\npackage daemon", brokenPlaces},
		{"a second use of a key", "daemon/server/x.go", "package server" + imports + "keyring\"\nfunc sneak() { key.Sign(nil, nil) }", "package server" + imports + "keyring\"\nfunc lane() { s.Pipeline.Sign(nil) }", keySigns},
		{"a key by another name", "daemon/server/x.go", "package server" + imports + "keyring\"\nfunc sneak(k *keyring.Key) { f := k.Sign; f(nil, nil) }", "package server" + imports + "keyring\"\nfunc look(k *keyring.Key) { k.Kid() }", keySigns},
		{"a back-end's key", "daemon/x.go", "package daemon" + imports + "signers\"\nvar sneak = signers.Key.Sign", "package daemon" + imports + "signers\"\nvar open = signers.Backend.Open", keySigns},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.check(sources(t, fstest.MapFS{c.path: {Data: []byte(c.bad)}}))) == 0 {
				t.Error("not caught")
			}
			if c.good == "" {
				return
			}
			report(t, c.check(sources(t, fstest.MapFS{c.path: {Data: []byte(c.good)}})))
		})
	}
}

// TestThePlantedNamesAreCaught does the same for names at the top.
func TestThePlantedNamesAreCaught(t *testing.T) {
	small := fstest.MapFS{".gitignore": {Data: []byte("/signet\n*.test\n")}, "signet": {}, "x.test": {}}
	for _, name := range topLevel {
		if name != ".gitignore" && name != ".git" {
			small[name] = &fstest.MapFile{}
		}
	}
	report(t, brokenTop(small))
	for _, name := range []string{"internal", "Makefile", ".travis.yml", "daemon.proto"} {
		small[name] = &fstest.MapFile{}
		if len(brokenTop(small)) == 0 {
			t.Errorf("%s at the top: not caught", name)
		}
		delete(small, name)
	}
	delete(small, "LICENSE")
	if len(brokenTop(small)) != 1 {
		t.Error("a missing LICENSE: not caught")
	}
}
