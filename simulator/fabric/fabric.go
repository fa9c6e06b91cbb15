// Package fabric knows how interfaces are joined, also across network
// namespaces: the two ends of a veth, the ports of a bridge or bond, what is
// stacked on a device, the wire between the uplinks of nodes. It looks at no
// packet.
package fabric

import (
	"fmt"
	"net/netip"
	"slices"

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
	masters map[*netstack.Link]Port   // port of a bridge, bond or VRF -> that
	slaves  map[*netstack.Link][]Port // bridge, bond or VRF -> its ports
	lowers  map[*netstack.Link]Port   // VLAN, macvlan, ipvlan -> the device it is on
	uppers  map[*netstack.Link][]Port // and the other way round
	wires   map[*netstack.Link][]Port // uplink -> the uplinks on its wire
	byName  map[string]*netstack.Namespace
}

// Compile finds out how the namespaces are joined.
func Compile(namespaces []*netstack.Namespace) *Fabric {
	f := &Fabric{
		peers:   make(map[*netstack.Link]Port),
		masters: make(map[*netstack.Link]Port),
		slaves:  make(map[*netstack.Link][]Port),
		lowers:  make(map[*netstack.Link]Port),
		uppers:  make(map[*netstack.Link][]Port),
		wires:   make(map[*netstack.Link][]Port),
		byName:  make(map[string]*netstack.Namespace, len(namespaces)),
	}
	for _, ns := range namespaces {
		f.byName[ns.Name] = ns
	}
	for _, ns := range namespaces {
		for i := range ns.Links {
			l := &ns.Links[i]
			switch {
			case Paired(l.Kind):
				f.joinPair(ns, l)
			case Stacked(l.Kind):
				f.joinLower(ns, l)
			}
			if l.Master != "" {
				f.joinMaster(ns, l)
			}
		}
	}
	f.joinWires(namespaces)
	return f
}

// Paired says whether links of the kind come in pairs.
func Paired(kind string) bool { return kind == "veth" || kind == "netkit" }

// Stacked says whether links of the kind sit on another one.
func Stacked(kind string) bool {
	switch kind {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap":
		return true
	}
	return false
}

// Origin is the namespace that the other end of a link is in: of a tunnel, where
// its packets travel. It is nil when that was not collected.
func (f *Fabric) Origin(at Port) *netstack.Namespace {
	if at.Link.PeerNSID == netstack.NoPeerNS {
		return at.NS
	}
	return f.byName[at.NS.NSIDs[at.Link.PeerNSID]]
}

func (f *Fabric) joinPair(ns *netstack.Namespace, l *netstack.Link) {
	other := f.Origin(Port{ns, l})
	if other == nil {
		return
	}
	for i := range other.Links {
		p := &other.Links[i]
		// Both ends must name each other: an id of a namespace may be stale.
		if p.Index == l.Peer && p.Kind == l.Kind && p.Peer == l.Index {
			f.peers[l] = Port{other, p}
			// One end that knows the other's namespace is enough.
			if p.PeerNSID != netstack.NoPeerNS && other.NSIDs[p.PeerNSID] == "" {
				f.peers[p] = Port{ns, l}
			}
			return
		}
	}
}

func (f *Fabric) joinLower(ns *netstack.Namespace, l *netstack.Link) {
	other := f.Origin(Port{ns, l})
	if other == nil {
		return
	}
	for i := range other.Links {
		if p := &other.Links[i]; p.Index == l.Peer && p != l {
			f.lowers[l] = Port{other, p}
			f.uppers[p] = append(f.uppers[p], Port{ns, l})
		}
	}
}

func (f *Fabric) joinMaster(ns *netstack.Namespace, l *netstack.Link) {
	for i := range ns.Links {
		if m := &ns.Links[i]; m.Name == l.Master && m != l {
			f.masters[l] = Port{ns, m}
			f.slaves[m] = append(f.slaves[m], Port{ns, l})
		}
	}
}

// joinWires puts the uplinks that share a subnet on one wire: what lies between
// the hosts was not collected, and is taken for a switch. In a cluster most uplinks are in the same
// subnets: those have one list.
func (f *Fabric) joinWires(namespaces []*netstack.Namespace) {
	type group struct {
		prefixes []netip.Prefix
		uplinks  []int
	}
	var uplinks []Port
	var groups []*group
	bySubnets := make(map[string]*group)
	for _, ns := range namespaces {
		for i := range ns.Links {
			l := &ns.Links[i]
			if !f.uplink(l) {
				continue
			}
			var prefixes []netip.Prefix
			f.subnets(Port{ns, l}, &prefixes, 0)
			key := fmt.Sprint(prefixes)
			g := bySubnets[key]
			if g == nil {
				g = &group{prefixes: prefixes}
				bySubnets[key], groups = g, append(groups, g)
			}
			g.uplinks = append(g.uplinks, len(uplinks))
			uplinks = append(uplinks, Port{ns, l})
		}
	}
	for _, g := range groups {
		var on []int
		for _, other := range groups {
			if overlap(g.prefixes, other.prefixes) {
				on = append(on, other.uplinks...)
			}
		}
		slices.Sort(on)
		wire := make([]Port, len(on))
		for i, u := range on {
			wire[i] = uplinks[u]
		}
		for _, u := range g.uplinks {
			f.wires[uplinks[u].Link] = wire
		}
	}
}

// maxStack bounds how many devices are taken to be on top of each other.
const maxStack = 8

// subnets adds the prefixes of what is on an uplink: itself, the bridge or bond
// that it is a port of, the VLANs and their kin on it.
func (f *Fabric) subnets(at Port, list *[]netip.Prefix, depth int) {
	if depth == maxStack {
		return
	}
	for _, a := range at.NS.Addresses {
		if a.Dev == at.Link.Name && !a.Prefix.Addr().IsLinkLocalUnicast() && !a.Prefix.IsSingleIP() {
			*list = append(*list, a.Prefix.Masked())
		}
	}
	if m, ok := f.masters[at.Link]; ok {
		f.subnets(m, list, depth+1)
	}
	for _, upper := range f.uppers[at.Link] {
		f.subnets(upper, list, depth+1)
	}
}

// uplink says whether the other end of the interface was not collected: a
// physical device, or a veth into a namespace that is not here.
func (f *Fabric) uplink(l *netstack.Link) bool {
	if l.Loopback() {
		return false
	}
	if Paired(l.Kind) {
		_, joined := f.peers[l]
		return !joined
	}
	if Stacked(l.Kind) {
		_, joined := f.lowers[l]
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

// Peer returns the other end of a pair.
func (f *Fabric) Peer(l *netstack.Link) (Port, bool) {
	p, ok := f.peers[l]
	return p, ok
}

// Bridge returns the bridge that the interface is a port of.
func (f *Fabric) Bridge(l *netstack.Link) (Port, bool) {
	p := f.masters[l]
	return p, p.Valid() && p.Link.Kind == "bridge"
}

// Master returns the bridge, bond or VRF that the interface is a port of.
func (f *Fabric) Master(l *netstack.Link) (Port, bool) {
	p, ok := f.masters[l]
	return p, ok
}

// Ports returns the ports of a bridge, bond or VRF, in the order of the links.
func (f *Fabric) Ports(master *netstack.Link) []Port { return f.slaves[master] }

// Lower returns the device that a VLAN, macvlan or ipvlan is on.
func (f *Fabric) Lower(l *netstack.Link) (Port, bool) {
	p, ok := f.lowers[l]
	return p, ok
}

// Uppers returns the VLANs, macvlans and ipvlans on a device.
func (f *Fabric) Uppers(l *netstack.Link) []Port { return f.uppers[l] }

// Wire returns the uplinks on an uplink's wire; those of its own namespace, itself
// among them, are not at the other end. It says false when the interface is no uplink.
func (f *Fabric) Wire(l *netstack.Link) ([]Port, bool) {
	w, ok := f.wires[l]
	return w, ok
}

// Down returns the end of a link without carrier that is to blame: the other
// one, when this one is up.
func (f *Fabric) Down(at Port) Port {
	if peer, ok := f.Peer(at.Link); ok && at.Link.Up() && !peer.Link.Up() {
		return peer
	}
	return at
}
