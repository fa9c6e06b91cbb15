package judge

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Edges are subjects in which it shows whether a rule is read exactly: masks that leave bits over, ranges that end at the
// packet's value, what comes first of two. A rule that decides can be misread in most worlds without a difference; here it
// cannot. faults tells how often a misreading is seen.

const (
	edgesOfWorld = 7
	// edgeThrows is how often a probe is tried whose fates are very unequal: one of the rare may be among them.
	edgeThrows = 32
)

func edges() []subject {
	return slices.Concat(xtablesEdges(), nftablesEdges(), natEdges(), routeEdges(), linkEdges())
}

// chooseEdges adds those whose turn it is, of all or of those that are asked for, to the subjects of a world.
func (b *builder) chooseEdges() {
	list := slices.DeleteFunc(edges(), func(s subject) bool { return !b.wants(s.feature) })
	total, turn := uint64(len(list)), uint64(0)
	for i := range b.world.Index {
		if i%apartWorlds != apartWorlds-1 && i%everyKind != everyKind-1 {
			turn++ // a world that has edges
		}
	}
	for n := turn * edgesOfWorld; n < turn*edgesOfWorld+min(edgesOfWorld, total); n++ {
		round := rand.New(rand.NewPCG(b.world.Seed+1, n/total)).Perm(len(list))
		s := list[round[n%total]]
		s.exact = true
		b.turn = append(b.turn, s)
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

// toPod says whether the packet is for a pod, whose address is nobody's gateway.
func (b *builder) toPod(v *view) bool {
	return slices.ContainsFunc(b.pods, func(p *pod) bool { return slices.Contains(p.addrs[:], v.dst) })
}

// toPodForwarded is forwarded for what is for a pod.
func (b *builder) toPodForwarded(v *view) bool { return forwarded(v) && b.toPod(v) }

// visit asks a pod from one of another node.
func (b *builder) visit(to *pod, family netstack.Family, protocol verdict.Protocol) *flow {
	for _, i := range b.Perm(len(b.pods)) {
		if from := b.pods[i]; from.node != to.node {
			return b.ask(from.name, to.addrs[slot(family)], protocol)
		}
	}
	return nil
}
