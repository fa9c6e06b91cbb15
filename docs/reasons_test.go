// Package docs_test holds the documentation against the program.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const notProduced = "Not produced yet"

// sections returns the text of each section of reasons.md, by its heading.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	heading := ""
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimSpace(strings.TrimPrefix(line, "## "))
			if _, twice := found[heading]; twice {
				t.Errorf("two sections %q", heading)
			}
			found[heading] = ""
		case strings.HasPrefix(line, "# "):
			heading = ""
		case heading != "":
			found[heading] += line
		}
	}
	return found
}

func TestEveryCodeHasASection(t *testing.T) {
	found := sections(t)
	seen := map[verdict.Code]bool{}
	for _, r := range verdict.Catalogue() {
		if seen[r.Code] {
			t.Errorf("%s is twice in the catalogue", r.Code)
		}
		seen[r.Code] = true
		text, ok := found[string(r.Code)]
		switch {
		case !ok:
			t.Errorf("docs/reasons.md has no section %q", "## "+r.Code)
		case strings.Contains(text, notProduced):
		default:
			for _, part := range []string{"- **Decided by** ", "- **Example** `", "- **Check** ", "- **Do** "} {
				if strings.Count(text, part) != 1 {
					t.Errorf("the section %s does not have one line %q", r.Code, part)
				}
			}
		}
	}
	for heading := range found {
		if !seen[verdict.Code(heading)] {
			t.Errorf("docs/reasons.md has a section %q, which is no code of the catalogue", heading)
		}
	}
}

// People search for the wording of a message that they have before them.
func TestExamplesHaveTheWordingOfTheCatalogue(t *testing.T) {
	found := sections(t)
	verb := regexp.MustCompile(`%[a-z]`)
	for _, r := range verdict.Catalogue() {
		_, example, ok := strings.Cut(found[string(r.Code)], "- **Example** `")
		if !ok {
			continue
		}
		example, _, _ = strings.Cut(example, "\n")
		rest := example
		for _, words := range verb.Split(r.Phrase, -1) {
			_, after, ok := strings.Cut(rest, words)
			if !ok {
				t.Errorf("the example of %s lacks %q of %q: %s", r.Code, words, r.Phrase, example)
				break
			}
			rest = after
		}
	}
}

func TestEveryReasonHasASeverityAndARemedy(t *testing.T) {
	for _, r := range verdict.Catalogue() {
		switch r.Severity {
		case verdict.SeverityFatal, verdict.SeverityUndecided, verdict.SeverityPartial, verdict.SeverityWarning, verdict.SeverityInfo:
		default:
			t.Errorf("%s has severity %q", r.Code, r.Severity)
		}
		if strings.TrimSpace(r.Remedy) == "" {
			t.Errorf("%s has no remedy", r.Code)
		}
	}
}

func TestFindingsPointToTheirSection(t *testing.T) {
	found := sections(t)
	anchors := map[string]bool{}
	for heading := range found {
		anchors["docs/reasons.md#"+strings.ToLower(heading)] = true
	}
	for _, r := range verdict.Catalogue() {
		if f := verdict.NewFindingf(r.Code, verdict.Where{}, nil, "x"); !anchors[f.Docs] {
			t.Errorf("%s points to %s, which is no section", r.Code, f.Docs)
		}
	}
}

// A reader at night must not look for the cause among codes that no version of
// the program could have reported, nor miss the help for one that it does.
func TestSectionsKnowWhatTheProgramProduces(t *testing.T) {
	used := usedCodes(t)
	for heading, text := range sections(t) {
		file, produced := used[heading]
		switch {
		case produced && strings.Contains(text, notProduced):
			t.Errorf("the section %s says %q, but %s uses it", heading, notProduced, file)
		case !produced && !strings.Contains(text, notProduced):
			t.Errorf("nothing uses %s, but its section does not say %q", heading, notProduced)
		}
	}
}

// usedCodes maps the codes that the program's own code mentions to a file that
// does.
func usedCodes(t *testing.T) map[string]string {
	t.Helper()
	mention := regexp.MustCompile(`\bverdict\.([A-Z][A-Za-z]+)\b`)
	used := map[string]string{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range mention.FindAllSubmatch(text, -1) {
			used[string(m[1])] = filepath.ToSlash(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}
