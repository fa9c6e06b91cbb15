package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// wayOut is the way that a packet takes out of a host.
type wayOut struct {
	route fib.Result
	next  netstack.NextHop
}

// wayOut is that of a packet which the host makes, as far as its route.
func (h *host) wayOut(p *netstack.Packet) wayOut {
	w := wayOut{route: h.fib.Lookup(fib.KeyOf(p, ""))}
	if w.route.Type == netstack.RouteLocal {
		w.next = netstack.NextHop{Dev: "lo"} // whatever device has the address
	} else if len(w.route.NextHops) > 0 {
		w.next = w.route.NextHops[0]
	}
	return w
}

// mtu is that of the route if it has one, else of the device for packets of the
// family, in bytes.
func (w *wayOut) mtu(h *host, f netstack.Family) int {
	if w.route.Route != nil && w.route.Route.MTU > 0 {
		return w.route.Route.MTU
	}
	return w.deviceMTU(h, f)
}

// forwardMTU is that which packets have to fit that are forwarded: in IPv6 a route
// says so only if its MTU is locked (ip6_dst_mtu_maybe_forward).
func (w *wayOut) forwardMTU(h *host, f netstack.Family) int {
	if r := w.route.Route; r == nil || f == netstack.IPv4 || r.MTULocked {
		return w.mtu(h, f)
	}
	return w.deviceMTU(h, f)
}

func (w *wayOut) deviceMTU(h *host, f netstack.Family) int {
	mtu := 0
	if link := h.links[w.next.Dev]; link != nil {
		mtu = link.MTU
		if own, ok := h.ConfSysctl(netstack.IPv6, link.Name, "mtu"); ok && f == netstack.IPv6 {
			mtu = min(own, mtu)
		}
	}
	if mtu <= 0 {
		return maxMTU
	}
	return mtu
}

const (
	// defaultMTU stands for the MTU, in bytes, of a way that is not known, and
	// maxMTU for that of a device without a bound.
	defaultMTU = 1500
	maxMTU     = 65535
	// minMTU6 is what each link has to have that carries IPv6 (RFC 8200).
	minMTU6 = 1280
)

// mtuOf is the MTU of the way that h takes to the destination of p, in bytes.
func (h *host) mtuOf(p *netstack.Packet) int {
	w := h.wayOut(p)
	if w.next.Dev == "" {
		return defaultMTU
	}
	return min(w.mtu(h, p.Family()), maxMTU)
}

// mssOf is the segment size that h announces to the destination of p.
func (h *host) mssOf(p *netstack.Packet) uint16 {
	if r := h.wayOut(p).route.Route; r != nil && r.AdvMSS > 0 {
		return uint16(min(r.AdvMSS, maxMTU))
	}
	return uint16(h.mtuOf(p) - tcpHeaders(p.Family()))
}
