package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Connection is what network policies judge: who talks to whom, after services
// were translated.
type Connection struct {
	Source, Destination End
	// Seen is the source as policies of the destination see it; the zero value
	// means Source.
	Seen     End
	Protocol verdict.Protocol
	Port     uint16 // of the destination; 0 for ICMP
}

// End is one end of a connection.
type End struct {
	Addr netip.Addr
	// Pod is the pod at this end. Nil means that the pod which owns Addr is
	// looked up.
	Pod *Pod
	// Node is the node that Addr is a local address of, if the caller knows;
	// otherwise it is looked up among the addresses of node objects, which
	// lack those of bridges and tunnels.
	Node string
}

// Direction of a policy's rules.
type Direction string

// Directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// PolicyResult is what the network policies say about a connection.
type PolicyResult struct {
	// Verdict is PolicyNone when no policy isolates either end, and also when
	// Unknown is set.
	Verdict verdict.PolicyVerdict
	// Unknown says that the objects do not suffice to decide; Explanation names
	// what is missing.
	Unknown bool
	// Denied lists the directions that deny.
	Denied []Direction
	// Policies are those that isolate, NAMESPACE/NAME, of the directions that
	// deny if one does, of both directions otherwise.
	Policies []string
	// Explanation is one sentence for each direction that a policy isolates.
	Explanation []string
	// Source describes the source, for messages.
	Source string
}

// Finding is the NetworkPolicyDeny finding of a result that denies.
func (r PolicyResult) Finding() (verdict.Finding, bool) {
	return r.finding(verdict.NetworkPolicyDeny, "network policy %s deny the packet from %s: %s", r.Source)
}

// NotEnforced is the NetworkPolicyNotEnforced finding of a result that denies
// what a packet did all the same.
func (r PolicyResult) NotEnforced() (verdict.Finding, bool) {
	return r.finding(verdict.NetworkPolicyNotEnforced, "network policy %s denies, but nothing on the path enforces it: %s")
}

func (r PolicyResult) finding(code verdict.Code, format string, args ...any) (verdict.Finding, bool) {
	if r.Verdict != verdict.PolicyDeny {
		return verdict.Finding{}, false
	}
	names := strings.Join(r.Policies, ", ")
	resource := names
	if !strings.Contains(r.Policies[0], " ") {
		resource = "networkpolicy " + names // those of administrators name their kind
	}
	args = append([]any{names}, append(args, r.Explanation[0])...)
	return verdict.NewFindingf(code, verdict.Where{Resource: resource}, slices.Clone(r.Explanation), format, args...), true
}

// ternary is Kleene's logic: what cannot be known stays unknown unless the
// rest decides.
type ternary uint8

const (
	no ternary = iota
	maybe
	yes
)

func ternaryOf(b bool) ternary {
	if b {
		return yes
	}
	return no
}

// policy is a NetworkPolicy with its selectors and prefixes parsed.
type policy struct {
	name            string // NAMESPACE/NAME
	namespace       string
	pods            selector
	ingress, egress bool
	rules           map[Direction][]policyRule
}

type policyRule struct {
	peers []policyPeer // none: everybody
	ports []networkingv1.NetworkPolicyPort
}

type policyPeer struct {
	pods, namespaces *selector
	block            *ipBlock
	// fault says why the peer cannot be evaluated.
	fault string
}

type ipBlock struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

type selector struct {
	requirements labels.Requirements
	fault        string
}

func newSelector(s *metav1.LabelSelector) selector {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return selector{fault: err.Error()}
	}
	requirements, _ := parsed.Requirements()
	return selector{requirements: requirements}
}

// match evaluates the selector. If the labels are not complete, a requirement
// on a key that is not among them is unknown.
func (s *selector) match(set labels.Set, complete bool) ternary {
	if s.fault != "" {
		return maybe
	}
	result := yes
	for i := range s.requirements {
		r := &s.requirements[i]
		switch {
		case !complete && !set.Has(r.Key()):
			result = maybe
		case !r.Matches(set):
			return no
		}
	}
	return result
}

func (x *Index) addPolicies(list []networkingv1.NetworkPolicy) {
	for i := range list {
		o := &list[i]
		p := &policy{
			name:      o.Namespace + "/" + o.Name,
			namespace: o.Namespace,
			pods:      newSelector(&o.Spec.PodSelector),
			rules:     map[Direction][]policyRule{},
		}
		for _, t := range o.Spec.PolicyTypes {
			p.ingress = p.ingress || t == networkingv1.PolicyTypeIngress
			p.egress = p.egress || t == networkingv1.PolicyTypeEgress
		}
		if len(o.Spec.PolicyTypes) == 0 {
			p.ingress = true
			p.egress = len(o.Spec.Egress) > 0
		}
		for _, r := range o.Spec.Ingress {
			p.rules[Ingress] = append(p.rules[Ingress], newRule(r.From, r.Ports))
		}
		for _, r := range o.Spec.Egress {
			p.rules[Egress] = append(p.rules[Egress], newRule(r.To, r.Ports))
		}
		x.policies[o.Namespace] = append(x.policies[o.Namespace], p)
	}
	for _, policies := range x.policies {
		slices.SortFunc(policies, func(a, b *policy) int { return cmp.Compare(a.name, b.name) })
	}
}

func newRule(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) policyRule {
	r := policyRule{ports: ports}
	for _, peer := range peers {
		r.peers = append(r.peers, newPeer(peer))
	}
	return r
}

func newPeer(peer networkingv1.NetworkPolicyPeer) policyPeer {
	var p policyPeer
	for _, s := range []struct {
		from *metav1.LabelSelector
		to   **selector
	}{{peer.PodSelector, &p.pods}, {peer.NamespaceSelector, &p.namespaces}} {
		if s.from != nil {
			parsed := newSelector(s.from)
			*s.to = &parsed
			p.fault = cmp.Or(p.fault, parsed.fault)
		}
	}
	// The API server refuses the next two, manifests may have them.
	switch {
	case peer.IPBlock == nil && p.pods == nil && p.namespaces == nil:
		p.fault = "it names neither pods nor namespaces nor addresses"
	case peer.IPBlock != nil && (p.pods != nil || p.namespaces != nil):
		p.fault = "it has an ipBlock beside a selector"
	case peer.IPBlock != nil:
		block, err := newBlock(peer.IPBlock)
		if err != nil {
			p.fault = err.Error()
		}
		p.block = block
	}
	return p
}

func newBlock(b *networkingv1.IPBlock) (*ipBlock, error) {
	cidr, err := policyPrefix(b.CIDR)
	if err != nil {
		return nil, fmt.Errorf("ipBlock.cidr %w", err)
	}
	block := &ipBlock{cidr: cidr}
	for _, e := range b.Except {
		except, err := policyPrefix(e)
		if err != nil {
			return nil, fmt.Errorf("ipBlock.except %w", err)
		}
		block.except = append(block.except, except)
	}
	return block, nil
}

// policyPrefix reads a prefix of a policy. What is IPv4 to net.ParseCIDR, by which some
// enforce policies, is IPv6 to net/netip and to ip6tables.
func policyPrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no prefix", text)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is an IPv4 prefix in the notation of IPv6, which some network plugins take for the one and some for the other", text)
	}
	return p, nil
}

func (b *ipBlock) contains(a netip.Addr) bool {
	return b.cidr.Contains(a) && !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return e.Contains(a) })
}

// party is an End with everything about it looked up.
type party struct {
	addr netip.Addr
	pod  *Pod   // nil if it is none, or one of the host's network
	node string // whose address it is
	// doubt says why it is not known whether this is a pod, or which.
	doubt string
}

func (x *Index) party(e End) party {
	p := party{addr: e.Addr.Unmap(), pod: e.Pod, node: e.Node}
	if p.pod == nil {
		switch owners := x.podsByIP[p.addr]; len(owners) {
		case 0:
		case 1:
			p.pod = owners[0]
		default:
			p.doubt = fmt.Sprintf("%s belongs to both %s and %s", p.addr, owners[0], owners[1])
			return p
		}
	}
	switch {
	case p.pod != nil && p.pod.HostNetwork:
		// Its traffic cannot be told from that of its node.
		p.node = cmp.Or(p.node, p.pod.Node)
		p.pod = nil
	case p.pod == nil && p.node == "":
		if n, ok := x.NodeByIP(p.addr); ok {
			p.node = n.Name
		} else if why := x.lacking("pods", "nodes"); why != "" {
			p.doubt = fmt.Sprintf("%s may be the address of one of the %s", p.addr, why)
		} else if what, ok := x.InKnownRange(p.addr); ok {
			p.doubt = fmt.Sprintf("%s is in the %s, but no object has this address", p.addr, what)
		}
	}
	return p
}

func (p party) String() string {
	switch {
	case p.pod != nil:
		return fmt.Sprintf("pod %s (%s)", p.pod, p.addr)
	case p.node != "":
		return fmt.Sprintf("node %s (%s)", p.node, p.addr)
	}
	return p.addr.String()
}

// judgement is the result for one direction.
type judgement struct {
	verdict     verdict.PolicyVerdict
	unknown     bool
	isolating   []string
	explanation string
}

// Evaluate judges a connection by the policies of both ends: it must be allowed
// out of its source and into its destination. In each direction all network policies
// that select the pod are one union of rules; a pod that none selects is open.
// Administrators' policies come before and after them (see judge).
//
// Like the API's documentation has it: what a pod says to itself, and what
// comes from the node that it runs on, is always allowed; pods of the host's
// network are nodes. The reply needs no rule.
func (x *Index) Evaluate(c Connection) PolicyResult {
	source, destination := x.party(c.Source), x.party(c.Destination)
	seen := source
	if c.Seen.Addr.IsValid() {
		seen = x.party(c.Seen)
	}
	result := PolicyResult{Verdict: verdict.PolicyNone, Source: source.String()}
	if why := x.policiesMissing(source, destination); why != "" {
		result.Unknown, result.Explanation = true, []string{"what policies say is not known: " + why}
		return result
	}
	if other, applies := x.otherPolicy(source, destination); applies {
		// It may allow what is denied here, and deny what is allowed.
		return PolicyResult{
			Verdict: verdict.PolicyNone, Unknown: true, Source: result.Source,
			Explanation: []string{fmt.Sprintf("what policies say is not known: %s may apply, and policies of this kind are not evaluated", other)},
		}
	}
	judgements := []judgement{
		x.judge(Egress, source, destination, destination, c),
		x.judge(Ingress, destination, seen, destination, c),
	}
	for i, direction := range []Direction{Egress, Ingress} {
		switch j := judgements[i]; {
		case j.unknown:
			result.Unknown = true
		case j.verdict == verdict.PolicyDeny:
			result.Denied = append(result.Denied, direction)
		}
	}
	denied := len(result.Denied) > 0
	if denied {
		// A certain denial in one direction decides, whatever the other says.
		result.Unknown = false
		result.Verdict = verdict.PolicyDeny
	}
	for _, j := range judgements {
		if denied && (j.unknown || j.verdict != verdict.PolicyDeny) {
			continue
		}
		if j.explanation != "" {
			result.Explanation = append(result.Explanation, j.explanation)
		}
		for _, name := range j.isolating {
			if !slices.Contains(result.Policies, name) {
				result.Policies = append(result.Policies, name)
			}
		}
		if !result.Unknown && j.verdict == verdict.PolicyAllow {
			result.Verdict = verdict.PolicyAllow
		}
	}
	return result
}

// otherPolicy finds a policy of a kind that is not evaluated which may apply to
// one of the ends.
func (x *Index) otherPolicy(ends ...party) (ObjectRef, bool) {
	for _, other := range x.others {
		for _, end := range ends {
			if end.pod != nil && (other.Namespace == "" || other.Namespace == end.pod.Namespace) {
				return other, true
			}
		}
	}
	return ObjectRef{}, false
}

// judge evaluates one direction: subject is the pod whose policies apply, peer
// the other end. The Admin tier comes first, then network policies, and then the
// Baseline tier for a pod that none of these isolates.
func (x *Index) judge(direction Direction, subject, peer, destination party, c Connection) judgement {
	none := judgement{verdict: verdict.PolicyNone}
	switch {
	case subject.pod == nil && subject.doubt != "" && x.missing["pods"] != "":
		return judgement{unknown: true, explanation: fmt.Sprintf("which policies apply to the %s is not known: %s", direction, subject.doubt)}
	case subject.pod == nil:
		if subject.doubt != "" && len(x.policies)+len(x.admin) > 0 && len(x.podsByIP[subject.addr]) > 1 {
			return judgement{unknown: true, explanation: fmt.Sprintf("which policies apply to the %s is not known: %s", direction, subject.doubt)}
		}
		return none
	case peer.pod == subject.pod || len(x.admin) == 0:
		return x.judgeNetworkPolicies(direction, subject, peer, destination, c)
	}
	return x.judgeTier(tierAdmin, direction, subject, peer, c, destination, func() judgement {
		j := x.judgeNetworkPolicies(direction, subject, peer, destination, c)
		if j.unknown || j.verdict != verdict.PolicyNone {
			return j
		}
		return x.judgeTier(tierBaseline, direction, subject, peer, c, destination, func() judgement { return none })
	})
}

// judgeTier evaluates a tier of administrators' policies; next is what holds if
// it leaves the connection to the next one.
func (x *Index) judgeTier(t tier, direction Direction, subject, peer party, c Connection, destination party, next func() judgement) judgement {
	rulings, doubt := x.rulings(t, direction, subject, peer, destination, c)
	what := fmt.Sprintf("%s of %s", direction, subject.pod)
	traffic := describeTraffic(direction, peer, c)
	var all []judgement
	for _, r := range rulings {
		j := judgement{isolating: []string{r.policy}}
		switch r.action {
		case actionAccept:
			j.verdict = verdict.PolicyAllow
			j.explanation = fmt.Sprintf("%s: %s rule %d of %s accepts %s", what, direction, r.rule, r.policy, traffic)
		case actionDeny:
			j.verdict = verdict.PolicyDeny
			j.explanation = fmt.Sprintf("%s: %s rule %d of %s denies %s", what, direction, r.rule, r.policy, traffic)
		default:
			j = next()
		}
		all = append(all, j)
	}
	for _, j := range all[1:] {
		if j.unknown || all[0].unknown || (j.verdict == verdict.PolicyDeny) != (all[0].verdict == verdict.PolicyDeny) {
			unknown := judgement{unknown: true, explanation: fmt.Sprintf("whether %s allows %s is not known: %s", what, traffic, doubt)}
			for _, r := range rulings {
				if r.policy != "" && !slices.Contains(unknown.isolating, r.policy) {
					unknown.isolating = append(unknown.isolating, r.policy)
				}
			}
			return unknown
		}
	}
	return all[0]
}

// judgeNetworkPolicies evaluates Kubernetes' own network policies.
func (x *Index) judgeNetworkPolicies(direction Direction, subject, peer, destination party, c Connection) judgement {
	none := judgement{verdict: verdict.PolicyNone}
	var isolating []*policy
	doubt := ""
	for _, p := range x.policies[subject.pod.Namespace] {
		if direction == Ingress && !p.ingress || direction == Egress && !p.egress {
			continue
		}
		switch p.pods.match(subject.pod.Labels, true) {
		case yes:
			isolating = append(isolating, p)
		case maybe:
			doubt = cmp.Or(doubt, fmt.Sprintf("podSelector of %s: %s", p.name, p.pods.fault))
		}
	}
	if len(isolating) == 0 && doubt == "" {
		return none
	}
	j := judgement{verdict: verdict.PolicyAllow}
	for _, p := range isolating {
		j.isolating = append(j.isolating, p.name)
	}
	what := fmt.Sprintf("%s of %s", direction, subject.pod)
	traffic := describeTraffic(direction, peer, c)
	switch {
	case peer.pod == subject.pod:
		j.explanation = what + " is allowed: a pod may always talk to itself"
		return j
	case direction == Ingress && peer.node != "" && peer.node == subject.pod.Node:
		j.explanation = fmt.Sprintf("%s is allowed: %s is the node on which the pod runs", what, peer)
		return j
	}
	for _, p := range isolating {
		for i, r := range p.rules[direction] {
			matched, why := x.matchRule(p, r, peer, destination, c)
			switch matched {
			case yes:
				j.explanation = fmt.Sprintf("%s is isolated by %s, and %s rule %d of %s allows %s",
					what, strings.Join(j.isolating, ", "), direction, i+1, p.name, traffic)
				return j
			case maybe:
				doubt = cmp.Or(doubt, fmt.Sprintf("%s rule %d of %s: %s", direction, i+1, p.name, why))
			}
		}
	}
	switch {
	case doubt != "":
	case direction == Egress && peer.node != "" && peer.node == subject.pod.Node:
		doubt = "the API allows what a pod sends to its own node, but some network plugins do not"
	case c.Protocol == verdict.ICMP:
		doubt = "the API leaves it to the network plugin whether isolation holds for icmp"
	default:
		j.verdict = verdict.PolicyDeny
		whose := "it"
		if len(isolating) > 1 {
			whose = "theirs"
		}
		j.explanation = fmt.Sprintf("%s is isolated by %s and no rule of %s allows %s",
			what, strings.Join(j.isolating, ", "), whose, traffic)
		return j
	}
	return judgement{
		unknown: true, isolating: j.isolating,
		explanation: fmt.Sprintf("whether %s allows %s is not known: %s", what, traffic, doubt),
	}
}

func describeTraffic(direction Direction, peer party, c Connection) string {
	way := "from"
	if direction == Egress {
		way = "to"
	}
	if c.Protocol == verdict.ICMP {
		return fmt.Sprintf("icmp %s %s", way, peer)
	}
	return fmt.Sprintf("%s %d %s %s", c.Protocol, c.Port, way, peer)
}

func (x *Index) matchRule(p *policy, r policyRule, peer, destination party, c Connection) (result ternary, why string) {
	if !slices.ContainsFunc(r.ports, func(port networkingv1.NetworkPolicyPort) bool {
		return matchPort(port, destination, c)
	}) && len(r.ports) > 0 {
		return no, ""
	}
	if len(r.peers) == 0 {
		return yes, ""
	}
	for i := range r.peers {
		matched, reason := x.matchPeer(p, &r.peers[i], peer)
		if matched == yes {
			return yes, ""
		}
		if matched == maybe {
			result = maybe
			why = cmp.Or(why, fmt.Sprintf("peer %d: %s", i+1, reason))
		}
	}
	return result, why
}

// matchPort compares the protocol, which defaults to TCP, and the port: none
// means all, a name is looked up among the container ports of the destination.
func matchPort(port networkingv1.NetworkPolicyPort, destination party, c Connection) bool {
	protocol := verdict.TCP
	if port.Protocol != nil {
		protocol = protocolOf(*port.Protocol)
	}
	switch {
	case protocol != c.Protocol:
		return false
	case port.Port == nil:
		return true
	case port.Port.Type == intstr.Int && port.EndPort != nil:
		return port.Port.IntVal <= int32(c.Port) && int32(c.Port) <= *port.EndPort
	case port.Port.Type == intstr.Int:
		return port.Port.IntVal == int32(c.Port)
	case destination.pod == nil:
		return false
	}
	return slices.ContainsFunc(destination.pod.Ports, func(p ContainerPort) bool {
		return p.Name == port.Port.StrVal && p.Protocol == protocol && p.Port == c.Port
	})
}

func (x *Index) matchPeer(p *policy, rule *policyPeer, peer party) (result ternary, why string) {
	if rule.fault != "" {
		return maybe, rule.fault
	}
	if rule.block != nil {
		return ternaryOf(rule.block.contains(peer.addr)), ""
	}
	if peer.pod == nil {
		if peer.doubt != "" {
			return maybe, peer.doubt
		}
		return no, ""
	}
	if rule.pods != nil && rule.pods.match(peer.pod.Labels, true) == no {
		return no, ""
	}
	if rule.namespaces == nil {
		return ternaryOf(peer.pod.Namespace == p.namespace), ""
	}
	return x.matchNamespace(rule.namespaces, peer.pod.Namespace)
}

func (x *Index) matchNamespace(s *selector, namespace string) (result ternary, why string) {
	set, complete := x.namespaces[namespace]
	if !complete {
		set = labels.Set{corev1.LabelMetadataName: namespace}
	}
	result = s.match(set, complete)
	if result == maybe {
		why = "the labels of namespace " + strconv.Quote(namespace) + " were not collected"
	}
	return result, why
}
