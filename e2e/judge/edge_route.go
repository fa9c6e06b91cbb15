package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// routeEdges are routes, policy rules, addresses and settings of a router.
func routeEdges() []subject {
	return []subject{
		{feature: "rule:priority", show: (*builder).samePriority},
		{feature: "rule:mark", show: (*builder).markedWithMore},
		{feature: "rule:uidrange", show: (*builder).lastUser},
		{feature: "sysctl:forwarding", show: (*builder).forwardsBy},
		{feature: "sysctl:rp_filter", show: (*builder).filtersBy},
		{feature: "address:scope", show: (*builder).narrowAddress},
		{feature: "route:multipath", show: (*builder).unevenWays},
		{feature: "route:multipath", show: (*builder).unevenWays},
		{feature: "route:mtu", show: (*builder).narrowRoute},
		{feature: "route:mtu", show: (*builder).narrowRoute},
		{feature: "route:metric", show: (*builder).twoMetrics},
		{feature: "rule:suppress", show: (*builder).suppressed},
		{feature: "route:throw", show: (*builder).thrown},
		{feature: "rule:goto", show: (*builder).skipped},
	}
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ended is a route to the address by which the kernel ends packets, in a table of its own.
func (b *builder) ended(ns string, to netip.Addr) string {
	kind, table := one(b, "blackhole", "unreachable", "prohibit"), 300+len(b.world.Elements)
	b.route(ns, familyOf(to), "route", fmt.Sprintf("%s %s table %d", kind, host(to), table), "route:"+kind, "route:table")
	return fmt.Sprintf("lookup %d", table)
}

// samePriority has two rules of one priority: the older one is first.
func (b *builder) samePriority() bool {
	v, ok := b.spot(b.toPodForwarded)
	if !ok {
		return false
	}
	priority := 1000 + b.IntN(20000)
	selector := "to " + host(v.dst).String()
	for range 2 {
		action := one(b, "blackhole", "unreachable", "prohibit", "lookup main")
		if b.chance(40) {
			action = b.ended(v.ns, v.dst)
		}
		if !b.once("rule " + v.ns + selector + fmt.Sprint(priority) + action) {
			action = b.ended(v.ns, v.dst)
		}
		b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("%s priority %d %s", selector, priority, action), "rule:priority")
	}
	return true
}

// markedWithMore asks for some bits of a mark that has others.
func (b *builder) markedWithMore() bool {
	v, ok := b.spot(b.toPodForwarded)
	if !ok {
		return false
	}
	v.hook, v.out = "PREROUTING", ""
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: v.hook}
	mark, mask := x.Uint32()&0xfffff|0x10, one[uint32](b, 0x10, 0xff, 0xff0, 0xff00)
	x.shows("", fmt.Sprintf("-j MARK --set-mark %#x", mark), "target:MARK")
	want := (mark ^ one[uint32](b, 0, 0, 0x10)) & mask
	b.route(x.v.ns, x.v.flow.family, "rule", fmt.Sprintf("to %s fwmark %#x/%#x priority %d %s", host(x.v.dst), want, mask, 1000+b.IntN(20000), b.ended(x.v.ns, x.v.dst)), "rule:mark")
	return true
}

// lastUser has a range of users that ends with the sender, or before.
func (b *builder) lastUser() bool {
	v, ok := b.spot(func(v *view) bool { return v.hook == "OUTPUT" && v.local && !v.reply && b.toPod(v) })
	if !ok {
		return false
	}
	uid := 0
	if v.flow.UID != nil {
		uid = int(*v.flow.UID)
	}
	last := max(0, uid+one(b, -1, 0, 0))
	b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("to %s uidrange %d-%d priority %d %s", host(v.dst), max(0, last-10), last, 1000+b.IntN(20000), b.ended(v.ns, v.dst)), "rule:uidrange")
	return true
}

// forwardsBy turns forwarding off for a device on the way: IPv4 looks at the one by which a packet came, IPv6 at none.
func (b *builder) forwardsBy() bool {
	v, ok := b.spot(func(v *view) bool { return forwarded(v) && !b.used["forwarding "+v.ns] })
	if !ok || !b.once("forwarding "+v.ns) {
		return false
	}
	b.sysctl(v.ns, fmt.Sprintf("net.ipv%d.conf.%s.forwarding", v.flow.family, one(b, v.in, v.in, v.out)), "0", "1", "sysctl:forwarding")
	return true
}

// filtersBy filters sources by the way back to them, which leads to another device. Requests arrive, or not; the answers do
// not.
func (b *builder) filtersBy() bool {
	to := one(b, b.pods...)
	n, f := to.node, b.visit(to, netstack.IPv4, one(b, verdict.TCP, verdict.UDP))
	if f == nil || !b.once("rp_filter "+n.name) {
		return false
	}
	source := host(f.fromPod.addrs[0])
	b.route(n.name, netstack.IPv4, "route", fmt.Sprintf("%s dev %s", source, to.side()), "route:detour")
	values := one(b, [2]string{"1", "0"}, [2]string{"2", "0"}, [2]string{"0", "2"}, [2]string{"2", "1"}, [2]string{"1", "2"}, [2]string{"0", "1"})
	for i, dev := range []string{"all", n.uplink} {
		b.sysctl(n.name, fmt.Sprintf("net.ipv4.conf.%s.rp_filter", dev), values[i], "0", "sysctl:rp_filter")
	}
	return true
}

// narrowAddress gives a node an address that is good for its neighbours only: nothing beyond a gateway is sent from it.
func (b *builder) narrowAddress() bool {
	n := one(b, b.nodes...)
	if !b.once("narrow " + n.name) {
		return false
	}
	a := n.addrs[0].As4()
	a[3] += 50
	b.add(Element{
		Namespace: n.name, Tool: ToolIP, Rebuild: true, Features: []string{"address:scope"},
		Text: fmt.Sprintf("addr add %s/25 dev %s scope link", netip.AddrFrom4(a), n.uplink),
	})
	for _, p := range b.pods {
		if p.node != n {
			b.ask(n.name, p.addrs[0], one(b, verdict.TCP, verdict.UDP))
		}
	}
	return true
}

// unevenWays spreads a pod's flows over two ways, nearly all over one of them; there is nobody on the other.
func (b *builder) unevenWays() bool {
	n := b.bridgedNode(1)
	if n == nil {
		return false
	}
	to := one(b, n.pods...)
	dst := host(to.addrs[0])
	f := b.visit(to, netstack.IPv4, one(b, verdict.TCP, verdict.UDP))
	if f == nil || !b.once(routeKey(n.name, dst.String())) {
		return false
	}
	b.sysctl(n.name, "net.ipv4.fib_multipath_hash_policy", "1", "0", "sysctl:fib_multipath_hash_policy")
	nobody := n.ranges[0].Addr().As4()
	nobody[3] = 99
	weights := one(b, [2]int{50, 1}, [2]int{50, 1}, [2]int{1, 50})
	mark := b.mark(n.name)
	b.add(Element{
		Namespace: n.name, Tool: ToolIP, Family: netstack.IPv4, Mark: mark, Features: []string{"route:multipath"},
		Text: fmt.Sprintf("-4 route add %s proto %d nexthop dev cni0 weight %d nexthop via %s dev cni0 weight %d", dst, mark, weights[0], netip.AddrFrom4(nobody), weights[1]),
	})
	f.Repeat = edgeThrows
	return true
}

// narrowRoute has a route whose MTU only full-size segments exceed; sometimes nobody is told.
func (b *builder) narrowRoute() bool {
	v, ok := b.spot(func(v *view) bool {
		return b.toPodForwarded(v) && v.flow.Protocol == verdict.TCP && v.flow.Via == "" && !b.used[routeKey(v.ns, host(v.dst).String())]
	})
	if !ok {
		return false
	}
	f := v.flow
	for _, p := range b.places(f) {
		if p.ns != v.ns || p.dst != v.dst || p.in == "" {
			continue
		}
		b.route(v.ns, f.family, "route", fmt.Sprintf("%s %s mtu %s%d", host(v.dst), p.hop(), one(b, "", "", "lock "), one(b, 1300, 1400)), "route:mtu")
		if b.chance(50) {
			text := fmt.Sprintf("-p icmp -m icmp --icmp-type fragmentation-needed -d %s -j DROP", v.src)
			if f.family == netstack.IPv6 {
				text = fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type packet-too-big -d %s -j DROP", v.src)
			}
			b.iptables(v.ns, f.family, one(b, netstack.BackendLegacy, netstack.BackendNFT), "mangle", "OUTPUT", text, "match:icmp", "target:DROP")
		}
		return true
	}
	return false
}

// twoMetrics has a way that ends packets, and one of a better or worse metric on which they go on.
func (b *builder) twoMetrics() bool {
	v, ok := b.spot(func(v *view) bool {
		return b.toPodForwarded(v) && v.flow.Via == "" && !b.used[routeKey(v.ns, host(v.dst).String())]
	})
	if !ok {
		return false
	}
	f := v.flow
	for _, p := range b.places(f) {
		if p.ns != v.ns || p.dst != v.dst || p.in == "" {
			continue
		}
		metric := one(b, 10, 90)
		b.route(v.ns, f.family, "route", fmt.Sprintf("%s %s metric 50", one(b, "unreachable", "blackhole", "prohibit"), host(v.dst)), "route:metric")
		b.route(v.ns, f.family, "route", fmt.Sprintf("%s %s metric %d", host(v.dst), p.hop(), metric), "route:metric")
		return true
	}
	return false
}

// suppressed takes the routes of main that are long enough, before all else ends.
func (b *builder) suppressed() bool {
	v, ok := b.spot(b.toPodForwarded)
	if !ok {
		return false
	}
	at, selector := 1000+b.IntN(20000), "to "+host(v.dst).String()
	lengths := []int{0, 23, 24, 31}
	if v.flow.family == netstack.IPv6 {
		lengths = []int{0, 63, 64, 127}
	}
	b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("%s priority %d lookup main suppress_prefixlength %d", selector, at, one(b, lengths...)), "rule:suppress")
	b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("%s priority %d %s", selector, at+1, b.ended(v.ns, v.dst)), "rule:to")
	return true
}

// thrown leaves a table that would end the packet by a longer prefix.
func (b *builder) thrown() bool {
	v, ok := b.spot(b.toPodForwarded)
	if !ok {
		return false
	}
	table := 600 + len(b.world.Elements)
	wide, _ := v.dst.Prefix(v.dst.BitLen() - 4)
	b.route(v.ns, v.flow.family, "route", fmt.Sprintf("%s %s table %d", one(b, "blackhole", "unreachable", "prohibit"), wide, table), "route:table")
	to := v.dst
	if b.chance(25) {
		to = to.Next()
	}
	b.route(v.ns, v.flow.family, "route", fmt.Sprintf("throw %s table %d", host(to), table), "route:throw")
	b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("to %s priority %d lookup %d", host(v.dst), 1000+b.IntN(20000), table), "rule:to")
	return true
}

// skipped goes past a rule that would end the packet, or up to it.
func (b *builder) skipped() bool {
	v, ok := b.spot(b.toPodForwarded)
	if !ok {
		return false
	}
	at, selector := 1000+b.IntN(20000), "to "+host(v.dst).String()
	rule := func(priority int, action, feature string) {
		b.route(v.ns, v.flow.family, "rule", fmt.Sprintf("%s priority %d %s", selector, priority, action), feature)
	}
	rule(at, fmt.Sprintf("goto %d", one(b, at+5, at+10)), "rule:goto")
	rule(at+5, b.ended(v.ns, v.dst), "rule:to")
	rule(at+10, "lookup main", "rule:to")
	return true
}
