package conformance

import (
	"fmt"
	"go/ast"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The limits of a tree that stays simple to live in.
const (
	longestFunction = 80 // lines between braces
	medianFunction  = 10
	longestFile     = 400
	longestTestFile = 700
	mostMethods     = 5
	leastComment    = 12 // per cent of lines, over the tree
	mostComment     = 30
)

// functionLengths are the lines between the braces of each function.
func functionLengths(s source) map[string]int {
	lengths := map[string]int{}
	for _, d := range s.file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			from, to := s.fset.Position(fn.Body.Lbrace).Line, s.fset.Position(fn.Body.Rbrace).Line
			lengths[fmt.Sprintf("%s:%d %s", s.path, from, fn.Name.Name)] = max(0, to-from-1)
		}
	}
	return lengths
}

// tooLong lists functions and files over the limits, and interfaces with too
// many methods.
func tooLong(all []source) []string {
	var found []string
	for _, s := range all {
		if s.generated {
			continue
		}
		limit := longestFile
		if s.test {
			limit = longestTestFile
		}
		if n := strings.Count(s.text, "\n"); n > limit {
			found = append(found, fmt.Sprintf("%s: %d lines, the limit is %d", s.path, n, limit))
		}
		for name, n := range functionLengths(s) {
			if n > longestFunction {
				found = append(found, fmt.Sprintf("%s: %d lines, the limit is %d", name, n, longestFunction))
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok && i.Methods.NumFields() > mostMethods {
				found = append(found, fmt.Sprintf("%s: an interface with %d methods", s.path, i.Methods.NumFields()))
			}
			return true
		})
	}
	return found
}

// undocumented lists exported names without a comment.
func undocumented(all []source) []string {
	var found []string
	for _, s := range all {
		if s.test || s.generated {
			continue
		}
		for _, d := range s.file.Decls {
			for name, documented := range exported(d) {
				if !documented {
					found = append(found, s.path+": "+name+" has no comment")
				}
			}
		}
	}
	return found
}

// exported are the exported names of a declaration, and whether each has a
// comment: its own, or the group's.
func exported(d ast.Decl) map[string]bool {
	names := map[string]bool{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			names[d.Name.Name] = d.Doc != nil
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() {
					names[spec.Name.Name] = d.Doc != nil || spec.Doc != nil
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if n.IsExported() {
						names[n.Name] = d.Doc != nil || spec.Doc != nil || spec.Comment != nil
					}
				}
			}
		}
	}
	return names
}

func receiverExported(recv *ast.FieldList) bool {
	t := recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// clocks lists calls of time.Now outside daemon.go, main packages and tests.
func clocks(all []source) []string {
	var found []string
	for _, s := range all {
		if s.test || s.path == "daemon/daemon.go" || strings.Contains("/"+s.dir+"/", "/cmd/") {
			continue
		}
		if strings.Contains(s.text, "time.Now(") {
			found = append(found, s.path+": calls time.Now; take the clock from the caller")
		}
	}
	return found
}

func TestNothingIsTooLong(t *testing.T) {
	for _, long := range tooLong(sources(t, os.DirFS(".."))) {
		t.Error(long)
	}
}

func TestEveryExportedNameIsDocumented(t *testing.T) {
	for _, name := range undocumented(sources(t, os.DirFS(".."))) {
		t.Error(name)
	}
}

func TestTheClockIsPassedIn(t *testing.T) {
	for _, call := range clocks(sources(t, os.DirFS(".."))) {
		t.Error(call)
	}
}

func TestTheTreeIsSimple(t *testing.T) {
	var lengths []int
	lines, comments := 0, 0
	for _, s := range sources(t, os.DirFS("..")) {
		if s.test || s.generated {
			continue
		}
		for _, n := range functionLengths(s) {
			lengths = append(lengths, n)
		}
		lines += strings.Count(s.text, "\n")
		for _, g := range s.file.Comments {
			comments += strings.Count(g.Text(), "\n")
		}
	}
	slices.Sort(lengths)
	median, share := lengths[len(lengths)/2], 100*comments/lines
	t.Logf("%d functions, median %d lines; %d lines, %d %% comment", len(lengths), median, lines, share)
	if median >= medianFunction {
		t.Errorf("the median function has %d lines, want under %d", median, medianFunction)
	}
	if share < leastComment || share > mostComment {
		t.Errorf("%d %% of lines are comments, want %d to %d", share, leastComment, mostComment)
	}
}

func TestThePlantedStyleFaultsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name, text string
		check      func([]source) []string
	}{
		{"a long function", "package x\nfunc f() {" + strings.Repeat("\n", longestFunction+2) + "}", tooLong},
		{"a long file", "package x\n" + strings.Repeat("\n", longestFile), tooLong},
		{"a wide interface", "package x\ntype i interface { a(); b(); c(); d(); e(); f() }", tooLong},
		{"an exported name without a comment", "package x\nfunc F() {}", undocumented},
		{"an exported method without a comment", "package x\n// T is.\ntype T struct{}\nfunc (t *T) F() {}", undocumented},
		{"a clock of its own", "package x\nvar now = time.Now()", clocks},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{"keyring/x.go": {Data: []byte(c.text)}}
			if len(c.check(sources(t, tree))) == 0 {
				t.Error("not caught")
			}
		})
	}
}
