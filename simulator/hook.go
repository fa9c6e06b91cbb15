package simulator

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// hook runs the rules of one hook over the packet.
func (l *leg) hook(at netfilter.Hook, in, out, physIn, physOut string) (end, bool) {
	if l.probe && l.packet.Protocol != netstack.ProtoICMPv6 {
		return end{}, false // ARP
	}
	if e, missing := l.requireFilter(); missing {
		return e, true
	}
	if e, missing := l.requireIPVS(at); missing {
		return e, true
	}
	if e, stop := l.hookPrograms(at); stop {
		return e, true
	}
	h, st := l.host, &l.state
	l.trackIn(h)
	st.Packet, st.Inner, st.Conntrack, st.Namespace = &l.packet, l.packet.Embedded, l.conntrack[h], h.Name
	st.In, st.Out, st.PhysIn, st.PhysOut = in, out, physIn, physOut
	st.Bridged = physIn != ""
	st.Steps, st.Texts = l.notes(), &l.texts
	if l.balances(at) {
		return l.hookBalanced(at)
	}
	return l.rules(at, math.MinInt, math.MaxInt)
}

// rules runs the rules of a hook with priorities from first, and below last.
func (l *leg) rules(at netfilter.Hook, first, last int) (end, bool) {
	st := &l.state
	st.Translations, st.Inner = st.Translations[:0], l.packet.Embedded
	res := l.host.filter.RunBetween(l.packet.Family(), at, first, last, st, l)
	l.packet.Embedded = st.Inner
	l.translations = append(l.translations, st.Translations...)
	l.noteExisting()
	if e, full := l.conntrackFull(at); full {
		return e, true
	}
	dev := st.Out
	if dev == "" {
		dev = st.In
	}
	return l.decided(res, at, dev)
}

// notes is where rules note what they do.
func (l *leg) notes() *[]verdict.Step {
	if l.quiet {
		return nil
	}
	return &l.hop().Steps
}

// decided ends the leg if the rules of a hook say so. dev is the interface that
// reports name.
func (l *leg) decided(res netfilter.Result, at netfilter.Hook, dev string) (end, bool) {
	h, st := l.host, &l.state
	if res.NoRoute {
		f, kind, code := l.routeFinding()
		if kind == undecided {
			return l.undecided(f), true
		}
		e := l.drop(f)
		e.notice = l.sendError(code)
		return e, true
	}
	if res.Action == netfilter.Accept {
		return end{}, false
	}
	rule := ruleAt(&res.Rule, at, dev)
	switch res.Action {
	case netfilter.Drop:
		f := verdict.NewFindingf(verdict.NetfilterDrop, h.where(dev), []string{res.Rule.Text}, "packet dropped by %s on %s", rule, h)
		if st.CT == netfilter.CTInvalid && res.ByState {
			f = verdict.NewFindingf(verdict.ConntrackInvalid, h.where(dev), []string{res.Rule.Text},
				"packet dropped by %s on %s, whose connection tracking has not seen what came before", rule, h)
		}
		e := l.drop(f)
		if l.origin == h && !l.stolen && (at == netfilter.Output || at == netfilter.Postrouting) {
			e.notice = l.sendError(errPermission)
		}
		return e, true
	case netfilter.Reject:
		e := l.drop(verdict.NewFindingf(verdict.NetfilterReject, h.where(dev), []string{res.Rule.Text},
			"packet rejected by %s on %s", rule, h))
		if e.notice = rejectNotice(res.RejectWith, l.packet.Family()); e.notice.kind == noticeReset {
			e.notice.port = st.PhysIn
			if l.route.Found() && l.packet.Family() == netstack.IPv4 {
				e.notice.ttl, _ = l.hopLimit()
			}
		}
		if at == netfilter.Prerouting && l.packet.Family() == netstack.IPv4 {
			e.inbound = "" // nf_reject_fill_skb_dst: it has not been routed as one that came in
		}
		if l.origin == h && !l.stolen && at == netfilter.Output && !sentAgain(l.packet.Protocol) {
			e.notice = l.sendError(errPermission) // which comes before the notice
		}
		return e, true
	case netfilter.Queue:
		return l.undecided(verdict.NewFindingf(verdict.UserspaceDecides, h.where(dev), []string{res.Rule.Text},
			"a program in user space decides on %s: %s", h, rule)), true
	case netfilter.Exhausted:
		return l.undecided(verdict.NewFindingf(verdict.TooManyBranches, h.where(dev), []string{res.Rule.Text},
			"the chains of %s branch too often: given up on %s at %s", res.Rule.Table, h, rule)), true
	case netfilter.Divert:
		return l.divert(res, dev), true
	}
	return end{}, false
}

// ruleAt names a rule for people: one of nftables by its family, hook and device,
// too, which the names of its table and chain do not tell.
func ruleAt(r *netfilter.Rule, at netfilter.Hook, dev string) string {
	switch {
	case r.Family == "arp" && r.Backend != "":
		return "arptables " + r.String()
	case r.Family == "bridge" && r.Backend != "":
		return "ebtables " + r.String()
	case r.Backend != "":
		return r.String()
	}
	hook := strings.ToLower(at.String())
	if at == netfilter.Ingress || at == netfilter.Egress {
		hook += " of " + dev
	}
	where := *r
	where.Chain += " at " + hook
	return r.Family + " " + where.String()
}

// sendError is the error that a socket gets for a packet which fails after the
// socket had found a route for it: TCP takes it for loss, and tries again.
func (l *leg) sendError(code errno) notice {
	if sentAgain(l.packet.Protocol) {
		return notice{}
	}
	return notice{kind: noticeErrno, originated: true, errno: code}
}

// sentAgain says whether a protocol takes an error of sending for loss: so do TCP
// and SCTP (sctp_packet_transmit).
func sentAgain(p netstack.Protocol) bool { return p == netstack.ProtoTCP || p == netstack.ProtoSCTP }

// conntrackFull says whether a new connection finds no room in the table: __nf_conntrack_alloc. Where the entries were
// not collected, as those of large tables are not, all are taken for assured, which the kernel keeps.
func (l *leg) conntrackFull(at netfilter.Hook) (end, bool) {
	c, h := l.state.Conn, l.host
	if c == nil || c.Confirmed || at != netfilter.Prerouting && at != netfilter.Output {
		return end{}, false
	}
	const count, limit = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
	have, known := h.Sysctl(count)
	most, limited := h.Sysctl(limit)
	if !known || !limited || most == 0 || have < most {
		return end{}, false
	}
	f := verdict.NewFindingf(verdict.ConntrackTableFull, h.where(""), []string{sysctlLine(h, count), sysctlLine(h, limit)},
		"conntrack table is full on %s: %d of %d entries", h, have, most)
	if h.entries.Droppable() && l.doubt(verdict.NewFindingf(verdict.ConntrackTableFull, f.Where, f.Evidence,
		"%s; whether the kernel makes room is not known: for that it drops one that is not assured, if there is one near the place of the new one (early_drop)", f.Message)) {
		return end{}, false
	}
	e := l.drop(f)
	if l.origin == h && !l.stolen && at == netfilter.Output {
		e.notice = l.sendError(errPermission)
	}
	return e, true
}

// The rest of this file answers what rules ask about the world
// (netfilter.Env).

// Pick chooses an alternative of a rule that rolls dice.
func (l *leg) Pick(rule netfilter.Rule, weights []float64) int {
	return l.draw(drawKey{rule: rule}, choice{alternatives: len(weights), weights: weights})
}

// Kernel is the release of the kernel.
func (l *leg) Kernel() string { return l.w.snapshot.Kernel }

// Now is when the state of the namespace was read.
func (l *leg) Now() time.Time { return l.w.snapshot.TakenAt(l.host.Namespace) }

// Unknown decides whether something that is not modelled matches.
func (l *leg) Unknown(rule netfilter.Rule, what string) bool {
	return l.doubt(verdict.NewFindingf(verdict.UnmodelledRule, l.host.where(""), []string{rule.Text},
		"%s uses %s, which is not modelled", rule, what))
}

// AddrType is the type that the namespace's tables give to an address.
func (l *leg) AddrType(addr netip.Addr, dev string) netstack.RouteType {
	return l.host.fib.AddrType(addr, dev)
}

// RouteType is how IPv6 tells the type of an address: by a look-up as for a packet
// to it that is made here.
func (l *leg) RouteType(q netfilter.FIBQuery) (t netstack.RouteType, known bool) {
	if q.Dst.IsLinkLocalUnicast() { // only the device tells which route
		return l.AddrType(q.Dst, q.Dev), true
	}
	res := l.host.fib.Lookup(fib.Key{Src: q.Src, Dst: q.Dst, Mark: q.Mark})
	switch {
	case res.Unknown != "":
		return "", false
	case !res.Found():
		if res.Type == "" {
			return netstack.RouteUnreachable, true
		}
		return res.Type, true
	case q.Dst.IsMulticast():
		return netstack.RouteMulticast, true
	case res.Type == netstack.RouteAnycast:
		return res.Type, true
	case q.Dev == "" && res.Type == netstack.RouteLocal:
		return netstack.RouteLocal, true
	}
	for a := range l.host.addresses.Each(q.Dst) {
		if q.Dev != "" && a.Dev == q.Dev {
			return netstack.RouteLocal, true
		}
	}
	return netstack.RouteUnicast, true
}

// InterfaceAddr is the address that MASQUERADE gives to a packet.
func (l *leg) InterfaceAddr(dev string, dst netip.Addr) (netip.Addr, bool) {
	var gateway netip.Addr
	if dev == l.next.Dev {
		gateway = l.next.Gateway
	}
	return l.host.fib.DeviceAddress(dev, gateway, dst)
}

// RedirectAddr is the address that REDIRECT gives to a packet that came in by
// dev: the first that the interface has (nf_nat_redirect_ipv4 and _ipv6).
func (l *leg) RedirectAddr(dev string, family netstack.Family) (netip.Addr, bool) {
	for a := range l.host.devices.Each(dev) {
		if netstack.FamilyOf(a.Prefix.Addr()) == family && (family == netstack.IPv4 || a.Usable()) {
			return a.Prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// ReversePath is the test of the rpfilter match.
func (l *leg) ReversePath(p *netstack.Packet, in string, strict bool) bool {
	key := fib.Key{Src: p.Dst, Dst: p.Src, TOS: p.TOS, Mark: p.Mark}
	if p.Family() == netstack.IPv6 { // rpfilter_lookup_reverse6
		key.Protocol = p.Protocol
		if strict || p.Src.IsLinkLocalUnicast() {
			key.OIF = in
		}
	}
	res := l.host.fib.LookupDevice(key)
	if res.Type != netstack.RouteUnicast {
		return false
	}
	return !strict || slices.ContainsFunc(res.NextHops, func(n netstack.NextHop) bool { return n.Dev == in })
}

// Reroute looks the route of a locally made packet up again.
func (l *leg) Reroute() bool {
	key := fib.KeyOf(&l.packet, "")
	if l.packet.Family() == netstack.IPv4 {
		key.UID, key.AnyUser = nil, false // ip_route_me_harder asks for no user, unlike ip6_route_me_harder
	}
	l.route = l.lookup(key)
	if !l.route.Found() || l.route.Unknown != "" {
		return false
	}
	l.pickNextHop()
	if l.route.LoopsBack() {
		l.next = netstack.NextHop{Dev: "lo"}
	}
	_, kept := l.loopbackKept()
	return !kept
}

// LocalSocket is the local socket that would take the packet: that of its
// connection, or else one that listens (nf_sk_lookup_slow_v4).
func (l *leg) LocalSocket(p *netstack.Packet, dev string) (s *netstack.Socket, known bool) {
	if p.Protocol == netstack.ProtoSCTP {
		return nil, true // only those of TCP and UDP are looked for
	}
	if !l.host.Known(netstack.PartSockets) {
		return nil, false
	}
	if s := l.connected(p, dev); s != nil {
		return s, true
	}
	return l.host.anySocket(p, dev), true
}

// connected is the local socket of the packet's connection, if it has one
// (inet_lookup_established). A client's is not transparent, and one that a server
// accepts is what the one that listens is.
func (l *leg) connected(p *netstack.Packet, dev string) *netstack.Socket {
	s := &netstack.Socket{Protocol: p.Protocol, State: netstack.SocketEstablished, Local: netip.AddrPortFrom(p.Dst, p.DstPort)}
	if l.host == l.sender && l.walk.client != nil && answers(p, l.walk.client) {
		s.Transparent = new(false)
		return s
	}
	if a := l.walk.accepted; a != nil && a.host == l.host && sameEnds(p, &a.packet) {
		s.Transparent = a.transparent
		return s
	}
	if s := l.host.anySocket(p, dev); s != nil && s.State == netstack.SocketEstablished && !s.Local.Addr().IsUnspecified() {
		return s
	}
	return nil
}

// Proxy says whether the packet's connection has a socket here, or else one listens
// where a rule sends packets for a transparent proxy, and whether that is
// transparent (nf_tproxy_get_sock_v4, nf_tproxy_sk_is_transparent).
func (l *leg) Proxy(p *netstack.Packet, addr netip.Addr, port uint16, dev string) bool {
	if !l.host.Known(netstack.PartSockets) {
		return true
	}
	s, q := l.connected(p, dev), *p
	if s == nil {
		q.DstPort = port
		if addr.IsValid() {
			q.Dst = addr
		} else if own, ok := l.RedirectAddr(dev, p.Family()); ok { // nf_tproxy_laddr4
			q.Dst = own
		}
		if s = l.host.anySocket(&q, dev); s != nil && s.State == netstack.SocketEstablished {
			return false // NF_TPROXY_LOOKUP_LISTENER
		}
	}
	switch {
	case s == nil:
		return false
	case s.Transparent != nil:
		return *s.Transparent
	}
	return !l.doubt(verdict.NewFindingf(verdict.ProxyInterposed, l.host.where(dev), []string{socketLine(s)},
		"%s is redirected to a proxy on %s: whether the socket that listens on %s is transparent, without which it gets nothing, is not shown",
		p, l.host, netip.AddrPortFrom(q.Dst, q.DstPort)))
}

// proxied ends the leg of a packet that a rule has given to a proxy: whether that
// passes it on is not known.
func (l *leg) proxied(in string) end {
	rule := l.state.Proxied
	return l.undecided(verdict.NewFindingf(verdict.ProxyInterposed, l.host.where(in), []string{rule.Text},
		"%s is redirected to a proxy on %s by %s", &l.packet, l.host, ruleAt(rule, netfilter.Prerouting, in)))
}

// unproxied ends the leg of a packet that a rule has given to a proxy, but that is
// routed elsewhere: ip_forward drops what has a socket.
func (l *leg) unproxied(in string) end {
	rule := l.state.Proxied
	return l.drop(verdict.NewFindingf(verdict.InvalidRoute, l.host.where(in), []string{describeRoute(&l.route), rule.Text},
		"invalid route %s for packet %s: %s gives the packet to a proxy on %s, and no local route leads there", describeRoute(&l.route), &l.packet,
		ruleAt(rule, netfilter.Prerouting, in), l.host))
}

// sameEnds says whether two packets are of the same direction of a connection.
func sameEnds(p, q *netstack.Packet) bool {
	return p.Protocol == q.Protocol && p.Src == q.Src && p.Dst == q.Dst && p.SrcPort == q.SrcPort && p.DstPort == q.DstPort
}

// answers says whether p is what the socket that sent q waits for.
func answers(p, q *netstack.Packet) bool {
	return p.Protocol == q.Protocol && p.Src == q.Dst && p.Dst == q.Src && p.SrcPort == q.DstPort && p.DstPort == q.SrcPort
}

// FIBDevice is the device that a look-up of nftables finds: a local address
// has none.
func (l *leg) FIBDevice(q netfilter.FIBQuery) (dev string, known bool) {
	key := fib.Key{Src: q.Src, Dst: q.Dst, TOS: q.TOS, Mark: q.Mark, IIF: q.IIF}
	six := netstack.FamilyOf(q.Dst) == netstack.IPv6
	if six { // nft_fib6_flowi_init
		key.IIF, key.Protocol = "", l.packet.Protocol
		if q.Dst.IsLinkLocalUnicast() {
			key.OIF = q.Dev
		}
	}
	res := l.host.fib.LookupDevice(key)
	if res.Unknown != "" {
		return "", false
	}
	if res.Type != netstack.RouteUnicast || len(res.NextHops) == 0 {
		return "", true
	}
	if q.Dev == "" {
		return res.NextHops[0].Dev, len(res.NextHops) == 1
	}
	other := func(n netstack.NextHop) bool { return n.Dev != q.Dev }
	switch {
	case !slices.ContainsFunc(res.NextHops, other):
		return q.Dev, true
	case !slices.ContainsFunc(res.NextHops, func(n netstack.NextHop) bool { return !other(n) }):
		return "", true
	}
	// IPv4 takes any of the route's ways (fib_info_nh_uses_dev), IPv6 that of the flow.
	return q.Dev, !six
}

// OutMTU is the MTU of the packet's way out, or of the way back if that is
// smaller.
func (l *leg) OutMTU(_ *netfilter.State) int {
	back := reverse(&l.packet)
	return min(l.pathMTU(), l.host.mtuOf(&back))
}

var _ netfilter.Env = (*leg)(nil)
