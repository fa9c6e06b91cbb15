package judge

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// devicesOf are those that a rule set names where the kernel wants them to be there.
var devicesOf = regexp.MustCompile(`(?:device|fwd to|dup to|\b[io]if(?: !=)?) "?([a-z0-9_]+)"?`)

// notReadBack are maps to data of several parts: nft 1.0.6 prints and does not read them.
var notReadBack = regexp.MustCompile(`(?m)^\{"map": .*"name": "([^"]+)".*"map": "[a-z0-9_]+ \. .*\n`)

// agree loads a rule set into the thread's namespace, where what the kernel says of it over netlink has to be what the
// tool prints, and has to compile.
func agree(t *testing.T, what, text string, made map[string]bool) {
	t.Helper()
	for _, m := range devicesOf.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if !made[name] && name != "lo" {
			made[name] = true
			nftcheck.Run(t, "", "ip", "link", "add", name, "type", "veth", "peer", "name", fmt.Sprintf("peer%d", len(made)))
		}
	}
	if err := nftcheck.Load(text); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	diff, err := nftcheck.Difference(t)
	if err != nil || diff != "" {
		t.Errorf("%s: %v\n%s", what, err, diff)
		return
	}
	live, _ := nftcheck.Live(t)
	rs, err := netfilter.Compile(&netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: live}})
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if rules, _ := rs.Coverage(); rules == 0 {
		t.Errorf("%s: no rule was compiled", what)
	}
	printed, err := netfilter.PrintNFT(netstack.Text{File: "nft.json", Data: live})
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	again := string(printed)
	for _, m := range notReadBack.FindAllStringSubmatch(again, -1) {
		again = strings.Replace(again, m[0], "", 1)
		again = regexp.MustCompile(`(?m)^\{"rule": .*"@`+m[1]+`".*\n`).ReplaceAllString(again, "")
	}
	nftcheck.Run(t, "", "nft", "flush", "ruleset")
	again = strings.Replace(again, ",\n]}", "\n]}", 1)
	if err := nftcheck.Try(again, "nft", "-c", "-j", "-f", "-"); err != nil {
		t.Errorf("%s: nft does not take what is printed: %v", what, err)
	}
}

func TestRulesOfOtherSoftwareAreReadOverNetlinkAsNftPrintsThem(t *testing.T) {
	files, err := filepath.Glob("testdata/rulesets/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	nftcheck.Namespace(t)
	made, loaded := make(map[string]bool), 0
	for _, file := range files {
		r, err := ReadRuleset(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.archive.Files {
			if strings.HasSuffix(f.Name, "/nft") {
				agree(t, r.Name+" "+f.Name, string(f.Data), made)
				loaded++
			}
		}
	}
	if loaded < 5 {
		t.Errorf("%d rule sets were loaded", loaded)
	}
}

// The rule sets of random worlds, many at once: each has a table of its own.
func TestRandomRulesAreReadOverNetlinkAsNftPrintsThem(t *testing.T) {
	const worlds, batch = 500, 10
	needRoot(t)
	kernel, err := AskKernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nftcheck.Namespace(t)
	made, loaded := make(map[string]bool), 0
	for first := 0; first < worlds; first += batch {
		var text strings.Builder
		for index := first; index < first+batch; index++ {
			w := Generate(7, uint64(index), []string{"nft"}, kernel)
			for n := range w.Namespaces {
				for i := range w.Elements {
					if e := &w.Elements[i]; e.Tool == ToolNFT && e.Namespace == w.Namespaces[n].Name {
						own := fmt.Sprintf("%d%s", index, e.Namespace)
						text.WriteString(strings.NewReplacer(" judge", " judge"+own, "inet other", "inet other"+own).Replace(e.Text) + "\n")
						loaded++
					}
				}
			}
		}
		agree(t, fmt.Sprintf("worlds from %d on", first), text.String(), made)
	}
	t.Logf("%d commands of %d worlds", loaded, worlds)
}
