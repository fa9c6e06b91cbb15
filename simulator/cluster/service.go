package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Service is what a diagnosis needs to know about one service.
type Service struct {
	Namespace, Name string
	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr // spec.externalIPs
	IngressIPs      []netip.Addr // status.loadBalancer
	// ProxiedIPs are those of IngressIPs with ipMode Proxy: service proxies leave
	// them to the load balancer.
	ProxiedIPs []netip.Addr
	Ports      []ServicePort
	Headless   bool
	// ExternalName is the DNS name that this service is an alias of.
	ExternalName string
	// SourceRanges are the clients that may use the load balancer; none means
	// all.
	SourceRanges []netip.Prefix
	// HealthCheckNodePort is where nodes tell a load balancer whether they have
	// local endpoints; 0 for none.
	HealthCheckNodePort uint16
	Object              *corev1.Service
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name       string
	Protocol   verdict.Protocol
	Port       uint16
	NodePort   uint16 // 0: none
	TargetPort string // number or name, for people: backends come from EndpointSlices
}

// String is "NAMESPACE/NAME".
func (s *Service) String() string { return s.Namespace + "/" + s.Name }

// HasPort says whether the service declares a port.
func (s *Service) HasPort(port uint16, protocol verdict.Protocol) bool {
	_, ok := s.port(port, protocol)
	return ok
}

// PrefersIPv6 says whether IPv6 is the first of the service's IP families.
func (s *Service) PrefersIPv6() bool {
	families := s.Object.Spec.IPFamilies
	return len(families) > 0 && families[0] == corev1.IPv6Protocol
}

// IsExternal says whether addr is one of the service's addresses for clients
// outside of the cluster.
func (s *Service) IsExternal(addr netip.Addr) bool {
	return slices.Contains(s.ExternalIPs, addr.Unmap()) || slices.Contains(s.IngressIPs, addr.Unmap())
}

// accessibleFromOutside is ExternallyAccessible of kube-proxy.
func (s *Service) accessibleFromOutside() bool {
	return len(s.ExternalIPs) > 0 || len(s.IngressIPs) > 0 || slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.NodePort != 0 })
}

// labelServiceProxyName is LabelServiceProxyName of kube-proxy, which leaves services
// with it alone, whatever its value.
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// OtherProxy is the service proxy that the service is left to, in place of the one of
// the cluster.
func (s *Service) OtherProxy() (name string, ok bool) {
	name, ok = s.Object.Labels[labelServiceProxyName]
	return name, ok
}

// ClusterIP returns the service's cluster IP of one family.
func (s *Service) ClusterIP(ipv6 bool) (netip.Addr, bool) { return ofFamily(s.ClusterIPs, ipv6) }

func (s *Service) port(port uint16, protocol verdict.Protocol) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Port == port && p.Protocol == protocol {
			return p, true
		}
	}
	return ServicePort{}, false
}

// Traffic is a way of using a service.
type Traffic struct {
	Port     uint16 // of the service (not the node port)
	Protocol verdict.Protocol
	IPv6     bool
	// Node is where the service is translated: the client's node, or the node
	// at which a packet from outside arrives.
	Node string
	// External: the packet was sent to an external IP, a load balancer's
	// address or a node port, not to the cluster IP.
	External bool
	// NodePort: the packet was sent to a node port, to which source ranges do not
	// apply.
	NodePort bool
	// FromInside: the client is a pod of that node or the node itself. The external
	// traffic policy does not hold for these.
	FromInside bool
	// IPVS: the node's service proxy is kube-proxy in IPVS mode, whose virtual
	// servers do not tell clients inside from those outside.
	IPVS bool
}

// Backend is one endpoint of a service.
type Backend struct {
	Addr netip.AddrPort
	Pod  string // NAMESPACE/NAME; empty when the endpoint is no pod
	Node string
	// The conditions of the endpoint, with the API's defaults.
	Ready, Serving, Terminating bool

	zones, nodes []string // hints
}

// String is "10.244.1.2:8080 (pod shop/api-0 on node a, not ready)".
func (b Backend) String() string {
	var notes []string
	switch {
	case b.Pod != "" && b.Node != "":
		notes = append(notes, "pod "+b.Pod+" on node "+b.Node)
	case b.Pod != "":
		notes = append(notes, "pod "+b.Pod)
	case b.Node != "":
		notes = append(notes, "on node "+b.Node)
	}
	if !b.Ready {
		notes = append(notes, "not ready")
	}
	if b.Terminating {
		notes = append(notes, "terminating")
	}
	if b.Terminating && !b.Serving {
		notes = append(notes, "not serving")
	}
	if len(notes) == 0 {
		return b.Addr.String()
	}
	return b.Addr.String() + " (" + strings.Join(notes, ", ") + ")"
}

func (x *Index) addService(object *corev1.Service) {
	s := &Service{Namespace: object.Namespace, Name: object.Name, Object: object}
	if object.Spec.Type == corev1.ServiceTypeExternalName {
		s.ExternalName = object.Spec.ExternalName
	} else {
		s.Headless = object.Spec.ClusterIP == corev1.ClusterIPNone
		s.ClusterIPs = clusterIPs(object)
		s.ExternalIPs = parseAddrs(object.Spec.ExternalIPs)
	}
	if object.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range object.Status.LoadBalancer.Ingress {
			addrs := parseAddrs([]string{in.IP})
			s.IngressIPs = append(s.IngressIPs, addrs...)
			if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
				s.ProxiedIPs = append(s.ProxiedIPs, addrs...)
			}
		}
		for _, r := range object.Spec.LoadBalancerSourceRanges {
			if p, err := parsePrefix(strings.TrimSpace(r)); err == nil {
				s.SourceRanges = append(s.SourceRanges, p)
			}
		}
	}
	if isPort(object.Spec.HealthCheckNodePort) {
		s.HealthCheckNodePort = uint16(object.Spec.HealthCheckNodePort)
	}
	for _, p := range object.Spec.Ports {
		if !isPort(p.Port) {
			continue
		}
		sp := ServicePort{Name: p.Name, Protocol: protocolOf(p.Protocol), Port: uint16(p.Port), TargetPort: p.TargetPort.String()}
		if isPort(p.NodePort) && s.ExternalName == "" {
			sp.NodePort = uint16(p.NodePort)
			key := nodePort{sp.NodePort, sp.Protocol}
			x.svcByNode[key] = append(x.svcByNode[key], s)
		}
		s.Ports = append(s.Ports, sp)
	}
	x.services[s.String()] = s
	seen := map[netip.Addr]bool{}
	for _, list := range [][]netip.Addr{s.ClusterIPs, s.ExternalIPs, s.IngressIPs} {
		for _, a := range list {
			if !seen[a] {
				seen[a] = true
				x.svcByIP[a] = append(x.svcByIP[a], s)
			}
		}
	}
}

func clusterIPs(object *corev1.Service) []netip.Addr {
	if ips := parseAddrs(object.Spec.ClusterIPs); len(ips) > 0 {
		return ips
	}
	return parseAddrs([]string{object.Spec.ClusterIP})
}

// parseAddrs leaves out what is no address, such as "None" of headless
// services.
func parseAddrs(texts []string) []netip.Addr {
	var addrs []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// parsePrefix reads a prefix as net.ParseCIDR does for the components of Kubernetes: an
// IPv4 prefix in the notation of IPv6 is one of IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}

func serviceRanges(services []corev1.Service) []netip.Prefix {
	var ranges []netip.Prefix
	for _, family := range []struct{ bits, narrowest, widest int }{{32, 24, 12}, {128, 112, 64}} {
		var addrs []netip.Addr
		for i := range services {
			for _, a := range clusterIPs(&services[i]) {
				if a.BitLen() == family.bits {
					addrs = append(addrs, a)
				}
			}
		}
		if len(addrs) == 0 {
			continue
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		first, last := addrs[0], addrs[len(addrs)-1]
		bits := family.narrowest
		for bits >= family.widest && !prefixOf(first, bits).Contains(last) {
			bits--
		}
		if bits >= family.widest {
			ranges = append(ranges, prefixOf(first, bits))
			continue
		}
		for _, a := range addrs {
			if p := prefixOf(a, family.narrowest); !slices.Contains(ranges, p) {
				ranges = append(ranges, p)
			}
		}
	}
	return ranges
}

func prefixOf(a netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(a, bits).Masked() }

// Endpoints returns every endpoint of a service port, usable or not, sorted by
// address. For a headless service that is every address which DNS may answer,
// with the port that the client asked for: nothing translates it.
func (x *Index) Endpoints(s *Service, port uint16, protocol verdict.Protocol, ipv6 bool) []Backend {
	family := discoveryv1.AddressTypeIPv4
	if ipv6 {
		family = discoveryv1.AddressTypeIPv6
	}
	declared, ok := s.port(port, protocol)
	if !ok && !s.Headless {
		return nil
	}
	found := map[netip.AddrPort]Backend{}
	for _, slice := range x.slices[s.String()] {
		if slice.AddressType != family {
			continue
		}
		if _, headless := slice.Labels[corev1.IsHeadlessService]; headless && !s.Headless {
			continue // kube-proxy does not watch it
		}
		for _, target := range targetPorts(s, slice, declared, port) {
			for i := range slice.Endpoints {
				b, ok := x.backend(slice.Namespace, &slice.Endpoints[i], target)
				if !ok {
					continue
				}
				if old, twice := found[b.Addr]; !twice || b.replaces(old) {
					found[b.Addr] = b
				}
			}
		}
	}
	list := make([]Backend, 0, len(found))
	for _, b := range found {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
	return list
}

// replaces says which of two endpoints with one address is used: while an endpoint moves
// from one slice to another it is in both, and the address of a pod that terminates may
// have gone to another pod. kube-proxy takes one that does not terminate (addEndpoints);
// which of several, is left to chance there.
func (b Backend) replaces(old Backend) bool {
	if b.Terminating != old.Terminating {
		return old.Terminating
	}
	return b.Ready && !old.Ready
}

// targetPorts are the ports of a slice that belong to a port of its service.
// They are matched by name and protocol: a named targetPort may resolve to other
// numbers in other slices.
func targetPorts(s *Service, slice *discoveryv1.EndpointSlice, declared ServicePort, port uint16) []uint16 {
	if s.Headless {
		return []uint16{port}
	}
	var targets []uint16
	for _, p := range slice.Ports {
		if name, protocol := portOf(&p); name == declared.Name && protocol == declared.Protocol && p.Port != nil && isPort(*p.Port) {
			targets = append(targets, uint16(*p.Port))
		}
	}
	return targets
}

// portOf is what a slice calls a port, and its protocol.
func portOf(p *discoveryv1.EndpointPort) (name string, protocol verdict.Protocol) {
	protocol = verdict.TCP
	if p.Name != nil {
		name = *p.Name
	}
	if p.Protocol != nil {
		protocol = protocolOf(*p.Protocol)
	}
	return name, protocol
}

func (x *Index) backend(namespace string, e *discoveryv1.Endpoint, port uint16) (Backend, bool) {
	if len(e.Addresses) == 0 {
		return Backend{}, false
	}
	// The API allows more than one address, and says that they are fungible: only the
	// first is used (newEndpointSliceInfo in kube-proxy).
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return Backend{}, false
	}
	c := e.Conditions
	b := Backend{
		Addr:        netip.AddrPortFrom(addr.Unmap(), port),
		Ready:       c.Ready == nil || *c.Ready,
		Serving:     c.Serving == nil || *c.Serving,
		Terminating: c.Terminating != nil && *c.Terminating,
		zones:       hints(e, func(h *discoveryv1.EndpointHints) []discoveryv1.ForZone { return h.ForZones }, func(z discoveryv1.ForZone) string { return z.Name }),
		nodes:       hints(e, func(h *discoveryv1.EndpointHints) []discoveryv1.ForNode { return h.ForNodes }, func(n discoveryv1.ForNode) string { return n.Name }),
	}
	if e.NodeName != nil {
		b.Node = *e.NodeName
	}
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		b.Pod = cmp.Or(e.TargetRef.Namespace, namespace) + "/" + e.TargetRef.Name
	} else if p, ok := x.PodByIP(addr); ok {
		b.Pod = p.String()
	}
	return b, true
}

func hints[T any](e *discoveryv1.Endpoint, list func(*discoveryv1.EndpointHints) []T, name func(T) string) []string {
	if e.Hints == nil {
		return nil
	}
	var names []string
	for _, h := range list(e.Hints) {
		names = append(names, name(h))
	}
	return names
}

// ServicesKnown says whether all services are known: each cluster has one.
func (x *Index) ServicesKnown() bool { return len(x.services) > 0 && x.lacking("services") == "" }

// BackendsKnown says whether all was read that Backends looks at: which nodes are
// near is in their labels.
func (x *Index) BackendsKnown() bool { return x.lacking("endpointslices", "nodes") == "" }

// Backends returns the endpoints among which the service proxy should choose
// for this traffic, sorted by address; none for an ExternalName service.
//
// It does what CategorizeEndpoints of kube-proxy does: ready endpoints, of the own
// node only where a traffic policy says Local, of the own node or zone where the
// endpoints carry hints; and if there are none, those that still serve while
// they terminate. With no Node given, neither policies nor hints narrow the
// choice. In IPVS mode, all endpoints stand in for those of the own node if there
// are none and the service can be used from outside (syncEndpoint). None also means
// that they are not known.
func (x *Index) Backends(s *Service, t Traffic) []Backend {
	if !x.BackendsKnown() {
		return nil
	}
	all := x.Endpoints(s, t.Port, t.Protocol, t.IPv6)
	if s.Headless {
		return filter(all, func(b Backend) bool { return b.Ready })
	}
	draining := func(b Backend) bool { return b.Serving && b.Terminating }
	if x.localOnly(s, t) {
		local := filter(all, func(b Backend) bool { return b.Node == t.Node })
		if ready := filter(local, func(b Backend) bool { return b.Ready }); len(ready) > 0 {
			return ready
		}
		if local = filter(local, draining); len(local) > 0 || !t.IPVS || !s.accessibleFromOutside() {
			return local
		}
	}
	ready := filter(all, func(b Backend) bool { return b.Ready })
	if near := x.nearest(ready, t.Node); len(near) > 0 {
		return near
	}
	return filter(all, draining)
}

// localOnly says whether a traffic policy restricts t to endpoints of its node.
// Clients inside use all endpoints even through an external address: kube-proxy
// treats them as if they had used the cluster IP with policy Cluster, but in IPVS mode.
func (x *Index) localOnly(s *Service, t Traffic) bool {
	switch {
	case t.Node == "" || s.Headless:
		return false
	case t.External:
		return (!t.FromInside || t.IPVS) && s.Object.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	default:
		p := s.Object.Spec.InternalTrafficPolicy
		return p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal
	}
}

// nearest narrows ready endpoints down to those hinted for the node or its
// zone, if every one has such hints and one of them fits.
func (x *Index) nearest(ready []Backend, node string) []Backend {
	if len(ready) == 0 || node == "" {
		return ready
	}
	zone := ""
	if n, ok := x.nodes[node]; ok {
		zone = n.Labels[corev1.LabelTopologyZone]
	}
	hinted := func(of func(Backend) []string, name string) []Backend {
		if name == "" || slices.ContainsFunc(ready, func(b Backend) bool { return len(of(b)) == 0 }) {
			return nil
		}
		return filter(ready, func(b Backend) bool { return slices.Contains(of(b), name) })
	}
	if near := hinted(func(b Backend) []string { return b.nodes }, node); len(near) > 0 {
		return near
	}
	if near := hinted(func(b Backend) []string { return b.zones }, zone); len(near) > 0 {
		return near
	}
	return ready
}

func filter[T any](list []T, keep func(T) bool) []T {
	var kept []T
	for _, v := range list {
		if keep(v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// ServiceFindings says what the objects hold against using a service:
// ServiceNoSuchPort, or ServiceSourceRangeDeny and ServiceNoEndpoints. The packet goes
// from client to addr, an address of the service or of a node.
func (x *Index) ServiceFindings(s *Service, t Traffic, client, addr netip.Addr) []verdict.Finding {
	where := verdict.Where{Node: t.Node, Resource: "service " + s.String()}
	if s.ExternalName != "" {
		return nil
	}
	if !s.HasPort(t.Port, t.Protocol) && !s.Headless {
		return []verdict.Finding{s.NoSuchPort(fmt.Sprintf("%d/%s", t.Port, t.Protocol), t.Node)}
	}
	var findings []verdict.Finding
	if !t.NodePort && slices.Contains(s.IngressIPs, addr.Unmap()) && !x.sourceAllowed(s, t, client.Unmap()) {
		findings = append(findings, verdict.NewFinding(verdict.ServiceSourceRangeDeny, where,
			[]string{"spec.loadBalancerSourceRanges: " + strings.Join(s.Object.Spec.LoadBalancerSourceRanges, ", ")}, s, client))
	}
	if len(x.Backends(s, t)) == 0 && x.BackendsKnown() {
		findings = append(findings, x.NoEndpoints(s, t))
	}
	return findings
}

// NoSuchPort is the finding that a service does not declare a port, as a node sees it.
func (s *Service) NoSuchPort(port, node string) verdict.Finding {
	return verdict.NewFinding(verdict.ServiceNoSuchPort, verdict.Where{Node: node, Resource: "service " + s.String()},
		[]string{"spec.ports: " + portList(s.Ports)}, s, port)
}

// NoEndpoints is the finding that a service has no endpoint that may be used.
func (x *Index) NoEndpoints(s *Service, t Traffic) verdict.Finding {
	return verdict.NewFindingf(verdict.ServiceNoEndpoints, verdict.Where{Node: t.Node, Resource: "service " + s.String()}, x.endpointEvidence(s, t),
		"service %s has no valid endpoint for %d/%s%s", s, t.Port, t.Protocol, x.localNote(s, t))
}

func (x *Index) localNote(s *Service, t Traffic) string {
	if !x.localOnly(s, t) {
		return ""
	}
	field := "internalTrafficPolicy"
	if t.External {
		field = "externalTrafficPolicy"
	}
	return fmt.Sprintf(" on node %s, and its %s is Local", t.Node, field)
}

func (x *Index) endpointEvidence(s *Service, t Traffic) []string {
	const most = 5 // a service may have a thousand
	all := x.Endpoints(s, t.Port, t.Protocol, t.IPv6)
	var evidence []string
	for i, b := range all {
		if i == most {
			evidence = append(evidence, fmt.Sprintf("and %d more endpoints", len(all)-most))
			break
		}
		evidence = append(evidence, "endpoint "+b.String())
	}
	if len(all) == 0 {
		family := "IPv4"
		if t.IPv6 {
			family = "IPv6"
		}
		evidence = append(evidence, fmt.Sprintf("no EndpointSlice of %s lists an %s endpoint for %d/%s", s, family, t.Port, t.Protocol))
		if selector := s.Object.Spec.Selector; len(selector) > 0 {
			pods := x.SelectPods(s.Namespace, labels.SelectorFromSet(selector))
			evidence = append(evidence, fmt.Sprintf("spec.selector %s matches %d pods", labels.Set(selector), len(pods)))
		}
	}
	return evidence
}

// sourceAllowed does what kube-proxy does: a family without a range of its own
// is open. Where an address of the load balancer is a local one of the node, it is the
// source of what the node sends there, and is let in if the node is.
func (x *Index) sourceAllowed(s *Service, t Traffic, client netip.Addr) bool {
	sources := []netip.Addr{client}
	if slices.Contains(s.IngressIPs, client) {
		node, ok := x.nodes[t.Node]
		if !ok {
			return true // not known
		}
		if own, ok := node.IP(client.Is6()); ok {
			sources = append(sources, own)
		}
	}
	restricted := false
	for _, r := range s.SourceRanges {
		if r.Addr().Is4() != client.Is4() {
			continue
		}
		if slices.ContainsFunc(sources, r.Contains) {
			return true
		}
		restricted = true
	}
	return !restricted
}

func portList(ports []ServicePort) string {
	if len(ports) == 0 {
		return "none"
	}
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
	}
	return strings.Join(texts, ", ")
}
