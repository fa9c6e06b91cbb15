package nftjson

// This file reads the expressions that look at registers.

var comparisons = []string{opEqual, opNotEqual, opLess, opLessEqual, opMore, opMoreEqual}

func (d *decoder) compare(a *attributes) {
	r := d.register(a, 1)
	left, right := d.read(r), d.value(a[3], "comparison")
	op := a.u32(2)
	if int(op) >= len(comparisons) {
		d.fail("comparison %d", op)
	}
	if d.err != nil {
		return
	}
	switch {
	case left.bits > right.bits && !left.typ.text:
		if left.bits > 128 {
			d.fail("a comparison of %d bits", left.bits)
			return
		}
		// A prefix of whole bytes is compared as such.
		width := right.bits
		right.setValue(right.value.left(left.bits - width))
		right.bits = left.bits
		right = d.prefix(right, width)
		right.bits = left.bits
	case left.bits > 0 && left.bits < right.bits:
		left = d.concatenated(r, right.bits)
		right = d.concatenatedData(left, right)
	}
	if d.err == nil {
		d.add(statement{kind: matchStatement, expr: d.relation(comparisons[op], left, right)})
	}
}

func (d *decoder) inRange(a *attributes) {
	left := d.source(a, 1)
	from, to := d.value(a[3], "range"), d.value(a[4], "range")
	if a.u32(2) > 1 || from.bits != to.bits || from.bits > 128 {
		d.fail("a range of %d bits", from.bits)
	}
	d.add(statement{kind: matchStatement, expr: d.relation(comparisons[a.u32(2)&1], left, d.rangeOf(from, to))})
}

// findSet is the set of that name in the table.
func (d *decoder) findSet(name string) *set {
	s := d.table.sets[name]
	if s == nil {
		d.fail("set %q, which is not in the table,", name)
	}
	return s
}

func (d *decoder) setRef(s *set) *node {
	n := d.new(setRef)
	n.set = s
	if s.concatenated() {
		n.typ = typeInvalid
	} else {
		n.typ = s.key[0].typ
	}
	return n
}

func (d *decoder) lookup(a *attributes) {
	s := d.findSet(a.text(1))
	if d.err != nil {
		return
	}
	left := d.sourceOf(a, 2, s.keyBits)
	flags := a.u32(5)
	if flags > 1 {
		d.fail("lookup flags %#x", flags)
	}
	if a[3] == nil {
		op := comparisons[flags&1]
		d.add(statement{kind: matchStatement, expr: d.relation(op, left, d.setRef(s))})
		return
	}
	n := d.mapLookup(left, s)
	if flags != 0 || !s.isMap() {
		d.fail("a lookup in set %s of a value", s.name)
		return
	}
	switch r := d.register(a, 3); {
	case r != 0:
		d.registers[r] = n
	case s.data[0].typ == typeVerdict:
		d.add(statement{kind: matchStatement, expr: n})
	default:
		d.fail("a verdict from map %s", s.name)
	}
}

func (d *decoder) mapLookup(key *node, s *set) *node {
	n := d.new(mapLookup)
	n.left, n.right = key, d.setRef(s)
	n.bits = s.dataBits
	if key.kind == concat && s.concatenated() {
		key.typ = typeInvalid
	}
	return n
}

func (d *decoder) objref(a *attributes) {
	st := statement{kind: objectStatement}
	switch {
	case a[2] != nil && a[3] == nil:
		st.number = uint64(a.u32(1))
		st.text = a.text(2)
	case a[3] != nil && a[2] == nil:
		s := d.findSet(a.text(4))
		if d.err != nil {
			return
		}
		if s.flags&setObject == 0 {
			d.fail("objects from set %s", s.name)
		}
		st.number = uint64(s.object)
		st.expr = d.mapLookup(d.sourceOf(a, 3, s.keyBits), s)
	default:
		d.fail("an object without a name")
	}
	if objectKeyword(uint32(st.number)) == "" {
		d.fail("object of type %d", st.number)
	}
	d.add(st)
}

var dynsetOperations = []string{"add", "update", "delete"}

func (d *decoder) dynset(a *attributes) {
	s := d.findSet(a.text(1))
	if d.err != nil {
		return
	}
	s.updated = true
	key := d.sourceOf(a, 4, s.keyBits)
	if key.kind == concat {
		for i, t := range s.key {
			if i < len(key.list) {
				key.list[i].setType(t.typ, t.typ.order)
			}
		}
	} else if key.typ == typeInvalid {
		key.setType(s.key[0].typ, s.keyOrder)
	}
	e := d.new(element)
	e.left, e.timeout, e.bits = key, a.uint(6), key.bits
	st := statement{kind: setStatement, left: e, set: s}
	if op := a.u32(3); int(op) < len(dynsetOperations) {
		st.text = dynsetOperations[op]
	} else {
		d.fail("dynset operation %d", op)
	}
	// The flag says that there are expressions, which is known.
	const inverted, withExpressions = 1, 2
	if flags := a.u32(9); flags&^withExpressions != 0 {
		d.fail("dynset flags %#x", flags)
	}
	first := len(d.list)
	if a[7] != nil {
		d.expression(a[7])
	}
	if a[10] != nil {
		d.expressions(a[10])
	}
	st.nested = append([]statement(nil), d.list[first:]...)
	d.list = d.list[:first]
	for i := range st.nested {
		if !st.nested[i].kind.stateful() {
			d.fail("a statement of another kind in dynset")
		}
	}
	if a[5] != nil {
		if !s.isMap() || s.anonymous() {
			d.fail("a rule that adds a value to set %s", s.name)
			return
		}
		// nft 1.0.6 has no JSON for this; this is the form of later releases.
		st.kind = mapStatement
		st.expr = d.sourceOf(a, 5, s.dataBits)
		if st.expr.kind != concat {
			st.expr.setType(s.data[0].typ, s.dataOrder)
		}
	}
	if s.anonymous() {
		if len(st.nested) == 0 {
			d.fail("a meter without a statement")
		}
		st.kind = meterStatement
	}
	d.add(st)
}
