package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// DefaultDomain is the domain of a cluster that says nothing else: the API does not
// tell it.
const DefaultDomain = "cluster.local"

// DNSService returns the service by which pods reach the cluster's DNS: kubelets
// are configured with its address, which the API does not tell, so it is the one
// that bears the name or the label that installers give to it: kubeadm's and most
// others', or OpenShift's.
func (x *Index) DNSService() (*Service, bool) {
	for _, name := range [][2]string{{"kube-system", "kube-dns"}, {"openshift-dns", "dns-default"}} {
		if s, ok := x.Service(name[0], name[1]); ok {
			return s, true
		}
	}
	for _, s := range x.Services() {
		if s.Namespace == "kube-system" && (s.Object.Labels["k8s-app"] == "kube-dns" || s.Name == "coredns") && len(s.ClusterIPs) > 0 {
			return s, true
		}
	}
	return nil, false
}

// nodeLocalDNS is where NodeLocal DNSCache listens on each node: it passes on to
// the cluster's DNS what it does not know.
var nodeLocalDNS = netip.MustParseAddr("169.254.20.10")

// IsDNS says whether a name server, of the resolv.conf of a pod, is the cluster's DNS. Where
// no service is known by its name to be that, it is the one that has the address.
func (x *Index) IsDNS(server netip.Addr) bool {
	if server == nodeLocalDNS {
		return true
	}
	s, ok := x.DNSService()
	if !ok {
		s, ok = x.ServiceByIP(server)
		return ok && s.HasPort(53, verdict.UDP)
	}
	if slices.Contains(s.ClusterIPs, server) {
		return true
	}
	if len(s.Object.Spec.Selector) == 0 {
		return false
	}
	selector := labels.SelectorFromSet(s.Object.Spec.Selector)
	return slices.ContainsFunc(x.PodsByIP(server), func(p *Pod) bool { return p.Namespace == s.Namespace && selector.Matches(p.Labels) })
}

// Record is what the cluster's DNS knows of a name: its addresses, or the name
// that it is an alias of.
type Record struct {
	Exists    bool // NXDOMAIN otherwise
	Addresses []netip.Addr
	Alias     string // in lower case, without a final dot
	// Source says which object it comes from.
	Source string
	// Unknown says why the objects do not tell; empty if they do.
	Unknown string
}

// Resolve answers for a name below domain as the plugin kubernetes of CoreDNS
// does with "pods insecure" (Services, findServices and findPods there); ok is false
// for a name outside. Both are in lower case, without a final dot.
func (x *Index) Resolve(name, domain string) (r Record, ok bool) {
	if name == domain {
		return Record{Exists: true}, true
	}
	rest, ok := strings.CutSuffix(name, "."+domain)
	if !ok {
		return Record{}, false
	}
	labels := strings.Split(rest, ".")
	slices.Reverse(labels) // svc, namespace, service, …
	switch kind := labels[0]; {
	case rest == "ns.dns": // isDefaultNS
		return x.nameServerRecord(), true
	case kind != "svc" && kind != "pod":
		return Record{}, true
	case len(labels) == 1:
		return Record{Exists: true}, true
	}
	if why := x.lacking("namespaces", "services", "endpointslices"); why != "" {
		return Record{Unknown: why}, true
	}
	namespace := labels[1]
	if !x.hasNamespace(namespace) {
		return Record{Source: "there is no namespace " + namespace}, true
	}
	switch {
	case len(labels) == 2:
		return Record{Exists: true, Source: "namespace " + namespace}, true
	case labels[0] == "pod":
		if len(labels) > 5 { // what stands before the address is not asked about
			return Record{}, true
		}
		return podRecord(labels[2]), true
	}
	return x.serviceRecord(namespace, labels[2], labels[3:]), true
}

// hasNamespace says whether there is a Kubernetes namespace. Manifests need not
// contain the object.
func (x *Index) hasNamespace(name string) bool {
	if _, ok := x.namespaces[name]; ok {
		return true
	}
	if len(x.podsByNS[name]) > 0 {
		return true
	}
	for _, s := range x.services {
		if s.Namespace == name {
			return true
		}
	}
	return false
}

// nameServerRecord is what the cluster's DNS says of itself.
func (x *Index) nameServerRecord() Record {
	s, ok := x.DNSService()
	if !ok {
		return Record{Unknown: "which service the cluster's DNS is reached by is not known"}
	}
	return Record{Exists: true, Addresses: s.ClusterIPs, Source: "service " + s.String()}
}

// podRecord reads an address from the name of a pod, 10-244-1-2 or 2001-db8--1:
// whether there is such a pod is not asked.
func podRecord(name string) Record {
	text := strings.ReplaceAll(name, "-", ":")
	if strings.Count(name, "-") == 3 && !strings.Contains(name, "--") {
		text = strings.ReplaceAll(name, "-", ".")
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return Record{}
	}
	return Record{Exists: true, Addresses: []netip.Addr{addr.Unmap()}, Source: "the name of a pod says its address"}
}

// serviceRecord answers for a service; before is what stands before its name: the
// name of an endpoint, or _port and _protocol, each label counted from the right.
func (x *Index) serviceRecord(namespace, name string, before []string) Record {
	s, ok := x.Service(namespace, name)
	if !ok {
		return Record{Source: fmt.Sprintf("there is no service %s/%s", namespace, name)}
	}
	r := Record{Source: "service " + s.String()}
	endpoint, port, protocol := "", "", ""
	switch len(before) {
	case 0:
	case 1:
		endpoint = before[0]
	case 2:
		protocol, port = strings.TrimPrefix(before[0], "_"), strings.TrimPrefix(before[1], "_")
	default:
		return r
	}
	matches := func(name string, p verdict.Protocol) bool {
		return (port == "" || port == name) && (protocol == "" || protocol == string(p))
	}
	switch {
	case s.ExternalName != "":
		// An address is no alias, and no record of its own.
		if _, err := netip.ParseAddr(s.ExternalName); len(before) == 0 && err != nil {
			r.Exists, r.Alias = true, strings.ToLower(strings.TrimSuffix(s.ExternalName, "."))
		}
	case s.Headless || endpoint != "":
		r.Addresses = x.endpointRecords(s, endpoint, matches)
		r.Exists = len(r.Addresses) > 0
	default:
		r.Exists = slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return matches(p.Name, p.Protocol) })
		if r.Exists {
			r.Addresses = s.ClusterIPs
		}
	}
	return r
}

// endpointRecords are the addresses of the ready endpoints of a service, of those
// with the name if one is given. An endpoint without a hostname is named
// by its address (endpointHostname).
func (x *Index) endpointRecords(s *Service, endpoint string, matches func(string, verdict.Protocol) bool) []netip.Addr {
	var addrs []netip.Addr
	for _, slice := range x.slices[s.String()] {
		if !portMatches(slice, matches) {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, text := range e.Addresses {
				addr, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				hostname := strings.NewReplacer(".", "-", ":", "-").Replace(text)
				if strings.HasSuffix(hostname, "-") {
					hostname += "0"
				}
				if e.Hostname != nil && *e.Hostname != "" {
					hostname = *e.Hostname
				}
				if addr = addr.Unmap(); (endpoint == "" || endpoint == hostname) && !slices.Contains(addrs, addr) {
					addrs = append(addrs, addr)
				}
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// portMatches says whether a slice has such a port. One without any has one that
// is called nothing.
func portMatches(slice *discoveryv1.EndpointSlice, matches func(string, verdict.Protocol) bool) bool {
	return len(slice.Ports) == 0 && matches("", "") || slices.ContainsFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool { return matches(portOf(&p)) })
}
