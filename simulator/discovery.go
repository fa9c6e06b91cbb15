package simulator

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// learnedKey is a neighbour that a host has learned of on this walk.
type learnedKey struct {
	host *host
	dev  string
	ip   netip.Addr
}

// ask walks the request for a neighbour to the station that owns it, and the
// answer back: in IPv6 both are packets that rules see. Who asks is known to who
// answers from then on.
func (l *leg) ask(out *netstack.Link, to netip.Addr, owner *station) (end, bool) {
	from := l.asker(out, to)
	if to.Is4() && from.IsValid() {
		if f, refused := l.refusesARP(owner, from, to); refused {
			return l.unresolved(notFound(to, f)), true
		}
	}
	at := l.w.hosts[owner.NS]
	if to.Is6() && !from.IsValid() {
		return l.speechless(out, to), true
	}
	request := l.solicitation(l.host, l.port(out), from, to, out.MAC, owner.Link.MAC)
	defer request.done()
	request.flooded = true
	if e := request.discover(l.port(out)); e.kind != delivered || e.host != at || e.in != owner.Link.Name {
		return l.unheard(to, e), true
	}
	answer := l.advertisement(at, owner.Port, from, to, owner.Link.MAC, out.MAC)
	defer answer.done()
	if to.Is6() {
		// ndisc_send_na goes to where the neighbour is known to be.
		cached := at.neighbour(owner.Link.Name, from)
		if cached != nil && cached.State&netstack.NUDPermanent != 0 && cached.MAC != out.MAC {
			f := verdict.NewFindingf(verdict.NeighbourStale, at.where(owner.Link.Name), []string{neighbourLine(cached)},
				"neighbour %s resolves to the wrong link-layer address on %s of %s: the answer about %s is lost", from, owner.Link.Name, at, to)
			return l.unresolved(f), true
		}
		if owner.Link.NoARP() && keepsAddress(owner.Link.Kind) && (cached == nil || !cached.Fixed()) {
			f := verdict.NewFindingf(verdict.NeighbourFailed, at.where(owner.Link.Name), linkEvidence(owner.Link),
				"neighbour %s unresolved on %s of %s: %s of %s has ARP off, and sends its answer to its own address", to, out.Name, l.host, owner.Link.Name, at)
			f.Remedy = arpOn(owner.Link)
			return l.unresolved(f), true
		}
	}
	if request.tunnelled.in == at {
		answer.tunnelled = request.tunnelled
	}
	if e := answer.discover(owner.Port); e.kind != delivered || e.host != l.host || e.in != out.Name {
		return l.unheard(to, e), true
	}
	if from.IsValid() {
		l.learned[learnedKey{at, owner.Link.Name, from}] = out.MAC
	}
	l.learned[learnedKey{l.host, out.Name, to}] = owner.Link.MAC
	return end{}, false
}

// speechless ends the leg: the host has no address to ask for a neighbour from (ndisc_send_ns).
func (l *leg) speechless(out *netstack.Link, to netip.Addr) end {
	f := verdict.NewFindingf(verdict.AddressNotUsable, l.host.where(out.Name), linkEvidence(out),
		"neighbour %s is not asked for: %s of %s has no link-local address that may be used", to, out.Name, l.host)
	f.Remedy = fmt.Sprintf("Give %[1]s a link-local address (ip link set %[1]s addrgenmode eui64, then down and up), and see that detection of duplicates has not failed.", out.Name)
	return l.unresolved(f)
}

// askOutside sends the request for a neighbour that was not collected, and takes
// in the answer that it is taken to give: what the host's own rules and devices
// do with both is known.
func (l *leg) askOutside(out *netstack.Link, to netip.Addr) (end, bool) {
	if l.sender == nil && (to.Is4() || to.IsLinkLocalUnicast()) {
		// The way back to one outside, whose router has asked for this host, from
		// such an address: arp_solicit, ndisc_solicit.
		return end{}, false
	}
	from := l.asker(out, to)
	if to.Is6() && !from.IsValid() {
		return l.speechless(out, to), true
	}
	request := l.solicitation(l.host, l.port(out), from, to, out.MAC, netstack.MAC{})
	defer request.done()
	if e, stop := request.pass(out.Name); stop {
		return l.unheard(to, e), true
	}
	if e := request.leaveBy(l.port(out)); e.kind != left {
		return l.unheard(to, e), true
	}
	answer := l.advertisement(l.host, l.port(out), from, to, netstack.MAC{}, out.MAC)
	defer answer.done()
	if e := answer.discovered(out, "", false); e.kind != delivered {
		return l.unheard(to, e), true
	}
	return end{}, false
}

// solicitation is the request for the neighbour to, which is known by mac if it
// was collected, at a port of the host that asks or, if that was not collected,
// of the one that is asked.
func (l *leg) solicitation(at *host, by fabric.Port, from, to netip.Addr, asker, mac netstack.MAC) *leg {
	request := l.probing(at, by, netstack.Packet{Src: from, Dst: to, SrcMAC: asker, DstMAC: mac})
	if to.Is6() {
		request.packet.Protocol, request.packet.ICMPType = netstack.ProtoICMPv6, neighbourSolicitation
		request.packet.Dst = solicitedNode(to)
	} else {
		request.arp = &netfilter.ARP{SenderMAC: asker, Sender: orZero(from), Target: to}
	}
	return request
}

// advertisement is the answer to the request from an address, at a port of the
// host that answers or, of a neighbour that was not collected, of the one that
// hears it.
func (l *leg) advertisement(at *host, by fabric.Port, from, to netip.Addr, mac, asker netstack.MAC) *leg {
	answer := l.probing(at, by, netstack.Packet{Src: to, Dst: from, SrcMAC: mac, DstMAC: asker})
	if to.Is6() {
		answer.packet.Protocol, answer.packet.ICMPType = netstack.ProtoICMPv6, neighbourAdvertisement
	} else {
		answer.arp = &netfilter.ARP{Reply: true, SenderMAC: mac, Sender: to, TargetMAC: asker, Target: orZero(from)}
	}
	return answer
}

// asker is the address that arp_solicit sends from: the packet's source if it is
// one of the host's, else one of the interface's.
func (l *leg) asker(out *netstack.Link, to netip.Addr) netip.Addr {
	if to.Is6() {
		return l.solicitor(out)
	}
	if src := l.packet.Src; src.Is4() && l.host.fib.LocalAt(src, out.Name) && l.announces(out, src, to) {
		return src
	}
	src, _ := l.host.fib.LinkAddress(out.Name, to)
	return src
}

// announces says whether requests may name an address: arp_announce.
func (l *leg) announces(out *netstack.Link, src, to netip.Addr) bool {
	switch l.host.confMax(netstack.IPv4, out.Name, "arp_announce") {
	case 0:
		return true
	case 1:
		for a := range l.host.devices.Each(out.Name) {
			if a.Prefix.Masked().Contains(src) && a.Prefix.Masked().Contains(to) {
				return true
			}
		}
	}
	return false
}

// solicitor is the address that ndisc_solicit sends from: the packet's source if
// the interface has it, else the interface's link-local address.
func (l *leg) solicitor(out *netstack.Link) netip.Addr {
	var own netip.Addr
	for a := range l.host.devices.Each(out.Name) {
		if !a.Prefix.Addr().Is6() || !a.Usable() {
			continue
		}
		if a.Prefix.Addr() == l.packet.Src {
			return l.packet.Src
		}
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			own = a.Prefix.Addr() // the last is ipv6_get_lladdr's choice
		}
	}
	return own
}

// Messages of neighbour discovery (RFC 4861), each with the option that holds a
// link-layer address.
const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	neighbourMessageLength = 40 + 24 + 8
)

func orZero(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv4Unspecified()
	}
	return a
}

// probing is a leg that asks for a neighbour, or answers. Nobody reads its steps.
func (l *leg) probing(h *host, by fabric.Port, p netstack.Packet) *leg {
	p.Length, p.TTL = neighbourMessageLength, 255
	probe := l.newLeg(p)
	probe.probe, probe.quiet, probe.depth, probe.towards = true, true, l.depth, p.Dst
	probe.enter(h, by.Link.Name)
	return probe
}

// discover sends a request or answer: ndisc_send_skb, arp_xmit.
func (l *leg) discover(out fabric.Port) end {
	if e, stop := l.pass(out.Link.Name); stop {
		return e
	}
	return l.emit(out)
}

// pass has the host's rules see a request or answer of its own.
func (l *leg) pass(out string) (end, bool) {
	if l.arp != nil {
		return l.hookARP(netfilter.Output, "", out)
	}
	if e, stop := l.hook(netfilter.Output, "", out, "", ""); stop {
		return e, true
	}
	return l.hook(netfilter.Postrouting, "", out, "", "")
}

// discovered takes a request or answer in.
func (l *leg) discovered(in *netstack.Link, physIn string, hooked bool) end {
	if l.arp != nil {
		if e, stop := l.hookARP(netfilter.Input, in.Name, ""); stop {
			return e
		}
		return end{kind: delivered, host: l.host, in: in.Name, packet: l.packet}
	}
	if !hooked {
		if e, stop := l.hook(netfilter.Prerouting, in.Name, "", physIn, ""); stop {
			return e
		}
	}
	if vrf := l.host.vrf(in.Name); vrf != nil && vrf != in { // vrf_ip6_rcv
		if e, stop := l.hook(netfilter.Prerouting, vrf.Name, "", "", ""); stop {
			return e
		}
	}
	if e, stop := l.hook(netfilter.Input, in.Name, "", "", ""); stop {
		return e
	}
	if a, own := l.host.addressOn(in.Name, l.packet.Src); own && l.packet.ICMPType == neighbourAdvertisement { // ndisc_recv_na
		return l.drop(verdict.NewFindingf(verdict.AddressNotUsable, l.host.where(in.Name), nil,
			"%s has %s on %s itself, unusable as it is, and takes no answer about it", l.host, a.Prefix, in.Name))
	}
	return end{kind: delivered, host: l.host, in: in.Name, packet: l.packet}
}

// notFound is what stopped a request for a neighbour, or the answer.
func notFound(to netip.Addr, f verdict.Finding) verdict.Finding {
	f.Message = fmt.Sprintf("neighbour %s is not found: %s", to, f.Message)
	return f
}

// unheard ends the leg: its request, or the answer, came to an end elsewhere.
func (l *leg) unheard(to netip.Addr, e end) end {
	switch {
	case e.kind == undecided:
		return l.undecided(*e.finding)
	case e.kind == dropped && e.finding != nil:
		return l.unresolved(notFound(to, *e.finding))
	}
	dev := l.hop().Out
	return l.unresolved(verdict.NewFindingf(verdict.NeighbourFailed, l.host.where(dev), nil,
		"neighbour %s unresolved on %s of %s: the request or its answer ends elsewhere", to, dev, l.host))
}

// solicitedNode is the multicast address at which the owner of addr listens
// (RFC 4291).
func solicitedNode(addr netip.Addr) netip.Addr {
	group := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
	a := addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}
