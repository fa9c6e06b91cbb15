package simulator

import (
	"fmt"
	"math"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// What the client and the server say to each other, in bytes of payload: a
// message and its answer over TCP and UDP, an echo request as ping sends it.
const (
	MessageSize = 128
	EchoSize    = 56
)

// datagramLength is the length of a packet that is one message, without TCP.
func datagramLength(p *netstack.Packet) int {
	const header = 8 // of UDP and of an echo request
	ip := tcpHeaders(p.Family()) - tcpHeader
	if isICMP(p.Protocol) {
		return ip + header + EchoSize
	}
	return ip + header + MessageSize
}

// tcpHeader is the length of a TCP header without options.
const tcpHeader = 20

// tcpOptions are those that an end offers.
type tcpOptions struct{ timestamps, sack, scaling bool }

// optionsOf are those of a host, or the kernel's defaults for one that was not
// collected.
func optionsOf(h *host) tcpOptions {
	on := func(key string) bool {
		if h == nil {
			return true
		}
		v, known := h.Sysctl(key)
		return !known || v != 0
	}
	return tcpOptions{on("net.ipv4.tcp_timestamps"), on("net.ipv4.tcp_sack"), on("net.ipv4.tcp_window_scaling")}
}

// with are the options of a connection of both.
func (o tcpOptions) with(other tcpOptions) tcpOptions {
	return tcpOptions{o.timestamps && other.timestamps, o.sack && other.sack, o.scaling && other.scaling}
}

// opening is the length of the options of a SYN, or its answer, in bytes, the
// segment size included (tcp_syn_options, tcp_synack_options).
func (o tcpOptions) opening() int {
	length := 4
	if o.timestamps {
		length += 12 // with room for "SACK permitted"
	} else if o.sack {
		length += 4
	}
	if o.scaling {
		length += 4
	}
	return length
}

// later is the length of the options of all other segments.
func (o tcpOptions) later() int {
	if o.timestamps {
		return 12
	}
	return 0
}

// segment is one segment of the established connection.
type segment struct {
	back   bool // from the server
	bulk   bool // more data follows or went before: several may be sent at once
	length int  // of the IP packet
	flags  netstack.TCPFlags
	chunks netstack.SCTPChunks
}

// exchange walks the segments of the established connection in the order of a
// client that speaks first: the end of the handshake, a message and its answer,
// then data as large as forth and back allow, with its acknowledgements. Where
// no rule tells segments apart, a full-size one in each direction stands for all.
func (c *conversation) exchange(forth, back int) {
	const data, acknowledgement = netstack.ACK | netstack.PSH, netstack.ACK
	c.accepted = &c.server
	bare, message := c.bare(), c.bare()+MessageSize
	if !c.tellsSegmentsApart() {
		if c.data(segment{length: forth, flags: data}) {
			_ = c.data(segment{back: true, length: back, flags: data})
		} else if c.path.Verdict == verdict.Degraded {
			c.answersMessage(segment{back: true, length: min(message, back), flags: data})
		}
		return
	}
	talked := c.acknowledge() &&
		c.data(segment{length: min(message, forth), flags: data}) &&
		c.data(segment{back: true, length: min(message, back), flags: data})
	if !talked {
		return
	}
	c.talked = true
	_ = c.data(segment{bulk: true, length: forth, flags: acknowledgement}) &&
		c.data(segment{bulk: true, length: forth, flags: data}) && // the last one
		c.acknowledged(segment{back: true, length: bare, flags: acknowledgement}) &&
		c.data(segment{back: true, bulk: true, length: back, flags: acknowledgement}) &&
		c.data(segment{back: true, bulk: true, length: back, flags: data}) &&
		c.acknowledged(segment{length: bare, flags: acknowledgement})
}

// answersMessage walks the answer to a message, which gets to the server where full-size segments do not. That it does not come
// back is what the path fails for.
func (c *conversation) answersMessage(s segment) {
	found := len(c.path.Findings)
	if !c.data(s) {
		list := c.path.Findings
		c.path.Findings = slices.Concat(list[found:], list[:found])
	}
}

// acknowledged walks a segment that acknowledges data. When it is lost, data is
// sent again, and its receiver says so in an option (RFC 2883): that will do.
func (c *conversation) acknowledged(s segment) bool {
	const block = 12 // "SACK" with one block, in bytes
	if o := optionsOf(c.flow.from).with(optionsOf(c.server.host)); o.sack {
		if _, _, e := c.established(s); e.kind == dropped {
			s.length += block
		}
	}
	return c.data(s)
}

// tellsSegmentsApart says whether rules of a host on the way do.
func (c *conversation) tellsSegmentsApart() bool {
	for _, hops := range [][]verdict.Hop{c.path.Hops, c.path.Reverse} {
		for i := range hops {
			if h := c.w.byName[hops[i].Namespace]; h != nil && h.filter.TellsSegmentsApart() {
				return true
			}
		}
	}
	return false
}

// acknowledge walks the last packet of the handshake. The server does without,
// since the client's first segment acknowledges, too.
func (c *conversation) acknowledge() bool {
	outcome, hops, refused := c.rebuffed()
	if !refused {
		return true
	}
	if c.quiet {
		c.failed = true
		return false
	}
	c.path.Hops = hops
	c.path.Verdict, c.path.Outcome = verdict.Unreachable, outcome
	c.path.Findings = append(c.path.Findings, hops[len(hops)-1].Findings...)
	return false
}

// rebuffed says whether the client hears an error about the last packet of the
// handshake: it is still connecting then, and takes errors as they come.
func (c *conversation) rebuffed() (outcome verdict.Outcome, hops []verdict.Hop, heard bool) {
	p, hops, e := c.established(segment{length: c.bare(), flags: netstack.ACK})
	if e.kind != dropped || e.notice.kind != noticeICMP && e.notice.kind != noticeReset {
		return "", hops, false
	}
	if told, _, _ := c.notify(e, c.flow.from, &p); !told {
		return "", hops, false
	}
	if e.notice.kind == noticeReset {
		return verdict.OutcomeReset, hops, true
	}
	return outcomeOnceConnected(e.notice, &c.client), hops, true
}

// closed says whether the client of a server that was reset is reset, too: it
// sends what was not acknowledged again, and nobody is there to take it.
func (c *conversation) closed() bool {
	if _, _, e := c.established(segment{back: true, length: c.bare(), flags: netstack.ACK}); e.kind == delivered {
		return false
	}
	_, _, e := c.established(segment{back: true, length: tcpHeaders(c.client.Family()), flags: netstack.RST})
	return e.kind == delivered
}

// probedMSS bounds the segments of a host whose TCP finds the MTU of paths out by itself (tcp_mtu_probing = 2): it loses larger
// ones without harm. With 1 it begins after three of them are lost, which its connections feel.
func probedMSS(h *host) int {
	if h != nil {
		if mode, _ := h.Sysctl("net.ipv4.tcp_mtu_probing"); mode > 1 {
			if base, ok := h.Sysctl("net.ipv4.tcp_base_mss"); ok {
				return base
			}
			return 1024 // TCP_BASE_MSS
		}
	}
	return math.MaxUint16
}

// bare is the length of a segment without data.
func (c *conversation) bare() int {
	return tcpHeaders(c.client.Family()) + optionsOf(c.flow.from).with(optionsOf(c.server.host)).later()
}

// data walks a segment of the established connection. When it is too large and
// the sender is told so, it is walked again in the size that the sender then
// uses.
func (c *conversation) data(s segment) bool {
	for range maxPMTURounds {
		p, hops, e := c.established(s)
		if e.kind == delivered {
			return true
		}
		if c.quiet {
			c.failed = true
			return false
		}
		sender := c.flow.from
		if s.back {
			sender = c.server.host
		}
		told, notice := false, []verdict.Hop(nil)
		if e.kind == dropped { // a sender outside of the collected world is told, too
			told, _, notice = c.notify(e, sender, &p)
		}
		if told && e.notice.mtu > 0 && e.notice.mtu < s.length {
			s.length = e.notice.mtu
			c.rerouted = c.rerouted || !s.back
			continue
		}
		c.dataFailed(e, s, told, hops, notice)
		return false
	}
	return true
}

// established walks one segment of the established connection.
func (c *conversation) established(s segment) (netstack.Packet, []verdict.Hop, end) {
	p := c.client
	p.MSS = 0
	if s.back {
		p = c.answer()
		p.UID = c.server.uid
	}
	p.TCPFlags, p.Chunks, p.Length, p.DF = s.flags, s.chunks, s.length, true
	if s.bulk {
		p.GSOSize = uint16(max(0, s.length-c.bare()))
	}
	l := c.newLeg(p)
	defer l.done()
	l.quiet, l.draws = c.quiet, drawsForth
	if s.back {
		l.draws = drawsBack
		e := c.returned(l, c.sendBack(l))
		l.forget(&e)
		return p, l.hops, e
	}
	l.anySource = !c.flow.packet.Src.IsValid() && !c.rerouted
	e := c.depart(l)
	if e.kind == delivered && e.host != c.server.host {
		e = l.finish(dropped, verdict.NewFindingf(verdict.DeliveredElsewhere, e.host.where(e.in), nil,
			"%s is owned by %s: the established connection goes elsewhere than its first packet", e.packet.Dst, e.host))
	}
	l.forget(&e)
	return p, l.hops, e
}

// forget takes the MTU out of an error about the way, where the sender keeps it at
// another next hop than that of the connection.
func (l *leg) forget(e *end) {
	if !l.forgetful || e.notice.mtu == 0 || e.notice.originated {
		return
	}
	e.notice.mtu = 0
	f := *e.finding
	f.Evidence = append(slices.Clip(f.Evidence), "the sender does not learn it: "+describeRoute(&l.taken[0].route))
	e.finding = &f
}

// talks says whether a message gets through where full-size segments do not.
func (c *conversation) talks(s segment) bool {
	if c.talked {
		return true
	}
	c.rerouted = false // as when the message came
	message := c.bare() + MessageSize
	if s.length <= message {
		return false
	}
	s.length = message
	_, _, e := c.established(s)
	return e.kind == delivered
}

// passesOnceTaught says whether an answer that is too large is so because the client did not know the MTU of its own tunnel's
// path when it announced its segment size: the first packet tells it (skb_dst_update_pmtu_no_confirm).
func (c *conversation) passesOnceTaught(e *end, s segment) bool {
	if !s.back || e.kind != dropped || e.finding.Code != verdict.MTUExceeded || c.taught == 0 || s.length <= c.taught {
		return false
	}
	s.length = c.taught
	_, _, smaller := c.established(s)
	return smaller.kind == delivered
}

// dataFailed notes what became of a connection that opens, but carries no
// data, or no full-size segments.
func (c *conversation) dataFailed(e end, s segment, told bool, forth, notice []verdict.Hop) {
	if s.back {
		c.path.Reverse = forth
	} else {
		c.path.Hops = forth
		if len(notice) > 0 {
			c.path.Reverse = notice
		}
	}
	f := *e.finding
	var doubt *verdict.Finding
	if c.passesOnceTaught(&e, s) {
		f.Evidence = append(slices.Clip(f.Evidence), fmt.Sprintf("the client learns MTU %d of its own tunnel from what it sends: connections after the first announce segments that fit, for ten minutes", c.taught))
	}
	switch {
	case e.kind == undecided:
		c.path.Verdict, c.path.Outcome = verdict.Unknown, verdict.OutcomeUnknown
	case c.client.Protocol != netstack.ProtoSCTP && c.talks(s):
		f.Severity = verdict.SeverityPartial
		c.path.Verdict = verdict.Degraded // small messages pass
	default:
		c.path.Verdict, c.path.Outcome = verdict.Unreachable, verdict.OutcomeTimeout
		if c.client.Protocol == netstack.ProtoSCTP {
			if told && !s.back {
				c.path.Outcome, doubt = c.rejected(&e, s, &f)
			}
			break
		}
		reset := told && e.notice.kind == noticeReset
		switch {
		case reset && !s.back, reset && c.closed():
			c.path.Outcome = verdict.OutcomeReset
		case !s.back:
			if outcome, _, heard := c.rebuffed(); heard {
				c.path.Outcome = outcome
			}
		}
	}
	c.path.Findings = append(c.path.Findings, f)
	if doubt != nil {
		c.path.Findings = append(c.path.Findings, *doubt)
	}
}
