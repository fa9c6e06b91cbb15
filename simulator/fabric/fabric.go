// Package fabric knows how network namespaces are joined: the two ends of a
// veth, the ports of a bridge, the wire between the uplinks of nodes. It finds
// the stations of a link-layer segment and what stands in the way to them; it
// looks at no packet.
package fabric

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Port is one interface of one namespace.
type Port struct {
	NS   *netstack.Namespace
	Link *netstack.Link
}

// Valid says whether the port names an interface.
func (p Port) Valid() bool { return p.Link != nil }

// Fabric is the compiled topology. It is immutable and safe for concurrent use.
type Fabric struct {
	peers   map[*netstack.Link]Port
	masters map[*netstack.Link]Port   // port of a bridge -> the bridge
	slaves  map[*netstack.Link][]Port // bridge -> its ports, in order of index
	wires   map[*netstack.Link][]Port // uplink -> the other uplinks on its wire
}

// Compile finds out how the namespaces are joined.
func Compile(namespaces []*netstack.Namespace) *Fabric {
	f := &Fabric{
		peers:   make(map[*netstack.Link]Port),
		masters: make(map[*netstack.Link]Port),
		slaves:  make(map[*netstack.Link][]Port),
		wires:   make(map[*netstack.Link][]Port),
	}
	byName := make(map[string]*netstack.Namespace, len(namespaces))
	for _, ns := range namespaces {
		byName[ns.Name] = ns
	}
	for _, ns := range namespaces {
		for i := range ns.Links {
			l := &ns.Links[i]
			if l.Kind == "veth" {
				f.joinVeth(ns, l, byName)
			}
			if l.Master != "" {
				f.joinMaster(ns, l)
			}
		}
	}
	f.joinWires(namespaces)
	return f
}

func (f *Fabric) joinVeth(ns *netstack.Namespace, l *netstack.Link, byName map[string]*netstack.Namespace) {
	other := ns
	if l.PeerNSID != netstack.NoPeerNS {
		other = byName[ns.NSIDs[l.PeerNSID]]
	}
	if other == nil {
		return
	}
	for i := range other.Links {
		p := &other.Links[i]
		// Both ends must name each other: an id of a namespace may be stale.
		if p.Index == l.Peer && p.Kind == "veth" && p.Peer == l.Index {
			f.peers[l] = Port{other, p}
			// One end that knows the other's namespace is enough.
			if p.PeerNSID != netstack.NoPeerNS && other.NSIDs[p.PeerNSID] == "" {
				f.peers[p] = Port{ns, l}
			}
			return
		}
	}
}

func (f *Fabric) joinMaster(ns *netstack.Namespace, l *netstack.Link) {
	for i := range ns.Links {
		if m := &ns.Links[i]; m.Name == l.Master && m.Kind == "bridge" {
			f.masters[l] = Port{ns, m}
			f.slaves[m] = append(f.slaves[m], Port{ns, l})
		}
	}
}

// joinWires puts the uplinks that share a subnet on one wire: what lies between
// the hosts was not collected, and is taken for a switch.
func (f *Fabric) joinWires(namespaces []*netstack.Namespace) {
	type uplink struct {
		Port
		prefixes []netip.Prefix
	}
	var uplinks []uplink
	for _, ns := range namespaces {
		for i := range ns.Links {
			l := &ns.Links[i]
			if !f.uplink(l) {
				continue
			}
			u := uplink{Port: Port{ns, l}}
			dev := l.Name
			if m, ok := f.masters[l]; ok {
				dev = m.Link.Name
			}
			for _, a := range ns.Addresses {
				if a.Dev == dev && !a.Prefix.Addr().IsLinkLocalUnicast() && !a.Prefix.IsSingleIP() {
					u.prefixes = append(u.prefixes, a.Prefix.Masked())
				}
			}
			uplinks = append(uplinks, u)
			f.wires[l] = []Port{}
		}
	}
	for i, a := range uplinks {
		for _, b := range uplinks[i+1:] {
			if a.NS != b.NS && overlap(a.prefixes, b.prefixes) {
				f.wires[a.Link] = append(f.wires[a.Link], b.Port)
				f.wires[b.Link] = append(f.wires[b.Link], a.Port)
			}
		}
	}
}

// uplink says whether the other end of the interface was not collected: a
// physical device, or a veth into a namespace that is not here.
func (f *Fabric) uplink(l *netstack.Link) bool {
	if l.Loopback() {
		return false
	}
	if l.Kind == "veth" {
		_, joined := f.peers[l]
		return !joined
	}
	return l.Kind == ""
}

func overlap(a, b []netip.Prefix) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) {
				return true
			}
		}
	}
	return false
}

// Peer returns the other end of a veth.
func (f *Fabric) Peer(l *netstack.Link) (Port, bool) {
	p, ok := f.peers[l]
	return p, ok
}

// Bridge returns the bridge that the interface is a port of.
func (f *Fabric) Bridge(l *netstack.Link) (Port, bool) {
	p, ok := f.masters[l]
	return p, ok
}

// Ports returns the ports of a bridge.
func (f *Fabric) Ports(bridge *netstack.Link) []Port { return f.slaves[bridge] }

// Wire returns the uplinks at the other end of an uplink's wire. It says false
// when the interface is no uplink.
func (f *Fabric) Wire(l *netstack.Link) ([]Port, bool) {
	w, ok := f.wires[l]
	return w, ok
}

// Barrier is why frames do not pass between two stations of a segment.
type Barrier uint8

// Barriers.
const (
	Clear     Barrier = iota
	LinkDown          // an interface on the way is down
	PortState         // a bridge port does not forward
	Isolated          // both bridge ports are isolated
	Filtered          // the bridge filters VLANs, which is not modelled
)

// Station is an interface that frames of a segment reach: one that hands them
// to the network layer.
type Station struct {
	Port
	// Barrier is the first obstacle on the way, and At where it stands.
	Barrier Barrier
	At      Port
}

// Segment returns the stations that frames sent by from can reach, nearest
// first, and whether part of the segment was not collected.
func (f *Fabric) Segment(from Port) (stations []Station, open bool) {
	s := &search{f: f, seen: map[*netstack.Link]bool{from.Link: true}}
	if from.Link.Kind == "bridge" {
		s.spread(from, Port{}, Station{})
	} else {
		s.cross(from, Station{})
	}
	return s.stations, s.open
}

// Behind returns the stations behind a port of a bridge.
func (f *Fabric) Behind(port Port) (stations []Station, open bool) {
	s := &search{f: f, seen: map[*netstack.Link]bool{port.Link: true}}
	if bridge, ok := f.Bridge(port.Link); ok {
		s.seen[bridge.Link] = true
	}
	s.cross(port, Station{})
	return s.stations, s.open
}

type search struct {
	f        *Fabric
	seen     map[*netstack.Link]bool
	stations []Station
	open     bool
}

func (st Station) blocked(b Barrier, at Port) Station {
	if st.Barrier == Clear {
		st.Barrier, st.At = b, at
	}
	return st
}

// cross follows what leaves by the interface.
func (s *search) cross(out Port, way Station) {
	if !out.Link.Up() {
		way = way.blocked(LinkDown, out)
	}
	if peer, ok := s.f.Peer(out.Link); ok {
		s.arrive(peer, way)
		return
	}
	if wire, ok := s.f.Wire(out.Link); ok {
		s.open = true
		for _, p := range wire {
			s.arrive(p, way)
		}
	}
}

func (s *search) arrive(in Port, way Station) {
	if s.seen[in.Link] {
		return
	}
	s.seen[in.Link] = true
	if !in.Link.Up() {
		way = way.blocked(LinkDown, in)
	}
	bridge, ok := s.f.Bridge(in.Link)
	if !ok {
		way.Port = in
		s.stations = append(s.stations, way)
		return
	}
	if s.seen[bridge.Link] {
		return
	}
	s.seen[bridge.Link] = true
	if !bridge.Link.Up() {
		way = way.blocked(LinkDown, bridge) // which disables its ports
	}
	if in.Link.Port != nil && in.Link.Port.State != netstack.BRStateForwarding {
		way = way.blocked(PortState, in)
	}
	own := way
	own.Port = bridge
	s.stations = append(s.stations, own)
	s.spread(bridge, in, way)
}

// spread follows a frame that entered the bridge by in to its other ports.
func (s *search) spread(bridge, in Port, way Station) {
	if bridge.Link.Bridge != nil && bridge.Link.Bridge.VLANFiltering {
		way = way.blocked(Filtered, bridge)
	}
	for _, out := range s.f.Ports(bridge.Link) {
		if out.Link == in.Link {
			continue
		}
		s.cross(out, s.f.Exit(in, out, way))
	}
}

// Exit adds to a way what stands between two ports of a bridge; in is not valid
// for frames that the bridge's host sends.
func (f *Fabric) Exit(in, out Port, way Station) Station {
	if out.Link.Port == nil {
		return way
	}
	if out.Link.Port.State != netstack.BRStateForwarding {
		if !out.Link.Up() || !out.Link.Carrier() {
			// The bridge disables a port without carrier: the link is the cause.
			return way.blocked(LinkDown, f.Down(out))
		}
		return way.blocked(PortState, out)
	}
	if in.Valid() && in.Link.Port != nil && in.Link.Port.Isolated && out.Link.Port.Isolated {
		return way.blocked(Isolated, out)
	}
	return way
}

// Down returns the end of a link without carrier that is to blame: the other
// one, when this one is up.
func (f *Fabric) Down(at Port) Port {
	if peer, ok := f.Peer(at.Link); ok && at.Link.Up() && !peer.Link.Up() {
		return peer
	}
	return at
}
