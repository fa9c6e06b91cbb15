package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Diagnose answers a query. The error is for a malformed query only: a name
// that nothing bears is a report with the verdict unknown.
func (w *World) Diagnose(q verdict.Query) (*verdict.Report, error) { return w.DiagnoseWith(q, nil) }

// DiagnoseWith is Diagnose with answers of name servers beside those that the
// snapshot has; see Lookup.
func (w *World) DiagnoseWith(q verdict.Query, answers resolver.Answers) (*verdict.Report, error) {
	l, err := w.startLookup(q, answers, false)
	if err != nil {
		return nil, err
	}
	return l.Report(), nil
}

// newReport is a report that says nothing yet.
func (w *World) newReport(q *verdict.Query) *verdict.Report {
	return &verdict.Report{
		ID: q.ID, Query: *q,
		Reasons: []verdict.Finding{}, Paths: []verdict.Path{},
		Policy:      verdict.Policy{Verdict: verdict.PolicyNone, Policies: []string{}},
		Assumptions: []string{},
		Coverage:    w.coverage,
		Snapshot:    w.snapshotInfo(),
	}
}

// diagnose walks all paths to a destination: the one that the query names, or
// the one that a name was found to stand for.
func (w *World) diagnose(q *verdict.Query, named *resolved) *verdict.Report {
	f, from, to, finding := w.resolveFlow(q, named)
	r := w.newReport(q)
	if finding != nil {
		r = w.refuse(q, finding)
	}
	if f == nil {
		return r
	}
	e := &explainer{w: w, report: r, flow: f, from: from, to: to}
	e.findService()
	if finding != nil {
		e.unwalked()
		return r
	}
	ws := w.workspaces.take(w)
	r.Paths = explore(func(d *dice) *verdict.Path { return ws.converse(f, d) }, e.toBackend())
	w.workspaces.put(ws)
	e.explain()
	e.addFacts()
	r.Verdict = Join(r.Paths)
	r.Reasons = e.reasons()
	r.Assumptions = append(w.assumptions(r, f), e.open...)
	return r
}

// refuse is the report on a query that comes to no packet.
func (w *World) refuse(q *verdict.Query, why *verdict.Finding) *verdict.Report {
	r := w.newReport(q)
	w.addFacts(why, q.Port)
	r.Verdict, r.Reasons = verdict.Unknown, append(r.Reasons, *why)
	if why.Severity == verdict.SeverityFatal {
		r.Verdict = verdict.Unreachable
	}
	return r
}

func (w *World) snapshotInfo() verdict.SnapshotInfo {
	s := w.snapshot
	info := verdict.SnapshotInfo{Taken: s.Taken, AgeSeconds: map[string]float64{}}
	if s.Ended.IsZero() {
		return info
	}
	for node, h := range w.byNode {
		taken := h.Taken
		if at, ok := s.Nodes[node]; ok {
			taken = at
		}
		if node != "" && !taken.IsZero() {
			info.AgeSeconds[node] = max(0, s.Ended.Sub(taken).Seconds())
		}
	}
	return info
}

// Join derives the verdict of a report from its paths.
func Join(paths []verdict.Path) verdict.Verdict {
	count := make(map[verdict.Verdict]int)
	for i := range paths {
		count[paths[i].Verdict]++
	}
	for v, n := range count {
		if n == len(paths) {
			return v
		}
	}
	// Mixed. What is unknown cannot turn an answer into "reachable" or
	// "unreachable" for sure; but once some pass and some fail, it is degraded
	// whatever the unknown ones do.
	passes := count[verdict.Reachable] + count[verdict.Degraded]
	if count[verdict.Unknown] > 0 && (passes == 0 || count[verdict.Unreachable] == 0) && count[verdict.Degraded] == 0 {
		return verdict.Unknown
	}
	return verdict.Degraded
}

// assumptions lists what the report takes for granted.
func (w *World) assumptions(r *verdict.Report, f *flow) []string {
	list := []string{}
	if r.Query.SourcePort == 0 && !isICMP(f.packet.Protocol) {
		list = append(list, "the client's port is an ephemeral one: 45678 stands for all")
	}
	if balancers := balancers(r); len(balancers) > 0 {
		list = append(list, fmt.Sprintf("what IPVS on %s remembers of earlier connections was not collected: the client is taken for a new one", strings.Join(balancers, ", ")))
	}
	for _, resource := range slices.Sorted(maps.Keys(w.cluster.Missing())) {
		list = append(list, fmt.Sprintf("what there is of the cluster's %s is not known: %s", resource, w.cluster.Missing()[resource]))
	}
	optional := []netstack.Part{
		netstack.PartTC, netstack.PartXFRM, netstack.PartConntrack, netstack.PartBPF, netstack.PartARPTablesLegacy, netstack.PartEBTablesLegacy,
		netstack.PartNeighbours, netstack.PartFDB, netstack.PartNextHops, netstack.PartBridgeVLAN,
	}
	visited := w.visited(r)
	for _, p := range optional {
		var lacking []string
		for _, h := range visited {
			if h.PartStatus(p).State == netstack.StateMissing {
				lacking = append(lacking, h.String())
			}
		}
		if len(lacking) > 0 {
			list = append(list, fmt.Sprintf("the %s of %s were not collected, and are taken as empty", p.Words(), strings.Join(lacking, ", ")))
		}
	}
	return list
}

// balancers lists the namespaces in which IPVS has sent a packet of the report on,
// each once.
func balancers(r *verdict.Report) []string {
	var list []string
	for i := range r.Paths {
		for _, t := range r.Paths[i].Translations {
			if t.Kind == "ipvs" && !slices.Contains(list, t.Where) {
				list = append(list, t.Where)
			}
		}
	}
	return list
}

// visited lists the namespaces that the paths lead through, each once.
func (w *World) visited(r *verdict.Report) []*host {
	var list []*host
	for i := range r.Paths {
		for _, hops := range [][]verdict.Hop{r.Paths[i].Hops, r.Paths[i].Reverse} {
			for j := range hops {
				if h := w.byName[hops[j].Namespace]; h != nil && !slices.Contains(list, h) {
					list = append(list, h)
				}
			}
		}
	}
	return list
}
