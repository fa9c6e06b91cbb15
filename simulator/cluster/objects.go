// Package cluster turns plain Kubernetes objects into what a diagnosis asks
// about: which pod or node owns an address, which backends a service has, what
// the network policies say about a connection. It talks to nobody: objects
// come from files or from a client outside of the simulator.
package cluster

import (
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
	// OtherPolicies are policies of kinds that are not evaluated, such as
	// AdminNetworkPolicy or those of a network plugin. Where they apply, it is not
	// known what policies say.
	OtherPolicies []ObjectRef
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
