package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheTestsThatFidelityNamesExist looks for each test of the tables in fidelity.md, and for the case behind its slash:
// a sentence in the package's tests, or a rule set.
func TestTheTestsThatFidelityNamesExist(t *testing.T) {
	text, err := os.ReadFile("fidelity.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\|.*\\|((?: *`Test[^`]+`,?)+) *\\| *(\\S+) *\\|$")
	name := regexp.MustCompile("`(Test[^`/]+)(?:/([^`]+))?`")
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 30 {
		t.Fatalf("the table of fidelity.md has %d rows that name tests", len(rows))
	}
	sources := map[string]string{}
	for _, r := range rows {
		dir := filepath.Join("..", r[2])
		if _, read := sources[dir]; !read {
			sources[dir] = testSources(t, dir)
		}
		for _, m := range name.FindAllStringSubmatch(r[1], -1) {
			if !strings.Contains(sources[dir], "\nfunc "+m[1]+"(t *testing.T) {") {
				t.Errorf("%s has no test %s", r[2], m[1])
			}
			if m[2] == "" || strings.Contains(sources[dir], `"`+m[2]+`"`) {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, "testdata", "rulesets", m[2]+".txtar")); err != nil {
				t.Errorf("%s: %s has no case %q", r[2], m[1], m[2])
			}
		}
	}
}

func testSources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
