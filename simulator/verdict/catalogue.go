package verdict

import (
	"fmt"
	"strings"
)

// Code names a reason. The catalogue is closed: codes are label values in
// metrics and keys in alert rules, so none is ever renamed, and none carries
// an address or other free text.
type Code string

// Kubernetes objects.
const (
	PodNotReady              Code = "PodNotReady"
	PodNotRunning            Code = "PodNotRunning"
	NodeNotReady             Code = "NodeNotReady"
	NetworkPolicyDeny        Code = "NetworkPolicyDeny"
	NetworkPolicyNotEnforced Code = "NetworkPolicyNotEnforced"
	ServiceNoEndpoints       Code = "ServiceNoEndpoints"
	ServiceNoSuchPort        Code = "ServiceNoSuchPort"
	ServiceSourceRangeDeny   Code = "ServiceSourceRangeDeny"
	ServiceBackendMismatch   Code = "ServiceBackendMismatch"
	DNSServiceUnreachable    Code = "DNSServiceUnreachable"
	DNSNameNotFound          Code = "DNSNameNotFound"
	DNSTimeout               Code = "DNSTimeout"
)

// Inside one network namespace.
const (
	NoListener          Code = "NoListener"
	AcceptQueueFull     Code = "AcceptQueueFull"
	NoRoute             Code = "NoRoute"
	InvalidRoute        Code = "InvalidRoute"
	RouteBlackhole      Code = "RouteBlackhole"
	RouteUnreachable    Code = "RouteUnreachable"
	RouteProhibit       Code = "RouteProhibit"
	NetfilterDrop       Code = "NetfilterDrop"
	NetfilterReject     Code = "NetfilterReject"
	ReversePathFilter   Code = "ReversePathFilter"
	MartianSource       Code = "MartianSource"
	ForwardingDisabled  Code = "ForwardingDisabled"
	InterfaceDown       Code = "InterfaceDown"
	NoCarrier           Code = "NoCarrier"
	InterfaceMissing    Code = "InterfaceMissing"
	MTUExceeded         Code = "MTUExceeded"
	TTLExpired          Code = "TTLExpired"
	RoutingLoop         Code = "RoutingLoop"
	NeighbourFailed     Code = "NeighbourFailed"
	NeighbourStale      Code = "NeighbourStale"
	DeliveredElsewhere  Code = "DeliveredElsewhere"
	AddressNotUsable    Code = "AddressNotUsable"
	VXLANPeerMissing    Code = "VXLANPeerMissing"
	BridgePortIsolated  Code = "BridgePortIsolated"
	BridgePortBlocked   Code = "BridgePortBlocked"
	BridgeVLANFiltered  Code = "BridgeVLANFiltered"
	BridgeHairpinOff    Code = "BridgeHairpinOff"
	IPVSNoService       Code = "IPVSNoService"
	IPVSNoDestination   Code = "IPVSNoDestination"
	ConntrackTableFull  Code = "ConntrackTableFull"
	ReplyNotTranslated  Code = "ReplyNotTranslated"
	ConntrackInvalid    Code = "ConntrackInvalid"
	ARPFiltered         Code = "ARPFiltered"
	ConntrackStaleEntry Code = "ConntrackStaleEntry"
	EgressNotTranslated Code = "EgressNotTranslated"
	ProxyInterposed     Code = "ProxyInterposed"
	UserspaceDecides    Code = "UserspaceDecides"
	EncryptionOpaque    Code = "EncryptionOpaque"
	TCDrop              Code = "TCDrop"
	EBPFOpaque          Code = "EBPFOpaque"
	UnmodelledRule      Code = "UnmodelledRule"
)

// Cloud (Alibaba Cloud).
const (
	SecurityGroupMismatch   Code = "SecurityGroupMismatch"
	SecurityGroupDeny       Code = "SecurityGroupDeny"
	CloudNoRouteEntry       Code = "CloudNoRouteEntry"
	CloudNoNextHop          Code = "CloudNoNextHop"
	CloudWrongNextHop       Code = "CloudWrongNextHop"
	CloudUnexpectedNextHop  Code = "CloudUnexpectedNextHop"
	CloudNoSNAT             Code = "CloudNoSNAT"
	CloudNoPublicIP         Code = "CloudNoPublicIP"
	CloudNetworkACLDeny     Code = "CloudNetworkACLDeny"
	CloudSourceRouteMissing Code = "CloudSourceRouteMissing"
	SLBBackendUnhealthy     Code = "SLBBackendUnhealthy"
	SLBNoListener           Code = "SLBNoListener"
	SLBListenerNotRunning   Code = "SLBListenerNotRunning"
	SLBNotActive            Code = "SLBNotActive"
	SLBACLDeny              Code = "SLBACLDeny"
	SLBNoBackend            Code = "SLBNoBackend"
	SLBBackendMismatch      Code = "SLBBackendMismatch"
	NLBBackendUnhealthy     Code = "NLBBackendUnhealthy"
	NLBNoListener           Code = "NLBNoListener"
	NLBListenerNotRunning   Code = "NLBListenerNotRunning"
	NLBNotActive            Code = "NLBNotActive"
	NLBACLDeny              Code = "NLBACLDeny"
	NLBNoBackend            Code = "NLBNoBackend"
	NLBBackendMismatch      Code = "NLBBackendMismatch"
	ALBBackendUnhealthy     Code = "ALBBackendUnhealthy"
	ALBNoListener           Code = "ALBNoListener"
	ALBListenerNotRunning   Code = "ALBListenerNotRunning"
	ALBNotActive            Code = "ALBNotActive"
	ALBACLDeny              Code = "ALBACLDeny"
	ALBNoBackend            Code = "ALBNoBackend"
	ALBBackendMismatch      Code = "ALBBackendMismatch"
	InstanceNotRunning      Code = "InstanceNotRunning"
)

// The diagnosis itself.
const (
	LeavesModel        Code = "LeavesModel"
	SnapshotStale      Code = "SnapshotStale"
	SnapshotMissing    Code = "SnapshotMissing"
	EndpointUnresolved Code = "EndpointUnresolved"
	CollectorFailed    Code = "CollectorFailed"
	CloudAPIFailed     Code = "CloudAPIFailed"
	ObservedDisagrees  Code = "ObservedDisagrees"
	TooManyBranches    Code = "TooManyBranches"
)

// Reason describes one code of the catalogue.
type Reason struct {
	Code Code
	// Severity that a finding has unless the place where it is made knows better.
	Severity Severity
	// Phrase is the wording of the message, a format; empty where it varies.
	Phrase string
	// Remedy says what an operator does next, where the finding says nothing
	// more specific.
	Remedy string
}

var catalogue = [...]Reason{
	{PodNotReady, SeverityWarning, "pod container %s is not ready", "Look at the container's state and logs (kubectl describe pod, kubectl logs)."},
	{PodNotRunning, SeverityWarning, "pod %s is %s, not Running", "Find out why the pod does not run: kubectl describe pod, kubectl get events."},
	{NodeNotReady, SeverityWarning, "node %s is not ready", "Look at the node's conditions (kubectl describe node) and at its kubelet."},
	{NetworkPolicyDeny, SeverityFatal, "network policy %s deny the packet from %s", "Add a rule to the policy that allows this peer and port, or correct its selectors."},
	{NetworkPolicyNotEnforced, SeverityWarning, "network policy %s denies, but nothing on the path enforces it", "Check that the cluster runs a network plugin that enforces NetworkPolicy, and that its agent on this node works."},
	{ServiceNoEndpoints, SeverityFatal, "service %s has no valid endpoint", "Check that the service's selector matches ready pods (kubectl get endpointslices)."},
	{ServiceNoSuchPort, SeverityFatal, "service %s has no port %s", "Use a port that the service declares, or add this one to it."},
	{ServiceSourceRangeDeny, SeverityFatal, "service %s sourceRanges does not allow %s", "Add the client's range to loadBalancerSourceRanges."},
	{ServiceBackendMismatch, SeverityWarning, "", "Check the service proxy on this node (kube-proxy or its replacement): its rules differ from the EndpointSlices."},
	{DNSServiceUnreachable, SeverityFatal, "cluster DNS %s", "Diagnose the path to the cluster DNS service, and check its pods."},
	{DNSNameNotFound, SeverityFatal, "cluster DNS %s", "Check the name, its namespace, and that the service exists."},
	{DNSTimeout, SeverityFatal, "cluster DNS %s", "Check the cluster DNS pods' load and upstream servers."},
	{NoListener, SeverityFatal, "no process listening on %s", "Start the server, or make it listen on this address and port (not only on loopback); if it listens on another port, correct the service's targetPort."},
	{AcceptQueueFull, SeverityFatal, "accept queue of %s is full", "The server accepts too slowly: look at its load, and at its backlog and net.core.somaxconn."},
	{NoRoute, SeverityFatal, "no route to host %s", "Add the missing route, or restart the network plugin's agent that should have programmed it."},
	{InvalidRoute, SeverityFatal, "invalid route %s for packet %s", "Correct the route's device, gateway, scope or source, or add the more specific route that is missing; the network plugin's agent should own it."},
	{RouteBlackhole, SeverityFatal, "route %s is of type blackhole", "Remove the blackhole route, or find out what installed it (ip route show table all)."},
	{RouteUnreachable, SeverityFatal, "route %s is of type unreachable", "Remove the unreachable route, or find out what installed it (ip route show table all)."},
	{RouteProhibit, SeverityFatal, "route %s is of type prohibit", "Remove the prohibit route, or find out what installed it (ip route show table all)."},
	{NetfilterDrop, SeverityFatal, "packet dropped by %s", "Remove or correct the rule, or allow this packet before it; if an agent programs it (kube-proxy, network plugin), correct what it follows from."},
	{NetfilterReject, SeverityFatal, "packet rejected by %s", "Remove or correct the rule, or allow this packet before it; if an agent programs it (kube-proxy, network plugin), correct what it follows from."},
	{ReversePathFilter, SeverityFatal, "rp_filter on %s drops %s", "Route replies out of the interface on which requests arrive, or set rp_filter to 2 (loose) on it."},
	{MartianSource, SeverityFatal, "martian source %s", "Find out who sends with this source address: a wrong or duplicate address, or a missing route_localnet."},
	{ForwardingDisabled, SeverityFatal, "IP forwarding is off on %s", "Turn forwarding on (net.ipv4.ip_forward=1, net.ipv6.conf.all.forwarding=1) and make it persistent."},
	{InterfaceDown, SeverityFatal, "interface %s is down", "Bring the interface up (ip link set dev … up), and find out what took it down."},
	{NoCarrier, SeverityFatal, "interface %s is down", "The other end of the interface is down or unplugged: bring it up."},
	{InterfaceMissing, SeverityFatal, "interface %s is missing", "Find out what removed the interface; recreating the pod makes its network plugin create it again."},
	{MTUExceeded, SeverityFatal, "packet of %d bytes exceeds MTU %d of %s", "Set the same MTU along the path (less the encapsulation overhead), or let ICMP 'fragmentation needed' / 'packet too big' through."},
	{TTLExpired, SeverityFatal, "hop limit reached at %s", "Look for a routing loop, or raise the sender's TTL."},
	{RoutingLoop, SeverityFatal, "routing loop: %s", "Correct the routes that point at each other."},
	{NeighbourFailed, SeverityFatal, "neighbour %s unresolved on %s", "Nobody answers for this address on the segment: check the route's gateway, and that the host that owns it is up."},
	{NeighbourStale, SeverityFatal, "neighbour %s resolves to the wrong %s", "Delete the stale entry (ip neigh del), and look for a duplicate address."},
	{DeliveredElsewhere, SeverityFatal, "%s is owned by %s", "Look for a duplicate or reused address, or a stale endpoint."},
	{AddressNotUsable, SeverityFatal, "", "Look for a duplicate address on the segment (failed DAD), or for disable_ipv6."},
	{VXLANPeerMissing, SeverityFatal, "no fdb/neigh entry for %s on %s", "Restart the network plugin's agent: it programs VXLAN forwarding entries for each node."},
	{BridgePortIsolated, SeverityFatal, "bridge port %s is isolated from %s", "Turn isolation off on one of the two ports (bridge link set dev … isolated off)."},
	{BridgePortBlocked, SeverityFatal, "bridge port %s is not forwarding", "Look at the spanning tree state of the port (bridge link)."},
	{BridgeVLANFiltered, SeverityFatal, "bridge port %s does not carry VLAN %s", "Add the VLAN to the port (bridge vlan add)."},
	{BridgeHairpinOff, SeverityFatal, "bridge port %s has hairpin mode off", "Turn hairpin mode on for the port (bridge link set dev … hairpin on), as network plugins do."},
	{IPVSNoService, SeverityFatal, "ipvs has no service for %s", "Check the service proxy on this node: it has not programmed this service."},
	{IPVSNoDestination, SeverityFatal, "ipvs has no destination for %s", "Check the service's endpoints, and the weights of its IPVS destinations."},
	{ConntrackTableFull, SeverityFatal, "conntrack table is full", "Raise net.netfilter.nf_conntrack_max, or find the source of the connections."},
	{ReplyNotTranslated, SeverityFatal, "reply from %s bypasses the translation on %s", "Make replies return through the node that translated the request: masquerade, br_netfilter, or hairpin mode."},
	{ConntrackInvalid, SeverityFatal, "", "Find out why this host sees only one direction of the connection (asymmetric route)."},
	{ARPFiltered, SeverityFatal, "", "Check arp_ignore and arp_filter on the answering host."},
	{ConntrackStaleEntry, SeverityFatal, "conntrack still maps %s to %s", "Delete the entry (conntrack -D) and check the service proxy."},
	{EgressNotTranslated, SeverityFatal, "%s leaves %s with private source %s", "Add masquerading for this traffic, or a NAT gateway."},
	{ProxyInterposed, SeverityInfo, "%s is redirected to a proxy on %s", "Reaching the proxy is not reaching the destination: ask the proxy."},
	{UserspaceDecides, SeverityUndecided, "", "A program in user space decides (NFQUEUE): ask it."},
	{EncryptionOpaque, SeverityUndecided, "", "Check the tunnel with its own tools (ip xfrm, wg)."},
	{TCDrop, SeverityUndecided, "", "Look at the tc filters and queueing disciplines of the interface (tc -s filter show, tc -s qdisc show)."},
	{EBPFOpaque, SeverityUndecided, "tc/XDP/eBPF program %s on %s cannot be evaluated", "Ask the program's owner: bpftool net, bpftool cgroup tree."},
	{UnmodelledRule, SeverityUndecided, "rule %s uses %s, which is not modelled", "Evaluate this rule by hand; the report shows both ways."},
	{SecurityGroupMismatch, SeverityWarning, "%s do not have same security group", "Put both instances into one security group, or rely on explicit rules."},
	{SecurityGroupDeny, SeverityFatal, "security group %s not allow packet %s", "Add a rule that allows this packet to the security group."},
	{CloudNoRouteEntry, SeverityFatal, "no route entry for destination ip %s", "Add the entry to the vSwitch's route table."},
	{CloudNoNextHop, SeverityFatal, "no next hop for destination ip %s", "Correct the next hop of the route entry."},
	{CloudWrongNextHop, SeverityFatal, "error route next hop for destination ip %s, expect %s, actual %s", "Correct the next hop of the route entry."},
	{CloudUnexpectedNextHop, SeverityFatal, "expect next hop for destination ip %s to be NatGateway, but %s", "Correct the next hop of the route entry."},
	{CloudNoSNAT, SeverityFatal, "no snat entry on nat gateway %s for %s", "Add an SNAT entry for the vSwitch or the source."},
	{CloudNoPublicIP, SeverityFatal, "", "Bind an EIP to the instance, or route it through a NAT gateway."},
	{CloudNetworkACLDeny, SeverityFatal, "", "Correct the network ACL of the vSwitch."},
	{CloudSourceRouteMissing, SeverityFatal, "no route entry for source ip %s", "Add the return route to the vSwitch's route table."},
	{SLBBackendUnhealthy, SeverityFatal, "backend %s health status for port %s, not \"normal\"", "Look at the backend's health check."},
	{SLBNoListener, SeverityFatal, "cannot find listener port %s for slb %s", "Create the listener, or correct the service's annotations."},
	{SLBListenerNotRunning, SeverityFatal, "status of loadbalancer for %s port %s not \"running\"", "Start the listener."},
	{SLBNotActive, SeverityFatal, "loadbalancer %s status is %s, not \"active\"", "Check the load balancer in the console: locked, or unpaid."},
	{SLBACLDeny, SeverityFatal, "acl %s on loadbalancer does not allow %s", "Correct the listener's access control list."},
	{SLBNoBackend, SeverityFatal, "server group %s has no backend", "Check the cloud controller manager: it adds the backends."},
	{SLBBackendMismatch, SeverityFatal, "backend %s is unexpected", "Check the cloud controller manager: it keeps the backends."},
	{NLBBackendUnhealthy, SeverityFatal, "backend %s health status for port %s, not \"normal\"", "Look at the backend's health check."},
	{NLBNoListener, SeverityFatal, "cannot find listener port %s for nlb %s", "Create the listener, or correct the service's annotations."},
	{NLBListenerNotRunning, SeverityFatal, "status of loadbalancer for %s port %s not \"running\"", "Start the listener."},
	{NLBNotActive, SeverityFatal, "loadbalancer %s status is %s, not \"active\"", "Check the load balancer in the console: locked, or unpaid."},
	{NLBACLDeny, SeverityFatal, "acl %s on loadbalancer does not allow %s", "Correct the listener's access control list."},
	{NLBNoBackend, SeverityFatal, "server group %s has no backend", "Check the cloud controller manager: it adds the backends."},
	{NLBBackendMismatch, SeverityFatal, "backend %s is unexpected", "Check the cloud controller manager: it keeps the backends."},
	{ALBBackendUnhealthy, SeverityFatal, "backend %s health status for port %s, not \"normal\"", "Look at the backend's health check."},
	{ALBNoListener, SeverityFatal, "cannot find listener port %s for alb %s", "Create the listener, or correct the service's annotations."},
	{ALBListenerNotRunning, SeverityFatal, "status of loadbalancer for %s port %s not \"running\"", "Start the listener."},
	{ALBNotActive, SeverityFatal, "loadbalancer %s status is %s, not \"active\"", "Check the load balancer in the console: locked, or unpaid."},
	{ALBACLDeny, SeverityFatal, "acl %s on loadbalancer does not allow %s", "Correct the listener's access control list."},
	{ALBNoBackend, SeverityFatal, "server group %s has no backend", "Check the cloud controller manager: it adds the backends."},
	{ALBBackendMismatch, SeverityFatal, "backend %s is unexpected", "Check the cloud controller manager: it keeps the backends."},
	{InstanceNotRunning, SeverityFatal, "instance %s is %s", "Start the instance."},
	{LeavesModel, SeverityInfo, "the packet leaves the collected world through %s", "Nothing to do: what happens outside cannot be seen from here."},
	{SnapshotStale, SeverityUndecided, "", "Find out why the node's state is not collected any more: whether its agent runs, what its log says, and whether the controller reaches it."},
	{SnapshotMissing, SeverityUndecided, "", "Collect what the message names: plumbline collect as root on that node, or an agent there; a file of a bundle that is made by hand."},
	{EndpointUnresolved, SeverityUndecided, "", "Check the name (kubectl get shows what exists), and that the state has the cluster's objects (--kubeconfig or --manifests, kubernetes in the configuration)."},
	{CollectorFailed, SeverityUndecided, "", "Look at the error: a missing tool or privilege, usually."},
	{CloudAPIFailed, SeverityUndecided, "", "Check the credentials, their permissions, and the API's quota."},
	{ObservedDisagrees, SeverityWarning, "", "Trust the observation. Look at the age of the state in the evidence and ask again; if it was fresh, report the bundle of this verdict as a defect of the simulator."},
	{TooManyBranches, SeverityUndecided, "more than %d ways to walk", "Ask about a single backend instead of the service."},
}

// Catalogue returns every reason, in the order of the documentation.
func Catalogue() []Reason { return catalogue[:] }

// Lookup finds the reason with this code.
func Lookup(code Code) (Reason, bool) {
	for _, r := range catalogue {
		if r.Code == code {
			return r, true
		}
	}
	return Reason{}, false
}

// NewFinding makes a finding with the catalogue's severity and remedy. With no
// format the catalogue's phrase is the format.
func NewFinding(code Code, where Where, evidence []string, args ...any) Finding {
	r, _ := Lookup(code)
	return newFinding(r, code, where, evidence, r.Phrase, args...)
}

// NewFindingf is NewFinding with a message of its own, where the catalogue has
// no phrase or the phrase needs more words around it.
func NewFindingf(code Code, where Where, evidence []string, format string, args ...any) Finding {
	r, _ := Lookup(code)
	return newFinding(r, code, where, evidence, format, args...)
}

func newFinding(r Reason, code Code, where Where, evidence []string, format string, args ...any) Finding {
	if evidence == nil {
		evidence = []string{}
	}
	return Finding{
		Code:     code,
		Severity: r.Severity,
		Where:    where,
		Message:  fmt.Sprintf(format, args...),
		Evidence: evidence,
		Remedy:   r.Remedy,
		Docs:     "docs/reasons.md#" + strings.ToLower(string(code)),
	}
}
