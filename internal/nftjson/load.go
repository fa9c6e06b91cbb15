package nftjson

// This file reads the expressions that fill registers.

func (d *decoder) immediate(a *attributes) {
	n := d.data(a[2], "immediate")
	switch r := d.register(a, 1); {
	case r == 0 && n.kind == verdict:
		d.add(statement{kind: verdictStatement, expr: n})
	case r == 0 || n.kind != constant:
		d.fail("an immediate of another kind than its register")
	default:
		d.registers[r] = n
	}
}

func (d *decoder) payload(a *attributes) {
	n := d.new(payloadLoad)
	n.base, n.offset, n.bits = int(a.u32(2))+1, int(a.u32(3))*8, int(a.u32(4))*8
	n.protocol, n.dir = protoUnknown, -1
	if n.base <= layerNone || n.base > layerInner || a.u32(3) > 1<<16 || n.bits <= 0 || n.bits > 512 {
		d.fail("a payload at %d,%d,%d", a.u32(2), a.u32(3), a.u32(4))
		return
	}
	d.rawPayload(n, n.base, n.offset, n.bits)
	switch {
	case a[1] != nil && a[5] == nil:
		d.load(a, 1, n)
	case a[5] != nil && a[1] == nil:
		// The sum that the kernel keeps right follows from the field.
		d.add(statement{kind: payloadStatement, left: n, expr: d.source(a, 5)})
	default:
		d.fail("a payload that neither reads nor writes")
	}
}

// rawPayload is a payload expression before the protocol is known; ports are
// where they are in any (payload_init_raw).
func (d *decoder) rawPayload(n *node, base, offset, width int) {
	n.base, n.offset, n.bits = base, offset, width
	n.typ = typeInteger
	if base == layerTransport && width == 16 && (offset == 0 || offset == 16) {
		n.protocol, n.field, n.typ = protoTH, &protoTH.fields[1+offset/16], typeService
	}
}

func (d *decoder) template(n *node, key uint32, list []template, what string) *node {
	if int(key) >= len(list) || list[key].typ == nil {
		d.fail("%s %d", what, key)
		return n
	}
	t := &list[key]
	n.key, n.typ, n.bits, n.order = key, t.typ, t.bits, t.order
	return n
}

func (d *decoder) meta(a *attributes) {
	key := a.u32(2)
	switch {
	case a[1] != nil && a[3] == nil:
		n := d.template(d.new(metaLoad), key, metaTemplates, "meta")
		switch key {
		case metaNFProto, metaProtocol:
			n.isKey, n.base = true, layerLink
		case metaL4Proto:
			n.isKey, n.base = true, layerNetwork
		case metaIIFType:
			n.isKey = true
		}
		d.load(a, 1, n)
	case a[3] != nil && a[1] == nil:
		key := d.template(d.new(metaLoad), key, metaTemplates, "meta")
		value := d.source(a, 3)
		value.setType(key.typ, key.order)
		d.add(statement{kind: metaStatement, left: key, expr: value})
	default:
		d.fail("a meta expression that neither reads nor writes")
	}
}

func (d *decoder) ct(a *attributes) {
	key := d.template(d.new(ctLoad), a.u32(2), ctTemplates, "ct")
	key.dir = -1
	if a[3] != nil {
		if key.dir = int8(a.uint(3)); key.dir < 0 || key.dir > 1 {
			d.fail("direction %d", key.dir)
		}
	}
	switch {
	case a[1] != nil && a[4] == nil:
		switch key.key {
		case ctSrc, ctDst:
			key.base = layerNetwork
		case ctProtoSrc, ctProtoDst:
			key.base = layerTransport
		case ctProtocol:
			key.isKey, key.base = true, layerNetwork
		case ctL3Protocol:
			key.isKey, key.base = true, layerLink
		}
		d.load(a, 1, key)
	case a[4] != nil && a[1] == nil:
		value := d.source(a, 4)
		value.setType(key.typ, key.order)
		d.add(statement{kind: ctStatement, left: key, expr: value})
	default:
		d.fail("a ct expression that neither reads nor writes")
	}
}

func (d *decoder) route(a *attributes) {
	d.load(a, 1, d.template(d.new(routeLoad), a.u32(2), routeTemplates, "rt"))
}

func (d *decoder) socket(a *attributes) {
	d.load(a, 2, d.template(d.new(socketLoad), a.u32(1), socketTemplates, "socket"))
}

// Results and flags of fib expressions (enum nft_fib_result, nft_fib_flags).
const (
	fibOIF      = 1
	fibOIFName  = 2
	fibAddrType = 3
	fibPresent  = 1 << 5
)

func (d *decoder) fib(a *attributes) {
	n := d.new(fibLoad)
	n.key, n.flags = a.u32(2), a.u32(3)
	n.order, n.bits = orderHost, 32
	switch n.key {
	case fibOIF:
		n.typ = typeIfIndex
	case fibOIFName:
		n.typ, n.bits = typeIfName, 128
	case fibAddrType:
		n.typ = typeFIBAddr
	default:
		d.fail("fib result %d", n.key)
	}
	if n.flags >= 2*fibPresent {
		d.fail("fib flags %#x", n.flags)
	}
	if n.flags&fibPresent != 0 {
		n.typ = typeBoolean
	}
	d.load(a, 1, n)
}

func (d *decoder) osf(a *attributes) {
	n := d.new(osfLoad)
	n.flags, n.key = a.u32(3), a.u32(2)
	n.typ, n.order, n.bits = typeString, orderHost, 128
	if n.flags > 1 || n.key > 2 {
		d.fail("osf flags %#x", n.flags)
	}
	d.load(a, 1, n)
}

func (d *decoder) xfrm(a *attributes) {
	n := d.template(d.new(xfrmLoad), a.u32(2), xfrmTemplates, "ipsec")
	if n.dir = int8(a.uint(3)); n.dir < 0 || n.dir > 1 {
		d.fail("ipsec direction %d", n.dir)
	}
	n.flags = a.u32(4)
	d.load(a, 1, n)
}

func (d *decoder) extension(a *attributes) {
	n := d.new(headerLoad)
	n.key, n.flags = a.u32(6), a.u32(5)
	number := a.u32(2)
	offset, width := int(a.u32(3))*8, int(a.u32(4))*8
	n.protocol = extensionOf(n.key, number)
	reset := n.key == extensionTCP && a[1] == nil && a[7] == nil
	if n.key > extensionSCTP || n.flags&^extensionPresent != 0 || a.u32(3) > 1<<16 || width <= 0 && !reset || width > 512 {
		d.fail("extension header %d, %d", n.key, number)
		return
	}
	n.offset, n.bits, n.order, n.start = offset, width, orderNetwork, number
	n.typ = typeInvalid
	switch {
	case n.protocol == nil && n.key == extensionTCP:
		n.typ = typeInteger
	case n.protocol == nil:
		d.fail("extension header %d, %d", n.key, number)
	case n.key == extensionTCP && number == 5 && offset >= 80:
		// The left and right edges of the second block and those that follow.
		n.locate(offset%64, width)
		n.offset = offset
	default:
		n.locate(offset, width)
	}
	if n.flags&extensionPresent != 0 {
		n.typ = typeBoolean
	}
	switch {
	case a[1] != nil && a[7] == nil:
		d.load(a, 1, n)
	case a[7] != nil && a[1] == nil:
		value := d.source(a, 7)
		value.setType(n.typ, n.order)
		d.add(statement{kind: extensionStatement, left: n, expr: value})
	case reset:
		d.add(statement{kind: resetStatement, left: n})
	default:
		d.fail("an extension header that is neither read nor written")
	}
}

func (d *decoder) numgen(a *attributes) {
	n := d.new(numgenLoad)
	n.length, n.key, n.start = int(a.u32(2)), a.u32(3), a.u32(4)
	n.typ, n.order, n.bits = typeInteger, orderHost, 32
	if n.key > 1 {
		d.fail("numgen %d", n.key)
	}
	d.load(a, 1, n)
}

// hashSymmetric is the hash that needs no data (NFT_HASH_SYM).
const hashSymmetric = 1

func (d *decoder) hash(a *attributes) {
	n := d.new(hashLoad)
	n.length, n.seed, n.start, n.key = int(a.u32(4)), a.u32(5), a.u32(6), a.u32(7)
	n.seeded = a[5] != nil
	n.typ, n.order, n.bits = typeInteger, orderHost, 32
	switch n.key {
	case hashSymmetric:
	case 0:
		n.left = d.sourceOf(a, 1, int(a.u32(3))*8)
	default:
		d.fail("hash %d", n.key)
	}
	d.load(a, 2, n)
}

// bitwise is (register & mask) ^ xor, which stands for and, or and xor; or a
// shift (netlink_parse_bitwise_bool).
func (d *decoder) bitwise(a *attributes) {
	left := d.source(a, 1)
	switch op := a.u32(6); op {
	case 0:
		if a[7] != nil {
			d.fail("a bitwise expression of a new kind")
		}
		m, x := d.value(a[4], "mask"), d.value(a[5], "xor")
		if d.err != nil {
			return
		}
		if m.bits > 128 || x.bits != m.bits {
			d.fail("a mask of %d bits", m.bits)
			return
		}
		d.load(a, 2, d.boolean(left, m, x))
	case 1, 2:
		by := d.value(a[7], "shift")
		if a[4] != nil || a[5] != nil || by.bits != 32 {
			d.fail("a shift with a mask")
			return
		}
		by.order = orderHost
		n := d.binary(map[uint32]string{1: opLeft, 2: opRight}[op], left, by)
		n.bits = int(a.u32(3)) * 8
		if n.bits <= 0 || n.bits > 128 {
			d.fail("a shift of %d bits", n.bits)
		}
		d.load(a, 2, n)
	default:
		d.fail("bitwise operation %d", op)
	}
}

func (d *decoder) boolean(left, m, x *node) *node {
	mask, xor, or := m.value, x.value, number{}
	if mask != ones(m.bits) || !xor.zero() {
		or = mask.and(xor).xor(xor)
		xor = xor.and(mask)
		mask = mask.or(or)
	}
	n := left
	apply := func(op string, v number) {
		n = d.binary(op, n, d.arena.number(v, m.bits))
		n.bits = left.bits
	}
	if left.bits <= 0 || mask.lowestZero(0) < left.bits {
		apply(opAnd, mask)
	}
	if !xor.zero() {
		apply(opXor, xor)
	}
	if !or.zero() {
		apply(opOr, or)
	}
	return n
}

func (d *decoder) byteorder(a *attributes) {
	n := d.new(swapped)
	n.left = d.source(a, 1)
	n.bits = n.left.bits
	if a.u32(3) > 1 {
		d.fail("byteorder operation %d", a.u32(3))
	}
	d.load(a, 2, n)
}
