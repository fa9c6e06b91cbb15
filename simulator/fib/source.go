package fib

import (
	"math"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// SourceAddress is the address that the kernel gives to a socket that has none,
// when it sends by this way out of the route: the route's own, that of a local
// destination itself, or one of the outgoing device.
func (f *FIB) SourceAddress(res *Result, hop netstack.NextHop, dst netip.Addr) (netip.Addr, bool) {
	if res.Route != nil && res.Route.PrefSrc.IsValid() {
		return res.Route.PrefSrc, true
	}
	if dst.Is6() {
		if len(res.NextHops) > 0 && res.Route.NextHopID != 0 {
			hop = res.NextHops[0] // nexthop_fib6_nh takes the first of a group
		}
		return f.selectIPv6(hop.Dev, dst)
	}
	if res.Type == netstack.RouteLocal {
		return dst, true
	}
	if len(res.NextHops) == 0 {
		return netip.Addr{}, false
	}
	return f.hopSource(res.Route, &hop)
}

// hopSource is the address of a next hop of IPv4 (nh_saddr): one whose scope
// suits the route or, for nexthop objects, the way to the gateway
// (nh_create_ipv4).
func (f *FIB) hopSource(r *netstack.Route, hop *netstack.NextHop) (netip.Addr, bool) {
	scope := r.Scope
	if r.NextHopID != 0 {
		scope = netstack.ScopeLink
		if hop.Gateway.IsValid() {
			scope--
		}
	}
	return f.selectIPv4(hop.Dev, gateway4(hop.Gateway), scope)
}

// AnySource is the IPv6 address that a socket gets when no route is found
// without one: ip6_dst_lookup_tail then chooses among all devices, and looks up
// again with it, for routes and rules that ask for a source.
func (f *FIB) AnySource(dst netip.Addr) (netip.Addr, bool) { return f.selectIPv6("", dst) }

// DeviceAddress is the address that MASQUERADE gives to a packet that leaves
// by dev towards gateway (or dst, when on-link).
func (f *FIB) DeviceAddress(dev string, gateway, dst netip.Addr) (netip.Addr, bool) {
	if dst.Is4() {
		if !gateway.Is4() {
			gateway = dst // rt_nexthop
		}
		return f.selectIPv4(dev, gateway, netstack.ScopeGlobal)
	}
	return f.selectIPv6(dev, dst)
}

// LinkAddress is the IPv4 address of dev, of link scope or wider, that suits dst:
// that of ARP requests, and of errors which come from the inbound device.
func (f *FIB) LinkAddress(dev string, dst netip.Addr) (netip.Addr, bool) {
	return f.selectIPv4(dev, dst, netstack.ScopeLink)
}

// vrf is the VRF device that the device belongs to; empty for none.
func (f *FIB) vrf(dev string) string { return f.master(&Key{IIF: dev}) }

// selectIPv4 is inet_select_addr: the first primary address of the device whose
// prefix holds the gateway, else its first primary address, else one of the VRF
// device, else one of another device of the same VRF.
func (f *FIB) selectIPv4(dev string, gateway netip.Addr, scope netstack.Scope) (netip.Addr, bool) {
	local := netstack.ScopeHost
	if on, _ := f.ns.ConfSysctl(netstack.IPv4, dev, "route_localnet"); on != 0 {
		local = netstack.ScopeLink
	} else if on, _ := f.ns.ConfSysctl(netstack.IPv4, "all", "route_localnet"); on != 0 {
		local = netstack.ScopeLink
	}
	var first netip.Addr
	for a := range f.devices.Each(dev) {
		if !a.Prefix.Addr().Is4() || a.Flags&netstack.AddrSecondary != 0 || min(a.Scope, local) > scope {
			continue
		}
		if !gateway.IsValid() || onlink(a, gateway) {
			return a.Prefix.Addr(), true
		}
		if !first.IsValid() {
			first = a.Prefix.Addr()
		}
	}
	if first.IsValid() {
		return first, true
	}
	vrf := f.vrf(dev)
	if vrf != "" {
		if a, ok := f.otherIPv4(scope, func(dev string) bool { return dev == vrf }); ok {
			return a, true
		}
	}
	return f.otherIPv4(scope, func(dev string) bool { return f.vrf(dev) == vrf })
}

// otherIPv4 is in_dev_select_addr over some devices.
func (f *FIB) otherIPv4(scope netstack.Scope, of func(dev string) bool) (netip.Addr, bool) {
	for i := range f.ns.Addresses {
		a := &f.ns.Addresses[i]
		if a.Prefix.Addr().Is4() && a.Flags&netstack.AddrSecondary == 0 && a.Scope != netstack.ScopeLink && a.Scope <= scope && of(a.Dev) {
			return a.Prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// onlink is inet_ifa_match: an address with a peer has the peer's prefix.
func onlink(a *netstack.Address, addr netip.Addr) bool {
	base := a.Prefix.Addr()
	if a.Peer.IsValid() {
		base = a.Peer
	}
	return netip.PrefixFrom(base, a.Prefix.Bits()).Masked().Contains(addr)
}

// selectIPv6 is ipv6_dev_get_saddr: the rules of RFC 6724, section 5, in order.
// Labels are those that the kernel ships with; sockets have no preferences of
// their own. Kernels prefer home addresses only where CONFIG_IPV6_MIP6 is built
// in, which distributions do not.
func (f *FIB) selectIPv6(dev string, dst netip.Addr) (netip.Addr, bool) {
	ownOnly := false
	if dev != "" {
		on, _ := f.ns.ConfSysctl(netstack.IPv6, dev, "use_oif_addrs_only")
		ownOnly = on != 0 || dst.IsMulticast() || scopeIPv6(dst) <= scopeLinkLocal
	}
	vrf := f.vrf(dev)
	if vrf != "" && !ownOnly {
		if best := f.bestIPv6Source(dev, dst, func(a *netstack.Address) bool { return a.Dev == dev || a.Dev == vrf }); best != nil && scopeIPv6(best.Prefix.Addr()) >= scopeIPv6(dst) {
			return best.Prefix.Addr(), true
		}
	}
	best := f.bestIPv6Source(dev, dst, func(a *netstack.Address) bool {
		if ownOnly {
			return a.Dev == dev
		}
		return f.vrf(a.Dev) == vrf
	})
	if best == nil {
		return netip.Addr{}, false
	}
	return best.Prefix.Addr(), true
}

func (f *FIB) bestIPv6Source(dev string, dst netip.Addr, of func(*netstack.Address) bool) *netstack.Address {
	var best *netstack.Address
	for i := range f.ns.Addresses {
		a := &f.ns.Addresses[i]
		if addr := a.Prefix.Addr(); !addr.Is6() || addr.IsMulticast() || a.Flags&netstack.AddrTentative != 0 && a.Flags&netstack.AddrOptimistic == 0 {
			continue
		}
		if of(a) && (best == nil || f.better(a, best, dev, dst)) {
			best = a
		}
	}
	return best
}

// better says whether a is a better source than b for dst out of dev:
// ipv6_get_saddr_eval.
func (f *FIB) better(a, b *netstack.Address, dev string, dst netip.Addr) bool {
	x, y := a.Prefix.Addr(), b.Prefix.Addr()
	if (x == dst) != (y == dst) {
		return x == dst
	}
	if sx, sy, sd := scopeIPv6(x), scopeIPv6(y), scopeIPv6(dst); sx != sy {
		if sx < sy {
			return sx >= sd
		}
		return sy < sd
	}
	if px, py := f.preferred(a), f.preferred(b); px != py {
		return px
	}
	if dev != "" && (a.Dev == dev) != (b.Dev == dev) {
		return a.Dev == dev
	}
	if lx, ly, ld := f.label(x, a.Dev), f.label(y, b.Dev), f.label(dst, dev); (lx == ld) != (ly == ld) {
		return lx == ld
	}
	if px, py := f.private(a), f.private(b); px != py {
		return px
	}
	if ox, oy, od := orchid.Contains(x), orchid.Contains(y), orchid.Contains(dst); (ox == od) != (oy == od) {
		return ox == od
	}
	if cx, cy := commonBits(x, dst, a.Prefix.Bits()), commonBits(y, dst, b.Prefix.Bits()); cx != cy {
		return cx > cy
	}
	return a.Flags&netstack.AddrOptimistic == 0 && b.Flags&netstack.AddrOptimistic != 0
}

// preferred is the rule that avoids deprecated addresses, and optimistic ones
// unless they may be used.
func (f *FIB) preferred(a *netstack.Address) bool {
	avoid := netstack.AddrDeprecated
	own, _ := f.ns.ConfSysctl(netstack.IPv6, a.Dev, "use_optimistic")
	all, _ := f.ns.ConfSysctl(netstack.IPv6, "all", "use_optimistic")
	if own == 0 && all == 0 {
		avoid |= netstack.AddrOptimistic
	}
	addr := a.Prefix.Addr()
	return addr.IsLoopback() || addr.Is4In6() || compatible.Contains(addr) || a.Flags&avoid == 0
}

// private is the rule about temporary addresses: each device says whether it
// likes them.
func (f *FIB) private(a *netstack.Address) bool {
	use, _ := f.ns.ConfSysctl(netstack.IPv6, a.Dev, "use_tempaddr")
	return (a.Flags&netstack.AddrTemporary != 0) == (use >= 2)
}

// Scopes of RFC 4291, as the kernel has them (IPV6_ADDR_SCOPE_*).
const (
	scopeLinkLocal = 2
	scopeSiteLocal = 5
	scopeGlobal    = 14
)

// scopeIPv6 is __ipv6_addr_src_scope.
func scopeIPv6(a netip.Addr) int {
	switch {
	case a.IsMulticast():
		return int(a.As16()[1] & 0xf)
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return scopeLinkLocal
	case siteLocal.Contains(a):
		return scopeSiteLocal
	}
	return scopeGlobal
}

var (
	siteLocal  = netip.MustParsePrefix("fec0::/10")
	compatible = netip.MustParsePrefix("::/96")
	orchid     = netip.MustParsePrefix("2001:10::/28")
)

// label is that of an address of the device, or of a destination beyond it: __ipv6_addr_label.
func (f *FIB) label(a netip.Addr, dev string) uint32 {
	for i := range f.labels {
		if l := &f.labels[i]; l.Prefix.Contains(a) && (l.Dev == "" || l.Dev == dev) {
			return l.Label
		}
	}
	return math.MaxUint32
}

// commonBits counts the leading bits that a and b share, at most limit.
func commonBits(a, b netip.Addr, limit int) int {
	x, y := a.As16(), b.As16()
	for i := range limit {
		if (x[i/8]^y[i/8])>>(7-i%8)&1 != 0 {
			return i
		}
	}
	return limit
}
