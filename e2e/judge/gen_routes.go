package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// place is where a packet of a flow is routed: a namespace on its way, and how to go on from there.
type place struct {
	view
	via netip.Addr // the way it goes without us; invalid for one on link
	dev string
}

// places lists where the request or the reply of a flow is routed.
func (b *builder) places(f *flow) []place {
	var list []place
	for _, v := range b.views(f) {
		switch v.hook {
		case "OUTPUT":
			list = append(list, place{view: v, dev: v.out})
		case "FORWARD":
			list = append(list, place{view: v, dev: v.out})
		}
	}
	for i := range list {
		p := &list[i]
		for _, n := range b.nodes {
			if n.name == p.ns && p.dev == n.uplink {
				p.via = routerAddrs[slot(f.family)]
				for _, other := range b.nodes {
					if other.ranges[slot(f.family)].Contains(p.dst) {
						p.via = other.addrs[slot(f.family)]
					}
					if other.addrs[slot(f.family)] == p.dst {
						p.via = netip.Addr{}
					}
				}
			}
		}
		for _, pod := range b.pods {
			if pod.name == p.ns {
				p.via = pod.gateway(f.family)
			}
		}
	}
	return list
}

var routerAddrs = [2]netip.Addr{netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("fd00:172:30::1")}

// gateway is the next hop of a pod's default route.
func (p *pod) gateway(f netstack.Family) netip.Addr {
	switch {
	case !p.node.routed:
		return p.node.ranges[slot(f)].Addr().Next()
	case f == netstack.IPv4:
		return netip.MustParseAddr("169.254.1.1")
	}
	return netip.MustParseAddr("fe80::1")
}

// hop is `via GATEWAY dev DEVICE`.
func (p *place) hop() string {
	text := ""
	if p.via.IsValid() {
		text = fmt.Sprintf("via %s ", p.via)
	}
	return text + "dev " + p.dev
}

// generateRoutes changes the way of one flow at one place.
func generateRoutes(b *builder) {
	f := b.flow()
	places := b.places(f)
	if len(places) == 0 {
		return
	}
	p := one(b, places...)
	if p.dev == "" {
		return
	}
	bits := one(b, p.dst.BitLen(), p.dst.BitLen(), p.dst.BitLen()-1, p.dst.BitLen()-8)
	prefix, _ := p.dst.Prefix(bits)
	route := func(text string, features ...string) {
		b.route(p.ns, f.family, "route", text, features...)
	}
	table := 100 + b.IntN(5)
	in := "iif lo "
	if p.in != "" {
		in = "iif " + p.in + " "
	}
	drop := func() string { // a table in which the packet ends
		kind := one(b, "blackhole", "unreachable", "prohibit")
		b.route(p.ns, f.family, "route", fmt.Sprintf("%s %s table %d", kind, prefix, table), "route:"+kind, "route:table")
		return fmt.Sprintf("lookup %d", table)
	}
	rule := func(selector, feature string) {
		priority := 1000 + b.IntN(20000)
		action := drop()
		// What is not selected is nearly everything: only a table leaves the rest alone.
		if b.chance(30) && feature != "not" {
			action = one(b, "blackhole", "unreachable", "prohibit")
			b.route(p.ns, f.family, "rule", fmt.Sprintf("%s priority %d %s", selector, priority, action), "rule:"+feature, "rule:"+action)
			return
		}
		b.route(p.ns, f.family, "rule", fmt.Sprintf("%s priority %d %s", selector, priority, action), "rule:"+feature)
	}
	port := func(what string, n uint16) string {
		return fmt.Sprintf("ipproto %s %s %d-%d", f.Protocol, what, n, int(n)+b.IntN(5))
	}
	options := []option[func()]{
		{"route:blackhole", func() { route(fmt.Sprintf("blackhole %s", prefix), "route:blackhole") }},
		{"route:unreachable", func() { route(fmt.Sprintf("unreachable %s", prefix), "route:unreachable") }},
		{"route:prohibit", func() { route(fmt.Sprintf("prohibit %s", prefix), "route:prohibit") }},
		{"route:throw", func() {
			// The rule's table would drop it, was it not for the longer prefix.
			action := drop()
			wide, _ := p.dst.Prefix(p.dst.BitLen())
			if prefix != wide {
				b.route(p.ns, f.family, "route", fmt.Sprintf("throw %s table %d", wide, table), "route:throw")
			}
			b.route(p.ns, f.family, "rule", fmt.Sprintf("to %s priority %d %s", prefix, 1000+b.IntN(20000), action), "rule:to")
		}},
		{"route:metric", func() {
			// The better metric wins.
			route(fmt.Sprintf("unreachable %s metric 50", prefix), "route:metric")
			route(fmt.Sprintf("%s %s metric %d", prefix, p.hop(), one(b, 10, 90)), "route:metric")
		}},
		{"rule:to", func() { rule("to "+prefix.String(), "to") }},
		{"rule:from", func() { rule("from "+p.src.String(), "from") }},
		{"rule:iif", func() { rule(in+"to "+prefix.String(), "iif") }},
		{"rule:not", func() { rule("not from 10.0.0.0/30 to "+prefix.String(), "not") }},
		{"rule:mark", func() {
			mask := one[uint32](b, 0xffffffff, 0xff, 0x4000)
			rule(fmt.Sprintf("to %s fwmark %#x/%#x", prefix, f.Mark&mask, mask), "mark")
		}},
		{"rule:suppress", func() {
			b.route(p.ns, f.family, "rule", fmt.Sprintf("to %s priority %d lookup main suppress_prefixlength %d", prefix, 1000+b.IntN(20000), one(b, 0, 8, 24, 64)), "rule:suppress")
			rule("to "+prefix.String(), "to")
		}},
		{"rule:goto", func() {
			at := 1000 + b.IntN(10000)
			b.route(p.ns, f.family, "rule", fmt.Sprintf("to %s priority %d goto %d", prefix, at, at+200), "rule:goto")
			b.route(p.ns, f.family, "rule", fmt.Sprintf("to %s priority %d %s", prefix, at+100, drop()), "rule:to")
			b.route(p.ns, f.family, "rule", fmt.Sprintf("to %s priority %d lookup main", prefix, at+200), "rule:to")
		}},
		{"route:onlink", func() {
			if to := one(b, b.pods...); to.node.name == p.ns && p.dev == to.side() {
				route(fmt.Sprintf("%s via %s dev %s onlink", prefix, to.addrs[slot(f.family)], p.dev), "route:onlink")
			}
		}},
	}
	if f.Port != 0 {
		options = append(
			options,
			option[func()]{"rule:dport", func() { rule(port("dport", f.Port), "dport") }},
			option[func()]{"rule:sport", func() { rule(port("sport", f.SourcePort), "sport") }},
			option[func()]{"rule:ipproto", func() { rule(fmt.Sprintf("ipproto %s to %s", f.Protocol, prefix), "ipproto") }},
		)
	}
	if p.in == "" {
		uid := 0
		if f.UID != nil {
			uid = int(*f.UID)
		}
		options = append(
			options,
			option[func()]{"rule:uidrange", func() { rule(fmt.Sprintf("uidrange %d-%d to %s", uid, uid+one(b, 0, 100), prefix), "uidrange") }},
		)
	}
	if f.DSCP == 2 || f.DSCP == 4 || f.family == netstack.IPv6 && f.DSCP != 0 {
		options = append(options, option[func()]{"rule:tos", func() { rule(fmt.Sprintf("tos %#x to %s", f.DSCP<<2, prefix), "tos") }})
	}
	if f.family == netstack.IPv6 {
		for i := range options {
			if options[i].feature == "rule:not" {
				options[i].make = func() { rule("not from fd00:ffff::/64 to "+prefix.String(), "not") }
			}
		}
	}
	pick(b, options).make()
}
