package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var (
	loopbackIPv4     = netip.MustParsePrefix("127.0.0.0/8")
	limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	zeroNet          = netip.MustParsePrefix("0.0.0.0/8")
)

// martian says whether the addresses cannot be right on this interface.
func (l *leg) martian(in *netstack.Link) (verdict.Finding, bool) {
	h, p := l.host, &l.packet
	made := func(why string) (verdict.Finding, bool) {
		return verdict.NewFindingf(verdict.MartianSource, h.where(in.Name), []string{p.String()},
			"martian source %s to %s on %s of %s: %s", p.Src, p.Dst, in.Name, h, why), true
	}
	if p.Family() == netstack.IPv6 {
		if (p.Src.IsLoopback() || p.Dst.IsLoopback()) && !in.Loopback() {
			return made("a loopback address on the wire")
		}
		return verdict.Finding{}, false
	}
	switch {
	case p.Src.IsMulticast() || p.Src == limitedBroadcast || zeroNet.Contains(p.Src):
		return made("the source is not a host")
	case (loopbackIPv4.Contains(p.Src) || loopbackIPv4.Contains(p.Dst)) && !in.Loopback() &&
		h.confMax(netstack.IPv4, in.Name, "route_localnet") == 0:
		return made("a loopback address on the wire, and route_localnet is off")
	}
	return verdict.Finding{}, false
}

// reversePath is fib_validate_source: IPv4 only. out is the device by which the
// packet will leave; empty when it is for this host.
func (l *leg) reversePath(dev, out string) (verdict.Finding, bool) {
	h, p := l.host, &l.packet
	if p.Family() == netstack.IPv6 {
		return verdict.Finding{}, false
	}
	acceptLocal := h.confMax(netstack.IPv4, dev, "accept_local") != 0
	mode := h.confMax(netstack.IPv4, dev, "rp_filter")
	if mode == 0 && !(dev == out && l.sendsRedirects(dev)) {
		switch {
		case acceptLocal:
			return verdict.Finding{}, false
		case !h.fib.CustomRules() && !h.fib.CustomLocalRoutes():
			if a, ok := h.owns(p.Src); ok && a.Prefix.Addr().Is4() {
				return l.ownSource(dev)
			}
			return verdict.Finding{}, false
		}
	}
	// The kernel looks up the way back as of a packet that came in where this
	// one will go out, or from this host.
	key := fib.KeyOf(p, dev)
	if h.confMax(netstack.IPv4, dev, "src_valid_mark") == 0 {
		key.Mark = 0
	}
	key = key.Reversed(out)
	if vrf := h.vrf(dev); vrf != nil {
		key.OIF = vrf.Name
	}
	res := h.fib.Lookup(key)
	fail := func() (verdict.Finding, bool) {
		if mode == 0 {
			return verdict.Finding{}, false
		}
		all, _ := h.ConfSysctl(netstack.IPv4, "all", "rp_filter")
		name := dev
		if own, _ := h.ConfSysctl(netstack.IPv4, dev, "rp_filter"); own < all {
			name = "all"
		}
		back := "there is no route back to " + p.Src.String()
		if res.Found() {
			back = "the route back to " + p.Src.String() + " is " + describeRoute(&res)
		}
		return verdict.NewFindingf(verdict.ReversePathFilter, h.where(dev),
			[]string{sysctlLine(h, netstack.ConfKey(netstack.IPv4, name, "rp_filter")), back},
			"rp_filter on %s of %s drops %s: %s", dev, h, p, back), true
	}
	switch {
	case !res.Found():
		return fail()
	case res.Type == netstack.RouteLocal && !acceptLocal:
		return l.ownSource(dev)
	case res.Type == netstack.RouteLocal, res.Type == netstack.RouteUnicast:
	default:
		return verdict.NewFindingf(verdict.MartianSource, h.where(dev), []string{p.String()},
			"martian source %s on %s of %s: a %s address", p.Src, dev, h, res.Type), true
	}
	if res.Uses(dev) {
		return verdict.Finding{}, false
	}
	// The loose mode takes a source that any interface leads to, but not on an
	// interface without addresses.
	if mode != 1 {
		for a := range h.devices.Each(dev) {
			if a.Prefix.Addr().Is4() {
				return verdict.Finding{}, false
			}
		}
	}
	return fail()
}

// sendsRedirects is IN_DEV_TX_REDIRECTS.
func (l *leg) sendsRedirects(dev string) bool {
	return l.host.confMax(netstack.IPv4, dev, "send_redirects") != 0
}

func (l *leg) ownSource(dev string) (verdict.Finding, bool) {
	h, p := l.host, &l.packet
	return verdict.NewFindingf(verdict.MartianSource, h.where(dev), []string{p.String()},
		"martian source %s on %s of %s: the address is its own", p.Src, dev, h), true
}
