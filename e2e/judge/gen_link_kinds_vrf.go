package judge

import (
	"fmt"
	"net/netip"
)

// stageVRF has a node route between pods of which some belong to a VRF, with routes that lead out of it.
func stageVRF(j *joint) {
	j.node("n1")
	vrfs := []string{"red"}
	if j.chance(40) {
		vrfs = append(vrfs, "blue")
	}
	for i, vrf := range vrfs {
		j.link("n1", "link add %s type vrf table %d", vrf, 10+i)
		j.ip("n1", "link set %s up", vrf)
		if j.chance(50) {
			j.ip("n1", "route add unreachable default metric 4278198272 table %d", 10+i)
			j.ip("n1", "-6 route add unreachable default metric 4278198272 table %d", 10+i)
		}
	}
	member := map[int]string{}
	for host := 1; host <= 3; host++ {
		pod := fmt.Sprintf("p%d", host)
		j.pod(pod)
		dev := "to" + pod
		j.wire("n1", dev, pod, "eth0")
		switch {
		case host == 1, host == 2 && j.chance(70):
			member[host] = "red"
		case j.chance(40):
			member[host] = vrfs[len(vrfs)-1]
		}
		if vrf := member[host]; vrf != "" {
			j.add(Element{
				Namespace: "n1", Tool: ToolIP, Text: fmt.Sprintf("link set %s master %s", dev, vrf), Features: j.features("", "member"), Rebuild: true,
			})
		}
		j.address("n1", dev, host, 254)
		j.address(pod, "eth0", host, host)
		j.to(pod, 0, pair(host, 254), "dev eth0")
	}
	for host := 1; host <= 3; host++ {
		for other := 1; other <= 3; other++ {
			if member[host] == member[other] || !j.chance(50) {
				continue
			}
			// From the tables of the one to the other.
			rest := fmt.Sprintf("dev top%d", other)
			if vrf := member[host]; vrf != "" {
				rest += fmt.Sprintf(" table %d", map[string]int{"red": 10, "blue": 11}[vrf])
			}
			if j.once(fmt.Sprintf("leak %s %d", member[host], other)) {
				// Half of the subnet: the whole is there already, where the device is in no VRF.
				for i, f := range families {
					half := netip.PrefixFrom(pair(other, 0)[i], []int{25, 65}[i])
					j.route("n1", f, "route", half.String()+" "+rest, j.features("leak")...)
				}
			}
		}
	}
	for _, name := range []string{"tcp_l3mdev_accept", "udp_l3mdev_accept"} {
		if j.chance(30) {
			j.sysctl("n1", "net.ipv4."+name, "1", "0", j.features(name)...)
		}
	}
	if j.flaw("down") {
		j.rebuiltLate("n1", "link set red down", j.features("down")...)
	}
}
