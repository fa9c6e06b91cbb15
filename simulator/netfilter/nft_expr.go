package netfilter

import (
	"strings"
)

// nftExpr is the left side of a match, or the source of a value: get reads it
// from the packet, and answers no where the kernel breaks off the rule because
// the packet has no such field.
type nftExpr struct {
	name string // for people
	typ  nftType
	bits int // width of the value; 0 where it does not matter
	// hostOrder says that the bytes in the kernel's register are those of the
	// machine, as of marks.
	hostOrder bool
	// key is what the expression is of a packet, if it is a key of indexes, and mask
	// the bits of a mark that it looks at.
	key      keyField
	mask     uint32
	constant bool
	get      func(x *traversal) (u128, tri)
	// field is what a payload expression reads; nil for all else.
	field *nftField
	// bitsKnown reads a field of which only some bits are known, and which; nil where
	// that is not said.
	bitsKnown func(x *traversal) (v, known u128)
	// random is set for what rolls dice: get then answers maybe.
	random *nftRandom
}

func word(v uint64) (u128, tri) { return u128{lo: v}, yes }

// constant is an expression that does not look at the packet.
func constant(name string, v u128) nftExpr {
	return nftExpr{name: name, constant: true, get: func(*traversal) (u128, tri) { return v, yes }}
}

// value is get, with the dice rolled where there are some.
func (e *nftExpr) value(x *traversal) (u128, tri) {
	if e.random != nil {
		if side, ok := x.draw(e.random); ok {
			return word(side)
		}
	}
	return e.get(x)
}

// expr compiles an expression.
func (p *nftParser) expr(n *jsonNode) (nftExpr, error) {
	if n.kind == jsonNumber {
		s, err := p.scalarSpan(nftInteger, n)
		return constant(n.text, s.first), err
	}
	kind, arg, ok := n.only()
	if !ok {
		return nftExpr{}, p.errorf(n, "expected an expression")
	}
	switch kind {
	case "payload":
		return p.payload(arg)
	case "meta":
		return p.meta(arg)
	case "ct":
		return p.ct(arg)
	case "rt":
		return p.routing(arg)
	case "fib":
		return p.fib(arg)
	case "socket":
		return p.socket(arg)
	case "ipsec":
		return p.ipsec(arg)
	case "exthdr":
		return p.extensionHeader(arg)
	case "tcp option":
		return p.tcpOption(arg)
	case "ip option":
		return p.ipOption(arg)
	case "sctp chunk":
		return p.sctpChunk(arg)
	case "numgen", "jhash", "symhash":
		return p.random(kind, arg)
	case "&", "|", "^", "<<", ">>":
		return p.binary(kind, arg)
	}
	return nftExpr{}, notModelled(kind)
}

// binary compiles a bitwise operation. Its right side is a value, or since
// Linux 6.13 another expression.
func (p *nftParser) binary(op string, n *jsonNode) (nftExpr, error) {
	if n.kind != jsonArray || len(n.list) < 2 {
		return nftExpr{}, p.errorf(n, "operator %s has two sides", op)
	}
	e, err := p.expr(&n.list[0])
	if err != nil {
		return nftExpr{}, err
	}
	// Newer releases write a | b | c as one list.
	for i := 1; i < len(n.list); i++ {
		right, err := p.operand(&n.list[i], e.typ)
		if err != nil {
			return nftExpr{}, err
		}
		e = combine(op, e, right)
	}
	return e, nil
}

// operand is the right side of an operation.
func (p *nftParser) operand(n *jsonNode, typ nftType) (nftExpr, error) {
	if kind, _, ok := n.only(); ok && kind != "prefix" && kind != "range" && kind != "|" {
		return p.expr(n)
	}
	s, err := p.span(typ, n)
	return constant(n.text, s.first), err
}

func combine(op string, left, right nftExpr) nftExpr {
	e := left
	e.random, e.field, e.bitsKnown, e.key, e.constant = nil, nil, nil, keyNone, false
	if op == "&" && left.key == keyMark && right.constant {
		bits, _ := right.get(nil)
		e.key, e.mask = keyMark, left.mask&uint32(bits.lo)
	}
	width := left.bits
	var masked func(x *traversal) (v, known u128)
	if op == "&" && left.bitsKnown != nil && right.constant {
		mask, _ := right.get(nil)
		masked = func(x *traversal) (v, known u128) {
			v, known = left.bitsKnown(x)
			return v.and(mask), known.or(mask.not())
		}
		e.bitsKnown = masked
	}
	e.get = func(x *traversal) (u128, tri) {
		a, res := left.value(x)
		if res == maybe && masked != nil {
			if v, known := masked(x); known.not() == (u128{}) {
				return v, yes
			}
		}
		b, res2 := right.value(x)
		if res != yes || res2 != yes {
			return u128{}, both(res, res2)
		}
		switch op {
		case "&":
			a = a.and(b)
		case "|":
			a = a.or(b)
		case "^":
			a = a.xor(b)
		case "<<":
			a = a.shiftLeft(uint(b.lo))
		case ">>":
			a = a.shiftRight(uint(b.lo))
		}
		if width > 0 {
			a = a.and(prefixMask(128-width, 128).not())
		}
		return a, yes
	}
	return e
}

// both is the answer to two questions that have to hold.
func both(a, b tri) tri {
	switch {
	case a == no || b == no:
		return no
	case a == maybe || b == maybe:
		return maybe
	}
	return yes
}

// nftKeyExpr is one expression, or several concatenated.
type nftKeyExpr struct{ parts []nftExpr }

func (p *nftParser) keyExpr(n *jsonNode) (nftKeyExpr, error) {
	parts := []jsonNode{*n}
	if kind, arg, ok := n.only(); ok && kind == "concat" {
		parts = arg.list
	}
	var k nftKeyExpr
	if len(parts) > maxConcat {
		return k, notModelled("a concatenation of this length")
	}
	for i := range parts {
		e, err := p.expr(&parts[i])
		if err != nil {
			return k, err
		}
		k.parts = append(k.parts, e)
	}
	return k, nil
}

func (k *nftKeyExpr) eval(x *traversal, key *nftKey) tri {
	result := yes
	for i := range k.parts {
		e := &k.parts[i]
		var res tri
		if len(k.parts) == 1 {
			key[i], res = e.get(x)
		} else {
			key[i], res = e.value(x)
		}
		if res == no {
			return no
		}
		result = both(result, res)
	}
	return result
}

// partly evaluates a key that eval does not know in whole, and says which of
// its parts are known.
func (k *nftKeyExpr) partly(x *traversal) (key nftKey, known [maxConcat]bool) {
	for i := range k.parts {
		var res tri
		key[i], res = k.parts[i].value(x)
		known[i] = res == yes
	}
	return key, known
}

func (k *nftKeyExpr) types() []nftType {
	types := make([]nftType, len(k.parts))
	for i := range k.parts {
		types[i] = k.parts[i].typ
	}
	return types
}

func (k *nftKeyExpr) name() string {
	names := make([]string, len(k.parts))
	for i := range k.parts {
		names[i] = k.parts[i].name
	}
	return strings.Join(names, " . ")
}

// random is set when the key is a random number.
func (k *nftKeyExpr) random() *nftRandom {
	if len(k.parts) != 1 {
		return nil
	}
	return k.parts[0].random
}
