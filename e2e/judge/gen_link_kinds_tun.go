package judge

import (
	"fmt"
)

// stageTun has a tun or tap device of a node, from which a program takes packets out of the collected world.
func stageTun(j *joint) {
	j.node("n1")
	kind := one(j.builder, "tun", "tap")
	dev := kind + "0"
	j.link("n1", "tuntap add dev %s mode %s", dev, kind)
	j.add(Element{Namespace: "n1", Tool: ToolTun, Text: dev})
	j.ip("n1", "link set %s up", dev)
	j.address("n1", dev, 6, 1)
	j.behind("n1", "p1", 1, 1)
	j.behind("n1", "p2", 2, 1)
	beyond := pair(6, 2)
	if kind == "tap" { // no program answers for the neighbour
		for i, f := range families {
			j.add(Element{Namespace: "n1", Tool: ToolLate, Text: fmt.Sprintf("-%d neigh add %s lladdr %s dev %s nud permanent", f, beyond[i], mac(6, 2), dev)})
		}
	}
	j.ends = append(j.ends, end{ns: outside, addrs: beyond})
	if j.chance(70) {
		j.to("n1", 8, beyond, "dev "+dev, j.features("", kind)...)
		for range 2 {
			j.ends = append(j.ends, end{ns: outside, addrs: pair(8, 5)})
		}
	}
	if j.flaw("down") {
		j.rebuiltLate("n1", "link set "+dev+" down", j.features("down")...)
	}
	if j.flaw("rule") {
		j.stop("n1", one(j.builder, families[:]...), one(j.builder, "FORWARD", "OUTPUT"), "-o "+dev, j.features("rule")...)
	}
}
