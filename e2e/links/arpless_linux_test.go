package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// arpless are devices that ask for no neighbours, and do not answer for theirs.
var arpless = []scenario{
	{name: "ARP is off at the client: it sends to itself", setup: pair + `
		a ip link set eth0 arp off`, to: "1.2", reason: verdict.NeighbourStale, rule: "for its own sender"},
	{name: "ARP is off at the client, and both are told of their neighbours afterwards", setup: pair + `
		a ip link set eth0 arp off` + introduced, to: "1.2"},
	{name: "ARP is off at the client, which forgets what it was told before", setup: known + `
		a ip link set eth0 arp off`, to: "1.2", reason: verdict.NeighbourStale},
	{name: "ARP is off at the client, which alone is told of its neighbour", only: netstack.IPv4, setup: pair + `
		a ip link set eth0 arp off` + introduced + `
		b ip neigh del 10.9.1.1 dev eth0`, to: "1.2", reason: verdict.ARPFiltered},
	{name: "ARP is off at the server, which does not answer", only: netstack.IPv4, setup: pair + `
		b ip link set eth0 arp off`, to: "1.2", reason: verdict.ARPFiltered},
	{name: "ARP is off at the server, which answers itself", only: netstack.IPv6, setup: pair + `
		b ip link set eth0 arp off`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "ARP is off at the server, which is told of the client", only: netstack.IPv6, setup: pair + `
		settle
		mac MACA a:eth0
		b ip link set eth0 arp off
		b ip -6 neigh replace {1.1} lladdr MACA dev eth0 nud permanent`, to: "1.2"},
	{name: "ARP is off at the port of a bridge", setup: onBridge + `
		n ip link set pa arp off`, to: "0.2"},
	{name: "ARP is off at the client of a bridge, which forwards nothing to where it comes from", setup: onBridge + `
		a ip link set eth0 arp off`, to: "0.2", reason: verdict.BridgeHairpinOff, rule: "for its own sender"},
	{name: "ARP is off at the bridge", from: "n", setup: onBridge + `
		n ip link set br0 arp off`, to: "0.2", reason: verdict.NeighbourStale},
	{name: "ARP is off at the router", only: netstack.IPv4, setup: behindRouter + `
		n ip link set p0 arp off`, to: "1.1", reason: verdict.ARPFiltered},
	{name: "the router answers for the server", only: netstack.IPv4, setup: behindRouter + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1
		a ip route add 10.9.1.0/24 dev eth0`, to: "1.1"},
	{name: "the router would answer for the server, but for ARP that is off", only: netstack.IPv4, setup: behindRouter + `
		n ip link set p0 arp off
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1
		a ip route add 10.9.1.0/24 dev eth0`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "the router's devices are on one medium", only: netstack.IPv4, setup: behindRouter + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1 net.ipv4.conf.p0.medium_id=5 net.ipv4.conf.p1.medium_id=5
		a ip route add 10.9.1.0/24 dev eth0`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "the router's devices are on two", only: netstack.IPv4, setup: behindRouter + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1 net.ipv4.conf.p0.medium_id=5 net.ipv4.conf.p1.medium_id=6
		a ip route add 10.9.1.0/24 dev eth0`, to: "1.1"},
	{name: "the router's device is on no medium", only: netstack.IPv4, setup: behindRouter + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1 net.ipv4.conf.p0.medium_id=-1
		a ip route add 10.9.1.0/24 dev eth0`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "the router has no link-local addresses to ask from", only: netstack.IPv6, setup: behindRouter + `
		settle
		n ip -6 addr flush dev p0 scope link
		n ip -6 addr flush dev p1 scope link`, to: "1.1", reason: verdict.AddressNotUsable},
	{name: "the client has none, and asks from its own", only: netstack.IPv6, setup: behindRouter + `
		settle
		a ip -6 addr flush dev eth0 scope link
		b ip -6 addr flush dev eth0 scope link`, to: "1.1"},
	{name: "a neighbour at the address of all", opaque: true, setup: pair + `
		a {ip} neigh replace {1.2} lladdr ff:ff:ff:ff:ff:ff dev eth0 nud permanent`, to: "1.2", reason: verdict.UnmodelledRule},
}
