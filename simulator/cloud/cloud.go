// Package cloud is the seam between the walk of a packet and the cloud whose
// network joins the nodes: where an interface of the cloud sends a packet, the
// cloud and not a wire carries it. A provider implements Fabric over its facts.
// Without one (provider: none), nodes are joined by what was collected alone.
//
// Like the simulator, a provider does no input or output, and keeps nothing between
// calls but what it is given: Sessions.
package cloud

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Fabric is the network of a provider: facts, and their semantics.
type Fabric interface {
	// Interface finds the cloud's interface that a device is: by its link-layer
	// address, or by an address of it that only one interface has.
	Interface(mac netstack.MAC, addrs []netip.Addr) (Interface, bool)
	// UnreadInterfaces explains that not all interfaces were read, so that any device that leads
	// out may be one; nil where all were.
	UnreadInterfaces() *verdict.Finding
	// Member finds the interface that a VLAN on a trunk stands for.
	Member(trunk string, vlan uint16) (Interface, bool)
	// Answers says whether the cloud itself takes packets for an address from the
	// Internet, and translates them.
	Answers(addr netip.Addr) bool
	// Unread explains why it may do so for an address for which Answers says no; nil
	// where all is known.
	Unread(addr netip.Addr) *verdict.Finding
	// Carry takes a packet from an interface, or from the Internet, and says where it
	// gets.
	Carry(x *Crossing) End
}

// Interface is one network interface of an instance, or of a pod.
type Interface struct {
	ID       string
	Instance string // that has it
	MAC      netstack.MAC
	Addrs    []netip.Addr
}

// Crossing is a packet on its way through the cloud, and how the cloud asks about
// what it cannot know and tells what it does.
type Crossing struct {
	From     Interface // without an ID: the Internet
	Packet   *netstack.Packet
	Reply    bool // of a connection that the other side began
	Sessions *Sessions
	// Home names the instances that an address is expected at, if that is known.
	Home func(netip.Addr) []string
	// Choose takes one of several ways with these probabilities.
	Choose func(key string, weights []float64) int
	// Doubt asks whether something that is not known stops the packet.
	Doubt func(verdict.Finding) bool
	// Step tells what decided, and Note what somebody should know of it.
	Step func(stage, action, rule string)
	Note func(verdict.Finding)
	// Translated tells of a new address.
	Translated func(kind, where, from, to, rule string)
}

// EndKind is what became of a packet.
type EndKind uint8

// Kinds of ends.
const (
	Delivered EndKind = iota // to an interface
	Left                     // to the Internet, or to a network beside it
	Dropped
	Undecided
)

// End is what became of a packet.
type End struct {
	Kind    EndKind
	To      Interface // with Delivered
	Finding verdict.Finding
	Via     string // with Left: by what
}

// Sessions is what the cloud remembers of a connection: which stateful filters have
// admitted it, and what its translators made of it.
type Sessions struct {
	admitted   []admission
	translated []translation
}

type admission struct {
	at    string
	tuple Tuple
}

type translation struct {
	at            string
	before, after Tuple
}

// Tuple is what tells one connection from others.
type Tuple struct {
	Src, Dst         netip.Addr
	Protocol         netstack.Protocol
	SrcPort, DstPort uint16
}

// TupleOf is that of a packet; an echo has its identifier for both ports.
func TupleOf(p *netstack.Packet) Tuple {
	t := Tuple{p.Src, p.Dst, p.Protocol, p.SrcPort, p.DstPort}
	if p.Protocol == netstack.ProtoICMP || p.Protocol == netstack.ProtoICMPv6 {
		t.DstPort = t.SrcPort
	}
	return t
}

func (t Tuple) reverse() Tuple {
	return Tuple{t.Dst, t.Src, t.Protocol, t.DstPort, t.SrcPort}
}

// apply gives a packet the addresses of a tuple.
func (t Tuple) apply(p *netstack.Packet) {
	p.Src, p.Dst, p.SrcPort = t.Src, t.Dst, t.SrcPort
	if p.HasPorts() {
		p.DstPort = t.DstPort
	}
}

// Reset forgets everything.
func (s *Sessions) Reset() { s.admitted, s.translated = s.admitted[:0], s.translated[:0] }

// Admit remembers that a filter has let the first packet of a connection pass.
func (s *Sessions) Admit(at string, p *netstack.Packet) {
	s.admitted = append(s.admitted, admission{at, TupleOf(p)})
}

// Admitted says whether a filter knows the packet's connection, in either
// direction, or that of the packet which an error is about.
func (s *Sessions) Admitted(at string, p *netstack.Packet) bool {
	if p.Embedded != nil {
		p = p.Embedded
	}
	t := TupleOf(p)
	r := t.reverse()
	for _, a := range s.admitted {
		if a.at == at && (a.tuple == t || a.tuple == r) {
			return true
		}
	}
	return false
}

// Translate remembers what a translator made of a packet.
func (s *Sessions) Translate(at string, before Tuple, p *netstack.Packet) {
	s.translated = append(s.translated, translation{at, before, TupleOf(p)})
}

// Again translates a packet as the one before it of the same connection, and
// says by what.
func (s *Sessions) Again(p *netstack.Packet) (at string, ok bool) {
	t := TupleOf(p)
	for _, n := range s.translated {
		if n.before == t {
			n.after.apply(p)
			return n.at, true
		}
	}
	return "", false
}

// Restore undoes a translation for the answer to what was translated, the last one
// first.
func (s *Sessions) Restore(p *netstack.Packet) (at string, ok bool) {
	t := TupleOf(p)
	for i := len(s.translated) - 1; i >= 0; i-- {
		if n := s.translated[i]; n.after.reverse() == t {
			n.before.reverse().apply(p)
			return n.at, true
		}
	}
	return "", false
}
