package alibaba

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// permissionOf reads a rule from "ingress Accept 1 TCP 80/80 10.0.0.0/8", with
// sport=, src= and dst= for what one direction has not got of its own.
func permissionOf(t *testing.T, text string) Permission {
	t.Helper()
	f := strings.Fields(text)
	if len(f) < 5 {
		t.Fatalf("rule %q", text)
	}
	priority, err := strconv.Atoi(f[2])
	if err != nil {
		t.Fatal(err)
	}
	p := Permission{Direction: f[0], Policy: f[1], Priority: number(priority), IpProtocol: f[3], PortRange: f[4], NicType: "intranet"}
	if p.PortRange == "none" {
		p.PortRange = ""
	}
	for _, word := range f[5:] {
		key, value, named := strings.Cut(word, "=")
		if !named {
			key, value = "src", word
			if same(p.Direction, "egress") {
				key = "dst"
			}
		}
		source := key == "src"
		switch {
		case key == "sport":
			p.SourcePortRange = value
		case key == "ports":
			p.PortRangeListId = value
		case key == "sports":
			p.SourcePortRangeListId = value
		case key == "nic":
			p.NicType = value
		case strings.HasPrefix(value, "sg-") && source:
			p.SourceGroupId = value
		case strings.HasPrefix(value, "sg-"):
			p.DestGroupId = value
		case strings.HasPrefix(value, "pl-") && source:
			p.SourcePrefixListId = value
		case strings.HasPrefix(value, "pl-"):
			p.DestPrefixListId = value
		case strings.Contains(value, ":") && source:
			p.Ipv6SourceCidrIp = value
		case strings.Contains(value, ":"):
			p.Ipv6DestCidrIp = value
		case source:
			p.SourceCidrIp = value
		default:
			p.DestCidrIp = value
		}
	}
	return p
}

// packetOf reads "tcp 10.0.0.1 10.0.0.2:80", with a source port if it matters.
func packetOf(t *testing.T, text string) *netstack.Packet {
	t.Helper()
	f := strings.Fields(text)
	p := &netstack.Packet{SrcPort: 45678, TTL: 64}
	end := func(s string) (netip.Addr, uint16) {
		if a, err := netip.ParseAddr(s); err == nil {
			return a, 0
		}
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			t.Fatalf("packet %q: %v", text, err)
		}
		return ap.Addr(), ap.Port()
	}
	var port uint16
	if p.Src, port = end(f[1]); port != 0 {
		p.SrcPort = port
	}
	p.Dst, p.DstPort = end(f[2])
	switch f[0] {
	case "tcp":
		p.Protocol = netstack.ProtoTCP
	case "udp":
		p.Protocol = netstack.ProtoUDP
	case "icmp":
		p.Protocol, p.ICMPType, p.SrcPort = netstack.ProtoICMP, 8, 1
	case "icmpv6":
		p.Protocol, p.ICMPType, p.SrcPort = netstack.ProtoICMPv6, 128, 1
	case "gre":
		p.Protocol, p.SrcPort = protoGRE, 0
	case "sctp":
		p.Protocol = netstack.ProtoSCTP
	default:
		t.Fatalf("packet %q", text)
	}
	return p
}

// readAll makes every action one that was read.
func readAll(f *Facts) *Facts {
	f.Read, f.Failed = map[string]bool{}, map[string]string{}
	for _, a := range actions {
		f.Read[a.name] = true
	}
	return f
}

func eni(id, group string, addrs ...string) NetworkInterface {
	n := NetworkInterface{NetworkInterfaceId: id, Type: "Primary", Status: "InUse", InstanceId: "i-" + id, VpcId: "vpc-1", VSwitchId: "vsw-1"}
	n.SecurityGroupIds.SecurityGroupId = strings.Split(group, "+")
	for _, a := range addrs {
		if strings.Contains(a, ":") {
			n.Ipv6Sets.Ipv6Set = append(n.Ipv6Sets.Ipv6Set, struct{ Ipv6Address string }{a})
		} else if n.PrivateIpAddress == "" {
			n.PrivateIpAddress = a
		} else if strings.Contains(a, "/") {
			n.Ipv4PrefixSets.Ipv4PrefixSet = append(n.Ipv4PrefixSets.Ipv4PrefixSet, struct{ Ipv4Prefix string }{a})
		} else {
			n.PrivateIpSets.PrivateIpSet = append(n.PrivateIpSets.PrivateIpSet, struct {
				PrivateIpAddress   string
				Primary            boolean
				AssociatedPublicIp PublicIP
			}{PrivateIpAddress: a})
		}
	}
	return n
}

// The pages that the rows come from.
const (
	pageRules   = "ECS, Security group rules"
	pageTypes   = "ECS, Basic and enterprise security groups"
	pageInner   = "ECS API, ModifySecurityGroupPolicy"
	pageIngress = "ECS API, AuthorizeSecurityGroup"
	pageEgress  = "ECS API, AuthorizeSecurityGroupEgress"
	pagePorts   = "ECS API, CreatePortRangeList"
	pageUnknown = "what is not understood is not known"
)

// TestSecurityGroups is a decision table. The interface in question has 10.0.0.1
// and fd00::1, and is in the groups of the row: sg-a is what its rules are in, "sg-b:"
// before a rule puts it into another.
func TestSecurityGroups(t *testing.T) {
	const (
		in     = "tcp 10.0.0.9 10.0.0.1:80"
		out    = "tcp 10.0.0.1 10.0.0.9:80"
		friend = "tcp 10.0.0.2 10.0.0.1:80" // 10.0.0.2 is in sg-a, too
		accept = "accept"
		deny   = "drop"
		open   = "unknown"
	)
	rows := []struct {
		doc    string
		kind   string // "basic", "isolated", "enterprise", "untyped"
		rules  string // with semicolons
		packet string
		want   string
		by     string // in the rule that decided, or the message about what is not known
	}{
		// No rule matches.
		{pageTypes, "basic", "", in, deny, "by default"},
		{pageTypes, "basic", "", out, accept, "basic security groups accept outgoing"},
		{pageTypes, "enterprise", "", in, deny, "by default"},
		{pageTypes, "enterprise", "", out, deny, "enterprise security groups drop outgoing"},
		{pageTypes, "basic", "ingress Accept 1 TCP 22/22 0.0.0.0/0", in, deny, "by default"},
		{pageTypes, "enterprise", "egress Accept 1 TCP 443/443 0.0.0.0/0", out, deny, "by default"},
		{pageTypes, "enterprise", "egress Accept 1 TCP 80/80 0.0.0.0/0", out, accept, "priority 1"},
		{pageTypes, "basic", "egress Drop 100 ALL -1/-1 0.0.0.0/0", out, deny, "priority 100"},
		// Priorities.
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0; ingress Drop 2 TCP 80/80 0.0.0.0/0", in, accept, "priority 1"},
		{pageIngress, "basic", "ingress Accept 2 TCP 80/80 0.0.0.0/0; ingress Drop 1 TCP 80/80 0.0.0.0/0", in, deny, "priority 1"},
		{pageIngress, "basic", "ingress Accept 100 TCP 80/80 0.0.0.0/0", in, accept, "priority 100"},
		{pageIngress, "basic", "ingress Drop 100 TCP 80/80 0.0.0.0/0; ingress Accept 99 TCP 80/80 0.0.0.0/0", in, accept, "priority 99"},
		{pageIngress, "basic", "ingress Drop 10 TCP 80/80 0.0.0.0/0; ingress Accept 9 TCP 80/80 0.0.0.0/0", in, accept, "priority 9 "},
		// Drop comes first at one priority, however specific the other is.
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0; ingress Drop 1 TCP 80/80 0.0.0.0/0", in, deny, "Drop"},
		{pageIngress, "basic", "ingress Drop 1 TCP 80/80 0.0.0.0/0; ingress Accept 1 TCP 80/80 0.0.0.0/0", in, deny, "Drop"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 10.0.0.9/32; ingress Drop 1 ALL -1/-1 0.0.0.0/0", in, deny, "Drop"},
		{pageEgress, "enterprise", "egress Accept 1 ALL -1/-1 0.0.0.0/0; egress Drop 1 TCP 80/80 10.0.0.9/32", out, deny, "Drop"},
		{pageIngress, "basic", "ingress Drop 1 TCP 443/443 0.0.0.0/0; ingress Accept 1 TCP 80/80 0.0.0.0/0", in, accept, "80/80"},
		// Protocols.
		{pageRules, "basic", "ingress Accept 1 UDP 80/80 0.0.0.0/0", in, deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 UDP 53/53 0.0.0.0/0", "udp 10.0.0.9 10.0.0.1:53", accept, "UDP"},
		{pageRules, "basic", "ingress Accept 1 ALL -1/-1 0.0.0.0/0", "udp 10.0.0.9 10.0.0.1:53", accept, "ALL"},
		{pageRules, "basic", "ingress Accept 1 ICMP -1/-1 0.0.0.0/0", "icmp 10.0.0.9 10.0.0.1", accept, "ICMP"},
		{pageRules, "basic", "ingress Accept 1 ICMP -1/-1 0.0.0.0/0", in, deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 TCP 1/65535 0.0.0.0/0", "icmp 10.0.0.9 10.0.0.1", deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 ICMP -1/-1 ::/0", "icmpv6 fd00::9 fd00::1", deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 ICMPv6 -1/-1 ::/0", "icmpv6 fd00::9 fd00::1", accept, "ICMPv6"},
		{pageRules, "basic", "ingress Accept 1 GRE -1/-1 0.0.0.0/0", "gre 10.0.0.9 10.0.0.1", accept, "GRE"},
		{pageRules, "basic", "ingress Accept 1 GRE -1/-1 0.0.0.0/0", in, deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 ALL -1/-1 0.0.0.0/0", "gre 10.0.0.9 10.0.0.1", accept, "ALL"},
		{pageRules, "basic", "ingress Accept 1 ALL -1/-1 0.0.0.0/0", "sctp 10.0.0.9 10.0.0.1:80", accept, "ALL"},
		{pageRules, "basic", "ingress Accept 1 tcp 80/80 0.0.0.0/0", in, accept, "tcp"}, // case does not matter
		// Ports.
		{pageRules, "basic", "ingress Accept 1 TCP 1/200 0.0.0.0/0", in, accept, "1/200"},
		{pageRules, "basic", "ingress Accept 1 TCP 80/90 0.0.0.0/0", in, accept, "80/90"},
		{pageRules, "basic", "ingress Accept 1 TCP 70/80 0.0.0.0/0", in, accept, "70/80"},
		{pageRules, "basic", "ingress Accept 1 TCP 81/90 0.0.0.0/0", in, deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 TCP 1/79 0.0.0.0/0", in, deny, "by default"},
		{pageRules, "basic", "ingress Accept 1 TCP -1/-1 0.0.0.0/0", in, accept, "-1/-1"},
		{"ECS, Security group quintuple rules", "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 sport=1024/65535", in, accept, "port 1024/65535"},
		{"ECS, Security group quintuple rules", "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 sport=1/1023", in, deny, "by default"},
		{"ECS, Security group quintuple rules", "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 dst=10.0.0.1/32", in, accept, "to 10.0.0.1/32"},
		{"ECS, Security group quintuple rules", "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 dst=10.0.0.7/32", in, deny, "by default"},
		{"ECS, Security group quintuple rules", "enterprise", "egress Accept 1 TCP 80/80 0.0.0.0/0 src=10.0.0.1", out, accept, "from 10.0.0.1/32"},
		{"ECS, Security group quintuple rules", "enterprise", "egress Accept 1 TCP 80/80 0.0.0.0/0 src=10.0.0.4", out, deny, "by default"},
		// Addresses.
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 10.0.0.9", in, accept, "10.0.0.9/32"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 10.0.0.8/29", in, accept, "10.0.0.8/29"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 10.0.1.0/24", in, deny, "by default"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 ::/0", "tcp fd00::9 [fd00::1]:80", accept, "::/0"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0", "tcp fd00::9 [fd00::1]:80", deny, "by default"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 ::/0", in, deny, "by default"},
		{pageEgress, "enterprise", "egress Accept 1 TCP 80/80 10.0.0.9/32", out, accept, "to 10.0.0.9/32"},
		{pageEgress, "enterprise", "ingress Accept 1 TCP 80/80 0.0.0.0/0", out, deny, "by default"},
		{pageIngress, "basic", "egress Accept 1 ALL -1/-1 0.0.0.0/0", in, deny, "by default"},
		// Groups as sources and destinations: their members' addresses, also secondary ones.
		{pageIngress, "isolated", "ingress Accept 1 TCP 80/80 sg-c", "tcp 10.0.0.3 10.0.0.1:80", accept, "sg-c"},
		{pageIngress, "isolated", "ingress Accept 1 TCP 80/80 sg-c", "tcp 10.0.0.33 10.0.0.1:80", accept, "sg-c"},
		{pageIngress, "isolated", "ingress Accept 1 TCP 80/80 sg-c", "tcp 10.0.8.5 10.0.0.1:80", accept, "sg-c"},
		{pageIngress, "isolated", "ingress Accept 1 TCP 80/80 sg-c", friend, deny, "by default"},
		{pageIngress, "isolated", "ingress Accept 1 TCP 80/80 sg-c", in, deny, "by default"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 sg-c", "tcp 172.20.0.5 10.0.0.1:80", deny, "by default"}, // a pod behind a member is no member
		{pageEgress, "basic", "egress Drop 1 ALL -1/-1 sg-c", "tcp 10.0.0.1 10.0.0.3:80", deny, "sg-c"},
		{pageEgress, "basic", "egress Drop 1 ALL -1/-1 sg-c", out, accept, "basic"},
		{pageIngress, "basic", "ingress Accept 1 TCP 80/80 sg-other", in, open, "sg-other"}, // of another account
		// Prefix lists.
		{"ECS, Prefix lists", "basic", "ingress Accept 1 TCP 80/80 pl-1", in, accept, "pl-1"},
		{"ECS, Prefix lists", "basic", "ingress Accept 1 TCP 80/80 pl-1", "tcp 192.168.7.1 10.0.0.1:80", accept, "pl-1"},
		{"ECS, Prefix lists", "basic", "ingress Accept 1 TCP 80/80 pl-1", "tcp 10.0.0.10 10.0.0.1:80", deny, "by default"},
		{"ECS, Prefix lists", "basic", "ingress Accept 1 TCP 80/80 pl-missing", in, open, "pl-missing"},
		{"ECS, Prefix lists", "enterprise", "egress Drop 1 ALL -1/-1 pl-1; egress Accept 2 ALL -1/-1 0.0.0.0/0", out, deny, "pl-1"},
		// What members of a basic group may do among themselves.
		{pageInner, "basic", "", friend, accept, "InnerAccessPolicy of sg-a is Accept"},
		{pageInner, "basic", "ingress Drop 1 ALL -1/-1 0.0.0.0/0", friend, accept, "InnerAccessPolicy"},
		{pageInner, "basic", "egress Drop 1 ALL -1/-1 0.0.0.0/0", "tcp 10.0.0.1 10.0.0.2:80", accept, "InnerAccessPolicy"},
		{pageInner, "isolated", "", friend, deny, "by default"},
		{pageInner, "isolated", "", "tcp 10.0.0.1 10.0.0.2:80", deny, "InnerAccessPolicy of sg-a is Drop"},
		{pageInner, "isolated", "", out, accept, "basic"},
		{pageInner, "isolated", "ingress Accept 100 TCP 80/80 10.0.0.2/32", friend, accept, "priority 100"},
		{pageInner, "isolated", "egress Accept 100 TCP 80/80 10.0.0.2/32", "tcp 10.0.0.1 10.0.0.2:80", accept, "priority 100"},
		{pageInner, "enterprise", "", friend, deny, "by default"},
		// Several groups: one pool.
		{pageRules, "basic", "ingress Drop 2 TCP 80/80 0.0.0.0/0; sg-b: ingress Accept 1 TCP 80/80 0.0.0.0/0", in, accept, "priority 1"},
		{pageRules, "basic", "ingress Accept 2 TCP 80/80 0.0.0.0/0; sg-b: ingress Drop 1 TCP 80/80 0.0.0.0/0", in, deny, "priority 1"},
		{pageRules, "basic", "ingress Accept 5 TCP 80/80 0.0.0.0/0; sg-b: ingress Drop 5 TCP 80/80 0.0.0.0/0", in, deny, "Drop"},
		{pageRules, "basic", "sg-b: ingress Accept 5 TCP 80/80 0.0.0.0/0", in, accept, "priority 5"},
		{pageRules, "enterprise", "sg-b: egress Accept 5 TCP 80/80 0.0.0.0/0", out, accept, "priority 5"},
		{pageInner, "isolated", "sg-b: ingress Accept 5 TCP 443/443 0.0.0.0/0", "tcp 10.0.0.4 10.0.0.1:80", deny, "by default"},
		// What is not understood matters where it could decide, and only there.
		{pageUnknown, "untyped", "", out, open, "sg-a"},
		{pageUnknown, "untyped", "egress Accept 1 ALL -1/-1 0.0.0.0/0", out, accept, "priority 1"},
		{pageUnknown, "untyped", "", friend, open, "sg-a"},
		{pageUnknown, "basic", "ingress Accept 1 AH -1/-1 0.0.0.0/0", in, open, "AH"},
		{pageUnknown, "basic", "ingress Drop 1 AH -1/-1 0.0.0.0/0", in, deny, ""},
		{pageUnknown, "basic", "ingress Drop 2 AH -1/-1 0.0.0.0/0; ingress Accept 1 TCP 80/80 0.0.0.0/0", in, accept, "priority 1"},
		{pageUnknown, "basic", "ingress Drop 1 AH -1/-1 0.0.0.0/0; ingress Accept 2 TCP 80/80 0.0.0.0/0", in, open, "AH"},
		{pageUnknown, "basic", "ingress Reject 1 TCP 80/80 0.0.0.0/0; ingress Accept 2 TCP 80/80 0.0.0.0/0", in, open, "Reject"},
		{pageUnknown, "basic", "ingress Accept 1 TCP 80/80", in, open, "no source"},
		{pagePorts, "basic", "ingress Accept 1 TCP -1/-1 0.0.0.0/0 ports=prl-1", in, open, "port list prl-1"},
		{pagePorts, "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 sports=prl-1", in, open, "port list prl-1"},
		{pagePorts, "basic", "ingress Accept 1 TCP -1/-1 10.9.0.0/16 ports=prl-1", in, deny, "by default"},
		{pagePorts, "basic", "ingress Accept 1 TCP none 0.0.0.0/0", in, open, "no range of ports"},
		{pagePorts, "basic", "ingress Accept 1 ALL none 0.0.0.0/0", in, accept, "ALL"},
		{pagePorts, "basic", "ingress Accept 1 6 80/80 0.0.0.0/0", in, accept, "6 80/80"}, // a protocol by number
		{pagePorts, "basic", "ingress Accept 1 6 81/81 0.0.0.0/0", in, deny, "by default"},
		{pagePorts, "basic", "ingress Accept 1 17 80/80 0.0.0.0/0", in, deny, "by default"},
		{pagePorts, "basic", "ingress Accept 1 132 -1/-1 0.0.0.0/0", "sctp 10.0.0.9 10.0.0.1:80", accept, "132"},
		{pageUnknown, "basic", "ingress Accept 1 TCP 80/80 0.0.0.0/0 nic=internet", in, open, "network type internet"},
	}
	if len(rows) < 60 {
		t.Errorf("%d rows", len(rows))
	}
	for n, row := range rows {
		t.Run(fmt.Sprintf("%d %s %s", n+1, row.kind, row.rules), func(t *testing.T) {
			groups := map[string]*SecurityGroupAttribute{"sg-a": {SecurityGroupId: "sg-a", InnerAccessPolicy: "Accept"}}
			mine := "sg-a"
			if row.kind == "isolated" {
				groups["sg-a"].InnerAccessPolicy = "Drop"
			}
			for text := range strings.SplitSeq(row.rules, ";") {
				if text = strings.TrimSpace(text); text == "" {
					continue
				}
				into := "sg-a"
				if rest, other := strings.CutPrefix(text, "sg-b: "); other {
					into, text, mine = "sg-b", rest, "sg-a+sg-b"
					if groups[into] == nil {
						groups[into] = &SecurityGroupAttribute{SecurityGroupId: into, InnerAccessPolicy: "Drop"}
					}
				}
				list := &groups[into].Permissions.Permission
				*list = append(*list, permissionOf(t, text))
			}
			f := readAll(&Facts{Interfaces: []NetworkInterface{
				eni("me", mine, "10.0.0.1", "fd00::1"), eni("friend", "sg-a", "10.0.0.2"),
				eni("c", "sg-c", "10.0.0.3", "10.0.0.33", "10.0.8.0/28"), eni("b", "sg-b", "10.0.0.4"),
				eni("stranger", "sg-x", "10.0.1.9"),
			}})
			kind := "normal"
			if row.kind == "enterprise" {
				kind = row.kind
			}
			for _, id := range []string{"sg-a", "sg-b", "sg-c"} {
				if row.kind != "untyped" || id == "sg-c" {
					f.Groups = append(f.Groups, SecurityGroup{SecurityGroupId: id, SecurityGroupType: kind})
				}
			}
			for _, g := range groups {
				f.GroupRules = append(f.GroupRules, *g)
			}
			list := PrefixList{PrefixListId: "pl-1"}
			list.Entries.Entry = []struct{ Cidr string }{{"10.0.0.9/32"}, {"192.168.0.0/16"}}
			f.PrefixLists = []PrefixList{list}
			c := Compile(f)
			p := packetOf(t, row.packet)
			me := c.interfaces["me"]
			d := egress
			if p.Dst == me.Addrs[0] || p.Dst == me.Addrs[1] {
				d = ingress
			}
			r := c.groupsAdmit(me, d, p)
			got, by := deny, r.rule
			switch {
			case r.open != nil:
				got, by = open, r.open.Message
			case r.pass:
				got = accept
			}
			if got != row.want || !strings.Contains(by, row.by) {
				t.Errorf("%s: %s is %s (%s), want %s (%s)", row.doc, p, got, by, row.want, row.by)
			}
		})
	}
}
