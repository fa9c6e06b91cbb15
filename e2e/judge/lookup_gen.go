package judge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// lookupGenerator draws routing state and keys that meet it: everything lives
// in a few nested prefixes, so that rules and routes compete.
type lookupGenerator struct {
	*rand.Rand
	setup    []string
	v4       []netip.Addr // addresses of the namespace
	v6       []netip.Addr
	nextHops int // ids in use
	// shared is what the IPv6 routes of one prefix and metric have in common.
	shared map[string]string
}

func drawLookups(seed, index uint64) (*lookupGenerator, []string) {
	g := &lookupGenerator{Rand: rand.New(rand.NewPCG(seed, index)), shared: make(map[string]string)}
	g.links()
	g.addresses()
	for range 12 + g.IntN(40) {
		g.route(g.IntN(2) == 0)
	}
	if g.chance(60) {
		g.add("route add default via 10.1.0.9 dev d1 onlink")
		g.add("-6 route add default via fd00:1::9 dev d1")
	}
	if g.IntN(4) > 0 {
		for range 1 + g.IntN(14) {
			g.rule(g.IntN(2) == 0)
		}
		if g.chance(30) {
			// Jumps over the rules above, of which most do not decide.
			family := g.pick("", "-6 ")
			g.add("%srule add fwmark 0x10/0x10 pref 7 goto 125", family)
			g.add("%srule add pref 125 nop", family)
		}
	}
	return g, g.setup
}

func (g *lookupGenerator) add(format string, args ...any) {
	g.setup = append(g.setup, fmt.Sprintf(format, args...))
}

func (g *lookupGenerator) pick(list ...string) string { return list[g.IntN(len(list))] }
func (g *lookupGenerator) dev() string                { return g.pick("d0", "d1", "d2", "d3") }
func (g *lookupGenerator) chance(percent int) bool    { return g.IntN(100) < percent }

func (g *lookupGenerator) links() {
	g.add("sysctl net.ipv6.conf.default.accept_dad=0")
	g.add("sysctl net.ipv6.conf.all.forwarding=1")
	g.add("sysctl net.ipv4.ip_forward=1")
	g.add("sysctl net.ipv4.conf.all.rp_filter=0")
	g.add("sysctl net.ipv4.conf.default.rp_filter=0")
	g.add("sysctl net.ipv4.fib_multipath_hash_seed=1")
	g.add("sysctl net.ipv4.fib_multipath_hash_policy=%d", g.IntN(2))
	g.add("sysctl net.ipv6.fib_multipath_hash_policy=%d", g.IntN(2))
	g.add("link set lo up")
	for i := range 4 {
		g.add("link add d%d group %d type veth peer name p%d", i, i%3, i)
		g.add("link set d%d up", i)
		if i < 3 || g.chance(60) {
			g.add("link set p%d up", i)
		}
		if g.chance(30) {
			g.add("sysctl net.ipv4.conf.d%d.ignore_routes_with_linkdown=1", i)
			g.add("sysctl net.ipv6.conf.d%d.ignore_routes_with_linkdown=1", i)
		}
		if g.chance(10) {
			g.add("sysctl net.ipv6.conf.d%d.use_oif_addrs_only=1", i)
		}
	}
}

func (g *lookupGenerator) addresses() {
	for i := range 4 {
		if i > 0 && g.chance(10) {
			continue // a device without addresses borrows one
		}
		g.v4 = append(g.v4, netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", i)))
		g.add("addr add 10.%d.0.1/%d dev d%d%s", i, 8+g.IntN(17), i, g.pick("", "", " noprefixroute", " metric 7"))
		if g.chance(40) {
			g.v4 = append(g.v4, netip.MustParseAddr(fmt.Sprintf("10.%d.0.2", i)))
			g.add("addr add 10.%d.0.2/24 dev d%d%s", i, i, g.pick("", " scope link", " scope host"))
		}
		g.v6 = append(g.v6, netip.MustParseAddr(fmt.Sprintf("fd00:%d::1", i)))
		g.add("addr add fd00:%d::1/%d dev d%d nodad%s", i, 48+16*g.IntN(2), i, g.pick("", "", " preferred_lft 0", " home"))
		for range g.IntN(3) {
			a := g.pick("2001:db8:%d::%d", "fd00:%d::1:%d", "fec0:0:0:%d::%d", "2002:a00:%d::%d", "3ffe:%d::%d")
			g.add("addr add "+a+"/%d dev d%d nodad%s", i, 1+g.IntN(9), 32+8*g.IntN(9), i, g.pick("", " preferred_lft 0"))
		}
	}
	if g.chance(30) {
		g.v4 = append(g.v4, netip.MustParseAddr("192.0.2.1"))
		g.add("addr add 192.0.2.1/32 dev lo")
		g.add("addr add 2001:db8:ff::1/128 dev lo")
	}
	if g.chance(30) {
		g.add("addr add 10.9.0.1 peer 10.9.0.9/32 dev d1")
	}
	g.labels()
}

// labels has other sources of IPv6 preferred than the kernel would.
func (g *lookupGenerator) labels() {
	if g.chance(50) {
		return
	}
	if g.chance(20) {
		g.add("addrlabel flush")
	}
	prefixes := []string{"fd01::/16", "2001:d00::/24", "fec0::/16", "2001:db8::/33"}
	for i := range 4 {
		for _, p := range []string{"fd00:%d::/32", "fd00:%d::1/128", "fd00:%d::1:0/112", "2001:db8:%d::/48", "2002:a00:%d::/48", "3ffe:%d::/32"} {
			prefixes = append(prefixes, fmt.Sprintf(p, i))
		}
	}
	g.Shuffle(len(prefixes), func(i, j int) { prefixes[i], prefixes[j] = prefixes[j], prefixes[i] })
	for _, prefix := range prefixes[:1+g.IntN(len(prefixes))] {
		// The kernel's own are 5 for fc00::/7 and 1 for most others.
		g.add("addrlabel add prefix %s label %s", prefix, g.pick("1", "5", "90"))
		if g.chance(30) {
			g.add("addrlabel add prefix %s dev %s label %s", prefix, g.dev(), g.pick("1", "5", "90"))
		}
	}
}

// nextHop adds a nexthop object. Each route gets its own, because routes that
// share one share what it caches, and then say of themselves what is true of the
// one that was used first (rt_cache_route, rt6_get_pcpu_route).
func (g *lookupGenerator) nextHop(six bool, kind int) int {
	family := ""
	if six {
		family = "-6 "
	}
	object := func(format string, args ...any) int {
		g.nextHops++
		g.add(family+"nexthop add id %d "+format, append([]any{g.nextHops}, args...)...)
		return g.nextHops
	}
	i := g.IntN(4)
	switch kind {
	case 0:
		return object("blackhole")
	case 1:
		return object("dev d%d", i)
	case 2, 3, 4:
		hop := fmt.Sprintf("via 10.%d.0.%d dev d%d", i, 5+g.IntN(3), i)
		if six {
			hop = fmt.Sprintf("via fd00:%d::%d dev d%d", i, 5+g.IntN(3), i)
		}
		return object("%s", hop)
	case 5:
		return object("group %d", g.nextHop(six, 0))
	}
	group := fmt.Sprint(g.nextHop(six, 2))
	for range 1 + g.IntN(3) {
		group += fmt.Sprintf("/%d,%d", g.nextHop(six, 2+g.IntN(2)), 1+g.IntN(200))
	}
	if kind == 6 {
		group += " type resilient buckets 32"
	}
	return object("group %s", group)
}

// prefix draws a prefix of the nested ones.
func (g *lookupGenerator) prefix(six bool) netip.Prefix {
	bits := []int{0, 7, 8, 12, 16, 16, 20, 24, 24, 28, 32}[g.IntN(11)]
	if six {
		bits = []int{0, 16, 32, 32, 40, 48, 48, 56, 64, 64, 96, 128}[g.IntN(12)]
	}
	p, _ := g.address(six).Prefix(bits)
	return p
}

// address draws an address among few.
func (g *lookupGenerator) address(six bool) netip.Addr {
	if six {
		a := netip.MustParseAddr(g.pick("fd00::", "fd00::", "fd01::", "2001:db8::")).As16()
		a[3] = byte(g.IntN(5))
		a[5], a[7] = byte(g.IntN(2)), byte(g.IntN(2))
		a[15] = byte(g.IntN(7))
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, byte(g.IntN(6)) * g.pickByte(1, 1, 16), byte(g.IntN(3)), g.pickByte(0, 1, 2, 5, 6, 7, 9, 200, 255)})
}

func (g *lookupGenerator) pickByte(list ...byte) byte { return list[g.IntN(len(list))] }

func (g *lookupGenerator) table() string {
	return g.pick("main", "main", "main", "100", "101", "102", "local", "default")
}

// way draws a next hop.
func (g *lookupGenerator) way(six bool) string {
	i := g.IntN(4)
	gateway := fmt.Sprintf("via 10.%d.0.%d", i, 5+g.IntN(3))
	if six {
		gateway = fmt.Sprintf("via fd00:%d::%d", i, 5+g.IntN(3))
	}
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("dev d%d", i)
	case 1:
		if !six {
			return fmt.Sprintf("via inet6 fe80::%d dev d%d", 5+g.IntN(3), i)
		}
		return fmt.Sprintf("via fe80::%d dev d%d", 5+g.IntN(3), i)
	case 2:
		return gateway + " dev " + g.dev() + " onlink"
	}
	return fmt.Sprintf("%s dev d%d", gateway, i)
}

func (g *lookupGenerator) route(six bool) {
	line := "route " + g.pick("add", "add", "append") + " "
	if six {
		line = "-6 " + line
	}
	dst := g.prefix(six).String()
	options := " table " + g.table()
	if g.chance(40) {
		options += fmt.Sprintf(" metric %d", 1+g.IntN(4))
	}
	if g.chance(15) && !six {
		options += " tos " + g.pick("0x10", "0x08", "0x04", "0xb8")
	}
	if g.chance(15) && six {
		options += " from " + g.pick("fd00::/32", "fd00:1::/32", "fd00:1::/64", "fd00:2::1", "fd00:3::/48")
	}
	source := ""
	if g.chance(10) && six {
		source = " pref " + g.pick("high", "low", "medium")
	}
	if g.chance(15) {
		if six {
			source += fmt.Sprintf(" src fd00:%d::1", g.IntN(4))
		} else {
			source += fmt.Sprintf(" src 10.%d.0.1", g.IntN(4))
		}
	}
	if g.chance(15) {
		source += fmt.Sprintf(" mtu %d", 1280+g.IntN(200))
	}
	if six {
		// They become ways of one route, and the kernel shows of the first alone what
		// else it has (rt6_fill_node).
		if before, ok := g.shared[dst+options]; ok {
			source = before
		}
		g.shared[dst+options] = source
	}
	switch g.IntN(14) {
	case 0:
		g.add("%s%s %s%s", line, g.pick("blackhole", "unreachable", "prohibit", "throw"), dst, options)
	case 1:
		if six {
			g.add("%s%s %s dev %s%s", line, g.pick("local", "anycast"), dst, g.dev(), options)
		} else if dst != "0.0.0.0/0" { // which would make every sender a martian
			typ := g.pick("local", "broadcast", "anycast", "multicast")
			if typ == "local" && holdsGateway(netip.MustParsePrefix(dst)) {
				typ = "anycast" // whether a gateway was local when a route was made, nothing shows
			}
			g.add("%s%s %s dev %s%s", line, typ, dst, g.dev(), options)
		}
	case 2, 3:
		hops := ""
		for range 2 + g.IntN(3) {
			hops += fmt.Sprintf(" nexthop %s weight %d", g.way(six), 1+g.IntN(5))
		}
		g.add("%s%s%s%s%s", line, dst, source, options, hops)
	case 4, 5:
		id := g.nextHop(six, g.IntN(9))
		g.add("%s%s%s%s nhid %d", line, dst, source, options, id)
	case 6:
		g.add("%s%s dev d%d scope link%s%s", line, dst, g.IntN(4), source, options)
	default:
		g.add("%s%s %s%s%s", line, dst, g.way(six), source, options)
	}
}

// holdsGateway says whether one of the gateways of way and nextHop is in the prefix.
func holdsGateway(p netip.Prefix) bool {
	for i := range 4 {
		for _, host := range []byte{5, 6, 7, 9} {
			if p.Contains(netip.AddrFrom4([4]byte{10, byte(i), 0, host})) {
				return true
			}
		}
	}
	return false
}

func (g *lookupGenerator) rule(six bool) {
	line := "rule add"
	if six {
		line = "-6 rule add"
	}
	if g.chance(12) {
		line += " not"
	}
	for range 1 + g.IntN(2) {
		switch g.IntN(9) {
		case 0:
			line += " from " + g.prefix(six).String()
		case 1:
			line += " to " + g.prefix(six).String()
		case 2:
			line += " fwmark " + g.pick("0x10", "0x10/0xf0", "0x1/0x1", "0x20/0x20", "0/0x10")
		case 3:
			line += " iif " + g.pick("d0", "d1", "lo", "absent")
		case 4:
			line += " oif " + g.pick("d0", "absent")
		case 5:
			line += " tos " + g.pick("0x10", "0x08", "0x04")
		case 6:
			line += " ipproto " + g.pick("tcp", "udp")
		case 7:
			line += g.pick(" sport 1000-2000", " dport 80", " dport 8000-8100", " sport 53")
		case 8:
			line += " uidrange " + g.pick("0-0", "1000-2000", "5-5")
		}
	}
	line += fmt.Sprintf(" pref %d", 10*(1+g.IntN(12)))
	switch g.IntN(12) {
	case 0:
		line += " " + g.pick("blackhole", "unreachable", "prohibit")
	case 1:
		line += " nop"
	case 2:
		line += fmt.Sprintf(" goto %d", 10*(2+g.IntN(13)))
	case 3:
		line += " lookup main suppress_prefixlength " + g.pick("0", "8", "16", "32")
	case 4:
		line += " lookup main suppress_ifgroup " + g.pick("0", "1", "2")
	default:
		line += " lookup " + g.pick("100", "101", "102", "main", "local", "default", "199")
	}
	g.add("%s", line)
}

// key draws a look-up.
func (g *lookupGenerator) key() fib.Key {
	six := g.IntN(2) == 0
	k := fib.Key{Dst: g.address(six), TOS: []uint8{0, 0, 0, 0x10, 0x08, 0xb8, 0xb0}[g.IntN(7)]}
	uid := []uint32{0, 5, 1500, 3000}[g.IntN(4)]
	k.UID = &uid
	k.Mark = []uint32{0, 0, 0x10, 0x1f, 0x20, 0x31, 1}[g.IntN(7)]
	k.Protocol = []netstack.Protocol{netstack.ProtoTCP, netstack.ProtoUDP}[g.IntN(2)]
	k.SrcPort = []uint16{53, 1500, 40000}[g.IntN(3)]
	k.DstPort = []uint16{80, 443, 8000, 8050, 8101}[g.IntN(5)]
	own := g.v4
	foreign := netip.AddrFrom4([4]byte{198, 18, byte(g.IntN(2)), byte(1 + g.IntN(9))})
	if six {
		own = g.v6
		foreign = netip.MustParseAddr(fmt.Sprintf("2001:db8:5:%d::9", g.IntN(3)))
	}
	switch {
	case g.chance(35):
		k.IIF = g.pick("d0", "d1", "d2")
		k.Src = foreign
		k.UID = nil
	case g.chance(50):
		k.Src = own[g.IntN(len(own))]
		if g.chance(30) {
			k.OIF = g.pick("d0", "d1", "d2")
		}
	}
	return k
}
