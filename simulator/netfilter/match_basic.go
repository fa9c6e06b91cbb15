package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// addrMatch is -s and -d.
type addrMatch struct {
	addrMask
	src, invert bool
}

func (m *addrMatch) match(x *traversal) tri {
	a := x.dst
	if m.src {
		a = x.src
	}
	return is(m.contains(a) != m.invert)
}

// addrRangeMatch is iprange.
type addrRangeMatch struct {
	first, last u128
	src, invert bool
}

func (m *addrRangeMatch) match(x *traversal) tri {
	a := x.dst
	if m.src {
		a = x.src
	}
	return is(a.within(m.first, m.last) != m.invert)
}

// ifaceMatch is -i and -o. A name that ends in "+" is a prefix.
type ifaceMatch struct {
	name               string
	prefix, in, invert bool
}

func newIfaceMatch(text string, in, invert bool) *ifaceMatch {
	name, prefix := strings.CutSuffix(text, "+")
	return &ifaceMatch{name: name, prefix: prefix, in: in, invert: invert}
}

func (m *ifaceMatch) matchName(dev string) bool {
	return dev == m.name || m.prefix && strings.HasPrefix(dev, m.name)
}

func (m *ifaceMatch) match(x *traversal) tri {
	dev := x.st.Out
	if m.in {
		dev = x.st.In
	}
	return is(m.matchName(dev) != m.invert)
}

// protoMatch is -p.
type protoMatch struct {
	proto  netstack.Protocol
	invert bool
}

func (m *protoMatch) match(x *traversal) tri { return is((x.p.Protocol == m.proto) != m.invert) }

// portSide says which port of a packet a match looks at.
type portSide uint8

const (
	portSrc portSide = iota
	portDst
	portEither
)

// portMatch is --sport, --dport and multiport.
type portMatch struct {
	side   portSide
	ranges []netstack.PortRange
	invert bool
}

func (m *portMatch) match(x *traversal) tri {
	if !x.p.HasPorts() {
		return no
	}
	var hit bool
	switch m.side {
	case portSrc:
		hit = m.contains(x.p.SrcPort)
	case portDst:
		hit = m.contains(x.p.DstPort)
	case portEither:
		hit = m.contains(x.p.SrcPort) || m.contains(x.p.DstPort)
	}
	return is(hit != m.invert)
}

func (m *portMatch) contains(port uint16) bool {
	for _, r := range m.ranges {
		if r.Contains(port) {
			return true
		}
	}
	return false
}

// tcpFlagsMatch is --tcp-flags and --syn.
type tcpFlagsMatch struct {
	mask, set netstack.TCPFlags
	invert    bool
}

func (m *tcpFlagsMatch) match(x *traversal) tri {
	if x.p.Protocol != netstack.ProtoTCP {
		return no
	}
	return is((x.p.TCPFlags&m.mask == m.set) != m.invert)
}

// icmpMatch is --icmp-type and --icmpv6-type.
type icmpMatch struct {
	icmpType
	proto  netstack.Protocol
	invert bool
}

func (m *icmpMatch) match(x *traversal) tri {
	if x.p.Protocol != m.proto {
		return no
	}
	hit := m.any || x.p.ICMPType == m.typ && m.firstCode <= x.p.ICMPCode && x.p.ICMPCode <= m.lastCode
	return is(hit != m.invert)
}

// markMatch is mark.
type markMatch struct {
	value, mask uint32
	invert      bool
}

func (m *markMatch) match(x *traversal) tri { return is((x.p.Mark&m.mask == m.value) != m.invert) }

// connmarkMatch is connmark. Packets without a connection never match.
type connmarkMatch struct {
	value, mask uint32
	invert      bool
}

func (m *connmarkMatch) match(x *traversal) tri {
	if x.st.Conn == nil {
		return no
	}
	return is((x.st.Conn.Mark&m.mask == m.value) != m.invert)
}

// byteField is a one-byte field of the IP header.
type byteField uint8

const (
	fieldTTL byteField = iota
	fieldDSCP
	fieldTOS
)

// byteMatch is ttl, hl, dscp and tos.
type byteMatch struct {
	field             byteField
	mask, first, last uint8
	invert            bool
}

func (m *byteMatch) match(x *traversal) tri {
	var v uint8
	switch m.field {
	case fieldTTL:
		v = x.p.TTL
	case fieldDSCP:
		v = x.p.TOS >> 2
	case fieldTOS:
		v = x.p.TOS & m.mask
	}
	return is((m.first <= v && v <= m.last) != m.invert)
}

// lengthMatch is length: bytes of the IP packet.
type lengthMatch struct {
	first, last int
	invert      bool
}

func (m *lengthMatch) match(x *traversal) tri {
	if !lengthKnown(x.p) {
		return maybe
	}
	return is((m.first <= x.p.Length && x.p.Length <= m.last) != m.invert)
}

func (m *lengthMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match length of SCTP")
}

// lengthKnown says no for segments that may be sent at once, and for packets of SCTP, and errors
// about them: which parameters an association opens with, the ends choose.
func lengthKnown(p *netstack.Packet) bool {
	return p.GSOSize == 0 && p.Protocol != netstack.ProtoSCTP && (p.Embedded == nil || p.Embedded.Protocol != netstack.ProtoSCTP)
}

// mssMatch is tcpmss. A segment without the option takes the negation.
type mssMatch struct {
	first, last uint16
	invert      bool
}

func (m *mssMatch) match(x *traversal) tri {
	if x.p.Protocol != netstack.ProtoTCP {
		return no
	}
	hit := x.p.MSS != 0 && m.first <= x.p.MSS && x.p.MSS <= m.last
	return is(hit != m.invert)
}

// macMatch is mac --mac-source: only packets that came in by a device with
// link-layer addresses have one.
type macMatch struct {
	mac    netstack.MAC
	invert bool
}

func (m *macMatch) match(x *traversal) tri {
	if x.st.In == "" {
		return no
	}
	if x.p.SrcMAC == (netstack.MAC{}) {
		return maybe
	}
	return is((x.p.SrcMAC == m.mac) != m.invert)
}

func (m *macMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match mac") }

// packetKind is the link-layer type of a packet (skb->pkt_type).
type packetKind uint8

const (
	packetUnicast packetKind = iota
	packetBroadcast
	packetMulticast
	packetOtherHost
)

func (x *traversal) packetKind() packetKind {
	switch {
	case x.p.Dst.IsMulticast():
		return packetMulticast
	case x.family == netstack.IPv4 && x.env.AddrType(x.p.Dst, "") == netstack.RouteBroadcast:
		return packetBroadcast
	}
	return packetUnicast
}

// pkttypeMatch is pkttype. Of locally made packets the kernel says unicast,
// unless they come back over loopback.
type pkttypeMatch struct {
	kind   packetKind
	invert bool
}

func (m *pkttypeMatch) match(x *traversal) tri {
	kind := packetUnicast
	if !x.st.Local {
		kind = x.packetKind()
	}
	return is((kind == m.kind) != m.invert)
}

// statisticMatch is statistic: dice, or a counter whose position nobody knows.
type statisticMatch struct {
	probability float64
	invert      bool
	weights     [2]float64 // of holding, and not
}

func newStatisticMatch(probability float64, invert bool) *statisticMatch {
	m := &statisticMatch{probability: probability, invert: invert, weights: [2]float64{probability, 1 - probability}}
	if invert {
		m.weights[0], m.weights[1] = m.weights[1], m.weights[0]
	}
	return m
}

func (m *statisticMatch) match(*traversal) tri {
	switch {
	case m.probability <= 0:
		return is(m.invert)
	case m.probability >= 1:
		return is(!m.invert)
	}
	return maybe
}

func (m *statisticMatch) decide(x *traversal) bool {
	return x.env.Pick(x.place(), m.weights[:]) == 0
}
