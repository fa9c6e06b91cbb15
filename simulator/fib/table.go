package fib

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// table finds the routes of a destination, longest prefix first. For each
// prefix length in use there is a hash of prefixes: with at most 33 (129)
// lengths, and seldom more than five in use, this is as good as a trie. A controller
// has the tables of all nodes, each with a route to each other: a route takes 16 bytes or so here.
type table struct {
	levels []level // longest prefix first
}

// level has the prefixes of one length.
type level struct {
	bits int
	mask key128
	// routes are those of one prefix next to each other, in the order of compareRoutes.
	routes []*netstack.Route
	// slots are a hash table of prefixes that is at most two thirds full: the next free
	// slot ends a search. Slots are a power of two.
	slots []slot
	size  uint8 // the power
}

// slot is where in routes those of a prefix are; 0 when it is free. From the lowest bit on it has
// whether there are several routes, the number of the first plus 1, in as many bits as a table has
// slots, and as much of the prefix' hash as there is room for: other prefixes are seldom looked at.
type slot uint32

const several slot = 1

func (l *level) first(s slot) int { return int(s>>1&(1<<l.size-1)) - 1 }

// key128 is an address as two numbers; an IPv4 address is in the high bits of
// the first.
type key128 struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key128 {
	if !a.IsValid() {
		return key128{}
	}
	if a.Is4() {
		b := a.As4()
		return key128{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return key128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func maskOf(bits int) key128 {
	if bits <= 64 {
		return key128{hi: ^(^uint64(0) >> bits)}
	}
	return key128{hi: ^uint64(0), lo: ^(^uint64(0) >> (bits - 64))}
}

// hash spreads prefixes over numbers, of which the high bits count.
func (k key128) hash() uint64 {
	h := k.hi*0x9e3779b97f4a7c15 ^ bits.RotateLeft64(k.lo*0xc2b2ae3d27d4eb4f, 32)
	h ^= h >> 32
	return h * 0xd6e8feb86659fd93
}

func (k key128) compare(o key128) int {
	return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo))
}

func (k key128) and(m key128) key128 { return key128{k.hi & m.hi, k.lo & m.lo} }

// cidr is a prefix made ready to be compared; the zero value contains
// everything.
type cidr struct {
	bits       int
	base, mask key128
}

func newCIDR(p netip.Prefix) cidr {
	if !p.IsValid() {
		return cidr{}
	}
	mask := maskOf(p.Bits())
	return cidr{bits: p.Bits(), base: keyOf(p.Addr()).and(mask), mask: mask}
}

// contains says whether the prefix holds the address.
func (c *cidr) contains(a key128) bool { return a.and(c.mask) == c.base }

// add takes in a route. Nothing is found before index.
func (t *table) add(r *netstack.Route) {
	length := r.Dst.Bits()
	at := slices.IndexFunc(t.levels, func(l level) bool { return l.bits == length })
	if at < 0 {
		at = len(t.levels)
		t.levels = append(t.levels, level{bits: length, mask: maskOf(length)})
	}
	t.levels[at].routes = append(t.levels[at].routes, r)
}

// index makes ready for look-ups.
func (t *table) index() {
	slices.SortFunc(t.levels, func(a, b level) int { return cmp.Compare(b.bits, a.bits) })
	for i := range t.levels {
		t.levels[i].index()
	}
}

func (l *level) index() {
	l.routes = append([]*netstack.Route(nil), l.routes...) // which grew, and had room
	l.size = uint8(bits.Len(uint(len(l.routes)*3/2 + 1)))
	l.slots = make([]slot, 1<<l.size)
	if l.fill() {
		return
	}
	slices.SortStableFunc(l.routes, func(a, b *netstack.Route) int {
		return cmp.Or(l.prefixOf(a).compare(l.prefixOf(b)), compareRoutes(a, b))
	})
	clear(l.slots)
	l.fill()
}

// fill enters all routes, and says whether those of each prefix are next to each
// other for sure: whether no prefix has several.
func (l *level) fill() bool {
	unique := true
	for i, r := range l.routes {
		if s, tag := l.slot(l.prefixOf(r)); *s == 0 {
			*s = tag | slot(i+1)<<1
		} else {
			*s |= several
			unique = false
		}
	}
	return unique
}

func (l *level) prefixOf(r *netstack.Route) key128 { return keyOf(r.Dst.Addr()).and(l.mask) }

// slot returns that of a prefix, or the free one where it would be, and what it has of the hash.
func (l *level) slot(prefix key128) (s *slot, tag slot) {
	hash := prefix.hash()
	tag = slot(hash) << (l.size + 1)
	for i := hash >> (64 - l.size); ; i++ {
		s = &l.slots[i&uint64(len(l.slots)-1)]
		if *s == 0 || (*s^tag)>>(l.size+1) == 0 && l.prefixOf(l.routes[l.first(*s)]) == prefix {
			return s, tag
		}
	}
}

// find returns the routes of a prefix.
func (l *level) find(prefix key128) []*netstack.Route {
	at, _ := l.slot(prefix)
	s := *at
	if s == 0 {
		return nil
	}
	routes := l.routes[l.first(s):]
	n := 1
	if s&several != 0 {
		n, _ = slices.BinarySearchFunc(routes, prefix, func(r *netstack.Route, prefix key128) int {
			if l.prefixOf(r) == prefix {
				return -1
			}
			return 1
		})
	}
	return routes[:n:n]
}

// mergeTables joins two tables, either of which may be nil.
func mergeTables(tables ...*table) *table {
	merged := &table{}
	for _, t := range tables {
		if t == nil {
			continue
		}
		for i := range t.levels {
			for _, r := range t.levels[i].routes {
				merged.add(r)
			}
		}
	}
	return merged
}

func (t *table) lookup(f *FIB, at int, q *query) Result {
	if at == 1 {
		return t.lookupIPv6(f, q)
	}
	return t.lookupIPv4(f, q)
}

// lookupIPv4 is fib_table_lookup. A route by a nexthop object that does not serve ends the search in its leaf of the trie,
// where prefixes that begin with the same address are: 10.0.0.0/8 and 10.0.0.0/7.
func (t *table) lookupIPv4(f *FIB, q *query) Result {
	dst := q.dst
	var missed key128
	misses := false
	for i := range t.levels {
		l := &t.levels[i]
		prefix := dst.and(l.mask)
		if misses && prefix == missed {
			continue
		}
		routes := l.find(prefix)
		for j, r := range routes {
			if r.TOS != 0 && r.TOS != q.TOS&legacyTOS || r.Scope < q.scope {
				continue
			}
			if res, ok := f.useIPv4(r, q); ok {
				if l.bits == 0 && defaultsCompete(routes[j:]) {
					res.Unknown = "several default routes of the same metric, of which the kernel tries which one lives"
				}
				return res
			}
			if r.NextHopID != 0 {
				missed, misses = prefix, true
				break
			}
		}
	}
	return Result{}
}

// defaultsCompete says whether fib_select_default chooses among the default
// routes from the first one on.
func defaultsCompete(routes []*netstack.Route) bool {
	if len(routes) < 2 {
		return false
	}
	a, b := routes[0], routes[1]
	return a.Table == b.Table && a.Metric == b.Metric && a.TOS == b.TOS && a.Type == netstack.RouteUnicast && b.Type == a.Type &&
		len(a.NextHops) == 1 && len(b.NextHops) == 1 && a.NextHops[0].Gateway.IsValid() && b.NextHops[0].Gateway.IsValid()
}

// lookupIPv6 is fib6_table_lookup: among the routes of a prefix those with the
// longest source prefix, the lowest metric and the best score win. A host that
// does not forward prefers routers that are not known to be dead.
func (t *table) lookupIPv6(f *FIB, q *query) Result {
	strict := !f.forwards
	if res := t.descend(f, q, strict); res.Route != nil || !strict {
		return res
	}
	return t.descend(f, q, false)
}

func (t *table) descend(f *FIB, q *query, reachable bool) Result {
	dst := q.dst
	found := false
	for i := range t.levels {
		l := &t.levels[i]
		routes := l.find(dst.and(l.mask))
		if len(routes) == 0 {
			continue
		}
		sourced := sourceBits(routes[0]) > 0
		for len(routes) > 0 {
			n := 1
			for n < len(routes) && routes[n].Src == routes[0].Src {
				n++
			}
			node := routes[:n]
			routes = routes[n:]
			switch bits := sourceBits(node[0]); {
			case bits > 0 && !(q.Src.IsValid() && node[0].Src.Contains(q.Src)):
				continue
			case bits == 0 && sourced && !found && l.bits > 0:
				// fib6_node_lookup_1 does not look past the sources of a prefix that
				// has some; fib6_backtrack, later, does.
				continue
			}
			found = true
			if res, ok := f.selectIPv6Route(node, q, reachable); ok {
				return res
			}
		}
	}
	return Result{}
}
