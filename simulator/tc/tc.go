// Package tc evaluates the filters of traffic control, which may drop, mark or
// redirect a packet: of the classifiers matchall, u32, flower, fw and basic, with
// their actions. What it does not understand it asks about by name (Env); eBPF
// programs end the evaluation (Opaque), because they may do anything.
//
// Classful qdiscs are not followed into their classes. Of queues, what drops frames
// that there is room for is known: netem, blackhole, limits of nothing, bursts that
// are too small.
//
// Errors: Parse fails on text that does not have the form of `tc -j`, with file
// and entry. Whatever has the form is kept, understood or not.
package tc

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Hook is where filters hang at a device.
type Hook uint8

// Hooks: of clsact and ingress qdiscs, and of the device's own classful qdisc.
const (
	Ingress Hook = iota
	Egress
	Qdisc
)

// String is the name that `tc filter show` takes.
func (h Hook) String() string { return [...]string{"ingress", "egress", "root"}[h] }

// EtherType is the protocol of a frame.
type EtherType uint16

// Protocols of frames that filters name.
const (
	EtherAll  EtherType = 0x0003 // any
	EtherIPv4 EtherType = 0x0800
	EtherARP  EtherType = 0x0806
	EtherVLAN EtherType = 0x8100
	EtherIPv6 EtherType = 0x86dd
	EtherQinQ EtherType = 0x88a8
)

// Frame is what filters see.
type Frame struct {
	// Packet is the IP packet; filters may change its mark.
	Packet *netstack.Packet
	// ARP says that the frame is a request for a neighbour of IPv4, or an answer.
	ARP bool
	// Tag is the protocol of the outermost VLAN tag, 0 without one, and VLAN its id.
	Tag  EtherType
	VLAN uint16
	// Header is the length of the link layer's header in bytes, without tags.
	Header int
	// ForHost is set by filters that say so of a frame for another station.
	ForHost bool
}

// network is the protocol of what the frame carries below its tags.
func (f *Frame) network() EtherType {
	switch {
	case f.ARP:
		return EtherARP
	case f.Packet.Family() == netstack.IPv6:
		return EtherIPv6
	}
	return EtherIPv4
}

// protocol is that of the frame: skb_protocol.
func (f *Frame) protocol() EtherType {
	if f.Tag != 0 {
		return f.Tag
	}
	return f.network()
}

// Env answers what filters cannot know.
type Env interface {
	// Unknown decides whether something that is not understood is so: that a
	// filter matches, or that an action drops the packet.
	Unknown(f *Filter, what string) bool
	// Pick chooses among alternatives with these probabilities.
	Pick(f *Filter, weights []float64) int
}

// Fate is what becomes of a frame.
type Fate uint8

// Fates.
const (
	Pass Fate = iota
	Drop
	Redirect // to Result.Device
	Opaque   // what Result.What names decides: an eBPF program, a change of the packet
)

// String is "pass", "drop", "redirect" or "unknown".
func (f Fate) String() string { return [...]string{"pass", "drop", "redirect", "unknown"}[f] }

// Result is the outcome of a hook.
type Result struct {
	Fate   Fate
	Filter *Filter // that decided; nil if none did
	// Device is where Redirect sends the frame: out of it, or in by it.
	Device string
	Inward bool
	What   string // with Opaque
}

// Filters are those of a namespace.
type Filters struct {
	blocks map[place]*block
	// queues are what the qdiscs of a device do by themselves.
	queues map[string][]*Filter
}

type place struct {
	dev  string
	hook Hook
}

// block holds the chains of filters that hang at one place. A frame starts in
// chain 0.
type block struct {
	chains map[uint32]*chain
}

// chain holds its filters by priority.
type chain struct{ prios []*prio }

// prio is an instance of a classifier: filters of one priority, which have the
// protocol and the kind in common.
type prio struct {
	pref     uint32
	protocol EtherType
	kind     string
	filters  []*Filter
	// hashed says that u32 has tables beside its root, which are not followed.
	hashed bool
}

// Filter is one filter.
type Filter struct {
	// Text names it as `tc filter show` does, or the queueing discipline that drops as a filter could.
	Text    string
	Qdisc   bool
	tests   []test
	actions []action
	masks   string // what flower looks at
}

// matches says whether all tests hold. Those that cannot be known are asked about
// if the others hold. goOn is false if the whole priority gives up on the packet.
func (f *Filter) matches(frame *Frame, env Env) (matches, goOn bool) {
	unknown := ""
	for i := range f.tests {
		switch t := &f.tests[i]; t.holds(frame) {
		case no:
			return false, true
		case maybe:
			unknown = t.what
		case beyond:
			return false, unknown != "" && !env.Unknown(f, unknown)
		}
	}
	return unknown == "" || env.Unknown(f, unknown), true
}

type tri uint8

const (
	no tri = iota
	yes
	maybe
	beyond // it looks behind the packet's end: u32_classify gives up
)

func is(b bool) tri {
	if b {
		return yes
	}
	return no
}

// test is one condition of a filter.
type test struct {
	what  string
	holds func(*Frame) tri
}

// untested is a condition that is not understood.
func untested(what string) test { return test{what, func(*Frame) tri { return maybe }} }

// At says whether any filters hang there.
func (s *Filters) At(dev string, hook Hook) bool {
	return s != nil && (s.blocks[place{dev, hook}] != nil || hook == Qdisc && s.queues[dev] != nil)
}

// Redirects lists where filters there may send frames of a protocol.
func (s *Filters) Redirects(dev string, hook Hook, protocol EtherType) []Result {
	if s == nil {
		return nil
	}
	b := s.blocks[place{dev, hook}]
	if b == nil {
		return nil
	}
	var list []Result
	for _, c := range b.chains {
		for _, p := range c.prios {
			if p.protocol != EtherAll && p.protocol != protocol {
				continue
			}
			for _, f := range p.filters {
				for _, a := range f.actions {
					if m, ok := a.do.(mirred); ok && m.redirect {
						list = append(list, Result{Fate: Redirect, Filter: f, Device: m.dev, Inward: m.inward})
					}
				}
			}
		}
	}
	return list
}

// maxReclassify bounds how often a packet starts a chain again:
// max_reclassify_loop.
const maxReclassify = 16

// Run lets the filters at a place look at a frame, and what is left of it come to the queue.
func (s *Filters) Run(dev string, hook Hook, f *Frame, env Env) Result {
	if !s.At(dev, hook) {
		return Result{}
	}
	res := s.blocks[place{dev, hook}].classify(f, env)
	if hook != Qdisc || res.Fate != Pass {
		return res
	}
	for _, q := range s.queues[dev] {
		if matches, _ := q.matches(f, env); !matches {
			continue
		}
		if o := q.act(f, env); o.verdict.kind != verdictContinue {
			return o.Result()
		}
	}
	return res
}

// classify is __tcf_classify.
func (b *block) classify(f *Frame, env Env) Result {
	if b == nil {
		return Result{}
	}
	at := b.chains[0]
	var last *Filter
	for range maxReclassify + 1 {
		res := at.run(f, env)
		switch res.verdict.kind {
		case verdictReclassify:
		case verdictGoto:
			at = b.chains[res.verdict.chain]
		default:
			return res.Result()
		}
		last = res.filter
	}
	return Result{Fate: Drop, Filter: last}
}

// run goes through a chain until a filter decides.
func (c *chain) run(f *Frame, env Env) outcome {
	if c == nil {
		return outcome{}
	}
	for _, p := range c.prios {
		if p.protocol != EtherAll && p.protocol != f.protocol() {
			continue
		}
		if o := p.classify(f, env); o.verdict.kind != verdictContinue {
			return o
		}
	}
	return outcome{}
}

// classify asks the filters of one priority in order.
func (p *prio) classify(f *Frame, env Env) outcome {
	if p.hashed && env.Unknown(p.filters[0], "hash tables of u32") {
		return outcome{p.filters[0], verdict{kind: verdictOpaque, what: "u32 with hash tables"}}
	}
	for i, filter := range p.filters {
		if p.hashed {
			break
		}
		matches, goOn := filter.matches(f, env)
		if !goOn {
			break
		}
		if !matches {
			continue
		}
		if p.kind != "flower" {
			if o := filter.act(f, env); o.verdict.kind != verdictContinue {
				return o
			}
			continue // u32_classify, fw_classify, basic_classify
		}
		// fl_classify goes by masks, in an order that no dump shows.
		for _, other := range p.filters[i+1:] {
			if matches, _ := other.matches(f, env); matches && other.masks != filter.masks && env.Unknown(other, "the order of filters of one priority") {
				filter = other
			}
		}
		return filter.act(f, env)
	}
	return outcome{}
}

// outcome is where a filter left the frame.
type outcome struct {
	filter  *Filter
	verdict verdict
}

// Result is what the hook makes of it: sch_handle_ingress, sch_handle_egress.
func (o outcome) Result() Result {
	r := Result{Filter: o.filter}
	switch o.verdict.kind {
	case verdictDrop:
		r.Fate = Drop
	case verdictRedirect:
		r.Fate, r.Device, r.Inward = Redirect, o.verdict.dev, o.verdict.inward
	case verdictOpaque:
		r.Fate, r.What = Opaque, o.verdict.what
	}
	return r
}
