package judge

import (
	"fmt"
	"net/netip"
)

// stageTunnel joins two nodes by a tunnel of IP in IP, or of Ethernet in GRE.
func stageTunnel(j *joint, kind string) {
	subnets := j.underlay()
	at := 0
	if kind == "ip6tnl" {
		at = 1
	}
	ends := [2]string{pair(subnets[0], 1)[at].String(), pair(subnets[1], 2)[at].String()}
	device := func(side int, remote, rest string) string {
		return fmt.Sprintf("link add t0 type %s local %s remote %s %s", kind, ends[side], remote, rest)
	}
	shared, bare := "", "" // of both sides, and of both without what is under test
	features := j.features("")
	switch kind {
	case "gre", "gretap":
		if j.chance(40) {
			shared = "key 5"
		}
		if j.chance(20) {
			shared += " csum"
		}
		if j.chance(20) {
			shared += " seq"
		}
	case "ip6tnl":
		mode := one(j.builder, "any", "any", "ip6ip6", "ipip6")
		bare = "mode " + mode
		if j.chance(50) {
			bare += " encaplimit none"
		}
		features = append(features, j.features("mode-"+mode)...)
	}
	shared += " " + bare
	first := shared
	switch {
	case kind == "ip6tnl" && subnets[0] != subnets[1] && j.flaw("ttl"):
		// Others tell of it with the next packet only (ip_tunnel_xmit).
		j.made("n1", device(0, ends[1], shared+" hoplimit 1"), device(0, ends[1], shared), j.features("ttl")...)
	case kind != "ip6tnl" && j.flaw("nopmtudisc"):
		first += " nopmtudisc ttl inherit"
		j.made("n1", device(0, ends[1], first), device(0, ends[1], shared), j.features("nopmtudisc")...)
	default:
		j.made("n1", device(0, ends[1], shared), device(0, wrongEnd(ends[1]), shared), features...)
	}
	right := device(1, ends[0], shared)
	switch {
	case !j.open && j.flaw("remote"):
		j.made("n2", device(1, wrongEnd(ends[0]), shared), right, j.features("remote")...)
	case at == 0 && kind != "ipip" && kind != "sit" && j.flaw("key"):
		j.made("n2", device(1, ends[0], "key 6"), device(1, ends[0], shared), j.features("key")...)
	case j.flaw("any-remote"):
		anyone := "any"
		if at == 1 {
			anyone = "::"
		}
		j.made("n2", device(1, anyone, shared), right, j.features("any-remote")...)
	default:
		j.made("n2", right, "")
	}
	if kind == "gretap" {
		j.bridgedTunnel()
	} else {
		j.routedTunnel()
	}
	if j.flaw("down") {
		j.rebuiltLate(one(j.builder, "n1", "n2"), "link set t0 down", j.features("down")...)
	}
	if j.flaw("outer-rule") {
		number := map[string]string{"ipip": "4", "sit": "41", "gre": "47", "gretap": "47", "ip6tnl": one(j.builder, "4", "41")}[kind]
		j.stop(one(j.builder, "n1", "n2"), families[at], one(j.builder, "INPUT", "OUTPUT"), "-p "+number, j.features("outer-rule")...)
	}
	if j.flaw("inner-rule") {
		j.stop(one(j.builder, "n1", "n2"), one(j.builder, families[:]...), "FORWARD", one(j.builder, "-i", "-o")+" t0", j.features("inner-rule")...)
	}
}

func (j *joint) routedTunnel() {
	j.behind("n1", "p1", 1, 1)
	j.behind("n2", "p2", 2, 1)
	for side, n := range [2]string{"n1", "n2"} {
		j.ip(n, "link set t0 up")
		if j.chance(50) {
			j.address(n, "t0", 6, side+1)
		}
		j.to(n, 2-side, [2]netip.Addr{}, "dev t0")
		if j.flaw("rp_filter") {
			j.sysctl(n, "net.ipv4.conf.t0.rp_filter", "1", "0", j.features("rp_filter")...)
		}
	}
}

func (j *joint) bridgedTunnel() {
	tooBig := -1
	if j.flaw("inner-mtu") {
		tooBig = j.IntN(2)
	}
	for side, n := range [2]string{"n1", "n2"} {
		j.switched(n, "br0", "t0")
		j.ip(n, "link set t0 up")
		j.address(n, "br0", 1, 254-side)
		pod := fmt.Sprintf("p%d", side+1)
		j.onBridge(n, pod, 1, side+1)
		if side != tooBig {
			j.rebuilt(pod, "link set eth0 mtu 1400", j.features("inner-mtu")...)
		}
	}
}
