package alibaba

import (
	"strings"
	"testing"
)

const pageNetworkACL = "VPC, Network ACLs"

// TestNetworkACLs is a decision table. The ACL is that of one vSwitch: eni-a and eni-c are in
// vsw-1, eni-b and eni-d in vsw-2, as NLB nlb-1 (10.0.1.200) is, whose backend is eni-b or eni-c.
func TestNetworkACLs(t *testing.T) {
	const (
		client   = "tcp 10.0.0.1 10.0.1.200:80"
		internet = "tcp 203.0.113.9 47.0.2.1:80"
		all      = "0.0.0.0/0"
		high     = "1024/65535"
	)
	rows := []struct {
		doc       string
		vswitch   int // of which it is the ACL
		in, out   string
		backend   string
		from, way string
		answer    string // from the backend, if it gets there
		want      string // of the last packet
	}{
		{"the first entry that matches decides", 2, "drop tcp 80/80 10.0.0.0/24; accept all -1/-1 " + all, "", "", "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "", "CloudNetworkACLDeny"},
		{"the first entry that matches decides", 2, "accept tcp 80/80 10.0.0.1/32; drop tcp 80/80 10.0.0.0/24", "", "", "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "", "to eni-b"},
		{"the port is that of the destination", 2, "accept tcp 80/80 " + all, "", "", "eni-a", "tcp 10.0.0.1:80 10.0.1.2:81", "", "CloudNetworkACLDeny"},
		{"IPv4 entries match no IPv6", 2, "accept all -1/-1 " + all, "", "", "eni-a", "tcp fd00::1 [fd00::2]:80", "", "CloudNetworkACLDeny"},
		{"nothing passes without entries", 1, "", "", "", "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "", "CloudNetworkACLDeny"},
		{"what stays in the vSwitch is not seen", 1, "", "", "", "eni-a", "tcp 10.0.0.1 10.0.0.3:80", "", "to eni-c"},
		{"name servers and metadata always pass", 1, "", "", "", "eni-a", "udp 10.0.0.1 100.100.2.136:53", "", "left by service"},
		{"name servers and metadata always pass", 1, "", "", "", "eni-a", "udp 10.0.0.1 100.100.2.118:53", "", "left by service"},
		{"name servers and metadata always pass", 1, "", "", "", "eni-a", "tcp 10.0.0.1 100.100.100.200:80", "", "left by service"},
		{"name servers and metadata always pass", 1, "", "", "", "eni-a", "tcp 10.0.0.1 100.100.3.1:80", "", "CloudNetworkACLDeny"},
		// An NLB has an interface in its vSwitch.
		{"clients of an NLB", 2, "accept all -1/-1 " + all, "accept all -1/-1 " + all, "i-b", "eni-a", client, "", "to eni-b 10.0.0.1:45678 -> 10.0.1.2:30080"},
		{"clients of an NLB", 2, "accept tcp 443/443 " + all, "", "i-b", "eni-a", client, "", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2 does not allow tcp 10.0.0.1:45678 > 10.0.1.200:80"},
		{"clients of an NLB", 2, "accept tcp 443/443 " + all, "", "i-b", "internet", internet, "", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2 does not allow tcp 203.0.113.9"},
		{"clients in its vSwitch", 2, "", "", "i-b", "eni-d", "tcp 10.0.1.4 10.0.1.200:80", "", "to eni-b"},
		{"backends in its vSwitch", 2, "accept tcp 80/80 " + all, "", "i-b", "eni-a", client, "", "to eni-b"},
		{"backends in another", 2, "accept tcp 80/80 " + all, "accept tcp 443/443 " + all, "i-c", "internet", internet, "", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2 does not allow tcp 203.0.113.9:45678 > 10.0.0.3:30080"},
		{"backends in another", 2, "accept tcp 80/80 " + all, "accept tcp 30080/30080 " + all, "i-c", "internet", internet, "", "to eni-c"},
		{"answers of backends in its vSwitch", 2, "accept tcp 80/80 " + all, "accept tcp 1/1023 " + all, "i-b", "eni-a", client, "tcp 10.0.1.2:30080 10.0.0.1:45678", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2"},
		{"answers of backends in another", 2, "accept tcp 80/80 " + all, "accept tcp 30080/30080 " + all + "; accept tcp " + high + " " + all, "i-c", "internet", internet, "tcp 10.0.0.3:30080 203.0.113.9:45678", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2 does not allow tcp 10.0.0.3:30080 > 203.0.113.9:45678 (ingress"},
		{"answers of backends in another", 2, "accept tcp 80/80 " + all + "; accept tcp " + high + " 10.0.0.0/24", "accept tcp 30080/30080 " + all, "i-c", "internet", internet, "tcp 10.0.0.3:30080 203.0.113.9:45678", "CloudNetworkACLDeny: network ACL nacl-1 of vSwitch vsw-2 does not allow tcp 47.0.2.1:80 > 203.0.113.9:45678 (egress"},
		{"answers of backends in another", 2, "accept tcp 80/80 " + all + "; accept tcp " + high + " 10.0.0.0/24", "accept tcp " + high + " " + all, "i-c", "internet", internet, "tcp 10.0.0.3:30080 203.0.113.9:45678", "left by the Internet 47.0.2.1:80 -> 203.0.113.9:45678"},
	}
	for _, row := range rows {
		f := loadBalancers(t)
		z := &f.NLB.LoadBalancers[0].ZoneMappings[0]
		z.VSwitchId, z.LoadBalancerAddresses[0].PrivateIPv4Address = "vsw-2", "10.0.1.200"
		if row.backend != "" {
			f.NLB.Servers[0].ServerId = row.backend
		}
		acl := NetworkACL{NetworkAclId: "nacl-1"}
		for text := range strings.SplitSeq(row.in, "; ") {
			if e := strings.Fields(text); len(e) > 0 {
				acl.IngressAclEntries.IngressAclEntry = append(acl.IngressAclEntries.IngressAclEntry, NetworkACLEntry{Policy: e[0], Protocol: e[1], Port: e[2], SourceCidrIp: e[3]})
			}
		}
		for text := range strings.SplitSeq(row.out, "; ") {
			if e := strings.Fields(text); len(e) > 0 {
				acl.EgressAclEntries.EgressAclEntry = append(acl.EgressAclEntries.EgressAclEntry, NetworkACLEntry{Policy: e[0], Protocol: e[1], Port: e[2], DestinationCidrIp: e[3]})
			}
		}
		f.NetworkACLs, f.VSwitches[row.vswitch-1].NetworkAclId = []NetworkACL{acl}, acl.NetworkAclId
		j := &journey{c: Compile(f)}
		got := j.carry(t, row.from, row.way, false)
		if row.answer != "" {
			again := j.carry(t, row.from, row.way, false) // another packet goes the same way
			if again.text() != got.text() || !strings.HasPrefix(got.text(), "to ") {
				t.Errorf("%s: %s, then %s", row.doc, got.text(), again.text())
				continue
			}
			got = j.carry(t, got.To.ID, row.answer, true)
		}
		if !strings.HasPrefix(got.text(), row.want) || len(got.doubts) > 0 {
			t.Errorf("%s, %s: %s, in doubt %q, want %s", pageNetworkACL, row.doc, got.text(), got.doubts, row.want)
		}
	}
}
