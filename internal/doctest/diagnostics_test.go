package doctest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/provider"
)

// gap stands for what differs from case to case in a summary.
const gap = "…"

// sample fills the gaps of a summary.
var sample = strings.NewReplacer(`"`+gap+`"`, `"Some: \"thing\""`, gap, "at least 11 of max_retries")

// summaryArgument is the position of the summary in calls that make a
// diagnostic.
var summaryArgument = map[string]int{
	"AddError": 0, "AddWarning": 0, "NewErrorDiagnostic": 0, "NewWarningDiagnostic": 0,
	"AddAttributeError": 1, "AddAttributeWarning": 1, "NewAttributeErrorDiagnostic": 1, "NewAttributeWarningDiagnostic": 1,
}

// The page about troubleshooting has every summary of the provider's
// diagnostics, under an anchor that the diagnostic links to, and no other.
func TestTroubleshootingHasEveryDiagnostic(t *testing.T) {
	t.Parallel()
	inCode := map[string]string{} // position by anchor
	for _, dir := range []string{"internal/provider", "internal/ledger", "internal/client"} {
		for text, at := range summaries(t, filepath.Join(root, dir)) {
			anchor := provider.TroubleshootingAnchor(text)
			inCode[anchor] = at + ": " + text
			for _, summary := range []string{sample.Replace(text), "Cannot create key: " + sample.Replace(text)} {
				if url := provider.TroubleshootingURL(summary); !strings.HasSuffix(url, "/docs/guides/troubleshooting#"+anchor) {
					t.Errorf("%s: %q links to %q, want #%s", at, summary, url, anchor)
				}
			}
		}
	}
	if len(inCode) < 40 {
		t.Fatalf("only %d summaries found in the code", len(inCode))
	}
	page := read(t, "templates/guides/troubleshooting.md.tmpl")
	onPage := map[string]bool{}
	var headings []string
	for _, match := range regexp.MustCompile(`(?m)^<a id="(.*)"></a>\n\n### (.*)$|^### (.*)$`).FindAllStringSubmatch(page, -1) {
		switch {
		case match[3] != "":
			t.Errorf("the heading %q has no anchor", match[3])
		case provider.TroubleshootingAnchor(match[2]) != match[1]:
			t.Errorf("the heading %q has the anchor %q, want %q", match[2], match[1], provider.TroubleshootingAnchor(match[2]))
		case onPage[match[1]]:
			t.Errorf("the anchor %q is there twice", match[1])
		default:
			onPage[match[1]] = true
			headings = append(headings, match[2])
			if inCode[match[1]] == "" {
				t.Errorf("the code has no diagnostic %q", match[2])
			}
		}
	}
	for anchor, at := range inCode {
		if !onPage[anchor] {
			t.Errorf("%s: templates/guides/troubleshooting.md.tmpl has no heading for it: <a id=%q></a>", at, anchor)
		}
	}
	slices.Sort(headings)
	if diff := cmp.Diff(headings, slices.Sorted(slices.Values(provider.TroubleshootingHeadings()))); diff != "" {
		t.Errorf("the headings of the page, and those that the provider links to:\n%s", diff)
	}
}

// summaries returns the summaries in a folder with their positions.
func summaries(t *testing.T, dir string) map[string]string {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(set, path, nil, 0)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &scan{t: t, set: set, found: map[string]string{}, takesSummary: maps.Clone(summaryArgument)}
	declarations := func(visit func(ast.Decl)) {
		for _, file := range files {
			for _, declaration := range file.Decls {
				visit(declaration)
			}
		}
	}
	// Functions that are given a summary.
	declarations(func(declaration ast.Decl) {
		if function, ok := declaration.(*ast.FuncDecl); ok {
			at := 0
			for _, field := range function.Type.Params.List {
				for _, name := range field.Names {
					if name.Name == "summary" {
						s.takesSummary[function.Name.Name] = at
					}
					at++
				}
			}
		}
	})
	declarations(func(declaration ast.Decl) {
		s.function, _ = declaration.(*ast.FuncDecl)
		ast.Inspect(declaration, s.visit)
	})
	return s.found
}

type scan struct {
	t        *testing.T
	set      *token.FileSet
	function *ast.FuncDecl // nil outside of functions
	found    map[string]string
	// takesSummary is the position of the summary in calls, by function.
	takesSummary map[string]int
}

func (s *scan) visit(node ast.Node) bool {
	switch node := node.(type) {
	case *ast.CallExpr:
		name := ""
		switch function := node.Fun.(type) {
		case *ast.SelectorExpr:
			name = function.Sel.Name
		case *ast.Ident:
			name = function.Name
		}
		if i, ok := s.takesSummary[name]; ok && i < len(node.Args) {
			s.add(node.Args[i])
		}
	case *ast.CompositeLit: // client.FieldProblem, and the titles in the table of scopes
		name, ok := node.Type.(*ast.Ident)
		if ok && name.Name == "explanation" && len(node.Elts) > 0 {
			s.add(node.Elts[0])
		}
		if ok && name.Name == "FieldProblem" {
			for _, element := range node.Elts {
				if pair, ok := element.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Summary" {
					s.add(pair.Value)
				}
			}
		}
	case *ast.FuncLit: // the check of a stringCheck
		if results := node.Type.Results; results != nil && len(results.List) > 0 && len(results.List[0].Names) > 0 && results.List[0].Names[0].Name == "summary" {
			s.addReturned(node.Body)
		}
	case *ast.FuncDecl:
		// Titles of failed requests, and the reports of the ledger.
		if node.Name.Name == "explain" || node.Name.Name == "Summary" {
			s.addReturned(node.Body)
		}
	}
	return true
}

func (s *scan) addReturned(body *ast.BlockStmt) {
	ast.Inspect(body, func(node ast.Node) bool {
		if _, ok := node.(*ast.FuncLit); ok {
			return false
		}
		if statement, ok := node.(*ast.ReturnStmt); ok {
			s.add(statement.Results[0])
		}
		return true
	})
}

func (s *scan) add(expression ast.Expr) {
	text, ok := s.text(expression)
	if !ok {
		s.t.Errorf("%s: this test cannot tell which summary this is", s.set.Position(expression.Pos()))
		return
	}
	// "Cannot create key: TITLE": the title has the anchor.
	if _, title, ok := strings.Cut(text, ": "); ok {
		text = title
	}
	if strings.Trim(text, gap) != "" {
		s.found[text] = s.set.Position(expression.Pos()).String()
	}
}

var verbs = regexp.MustCompile(`%[a-z]`)

// text is a summary with gaps; a gap alone where it was made elsewhere.
func (s *scan) text(expression ast.Expr) (string, bool) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := s.text(e.X)
		right, ok2 := s.text(e.Y)
		return left + right, ok && ok2
	case *ast.CallExpr:
		if selector, ok := e.Fun.(*ast.SelectorExpr); ok {
			switch selector.Sel.Name {
			case "Sprintf":
				format, ok := s.text(e.Args[0])
				return verbs.ReplaceAllString(strings.ReplaceAll(format, "%q", `"`+gap+`"`), gap), ok
			case "Summary":
				return gap, true
			}
		}
		return gap, true // string(p.Field)
	case *ast.SelectorExpr: // p.Summary
		return gap, true
	case *ast.Ident:
		return s.variable(e.Name)
	}
	return "", false
}

// variable is the first value of a variable or constant of the function, and
// a gap for a parameter or a result of a call.
func (s *scan) variable(name string) (text string, ok bool) {
	text, ok = gap, true
	if s.function == nil {
		return text, ok
	}
	ast.Inspect(s.function, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for i, left := range node.Lhs {
				if target, isIdent := left.(*ast.Ident); isIdent && len(node.Lhs) == len(node.Rhs) && target.Name == name && node.Tok == token.DEFINE {
					text, ok = s.text(node.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			if node.Names[0].Name == name && len(node.Values) == 1 {
				text, ok = s.text(node.Values[0])
			}
		}
		return true
	})
	return text, ok
}

// The parser of this test understands the forms that the code uses.
func TestSummariesOfExample(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	code := `package p
func f(d D, name string) {
	const fixed = "Fixed"
	joined := "Cannot " + name + " key"
	d.AddError("Plain", "detail")
	d.AddAttributeWarning(path, "Invalid "+name, "detail")
	d.AddError(fixed+": "+name, "detail")
	d.AddError(joined, "detail")
	d.AddWarning(v.Summary(), "detail")
}
func lookup(name, summary string) { d.AddError(summary, name) }
func g(d D) {
	noun, several := "thing", true
	d.AddError("Cannot read "+noun, "detail")
	lookup("x", "Not found")
}
func (o *Over) Summary() string { return fmt.Sprintf("Pool %q holds %d", o.a, o.b) }
func explain(e *E) (title, advice string) { return "a title", "advice" }
var c = check{func(v string) (summary, problem string) { return "Invalid thing", "problem" }}
var w = FieldProblem{Field: "x", Summary: "A warning"}
var e = explanation{"in a table", "advice"}
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for text := range summaries(t, dir) {
		got = append(got, text)
	}
	slices.Sort(got)
	want := []string{"A warning", "Cannot read thing", "Cannot … key", "Invalid thing", "Invalid …", "Not found", "Plain", `Pool "…" holds …`, "a title", "in a table"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("summaries %q, want %q", got, want)
	}
}
