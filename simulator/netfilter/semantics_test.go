package netfilter

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// forward runs the packet through FORWARD of a filter table.
func forward(t *testing.T, rules string, st *State, env Env) Result {
	t.Helper()
	rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n:A -\n"+rules+"COMMIT\n"))
	return rs.Run(netstack.IPv4, Forward, st, env)
}

func TestAnUnknownMatchMakesOnlyItsOwnRuleUndecidable(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		unknown     []string // answered with yes
		want        Action
		number      int
		asked       []string
	}{
		{
			name:  "a known match that fails settles the rule",
			rules: "-A FORWARD -m oddity --x -p udp -j DROP\n-A FORWARD -j DROP\n", want: Drop, number: 2,
		},
		{
			name:  "an unknown match that fails lets the next rule decide",
			rules: "-A FORWARD -m oddity -j ACCEPT\n-A FORWARD -j DROP\n", want: Drop, number: 2, asked: []string{"match oddity"},
		},
		{
			name:  "an unknown match that holds decides",
			rules: "-A FORWARD -m oddity -j DROP\n", unknown: []string{"match oddity"}, want: Drop, number: 1, asked: []string{"match oddity"},
		},
		{
			name:  "two unknown matches are asked about in turn",
			rules: "-A FORWARD -m limit --limit 1/s -m oddity -j DROP\n", unknown: []string{"match limit"}, want: Accept, asked: []string{"match limit", "match oddity"},
		},
		{
			name:  "a rule without a target asks nothing",
			rules: "-A FORWARD -m oddity\n", want: Accept,
		},
		{
			name:  "an unknown target may drop",
			rules: "-A FORWARD -j ODDITY --x\n", unknown: []string{"target ODDITY"}, want: Drop, number: 1, asked: []string{"target ODDITY"},
		},
		{
			name:    "an unknown target may accept, so that later rules do not count",
			rules:   "-A FORWARD -j ODDITY --x\n-A FORWARD -j DROP\n",
			unknown: []string{"target ODDITY (accepting the packet)"}, want: Accept, asked: []string{"target ODDITY", "target ODDITY (accepting the packet)"},
		},
		{
			name:  "an unknown target may go on",
			rules: "-A FORWARD -j ODDITY --x\n-A FORWARD -j DROP\n", want: Drop, number: 2,
			asked: []string{"target ODDITY", "target ODDITY (accepting the packet)"},
		},
		{
			name:  "an unknown rule of a chain that is not entered is not asked about",
			rules: "-A FORWARD -p udp -j A\n-A A -m oddity -j DROP\n", want: Accept,
		},
		{
			name:  "recent --set matches, recent --rcheck cannot be known",
			rules: "-A FORWARD -m recent --set --name X -p udp -j DROP\n-A FORWARD -m recent --rcheck --name X -j DROP\n", want: Accept, asked: []string{"match recent"},
		},
		{
			name:  "a queue is for a program to decide",
			rules: "-A FORWARD -j NFQUEUE --queue-num 1 --queue-bypass\n-A FORWARD -j DROP\n", want: Queue, number: 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := &fakeEnv{unknown: make(map[string]bool)}
			for _, u := range c.unknown {
				env.unknown[u] = true
			}
			res := forward(t, c.rules, &State{Packet: packet()}, env)
			if res.Action != c.want || res.Rule.Number != c.number {
				t.Errorf("action %d by rule %d, want %d by %d", res.Action, res.Rule.Number, c.want, c.number)
			}
			if diff := cmp.Diff(c.asked, env.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatisticIsABranchWithAProbability(t *testing.T) {
	for _, c := range []struct {
		name, match string
		pick        int
		weights     []float64
		want        Action
	}{
		{"random, hit", "--mode random --probability 0.25", 0, []float64{0.25, 0.75}, Drop},
		{"random, missed", "--mode random --probability 0.25", 1, []float64{0.25, 0.75}, Accept},
		{"negated", "--mode random ! --probability 0.25", 0, []float64{0.75, 0.25}, Drop},
		{"every fourth packet", "--mode nth --every 4 --packet 0", 0, []float64{0.25, 0.75}, Drop},
		{"every packet", "--mode nth --every 1 --packet 0", 1, nil, Drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := &fakeEnv{pick: c.pick}
			res := forward(t, "-A FORWARD -m statistic "+c.match+" -j DROP\n", &State{Packet: packet()}, env)
			if res.Action != c.want || !slices.Equal(env.weights, c.weights) {
				t.Errorf("action %d, weights %v; want %d, %v", res.Action, env.weights, c.want, c.weights)
			}
		})
	}
}

func TestANumgenMapIsABranchWithWeights(t *testing.T) {
	const text = `{"nftables": [{"table": {"family": "ip", "name": "t"}},
{"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"rule": {"family": "ip", "table": "t", "chain": "f", "handle": 3, "expr": [{"vmap": {"key": {"numgen": {"mode": "random", "mod": 4, "offset": 0}},
 "data": {"set": [[{"range": [0, 2]}, {"accept": null}], [3, {"drop": null}]]}}}]}}]}`
	rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(text)}})
	for pick, want := range []Action{Accept, Drop} {
		env := &fakeEnv{pick: pick}
		res := rs.Run(netstack.IPv4, Forward, &State{Packet: packet()}, env)
		if res.Action != want || !slices.Equal(env.weights, []float64{0.75, 0.25}) {
			t.Errorf("pick %d: action %d, weights %v", pick, res.Action, env.weights)
		}
	}
}

func TestTablesThatIptablesOwnsAreEvaluatedOnce(t *testing.T) {
	const text = `{"nftables": [{"table": {"family": "ip", "name": "filter"}},
{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 3, "expr": [{"xt": {"type": "target", "name": "ODDITY"}}]}},
{"table": {"family": "ip", "name": "own"}},
{"chain": {"family": "ip", "table": "own", "name": "c", "type": "filter", "hook": "forward", "prio": 1, "policy": "drop"}}]}`
	nft := netstack.Text{File: "nft.json", Data: []byte(text)}

	ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\nCOMMIT\n")
	ns.NFT = nft
	env := &fakeEnv{}
	res := mustCompile(t, ns).Run(netstack.IPv4, Forward, &State{Packet: packet()}, env)
	if want := "own/c policy: DROP"; res.Rule.String() != want || len(env.asked) != 0 {
		t.Errorf("with the dump: %v, asked %q; want %s", res.Rule, env.asked, want)
	}

	for name, ns := range map[string]*netstack.Namespace{
		"without a dump":       {NFT: nft},
		"with a legacy dump":   dump(netstack.IPv4, netstack.BackendLegacy, "*filter\n:FORWARD ACCEPT\nCOMMIT\n"),
		"with the other table": dump(netstack.IPv4, netstack.BackendNFT, "*raw\nCOMMIT\n"),
	} {
		ns.NFT = nft
		env := &fakeEnv{}
		mustCompile(t, ns).Run(netstack.IPv4, Forward, &State{Packet: packet()}, env)
		if len(env.asked) == 0 || env.asked[0] != "statement xt target ODDITY" {
			t.Errorf("%s: asked %q", name, env.asked)
		}
	}
}

func TestTranslationsAreReportedAndUndone(t *testing.T) {
	rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, `*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
-A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.0.1.2:8080
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
`))
	env := &fakeEnv{addrs: map[string]string{"eth1": "192.168.0.1"}}
	ct := NewConntrack()
	var steps []verdict.Step
	p := packet(func(p *netstack.Packet) { p.Dst = addr("10.96.0.1") })
	st := &State{Packet: p, In: "eth0", Conntrack: ct, Namespace: "node", Steps: &steps}
	rs.Run(netstack.IPv4, Prerouting, st, env)
	st.Out = "eth1"
	rs.Run(netstack.IPv4, Postrouting, st, env)
	if got, want := p.String(), "tcp 192.168.0.1:40000 > 10.0.1.2:8080"; got != want {
		t.Fatalf("request is %s, want %s", got, want)
	}
	want := []verdict.Translation{
		{Kind: "dnat", Where: "node", From: "10.96.0.1:80", To: "10.0.1.2:8080", Rule: "-A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.0.1.2:8080"},
		{Kind: "masquerade", Where: "node", From: "10.0.0.1:40000", To: "192.168.0.1:40000", Rule: "-A POSTROUTING -o eth1 -j MASQUERADE"},
	}
	if diff := cmp.Diff(want, st.Translations); diff != "" {
		t.Errorf("translations (-want +got):\n%s", diff)
	}
	wantSteps := []verdict.Step{
		{Stage: "nat/PREROUTING", Chain: "PREROUTING", Rule: want[0].Rule, Action: "dnat", Packet: "tcp 10.0.0.1:40000 > 10.0.1.2:8080"},
		{Stage: "nat/POSTROUTING", Chain: "POSTROUTING", Rule: want[1].Rule, Action: "masquerade", Packet: "tcp 192.168.0.1:40000 > 10.0.1.2:8080"},
	}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}

	reply := packet(func(p *netstack.Packet) {
		p.Src, p.Dst, p.SrcPort, p.DstPort = addr("10.0.1.2"), addr("192.168.0.1"), 8080, 40000
		p.TCPFlags = netstack.SYN | netstack.ACK
	})
	st = &State{Packet: reply, In: "eth1", Conntrack: ct}
	rs.Run(netstack.IPv4, Prerouting, st, env)
	if got, want := reply.String(), "tcp 10.0.1.2:8080 > 10.0.0.1:40000"; got != want {
		t.Errorf("reply after PREROUTING is %s, want %s", got, want)
	}
	rs.Run(netstack.IPv4, Postrouting, st, env)
	if got, want := reply.String(), "tcp 10.96.0.1:80 > 10.0.0.1:40000"; got != want {
		t.Errorf("reply after POSTROUTING is %s, want %s", got, want)
	}
	if st.CT != CTEstablished || !st.Reply {
		t.Errorf("reply is %v, reply direction %v", st.CT, st.Reply)
	}

	// A router behind the node answers the translated request with an error.
	inner := *p
	icmp := &netstack.Packet{Src: addr("10.0.1.1"), Dst: addr("192.168.0.1"), Protocol: netstack.ProtoICMP, ICMPType: 3, ICMPCode: 1, TTL: 64}
	st = &State{Packet: icmp, Inner: &inner, In: "eth1", Conntrack: ct}
	rs.Run(netstack.IPv4, Prerouting, st, env)
	rs.Run(netstack.IPv4, Postrouting, st, env)
	if st.CT != CTRelated {
		t.Errorf("the error is %v", st.CT)
	}
	if got, want := icmp.Dst.String(), "10.0.0.1"; got != want {
		t.Errorf("the error goes to %s, want %s", got, want)
	}
	if got, want := st.Inner.String(), "tcp 10.0.0.1:40000 > 10.96.0.1:80"; got != want {
		t.Errorf("the error quotes %s, want %s", got, want)
	}
}

func TestConnectionTrackingIsOnOnlyWhereARuleNeedsIt(t *testing.T) {
	for _, c := range []struct {
		rules string
		want  CTState
	}{
		{"*filter\n:FORWARD ACCEPT\n-A FORWARD -p tcp -j DROP\nCOMMIT\n", CTNone},
		{"*nat\n:PREROUTING ACCEPT\nCOMMIT\n", CTNone},
		{"*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate NEW -j DROP\nCOMMIT\n", CTNew},
		{"*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n", CTNew},
		{"*mangle\n:FORWARD ACCEPT\n-A FORWARD -j CONNMARK --save-mark\nCOMMIT\n", CTNew},
	} {
		st := &State{Packet: packet()}
		mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, c.rules)).Run(netstack.IPv4, Prerouting, st, &fakeEnv{})
		if st.CT != c.want {
			t.Errorf("%q: %v, want %v", c.rules, st.CT, c.want)
		}
	}
}

func TestSegmentsOfAConnection(t *testing.T) {
	const syn, synack, ack, rst, fin = netstack.SYN, netstack.SYN | netstack.ACK, netstack.ACK, netstack.RST, netstack.FIN | netstack.ACK
	type segment struct {
		flags netstack.TCPFlags
		reply bool
		want  CTState
	}
	for _, c := range []struct {
		name     string
		strict   bool
		segments []segment
	}{
		{"a handshake", false, []segment{{syn, false, CTNew}, {synack, true, CTEstablished}, {ack, false, CTEstablished}, {ack, true, CTEstablished}, {fin, false, CTEstablished}}},
		{"a SYN again", false, []segment{{syn, false, CTNew}, {syn, false, CTNew}}},
		{"the answer took another way", false, []segment{{syn, false, CTNew}, {ack, false, CTInvalid}}},
		{"the request took another way", false, []segment{{synack, false, CTInvalid}, {ack, false, CTNew}}},
		{"picked up half-way", false, []segment{{ack, false, CTNew}, {ack, true, CTEstablished}}},
		{"not picked up half-way", true, []segment{{ack, false, CTInvalid}}},
		{"a reset of nothing", false, []segment{{rst, false, CTInvalid}}},
		{"refused", false, []segment{{syn, false, CTNew}, {rst | ack, true, CTEstablished}}},
		{"flags that no stack sends", false, []segment{{netstack.SYN | netstack.FIN, false, CTInvalid}, {0, false, CTInvalid}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate NEW\nCOMMIT\n")
			if c.strict {
				ns.Sysctls = map[string]string{"net.netfilter.nf_conntrack_tcp_loose": "0"}
			}
			rs := mustCompile(t, ns)
			ct := NewConntrack()
			for i, s := range c.segments {
				p := packet(func(p *netstack.Packet) { p.TCPFlags = s.flags })
				if s.reply {
					p.Src, p.Dst, p.SrcPort, p.DstPort = p.Dst, p.Src, p.DstPort, p.SrcPort
				}
				st := &State{Packet: p, Conntrack: ct}
				rs.Run(netstack.IPv4, Prerouting, st, &fakeEnv{})
				rs.Run(netstack.IPv4, Postrouting, st, &fakeEnv{})
				if st.CT != s.want || st.Conn != nil && st.Reply != s.reply {
					t.Errorf("segment %d is %v (reply %v), want %v", i, st.CT, st.Reply, s.want)
				}
			}
		})
	}
}

func TestCopiesAreSentAndThePacketGoesOn(t *testing.T) {
	env := &fakeEnv{}
	res := forward(t, "-A FORWARD -p tcp --dport 80 -j TEE --gateway 10.0.0.9 --oif e0\n-A FORWARD -p udp -j TEE --gateway 10.0.0.8\n", &State{Packet: packet()}, env)
	if res.Action != Accept || !slices.Equal(env.copies, []string{"10.0.0.9 e0"}) {
		t.Errorf("%+v, copies to %q", res, env.copies)
	}
}

func TestWhichRulesTellSegmentsApart(t *testing.T) {
	for rule, want := range map[string]bool{
		"-p tcp --dport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT": false,
		"-p tcp --syn -j DROP":                          false,
		"-p tcp --tcp-flags ALL ACK -j DROP":            true,
		"-m length --length 0:100 -j DROP":              true,
		`-m u32 --u32 "0>>28=4" -j DROP`:                true,
		"-m connmark --mark 1 -j DROP":                  false,
		"-j CONNMARK --restore-mark":                    false,
		"-j CONNMARK --save-mark":                       true,
		"-m connlabel --label 3 --set -j ACCEPT":        true,
		"-m statistic --mode random --probability 0.5":  false,
		"-m string --string x --algo bm -j DROP":        false,
		"-m conntrack --ctdir REPLY -m mark --mark 0x1": false,
	} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*mangle\n:FORWARD ACCEPT\n-A FORWARD "+rule+"\nCOMMIT\n"))
		if got := rs.TellsSegmentsApart(); got != want {
			t.Errorf("%s: %t, want %t", rule, got, want)
		}
	}
	for rule, want := range map[string]bool{
		`{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}}`:                                   false,
		`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"ttl"}},"right":64}}`:                                      false,
		`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"length"}},"right":64}}`:                                   true,
		`{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}}`:                                true,
		`{"match":{"op":"==","left":{"payload":{"base":"nh","offset":0,"len":32}},"right":64}}`:                                    true,
		`{"match":{"op":"==","left":{"meta":{"key":"length"}},"right":64}}`:                                                        true,
		`{"match":{"op":"==","left":{"ct":{"key":"mark"}},"right":64}}`:                                                            false,
		`{"mangle":{"key":{"ct":{"key":"mark"}},"value":1}}`:                                                                       true,
		`{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}`:                                                                     false,
		`{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@s"}}`:                                     true,
		`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.1"}},{"log":null},{"drop":null}`: false,
	} {
		ns := &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(`{"nftables":[
			{"table":{"family":"ip","name":"t","handle":1}},
			{"set":{"family":"ip","name":"s","table":"t","type":"ipv4_addr","handle":2,"flags":["dynamic"]}},
			{"chain":{"family":"ip","table":"t","name":"c","handle":3,"type":"filter","hook":"forward","prio":0,"policy":"accept"}},
			{"rule":{"family":"ip","table":"t","chain":"c","handle":4,"expr":[` + rule + `]}}]}`)}}
		if got := mustCompile(t, ns).TellsSegmentsApart(); got != want {
			t.Errorf("%s: %t, want %t", rule, got, want)
		}
	}
}

func TestOutputIsRoutedAgainAfterAChange(t *testing.T) {
	const mark = "*mangle\n:OUTPUT ACCEPT\n-A OUTPUT -p tcp --dport 80 -j MARK --set-mark 1\nCOMMIT\n"
	const dnat = "*nat\n:OUTPUT ACCEPT\n-A OUTPUT -p tcp --dport 80 -j DNAT --to-destination 10.0.9.9\nCOMMIT\n"
	for _, c := range []struct {
		name, rules string
		port        uint16
		noRoute     bool
		rerouted    int
	}{
		{"a mark changes the route", mark, 80, false, 1},
		{"no change, no look-up", mark, 81, false, 0},
		{"a translation changes the route", dnat, 80, false, 1},
		{"no translation, no look-up", dnat, 81, false, 0},
		{"no route is left", dnat, 80, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := &fakeEnv{noRoute: c.noRoute}
			st := &State{Packet: packet(func(p *netstack.Packet) { p.DstPort = c.port })}
			res := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, c.rules)).Run(netstack.IPv4, Output, st, env)
			if env.rerouted != c.rerouted || res.NoRoute != c.noRoute || (res.Action == Drop) != c.noRoute {
				t.Errorf("routed again %d times, %+v", env.rerouted, res)
			}
		})
	}
}

func TestAChangedHeaderIsSeenByLaterRules(t *testing.T) {
	for _, c := range []struct {
		rule string
		mtu  int
		want string // of the packet's fields
		get  func(*netstack.Packet) int
		is   int
	}{
		{"-j TCPMSS --set-mss 1300", 0, "MSS", func(p *netstack.Packet) int { return int(p.MSS) }, 1300},
		{"-j TCPMSS --set-mss 9000", 0, "MSS", func(p *netstack.Packet) int { return int(p.MSS) }, 1460},
		{"-j TCPMSS --clamp-mss-to-pmtu", 1400, "MSS", func(p *netstack.Packet) int { return int(p.MSS) }, 1360},
		{"-j DSCP --set-dscp-class EF", 0, "TOS", func(p *netstack.Packet) int { return int(p.TOS) }, 46 << 2},
		{"-j TOS --set-tos 0x10/0xff", 0, "TOS", func(p *netstack.Packet) int { return int(p.TOS) }, 0x10},
		{"-j TTL --ttl-set 5", 0, "TTL", func(p *netstack.Packet) int { return int(p.TTL) }, 5},
		{"-j TTL --ttl-dec 1", 0, "TTL", func(p *netstack.Packet) int { return int(p.TTL) }, 63},
		{"-j MARK --set-xmark 0x8000/0xc000", 0, "mark", func(p *netstack.Packet) int { return int(p.Mark) }, 0x8001},
		{"-j MARK --and-mark 0xfffffffe", 0, "mark", func(p *netstack.Packet) int { return int(p.Mark) }, 0x4000},
	} {
		p := packet(func(p *netstack.Packet) { p.Mark = 0x4001 })
		res := forward(t, "-A FORWARD "+c.rule+"\n-A FORWARD -j DROP\n", &State{Packet: p}, &fakeEnv{mtu: c.mtu})
		if got := c.get(p); got != c.is || res.Rule.Number != 2 {
			t.Errorf("%s: %s is %#x, want %#x; rule %d decided", c.rule, c.want, got, c.is, res.Rule.Number)
		}
	}
}

// Which port of a range a destination gets depends on the kernel and the rule's flags.
func TestPortsOfARangeAreDrawnWhereTheKernelDrawsThem(t *testing.T) {
	for _, c := range []struct {
		kernel, options string
		port            uint16
		want            uint16 // pick is the last alternative
		drawn, unknown  bool
	}{
		{"6.18.5", "DNAT --to-destination 10.0.5.1:2000-2002", 80, 2000, false, false},
		{"6.8.0-45-generic", "REDIRECT --to-ports 2000-2002", 80, 2000, false, false},
		{"6.1.0-56-cloud-amd64", "DNAT --to-destination 10.0.5.1:2000-2002", 80, 2002, true, false},
		{"6.1.0-56-cloud-amd64", "DNAT --to-destination 10.0.5.1:2000-2002", 2001, 2001, false, false},
		{"6.1.0-56-cloud-amd64", "REDIRECT --to-ports 2000-2002", 80, 2002, true, false},
		{"6.1.0-56-cloud-amd64", "DNAT --to-destination 10.0.5.1:2000", 80, 2000, false, false},
		{"", "DNAT --to-destination 10.0.5.1:2000-2002", 80, 2002, true, false},
		{"6.18.5", "DNAT --to-destination 10.0.5.1:2000-2002 --random", 2000, 2002, true, false},
		{"6.1.0", "DNAT --to-destination 10.0.5.1:2000-3000", 80, 80, false, true},
	} {
		t.Run(c.kernel+" "+c.options, func(t *testing.T) {
			rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp -j "+c.options+"\nCOMMIT\n"))
			p := packet(func(p *netstack.Packet) { p.DstPort = c.port })
			env := &fakeEnv{kernel: c.kernel, pick: 2, addrs: map[string]string{"eth0": "10.0.5.1"}}
			rs.Run(netstack.IPv4, Prerouting, &State{Packet: p, In: "eth0", Conntrack: NewConntrack()}, env)
			if p.DstPort != c.want || (len(env.weights) == 3) != c.drawn || (len(env.asked) > 0) != c.unknown {
				t.Errorf("port %d, weights %v, asked %q", p.DstPort, env.weights, env.asked)
			}
		})
	}
}

func TestARangeOfAddressesIsABranch(t *testing.T) {
	rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -j DNAT --to-destination 10.0.5.1-10.0.5.4\nCOMMIT\n"))
	env := &fakeEnv{pick: 2}
	p := packet()
	rs.Run(netstack.IPv4, Prerouting, &State{Packet: p}, env)
	if p.Dst.String() != "10.0.5.3" || len(env.weights) != 4 {
		t.Errorf("translated to %v, weights %v", p.Dst, env.weights)
	}
}

func TestTheRuleThatDecidesIsNamed(t *testing.T) {
	ns := dump(netstack.IPv4, netstack.BackendLegacy, "*filter\n:FORWARD DROP\n:A -\n-A FORWARD -p tcp -j A\n-A A -p tcp --dport 80 -j REJECT --reject-with tcp-reset\nCOMMIT\n")
	rs := mustCompile(t, ns)
	res := rs.Run(netstack.IPv4, Forward, &State{Packet: packet()}, &fakeEnv{})
	if want := "filter/A rule 1: -A A -p tcp --dport 80 -j REJECT --reject-with tcp-reset"; res.Rule.String() != want || res.RejectWith != "tcp-reset" || res.Action != Reject {
		t.Errorf("%+v", res)
	}
	var steps []verdict.Step
	res = rs.Run(netstack.IPv4, Forward, &State{Packet: packet(func(p *netstack.Packet) { p.DstPort = 81 }), Steps: &steps}, &fakeEnv{})
	if want := "filter/FORWARD policy: DROP"; res.Rule.String() != want || res.Action != Drop || res.Rule.Backend != netstack.BackendLegacy {
		t.Errorf("%+v", res)
	}
	var actions []string
	for _, s := range steps {
		actions = append(actions, s.Stage+" "+s.Chain+" "+s.Action)
	}
	if got, want := strings.Join(actions, "; "), "filter/FORWARD FORWARD jump A; filter/FORWARD FORWARD policy DROP"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
}

// Of two base chains with one priority the youngest runs first, and the list of all tables tells which of iptables-nft's and
// nftables' that is.
func TestChainsOfIPTablesAreAsOldAsTheirTables(t *testing.T) {
	const (
		iptables = `{"table": {"family": "ip", "name": "filter"}}, {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0}}`
		own      = `{"table": {"family": "inet", "name": "own"}}, {"chain": {"family": "inet", "table": "own", "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}`
	)
	for _, c := range []struct {
		backend  netstack.Backend
		nft      string
		rejected bool
	}{
		{netstack.BackendNFT, iptables + ", " + own, false},
		{netstack.BackendNFT, own + ", " + iptables, true},
		{netstack.BackendNFT, own, false},
		{netstack.BackendLegacy, own, false},
	} {
		ns := dump(netstack.IPv4, c.backend, "*filter\n:FORWARD ACCEPT\n-A FORWARD -j REJECT\nCOMMIT\n")
		ns.NFT = netstack.Text{File: "nft.json", Data: []byte(`{"nftables": [` + c.nft + `]}`)}
		res := mustCompile(t, ns).Run(netstack.IPv4, Forward, &State{Packet: packet()}, &fakeEnv{})
		if rejected := res.Action == Reject; rejected != c.rejected {
			t.Errorf("%s beside %s: %v", c.backend, c.nft, res.Rule)
		}
	}
}

func TestWhichRulesDropByTheStateOfAPacket(t *testing.T) {
	invalid := func() *State { return &State{Packet: packet(), CT: CTInvalid} }
	check := func(rule string, res Result, want bool) {
		t.Helper()
		if res.Action != Drop || res.ByState != want {
			t.Errorf("%s: action %v, by state %v, want %v", rule, res.Action, res.ByState, want)
		}
	}
	for rule, want := range map[string]bool{
		"-m conntrack --ctstate INVALID":                         true,
		"-m state --state NEW,INVALID":                           true,
		"-m conntrack ! --ctstate NEW":                           false,
		"-p tcp -m comment --comment \"state: invalid clients\"": false,
	} {
		check(rule, forward(t, "-A FORWARD "+rule+" -j DROP\n", invalid(), &fakeEnv{}), want)
	}
	state := `{"ct": {"key": "state"}}`
	for expr, want := range map[string]bool{
		`{"match": {"op": "in", "left": ` + state + `, "right": "invalid"}}, {"drop": null}`:                                  true,
		`{"match": {"op": "in", "left": ` + state + `, "right": ["invalid", "new"]}}, {"drop": null}`:                         true,
		`{"vmap": {"key": ` + state + `, "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]}}}`: true,
		`{"match": {"op": "!=", "left": ` + state + `, "right": "established"}}, {"drop": null}`:                              false,
		`{"drop": null}`: false,
	} {
		data := `{"nftables": [{"table": {"family": "ip", "name": "t", "handle": 1}},
			{"chain": {"family": "ip", "table": "t", "name": "c", "handle": 2, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
			{"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": [` + expr + `]}}]}`
		rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(data)}})
		check(expr, rs.Run(netstack.IPv4, Forward, invalid(), &fakeEnv{}), want)
	}
}

// The sockets of old kernels do not tell whether they are transparent: that is asked about, unless something else decides.
func TestRulesSeeWhatASocketTells(t *testing.T) {
	local := func(text string, transparent *bool) *netstack.Socket {
		return &netstack.Socket{Local: netip.MustParseAddrPort(text), Transparent: transparent}
	}
	for _, c := range []struct {
		options string
		socket  *netstack.Socket
		want    Action
		asked   bool
	}{
		{"", nil, Accept, false},
		{"", local("10.0.1.2:80", nil), Drop, false},
		{"", local("0.0.0.0:80", new(true)), Accept, false},
		{"--nowildcard", local("0.0.0.0:80", nil), Drop, false},
		{"--transparent", nil, Accept, false},
		{"--transparent", local("0.0.0.0:80", nil), Accept, false},
		{"--transparent", local("10.0.1.2:80", nil), Accept, true},
		{"--transparent", local("10.0.1.2:80", new(true)), Drop, false},
		{"--transparent", local("10.0.1.2:80", new(false)), Accept, false},
		{"--transparent --nowildcard", local("0.0.0.0:80", new(true)), Drop, false},
		{"--transparent --restore-skmark", local("10.0.1.2:80", new(false)), Accept, false},
		{"--transparent --restore-skmark", local("10.0.1.2:80", new(true)), Accept, true},
	} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*mangle\n:PREROUTING ACCEPT\n-A PREROUTING -m socket "+c.options+" -j DROP\nCOMMIT\n"))
		env := &fakeEnv{socket: c.socket}
		res := rs.Run(netstack.IPv4, Prerouting, &State{Packet: packet()}, env)
		if res.Action != c.want || len(env.asked) > 0 != c.asked {
			t.Errorf("%q of %+v: %v, asked %q", c.options, c.socket, res.Action, env.asked)
		}
	}
}
