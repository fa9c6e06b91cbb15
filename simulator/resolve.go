package simulator

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// resolved is what an endpoint of a query names.
type resolved struct {
	host    *host            // where it lives; nil for services and addresses outside
	addrs   []netip.Addr     // in order of preference
	service *cluster.Service // when it is a service, or a service's address
	pod     *cluster.Pod     // when it is a pod
	literal bool             // it was given as an address
}

// addr returns the address of a family.
func (r *resolved) addr(f netstack.Family) (netip.Addr, bool) {
	for _, a := range r.addrs {
		if netstack.FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (r *resolved) has(f netstack.Family) bool {
	_, ok := r.addr(f)
	return ok
}

// unresolvedf explains why a name cannot be turned into a place.
func unresolvedf(format string, args ...any) *verdict.Finding {
	f := verdict.NewFindingf(verdict.EndpointUnresolved, verdict.Where{}, nil, format, args...)
	return &f
}

// noObject explains that no Kubernetes object bears a name.
func (w *World) noObject(kind, name string) *verdict.Finding {
	if why, missing := w.cluster.Missing()[kind+"s"]; missing {
		return unresolvedf("there may be a %s %s, but what there is of the cluster's %ss is not known: %s", kind, name, kind, why)
	}
	if w.cluster.Empty() {
		return unresolvedf("there is no %s %s in the snapshot, which has no Kubernetes objects at all", kind, name)
	}
	return unresolvedf("there is no %s %s in the snapshot", kind, name)
}

func notCollectedf(where verdict.Where, format string, args ...any) *verdict.Finding {
	f := verdict.NewFindingf(verdict.SnapshotMissing, where, nil, format, args...)
	return &f
}

// resolve finds what an endpoint names.
func (w *World) resolve(e verdict.Endpoint) (resolved, *verdict.Finding) {
	switch e.Kind {
	case verdict.EndpointPod:
		return w.resolvePod(e)
	case verdict.EndpointNode:
		return w.resolveNode(e.Name)
	case verdict.EndpointService:
		s, ok := w.cluster.Service(e.Namespace, e.Name)
		if !ok {
			return resolved{}, w.noObject("service", e.Namespace+"/"+e.Name)
		}
		return resolved{service: s, addrs: s.ClusterIPs}, nil
	case verdict.EndpointNetns:
		h := w.byName[e.Name]
		if h == nil {
			return resolved{}, unresolvedf("there is no network namespace %s in the snapshot", e.Name)
		}
		return resolved{host: h, addrs: h.globalAddrs()}, nil
	case verdict.EndpointDNS:
		return resolved{}, unresolvedf("dns:%s: a name sends no packets; ask about a pod, a node or an address", e.Name)
	}
	return w.resolveIP(e.IP)
}

func (w *World) resolvePod(e verdict.Endpoint) (resolved, *verdict.Finding) {
	name := e.Namespace + "/" + e.Name
	h := w.byPod[name]
	pod, known := w.cluster.Pod(e.Namespace, e.Name)
	switch {
	case !known && h == nil:
		return resolved{}, w.noObject("pod", name)
	case !known:
		return resolved{host: h, addrs: h.globalAddrs()}, nil
	case pod.HostNetwork:
		h = w.byNode[pod.Node]
	}
	r := resolved{host: h, addrs: pod.IPs, pod: pod}
	if len(r.addrs) == 0 && h != nil && !pod.HostNetwork { // the kubelet has not told the API yet
		r.addrs = h.globalAddrs()
	}
	return r, nil
}

func (w *World) resolveNode(name string) (resolved, *verdict.Finding) {
	h := w.byNode[name]
	node, known := w.cluster.Node(name)
	if !known && h == nil {
		return resolved{}, w.noObject("node", name)
	}
	if !known {
		return resolved{host: h, addrs: h.globalAddrs()}, nil
	}
	return resolved{host: h, addrs: node.IPs}, nil
}

func (w *World) resolveIP(addr netip.Addr) (resolved, *verdict.Finding) {
	r := resolved{addrs: []netip.Addr{addr}, literal: true}
	if list := w.cluster.ServicesByIP(addr); len(list) > 0 {
		r.service = list[0] // which one, if they share it, the port says
	}
	if p, ok := w.cluster.PodByIP(addr); ok {
		r.pod = p
		r.host = w.byPod[p.String()]
	}
	if r.host == nil {
		if hosts := w.byAddr[addr]; len(hosts) == 1 {
			r.host = hosts[0]
		}
	}
	return r, nil
}

// globalAddrs lists the addresses by which others reach the namespace.
func (h *host) globalAddrs() []netip.Addr {
	var list []netip.Addr
	for i := range h.Addresses {
		a := &h.Addresses[i]
		if addr := a.Prefix.Addr(); !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			list = append(list, addr)
		}
	}
	return list
}

// family chooses the IP version of a query: that of an address in it, else
// the destination's first that the source has too.
func family(from, to *resolved) (netstack.Family, bool) {
	for _, a := range to.addrs {
		if f := netstack.FamilyOf(a); from.has(f) {
			return f, true
		}
	}
	// A host without an address of that version tries all the same, and fails as
	// its kernel makes it.
	if from.host != nil && !from.literal && to.literal && len(to.addrs) > 0 {
		return netstack.FamilyOf(to.addrs[0]), true
	}
	return 0, false
}

// resolveFlow turns a query into the packet that its client would send. With a
// finding that says why none can be sent from there, the packet may be known all the same.
func (w *World) resolveFlow(q *verdict.Query, named *resolved) (*flow, *resolved, *resolved, *verdict.Finding) {
	fromEnd, _ := verdict.ParseEndpoint(q.From) // Validate has parsed both
	toEnd, _ := verdict.ParseEndpoint(q.To)
	from, f := w.resolve(fromEnd)
	if f != nil {
		return nil, nil, nil, f
	}
	var to resolved
	if named != nil {
		to = *named
	} else if to, f = w.resolve(toEnd); f != nil {
		return nil, nil, nil, f
	}
	if f := notRunning(&from, &to); f != nil && (q.Via == nil || f.Severity == verdict.SeverityFatal) {
		return nil, nil, nil, f
	}
	if from.service != nil && from.host == nil {
		return nil, nil, nil, unresolvedf("%s: a service sends no packets; ask about one of its pods", q.From)
	}
	if len(to.addrs) == 0 {
		return nil, nil, nil, unresolvedf("%s cannot be reached: it has no address", q.To)
	}
	if q.Via == nil && to.addrs[0].IsUnspecified() {
		if q.Protocol == verdict.SCTP { // sctp_v4_addr_valid, sctp_v6_addr_valid
			return nil, nil, nil, unresolvedf("%s cannot be reached: SCTP connects to no unspecified address", to.addrs[0])
		}
		to = thisHost(&from, to.addrs[0])
	}
	public, outside := w.fromCloud(&from, &to)
	if outside && q.Via == nil {
		to.addrs = []netip.Addr{public}
	}
	ver, ok := family(&from, &to)
	if !ok {
		return nil, nil, nil, unresolvedf("%s and %s have no address of the same IP version", q.From, q.To)
	}
	dst, _ := to.addr(ver)
	out := &flow{size: q.Size, fixedPort: q.SourcePort != 0}
	out.packet = netstack.Packet{
		Dst: dst, DstPort: q.Port, SrcPort: q.SourcePort, TOS: q.DSCP << 2, Mark: q.Mark, UID: q.UID, AnyUser: q.UID == nil, DF: true,
		Protocol: protocolNumber(q.Protocol, ver),
	}
	if isICMP(out.packet.Protocol) {
		out.packet.SrcPort, out.packet.ICMPType = 1, 8
		if ver == netstack.IPv6 {
			out.packet.ICMPType = 128
		}
		if q.ICMPType != nil {
			out.packet.ICMPType = *q.ICMPType
		}
	} else if q.SourcePort == 0 {
		out.packet.SrcPort = ephemeralPort
	}
	if q.Via != nil {
		f := w.enterVia(out, q.Via, &from, ver)
		return out, &from, &to, f
	}
	if outside {
		out.cloud, out.packet.Src = true, from.addrs[0]
		return out, &from, &to, nil
	}
	if from.host == nil {
		if f := w.unreadCloud(&from, &to); f != nil {
			return nil, nil, nil, f
		}
		return out, &from, &to, w.noPlace(q.From, &from)
	}
	out.from = from.host
	if from.literal {
		out.packet.Src = from.addrs[0]
	}
	return out, &from, &to, nil
}

// notRunning explains that a pod at one end does not run, where that leaves no packet to
// follow: the destination has no address yet, which no connection survives, or the source
// is nowhere to be found, so that nobody asks.
func notRunning(from, to *resolved) *verdict.Finding {
	finding := func(r *resolved, severity verdict.Severity) *verdict.Finding {
		for _, f := range r.pod.Findings() {
			if f.Code == verdict.PodNotRunning {
				f.Severity = severity
				return &f
			}
		}
		return nil
	}
	if to.pod != nil && len(to.addrs) == 0 {
		if f := finding(to, verdict.SeverityFatal); f != nil {
			return f
		}
	}
	if from.pod != nil && !from.literal && (len(from.addrs) == 0 || from.host == nil && !from.pod.Alive()) {
		return finding(from, verdict.SeverityUndecided)
	}
	return nil
}

// thisHost is what a client means by 0.0.0.0 and ::, which the kernel replaces before it
// looks any route up: its own host. With IPv4 that is the address which the client is
// bound to, if it is (ip_route_output_key_hash_rcu; tcp_v6_connect and its kin).
func thisHost(from *resolved, addr netip.Addr) resolved {
	own := netip.IPv6Loopback()
	if addr.Is4() {
		own = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if from.literal && from.addrs[0].Is4() {
			own = from.addrs[0]
		}
	}
	return resolved{host: from.host, pod: from.pod, addrs: []netip.Addr{own}, literal: true}
}

// enterVia places the packet at the interface where it enters.
func (w *World) enterVia(out *flow, via *verdict.Via, from *resolved, ver netstack.Family) *verdict.Finding {
	h := w.byName[via.Namespace]
	if h == nil {
		return unresolvedf("via: there is no network namespace %s in the snapshot", via.Namespace)
	}
	link := h.links[via.Interface]
	if link == nil {
		return unresolvedf("via: there is no interface %s in %s", via.Interface, h)
	}
	out.packet.Src, _ = from.addr(ver)
	out.via = fabric.Port{NS: h.Namespace, Link: link}
	out.packet.DstMAC = link.MAC
	if bridge, ok := w.fabric.Bridge(link); ok {
		out.packet.DstMAC = bridge.Link.MAC
	}
	return nil
}

// noPlace explains why a source is nowhere in the snapshot.
func (w *World) noPlace(name string, from *resolved) *verdict.Finding {
	if from.pod != nil {
		where := verdict.Where{Node: from.pod.Node, Pod: from.pod.String()}
		return notCollectedf(where, "the network namespace of pod %s on node %q was not collected", from.pod, from.pod.Node)
	}
	if !from.literal {
		return notCollectedf(verdict.Where{Resource: name}, "the network namespace of %s was not collected", name)
	}
	if hosts := w.byAddr[from.addrs[0]]; len(hosts) > 1 {
		return unresolvedf("%s is an address of %s and of %s: name one of them", name, hosts[0], hosts[1])
	}
	if what, ok := w.cluster.InKnownRange(from.addrs[0]); ok {
		return notCollectedf(verdict.Where{Resource: name}, "%s lies in the %s, but nothing collected has this address", name, what)
	}
	return unresolvedf("no collected namespace has the address %s; say with \"via\" where its packets enter", name)
}

func protocolNumber(p verdict.Protocol, f netstack.Family) netstack.Protocol {
	switch p {
	case verdict.UDP:
		return netstack.ProtoUDP
	case verdict.SCTP:
		return netstack.ProtoSCTP
	case verdict.ICMP:
		if f == netstack.IPv6 {
			return netstack.ProtoICMPv6
		}
		return netstack.ProtoICMP
	}
	return netstack.ProtoTCP
}
