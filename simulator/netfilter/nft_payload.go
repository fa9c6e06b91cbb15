package netfilter

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftField is a field of a header.
type nftField struct {
	base           headerBase
	offset, length int // in bits
	typ            nftType
	// protocol is what the packet must be; 0 is any.
	protocol netstack.Protocol
	// etherType is what the frame must carry; 0 is anything.
	etherType uint16
	// icmp are the types of message that have the field; nil for all.
	icmp []uint8
}

// headerField finds a field by the names that nft prints (proto.c).
func headerField(protocol, field string) (nftField, bool) {
	f, ok := nftFields[protocol+" "+field]
	return f, ok
}

func linkField(offset, length int, t nftType) nftField {
	return nftField{base: baseLink, offset: offset, length: length, typ: t}
}

func networkField(etherType uint16, offset, length int, t nftType) nftField {
	return nftField{base: baseNetwork, etherType: etherType, offset: offset, length: length, typ: t}
}

func transportField(protocol netstack.Protocol, offset, length int, t nftType) nftField {
	return nftField{base: baseTransport, protocol: protocol, offset: offset, length: length, typ: t}
}

func icmpField(protocol netstack.Protocol, offset, length int, t nftType, types ...uint8) nftField {
	f := transportField(protocol, offset, length, t)
	f.icmp = types
	return f
}

// Protocols of which nothing but the number is modelled.
const (
	protoIGMP   netstack.Protocol = 2
	protoDCCP   netstack.Protocol = 33
	protoGRE    netstack.Protocol = 47
	protoAH     netstack.Protocol = 51
	protoIPComp netstack.Protocol = 108
)

// The fields of nft's proto.c. Their dependencies, which nft does not print,
// are the conditions in them.
var nftFields = map[string]nftField{
	"ether daddr": linkField(0, 48, nftMAC), "ether saddr": linkField(48, 48, nftMAC), "ether type": linkField(96, 16, nftEtherType),

	"arp htype":       networkField(etherTypeARP, 0, 16, nftInteger),
	"arp ptype":       networkField(etherTypeARP, 16, 16, nftEtherType),
	"arp hlen":        networkField(etherTypeARP, 32, 8, nftInteger),
	"arp plen":        networkField(etherTypeARP, 40, 8, nftInteger),
	"arp operation":   networkField(etherTypeARP, 48, 16, nftARPOperation),
	"arp saddr ether": networkField(etherTypeARP, 64, 48, nftMAC),
	"arp saddr ip":    networkField(etherTypeARP, 112, 32, nftIPv4),
	"arp daddr ether": networkField(etherTypeARP, 144, 48, nftMAC),
	"arp daddr ip":    networkField(etherTypeARP, 192, 32, nftIPv4),

	"ip version":   networkField(etherTypeIPv4, 0, 4, nftInteger),
	"ip hdrlength": networkField(etherTypeIPv4, 4, 4, nftInteger),
	"ip dscp":      networkField(etherTypeIPv4, 8, 6, nftDSCP),
	"ip ecn":       networkField(etherTypeIPv4, 14, 2, nftECN),
	"ip length":    networkField(etherTypeIPv4, 16, 16, nftInteger),
	"ip id":        networkField(etherTypeIPv4, 32, 16, nftInteger),
	"ip frag-off":  networkField(etherTypeIPv4, 48, 16, nftInteger),
	"ip ttl":       networkField(etherTypeIPv4, 64, 8, nftInteger),
	"ip protocol":  networkField(etherTypeIPv4, 72, 8, nftProtocol),
	"ip checksum":  networkField(etherTypeIPv4, 80, 16, nftInteger),
	"ip saddr":     networkField(etherTypeIPv4, 96, 32, nftIPv4),
	"ip daddr":     networkField(etherTypeIPv4, 128, 32, nftIPv4),

	"ip6 version":   networkField(etherTypeIPv6, 0, 4, nftInteger),
	"ip6 dscp":      networkField(etherTypeIPv6, 4, 6, nftDSCP),
	"ip6 ecn":       networkField(etherTypeIPv6, 10, 2, nftECN),
	"ip6 flowlabel": networkField(etherTypeIPv6, 12, 20, nftInteger),
	"ip6 length":    networkField(etherTypeIPv6, 32, 16, nftInteger),
	"ip6 nexthdr":   networkField(etherTypeIPv6, 48, 8, nftProtocol),
	"ip6 hoplimit":  networkField(etherTypeIPv6, 56, 8, nftInteger),
	"ip6 saddr":     networkField(etherTypeIPv6, 64, 128, nftIPv6),
	"ip6 daddr":     networkField(etherTypeIPv6, 192, 128, nftIPv6),

	"th sport": transportField(0, 0, 16, nftInteger), "th dport": transportField(0, 16, 16, nftInteger),

	"tcp sport":    transportField(netstack.ProtoTCP, 0, 16, nftInteger),
	"tcp dport":    transportField(netstack.ProtoTCP, 16, 16, nftInteger),
	"tcp sequence": transportField(netstack.ProtoTCP, 32, 32, nftInteger),
	"tcp ackseq":   transportField(netstack.ProtoTCP, 64, 32, nftInteger),
	"tcp doff":     transportField(netstack.ProtoTCP, 96, 4, nftInteger),
	"tcp reserved": transportField(netstack.ProtoTCP, 100, 4, nftInteger),
	"tcp flags":    transportField(netstack.ProtoTCP, 104, 8, nftTCPFlags),
	"tcp window":   transportField(netstack.ProtoTCP, 112, 16, nftInteger),
	"tcp checksum": transportField(netstack.ProtoTCP, 128, 16, nftInteger),
	"tcp urgptr":   transportField(netstack.ProtoTCP, 144, 16, nftInteger),

	"udp sport":    transportField(netstack.ProtoUDP, 0, 16, nftInteger),
	"udp dport":    transportField(netstack.ProtoUDP, 16, 16, nftInteger),
	"udp length":   transportField(netstack.ProtoUDP, 32, 16, nftInteger),
	"udp checksum": transportField(netstack.ProtoUDP, 48, 16, nftInteger),

	"udplite sport":    transportField(netstack.ProtoUDPLite, 0, 16, nftInteger),
	"udplite dport":    transportField(netstack.ProtoUDPLite, 16, 16, nftInteger),
	"udplite csumcov":  transportField(netstack.ProtoUDPLite, 32, 16, nftInteger),
	"udplite checksum": transportField(netstack.ProtoUDPLite, 48, 16, nftInteger),

	"sctp sport":    transportField(netstack.ProtoSCTP, 0, 16, nftInteger),
	"sctp dport":    transportField(netstack.ProtoSCTP, 16, 16, nftInteger),
	"sctp vtag":     transportField(netstack.ProtoSCTP, 32, 32, nftInteger),
	"sctp checksum": transportField(netstack.ProtoSCTP, 64, 32, nftInteger),

	"dccp sport": transportField(protoDCCP, 0, 16, nftInteger), "dccp dport": transportField(protoDCCP, 16, 16, nftInteger),

	"icmp type":     transportField(netstack.ProtoICMP, 0, 8, nftICMPType),
	"icmp code":     transportField(netstack.ProtoICMP, 8, 8, nftICMPCode),
	"icmp checksum": transportField(netstack.ProtoICMP, 16, 16, nftInteger),
	"icmp id":       icmpField(netstack.ProtoICMP, 32, 16, nftInteger, 0, 8),
	"icmp sequence": icmpField(netstack.ProtoICMP, 48, 16, nftInteger, 0, 8),
	"icmp gateway":  icmpField(netstack.ProtoICMP, 32, 32, nftIPv4, 5),
	"icmp mtu":      icmpField(netstack.ProtoICMP, 48, 16, nftInteger, 3),

	"icmpv6 type":              transportField(netstack.ProtoICMPv6, 0, 8, nftICMPv6Type),
	"icmpv6 code":              transportField(netstack.ProtoICMPv6, 8, 8, nftICMPv6Code),
	"icmpv6 checksum":          transportField(netstack.ProtoICMPv6, 16, 16, nftInteger),
	"icmpv6 id":                icmpField(netstack.ProtoICMPv6, 32, 16, nftInteger, 128, 129),
	"icmpv6 sequence":          icmpField(netstack.ProtoICMPv6, 48, 16, nftInteger, 128, 129),
	"icmpv6 mtu":               icmpField(netstack.ProtoICMPv6, 32, 32, nftInteger, 2),
	"icmpv6 packet-too-big":    icmpField(netstack.ProtoICMPv6, 32, 32, nftInteger, 2),
	"icmpv6 parameter-problem": icmpField(netstack.ProtoICMPv6, 32, 32, nftInteger, 4),
	"icmpv6 max-delay":         icmpField(netstack.ProtoICMPv6, 32, 16, nftInteger, 130, 131, 132),

	"igmp type":     transportField(protoIGMP, 0, 8, nftIGMPType),
	"esp spi":       transportField(netstack.ProtoESP, 0, 32, nftInteger),
	"esp sequence":  transportField(netstack.ProtoESP, 32, 32, nftInteger),
	"ah spi":        transportField(protoAH, 32, 32, nftInteger),
	"ah sequence":   transportField(protoAH, 64, 32, nftInteger),
	"comp cpi":      transportField(protoIPComp, 16, 16, nftInteger),
	"gre protocol":  transportField(protoGRE, 16, 16, nftEtherType),
	"comp flags":    transportField(protoIPComp, 8, 8, nftInteger),
	"ah hdrlength":  transportField(protoAH, 8, 8, nftInteger),
	"igmp mrt":      transportField(protoIGMP, 8, 8, nftInteger),
	"ah reserved":   transportField(protoAH, 16, 16, nftInteger),
	"igmp group":    transportField(protoIGMP, 32, 32, nftIPv4),
	"ah nexthdr":    transportField(protoAH, 0, 8, nftProtocol),
	"comp nexthdr":  transportField(protoIPComp, 0, 8, nftProtocol),
	"igmp checksum": transportField(protoIGMP, 16, 16, nftInteger),
}

// present says whether the packet has the field.
func (f *nftField) present(x *traversal) bool {
	if f.etherType != 0 && f.etherType != x.etherType() {
		return false
	}
	if f.base != baseTransport {
		return true
	}
	if x.st.ARP != nil || f.protocol != 0 && f.protocol != x.p.Protocol {
		return false
	}
	if f.icmp == nil {
		return true
	}
	for _, t := range f.icmp {
		if t == x.p.ICMPType {
			return true
		}
	}
	return false
}

func (f *nftField) read(x *traversal) (u128, tri) {
	if !f.present(x) {
		return u128{}, no
	}
	var h header
	if x.readHeader(f.base, &h) == no {
		return u128{}, no
	}
	return h.bits(f.offset, f.length)
}

// bitsKnown reads the field of a packet that has it, and which bits of it are
// known.
func (f *nftField) bitsKnown(x *traversal) (v, known u128) {
	var h header
	x.readHeader(f.base, &h)
	v, _ = h.bits(f.offset, f.length)
	h.data = h.known
	known, _ = h.bits(f.offset, f.length)
	return v, known
}

func (f *nftField) write(x *traversal, v u128) {
	var h header
	if !f.present(x) || x.readHeader(f.base, &h) == no || f.offset+f.length > 8*h.length {
		return
	}
	h.setBits(f.offset, f.length, v)
	x.writeHeader(f.base, &h)
}

// payloadField reads which field an expression means.
func (p *nftParser) payloadField(n *jsonNode) (f nftField, name string, err error) {
	protocol, field := n.str("protocol"), n.str("field")
	if reason := innerHeader(n); reason != "" {
		return f, string(reason), reason
	}
	if base := n.str("base"); base != "" {
		offset, ok := n.number("offset")
		length, ok2 := n.number("len")
		if !ok || !ok2 || offset < 0 || length <= 0 {
			return f, "", p.errorf(n, "payload has no offset or length")
		}
		name = "raw payload"
		f = nftField{offset: int(min(offset, 1<<20)), length: int(min(length, 1<<20))}
		switch base {
		case "ll":
			f.base = baseLink
		case "nh":
			f.base = baseNetwork
		case "th":
			f.base = baseTransport
		default:
			return f, name, notModelled(name)
		}
		if length > 128 || offset+length > 8*maxHeader {
			return f, name, notModelled(name)
		}
		p.c.looksAt(&f)
		return f, name, nil
	}
	name = protocol + " " + field
	f, ok := headerField(protocol, field)
	if !ok {
		return f, name, notModelled(name)
	}
	p.c.looksAt(&f)
	return f, name, nil
}

// innerHeader says which field of a tunnel's inner headers an expression means; "" for one of the packet's own.
func innerHeader(n *jsonNode) notModelled {
	tunnel := n.str("tunnel")
	if tunnel == "" {
		return ""
	}
	return notModelled("inner " + n.str("protocol") + " " + n.str("field") + " of " + tunnel)
}

func (p *nftParser) payload(n *jsonNode) (nftExpr, error) {
	if n.str("protocol") == "vlan" && innerHeader(n) == "" {
		// Frames of the model have no tag.
		return nftExpr{name: "vlan " + n.str("field"), get: func(*traversal) (u128, tri) { return u128{}, no }}, nil
	}
	f, name, err := p.payloadField(n)
	if err != nil {
		return nftExpr{name: name}, err
	}
	e := nftExpr{name: name, typ: f.typ, bits: f.length, field: &f, bitsKnown: f.bitsKnown}
	e.get = f.fast(name)
	if e.get == nil {
		e.get = f.read
	}
	return e, nil
}

// fast reads the fields of most rules without writing headers out.
func (f *nftField) fast(name string) func(x *traversal) (u128, tri) {
	switch name {
	case "ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr":
		want := f.etherType
		src := name == "ip saddr" || name == "ip6 saddr"
		return func(x *traversal) (u128, tri) {
			switch {
			case want != x.etherType():
				return u128{}, no
			case src:
				return x.src, yes
			}
			return x.dst, yes
		}
	case "th sport", "th dport":
		src := f.offset == 0
		return func(x *traversal) (u128, tri) {
			switch {
			case x.st.ARP != nil || !x.p.HasPorts():
				return f.read(x) // the bytes of another header
			case src:
				return word(uint64(x.p.SrcPort))
			}
			return word(uint64(x.p.DstPort))
		}
	case "tcp sport", "udp sport", "sctp sport", "tcp dport", "udp dport", "sctp dport":
		want := f.protocol
		src := f.offset == 0
		return func(x *traversal) (u128, tri) {
			switch {
			case want != x.p.Protocol:
				return u128{}, no
			case src:
				return word(uint64(x.p.SrcPort))
			}
			return word(uint64(x.p.DstPort))
		}
	}
	return nil
}

// ARP is what a packet of the Address Resolution Protocol says.
type ARP struct {
	Reply                bool
	SenderMAC, TargetMAC netstack.MAC
	Sender, Target       netip.Addr
}

func (a *ARP) header(h *header) {
	h.length = 28
	operation := byte(1)
	if a.Reply {
		operation = 2
	}
	h.put(0, 0, 1, etherTypeIPv4>>8, etherTypeIPv4&0xff, 6, 4, 0, operation)
	sender, target := a.Sender.As4(), a.Target.As4()
	if a.SenderMAC != (netstack.MAC{}) { // that of a neighbour which was not collected is not known
		h.put(8, a.SenderMAC[:]...)
	}
	h.put(14, sender[:]...)
	h.put(18, a.TargetMAC[:]...)
	h.put(24, target[:]...)
}

// addrAt reads an address of the family.
func addrAt(f netstack.Family, b []byte) netip.Addr {
	if f == netstack.IPv4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16]))
}
