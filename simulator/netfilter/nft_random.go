package netfilter

import (
	"cmp"
	"math/bits"
	"slices"
)

// nftRandom is a number that the kernel draws: all of its sides are as likely.
type nftRandom struct {
	name          string
	sides, offset uint64
	// ofFlow says that it is a hash with a secret: the same for all packets of
	// a flow, and for all rules that take it.
	ofFlow bool
}

const (
	// maxDrawn bounds how many sides are walked one by one.
	maxDrawn = 64
	// maxRolled bounds how many sides are looked up in a set.
	maxRolled = 1 << 16
)

// random compiles numgen, jhash and symhash.
func (p *nftParser) random(kind string, n *jsonNode) (nftExpr, error) {
	sides, ok := n.number("mod")
	offset, _ := n.number("offset")
	if !ok || sides < 1 || sides > 1<<32 || offset < 0 {
		return nftExpr{}, p.errorf(n, "%s has no modulus", kind)
	}
	r := &nftRandom{name: kind, sides: uint64(sides), offset: uint64(offset), ofFlow: kind != "numgen"}
	e := nftExpr{name: kind, bits: 32, random: r}
	e.get = func(*traversal) (u128, tri) { return u128{}, maybe }
	if kind != "jhash" {
		return e, nil
	}
	keyNode := n.get("expr")
	if keyNode == nil {
		return nftExpr{}, p.errorf(n, "jhash of nothing")
	}
	key, err := p.keyExpr(keyNode)
	if err != nil {
		return nftExpr{}, err
	}
	e.name += " " + key.name()
	r.name = e.name
	seed, ok := n.number("seed")
	if !ok || !key.hashable() {
		return e, nil
	}
	e.random = nil
	e.get = func(x *traversal) (u128, tri) {
		var k nftKey
		if res := key.eval(x, &k); res != yes {
			return u128{}, res
		}
		// nft_jhash_eval, with reciprocal_scale.
		h := jhash(key.register(&k), uint32(seed))
		return word(uint64(h)*r.sides>>32 + r.offset)
	}
	return e, nil
}

// hashable says whether the bytes of the key in the kernel's registers are
// known: those of header fields are.
func (k *nftKeyExpr) hashable() bool {
	return !slices.ContainsFunc(k.parts, func(e nftExpr) bool { return e.bits == 0 || e.bits%8 != 0 || e.hostOrder })
}

// register writes a key as it stands in the kernel's registers: parts of a
// concatenation are padded to 32 bits.
func (k *nftKeyExpr) register(key *nftKey) []byte {
	var b []byte
	for i := range k.parts {
		n := k.parts[i].bits / 8
		for at := n - 1; at >= 0; at-- {
			b = append(b, byte(key[i].shiftRight(uint(8*at)).lo))
		}
		for len(k.parts) > 1 && len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// jhash is the kernel's (include/linux/jhash.h), on a little-endian machine.
func jhash(k []byte, seed uint32) uint32 {
	a := 0xdeadbeef + uint32(len(k)) + seed
	b, c := a, a
	word := func(at int) (v uint32) {
		for i := range min(4, max(len(k)-at, 0)) {
			v |= uint32(k[at+i]) << (8 * i)
		}
		return v
	}
	for len(k) > 12 {
		a, b, c = a+word(0), b+word(4), c+word(8)
		for _, r := range [2][3]int{{4, 6, 8}, {16, 19, 4}} {
			a = (a - c) ^ bits.RotateLeft32(c, r[0])
			c += b
			b = (b - a) ^ bits.RotateLeft32(a, r[1])
			a += c
			c = (c - b) ^ bits.RotateLeft32(b, r[2])
			b += a
		}
		k = k[12:]
	}
	if len(k) == 0 {
		return c
	}
	a, b, c = a+word(0), b+word(4), c+word(8)
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return c
}

// drawKey remembers what was drawn for a flow: by which number, for what.
type drawKey struct {
	by   any
	flow Tuple
}

// flow identifies the packet's flow, whichever way it runs.
func (x *traversal) flow() Tuple {
	t := tupleOf(x.p)
	inv := Tuple{Src: t.Dst, Dst: t.Src, Protocol: t.Protocol, SrcPort: t.DstPort, DstPort: t.SrcPort}
	if cmp.Or(t.Src.Compare(t.Dst), cmp.Compare(t.SrcPort, t.DstPort)) > 0 {
		return inv
	}
	return t
}

// pick rolls dice; a hash of the flow falls the same way for all of its packets.
func (x *traversal) pick(r *nftRandom, by any, weights []float64) int {
	if len(weights) == 1 {
		return 0
	}
	if !r.ofFlow || x.st.Conntrack == nil {
		return x.env.Pick(x.place(), weights)
	}
	key := drawKey{by, x.flow()}
	if taken, known := x.st.Conntrack.drawn[key]; known {
		return taken
	}
	taken := x.env.Pick(x.place(), weights)
	if x.st.Conntrack.drawn == nil {
		x.st.Conntrack.drawn = make(map[drawKey]int)
	}
	x.st.Conntrack.drawn[key] = taken
	return taken
}

// draw picks a side; it says false when there are too many.
func (x *traversal) draw(r *nftRandom) (uint64, bool) {
	if r.sides > maxDrawn {
		return 0, false
	}
	weights := make([]float64, r.sides)
	for i := range weights {
		weights[i] = 1 / float64(r.sides)
	}
	return r.offset + uint64(x.pick(r, *r, weights)), true
}

// roll lets the Env choose among the elements of a set that a random number
// may hit. It returns the index of the element, or -1 for none of them.
func (x *traversal) roll(r *nftRandom, s *nftSet) (int, tri) {
	if r.sides > maxRolled {
		return -1, maybe
	}
	counts := make(map[int]int)
	var order []int
	for side := range r.sides {
		i, res := x.lookup(s, &nftKey{{lo: r.offset + side}})
		if res == maybe {
			return -1, maybe
		}
		if counts[i] == 0 {
			order = append(order, i)
		}
		counts[i]++
	}
	if r.ofFlow && len(order) > 1 {
		if side, ok := x.draw(r); ok {
			return x.lookup(s, &nftKey{{lo: side}})
		}
	}
	weights := make([]float64, len(order))
	for w, i := range order {
		weights[w] = float64(counts[i]) / float64(r.sides)
	}
	i := order[x.pick(r, s, weights)]
	return i, is(i >= 0)
}

// share is the part of the sides for which the comparison holds.
func (r *nftRandom) share(m *nftMatch) float64 {
	last := r.offset + r.sides - 1
	// within counts the sides between two ends.
	within := func(first, end uint64) float64 {
		first, end = max(first, r.offset), min(end, last)
		if first > end {
			return 0
		}
		return float64(end-first+1) / float64(r.sides)
	}
	low, high := m.values.first, m.values.last
	if low.hi != 0 {
		low.lo = ^uint64(0)
	}
	if high.hi != 0 {
		high.lo = ^uint64(0)
	}
	switch m.op {
	case opNotEqual:
		return 1 - within(low.lo, high.lo)
	case opLess:
		return 1 - within(low.lo, last)
	case opLessEqual:
		return within(0, high.lo)
	case opGreater:
		return 1 - within(0, high.lo)
	case opGreaterEqual:
		return within(low.lo, last)
	}
	return within(low.lo, high.lo)
}
