package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// nftablesEdges are sets, maps, policies and priorities of nftables.
func nftablesEdges() []subject {
	at := func(fits func(*view) bool, show func(*nftables)) func(*builder) bool {
		return func(b *builder) bool {
			x := b.nftSpot(fits)
			if x == nil {
				return false
			}
			show(x)
			return true
		}
	}
	return []subject{
		{feature: "nft:policy", show: at(withPorts, (*nftables).policed)},
		{feature: "nft:priority", show: at(nil, (*nftables).ordered)},
		{feature: "nft:priority", show: at(nil, (*nftables).ordered)},
		{feature: "nft:catch-all", show: at(nil, (*nftables).anythingElse)},
		{feature: "nft:numgen", show: at(func(v *view) bool {
			f := v.flow
			return withPorts(v) && !v.reply && f.Protocol == verdict.UDP && f.Via == "" && !(f.fromPod == f.toPod && f.fromNode == f.toNode)
		}, (*nftables).drawn)},
		{feature: "nft:interval", show: at(withPorts, (*nftables).interval)},
		{feature: "nft:interval", show: at(withPorts, (*nftables).interval)},
		{feature: "nft:vmap", show: at(nil, (*nftables).mappedGoto)},
		{feature: "nft:vmap", show: at(nil, (*nftables).mappedOthers)},
		{feature: "nft:mark", show: at(nil, (*nftables).masked)},
	}
}

// decides drops what the condition holds of, or lets only that pass.
func (x *nftables) decides(text string, feature string) {
	if x.chance(60) {
		x.rule(x.chain, x.only()+" "+text, "drop", feature, "nft:drop")
		return
	}
	x.rule(x.chain, x.only()+" "+text, "accept", feature, "nft:accept")
	x.rule(x.chain, x.only(), "drop", "nft:drop")
}

// policed leaves one flow to a chain's policy, from which a rule may save it.
func (x *nftables) policed() {
	v := x.v
	x.chain = fmt.Sprintf("strict%d", len(x.world.Elements))
	x.nft(v.ns, "add table "+x.table)
	policy := one(x.builder, "drop", "drop", "accept")
	x.nft(v.ns, fmt.Sprintf("add chain %s %s { type filter hook %s priority %d; policy %s; }", x.table, x.chain, lower(v.hook), one(x.builder, -5, 5), policy), "nft:policy")
	x.rule(x.chain, "meta l4proto != "+string(v.flow.Protocol), "accept", "nft:accept")
	x.rule(x.chain, fmt.Sprintf("%s sport != %d", v.flow.Protocol, v.sport), "accept", "nft:accept")
	x.rule(x.chain, fmt.Sprintf("%s dport != %d", v.flow.Protocol, v.dport), "accept", "nft:accept")
	if x.chance(40) {
		x.rule(x.chain, x.only(), one(x.builder, "accept", "return"), "nft:accept")
	}
}

// ordered has one chain mark what another drops: that counts only if it comes first. Of two with one priority, the younger
// does.
func (x *nftables) ordered() {
	first, second := one(x.builder, -160, -30, -8, 3), one(x.builder, -140, -20, -2, 8, 40)
	switch x.IntN(4) {
	case 0:
		first, second = second, first
	case 1, 2:
		second = first
	}
	mark := fmt.Sprintf("%#x", 0x100+x.IntN(100))
	x.ownBase(first)
	x.rule(x.chain, x.only(), "meta mark set "+mark, "nft:mark", "nft:priority")
	if x.chance(50) {
		// A new one: of a chain in an older table no listing tells the age.
		x.table = fmt.Sprintf("inet other%d", len(x.world.Elements))
	}
	x.ownBase(second)
	x.rule(x.chain, x.only()+" meta mark "+mark, "drop", "nft:priority", "nft:drop")
}

// ownBase declares a base chain that no other rule is in.
func (x *nftables) ownBase(priority int) {
	x.chain = fmt.Sprintf("own%d", len(x.world.Elements))
	x.nft(x.v.ns, "add table "+x.table)
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s { type filter hook %s priority %d; }", x.table, x.chain, lower(x.v.hook), priority))
}

// anythingElse asks a map that knows the packet, or has an element for all others.
func (x *nftables) anythingElse() {
	x.filter()
	v := x.v
	key := v.src
	if x.chance(60) {
		key = v.src.Next()
	}
	known, others := "accept", "drop"
	if x.chance(50) {
		known, others = others, known
	}
	if x.chance(50) {
		name := fmt.Sprintf("all%d", len(x.world.Elements))
		x.nft(v.ns, fmt.Sprintf("add map %s %s { type %s : verdict; elements = { %s : %s, * : %s } }", x.table, name, x.addrType(), key, known, others))
		x.rule(x.chain, x.only(), fmt.Sprintf("%s saddr vmap @%s", x.ip(), name), "nft:vmap", "nft:catch-all")
	} else {
		x.rule(x.chain, x.only(), fmt.Sprintf("%s saddr vmap { %s : %s, * : %s }", x.ip(), key, known, others), "nft:vmap", "nft:catch-all")
	}
	x.rule(x.chain, x.only(), known, "nft:drop") // if there was no such element
}

// addrType is the type of a set of addresses.
func (x *nftables) addrType() string {
	return map[netstack.Family]string{netstack.IPv4: "ipv4_addr", netstack.IPv6: "ipv6_addr"}[x.v.flow.family]
}

// drawn drops one of many, or all but one.
func (x *nftables) drawn() {
	x.base("filter", one(x.builder, -170, -10, 60))
	sides := one(x.builder, 40, 64)
	few, many := "drop", "accept"
	if x.chance(50) {
		few, many = many, few
	}
	x.rule(x.chain, x.anyPort(), fmt.Sprintf("numgen random mod %d vmap { 0 : %s, 1-%d : %s }", sides, few, sides-1, many), "nft:numgen", "nft:vmap")
	x.v.flow.Repeat = edgeThrows
}

// interval has a set whose interval ends with the packet's value, or just before it.
func (x *nftables) interval() {
	x.filter()
	v := x.v
	near := func() int { return one(x.builder, -1, 0, 0, 0, 0, 1) }
	ports := func(p uint16) string { // the low end, the high one, or both
		last := int(p) + near()
		return fmt.Sprintf("%d-%d", last-one(x.builder, 1, 5), last)
	}
	addrs := func(a netip.Addr) string {
		last := one(x.builder, a, a, a, a.Prev(), a.Next())
		first := last.Prev().Prev()
		return first.String() + "-" + last.String()
	}
	name := fmt.Sprintf("to%d", len(x.world.Elements))
	proto := string(v.flow.Protocol)
	set := func(typ, elements string) {
		x.nft(v.ns, fmt.Sprintf("add set %s %s { type %s; flags interval; elements = { %s } }", x.table, name, typ, elements))
	}
	switch x.IntN(5) {
	case 0:
		set("inet_service", ports(v.dport)+", 7")
		x.decides(fmt.Sprintf("%s dport %s@%s", proto, one(x.builder, "", "", "!= "), name), "nft:interval")
	case 1:
		set(x.addrType(), addrs(v.src))
		x.decides(fmt.Sprintf("%s saddr %s@%s", x.ip(), one(x.builder, "", "", "!= "), name), "nft:interval")
	case 2:
		set(x.addrType()+" . inet_service", addrs(v.dst)+" . "+ports(v.dport))
		x.decides(fmt.Sprintf("%s daddr . %s dport @%s", x.ip(), proto, name), "nft:interval")
	case 3:
		x.decides(fmt.Sprintf("%s dport %s{ %s, 7 }", proto, one(x.builder, "", "", "!= "), ports(v.dport)), "nft:interval")
	default:
		x.decides(fmt.Sprintf("%s sport %s%s", proto, one(x.builder, "", "", "!= "), ports(v.sport)), "nft:interval")
	}
}

// mappedOthers asks a verdict map that mostly lacks the packet: then the next rule has its say.
func (x *nftables) mappedOthers() {
	x.filter()
	key := one(x.builder, x.v.src, x.v.src.Next(), x.v.src.Next(), x.v.src.Next())
	x.rule(x.chain, x.only(), fmt.Sprintf("%s saddr vmap { %s : %s }", x.ip(), key, one(x.builder, "drop", "accept")), "nft:vmap")
	x.rule(x.chain, x.only(), one(x.builder, "accept", "accept", "drop"), "nft:accept")
}

// mappedGoto enters a chain by a verdict map, and comes back from it or not.
func (x *nftables) mappedGoto() {
	x.filter()
	sub := fmt.Sprintf("by%d", len(x.world.Elements))
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s", x.table, sub))
	x.rule(sub, x.only(), one(x.builder, "counter", "return", "meta mark set 0x3"), "nft:return")
	x.rule(x.chain, x.only(), fmt.Sprintf("%s daddr vmap { %s : %s %s }", x.ip(), x.v.dst, one(x.builder, "goto", "goto", "jump"), sub), "nft:vmap", "nft:goto")
	x.rule(x.chain, x.only(), "drop", "nft:drop")
}

// masked changes some bits of a mark that has others, and looks at all of them.
func (x *nftables) masked() {
	x.base("filter", one(x.builder, -148, -20))
	before, value, mask := x.Uint32()&0xfffff, x.Uint32()&0xff0, one[uint32](x.builder, 0xfffff00f, 0xff, 0xffff0000)
	x.rule(x.chain, x.only(), fmt.Sprintf("meta mark set %#x", before), "nft:mark")
	x.rule(x.chain, x.only(), fmt.Sprintf("meta mark set meta mark & %#x | %#x", mask, value), "nft:mark")
	look := one[uint32](x.builder, 0xffffffff, 0xff, 0xffff)
	x.decides(fmt.Sprintf("meta mark & %#x == %#x", look, (before&mask|value)&look), "nft:meta-mark")
}
