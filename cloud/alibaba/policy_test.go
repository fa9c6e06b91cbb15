package alibaba_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
)

// TestPolicy holds the policy of the documentation to what is called.
func TestPolicy(t *testing.T) {
	text, err := os.ReadFile("../../docs/cloud.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/cloud.md has no policy")
	}
	var policy struct {
		Version   string
		Statement []struct {
			Effect   string
			Action   []string
			Resource string
		}
	}
	if err := json.Unmarshal(block[1], &policy); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, a := range alibaba.Actions() {
		want = append(want, strings.Replace(a, ".", ":", 1))
	}
	slices.Sort(want)
	if len(policy.Statement) != 1 || policy.Statement[0].Effect != "Allow" {
		t.Fatalf("policy is %+v", policy)
	}
	slices.Sort(policy.Statement[0].Action)
	if d := cmp.Diff(want, policy.Statement[0].Action); d != "" {
		t.Error(d)
	}
}
