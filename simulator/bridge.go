package simulator

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// bridgeNF says whether the rules of the network layer see bridged packets.
func (l *leg) bridgeNF(bridge *netstack.Link) bool {
	if l.tags.tagged() {
		if v, _ := l.host.Sysctl("net.bridge.bridge-nf-filter-vlan-tagged"); v == 0 {
			return false
		}
	}
	key, own := "net.bridge.bridge-nf-call-iptables", bridge.Bridge != nil && bridge.Bridge.NFCallIPTables
	switch {
	case l.arp != nil:
		key, own = "net.bridge.bridge-nf-call-arptables", bridge.Bridge != nil && bridge.Bridge.NFCallARPTables
	case l.packet.Family() == netstack.IPv6:
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
		return l.barred(portState, in, 0)
	}
	if !bridge.Link.Up() {
		return l.drop(l.linkDown(bridge))
	}
	l.inbound, l.route = "", fib.Result{}
	if e, stop := l.hookBridge(netfilter.Prerouting, true, in.Link.Name, ""); stop {
		return e
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
	if e, stop := l.hookBridge(netfilter.Prerouting, false, in.Link.Name, ""); stop {
		return e
	}
	vlan, e, stop := l.enterVLAN(bridge, in)
	if stop {
		return e
	}
	return l.bridgeFinish(bridge, in, vlan, nf)
}

// enterVLAN sorts the frame into a VLAN of the bridge, and notes its sender.
func (l *leg) enterVLAN(bridge, from fabric.Port) (vlan uint16, e end, stop bool) {
	h := l.host
	if h.vlansMissing(bridge.Link) {
		return 0, l.barred(vlansMissing, bridge, 0), true
	}
	vlan, inner, ok := h.admit(bridge.Link, from.Link.Name, l.tags)
	if !ok {
		return 0, l.barred(vlanFiltered, from, vlan), true
	}
	l.tags = inner
	if from.Link == bridge.Link {
		return vlan, end{}, false
	}
	if !h.knownSender(from, l.packet.SrcMAC, vlan) {
		return 0, l.barred(portLocked, from, vlan), true
	}
	if from.Link.Port == nil || from.Link.Port.Learning {
		l.learnt[learntKey{bridge.Link, l.packet.SrcMAC, vlan}] = from.Link
	}
	return vlan, end{}, false
}

func (l *leg) barred(by obstacle, at fabric.Port, vlan uint16) end {
	f := l.barrier(station{barrier: by, at: at, vlan: vlan})
	return l.finish(kindOf(f), f)
}

// bridgeFinish gives the frame to the bridge's host, or to a port:
// br_handle_frame_finish.
func (l *leg) bridgeFinish(bridge, in fabric.Port, vlan uint16, nf bool) end {
	if !l.toBridge(bridge, vlan) {
		return l.bridgeForward(bridge, in, vlan, nf)
	}
	t, ok := l.host.release(bridge.Link, bridge.Link.Name, vlan, l.tags)
	if !ok {
		return l.barred(vlanFiltered, bridge, vlan)
	}
	l.tags = t
	for _, early := range []bool{true, false} {
		if e, stop := l.hookBridge(netfilter.Input, early, in.Link.Name, ""); stop {
			return e
		}
	}
	// br_netif_receive_skb takes the frame in as one of the bridge.
	if e, stop := l.throughDevice(bridge.Link.Name, "ingress"); stop {
		return e
	}
	switch {
	case t.tagged():
		if upper, ok := l.w.vlanUpper(bridge.Link, t); ok {
			l.tags = t.pop()
			return l.arriveUp(upper)
		}
		return l.handUp(bridge)
	case len(l.w.fabric.Uppers(bridge.Link)) > 0:
		if upper := l.toUpper(bridge); upper.Valid() {
			return l.arriveUp(upper)
		}
	}
	return l.receive(bridge.Link, in.Link.Name, nf)
}

// bridgeTranslated goes on with a bridged packet that PREROUTING translated:
// br_nf_pre_routing_finish. It stays on the bridge when its new destination is
// reached through the bridge, else it is routed. Either way IPv4 routes it as a
// packet that came in, and ends it where the bridge's host does not forward.
func (l *leg) bridgeTranslated(bridge, in fabric.Port) end {
	if e, missing := l.requireRouting(); missing {
		return e
	}
	res := l.lookup(fib.KeyOf(&l.packet, bridge.Link.Name))
	six := l.packet.Family() == netstack.IPv6
	if six && !res.Found() {
		l.route = res
		f, kind, _ := l.routeFinding()
		return l.finish(kind, f) // and nobody is told
	}
	stays := false
	if (six || l.forwarding(bridge.Link.Name)) && res.Type == netstack.RouteUnicast {
		l.route = res
		l.pickNextHop()
		stays = l.next.Dev == bridge.Link.Name
	}
	if stays {
		if f, fails := l.reversePath(bridge.Link.Name, bridge.Link.Name); fails {
			return l.drop(f)
		}
		if e, stop := l.hookBridge(netfilter.Prerouting, false, in.Link.Name, ""); stop {
			return e
		}
		to := l.packet.Dst
		if l.next.Gateway.IsValid() {
			to = l.next.Gateway
		}
		mac, e, failed := l.resolve(bridge.Link, to)
		if failed {
			return e
		}
		l.packet.DstMAC = mac
		vlan, e, stop := l.enterVLAN(bridge, in)
		if stop {
			return e
		}
		return l.bridgeForward(bridge, in, vlan, true)
	}
	l.packet.DstMAC = bridge.Link.MAC
	if e, stop := l.hookBridge(netfilter.Prerouting, false, in.Link.Name, ""); stop {
		return e
	}
	vlan, e, stop := l.enterVLAN(bridge, in)
	if stop {
		return e
	}
	return l.bridgeFinish(bridge, in, vlan, true)
}

// toBridge says whether the frame is for the bridge's own host.
func (l *leg) toBridge(bridge fabric.Port, vlan uint16) bool {
	mac := l.packet.DstMAC
	if mac == bridge.Link.MAC {
		return true
	}
	for e := range l.host.fdb.Each(mac) {
		if e.Local && (e.VLAN == vlan || e.VLAN == 0) && (e.Dev == bridge.Link.Name || e.Master == bridge.Link.Name) {
			return true
		}
	}
	return false
}

// vlansMissing says whether the bridge filters VLANs that were not collected.
func (h *host) vlansMissing(bridge *netstack.Link) bool {
	return bridge.Bridge != nil && bridge.Bridge.VLANFiltering && !h.Known(netstack.PartBridgeVLAN)
}

// vlanEvidence lists the VLANs of a port.
func (h *host) vlanEvidence(dev string) []string {
	list := []string{}
	for _, v := range h.vlans[dev] {
		text := fmt.Sprintf("%s: VLAN %d", dev, v.ID)
		if v.End != v.ID {
			text += fmt.Sprintf("-%d", v.End)
		}
		if v.PVID {
			text += " PVID"
		}
		if v.Untagged {
			text += " Egress Untagged"
		}
		list = append(list, text)
	}
	return list
}

// forwards is the port to which the bridge's database has an address, nil for
// the bridge itself: br_fdb_find.
func (h *host) forwards(bridge *netstack.Link, mac netstack.MAC, vlan uint16) (*netstack.Link, bool) {
	for e := range h.fdb.Each(mac) {
		if e.VLAN != vlan || e.Master != bridge.Name {
			continue
		}
		if e.Local {
			return nil, true
		}
		return h.links[e.Dev], true
	}
	return nil, false
}

// knownSender says whether a port takes frames of the sender: one that is locked
// takes those of which the database has that they are behind it.
func (h *host) knownSender(in fabric.Port, src netstack.MAC, vlan uint16) bool {
	if in.Link.Port == nil || !in.Link.Port.Locked {
		return true
	}
	for e := range h.fdb.Each(src) {
		if e.VLAN == vlan && e.Dev == in.Link.Name && e.Master != "" && !e.Local {
			return true
		}
	}
	return false
}

// bridgeSend takes a frame from the bridge's own host: br_dev_xmit.
func (l *leg) bridgeSend(bridge fabric.Port) end {
	vlan, e, stop := l.enterVLAN(bridge, bridge)
	if stop {
		return e
	}
	return l.bridgeForward(bridge, fabric.Port{}, vlan, false)
}

// throwBack sends the leg's packet out of the port by which what it answers came
// in, in the name of that one's receiver. No rule of the network layer sees it, nor
// does it get the addresses of its connection. So leave what a chain of a device
// rejects (nft_reject_queue_xmit), or one of a bridge, of which later chains see it
// (br_forward), and resets about what br_netfilter saw, which need a route
// (nf_send_reset, nf_send_reset6).
func (l *leg) throwBack(answered *end) end {
	l.enter(answered.host, "")
	if !answered.notice.unrouted {
		if e, missing := l.requireRouting(); missing {
			return e
		}
		l.route = l.lookup(fib.KeyOf(&l.packet, ""))
		if e, failed := l.outputRoute(); failed {
			return e
		}
	}
	l.limitHops()
	l.packet.SrcMAC, l.packet.DstMAC = answered.packet.DstMAC, answered.packet.SrcMAC
	port := l.port(l.host.links[answered.notice.port])
	l.hop().Out = port.Link.Name
	if answered.notice.bridged {
		for _, early := range []bool{true, false} {
			if e, stop := l.hookBridgeOut(fabric.Port{}, port, early); stop {
				return e
			}
		}
	}
	return l.emit(port)
}

// bridgeForward sends the frame out of the port behind which its destination
// is: br_forward. in is not valid for packets of the bridge's own host, which
// br_netfilter does not look at.
func (l *leg) bridgeForward(bridge, in fabric.Port, vlan uint16, nf bool) end {
	h, mac := l.host, l.packet.DstMAC
	if in.Valid() {
		l.hop().Kind = verdict.HopBridge
	}
	out, open := l.egress(bridge, in, vlan)
	if backup := l.backup(bridge, vlan); backup.Valid() {
		return l.bridgeOut(bridge, in, backup, vlan, nf)
	}
	switch {
	case !out.Valid() && open.Valid():
		out = open
	case !out.Valid():
		return l.drop(verdict.NewFindingf(verdict.NeighbourStale, h.where(bridge.Link.Name), []string{mac.String()},
			"neighbour %s resolves to the wrong link-layer address %s: nobody on %s has it", l.addressee(), mac, bridge.Link.Name))
	}
	if p := out.Link.Port; p != nil && !p.Flood && !l.flooded && l.learnt[learntKey{bridge.Link, mac, vlan}] != out.Link {
		if port, known := h.forwards(bridge.Link, mac, vlan); !known || port != out.Link {
			return l.barred(portNoFlood, out, vlan)
		}
	}
	return l.bridgeOut(bridge, in, out, vlan, nf)
}

// backup is the port that takes the frame in place of the one to which the database has its destination: one without
// carrier keeps its entries then (br_forward, br_stp_disable_port).
func (l *leg) backup(bridge fabric.Port, vlan uint16) fabric.Port {
	port, known := l.host.forwards(bridge.Link, l.packet.DstMAC, vlan)
	if !known || l.flooded || port == nil || port.Port == nil || port.Port.BackupPort == "" || port.Up() && port.Carrier() {
		return fabric.Port{}
	}
	if learnt := l.learnt[learntKey{bridge.Link, l.packet.DstMAC, vlan}]; learnt != nil {
		return fabric.Port{} // by another port, since
	}
	if by := l.host.links[port.Port.BackupPort]; by != nil && by.Master == bridge.Link.Name {
		return l.port(by)
	}
	return fabric.Port{}
}

func (l *leg) bridgeOut(bridge, in, out fabric.Port, vlan uint16, nf bool) end {
	h := l.host
	l.hop().Out = out.Link.Name
	if in.Link == out.Link && in.Valid() && (out.Link.Port == nil || !out.Link.Port.Hairpin) {
		return l.drop(l.toItself(verdict.NewFinding(verdict.BridgeHairpinOff, h.where(out.Link.Name), linkEvidence(out.Link), out.Link.Name)))
	}
	if to := l.w.exit(in, out, way{}); to.barrier != unbarred {
		return l.barred(to.barrier, to.at, 0)
	}
	t, ok := h.release(bridge.Link, out.Link.Name, vlan, l.tags)
	if !ok {
		return l.barred(vlanFiltered, out, vlan)
	}
	l.tags = t
	nf = nf && l.bridgeNF(bridge.Link)
	if e, stop := l.hookBridgeOut(in, out, true); stop {
		return e
	}
	if nf && in.Valid() && l.arp != nil { // br_nf_forward_arp
		if e, stop := l.hookARP(netfilter.Forward, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	if nf && in.Valid() {
		if e, stop := l.hook(netfilter.Forward, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	if e, stop := l.hookBridgeOut(in, out, false); stop {
		return e
	}
	if nf && in.Valid() {
		if e, stop := l.hook(netfilter.Postrouting, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	l.stepf("bridge", "forward", func() string { return bridge.Link.Name + " to port " + out.Link.Name })
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
	return l.emit(out)
}

// egress finds the port behind which the frame's destination is, and else a
// port behind which not everything was collected. The database decides where it
// has an entry that somebody made, or one of several ports that are possible.
func (l *leg) egress(bridge, in fabric.Port, vlan uint16) (out, open fabric.Port) {
	h, mac := l.host, l.packet.DstMAC
	entry, known := h.forwards(bridge.Link, mac, vlan)
	if l.flooded {
		entry, known = nil, false
	}
	static := false
	for e := range h.fdb.Each(mac) {
		static = static || known && e.VLAN == vlan && e.Master == bridge.Link.Name && !e.Local && e.State&(netstack.NUDPermanent|netstack.NUDNoARP) != 0
	}
	if port := l.learnt[learntKey{bridge.Link, mac, vlan}]; port != nil {
		entry, static = port, true // br_fdb_update moves entries that somebody made, too
	}
	var blocked fabric.Port
	for _, p := range l.w.fabric.Ports(bridge.Link) {
		if p.Link == entry && static {
			return p, open
		}
		t, ok := h.release(bridge.Link, p.Link.Name, vlan, l.tags)
		if !ok && p.Link != entry {
			t = l.tags // to find who would be there
		}
		behind := l.behind(p, t, l.packet.SrcMAC)
		if behind.open && p.Link != in.Link && (!open.Valid() || p.Link == entry) {
			open = p
		}
		s := behind.station(mac)
		switch {
		case s == nil:
		case (s.barrier != unbarred || !ok) && !blocked.Valid():
			blocked = p
		case s.barrier != unbarred || !ok:
		case !out.Valid() || p.Link == entry:
			out = p
		}
		behind.done()
	}
	if !out.Valid() {
		out = blocked
	}
	return out, open
}
