package alibaba

import (
	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// byGatewayTable delivers what the VPC's IPv4 or IPv6 gateway takes in for an interface:
// the route table of the gateway may lead it to another one first (Use the gateway
// route table to control traffic entering the VPC).
func (x *crossing) byGatewayTable(i *Interface) cloud.End {
	for _, t := range x.gatewayOf[i.VpcId] {
		e := t.lookup(x.Packet.Dst)
		if e == nil {
			if f := x.missing(describeRouteEntries, t.RouteTableId, "whether the gateway's route table has an entry for "+x.Packet.Dst.String()); f != nil && x.Doubt(*f) {
				return stopped(*f)
			}
			continue
		}
		r := e.way(x.Packet.Dst)
		if r.fault != nil {
			return drop(r.fault)
		}
		h := x.nextHop(&r)
		x.Step("gateway route", h.text(), e.text())
		switch kindOf(h) {
		case hopLocal:
		case hopInterface:
			to, f := x.through(h, x.Packet.Dst, e)
			if f != nil {
				return drop(f)
			}
			return x.deliver(to, false)
		default:
			f := verdict.NewFindingf(verdict.UnmodelledRule, where(t.RouteTableId), []string{e.text()},
				"entry %s of the gateway's route table leads to %s, which is not modelled", e.text(), h.text())
			return drop(&f)
		}
	}
	return x.deliver(i, false)
}

// redirected says that the route table of the VPC's gateway may lead what is for a NAT
// gateway or load balancer to something else first: in which of its vSwitches that
// takes packets is not known.
func (x *crossing) redirected(vpc, at string) *verdict.Finding {
	for _, t := range x.gatewayOf[vpc] {
		for _, e := range t.entries {
			for _, h := range e.usable() {
				if kindOf(h) == hopLocal {
					continue
				}
				f := verdict.NewFindingf(verdict.UnmodelledRule, where(t.RouteTableId), []string{e.text()},
					"entry %s of the gateway's route table may lead what is for %s elsewhere, which is not modelled", e.text(), at)
				if x.Doubt(f) {
					return &f
				}
				return nil
			}
		}
	}
	return nil
}

// beyondNAT says why what a NAT gateway has translated does not get out: in a VPC with
// an IPv4 gateway, its vSwitch needs an entry that leads there (IPv4 gateway).
func (x *crossing) beyondNAT(g *natGateway) *verdict.Finding {
	vswitch := g.NatGatewayPrivateInfo.VswitchId
	if !x.central[g.VpcId] || vswitch == "" {
		return nil
	}
	r := x.route(g.VpcId, vswitch, x.Packet.Dst)
	if r.fault != nil {
		return r.fault
	}
	for _, h := range r.hops {
		if kindOf(h) == hopInternet {
			return nil
		}
	}
	f := verdict.NewFindingf(verdict.CloudUnexpectedNextHop, where(r.entry.RouteTableId), []string{r.entry.text()},
		"the next hop for destination ip %s in the vSwitch of NAT gateway %s is not the IPv4 gateway of the VPC, but %s", x.Packet.Dst, g.NatGatewayId, r.hops[0].text())
	return &f
}

// Sizes of packets, in bytes (ECS, Configure jumbo frames and change the MTU).
const (
	plainMTU = 1500 // what the cloud carries everywhere
	jumboMTU = 8500 // what it carries between instances that both have jumbo frames
)

// tooLarge says that a packet does not fit the cloud. That a device has a larger MTU
// than 1500 is taken for jumbo frames of its instance, which give it that MTU.
func (x *crossing) tooLarge() *verdict.Finding {
	p := x.Packet
	if p.Length <= jumboMTU || x.splits() {
		return nil
	}
	f := verdict.NewFindingf(verdict.MTUExceeded, where(x.From.ID), []string{p.String()}, "packet of %d bytes exceeds MTU %d of the cloud", p.Length, jumboMTU)
	return &f
}

// perhapsTooLarge asks about a packet that is larger than load balancers and the way to
// the Internet need to carry: it is split, or dropped.
func (x *crossing) perhapsTooLarge() *verdict.Finding {
	p := x.Packet
	if p.Length <= plainMTU || x.splits() {
		return nil
	}
	f := verdict.NewFindingf(verdict.MTUExceeded, where(x.From.ID), []string{p.String()},
		"packet of %d bytes exceeds MTU %d of the cloud on the way to the Internet, or to a load balancer: what becomes of it is not documented", p.Length, plainMTU)
	f.Severity = verdict.SeverityUndecided
	if x.Doubt(f) {
		return &f
	}
	return nil
}

// splits says whether the packet may be split on its way.
func (x *crossing) splits() bool { return !x.Packet.DF && x.Packet.Family() == netstack.IPv4 }

// equal are the probabilities of ways of which none comes before others.
func equal(n int) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = 1 / float64(n)
	}
	return list
}
