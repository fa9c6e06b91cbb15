package simulator

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/tc"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// filter runs the filters of traffic control over the frame.
func (l *leg) filter(dev string, at tc.Hook) (end, bool) {
	filters := l.host.opaque.filters
	if l.host.opaque.filtersUnread && !l.probe {
		return l.through(l.missing(netstack.PartTC))
	}
	if !filters.At(dev, at) {
		return end{}, false
	}
	frame := tc.Frame{Packet: &l.packet, ARP: l.arp != nil}
	if link := l.host.links[dev]; link != nil && (link.MAC != netstack.MAC{} || dev == "lo") {
		frame.Header = 14
	}
	if l.tags.tagged() {
		frame.Tag, frame.VLAN = tc.EtherVLAN, l.tags[0].id
		if l.tags[0].protocol == "802.1ad" {
			frame.Tag = tc.EtherQinQ
		}
	}
	res := filters.Run(dev, at, &frame, filterEnv{l, dev})
	l.forHost = l.forHost || frame.ForHost
	if res.Filter != nil {
		l.step("tc/"+at.String(), res.Fate.String(), res.Filter.Text)
	}
	switch res.Fate {
	case tc.Drop:
		return l.shotBy(dev, "packet dropped by tc %s of %s", res.Filter), true
	case tc.Redirect:
		return l.redirect(dev, at, res)
	case tc.Opaque:
		if l.probe {
			return end{}, false // asked about when the packet comes there
		}
		return l.undecided(verdict.NewFinding(verdict.EBPFOpaque, l.host.where(dev), []string{res.Filter.Text}, res.What, dev)), true
	}
	return end{}, false
}

// shotBy ends the leg: a filter drops the packet.
func (l *leg) shotBy(dev, format string, f *tc.Filter) end {
	finding := verdict.NewFindingf(verdict.TCDrop, l.host.where(dev), []string{f.Text}, format, f.Text, l.host)
	finding.Severity = verdict.SeverityFatal
	if f.Qdisc {
		finding.Remedy = fmt.Sprintf("If a test of failures has left the qdisc behind, delete it (tc qdisc del dev %s root); if it is there to shape, give its burst and limit room for whole packets.", dev)
	}
	return l.drop(finding)
}

// maxRedirects is how often filters may pass a packet on before it is a loop:
// MIRRED_NEST_LIMIT.
const maxRedirects = 4

// redirect hands the frame to another device: tcf_mirred_act. An ifb gives it back
// once it has queued it, and filters are through with it (ifb_ri_tasklet).
func (l *leg) redirect(dev string, at tc.Hook, res tc.Result) (end, bool) {
	link := l.host.links[res.Device]
	switch {
	case link == nil:
		return l.shotBy(dev, "packet dropped by tc %s of %s, which redirects it to an interface that is missing", res.Filter), true
	case !link.Up():
		return l.drop(l.linkDown(l.port(link))), true
	case !link.Carrier():
		return l.drop(verdict.NewFindingf(verdict.NoCarrier, l.host.where(link.Name), []string{res.Filter.Text},
			"interface %s is down: it has no carrier, and %s redirects packets to it", link.Name, res.Filter.Text)), true
	case l.redirects == maxRedirects:
		return l.shotBy(dev, "packet dropped by tc %s of %s, which redirects it once too often", res.Filter), true
	}
	l.redirects++
	defer func() { l.redirects-- }()
	if res.Inward {
		// The kernel does not look again at whom the frame is for.
		own := l.host.links[dev]
		l.forHost = l.forHost || at != tc.Ingress || own == nil || l.packet.DstMAC == own.MAC || l.packet.DstMAC == netstack.MAC{}
		return l.input(l.port(link)), true
	}
	l.skipEgress = true // nf_skip_egress
	if link.Kind == "ifb" {
		return l.throughDevice(link.Name, "egress")
	}
	l.hop().Out = link.Name
	return l.emit(l.port(link)), true
}

// filterEnv answers what filters ask.
type filterEnv struct {
	*leg
	dev string
}

func (env filterEnv) Unknown(f *tc.Filter, what string) bool {
	return env.doubt(verdict.NewFindingf(verdict.TCDrop, env.host.where(env.dev), []string{f.Text},
		"tc %s of %s cannot be evaluated: %s", f.Text, env.host, what))
}

func (env filterEnv) Pick(_ *tc.Filter, weights []float64) int {
	return env.dice.ask(choice{alternatives: len(weights), weights: weights})
}
