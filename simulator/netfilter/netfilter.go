// Package netfilter parses, compiles and evaluates the packet filtering rules
// of one network namespace: iptables and ip6tables of both backends, ipset,
// and native nftables. All of them meet in one pipeline: at every hook, tables
// and chains run in order of priority, connection tracking and address
// translation among them, as the kernel's nf_hook_slow does.
//
// Errors: Compile returns a *SyntaxError, with file, line and token, for text
// that is malformed. Text that is well-formed but uses something not modelled
// is not an error: the rule is kept, and Run asks its Env about both outcomes
// where such a rule could decide.
package netfilter

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// SyntaxError locates malformed input.
type SyntaxError struct {
	File  string
	Line  int    // from 1; 0 when the format has no lines (JSON: see Token)
	Token string // the offending text
	Msg   string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s at %q", e.File, e.Msg, e.Token)
	}
	return fmt.Sprintf("%s:%d: %s at %q", e.File, e.Line, e.Msg, e.Token)
}

// Hook is a place in the kernel's packet path where rules run.
type Hook uint8

// Hooks, in the order of NF_INET_*.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	numHooks
)

// Hooks of devices, which belong to no family.
const (
	Ingress = numHooks + iota
	Egress
)

// String is the name that iptables prints.
func (h Hook) String() string {
	return [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ingress", "egress"}[h]
}

// Rule identifies a rule, for reports.
type Rule struct {
	Family  string           // "ip", "ip6", "inet", "bridge", "netdev"
	Backend netstack.Backend // of iptables; empty for native nftables
	Table   string
	Chain   string
	Number  int    // from 1 within the chain; 0 for the chain's policy
	Text    string // as the tool prints it
}

// String is "filter/FORWARD rule 3: -A FORWARD -j DROP".
func (r Rule) String() string {
	if r.Number == 0 {
		return fmt.Sprintf("%s/%s policy: %s", r.Table, r.Chain, r.Text)
	}
	return fmt.Sprintf("%s/%s rule %d: %s", r.Table, r.Chain, r.Number, r.Text)
}

// Action is the fate that a hook gives to a packet.
type Action uint8

// Actions.
const (
	Accept Action = iota
	Drop
	Reject    // dropped, and the sender is told: see Result.RejectWith
	Queue     // handed to a program in user space
	Exhausted // given up at Rule: the packet met too many rules
	Divert    // sent out of another device as it is: see Result.Device
)

// Result is what happened to the packet at one hook.
type Result struct {
	Action Action
	// Rule decided, unless Action is Accept.
	Rule Rule
	// RejectWith is the kind of reject in the words of iptables
	// ("icmp-port-unreachable", "tcp-reset", "icmp6-adm-prohibited", …).
	RejectWith string
	// ByState says that the dropping Rule asks for the state of the packet's
	// connection, and the packet has it.
	ByState bool
	// NoRoute says that the packet was dropped because it had no route any more
	// after Rule's chain had changed it (ip_route_me_harder).
	NoRoute bool
	// Device and Gateway say where the packet goes to instead (fwd); without a
	// gateway the frame keeps its link-layer addresses.
	Device  string
	Gateway netip.Addr
}

// State is the packet at a hook together with everything that rules can see.
// Run changes Packet, Conn and Translations.
type State struct {
	Packet *netstack.Packet
	// In and Out are the interfaces as rules see them (a bridge, not its port);
	// empty where the hook has none.
	In, Out string
	// PhysIn and PhysOut are the bridge ports of a bridged packet.
	PhysIn, PhysOut string
	Bridged         bool
	// Conntrack is the namespace's connection table of this walk.
	Conntrack *Conntrack
	// Conn is the packet's connection: set by Run at conntrack's priority and to be
	// kept for the packet's later hooks in the same namespace (over the
	// loopback device too). Nil before that and for untracked packets.
	Conn *Conn
	// CT is the state of the packet within Conn, and Reply whether it runs
	// against the connection's original direction. Both are kept as Conn is.
	CT    CTState
	Reply bool
	// Inner is the packet that an ICMP error quotes; nil for other packets. Run
	// translates it together with Packet.
	Inner *netstack.Packet
	// ARP is set for a frame that carries no IP packet; Packet then has nothing
	// but link-layer addresses.
	ARP *ARP
	// Tagged says that the frame has a VLAN tag.
	Tagged bool
	// Local says that the packet was made in this namespace: Run sets it at
	// OUTPUT, and clears it at PREROUTING.
	Local bool
	// Balanced says that IPVS has seen the packet (skb->ipvs_property). It may
	// pass OUTPUT then without being made here.
	Balanced bool
	// Balance is the connection of a packet that IPVS has translated on its way to a
	// destination; nil for others.
	Balance *Balance
	// Proxied is the rule that has given the packet to a local proxy; nil without
	// one. It is kept as Conn is.
	Proxied *Rule
	// Namespace names the network namespace in Translations.
	Namespace string
	// Steps, when not nil, collects what each table and chain did.
	Steps *[]verdict.Step
	// Texts, when not nil, keeps the texts of rules: walks of one query meet the
	// same rules again and again.
	Texts *Texts
	// Translations collects rewritings if Steps are collected.
	Translations []verdict.Translation

	zone         zone // that conntrack will use
	zoneFromMark bool // its id is the packet's mark
	template     bool // a rule has decided how the packet is tracked
	prioritySet  bool // by a rule
	run          traversal
}

// FIBQuery is a look-up in the routing tables that a rule makes.
type FIBQuery struct {
	Src, Dst netip.Addr
	TOS      uint8
	Mark     uint32
	IIF      string // of the look-up: that of packets made here when empty
	Dev      string // that the route has to lead out of; any when empty
}

// Texts are the texts of rules and of what they do that were made before. They
// belong to one goroutine. The zero value has none.
type Texts struct {
	reader  fastJSON // of rules of nftables
	rules   map[located]string
	actions map[*verdictAction]string
	packet  string // of a packet that looked like shown
	shown   appearance
}

// appearance is what people see of a packet.
type appearance struct {
	src, dst         netip.Addr
	protocol         netstack.Protocol
	srcPort, dstPort uint16
	icmpType         uint8
	mark             uint32
}

// Packet is p.String: most packets look like the one before.
func (t *Texts) Packet(p *netstack.Packet) string {
	look := appearance{p.Src, p.Dst, p.Protocol, p.SrcPort, p.DstPort, p.ICMPType, p.Mark}
	if t.packet == "" || look != t.shown {
		t.packet, t.shown = p.String(), look
	}
	return t.packet
}

// keep returns what the map has for key, which make makes if it has nothing.
func keep[K comparable](texts *map[K]string, key K, make func(K) string) string {
	text, ok := (*texts)[key]
	if !ok {
		text = make(key)
		if *texts == nil {
			*texts = map[K]string{}
		}
		(*texts)[key] = text
	}
	return text
}

// Env answers what rules ask about the world around the packet. The simulator
// implements it; its Pick and Unknown are where a walk branches.
type Env interface {
	// Pick chooses one of the alternatives of a rule (whose text is left out)
	// that rolls dice; weights sum to 1. The walk is repeated for each alternative.
	Pick(rule Rule, weights []float64) int
	// Unknown decides whether something that cannot be known matches; both
	// ways are walked. What says what it is ("match recent", "target NFQUEUE").
	Unknown(rule Rule, what string) bool
	// Kernel is the release of the kernel that runs the rules ("6.1.0-44-amd64"), or "" if it is not known.
	Kernel() string
	// Now is when the packet is sent: when the state was read. Zero if that is not known.
	Now() time.Time
	// AddrType is the type of address that the table local gives to addr
	// (inet_dev_addr_type), looking only at dev when dev is not empty.
	AddrType(addr netip.Addr, dev string) netstack.RouteType
	// RouteType is the type of the route that a look-up in all tables finds, by
	// which IPv6 tells types of addresses (nft_fib6_eval_type, match_lookup_rt6):
	// with a device, an address is local if the device has it.
	RouteType(q FIBQuery) (t netstack.RouteType, known bool)
	// InterfaceAddr is the address that MASQUERADE uses: the primary address of
	// dev that suits a packet to dst.
	InterfaceAddr(dev string, dst netip.Addr) (netip.Addr, bool)
	// RedirectAddr is the address that REDIRECT gives to a packet that came in
	// by dev.
	RedirectAddr(dev string, family netstack.Family) (netip.Addr, bool)
	// ReversePath says whether the packet passes the reverse path test of the
	// rpfilter match and nftables' fib: strict compares the interface with in.
	ReversePath(p *netstack.Packet, in string, strict bool) bool
	// Reroute looks the route of a locally made packet up again after its
	// destination, mark or TOS changed (ip_route_me_harder). What else is in OUTPUT
	// goes on to see the interface of before. It says false when there is no route.
	Reroute() bool
	// LocalSocket is the local socket that would take the packet, which came in by dev
	// if that is not empty (the socket match); nil if there is none.
	LocalSocket(p *netstack.Packet, dev string) (s *netstack.Socket, known bool)
	// Proxy says whether the packet, which came in by dev, belongs to a transparent
	// proxy: to a socket of its connection, or else to one that listens at an address
	// (the packet's own, or an interface's, if that is not valid) and port.
	Proxy(p *netstack.Packet, addr netip.Addr, port uint16, dev string) bool
	// FIBDevice is the device by which a packet would leave (nft_fib4_eval); empty
	// when none is found, or the one that the query is bound to is not among
	// them.
	FIBDevice(q FIBQuery) (dev string, known bool)
	// OutMTU is the MTU of the packet's route in bytes, and that of the route
	// back to its source (TCPMSS --clamp-mss-to-pmtu uses the smaller one); 0
	// when not known.
	OutMTU(st *State) int
	// Duplicate sends a copy of the packet to a neighbour, by dev if that is not
	// empty (nf_dup_ipv4, nf_dup_ipv6).
	Duplicate(hook Hook, to netip.Addr, dev string)
}
