package netfilter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestTheKernelTakesOneOfTheWaysThatAreWalked has what is asked about met by packets: with one answer the packet is dropped,
// with the other it passes, and the kernel does one of them. What goes to NFQUEUE is not walked on.
func TestTheKernelTakesOneOfTheWaysThatAreWalked(t *testing.T) {
	for _, command := range []string{"iptables-nft-restore", "iptables-legacy-restore"} {
		t.Run(command, func(t *testing.T) {
			j := newJudge(t)
			j.in(judgeRouter, "create counted hash:ip counters\nadd counted 10.77.1.2\n", "ipset", "restore")
			var text strings.Builder
			if command == "iptables-nft-restore" { // the other one wants a logger, which not every kernel has
				text.WriteString("*raw\n-A PREROUTING -p tcp -j TRACE\nCOMMIT\n")
			}
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
