package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// ICMP numbers that the walk makes or understands (RFC 792, RFC 4443).
const (
	icmpUnreachable   = 3
	icmpNet           = 0
	icmpHost          = 1
	icmpProtocol      = 2
	icmpPort          = 3
	icmpFragNeeded    = 4
	icmpNetProhibited = 9
	icmpProhibited    = 10
	icmpFiltered      = 13
	icmpTimeExceeded  = 11

	icmp6Unreachable  = 1
	icmp6NoRoute      = 0
	icmp6Prohibited   = 1
	icmp6Address      = 3
	icmp6Port         = 4
	icmp6Policy       = 5
	icmp6RejectRoute  = 6
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6EchoReply    = 129

	icmp6ParameterProblem = 4
	icmp6NextHeader       = 1
)

// unreachable is the ICMP error of a host that knows no way.
func unreachable(f netstack.Family, why errno) (typ, code uint8) {
	if f == netstack.IPv6 {
		return icmp6Unreachable, [...]uint8{icmp6NoRoute, icmp6Address, icmp6Prohibited, icmp6NoRoute, icmp6Prohibited}[why]
	}
	return icmpUnreachable, [...]uint8{icmpNet, icmpHost, icmpFiltered, icmpNet, icmpFiltered}[why]
}

func tooBig(f netstack.Family) (typ, code uint8) {
	if f == netstack.IPv6 {
		return icmp6TooBig, 0
	}
	return icmpUnreachable, icmpFragNeeded
}

func portUnreachable(f netstack.Family) notice {
	if f == netstack.IPv6 {
		return notice{kind: noticeICMP, typ: icmp6Unreachable, code: icmp6Port}
	}
	return notice{kind: noticeICMP, typ: icmpUnreachable, code: icmpPort}
}

// rejectNotice is what the REJECT target sends; with is in the words of
// iptables.
func rejectNotice(with string, f netstack.Family) notice {
	icmp := func(typ, code uint8) notice { return notice{kind: noticeICMP, typ: typ, code: code} }
	switch with {
	case "tcp-reset":
		return notice{kind: noticeReset, ruled: true}
	case "icmp-net-unreachable":
		return icmp(icmpUnreachable, icmpNet)
	case "icmp-host-unreachable":
		return icmp(icmpUnreachable, icmpHost)
	case "icmp-proto-unreachable":
		return icmp(icmpUnreachable, icmpProtocol)
	case "icmp-net-prohibited":
		return icmp(icmpUnreachable, icmpNetProhibited)
	case "icmp-host-prohibited":
		return icmp(icmpUnreachable, icmpProhibited)
	case "icmp-admin-prohibited":
		return icmp(icmpUnreachable, icmpFiltered)
	case "icmp6-no-route":
		return icmp(icmp6Unreachable, icmp6NoRoute)
	case "icmp6-adm-prohibited":
		return icmp(icmp6Unreachable, icmp6Prohibited)
	case "icmp6-addr-unreachable":
		return icmp(icmp6Unreachable, icmp6Address)
	case "icmp6-policy-fail":
		return icmp(icmp6Unreachable, icmp6Policy)
	case "icmp6-reject-route":
		return icmp(icmp6Unreachable, icmp6RejectRoute)
	}
	return portUnreachable(f)
}

// outcomeOf is what a client sees that gets the notice, and that asks the kernel
// for errors as they come (IP_RECVERR), as ping and resolvers do.
func outcomeOf(n notice, p *netstack.Packet) verdict.Outcome {
	if n.kind == noticeReset {
		return verdict.OutcomeRefused
	}
	if p.Family() == netstack.IPv6 {
		return icmp6Outcome(n)
	}
	switch n.typ {
	case icmpTimeExceeded:
		return verdict.OutcomeHostUnreachable
	case icmpUnreachable:
	default:
		return verdict.OutcomeTimeout
	}
	switch n.code {
	case icmpNet:
		return verdict.OutcomeNetUnreachable
	case icmpNetProhibited, icmpProhibited, icmpFiltered:
		return verdict.OutcomeProhibited
	case icmpProtocol, icmpPort:
		return verdict.OutcomeRefused
	case icmpFragNeeded:
		return verdict.OutcomeMessageTooLong
	}
	return verdict.OutcomeHostUnreachable
}

// outcomeOnceConnected is what a connected TCP socket says of the notice. It gets
// an error number, and of IPv4 none that tells who forbids from who knows no way
// (tcp_v4_err, icmp_err_convert).
func outcomeOnceConnected(n notice, p *netstack.Packet) verdict.Outcome {
	outcome := outcomeOf(n, p)
	switch {
	case outcome != verdict.OutcomeProhibited || p.Family() == netstack.IPv6:
		return outcome
	case n.code == icmpNetProhibited:
		return verdict.OutcomeNetUnreachable
	}
	return verdict.OutcomeHostUnreachable
}

func icmp6Outcome(n notice) verdict.Outcome {
	switch {
	case n.typ == icmp6TooBig:
		return verdict.OutcomeMessageTooLong
	case n.typ == icmp6TimeExceeded:
		return verdict.OutcomeHostUnreachable
	case n.typ == icmp6ParameterProblem && n.code == icmp6NextHeader:
		return verdict.OutcomeRefused // as "protocol unreachable" of IPv4
	case n.typ != icmp6Unreachable:
		return verdict.OutcomeTimeout
	}
	switch n.code {
	case icmp6NoRoute:
		return verdict.OutcomeNetUnreachable
	case icmp6Prohibited, icmp6Policy, icmp6RejectRoute:
		return verdict.OutcomeProhibited
	case icmp6Port:
		return verdict.OutcomeRefused
	}
	return verdict.OutcomeHostUnreachable
}

// errorLength is the length of an ICMP error, which quotes as much as fits into
// what every link carries (icmp_send, icmp6_send), or nearly so, where a chain of
// a device or a bridge makes it (nf_reject_skb_v4_unreach, nf_reject_skb_v6_unreach).
func errorLength(quoted *netstack.Packet, unrouted bool) int {
	const header = 8
	switch f := quoted.Family(); {
	case f == netstack.IPv4 && unrouted:
		return 20 + header + min(quoted.Length, 536)
	case f == netstack.IPv4:
		return min(20+header+quoted.Length, 576)
	case unrouted:
		return 40 + header + min(quoted.Length, 1220)
	}
	return min(40+header+quoted.Length, 1280)
}

// notify walks the notice of an ended leg back to the sender of the packet, and
// says whether it gets there; doubt is why that cannot be known. original is the
// packet as its socket sent it.
func (wk *walk) notify(e end, sender *host, original *netstack.Packet) (told bool, doubt *verdict.Finding, hops []verdict.Hop) {
	if e.notice.kind == noticeNone {
		return false, nil, nil
	}
	if e.notice.doubt != nil {
		return false, e.notice.doubt, nil
	}
	if e.notice.originated {
		return true, nil, nil
	}
	p := netstack.Packet{Src: e.packet.Dst, Dst: e.packet.Src, Bound: e.answersBy(netstack.ProtoICMP)}
	if reflects(e.host, p.Family()) && !e.notice.unrouted {
		p.Mark = e.packet.Mark
	}
	if e.notice.kind == noticeReset && e.packet.Protocol == netstack.ProtoSCTP {
		p.Protocol, p.Chunks = netstack.ProtoSCTP, netstack.SCTPAbort
		p.SrcPort, p.DstPort = e.packet.DstPort, e.packet.SrcPort
		p.Length = sctpLength(p.Family(), 0)
		p.DF = true
	} else if e.notice.kind == noticeReset {
		p.Protocol = netstack.ProtoTCP
		p.SrcPort, p.DstPort = e.packet.DstPort, e.packet.SrcPort
		p.TCPFlags = netstack.RST | netstack.ACK
		p.Length = tcpHeaders(p.Family())
		p.TOS, p.TTL = e.notice.tos, e.notice.ttl
	} else {
		if e.muted() {
			const key = "net.ipv4.icmp_msgs_per_sec"
			f := verdict.NewFindingf(verdict.UnmodelledRule, e.host.where(""), []string{sysctlLine(e.host, key)},
				"whether %s tells the sender is not known: %s is 0, which mutes it once its allowance is used up", e.host, key)
			f.Remedy = "Allow errors again (sysctl -w net.ipv4.icmp_msgs_per_sec=1000, the default)."
			return false, &f, nil
		}
		quoted := e.packet
		quoted.Embedded = nil
		p.Protocol, p.ICMPType, p.ICMPCode, p.Embedded = netstack.ProtoICMP, e.notice.typ, e.notice.code, &quoted
		if p.Family() == netstack.IPv6 {
			p.Protocol = netstack.ProtoICMPv6
		}
		p.Length = errorLength(&quoted, e.notice.unrouted)
		if p.Family() == netstack.IPv4 && !e.notice.unrouted {
			// icmp_send: the TOS of what it answers, with the precedence of control messages.
			p.TOS = e.packet.TOS&0x1e | 0xc0
		}
		if !e.notice.unrouted {
			p.Src = e.errorSource()
		}
	}
	l := wk.newLeg(p)
	defer l.done()
	l.foreignSource = e.notice.ruled
	// nf_ct_attach: the error belongs to the connection of what it answers.
	if l.state.Conn = e.conn; e.conn != nil {
		l.state.CT, l.state.Reply = netfilter.CTRelated, !e.reply
	}
	l.host = e.host
	var back end
	if e.notice.port != "" {
		back = l.throwBack(&e)
	} else {
		back = l.send(e.host)
	}
	if back.kind == undecided {
		return false, back.finding, l.hops
	}
	// A sender outside of the collected world gets what leaves towards it.
	if back.kind != delivered && (back.kind != left || sender != nil) || sender != nil && back.host != sender {
		return false, nil, l.hops
	}
	if q := back.packet.Embedded; q != nil {
		return q.Src == original.Src && q.Dst == original.Dst && q.SrcPort == original.SrcPort && q.DstPort == original.DstPort, nil, l.hops
	}
	return answers(&back.packet, original), nil, l.hops
}

// muted says whether the host may send no more errors than it has allowance left for, of those that are counted: all but how
// large packets may be, and what rules on frames reject (icmp_global_allow).
func (e *end) muted() bool {
	f := e.packet.Family()
	if typ, code := tooBig(f); e.notice.unrouted || e.notice.typ == typ && (f == netstack.IPv6 || e.notice.code == code) {
		return false
	}
	perSecond, set := e.host.Sysctl("net.ipv4.icmp_msgs_per_sec")
	return set && perSecond == 0
}

// answersBy is the device that what tells of the end is bound to. A neighbour is given up on where the packet was to leave:
// its VRF is that in which the way back is looked for (icmp_route_lookup, icmp6_send).
func (e *end) answersBy(p netstack.Protocol) string {
	if e.inbound != "" && e.notice.late {
		return e.host.answersBy(e.out, p, nil)
	}
	return e.host.answersBy(e.inbound, p, nil)
}

// errorSource is the address from which the host complains: the one that was
// asked, if it is its own. It is invalid where the route back chooses it.
func (e *end) errorSource() (src netip.Addr) {
	h, p := e.host, &e.packet
	if p.Family() == netstack.IPv6 { // icmp6_send
		if a, ok := h.owns(p.Dst); ok && a.Usable() {
			return p.Dst
		}
		back := h.fib.Lookup(fib.Key{Dst: p.Src, Protocol: netstack.ProtoICMPv6, OIF: e.answersBy(netstack.ProtoICMPv6)})
		if e.inbound == "" || back.Found() && back.Route.PrefSrc.IsValid() { // icmpv6_rt_has_prefsrc
			return noAddr
		}
		src, _ = h.fib.DeviceAddress(e.inbound, noAddr, p.Src)
		return src
	}
	if e.local { // icmp_send
		return p.Dst
	}
	if on, _ := h.Sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr"); on != 0 && e.inbound != "" {
		src, _ = h.fib.LinkAddress(e.inbound, p.Src)
	}
	return src
}

// reflects is IP4_REPLY_MARK and IP6_REPLY_MARK: what the kernel itself answers
// has the mark of what it answers.
func reflects(h *host, f netstack.Family) bool {
	key := "net.ipv4.fwmark_reflect"
	if f == netstack.IPv6 {
		key = "net.ipv6.fwmark_reflect"
	}
	on, _ := h.Sysctl(key)
	return on != 0
}

func tcpHeaders(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 60
	}
	return 40
}
