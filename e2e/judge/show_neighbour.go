package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// neighbourSubjects decide who answers for an address.
func neighbourSubjects() []subject {
	list := []subject{
		{feature: "sysctl:arp_ignore", apart: true, show: func(b *builder) bool {
			// A pod asks for an address that its node has on another device.
			n := one(b, b.nodes...)
			p := n.pods[0]
			to := netip.PrefixFrom(n.addrs[0], 32)
			if !b.once(routeKey(p.name, to.String())) {
				return false
			}
			b.ip(p.name, "route add %s dev eth0", to)
			b.sysctl(n.name, "net.ipv4.conf."+one(b, "all", p.side())+".arp_ignore", one(b, "1", "2", "8"), "0", "sysctl:arp_ignore")
			b.askAll(p.name, to.Addr())
			return true
		}},
		{feature: "sysctl:arp_filter", bridged: true, apart: true, show: func(b *builder) bool {
			// The way back to the pod that asks leads elsewhere.
			n := b.nodes[0]
			p := one(b, n.pods...)
			to := netip.PrefixFrom(p.addrs[0], 32)
			b.route(n.name, netstack.IPv4, "route", fmt.Sprintf("%s dev %s", to, n.uplink), "route:detour")
			b.sysctl(n.name, "net.ipv4.conf."+one(b, "all", "cni0")+".arp_filter", "1", "0", "sysctl:arp_filter")
			b.askAll(p.name, n.ranges[0].Addr().Next())
			b.ask(p.name, n.addrs[0], verdict.UDP)
			return true
		}},
		{feature: "sysctl:proxy_arp", apart: true, show: func(b *builder) bool {
			n := one(b, b.nodes...)
			p := n.pods[0]
			b.askAll(p.name, outsideAddrs[0])
			for _, other := range b.nodes {
				if other != n {
					b.askAll(p.name, other.pods[0].addrs[0])
				}
			}
			if n.routed {
				b.sysctl(n.name, "net.ipv4.conf."+p.veth+".proxy_arp", "0", "1", "sysctl:proxy_arp")
				return true
			}
			// The pod takes all for neighbours.
			b.ip(p.name, "route add 0.0.0.0/1 dev eth0")
			b.ip(p.name, "route add 128.0.0.0/1 dev eth0")
			b.sysctl(n.name, "net.ipv4.conf."+one(b, "all", "cni0")+".proxy_arp", "1", "0", "sysctl:proxy_arp")
			return true
		}},
		{feature: "sysctl:proxy_arp_pvlan", bridged: true, apart: true, show: func(b *builder) bool {
			// Pods that may not hear each other talk over the node.
			n := b.nodes[0]
			for _, p := range n.pods {
				b.late(n.name, fmt.Sprintf("link set %s type bridge_slave isolated on", p.veth), "bridge:isolated")
			}
			b.sysctl(n.name, "net.ipv4.conf.cni0.proxy_arp_pvlan", "1", "0", "sysctl:proxy_arp_pvlan")
			b.askAll(n.pods[0].name, n.pods[1].addrs[0])
			return true
		}},
		{feature: "ndp:dropped", apart: true, show: func(b *builder) bool {
			n := one(b, b.nodes...)
			p := n.pods[0]
			b.iptables(p.name, netstack.IPv6, one(b, netstack.BackendLegacy, netstack.BackendNFT), "filter", one(b, "INPUT", "OUTPUT"),
				"-p ipv6-icmp -m icmp6 --icmpv6-type "+one(b, "135", "136")+" -j DROP", "ndp:dropped", "match:icmp6", "target:DROP")
			b.askAll(n.name, p.addrs[1])
			b.askAll(p.name, n.addrs[1])
			return true
		}},
		{feature: "ndp:dropped", apart: true, show: func(b *builder) bool {
			n := one(b, b.nodes...)
			b.iptables(n.name, netstack.IPv6, one(b, netstack.BackendLegacy, netstack.BackendNFT), "filter", one(b, "INPUT", "OUTPUT"),
				"-p ipv6-icmp -m icmp6 --icmpv6-type "+one(b, "135", "136")+" -j DROP", "ndp:dropped", "match:icmp6", "target:DROP")
			b.askAll(n.name, outsideAddrs[1])
			return true
		}},
		{feature: "nft:arp", apart: true, show: func(b *builder) bool {
			n := one(b, b.nodes...)
			p := n.pods[0]
			ns := one(b, n.name, p.name)
			hook := one(b, "input", "output")
			b.nft(ns, "add table arp judge")
			b.nft(ns, fmt.Sprintf("add chain arp judge %s { type filter hook %s priority 0; }", hook, hook))
			b.nft(ns, fmt.Sprintf(`add rule arp judge %s arp operation %s drop comment "@id"`, hook, one(b, "request", "reply", "{ request, reply }")), "nft:arp")
			b.askAll(n.name, p.addrs[0])
			b.askAll(p.name, n.addrs[0])
			b.askAll(n.name, outsideAddrs[0])
			return true
		}},
		{feature: "neigh:permanent", apart: true, show: func(b *builder) bool {
			n := one(b, b.nodes...)
			p := n.pods[0]
			at := b.IntN(2)
			b.rebuiltLate(n.name, fmt.Sprintf("-%d neigh replace %s lladdr %s dev %s nud permanent", families[at], p.addrs[at], one(b, "02:00:00:00:99:99", p.mac()), p.side()), "neigh:permanent")
			b.askAll(n.name, p.addrs[at])
			return true
		}},
	}
	return list
}

// askAll sends with TCP and UDP.
func (b *builder) askAll(from string, to netip.Addr) {
	for range 2 {
		b.ask(from, to, verdict.TCP)
		b.ask(from, to, verdict.UDP)
	}
}
