package simulator

import (
	"cmp"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// ephemeralPort is the source port of a query that names none: rules seldom
// look at it, and a port from the middle of the kernel's default range
// (net.ipv4.ip_local_port_range) stands for all of them.
const ephemeralPort = 45678

// internetMTU is that of somebody on the Internet.
const internetMTU = 1500

// maxPMTURounds bounds how often a sender learns a smaller path MTU.
const maxPMTURounds = 8

// flow is a concrete packet at a concrete place: what a query resolves to.
type flow struct {
	from   *host       // sends it; nil when it comes from outside
	via    fabric.Port // where it enters when it comes from outside
	packet netstack.Packet
	size   int  // bytes of the full-size packets; 0: as large as possible
	cloud  bool // it comes from the Internet, to an address of the cloud
	// fixedPort says that the client's port is the query's, and not any.
	fixedPort bool
}

// conversation walks the legs of one connection and notes what comes of them.
type conversation struct {
	*walk
	flow   *flow
	path   *verdict.Path
	client netstack.Packet // the first packet as the client's socket sent it
	server end             // where it was delivered
	// quiet says that packets of the established connection leave no trace, and
	// failed that one did not arrive.
	quiet, failed bool
	answered      bool // the client has heard from the server
	talked        bool // a message got through, and its answer
	// aside are findings that explain less than the others.
	aside []verdict.Finding
	// rerouted says that the client has learnt a path MTU: its socket looks its
	// route up again, now with its source (rt6_insert_exception).
	rerouted bool
}

// converse walks the flow once, along the alternatives that d chooses. Packets of
// the established connection are only shown when they fail: they leave no trace
// at first, and if one fails all is walked again the same way.
func (ws *workspace) converse(f *flow, d *dice) *verdict.Path {
	c := ws.conversation(f, d, true)
	if c.failed {
		d.again()
		c = ws.conversation(f, d, false)
	}
	return c.path
}

func (ws *workspace) conversation(f *flow, d *dice, quiet bool) *conversation {
	c := &conversation{
		quiet: quiet,
		walk:  ws.begin(d),
		flow:  f,
		path: &verdict.Path{
			Verdict: verdict.Reachable,
			Hops:    []verdict.Hop{}, Reverse: []verdict.Hop{},
			Findings: []verdict.Finding{},
		},
	}
	c.walk.client, c.walk.sender, c.walk.fixedPort = &c.client, f.from, f.fixedPort
	c.run()
	c.hearOfCopies()
	c.hearOfCloud()
	c.path.Findings = append(c.path.Findings, c.aside...)
	c.path.Source = verdict.Source{IP: addrString(c.client.Src), Port: c.client.SrcPort}
	if f.packet.Protocol == netstack.ProtoICMP || f.packet.Protocol == netstack.ProtoICMPv6 {
		c.path.Source.Port = 0
	}
	c.path.Translations = c.translations
	if c.path.Translations == nil {
		c.path.Translations = []verdict.Translation{}
	}
	return c
}

func addrString(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// run walks leg after leg until one fails.
func (c *conversation) run() {
	mtu, ok := c.request()
	if !ok {
		return
	}
	reply, serverMTU, ok := c.reply()
	switch {
	case !ok:
		return
	case c.client.Protocol == netstack.ProtoSCTP:
		c.associate()
		return
	case c.client.Protocol != netstack.ProtoTCP:
		return
	}
	// The full-size packets: at most what either end announced or can send.
	headers := tcpHeaders(c.client.Family())
	forth, back := mtu, serverMTU
	if reply.packet.MSS != 0 {
		forth = min(forth, int(reply.packet.MSS)+headers)
	}
	if mss := c.server.packet.MSS; mss != 0 {
		back = min(back, int(mss)+headers)
	}
	if c.flow.size > 0 {
		forth, back = min(forth, c.flow.size), min(back, c.flow.size)
	}
	forth, back = min(forth, headers+probedMSS(c.flow.from)), min(back, headers+probedMSS(c.server.host))
	c.exchange(forth, back)
}

// depart sends the client's packet on its way.
func (c *conversation) depart(l *leg) end {
	if c.flow.from != nil {
		return l.send(c.flow.from)
	}
	l.packet.TTL = defaultHopLimit
	switch {
	case c.flow.cloud:
		return l.enterCloud()
	case c.server.host == nil:
		return l.enterFrom(c.flow.via)
	}
	return l.arrive(c.flow.via)
}

// request walks the first packet of the client, and returns the MTU that the
// client's end knows of.
func (c *conversation) request() (mtu int, ok bool) {
	p := c.flow.packet
	c.client = p
	if p.Protocol == netstack.ProtoTCP {
		p.TCPFlags = netstack.SYN
		p.Length = tcpHeaders(p.Family()) + optionsOf(c.flow.from).opening()
		p.MSS = c.clientMSS()
	} else if p.Protocol == netstack.ProtoSCTP {
		p.Chunks, p.Length = netstack.SCTPInit, sctpLength(p.Family(), 0)
	} else {
		p.Length = cmp.Or(c.flow.size, datagramLength(&p))
	}
	l := c.newLeg(p)
	defer l.done()
	l.anySource, l.copied = !p.Src.IsValid(), true
	e := c.depart(l)
	c.path.Hops = l.hops
	c.client.Src = l.firstSource(p.Src)
	c.server = e
	c.path.Destination = verdict.Destination{IP: addrString(e.packet.Dst), Port: e.packet.DstPort}
	seenAs := verdict.Source{IP: addrString(e.packet.Src), Port: e.packet.SrcPort}
	if isICMP(p.Protocol) {
		c.path.Destination.Port, seenAs.Port = 0, 0
	}
	switch e.kind {
	case left:
		c.path.Delivered, c.path.SeenAs = true, seenAs
		c.path.Outcome = verdict.OutcomeDelivered
		c.path.Findings = append(c.path.Findings, *e.finding)
		if _, known := c.w.cluster.PodByIP(e.packet.Dst); known {
			c.expected(l, &e, len(c.path.Findings))
		}
		return 0, false
	case delivered:
		c.path.Destination.Namespace = e.host.Name
		e = l.meetSocket(e)
		c.server.uid, c.server.mark, c.server.transparent, c.server.wildcard, c.server.bound = e.uid, e.mark, e.transparent, e.wildcard, e.bound
		if e.kind == delivered {
			c.path.Delivered, c.path.SeenAs = true, seenAs
			return c.clientMTU(), true
		}
		c.path.Hops = l.hops
	}
	c.explainEntry()
	c.astray(l, &e)
	c.fail(e, verdict.OutcomeTimeout)
	return 0, false
}

// clientMSS is the segment size that the client announces.
func (c *conversation) clientMSS() uint16 {
	if c.flow.from == nil {
		return uint16(c.clientMTU() - tcpHeaders(c.flow.packet.Family()))
	}
	return c.flow.from.mssOf(&c.flow.packet)
}

// clientMTU is the MTU of the client's way out.
func (c *conversation) clientMTU() int {
	if c.flow.cloud {
		return internetMTU
	}
	if c.flow.from == nil {
		return c.flow.via.Link.MTU
	}
	return c.flow.from.mtuOf(&c.flow.packet)
}

// fail notes that a leg which the protocol needs did not get through, and finds
// out whether the client is told.
func (c *conversation) fail(e end, silent verdict.Outcome) {
	c.path.Findings = append(c.path.Findings, *e.finding)
	if e.kind == undecided {
		c.path.Verdict, c.path.Outcome = verdict.Unknown, verdict.OutcomeUnknown
		return
	}
	c.path.Verdict, c.path.Outcome = verdict.Unreachable, silent
	if e.notice.kind == noticeErrno {
		c.path.Outcome = errnoOutcome(e.notice.errno)
		return
	}
	told, doubt, hops := c.notify(e, c.flow.from, &c.client)
	c.path.Reverse = append(c.path.Reverse, hops...)
	switch {
	case told:
		c.path.Outcome = outcomeOf(e.notice, &c.client)
	case doubt != nil:
		// That the packet fails is certain; whether the client is told, is not.
		f := *doubt
		f.Severity = verdict.SeverityInfo
		c.path.Outcome = verdict.OutcomeUnknown
		c.path.Findings = append(c.path.Findings, f)
	}
}

// errnoOutcome is what the client calls the error of its system call.
func errnoOutcome(code errno) verdict.Outcome {
	switch code {
	case errHost:
		return verdict.OutcomeHostUnreachable
	case errProhibited, errPermission, errInvalid:
		return verdict.OutcomeProhibited
	}
	return verdict.OutcomeNetUnreachable
}

// reply walks the server's answer, and returns where it ended and the MTU that
// the server's end knows of.
func (c *conversation) reply() (e end, mtu int, ok bool) {
	p := c.answer()
	p.UID = c.server.uid
	switch p.Protocol {
	case netstack.ProtoTCP:
		p.TCPFlags = netstack.SYN | netstack.ACK
		p.Length = tcpHeaders(p.Family()) + optionsOf(c.flow.from).with(optionsOf(c.server.host)).opening()
	case netstack.ProtoSCTP:
		p.Chunks, p.Length = netstack.SCTPInitAck, sctpLength(p.Family(), 0)
	case netstack.ProtoICMP:
		p.ICMPType, p.ICMPCode = 0, 0
	case netstack.ProtoICMPv6:
		p.ICMPType, p.ICMPCode = icmp6EchoReply, 0
	}
	if p.Length == 0 {
		p.Length = cmp.Or(c.flow.size, datagramLength(&p))
	}
	l := c.newLeg(p)
	defer l.done()
	if l.unconnected = c.server.wildcard != ""; l.unconnected {
		l.packet.Src = noAddr // udp_sendmsg
	}
	mtu = c.server.host.mtuOf(&p)
	if p.Protocol == netstack.ProtoTCP {
		l.packet.MSS = c.server.host.mssOf(&p)
	}
	e = c.returned(l, c.sendBack(l))
	c.path.Reverse = l.hops
	if e.kind == delivered {
		c.answered, c.path.Opened = true, true
		switch p.Protocol {
		case netstack.ProtoTCP, netstack.ProtoSCTP:
			c.path.Outcome = verdict.OutcomeEstablished
		default:
			c.path.Outcome = verdict.OutcomeAnswered
		}
		return e, mtu, true
	}
	if e.kind == undecided {
		c.expected(l, &e, len(c.path.Findings))
		c.fail(e, verdict.OutcomeUnknown)
		return e, mtu, false
	}
	c.path.Outcome = verdict.OutcomeTimeout
	c.astray(l, &e)
	f := *e.finding
	if p.Protocol == netstack.ProtoUDP {
		// UDP promises no answer: the datagram did arrive.
		f.Severity = verdict.SeverityPartial
		c.path.Verdict, c.path.Outcome = verdict.Degraded, verdict.OutcomeDelivered
	} else {
		c.path.Verdict = verdict.Unreachable
	}
	c.path.Findings = append(c.path.Findings, f)
	return e, mtu, false
}

// sendBack lets the server send: from whatever address its socket is asked at, if it is transparent (inet_sk_flowi_flags).
func (c *conversation) sendBack(l *leg) end {
	transparent := c.server.transparent
	l.foreignSource = transparent != nil && *transparent
	l.maybeForeign = transparent == nil && !isICMP(l.packet.Protocol)
	return l.send(c.server.host)
}

// answer is what the server sends back, with the mark of its socket or, if its namespace is set up so, of what it
// answers: sockets of TCP without a mark by tcp_fwmark_accept (inet_request_mark), the kernel itself by fwmark_reflect.
func (c *conversation) answer() netstack.Packet {
	p := reverse(&c.server.packet)
	p.Bound = c.server.bound
	marked := isICMP(p.Protocol) && reflects(c.server.host, p.Family())
	p.Mark = c.server.mark
	if p.Protocol == netstack.ProtoTCP && p.Mark == 0 {
		on, _ := c.server.host.Sysctl("net.ipv4.tcp_fwmark_accept")
		marked = on != 0
	}
	if marked {
		p.Mark = c.server.packet.Mark
	}
	return p
}

// reverse is the answer to a packet.
func reverse(p *netstack.Packet) netstack.Packet {
	r := netstack.Packet{
		Src: p.Dst, Dst: p.Src, Protocol: p.Protocol, SrcPort: p.DstPort, DstPort: p.SrcPort,
		DF: p.DF,
	}
	if isICMP(p.Protocol) {
		// The identifier stays, and so does the TOS (icmp_reply); that of other
		// answers is the server's own.
		r.SrcPort, r.DstPort, r.TOS = p.SrcPort, p.DstPort, p.TOS
	}
	return r
}

func isICMP(p netstack.Protocol) bool {
	return p == netstack.ProtoICMP || p == netstack.ProtoICMPv6
}

// returned checks that an answer came back to the client, as the answer to
// what it sent.
func (c *conversation) returned(l *leg, e end) end {
	want := reverse(&c.client)
	same := e.packet.Src == want.Src && e.packet.Dst == want.Dst && e.packet.SrcPort == want.SrcPort && e.packet.DstPort == want.DstPort
	switch {
	case !same && (e.kind == left || e.kind == delivered) && l.unconnected && l.source != c.server.packet.Dst:
		return l.finish(dropped, c.otherSource(l))
	case c.flow.from == nil && same && (e.kind == left || e.kind == delivered):
		// It went back out, or to a collected namespace that owns the source.
		e.kind = delivered
		return e
	case e.kind == left && c.flow.from == nil:
		return l.finish(dropped, l.notTranslated(e, &want))
	case len(c.translations) == 0 && e.kind == delivered && e.host != c.flow.from:
		return l.finish(dropped, verdict.NewFindingf(verdict.DeliveredElsewhere, e.host.where(e.in), []string{e.packet.String()},
			"%s is owned by %s: the reply from %s does not come back", e.packet.Dst, e.host, e.packet.Src))
	case e.kind == left && len(c.translations) == 0:
		at := e.finding.Where
		return l.undecided(verdict.NewFindingf(verdict.SnapshotMissing, at, e.finding.Evidence,
			"the reply from %s leaves the collected world through %s of %s: whether it comes back to %s was not collected",
			e.packet.Src, at.Interface, e.host, e.packet.Dst))
	case e.kind == left:
		at := e.finding.Where
		return l.finish(dropped, verdict.NewFindingf(verdict.ReplyNotTranslated, at, e.finding.Evidence,
			"reply from %s bypasses the translation on its way: it leaves the collected world through %s of %s", e.packet.Src, at.Interface, e.host))
	case e.kind == delivered && e.host != c.flow.from:
		return l.finish(dropped, verdict.NewFindingf(verdict.ReplyNotTranslated, e.host.where(e.in), []string{e.packet.String()},
			"reply from %s bypasses the translation on %s: it ends on %s", e.packet.Src, l.translator(), e.host))
	case e.kind == delivered && !same:
		return l.finish(dropped, l.notTranslated(e, &want))
	}
	return e
}

// otherSource explains that a server answers from another address than it was
// asked at. One that cares sends from that (IP_PKTINFO), which no dump shows.
func (c *conversation) otherSource(l *leg) verdict.Finding {
	h, dev, route := c.server.host, "lo", "to itself"
	if len(l.taken) > 0 && l.taken[0].host == h {
		dev, route = l.taken[0].next.Dev, describeRoute(&l.taken[0].route)
	}
	return verdict.NewFindingf(verdict.InvalidRoute, h.where(dev), []string{c.server.wildcard, route},
		"invalid route %s for packet %s: it makes the server of %s, which is bound to no address, answer from %s, and the client waits for %s",
		route, &c.server.packet, h, l.source, c.server.packet.Dst)
}

func (l *leg) notTranslated(e end, want *netstack.Packet) verdict.Finding {
	return verdict.NewFindingf(verdict.ReplyNotTranslated, e.host.where(e.in),
		[]string{"arrived: " + e.packet.String(), "expected: " + want.String()},
		"reply from %s bypasses the translation on %s: the client waits for %s", e.packet.Src, l.translator(), want.Src)
}

// translator names where the request was translated.
func (wk *walk) translator() string {
	if len(wk.translations) == 0 {
		return "its way"
	}
	return wk.translations[0].Where
}
