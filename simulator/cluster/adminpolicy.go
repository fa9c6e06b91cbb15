package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// AdminPolicy is a policy of a cluster's administrator, of the group
// policy.networking.k8s.io: ClusterNetworkPolicy, or one of its predecessors
// AdminNetworkPolicy and BaselineAdminNetworkPolicy. It has the fields of all three.
type AdminPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AdminPolicySpec `json:"spec"`
}

// String is "ClusterNetworkPolicy guard".
func (p *AdminPolicy) String() string { return p.Kind + " " + p.Name }

// AdminPolicySpec says whom a policy is about, and what it does.
type AdminPolicySpec struct {
	Tier     string            `json:"tier,omitempty"` // Admin or Baseline; the two older kinds are one each
	Priority int32             `json:"priority"`       // lower comes first
	Subject  AdminPolicyPeer   `json:"subject"`
	Ingress  []AdminPolicyRule `json:"ingress,omitempty"`
	Egress   []AdminPolicyRule `json:"egress,omitempty"`
}

// AdminPolicyRule does something to what its peers and ports match.
type AdminPolicyRule struct {
	Name      string                `json:"name,omitempty"`
	Action    string                `json:"action"`         // Accept (Allow in the older kinds), Deny or Pass
	From      []AdminPolicyPeer     `json:"from,omitempty"` // of ingress
	To        []AdminPolicyPeer     `json:"to,omitempty"`   // of egress
	Ports     []AdminPolicyPort     `json:"ports,omitempty"`
	Protocols []AdminPolicyProtocol `json:"protocols,omitempty"`
}

// AdminPolicyPeer has one field that is set.
type AdminPolicyPeer struct {
	Namespaces  *metav1.LabelSelector `json:"namespaces,omitempty"`
	Pods        *AdminPolicyPods      `json:"pods,omitempty"`
	Nodes       *metav1.LabelSelector `json:"nodes,omitempty"`
	Networks    []string              `json:"networks,omitempty"`
	DomainNames []string              `json:"domainNames,omitempty"`
}

// AdminPolicyPods selects pods by their namespace's labels and their own.
type AdminPolicyPods struct {
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	PodSelector       metav1.LabelSelector `json:"podSelector"`
}

// AdminPolicyPort is a port as the older kinds have it. One field is set.
type AdminPolicyPort struct {
	PortNumber *struct {
		Protocol corev1.Protocol `json:"protocol,omitempty"`
		Port     int32           `json:"port"`
	} `json:"portNumber,omitempty"`
	PortRange *struct {
		Protocol corev1.Protocol `json:"protocol,omitempty"`
		Start    int32           `json:"start"`
		End      int32           `json:"end"`
	} `json:"portRange,omitempty"`
	NamedPort *string `json:"namedPort,omitempty"`
}

// AdminPolicyProtocol is what ClusterNetworkPolicy has in place of ports. One
// field is set.
type AdminPolicyProtocol struct {
	TCP                  *AdminPolicyDestination `json:"tcp,omitempty"`
	UDP                  *AdminPolicyDestination `json:"udp,omitempty"`
	SCTP                 *AdminPolicyDestination `json:"sctp,omitempty"`
	DestinationNamedPort string                  `json:"destinationNamedPort,omitempty"`
}

// AdminPolicyDestination are the ports of one protocol; none set means all.
type AdminPolicyDestination struct {
	DestinationPort *struct {
		Number int32 `json:"number,omitempty"`
		Range  *struct {
			Start int32 `json:"start"`
			End   int32 `json:"end"`
		} `json:"range,omitempty"`
	} `json:"destinationPort,omitempty"`
}

// adminPolicyOf reads an AdminPolicy. Nil means that it is of another kind, or
// has a field or value that is not understood: an older or newer version of the
// API may have those, and what they do to the rest is not known.
func adminPolicyOf(text []byte, meta typeMeta) *AdminPolicy {
	var object struct {
		AdminPolicy `json:",inline"`
		Status      any `json:"status"`
	}
	if strict, err := kjson.UnmarshalStrict(text, &object); err != nil || len(strict) > 0 {
		return nil
	}
	p := &object.AdminPolicy
	p.TypeMeta = metav1.TypeMeta{APIVersion: meta.apiVersion, Kind: meta.kind}
	if _, err := compileAdminPolicy(p); err != nil {
		return nil
	}
	kept := keepAdminPolicy(p)
	return &kept
}

func keepAdminPolicy(p *AdminPolicy) AdminPolicy {
	return AdminPolicy{TypeMeta: p.TypeMeta, ObjectMeta: keepMeta(&p.ObjectMeta), Spec: p.Spec}
}

// tier is a rank of administrators' policies.
type tier string

const (
	tierAdmin    tier = "Admin"    // before network policies
	tierBaseline tier = "Baseline" // for what no network policy isolates
)

// action is what a rule does; empty where no rule matches.
type action string

const (
	actionAccept action = "Accept"
	actionDeny   action = "Deny"
	actionPass   action = "Pass" // on to the next tier
)

// adminPolicy is an AdminPolicy with its selectors and prefixes parsed.
type adminPolicy struct {
	name     string // "ClusterNetworkPolicy guard"
	tier     tier
	priority int32
	subject  adminPeer
	rules    map[Direction][]adminRule
}

type adminRule struct {
	action action
	peers  []adminPeer
	ports  []adminPort // none: all, of every protocol
}

type adminPeer struct {
	namespaces, pods *selector // both, or none
	nodes            *selector
	networks         []netip.Prefix
	names            bool // domain names
}

// adminPort are the ports from first to last of a protocol, or those of a name.
type adminPort struct {
	protocol    verdict.Protocol
	first, last int32
	name        string
}

func compileAdminPolicy(o *AdminPolicy) (*adminPolicy, error) {
	p := &adminPolicy{name: o.String(), tier: tier(o.Spec.Tier), priority: o.Spec.Priority, rules: map[Direction][]adminRule{}}
	switch o.GroupVersionKind().GroupKind().String() {
	case "AdminNetworkPolicy.policy.networking.k8s.io":
		p.tier = tierAdmin
	case "BaselineAdminNetworkPolicy.policy.networking.k8s.io":
		p.tier = tierBaseline
	case "ClusterNetworkPolicy.policy.networking.k8s.io":
	default:
		return nil, fmt.Errorf("kind %s of %s is not evaluated", o.Kind, o.APIVersion)
	}
	if p.tier != tierAdmin && p.tier != tierBaseline {
		return nil, fmt.Errorf("tier %q is neither Admin nor Baseline", p.tier)
	}
	var err error
	if p.subject, err = newAdminPeer(&o.Spec.Subject); err != nil || p.subject.pods == nil {
		return nil, fmt.Errorf("subject: want namespaces or pods (%v)", err)
	}
	for direction, rules := range map[Direction][]AdminPolicyRule{Ingress: o.Spec.Ingress, Egress: o.Spec.Egress} {
		for i := range rules {
			r, err := newAdminRule(&rules[i], direction)
			if err != nil {
				return nil, fmt.Errorf("%s rule %d: %w", direction, i+1, err)
			}
			p.rules[direction] = append(p.rules[direction], r)
		}
	}
	return p, nil
}

func newAdminRule(o *AdminPolicyRule, direction Direction) (adminRule, error) {
	r := adminRule{action: action(o.Action)}
	switch {
	case o.Action == "Allow":
		r.action = actionAccept
	case r.action != actionAccept && r.action != actionDeny && r.action != actionPass:
		return r, fmt.Errorf("action %q is none of Accept, Deny and Pass", o.Action)
	}
	peers, others := o.From, o.To
	if direction == Egress {
		peers, others = o.To, o.From
	}
	if len(peers) == 0 || len(others) > 0 {
		return r, fmt.Errorf("want peers of %s", direction)
	}
	for i := range peers {
		peer, err := newAdminPeer(&peers[i])
		if err != nil {
			return r, fmt.Errorf("peer %d: %w", i+1, err)
		}
		r.peers = append(r.peers, peer)
	}
	for _, port := range o.Ports {
		switch {
		case port.PortNumber != nil && port.PortRange == nil && port.NamedPort == nil:
			n := port.PortNumber
			r.ports = append(r.ports, adminPort{protocol: protocolOf(n.Protocol), first: n.Port, last: n.Port})
		case port.PortRange != nil && port.PortNumber == nil && port.NamedPort == nil:
			n := port.PortRange
			r.ports = append(r.ports, adminPort{protocol: protocolOf(n.Protocol), first: n.Start, last: n.End})
		case port.NamedPort != nil && *port.NamedPort != "" && port.PortNumber == nil && port.PortRange == nil:
			r.ports = append(r.ports, adminPort{name: *port.NamedPort})
		default:
			return r, fmt.Errorf("a port needs one of portNumber, portRange and namedPort")
		}
	}
	for i := range o.Protocols {
		port, err := newAdminProtocol(&o.Protocols[i])
		if err != nil {
			return r, err
		}
		r.ports = append(r.ports, port)
	}
	return r, nil
}

func newAdminProtocol(o *AdminPolicyProtocol) (adminPort, error) {
	if o.DestinationNamedPort != "" && o.TCP == nil && o.UDP == nil && o.SCTP == nil {
		return adminPort{name: o.DestinationNamedPort}, nil
	}
	port := adminPort{first: 1, last: 65535}
	var given []*AdminPolicyDestination
	for protocol, d := range map[verdict.Protocol]*AdminPolicyDestination{verdict.TCP: o.TCP, verdict.UDP: o.UDP, verdict.SCTP: o.SCTP} {
		if d != nil {
			port.protocol = protocol
			given = append(given, d)
		}
	}
	if len(given) != 1 || o.DestinationNamedPort != "" {
		return port, fmt.Errorf("a protocol needs one of tcp, udp, sctp and destinationNamedPort")
	}
	if d := given[0].DestinationPort; d != nil {
		switch {
		case d.Range != nil && d.Number == 0:
			port.first, port.last = d.Range.Start, d.Range.End
		case d.Range == nil && d.Number != 0:
			port.first, port.last = d.Number, d.Number
		default:
			return port, fmt.Errorf("a destinationPort needs one of number and range")
		}
	}
	return port, nil
}

func newAdminPeer(o *AdminPolicyPeer) (adminPeer, error) {
	var p adminPeer
	given := 0
	parse := func(s *metav1.LabelSelector) (*selector, error) {
		parsed := newSelector(s)
		if parsed.fault != "" {
			return nil, fmt.Errorf("%s", parsed.fault)
		}
		return &parsed, nil
	}
	var errs [4]error
	if o.Namespaces != nil {
		given++
		p.namespaces, errs[0] = parse(o.Namespaces)
		p.pods = new(selector)
	}
	if o.Pods != nil {
		given++
		p.namespaces, errs[1] = parse(&o.Pods.NamespaceSelector)
		p.pods, errs[2] = parse(&o.Pods.PodSelector)
	}
	if o.Nodes != nil {
		given++
		p.nodes, errs[3] = parse(o.Nodes)
	}
	if len(o.Networks) > 0 {
		given++
	}
	if len(o.DomainNames) > 0 {
		given++
		p.names = true
	}
	if err := cmp.Or(errs[:]...); err != nil {
		return p, err
	}
	for _, text := range o.Networks {
		network, err := policyPrefix(text)
		if err != nil {
			return p, fmt.Errorf("networks: %w", err)
		}
		p.networks = append(p.networks, network)
	}
	if given != 1 {
		return p, fmt.Errorf("want one of namespaces, pods, nodes, networks and domainNames")
	}
	return p, nil
}

func (x *Index) addAdminPolicies(list []AdminPolicy) {
	for i := range list {
		p, err := compileAdminPolicy(&list[i])
		if err != nil { // one that was not decoded here
			x.others = append(slices.Clip(x.others), ObjectRef{list[i].APIVersion, list[i].Kind, "", list[i].Name})
			continue
		}
		x.admin = append(x.admin, p)
	}
	slices.SortFunc(x.admin, func(a, b *adminPolicy) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.name, b.name))
	})
}

// ruling is what a rule of an administrator's policy says about a connection.
type ruling struct {
	action action // empty: none says anything
	policy string
	rule   int // from 1
}

// rulings are what the policies of a tier may say about a connection. More
// than one means that it is not known which: doubt says why.
//
// Policies of one priority have no order: the API says that any of them may be
// applied first.
func (x *Index) rulings(t tier, direction Direction, subject, peer, destination party, c Connection) (list []ruling, doubt string) {
	for i := 0; i < len(x.admin); {
		decided := false
		first := len(list)
		priority := x.admin[i].priority
		for ; i < len(x.admin) && x.admin[i].priority == priority; i++ {
			p := x.admin[i]
			if p.tier != t {
				continue
			}
			selected, why := x.matchPods(&p.subject, subject)
			if selected == no {
				continue
			}
			for j := range p.rules[direction] {
				r := &p.rules[direction][j]
				matched, reason := x.matchAdminRule(r, peer, destination, c)
				if matched == no {
					continue
				}
				list = append(list, ruling{r.action, p.name, j + 1})
				if matched == yes && selected == yes {
					decided = true
				}
				if matched == maybe || selected == maybe {
					doubt = cmp.Or(doubt, fmt.Sprintf("%s rule %d of %s: %s", direction, j+1, p.name, cmp.Or(why, reason)))
				}
				if matched == yes {
					break
				}
			}
		}
		if decided {
			for _, other := range list[first:] {
				if other.action != list[first].action {
					doubt = cmp.Or(doubt, fmt.Sprintf("%s and %s have the same priority", list[first].policy, other.policy))
				}
			}
			return list, doubt
		}
	}
	return append(list, ruling{}), doubt
}

func (x *Index) matchAdminRule(r *adminRule, peer, destination party, c Connection) (result ternary, why string) {
	if len(r.ports) > 0 && !slices.ContainsFunc(r.ports, func(p adminPort) bool { return p.matches(destination, c) }) {
		return no, ""
	}
	for i := range r.peers {
		matched, reason := x.matchAdminPeer(&r.peers[i], peer)
		if matched == yes {
			return yes, ""
		}
		if matched == maybe {
			result, why = maybe, cmp.Or(why, fmt.Sprintf("peer %d: %s", i+1, reason))
		}
	}
	return result, why
}

func (p adminPort) matches(destination party, c Connection) bool {
	if p.name == "" {
		return p.protocol == c.Protocol && p.first <= int32(c.Port) && int32(c.Port) <= p.last
	}
	return destination.pod != nil && slices.ContainsFunc(destination.pod.Ports, func(port ContainerPort) bool {
		return port.Name == p.name && port.Protocol == c.Protocol && port.Port == c.Port
	})
}

func (x *Index) matchAdminPeer(p *adminPeer, peer party) (ternary, string) {
	switch {
	case p.pods != nil:
		return x.matchPods(p, peer)
	case p.names:
		return maybe, "what domain names resolve to is not known"
	case p.networks != nil:
		return ternaryOf(slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(peer.addr) })), ""
	case peer.pod != nil:
		return no, ""
	case peer.node == "":
		if peer.doubt != "" {
			return maybe, peer.doubt
		}
		return no, ""
	}
	node, known := x.nodes[peer.node]
	if !known {
		return maybe, fmt.Sprintf("the labels of node %s were not collected", peer.node)
	}
	return p.nodes.match(node.Labels, true), ""
}

// matchPods says whether a party is one of the pods selected. Pods of the
// host's network never are.
func (x *Index) matchPods(p *adminPeer, who party) (ternary, string) {
	if who.pod == nil {
		if who.doubt != "" {
			return maybe, who.doubt
		}
		return no, ""
	}
	if p.pods.match(who.pod.Labels, true) == no {
		return no, ""
	}
	return x.matchNamespace(p.namespaces, who.pod.Namespace)
}
