package simulator

import (
	"math"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/ipvs"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// IPVS sits at three hooks (ip_vs_ops4, ip_vs_ops6): where packets for this host
// arrive, where those it makes leave, and where answers of destinations are
// forwarded. Rules before and after see the packet untranslated and translated.

// serviceDevice has the addresses of services where kube-proxy is in IPVS mode.
const serviceDevice = "kube-ipvs0"

// ipvsPriority is the priority of ip_vs_in_hook, or of ip_vs_out_hook at
// FORWARD; its answering half sits one before.
var ipvsPriority = map[netfilter.Hook]int{netfilter.Input: 99, netfilter.Output: -98, netfilter.Forward: 100}

// requireIPVS ends the leg where the services of IPVS could decide and are not
// known: there is an IPVS if it has settings.
func (l *leg) requireIPVS(at netfilter.Hook) (end, bool) {
	switch h := l.host; {
	case at != netfilter.Input && at != netfilter.Output, !l.packet.HasPorts():
	case h.PartStatus(netstack.PartIPVS).State == netstack.StateFailed:
		return l.undecided(l.missing(netstack.PartIPVS)), true
	case h.PartStatus(netstack.PartIPVS).State == netstack.StateMissing:
		if _, there := h.Sysctl("net.ipv4.vs.conntrack"); there {
			return l.undecided(l.missing(netstack.PartIPVS)), true
		}
	}
	return end{}, false
}

// balances says whether IPVS looks at packets of the leg's family at a hook.
func (l *leg) balances(at netfilter.Hook) bool {
	_, hooked := ipvsPriority[at]
	return hooked && !l.state.Balanced && l.host.balancer.Serves(l.packet.Family())
}

// hookBalanced runs a hook at which IPVS sits: the rules before it, itself, and
// the rules after it.
func (l *leg) hookBalanced(at netfilter.Hook) (end, bool) {
	priority := ipvsPriority[at]
	if e, stop := l.rules(at, math.MinInt, priority); stop {
		return e, true
	}
	if l.ipvs[l.host] == nil {
		l.ipvs[l.host] = &ipvs.Table{}
	}
	if e, stop := l.fromDestination(at); stop {
		return e, true
	}
	if at != netfilter.Forward && !l.state.Balanced {
		if e, stop := l.toDestination(at); stop {
			return e, true
		}
	}
	return l.rules(at, priority, math.MaxInt)
}

// fromDestination translates the answers of destinations back: ip_vs_out_hook.
func (l *leg) fromDestination(at netfilter.Hook) (end, bool) {
	p, table := &l.packet, l.ipvs[l.host]
	var c *ipvs.Conn
	if q := p.Embedded; q != nil {
		if c = table.Sent(q); c == nil || c.To.Method != ipvs.NAT {
			return end{}, false
		}
		// ip_vs_nat_icmp: whoever sent the error, the client hears of the service.
		quoted := *q
		quoted.Dst, quoted.DstPort = c.Virtual.Addr(), c.Virtual.Port()
		p.Embedded, p.Src = &quoted, c.Virtual.Addr()
	} else {
		if c = table.Out(p); c == nil {
			return end{}, false
		}
		if c.To.Method == ipvs.NAT {
			p.Src, p.SrcPort = c.Virtual.Addr(), c.Virtual.Port()
		}
	}
	l.stepBalanced(at, "translate as the connection", c)
	l.balanced(c)
	// ip_vs_route_me_harder: the source has changed, and with it the way, but not
	// for what stays on this host.
	reroute, set := l.host.Sysctl("net.ipv4.vs.snat_reroute")
	if at == netfilter.Input || l.route.Type == netstack.RouteLocal || set && reroute == 0 || c.To.Method != ipvs.NAT {
		return end{}, false
	}
	if !l.Reroute() {
		f, kind, _ := l.routeFinding()
		return l.finish(kind, f), true
	}
	return end{}, false
}

func (l *leg) stepBalanced(at netfilter.Hook, action string, c *ipvs.Conn) {
	if steps := l.notes(); steps != nil {
		*steps = append(*steps, verdict.Step{Stage: "ipvs/" + at.String(), Action: action, Rule: c.To.Text, Packet: l.packet.String()})
	}
}

// balanced marks the packet as done (skb->ipvs_property). Unless IPVS is told to
// keep it, connection tracking forgets it (ip_vs_notrack).
func (l *leg) balanced(c *ipvs.Conn) {
	l.state.Balanced = true
	if !c.Tracked() {
		l.state.Untrack()
	}
}

// toDestination sends the packets of clients to destinations: ip_vs_in_hook.
func (l *leg) toDestination(at netfilter.Hook) (end, bool) {
	h, p, table := l.host, &l.packet, l.ipvs[l.host]
	if p.Embedded != nil {
		// ip_vs_in_icmp: an error about an answer.
		c := table.Answered(p.Embedded)
		if c == nil {
			return end{}, false
		}
		if c.To.Method == ipvs.NAT {
			quoted := *p.Embedded
			quoted.Src, quoted.SrcPort = c.Destination.Addr(), c.Destination.Port()
			p.Embedded, p.Dst = &quoted, c.Destination.Addr()
		}
		return l.sendTo(c, at)
	}
	c := table.In(p)
	if c == nil {
		s := h.balancer.Find(p)
		if s == nil || !l.schedules() {
			return end{}, false
		}
		chosen := s.Schedule()
		to := chosen.Destinations[0]
		if n := len(chosen.Destinations); n > 1 {
			to = chosen.Destinations[l.dice.ask(choice{alternatives: n, weights: chosen.Weights})]
		}
		if to == nil {
			return l.noDestination(s, at), true
		}
		tracked, _ := h.Sysctl("net.ipv4.vs.conntrack")
		c = table.Connect(p, s, to, tracked != 0)
		l.translations = append(l.translations, verdict.Translation{
			Kind: "ipvs", Where: h.Name, From: c.Virtual.String(), To: c.Destination.String(), Rule: to.Text,
		})
	}
	if c.To.Method == ipvs.NAT {
		p.Dst, p.DstPort = c.Destination.Addr(), c.Destination.Port()
	}
	l.stepBalanced(at, c.To.Method.String(), c)
	return l.sendTo(c, at)
}

// schedules says whether the packet may begin a connection: tcp_conn_schedule.
func (l *leg) schedules() bool {
	if l.packet.Protocol != netstack.ProtoTCP {
		return true
	}
	sloppy, _ := l.host.Sysctl("net.ipv4.vs.sloppy_tcp")
	return l.packet.TCPFlags&netstack.RST == 0 && (sloppy != 0 || l.packet.TCPFlags&netstack.SYN != 0)
}

// noDestination refuses the packet: ip_vs_leave.
func (l *leg) noDestination(s *ipvs.Service, at netfilter.Hook) end {
	h := l.host
	evidence := []string{s.Text}
	for i := range s.Destinations {
		evidence = append(evidence, s.Destinations[i].Text)
	}
	e := l.drop(verdict.NewFindingf(verdict.IPVSNoDestination, h.where(""), evidence,
		"ipvs has no destination for %s on %s", netip.AddrPortFrom(l.packet.Dst, l.packet.DstPort), h))
	e.notice = portUnreachable(l.packet.Family())
	if at == netfilter.Output && l.origin == h && !sentAgain(l.packet.Protocol) {
		e.notice = l.sendError(errPermission) // which comes before the notice
	}
	return e
}

// sendTo hands the packet to its destination: the transmitters of ip_vs_xmit.c.
func (l *leg) sendTo(c *ipvs.Conn, at netfilter.Hook) (end, bool) {
	h, p := l.host, &l.packet
	to := c.Destination.Addr()
	l.balanced(c)
	if c.To.Method == ipvs.NAT {
		l.state.Balance = &netfilter.Balance{Virtual: c.Virtual}
		if c.Tracked() {
			l.state.AlterReply(c.Destination)
		}
	}
	before := l.route
	l.route = h.fib.Lookup(fib.Key{Dst: to})
	if !l.route.Found() || l.route.Unknown != "" {
		f, kind, _ := l.routeFinding()
		if kind == undecided {
			return l.undecided(f), true
		}
		e := l.drop(f)
		e.notice.kind = noticeICMP // __ip_vs_get_out_rt: dst_link_failure
		e.notice.typ, e.notice.code = unreachable(p.Family(), errHost)
		return e, true
	}
	local := l.route.Type == netstack.RouteLocal
	if f, crosses := l.crossesLocalBoundary(c, before.Type == netstack.RouteLocal || at == netfilter.Input, local); crosses {
		return l.drop(f), true
	}
	if local {
		// The packet stays with its route, and meets the rest of the hook.
		l.route = before
		return end{}, false
	}
	l.pickNextHop()
	if c.To.Method == ipvs.Tunnel {
		return l.tunnelBalanced(c), true
	}
	if c.To.Method == ipvs.Direct && !l.next.Gateway.IsValid() {
		l.next.Gateway = to // FLOWI_FLAG_KNOWN_NH: the neighbour is the destination
	}
	return l.leaveBalanced(at), true
}

// tunnelBalanced is ip_vs_tunnel_xmit: the packet goes on inside another one,
// and any tunnel device of the destination takes it out.
func (l *leg) tunnelBalanced(c *ipvs.Conn) end {
	h, p, to := l.host, &l.packet, c.Destination.Addr()
	if c.To.Encapsulation != "ipip" || netstack.FamilyOf(to) != p.Family() {
		return l.undecided(verdict.NewFindingf(verdict.UnmodelledRule, h.where(""), []string{c.To.Text},
			"rule %q of %s uses an IPVS tunnel (%s to %s), which is not modelled", c.To.Text, h, c.To.Encapsulation, to))
	}
	if e, expired := l.hopBalanced(""); expired {
		return e
	}
	l.stolen = true
	link := &netstack.Link{Name: "ipvs", Kind: "ipip", Tunnel: &netstack.Tunnel{Remote: to}}
	if p.Family() == netstack.IPv6 {
		link.Kind = "ip6tnl"
	}
	outer := netstack.Packet{
		Dst: to, Protocol: tunnelProtocol(link, p.Family()), TTL: p.TTL, TOS: p.TOS, DF: p.DF,
		Length: p.Length + tunnelHeaders(link), GSOSize: p.GSOSize,
	}
	e, failed := l.travel(fabric.Port{NS: h.Namespace, Link: link}, h, outer, "", true)
	if failed {
		return e
	}
	in, f, ok := l.tunnelEnd(e.host, &e.packet, link)
	if !ok {
		return l.finish(kindOf(f), f)
	}
	l.packet.SrcMAC, l.packet.DstMAC = netstack.MAC{}, netstack.MAC{} // no frame comes out
	return l.decapsulate(in, e.packet.Mark, e.host)
}

// hopBalanced is decrement_ttl.
func (l *leg) hopBalanced(in string) (end, bool) {
	p := &l.packet
	if p.TTL > 1 {
		p.TTL--
		return end{}, false
	}
	f := l.expired(in)
	if p.Family() == netstack.IPv6 {
		return l.dropTelling(f, icmp6TimeExceeded, 0), true
	}
	return l.dropTelling(f, icmpTimeExceeded, 0), true
}

// leaveBalanced is NF_INET_LOCAL_OUT of a packet that IPVS sends: wherever it
// came from, it passes OUTPUT and POSTROUTING, and never FORWARD.
func (l *leg) leaveBalanced(at netfilter.Hook) end {
	p, in := &l.packet, ""
	l.stolen = true
	if at == netfilter.Input {
		in = l.state.In
	}
	if e, expired := l.hopBalanced(in); expired {
		return e
	}
	if mtu := l.pathMTU(); p.Length > mtu && p.DF { // ensure_mtu_is_adequate
		return l.tooLarge(mtu)
	}
	if e, stop := l.hook(netfilter.Output, "", l.next.Dev, "", ""); stop {
		return e
	}
	if l.route.Type == netstack.RouteLocal { // OUTPUT has routed it again
		return l.loopBack()
	}
	return l.postrouting(in)
}

// crossesLocalBoundary is crosses_local_route_boundary: only translation takes
// a packet from elsewhere to this host, and loopback addresses stay.
func (l *leg) crossesLocalBoundary(c *ipvs.Conn, was, is bool) (verdict.Finding, bool) {
	h, p := l.host, &l.packet
	f := verdict.NewFindingf(verdict.MartianSource, h.where(""), []string{c.To.Text, p.String()},
		"ipvs on %s does not send %s from %s to %s", h, p, p.Src, c.Destination)
	switch {
	case is && !was:
		return f, c.To.Method != ipvs.NAT
	case !is:
		return f, p.Src.IsLoopback()
	}
	// ip_vs_nat_xmit: from elsewhere, not to a loopback address.
	return f, c.Destination.Addr().IsLoopback() && l.state.In != "" && l.state.In != "lo"
}

// unserved explains that nobody answers at an address of the service proxy's
// device, when IPVS has no service there.
func (h *host) unserved(p *netstack.Packet) (verdict.Finding, bool) {
	a, ok := h.owns(p.Dst)
	if !ok || a.Dev != serviceDevice {
		return verdict.Finding{}, false
	}
	return verdict.NewFindingf(verdict.IPVSNoService, h.where(a.Dev), []string{"address " + a.Prefix.String() + " on " + a.Dev},
		"ipvs has no service for %s %s on %s", netstack.ProtocolName(p.Protocol), netip.AddrPortFrom(p.Dst, p.DstPort), h), true
}
