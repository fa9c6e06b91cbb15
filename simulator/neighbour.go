package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// resolve finds the link-layer address of a neighbour: the cached one, or what
// ARP or neighbour discovery would answer on the segment.
func (l *leg) resolve(out *netstack.Link, to netip.Addr) (netstack.MAC, end, bool) {
	h := l.host
	cached := h.neighbour(out.Name, to)
	if cached != nil && cached.Fixed() {
		return l.fixed(out, cached)
	}
	if out.NoARP() { // arp_constructor, ndisc_constructor
		l.stepNeighbour(out.MAC, func() string { return out.Name + " has ARP off, and sends to its own address" })
		return out.MAC, end{}, false
	}
	if mac, ok := l.learned[learnedKey{h, out.Name, to}]; ok {
		l.stepNeighbour(mac, func() string { return to.String() + " was heard on " + out.Name })
		return mac, end{}, false
	}
	segment := l.segment(l.port(out), to)
	defer segment.done()
	owner := l.owner(segment.stations, cached, out, to)
	fresh := cached == nil || !cached.Resolved()
	if owner != nil && owner.barrier == unbarred {
		return l.resolved(out, to, owner, cached)
	}
	if segment.cloud {
		l.stepNeighbour(cloudRouter, func() string { return "the cloud answers for " + to.String() })
		return cloudRouter, end{}, false
	}
	if len(segment.answers) > 0 && fresh {
		a := segment.answers[0]
		l.stepNeighbour(a.mac, func() string { return fmt.Sprintf("%s of %s answers for %s", a.by.Link.Name, l.w.hosts[a.by.NS], to) })
		return a.mac, end{}, false
	}
	if owner != nil {
		return l.hidden(*owner, cached)
	}
	if !fresh && (segment.open || segment.station(cached.MAC) != nil) {
		l.stepNeighbour(cached.MAC, func() string { return neighbourLine(cached) })
		return cached.MAC, end{}, false
	}
	if at := slices.IndexFunc(segment.stations, func(s station) bool { return s.barrier == deviceUnknown || s.barrier == vlanSuppresses }); at >= 0 {
		return l.hidden(segment.stations[at], cached)
	}
	filtered, isFiltered := l.filtered(segment.stations, l.asker(out, to), to)
	if segment.open && (cached == nil || cached.State&netstack.NUDFailed == 0) {
		if isFiltered { // as the servers behind a balancer do, which has the address, too
			return netstack.MAC{}, l.undecided(verdict.NewFindingf(verdict.SnapshotMissing, filtered.Where, filtered.Evidence,
				"%s: whether another does, which was not collected, is not known", filtered.Message)), true
		}
		if e, failed := l.askOutside(out, to); failed {
			return netstack.MAC{}, e, true
		}
		return netstack.MAC{}, l.leaveBy(l.port(out)), true
	}
	if f, ok := l.vanished(segment.stations, to); ok {
		return netstack.MAC{}, l.unreached(f, cached), true
	}
	if isFiltered {
		return netstack.MAC{}, l.unreached(filtered, cached), true
	}
	var ev []string
	if cached != nil {
		ev = append(ev, neighbourLine(cached))
	}
	ev = append(ev, describeRoute(&l.route))
	f := verdict.NewFindingf(verdict.NeighbourFailed, h.where(out.Name), ev,
		"neighbour %s unresolved on %s of %s: nobody on the segment has this address", to, out.Name, h)
	return netstack.MAC{}, l.unreached(f, cached), true
}

func (l *leg) stepNeighbour(mac netstack.MAC, why func() string) {
	if !l.quiet {
		l.step("neighbour", mac.String(), why())
	}
}

// filtered finds a station that has the address, and does not answer for it.
func (l *leg) filtered(stations []station, from, to netip.Addr) (verdict.Finding, bool) {
	for i := range stations {
		s := &stations[i]
		if says, setting := l.w.answers(s, from, to); says == filtered {
			return l.arpFiltered(s, setting, to), true
		}
	}
	return verdict.Finding{}, false
}

// fixed takes the address of an entry that nobody is asked for. It is wrong
// where another station has the neighbour's address, unless that which gets the
// packet is a router.
func (l *leg) fixed(out *netstack.Link, cached *netstack.Neighbour) (netstack.MAC, end, bool) {
	segment := l.segment(l.port(out), noAddr)
	defer segment.done()
	owner, other := l.owner(segment.stations, cached, out, cached.IP), segment.station(cached.MAC)
	if owner != nil && other != nil && owner.barrier == unbarred && owner.Link.MAC != cached.MAC {
		at := l.newLeg(l.packet)
		defer at.done()
		at.host = l.w.hosts[other.NS]
		if !at.forwarding(other.Link.Name) {
			return l.stale(out, owner, cached)
		}
	}
	l.stepNeighbour(cached.MAC, func() string { return neighbourLine(cached) })
	return cached.MAC, end{}, false
}

// stale ends the leg: the cached entry is not what its owner has.
func (l *leg) stale(out *netstack.Link, owner *station, cached *netstack.Neighbour) (netstack.MAC, end, bool) {
	f := verdict.NewFindingf(verdict.NeighbourStale, l.host.where(out.Name), []string{neighbourLine(cached)},
		"neighbour %s resolves to the wrong link-layer address %s on %s of %s: %s of %s has %s",
		cached.IP, cached.MAC, out.Name, l.host, owner.Link.Name, l.w.hosts[owner.NS], owner.Link.MAC)
	return netstack.MAC{}, l.drop(f), true
}

// hidden ends the leg: something stands between the sender and its neighbour.
func (l *leg) hidden(s station, cached *netstack.Neighbour) (netstack.MAC, end, bool) {
	f := l.barrier(s)
	if f.Severity == verdict.SeverityUndecided {
		return netstack.MAC{}, l.undecided(f), true
	}
	return netstack.MAC{}, l.unreached(f, cached), true
}

// resolved takes the address of the station that owns the neighbour's, if the
// station hears the request, answers it, and is heard.
func (l *leg) resolved(out *netstack.Link, to netip.Addr, owner *station, cached *netstack.Neighbour) (netstack.MAC, end, bool) {
	mac := owner.Link.MAC
	if cached != nil && cached.Resolved() {
		if cached.MAC != mac {
			return l.stale(out, owner, cached)
		}
	} else if e, failed := l.ask(out, to, owner); failed {
		return netstack.MAC{}, e, true
	}
	l.stepNeighbour(mac, func() string { return to.String() + " is on " + owner.Link.Name + " of " + l.w.hosts[owner.NS].name })
	return mac, end{}, false
}

// owner is the station that answers for an address. When several do, the cached
// entry is the kernel's choice among them; without one, whichever is heard
// last: each may be.
func (l *leg) owner(stations []station, cached *netstack.Neighbour, out *netstack.Link, to netip.Addr) *station {
	var barred *station
	var owners []*station
	from := l.asker(out, to)
	for i := range stations {
		s := &stations[i]
		if !l.w.mayAnswer(s, to) {
			continue
		}
		says, _ := l.w.answers(s, from, to)
		switch {
		case says != replies:
		case s.barrier == unbarred:
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
		at := slices.IndexFunc(owners, func(s *station) bool { return s.Link.MAC == cached.MAC })
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
func (l *leg) refusesARP(owner *station, src, to netip.Addr) (verdict.Finding, bool) {
	at := l.w.hosts[owner.NS]
	request := l.newLeg(netstack.Packet{Src: src, Dst: to})
	defer request.done()
	request.host = at
	if f, martian := request.martian(owner.Link); martian {
		return f, true
	}
	if at.fib.LocalAt(to, owner.Link.Name) {
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
func (l *leg) vanished(stations []station, to netip.Addr) (verdict.Finding, bool) {
	if to.Is4() || len(stations) == 0 {
		return verdict.Finding{}, false
	}
	barred := true
	for i := range stations {
		s := &stations[i]
		if s.barrier != linkIsDown {
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

// unreached drops a packet that its neighbour does not get. While the kernel
// remembers the neighbour it sends all the same, and tells nobody
// (neigh_event_send).
func (l *leg) unreached(f verdict.Finding, cached *netstack.Neighbour) end {
	if cached != nil && cached.Resolved() {
		return l.drop(f)
	}
	return l.unresolved(f)
}

// unresolved drops a packet whose neighbour does not answer: its sender is told
// once the kernel gave up (arp_error_report, ndisc_error_report).
func (l *leg) unresolved(f verdict.Finding) end {
	typ, code := unreachable(l.packet.Family(), errHost)
	e := l.dropTelling(f, typ, code)
	e.notice.late = true
	return e
}

// addressOn is the address as the device has it, usable or not.
func (h *host) addressOn(dev string, ip netip.Addr) (*netstack.Address, bool) {
	for a := range h.devices.Each(dev) {
		if a.Prefix.Addr() == ip {
			return a, true
		}
	}
	return nil, false
}

func (h *host) neighbour(dev string, ip netip.Addr) *netstack.Neighbour {
	return h.neighbours.First(netstack.NeighbourKey{Dev: dev, IP: ip})
}
