package simulator

import (
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/tc"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// obstacle is why frames do not pass between two stations of a segment.
type obstacle uint8

const (
	unbarred       obstacle = iota
	linkIsDown              // an interface on the way is down
	portState               // a bridge port does not forward
	portIsolated            // both bridge ports are isolated
	vlanFiltered            // a bridge port does not carry the VLAN
	portNoFlood             // a bridge port gets no broadcasts, or no multicasts
	portLocked              // a bridge port takes only senders that it knows
	vlansMissing            // the VLANs of a bridge that filters were not collected
	vlanSuppresses          // a VLAN of a bridge port may suppress requests by a switch of its own
	deviceUnknown           // a kind of device that is not modelled
	sharesDevice            // both are on one device, which does not join them
)

// station is an interface that frames of a segment reach: one that hands them
// to the network layer.
type station struct {
	fabric.Port
	// barrier is the first obstacle on the way, at where it stands, and vlan the
	// VLAN that is meant.
	barrier obstacle
	at      fabric.Port
	vlan    uint16
}

// way is a station that is not reached yet, with the tags that frames have there.
type way struct {
	station
	tags tags
}

func (w way) blocked(by obstacle, at fabric.Port) way {
	if w.barrier == unbarred {
		w.barrier, w.at = by, at
	}
	return w
}

// search floods a segment, as a request for a neighbour is flooded: a broadcast
// in IPv4, a multicast in IPv6.
type search struct {
	*workspace
	// src is the sender's address, and wanted the address that is asked for; not
	// valid when no neighbour is.
	src      netstack.MAC
	wanted   netip.Addr
	seen     []spot
	more     map[spot]bool  // where seen holds no more
	sender   *netstack.Link // which is no station; nil once a frame has come back to it
	stations []station
	answers  []proxy
	open     bool // part of the segment was not collected
	cloud    bool // it leads to a cloud, which answers by itself
}

type spot struct {
	link   *netstack.Link
	tags   tags
	inside bool // the bridge, where its ports meet
}

// visit comes to a spot, and says whether the search was there before. Most
// segments are small: hashing is for the others.
func (s *search) visit(at spot) (again bool) {
	const few = 16
	if slices.Contains(s.seen, at) || s.more[at] {
		return true
	}
	if len(s.seen) < few {
		s.seen = append(s.seen, at)
		return false
	}
	if s.more == nil {
		s.more = make(map[spot]bool)
	}
	s.more[at] = true
	return false
}

// proxy is an answer that a bridge or VXLAN device gives for a neighbour that
// it knows of.
type proxy struct {
	by  fabric.Port
	mac netstack.MAC
}

// search starts one at an interface; done ends it, and gives its memory back.
func (ws *workspace) search(from fabric.Port, wanted netip.Addr) *search {
	s := reused(&ws.searches)
	s.seen = s.seen[:0]
	clear(s.more)
	s.workspace, s.src, s.wanted, s.sender, s.open, s.cloud = ws, from.Link.MAC, wanted, nil, false, false
	s.stations, s.answers = s.stations[:0], s.answers[:0]
	s.visit(spot{link: from.Link})
	return s
}

func (s *search) done() { s.searches = append(s.searches, s) }

// segment floods what an interface sends.
func (ws *workspace) segment(from fabric.Port, wanted netip.Addr) *search {
	s := ws.search(from, wanted)
	s.sender = from.Link
	s.transmit(from, way{})
	s.apart(from)
	return s
}

// apart adds, as out of reach, what shares a device with the sender but gets
// none of its frames: a device and the macvlans and ipvlans on it do not talk,
// and not all of those among themselves.
func (s *search) apart(from fabric.Port) {
	family := []fabric.Port{from}
	if lower, ok := s.w.fabric.Lower(from.Link); ok && from.Link.Kind != "vlan" {
		family = []fabric.Port{lower}
	}
	for _, upper := range s.w.fabric.Uppers(family[0].Link) {
		if isMACVLAN(upper.Link) || isIPVLAN(upper.Link) {
			family = append(family, upper)
		}
	}
	if len(family) == 1 {
		return
	}
	for _, p := range family {
		if !s.visit(spot{link: p.Link}) {
			s.stations = append(s.stations, way{station: station{Port: p}}.blocked(sharesDevice, from).station)
		}
	}
}

// behind floods what a port of a bridge sends for a station, to learn who is
// behind it.
func (ws *workspace) behind(port fabric.Port, t tags, src netstack.MAC) *search {
	s := ws.search(port, noAddr)
	s.src = src
	if bridge, ok := ws.w.fabric.Bridge(port.Link); ok {
		s.visit(spot{link: bridge.Link, tags: t, inside: true})
	}
	s.transmit(port, way{tags: t})
	return s
}

// leads says whether the frame's destination is behind an interface that takes in
// what another one sends.
func (l *leg) leads(out, in fabric.Port) bool {
	if l.w.plain[in.Link] {
		return !l.tags.tagged() && in.Link.MAC == l.packet.DstMAC
	}
	s := l.search(out, noAddr)
	defer s.done()
	s.src = l.packet.SrcMAC
	s.receive(in, way{tags: l.tags})
	return s.station(l.packet.DstMAC) != nil
}

// isPlain says whether an uplink is a station and nothing else: it is no port, nothing
// is on it, and no filter sends elsewhere what it takes in. Of those there are
// many on a wire.
func (w *World) isPlain(h *host, uplink *netstack.Link) bool {
	_, port := w.fabric.Master(uplink)
	return (uplink.Kind == "" || uplink.Kind == "veth") && !port && len(w.fabric.Uppers(uplink)) == 0 && !h.opaque.filters.At(uplink.Name, tc.Ingress)
}

// station returns the one with the address, a reachable one first.
func (s *search) station(mac netstack.MAC) *station {
	var barred *station
	for i := range s.stations {
		st := &s.stations[i]
		switch {
		case st.Link.MAC != mac:
		case st.barrier == unbarred:
			return st
		case barred == nil:
			barred = st
		}
	}
	return barred
}

// transmit follows what is sent by the interface.
func (s *search) transmit(out fabric.Port, to way) {
	link := out.Link
	if !link.Up() {
		to = to.blocked(linkIsDown, out)
	}
	s.redirects(out, tc.Egress, to)
	switch link.Kind {
	case "", "veth", "netkit":
		s.cross(out, to)
	case "bridge":
		s.bridge(out, fabric.Port{}, to)
	case "vlan":
		var ok bool
		if to.tags, ok = to.tags.push(vlanTag(link)); !ok {
			to = to.blocked(deviceUnknown, out)
		}
		s.lower(out, to)
	case "macvlan", "macvtap":
		to = s.carried(out, to)
		if lower, ok := s.w.fabric.Lower(link); ok && link.Mode == "bridge" {
			for _, sibling := range s.w.fabric.Uppers(lower.Link) {
				if sibling.Link != link && isMACVLAN(sibling.Link) && sibling.Link.Mode == "bridge" {
					s.receive(sibling, to)
				}
			}
		}
		s.lower(out, to)
	case "ipvlan", "ipvtap":
		to = s.carried(out, to)
		if lower, ok := s.w.fabric.Lower(link); ok && link.Mode == "l2" {
			for _, sibling := range s.w.fabric.Uppers(lower.Link) {
				if sibling.Link != link && isIPVLAN(sibling.Link) {
					s.receive(sibling, to)
				}
			}
		}
		s.lower(out, to)
	case "bond":
		if slave, ok := s.w.bondSlave(out); ok {
			s.transmit(slave, to)
			return
		}
		s.open = s.open || len(s.w.fabric.Ports(link)) == 0
	case "vxlan", "gretap":
		s.tunnel(out, to)
	case "dummy", "ifb", "loopback":
	case "tun":
		s.open = true // a program takes it: a virtual machine, perhaps
	default:
		to.Port = out
		s.stations = append(s.stations, to.blocked(deviceUnknown, out).station)
		s.open = true
	}
}

// redirects follows where filters may send what passes a device: the request
// itself is walked later.
func (s *search) redirects(at fabric.Port, hook tc.Hook, to way) {
	h := s.w.hosts[at.NS]
	protocol := tc.EtherARP
	if s.wanted.Is6() {
		protocol = tc.EtherIPv6
	}
	for _, r := range h.opaque.filters.Redirects(at.Link.Name, hook, protocol) {
		link := h.links[r.Device]
		if link == nil || link.Kind == "ifb" {
			continue
		}
		p := fabric.Port{NS: at.NS, Link: link}
		if r.Inward {
			s.receive(p, to)
			continue
		}
		if !s.visit(spot{link: link, tags: to.tags, inside: true}) {
			s.transmit(p, to)
		}
	}
}

// carried blocks the way out of a device that has no carrier: it sends nothing, not even to siblings.
func (s *search) carried(out fabric.Port, to way) way {
	lower, ok := s.w.withoutCarrier(out.Link)
	if !ok {
		return to
	}
	return to.blocked(linkIsDown, s.w.fabric.Down(lower))
}

func (s *search) lower(out fabric.Port, to way) {
	if lower, ok := s.w.fabric.Lower(out.Link); ok {
		s.transmit(lower, to)
		return
	}
	s.cross(out, to) // an uplink, as its lower device was not collected
}

// cross follows what leaves by a wire.
func (s *search) cross(out fabric.Port, to way) {
	if _, ok := s.w.cloud.by[out.Link]; ok {
		s.open, s.cloud = true, true
		return
	}
	if peer, ok := s.w.fabric.Peer(out.Link); ok {
		s.receive(peer, to)
		return
	}
	if wire, ok := s.w.fabric.Wire(out.Link); ok {
		if s.open = true; s.w.cloud.unread != nil {
			s.cloud = true // perhaps
			return
		}
		for _, p := range wire {
			if p.NS != out.NS {
				s.receive(p, to)
			}
		}
	}
}

// tunnel follows what leaves by a tunnel to all of its remote ends: a VXLAN
// device sends a broadcast where its entries of the zero address lead.
func (s *search) tunnel(out fabric.Port, to way) {
	h := s.w.hosts[out.NS]
	if v := out.Link.VXLAN; v != nil && v.Proxy && s.wanted.IsValid() {
		if n := h.neighbour(out.Link.Name, s.wanted); n != nil && n.Resolved() {
			s.answers = append(s.answers, proxy{out, n.MAC})
		}
		return // arp_reduce, neigh_reduce: it answers, or nobody does
	}
	if tunnelOpaque(out.Link) {
		to.Port = out
		s.stations = append(s.stations, to.blocked(deviceUnknown, out).station)
		s.open = true
		return
	}
	for _, r := range h.remotes(out.Link, netstack.MAC{}) {
		ends, open := s.farEnds(out, r, &netstack.Packet{Length: neighbourMessageLength, TTL: 255})
		s.open = s.open || open
		for _, in := range ends {
			s.receive(in, to)
		}
	}
}

// receive follows what an interface takes in: __netif_receive_skb_core.
func (s *search) receive(in fabric.Port, to way) {
	at := spot{link: in.Link, tags: to.tags}
	if s.visit(at) {
		if in.Link == s.sender && !to.tags.tagged() { // a switch has sent it back
			s.sender = nil
			s.uppers(in, to)
		}
		return
	}
	if !in.Link.Up() {
		to = to.blocked(linkIsDown, in)
	}
	if s.w.plain[in.Link] {
		if !to.tags.tagged() {
			to.Port = in
			s.stations = append(s.stations, to.station)
		}
		return
	}
	s.redirects(in, tc.Ingress, to)
	if to.tags.tagged() {
		if upper, ok := s.w.vlanUpper(in.Link, to.tags); ok {
			to.tags = to.tags.pop()
			s.receive(upper, to)
			return
		}
	}
	if s.uppers(in, to) {
		return
	}
	if master, ok := s.w.fabric.Master(in.Link); ok {
		switch master.Link.Kind {
		case "bridge":
			s.enterBridge(master, in, to)
			return
		case "bond":
			if bondReceives(master.Link, in.Link) {
				s.receive(master, to)
			}
			return
		}
	}
	switch in.Link.Kind {
	case "macvtap", "ipvtap", "tun":
		s.open = true
		return
	}
	if !to.tags.tagged() {
		to.Port = in
		s.stations = append(s.stations, to.station)
	}
}

// enterBridge follows what a port of a bridge takes in: br_handle_frame_finish.
func (s *search) enterBridge(bridge, in fabric.Port, to way) {
	at := spot{link: bridge.Link, tags: to.tags, inside: true}
	if s.visit(at) {
		return
	}
	if !bridge.Link.Up() {
		to = to.blocked(linkIsDown, bridge) // which disables its ports
	}
	if in.Link.Port != nil && in.Link.Port.State != netstack.BRStateForwarding {
		to = to.blocked(portState, in)
	}
	s.bridge(bridge, in, to)
}

// bridge floods a frame from a port of the bridge, or from the bridge's host
// when in is not valid: br_flood.
func (s *search) bridge(bridge, in fabric.Port, to way) {
	h := s.w.hosts[bridge.NS]
	from := bridge
	if in.Valid() {
		from = in
	}
	if h.vlansMissing(bridge.Link) {
		to = to.blocked(vlansMissing, bridge)
	}
	vlan, inner, ok := h.admit(bridge.Link, from.Link.Name, to.tags)
	if !ok {
		to.vlan = vlan
		to = to.blocked(vlanFiltered, from)
	}
	if in.Valid() && !h.knownSender(in, s.src, vlan) {
		to = to.blocked(portLocked, in)
	}
	suppressed, by := s.suppress(h, bridge, in, vlan)
	if by.Valid() {
		to.vlan = vlan
		to = to.blocked(vlanSuppresses, by)
	}
	barred := to.barrier != unbarred
	if in.Valid() {
		up := to
		if t, ok := h.release(bridge.Link, bridge.Link.Name, vlan, inner); ok {
			up.tags = t
		} else if !barred {
			up.vlan = vlan
			up = up.blocked(vlanFiltered, bridge)
		}
		s.receive(bridge, up)
	}
	var late []way // by ports at which the way is barred: another port may lead to the same bond
	for _, out := range s.w.fabric.Ports(bridge.Link) {
		p := out.Link.Port
		if out.Link == in.Link && (p == nil || !p.Hairpin) || p != nil && (p.ProxyARP || suppressed && (p.NeighSuppress || p.ProxyARPWiFi)) {
			continue
		}
		next := s.w.exit(in, out, to)
		if t, ok := h.release(bridge.Link, out.Link.Name, vlan, inner); ok {
			next.tags = t
		} else if !barred {
			next.vlan = vlan
			next = next.blocked(vlanFiltered, out)
		}
		if in.Valid() && p != nil && s.wanted.IsValid() && (s.wanted.Is4() && p.NoBroadcastFlood || s.wanted.Is6() && p.NoMulticastFlood) {
			next = next.blocked(portNoFlood, out)
		}
		if !barred && (next.barrier != unbarred || !out.Link.Up()) {
			next.Port = out
			late = append(late, next)
			continue
		}
		s.transmit(out, next)
	}
	for _, w := range late {
		s.transmit(w.Port, w)
	}
}

// exit adds to a way what stands between two ports of a bridge: should_deliver.
// in is not valid for frames that the bridge's host sends.
func (w *World) exit(in, out fabric.Port, to way) way {
	p := out.Link.Port
	switch {
	case p == nil:
	case p.State != netstack.BRStateForwarding:
		if !out.Link.Up() || !out.Link.Carrier() {
			// The bridge disables a port without carrier: the link is the cause.
			return to.blocked(linkIsDown, w.fabric.Down(out))
		}
		return to.blocked(portState, out)
	case in.Valid() && in.Link.Port != nil && in.Link.Port.Isolated && p.Isolated:
		return to.blocked(portIsolated, out)
	case p.VLANTunnel:
		return to.blocked(deviceUnknown, out)
	}
	return to
}

// suppress says whether the bridge knows the neighbour that is asked for, so
// that ports that suppress such requests get none, and answers for it:
// br_do_proxy_suppress_arp, br_do_suppress_nd. If it may, and only a VLAN says so, by
// is the port with that VLAN.
func (s *search) suppress(h *host, bridge, in fabric.Port, vlan uint16) (suppressed bool, by fabric.Port) {
	if !s.wanted.IsValid() {
		return false, by
	}
	on, wifi := false, false
	for _, at := range s.w.fabric.Ports(bridge.Link) {
		p := at.Link.Port
		if p == nil {
			continue
		}
		on = on || p.NeighSuppress || p.NeighVLANSuppress
		wifi = wifi || p.ProxyARPWiFi && s.wanted.Is4()
		if p.NeighVLANSuppress && vlan != 0 {
			by = at
		}
	}
	proxyARP := in.Valid() && in.Link.Port != nil && in.Link.Port.ProxyARP && s.wanted.Is4()
	if !on && !proxyARP && !wifi || on && in.Valid() && in.Link.Port != nil && in.Link.Port.NeighSuppress && !by.Valid() {
		return false, fabric.Port{}
	}
	dev := bridge
	if vlan != 0 {
		var ok bool
		if dev, ok = s.w.vlanUpper(bridge.Link, tags{{vlanProtocol(bridge.Link), vlan}}); !ok {
			return false, fabric.Port{}
		}
	}
	owner := s.w.hosts[dev.NS]
	if a, own := owner.owns(s.wanted); own && on && (a.Dev == dev.Link.Name || a.Dev == bridge.Link.Name) {
		return true, fabric.Port{}
	}
	n := owner.neighbour(dev.Link.Name, s.wanted)
	if n == nil || !n.Resolved() {
		return false, fabric.Port{}
	}
	port, found := h.forwards(bridge.Link, n.MAC, vlan)
	if !found {
		return false, fabric.Port{}
	}
	if by.Valid() {
		return on, by
	}
	if proxyARP || port != nil && port.Port != nil && (port.Port.NeighSuppress || port.Port.ProxyARPWiFi && s.wanted.Is4()) {
		s.answers = append(s.answers, proxy{dev, n.MAC})
		return true, by
	}
	return on, by
}

// barrier explains what stands in the way on a segment.
func (l *leg) barrier(s station) verdict.Finding {
	h := l.w.hosts[s.at.NS]
	link := s.at.Link
	at, name := h.where(link.Name), link.Name
	switch s.barrier {
	case linkIsDown:
		return l.linkDown(s.at)
	case portState:
		return verdict.NewFinding(verdict.BridgePortBlocked, at, linkEvidence(link), name)
	case portIsolated:
		return verdict.NewFindingf(verdict.BridgePortIsolated, at, linkEvidence(link),
			"bridge port %s on %s is isolated from the port of the sender", name, h)
	case vlanFiltered:
		if s.vlan == 0 {
			return verdict.NewFindingf(verdict.BridgeVLANFiltered, at, h.vlanEvidence(name),
				"bridge port %s on %s does not carry VLAN frames without a tag: it has no PVID", name, h)
		}
		return verdict.NewFindingf(verdict.BridgeVLANFiltered, at, h.vlanEvidence(name),
			"bridge port %s does not carry VLAN %d on %s", name, s.vlan, h)
	case portNoFlood:
		return verdict.NewFindingf(verdict.BridgePortBlocked, at, linkEvidence(link),
			"bridge port %s on %s is not forwarding what is sent to all (bcast_flood, mcast_flood, flood): its stations are not found", name, h)
	case portLocked:
		return verdict.NewFindingf(verdict.BridgePortBlocked, at, linkEvidence(link),
			"bridge port %s on %s is not forwarding: it is locked, and no entry allows the sender %s", name, h, l.packet.SrcMAC)
	case vlansMissing:
		return verdict.NewFindingf(verdict.SnapshotMissing, at, nil,
			"the %s of %s were not collected, and %s filters VLANs", netstack.PartBridgeVLAN.Words(), h, name)
	case vlanSuppresses:
		return verdict.NewFindingf(verdict.UnmodelledRule, at, linkEvidence(link),
			"whether port %s of %s gets requests for neighbours in VLAN %d, or is answered for, is not modelled (neigh_vlan_suppress)", name, h, s.vlan)
	case sharesDevice:
		return verdict.NewFindingf(verdict.BridgePortIsolated, at, linkEvidence(link),
			"%s on %s and %s share a device, which does not join them (%s%s)", name, h, s.Link.Name, link.Kind, mode(link))
	}
	if tunnelOpaque(link) && isTunnel(link.Kind) {
		return verdict.NewFinding(verdict.EBPFOpaque, at, linkEvidence(link), "metadata (external)", name)
	}
	return l.unmodelledDevice(s.at)
}

func (l *leg) unmodelledDevice(at fabric.Port) verdict.Finding {
	h := l.w.hosts[at.NS]
	return verdict.NewFindingf(verdict.UnmodelledRule, h.where(at.Link.Name), linkEvidence(at.Link),
		"interface %s of %s is of kind %s, which is not modelled%s", at.Link.Name, h, at.Link.Kind, tunnelDetail(at.Link))
}
