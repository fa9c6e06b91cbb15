package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
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
				Kind: verdict.HopWire, In: out.Link.Name, Out: p.Link.Name, Packet: l.packetText(),
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
