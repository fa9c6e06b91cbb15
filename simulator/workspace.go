package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// workspace is what the walks of one query share: texts that they show again and
// again, and memory that they use again.
type workspace struct {
	rules netfilter.Texts
	legs  []*leg // that have ended
}

func newWorkspace() *workspace {
	return &workspace{rules: make(netfilter.Texts)}
}

// newLeg starts a leg with a copy of the packet. Whoever starts one ends it with
// done, once nothing of it is needed any more.
func (wk *walk) newLeg(p netstack.Packet) *leg {
	l := &leg{}
	if n := len(wk.legs); n > 0 {
		l, wk.legs = wk.legs[n-1], wk.legs[:n-1]
	}
	l.walk, l.packet = wk, p
	return l
}

// done gives the leg's memory back. Its hops stay those of the report, unless
// they are quiet: nobody has kept those.
func (l *leg) done() {
	l.close()
	ws, kept := l.workspace, leg{seen: l.seen[:0], taken: l.taken[:0], steps: l.steps}
	if l.quiet {
		kept.hops = l.hops[:0]
	}
	*l = kept
	ws.legs = append(ws.legs, l)
}

// Steps of a leg come from one piece of memory: the hop that is open has all that
// is left of it.
const (
	stepsOfLeg  = 32
	stepsOfHop  = 4 // as many should be left for a hop
	hopsOfLeg   = 8
	routesOfLeg = 4
)

// open begins a hop.
func (l *leg) open(hop verdict.Hop) {
	l.close()
	hop.Steps, hop.Findings = []verdict.Step{}, []verdict.Finding{}
	if l.hops == nil {
		l.hops = make([]verdict.Hop, 0, hopsOfLeg)
	}
	if !l.quiet {
		hop.Packet = l.packet.String()
		if cap(l.steps) < stepsOfHop {
			l.steps = make([]verdict.Step, 0, stepsOfLeg)
		}
		hop.Steps = l.steps
		l.opened = len(l.hops) + 1
	}
	l.hops = append(l.hops, hop)
}

// close takes back what the open hop left of the memory for steps, if that was
// enough for it.
func (l *leg) close() {
	if l.opened == 0 {
		return
	}
	hop := &l.hops[l.opened-1]
	l.opened = 0
	if n := len(hop.Steps); cap(hop.Steps) == cap(l.steps) {
		l.steps, hop.Steps = hop.Steps[n:n], hop.Steps[:n:n]
	}
}
