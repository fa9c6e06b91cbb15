package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// enterFrom takes in the first packet of one that was not collected, where the
// query says that it enters. Who hands it over had to learn of the host first.
// If the host does not answer, the packet comes only where nobody needs to ask:
// by an entry that is fixed, or in a network that answers by itself.
func (l *leg) enterFrom(at fabric.Port) end {
	if f, refused := l.refusesOutsider(at); refused && l.doubt(f) {
		l.enter(l.w.hosts[at.NS], at.Link.Name)
		e := l.drop(f)
		e.notice = notice{kind: noticeErrno, errno: errHost} // of the sender, or its router
		return e
	}
	return l.arrive(at)
}

// refusesOutsider says whether the host leaves whoever sends the packet to it
// without the link-layer address of the interface. By which of its addresses it is
// looked for, where several are on the wire, is not known: one may be left unanswered.
func (l *leg) refusesOutsider(at fabric.Port) (verdict.Finding, bool) {
	h, dev := l.w.hosts[at.NS], at.Link.Name
	if _, ok := l.w.fabric.Master(at.Link); ok {
		return verdict.Finding{}, false // who answers is behind it
	}
	from, targets := h.outsider(dev, &l.packet)
	for _, to := range targets {
		if f, refused := l.refusesSolicitation(at, from, to); refused {
			return f, true
		}
	}
	return verdict.Finding{}, false
}

// refusesSolicitation says whether one outside does not hear from the host by which
// link-layer address it has an address.
func (l *leg) refusesSolicitation(at fabric.Port, from, to netip.Addr) (verdict.Finding, bool) {
	h, dev := l.w.hosts[at.NS], at.Link.Name
	owner := station{Port: at}
	if to.Is4() {
		if says, setting := h.answersARP(dev, from, to); says == filtered {
			return l.arpFiltered(&owner, setting, to), true
		}
		if f, refused := l.refusesARP(&owner, from, to); refused {
			return notFound(to, f), true
		}
	}
	request := l.solicitation(h, at, from, to, netstack.MAC{}, at.Link.MAC)
	defer request.done()
	if e := request.discovered(at.Link, "", false); e.kind == dropped {
		return notFound(to, *e.finding), true
	}
	answer := l.advertisement(h, at, from, to, at.Link.MAC, netstack.MAC{})
	defer answer.done()
	if e, stop := answer.pass(dev); stop && e.kind == dropped {
		return notFound(to, *e.finding), true
	}
	return verdict.Finding{}, false
}

// outsider says who on the wire of the interface sends the packet, and which of
// the host's addresses it may look for: the packet's own where they are on the
// wire. If it is not known, there are none.
func (h *host) outsider(dev string, p *netstack.Packet) (from netip.Addr, targets []netip.Addr) {
	onWire := func(addr netip.Addr) bool {
		for a := range h.devices.Each(dev) {
			if a.Prefix.Masked().Contains(addr) {
				return true
			}
		}
		return false
	}
	from = p.Src
	if !onWire(from) {
		// The router is where answers go.
		back := h.fib.Lookup(fib.Key{Dst: p.Src})
		if len(back.NextHops) != 1 || back.NextHops[0].Dev != dev {
			return netip.Addr{}, nil
		}
		from = back.NextHops[0].Gateway
		if !from.IsValid() || from.Is6() && !from.IsLinkLocalUnicast() {
			return netip.Addr{}, nil // ndisc_solicit asks from another
		}
	}
	if onWire(p.Dst) {
		if h.fib.LocalAt(p.Dst, dev) {
			targets = append(targets, p.Dst)
		}
		return from, targets
	}
	for a := range h.devices.Each(dev) {
		if a.Prefix.Masked().Contains(from) {
			targets = append(targets, a.Prefix.Addr())
		}
	}
	return from, targets
}
