package nftjson

// at is the header in which the bits at an offset of a layer are, and how far
// in the layer it begins (get_stacked_desc).
func (f *finisher) at(p *protocol, n *node) (header *protocol, before int) {
	offset := n.offset
	if n.base != layerLink || offset < p.length {
		return p, 0
	}
	for _, s := range f.stacked {
		if offset < s.length {
			return s, before
		}
		offset -= s.length
		before += s.length
	}
	return p, before
}

// fits says whether a field is there with the ICMP type that was asked for.
func (f *finisher) fits(t *field) bool { return !t.hasDep || f.icmp == 0 || f.icmp == t.icmp }

// complete names the field that a payload expression reads
// (payload_expr_complete).
func (f *finisher) complete(n *node) {
	p := f.protocols[n.base]
	if p == nil || p == protoInet || p == protoUnknown {
		return
	}
	p, before := f.at(p, n)
	for i := range p.fields {
		if t := &p.fields[i]; !t.meta && t.offset == n.offset-before && t.bits == n.bits && f.fits(t) {
			n.typ, n.protocol, n.field = t.typ, p, t
			n.isKey = p.isKey(i)
			return
		}
	}
}

// payloadMatch finishes the comparison of a header. A value may be that of
// several fields, which become matches of their own: it answers true then.
func (f *finisher) payloadMatch(s *statement) bool {
	n := s.expr
	if (n.op == opEqual || n.op == opNotEqual) && n.right.kind == constant {
		f.expand(s)
		return true
	}
	f.payloadRelation(n)
	return false
}

func (f *finisher) payloadRelation(n *node) {
	if s := n.right; s.kind == setRef && s.set.anonymous() && len(s.set.elements) > 0 && (n.op == opEqual || n.op == opNotEqual) {
		f.icmpTypeOfSet(n.left, s.set)
	}
	f.complete(n.left)
	if n.right.kind != setRef {
		n.right.setType(n.left.typ, n.left.order)
		// Ranges and what is more or less than a value are left as they are: all
		// fields are in network order.
		f.values(n.right)
	}
	f.imply(n.left)
}

// values turns flags into lists in what is compared with a header.
func (f *finisher) values(n *node) {
	if n.kind == binary2 {
		f.values(n.left)
		f.values(n.right)
	}
}

// expand takes a comparison of adjacent fields apart (payload_match_expand).
func (f *finisher) expand(s *statement) {
	n := s.expr
	base := n.left.base
	f.current = nil
	for _, part := range f.parts(n.left) {
		value := f.d.splice(n.right, part.bits)
		if value == nil {
			f.d.fail("a comparison of another width than the field")
			return
		}
		value.setType(part.typ, part.order)
		if t := part.field; t != nil && part.protocol != protoUnknown && part.bits < t.bits {
			length := part.bits
			value.setValue(value.value.left(t.bits - length))
			value.bits = t.bits
			value = f.d.prefix(value, length)
		}
		match := f.d.relation(n.op, part, value)
		if n.op == opEqual && part.isKey {
			f.learn(part, value)
		}
		if f.isStacked(match, base) {
			base--
		}
		st := &statement{kind: matchStatement, expr: match}
		f.imply(part)
		if n.op == opEqual && part.isKey {
			f.dependency.store(st, base)
		}
		f.out = append(f.out, st)
	}
}

// parts are the fields that a payload expression reads, in order, and what is
// left without a name (payload_expr_expand).
func (f *finisher) parts(n *node) []*node {
	var list []*node
	p := f.protocols[n.base]
	offset, width := n.offset, n.bits
	if p != nil && p != protoUnknown {
		header, before := f.at(p, n)
		offset -= before
		for i := 1; i < len(header.fields) && width > 0; i++ {
			t := &header.fields[i]
			if t.offset != offset || !f.fits(t) {
				continue
			}
			part := f.d.new(payloadLoad)
			part.base, part.protocol, part.field, part.typ, part.order = n.base, header, t, t.typ, orderNetwork
			part.offset, part.bits = t.offset, t.bits
			part.isKey = header.isKey(i)
			list = append(list, part)
			if t.bits > width {
				part.bits = width
				return list
			}
			width -= t.bits
			offset += t.bits
		}
	}
	if width > 0 {
		part := f.d.new(payloadLoad)
		part.protocol = protoUnknown
		f.d.rawPayload(part, n.base, offset, width)
		list = append(list, part)
	}
	return list
}

// isStacked says whether a match names a header that follows in the same layer.
func (f *finisher) isStacked(match *node, base int) bool {
	if !match.left.isKey || match.op != opEqual || match.right.kind != constant || f.protocols[base] == nil {
		return false
	}
	next := f.protocols[base].over(uint32(match.right.value.low))
	return next != nil && next.layer == f.protocols[base].layer
}

// learn notes which protocol a match asks for (payload_expr_pctx_update).
func (f *finisher) learn(left, right *node) {
	base := f.protocols[left.base]
	if base == nil || right.kind != constant {
		return
	}
	number := uint32(right.value.low)
	next := base.over(number)
	if next == nil {
		switch base {
		case protoICMP:
			// An answer to an echo has the fields of a request.
			if f.icmp = uint8(number); number == 0 {
				f.icmp = 8
			}
		case protoICMPv6:
			if f.icmp = uint8(number); number == 129 {
				f.icmp = 128
			}
		}
		return
	}
	if next.layer == base.layer && base.layer == layerLink {
		f.stacked = append(f.stacked, base)
	}
	f.protocols[next.layer] = next
}

// icmpTypeOfSet takes the first type of a set for the one that is asked for
// (payload_icmp_check).
func (f *finisher) icmpTypeOfSet(n *node, s *set) {
	p := f.protocols[n.base]
	if f.icmp != 0 || p != protoICMP && p != protoICMPv6 || n.offset != 0 || n.bits != 8 || s.concatenated() || s.flags&(setMap|setInterval) != 0 {
		return
	}
	least := -1
	for i := range s.elements {
		if e := &s.elements[i]; len(e.key) == 1 && (least < 0 || int(e.key[0]) < least) {
			least = int(e.key[0])
		}
	}
	if least >= 0 {
		f.icmp = uint8(least)
	}
}

// trimmed is how a payload expression and a mask make up whole fields: the
// shift of the values compared (payload_expr_trim).
func (f *finisher) trimmed(n, mask *node) (shift int, ok bool) {
	p := f.protocols[n.base]
	if p == nil || p == protoUnknown || mask.kind != constant || mask.bits > 128 {
		return 0, false
	}
	maskOffset := mask.value.lowestOne(0)
	maskEnd := mask.value.lowestZero(maskOffset + 1)
	header, before := f.at(p, n)
	off := (mask.bits+7)/8*8 - maskEnd
	offset, width := n.offset-before+off, n.bits
	length := 0
	for i := 1; i < len(header.fields); i++ {
		t := &header.fields[i]
		if t.offset != offset {
			continue
		}
		if t.bits > width {
			return 0, false
		}
		width -= t.bits
		offset += t.bits
		length += t.bits
		if width == 0 {
			return 0, false
		}
		if maskOffset+length == maskEnd {
			n.offset += off
			n.bits = length
			return maskOffset, true
		}
	}
	return 0, false
}

// trim removes the mask of an expression that makes up a field, and moves the
// values that it is looked up among.
func (f *finisher) trim(at **node, right *node) bool {
	b := *at
	left := b.left
	var shift int
	var ok bool
	switch {
	case left.kind == payloadLoad:
		shift, ok = f.trimmed(left, b.right)
	case left.kind == headerLoad:
		shift, ok = left.trimHeader(b.right)
	}
	if !ok {
		return false
	}
	if right != nil {
		f.adjust(right, shift, left.bits)
	}
	*at = left
	return true
}

// field removes a mask where nothing is compared, and names the field.
func (f *finisher) field(at **node, right *node) {
	if f.trim(at, right) && (*at).kind == payloadLoad {
		f.complete(*at)
		f.imply(*at)
	}
}

// trimIn does so in a relation, which is finished then.
func (f *finisher) trimIn(at **node, right, rel *node) {
	if !f.trim(at, right) {
		return
	}
	left := *at
	if left.kind == headerLoad {
		if right != nil && right.kind != setRef {
			right.setType(left.typ, left.order)
		}
		return
	}
	if rel == nil {
		f.complete(left)
		f.imply(left)
		return
	}
	if f.current != nil && (rel.op == opEqual || rel.op == opNotEqual) && rel.right.kind == constant {
		f.expandInPlace(rel)
		return
	}
	f.payloadRelation(rel)
}

// expandInPlace is expand for a field that is one, in the statement being
// finished.
func (f *finisher) expandInPlace(rel *node) {
	s := f.current
	parts := f.parts(rel.left)
	if len(parts) != 1 {
		f.d.fail("a mask over several fields")
		return
	}
	part := parts[0]
	rel.left = part
	rel.right.setType(part.typ, part.order)
	if rel.op == opEqual && part.isKey {
		f.learn(part, rel.right)
	}
	f.imply(part)
	if rel.op == opEqual && part.isKey {
		f.dependency.store(s, part.base)
	}
}

// adjust moves values to the right (binop_adjust).
func (f *finisher) adjust(n *node, shift, width int) {
	switch n.kind {
	case constant:
		n.setValue(n.value.right(shift))
		n.bits = width
	case rangeOf:
		f.adjust(n.left, shift, width)
		f.adjust(n.right, shift, width)
	case setRef:
		if n.set.anonymous() {
			n.length = shift
		}
	default:
		f.d.fail("a mask over an expression")
	}
}

// trimHeader does for extension headers what trimmed does for others
// (exthdr_find_template).
func (n *node) trimHeader(mask *node) (shift int, ok bool) {
	if mask.kind != constant || n.key != extensionIPv4 && n.field != nil {
		return 0, false
	}
	first := mask.value.lowestOne(0)
	end := mask.value.lowestZero(first + 1)
	if !n.locate(n.offset+(mask.bits+7)/8*8-end, end-first) {
		return 0, false
	}
	return first, true
}

// payloadSet finishes what is written into a header. A field that does not
// begin or end at a byte is written with the bits beside it, read before.
func (f *finisher) payloadSet(s *statement) {
	f.complete(s.left)
	if !s.left.isKnown() {
		f.unmask(s)
	}
	f.expr(&s.left)
	s.expr.setType(s.left.typ, s.left.order)
	f.expr(&s.expr)
}

func (f *finisher) unmask(s *statement) {
	e := s.expr
	if e.kind != binary2 || e.right.kind != constant || e.right.bits > 128 {
		return
	}
	switch e.left.kind {
	case binary2:
		// (header & mask) | value
		b := e.left
		if e.op != opOr || b.op != opAnd || b.left.kind != payloadLoad || b.right.kind != constant || !samePlace(b.left, s.left) {
			return
		}
		mask := ones(b.left.bits).xor(b.right.value).xor(e.right.value)
		if value, ok := f.writtenField(b.left, f.d.arena.number(mask, b.right.bits), e.right.value); ok {
			s.left, s.expr = b.left, value
		}
	case payloadLoad:
		// header & mask sets a field to 0, and header | mask to all ones.
		mask := e.right.value
		value := mask
		switch e.op {
		case opAnd:
			mask = ones(e.left.bits).xor(mask)
			value = number{}
		case opOr:
		default:
			return
		}
		if !samePlace(e.left, s.left) {
			return
		}
		if v, ok := f.writtenField(e.left, f.d.arena.number(mask, e.right.bits), value); ok {
			s.left, s.expr = e.left, v
		}
	}
}

func samePlace(a, b *node) bool { return a.base == b.base && a.offset == b.offset && a.bits == b.bits }

// writtenField is the value of the field that a mask makes up.
func (f *finisher) writtenField(n, mask *node, v number) (*node, bool) {
	shift, ok := f.trimmed(n, mask)
	if !ok {
		return nil, false
	}
	f.complete(n)
	if !n.isKnown() {
		f.d.fail("a write to bits of a header")
		return nil, false
	}
	return f.d.arena.number(v.right(shift), n.bits), true
}
