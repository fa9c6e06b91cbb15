package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// routeSubjects are routes and policy rules that seldom decide by themselves. What only leads the usual way does so beside a
// route that ends there: it has the better metric.
func routeSubjects() []subject {
	return []subject{
		{feature: "route:onlink", show: func(b *builder) bool {
			return b.better(nil, func(p *place) (string, []string) {
				via := p.via
				if !via.IsValid() {
					via = p.dst
				}
				return fmt.Sprintf("via %s dev %s onlink", via, p.dev), []string{"route:onlink"}
			})
		}},
		{feature: "nexthop:object", show: func(b *builder) bool {
			return b.better(func(p *place) bool { return p.via.IsValid() }, func(p *place) (string, []string) {
				return fmt.Sprintf("nhid %d", b.nexthop(p)), []string{"nexthop:object"}
			})
		}},
		{feature: "nexthop:group", show: func(b *builder) bool {
			return b.better(func(p *place) bool { return p.via.IsValid() }, func(p *place) (string, []string) {
				first, second, id := b.nexthop(p), b.nexthop(p), b.nexthopID(p.ns)
				b.late(p.ns, fmt.Sprintf("nexthop add id %d group %d,3/%d", id, first, second))
				return fmt.Sprintf("nhid %d", id), []string{"nexthop:group"}
			})
		}},
		{feature: "nexthop:blackhole", show: func(b *builder) bool {
			p, ok := b.routeSpot(nil)
			if !ok {
				return false
			}
			id := b.nexthopID(p.ns)
			b.late(p.ns, fmt.Sprintf("-%d nexthop add id %d blackhole", p.flow.family, id))
			b.lateRoute(p.ns, p.flow.family, "route", fmt.Sprintf("%s nhid %d", p.host(), id), "nexthop:blackhole")
			return true
		}},
		{feature: "route:src", show: (*builder).showSource},
		{feature: "route:local", show: func(b *builder) bool {
			// An address that only the routing table has, as that of a service.
			n := one(b, b.nodes...)
			at := b.IntN(2)
			to := [2]netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, byte(len(b.world.Probes))}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", len(b.world.Probes)))}[at]
			// A datagram's answer cannot come from an IPv6 address that no device has (ip6_datagram_send_ctl).
			protocol := verdict.TCP
			if at == 0 {
				protocol = one(b, verdict.TCP, verdict.UDP)
			}
			b.ask(one(b, n.pods...).name, to, protocol)
			b.route(n.name, families[at], "route", fmt.Sprintf("local %s dev lo table local", to), "route:local")
			return true
		}},
		{feature: "route:mtu", show: func(b *builder) bool { return b.showSize("mtu 1300", "route:mtu", false) }},
		{feature: "route:advmss", show: func(b *builder) bool { return b.showSize("advmss 700", "route:advmss", true) }},
		{feature: "rule:sport", show: func(b *builder) bool {
			return b.ruled(func(p *place) bool { return p.flow.Protocol != verdict.ICMP }, func(p *place) string {
				return fmt.Sprintf("ipproto %s sport %d-%d", p.flow.Protocol, p.sport-uint16(b.IntN(2)), p.sport+uint16(b.IntN(5)))
			}, "rule:sport")
		}},
		{feature: "rule:dport", show: func(b *builder) bool {
			return b.ruled(func(p *place) bool { return p.flow.Protocol != verdict.ICMP }, func(p *place) string {
				return fmt.Sprintf("ipproto %s dport %d-%d", p.flow.Protocol, p.dport-uint16(b.IntN(2)), p.dport+uint16(b.IntN(5)))
			}, "rule:dport")
		}},
		{feature: "rule:tos", show: func(b *builder) bool {
			return b.ruled(func(p *place) bool { return !p.reply }, func(p *place) string {
				p.flow.DSCP = one[uint8](b, 2, 4)
				return fmt.Sprintf("tos %#x", p.flow.DSCP<<2)
			}, "rule:tos")
		}},
		{feature: "rule:uidrange", show: func(b *builder) bool {
			return b.ruled(func(p *place) bool { return p.in == "" && !p.reply }, func(p *place) string {
				uid := uint32(0)
				if p.flow.UID != nil {
					uid = *p.flow.UID
				}
				return fmt.Sprintf("uidrange %d-%d", uid, uid+9)
			}, "rule:uidrange")
		}},
		{feature: "rule:mark", show: func(b *builder) bool {
			// A rule of the mangle table marks what is to be routed.
			return b.ruled(func(p *place) bool { return true }, func(p *place) string {
				x := &xtables{builder: b, v: p.view, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: "PREROUTING"}
				if p.in == "" {
					x.chain = "OUTPUT"
				}
				x.v.hook = x.chain
				x.shows("", "-j MARK --set-xmark 0xa00/0xf00", "target:MARK")
				return "fwmark 0xa00/0xf00"
			}, "rule:mark")
		}},
		{feature: "route:multipath", show: (*builder).showMultipath},
	}
}

// host is the prefix of the destination alone.
func (p *place) host() netip.Prefix { return netip.PrefixFrom(p.dst, p.dst.BitLen()) }

// routeSpot finds a flow, and a place where it is routed and its destination has no route of its own.
func (b *builder) routeSpot(fits func(*place) bool) (place, bool) {
	var found place
	_, ok := b.spot(func(v *view) bool {
		if !v.at("OUTPUT", "FORWARD") || v.physIn != "" {
			return false
		}
		for _, p := range b.places(v.flow) {
			if p.ns != v.ns || p.dst != v.dst || p.dev == "" || b.used[routeKey(p.ns, p.host().String())] || fits != nil && !fits(&p) {
				continue
			}
			found = p
			return true
		}
		return false
	})
	return found, ok
}

// better adds a route to the flow's destination, which ends there were it not for another with the better metric.
func (b *builder) better(fits func(*place) bool, text func(*place) (string, []string)) bool {
	p, ok := b.routeSpot(fits)
	if !ok {
		return false
	}
	b.route(p.ns, p.flow.family, "route", fmt.Sprintf("unreachable %s metric 90", p.host()), "route:metric")
	way, features := text(&p)
	b.lateRoute(p.ns, p.flow.family, "route", fmt.Sprintf("%s %s metric 50", p.host(), way), features...)
	return true
}

// lateRoute is route for what needs links that are up, and next hops that are there.
func (b *builder) lateRoute(ns string, family netstack.Family, object, text string, features ...string) {
	if n := len(b.world.Elements); b.route(ns, family, object, text, features...) {
		b.world.Elements[n].Tool = ToolLate
	}
}

// nexthopID is one that nothing else in the namespace has.
func (b *builder) nexthopID(ns string) int {
	return 100 + int(b.mark(ns))
}

// nexthop makes an object of the place's next hop.
func (b *builder) nexthop(p *place) int {
	id := b.nexthopID(p.ns)
	b.late(p.ns, fmt.Sprintf("nexthop add id %d %s", id, p.hop()))
	return id
}

// ruled sends what the selector takes to a table in which it ends.
func (b *builder) ruled(fits func(*place) bool, selector func(*place) string, feature string) bool {
	p, ok := b.routeSpot(fits)
	if !ok {
		return false
	}
	text := fmt.Sprintf("%s to %s priority %d ", selector(&p), p.host(), 500+len(b.world.Elements))
	if b.chance(50) {
		action := one(b, "blackhole", "unreachable", "prohibit")
		b.route(p.ns, p.flow.family, "rule", text+action, feature, "rule:"+action)
		return true
	}
	table := 1000 + len(b.world.Elements)
	b.route(p.ns, p.flow.family, "route", fmt.Sprintf("%s %s table %d", one(b, "blackhole", "unreachable", "prohibit"), p.host(), table), "route:table")
	b.route(p.ns, p.flow.family, "rule", text+fmt.Sprintf("lookup %d", table), feature)
	return true
}

// showSource gives a node's packet the source that its route names.
func (b *builder) showSource() bool {
	own := func(p *place) (netip.Addr, bool) {
		for _, n := range b.nodes {
			if n.name == p.ns && !n.routed && p.dev == n.uplink && p.in == "" && !p.reply && !p.flow.Source.IsValid() {
				return n.ranges[slot(p.flow.family)].Addr().Next(), true
			}
		}
		return netip.Addr{}, false
	}
	p, ok := b.routeSpot(func(p *place) bool { _, ok := own(p); return ok })
	if ok {
		source, _ := own(&p)
		b.route(p.ns, p.flow.family, "route", fmt.Sprintf("%s %s src %s", p.host(), p.hop(), source), "route:src")
	}
	return ok
}

// showSize makes TCP's segments smaller than what the other end's rules take: of what a pod sends, or of a pod's answers. They
// are sent one at a time, and stay on the node: several at once are longer, and what comes by a wire that is not collected may be
// put together.
func (b *builder) showSize(setting, feature string, reply bool) bool {
	p, ok := b.routeSpot(func(p *place) bool {
		return p.flow.Protocol == verdict.TCP && p.in == "" && !p.reply && p.flow.fromPod != nil && p.ns == p.flow.fromPod.name && p.flow.fromNode == p.flow.toNode && (p.flow.toPod != nil || !reply)
	})
	if !ok {
		return false
	}
	b.route(p.ns, p.flow.family, "route", fmt.Sprintf("%s %s %s", p.host(), p.hop(), setting), feature)
	v := p.view
	v.ns, v.hook = p.ns, "INPUT"
	size, sender := "1000:65535", p.ns
	if reply {
		sender = p.flow.toPod.name
		v.src, v.dst, v.sport, v.dport, v.reply = v.dst, v.src, v.dport, v.sport, true
	} else if size = "1400:65535"; p.flow.toPod != nil {
		v.ns = p.flow.toPod.name
	} else {
		v.ns = p.flow.toNode.name
	}
	b.ip(sender, "link set eth0 gso_max_segs 1")
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: "INPUT"}
	x.bare("-m length --length "+size, "-j DROP", "match:length", "target:DROP")
	return true
}

// showMultipath gives a flow a second way, over a pod that does not forward.
func (b *builder) showMultipath() bool {
	// Which way IPv6 takes depends on what it knows of the neighbours, too (rt6_check_neigh).
	p, ok := b.routeSpot(func(p *place) bool {
		return p.flow.family == netstack.IPv4 && p.flow.Protocol != verdict.ICMP && p.in != "" && p.dev == "eth0" && p.flow.Via == "" && b.idle(&p.view) != nil
	})
	if !ok {
		return false
	}
	via := p.via
	if !via.IsValid() {
		via = p.dst
	}
	q := b.idle(&p.view)
	if b.once(p.ns + " net.ipv4.fib_multipath_hash_policy") {
		b.add(Element{Namespace: p.ns, Tool: ToolSysctl, Text: "net.ipv4.fib_multipath_hash_policy=1"})
	}
	mark := b.mark(p.ns)
	b.once(routeKey(p.ns, p.host().String()))
	b.add(Element{
		Namespace: p.ns, Tool: ToolIP, Family: netstack.IPv4, Mark: mark, Features: []string{"route:multipath"},
		Text: fmt.Sprintf("-4 route add %s proto %d nexthop via %s dev eth0 weight %d nexthop via %s dev %s weight %d onlink", p.host(), mark, via, 1+b.IntN(3), q.addrs[0], q.side(), 1+b.IntN(2)),
	})
	p.flow.Repeat = throws
	return true
}
