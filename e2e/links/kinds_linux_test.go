package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// filtering has a, b and c on a bridge of n that filters VLANs: each port is in
// VLAN 1, without a tag.
const filtering = `
	n ip link add br0 type bridge vlan_filtering 1
	n ip link set br0 up
	wire a:eth0 n:pa
	wire b:eth0 n:pb
	wire c:eth0 n:pc
	n ip link set pa master br0
	n ip link set pb master br0
	n ip link set pc master br0
	addr a:eth0 0.1
	addr b:eth0 0.2
	addr n:br0 0.254
	settle
`

// tagged adds VLAN 20: a and b have devices for it.
const tagged = filtering + `
	a ip link add link eth0 name eth0.20 type vlan id 20
	b ip link add link eth0 name eth0.20 type vlan id 20
	a ip link set eth0.20 up
	b ip link set eth0.20 up
	addr a:eth0.20 20.1
	addr b:eth0.20 20.2
	n bridge vlan add vid 20 dev pa
	n bridge vlan add vid 20 dev pb
`

var vlans = []scenario{
	{name: "a VLAN between two devices", needs: []string{"vlan"}, setup: `
		wire a:eth0 b:eth0
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 0.1
		addr b:v5 0.2`, to: "0.2"},
	{name: "another VLAN at the other end", needs: []string{"vlan"}, setup: `
		wire a:eth0 b:eth0
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 6
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 0.1
		addr b:v5 0.2`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "another protocol at the other end", needs: []string{"vlan"}, setup: `
		wire a:eth0 b:eth0
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan protocol 802.1ad id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 0.1
		addr b:v5 0.2`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "a VLAN in a VLAN", needs: []string{"vlan"}, setup: `
		wire a:eth0 b:eth0
		a ip link add link eth0 name s5 type vlan protocol 802.1ad id 5
		b ip link add link eth0 name s5 type vlan protocol 802.1ad id 5
		a ip link add link s5 name v6 type vlan id 6
		b ip link add link s5 name v6 type vlan id 6
		a ip link set s5 up
		b ip link set s5 up
		a ip link set v6 up
		b ip link set v6 up
		addr a:v6 0.1
		addr b:v6 0.2`, to: "0.2"},
	{name: "a VLAN device of its own address, in a namespace of its own", needs: []string{"vlan"}, setup: `
		wire n:eth0 b:eth0
		n ip link add link eth0 name v5 address 02:00:00:00:00:55 netns {a} type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set dev v5 up
		b ip link set v5 up
		addr a:v5 0.1
		addr b:v5 0.2`, to: "0.2"},
	{name: "a bridge of VLAN devices", needs: []string{"vlan"}, setup: `
		wire a:eth0 n:pa
		wire b:eth0 n:pb
		a ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		n ip link add link pa name pa.5 type vlan id 5
		n ip link add br5 type bridge
		n ip link set pa.5 up master br5
		n ip link set pb master br5
		n ip link set br5 up
		addr a:v5 0.1
		addr b:eth0 0.2`, to: "0.2"},
	{name: "a bridge without filtering passes tags", needs: []string{"vlan"}, setup: onBridge + `
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 5.1
		addr b:v5 5.2`, to: "5.2"},
	{name: "a VLAN device on a bridge without filtering", needs: []string{"vlan"}, setup: onBridge + `
		a ip link add link eth0 name v5 type vlan id 5
		n ip link add link br0 name br0.5 type vlan id 5
		a ip link set v5 up
		n ip link set br0.5 up
		addr a:v5 5.1
		addr n:br0.5 5.2`, to: "5.2"},
	{name: "a VLAN device that is down", needs: []string{"vlan"}, setup: `
		wire a:eth0 b:eth0
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		addr a:v5 0.1
		b ip addr add 10.9.0.2/24 dev v5`, to: "0.2", only: netstack.IPv4, reason: verdict.InterfaceDown},

	{name: "filtering: stations of one VLAN", needs: []string{"vlan-filtering"}, setup: filtering, to: "0.2"},
	{name: "filtering: a station and the bridge's host", needs: []string{"vlan-filtering"}, setup: filtering, to: "0.254"},
	{name: "filtering: the bridge's host is not in the VLAN", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev br0 self`, to: "0.254", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: from the bridge's host, which is not in the VLAN", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev br0 self`, from: "n", to: "0.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: the server's port is in another VLAN", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev pb
		n bridge vlan add vid 9 dev pb pvid untagged`, to: "0.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: the client's port has no PVID", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev pa
		n bridge vlan add vid 1 dev pa`, to: "0.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: both ports have moved to another VLAN", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev pa
		n bridge vlan del vid 1 dev pb
		n bridge vlan add vid 9 dev pa pvid untagged
		n bridge vlan add vid 9 dev pb pvid untagged`, to: "0.2"},
	{name: "filtering: requests pass and answers do not", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan add vid 9 dev pa pvid untagged
		n bridge vlan add vid 9 dev pb untagged
		n bridge vlan del vid 1 dev pa`, to: "0.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: a port gives a tag that its station does not know", needs: []string{"vlan-filtering"}, setup: filtering + `
		n bridge vlan del vid 1 dev pb
		n bridge vlan add vid 1 dev pb pvid`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "filtering: a VLAN with tags", needs: []string{"vlan", "vlan-filtering"}, setup: tagged, to: "20.2"},
	{name: "filtering: a VLAN with tags that the server's port does not carry", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n bridge vlan del vid 20 dev pb`, to: "20.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: a VLAN with tags that the client's port does not carry", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n bridge vlan del vid 20 dev pa`, to: "20.2", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: a range of VLANs", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n bridge vlan del vid 20 dev pa
		n bridge vlan del vid 20 dev pb
		n bridge vlan add vid 10-30 dev pa
		n bridge vlan add vid 15-25 dev pb`, to: "20.2"},
	{name: "filtering: from a tag to a port without", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n bridge vlan add vid 20 dev pc pvid untagged
		addr c:eth0 20.3`, to: "20.3"},
	{name: "filtering: a VLAN device on the bridge", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n bridge vlan add vid 20 dev br0 self
		n ip link add link br0 name br0.20 type vlan id 20
		n ip link set br0.20 up
		addr n:br0.20 20.254`, to: "20.254"},
	{name: "filtering: a VLAN device on the bridge, which does not carry the VLAN", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n ip link add link br0 name br0.20 type vlan id 20
		n ip link set br0.20 up
		addr n:br0.20 20.254`, to: "20.254", reason: verdict.BridgeVLANFiltered},
	{name: "filtering: routed between VLANs by devices on the bridge", needs: []string{"vlan", "vlan-filtering"}, setup: tagged + `
		n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		n bridge vlan add vid 20 dev br0 self
		n bridge vlan add vid 30 dev br0 self
		n bridge vlan add vid 30 dev pc pvid untagged
		n ip link add link br0 name br0.20 type vlan id 20
		n ip link add link br0 name br0.30 type vlan id 30
		n ip link set br0.20 up
		n ip link set br0.30 up
		addr n:br0.20 20.254
		addr n:br0.30 30.254
		addr c:eth0 30.3
		a {ip} route add {30/} via {20.254}
		c {ip} route add {20/} via {30.254}`, to: "30.3"},
	{name: "br_netfilter sees no packets with tags", needs: []string{"vlan", "br_netfilter"}, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 net.bridge.bridge-nf-filter-vlan-tagged=0
		n {iptables} -A FORWARD -j DROP
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 5.1
		addr b:v5 5.2`, to: "5.2"},
	{name: "br_netfilter sees packets with tags when told to", needs: []string{"vlan", "br_netfilter"}, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 net.bridge.bridge-nf-filter-vlan-tagged=1
		n {iptables} -A FORWARD -j DROP
		a ip link add link eth0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 5.1
		addr b:v5 5.2`, to: "5.2", reason: verdict.NetfilterDrop},
}

// bonded has a with a bond of two wires to a bridge of n, which has b on it.
func bonded(options string) string {
	return `
	wire a:s0 n:p0
	wire a:s1 n:p1
	wire b:eth0 n:pb
	n ip link add br0 type bridge
	n ip link set br0 up
	n ip link set pb master br0
	a ip link add bond0 type bond miimon 100 ` + options + `
	a ip link set s0 down
	a ip link set s1 down
	a ip link set s0 master bond0
	a ip link set s1 master bond0
	a ip link set bond0 up
	addr a:bond0 0.1
	addr b:eth0 0.2
	`
}

var bonds = []scenario{
	{name: "a bond with one active port", needs: []string{"bond"}, setup: bonded("mode active-backup") + `
		n ip link set p0 master br0
		n ip link set p1 master br0
		settle`, to: "0.2"},
	{name: "to a bond with one active port", needs: []string{"bond"}, setup: bonded("mode active-backup") + `
		n ip link set p0 master br0
		n ip link set p1 master br0
		settle`, from: "b", to: "0.1"},
	{name: "the active port leads to nobody", needs: []string{"bond"}, setup: bonded("mode active-backup primary s0") + `
		n ip link set p1 master br0
		settle`, to: "0.2", reason: verdict.NeighbourFailed},
	{name: "the first port has no carrier, the other one takes over", needs: []string{"bond"}, setup: bonded("mode active-backup primary s0") + `
		n ip link set p1 master br0
		n ip link set p0 down
		settle`, to: "0.2"},
	{name: "no port has a carrier", needs: []string{"bond"}, setup: bonded("mode active-backup") + `
		n ip link set p0 down
		n ip link set p1 down
		settle`, to: "0.2", only: netstack.IPv4, reason: verdict.NeighbourFailed},
	{name: "bonds at both ends", needs: []string{"bond"}, setup: `
		wire a:s0 b:s0
		wire a:s1 b:s1
		a ip link add bond0 type bond miimon 100 mode balance-xor
		b ip link add bond0 type bond miimon 100 mode balance-xor
		a ip link set s0 down
		a ip link set s1 down
		b ip link set s0 down
		b ip link set s1 down
		a ip link set s0 master bond0
		a ip link set s1 master bond0
		b ip link set s0 master bond0
		b ip link set s1 master bond0
		a ip link set bond0 up
		b ip link set bond0 up
		addr a:bond0 0.1
		addr b:bond0 0.2
		settle`, to: "0.2"},
	{name: "a VLAN on a bond", needs: []string{"bond", "vlan"}, setup: `
		wire a:s0 b:eth0
		a ip link add bond0 type bond miimon 100 mode active-backup
		a ip link set s0 down
		a ip link set s0 master bond0
		a ip link set bond0 up
		a ip link add link bond0 name v5 type vlan id 5
		b ip link add link eth0 name v5 type vlan id 5
		a ip link set v5 up
		b ip link set v5 up
		addr a:v5 0.1
		addr b:v5 0.2
		settle`, to: "0.2"},
}

// joined has n and m with a wire, and a behind n and b behind m: the tunnels are
// between n and m.
const joined = `
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	m sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	wire n:eth0 m:eth0
	wire a:eth0 n:pa
	wire b:eth0 m:pb
	addr n:eth0 5.1
	addr m:eth0 5.2
	addr a:eth0 1.1
	addr n:pa 1.254
	addr b:eth0 2.1
	addr m:pb 2.254
	a {ip} route add default via {1.254}
	b {ip} route add default via {2.254}
	settle
`

func tunnels(kind, options string) string {
	return joined + `
	n ip link add t0 type ` + kind + ` local 10.9.5.1 remote 10.9.5.2 ` + options + `
	m ip link add t0 type ` + kind + ` local 10.9.5.2 remote 10.9.5.1 ` + options + `
	n ip link set t0 up
	m ip link set t0 up
	`
}

const throughTunnel = `
	n {ip} route add {2/} dev t0
	m {ip} route add {1/} dev t0
`

var ipTunnels = []scenario{
	{name: "IPIP", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + throughTunnel, to: "2.1"},
	{name: "IPIP, dropped at the other end", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + throughTunnel + `
		m iptables -A INPUT -p 4 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "IPIP, answers dropped at their start", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + throughTunnel + `
		m iptables -A OUTPUT -p 4 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "IPIP, and the other end is down", needs: []string{"ipip"}, only: netstack.IPv4, again: true, setup: tunnels("ipip", "") + throughTunnel + `
		m ip link set t0 down`, to: "2.1", reason: verdict.InterfaceMissing},
	{name: "IPIP, and the other end expects another sender", needs: []string{"ipip"}, only: netstack.IPv4, again: true, setup: tunnels("ipip", "") + throughTunnel + `
		m ip link del t0
		m ip link add t0 type ipip local 10.9.5.2 remote 10.9.5.9
		m ip link set t0 up
		m ip route add 10.9.1.0/24 dev t0`, to: "2.1", reason: verdict.InterfaceMissing},
	{name: "IPIP, and the other end checks the reverse path", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + `
		n ip route add 10.9.2.0/24 dev t0
		m ip route add 10.9.1.0/24 via 10.9.5.1
		m sysctl -qw net.ipv4.conf.t0.rp_filter=1`, to: "2.1", reason: verdict.ReversePathFilter},
	{name: "IPIP to anywhere, with the other end as next hop", needs: []string{"ipip"}, only: netstack.IPv4, setup: joined + `
		n ip link add t0 type ipip local 10.9.5.1
		m ip link add t0 type ipip local 10.9.5.2
		n ip link set t0 up
		m ip link set t0 up
		n ip addr add 10.9.7.1/32 dev t0
		m ip addr add 10.9.7.2/32 dev t0
		n ip route add 10.9.2.0/24 via 10.9.5.2 dev t0 onlink
		m ip route add 10.9.1.0/24 via 10.9.5.1 dev t0 onlink`, to: "2.1"},
	{name: "IPIP on a wire that is smaller", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + throughTunnel + `
		n ip link set eth0 mtu 1400
		m ip link set eth0 mtu 1400`, to: "2.1"},
	{name: "IPIP, and the sender is not told that packets are too big", needs: []string{"ipip"}, only: netstack.IPv4, setup: tunnels("ipip", "") + throughTunnel + `
		a iptables -A INPUT -p icmp --icmp-type fragmentation-needed -j DROP
		a ip link set eth0 gso_max_segs 1
		b ip link set eth0 gso_max_segs 1`, to: "2.1", reason: verdict.MTUExceeded, small: &none},
	{name: "SIT", needs: []string{"sit"}, only: netstack.IPv6, setup: joined + `
		n ip addr add 10.9.5.1/24 dev eth0
		m ip addr add 10.9.5.2/24 dev eth0
		n ip link add t0 type sit local 10.9.5.1 remote 10.9.5.2
		m ip link add t0 type sit local 10.9.5.2 remote 10.9.5.1
		n ip link set t0 up
		m ip link set t0 up` + throughTunnel, to: "2.1"},
	{name: "SIT, dropped at the other end", needs: []string{"sit"}, only: netstack.IPv6, setup: joined + `
		n ip addr add 10.9.5.1/24 dev eth0
		m ip addr add 10.9.5.2/24 dev eth0
		n ip link add t0 type sit local 10.9.5.1 remote 10.9.5.2
		m ip link add t0 type sit local 10.9.5.2 remote 10.9.5.1
		n ip link set t0 up
		m ip link set t0 up` + throughTunnel + `
		m iptables -A INPUT -p 41 -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "SIT, rejected at the other end: nobody is told", needs: []string{"sit"}, only: netstack.IPv6, again: true, setup: joined + `
		n ip addr add 10.9.5.1/24 dev eth0
		m ip addr add 10.9.5.2/24 dev eth0
		n ip link add t0 type sit local 10.9.5.1 remote 10.9.5.2
		m ip link add t0 type sit local 10.9.5.2 remote 10.9.5.1
		n ip link set t0 up
		m ip link set t0 up` + throughTunnel + `
		m iptables -A INPUT -p 41 -j REJECT --reject-with icmp-host-prohibited`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "SIT without a route to the other end", needs: []string{"sit"}, only: netstack.IPv6, setup: tunnels("sit", "") + throughTunnel + `
		n ip addr add 10.9.5.1/32 dev lo`, to: "2.1", reason: verdict.NoRoute},
	{name: "SIT from an address that its host has not", needs: []string{"sit"}, only: netstack.IPv6, setup: tunnels("sit", "") + throughTunnel, to: "2.1", reason: verdict.AddressNotUsable},
	{name: "SIT with IPv4, without a route to the other end: nobody is told", needs: []string{"sit"}, only: netstack.IPv4, again: true, setup: tunnels("sit", "") + throughTunnel + `
		n ip route del 10.9.5.0/24`, to: "2.1", reason: verdict.NoRoute},
	{name: "SIT with IPv4, rejected at the other end: nobody is told", needs: []string{"sit"}, only: netstack.IPv4, again: true, setup: tunnels("sit", "") + throughTunnel + `
		m iptables -A INPUT -p 4 -j REJECT --reject-with icmp-host-prohibited`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "SIT with IPv4, and the other end is not there: nobody is told", needs: []string{"sit"}, only: netstack.IPv4, again: true, setup: tunnels("sit", "") + throughTunnel + `
		m ip addr del 10.9.5.2/24 dev eth0
		m ip route add 10.9.5.0/24 dev eth0`, to: "2.1", reason: verdict.NeighbourFailed},
	{name: "SIT carries IPv4, too", needs: []string{"sit"}, setup: tunnels("sit", "") + throughTunnel, to: "2.1"},
	{name: "SIT of a mode that takes IPv6 only", needs: []string{"sit"}, only: netstack.IPv4, again: true, setup: tunnels("sit", "mode ip6ip") + throughTunnel, to: "2.1", reason: verdict.InterfaceMissing},
	{name: "IPIP, rejected with the port unreachable", needs: []string{"ipip"}, only: netstack.IPv4, again: true, setup: tunnels("ipip", "") + throughTunnel + `
		m iptables -A INPUT -p 4 -j REJECT`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "GRE, rejected at the other end", needs: []string{"gre"}, only: netstack.IPv4, again: true, setup: tunnels("gre", "") + throughTunnel + `
		m iptables -A INPUT -p 47 -j REJECT --reject-with icmp-host-prohibited`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "GRE, rejected with the port unreachable: nobody is told", needs: []string{"gre"}, only: netstack.IPv4, again: true, setup: tunnels("gre", "") + throughTunnel + `
		m iptables -A INPUT -p 47 -j REJECT`, to: "2.1", reason: verdict.NetfilterReject},
	{name: "GRE", needs: []string{"gre"}, setup: tunnels("gre", "") + throughTunnel, to: "2.1"},
	{name: "GRE with a key", needs: []string{"gre"}, setup: tunnels("gre", "key 5") + throughTunnel, to: "2.1"},
	{name: "GRE with a key that the other end does not have", needs: []string{"gre"}, only: netstack.IPv4, again: true, setup: tunnels("gre", "key 5") + throughTunnel + `
		m ip link del t0
		m ip link add t0 type gre local 10.9.5.2 remote 10.9.5.1 key 6
		m ip link set t0 up
		m ip route add 10.9.1.0/24 dev t0`, to: "2.1", reason: verdict.InterfaceMissing},
	{name: "Ethernet in GRE, as a port of bridges", needs: []string{"gretap"}, setup: nodes + `
		addr a:eth0 1.1
		addr b:eth0 1.2
		n ip link add t0 type gretap local 10.9.5.1 remote 10.9.5.2
		m ip link add t0 type gretap local 10.9.5.2 remote 10.9.5.1
		n ip link set t0 up master br0
		m ip link set t0 up master br0
		a ip link set eth0 mtu 1400
		b ip link set eth0 mtu 1400`, to: "1.2"},
	{name: "in IPv6", needs: []string{"ip6tnl"}, only: netstack.IPv6, setup: joined + `
		n ip link add t0 type ip6tnl mode any local fd00:9:5::1 remote fd00:9:5::2
		m ip link add t0 type ip6tnl mode any local fd00:9:5::2 remote fd00:9:5::1
		n ip link set t0 up
		m ip link set t0 up` + throughTunnel, to: "2.1"},
	{name: "in IPv6, to anywhere, with no next hop for IPv4", needs: []string{"ip6tnl"}, only: netstack.IPv4, setup: joined + `
		n ip -6 addr add fd00:9:5::1/64 dev eth0 nodad
		n ip link add t0 type ip6tnl mode any local fd00:9:5::1
		n ip link set t0 up
		n ip route add 10.9.2.0/24 dev t0`, to: "2.1", reason: verdict.InvalidRoute},
	{name: "WireGuard", needs: []string{"wireguard"}, setup: joined + `
		n ip link add t0 type wireguard
		n ip link set t0 up` + `
		n {ip} route add {2/} dev t0`, to: "2.1", opaque: true, reason: verdict.EncryptionOpaque},
	{name: "a dummy discards", needs: []string{"dummy"}, setup: joined + `
		n ip link add d0 type dummy
		n ip link set d0 up
		n {ip} route add {2/} dev d0`, to: "2.1", reason: verdict.InvalidRoute},
	{name: "an address on a dummy", needs: []string{"dummy"}, protocols: connected, setup: joined + `
		n ip link add d0 type dummy
		n ip link set d0 up
		addr n:d0 8.1`, to: "8.1"},
}

// sliced has a and b on ipvlans of n's uplink, which leads to a bridge of m with
// c on it.
func sliced(mode string) string {
	return shared + `
		n ip link add link eth0 name ia netns {a} type ipvlan mode ` + mode + `
		n ip link add link eth0 name ib netns {b} type ipvlan mode ` + mode + `
		a ip link set dev ia name eth0 up
		b ip link set dev ib name eth0 up
		addr a:eth0 0.1
		addr b:eth0 0.2
		settle
	`
}

const slicedRoutes = `
	n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	c {ip} route add {1/} via {0.100}
	a {ip} addr flush dev eth0
	b {ip} addr flush dev eth0
	addr a:eth0 1.1
	addr b:eth0 1.2
	a {ip} route add default dev eth0
	b {ip} route add default dev eth0
`

var ipvlans = []scenario{
	{name: "ipvlans of mode l2", needs: []string{"ipvlan"}, setup: sliced("l2"), to: "0.2"},
	{name: "an ipvlan of mode l2 and the rest of the segment", needs: []string{"ipvlan"}, setup: sliced("l2"), to: "0.3"},
	{name: "the rest of the segment and an ipvlan of mode l2", needs: []string{"ipvlan"}, setup: sliced("l2"), from: "c", to: "0.2"},
	{name: "an ipvlan of mode l2 and the host of its device", needs: []string{"ipvlan"}, setup: sliced("l2"), to: "0.100", reason: verdict.BridgePortIsolated},
	{name: "private ipvlans of mode l2", needs: []string{"ipvlan"}, setup: sliced("l2 private"), to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "private ipvlans of mode l2 and the rest of the segment", needs: []string{"ipvlan"}, setup: sliced("l2 private"), to: "0.3"},
	{name: "ipvlans of mode l3", needs: []string{"ipvlan"}, setup: sliced("l3"), to: "0.2"},
	{name: "private ipvlans of mode l3", needs: []string{"ipvlan"}, setup: sliced("l3 private"), to: "0.2", reason: verdict.BridgePortIsolated},
	{name: "an ipvlan of mode l3 and the rest of the segment", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3") + slicedRoutes, to: "0.3"},
	{name: "an ipvlan of mode l3, and a rule of its device's host", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3") + slicedRoutes + `
		n iptables -A OUTPUT -p tcp --dport 80 -j DROP`, to: "0.3", protocols: []string{"tcp"}, reason: verdict.NetfilterDrop},
	{name: "to an ipvlan of mode l3s, and a rule of its device's host", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3s") + slicedRoutes + `
		n iptables -A INPUT -p tcp --dport 80 -j DROP`, from: "c", to: "1.1", protocols: []string{"tcp"}, reason: verdict.NetfilterDrop},
	{name: "an ipvlan of mode l3s and the rest of the segment", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3s") + slicedRoutes, to: "0.3"},
	{name: "to an ipvlan of mode l3s that is down, which its device's host routes", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3s") + slicedRoutes + `
		a ip link set eth0 down`, from: "c", to: "1.1", reason: verdict.NoRoute},
	{name: "to an ipvlan of mode l3 that is down, which its device's host routes", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3") + slicedRoutes + `
		a ip link set eth0 down`, from: "c", to: "1.1", reason: verdict.NoRoute},
	{name: "an ipvlan of mode l3s and the host of its device, which is down", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3s") + slicedRoutes + `
		n ip link set eth0 down`, to: "0.100", reason: verdict.InterfaceDown},
	{name: "an ipvlan of mode l3 takes what its device's host has no route to for a neighbour there", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3") + slicedRoutes + `
		addr c:eth0 3.1
		n ip route add blackhole {3/}`, to: "3.1", protocols: []string{"tcp", "icmp"}},
	{name: "an ipvlan of mode l3, and nobody has what its device's host has no route to", needs: []string{"ipvlan"}, only: netstack.IPv4, setup: sliced("l3") + slicedRoutes, to: "3.1", reason: verdict.NeighbourFailed},
}
