package netfilter

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// addrTypes is a set of route types, as addrtype names them.
type addrTypes uint16

const (
	typeUnspec addrTypes = 1 << iota
	typeUnicast
	typeLocal
	typeBroadcast
	typeAnycast
	typeMulticast
	typeBlackhole
	typeUnreachable
	typeProhibit
	typeThrow
	typeNAT
	typeXResolve
)

var addrTypeNames = map[string]addrTypes{
	"UNSPEC": typeUnspec, "UNICAST": typeUnicast, "LOCAL": typeLocal, "BROADCAST": typeBroadcast, "ANYCAST": typeAnycast,
	"MULTICAST": typeMulticast, "BLACKHOLE": typeBlackhole, "UNREACHABLE": typeUnreachable, "PROHIBIT": typeProhibit,
	"THROW": typeThrow, "NAT": typeNAT, "XRESOLVE": typeXResolve,
}

func addrTypeOf(t netstack.RouteType) addrTypes {
	switch t {
	case netstack.RouteUnicast:
		return typeUnicast
	case netstack.RouteLocal:
		return typeLocal
	case netstack.RouteBroadcast:
		return typeBroadcast
	case netstack.RouteAnycast:
		return typeAnycast
	case netstack.RouteMulticast:
		return typeMulticast
	case netstack.RouteBlackhole:
		return typeBlackhole
	case netstack.RouteUnreachable:
		return typeUnreachable
	case netstack.RouteProhibit:
		return typeProhibit
	case netstack.RouteThrow:
		return typeThrow
	case netstack.RouteNAT:
		return typeNAT
	}
	return typeUnspec
}

// addrtypeMatch is addrtype.
type addrtypeMatch struct {
	src, dst             addrTypes // 0: not looked at
	invertSrc, invertDst bool
	limitIn, limitOut    bool
}

func (m *addrtypeMatch) match(x *traversal) tri {
	dev := ""
	switch {
	case m.limitIn:
		dev = x.st.In
	case m.limitOut:
		dev = x.st.Out
	}
	if m.src != 0 && x.hasType(x.p.Src, dev, m.src) == m.invertSrc {
		return no
	}
	if m.dst != 0 && x.hasType(x.p.Dst, dev, m.dst) == m.invertDst {
		return no
	}
	return yes
}

func (x *traversal) hasType(addr netip.Addr, dev string, want addrTypes) bool {
	if x.family == netstack.IPv4 {
		return want&addrTypeOf(x.env.AddrType(addr, dev)) != 0
	}
	// match_type6 asks for the kind of address first, and looks up a route
	// only for what that cannot tell: a local address is unicast, too.
	if want&typeMulticast != 0 && !addr.IsMulticast() ||
		want&typeUnicast != 0 && (addr.IsMulticast() || addr.IsUnspecified()) ||
		want&typeUnspec != 0 && !addr.IsUnspecified() {
		return false
	}
	if want&(typeAnycast|typeLocal|typeUnreachable) == 0 {
		return true
	}
	found, known := x.env.RouteType(FIBQuery{Dst: addr, Dev: dev})
	if !known { // which of several ways is taken: all are unicast or local
		found = x.env.AddrType(addr, dev)
	}
	t := addrTypeOf(found)
	if t&(typeProhibit|typeBlackhole|typeThrow) != 0 {
		t = typeUnreachable // all of them are RTF_REJECT
	}
	return want&t != 0
}

// physdevMatch is physdev.
type physdevMatch struct {
	in, out                   *ifaceMatch
	isIn, isOut, isBridged    bool
	notIn, notOut, notBridged bool
}

func (m *physdevMatch) match(x *traversal) tri { return is(m.holds(x.st)) }

func (m *physdevMatch) holds(st *State) bool {
	if !st.Bridged && st.PhysIn == "" {
		// Not a packet of a bridge: only negations hold (physdev_mt).
		return !m.isBridged && !m.isIn && !m.isOut && (m.in == nil || m.in.invert) && (m.out == nil || m.out.invert)
	}
	hasIn, hasOut := st.PhysIn != "", st.PhysOut != ""
	switch {
	case m.isBridged && !hasOut, m.notBridged && hasOut,
		m.isIn && !hasIn, m.notIn && hasIn, m.isOut && !hasOut, m.notOut && hasOut:
		return false
	}
	if m.in != nil && hasIn && m.in.matchName(st.PhysIn) == m.in.invert {
		return false
	}
	if m.out == nil {
		return true
	}
	return hasOut && m.out.matchName(st.PhysOut) != m.out.invert
}

// rpfilterMatch is rpfilter.
type rpfilterMatch struct {
	loose, validMark, acceptLocal, invert bool
}

func (m *rpfilterMatch) match(x *traversal) tri {
	if x.st.In == "lo" {
		return is(!m.invert)
	}
	if m.acceptLocal && x.env.AddrType(x.p.Src, "") == netstack.RouteLocal {
		return maybe
	}
	p := *x.p
	if !m.validMark {
		p.Mark = 0
	}
	return is(x.env.ReversePath(&p, x.st.In, !m.loose) != m.invert)
}

func (m *rpfilterMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match rpfilter --accept-local of a local source")
}

// socketMatch is socket.
type socketMatch struct {
	transparent, noWildcard, restoreMark bool
}

func (m *socketMatch) match(x *traversal) tri {
	s, known := x.env.LocalSocket(x.p, x.st.In)
	switch {
	case !known:
		return maybe
	case s == nil, !m.noWildcard && s.Local.Addr().IsUnspecified(): // socket_match
		return no
	case m.transparent && s.Transparent == nil:
		return maybe
	case m.transparent && !*s.Transparent:
		return no
	case m.restoreMark:
		return maybe // the mark is not known of sockets
	}
	return yes
}

func (m *socketMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match socket") }

// uidRange is a range of user ids that owner tests.
type uidRange struct {
	first, last uint32
	invert      bool
}

// ownerMatch is owner.
type ownerMatch struct {
	uid       *uidRange
	socket    bool // --socket-exists
	noSocket  bool // ! --socket-exists
	gid       bool // group ids are not modelled
	gidInvert bool
}

func (m *ownerMatch) match(x *traversal) tri {
	if !x.st.Local {
		// No socket: only negations hold (owner_mt).
		return is((m.uid == nil || m.uid.invert) && !m.socket && (!m.gid || m.gidInvert))
	}
	if m.noSocket {
		return no
	}
	if m.uid != nil {
		if x.p.UID == nil {
			return maybe
		}
		if u := *x.p.UID; (m.uid.first <= u && u <= m.uid.last) == m.uid.invert {
			return no
		}
	}
	if m.gid {
		return maybe
	}
	return yes
}

func (m *ownerMatch) decide(x *traversal) bool {
	what := "match owner"
	if m.uid != nil && x.p.AnyUser {
		what += " of a query without uid"
	}
	return x.env.Unknown(x.ref(), what)
}
