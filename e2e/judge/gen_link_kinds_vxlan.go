package judge

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// stageVXLAN joins two nodes by VXLAN devices: routed with an entry and a neighbour for each other node, as flannel does
// it, or as ports of bridges that share one subnet.
func stageVXLAN(j *joint) {
	subnets := j.underlay()
	ends := [2]string{pair(subnets[0], 1)[0].String(), pair(subnets[1], 2)[0].String()}
	outer := netstack.IPv4
	if j.chance(25) {
		outer = netstack.IPv6
		ends = [2]string{pair(subnets[0], 1)[1].String(), pair(subnets[1], 2)[1].String()}
	}
	how := one(j.builder, "routed", "routed", "bridged")
	port := one(j.builder, 4789, 8472)
	device := func(side, vni, port int, rest string) string {
		text := fmt.Sprintf("link add vx0 address %s type vxlan id %d dstport %d local %s dev eth0 %s", mac(6, side+1), vni, port, ends[side], rest)
		if how == "bridged" {
			return text + " remote " + ends[1-side]
		}
		return text + " nolearning"
	}
	rest := ""
	if subnets[0] != subnets[1] && j.flaw("ttl") {
		rest = "ttl 1" // and there is a router on the way
	}
	kind := "routed"
	if how == "bridged" {
		kind = "bridged"
	}
	if outer == netstack.IPv6 {
		kind += "-ipv6"
	}
	if rest == "" {
		j.made("n1", device(0, 7, port, rest), device(0, 77, port, rest), j.features("", kind)...)
	} else {
		j.made("n1", device(0, 7, port, rest), device(0, 7, port, ""), j.features("ttl")...)
	}
	right := device(1, 7, port, "")
	switch {
	case j.flaw("vni"):
		j.made("n2", device(1, 8, port, ""), right, j.features("vni")...)
	case j.flaw("port"):
		j.made("n2", device(1, 7, port+1, ""), right, j.features("port")...)
	case outer == netstack.IPv4 && j.flaw("df"):
		j.made("n2", device(1, 7, port, "df set"), right, j.features("df")...)
		j.ip("n2", "link set eth0 mtu 1400")
	default:
		j.made("n2", right, "")
	}
	if how == "routed" {
		j.routedVXLAN(ends)
	} else {
		j.bridgedVXLAN(outer)
	}
	if j.flaw("down") {
		j.rebuiltLate(one(j.builder, "n1", "n2"), "link set vx0 down", j.features("down")...)
	}
	if j.flaw("outer-rule") {
		chain, ns := one(j.builder, "INPUT", "OUTPUT"), one(j.builder, "n1", "n2")
		j.stop(ns, outer, chain, fmt.Sprintf("-p udp -m udp --dport %d", port), j.features("outer-rule")...)
	}
	if j.flaw("inner-rule") {
		j.stop(one(j.builder, "n1", "n2"), one(j.builder, families[:]...), "FORWARD", one(j.builder, "-i", "-o")+" vx0", j.features("inner-rule")...)
	}
}

func (j *joint) routedVXLAN(ends [2]string) {
	j.behind("n1", "p1", 1, 1)
	j.behind("n2", "p2", 2, 1)
	for side, n := range [2]string{"n1", "n2"} {
		j.ip(n, "link set vx0 up")
		j.address(n, "vx0", 6, side+1)
		j.to(n, 2-side, pair(6, 2-side), "dev vx0 onlink")
		peer := mac(6, 2-side)
		for i, f := range families {
			if !j.flaw("neigh-missing") {
				j.rebuiltLate(n, fmt.Sprintf("-%d neigh add %s lladdr %s dev vx0 nud permanent", f, pair(6, 2-side)[i], peer), j.features("neigh")...)
			}
		}
		switch {
		case j.flaw("fdb-missing"):
		case !j.open && j.flaw("fdb-wrong"):
			j.add(Element{
				Namespace: n, Tool: ToolBridge, Text: fmt.Sprintf("fdb replace %s dev vx0 dst %s", peer, wrongEnd(ends[1-side])),
				Otherwise: fmt.Sprintf("fdb replace %s dev vx0 dst %s", peer, ends[1-side]), Features: j.features("fdb-wrong"), Rebuild: true,
			})
		default:
			j.bridged(n, fmt.Sprintf("fdb replace %s dev vx0 dst %s", peer, ends[1-side]), j.features("fdb")...)
		}
	}
}

// wrongEnd is an address of the same subnet that nobody has.
func wrongEnd(addr string) string { return addr + "9" }

func (j *joint) bridgedVXLAN(outer netstack.Family) {
	overhead, tooBig := 50, -1
	if j.flaw("inner-mtu") {
		tooBig = j.IntN(2)
	}
	if outer == netstack.IPv6 {
		overhead = 70
	}
	for side, n := range [2]string{"n1", "n2"} {
		j.switched(n, "br0", "vx0")
		j.ip(n, "link set vx0 up")
		j.address(n, "br0", 1, 254-side)
		pod := fmt.Sprintf("p%d", side+1)
		j.onBridge(n, pod, 1, side+1)
		if side == tooBig { // and the other's announced MSS alone keeps packets as small as the tunnel needs
			continue
		}
		j.rebuilt(pod, fmt.Sprintf("link set eth0 mtu %d", 1500-overhead), j.features("inner-mtu")...)
	}
	if j.flaw("default-missing") {
		j.world.Apart = true // what has been heard decides
		j.bridged("n1", "fdb del 00:00:00:00:00:00 dev vx0", j.features("default-missing")...)
	}
}
