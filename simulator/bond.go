package simulator

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// bondSlave is the port by which a bond sends to all. Where several share the load,
// the first stands for them.
func (w *World) bondSlave(bond fabric.Port) (fabric.Port, bool) {
	for _, p := range w.fabric.Ports(bond.Link) {
		if bondSends(bond.Link, p.Link) {
			return p, true
		}
	}
	return fabric.Port{}, false
}

// bondSends says whether the bond sends by the port: bond_slave_can_tx, and the
// active one of the modes that use one.
func bondSends(bond, port *netstack.Link) bool {
	s := port.BondPort
	if s == nil || !s.Up || !port.Up() {
		return false
	}
	switch bond.Mode {
	case "active-backup", "balance-tlb", "balance-alb":
		return bond.Bond == nil || bond.Bond.ActiveSlave == port.Name
	case "802.3ad":
		return s.Active && (bond.Bond == nil || bond.Bond.Aggregator == s.Aggregator)
	}
	return s.Active
}

// bondPorts are ports by which a bond may send the frame, one for each other end that
// they have. To all it sends by one; to one station, those of which share the load
// that the mode has: tlb_choose_channel, bond_3ad_xor_xmit, bond_xmit_roundrobin.
func (l *leg) bondPorts(bond fabric.Port) []fabric.Port {
	first, ok := l.w.bondSlave(bond)
	switch {
	case !ok:
		return nil
	case bond.Link.Mode == "active-backup", bond.Link.Mode == "broadcast":
		return []fabric.Port{first}
	}
	toOne := l.packet.DstMAC != netstack.MAC{} && l.packet.DstMAC[0]&1 == 0
	balanced := bond.Link.Mode == "balance-tlb" || bond.Link.Mode == "balance-alb"
	if balanced && (!toOne || l.probe && l.packet.Family() == netstack.IPv4) {
		return []fabric.Port{first} // what is for all, and ARP: bond_tlb_xmit_slave_get
	}
	list, ends := []fabric.Port{first}, []*netstack.Link{l.w.otherEnd(first)}
	for _, p := range l.w.fabric.Ports(bond.Link) {
		sends := bondSends(bond.Link, p.Link) || balanced && p.Link.Up() && p.Link.BondPort != nil && p.Link.BondPort.Up
		if end := l.w.otherEnd(p); sends && !slices.Contains(ends, end) {
			list, ends = append(list, p), append(ends, end)
		}
	}
	return list
}

// otherEnd is where a port of a bond leads: the bond of its peer, which is one end
// whichever of its ports takes the frame, or the peer; nil for what was not collected.
func (w *World) otherEnd(port fabric.Port) *netstack.Link {
	peer, ok := w.fabric.Peer(port.Link)
	if !ok {
		return nil
	}
	if master, ok := w.fabric.Master(peer.Link); ok && master.Link.Kind == "bond" && bondReceives(master.Link, peer.Link) {
		return master.Link
	}
	return peer.Link
}

// bondReceives says whether the bond takes frames from the port:
// bond_should_deliver_exact_match, and nothing from one that is inactive.
func bondReceives(bond, port *netstack.Link) bool {
	s := port.BondPort
	if s == nil {
		return false
	}
	// Ports that are not active give balance-alb what is for one station.
	return s.Active || bond.Mode == "balance-alb"
}
