package cluster

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// PodResolver is the resolv.conf that kubelet writes for a pod (GetPodDNS of
// pkg/kubelet/network/dns): node is that of the pod's node, nil where it is not known. ok is false
// where what is known does not say.
func (x *Index) PodResolver(p *Pod, node *resolver.Config, domain string) (c *resolver.Config, ok bool) {
	spec := &p.Object.Spec
	policy := spec.DNSPolicy
	if policy == "" {
		policy = corev1.DNSClusterFirst
	}
	if policy == corev1.DNSClusterFirst && p.HostNetwork {
		policy = corev1.DNSDefault
	}
	c = &resolver.Config{Ndots: 1}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		// A resolver on the node's loopback, as systemd-resolved, is not in the file that
		// kubelet is given then, which may be another.
		if node == nil || !p.HostNetwork && slices.ContainsFunc(node.Servers, netip.Addr.IsLoopback) {
			return nil, false
		}
		copied := *node
		c = &copied
	default: // ClusterFirst, ClusterFirstWithHostNet
		s, known := x.DNSService()
		if !known || len(s.ClusterIPs) == 0 {
			return nil, false
		}
		c.Servers, c.Ndots = s.ClusterIPs[:1], 5
		c.Search = []string{p.Namespace + ".svc." + domain, "svc." + domain, domain}
		if node != nil {
			c.Search = appendNew(c.Search, node.Search...)
		}
	}
	if more := spec.DNSConfig; more != nil {
		c.Servers = appendNew(c.Servers, parseAddrs(more.Nameservers)...)
		for _, s := range more.Searches {
			c.Search = appendNew(c.Search, strings.ToLower(strings.TrimSuffix(s, ".")))
		}
		for _, o := range more.Options {
			switch {
			case o.Name == "ndots" && o.Value != nil:
				if n, err := strconv.Atoi(*o.Value); err == nil && n >= 0 {
					c.Ndots = n
				}
			case o.Name == "rotate":
				c.Rotate = true
			}
		}
	}
	c.Limit()
	return c, true
}

// Aliases are the lines that kubelet adds to the hosts file of a pod.
func (p *Pod) Aliases() resolver.Hosts {
	var lines strings.Builder
	for _, a := range p.Object.Spec.HostAliases {
		lines.WriteString(a.IP + " " + strings.Join(a.Hostnames, " ") + "\n")
	}
	return resolver.ParseHosts([]byte(lines.String()))
}

// appendNew appends what is not there yet, to a copy.
func appendNew[T comparable](list []T, more ...T) []T {
	list = slices.Clone(list)
	for _, v := range more {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}
