// Package plugin knows what network plugins install on a node: the routes,
// neighbours, forwarding entries and rules by which a packet gets to a pod. It
// decides nothing: a walk that failed asks what its plugin would have installed
// where the packet passed, so that a finding can say it next to what is there.
//
// A plugin is recognised by state that is in view. One that is not known, and a
// node where nothing speaks for any, have no expectations.
package plugin

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Kind says what kind of thing a plugin installs.
type Kind uint8

// Kinds.
const (
	Route      Kind = iota
	Rule            // of policy routing
	Neighbour       // of IP
	Forwarding      // an entry of the database of a VXLAN device
	Setting         // a sysctl
)

// String is what messages call it.
func (k Kind) String() string {
	return [...]string{"route", "rule", "neighbour", "fdb entry", "setting"}[k]
}

// Expectation is one thing that a plugin would have installed, and whether it is
// there.
type Expectation struct {
	Kind  Kind
	Dev   string     // that it is about; empty for none
	Of    netip.Addr // neighbour or remote end that it is about
	Want  string     // in the words of ip(8), bridge(8) and sysctl(8)
	There string     // what is there in its place
	Met   bool
}

// Difference is an expectation that is not met.
type Difference struct {
	Plugin string   // "flannel (vxlan)"
	By     []string // by what the plugin is recognised
	Expectation
}

// Sentence says what the plugin would have installed, and what is there.
func (d *Difference) Sentence() string {
	return fmt.Sprintf("%s would have installed %s %q, and there is %s", d.Plugin, d.Kind, d.Want, d.There)
}

// View is what is in view of a cluster.
type View struct {
	Cluster *cluster.Index
	Daemons Daemons
	// Node and Pod find namespaces by the names of nodes and NAMESPACE/NAME of
	// pods; nil when they were not collected.
	Node, Pod func(name string) *netstack.Namespace
	// Joins are the pairs of devices that join a pod with its node.
	Joins func(pod *netstack.Namespace) []Join
}

// Join is a device of a pod, its other end on the node, and the bridge which that
// is a port of, or nil.
type Join struct{ Inside, Outside, Bridge *netstack.Link }

// plugin is one network plugin.
type plugin interface {
	// daemon says whether a pod with these labels is its agent.
	daemon(labels map[string]string) bool
	// recognise says what the plugin is called at a place, and by what it is
	// recognised there. agent is its pod on the node, if any. An empty name means
	// that nothing speaks for it.
	recognise(p *place, agent string) (name string, by []string)
	// expect lists what it would have installed for the packet. Where that cannot
	// be told, it lists nothing.
	expect(p *place) []Expectation
}

// count is how many plugins are known, and kindnetAt where kindnet stands among them.
const (
	count     = 4
	kindnetAt = 2
)

var plugins = [count]plugin{flannel{}, calico{}, kindnetAt: kindnet{}, 3: terway{}}

// Daemons are the agents of plugins, by node and plugin.
type Daemons map[string][count]string

// FindDaemons finds the agents of plugins among pods. They have the network of
// their node: without that, a label is only a name.
func FindDaemons(pods []corev1.Pod) Daemons {
	found := Daemons{}
	for i := range pods {
		pod := &pods[i]
		if !pod.Spec.HostNetwork || pod.Spec.NodeName == "" {
			continue
		}
		for k, known := range plugins {
			if known.daemon(pod.Labels) {
				on := found[pod.Spec.NodeName]
				on[k] = pod.Namespace + "/" + pod.Name
				found[pod.Spec.NodeName] = on
			}
		}
	}
	return found
}

// place is where a packet is routed: on a node, or in a pod on it.
type place struct {
	view     *View
	name     string              // of the node
	node     *netstack.Namespace // nil when it was not collected
	object   *cluster.Node       // nil when it is not in view
	pod      *netstack.Namespace // where the packet is; nil on the node itself
	src, dst netip.Addr
	from, to *cluster.Pod // those that have the addresses; nil for none
	family   netstack.Family
}

// at is the namespace that routes the packet.
func (p *place) at() *netstack.Namespace {
	if p.pod != nil {
		return p.pod
	}
	return p.node
}

// known says whether a part of the namespace that routes the packet was read.
func (p *place) known(of4, of6 netstack.Part) bool {
	at := p.at()
	if at != nil && p.family == netstack.IPv6 {
		return at.Known(of6)
	}
	return at != nil && at.Known(of4)
}

func (v *View) place(at *netstack.Namespace, src, dst netip.Addr) *place {
	p := &place{view: v, name: at.Node, src: src, dst: dst, family: netstack.FamilyOf(dst)}
	switch at.Kind {
	case netstack.KindNode:
		p.node = at
	case netstack.KindPod:
		p.pod, p.node = at, v.Node(at.Node)
	default:
		return nil
	}
	p.object, _ = v.Cluster.Node(p.name)
	p.from, p.to = v.owner(src), v.owner(dst)
	return p
}

// owner is the pod that has an address of its own.
func (v *View) owner(addr netip.Addr) *cluster.Pod {
	if !addr.IsValid() {
		return nil
	}
	if pod, ok := v.Cluster.PodByIP(addr); ok && !pod.HostNetwork {
		return pod
	}
	return nil
}

// Differences lists what the plugin of a namespace's node would have installed for
// a packet, and is not there; the most telling comes first.
//
// Several plugins may have left something on a node. Those whose agent runs there
// come before those whose does not; if all that one of them expects is there, the
// packet did not get lost for want of it, and nothing is said; else the one speaks
// of whose expectations the most are met.
func (v *View) Differences(at *netstack.Namespace, src, dst netip.Addr) []Difference {
	p := v.place(at, src, dst)
	if p == nil {
		return nil
	}
	type candidate struct {
		missing []Difference
		met     int
	}
	var candidates [2][]candidate // with an agent, and without
	for k, known := range plugins {
		agent, group := v.Daemons[p.name][k], 1
		name, by := known.recognise(p, agent)
		if name == "" {
			continue
		}
		if agent != "" {
			group, by = 0, append([]string{"pod " + agent}, by...)
		}
		var c candidate
		for _, e := range known.expect(p) {
			if e.Met {
				c.met++
			} else {
				c.missing = append(c.missing, Difference{Plugin: name, By: by, Expectation: e})
			}
		}
		if c.met+len(c.missing) > 0 {
			candidates[group] = append(candidates[group], c)
		}
	}
	group := candidates[0]
	if len(group) == 0 {
		group = candidates[1]
	}
	var best *candidate
	for i := range group {
		c := &group[i]
		if len(c.missing) == 0 {
			return nil
		}
		if best == nil || c.met > best.met {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	return best.missing
}

// port is the pair of devices by which a pod's address is reached on its node.
func (v *View) port(pod *cluster.Pod) (Join, bool) {
	ns := v.Pod(pod.String())
	if ns == nil {
		return Join{}, false
	}
	joins := v.Joins(ns)
	if at := slices.IndexFunc(joins, func(j Join) bool { return j.Inside.Name == "eth0" }); at >= 0 {
		return joins[at], true
	}
	if len(joins) == 1 {
		return joins[0], true
	}
	return Join{}, false
}

func annotation(n *cluster.Node, key string) string {
	if n == nil {
		return ""
	}
	return n.Object.Annotations[key]
}

// annotated is an address in an annotation, with or without a prefix length.
func annotated(n *cluster.Node, key string) (netip.Addr, netip.Prefix) {
	text := annotation(n, key)
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Addr(), prefix
	}
	addr, _ := netip.ParseAddr(text)
	return addr, netip.Prefix{}
}

func link(ns *netstack.Namespace, name string) *netstack.Link {
	if ns == nil {
		return nil
	}
	for i := range ns.Links {
		if ns.Links[i].Name == name {
			return &ns.Links[i]
		}
	}
	return nil
}

// device is the device of a namespace that has an address; empty for none.
func device(ns *netstack.Namespace, addr netip.Addr) string {
	if ns == nil || !addr.IsValid() {
		return ""
	}
	for i := range ns.Addresses {
		if ns.Addresses[i].Prefix.Addr() == addr {
			return ns.Addresses[i].Dev
		}
	}
	return ""
}

// onLink says whether an address is in a prefix of one of the namespace's devices.
func onLink(ns *netstack.Namespace, addr netip.Addr) bool {
	if ns == nil || !addr.IsValid() {
		return false
	}
	return slices.ContainsFunc(ns.Addresses, func(a netstack.Address) bool {
		return !a.Prefix.IsSingleIP() && a.Prefix.Masked().Contains(addr)
	})
}
