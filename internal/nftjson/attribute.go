package nftjson

import "encoding/binary"

// attributes holds the attributes of a netlink message, or of a nested
// attribute, by their number: nil where there is none.
type attributes [24][]byte

// numbers is a set of attribute numbers.
type numbers uint32

func known(list ...int) numbers {
	var s numbers
	for _, n := range list {
		s |= 1 << n
	}
	return s
}

// hostIsLittle says that numbers of the machine have their lowest byte first.
var hostIsLittle = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

const (
	attributeHeader = 4
	// attributeType leaves the flags of nesting and byte order out.
	attributeType = 0x3fff
)

// each calls fn for the attributes in data, in order.
func each(data []byte, fn func(number int, value []byte) error) error {
	for len(data) > 0 {
		if len(data) < attributeHeader {
			return unknownf("%d bytes after the last attribute", len(data))
		}
		size := int(binary.NativeEndian.Uint16(data))
		if size < attributeHeader || size > len(data) {
			return unknownf("an attribute of %d bytes in %d", size, len(data))
		}
		number := int(binary.NativeEndian.Uint16(data[2:]) & attributeType)
		if err := fn(number, data[attributeHeader:size:size]); err != nil {
			return err
		}
		data = data[min((size+3)&^3, len(data)):]
	}
	return nil
}

// parse sorts the attributes in data. One that is not expected means that the
// kernel says something that this package does not know.
func (a *attributes) parse(data []byte, what string, expected numbers) error {
	*a = attributes{}
	for len(data) > 0 {
		if len(data) < attributeHeader {
			return unknownf("%s: %d bytes after the last attribute", what, len(data))
		}
		size := int(binary.NativeEndian.Uint16(data))
		if size < attributeHeader || size > len(data) {
			return unknownf("%s: an attribute of %d bytes in %d", what, size, len(data))
		}
		number := int(binary.NativeEndian.Uint16(data[2:]) & attributeType)
		if number >= len(a) || expected&(1<<number) == 0 {
			return unknownf("attribute %d of %s", number, what)
		}
		a[number] = data[attributeHeader:size:size]
		data = data[min((size+3)&^3, len(data)):]
	}
	return nil
}

// uint is a number in network order, of any width; 0 where there is none.
func (a *attributes) uint(number int) uint64 {
	var v uint64
	for _, b := range a[number] {
		v = v<<8 | uint64(b)
	}
	return v
}

func (a *attributes) u32(number int) uint32 { return uint32(a.uint(number)) }

// text is a string without the zero that ends it.
func (a *attributes) text(number int) string { return cString(a[number]) }

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// userData calls fn for what nft itself has stored with an object: entries of
// one byte of type, one of length, and a value.
func userData(data []byte, what string, fn func(kind byte, value []byte) error) error {
	for len(data) > 0 {
		if len(data) < 2 || int(data[1])+2 > len(data) {
			return unknownf("user data of %s that ends early", what)
		}
		size := int(data[1]) + 2
		if err := fn(data[0], data[2:size:size]); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}
