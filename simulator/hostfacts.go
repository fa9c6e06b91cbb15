package simulator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// What the host says of itself decides nothing: it is evidence beside what does.

// recently is how long before the state was read the kernel may have said what
// still explains something.
const recently = time.Hour

// explained are the messages of the kernel that say more about a finding.
var explained = map[verdict.Code][]netstack.KernelEvent{
	verdict.ConntrackTableFull: {netstack.EventConntrackFull},
	verdict.NeighbourFailed:    {netstack.EventNeighbourOverflow, netstack.EventLinkDown, netstack.EventLinkUp, netstack.EventTransmitTimeout},
	verdict.InterfaceDown:      {netstack.EventLinkDown, netstack.EventLinkUp, netstack.EventTransmitTimeout},
	verdict.NoCarrier:          {netstack.EventLinkDown, netstack.EventLinkUp, netstack.EventTransmitTimeout},
	verdict.AcceptQueueFull:    {netstack.EventSYNFlood, netstack.EventTCPMemory},
	verdict.NoListener:         {netstack.EventOutOfMemory, netstack.EventCgroupOutOfMemory},
	verdict.AddressNotUsable:   {netstack.EventDuplicateAddress},
	verdict.MartianSource:      {netstack.EventMartianSource},
	verdict.ReversePathFilter:  {netstack.EventMartianSource},
	verdict.RoutingLoop:        {netstack.EventOwnAddress, netstack.EventDeviceLoop},
	verdict.NodeNotReady: {
		netstack.EventOutOfMemory, netstack.EventLinkDown, netstack.EventLinkUp, netstack.EventTransmitTimeout, netstack.EventNeighbourOverflow, netstack.EventConntrackFull,
	},
	verdict.PodNotReady:   {netstack.EventOutOfMemory, netstack.EventCgroupOutOfMemory},
	verdict.PodNotRunning: {netstack.EventOutOfMemory, netstack.EventCgroupOutOfMemory},
	// Whatever loses packets without being seen in the state.
	verdict.ObservedDisagrees: {
		netstack.EventConntrackFull, netstack.EventNeighbourOverflow, netstack.EventRouteCacheFull, netstack.EventSYNFlood, netstack.EventTCPMemory,
		netstack.EventOrphanedSockets, netstack.EventMartianSource, netstack.EventDuplicateAddress, netstack.EventOwnAddress, netstack.EventDeviceLoop,
		netstack.EventTransmitTimeout, netstack.EventLinkDown, netstack.EventLinkUp,
	},
}

// factsOf are the facts of the host that a namespace is on: of its node, or of the
// only host that there is.
func (w *World) factsOf(namespace, node string) *host {
	if h := w.byName[namespace]; h != nil {
		if h.Facts != nil {
			return h
		}
		node = h.Node
	}
	if h := w.byNode[node]; h != nil && h.Facts != nil {
		return h
	}
	if node == "" && len(w.factual) == 1 {
		return w.factual[0]
	}
	return nil
}

// addFacts adds to the findings of the report what the hosts say about them.
func (e *explainer) addFacts() {
	if len(e.w.factual) == 0 {
		return
	}
	for i := range e.report.Paths {
		p := &e.report.Paths[i]
		for j := range p.Findings {
			e.w.addFacts(&p.Findings[j], p.Destination.Port)
		}
	}
	for i := range e.general {
		e.w.addFacts(&e.general[i], 0)
	}
}

func (w *World) addFacts(f *verdict.Finding, port uint16) {
	at := w.factsOf(f.Where.Namespace, f.Where.Node)
	if at == nil {
		return
	}
	lines := at.said(f, w.byName[f.Where.Namespace], port, w.snapshot.TakenAt(at.Namespace))
	switch f.Code {
	case verdict.NodeNotReady:
		lines = append(lines, at.busy()...)
		lines = append(lines, at.daemons("kubelet", "containerd", "crio", "dockerd")...)
	case verdict.PodNotReady, verdict.PodNotRunning:
		lines = append(lines, at.daemons("kubelet", "containerd", "crio", "dockerd")...)
	case verdict.ServiceBackendMismatch:
		lines = append(lines, at.daemons("kube-proxy")...)
	}
	if len(lines) > 0 {
		f.Evidence = append(slices.Clip(f.Evidence), lines...)
	}
}

// HostEvidence is what the hosts that the report's paths lead over have to say where
// real packets did not fare as was predicted.
func (w *World) HostEvidence(r *verdict.Report) (lines []string) {
	if len(w.factual) == 0 {
		return nil
	}
	f := verdict.Finding{Code: verdict.ObservedDisagrees}
	for _, h := range w.visited(r) {
		at := w.factsOf(h.Name, h.Node)
		if at == nil {
			continue
		}
		for _, line := range at.said(&f, h, r.Query.Port, w.snapshot.TakenAt(at.Namespace)) {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// said lists what the kernel of a host said lately that is about a finding in a
// namespace of it, nil if that is not known.
func (h *host) said(f *verdict.Finding, in *host, port uint16, taken time.Time) (lines []string) {
	events := explained[f.Code]
	if len(events) == 0 {
		return nil
	}
	for i := range h.Facts.Messages {
		m := &h.Facts.Messages[i]
		if !slices.Contains(events, m.Event) || !m.Last.IsZero() && taken.Sub(m.Last) > recently ||
			m.Namespace != "" && (in == nil || m.Namespace != in.Name) || m.Device != "" && f.Where.Interface != "" && m.Device != f.Where.Interface {
			continue
		}
		switch m.Event { // one of which host or namespace it is, the address or port tells
		case netstack.EventDuplicateAddress:
			if in != nil && m.Address.IsValid() {
				if _, own := in.owns(m.Address); !own {
					continue
				}
			}
		case netstack.EventSYNFlood:
			if port != 0 && m.Port != port {
				continue
			}
		}
		lines = append(lines, fmt.Sprintf("the kernel of %s said %s: %s", h, when(m, taken), &m.KernelSaid))
	}
	return lines
}

// when says how long before the state was read, and how often.
func when(m *netstack.KernelMessage, taken time.Time) string {
	switch {
	case m.Last.IsZero() || taken.IsZero():
		return fmt.Sprintf("at some time, %d times", m.Count)
	case m.Count == 1:
		return fmt.Sprintf("%s before the state was read", ago(m.Last, taken))
	}
	return fmt.Sprintf("%s before the state was read, and %d times since %s", ago(m.Last, taken), m.Count, m.First.UTC().Format(time.RFC3339))
}

func ago(t, taken time.Time) time.Duration { return max(0, taken.Sub(t).Truncate(time.Second)) }

// busy says how much a host has to do.
func (h *host) busy() []string {
	f := h.Facts
	line := fmt.Sprintf("%s runs Linux %s since %s; load %.2f %.2f %.2f on %d processors", h, f.Kernel, f.Booted.UTC().Format(time.RFC3339), f.Load[0], f.Load[1], f.Load[2], f.Processors)
	if f.MemoryPressure > 0 {
		line += fmt.Sprintf("; tasks waited for memory for %.0f %% of a minute", f.MemoryPressure)
	}
	return []string{line}
}

// daemons says how those of some names do: of those that do the same, that one which
// is there.
func (h *host) daemons(names ...string) (lines []string) {
	for _, name := range names {
		d := h.Facts.Daemon(name)
		if d == nil && (name == "kubelet" || name == "kube-proxy") {
			for _, all := range []string{"k3s-server", "k3s-agent"} {
				d = cmp.Or(d, h.Facts.Daemon(all))
			}
			if d == nil {
				lines = append(lines, fmt.Sprintf("no process %s was found on %s", name, h))
			}
		}
		if d == nil {
			continue
		}
		line := fmt.Sprintf("%s runs on %s since %s", d.Name, h, d.Started.UTC().Format(time.RFC3339))
		switch {
		case d.Failure != "":
			line += fmt.Sprintf(", and does not answer at %s: %s", d.Asked, d.Failure)
		case d.Asked != "":
			line += ", and answers at " + d.Asked
		}
		if name == "kube-proxy" && h.Facts.ProxyMode != "" {
			line += ", in mode " + h.Facts.ProxyMode
		}
		lines = append(lines, line)
	}
	return lines
}
