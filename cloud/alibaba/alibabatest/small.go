package alibabatest

import "github.com/plumbline-net/plumbline/simulator/cloud/alibaba"

// Small is a cloud with something of everything: a VPC of two vSwitches with an
// instance in each, one of them behind an EIP; a NAT gateway, a network ACL, a prefix
// list, and a load balancer of each kind, on the Internet and inside.
func Small() *alibaba.Facts {
	f := new(alibaba.Facts)
	// Files of responses are the shortest way to write facts down.
	for _, file := range small {
		if err := alibaba.Decode(file.name, []byte(file.data), f); err != nil {
			panic(err)
		}
	}
	f.Read, f.Failed, f.Pages = nil, nil, nil
	return f
}

var small = []struct{ name, data string }{
	{"DescribeInstances.json", `{"Instances": {"Instance": [
		{"InstanceId": "i-a", "InstanceName": "node-a", "Status": "Running",
		 "EipAddress": {"IpAddress": "47.96.0.1", "AllocationId": "eip-a"},
		 "VpcAttributes": {"VpcId": "vpc-1", "VSwitchId": "vsw-1", "PrivateIpAddress": {"IpAddress": ["10.0.0.1"]}}},
		{"InstanceId": "i-b", "InstanceName": "node-b", "Status": "Running",
		 "VpcAttributes": {"VpcId": "vpc-1", "VSwitchId": "vsw-2", "PrivateIpAddress": {"IpAddress": ["10.0.1.2"]}}}]}}`},
	{"DescribeNetworkInterfaces.json", `{"NetworkInterfaceSets": {"NetworkInterfaceSet": [
		{"NetworkInterfaceId": "eni-a", "Type": "Primary", "Status": "InUse", "InstanceId": "i-a", "VpcId": "vpc-1", "VSwitchId": "vsw-1",
		 "MacAddress": "00:16:3e:00:00:01", "PrivateIpAddress": "10.0.0.1", "SecurityGroupIds": {"SecurityGroupId": ["sg-1"]},
		 "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": "10.0.0.1", "Primary": true}]}},
		{"NetworkInterfaceId": "eni-b", "Type": "Primary", "Status": "InUse", "InstanceId": "i-b", "VpcId": "vpc-1", "VSwitchId": "vsw-2",
		 "MacAddress": "00:16:3e:00:00:02", "PrivateIpAddress": "10.0.1.2", "SecurityGroupIds": {"SecurityGroupId": ["sg-1", "sg-2"]},
		 "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": "10.0.1.2", "Primary": true}]}}]}}`},
	{"DescribeSecurityGroups.json", `{"SecurityGroups": {"SecurityGroup": [
		{"SecurityGroupId": "sg-1", "SecurityGroupName": "nodes", "SecurityGroupType": "normal", "VpcId": "vpc-1"},
		{"SecurityGroupId": "sg-2", "SecurityGroupName": "web", "SecurityGroupType": "normal", "VpcId": "vpc-1"}]}}`},
	{"DescribeSecurityGroupAttribute.json", `[
		{"SecurityGroupId": "sg-1", "VpcId": "vpc-1", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": []}},
		{"SecurityGroupId": "sg-2", "VpcId": "vpc-1", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [
			{"SecurityGroupRuleId": "sgr-1", "Direction": "ingress", "Policy": "Accept", "Priority": "1", "IpProtocol": "TCP", "PortRange": "80/80", "SourcePortRange": "-1/-1", "NicType": "intranet", "SourcePrefixListId": "pl-1"},
			{"SecurityGroupRuleId": "sgr-2", "Direction": "ingress", "Policy": "Accept", "Priority": "2", "IpProtocol": "TCP", "PortRange": "443/443", "SourcePortRange": "-1/-1", "NicType": "intranet", "SourceCidrIp": "0.0.0.0/0"}]}}]`},
	{"DescribePrefixListAttributes.json", `{"PrefixListId": "pl-1", "AddressFamily": "IPv4", "Entries": {"Entry": [{"Cidr": "203.0.113.0/24"}]}}`},
	{"DescribeVpcs.json", `{"Vpcs": {"Vpc": [{"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/8"}]}}`},
	{"DescribeVSwitches.json", `{"VSwitches": {"VSwitch": [
		{"VSwitchId": "vsw-1", "VpcId": "vpc-1", "CidrBlock": "10.0.0.0/24", "RouteTable": {"RouteTableId": "vtb-1"}},
		{"VSwitchId": "vsw-2", "VpcId": "vpc-1", "CidrBlock": "10.0.1.0/24", "NetworkAclId": "nacl-1", "RouteTable": {"RouteTableId": "vtb-1"}}]}}`},
	{"DescribeRouteTableList.json", `{"RouterTableList": {"RouterTableListType": [
		{"RouteTableId": "vtb-1", "RouteTableType": "System", "AssociateType": "VSwitch", "Status": "Available", "VpcId": "vpc-1", "VSwitchIds": {"VSwitchId": ["vsw-1", "vsw-2"]}}]}}`},
	{"DescribeRouteEntryList.json", `{"RouteEntrys": {"RouteEntry": [
		{"RouteEntryId": "rte-1", "RouteTableId": "vtb-1", "DestinationCidrBlock": "10.0.0.0/24", "Type": "System", "Status": "Available", "NextHops": {"NextHop": [{"NextHopType": "local"}]}},
		{"RouteEntryId": "rte-2", "RouteTableId": "vtb-1", "DestinationCidrBlock": "10.0.1.0/24", "Type": "System", "Status": "Available", "NextHops": {"NextHop": [{"NextHopType": "local"}]}},
		{"RouteEntryId": "rte-3", "RouteTableId": "vtb-1", "DestinationCidrBlock": "100.64.0.0/10", "Type": "System", "Status": "Available", "NextHops": {"NextHop": [{"NextHopType": "service"}]}},
		{"RouteEntryId": "rte-4", "RouteTableId": "vtb-1", "DestinationCidrBlock": "0.0.0.0/0", "Type": "Custom", "Status": "Available", "NextHops": {"NextHop": [{"NextHopType": "NatGateway", "NextHopId": "ngw-1"}]}}]}}`},
	{"DescribeNatGateways.json", `{"NatGateways": {"NatGateway": [
		{"NatGatewayId": "ngw-1", "Status": "Available", "BusinessStatus": "Normal", "NetworkType": "internet", "VpcId": "vpc-1",
		 "ForwardTableIds": {"ForwardTableId": ["ftb-1"]}, "SnatTableIds": {"SnatTableId": ["stb-1"]},
		 "IpLists": {"IpList": [{"IpAddress": "47.96.0.2", "AllocationId": "eip-n", "UsingStatus": "UsedBySnatTable"}]}}]}}`},
	{"DescribeSnatTableEntries.json", `{"SnatTableEntries": {"SnatTableEntry": [
		{"SnatEntryId": "snat-1", "SnatTableId": "stb-1", "NatGatewayId": "ngw-1", "Status": "Available", "SourceCIDR": "10.0.0.0/8", "SnatIp": "47.96.0.2"}]}}`},
	{"DescribeForwardTableEntries.json", `{"ForwardTableEntries": {"ForwardTableEntry": [
		{"ForwardEntryId": "fwd-1", "ForwardTableId": "ftb-1", "NatGatewayId": "ngw-1", "Status": "Available", "IpProtocol": "TCP", "ExternalIp": "47.96.0.2", "ExternalPort": "443", "InternalIp": "10.0.1.2", "InternalPort": "443"}]}}`},
	{"DescribeEipAddresses.json", `{"EipAddresses": {"EipAddress": [
		{"AllocationId": "eip-a", "IpAddress": "47.96.0.1", "Status": "InUse", "BusinessStatus": "Normal", "InstanceId": "i-a", "InstanceType": "EcsInstance", "Mode": "NAT", "Bandwidth": "5"},
		{"AllocationId": "eip-n", "IpAddress": "47.96.0.2", "Status": "InUse", "BusinessStatus": "Normal", "InstanceId": "ngw-1", "InstanceType": "Nat", "Mode": "NAT", "Bandwidth": "5"}]}}`},
	{"DescribeNetworkAclAttributes.json", `{"NetworkAclAttribute": {"NetworkAclId": "nacl-1", "VpcId": "vpc-1", "Status": "Available",
		"IngressAclEntries": {"IngressAclEntry": [{"NetworkAclEntryId": "nae-1", "NetworkAclEntryName": "all", "EntryType": "custom", "IpVersion": "IPV4", "Policy": "accept", "Protocol": "all", "Port": "-1/-1", "SourceCidrIp": "0.0.0.0/0"}]},
		"EgressAclEntries": {"EgressAclEntry": [{"NetworkAclEntryId": "nae-2", "NetworkAclEntryName": "all", "EntryType": "custom", "IpVersion": "IPV4", "Policy": "accept", "Protocol": "all", "Port": "-1/-1", "DestinationCidrIp": "0.0.0.0/0"}]},
		"Resources": {"Resource": [{"ResourceId": "vsw-2", "ResourceType": "VSwitch", "Status": "BINDED"}]}}}`},
	{"DescribeHaVips.json", `{"HaVips": {"HaVip": [{"HaVipId": "havip-1", "IpAddress": "10.0.0.50", "VpcId": "vpc-1", "VSwitchId": "vsw-1", "MasterInstanceId": "i-a",
		"AssociatedInstances": {"associatedInstance": ["i-a", "i-b"]}}]}}`},
	{"DescribeIpv6Addresses.json", `{"Ipv6Addresses": {"Ipv6Address": [{"Ipv6AddressId": "ipv6-1", "Ipv6Address": "2408:4000::1", "Ipv6GatewayId": "ipv6gw-1", "VpcId": "vpc-1",
		"Ipv6InternetBandwidth": {"Ipv6InternetBandwidthId": "ipv6bw-1", "Bandwidth": 5, "BusinessStatus": "Normal"}}]}}`},
	{"DescribeIpv6EgressOnlyRules.json", `{"Ipv6EgressOnlyRules": {"Ipv6EgressOnlyRule": [{"Ipv6EgressOnlyRuleId": "ipv6py-1", "InstanceId": "ipv6-1", "InstanceType": "Ipv6Address", "Status": "Created"}]}}`},
	{"alb.GetListenerAttribute.json", `{"ListenerId": "lsn-2", "AclConfig": {"AclType": "White", "AclRelations": [{"AclId": "acl-2", "Status": "Associated"}]}}`},
	{"alb.ListAclEntries.acl-2.json", `{"AclEntries": [{"Entry": "203.0.113.0/24", "Status": "Available"}]}`},
	{"DescribeLoadBalancers.json", `{"LoadBalancers": {"LoadBalancer": [
		{"LoadBalancerId": "lb-1", "LoadBalancerStatus": "active", "Address": "47.96.0.3", "AddressType": "internet"},
		{"LoadBalancerId": "lb-2", "LoadBalancerStatus": "active", "Address": "10.0.0.100", "AddressType": "intranet", "VpcId": "vpc-1", "VSwitchId": "vsw-1"}]}}`},
	{"DescribeLoadBalancerAttribute.json", `[
		{"LoadBalancerId": "lb-1", "LoadBalancerStatus": "active", "Address": "47.96.0.3", "AddressType": "internet",
		 "BackendServers": {"BackendServer": [{"ServerId": "i-b", "Type": "ecs", "Weight": 100}]}},
		{"LoadBalancerId": "lb-2", "LoadBalancerStatus": "active", "Address": "10.0.0.100", "AddressType": "intranet", "VpcId": "vpc-1", "VSwitchId": "vsw-1",
		 "BackendServers": {"BackendServer": []}}]`},
	{"DescribeLoadBalancerListeners.json", `{"Listeners": [
		{"LoadBalancerId": "lb-1", "ListenerPort": 443, "ListenerProtocol": "tcp", "Status": "running", "BackendServerPort": 443, "AclStatus": "on", "AclType": "white", "AclIds": ["acl-1"], "TCPListenerConfig": {"HealthCheck": "on"}},
		{"LoadBalancerId": "lb-2", "ListenerPort": 80, "ListenerProtocol": "tcp", "Status": "running", "VServerGroupId": "rsp-1", "AclStatus": "off", "TCPListenerConfig": {"HealthCheck": "on"}}]}`},
	{"DescribeVServerGroupAttribute.json", `{"VServerGroupId": "rsp-1", "VServerGroupName": "web", "LoadBalancerId": "lb-2",
		"BackendServers": {"BackendServer": [{"ServerId": "i-b", "Type": "ecs", "Port": 80, "Weight": 100}]}}`},
	{"DescribeHealthStatus.json", `[
		{"LoadBalancerId": "lb-1", "BackendServers": {"BackendServer": [{"ServerId": "i-b", "ServerIp": "10.0.1.2", "Protocol": "tcp", "ListenerPort": 443, "Port": 443, "ServerHealthStatus": "normal"}]}},
		{"LoadBalancerId": "lb-2", "BackendServers": {"BackendServer": [{"ServerId": "i-b", "ServerIp": "10.0.1.2", "Protocol": "tcp", "ListenerPort": 80, "Port": 80, "ServerHealthStatus": "normal"}]}}]`},
	{"DescribeAccessControlListAttribute.json", `{"AclId": "acl-1", "AddressIPVersion": "ipv4", "AclEntrys": {"AclEntry": [{"AclEntryIP": "203.0.113.0/24"}]}}`},
	{"nlb.ListLoadBalancers.json", `{"LoadBalancers": [{"LoadBalancerId": "nlb-1", "LoadBalancerStatus": "Active", "AddressType": "Internet", "VpcId": "vpc-1", "DNSName": "nlb-1.example.com",
		"ZoneMappings": [{"VSwitchId": "vsw-1", "ZoneId": "cn-test-a", "LoadBalancerAddresses": [{"PrivateIPv4Address": "10.0.0.101", "PublicIPv4Address": "47.96.0.4", "EniId": "eni-n"}]}]}]}`},
	{"nlb.GetLoadBalancerAttribute.json", `{"LoadBalancerId": "nlb-1", "LoadBalancerStatus": "Active", "AddressType": "Internet", "VpcId": "vpc-1", "DNSName": "nlb-1.example.com",
		"ZoneMappings": [{"VSwitchId": "vsw-1", "ZoneId": "cn-test-a", "LoadBalancerAddresses": [{"PrivateIPv4Address": "10.0.0.101", "PublicIPv4Address": "47.96.0.4", "EniId": "eni-n"}]}]}`},
	{"nlb.ListListeners.json", `{"Listeners": [{"LoadBalancerId": "nlb-1", "ListenerId": "lsn-1", "ListenerProtocol": "TCP", "ListenerPort": 80, "ListenerStatus": "Running", "ServerGroupId": "sgp-1"}]}`},
	{"nlb.ListServerGroups.json", `{"ServerGroups": [{"ServerGroupId": "sgp-1", "ServerGroupType": "Instance", "PreserveClientIpEnabled": true, "HealthCheck": {"HealthCheckEnabled": true}}]}`},
	{"nlb.ListServerGroupServers.json", `{"Servers": [{"ServerGroupId": "sgp-1", "ServerId": "i-b", "ServerIp": "10.0.1.2", "ServerType": "Ecs", "Port": 80, "Weight": 100, "Status": "Available"}]}`},
	{"nlb.GetListenerHealthStatus.json", `{"ListenerHealthStatus": [{"ListenerId": "lsn-1", "ListenerPort": 80, "ServerGroupInfos": [{"ServerGroupId": "sgp-1"}]}]}`},
	{"alb.ListLoadBalancers.json", `{"LoadBalancers": [{"LoadBalancerId": "alb-1", "LoadBalancerStatus": "Active", "AddressType": "Internet", "VpcId": "vpc-1", "DNSName": "alb-1.example.com"}]}`},
	{"alb.GetLoadBalancerAttribute.json", `{"LoadBalancerId": "alb-1", "LoadBalancerStatus": "Active", "AddressType": "Internet", "VpcId": "vpc-1", "DNSName": "alb-1.example.com",
		"ZoneMappings": [{"VSwitchId": "vsw-1", "ZoneId": "cn-test-a", "LoadBalancerAddresses": [{"Address": "47.96.0.5", "IntranetAddress": "10.0.0.102"}]}]}`},
	{"alb.ListListeners.json", `{"Listeners": [{"LoadBalancerId": "alb-1", "ListenerId": "lsn-2", "ListenerProtocol": "HTTP", "ListenerPort": 80, "ListenerStatus": "Running",
		"DefaultActions": [{"Type": "ForwardGroup", "ForwardGroupConfig": {"ServerGroupTuples": [{"ServerGroupId": "sgp-2"}]}}]}]}`},
	{"alb.ListServerGroups.json", `{"ServerGroups": [{"ServerGroupId": "sgp-2", "ServerGroupType": "Instance", "HealthCheckConfig": {"HealthCheckEnabled": true}}]}`},
	{"alb.ListServerGroupServers.json", `{"Servers": [{"ServerGroupId": "sgp-2", "ServerId": "i-b", "ServerIp": "10.0.1.2", "ServerType": "Ecs", "Port": 80, "Weight": 100, "Status": "Available"}]}`},
	{"alb.GetListenerHealthStatus.json", `{"ListenerHealthStatus": [{"ListenerId": "lsn-2", "ListenerPort": 80, "ServerGroupInfos": [{"ServerGroupId": "sgp-2"}]}]}`},
}
