package judge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Names of the hidden namespaces: the router between the nodes, and the host behind it.
const (
	router  = "router"
	outside = "outside"
)

var (
	outsideAddrs = [2]netip.Addr{netip.MustParseAddr("192.168.50.2"), netip.MustParseAddr("fd00:192:168:50::2")}
	// openPorts have a listener everywhere; closedPort has none.
	openPorts = []uint16{80, 443, 5000, 8080, 8443, 9000}
)

const closedPort = 81

// Generate draws a world of what the kernel has. The same seed, index and features yield the same world.
func Generate(seed, index uint64, features []string, kernel Kernel) *World {
	b := &builder{
		Rand:  rand.New(rand.NewPCG(seed, index)),
		world: &World{Seed: seed, Index: index, Only: features},
		only:  features, kernel: kernel, marks: map[string]uint8{}, used: map[string]bool{}, aimed: map[string]bool{},
	}
	if b.kinds() {
		return b.world
	}
	b.translator = one(b, netstack.BackendLegacy, netstack.BackendNFT)
	b.chooseSubjects()
	if !b.world.Apart {
		b.chooseEdges()
	}
	b.stage()
	b.probes()
	b.showSubjects()
	b.features()
	b.associations()
	return b.world
}

// namespace adds a namespace with settings under which nothing is left to chance: no redirects, no limits to ICMP
// errors, no duplicate address detection.
func (b *builder) namespace(ns Namespace) {
	b.world.Namespaces = append(b.world.Namespaces, ns)
	forwarding := "1"
	if ns.Kind == netstack.KindPod || ns.Name == outside {
		forwarding = "0"
	}
	b.early(
		ns.Name,
		"net.ipv4.ip_forward="+forwarding, "net.ipv6.conf.all.forwarding="+forwarding,
		"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000", "net.ipv4.icmp_msgs_burst=100000",
	)
	for _, scope := range []string{"all", "default"} {
		b.early(
			ns.Name,
			"net.ipv4.conf."+scope+".rp_filter=0", "net.ipv4.conf."+scope+".send_redirects=0", "net.ipv4.conf."+scope+".accept_redirects=0",
			"net.ipv6.conf."+scope+".accept_redirects=0", "net.ipv6.conf."+scope+".accept_ra=0", "net.ipv6.conf."+scope+".accept_dad=0",
			"net.ipv6.conf."+scope+".dad_transmits=0", "net.ipv6.conf."+scope+".router_solicitations=0",
		)
	}
	b.ip(ns.Name, "link set lo up")
	for _, port := range openPorts {
		b.listen(ns.Name, "tcp", port)
		b.listen(ns.Name, "udp", port)
	}
}

// stage makes nodes with pods on one segment, and a router to a host outside.
func (b *builder) stage() {
	b.namespace(Namespace{Name: router, Kind: netstack.KindOther, Hidden: true})
	b.link(router, "link add br0 type bridge")
	b.ip(router, "link set br0 up")
	b.ip(router, "addr add 172.30.0.1/24 dev br0")
	b.ip(router, "-6 addr add fd00:172:30::1/64 dev br0 nodad")
	b.namespace(Namespace{Name: outside, Kind: netstack.KindOther, Hidden: true})
	b.link(router, "link add out type veth peer name eth0 netns @%s", outside)
	b.ip(router, "link set out up")
	b.ip(router, "addr add 192.168.50.1/24 dev out")
	b.ip(router, "-6 addr add fd00:192:168:50::1/64 dev out nodad")
	b.ip(outside, "link set eth0 up")
	b.ip(outside, "addr add 192.168.50.2/24 dev eth0")
	b.ip(outside, "-6 addr add fd00:192:168:50::2/64 dev eth0 nodad")
	b.ip(outside, "route add default via 192.168.50.1")
	b.ip(outside, "-6 route add default via fd00:192:168:50::1")

	count := 2
	if b.chance(25) {
		count = 3
	}
	for i := 1; i <= count; i++ {
		b.stageNode(i)
	}
	// Every node knows the way to the others' pods; the router knows all.
	for _, n := range b.nodes {
		for at, f := range families {
			b.ip(router, "-%d route add %s via %s", f, n.ranges[at], n.addrs[at])
			for _, other := range b.nodes {
				if other != n {
					b.ip(other.name, "-%d route add %s via %s", f, n.ranges[at], n.addrs[at])
					b.taken(other.name, n.ranges[at])
				}
			}
		}
	}
}

// taken remembers the routes of the stage, which generators must not make again.
func (b *builder) taken(ns string, prefixes ...netip.Prefix) {
	for _, p := range prefixes {
		b.once(routeKey(ns, p.String()))
	}
}

func (b *builder) stageNode(i int) {
	n := &node{
		name: fmt.Sprintf("n%d", i), uplink: "eth0", routed: b.chance(40),
		addrs:  [2]netip.Addr{netip.AddrFrom4([4]byte{172, 30, 0, byte(10 + i)}), netip.MustParseAddr(fmt.Sprintf("fd00:172:30::1%d", i))},
		ranges: [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i))},
	}
	pods := 1 + b.IntN(2)
	if i == 1 && slices.ContainsFunc(b.turn, func(s subject) bool { return s.bridged }) {
		n.routed, pods = false, 2
	}
	b.nodes = append(b.nodes, n)
	b.namespace(Namespace{Name: n.name, Kind: netstack.KindNode, Addresses: n.addrs[:]})
	b.link(router, "link add port%d type veth peer name eth0 netns @%s", i, n.name)
	b.ip(router, "link set port%d master br0 up", i)
	b.taken(n.name, n.ranges[0], n.ranges[1], netip.MustParsePrefix("172.30.0.0/24"), netip.MustParsePrefix("fd00:172:30::/64"))
	b.ip(n.name, "link set eth0 up")
	b.ip(n.name, "addr add %s/24 dev eth0", n.addrs[0])
	b.ip(n.name, "-6 addr add %s/64 dev eth0 nodad", n.addrs[1])
	b.ip(n.name, "route add default via 172.30.0.1")
	b.ip(n.name, "-6 route add default via fd00:172:30::1")
	if !n.routed {
		b.link(n.name, "link add cni0 type bridge")
		b.ip(n.name, "link set cni0 up")
		b.ip(n.name, "addr add %s/24 dev cni0", n.ranges[0].Addr().Next())
		b.ip(n.name, "-6 addr add %s/64 dev cni0 nodad", n.ranges[1].Addr().Next())
	}
	for j := range pods {
		b.stagePod(n, j)
	}
}

func (b *builder) stagePod(n *node, j int) {
	p := &pod{name: fmt.Sprintf("p%d", len(b.pods)+1), node: n, veth: fmt.Sprintf("veth%d", j)}
	v4 := n.ranges[0].Addr().As4()
	v4[3] = byte(10 + j)
	v6 := n.ranges[1].Addr().As16()
	v6[15] = byte(0x10 + j)
	p.addrs = [2]netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
	n.pods = append(n.pods, p)
	b.pods = append(b.pods, p)
	b.namespace(Namespace{Name: p.name, Kind: netstack.KindPod, Node: n.name, Addresses: p.addrs[:]})
	b.link(n.name, "link add %s type veth peer name eth0 netns @%s", p.veth, p.name)
	b.ip(p.name, "link set eth0 address %s", p.mac())
	b.ip(p.name, "link set eth0 up")
	if n.routed {
		// As Calico does: the node answers for a gateway that nobody has.
		b.ip(n.name, "link set %s up", p.veth)
		b.ip(n.name, "route add %s dev %s", p.addrs[0], p.veth)
		b.ip(n.name, "-6 route add %s dev %s", p.addrs[1], p.veth)
		b.taken(n.name, netip.PrefixFrom(p.addrs[0], 32), netip.PrefixFrom(p.addrs[1], 128))
		b.ip(n.name, "-6 addr add fe80::1/64 dev %s nodad", p.veth)
		b.add(Element{Namespace: n.name, Tool: ToolSysctl, Text: "net.ipv4.conf." + p.veth + ".proxy_arp=1"})
		b.ip(p.name, "addr add %s/32 dev eth0", p.addrs[0])
		b.ip(p.name, "-6 addr add %s/128 dev eth0 nodad", p.addrs[1])
		b.ip(p.name, "route add 169.254.1.1 dev eth0 scope link")
		b.ip(p.name, "route add default via 169.254.1.1")
		b.ip(p.name, "-6 route add default via fe80::1 dev eth0")
		return
	}
	b.taken(p.name, n.ranges[0], n.ranges[1])
	b.ip(n.name, "link set %s master cni0 up", p.veth)
	b.ip(p.name, "addr add %s/24 dev eth0", p.addrs[0])
	b.ip(p.name, "-6 addr add %s/64 dev eth0 nodad", p.addrs[1])
	b.ip(p.name, "route add default via %s", n.ranges[0].Addr().Next())
	b.ip(p.name, "-6 route add default via %s", n.ranges[1].Addr().Next())
}

// mac is the link-layer address of the pod.
func (p *pod) mac() string {
	a := p.addrs[0].As4()
	return fmt.Sprintf("02:00:0a:%02x:%02x:%02x", a[1], a[2], a[3])
}

// probes draws who talks to whom. Each has a source port of its own, so that no two share a connection.
func (b *builder) probes() {
	type end struct {
		ns    string
		addrs [2]netip.Addr
	}
	var inside []end
	for _, n := range b.nodes {
		inside = append(inside, end{n.name, n.addrs})
	}
	for _, p := range b.pods {
		// Pods matter most.
		inside = append(inside, end{p.name, p.addrs}, end{p.name, p.addrs})
	}
	beyond := end{outside, outsideAddrs}
	pinged := map[string]bool{}
	for len(b.world.Probes) < 52 {
		from, to := one(b, inside...), one(b, inside...)
		switch {
		case b.chance(8):
			to = beyond
		case b.chance(10):
			from = beyond
		}
		if from.ns == to.ns && b.chance(80) {
			continue
		}
		at := b.IntN(2)
		i := len(b.world.Probes)
		p := Probe{ID: fmt.Sprintf("q%d", i), From: from.ns, To: to.addrs[at], Port: one(b, openPorts...), SourcePort: uint16(20001 + i*40)}
		switch {
		case b.chance(55):
			p.Protocol = verdict.TCP
		case b.chance(65):
			p.Protocol = verdict.UDP
		default:
			p.Protocol, p.Port, p.SourcePort = verdict.ICMP, 0, 0
			// A raw socket hears of the errors of another's echo request.
			if key := from.ns + fmt.Sprint(at); pinged[key] {
				continue
			} else {
				pinged[key] = true
			}
		}
		if p.Port != 0 && b.chance(4) {
			p.Port = closedPort
		}
		if b.chance(10) {
			p.Mark = one[uint32](b, 1, 0x10, 0x4000)
		}
		if b.chance(10) {
			p.UID = new(one[uint32](b, 1000, 65534))
		}
		if b.chance(10) {
			p.DSCP = one[uint8](b, 2, 4, 10, 46)
		}
		if from.ns == outside {
			p.Mark, p.UID = 0, nil
			p.Source = outsideAddrs[at]
			for _, n := range b.nodes {
				if to.ns == n.name || b.podOn(n, to.ns) {
					p.Via = n.name + "/" + n.uplink
				}
			}
		}
		b.world.Probes = append(b.world.Probes, p)
	}
}

func (b *builder) podOn(n *node, name string) bool {
	for _, p := range n.pods {
		if p.name == name {
			return true
		}
	}
	return false
}
