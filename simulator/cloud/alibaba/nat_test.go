package alibaba

import (
	"fmt"
	"strings"
	"testing"
)

const (
	pageSNAT = "NAT Gateway, Create and manage SNAT entries"
	pageDNAT = "NAT Gateway, Create and manage DNAT entries"
	pageEIP  = "VPC API, DescribeEipAddresses"
	pageNAT  = "VPC API, DescribeNatGateways"
)

// gateway has a NAT gateway with the default route, and EIPs 47.0.0.1 and .2 on it.
func gateway(t *testing.T) *Facts {
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system+"0.0.0.0/0 Custom NatGateway:ngw-1; ::/0 Custom IPv6Gateway:ipv6gw-1")
	f.NATGateways = []NATGateway{{NatGatewayId: "ngw-1", Status: "Available", BusinessStatus: "Normal", VpcId: "vpc-1"}}
	f.EIPs = []EIP{eip("47.0.0.1", "Nat", "ngw-1"), eip("47.0.0.2", "Nat", "ngw-1")}
	return f
}

func eip(addr, typ, id string) EIP {
	return EIP{AllocationId: "eip-" + addr, IpAddress: addr, Status: "InUse", BusinessStatus: "Normal", InstanceType: typ, InstanceId: id, Bandwidth: "5"}
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
		{"VPC, IPv6 gateways", func(f *Facts) {}, "tcp fd00::1 [2001:4860::8]:443", "unknown SnapshotMissing: whether fd00::1 has bandwidth"},
		// From the Internet.
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "EcsInstance", "i-a")) }, in("47.0.0.9:80"), "to eni-a 203.0.113.9:45678 -> 10.0.0.1:80"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "NetworkInterface", "eni-d")) }, in("47.0.0.9:80"), "to eni-d 203.0.113.9:45678 -> 10.0.1.4:80"},
		{pageEIP, func(f *Facts) { f.EIPs = append(f.EIPs, eip("47.0.0.9", "HaVip", "havip-1")) }, in("47.0.0.9:80"), "unknown UnmodelledRule: EIP 47.0.0.9 is bound to HaVip havip-1"},
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
			if strings.Contains(row.packet, "203.0.113.9 ") {
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
