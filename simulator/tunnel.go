package simulator

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// isTunnel says whether links of the kind put packets into others.
func isTunnel(kind string) bool {
	return kind == "vxlan" || kind == "gretap" || isRoutedTunnel(kind)
}

// isRoutedTunnel says whether links of the kind carry packets without a frame.
func isRoutedTunnel(kind string) bool {
	switch kind {
	case "ipip", "sit", "gre", "ip6tnl", "vti", "vti6":
		return true
	}
	return false
}

// tunnelOpaque says whether something else than the device's settings and its
// forwarding database says where each packet goes.
func tunnelOpaque(link *netstack.Link) bool {
	switch {
	case link.VXLAN != nil:
		return link.VXLAN.External || link.VXLAN.VNIFilter
	case link.Tunnel != nil:
		return link.Tunnel.External || link.Tunnel.Encap != ""
	}
	return isTunnel(link.Kind)
}

func tunnelDetail(link *netstack.Link) string {
	switch {
	case link.VXLAN != nil && link.VXLAN.RemoteChecksum:
		return " (remote checksum offload)"
	case link.Tunnel == nil || !tunnelOpaque(link):
		return ""
	case link.Tunnel.External:
		return " with external metadata"
	}
	return " in " + link.Tunnel.Encap
}

// kindOf is how a leg ends with a finding.
func kindOf(f verdict.Finding) endKind {
	if f.Severity == verdict.SeverityUndecided {
		return undecided
	}
	return dropped
}

// maxTunnels bounds how deep packets are put into others: the kernel's
// XMIT_RECURSION_LIMIT is 8.
const maxTunnels = 8

// travel sends what a tunnel has made on its way through the namespace of the
// tunnel, as a packet of its own, and returns where it is delivered. When it
// fails, so does the packet inside; learns says whether the sender of the packet
// inside gets to know the MTU of the tunnel's path.
func (l *leg) travel(by fabric.Port, under *host, outer netstack.Packet, via string, learns bool) (end, bool) {
	if l.depth == maxTunnels {
		return l.drop(verdict.NewFinding(verdict.RoutingLoop, l.host.where(by.Link.Name), l.trail(),
			fmt.Sprintf("the packets of tunnel %s of %s are sent into the tunnel again", by.Link.Name, l.host))), true
	}
	overhead := outer.Length - l.packet.Length
	if under == l.w.hosts[by.NS] {
		outer.Mark = l.packet.Mark // skb_scrub_packet keeps it
	}
	u := l.newLeg(outer)
	defer u.done()
	u.depth, u.device, u.host, u.quiet = l.depth+1, via, under, l.quiet
	if learns {
		way := under.wayOut(&outer)
		path := way.mtu(under, outer.Family())
		mtu := l.room(path - overhead)
		if l.packet.Length > mtu && l.packet.DF {
			return l.tooBig(by, mtu), true
		}
		if by.Link.Kind == "sit" && mtu > path-overhead {
			u.packet.DF = false // ipip6_tunnel_xmit
		}
		if here := l.w.hosts[by.NS]; l.origin == here && l.sender == here {
			l.taught = mtu
		}
	}
	e := u.send(under)
	l.hops = append(l.hops, u.hops...)
	switch e.kind {
	case delivered:
		return e, false
	case left, undecided:
		l.host = e.host
		return l.finish(e.kind, *e.finding), true
	}
	// What the host of the tunnel is told, it uses for the packets to come.
	sent := outer
	sent.Src = u.firstSource(outer.Src)
	told, _, _ := l.notify(e, under, &sent)
	if told && learns && e.notice.mtu > 0 && l.packet.Length > l.room(e.notice.mtu-overhead) {
		return l.tooBig(by, l.room(e.notice.mtu-overhead)), true
	}
	inner := l.finish(dropped, *e.finding)
	inner.host = l.w.hosts[by.NS]
	noRoute := by.Link.Kind == "sit" && l.packet.Family() == netstack.IPv6 && e.notice.kind == noticeErrno && e.notice.errno != errPermission // ipip6_tunnel_xmit, tx_error_icmp
	fails := told && e.notice.kind == noticeICMP && e.notice.mtu == 0 && tunnelFails(by.Link, e.notice)
	switch {
	case fails && tunnelFamily(by.Link) == netstack.IPv4 && (l.packet.Protocol != netstack.ProtoTCP || l.packet.Family() == netstack.IPv6):
		// Its sender does not try again, or never makes the tunnel fail: others may have, shortly before.
		f := verdict.NewFindingf(verdict.UnmodelledRule, inner.host.where(by.Link.Name), linkEvidence(by.Link),
			"whether tunnel %s of %s fails packets because it was told of an error about an earlier one, which nothing shows", by.Link.Name, inner.host)
		inner.notice = notice{kind: noticeICMP, doubt: &f}
	case noRoute || fails:
		inner.notice = notice{kind: noticeICMP, originated: l.origin == inner.host}
		inner.notice.typ, inner.notice.code = unreachable(l.packet.Family(), errHost)
	}
	return inner, true
}

// room is the MTU that the sender of the packet learns: no sender of IPv6 takes less than each link has to have
// (__ip6_rt_update_pmtu, ip6_tnl_xmit).
func (l *leg) room(mtu int) int {
	if l.packet.Family() == netstack.IPv6 {
		return max(mtu, minMTU6)
	}
	return mtu
}

// tunnelFails says whether a tunnel that is told of an error fails its next packets for half a minute, as a link that is
// down: ipip_err, ipgre_err, IPTUNNEL_ERR_TIMEO; an ip6tnl tells at once (ip6ip6_err). About IPv6 in IPv4 the error goes to
// the sender of the packet inside, from an IPv4-mapped address, from which nobody takes anything (ipip6_err,
// ip6_err_gen_icmpv6_unreach, ip6_rcv_core); a sit takes all that it carries for that.
func tunnelFails(link *netstack.Link, n notice) bool {
	switch {
	case !isRoutedTunnel(link.Kind), link.Tunnel == nil:
		return false
	case tunnelFamily(link) == netstack.IPv6:
		return true
	case link.Kind == "sit", !link.Tunnel.Remote.IsValid():
		return false
	case n.typ == icmpTimeExceeded:
		return link.Tunnel.TTL != 0
	}
	return link.Kind != "gre" || n.code != icmpPort
}

// tooBig drops a packet that does not fit into a tunnel, and tells its sender:
// skb_tunnel_check_pmtu, tnl_update_pmtu.
func (l *leg) tooBig(by fabric.Port, mtu int) end {
	h := l.w.hosts[by.NS]
	e := l.drop(verdict.NewFindingf(verdict.MTUExceeded, h.where(by.Link.Name), linkEvidence(by.Link),
		"packet of %d bytes exceeds MTU %d of %s on %s: its path has no room for more", l.packet.Length, mtu, by.Link.Name, h))
	e.host = h
	// A bridge has the answer come out of the tunnel, as if from the other end.
	e.notice = notice{kind: noticeICMP, mtu: mtu, originated: l.origin == h || by.Link.Port != nil}
	e.notice.typ, e.notice.code = tooBig(l.packet.Family())
	return e
}

// tunnelled is from where a tunnel to anywhere got a packet in a namespace. GRE keeps that with the packet, and ARP answers
// there, as far as its host answers itself (__ipgre_rcv, iptunnel_metadata_reply).
type tunnelled struct {
	in   *host
	from netip.Addr
}

// decapsulate goes on with the packet inside at a tunnel device; the outer one
// came to the host with a mark.
func (l *leg) decapsulate(in fabric.Port, mark uint32, at *host) end {
	h := l.w.hosts[in.NS]
	l.host = nil // connections end with the tunnel, on one host too
	l.enter(h, in.Link.Name)
	if h == at {
		l.packet.Mark = mark
	}
	l.gather()
	return l.input(in)
}

// emitTunnel sends the packet through a tunnel: ip_tunnel_xmit, sit's
// ipip6_tunnel_xmit, ip6_tnl_xmit.
func (l *leg) emitTunnel(out fabric.Port) end {
	h, link, t := l.w.hosts[out.NS], out.Link, out.Link.Tunnel
	switch {
	case link.Kind == "vti", link.Kind == "vti6":
		return l.undecided(verdict.NewFindingf(verdict.EncryptionOpaque, h.where(link.Name), linkEvidence(link), "%s of %s encrypts what is sent by it", link.Name, h))
	case t == nil || t.Encap != "":
		return l.undecided(l.unmodelledDevice(out))
	case t.External:
		return l.undecided(verdict.NewFinding(verdict.EBPFOpaque, h.where(link.Name), linkEvidence(link), "metadata (external)", link.Name))
	case !tunnelCarries(link, l.packet.Family()):
		return l.drop(verdict.NewFindingf(verdict.InvalidRoute, h.where(link.Name), []string{describeRoute(&l.route)},
			"invalid route %s for packet %s: a tunnel of kind %s does not carry %s", describeRoute(&l.route), &l.packet, link.Kind, l.packet.Family()))
	}
	to := t.Remote
	switch {
	case to.IsValid():
	case link.Kind == "gre":
		// Its neighbours have link-layer addresses, which are other ends: what nobody has been told has the device's own
		// (ipgre_header, arp_constructor, ndisc_constructor).
		if n := h.neighbour(link.Name, l.towards); n != nil && n.State&netstack.NUDPermanent != 0 || !link.NoARP() {
			return l.undecided(l.unmodelledDevice(out))
		}
		to = t.Local
	case link.Kind == "gretap":
		if l.arp != nil && l.arp.Reply && l.tunnelled.in == h {
			to = l.tunnelled.from
		}
	case netstack.FamilyOf(l.towards) == tunnelFamily(link):
		to = l.towards // of a tunnel to anywhere, the next hop is the other end
	}
	if !to.IsValid() {
		e := l.drop(verdict.NewFindingf(verdict.InvalidRoute, h.where(link.Name), []string{describeRoute(&l.route)},
			"invalid route %s for packet %s: tunnel %s has no remote end, and the route none for it", describeRoute(&l.route), &l.packet, link.Name))
		if link.Kind == "ip6tnl" { // ip6_tnl_xmit: tx_err_link_failure
			e.notice = notice{kind: noticeICMP, originated: l.origin == h}
			e.notice.typ, e.notice.code = unreachable(l.packet.Family(), errHost)
		}
		return e
	}
	under := l.w.hosts[l.w.fabric.Origin(out)]
	if under == nil {
		return l.leave(link.Name)
	}
	outer := aroundTunnel(link, to, &l.packet)
	l.step("tunnel", fmt.Sprintf("%s to %s", link.Kind, to), link.Name)
	e, failed := l.travel(out, under, outer, t.Underlay, outer.DF)
	if failed {
		return e
	}
	in, f, ok := l.tunnelEnd(e.host, &e.packet, link)
	if !ok {
		return l.finish(kindOf(f), f)
	}
	if link.Kind != "gretap" {
		l.packet.SrcMAC, l.packet.DstMAC = netstack.MAC{}, netstack.MAC{}
	}
	if !in.Link.Tunnel.Remote.IsValid() {
		l.tunnelled = tunnelled{l.w.hosts[in.NS], e.packet.Src}
	}
	return l.decapsulate(in, e.packet.Mark, e.host)
}

// aroundTunnel is the packet that a tunnel makes of another one.
func aroundTunnel(link *netstack.Link, to netip.Addr, inner *netstack.Packet) netstack.Packet {
	t := link.Tunnel
	outer := netstack.Packet{
		Src: t.Local, Dst: to, Protocol: tunnelProtocol(link, inner.Family()),
		TTL: t.TTL, TOS: t.TOS, Length: inner.Length + tunnelHeaders(link), GSOSize: inner.GSOSize,
		// IPv4 keeps what was asked for (ip_tunnel_xmit), and IPv6 is fragmented by its sender alone.
		DF: t.PMTUDisc || inner.DF && inner.Family() == netstack.IPv4 || tunnelFamily(link) == netstack.IPv6,
	}
	if outer.TTL == 0 {
		outer.TTL = max(inner.TTL, 1)
	}
	if outer.TOS&1 != 0 {
		outer.TOS = inner.TOS
	}
	return outer
}

// Numbers of the protocols that carry others.
const (
	protoIPIP netstack.Protocol = 4
	protoIPv6 netstack.Protocol = 41
	protoGRE  netstack.Protocol = 47
)

func tunnelProtocol(link *netstack.Link, inner netstack.Family) netstack.Protocol {
	switch {
	case link.Kind == "gre", link.Kind == "gretap":
		return protoGRE
	case inner == netstack.IPv6:
		return protoIPv6
	}
	return protoIPIP
}

// tunnelFamily is the family of the packets around.
func tunnelFamily(link *netstack.Link) netstack.Family {
	if link.Kind == "ip6tnl" {
		return netstack.IPv6
	}
	return netstack.IPv4
}

// tunnelCarries says whether packets of the family may be inside.
func tunnelCarries(link *netstack.Link, f netstack.Family) bool {
	switch link.Kind {
	case "ipip":
		return f == netstack.IPv4
	case "ip6tnl":
		return link.Tunnel.Protocol == "" || link.Tunnel.Protocol == "any" || (link.Tunnel.Protocol == "ip6ip6") == (f == netstack.IPv6)
	}
	return true
}

// tunnelHeaders are the bytes that a tunnel adds.
func tunnelHeaders(link *netstack.Link) int {
	t, n := link.Tunnel, 20
	switch link.Kind {
	case "ip6tnl":
		if n = 40; t.EncapLimit {
			n += 8
		}
	case "gretap":
		n += 4 + 14
	case "gre":
		n += 4
	}
	if t.OutKey != nil {
		n += 4
	}
	if t.OutChecksum {
		n += 4
	}
	if t.OutSequence {
		n += 4
	}
	return n
}

// tunnelEnd is the device that takes a packet which came to a host, and which
// the tunnel by sent: ip_tunnel_lookup prefers one with both ends, then one with
// the remote one, then one with the local one, then one with neither.
func (l *leg) tunnelEnd(h *host, outer *netstack.Packet, by *netstack.Link) (fabric.Port, verdict.Finding, bool) {
	var best fabric.Port
	score := -1
	for _, p := range l.w.tunnels[h.Namespace] {
		t := p.Link.Tunnel
		if t == nil || p.Link.Kind != by.Kind || !sameKey(t.InKey, by.Tunnel.OutKey) {
			continue
		}
		if p.Link.Kind == "sit" && !sitTakes(t, outer.Protocol) {
			continue
		}
		local, remote := ends(t.Local, outer.Dst), ends(t.Remote, outer.Src)
		if !p.Link.Up() || local < 0 || remote < 0 {
			continue
		}
		if s := local + 2*remote; s > score {
			best, score = p, s
		}
	}
	switch {
	case score < 0:
		return best, verdict.NewFindingf(verdict.InterfaceMissing, h.where(""), []string{outer.String()},
			"interface %s is missing: no tunnel that is up on %s takes packets of this kind from %s to %s", by.Kind, h, outer.Src, outer.Dst), false
	case tunnelOpaque(best.Link):
		return best, l.unmodelledDevice(best), false
	case best.Link.Tunnel.InChecksum != by.Tunnel.OutChecksum, best.Link.Tunnel.InSequence != by.Tunnel.OutSequence:
		return best, l.unmodelledDevice(best), false
	}
	return best, verdict.Finding{}, true
}

// sitTakes says whether a sit device takes packets of the protocol, by its mode: sit_tunnel_rcv, ipip6_rcv. It sends both
// (sit_tunnel_xmit).
func sitTakes(t *netstack.Tunnel, p netstack.Protocol) bool {
	switch t.Protocol {
	case "ipip":
		return p == protoIPIP
	case "ip6ip":
		return p == protoIPv6
	}
	return true
}

// ends compares an end of a tunnel with a packet: 1 the same, 0 any, -1 another.
func ends(own, addr netip.Addr) int {
	switch {
	case !own.IsValid():
		return 0
	case own == addr:
		return 1
	}
	return -1
}

func sameKey(a, b *uint32) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
