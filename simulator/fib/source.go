package fib

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// SourceAddress is the address that the kernel gives to a socket that has none,
// when it sends by this route: the route's own, that of a local destination
// itself, or one of the outgoing device.
func (f *FIB) SourceAddress(res *Result, dst netip.Addr) (netip.Addr, bool) {
	if res.Route != nil && res.Route.PrefSrc.IsValid() {
		return res.Route.PrefSrc, true
	}
	if res.Type == netstack.RouteLocal {
		return dst, true
	}
	if len(res.NextHops) == 0 {
		return netip.Addr{}, false
	}
	hop := res.NextHops[0]
	if dst.Is4() {
		return f.selectIPv4(hop.Dev, hop.Gateway, res.Route.Scope)
	}
	return f.selectIPv6(hop.Dev, dst)
}

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

// selectIPv4 is inet_select_addr: the first primary address of the device whose
// prefix holds the gateway, else its first primary address, else one of
// another device.
func (f *FIB) selectIPv4(dev string, gateway netip.Addr, scope netstack.Scope) (netip.Addr, bool) {
	var first netip.Addr
	for i := range f.ns.Addresses {
		a := &f.ns.Addresses[i]
		if a.Dev != dev || !a.Prefix.Addr().Is4() || a.Flags&netstack.AddrSecondary != 0 || a.Scope > scope {
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
	for i := range f.ns.Addresses {
		a := &f.ns.Addresses[i]
		if a.Prefix.Addr().Is4() && a.Flags&netstack.AddrSecondary == 0 && a.Scope != netstack.ScopeLink && a.Scope <= scope {
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

// selectIPv6 is ipv6_dev_get_saddr: the rules of RFC 6724, section 5, in order,
// without those for mobility, privacy addresses and configured labels.
func (f *FIB) selectIPv6(dev string, dst netip.Addr) (netip.Addr, bool) {
	var best *netstack.Address
	for i := range f.ns.Addresses {
		a := &f.ns.Addresses[i]
		addr := a.Prefix.Addr()
		if !addr.Is6() || !a.Usable() || addr.IsMulticast() {
			continue
		}
		if a.Dev != dev && (dst.IsLinkLocalUnicast() || dst.IsMulticast()) {
			continue
		}
		if a.Flags&netstack.AddrTentative != 0 && a.Flags&netstack.AddrOptimistic == 0 {
			continue
		}
		if best == nil || better(a, best, dev, dst) {
			best = a
		}
	}
	if best == nil {
		return netip.Addr{}, false
	}
	return best.Prefix.Addr(), true
}

// better says whether a is a better source than b for dst out of dev.
func better(a, b *netstack.Address, dev string, dst netip.Addr) bool {
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
	if dx, dy := a.Flags&netstack.AddrDeprecated != 0, b.Flags&netstack.AddrDeprecated != 0; dx != dy {
		return dy
	}
	if (a.Dev == dev) != (b.Dev == dev) {
		return a.Dev == dev
	}
	if lx, ly, ld := labelIPv6(x), labelIPv6(y), labelIPv6(dst); (lx == ld) != (ly == ld) {
		return lx == ld
	}
	return commonBits(x, dst, a.Prefix.Bits()) > commonBits(y, dst, b.Prefix.Bits())
}

// scopeIPv6 maps an address to the scope values of RFC 4291.
func scopeIPv6(a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return 1
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast():
		return 2
	case a.IsMulticast():
		return int(a.As16()[1] & 0xf)
	}
	return 14
}

var (
	prefix6to4 = netip.MustParsePrefix("2002::/16")
	prefixTerd = netip.MustParsePrefix("2001::/32")
	prefixULA  = netip.MustParsePrefix("fc00::/7")
)

// labelIPv6 is the default policy table of RFC 6724 as the kernel ships it.
func labelIPv6(a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return 0
	case prefix6to4.Contains(a):
		return 2
	case prefixULA.Contains(a):
		return 5
	case prefixTerd.Contains(a):
		return 6
	}
	return 1
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
