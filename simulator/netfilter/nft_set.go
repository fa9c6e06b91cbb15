package netfilter

import (
	"cmp"
	"errors"
	"hash/maphash"
	"slices"
)

// maxConcat is how many parts a concatenation may have in practice.
const maxConcat = 5

// nftKey is the value of a key: one part, or several concatenated.
type nftKey [maxConcat]u128

// nftSet is a set, map or verdict map, named or anonymous.
type nftSet struct {
	name  string
	types []nftType
	// unknown says why look-ups cannot be answered; empty when they can.
	unknown  string
	isMap    bool
	dataType string
	*nftElements
	// dynamic says that rules add elements; size is how many there may be, 0
	// when there is no bound.
	dynamic bool
	size    int
}

// nftElements are what is in a set. Sets of several rule sets may have the same.
type nftElements struct {
	// exact holds elements without ranges, ranges the others; both give an
	// index into data, which has one for each element.
	exact  map[nftKey]int
	ranges []nftRange
	// catchAll is the index of the element "*", or -1.
	catchAll int
	data     []nftData
}

type nftRange struct {
	first, last nftKey
	index       int
	reach       u128 // the largest end in the first dimension, up to this range
}

// nftData is what a map gives for an element.
type nftData struct {
	verdict *verdictAction
	node    *jsonNode // of other maps: read by the rules that use it, and not kept
	// stateful says that a limit, quota or the like of the element's own has a
	// say in whether it matches.
	stateful bool
}

func newNFTSet(name string) *nftSet {
	return &nftSet{name: name, nftElements: &nftElements{catchAll: -1}}
}

// setType reads the type of a set's keys: names of types, or since nftables
// 1.1 an expression that has it.
func (p *nftParser) setType(s *nftSet, n *jsonNode) error {
	if key, arg, ok := n.get("type").member(); ok && key == "typeof" {
		expr, err := p.keyExpr(arg)
		var reason notModelled
		if errors.As(err, &reason) {
			s.unknown = "set type " + string(reason)
			return nil
		}
		s.types = expr.types()
		return err
	}
	types := n.strings("type")
	for _, t := range types {
		typ, ok := nftSetTypes[t]
		if !ok {
			s.unknown = "set type " + t
		}
		s.types = append(s.types, typ)
	}
	if len(types) == 0 || len(types) > maxConcat {
		s.unknown = "set type"
	}
	return nil
}

// fillSet reads the elements of a set or map.
func (p *nftParser) fillSet(s *nftSet, list *jsonNode) error {
	if list == nil || s.unknown != "" {
		return nil
	}
	if list.kind != jsonArray {
		return p.errorf(list, "elements are not a list")
	}
	s.data = slices.Grow(s.data, len(list.list))
	for i := range list.list {
		n := &list.list[i]
		key := n
		var data nftData
		if s.isMap {
			if n.kind != jsonArray || len(n.list) != 2 {
				return p.errorf(n, "an element of a map is a list of key and value")
			}
			key = &n.list[0]
			var err error
			if data, err = p.mapData(s, &n.list[1]); err != nil {
				return err
			}
		}
		if err := p.addElement(s, key, data); err != nil {
			if reason, ok := err.(notModelled); ok {
				s.unknown = string(reason)
				return nil
			}
			return err
		}
	}
	s.sortRanges()
	return nil
}

func (p *nftParser) mapData(s *nftSet, n *jsonNode) (nftData, error) {
	v, err := p.verdict(n)
	if err != nil {
		return nftData{}, err
	}
	if v == nil && s.dataType == "verdict" {
		return nftData{}, p.errorf(n, "unknown verdict")
	}
	if v != nil {
		return nftData{verdict: v}, nil
	}
	return nftData{node: n}, nil
}

func (p *nftParser) addElement(s *nftSet, n *jsonNode, data nftData) error {
	if key, arg, ok := n.only(); ok && key == "elem" {
		val := arg.get("val")
		if val == nil {
			return p.errorf(arg, "element has no value")
		}
		for _, k := range arg.keys {
			switch k {
			case "limit", "quota", "ct count", "connlimit":
				data.stateful = true
			}
		}
		n = val
	}
	index := len(s.data)
	s.data = append(s.data, data)
	if n.kind == jsonString && n.text == "*" {
		s.catchAll = index
		return nil
	}
	parts := []jsonNode{*n}
	if key, arg, ok := n.only(); ok && key == "concat" {
		parts = arg.list
	}
	if len(parts) != len(s.types) {
		return p.errorf(n, "element has %d parts, its set has %d", len(parts), len(s.types))
	}
	var first, last nftKey
	for i := range parts {
		span, err := p.span(s.types[i], &parts[i])
		if err != nil {
			return err
		}
		first[i], last[i] = span.first, span.last
	}
	if first == last {
		if s.exact == nil {
			s.exact = make(map[nftKey]int, cap(s.data)-index)
		}
		s.exact[first] = index
	} else {
		s.ranges = append(s.ranges, nftRange{first: first, last: last, index: index})
	}
	return nil
}

// lookup returns the index of the element that has key, or -1.
func (s *nftSet) lookup(key *nftKey) int {
	if i, ok := s.exact[*key]; ok {
		return i
	}
	// Those that begin at or before the key are looked at from the last on, as
	// long as one of them may reach it.
	i, _ := slices.BinarySearchFunc(s.ranges, key[0], func(r nftRange, k u128) int {
		if k.less(r.first[0]) {
			return 1
		}
		return -1
	})
	best := s.catchAll
	for found := false; i > 0 && !s.ranges[i-1].reach.less(key[0]); i-- {
		if r := &s.ranges[i-1]; r.contains(key, len(s.types)) && (!found || r.index < best) {
			found, best = true, r.index
		}
	}
	return best
}

// settle has what the set holds in common with those of other rule sets, as far as it is the same. The
// chains that it leads to are those that stay.
func (s *nftSet) settle(pool *Pool) {
	read := false
	for i := range s.data {
		read = read || s.data[i].node != nil
		s.data[i].node = nil
	}
	// The rules that have read what elements map to know that by their indices.
	if pool != nil && !read && s.unknown == "" {
		s.nftElements = pool.shareElements(s.nftElements)
	}
}

// hashes are the same for elements that are equal, whatever the order they were listed in: the first
// where keys are, the second where what they lead to is, too.
func (e *nftElements) hashes(seed maphash.Seed) (keys, all uint64) {
	add := func(first, last nftKey, index int) {
		h := maphash.Comparable(seed, [2]nftKey{first, last})
		keys += h
		if v := e.data[index].verdict; v != nil {
			h ^= maphash.Comparable(seed, *v)
		}
		all += h ^ 1
	}
	for key, i := range e.exact {
		add(key, key, i)
	}
	for _, r := range e.ranges {
		add(r.first, r.last, r.index)
	}
	return keys, all
}

// like returns elements that are the same as e, with what other has of them, and whether
// that is all. It returns nil if the keys are others.
func (e *nftElements) like(other *nftElements) (same *nftElements, all bool) {
	if len(e.data) != len(other.data) || len(e.exact) != len(other.exact) ||
		e.catchAll != other.catchAll || !slices.Equal(e.ranges, other.ranges) {
		return nil, false
	}
	data := slices.Clone(e.data) // ranges have the same indices
	for key, i := range e.exact {
		j, ok := other.exact[key]
		if !ok {
			return nil, false
		}
		data[j] = e.data[i]
	}
	all = true
	for i := range data {
		its := &other.data[i]
		if v := data[i].verdict; v != nil && its.verdict != nil && *v == *its.verdict {
			data[i].verdict = its.verdict
		}
		all = all && data[i] == *its
	}
	if all {
		return other, true
	}
	return &nftElements{other.exact, other.ranges, e.catchAll, data}, false
}

// sortRanges makes ready for look-ups.
func (s *nftSet) sortRanges() {
	slices.SortFunc(s.ranges, func(a, b nftRange) int {
		switch {
		case a.first[0].less(b.first[0]):
			return -1
		case b.first[0].less(a.first[0]):
			return 1
		}
		return cmp.Compare(a.index, b.index)
	})
	var reach u128
	for i := range s.ranges {
		if r := &s.ranges[i]; reach.less(r.last[0]) {
			reach = r.last[0]
		}
		s.ranges[i].reach = reach
	}
}

func (r *nftRange) contains(key *nftKey, parts int) bool {
	for i := range parts {
		if !key[i].within(r.first[i], r.last[i]) {
			return false
		}
	}
	return true
}
