package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftExpr is the left side of a match, or the source of a value: get reads it
// from the packet, and answers no where the kernel breaks off the rule because
// the packet has no such field.
type nftExpr struct {
	name string // for people
	typ  nftType
	get  func(x *traversal) (u128, tri)
	// dice is the number of sides of a random number; 0 for everything else.
	dice, offset uint64
}

func word(v uint64) (u128, tri) { return u128{lo: v}, yes }

// expr compiles an expression.
func (p *nftParser) expr(n *jsonNode) (nftExpr, error) {
	if n.kind == jsonNumber {
		s, err := p.scalarSpan(nftInteger, n)
		return nftExpr{name: n.text, get: func(*traversal) (u128, tri) { return s.first, yes }}, err
	}
	kind, arg, ok := n.only()
	if !ok {
		return nftExpr{}, p.errorf(n, "expected an expression")
	}
	switch kind {
	case "payload":
		return p.payload(arg)
	case "meta":
		return p.meta(arg)
	case "ct":
		return p.ct(arg)
	case "fib":
		return p.fib(arg)
	case "socket":
		return p.socket(arg)
	case "numgen", "jhash", "symhash":
		// A hash with a secret seed is dice, too.
		mod, ok := arg.number("mod")
		offset, _ := arg.number("offset")
		if !ok || mod < 1 || offset < 0 {
			return nftExpr{}, p.errorf(arg, "%s has no modulus", kind)
		}
		return nftExpr{
			name: kind, dice: uint64(mod), offset: uint64(offset),
			get: func(*traversal) (u128, tri) { return u128{}, maybe },
		}, nil
	case "&", "|", "^":
		return p.binary(kind, arg)
	}
	return nftExpr{}, notModelled(kind)
}

func (p *nftParser) binary(op string, n *jsonNode) (nftExpr, error) {
	if n.kind != jsonArray || len(n.list) != 2 {
		return nftExpr{}, p.errorf(n, "operator %s has two sides", op)
	}
	left, err := p.expr(&n.list[0])
	if err != nil {
		return nftExpr{}, err
	}
	right, err := p.span(left.typ, &n.list[1])
	if err != nil {
		return nftExpr{}, err
	}
	inner, v := left.get, right.first
	left.dice = 0
	left.get = func(x *traversal) (u128, tri) {
		a, res := inner(x)
		switch op {
		case "&":
			a = a.and(v)
		case "|":
			a = a.or(v)
		default:
			a = a.xor(v)
		}
		return a, res
	}
	return left, nil
}

func (p *nftParser) payload(n *jsonNode) (nftExpr, error) {
	proto, field := n.str("protocol"), n.str("field")
	if base := n.str("base"); base == "th" {
		offset, _ := n.number("offset")
		length, _ := n.number("len")
		if length == 16 && (offset == 0 || offset == 16) {
			proto, field = "th", "sport"
			if offset == 16 {
				field = "dport"
			}
		}
	}
	name := proto + " " + field
	e := nftExpr{name: name}
	switch proto {
	case "ip", "ip6":
		return p.ipField(e, proto, field)
	case "tcp", "udp", "udplite", "sctp", "th":
		var want netstack.Protocol
		if proto != "th" {
			want, _ = parseProtocol(proto)
		}
		value := func(k *netstack.Packet) uint64 { return uint64(k.DstPort) }
		switch field {
		case "dport":
		case "sport":
			value = func(k *netstack.Packet) uint64 { return uint64(k.SrcPort) }
		case "flags":
			if proto != "tcp" {
				return e, notModelled(name)
			}
			e.typ = nftTCPFlags
			value = func(k *netstack.Packet) uint64 { return uint64(k.TCPFlags) }
		default:
			return e, notModelled(name)
		}
		e.get = func(x *traversal) (u128, tri) {
			switch {
			case want == 0 && !x.p.HasPorts():
				return u128{}, maybe // the bytes of another header
			case want != 0 && x.p.Protocol != want:
				return u128{}, no
			}
			return word(value(x.p))
		}
		return e, nil
	case "icmp", "icmpv6":
		want := netstack.ProtoICMP
		e.typ = nftICMPType
		if proto == "icmpv6" {
			want, e.typ = netstack.ProtoICMPv6, nftICMPv6Type
		}
		switch field {
		case "type":
		case "code":
			e.typ += nftICMPCode - nftICMPType
		default:
			return e, notModelled(name)
		}
		code := field == "code"
		e.get = func(x *traversal) (u128, tri) {
			if x.p.Protocol != want {
				return u128{}, no
			}
			if code {
				return word(uint64(x.p.ICMPCode))
			}
			return word(uint64(x.p.ICMPType))
		}
		return e, nil
	case "ether":
		e.typ = nftMAC
		var src bool
		switch field {
		case "saddr":
			src = true
		case "daddr":
		default:
			return e, notModelled(name)
		}
		e.get = func(x *traversal) (u128, tri) {
			if x.st.In == "" {
				return u128{}, no
			}
			mac := x.p.DstMAC
			if src {
				mac = x.p.SrcMAC
			}
			if mac == (netstack.MAC{}) {
				return u128{}, maybe
			}
			return macBits(mac), yes
		}
		return e, nil
	}
	if proto == "" {
		name = "raw payload"
	}
	return e, notModelled(name)
}

func (p *nftParser) ipField(e nftExpr, proto, field string) (nftExpr, error) {
	family := netstack.IPv4
	e.typ = nftIPv4
	if proto == "ip6" {
		family, e.typ = netstack.IPv6, nftIPv6
	}
	var value func(x *traversal) u128
	low := func(f func(k *netstack.Packet) uint64) func(x *traversal) u128 {
		return func(x *traversal) u128 { return u128{lo: f(x.p)} }
	}
	switch field {
	case "saddr":
		value = func(x *traversal) u128 { return x.src }
	case "daddr":
		value = func(x *traversal) u128 { return x.dst }
	case "protocol", "nexthdr":
		e.typ = nftProtocol
		value = low(func(k *netstack.Packet) uint64 { return uint64(k.Protocol) })
	case "ttl", "hoplimit":
		e.typ = nftInteger
		value = low(func(k *netstack.Packet) uint64 { return uint64(k.TTL) })
	case "dscp":
		e.typ = nftDSCP
		value = low(func(k *netstack.Packet) uint64 { return uint64(k.TOS >> 2) })
	case "version":
		e.typ = nftInteger
		value = func(*traversal) u128 { return u128{lo: uint64(family)} }
	case "length":
		e.typ = nftInteger
		overhead := 0
		if family == netstack.IPv6 {
			overhead = 40 // the field counts what follows the header
		}
		value = low(func(k *netstack.Packet) uint64 { return uint64(k.Length - overhead) })
	default:
		return e, notModelled(e.name)
	}
	e.get = func(x *traversal) (u128, tri) {
		if x.family != family {
			return u128{}, no
		}
		return value(x), yes
	}
	return e, nil
}

func (p *nftParser) meta(n *jsonNode) (nftExpr, error) {
	key := n.str("key")
	e := nftExpr{name: "meta " + key}
	switch key {
	case "mark":
		e.get = func(x *traversal) (u128, tri) { return word(uint64(x.p.Mark)) }
	case "iifname", "iif", "oifname", "oif":
		e.typ, e.name = nftIface, key
		in := key[0] == 'i'
		e.get = func(x *traversal) (u128, tri) {
			dev := x.st.Out
			if in {
				dev = x.st.In
			}
			v, _ := ifaceName(dev)
			return v, yes
		}
	case "l4proto":
		e.typ = nftProtocol
		e.get = func(x *traversal) (u128, tri) { return word(uint64(x.p.Protocol)) }
	case "nfproto":
		e.typ = nftNFProto
		e.get = func(x *traversal) (u128, tri) {
			if x.family == netstack.IPv6 {
				return word(10)
			}
			return word(2)
		}
	case "protocol":
		e.typ = nftEtherType
		e.get = func(x *traversal) (u128, tri) {
			if x.family == netstack.IPv6 {
				return word(0x86dd)
			}
			return word(0x800)
		}
	case "length":
		e.get = func(x *traversal) (u128, tri) { return word(uint64(x.p.Length)) }
	case "pkttype":
		e.typ = nftPacketType
		e.get = func(x *traversal) (u128, tri) {
			if x.st.Local {
				return word(uint64(packetUnicast))
			}
			return word(uint64(x.packetKind()))
		}
	case "skuid":
		e.get = func(x *traversal) (u128, tri) {
			switch {
			case !x.st.Local:
				return u128{}, no
			case x.p.UID == nil:
				return u128{}, maybe
			}
			return word(uint64(*x.p.UID))
		}
	default:
		return e, notModelled(e.name)
	}
	return e, nil
}

func (p *nftParser) ct(n *jsonNode) (nftExpr, error) {
	p.needTracking()
	key, dir := n.str("key"), n.str("dir")
	e := nftExpr{name: strings.Join(strings.Fields("ct "+dir+" "+key), " ")}
	if key == "state" {
		e.typ = nftCTState
		e.get = func(x *traversal) (u128, tri) {
			bit := uint64(x.ctStateBit())
			if bit == uint64(bitUntracked) {
				bit = nftUntracked
			}
			return word(bit)
		}
		return e, nil
	}
	var value func(c *Conn, x *traversal) u128
	low := func(f func(c *Conn, x *traversal) uint64) func(c *Conn, x *traversal) u128 {
		return func(c *Conn, x *traversal) u128 { return u128{lo: f(c, x)} }
	}
	reply := dir == "reply"
	tuple := func(c *Conn, x *traversal) *Tuple {
		if dir == "" {
			return c.tuple(x.st.Reply)
		}
		return c.tuple(reply)
	}
	switch key {
	case "status":
		e.typ = nftCTStatus
		value = low(func(c *Conn, _ *traversal) uint64 { return uint64(c.status()) })
	case "mark":
		value = low(func(c *Conn, _ *traversal) uint64 { return uint64(c.Mark) })
	case "direction":
		e.typ = nftCTDirection
		value = low(func(_ *Conn, x *traversal) uint64 {
			if x.st.Reply {
				return 1
			}
			return 0
		})
	case "protocol":
		e.typ = nftProtocol
		value = low(func(c *Conn, x *traversal) uint64 { return uint64(tuple(c, x).Protocol) })
	case "l3proto":
		e.typ = nftNFProto
		value = low(func(c *Conn, _ *traversal) uint64 {
			if c.Original.Dst.Is4() {
				return 2
			}
			return 10
		})
	case "proto-src":
		value = low(func(c *Conn, x *traversal) uint64 { return uint64(tuple(c, x).SrcPort) })
	case "proto-dst":
		value = low(func(c *Conn, x *traversal) uint64 { return uint64(tuple(c, x).DstPort) })
	case "saddr", "ip saddr", "ip6 saddr", "daddr", "ip daddr", "ip6 daddr":
		e.typ = nftAddr
		var want netstack.Family
		switch {
		case strings.HasPrefix(key, "ip6"):
			e.typ, want = nftIPv6, netstack.IPv6
		case strings.HasPrefix(key, "ip"):
			e.typ, want = nftIPv4, netstack.IPv4
		}
		src := strings.HasSuffix(key, "saddr")
		e.get = func(x *traversal) (u128, tri) {
			c := x.st.Conn
			if c == nil || want != 0 && want != x.family {
				return u128{}, no
			}
			t := tuple(c, x)
			if src {
				return addrBits(t.Src), yes
			}
			return addrBits(t.Dst), yes
		}
		return e, nil
	default:
		return e, notModelled(e.name)
	}
	e.get = func(x *traversal) (u128, tri) {
		if x.st.Conn == nil {
			return u128{}, no
		}
		return value(x.st.Conn, x), yes
	}
	return e, nil
}

// fib is a look-up in the routing tables: the type of an address, or the
// device by which one would answer.
func (p *nftParser) fib(n *jsonNode) (nftExpr, error) {
	result := n.str("result")
	has := make(map[string]bool)
	for _, f := range n.strings("flags") {
		has[f] = true
	}
	e := nftExpr{name: "fib " + strings.Join(n.strings("flags"), " . ") + " " + result}
	switch {
	case result == "type":
		e.typ = nftRouteType
		e.get = func(x *traversal) (u128, tri) {
			addr, dev := x.p.Dst, ""
			if has["saddr"] {
				addr = x.p.Src
			}
			switch {
			case has["iif"]:
				dev = x.st.In
			case has["oif"]:
				dev = x.st.Out
			}
			v, ok := nftNames[nftRouteType][string(x.env.AddrType(addr, dev))]
			if !ok {
				return u128{}, maybe
			}
			return word(v)
		}
		return e, nil
	case (result == "oif" || result == "oifname") && has["saddr"] && !has["oif"]:
		// Which device it is only matters as far as there is one.
		e.typ = nftFIBDevice
		strict := has["iif"]
		mark := has["mark"]
		e.get = func(x *traversal) (u128, tri) {
			if x.st.In == "lo" {
				return word(1)
			}
			k := *x.p
			if !mark {
				k.Mark = 0
			}
			if x.env.ReversePath(&k, x.st.In, strict) {
				return word(1)
			}
			return word(0)
		}
		return e, nil
	}
	return e, notModelled(e.name)
}

func (p *nftParser) socket(n *jsonNode) (nftExpr, error) {
	e := nftExpr{name: "socket " + n.str("key")}
	if n.str("key") != "transparent" {
		return e, notModelled(e.name)
	}
	e.get = func(x *traversal) (u128, tri) {
		switch found, known := x.env.LocalSocket(x.p, false); {
		case !known:
			return u128{}, maybe
		case !found:
			return u128{}, no
		}
		if found, _ := x.env.LocalSocket(x.p, true); found {
			return word(1)
		}
		return word(0)
	}
	return e, nil
}

// nftKeyExpr is one expression, or several concatenated.
type nftKeyExpr struct{ parts []nftExpr }

func (p *nftParser) keyExpr(n *jsonNode) (nftKeyExpr, error) {
	parts := []jsonNode{*n}
	if kind, arg, ok := n.only(); ok && kind == "concat" {
		parts = arg.list
	}
	var k nftKeyExpr
	if len(parts) > maxConcat {
		return k, notModelled("a concatenation of this length")
	}
	for i := range parts {
		e, err := p.expr(&parts[i])
		if err != nil {
			return k, err
		}
		k.parts = append(k.parts, e)
	}
	return k, nil
}

func (k *nftKeyExpr) eval(x *traversal, key *nftKey) tri {
	result := yes
	for i := range k.parts {
		v, res := k.parts[i].get(x)
		if res == no {
			return no
		}
		if res == maybe {
			result = maybe
		}
		key[i] = v
	}
	return result
}

func (k *nftKeyExpr) types() []nftType {
	types := make([]nftType, len(k.parts))
	for i := range k.parts {
		types[i] = k.parts[i].typ
	}
	return types
}

func (k *nftKeyExpr) name() string {
	names := make([]string, len(k.parts))
	for i := range k.parts {
		names[i] = k.parts[i].name
	}
	return strings.Join(names, " . ")
}

// dice says whether the key is a random number.
func (k *nftKeyExpr) dice() (sides, offset uint64, ok bool) {
	if len(k.parts) != 1 || k.parts[0].dice == 0 {
		return 0, 0, false
	}
	return k.parts[0].dice, k.parts[0].offset, true
}

// setOf returns the set that stands on the right: named, or written out.
func (p *nftParser) setOf(n *jsonNode, k *nftKeyExpr, isMap bool, dataType string) (*nftSet, error) {
	if name, ok := strings.CutPrefix(n.text, "@"); n.kind == jsonString && ok {
		s := p.table.sets[name]
		if s == nil {
			return nil, p.errorf(n, "set is not declared")
		}
		return s, nil
	}
	kind, list, ok := n.only()
	if !ok || kind != "set" {
		return nil, p.errorf(n, "expected a set")
	}
	s := &nftSet{types: k.types(), exact: make(map[nftKey]int), catchAll: -1, isMap: isMap, dataType: dataType}
	if list.kind != jsonArray {
		// A set of one element may be written without a list.
		list = &jsonNode{kind: jsonArray, list: []jsonNode{*list}, end: list.end}
	}
	return s, p.fillSet(s, list)
}

// maxDice bounds how many sides of a die are looked at one by one.
const maxDice = 1 << 16

// roll lets the Env choose among the elements of a set that a random number
// may hit. It returns the index of the element, or -1 for none of them.
func (s *nftSet) roll(x *traversal, sides, offset uint64) int {
	counts := make(map[int]int)
	var order []int
	for side := offset; side < offset+min(sides, maxDice); side++ {
		i := s.lookup(&nftKey{{lo: side}})
		if counts[i] == 0 {
			order = append(order, i)
		}
		counts[i]++
	}
	if len(order) == 1 {
		return order[0]
	}
	weights := make([]float64, len(order))
	for w, i := range order {
		weights[w] = float64(counts[i]) / float64(min(sides, maxDice))
	}
	return order[x.env.Pick(x.ref(), weights)]
}
