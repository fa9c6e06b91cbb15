package simulator

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// rejected says what the client of an association hears of the error about one of
// its packets after the INIT (sctp_v4_err_handle, sctp_v6_err_handle): f is why the
// packet was rejected. The doubt is why it may hear nothing.
func (c *conversation) rejected(e *end, s segment, f *verdict.Finding) (heard verdict.Outcome, doubt *verdict.Finding) {
	if e.notice.protocolUnreachable(c.client.Family()) {
		// It ends an association that waits for the INIT-ACK, and no other
		// (TYPE_SCTP_OTHER_ICMP_PROTO_UNREACH).
		return verdict.OutcomeTimeout, nil
	}
	heard = outcomeOf(e.notice, &c.client)
	if s.chunks != netstack.SCTPCookieEcho || !c.forgottenBefore() {
		return heard, nil
	}
	// An error that comes while the socket is in use is only noted. Between hosts that
	// are near that is so of the first one: the INIT-ACK comes while connect holds the
	// socket, and the cookie is sent when it lets go (release_sock). Then the client
	// hears of the one that is sent again, if that is rejected in the same way: but
	// connection tracking does not know its association any more.
	known := c.conntrack
	translations := c.translations
	c.walk.conntrack = make(map[*host]*netfilter.Conntrack)
	p, _, again := c.established(s)
	told := false
	if again.kind == dropped {
		told, _, _ = c.notify(again, c.flow.from, &p)
	}
	c.walk.conntrack, c.translations = known, translations
	if told && outcomeOf(again.notice, &c.client) == heard {
		return heard, nil
	}
	why := *f
	if again.finding != nil {
		why = *again.finding
	}
	why.Severity = verdict.SeverityInfo
	why.Evidence = append(slices.Clip(why.Evidence),
		"the client hears of the first COOKIE-ECHO's error, unless its socket is in use then; the next one, after net.sctp.rto_initial, belongs to no connection any more")
	return verdict.OutcomeUnknown, &why
}

// forgottenBefore says whether a host on the way has forgotten the association when
// the client sends its cookie again: both happen after three seconds, if nobody
// changed that.
func (c *conversation) forgottenBefore() bool {
	again := 3000
	if c.flow.from != nil {
		if v, known := c.flow.from.Sysctl(sctpSetting); known {
			again = int(v)
		}
	}
	for h := range c.conntrack {
		seconds, known := h.Sysctl("net.netfilter.nf_conntrack_sctp_timeout_cookie_echoed")
		if !known {
			seconds = 3
		}
		if int(seconds)*1000 <= again {
			return true
		}
	}
	return false
}

// protocolUnreachable says whether the notice is that of a host without the protocol.
func (n notice) protocolUnreachable(f netstack.Family) bool {
	if n.kind != noticeICMP {
		return false
	}
	if f == netstack.IPv6 {
		return n.typ == icmp6ParameterProblem && n.code == icmp6NextHeader
	}
	return n.typ == icmpUnreachable && n.code == icmpProtocol
}
