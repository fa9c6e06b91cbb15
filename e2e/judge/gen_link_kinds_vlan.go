package judge

import "fmt"

// vlanDevice is a line that makes a VLAN device.
func vlanDevice(lower, name, protocol string, id int) string {
	return fmt.Sprintf("link add link %s name %s type vlan protocol %s id %d", lower, name, protocol, id)
}

// stageVLAN joins two pods, and the node between them, by VLAN devices: on one wire, on a bridge that knows nothing of
// VLANs, or by a bridge of VLAN devices.
func stageVLAN(j *joint) {
	how := one(j.builder, "wire", "bridge", "between")
	switch how {
	case "wire":
		j.pod("p1")
		j.pod("p2")
		j.wire("p1", "eth0", "p2", "eth0")
	default:
		j.node("n1")
		for i, p := range []string{"p1", "p2"} {
			j.pod(p)
			j.wire("n1", fmt.Sprintf("port%d", i+1), p, "eth0")
		}
	}
	id, protocol := one(j.builder, 5, 20, 4094), one(j.builder, "802.1q", "802.1q", "802.1q", "802.1ad")
	stacked := how == "wire" && j.chance(40)
	for i, p := range []string{"p1", "p2"} {
		mine, kind, features := id, protocol, []string(nil)
		switch {
		case i == 0:
			features = j.features("", how)
			if stacked {
				features = append(features, j.features("stacked")...)
			}
			if protocol != "802.1q" {
				features = append(features, j.features("802.1ad")...)
			}
			j.made(p, vlanDevice("eth0", "vl0", kind, mine), vlanDevice("eth0", "vl0", kind, 77), features...)
		case j.flaw("id"):
			j.made(p, vlanDevice("eth0", "vl0", kind, 7), vlanDevice("eth0", "vl0", kind, mine), j.features("id")...)
		case j.flaw("protocol"):
			j.made(p, vlanDevice("eth0", "vl0", map[string]string{"802.1q": "802.1ad", "802.1ad": "802.1q"}[kind], mine), vlanDevice("eth0", "vl0", kind, mine), j.features("protocol")...)
		default:
			j.made(p, vlanDevice("eth0", "vl0", kind, mine), "")
		}
		j.ip(p, "link set vl0 up")
		dev := "vl0"
		if stacked {
			inner := 6
			if i == 1 && j.flaw("inner-id") {
				j.made(p, vlanDevice("vl0", "vl1", "802.1q", 7), vlanDevice("vl0", "vl1", "802.1q", 6), j.features("inner-id")...)
			} else {
				j.made(p, vlanDevice("vl0", "vl1", "802.1q", inner), "")
			}
			j.ip(p, "link set vl1 up")
			dev = "vl1"
		}
		j.address(p, dev, 1, i+1)
		if j.chance(40) {
			j.address(p, "eth0", 2, i+1) // beside it, without a tag
		}
		if j.flaw("down") {
			j.rebuiltLate(p, "link set "+dev+" down", j.features("down")...)
		}
		if j.flaw("mtu") {
			j.rebuilt(p, "link set "+dev+" mtu 1300", j.features("mtu")...)
		}
	}
	switch how {
	case "bridge":
		j.switched("n1", "br0", "port1", "port2")
		if j.chance(60) {
			j.made("n1", vlanDevice("br0", "vl0", protocol, id), vlanDevice("br0", "vl0", protocol, 77), j.features("on-bridge")...)
			j.ip("n1", "link set vl0 up")
			j.address("n1", "vl0", 1, 254)
		}
		if j.flaw("br_netfilter") {
			j.sysctl("n1", "net.bridge.bridge-nf-filter-vlan-tagged", "1", "0", j.features("bridge-nf-filter-vlan-tagged")...)
			for _, f := range families {
				j.stop("n1", f, "FORWARD", "-p tcp", j.features("br_netfilter")...)
			}
		}
	case "between":
		for _, port := range []string{"port1", "port2"} {
			j.made("n1", vlanDevice(port, port+"v", protocol, id), "")
			j.ip("n1", "link set %sv up", port)
		}
		j.switched("n1", "br0", "port1v", "port2v")
		j.address("n1", "br0", 1, 254)
	}
}

// stageFiltering puts pods on a bridge that filters VLANs, with memberships of each port drawn.
func stageFiltering(j *joint) {
	j.node("n1")
	j.made("n1", "link add br0 type bridge vlan_filtering 1", "link add br0 type bridge", j.features("")...)
	j.ip("n1", "link set br0 up")
	j.address("n1", "br0", 1, 254)
	if j.chance(60) {
		j.link("n1", "link add link br0 name br20 type vlan id 20")
		j.ip("n1", "link set br20 up")
		j.address("n1", "br20", 20, 254)
		if j.chance(70) {
			j.bridged("n1", "vlan add vid 20 dev br0 self", j.features("self")...)
		}
	}
	if j.flaw("self-removed") {
		j.bridged("n1", "vlan del vid 1 dev br0 self", j.features("self-removed")...)
	}
	for i := 1; i <= 3; i++ {
		pod, port := fmt.Sprintf("p%d", i), fmt.Sprintf("port%d", i)
		j.pod(pod)
		j.wire("n1", port, pod, "eth0")
		j.ip("n1", "link set %s master br0", port)
		j.address(pod, "eth0", 1, i)
		if j.chance(70) {
			j.link(pod, "link add link eth0 name vl20 type vlan id 20")
			j.ip(pod, "link set vl20 up")
			j.address(pod, "vl20", 20, i)
		}
		switch one(j.builder, "", "", "access", "access", "no-pvid", "tagged", "moved", "gone", "native") {
		case "access": // and a trunk for VLAN 20
			j.bridged("n1", fmt.Sprintf("vlan add vid %s dev %s", one(j.builder, "20", "10-30", "15-25"), port), j.features("trunk")...)
		case "no-pvid":
			j.bridged("n1", fmt.Sprintf("vlan add vid 1 dev %s untagged", port), j.features("no-pvid")...)
		case "tagged":
			j.bridged("n1", fmt.Sprintf("vlan add vid 1 dev %s pvid", port), j.features("tagged-pvid")...)
		case "moved":
			if j.chance(50) {
				j.bridged("n1", "vlan del vid 1 dev "+port, j.features("removed")...)
			}
			j.bridged("n1", fmt.Sprintf("vlan add vid %d dev %s pvid untagged", one(j.builder, 9, 20), port), j.features("pvid")...)
		case "gone":
			j.bridged("n1", "vlan del vid 1 dev "+port, j.features("removed")...)
		case "native":
			j.bridged("n1", fmt.Sprintf("vlan add vid 20 dev %s untagged", port), j.features("untagged")...)
		}
	}
}

// stageBond joins a pod with two wires to a bridge, or to another bond.
func stageBond(j *joint) {
	mode := one(j.builder, "active-backup", "active-backup", "balance-xor", "balance-rr", "broadcast", "balance-tlb", "balance-alb")
	single := mode == "active-backup" || mode == "balance-tlb" || mode == "balance-alb"
	j.node("n1")
	j.pod("p1")
	j.pod("p2")
	bond := func(ns, options string, features ...string) {
		text := "link add bond0 type bond miimon 50 mode " + mode
		j.made(ns, text+options, text, features...)
		for _, s := range []string{"s0", "s1"} {
			j.link(ns, "link set %s master bond0", s) // while it is down; bond_enslave sets it up
		}
		j.ip(ns, "link set bond0 up")
	}
	for i := range 2 {
		j.link("n1", "link add s%d type veth peer name s%d netns @p1", i, i)
		j.ip("n1", "link set s%d up", i)
	}
	j.wire("n1", "to2", "p2", "eth0")
	if single {
		if mode == "active-backup" && j.chance(60) {
			bond("p1", " primary s1", j.features("primary")...)
		} else {
			bond("p1", "")
		}
		j.switched("n1", "br0", "to2")
		for i := range 2 {
			// By which port the other modes send, the load decides: nobody can know.
			if mode != "active-backup" || !j.flaw("port-missing") {
				j.rebuilt("n1", fmt.Sprintf("link set s%d master br0", i), j.features("", mode)...)
			}
		}
	} else {
		bond("p1", "")
		bond("n1", "")
		j.switched("n1", "br0", "to2")
		j.rebuilt("n1", "link set bond0 master br0", j.features("", mode)...)
	}
	j.address("n1", "br0", 1, 254)
	j.address("p1", "bond0", 1, 1)
	j.address("p2", "eth0", 1, 2)
	switch {
	case j.flaw("slave-down"):
		j.rebuiltLate("n1", fmt.Sprintf("link set s%d down", j.IntN(2)), j.features("slave-down")...)
	case j.flaw("all-down"):
		j.rebuiltLate("n1", "link set s0 down", j.features("all-down")...)
		j.rebuiltLate("n1", "link set s1 down", j.features("all-down")...)
	case j.flaw("own-slave-down"):
		j.rebuiltLate("p1", fmt.Sprintf("link set s%d down", j.IntN(2)), j.features("own-slave-down")...)
	case j.flaw("down"):
		j.rebuiltLate("p1", "link set bond0 down", j.features("down")...)
	}
}
