package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Older kernels want a name for a macvlan that is free where its lower device is: it is renamed afterwards.

// uplinked makes the node n1 with an uplink to a bridge of sw, on which the host c is too: the segment of macvlans and
// ipvlans on that uplink.
func (j *joint) uplinked() {
	j.world.Apart = true // who has been heard of decides
	j.node("n1")
	j.namespace(Namespace{Name: "sw", Kind: netstack.KindOther})
	j.pod("c")
	j.wire("n1", "eth0", "sw", "pn")
	j.wire("c", "eth0", "sw", "pc")
	j.link("c", "link set eth0 address %s", mac(0, 3))
	j.switched("sw", "br0", "pn", "pc")
	j.address("n1", "eth0", 0, 100)
	j.address("c", "eth0", 0, 3)
	if j.flaw("hairpin") {
		j.rebuiltLate("sw", "link set pn type bridge_slave hairpin on", j.features("hairpin")...)
	}
	if j.flaw("lower-down") {
		j.rebuiltLate("n1", "link set eth0 down", j.features("lower-down")...)
	}
}

// stageMACVLAN puts pods on macvlans of a node's uplink, each of a mode of its own.
func stageMACVLAN(j *joint) {
	j.uplinked()
	upper := func(pod, mode string) string {
		return fmt.Sprintf("link add link eth0 name new%s address %s netns @%s type macvlan mode %s", pod, mac(0, int(pod[1]-'0')), pod, mode)
	}
	if j.flaw("passthru") {
		j.pod("p1")
		j.made("n1", upper("p1", "passthru"), upper("p1", "source"), j.features("", "passthru")...)
		j.link("p1", "link set newp1 name eth0")
		j.ip("p1", "link set eth0 up")
		j.address("p1", "eth0", 0, 1)
		return
	}
	all := one(j.builder, "bridge", "private", "vepa", "")
	for i := 1; i <= 2+j.IntN(2); i++ {
		pod := fmt.Sprintf("p%d", i)
		if i > 2 {
			pod = "p4" // host 3 is c
		}
		j.pod(pod)
		mode := all
		if mode == "" || j.flaw("source") {
			mode = one(j.builder, "bridge", "private", "vepa", "source", "source")
		}
		other := "bridge"
		switch mode {
		case "bridge":
			other = "private"
		case "source": // its list shows what it does
			other = mode
		}
		j.made("n1", upper(pod, mode), upper(pod, other), j.features("", mode)...)
		j.link(pod, "link set new%s name eth0", pod)
		if mode == "source" {
			for _, host := range []int{1, 2, 3, 4} {
				if j.chance(60) {
					j.add(Element{
						Namespace: pod, Tool: ToolLink, Text: "link set eth0 type macvlan macaddr add " + mac(0, host), Features: j.features("", mode), Rebuild: true,
					})
				}
			}
		}
		j.ip(pod, "link set eth0 up")
		j.address(pod, "eth0", 0, int(pod[1]-'0'))
		if j.flaw("down") {
			j.rebuiltLate(pod, "link set eth0 down", j.features("down")...)
		}
	}
}

// stageIPVLAN puts pods on ipvlans of a node's uplink: mode and flag belong to the uplink, so that the last one says.
func stageIPVLAN(j *joint) {
	j.uplinked()
	mode, flag := one(j.builder, "l2", "l2", "l3", "l3s"), one(j.builder, "bridge", "bridge", "private", "vepa")
	upper := func(pod, mode, flag string) string {
		return fmt.Sprintf("link add link eth0 name new%s netns @%s type ipvlan mode %s %s", pod, pod, mode, flag)
	}
	subnet := 0
	if mode != "l2" {
		subnet = 1
		j.to("c", 1, pair(0, 100), "dev eth0", j.features("route-back")...)
	}
	for i, pod := range []string{"p1", "p2"} {
		j.pod(pod)
		var features []string
		otherMode, otherFlag := mode, flag
		if i == 1 {
			if flag == "bridge" {
				features, otherFlag = j.features("", mode), "private"
			} else {
				features, otherFlag = j.features("", mode, mode+"-"+flag), "bridge"
			}
		}
		j.made("n1", upper(pod, mode, flag), upper(pod, otherMode, otherFlag), features...)
		j.link(pod, "link set new%s name eth0", pod)
		j.ip(pod, "link set eth0 up")
		j.address(pod, "eth0", subnet, i+1)
		if subnet != 0 {
			j.to(pod, 0, [2]netip.Addr{}, "dev eth0")
		}
		if j.flaw("down") {
			j.rebuiltLate(pod, "link set eth0 down", j.features("down")...)
		}
	}
	if mode != "l2" && j.flaw("lower-rule") {
		j.stop("n1", one(j.builder, families[:]...), one(j.builder, "INPUT", "OUTPUT", "FORWARD"), one(j.builder, "-p tcp", "-p udp"), j.features("lower-rule")...)
	}
}
