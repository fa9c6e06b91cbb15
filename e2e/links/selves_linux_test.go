package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// unspecified is the destination 0.0.0.0 or ::, by which a client means its own host.
const unspecified = "unspecified"

// onWire has a, whose way to everywhere is b.
const onWire = `
	wire a:eth0 b:eth0
	addr a:eth0 1.1
	addr b:eth0 1.2
	a {ip} route add default via {1.2}
`

var selves = []scenario{
	{name: "the unspecified address is the client's host", setup: onWire, to: unspecified},
	{name: "a drop on lo", setup: onWire + `
		a {iptables} -A INPUT -i lo -j DROP`, to: unspecified, reason: verdict.NetfilterDrop},
	{name: "a drop on the way out of others", setup: onWire + `
		a {iptables} -A OUTPUT -o eth0 -j DROP`, to: unspecified},
	{name: "rules see loopback addresses", only: netstack.IPv4, setup: onWire + `
		a iptables -A OUTPUT -s 127.0.0.1 -d 127.0.0.1 -j REJECT`, to: unspecified, reason: verdict.NetfilterReject},
	{name: "a bound client of IPv4 connects to its own address", only: netstack.IPv4, setup: onWire + `
		a iptables -A INPUT ! -d 10.9.1.1 -j DROP`, source: "1.1", to: unspecified},
	{name: "a bound client of IPv6 connects to the loopback address", only: netstack.IPv6, setup: onWire + `
		a ip6tables -A OUTPUT ! -d ::1 -p tcp --dport 80 -j DROP`, source: "1.1", protocols: []string{"tcp", "icmp"}, to: unspecified},
	{name: "a loopback address does not leave, though a rule translates it later", only: netstack.IPv4, setup: onWire + `
		a iptables -t nat -A OUTPUT -d 127.0.0.1 -j DNAT --to-destination 10.9.1.2
		a iptables -t nat -A POSTROUTING -s 127.0.0.0/8 -j MASQUERADE`, to: unspecified, reason: verdict.MartianSource},
	{name: "a loopback address leaves by an interface with route_localnet", only: netstack.IPv4, setup: onWire + `
		a sysctl -qw net.ipv4.conf.eth0.route_localnet=1
		a iptables -t nat -A OUTPUT -d 127.0.0.1 -j DNAT --to-destination 10.9.1.2
		a iptables -t nat -A POSTROUTING -s 127.0.0.0/8 -j MASQUERADE`, to: unspecified},
	{name: "a route whose source is a loopback address", only: netstack.IPv4, setup: onWire + `
		a ip route add 10.9.1.2/32 dev eth0 src 127.0.0.1`, to: "1.2", reason: verdict.MartianSource},
	{name: "a loopback address that leaves is the next host's own", only: netstack.IPv4, setup: onWire + `
		a sysctl -qw net.ipv4.conf.eth0.route_localnet=1
		b sysctl -qw net.ipv4.conf.eth0.route_localnet=1
		a ip route add 10.9.1.2/32 dev eth0 src 127.0.0.1`, to: "1.2", reason: verdict.MartianSource},
	{name: "lo is down", only: netstack.IPv4, setup: onWire + `
		a ip link set lo down`, to: unspecified, reason: verdict.InterfaceDown},
	{name: "lo is down, and its address is looked for elsewhere", only: netstack.IPv6, setup: onWire + `
		a ip link set lo down`, to: unspecified, reason: verdict.MartianSource},
	{name: "lo is down, and there is no other way", only: netstack.IPv6, setup: `
		wire a:eth0 b:eth0
		a ip link set lo down`, to: unspecified, reason: verdict.NoRoute},
}
