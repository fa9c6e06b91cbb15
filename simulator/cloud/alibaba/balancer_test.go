package alibaba

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	pageCLB       = "CLB API, DescribeLoadBalancers"
	pageListeners = "CLB API, DescribeLoadBalancerListeners"
	pageACL       = "CLB, Access control"
	pageServers   = "CLB API, DescribeVServerGroupAttribute"
	pageHealth    = "CLB API, DescribeHealthStatus"
	pageClientIP  = "CLB, Enable Layer 4 listeners to preserve client IP addresses"
	pageNLB       = "NLB API"
	pageALB       = "ALB API"
	pageALBACL    = "ALB, Access control"
	pageGuard     = "NLB, Add an NLB instance to a security group"
)

// loadBalancers has some in front of b (i-b) and d (an interface of its own):
// CLB lb-1 at 47.0.1.1 with listeners 80/tcp, 53/udp, 8080/http, and 443/tcp of the
// default group; NLB nlb-1 at 47.0.2.1; ALB alb-1 at 47.0.3.1.
func loadBalancers(t *testing.T) *Facts {
	t.Helper()
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system)
	servers := []BackendServer{
		{ServerId: "i-b", Type: "ecs", Port: 30080, Weight: 100},
		{ServerId: "eni-d", ServerIp: "10.0.1.4", Type: "eni", Port: 8080, Weight: 100},
	}
	f.LoadBalancers = []LoadBalancer{{LoadBalancerId: "lb-1", LoadBalancerStatus: "active", Address: "47.0.1.1", AddressType: "internet", VpcId: "vpc-1"}}
	a := LoadBalancerAttribute{LoadBalancer: f.LoadBalancers[0]}
	a.BackendServers.BackendServer = []BackendServer{{ServerId: "i-b", Type: "ecs", Weight: 100}}
	f.Attributes = []LoadBalancerAttribute{a}
	f.Listeners = []Listener{
		{LoadBalancerId: "lb-1", ListenerPort: 80, ListenerProtocol: "tcp", Status: "running", VServerGroupId: "rsp-1", TCPListenerConfig: ListenerConfig{HealthCheck: "on"}},
		{LoadBalancerId: "lb-1", ListenerPort: 53, ListenerProtocol: "udp", Status: "running", VServerGroupId: "rsp-1", UDPListenerConfig: ListenerConfig{HealthCheck: "on"}},
		{LoadBalancerId: "lb-1", ListenerPort: 8080, ListenerProtocol: "http", Status: "running", VServerGroupId: "rsp-1", HTTPListenerConfig: ListenerConfig{HealthCheck: "on"}},
		{LoadBalancerId: "lb-1", ListenerPort: 443, ListenerProtocol: "tcp", Status: "running", BackendServerPort: 8443, TCPListenerConfig: ListenerConfig{HealthCheck: "off"}},
	}
	g := VServerGroup{VServerGroupId: "rsp-1", LoadBalancerId: "lb-1"}
	g.BackendServers.BackendServer = servers
	f.ServerGroups = []VServerGroup{g}
	h := HealthStatus{LoadBalancerId: "lb-1"}
	for _, l := range f.Listeners[:3] {
		for _, s := range servers {
			h.BackendServers.BackendServer = append(h.BackendServers.BackendServer, struct {
				ServerId, ServerIp string
				Protocol           string
				ListenerPort, Port number
				ServerHealthStatus string
			}{s.ServerId, s.ServerIp, l.ListenerProtocol, l.ListenerPort, s.Port, "normal"})
		}
	}
	f.Health = []HealthStatus{h}

	for _, z := range []struct {
		to         *Balancers
		id, public string
	}{{&f.NLB, "nlb-1", "47.0.2.1"}, {&f.ALB, "alb-1", "47.0.3.1"}} {
		b := ZonedLoadBalancer{LoadBalancerId: z.id, LoadBalancerStatus: "Active", VpcId: "vpc-1"}
		address := ZonedAddress{PublicIPv4Address: z.public, PrivateIPv4Address: "10.0.0.200"}
		l := ZonedListener{LoadBalancerId: z.id, ListenerId: "lsn-" + z.id, ListenerPort: 80, ListenerProtocol: "TCP", ListenerStatus: "Running", ServerGroupId: "sgp-" + z.id}
		if z.id == "alb-1" {
			address = ZonedAddress{Address: z.public, IntranetAddress: "10.0.0.201"}
			l.ListenerProtocol, l.ServerGroupId = "HTTP", ""
			l.DefaultActions = make([]struct {
				Type               string
				ForwardGroupConfig struct {
					ServerGroupTuples []struct{ ServerGroupId string }
				}
			}, 1)
			l.DefaultActions[0].Type = "ForwardGroup"
			l.DefaultActions[0].ForwardGroupConfig.ServerGroupTuples = []struct{ ServerGroupId string }{{"sgp-alb-1"}}
		}
		b.ZoneMappings = append(b.ZoneMappings, struct {
			VSwitchId, ZoneId     string
			LoadBalancerAddresses []ZonedAddress
		}{"vsw-1", "z", []ZonedAddress{address}})
		g := ZonedServerGroup{ServerGroupId: "sgp-" + z.id, ServerGroupType: "Instance", PreserveClientIpEnabled: z.id == "nlb-1"}
		g.HealthCheck.HealthCheckEnabled = true
		health := ZonedHealthStatus{ListenerId: l.ListenerId, ListenerPort: 80}
		health.ServerGroupInfos = make([]struct {
			ServerGroupId    string
			NonNormalServers []struct {
				ServerId, ServerIp string
				Port               number
				Status             string
			}
		}, 1)
		health.ServerGroupInfos[0].ServerGroupId = g.ServerGroupId
		*z.to = Balancers{
			LoadBalancers: []ZonedLoadBalancer{b}, Listeners: []ZonedListener{l}, ServerGroups: []ZonedServerGroup{g}, Health: []ZonedHealthStatus{health},
			Servers: []ZonedServer{{ServerGroupId: g.ServerGroupId, ServerId: "i-b", ServerType: "Ecs", Port: 30080, Weight: 100}},
		}
	}
	f.ALB.ListenerAttributes = []ZonedListenerAttribute{{ListenerId: "lsn-alb-1"}}
	return f
}

// guard puts a load balancer of NLB or ALB into a security group with these rules.
func guard(t *testing.T, f *Facts, b *ZonedLoadBalancer, rules ...string) {
	b.SecurityGroupIds = []string{"sg-n"}
	f.Groups = append(f.Groups, SecurityGroup{SecurityGroupId: "sg-n", SecurityGroupType: "normal"})
	g := SecurityGroupAttribute{SecurityGroupId: "sg-n", InnerAccessPolicy: "Accept"}
	for _, r := range rules {
		g.Permissions.Permission = append(g.Permissions.Permission, permissionOf(t, r))
	}
	f.GroupRules = append(f.GroupRules, g)
}

// albAccess gives the listener of ALB access control.
func albAccess(f *Facts, typ string, entries ...string) {
	a := &f.ALB.ListenerAttributes[0].AclConfig
	a.AclType = typ
	a.AclRelations = make([]struct{ AclId, Status string }, 1)
	a.AclRelations[0].AclId = "acl-alb"
	l := ZonedAccessList{AclId: "acl-alb"}
	for _, e := range entries {
		l.AclEntries = append(l.AclEntries, struct{ Entry, Status string }{e, "Available"})
	}
	f.ALB.AccessLists = append(f.ALB.AccessLists, l)
}

func sick(f *Facts, server string, port number, status string) {
	list := f.Health[0].BackendServers.BackendServer
	for i := range list {
		if list[i].ServerId == server && (port == 0 || list[i].ListenerPort == port) {
			list[i].ServerHealthStatus = status
		}
	}
}

func accessList(f *Facts, typ string, entries ...string) {
	f.Listeners[0].AclStatus, f.Listeners[0].AclType, f.Listeners[0].AclIds = "on", typ, []string{"acl-1"}
	a := AccessList{AclId: "acl-1"}
	for _, e := range entries {
		a.AclEntrys.AclEntry = append(a.AclEntrys.AclEntry, struct{ AclEntryIP string }{e})
	}
	f.AccessLists = append(f.AccessLists, a)
}

// TestLoadBalancers is a decision table: what becomes of a client's packet to a load
// balancer. "|" stands between the backends that it may go to.
func TestLoadBalancers(t *testing.T) {
	const (
		clb    = "tcp 203.0.113.9 47.0.1.1:80"
		both   = "to eni-b 203.0.113.9:45678 -> 10.0.1.2:30080|to eni-d 203.0.113.9:45678 -> 10.0.1.4:8080"
		onlyB  = "to eni-b 203.0.113.9:45678 -> 10.0.1.2:30080"
		onlyD  = "to eni-d 203.0.113.9:45678 -> 10.0.1.4:8080"
		nlb    = "tcp 203.0.113.9 47.0.2.1:80"
		alb    = "tcp 203.0.113.9 47.0.3.1:80"
		viaALB = "to eni-b 10.0.0.201:45678 -> 10.0.1.2:30080"
	)
	rows := []struct {
		doc    string
		change func(f *Facts)
		packet string
		want   string
		note   verdict.Code
	}{
		{pageServers, nil, clb, both, ""},
		// The load balancer itself.
		{pageCLB, func(f *Facts) { f.LoadBalancers[0].LoadBalancerStatus, f.Attributes = "inactive", nil }, clb, `SLBNotActive: loadbalancer lb-1 status is inactive, not "active"`, ""},
		{pageCLB, func(f *Facts) { f.LoadBalancers[0].LoadBalancerStatus, f.Attributes = "locked", nil }, clb, `SLBNotActive: loadbalancer lb-1 status is locked`, ""},
		{pageCLB, nil, "icmp 203.0.113.9 47.0.1.1", "unknown UnmodelledRule: load balancer lb-1 answers echo requests", ""},
		// Listeners.
		{pageListeners, nil, "tcp 203.0.113.9 47.0.1.1:81", "SLBNoListener: cannot find listener port 81/tcp for slb lb-1", ""},
		{pageListeners, nil, "udp 203.0.113.9 47.0.1.1:80", "SLBNoListener: cannot find listener port 80/udp for slb lb-1", ""},
		{pageListeners, nil, "tcp 203.0.113.9 47.0.1.1:53", "SLBNoListener: cannot find listener port 53/tcp for slb lb-1", ""},
		{pageListeners, func(f *Facts) { f.Listeners[0].Status = "stopped" }, clb, `SLBListenerNotRunning: status of loadbalancer for lb-1 port 80/tcp not "running"`, ""},
		{pageListeners, func(f *Facts) { f.Listeners[0].Status = "starting" }, clb, "SLBListenerNotRunning", ""},
		{pageListeners, func(f *Facts) { f.Listeners[1].Status = "stopped" }, clb, both, ""},
		{pageListeners, func(f *Facts) { f.Listeners[1].Status = "stopped" }, "udp 203.0.113.9 47.0.1.1:53", `SLBListenerNotRunning: status of loadbalancer for lb-1 port 53/udp`, ""},
		{pageListeners, nil, "udp 203.0.113.9 47.0.1.1:53", both, ""},
		{pageListeners, func(f *Facts) {
			f.Listeners[0].ListenerPort = 0
			f.Listeners[0].TCPListenerConfig = ListenerConfig{HealthCheck: "off", PortRanges: []struct{ StartPort, EndPort number }{{1000, 2000}}}
		}, "tcp 203.0.113.9 47.0.1.1:1500", both, ""},
		{pageListeners, func(f *Facts) {
			f.Listeners[0].ListenerPort = 0
			f.Listeners[0].TCPListenerConfig = ListenerConfig{HealthCheck: "off", PortRanges: []struct{ StartPort, EndPort number }{{1000, 2000}}}
		}, "tcp 203.0.113.9 47.0.1.1:2001", "SLBNoListener", ""},
		{pageListeners, func(f *Facts) {
			f.Listeners[2].HTTPListenerConfig.ListenerForward, f.Listeners[2].HTTPListenerConfig.ForwardPort = "on", 443
		}, "tcp 203.0.113.9 47.0.1.1:8080", "unknown UnmodelledRule: listener 8080/http of lb-1 uses ListenerForward to port 443", ""},
		{pageListeners, func(f *Facts) { f.Listeners[0].TCPListenerConfig.MasterSlaveServerGroupId = "rsp-9" }, clb, "unknown UnmodelledRule", ""},
		{pageListeners, func(f *Facts) { f.Listeners = nil; delete(f.Read, describeListeners) }, clb, "unknown SnapshotMissing: slb.DescribeLoadBalancerListeners was not read", ""},
		// Access control.
		{pageACL, func(f *Facts) { accessList(f, "white", "203.0.113.0/24") }, clb, both, ""},
		{pageACL, func(f *Facts) { accessList(f, "white", "198.51.100.0/24") }, clb, "SLBACLDeny: acl acl-1 on loadbalancer does not allow 203.0.113.9", ""},
		{pageACL, func(f *Facts) { accessList(f, "black", "203.0.113.9") }, clb, "SLBACLDeny: acl acl-1 on loadbalancer does not allow 203.0.113.9", ""},
		{pageACL, func(f *Facts) { accessList(f, "black", "198.51.100.0/24") }, clb, both, ""},
		{pageACL, func(f *Facts) { accessList(f, "white") }, clb, both, ""}, // without entries it does nothing
		{pageACL, func(f *Facts) { accessList(f, "black") }, clb, both, ""},
		{pageACL, func(f *Facts) { accessList(f, "white", "198.51.100.0/24"); f.Listeners[0].AclStatus = "off" }, clb, both, ""},
		{pageACL, func(f *Facts) {
			accessList(f, "white", "198.51.100.0/24")
			f.Listeners[0].AclIds = append(f.Listeners[0].AclIds, "acl-2")
			a := AccessList{AclId: "acl-2"}
			a.AclEntrys.AclEntry = []struct{ AclEntryIP string }{{"203.0.113.0/24"}}
			f.AccessLists = append(f.AccessLists, a)
		}, clb, both, ""}, // one list of several is enough
		{pageACL, func(f *Facts) { accessList(f, "white", "198.51.100.0/24") }, "udp 203.0.113.9 47.0.1.1:53", both, ""}, // another listener
		{pageACL, func(f *Facts) { accessList(f, "white", "x"); f.AccessLists = nil }, clb, "doubt access control list acl-1 is not among", ""},
		{pageACL, func(f *Facts) { accessList(f, "gray", "203.0.113.9") }, clb, "doubt access control of listener 80/tcp is of type gray", ""},
		// Server groups and weights.
		{pageServers, func(f *Facts) { f.ServerGroups[0].BackendServers.BackendServer = nil }, clb, "SLBNoBackend: server group rsp-1 has no backend", ""},
		{pageServers, func(f *Facts) { f.ServerGroups[0].BackendServers.BackendServer[0].Weight = 0 }, clb, onlyD, ""},
		{pageServers, func(f *Facts) {
			f.ServerGroups[0].BackendServers.BackendServer[0].Weight, f.ServerGroups[0].BackendServers.BackendServer[1].Weight = 0, 0
		}, clb, "SLBNoBackend: server group rsp-1 has no backend with a weight: all of them have 0", ""},
		{pageServers, func(f *Facts) { f.ServerGroups = nil }, clb, "unknown SnapshotMissing: server group rsp-1 is not among", ""},
		{pageServers, func(f *Facts) { f.ServerGroups = nil; f.Failed[describeServerGroup] = "Throttling" }, clb, "unknown CloudAPIFailed: slb.DescribeVServerGroupAttribute failed (Throttling)", ""},
		{pageServers, func(f *Facts) {
			f.ServerGroups[0].BackendServers.BackendServer[0].ServerId = "i-gone"
			f.Listeners[0].TCPListenerConfig.HealthCheck = "off"
		}, clb, "SLBBackendMismatch: backend i-gone is unexpected|" + onlyD, ""},
		{"CLB API, DescribeLoadBalancerAttribute", nil, "tcp 203.0.113.9 47.0.1.1:443", "to eni-b 203.0.113.9:45678 -> 10.0.1.2:8443", ""},
		{"CLB API, DescribeLoadBalancerAttribute", func(f *Facts) { f.Attributes = nil; delete(f.Read, describeBalancer) }, "tcp 203.0.113.9 47.0.1.1:443", "unknown SnapshotMissing: slb.DescribeLoadBalancerAttribute was not read", ""},
		// Health: of each backend, for each listener.
		{pageHealth, func(f *Facts) { sick(f, "i-b", 80, "abnormal") }, clb, onlyD, verdict.SLBBackendUnhealthy},
		{pageHealth, func(f *Facts) { sick(f, "i-b", 53, "abnormal") }, clb, both, ""},
		{pageHealth, func(f *Facts) { sick(f, "i-b", 53, "abnormal") }, "udp 203.0.113.9 47.0.1.1:53", onlyD, verdict.SLBBackendUnhealthy},
		{pageHealth, func(f *Facts) { sick(f, "eni-d", 80, "unavailable") }, clb, onlyB, verdict.SLBBackendUnhealthy},
		{pageHealth, func(f *Facts) { sick(f, "i-b", 0, "abnormal"); sick(f, "eni-d", 0, "abnormal") }, clb, `SLBBackendUnhealthy: backend i-b health status for port 80/tcp, not "normal": it is abnormal, and so are all others: 1`, ""},
		{pageHealth, func(f *Facts) { sick(f, "i-b", 0, "abnormal"); f.Listeners[0].TCPListenerConfig.HealthCheck = "off" }, clb, both, ""},
		{pageHealth, func(f *Facts) { f.Health = nil }, clb, "doubt the health of the backends of lb-1|doubt the health of the backends of lb-1", ""},
		{pageHealth, func(f *Facts) {
			sick(f, "i-b", 80, "abnormal")
			f.ServerGroups[0].BackendServers.BackendServer[0].Weight = 0
		}, clb, onlyD, ""},
		// Whom the backend sees.
		{pageClientIP, func(f *Facts) { f.Listeners[0].TCPListenerConfig.FullNatEnabled = true }, clb, "to eni-b 100.64.0.1:45678 -> 10.0.1.2:30080|to eni-d 100.64.0.1:45678 -> 10.0.1.4:8080", ""},
		{pageClientIP, nil, "tcp 203.0.113.9 47.0.1.1:8080", "to eni-b 100.64.0.1:45678 -> 10.0.1.2:30080|to eni-d 100.64.0.1:45678 -> 10.0.1.4:8080", verdict.ProxyInterposed},
		{"not documented", func(f *Facts) { f.GroupRules[0].Permissions.Permission = nil }, clb, "doubt security group sg-a not allow packet|doubt security group sg-a not allow packet", ""},
		{"CLB, Health checks", func(f *Facts) { f.GroupRules[0].Permissions.Permission = nil }, "tcp 203.0.113.9 47.0.1.1:8080", "to eni-b 100.64.0.1:45678 -> 10.0.1.2:30080|to eni-d 100.64.0.1:45678 -> 10.0.1.4:8080", verdict.ProxyInterposed},
		{"ECS API, DescribeInstances", func(f *Facts) { f.Instances[1].Status = "Stopped" }, clb, "InstanceNotRunning: instance i-b is Stopped|InstanceNotRunning", ""},
		// NLB.
		{pageNLB, nil, nlb, onlyB, ""},
		{pageNLB, func(f *Facts) { f.NLB.ServerGroups[0].PreserveClientIpEnabled = false }, nlb, "to eni-b 10.0.0.200:45678 -> 10.0.1.2:30080", ""},
		{pageNLB, func(f *Facts) { f.NLB.LoadBalancers[0].LoadBalancerStatus = "Inactive" }, nlb, `NLBNotActive: loadbalancer nlb-1 status is Inactive, not "active"`, ""},
		{pageNLB, nil, "tcp 203.0.113.9 47.0.2.1:81", "NLBNoListener: cannot find listener port 81/tcp for nlb nlb-1", ""},
		{pageNLB, func(f *Facts) { f.NLB.Listeners[0].ListenerStatus = "Stopped" }, nlb, `NLBListenerNotRunning: status of loadbalancer for nlb-1 port 80/tcp not "running"`, ""},
		{pageNLB, func(f *Facts) { f.NLB.Servers = nil }, nlb, "NLBNoBackend: server group sgp-nlb-1 has no backend", ""},
		{pageNLB, func(f *Facts) {
			l, g := &f.NLB.Listeners[0], &f.NLB.ServerGroups[0]
			l.ListenerPort, l.StartPort, l.EndPort, g.AnyPortEnabled = 0, 1000, 2000, true
		}, "tcp 203.0.113.9 47.0.2.1:1500", "to eni-b 203.0.113.9:45678 -> 10.0.1.2:1500", ""},
		{pageNLB, func(f *Facts) {
			f.NLB.Health[0].ServerGroupInfos[0].NonNormalServers = []struct {
				ServerId, ServerIp string
				Port               number
				Status             string
			}{{"i-b", "", 30080, "Unhealthy"}}
		}, nlb, `NLBBackendUnhealthy: backend i-b health status for port 80/tcp, not "normal": it is Unhealthy`, ""},
		{pageNLB, func(f *Facts) { f.NLB.Health = nil; delete(f.Read, "nlb.GetListenerHealthStatus") }, nlb, "doubt nlb.GetListenerHealthStatus was not read", ""},
		{pageNLB, func(f *Facts) { f.NLB.LoadBalancers[0].SecurityGroupIds = []string{"sg-n"} }, nlb, "doubt security group sg-n is not among", ""},
		// Groups of NLB and ALB drop what they are told to, and nothing else.
		{pageGuard, func(f *Facts) { guard(t, f, &f.NLB.LoadBalancers[0]) }, nlb, onlyB, ""},
		{pageGuard, func(f *Facts) { guard(t, f, &f.NLB.LoadBalancers[0], "ingress Accept 1 TCP 443/443 0.0.0.0/0") }, nlb, onlyB, ""},
		{pageGuard, func(f *Facts) { guard(t, f, &f.NLB.LoadBalancers[0], "ingress Drop 1 TCP 80/80 203.0.113.0/24") }, nlb, "NLBACLDeny: acl sg-n on loadbalancer does not allow 203.0.113.9 (security group of nlb-1: ingress Drop priority 1 TCP 80/80 from 203.0.113.0/24)", ""},
		{pageGuard, func(f *Facts) { guard(t, f, &f.NLB.LoadBalancers[0], "ingress Drop 1 TCP 81/81 203.0.113.0/24") }, nlb, onlyB, ""},
		{pageGuard, func(f *Facts) {
			guard(t, f, &f.NLB.LoadBalancers[0], "ingress Drop 100 ALL -1/-1 0.0.0.0/0", "ingress Accept 1 TCP 80/80 203.0.113.9")
		}, nlb, onlyB, ""}, // a white list
		{pageGuard, func(f *Facts) { guard(t, f, &f.NLB.LoadBalancers[0], "egress Drop 1 ALL -1/-1 0.0.0.0/0") }, nlb, onlyB, ""},
		{pageGuard, func(f *Facts) { guard(t, f, &f.ALB.LoadBalancers[0], "ingress Drop 1 ALL -1/-1 0.0.0.0/0") }, alb, "ALBACLDeny: acl sg-n on loadbalancer does not allow 203.0.113.9", ""},
		{pageNLB, func(f *Facts) { f.GroupRules[0].Permissions.Permission = nil }, nlb, "SecurityGroupDeny: security group sg-a not allow packet tcp 203.0.113.9", ""},
		// ALB.
		{pageALB, nil, alb, viaALB, verdict.ProxyInterposed},
		{pageALBACL, func(f *Facts) { albAccess(f, "White", "203.0.113.0/24") }, alb, viaALB, verdict.ProxyInterposed},
		{pageALBACL, func(f *Facts) { albAccess(f, "White", "198.51.100.0/24") }, alb, "ALBACLDeny: acl acl-alb on loadbalancer does not allow 203.0.113.9 (White list of 80/http)", ""},
		{pageALBACL, func(f *Facts) { albAccess(f, "Black", "203.0.113.9/32") }, alb, "ALBACLDeny: acl acl-alb on loadbalancer does not allow 203.0.113.9", ""},
		{pageALBACL, func(f *Facts) { albAccess(f, "White") }, alb, viaALB, verdict.ProxyInterposed},
		{pageALBACL, func(f *Facts) { albAccess(f, "White", "198.51.100.0/24"); albAccess(f, "White", "203.0.113.9") }, alb, viaALB, verdict.ProxyInterposed}, // two pages
		{pageALBACL, func(f *Facts) {
			albAccess(f, "White")
			f.ALB.AccessLists = nil
			f.Failed["alb.ListAclEntries"] = "Forbidden"
		}, alb, "doubt alb.ListAclEntries failed (Forbidden)", ""},
		{pageALBACL, func(f *Facts) { f.ALB.ListenerAttributes = nil; delete(f.Read, "alb.GetListenerAttribute") }, alb, "doubt alb.GetListenerAttribute was not read", ""},
		{pageALB, func(f *Facts) {
			f.ALB.Listeners[0].DefaultActions[0].ForwardGroupConfig.ServerGroupTuples = nil
			f.ALB.Listeners[0].DefaultActions[0].Type = "Redirect"
		}, alb, "unknown UnmodelledRule: listener 80/http of alb-1 uses the default action Redirect", ""},
		{pageALB, func(f *Facts) { f.ALB.Listeners[0].ListenerStatus = "Stopped" }, alb, "ALBListenerNotRunning", ""},
		{pageALB, func(f *Facts) { f.ALB.Servers[0].Weight = 0 }, alb, "ALBNoBackend: server group sgp-alb-1 has no backend with a weight", ""},
	}
	if len(rows) < 40 {
		t.Errorf("%d rows", len(rows))
	}
	for n, row := range rows {
		t.Run(fmt.Sprintf("%d %s", n+1, row.packet), func(t *testing.T) {
			f := loadBalancers(t)
			if row.change != nil {
				row.change(f)
			}
			for take, want := range strings.Split(row.want, "|") {
				j := &journey{c: Compile(f), take: take}
				got := j.carry(t, "internet", row.packet, false)
				ways := 1
				if len(got.choices) > 0 {
					ways = len(got.choices[0])
				}
				text := got.text()
				if doubt, doubtful := strings.CutPrefix(want, "doubt "); doubtful {
					if len(got.doubts) == 0 || !strings.HasPrefix(got.doubts[0], doubt) {
						t.Errorf("%s: %s, in doubt %q, want %s", row.doc, text, got.doubts, want)
					}
					continue
				}
				if !strings.HasPrefix(text, want) || ways != strings.Count(row.want, "|")+1 || len(got.doubts) > 0 {
					t.Errorf("%s: %s, one of %d, in doubt %q, want %s", row.doc, text, ways, got.doubts, want)
				}
				if row.note != "" && !got.noted(row.note) || row.note == "" && len(got.notes) > 0 {
					t.Errorf("%s: notes %v, want %s", row.doc, got.notes, row.note)
				}
			}
		})
	}
}

func TestThereMayBeManyBackends(t *testing.T) {
	const many = 40
	f := loadBalancers(t)
	f.ServerGroups[0].BackendServers.BackendServer = nil
	f.Listeners[0].TCPListenerConfig.HealthCheck = "off"
	for n := range many {
		id := fmt.Sprintf("m%d", n)
		f.Interfaces = append(f.Interfaces, eni(id, "sg-a", fmt.Sprintf("10.0.0.%d", 100+n)))
		f.ServerGroups[0].BackendServers.BackendServer = append(f.ServerGroups[0].BackendServers.BackendServer, BackendServer{ServerId: "i-" + id, Port: 80, Weight: 50})
	}
	c := Compile(f)
	for take := range many {
		got := (&journey{c: c, take: take}).carry(t, "internet", "tcp 203.0.113.9 47.0.1.1:80", false)
		if want := fmt.Sprintf("to m%d ", take); !strings.HasPrefix(got.text(), want) || len(got.choices[0]) != many || got.choices[0][take] != 1.0/many {
			t.Errorf("%s, want %s", got.text(), want)
		}
	}
}

func TestAConnectionKeepsItsBackendAndComesBackByTheLoadBalancer(t *testing.T) {
	j := &journey{c: Compile(loadBalancers(t)), take: 1}
	const request = "tcp 203.0.113.9 47.0.1.1:80"
	j.carry(t, "internet", request, false)
	j.take = 0
	if got := j.carry(t, "internet", request, false); !strings.HasPrefix(got.text(), "to eni-d ") || len(got.choices) > 0 {
		t.Errorf("the next packet: %s", got.text())
	}
	if got := j.carry(t, "eni-d", "tcp 10.0.1.4:8080 203.0.113.9:45678", true); got.text() != "left by the Internet 47.0.1.1:80 -> 203.0.113.9:45678" {
		t.Errorf("the answer: %s", got.text())
	}
}

// A load balancer that sends from an address of its own takes the answers there, where
// it takes new connections, too.
func TestAnswersComeBackToTheAddressOfALoadBalancer(t *testing.T) {
	j := &journey{c: Compile(loadBalancers(t))}
	if got := j.carry(t, "internet", "tcp 203.0.113.9 47.0.3.1:80", false); got.text() != "to eni-b 10.0.0.201:45678 -> 10.0.1.2:30080" {
		t.Errorf("%s", got.text())
	}
	if got := j.carry(t, "eni-b", "tcp 10.0.1.2:30080 10.0.0.201:45678", true); got.text() != "left by the Internet 47.0.3.1:80 -> 203.0.113.9:45678" {
		t.Errorf("the answer: %s", got.text())
	}
}
