package judge

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Edges are subjects in which it shows whether a rule is read exactly: masks that leave bits over, ranges that end at the
// packet's value, what comes first of two. A rule that decides can be misread in most worlds without a difference; here it
// cannot. faults tells how often a misreading is seen.

// edgesOfWorld is how many edges a world has, and edgeShowings how often each is shown in it.
const (
	edgesOfWorld = 9
	edgeShowings = 2
)

func edges() []subject {
	return slices.Concat(xtablesEdges(), nftablesEdges(), natEdges(), routeEdges(), linkEdges())
}

// edges shows those whose turn it is, or those that are asked for.
func (b *builder) edges() {
	if b.world.Apart {
		return
	}
	var list []subject
	for _, s := range edges() {
		if b.wants(s.feature) {
			list = append(list, s)
		}
	}
	total := uint64(len(list))
	for turn := range min(edgesOfWorld, total) {
		n := b.world.Index*edgesOfWorld + turn
		round := rand.New(rand.NewPCG(b.world.Seed+1, n/total)).Perm(len(list))
		for range edgeShowings {
			list[round[n%total]].show(b)
		}
	}
}

// withPorts says whether the flow can be told from others by its ports.
func withPorts(v *view) bool { return v.dport != 0 }

// forwarded are places where a node forwards the flow, and does not bridge it.
func forwarded(v *view) bool {
	return v.hook == "FORWARD" && v.physIn == "" && v.in != "" && v.out != ""
}

// anyPort selects what one flow sends in one direction, whatever port the client has.
func (x *nftables) anyPort() string {
	v, side := x.v, "dport"
	port := v.dport
	if v.reply {
		side, port = "sport", v.sport
	}
	return fmt.Sprintf("%s saddr %s %s daddr %s %s %s %d", x.ip(), v.src, x.ip(), v.dst, v.flow.Protocol, side, port)
}
