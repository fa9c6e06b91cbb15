package simulator

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// meetSocket looks for the socket that takes a delivered first packet.
func (l *leg) meetSocket(e end) end {
	h, p := e.host, &e.packet
	if isICMP(p.Protocol) {
		return l.answerEcho(e)
	}
	if e, missing := l.require(netstack.PartSockets); missing {
		return e
	}
	for _, q := range h.opaque.at(ofLookup, p.Family()) {
		return l.undecided(l.program(&q)) // inet_lookup_run_sk_lookup
	}
	in := l.socketDevice(&e)
	s := h.socket(p, in, e.slave)
	if s == nil && p.Protocol == netstack.ProtoSCTP && !h.speaksSCTP() {
		return l.notSCTP(e)
	}
	if s == nil {
		evidence := h.otherListeners(p)
		if _, key := h.acrossVRFs(p.Protocol); e.slave != "" && h.socket(p, e.in, "") != nil {
			evidence = append(evidence, sysctlLine(h, key))
		}
		f := verdict.NewFindingf(verdict.NoListener, h.where(e.in), evidence,
			"no process listening on %s %s of %s", netstack.ProtocolName(p.Protocol), netip.AddrPortFrom(p.Dst, p.DstPort), h)
		if u, ok := h.unserved(p); ok {
			f = u
		}
		end := l.drop(f)
		// Neither belongs to the connection from the start: a reset is TCP's own
		// packet, and UDP lets go of the connection before it complains (nf_reset_ct).
		end.notice, end.conn = notice{kind: noticeReset, tos: p.TOS}, nil
		if p.Protocol == netstack.ProtoUDP || p.Protocol == netstack.ProtoUDPLite {
			end.notice = portUnreachable(p.Family())
		}
		return end
	}
	line := socketLine(s)
	l.step("socket", "delivered", line)
	e.uid, e.mark, e.transparent, e.bound = &s.UID, l.markOf(h, s), h.transparent(s), h.answersBy(e.in, p.Protocol, s)
	if p.Protocol == netstack.ProtoUDP && s.State == netstack.SocketUnconnected && s.Local.Addr().IsUnspecified() {
		e.wildcard = line
	}
	if p.Protocol == netstack.ProtoTCP && s.SendQ > 0 && s.RecvQ > s.SendQ {
		return l.drop(verdict.NewFindingf(verdict.AcceptQueueFull, h.where(e.in), []string{line},
			"accept queue of %s on %s is full: %d of %d", s.Local, h, s.RecvQ, s.SendQ))
	}
	return e
}

// socketDevice is the device by which the packet has come for sockets that are bound
// to one. What a host sends to itself comes by that of the address, though it went
// round by lo: inet_iif, ipv6_rcv.
func (l *leg) socketDevice(e *end) string {
	if e.in == "lo" && l.route.LoopsBack() && len(l.route.NextHops) > 0 {
		return l.route.NextHops[0].Dev
	}
	return e.in
}

// answerEcho lets the kernel answer a ping.
func (l *leg) answerEcho(e end) end {
	h := e.host
	key := "net.ipv4.icmp_echo_ignore_all"
	if e.packet.Protocol == netstack.ProtoICMPv6 {
		key = "net.ipv6.icmp.echo_ignore_all"
	}
	if off, _ := h.Sysctl(key); off != 0 {
		return l.drop(verdict.NewFindingf(verdict.NoListener, h.where(e.in), []string{sysctlLine(h, key)},
			"no process listening on %s: %s does not answer echo requests", e.packet.Dst, h))
	}
	l.step("socket", "delivered", "the kernel answers echo requests")
	e.bound = h.answersBy(e.in, e.packet.Protocol, nil)
	return e
}

// socketKey is what sockets that may take new packets are found by.
type socketKey struct {
	protocol netstack.Protocol
	port     uint16
}

func keyOfSocket(s *netstack.Socket) (socketKey, bool) {
	key := socketKey{s.Protocol, s.Local.Port()}
	switch s.State {
	case netstack.SocketListen, netstack.SocketUnconnected:
		return key, true
	case netstack.SocketEstablished:
		return key, s.Protocol == netstack.ProtoUDP // which takes packets of its peer
	}
	return key, false
}

// socket finds the socket for a new packet: the lookups of inet_hashtables.c
// and udp.c, as far as they decide whether there is one. The most specific one
// is returned. slave is the port of the VRF in by which the packet came, if any.
func (h *host) socket(p *netstack.Packet, in, slave string) *netstack.Socket {
	across := slave == ""
	if !across {
		across, _ = h.acrossVRFs(p.Protocol)
	}
	var best *netstack.Socket
	bestScore := -1
	for s := range h.sockets.Each(socketKey{p.Protocol, p.DstPort}) {
		if s.State == netstack.SocketEstablished && s.Remote != netip.AddrPortFrom(p.Src, p.SrcPort) {
			continue
		}
		if s.Dev != "" && s.Dev != in && s.Dev != slave || s.Dev == "" && !across {
			continue
		}
		score := 0
		switch local := s.Local.Addr().Unmap(); {
		case local == p.Dst:
			score += 4
		case !local.IsUnspecified():
			continue
		case s.Family == netstack.IPv6 && p.Family() == netstack.IPv4 && s.V6Only,
			s.Family == netstack.IPv4 && p.Family() == netstack.IPv6:
			continue
		}
		if s.Dev != "" {
			score += 2
		}
		if s.State == netstack.SocketEstablished {
			score += 8
		}
		if s.Family == p.Family() {
			score++
		}
		if score > bestScore {
			best, bestScore = s, score
		}
	}
	return best
}

// anySocket finds the socket for a packet as rules do, which know of no VRFs. Where
// others may take it as well (SO_REUSEPORT) that are not alike, what it is is not known.
func (h *host) anySocket(p *netstack.Packet, in string) *netstack.Socket {
	s := h.socket(p, in, "")
	if s == nil || s.Transparent == h.transparent(s) {
		return s
	}
	one := *s
	one.Transparent = nil
	return &one
}

// transparent says whether the socket and all others at its place are.
func (h *host) transparent(s *netstack.Socket) *bool {
	if s.Transparent == nil {
		return nil
	}
	for other := range h.atPlaceOf(s) {
		if other.Transparent == nil || *other.Transparent != *s.Transparent {
			return nil
		}
	}
	return s.Transparent
}

// markOf is the mark of the socket that takes the flow. Others may be at its place (SO_REUSEPORT): each of them takes as
// many flows (reuseport_select_sock).
func (l *leg) markOf(h *host, s *netstack.Socket) uint32 {
	alike := true
	var marks []uint32
	for other := range h.atPlaceOf(s) {
		marks, alike = append(marks, other.Mark), alike && other.Mark == s.Mark
	}
	if alike {
		return s.Mark
	}
	weights := slices.Repeat([]float64{1 / float64(len(marks))}, len(marks))
	return marks[l.dice.ask(choice{alternatives: len(marks), weights: weights})]
}

// atPlaceOf yields the sockets that take what the socket takes, itself among them.
func (h *host) atPlaceOf(s *netstack.Socket) iter.Seq[*netstack.Socket] {
	return func(yield func(*netstack.Socket) bool) {
		for other := range h.sockets.Each(socketKey{s.Protocol, s.Local.Port()}) {
			if other.Local == s.Local && other.Remote == s.Remote && other.Dev == s.Dev && !yield(other) {
				return
			}
		}
	}
}

// otherListeners lists the sockets that nearly fit: the same port on another
// address.
func (h *host) otherListeners(p *netstack.Packet) []string {
	var list []string
	for s := range h.sockets.Each(socketKey{p.Protocol, p.DstPort}) {
		if s.State != netstack.SocketEstablished {
			list = append(list, "elsewhere: "+socketLine(s))
		}
	}
	if list == nil {
		list = []string{fmt.Sprintf("no %s socket of %s is bound to port %d", netstack.ProtocolName(p.Protocol), h, p.DstPort)}
	}
	return list
}

func socketLine(s *netstack.Socket) string {
	line := fmt.Sprintf("%s %s %s", netstack.ProtocolName(s.Protocol), s.State, s.Local)
	if s.Dev != "" {
		line += "%" + s.Dev
	}
	if s.V6Only {
		line += " v6only"
	}
	if s.Mark != 0 {
		line += fmt.Sprintf(" mark %#x", s.Mark)
	}
	return line
}

// firstSource is the address that the leg's first namespace sent from.
func (l *leg) firstSource(asked netip.Addr) netip.Addr {
	if asked.IsValid() {
		return asked
	}
	return l.source
}
