package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestEveryCodeIsExpectedBySomeScenario holds the catalogue against what tests
// expect: scenarios in clusters of real parts, scenarios with real packets in
// network namespaces and in the virtual machine, and worlds from bundles for what
// none of their kernels can be brought to. Only expectations count: the lines of a
// scenario's part "expect", and codes that Go tests have in tables or compare with.
func TestEveryCodeIsExpectedBySomeScenario(t *testing.T) {
	expected := map[string][]string{} // where, by code
	add := func(code, where string) {
		if !slices.Contains(expected[code], where) {
			expected[code] = append(expected[code], where)
		}
	}
	for _, file := range glob(t, "../e2e/kubernetes/testdata/scenarios/*.txtar") {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range expectedByScenario(archive) {
			add(code, "e2e/kubernetes")
		}
	}
	for _, pattern := range []string{
		"../e2e/*/*_test.go", "../e2e/kubernetes/watch/*_test.go", "../simulator/*_test.go", "../simulator/plugin/*_test.go",
		"../exporter/*_test.go", "../confirm/*_test.go", "../cloud/*/*_test.go",
	} {
		for _, file := range glob(t, pattern) {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, code := range expectedByTest(parsed) {
				add(code, strings.TrimPrefix(filepath.Dir(file), "../"))
			}
		}
	}
	for _, r := range verdict.Catalogue() {
		where := expected[string(r.Code)]
		if len(where) == 0 {
			t.Errorf("no scenario expects %s", r.Code)
			continue
		}
		t.Logf("%s: %s", r.Code, strings.Join(where, ", "))
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var expectation = regexp.MustCompile(`: \S+ (?:reachable|unreachable|degraded|unknown) (\w+)$`)

// expectedByScenario are the codes in the part "expect".
func expectedByScenario(archive *txtar.Archive) (codes []string) {
	for _, part := range archive.Files {
		for line := range strings.Lines(string(part.Data)) {
			line = strings.TrimSpace(line)
			if m := expectation.FindStringSubmatch(line); m != nil && part.Name == "expect" && !strings.HasPrefix(line, "#") {
				codes = append(codes, m[1])
			}
		}
	}
	return codes
}

// fate is an outcome with its reason, as the tables of e2e/ipvs write it.
var fate = regexp.MustCompile(`(?m): \w[\w-]*/([A-Z]\w+)$`)

// expectedByTest are the codes that a test's tables have, without a key or by the
// key of an expectation; that it compares with; and that it hands to a judge.
func expectedByTest(file *ast.File) (codes []string) {
	add := func(e ast.Expr) {
		if s, ok := e.(*ast.SelectorExpr); ok {
			if from, ok := s.X.(*ast.Ident); ok && from.Name == "verdict" {
				codes = append(codes, s.Sel.Name)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				pair, keyed := e.(*ast.KeyValueExpr)
				if !keyed {
					add(e)
					continue
				}
				key, ok := pair.Key.(*ast.Ident)
				if !ok {
					continue
				}
				if slices.Contains([]string{"reason", "four", "six", "want"}, key.Name) {
					add(pair.Value)
				}
				if text, ok := pair.Value.(*ast.BasicLit); ok && key.Name == "fates" {
					if fates, err := strconv.Unquote(text.Value); err == nil {
						for _, m := range fate.FindAllStringSubmatch(fates, -1) {
							codes = append(codes, m[1])
						}
					}
				}
			}
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				add(n.X)
				add(n.Y)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "judge" {
				for _, a := range n.Args {
					add(a)
				}
			}
		}
		return true
	})
	return codes
}

func TestOnlyExpectationsCount(t *testing.T) {
	archive := txtar.Parse([]byte("# a -> b 1/tcp: timeout unreachable NoRoute\n-- fault --\nx -> y 1/tcp: timeout unreachable NoRoute\n" +
		"-- expect --\n# a -> b 1/tcp: timeout unreachable NoRoute\na -> b 1/tcp: refused unreachable NoListener\n"))
	if got := expectedByScenario(archive); !slices.Equal(got, []string{"NoListener"}) {
		t.Errorf("of the scenario: %v", got)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "x_test.go", `package x
// verdict.NoRoute
var input = verdict.Finding{Code: verdict.NoCarrier}
var table = []test{{reason: verdict.NoListener, fates: "tcp c: refused/IPVSNoService\n\t\ttcp n: p q"}, {"other", verdict.NoRoute}}
var _ = r.Reason() != verdict.MTUExceeded
func f() { use(verdict.InterfaceDown); judge("", verdict.RoutingLoop) }
`, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := expectedByTest(file)
	slices.Sort(got)
	if want := []string{"IPVSNoService", "MTUExceeded", "NoListener", "NoRoute", "RoutingLoop"}; !slices.Equal(got, want) {
		t.Errorf("of the test: %v, want %v", got, want)
	}
}
