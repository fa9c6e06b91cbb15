package cloud

import (
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// question is what is asked, and the name of the schedule that asks it, too.
type question struct {
	name     string
	from, to string
	port     uint16
	protocol verdict.Protocol
}

// Paths of the mission, and others on which a cloud decides.
var (
	nodeToNode       = question{"node-to-node", "node:node-1", "node:node-2", 8443, verdict.TCP}
	podToPod         = question{"pod-to-pod", "pod:shop/web-0", "pod:shop/api-1", 8080, verdict.TCP}
	podToOwnPod      = question{"pod-to-eni-pod", "pod:shop/web-0", "pod:shop/eni-0", 8080, verdict.TCP}
	ownPodToPod      = question{"eni-pod-to-pod", "pod:shop/eni-0", "pod:shop/api-0", 8080, verdict.TCP}
	ownPodToNode     = question{"eni-pod-to-its-node", "pod:shop/eni-0", "node:node-2", 8443, verdict.TCP}
	inNode           = question{"in-the-node", "pod:shop/web-0", "pod:shop/api-0", 8080, verdict.TCP}
	podToInternet    = question{"pod-to-internet", "pod:shop/web-0", internet, 443, verdict.TCP}
	nodeToInternet   = question{"node-to-internet", "node:node-1", internet, 443, verdict.TCP}
	eipToInternet    = question{"eip-to-internet", "node:node-2", internet, 443, verdict.TCP}
	ownPodToInternet = question{"eni-pod-to-internet", "pod:shop/eni-0", internet, 443, verdict.TCP}
	internetToNode   = question{"internet-to-node", internet, nodeEIP, 30080, verdict.TCP}
	internetToPod    = question{"internet-to-eni-pod", internet, podEIP, 8080, verdict.TCP}
	internetToDNAT   = question{"internet-to-dnat", internet, dnatEIP, 80, verdict.TCP}
	internetToSvc    = question{"internet-to-service", internet, "svc:shop/api", 80, verdict.TCP}
	internetToSvcUDP = question{"internet-to-service-udp", internet, "svc:shop/api", 53, verdict.UDP}
	internetToNLB    = question{"internet-to-nlb", internet, network, 80, verdict.TCP}
	internetToALB    = question{"internet-to-alb", internet, application, 80, verdict.TCP}
	nodeToInnerLB    = question{"node-to-internal-lb", "node:node-1", classicInner, 80, verdict.TCP}
	podToInnerLB     = question{"eni-pod-to-internal-lb", "pod:shop/eni-0", classicInner, 80, verdict.TCP}
)

// expectation is what becomes of a question.
type expectation struct {
	question
	verdict verdict.Verdict
	reason  verdict.Code // the first one; empty for none
	phrase  string       // in its message
	also    verdict.Code // another one, further down
}

// healthy is what holds while the cloud is as it should be.
var healthy = []expectation{
	{question: nodeToNode, verdict: verdict.Reachable},
	{question: podToPod, verdict: verdict.Reachable},
	{question: podToOwnPod, verdict: verdict.Reachable},
	{question: ownPodToPod, verdict: verdict.Reachable},
	{question: ownPodToNode, verdict: verdict.Reachable},
	{question: inNode, verdict: verdict.Reachable},
	{podToInternet, verdict.Reachable, verdict.LeavesModel, "through the Internet as tcp " + snatEIP + ":", ""},
	{nodeToInternet, verdict.Reachable, verdict.LeavesModel, "through the Internet as tcp " + snatEIP + ":", ""},
	{eipToInternet, verdict.Reachable, verdict.LeavesModel, "through the Internet as tcp " + nodeEIP + ":", ""},
	{ownPodToInternet, verdict.Reachable, verdict.LeavesModel, "through the Internet as tcp " + podEIP + ":", ""},
	{question: internetToNode, verdict: verdict.Reachable},
	{question: internetToPod, verdict: verdict.Reachable},
	{question: internetToDNAT, verdict: verdict.Reachable},
	{question: internetToSvc, verdict: verdict.Reachable},
	{question: internetToSvcUDP, verdict: verdict.Reachable},
	{question: internetToNLB, verdict: verdict.Reachable},
	{internetToALB, verdict.Reachable, verdict.ProxyInterposed, "alb-1", ""},
	{question: podToInnerLB, verdict: verdict.Reachable},
	// The load balancer keeps the client's address, and may send the client what it sent.
	{nodeToInnerLB, verdict.Degraded, verdict.MartianSource, node1, ""},
}

// round is a state of the cloud with faults that have nothing to do with each other, and
// what becomes of them.
type round struct {
	name  string
	fault func(*alibaba.Facts)
	want  []expectation
}

func both(changes ...func(*alibaba.Facts)) func(*alibaba.Facts) {
	return func(f *alibaba.Facts) {
		for _, c := range changes {
			c(f)
		}
	}
}

var rounds = []round{
	{
		"security groups, EIPs without bandwidth, load balancers that do not work",
		both(
			func(f *alibaba.Facts) { withoutRule(f, "sgr-pods") },
			func(f *alibaba.Facts) { f.SNATEntries = f.SNATEntries[:1] }, // that of pods is gone
			func(f *alibaba.Facts) { eip(f, nodeEIP).Bandwidth = "0" },
			func(f *alibaba.Facts) { balancer(f, "lb-1", "inactive") },
			func(f *alibaba.Facts) {
				f.NLB.LoadBalancers[0].LoadBalancerStatus, f.NLB.Attributes[0].LoadBalancerStatus = "Inactive", "Inactive"
			},
			func(f *alibaba.Facts) {
				f.ALB.LoadBalancers[0].LoadBalancerStatus, f.ALB.Attributes[0].LoadBalancerStatus = "Inactive", "Inactive"
			},
		),
		[]expectation{
			{podToPod, verdict.Unreachable, verdict.SecurityGroupDeny, "security group sg-nodes not allow packet tcp 10.244.1.10:", ""},
			{podToInternet, verdict.Unreachable, verdict.CloudNoSNAT, "no snat entry on nat gateway ngw-1 for 10.244.1.10", ""},
			{question: nodeToNode, verdict: verdict.Reachable},
			{nodeToInternet, verdict.Reachable, verdict.LeavesModel, "", ""},
			{internetToNode, verdict.Unreachable, verdict.CloudNoPublicIP, "its bandwidth is 0", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBNotActive, `loadbalancer lb-1 status is inactive, not "active"`, ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBNotActive, `loadbalancer nlb-1 status is Inactive, not "active"`, ""},
			{internetToALB, verdict.Unreachable, verdict.ALBNotActive, `loadbalancer alb-1 status is Inactive, not "active"`, ""},
		},
	},
	{
		"a route to the wrong instance, an EIP that is overdue, listeners that are missing",
		both(
			func(f *alibaba.Facts) { route(f, "10.244.2.0/24").NextHops.NextHop[0].NextHopId = "i-1" },
			func(f *alibaba.Facts) { eip(f, snatEIP).BusinessStatus = "FinancialLocked" },
			func(f *alibaba.Facts) { without(&f.ForwardEntries, func(*alibaba.ForwardEntry) bool { return true }) },
			func(f *alibaba.Facts) {
				without(&f.Listeners, func(l *alibaba.Listener) bool { return l.LoadBalancerId == "lb-1" })
			},
			func(f *alibaba.Facts) { f.NLB.Listeners, f.ALB.Listeners = nil, nil },
		),
		[]expectation{
			{podToPod, verdict.Unreachable, verdict.CloudWrongNextHop, "error route next hop for destination ip 10.244.2.20, expect i-2, actual i-1", ""},
			{nodeToInternet, verdict.Unreachable, verdict.CloudNoPublicIP, "its business status is FinancialLocked", ""},
			{internetToDNAT, verdict.Unreachable, verdict.CloudNoPublicIP, "NAT gateway ngw-1 has no DNAT entry", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBNoListener, "cannot find listener port 80/tcp for slb lb-1", ""},
			{internetToSvcUDP, verdict.Unreachable, verdict.SLBNoListener, "cannot find listener port 53/udp for slb lb-1", ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBNoListener, "cannot find listener port 80/tcp for nlb nlb-1", ""},
			{internetToALB, verdict.Unreachable, verdict.ALBNoListener, "cannot find listener port 80/tcp for alb alb-1", ""},
		},
	},
	{
		"no route entry, no NAT gateway, listeners that are stopped",
		both(
			func(f *alibaba.Facts) { withoutRoute(f, "10.244.2.0/24"); withoutRoute(f, "0.0.0.0/0") },
			func(f *alibaba.Facts) { f.NATGateways, f.SNATEntries, f.ForwardEntries = nil, nil, nil },
			func(f *alibaba.Facts) { listener(f, "tcp").Status, listener(f, "udp").Status = "stopped", "stopped" },
			func(f *alibaba.Facts) {
				f.NLB.Listeners[0].ListenerStatus, f.ALB.Listeners[0].ListenerStatus = "Stopped", "Stopped"
			},
		),
		[]expectation{
			{podToPod, verdict.Unreachable, verdict.CloudNoRouteEntry, "no route entry for destination ip 10.244.2.20", ""},
			{nodeToInternet, verdict.Unreachable, verdict.CloudNoPublicIP, node1 + " of eni-1 has no public IP", ""},
			{eipToInternet, verdict.Reachable, verdict.LeavesModel, "", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBListenerNotRunning, `status of loadbalancer for lb-1 port 80/tcp not "running"`, ""},
			{internetToSvcUDP, verdict.Unreachable, verdict.SLBListenerNotRunning, `status of loadbalancer for lb-1 port 53/udp not "running"`, ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBListenerNotRunning, `status of loadbalancer for nlb-1 port 80/tcp not "running"`, ""},
			{internetToALB, verdict.Unreachable, verdict.ALBListenerNotRunning, `status of loadbalancer for alb-1 port 80/http not "running"`, ""},
		},
	},
	{
		"no next hop, an instance that is stopped, access control",
		both(
			func(f *alibaba.Facts) { route(f, "10.244.2.0/24").NextHops.NextHop = nil },
			func(f *alibaba.Facts) { f.Instances[0].Status = "Stopped" },
			func(f *alibaba.Facts) {
				l := listener(f, "tcp")
				l.AclStatus, l.AclType, l.AclId = "on", "white", "acl-1"
				a := alibaba.AccessList{AclId: "acl-1"}
				a.AclEntrys.AclEntry = append(a.AclEntrys.AclEntry, struct{ AclEntryIP string }{"198.51.100.0/24"})
				f.AccessLists = append(f.AccessLists, a)
			},
			func(f *alibaba.Facts) {
				group(f, "sg-lb", alibaba.Permission{SecurityGroupRuleId: "sgr-drop", Direction: "ingress", Policy: "Drop", Priority: 1, IpProtocol: "TCP", PortRange: "80/80", SourceCidrIp: "203.0.113.0/24"})
				for _, l := range []*alibaba.ZonedLoadBalancer{&f.NLB.LoadBalancers[0], &f.NLB.Attributes[0], &f.ALB.Attributes[0]} {
					l.SecurityGroupIds = []string{"sg-lb"}
				}
			},
		),
		[]expectation{
			{podToPod, verdict.Unreachable, verdict.CloudNoNextHop, "no next hop for destination ip 10.244.2.20", ""},
			{ownPodToPod, verdict.Unreachable, verdict.InstanceNotRunning, "instance i-1 is Stopped", ""},
			{internetToDNAT, verdict.Unreachable, verdict.InstanceNotRunning, "instance i-1 is Stopped", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBACLDeny, "acl acl-1 on loadbalancer does not allow " + internet, ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBACLDeny, "acl sg-lb on loadbalancer does not allow " + internet, ""},
			{internetToALB, verdict.Unreachable, verdict.ALBACLDeny, "acl sg-lb on loadbalancer does not allow " + internet, ""},
		},
	},
	{
		"the way back, a network ACL, weights of 0",
		both(
			func(f *alibaba.Facts) {
				table := alibaba.RouteTable{RouteTableId: "vtb-2", RouteTableType: "Custom", AssociateType: "VSwitch", Status: "Available", VpcId: "vpc-1"}
				table.VSwitchIds.VSwitchId = []string{"vsw-2"}
				f.RouteTables = append(f.RouteTables, table)
				e := *route(f, "172.30.0.0/26")
				e.RouteTableId, e.RouteEntryId = "vtb-2", "rte-2"
				f.RouteEntries = append(f.RouteEntries, e)
			},
			func(f *alibaba.Facts) { networkACL(f, "vsw-3") },
			func(f *alibaba.Facts) {
				for _, id := range []string{"lb-1-tcp", "lb-1-udp"} {
					s := serverGroup(f, id).BackendServers.BackendServer
					s[0].Weight, s[1].Weight = 0, 0
				}
			},
			func(f *alibaba.Facts) {
				for _, b := range []*alibaba.Balancers{&f.NLB, &f.ALB} {
					b.Servers[0].Weight, b.Servers[1].Weight = 0, 0
				}
			},
		),
		[]expectation{
			{podToPod, verdict.Unreachable, verdict.CloudSourceRouteMissing, "no route entry for source ip 10.244.1.10", ""},
			{podToOwnPod, verdict.Unreachable, verdict.CloudNetworkACLDeny, "network ACL nacl-1 of vSwitch vsw-3 does not allow tcp", ""},
			{internetToPod, verdict.Unreachable, verdict.CloudNetworkACLDeny, "network ACL nacl-1 of vSwitch vsw-3 does not allow tcp", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBNoBackend, "server group lb-1-tcp has no backend with a weight", ""},
			{internetToSvcUDP, verdict.Unreachable, verdict.SLBNoBackend, "server group lb-1-udp has no backend with a weight", ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBNoBackend, "server group sgp-nlb has no backend with a weight", ""},
			{internetToALB, verdict.Unreachable, verdict.ALBNoBackend, "server group sgp-alb has no backend with a weight", ""},
		},
	},
	{
		"groups with nothing in common, a default route that leads elsewhere, backends that are not well",
		both(
			func(f *alibaba.Facts) {
				group(f, "sg-other")
				f.Interfaces[1].SecurityGroupIds.SecurityGroupId = []string{"sg-other"}
			},
			func(f *alibaba.Facts) {
				route(f, "0.0.0.0/0").NextHops.NextHop[0] = alibaba.NextHop{NextHopType: "service"}
			},
			func(f *alibaba.Facts) {
				for i := range f.Health {
					for k := range f.Health[i].BackendServers.BackendServer {
						f.Health[i].BackendServers.BackendServer[k].ServerHealthStatus = "abnormal"
					}
				}
			},
			func(f *alibaba.Facts) {
				for _, b := range []*alibaba.Balancers{&f.NLB, &f.ALB} {
					g := &b.Health[0].ServerGroupInfos[0]
					for _, id := range []string{"i-1", "i-2"} {
						sick := append(g.NonNormalServers[:0:0], g.NonNormalServers...)
						sick = slices.Grow(sick, 1)[:len(sick)+1]
						s := &sick[len(sick)-1]
						s.ServerId, s.Port, s.Status = id, 30080, "Unhealthy"
						g.NonNormalServers = sick
					}
				}
			},
		),
		[]expectation{
			{nodeToNode, verdict.Unreachable, verdict.SecurityGroupDeny, "security group sg-other not allow packet tcp " + node1, verdict.SecurityGroupMismatch},
			{nodeToInternet, verdict.Unreachable, verdict.CloudUnexpectedNextHop, "expect next hop for destination ip " + internet + " to be NatGateway, but service", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBBackendUnhealthy, `backend i-1 health status for port 80/tcp, not "normal"`, ""},
			{internetToSvcUDP, verdict.Unreachable, verdict.SLBBackendUnhealthy, `backend i-1 health status for port 53/udp, not "normal"`, ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBBackendUnhealthy, `backend i-1 health status for port 80/tcp, not "normal"`, ""},
			{internetToALB, verdict.Unreachable, verdict.ALBBackendUnhealthy, `backend i-1 health status for port 80/http, not "normal"`, ""},
		},
	},
	{
		"backends that nobody is, one of several EIPs that is locked, a pod's group that lets nobody in",
		both(
			func(f *alibaba.Facts) {
				withoutRule(f, "sgr-vpc")
				withoutRule(f, "sgr-pods2")
				withoutRule(f, "sgr-http")
			},
			func(f *alibaba.Facts) {
				for i := range f.SNATEntries {
					f.SNATEntries[i].SnatIp = snatEIP + "," + dnatEIP
				}
				eip(f, dnatEIP).BusinessStatus = "SecurityLocked"
			},
			func(f *alibaba.Facts) {
				for _, id := range []string{"lb-1-tcp", "lb-1-udp"} {
					s := serverGroup(f, id).BackendServers.BackendServer
					s[0].ServerId, s[1].Weight = "i-gone", 0
				}
				for i := range f.Health {
					for k := range f.Health[i].BackendServers.BackendServer {
						s := &f.Health[i].BackendServers.BackendServer[k]
						s.ServerId = strings.Replace(s.ServerId, "i-1", "i-gone", 1)
					}
				}
			},
			func(f *alibaba.Facts) {
				for _, b := range []*alibaba.Balancers{&f.NLB, &f.ALB} {
					b.Servers[0].ServerId, b.Servers[1].Weight = "i-gone", 0
				}
			},
		),
		[]expectation{
			{podToInternet, verdict.Degraded, verdict.CloudNoPublicIP, "its business status is SecurityLocked", ""},
			{podToOwnPod, verdict.Unreachable, verdict.SecurityGroupDeny, "security group sg-pods not allow packet tcp 10.244.1.10:", ""},
			{internetToSvc, verdict.Unreachable, verdict.SLBBackendMismatch, "backend i-gone is unexpected", ""},
			{internetToNLB, verdict.Unreachable, verdict.NLBBackendMismatch, "backend i-gone is unexpected", ""},
			{internetToALB, verdict.Unreachable, verdict.ALBBackendMismatch, "backend i-gone is unexpected", ""},
		},
	},
}
