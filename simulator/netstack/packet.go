package netstack

import (
	"net/netip"
	"strconv"
)

// TCPFlags are the flag bits of a TCP header.
type TCPFlags uint8

// TCP flags.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// SCTPChunks are the types of the chunks that a packet of SCTP carries.
type SCTPChunks uint16

// Chunk types (RFC 9260): the bit of each is its number.
const (
	SCTPData       SCTPChunks = 1 << 0
	SCTPInit       SCTPChunks = 1 << 1
	SCTPInitAck    SCTPChunks = 1 << 2
	SCTPSack       SCTPChunks = 1 << 3
	SCTPAbort      SCTPChunks = 1 << 6
	SCTPCookieEcho SCTPChunks = 1 << 10
	SCTPCookieAck  SCTPChunks = 1 << 11
)

// Packet is what rules, routes and sockets can see of one IP packet.
type Packet struct {
	Src, Dst netip.Addr
	Protocol Protocol
	// SrcPort and DstPort are zero for protocols without ports; for an ICMP
	// echo SrcPort holds the identifier, as connection tracking does.
	SrcPort, DstPort   uint16
	ICMPType, ICMPCode uint8
	TCPFlags           TCPFlags
	Chunks             SCTPChunks
	Length             int  // bytes of the IP packet
	DF                 bool // don't fragment; always in effect for IPv6
	TTL                uint8
	TOS                uint8 // DSCP in the high six bits
	// MSS is the maximum segment size option of a SYN; 0 when absent.
	MSS uint16
	// GSOSize is the data of each segment, in bytes, of a packet that TCP may have sent as several segments at once: rules then see
	// one packet that is longer than Length by any number of them. 0: it is one segment.
	GSOSize uint16
	// Mark is the kernel's skb mark: it does not leave the namespace.
	Mark uint32
	// UID is the user that owns the sending socket; nil for forwarded packets.
	UID *uint32
	// AnyUser says that a socket sent it whose user nobody named: UID is nil.
	AnyUser bool
	// Bound is the device that the sending socket is bound to, as far as VRFs go;
	// empty for forwarded packets.
	Bound string
	// Embedded is the offending packet that an ICMP error quotes, with addresses
	// as on the wire at that point; nil otherwise. Connection tracking relates
	// the error to its connection by it, and translates both.
	Embedded *Packet
	// SrcMAC and DstMAC are those of the frame that carried it here.
	SrcMAC, DstMAC MAC
}

// Family returns the packet's IP version.
func (p *Packet) Family() Family { return FamilyOf(p.Dst) }

// HasPorts says whether the packet's protocol has ports.
func (p *Packet) HasPorts() bool {
	switch p.Protocol {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoUDPLite:
		return true
	}
	return false
}

// String renders the packet for people: "tcp 10.0.0.1:40000 > 10.0.0.2:80 mark 0x4000".
func (p *Packet) String() string {
	buf := make([]byte, 0, 96)
	if p.Protocol != 0 { // none is known of what ARP asks for
		buf = append(buf, ProtocolName(p.Protocol)...)
		buf = append(buf, ' ')
	}
	buf = appendEndpoint(buf, p.Src, p.SrcPort, p.HasPorts())
	buf = append(buf, " > "...)
	buf = appendEndpoint(buf, p.Dst, p.DstPort, p.HasPorts())
	if p.Protocol == ProtoICMP || p.Protocol == ProtoICMPv6 {
		buf = append(buf, " type "...)
		buf = strconv.AppendUint(buf, uint64(p.ICMPType), 10)
	}
	if p.Mark != 0 {
		buf = append(buf, " mark 0x"...)
		buf = strconv.AppendUint(buf, uint64(p.Mark), 16)
	}
	return string(buf)
}

func appendEndpoint(buf []byte, addr netip.Addr, port uint16, hasPort bool) []byte {
	if !hasPort {
		return addr.AppendTo(buf)
	}
	return netip.AddrPortFrom(addr, port).AppendTo(buf)
}

// ProtocolName is the lower-case name of a protocol, or its number.
func ProtocolName(p Protocol) string {
	switch p {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoESP:
		return "esp"
	case ProtoICMPv6:
		return "icmpv6"
	case ProtoSCTP:
		return "sctp"
	case ProtoUDPLite:
		return "udplite"
	case ProtoRaw:
		return "raw"
	}
	return strconv.Itoa(int(p))
}
