package judge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// rebuilt adds a line of ip whose effect only a world built without it shows.
func (b *builder) rebuilt(ns, text string, features ...string) {
	b.add(Element{Namespace: ns, Tool: ToolIP, Text: text, Features: features, Rebuild: true})
}

// rebuiltLate is rebuilt for what needs links that are up.
func (b *builder) rebuiltLate(ns, text string, features ...string) {
	b.add(Element{Namespace: ns, Tool: ToolLate, Text: text, Features: features, Rebuild: true})
}

// noneFromOutside leaves out the probes that the router has to bring in: what it knows, and what it announces, the
// simulator cannot see.
func (b *builder) noneFromOutside() {
	b.world.Probes = slices.DeleteFunc(b.world.Probes, func(p Probe) bool { return p.Via != "" })
}

// generateLinks changes a link on the way of a flow, or what is known of a neighbour.
func generateLinks(b *builder) {
	f := b.flow()
	places := b.places(f)
	if len(places) == 0 {
		return
	}
	p := one(b, places...)
	if p.dev == "" {
		return
	}
	n := one(b, b.nodes...)
	dst := one(b, n.pods...)
	at := slot(f.family)
	prefix, _ := p.dst.Prefix(p.dst.BitLen())
	options := []option[func()]{
		{"link:mtu", func() {
			if p.dev == "eth0" && strings.HasPrefix(p.ns, "n") {
				return // the wire between the nodes is not collected, nor what it carries
			}
			b.noneFromOutside()
			b.rebuilt(p.ns, fmt.Sprintf("link set %s mtu %d", p.dev, one(b, 1300, 1400)), "link:mtu")
			if b.chance(50) {
				// Nobody hears of it.
				for _, x := range families {
					text, icmp := "-p icmp -m icmp --icmp-type fragmentation-needed -j DROP", "match:icmp"
					if x == netstack.IPv6 {
						text = "-p ipv6-icmp -m icmp6 --icmpv6-type packet-too-big -j DROP"
					}
					b.iptables(p.ns, x, netstack.BackendNFT, "mangle", "OUTPUT", text, icmp, "target:DROP")
				}
			}
		}},
		{"route:mtu", func() {
			lock := one(b, "", "", "lock ")
			b.route(p.ns, f.family, "route", fmt.Sprintf("%s %s mtu %s%d", prefix, p.hop(), lock, one(b, 1300, 1400)), "route:mtu")
		}},
		{"route:advmss", func() {
			b.route(p.ns, f.family, "route", fmt.Sprintf("%s %s advmss 700", prefix, p.hop()), "route:advmss")
		}},
		{"neigh:permanent", func() {
			mac := one(b, dst.mac(), "02:00:00:00:99:99")
			if b.once("neigh " + n.name + dst.name) {
				b.rebuiltLate(n.name, fmt.Sprintf("-%d neigh replace %s lladdr %s dev %s nud permanent", f.family, dst.addrs[at], mac, dst.side()), "neigh:permanent")
			}
		}},
		{"link:down", func() {
			if b.chance(25) {
				b.rebuiltLate(dst.name, "link set eth0 down", "link:down")
			}
		}},
		{"sysctl:disable_ipv6", func() {
			if b.chance(40) && b.once(dst.name+" disable_ipv6") {
				b.add(Element{Namespace: dst.name, Tool: ToolSysctl, Text: "net.ipv6.conf.eth0.disable_ipv6=1", Default: "0", Features: []string{"sysctl:disable_ipv6"}, Rebuild: true})
			}
		}},
	}
	if !n.routed {
		options = append(
			options,
			option[func()]{"bridge:isolated", func() {
				for _, x := range n.pods {
					b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave isolated on", x.veth), "bridge:isolated")
				}
			}},
			option[func()]{"bridge:hairpin", func() {
				b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave hairpin on", dst.veth), "bridge:hairpin")
			}},
			option[func()]{"bridge:state", func() {
				if b.chance(40) {
					b.rebuiltLate(n.name, fmt.Sprintf("link set %s type bridge_slave state %d", dst.veth, one(b, 0, 4)), "bridge:state")
				}
			}},
			option[func()]{"sysctl:bridge-nf-call", func() {
				if f.family == netstack.IPv6 {
					b.sysctl(n.name, "net.bridge.bridge-nf-call-ip6tables", "0", "1", "sysctl:bridge-nf-call-ip6tables")
				} else {
					b.sysctl(n.name, "net.bridge.bridge-nf-call-iptables", "0", "1", "sysctl:bridge-nf-call-iptables")
				}
			}},
		)
	}
	pick(b, options).make()
}

// generateNeighbours makes who answers for an address decide. What neighbours have learned from each other does so too,
// so that the probes are sent one after the other.
func generateNeighbours(b *builder) {
	if !b.world.Apart {
		return
	}
	for range 2 {
		p := one(b, b.pods...)
		n := one(b, b.nodes...)
		x := one(b, p.name, n.name)
		dev := n.uplink
		if x == p.name {
			dev = "eth0"
		} else if b.chance(60) {
			dev = n.pods[0].side()
		}
		pick(b, []option[func()]{
			{"sysctl:arp_ignore", func() {
				b.sysctl(x, "net.ipv4.conf."+one(b, "all", dev)+".arp_ignore", one(b, "1", "2", "3", "8"), "0", "sysctl:arp_ignore")
			}},
			{"sysctl:arp_filter", func() { b.sysctl(x, "net.ipv4.conf."+one(b, "all", dev)+".arp_filter", "1", "0", "sysctl:arp_filter") }},
			{"sysctl:rp_filter", func() {
				b.sysctl(x, "net.ipv4.conf."+one(b, "all", dev)+".rp_filter", one(b, "1", "2"), "0", "sysctl:rp_filter")
				if x == n.name {
					// There is no way back to a pod, or another one.
					prefix, _ := p.addrs[0].Prefix(32)
					if p.node != n {
						b.route(n.name, netstack.IPv4, "route", fmt.Sprintf("%s dev %s", prefix, n.pods[0].side()), "route:detour")
					}
				}
			}},
			{"sysctl:proxy_arp", func() {
				if n.routed {
					b.sysctl(n.name, "net.ipv4.conf."+n.pods[0].veth+".proxy_arp", "0", "1", "sysctl:proxy_arp")
				} else {
					b.sysctl(n.name, "net.ipv4.conf.cni0.proxy_arp", "1", "0", "sysctl:proxy_arp")
				}
			}},
			{"ndp:dropped", func() {
				b.iptables(x, netstack.IPv6, one(b, netstack.BackendLegacy, netstack.BackendNFT), "filter", one(b, "INPUT", "OUTPUT"),
					"-p ipv6-icmp -m icmp6 --icmpv6-type "+one(b, "135", "136")+" -j DROP", "ndp:dropped", "match:icmp6", "target:DROP")
			}},
			{"sysctl:accept_local", func() {
				b.sysctl(x, "net.ipv4.conf."+one(b, "all", dev)+".accept_local", "1", "0", "sysctl:accept_local")
			}},
		}).make()
	}
}
