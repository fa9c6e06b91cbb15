package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// left is the namespace of a request that left the collected world.
const left = "(outside)"

// Fate is what can be compared.
type Fate struct {
	Verdict verdict.Verdict `json:"verdict"`
	Outcome verdict.Outcome `json:"outcome"`
	// Where it arrived, how it was addressed there, and from whom it seems to come; empty if it did not.
	Namespace   string         `json:"namespace,omitempty"`
	Destination netip.AddrPort `json:"destination,omitzero"`
	SeenAs      netip.AddrPort `json:"seenAs,omitzero"`
}

func (f Fate) String() string {
	s := fmt.Sprintf("%s, %s", f.Verdict, f.Outcome)
	if f.Namespace != "" {
		s += fmt.Sprintf(", at %s as %s from %s", f.Namespace, f.Destination, f.SeenAs)
	}
	return s
}

// unknown says whether the fate is one that the simulator does not know.
func (f Fate) unknown() bool {
	return f.Verdict == verdict.Unknown || f.Outcome == verdict.OutcomeUnknown
}

// silent says whether the client hears nothing.
func (f Fate) silent() bool {
	return f.Outcome == verdict.OutcomeTimeout || f.Outcome == verdict.OutcomeDelivered || f.unknown()
}

// Prediction is what the simulator says of one probe.
type Prediction struct {
	Fates []Weighed `json:"fates"`
	// Reasons are the codes of the findings, for people.
	Reasons []string `json:"reasons,omitempty"`
}

// Weighed is a fate and how likely it is; Probability is negative if that cannot be said.
type Weighed struct {
	Fate
	Probability float64 `json:"probability"`
}

func (p *Prediction) String() string {
	var parts []string
	for _, f := range p.Fates {
		text := f.String()
		if len(p.Fates) > 1 {
			text += fmt.Sprintf(" (%.3f)", f.Probability)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " | ") + " because " + strings.Join(p.Reasons, "; ")
}

// single is the only fate predicted.
func (p *Prediction) single() (Fate, bool) {
	if len(p.Fates) != 1 {
		return Fate{}, false
	}
	return p.Fates[0].Fate, true
}

func (p *Prediction) unknown() bool {
	return len(p.Fates) == 0 || slices.ContainsFunc(p.Fates, func(w Weighed) bool { return w.unknown() })
}

// unresolved says whether neighbours are expected not to find each other.
func (p *Prediction) unresolved() bool {
	return slices.ContainsFunc(p.Reasons, func(reason string) bool {
		return strings.Contains(reason, "(neighbour ") || strings.HasPrefix(reason, string(verdict.ARPFiltered))
	})
}

// narrow says whether packets are expected to be larger than their way takes: whoever has sent anything through a tunnel knows
// the MTU of its path, and announces smaller segments from then on (skb_dst_update_pmtu_no_confirm).
func (p *Prediction) narrow() bool {
	return slices.ContainsFunc(p.Reasons, func(reason string) bool { return strings.HasPrefix(reason, string(verdict.MTUExceeded)) })
}

// doubt is why it is unknown, without what differs from world to world.
func (p *Prediction) doubt() string {
	if len(p.Reasons) == 0 {
		return "no reason"
	}
	reason := p.Reasons[0]
	if code, text, ok := strings.Cut(reason, " ("); ok {
		if _, what, ok := strings.Cut(text, " uses "); ok {
			return code + ": " + strings.TrimSuffix(what, ")")
		}
		if code != string(verdict.UnmodelledRule) {
			return code
		}
	}
	return reason
}

// same says whether two predictions have the same fates, equally likely.
func (p *Prediction) same(q *Prediction) bool {
	return slices.EqualFunc(p.Fates, q.Fates, func(a, b Weighed) bool {
		return a.Fate == b.Fate && a.Probability-b.Probability < 1e-9 && b.Probability-a.Probability < 1e-9
	})
}

// query is the probe as a question.
func (p *Probe) query(sourcePort uint16) verdict.Query {
	q := verdict.Query{
		From: "ns:" + p.From, To: p.To.String(), Port: p.Port, Protocol: p.Protocol,
		SourcePort: sourcePort, Mark: p.Mark, UID: p.UID, DSCP: p.DSCP,
	}
	if p.Source.IsValid() {
		q.From = p.Source.String()
	}
	if ns, dev, ok := strings.Cut(p.Via, "/"); ok {
		q.Via = &verdict.Via{Namespace: ns, Interface: dev}
	}
	if q.UID == nil && q.Via == nil {
		q.UID = new(uint32)
	}
	return q
}

// predict asks the simulator.
func predict(w *simulator.World, p *Probe) (*Prediction, error) {
	report, err := w.Diagnose(p.query(p.SourcePort))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	out := &Prediction{}
	for i := range report.Paths {
		path := &report.Paths[i]
		weighed := Weighed{Fate: fateOf(path), Probability: -1}
		if path.Probability != nil {
			weighed.Probability = *path.Probability
		}
		at := slices.IndexFunc(out.Fates, func(o Weighed) bool { return o.Fate == weighed.Fate })
		switch {
		case at < 0:
			out.Fates = append(out.Fates, weighed)
		case weighed.Probability < 0 || out.Fates[at].Probability < 0:
			out.Fates[at].Probability = -1
		default:
			out.Fates[at].Probability += weighed.Probability
		}
	}
	for _, f := range report.Reasons {
		out.Reasons = append(out.Reasons, string(f.Code)+" ("+f.Message+")")
	}
	return out, nil
}

func fateOf(p *verdict.Path) Fate {
	f := Fate{Verdict: p.Verdict, Outcome: p.Outcome}
	if !p.Delivered {
		return f
	}
	if f.Namespace = p.Destination.Namespace; f.Namespace == "" {
		f.Namespace = left
	}
	f.Destination, f.SeenAs = addrPortOf(p.Destination.IP, p.Destination.Port), addrPortOf(p.SeenAs.IP, p.SeenAs.Port)
	return f
}

func addrPortOf(ip string, port uint16) netip.AddrPort {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// objects are the Kubernetes objects by which the collector knows whose namespace is whose.
func (w *World) objects() cluster.Objects {
	var objects cluster.Objects
	for i := range w.Namespaces {
		ns := &w.Namespaces[i]
		switch {
		case ns.Hidden:
		case ns.Node == "" && len(ns.Addresses) > 0:
			node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns.Name}}
			for _, a := range ns.Addresses {
				node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
			}
			objects.Nodes = append(objects.Nodes, node)
		case ns.Node != "":
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "judge", Name: ns.Name}, Spec: corev1.PodSpec{NodeName: ns.Node}}
			for _, a := range ns.Addresses {
				pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
			}
			pod.Status.PodIP = pod.Status.PodIPs[0].IP
			pod.Status.Phase = corev1.PodRunning
			objects.Pods = append(objects.Pods, pod)
		}
	}
	return objects
}
