package netfilter

import "strings"

// nftMatch compares an expression with values.
type nftMatch struct {
	key    nftKeyExpr
	op     nftOp
	values nftSpan
	set    *nftSet // instead of values
	what   string
}

type nftOp uint8

const (
	opEqual nftOp = iota
	opNotEqual
	opLess
	opGreater
	opLessEqual
	opGreaterEqual
	opAnyFlag // "in": one of the bits is set
	opNoFlag  // "!": none is
)

var nftOps = map[string]nftOp{
	"==": opEqual, "!=": opNotEqual, "<": opLess, ">": opGreater, "<=": opLessEqual, ">=": opGreaterEqual, "in": opAnyFlag, "!": opNoFlag,
}

func (m *nftMatch) match(x *traversal) tri {
	var key nftKey
	res := m.key.eval(x, &key)
	switch {
	case res == yes:
		return m.compare(x, &key)
	case res == maybe && m.set != nil && x.misses(&m.key, m.set):
		return is(m.op == opNotEqual)
	case res == maybe && m.differs(x):
		return is(m.op == opNotEqual)
	}
	return res
}

// differs says whether the bits that are known of a field already tell that it
// is not the one wanted: nft joins neighbouring fields to one look.
func (m *nftMatch) differs(x *traversal) bool {
	read := m.key.parts[0].bitsKnown
	if read == nil || m.set != nil || m.op > opNotEqual || m.values.first != m.values.last {
		return false
	}
	v, known := read(x)
	return v.xor(m.values.first).and(known) != u128{}
}

func (m *nftMatch) compare(x *traversal, key *nftKey) tri {
	if m.set != nil {
		_, found := x.lookup(m.set, key)
		if found == maybe || m.op != opNotEqual {
			return found
		}
		return is(found == no)
	}
	v := key[0]
	switch m.op {
	case opEqual:
		return is(v.within(m.values.first, m.values.last))
	case opNotEqual:
		return is(!v.within(m.values.first, m.values.last))
	case opLess:
		return is(v.less(m.values.first))
	case opGreater:
		return is(m.values.last.less(v))
	case opLessEqual:
		return is(!m.values.last.less(v))
	case opGreaterEqual:
		return is(!v.less(m.values.first))
	case opNoFlag:
		return is(v.and(m.values.first) == u128{})
	}
	return is(v.and(m.values.first) != u128{})
}

func (m *nftMatch) decide(x *traversal) bool {
	r := m.key.random()
	if r == nil {
		return x.env.Unknown(x.ref(), m.what)
	}
	if m.set != nil {
		index, res := x.roll(r, m.set)
		if res == maybe {
			return x.env.Unknown(x.ref(), m.what)
		}
		return (index >= 0) != (m.op == opNotEqual)
	}
	p := r.share(m)
	if p <= 0 || p >= 1 {
		return p >= 1
	}
	if r.ofFlow {
		if side, ok := x.draw(r); ok {
			return m.compare(x, &nftKey{{lo: side}}) == yes
		}
	}
	return x.pick(r, m, []float64{p, 1 - p}) == 0
}

func (b *nftRuleBuilder) match(n *jsonNode) error {
	left, right := n.get("left"), n.get("right")
	if left == nil || right == nil {
		return b.p.errorf(n, "match has no left or right side")
	}
	op, ok := nftOps[n.str("op")]
	if !ok {
		return notModelled("operator " + n.str("op"))
	}
	lengths := b.p.c.lengths
	key, err := b.p.keyExpr(left)
	if err != nil {
		return err
	}
	m := &nftMatch{key: key, op: op, what: "match " + key.name()}
	kind, _, _ := right.only()
	typ := key.parts[0].typ
	switch {
	case kind == "set", right.kind == jsonString && strings.HasPrefix(right.text, "@"):
		if m.set, err = b.p.setOf(right, &key, false, ""); err != nil {
			return err
		}
		if len(m.set.types) != len(key.parts) && m.set.unknown == "" {
			return b.p.errorf(right, "the set has keys of %d parts, not %d", len(m.set.types), len(key.parts))
		}
		if m.set.unknown != "" {
			m.what += " in a set of unknown content (" + m.set.unknown + ")"
		}
	case len(key.parts) > 1:
		return notModelled("a concatenation that is not looked up in a set")
	case right.kind == jsonBool && (typ == nftIface || typ == nftIfaceIndex):
		// "exists" and "missing" of a device: zero is none.
		if (right.text == "true") != (op == opNotEqual) {
			m.op = opNotEqual
		} else {
			m.op = opEqual
		}
	default:
		b.p.bits = key.parts[0].bits
		m.values, err = b.p.span(typ, right)
		b.p.bits = 0
		if err != nil {
			return err
		}
		if op == opAnyFlag && typ != nftCTState && typ != nftCTStatus && typ != nftTCPFlags && typ != nftCTLabel && right.kind != jsonArray {
			m.op = opEqual
		}
	}
	var condition matcher = m
	if b.p.c.lengths != lengths {
		condition = anyLength{m}
	}
	b.matches = append(b.matches, condition)
	return nil
}
