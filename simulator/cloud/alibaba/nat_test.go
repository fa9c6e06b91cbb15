package alibaba

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	pageSNAT = "NAT Gateway, Create and manage SNAT entries"
	pageDNAT = "NAT Gateway, Create and manage DNAT entries"
	pageEIP  = "VPC API, DescribeEipAddresses"
	pageNAT  = "VPC API, DescribeNatGateways"

	pageVisible    = "EIP, Associate an EIP with an ENI"
	pagePrivateNAT = "NAT Gateway, VPC NAT gateways"

	pageHaVip   = "VPC, High-availability virtual IP addresses (HaVips)"
	pageIPv6    = "IPv6 Gateway, What is an IPv6 gateway?"
	pageIPv4    = "VPC, IPv4 gateway"
	pageGateway = "VPC, Use the gateway route table to control traffic entering the VPC"
)

// natIn puts the NAT gateway into a vSwitch with a table of its own.
func natIn(t *testing.T, f *Facts, entries string) {
	f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
	f.NATGateways[0].NatGatewayPrivateInfo.VswitchId = "vsw-nat"
	f.VSwitches = append(f.VSwitches, VSwitch{VSwitchId: "vsw-nat", VpcId: "vpc-1", CidrBlock: "10.0.9.0/24"})
	table := RouteTable{RouteTableId: "vtb-nat", RouteTableType: "Custom", AssociateType: "VSwitch", VpcId: "vpc-1"}
	table.VSwitchIds.VSwitchId = []string{"vsw-nat"}
	f.RouteTables = append(f.RouteTables, table)
	f.RouteEntries = append(f.RouteEntries, routes(t, "vtb-nat", entries)...)
}

// inbound gives instance i-a an EIP, 47.0.0.9, and the VPC's IPv4 gateway a table.
func inbound(t *testing.T, f *Facts, entries string) {
	f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
	table := RouteTable{RouteTableId: "vtb-gw", RouteTableType: "Custom", AssociateType: "Gateway", VpcId: "vpc-1"}
	table.GatewayIds.GatewayIds = []string{"ipv4gw-1"}
	f.RouteTables = append(f.RouteTables, table)
	f.RouteEntries = append(f.RouteEntries, routes(t, "vtb-gw", entries)...)
}

// gateway has a NAT gateway with the default route, and EIPs 47.0.0.1 and .2 on it.
func gateway(t *testing.T) *Facts {
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system+"0.0.0.0/0 Custom NatGateway:ngw-1; ::/0 Custom IPv6Gateway:ipv6gw-1")
	f.NATGateways = []NATGateway{{NatGatewayId: "ngw-1", Status: "Available", BusinessStatus: "Normal", VpcId: "vpc-1"}}
	f.EIPs = []EIP{eip("47.0.0.1", "Nat", "ngw-1"), eip("47.0.0.2", "Nat", "ngw-1")}
	f.HaVips = []HaVip{{HaVipId: "havip-1", IpAddress: "10.0.0.50", VpcId: "vpc-1", MasterInstanceId: "i-c"}}
	f.IPv6Addresses = []IPv6Address{{Ipv6AddressId: "ipv6-1", Ipv6Address: "fd00::1", Ipv6GatewayId: "ipv6gw-1", VpcId: "vpc-1"}}
	b := &f.IPv6Addresses[0].Ipv6InternetBandwidth
	b.Ipv6InternetBandwidthId, b.Bandwidth, b.BusinessStatus = "ipv6bw-1", 5, "Normal"
	return f
}

func eip(addr, typ, id string) EIP {
	return EIP{AllocationId: "eip-" + addr, IpAddress: addr, Status: "InUse", BusinessStatus: "Normal", InstanceType: typ, InstanceId: id, Bandwidth: "5"}
}

// visible is an EIP that interface eni-a has itself.
func visible(addr, mode string) EIP {
	e := eip(addr, "NetworkInterface", "eni-a")
	e.Mode = mode
	return e
}

func snat(source, ip string) SNATEntry {
	e := SNATEntry{SnatEntryId: "snat-" + source, NatGatewayId: "ngw-1", SnatIp: ip, Status: "Available"}
	if strings.HasPrefix(source, "vsw") {
		e.SourceVSwitchId = source
	} else {
		e.SourceCIDR = source
	}
	return e
}

func dnat(protocol, external, internal string) ForwardEntry {
	e := ForwardEntry{ForwardEntryId: "fwd-1", NatGatewayId: "ngw-1", Status: "Available", IpProtocol: protocol}
	e.ExternalIp, e.ExternalPort, _ = strings.Cut(external, " ")
	e.InternalIp, e.InternalPort, _ = strings.Cut(internal, " ")
	return e
}

// TestPublicAddresses is a decision table: what the Internet sees of an interface,
// and the interface of the Internet.
func TestPublicAddresses(t *testing.T) {
	const (
		out = "tcp 10.0.0.1 8.8.8.8:443"
		as  = "left by the Internet 47.0.0."
	)
	const (
		out6 = "tcp fd00::1 [2001:4860::8]:443"
		in6  = "tcp 2001:4860::9 [fd00::1]:80"
	)
	in := func(dst string) string { return "tcp 203.0.113.9 " + dst }
	rows := []struct {
		doc    string
		change func(f *Facts)
		packet string
		want   string
	}{
		// SNAT.
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")} }, out, as + "1:45678 -> 8.8.8.8:443"},
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("10.0.0.0/24", "47.0.0.1")} }, out, as + "1:"},
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("10.0.0.1", "47.0.0.1")} }, out, as + "1:"},
		{pageSNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("10.0.0.0/8", "47.0.0.1"), snat("10.0.0.1/32", "47.0.0.2")}
		}, out, as + "2:"},
		{pageSNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("10.0.0.1/32", "47.0.0.2"), snat("vsw-1", "47.0.0.1")}
		}, out, as + "2:"},
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.2"), snat("10.0.0.0/8", "47.0.0.1")} }, out, as + "2:"},
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("vsw-2", "47.0.0.1")} }, out, "CloudNoSNAT: no snat entry on nat gateway ngw-1 for 10.0.0.1"},
		{pageSNAT, func(f *Facts) {}, out, "CloudNoSNAT: no snat entry on nat gateway ngw-1 for 10.0.0.1"},
		{pageSNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.SNATEntries[0].Status = "Pending"
		}, out, "CloudNoSNAT: no snat entry on nat gateway ngw-1 for 10.0.0.1: snat-vsw-1 is Pending"},
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("172.20.0.0/16", "47.0.0.1")} }, "tcp 172.20.0.5 8.8.8.8:443", as + "1:"}, // a pod whose range is routed to the node
		{pageSNAT, func(f *Facts) { f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")} }, "tcp 172.20.0.5 8.8.8.8:443", "CloudNoSNAT: no snat entry on nat gateway ngw-1 for 172.20.0.5"},
		{pageSNAT, func(f *Facts) { delete(f.Read, describeSNATEntries) }, out, "unknown SnapshotMissing: vpc.DescribeSnatTableEntries was not read"},
		{pageDNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.ForwardEntries = []ForwardEntry{dnat("Any", "47.0.0.2 Any", "10.0.0.1 Any")}
		}, out, as + "2:"}, // its IP mapping comes first
		// States of the gateway and of its EIP.
		{pageNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.NATGateways[0].BusinessStatus = "FinancialLocked"
		}, out, "CloudNoSNAT: NAT gateway ngw-1 translates nothing: its business status is FinancialLocked"},
		{pageNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.NATGateways[0].Status = "Deleting"
		}, out, "CloudNoSNAT: NAT gateway ngw-1 translates nothing: its status is Deleting"},
		{pageNAT, func(f *Facts) { f.NATGateways = nil }, out, "CloudNoNextHop: no next hop for destination ip 8.8.8.8: there is no NatGateway ngw-1"},
		{pageEIP, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.EIPs[0].BusinessStatus = "FinancialLocked"
		}, out, "CloudNoPublicIP: EIP 47.0.0.1 (eip-47.0.0.1) of ngw-1 carries no traffic"},
		{pageEIP, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.EIPs[0].InstanceId = "ngw-2"
		}, out, "CloudNoPublicIP: EIP 47.0.0.1 of entry snat-vsw-1 is bound to ngw-2"},
		// EIPs come before SNAT.
		{pageSNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
		}, out, as + "9:"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "NetworkInterface", "eni-a")) }, out, as + "9:"},
		{pageEIP, func(f *Facts) {
			e := eip("47.0.0.9", "NetworkInterface", "eni-a")
			e.PrivateIpAddress = "10.0.0.11"
			f.EIPs = append(f.EIPs, e)
		}, "tcp 10.0.0.11 8.8.8.8:443", as + "9:"},
		{pageEIP, func(f *Facts) {
			e := eip("47.0.0.9", "NetworkInterface", "eni-a")
			e.PrivateIpAddress = "10.0.0.11"
			f.EIPs = append(f.EIPs, e)
		}, out, "CloudNoSNAT"}, // that of another address
		// An EIP that the interface has itself: nothing is translated.
		{pageVisible, func(f *Facts) { f.EIPs = append(f.EIPs, visible("47.0.0.9", "BINDED")) }, "tcp 47.0.0.9 8.8.8.8:443", as + "9:45678 -> 8.8.8.8:443"},
		{pageVisible, func(f *Facts) { f.EIPs = append(f.EIPs, visible("47.0.0.9", "BINDED")) }, in("47.0.0.9:80"), "to eni-a 203.0.113.9:45678 -> 47.0.0.9:80"},
		{pageVisible, func(f *Facts) { f.EIPs = append(f.EIPs, visible("47.0.0.9", "BINDED")) }, out, "CloudNoSNAT"}, // its private address
		{pageVisible, func(f *Facts) {
			f.EIPs = append(f.EIPs, visible("47.0.0.9", "BINDED"))
			f.NetworkACLs, f.VSwitches[0].NetworkAclId = []NetworkACL{{NetworkAclId: "nacl-1"}}, "nacl-1"
		}, in("47.0.0.9:80"), "to eni-a "}, // no ACL sees it
		{pageVisible, func(f *Facts) {
			f.EIPs = append(f.EIPs, visible("47.0.0.8", "MULTI_BINDED"), visible("47.0.0.9", "MULTI_BINDED"))
		}, "tcp 47.0.0.9 8.8.8.8:443", as + "9:"},
		{pageVisible, func(f *Facts) {
			f.EIPs = append(f.EIPs, visible("47.0.0.8", "MULTI_BINDED"), visible("47.0.0.9", "MULTI_BINDED"))
		}, in("47.0.0.9:80"), "to eni-a 203.0.113.9:45678 -> 47.0.0.9:80"},
		{pageVisible, func(f *Facts) {
			f.EIPs = append(f.EIPs, visible("47.0.0.9", "MULTI_BINDED"))
			f.NetworkACLs, f.VSwitches[0].NetworkAclId = []NetworkACL{{NetworkAclId: "nacl-1"}}, "nacl-1"
		}, in("47.0.0.9:80"), "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-1"},
		// A gateway between private networks is not to the Internet.
		{pagePrivateNAT, func(f *Facts) { f.NATGateways[0].NetworkType = "intranet" }, out, "unknown UnmodelledRule: route entry rte-5: 0.0.0.0/0"},
		{pagePrivateNAT, func(f *Facts) {
			f.NATGateways[0].NetworkType = "intranet"
			f.RouteEntries[4].DestinationCidrBlock = "192.168.0.0/16"
		}, "tcp 10.0.0.1 192.168.0.1:443", "unknown UnmodelledRule: route entry rte-5: 192.168.0.0/16"},
		{"ECS API, DescribeInstances", func(f *Facts) { f.Instances[0].PublicIpAddress.IpAddress = []string{"47.0.0.9"} }, out, as + "9:"},
		{"ECS API, DescribeInstances", func(f *Facts) { f.Instances[0].EipAddress.IpAddress = "47.0.0.9" }, out, as + "9:"},
		{"ECS API, DescribeNetworkInterfaces", func(f *Facts) {
			f.Interfaces[0].PrivateIpSets.PrivateIpSet[0].AssociatedPublicIp.PublicIpAddress = "47.0.0.9"
		}, "tcp 10.0.0.11 8.8.8.8:443", as + "9:"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a")) }, "tcp 10.0.0.11 8.8.8.8:443", "CloudNoSNAT"},
		{pageEIP, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
			f.EIPs[2].OperationLocks.LockReason = []struct{ LockReason string }{{"security"}}
		}, out, "CloudNoPublicIP: EIP 47.0.0.9 (eip-47.0.0.9) of i-a carries no traffic: it is locked: security"},
		{pageEIP, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
			f.EIPs[2].Status = "Associating"
		}, out, "CloudNoPublicIP: EIP 47.0.0.9 (eip-47.0.0.9) of i-a carries no traffic: its status is Associating"},
		// Other default routes, and none.
		{pageEntries, func(f *Facts) { f.RouteEntries[4].NextHops.NextHop[0].NextHopType = "Ipv4Gateway" }, out, "CloudNoPublicIP: 10.0.0.1 of eni-a has no public IP"},
		{pageEntries, func(f *Facts) {
			f.RouteEntries[4].NextHops.NextHop[0].NextHopType = "Ipv4Gateway"
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
		}, out, as + "9:"},
		{pageEntries, func(f *Facts) {
			f.RouteEntries[4].NextHops.NextHop[0] = NextHop{NextHopType: "Instance", NextHopId: "i-b"}
		}, out, "to eni-b 10.0.0.1:45678 -> 8.8.8.8:443"}, // a gateway of one's own
		{pageEntries, func(f *Facts) {
			f.RouteEntries[4].NextHops.NextHop[0] = NextHop{NextHopType: "VpcPeer", NextHopId: "pcc-1"}
		}, out, "unknown CloudUnexpectedNextHop: expect next hop for destination ip 8.8.8.8 to be NatGateway, but VpcPeer pcc-1"},
		{pageEntries, func(f *Facts) { f.RouteEntries[4].NextHops.NextHop[0] = NextHop{NextHopType: "service"} }, out, "CloudUnexpectedNextHop: expect next hop for destination ip 8.8.8.8 to be NatGateway, but service"},
		{pageRoutes, func(f *Facts) { f.RouteEntries = f.RouteEntries[:4] }, out, "CloudNoRouteEntry: no route entry for destination ip 8.8.8.8"},
		{pageRoutes, func(f *Facts) { f.RouteEntries, f.NATGateways = f.RouteEntries[:4], nil }, out, "CloudNoPublicIP: 10.0.0.1 of eni-a has no public IP"},
		{pageRoutes, func(f *Facts) {
			f.RouteEntries = f.RouteEntries[:4]
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
		}, out, as + "9:"},
		// IPv6 gateways: nothing is translated, but the address needs bandwidth.
		{pageIPv6, func(f *Facts) {}, out6, "left by the Internet [fd00::1]:45678 -> [2001:4860::8]:443"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses[0].Ipv6InternetBandwidth.Ipv6InternetBandwidthId = "" }, out6, "CloudNoPublicIP: IPv6 address fd00::1 is not on the Internet: it has no Internet bandwidth"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses[0].Ipv6InternetBandwidth.Bandwidth = 0 }, out6, "CloudNoPublicIP: IPv6 address fd00::1 is not on the Internet: its Internet bandwidth is 0"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses[0].Ipv6InternetBandwidth.BusinessStatus = "FinancialLocked" }, out6, "CloudNoPublicIP: IPv6 address fd00::1 is not on the Internet: the business status"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses = nil }, out6, "CloudNoPublicIP: fd00::1 is no IPv6 address that IPv6Gateway ipv6gw-1 knows"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses = nil; delete(f.Read, describeIPv6) }, out6, "unknown SnapshotMissing: vpc.DescribeIpv6Addresses was not read, so whether fd00::1 has bandwidth"},
		{pageIPv6, func(f *Facts) { f.RouteEntries = f.RouteEntries[:5] }, out6, "CloudNoRouteEntry: no route entry for destination ip 2001:4860::8"},
		{pageIPv6, func(f *Facts) {}, in6, "to eni-a [2001:4860::9]:45678 -> [fd00::1]:80"},
		{pageIPv6, func(f *Facts) { f.IPv6Addresses[0].Ipv6InternetBandwidth.Ipv6InternetBandwidthId = "" }, in6, "CloudNoPublicIP: IPv6 address fd00::1 is not on the Internet"},
		{pageIPv6, func(f *Facts) {
			f.EgressOnly = []EgressOnlyRule{{Ipv6EgressOnlyRuleId: "ipv6py-1", InstanceId: "ipv6-1", Status: "Created"}}
		}, in6, "CloudNoPublicIP: IPv6 address fd00::1 takes nothing from the Internet: egress-only rule ipv6py-1"},
		{pageIPv6, func(f *Facts) {
			f.EgressOnly = []EgressOnlyRule{{Ipv6EgressOnlyRuleId: "ipv6py-1", InstanceId: "ipv6-1", Status: "Created"}}
		}, out6, "left by the Internet"},
		// IPv4 gateways: with one, public addresses need a route to it, and so do NAT gateways.
		{pageIPv4, func(f *Facts) {
			f.RouteEntries = routes(t, "vtb-1", system+"1.2.3.4/32 Custom Ipv4Gateway:ipv4gw-1")
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
		}, out, "CloudNoRouteEntry: no route entry for destination ip 8.8.8.8 in route table vtb-1 of vSwitch vsw-1: the VPC has an IPv4 gateway"},
		{pageIPv4, func(f *Facts) { natIn(t, f, "0.0.0.0/0 Custom Ipv4Gateway:ipv4gw-1") }, out, as + "1:"},
		{pageIPv4, func(f *Facts) { natIn(t, f, "1.2.3.4/32 Custom Ipv4Gateway:ipv4gw-1") }, out, "CloudNoRouteEntry: no route entry for destination ip 8.8.8.8 in route table vtb-nat"},
		{pageIPv4, func(f *Facts) {
			natIn(t, f, "1.2.3.4/32 Custom Ipv4Gateway:ipv4gw-1; 0.0.0.0/0 Custom VpcPeer:pcc-1")
		}, out, "CloudUnexpectedNextHop: the next hop for destination ip 8.8.8.8 in the vSwitch of NAT gateway ngw-1 is not the IPv4 gateway"},
		// Tables of gateways lead what comes in.
		{pageGateway, func(f *Facts) { inbound(t, f, "10.0.0.0/24 System local") }, in("47.0.0.9:80"), "to eni-a 203.0.113.9:45678 -> 10.0.0.1:80"},
		{pageGateway, func(f *Facts) { inbound(t, f, "10.0.0.0/24 Custom Instance:i-b") }, in("47.0.0.9:80"), "to eni-b 203.0.113.9:45678 -> 10.0.0.1:80"},
		{pageGateway, func(f *Facts) { inbound(t, f, "10.0.0.0/24 Custom NetworkInterface:eni-x") }, in("47.0.0.9:80"), "CloudNoNextHop: no next hop for destination ip 10.0.0.1: there is no NetworkInterface eni-x"},
		{pageGateway, func(f *Facts) { inbound(t, f, "10.0.0.0/24 Custom GatewayLoadBalancerEndpoint:ep-1") }, in("47.0.0.9:80"), "unknown UnmodelledRule: entry rte-1: 10.0.0.0/24"},
		{pageGateway, func(f *Facts) { inbound(t, f, "10.0.0.0/24 Custom") }, in("47.0.0.9:80"), "CloudNoNextHop: no next hop for destination ip 10.0.0.1"},
		{pageGateway, func(f *Facts) {
			inbound(t, f, "10.0.0.0/24 Custom Instance:i-b")
			f.RouteEntries[len(f.RouteEntries)-1].Status = "Deleting"
		}, in("47.0.0.9:80"), "unknown CloudNoNextHop: no next hop for destination ip 10.0.0.1: route entry rte-1 is Deleting"},
		// From the Internet.
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a")) }, in("47.0.0.9:80"), "to eni-a 203.0.113.9:45678 -> 10.0.0.1:80"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "NetworkInterface", "eni-d")) }, in("47.0.0.9:80"), "to eni-d 203.0.113.9:45678 -> 10.0.1.4:80"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-1")) }, in("47.0.0.9:80"), "to eni-c 203.0.113.9:45678 -> 10.0.0.50:80"},
		{pageHaVip, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-1"))
			f.HaVips[0].MasterInstanceId = ""
		}, in("47.0.0.9:80"), "CloudNoNextHop: no next hop for destination ip 10.0.0.50: HaVip havip-1 is with none of its instances"},
		{pageHaVip, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-9"))
		}, in("47.0.0.9:80"), "unknown UnmodelledRule: EIP 47.0.0.9 is bound to HaVip havip-9"},
		{pageHaVip, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-1"))
			f.HaVips[0].MasterInstanceId = "i-a"
		}, "tcp 10.0.0.50 8.8.8.8:443", as + "9:"},
		{pageHaVip, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-1"))
			f.HaVips[0].MasterInstanceId = "i-a"
		}, out, "CloudNoSNAT"},
		{pageEIP, func(f *Facts) {
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
			f.EIPs[2].BusinessStatus = "FinancialLocked"
		}, in("47.0.0.9:80"), "CloudNoPublicIP: EIP 47.0.0.9"},
		{pageEIP, func(f *Facts) {}, in("47.9.9.9:80"), "CloudNoPublicIP: 47.9.9.9 is no public address of the cloud"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80", "10.0.0.3 8080")} }, in("47.0.0.1:80"), "to eni-c 203.0.113.9:45678 -> 10.0.0.3:8080"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80/90", "10.0.0.3 8080/8090")} }, in("47.0.0.1:85"), "to eni-c 203.0.113.9:45678 -> 10.0.0.3:8085"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80", "10.0.0.3 8080")} }, in("47.0.0.1:81"), "CloudNoPublicIP: NAT gateway ngw-1 has no DNAT entry for tcp 203.0.113.9:45678 > 47.0.0.1:81"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 53", "10.0.0.3 53")} }, "udp 203.0.113.9 47.0.0.1:53", "CloudNoPublicIP: NAT gateway ngw-1 has no DNAT entry"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("Any", "47.0.0.1 Any", "10.0.0.3 Any")} }, in("47.0.0.1:81"), "to eni-c 203.0.113.9:45678 -> 10.0.0.3:81"},
		{pageDNAT, func(f *Facts) {
			f.ForwardEntries = []ForwardEntry{dnat("Any", "47.0.0.1 Any", "10.0.0.3 Any"), dnat("TCP", "47.0.0.1 81", "10.0.0.1 8081")}
		}, in("47.0.0.1:81"), "to eni-a 203.0.113.9:45678 -> 10.0.0.1:8081"},
		{pageDNAT, func(f *Facts) {
			f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80", "10.0.0.3 8080")}
			f.ForwardEntries[0].Status = "Deleting"
		}, in("47.0.0.1:80"), "CloudNoPublicIP"},
		{pageDNAT, func(f *Facts) { f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80", "10.0.0.99 8080")} }, in("47.0.0.1:80"), "unknown SnapshotMissing: the interface that has 10.0.0.99"},
		{pageDNAT, func(f *Facts) { delete(f.Read, describeForwardEntries) }, in("47.0.0.1:80"), "unknown SnapshotMissing: vpc.DescribeForwardTableEntries was not read"},
		// From one public address to another.
		{pageSNAT, func(f *Facts) {
			f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
			f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-b"))
		}, "tcp 10.0.0.1 47.0.0.9:80", "to eni-b 47.0.0.1:45678 -> 10.0.1.2:80"},
	}
	if len(rows) < 20 {
		t.Errorf("%d rows", len(rows))
	}
	for n, row := range rows {
		t.Run(fmt.Sprintf("%d %s", n+1, row.packet), func(t *testing.T) {
			f := gateway(t)
			row.change(f)
			from := "eni-a"
			if strings.Contains(row.packet, "203.0.113.9 ") || row.packet == in6 {
				from = "internet"
			}
			got := (&journey{c: Compile(f)}).carry(t, from, row.packet, false)
			if !strings.HasPrefix(got.text(), row.want) {
				t.Errorf("%s: %s, want %s", row.doc, got.text(), row.want)
			}
		})
	}
}

func TestAnswersGoBackThroughTheTranslation(t *testing.T) {
	f := gateway(t)
	f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"), eip("47.0.0.8", "EcsInstance", "i-b"))
	j := &journey{c: Compile(f)}
	j.carry(t, "internet", "tcp 203.0.113.9 47.0.0.9:80", false)
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1:80 203.0.113.9:45678", true); got.text() != "left by the Internet 47.0.0.9:80 -> 203.0.113.9:45678" {
		t.Errorf("to the Internet: %s", got.text())
	}
	// Both ends are in the cloud: the answer passes both translations.
	j = &journey{c: Compile(f)}
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1 47.0.0.8:80", false); got.text() != "to eni-b 47.0.0.9:45678 -> 10.0.1.2:80" {
		t.Errorf("%s", got.text())
	}
	if got := j.carry(t, "eni-b", "tcp 10.0.1.2:80 47.0.0.9:45678", true); got.text() != "to eni-a 47.0.0.8:80 -> 10.0.0.1:45678" {
		t.Errorf("back: %s", got.text())
	}
}

func TestAnEIPAndARouteToAnInstanceAreBothPossible(t *testing.T) {
	f := gateway(t)
	f.RouteEntries[4].NextHops.NextHop[0] = NextHop{NextHopType: "Instance", NextHopId: "i-b"}
	f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a"))
	for doubtful, want := range map[bool]string{false: "left by the Internet 47.0.0.9", true: "to eni-b"} {
		got := (&journey{c: Compile(f), doubtful: doubtful}).carry(t, "eni-a", "tcp 10.0.0.1 8.8.8.8:443", false)
		if !strings.HasPrefix(got.text(), want) || len(got.doubts) != 1 {
			t.Errorf("%s %v, want %s", got.text(), got.doubts, want)
		}
	}
}

// TCP port 25 is restricted by default, and no API tells whether it still is.
func TestMailToTheInternetIsInDoubt(t *testing.T) {
	f := gateway(t)
	f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
	c := Compile(f)
	for packet, doubts := range map[string]int{"tcp 10.0.0.1 8.8.8.8:25": 1, "udp 10.0.0.1 8.8.8.8:25": 0, "tcp 10.0.0.1 8.8.8.8:465": 0, "tcp 10.0.0.1 10.0.1.2:25": 0} {
		if got := (&journey{c: c}).carry(t, "eni-a", packet, false); len(got.doubts) != doubts {
			t.Errorf("%s: %s, in doubt %q", packet, got.text(), got.doubts)
		}
	}
}

func TestSNATPoolsTakeAnyAddress(t *testing.T) {
	f := gateway(t)
	f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1, 47.0.0.2")}
	f.EIPs[1].BusinessStatus = "FinancialLocked"
	c := Compile(f)
	for take, want := range []string{"left by the Internet 47.0.0.1:45678", "CloudNoPublicIP: EIP 47.0.0.2"} {
		got := (&journey{c: c, take: take}).carry(t, "eni-a", "tcp 10.0.0.1 8.8.8.8:443", false)
		if !strings.HasPrefix(got.text(), want) || fmt.Sprint(got.choices) != "[[0.5 0.5]]" {
			t.Errorf("%s %v, want %s", got.text(), got.choices, want)
		}
	}
}

// What comes in for a NAT gateway or a load balancer may meet a firewall before, if the
// table of the VPC's gateway has one.
func TestAGatewaysTableThatWasNotRead(t *testing.T) {
	f := gateway(t)
	inbound(t, f, "10.0.9.0/24 Custom Instance:i-b")
	f.Failed = map[string]string{describeRouteEntries: "Throttling.User"}
	got := (&journey{c: Compile(f), doubtful: true}).carry(t, "internet", "tcp 203.0.113.9 47.0.0.9:80", false)
	if len(got.doubts) == 0 || !strings.Contains(got.doubts[0], "whether the gateway's route table has an entry for 10.0.0.1") || !strings.Contains(got.text(), "CloudAPIFailed") {
		t.Errorf("%s, in doubt %q", got.text(), got.doubts)
	}
}

func TestAFirewallBeforeANATGateway(t *testing.T) {
	f := gateway(t)
	inbound(t, f, "10.0.0.0/24 Custom Instance:i-b")
	f.ForwardEntries = []ForwardEntry{dnat("TCP", "47.0.0.1 80", "10.0.0.3 8080")}
	got := (&journey{c: Compile(f)}).carry(t, "internet", "tcp 203.0.113.9 47.0.0.1:80", false)
	if len(got.doubts) != 1 || !strings.Contains(got.doubts[0], "may lead what is for ngw-1 elsewhere") || !strings.HasPrefix(got.text(), "to eni-c") {
		t.Errorf("%s, in doubt %q", got.text(), got.doubts)
	}
}

func TestLargePackets(t *testing.T) {
	f := gateway(t)
	f.SNATEntries = []SNATEntry{snat("vsw-1", "47.0.0.1")}
	c := Compile(f)
	for _, row := range []struct {
		to      string
		length  int
		df      bool
		doubts  int
		dropped bool
	}{
		{"10.0.1.2:80", 8500, true, 0, false},
		{"10.0.1.2:80", 8501, true, 0, true},
		{"10.0.1.2:80", 8501, false, 0, false},
		{"8.8.8.8:80", 1500, true, 0, false},
		{"8.8.8.8:80", 1501, true, 1, false},
		{"8.8.8.8:80", 1501, false, 0, false},
	} {
		j := &journey{c: c, length: row.length, df: row.df}
		got := j.carry(t, "eni-a", "udp 10.0.0.1 "+row.to, false)
		if len(got.doubts) != row.doubts || row.dropped != (got.Finding.Code == verdict.MTUExceeded) {
			t.Errorf("%+v: %s, in doubt %q", row, got.text(), got.doubts)
		}
	}
}
