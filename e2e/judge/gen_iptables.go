package judge

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// view is a packet of a flow as it is seen where a rule may stand.
type view struct {
	ns   string
	hook string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING
	in,
	out string
	src, dst     netip.Addr
	sport, dport uint16
	reply        bool
	flow         *flow
	// physIn and physOut are the ports of a bridge that the packet crosses.
	physIn, physOut string
	local           bool // sent by a socket of this namespace
}

// views lists where the packets of a flow pass, as far as nothing stands in their way: request and reply.
func (b *builder) views(f *flow) []view {
	var out []view
	source := f.Source
	switch {
	case source.IsValid():
	case f.fromPod != nil:
		source = f.fromPod.addrs[slot(f.family)]
	default:
		source = f.fromNode.addrs[slot(f.family)]
		if f.toPod != nil && f.toNode == f.fromNode && !f.toNode.routed { // from the bridge's own address
			source = f.toNode.ranges[slot(f.family)].Addr().Next()
		}
	}
	forth := view{src: source, dst: f.To, sport: f.SourcePort, dport: f.Port, flow: f}
	back := view{src: f.To, dst: source, sport: f.Port, dport: f.SourcePort, reply: true, flow: f}
	add := func(ns string, in, dev string, forward bool, local bool, hooks ...string) {
		for _, h := range hooks {
			v, w := forth, back
			v.ns, w.ns, v.hook = ns, ns, h
			v.in, v.out = in, dev
			v.local = local
			switch h {
			case "PREROUTING":
				v.out = ""
				w.hook = "POSTROUTING"
			case "INPUT":
				w.hook = "OUTPUT"
			case "FORWARD":
				w.hook = "FORWARD"
			case "OUTPUT":
				w.hook = "INPUT"
			case "POSTROUTING":
				if forward {
					v.in = ""
				}
				w.hook = "PREROUTING"
			}
			w.in, w.out = v.out, v.in
			w.local = h == "INPUT"
			out = append(out, v, w)
		}
		_ = forward
	}
	if f.fromPod != nil {
		add(f.fromPod.name, "", "eth0", false, true, "OUTPUT", "POSTROUTING")
	}
	// The nodes on the way.
	type stop struct {
		n       *node
		in, dev string
	}
	var way []stop
	switch {
	case f.fromNode != nil && f.fromNode == f.toNode:
		in, dev := "", ""
		if f.fromPod != nil {
			in = f.fromPod.side()
		}
		if f.toPod != nil {
			dev = f.toPod.side()
		}
		if in != dev || in == "" {
			way = append(way, stop{f.fromNode, in, dev})
		} else if f.fromPod != f.toPod { // it is bridged, and br_netfilter shows it to iptables
			from := len(out)
			add(f.fromNode.name, in, dev, true, false, "PREROUTING", "FORWARD", "POSTROUTING")
			for i := range out[from:] {
				v := &out[from+i]
				v.physIn, v.physOut = f.fromPod.veth, f.toPod.veth
				if v.reply {
					v.physIn, v.physOut = v.physOut, v.physIn
				}
			}
		}
	default:
		if f.fromNode != nil {
			in := ""
			if f.fromPod != nil {
				in = f.fromPod.side()
			}
			way = append(way, stop{f.fromNode, in, f.fromNode.uplink})
		}
		if f.toNode != nil {
			dev := ""
			if f.toPod != nil {
				dev = f.toPod.side()
			}
			way = append(way, stop{f.toNode, f.toNode.uplink, dev})
		}
	}
	for _, s := range way {
		switch {
		case s.in != "" && s.dev != "":
			add(s.n.name, s.in, s.dev, true, false, "PREROUTING", "FORWARD", "POSTROUTING")
		case s.in != "":
			add(s.n.name, s.in, "", false, false, "PREROUTING", "INPUT")
		case s.dev != "":
			add(s.n.name, "", s.dev, false, true, "OUTPUT", "POSTROUTING")
		}
	}
	if f.toPod != nil {
		add(f.toPod.name, "eth0", "", false, false, "PREROUTING", "INPUT")
	}
	return out
}

// match is a condition of a rule.
type match struct {
	text     string
	features []string
}

// xtables builds rules at one place for one flow.
type xtables struct {
	*builder
	v       view
	backend netstack.Backend
	table   string
	chain   string
	// untracked says that an earlier rule keeps the packet from being tracked.
	untracked bool
}

var tablesOf = map[string][]string{
	"PREROUTING":  {"raw", "mangle", "nat", "mangle", "nat"},
	"INPUT":       {"filter", "filter", "mangle"},
	"FORWARD":     {"filter", "filter", "mangle"},
	"OUTPUT":      {"filter", "filter", "raw", "mangle", "nat"},
	"POSTROUTING": {"mangle", "nat", "nat"},
}

// generateIPTables puts one rule, or a few that work together, in the way of one flow.
func generateIPTables(b *builder) {
	f := b.flow()
	views := b.views(f)
	if len(views) == 0 {
		return
	}
	v := one(b, views...)
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: one(b, tablesOf[v.hook]...), chain: v.hook}
	for _, backend := range []netstack.Backend{netstack.BackendLegacy, netstack.BackendNFT} {
		if len(b.only) > 0 && b.wants("backend:"+string(backend)) {
			x.backend = backend
		}
	}
	if x.table == "nat" {
		// With both, the one that came last is the first to translate, which no dump shows (nf_hook_entries_grow).
		x.backend = b.translator
		x.translate()
		return
	}
	pick(b, append(x.moreTargets(), []option[func()]{
		{"target:DROP", x.drop},
		{"target:DROP", x.drop},
		{"target:REJECT", x.reject},
		{"target:ACCEPT", x.accept},
		{"target:MARK", x.mark},
		{"target:CONNMARK", x.connmark},
		{"target:RETURN", x.subchain},
		{"target:jump", x.subchain},
		{"target:LOG", x.passOn},
		{"target:NOTRACK", x.notrack},
		{"target:TTL", x.rewrite},
		{"target:HL", x.rewrite},
		{"target:DSCP", x.rewrite},
		{"target:TOS", x.rewrite},
		{"target:TCPMSS", x.rewrite},
		{"target:SET", x.remember},
		{"policy:DROP", x.policy},
	}...)).make()
}

// rule appends a rule to the chain.
func (x *xtables) rule(chain string, m match, target string, features ...string) *Element {
	text := strings.TrimSpace(m.text + " " + target)
	return x.iptables(x.v.ns, x.v.flow.family, x.backend, x.table, chain, text, append(append([]string(nil), m.features...), features...)...)
}

func (x *xtables) drop() { x.rule(x.chain, x.matches(true), "-j DROP", "target:DROP") }

func (x *xtables) reject() {
	if x.table != "filter" {
		x.drop()
		return
	}
	m := x.matches(true)
	kinds := []string{"icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable", "icmp-proto-unreachable", "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited"}
	if x.v.flow.family == netstack.IPv6 {
		kinds = []string{"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable"}
	}
	if x.v.flow.Protocol == verdict.TCP {
		kinds = append(kinds, "tcp-reset", "tcp-reset")
	}
	kind := one(x.builder, kinds...)
	target := "-j REJECT --reject-with " + kind
	if x.chance(15) {
		target, kind = "-j REJECT", "default"
	}
	x.rule(x.chain, m, target, "target:REJECT", "reject:"+kind)
}

// accept lets pass what the next rule drops.
func (x *xtables) accept() {
	x.rule(x.chain, x.matches(true), "-j ACCEPT", "target:ACCEPT")
	x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
}

// mark marks the packet, and drops what is marked, or routes it elsewhere.
func (x *xtables) mark() {
	if x.table != "mangle" {
		x.drop()
		return
	}
	value, mask := one[uint32](x.builder, 1, 0x10, 0x4000, 0xff00), one[uint32](x.builder, 0xffffffff, 0xff, 0x4000, 0xff00)
	text, feature := pick(x.builder, []option[string]{
		{"target:MARK", fmt.Sprintf("--set-mark %#x", value)},
		{"target:MARK", fmt.Sprintf("--set-xmark %#x/%#x", value, mask)},
		{"target:MARK", fmt.Sprintf("--or-mark %#x", value)},
		{"target:MARK", fmt.Sprintf("--and-mark %#x", value)},
		{"target:MARK", fmt.Sprintf("--xor-mark %#x", value)},
	}).make, "target:MARK"
	test := x.selector()
	if x.chance(40) { // the mark has another bit already, which the mask is to keep
		const other = 0x20000
		x.rule(x.chain, x.selector(), fmt.Sprintf("-j MARK --set-mark %#x", other), "target:MARK")
		test.text += fmt.Sprintf(" -m mark --mark %#x/%#x", other, other)
	} else {
		test.text += fmt.Sprintf(" -m mark --mark %#x/%#x", value&mask, mask)
	}
	x.rule(x.chain, x.matches(true), "-j MARK "+text, feature)
	test.features = append(test.features, "match:mark")
	if x.chance(25) {
		test.text = strings.Replace(test.text, "-m mark --mark", "-m mark ! --mark", 1)
	}
	x.rule(x.chain, test, "-j DROP", "target:DROP")
}

// connmark marks the connection when it begins, and drops what comes later.
func (x *xtables) connmark() {
	if x.table != "mangle" {
		x.drop()
		return
	}
	value := one[uint32](x.builder, 1, 0x20, 0x8000)
	if x.chance(50) {
		x.rule(x.chain, x.matches(true), fmt.Sprintf("-j CONNMARK --set-xmark %#x/%#x", value, one[uint32](x.builder, 0xffffffff, 0xff, 0xff00)), "target:CONNMARK")
	} else {
		x.rule(x.chain, x.matches(true), fmt.Sprintf("-j MARK --set-mark %#x", value), "target:MARK")
		x.rule(x.chain, x.selector(), "-j CONNMARK --save-mark", "target:CONNMARK")
		x.rule(x.chain, x.selector(), "-j MARK --set-mark 0", "target:MARK")
		x.rule(x.chain, x.selector(), "-j CONNMARK --restore-mark", "target:CONNMARK")
		test := x.selector()
		test.text += fmt.Sprintf(" -m mark --mark %#x", value)
		test.features = append(test.features, "match:mark")
		x.rule(x.chain, test, "-j DROP", "target:DROP")
		return
	}
	test := x.selector()
	test.text += fmt.Sprintf(" -m connmark --mark %#x", value)
	test.features = append(test.features, "match:connmark")
	x.rule(x.chain, test, "-j DROP", "target:DROP")
}

// subchain drops in a chain of its own, unless the packet has returned from it or accepted before.
func (x *xtables) subchain() {
	name := fmt.Sprintf("SUB%d", len(x.world.Elements))
	x.builder.chain(x.v.ns, x.v.flow.family, x.backend, x.table, name, "-")
	jump, feature := "-j "+name, "target:jump"
	if x.chance(35) {
		jump, feature = "-g "+name, "target:goto"
	}
	x.rule(x.chain, x.matches(true), jump, feature)
	inner := name
	if x.chance(40) {
		inner = name + "I"
		x.builder.chain(x.v.ns, x.v.flow.family, x.backend, x.table, inner, "-")
		x.rule(name, x.selector(), one(x.builder, "-j ", "-g ")+inner, "target:jump")
	}
	if x.chance(70) {
		x.rule(inner, x.matches(true), "-j RETURN", "target:RETURN")
	}
	x.rule(inner, x.selector(), one(x.builder, "-j DROP", "-j DROP", "-j ACCEPT"), "target:DROP")
	if inner != name {
		x.rule(name, x.selector(), "-j DROP", "target:DROP")
	}
	if x.chance(50) {
		x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
	}
}

// passOn looks at the packet and lets it pass on, to a rule that drops it; would it accept, the packet would get through.
func (x *xtables) passOn() {
	options := []option[string]{
		{"target:LOG", "-j LOG --log-prefix judge"},
		{"target:NFLOG", "-j NFLOG --nflog-group 7"},
		{"target:none", ""},
	}
	if x.table == "mangle" && x.chain == "POSTROUTING" {
		options = append(options, option[string]{"target:CLASSIFY", "-j CLASSIFY --set-class 1:2"})
	}
	if x.table == "raw" {
		options = append(options, option[string]{"target:TRACE", "-j TRACE"})
	}
	o := pick(x.builder, options)
	e := x.rule(x.chain, x.matches(true), o.make, o.feature)
	e.Instead = "ACCEPT"
	x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
}

// notrack keeps the packet from being tracked, which a rule about the state sees.
func (x *xtables) notrack() {
	if x.table != "raw" {
		x.drop()
		return
	}
	target, feature := "-j NOTRACK", "target:NOTRACK"
	if x.chance(50) {
		target, feature = "-j CT --notrack", "target:CT"
	}
	x.rule(x.chain, x.matches(true), target, feature)
	x.table = "mangle"
	test := x.selector()
	test.text += " -m conntrack --ctstate UNTRACKED"
	test.features = append(test.features, "match:conntrack", "ctstate:UNTRACKED")
	x.rule(x.chain, test, "-j DROP", "target:DROP")
}

// policy makes a chain drop what no rule accepts.
func (x *xtables) policy() {
	if x.table != "filter" || !x.once("policy "+x.v.ns+x.chain) {
		x.drop()
		return
	}
	for _, f := range families {
		x.builder.chain(x.v.ns, f, x.backend, "filter", x.chain, "DROP", "policy:DROP")
		x.iptables(x.v.ns, f, x.backend, "filter", x.chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "match:conntrack", "ctstate:ESTABLISHED", "target:ACCEPT")
		if f == netstack.IPv6 {
			x.iptables(x.v.ns, f, x.backend, "filter", x.chain, "-p ipv6-icmp -m icmp6 --icmpv6-type 135/0 -j ACCEPT")
			x.iptables(x.v.ns, f, x.backend, "filter", x.chain, "-p ipv6-icmp -m icmp6 --icmpv6-type 136/0 -j ACCEPT")
		}
		ports := "80,443,5000"
		if x.chance(50) {
			ports = "8000:9000"
		}
		for _, proto := range []string{"tcp", "udp"} {
			x.iptables(x.v.ns, f, x.backend, "filter", x.chain, fmt.Sprintf("-p %s -m multiport --dports %s -j ACCEPT", proto, ports), "match:multiport", "target:ACCEPT")
		}
	}
}

// translate rewrites addresses.
func (x *xtables) translate() {
	v := x.v
	if v.reply {
		return // the first packet decides
	}
	at := slot(v.flow.family)
	switch v.hook {
	case "PREROUTING", "OUTPUT":
		// The address of a pod or node somewhere, and an open port.
		to := one(x.builder, x.nodes...).addrs[at]
		if x.chance(75) {
			to = one(x.builder, x.pods...).addrs[at]
		}
		port := one(x.builder, openPorts...)
		options := []option[string]{}
		if v.dport != 0 {
			options = append(
				options,
				option[string]{"target:DNAT", fmt.Sprintf("-j DNAT --to-destination %s", netip.AddrPortFrom(to, port))},
				option[string]{"target:DNAT", fmt.Sprintf("-j DNAT --to-destination :%d", port)},
				option[string]{"target:REDIRECT", fmt.Sprintf("-j REDIRECT --to-ports %d", port)},
			)
		}
		options = append(
			options,
			option[string]{"target:DNAT", "-j DNAT --to-destination " + to.String()},
			option[string]{"target:REDIRECT", "-j REDIRECT"},
			option[string]{"target:ACCEPT", "-j ACCEPT"},
			x.netmap(),
		)
		o := pick(x.builder, options)
		m := x.matches(true)
		x.rule(x.chain, m, o.make, o.feature)
		if o.feature == "target:ACCEPT" {
			x.rule(x.chain, x.selector(), "-j DNAT --to-destination "+to.String(), "target:DNAT")
		}
	case "POSTROUTING":
		own := v.src
		for _, n := range x.nodes {
			if n.name == v.ns {
				own = n.addrs[at]
			}
		}
		options := []option[string]{
			{"target:MASQUERADE", "-j MASQUERADE"},
			{"target:SNAT", "-j SNAT --to-source " + own.String()},
		}
		if v.dport != 0 {
			options = append(options, option[string]{"target:SNAT", fmt.Sprintf("-j SNAT --to-source %s", netip.AddrPortFrom(own, uint16(30000+x.IntN(9000))))})
		}
		o := pick(x.builder, options)
		x.rule(x.chain, x.matches(true), o.make, o.feature)
	}
}

// echo keeps a rule about ICMPv6 from neighbour discovery: what neighbours know would depend on who asked first.
func (x *xtables) echo() string {
	switch {
	case x.v.flow.family == netstack.IPv4:
		return ""
	case x.v.reply:
		return " -m icmp6 --icmpv6-type 129"
	}
	return " -m icmp6 --icmpv6-type 128"
}

// selector picks out the flow by protocol and port, so that a rule does not hit too much.
func (x *xtables) selector() match {
	v := x.v
	m := match{text: "-p " + v.flow.protocolName()}
	switch {
	case v.dport == 0:
		m.text += x.echo() + " -d " + v.dst.String()
	case v.reply:
		m.text += fmt.Sprintf(" -m %s --sport %d", v.flow.Protocol, v.sport)
		if x.chance(50) {
			m.text += " -d " + v.dst.String()
		}
	default:
		m.text += fmt.Sprintf(" -m %s --dport %d", v.flow.Protocol, v.dport)
		if x.chance(50) {
			m.text += " -d " + v.dst.String()
		}
	}
	return m
}
