package simulator

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/ipvs"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// walk is one walk of a query: all legs of a connection, along one sequence of
// alternatives. It carries what the packets leave behind in the namespaces.
type walk struct {
	*workspace
	dice      *dice
	conntrack map[*host]*netfilter.Conntrack
	ipvs      map[*host]*ipvs.Table
	multipath map[multipathKey]int
	owners    map[ownerKey]int
	learned   map[learnedKey]netstack.MAC
	learnt    map[learntKey]*netstack.Link
	// client is the socket that began it, as the packet that it sends, and
	// sender its host; nil for one outside.
	client       *netstack.Packet
	sender       *host
	translations []verdict.Translation
	// fixedPort says that the query names the client's port, so that the
	// connections which the hosts know already are its concern.
	fixedPort bool
	existing  []existingConn
	drawn     map[drawKey]int
	// accepted is where a TCP connection was delivered, once it is established.
	accepted *end
	copies   []end // of the first packet, of which its sender may be told
	// taught is the MTU that the sender has learnt from a tunnel of its own.
	taught int
	// sessions is what the cloud remembers of the connection, ways what it has chosen
	// for it, and noted what it said that stopped no packet.
	sessions cloud.Sessions
	ways     map[string]int
	noted    []verdict.Finding
}

// multipathKey remembers the way that a flow takes: the kernel hashes it, with
// the ports if fib_multipath_hash_policy says so.
type multipathKey struct {
	host             *host
	route            *netstack.Route
	src, dst         netip.Addr
	srcPort, dstPort uint16
}

// ownerKey remembers which of several owners of an address a host takes for its
// neighbour: it keeps what it has heard.
type ownerKey struct {
	out *netstack.Link
	to  netip.Addr
}

// learntKey remembers by which port of a bridge a sender was seen.
type learntKey struct {
	bridge *netstack.Link
	mac    netstack.MAC
	vlan   uint16
}

// leg is the way of one packet from where it is made to where it ends.
type leg struct {
	*walk
	packet netstack.Packet
	source netip.Addr // that the sending host chose
	// anySource says that the sending socket was not bound to an address, and
	// unconnected that it looks its route up once, and sends from where that says.
	anySource, unconnected bool
	// foreignSource says that what sends the packet may give it an address that is not its host's (FLOWI_FLAG_ANYSRC), and
	// maybeForeign that it is not known whether it may.
	foreignSource, maybeForeign bool
	copied                      bool  // rules may send copies of it
	host                        *host // where the packet is
	origin                      *host // where it was made; nil when it came from outside
	stolen                      bool  // IPVS has taken it from its sender, who hears of no error
	hops                        []verdict.Hop
	state                       netfilter.State // in this namespace
	// cameBy is the bridge port by which the packet came in, if br_netfilter saw
	// it there: rules know it until the packet leaves the namespace.
	cameBy string
	// inbound is the device by which the network layer of this namespace took the
	// packet in; empty for one that was made here, or that a bridge still has.
	inbound string
	slave   string // port of the VRF inbound by which it came
	wayOut         // of the host
	seen    []visit
	loop    *verdict.Finding // set once the packet came back to a place
	taken   []routeTaken
	// gathered is the packet's GSOSize where devices put segments together that its sender sent one by one.
	gathered uint16
	// forgetful says that the sender does not learn the MTU of the way it takes.
	forgetful bool
	// tags are those of the frame, and towards the neighbour that it is for.
	tags    tags
	towards netip.Addr
	// probe says that the leg is a request for a neighbour, or an answer.
	probe bool
	arp   *netfilter.ARP // in IPv4
	// tunnelled is the end of a tunnel to anywhere by which a request came in, or to which an answer goes.
	tunnelled tunnelled
	// flooded says that the frame is for all stations: the walk goes to one.
	flooded bool
	// depth is how many tunnels the packet is in, and device the one by which a
	// tunnel is bound to send it.
	depth  int
	device string
	quiet  bool // nobody will read what its steps were
	// redirects is how often filters have passed the frame on, in a row; skipEgress
	// says that chains of a device do not see it leave after that, and forHost that
	// it is taken in whatever its address.
	redirects           int
	skipEgress, forHost bool
	// opened is the number of the hop that takes steps, from 1, and steps the
	// memory that is left for them.
	opened int
	steps  []verdict.Step
	// draws says with which packets the leg shares what is drawn, and asked what
	// was.
	draws draws
	asked []drawKey
}

// visit is a place where the packet was, and with which hop limit.
type visit struct {
	place
	ttl uint8
}

// routeTaken is a way that the packet took out of a namespace.
type routeTaken struct {
	host  *host
	route fib.Result
	next  netstack.NextHop
	src   netip.Addr
	dst   netip.Addr
}

// place is a packet at an interface: the same twice is a loop.
type place struct {
	link             *netstack.Link
	tags             tags
	src, dst         netip.Addr
	srcPort, dstPort uint16
	mark             uint32
}

// endKind says how a leg ended.
type endKind uint8

const (
	delivered endKind = iota // to the network layer of end.host, past INPUT
	dropped
	left      // the collected world
	undecided // something that is not known decides
)

// end is where and why a leg ended.
type end struct {
	kind    endKind
	host    *host
	in      string // interface on which it was delivered
	inbound string // as of the leg
	slave   string
	out     string // interface by which it was to leave
	bound   string // device that the answer is bound to
	local   bool   // the host's route for it is that of its own addresses
	packet  netstack.Packet
	conn    *netfilter.Conn
	reply   bool    // the packet ran against conn's original direction
	uid     *uint32 // of the socket that took it, which answers
	mark    uint32  // that the socket gives its answers
	// transparent says whether that socket is; nil where it is not known.
	transparent *bool
	// wildcard is the socket line of a UDP server that is bound to no address.
	wildcard string
	finding  *verdict.Finding
	notice   notice
}

// notice is what the kernel that ended a packet tells its sender.
type notice struct {
	kind       noticeKind
	typ, code  uint8            // of the ICMP error
	tos        uint8            // of a reset: tcp_v4_send_reset copies that of what it answers
	ttl        uint8            // of a reset by a rule of IPv4: nf_send_reset takes that of the route of what it answers
	mtu        int              // bytes, with "fragmentation needed" and "packet too big"
	originated bool             // the packet never left the host that made it
	errno      errno            // with noticeErrno
	late       bool             // only once the kernel has waited for a neighbour
	ruled      bool             // a reset by a rule, which asks for no source: ip_route_me_harder
	doubt      *verdict.Finding // why it cannot be known whether anything is told
	// port is where what br_netfilter saw, or a chain of a device or a bridge, is
	// thrown back: see throwBack. Thrown back by a chain, it is not routed.
	port              string
	unrouted, bridged bool
}

type noticeKind uint8

const (
	noticeNone  noticeKind = iota
	noticeICMP             // an ICMP error
	noticeReset            // a TCP reset, or an ABORT of SCTP
	noticeErrno            // an error of the system call that sent it
)

func (l *leg) enter(h *host, in string) {
	if l.host != h {
		// Marks, connections and sockets belong to a namespace; a socket's mark
		// and user are there from the start.
		if l.host != nil {
			l.packet.Mark, l.packet.UID, l.packet.AnyUser, l.packet.Bound = 0, nil, false, ""
		}
		l.state.Conn, l.state.CT, l.state.Reply, l.state.Proxied = nil, netfilter.CTNone, false, nil
		l.state.Balance = nil
		l.state.Balanced, l.stolen, l.inbound, l.slave = false, false, "", ""
	}
	l.host = h
	kind := verdict.HopExternal
	switch h.Kind {
	case netstack.KindPod:
		kind = verdict.HopPod
	case netstack.KindNode:
		kind = verdict.HopNode
	case netstack.KindOther:
		kind = verdict.HopBridge
	}
	l.open(verdict.Hop{Namespace: h.Name, Kind: kind, Node: h.Node, In: in})
}

func (l *leg) hop() *verdict.Hop { return &l.hops[len(l.hops)-1] }

func (l *leg) step(stage, action, rule string) {
	if l.quiet {
		return
	}
	hop := l.hop()
	hop.Steps = append(hop.Steps, verdict.Step{Stage: stage, Action: action, Rule: rule})
}

// stepf is step with a text that is only made if somebody will read it.
func (l *leg) stepf(stage, action string, rule func() string) {
	if !l.quiet {
		l.step(stage, action, rule())
	}
}

func (l *leg) end(kind endKind) end {
	return end{
		kind: kind, host: l.host, inbound: l.inbound, slave: l.slave, out: l.next.Dev, local: l.route.Type == netstack.RouteLocal,
		packet: l.packet, conn: l.state.Conn, reply: l.state.Reply,
	}
}

// delivered ends the leg at the host itself.
func (l *leg) delivered(in string) end {
	e := l.end(delivered)
	e.in = in
	return e
}

// finish ends the leg with a finding.
func (l *leg) finish(kind endKind, f verdict.Finding) end {
	hop := l.hop()
	hop.Findings = append(hop.Findings, f)
	e := l.end(kind)
	e.finding = &f
	return e
}

func (l *leg) drop(f verdict.Finding) end { return l.finish(dropped, f) }

// dropTelling drops the packet and tells its sender by an ICMP error.
func (l *leg) dropTelling(f verdict.Finding, typ, code uint8) end {
	e := l.finish(dropped, f)
	e.notice = notice{kind: noticeICMP, typ: typ, code: code}
	return e
}

func (l *leg) undecided(f verdict.Finding) end { return l.finish(undecided, f) }

// doubt asks whether something that cannot be known interferes: the walk is
// repeated with the other answer.
func (l *leg) doubt(f verdict.Finding) bool {
	return l.draw(drawKey{what: string(f.Code) + f.Message}, choice{alternatives: 2, doubt: &f}) == 1
}

// require ends the leg when a part of the namespace's state is not known.
func (l *leg) require(parts ...netstack.Part) (end, bool) {
	for _, p := range parts {
		if l.host.Known(p) {
			continue
		}
		return l.undecided(l.missing(p)), true
	}
	return end{}, false
}

func (l *leg) missing(p netstack.Part) verdict.Finding { return l.host.missing(p) }

func (h *host) missing(p netstack.Part) verdict.Finding {
	s := h.PartStatus(p)
	switch {
	case s.State == netstack.StateMissing && s.Detail != "":
		return verdict.NewFindingf(verdict.SnapshotMissing, h.where(""), []string{s.Detail},
			"the %s of %s were not collected, and could decide: %s", p.Words(), h, s.Detail)
	case s.State == netstack.StateFailed:
		return verdict.NewFindingf(verdict.CollectorFailed, h.where(""), []string{s.Detail},
			"the %s of %s could not be read: %s", p.Words(), h, s.Detail)
	}
	return verdict.NewFindingf(verdict.SnapshotMissing, h.where(""), nil,
		"the %s of %s were not collected, and could decide", p.Words(), h)
}

// requireFilter ends the leg when no rules of the packet's family were read.
func (l *leg) requireFilter() (end, bool) { return l.needs(l.lack().filter) }

func (l *leg) requireRouting() (end, bool) { return l.needs(l.lack().routing) }

// needs ends the leg when a part is lacking.
func (l *leg) needs(lacking netstack.Part) (end, bool) {
	if lacking == "" {
		return end{}, false
	}
	return l.undecided(l.missing(lacking)), true
}

// send lets a socket of h send the leg's packet: ip_queue_xmit and its kin.
func (l *leg) send(h *host) end {
	l.origin, l.host, l.inbound, l.slave = h, h, "", "" // the packet keeps the mark of its socket
	l.enter(h, "")
	if e, missing := l.requireRouting(); missing {
		return e
	}
	if e, refused := l.refusedSource(); refused {
		return e
	}
	key := fib.KeyOf(&l.packet, "")
	once := l.packet.Family() == netstack.IPv6 || l.packet.Protocol == netstack.ProtoSCTP // sctp_v4_get_dst
	if l.anySource && once {
		key.Src = noAddr // the socket keeps the route that it found first
	}
	if l.packet.Protocol == netstack.ProtoICMPv6 && l.packet.ICMPType == icmp6EchoReply {
		key.TOS = 0 // the answer has that of the request, and its look-up none (icmpv6_echo_reply)
	}
	l.route = l.lookup(key)
	if !l.route.Found() && l.route.Unknown == "" && !l.packet.Src.IsValid() && l.packet.Family() == netstack.IPv6 {
		// ip6_dst_lookup_tail: routes and rules may ask for a source.
		if src, ok := h.fib.AnySource(l.packet.Dst); ok {
			key.Src = src
			if l.route = l.lookup(key); l.route.Found() {
				l.packet.Src, l.source = src, src
			}
		}
	}
	if e, failed := l.outputRoute(); failed {
		return e
	}
	if !l.packet.Src.IsValid() {
		src, ok := h.fib.SourceAddress(&l.route, l.next, l.packet.Dst)
		if !ok {
			e := l.drop(verdict.NewFindingf(verdict.AddressNotUsable, h.where(l.next.Dev), nil,
				"%s has no usable %s address to send from", h, l.packet.Family()))
			e.notice = notice{kind: noticeErrno, originated: true, errno: errNet}
			return e
		}
		l.packet.Src, l.source = src, src
		if !l.quiet {
			l.hop().Packet = l.texts.Packet(&l.packet)
		}
		if !once && !isICMP(l.packet.Protocol) && !l.unconnected {
			// ip_route_connect looks up again with the source that it has chosen; what
			// pings does not connect.
			l.route = l.lookup(fib.KeyOf(&l.packet, ""))
			if e, failed := l.outputRoute(); failed {
				return e
			}
		}
	}
	if f, kept := l.loopbackKept(); kept {
		e := l.drop(f)
		e.notice = notice{kind: noticeErrno, originated: true, errno: errInvalid}
		return e
	}
	if l.device != "" && l.route.Type != netstack.RouteLocal && l.next.Dev != l.device {
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, h.where(l.device), evidence(&l.route),
			"a tunnel is bound to %s, and the route to %s leaves by another interface: that look-up is not modelled", l.device, l.packet.Dst))
	}
	if e, stop := l.throughPolicies("out", l.next.Dev); stop {
		return e
	}
	if e, stop := l.readdressed(); stop {
		return e
	}
	if e, stop := l.throughPrograms(ofSender); stop {
		return e
	}
	l.cutUp()
	if l.route.LoopsBack() {
		l.next = netstack.NextHop{Dev: "lo"}
	}
	l.limitHops()
	l.mayBeFragmented()
	l.cameBy = ""
	if e, stop := l.leaveByVRF(); stop {
		return e
	}
	if e, stop := l.hook(netfilter.Output, "", l.next.Dev, "", ""); stop {
		return e
	}
	// OUTPUT may have routed the packet again (Reroute).
	if l.route.LoopsBack() {
		return l.loopBack()
	}
	if mtu := l.pathMTU(); l.packet.Length > mtu && l.packet.DF {
		e := l.tooLarge(mtu)
		e.notice.originated = true
		return e
	}
	return l.postrouting("")
}

// cutUp has TCP send one segment at a time where the device of its socket's route takes no more at once: sk_setup_caps,
// tcp_tso_segs. Rules that route the packet again do not change what the socket knows.
func (l *leg) cutUp() {
	out := l.host.links[l.next.Dev]
	if l.route.LoopsBack() {
		if out = l.host.vrf(l.next.Dev); out == nil {
			out = l.host.links["lo"]
		}
	}
	if l.packet.Protocol == netstack.ProtoTCP && out != nil && out.SingleSegments {
		l.gathered, l.packet.GSOSize = l.packet.GSOSize, 0
	}
}

// mayBeFragmented says of a packet of IPv4 from a socket that it is, where its host or its route is set up so: ip_dont_fragment.
func (l *leg) mayBeFragmented() {
	if l.packet.Family() != netstack.IPv4 {
		return
	}
	off, _ := l.host.Sysctl("net.ipv4.ip_no_pmtu_disc") // inet_create
	ofSocket := l.depth == 0 && l.packet.Protocol != netstack.ProtoSCTP
	if r := l.route.Route; r != nil && r.MTULocked || off != 0 && ofSocket {
		l.packet.DF = false
	}
}

// gather leaves it open again how long packets are where the device that takes them may put segments together which came
// one at a time (GRO): physical ones do, and the ends of tunnels may (gro_cells_receive).
func (l *leg) gather() {
	l.packet.GSOSize = max(l.packet.GSOSize, l.gathered)
}

// defaultHopLimit is that of hosts on which nobody has set another one.
const defaultHopLimit = 64

const ipDefaultTTL = "net.ipv4.ip_default_ttl"

// limitHops gives the packet the hop limit of its route, or of the host, unless it
// has one.
func (l *leg) limitHops() {
	if l.packet.TTL != 0 {
		return
	}
	limit, setBy := l.hopLimit()
	l.packet.TTL = limit
	if limit < defaultHopLimit {
		l.stepf("route", netfilter.ActionSetTTL, setBy)
	}
}

// hopLimit is that of the packet's route, and what has set it: ip4_dst_hoplimit,
// ip6_dst_hoplimit.
func (l *leg) hopLimit() (limit uint8, setBy func() string) {
	if r := l.route.Route; r != nil && r.HopLimit != 0 {
		return r.HopLimit, func() string { return fmt.Sprintf("%s hoplimit %d", r, r.HopLimit) }
	}
	key := ipDefaultTTL
	v, ok := l.host.Sysctl(key)
	if l.packet.Family() == netstack.IPv6 {
		dev := cmp.Or(l.next.Dev, "all")
		key = netstack.ConfKey(netstack.IPv6, dev, "hop_limit")
		v, ok = l.host.ConfSysctl(netstack.IPv6, dev, "hop_limit")
	}
	if !ok {
		return defaultHopLimit, nil
	}
	return uint8(v), func() string { return sysctlLine(l.host, key) }
}

// fit makes what is too large for the way out fit: ip_fragment, ip6_fragment.
// Fragments go the same way, so one stands for all. What IPv6 forwards may be
// larger than the MTU of its route (see forwardMTU). POSTROUTING has translated it
// by now, and who it comes from then is told.
func (l *leg) fit() (end, bool) {
	mtu := l.pathMTU()
	if l.packet.Length <= mtu {
		return end{}, false
	}
	if l.packet.DF {
		return l.tooLarge(mtu), true
	}
	l.step("route", "fragment", fmt.Sprintf("MTU %d", mtu))
	l.packet.Length = mtu
	return end{}, false
}

// tooLarge drops the packet, and tells its sender which MTU it does not fit.
func (l *leg) tooLarge(mtu int) end {
	e := l.drop(l.mtuExceeded(mtu, l.next.Dev))
	e.notice = notice{kind: noticeICMP, mtu: mtu}
	e.notice.typ, e.notice.code = tooBig(l.packet.Family())
	return e
}

// refusedSource ends the leg of a packet of IPv4 whose sender gives it a source that the host does not have for its own: the
// look-up of the route refuses it (ip_route_output_key_hash_rcu, __ip_dev_find), whatever other tables say than local.
func (l *leg) refusedSource() (end, bool) {
	h, p := l.host, &l.packet
	if !p.Src.IsValid() || p.Family() != netstack.IPv4 || l.foreignSource || h.maySendFrom(p.Src) {
		return end{}, false
	}
	switch {
	case p.Protocol == netstack.ProtoSCTP: // sctp_v4_get_dst tries other addresses of the association
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, h.where(""), nil,
			"what SCTP sends on %s instead of packets from %s, which is none of its addresses, is not modelled", h, p.Src)), true
	case l.maybeForeign:
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, h.where(""), nil,
			"%s sends from %s, which is none of its addresses, if the socket is transparent: that is not shown", h, p.Src)), true
	}
	f := verdict.NewFindingf(verdict.AddressNotUsable, h.where(""), nil,
		"%s does not send from %s: that is none of its addresses, and table local has no route of type local to it", h, p.Src)
	f.Remedy = fmt.Sprintf("Give lo the address (ip address add %s dev lo) or the route to table local, or make the server's socket transparent (IP_TRANSPARENT).", p.Src)
	e := l.drop(f)
	e.notice = notice{kind: noticeErrno, originated: true, errno: errInvalid}
	return e, true
}

// loopbackKept says whether the route of a locally made packet is refused as it comes from a loopback address of IPv4, and
// would leave: __mkroute_output.
func (l *leg) loopbackKept() (verdict.Finding, bool) {
	h, p := l.host, &l.packet
	out := h.links[l.next.Dev]
	if !loopbackIPv4.Contains(p.Src) || l.route.LoopsBack() || out == nil || out.Loopback() || out.Kind == "vrf" ||
		h.confMax(netstack.IPv4, out.Name, "route_localnet") != 0 {
		return verdict.Finding{}, false
	}
	return verdict.NewFindingf(verdict.MartianSource, h.where(out.Name), []string{p.String(), describeRoute(&l.route)},
		"martian source %s to %s by %s of %s: a loopback address does not leave, as route_localnet is off", p.Src, p.Dst, out.Name, h), true
}

// outputRoute takes the next hop of the route found for a locally made packet,
// or ends the leg with the error that the system call returns.
func (l *leg) outputRoute() (end, bool) {
	if l.route.Found() && l.route.Unknown == "" {
		if l.route.Type == netstack.RouteBroadcast || l.packet.Dst.IsMulticast() || l.packet.Dst == limitedBroadcast {
			return l.sendToMany(), true
		}
		l.pickNextHop()
		return end{}, false
	}
	f, kind, code := l.routeFinding()
	if kind == undecided {
		return l.undecided(f), true
	}
	e := l.drop(f)
	e.notice = notice{kind: noticeErrno, originated: true, errno: code}
	return e, true
}

// sendToMany ends the leg of a packet to a broadcast or multicast address: TCP
// connects to none, other sockets may if they are set up for it.
func (l *leg) sendToMany() end {
	if l.packet.Protocol != netstack.ProtoTCP {
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(""), evidence(&l.route),
			"broadcasts and multicasts are not modelled (destination %s)", l.packet.Dst))
	}
	e := l.drop(verdict.NewFindingf(verdict.RouteUnreachable, l.host.where(""), evidence(&l.route),
		"TCP does not connect to %s, which is no unicast address on %s", l.packet.Dst, l.host))
	e.notice = notice{kind: noticeErrno, originated: true, errno: errNet}
	return e
}

// errno is the kernel's error for a packet that it does not send or forward.
type errno uint8

const (
	errNet        errno = iota // ENETUNREACH
	errHost                    // EHOSTUNREACH
	errProhibited              // EACCES
	errInvalid                 // EINVAL: a blackhole, silent when forwarding
	errPermission              // EPERM: a rule
)

// routeFinding explains a look-up that found no way.
func (l *leg) routeFinding() (verdict.Finding, endKind, errno) {
	h, res := l.host, &l.route
	if res.Unknown != "" {
		return verdict.NewFindingf(verdict.UnmodelledRule, h.where(""), evidence(res),
			"the route to %s depends on %s, which is not modelled", l.packet.Dst, res.Unknown), undecided, errNet
	}
	if res.Found() {
		if f, kept := l.loopbackKept(); kept {
			return f, dropped, errInvalid
		}
	}
	at := h.where("")
	typed := func(code verdict.Code) verdict.Finding {
		f := verdict.NewFindingf(code, at, evidence(res), "route %s is of type %s on %s", describeRoute(res), res.Type, h)
		if res.Route == nil && res.Rule != nil {
			does := map[verdict.Code]string{verdict.RouteBlackhole: "drops", verdict.RouteUnreachable: "rejects", verdict.RouteProhibit: "prohibits"}[code]
			f.Message = fmt.Sprintf("policy rule %d %s packets to %s on %s", res.Rule.Priority, does, l.packet.Dst, h)
			f.Remedy = fmt.Sprintf("Remove the policy rule of priority %d, or find out what installed it (%s).", res.Rule.Priority, ipRuleShow[l.packet.Family()])
		}
		return f
	}
	switch res.Type {
	case netstack.RouteBlackhole:
		return typed(verdict.RouteBlackhole), dropped, errInvalid
	case netstack.RouteUnreachable:
		code := errHost
		if res.Route == nil {
			code = errNet // of rules: fib4_rule_action, fib6_rule_action
		}
		return typed(verdict.RouteUnreachable), dropped, code
	case netstack.RouteProhibit:
		return typed(verdict.RouteProhibit), dropped, errProhibited
	}
	return verdict.NewFindingf(verdict.NoRoute, at, []string{"no rule leads to a table with a route to " + l.packet.Dst.String()},
		"no route to host %s on %s", l.packet.Dst, h), dropped, errNet
}

var ipRuleShow = map[netstack.Family]string{netstack.IPv4: "ip rule show", netstack.IPv6: "ip -6 rule show"}

// lookup finds the route of the packet, which came in by a device or was made here.
func (l *leg) lookup(key fib.Key) fib.Result { return l.host.fib.LookupWay(key, l.way) }

// pickNextHop takes one of the next hops of the route.
func (l *leg) pickNextHop() {
	l.next = netstack.NextHop{}
	if len(l.route.NextHops) > 0 {
		at := l.way(&l.route)
		l.next = l.route.NextHops[at]
		if l.host == l.origin {
			l.forgetful = !l.route.LearnsMTU(at)
		}
	}
}

// way chooses among the next hops of a route as the kernel's hash would: the same
// for all packets of a flow.
func (l *leg) way(route *fib.Result) int {
	if len(route.NextHops) == 1 {
		return 0
	}
	key := l.multipathKey(route.Route)
	at, known := l.multipath[key]
	if !known {
		var src netip.Addr
		if l.origin == l.host {
			src = l.packet.Src
		}
		var ways []int
		var weights []float64
		for i, share := range l.host.fib.Shares(route, src) {
			if share > 0 {
				ways, weights = append(ways, i), append(weights, share)
			}
		}
		at = ways[0]
		if len(ways) > 1 {
			at = ways[l.dice.ask(choice{alternatives: len(ways), weights: weights})]
		}
		l.multipath[key] = at
	}
	return min(at, len(route.NextHops)-1)
}

// multipathKey is what the kernel hashes (fib_multipath_hash, rt6_multipath_hash).
func (l *leg) multipathKey(route *netstack.Route) multipathKey {
	key := multipathKey{host: l.host, route: route, src: l.packet.Src, dst: l.packet.Dst}
	policy := "net.ipv4.fib_multipath_hash_policy"
	if l.packet.Family() == netstack.IPv6 {
		policy = "net.ipv6.fib_multipath_hash_policy"
	}
	if v, _ := l.host.Sysctl(policy); v != 0 {
		key.srcPort, key.dstPort = l.packet.SrcPort, l.packet.DstPort
	}
	return key
}

// loopBack carries a packet to an address of this host: out of lo, and in again.
func (l *leg) loopBack() end {
	lo := l.host.links["lo"]
	if lo == nil || !lo.Up() {
		return l.drop(verdict.NewFinding(verdict.InterfaceDown, l.host.where("lo"), linkEvidence(lo), "lo of "+l.host.String()))
	}
	if e, off := l.withoutIPv6("lo", notSentBy); off {
		return e
	}
	if e, stop := l.hook(netfilter.Postrouting, "", "lo", "", ""); stop {
		return e
	}
	for _, direction := range []string{"egress", "ingress"} {
		if e, stop := l.throughDevice("lo", direction); stop {
			return e
		}
	}
	// The frame keeps its mark, its connection and its route: the network
	// layer runs PREROUTING, but looks no route up.
	if e, stop := l.hook(netfilter.Prerouting, "lo", "", "", ""); stop {
		return e
	}
	return l.deliver("lo")
}

// receive hands the packet to the network layer of the namespace: ip_rcv,
// ipv6_rcv. With hooked, the bridge has run PREROUTING already.
func (l *leg) receive(in *netstack.Link, physIn string, hooked bool) end {
	if l.probe {
		return l.discovered(in, physIn, hooked)
	}
	if e, missing := l.requireRouting(); missing {
		return e
	}
	if e, off := l.withoutIPv6(in.Name, notTakenBy); off {
		return e
	}
	l.cameBy, l.inbound, l.slave, l.route = "", in.Name, "", fib.Result{}
	if hooked {
		l.cameBy = physIn
	} else if e, stop := l.hook(netfilter.Prerouting, in.Name, "", "", ""); stop {
		return e
	}
	in, e, stop := l.enterVRF(in)
	if stop {
		return e
	}
	return l.routeInput(in)
}

// withoutIPv6 ends the leg where the device that takes the packet in or out has no IPv6, without a word to anybody: ip6_rcv,
// ip6_output. Routes by nexthop objects outlive that it is turned off, or that the MTU gets too small for it (addrconf_notify).
func (l *leg) withoutIPv6(dev, message string) (end, bool) {
	if l.packet.Family() != netstack.IPv6 {
		return end{}, false
	}
	h := l.host
	var why, evidence, remedy string
	if off, _ := h.ConfSysctl(netstack.IPv6, dev, "disable_ipv6"); off != 0 {
		key := netstack.ConfKey(netstack.IPv6, dev, "disable_ipv6")
		why, evidence = "IPv6 is off on the interface", sysctlLine(h, key)
		remedy = fmt.Sprintf("Find out what turned IPv6 off on %s, and turn it on (sysctl -w %s=0).", dev, key)
	} else if link := h.links[dev]; link != nil && !link.Loopback() && link.MTU > 0 && link.MTU < minMTU6 {
		why, evidence = fmt.Sprintf("interfaces with an MTU below %d have no IPv6", minMTU6), fmt.Sprintf("MTU %d", link.MTU)
		remedy = fmt.Sprintf("Give %[1]s an MTU of %[2]d or more (ip link set %[1]s mtu %[2]d), and its addresses again.", dev, minMTU6)
	} else {
		return end{}, false
	}
	f := verdict.NewFindingf(verdict.AddressNotUsable, h.where(dev), []string{evidence}, message, l.packet.Dst, dev, why)
	f.Remedy = remedy
	return l.drop(f), true
}

// Why a device is of no use for IPv6, by destination, device and cause.
const (
	notTakenBy = "address %s on %s is tentative/disabled: %s"
	notSentBy  = "what is for %s is not sent by %s: %s"
)

// routeInput decides between delivering and forwarding: ip_route_input_slow,
// ip6_route_input.
func (l *leg) routeInput(in *netstack.Link) end {
	h, p := l.host, &l.packet
	if f, martian := l.martian(in); martian {
		return l.drop(f)
	}
	l.route = l.lookup(fib.KeyOf(p, in.Name))
	family := p.Family()
	forwarding := l.forwarding(in.Name)
	if !l.route.Found() || l.route.Unknown != "" {
		f, kind, code := l.routeFinding()
		if kind == undecided {
			return l.undecided(f)
		}
		// A host that does not forward IPv4 drops without a word (ip_error).
		if code == errInvalid || family == netstack.IPv4 && !forwarding {
			return l.drop(f)
		}
		if family == netstack.IPv6 && code == errHost {
			code = errNet // ip6_pkt_discard answers "no route" for unreachable routes too
		}
		typ, icmpCode := unreachable(family, code)
		if family == netstack.IPv4 && code == errProhibited {
			icmpCode = icmpFiltered
		}
		return l.dropTelling(f, typ, icmpCode)
	}
	l.stepf("route", string(l.route.Type), l.routeText)
	switch {
	case l.route.Type == netstack.RouteLocal, l.route.Type == netstack.RouteAnycast && family == netstack.IPv6:
		if f, fails := l.reversePath(in.Name, ""); fails {
			return l.drop(f)
		}
		if a, ok := h.owns(p.Dst); ok && !a.Usable() {
			return l.drop(verdict.NewFindingf(verdict.AddressNotUsable, h.where(a.Dev), nil,
				"address %s on %s is tentative/disabled", p.Dst, a.Dev))
		}
		return l.deliver(in.Name)
	case l.route.Type == netstack.RouteBroadcast, p.Dst.IsMulticast():
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, h.where(in.Name), evidence(&l.route),
			"%s packets are not modelled (destination %s)", l.route.Type, p.Dst))
	case !forwarding:
		return l.drop(verdict.NewFindingf(verdict.ForwardingDisabled, h.where(in.Name), []string{sysctlLine(h, l.forwardingKey(in.Name))},
			"IP forwarding is off on %s: packets from %s to %s are not passed on", h, in.Name, p.Dst))
	case l.route.Type != netstack.RouteUnicast && family == netstack.IPv4:
		// ip_route_input_slow takes it for a martian destination.
		return l.drop(verdict.NewFindingf(verdict.MartianSource, h.where(in.Name), evidence(&l.route),
			"martian destination %s from %s on %s of %s: the route is of type %s", p.Dst, p.Src, in.Name, h, l.route.Type))
	}
	l.pickNextHop()
	if takesOver(l.next.Encap) { // lwtunnel_input
		return l.lightweight()
	}
	if f, fails := l.reversePath(in.Name, l.next.Dev); fails {
		return l.drop(f)
	}
	return l.forward(in)
}

// forwarding says whether packets from the device are forwarded.
func (l *leg) forwarding(dev string) bool {
	h := l.host
	if l.packet.Family() == netstack.IPv4 {
		v, _ := h.ConfSysctl(netstack.IPv4, dev, "forwarding")
		return v != 0
	}
	v, _ := h.ConfSysctl(netstack.IPv6, "all", "forwarding")
	force, _ := h.ConfSysctl(netstack.IPv6, dev, "force_forwarding")
	return v != 0 || force != 0
}

// expired says that the hop limit ends here, and which rule has set it, if one has.
func (l *leg) expired(dev string) verdict.Finding {
	f := verdict.NewFindingf(verdict.TTLExpired, l.host.where(dev), []string{l.packet.String()}, "hop limit reached at %s", l.host)
	for i := range l.hops {
		for _, s := range l.hops[i].Steps {
			if s.Action == netfilter.ActionSetTTL {
				f.Evidence = append(f.Evidence, s.Rule)
				f.Remedy = "Look at what sets the TTL: " + s.Rule
			}
		}
	}
	return f
}

// forwardingKey is the setting by which packets from the device are forwarded.
func (l *leg) forwardingKey(dev string) string {
	if l.packet.Family() == netstack.IPv6 {
		dev = "all"
	}
	return netstack.ConfKey(l.packet.Family(), dev, "forwarding")
}

// forward passes the packet on: ip_forward, ip6_forward.
func (l *leg) forward(in *netstack.Link) end {
	p := &l.packet
	if l.state.Proxied != nil {
		return l.unproxied(in.Name)
	}
	if e, stop := l.throughPolicies("fwd", in.Name); stop {
		return e
	}
	if e, stop := l.throughPolicies("out", l.next.Dev); stop {
		return e
	}
	if p.TTL <= 1 {
		f := l.expired(in.Name)
		if l.loop != nil {
			f = *l.loop
		}
		if p.Family() == netstack.IPv6 {
			return l.dropTelling(f, icmp6TimeExceeded, 0)
		}
		return l.dropTelling(f, icmpTimeExceeded, 0)
	}
	if mtu := l.forwardMTU(l.host, p.Family()); p.Length > mtu && p.DF {
		return l.tooLarge(mtu)
	}
	p.TTL--
	if e, stop := l.hook(netfilter.Forward, l.seenFrom(in.Name), l.next.Dev, l.cameBy, ""); stop {
		return e
	}
	return l.postrouting(l.seenFrom(in.Name))
}

func (l *leg) mtuExceeded(mtu int, dev string) verdict.Finding {
	h := l.host
	return verdict.NewFindingf(verdict.MTUExceeded, h.where(dev), []string{describeRoute(&l.route), fmt.Sprintf("MTU %d", mtu)},
		"packet of %d bytes exceeds MTU %d of %s on %s", l.packet.Length, mtu, dev, h)
}

// pathMTU is what is known here of the way to the packet's destination.
func (l *leg) pathMTU() int { return l.mtu(l.host, l.packet.Family()) }

// postrouting runs the last hook and hands the packet to the device.
func (l *leg) postrouting(in string) end {
	if takesOver(l.next.Encap) { // lwtunnel_output
		return l.lightweight()
	}
	if e, off := l.withoutIPv6(l.next.Dev, notSentBy); off {
		return e
	}
	if e, stop := l.hook(netfilter.Postrouting, in, l.next.Dev, l.cameBy, ""); stop {
		return e
	}
	if e, stop := l.fit(); stop {
		return e
	}
	link := l.host.links[l.next.Dev]
	if link == nil {
		return l.drop(verdict.NewFinding(verdict.InterfaceMissing, l.host.where(l.next.Dev), evidence(&l.route), l.next.Dev))
	}
	to := l.packet.Dst
	if l.next.Gateway.IsValid() {
		to = l.next.Gateway
	}
	if l.next.Encap != "" { // lwtunnel_xmit
		return l.lightweight()
	}
	l.taken = append(l.taken, routeTaken{l.host, l.route, l.next, l.packet.Src, l.packet.Dst})
	l.stepf("route", "via "+l.next.Dev, l.routeText)
	return l.transmit(link, to)
}

// deliver runs INPUT: after it the packet meets a socket.
func (l *leg) deliver(in string) end {
	in = l.seenFrom(in)
	if e, stop := l.hook(netfilter.Input, in, "", l.cameBy, ""); stop {
		return e
	}
	if e, stop := l.throughPolicies("in", in); stop {
		return e
	}
	if e, stop := l.throughPrograms(ofReceiver); stop {
		return e
	}
	if e, stop := l.refusedByVRF(); stop {
		return e
	}
	if l.state.Proxied != nil {
		return l.proxied(in)
	}
	return l.delivered(in)
}

// port names an interface of the leg's namespace.
func (l *leg) port(link *netstack.Link) fabric.Port {
	return fabric.Port{NS: l.host.Namespace, Link: link}
}
