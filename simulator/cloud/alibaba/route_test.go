package alibaba

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	pageRoutes  = "VPC, Route tables"
	pageEntries = "VPC API, DescribeRouteEntryList"
)

// TestRoutes is a decision table: what interface eni-a, in vSwitch vsw-1, sends to a
// destination. The entries are those of the system table; after "vtb-2:" those of a
// table of vSwitch vsw-1 alone.
func TestRoutes(t *testing.T) {
	const from = " 10.0.0.1:45678 -> "
	rows := []struct{ doc, entries, dst, want string }{
		// The VPC itself.
		{pageRoutes, system, "10.0.0.3:80", "to eni-c" + from + "10.0.0.3:80"},
		{pageRoutes, system, "10.0.1.2:80", "to eni-b" + from + "10.0.1.2:80"},
		{pageRoutes, system, "10.0.1.4:80", "to eni-d" + from + "10.0.1.4:80"},
		{pageRoutes, system, "10.0.0.99:80", "unknown SnapshotMissing: no interface of VPC vpc-1"},
		{pageRoutes, system, "100.100.2.136:53", "left by service" + from + "100.100.2.136:53"},
		// No entry at all, and one without a next hop.
		{pageRoutes, system, "172.20.1.5:80", "CloudNoRouteEntry: no route entry for destination ip 172.20.1.5 in route table vtb-1 of vSwitch vsw-1"},
		{pageRoutes, "", "10.0.1.2:80", "CloudNoRouteEntry: no route entry for destination ip 10.0.1.2"},
		{pageEntries, system + "172.20.1.0/24 Custom", "172.20.1.5:80", "CloudNoNextHop: no next hop for destination ip 172.20.1.5: route entry rte-5 of table vtb-1"},
		// The ranges of nodes' pods.
		{pageEntries, system + "172.20.1.0/24 Custom Instance:i-b", "172.20.1.5:80", "to eni-b" + from + "172.20.1.5:80"},
		{pageEntries, system + "172.20.1.0/24 Custom NetworkInterface:eni-d", "172.20.1.5:80", "to eni-d" + from + "172.20.1.5:80"},
		{pageEntries, system + "172.20.1.0/24 Custom Instance:i-gone", "172.20.1.5:80", "CloudNoNextHop: no next hop for destination ip 172.20.1.5: there is no Instance i-gone"},
		{pageEntries, system + "172.20.1.0/24 Custom NetworkInterface:eni-x", "172.20.1.5:80", "CloudNoNextHop: no next hop for destination ip 172.20.1.5: there is no NetworkInterface eni-x"},
		// The longest prefix, wherever it stands.
		{pageRoutes, system + "172.20.0.0/16 Custom Instance:i-c; 172.20.1.0/24 Custom Instance:i-b", "172.20.1.5:80", "to eni-b" + from + "172.20.1.5:80"},
		{pageRoutes, system + "172.20.1.0/24 Custom Instance:i-b; 172.20.0.0/16 Custom Instance:i-c", "172.20.1.5:80", "to eni-b" + from + "172.20.1.5:80"},
		{pageRoutes, system + "172.20.1.0/24 Custom Instance:i-b; 172.20.0.0/16 Custom Instance:i-c", "172.20.2.5:80", "to eni-c" + from + "172.20.2.5:80"},
		{pageRoutes, system + "0.0.0.0/0 Custom Instance:i-c; 172.20.1.5/32 Custom Instance:i-b", "172.20.1.5:80", "to eni-b" + from + "172.20.1.5:80"},
		{pageRoutes, "0.0.0.0/0 Custom Instance:i-c; " + system, "10.0.1.2:80", "to eni-b" + from + "10.0.1.2:80"},
		// Equal prefixes: the system's, the user's, what was learnt.
		{pageRoutes, "10.0.1.0/24 Custom Instance:i-c; " + system, "10.0.1.2:80", "to eni-b" + from + "10.0.1.2:80"},
		{pageRoutes, system + "192.168.0.0/16 CEN Attachment:tr-1; 192.168.0.0/16 Custom Instance:i-b", "192.168.0.1:80", "to eni-b" + from + "192.168.0.1:80"},
		{pageRoutes, system + "100.100.0.0/16 Custom Instance:i-b", "100.100.2.136:53", "left by service" + from + "100.100.2.136:53"},
		// Tables of vSwitches.
		{pageRoutes, system + "172.20.1.0/24 Custom Instance:i-b; vtb-2: " + system, "172.20.1.5:80", "CloudNoRouteEntry: no route entry for destination ip 172.20.1.5 in route table vtb-2"},
		{pageRoutes, system + "172.20.1.0/24 Custom Instance:i-b; vtb-2: " + system + "172.20.1.0/24 Custom Instance:i-c", "172.20.1.5:80", "to eni-c" + from + "172.20.1.5:80"},
		// What leads out of the VPC.
		{pageEntries, system + "192.168.0.0/16 Custom VpcPeer:pcc-1", "192.168.0.1:80", "left by VpcPeer pcc-1" + from + "192.168.0.1:80"},
		{pageEntries, system + "192.168.0.0/16 Custom RouterInterface:ri-1", "192.168.0.1:80", "left by RouterInterface ri-1" + from + "192.168.0.1:80"},
		{pageEntries, system + "192.168.0.0/16 BGP VpnGateway:vpn-1", "192.168.0.1:80", "left by VpnGateway vpn-1" + from + "192.168.0.1:80"},
		{pageEntries, system + "192.168.0.0/16 CEN Attachment:tr-1", "192.168.0.1:80", "left by Attachment tr-1" + from + "192.168.0.1:80"},
		{pageEntries, system + "192.168.0.0/16 Custom HaVip:havip-1", "192.168.0.1:80", "to eni-b" + from + "192.168.0.1:80"},
		{pageEntries, system + "192.168.0.0/16 Custom HaVip:havip-2", "192.168.0.1:80", "CloudNoNextHop: no next hop for destination ip 10.0.0.51: HaVip havip-2 is with none"},
		{pageEntries, system + "192.168.0.0/16 Custom HaVip:havip-9", "192.168.0.1:80", "CloudNoNextHop: no next hop for destination ip 192.168.0.1: there is no HaVip havip-9"},
		{pageEntries, system + "192.168.0.0/16 Custom Elsewhere:x-1", "192.168.0.1:80", "unknown UnmodelledRule: route entry"},
		{pageHaVip, system, "10.0.0.50:80", "to eni-b" + from + "10.0.0.50:80"},
		{pageHaVip, system, "10.0.0.51:80", "CloudNoNextHop: no next hop for destination ip 10.0.0.51: HaVip havip-2 is with none of its instances"},
		{pageEntries, system + "192.168.0.0/16 Custom NatGateway:ngw-1", "192.168.0.1:80", "CloudUnexpectedNextHop: the next hop for destination ip 192.168.0.1"},
		// Entries that are not available, and next hops that are off.
		{pageEntries, system + "172.20.1.0/24 Custom/Pending Instance:i-b", "172.20.1.5:80", "unknown CloudNoNextHop: no next hop for destination ip 172.20.1.5: route entry rte-5 is Pending"},
		{pageEntries, system + "172.20.1.0/24 Custom/Modifying Instance:i-b", "172.20.1.5:80", "unknown CloudNoNextHop"},
		{pageEntries, system + "172.20.1.0/24 Custom Instance:i-b!off", "172.20.1.5:80", "CloudNoNextHop"},
		{pageEntries, system + "172.20.1.0/24 Custom Instance:i-c!off,Instance:i-b", "172.20.1.5:80", "to eni-b" + from + "172.20.1.5:80"},
		// IPv6.
		{pageRoutes, system, "[fd00::2]:80", "to eni-b [fd00::1]:45678 -> [fd00::2]:80"},
		{pageRoutes, system + "fd00:1::/64 Custom Instance:i-b", "[fd00:1::5]:80", "to eni-b [fd00::1]:45678 -> [fd00:1::5]:80"},
		{pageRoutes, system + "0.0.0.0/0 Custom Instance:i-b", "[fd00:1::5]:80", "CloudNoRouteEntry"},
	}
	if len(rows) < 25 {
		t.Errorf("%d rows", len(rows))
	}
	for n, row := range rows {
		t.Run(fmt.Sprintf("%d %s", n+1, row.dst), func(t *testing.T) {
			f := small()
			f.HaVips = []HaVip{
				{HaVipId: "havip-1", IpAddress: "10.0.0.50", VpcId: "vpc-1", MasterInstanceId: "eni-b"},
				{HaVipId: "havip-2", IpAddress: "10.0.0.51", VpcId: "vpc-1"},
			}
			first, second, custom := strings.Cut(row.entries, "vtb-2:")
			f.RouteEntries = routes(t, "vtb-1", first)
			if custom {
				table := RouteTable{RouteTableId: "vtb-2", RouteTableType: "Custom", AssociateType: "VSwitch", VpcId: "vpc-1"}
				table.VSwitchIds.VSwitchId = []string{"vsw-1"}
				f.RouteTables = append(f.RouteTables, table)
				f.RouteEntries = append(f.RouteEntries, routes(t, "vtb-2", second)...)
			}
			j := &journey{c: Compile(f)}
			src := "10.0.0.1"
			if strings.HasPrefix(row.dst, "[") {
				src = "fd00::1"
			}
			got := j.carry(t, "eni-a", "tcp "+src+" "+row.dst, false)
			if !strings.HasPrefix(got.text(), row.want) {
				t.Errorf("%s: %s, want %s", row.doc, got.text(), row.want)
			}
		})
	}
}

func TestEqualCostNextHopsAreChosenByWeight(t *testing.T) {
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system+"172.20.1.0/24 Custom Instance:i-b*30,Instance:i-c*10,Instance:i-a*60!off")
	for take, want := range []string{"to eni-b", "to eni-c"} {
		j := &journey{c: Compile(f), take: take}
		got := j.carry(t, "eni-a", "tcp 10.0.0.1 172.20.1.5:80", false)
		if !strings.HasPrefix(got.text(), want) || fmt.Sprint(got.choices) != "[[0.75 0.25]]" {
			t.Errorf("%s %v, want %s", got.text(), got.choices, want)
		}
	}
}

func TestWhatWasNotReadOfRoutesIsUnknown(t *testing.T) {
	for _, c := range []struct {
		action, want string
		failed       bool
	}{
		{describeRouteTables, "unknown SnapshotMissing: vpc.DescribeRouteTableList was not read", false},
		{describeRouteEntries, "unknown CloudAPIFailed: vpc.DescribeRouteEntryList failed (Throttling)", true},
		{describeInterfaces, "unknown CloudAPIFailed: ecs.DescribeNetworkInterfaces failed (Throttling)", true},
	} {
		f := small()
		f.RouteEntries = routes(t, "vtb-1", system)
		dst := "10.0.1.2:80"
		switch c.action {
		case describeRouteTables:
			f.RouteTables, f.RouteEntries = nil, nil
		case describeRouteEntries:
			f.RouteEntries = nil
		case describeInterfaces:
			dst = "10.0.1.77:80"
		}
		delete(f.Read, c.action)
		if c.failed {
			f.Failed[c.action] = "Throttling"
		}
		got := (&journey{c: Compile(f)}).carry(t, "eni-a", "tcp 10.0.0.1 "+dst, false)
		if !strings.HasPrefix(got.text(), c.want) {
			t.Errorf("%s: %s", c.action, got.text())
		}
		if c.failed && !strings.Contains(got.Finding.Remedy, permission(c.action)) {
			t.Errorf("%s: %s", c.action, got.Finding.Remedy)
		}
	}
}

func TestRepliesNeedARouteBack(t *testing.T) {
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system)
	j := &journey{c: Compile(f)}
	got := j.carry(t, "eni-b", "tcp 10.0.1.2:80 172.20.1.5:45678", true)
	if want := "CloudSourceRouteMissing: no route entry for source ip 172.20.1.5, so replies do not come back in route table vtb-1"; !strings.HasPrefix(got.text(), want) {
		t.Errorf("%s, want %s", got.text(), want)
	}
}

func TestGroupsRememberConnectionsAndACLsDoNot(t *testing.T) {
	f := small()
	f.RouteEntries = routes(t, "vtb-1", system)
	// b may be asked on port 80 and ask nobody; its vSwitch lets in port 80, and everything out.
	f.Groups = append(f.Groups, SecurityGroup{SecurityGroupId: "sg-b", SecurityGroupType: "enterprise"})
	g := SecurityGroupAttribute{SecurityGroupId: "sg-b"}
	g.Permissions.Permission = []Permission{permissionOf(t, "ingress Accept 1 TCP 80/80 0.0.0.0/0")}
	f.GroupRules = append(f.GroupRules, g)
	f.Interfaces[1].SecurityGroupIds.SecurityGroupId = []string{"sg-b"}
	j := &journey{c: Compile(f)}
	if got := j.carry(t, "eni-b", "tcp 10.0.1.2:80 10.0.0.1:45678", false); got.Finding.Code != verdict.SecurityGroupDeny {
		t.Errorf("a packet that nobody asked for: %s", got.text())
	}
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1 10.0.1.2:81", false); got.Finding.Code != verdict.SecurityGroupDeny || !got.noted(verdict.SecurityGroupMismatch) {
		t.Errorf("another port: %s %v", got.text(), got.notes)
	}
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", false); !strings.HasPrefix(got.text(), "to eni-b") || len(got.notes) > 0 {
		t.Errorf("groups that do not intersect, but allow: %s %v", got.text(), got.notes)
	}
	if got := j.carry(t, "eni-b", "tcp 10.0.1.2:80 10.0.0.1:45678", true); !strings.HasPrefix(got.text(), "to eni-a") {
		t.Errorf("the answer: %s", got.text())
	}

	acl := NetworkACL{NetworkAclId: "nacl-1"}
	acl.IngressAclEntries.IngressAclEntry = []NetworkACLEntry{{NetworkAclEntryId: "nae-1", Policy: "accept", Protocol: "tcp", Port: "80/80", SourceCidrIp: "0.0.0.0/0"}}
	acl.EgressAclEntries.EgressAclEntry = []NetworkACLEntry{
		{NetworkAclEntryId: "nae-2", Policy: "drop", Protocol: "tcp", Port: "1024/65535", DestinationCidrIp: "10.0.0.0/24"},
		{NetworkAclEntryId: "nae-3", Policy: "accept", Protocol: "all", Port: "-1/-1", DestinationCidrIp: "0.0.0.0/0"},
	}
	f.NetworkACLs = []NetworkACL{acl}
	f.VSwitches[1].NetworkAclId = "nacl-1"
	j = &journey{c: Compile(f)}
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1 10.0.1.4:443", false); !strings.Contains(got.text(), "network ACL nacl-1 of vSwitch vsw-2 does not allow") || !strings.Contains(got.text(), "no entry matches") {
		t.Errorf("another port: %s", got.text())
	}
	if got := j.carry(t, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", false); !strings.HasPrefix(got.text(), "to eni-b") {
		t.Errorf("port 80: %s", got.text())
	}
	if got := j.carry(t, "eni-b", "tcp 10.0.1.2:80 10.0.0.1:45678", true); got.Finding.Code != verdict.CloudNetworkACLDeny || !strings.Contains(got.text(), "nae-2") {
		t.Errorf("the answer: %s", got.text())
	}
	if got := j.carry(t, "eni-d", "tcp 10.0.1.4 10.0.1.2:80", false); !strings.HasPrefix(got.text(), "to eni-b") {
		t.Errorf("inside the vSwitch: %s", got.text())
	}
}

func TestAVLANOnATrunkIsAnInterfaceOfItsOwn(t *testing.T) {
	f := small()
	f.Interfaces[2].Attachment.TrunkNetworkInterfaceId, f.Interfaces[2].Attachment.DeviceIndex = "eni-b", 7
	c := Compile(f)
	for _, q := range []struct {
		trunk string
		vlan  uint16
		want  string
	}{{"eni-b", 7, "eni-c"}, {"eni-b", 8, ""}, {"eni-a", 7, ""}} {
		if got, ok := c.Member(q.trunk, q.vlan); got.ID != q.want || ok != (q.want != "") {
			t.Errorf("VLAN %d of %s: %s, %v", q.vlan, q.trunk, got.ID, ok)
		}
	}
}

func TestCompileLeavesTheFactsAlone(t *testing.T) {
	f, again := small(), small()
	for _, f := range []*Facts{f, again} {
		f.Interfaces[0].InstanceId, f.Interfaces[0].Attachment.InstanceId = "", "i-a"
	}
	if c := Compile(f); c.interfaces["eni-a"].InstanceId != "i-a" || c.primary["i-a"] != c.interfaces["eni-a"] || !reflect.DeepEqual(f, again) {
		t.Errorf("%+v", f.Interfaces[0])
	}
}
