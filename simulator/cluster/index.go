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

// Index answers questions about Objects. It is made by Compile and never
// changes afterwards, so that any number of diagnoses may share it.
type Index struct {
	pods       map[string]*Pod // NAMESPACE/NAME
	podsByNS   map[string][]*Pod
	podsByIP   map[netip.Addr][]*Pod
	nodes      map[string]*Node
	nodesByIP  map[netip.Addr][]*Node
	services   map[string]*Service
	svcByIP    map[netip.Addr][]*Service
	svcByNode  map[nodePort][]*Service
	slices     map[string][]*discoveryv1.EndpointSlice // by service
	namespaces map[string]labels.Set
	policies   map[string][]*policy // by namespace, sorted by name
	admin      []*adminPolicy       // by priority
	others     []ObjectRef          // policies that are not evaluated
	missing    map[string]string    // Objects.Missing
	podRanges  []knownRange
	svcRanges  []netip.Prefix
}

type nodePort struct {
	port     uint16
	protocol verdict.Protocol
}

type knownRange struct {
	prefix netip.Prefix
	node   string
}

// Pod is what a diagnosis needs to know about one pod.
type Pod struct {
	Namespace, Name string
	Node            string // spec.nodeName; empty while not scheduled
	IPs             []netip.Addr
	HostNetwork     bool
	Phase           corev1.PodPhase
	Ready           bool // condition Ready
	Terminating     bool // it has a deletionTimestamp
	Labels          labels.Set
	Ports           []ContainerPort
	// NotReady names the containers that are not ready.
	NotReady []string
	Object   *corev1.Pod
}

// ContainerPort is a port that a container declares. Declaring it does not
// open it; its name is what services and network policies refer to.
type ContainerPort struct {
	Name     string
	Port     uint16
	Protocol verdict.Protocol
	HostPort uint16 // 0: none
	HostIP   string
}

// String is "NAMESPACE/NAME".
func (p *Pod) String() string { return p.Namespace + "/" + p.Name }

// Alive says whether the pod still owns its addresses: those of a pod whose
// containers have ended for good are given to others.
func (p *Pod) Alive() bool {
	return p.Phase != corev1.PodSucceeded && p.Phase != corev1.PodFailed
}

// IP returns the pod's address of one family.
func (p *Pod) IP(ipv6 bool) (netip.Addr, bool) { return ofFamily(p.IPs, ipv6) }

// Node is what a diagnosis needs to know about one node.
type Node struct {
	Name     string
	Labels   labels.Set
	IPs      []netip.Addr // internal addresses first
	PodCIDRs []netip.Prefix
	Ready    bool
	Object   *corev1.Node
}

// IP returns the node's first address of one family.
func (n *Node) IP(ipv6 bool) (netip.Addr, bool) { return ofFamily(n.IPs, ipv6) }

func ofFamily(addrs []netip.Addr, ipv6 bool) (netip.Addr, bool) {
	for _, a := range addrs {
		if a.Is6() == ipv6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Compile indexes objects, which must not change afterwards. What cannot be
// read as an address or a port is left out: such an object is not usable for
// the cluster either.
func Compile(o *Objects) *Index {
	x := &Index{
		pods:       make(map[string]*Pod, len(o.Pods)),
		podsByNS:   map[string][]*Pod{},
		podsByIP:   make(map[netip.Addr][]*Pod, len(o.Pods)),
		nodes:      make(map[string]*Node, len(o.Nodes)),
		nodesByIP:  map[netip.Addr][]*Node{},
		services:   make(map[string]*Service, len(o.Services)),
		svcByIP:    map[netip.Addr][]*Service{},
		svcByNode:  map[nodePort][]*Service{},
		slices:     map[string][]*discoveryv1.EndpointSlice{},
		namespaces: map[string]labels.Set{},
		policies:   map[string][]*policy{},
	}
	for i := range o.Namespaces {
		ns := &o.Namespaces[i]
		set := labels.Set{}
		for k, v := range ns.Labels {
			set[k] = v
		}
		// The API server sets this label on every namespace, manifests omit it.
		set[corev1.LabelMetadataName] = ns.Name
		x.namespaces[ns.Name] = set
	}
	for i := range o.Nodes {
		x.addNode(&o.Nodes[i])
	}
	for i := range o.Pods {
		x.addPod(&o.Pods[i])
	}
	for _, pods := range x.podsByNS {
		slices.SortFunc(pods, func(a, b *Pod) int { return cmp.Compare(a.Name, b.Name) })
	}
	for i := range o.Services {
		x.addService(&o.Services[i])
	}
	for i := range o.EndpointSlices {
		s := &o.EndpointSlices[i]
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			key := s.Namespace + "/" + name
			x.slices[key] = append(x.slices[key], s)
		}
	}
	for _, list := range x.slices {
		slices.SortFunc(list, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	}
	x.addPolicies(o.NetworkPolicies)
	x.others, x.missing = o.OtherPolicies, o.Missing
	x.addAdminPolicies(o.AdminPolicies)
	x.svcRanges = serviceRanges(o.Services)
	slices.SortFunc(x.podRanges, func(a, b knownRange) int { return a.prefix.Compare(b.prefix) })
	return x
}

func (x *Index) addNode(object *corev1.Node) {
	n := &Node{Name: object.Name, Labels: object.Labels, Object: object}
	for _, internal := range []bool{true, false} {
		for _, a := range object.Status.Addresses {
			if (a.Type == corev1.NodeInternalIP) != internal {
				continue
			}
			if addr, err := netip.ParseAddr(a.Address); err == nil && !slices.Contains(n.IPs, addr.Unmap()) {
				n.IPs = append(n.IPs, addr.Unmap())
			}
		}
	}
	cidrs := object.Spec.PodCIDRs
	if len(cidrs) == 0 && object.Spec.PodCIDR != "" {
		cidrs = []string{object.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		if p, err := parsePrefix(c); err == nil {
			n.PodCIDRs = append(n.PodCIDRs, p)
			x.podRanges = append(x.podRanges, knownRange{p, n.Name})
		}
	}
	for _, c := range object.Status.Conditions {
		if c.Type == corev1.NodeReady {
			n.Ready = c.Status == corev1.ConditionTrue
		}
	}
	x.nodes[n.Name] = n
	for _, a := range n.IPs {
		x.nodesByIP[a] = append(x.nodesByIP[a], n)
	}
}

func (x *Index) addPod(object *corev1.Pod) {
	p := &Pod{
		Namespace:   object.Namespace,
		Name:        object.Name,
		Node:        object.Spec.NodeName,
		HostNetwork: object.Spec.HostNetwork,
		Phase:       object.Status.Phase,
		Terminating: object.DeletionTimestamp != nil,
		Labels:      object.Labels,
		Object:      object,
	}
	ips := make([]string, 0, 2)
	for _, ip := range object.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	if len(ips) == 0 && object.Status.PodIP != "" {
		ips = append(ips, object.Status.PodIP)
	}
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil && !slices.Contains(p.IPs, addr.Unmap()) {
			p.IPs = append(p.IPs, addr.Unmap())
		}
	}
	for _, c := range object.Status.Conditions {
		if c.Type == corev1.PodReady {
			p.Ready = c.Status == corev1.ConditionTrue
		}
	}
	addPorts := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if !isPort(port.ContainerPort) {
				continue
			}
			cp := ContainerPort{Name: port.Name, Port: uint16(port.ContainerPort), Protocol: protocolOf(port.Protocol), HostIP: port.HostIP}
			if isPort(port.HostPort) {
				cp.HostPort = uint16(port.HostPort)
			}
			p.Ports = append(p.Ports, cp)
		}
	}
	for i := range object.Spec.InitContainers {
		// An init container that restarts always is a sidecar: it stays.
		c := &object.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			addPorts(c)
		}
	}
	for i := range object.Spec.Containers {
		addPorts(&object.Spec.Containers[i])
	}
	for _, s := range object.Status.ContainerStatuses {
		if !s.Ready {
			p.NotReady = append(p.NotReady, s.Name)
		}
	}
	x.pods[p.String()] = p
	x.podsByNS[p.Namespace] = append(x.podsByNS[p.Namespace], p)
	if p.Alive() && !p.HostNetwork {
		for _, a := range p.IPs {
			x.podsByIP[a] = append(x.podsByIP[a], p)
		}
	}
}

func isPort(n int32) bool { return n > 0 && n <= 65535 }

func protocolOf(p corev1.Protocol) verdict.Protocol {
	if p == "" {
		return verdict.TCP
	}
	return verdict.Protocol(strings.ToLower(string(p)))
}

// Empty says whether there is no object that could bear a name.
func (x *Index) Empty() bool { return len(x.pods)+len(x.nodes)+len(x.services) == 0 }

// Missing says, for each resource whose objects are not known, why.
func (x *Index) Missing() map[string]string { return x.missing }

// lacking names the first of some resources whose objects are not known, and
// says why; empty if all are.
func (x *Index) lacking(resources ...string) string {
	for _, r := range resources {
		if why := x.missing[r]; why != "" {
			return r + ", which are not known: " + why
		}
	}
	return ""
}

// Pod finds a pod by name.
func (x *Index) Pod(namespace, name string) (*Pod, bool) {
	p, ok := x.pods[namespace+"/"+name]
	return p, ok
}

// PodsByIP returns the pods that own an address: alive, and not of the host's
// network. More than one is a fault of the cluster (or a snapshot taken while
// an address moved), and the caller must not pick one.
func (x *Index) PodsByIP(addr netip.Addr) []*Pod { return x.podsByIP[addr.Unmap()] }

// PodByIP returns the one pod that owns an address; false when there is none or
// more than one.
func (x *Index) PodByIP(addr netip.Addr) (*Pod, bool) { return only(x.podsByIP[addr.Unmap()]) }

// Node finds a node by name.
func (x *Index) Node(name string) (*Node, bool) {
	n, ok := x.nodes[name]
	return n, ok
}

// NodeByIP returns the one node that has an address.
func (x *Index) NodeByIP(addr netip.Addr) (*Node, bool) { return only(x.nodesByIP[addr.Unmap()]) }

// Nodes returns every node, by name.
func (x *Index) Nodes() []*Node {
	return sortedValues(x.nodes, func(n *Node) string { return n.Name })
}

// Service finds a service by name.
func (x *Index) Service(namespace, name string) (*Service, bool) {
	s, ok := x.services[namespace+"/"+name]
	return s, ok
}

// Services returns every service, by namespace and name.
func (x *Index) Services() []*Service {
	return sortedValues(x.services, (*Service).String)
}

// ServiceByIP returns the one service that has an address as a cluster IP,
// external IP or load balancer ingress address.
func (x *Index) ServiceByIP(addr netip.Addr) (*Service, bool) { return only(x.svcByIP[addr.Unmap()]) }

// ServicesByIP is ServiceByIP for addresses that services share by port, as
// external IPs may be.
func (x *Index) ServicesByIP(addr netip.Addr) []*Service { return x.svcByIP[addr.Unmap()] }

// ServiceAt returns the one service that an address leads to with a port that the
// service declares: service proxies tell services by all three. Those are left
// out that leave the address to their load balancer.
func (x *Index) ServiceAt(addr netip.Addr, port uint16, protocol verdict.Protocol) (*Service, bool) {
	return only(filter(x.ServicesByIP(addr), func(s *Service) bool {
		return s.HasPort(port, protocol) && !slices.Contains(s.ProxiedIPs, addr.Unmap())
	}))
}

// ServiceByNodePort returns the service that has a node port.
func (x *Index) ServiceByNodePort(port uint16, protocol verdict.Protocol) (*Service, bool) {
	return only(x.svcByNode[nodePort{port, protocol}])
}

// SelectPods returns the pods of a Kubernetes namespace that a selector
// matches, by name; an empty namespace means all of them.
func (x *Index) SelectPods(namespace string, selector labels.Selector) []*Pod {
	var selected []*Pod
	for ns, pods := range x.podsByNS {
		if namespace != "" && ns != namespace {
			continue
		}
		for _, p := range pods {
			if selector.Matches(p.Labels) {
				selected = append(selected, p)
			}
		}
	}
	slices.SortFunc(selected, func(a, b *Pod) int { return cmp.Compare(a.String(), b.String()) })
	return selected
}

func only[T any](list []*T) (*T, bool) {
	if len(list) != 1 {
		return nil, false
	}
	return list[0], true
}

func sortedValues[T any](m map[string]*T, key func(*T) string) []*T {
	list := make([]*T, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *T) int { return cmp.Compare(key(a), key(b)) })
	return list
}

// OwnerKind says what kind of object owns an address.
type OwnerKind string

// Kinds of owners.
const (
	OwnerPod     OwnerKind = "pod"
	OwnerService OwnerKind = "service"
	OwnerNode    OwnerKind = "node"
)

// Owner is the object that owns an address.
type Owner struct {
	Kind      OwnerKind
	Namespace string // empty for nodes
	Name      string
	// Others own the same address, which nothing but a service may share:
	// "pod shop/api-0", …
	Others []string
}

// String is "pod shop/api-0" or "node a".
func (o Owner) String() string {
	if o.Namespace == "" {
		return fmt.Sprintf("%s %s", o.Kind, o.Name)
	}
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name)
}

// Owner says which object owns an address. Services come first, as their
// addresses are translated before anything is routed; then pods, then nodes.
func (x *Index) Owner(addr netip.Addr) (Owner, bool) {
	addr = addr.Unmap()
	var all []Owner
	for _, s := range x.svcByIP[addr] {
		all = append(all, Owner{Kind: OwnerService, Namespace: s.Namespace, Name: s.Name})
	}
	for _, p := range x.podsByIP[addr] {
		all = append(all, Owner{Kind: OwnerPod, Namespace: p.Namespace, Name: p.Name})
	}
	for _, n := range x.nodesByIP[addr] {
		all = append(all, Owner{Kind: OwnerNode, Name: n.Name})
	}
	if len(all) == 0 {
		return Owner{}, false
	}
	first := all[0]
	for _, o := range all[1:] {
		first.Others = append(first.Others, o.String())
	}
	return first, true
}

// InKnownRange says whether an address, though no object may own it, lies in a
// range that the cluster uses: the pod ranges of nodes, and the range of
// services. what names the range, for people.
//
// The API does not tell the range of services everywhere, so it is guessed
// from the cluster IPs in use: the smallest prefix that holds all of one family, but
// not smaller than /24 (IPv6: /112). If that is larger than /12 (IPv6: /64),
// the services have several ranges, and only the /24 (/112) around each
// address is taken. Where nodes, pods or services are not known, every private
// address may be in one.
func (x *Index) InKnownRange(addr netip.Addr) (what string, ok bool) {
	addr = addr.Unmap()
	for _, r := range x.podRanges {
		if r.prefix.Contains(addr) {
			return fmt.Sprintf("pod range %s of node %s", r.prefix, r.node), true
		}
	}
	for _, p := range x.svcRanges {
		if p.Contains(addr) {
			return fmt.Sprintf("service range %s (guessed from the cluster IPs)", p), true
		}
	}
	if why := x.lacking("pods", "nodes", "services"); why != "" && addr.IsPrivate() {
		return "private ranges, any of which may be that of the " + why, true
	}
	return "", false
}
