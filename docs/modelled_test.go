package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheNamesThatAreUnderstoodAreThoseOfTheCode compares the table of modelled.md with the names that the code itself tells apart:
// the cases of its switches, the keys of its tables, the members that it reads.
func TestTheNamesThatAreUnderstoodAreThoseOfTheCode(t *testing.T) {
	code := map[string][]string{
		"tc classifiers":           cases(t, "../simulator/tc/parse.go", "compile", "e.Kind"),
		"keys of flower":           cases(t, "../simulator/tc/match.go", "flowerKey", "key"),
		"tc actions":               cases(t, "../simulator/tc/action.go", "compileAction", "a.kind"),
		"qdiscs":                   cases(t, "../simulator/tc/queue.go", "queueing", "e.Kind"),
		"what actions say":         keysOfTables(t, "../simulator/tc/action.go", "control"),
		"IPVS schedulers":          cases(t, "../simulator/ipvs/schedule.go", "Schedule", "s.Scheduler"),
		"devices":                  slices.Concat(cases(t, "../simulator/link.go", "emit", "link.Kind"), cases(t, "../simulator/tunnel.go", "isRoutedTunnel", "kind"), texts(function(t, "../simulator/tunnel.go", "isTunnel"))),
		"settings of bridge ports": membersRead(t, "../simulator/bundle/link.go", "readBridgePort"),
		"members of policy rules":  slices.DeleteFunc(texts(function(t, "../simulator/bundle/rule.go", "ruleKeys")), func(s string) bool { return s == "" }),
		"actions of policy rules":  keysOfTables(t, "../simulator/bundle/rule.go", "ruleActions"),
		"types of routes":          constantsOf(t, "../simulator/netstack/route.go", "RouteType"),
		"sysctls":                  sysctls(t),
		"sysctls of devices":       deviceSysctls(t),
	}
	documented := make(map[string][]string)
	for line := range strings.Lines(readText(t, "modelled.md")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 || !strings.HasPrefix(line, "| ") || cells[0] == "| names of" {
			continue
		}
		title := strings.TrimPrefix(cells[0], "| ")
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			documented[title] = append(documented[title], m[1])
		}
		slices.Sort(documented[title])
	}
	for title, names := range code {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "" || name[0] >= '0' && name[0] <= '9' && title != "sysctls" })
		slices.Sort(names)
		code[title] = slices.Compact(names)
	}
	if diff := cmp.Diff(code, documented); diff != "" {
		t.Errorf("the code (-) and modelled.md (+):\n%s", diff)
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func function(t *testing.T, file, name string) *ast.FuncDecl {
	t.Helper()
	for _, d := range parse(t, file).Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == name {
			return f
		}
	}
	t.Fatalf("%s has no function %s", file, name)
	return nil
}

// texts are the string literals in a node.
func texts(n ast.Node) (list []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				list = append(list, text)
			}
		}
		return true
	})
	return list
}

// cases are the texts that the switches of a function over an expression tell apart.
func cases(t *testing.T, file, name, tag string) (list []string) {
	t.Helper()
	ast.Inspect(function(t, file, name), func(n ast.Node) bool {
		if s, ok := n.(*ast.SwitchStmt); ok && s.Tag != nil && source(s.Tag) == tag {
			for _, clause := range s.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					list = append(list, texts(e)...)
				}
			}
		}
		return true
	})
	if len(list) == 0 {
		t.Errorf("%s: %s does not tell %s apart", file, name, tag)
	}
	return list
}

// source is a name, or a selected one.
func source(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return source(e.X) + "." + e.Sel.Name
	}
	return ""
}

// keysOfTables are the keys of the maps in a function.
func keysOfTables(t *testing.T, file, name string) (list []string) {
	t.Helper()
	ast.Inspect(function(t, file, name), func(n ast.Node) bool {
		if pair, ok := n.(*ast.KeyValueExpr); ok {
			list = append(list, texts(pair.Key)...)
		}
		return true
	})
	return list
}

// membersRead are the last arguments of the calls in a function that read a member of JSON.
func membersRead(t *testing.T, file, name string) (list []string) {
	t.Helper()
	ast.Inspect(function(t, file, name), func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		switch source(call.Fun) {
		case "s.truth", "s.name", "s.text":
			list = append(list, texts(call.Args[len(call.Args)-1])...)
		}
		return true
	})
	return list
}

// constantsOf are the values of a file's constants of a type.
func constantsOf(t *testing.T, file, typ string) (list []string) {
	t.Helper()
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && source(spec.Type) == typ {
			list = append(list, texts(spec)...)
		}
		return true
	})
	return list
}

// eachFile calls visit with the sources of the simulator.
func eachFile(t *testing.T, visit func(*ast.File)) {
	t.Helper()
	err := filepath.WalkDir("../simulator", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "netstacktest") {
			return err
		}
		visit(parse(t, file))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sysctls are the keys that the simulator names.
func sysctls(t *testing.T) (list []string) {
	t.Helper()
	key := regexp.MustCompile(`^net\.[a-z0-9_]+(\.[a-z0-9_-]+)+$`)
	eachFile(t, func(f *ast.File) {
		for _, text := range texts(f) {
			if key.MatchString(text) && !strings.Contains(text, ".conf.") {
				list = append(list, text)
			}
		}
	})
	return list
}

// deviceSysctls are the settings under net.ipv4.conf and net.ipv6.conf that the simulator asks for: by name, or by a variable that
// has been given a name in the same function.
func deviceSysctls(t *testing.T) (list []string) {
	t.Helper()
	eachFile(t, func(file *ast.File) {
		for _, d := range file.Decls {
			given := make(map[string][]string)
			ast.Inspect(d, func(n ast.Node) bool {
				if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 {
					if lit, ok := a.Rhs[0].(*ast.BasicLit); ok {
						given[source(a.Lhs[0])] = append(given[source(a.Lhs[0])], texts(lit)...)
					}
				}
				return true
			})
			ast.Inspect(d, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 3 {
					return true
				}
				if name, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"ConfSysctl", "confMax", "ConfKey"}, name.Sel.Name) {
					list = append(list, texts(call.Args[2])...)
					list = append(list, given[source(call.Args[2])]...)
				}
				return true
			})
		}
	})
	return list
}
