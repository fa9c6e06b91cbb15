// Package cluster turns plain Kubernetes objects into what a diagnosis asks
// about: which pod or node owns an address, which backends a service has, what
// the network policies say about a connection. It talks to nobody: objects
// come from files or from a client outside of the simulator.
package cluster

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Objects are the Kubernetes objects that a diagnosis looks at, as the API
// serves them.
type Objects struct {
	Namespaces      []corev1.Namespace
	Nodes           []corev1.Node
	Pods            []corev1.Pod
	Services        []corev1.Service
	EndpointSlices  []discoveryv1.EndpointSlice
	NetworkPolicies []networkingv1.NetworkPolicy
	// OtherPolicies are policies that are not evaluated: those of a network plugin,
	// and those of administrators that are not understood. Where they apply, it is not
	// known what policies say.
	OtherPolicies []ObjectRef
	// AdminPolicies are those of administrators that are evaluated.
	AdminPolicies []AdminPolicy
	// Missing says which resources were not read, and why: what there is of them
	// is not known. Keys are names of resources as RBAC has them, such as "pods" or
	// "adminnetworkpolicies.policy.networking.k8s.io".
	Missing map[string]string
	// Current is the last moment at which the rest was known to be what the API
	// server has; zero if the objects come from elsewhere.
	Current time.Time
}

// Same says whether two sets of objects are the same in memory, so that what was
// compiled from one holds for the other. Equal objects that were read twice are
// not.
func (o *Objects) Same(other *Objects) bool {
	return same(o.Namespaces, other.Namespaces) && same(o.Nodes, other.Nodes) && same(o.Pods, other.Pods) &&
		same(o.Services, other.Services) && same(o.EndpointSlices, other.EndpointSlices) &&
		same(o.NetworkPolicies, other.NetworkPolicies) && same(o.OtherPolicies, other.OtherPolicies) &&
		same(o.AdminPolicies, other.AdminPolicies) && maps.Equal(o.Missing, other.Missing)
}

func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// ObjectRef names an object of which nothing else was read.
type ObjectRef struct {
	APIVersion, Kind string
	Namespace        string // empty for the whole cluster
	Name             string
}

// String is "CiliumNetworkPolicy shop/api".
func (r ObjectRef) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}
