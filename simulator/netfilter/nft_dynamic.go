package netfilter

import "strings"

// nftSetChange is what the rules of a walk did to a set: elements of which the
// snapshot knows nothing, or that they removed.
type nftSetChange struct {
	added, removed map[nftKey]bool
	// unknown says that something was done with a key or value that is not known.
	unknown bool
}

// lookup finds the element of a set that has key, as the packets of this walk
// left it. It answers no, with -1, when there is none, and maybe when that
// cannot be known.
func (x *traversal) lookup(s *nftSet, key *nftKey) (int, tri) {
	if s.unknown != "" {
		return -1, maybe
	}
	if s.dynamic && x.st.Conntrack != nil {
		if c := x.st.Conntrack.sets[s]; c != nil {
			switch {
			case c.unknown:
				return -1, maybe
			case c.added[*key]:
				if s.isMap {
					return -1, maybe // its value is not kept
				}
				return len(s.data), yes
			case c.removed[*key]:
				return -1, no
			}
		}
	}
	i := s.lookup(key)
	switch {
	case i < 0:
		return -1, no
	case s.data[i].stateful:
		return i, maybe // a limit or quota of the element says
	}
	return i, yes
}

// misses says whether no element of the set can have the packet's key, of which
// some parts are not known: as with "meta l4proto . th dport" of an ICMP packet
// among the ports of TCP services.
func (x *traversal) misses(k *nftKeyExpr, s *nftSet) bool {
	if s.unknown != "" || s.catchAll >= 0 || len(k.parts) < 2 {
		return false
	}
	if s.dynamic && x.st.Conntrack != nil && x.st.Conntrack.sets[s] != nil {
		return false
	}
	key, known := k.partly(x)
	for e := range s.exact {
		if agrees(&key, &e, &e, &known, len(k.parts)) {
			return false
		}
	}
	for i := range s.ranges {
		if agrees(&key, &s.ranges[i].first, &s.ranges[i].last, &known, len(k.parts)) {
			return false
		}
	}
	return true
}

func agrees(key, first, last *nftKey, known *[maxConcat]bool, parts int) bool {
	for i := range parts {
		if known[i] && !key[i].within(first[i], last[i]) {
			return false
		}
	}
	return true
}

// nftSetUpdate adds the packet's key to a set, or removes it (nft_dynset_eval).
type nftSetUpdate struct {
	key    nftKeyExpr
	set    *nftSet
	remove bool
}

func (a *nftSetUpdate) do(x *traversal) outcome {
	var key nftKey
	res := a.key.eval(x, &key)
	if res == no {
		return outcome{kind: outBreak}
	}
	if x.st.Conntrack == nil {
		x.st.Conntrack = NewConntrack()
	}
	ct := x.st.Conntrack
	c := ct.sets[a.set]
	if c == nil {
		c = &nftSetChange{added: make(map[nftKey]bool), removed: make(map[nftKey]bool)}
		if ct.sets == nil {
			ct.sets = make(map[*nftSet]*nftSetChange)
		}
		ct.sets[a.set] = c
	}
	if res == maybe {
		c.unknown = true
		return outcome{}
	}
	_, there := x.lookup(a.set, &key)
	switch {
	case a.remove:
		delete(c.added, key)
		c.removed[key] = true
	case there == no:
		if a.set.size > 0 && len(a.set.data)+len(c.added) >= a.set.size {
			return outcome{kind: outBreak}
		}
		c.added[key] = true
		delete(c.removed, key)
	}
	x.traceRule("change set "+a.set.name, false)
	return outcome{}
}

// updateSet compiles a statement that changes a set or map.
func (b *nftRuleBuilder) updateSet(kind string, n *jsonNode) error {
	elem, name := n.get("elem"), strings.TrimPrefix(n.str(kind), "@")
	if elem == nil {
		return b.p.errorf(n, "%s statement has no element", kind)
	}
	s := b.p.namedSet(b.table, name)
	if s == nil {
		return b.p.errorf(n, "set is not declared")
	}
	if key, arg, ok := elem.only(); ok && key == "elem" {
		if elem = arg.get("val"); elem == nil {
			return b.p.errorf(arg, "element has no value")
		}
	}
	key, err := b.p.keyExpr(elem)
	if err != nil {
		return err
	}
	s.dynamic = true
	b.p.c.tellsSegmentsApart()
	b.act(&nftSetUpdate{key: key, set: s, remove: n.str("op") == "delete"})
	return b.perElement(n.get("stmt"), "set "+name)
}

// perElement compiles statements that an element of a set carries: what counts
// is how often packets with its key have come.
func (b *nftRuleBuilder) perElement(list *jsonNode, of string) error {
	if list == nil {
		return nil
	}
	statements := list.list
	if list.kind == jsonObject {
		statements = []jsonNode{*list}
	}
	for i := range statements {
		kind, _, ok := statements[i].only()
		if !ok {
			return b.p.errorf(&statements[i], "expected a statement")
		}
		if kind != "counter" && kind != "last" {
			b.matches = append(b.matches, unknownMatch{kind + " of " + of})
		}
	}
	return nil
}
