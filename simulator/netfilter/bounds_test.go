package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// countForward passes a packet through FORWARD, and counts the rules that it met.
func countForward(rs *Ruleset, p *netstack.Packet) (res Result, met int, steps []verdict.Step) {
	st := &State{Packet: p, In: "eth0", Out: "eth1", Conntrack: NewConntrack(), Steps: &steps}
	res = rs.Run(netstack.IPv4, Forward, st, &fakeEnv{})
	return res, st.run.steps, steps
}

// chainsOf writes n chains from C0 on, in which rules(i) are those of chain i.
func chainsOf(n int, rules func(i int) string) string {
	var chains, text strings.Builder
	for i := range n {
		fmt.Fprintf(&chains, ":C%d - [0:0]\n", i)
		text.WriteString(rules(i))
	}
	return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + chains.String() + "-A FORWARD -j C0\n" + text.String() + "COMMIT\n"
}

func TestAThousandChainsInARow(t *testing.T) {
	const n = 1000
	for _, how := range []string{"-j", "-g"} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendLegacy, chainsOf(n, func(i int) string {
			if i == n-1 {
				return fmt.Sprintf("-A C%d -p tcp -j DROP\n", i)
			}
			return fmt.Sprintf("-A C%d %s C%d\n", i, how, i+1)
		})))
		res, met, _ := countForward(rs, packet())
		if res.Action != Drop || res.Rule.Chain != "C999" || met != n+1 {
			t.Errorf("%s: %v by %s after %d rules", how, res.Action, res.Rule, met)
		}
	}
}

// TestChainsThatBranchAtEveryStep has 2^40 ways through its chains, all of them
// without an end: the kernel would be busy for hours with one packet.
func TestChainsThatBranchAtEveryStep(t *testing.T) {
	rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendLegacy, chainsOf(41, func(i int) string {
		if i == 40 {
			return "-A C40 -j RETURN\n"
		}
		return strings.Repeat(fmt.Sprintf("-A C%d -j C%d\n", i, i+1), 2)
	})))
	res, met, steps := countForward(rs, packet())
	if res.Action != Exhausted || res.Rule.Table != "filter" || res.Rule.Number == 0 || met != maxSteps+1 || len(steps) != maxTraced {
		t.Errorf("%v at %s after %d rules, of which %d are shown", res.Action, res.Rule, met, len(steps))
	}
}

func TestLoopsOfJumpAndGotoAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"jump":      chainsOf(3, func(i int) string { return fmt.Sprintf("-A C%d -j C%d\n", i, (i+1)%3) }),
		"goto":      chainsOf(3, func(i int) string { return fmt.Sprintf("-A C%d -g C%d\n", i, (i+1)%3) }),
		"to itself": chainsOf(1, func(int) string { return "-A C0 -g C0\n" }),
	} {
		_, err := Compile(dump(netstack.IPv4, netstack.BackendLegacy, text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(syntax.Msg, "form a loop") || !strings.HasPrefix(syntax.Token, "C") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLargeSets looks elements of sets with 100,000 up, the last of them too.
func TestLargeSets(t *testing.T) {
	const n = 100_000
	element := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}) }
	var save, list, concat, ranges strings.Builder
	save.WriteString("create big hash:ip family inet hashsize 1024 maxelem 200000\n")
	for i := range n {
		fmt.Fprintf(&save, "add big %s\n", element(i))
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(&list, `%s%q`, sep, element(i))
		fmt.Fprintf(&concat, `%s{"concat":[%q,80]}`, sep, element(i))
		fmt.Fprintf(&ranges, `%s{"concat":[{"range":["21.%d.%d.%d","21.%d.%d.%d"]},{"range":[80,81]}]}`, sep, i>>15, i>>7&255, i<<1&255, i>>15, i>>7&255, i<<1&255+1)
	}
	set := func(name, typ, flags, elements string) string {
		return fmt.Sprintf(`{"set":{"family":"ip","table":"t","name":%q,"type":%s,%s"elem":[%s]}}`, name, typ, flags, elements)
	}
	rule := func(left, set string) string {
		return fmt.Sprintf(`{"rule":{"family":"ip","table":"t","chain":"c","expr":[{"match":{"op":"==","left":%s,"right":"@%s"}},{"drop":null}]}}`, left, set)
	}
	const src, port = `{"payload":{"protocol":"ip","field":"saddr"}}`, `{"payload":{"protocol":"tcp","field":"dport"}}`
	nft := `{"nftables":[{"table":{"family":"ip","name":"t"}},` +
		set("single", `"ipv4_addr"`, "", list.String()) + "," +
		set("double", `["ipv4_addr","inet_service"]`, "", concat.String()) + "," +
		set("spans", `["ipv4_addr","inet_service"]`, `"flags":["interval"],`, ranges.String()) + "," +
		`{"chain":{"family":"ip","table":"t","name":"c","type":"filter","hook":"forward","prio":0,"policy":"accept"}},%s]}`
	both := fmt.Sprintf(`{"concat":[%s,%s]}`, src, port)
	for _, which := range []string{"ipset", "single", "double", "spans"} {
		ns := &netstack.Namespace{}
		last := element(n - 1)
		switch which {
		case "ipset":
			ns = dump(netstack.IPv4, netstack.BackendLegacy, chainsOf(1, func(int) string { return "-A C0 -m set --match-set big src -j DROP\n" }))
			ns.IPSet = netstack.Text{File: "ipset-save.txt", Data: []byte(save.String())}
		case "single":
			ns.NFT = netstack.Text{File: "nft.json", Data: fmt.Appendf(nil, nft, rule(src, which))}
		default:
			ns.NFT = netstack.Text{File: "nft.json", Data: fmt.Appendf(nil, nft, rule(both, which))}
			if which == "spans" {
				last = netip.MustParseAddr("21.3.13.62")
			}
		}
		rs := mustCompile(t, ns)
		for addr, want := range map[netip.Addr]Action{last: Drop, netip.MustParseAddr("19.0.0.1"): Accept, netip.MustParseAddr("22.0.0.1"): Accept} {
			res, _, _ := countForward(rs, packet(func(p *netstack.Packet) { p.Src = addr }))
			if res.Action != want {
				t.Errorf("%s: %s gets %v, not %v", which, addr, res.Action, want)
			}
		}
	}
}

// TestRangesOfConcatenationsAreFound holds the look-up of ranges against trying
// all of them.
func TestRangesOfConcatenationsAreFound(t *testing.T) {
	s := newNFTSet("s")
	s.types = []nftType{nftInteger, nftInteger}
	for i := range 300 {
		a, b := uint64(i*7919%200), uint64(i*104729%200)
		first, last := nftKey{{lo: a}, {lo: b}}, nftKey{{lo: a + uint64(i%9)}, {lo: b + uint64(i%40) + 1}}
		s.ranges = append(s.ranges, nftRange{first: first, last: last, index: i})
	}
	all := slices.Clone(s.ranges)
	s.sortRanges()
	for a := range uint64(210) {
		for b := range uint64(210) {
			key := nftKey{{lo: a}, {lo: b}}
			want := -1
			for i := range all {
				if all[i].contains(&key, 2) {
					want = all[i].index
					break
				}
			}
			if got := s.lookup(&key); got != want {
				t.Fatalf("%d . %d is in element %d, not %d", a, b, got, want)
			}
		}
	}
}

// TestTenThousandServicesAllocateLittle holds what rules of kube-proxy cost in memory to what docs/performance.md promises:
// when they are read, and for a packet to the last Service, however many there are.
func TestTenThousandServicesAllocateLittle(t *testing.T) {
	var before, after runtime.MemStats
	ns := proxied("iptables", 10_000)
	runtime.ReadMemStats(&before)
	mustCompile(t, ns)
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 1e6; n > 100 {
		t.Errorf("%d MB to read %d MB of rules", n, len(ns.IPTables[0].Data)/1e6)
	}
	for _, mode := range []string{"iptables", "nftables"} {
		for _, n := range []int{100, 10_000} {
			rs := mustCompile(t, proxied(mode, n))
			env := &fakeEnv{addrs: map[string]string{"eth0": "192.168.0.1"}}
			var st State
			pieces := testing.AllocsPerRun(100, func() {
				p := netstack.Packet{
					Src: proxyrules.PodCIDR.Addr().Next(), Dst: services(n).ClusterIP(n - 1), Protocol: netstack.ProtoTCP,
					SrcPort: 40000, DstPort: proxyrules.ServicePort, TCPFlags: netstack.SYN, Length: 60, TTL: 64, MSS: 1460,
				}
				st.Conntrack = NewConntrack()
				toLastService(t, rs, env, &p, &st)
			})
			if pieces > 6 {
				t.Errorf("%s, %d Services: a packet allocates %v pieces", mode, n, pieces)
			}
			if st.run.steps > 20 {
				t.Errorf("%s, %d Services: a packet meets %d rules", mode, n, st.run.steps)
			}
		}
	}
}
