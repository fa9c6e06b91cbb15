package netstack

import "net/netip"

// Protocol is an IP protocol number.
type Protocol uint8

// Protocols with ports or types that rules look at.
const (
	ProtoICMP    Protocol = 1
	ProtoTCP     Protocol = 6
	ProtoUDP     Protocol = 17
	ProtoESP     Protocol = 50
	ProtoICMPv6  Protocol = 58
	ProtoSCTP    Protocol = 132
	ProtoUDPLite Protocol = 136
	// ProtoRaw is that of a raw socket, whose port is the number of the protocol
	// that it takes.
	ProtoRaw Protocol = 255
)

// SocketState is a TCP state, as ss(8) prints it in lower case ("listen",
// "established", "unconn", …).
type SocketState string

// Socket states that matter to a new packet.
const (
	SocketListen      SocketState = "listen"
	SocketUnconnected SocketState = "unconn"
	SocketEstablished SocketState = "estab"
)

// Socket is an IP socket.
type Socket struct {
	Family   Family // of the socket: an IPv6 socket may take IPv4 packets too
	Protocol Protocol
	State    SocketState
	// Local has the unspecified address when bound to all.
	Local  netip.AddrPort
	Remote netip.AddrPort
	Dev    string // SO_BINDTODEVICE
	V6Only bool
	// Transparent is IP_TRANSPARENT; nil where it is not known, as of kernels
	// before Linux 5.10, which do not tell.
	Transparent *bool
	// Mark is SO_MARK, which what it sends has. It is 0 as well where it is not known: of kernels that show sockets in
	// /proc alone.
	Mark  uint32
	UID   uint32
	Inode uint64
	// RecvQ and SendQ are, for a listening TCP socket, the length of the accept
	// queue and its limit.
	RecvQ, SendQ uint32
	// Process is "name,pid" when known; for evidence only.
	Process string
}
