package netstack

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// RouteType says what a route does with a packet (RTN_*).
type RouteType string

// Route types, in the words of ip(8).
const (
	RouteUnicast     RouteType = "unicast"
	RouteLocal       RouteType = "local"
	RouteBroadcast   RouteType = "broadcast"
	RouteAnycast     RouteType = "anycast"
	RouteMulticast   RouteType = "multicast"
	RouteBlackhole   RouteType = "blackhole"
	RouteUnreachable RouteType = "unreachable"
	RouteProhibit    RouteType = "prohibit"
	RouteThrow       RouteType = "throw"
	RouteNAT         RouteType = "nat"
)

// Dropping says whether routes of the type lead nowhere. IPv6 gives them lo as a device,
// IPv4 none.
func (t RouteType) Dropping() bool {
	switch t {
	case RouteBlackhole, RouteUnreachable, RouteProhibit, RouteThrow:
		return true
	}
	return false
}

// Well-known tables.
const (
	TableDefault uint32 = 253
	TableMain    uint32 = 254
	TableLocal   uint32 = 255
)

// Route is an entry of a routing table. A large cluster has millions of them: small fields
// are next to each other.
type Route struct {
	Type     RouteType
	Dst      netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Src      netip.Prefix // IPv6 source-specific routes; invalid otherwise
	PrefSrc  netip.Addr
	Table    uint32
	Metric   uint32 // priority: lower wins
	Family   Family
	Scope    Scope
	Protocol uint8 // RTPROT_*
	TOS      uint8
	HopLimit uint8 // of packets that the host sends; 0 when not set
	// NextHopID refers to a nexthop object instead (NextHops is then what the
	// kernel printed, possibly nothing).
	NextHopID uint32
	// NextHops has one entry for a plain route, none for types that drop, and
	// several for multipath.
	NextHops  []NextHop
	MTU       int // bytes; 0 when not set
	AdvMSS    int // bytes; 0 when not set
	MTULocked bool
	// Cached marks IPv6 clones and exceptions (RTM_F_CLONED).
	Cached bool
	// Pref is the IPv6 router preference: medium when empty.
	Pref string
}

// String renders the route in the words of ip(8), as far as it says where packets go.
func (r *Route) String() string {
	var b strings.Builder
	if r.Type != RouteUnicast {
		b.WriteString(string(r.Type) + " ")
	}
	if r.Dst.Bits() == 0 {
		b.WriteString("default")
	} else if r.Dst.IsSingleIP() {
		b.WriteString(r.Dst.Addr().String())
	} else {
		b.WriteString(r.Dst.String())
	}
	for i, h := range r.NextHops {
		if i == 3 {
			fmt.Fprintf(&b, " … (%d ways)", len(r.NextHops))
			break
		}
		if h.Gateway.IsValid() {
			b.WriteString(" via " + h.Gateway.String())
		}
		if h.Dev != "" {
			b.WriteString(" dev " + h.Dev)
		}
	}
	switch r.Table {
	case TableMain:
	case TableLocal:
		b.WriteString(" table local")
	default:
		b.WriteString(" table " + strconv.FormatUint(uint64(r.Table), 10))
	}
	return b.String()
}

// NextHop is one way out of a route.
type NextHop struct {
	Dev      string
	Gateway  netip.Addr // of either family (RTA_VIA); invalid when on-link
	Weight   int        // 1 when not multipath
	Onlink   bool
	Dead     bool // RTNH_F_DEAD
	Linkdown bool
	// Encap is the kind of lightweight tunnel ("mpls", "ip", "seg6", "bpf"…).
	Encap string
}

// NextHopObject is an entry of `ip nexthop`.
type NextHopObject struct {
	ID        uint32
	Blackhole bool
	NextHop
	// Group lists the members of a group; empty for a single next hop.
	Group []NextHopMember
	FDB   bool
}

// NextHopMember is one member of a nexthop group.
type NextHopMember struct {
	ID     uint32
	Weight int
}

// RuleAction says what a policy rule does with a packet that it selects.
type RuleAction string

// Rule actions (FR_ACT_*), in the words of ip(8).
const (
	RuleLookup      RuleAction = "lookup"
	RuleGoto        RuleAction = "goto"
	RuleNop         RuleAction = "nop"
	RuleBlackhole   RuleAction = "blackhole"
	RuleUnreachable RuleAction = "unreachable"
	RuleProhibit    RuleAction = "prohibit"
)

// Rule is a policy routing rule.
type Rule struct {
	Family   Family
	Priority uint32
	Invert   bool
	// Src and Dst are invalid when the rule does not look at them.
	Src, Dst netip.Prefix
	IIF, OIF string
	Mark     uint32
	Mask     uint32 // 0 when the rule does not look at the mark
	// TOS is the older selector: IPv4 compares three bits of a packet's DSCP with
	// it. 0 when the rule does not look at it.
	TOS uint8
	// DSCP selects by the six bits (Linux 6.13); nil when not looked at.
	DSCP *MaskedByte
	// FlowLabel selects by that of IPv6; nil when not looked at.
	FlowLabel *MaskedLabel
	IPProto   uint8
	// SPort and DPort are inclusive ranges; nil when not looked at. With a mask
	// (Linux 6.15) only those bits of the first port are compared.
	SPort, DPort         *PortRange
	SPortMask, DPortMask uint16
	UID                  *UIDRange
	L3MDev               bool
	TunnelID             uint64
	Action               RuleAction
	Table                uint32
	Goto                 uint32
	// SuppressPrefixLen rejects a result whose prefix is this long or shorter;
	// -1 when not set.
	SuppressPrefixLen int
	SuppressIfGroup   int // -1 when not set
	Protocol          uint8
}

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// Contains says whether p is in the range.
func (r PortRange) Contains(p uint16) bool { return r.First <= p && p <= r.Last }

// MaskedByte is a value of which the bits of the mask count.
type MaskedByte struct{ Value, Mask uint8 }

// MaskedLabel is an IPv6 flow label of which the bits of the mask count.
type MaskedLabel struct{ Value, Mask uint32 }

// UIDRange is an inclusive range of user ids.
type UIDRange struct{ First, Last uint32 }
