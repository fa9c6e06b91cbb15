package netfilter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const corpusSets = `create plnf hash:ip family FAMILY hashsize 1024 maxelem 65536 timeout 0
create plnfcnt hash:ip family FAMILY hashsize 1024 maxelem 65536 counters
create plnfskb hash:ip family FAMILY hashsize 1024 maxelem 65536 skbinfo
`

// The restore commands of both backends accept what is printed, and make of it
// the rules that the original makes.
func TestTheRestoreCommandsAcceptWhatIsPrinted(t *testing.T) {
	varying := regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]$`)
	for _, c := range []struct {
		command string
		family  netstack.Family
		backend netstack.Backend
	}{
		{"iptables-nft", netstack.IPv4, netstack.BackendNFT},
		{"iptables-legacy", netstack.IPv4, netstack.BackendLegacy},
		{"ip6tables-nft", netstack.IPv6, netstack.BackendNFT},
		{"ip6tables-legacy", netstack.IPv6, netstack.BackendLegacy},
	} {
		t.Run(c.command, func(t *testing.T) {
			j := newJudge(t)
			name := map[netstack.Family]string{netstack.IPv4: "inet", netstack.IPv6: "inet6"}[c.family]
			sets := strings.ReplaceAll(corpusSets, "FAMILY", name)
			printed, err := PrintIPSet(netstack.Text{File: "f", Data: []byte(sets)})
			if err != nil {
				t.Fatal(err)
			}
			j.in(judgeRouter, string(printed), "ipset", "restore")

			// Rules that this kernel refuses are left out, one by one.
			text := j.accepted(c.command, corpusText(c.family))
			d := dump(c.family, c.backend, text).IPTables[0]
			again := string(printedAgain(t, d))
			j.in(judgeRouter, again, c.command+"-restore", "--test")
			save := func(text string) string {
				j.in(judgeRouter, text, c.command+"-restore")
				return varying.ReplaceAllString(j.in(judgeRouter, "", c.command+"-save"), "")
			}
			want := save(text)
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(save(again), "\n")); diff != "" {
				t.Errorf("loaded as printed (-original +printed):\n%s", diff)
			}
			// And of what the kernel has, the same text is printed.
			d.Data = []byte(want)
			j.in(judgeRouter, string(printedAgain(t, d)), c.command+"-restore", "--test")
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(save(string(printedAgain(t, d))), "\n")); diff != "" {
				t.Errorf("printed from the kernel's own text (-original +printed):\n%s", diff)
			}
		})
	}
}

// accepted leaves those rules out that this kernel refuses.
func (j *judge) accepted(command, text string) string {
	j.t.Helper()
	var script strings.Builder
	table := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "*"):
			table = line
		case strings.HasPrefix(line, "-A"):
			fmt.Fprintf(&script, "%s-restore --noflush <<'EOF' 2>/dev/null || echo %d\n%s\n:SUB -\n%s\nCOMMIT\nEOF\n", command, i, table, line)
		}
	}
	for refused := range strings.FieldsSeq(j.in(judgeRouter, script.String(), "sh")) {
		i, err := strconv.Atoi(refused)
		if err != nil {
			j.t.Fatal(err)
		}
		j.t.Logf("this kernel refuses %s", lines[i])
		lines[i] = "#"
	}
	return strings.Join(lines, "\n")
}
