package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestWhatNoDumpShowsIsAskedAboutByName(t *testing.T) {
	for _, c := range []struct{ match, asked string }{
		{"-m limit --limit 3/min", "match limit"},
		{"-m hashlimit --hashlimit-upto 1/sec --hashlimit-mode srcip --hashlimit-name x", "match hashlimit"},
		{"-m connlimit --connlimit-above 5 --connlimit-mask 32 --connlimit-saddr", "match connlimit"},
		{"-m connbytes --connbytes 10: --connbytes-dir both --connbytes-mode bytes", "match connbytes"},
		{"-m quota --quota 100", "match quota"},
		{"-m time --timestart 08:00 --kerneltz", "match time in the kernel's time zone"},
		{"-m time --timestart 08:00", "match time of a state that was read nobody knows when"},
		{"-m recent --rcheck --seconds 60 --name x", "match recent"},
		{"-m recent ! --update --name x", "match recent"},
		{"-m cpu --cpu 1", "match cpu"},
		{"-m string --string x --algo bm", "match string"},
		{"-m bpf --bytecode \"1,6 0 0 1\"", "match bpf"},
		{"-m realm --realm 5", "match realm"},
		{"-m devgroup --src-group uplinks", "match devgroup"},
		{"-m conntrack --ctexpire 1:5", "match conntrack --ctexpire"},
		{"-p tcp -m tcp --tcp-option 3", "match tcp --tcp-option"},
		{"-m u32 --u32 \"24=1\"", "match u32"}, // a sequence number
		{"-m oddity --x 1", "match oddity"},
		{"-j SYNPROXY", "target SYNPROXY"},
		{"-j CLUSTERIP --new", "target CLUSTERIP"},

		// What is known decides before anything is asked.
		{"-p udp -m limit --limit 3/min", ""},
		{"-m esp --espspi 1", ""},
		{"-m ah --ahspi 1", ""},
		{"-m u32 --u32 \"9&0xFF000000=0x11000000&&24=1\"", ""},
		{"-p tcp --dport 81 -m oddity --x 1", ""},
		{"-m helper --helper ftp", ""},
		{"-m cgroup --path x", ""}, // of a packet that is not made here
		{"-m ipvs --ipvs", ""},
		{"-p sctp -m sctp --chunk-types any INIT", ""}, // which tests look at (TestSCTPChunks)
	} {
		rule := c.match + " -j DROP"
		if strings.HasPrefix(c.match, "-j") {
			rule = c.match
		}
		env := &fakeEnv{}
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*raw\n:PREROUTING ACCEPT\nCOMMIT\n*filter\n:FORWARD ACCEPT\n-A FORWARD "+rule+"\nCOMMIT\n"))
		st := &State{Packet: packet(), In: "eth0", Out: "eth1"}
		rs.Run(netstack.IPv4, Prerouting, st, env)
		rs.Run(netstack.IPv4, Forward, st, env)
		if asked := strings.Join(slices.Compact(env.asked[:min(len(env.asked), 1)]), ";"); asked != c.asked {
			t.Errorf("%s: asked about %q, want %q", rule, env.asked, c.asked)
		}
	}
}

// TestWhatNoDumpShowsOfASenderIsAskedAboutByName has packets that a socket of this host sends: the groups of its process are
// in no dump, but what is known of it may decide before.
func TestWhatNoDumpShowsOfASenderIsAskedAboutByName(t *testing.T) {
	uid := uint32(1000)
	for _, c := range []struct{ match, asked string }{
		{"-m owner --gid-owner 7", "match owner"},
		{"-m owner ! --gid-owner 7", "match owner"},
		{"-m owner --uid-owner 1000 --gid-owner 7", "match owner"},
		{"-m owner --uid-owner 1001 --gid-owner 7", ""},
		{"-m cgroup --path x", "match cgroup"},
		{"-m cgroup ! --cgroup 5", "match cgroup"},
		{"-p udp -m cgroup --path x", ""},
	} {
		env := &fakeEnv{}
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:OUTPUT ACCEPT\n-A OUTPUT "+c.match+" -j DROP\nCOMMIT\n"))
		p := packet(func(p *netstack.Packet) { p.UID = &uid })
		rs.Run(netstack.IPv4, Output, &State{Packet: p, Out: "eth1", Local: true}, env)
		if asked := strings.Join(env.asked, ";"); asked != c.asked {
			t.Errorf("%s: asked about %q, want %q", c.match, asked, c.asked)
		}
	}
}

func TestOptionsOfTargetsAreChecked(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"-j LOG --log-prefxi x", `f:3: unknown option at "--log-prefxi"`},
		{"-j NFQUEUE --queue-num", `f:3: option needs a value at "--queue-num"`},
		{"-j CONNMARK --set-mark 1 --left-shift-mark 32", `f:3: invalid number for --left-shift-mark at "32"`},
		{"-j CT --zone 65536", `f:3: invalid number for --zone at "65536"`},
		{"-j TCPOPTSTRIP --strip-options mss,x", `f:3: unknown TCP option at "x"`},
		{"-j ECN", `f:3: target has no operation at "ECN"`},
		{"-j HL", `f:3: target has no operation at "HL"`},
		{"-j DSCP", `f:3: target has no operation at "DSCP"`},
		{"-j CLASSIFY --set-class 1", `f:3: invalid class at "1"`},
		{"-j TEE --oif e0", `f:3: target needs --gateway at "TEE"`},
		{"-j TEE --gateway nobody", `f:3: invalid IPv4 address at "nobody"`},
		{"-j HMARK --hmark-offset 1", `f:3: target needs --hmark-mod at "HMARK"`},
		{"-j SNPT --src-pfx fd00::/48", `f:3: target needs --src-pfx and --dst-pfx at "NPT"`},
		{"-j SNPT --src-pfx fd00::1/48", `f:3: invalid prefix for --src-pfx at "fd00::1/48"`},
		{"-j SET --exist", `f:3: target has no operation at "SET"`},
		{"-j SET --add-set x source", `f:3: a set's direction is src or dst at "source"`},
		{"-m time --timestart 25:00 -j DROP", `f:3: invalid time of day for --timestart at "25:00"`},
		{"-m time --datestop 2026-02-30 -j DROP", `f:3: invalid date for --datestop at "2026-02-30"`},
		{"-m time --datestart 1969 -j DROP", `f:3: invalid date for --datestart at "1969"`},
		{"-m time --weekdays Mon,M -j DROP", `f:3: invalid day for --weekdays at "Mon,M"`},
		{"-m time --monthdays 32 -j DROP", `f:3: invalid day for --monthdays at "32"`},
		{"-m u32 --u32 6&0xFF -j DROP", `f:3: invalid test for --u32 at ""`},
		{"-m u32 --u32 6=5:4 -j DROP", `f:3: invalid test for --u32 at "5:4"`},
		{"-m ecn --ecn-ip-ect 4 -j DROP", `f:3: invalid number for --ecn-ip-ect at "4"`},
		{"-m cluster --cluster-total-nodes 2 --cluster-local-node 3 -j DROP", `f:3: the local node is not one of the nodes at "cluster"`},
		{"-m ipv6header --header hop -j DROP", `f:3: no such match in IPv4 at "ipv6header"`},
		{"-m ipvs --vport 0x -j DROP", `f:3: invalid value for --vport at "0x"`},
		{"-m ipvs --vdir SIDEWAYS -j DROP", `f:3: invalid value for --vdir at "SIDEWAYS"`},
		{"-m ipvs --vaddr nobody -j DROP", `f:3: invalid value for --vaddr at "nobody"`},
		{"-m owner --gid-owner x -j DROP", `f:3: invalid group id at "x"`},
	} {
		ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD "+c.rule+"\nCOMMIT\n")
		ns.IPTables[0].File = "f"
		if _, err := Compile(ns); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.rule, err, c.want)
		}
	}
}

// bigSet has 100,000 networks of two addresses, side by side from 10.0.0.0 on.
func bigSet() string {
	var b strings.Builder
	b.WriteString("create big hash:net maxelem 200000\n")
	for i := range 100_000 {
		fmt.Fprintf(&b, "add big 10.%d.%d.%d/31\n", i>>15, i>>7&0xff, i<<1&0xff)
	}
	return b.String()
}

func TestALargeSetKnowsItsElements(t *testing.T) {
	ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m set --match-set big dst -j DROP\nCOMMIT\n")
	ns.IPSet = netstack.Text{File: "s", Data: []byte(bigSet())}
	rs := mustCompile(t, ns)
	for i := range 200_100 {
		p := packet()
		p.Dst = u128{lo: 10<<24 | uint64(i)}.addr(netstack.IPv4)
		want := Accept
		if i < 200_000 {
			want = Drop
		}
		if res := rs.Run(netstack.IPv4, Forward, &State{Packet: p}, &fakeEnv{}); res.Action != want {
			t.Fatalf("%s: action %d, want %d", p.Dst, res.Action, want)
		}
	}
}

// A packet that IPVS has sent on is known by the service that its client asked for.
func TestIPVSIsMatchedByItsConnections(t *testing.T) {
	balance := &Balance{Virtual: netip.MustParseAddrPort("10.96.0.1:443")}
	for _, c := range []struct {
		match            string
		plain, back, own bool // of other packets; of answers; of what goes to a destination
	}{
		{"--ipvs", false, true, true},
		{"! --ipvs", true, false, false},
		{"--vport 443", false, false, true},
		{"! --vport 443", false, false, false},
		{"! --vport 80", false, false, true},
		{"--vaddr 10.96.0.0/16 --vproto tcp --vmethod MASQ", false, false, true},
		{"--vaddr 10.97.0.0/16", false, false, false},
		{"! --vaddr 10.96.0.1", false, false, false},
		{"--vproto udp", false, false, false},
		{"--vmethod GATE", false, false, false},
		{"! --vmethod GATE", false, false, true},
		{"--vdir ORIGINAL", false, false, false}, // the packet is not tracked
	} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m ipvs "+c.match+" -j DROP\nCOMMIT\n"))
		for want, st := range map[*bool]*State{
			&c.plain: {Packet: packet()}, &c.back: {Packet: packet(), Balanced: true}, &c.own: {Packet: packet(), Balanced: true, Balance: balance},
		} {
			st.CT = CTUntracked
			if got := rs.Run(netstack.IPv4, Forward, st, &fakeEnv{}).Action == Drop; got != *want {
				t.Errorf("%s: matches %v, balanced %v of %v", c.match, got, st.Balanced, st.Balance)
			}
		}
	}
}

// TestWhichOfTwoChainsIsYoungerIsAskedAbout has two tables with chains of one hook and one priority. The order matters only where
// both stop the packet, and its sender can tell how.
func TestWhichOfTwoChainsIsYoungerIsAskedAbout(t *testing.T) {
	const order = "the order of chains with one priority (the other one is FORWARD of table filter)"
	for _, c := range []struct {
		name, legacy, nft string
		younger           bool // what the environment answers: that of nft is
		asked             bool
		want              Action
	}{
		{"both drop", "-j DROP", "-j DROP", true, false, Drop},
		{"only the first one stops it", "-j DROP", "-p udp -j REJECT", true, false, Drop},
		{"only the second one stops it", "-p udp -j DROP", "-j REJECT", true, false, Reject},
		{"they reject in one way", "-j REJECT", "-j REJECT", true, false, Reject},
		{"they reject in two ways", "-j REJECT", "-p tcp -j REJECT --reject-with tcp-reset", false, true, Reject},
		{"one drops and one rejects", "-j DROP", "-j MARK --set-mark 5\n-A FORWARD -j REJECT", false, true, Drop},
		{"one rejects and one drops", "-j DROP", "-j MARK --set-mark 5\n-A FORWARD -j REJECT", true, true, Reject},
	} {
		ns := dump(netstack.IPv4, netstack.BackendLegacy, "*filter\n:FORWARD ACCEPT\n-A FORWARD "+c.legacy+"\nCOMMIT\n")
		ns.IPTables = append(ns.IPTables, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD "+c.nft+"\nCOMMIT\n").IPTables...)
		env := &fakeEnv{unknown: map[string]bool{order: c.younger}}
		p := packet()
		var steps []verdict.Step
		res := mustCompile(t, ns).Run(netstack.IPv4, Forward, &State{Packet: p, In: "eth0", Out: "eth1", Steps: &steps}, env)
		if asked := slices.Equal(env.asked, []string{order}); res.Action != c.want || asked != c.asked || !c.asked && len(env.asked) > 0 {
			t.Errorf("%s: %v, asked about %q; want %v, asked %v", c.name, res.Action, env.asked, c.want, c.asked)
		}
		if res.Action == Drop && p.Mark != 0 {
			t.Errorf("%s: a rule that was not met has set the mark %d", c.name, p.Mark)
		}
		if stops := slices.IndexFunc(steps, func(s verdict.Step) bool { return s.Action == "drop" || strings.HasPrefix(s.Action, "reject") }); stops != len(steps)-1 {
			t.Errorf("%s: the steps go on after the one that stops the packet: %v", c.name, steps)
		}
	}
}

// What iptables-nft-save and nft show of different moments is not put together.
func TestChainsThatNftShowsWithOtherRulesAreAskedAbout(t *testing.T) {
	rule := func(chain, expr string) string {
		return fmt.Sprintf(`{"rule": {"family": "ip", "table": "filter", "chain": %q, "handle": 9, "expr": [%s]}}`, chain, expr)
	}
	const (
		inSet   = `{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [80, 81]}}}`
		drop    = `{"drop": null}`
		ordered = `{"counter": {"packets": 0, "bytes": 0}}`
		asked   = "the chain, which nftables shows with other rules than iptables-save"
	)
	for _, c := range []struct {
		name, text, chains string
		rules              []string
		asked, decided     string
	}{
		{"as many", ":more -\n-A FORWARD -p tcp -j DROP\n", "", []string{rule("FORWARD", inSet+","+drop)}, "", `filter/FORWARD rule 1: tcp dport { 80, 81 } drop # handle 9`},
		{"one more in nft", ":more -\n-A FORWARD -p tcp -j DROP\n", "", []string{rule("FORWARD", ordered), rule("FORWARD", inSet+","+drop)}, asked, ""},
		{"one fewer in nft", ":more -\n-A FORWARD -p tcp -j DROP\n-A FORWARD -j ACCEPT\n", "", []string{rule("FORWARD", inSet+","+drop)}, asked, ""},
		{
			"a chain that the text lacks", ":more -\n-A FORWARD\n", `,{"chain": {"family": "ip", "table": "filter", "name": "new"}}`,
			[]string{rule("new", drop), rule("FORWARD", inSet+`, {"jump": {"target": "new"}}`)},
			asked, "",
		},
		{
			"a chain that the text lacks, from a base chain of nft's own", ":more -\n", `,{"chain": {"family": "ip", "table": "filter", "name": "new"}},
{"chain": {"family": "ip", "table": "filter", "name": "own", "type": "filter", "hook": "forward", "prio": 5, "policy": "accept"}}`,
			[]string{rule("new", drop), rule("own", `{"jump": {"target": "new"}}`)},
			asked, "",
		},
		{"a base chain that nft lacks", ":INPUT ACCEPT\n:more -\n-A INPUT -j DROP\n", "", nil, asked, ""},
		{
			"a chain that iptables cannot read", "# Chain `FORWARD' is incompatible, use 'nft' tool.\n:more -\n-A more -j DROP\n", "",
			[]string{rule("FORWARD", inSet+`, {"jump": {"target": "more"}}`), rule("more", drop)},
			"", `filter/more rule 1: -A more -j DROP`,
		},
		{
			"a rule of a chain that iptables cannot read", "# Chain `FORWARD' is incompatible, use 'nft' tool.\n:more -\n", "",
			[]string{rule("FORWARD", `{"xt": {"type": "match", "name": "conntrack"}}, `+drop)},
			"xt match conntrack", "",
		},
		{"a chain that iptables cannot read and nft lacks", "# Chain `new' is incompatible, use 'nft' tool.\n:new -\n:more -\n-A FORWARD -j new\n", "", []string{rule("FORWARD", drop)}, asked, ""},
		{"a base chain that nft lacks, with a policy", ":INPUT DROP\n:more -\n", "", nil, asked, ""},
		{"a base chain that is nowhere", ":INPUT ACCEPT\n:more -\n", "", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n"+c.text+"COMMIT\n")
			ns.NFT = netstack.Text{File: "nft.json", Data: []byte(`{"nftables": [{"table": {"family": "ip", "name": "filter"}},
{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"chain": {"family": "ip", "table": "filter", "name": "more"}}` + strings.Join(append([]string{c.chains}, c.rules...), ",\n") + "]}")}
			env := &fakeEnv{}
			rs := mustCompile(t, ns)
			res := rs.Run(netstack.IPv4, Forward, &State{Packet: packet()}, env)
			if res.Action == Accept {
				res = rs.Run(netstack.IPv4, Input, &State{Packet: packet()}, env)
			}
			if asked := strings.Join(env.asked[:min(len(env.asked), 1)], ";"); asked != c.asked {
				t.Errorf("asked %q, want %q", env.asked, c.asked)
			}
			if c.decided != "" && res.Rule.String() != c.decided {
				t.Errorf("decided by %q, want %q", res.Rule, c.decided)
			}
		})
	}
}
