package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// TellsSegmentsApart says whether the rules may treat two segments of one
// established TCP connection differently: they look at a length, at PSH or at
// raw bytes, or what one segment leaves behind decides about the next. Without
// such rules one segment in each direction stands for all.
func (rs *Ruleset) TellsSegmentsApart() bool { return rs.segments }

func (c *compiler) tellsSegmentsApart() { c.rs.segments = true }

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
			c.tellsSegmentsApart()
		}
	case baseTransport:
		if (f.protocol == 0 || f.protocol == netstack.ProtoTCP) && overlaps(104, 111) {
			c.tellsSegmentsApart()
		}
	}
}
