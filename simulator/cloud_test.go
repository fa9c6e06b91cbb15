package simulator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// cloudFiles are the responses of a cloud in which the nodes of the sample are
// instances: what a change leaves of them. The nodes are 172.30.0.11 and .12, in
// vSwitches vsw-1 and vsw-2 of one table.
func cloudFiles() map[string]string {
	rule := func(direction string) string {
		peer := `"SourceCidrIp"`
		if direction == "egress" {
			peer = `"DestCidrIp"`
		}
		return `{"SecurityGroupRuleId": "sgr-` + direction + `", "Direction": "` + direction + `", "Policy": "Accept", "Priority": 1, "IpProtocol": "ALL", "PortRange": "-1/-1", ` + peer + `: "0.0.0.0/0"}`
	}
	group := func(id string) string {
		return `{"SecurityGroupId": "` + id + `", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [` + rule("ingress") + `, ` + rule("egress") + `]}}`
	}
	eni := func(n string) string {
		return `{"NetworkInterfaceId": "eni-` + n + `", "Type": "Primary", "Status": "InUse", "InstanceId": "i-` + n + `", "VpcId": "vpc-1", "VSwitchId": "vsw-` + n + `",
 "PrivateIpAddress": "172.30.0.1` + n + `", "SecurityGroupIds": {"SecurityGroupId": ["sg-` + n + `"]}}`
	}
	entry := func(dst, typ, hop, id string) string {
		return `{"RouteEntryId": "rte-` + dst + `", "RouteTableId": "vtb-1", "DestinationCidrBlock": "` + dst + `", "Type": "` + typ + `", "Status": "Available",
 "NextHops": {"NextHop": [{"NextHopType": "` + hop + `", "NextHopId": "` + id + `"}]}}`
	}
	return map[string]string{
		"DescribeInstances":              `{"Instances": {"Instance": [{"InstanceId": "i-1", "Status": "Running"}, {"InstanceId": "i-2", "Status": "Running"}]}}`,
		"DescribeNetworkInterfaces":      `{"NetworkInterfaceSets": {"NetworkInterfaceSet": [` + eni("1") + `, ` + eni("2") + `]}}`,
		"DescribeSecurityGroups":         `{"SecurityGroups": {"SecurityGroup": [{"SecurityGroupId": "sg-1", "SecurityGroupType": "normal"}, {"SecurityGroupId": "sg-2", "SecurityGroupType": "normal"}]}}`,
		"DescribeSecurityGroupAttribute": group("sg-1") + group("sg-2"),
		"DescribeVpcs":                   `{"Vpcs": {"Vpc": [{"VpcId": "vpc-1", "CidrBlock": "172.30.0.0/16"}]}}`,
		"DescribeVSwitches":              `{"VSwitches": {"VSwitch": [{"VSwitchId": "vsw-1", "VpcId": "vpc-1", "CidrBlock": "172.30.0.0/24"}, {"VSwitchId": "vsw-2", "VpcId": "vpc-1", "CidrBlock": "172.30.0.0/24"}]}}`,
		"DescribeRouteTableList":         `{"RouterTableList": {"RouterTableListType": [{"RouteTableId": "vtb-1", "RouteTableType": "System", "AssociateType": "VSwitch", "VpcId": "vpc-1"}]}}`,
		"DescribeRouteEntryList": `{"RouteEntrys": {"RouteEntry": [` + strings.Join([]string{
			entry("172.30.0.0/24", "System", "local", ""), entry("10.244.1.0/24", "Custom", "Instance", "i-1"),
			entry("10.244.2.0/24", "Custom", "Instance", "i-2"), entry("0.0.0.0/0", "Custom", "NatGateway", "ngw-1"),
		}, ", ") + `]}}`,
		"DescribeNatGateways":           `{"NatGateways": {"NatGateway": [{"NatGatewayId": "ngw-1", "Status": "Available", "BusinessStatus": "Normal", "VpcId": "vpc-1"}]}}`,
		"DescribeSnatTableEntries":      `{"SnatTableEntries": {"SnatTableEntry": [{"SnatEntryId": "snat-1", "NatGatewayId": "ngw-1", "SourceCIDR": "172.30.0.0/24", "SnatIp": "47.1.1.1", "Status": "Available"}]}}`,
		"DescribeForwardTableEntries":   `{}`,
		"DescribeEipAddresses":          `{"EipAddresses": {"EipAddress": [{"AllocationId": "eip-1", "IpAddress": "47.1.1.1", "Status": "InUse", "BusinessStatus": "Normal", "InstanceId": "ngw-1", "InstanceType": "Nat"}]}}`,
		"DescribeLoadBalancers":         `{"LoadBalancers": {"LoadBalancer": [{"LoadBalancerId": "lb-1", "LoadBalancerStatus": "active", "Address": "47.2.2.2", "AddressType": "internet", "VpcId": "vpc-1"}]}}`,
		"DescribeLoadBalancerListeners": `{"Listeners": [{"LoadBalancerId": "lb-1", "ListenerPort": 443, "ListenerProtocol": "tcp", "Status": "running", "VServerGroupId": "rsp-1", "TCPListenerConfig": {"HealthCheck": "on"}}]}`,
		"DescribeVServerGroupAttribute": `{"VServerGroupId": "rsp-1", "BackendServers": {"BackendServer": [{"ServerId": "i-1", "Type": "ecs", "Port": 8443, "Weight": 100}, {"ServerId": "i-2", "Type": "ecs", "Port": 8443, "Weight": 100}]}}`,
		"DescribeHealthStatus":          `{"LoadBalancerId": "lb-1", "BackendServers": {"BackendServer": [{"ServerId": "i-1", "ListenerPort": 443, "Port": 8443, "Protocol": "tcp", "ServerHealthStatus": "normal"}, {"ServerId": "i-2", "ListenerPort": 443, "Port": 8443, "Protocol": "tcp", "ServerHealthStatus": "normal"}]}}`,
	}
}

// inCloud is the sample on a cloud: nothing but that joins its nodes, on both of
// which something listens on port 8443.
func inCloud(t testing.TB, change func(files map[string]string), also ...func(*simulator.Snapshot)) *simulator.World {
	t.Helper()
	return world(t, func(s *simulator.Snapshot) {
		without(s, "fabric")
		for _, name := range []string{"node-1", "node-2"} {
			ns := namespace(t, s, name)
			ns.Sockets = append(slices.Clone(ns.Sockets), netstack.Socket{
				Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: netip.MustParseAddrPort("0.0.0.0:8443"), SendQ: 128,
			})
		}
		files := cloudFiles()
		if change != nil {
			change(files)
		}
		s.Cloud = new(alibaba.Facts)
		for name, data := range files {
			if err := alibaba.Decode(name+".json", []byte(data), s.Cloud); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range also {
			f(s)
		}
	})
}

// BenchmarkDiagnoseInCloud has the nodes of the sample among 5,000 instances, in 200
// security groups of 100 rules, and 50 load balancers of 100 backends.
func BenchmarkDiagnoseInCloud(b *testing.B) {
	w := inCloud(b, nil, crowd)
	for name, q := range map[string]verdict.Query{
		"pod across nodes":          tcp(web, "pod:shop/db-0", 5432),
		"a load balancer, 2 nodes":  tcp("203.0.113.9", "47.2.2.2", 443),
		"a node to the Internet":    tcp("node:node-1", "8.8.8.8", 443),
		"a load balancer, 100 away": tcp("203.0.113.9", "47.3.0.7", 80),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer cputime.Measure(b)()
			for b.Loop() {
				if r := diagnose(b, w, q); r.Verdict == verdict.Unknown {
					b.Fatal(r.Reasons)
				}
			}
		})
	}
}

// crowd adds others to a cloud. The nodes of the sample are in a group of theirs, whose
// last rule lets them in.
func crowd(s *simulator.Snapshot) {
	f := s.Cloud
	for n := range 200 {
		id := fmt.Sprintf("sg-n%d", n)
		f.Groups = append(f.Groups, alibaba.SecurityGroup{SecurityGroupId: id, SecurityGroupType: "normal"})
		g := alibaba.SecurityGroupAttribute{SecurityGroupId: id}
		for k := range 100 {
			p := alibaba.Permission{Direction: "ingress", Policy: "Drop", Priority: 1, IpProtocol: "TCP", PortRange: fmt.Sprintf("%d/%d", 1000+k, 1000+k), SourceCidrIp: "0.0.0.0/0"}
			if k == 99 {
				p.Policy, p.Priority, p.IpProtocol, p.PortRange = "Accept", 100, "ALL", "-1/-1"
			}
			g.Permissions.Permission = append(g.Permissions.Permission, p)
		}
		f.GroupRules = append(f.GroupRules, g)
	}
	for i := range f.Interfaces {
		f.Interfaces[i].SecurityGroupIds.SecurityGroupId = []string{"sg-n0"}
	}
	for n := range 5000 {
		i := alibaba.NetworkInterface{
			NetworkInterfaceId: fmt.Sprintf("eni-n%d", n), Type: "Primary", InstanceId: fmt.Sprintf("i-n%d", n), VpcId: "vpc-1", VSwitchId: "vsw-1",
			PrivateIpAddress: fmt.Sprintf("172.30.%d.%d", 10+n/250, 1+n%250),
		}
		i.SecurityGroupIds.SecurityGroupId = []string{fmt.Sprintf("sg-n%d", n%200)}
		f.Interfaces, f.Instances = append(f.Interfaces, i), append(f.Instances, alibaba.Instance{InstanceId: i.InstanceId, Status: "Running"})
	}
	for n := range 50 {
		lb := alibaba.LoadBalancer{LoadBalancerId: fmt.Sprintf("lb-n%d", n), LoadBalancerStatus: "active", Address: fmt.Sprintf("47.3.0.%d", n), VpcId: "vpc-1"}
		l := alibaba.Listener{LoadBalancerId: lb.LoadBalancerId, ListenerPort: 80, ListenerProtocol: "tcp", Status: "running", VServerGroupId: fmt.Sprintf("rsp-n%d", n)}
		l.TCPListenerConfig.HealthCheck = "off"
		g := alibaba.VServerGroup{VServerGroupId: l.VServerGroupId}
		for k := range 100 {
			g.BackendServers.BackendServer = append(g.BackendServers.BackendServer, alibaba.BackendServer{ServerId: fmt.Sprintf("i-n%d", 100*n+k), Port: 8443, Weight: 100})
		}
		f.LoadBalancers, f.Listeners, f.ServerGroups = append(f.LoadBalancers, lb), append(f.Listeners, l), append(f.ServerGroups, g)
	}
}

// in replaces a part of a response, which must be there.
func in(t *testing.T, action, old, now string) func(map[string]string) {
	return func(files map[string]string) {
		if !strings.Contains(files[action], old) {
			t.Errorf("%s has no %s", action, old)
		}
		files[action] = strings.Replace(files[action], old, now, 1)
	}
}

func lacking(action string) func(map[string]string) {
	return func(files map[string]string) { delete(files, action) }
}

func TestTheCloudCarriesPacketsBetweenNodes(t *testing.T) {
	const db = "pod:shop/db-0"
	for _, c := range []struct {
		name    string
		change  func(map[string]string)
		query   verdict.Query
		verdict verdict.Verdict
		outcome verdict.Outcome
		reason  string // the first one: code and message
	}{
		{"pod to pod", nil, tcp(web, db, 5432), verdict.Reachable, verdict.OutcomeEstablished, ""},
		{"node to node", nil, tcp("node:node-1", "node:node-2", 8443), verdict.Reachable, verdict.OutcomeEstablished, ""},
		{
			"a group that drops", in(t, "DescribeSecurityGroupAttribute", `"SecurityGroupId": "sg-2", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [{"SecurityGroupRuleId": "sgr-ingress", "Direction": "ingress", "Policy": "Accept"`, `"SecurityGroupId": "sg-2", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [{"SecurityGroupRuleId": "sgr-ingress", "Direction": "ingress", "Policy": "Drop"`),
			tcp(web, db, 5432), verdict.Unreachable, verdict.OutcomeTimeout, "SecurityGroupDeny security group sg-2 not allow packet tcp 10.244.1.10:45678 > 10.244.2.30:5432",
		},
		{
			"no route to the pods of a node", in(t, "DescribeRouteEntryList", `"DestinationCidrBlock": "10.244.2.0/24"`, `"DestinationCidrBlock": "10.244.7.0/24"`),
			tcp(web, db, 5432), verdict.Unreachable, verdict.OutcomeTimeout, "CloudUnexpectedNextHop the next hop for destination ip 10.244.2.30",
		},
		{
			"no route entry at all", in(t, "DescribeRouteEntryList", `"DestinationCidrBlock": "10.244.2.0/24"`, `"DestinationCidrBlock": "10.244.7.0/24", "RouteTableId": "vtb-9"`),
			tcp("pod:shop/web-0", "10.99.0.1", 5432), verdict.Unreachable, verdict.OutcomeTimeout, "CloudUnexpectedNextHop",
		},
		{
			"to the wrong node", in(t, "DescribeRouteEntryList", `"NextHopId": "i-2"`, `"NextHopId": "i-1"`),
			tcp(web, db, 5432), verdict.Unreachable, verdict.OutcomeHostUnreachable, "CloudWrongNextHop error route next hop for destination ip 10.244.2.30, expect i-2, actual i-1",
		},
		{"the table was not read", lacking("DescribeRouteEntryList"), tcp(web, db, 5432), verdict.Unknown, verdict.OutcomeUnknown, "SnapshotMissing vpc.DescribeRouteEntryList was not read"},
		{
			"the groups were not to be read", func(files map[string]string) {
				files["DescribeSecurityGroupAttribute"] = `{"Code": "Forbidden.RAM", "Message": "not authorized"}`
			},
			tcp(web, db, 5432), verdict.Unknown, verdict.OutcomeUnknown, "CloudAPIFailed ecs.DescribeSecurityGroupAttribute failed (Forbidden.RAM: not authorized)",
		},
		{"load balancers were not read, and do not matter", lacking("DescribeLoadBalancers"), tcp(web, db, 5432), verdict.Reachable, verdict.OutcomeEstablished, ""},
		{
			"an instance that does not run", in(t, "DescribeInstances", `"InstanceId": "i-2", "Status": "Running"`, `"InstanceId": "i-2", "Status": "Stopped"`),
			tcp(web, db, 5432), verdict.Unreachable, verdict.OutcomeTimeout, "InstanceNotRunning instance i-2 is Stopped",
		},
		// To the Internet.
		{"a node to the Internet", nil, tcp("node:node-1", "8.8.8.8", 443), verdict.Reachable, verdict.OutcomeDelivered, "LeavesModel the packet leaves the collected world through the Internet as tcp 47.1.1.1:45678 > 8.8.8.8:443"},
		{
			"an entry for others", in(t, "DescribeSnatTableEntries", "172.30.0.0/24", "172.30.9.0/24"),
			tcp("node:node-1", "8.8.8.8", 443), verdict.Unreachable, verdict.OutcomeTimeout, "CloudNoSNAT no snat entry on nat gateway ngw-1 for 172.30.0.11",
		},
		{
			"no NAT gateway", func(files map[string]string) {
				files["DescribeNatGateways"] = "{}"
				in(t, "DescribeRouteEntryList", `"DestinationCidrBlock": "0.0.0.0/0"`, `"DestinationCidrBlock": "10.0.0.0/8"`)(files)
			},
			tcp("node:node-1", "8.8.8.8", 443), verdict.Unreachable, verdict.OutcomeTimeout, "CloudNoPublicIP 172.30.0.11 of eni-1 has no public IP",
		},
		{
			"an EIP", in(t, "DescribeEipAddresses", `"InstanceId": "ngw-1", "InstanceType": "Nat"`, `"InstanceId": "i-1", "InstanceType": "EcsInstance"`),
			tcp("node:node-1", "8.8.8.8", 443), verdict.Reachable, verdict.OutcomeDelivered, "LeavesModel the packet leaves the collected world through the Internet as tcp 47.1.1.1:45678",
		},
		// From the Internet.
		{"the Internet to a load balancer", nil, tcp("203.0.113.9", "47.2.2.2", 443), verdict.Reachable, verdict.OutcomeEstablished, ""},
		{
			"a backend that is not well", in(t, "DescribeHealthStatus", `"normal"`, `"abnormal"`),
			tcp("203.0.113.9", "47.2.2.2", 443), verdict.Reachable, verdict.OutcomeEstablished, `SLBBackendUnhealthy backend i-1 health status for port 443/tcp, not "normal": it is abnormal`,
		},
		{"no listener", nil, tcp("203.0.113.9", "47.2.2.2", 80), verdict.Unreachable, verdict.OutcomeTimeout, "SLBNoListener cannot find listener port 80/tcp for slb lb-1"},
		{
			"a load balancer that is locked", in(t, "DescribeLoadBalancers", `"active"`, `"locked"`),
			tcp("203.0.113.9", "47.2.2.2", 443), verdict.Unreachable, verdict.OutcomeTimeout, `SLBNotActive loadbalancer lb-1 status is locked, not "active"`,
		},
		{
			"nothing listens on one node", func(files map[string]string) {
				in(t, "DescribeVServerGroupAttribute", `"ServerId": "i-2", "Type": "ecs", "Port": 8443`, `"ServerId": "i-2", "Type": "ecs", "Port": 8444`)(files)
				in(t, "DescribeHealthStatus", `"ServerId": "i-2", "ListenerPort": 443, "Port": 8443`, `"ServerId": "i-2", "ListenerPort": 443, "Port": 8444`)(files)
			},
			tcp("203.0.113.9", "47.2.2.2", 443), verdict.Degraded, verdict.OutcomeEstablished, "NoListener",
		},
		{
			"the health of one backend is not known", in(t, "DescribeHealthStatus", `"ServerId": "i-2"`, `"ServerId": "i-3"`),
			tcp("203.0.113.9", "47.2.2.2", 443), verdict.Unknown, verdict.OutcomeEstablished, "SnapshotMissing the health of i-2 for port 443 of lb-1",
		},
		{
			"the Internet to an EIP", in(t, "DescribeEipAddresses", `"InstanceId": "ngw-1", "InstanceType": "Nat"`, `"InstanceId": "i-1", "InstanceType": "EcsInstance"`),
			tcp("203.0.113.9", "47.1.1.1", 8443), verdict.Reachable, verdict.OutcomeEstablished, "",
		},
		{"the Internet to a NAT gateway without an entry", nil, tcp("203.0.113.9", "47.1.1.1", 8443), verdict.Unreachable, verdict.OutcomeTimeout, "CloudNoPublicIP NAT gateway ngw-1 has no DNAT entry"},
		// The trap of load balancers that keep the client's address.
		{
			"a node to a load balancer of which it is a backend", func(files map[string]string) {
				in(t, "DescribeLoadBalancers", "47.2.2.2", "172.30.0.200")(files)
				in(t, "DescribeVServerGroupAttribute", `, {"ServerId": "i-2", "Type": "ecs", "Port": 8443, "Weight": 100}`, "")(files)
			},
			tcp("node:node-1", "172.30.0.200", 443), verdict.Unreachable, verdict.OutcomeTimeout, "MartianSource",
		},
		{
			"a node to a load balancer of others", func(files map[string]string) {
				in(t, "DescribeLoadBalancers", "47.2.2.2", "172.30.0.200")(files)
				in(t, "DescribeVServerGroupAttribute", `{"ServerId": "i-1", "Type": "ecs", "Port": 8443, "Weight": 100}, `, "")(files)
			},
			tcp("node:node-1", "172.30.0.200", 443), verdict.Reachable, verdict.OutcomeEstablished, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := diagnose(t, inCloud(t, c.change), c.query)
			reason := ""
			if len(r.Reasons) > 0 {
				reason = fmt.Sprintf("%s %s", r.Reasons[0].Code, r.Reasons[0].Message)
			}
			if r.Verdict != c.verdict || len(r.Paths) == 0 || r.Paths[0].Outcome != c.outcome || !strings.HasPrefix(reason, c.reason) || c.reason == "" && reason != "" {
				t.Errorf("%s %v %q, want %s %s %q", r.Verdict, outcomes(r), reason, c.verdict, c.outcome, c.reason)
				for _, p := range r.Paths {
					t.Logf("%+v\n%+v", p.Hops, p.Reverse)
				}
			}
		})
	}
}

func outcomes(r *verdict.Report) []verdict.Outcome {
	var list []verdict.Outcome
	for i := range r.Paths {
		list = append(list, r.Paths[i].Outcome)
	}
	return list
}

func TestHopsOfTheCloudNameRulesAndEntries(t *testing.T) {
	r := diagnose(t, inCloud(t, nil), tcp(web, "pod:shop/db-0", 5432))
	p := &r.Paths[0]
	for _, hops := range [][]verdict.Hop{p.Hops, p.Reverse} {
		at := slices.IndexFunc(hops, func(h verdict.Hop) bool { return h.Kind == verdict.HopCloud })
		if at < 0 {
			t.Fatalf("no hop in the cloud: %+v", hops)
		}
		text := fmt.Sprint(hops[at].Steps)
		for _, want := range []string{"security group/egress", "rte-10.244.", "security group/ingress"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", text, want)
			}
		}
	}
	if h := p.Hops[2]; h.In != "eni-1" || h.Out != "eni-2" {
		t.Errorf("%+v", h)
	}
	r = diagnose(t, inCloud(t, nil), tcp("203.0.113.9", "47.2.2.2", 443))
	if len(r.Paths) != 2 || *r.Paths[0].Probability != 0.5 || r.Paths[0].SeenAs.IP != "203.0.113.9" || len(r.Paths[0].Translations) != 1 || r.Paths[0].Translations[0].Where != "lb-1" {
		t.Errorf("%+v", r.Paths)
	}
}

func TestRepliesTakeTheirOwnTable(t *testing.T) {
	w := inCloud(t, func(files map[string]string) {
		in(t, "DescribeRouteTableList", `[{`, `[{"RouteTableId": "vtb-2", "RouteTableType": "Custom", "AssociateType": "VSwitch", "VpcId": "vpc-1", "VSwitchIds": {"VSwitchId": ["vsw-2"]}}, {`)(files)
		files["DescribeRouteEntryList"] += `{"RouteEntrys": {"RouteEntry": [{"RouteTableId": "vtb-2", "DestinationCidrBlock": "172.30.0.0/24", "Type": "System", "NextHops": {"NextHop": [{"NextHopType": "local"}]}}]}}`
	})
	r := diagnose(t, w, tcp(web, "pod:shop/db-0", 5432))
	const want = "no route entry for source ip 10.244.1.10, so replies do not come back in route table vtb-2 of vSwitch vsw-2"
	if r.Verdict != verdict.Unreachable || r.Reason() != verdict.CloudSourceRouteMissing || r.Reasons[0].Message != want {
		t.Errorf("%s %v", r.Verdict, r.Reasons)
	}
}

func said(r *verdict.Report, code verdict.Code) bool {
	return slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == code })
}

// A Service of type LoadBalancer: the load balancer sends to the node port of every
// node, and the service proxy of each on to a pod.
func TestTheInternetReachesAServiceByItsLoadBalancer(t *testing.T) {
	w := inCloud(t, func(files map[string]string) {
		for _, action := range []string{"DescribeLoadBalancerListeners", "DescribeHealthStatus"} {
			files[action] = strings.NewReplacer(`"ListenerPort": 443`, `"ListenerPort": 80`, "8443", "30080").Replace(files[action])
		}
		files["DescribeVServerGroupAttribute"] = strings.ReplaceAll(files["DescribeVServerGroupAttribute"], "8443", "30080")
	}, func(s *simulator.Snapshot) {
		for i := range s.Cluster.Services {
			if svc := &s.Cluster.Services[i]; svc.Name == "api" {
				svc.Spec.Type = corev1.ServiceTypeLoadBalancer
				svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "47.2.2.2"}}
			}
		}
	})
	r := diagnose(t, w, tcp("203.0.113.9", "svc:shop/api", 80))
	// Each node sends to both pods: one has no listener, and a rule drops what goes to the other.
	if r.Verdict != verdict.Unreachable || len(r.Paths) != 4 || !said(r, verdict.NoListener) || !said(r, verdict.NetfilterDrop) {
		t.Errorf("%s, %d paths: %v", r.Verdict, len(r.Paths), r.Reasons)
	}
	for i := range r.Paths {
		p := &r.Paths[i]
		if p.Hops[0].Kind != verdict.HopCloud || p.Hops[0].In != "the Internet" || p.Source.IP != "203.0.113.9" || p.Translations[0].Where != "lb-1" || !strings.HasPrefix(p.Destination.IP, "10.244.") {
			t.Errorf("%+v", p)
		}
	}
}

// An interface that a pod has for itself is found by its link-layer address.
func TestAPodMayHaveAnInterfaceOfTheCloud(t *testing.T) {
	own := func(s *simulator.Snapshot) {
		ns := namespace(t, s, "shop-db-0")
		for i := range ns.Links {
			if l := &ns.Links[i]; l.Name == "eth0" {
				l.Kind, l.Peer, l.MAC = "", 0, netstack.MAC{0, 0x16, 0x3e, 0, 0, 9}
			}
		}
	}
	member := `[{"NetworkInterfaceId": "eni-pod", "Type": "Secondary", "Status": "InUse", "InstanceId": "i-2", "VpcId": "vpc-1", "VSwitchId": "vsw-2", "MacAddress": "00:16:3e:00:00:09",
 "PrivateIpAddress": "10.244.2.30", "SecurityGroupIds": {"SecurityGroupId": ["sg-2"]}}, `
	for _, c := range []struct {
		entry string
		want  verdict.Code
	}{
		{`"DestinationCidrBlock": "10.244.2.0/24", "Type": "System", "Status": "Available",
 "NextHops": {"NextHop": [{"NextHopType": "local", "NextHopId": ""}]}`, ""},
		// A route to the node of a pod with an interface of its own leads to where nobody has it.
		{"", verdict.NeighbourFailed},
	} {
		w := inCloud(t, func(files map[string]string) {
			in(t, "DescribeNetworkInterfaces", `[{`, member+`{`)(files)
			if c.entry != "" {
				in(t, "DescribeRouteEntryList", `"DestinationCidrBlock": "10.244.2.0/24", "Type": "Custom", "Status": "Available",
 "NextHops": {"NextHop": [{"NextHopType": "Instance", "NextHopId": "i-2"}]}`, c.entry)(files)
			}
		}, own)
		r := diagnose(t, w, tcp(web, "pod:shop/db-0", 5432))
		if r.Reason() != c.want {
			t.Errorf("%s %v, want %s", r.Verdict, r.Reasons, c.want)
		}
		if at := slices.IndexFunc(r.Paths[0].Hops, func(h verdict.Hop) bool { return h.Out == "eni-pod" }); c.want == "" && at < 0 {
			t.Errorf("%+v", r.Paths[0].Hops)
		}
	}
}

// Whoever sends from the Internet is not ours: nothing can be sent to confirm it.
func TestNobodyStartsOnTheInternet(t *testing.T) {
	q := tcp("203.0.113.9", "47.2.2.2", 443)
	if start, err := inCloud(t, nil).Start(&q); err == nil || !strings.Contains(err.Error(), "the packet comes from the Internet: 203.0.113.9") {
		t.Errorf("%+v, %v", start, err)
	}
}

// What could be an address of the cloud, had it been read, is not known.
func TestAddressesOfTheCloudThatWereNotRead(t *testing.T) {
	refused := func(files map[string]string) {
		files["DescribeLoadBalancers"] = `{"Code": "Forbidden.RAM", "Message": "not authorized"}`
	}
	for _, c := range []struct {
		change func(map[string]string)
		want   verdict.Code
	}{{refused, verdict.CloudAPIFailed}, {func(files map[string]string) { files["DescribeLoadBalancers"] = "{}" }, verdict.EndpointUnresolved}} {
		r := diagnose(t, inCloud(t, c.change), tcp("203.0.113.9", "47.2.2.2", 443))
		if r.Verdict != verdict.Unknown || r.Reason() != c.want || c.want == verdict.CloudAPIFailed && !strings.Contains(r.Reasons[0].Remedy, "slb:DescribeLoadBalancers") {
			t.Errorf("%s %v, want %s", r.Verdict, r.Reasons, c.want)
		}
	}
}
