package netfilter

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// CTState is the state of a packet in its connection (ctinfo of the kernel
// without the direction).
type CTState uint8

// States of a packet. CTNone is that of a packet which connection tracking has
// not seen; rules take it as invalid, as xt_conntrack does.
const (
	CTNone CTState = iota
	CTNew
	CTEstablished
	CTRelated
	CTInvalid
	CTUntracked
)

var ctStateNames = [...]string{"none", "new", "established", "related", "invalid", "untracked"}

func (s CTState) String() string { return ctStateNames[s] }

// Tuple identifies one direction of a connection.
type Tuple struct {
	Src, Dst netip.Addr
	Protocol netstack.Protocol
	// SrcPort and DstPort are ports; SrcPort is the identifier of an ICMP echo.
	SrcPort, DstPort uint16
	// ICMPType and ICMPCode are those of ICMP queries, zero otherwise.
	ICMPType, ICMPCode uint8
}

// tupleOf is nf_ct_get_tuple.
func tupleOf(p *netstack.Packet) Tuple {
	t := Tuple{Src: p.Src, Dst: p.Dst, Protocol: p.Protocol}
	switch {
	case isICMP(p.Protocol):
		t.SrcPort, t.ICMPType, t.ICMPCode = p.SrcPort, p.ICMPType, p.ICMPCode
	case p.HasPorts():
		t.SrcPort, t.DstPort = p.SrcPort, p.DstPort
	}
	return t
}

// invert is nf_ct_invert_tuple. It says false for an ICMP type that has no
// answer.
func (t Tuple) invert() (Tuple, bool) {
	inv := Tuple{Src: t.Dst, Dst: t.Src, Protocol: t.Protocol, SrcPort: t.DstPort, DstPort: t.SrcPort}
	if !isICMP(t.Protocol) {
		return inv, true
	}
	answer, ok := icmpAnswer(t.Protocol, t.ICMPType)
	inv.SrcPort, inv.DstPort = t.SrcPort, 0
	inv.ICMPType, inv.ICMPCode = answer, t.ICMPCode
	return inv, ok
}

func isICMP(p netstack.Protocol) bool {
	return p == netstack.ProtoICMP || p == netstack.ProtoICMPv6
}

// icmpAnswer maps a query to its answer and back (invmap of
// nf_conntrack_proto_icmp.c and its IPv6 sibling).
func icmpAnswer(proto netstack.Protocol, typ uint8) (uint8, bool) {
	if proto == netstack.ProtoICMPv6 {
		switch typ {
		case 128:
			return 129, true
		case 129:
			return 128, true
		case 139:
			return 140, true
		case 140:
			return 139, true
		}
		return 0, false
	}
	switch typ {
	case 0:
		return 8, true
	case 8:
		return 0, true
	case 13, 15, 17:
		return typ + 1, true
	case 14, 16, 18:
		return typ - 1, true
	}
	return 0, false
}

// icmpQuery says whether an ICMP message may begin a connection.
func icmpQuery(proto netstack.Protocol, typ uint8) bool {
	if proto == netstack.ProtoICMPv6 {
		return typ == 128 || typ == 139
	}
	return typ == 8 || typ == 13 || typ == 15 || typ == 17
}

// icmpError says whether an ICMP message quotes the packet that caused it.
func icmpError(proto netstack.Protocol, typ uint8) bool {
	if proto == netstack.ProtoICMPv6 {
		return typ < 128
	}
	switch typ {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// icmpv6Untracked says whether an ICMPv6 message belongs to neighbour or
// multicast listener discovery, which are never tracked.
func icmpv6Untracked(typ uint8) bool {
	return typ >= 130 && typ <= 137 || typ == 143
}

// Conn is one tracked connection.
type Conn struct {
	// Original is the tuple of the packet that began the connection, before any
	// translation; Reply that of its answers, as they arrive.
	Original, Reply Tuple
	Mark            uint32
	Confirmed       bool
	SeenReply       bool
	Assured         bool
	// SrcNAT and DstNAT say that the source or destination is translated.
	SrcNAT, DstNAT bool
	// srcDone and dstDone say that the mapping is decided, translated or not.
	srcDone, dstDone bool
	// existing says that the kernel knew the connection before the walk.
	existing bool
	tcp      tcpState
	sctp     sctpState
	// answeredInit says that an INIT-ACK told the tag of the client's packets.
	answeredInit bool
	zone         zone
	labels       u128
	helper       string
}

// zone tells connections with the same tuples apart: nf_conntrack_zone.
type zone struct {
	id   uint16
	only zoneDirections
}

// zoneDirections are those in which a zone counts; none stands for both.
type zoneDirections uint8

const (
	zoneOriginal zoneDirections = 1 << iota
	zoneReply
)

// of is the id of the zone in one direction: nf_ct_zone_id.
func (z zone) of(reply bool) uint16 {
	direction := zoneOriginal
	if reply {
		direction = zoneReply
	}
	if z.only != 0 && z.only&direction == 0 {
		return 0
	}
	return z.id
}

func (c *Conn) tuple(reply bool) *Tuple {
	if reply {
		return &c.Reply
	}
	return &c.Original
}

// Conntrack is the connection table of one namespace during one walk.
type Conntrack struct {
	conns []*Conn
	// entries are those that the kernel knew before; nil where they do not
	// matter, because the query leaves open which port or identifier it uses.
	entries *Entries
	// drawn and sets are what else the packets of the walk leave behind: what
	// was drawn for a flow, and what rules of nftables put into sets.
	drawn map[drawKey]int
	sets  map[*nftSet]*nftSetChange
	// ipsets are the elements that rules added (true) or removed.
	ipsets map[*ipset]map[setKey]bool
}

// NewConntrack returns an empty table.
func NewConntrack() *Conntrack { return &Conntrack{} }

// NewConntrackWith returns a table in which a kernel's entries stand already.
func NewConntrackWith(entries *Entries) *Conntrack { return &Conntrack{entries: entries} }

// Existing says whether the kernel knew the connection before the walk, and so
// no rule of the nat tables is asked about it.
func (c *Conn) Existing() bool { return c.existing }

// Destination is where the connection's packets were sent and where they go, if
// that is translated.
func (c *Conn) Destination() (from, to string, translated bool) {
	return c.Original.endpoint(false), c.Reply.endpoint(true), c.DstNAT
}

// Source is whom the connection's packets were from and whom they are from then,
// if that is translated.
func (c *Conn) Source() (from, to string, translated bool) {
	return c.Original.endpoint(true), c.Reply.endpoint(false), c.SrcNAT
}

// String renders the connection as `conntrack -L` would, by its tuples.
func (c *Conn) String() string {
	return fmt.Sprintf("%s %s > %s, answers %s > %s", netstack.ProtocolName(c.Original.Protocol),
		c.Original.endpoint(true), c.Original.endpoint(false), c.Reply.endpoint(true), c.Reply.endpoint(false))
}

func (t *Tuple) endpoint(src bool) string {
	addr, port := t.Dst, t.DstPort
	if src {
		addr, port = t.Src, t.SrcPort
	}
	if isICMP(t.Protocol) {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, port).String()
}

// Conns returns the confirmed connections, oldest first.
func (t *Conntrack) Conns() []*Conn { return t.conns }

// find returns the connection that has tuple in one of its directions, and there the
// zone: nf_ct_key_equal. A walk has a handful of connections: scanning them beats hashing.
func (t *Conntrack) find(tuple *Tuple, z zone) (c *Conn, reply bool) {
	for _, c := range t.conns {
		for _, reply := range []bool{false, true} {
			if *c.tuple(reply) == *tuple && c.zone.of(reply) == z.of(reply) {
				return c, reply
			}
		}
	}
	if c, reply = t.entries.find(tuple, z); c != nil {
		t.conns = append(t.conns, c)
	}
	return c, reply
}

// forget removes a connection: nf_ct_kill.
func (t *Conntrack) forget(c *Conn) {
	t.conns = slices.DeleteFunc(t.conns, func(other *Conn) bool { return other == c })
	if c.existing {
		t.entries = nil // which would bring it back; a walk has one connection
	}
}

// helperSysctl says whether the kernel gives helpers to connections by itself.
const helperSysctl = "net.netfilter.nf_conntrack_helper"

// ctSettings are the sysctls that connection tracking looks at.
type ctSettings struct{ tcpLoose bool }

func newCTSettings(ns *netstack.Namespace) ctSettings {
	s := ctSettings{tcpLoose: true}
	if v, ok := ns.Sysctl("net.netfilter.nf_conntrack_tcp_loose"); ok {
		s.tcpLoose = v != 0
	}
	return s
}

// track is nf_conntrack_in: it finds the packet's connection, or begins one.
func (x *traversal) track() {
	st := x.st
	if st.Conn != nil || st.CT == CTUntracked {
		return // seen before: the loopback device keeps it, or a rule said notrack
	}
	if st.Conntrack == nil {
		st.Conntrack = NewConntrack()
	}
	if st.zoneFromMark {
		st.zone.id = uint16(x.p.Mark)
	}
	if isICMP(x.p.Protocol) {
		if icmpError(x.p.Protocol, x.p.ICMPType) {
			x.trackError()
			return
		}
		if x.p.Protocol == netstack.ProtoICMPv6 && icmpv6Untracked(x.p.ICMPType) {
			st.CT = CTUntracked
			return
		}
	}
	st.Conn, st.CT, st.Reply = x.rs.ct.lookup(st.Conntrack, x.p, st.zone)
}

// trackError attaches an ICMP error to the connection of the packet that it
// quotes (nf_conntrack_inet_error).
func (x *traversal) trackError() {
	st := x.st
	st.Conn, st.CT, st.Reply = nil, CTInvalid, false
	if st.Inner == nil {
		return
	}
	inner, ok := tupleOf(st.Inner).invert()
	if !ok {
		return
	}
	c, reply := st.Conntrack.find(&inner, st.zone)
	if c == nil || c.tuple(reply).Dst != x.p.Dst {
		return
	}
	st.Conn, st.CT, st.Reply = c, CTRelated, reply
}

func (s ctSettings) lookup(t *Conntrack, p *netstack.Packet, z zone) (*Conn, CTState, bool) {
	tuple := tupleOf(p)
	c, reply := t.find(&tuple, z)
	if c != nil && p.Protocol == netstack.ProtoTCP && !reply && tcpKindOf(p.TCPFlags) == tcpSYN && (c.tcp == tcpTimeWait || c.tcp == tcpClose) {
		// nf_conntrack_tcp_packet takes it for the reopening of a closed
		// connection, and looks again.
		t.forget(c)
		c = nil
	}
	if c == nil {
		inverse, ok := tuple.invert()
		if !ok || isICMP(p.Protocol) && !icmpQuery(p.Protocol, p.ICMPType) {
			return nil, CTInvalid, false
		}
		c = &Conn{Original: tuple, Reply: inverse, zone: z}
	}
	if p.Protocol == netstack.ProtoTCP && !s.tcpSegment(c, p, reply) || p.Protocol == netstack.ProtoSCTP && !c.sctpPacket(p, reply) {
		return nil, CTInvalid, false
	}
	switch {
	case reply:
		c.SeenReply = true
		return c, CTEstablished, true
	case c.SeenReply:
		if p.Protocol == netstack.ProtoUDP || p.Protocol == netstack.ProtoUDPLite {
			c.Assured = true
		}
		return c, CTEstablished, false
	}
	return c, CTNew, false
}

// confirm is nf_conntrack_confirm: the connection has left the host, or
// reached its socket, and is known from now on. An error about a packet that did
// neither does not make it so.
func (x *traversal) confirm() {
	c := x.st.Conn
	if c == nil || c.Confirmed || x.st.Reply {
		return
	}
	c.Confirmed = true
	if x.st.Conntrack == nil {
		x.st.Conntrack = NewConntrack()
	}
	x.st.Conntrack.conns = append(x.st.Conntrack.conns, c)
}

// Untrack takes a packet from connection tracking (ip_vs_notrack).
func (st *State) Untrack() {
	if st.Conn != nil {
		st.Conn, st.CT, st.Reply = nil, CTUntracked, false
	}
}

// AlterReply tells a connection that has not left yet from where its answers
// will come, without translating anything (ip_vs_update_conntrack).
func (st *State) AlterReply(from netip.AddrPort) {
	if c := st.Conn; c != nil && !c.Confirmed && !st.Reply && hasNATPort(c.Reply.Protocol) {
		c.Reply.Src, c.Reply.SrcPort = from.Addr(), from.Port()
	}
}
