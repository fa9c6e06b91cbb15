package simulator

import (
	"sync"

	"github.com/plumbline-net/plumbline/simulator/ipvs"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// workspace is what walks share: texts that they show again and again, and memory
// that they use again. One query has it at a time.
type workspace struct {
	w        *World
	walk     *walk     // the one that is under way, or was
	searches []*search // that have ended
	texts    netfilter.Texts
	routes   map[*netstack.Route]string
	legs     []*leg    // that have ended
	leaving  []leaving // what is being found out
}

func newWorkspace(w *World) *workspace {
	return &workspace{w: w, routes: make(map[*netstack.Route]string)}
}

// workspaces are those that no query uses: what they hold makes reports faster,
// and changes none.
type workspaces struct{ idle sync.Pool }

func (p *workspaces) take(w *World) *workspace {
	if ws, ok := p.idle.Get().(*workspace); ok {
		return ws
	}
	return newWorkspace(w)
}

func (p *workspaces) put(ws *workspace) { p.idle.Put(ws) }

// begin starts a walk, which ends the one before.
func (ws *workspace) begin(d *dice) *walk {
	wk := ws.walk
	if wk == nil {
		wk = &walk{
			conntrack: make(map[*host]*netfilter.Conntrack),
			ipvs:      make(map[*host]*ipvs.Table),
			multipath: make(map[multipathKey]int),
			owners:    make(map[ownerKey]int),
			learned:   make(map[learnedKey]netstack.MAC),
			learnt:    make(map[learntKey]*netstack.Link),
			drawn:     make(map[drawKey]int),
		}
		ws.walk = wk
	}
	clear(wk.conntrack)
	clear(wk.ipvs)
	clear(wk.multipath)
	clear(wk.owners)
	clear(wk.learned)
	clear(wk.learnt)
	clear(wk.drawn)
	wk.workspace, wk.dice = ws, d
	wk.translations, wk.existing, wk.copies = nil, nil, nil
	wk.accepted, wk.noted = nil, nil
	wk.sessions.Reset()
	clear(wk.ways)
	return wk
}

// routeText is describeRoute of the leg's route.
func (l *leg) routeText() string {
	r := l.route.Route
	if r == nil {
		return describeRoute(&l.route)
	}
	text, ok := l.routes[r]
	if !ok {
		text = describeRoute(&l.route)
		l.routes[r] = text
	}
	return text
}

// reused takes a value from those that have ended, or a new one.
func reused[T any](list *[]*T) *T {
	n := len(*list)
	if n == 0 {
		return new(T)
	}
	v := (*list)[n-1]
	*list = (*list)[:n-1]
	return v
}

// newLeg starts a leg with a copy of the packet. Whoever starts one ends it with
// done, once nothing of it is needed any more.
func (wk *walk) newLeg(p netstack.Packet) *leg {
	l := reused(&wk.legs)
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
	stepsOfLegs = 64
	stepsOfHop  = 16 // as many should be left for a hop
	hopsOfLeg   = 5
)

// open begins a hop.
func (l *leg) open(hop verdict.Hop) {
	l.close()
	hop.Steps, hop.Findings = []verdict.Step{}, []verdict.Finding{}
	if l.hops == nil {
		l.hops = make([]verdict.Hop, 0, hopsOfLeg)
	}
	if !l.quiet {
		hop.Packet = l.texts.Packet(&l.packet)
		if cap(l.steps) < stepsOfHop {
			l.steps = make([]verdict.Step, 0, stepsOfLegs)
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
