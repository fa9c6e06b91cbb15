package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// narrowed has a narrow way between the two routers from a to b. The answers have a wide one: what sockets do about it is
// settled when they are made, and servers are there before.
const narrowed = `
	wire a:eth0 n:p0
	wire n:p1 m:p0
	wire m:p1 b:eth0
	addr a:eth0 0.1
	addr n:p0 0.254
	addr n:p1 1.1
	addr m:p0 1.2
	addr m:p1 2.254
	addr b:eth0 2.1
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	m sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	a {ip} route add default via {0.254}
	b {ip} route add default via {2.254}
	n {ip} route add {2/} via {1.2} mtu 1300
	m {ip} route add {0/} via {1.1}
`

// mute has the router keep it to itself.
const mute = narrowed + `
	n iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP
	n ip6tables -A OUTPUT -p ipv6-icmp --icmpv6-type packet-too-big -j DROP
`

// pathMTUs are what hosts do about the MTU of a path that nobody tells them of.
var pathMTUs = []scenario{
	{name: "they are told", setup: narrowed, to: "2.1"},
	{name: "they are told by a router that has no other errors to send", needs: []string{"icmp-limit"}, setup: narrowed + `
		n sysctl -qw net.ipv4.icmp_msgs_per_sec=0`, to: "2.1"},
	{name: "they are not told", setup: mute, to: "2.1", reason: verdict.MTUExceeded, small: &none},
	{name: "hosts that do not discover it: IPv4 is fragmented on the way", only: netstack.IPv4, setup: mute + `
		a sysctl -qw net.ipv4.ip_no_pmtu_disc=1`, to: "2.1"},
	{name: "hosts that do not discover it: IPv6 is not fragmented", only: netstack.IPv6, setup: mute + `
		a sysctl -qw net.ipv4.ip_no_pmtu_disc=1`, to: "2.1", reason: verdict.MTUExceeded, small: &none},
	{name: "hosts that do not discover it, and heed nobody who tells them", only: netstack.IPv4, setup: mute + `
		a sysctl -qw net.ipv4.ip_no_pmtu_disc=2`, to: "2.1"},
	{name: "routers that do not discover it for themselves", setup: mute + `
		n sysctl -qw net.ipv4.ip_no_pmtu_disc=1`, to: "2.1", reason: verdict.MTUExceeded, small: &none},
	{name: "a rule on the bit that forbids fragments, of which there is none", only: netstack.IPv4, setup: narrowed + `
		a sysctl -qw net.ipv4.ip_no_pmtu_disc=1
		a nft add table ip t
		a nft add chain ip t c { type filter hook output priority 0 ; }
		a nft add rule ip t c ip frag-off & 0x4000 != 0 drop`, protocols: []string{"tcp"}, to: "2.1"},
	{name: "a rule on the bit that forbids fragments", only: netstack.IPv4, setup: narrowed + `
		a nft add table ip t
		a nft add chain ip t c { type filter hook output priority 0 ; }
		a nft add rule ip t c ip frag-off & 0x4000 != 0 drop`, protocols: []string{"tcp"}, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "a rule on the bit that forbids fragments, and a route that allows them", only: netstack.IPv4, setup: narrowed + `
		a ip route replace default via 10.9.0.254 mtu lock 1500
		a nft add table ip t
		a nft add chain ip t c { type filter hook output priority 0 ; }
		a nft add rule ip t c ip frag-off & 0x4000 != 0 drop`, protocols: []string{"tcp"}, to: "2.1"},
	{name: "hosts that find it out by themselves", setup: mute + `
		a sysctl -qw net.ipv4.tcp_mtu_probing=2`, protocols: []string{"tcp"}, to: "2.1"},
	{name: "hosts that begin with more", setup: mute + `
		a sysctl -qw net.ipv4.tcp_mtu_probing=2 net.ipv4.tcp_base_mss=1400`, protocols: []string{"tcp"}, to: "2.1", reason: verdict.MTUExceeded},
	{name: "hosts that find it out once segments are lost", setup: mute + `
		a sysctl -qw net.ipv4.tcp_mtu_probing=1`, protocols: []string{"tcp"}, to: "2.1", reason: verdict.MTUExceeded},
}
