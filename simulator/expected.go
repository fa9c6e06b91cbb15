package simulator

import (
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/plugin"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// pluginView is what expectations of network plugins are formed from.
func (w *World) pluginView() *plugin.View {
	find := func(hosts map[string]*host) func(string) *netstack.Namespace {
		return func(name string) *netstack.Namespace {
			if h := hosts[name]; h != nil {
				return h.Namespace
			}
			return nil
		}
	}
	return &plugin.View{Cluster: w.cluster, Daemons: w.daemons, Node: find(w.byNode), Pod: find(w.byPod), Joins: w.joins}
}

// joins are the pairs of devices that join a pod with its node.
func (w *World) joins(pod *netstack.Namespace) []plugin.Join {
	var list []plugin.Join
	for i := range pod.Links {
		port, ok := w.fabric.Peer(&pod.Links[i])
		if !ok || port.NS.Kind != netstack.KindNode {
			continue
		}
		j := plugin.Join{Inside: &pod.Links[i], Outside: port.Link}
		if bridge, bridged := w.fabric.Bridge(port.Link); bridged {
			j.Bridge = bridge.Link
		}
		list = append(list, j)
	}
	return list
}

// expected says what the network plugin would have installed where a packet got
// lost, next to what is there: that explains how it got lost. The verdict is that
// of the walk, and stays. found is the number of the path's first finding about
// this packet.
func (c *conversation) expected(l *leg, e *end, found int) {
	host, differences := c.w.differences(l, e)
	if len(differences) == 0 {
		return
	}
	d := &differences[0]
	f := pluginFinding(host, d, e.packet.Dst)
	evidence := pluginEvidence(differences)
	if !misled(e.finding.Code) {
		// Something else stopped the packet, perhaps where it should not have come.
		f.Severity, f.Evidence = verdict.SeverityWarning, evidence
		c.aside = append(c.aside, f)
		return
	}
	for i := range c.path.Findings[found:] {
		if about := &c.path.Findings[found+i]; about.Code == f.Code && about.Where.Namespace == f.Where.Namespace {
			about.Message += ": " + d.Sentence()
			about.Evidence = slices.Concat(about.Evidence, evidence)
			return
		}
	}
	// That there is no route says enough: the plugin's is the one that is missing.
	if code := e.finding.Code; (code == f.Code || code == verdict.NoRoute && f.Code == verdict.InvalidRoute) && e.finding.Where.Namespace == f.Where.Namespace {
		own := *e.finding
		own.Message += ": " + d.Sentence()
		own.Evidence = slices.Concat(own.Evidence, evidence)
		e.finding = &own
		return
	}
	f.Evidence = evidence
	c.path.Findings = slices.Insert(c.path.Findings, found, f)
}

// misled says whether a packet that ended so may have been sent the wrong way.
func misled(code verdict.Code) bool {
	switch code {
	case verdict.NoRoute, verdict.InvalidRoute, verdict.RouteBlackhole, verdict.RouteUnreachable, verdict.RouteProhibit,
		verdict.NeighbourFailed, verdict.NeighbourStale, verdict.ARPFiltered, verdict.VXLANPeerMissing, verdict.InterfaceMissing,
		verdict.ForwardingDisabled, verdict.RoutingLoop, verdict.TTLExpired, verdict.ReversePathFilter, verdict.MartianSource:
		return true
	}
	return false
}

// differences are those of the first place on the packet's way where the plugin
// would have had it otherwise. Whether neighbours are known, only matters where
// the packet was routed last.
func (w *World) differences(l *leg, e *end) (*host, []plugin.Difference) {
	view := w.pluginView()
	at := func(h *host, src, dst netip.Addr, last bool) []plugin.Difference {
		if h == nil || !dst.IsValid() {
			return nil
		}
		list := view.Differences(h.Namespace, src, dst)
		return slices.DeleteFunc(list, func(d plugin.Difference) bool {
			return !last && d.Kind != plugin.Route && d.Kind != plugin.Rule
		})
	}
	arrived := w.arrived(l, e)
	for i := range l.taken {
		t := &l.taken[i]
		if arrived != "" && t.host.Node != arrived {
			continue // another way than the plugin's, but it led there
		}
		if list := at(t.host, t.src, t.dst, i == len(l.taken)-1); len(list) > 0 {
			return t.host, list
		}
	}
	stopped := w.byName[e.finding.Where.Namespace]
	if stopped == nil || slices.ContainsFunc(l.taken, func(t routeTaken) bool { return t.host == stopped }) {
		return nil, nil
	}
	switch e.finding.Code {
	case verdict.ReversePathFilter, verdict.MartianSource: // the route back decides
		return stopped, at(stopped, e.packet.Dst, e.packet.Src, false)
	}
	return stopped, at(stopped, e.packet.Src, e.packet.Dst, true)
}

// arrived is the node of the destination's pod, if the packet came there, and it
// does not matter how.
func (w *World) arrived(l *leg, e *end) string {
	switch code := e.finding.Code; {
	case !misled(code), code == verdict.ReversePathFilter, code == verdict.MartianSource:
		return ""
	}
	pod, ok := w.cluster.PodByIP(e.packet.Dst)
	if !ok {
		return ""
	}
	there := func(h *host) bool { return h != nil && h.Kind == netstack.KindNode && h.Node == pod.Node }
	// Where a frame is ignored that is for nobody there, it is the sender that has it wrong.
	ignored := e.finding.Code == verdict.NeighbourStale
	if !ignored && there(w.byName[e.finding.Where.Namespace]) || slices.ContainsFunc(l.taken, func(t routeTaken) bool { return there(t.host) }) {
		return pod.Node
	}
	return ""
}

// pluginFinding is a finding about a difference.
func pluginFinding(h *host, d *plugin.Difference, dst netip.Addr) verdict.Finding {
	switch d.Kind {
	case plugin.Forwarding, plugin.Neighbour, plugin.Setting:
		if link := h.links[d.Dev]; d.Kind == plugin.Forwarding || link != nil && link.VXLAN != nil {
			return verdict.NewFindingf(verdict.VXLANPeerMissing, h.where(d.Dev), nil, "no fdb/neigh entry for %s on %s of %s as it should be: %s", d.Of, d.Dev, h, d.Sentence())
		}
		return verdict.NewFindingf(verdict.NeighbourFailed, h.where(d.Dev), nil, "neighbour %s unresolved on %s of %s: %s", d.Of, d.Dev, h, d.Sentence())
	}
	return verdict.NewFindingf(verdict.InvalidRoute, h.where(d.Dev), nil, "invalid route %s for packet to %s on %s: %s", d.There, dst, h, d.Sentence())
}

// pluginEvidence shows all that differs, and by what the plugin is recognised.
func pluginEvidence(list []plugin.Difference) []string {
	var lines []string
	for i := range list {
		lines = append(lines, list[i].Plugin+" would have installed: "+list[i].Kind.String()+" "+list[i].Want, "there is: "+list[i].There)
	}
	for _, by := range list[0].By {
		lines = append(lines, list[0].Plugin+" is recognised by: "+by)
	}
	return lines
}
