package cluster

import (
	"errors"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

type policy struct{}

func (x *Index) addService(object *corev1.Service)                 {}
func (x *Index) addPolicies(list []networkingv1.NetworkPolicy)     {}
func serviceRanges(services []corev1.Service) (out []netip.Prefix) { return nil }

// Backends returns the endpoints among which the service proxy should choose
// for this traffic, as kube-proxy chooses them.
func (x *Index) Backends(s *Service, t Traffic) []Backend { return nil }

// Endpoints returns every endpoint of a service port, usable or not.
func (x *Index) Endpoints(s *Service, port uint16, protocol verdict.Protocol, ipv6 bool) []Backend {
	return nil
}

// ServiceFindings says what the objects hold against using a service from
// client: ServiceNoSuchPort, ServiceNoEndpoints, ServiceSourceRangeDeny.
func (x *Index) ServiceFindings(s *Service, t Traffic, client netip.Addr) []verdict.Finding {
	return nil
}

// Findings says what is wrong with a pod: PodNotRunning or PodNotReady.
func (p *Pod) Findings() []verdict.Finding { return nil }

// Findings says what is wrong with a node: NodeNotReady.
func (n *Node) Findings() []verdict.Finding { return nil }

// Evaluate judges a connection by the network policies of both ends.
func (x *Index) Evaluate(c Connection) PolicyResult { return PolicyResult{Verdict: verdict.PolicyNone} }

// Finding is the NetworkPolicyDeny finding of a result that denies.
func (r PolicyResult) Finding(c Connection) (verdict.Finding, bool) { return verdict.Finding{}, false }

// Decode reads Kubernetes objects from a file as kubectl prints it and appends
// them to into.
func Decode(file string, data []byte, into *Objects) error { return errors.New("not yet") }

// Files writes objects as YAML files by name, with no more than a diagnosis needs.
func Files(o *Objects) (map[string][]byte, error) { return nil, errors.New("not yet") }
