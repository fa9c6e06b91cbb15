package nftjson

// finisher gives the expressions of a rule their types and names, and marks
// the matches that others imply, as nft does before it prints a rule: bytes at
// an offset become fields once it is known of which protocol.
type finisher struct {
	d      *decoder
	family uint8
	// protocols are what the matches so far say of each layer.
	protocols [layers]*protocol
	// stacked are the headers of the link layer that others follow.
	stacked []*protocol
	// icmp is the type that the matches so far ask for.
	icmp       uint8
	dependency dependencies
	// out are the statements in the order of the rule; current is the one being
	// finished, previous the one before if its match may be the first half of a
	// range.
	out      []*statement
	current  *statement
	previous *statement
	// inPart is set in concatenations and elements: masks are removed there at
	// once, not with what is compared.
	inPart bool
}

func (f *finisher) reset(d *decoder) {
	*f = finisher{d: d, family: d.table.family, out: f.out[:0], stacked: f.stacked[:0]}
	if p := hookProtocol(f.family); p != nil {
		f.protocols[p.layer] = p
	} else {
		d.fail("family %d", f.family)
	}
}

// finish returns the statements of the rule as they are written.
func (f *finisher) finish(d *decoder) []*statement {
	f.reset(d)
	for i := range d.list {
		if d.err != nil {
			return nil
		}
		s := &d.list[i]
		f.current = s
		f.statement(s)
		f.previous = f.current
		if s.kind != matchStatement {
			f.dependency = dependencies{}
			f.previous = nil
		}
	}
	f.restore()
	return f.out
}

func (f *finisher) statement(s *statement) {
	switch s.kind {
	case matchStatement:
		f.matched(s)
		return
	case payloadStatement:
		f.payloadSet(s)
	case ctStatement:
		f.expr(&s.expr)
		if s.left.key == ctEventMask {
			s.expr = f.flagList(s.expr)
		}
	case rejectStatement:
		f.reject(s)
	case tproxyStatement, natStatement:
		if s.kind == tproxyStatement {
			s.number = uint64(f.family)
		}
		f.expr(&s.left)
		if s.expr != nil {
			f.dependency = dependencies{}
			f.expr(&s.expr)
		}
	case queueStatement:
		if s.expr.kind != constant && s.expr.kind != rangeOf {
			f.expr(&s.expr)
		}
	case extensionStatement:
		// The value is left as it is (rule_parse_postprocess has no such case).
		f.unfinished(s.expr)
	case resetStatement:
	case meterStatement, setStatement:
		f.expr(&s.left)
	case mapStatement:
		f.expr(&s.left)
		f.expr(&s.expr)
	default:
		f.expr(&s.left)
		f.expr(&s.expr)
	}
	f.out = append(f.out, s)
}

// unfinished gives constants their value that nothing else does.
func (f *finisher) unfinished(n *node) {
	switch n.kind {
	case constant:
	case binary2:
		f.unfinished(n.left)
		f.unfinished(n.right)
	}
}

// matched finishes a match, and joins the two halves of a range.
func (f *finisher) matched(s *statement) {
	before := f.previous
	if s.expr.kind == relation && s.expr.left.kind == payloadLoad {
		if f.payloadMatch(s) {
			return
		}
	} else {
		f.expr(&s.expr)
	}
	f.out = append(f.out, s)
	if before == nil || before.implied || before.expr.kind != relation || s.expr.kind != relation {
		return
	}
	op := ""
	switch {
	case before.expr.op == opMoreEqual && s.expr.op == opLessEqual:
		op = opEqual
	case before.expr.op == opLess && s.expr.op == opMore:
		op = opNotEqual
	default:
		return
	}
	// nft looks only at the kind, and makes one match of "ip6 hoplimit < 64
	// @th,0,8 > 3".
	if !unswapped(before.expr.left).reads(unswapped(s.expr.left)) {
		return
	}
	before.implied = true
	s.expr = f.d.relation(op, s.expr.left, f.d.rangeOf(before.expr.right, s.expr.right))
}

func unswapped(n *node) *node {
	if n.kind == swapped {
		return n.left
	}
	return n
}

// expr finishes an expression, which may become another (expr_postprocess).
func (f *finisher) expr(at **node) {
	n := *at
	if n == nil || f.d.err != nil {
		return
	}
	switch n.kind {
	case constant:
		*at = f.constant(n)
	case payloadLoad:
		f.complete(n)
		f.imply(n)
	case ctLoad:
		f.ctType(n)
	case headerLoad:
		f.implyHeader(n)
	case swapped:
		f.expr(&n.left)
		n.typ = n.left.typ
		n.order = orderUnset
		if n.left.order == orderUnset {
			n.order = orderHost
		}
	case binary2:
		f.binary(at)
	case relation:
		f.relation(at)
	case mapLookup:
		if k := n.left; k.kind == binary2 && k.op == opAnd && k.left.kind == payloadLoad && k.right.kind == constant {
			f.trim(&n.left, n.right)
		}
		f.expr(&n.left)
	case concat:
		inPart := f.inPart
		f.inPart = true
		for i := range n.list {
			f.expr(&n.list[i])
		}
		f.inPart = inPart
	case element:
		f.inPart = true
		f.expr(&n.left)
		f.inPart = false
	case prefixOf, hashLoad:
		f.expr(&n.left)
	case rangeOf:
		f.expr(&n.left)
		f.expr(&n.right)
	}
}

// constant turns the bytes of a value into its number, and flags into a list.
func (f *finisher) constant(n *node) *node {
	if n.order == orderHost && hostIsLittle && !n.typ.text {
		if n.bits > 128 {
			f.d.fail("a value of %d bits", n.bits)
			return n
		}
		n.setValue(n.value.swapped(n.bits / 8))
	}
	if n.typ.bitmask {
		return f.d.bitmask(n)
	}
	return n
}

// bitmask writes several flags as one or the other.
func (d *decoder) bitmask(n *node) *node {
	if n.kind != constant || n.value.count() < 2 {
		return n
	}
	var all *node
	for bit := n.value.lowestOne(0); bit < 128; bit = n.value.lowestOne(bit + 1) {
		flag := d.arena.number(small(1).left(bit), n.bits)
		flag.typ, flag.order = n.typ, n.order
		if all == nil {
			all = flag
		} else {
			all = d.binary(opOr, all, flag)
		}
	}
	return all
}

// flagList is a list of flags, or the only one.
func (f *finisher) flagList(n *node) *node {
	if n.kind != binary2 || n.op != opOr {
		return n
	}
	list := f.d.new(listOf)
	var walk func(n *node)
	walk = func(n *node) {
		if n.kind == binary2 && n.op == opOr {
			walk(n.left)
			walk(n.right)
			return
		}
		list.list = append(list.list, n)
	}
	walk(n)
	return list
}

func (f *finisher) binary(at **node) {
	n := *at
	if f.shifted(at) {
		return
	}
	f.expr(&n.left)
	if f.inPart && n.op == opAnd && n.left.kind == payloadLoad && n.right.kind == constant {
		f.field(at, nil)
		return
	}
	switch {
	case n.op == opLeft || n.op == opRight:
		n.right.setType(typeInteger, orderHost)
	case n.right.bits > n.left.bits:
		n.right.setType(n.left.typ, orderHost)
	default:
		n.right.setType(n.left.typ, n.left.order)
	}
	f.expr(&n.right)
	if n.op == opLeft || n.op == opRight {
		n.typ, n.order = typeInteger, orderHost
	} else {
		n.typ, n.order = n.left.typ, n.left.order
	}
}

// shifted removes the mask and the shift with which nft reads fields that do
// not begin or end at a byte (payload_binop_postprocess).
func (f *finisher) shifted(at **node) bool {
	n := *at
	if n.op != opRight {
		return false
	}
	if n.left.kind == swapped {
		n.left = n.left.left
	}
	if m := n.left; m.kind != binary2 || m.op != opAnd || m.left.kind != payloadLoad || m.right.kind != constant {
		return false
	}
	n.right.setType(typeInteger, orderHost)
	f.expr(&n.right)
	f.field(&n.left, n.right)
	*at = n.left
	return true
}

func (f *finisher) relation(at **node) {
	n := *at
	if n.left.kind == payloadLoad {
		f.payloadRelation(n)
		return
	}
	if n.left.kind == concat && n.right.kind == setRef {
		for i, part := range n.right.set.key {
			if i < len(n.left.list) {
				n.left.list[i].setType(part.typ, part.typ.order)
			}
		}
	}
	f.expr(&n.left)
	if n.left.kind == concat && n.right.kind == concat {
		for i, e := range n.right.list {
			if i < len(n.left.list) {
				e.setType(n.left.list[i].typ, n.left.list[i].order)
			}
		}
	} else if n.right.kind != setRef {
		n.right.setType(n.left.typ, n.left.order)
	}
	f.expr(&n.right)
	switch n.left.kind {
	case ctLoad, metaLoad:
		f.keyMatch(n)
	case binary2:
		f.masked(at)
	}
}

// masked writes the comparison of some bits as a test of flags, a prefix, or
// that of a smaller field (relational_binop_postprocess).
func (f *finisher) masked(at **node) {
	n := *at
	b, right := n.left, n.right
	if b.op == opAnd && (n.op == opEqual || n.op == opNotEqual) && typeOf(right).bitmask {
		switch {
		case right.kind == constant && right.value.zero():
			n.left, n.right = b.left, f.flagList(b.right)
			n.op = map[string]string{opNotEqual: opContains, opEqual: opNotContains}[n.op]
		case right.kind == constant && b.right.kind == constant && right.value == b.right.value:
		case right.kind == constant || right.kind == binary2:
			t := f.d.new(flagTest)
			t.op, t.left, t.right = n.op, b.left, f.flagList(right)
			t.list = append(t.list, f.flagList(b.right))
			*at = t
		}
		return
	}
	switch {
	case b.op == opAnd && b.left.typ.prefix && right.kind == constant && b.right.kind == constant && isPrefixMask(b.right):
		n.left, n.right = b.left, f.d.prefix(right, maskBits(b.right))
	case b.op == opAnd && b.right.kind == constant:
		f.trimIn(&n.left, n.right, n)
	case b.op == opRight && b.left.kind == binary2 && b.left.op == opAnd && b.right.kind == constant && b.left.right.kind == constant:
		f.trimIn(&b.left, b.right, nil)
		if b.right.value.zero() {
			n.left = b.left
		}
	}
}

func typeOf(n *node) *dataType {
	if n.kind == setRef {
		return n.set.key[0].typ
	}
	return n.typ
}

// isPrefixMask says whether the mask's ones are its highest bits.
func isPrefixMask(mask *node) bool {
	first := mask.value.lowestOne(0)
	if first == 128 {
		return true
	}
	return mask.value.lowestZero(first+1) >= mask.bits
}

func maskBits(mask *node) int {
	first := mask.value.lowestOne(0)
	if first == 128 {
		return 0
	}
	return mask.value.lowestZero(first+1) - first
}

// ctType gives addresses and ports of the tuple the type of the protocol
// (ct_expr_update_type).
func (f *finisher) ctType(n *node) {
	switch n.key {
	case ctSrc, ctDst:
		switch f.protocols[layerNetwork] {
		case protoIP:
			n.typ, n.bits = typeIPv4, 32
		case protoIP6:
			n.typ, n.bits = typeIPv6, 128
		default:
			f.d.fail("an address of a connection of either family")
		}
	case ctProtoSrc, ctProtoDst:
		if f.protocols[layerTransport] != nil {
			n.typ = typeService
		}
	}
}

func (f *finisher) reject(s *statement) {
	code := s.expr
	switch f.family {
	case familyIPv4, familyIPv6:
		s.family = f.family
		code.typ = typeICMPCode
		if f.family == familyIPv6 {
			code.typ = typeICMPv6Code
		}
		if s.number == rejectReset {
			f.dependency.drop(f, layerTransport)
		}
	case familyInet, familyBridge, familyNetdev:
		if s.number == rejectICMPX {
			code.typ = typeICMPXCode
			return
		}
		base, network := f.protocols[layerLink], f.protocols[layerNetwork]
		if base != nil && network != nil {
			switch number, _ := base.numberOf(network); number {
			case familyIPv4, 0x800:
				s.family = familyIPv4
				code.typ = typeICMPCode
			case familyIPv6, 0x86dd:
				s.family = familyIPv6
				code.typ = typeICMPv6Code
			}
		}
		f.dependency.drop(f, layerNetwork)
	}
	if s.number == rejectICMPX {
		code.typ = typeICMPXCode
	}
}
