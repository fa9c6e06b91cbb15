package judge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// builder is a world under construction, with what generators need to know of it.
type builder struct {
	*rand.Rand
	world *World
	nodes []*node
	pods  []*pod
	// only are the features asked for; empty for all.
	only   []string
	kernel Kernel
	marks  map[string]uint8
	used   map[string]bool
	// rich makes rules about one flow have further conditions that hold.
	rich bool
	// turn are the subjects of this world.
	turn []subject
	// aimed are the probes that have a subject.
	aimed map[string]bool
	// translator is the backend that has nat tables in this world.
	translator netstack.Backend
}

// node is a namespace with pods.
type node struct {
	name   string
	uplink string
	routed bool // pods have a wire each; otherwise they are ports of the bridge cni0
	addrs  [2]netip.Addr
	ranges [2]netip.Prefix // of its pods
	pods   []*pod
}

// pod is a namespace behind a node.
type pod struct {
	name  string
	node  *node
	veth  string // the node's end of its wire
	addrs [2]netip.Addr
}

// side is the device of the node that leads to the pod.
func (p *pod) side() string {
	if p.node.routed {
		return p.veth
	}
	return "cni0"
}

// families in the order of the pairs above.
var families = [2]netstack.Family{netstack.IPv4, netstack.IPv6}

func slot(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 1
	}
	return 0
}

func familyOf(a netip.Addr) netstack.Family { return netstack.FamilyOf(a) }

// newID names an element.
func (b *builder) newID() string { return fmt.Sprintf("e%d", len(b.world.Elements)) }

// add appends an element and returns its id.
func (b *builder) add(e Element) string {
	if e.ID == "" {
		e.ID = b.newID()
	}
	b.world.Elements = append(b.world.Elements, e)
	return e.ID
}

// link, ip, early and listen add parts of the stage, or, with features, what is under test.
func (b *builder) link(ns, format string, args ...any) {
	b.add(Element{Namespace: ns, Tool: ToolLink, Text: fmt.Sprintf(format, args...)})
}

func (b *builder) ip(ns, format string, args ...any) {
	b.add(Element{Namespace: ns, Tool: ToolIP, Text: fmt.Sprintf(format, args...)})
}

func (b *builder) early(ns string, settings ...string) {
	for _, s := range settings {
		b.add(Element{Namespace: ns, Tool: ToolEarly, Text: s})
	}
}

func (b *builder) listen(ns, proto string, port uint16) {
	b.add(Element{Namespace: ns, Tool: ToolListen, Text: fmt.Sprintf("%s %d", proto, port)})
}

// once says whether the key is new: two routes to one prefix, or two sysctls of one name, would be an error.
func (b *builder) once(key string) bool {
	if b.used[key] {
		return false
	}
	b.used[key] = true
	return true
}

// sysctl sets what is under test; fallback is the value without it.
func (b *builder) sysctl(ns, key, value, fallback string, features ...string) {
	if b.once(ns + " " + key) {
		b.add(Element{Namespace: ns, Tool: ToolSysctl, Text: key + "=" + value, Default: fallback, Features: features})
	}
}

// route adds a route, policy rule or next hop under test: text is what follows `ip -4 route add` and the like. The
// protocol number, which nothing else in the namespace has, finds it in the collected state.
//
// The kernel has no two of the same: what is there already is not added, and then it says so.
func (b *builder) route(ns string, family netstack.Family, object, text string, features ...string) bool {
	key := fmt.Sprintf("%s %s %d %s", object, ns, family, text)
	if object == "route" {
		key = routeKey(ns, text)
	}
	if !b.once(key) {
		return false
	}
	mark, tool := b.mark(ns), ToolIP
	if object == "rule" {
		tool = ToolRule
	}
	b.add(Element{
		Namespace: ns, Tool: tool, Family: family, Mark: mark, Features: features,
		Text: fmt.Sprintf("-%d %s add %s proto %d", family, object, text, mark),
	})
	return true
}

// routeKey is what no two routes of a namespace have in common: prefix, table and metric.
func routeKey(ns, text string) string {
	words := strings.Fields(text)
	if words[0] != "default" && !strings.ContainsAny(words[0], ".:") {
		words = words[1:] // its type
	}
	value := func(name string) string {
		if at := slices.Index(words, name); at >= 0 && at+1 < len(words) {
			return words[at+1]
		}
		return ""
	}
	return strings.Join([]string{"route", ns, words[0], value("table"), value("metric")}, " ")
}

// mark is a protocol number that nothing else in the namespace has.
func (b *builder) mark(ns string) uint8 {
	b.marks[ns]++
	return 100 + b.marks[ns]
}

// iptables appends a rule: text is what follows `-A CHAIN`.
func (b *builder) iptables(ns string, family netstack.Family, backend netstack.Backend, table, chain, text string, features ...string) *Element {
	b.add(Element{
		Namespace: ns, Tool: ToolIPTables, Family: family, Backend: backend, Table: table,
		Text: "-A " + chain + " " + text, Features: append([]string{"backend:" + string(backend), "table:" + table}, features...),
	})
	return &b.world.Elements[len(b.world.Elements)-1]
}

// chain declares a chain of iptables, or sets the policy of a built-in one.
func (b *builder) chain(ns string, family netstack.Family, backend netstack.Backend, table, chain, policy string, features ...string) {
	b.add(Element{
		Namespace: ns, Tool: ToolIPTables, Family: family, Backend: backend, Table: table,
		Text: fmt.Sprintf(":%s %s [0:0]", chain, policy), Features: features,
	})
}

// nft adds a command; in it, @id stands for the element's id, which a rule has to bear as its comment.
func (b *builder) nft(ns, text string, features ...string) {
	id := b.newID()
	b.add(Element{ID: id, Namespace: ns, Tool: ToolNFT, Text: strings.ReplaceAll(text, "@id", id), Features: features})
}

// ipset adds a line of `ipset restore`.
func (b *builder) ipset(ns, text string, features ...string) {
	b.add(Element{Namespace: ns, Tool: ToolIPSet, Text: text, Features: features})
}

// one draws from a list.
func one[T any](b *builder, list ...T) T { return list[b.IntN(len(list))] }

// chance is true in that many of a hundred cases.
func (b *builder) chance(percent int) bool { return b.IntN(100) < percent }

// wants says whether a feature is among those asked for.
func (b *builder) wants(feature string) bool {
	return len(b.only) == 0 || slices.ContainsFunc(b.only, func(o string) bool { return feature == o || strings.HasPrefix(feature, o+":") })
}

// asks says whether one of the features is among those that the world is for.
func (b *builder) asks(features ...string) bool {
	return slices.ContainsFunc(b.only, func(o string) bool { return slices.Contains(features, o) })
}

// made says whether the world has the feature.
func (b *builder) made(feature string) bool {
	return slices.ContainsFunc(b.world.Elements, func(e Element) bool { return slices.Contains(e.Features, feature) })
}

// option is one of several ways to go on, each under the name of the feature that it shows.
type option[T any] struct {
	feature string
	make    T
}

// pick draws among the options asked for, or among all if none of them was.
func pick[T any](b *builder, options []option[T]) option[T] {
	wanted := slices.DeleteFunc(slices.Clone(options), func(o option[T]) bool { return !b.wants(o.feature) })
	if len(wanted) == 0 || len(b.only) > 0 && b.chance(20) {
		wanted = options
	}
	return one(b, wanted...)
}

// flow draws a probe, mostly one that has no subject.
func (b *builder) flow() *flow {
	p := &b.world.Probes[b.IntN(len(b.world.Probes))]
	for range 2 {
		if b.aimed[p.ID] {
			p = &b.world.Probes[b.IntN(len(b.world.Probes))]
		}
	}
	return b.flowOf(p)
}

// flow is a probe and the ends that its addresses stand for.
type flow struct {
	*Probe
	family   netstack.Family
	fromPod  *pod  // nil when it comes from elsewhere
	fromNode *node // the node that sends it, or the pod's; nil when it comes from outside
	toPod    *pod
	toNode   *node
}

func (b *builder) flowOf(p *Probe) *flow {
	f := &flow{Probe: p, family: familyOf(p.To)}
	for _, x := range b.pods {
		if x.name == p.From {
			f.fromPod, f.fromNode = x, x.node
		}
		if slices.Contains(x.addrs[:], p.To) {
			f.toPod, f.toNode = x, x.node
		}
	}
	for _, n := range b.nodes {
		if n.name == p.From {
			f.fromNode = n
		}
		if slices.Contains(n.addrs[:], p.To) {
			f.toNode = n
		}
	}
	return f
}

// protocolName is what iptables calls the probe's protocol.
func (f *flow) protocolName() string {
	if f.Protocol == verdict.ICMP && f.family == netstack.IPv6 {
		return "ipv6-icmp"
	}
	return string(f.Protocol)
}
