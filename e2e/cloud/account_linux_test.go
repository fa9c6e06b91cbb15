package cloud

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// Addresses of the cloud that scenarios ask about.
const (
	internet     = "203.0.113.9" // somebody on the Internet
	snatEIP      = "47.1.1.1"    // of the NAT gateway
	nodeEIP      = "47.1.1.2"    // of node-2
	podEIP       = "47.1.1.3"    // of pod eni-0, which has an interface of its own
	dnatEIP      = "47.1.1.4"    // of the NAT gateway, for what it forwards
	classic      = "47.2.2.2"    // CLB lb-1, that of the Service
	classicInner = "172.30.0.60" // CLB lb-2, inside the VPC
	network      = "47.2.2.3"    // NLB nlb-1
	application  = "47.2.2.4"    // ALB alb-1
)

// account is the cloud as it should be: one VPC, whose vSwitches vsw-1, vsw-2 and vsw-3
// have node-1, node-2 and pods' own interfaces; a route for each node's pods; a NAT
// gateway; EIPs; load balancers of all kinds before the node ports of both nodes.
func account(t *testing.T) *alibaba.Facts {
	t.Helper()
	f := new(alibaba.Facts)
	add := func(action, response string, args ...any) {
		t.Helper()
		if err := alibaba.Decode(action+".json", fmt.Appendf(nil, response, args...), f); err != nil {
			t.Fatal(err)
		}
	}
	add("DescribeInstances", `{"Instances": {"Instance": [{"InstanceId": "i-1", "Status": "Running", "VpcAttributes": {"VpcId": "vpc-1"}}, {"InstanceId": "i-2", "Status": "Running", "VpcAttributes": {"VpcId": "vpc-1"}}]}}`)
	eni := func(id, kind, instance, vswitch, mac, ip, group string) {
		add("DescribeNetworkInterfaces", `{"NetworkInterfaceSets": {"NetworkInterfaceSet": [{"NetworkInterfaceId": %q, "Type": %q, "Status": "InUse", "InstanceId": %q, "VpcId": "vpc-1",
			"VSwitchId": %q, "MacAddress": %q, "PrivateIpAddress": %q, "SecurityGroupIds": {"SecurityGroupId": [%q]}}]}}`, id, kind, instance, vswitch, mac, ip, group)
	}
	eni("eni-1", "Primary", "i-1", "vsw-1", "0a:58:ac:1e:00:0b", node1, "sg-nodes")
	eni("eni-2", "Primary", "i-2", "vsw-2", "0a:58:ac:1e:00:46", node2, "sg-nodes")
	eni("eni-pod", "Secondary", "i-2", "vsw-3", "0a:58:ac:1e:00:8c", eniPod, "sg-pods")
	rule := func(id, direction, protocol, ports, peer string) string {
		end := "SourceCidrIp"
		if direction == "egress" {
			end = "DestCidrIp"
		}
		return fmt.Sprintf(`{"SecurityGroupRuleId": %q, "Direction": %q, "Policy": "Accept", "Priority": 1, "IpProtocol": %q, "PortRange": %q, "NicType": "intranet", %q: %q}`, id, direction, protocol, ports, end, peer)
	}
	for id, rules := range map[string]string{
		"sg-nodes": rule("sgr-pods", "ingress", "ALL", "-1/-1", "10.244.0.0/16") + "," + rule("sgr-eni", "ingress", "ALL", "-1/-1", "172.30.0.128/26") + "," +
			rule("sgr-tcp", "ingress", "TCP", "30000/32767", "0.0.0.0/0") + "," + rule("sgr-udp", "ingress", "UDP", "30000/32767", "0.0.0.0/0"),
		"sg-pods": rule("sgr-vpc", "ingress", "ALL", "-1/-1", "172.30.0.0/16") + "," + rule("sgr-pods2", "ingress", "ALL", "-1/-1", "10.244.0.0/16") + "," +
			rule("sgr-http", "ingress", "TCP", "8080/8080", "0.0.0.0/0"),
	} {
		add("DescribeSecurityGroups", `{"SecurityGroups": {"SecurityGroup": [{"SecurityGroupId": %q, "SecurityGroupType": "normal", "VpcId": "vpc-1"}]}}`, id)
		add("DescribeSecurityGroupAttribute", `{"SecurityGroupId": %q, "VpcId": "vpc-1", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [%s]}}`, id, rules)
	}
	add("DescribeVpcs", `{"Vpcs": {"Vpc": [{"VpcId": "vpc-1", "CidrBlock": "172.30.0.0/16"}]}}`)
	entry := func(table, dst, kind, hop, id string) {
		add("DescribeRouteEntryList", `{"RouteEntrys": {"RouteEntry": [{"RouteEntryId": %q, "RouteTableId": %q, "DestinationCidrBlock": %q, "Type": %q, "Status": "Available",
			"NextHops": {"NextHop": [{"NextHopType": %q, "NextHopId": %q}]}}]}}`, "rte-"+dst, table, dst, kind, hop, id)
	}
	for id, block := range map[string]string{"vsw-1": "172.30.0.0/26", "vsw-2": "172.30.0.64/26", "vsw-3": "172.30.0.128/26"} {
		add("DescribeVSwitches", `{"VSwitches": {"VSwitch": [{"VSwitchId": %q, "VpcId": "vpc-1", "CidrBlock": %q}]}}`, id, block)
		entry("vtb-1", block, "System", "local", "")
	}
	add("DescribeRouteTableList", `{"RouterTableList": {"RouterTableListType": [{"RouteTableId": "vtb-1", "RouteTableType": "System", "AssociateType": "VSwitch", "Status": "Available", "VpcId": "vpc-1"}]}}`)
	entry("vtb-1", "100.64.0.0/10", "System", "service", "")
	entry("vtb-1", "10.244.1.0/24", "Custom", "Instance", "i-1")
	entry("vtb-1", "10.244.2.0/24", "Custom", "Instance", "i-2")
	entry("vtb-1", "0.0.0.0/0", "Custom", "NatGateway", "ngw-1")
	add("DescribeNatGateways", `{"NatGateways": {"NatGateway": [{"NatGatewayId": "ngw-1", "Status": "Available", "BusinessStatus": "Normal", "NetworkType": "internet", "VpcId": "vpc-1"}]}}`)
	for _, source := range []string{"172.30.0.0/16", "10.244.0.0/16"} {
		add("DescribeSnatTableEntries", `{"SnatTableEntries": {"SnatTableEntry": [{"SnatEntryId": %q, "NatGatewayId": "ngw-1", "SourceCIDR": %q, "SnatIp": %q, "Status": "Available"}]}}`, "snat-"+source, source, snatEIP)
	}
	add("DescribeForwardTableEntries", `{"ForwardTableEntries": {"ForwardTableEntry": [{"ForwardEntryId": "fwd-1", "NatGatewayId": "ngw-1", "Status": "Available", "IpProtocol": "TCP",
		"ExternalIp": %q, "ExternalPort": "80", "InternalIp": %q, "InternalPort": "30080"}]}}`, dnatEIP, node1)
	for addr, to := range map[string][2]string{snatEIP: {"Nat", "ngw-1"}, dnatEIP: {"Nat", "ngw-1"}, nodeEIP: {"EcsInstance", "i-2"}, podEIP: {"NetworkInterface", "eni-pod"}} {
		add("DescribeEipAddresses", `{"EipAddresses": {"EipAddress": [{"AllocationId": %q, "IpAddress": %q, "Status": "InUse", "BusinessStatus": "Normal", "Bandwidth": "5", "InstanceType": %q, "InstanceId": %q}]}}`, "eip-"+addr, addr, to[0], to[1])
	}
	for id, l := range map[string][2]string{"lb-1": {classic, "internet"}, "lb-2": {classicInner, "intranet"}} {
		balancer := fmt.Sprintf(`{"LoadBalancerId": %q, "LoadBalancerStatus": "active", "Address": %q, "AddressType": %q, "VpcId": "vpc-1"}`, id, l[0], l[1])
		add("DescribeLoadBalancers", `{"LoadBalancers": {"LoadBalancer": [%s]}}`, balancer)
		add("DescribeLoadBalancerAttribute", `%s`, balancer)
		health := ""
		for _, p := range []struct {
			protocol, port, nodePort string
		}{{"tcp", "80", "30080"}, {"udp", "53", "30053"}} {
			group := id + "-" + p.protocol
			add("DescribeLoadBalancerListeners", `{"Listeners": [{"LoadBalancerId": %q, "ListenerPort": %s, "ListenerProtocol": %q, "Status": "running", "VServerGroupId": %q,
				"TCPListenerConfig": {"HealthCheck": "on"}, "UDPListenerConfig": {"HealthCheck": "on"}}]}`, id, p.port, p.protocol, group)
			add("DescribeVServerGroupAttribute", `{"VServerGroupId": %q, "LoadBalancerId": %q, "BackendServers": {"BackendServer": [
				{"ServerId": "i-1", "Type": "ecs", "Port": %[3]s, "Weight": 100}, {"ServerId": "i-2", "Type": "ecs", "Port": %[3]s, "Weight": 100}]}}`, group, id, p.nodePort)
			for _, server := range []string{"i-1", "i-2"} {
				if health != "" {
					health += ","
				}
				health += fmt.Sprintf(`{"ServerId": %q, "ListenerPort": %s, "Port": %s, "Protocol": %q, "ServerHealthStatus": "normal"}`, server, p.port, p.nodePort, p.protocol)
			}
		}
		add("DescribeHealthStatus", `{"LoadBalancerId": %q, "BackendServers": {"BackendServer": [%s]}}`, id, health)
	}
	for kind, addr := range map[string]string{"nlb": network, "alb": application} {
		id := kind + "-1"
		zones, check, protocol := fmt.Sprintf(`{"PublicIPv4Address": %q, "PrivateIPv4Address": "172.30.0.61"}`, addr), "HealthCheck", "TCP"
		if kind == "alb" {
			zones, check, protocol = fmt.Sprintf(`{"Address": %q, "IntranetAddress": "172.30.0.62"}`, addr), "HealthCheckConfig", "HTTP"
		}
		zones = `, "ZoneMappings": [{"VSwitchId": "vsw-1", "LoadBalancerAddresses": [` + zones + `]}]`
		balancer := fmt.Sprintf(`"LoadBalancerId": %q, "LoadBalancerStatus": "Active", "AddressType": "Internet", "VpcId": "vpc-1"`, id)
		add(kind+".GetLoadBalancerAttribute", `{%s%s}`, balancer, zones)
		if kind == "alb" {
			zones = "" // its list has none
		}
		add(kind+".ListLoadBalancers", `{"LoadBalancers": [{%s%s}]}`, balancer, zones)
		listener := fmt.Sprintf(`"ListenerId": "lsn-%s", "LoadBalancerId": %q, "ListenerPort": 80, "ListenerProtocol": %q, "ListenerStatus": "Running"`, id, id, protocol)
		if kind == "nlb" {
			listener += `, "ServerGroupId": "sgp-nlb"`
		} else {
			listener += `, "DefaultActions": [{"Type": "ForwardGroup", "ForwardGroupConfig": {"ServerGroupTuples": [{"ServerGroupId": "sgp-alb"}]}}]`
			add("alb.GetListenerAttribute", `{"ListenerId": "lsn-alb-1"}`)
		}
		add(kind+".ListListeners", `{"Listeners": [{%s}]}`, listener)
		add(kind+".ListServerGroups", `{"ServerGroups": [{"ServerGroupId": "sgp-%s", "ServerGroupType": "Instance", "PreserveClientIpEnabled": %v, %q: {"HealthCheckEnabled": true}}]}`, kind, kind == "nlb", check)
		add(kind+".ListServerGroupServers", `{"Servers": [{"ServerGroupId": "sgp-%[1]s", "ServerId": "i-1", "ServerType": "Ecs", "Port": 30080, "Weight": 100, "Status": "Available"},
			{"ServerGroupId": "sgp-%[1]s", "ServerId": "i-2", "ServerType": "Ecs", "Port": 30080, "Weight": 100, "Status": "Available"}]}`, kind)
		add(kind+".GetListenerHealthStatus", `{"ListenerHealthStatus": [{"ListenerId": "lsn-%s", "ListenerPort": 80, "ServerGroupInfos": [{"ServerGroupId": "sgp-%s"}]}]}`, id, kind)
	}
	return f
}

// clone is a copy of a cloud that changes leave alone.
func clone(t *testing.T, f *alibaba.Facts) *alibaba.Facts {
	t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	out := new(alibaba.Facts)
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Changes of a cloud.

func without[T any](list *[]T, which func(*T) bool) {
	*list = slices.DeleteFunc(*list, func(v T) bool { return which(&v) })
}

// withoutRule removes a rule of a security group.
func withoutRule(f *alibaba.Facts, id string) {
	for i := range f.GroupRules {
		without(&f.GroupRules[i].Permissions.Permission, func(p *alibaba.Permission) bool { return p.SecurityGroupRuleId == id })
	}
}

// route is the entry for a destination.
func route(f *alibaba.Facts, dst string) *alibaba.RouteEntry {
	return &f.RouteEntries[slices.IndexFunc(f.RouteEntries, func(e alibaba.RouteEntry) bool { return e.DestinationCidrBlock == dst })]
}

func withoutRoute(f *alibaba.Facts, dst string) {
	without(&f.RouteEntries, func(e *alibaba.RouteEntry) bool { return e.DestinationCidrBlock == dst })
}

func eip(f *alibaba.Facts, addr string) *alibaba.EIP {
	return &f.EIPs[slices.IndexFunc(f.EIPs, func(e alibaba.EIP) bool { return e.IpAddress == addr })]
}

// listener is that of lb-1 for TCP, or for UDP.
func listener(f *alibaba.Facts, protocol string) *alibaba.Listener {
	return &f.Listeners[slices.IndexFunc(f.Listeners, func(l alibaba.Listener) bool { return l.LoadBalancerId == "lb-1" && l.ListenerProtocol == protocol })]
}

func serverGroup(f *alibaba.Facts, id string) *alibaba.VServerGroup {
	return &f.ServerGroups[slices.IndexFunc(f.ServerGroups, func(g alibaba.VServerGroup) bool { return g.VServerGroupId == id })]
}

// balancer sets the status of a load balancer of CLB.
func balancer(f *alibaba.Facts, id, status string) {
	for i := range f.LoadBalancers {
		if f.LoadBalancers[i].LoadBalancerId == id {
			f.LoadBalancers[i].LoadBalancerStatus = status
		}
	}
	for i := range f.Attributes {
		if f.Attributes[i].LoadBalancerId == id {
			f.Attributes[i].LoadBalancerStatus = status
		}
	}
}

// group puts the rules of a new security group, in the order of their fields.
func group(f *alibaba.Facts, id string, rules ...alibaba.Permission) {
	f.Groups = append(f.Groups, alibaba.SecurityGroup{SecurityGroupId: id, SecurityGroupType: "normal", VpcId: "vpc-1"})
	g := alibaba.SecurityGroupAttribute{SecurityGroupId: id, VpcId: "vpc-1", InnerAccessPolicy: "Accept"}
	g.Permissions.Permission = rules
	f.GroupRules = append(f.GroupRules, g)
}

// networkACL gives a vSwitch one that lets in nothing but UDP.
func networkACL(f *alibaba.Facts, vswitch string) {
	a := alibaba.NetworkACL{NetworkAclId: "nacl-1", VpcId: "vpc-1", Status: "Available"}
	a.IngressAclEntries.IngressAclEntry = []alibaba.NetworkACLEntry{{NetworkAclEntryId: "nae-in", IpVersion: "IPV4", Policy: "accept", Protocol: "udp", Port: "-1/-1", SourceCidrIp: "0.0.0.0/0"}}
	a.EgressAclEntries.EgressAclEntry = []alibaba.NetworkACLEntry{{NetworkAclEntryId: "nae-out", IpVersion: "IPV4", Policy: "accept", Protocol: "all", Port: "-1/-1", DestinationCidrIp: "0.0.0.0/0"}}
	f.NetworkACLs = append(f.NetworkACLs, a)
	for i := range f.VSwitches {
		if f.VSwitches[i].VSwitchId == vswitch {
			f.VSwitches[i].NetworkAclId = a.NetworkAclId
		}
	}
}

// onlyBackend leaves one node in the server groups of the load balancer inside the VPC.
func onlyBackend(node string) func(*alibaba.Facts) {
	return func(f *alibaba.Facts) {
		s := serverGroup(f, "lb-2-tcp").BackendServers.BackendServer
		if node == node1 {
			s[1].Weight = 0
		} else {
			s[0].Weight = 0
		}
	}
}
