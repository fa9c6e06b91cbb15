package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// frame prepares the state for rules that see the frame.
func (l *leg) frame(in, out string) *netfilter.State {
	st := &l.state
	st.Packet, st.Inner, st.Namespace = &l.packet, l.packet.Embedded, l.host.Name
	l.trackIn(l.host)
	st.Conntrack = l.conntrack[l.host]
	st.In, st.Out, st.PhysIn, st.PhysOut, st.Bridged = in, out, "", "", false
	st.Steps, st.Texts = l.notes(), &l.texts
	st.ARP, st.Tagged = l.arp, l.tags.tagged()
	return st
}

// hookDevice runs the chains of a device over the frame.
func (l *leg) hookDevice(at netfilter.Hook, dev string) (end, bool) {
	if !l.host.filter.HasDevice() {
		return end{}, false
	}
	in, out := dev, ""
	if at == netfilter.Egress {
		in, out = "", dev
	}
	st := l.frame(in, out)
	res := l.host.filter.RunDevice(at, st, l)
	e, stop := l.decided(res, at, dev)
	switch link := l.host.links[dev]; {
	case res.Action != netfilter.Reject:
	case res.Rule.Family == "netdev": // nft_reject_netdev_eval
		e.notice.port, e.notice.unrouted = dev, true
	case e.notice.kind == noticeICMP && link != nil && l.packet.DstMAC != link.MAC: // icmp_send: no PACKET_HOST
		e.notice = notice{}
	}
	return e, stop
}

// hookBridge runs the chains of the bridge family over the frame.
func (l *leg) hookBridge(at netfilter.Hook, early bool, in, out string) (end, bool) {
	if e, stop := l.hiddenEBTables(in + out); stop {
		return e, true
	}
	st := l.frame(in, out)
	res := l.host.filter.RunBridge(at, early, st, l)
	dev := out
	if dev == "" {
		dev = in
	}
	e, stop := l.decided(res, at, dev)
	if res.Action == netfilter.Reject { // nft_reject_bridge_eval
		e.notice.port, e.notice.unrouted, e.notice.bridged = in, true, true
	}
	if e.notice.kind == noticeErrno { // br_dev_xmit does not tell what became of the frame
		e.notice = notice{}
	}
	return e, stop
}

// hiddenEBTables asks whether rules of the legacy ebtables drop the frame that
// nobody could read.
func (l *leg) hiddenEBTables(dev string) (end, bool) {
	h := l.host
	if h.PartStatus(netstack.PartEBTablesLegacy).State != netstack.StateFailed || !l.doubt(l.missing(netstack.PartEBTablesLegacy)) {
		return end{}, false
	}
	return l.drop(verdict.NewFindingf(verdict.NetfilterDrop, h.where(dev), nil, "packet dropped by legacy ebtables on %s, whose rules were not read", h)), true
}

// hookBridgeOut runs what the bridge family has for a frame that leaves by a
// port: __br_forward. Early are the chains before those of br_netfilter; in is
// not valid for frames of the bridge's own host.
func (l *leg) hookBridgeOut(in, out fabric.Port, early bool) (end, bool) {
	at, from := netfilter.Output, ""
	if in.Valid() {
		at, from = netfilter.Forward, in.Link.Name
	}
	if e, stop := l.hookBridge(at, early, from, out.Link.Name); stop || early {
		return e, stop
	}
	// br_forward_finish knows no ingress port any more; br_netfilter comes last.
	if e, stop := l.hookBridge(netfilter.Postrouting, true, "", out.Link.Name); stop {
		return e, true
	}
	return l.hookBridge(netfilter.Postrouting, false, "", out.Link.Name)
}

// divert sends the frame out of another device, as a rule of a device said:
// nf_fwd_netdev_egress. One that goes to a neighbour is routed as if it had
// come from here (nft_fwd_neigh_eval).
func (l *leg) divert(res netfilter.Result, dev string) end {
	link := l.host.links[res.Device]
	if link == nil {
		return l.drop(verdict.NewFinding(verdict.InterfaceMissing, l.host.where(dev), []string{res.Rule.Text}, res.Device))
	}
	l.step("nftables", "forward to "+link.Name, res.Rule.Text)
	l.hop().Out = link.Name
	if res.Gateway.IsValid() {
		if l.packet.TTL <= 1 {
			return l.drop(l.expired(dev))
		}
		l.packet.TTL--
		return l.transmit(link, res.Gateway)
	}
	return l.emit(l.port(link))
}

// hookARP runs the rules for ARP over a request for a neighbour, or an answer. Of
// rules that nobody looked for it is taken that there are none.
func (l *leg) hookARP(at netfilter.Hook, in, out string) (end, bool) {
	if l.host.PartStatus(netstack.PartARPTablesLegacy).State == netstack.StateFailed {
		return l.undecided(l.missing(netstack.PartARPTablesLegacy)), true
	}
	res := l.host.filter.RunARP(at, l.frame(in, out), l)
	return l.decided(res, at, in+out)
}
