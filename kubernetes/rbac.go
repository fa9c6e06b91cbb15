package kubernetes

import rbacv1 "k8s.io/api/rbac/v1"

// WatcherRules are what an account needs whose watcher reads a whole cluster.
// Policies that a cluster does not have cost nothing to be allowed.
func WatcherRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		reads("", "namespaces", "nodes", "pods", "services"),
		reads("discovery.k8s.io", "endpointslices"),
		reads("networking.k8s.io", "networkpolicies"),
		reads("policy.networking.k8s.io", "adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"),
		reads("cilium.io", "ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"),
		reads("crd.projectcalico.org", "networkpolicies", "globalnetworkpolicies"),
		reads("projectcalico.org", "networkpolicies", "globalnetworkpolicies"),
		reads("crd.antrea.io", "networkpolicies", "clusternetworkpolicies"),
	}
}

// NodeRules are what an account needs whose watcher reads one node (Options.Node).
func NodeRules() []rbacv1.PolicyRule { return []rbacv1.PolicyRule{reads("", "nodes", "pods")} }

// LeaseRules are what a candidate for a Lease needs, in the namespace of that. Who
// may create one may create any: it has no name yet when the API server decides.
func LeaseRules(name string) []rbacv1.PolicyRule {
	const group, resource = "coordination.k8s.io", "leases"
	return []rbacv1.PolicyRule{
		{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{"create"}},
		{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: []string{name}, Verbs: []string{"get", "update"}},
	}
}

func reads(group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"list", "watch"}}
}
