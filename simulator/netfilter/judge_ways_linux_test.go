package netfilter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// judgeWays are conditions that no snapshot decides, each with the name by which it is asked about, and what the kernel
// makes of a rule that drops on it.
var judgeWays = []struct {
	match, asked string
	holds        bool
}{
	{"-m limit --limit 1000/s", "match limit", true},
	{"-m hashlimit --hashlimit-upto 1000/s --hashlimit-mode srcip --hashlimit-name plnf1", "match hashlimit", true},
	{"-m hashlimit --hashlimit-above 1000/s --hashlimit-mode srcip --hashlimit-name plnf2", "match hashlimit", false},
	{"-m connlimit --connlimit-upto 10000", "match connlimit", true},
	{"-m connlimit --connlimit-above 10000", "match connlimit", false},
	{"-m connbytes --connbytes 1000000: --connbytes-dir both --connbytes-mode bytes", "match connbytes", false},
	{"-m quota --quota 1000000", "match quota", true},
	{"-m rateest --rateest plnfw --rateest-lt --rateest-bps 1gbit", "match rateest", true},
	{"-m time --timestart 00:00 --timestop 23:59:59", "match time", true},
	{"-m time --datestop 2001-01-01", "match time", false},
	{"-m cpu --cpu 1000", "match cpu", false},
	{"-m recent --rcheck --name plnf", "match recent", false},
	{"-m recent ! --rcheck --name plnf", "match recent", true},
	{"-m string --string x --algo bm", "match string", true},
	{"-m string ! --string x --algo kmp --from 2000", "match string", true},
	{"-m string --string \"nobody sends this\" --algo kmp", "match string", false},
	{"-m bpf --bytecode \"1,6 0 0 1\"", "match bpf", true},
	{"-m bpf --bytecode \"1,6 0 0 0\"", "match bpf", false},
	{"-m osf --genre Linux", "match osf", false}, // no fingerprints are loaded
	{"-m realm --realm 0", "match realm", true},
	{"-m realm --realm 5", "match realm", false},
	{"-m conntrack --ctexpire 1:1000000", "match conntrack --ctexpire", true},
	{"-m conntrack --ctexpire 1000000:2000000", "match conntrack --ctexpire", false},
	{"-m tcp --tcp-option 8", "match tcp --tcp-option", true},
	{"-m tcp --tcp-option 77", "match tcp --tcp-option", false},
	{"-m u32 --u32 \"4>>16=1,2\" -m u32 --u32 \"4>>16=3,4\"", "match u32", false}, // the identifier of IPv4
	{"-m set --match-set counted src --packets-gt 1000000", "set counted (counters of its elements)", false},
	{"-j NFQUEUE --queue-num 4711", "", true}, // nobody listens
	{"-j NFQUEUE --queue-num 4711 --queue-bypass", "", false},
}

// TestTheKernelTakesOneOfTheWaysThatAreWalked has what is asked about met by packets: with one answer the packet is dropped,
// with the other it passes, and the kernel does one of them. What goes to NFQUEUE is not walked on.
func TestTheKernelTakesOneOfTheWaysThatAreWalked(t *testing.T) {
	for _, command := range []string{"iptables-nft-restore", "iptables-legacy-restore"} {
		t.Run(command, func(t *testing.T) {
			j := newJudge(t)
			j.in(judgeRouter, "create counted hash:ip counters\nadd counted 10.77.1.2\n", "ipset", "restore")
			var text strings.Builder
			text.WriteString("*mangle\n-A FORWARD -j RATEEST --rateest-name plnfw --rateest-interval 250ms --rateest-ewmalog 500ms\nCOMMIT\n*filter\n:FORWARD ACCEPT\n")
			probes := make([]probe, len(judgeWays))
			for i, w := range judgeWays {
				*j.sourcePort++
				probes[i] = probe{name: w.match, from: judgeClient, network: "tcp", dst: "10.77.2.2", port: uint16(1000 + i), src: *j.sourcePort}
				j.listen(judgeServer, "tcp", probes[i].port)
				fmt.Fprintf(&text, "-A FORWARD -p tcp --dport %d %s", probes[i].port, w.match)
				if !strings.HasPrefix(w.match, "-j") {
					text.WriteString(" -j DROP")
				}
				text.WriteString("\n")
			}
			j.in(judgeRouter, text.String()+"COMMIT\n", command)
			rs := mustCompile(t, j.rulesOf())
			got := j.tryAll(probes)
			for i, w := range judgeWays {
				p := probes[i]
				passes := fmt.Sprintf("port %d from 10.77.1.2", p.port)
				want := passes
				if w.holds {
					want = "dropped"
				}
				for range 3 {
					if got[i] != "dropped" || want == got[i] {
						break
					}
					*j.sourcePort++
					p.src = *j.sourcePort
					got[i] = j.try(p) // silence proves nothing on a busy machine
				}
				if got[i] != want {
					t.Errorf("%s: the kernel says %q, want %q", w.match, got[i], want)
				}
				if w.asked == "" {
					if end := (&judgeEnv{t: t}).simulate(rs, p); end != "taken" {
						t.Errorf("%s: Run says %q", w.match, end)
					}
					continue
				}
				for answer, want := range map[bool]string{true: "dropped", false: passes} {
					env := &judgeEnv{t: t, answer: answer}
					if end := env.simulate(rs, p); end != want || !slices.Contains(env.unknown, w.asked) {
						t.Errorf("%s: Run says %q to the answer %v, having asked about %q", w.match, end, answer, env.unknown)
					}
				}
			}
		})
	}
}
