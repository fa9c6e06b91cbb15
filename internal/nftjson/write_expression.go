package nftjson

import "strconv"

// expression writes an expression whose types are known.
func (w *writer) expression(n *node) {
	switch n.kind {
	case constant:
		w.constant(n)
	case payloadLoad:
		w.only("payload")
		w.open('{')
		if n.isKnown() {
			w.text("protocol", n.protocol.name)
			w.text("field", n.field.name)
		} else {
			w.text("base", layerNames[n.base])
			w.integer("offset", uint64(n.offset))
			w.integer("len", uint64(n.bits))
		}
		w.closeBoth()
	case metaLoad:
		w.keyed("meta", metaTemplates[n.key].name)
	case ctLoad:
		w.only("ct")
		w.open('{')
		w.text("key", ctTemplates[n.key].name)
		if n.dir >= 0 {
			w.text("dir", [...]string{"original", "reply"}[n.dir])
		}
		w.closeBoth()
	case routeLoad:
		w.only("rt")
		w.open('{')
		w.text("key", routeTemplates[n.key].name)
		w.family(routeTemplates[n.key].typ)
		w.closeBoth()
	case socketLoad:
		w.keyed("socket", socketTemplates[n.key].name)
	case fibLoad:
		w.fib(n)
	case osfLoad:
		w.only("osf")
		w.open('{')
		w.text("key", [...]string{"name", "version"}[n.flags])
		if n.key > 0 {
			w.text("ttl", [...]string{"", "loose", "skip"}[n.key])
		}
		w.closeBoth()
	case xfrmLoad:
		w.only("ipsec")
		w.open('{')
		w.text("key", xfrmTemplates[n.key].name)
		w.family(xfrmTemplates[n.key].typ)
		w.text("dir", [...]string{"in", "out"}[n.dir])
		w.integer("spnum", uint64(n.flags))
		w.closeBoth()
	case headerLoad:
		w.header(n)
	case numgenLoad:
		w.only("numgen")
		w.open('{')
		w.text("mode", [...]string{"inc", "random"}[n.key])
		w.integer("mod", uint64(n.length))
		w.integer("offset", uint64(n.start))
		w.closeBoth()
	case hashLoad:
		w.hash(n)
	case swapped:
		w.expression(n.left)
	case binary2:
		w.only(n.op)
		w.pair(n.left, n.right)
		w.close('}')
	case relation:
		w.match(n.op, func() { w.expression(n.left) }, n.right)
	case flagTest:
		w.match(n.op, func() {
			w.only(opAnd)
			w.pair(n.left, n.list[0])
			w.close('}')
		}, n.right)
	case rangeOf:
		w.rangeOf(n.left, n.right)
	case prefixOf:
		w.prefix(func() { w.expression(n.left) }, n.length)
	case listOf:
		w.nodes(n.list)
	case concat:
		w.only("concat")
		w.nodes(n.list)
		w.close('}')
	case setRef:
		w.setRef(n)
	case mapLookup:
		name := "map"
		if s := n.right.set; len(s.data) == 1 && s.data[0].typ == typeVerdict {
			name = "vmap"
		}
		w.only(name)
		w.open('{')
		w.key("key")
		w.expression(n.left)
		w.key("data")
		w.expression(n.right)
		w.closeBoth()
	case element:
		if n.timeout == 0 {
			w.expression(n.left)
			return
		}
		w.only("elem")
		w.open('{')
		w.key("val")
		w.expression(n.left)
		w.integer("timeout", n.timeout/1000)
		w.closeBoth()
	case verdict:
		w.verdict(n)
	default:
		w.fail("an expression of kind %d", n.kind)
	}
}

func (w *writer) closeBoth() {
	w.close('}')
	w.close('}')
}

func (w *writer) nodes(list []*node) {
	w.open('[')
	for _, n := range list {
		w.comma()
		w.expression(n)
	}
	w.close(']')
}

func (w *writer) pair(a, b *node) {
	w.open('[')
	w.comma()
	w.expression(a)
	w.comma()
	w.expression(b)
	w.close(']')
}

func (w *writer) keyed(kind, key string) {
	w.only(kind)
	w.open('{')
	w.text("key", key)
	w.closeBoth()
}

func (w *writer) family(t *dataType) {
	switch t {
	case typeIPv4:
		w.text("family", "ip")
	case typeIPv6:
		w.text("family", "ip6")
	}
}

func (w *writer) match(op string, left func(), right *node) {
	w.only("match")
	w.open('{')
	w.text("op", op)
	w.key("left")
	left()
	w.key("right")
	w.expression(right)
	w.closeBoth()
}

// rangeOf writes protocols by number.
func (w *writer) rangeOf(from, to *node) {
	numeric := w.numeric
	w.numeric = true
	w.only("range")
	w.pair(from, to)
	w.close('}')
	w.numeric = numeric
}

func (w *writer) prefix(addr func(), length int) {
	w.only("prefix")
	w.open('{')
	w.key("addr")
	addr()
	w.integer("len", uint64(length))
	w.closeBoth()
}

func (w *writer) verdict(n *node) {
	w.only(verdictNames[n.code])
	if n.target == "" {
		w.null()
	} else {
		w.open('{')
		w.text("target", n.target)
		w.close('}')
	}
	w.close('}')
}

var fibResults = [...]string{fibOIF: "oif", fibOIFName: "oifname", fibAddrType: "type"}

func (w *writer) fib(n *node) {
	w.only("fib")
	w.open('{')
	w.text("result", fibResults[n.key])
	var flags []string
	for i, name := range [...]string{"saddr", "daddr", "mark", "iif", "oif"} {
		if n.flags&(1<<i) != 0 {
			flags = append(flags, name)
		}
	}
	if flags != nil {
		w.list("flags", flags)
	}
	w.closeBoth()
}

func (w *writer) header(n *node) {
	w.only([...]string{extensionIPv6: "exthdr", extensionTCP: "tcp option", extensionIPv4: "ip option", extensionSCTP: "sctp chunk"}[n.key])
	w.open('{')
	switch {
	case n.protocol == nil:
		w.integer("base", uint64(n.start))
		w.integer("offset", uint64(n.offset))
		w.integer("len", uint64(n.bits))
	default:
		name := n.protocol.name
		if n.key == extensionTCP && n.offset >= 64 {
			if name += strconv.Itoa(n.offset / 64); n.offset/64 > 3 {
				w.fail("field %d of TCP option %s", n.offset, n.protocol.name)
			}
		}
		w.text("name", name)
		if n.flags&extensionPresent == 0 && n.bits > 0 {
			if n.field == nil {
				w.fail("bit %d of extension header %s", n.offset, n.protocol.name)
				break
			}
			w.text("field", n.field.name)
		}
	}
	w.closeBoth()
}

func (w *writer) hash(n *node) {
	if n.key == hashSymmetric {
		w.only("symhash")
	} else {
		w.only("jhash")
	}
	w.open('{')
	w.integer("mod", uint64(n.length))
	if n.seeded {
		w.integer("seed", uint64(n.seed))
	}
	if n.start != 0 {
		w.integer("offset", uint64(n.start))
	}
	if n.left != nil {
		w.key("expr")
		w.expression(n.left)
	}
	w.closeBoth()
}

// constant writes a value as its type says (datatype_json).
func (w *writer) constant(n *node) {
	t := n.typ
	switch {
	case t.text:
		w.string(n.string())
	case n.bits > 128:
		w.fail("a value of %d bits", n.bits)
	case t.write != nil:
		t.write(w, n)
	default:
		if n.value.high == 0 {
			for i := range t.symbols {
				if t.symbols[i].value == n.value.low {
					w.string(t.symbols[i].name)
					return
				}
			}
		}
		writeInteger(w, n)
	}
}

// string is the text of a constant, up to the zero that ends it. One that no
// zero ends is compared in part: it stands for all that begin so.
func (n *node) string() string {
	raw := n.raw
	if raw == nil {
		raw = n.value.bytes(n.bits / 8)
	}
	for i, c := range raw {
		if c == 0 {
			if i > 0 && raw[i-1] == '*' {
				return string(raw[:i-1]) + `\*`
			}
			return string(raw[:i])
		}
	}
	return string(raw) + "*"
}
