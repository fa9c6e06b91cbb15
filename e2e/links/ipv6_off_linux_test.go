package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// outliving is a router whose route to b, of a nexthop object, outlives that IPv6 is turned off on the interface to it.
const outliving = behindRouter + `
	n ip nexthop add id 7 via {1.1} dev p1
	n {ip} route add {1.1} nhid 7
	n sysctl -qw net.ipv6.conf.p1.disable_ipv6=1
`

var ipv6Off = []scenario{
	{name: "the router's way out", only: netstack.IPv6, setup: outliving, to: "1.1", reason: verdict.AddressNotUsable},
	{name: "the router's way out, IPv4 goes on", only: netstack.IPv4, setup: outliving, to: "1.1"},
	{name: "the router rejects what it would drop later", only: netstack.IPv6, setup: outliving + `
		n ip6tables -A FORWARD -j REJECT`, to: "1.1", reason: verdict.NetfilterReject},
	{name: "the router's way in", only: netstack.IPv6, setup: behindRouter + `
		mac MACN n:p0
		a ip -6 neigh replace {0.254} lladdr MACN nud permanent dev eth0
		n sysctl -qw net.ipv6.conf.p0.disable_ipv6=1`, to: "1.1", reason: verdict.AddressNotUsable},
	{name: "the client's way out", only: netstack.IPv6, setup: behindRouter + `
		a ip nexthop add id 7 via {0.254} dev eth0
		a ip -6 route add {1.1} nhid 7
		a sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1`, to: "1.1", reason: verdict.AddressNotUsable},
	{name: "the way to the host itself", only: netstack.IPv6, setup: behindRouter + `
		a sysctl -qw net.ipv6.conf.lo.disable_ipv6=1`, to: "0.1", reason: verdict.AddressNotUsable},
	{name: "an interface too small for IPv6", only: netstack.IPv6, setup: behindRouter + `
		n ip nexthop add id 7 via {1.1} dev p1
		n ip -6 route add {1.1} nhid 7
		n ip link set p1 mtu 1200`, to: "1.1", reason: verdict.AddressNotUsable},
}
