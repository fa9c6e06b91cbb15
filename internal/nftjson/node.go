package nftjson

// kind says what a node of an expression is.
type kind uint8

const (
	constant kind = iota
	payloadLoad
	metaLoad
	ctLoad
	routeLoad
	socketLoad
	fibLoad
	osfLoad
	xfrmLoad
	headerLoad // an extension header, an option of TCP or IP, or a chunk of SCTP
	numgenLoad
	hashLoad
	swapped // the bytes of left, in the other order
	binary2 // left op right
	relation
	flagTest  // left & list op right
	rangeOf   // left to right
	prefixOf  // left / length
	listOf    // flags
	concat    // list
	setRef    // set
	mapLookup // left, looked up in the set of right
	element   // the key left, of a rule that adds to a set
	verdict
)

// byteOrder is that of a value in its register. A value of which it is not
// said is read as if it were of the network.
type byteOrder uint8

const (
	orderUnset byteOrder = iota
	orderHost
	orderNetwork
)

// operators, as nft prints them.
const (
	opEqual       = "=="
	opNotEqual    = "!="
	opLess        = "<"
	opLessEqual   = "<="
	opMore        = ">"
	opMoreEqual   = ">="
	opAnd         = "&"
	opOr          = "|"
	opXor         = "^"
	opLeft        = "<<"
	opRight       = ">>"
	opContains    = "in"
	opNotContains = "!"
)

// node is a part of an expression. Which fields have a meaning depends on its
// kind.
type node struct {
	kind  kind
	typ   *dataType
	order byteOrder
	bits  int

	op          string
	left, right *node
	list        []*node

	// value is that of a constant, of which raw are the bytes of the register;
	// raw is nil once the value has been computed with.
	value number
	raw   []byte

	// base, offset, protocol and field belong to what is read from a header.
	base     int
	offset   int
	protocol *protocol
	field    *field
	// isKey says that it names the protocol of the next layer.
	isKey bool

	key     uint32 // of meta, ct, rt, socket, xfrm; the kind of numgen, hash and extension headers
	dir     int8   // of ct and xfrm; -1 for none
	flags   uint32
	length  int // of a prefix; the modulus of numgen and hash
	start   uint32
	seed    uint32
	seeded  bool
	timeout uint64

	set    *set
	code   int32 // of a verdict
	target string
}

// reads says whether two expressions read the same.
func (n *node) reads(as *node) bool {
	if n == nil || as == nil {
		return n == as
	}
	if n.kind != as.kind || n.bits != as.bits || n.op != as.op || n.value != as.value || n.base != as.base || n.offset != as.offset ||
		n.key != as.key || n.dir != as.dir || n.flags != as.flags || n.length != as.length || n.start != as.start ||
		n.seed != as.seed || n.set != as.set || len(n.list) != len(as.list) {
		return false
	}
	for i := range n.list {
		if !n.list[i].reads(as.list[i]) {
			return false
		}
	}
	return n.left.reads(as.left) && n.right.reads(as.right)
}

// arena holds the nodes of one rule, and is used again for the next.
type arena struct {
	chunks [][]node
	used   int
}

const chunkSize = 64

func (a *arena) reset() { a.used = 0 }

func (a *arena) new(k kind) *node {
	chunk := a.used / chunkSize
	if chunk == len(a.chunks) {
		a.chunks = append(a.chunks, make([]node, chunkSize))
	}
	n := &a.chunks[chunk][a.used%chunkSize]
	a.used++
	list := n.list[:0]
	*n = node{kind: k, typ: typeInvalid, list: list}
	return n
}

func (a *arena) copy(from *node) *node {
	n := a.new(from.kind)
	list := n.list
	*n = *from
	n.list = append(list[:0], from.list...)
	return n
}

// constant is one with the bytes of a register.
func (a *arena) constant(raw []byte) *node {
	n := a.new(constant)
	n.raw, n.bits = raw, 8*len(raw)
	if len(raw) <= 16 {
		n.value = bigEndian(raw)
	}
	return n
}

func (a *arena) number(v number, width int) *node {
	n := a.new(constant)
	n.value, n.bits = v, width
	return n
}

func (a *arena) binary(op string, left, right *node) *node {
	n := a.new(binary2)
	n.op, n.left, n.right = op, left, right
	n.typ, n.order = left.typ, left.order
	return n
}

func (a *arena) relation(op string, left, right *node) *node {
	n := a.new(relation)
	n.op, n.left, n.right = op, left, right
	return n
}

func (a *arena) rangeOf(from, to *node) *node {
	n := a.new(rangeOf)
	n.left, n.right = from, to
	return n
}

func (a *arena) prefix(of *node, length int) *node {
	n := a.new(prefixOf)
	n.left, n.length = of, length
	return n
}

// setValue changes what a constant is.
func (n *node) setValue(v number) { n.value, n.raw = v, nil }

// setType says of what type a node is, and with it the values in it
// (expr_set_type).
func (n *node) setType(t *dataType, o byteOrder) {
	switch n.kind {
	case rangeOf:
		n.left.setType(t, o)
		n.right.setType(t, o)
	case prefixOf:
		n.left.setType(t, o)
	case element:
		n.left.setType(t, o)
	case listOf:
		for _, e := range n.list {
			e.setType(t, o)
		}
	default:
		n.typ, n.order = t, o
	}
}

// splice takes the first bits off a constant. Nil means that there are not as
// many.
func (a *arena) splice(n *node, width int) *node {
	if width > n.bits || width <= 0 {
		return nil
	}
	if n.raw != nil && width%8 == 0 && n.bits == 8*len(n.raw) {
		part := a.constant(n.raw[: width/8 : width/8])
		n.raw, n.bits = n.raw[width/8:], n.bits-width
		if len(n.raw) <= 16 {
			n.value = bigEndian(n.raw)
		}
		return part
	}
	if n.bits > 128 {
		return nil
	}
	part := a.number(n.value.right(n.bits-width).and(ones(width)), width)
	n.setValue(n.value.and(ones(n.bits - width)))
	n.bits -= width
	return part
}

// isKnown says whether a payload expression has a name.
func (n *node) isKnown() bool { return n.protocol != nil && n.field != nil }

// padded is how many bits a value takes in registers of 32.
func padded(width int) int { return (width + 31) / 32 * 32 }
