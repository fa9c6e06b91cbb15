package netfilter

import (
	"encoding/binary"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// headerBase is the header that a payload expression reads from (enum
// nft_payload_bases).
type headerBase uint8

const (
	baseLink headerBase = iota
	baseNetwork
	baseTransport
)

// maxHeader is as much of a header as is looked at.
const maxHeader = 64

// header is a header of the packet as bytes, of which some are not known: a
// TCP sequence number, a checksum.
type header struct {
	data, known [maxHeader]byte
	length      int
}

func (h *header) put(offset int, b ...byte) {
	copy(h.data[offset:], b)
	for i := range b {
		h.known[offset+i] = 0xff
	}
}

func (h *header) put16(offset int, v uint16) { h.put(offset, byte(v>>8), byte(v)) }

// bits reads length bits from offset on; both are in bits.
func (h *header) bits(offset, length int) (u128, tri) {
	if offset+length > 8*h.length {
		return u128{}, no // skb_copy_bits fails: the rule breaks off
	}
	var v u128
	result := yes
	for i := offset; i < offset+length; i++ {
		bit := byte(0x80) >> (i % 8)
		if h.known[i/8]&bit == 0 {
			result = maybe
		}
		v = v.shiftLeft(1)
		if h.data[i/8]&bit != 0 {
			v.lo |= 1
		}
	}
	return v, result
}

func (h *header) setBits(offset, length int, v u128) {
	for i := offset + length - 1; i >= offset; i-- {
		bit := byte(0x80) >> (i % 8)
		h.data[i/8] &^= bit
		if v.lo&1 != 0 {
			h.data[i/8] |= bit
		}
		v = v.shiftRight(1)
	}
}

// readHeader writes out a header of the packet. It says no when there is none.
func (x *traversal) readHeader(base headerBase, h *header) tri {
	switch base {
	case baseLink:
		return x.linkHeader(h)
	case baseNetwork:
		switch {
		case x.st.ARP != nil:
			x.st.ARP.header(h)
		case x.family == netstack.IPv4:
			ipv4Header(x.p, h)
		default:
			ipv6Header(x.p, h)
		}
		return yes
	}
	if x.st.ARP != nil {
		return no
	}
	transportHeader(x.p, h)
	return yes
}

// etherType is the protocol of the frame.
func (x *traversal) etherType() uint16 {
	switch {
	case x.st.ARP != nil:
		return etherTypeARP
	case x.family == netstack.IPv4:
		return etherTypeIPv4
	}
	return etherTypeIPv6
}

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
)

// linkHeader is the Ethernet header. In the network layer only what came in by
// an Ethernet device still has one.
func (x *traversal) linkHeader(h *header) tri {
	if !x.atDevice() && (x.st.In == "" || x.rs.link(x.st.In).Loopback()) {
		return no
	}
	h.length = 14
	var none netstack.MAC
	if x.p.DstMAC != none {
		h.put(0, x.p.DstMAC[:]...)
	}
	if x.p.SrcMAC != none {
		h.put(6, x.p.SrcMAC[:]...)
	}
	h.put16(12, x.etherType())
	return yes
}

func ipv4Header(p *netstack.Packet, h *header) {
	h.length = 20
	h.put(0, 0x45, p.TOS)
	if lengthKnown(p) {
		h.put16(2, uint16(p.Length))
	}
	var fragment uint16
	if p.DF {
		fragment = 0x4000
	}
	h.put16(6, fragment)
	h.put(8, p.TTL, byte(p.Protocol))
	src, dst := p.Src.As4(), p.Dst.As4()
	h.put(12, src[:]...)
	h.put(16, dst[:]...)
}

func ipv6Header(p *netstack.Packet, h *header) {
	h.length = 40
	h.put(0, 0x60|p.TOS>>4)
	h.data[1], h.known[1] = p.TOS<<4, 0xf0 // the flow label is not known
	if lengthKnown(p) {
		h.put16(4, uint16(p.Length-h.length))
	}
	h.put(6, byte(p.Protocol), p.TTL)
	src, dst := p.Src.As16(), p.Dst.As16()
	h.put(8, src[:]...)
	h.put(24, dst[:]...)
}

func transportHeader(p *netstack.Packet, h *header) {
	switch p.Protocol {
	case netstack.ProtoTCP:
		h.length = 20
		h.put(13, byte(p.TCPFlags))
		if p.TCPFlags&netstack.URG == 0 {
			h.put16(18, 0)
		}
	case netstack.ProtoUDP, netstack.ProtoUDPLite:
		h.length = 8
		if p.Protocol == netstack.ProtoUDP {
			h.put16(4, uint16(p.Length-ipHeader(p.Family())))
		}
	case netstack.ProtoSCTP:
		h.length = 12
	case netstack.ProtoICMP, netstack.ProtoICMPv6:
		h.length = 8
		h.put(0, p.ICMPType, p.ICMPCode)
		if p.Embedded == nil {
			h.put16(4, p.SrcPort)
		}
		return
	default:
		h.length = maxHeader // of some other protocol: nothing is known
		return
	}
	h.put16(0, p.SrcPort)
	h.put16(2, p.DstPort)
}

// ipHeader is the length of an IP header without options.
func ipHeader(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 40
	}
	return 20
}

// writeHeader takes a changed header over into the packet.
func (x *traversal) writeHeader(base headerBase, h *header) {
	p := x.p
	switch base {
	case baseLink:
		if h.known[0] != 0 {
			copy(p.DstMAC[:], h.data[:6])
		}
		if h.known[6] != 0 {
			copy(p.SrcMAC[:], h.data[6:12])
		}
	case baseNetwork:
		switch {
		case x.st.ARP != nil:
		case x.family == netstack.IPv4:
			p.TOS, p.TTL, p.Protocol = h.data[1], h.data[8], netstack.Protocol(h.data[9])
			p.DF = h.data[6]&0x40 != 0
			p.Src, p.Dst = addrAt(x.family, h.data[12:]), addrAt(x.family, h.data[16:])
		default:
			p.TOS = h.data[0]<<4 | h.data[1]>>4
			p.Protocol, p.TTL = netstack.Protocol(h.data[6]), h.data[7]
			p.Src, p.Dst = addrAt(x.family, h.data[8:]), addrAt(x.family, h.data[24:])
		}
	case baseTransport:
		switch {
		case p.HasPorts():
			p.SrcPort, p.DstPort = binary.BigEndian.Uint16(h.data[:]), binary.BigEndian.Uint16(h.data[2:])
			if p.Protocol == netstack.ProtoTCP {
				p.TCPFlags = netstack.TCPFlags(h.data[13])
			}
		case isICMP(p.Protocol):
			p.ICMPType, p.ICMPCode = h.data[0], h.data[1]
			if p.Embedded == nil {
				p.SrcPort = binary.BigEndian.Uint16(h.data[4:])
			}
		}
	}
	x.sync()
}
