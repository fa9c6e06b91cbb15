package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func isMACVLAN(l *netstack.Link) bool { return l.Kind == "macvlan" || l.Kind == "macvtap" }

func isIPVLAN(l *netstack.Link) bool { return l.Kind == "ipvlan" || l.Kind == "ipvtap" }

// withoutCarrier says whether a macvlan or ipvlan has lost its carrier with the device below, which it returns
// (netif_stacked_transfer_operstate). An ipvlan is not told of a device that is set down (ipvlan_device_event before Linux
// 6.5): it goes on to its siblings.
func (w *World) withoutCarrier(link *netstack.Link) (lower fabric.Port, lost bool) {
	lower, ok := w.fabric.Lower(link)
	return lower, ok && !(link.Carrier() && (lower.Link.Up() || isIPVLAN(link)))
}

// mode is how a message calls the mode of a link.
func mode(l *netstack.Link) string {
	if l.Mode == "" {
		return ""
	}
	if l.Flag != "" {
		return fmt.Sprintf(", mode %s %s", l.Mode, l.Flag)
	}
	return ", mode " + l.Mode
}

// uppers follows a broadcast to the macvlans and ipvlans on a device:
// macvlan_handle_frame, ipvlan_handle_frame. It says whether the device itself
// gets none.
func (s *search) uppers(in fabric.Port, to way) bool {
	uppers := s.w.fabric.Uppers(in.Link)
	sender := macvlanOf(uppers, s.src)
	if sender.Valid() && sender.Link.Mode != "vepa" && sender.Link.Mode != "bridge" {
		// It comes back to the sender alone, and to those that take its source (macvlan_forward_source).
		for _, c := range uppers {
			if c.Link != sender.Link && isMACVLAN(c.Link) && c.Link.Mode == "source" && slices.Contains(c.Link.SourceMACs, s.src) {
				s.receive(c, to)
			}
		}
		return true
	}
	for _, c := range uppers {
		takes := false
		switch {
		case isIPVLAN(c.Link):
			takes = c.Link.Mode == "l2"
		case !isMACVLAN(c.Link), c.Link == sender.Link:
		case c.Link.Mode == "source":
			takes = slices.Contains(c.Link.SourceMACs, s.src)
		case !sender.Valid():
			takes = true
		case sender.Link.Mode == "vepa":
			takes = c.Link.Mode == "vepa" || c.Link.Mode == "bridge"
		default:
			takes = c.Link.Mode == "vepa" // those of mode bridge have it already
		}
		if takes {
			s.receive(c, to)
		}
	}
	return false
}

// macvlanOf is the macvlan with the address, among those on one device.
func macvlanOf(uppers []fabric.Port, mac netstack.MAC) fabric.Port {
	for _, c := range uppers {
		if isMACVLAN(c.Link) && c.Link.MAC == mac {
			return c
		}
	}
	return fabric.Port{}
}

// toUpper is the macvlan on a device that takes the frame; not valid when none
// does.
func (l *leg) toUpper(at fabric.Port) fabric.Port {
	uppers := l.w.fabric.Uppers(at.Link)
	for _, c := range uppers {
		if !isMACVLAN(c.Link) {
			continue
		}
		switch {
		case c.Link.Mode == "passthru":
			if l.flooded && l.w.hosts[at.NS].fib.LocalAt(l.towards, at.Link.Name) {
				return fabric.Port{} // a request passes on to the device's own host, too
			}
			return c
		case c.Link.Mode == "source" && slices.Contains(c.Link.SourceMACs, l.packet.SrcMAC) && c.Link.MAC == l.packet.DstMAC:
			return c
		}
	}
	if c := macvlanOf(uppers, l.packet.DstMAC); c.Valid() && c.Link.Mode != "source" {
		return c
	}
	return fabric.Port{}
}

// emitMACVLAN is macvlan_queue_xmit: siblings of mode bridge have a switch of
// their own.
func (l *leg) emitMACVLAN(out fabric.Port) end {
	lower, ok := l.w.fabric.Lower(out.Link)
	if !ok {
		return l.cross(out)
	}
	if out.Link.Mode == "bridge" {
		sibling := macvlanOf(l.w.fabric.Uppers(lower.Link), l.packet.DstMAC)
		if sibling.Valid() && sibling.Link.Mode == "bridge" {
			l.step("macvlan", "switch", out.Link.Name+" to "+sibling.Link.Name)
			return l.arriveUp(sibling)
		}
	}
	return l.onto(lower)
}

// ipvlanOf is the ipvlan on a device that has the address, and is up: the others' addresses are forgotten (ipvlan_stop).
func (w *World) ipvlanOf(lower *netstack.Link, addr netip.Addr) fabric.Port {
	for _, c := range w.fabric.Uppers(lower) {
		if !isIPVLAN(c.Link) || !c.Link.Up() {
			continue
		}
		for a := range w.hosts[c.NS].addresses.Each(addr) {
			if a.Dev == c.Link.Name {
				return c
			}
		}
	}
	return fabric.Port{}
}

// emitIPVLAN is ipvlan_xmit_mode_l2 and ipvlan_xmit_mode_l3: between siblings
// addresses of the network layer decide.
func (l *leg) emitIPVLAN(out fabric.Port) end {
	lower, ok := l.w.fabric.Lower(out.Link)
	if !ok {
		return l.cross(out)
	}
	own := l.packet.DstMAC == out.Link.MAC
	if sibling := l.w.ipvlanOf(lower.Link, l.towards); l.flooded && sibling.Valid() {
		return l.arriveUp(sibling) // also of mode private: the answer does not pass
	}
	if out.Link.Flag != "vepa" && (own || out.Link.Mode != "l2") {
		if sibling := l.w.ipvlanOf(lower.Link, l.address()); sibling.Valid() {
			if out.Link.Flag == "private" {
				return l.drop(l.barrier(station{Port: sibling, barrier: sharesDevice, at: out}))
			}
			l.step("ipvlan", "switch", out.Link.Name+" to "+sibling.Link.Name)
			return l.arriveUp(sibling)
		}
	}
	switch {
	case out.Link.Mode != "l2":
		return l.routeIPVLAN(lower)
	case own && out.Link.Flag != "vepa":
		return l.arriveUp(lower) // it can only be for the device's own host
	}
	return l.onto(lower)
}

// routeIPVLAN has the host of the lower device route what leaves an ipvlan of
// mode l3: ipvlan_process_outbound.
func (l *leg) routeIPVLAN(lower fabric.Port) end {
	local := l.host == l.origin
	l.enter(l.w.hosts[lower.NS], "")
	if e, missing := l.requireRouting(); missing {
		return e
	}
	l.packet.SrcMAC, l.packet.DstMAC = netstack.MAC{}, netstack.MAC{}
	key := fib.KeyOf(&l.packet, "")
	if l.packet.Family() == netstack.IPv4 {
		if !lower.Link.Up() {
			return l.drop(l.linkDown(lower))
		}
		key.OIF = lower.Link.Name // ipvlan_process_v4_outbound
	}
	l.route = l.host.fib.LookupBound(key, l.way)
	if !l.route.Found() || l.route.Unknown != "" {
		f, kind, code := l.routeFinding()
		e := l.finish(kind, f)
		if local && kind == dropped && l.packet.Family() == netstack.IPv6 && l.packet.Protocol != netstack.ProtoTCP {
			e.notice = notice{kind: noticeErrno, originated: true, errno: code} // ipvlan_process_v6_outbound
		}
		return e
	}
	l.pickNextHop()
	if l.route.Type == netstack.RouteLocal {
		l.next = netstack.NextHop{Dev: "lo"}
	} else if l.next.Dev != lower.Link.Name {
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(lower.Link.Name), evidence(&l.route),
			"an ipvlan of mode l3 leaves by %s alone, and the route to %s by another interface: that look-up is not modelled", lower.Link.Name, l.packet.Dst))
	}
	if e, stop := l.hook(netfilter.Output, "", l.next.Dev, "", ""); stop {
		return e
	}
	if l.route.Type == netstack.RouteLocal {
		return l.loopBack()
	}
	return l.postrouting("")
}

// receiveL3S takes a packet for an ipvlan of mode l3s: it passes the hooks of
// the lower device's host on its way to a socket of the upper one's
// (ipvlan_l3_rcv, ipvlan_nf_input).
func (l *leg) receiveL3S(lower, upper fabric.Port) end {
	if e, stop := l.hook(netfilter.Prerouting, lower.Link.Name, "", "", ""); stop {
		return e
	}
	if e, stop := l.hook(netfilter.Input, lower.Link.Name, "", "", ""); stop {
		return e
	}
	l.enter(l.w.hosts[upper.NS], upper.Link.Name)
	if e, missing := l.requireRouting(); missing {
		return e
	}
	l.inbound, l.route = upper.Link.Name, l.host.fib.Lookup(fib.KeyOf(&l.packet, upper.Link.Name))
	if f, fails := l.reversePath(upper.Link.Name, ""); fails {
		return l.drop(f)
	}
	return l.delivered(upper.Link.Name)
}
