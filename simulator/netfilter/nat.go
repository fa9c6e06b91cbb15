package netfilter

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// manip is the half of the address that a hook translates: the destination on
// the way in, the source on the way out (HOOK2MANIP).
type manip uint8

const (
	manipSrc manip = iota
	manipDst
)

func manipOf(h Hook) manip {
	if h == Prerouting || h == Output {
		return manipDst
	}
	return manipSrc
}

func (c *Conn) done(m manip) bool {
	if m == manipSrc {
		return c.srcDone
	}
	return c.dstDone
}

// nat is nf_nat_inet_fn: rules decide about the first packet of a connection,
// the connection about all others.
func (x *traversal) nat(chains []*chain) Result {
	c := x.st.Conn
	if c == nil {
		return Result{}
	}
	m := manipOf(x.hook)
	if x.st.CT == CTRelated && x.st.Inner != nil {
		x.natError(c, m)
	} else {
		if (x.st.CT == CTNew || x.st.CT == CTRelated) && !c.done(m) {
			for _, ch := range chains {
				if res := x.runBase(ch); res.Action != Accept {
					return res
				}
				if c.done(m) {
					break
				}
			}
			if !c.done(m) {
				x.setupNAT(m, natRange{})
			}
		}
		x.applyNAT(c, m)
	}
	if x.hook == Output && c.tuple(x.st.Reply).Dst != c.tuple(!x.st.Reply).Src && !x.env.Reroute() {
		// nf_nat_ipv4_local_fn
		return Result{Action: Drop, Rule: Rule{Family: familyName(x.family), Table: "nat", Chain: x.hook.String(), Text: "destination translated"}, NoRoute: true}
	}
	return Result{}
}

func familyName(f netstack.Family) string {
	if f == netstack.IPv4 {
		return "ip"
	}
	return "ip6"
}

// translates says whether the connection changes this half of a packet that
// runs in the given direction (nf_nat_packet).
func (c *Conn) translates(m manip, reply bool) bool {
	if (m == manipSrc) != reply {
		return c.SrcNAT
	}
	return c.DstNAT
}

// applyNAT is nf_nat_packet. It is idempotent.
func (x *traversal) applyNAT(c *Conn, m manip) {
	if !c.translates(m, x.st.Reply) {
		return
	}
	target, ok := c.tuple(!x.st.Reply).invert()
	if !ok {
		return
	}
	if x.mangleHalf(x.p, m, &target) {
		x.sync()
		if x.st.CT != CTNew && x.st.Steps != nil {
			*x.st.Steps = append(*x.st.Steps, verdict.Step{
				Stage: "nat/" + x.hook.String(), Action: "translate as the connection", Packet: x.p.String(),
			})
		}
	}
}

// mangleHalf rewrites one half of p to that of target, and says whether
// anything changed.
func (x *traversal) mangleHalf(p *netstack.Packet, m manip, target *Tuple) bool {
	before := *p
	ports := p.HasPorts() && p.Protocol == target.Protocol
	if m == manipSrc {
		p.Src = target.Src
		if ports || isICMP(p.Protocol) && p.Protocol == target.Protocol && !icmpError(p.Protocol, p.ICMPType) {
			p.SrcPort = target.SrcPort
		}
	} else {
		p.Dst = target.Dst
		if ports {
			p.DstPort = target.DstPort
		}
	}
	return before != *p
}

// natError translates an ICMP error and the packet that it quotes
// (nf_nat_icmp_reply_translation).
func (x *traversal) natError(c *Conn, m manip) {
	if !c.translates(m, x.st.Reply) {
		return
	}
	other := c.tuple(!x.st.Reply)
	outer, ok := other.invert()
	if !ok {
		return
	}
	// The quoted packet runs the other way: its other half is translated, as
	// the packets of the opposite direction carry it.
	inner := *x.st.Inner
	x.mangleHalf(&inner, 1-m, other)
	x.st.Inner = &inner
	if x.mangleHalf(x.p, m, &outer) {
		x.sync()
		if x.st.Steps != nil {
			*x.st.Steps = append(*x.st.Steps, verdict.Step{
				Stage: "nat/" + x.hook.String(), Action: "translate as the connection", Packet: x.p.String(),
			})
		}
	}
}

// natRange is what a rule allows the new address and port to be. The zero
// value is the null binding: keep the address, and the port if possible.
type natRange struct {
	hasAddr     bool
	addr        netip.Addr // chosen already
	hasPort     bool
	first, last uint16
	hasBase     bool // port = first + (old port - base)
	base        uint16
}

// setupNAT is nf_nat_setup_info: it decides one half of the connection.
func (x *traversal) setupNAT(m manip, r natRange) {
	c := x.st.Conn
	if c.Confirmed || c.done(m) {
		return
	}
	current, ok := c.Reply.invert()
	if !ok {
		return
	}
	chosen := x.uniqueTuple(current, m, r)
	if chosen != current {
		c.Reply, _ = chosen.invert()
		if m == manipSrc {
			c.SrcNAT = true
		} else {
			c.DstNAT = true
		}
	}
	if m == manipSrc {
		c.srcDone = true
	} else {
		c.dstDone = true
	}
}

// uniqueTuple is get_unique_tuple. Where the kernel takes a random source port of
// a range, the first free one stands for all.
func (x *traversal) uniqueTuple(t Tuple, m manip, r natRange) Tuple {
	port := &t.SrcPort
	if m == manipDst {
		port = &t.DstPort
	}
	if r.hasAddr {
		if m == manipSrc {
			t.Src = r.addr
		} else {
			t.Dst = r.addr
		}
	}
	if !hasNATPort(t.Protocol) {
		return t
	}
	if r.hasPort {
		switch {
		case r.hasBase:
			*port = r.first + (*port - r.base)
			return t
		case r.first <= *port && *port <= r.last && (r.first == r.last || !x.used(t)):
			return t
		}
		for p := uint32(r.first); p <= uint32(r.last); p++ {
			if *port = uint16(p); !x.used(t) {
				return t
			}
		}
		*port = r.first
		return t
	}
	// A destination port is never changed without being asked for.
	if m == manipDst || !x.used(t) {
		return t
	}
	for p := uint32(1024); p <= 65535; p++ {
		if *port = uint16(p); !x.used(t) {
			break
		}
	}
	return t
}

func hasNATPort(p netstack.Protocol) bool {
	switch p {
	case netstack.ProtoTCP, netstack.ProtoUDP, netstack.ProtoUDPLite, netstack.ProtoSCTP:
		return true
	}
	return false
}

// used is nf_nat_used_tuple: another connection has the answers of t. It looks only
// where the zone in their direction leads to (nf_conntrack_tuple_taken).
func (x *traversal) used(t Tuple) bool {
	inv, ok := t.invert()
	if !ok || x.st.Conntrack == nil {
		return false
	}
	z := x.st.Conn.zone
	c, reply := x.st.Conntrack.find(&inv, z)
	return c != nil && c != x.st.Conn && z.of(reply) == z.of(true)
}

// natKind is the kind of a translation, in the words of a report.
type natKind string

const (
	kindDNAT       natKind = "dnat"
	kindSNAT       natKind = "snat"
	kindMasquerade natKind = "masquerade"
	kindRedirect   natKind = "redirect"
	kindNetmap     natKind = "netmap" // becomes dnat or snat
)

// natAction sets up a translation: DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP
// and their nftables equivalents.
type natAction struct {
	kind natKind
	// family restricts an action of the inet family; 0 takes both.
	family netstack.Family
	// first and last bound the new address; invalid where it is derived or kept.
	first, last netip.Addr
	prefix      netip.Prefix // of NETMAP
	ports       natRange     // without an address
	random      bool         // any port of a range is taken
}

// maxNATAlternatives is how many addresses or ports of a range are walked one by one.
const maxNATAlternatives = 64

func (a *natAction) do(x *traversal) outcome {
	if a.family != 0 && a.family != x.family {
		return outcome{}
	}
	c := x.st.Conn
	if c == nil {
		return outcome{kind: outAccept}
	}
	m := manipOf(x.hook)
	r := a.ports
	switch a.kind {
	case kindMasquerade:
		addr, ok := x.env.InterfaceAddr(x.st.Out, x.p.Dst)
		if !ok {
			return outcome{kind: outDrop}
		}
		r.hasAddr, r.addr = true, addr
	case kindRedirect:
		addr, ok := x.redirectAddr()
		if !ok {
			return outcome{kind: outDrop}
		}
		r.hasAddr, r.addr = true, addr
	case kindNetmap:
		old := x.dst
		if m == manipSrc {
			old = x.src
		}
		mask := prefixMask(a.prefix.Bits(), addrWidth(x.family))
		r.hasAddr, r.addr = true, old.and(mask.not()).or(addrBits(a.prefix.Addr()).and(mask)).addr(x.family)
	default:
		if a.first.IsValid() {
			addr, ok := a.choose(x)
			if !ok {
				return newUnknownAction("target " + string(a.kind) + " to a range of addresses").do(x)
			}
			r.hasAddr, r.addr = true, addr
		}
	}
	if m == manipDst && !x.drawPort(&r, a.random) {
		return newUnknownAction("target " + string(a.kind) + " to a range of ports").do(x)
	}
	x.translate(a.kind, m, r)
	return outcome{kind: outAccept}
}

// drawPort narrows a range of destination ports to the one that the kernel takes where it draws one
// (nf_nat_l4proto_unique_tuple). It says false when there are too many.
func (x *traversal) drawPort(r *natRange, random bool) bool {
	old := x.p.DstPort
	switch {
	case !r.hasPort, r.hasBase, r.first >= r.last, !hasNATPort(x.p.Protocol):
		return true
	case random:
	case r.first <= old && old <= r.last, portsInOrder(x.env.Kernel()):
		return true
	}
	n := int(r.last-r.first) + 1
	if n > maxNATAlternatives {
		return false
	}
	port := r.first + uint16(x.env.Pick(x.place(), equalWeights(n)))
	r.first, r.last = port, port
	return true
}

// portsInOrder says whether the kernel of that release tries destination ports of a range from the first on. Linux 5.0
// to 6.7 drew one ("netfilter: nat: restore default DNAT behavior" ended that); before, it went on from where it was.
func portsInOrder(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major > 6 || major == 6 && minor >= 8
}

func equalWeights(n int) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = 1 / float64(n)
	}
	return weights
}

// choose picks an address of the range. The kernel hashes the addresses with
// a secret: any of them is as likely.
func (a *natAction) choose(x *traversal) (netip.Addr, bool) {
	if a.first == a.last {
		return a.first, true
	}
	first, last := addrBits(a.first), addrBits(a.last)
	n := last.minus(first)
	if n >= maxNATAlternatives {
		return netip.Addr{}, false
	}
	i := x.env.Pick(x.place(), equalWeights(int(n)+1))
	return first.plus(uint64(i)).addr(x.family), true
}

func (x *traversal) redirectAddr() (netip.Addr, bool) {
	if x.hook == Output {
		if x.family == netstack.IPv4 {
			return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
		}
		return netip.IPv6Loopback(), true
	}
	return x.env.RedirectAddr(x.st.In, x.family)
}

// translate sets the mapping up, rewrites the packet and notes what happened.
func (x *traversal) translate(kind natKind, m manip, r natRange) {
	c := x.st.Conn
	if c.Confirmed || c.done(m) {
		return
	}
	before := *x.p
	x.setupNAT(m, r)
	x.applyNAT(c, m)
	x.traceRule(string(kind), *x.p != before)
	if *x.p == before || x.st.Steps == nil {
		return
	}
	if kind == kindNetmap {
		kind = kindDNAT
		if m == manipSrc {
			kind = kindSNAT
		}
	}
	t := verdict.Translation{Kind: string(kind), Where: x.st.Namespace, Rule: x.text()}
	if m == manipDst {
		t.From, t.To = half(&before, before.Dst, before.DstPort), half(x.p, x.p.Dst, x.p.DstPort)
	} else {
		t.From, t.To = half(&before, before.Src, before.SrcPort), half(x.p, x.p.Src, x.p.SrcPort)
	}
	x.st.Translations = append(x.st.Translations, t)
}

func half(p *netstack.Packet, addr netip.Addr, port uint16) string {
	if !p.HasPorts() {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, port).String()
}

// parseNATAddr reads the argument of --to-destination and --to-source:
// [ADDR[-ADDR]][:PORT[-PORT[/BASE]]], with brackets around IPv6 addresses that
// have a port.
func parseNATAddr(f netstack.Family, text string) (a natAction, ok bool) {
	addrs, ports := text, ""
	if f == netstack.IPv4 {
		for i := range text {
			if text[i] == ':' {
				addrs, ports = text[:i], text[i+1:]
				if ports == "" {
					return a, false
				}
				break
			}
		}
	} else if len(text) > 0 && text[0] == '[' {
		end := len(text)
		for i := range text {
			if text[i] == ']' {
				end = i
			}
		}
		if end == len(text) {
			return a, false
		}
		addrs = text[1:end]
		// [a]-[b]:port
		for i := 0; i+2 < len(addrs); i++ {
			if addrs[i:i+3] == "]-[" {
				addrs = addrs[:i] + "-" + addrs[i+3:]
			}
		}
		rest := text[end+1:]
		if rest != "" {
			if rest[0] != ':' || len(rest) == 1 {
				return a, false
			}
			ports = rest[1:]
		}
	} else if len(text) > 1 && text[0] == ':' && text[1] != ':' {
		addrs, ports = "", text[1:]
	}
	if addrs != "" {
		first, last := addrs, addrs
		for i := range addrs {
			if addrs[i] == '-' {
				first, last = addrs[:i], addrs[i+1:]
				break
			}
		}
		if a.first, ok = parseAddr(f, first); !ok {
			return a, false
		}
		if a.last, ok = parseAddr(f, last); !ok || a.last.Less(a.first) {
			return a, false
		}
	}
	if ports != "" {
		if a.ports, ok = parseNATPorts(ports); !ok {
			return a, false
		}
	}
	return a, addrs != "" || ports != ""
}

func parseNATPorts(text string) (r natRange, ok bool) {
	base := ""
	for i := range text {
		if text[i] == '/' {
			text, base = text[:i], text[i+1:]
			if base == "" {
				return r, false
			}
			break
		}
	}
	first, last := text, text
	for i := range text {
		if text[i] == '-' {
			first, last = text[:i], text[i+1:]
			break
		}
	}
	r.hasPort = true
	if r.first, ok = parsePort(first); !ok {
		return r, false
	}
	if r.last, ok = parsePort(last); !ok || r.last < r.first {
		return r, false
	}
	if base != "" {
		r.hasBase = true
		if r.base, ok = parsePort(base); !ok {
			return r, false
		}
	}
	return r, true
}

func parsePort(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 0, 16)
	return uint16(n), err == nil
}
