package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLeaksAreLookedFor wants every package with tests, in which goroutines are
// started by its code or by its tests, to look for those that its tests leave
// behind: by goleak, in TestMain or in the tests.
func TestLeaksAreLookedFor(t *testing.T) {
	for _, dir := range goList(t, "-f", `{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}`, "./...") {
		starts, looks := false, false
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			looks = looks || strings.HasSuffix(file, "_test.go") && strings.Contains(string(text), `"go.uber.org/goleak"`)
			starts = starts || startsGoroutines(t, file, text)
		}
		if starts && !looks {
			t.Errorf("%s: goroutines are started here, and its tests do not look for leaks with goleak", dir)
		}
	}
}

// startsGoroutines reports whether a file has a go statement, the Go of a group,
// or a server of package httptest.
func startsGoroutines(t *testing.T, file string, text []byte) bool {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.SelectorExpr:
			of, _ := n.X.(*ast.Ident)
			found = found || n.Sel.Name == "Go" || of != nil && of.Name == "httptest" && strings.HasSuffix(n.Sel.Name, "Server")
		}
		return !found
	})
	return found
}
