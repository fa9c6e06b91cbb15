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
// expect. Codes of Kubernetes' objects have to be met in a cluster of real parts, those
// of a network namespace there or by real packets elsewhere; the others may come
// from worlds in bundles, too, for what no kernel here can be brought to. Only
// expectations count: the lines of a scenario's part "expect", codes that Go tests
// have in tables, and, of the others, those that they compare with.
func TestEveryCodeIsExpectedBySomeScenario(t *testing.T) {
	expected := map[verdict.Code][]string{} // where, by code
	add := func(code, where string) {
		if c := verdict.Code(code); !slices.Contains(expected[c], where) {
			expected[c] = append(expected[c], where)
		}
	}
	for _, file := range glob(t, "../e2e/kubernetes/testdata/scenarios/*.txtar") {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range expectedByScenario(archive) {
			add(code, clusters)
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
			where := strings.TrimPrefix(filepath.Dir(file), "../")
			tables, comparisons := expectedByTest(parsed)
			if where == clusters {
				continue // its scenarios are files
			}
			for _, code := range tables {
				add(code, where)
			}
			for _, code := range comparisons {
				add(code, where+" (compares)")
			}
		}
	}
	packets := []string{clusters, "e2e/agreement", "e2e/links", "e2e/ipvs"}
	for _, r := range verdict.Catalogue() {
		where := expected[r.Code]
		t.Logf("%s: %s", r.Code, strings.Join(where, ", "))
		switch sectionOf(r.Code) {
		case ofObjects:
			if !slices.Contains(where, clusters) {
				t.Errorf("no scenario in a cluster expects %s: %q", r.Code, where)
			}
		case ofNamespaces:
			if !slices.ContainsFunc(where, func(w string) bool { return slices.Contains(packets, w) }) {
				t.Errorf("no scenario with real packets expects %s: %q", r.Code, where)
			}
		default:
			if len(where) == 0 {
				t.Errorf("no scenario expects %s", r.Code)
			}
		}
	}
}

// clusters is where the scenarios in clusters of real parts are.
const clusters = "e2e/kubernetes"

// Sections of the catalogue, in its order.
const (
	ofObjects = iota
	ofNamespaces
	ofOthers
)

// sectionOf says which section of the catalogue a code is of, by those that begin one.
func sectionOf(code verdict.Code) int {
	section := ofObjects
	for _, r := range verdict.Catalogue() {
		switch r.Code {
		case verdict.NoListener:
			section = ofNamespaces
		case verdict.SecurityGroupMismatch:
			section = ofOthers
		}
		if r.Code == code {
			return section
		}
	}
	return ofOthers
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var expectation = regexp.MustCompile(`: \S+ (?:reachable|unreachable|degraded|unknown) (\w+)(?:@\S+)?$`)

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

// expectedByTest are the codes that a test's tables have, without a key or by the key
// of an expectation, or that it hands to a judge; and those that it compares with.
func expectedByTest(file *ast.File) (tables, comparisons []string) {
	add := func(codes *[]string, e ast.Expr) {
		if s, ok := e.(*ast.SelectorExpr); ok {
			if from, ok := s.X.(*ast.Ident); ok && from.Name == "verdict" {
				*codes = append(*codes, s.Sel.Name)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if list, ok := n.Type.(*ast.ArrayType); ok && isCode(list.Elt) {
				break // of any codes, perhaps of those that must not be
			}
			for _, e := range n.Elts {
				pair, keyed := e.(*ast.KeyValueExpr)
				if !keyed {
					add(&tables, e)
					continue
				}
				key, ok := pair.Key.(*ast.Ident)
				if !ok {
					continue
				}
				if slices.Contains([]string{"reason", "four", "six", "want"}, key.Name) {
					add(&tables, pair.Value)
				}
				if text, ok := pair.Value.(*ast.BasicLit); ok && key.Name == "fates" {
					if fates, err := strconv.Unquote(text.Value); err == nil {
						for _, m := range fate.FindAllStringSubmatch(fates, -1) {
							tables = append(tables, m[1])
						}
					}
				}
			}
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				add(&comparisons, n.X)
				add(&comparisons, n.Y)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "judge" {
				for _, a := range n.Args {
					add(&tables, a)
				}
			}
		}
		return true
	})
	return tables, comparisons
}

// isCode says whether a type is verdict.Code.
func isCode(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Code"
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
var never = []verdict.Code{verdict.TTLExpired}
func f() { use(verdict.InterfaceDown); judge("", verdict.RoutingLoop) }
`, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	tables, comparisons := expectedByTest(file)
	slices.Sort(tables)
	if want := []string{"IPVSNoService", "NoListener", "NoRoute", "RoutingLoop"}; !slices.Equal(tables, want) || !slices.Equal(comparisons, []string{"MTUExceeded"}) {
		t.Errorf("of the test: %v and %v, want %v", tables, comparisons, want)
	}
}
