package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// pair has a and b with a wire.
const pair = `
	wire a:eth0 b:eth0
	addr a:eth0 1.1
	addr b:eth0 1.2
`

// clsact has filters at both hooks of the server's device.
const clsact = pair + `
	b tc qdisc add dev eth0 clsact
`

// patched has a node that joins two wires by nothing but filters.
const patched = `
	wire a:eth0 n:pa
	wire b:eth0 n:pb
	addr a:eth0 1.1
	addr b:eth0 1.2
	n tc qdisc add dev pa clsact
	n tc qdisc add dev pb clsact
	n tc filter add dev pa ingress matchall action mirred egress redirect dev pb
	n tc filter add dev pb ingress matchall action mirred egress redirect dev pa
`

// filters are what traffic control does to packets.
var filters = []scenario{
	{name: "all that comes in is dropped", needs: []string{"matchall"}, protocols: []string{"tcp", "icmp"}, setup: clsact + `
		b tc filter add dev eth0 ingress matchall action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "all packets of a family that come in are dropped", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action drop`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "the other family passes", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action drop`, to: "1.2", only: netstack.IPv6},
	{name: "answers that go out are dropped", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 egress protocol ip matchall action drop`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "what the host itself sends is dropped", needs: []string{"matchall"}, setup: pair + `
		a tc qdisc add dev eth0 clsact
		a tc filter add dev eth0 egress protocol ip matchall action drop`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "a chain of its device drops what the host sends", only: netstack.IPv4, setup: pair + `
		a nft add table netdev t
		a nft add chain netdev t c { type filter hook egress device eth0 priority 0 ; policy accept ; }
		a nft add rule netdev t c ip daddr 10.9.1.2 drop`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "an earlier priority lets pass", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 2 protocol all matchall action drop
		b tc filter add dev eth0 ingress pref 1 protocol all matchall action ok`, to: "1.2"},
	{name: "an earlier priority continues", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 2 protocol ip matchall action drop
		b tc filter add dev eth0 ingress pref 1 protocol all matchall action continue`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "an earlier priority pipes, which is the end", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 2 protocol ip matchall action drop
		b tc filter add dev eth0 ingress pref 1 protocol all matchall action skbedit mark 1 pipe`, to: "1.2"},
	{name: "a chain drops", needs: []string{"flower"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 1 chain 7 protocol ip flower ip_proto tcp action drop
		b tc filter add dev eth0 ingress pref 1 chain 7 protocol ip flower ip_proto udp action drop
		b tc filter add dev eth0 ingress pref 1 chain 7 protocol ip flower ip_proto icmp action drop
		b tc filter add dev eth0 ingress pref 1 protocol ip flower action goto chain 7`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "a chain that nothing leads to", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress chain 7 protocol all matchall action drop`, to: "1.2"},
	{name: "a filter that reclassifies for ever", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action reclassify`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "a jump over an action that drops", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action jump 2 action drop action ok`, to: "1.2", only: netstack.IPv4},
	{name: "a jump to an action that drops", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action jump 1 action drop action ok`, to: "1.2", only: netstack.IPv4, reason: verdict.TCDrop},
	{name: "u32 drops a port", needs: []string{"u32"}, only: netstack.IPv4, protocols: []string{"tcp", "udp"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip u32 match ip dport 80 0xffff action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 drops another port", needs: []string{"u32"}, only: netstack.IPv4, protocols: []string{"tcp", "udp"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip u32 match ip dport 81 0xffff action drop`, to: "1.2"},
	{name: "u32 meets a checksum where ports would be", needs: []string{"u32"}, only: netstack.IPv4, protocols: []string{"icmp"}, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip u32 match ip dport 81 0xffff action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 drops a source and a destination", needs: []string{"u32"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip u32 match ip src 10.9.1.0/24 match ip dst 10.9.1.2/32 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 goes on to its next filter", needs: []string{"u32"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 match ip src 10.9.1.0/24 action continue
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 match ip dst 10.9.1.0/24 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 drops an IPv6 destination", needs: []string{"u32"}, only: netstack.IPv6, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ipv6 u32 match ip6 dst fd00:9:1::2/128 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 looks at the mark", needs: []string{"u32"}, only: netstack.IPv4, setup: pair + `
		a iptables -t mangle -A OUTPUT -j MARK --set-mark 0x15
		a tc qdisc add dev eth0 clsact
		a tc filter add dev eth0 egress protocol ip u32 match mark 5 0xf action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "u32 reads behind the packet's end", needs: []string{"u32"}, only: netstack.IPv4, protocols: []string{"icmp"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 match u32 0 0 at 2000 action drop
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 match u32 0 0 action drop`, to: "1.2"},
	{name: "u32 with a hash table is not followed", needs: []string{"u32"}, only: netstack.IPv4, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress pref 5 handle 2: protocol ip u32 divisor 4
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 ht 2:1 match u32 0 0 action drop
		b tc filter add dev eth0 ingress pref 5 protocol ip u32 ht 800: match ip src 10.9.1.0/24 link 2: hashkey mask 3 at 12`, to: "1.2", reason: verdict.TCDrop},
	{name: "fw drops a mark", needs: []string{"matchall"}, only: netstack.IPv4, setup: pair + `
		a iptables -t mangle -A OUTPUT -j MARK --set-mark 6
		a tc qdisc add dev eth0 clsact
		a tc filter add dev eth0 egress protocol ip handle 6 fw action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "fw knows no such mark", needs: []string{"matchall"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip handle 6 fw action drop`, to: "1.2"},
	{name: "basic without a test", needs: []string{"matchall"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip basic action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "basic with a test is not understood", needs: []string{"matchall"}, only: netstack.IPv4, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip basic match meta(priority eq 9) action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops a port", needs: []string{"flower"}, protocols: []string{"tcp"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip flower ip_proto tcp dst_port 80 src_ip 10.9.1.0/24 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops a port of another protocol", needs: []string{"flower"}, protocols: []string{"tcp", "icmp"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip flower ip_proto udp dst_port 80 action drop`, to: "1.2"},
	{name: "flower drops a range of ports", needs: []string{"flower"}, protocols: []string{"udp"}, setup: clsact + `
		b tc filter add dev eth0 ingress pref 1 protocol ip flower ip_proto udp dst_port 70-80 action drop
		b tc filter add dev eth0 ingress pref 2 protocol ipv6 flower ip_proto udp dst_port 70-80 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops the answer to a SYN", needs: []string{"flower"}, protocols: []string{"tcp"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 egress protocol ip flower ip_proto tcp tcp_flags 0x12/0x12 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops a SYN and no more, too late", needs: []string{"flower"}, protocols: []string{"tcp"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 egress protocol ip flower ip_proto tcp tcp_flags 0x02/0x12 action drop`, to: "1.2"},
	{name: "flower drops echo requests", needs: []string{"flower"}, protocols: []string{"icmp"}, only: netstack.IPv4, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip flower ip_proto icmp type 8 code 0 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops what is for the server's link-layer address", needs: []string{"flower"}, only: netstack.IPv4, setup: clsact + `
		mac MACB b:eth0
		b tc filter add dev eth0 ingress protocol ip flower dst_mac MACB action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops a class of service", needs: []string{"flower"}, only: netstack.IPv4, setup: clsact + `
		a iptables -t mangle -A OUTPUT -j TOS --set-tos 0x10
		b tc filter add dev eth0 ingress protocol ip flower ip_tos 0x10/0xfc ip_ttl 64 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "flower drops tracked connections", needs: []string{"flower"}, only: netstack.IPv4, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip flower ct_state +trk action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "a mark that a filter sets is seen by rules", needs: []string{"matchall"}, setup: clsact + `
		b tc filter add dev eth0 ingress protocol all matchall action skbedit mark 0x35/0xf0
		b {iptables} -A INPUT -m mark --mark 0x30 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "a filter of a classful qdisc drops", needs: []string{"u32"}, only: netstack.IPv4, setup: pair + `
		b tc qdisc add dev eth0 root handle 1: htb default 10
		b tc class add dev eth0 parent 1: classid 1:10 htb rate 1gbit
		b tc filter add dev eth0 parent 1: protocol ip u32 match ip src 10.9.1.0/24 flowid 1:10 action drop`, to: "1.2", reason: verdict.TCDrop},
	{name: "a filter of a classful qdisc classifies", needs: []string{"u32"}, only: netstack.IPv4, setup: pair + `
		b tc qdisc add dev eth0 root handle 1: prio
		b tc filter add dev eth0 parent 1: protocol ip u32 match ip src 10.9.1.0/24 flowid 1:9`, to: "1.2"},
	{name: "a redirect to an ifb comes back", needs: []string{"mirred"}, setup: clsact + `
		b ip link add ifb0 type ifb
		b ip link set ifb0 up
		b tc filter add dev eth0 ingress matchall action mirred egress redirect dev ifb0`, to: "1.2"},
	{name: "a redirect to an ifb that is down", needs: []string{"mirred"}, only: netstack.IPv4, setup: clsact + `
		b ip link add ifb0 type ifb
		b tc filter add dev eth0 ingress protocol ip matchall action mirred egress redirect dev ifb0`, to: "1.2", reason: verdict.InterfaceDown},
	{name: "filters of an ifb drop", needs: []string{"mirred"}, only: netstack.IPv4, setup: clsact + `
		b ip link add ifb0 type ifb
		b ip link set ifb0 up
		b tc qdisc add dev ifb0 clsact
		b tc filter add dev ifb0 egress protocol ip matchall action drop
		b tc filter add dev eth0 ingress matchall action mirred egress redirect dev ifb0`, to: "1.2", reason: verdict.TCDrop},
	{name: "a node joins two wires by redirects", needs: []string{"mirred"}, setup: patched, to: "1.2"},
	{name: "chains of the device do not see what a filter sends", needs: []string{"mirred"}, only: netstack.IPv4, setup: patched + `
		n nft add table netdev t
		n nft add chain netdev t c { type filter hook egress device pb priority 0 ; policy drop ; }`, to: "1.2"},
	{name: "a redirect into another device", needs: []string{"mirred"}, setup: clsact + `
		wire b:eth1 b:eth2
		b {iptables} -A INPUT -i eth0 -p tcp -j DROP
		b {iptables} -A INPUT -i eth0 -p udp -j DROP
		b tc filter add dev eth0 ingress pref 1 protocol ip flower action mirred ingress redirect dev eth1
		b tc filter add dev eth0 ingress pref 2 protocol ipv6 flower ip_proto tcp action mirred ingress redirect dev eth1
		b tc filter add dev eth0 ingress pref 3 protocol ipv6 flower ip_proto udp action mirred ingress redirect dev eth1`, to: "1.2", protocols: []string{"tcp", "udp"}},
	{name: "what comes in for another station is made this host's", needs: []string{"mirred"}, only: netstack.IPv4, setup: clsact + `
		a ip neigh replace 10.9.1.2 lladdr 02:00:00:00:00:77 nud permanent dev eth0
		b ip link set eth0 promisc on
		b tc filter add dev eth0 ingress protocol ip matchall action skbedit ptype host`, to: "1.2"},
	{name: "what comes in for another station is not taken in", needs: []string{"mirred"}, only: netstack.IPv4, setup: clsact + `
		a ip neigh replace 10.9.1.2 lladdr 02:00:00:00:00:77 nud permanent dev eth0
		b ip link set eth0 promisc on
		b tc filter add dev eth0 ingress protocol ip matchall action ok`, to: "1.2", reason: verdict.NeighbourStale},
	{name: "a copy goes elsewhere", needs: []string{"mirred"}, setup: clsact + `
		b ip link add ifb0 type ifb
		b ip link set ifb0 up
		b tc filter add dev eth0 ingress matchall action mirred egress mirror dev ifb0 pipe action ok`, to: "1.2"},
	{name: "a redirect to oneself", needs: []string{"mirred"}, only: netstack.IPv4, protocols: []string{"tcp"}, setup: pair + `
		b tc qdisc add dev eth0 clsact
		b tc filter add dev eth0 egress protocol ip matchall action mirred egress redirect dev eth0`, to: "1.2", reason: verdict.TCDrop},
	{name: "a change of the packet is not followed", needs: []string{"matchall"}, only: netstack.IPv4, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action pedit ex munge ip dst set 10.9.2.9 pipe action csum ip`, to: "1.2", reason: verdict.EBPFOpaque},
	{name: "a rate may be exceeded", needs: []string{"matchall"}, only: netstack.IPv4, opaque: true, setup: clsact + `
		b tc filter add dev eth0 ingress protocol ip matchall action police rate 1mbit burst 10k conform-exceed drop/pipe`, to: "1.2", reason: verdict.TCDrop},
}
