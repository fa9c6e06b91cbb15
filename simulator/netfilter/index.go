package netfilter

import (
	"cmp"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// A long chain is indexed: a packet meets only the rules that could match it,
// in the order of the chain. The index knows of most rules one condition that
// a look-up can test, like an exact destination address; rules that have none
// are met by every packet.

// keyField is something of a packet that rules compare with a constant.
type keyField uint8

const (
	keyNone keyField = iota
	keyDst
	keySrc
	keyDstPort
	keySrcPort
	keyProtocol
	keyMark
	keyIn
	keyOut
)

// dimension is a field under a mask: prefixes of one length share one.
type dimension struct {
	field keyField
	mask  u128
}

// selector is a necessary condition: when the packet's value in the dimension
// is another, the match answers no. (Not maybe: that would have to be asked.)
type selector struct {
	dimension
	value u128
}

// selective is a matcher that has a selector.
type selective interface {
	matcher
	selector() (selector, bool)
}

var allBits = u128{^uint64(0), ^uint64(0)}

func (x *traversal) key(d *dimension) u128 {
	var v u128
	switch d.field {
	case keyDst:
		v = x.dst
	case keySrc:
		v = x.src
	case keyDstPort:
		v.lo = uint64(x.p.DstPort)
	case keySrcPort:
		v.lo = uint64(x.p.SrcPort)
	case keyProtocol:
		v.lo = uint64(x.p.Protocol)
	case keyMark:
		v.lo = uint64(x.p.Mark)
	case keyIn:
		v = nameBits(x.st.In)
	case keyOut:
		v = nameBits(x.st.Out)
	}
	return v.and(d.mask)
}

const (
	// minIndexed is the length of the shortest chain that is worth an index.
	minIndexed = 12
	// maxDimensions bounds the look-ups that a packet costs.
	maxDimensions = 6
	// minValues is how many different values make a dimension worth a look-up.
	minValues = 4
)

// chainIndex holds each rule of a chain in one list. Lists are in the order of
// the chain, and linked by number: that of a rule from 1, 0 for the end.
type chainIndex struct {
	dims  []dimension
	first []map[u128]int32 // of each dimension: by value, the first rule
	rest  int32            // the first rule that no dimension holds
	next  []int32          // by rule, the next one in its list
}

// buildIndex indexes the chain if that pays.
func (c *chain) buildIndex() {
	if len(c.rules) < minIndexed {
		return
	}
	values := make(map[selector]int)
	distinct := make(map[dimension]int)
	var dims []dimension
	for i := range c.rules {
		for s := range c.rules[i].selectors {
			if values[s]++; values[s] > 1 {
				continue
			}
			if distinct[s.dimension]++; distinct[s.dimension] == 1 {
				dims = append(dims, s.dimension)
			}
		}
	}
	dims = slices.DeleteFunc(dims, func(d dimension) bool { return distinct[d] < minValues })
	slices.SortStableFunc(dims, func(a, b dimension) int { return cmp.Compare(distinct[b], distinct[a]) })
	dims = dims[:min(len(dims), maxDimensions)]
	if len(dims) == 0 {
		return
	}
	ix := &chainIndex{dims: dims, first: make([]map[u128]int32, len(dims)), next: make([]int32, len(c.rules)+1)}
	for d := range dims {
		ix.first[d] = make(map[u128]int32, distinct[dims[d]])
	}
	for i := len(c.rules) - 1; i >= 0; i-- {
		r := &c.rules[i]
		if len(r.steps) == 0 {
			continue // it does nothing
		}
		// Of several conditions the rarest leaves the fewest rules to meet.
		list, best := -1, selector{}
		for s := range r.selectors {
			if d := slices.Index(dims, s.dimension); d >= 0 && (list < 0 || values[s] < values[best]) {
				list, best = d, s
			}
		}
		number := int32(i + 1)
		if list < 0 {
			ix.next[number], ix.rest = ix.rest, number
		} else {
			ix.next[number] = ix.first[list][best.value]
			ix.first[list][best.value] = number
		}
	}
	c.index = ix
}

// selectors yields the necessary conditions of the rule's first step: nothing
// of the rule happens without that.
func (r *rule) selectors(yield func(selector) bool) {
	if len(r.steps) == 0 {
		return
	}
	for _, m := range r.steps[0].matches {
		if m, ok := m.(selective); ok {
			if s, ok := m.selector(); ok && !yield(s) {
				return
			}
		}
	}
}

// cursor stands in a list of rules.
type cursor struct {
	key  u128 // the packet's value in the dimension
	next int32
}

// runIndexed does what run does with the rules that could match.
func (x *traversal) runIndexed(c *chain) outcome {
	ix := c.index
	var all [maxDimensions + 1]cursor
	cursors := all[:len(ix.dims)+1]
	for d := range ix.dims {
		key := x.key(&ix.dims[d])
		cursors[d] = cursor{key, ix.first[d][key]}
	}
	cursors[len(ix.dims)].next = ix.rest
	for {
		at := -1
		for d := range cursors {
			if n := cursors[d].next; n != 0 && (at < 0 || n < cursors[at].next) {
				at = d
			}
		}
		if at < 0 {
			return outcome{}
		}
		number := cursors[at].next
		cursors[at].next = ix.next[number]
		acted := x.acted
		if out, over := x.apply(c, &c.rules[number-1]); over {
			return out
		}
		if x.acted == acted {
			continue
		}
		// What the rule did may have changed which of the rules after it match.
		for d := range ix.dims {
			key := x.key(&ix.dims[d])
			if key == cursors[d].key {
				continue
			}
			next := ix.first[d][key]
			for next != 0 && next <= number {
				next = ix.next[next]
			}
			cursors[d] = cursor{key, next}
		}
	}
}

// The matchers that have selectors.

func (m *addrMatch) selector() (selector, bool) {
	d := dimension{keyDst, m.mask}
	if m.src {
		d.field = keySrc
	}
	return selector{d, m.value}, !m.invert
}

func (m *ifaceMatch) selector() (selector, bool) {
	d := dimension{keyOut, allBits}
	if m.in {
		d.field = keyIn
	}
	if m.prefix {
		d.mask = prefixMask(8*len(m.name), 128)
	}
	return selector{d, nameBits(m.name)}, !m.invert && m.name != ""
}

func (m *protoMatch) selector() (selector, bool) {
	return selector{dimension{keyProtocol, allBits}, u128{lo: uint64(m.proto)}}, !m.invert
}

func (m *portMatch) selector() (selector, bool) {
	if m.invert || m.side == portEither || len(m.ranges) != 1 || m.ranges[0].First != m.ranges[0].Last {
		return selector{}, false
	}
	d := dimension{keyDstPort, allBits}
	if m.side == portSrc {
		d.field = keySrcPort
	}
	return selector{d, u128{lo: uint64(m.ranges[0].First)}}, true
}

func (m *markMatch) selector() (selector, bool) {
	return selector{dimension{keyMark, u128{lo: uint64(m.mask)}}, u128{lo: uint64(m.value)}}, !m.invert
}

// place is where a header has a field.
type place struct {
	base           headerBase
	etherType      uint16
	protocol       netstack.Protocol
	offset, length int // in bits
}

func (f *nftField) place() place {
	return place{f.base, f.etherType, f.protocol, f.offset, f.length}
}

// key is the field of a packet that a field of a header is, if there is a key
// for it. A port belongs to a protocol: without one, the bytes may be of any
// header.
func (f *nftField) key() keyField {
	switch f.place() {
	case place{baseNetwork, etherTypeIPv4, 0, 96, 32}, place{baseNetwork, etherTypeIPv6, 0, 64, 128}:
		return keySrc
	case place{baseNetwork, etherTypeIPv4, 0, 128, 32}, place{baseNetwork, etherTypeIPv6, 0, 192, 128}:
		return keyDst
	case place{baseTransport, 0, netstack.ProtoTCP, 0, 16}, place{baseTransport, 0, netstack.ProtoUDP, 0, 16}:
		return keySrcPort
	case place{baseTransport, 0, netstack.ProtoTCP, 16, 16}, place{baseTransport, 0, netstack.ProtoUDP, 16, 16}:
		return keyDstPort
	}
	return keyNone
}

func (m *nftMatch) selector() (selector, bool) {
	if m.op != opEqual || m.set != nil || len(m.key.parts) != 1 {
		return selector{}, false
	}
	e := &m.key.parts[0]
	field, mask := e.key, allBits
	switch {
	case e.field != nil:
		field = e.field.key()
	case field == keyMark:
		mask = u128{lo: uint64(e.mask)}
	}
	// A prefix is a span of which the ends differ in the last bits only.
	first := m.values.first
	host := first.xor(m.values.last)
	if field == keyNone || host.and(host.plus(1)) != (u128{}) || first.and(host) != (u128{}) {
		return selector{}, false
	}
	return selector{dimension{field, mask.and(host.not())}, first}, true
}
