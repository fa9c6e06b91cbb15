package judge

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// nftSubjects are constructs of nftables that seldom decide by themselves.
func nftSubjects() []subject {
	list := []subject{
		{feature: "nft:jump", show: func(b *builder) bool { return b.nftSpot(nil).showJump() }},
		{feature: "nft:goto", show: func(b *builder) bool { return b.nftSpot(nil).showGoto() }},
		{feature: "nft:return", show: func(b *builder) bool { return b.nftSpot(nil).showReturn() }},
		{feature: "nft:policy", show: func(b *builder) bool { return b.nftSpot(nil).showPolicy() }},
		{feature: "nft:route-chain", show: func(b *builder) bool {
			return b.nftSpot(func(v *view) bool { return v.hook == "OUTPUT" && v.local }).showRouteChain()
		}},
		{feature: "nft:ct-zone", show: func(b *builder) bool {
			return b.nftSpot(func(v *view) bool { return v.hook == "PREROUTING" && !v.reply }).showZone()
		}},
		{feature: "nft:numgen", show: func(b *builder) bool {
			return b.nftSpot(func(v *view) bool { return v.flow.Protocol == verdict.UDP && v.flow.Via == "" && !v.reply }).showNumgen()
		}},
		{feature: "nft:dnat", show: func(b *builder) bool { return b.nftNAT("PREROUTING").showDNAT() }},
		{feature: "nft:nat-map", show: func(b *builder) bool { return b.nftNAT("PREROUTING").showNATMap() }},
		{feature: "nft:redirect", show: func(b *builder) bool { return b.nftNAT("PREROUTING").showRedirect() }},
		{feature: "nft:snat", show: func(b *builder) bool { return b.nftNAT("POSTROUTING").showSNAT(false) }},
		{feature: "nft:masquerade", show: func(b *builder) bool { return b.nftNAT("POSTROUTING").showSNAT(true) }},
		{feature: "nft:bridge", bridged: true, show: (*builder).showBridgeFamily},
		{feature: "nft:device-ingress", show: func(b *builder) bool { return b.showDevice("ingress") }},
		{feature: "nft:device-egress", show: func(b *builder) bool { return b.showDevice("egress") }},
	}
	for _, kinds := range [][]string{{"icmpx port-unreachable", "icmpx admin-prohibited", "icmpx host-unreachable", "icmpx no-route"}, {"tcp reset"}} {
		list = append(list, subject{feature: "nft:reject", show: func(b *builder) bool {
			kind := one(b, kinds...)
			x := b.nftSpot(func(v *view) bool {
				return v.at("PREROUTING", "INPUT", "FORWARD", "OUTPUT") && (kind != "tcp reset" || v.flow.Protocol == verdict.TCP)
			})
			if x == nil {
				return false
			}
			x.table = "inet judge"
			x.base("filter", one(b, -10, 0, 60))
			x.rule(x.chain, x.only(), "reject with "+kind, "nft:reject")
			if kind == "tcp reset" && b.chance(40) { // does a rule see it?
				v := &x.v
				v.hook = one(b, "OUTPUT", "POSTROUTING")
				x.filter()
				x.rule(x.chain, fmt.Sprintf("%s daddr %s tcp sport %d tcp dport %d tcp flags & rst == rst", x.ip(), v.src, v.dport, v.sport), "drop", "nft:drop")
			}
			return true
		}})
	}
	for _, c := range nftConditions() {
		list = append(list, subject{feature: c.feature, show: func(b *builder) bool {
			x := b.nftSpot(c.fits)
			if x == nil {
				return false
			}
			x.base("filter", one(b, -170, -149, -10, 0, 1, 60, 140))
			text := c.text(x)
			if b.chance(60) {
				x.rule(x.chain, x.only()+" "+text, "drop", c.feature, "nft:drop")
				return true
			}
			x.rule(x.chain, x.only()+" "+text, "accept", c.feature, "nft:accept")
			x.rule(x.chain, x.only(), "drop", "nft:drop")
			return true
		}})
	}
	return list
}

// nftSpot is a place for rules of nftables.
func (b *builder) nftSpot(fits func(*view) bool) *nftables {
	v, ok := b.spot(func(v *view) bool { return fits == nil || fits(v) })
	if !ok {
		return nil
	}
	x := &nftables{builder: b, v: v, table: "inet judge"}
	if b.chance(40) {
		x.table = x.ip() + " judge"
	}
	return x
}

// nftNAT is one on the way of what a pod sends, for a translation.
func (b *builder) nftNAT(hook string) *nftables {
	x := b.nftSpot(func(v *view) bool {
		return ofPods(hook)(v) && (hook != "POSTROUTING" || v.out == v.flow.fromNode.uplink)
	})
	if x != nil {
		x.base("nat", map[string]int{"PREROUTING": -100, "POSTROUTING": 100}[hook]+b.IntN(2))
	}
	return x
}

// only takes one flow's packets in one direction, by conditions that hold of its first.
func (x *nftables) only() string {
	v := x.v
	text := fmt.Sprintf("%s saddr %s %s daddr %s", x.ip(), v.src, x.ip(), v.dst)
	switch {
	case v.dport == 0 && v.flow.family == netstack.IPv6:
		text += " icmpv6 type { echo-request, echo-reply }"
	case v.dport == 0:
		text += " icmp type { echo-request, echo-reply }"
	default:
		text += fmt.Sprintf(" %s sport %d %s dport %d", v.flow.Protocol, v.sport, v.flow.Protocol, v.dport)
	}
	if x.rich && !x.linkLayer {
		return x.truths(text)
	}
	return text
}

// plain is a chain that is no base chain.
func (x *nftables) plain() string {
	name := fmt.Sprintf("s%d", len(x.world.Elements))
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s", x.table, name))
	return name
}

func (x *nftables) showJump() bool {
	if x == nil {
		return false
	}
	x.filter()
	sub := x.plain()
	x.rule(x.chain, x.only(), "jump "+sub, "nft:jump")
	if x.chance(50) {
		x.rule(sub, x.only(), "drop", "nft:drop")
		return true
	}
	x.rule(sub, x.only(), "accept", "nft:accept")
	x.rule(x.chain, x.only(), "drop", "nft:drop")
	return true
}

// showGoto escapes the rules that drop: those after the goto, and those after the jump are met.
func (x *nftables) showGoto() bool {
	if x == nil {
		return false
	}
	x.filter()
	outer, inner := x.plain(), x.plain()
	x.rule(x.chain, x.only(), "jump "+outer, "nft:jump")
	x.rule(outer, x.only(), "goto "+inner, "nft:goto")
	x.rule(outer, x.only(), "drop", "nft:drop")
	x.rule(inner, x.only(), one(x.builder, "return", "counter", "meta mark set 0x300"))
	return true
}

func (x *nftables) showReturn() bool {
	if x == nil {
		return false
	}
	x.filter()
	if x.chance(30) { // from a base chain it is the policy that comes
		x.rule(x.chain, x.only(), "return", "nft:return")
		x.rule(x.chain, x.only(), "drop", "nft:drop")
		return true
	}
	outer := x.plain()
	inner := outer
	x.rule(x.chain, x.only(), "jump "+outer, "nft:jump")
	if x.chance(50) {
		inner = x.plain()
		x.rule(outer, x.only(), "jump "+inner, "nft:jump")
		x.rule(outer, x.only(), "accept", "nft:accept")
		x.rule(x.chain, x.only(), "drop", "nft:drop")
	}
	x.rule(inner, x.only(), "return", "nft:return")
	x.rule(inner, x.only(), "drop", "nft:drop")
	return true
}

// showPolicy lets the policy drop the flow, and nothing else.
func (x *nftables) showPolicy() bool {
	if x == nil {
		return false
	}
	x.chain = fmt.Sprintf("policy_%d", len(x.world.Elements))
	x.nft(x.v.ns, "add table "+x.table)
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s { type filter hook %s priority %d; policy drop; }", x.table, x.chain, strings.ToLower(x.v.hook), one(x.builder, -20, 5, 160)), "nft:policy")
	sub := x.plain()
	x.rule(x.chain, x.only(), one(x.builder, "goto "+sub, "return"), "nft:drop")
	x.rule(x.chain, "", "accept", "nft:accept")
	return true
}

// showRouteChain marks what is sent, so that it is routed again.
func (x *nftables) showRouteChain() bool {
	if x == nil {
		return false
	}
	x.base("route", one(x.builder, -150, 0))
	x.rule(x.chain, x.only(), "meta mark set 0xb00", "nft:route-chain", "nft:mark")
	x.route(x.v.ns, x.v.flow.family, "rule", fmt.Sprintf("fwmark 0xb00 to %s priority %d %s", netip.PrefixFrom(x.v.dst, x.v.dst.BitLen()), 500+len(x.world.Elements), one(x.builder, "unreachable", "prohibit", "blackhole")), "rule:mark")
	return true
}

// showZone tracks the request in a zone of its own, which a later rule sees.
func (x *nftables) showZone() bool {
	if x == nil {
		return false
	}
	x.base("filter", -300)
	x.rule(x.chain, x.only(), "ct zone set 7", "nft:ct-zone")
	x.base("filter", one(x.builder, -20, -170))
	x.rule(x.chain, x.only()+" ct zone 7", "drop", "nft:ct-zone", "nft:drop")
	return true
}

// showNumgen drops by the dice.
func (x *nftables) showNumgen() bool {
	if x == nil {
		return false
	}
	x.filter()
	x.rule(x.chain, fmt.Sprintf("%s saddr %s %s daddr %s udp dport %d", x.ip(), x.v.src, x.ip(), x.v.dst, x.v.dport), one(x.builder, "numgen random mod 4 < 3 drop", "numgen random mod 2 0 drop", "numgen random mod 10 vmap { 0-4 : drop, 5-9 : continue }"), "nft:numgen")
	x.v.flow.Repeat = throws
	return true
}

// to names the family in the statements of tables of both.
func (x *nftables) to() string {
	if strings.HasPrefix(x.table, "inet ") {
		return " " + x.ip() + " to "
	}
	return " to "
}

func (x *nftables) showDNAT() bool {
	if x == nil {
		return false
	}
	to := one(x.builder, x.pods...).addrs[slot(x.v.flow.family)].String()
	if x.v.dport != 0 && x.chance(50) {
		if strings.Contains(to, ":") {
			to = "[" + to + "]"
		}
		to += fmt.Sprintf(":%d", one(x.builder, openPorts...))
	}
	x.rule(x.chain, x.only(), "dnat"+x.to()+to, "nft:nat", "nft:dnat")
	return true
}

func (x *nftables) showNATMap() bool {
	if x == nil {
		return false
	}
	to := one(x.builder, x.pods...).addrs[slot(x.v.flow.family)]
	x.rule(x.chain, x.only(), fmt.Sprintf("dnat%s%s daddr map { %s : %s }", x.to(), x.ip(), x.v.dst, to), "nft:nat", "nft:nat-map")
	return true
}

func (x *nftables) showRedirect() bool {
	if x == nil {
		return false
	}
	statement := "redirect"
	if x.v.dport != 0 && x.chance(50) {
		statement += fmt.Sprintf(" to :%d", one(x.builder, openPorts...))
	}
	x.rule(x.chain, x.only(), statement, "nft:nat", "nft:redirect")
	return true
}

func (x *nftables) showSNAT(masquerade bool) bool {
	if x == nil {
		return false
	}
	statement, feature := "masquerade", "nft:masquerade"
	if !masquerade {
		statement, feature = "snat"+x.to()+x.v.flow.fromNode.addrs[slot(x.v.flow.family)].String(), "nft:snat"
	}
	x.rule(x.chain, x.only(), statement, "nft:nat", feature)
	return true
}

// showBridgeFamily drops on the bridge what stays on it.
func (b *builder) showBridgeFamily() bool {
	v, ok := b.spot(func(v *view) bool { return v.physIn != "" && v.at("PREROUTING", "FORWARD", "POSTROUTING") })
	if !ok {
		n := b.nodes[0]
		b.ask(n.pods[0].name, n.pods[1].addrs[b.IntN(2)], one(b, verdict.TCP, verdict.UDP))
		b.aimed[b.world.Probes[len(b.world.Probes)-1].ID] = false
		if v, ok = b.spot(func(v *view) bool { return v.physIn != "" && v.at("PREROUTING", "FORWARD", "POSTROUTING") }); !ok {
			return false
		}
	}
	x := &nftables{builder: b, v: v, table: "bridge judge", linkLayer: true}
	x.base("filter", one(b, -200, 0, 200))
	more := ""
	if v.hook == "FORWARD" {
		more = one(b, "", fmt.Sprintf(" iifname %q", v.physIn), fmt.Sprintf(" oifname %q", v.physOut))
	}
	x.rule(x.chain, x.only()+more, "drop", "nft:bridge", "nft:drop")
	return true
}

// showDevice drops at the ingress or egress of a device.
func (b *builder) showDevice(hook string) bool {
	v, ok := b.spot(func(v *view) bool {
		if v.physIn != "" {
			return false
		}
		return hook == "ingress" && v.hook == "PREROUTING" && v.in != "" && !v.local || hook == "egress" && v.hook == "POSTROUTING" && v.out != ""
	})
	if !ok {
		return false
	}
	dev := v.in
	if hook == "egress" {
		dev = v.out
	}
	x := &nftables{builder: b, v: v, table: one(b, "netdev judge", "netdev judge", "inet judge"), linkLayer: true}
	if hook == "egress" {
		x.table = "netdev judge"
	}
	x.deviceBase(hook, dev, 0)
	if hook == "ingress" && b.chance(30) {
		kinds := []string{"icmpx port-unreachable", "icmpx admin-prohibited"}
		if v.flow.Protocol == verdict.TCP {
			kinds = append(kinds, "tcp reset", "tcp reset")
		}
		x.rule(x.chain, x.only(), "reject with "+one(b, kinds...), "nft:device", "nft:device-"+hook, "nft:reject")
		return true
	}
	x.rule(x.chain, x.only(), "drop", "nft:device", "nft:device-"+hook, "nft:drop")
	return true
}
