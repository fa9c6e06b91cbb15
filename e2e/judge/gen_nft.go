package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// nftables builds rules of nftables at one place for one flow.
type nftables struct {
	*builder
	v     view
	table string // FAMILY NAME
	chain string
	// priority is the chain's.
	priority int
	// linkLayer says that it is below the network layer, where few conditions can stand.
	linkLayer bool
	// held are the features of the selector that was written last.
	held []string
}

// generateNFT puts one rule, or a few that work together, in the way of one flow.
func generateNFT(b *builder) {
	f := b.flow()
	if b.chance(25) && bridged(f) {
		b.bridgeFamily(f)
		return
	}
	views := b.views(f)
	if len(views) == 0 {
		return
	}
	v := one(b, views...)
	family := "inet"
	if b.chance(40) {
		family = map[netstack.Family]string{netstack.IPv4: "ip", netstack.IPv6: "ip6"}[f.family]
	}
	x := &nftables{builder: b, v: v, table: family + " judge"}
	if family != "inet" && b.chance(12) {
		x.table = family + " " + one(b, xtablesOfNFT...)
	}
	pick(b, []option[func()]{
		{"nft:drop", x.drop},
		{"nft:drop", x.drop},
		{"nft:drop", x.drop},
		{"nft:reject", x.reject},
		{"nft:accept", x.accept},
		{"nft:vmap", x.vmap},
		{"nft:jump", x.subchain},
		{"nft:set", x.set},
		{"nft:concat", x.concat},
		{"nft:dynamic-set", x.dynamic},
		{"nft:mark", x.mark},
		{"nft:ct-mark", x.connmark},
		{"nft:payload-set", x.rewrite},
		{"nft:notrack", x.notrack},
		{"nft:nat", x.translate},
		{"nft:nat", x.translate},
		{"nft:device", x.device},
		{"nft:objects", x.objects},
	}).make()
}

// xtablesOfNFT are tables that iptables-nft takes for its own.
var xtablesOfNFT = []string{"filter", "filter", "mangle", "security"}

// ofIPTables says whether the table is one of them.
func (x *nftables) ofIPTables() bool {
	_, name, _ := strings.Cut(x.table, " ")
	return slices.Contains(xtablesOfNFT, name)
}

// base declares the table, and a chain of it at the view's hook.
func (x *nftables) base(kind string, priority int) {
	hook := strings.ToLower(x.v.hook)
	x.priority = priority
	x.chain = strings.ReplaceAll(fmt.Sprintf("%s_%s_%d", kind, hook, priority), "-", "m")
	x.nft(x.v.ns, "add table "+x.table)
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s { type %s hook %s priority %d; }", x.table, x.chain, kind, hook, priority))
}

// filter declares a chain that filters: in a table of iptables often that which iptables has there itself.
func (x *nftables) filter() {
	if x.ofIPTables() && x.chance(60) {
		priorities := map[string]int{"filter": 0, "mangle": -150, "security": 50}
		_, table, _ := strings.Cut(x.table, " ")
		if slices.Contains(tablesOf[x.v.hook], table) && (table != "mangle" || x.v.hook != "OUTPUT") {
			x.priority, x.chain = priorities[table], x.v.hook
			x.nft(x.v.ns, "add table "+x.table)
			x.nft(x.v.ns, fmt.Sprintf("add chain %s %s { type filter hook %s priority %d; }", x.table, x.chain, lower(x.v.hook), x.priority))
			return
		}
	}
	x.base("filter", one(x.builder, -310, -170, -149, -10, 0, 1, 60, 140))
}

// deviceBase declares the table, and a chain of it at a hook of a device.
func (x *nftables) deviceBase(hook, dev string, priority int) {
	x.chain = strings.ReplaceAll(fmt.Sprintf("%s_%s_p%d", hook, strings.ReplaceAll(dev, "-", "_"), priority), "-", "m")
	x.nft(x.v.ns, "add table "+x.table)
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s { type filter hook %s device %q priority %d; }", x.table, x.chain, hook, dev, priority))
}

// rule appends a rule to a chain.
func (x *nftables) rule(chain, condition, statement string, features ...string) {
	features = append(features, x.held...)
	x.held = nil
	if family, _, _ := strings.Cut(x.table, " "); len(features) > 0 && family != "bridge" {
		features = append([]string{"nft:" + family}, features...)
		if x.ofIPTables() {
			features = append(features, "nft:of-iptables")
		}
	}
	x.nft(x.v.ns, fmt.Sprintf(`add rule %s %s %s %s comment "@id"`, x.table, chain, condition, statement), features...)
}

// ip is "ip" or "ip6".
func (x *nftables) ip() string {
	if x.v.flow.family == netstack.IPv6 {
		return "ip6"
	}
	return "ip"
}

// selector picks out the flow by its protocol and port.
func (x *nftables) selector() string {
	v := x.v
	proto := string(v.flow.Protocol)
	switch {
	case v.dport == 0 && v.flow.family == netstack.IPv6:
		return "icmpv6 type { echo-request, echo-reply } ip6 daddr " + v.dst.String()
	case v.dport == 0:
		return "ip protocol icmp ip daddr " + v.dst.String()
	case v.reply:
		return fmt.Sprintf("%s sport %d", proto, v.sport)
	}
	if x.chance(30) {
		return fmt.Sprintf("meta l4proto %s th dport %d", proto, v.dport)
	}
	return fmt.Sprintf("%s dport %d", proto, v.dport)
}

// condition is a selector with more that mostly holds for the flow.
func (x *nftables) condition() (text string, features []string) {
	text = x.selector()
	for range 1 + x.IntN(2) {
		o := pick(x.builder, x.expressions())
		if more := o.make(); more != "" {
			text += " " + more
			features = append(features, o.feature)
		}
	}
	return text, features
}

// expressions are those that make sense at this place.
func (x *nftables) expressions() []option[func() string] {
	v, f, ip := x.v, x.v.flow, x.ip()
	unlike := func(percent int) string {
		if x.chance(percent) {
			return "!= "
		}
		return ""
	}
	prefix := func(a netip.Addr) string {
		p, _ := a.Prefix(one(x.builder, a.BitLen(), a.BitLen(), a.BitLen()-3, a.BitLen()-8, a.BitLen()-16))
		return p.String()
	}
	always := func(list ...string) func() string { return func() string { return one(x.builder, list...) } }
	options := []option[func() string]{
		{"nft:saddr", func() string { return ip + " saddr " + unlike(15) + prefix(v.src) }},
		{"nft:daddr", func() string { return ip + " daddr " + unlike(15) + prefix(v.dst) }},
		{"nft:anonymous-set", func() string {
			return fmt.Sprintf("%s saddr %s{ %s, %s }", ip, unlike(15), prefix(v.src), other(f.family))
		}},
		{"nft:ct-state", always("ct state new", "ct state established", "ct state { new, established }", "ct state != established", "ct state invalid,untracked", "ct state ! new")},
		{"nft:ct-status", always("ct status snat", "ct status dnat", "ct status seen-reply", "ct status & (dnat | snat) == 0", "ct status confirmed")},
		{"nft:ct-direction", always("ct direction original", "ct direction reply", "ct direction != reply")},
		{"nft:ct-tuple", func() string {
			return fmt.Sprintf("ct original %s %s %s%s", ip, one(x.builder, "saddr", "daddr"), unlike(30), one(x.builder, v.src, v.dst))
		}},
		{"nft:meta-mark", func() string {
			return fmt.Sprintf("meta mark & %#x %s %#x", one[uint32](x.builder, 0xff, 0x4000, 0xffffffff), one(x.builder, "==", "!="), f.Mark&0xff)
		}},
		{"nft:meta-length", always("meta length < 81", "meta length 40-1500", "meta length > 1000", "meta length != 60")},
		{"nft:meta-nfproto", func() string {
			if strings.HasPrefix(x.table, "inet ") && f.family == netstack.FamilyOf(v.src) {
				return map[netstack.Family]string{netstack.IPv4: "meta nfproto ipv4", netstack.IPv6: "meta nfproto ipv6"}[f.family]
			}
			// Not "meta protocol ip" alone: nft takes it to be implied, and prints it not.
			return one(x.builder, "meta protocol { ip, ip6 }", "meta l4proto != { 1, 99 }")
		}},
		{"nft:meta-pkttype", always("meta pkttype host", "meta pkttype != broadcast", "meta pkttype { broadcast, multicast }")},
		{"nft:fib-type", func() string {
			return "fib " + one(x.builder, "saddr", "daddr") + " type " + unlike(40) + one(x.builder, "local", "unicast", "{ local, broadcast }")
		}},
		{"nft:raw", func() string { return x.raw() }},
		{"nft:dscp", func() string { return fmt.Sprintf("%s dscp %s%d", ip, unlike(20), f.DSCP) }},
		{"nft:hash", always("jhash "+ip+" saddr . "+ip+" daddr mod 4 seed 0x12345 < 2", "jhash "+ip+" saddr mod 2 seed 0xdeadbeef 1")},
	}
	if v.hook == "PREROUTING" || v.hook == "INPUT" || v.hook == "FORWARD" {
		options = append(options, option[func() string]{"nft:fib-oif", always("fib saddr . iif oif exists", "fib saddr . iif oif missing", "fib saddr oif exists", "fib saddr . mark oif != 0")})
	}
	if f.family == netstack.IPv4 {
		options = append(options, option[func() string]{"nft:ttl", always("ip ttl 64", "ip ttl < 64", "ip ttl 62-63", "ip ttl > 10")})
	} else {
		options = append(options, option[func() string]{"nft:ttl", always("ip6 hoplimit 64", "ip6 hoplimit < 64", "ip6 hoplimit 62-63", "ip6 hoplimit > 10")})
	}
	if v.in != "" && v.hook != "OUTPUT" && v.hook != "POSTROUTING" {
		options = append(options, option[func() string]{"nft:iifname", func() string { return "iifname " + unlike(15) + x.device1(v.in) }},
			option[func() string]{"nft:iiftype", always("iiftype ether", "iiftype != loopback")})
	}
	if v.out != "" && v.hook != "INPUT" && v.hook != "PREROUTING" {
		options = append(options, option[func() string]{"nft:oifname", func() string { return "oifname " + unlike(15) + x.device1(v.out) }})
	}
	if v.dport != 0 {
		proto := string(f.Protocol)
		options = append(options, option[func() string]{"nft:ports", func() string {
			return one(x.builder, fmt.Sprintf("%s sport %d-%d", proto, max(v.sport, 1)-1, v.sport), fmt.Sprintf("%s dport != { 1, 2, %d }", proto, v.dport+1), fmt.Sprintf("th sport . th dport { %d . %d }", v.sport, v.dport),
				fmt.Sprintf("%s dport { %d-%d, 7 }", proto, v.dport, v.dport))
		}})
	}
	if f.Protocol == verdict.TCP {
		options = append(options,
			option[func() string]{"nft:tcp-flags", always("tcp flags syn", "tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == syn | ack", "tcp flags ! syn", "tcp flags & (fin | syn | rst | ack) == ack")},
			option[func() string]{"nft:tcp-option", always("tcp option maxseg size 1-1460", "tcp option maxseg size < 1000", "tcp option maxseg exists", "tcp option maxseg missing")})
	}
	if f.Protocol == verdict.SCTP { // whose lengths are not known
		options = slices.DeleteFunc(options, func(o option[func() string]) bool { return o.feature == "nft:meta-length" })
	}
	if v.local && f.UID != nil {
		options = append(options, option[func() string]{"nft:skuid", func() string { return fmt.Sprintf("skuid %s%d", unlike(30), *f.UID) }})
	}
	return options
}

// other is an address of the family that nobody has.
func other(f netstack.Family) string {
	if f == netstack.IPv6 {
		return "2001:db8:9::/48"
	}
	return "198.51.100.0/24"
}

// device1 names a device, or all that begin as it does.
func (x *nftables) device1(name string) string {
	switch x.IntN(4) {
	case 0:
		return fmt.Sprintf("%q", name[:len(name)-1]+"*")
	case 1:
		return fmt.Sprintf("{ %q, %q }", name, "lo")
	}
	return fmt.Sprintf("%q", name)
}

func (x *nftables) raw() string {
	v := x.v
	if v.dport == 0 {
		return "@th,0,8 > 3"
	}
	return one(x.builder, fmt.Sprintf("@th,16,16 %d", v.dport), fmt.Sprintf("@th,0,16 != %d", v.sport), fmt.Sprintf("@th,16,8 %d", v.dport>>8))
}

func (x *nftables) drop() {
	x.filter()
	c, features := x.condition()
	x.rule(x.chain, c, "drop", append(features, "nft:drop")...)
}

func (x *nftables) reject() {
	if h := x.v.hook; h == "POSTROUTING" {
		x.drop()
		return
	}
	x.base("filter", one(x.builder, -10, 0, 60))
	c, features := x.condition()
	kinds := []string{"reject", "reject with icmp host-prohibited", "reject with icmp net-unreachable"}
	switch {
	case strings.HasPrefix(x.table, "inet "):
		kinds = []string{"reject", "reject with icmpx port-unreachable", "reject with icmpx admin-prohibited", "reject with icmpx host-unreachable", "reject with icmpx no-route"}
	case x.v.flow.family == netstack.IPv6:
		kinds = []string{"reject", "reject with icmpv6 admin-prohibited", "reject with icmpv6 no-route", "reject with icmpv6 addr-unreachable"}
	}
	if x.v.flow.Protocol == verdict.TCP {
		kinds = append(kinds, "reject with tcp reset")
	}
	x.rule(x.chain, c, one(x.builder, kinds...), append(features, "nft:reject")...)
}

// accept lets pass what the next rule drops, but not what a later chain does.
func (x *nftables) accept() {
	x.base("filter", one(x.builder, -12, -2))
	c, features := x.condition()
	x.rule(x.chain, c, "accept", append(features, "nft:accept")...)
	if x.chance(40) {
		x.base("filter", one(x.builder, 2, 12))
	}
	x.rule(x.chain, x.selector(), "drop", "nft:drop")
}

func (x *nftables) vmap() {
	x.filter()
	v := x.v
	if v.dport == 0 {
		x.rule(x.chain, x.selector(), fmt.Sprintf("%s daddr vmap { %s : drop, %s : accept }", x.ip(), v.dst, other(v.flow.family)), "nft:vmap")
		return
	}
	name := fmt.Sprintf("v%d", len(x.world.Elements))
	verdicts := []string{"drop", "drop", "accept", "continue", "return"}
	if x.chance(50) {
		x.nft(v.ns, fmt.Sprintf("add map %s %s { type inet_proto . inet_service : verdict; flags interval; elements = { %s . %d-%d : %s } }", x.table, name, v.flow.Protocol, v.dport, v.dport+uint16(x.IntN(2)), one(x.builder, verdicts...)))
		x.rule(x.chain, "", "meta l4proto . th dport vmap @"+name, "nft:vmap", "nft:concat")
	} else {
		x.rule(x.chain, "", fmt.Sprintf("%s %s vmap { %d : %s, 9 : accept }", v.flow.Protocol, "dport", v.dport, one(x.builder, verdicts...)), "nft:vmap")
	}
	x.rule(x.chain, x.selector(), "drop", "nft:drop")
}

func (x *nftables) subchain() {
	x.filter()
	sub := fmt.Sprintf("s%d", len(x.world.Elements))
	x.nft(x.v.ns, fmt.Sprintf("add chain %s %s", x.table, sub))
	how := one(x.builder, "jump", "jump", "goto")
	c, features := x.condition()
	x.rule(x.chain, c, how+" "+sub, append(features, "nft:"+how)...)
	if x.chance(60) {
		c, features := x.condition()
		x.rule(sub, c, "return", append(features, "nft:return")...)
	}
	x.rule(sub, x.selector(), one(x.builder, "drop", "drop", "accept"), "nft:drop")
	if x.chance(60) {
		x.rule(x.chain, x.selector(), "drop", "nft:drop")
	}
}

// set looks an address up in a named set.
func (x *nftables) set() {
	x.filter()
	v := x.v
	name := fmt.Sprintf("n%d", len(x.world.Elements))
	typ := map[netstack.Family]string{netstack.IPv4: "ipv4_addr", netstack.IPv6: "ipv6_addr"}[v.flow.family]
	p, _ := v.src.Prefix(v.src.BitLen() - one(x.builder, 0, 2, 8))
	x.nft(v.ns, fmt.Sprintf("add set %s %s { type %s; flags interval; elements = { %s, %s } }", x.table, name, typ, p, other(v.flow.family)))
	x.rule(x.chain, x.selector()+" "+x.ip()+" saddr "+one(x.builder, "", "", "!= ")+"@"+name, "drop", "nft:set")
}

// concat looks several fields up at once.
func (x *nftables) concat() {
	v := x.v
	if v.dport == 0 {
		x.set()
		return
	}
	x.filter()
	name := fmt.Sprintf("c%d", len(x.world.Elements))
	typ := map[netstack.Family]string{netstack.IPv4: "ipv4_addr", netstack.IPv6: "ipv6_addr"}[v.flow.family]
	p, _ := v.dst.Prefix(v.dst.BitLen() - one(x.builder, 0, 2, 8))
	low, high := v.dport-uint16(x.IntN(2)), v.dport+uint16(x.IntN(2))
	x.nft(v.ns, fmt.Sprintf("add set %s %s { type %s . inet_proto . inet_service; flags interval; elements = { %s . %s . %d-%d, %s . tcp . 9 } }", x.table, name, typ, p, v.flow.Protocol, low, high, other(v.flow.family)))
	x.rule(x.chain, fmt.Sprintf("meta l4proto %s %s daddr . meta l4proto . th dport %s@%s", v.flow.Protocol, x.ip(), one(x.builder, "", "", "!= "), name), "drop", "nft:concat")
	if x.chance(50) {
		x.rule(x.chain, x.selector(), "accept", "nft:accept")
	}
}

// dynamic has one rule fill the set that another looks at.
func (x *nftables) dynamic() {
	x.base("filter", one(x.builder, -170, -10, 0))
	name := fmt.Sprintf("d%d", len(x.world.Elements))
	typ := map[netstack.Family]string{netstack.IPv4: "ipv4_addr", netstack.IPv6: "ipv6_addr"}[x.v.flow.family]
	x.nft(x.v.ns, fmt.Sprintf("add set %s %s { type %s; flags dynamic, timeout; timeout 1h; size 100; }", x.table, name, typ))
	x.rule(x.chain, x.selector(), fmt.Sprintf("%s @%s { %s saddr }", one(x.builder, "add", "update"), name, x.ip()), "nft:dynamic-set")
	x.rule(x.chain, x.selector()+" "+x.ip()+" saddr @"+name, "drop", "nft:dynamic-set")
}

func (x *nftables) mark() {
	x.base("filter", one(x.builder, -148, -20))
	value := one[uint32](x.builder, 1, 0x10, 0x4000, 0xff00)
	c, features := x.condition()
	set := one(x.builder, fmt.Sprintf("meta mark set %#x", value), fmt.Sprintf("meta mark set meta mark | %#x", value), fmt.Sprintf("meta mark set meta mark ^ %#x", value), fmt.Sprintf("meta mark set meta mark & 0xff000000 ^ %#x", value),
		fmt.Sprintf("meta mark set %s saddr map { %s : %#x }", x.ip(), x.v.src, value))
	x.rule(x.chain, c, set, append(features, "nft:mark")...)
	x.rule(x.chain, fmt.Sprintf("%s meta mark & %#x == %#x", x.selector(), value, value), "drop", "nft:meta-mark")
}

func (x *nftables) connmark() {
	x.base("filter", one(x.builder, -148, -20))
	value := one[uint32](x.builder, 1, 0x20, 0x8000)
	c, features := x.condition()
	x.rule(x.chain, c, fmt.Sprintf("ct mark set %s", one(x.builder, fmt.Sprintf("%#x", value), fmt.Sprintf("ct mark | %#x", value))), append(features, "nft:ct-mark")...)
	x.rule(x.chain, fmt.Sprintf("%s ct mark & %#x != 0", x.selector(), value), "drop", "nft:ct-mark")
}

// rewrite changes a field that a later rule looks at.
func (x *nftables) rewrite() {
	x.base("filter", one(x.builder, -170, -140))
	c, features := x.condition()
	ip := x.ip()
	ttl := "ttl"
	if ip == "ip6" {
		ttl = "hoplimit"
	}
	if x.chance(50) {
		x.rule(x.chain, c, fmt.Sprintf("%s %s set 77", ip, ttl), append(features, "nft:payload-set")...)
		x.rule(x.chain, fmt.Sprintf("%s %s %s 77", x.selector(), ip, ttl), "drop", "nft:payload-set")
		return
	}
	x.rule(x.chain, c, ip+" dscp set cs3", append(features, "nft:payload-set")...)
	x.rule(x.chain, x.selector()+" "+ip+" dscp cs3", "drop", "nft:payload-set")
}

func (x *nftables) notrack() {
	if x.v.hook != "PREROUTING" && x.v.hook != "OUTPUT" {
		x.drop()
		return
	}
	x.base("filter", -300)
	x.rule(x.chain, x.selector(), "notrack", "nft:notrack")
	x.base("filter", -20)
	x.rule(x.chain, x.selector()+" "+one(x.builder, "ct state untracked", "ct state != untracked", "ct state new"), "drop", "nft:ct-state")
}

// objects are statements that let pass on what the next rule drops.
func (x *nftables) objects() {
	x.filter()
	name := fmt.Sprintf("o%d", len(x.world.Elements))
	x.nft(x.v.ns, fmt.Sprintf("add counter %s %s", x.table, name))
	if x.v.dport != 0 && x.chance(50) {
		x.rule(x.chain, fmt.Sprintf("counter name %s dport map { %d : %q }", x.v.flow.Protocol, x.near(x.v.dport), name), "drop", "nft:objects")
		return
	}
	x.rule(x.chain, x.selector(), one(x.builder, "counter name "+name, "counter", `log group 7 prefix "judge"`)+" drop", "nft:objects")
}

// near is a port that is mostly the given one, and sometimes the next.
func (x *nftables) near(port uint16) uint16 {
	if x.chance(25) {
		return port + 1
	}
	return port
}

// device drops at the ingress or egress of a device.
func (x *nftables) device() {
	v := x.v
	hook, dev := "ingress", v.in
	switch {
	case v.hook == "PREROUTING":
	case v.hook == "POSTROUTING":
		hook, dev = "egress", v.out
	default:
		x.drop()
		return
	}
	if dev == "" || dev == "lo" || v.local && hook == "ingress" {
		x.drop()
		return
	}
	x.table = "netdev judge"
	if hook == "ingress" && x.chance(40) {
		x.table = "inet judge"
	}
	x.deviceBase(hook, dev, one(x.builder, -5, 0, 5))
	more := one(x.builder, "", " "+x.ip()+" saddr "+v.src.String(), " "+x.ip()+" daddr != "+v.dst.String(), " meta protocol ip", " ether type ip6")
	switch x.IntN(3) {
	case 0:
		x.rule(x.chain, x.selector()+more, "accept", "nft:device", "nft:device-"+hook)
		x.rule(x.chain, x.selector(), "drop", "nft:device", "nft:device-"+hook)
	case 1:
		x.rule(x.chain, x.selector()+more, "meta mark set 0x99", "nft:device", "nft:device-"+hook)
		x.rule(x.chain, x.selector()+" meta mark 0x99", "drop", "nft:device", "nft:device-"+hook)
	default:
		x.rule(x.chain, x.selector()+more, "drop", "nft:device", "nft:device-"+hook)
	}
}

// bridged says whether the flow stays on a node's bridge.
func bridged(f *flow) bool {
	return f.fromPod != nil && f.toPod != nil && f.fromPod != f.toPod && f.fromPod.node == f.toPod.node && !f.fromPod.node.routed
}

// bridgeFamily drops on the bridge.
func (b *builder) bridgeFamily(f *flow) {
	v := view{
		ns: f.fromPod.node.name, hook: one(b, "PREROUTING", "FORWARD", "POSTROUTING"), in: f.fromPod.veth, out: f.toPod.veth,
		src: f.fromPod.addrs[slot(f.family)], dst: f.To, sport: f.SourcePort, dport: f.Port, flow: f,
	}
	if b.chance(40) {
		v.in, v.out, v.src, v.dst, v.sport, v.dport, v.reply = v.out, v.in, v.dst, v.src, v.dport, v.sport, true
	}
	x := &nftables{builder: b, v: v, table: "bridge judge"}
	x.base("filter", one(b, -200, 0, 200))
	more := one(b, "", " "+x.ip()+" saddr "+v.src.String(), " ether type "+x.ip(), " meta protocol ip")
	if v.hook == "FORWARD" {
		more += one(b, "", fmt.Sprintf(" iifname %q", v.in), fmt.Sprintf(" oifname %q", v.out), fmt.Sprintf(" oifname != %q", v.out))
	}
	x.rule(x.chain, x.selector()+more, one(b, "drop", "drop", "accept"), "nft:bridge")
	x.rule(x.chain, x.selector(), "drop", "nft:bridge")
}

// translate rewrites addresses.
func (x *nftables) translate() {
	v := x.v
	if v.reply {
		return // the first packet decides
	}
	at := slot(v.flow.family)
	to := one(x.builder, x.pods...).addrs[at]
	port := one(x.builder, openPorts...)
	ip, proto := x.ip(), string(v.flow.Protocol)
	typ := map[netstack.Family]string{netstack.IPv4: "ipv4_addr", netstack.IPv6: "ipv6_addr"}[v.flow.family]
	family := " " + ip
	if !strings.HasPrefix(x.table, "inet ") {
		family = ""
	}
	switch v.hook {
	case "PREROUTING", "OUTPUT":
		x.base("nat", one(x.builder, -100, -101, -99))
		if v.dport == 0 {
			x.rule(x.chain, x.selector(), one(x.builder, "dnat"+family+" to "+to.String(), "redirect", fmt.Sprintf("dnat%s to %s daddr map { %s : %s }", family, ip, v.dst, to)), "nft:nat")
			return
		}
		c, features := x.condition()
		switch x.IntN(5) {
		case 0:
			x.rule(x.chain, c, fmt.Sprintf("dnat%s to %s", family, netip.AddrPortFrom(to, port)), append(features, "nft:nat")...)
		case 1:
			x.rule(x.chain, c, fmt.Sprintf("redirect to :%d", port), append(features, "nft:nat")...)
		case 2:
			name := fmt.Sprintf("m%d", len(x.world.Elements))
			x.nft(v.ns, fmt.Sprintf("add map %s %s { type %s . inet_service : %s . inet_service; elements = { %s . %d : %s . %d } }", x.table, name, typ, typ, v.dst, v.dport, to, port))
			x.rule(x.chain, "meta l4proto "+proto, fmt.Sprintf("dnat%s to %s daddr . th dport map @%s", family, ip, name), "nft:nat", "nft:nat-map")
		case 3:
			x.rule(x.chain, c, fmt.Sprintf("dnat%s to jhash %s saddr mod 2 seed 0x7 map { 0 : %s, 1 : %s }", family, ip, to, one(x.builder, x.pods...).addrs[at]), append(features, "nft:nat", "nft:nat-map")...)
		default:
			x.rule(x.chain, c, one(x.builder, "accept", "return"), append(features, "nft:nat")...)
			x.rule(x.chain, x.selector(), fmt.Sprintf("dnat%s to %s", family, to), "nft:nat")
		}
	case "POSTROUTING":
		x.base("nat", one(x.builder, 100, 99, 101))
		own := v.src
		for _, n := range x.nodes {
			if n.name == v.ns {
				own = n.addrs[at]
			}
		}
		statement := one(x.builder, "masquerade", fmt.Sprintf("snat%s to %s", family, own), fmt.Sprintf("snat%s to %s saddr map { %s : %s }", family, ip, v.src, own))
		if v.dport != 0 && x.chance(40) {
			statement = fmt.Sprintf("snat%s to %s", family, netip.AddrPortFrom(own, uint16(30000+x.IntN(9000))))
		}
		c, features := x.condition()
		x.rule(x.chain, c, statement, append(features, "nft:nat")...)
	default:
		x.drop()
	}
}
