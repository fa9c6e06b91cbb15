package judge

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// targetSubjects are targets of iptables that seldom decide by themselves: beside a rule that drops, they do.
func targetSubjects() []subject {
	filters := []string{"filter", "mangle"}
	mangle := []string{"mangle"}
	list := []subject{
		{feature: "target:RETURN", show: func(b *builder) bool { return b.xtSpot(filters, nil).returns() }},
		{feature: "target:goto", show: func(b *builder) bool { return b.xtSpot(filters, nil).goesTo() }},
		{feature: "target:jump", show: func(b *builder) bool { return b.xtSpot(filters, nil).jumps() }},
		{feature: "target:NOTRACK", show: func(b *builder) bool { return b.xtSpot([]string{"raw"}, nil).untracks("NOTRACK") }},
		{feature: "target:CT", show: func(b *builder) bool { return b.xtSpot([]string{"raw"}, nil).untracks("CT --notrack") }},
		{feature: "target:LOG", show: passing(filters, "-j LOG --log-prefix judge", nil)},
		{feature: "target:NFLOG", show: passing(filters, "-j NFLOG --nflog-group 7", nil)},
		{feature: "target:none", show: passing(filters, "", nil)},
		{feature: "target:AUDIT", show: passing(filters, "-j AUDIT --type drop", nil)},
		{feature: "target:TRACE", show: passing([]string{"raw"}, "-j TRACE", nil)},
		{feature: "target:CLASSIFY", show: passing(mangle, "-j CLASSIFY --set-class 1:2", func(v *view) bool { return v.at("FORWARD", "OUTPUT", "POSTROUTING") })},
		{feature: "target:CHECKSUM", show: passing(mangle, "-j CHECKSUM --checksum-fill", nil)},
		{feature: "target:TEE", show: func(b *builder) bool {
			return b.xtSpot(mangle, func(v *view) bool { return b.idle(v) != nil }).tees()
		}},
		{feature: "target:MASQUERADE", show: func(b *builder) bool { return b.leaving().translates("MASQUERADE") }},
		{feature: "target:SNAT", show: func(b *builder) bool { return b.leaving().translates("SNAT") }},
		{feature: "target:TPROXY", show: func(b *builder) bool {
			x := b.xtSpot(mangle, toProxy)
			if x != nil {
				x.shows("", "-j TPROXY --on-port "+one(b, "3129", "80")+" --tproxy-mark 0x1/0x1", "target:TPROXY")
			}
			return x != nil
		}},
		{feature: "target:NETMAP", show: func(b *builder) bool { return b.xtSpot([]string{"nat"}, ofPods("PREROUTING")).mapsNetwork() }},
		{feature: "target:REDIRECT", show: func(b *builder) bool { return b.xtSpot([]string{"nat"}, ofPods("PREROUTING")).redirects() }},
	}
	for _, c := range []struct {
		feature, target, test string
		family                netstack.Family // 0 for both
		tcp                   bool
	}{
		{"target:TTL", "TTL --ttl-inc 9", "-m ttl --ttl-gt 64", netstack.IPv4, false},
		{"target:HL", "HL --hl-dec 30", "-m hl --hl-lt 35", netstack.IPv6, false},
		{"target:DSCP", "DSCP --set-dscp 0x12", "-m dscp --dscp 0x12", 0, false},
		{"target:TOS", "TOS --set-tos 0x10/0x3f", "-m tos --tos 0x10/0x3f", 0, false},
		{"target:HMARK", "HMARK --hmark-tuple src,dst --hmark-mod 1 --hmark-offset 0x77 --hmark-rnd 5", "-m mark --mark 0x77", 0, false},
		{"target:TCPMSS", "TCPMSS --set-mss 1000", "-m tcpmss --mss 1000", 0, true},
		{"target:TCPOPTSTRIP", "TCPOPTSTRIP --strip-options mss", "-m tcp ! --tcp-option 2", 0, true},
	} {
		list = append(list, subject{feature: c.feature, show: func(b *builder) bool {
			x := b.xtSpot(mangle, func(v *view) bool {
				return (c.family == 0 || c.family == v.flow.family) && (!c.tcp || v.flow.Protocol == verdict.TCP && v.at("FORWARD", "OUTPUT", "POSTROUTING"))
			})
			if x == nil {
				return false
			}
			syn := ""
			if c.tcp {
				syn = "-m tcp --tcp-flags SYN,RST SYN "
			}
			x.shows(syn, "-j "+c.target, c.feature)
			x.bare(syn+c.test, "-j DROP", "target:DROP")
			return true
		}})
	}
	return list
}

// passing is a target that lets the packet go on, to the rule that drops it: would it accept, the packet got through.
func passing(tables []string, target string, fits func(*view) bool) func(*builder) bool {
	feature := "target:none"
	if target != "" {
		var name string
		_, _ = fmt.Sscanf(target, "-j %s", &name)
		feature = "target:" + name
	}
	return func(b *builder) bool {
		x := b.xtSpot(tables, fits)
		if x == nil {
			return false
		}
		x.shows("", target, feature).Instead = "ACCEPT"
		x.shows("", "-j DROP", "target:DROP")
		return true
	}
}

// toProxy are places from where packets can be given to a proxy. Where none listens, or one that is
// not transparent, they are dropped.
func toProxy(v *view) bool {
	return v.hook == "PREROUTING" && !v.reply && v.physIn == "" && v.flow.Protocol != verdict.ICMP
}

// ofPods are places at one hook of a node, on the way of what its pods send.
func ofPods(hook string) func(*view) bool {
	return func(v *view) bool {
		f := v.flow
		return v.hook == hook && !v.reply && f.fromPod != nil && v.ns == f.fromNode.name && v.physIn == ""
	}
}

// leaving is a place where what a pod sends leaves its node.
func (b *builder) leaving() *xtables {
	return b.xtSpot([]string{"nat"}, func(v *view) bool { return ofPods("POSTROUTING")(v) && v.out == v.flow.fromNode.uplink })
}

// sub declares a chain for the flow.
func (x *xtables) sub() string {
	name := fmt.Sprintf("SUB%d", len(x.world.Elements))
	x.builder.chain(x.v.ns, x.v.flow.family, x.backend, x.table, name, "-")
	return name
}

// returns goes back to the caller before the rule that drops, sometimes from two chains deep.
func (x *xtables) returns() bool {
	if x == nil {
		return false
	}
	outer := x.sub()
	inner := outer
	x.in(x.chain, "", "-j "+outer, "target:jump")
	if x.chance(50) {
		inner = x.sub()
		x.in(outer, "", "-j "+inner, "target:jump")
		x.in(outer, "", "-j ACCEPT", "target:ACCEPT")
	}
	x.in(inner, "", "-j RETURN", "target:RETURN")
	x.in(inner, "", "-j DROP", "target:DROP")
	if inner != outer { // where the packet goes on matters
		x.in(x.chain, "", "-j DROP", "target:DROP")
	}
	return true
}

// goesTo leaves the chain for good, and so escapes the rule that drops; a jump would come back to it.
func (x *xtables) goesTo() bool {
	if x == nil {
		return false
	}
	outer, inner := x.sub(), x.sub()
	x.in(x.chain, "", "-j "+outer, "target:jump")
	x.in(outer, "", "-g "+inner, "target:goto").Instead = inner
	x.in(outer, "", "-j DROP", "target:DROP")
	x.in(inner, "", one(x.builder, "-j RETURN", "-j MARK --set-mark 0x300", ""))
	return true
}

func (x *xtables) jumps() bool {
	if x == nil {
		return false
	}
	sub := x.sub()
	x.in(x.chain, "", "-j "+sub, "target:jump")
	if x.chance(50) {
		x.in(sub, "", "-j DROP", "target:DROP")
		return true
	}
	x.in(sub, "", "-j ACCEPT", "target:ACCEPT")
	x.in(x.chain, "", "-j DROP", "target:DROP")
	return true
}

// untracks keeps the packet from being tracked, which a rule about its state sees.
func (x *xtables) untracks(target string) bool {
	if x == nil {
		return false
	}
	feature := "target:NOTRACK"
	if target != "NOTRACK" {
		feature = "target:CT"
	}
	x.shows("", "-j "+target, feature)
	x.table, x.untracked = "mangle", true
	x.shows("-m conntrack --ctstate UNTRACKED", "-j DROP", "match:conntrack", "ctstate:UNTRACKED", "target:DROP")
	return true
}

// idle is a pod of the node that has nothing to do with the flow.
func (b *builder) idle(v *view) *pod {
	for _, p := range b.pods {
		if p.node.name == v.ns && p != v.flow.fromPod && p != v.flow.toPod {
			return p
		}
	}
	return nil
}

// tees sends a copy to a pod that has no use for it.
func (x *xtables) tees() bool {
	if x == nil {
		return false
	}
	x.shows("", "-j TEE --gateway "+x.idle(&x.v).addrs[slot(x.v.flow.family)].String(), "target:TEE").Instead = "ACCEPT"
	x.shows("", "-j DROP", "target:DROP")
	return true
}

// translates gives what leaves a node the node's address.
func (x *xtables) translates(target string) bool {
	if x == nil {
		return false
	}
	text := "-j " + target
	if target == "SNAT" {
		text += " --to-source " + x.v.flow.fromNode.addrs[slot(x.v.flow.family)].String()
	}
	x.shows("", text, "target:"+target)
	return true
}

// mapsNetwork sends it to the like address of another network.
func (x *xtables) mapsNetwork() bool {
	if x == nil {
		return false
	}
	at := slot(x.v.flow.family)
	for _, n := range x.nodes {
		if n != x.v.flow.toNode {
			x.shows("", "-j NETMAP --to "+n.ranges[at].String(), "target:NETMAP")
			return true
		}
	}
	return false
}

func (x *xtables) redirects() bool {
	if x == nil {
		return false
	}
	target := "-j REDIRECT"
	if x.v.dport != 0 && x.chance(50) {
		target += fmt.Sprintf(" --to-ports %d", one(x.builder, openPorts...))
	}
	x.shows("", target, "target:REDIRECT")
	return true
}
