package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// behindRouter has a and b behind the router n.
const behindRouter = `
	wire a:eth0 n:p0
	wire b:eth0 n:p1
	addr a:eth0 0.1
	addr n:p0 0.254
	addr b:eth0 1.1
	addr n:p1 1.254
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	a {ip} route add default via {0.254}
	b {ip} route add default via {1.254}
`

var hopLimits = []scenario{
	{name: "the router has no errors to send", needs: []string{"icmp-limit"}, either: true, setup: behindRouter + `
		n sysctl -qw net.ipv4.icmp_msgs_per_sec=0
		a sysctl -qw net.ipv4.ip_default_ttl=1 net.ipv6.conf.eth0.hop_limit=1`, to: "1.1", reason: verdict.TTLExpired},
	{name: "the client's packets end at the first router", only: netstack.IPv4, setup: behindRouter + `
		a sysctl -qw net.ipv4.ip_default_ttl=1`, to: "1.1", reason: verdict.TTLExpired},
	{name: "the client's packets end at the first router, for its device has a small hop limit", only: netstack.IPv6, setup: behindRouter + `
		a sysctl -qw net.ipv6.conf.eth0.hop_limit=1`, to: "1.1", reason: verdict.TTLExpired},
	{name: "the client's packets get over one router", setup: behindRouter + `
		a sysctl -qw net.ipv4.ip_default_ttl=2 net.ipv6.conf.eth0.hop_limit=2`, to: "1.1"},
	{name: "the hop limit of all devices is that of none", only: netstack.IPv6, setup: behindRouter + `
		a sysctl -qw net.ipv6.conf.all.hop_limit=1`, to: "1.1"},
	{name: "the hop limit of the client's route", setup: behindRouter + `
		a {ip} route replace default via {0.254} hoplimit 1`, to: "1.1", reason: verdict.TTLExpired},
	{name: "the hop limit of the route, and not of the host", setup: behindRouter + `
		a sysctl -qw net.ipv4.ip_default_ttl=1 net.ipv6.conf.eth0.hop_limit=1
		a {ip} route replace default via {0.254} hoplimit 2`, to: "1.1"},
	{name: "the hop limit of the router's route is not that of what it forwards", setup: behindRouter + `
		n {ip} route add {1.1} dev p1 hoplimit 1`, to: "1.1"},
	{name: "answers end at the first router", protocols: connected, setup: behindRouter + `
		b {ip} route replace default via {1.254} hoplimit 1`, to: "1.1", reason: verdict.TTLExpired},
	{name: "the server's reset ends at the first router", only: netstack.IPv6, protocols: []string{"tcp"}, setup: behindRouter + `
		b ip -6 route replace default via {1.254} hoplimit 1
		b ip6tables -A INPUT -p tcp -j REJECT --reject-with tcp-reset`, to: "1.1", reason: verdict.NetfilterReject},
	{name: "the server's reset has the hop limit of what it answers", only: netstack.IPv4, protocols: []string{"tcp"}, setup: behindRouter + `
		b ip route replace default via 10.9.1.254 hoplimit 1
		b iptables -A INPUT -p tcp -j REJECT --reject-with tcp-reset`, to: "1.1", reason: verdict.NetfilterReject},
}
