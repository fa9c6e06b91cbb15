package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// answer is what a station does with a request for an address.
type answer uint8

const (
	silent   answer = iota // it does not own the address
	replies                // for itself, or for others
	filtered               // it owns the address, and is set to keep quiet
)

// answers says whether a station answers ARP or neighbour discovery for an
// address, and which setting keeps it from that.
func (w *World) answers(s *station, from, addr netip.Addr) (answer, string) {
	if addr.Is6() {
		return w.hosts[s.NS].advertises(s.Link.Name, addr), ""
	}
	return w.hosts[s.NS].answersARP(s.Link.Name, from, addr)
}

// mayAnswer says, of most stations, in a short time what answers finds out: that
// they are silent. There may be a thousand on a segment.
func (w *World) mayAnswer(s *station, addr netip.Addr) bool {
	return addr.IsLoopback() || w.standIns[s.Link] ||
		slices.ContainsFunc(w.byAddr[addr], func(h *host) bool { return h.Namespace == s.NS })
}

// findStandIns lists the interfaces by which the host may answer for addresses
// that are none of its own.
func (h *host) findStandIns() (links []*netstack.Link) {
	// A local route takes packets to addresses that no interface has: AnyIP.
	everything := slices.ContainsFunc(h.Routes, func(r netstack.Route) bool {
		return r.Type == netstack.RouteLocal && !r.Dst.Addr().IsLoopback() && (!r.Dst.IsSingleIP() || h.addresses.First(r.Dst.Addr()) == nil)
	})
	proxies := make(map[string]bool)
	for i := range h.Neighbours {
		if n := &h.Neighbours[i]; n.Proxy {
			proxies[n.Dev] = true
		}
	}
	for i := range h.Links {
		link := &h.Links[i]
		if everything || proxies[""] || proxies[link.Name] ||
			h.confMax(netstack.IPv4, link.Name, "proxy_arp") != 0 || h.confMax(netstack.IPv4, link.Name, "proxy_arp_pvlan") != 0 {
			links = append(links, link)
		}
	}
	return links
}

// advertises is ndisc_recv_ns: proxies need proxy_ndp and a router.
func (h *host) advertises(dev string, addr netip.Addr) answer {
	for a := range h.addresses.Each(addr) {
		if a.Dev != dev {
			continue
		}
		if off, _ := h.ConfSysctl(netstack.IPv6, dev, "disable_ipv6"); off == 0 && a.Usable() {
			return replies
		}
		return silent
	}
	forwards, _ := h.ConfSysctl(netstack.IPv6, dev, "forwarding")
	if h.proxies(dev, addr) && forwards != 0 && h.confMax(netstack.IPv6, dev, "proxy_ndp") != 0 {
		return replies
	}
	return silent
}

// proxies says whether the interface has a proxy entry for the address:
// pneigh_lookup.
func (h *host) proxies(dev string, addr netip.Addr) bool {
	return h.neighbours.First(netstack.NeighbourKey{Dev: dev, IP: addr, Proxy: true}) != nil ||
		h.neighbours.First(netstack.NeighbourKey{IP: addr, Proxy: true}) != nil
}

// answersARP is arp_process.
func (h *host) answersARP(dev string, from, addr netip.Addr) (answer, string) {
	noARP := h.links[dev] != nil && h.links[dev].NoARP() // arp_rcv
	if h.fib.LocalAt(addr, dev) {
		if noARP {
			return filtered, "arp off"
		}
		mode := h.confMax(netstack.IPv4, dev, "arp_ignore")
		if h.ignoresARP(mode, dev, from, addr) {
			return filtered, fmt.Sprintf("arp_ignore = %d", mode)
		}
		if from.IsValid() && h.confMax(netstack.IPv4, dev, "arp_filter") != 0 {
			// arp_filter: the way back must be the interface that was asked.
			res := h.fib.Lookup(fib.Key{Src: addr, Dst: from, OIF: h.answersBy(dev, netstack.ProtoICMP, nil)})
			if !res.Found() || len(res.NextHops) > 0 && res.NextHops[0].Dev != dev {
				return filtered, "arp_filter = 1"
			}
		}
		return replies, ""
	}
	if on, _ := h.ConfSysctl(netstack.IPv4, dev, "forwarding"); on == 0 || noARP {
		return silent, ""
	}
	res := h.fib.Lookup(fib.Key{Src: from, Dst: addr, IIF: dev})
	if res.Type != netstack.RouteUnicast {
		return silent, ""
	}
	if slices.ContainsFunc(res.NextHops, func(n netstack.NextHop) bool { return n.Dev == dev }) {
		// arp_fwd_pvlan: for stations of a segment that do not hear each other.
		if h.confMax(netstack.IPv4, dev, "proxy_arp_pvlan") != 0 && from != addr {
			return replies, ""
		}
		return silent, ""
	}
	if h.proxiesARP(dev, &res) || h.proxies(dev, addr) {
		return replies, ""
	}
	return silent, ""
}

// proxiesARP is arp_fwd_proxy: media of one identifier are taken for one, and -1 for none.
func (h *host) proxiesARP(dev string, res *fib.Result) bool {
	medium, _ := h.ConfSysctl(netstack.IPv4, dev, "medium_id")
	switch {
	case h.confMax(netstack.IPv4, dev, "proxy_arp") == 0 || medium == -1:
		return false
	case medium == 0 || len(res.NextHops) == 0:
		return true
	}
	other, _ := h.ConfSysctl(netstack.IPv4, res.NextHops[0].Dev, "medium_id")
	return other != medium && other != -1
}

// ignoresARP is arp_ignore, with the modes of ip-sysctl.rst.
func (h *host) ignoresARP(mode int, dev string, from, addr netip.Addr) bool {
	has := func(match func(*netstack.Address) bool) bool {
		for a := range h.addresses.Each(addr) {
			if match(a) {
				return true
			}
		}
		return false
	}
	switch mode {
	case 1:
		return !has(func(a *netstack.Address) bool { return a.Dev == dev })
	case 2:
		return !has(func(a *netstack.Address) bool {
			return a.Dev == dev && (!from.IsValid() || a.Prefix.Masked().Contains(from))
		})
	case 3:
		return !has(func(a *netstack.Address) bool { return a.Scope <= netstack.ScopeLink })
	case 8:
		return true
	}
	return false
}

// arpFiltered explains that the owner of an address keeps quiet.
func (l *leg) arpFiltered(s *station, setting string, to netip.Addr) verdict.Finding {
	h := l.w.hosts[s.NS]
	f := verdict.NewFindingf(verdict.ARPFiltered, h.where(s.Link.Name), []string{setting},
		"%s has %s, but does not answer ARP for it on %s (%s)", h, to, s.Link.Name, setting)
	if s.Link.NoARP() {
		f.Remedy = arpOn(s.Link)
	}
	return f
}

// arpOn is what to do about a link with ARP off.
func arpOn(link *netstack.Link) string {
	return fmt.Sprintf("Turn ARP on (ip link set %s arp on).", link.Name)
}
