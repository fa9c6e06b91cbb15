package netstack

import (
	"net/netip"
	"strconv"
)

// MAC is a link-layer address; the zero value means none.
type MAC [6]byte

// String is "02:00:00:00:00:01".
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	var text [3*len(m) - 1]byte
	for i, b := range m {
		if i > 0 {
			text[3*i-1] = ':'
		}
		text[3*i], text[3*i+1] = digits[b>>4], digits[b&15]
	}
	return string(text[:])
}

// ParseMAC reads what String writes, in lower or upper case.
func ParseMAC(text string) (MAC, bool) {
	var m MAC
	if len(text) != 3*len(m)-1 {
		return m, false
	}
	for i := range m {
		if i > 0 && text[3*i-1] != ':' {
			return MAC{}, false
		}
		b, err := strconv.ParseUint(text[3*i:3*i+2], 16, 8)
		if err != nil {
			return MAC{}, false
		}
		m[i] = byte(b)
	}
	return m, true
}

// LinkFlags are the IFF_* flags that matter to a packet.
type LinkFlags uint32

// Flags, with the values of <linux/if.h>.
const (
	FlagUp           LinkFlags = 1 << 0
	FlagBroadcast    LinkFlags = 1 << 1
	FlagLoopback     LinkFlags = 1 << 3
	FlagPointToPoint LinkFlags = 1 << 4
	FlagRunning      LinkFlags = 1 << 6
	FlagNoARP        LinkFlags = 1 << 7
	FlagPromisc      LinkFlags = 1 << 8
	FlagMulticast    LinkFlags = 1 << 12
	FlagLowerUp      LinkFlags = 1 << 16
)

// Values of Link.PeerNSID that are no ids.
const (
	NoPeerNS      = -1 // the peer, if any, lives in the same namespace
	UnknownPeerNS = -2 // the peer lives in a namespace that has no id here
)

// UnknownGroup is the Group of a link whose group was printed by a name that
// only its host knows.
const UnknownGroup = 1<<32 - 1

// Link is a network interface.
type Link struct {
	Index int
	Name  string
	// Kind is IFLA_INFO_KIND ("veth", "bridge", "vxlan", …); empty for
	// physical devices and "loopback" for lo.
	Kind  string
	MAC   MAC
	MTU   int    // bytes
	Group uint32 // that rules with suppress_ifgroup name; UnknownGroup for one by a name of its host's
	Flags LinkFlags
	// OperState is IFLA_OPERSTATE in upper case: UP, DOWN, LOWERLAYERDOWN,
	// DORMANT, UNKNOWN (drivers without carrier detection), …
	OperState string
	// Peer is the index of the other end (veth) or of the lower device (VLAN,
	// macvlan, …): IFLA_LINK; 0 when there is none.
	Peer int
	// PeerNSID is the id that this namespace gives to the namespace of Peer;
	// NoPeerNS when it is this one.
	PeerNSID int
	Master   string // bridge, bond or VRF that this is a port of
	Bridge   *Bridge
	Port     *BridgePort
	VXLAN    *VXLAN
	VLAN     *VLAN
	Tunnel   *Tunnel
	Bond     *Bond
	BondPort *BondPort
	// Mode is the mode of a macvlan, macvtap, ipvlan or bond.
	Mode string
	// Flag is what an ipvlan does between its siblings: "bridge" (which the
	// empty string stands for too), "private" or "vepa".
	Flag string
	// SourceMACs are the senders that a macvlan of mode "source" takes frames of.
	SourceMACs []MAC
	VRFTable   uint32
	// Blackhole says that a netkit drops what no program of it lets pass.
	Blackhole bool
	XDP       bool // an XDP program is attached
	// SingleSegments says that TCP sends by it one segment at a time: its gso_max_segs is 1. Not so, or not told, it may send several at once.
	SingleSegments bool
}

// Bridge holds the settings of a bridge.
type Bridge struct {
	VLANFiltering bool
	// VLANProtocol is 802.1Q, or 802.1ad of a bridge of a provider.
	VLANProtocol string
	DefaultPVID  uint16
	// NFCallIPTables, NFCallIP6Tables and NFCallARPTables are the bridge's own
	// switches; the namespace's sysctls net.bridge.bridge-nf-call-* are the usual ones.
	NFCallIPTables, NFCallIP6Tables, NFCallARPTables bool
	MulticastSnooping                                bool
}

// BridgePort holds the settings of a port of a bridge.
type BridgePort struct {
	// State is BR_STATE_*: 0 disabled, 1 listening, 2 learning, 3 forwarding,
	// 4 blocking.
	State                                               int
	Hairpin, Isolated, Learning, Flood, ProxyARP, Guard bool
	// NoMulticastFlood and NoBroadcastFlood are the negations of mcast_flood and
	// bcast_flood, which are on unless somebody turned them off.
	NoMulticastFlood, NoBroadcastFlood bool
	NeighSuppress, Locked, VLANTunnel  bool
	// NeighVLANSuppress says that VLANs have switches of their own in place of NeighSuppress.
	NeighVLANSuppress, ProxyARPWiFi bool
	// BackupPort is the port that takes what is for stations behind this one when it has no carrier; empty for none.
	BackupPort string
}

// BRStateForwarding is the port state that passes packets.
const BRStateForwarding = 3

// VXLAN holds the settings of a VXLAN device.
type VXLAN struct {
	VNI                                       uint32
	Local, Group                              netip.Addr
	Port                                      uint16
	Underlay                                  string // device, when bound to one
	Learning, L3Miss, L2Miss, Proxy, External bool
	VNIFilter                                 bool
	// TTL and TOS of what it sends; TTL 0 is the default, TOS 1 that of the
	// packet inside.
	TTL, TOS uint8
	// DF is "set", "inherit", or empty for no.
	DF string
	// SrcPorts is the range of the ports that it sends from, without its end; zero where that is the host's.
	SrcPorts [2]uint16
	// NoChecksum6 has it send UDP over IPv6 without checksums, and TakesNoChecksum6 take that.
	NoChecksum6, TakesNoChecksum6 bool
	// RemoteChecksum is set when checksums of the packets inside are offloaded to the other end, one way or the other.
	RemoteChecksum bool
}

// Tunnel holds the settings of a tunnel of IP, SIT or GRE.
type Tunnel struct {
	Local, Remote netip.Addr
	Underlay      string // device, when bound to one
	// TTL and TOS of what it sends; TTL 0 and TOS 1 are those of the packet
	// inside.
	TTL, TOS uint8
	// PMTUDisc sets DF on all that it sends.
	PMTUDisc bool
	// InKey and OutKey are those of GRE; nil without.
	InKey, OutKey *uint32
	// InChecksum to OutSequence are options of GRE.
	InChecksum, OutChecksum, InSequence, OutSequence bool
	// EncapLimit says that an ip6tnl adds an option header.
	EncapLimit bool
	// Protocol restricts what an ip6tnl carries: "ip6ip6", "ipip6" or "any"; and what a sit takes: "ip6ip", "ipip" or "any".
	Protocol string
	// External is set when programs or routes say where each packet goes.
	External bool
	// Encap is the further encapsulation, "fou" or "gue"; empty for none.
	Encap string
}

// Bond holds the settings of a bond; its mode is Link.Mode.
type Bond struct {
	ActiveSlave string // of the modes that use one at a time
	Aggregator  uint16 // the active one, of 802.3ad
}

// BondPort holds the state of a port of a bond.
type BondPort struct {
	Active     bool // not BACKUP
	Up         bool // as the link monitoring sees it
	Aggregator uint16
}

// VLAN holds the settings of an 802.1Q device.
type VLAN struct {
	ID       uint16
	Protocol string // 802.1Q or 802.1ad
}

// Up says whether the interface is administratively up.
func (l *Link) Up() bool { return l.Flags&FlagUp != 0 }

// NoARP says whether it asks for no neighbours and answers for none.
func (l *Link) NoARP() bool { return l.Flags&FlagNoARP != 0 }

// Carrier says whether the lower layer is up, as netif_carrier_ok sees it.
func (l *Link) Carrier() bool { return l.Flags&FlagLowerUp != 0 }

// Loopback says whether this is lo.
func (l *Link) Loopback() bool { return l.Flags&FlagLoopback != 0 }

// Address is an address of an interface.
type Address struct {
	Dev    string
	Prefix netip.Prefix // the local address with the prefix's length
	Peer   netip.Addr   // the other end of a point-to-point link, if given
	Scope  Scope
	Flags  AddressFlags
}

// AddressFlags are IFA_F_* flags.
type AddressFlags uint32

// Address flags that matter, with the values of <linux/if_addr.h>.
const (
	AddrSecondary     AddressFlags = 0x01 // of IPv4
	AddrTemporary     AddressFlags = 0x01 // of IPv6
	AddrNoDAD         AddressFlags = 0x02
	AddrOptimistic    AddressFlags = 0x04
	AddrDADFailed     AddressFlags = 0x08
	AddrDeprecated    AddressFlags = 0x20
	AddrTentative     AddressFlags = 0x40
	AddrPermanent     AddressFlags = 0x80
	AddrNoPrefixRoute AddressFlags = 0x200
)

// Usable says whether the kernel answers for the address: not tentative (DAD
// still runs), unless optimistic, and DAD has not failed.
func (a *Address) Usable() bool {
	return a.Flags&AddrDADFailed == 0 && (a.Flags&AddrTentative == 0 || a.Flags&AddrOptimistic != 0)
}

// Scope is a route's or an address' scope (RT_SCOPE_*).
type Scope uint8

// Scopes.
const (
	ScopeGlobal  Scope = 0
	ScopeSite    Scope = 200
	ScopeLink    Scope = 253
	ScopeHost    Scope = 254
	ScopeNowhere Scope = 255
)

// NeighbourState is a set of NUD_* bits.
type NeighbourState uint16

// Neighbour states, with the values of <linux/neighbour.h>.
const (
	NUDIncomplete NeighbourState = 0x01
	NUDReachable  NeighbourState = 0x02
	NUDStale      NeighbourState = 0x04
	NUDDelay      NeighbourState = 0x08
	NUDProbe      NeighbourState = 0x10
	NUDFailed     NeighbourState = 0x20
	NUDNoARP      NeighbourState = 0x40
	NUDPermanent  NeighbourState = 0x80
)

// Neighbour is an entry of the ARP or NDP cache.
type Neighbour struct {
	Dev   string
	IP    netip.Addr
	MAC   MAC
	State NeighbourState
	Proxy bool
}

// Resolved says whether the entry has a link-layer address to send to.
func (n *Neighbour) Resolved() bool {
	const valid = NUDReachable | NUDStale | NUDDelay | NUDProbe | NUDNoARP | NUDPermanent
	return n.State&valid != 0
}

// Fixed says whether the entry has an address that nobody is asked for.
func (n *Neighbour) Fixed() bool { return n.State&(NUDNoARP|NUDPermanent) != 0 }

// FDBEntry is an entry of a bridge's or a VXLAN device's forwarding database.
type FDBEntry struct {
	Dev    string // port, or the bridge or VXLAN device itself
	Master string // bridge that the entry belongs to; empty for the device's own
	MAC    MAC
	VLAN   uint16
	Dst    netip.Addr // remote VTEP
	VNI    uint32
	Port   uint16
	Via    string
	// NextHopID names a group of nexthop objects in the place of Dst; 0 for none.
	NextHopID uint32
	// State is the neighbour state; NUDPermanent with Local for the bridge's
	// own addresses.
	State NeighbourState
	Local bool
	Self  bool
}

// BridgeVLAN is a VLAN that a bridge port carries.
type BridgeVLAN struct {
	Dev            string
	ID, End        uint16
	PVID, Untagged bool
}
