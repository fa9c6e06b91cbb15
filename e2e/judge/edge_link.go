package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// linkEdges are ports of bridges, and who answers for an address.
func linkEdges() []subject {
	return []subject{
		{feature: "bridge:hairpin", bridged: true, show: (*builder).hairpinned},
		{feature: "bridge:isolated", bridged: true, show: (*builder).isolated},
		{feature: "sysctl:bridge-nf-call", bridged: true, show: (*builder).calls},
		{feature: "sysctl:arp_ignore", bridged: true, show: (*builder).ignoresARP},
	}
}

// bridgedNode is a node with so many pods on its bridge.
func (b *builder) bridgedNode(pods int) *node {
	for _, i := range b.Perm(len(b.nodes)) {
		if n := b.nodes[i]; !n.routed && len(n.pods) >= pods {
			return n
		}
	}
	return nil
}

// hairpinned has a pod reach itself by an address that its node translates: it goes out of the port by which it came.
func (b *builder) hairpinned() bool {
	n := b.bridgedNode(1)
	if n == nil {
		return false
	}
	p := one(b, n.pods...)
	for at := range families {
		f := b.ask(p.name, one(b, b.nodes...).addrs[at], one(b, verdict.TCP, verdict.UDP))
		x := &xtables{builder: b, backend: b.translator, table: "nat", chain: "PREROUTING"}
		x.v = view{ns: n.name, hook: x.chain, src: p.addrs[at], dst: f.To, sport: f.SourcePort, dport: f.Port, flow: f}
		x.shows("", "-j DNAT --to-destination "+p.addrs[at].String(), "target:DNAT")
		x.chain, x.v.dst = "POSTROUTING", p.addrs[at]
		x.shows("", "-j MASQUERADE", "target:MASQUERADE")
	}
	if b.once("hairpin "+n.name+p.name) && b.chance(45) {
		b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave hairpin on", p.veth), "bridge:hairpin")
	}
	return true
}

// isolated keeps two pods of a bridge apart, or isolates but one of them.
func (b *builder) isolated() bool {
	n := b.bridgedNode(2)
	if n == nil || !b.once("isolated "+n.name) {
		return false
	}
	first, second := n.pods[0], n.pods[1]
	if b.chance(50) {
		first, second = second, first
	}
	b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave isolated on", first.veth), "bridge:isolated")
	if b.chance(40) {
		b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave isolated on", second.veth), "bridge:isolated")
	}
	for at := range families {
		b.ask(first.name, second.addrs[at], one(b, verdict.TCP, verdict.UDP))
		b.ask(second.name, first.addrs[at], one(b, verdict.TCP, verdict.UDP))
	}
	return true
}

// calls has rules for what is bridged, and mostly turns them off.
func (b *builder) calls() bool {
	n := b.bridgedNode(2)
	if n == nil {
		return false
	}
	from, to := n.pods[0], n.pods[1]
	if b.chance(50) {
		from, to = to, from
	}
	for at := range families {
		f := b.ask(from.name, to.addrs[at], one(b, verdict.TCP, verdict.UDP))
		for _, v := range b.views(f) {
			if v.ns != n.name || v.reply || v.hook != "FORWARD" {
				continue
			}
			x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "filter", chain: v.hook}
			x.shows("", "-j DROP", "target:DROP")
		}
		if b.chance(70) {
			name := [2]string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"}[at]
			b.sysctl(n.name, "net.bridge."+name, "0", "1", "sysctl:"+name)
		}
	}
	return true
}

// ignoresARP has a pod take for a neighbour what its node has on another device.
func (b *builder) ignoresARP() bool {
	n := b.bridgedNode(1)
	if n == nil {
		return false
	}
	p := one(b, n.pods...)
	to := netip.PrefixFrom(n.addrs[0], 32)
	if !b.once(routeKey(p.name, to.String())) {
		return false
	}
	b.ip(p.name, "route add %s dev eth0", to)
	b.sysctl(n.name, "net.ipv4.conf."+one(b, "all", p.side())+".arp_ignore", one(b, "1", "1", "2", "3"), "0", "sysctl:arp_ignore")
	b.ask(p.name, to.Addr(), verdict.UDP)
	return true
}
