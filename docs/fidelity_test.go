package docs_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheTestsThatFidelityNamesExist looks for each name of the last table of fidelity.md in the packages of its row, and for the
// case behind its slash: a sentence in the package's tests, a rule set, or a scenario.
func TestTheTestsThatFidelityNamesExist(t *testing.T) {
	_, table, found := strings.Cut(readText(t, "fidelity.md"), "\n| behaviour | test | package |\n|---|---|---|\n")
	if !found {
		t.Fatal("fidelity.md has no table of behaviours and tests")
	}
	tests := testsOfTheModule(t)
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 {
			t.Errorf("not a row of three cells: %s", line)
			continue
		}
		rows++
		names := quoted.FindAllStringSubmatch(cells[2], -1)
		if len(names) == 0 {
			t.Errorf("no test is named for %s", cells[1])
		}
		packages := strings.Split(strings.TrimSpace(cells[3]), ", ")
		idle := slices.Clone(packages) // those that no name is of
		for _, m := range names {
			in := func(dir string) bool { return tests[dir].has(m[1]) }
			if !slices.ContainsFunc(packages, in) {
				t.Errorf("%s has no test %s", strings.Join(packages, ", "), m[1])
			}
			idle = slices.DeleteFunc(idle, in)
		}
		if len(idle) > 0 {
			t.Errorf("none of the tests for %s is in %s", cells[1], strings.Join(idle, ", "))
		}
	}
	if rows < 30 {
		t.Errorf("the table has %d rows", rows)
	}
}

// TestWhatTheDocumentationNamesExists looks for each test and fuzzer of all pages, and for each file of the repository. An ellipsis
// stands for the rest of a name, and "_" for spaces, as go test prints them.
func TestWhatTheDocumentationNamesExists(t *testing.T) {
	tests := testsOfTheModule(t)
	pages := append(glob(t, "*.md"), glob(t, "runbooks/*.md")...)
	for _, page := range append(pages, "../README.md") {
		for _, m := range quoted.FindAllStringSubmatch(readText(t, page), -1) {
			name := m[1]
			top, _, inside := strings.Cut(name, "/")
			switch {
			case strings.HasPrefix(name, "Test"), strings.HasPrefix(name, "Fuzz"):
				if !anyKey(tests, func(dir string) bool { return tests[dir].has(name) }) {
					t.Errorf("%s: there is no test %s", page, name)
				}
			case inside && top != "" && top != ".." && len(glob(t, filepath.Join("..", top))) > 0 && !strings.Contains(name, " ") && !strings.Contains(name, "NAME"):
				if len(glob(t, filepath.Join("..", name))) == 0 {
					t.Errorf("%s: there is no file %s", page, name)
				}
			}
		}
	}
}

// TestTheNumbersOfFidelity holds what fidelity.md counts against what is there.
func TestTheNumbersOfFidelity(t *testing.T) {
	fuzzers := 0
	for _, p := range testsOfTheModule(t) {
		for name := range p.functions {
			if strings.HasPrefix(name, "Fuzz") {
				fuzzers++
			}
		}
	}
	text := strings.Join(strings.Fields(readText(t, "fidelity.md")), " ")
	for _, want := range []string{
		fmt.Sprintf("`make fuzz` runs all %d ", fuzzers),
		fmt.Sprintf("Each of %d scenarios is a manifest, a fault or both", len(glob(t, "../e2e/kubernetes/testdata/scenarios/*.txtar"))),
		fmt.Sprintf("loads %d rule sets as other software writes them", len(glob(t, "../e2e/judge/testdata/rulesets/*.txtar"))),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("fidelity.md does not say %q", want)
		}
	}
}

// quoted is a word of code, such as the name of a test.
var quoted = regexp.MustCompile("`([^`\n]+)`")

// packageTests are the tests of a package, with all texts of their sources.
type packageTests struct {
	dir       string
	functions map[string]bool
	texts     map[string]bool
}

// has says whether there is a test, and its case.
func (p *packageTests) has(name string) bool {
	if p == nil {
		return false
	}
	name, sub, _ := strings.Cut(name, "/")
	if prefix, open := strings.CutSuffix(name, "…"); open {
		return anyKey(p.functions, func(f string) bool { return strings.HasPrefix(f, prefix) })
	}
	if !p.functions[name] || sub == "" {
		return p.functions[name]
	}
	if scenario, found := strings.CutPrefix(sub, "*/"); found { // of every cluster
		sub = scenario
	}
	for _, kind := range []string{"rulesets", "scenarios"} {
		if files, _ := filepath.Glob(filepath.Join("..", p.dir, "testdata", kind, sub+".txtar")); len(files) > 0 {
			return true
		}
	}
	sub, open := strings.CutSuffix(sub, "…")
	return anyKey(p.texts, func(text string) bool {
		return text == sub || strings.ReplaceAll(text, " ", "_") == sub || open && strings.HasPrefix(strings.ReplaceAll(text, " ", "_"), sub)
	})
}

func anyKey[V any](set map[string]V, holds func(string) bool) bool {
	for key := range set {
		if holds(key) {
			return true
		}
	}
	return false
}

// testsOfTheModule reads all tests, by directory.
func testsOfTheModule(t *testing.T) map[string]*packageTests {
	t.Helper()
	all := make(map[string]*packageTests)
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed := parse(t, file)
		dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../")
		p := all[dir]
		if p == nil {
			p = &packageTests{dir: dir, functions: make(map[string]bool), texts: make(map[string]bool)}
			all[dir] = p
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				p.functions[f.Name.Name] = true
			}
		}
		for _, text := range texts(parsed) {
			p.texts[text] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
