package netfilter

import (
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// What anybody but iptables does in the tables of iptables-nft, and what iptables-nft-save leaves out itself.
func TestTheKernelAgreesOnTablesOfIPTablesThatNftChanged(t *testing.T) {
	in6 := func(list ...probe) []probe {
		for i := range list {
			list[i].dst = "fd77:2::2"
		}
		return list
	}
	j := newJudge(t)
	for _, c := range []struct {
		name, restore, nft string
		command            string // iptables-nft-restore unless given
		probes             []probe
		hidden             string // what iptables-nft-save does not show
	}{
		{
			name: "two conditions on one field",
			restore: `-A FORWARD -p tcp -m tcp --dport 1001:1009 -m tcp ! --dport 1002 -j DROP
-A FORWARD -p tcp -m tcp --dport 1020:1029 -m conntrack --ctstate NEW -m tcp ! --dport 1022 -j DROP
-A FORWARD -p tcp -m tcp --dport 1030:1039 -m tcp ! --dport 1032 -j REJECT --reject-with icmp-admin-prohibited
-A FORWARD -p tcp -m tcp --dport 1040 --tcp-flags SYN,ACK SYN -m tcp --tcp-flags FIN,RST NONE -j DROP
-A FORWARD -p tcp -m tcp --dport 1041 --tcp-flags SYN,ACK SYN,ACK -m tcp --tcp-flags FIN,RST NONE -j DROP
-A FORWARD -p udp -m udp --dport 1050:1059 -m udp ! --dport 1052 -j more
-A more -p udp -m udp ! --sport 1 -m udp --sport 1:65535 -j DROP
-A FORWARD -p udp -m udp --dport 1052 -m udp --dport 1052:1060 -g more`,
			probes: append(ports(1001, 1002, 1003, 1010, 1021, 1022, 1030, 1031, 1032, 1040, 1041), udp(1051, 1052, 1053)...),
			hidden: "1001:1009",
		},
		{
			name: "rules that iptables cannot say", restore: "-A FORWARD -p tcp --dport 1999 -j more\n-A more -p tcp --dport 1900:1999 -j DROP",
			nft: `add rule ip filter FORWARD tcp dport { 1001, 1003 } drop
add rule ip filter FORWARD tcp dport 1005 ip saddr { 10.77.1.9, 10.77.1.10 } drop
add rule ip filter FORWARD tcp dport 1006 ip saddr 10.77.1.1-10.77.1.9 drop
add rule ip filter FORWARD tcp dport 1007 ip saddr 10.77.0.0/16 ip saddr != 10.77.1.2 drop
add rule ip filter FORWARD tcp dport 1008 ip saddr 10.77.0.0/16 ip saddr != 10.77.1.3 drop
add rule ip filter FORWARD tcp dport 1009 iifname { "s0", "s1" } drop
add rule ip filter FORWARD tcp dport 1010 iifname { "c0", "s1" } drop
add rule ip filter FORWARD tcp dport 1011 ip protocol > 6 drop
add rule ip filter FORWARD tcp dport 1012 meta l4proto tcp meta l4proto != udp drop
add rule ip filter FORWARD tcp dport vmap { 1013 : drop, 1014 : jump more, 1915 : goto more, 1016 : accept }
add rule ip filter FORWARD tcp dport { 1916, 1017 } jump more
add set ip filter sources { type ipv4_addr; flags interval; elements = { 10.77.1.2 }; }
add rule ip filter FORWARD tcp dport 1018 ip saddr @sources drop
add rule ip filter FORWARD tcp dport 1019 ip saddr != @sources drop
add map ip filter fates { type inet_service : verdict; elements = { 1920 : jump more, 1021 : jump more, 1022 : drop }; }
add rule ip filter FORWARD tcp dport vmap @fates
add rule ip filter FORWARD tcp flags syn tcp dport 1023 drop
add rule ip filter more tcp dport != { 1014, 1017, 1021 } tcp dport != 1900-1999 drop
add rule ip filter FORWARD ip protocol != udp tcp dport 1024 drop
add rule ip filter FORWARD tcp dport 1025 ip frag-off & 0x4000 != 0 drop
add rule ip filter FORWARD tcp dport 1026 ip frag-off & 0x4000 == 0 drop
add rule ip filter FORWARD udp length 10 udp dport 1030 drop
add rule ip filter FORWARD udp length 9 udp dport 1031 drop`,
			probes: append(ports(1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1915, 1016, 1916, 1017, 1018, 1019, 1920, 1021, 1022, 1023, 1024, 1025, 1026, 1999), udp(1030, 1031)...),
			hidden: "1003",
		},
		{
			name: "rules that iptables cannot say, of IPv6", command: "ip6tables-nft-restore", restore: "-A FORWARD -p tcp --dport 1999 -j more\n-A more -p tcp --dport 1900:1999 -j DROP",
			nft: `add rule ip6 filter FORWARD tcp dport { 1001, 1003 } drop
add rule ip6 filter FORWARD tcp dport 1004 ip6 saddr fd77:1::/64 ip6 saddr != fd77:1::2 drop
add rule ip6 filter FORWARD tcp dport 1005 ip6 nexthdr > 6 drop
add rule ip6 filter FORWARD tcp dport { 1906, 1007 } jump more
add chain ip6 filter own { type filter hook forward priority 1; }
add rule ip6 filter own tcp dport 1908-1909 goto more`,
			probes: in6(ports(1001, 1002, 1003, 1004, 1005, 1906, 1007, 1908)...),
			hidden: "1908",
		},
		{
			name: "base chains that iptables has not", restore: "-A FORWARD -p tcp --dport 1001 -j more\n-A more -p tcp --dport 1000:1009 -j DROP",
			nft: `add chain ip filter own { type filter hook forward priority 0; policy drop; }
add rule ip filter own tcp dport 1002-1004 jump more
add rule ip filter own tcp dport != 1005 accept
add chain ip filter late { type filter hook forward priority 5; }
add rule ip filter late tcp dport 1010 drop
add rule ip filter more tcp dport { 1010, 1011 } drop
add chain ip filter early { type filter hook prerouting priority -5; policy accept; }
add rule ip filter early tcp dport 1011 goto more`,
			probes: ports(1001, 1002, 1005, 1006, 1010, 1011, 1012),
			hidden: "1010",
		},
		{
			name: "all of nft's own", nft: `add table ip filter
add chain ip filter forward { type filter hook forward priority 0; policy drop; }
add chain ip filter own
add rule ip filter forward tcp sport 1-65535 tcp dport 1002 accept
add rule ip filter forward tcp dport 1003 jump own
add rule ip filter own accept
add rule ip filter forward tcp sport 1002-1003 accept`,
			probes: ports(1001, 1002, 1003, 1004),
			hidden: "1002",
		},
		{
			name: "a table that is dormant", restore: "-A FORWARD -p tcp --dport 1001 -j DROP",
			nft:    "add table ip filter { flags dormant; }",
			probes: ports(1001),
			hidden: "dormant",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := j.sub(t)
			j.reset()
			if c.restore != "" {
				command := c.command
				if command == "" {
					command = "iptables-nft-restore"
				}
				j.in(judgeRouter, "*filter\n:FORWARD ACCEPT\n:more -\n"+c.restore+"\nCOMMIT\n", command)
			}
			j.in(judgeRouter, c.nft, "nft", "-f", "-")
			ns := j.rulesOf()
			for i := range ns.IPTables {
				if d := ns.IPTables[i]; d.Backend == netstack.BackendNFT && strings.Contains(string(d.Data), c.hidden) {
					t.Errorf("%s shows %q: this is no case of it any more", d.File, c.hidden)
				}
			}
			j.compare(c.probes)
		})
	}
}
