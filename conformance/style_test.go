package conformance

import (
	"fmt"
	"go/ast"
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
	leastComment    = 12 // per cent of lines that are not blank, over the tree
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

// clocks lists uses of time.Now, called or not, outside daemon.go, main
// packages and tests.
func clocks(all []source) []string {
	var found []string
	for _, s := range all {
		if s.test || s.path == "daemon/daemon.go" || strings.Contains("/"+s.dir+"/", "/cmd/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Now" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					found = append(found, fmt.Sprintf("%s: time.Now; take the clock from the caller", s.fset.Position(sel.Pos())))
				}
			}
			return true
		})
	}
	return found
}

// initialisers lists init functions: a package that is imported does nothing.
func initialisers(all []source) []string {
	var found []string
	for _, s := range all {
		for _, d := range s.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil && !s.generated {
				found = append(found, s.path+": func init; call it by name")
			}
		}
	}
	return found
}

// notSimple holds the tree as a whole against the limits, and says what it found.
func notSimple(all []source) (figures string, found []string) {
	var lengths []int
	lines, comments := 0, 0
	for _, s := range all {
		if s.test || s.generated {
			continue
		}
		for _, n := range functionLengths(s) {
			lengths = append(lengths, n)
		}
		for line := range strings.Lines(s.text) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		for _, g := range s.file.Comments {
			comments += strings.Count(g.Text(), "\n")
		}
	}
	if len(lengths) == 0 || lines == 0 {
		return "nothing", []string{"no function was read"}
	}
	slices.Sort(lengths)
	median, share := lengths[len(lengths)/2], 100*comments/lines
	if median >= medianFunction {
		found = append(found, fmt.Sprintf("the median function has %d lines, want under %d", median, medianFunction))
	}
	if share < leastComment || share > mostComment {
		found = append(found, fmt.Sprintf("%d %% of lines are comments, want %d to %d", share, leastComment, mostComment))
	}
	return fmt.Sprintf("%d functions, median %d lines; %d lines, %d %% comment", len(lengths), median, lines, share), found
}

func TestNothingIsTooLong(t *testing.T) { report(t, tooLong(sources(t, tree()))) }

func TestEveryExportedNameIsDocumented(t *testing.T) { report(t, undocumented(sources(t, tree()))) }

func TestTheClockIsPassedIn(t *testing.T) { report(t, clocks(sources(t, tree()))) }

func TestNothingHappensOnImport(t *testing.T) { report(t, initialisers(sources(t, tree()))) }

func TestTheTreeIsSimple(t *testing.T) {
	figures, found := notSimple(sources(t, tree()))
	t.Log(figures)
	report(t, found)
}

// TestThePlantedStyleFaultsAreCaught goes one past each limit, and up to it.
func TestThePlantedStyleFaultsAreCaught(t *testing.T) {
	simple := func(all []source) []string {
		_, found := notSimple(all)
		return found
	}
	function := func(lines int) string { return "package x\nfunc f() {" + strings.Repeat("\n", lines+1) + "}" }
	commented := func(comments, code int) string {
		return "package x\nfunc f() {}\n" + strings.Repeat("// why\n", comments) + strings.Repeat("var _ = 0\n", code)
	}
	for _, c := range []struct {
		name, bad, good string
		check           func([]source) []string
	}{
		{"a long function", function(longestFunction + 1), function(longestFunction), tooLong},
		{"a long file", "package x" + strings.Repeat("\n", longestFile+1), "package x" + strings.Repeat("\n", longestFile), tooLong},
		{"a wide interface", "package x\ntype i interface { a(); b(); c(); d(); e(); f() }", "package x\ntype i interface { a(); b(); c(); d(); e() }", tooLong},
		{"an exported name without a comment", "package x\nfunc F() {}", "package x\n// F is.\nfunc F() {}", undocumented},
		{"an exported method without a comment", "package x\n// T is.\ntype T struct{}\nfunc (t *T) F() {}", "package x\ntype t struct{}\nfunc (t *t) F() {}", undocumented},
		{"an exported constant without a comment", "package x\nconst C = 1", "package x\nconst C = 1 // is", undocumented},
		{"a clock of its own", "package x\nvar now = time.Now()", "package x\nvar now = clock.Now()", clocks},
		{"a clock handed on", "package x\nvar now = time.Now", "package x\nvar then = time.Unix", clocks},
		{"work on import", "package x\nfunc init() {}", "package x\nfunc (t) init() {}", initialisers},
		{"long functions everywhere", function(medianFunction), commented(20, 80), simple},
		{"too few comments", commented(leastComment-2, 100-leastComment), commented(leastComment+1, 97-leastComment), simple},
		{"too many comments", commented(mostComment+2, 96-mostComment), commented(mostComment-1, 99-mostComment), simple},
		{"an empty tree", "package x", commented(20, 80), simple},
	} {
		t.Run(c.name, func(t *testing.T) {
			small := func(text string) []source {
				return sources(t, fstest.MapFS{"keyring/x.go": {Data: []byte(text)}})
			}
			if len(c.check(small(c.bad))) == 0 {
				t.Error("not caught")
			}
			report(t, c.check(small(c.good)))
		})
	}
}

// TestTestsHaveLimitsOfTheirOwn: a table of cases may be longer than code.
func TestTestsHaveLimitsOfTheirOwn(t *testing.T) {
	lines := func(n int) []source {
		text := "package x" + strings.Repeat("\n", n)
		return sources(t, fstest.MapFS{"keyring/x_test.go": {Data: []byte(text)}})
	}
	report(t, tooLong(lines(longestTestFile)))
	if len(tooLong(lines(longestTestFile+1))) == 0 {
		t.Error("a long test file: not caught")
	}
}
