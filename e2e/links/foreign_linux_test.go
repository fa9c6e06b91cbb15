package links

import (
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// toNobody has packets to subnet 7, where nobody has an address, come to b.
const toNobody = pair + `
	a {ip} route add {7/} via {1.2}
`

// taken has b take packets to subnet 7 for its own, by a table that __ip_dev_find does not ask.
const taken = toNobody + `
	b {ip} rule add to {7/} lookup 100
	b {ip} route add local {7/} dev lo table 100
`

// toProxy sends connections to port 80 of subnet 7 to the port of the proxy.
const toProxy = `
	b iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.9.7.1:3129`

// fromSubnet7 has a tunnel between a and b, which a sends from an address that it has not.
var fromSubnet7 = vxlanBetween("10.9.7.1", "10.9.1.2")("", "") + `
	b ip route add 10.9.7.0/24 via 10.9.1.1
`

// twoSources has a client with two addresses, and a server that takes nothing from the second of them.
const twoSources = pair + `
	a ip -6 addr add {1.7}/64 dev eth0 nodad
	b ip6tables -A INPUT -s {1.7} -j DROP
`

// foreign are sources that labels choose, and answers from addresses that the server's host has not.
var foreign = []scenario{
	{name: "the source with the label of the destination", only: netstack.IPv6, setup: twoSources + `
		a ip addrlabel add prefix {1.1}/128 label 99`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "the other source with the label of the destination", only: netstack.IPv6, setup: twoSources + `
		a ip addrlabel add prefix {1.7}/128 label 99`, to: "1.2"},
	{name: "a local route in table local", setup: toNobody + `
		b {ip} route add local {7/} dev lo table local`, to: "7.1", protocols: []string{"tcp", "icmp"}},
	{name: "a local route in another table", only: netstack.IPv4, setup: taken, to: "7.1", protocols: []string{"tcp", "icmp"}, reason: verdict.AddressNotUsable},
	{name: "a local route in another table, of IPv6", only: netstack.IPv6, setup: taken, to: "7.1", protocols: []string{"tcp", "icmp"}},
	{
		name: "a local route in another table, and an address of the host", only: netstack.IPv4, setup: taken + `
		addr b:lo 7.1`, to: "7.1", protocols: []string{"tcp", "icmp"},
		attach: func(_ *testing.T, w *world) {
			w.command("b", "ip", "route", "del", "local", "10.9.7.1", "dev", "lo", "table", "local")
		},
	},
	{
		name: "a proxy answers from the address that it is asked at", only: netstack.IPv4, setup: taken + toProxy, to: "7.1", protocols: []string{"tcp"},
		attach: proxiesOf(proxy{in: "b", transparent: true}),
	},
	{
		name: "a server that is no proxy does not", only: netstack.IPv4, setup: taken + toProxy, to: "7.1", protocols: []string{"tcp"},
		attach: proxiesOf(proxy{in: "b"}), reason: verdict.AddressNotUsable,
	},
	{
		name: "what an old kernel does not tell", only: netstack.IPv4, setup: taken + toProxy, to: "7.1", protocols: []string{"tcp"},
		attach: proxiesOf(proxy{in: "b"}), untold: true, opaque: true, reason: verdict.UnmodelledRule,
	},
	{name: "nobody listens, and no reset says so", only: netstack.IPv4, setup: taken + toProxy, to: "7.1", protocols: []string{"tcp"}, reason: verdict.NoListener},
	{name: "the reset of a rule comes from anywhere", setup: taken + `
		b {iptables} -A INPUT -p tcp -j REJECT --reject-with tcp-reset`, to: "7.1", protocols: []string{"tcp"}, reason: verdict.NetfilterReject},
	{name: "the error of a rule does not", setup: taken + `
		b {iptables} -A INPUT -j REJECT`, to: "7.1", reason: verdict.NetfilterReject},
	{name: "a tunnel from an address that its host has not", only: netstack.IPv4, setup: fromSubnet7, to: "3.2", reason: verdict.AddressNotUsable},
	{name: "a tunnel from an address that its host takes for its own", only: netstack.IPv4, setup: fromSubnet7 + `
		a ip route add local 10.9.7.1 dev lo table local`, to: "3.2"},
}
