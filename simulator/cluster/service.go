package cluster

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Service is what a diagnosis needs to know about one service.
type Service struct {
	Namespace, Name string
	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr // spec.externalIPs
	IngressIPs      []netip.Addr // status.loadBalancer
	Ports           []ServicePort
	Headless        bool
	// ExternalName is the DNS name that this service is an alias of.
	ExternalName string
	// SourceRanges are the clients that may use the load balancer; none means
	// all.
	SourceRanges []netip.Prefix
	// HealthCheckNodePort is where nodes tell a load balancer whether they have
	// local endpoints; 0 for none.
	HealthCheckNodePort uint16
	Object              *corev1.Service
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name       string
	Protocol   verdict.Protocol
	Port       uint16
	NodePort   uint16 // 0: none
	TargetPort string // number or name, for people: backends come from EndpointSlices
}

// String is "NAMESPACE/NAME".
func (s *Service) String() string { return s.Namespace + "/" + s.Name }

// HasPort says whether the service declares a port.
func (s *Service) HasPort(port uint16, protocol verdict.Protocol) bool {
	_, ok := s.port(port, protocol)
	return ok
}

// IsExternal says whether addr is one of the service's addresses for clients
// outside of the cluster.
func (s *Service) IsExternal(addr netip.Addr) bool {
	return slices.Contains(s.ExternalIPs, addr.Unmap()) || slices.Contains(s.IngressIPs, addr.Unmap())
}

// ClusterIP returns the service's cluster IP of one family.
func (s *Service) ClusterIP(ipv6 bool) (netip.Addr, bool) { return ofFamily(s.ClusterIPs, ipv6) }

func (s *Service) port(port uint16, protocol verdict.Protocol) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Port == port && p.Protocol == protocol {
			return p, true
		}
	}
	return ServicePort{}, false
}

// Traffic is a way of using a service.
type Traffic struct {
	Port     uint16 // of the service (not the node port)
	Protocol verdict.Protocol
	IPv6     bool
	// Node is where the service is translated: the client's node, or the node
	// at which a packet from outside arrives.
	Node string
	// External: the packet was sent to an external IP, a load balancer's
	// address or a node port, not to the cluster IP.
	External bool
	// FromInside: the client is a pod of this cluster or the node itself. The
	// external traffic policy does not hold for these.
	FromInside bool
}

// Backend is one endpoint of a service.
type Backend struct {
	Addr netip.AddrPort
	Pod  string // NAMESPACE/NAME; empty when the endpoint is no pod
	Node string
	// The conditions of the endpoint, with the API's defaults.
	Ready, Serving, Terminating bool
}
