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
	l.packet.SrcMAC, l.packet.DstMAC, l.tags = out.MAC, netstack.MAC{}, tags{}
	if looksForStations(out) {
		mac, e, failed := l.resolve(out, to)
		if failed {
			return e
		}
		l.packet.DstMAC = mac
	}
	l.towards = to
	return l.emit(l.port(out))
}

// looksForStations says whether what is sent by the link is for the link-layer address of a neighbour.
func looksForStations(link *netstack.Link) bool {
	if link.NoARP() {
		return keepsAddress(link.Kind)
	}
	return hasStations(link.Kind)
}

// hasStations says whether links of the kind lead to a segment, on which
// neighbours answer.
func hasStations(kind string) bool {
	switch kind {
	case "wireguard", "dummy", "ifb":
		return false
	}
	return !isRoutedTunnel(kind)
}

// keepsAddress says whether links of the kind have link-layer addresses that stations look at, though somebody turned ARP off:
// not those that have none from the start.
func keepsAddress(kind string) bool {
	switch kind {
	case "", "veth", "bridge", "bond", "vlan", "macvlan", "macvtap", "vxlan", "gretap":
		return true
	}
	return false
}

// emit sends the frame by a device: dev_queue_xmit.
func (l *leg) emit(out fabric.Port) end {
	link := out.Link
	if !link.Up() {
		return l.drop(l.linkDown(out))
	}
	if e, opaque := l.throughDevice(link.Name, "egress"); opaque {
		return e
	}
	switch link.Kind {
	case "netkit":
		if link.Blackhole {
			f := verdict.NewFindingf(verdict.TCDrop, l.host.where(link.Name), linkEvidence(link), "packet dropped by the policy of %s of %s, which is blackhole", link.Name, l.host)
			f.Severity = verdict.SeverityFatal
			return l.drop(f) // netkit_xmit
		}
		return l.cross(out)
	case "", "veth":
		return l.cross(out)
	case "bridge":
		return l.bridgeSend(out)
	case "vlan":
		return l.emitVLAN(out)
	case "macvlan", "macvtap", "ipvlan", "ipvtap":
		if lower, ok := l.w.withoutCarrier(link); ok {
			return l.drop(l.linkDown(l.w.fabric.Down(lower)))
		}
		if isMACVLAN(link) {
			return l.emitMACVLAN(out)
		}
		return l.emitIPVLAN(out)
	case "bond":
		ports := l.bondPorts(out)
		if len(ports) == 0 {
			return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(link.Name), l.portEvidence(out),
				"interface %s is down: no port of the bond sends%s", link.Name, mode(link)))
		}
		at := 0
		if len(ports) > 1 {
			f := verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(link.Name), l.portEvidence(out),
				"which port of %s of %s sends the packet is not modelled%s, and they lead to different places", link.Name, l.host, mode(link))
			f.Severity = verdict.SeverityUndecided
			at = l.draw(drawKey{what: link.Name}, choice{alternatives: len(ports), doubt: &f})
		}
		l.step("bond", "send", ports[at].Link.Name)
		return l.onto(ports[at])
	case "tun":
		if !link.Carrier() {
			return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(link.Name), linkEvidence(link),
				"interface %s is down: no program has it open", link.Name))
		}
		return l.leave(link.Name)
	case "dummy", "ifb":
		return l.drop(verdict.NewFindingf(verdict.InvalidRoute, l.host.where(link.Name), []string{describeRoute(&l.route)},
			"invalid route %s for packet %s: %s discards all that is sent by it", describeRoute(&l.route), &l.packet, link.Name))
	case "wireguard":
		return l.undecided(verdict.NewFindingf(verdict.EncryptionOpaque, l.host.where(link.Name), linkEvidence(link),
			"%s of %s encrypts what is sent by it", link.Name, l.host))
	case "vxlan":
		return l.emitVXLAN(out)
	}
	if isTunnel(link.Kind) {
		return l.emitTunnel(out)
	}
	return l.undecided(l.unmodelledDevice(out))
}

// onto hands the frame down to the device below, perhaps of another namespace.
func (l *leg) onto(out fabric.Port) end {
	if h := l.w.hosts[out.NS]; h != l.host {
		l.enter(h, "")
	}
	l.hop().Out = out.Link.Name
	return l.emit(out)
}

// emitVLAN adds the tag of a VLAN device: vlan_dev_hard_start_xmit.
func (l *leg) emitVLAN(out fabric.Port) end {
	lower, ok := l.w.fabric.Lower(out.Link)
	if !ok {
		return l.cross(out)
	}
	if l.tags, ok = l.tags.push(vlanTag(out.Link)); !ok {
		return l.undecided(l.unmodelledDevice(out))
	}
	return l.onto(lower)
}

// vlanHeader is how many bytes more than the MTU a veth and a bridge let pass:
// is_skb_forwardable has room for a VLAN tag.
const vlanHeader = 4

// cross carries the frame over a pair or a wire to the other end.
func (l *leg) cross(out fabric.Port) end {
	l.forHost = false // eth_type_trans
	if i, ok := l.w.cloud.by[out.Link]; ok {
		return l.throughCloud(out, i)
	}
	if peer, ok := l.w.fabric.Peer(out.Link); ok {
		if !peer.Link.Up() {
			return l.drop(l.linkDown(peer))
		}
		if e, stop := l.tooBigFor(peer); stop {
			return e
		}
		return l.arrive(peer)
	}
	wire, ok := l.w.fabric.Wire(out.Link)
	if !ok {
		return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(out.Link.Name), linkEvidence(out.Link),
			"interface %s is down: nothing is at its other end", out.Link.Name))
	}
	if f := l.w.cloud.unread; f != nil {
		return l.undecided(located(*f, l.host.where(out.Link.Name)))
	}
	for _, p := range wire {
		if p.NS == out.NS || !l.leads(out, p) {
			continue
		}
		l.open(verdict.Hop{Kind: verdict.HopWire, In: out.Link.Name, Out: p.Link.Name})
		if !p.Link.Up() {
			return l.drop(l.linkDown(p))
		}
		if e, stop := l.tooBigFor(p); stop {
			return e
		}
		l.gather()
		return l.arrive(p)
	}
	return l.leave(out.Link.Name)
}

// tooBigFor drops what exceeds the MTU of the veth that takes it (is_skb_forwardable).
// Other devices that were not made by the kernel take frames as their hardware does.
func (l *leg) tooBigFor(in fabric.Port) (end, bool) {
	if in.Link.Kind != "veth" || l.packet.Length <= in.Link.MTU+vlanHeader {
		return end{}, false
	}
	at := l.w.hosts[in.NS]
	return l.drop(verdict.NewFindingf(verdict.MTUExceeded, at.where(in.Link.Name), linkEvidence(in.Link),
		"packet of %d bytes exceeds MTU %d of %s on %s, which takes no larger ones", l.packet.Length, in.Link.MTU, in.Link.Name, at)), true
}

// leaveBy leaves the collected world for a neighbour that was not collected, past
// what the device and those below it do with all that is sent.
func (l *leg) leaveBy(out fabric.Port) end {
	for at, below := out, true; below; {
		if e, stop := l.throughDevice(at.Link.Name, "egress"); stop {
			return e
		}
		if at.Link.Kind == "bond" {
			at, below = l.w.bondSlave(at)
		} else {
			at, below = l.w.fabric.Lower(at.Link)
		}
		below = below && at.NS == out.NS
	}
	return l.leave(out.Link.Name)
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
	l.enter(l.w.hosts[at.NS], at.Link.Name)
	return l.input(at)
}

// arriveUp takes the frame in at an interface on the same device.
func (l *leg) arriveUp(at fabric.Port) end {
	if !at.Link.Up() {
		return l.drop(l.linkDown(at))
	}
	if at.NS != l.host.Namespace {
		return l.arrive(at)
	}
	l.step("link", "receive", at.Link.Name)
	return l.input(at)
}

// input takes the frame in: __netif_receive_skb_core.
func (l *leg) input(at fabric.Port) end {
	if e, stop := l.comesBack(at); stop {
		return e
	}
	l.skipEgress = false
	if e, opaque := l.throughDevice(at.Link.Name, "ingress"); opaque {
		return e
	}
	if l.tags.tagged() {
		if upper, ok := l.w.vlanUpper(at.Link, l.tags); ok {
			l.tags = l.tags.pop()
			return l.arriveUp(upper)
		}
	}
	if upper := l.toUpper(at); upper.Valid() {
		return l.arriveUp(upper)
	}
	if upper := l.w.ipvlanOf(at.Link, l.address()); upper.Valid() && !l.tags.tagged() {
		if upper.Link.Mode == "l3s" && !l.probe {
			return l.receiveL3S(at, upper)
		}
		return l.arriveUp(upper)
	}
	if master, ok := l.w.fabric.Master(at.Link); ok {
		switch master.Link.Kind {
		case "bridge":
			return l.bridgeReceive(master, at)
		case "bond":
			if !bondReceives(master.Link, at.Link) {
				return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(at.Link.Name), l.portEvidence(master),
					"interface %s is down: it is not an active port of %s, which takes nothing from it", at.Link.Name, master.Link.Name))
			}
			return l.arriveUp(master)
		case "vrf":
		default:
			return l.undecided(l.unmodelledDevice(master))
		}
	}
	return l.handUp(at)
}

// address is that by which the siblings of an ipvlan are told apart: the one that
// a request is for.
func (l *leg) address() netip.Addr {
	if l.probe {
		return l.towards
	}
	return l.packet.Dst
}

// addressee is the neighbour that the frame is for: the next hop, where there is one,
// whose entry is the one to look at.
func (l *leg) addressee() netip.Addr {
	if l.towards.IsValid() {
		return l.towards
	}
	return l.packet.Dst
}

// handUp gives the frame to the network layer, if it is for this host.
func (l *leg) handUp(at fabric.Port) end {
	p := &l.packet
	if l.tags.tagged() {
		return l.drop(verdict.NewFindingf(verdict.BridgeVLANFiltered, l.host.where(at.Link.Name), nil,
			"no interface on %s of %s takes VLAN %d", at.Link.Name, l.host, l.tags[0].id))
	}
	switch at.Link.Kind {
	case "macvtap", "ipvtap", "tun":
		return l.leave(at.Link.Name)
	}
	if p.DstMAC[0]&1 != 0 && !l.probe {
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(at.Link.Name), nil,
			"what %s does with packets to one host in frames to the group %s is not modelled", l.host, p.DstMAC))
	}
	if p.DstMAC != (netstack.MAC{}) && p.DstMAC != at.Link.MAC && !l.forHost {
		f := verdict.NewFindingf(verdict.NeighbourStale, l.host.where(at.Link.Name), nil,
			"neighbour %s resolves to the wrong link-layer address %s: %s of %s has %s, and ignores the frame", l.addressee(), p.DstMAC, at.Link.Name, l.host, at.Link.MAC)
		return l.drop(l.toItself(f))
	}
	return l.receive(at.Link, "", false)
}

// toItself adds to the finding what is to be seen at the frame: that it is for its own sender.
func (l *leg) toItself(f verdict.Finding) verdict.Finding {
	if l.packet.DstMAC == l.packet.SrcMAC && l.packet.DstMAC != (netstack.MAC{}) {
		f.Message += fmt.Sprintf(" (the frame is for its own sender, %s, as where ARP is off)", l.packet.SrcMAC)
		f.Remedy = "Turn ARP on where the frame comes from (ip link set DEV arp on)."
	}
	return f
}

// portEvidence lists the ports of a bond.
func (l *leg) portEvidence(master fabric.Port) []string {
	list := linkEvidence(master.Link)
	for _, p := range l.w.fabric.Ports(master.Link) {
		list = append(list, linkEvidence(p.Link)...)
	}
	return list
}

// comesBack notices that the packet was here before. A loop of routers ends
// where its hop limit does, which is found without walking every round of it;
// one without routers does not end.
func (l *leg) comesBack(at fabric.Port) (end, bool) {
	p := &l.packet
	here := place{at.Link, l.tags, p.Src, p.Dst, p.SrcPort, p.DstPort, p.Mark}
	again := slices.IndexFunc(l.seen, func(v visit) bool { return v.place == here })
	if again < 0 {
		l.seen = append(l.seen, visit{here, p.TTL})
		return end{}, false
	}
	before := l.seen[again].ttl
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
