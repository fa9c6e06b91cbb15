package simulator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// explainer holds the dataplane's answer against the objects of the cluster:
// they explain a failure, or tell that actual and expected state differ.
type explainer struct {
	w        *World
	report   *verdict.Report
	flow     *flow
	from, to *resolved
	general  []verdict.Finding // about no path in particular
	open     []string          // what policies say that is not known

	service *cluster.Service // that is asked for, by its address or by a port of a node
	use     cluster.Traffic  // in which way
	portOf  string           // the node whose port it is
	// either way may the service proxy choose: whether it takes the client for one
	// of the cluster is up to its configuration.
	either bool
	// What holds for all paths, as services have many endpoints: those that the objects
	// name, and what they hold against a client.
	backends []cluster.Backend
	against  map[netip.Addr][]verdict.Finding
}

func (e *explainer) explain() {
	e.findNode()
	e.findBackends()
	for i := range e.report.Paths {
		e.explainPath(&e.report.Paths[i])
	}
	if e.service == nil {
		e.staleServices()
		return
	}
	if proxy, other := e.service.OtherProxy(); other {
		e.open = append(e.open, fmt.Sprintf("service %s is left to the service proxy %q, by its label: what the rules of nodes make of it is not compared with its endpoints", e.service, proxy))
	} else if !e.either && e.w.cluster.BackendsKnown() {
		e.compareBackends()
	}
}

func (e *explainer) explainPath(p *verdict.Path) {
	var first, last []verdict.Finding // before and after the mechanism
	dst, _ := netip.ParseAddr(p.Destination.IP)
	failed := p.Verdict == verdict.Unreachable || p.Verdict == verdict.Degraded
	if e.boundary(p, dst) {
		if f, ok := e.policy(p, dst); ok {
			p.Findings = append(p.Findings, f)
		}
		return
	}
	switch p.Verdict {
	case verdict.Unknown:
	case verdict.Unreachable:
		first = append(first, e.serviceFindings(p, verdict.SeverityFatal)...)
	default:
		first = append(first, e.serviceFindings(p, verdict.SeverityWarning)...)
	}
	if f, ok := e.policy(p, dst); ok {
		if f.Code == verdict.NetworkPolicyDeny {
			first = append(first, f)
		} else {
			last = append(last, f)
		}
	}
	taken, another := e.elsewhere(p, dst)
	if another {
		failed = true
		if p.Delivered {
			p.Verdict = verdict.Unreachable
		}
	}
	for _, f := range e.objectFindings(dst) {
		because := explains(f.Code, e.metThere(f.Where, p.Findings))
		if another { // that nobody listens there is no wonder; but why is it another's?
			because = f.Code == verdict.PodNotRunning && e.to.pod != nil && f.Where.Pod == e.to.pod.String()
		}
		if failed && because {
			f.Severity = verdict.SeverityFatal
			first = append(first, f)
		} else {
			last = append(last, f)
		}
	}
	if another {
		first = append(first, taken)
	}
	p.Findings = slices.Concat(first, p.Findings, last)
	if p.Findings == nil {
		p.Findings = []verdict.Finding{}
	}
}

// explains says whether the state of an object is the cause of what the
// dataplane met.
func explains(object verdict.Code, mechanism []verdict.Finding) bool {
	switch object {
	case verdict.PodNotRunning, verdict.PodNotReady, verdict.NodeNotReady:
		return hasCode(mechanism, verdict.NoListener, verdict.NeighbourFailed, verdict.InterfaceDown, verdict.InterfaceMissing)
	}
	return false
}

// metThere are those findings of a path that the state of an object there may be the
// cause of: of a node, what is met on it; of the source, what is met in it. What
// becomes of packets to a pod, its node and others may meet.
func (e *explainer) metThere(object verdict.Where, findings []verdict.Finding) []verdict.Finding {
	source := e.from.pod != nil && e.from.pod != e.to.pod && object.Pod == e.from.pod.String()
	if object.Pod != "" && !source {
		return findings
	}
	return slices.DeleteFunc(slices.Clone(findings), func(f verdict.Finding) bool {
		return source && f.Where.Pod != object.Pod || f.Where.Node != object.Node
	})
}

func hasCode(findings []verdict.Finding, codes ...verdict.Code) bool {
	return slices.ContainsFunc(findings, func(f verdict.Finding) bool { return slices.Contains(codes, f.Code) })
}

// boundary judges a path that leaves the collected world: it counts as
// reachable only if nothing inside could own the destination.
func (e *explainer) boundary(p *verdict.Path, dst netip.Addr) bool {
	if !hasCode(p.Findings, verdict.LeavesModel) {
		return false
	}
	e.report.Boundary = true
	src := e.leavingSource(p)
	_, owned := e.w.cluster.Owner(dst)
	switch what, known := e.w.knownOwner(dst); {
	case e.w.uncollected(dst) != nil:
		h := e.w.uncollected(dst)
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		missing := h.missing(h.lack(netstack.FamilyOf(dst)).routing)
		missing.Message = fmt.Sprintf("%s is an address of %s: %s", dst, h, missing.Message)
		p.Findings = append([]verdict.Finding{missing}, p.Findings...)
	case e.unassigned(dst):
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		if e.service != nil {
			what = "service " + e.service.String() // of those that share the address
		}
		f := verdict.NewFindingf(verdict.SnapshotMissing, p.Findings[0].Where, nil,
			"%s is an address of the %s, and the packet leaves the collected world with it: whether anything beyond translates it is not known", dst, what)
		f.Remedy = "Find out why no node on the way translates it: the addresses of services are known to nodes and load balancers alone."
		p.Findings = slices.Concat(e.serviceFindings(p, verdict.SeverityUndecided), []verdict.Finding{f}, p.Findings)
	case known && e.w.collected(dst):
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		p.Findings = append([]verdict.Finding{verdict.NewFindingf(verdict.SnapshotMissing, p.Findings[0].Where, nil,
			"%s belongs to the %s, and the packet leaves the collected world: whether it comes back was not collected", dst, what)}, p.Findings...)
	case known && !owned:
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		p.Findings = append([]verdict.Finding{verdict.NewFindingf(verdict.SnapshotMissing, p.Findings[0].Where, nil,
			"%s lies in the %s, but nothing collected has this address: what happens to the packet beyond is not known", dst, what)}, p.Findings...)
	case known:
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		p.Findings = append([]verdict.Finding{verdict.NewFindingf(verdict.SnapshotMissing, p.Findings[0].Where, nil,
			"%s belongs to the %s, which was not collected: what happens to the packet there is not known", dst, what)}, p.Findings...)
	case len(e.w.byAddr[dst]) > 0:
		p.Verdict, p.Outcome, p.Delivered = verdict.Unknown, verdict.OutcomeUnknown, false
		p.Findings = append([]verdict.Finding{verdict.NewFindingf(verdict.SnapshotMissing, p.Findings[0].Where, nil,
			"%s is an address of %s, and the packet leaves the collected world: whether it comes back was not collected", dst, e.w.byAddr[dst][0])}, p.Findings...)
	case dst.IsGlobalUnicast() && !dst.IsPrivate() && src.IsValid() && src.IsPrivate():
		p.Verdict, p.Outcome, p.Delivered = verdict.Unreachable, verdict.OutcomeTimeout, false
		where := p.Findings[0].Where
		f := verdict.NewFinding(verdict.EgressNotTranslated, where, p.Findings[0].Evidence, dst, where.Interface, src)
		if by := e.w.translatedBeyond(where, src); by != "" {
			p.Verdict, p.Outcome = verdict.Unknown, verdict.OutcomeUnknown
			f.Severity = verdict.SeverityUndecided
			f.Message += ", which " + by + " may translate: that was not collected"
			f.Remedy = "Let Plumbline read the cloud, collect the gateway, or send a real probe (confirm)."
		}
		p.Findings = append([]verdict.Finding{f}, p.Findings...)
	}
	return true
}

// translatedBeyond names what may translate a private source beyond the place where a
// packet left: the gateway of the network that the source is of, or a cloud. Empty:
// nothing there knows the source, as with pods behind a node.
func (w *World) translatedBeyond(at verdict.Where, src netip.Addr) string {
	if at.Resource != "" {
		return "what is beyond " + at.Resource
	}
	if h := w.byName[at.Namespace]; h != nil {
		for _, a := range h.Addresses {
			if a.Dev == at.Interface && a.Prefix.Contains(src) {
				return "a gateway of " + a.Prefix.Masked().String()
			}
		}
	}
	if n, ok := w.cluster.Node(at.Node); ok && n.Object != nil && ofCloud(n.Object.Spec.ProviderID) {
		return "the cloud of node " + n.Name
	}
	return ""
}

// ofCloud says whether the provider of a node is a cloud: clusters on one host have one,
// too.
func ofCloud(providerID string) bool {
	return providerID != "" && !strings.HasPrefix(providerID, "kind://") && !strings.HasPrefix(providerID, "k3s://")
}

// leavingSource is the source address with which the packet left.
func (e *explainer) leavingSource(p *verdict.Path) netip.Addr {
	src, _ := netip.ParseAddr(p.Source.IP)
	for _, t := range p.Translations {
		if t.Kind == "snat" || t.Kind == "masquerade" {
			if to, err := netip.ParseAddrPort(t.To); err == nil {
				src = to.Addr()
			} else if to, err := netip.ParseAddr(t.To); err == nil {
				src = to
			}
		}
	}
	return src
}

// uncollected is the namespace that is known to have an address, and of which
// nothing else is: its state could not be had.
func (w *World) uncollected(addr netip.Addr) *host {
	for _, h := range w.byAddr[addr] {
		if h.lack(netstack.FamilyOf(addr)).routing != "" {
			return h
		}
	}
	return nil
}

// collected says whether the one namespace that has an address is here.
func (w *World) collected(addr netip.Addr) bool { return len(w.byAddr[addr]) == 1 }

// knownOwner says what in the cluster owns, or could own, an address.
func (w *World) knownOwner(addr netip.Addr) (string, bool) {
	if o, ok := w.cluster.Owner(addr); ok {
		return o.String(), true
	}
	return w.cluster.InKnownRange(addr)
}

// serviceFindings says what the objects hold against using the service that was
// asked for: they explain a failure, or what may be one, and are only a difference
// otherwise, which the severity says.
func (e *explainer) serviceFindings(p *verdict.Path, severity verdict.Severity) []verdict.Finding {
	lost := severity != verdict.SeverityWarning && !translatesDestination(p)
	if lost && e.report.Query.Protocol == verdict.ICMP {
		return e.noEcho(severity)
	}
	if e.service == nil || e.either && !lost {
		return nil
	}
	client, _ := netip.ParseAddr(p.Source.IP)
	known, seen := e.against[client]
	if !seen {
		known = e.w.cluster.ServiceFindings(e.service, e.use, client, e.flow.packet.Dst)
		e.against[client] = known
	}
	findings := slices.Clone(known)
	if hasCode(p.Findings, verdict.NetfilterReject) {
		// That is for want of endpoints: clients outside of the source ranges are dropped.
		slices.Reverse(findings)
	}
	if len(findings) == 0 && lost && len(e.backends) > 0 && e.promised() && e.passesProxy(p) {
		findings = append(findings, e.allMissing(p))
	}
	for i := range findings {
		findings[i].Severity = severity
	}
	return findings
}

// noEcho says that nobody has the address of a service, of which nodes translate the
// ports alone. Those that its load balancer has may well answer an echo request.
func (e *explainer) noEcho(severity verdict.Severity) []verdict.Finding {
	dst := e.flow.packet.Dst
	s, known := e.w.cluster.ServiceByIP(dst)
	if !known || e.w.owned(dst) || !slices.Contains(s.ClusterIPs, dst) {
		return nil
	}
	f := s.NoSuchPort("*/icmp", e.use.Node)
	f.Severity, f.Remedy = severity, "Ask for a port of the service, with its protocol: only those are translated, echo requests are not."
	return []verdict.Finding{f}
}

func translatesDestination(p *verdict.Path) bool {
	return slices.ContainsFunc(p.Translations, func(t verdict.Translation) bool {
		return t.Kind == "dnat" || t.Kind == "redirect" || t.Kind == "ipvs"
	})
}

// passesProxy says whether the packet gets to where the node translates what goes
// to services: at PREROUTING when it comes in, at OUTPUT when the node has sent
// it, which is after its route was found.
func (e *explainer) passesProxy(p *verdict.Path) bool {
	return slices.ContainsFunc(p.Hops, func(h verdict.Hop) bool {
		return h.Kind == verdict.HopNode && h.Node == e.use.Node && (h.In != "" || h.Out != "" || slices.ContainsFunc(h.Steps, func(s verdict.Step) bool { return strings.HasSuffix(s.Stage, "/OUTPUT") }))
	})
}

// findService says which service is asked for, and how.
func (e *explainer) findService() {
	if e.report.Query.Protocol == verdict.ICMP {
		return // a service has ports of protocols that have ports
	}
	dst := e.flow.packet.Dst
	e.use = cluster.Traffic{Port: e.report.Query.Port, Protocol: e.report.Query.Protocol, IPv6: netstack.FamilyOf(dst) == netstack.IPv6}
	e.service = e.to.service
	if e.to.literal {
		e.service = e.serviceAt(dst)
	}
	switch {
	case e.service == nil:
	case e.portOf != "":
		e.use.External, e.use.NodePort = true, true
	case slices.Contains(e.service.ProxiedIPs, dst):
		e.service = nil // nobody promises that nodes know it
	default:
		e.use.External = e.service.IsExternal(dst)
	}
}

// serviceAt is the service that an address leads to, with the port that is asked for:
// an address may be that of several services, and of a node besides.
func (e *explainer) serviceAt(addr netip.Addr) *cluster.Service {
	x := e.w.cluster
	if s, ok := x.ServiceAt(addr, e.use.Port, e.use.Protocol); ok {
		return s
	}
	if node, ok := e.nodeAt(addr); ok {
		s, ok := x.ServiceByNodePort(e.use.Port, e.use.Protocol)
		if !ok {
			return nil
		}
		e.portOf = node
		for _, p := range s.Ports {
			if p.NodePort == e.use.Port && p.Protocol == e.use.Protocol {
				e.use.Port = p.Port
				break
			}
		}
		return s
	}
	if e.w.owned(addr) {
		return nil // what else is asked of it, is not asked of the service
	}
	s, _ := x.ServiceByIP(addr)
	return s
}

// nodeAt is the node that has an address, and serves node ports there: by its object, or,
// of nodes that have one besides, that of the client. kube-proxy in nftables mode serves
// those of the object alone, unless it is told otherwise.
func (e *explainer) nodeAt(addr netip.Addr) (string, bool) {
	if node, ok := e.w.cluster.NodeByIP(addr); ok {
		return node.Name, true
	}
	if addr.IsLoopback() || !e.w.owned(addr) {
		return "", false
	}
	var nodes []string
	for _, h := range e.w.byAddr[addr] {
		if h.Kind == netstack.KindNode && e.w.serviceProxy(h.Node) != "nftables" {
			nodes = append(nodes, h.Node)
		}
	}
	if from := e.flow.from; from != nil && slices.Contains(nodes, from.Node) {
		return from.Node, true
	}
	if len(nodes) != 1 {
		return "", false
	}
	return nodes[0], true
}

// promised says whether the service proxy has to know the address that is asked for:
// whether it serves node ports at other addresses of the node depends on its configuration.
func (e *explainer) promised() bool {
	_, other := e.service.OtherProxy()
	_, known := e.w.cluster.NodeByIP(e.flow.packet.Dst)
	return !other && (e.portOf == "" || known)
}

// owned says whether a namespace has an address for itself: in IPVS mode nodes have
// those of services, too.
func (w *World) owned(addr netip.Addr) bool {
	return slices.ContainsFunc(w.byAddr[addr], func(h *host) bool {
		for a := range h.addresses.Each(addr) {
			if a.Dev != serviceDevice {
				return true
			}
		}
		return false
	})
}

// findBackends lists the endpoints that the service may lead to, once.
func (e *explainer) findBackends() {
	if e.service != nil {
		e.backends, e.against = e.w.cluster.Backends(e.service, e.use), make(map[netip.Addr][]verdict.Finding)
	}
}

// toBackend says of a path whether it leads to an endpoint of the service that
// is asked for: which of them takes a connection is no doubt about it. It is nil
// if no service is.
func (e *explainer) toBackend() func(*verdict.Path) bool {
	if e.service == nil {
		return nil
	}
	var endpoints map[string]bool // only doubts ask
	return func(p *verdict.Path) bool {
		if endpoints == nil {
			endpoints = make(map[string]bool)
			for _, b := range e.w.cluster.Endpoints(e.service, e.use.Port, e.use.Protocol, e.use.IPv6) {
				endpoints[b.Addr.String()] = true
			}
		}
		return endpoints[destination(p)]
	}
}

// findNode says where the service is translated, and whether its client is taken
// for one inside there.
func (e *explainer) findNode() {
	from := e.flow.from
	inside := from != nil && (from.Kind == netstack.KindPod || from.Kind == netstack.KindNode)
	switch {
	case e.portOf != "": // by the node alone that has the address
		e.use.Node = e.portOf
	case inside:
		e.use.Node = from.Node
	default: // what comes from outside, on the node that it comes to first
		e.use.Node = e.entered()
	}
	e.use.IPVS = e.w.proxiesByIPVS(e.use.Node)
	e.use.FromInside = inside && from.Node == e.use.Node
	// Whether kube-proxy takes a pod of another node for one of the cluster depends on
	// its --detect-local-mode.
	e.either = inside && !e.use.FromInside && !e.use.IPVS && e.service != nil &&
		e.service.Object.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal &&
		slices.ContainsFunc(e.report.Paths, e.arrivesAsPod)
}

// entered is the first node that a packet comes to.
func (e *explainer) entered() string {
	for i := range e.report.Paths {
		for _, h := range e.report.Paths[i].Hops {
			if h.Kind == verdict.HopNode && h.Node != "" {
				return h.Node
			}
		}
	}
	return ""
}

// arrivesAsPod says whether the packet may come to the node that translates it with
// the address of a pod.
func (e *explainer) arrivesAsPod(p verdict.Path) bool {
	if h := e.w.byNode[e.use.Node]; h != nil {
		p.Translations = slices.DeleteFunc(slices.Clone(p.Translations), func(t verdict.Translation) bool { return t.Where == h.Name })
	}
	src := e.leavingSource(&p)
	if _, pod := e.w.cluster.PodByIP(src); pod {
		return true
	}
	_, inside := e.w.cluster.InKnownRange(src)
	return inside
}

// mismatch is a difference between a service's endpoints and the dataplane.
func (e *explainer) mismatch(endpoint, how string) verdict.Finding {
	node := e.use.Node
	return verdict.NewFindingf(verdict.ServiceBackendMismatch, verdict.Where{Node: node, Resource: "service " + e.service.String()}, nil,
		"endpoint %s of service %s %s in %s on node %s", endpoint, e.service, how, e.w.serviceProxy(node), node)
}

// allMissing is the difference where the dataplane leads to no endpoint at all.
func (e *explainer) allMissing(p *verdict.Path) verdict.Finding {
	const most = 5 // a service may have a thousand
	endpoint := e.backends[0].Addr.String()
	if more := len(e.backends) - 1; more > 0 {
		endpoint += fmt.Sprintf(" (and %d more)", more)
	}
	f := e.mismatch(endpoint, "is missing")
	if step, why := e.bypass(p); step != nil {
		f.Message += " for this packet: " + why
		f.Evidence = append(f.Evidence, step.Stage+": "+step.Rule)
		f.Remedy = "Let this rule spare what goes to services: those of the service proxy, which may be as they should, are not asked after it."
	}
	for i, b := range e.backends {
		if i == most {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and %d more endpoints", len(e.backends)-most))
			break
		}
		f.Evidence = append(f.Evidence, "endpoint "+b.String())
	}
	return f
}

// bypass is the step that kept a packet from the rules by which the node translates
// what goes to services, and how it did.
func (e *explainer) bypass(p *verdict.Path) (step *verdict.Step, why string) {
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Kind != verdict.HopNode || h.Node != e.use.Node {
			continue
		}
		for j := range h.Steps {
			s := &h.Steps[j]
			switch nat := s.Stage == "nat/PREROUTING" || s.Stage == "nat/OUTPUT"; {
			case s.Action == "notrack":
				return s, "what is not tracked is not translated"
			case nat && s.Action == "jump KUBE-SERVICES":
				return nil, ""
			case nat && s.Rule != "" && (s.Action == "accept" || s.Action == "return" && strings.HasSuffix(s.Stage, "/"+s.Chain)):
				return s, "another rule ends " + s.Stage + " before"
			}
		}
	}
	return nil, ""
}

// serviceProxy is the mode of the service proxy of a node, as it says itself, or by
// what it left there.
func (w *World) serviceProxy(node string) string {
	h := w.byNode[node]
	switch {
	case h == nil:
	case h.Facts != nil && h.Facts.ProxyMode != "":
		return h.Facts.ProxyMode
	case h.balancer != nil && len(h.balancer.Services()) > 0:
		return "ipvs"
	case h.filter != nil && h.filter.HasTable("kube-proxy"):
		return "nftables"
	}
	return "iptables"
}

// proxiesByIPVS says whether a node's service proxy is kube-proxy in IPVS mode:
// others that use IPVS have no such device.
func (w *World) proxiesByIPVS(node string) bool {
	h := w.byNode[node]
	return h != nil && h.links[serviceDevice] != nil && w.serviceProxy(node) == "ipvs"
}

// compareBackends compares the endpoints that packets would go to with those
// that the objects name.
func (e *explainer) compareBackends() {
	expected, translated := make(map[string]bool), false
	for _, b := range e.backends {
		expected[b.Addr.String()] = false
	}
	for i := range e.report.Paths {
		p := &e.report.Paths[i]
		if p.Verdict == verdict.Unknown && !translatesDestination(p) {
			return // what is not known is no difference
		}
		if !translatesDestination(p) {
			continue
		}
		translated = true
		to := destination(p)
		if _, ok := expected[to]; ok {
			expected[to] = true
			continue
		}
		f := e.mismatch(to, "is unexpected")
		for _, t := range p.Translations {
			if t.To == to && t.Rule != "" { // which may be of anybody
				f.Evidence = append(f.Evidence, t.Rule)
			}
		}
		unexpected(p, f)
	}
	if !translated {
		return // the paths say so
	}
	var missing []string
	for addr, seen := range expected {
		if !seen {
			missing = append(missing, addr)
		}
	}
	slices.Sort(missing)
	for _, addr := range missing {
		e.general = append(e.general, e.mismatch(addr, "is missing"))
	}
}

// unexpected adds the finding that a path leads where it should not.
func unexpected(p *verdict.Path, f verdict.Finding) {
	if p.Verdict != verdict.Unreachable {
		p.Findings = append(p.Findings, f)
		return
	}
	f.Severity = verdict.SeverityFatal // that nobody answers there is no wonder
	at := 0
	if hasCode(p.Findings[:min(1, len(p.Findings))], verdict.ServiceNoEndpoints) {
		at = 1 // a stale rule is the lesser reason then
	}
	p.Findings = slices.Insert(p.Findings, at, f)
}

// staleServices finds what kube-proxy still translates though no service has that
// address, or that port of a node, any more.
func (e *explainer) staleServices() {
	x := e.w.cluster
	for i := range e.report.Paths {
		p := &e.report.Paths[i]
		for _, t := range p.Translations {
			from, err := netip.ParseAddrPort(t.From)
			if err != nil || len(x.ServicesByIP(from.Addr())) > 0 {
				continue
			}
			if _, used := x.ServiceByNodePort(from.Port(), e.report.Query.Protocol); used {
				continue
			}
			if node := e.w.proxyOf(p, t); node != "" && x.ServicesKnown() {
				unexpected(p, verdict.NewFindingf(verdict.ServiceBackendMismatch, verdict.Where{Node: node}, []string{t.Rule},
					"endpoint %s of service %s is unexpected in %s on node %s: there is no such service", t.To, t.From, e.w.serviceProxy(node), node))
			}
		}
	}
}

// proxyOf is the node of which kube-proxy has made the rule of a translation; empty if
// it is not kube-proxy's.
func (w *World) proxyOf(p *verdict.Path, t verdict.Translation) string {
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Kind == verdict.HopNode && h.Namespace == t.Where && slices.ContainsFunc(h.Steps, func(s verdict.Step) bool {
			return s.Rule == t.Rule && (strings.HasPrefix(s.Chain, "KUBE-SEP-") || strings.HasPrefix(s.Stage, "kube-proxy/") || t.Kind == "ipvs" && w.proxiesByIPVS(h.Node))
		}) {
			return h.Node
		}
	}
	return ""
}

func destination(p *verdict.Path) string {
	addr, err := netip.ParseAddr(p.Destination.IP)
	if err != nil {
		return p.Destination.IP
	}
	return netip.AddrPortFrom(addr, p.Destination.Port).String()
}

// policy holds the path against the network policies of the API. What the dataplane
// does with a connection that they deny is told: it drops it, it lets it through, or
// nobody knows, as where the rules that would drop it cannot be seen.
func (e *explainer) policy(p *verdict.Path, dst netip.Addr) (verdict.Finding, bool) {
	result, ok := e.policyOf(p, dst)
	if !ok {
		return verdict.Finding{}, false
	}
	e.notePolicy(&result)
	if result.Verdict != verdict.PolicyDeny {
		return verdict.Finding{}, false
	}
	switch {
	case p.Verdict == verdict.Unknown:
		f, ok := result.Finding()
		f.Severity = verdict.SeverityWarning // alone, it makes nothing certain
		return f, ok
	case hasCode(p.Findings, verdict.NetfilterDrop, verdict.NetfilterReject, verdict.ConntrackInvalid, verdict.TCDrop):
		return result.Finding()
	case p.Verdict != verdict.Unreachable || p.Destination.Namespace != "":
		return result.NotEnforced()
	}
	return verdict.Finding{}, false
}

// policyOf is what the policies say of a path, if it is known which pods it joins.
// Where something that cannot be seen translates a service's address, it is what they
// say of all its endpoints, if that is one thing.
func (e *explainer) policyOf(p *verdict.Path, dst netip.Addr) (cluster.PolicyResult, bool) {
	if !dst.IsValid() {
		return cluster.PolicyResult{}, false
	}
	if !e.unassigned(dst) {
		return e.policyTo(p, netip.AddrPortFrom(dst, p.Destination.Port)), true
	}
	if p.Verdict != verdict.Unknown || e.service == nil || !e.w.cluster.BackendsKnown() {
		return cluster.PolicyResult{}, false
	}
	var joint *cluster.PolicyResult
	for _, b := range e.backends {
		result := e.policyTo(p, b.Addr)
		switch {
		case joint == nil:
			joint = &result
		case (joint.Verdict == verdict.PolicyDeny) != (result.Verdict == verdict.PolicyDeny):
			return cluster.PolicyResult{Verdict: verdict.PolicyNone, Unknown: true, Explanation: []string{fmt.Sprintf(
				"whether policies allow it is not known: they allow some endpoints of the service %s, and deny others", e.service)}}, true
		case result.Unknown:
			joint = &result
		}
	}
	if joint == nil {
		return cluster.PolicyResult{}, false
	}
	return *joint, true
}

func (e *explainer) policyTo(p *verdict.Path, to netip.AddrPort) cluster.PolicyResult {
	src, _ := netip.ParseAddr(p.Source.IP)
	connection := cluster.Connection{
		Source: cluster.End{Addr: src, Pod: e.from.pod, Node: e.nodeOf(src)}, Destination: cluster.End{Addr: to.Addr(), Node: e.nodeOf(to.Addr())},
		Protocol: e.report.Query.Protocol, Port: to.Port(),
	}
	result := e.w.cluster.Evaluate(connection)
	seen := e.leavingSource(p)
	if seen == src || result.Unknown {
		return result
	}
	// The API leaves it open whether a policy of the destination sees the source
	// before or after it was translated.
	connection.Seen = cluster.End{Addr: seen, Node: e.nodeOf(seen)}
	other := e.w.cluster.Evaluate(connection)
	switch {
	case other.Unknown:
		return other
	case (other.Verdict == verdict.PolicyDeny) != (result.Verdict == verdict.PolicyDeny):
		return cluster.PolicyResult{Verdict: verdict.PolicyNone, Unknown: true, Explanation: []string{fmt.Sprintf(
			"whether policies allow it is not known: %s is translated to %s, and it is up to the network plugin which of the two they see", src, seen)}}
	}
	return result
}

// unwalked says what policies hold against a connection of which nothing could be
// walked, as its client's namespace was not collected.
func (e *explainer) unwalked() {
	dst := e.flow.packet.Dst
	src, ok := e.from.addr(netstack.FamilyOf(dst))
	if !ok {
		return
	}
	if pod := e.from.pod; pod != nil && e.portOf == "" {
		e.use.FromInside, e.use.Node = true, pod.Node
	}
	e.findBackends()
	p := &verdict.Path{Verdict: verdict.Unknown, Source: verdict.Source{IP: src.String()}, Destination: verdict.Destination{IP: dst.String(), Port: e.use.Port}}
	if f, ok := e.policy(p, dst); ok {
		e.report.Reasons = append(e.report.Reasons, f)
	}
	e.report.Assumptions = append(e.report.Assumptions, e.open...)
}

// unassigned says whether addr is still the service's alone: policies judge by the
// address after translation.
func (e *explainer) unassigned(addr netip.Addr) bool {
	return len(e.w.cluster.ServicesByIP(addr)) > 0 && !e.w.owned(addr)
}

func (e *explainer) nodeOf(addr netip.Addr) string {
	for _, h := range e.w.byAddr[addr] {
		if h.Kind == netstack.KindNode {
			return h.Node
		}
	}
	return ""
}

// notePolicy joins the policy verdicts of the paths: one denial denies.
func (e *explainer) notePolicy(result *cluster.PolicyResult) {
	if result.Unknown {
		for _, text := range result.Explanation {
			if !slices.Contains(e.open, text) {
				e.open = append(e.open, text)
			}
		}
	}
	r := &e.report.Policy
	if result.Verdict == verdict.PolicyDeny && r.Verdict != verdict.PolicyDeny {
		r.Verdict, r.Policies = verdict.PolicyDeny, []string{}
	}
	if result.Verdict == verdict.PolicyAllow && r.Verdict == verdict.PolicyNone {
		r.Verdict = verdict.PolicyAllow
	}
	if result.Verdict != r.Verdict {
		return
	}
	for _, name := range result.Policies {
		if !slices.Contains(r.Policies, name) {
			r.Policies = append(r.Policies, name)
		}
	}
}

// elsewhere says whether the packet was taken by something other than what was
// asked for.
func (e *explainer) elsewhere(p *verdict.Path, dst netip.Addr) (verdict.Finding, bool) {
	if p.Destination.Namespace == "" {
		return verdict.Finding{}, false
	}
	at := e.w.byName[p.Destination.Namespace]
	want := e.to.host
	if e.service != nil || translatesDestination(p) {
		want = nil
		if pod, ok := e.w.cluster.PodByIP(dst); ok {
			want = e.w.byPod[pod.String()]
		}
	}
	evidence := []string{p.Hops[len(p.Hops)-1].Packet}
	if pod, owner := e.to.pod, e.newOwner(dst); at != nil && want == nil && owner != nil {
		return verdict.NewFindingf(verdict.DeliveredElsewhere, at.where(""), evidence,
			"%s was of pod %s and is owned by pod %s: %s took the packet", dst, pod, owner, at), true
	}
	if want == nil || at == nil || at == want {
		return verdict.Finding{}, false
	}
	return verdict.NewFindingf(verdict.DeliveredElsewhere, at.where(""), evidence,
		"%s is owned by %s, but %s took the packet", dst, want, at), true
}

// newOwner is the pod that has the address of the one that was asked for, which has ended.
func (e *explainer) newOwner(dst netip.Addr) *cluster.Pod {
	if e.to.pod == nil || e.to.pod.Alive() || !slices.Contains(e.to.pod.IPs, dst) {
		return nil
	}
	owner, _ := e.w.cluster.PodByIP(dst)
	return owner
}

// objectFindings says what the state of the pods and nodes at both ends holds
// against the connection.
func (e *explainer) objectFindings(dst netip.Addr) []verdict.Finding {
	var list []verdict.Finding
	pods := []*cluster.Pod{e.from.pod, e.to.pod}
	if pod, ok := e.w.cluster.PodByIP(dst); ok && e.newOwner(dst) == nil {
		pods = append(pods, pod)
	}
	for i, pod := range pods {
		if pod == nil || slices.Contains(pods[:i], pod) {
			continue
		}
		list = append(list, pod.Findings()...)
		if node, ok := e.w.cluster.Node(pod.Node); ok {
			list = append(list, node.Findings()...)
		}
	}
	return list
}

// reasons lists the findings of all paths, those of the worst paths first, each
// once.
func (e *explainer) reasons() []verdict.Finding {
	var list []verdict.Finding
	seen := make(map[string]bool)
	add := func(f verdict.Finding) {
		key := fmt.Sprintf("%s|%v|%s", f.Code, f.Where, f.Message)
		if !seen[key] {
			seen[key] = true
			list = append(list, f)
		}
	}
	decisive := func(f *verdict.Finding) bool {
		switch f.Severity {
		case verdict.SeverityFatal, verdict.SeverityPartial, verdict.SeverityUndecided:
			return true
		}
		return false
	}
	for _, v := range []verdict.Verdict{verdict.Unreachable, verdict.Unknown, verdict.Degraded, verdict.Reachable} {
		for i := range e.report.Paths {
			p := &e.report.Paths[i]
			for j := range p.Findings {
				if p.Verdict == v && decisive(&p.Findings[j]) {
					add(p.Findings[j])
				}
			}
		}
	}
	for i := range e.report.Paths {
		for _, f := range e.report.Paths[i].Findings {
			add(f)
		}
	}
	for _, f := range e.general {
		add(f)
	}
	if list == nil {
		return []verdict.Finding{}
	}
	return list
}
