package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// learnedKey is a neighbour of a host.
type learnedKey struct {
	host *host
	dev  string
	ip   netip.Addr
}

// known is what the host knows of a neighbour: what was collected, or what it
// has learned on this walk.
func (l *leg) known(dev string, ip netip.Addr) *netstack.Neighbour {
	cached := l.host.neighbour(dev, ip)
	if cached != nil && cached.Resolved() {
		return cached
	}
	if mac, ok := l.learned[learnedKey{l.host, dev, ip}]; ok {
		return &netstack.Neighbour{Dev: dev, IP: ip, MAC: mac, State: netstack.NUDReachable}
	}
	return cached
}

// ask has the owner of an address asked for it. Both ends know the other
// afterwards: who answers keeps the sender of the question (arp_process,
// ndisc_recv_ns), so that its reply needs no question of its own.
func (l *leg) ask(out *netstack.Link, owner *fabric.Station, to netip.Addr) (verdict.Finding, bool) {
	var from netip.Addr
	if to.Is6() {
		from = l.solicitor(out)
		if f, lost := l.discover(out, owner, from, to); lost {
			return f, true
		}
	} else {
		var known bool
		if from, known = l.asker(out, to); known {
			if f, refused := l.refusesARP(owner, from, to); refused {
				return f, true
			}
		}
	}
	if l.learned == nil {
		l.learned = make(map[learnedKey]netstack.MAC)
	}
	l.learned[learnedKey{l.host, out.Name, to}] = owner.Link.MAC
	if from.IsValid() {
		l.learned[learnedKey{l.w.hosts[owner.NS], owner.Link.Name, from}] = out.MAC
	}
	return verdict.Finding{}, false
}

// asker is the address that arp_solicit sends from: the packet's source if it is
// one of the host's, else one of the interface's.
func (l *leg) asker(out *netstack.Link, to netip.Addr) (netip.Addr, bool) {
	if src := l.packet.Src; src.Is4() && l.host.fib.Local(src) {
		return src, true
	}
	return l.host.fib.DeviceAddress(out.Name, to, to)
}

// solicitor is the address that ndisc_solicit sends from: the packet's source if
// the interface has it, else the interface's link-local address.
func (l *leg) solicitor(out *netstack.Link) netip.Addr {
	var own netip.Addr
	for i := range l.host.Addresses {
		a := &l.host.Addresses[i]
		if a.Dev != out.Name || !a.Prefix.Addr().Is6() || !a.Usable() {
			continue
		}
		if a.Prefix.Addr() == l.packet.Src {
			return l.packet.Src
		}
		if a.Prefix.Addr().IsLinkLocalUnicast() && !own.IsValid() {
			own = a.Prefix.Addr()
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

// discover walks the question and its answer through the rules of both hosts:
// unlike ARP, neighbour discovery is IPv6 and passes ip6tables. Connection
// tracking leaves it alone (icmpv6_error).
func (l *leg) discover(out *netstack.Link, owner *fabric.Station, from, to netip.Addr) (verdict.Finding, bool) {
	if !from.IsValid() {
		return verdict.Finding{}, false
	}
	question := netstack.Packet{
		Src: from, Dst: solicitedNode(to), Protocol: netstack.ProtoICMPv6, ICMPType: neighbourSolicitation,
		TTL: 255, Length: neighbourMessageLength,
	}
	answer := question
	answer.Src, answer.Dst, answer.ICMPType = to, from, neighbourAdvertisement
	at := l.w.hosts[owner.NS]
	if f, lost := l.exchange(&question, l.host, out.Name, at, owner.Link.Name); lost {
		return f, true
	}
	return l.exchange(&answer, at, owner.Link.Name, l.host, out.Name)
}

// exchange takes a packet from one host over the segment to another.
func (l *leg) exchange(p *netstack.Packet, from *host, out string, to *host, in string) (verdict.Finding, bool) {
	m := &leg{walk: l.walk, packet: *p, origin: from}
	for _, step := range []struct {
		at      *host
		hook    netfilter.Hook
		in, out string
	}{
		{from, netfilter.Output, "", out},
		{from, netfilter.Postrouting, "", out},
		{to, netfilter.Prerouting, in, ""},
		{to, netfilter.Input, in, ""},
	} {
		if m.host != step.at {
			m.enter(step.at, step.in)
			m.state.CT = netfilter.CTUntracked
		}
		m.next.Dev = step.out
		if e, ended := m.hook(step.hook, step.in, step.out, "", ""); ended {
			f := *e.finding
			f.Message = "neighbour " + l.packet.Dst.String() + " cannot be discovered: " + f.Message
			return f, true
		}
	}
	return verdict.Finding{}, false
}

// solicitedNode is the multicast address at which the owner of addr listens
// (RFC 4291).
func solicitedNode(addr netip.Addr) netip.Addr {
	group := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
	a := addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}
