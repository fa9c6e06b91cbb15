package judge

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReasonsNameTestsThatExist looks for the tests that are said to judge what random worlds do not.
func TestReasonsNameTestsThatExist(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	exists := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(data, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for feature, reason := range reasons {
		named := regexp.MustCompile(`Test\w+`).FindAllString(reason, -1)
		if len(named) == 0 {
			t.Errorf("%s: %q names no test", feature, reason)
		}
		for _, name := range named {
			if !exists[name] {
				t.Errorf("%s: there is no %s", feature, name)
			}
		}
	}
}

// TestWhatIsMissingHasNoReason counts trials of a feature that decided too seldom, one that could not, and one that did.
func TestWhatIsMissingHasNoReason(t *testing.T) {
	c := coverage{}
	for _, feature := range wanted {
		for range enough {
			c.count([]string{feature}, true)
		}
	}
	c["match:mark"].decided--
	c["match:limit"].decided = 0
	c["link:vlan"].decided = 0
	c["link:vxlan"].decided = 0
	c.declare([]string{"match:new"})
	got := strings.Join(c.missing(Kernel{"vlan": "Unknown device type."}), " ")
	if want := "link:vxlan match:mark match:new"; got != want {
		t.Errorf("missing: %s, want %s", got, want)
	}
}
