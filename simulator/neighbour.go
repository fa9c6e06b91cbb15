package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// resolve finds the link-layer address of a neighbour: the cached one, or what
// ARP or neighbour discovery would answer on the segment.
func (l *leg) resolve(out *netstack.Link, to netip.Addr) (netstack.MAC, end, bool) {
	h := l.host
	cached := l.known(out.Name, to)
	stations, open := l.w.fabric.Segment(l.port(out))
	if owner := l.owner(stations, cached, out, to); owner != nil {
		if owner.Barrier != fabric.Clear {
			f := l.barrier(*owner)
			if f.Severity == verdict.SeverityUndecided {
				return netstack.MAC{}, l.undecided(f), true
			}
			return netstack.MAC{}, l.unresolved(f), true
		}
		if cached == nil || !cached.Resolved() {
			if f, unanswered := l.ask(out, owner, to); unanswered {
				if f.Severity == verdict.SeverityUndecided {
					return netstack.MAC{}, l.undecided(f), true
				}
				return netstack.MAC{}, l.unresolved(f), true
			}
		}
		mac := owner.Link.MAC
		if cached != nil && cached.Resolved() && cached.MAC != mac {
			f := verdict.NewFindingf(verdict.NeighbourStale, h.where(out.Name), []string{neighbourLine(cached)},
				"neighbour %s resolves to the wrong link-layer address %s on %s of %s: %s of %s has %s",
				to, macString(cached.MAC), out.Name, h, owner.Link.Name, l.w.hosts[owner.NS], macString(mac))
			return netstack.MAC{}, l.drop(f), true
		}
		if !l.quiet {
			l.step("neighbour", macString(mac), fmt.Sprintf("%s is on %s of %s", to, owner.Link.Name, l.w.hosts[owner.NS]))
		}
		return mac, end{}, false
	}
	if cached != nil && cached.Resolved() && (open || slices.ContainsFunc(stations, func(s fabric.Station) bool { return s.Link.MAC == cached.MAC })) {
		l.step("neighbour", macString(cached.MAC), neighbourLine(cached))
		return cached.MAC, end{}, false
	}
	if open && (cached == nil || cached.State&netstack.NUDFailed == 0) {
		return netstack.MAC{}, l.leave(out.Name), true
	}
	if f, ok := l.vanished(stations, to); ok {
		return netstack.MAC{}, l.unresolved(f), true
	}
	var ev []string
	if cached != nil {
		ev = append(ev, neighbourLine(cached))
	}
	ev = append(ev, describeRoute(&l.route))
	f := verdict.NewFindingf(verdict.NeighbourFailed, h.where(out.Name), ev,
		"neighbour %s unresolved on %s of %s: nobody on the segment has this address", to, out.Name, h)
	return netstack.MAC{}, l.unresolved(f), true
}

// owner is the station that answers for an address. When several do, the cached
// entry is the kernel's choice among them; without one, whichever is heard
// last: each may be.
func (l *leg) owner(stations []fabric.Station, cached *netstack.Neighbour, out *netstack.Link, to netip.Addr) *fabric.Station {
	var barred *fabric.Station
	var owners []*fabric.Station
	for i := range stations {
		s := &stations[i]
		switch {
		case !l.w.answers(s, to):
		case s.Barrier == fabric.Clear:
			owners = append(owners, s)
		case barred == nil:
			barred = s
		}
	}
	if len(owners) == 0 {
		return barred
	}
	if len(owners) == 1 {
		return owners[0]
	}
	if cached != nil && cached.Resolved() {
		at := slices.IndexFunc(owners, func(s *fabric.Station) bool { return s.Link.MAC == cached.MAC })
		return owners[max(at, 0)]
	}
	key := ownerKey{out, to}
	taken, known := l.owners[key]
	if !known {
		taken = l.dice.ask(choice{alternatives: len(owners)})
		l.owners[key] = taken
	}
	return owners[taken]
}

// refusesARP says whether the neighbour leaves the request unanswered because
// the packet's sender cannot be where the request comes from: arp_process routes
// it like a packet.
func (l *leg) refusesARP(owner *fabric.Station, src, to netip.Addr) (verdict.Finding, bool) {
	at := l.w.hosts[owner.NS]
	request := &leg{walk: l.walk, host: at, packet: netstack.Packet{Src: src, Dst: to}}
	if f, martian := request.martian(owner.Link); martian {
		return f, true
	}
	if at.fib.Local(to) {
		return request.reversePath(owner.Link.Name, "")
	}
	// Proxy ARP: it answers for what it would forward.
	res := at.fib.Lookup(fib.Key{Src: src, Dst: to, IIF: owner.Link.Name})
	if res.Type != netstack.RouteUnicast || len(res.NextHops) == 0 {
		why := "it has no route there"
		if res.Found() {
			why = "its route there is " + describeRoute(&res)
		}
		return verdict.NewFindingf(verdict.NeighbourFailed, at.where(owner.Link.Name), []string{why},
			"neighbour %s unresolved on %s of %s: %s does not answer for it, because %s", to, l.next.Dev, l.host, at, why), true
	}
	return request.reversePath(owner.Link.Name, res.NextHops[0].Dev)
}

// vanished explains that nobody has an IPv6 address: it goes away with the
// interface when that is set down.
func (l *leg) vanished(stations []fabric.Station, to netip.Addr) (verdict.Finding, bool) {
	if to.Is4() || len(stations) == 0 {
		return verdict.Finding{}, false
	}
	barred := true
	for i := range stations {
		s := &stations[i]
		if s.Barrier != fabric.LinkDown {
			barred = false
			continue
		}
		h := l.w.hosts[s.NS]
		pod, isPod := l.w.cluster.PodByIP(to)
		node, isNode := l.w.cluster.Node(h.Node)
		if isPod && h.Pod == pod.String() || isNode && h.Kind == netstack.KindNode && slices.Contains(node.IPs, to) {
			return l.barrier(*s), true
		}
	}
	if !barred {
		return verdict.Finding{}, false
	}
	return l.barrier(stations[0]), true
}

// unresolved drops a packet whose neighbour does not answer: its sender is told
// once the kernel gave up (arp_error_report, ndisc_error_report).
func (l *leg) unresolved(f verdict.Finding) end {
	typ, code := unreachable(l.packet.Family(), errHost)
	return l.dropTelling(f, typ, code)
}

// answers says whether a station answers ARP or neighbour discovery for addr.
func (w *World) answers(s *fabric.Station, addr netip.Addr) bool {
	h := w.hosts[s.NS]
	dev := s.Link.Name
	if addr.Is6() {
		for i := range h.Addresses {
			a := &h.Addresses[i]
			if a.Dev == dev && a.Prefix.Addr() == addr {
				off, _ := h.ConfSysctl(netstack.IPv6, dev, "disable_ipv6")
				return a.Usable() && off == 0
			}
		}
		return slices.ContainsFunc(h.Neighbours, func(n netstack.Neighbour) bool { return n.Proxy && n.Dev == dev && n.IP == addr })
	}
	if h.fib.Local(addr) {
		switch h.confMax(netstack.IPv4, dev, "arp_ignore") {
		case 0:
			return true
		case 8:
			return false
		}
		return slices.ContainsFunc(h.Addresses, func(a netstack.Address) bool { return a.Dev == dev && a.Prefix.Addr() == addr })
	}
	if slices.ContainsFunc(h.Neighbours, func(n netstack.Neighbour) bool { return n.Proxy && n.Dev == dev && n.IP == addr }) {
		return true
	}
	if h.confMax(netstack.IPv4, dev, "proxy_arp") == 0 {
		return false
	}
	if on, _ := h.ConfSysctl(netstack.IPv4, dev, "forwarding"); on == 0 {
		return false
	}
	res := h.fib.Lookup(fib.Key{Dst: addr, IIF: dev})
	return res.Type == netstack.RouteUnicast && !slices.ContainsFunc(res.NextHops, func(n netstack.NextHop) bool { return n.Dev == dev })
}

func (h *host) neighbour(dev string, ip netip.Addr) *netstack.Neighbour {
	for i := range h.Neighbours {
		if n := &h.Neighbours[i]; n.Dev == dev && n.IP == ip && !n.Proxy {
			return n
		}
	}
	return nil
}
