package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// TellsSegmentsApart says whether the rules may treat two segments of one
// established TCP connection differently: they look at a length, at PSH or at
// raw bytes, or what one segment leaves behind decides about the next. Without
// such rules one segment in each direction stands for all.
func (rs *Ruleset) TellsSegmentsApart() bool { return rs.segments }

func (c *compiler) tellsSegmentsApart() { c.rs.segments = true }

// looksAtLength notes a look at the length of an IP packet.
func (c *compiler) looksAtLength() {
	c.lengths++
	c.tellsSegmentsApart()
}

// looksAtFlags notes a look at flags of TCP.
func (c *compiler) looksAtFlags(mask netstack.TCPFlags) {
	if mask&netstack.PSH != 0 {
		c.tellsSegmentsApart()
	}
}

// looksAt notes a look at a field of a header: all but the length of an IP
// packet and the flags of TCP is the same in all segments, or not known.
func (c *compiler) looksAt(f *nftField) {
	overlaps := func(first, last int) bool { return f.offset <= last && first < f.offset+f.length }
	switch f.base {
	case baseNetwork:
		if f.etherType != etherTypeIPv6 && overlaps(16, 31) || f.etherType != etherTypeIPv4 && overlaps(32, 47) {
			c.looksAtLength()
		}
	case baseTransport:
		if (f.protocol == 0 || f.protocol == netstack.ProtoTCP) && overlaps(104, 111) {
			c.tellsSegmentsApart()
		}
	}
}

// anyLength is a condition on the length of an IP packet. Segments that TCP sends at
// once pass rules as one packet (GSO): how many there are is not known, and only matters
// where the condition does not hold, or hold, for any number of them.
type anyLength struct{ decider }

const maxLength = 65535 // of an IP packet

func (m anyLength) match(x *traversal) tri {
	size, length := x.p.GSOSize, x.p.Length
	if size == 0 {
		return m.decider.match(x)
	}
	defer func() { x.p.GSOSize, x.p.Length = size, length }()
	x.p.GSOSize = 0
	result := m.decider.match(x)
	for x.p.Length += int(size); x.p.Length <= maxLength; x.p.Length += int(size) {
		if m.decider.match(x) != result {
			return maybe
		}
	}
	return result
}

func (m anyLength) decide(x *traversal) bool {
	if size := x.p.GSOSize; size != 0 {
		defer func() { x.p.GSOSize = size }()
		x.p.GSOSize = 0
		if m.decider.match(x) != maybe {
			return x.env.Unknown(x.ref(), "length of segments that are sent at once")
		}
	}
	return m.decider.decide(x)
}
