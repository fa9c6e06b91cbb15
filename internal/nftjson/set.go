package nftjson

import (
	"bytes"
	"encoding/binary"
)

// Flags of sets (enum nft_set_flags).
const (
	setAnonymous = 1 << 0
	setConstant  = 1 << 1
	setInterval  = 1 << 2
	setMap       = 1 << 3
	setTimeout   = 1 << 4
	setEval      = 1 << 5
	setObject    = 1 << 6
	setConcat    = 1 << 7
	setExpr      = 1 << 8
)

// set is a set or map, named or part of a rule.
type set struct {
	name, comment string
	handle        uint64
	flags         uint32
	key           []keyPart // several make a concatenation
	keyOrder      byteOrder // of a key that is none
	keyBits       int
	data          []keyPart
	dataOrder     byteOrder
	dataBits      int
	dataInterval  bool
	object        uint32 // the type of the objects that it maps to
	policy, size  uint32
	timeout       uint64
	interval      uint64 // of the garbage collection
	statements    []byte // the list of what it has with each element, encoded
	// updated says that a rule adds or removes elements, for which the kernel
	// needs no flag.
	updated bool

	elements []setElement
}

// keyPart is a field of a key, or of what a map has for it.
type keyPart struct {
	typ   *dataType
	bits  int // 0 where the type says it
	order byteOrder
}

func (p *keyPart) width() int {
	if p.bits != 0 {
		return p.bits
	}
	return p.typ.size
}

// setElement is an element as the kernel has it.
type setElement struct {
	key, keyEnd []byte
	end         bool // the first value that is no longer of the interval
	catchAll    bool
	data        []byte // encoded
	object      string
	timeout     uint64
	expires     uint64
	comment     string
	expressions []byte // one, or a list of them, encoded
	one         bool
}

func (s *set) anonymous() bool        { return s.flags&setAnonymous != 0 }
func (s *set) volatile() bool         { return s.updated || s.flags&(setTimeout|setEval) != 0 }
func (s *set) in(t *table) string     { return "set " + t.familyName() + " " + t.name + " " + s.name }
func (s *set) isMap() bool            { return s.flags&setMap != 0 }
func (s *set) concatenated() bool     { return len(s.key) > 1 }
func (s *set) dataConcatenated() bool { return len(s.data) > 1 }

// Attributes of sets (NFTA_SET_*) that are looked at.
const (
	setName        = 2
	setFlags       = 3
	setKeyType     = 4
	setKeyLen      = 5
	setDataType    = 6
	setDataLen     = 7
	setPolicy      = 8
	setDesc        = 9
	setTimeoutAttr = 11
	setGCInterval  = 12
	setUserData    = 13
	setObjType     = 15
	setHandle      = 16
	setExprAttr    = 17
	setExprsAttr   = 18
)

// The kernel's type of the set's implementation, and the number of its elements
// (NFTA_SET_TYPE, NFTA_SET_COUNT), since Linux 6.16, say nothing of it.
var setAttributes = known(1, setName, setFlags, setKeyType, setKeyLen, setDataType, setDataLen, setPolicy, setDesc, 10, setTimeoutAttr, setGCInterval,
	setUserData, 14, setObjType, setHandle, setExprAttr, setExprsAttr, 19, 20)

// What nft keeps with a set (enum nftnl_set_udata).
const (
	udataKeyOrder     = 0
	udataDataOrder    = 1
	udataMerge        = 2
	udataKeyTypeof    = 3
	udataDataTypeof   = 4
	udataExpr         = 5
	udataDataInterval = 6
	udataSetComment   = 7
)

func readSet(a *attributes) (*set, error) {
	s := &set{
		name: a.text(setName), handle: a.uint(setHandle), flags: a.u32(setFlags), policy: a.u32(setPolicy),
		timeout: a.uint(setTimeoutAttr), interval: a.uint(setGCInterval), object: a.u32(setObjType),
		keyBits: int(a.u32(setKeyLen)) * 8, dataBits: int(a.u32(setDataLen)) * 8,
	}
	if s.flags >= 2*setExpr {
		return nil, unknownf("set flags %#x", s.flags)
	}
	if s.keyBits > 1024 || s.dataBits > 1024 {
		return nil, unknownf("a key of %d bits", s.keyBits)
	}
	var fields []int
	if a[setDesc] != nil {
		var desc attributes
		if err := desc.parse(a[setDesc], "description of a set", known(1, 2)); err != nil {
			return nil, err
		}
		s.size = desc.u32(1)
		err := each(desc[2], func(number int, value []byte) error {
			var f attributes
			if err := f.parse(value, "field of a set", known(1)); err != nil {
				return err
			}
			fields = append(fields, int(f.u32(1))*8)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var keyTypeof, dataTypeof []keyPart
	err := userData(a[setUserData], "a set", func(kind byte, value []byte) error {
		switch kind {
		case udataKeyOrder, udataDataOrder, udataDataInterval, udataMerge:
			if len(value) != 4 {
				return unknownf("user data %d of a set, of %d bytes", kind, len(value))
			}
			v := binary.NativeEndian.Uint32(value)
			switch kind {
			case udataKeyOrder:
				s.keyOrder = byteOrder(v)
			case udataDataOrder:
				s.dataOrder = byteOrder(v)
			case udataDataInterval:
				s.dataInterval = v != 0
			}
		case udataSetComment:
			s.comment = cString(value)
		case udataKeyTypeof:
			keyTypeof = typeofUserData(value)
		case udataDataTypeof:
			dataTypeof = typeofUserData(value)
		case udataExpr:
		default:
			return unknownf("user data %d of a set", kind)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.key, err = keyParts(a.u32(setKeyType), s.keyBits, keyTypeof); err != nil {
		return nil, err
	}
	for i := range s.key {
		if len(s.key) > 1 && s.key[i].width() == 0 && i < len(fields) {
			s.key[i].bits = fields[i]
		}
		if len(s.key) > 1 && s.key[i].width() == 0 {
			return nil, unknownf("a concatenation with a field of unknown width")
		}
	}
	switch {
	case s.flags&setMap != 0:
		width := s.dataBits
		if s.dataInterval {
			width /= 2
		}
		if s.data, err = keyParts(a.u32(setDataType), width, dataTypeof); err != nil {
			return nil, err
		}
	case s.flags&setObject != 0:
		s.data = []keyPart{{typ: typeString}}
	}
	if s.statements = bytes.Clone(a[setExprsAttr]); s.statements == nil && a[setExprAttr] != nil {
		s.statements = nest(1, a[setExprAttr])
	}
	return s, nil
}

// nest puts data into an attribute.
func nest(number uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(attributeHeader+len(data)))
	b = binary.NativeEndian.AppendUint16(b, number)
	return append(b, data...)
}

// keyParts are the types of a key.
func keyParts(id uint32, width int, typeof []keyPart) ([]keyPart, error) {
	types := typesOf(id)
	if types == nil {
		return nil, unknownf("a set of type %#x", id)
	}
	parts := make([]keyPart, len(types))
	for i, t := range types {
		parts[i] = keyPart{typ: t, order: t.order}
		if len(typeof) == len(types) && typeof[i].bits != 0 {
			parts[i].bits, parts[i].order = typeof[i].bits, typeof[i].order
		}
	}
	if len(types) == 1 {
		parts[0].bits = width
	}
	return parts, nil
}

// typeofUserData reads the expressions of which a set has the type, as far as
// they say a width that the type does not.
func typeofUserData(data []byte) []keyPart {
	const kindOf, dataOf = 0, 1
	var kind uint32
	var body []byte
	entry := func(b []byte) error {
		kind, body = 0, nil
		return userData(b, "typeof", func(k byte, value []byte) error {
			switch {
			case k == kindOf && len(value) == 4:
				kind = binary.NativeEndian.Uint32(value)
			case k == dataOf:
				body = value
			}
			return nil
		})
	}
	if entry(data) != nil {
		return nil
	}
	if kind != typeofConcat {
		return []keyPart{typeofPart(kind, body)}
	}
	var parts []keyPart
	if userData(body, "typeof", func(_ byte, value []byte) error {
		if err := entry(value); err != nil {
			return err
		}
		parts = append(parts, typeofPart(kind, body))
		return nil
	}) != nil {
		return nil
	}
	return parts
}

// Kinds of expressions in user data (enum expr_types of nft).
const (
	typeofPayload = 7
	typeofMeta    = 9
	typeofCT      = 12
	typeofConcat  = 13
)

func typeofPart(kind uint32, body []byte) keyPart {
	var values [5]uint32
	if userData(body, "typeof", func(k byte, value []byte) error {
		if int(k) < len(values) && len(value) == 4 {
			values[k] = binary.NativeEndian.Uint32(value)
		}
		return nil
	}) != nil {
		return keyPart{}
	}
	switch {
	case kind == typeofPayload:
		return keyPart{bits: int(values[4]), order: orderNetwork}
	case kind == typeofMeta && int(values[0]) < len(metaTemplates):
		t := metaTemplates[values[0]]
		return keyPart{bits: t.bits, order: t.order}
	case kind == typeofCT && int(values[0]) < len(ctTemplates):
		t := ctTemplates[values[0]]
		return keyPart{bits: t.bits, order: t.order}
	}
	return keyPart{}
}

// Attributes of elements (NFTA_SET_ELEM_*).
const (
	elemKey         = 1
	elemData        = 2
	elemFlags       = 3
	elemTimeout     = 4
	elemExpiration  = 5
	elemUserData    = 6
	elemExpr        = 7
	elemObjRef      = 9
	elemKeyEnd      = 10
	elemExpressions = 11
)

var elementAttributes = known(elemKey, elemData, elemFlags, elemTimeout, elemExpiration, elemUserData, elemExpr, 8, elemObjRef, elemKeyEnd, elemExpressions)

// Attributes of a message with elements (NFTA_SET_ELEM_LIST_*).
const (
	elemListTable    = 1
	elemListSet      = 2
	elemListElements = 3
)

// readMessage reads the elements in a message, and keeps parts of it.
func (s *set) readMessage(body []byte) error {
	var a attributes
	if err := a.parse(body, "elements", known(elemListTable, elemListSet, elemListElements)); err != nil {
		return err
	}
	return s.readElements(a[elemListElements])
}

// readElements reads a list of elements.
func (s *set) readElements(list []byte) error {
	return each(list, func(_ int, b []byte) error {
		var a attributes
		if err := a.parse(b, "set element", elementAttributes); err != nil {
			return err
		}
		e := setElement{
			data: a[elemData], object: a.text(elemObjRef), timeout: a.uint(elemTimeout), expires: a.uint(elemExpiration),
			expressions: a[elemExpressions],
		}
		if e.expressions == nil && a[elemExpr] != nil {
			e.expressions, e.one = a[elemExpr], true
		}
		const intervalEnd, catchAll = 1, 2
		flags := a.u32(elemFlags)
		if flags > intervalEnd|catchAll {
			return unknownf("element flags %#x", flags)
		}
		e.end, e.catchAll = flags&intervalEnd != 0, flags&catchAll != 0
		var err error
		if a[elemKey] != nil {
			if e.key, err = rawValue(a[elemKey]); err != nil {
				return err
			}
		} else if !e.catchAll {
			return unknownf("an element without a key")
		}
		if a[elemKeyEnd] != nil {
			if e.keyEnd, err = rawValue(a[elemKeyEnd]); err != nil {
				return err
			}
		}
		err = userData(a[elemUserData], "an element", func(kind byte, value []byte) error {
			// The flag says that an interval has no end, which is seen.
			const comment, openInterval = 0, 1
			switch kind {
			case comment:
				e.comment = cString(value)
			case openInterval:
			default:
				return unknownf("user data %d of an element", kind)
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.elements = append(s.elements, e)
		return nil
	})
}

// rawValue is a value of data that is no verdict.
func rawValue(b []byte) ([]byte, error) {
	var a attributes
	if err := a.parse(b, "data of an element", known(1)); err != nil {
		return nil, err
	}
	if len(a[1]) == 0 {
		return nil, unknownf("an element without a value")
	}
	return a[1], nil
}
