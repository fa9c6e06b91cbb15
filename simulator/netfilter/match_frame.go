package netfilter

// headerMatch compares bits of a header.
type headerMatch struct {
	base           headerBase
	offset, length int // in bits
	value, mask    u128
	invert         bool
	what           string // the option
}

func (m *headerMatch) match(x *traversal) tri {
	var h header
	if x.readHeader(m.base, &h) == no {
		return no
	}
	v, found := h.bits(m.offset, m.length)
	if found == no {
		return no
	}
	h.data = h.known
	known, _ := h.bits(m.offset, m.length)
	switch {
	case v.xor(m.value).and(m.mask).and(known) != u128{}:
		return is(m.invert)
	case m.mask.and(known) == m.mask:
		return is(!m.invert)
	}
	return maybe
}

func (m *headerMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), m.what) }

// etherTypeMatch is -p of ebtables, to which frames with a tag are of the tag's
// type: ebt_basic_match.
type etherTypeMatch struct {
	value  uint16
	invert bool
}

const etherTypeVLAN = 0x8100

func (m *etherTypeMatch) match(x *traversal) tri {
	typ := x.etherType()
	if x.st.Tagged {
		typ = etherTypeVLAN
	}
	return is((typ == m.value) != m.invert)
}
