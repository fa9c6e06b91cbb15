package netfilter

import (
	"encoding/binary"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// protocolFieldMatch looks into the header of a protocol of which packets of
// the model have nothing but the number.
type protocolFieldMatch struct {
	proto netstack.Protocol
	what  string
}

func (m *protocolFieldMatch) match(x *traversal) tri {
	if x.p.Protocol != m.proto {
		return no
	}
	return maybe
}

func (m *protocolFieldMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), m.what) }

// tcpOptionMatch is tcp --tcp-option.
type tcpOptionMatch struct {
	option uint8
	invert bool
}

// Kinds of TCP options (RFC 9293, 7323, 2018).
const (
	tcpOptionMSS           = 2
	tcpOptionWindowScale   = 3
	tcpOptionSACKPermitted = 4
)

func (m *tcpOptionMatch) match(x *traversal) tri {
	if x.p.Protocol != netstack.ProtoTCP {
		return no
	}
	syn := x.p.TCPFlags&netstack.SYN != 0
	switch m.option {
	case tcpOptionMSS:
		return is((syn && x.p.MSS != 0) != m.invert)
	case tcpOptionWindowScale, tcpOptionSACKPermitted:
		if !syn {
			return is(m.invert) // which only open a connection
		}
	}
	return maybe
}

func (m *tcpOptionMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match tcp --tcp-option")
}

// ecnMatch is ecn.
type ecnMatch struct {
	ip, notECT bool
	ect        uint8
	on, off    netstack.TCPFlags
}

func (m *ecnMatch) set(flag netstack.TCPFlags, invert bool) {
	if invert {
		m.off |= flag
	} else {
		m.on |= flag
	}
}

func (m *ecnMatch) match(x *traversal) tri {
	if m.ip && (x.p.TOS&3 == m.ect) == m.notECT {
		return no
	}
	if m.on|m.off == 0 {
		return yes
	}
	return is(x.p.Protocol == netstack.ProtoTCP && x.p.TCPFlags&(m.on|m.off) == m.on)
}

// ipv6HeaderMatch is ipv6header. Packets of the model have nothing between the
// IPv6 header and their protocol's.
type ipv6HeaderMatch struct {
	headers      uint8
	soft, invert bool
}

func (m *ipv6HeaderMatch) match(x *traversal) tri {
	var has uint8
	switch x.p.Protocol {
	case 59: // IPPROTO_NONE
		has = ipv6Headers["none"]
	case netstack.ProtoESP:
		has = ipv6Headers["esp"]
	default:
		has = ipv6Headers["proto"]
	}
	if m.soft {
		var flip uint8
		if m.invert {
			flip = 0xff
		}
		return is((has^m.headers^flip)&m.headers == 0)
	}
	return is((has == m.headers) != m.invert)
}

// eui64Match is eui64: the source address is made from the sender's MAC.
type eui64Match struct{}

func (eui64Match) match(x *traversal) tri {
	mac := x.p.SrcMAC
	if mac == (netstack.MAC{}) {
		if x.st.In == "" || x.rs.link(x.st.In).Loopback() {
			return no
		}
		return maybe
	}
	want := [8]byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
	return is(binary.BigEndian.Uint64(want[:]) == x.src.lo)
}

func (eui64Match) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match eui64") }

// u32Match is u32: tests of four bytes somewhere in the packet.
type u32Match struct {
	tests  []u32Test
	invert bool
}

type u32Test struct {
	start  uint32
	ops    []u32Op
	ranges []u32Range
}

// u32Op is an operation on the value: '&', '<' and '>' (shifts), or '@' (the
// value moves the place from which the next one is read).
type u32Op struct {
	kind byte
	n    uint32
}

type u32Range struct{ first, last uint32 }

func (m *u32Match) match(x *traversal) tri {
	var network, transport header
	x.readHeader(baseNetwork, &network)
	x.readHeader(baseTransport, &transport)
	result := yes
	for i := range m.tests {
		switch m.tests[i].holds(x.p.Length, &network, &transport) {
		case no:
			return is(m.invert)
		case maybe:
			result = maybe
		}
	}
	if result == maybe {
		return maybe
	}
	return is(!m.invert)
}

func (m *u32Match) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match u32") }

// holds is one round of u32_match_it.
func (t *u32Test) holds(length int, network, transport *header) tri {
	at := uint32(0)
	word := func(pos uint32) (v, known uint32, ok bool) {
		if at+pos < at {
			return 0, 0, false
		}
		return headerWord(length, network, transport, at+pos)
	}
	v, known, ok := word(t.start)
	if !ok {
		return no
	}
	for _, op := range t.ops {
		switch op.kind {
		case '&':
			v, known = v&op.n, known|^op.n
		case '<':
			v, known = v<<op.n, known<<op.n|(1<<op.n-1)
		case '>':
			v, known = v>>op.n, known>>op.n|^(^uint32(0)>>op.n)
		case '@':
			if known != ^uint32(0) {
				return maybe
			}
			if at+v < at {
				return no
			}
			at += v
			if v, known, ok = word(op.n); !ok {
				return no
			}
		}
	}
	result := no
	for _, r := range t.ranges {
		// The unknown bits may all be zero, or all be one.
		low, high := v&known, v|^known
		switch {
		case r.first <= low && high <= r.last:
			return yes
		case r.last < low || high < r.first:
		default:
			result = maybe
		}
	}
	return result
}
