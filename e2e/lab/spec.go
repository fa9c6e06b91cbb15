package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed lab.yaml
var defaultYAML []byte

// Spec describes a lab. Lists of addresses and prefixes hold one IPv4 and one IPv6 value, in this order.
type Spec struct {
	// IPTables is the backend that writes the rules: "nft" (the default) or "legacy".
	IPTables string `json:"iptables"`
	// MTU of every link, in bytes.
	MTU          int            `json:"mtu"`
	ClusterCIDRs []netip.Prefix `json:"clusterCIDRs"`
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs"`
	Fabric       Fabric         `json:"fabric"`
	Nodes        []Node         `json:"nodes"`
	Pods         []Pod          `json:"pods"`
	Services     []Service      `json:"services"`
	Roles        Roles          `json:"roles"`
}

// Fabric is the wire between the nodes.
type Fabric struct {
	// Addresses of the nodes' default gateway, with the length of the fabric's own prefixes.
	Addresses []netip.Prefix `json:"addresses"`
	// Unowned addresses lie on the fabric and are nobody's.
	Unowned []netip.Addr `json:"unowned"`
}

// Node is a host of the cluster.
type Node struct {
	Name            string         `json:"name"`
	Addresses       []netip.Addr   `json:"addresses"`
	SecondAddresses []netip.Addr   `json:"secondAddresses,omitempty"`
	PodCIDRs        []netip.Prefix `json:"podCIDRs"`
}

// Pod is a pod with a listener on each of its ports.
type Pod struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Node      string            `json:"node"`
	Labels    map[string]string `json:"labels"`
	Addresses []netip.Addr      `json:"addresses"`
	Ports     []PodPort         `json:"ports"`
}

// ID is the pod's name as users write it: NAMESPACE/NAME.
func (p Pod) ID() string { return p.Namespace + "/" + p.Name }

// PodPort is a named container port.
type PodPort struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
}

// Service is a ClusterIP Service, or a NodePort one if a port asks for it.
type Service struct {
	Name       string            `json:"name"`
	Namespace  string            `json:"namespace"`
	ClusterIPs []netip.Addr      `json:"clusterIPs"`
	Selector   map[string]string `json:"selector"`
	Ports      []ServicePort     `json:"ports"`
}

// ID is the Service's name as users write it: NAMESPACE/NAME.
func (s Service) ID() string { return s.Namespace + "/" + s.Name }

// ServicePort forwards to the container port that TargetPort names.
type ServicePort struct {
	Name       string `json:"name"`
	Port       uint16 `json:"port"`
	Protocol   string `json:"protocol"`
	TargetPort string `json:"targetPort"`
	NodePort   uint16 `json:"nodePort,omitempty"`
}

// Roles names the pods that the faults are about.
type Roles struct {
	// Client and Near are on one node, Far on another; Near and Far listen on the same ports.
	Client string `json:"client"`
	Near   string `json:"near"`
	Far    string `json:"far"`
	// Allowed selects who may still talk to Near and Far when the fault network-policy denies everyone else.
	Allowed map[string]string `json:"allowed"`
}

// DefaultSpec returns the lab that is built in.
func DefaultSpec() (*Spec, error) {
	return parseSpec("lab.yaml", defaultYAML)
}

// LoadSpec reads a lab from a YAML file.
func LoadSpec(path string) (*Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read lab: %w", err)
	}
	return parseSpec(path, data)
}

func parseSpec(name string, data []byte) (*Spec, error) {
	s := new(Spec)
	if err := yaml.UnmarshalStrict(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.IPTables == "" {
		s.IPTables = "nft"
	}
	if s.MTU == 0 {
		s.MTU = 1500
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// dnsLabel is what Kubernetes accepts as a name, which also is safe as part of a namespace's and of a file's name.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// maxInterfaceName is IFNAMSIZ without its terminator: the fabric's ports bear their nodes' names, and a second port
// of a node has two letters more.
const maxInterfaceName = 15 - 2

func (s *Spec) validate() error {
	v := &validator{spec: s, taken: map[netip.Addr]string{}, namespaces: map[string]string{}}
	v.check(s.IPTables == "nft" || s.IPTables == "legacy", "iptables: %q is neither nft nor legacy", s.IPTables)
	v.check(s.MTU >= 1500 && s.MTU <= 65535, "mtu: %d is not within 1500..65535", s.MTU)
	v.prefixes("clusterCIDRs", s.ClusterCIDRs)
	v.prefixes("serviceCIDRs", s.ServiceCIDRs)
	v.prefixes("fabric.addresses", s.Fabric.Addresses)
	v.check(len(s.Nodes) >= 2, "nodes: there must be at least two")
	if v.err != nil {
		return v.err
	}
	v.take("fabric", addrsOf(s.Fabric.Addresses), s.Fabric.Addresses)
	v.take("fabric.unowned", s.Fabric.Unowned, s.Fabric.Addresses)
	for _, n := range s.Nodes {
		v.node(n)
	}
	for _, p := range s.Pods {
		v.pod(p)
	}
	for _, svc := range s.Services {
		v.service(svc)
	}
	v.roles()
	return v.err
}

// validator keeps the first thing that is wrong.
type validator struct {
	spec       *Spec
	taken      map[netip.Addr]string
	namespaces map[string]string
	err        error
}

func (v *validator) check(ok bool, format string, args ...any) {
	if !ok && v.err == nil {
		v.err = fmt.Errorf(format, args...)
	}
}

func (v *validator) prefixes(what string, ps []netip.Prefix) {
	ok := len(ps) == 2 && ps[0].Addr().Is4() && ps[1].Addr().Is6() && !ps[1].Addr().Is4In6()
	v.check(ok, "%s: needs one IPv4 and one IPv6 prefix, got %v", what, ps)
}

// take claims a pair of addresses for one owner: each must lie within the prefix of its family.
func (v *validator) take(owner string, addrs []netip.Addr, within []netip.Prefix) {
	ok := len(addrs) == 2 && addrs[0].Is4() && addrs[1].Is6() && !addrs[1].Is4In6()
	v.check(ok, "%s: needs one IPv4 and one IPv6 address, got %v", owner, addrs)
	if !ok || v.err != nil {
		return
	}
	for i, a := range addrs {
		v.check(within[i].Contains(a), "%s: %s is not in %s", owner, a, within[i].Masked())
		v.check(v.taken[a] == "", "%s: %s belongs to %s already", owner, a, v.taken[a])
		v.taken[a] = owner
	}
}

// name claims the network namespace called suffix.
func (v *validator) name(owner, suffix string, parts ...string) {
	for _, p := range parts {
		v.check(dnsLabel.MatchString(p), "%s: %q is not a DNS label", owner, p)
	}
	v.check(suffix != "fabric", "%s: fabric is the name of the wire between the nodes", owner)
	v.check(v.namespaces[suffix] == "", "%s: its network namespace %s is the one of %s", owner, suffix, v.namespaces[suffix])
	v.namespaces[suffix] = owner
}

func (v *validator) node(n Node) {
	owner := "node " + n.Name
	v.name(owner, n.Name, n.Name)
	v.check(len(n.Name) <= maxInterfaceName, "%s: the name is longer than %d characters", owner, maxInterfaceName)
	v.take(owner, n.Addresses, v.spec.Fabric.Addresses)
	if len(n.SecondAddresses) > 0 {
		v.take(owner+" second addresses", n.SecondAddresses, v.spec.Fabric.Addresses)
	}
	v.prefixes(owner+" podCIDRs", n.PodCIDRs)
	if v.err != nil {
		return
	}
	for i, p := range n.PodCIDRs {
		v.check(p == p.Masked(), "%s: %s has host bits set", owner, p)
		v.check(v.spec.ClusterCIDRs[i].Overlaps(p) && p.Bits() >= v.spec.ClusterCIDRs[i].Bits(), "%s: %s is not in %s", owner, p, v.spec.ClusterCIDRs[i])
		for _, o := range v.spec.Nodes {
			v.check(o.Name == n.Name || len(o.PodCIDRs) != 2 || !o.PodCIDRs[i].Overlaps(p), "%s: %s overlaps the pods of node %s", owner, p, o.Name)
		}
	}
	v.take(owner+" pod gateway", gateways(n), n.PodCIDRs)
}

func (v *validator) pod(p Pod) {
	owner := "pod " + p.ID()
	v.name(owner, p.Namespace+"-"+p.Name, p.Namespace, p.Name)
	i := slices.IndexFunc(v.spec.Nodes, func(n Node) bool { return n.Name == p.Node })
	v.check(i >= 0, "%s: there is no node %q", owner, p.Node)
	if v.err != nil {
		return
	}
	v.take(owner, p.Addresses, v.spec.Nodes[i].PodCIDRs)
	seen := map[string]bool{}
	for _, port := range p.Ports {
		v.check(dnsLabel.MatchString(port.Name), "%s: port name %q is not a DNS label", owner, port.Name)
		v.check(port.Port != 0, "%s: port %s is 0", owner, port.Name)
		v.protocol(owner, port.Protocol)
		for _, key := range []string{port.Name, fmt.Sprintf("%d/%s", port.Port, port.Protocol)} {
			v.check(!seen[key], "%s: port %s is declared twice", owner, key)
			seen[key] = true
		}
	}
}

func (v *validator) service(s Service) {
	owner := "service " + s.ID()
	v.check(dnsLabel.MatchString(s.Name) && dnsLabel.MatchString(s.Namespace), "%s: the name is not made of DNS labels", owner)
	v.take(owner, s.ClusterIPs, v.spec.ServiceCIDRs)
	v.check(len(s.Selector) > 0, "%s: has no selector", owner)
	v.check(len(s.Ports) > 0, "%s: has no ports", owner)
	for _, port := range s.Ports {
		v.check(dnsLabel.MatchString(port.Name), "%s: port name %q is not a DNS label", owner, port.Name)
		v.check(port.Port != 0, "%s: port %s is 0", owner, port.Name)
		v.protocol(owner, port.Protocol)
		for _, p := range v.spec.backends(s) {
			_, ok := p.target(port)
			v.check(ok, "%s: pod %s has no %s port named %q", owner, p.ID(), port.Protocol, port.TargetPort)
		}
	}
}

func (v *validator) protocol(owner, p string) {
	v.check(p == "TCP" || p == "UDP" || p == "SCTP", "%s: protocol %q is none of TCP, UDP, SCTP", owner, p)
}

func (v *validator) roles() {
	r := v.spec.Roles
	client, errClient := v.spec.Pod(r.Client)
	near, errNear := v.spec.Pod(r.Near)
	far, errFar := v.spec.Pod(r.Far)
	if err := errors.Join(errClient, errNear, errFar); err != nil {
		v.check(false, "roles: %v", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	v.check(client.Node == near.Node && near.ID() != client.ID(), "roles: client %s and near %s must be two pods of one node", r.Client, r.Near)
	v.check(client.Node != far.Node, "roles: far %s must not be on the client's node %s", r.Far, client.Node)
	v.check(len(r.Allowed) > 0, "roles: allowed selects nobody")
	if v.err == nil {
		n := v.spec.node(far.Node)
		v.check(len(n.SecondAddresses) == 2, "roles: node %s of far %s needs secondAddresses", n.Name, r.Far)
	}
}

// Pod returns the pod called NAMESPACE/NAME.
func (s *Spec) Pod(id string) (Pod, error) {
	for _, p := range s.Pods {
		if p.ID() == id {
			return p, nil
		}
	}
	return Pod{}, fmt.Errorf("there is no pod %q", id)
}

// Service returns the Service called NAMESPACE/NAME.
func (s *Spec) Service(id string) (Service, error) {
	for _, svc := range s.Services {
		if svc.ID() == id {
			return svc, nil
		}
	}
	return Service{}, fmt.Errorf("there is no service %q", id)
}

// node returns a node that validation has shown to exist.
func (s *Spec) node(name string) Node {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return Node{}
}

// role returns a pod of Roles, which validation has shown to exist.
func (s *Spec) role(id string) Pod {
	p, _ := s.Pod(id)
	return p
}

// backends returns the pods that a Service selects, in the order of the file.
func (s *Spec) backends(svc Service) []Pod {
	return s.selected(svc.Namespace, svc.Selector)
}

func (s *Spec) selected(namespace string, selector map[string]string) []Pod {
	var pods []Pod
	for _, p := range s.Pods {
		matches := p.Namespace == namespace
		for k, want := range selector {
			matches = matches && p.Labels[k] == want
		}
		if matches {
			pods = append(pods, p)
		}
	}
	return pods
}

// target returns the container port that a Service port forwards to on this pod.
func (p Pod) target(sp ServicePort) (uint16, bool) {
	for _, port := range p.Ports {
		if port.Name == sp.TargetPort && port.Protocol == sp.Protocol {
			return port.Port, true
		}
	}
	return 0, false
}

// gateways returns the first addresses of a node's pod prefixes: those of its bridge.
func gateways(n Node) []netip.Addr {
	gw := make([]netip.Addr, 0, len(n.PodCIDRs))
	for _, p := range n.PodCIDRs {
		gw = append(gw, p.Masked().Addr().Next())
	}
	return gw
}

func addrsOf(ps []netip.Prefix) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(ps))
	for _, p := range ps {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}
