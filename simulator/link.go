package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// transmit hands the packet to a device of its namespace, for the neighbour
// that has the address to.
func (l *leg) transmit(out *netstack.Link, to netip.Addr) end {
	l.hop().Out = out.Name
	if !out.Up() {
		return l.drop(l.linkDown(l.port(out)))
	}
	if f, yes := l.notModelled(out); yes {
		return l.undecided(f)
	}
	if e, opaque := l.throughDevice(out.Name, "egress"); opaque {
		return e
	}
	l.packet.SrcMAC = out.MAC
	if out.Flags&netstack.FlagNoARP == 0 {
		mac, e, failed := l.resolve(out, to)
		if failed {
			return e
		}
		l.packet.DstMAC = mac
	}
	if out.Kind == "bridge" {
		return l.bridgeForward(l.port(out), fabric.Port{}, false)
	}
	return l.cross(l.port(out))
}

// notModelled says whether what the device does with packets is not modelled.
func (l *leg) notModelled(link *netstack.Link) (verdict.Finding, bool) {
	switch link.Kind {
	case "", "veth", "bridge", "loopback":
		return verdict.Finding{}, false
	}
	return verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(link.Name), nil,
		"interface %s of %s is of kind %s, which is not modelled", link.Name, l.host, link.Kind), true
}

// vlanHeader is how many bytes more than the MTU a veth and a bridge let pass:
// is_skb_forwardable has room for a VLAN tag.
const vlanHeader = 4

// cross carries the frame over a veth or a wire to the other end.
func (l *leg) cross(out fabric.Port) end {
	if peer, ok := l.w.fabric.Peer(out.Link); ok {
		if !peer.Link.Up() {
			return l.drop(l.linkDown(peer))
		}
		if l.packet.Length > peer.Link.MTU+vlanHeader {
			at := l.w.hosts[peer.NS]
			return l.drop(verdict.NewFindingf(verdict.MTUExceeded, at.where(peer.Link.Name), linkEvidence(peer.Link),
				"packet of %d bytes exceeds MTU %d of %s on %s, the other end of %s", l.packet.Length, peer.Link.MTU, peer.Link.Name, at, out.Link.Name))
		}
		return l.arrive(peer)
	}
	wire, ok := l.w.fabric.Wire(out.Link)
	if !ok {
		return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(out.Link.Name), linkEvidence(out.Link),
			"interface %s is down: nothing is at its other end", out.Link.Name))
	}
	for _, p := range wire {
		if l.holds(p, l.packet.DstMAC) {
			l.hops = append(l.hops, verdict.Hop{
				Kind: verdict.HopWire, In: out.Link.Name, Out: p.Link.Name, Packet: l.packet.String(),
				Steps: []verdict.Step{}, Findings: []verdict.Finding{},
			})
			if !p.Link.Up() {
				return l.drop(l.linkDown(p))
			}
			return l.arrive(p)
		}
	}
	return l.leave(out.Link.Name)
}

// holds says whether frames to mac that reach the port find their station
// there.
func (l *leg) holds(p fabric.Port, mac netstack.MAC) bool {
	bridge, ok := l.w.fabric.Bridge(p.Link)
	if !ok {
		return p.Link.MAC == mac
	}
	if bridge.Link.MAC == mac {
		return true
	}
	return slices.ContainsFunc(l.w.fabric.Ports(bridge.Link), func(out fabric.Port) bool {
		if out.Link == p.Link {
			return false
		}
		behind, _ := l.w.fabric.Behind(out)
		return slices.ContainsFunc(behind, func(s fabric.Station) bool { return s.Link.MAC == mac })
	})
}

// leave ends the leg at the edge of the collected world.
func (l *leg) leave(dev string) end {
	l.hop().Out = dev
	f := verdict.NewFindingf(verdict.LeavesModel, l.host.where(dev), []string{l.packet.String()},
		"the packet leaves the collected world through %s of %s as %s", dev, l.host, &l.packet)
	return l.finish(left, f)
}

// arrive takes the frame in at an interface of the next namespace.
func (l *leg) arrive(at fabric.Port) end {
	h := l.w.hosts[at.NS]
	l.enter(h, at.Link.Name)
	p := &l.packet
	if e, stop := l.comesBack(at); stop {
		return e
	}
	if e, opaque := l.throughDevice(at.Link.Name, "ingress"); opaque {
		return e
	}
	if bridge, ok := l.w.fabric.Bridge(at.Link); ok {
		return l.bridgeReceive(bridge, at)
	}
	if f, yes := l.notModelled(at.Link); yes {
		return l.undecided(f)
	}
	for i := range h.Links {
		if c := &h.Links[i]; c.Peer == at.Link.Index && c.PeerNSID == netstack.NoPeerNS && (c.Kind == "macvlan" || c.Kind == "ipvlan" || c.Kind == "macvtap") {
			f, _ := l.notModelled(c)
			return l.undecided(f)
		}
	}
	if p.DstMAC != (netstack.MAC{}) && p.DstMAC != at.Link.MAC {
		return l.drop(verdict.NewFindingf(verdict.NeighbourStale, h.where(at.Link.Name), nil,
			"neighbour %s resolves to the wrong link-layer address: %s of %s ignores the frame", p.Dst, at.Link.Name, h))
	}
	return l.receive(at.Link, "", false)
}

// comesBack notices that the packet was here before. A loop of routers ends
// where its hop limit does, which is found without walking every round of it;
// one without routers does not end.
func (l *leg) comesBack(at fabric.Port) (end, bool) {
	p := &l.packet
	here := place{at.Link, p.Src, p.Dst, p.SrcPort, p.DstPort, p.Mark}
	before, again := l.seen[here]
	if !again {
		if l.seen == nil {
			l.seen = make(map[place]uint8)
		}
		l.seen[here] = p.TTL
		return end{}, false
	}
	if l.loop != nil {
		return end{}, false // in the last round
	}
	f := verdict.NewFinding(verdict.RoutingLoop, l.host.where(at.Link.Name), l.trail(),
		fmt.Sprintf("%s comes back to %s of %s", p, at.Link.Name, l.host))
	if before <= p.TTL {
		return l.drop(f), true
	}
	l.loop = &f
	p.TTL = (p.TTL-1)%(before-p.TTL) + 1
	return end{}, false
}

// trail lists the hops of a loop.
func (l *leg) trail() []string {
	var list []string
	for i := range l.hops {
		h := &l.hops[i]
		list = append(list, fmt.Sprintf("%s: %s -> %s", h.Namespace, h.In, h.Out))
	}
	return list
}

// bridgeNF says whether the rules of the network layer see bridged packets.
func (l *leg) bridgeNF(bridge *netstack.Link) bool {
	key, own := "net.bridge.bridge-nf-call-iptables", bridge.Bridge != nil && bridge.Bridge.NFCallIPTables
	if l.packet.Family() == netstack.IPv6 {
		key, own = "net.bridge.bridge-nf-call-ip6tables", bridge.Bridge != nil && bridge.Bridge.NFCallIP6Tables
	}
	v, _ := l.host.Sysctl(key)
	return v != 0 || own
}

// bridgeReceive takes a frame from a port of a bridge: br_handle_frame.
func (l *leg) bridgeReceive(bridge, in fabric.Port) end {
	if e, missing := l.require(netstack.PartLinks, netstack.PartSysctls); missing {
		return e
	}
	if in.Link.Port != nil && in.Link.Port.State != netstack.BRStateForwarding {
		return l.drop(l.barrier(fabric.Station{Barrier: fabric.PortState, At: in}))
	}
	if !bridge.Link.Up() {
		return l.drop(l.linkDown(bridge))
	}
	nf := l.bridgeNF(bridge.Link)
	if nf {
		dst := l.packet.Dst
		if e, stop := l.hook(netfilter.Prerouting, bridge.Link.Name, "", in.Link.Name, ""); stop {
			return e
		}
		if l.packet.Dst != dst {
			return l.bridgeTranslated(bridge, in)
		}
	}
	if l.toBridge(bridge) {
		return l.receive(bridge.Link, in.Link.Name, nf)
	}
	return l.bridgeForward(bridge, in, nf)
}

// bridgeTranslated goes on with a bridged packet that PREROUTING translated:
// br_nf_pre_routing_finish. It stays on the bridge when its new destination is
// reached through the bridge, which needs no forwarding; else it is routed.
func (l *leg) bridgeTranslated(bridge, in fabric.Port) end {
	h := l.host
	if e, missing := l.requireRouting(); missing {
		return e
	}
	res := h.fib.Lookup(fib.KeyOf(&l.packet, bridge.Link.Name))
	if res.Type == netstack.RouteUnicast && len(res.NextHops) == 1 && res.NextHops[0].Dev == bridge.Link.Name {
		if f, fails := l.reversePath(bridge.Link.Name, bridge.Link.Name); fails {
			return l.drop(f)
		}
		l.route, l.next = res, res.NextHops[0]
		to := l.packet.Dst
		if l.next.Gateway.IsValid() {
			to = l.next.Gateway
		}
		mac, e, failed := l.resolve(bridge.Link, to)
		if failed {
			return e
		}
		l.packet.DstMAC = mac
		return l.bridgeForward(bridge, in, true)
	}
	return l.receive(bridge.Link, in.Link.Name, true)
}

// toBridge says whether the frame is for the bridge's own host.
func (l *leg) toBridge(bridge fabric.Port) bool {
	mac := l.packet.DstMAC
	if mac == bridge.Link.MAC {
		return true
	}
	return slices.ContainsFunc(l.host.FDB, func(e netstack.FDBEntry) bool {
		return e.Local && e.MAC == mac && (e.Dev == bridge.Link.Name || e.Master == bridge.Link.Name)
	})
}

// bridgeForward sends the frame out of the port behind which its destination
// is: br_forward. in is not valid for packets of the bridge's own host, which
// br_netfilter does not look at.
func (l *leg) bridgeForward(bridge, in fabric.Port, nf bool) end {
	h := l.host
	if in.Valid() {
		l.hop().Kind = verdict.HopBridge
	}
	out, open := l.egress(bridge, in)
	if !out.Valid() {
		if open.Valid() {
			return l.bridgeOut(bridge, in, open, nf)
		}
		return l.drop(verdict.NewFindingf(verdict.NeighbourStale, h.where(bridge.Link.Name), []string{macString(l.packet.DstMAC)},
			"neighbour %s resolves to the wrong link-layer address %s: nobody on %s has it", l.packet.Dst, macString(l.packet.DstMAC), bridge.Link.Name))
	}
	return l.bridgeOut(bridge, in, out, nf)
}

func (l *leg) bridgeOut(bridge, in, out fabric.Port, nf bool) end {
	h := l.host
	l.hop().Out = out.Link.Name
	if bridge.Link.Bridge != nil && bridge.Link.Bridge.VLANFiltering {
		return l.undecided(l.barrier(fabric.Station{Barrier: fabric.Filtered, At: bridge}))
	}
	if in.Link == out.Link && in.Valid() {
		if out.Link.Port == nil || !out.Link.Port.Hairpin {
			return l.drop(verdict.NewFinding(verdict.BridgeHairpinOff, h.where(out.Link.Name), linkEvidence(out.Link), out.Link.Name))
		}
	} else if way := l.w.fabric.Exit(in, out, fabric.Station{}); way.Barrier != fabric.Clear {
		return l.drop(l.barrier(way))
	}
	if e, opaque := l.throughBridge(bridge.Link.Name); opaque {
		return e
	}
	if nf && in.Valid() {
		if e, stop := l.hook(netfilter.Forward, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
		if e, stop := l.hook(netfilter.Postrouting, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	l.step("bridge", "forward", bridge.Link.Name+" to port "+out.Link.Name)
	if mtu := out.Link.MTU; in.Valid() && (l.packet.Length > mtu+vlanHeader || nf && l.packet.Length > mtu) {
		e := l.drop(verdict.NewFindingf(verdict.MTUExceeded, h.where(out.Link.Name), linkEvidence(out.Link),
			"packet of %d bytes exceeds MTU %d of bridge port %s on %s", l.packet.Length, mtu, out.Link.Name, h))
		// A bridge is no router, and tells nobody; but br_netfilter has IPv6
		// fragment the packet, which does (br_nf_dev_queue_xmit, ip6_fragment).
		if nf && l.packet.Family() == netstack.IPv6 {
			e.notice = notice{kind: noticeICMP, mtu: mtu}
			e.notice.typ, e.notice.code = tooBig(netstack.IPv6)
		}
		return e
	}
	return l.cross(out)
}

// egress finds the port behind which the frame's destination is, and else a
// port behind which not everything was collected.
func (l *leg) egress(bridge, in fabric.Port) (out, open fabric.Port) {
	mac := l.packet.DstMAC
	ports := l.w.fabric.Ports(bridge.Link)
	for _, e := range l.host.FDB {
		if e.MAC == mac && e.Master == bridge.Link.Name && e.State&netstack.NUDPermanent != 0 && !e.Local {
			for _, p := range ports {
				if p.Link.Name == e.Dev {
					return p, open
				}
			}
		}
	}
	var blocked fabric.Port
	for _, p := range ports {
		behind, uncollected := l.w.fabric.Behind(p)
		if uncollected && p.Link != in.Link {
			open = p
		}
		for _, s := range behind {
			if s.Link.MAC != mac {
				continue
			}
			if s.Barrier == fabric.Clear {
				return p, open
			}
			if !blocked.Valid() {
				blocked = p
			}
		}
	}
	return blocked, open
}

// resolve finds the link-layer address of a neighbour: the cached one, or what
// ARP or neighbour discovery would answer on the segment.
func (l *leg) resolve(out *netstack.Link, to netip.Addr) (netstack.MAC, end, bool) {
	h := l.host
	cached := h.neighbour(out.Name, to)
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
			if f, refused := l.refusesARP(out, owner, to); refused {
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
		l.step("neighbour", macString(mac), fmt.Sprintf("%s is on %s of %s", to, owner.Link.Name, l.w.hosts[owner.NS]))
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
// it like a packet, with the address that arp_solicit sends from.
func (l *leg) refusesARP(out *netstack.Link, owner *fabric.Station, to netip.Addr) (verdict.Finding, bool) {
	if to.Is6() {
		return verdict.Finding{}, false
	}
	src := l.packet.Src
	if !l.host.fib.Local(src) {
		var ok bool
		if src, ok = l.host.fib.DeviceAddress(out.Name, to, to); !ok {
			return verdict.Finding{}, false
		}
	}
	at := l.w.hosts[owner.NS]
	request := &leg{walk: l.walk, host: at, packet: netstack.Packet{Src: src, Dst: to}}
	if f, martian := request.martian(owner.Link); martian {
		return f, true
	}
	if !at.fib.Local(to) {
		return verdict.Finding{}, false // proxy ARP looks where the address is, not who asks
	}
	return request.reversePath(owner.Link.Name, "")
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
	e := l.dropTelling(f, typ, code)
	e.notice.originated = l.origin == l.host && len(l.hops) == 1
	return e
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

// linkDown explains that an interface on the way is down.
func (l *leg) linkDown(at fabric.Port) verdict.Finding {
	return linkDown(l.w.hosts[at.NS], at.Link)
}

func linkDown(h *host, link *netstack.Link) verdict.Finding {
	return verdict.NewFindingf(verdict.InterfaceDown, h.where(link.Name), linkEvidence(link),
		"interface %s is down on %s", link.Name, h)
}

// barrier explains what stands in the way on a segment.
func (l *leg) barrier(s fabric.Station) verdict.Finding {
	h := l.w.hosts[s.At.NS]
	at := h.where(s.At.Link.Name)
	switch s.Barrier {
	case fabric.LinkDown:
		return l.linkDown(s.At)
	case fabric.PortState:
		return verdict.NewFinding(verdict.BridgePortBlocked, at, linkEvidence(s.At.Link), s.At.Link.Name)
	case fabric.Isolated:
		return verdict.NewFindingf(verdict.BridgePortIsolated, at, linkEvidence(s.At.Link),
			"bridge port %s on %s is isolated from the port of the sender", s.At.Link.Name, h)
	}
	return verdict.NewFindingf(verdict.UnmodelledRule, at, linkEvidence(s.At.Link),
		"bridge %s on %s filters VLANs, which is not modelled", s.At.Link.Name, h)
}
