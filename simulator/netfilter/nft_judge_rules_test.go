package netfilter

// judgeNFT are rule sets of nftables in full: what statements and chains do to
// each other.
var judgeNFT = []struct {
	name, rules string
	probes      []probe
}{
	{"translations that are looked up", `table inet t {
 map addrs { type inet_service : ipv4_addr; elements = { 1001 : 10.77.2.3, 1002 : 10.77.2.2 } }
 map ports { type inet_service : inet_service; elements = { 1002 : 8080, 1003 : 2000 } }
 map vips { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; flags interval; elements = { 10.77.2.100-10.77.2.110 . tcp . 1-9999 : 10.77.2.2 . 8080 } }
 map nets { type ipv4_addr : interval ipv4_addr; flags interval; elements = { 10.77.2.128/28 : 10.77.2.0/28 } }
 map six { type ipv6_addr : ipv6_addr . inet_service; elements = { fd77:2::100 : fd77:2::2 . 8080 } }
 chain pre { type nat hook prerouting priority -100
  meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @vips
  tcp dport 1001 dnat ip to tcp dport map @addrs
  tcp dport 1002 dnat ip to tcp dport map @addrs : tcp dport map @ports
  tcp dport 1003 dnat to : tcp dport map @ports
  tcp dport 1004 redirect to : tcp dport map { 1004 : 8080 }
  tcp dport 1005 dnat ip to tcp dport map @addrs
  dnat ip prefix to ip daddr map @nets
  meta l4proto tcp dnat ip6 to ip6 daddr map @six
  tcp dport 1007 dnat ip to jhash ip saddr mod 2 seed 0x3 map { 0 : 10.77.2.2, 1 : 10.77.2.3 }
  tcp dport 1008 dnat ip6 to [fd77:2::2]:8080
  tcp dport 1009 dnat ip to 10.77.2.2:2000-2000
  tcp dport 1010 dnat ip to tcp dport map { 1-2000 : 10.77.2.3 } : 8080
  tcp dport 1011 meta mark set 3 dnat ip to meta mark map { 3 : 10.77.2.3 }
  tcp dport 1012 dnat ip addr . port to ip saddr . tcp dport map { 10.77.1.2 . 1012 : 10.77.2.3 . 2001 }
 }
 chain post { type nat hook postrouting priority 100
  tcp dport 1006 snat ip to ip daddr map { 10.77.2.0/24 : 10.77.2.1 }
  tcp dport 1013 masquerade to :5000-5000
  tcp dport 1014 snat ip to 10.77.2.1:4000-4000
 }
}
`, append(append(ports(span(1001, 1014)...), six(1002, 1003, 1004, 1008, 1010, 1013)...), []probe{
		{dst: "10.77.2.105", port: 1234}, {dst: "10.77.2.130", port: 1020}, {dst: "10.77.2.131", port: 1021}, {dst: "fd77:2::100", port: 1022},
	}...)},
	{"what is written into a packet", `table inet t {
 chain early { type filter hook prerouting priority -350
  tcp dport 1001 ip daddr set 10.77.2.3
  tcp sport 1001 ip saddr 10.77.2.3 ip saddr set 10.77.2.2
  tcp dport 1003 ip ttl set 33
  tcp dport 1004 ip dscp set cs1
  tcp dport 1005 @nh,64,8 set 20
  tcp dport 1006 ip6 hoplimit set 33
  tcp dport 1007 ip6 dscp set af41
  tcp dport 1008 ip ecn set ect0
  udp dport 1011 udp dport set 1012
  tcp dport 1013 tcp option maxseg size set 500
  tcp dport 1014 reset tcp option maxseg
 }
 chain f { type filter hook forward priority 0
  tcp dport 1015 tcp option maxseg size set rt mtu
  tcp dport 1003 ip ttl 32 drop
  tcp dport 1004 ip dscp cs1 drop
  tcp dport 1005 ip ttl 19 drop
  tcp dport 1006 ip6 hoplimit 32 drop
  tcp dport 1007 ip6 dscp af41 drop
  tcp dport 1008 ip ecn ect0 drop
  udp dport 1012 drop
  tcp dport 1013 tcp option maxseg size 500 drop
  tcp dport 1014 tcp option maxseg exists drop
 }
}
`, append(ports(1001, 1003, 1004, 1005, 1008, 1010, 1013), append(six(1003, 1004, 1006, 1007, 1009, 1013), udp(1011)...)...)},
	{"marks, labels and zones", `table inet t {
 map marks { type inet_service : mark; elements = { 1001 : 0x12 } }
 chain pre { type filter hook prerouting priority -250
  tcp dport 1010 ct zone set 5
  tcp sport 1010 ct zone set 5
  tcp dport 1011 ct zone set 6
  tcp sport 1013 notrack
 }
 chain m { type filter hook prerouting priority -150
  meta mark set tcp dport map @marks
  tcp dport 1002 meta mark set 1 meta mark set meta mark << 4
  tcp dport 1003 ct mark set 0x3 ct mark set ct mark or 0x40
  tcp dport 1004 meta mark set 0xff meta mark set meta mark and 0xf0 xor 0x1
  tcp dport 1005 ct label set 3
  tcp dport 1006 meta mark set ct mark meta mark set meta mark or 0x6
  tcp dport 1007 meta mark set jhash ip saddr . tcp dport mod 8 seed 0x11 offset 10
  tcp dport 1008 meta priority set 1:2
  tcp dport 1009 ct mark set 0x9 meta mark set ct mark
 }
 chain f { type filter hook forward priority 0
  tcp dport 1001 meta mark 0x12 drop
  tcp dport 1002 meta mark 0x10 drop
  tcp dport 1003 ct mark 0x43 drop
  tcp dport 1004 meta mark 0xf1 drop
  tcp dport 1005 ct label 3 drop
  tcp dport 1006 meta mark 0x6 drop
  tcp dport 1007 meta mark { 10, 11, 12, 13 } drop
  tcp dport 1009 meta mark 0x9 ct mark 0x9 drop
  tcp sport 1010 ct state new drop
  tcp sport 1010 ct zone 5 ct state established accept
  tcp sport 1011 ct state invalid drop
  tcp sport 1012 ct zone 0 drop
  tcp sport 1013 ct state untracked drop
 }
}
`, append(ports(span(1001, 1014)...), six(1001, 1002, 1003, 1004, 1005, 1006, 1009, 1010, 1011, 1012, 1013)...)},
	{"the first that says how to track", `table inet t {
 chain pre { type filter hook prerouting priority -250
  tcp dport 1001 ct zone set 5 notrack
  tcp dport 1002 notrack ct zone set 5
  tcp dport 1003 ct zone set 5 ct zone set 6
  tcp dport 1004-1008 ct zone set 5
 }
 chain before { type filter hook prerouting priority -240
  tcp dport 1004 ct state new drop
  tcp dport 1005 ct zone 5 drop
  tcp dport 1006 ct mark 0 drop
  tcp dport 1007 ct direction original drop
  tcp dport 1008 ct status & (snat | dnat) == 0 drop
  tcp dport 1009 ct state invalid drop
  tcp dport 1010 ct zone 0 drop
 }
 chain f { type filter hook forward priority 0
  tcp dport 1001 ct state untracked drop
  tcp dport 1002 ct state untracked drop
  tcp dport 1003 ct zone 6 drop
  tcp sport 1003 ct state invalid drop
 }
}
`, append(ports(span(1001, 1010)...), six(1001, 1002, 1003, 1004)...)},
	{"zones of one direction", `table inet t {
 chain pre { type filter hook prerouting priority -250
  tcp dport 1001-1003 ct original zone set 5
  tcp sport 1002 ct zone set 5
  tcp sport 1003 ct original zone set 6
  tcp dport 1004-1006 ct reply zone set 5
  tcp sport 1005 ct zone set 5
  tcp sport 1006 ct reply zone set 5
  tcp dport 1007-1012 ct original zone set 5
 }
 chain f { type filter hook forward priority 0
  tcp sport 1001-1012 ct state invalid drop
  tcp sport { 1001, 1003, 1005, 1006 } ct state established drop
  tcp dport 1007 ct zone 5 drop
  tcp dport 1008 ct original zone 5 drop
  tcp dport 1009 ct reply zone 5 drop
  tcp dport 1010 ct reply zone 0 drop
  tcp sport 1011 ct zone 5 drop
  tcp sport 1012 ct zone 0 drop
 }
}
`, append(ports(span(1001, 1012)...), six(1001, 1002, 1003, 1004, 1005, 1006, 1010)...)},
	{"sets that rules fill", `table inet t {
 set seen { type inet_service; flags dynamic; size 1000; }
 set gone { type inet_service; flags dynamic; elements = { 1003, 1004 } }
 set small { type inet_service; flags dynamic; size 1; elements = { 9 } }
 set timed { type ipv4_addr . inet_service; flags dynamic, timeout; timeout 1h; }
 map to { type inet_service : verdict; flags dynamic; elements = { 1020 : drop } }
 chain early { type filter hook forward priority -10
  tcp dport 1001 add @seen { tcp dport }
  tcp dport 1003 delete @gone { tcp dport }
  tcp dport 1005 add @small { tcp dport } drop
  tcp dport 1006 update @timed { ip saddr . tcp dport timeout 10m }
  tcp dport 1008 add @seen { tcp dport } delete @seen { tcp dport }
 }
 chain f { type filter hook forward priority 0
  tcp dport @seen drop
  tcp dport @gone drop
  ip saddr . tcp dport @timed drop
  tcp dport vmap @to
 }
}
`, append(ports(span(1001, 1008)...), probe{port: 1020})},
	{"objects by a map", `table inet t {
 counter a { packets 0 bytes 0 }
 counter b { packets 0 bytes 0 }
 quota q { 1000 mbytes }
 map names { type inet_service : counter
  elements = { 1001 : "a", 1002 : "b" } }
 chain f { type filter hook forward priority 0
  tcp dport 1001-1003 counter name tcp dport map @names drop
  tcp dport 1004 counter name "a" log prefix "x" group 7 drop
  tcp dport 1005 quota name "q"
  tcp dport 1006 counter
  tcp dport 1007 counter packets 3 bytes 4 drop comment "a comment"
 }
}
`, ports(span(1001, 1008)...)},
	{"chains", `table inet t {
 map v { type ipv4_addr . inet_service : verdict; flags interval; elements = { 10.77.2.0/24 . 1010-1012 : jump a, 10.77.2.0/24 . 1013 : goto b, 10.77.2.0/24 . 1014 : return, 10.77.2.0/24 . 1015 : continue, 10.77.2.0/24 . 1016 : accept } }
 map w { typeof meta l4proto . th dport : verdict; elements = { tcp . 1020 : drop, udp . 1020 : accept } }
 chain a {
  tcp dport 1010 return
  tcp dport 1011 accept
  tcp dport 1012 goto b
 }
 chain b {
  tcp dport 1012 return
  tcp dport 1013 return
 }
 chain c {
  tcp dport 1021 jump a
  tcp dport 1021 drop
  tcp dport 1022 goto a
  tcp dport 1022 drop
 }
 chain f { type filter hook forward priority 0; policy accept
  meta l4proto . th dport vmap @w
  ip daddr . tcp dport vmap @v
  tcp dport 1010-1017 drop
  tcp dport 1021-1022 jump c
  tcp dport 1022 drop
  tcp dport vmap { 1023 : drop, * : continue }
  tcp dport 1024 continue
  tcp dport 1024 drop
  ct state vmap { established : accept, related : accept, invalid : drop }
  tcp dport 1025 ct state new drop
 }
}
`, append(ports(append(span(1010, 1017), span(1020, 1026)...)...), udp(1020, 1021)...)},
	{"base chains by priority, of all families", `table inet a {
 chain f { type filter hook forward priority -5; policy accept
  tcp dport 1001-1002 accept
  tcp dport 1003 meta mark set 0x3
 }
}
table ip b {
 chain f { type filter hook forward priority 0; policy accept
  tcp dport 1002 drop
  tcp dport 1003 meta mark 0x3 drop
  tcp dport 1004 meta mark set 0x4
 }
}
table ip6 b {
 chain f { type filter hook forward priority 0; policy accept
  tcp dport 1001 drop
  tcp dport 1004 meta mark 0x4 drop
 }
}
table inet c {
 chain f { type filter hook forward priority 5; policy drop
  tcp dport 1001-1003 accept
  tcp dport 1004 meta mark 0x4 drop
  tcp dport 1005 accept
  tcp sport 1001-1005 accept
 }
}
table inet d {
 flags dormant
 chain f { type filter hook forward priority 9; policy drop
 }
}
`, append(ports(span(1001, 1006)...), six(span(1001, 1006)...)...)},
	{"rejects", `table inet t {
 chain in { type filter hook prerouting priority 0
  tcp dport 1010 reject with tcp reset
  udp dport 1011 reject
 }
 chain f { type filter hook forward priority 0
  tcp dport 1001 reject
  tcp dport 1002 reject with tcp reset
  tcp dport 1003 reject with icmp host-prohibited
  tcp dport 1004 reject with icmpv6 no-route
  tcp dport 1005 reject with icmpx port-unreachable
  tcp dport 1006 reject with icmpx no-route
  tcp dport 1007 reject with icmpx admin-prohibited
  udp dport 1008 reject with icmpx admin-prohibited
  udp dport 1009 reject with icmp net-prohibited
 }
}
`, append(append(ports(append(span(1001, 1007), 1010)...), six(append(span(1001, 1007), 1010)...)...), append(udp(1008, 1009, 1011), udp6(1008, 1009, 1011)...)...)},
	{"devices", `table netdev n {
 chain in { type filter hook ingress device "c0" priority 0; policy accept
  tcp dport 1001 drop
  meta iifname "c0" tcp dport 1002 meta mark set 0x2
  ip saddr 10.77.1.2 tcp dport 1003 drop
  meta protocol ip6 tcp dport 1004 drop
  ether type ip tcp dport 1005 drop
  tcp dport 1006 ip dscp set cs1
  meta l4proto . th dport vmap { tcp . 1007 : accept, tcp . 1008 : drop }
  tcp dport 1007 drop
  arp operation request accept
  meta l4proto tcp tcp dport 1020 drop
  meta pkttype host tcp dport 1021 drop
  meta length 60 tcp dport 1022 drop
 }
 chain later { type filter hook ingress device "c0" priority 10; policy accept
  tcp dport 1007 drop
 }
 chain back { type filter hook ingress device "s0" priority 0; policy accept
  tcp sport 1009 drop
 }
 chain out { type filter hook egress device "s0" priority 0; policy accept
  tcp dport 1010 drop
  meta oifname "s0" tcp dport 1011 drop
  meta iifname "c0" tcp dport 1012 drop
  tcp dport 1013 meta mark 0x13 drop
  meta length 74 tcp dport 1014 drop
 }
 chain toc { type filter hook egress device "c0" priority 0; policy accept
  tcp sport 1015 drop
  udp sport 1016 drop
 }
}
table inet t {
 chain ing { type filter hook ingress device "c0" priority -10; policy accept
  tcp dport 1017 drop
  meta nfproto ipv6 tcp dport 1018 drop
  tcp dport 1019 ip ttl 64 drop
 }
 chain f { type filter hook forward priority 0
  tcp dport 1002 meta mark 0x2 drop
  tcp dport 1006 ip dscp cs1 drop
  tcp dport 1013 meta mark set 0x13
 }
}
`, append(append(ports(span(1001, 1023)...), six(span(1001, 1023)...)...), append(udp(1016, 1017), probe{from: judgeRouter, port: 1010}, probe{from: judgeRouter, port: 1001}, probe{dst: "10.77.1.1", port: 1001}, probe{dst: "10.77.1.1", port: 1015})...)},
	{"in the shape of kube-proxy", `table ip kube-proxy {
 set cluster-ips { type ipv4_addr; elements = { 10.77.2.65, 10.77.2.66 } }
 set nodeport-ips { type ipv4_addr; elements = { 10.77.1.1 } }
 map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.77.2.70 . tcp . 80 : goto firewall-ABC-ns/lb/tcp/ } }
 map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.77.2.66 . tcp . 80 comment "ns/empty" : goto reject-chain } }
 map no-endpoint-nodeports { type inet_proto . inet_service : verdict; elements = { tcp . 30002 : drop } }
 map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.77.2.65 . tcp . 80 : goto service-ABC-ns/web/tcp/http, 10.77.2.70 . tcp . 80 : goto external-ABC-ns/lb/tcp/ } }
 map service-nodeports { type inet_proto . inet_service : verdict; elements = { tcp . 30001 : goto external-ABC-ns/lb/tcp/ } }
 chain filter-prerouting { type filter hook prerouting priority dstnat - 10
  ct state new jump firewall-check
 }
 chain filter-input { type filter hook input priority -110
  ct state new jump nodeport-endpoints-check
  ct state new jump service-endpoints-check
 }
 chain filter-forward { type filter hook forward priority -110
  ct state new jump service-endpoints-check
  ct state new jump cluster-ips-check
 }
 chain filter-output { type filter hook output priority -110
  ct state new jump service-endpoints-check
  ct state new jump firewall-check
 }
 chain filter-output-post-dnat { type filter hook output priority -90
  ct state new jump cluster-ips-check
 }
 chain nat-prerouting { type nat hook prerouting priority dstnat
  jump services
 }
 chain nat-output { type nat hook output priority -100
  jump services
 }
 chain nat-postrouting { type nat hook postrouting priority srcnat
  jump masquerading
 }
 chain nodeport-endpoints-check {
  ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
 }
 chain service-endpoints-check {
  ip daddr . meta l4proto . th dport vmap @no-endpoint-services
 }
 chain firewall-check {
  ip daddr . meta l4proto . th dport vmap @firewall-ips
 }
 chain services {
  ip daddr . meta l4proto . th dport vmap @service-ips
  ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
 }
 chain masquerading {
  meta mark & 0x00004000 == 0x00000000 return
  meta mark set meta mark ^ 0x00004000
  masquerade fully-random
 }
 chain mark-for-masquerade {
  meta mark set meta mark | 0x00004000
 }
 chain reject-chain {
  reject
 }
 chain cluster-ips-check {
  ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
  ip daddr { 10.77.2.64/26 } drop comment "Drop traffic to unallocated ClusterIPs"
 }
 chain firewall-ABC-ns/lb/tcp/ {
  ip saddr { 10.77.9.0/24 } return
  drop
 }
 chain service-ABC-ns/web/tcp/http {
  ip daddr 10.77.2.65 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
  numgen random mod 1 vmap { 0 : goto endpoint-ABC-ns/web/tcp/http__10.77.2.2/8080 }
 }
 chain external-ABC-ns/lb/tcp/ {
  jump mark-for-masquerade
  goto service-ABC-ns/web/tcp/http
 }
 chain endpoint-ABC-ns/web/tcp/http__10.77.2.2/8080 {
  ip saddr 10.77.2.2 jump mark-for-masquerade
  meta l4proto tcp dnat to 10.77.2.2:8080
 }
}
`, []probe{
		{dst: "10.77.2.65", port: 80},
		{dst: "10.77.2.65", port: 81},
		{dst: "10.77.2.66", port: 80},
		{dst: "10.77.2.67", port: 80},
		{dst: "10.77.2.70", port: 80},
		{dst: "10.77.1.1", port: 30001},
		{dst: "10.77.1.1", port: 30002},
		{dst: "10.77.1.1", port: 30003},
		{from: judgeRouter, dst: "10.77.2.65", port: 80},
		{from: judgeRouter, dst: "10.77.2.65", port: 82},
		{from: judgeRouter, dst: "10.77.2.67", port: 80},
		{dst: "10.77.2.65", port: 80, network: "udp"},
	}},
}

// six are TCP ports of the server's IPv6 address.
func six(list ...uint16) []probe {
	probes := ports(list...)
	for i := range probes {
		probes[i].dst = "fd77:2::2"
	}
	return probes
}

func udp6(list ...uint16) []probe {
	probes := udp(list...)
	for i := range probes {
		probes[i].dst = "fd77:2::2"
	}
	return probes
}
