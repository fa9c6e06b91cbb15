package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// vrf is the VRF device that a device belongs to, or is; nil for none.
func (h *host) vrf(dev string) *netstack.Link {
	link := h.links[dev]
	if link != nil && link.Kind != "vrf" {
		link = h.links[link.Master]
	}
	if link == nil || link.Kind != "vrf" {
		return nil
	}
	return link
}

// enterVRF passes what came in by a port of a VRF on to the VRF's device, which is
// where rules see it come from: l3mdev_ip_rcv, vrf_ip_rcv. It returns the device of
// which settings count: in IPv4, ip_rcv_finish keeps the port.
func (l *leg) enterVRF(in *netstack.Link) (*netstack.Link, end, bool) {
	vrf := l.host.vrf(in.Name)
	if vrf == nil || vrf == in {
		return in, end{}, false
	}
	l.slave, l.inbound = in.Name, vrf.Name
	l.step("vrf", "receive", vrf.Name)
	e, stop := l.hook(netfilter.Prerouting, vrf.Name, "", "", "")
	if l.packet.Family() == netstack.IPv6 {
		in = vrf
	}
	return in, e, stop
}

// seenFrom is the device by which rules see a packet come in.
func (l *leg) seenFrom(in string) string {
	if l.slave != "" {
		return l.inbound
	}
	return in
}

// leaveByVRF lets rules see what the host sends by a port of a VRF leave by the
// VRF's device first, untracked: l3mdev_ip_out, vrf_ip_out_direct.
func (l *leg) leaveByVRF() (end, bool) {
	vrf := l.host.vrf(l.next.Dev)
	if vrf == nil || vrf.Name == l.next.Dev || l.route.LoopsBack() {
		return end{}, false
	}
	st := &l.state
	conn, ct, reply := st.Conn, st.CT, st.Reply
	st.Conn, st.CT, st.Reply = nil, netfilter.CTUntracked, false
	for _, at := range []netfilter.Hook{netfilter.Output, netfilter.Postrouting} {
		if e, stop := l.hook(at, "", vrf.Name, "", ""); stop {
			return e, true
		}
	}
	st.Conn, st.CT, st.Reply = conn, ct, reply
	if !vrf.Up() { // which has the device transmit it: vrf_ip_out, qdisc_tx_is_default
		return l.drop(verdict.NewFindingf(verdict.InterfaceDown, l.host.where(vrf.Name), linkEvidence(vrf),
			"interface %s is down on %s: what the host itself sends by %s leaves by it first", vrf.Name, l.host, l.next.Dev)), true
	}
	return end{}, false
}

// refusedByVRF ends the leg of an answer to a client that is bound to no device, and
// gets nothing that came in by a VRF.
func (l *leg) refusedByVRF() (end, bool) {
	h, p := l.host, &l.packet
	if l.slave == "" || h != l.sender || isICMP(p.Protocol) || l.walk.client.Bound != "" || !answers(p, l.walk.client) {
		return end{}, false
	}
	on, key := h.acrossVRFs(p.Protocol)
	if on || h.demuxedEarly(p.Protocol) {
		return end{}, false
	}
	return l.drop(verdict.NewFindingf(verdict.NoListener, h.where(l.slave), []string{sysctlLine(h, key)},
		"no process listening on %s %s of %s: the client's socket is not bound to %s", netstack.ProtocolName(p.Protocol), p.Dst, h, l.inbound)), true
}

// acrossVRFs says whether sockets that are bound to no device take packets that
// came in by a VRF, and the setting that says so: inet_sk_bound_dev_eq.
func (h *host) acrossVRFs(p netstack.Protocol) (on bool, key string) {
	key = "net.ipv4.tcp_l3mdev_accept"
	if p == netstack.ProtoUDP || p == netstack.ProtoUDPLite {
		key = "net.ipv4.udp_l3mdev_accept"
	}
	if p == netstack.ProtoSCTP {
		key = "net.sctp.l3mdev_accept"
	}
	v, known := h.Sysctl(key)
	return v != 0 || p == netstack.ProtoSCTP && !known, key
}

// demuxedEarly says whether connected sockets of UDP that are bound to no device take
// packets that came in by a VRF: they are found early by the setting of TCP, as
// udp_v4_early_demux and inet_match have it.
func (h *host) demuxedEarly(p netstack.Protocol) bool {
	if p != netstack.ProtoUDP {
		return false
	}
	for _, key := range []string{"net.ipv4.ip_early_demux", "net.ipv4.udp_early_demux"} {
		if v, known := h.Sysctl(key); known && v == 0 {
			return false
		}
	}
	on, _ := h.acrossVRFs(netstack.ProtoTCP)
	return on
}

// answersBy is the device that answers are bound to: inet_request_bound_dev_if,
// icmp_reply. A socket of UDP that is bound to none answers by the tables of all.
func (h *host) answersBy(in string, p netstack.Protocol, s *netstack.Socket) string {
	vrf := h.vrf(in)
	switch {
	case vrf == nil:
		return ""
	case s != nil && s.Dev != "":
		return s.Dev
	case s != nil && p != netstack.ProtoTCP:
		return ""
	}
	return vrf.Name
}
