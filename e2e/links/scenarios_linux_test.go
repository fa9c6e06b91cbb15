package links

import (
	"testing"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// onBridge has a, b and c on a bridge of n, which has an address on it too.
const onBridge = `
	n ip link add br0 type bridge
	n ip link set br0 up
	wire a:eth0 n:pa
	wire b:eth0 n:pb
	wire c:eth0 n:pc
	n ip link set pa master br0
	n ip link set pb master br0
	n ip link set pc master br0
	addr a:eth0 0.1
	addr b:eth0 0.2
	addr c:eth0 0.3
	addr n:br0 0.254
	settle
`

// twoWays has b behind two ports, of which the one that it is known to be behind has no carrier.
const twoWays = onBridge + `
	wire b:eth1 n:pd
	b ip link add br1 type bridge
	b ip addr flush dev eth0
	b ip link set eth0 down
	b ip link set eth0 master br1
	b ip link set eth1 master br1
	b ip link set br1 up
	addr b:br1 0.2
	mac MACB b:br1
	n ip link set pd master br0
	n bridge link set dev pd learning off
	n bridge fdb replace MACB dev pb master static
	a {ip} neigh replace {0.2} lladdr MACB nud permanent dev eth0
`

// bridgeRejects are what chains of the bridge family reject: the bridge answers, and
// not its host.
var bridgeRejects = []scenario{
	{name: "a bridge rejects", needs: []string{"bridge-reject"}, protocols: []string{"tcp", "udp"}, setup: onBridge + `
		n nft add table bridge own
		n nft add chain bridge own c { type filter hook prerouting priority 0 ; }
		n nft add rule bridge own c tcp dport 80 reject with tcp reset
		n nft add rule bridge own c udp dport 80 reject`, to: "0.2", reason: verdict.NetfilterReject},
	{name: "a bridge rejects, and the rules of its host do not see it", needs: []string{"bridge-reject"}, protocols: []string{"tcp", "udp"}, setup: onBridge + `
		n nft add table bridge own
		n nft add chain bridge own c { type filter hook prerouting priority 0 ; }
		n nft add rule bridge own c tcp dport 80 reject with tcp reset
		n nft add rule bridge own c udp dport 80 reject
		n nft add table inet other
		n nft add chain inet other out { type filter hook output priority 0 ; }
		n nft add rule inet other out tcp sport 80 drop
		n nft add rule inet other out icmp type destination-unreachable drop
		n nft add rule inet other out icmpv6 type destination-unreachable drop`, to: "0.2", reason: verdict.NetfilterReject},
	{name: "a bridge rejects what is for its host", needs: []string{"bridge-reject"}, protocols: []string{"tcp", "udp"}, setup: onBridge + `
		n nft add table bridge own
		n nft add chain bridge own c { type filter hook input priority 0 ; }
		n nft add rule bridge own c tcp dport 80 reject with tcp reset
		n nft add rule bridge own c udp dport 80 reject
		n nft add table inet other
		n nft add chain inet other out { type filter hook output priority 0 ; }
		n nft add rule inet other out tcp sport 80 drop
		n nft add rule inet other out icmp type destination-unreachable drop
		n nft add rule inet other out icmpv6 type destination-unreachable drop`, to: "0.254", reason: verdict.NetfilterReject},
	{name: "a bridge rejects, and its output chain drops that", needs: []string{"bridge-reject"}, protocols: []string{"tcp", "udp"}, setup: onBridge + `
		n nft add table bridge own
		n nft add chain bridge own c { type filter hook prerouting priority 0 ; }
		n nft add rule bridge own c tcp dport 80 reject with tcp reset
		n nft add rule bridge own c udp dport 80 reject
		n nft add chain bridge own out { type filter hook output priority 0 ; }
		n nft add rule bridge own out tcp sport 80 drop
		n nft add rule bridge own out icmp type destination-unreachable drop
		n nft add rule bridge own out icmpv6 type destination-unreachable drop`, to: "0.2", reason: verdict.NetfilterReject},
	{name: "a bridge rejects, and its postrouting chain drops that", needs: []string{"bridge-reject"}, protocols: []string{"tcp", "udp"}, setup: onBridge + `
		n nft add table bridge own
		n nft add chain bridge own c { type filter hook prerouting priority 0 ; }
		n nft add rule bridge own c tcp dport 80 reject with tcp reset
		n nft add rule bridge own c udp dport 80 reject
		n nft add chain bridge own out { type filter hook postrouting priority 0 ; }
		n nft add rule bridge own out tcp sport 80 drop
		n nft add rule bridge own out icmp type destination-unreachable drop
		n nft add rule bridge own out icmpv6 type destination-unreachable drop`, to: "0.2", reason: verdict.NetfilterReject},
}

var bridges = []scenario{
	{name: "two stations of a bridge", setup: onBridge, to: "0.2"},
	{name: "a station and the bridge's host", setup: onBridge, to: "0.254"},
	{name: "the bridge's host and a station", setup: onBridge, from: "n", to: "0.2"},
	{name: "both ports are isolated", setup: onBridge + `
		n bridge link set dev pa isolated on
		n bridge link set dev pb isolated on`, to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "both ports are isolated, and the client remembers the server", setup: onBridge + `
		n bridge link set dev pa isolated on
		n bridge link set dev pb isolated on
		mac MACB b:eth0
		a {ip} neigh replace {0.2} lladdr MACB nud reachable dev eth0`, to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "the server's link is down, and the client remembers the server", only: netstack.IPv4, setup: onBridge + `
		mac MACB b:eth0
		b ip link set eth0 down
		a {ip} neigh replace {0.2} lladdr MACB nud reachable dev eth0`, to: "0.2", reason: verdict.InterfaceDown},
	{name: "the server is gone, and the client remembers it", setup: onBridge + `
		mac MACB b:eth0
		b {ip} addr flush dev eth0
		b ip link set eth0 address 02:00:00:00:00:55
		a {ip} neigh replace {0.2} lladdr MACB nud reachable dev eth0`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "one port is isolated", setup: onBridge + `
		n bridge link set dev pa isolated on`, to: "0.2"},
	{name: "an isolated port and the bridge's host", setup: onBridge + `
		n bridge link set dev pa isolated on`, to: "0.254"},
	{name: "the port of the server does not forward", setup: onBridge + `
		n bridge link set dev pb state 1`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "the port of the client does not forward", setup: onBridge + `
		n bridge link set dev pa state 0`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "the port of the client learns, but does not forward", setup: onBridge + `
		n bridge link set dev pa state 2`, to: "0.254", reason: verdict.BridgePortBlocked},
	{name: "broadcasts are not flooded to the server: ARP dies", setup: onBridge + `
		n bridge link set dev pb bcast_flood off`, to: "0.2", only: netstack.IPv4, reason: verdict.BridgePortBlocked},
	{name: "broadcasts are not flooded to the server: discovery does not need them", setup: onBridge + `
		n bridge link set dev pb bcast_flood off`, to: "0.2", only: netstack.IPv6},
	{name: "multicasts are not flooded to the server: discovery dies", setup: onBridge + `
		n bridge link set dev pb mcast_flood off`, to: "0.2", only: netstack.IPv6, reason: verdict.BridgePortBlocked},
	{name: "multicasts are not flooded to the server: ARP does not need them", setup: onBridge + `
		n bridge link set dev pb mcast_flood off`, to: "0.2", only: netstack.IPv4},
	{name: "the bridge's host is not bound by the flood settings", setup: onBridge + `
		n bridge link set dev pb bcast_flood off mcast_flood off flood off`, from: "n", to: "0.2"},
	{name: "broadcasts are not flooded to the client, which is known once it has asked", setup: onBridge + `
		n bridge link set dev pa bcast_flood off mcast_flood off`, to: "0.2"},
	{name: "unicasts to unknown stations are not flooded, but the station answers ARP", setup: onBridge + `
		n bridge link set dev pb flood off`, to: "0.2"},
	{name: "a port that does not learn is flooded to", setup: onBridge + `
		n bridge link set dev pb learning off
		n bridge link set dev pa learning off`, to: "0.2"},
	{name: "a port that neither learns nor is flooded to", setup: onBridge + `
		n bridge link set dev pb learning off flood off
		n ip link set br0 type bridge fdb_flush`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "a port that neither learns nor is flooded to, with an entry", setup: onBridge + `
		mac MACB b:eth0
		n bridge link set dev pb learning off flood off
		n bridge fdb replace MACB dev pb master static`, to: "0.2"},
	{name: "the client's port neither learns nor is flooded to: answers do not come back", setup: onBridge + `
		n bridge link set dev pa learning off flood off
		n ip link set br0 type bridge fdb_flush`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "a static entry leads to the wrong port", setup: onBridge + `
		mac MACB b:eth0
		a {ip} neigh replace {0.2} lladdr MACB nud permanent dev eth0
		n bridge link set dev pb learning off
		n bridge fdb replace MACB dev pc master static`, to: "0.2", reason: verdict.NeighbourStale},
	{name: "a static entry leads to the wrong port, until the station is heard", setup: onBridge + `
		mac MACB b:eth0
		n bridge fdb replace MACB dev pc master static`, to: "0.2"},
	{name: "a locked port takes nobody", needs: []string{"locked"}, setup: onBridge + `
		n bridge link set dev pa learning off locked on
		n ip link set br0 type bridge fdb_flush`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "a locked port takes whom it knows", needs: []string{"locked"}, setup: onBridge + `
		mac MACA a:eth0
		n bridge link set dev pa learning off locked on
		n bridge fdb replace MACA dev pa master static`, to: "0.2"},
	{name: "the server's port is locked: its answers do not pass", needs: []string{"locked"}, setup: onBridge + `
		n bridge link set dev pb learning off locked on
		n ip link set br0 type bridge fdb_flush`, to: "0.2", reason: verdict.BridgePortBlocked},
	{name: "requests for a neighbour that the bridge knows are suppressed, and answered", setup: onBridge + `
		mac MACB b:eth0
		n bridge link set dev pb neigh_suppress on
		n bridge fdb replace MACB dev pb master static
		n {ip} neigh replace {0.2} lladdr MACB nud permanent dev br0`, to: "0.2"},
	{name: "requests are answered with a wrong address", setup: onBridge + `
		mac MACB b:eth0
		mac MACC c:eth0
		n bridge link set dev pb neigh_suppress on
		n bridge link set dev pc neigh_suppress on
		n bridge fdb replace MACB dev pb master static
		n bridge fdb replace MACC dev pc master static
		n {ip} neigh replace {0.2} lladdr MACC nud permanent dev br0`, to: "0.2", reason: verdict.ForwardingDisabled},
	{name: "requests for a neighbour that the bridge does not know are flooded", setup: onBridge + `
		n bridge link set dev pb neigh_suppress on`, to: "0.2"},
	{name: "requests are answered with a wrong address for ports of Wi-Fi", only: netstack.IPv4, setup: onBridge + `
		mac MACB b:eth0
		mac MACC c:eth0
		n ip link set pb type bridge_slave proxy_arp_wifi on
		n ip link set pc type bridge_slave proxy_arp_wifi on
		n bridge fdb replace MACB dev pb master static
		n bridge fdb replace MACC dev pc master static
		n {ip} neigh replace {0.2} lladdr MACC nud permanent dev br0`, to: "0.2", reason: verdict.ForwardingDisabled},
	{name: "requests of IPv6 are not answered for ports of Wi-Fi", only: netstack.IPv6, setup: onBridge + `
		mac MACC c:eth0
		n ip link set pb type bridge_slave proxy_arp_wifi on
		n ip link set pc type bridge_slave proxy_arp_wifi on
		n bridge fdb replace MACC dev pc master static
		n {ip} neigh replace {0.2} lladdr MACC nud permanent dev br0`, to: "0.2"},
	{name: "a port without carrier has a backup", setup: twoWays + `
		n ip link set pb type bridge_slave backup_port pd`, to: "0.2"},
	{name: "a port without carrier has no backup", setup: twoWays, to: "0.2", reason: verdict.InterfaceDown},
	{name: "the backup of a port without carrier leads elsewhere", setup: twoWays + `
		n ip link set pb type bridge_slave backup_port pc`, to: "0.2", reason: verdict.NeighbourStale},
	{name: "a port has a backup, and a carrier", setup: onBridge + `
		n ip link set pb type bridge_slave backup_port pc`, to: "0.2"},
	{name: "a port with proxy ARP gets no requests", setup: onBridge + `
		n ip link set pb type bridge_slave proxy_arp on`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "the port has a smaller MTU than the stations", setup: onBridge + `
		a ip link set eth0 gso_max_segs 1
		b ip link set eth0 gso_max_segs 1
		n ip link set pb mtu 1300`, to: "0.2", reason: verdict.MTUExceeded, small: &none},
	{name: "nobody has the address", setup: onBridge, to: "0.77", reason: verdict.NeighbourFailed},
	{name: "a permanent neighbour that nobody is", setup: onBridge + `
		a {ip} neigh replace {0.2} lladdr 02:00:00:00:00:77 nud permanent dev eth0`, to: "0.2", reason: verdict.NeighbourStale},
	{name: "the server's link is down", setup: onBridge + `
		b ip link set eth0 down`, to: "0.2", only: netstack.IPv4, reason: verdict.InterfaceDown},
	{name: "br_netfilter: a rule of the node drops what is bridged", needs: []string{"br_netfilter"}, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
		n {iptables} -A FORWARD -m physdev --physdev-out pb -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "br_netfilter is off: the rule does not see it", needs: []string{"br_netfilter"}, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
		n {iptables} -A FORWARD -j DROP`, to: "0.2"},
	{name: "two bridges in a row", setup: `
		n ip link add br0 type bridge
		m ip link add br0 type bridge
		n ip link set br0 up
		m ip link set br0 up
		wire a:eth0 n:pa
		wire b:eth0 m:pb
		wire n:x m:y
		n ip link set pa master br0
		n ip link set x master br0
		m ip link set pb master br0
		m ip link set y master br0
		addr a:eth0 0.1
		addr b:eth0 0.2`, to: "0.2"},
}

// nodes has a behind n and b behind m, each on a bridge, and n and m joined by a
// wire: subnet 5 is between the nodes.
const nodes = `
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	m sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	wire n:eth0 m:eth0
	addr n:eth0 5.1
	addr m:eth0 5.2
	n ip link add br0 type bridge
	m ip link add br0 type bridge
	n ip link set br0 up
	m ip link set br0 up
	wire a:eth0 n:pa
	wire b:eth0 m:pb
	n ip link set pa master br0
	m ip link set pb master br0
`

// flannel routes between the subnets of the nodes through VXLAN devices, with
// an entry and a neighbour for each other node.
const flannel = nodes + `
	addr a:eth0 1.1
	addr n:br0 1.254
	addr b:eth0 2.1
	addr m:br0 2.254
	a {ip} route add default via {1.254}
	b {ip} route add default via {2.254}
	n ip link add vx0 type vxlan id 7 dstport 8472 local 10.9.5.1 dev eth0 nolearning
	m ip link add vx0 type vxlan id 7 dstport 8472 local 10.9.5.2 dev eth0 nolearning
	n ip link set vx0 up
	m ip link set vx0 up
	addr n:vx0 6.1
	addr m:vx0 6.2
	mac MACN n:vx0
	mac MACM m:vx0
	n {ip} neigh replace {6.2} lladdr MACM nud permanent dev vx0
	m {ip} neigh replace {6.1} lladdr MACN nud permanent dev vx0
	n {ip} route add {2/} via {6.2} dev vx0 onlink
	m {ip} route add {1/} via {6.1} dev vx0 onlink
	n bridge fdb replace MACM dev vx0 dst 10.9.5.2
	m bridge fdb replace MACN dev vx0 dst 10.9.5.1
	settle
`

// stretched has one subnet on both nodes: the VXLAN devices are ports of the
// bridges, and send to each other what they know no place for.
const stretched = nodes + `
	addr a:eth0 1.1
	addr b:eth0 1.2
	n ip link add vx0 type vxlan id 7 dstport 4789 local 10.9.5.1 remote 10.9.5.2
	m ip link add vx0 type vxlan id 7 dstport 4789 local 10.9.5.2 remote 10.9.5.1
	n ip link set vx0 up master br0
	m ip link set vx0 up master br0
	a ip link set eth0 mtu 1450
	b ip link set eth0 mtu 1450
	settle
`

// lonely is stretched, and what n knows no place for goes to an address that nobody has.
const lonely = stretched + `
	n ip link set vx0 type vxlan nolearning
	n bridge fdb flush dev vx0
	n bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.9.5.9
`

var vxlans = []scenario{
	{name: "routed through VXLAN", setup: flannel, to: "2.1"},
	{name: "from the node through VXLAN", setup: flannel, from: "n", to: "2.1"},
	{name: "from the node to the other's end of the tunnel", setup: flannel, from: "n", to: "6.2"},
	{name: "no entry of the database for the other node", setup: flannel + `
		n bridge fdb del MACM dev vx0 dst 10.9.5.2`, to: "2.1", reason: verdict.VXLANPeerMissing},
	{name: "an entry leads to a group of next hops", setup: flannel + `
		n bridge fdb del MACM dev vx0 dst 10.9.5.2
		n ip nexthop add id 1 via 10.9.5.2 fdb
		n ip nexthop add id 10 group 1 fdb
		n bridge fdb add MACM dev vx0 nhid 10`, to: "2.1"},
	{name: "an entry leads to a next hop that nobody is", protocols: []string{"icmp"}, setup: flannel + `
		n bridge fdb del MACM dev vx0 dst 10.9.5.2
		n ip nexthop add id 1 via 10.9.5.77 fdb
		n ip nexthop add id 10 group 1 fdb
		n bridge fdb add MACM dev vx0 nhid 10`, to: "2.1", reason: verdict.NeighbourFailed},
	{name: "no entry for the way back", setup: flannel + `
		m bridge fdb del MACN dev vx0 dst 10.9.5.1`, to: "2.1", reason: verdict.VXLANPeerMissing},
	{name: "no neighbour: the request has no entry to follow", setup: flannel + `
		n {ip} neigh del {6.2} dev vx0`, to: "2.1", reason: verdict.NeighbourFailed},
	{name: "the entry leads to a node that has no such device", setup: flannel + `
		m ip link del vx0`, to: "2.1", reason: verdict.VXLANPeerMissing},
	{name: "another VNI on the other node", setup: flannel + `
		m ip link del vx0
		m ip link add vx0 type vxlan id 8 dstport 8472 local 10.9.5.2 nolearning
		m ip link set vx0 up`, to: "2.1", reason: verdict.VXLANPeerMissing},
	{name: "another port on the other node", setup: flannel + `
		m ip link del vx0
		m ip link add vx0 type vxlan id 7 dstport 4789 local 10.9.5.2 nolearning
		m ip link set vx0 up`, to: "2.1", reason: verdict.VXLANPeerMissing},
	{name: "the device of the other node is down", setup: flannel + `
		m ip link set vx0 down`, to: "2.1", reason: verdict.InterfaceDown},
	{name: "the other node drops the port of VXLAN", setup: flannel + `
		m iptables -A INPUT -p udp --dport 8472 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "the own node drops the port of VXLAN", setup: flannel + `
		n iptables -A OUTPUT -p udp --dport 8472 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "the way back is dropped", setup: flannel + `
		n iptables -A INPUT -p udp --dport 8472 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "the other node rejects the port of VXLAN: nobody is told", setup: flannel + `
		m iptables -A INPUT -p udp --dport 8472 -j REJECT`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "the packet around keeps the mark of the one inside", setup: flannel + `
		n {iptables} -t mangle -A PREROUTING -i br0 -j MARK --set-mark 7
		n iptables -A OUTPUT -p udp --dport 8472 -m mark --mark 7 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "the packet inside keeps the mark of the one around", setup: flannel + `
		m iptables -t mangle -A PREROUTING -p udp --dport 8472 -j MARK --set-mark 7
		m {iptables} -A FORWARD -i vx0 -m mark --mark 7 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "no route to the other node", setup: flannel + `
		n ip route del 10.9.5.0/24`, to: "2.1", reason: verdict.NoRoute},
	{name: "the other node does not answer ARP", setup: flannel + `
		m sysctl -qw net.ipv4.conf.all.arp_ignore=8`, to: "2.1", reason: verdict.ARPFiltered},
	{name: "the link between the nodes is down", setup: flannel + `
		m ip link set eth0 down`, to: "2.1", reason: verdict.InterfaceDown},
	{name: "the wire between the nodes is too small: the sender is told", setup: flannel + `
		n ip link set eth0 mtu 1400
		m ip link set eth0 mtu 1400`, to: "2.1"},
	{name: "a tunnel that the packets around are routed into", setup: flannel + `
		n ip route add 10.9.5.2/32 via 10.9.6.2 dev vx0 onlink`, to: "2.1", reason: verdict.RoutingLoop},

	{name: "bridged through VXLAN", setup: stretched, to: "1.2"},
	{name: "bridged through VXLAN, and the default entry is missing", setup: stretched + `
		n bridge fdb del 00:00:00:00:00:00 dev vx0 dst 10.9.5.2`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "bridged through VXLAN, and requests are dropped on their way", setup: stretched + `
		m iptables -A INPUT -p udp --dport 4789 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "bridged through VXLAN, and answers are dropped on their way", setup: stretched + `
		m iptables -A OUTPUT -p udp --dport 4789 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "the default entry leads to an address that nobody has", setup: lonely, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "the default entry leads to an address that nobody has, and the neighbour is known", protocols: []string{"tcp", "icmp"}, setup: lonely + `
		mac MACB b:eth0
		a {ip} neigh replace {1.2} lladdr MACB nud permanent dev eth0`, to: "1.2", reason: verdict.NeighbourStale},
	{name: "no route leads to where the default entry does", setup: lonely + `
		n ip route del 10.9.5.0/24`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "a blackhole route leads to where the default entry does", setup: lonely + `
		n ip route add blackhole 10.9.5.9`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "the node drops what goes to where the default entry leads", setup: lonely + `
		n iptables -A OUTPUT -p udp -d 10.9.5.9 -j DROP`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "the default entry leads into its own tunnel", setup: lonely + `
		n ip addr add 10.9.8.1/24 dev br0
		n ip route add 10.9.5.9 via 10.9.8.2 dev br0`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "one default entry of several leads to an address that nobody has, and none to the station", setup: lonely + `
		n bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.9.5.10
		n bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.9.5.2
		b {ip} addr del {1.2}/{bits} dev eth0`, to: "1.2", reason: verdict.NeighbourFailed},
	{name: "several default entries", setup: stretched + `
		n bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.9.5.9`, to: "1.2"},
	{name: "an entry leads elsewhere than where the station is", setup: stretched + `
		mac MACB b:eth0
		n bridge fdb replace MACB dev vx0 dst 10.9.5.9 static
		a {ip} neigh replace {1.2} lladdr MACB nud permanent dev eth0`, to: "1.2", protocols: []string{"tcp", "icmp"}, reason: verdict.NeighbourFailed},
	{name: "a device that learns takes no sender that an entry has elsewhere", setup: stretched + `
		mac MACA a:eth0
		m bridge fdb replace MACA dev vx0 dst 10.9.5.9 static`, to: "1.2", reason: verdict.VXLANPeerMissing},
	{name: "the stations are larger than the tunnel: the packets around are fragmented", setup: stretched + `
		a ip link set eth0 mtu 1500
		b ip link set eth0 mtu 1500
		n ip link set vx0 mtu 1500
		m ip link set vx0 mtu 1500`, to: "1.2"},
	{name: "VXLAN over IPv6", only: netstack.IPv6, setup: nodes + `
		addr a:eth0 1.1
		addr b:eth0 1.2
		n ip link add vx0 type vxlan id 7 dstport 4789 local fd00:9:5::1 remote fd00:9:5::2
		m ip link add vx0 type vxlan id 7 dstport 4789 local fd00:9:5::2 remote fd00:9:5::1
		n ip link set vx0 up master br0
		m ip link set vx0 up master br0
		a ip link set eth0 mtu 1430
		b ip link set eth0 mtu 1430`, to: "1.2"},
	{name: "remote ends that programs choose", setup: nodes + `
		addr n:eth0 1.254
		n ip link add vx0 type vxlan external dstport 4789
		n ip link set vx0 up
		n {ip} route add {2/} dev vx0`, from: "n", to: "2.1", opaque: true, reason: verdict.EBPFOpaque},
	{name: "a device that answers for its neighbours", setup: flannel + `
		n ip link del vx0
		n ip link add vx0 type vxlan id 7 dstport 8472 local 10.9.5.1 dev eth0 nolearning proxy
		n ip link set vx0 address MACN up
		addr n:vx0 6.1
		n {ip} route add {2/} via {6.2} dev vx0 onlink
		n bridge fdb replace MACM dev vx0 dst 10.9.5.2
		n {ip} neigh replace {6.2} lladdr MACM nud permanent dev vx0`, to: "2.1"},
}

// shared has a and b on macvlans of n's uplink, which leads to a bridge of m
// with c on it.
const shared = `
	wire n:eth0 m:pn
	wire c:eth0 m:pc
	m ip link add br0 type bridge
	m ip link set br0 up
	m ip link set pn master br0
	m ip link set pc master br0
	addr n:eth0 0.100
	addr c:eth0 0.3
`

func sharing(mode string) string {
	return shared + `
		n ip link add link eth0 name ma netns {a} type macvlan mode ` + mode + `
		n ip link add link eth0 name mb netns {b} type macvlan mode ` + mode + `
		a ip link set dev ma name eth0 up
		b ip link set dev mb name eth0 up
		addr a:eth0 0.1
		addr b:eth0 0.2
		settle
	`
}

var macvlans = []scenario{
	{name: "macvlans of mode bridge", needs: []string{"macvlan"}, setup: sharing("bridge"), to: "0.2"},
	{name: "macvlans of mode bridge on a device that is down", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		n ip link set eth0 down
		settle`, to: "0.2", reason: verdict.InterfaceDown},
	{name: "macvlans of mode bridge on a device without carrier", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		m ip link set pn down
		settle`, to: "0.2", reason: verdict.InterfaceDown},
	{name: "macvlans of mode private", needs: []string{"macvlan"}, setup: sharing("private"), to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "macvlans of mode vepa on a switch that does not send back", needs: []string{"macvlan"}, setup: sharing("vepa"), to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "macvlans of mode vepa on a switch that sends back", needs: []string{"macvlan"}, setup: sharing("vepa") + `
		m bridge link set dev pn hairpin on`, to: "0.2"},
	{name: "macvlans of mode private on a switch that sends back", needs: []string{"macvlan"}, setup: sharing("private") + `
		m bridge link set dev pn hairpin on`, to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "a macvlan and the rest of the segment", needs: []string{"macvlan"}, setup: sharing("bridge"), to: "0.3"},
	{name: "the rest of the segment and a macvlan", needs: []string{"macvlan"}, setup: sharing("private"), from: "c", to: "0.2"},
	{name: "a macvlan and the host of its device", needs: []string{"macvlan"}, setup: sharing("bridge"), to: "0.100", reason: verdict.BridgePortIsolated},
	{name: "the host of a device and a macvlan on it", needs: []string{"macvlan"}, setup: sharing("bridge"), from: "n", to: "0.1", reason: verdict.BridgePortIsolated},
	{name: "a macvlan and the host of its device, on a switch that sends back", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		m bridge link set dev pn hairpin on`, to: "0.100"},
	{name: "the host of a device and a macvlan on it, on a switch that sends back", needs: []string{"macvlan"}, setup: sharing("vepa") + `
		m bridge link set dev pn hairpin on`, from: "n", to: "0.1"},
	{name: "a macvlan of mode passthru", needs: []string{"macvlan"}, setup: shared + `
		n ip addr flush dev eth0
		n ip link add link eth0 name ma netns {a} type macvlan mode passthru
		a ip link set dev ma name eth0 up
		addr a:eth0 0.1`, to: "0.3"},
	{name: "a macvlan of mode passthru takes what is for the host of its device", needs: []string{"macvlan"}, only: netstack.IPv4, setup: shared + `
		n ip link add link eth0 name ma netns {a} type macvlan mode passthru
		a ip link set dev ma name eth0 up
		a sysctl -qw net.ipv4.ip_forward=0
		addr a:eth0 0.1`, from: "c", to: "0.100", reason: verdict.ForwardingDisabled},
	{name: "a macvlan of mode source takes what its list names", needs: []string{"macvlan"}, setup: shared + `
		mac MACC c:eth0
		n ip link add link eth0 name ma netns {a} type macvlan mode source
		a ip link set dev ma type macvlan macaddr add MACC
		a ip link set dev ma name eth0 up
		addr a:eth0 0.1`, to: "0.3"},
	{name: "a macvlan of mode source takes nobody else", needs: []string{"macvlan"}, setup: shared + `
		n ip link add link eth0 name ma netns {a} type macvlan mode source
		a ip link set dev ma name eth0 up
		addr a:eth0 0.1`, to: "0.3", reason: verdict.NeighbourStale},
	{name: "the device below is down", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		m ip link set pn down`, to: "0.3", reason: verdict.InterfaceDown},
	{name: "siblings do not hear each other when the device below is down", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		n ip link set eth0 down`, to: "0.2", reason: verdict.InterfaceDown},
	{name: "siblings do not hear each other when the device below has no carrier", needs: []string{"macvlan"}, setup: sharing("bridge") + `
		m ip link set pn down
		settle`, to: "0.2", reason: verdict.InterfaceDown},
}

// TestATunnelThatLeavesWhatWasCollected has a default entry to an address that only the other node can have, which is not
// collected: what is behind it may be reached, unless the packets around do not leave.
func TestATunnelThatLeavesWhatWasCollected(t *testing.T) {
	need(t, "vxlan")
	w := newWorld(t, "vl", "a", "b", "n", "m")
	w.apply(lonely, []netstack.Family{netstack.IPv4})
	w.settle()
	query := verdict.Query{From: "ns:" + w.netns("a"), To: "10.9.1.2", Port: 80, Protocol: verdict.TCP}
	reason := func() verdict.Code {
		seen := against.Collect(t, collector.Options{Namespaces: []string{w.netns("a"), w.netns("n")}})
		return against.Diagnose(t, against.Compile(t, seen), query).Reason()
	}
	if code := reason(); code != verdict.LeavesModel {
		t.Errorf("first reason %q, want %q", code, verdict.LeavesModel)
	}
	w.command("n", "ip", "route", "add", "blackhole", "10.9.5.9")
	if code := reason(); code != verdict.NeighbourFailed {
		t.Errorf("first reason with a blackhole route %q, want %q", code, verdict.NeighbourFailed)
	}
}
