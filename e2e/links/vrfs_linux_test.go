package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// onVRF has a and b on two ports of a VRF of n.
const onVRF = `
	wire a:eth0 n:pa
	wire b:eth0 n:pb
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	n ip link add vrf0 type vrf table 10
	n ip link set vrf0 up
	n ip link set pa master vrf0
	n ip link set pb master vrf0
	addr a:eth0 1.1
	addr n:pa 1.254
	addr b:eth0 2.1
	addr n:pb 2.254
	a {ip} route add default via {1.254}
	b {ip} route add default via {2.254}
`

var vrfs = []scenario{
	{name: "through a VRF", needs: []string{"vrf"}, setup: onVRF, to: "2.1"},
	{name: "what is forwarded comes from the VRF", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -A FORWARD -i vrf0 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "what is forwarded comes from no port", needs: []string{"vrf"}, only: netstack.IPv6, setup: onVRF + `
		n ip6tables -A FORWARD -i pa -j DROP`, to: "2.1"},
	{name: "what is forwarded goes out by a port", needs: []string{"vrf"}, only: netstack.IPv6, setup: onVRF + `
		n ip6tables -A FORWARD -o pb -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "PREROUTING runs for the port", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -t raw -A PREROUTING -i pa -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "PREROUTING runs again for the VRF", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -t mangle -A PREROUTING -i vrf0 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "PREROUTING runs again for the VRF, for discovery too", needs: []string{"vrf"}, only: netstack.IPv6, setup: onVRF + `
		n ip6tables -t raw -A PREROUTING -i vrf0 -p ipv6-icmp -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "the port's rules translate", needs: []string{"vrf"}, protocols: []string{"tcp"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -t nat -A PREROUTING -i pa -d 10.9.2.7 -j DNAT --to-destination 10.9.2.1`, to: "2.7"},
	{name: "rules for the VRF do not translate: translations are settled by then", needs: []string{"vrf"}, protocols: []string{"icmp"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -t nat -A PREROUTING -i vrf0 -d 10.9.2.7 -j DNAT --to-destination 10.9.2.1`, to: "2.7", reason: verdict.NeighbourFailed},
	{name: "the port does not forward", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n sysctl -qw net.ipv4.conf.pa.forwarding=0`, to: "2.1", reason: verdict.ForwardingDisabled},
	{name: "the VRF does not forward, which the port does", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n sysctl -qw net.ipv4.conf.vrf0.forwarding=0`, to: "2.1"},
	{name: "a strict rp_filter of the port", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n sysctl -qw net.ipv4.conf.pa.rp_filter=1`, to: "2.1"},
	{name: "a strict rp_filter of the port without a way back", needs: []string{"vrf"}, only: netstack.IPv4, setup: onVRF + `
		n sysctl -qw net.ipv4.conf.pa.rp_filter=1
		a ip addr add 10.9.7.1/32 dev lo
		a ip route replace default via 10.9.1.254 src 10.9.7.1`, to: "2.1", reason: verdict.ReversePathFilter},
	{name: "sockets of no VRF take nothing from one", needs: []string{"vrf"}, protocols: []string{"tcp", "udp"}, setup: onVRF, to: "1.254", reason: verdict.NoListener},
	{name: "the kernel answers pings in a VRF", needs: []string{"vrf"}, protocols: []string{"icmp"}, setup: onVRF, to: "2.254"},
	{name: "sockets of no VRF may take what comes from one", needs: []string{"vrf"}, protocols: []string{"tcp"}, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1`, to: "2.254"},
	{name: "answers of UDP go by no VRF", needs: []string{"vrf"}, protocols: []string{"udp"}, setup: onVRF + `
		n sysctl -qw net.ipv4.udp_l3mdev_accept=1`, to: "1.254", reason: verdict.NoRoute},
	{name: "INPUT is for the VRF", needs: []string{"vrf"}, protocols: []string{"icmp"}, setup: onVRF + `
		n {iptables} -A INPUT -i pa -p {icmp} -m conntrack --ctstate NEW -j DROP`, to: "1.254"},
	{name: "INPUT drops what comes by the VRF", needs: []string{"vrf"}, protocols: []string{"icmp"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -A INPUT -i vrf0 -j DROP`, to: "1.254", reason: verdict.NetfilterDrop},
	{name: "what a host sends leaves by the VRF first", needs: []string{"vrf"}, protocols: []string{"icmp"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -A OUTPUT -o vrf0 -m conntrack --ctstate UNTRACKED -j DROP`, to: "1.254", reason: verdict.NetfilterDrop},
	{name: "what a host sends leaves by the port then", needs: []string{"vrf"}, protocols: []string{"icmp"}, only: netstack.IPv4, setup: onVRF + `
		n iptables -t mangle -A POSTROUTING -o pa -m conntrack --ctstate ESTABLISHED -j DROP`, to: "1.254", reason: verdict.NetfilterDrop},
	{name: "nothing leads into the VRF", needs: []string{"vrf"}, from: "n", setup: onVRF, to: "1.1", reason: verdict.NoRoute},
	{name: "a route leads into the VRF, and answers are for no socket", needs: []string{"vrf"}, from: "n", protocols: []string{"tcp"}, only: netstack.IPv4, setup: onVRF + `
		n ip route add 10.9.1.0/24 dev pa`, to: "1.1", reason: verdict.NoListener},
	{name: "a route leads into the VRF, and sockets take answers from it", needs: []string{"vrf"}, from: "n", protocols: []string{"tcp"}, only: netstack.IPv4, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1
		n ip route add 10.9.1.0/24 dev pa`, to: "1.1"},
	{name: "a route leads into the VRF, and answers of UDP are for no socket", needs: []string{"vrf"}, from: "n", protocols: []string{"udp"}, setup: onVRF + `
		n {ip} route add {1/} dev pa`, to: "1.1", reason: verdict.NoListener},
	{name: "connected sockets of UDP are found early, by the setting of TCP", needs: []string{"vrf"}, from: "n", protocols: []string{"udp"}, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1
		n {ip} route add {1/} dev pa`, to: "1.1"},
	{name: "connected sockets of UDP are not found early", needs: []string{"vrf"}, from: "n", protocols: []string{"udp"}, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1 net.ipv4.udp_early_demux=0
		n {ip} route add {1/} dev pa`, to: "1.1", reason: verdict.NoListener},
	{name: "the VRF is down: what is forwarded passes", needs: []string{"vrf"}, setup: onVRF + `
		n ip link set vrf0 down`, to: "2.1"},
	{name: "the VRF is down: the host does not answer", needs: []string{"vrf"}, protocols: connected, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1
		n ip link set vrf0 down`, to: "1.254", reason: verdict.InterfaceDown},
	{name: "the VRF is down: the host sends nothing by it", needs: []string{"vrf"}, from: "n", protocols: []string{"tcp"}, setup: onVRF + `
		n sysctl -qw net.ipv4.tcp_l3mdev_accept=1
		n {ip} route add {1/} dev pa
		n ip link set vrf0 down`, to: "1.1", reason: verdict.InterfaceDown},
	{name: "errors come back by the VRF", needs: []string{"vrf"}, setup: onVRF + `
		n {ip} route add unreachable {3/} table 10`, to: "3.1", reason: verdict.RouteUnreachable},
}
