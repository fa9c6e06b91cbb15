package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// multihomed has a on two interfaces of n, each of another subnet; 9.1 is on
// n's loopback.
const multihomed = `
	wire a:eth0 n:p0
	wire b:eth0 n:p1
	addr a:eth0 0.1
	addr n:p0 0.254
	addr b:eth0 1.1
	addr n:p1 1.254
	n ip addr add 10.9.9.1/32 dev lo
	a ip route add 10.9.1.0/24 dev eth0
	a ip route add 10.9.9.0/24 dev eth0
	settle
`

// routing lets n forward, and b answer.
const routing = `
	n sysctl -qw net.ipv4.ip_forward=1
	b ip route add default via 10.9.1.254
`

// connected are the protocols whose answers come from the address that was asked,
// also where the server did not bind it.
var connected = []string{"tcp", "icmp"}

var arps = []scenario{
	{name: "ARP: an address of another interface", only: netstack.IPv4, protocols: connected, setup: multihomed, to: "1.254"},
	{name: "ARP: arp_ignore 1, an address of another interface", only: netstack.IPv4, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.all.arp_ignore=1`, to: "1.254", reason: verdict.ARPFiltered},
	{name: "ARP: arp_ignore 1, an address of the interface", only: netstack.IPv4, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.all.arp_ignore=1`, to: "0.254"},
	{name: "ARP: arp_ignore 2, and the sender is of another subnet", only: netstack.IPv4, setup: multihomed + `
		a ip addr flush dev eth0
		a ip addr add 10.9.7.1/24 dev eth0
		a ip route add 10.9.0.0/24 dev eth0
		n ip route add 10.9.7.0/24 dev p0
		n sysctl -qw net.ipv4.conf.p0.arp_ignore=2`, to: "0.254", reason: verdict.ARPFiltered},
	{name: "ARP: arp_ignore 2, and the sender is of the subnet", only: netstack.IPv4, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.p0.arp_ignore=2`, to: "0.254"},
	{name: "ARP: arp_ignore 3, an address of the host's scope", only: netstack.IPv4, setup: multihomed + `
		n ip addr del 10.9.9.1/32 dev lo
		n ip addr add 10.9.9.1/32 dev lo scope host
		n sysctl -qw net.ipv4.conf.all.arp_ignore=3`, to: "9.1", reason: verdict.ARPFiltered},
	{name: "ARP: arp_ignore 3, a global address", only: netstack.IPv4, protocols: connected, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.all.arp_ignore=3`, to: "1.254"},
	{name: "ARP: arp_ignore 8", only: netstack.IPv4, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.p0.arp_ignore=8`, to: "0.254", reason: verdict.ARPFiltered},
	{name: "ARP: arp_filter, and the way back is another interface", only: netstack.IPv4, setup: multihomed + `
		n ip route add 10.9.0.1/32 dev p1
		n sysctl -qw net.ipv4.conf.p0.arp_filter=1`, to: "0.254", reason: verdict.ARPFiltered},
	{name: "ARP: arp_filter, and the way back is the interface", only: netstack.IPv4, protocols: connected, setup: multihomed + `
		n sysctl -qw net.ipv4.conf.p0.arp_filter=1`, to: "1.254"},
	{name: "ARP: a proxy for another interface", only: netstack.IPv4, setup: multihomed + routing + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1 net.ipv4.neigh.p0.proxy_delay=0`, to: "1.1"},
	{name: "ARP: a proxy that does not forward", only: netstack.IPv4, setup: multihomed + routing + `
		n sysctl -qw net.ipv4.conf.p0.proxy_arp=1 net.ipv4.conf.p0.forwarding=0`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "ARP: a proxy entry", only: netstack.IPv4, setup: multihomed + routing + `
		n sysctl -qw net.ipv4.neigh.p0.proxy_delay=0
		n ip neigh add proxy 10.9.1.1 dev p0`, to: "1.1"},
	{name: "ARP: a proxy entry for another address", only: netstack.IPv4, setup: multihomed + routing + `
		n ip neigh add proxy 10.9.1.2 dev p0`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "ARP: a proxy within one segment", only: netstack.IPv4, setup: onBridge + `
		n bridge link set dev pa isolated on
		n bridge link set dev pb isolated on
		n sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.br0.proxy_arp_pvlan=1 net.ipv4.neigh.br0.proxy_delay=0 net.ipv4.conf.br0.send_redirects=0 net.ipv4.conf.all.send_redirects=0`, to: "0.2"},
	{name: "ARP: a gateway at 169.254.1.1", only: netstack.IPv4, setup: `
		wire a:eth0 n:p0
		wire b:eth0 n:p1
		n sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.p0.proxy_arp=1 net.ipv4.conf.p1.proxy_arp=1 net.ipv4.neigh.p0.proxy_delay=0 net.ipv4.neigh.p1.proxy_delay=0
		n ip route add default dev lo
		a ip addr add 10.9.0.1/32 dev eth0
		b ip addr add 10.9.1.1/32 dev eth0
		n ip route add 10.9.0.1/32 dev p0
		n ip route add 10.9.1.1/32 dev p1
		a ip route add 169.254.1.1 dev eth0 scope link
		b ip route add 169.254.1.1 dev eth0 scope link
		a ip route add default via 169.254.1.1
		b ip route add default via 169.254.1.1`, to: "1.1"},
	{name: "NDP: a proxy entry", only: netstack.IPv6, setup: `
		wire a:eth0 n:p0
		wire b:eth0 n:p1
		addr a:eth0 0.1
		addr n:p0 0.254
		addr b:eth0 1.1
		addr n:p1 1.254
		n sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.p0.proxy_ndp=1 net.ipv6.neigh.p0.proxy_delay=0
		n ip -6 neigh add proxy {1.1} dev p0
		a ip -6 route add {1/} dev eth0
		b ip -6 route add default via {1.254}`, to: "1.1"},
	{name: "NDP: a proxy entry, and proxy_ndp is off", only: netstack.IPv6, setup: `
		wire a:eth0 n:p0
		wire b:eth0 n:p1
		addr a:eth0 0.1
		addr n:p0 0.254
		addr b:eth0 1.1
		addr n:p1 1.254
		n sysctl -qw net.ipv6.conf.all.forwarding=1
		n ip -6 neigh add proxy {1.1} dev p0
		a ip -6 route add {1/} dev eth0
		b ip -6 route add default via {1.254}`, to: "1.1", reason: verdict.NeighbourFailed},
	{name: "NDP: the client has the router's address, unusable, and takes no answer about it", only: netstack.IPv6, setup: behindRouter + `
		a sysctl -qw net.ipv6.conf.eth0.accept_dad=1
		a ip -6 addr add {0.254}/64 dev eth0`, to: "1.1", reason: verdict.AddressNotUsable},
	{name: "ARP: a duplicate address that the host has too is refused", only: netstack.IPv4, setup: multihomed + `
		n ip addr add 10.9.0.1/32 dev lo`, to: "0.254", reason: verdict.MartianSource},
}
