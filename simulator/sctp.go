package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// sctpLength is the length of a packet of SCTP with so much data, of which rules
// see nothing (see netfilter): an INIT without parameters is the shortest.
func sctpLength(f netstack.Family, data int) int {
	const header, chunk = 12, 20
	return tcpHeaders(f) - tcpHeader + header + chunk + data
}

// associate walks what follows the INIT and its answer (RFC 9260, 5.1): the cookie
// and its acknowledgement, then a message, and its answer, which acknowledges it.
func (c *conversation) associate() {
	c.accepted = &c.server
	f := c.client.Family()
	_ = c.data(segment{length: sctpLength(f, 0), chunks: netstack.SCTPCookieEcho}) &&
		c.data(segment{back: true, length: sctpLength(f, 0), chunks: netstack.SCTPCookieAck}) &&
		c.data(segment{length: sctpLength(f, MessageSize), chunks: netstack.SCTPData}) &&
		c.data(segment{back: true, length: sctpLength(f, MessageSize), chunks: netstack.SCTPSack | netstack.SCTPData})
}

// speaksSCTP says whether the kernel of a host does: its settings are there then.
func (h *host) speaksSCTP() bool {
	if _, known := h.Sysctl(sctpSetting); known {
		return true
	}
	for i := range h.Sockets {
		if h.Sockets[i].Protocol == netstack.ProtoSCTP {
			return true
		}
	}
	return false
}

// sctpSetting is one that every namespace has whose kernel speaks SCTP.
const sctpSetting = "net.sctp.rto_initial"

// notSCTP ends the leg of a packet for a host whose kernel does not speak SCTP:
// ip_protocol_deliver_rcu, ip6_protocol_deliver_rcu.
func (l *leg) notSCTP(e end) end {
	h, p := e.host, &e.packet
	raw := *p
	raw.Protocol, raw.DstPort = netstack.ProtoRaw, uint16(netstack.ProtoSCTP)
	if s := h.socket(&raw, e.in, e.slave); s != nil {
		return l.undecided(verdict.NewFindingf(verdict.UserspaceDecides, h.where(e.in), []string{socketLine(s)},
			"a program in user space decides on %s: it takes SCTP from a raw socket", h))
	}
	end := l.drop(verdict.NewFindingf(verdict.NoListener, h.where(e.in), []string{"no setting net.sctp.*"},
		"no process listening on %s %s of %s, whose kernel has not loaded SCTP", netstack.ProtocolName(p.Protocol), netip.AddrPortFrom(p.Dst, p.DstPort), h))
	end.notice = notice{kind: noticeICMP, typ: icmpUnreachable, code: icmpProtocol}
	if p.Family() == netstack.IPv6 {
		end.notice = notice{kind: noticeICMP, typ: icmp6ParameterProblem, code: icmp6NextHeader}
	}
	return end
}
