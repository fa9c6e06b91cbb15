package netfilter

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// handles are what the kernel calls rules of nftables, which is another number on each
// node, where all else may be the same. Rules that were written one after another mostly have numbers
// that follow each other, so that differences take a byte.
type handles struct {
	pages []handlePage // by their numbers
	// packed are the handles of each page: each as its difference from the one before.
	packed []byte
}

// handlePage is for 64 rules whose numbers follow each other.
type handlePage struct {
	number uint64 // that of the first rule, divided by 64
	there  uint64 // the rules that the rule set has
	at     int    // in packed
}

// ruleHandle is the handle of the rule with a number.
type ruleHandle struct {
	rule   uint64
	handle uint32
}

// packHandles makes list, of which the order is not kept, small.
func packHandles(list []ruleHandle) (h handles) {
	slices.SortFunc(list, func(a, b ruleHandle) int { return cmp.Compare(a.rule, b.rule) })
	last := uint32(0)
	for _, r := range list {
		number, bit := r.rule/64, uint64(1)<<(r.rule%64)
		if len(h.pages) == 0 || h.pages[len(h.pages)-1].number != number {
			h.pages, last = append(h.pages, handlePage{number: number, at: len(h.packed)}), 0
		}
		h.pages[len(h.pages)-1].there |= bit
		h.packed, last = binary.AppendVarint(h.packed, int64(r.handle)-int64(last)), r.handle
	}
	return handles{slices.Clip(h.pages), slices.Clip(h.packed)}
}

// of returns the handle of a rule; 0 for one whose text tells it.
func (h *handles) of(c *chain, number int) uint32 {
	if c.first == 0 || number == 0 {
		return 0
	}
	rule := c.first + uint64(number) - 1
	i, ok := slices.BinarySearchFunc(h.pages, rule/64, func(p handlePage, number uint64) int { return cmp.Compare(p.number, number) })
	if !ok || h.pages[i].there>>(rule%64)&1 == 0 {
		return 0
	}
	handle, packed := int64(0), h.packed[h.pages[i].at:]
	for range bits.OnesCount64(h.pages[i].there << (63 - rule%64)) { // those up to this one
		difference, n := binary.Varint(packed)
		handle, packed = handle+difference, packed[n:]
	}
	return uint32(handle)
}
