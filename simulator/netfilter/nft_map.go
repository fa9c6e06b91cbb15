package netfilter

import "strings"

// nftLookup finds the element of a map that has the packet's key.
type nftLookup struct {
	key nftKeyExpr
	set *nftSet
}

// find says no when the packet has no such key, or the map no such element:
// then the kernel breaks off the rule.
func (l *nftLookup) find(x *traversal) (int, tri) {
	if r := l.key.random(); r != nil {
		return x.roll(r, l.set)
	}
	var key nftKey
	switch l.key.eval(x, &key) {
	case no:
		return -1, no
	case maybe:
		if x.misses(&l.key, l.set) {
			return -1, no
		}
		return -1, maybe
	}
	return x.lookup(l.set, &key)
}

// setOf returns the set that stands on the right: named, or written out.
func (p *nftParser) setOf(n *jsonNode, k *nftKeyExpr, isMap bool, dataType string) (*nftSet, error) {
	if name, ok := strings.CutPrefix(n.text, "@"); n.kind == jsonString && ok {
		s := p.namedSet(p.table, name)
		if s == nil {
			return nil, p.errorf(n, "set is not declared")
		}
		return s, nil
	}
	kind, list, ok := n.only()
	if !ok || kind != "set" {
		return nil, p.errorf(n, "expected a set")
	}
	s := newNFTSet("")
	s.types, s.isMap, s.dataType = k.types(), isMap, dataType
	if list.kind != jsonArray {
		// A set of one element may be written without a list.
		list = &jsonNode{kind: jsonArray, list: []jsonNode{*list}, end: list.end}
	}
	return s, p.fillSet(s, list)
}

// lookup compiles the key and data of a map or verdict map.
func (p *nftParser) lookup(n *jsonNode, dataType string) (nftLookup, error) {
	keyNode, data := n.get("key"), n.get("data")
	if keyNode == nil || data == nil {
		return nftLookup{}, p.errorf(n, "map has no key or data")
	}
	key, err := p.keyExpr(keyNode)
	if err != nil {
		return nftLookup{}, err
	}
	s, err := p.setOf(data, &key, true, dataType)
	if err == nil && s.unknown == "" && (!s.isMap || len(s.types) != len(key.parts)) {
		err = p.errorf(data, "not a map with keys of %d parts", len(key.parts))
	}
	return nftLookup{key: key, set: s}, err
}

// vmapAction looks a verdict up.
type vmapAction struct {
	nftLookup
	unknown *unknownAction
}

func (a *vmapAction) do(x *traversal) outcome {
	index, res := a.find(x)
	switch {
	case res == no:
		return outcome{kind: outBreak}
	case res == maybe || a.set.data[index].verdict == nil:
		return a.unknown.do(x)
	}
	return a.set.data[index].verdict.do(x)
}

func (a *vmapAction) appendTargets(list []*chain) []*chain {
	for _, d := range a.set.data {
		if d.verdict != nil {
			list = d.verdict.appendTargets(list)
		}
	}
	return list
}

func (a *vmapAction) retarget(to func(*chain) *chain) {
	for _, d := range a.set.data {
		if d.verdict != nil {
			d.verdict.retarget(to)
		}
	}
}

func (b *nftRuleBuilder) vmap(n *jsonNode) error {
	l, err := b.p.lookup(n, "verdict")
	if err != nil {
		return err
	}
	b.act(&vmapAction{nftLookup: l, unknown: newUnknownAction("statement vmap on " + l.key.name())})
	return nil
}

// inMap is the condition of a statement that takes its object from a map
// (nft_objref_map_eval): the key has to be there.
type inMap struct {
	nftLookup
	what string
}

func (m *inMap) match(x *traversal) tri {
	if m.key.random() != nil {
		return maybe
	}
	_, res := m.find(x)
	return res
}

func (m *inMap) decide(x *traversal) bool {
	if m.key.random() != nil {
		if _, res := m.find(x); res != maybe {
			return res == yes
		}
	}
	return x.env.Unknown(x.ref(), m.what)
}

// mappedObject notes the condition of a statement like "counter name KEY map
// MAP"; it does nothing for others.
func (b *nftRuleBuilder) mappedObject(kind string, n *jsonNode) error {
	key, arg, ok := n.only()
	if !ok || key != "map" {
		return nil
	}
	l, err := b.p.lookup(arg, kind)
	if err != nil {
		return err
	}
	b.matches = append(b.matches, &inMap{l, kind + " by a map on " + l.key.name()})
	return nil
}
