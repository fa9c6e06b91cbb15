package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// sysctlSubjects are settings, each with what makes it decide.
func sysctlSubjects() []subject {
	list := []subject{
		{feature: "sysctl:rp_filter", show: (*builder).showReversePath},
		{feature: "sysctl:accept_local", apart: true, show: (*builder).showAcceptLocal},
		{feature: "sysctl:route_localnet", show: func(b *builder) bool {
			x := b.xtSpot([]string{"nat"}, func(v *view) bool { return v.hook == "PREROUTING" && v.flow.family == netstack.IPv4 && v.physIn == "" })
			if x == nil {
				return false
			}
			x.shows("", "-j DNAT --to-destination 127.0.0.1", "target:DNAT")
			b.sysctl(x.v.ns, "net.ipv4.conf."+one(b, "all", x.v.in)+".route_localnet", "1", "0", "sysctl:route_localnet")
			return true
		}},
		{feature: "sysctl:icmp_echo_ignore_all", show: func(b *builder) bool {
			v, ok := b.spot(func(v *view) bool { return v.flow.Protocol == verdict.ICMP && v.hook == "INPUT" && !v.reply })
			if !ok {
				return false
			}
			key := "net.ipv4.icmp_echo_ignore_all"
			if v.flow.family == netstack.IPv6 {
				key = "net.ipv6.icmp.echo_ignore_all"
			}
			b.sysctl(v.ns, key, "1", "0", "sysctl:icmp_echo_ignore_all")
			return true
		}},
	}
	for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		name := "bridge-nf-call-iptables"
		if family == netstack.IPv6 {
			name = "bridge-nf-call-ip6tables"
		}
		list = append(list, subject{feature: "sysctl:" + name, bridged: true, apart: true, show: func(b *builder) bool {
			// Rules that drop what is bridged do not see it.
			n := b.nodes[0]
			for i := range 4 {
				f := b.ask(n.pods[i%2].name, n.pods[(i+1)%2].addrs[slot(family)], one(b, verdict.TCP, verdict.UDP))
				for _, v := range b.views(f) {
					if v.ns == n.name && v.hook == "FORWARD" && !v.reply {
						x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "filter", chain: "FORWARD"}
						x.shows(one(b, "", "-m physdev --physdev-is-bridged"), "-j DROP", "target:DROP")
					}
				}
			}
			b.sysctl(n.name, "net.bridge."+name, "0", "1", "sysctl:"+name)
			return true
		}})
	}
	return list
}

// showReversePath routes the source elsewhere than where its packets come from, or nowhere. The answers get lost: a datagram
// tells whether the request did.
func (b *builder) showReversePath() bool {
	var from netip.Prefix
	v, ok := b.spot(func(v *view) bool {
		from = netip.PrefixFrom(v.src, v.src.BitLen())
		return v.flow.family == netstack.IPv4 && v.flow.Protocol != verdict.ICMP && v.flow.fromPod != nil && !v.reply && v.at("FORWARD", "INPUT") && v.physIn == "" && v.flow.toNode != nil &&
			v.ns == v.flow.toNode.name && v.in == v.flow.toNode.uplink && !b.used[routeKey(v.ns, from.String())]
	})
	if !ok {
		return false
	}
	v.flow.Protocol = verdict.UDP
	strict := b.chance(60)
	if strict {
		b.route(v.ns, netstack.IPv4, "route", fmt.Sprintf("%s dev %s", from, v.flow.toNode.pods[0].side()), "route:detour")
	} else { // to loose ones, too, a source without a route is none
		b.route(v.ns, netstack.IPv4, "route", fmt.Sprintf("unreachable %s", from), "route:unreachable")
	}
	value := "1"
	if !strict {
		value = one(b, "1", "2")
	}
	b.sysctl(v.ns, fmt.Sprintf("net.ipv4.conf.%s.rp_filter", one(b, "all", v.in)), value, "0", "sysctl:rp_filter")
	return true
}

// showAcceptLocal sends datagrams from an address that the receiver has, too. Their answers do not come back.
func (b *builder) showAcceptLocal() bool {
	if !b.once("an address that two nodes have") {
		return false
	}
	n, other := b.nodes[0], b.nodes[1]
	shared := netip.AddrFrom4([4]byte{10, 99, 0, 1})
	for _, ns := range []string{n.name, other.name} {
		b.ip(ns, "addr add %s/32 dev lo", shared)
	}
	b.route(n.name, netstack.IPv4, "route", fmt.Sprintf("%s/32 dev eth0 src %s", other.addrs[0], shared), "route:src")
	b.sysctl(other.name, "net.ipv4.conf."+one(b, "all", other.uplink)+".accept_local", "1", "0", "sysctl:accept_local")
	for range 4 {
		b.ask(n.name, other.addrs[0], verdict.UDP)
	}
	return true
}
