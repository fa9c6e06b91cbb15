package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// bondSlave is the port by which a bond sends. Where several share the load,
// they are one port to their other end, and the first stands for all.
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
