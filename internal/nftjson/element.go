package nftjson

import (
	"bytes"
	"slices"
)

// entry is an element as it is written: a value, a range, a prefix, or a
// concatenation of such.
type entry struct {
	key  *node // nil for the catch-all
	from *setElement
}

// entries turns what the kernel has into what nft writes, in its order.
func (d *decoder) entries(s *set) []entry {
	switch {
	case s.flags&setInterval != 0 && s.concatenated():
		return d.rangesOfFields(s)
	case s.flags&setInterval != 0:
		return d.intervals(s)
	}
	list := make([]entry, 0, len(s.elements))
	order := make([][]byte, 0, len(s.elements))
	for i := range s.elements {
		e := &s.elements[i]
		if e.catchAll {
			list = append(list, entry{from: e})
			order = append(order, nil)
			continue
		}
		key, sortKey := d.key(s, e.key)
		list = append(list, entry{key: key, from: e})
		order = append(order, sortKey)
	}
	index := make([]int, len(list))
	for i := range index {
		index[i] = i
	}
	slices.SortFunc(index, func(a, b int) int {
		if (list[a].key == nil) != (list[b].key == nil) {
			if list[a].key == nil {
				return 1
			}
			return -1
		}
		if c := compareNumbers(order[a], order[b]); c != 0 {
			return c
		}
		return b - a // as the merge sort of nft, list_splice_sorted
	})
	sorted := make([]entry, len(list))
	for i, at := range index {
		sorted[i] = list[at]
	}
	return sorted
}

// compareNumbers compares numbers whose lowest byte comes first.
func compareNumbers(a, b []byte) int {
	for len(a) > len(b) {
		if a[len(a)-1] != 0 {
			return 1
		}
		a = a[:len(a)-1]
	}
	for len(b) > len(a) {
		if b[len(b)-1] != 0 {
			return -1
		}
		b = b[:len(b)-1]
	}
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != b[i] {
			return int(a[i]) - int(b[i])
		}
	}
	return 0
}

// key is the key of an element of a set without intervals, and the bytes by
// which nft sorts it (expr_msort_value).
func (d *decoder) key(s *set, raw []byte) (*node, []byte) {
	if !s.concatenated() {
		n := d.typed(&s.key[0], raw, s.keyOrder, true)
		if s.key[0].typ.text {
			return n, raw
		}
		sortValue := n.value
		if n.typ.bitmask && n.value.count() > 1 {
			sortValue = small(1).left(n.value.lowestOne(0))
		}
		b := sortValue.bytes(16)
		slices.Reverse(b)
		return d.flags(n), b
	}
	n := d.new(concat)
	var order []byte
	d.fields(s.key, raw, func(part *keyPart, b []byte) {
		order = append(order, b...)
		n.list = append(n.list, d.flags(d.typed(part, b, part.order, true)))
	})
	return n, order
}

// fields splits the fields of a concatenation, each in registers of its own.
func (d *decoder) fields(parts []keyPart, raw []byte, fn func(part *keyPart, b []byte)) []byte {
	for i := range parts {
		size := (parts[i].width() + 7) / 8
		if size == 0 || size > len(raw) {
			d.fail("a concatenation of another width than its type")
			return nil
		}
		fn(&parts[i], raw[:size:size])
		raw = raw[min((size+3)&^3, len(raw)):]
	}
	return raw
}

// typed is a value of a type; swap says that its bytes may be those of the
// machine: in intervals, the kernel compares them all as a number of the network.
func (d *decoder) typed(part *keyPart, raw []byte, order byteOrder, swap bool) *node {
	n := d.arena.constant(raw)
	n.typ, n.order = part.typ, order
	if n.bits > 128 {
		d.fail("a value of %d bits", n.bits)
		return n
	}
	if swap && order == orderHost && !part.typ.text && hostIsLittle {
		n.setValue(n.value.swapped(len(raw)))
	}
	if w := part.width(); w != 0 && w < n.bits {
		n.bits = w
	}
	return n
}

// flags takes flags apart.
func (d *decoder) flags(n *node) *node {
	if n.typ.bitmask {
		return d.bitmask(n)
	}
	return n
}

// intervals puts the beginnings and ends of intervals together
// (interval_map_decompose).
func (d *decoder) intervals(s *set) []entry {
	part := &s.key[0]
	width := part.width()
	if width == 0 || width > 128 || (width+7)/8 > 16 {
		d.fail("intervals of %d bits", width)
		return nil
	}
	type point struct {
		value number
		from  *setElement
	}
	var points []point
	var catchAll *setElement
	for i := range s.elements {
		e := &s.elements[i]
		if e.catchAll {
			catchAll = e
			continue
		}
		if len(e.key) > 16 || e.keyEnd != nil {
			d.fail("an interval of %d bytes", len(e.key))
			return nil
		}
		points = append(points, point{bigEndian(e.key), e})
	}
	slices.SortStableFunc(points, func(a, b point) int {
		if c := a.value.compare(b.value); c != 0 {
			return c
		}
		switch {
		case a.from.end && !b.from.end:
			return -1
		case b.from.end && !a.from.end:
			return 1
		}
		return 0
	})
	var list []entry
	var low *point
	add := func(last number) {
		list = append(list, entry{key: d.interval(part, low.value, last), from: low.from})
	}
	for i := range points {
		p := &points[i]
		if low != nil {
			add(p.value.sub(small(1)))
		}
		low = p
		if p.from.end {
			low = nil
		}
	}
	if low != nil {
		add(ones(8 * len(low.from.key)))
	}
	if catchAll != nil {
		list = append(list, entry{from: catchAll})
	}
	return list
}

// interval is a value, prefix or range of a type.
func (d *decoder) interval(part *keyPart, first, last number) *node {
	size := (part.width() + 7) / 8
	value := func(v number) *node {
		n := d.arena.number(v, 8*size)
		n.typ, n.order = part.typ, part.typ.order
		return n
	}
	span := last.sub(first)
	if span.zero() {
		n := value(first)
		if part.typ.text {
			n.raw = first.bytes(size)
		}
		return d.flags(n)
	}
	if span.and(span.add(small(1))).zero() && span.and(first).zero() {
		length := 8*size - span.lowestZero(0)
		switch {
		case part.typ.prefix:
			return d.prefix(value(first), length)
		case part.typ.text:
			return d.wildcard(value(first), first, length)
		}
	}
	return d.rangeOf(value(first), value(last))
}

// wildcard is a text of which the first bits are given.
func (d *decoder) wildcard(n *node, first number, length int) *node {
	raw := first.bytes(n.bits / 8)
	text := bytes.IndexByte(raw, 0)
	if length%8 != 0 || text <= 0 {
		return d.prefix(n, length)
	}
	n.raw = raw[:text]
	n.bits = 8 * text
	return n
}

// rangesOfFields puts both ends of concatenations of ranges together
// (concat_range_aggregate).
func (d *decoder) rangesOfFields(s *set) []entry {
	var list []entry
	for i := range s.elements {
		e := &s.elements[i]
		if e.catchAll {
			list = append(list, entry{from: e})
			continue
		}
		if e.end {
			d.fail("the end of an interval alone")
			return nil
		}
		n := d.new(concat)
		var ends [][]byte
		if e.keyEnd != nil {
			d.fields(s.key, e.keyEnd, func(_ *keyPart, b []byte) { ends = append(ends, b) })
		}
		d.fields(s.key, e.key, func(part *keyPart, b []byte) {
			last := b
			if at := len(n.list); at < len(ends) {
				last = ends[at]
			}
			if len(b) > 16 || len(last) > 16 {
				d.fail("a field of %d bytes", len(b))
				return
			}
			n.list = append(n.list, d.fieldRange(part, b, last))
		})
		list = append(list, entry{key: n, from: e})
	}
	return list
}

func (d *decoder) fieldRange(part *keyPart, b, end []byte) *node {
	first, last := bigEndian(b), bigEndian(end)
	value := func(v number, raw []byte) *node {
		n := d.arena.number(v, part.width())
		n.typ, n.order = part.typ, part.order
		if part.typ.text {
			n.raw, n.bits = raw, 8*len(raw)
		}
		return n
	}
	if first == last {
		return d.flags(value(first, b))
	}
	if length, ok := maskLength(first, last, 8*len(b)); ok {
		switch {
		case part.typ.text && length%8 == 0:
			n := value(first, b)
			n.raw = b[:length/8]
			n.bits = length
			return n
		case part.typ.prefix:
			return d.prefix(value(first, b), length)
		}
	}
	return d.rangeOf(value(first, b), value(last, end))
}

// maskLength is the length of the mask that makes up a range; false if none
// does (range_mask_len).
func maskLength(first, last number, width int) (int, bool) {
	for first.compare(last) <= 0 && first.low&1 == 0 && last.low&1 == 1 && width > 0 {
		first, last = first.right(1), last.right(1)
		width--
	}
	return width, first == last
}

// writeSetElements writes a list of elements.
func (w *writer) writeSetElements(d *decoder, s *set, shift int) {
	w.open('[')
	for _, e := range d.entries(s) {
		w.comma()
		if shift != 0 && e.key != nil {
			e.key.shift(shift)
		}
		if len(s.data) == 0 {
			w.element(d, e)
			continue
		}
		if s.flags&setMap != 0 && e.from.data == nil || s.flags&setObject != 0 && e.from.object == "" {
			d.fail("an element of a map without a value")
		}
		w.open('[')
		w.comma()
		w.element(d, e)
		w.comma()
		w.mapped(d, s, e.from)
		w.close(']')
	}
	w.close(']')
}

func (w *writer) element(d *decoder, e entry) {
	key := func() {
		if e.key == nil {
			w.string("*")
			return
		}
		w.expression(e.key)
	}
	f := e.from
	if f.timeout == 0 && f.expires == 0 && f.comment == "" && f.expressions == nil {
		key()
		return
	}
	w.only("elem")
	w.open('{')
	w.key("val")
	key()
	if f.timeout != 0 {
		w.integer("timeout", f.timeout/1000)
	}
	if f.expires != 0 && !w.stateless {
		w.integer("expires", f.expires/1000)
	}
	if f.comment != "" {
		w.text("comment", f.comment)
	}
	if f.expressions != nil {
		list := d.stateful(f.expressions, f.one)
		if len(list) > 0 {
			w.merge(&list[0])
		}
	}
	w.closeBoth()
}

// merge writes a statement as a member of the object that is open.
func (w *writer) merge(s *statement) {
	inner := *w
	inner.out, inner.first = nil, true
	inner.statement(s)
	w.err = inner.err
	w.comma()
	w.out = append(w.out, inner.out[1:len(inner.out)-1]...)
}

// stateful reads the statements of a set or element.
func (d *decoder) stateful(b []byte, one bool) []statement {
	first := len(d.list)
	if one {
		d.expression(b)
	} else {
		d.expressions(b)
	}
	list := slices.Clone(d.list[first:])
	d.list = d.list[:first]
	for i := range list {
		if !list[i].kind.stateful() {
			d.fail("an element with a statement of another kind")
			return nil
		}
	}
	return list
}

// mapped writes what a map has for an element.
func (w *writer) mapped(d *decoder, s *set, e *setElement) {
	if s.flags&setObject != 0 {
		w.string(e.object)
		return
	}
	n := d.data(e.data, "data of an element")
	if n.kind == verdict {
		if s.data[0].typ != typeVerdict {
			d.fail("a verdict in a map of values")
		}
		w.expression(n)
		return
	}
	if s.data[0].typ == typeVerdict {
		d.fail("a value in a map of verdicts")
		return
	}
	raw := n.raw
	if !s.dataConcatenated() {
		if s.dataInterval {
			if len(raw)%2 != 0 || len(raw) > 32 {
				d.fail("an interval of data of %d bytes", len(raw))
				return
			}
			half := len(raw) / 2
			w.expression(d.rangeToPrefix(d.typed(&s.data[0], raw[:half], s.dataOrder, false), d.typed(&s.data[0], raw[half:], s.dataOrder, false)))
			return
		}
		w.expression(d.flags(d.typed(&s.data[0], raw, s.dataOrder, true)))
		return
	}
	c := d.new(concat)
	rest := d.fields(s.data, raw, func(part *keyPart, b []byte) {
		c.list = append(c.list, d.flags(d.typed(part, b, part.order, s.flags&setInterval == 0)))
	})
	if s.dataInterval {
		at := 0
		d.fields(s.data, rest, func(part *keyPart, b []byte) {
			if at >= len(c.list) {
				return
			}
			from, to := c.list[at], d.typed(part, b, part.order, s.flags&setInterval == 0)
			if from.value != to.value {
				c.list[at] = d.rangeOf(from, to)
				if part.typ == typeIPv4 || part.typ == typeIPv6 {
					c.list[at] = d.rangeToPrefix(from, to)
				}
			}
			at++
		})
	}
	if d.err == nil {
		w.expression(c)
	}
}

// setRef writes a set by name, or one that belongs to a rule by its elements.
func (w *writer) setRef(n *node) {
	if !n.set.anonymous() {
		w.string("@" + n.set.name)
		return
	}
	if n.set.volatile() {
		w.fail("a set of a rule's own whose elements come and go")
	}
	w.only("set")
	w.sets.start(w.sets.table)
	w.writeSetElements(w.sets, n.set, n.length)
	if w.err == nil {
		w.err = w.sets.err
	}
	w.close('}')
}

// shift moves the values of an element, of which a rule looks at some bits only.
func (n *node) shift(by int) {
	switch n.kind {
	case constant:
		n.setValue(n.value.right(by))
	case rangeOf:
		n.left.shift(by)
		n.right.shift(by)
	}
}
