package agreement

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var scenarios = []scenario{
	{name: "nothing is changed, tcp", to: far},
	{name: "nothing is changed, udp", to: far, proto: "udp"},
	{name: "nothing is changed, icmp", to: far, proto: "icmp"},
	{name: "nothing is changed, from a node to a pod", from: "node-1", to: far},
	{name: "nothing is changed, from a node to a service", from: "node-1", to: svc},
	{name: "nothing is changed, from a pod to a node", to: "{node-2}", proto: "icmp"},
	{name: "nothing is changed, from a pod to the node port of its node", to: svc, port: 30080},
	{name: "nothing is changed, from a node to its node port", from: "node-1", to: svc, port: 30080},
	{name: "nobody listens, tcp", to: far, port: 81, reason: verdict.NoListener},
	{name: "nobody listens, udp", to: far, proto: "udp", port: 81, reason: verdict.NoListener},
	{name: "nobody listens on the pod itself", to: web, port: 81, reason: verdict.NoListener},
	{name: "a pod connects to itself", to: web},

	// Marks of answers.
	{name: "a server's answers have no mark by themselves", to: far, change: `
		shop/api-1 {iptables} -t mangle -A INPUT -j MARK --set-mark 0x77
		shop/api-1 {ip} rule add fwmark 0x77 prohibit`},
	{name: "a server's answers have the mark of the request", to: far, reason: verdict.RouteProhibit, change: `
		shop/api-1 sysctl -qw net.ipv4.tcp_fwmark_accept=1
		shop/api-1 {iptables} -t mangle -A INPUT -j MARK --set-mark 0x77
		shop/api-1 {ip} rule add fwmark 0x77 prohibit`},
	{name: "the answer to an echo request has its mark", to: far, proto: "icmp", reason: verdict.RouteProhibit, change: `
		shop/api-1 sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1
		shop/api-1 {iptables} -t mangle -A INPUT -j MARK --set-mark 0x77
		shop/api-1 {ip} rule add fwmark 0x77 prohibit`},
	{name: "a connection to a broadcast address", to: "{broadcast}", port: 80, only: netstack.IPv4, reason: verdict.RouteUnreachable},

	// Rules.
	{name: "a drop in the client's OUTPUT", to: far, reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -A OUTPUT -p tcp --dport 8080 -j DROP`},
	{name: "a drop of a datagram in the client's OUTPUT", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -A OUTPUT -p udp -j DROP`},
	{name: "a drop of an echo request in the client's OUTPUT", to: far, proto: "icmp", reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -A OUTPUT -d {shop/api-1} -p {icmp} -j DROP`},
	{name: "a drop in the client's POSTROUTING", to: far, reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -t mangle -A POSTROUTING -p tcp --dport 8080 -j DROP`},
	{name: "a drop of a datagram in the client's POSTROUTING", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -t mangle -A POSTROUTING -p udp -j DROP`},
	{name: "a drop of a reject in the client's INPUT", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		shop/web-0 {iptables} -A INPUT -p {icmp} -s {node-2} -j DROP
		shop/web-0 {iptables} -A INPUT -p {icmp} -s {gateway-2} -j DROP`},
	{name: "a drop in raw on the way", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -t raw -A PREROUTING -p tcp --dport 8080 -j DROP`},
	{name: "a drop in the server's INPUT", to: far, reason: verdict.NetfilterDrop, change: `
		shop/api-1 {iptables} -A INPUT -p tcp --dport 8080 -j DROP`},
	{name: "a drop in the server's OUTPUT", to: far, reason: verdict.NetfilterDrop, change: `
		shop/api-1 {iptables} -A OUTPUT -p tcp --sport 8080 -j DROP`},

	// Segments of one connection that rules tell apart.
	{name: "the last packet of the handshake is dropped, and all without data", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 --tcp-flags ALL ACK -m length --length 0:100 -j DROP`},
	{name: "the last packet of the handshake is rejected", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 --tcp-flags ALL ACK -m length --length 0:100 -j REJECT`},
	{name: "the last packet of the handshake is reset", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 --tcp-flags ALL ACK -m length --length 0:100 -j REJECT --reject-with tcp-reset`},
	{name: "acknowledgements of the server are dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 --tcp-flags ALL ACK -m length --length 0:100 -j DROP`},
	{name: "acknowledgements are dropped, but not those that say what was sent twice", to: far, only: netstack.IPv4, change: `
		shop/api-1 sysctl -qw net.ipv4.tcp_timestamps=0
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -m length --length 40 -j DROP`},
	{name: "short segments of a connection without timestamps are dropped", to: far, only: netstack.IPv4, reason: verdict.NetfilterDrop, change: `
		shop/api-1 sysctl -qw net.ipv4.tcp_timestamps=0 net.ipv4.tcp_sack=0
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -m length --length 40 -j DROP`},
	{name: "the error about a SYN is dropped by its length", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {iptables} -I FORWARD -p {icmp} -m length --length 88 -j DROP`},
	{name: "the error about a SYN is dropped by its length", to: far, only: netstack.IPv6, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {iptables} -I FORWARD -p {icmp} -m length --length 128 -j DROP`},
	{name: "the error about a SYN is not as long as a full-size one", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {iptables} -I FORWARD -p {icmp} -m length --length 576:1280 -j DROP`},
	{name: "a SYN of a client without timestamps is dropped by its length", to: far, only: netstack.IPv4, reason: verdict.NetfilterDrop, change: `
		shop/web-0 sysctl -qw net.ipv4.tcp_timestamps=0
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -m length --length 52 -j DROP`},
	{name: "the server's answer without timestamps and SACK is dropped by its length", to: far, only: netstack.IPv4, reason: verdict.NetfilterDrop, change: `
		shop/web-0 sysctl -qw net.ipv4.tcp_sack=0
		shop/api-1 sysctl -qw net.ipv4.tcp_timestamps=0
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -m length --length 48 -j DROP`},
	{name: "the socket of a connection takes its segments, and none takes the first", to: far, reason: verdict.NetfilterDrop, change: `
		shop/api-1 {iptables} -t mangle -A INPUT -p tcp --dport 8080 -m socket -j DROP`},
	{name: "segments that push are dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 --tcp-flags PSH PSH -j DROP`},
	{name: "segments that do not push are dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 --tcp-flags SYN,PSH NONE -j DROP`},
	{name: "messages are dropped by their length", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -m length --length 180:200 -j DROP`},
	{name: "messages are let pass by their length", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -m length ! --length 52:200 -j DROP`},
	{name: "answers are dropped by their length", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -m length --length 180:200 -j DROP`},
	{name: "answers are reset by their length", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -m length --length 180:200 -j REJECT --reject-with tcp-reset`},
	{name: "all that is said after the handshake is reset by its length, and the client sends again", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -m length --length 0:200 --tcp-flags SYN,RST NONE -j REJECT --reject-with tcp-reset`},
	{name: "a full-size segment marks its connection, and the mark is dropped", to: far, reason: verdict.NetfilterDrop, change: `
		shop/api-1 {iptables} -t mangle -A OUTPUT -p tcp --sport 8080 -m connmark --mark 0x20 -j DROP
		shop/api-1 {iptables} -t mangle -A OUTPUT -p tcp --sport 8080 -m length --length 1000: -j CONNMARK --set-mark 0x20`},
	{name: "a datagram is dropped by its length", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -p udp -m length --length 156:176 -j DROP`},
	{name: "a datagram is let pass by its length", to: far, proto: "udp", change: `
		node-2 {iptables} -I FORWARD -p udp -m length ! --length 156:176 -j DROP`},
	{name: "an echo request is let pass by its length", to: far, proto: "icmp", change: `
		node-2 {iptables} -I FORWARD -p {icmp} -d {shop/api-1} -m length ! --length 84:104 -j DROP`},

	// Copies of packets.
	{name: "a copy finds no neighbour, and the packet is dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j TEE --gateway {nobody}
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j DROP`},
	{name: "a copy of nftables finds no neighbour, and the datagram is dropped", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-1 nft add table {nft} copies
		node-1 nft add chain {nft} copies c { type filter hook prerouting priority -150 ; }
		node-1 nft add rule {nft} copies c udp dport 5353 dup to {nobody} device eth0
		node-1 nft add rule {nft} copies c udp dport 5353 drop`},
	{name: "a copy finds no neighbour, and the packet is answered", to: far, change: `
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j TEE --gateway {nobody}`},
	{name: "a copy of a datagram finds no neighbour, and it is answered", to: far, proto: "udp", change: `
		node-1 {iptables} -t mangle -A PREROUTING -p udp --dport 5353 -j TEE --gateway {nobody}`},
	{name: "a copy arrives, and the packet is dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j TEE --gateway {shop/web-0}
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j DROP`},
	{name: "a copy is rejected on the host that makes it, and the packet is dropped", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -A OUTPUT -p tcp --dport 8080 -j REJECT
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j TEE --gateway {shop/web-0}
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j DROP`},
	{name: "a policy of DROP that RELATED and ESTABLISHED do not help", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -P FORWARD DROP`},
	{name: "replies are dropped on the client's node", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -j DROP`},
	{name: "replies are rejected on the client's node", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --sport 8080 -j REJECT`},
	{name: "the answer to a datagram is dropped", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p udp --sport 5353 -j DROP`},
	{name: "echo requests are ignored", to: far, proto: "icmp", only: netstack.IPv4, reason: verdict.NoListener, change: `
		shop/api-1 sysctl -qw net.ipv4.icmp_echo_ignore_all=1`},
	{name: "echo requests are ignored, IPv6", to: far, proto: "icmp", only: netstack.IPv6, reason: verdict.NoListener, change: `
		shop/api-1 sysctl -qw net.ipv6.icmp.echo_ignore_all=1`},
	{name: "echo requests are dropped", to: far, proto: "icmp", reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -p {icmp} -d {shop/api-1} -j DROP`},
	{name: "only first packets are accepted", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -d {shop/api-1} -j DROP
		node-2 {iptables} -I FORWARD -d {shop/api-1} -m conntrack --ctstate NEW -j ACCEPT`},
	{name: "only full-size packets are dropped", to: far, reason: verdict.NetfilterDrop, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-2 {iptables} -I FORWARD -d {shop/api-1} -p tcp -m length --length 1000:65535 -j DROP`},
	{name: "packets that begin a connection must be marked, and are", to: far, change: `
		node-2 {iptables} -t mangle -A PREROUTING -d {shop/api-1} -j MARK --set-mark 0x7
		node-2 {iptables} -I FORWARD -d {shop/api-1} -m mark ! --mark 0x7 -j DROP`},
	{name: "a chain that returns to its caller, which drops", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -N A
		node-2 {iptables} -N B
		node-2 {iptables} -A B -p udp -j ACCEPT
		node-2 {iptables} -A B -j RETURN
		node-2 {iptables} -A A -j B
		node-2 {iptables} -A A -p tcp --dport 8080 -j DROP
		node-2 {iptables} -I FORWARD -d {shop/api-1} -j A`},
	{name: "an own nftables table", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 nft add table inet own
		node-2 nft add chain inet own forward { type filter hook forward priority 10 ; policy accept ; }
		node-2 nft add rule inet own forward tcp dport { 8000-9000 } drop`},
	{name: "an nftables table that rejects with a reset", to: far, reason: verdict.NetfilterReject, change: `
		node-2 nft add table inet own
		node-2 nft add chain inet own forward { type filter hook forward priority 10 ; policy accept ; }
		node-2 nft add rule inet own forward tcp dport 8080 reject with tcp reset`},
	{name: "a reset for the server of what is longer than its answer to the first packet", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook forward priority 0 ; }
		node-1 nft add rule inet own early tcp sport 8080 meta length != 60 reject with tcp reset`},
	{name: "a reset for the server of what is longer than its answer to the first packet, IPv6", to: far, only: netstack.IPv6, reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook forward priority 0 ; }
		node-1 nft add rule inet own early tcp sport 8080 meta length != 80 reject with tcp reset`},
	{name: "admin-prohibited before the route is known, tcp at node-1", to: far, proto: "tcp", reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook prerouting priority 0 ; }
		node-1 nft add rule inet own early tcp dport 8080 reject with icmpx admin-prohibited`},
	{name: "admin-prohibited before the route is known, udp at node-2", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		node-2 nft add table inet own
		node-2 nft add chain inet own early { type filter hook prerouting priority 0 ; }
		node-2 nft add rule inet own early udp dport 5353 reject with icmpx admin-prohibited`},
	{name: "admin-prohibited before the route is known, icmp at shop/api-1", to: far, proto: "icmp", reason: verdict.NetfilterReject, change: `
		shop/api-1 nft add table inet own
		shop/api-1 nft add chain inet own early { type filter hook prerouting priority 0 ; }
		shop/api-1 nft add rule inet own early {nft} daddr {shop/api-1} meta l4proto {icmp} reject with icmpx admin-prohibited`},
	{name: "icmp-host-prohibited about the last packet of a handshake", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 iptables -I FORWARD -p tcp --dport 8080 -m conntrack --ctstatus SEEN_REPLY -j REJECT --reject-with icmp-host-prohibited`},
	{name: "icmp-net-prohibited about the last packet of a handshake", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 iptables -I FORWARD -p tcp --dport 8080 -m conntrack --ctstatus SEEN_REPLY -j REJECT --reject-with icmp-net-prohibited`},
	{name: "icmp-admin-prohibited about the last packet of a handshake", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 iptables -I FORWARD -p tcp --dport 8080 -m conntrack --ctstatus SEEN_REPLY -j REJECT --reject-with icmp-admin-prohibited`},
	{name: "icmp6-adm-prohibited about the last packet of a handshake", to: far, only: netstack.IPv6, reason: verdict.NetfilterReject, change: `
		node-1 ip6tables -I FORWARD -p tcp --dport 8080 -m conntrack --ctstatus SEEN_REPLY -j REJECT --reject-with icmp6-adm-prohibited`},
	{name: "admin-prohibited before the route is known, about the last packet of a handshake", to: far, reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook prerouting priority 0 ; }
		node-1 nft add rule inet own early tcp dport 8080 ct status seen-reply reject with icmpx admin-prohibited`},
	{name: "a reset of a netdev chain, which no rule sees", to: far, reason: verdict.NetfilterReject, change: `
		node-2 nft add table netdev own
		node-2 nft add chain netdev own early { type filter hook ingress device eth0 priority 0 ; }
		node-2 nft add rule netdev own early tcp dport 8080 reject with tcp reset
		node-2 {iptables} -t mangle -A OUTPUT -d {shop/web-0} -j DROP`},
	{name: "a reject of a netdev chain, which no rule sees", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		node-2 nft add table netdev own
		node-2 nft add chain netdev own early { type filter hook ingress device eth0 priority 0 ; }
		node-2 nft add rule netdev own early udp dport 5353 reject
		node-2 {iptables} -t mangle -A OUTPUT -d {shop/web-0} -j DROP`},
	{name: "a reject of an inet chain at ingress, which rules see", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		node-2 nft add table inet own
		node-2 nft add chain inet own early { type filter hook ingress device eth0 priority 0 ; }
		node-2 nft add rule inet own early udp dport 5353 reject
		node-2 {iptables} -t mangle -A OUTPUT -d {shop/web-0} -j DROP`},
	{name: "a reject of a netdev chain of a host without a route back", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		shop/api-1 nft add table netdev own
		shop/api-1 nft add chain netdev own early { type filter hook ingress device eth0 priority 0 ; }
		shop/api-1 nft add rule netdev own early udp dport 5353 reject
		shop/api-1 {ip} route del default`},
	{name: "a reject of a netdev chain of a bridge port", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		node-1 nft add table netdev own
		node-1 nft add chain netdev own early { type filter hook ingress device {veth shop/web-0} priority 0 ; }
		node-1 nft add rule netdev own early udp dport 5353 reject`},
	{name: "an ICMP error is not sent about a frame to another device", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook ingress device {veth shop/web-0} priority 0 ; }
		node-1 nft add rule inet own early udp dport 5353 reject`},
	{name: "a reset is sent about a frame to another device", to: far, reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet own
		node-1 nft add chain inet own early { type filter hook ingress device {veth shop/web-0} priority 0 ; }
		node-1 nft add rule inet own early tcp dport 8080 reject with tcp reset`},
	{name: "what the device of a node drops on its way out, udp", from: "node-1", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-1 nft add table netdev own
		node-1 nft add chain netdev own out { type filter hook egress device eth0 priority 0 ; }
		node-1 nft add rule netdev own out {nft} daddr {shop/api-1} drop`},
	{name: "what the device of a node drops on its way out, udp, before its neighbour is known", from: "node-1", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-1 nft add table netdev own
		node-1 nft add chain netdev own out { type filter hook egress device eth0 priority 0 ; }
		node-1 nft add rule netdev own out {nft} daddr {shop/api-1} drop
		node-1 ip neigh flush dev eth0`},
	{name: "a reset about a bridged packet, which no rule sees", to: near, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
		node-1 {iptables} -t mangle -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
		node-1 {iptables} -t mangle -A POSTROUTING -p tcp --tcp-flags RST RST -j DROP`},
	{name: "a reset about a packet from a bridge, which no rule sees", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
		node-1 {iptables} -t mangle -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
		node-1 {iptables} -t mangle -A POSTROUTING -p tcp --tcp-flags RST RST -j DROP`},
	{name: "a reset about a packet from a bridge to its host, which no rule sees", to: "{node-1}", port: 22, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset
		node-1 {iptables} -t mangle -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
		node-1 {iptables} -t mangle -A POSTROUTING -p tcp --tcp-flags RST RST -j DROP`},
	{name: "a reset about a packet from a bridge without br_netfilter, which rules see", to: far, reason: verdict.NetfilterReject, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
		node-1 {iptables} -t mangle -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
		node-1 {iptables} -t mangle -A POSTROUTING -p tcp --tcp-flags RST RST -j DROP`},
	{name: "a reset about a translated packet from a bridge is not translated back", to: svc, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset`},
	{name: "a reset about a translated packet from a bridge without br_netfilter is translated back", to: svc, reason: verdict.NetfilterReject, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with tcp-reset`},
	{name: "an ipset that holds the server", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 ipset create banned-{ipset} hash:net family {ipset}
		node-2 ipset add banned-{ipset} {shop/api-1}
		node-2 {iptables} -I FORWARD -m set --match-set banned-{ipset} dst -j DROP`},

	// Address translation.
	{name: "a masqueraded connection comes back", to: far, change: `
		node-1 {iptables} -t nat -A POSTROUTING -s {pods-1} -o eth0 -j MASQUERADE`},
	{name: "a source translated to an address of the node", to: far, change: `
		node-1 {ip} addr add {nobody}/{single} dev eth0
		node-1 {iptables} -t nat -A POSTROUTING -s {pods-1} -o eth0 -j SNAT --to-source {nobody}`},
	{name: "a source translated to an address of nobody", to: far, reason: verdict.NeighbourFailed, change: `
		node-1 {iptables} -t nat -A POSTROUTING -s {pods-1} -o eth0 -j SNAT --to-source {nobody}`},
	{name: "a redirect to a port where nobody listens", to: far, reason: verdict.NoListener, change: `
		shop/api-1 {iptables} -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 8081`},
	{name: "the client's own rule redirects it to another pod", to: far, port: 9999, change: `
		shop/web-0 {iptables} -t nat -A OUTPUT -p tcp --dport 9999 -j DNAT --to-destination :8080`},
	{name: "a destination translated for packets that are not tracked", to: "{service}", port: 80, reason: verdict.ServiceBackendMismatch, change: `
		node-1 {iptables} -t raw -A PREROUTING -p tcp --dport 80 -j NOTRACK`},
	{name: "a reject on the way through a service", to: svc, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT`},
	{name: "bridged pods are not translated back without br_netfilter", to: svc + "/near", reason: verdict.ReplyNotTranslated, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`},
	{name: "bridged pods talk to each other without br_netfilter", to: near, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`},
	{name: "bridged packets masqueraded to the bridge's address", to: near, change: `
		node-1 {iptables} -t nat -A POSTROUTING -s {shop/web-0} -d {shop/api-0} -j MASQUERADE`},
	{name: "bridged packets masqueraded to the address of a bridge that does not forward", to: near, only: netstack.IPv4, reason: verdict.ForwardingDisabled, change: `
		node-1 sysctl -qw net.ipv4.conf.cni0.forwarding=0
		node-1 iptables -t nat -A POSTROUTING -s {shop/web-0} -d {shop/api-0} -j MASQUERADE`},
	{name: "bridged packets masqueraded on a node that does not forward IPv6", to: near, only: netstack.IPv6, change: `
		node-1 sysctl -qw net.ipv6.conf.all.forwarding=0
		node-1 ip6tables -t nat -A POSTROUTING -s {shop/web-0} -d {shop/api-0} -j MASQUERADE`},
	{name: "bridged packets translated on a node that does not forward", to: svc + "/near", only: netstack.IPv4, reason: verdict.ForwardingDisabled, change: `
		node-1 sysctl -qw net.ipv4.ip_forward=0`},
	{name: "bridged packets translated on a node that does not forward IPv6", to: svc + "/near", only: netstack.IPv6, change: `
		node-1 sysctl -qw net.ipv6.conf.all.forwarding=0`},
	{name: "bridged packets translated to an address that a routing rule prohibits", to: "{nobody}", port: 80, reason: verdict.RouteProhibit, change: `
		node-1 {iptables} -t nat -A PREROUTING -s {shop/web-0} -d {nobody} -j DNAT --to-destination {shop/api-0}
		node-1 {ip} rule add to {shop/api-0} iif cni0 prohibit`},
	{name: "a pod reaches itself through its service when its port has hairpin", from: near, to: svc + "/near", change: `
		node-1 bridge link set dev {veth shop/api-0} hairpin on`},
	{name: "a pod does not reach itself through its service when its port has no hairpin", from: near, to: svc + "/near", reason: verdict.BridgeHairpinOff, change: `
		node-1 bridge link set dev {veth shop/api-0} hairpin off`},
	{name: "a destination translated to the loopback address", to: far, only: netstack.IPv4, reason: verdict.MartianSource, change: `
		shop/api-1 iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 127.0.0.1:8080`},
	{name: "a destination translated to the loopback address, with route_localnet", to: far, only: netstack.IPv4, change: `
		shop/api-1 sysctl -qw net.ipv4.conf.eth0.route_localnet=1
		shop/api-1 iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 127.0.0.1:8080`},
	{name: "a source translated to a loopback address", to: far, only: netstack.IPv4, reason: verdict.MartianSource, change: `
		shop/web-0 ip neigh replace {gateway-1} lladdr 0a:58:0a:f4:01:01 dev eth0 nud permanent
		shop/web-0 iptables -t nat -A POSTROUTING -p tcp --dport 8080 -j SNAT --to-source 127.0.0.5`},
	{name: "a source translated to a loopback address, before the gateway is known", to: far, only: netstack.IPv4, reason: verdict.MartianSource, change: `
		shop/web-0 ip neigh flush dev eth0
		shop/web-0 iptables -t nat -A POSTROUTING -p tcp --dport 8080 -j SNAT --to-source 127.0.0.5`},

	// Routes.
	{name: "the client has a prohibit route", to: far, reason: verdict.RouteProhibit, change: `
		shop/web-0 {ip} route add prohibit {pods-2}`},
	{name: "the client has an unreachable route", to: far, reason: verdict.RouteUnreachable, change: `
		shop/web-0 {ip} route add unreachable {pods-2}`},
	{name: "the client has a blackhole route", to: far, reason: verdict.RouteBlackhole, change: `
		shop/web-0 {ip} route add blackhole {pods-2}`},
	{name: "the client has a throw route", to: far, reason: verdict.NoRoute, change: `
		shop/web-0 {ip} route add throw {pods-2}`},
	{name: "the client has no default route", to: far, reason: verdict.NoRoute, change: `
		shop/web-0 {ip} route del default`},
	{name: "the client has no default route, udp", to: far, proto: "udp", reason: verdict.NoRoute, change: `
		shop/web-0 {ip} route del default`},
	{name: "the client has no default route, icmp", to: far, proto: "icmp", reason: verdict.NoRoute, change: `
		shop/web-0 {ip} route del default`},
	{name: "a rule of the client says unreachable", to: far, reason: verdict.RouteUnreachable, change: `
		shop/web-0 {ip} rule add to {pods-2} unreachable`},
	{name: "a rule of the client says prohibit", to: far, reason: verdict.RouteProhibit, change: `
		shop/web-0 {ip} rule add to {pods-2} prohibit`},
	{name: "a rule of the client says blackhole", to: far, reason: verdict.RouteBlackhole, change: `
		shop/web-0 {ip} rule add to {pods-2} blackhole`},
	{name: "a rule of the client for its own source, which connect looks up after choosing it", to: far, only: netstack.IPv4, reason: verdict.RouteUnreachable, change: `
		shop/web-0 {ip} rule add from {shop/web-0} to {pods-2} lookup 100
		shop/web-0 {ip} route add unreachable default table 100`},
	{name: "the node has a blackhole route", to: far, reason: verdict.RouteBlackhole, change: `
		node-1 {ip} route replace blackhole {pods-2}`},
	{name: "the node has an unreachable route", to: far, reason: verdict.RouteUnreachable, change: `
		node-1 {ip} route replace unreachable {pods-2}`},
	{name: "the node has a prohibit route", to: far, reason: verdict.RouteProhibit, change: `
		node-1 {ip} route replace prohibit {pods-2}`},
	{name: "the node has a throw route", to: far, reason: verdict.NoRoute, change: `
		node-1 {ip} route replace throw {pods-2}`},
	{name: "a rule of the node says unreachable", to: far, reason: verdict.RouteUnreachable, change: `
		node-1 {ip} rule add iif cni0 to {pods-2} unreachable`},
	{name: "a rule of the node says prohibit", to: far, reason: verdict.RouteProhibit, change: `
		node-1 {ip} rule add iif cni0 to {pods-2} prohibit`},
	{name: "the node has no route at all", to: far, reason: verdict.NoRoute, change: `
		node-1 {ip} route del {pods-2}
		node-1 {ip} route del default`},
	{name: "the server's node has an unreachable route to it", to: far, reason: verdict.RouteUnreachable, change: `
		node-2 {ip} route add unreachable {shop/api-1}`},
	{name: "the server's node has a prohibit route to it, udp", to: far, proto: "udp", reason: verdict.RouteProhibit, change: `
		node-2 {ip} route add prohibit {shop/api-1}`},
	{name: "the server has no route back", to: far, reason: verdict.NoRoute, change: `
		shop/api-1 {ip} route del default`},
	{name: "the server has no route back, udp", to: far, proto: "udp", reason: verdict.NoRoute, change: `
		shop/api-1 {ip} route del default`},
	{name: "the server's node has no route back but the default", to: far, reason: verdict.InvalidRoute, change: `
		node-2 {ip} route del {pods-1}`},
	{name: "the server's default gateway is nobody", to: far, reason: verdict.NeighbourFailed, change: `
		shop/api-1 {ip} route replace default via {shop/api-1}9`, only: netstack.IPv4},
	{name: "a mark that a routing rule sends into a blackhole", to: far, reason: verdict.RouteBlackhole, change: `
		node-1 {iptables} -t mangle -A PREROUTING -s {shop/web-0} -p tcp --dport 8080 -j MARK --set-xmark 0x10/0x10
		node-1 {ip} rule add fwmark 0x10/0x10 lookup 100
		node-1 {ip} route add blackhole default table 100`},
	{name: "a mark in the client's OUTPUT that routes the packet again", to: far, reason: verdict.RouteUnreachable, change: `
		shop/web-0 {iptables} -t mangle -A OUTPUT -p tcp --dport 8080 -j MARK --set-xmark 0x10/0x10
		shop/web-0 {ip} rule add fwmark 0x10/0x10 unreachable`},
	{name: "a routing loop between two nodes", to: far, reason: verdict.InvalidRoute, change: `
		node-2 {ip} route add {shop/api-1} via {node-1}`},
	{name: "a routing loop between two nodes, udp", to: far, proto: "udp", reason: verdict.InvalidRoute, change: `
		node-2 {ip} route add {shop/api-1} via {node-1}`},
	{name: "the server has no local route for its address", to: far, reason: verdict.InvalidRoute, change: `
		shop/api-1 {ip} route del local {shop/api-1} dev eth0 table local`},
	{name: "the server has no local route for its address, icmp", to: far, proto: "icmp", reason: verdict.InvalidRoute, change: `
		shop/api-1 {ip} route del local {shop/api-1} dev eth0 table local`},
	{name: "the server has no local route for its address, and its node knows its neighbour", to: far, reason: verdict.InvalidRoute, change: `
		node-2 {ip} neigh replace {shop/api-1} lladdr 0a:58:0a:f4:02:14 dev cni0 nud permanent
		shop/api-1 {ip} route del local {shop/api-1} dev eth0 table local`},
	{name: "the client has no local route for its address", to: far, reason: verdict.InvalidRoute, change: `
		shop/web-0 {ip} route del local {shop/web-0} dev eth0 table local`},
	{name: "a node has no local route for the address of its bridge", to: "{gateway-2}", proto: "icmp", reason: verdict.InvalidRoute, change: `
		node-2 {ip} route del local {gateway-2} dev cni0 table local`},
	{name: "a node has no local route for its address", to: "{node-2}", proto: "icmp", reason: verdict.InvalidRoute, change: `
		node-2 {ip} route del local {node-2} dev eth0 table local`},
	{name: "a routing rule for the port of the server", to: far, reason: verdict.RouteProhibit, change: `
		node-1 {ip} rule add ipproto tcp dport 8080 to {pods-2} prohibit`},

	// Reverse path filtering and sources that cannot be.
	{name: "rp_filter on the way back, where another interface leads to the server", to: far, only: netstack.IPv4, reason: verdict.ReversePathFilter, change: `
		node-1 iptables -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 1
		node-1 ip rule add fwmark 1 lookup 100
		node-1 ip route add {pods-2} via {node-2} table 100
		node-1 ip route replace {pods-2} dev cni0
		node-1 sysctl -qw net.ipv4.conf.eth0.rp_filter=1`},
	{name: "loose rp_filter on the way back, where another interface leads to the server", to: far, only: netstack.IPv4, change: `
		node-1 iptables -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 1
		node-1 ip rule add fwmark 1 lookup 100
		node-1 ip route add {pods-2} via {node-2} table 100
		node-1 ip route replace {pods-2} dev cni0
		node-1 sysctl -qw net.ipv4.conf.eth0.rp_filter=2`},
	{name: "rp_filter with a mark that src_valid_mark lets it see", to: far, only: netstack.IPv4, change: `
		node-1 iptables -t mangle -A PREROUTING -j MARK --set-mark 1
		node-1 ip rule add fwmark 1 to {pods-2} lookup 100
		node-1 ip route add {pods-2} via {node-2} table 100
		node-1 ip route replace {pods-2} dev cni0
		node-1 sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.eth0.src_valid_mark=1`},
	{name: "rp_filter looks back as from the interface of the way out", to: far, only: netstack.IPv4, change: `
		node-1 ip rule add iif cni0 lookup 100
		node-1 ip route add {pods-2} via {node-2} table 100
		node-1 ip route replace {pods-2} dev cni0
		node-1 sysctl -qw net.ipv4.conf.eth0.rp_filter=1`},
	{name: "rp_filter at the node where the packet ends looks back as from the host", to: "{node-1}", from: "node-2", proto: "icmp", only: netstack.IPv4, reason: verdict.ReversePathFilter, change: `
		node-1 ip rule add iif eth0 to {node-2} lookup 100
		node-1 ip route add {node-2} dev eth0 table 100
		node-1 ip route add {node-2} dev cni0
		node-1 sysctl -qw net.ipv4.conf.eth0.rp_filter=1`},
	{name: "the rpfilter match where a better route back has another interface", to: far, only: netstack.IPv4, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 1
		node-2 {ip} rule add fwmark 1 lookup 100
		node-2 {ip} route add {pods-1} via {node-1} table 100
		node-2 {ip} route del {pods-1}
		node-2 {ip} route add {pods-1} dev cni0 metric 10
		node-2 {ip} route add {pods-1} via {node-1} metric 2000
		node-2 {iptables} -t raw -A PREROUTING -i eth0 -s {pods-1} -m rpfilter --invert -j DROP`},
	{name: "the rpfilter match of IPv6 takes a worse route back by the interface", to: far, only: netstack.IPv6, change: `
		node-2 {iptables} -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 1
		node-2 {ip} rule add fwmark 1 lookup 100
		node-2 {ip} route add {pods-1} via {node-1} table 100
		node-2 {ip} route del {pods-1}
		node-2 {ip} route add {pods-1} dev cni0 metric 10
		node-2 {ip} route add {pods-1} via {node-1} metric 2000
		node-2 {iptables} -t raw -A PREROUTING -i eth0 -s {pods-1} -m rpfilter --invert -j DROP`},
	{name: "the fib expression where a better route back has another interface", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 1
		node-2 {ip} rule add fwmark 1 lookup 100
		node-2 {ip} route add {pods-1} via {node-1} table 100
		node-2 {ip} route del {pods-1}
		node-2 {ip} route add {pods-1} dev cni0 metric 10
		node-2 {ip} route add {pods-1} via {node-1} metric 2000
		node-2 nft add table {nft} back
		node-2 nft add chain {nft} back c { type filter hook prerouting priority -300 ; }
		node-2 nft add rule {nft} back c iifname eth0 fib saddr . iif oif missing drop`},
	{name: "the client's node has the server's address too", to: far, reason: verdict.DeliveredElsewhere, change: `
		node-1 {ip} addr add {shop/api-1} dev lo`},
	{name: "the server has the client's address too", to: far, only: netstack.IPv4, reason: verdict.MartianSource, change: `
		shop/api-1 ip addr add {shop/web-0}/32 dev lo`},
	{name: "the node has the client's address too, and would take local sources", to: far, only: netstack.IPv4, reason: verdict.DeliveredElsewhere, change: `
		shop/api-1 sysctl -qw net.ipv4.conf.eth0.accept_local=1
		shop/api-1 ip addr add {shop/web-0}/32 dev lo`},
	{name: "the server has the client's address too, IPv6", to: far, only: netstack.IPv6, reason: verdict.DeliveredElsewhere, change: `
		shop/api-1 ip -6 addr add {shop/web-0}/128 dev lo`},

	// Links and neighbours.
	{name: "the server's interface is down", to: far, reason: verdict.InterfaceDown, change: `
		shop/api-1 ip link set eth0 down
		node-2 ip neigh flush dev cni0`},
	{name: "the client's interface is down", to: far, reason: verdict.NoRoute, change: `
		shop/web-0 ip link set eth0 down`},
	{name: "the bridge of the client's node is down", to: far, reason: verdict.InterfaceDown, change: `
		node-1 ip link set cni0 down
		shop/web-0 ip neigh flush dev eth0`},
	{name: "the bridge of the server's node is down", to: far, reason: verdict.InterfaceDown, change: `
		node-2 ip link set cni0 down`},
	{name: "the uplink of the server's node is down", to: far, reason: verdict.InterfaceDown, change: `
		node-2 ip link set eth0 down
		node-1 ip neigh flush dev eth0`},
	{name: "the port of the client is down", to: near, reason: verdict.InterfaceDown, change: `
		node-1 ip link set {veth shop/web-0} down
		shop/web-0 ip neigh flush dev eth0`},
	{name: "both ports are isolated", to: near, reason: verdict.BridgePortIsolated, change: `
		node-1 bridge link set dev {veth shop/web-0} isolated on
		node-1 bridge link set dev {veth shop/api-0} isolated on
		shop/web-0 ip neigh flush dev eth0
		shop/api-0 ip neigh flush dev eth0`},
	{name: "one port is isolated", to: near, change: `
		node-1 bridge link set dev {veth shop/web-0} isolated on`},
	{name: "the port of the server is blocked", to: near, reason: verdict.BridgePortBlocked, change: `
		node-1 bridge link set dev {veth shop/api-0} state disabled
		shop/web-0 ip neigh flush dev eth0`},
	{name: "a permanent neighbour entry is wrong", to: near, reason: verdict.NeighbourStale, change: `
		shop/web-0 {ip} neigh replace {shop/api-0} lladdr 02:00:00:00:00:99 dev eth0 nud permanent`},
	{name: "a permanent neighbour entry is another pod's", to: far, reason: verdict.NeighbourStale, change: `
		shop/web-0 {ip} neigh replace {gateway-1} lladdr 0a:58:0a:f4:01:14 dev eth0 nud permanent`},
	{name: "a permanent neighbour entry is right", to: near, change: `
		shop/web-0 {ip} neigh replace {shop/api-0} lladdr 0a:58:0a:f4:01:14 dev eth0 nud permanent`},
	{name: "nobody has the address", to: "{nobody}", from: "node-1", port: 80, reason: verdict.NeighbourFailed},
	{name: "nobody has the address, from a pod", to: "{nobody}", port: 80, reason: verdict.NeighbourFailed},
	{name: "nobody has the address, udp from a pod", to: "{nobody}", port: 80, proto: "udp", reason: verdict.NeighbourFailed},
	{name: "a gateway that only proxy ARP answers for", to: far, only: netstack.IPv4, change: `
		node-1 sysctl -qw net.ipv4.conf.cni0.proxy_arp=1 net.ipv4.neigh.cni0.proxy_delay=0
		shop/web-0 ip route del default
		shop/web-0 ip route add 169.254.1.1 dev eth0
		shop/web-0 ip route add default via 169.254.1.1`},
	{name: "a gateway that nobody answers for", to: far, only: netstack.IPv4, reason: verdict.NeighbourFailed, change: `
		shop/web-0 ip route del default
		shop/web-0 ip route add 169.254.1.1 dev eth0
		shop/web-0 ip route add default via 169.254.1.1`},
	{name: "a pod that is routed to, as Calico does", to: far, only: netstack.IPv4, change: `
		node-1 ip link set {veth shop/web-0} nomaster
		node-1 ip route add {shop/web-0} dev {veth shop/web-0} scope link
		node-1 sysctl -qw net.ipv4.conf.{veth shop/web-0}.proxy_arp=1 net.ipv4.neigh.{veth shop/web-0}.proxy_delay=0
		shop/web-0 ip addr flush dev eth0
		shop/web-0 ip addr add {shop/web-0}/32 dev eth0
		shop/web-0 ip route add 169.254.1.1 dev eth0 scope link
		shop/web-0 ip route add default via 169.254.1.1 dev eth0`},
	{name: "a host that answers ARP only for the addresses of the interface", to: far, only: netstack.IPv4, reason: verdict.ARPFiltered, change: `
		shop/web-0 ip route replace default via {node-1} dev eth0 onlink
		node-1 sysctl -qw net.ipv4.conf.all.arp_ignore=1`},
	{name: "a host that answers ARP for all of its addresses", to: far, only: netstack.IPv4, change: `
		shop/web-0 ip route replace default via {node-1} dev eth0 onlink`},
	{name: "IPv6 is off on the server's interface", to: far, only: netstack.IPv6, reason: verdict.NeighbourFailed, change: `
		shop/api-1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
		node-2 ip -6 neigh flush dev cni0`},

	// Where errors come from, and to whom they go.
	{name: "an error of a node that may not send from its bridge's address", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {ip} rule add from {gateway-1} prohibit`},
	{name: "an error of a node that may not send from the address of the inbound interface", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 sysctl -qw net.ipv4.icmp_errors_use_inbound_ifaddr=1
		node-1 iptables -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 ip rule add from {gateway-1} prohibit`},
	{name: "an error of a node whose route back has a source", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {ip} route replace {shop/web-0} dev cni0 src {node-1}
		node-1 {iptables} -A OUTPUT -p {icmp} -s {node-1} -j DROP`},
	{name: "an error of a node that may not send from its other address", to: far, reason: verdict.RouteUnreachable, change: `
		node-2 {ip} route add unreachable {shop/api-1}
		node-2 {ip} route del {pods-1}
		node-2 {ip} route add {pods-1} via {node-1} src {gateway-2}
		node-2 {iptables} -A OUTPUT -p {icmp} -s {gateway-2} -j DROP`},
	{name: "an error has the mark of what it is about", to: far, reason: verdict.NetfilterReject, change: `
		node-1 sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1
		node-1 {iptables} -t mangle -A PREROUTING -p tcp --dport 8080 -j MARK --set-mark 0x77
		node-1 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT
		node-1 {ip} rule add fwmark 0x77 to {shop/web-0} prohibit`},
	{name: "a reset has the mark of what it answers", to: far, port: 81, reason: verdict.NoListener, change: `
		shop/api-1 sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1
		shop/api-1 {iptables} -t mangle -A INPUT -p tcp --dport 81 -j MARK --set-mark 0x77
		shop/api-1 {ip} rule add fwmark 0x77 prohibit`},
	{name: "a port is unreachable at an address that may not answer", to: far, proto: "udp", port: 81, reason: verdict.NoListener, change: `
		shop/api-1 {ip} rule add from {shop/api-1} prohibit`},
	{name: "a reject before the route is known, of a host that may not answer", to: far, proto: "udp", reason: verdict.NetfilterReject, change: `
		shop/api-1 nft add table inet own
		shop/api-1 nft add chain inet own early { type filter hook prerouting priority 10 ; }
		shop/api-1 nft add rule inet own early udp dport 5353 reject
		shop/api-1 {ip} rule add from {shop/api-1} prohibit`},
	{name: "an error about a masqueraded packet whose neighbour is missing", from: "node-1", to: far, reason: verdict.NeighbourFailed, change: `
		node-2 {iptables} -t nat -A POSTROUTING -o cni0 -j MASQUERADE
		shop/api-1 ip addr flush dev eth0
		node-2 ip neigh flush dev cni0`},
	{name: "an error about a masqueraded datagram whose neighbour is missing", to: far, proto: "udp", reason: verdict.NeighbourFailed, change: `
		node-2 {iptables} -t nat -A POSTROUTING -o cni0 -j MASQUERADE
		shop/api-1 ip addr flush dev eth0
		node-2 ip neigh flush dev cni0`},
	{name: "an error about a masqueraded packet that comes back to where it was masqueraded", to: far, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -t nat -A POSTROUTING -s {pods-1} -o eth0 -j MASQUERADE
		node-2 {iptables} -I FORWARD -p tcp --dport 8080 -j REJECT`},

	// Addresses that servers answer from.
	{name: "a server answers from its first address, tcp", to: "{nobody}", port: 8080, change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad
		node-2 {ip} route add {nobody} dev cni0
		node-1 {ip} route add {nobody} via {node-2}`},
	{name: "a server answers from its first address, udp", to: "{nobody}", port: 5353, proto: "udp", reason: verdict.InvalidRoute, change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad preferred_lft 0
		node-2 {ip} route add {nobody} dev cni0
		node-1 {ip} route add {nobody} via {node-2}`},
	{name: "a server answers an echo request from where it was asked", to: "{nobody}", proto: "icmp", change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad preferred_lft 0
		node-2 {ip} route add {nobody} dev cni0
		node-1 {ip} route add {nobody} via {node-2}`},
	{name: "a server answers from the address of its route, udp", to: "{nobody}", port: 5353, proto: "udp", change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad preferred_lft 0
		shop/api-1 {ip} route replace default via {gateway-2} dev eth0 src {nobody}
		node-2 {ip} route add {nobody} dev cni0
		node-1 {ip} route add {nobody} via {node-2}`},
	{name: "a server answers from the address of its route, which is not the pod's, udp", to: far, proto: "udp", reason: verdict.InvalidRoute, change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad preferred_lft 0
		shop/api-1 {ip} route replace default via {gateway-2} dev eth0 src {nobody}`},
	{name: "a server answers from the address of its route, which is translated, udp", to: far, proto: "udp", reason: verdict.InvalidRoute, change: `
		shop/api-1 {ip} addr add {nobody}/{single} dev eth0 nodad preferred_lft 0
		shop/api-1 {ip} route replace default via {gateway-2} dev eth0 src {nobody}
		shop/api-1 {iptables} -t nat -A POSTROUTING -p udp -j SNAT --to-source {shop/api-1}`},

	// Sizes.
	{name: "a smaller MTU on the way that both senders are told of", to: far, change: `
		node-1 {ip} route replace {pods-2} via {node-2} mtu 1400
		node-2 {ip} route replace {pods-1} via {node-1} mtu 1300`},
	{name: "a smaller MTU of one end of the wire between the nodes", to: far, reason: verdict.MTUExceeded, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		shop/api-1 ip link set dev eth0 gso_max_segs 1
		node-1 ip link set eth0 mtu 1400`},
	{name: "a smaller MTU at the server", to: far, change: `
		shop/api-1 ip link set eth0 mtu 1300`},
	{name: "a smaller MTU at the client", to: far, change: `
		shop/web-0 ip link set eth0 mtu 1300`},
	{name: "a smaller MTU of the client's route", to: far, change: `
		shop/web-0 {ip} route replace default via {gateway-1} mtu 1300`},
	{name: "a smaller MTU of the node's route", to: far, change: `
		node-1 {ip} route replace {pods-2} via {node-2} mtu 1300`},
	{name: "a smaller MTU on the way of a nexthop object", to: far, only: netstack.IPv6, change: `
		node-1 sysctl -qw net.ipv6.conf.cni0.proxy_ndp=1 net.ipv6.neigh.cni0.proxy_delay=0
		node-1 ip -6 neigh add proxy {shop/api-1} dev cni0
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		shop/web-0 ip -6 nexthop add id 9 via {gateway-1} dev eth0
		shop/web-0 ip -6 route add {shop/api-1} nhid 9`},
	{name: "a smaller MTU on the way of a nexthop object without gateway is not learnt", to: far, only: netstack.IPv6, reason: verdict.MTUExceeded, change: `
		node-1 sysctl -qw net.ipv6.conf.cni0.proxy_ndp=1 net.ipv6.neigh.cni0.proxy_delay=0
		node-1 ip -6 neigh add proxy {shop/api-1} dev cni0
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		shop/web-0 ip -6 nexthop add id 9 dev eth0
		shop/web-0 ip -6 route add {shop/api-1} nhid 9`},
	{name: "a smaller MTU on the way of a device alone is learnt", to: far, only: netstack.IPv6, change: `
		node-1 sysctl -qw net.ipv6.conf.cni0.proxy_ndp=1 net.ipv6.neigh.cni0.proxy_delay=0
		node-1 ip -6 neigh add proxy {shop/api-1} dev cni0
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		shop/web-0 ip -6 route add {shop/api-1} dev eth0`},
	{name: "a smaller MTU of the node's route, and nobody is told", to: far, reason: verdict.MTUExceeded, change: `
		node-1 {ip} route replace {pods-2} via {node-2} mtu 1300
		node-1 {iptables} -A OUTPUT -p {icmp} {too-big} -j DROP`},
	{name: "a smaller MTU of the node's route, of which IPv6 tells the address that the client was translated to", to: far, only: netstack.IPv6, change: `
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		node-1 ip6tables -t nat -A POSTROUTING -s {shop/web-0} -d {pods-2} -j MASQUERADE
		node-1 ip6tables -t mangle -A OUTPUT -p ipv6-icmp {too-big} -d {shop/web-0} -j DROP`},
	{name: "a smaller MTU of the node's route, of which IPv6 does not tell the client's own address", to: far, only: netstack.IPv6, reason: verdict.MTUExceeded, change: `
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		node-1 ip6tables -t nat -A POSTROUTING -s {shop/web-0} -d {pods-2} -j MASQUERADE
		node-1 ip6tables -t mangle -A OUTPUT -p ipv6-icmp {too-big} ! -d {shop/web-0} -j DROP`},
	{name: "a smaller MTU of the node's route, of which IPv4 tells the client's own address", to: far, only: netstack.IPv4, reason: verdict.MTUExceeded, change: `
		node-1 ip -4 route replace {pods-2} via {node-2} mtu 1300
		node-1 iptables -t nat -A POSTROUTING -s {shop/web-0} -d {pods-2} -j MASQUERADE
		node-1 iptables -t mangle -A OUTPUT -p icmp {too-big} -d {shop/web-0} -j DROP`},
	{name: "a smaller locked MTU of the node's route, and a rule for what is told the client's own address", to: far, reason: verdict.MTUExceeded, change: `
		node-1 {ip} route replace {pods-2} via {node-2} mtu lock 1300
		node-1 {iptables} -t nat -A POSTROUTING -s {shop/web-0} -d {pods-2} -j MASQUERADE
		node-1 {iptables} -t mangle -A OUTPUT -p {icmp} {too-big} -d {shop/web-0} -j DROP`},
	{name: "a smaller MTU of the node's device, and a rule for what is told the client's own address", to: far, reason: verdict.MTUExceeded, change: `
		node-1 ip link set eth0 mtu 1400
		node-2 ip link set eth0 mtu 1400
		node-1 {iptables} -t nat -A POSTROUTING -s {shop/web-0} -d {pods-2} -j MASQUERADE
		node-1 {iptables} -t mangle -A OUTPUT -p {icmp} {too-big} -d {shop/web-0} -j DROP`},
	{name: "a smaller MTU of the node's route, and a rule for large packets that IPv6 comes to first", to: far, only: netstack.IPv6, reason: verdict.NetfilterDrop, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip -6 route replace {pods-2} via {node-2} mtu 1300
		node-1 ip6tables -t mangle -A FORWARD -s {shop/web-0} -m length --length 1400: -j DROP`},
	{name: "a smaller MTU of the node's route, and a rule for large packets that IPv4 does not come to", to: far, only: netstack.IPv4, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip -4 route replace {pods-2} via {node-2} mtu 1300
		node-1 iptables -t mangle -A FORWARD -s {shop/web-0} -m length --length 1400:1500 -j DROP`},
	{name: "a smaller MTU of the other end of the client's wire", to: far, reason: verdict.MTUExceeded, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip link set {veth shop/web-0} mtu 1400`},
	{name: "a smaller MTU of the server's bridge port", to: near, reason: verdict.MTUExceeded, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip link set {veth shop/api-0} mtu 1400`},
	{name: "a smaller MTU of the server's bridge port, with br_netfilter", to: near, only: netstack.IPv4, reason: verdict.MTUExceeded, change: `
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip link set {veth shop/api-0} mtu 1400`},
	{name: "a smaller MTU of the server's bridge port, of which br_netfilter tells in IPv6", to: near, only: netstack.IPv6, change: `
		shop/api-0 ip -6 route replace {pods-1} dev eth0 metric 256 mtu 1400 advmss 1440
		shop/web-0 ip link set dev eth0 gso_max_segs 1
		node-1 ip link set {veth shop/api-0} mtu 1400`},
	{name: "a segment size that a rule clamps to the path's MTU", to: far, change: `
		node-1 ip link set eth0 mtu 1400
		node-1 {iptables} -A OUTPUT -p {icmp} {too-big} -j DROP
		node-1 {iptables} -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1200`},
}
