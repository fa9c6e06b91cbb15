package nftjson

import (
	"bytes"
	"fmt"
)

// NotUnderstood is the error of a rule set that has something in it that this
// package does not know to the last attribute.
type NotUnderstood struct {
	Where string // the object, such as "rule 5 of inet t c"
	What  string
}

func (e *NotUnderstood) Error() string {
	if e.Where == "" {
		return e.What + " is not understood"
	}
	return e.Where + ": " + e.What + " is not understood"
}

func unknownf(format string, args ...any) error {
	return &NotUnderstood{What: fmt.Sprintf(format, args...)}
}

// maxRegisters is the number of registers of 32 bits; they are numbered from 1
// on here, and 0 stands for that of the verdict.
const maxRegisters = 16

// maxNodes bounds how much the expressions of one rule may grow, as what is in
// registers is copied to others.
const maxNodes = 1 << 16

// decoder reads the expressions of one rule: loads fill registers, and what
// looks at them becomes a statement.
type decoder struct {
	arena
	table     *table
	err       error
	registers [maxRegisters + 1]*node
	list      []statement
	// frames are the attributes of the expression that is read, and of one inside
	// of it.
	frames [2]attributes
	depth  int
	names  map[string]string
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = unknownf(format, args...)
	}
}

func (d *decoder) start(t *table) {
	d.arena.reset()
	d.table, d.err = t, nil
	d.registers = [maxRegisters + 1]*node{}
	d.list = d.list[:0]
}

// register is the number of a register; those of 128 bits are four of 32
// (netlink_parse_register).
func (d *decoder) register(a *attributes, number int) int {
	switch r := a.u32(number); {
	case r == 0:
		return 0
	case r <= 4:
		return 1 + int(r-1)*4
	case r >= 8 && r < 8+maxRegisters:
		return 1 + int(r-8)
	}
	d.fail("register %d", a.u32(number))
	return 0
}

func (d *decoder) load(a *attributes, number int, n *node) {
	r := d.register(a, number)
	if r == 0 {
		d.fail("a load into no register")
		return
	}
	d.registers[r] = n
}

// read is what is in a register.
func (d *decoder) read(r int) *node {
	if r <= 0 || r > maxRegisters || d.registers[r] == nil {
		d.fail("a register without content")
		return d.arena.constant(nil)
	}
	return d.clone(d.registers[r])
}

func (d *decoder) source(a *attributes, number int) *node { return d.read(d.register(a, number)) }

// clone copies an expression: each use of a register is changed on its own.
func (d *decoder) clone(n *node) *node {
	if n == nil {
		return nil
	}
	if d.used > maxNodes {
		d.fail("a rule that is so large")
		return n
	}
	c := d.copy(n)
	c.left, c.right = d.clone(n.left), d.clone(n.right)
	for i, e := range c.list {
		c.list[i] = d.clone(e)
	}
	return c
}

// concatenated is what several registers hold, together as wide as width.
func (d *decoder) concatenated(r, width int) *node {
	c := d.new(concat)
	for width > 0 && d.err == nil {
		e := d.read(r)
		if e.bits <= 0 {
			d.fail("a concatenation with a part of no width")
			break
		}
		c.list = append(c.list, e)
		c.bits += padded(e.bits)
		width -= padded(e.bits)
		r += padded(e.bits) / 32
	}
	return c
}

// sourceOf is what is in a register, or in as many as the width needs.
func (d *decoder) sourceOf(a *attributes, number, width int) *node {
	r := d.register(a, number)
	n := d.read(r)
	if n.bits < width {
		return d.concatenated(r, width)
	}
	return n
}

// concatenatedData splits a constant as the registers that it is compared with.
func (d *decoder) concatenatedData(like *node, value *node) *node {
	c := d.new(concat)
	for _, l := range like.list {
		part := d.splice(value, l.bits)
		if part == nil {
			d.fail("a comparison of another width")
			return c
		}
		if pad := padded(l.bits) - l.bits; pad > 0 && value.bits > 0 {
			d.splice(value, min(pad, value.bits))
		}
		c.list = append(c.list, part)
	}
	return c
}

// data reads a value or a verdict (nft_data_attributes).
func (d *decoder) data(b []byte, what string) *node {
	var a attributes
	if err := a.parse(b, what, known(1, 2)); err != nil {
		d.keep(err)
		return d.arena.constant(nil)
	}
	switch {
	case a[2] != nil && a[1] == nil:
		return d.verdict(a[2])
	case a[1] != nil && a[2] == nil && len(a[1]) > 0 && len(a[1]) <= 64:
		return d.arena.constant(a[1])
	}
	d.fail("%s without a value", what)
	return d.arena.constant(nil)
}

// value is data that is no verdict.
func (d *decoder) value(b []byte, what string) *node {
	n := d.data(b, what)
	if n.kind != constant {
		d.fail("%s that is a verdict", what)
		return d.arena.constant(nil)
	}
	return n
}

func (d *decoder) verdict(b []byte) *node {
	n := d.new(verdict)
	var a attributes
	d.keep(a.parse(b, "verdict", known(1, 2)))
	n.code = int32(a.u32(1))
	n.typ = typeVerdict
	if _, ok := verdictNames[n.code]; !ok {
		d.fail("verdict %d", n.code)
	}
	if n.code == verdictJump || n.code == verdictGoto {
		n.target = a.text(2)
		d.chainName(n.target)
	} else if a[2] != nil {
		d.fail("a chain of a verdict that needs none")
	}
	return n
}

// chainName refuses chains without a name, which rules have for themselves:
// nft does not print them in JSON.
func (d *decoder) chainName(name string) {
	if name == "" || len(name) >= 7 && name[:7] == "__chain" {
		d.fail("a chain that belongs to a rule")
	}
}

func (d *decoder) keep(err error) {
	if d.err == nil && err != nil {
		d.err = err
	}
}

// expressions reads a list of them.
func (d *decoder) expressions(b []byte) {
	d.keep(each(b, func(number int, value []byte) error {
		if number != 1 {
			return unknownf("attribute %d of a list of expressions", number)
		}
		d.expression(value)
		return d.err
	}))
}

// expression reads one; statements are appended to the list.
func (d *decoder) expression(b []byte) {
	var e attributes
	if err := e.parse(b, "expression", known(1, 2)); err != nil {
		d.keep(err)
		return
	}
	name, data := d.name(e[1]), e[2]
	last, decode := format(name)
	if decode == nil {
		d.fail("expression %q", name)
		return
	}
	if d.depth == len(d.frames) {
		d.fail("an expression in an expression in another")
		return
	}
	a := &d.frames[d.depth]
	d.depth++
	defer func() { d.depth-- }()
	if err := a.parse(data, name, 1<<(last+1)-2); err != nil {
		d.keep(err)
		return
	}
	decode(d, a)
}

// name is the name of an expression. There are few of them.
func (d *decoder) name(b []byte) string {
	b = bytes.TrimSuffix(b, []byte{0})
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if d.names == nil {
		d.names = make(map[string]string)
	}
	s := string(b)
	d.names[s] = s
	return s
}

// format says how many attributes an expression may have, all those of
// linux/netfilter/nf_tables.h (NFTA_*), and what they mean. Expressions that
// are not here are not understood.
func format(name string) (last int, decode func(d *decoder, a *attributes)) {
	switch name {
	case "immediate":
		return 2, (*decoder).immediate
	case "payload":
		return 8, (*decoder).payload
	case "meta":
		return 3, (*decoder).meta
	case "ct":
		return 4, (*decoder).ct
	case "rt":
		return 2, (*decoder).route
	case "socket":
		return 3, (*decoder).socket
	case "fib":
		return 3, (*decoder).fib
	case "osf":
		return 3, (*decoder).osf
	case "xfrm":
		return 4, (*decoder).xfrm
	case "exthdr":
		return 7, (*decoder).extension
	case "numgen":
		return 4, (*decoder).numgen
	case "hash":
		return 7, (*decoder).hash
	case "bitwise":
		return 7, (*decoder).bitwise
	case "byteorder":
		return 5, (*decoder).byteorder
	case "cmp":
		return 3, (*decoder).compare
	case "range":
		return 4, (*decoder).inRange
	case "lookup":
		return 5, (*decoder).lookup
	case "objref":
		return 5, (*decoder).objref
	case "dynset":
		return 10, (*decoder).dynset
	case "nat":
		return 7, (*decoder).nat
	case "masq":
		return 3, (*decoder).masquerade
	case "redir":
		return 3, (*decoder).redirect
	case "tproxy":
		return 3, (*decoder).tproxy
	case "reject":
		return 2, (*decoder).reject
	case "dup":
		return 2, (*decoder).dup
	case "fwd":
		return 3, (*decoder).fwd
	case "queue":
		return 4, (*decoder).queue
	case "log":
		return 6, (*decoder).log
	case "limit":
		return 6, (*decoder).limit
	case "quota":
		return 4, (*decoder).quota
	case "counter":
		return 3, (*decoder).counter
	case "connlimit":
		return 2, (*decoder).connlimit
	case "last":
		return 3, (*decoder).last
	case "notrack":
		return 0, func(d *decoder, a *attributes) { d.add(statement{kind: notrackStatement}) }
	case "flow_offload":
		return 1, (*decoder).flow
	case "synproxy":
		return 3, (*decoder).synproxy
	case "match":
		return 3, func(d *decoder, a *attributes) { d.xtables("match", a) }
	case "target":
		return 3, func(d *decoder, a *attributes) { d.xtables("target", a) }
	}
	return 0, nil
}
