package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Duplicate sends a copy of the client's first packet to a neighbour (TEE). What
// becomes of the copy is kept for the case that its sender is told. Copies are
// not copied again, and those of later packets tell nobody who listens.
func (l *leg) Duplicate(at netfilter.Hook, to netip.Addr, dev string) {
	if !l.copied || l.probe {
		return
	}
	h, p := l.host, l.packet
	p.UID, p.AnyUser = nil, false // nobody owns it
	if at == netfilter.Prerouting || at == netfilter.Input {
		p.TTL--
	}
	p.DF = true
	c := l.newLeg(p)
	defer c.done()
	c.quiet, c.depth = true, l.depth
	c.enter(h, "")
	c.packet.Mark, c.state.CT = p.Mark, netfilter.CTUntracked
	// nf_dup_ipv4_route: no way, no copy.
	c.route = h.fib.Lookup(fib.Key{Dst: to, TOS: p.TOS, OIF: dev})
	if !c.route.Found() || c.route.Unknown != "" || c.route.LoopsBack() {
		return
	}
	c.pickNextHop()
	if !c.next.Gateway.IsValid() {
		c.next.Gateway = to // FLOWI_FLAG_KNOWN_NH
	}
	if e := c.sendCopy(); e.kind == dropped && e.notice.kind == noticeICMP {
		l.walk.copies = append(l.walk.copies, e)
	}
}

// sendCopy is ip_local_out of a packet that no socket sends.
func (l *leg) sendCopy() end {
	if e, stop := l.hook(netfilter.Output, "", l.next.Dev, "", ""); stop {
		return e
	}
	return l.postrouting("")
}

// hearOfCopies says what a client hears of copies of its first packet. When it
// hears nothing else, that is what it sees; when it is answered, it depends on
// what comes first: the answer is before what a neighbour's silence causes.
func (c *conversation) hearOfCopies() {
	silent := c.path.Outcome == verdict.OutcomeTimeout || c.path.Outcome == verdict.OutcomeDelivered
	if c.path.Verdict == verdict.Unknown || !c.answered && !silent {
		return
	}
	for _, e := range c.walk.copies {
		told, _, _ := c.notify(e, c.flow.from, &c.client)
		if !told || c.answered && e.notice.late {
			continue
		}
		f := *e.finding
		f.Message = "a copy of the packet: " + f.Message
		if c.answered {
			f.Severity = verdict.SeverityUndecided
			c.path.Verdict, c.path.Outcome = verdict.Unknown, verdict.OutcomeUnknown
		} else {
			f.Severity = verdict.SeverityInfo
			c.path.Outcome = outcomeOf(e.notice, &c.client)
		}
		c.path.Findings = append(c.path.Findings, f)
		return
	}
}
