package netfilter

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftRuleBuilder compiles the statements of one rule.
type nftRuleBuilder struct {
	p          *nftParser
	table      *nftTable
	steps      []step
	matches    []matcher // of the step that is being gathered
	unmodelled bool
}

func (b *nftRuleBuilder) act(a action) {
	b.steps = append(b.steps, step{matches: b.matches, action: a})
	b.matches = nil
}

// done closes the rule. Matches that nothing follows have no effect.
func (b *nftRuleBuilder) done() []step { return b.steps }

// statement compiles one statement. One that is not modelled makes the rule
// undecidable from there on.
func (b *nftRuleBuilder) statement(n *jsonNode) error {
	kind, arg, ok := n.only()
	if !ok {
		return b.p.errorf(n, "expected a statement")
	}
	err := b.compile(kind, arg)
	var reason notModelled
	if !errors.As(err, &reason) {
		return err
	}
	b.unmodelled = true
	if kind == "match" {
		b.matches = append(b.matches, unknownMatch{"match " + string(reason)})
		return nil
	}
	what := "statement " + kind
	if string(reason) != kind {
		what += " with " + string(reason)
	}
	b.act(newUnknownAction(what))
	return nil
}

func (b *nftRuleBuilder) compile(kind string, n *jsonNode) error {
	p := b.p
	switch kind {
	case "match":
		return b.match(n)
	case "counter", "last", "comment":
		return nil
	case "log", "dup", "secmark", "ct helper", "ct timeout", "ct expectation":
		b.act(&noEffect{name: kind})
		return nil
	case "limit", "quota", "ct count", "connlimit":
		b.matches = append(b.matches, unknownMatch{kind})
		return nil
	case "accept", "drop", "return", "continue", "jump", "goto":
		v, err := p.verdict(&jsonNode{kind: jsonObject, keys: []string{kind}, list: []jsonNode{*n}, end: n.end})
		if err != nil {
			return err
		}
		if v.kind != outContinue {
			b.act(v)
		}
		return nil
	case "queue":
		b.act(&verdictAction{kind: outQueue, text: "queue to user space"})
		return nil
	case "vmap":
		return b.vmap(n)
	case "mangle":
		return b.mangle(n)
	case "dnat", "snat", "masquerade", "redirect":
		return b.nat(kind, n)
	case "reject":
		return b.reject(n)
	case "notrack":
		b.act(notrack{})
		return nil
	case "tproxy":
		b.act(&verdictAction{kind: outConsume, text: "take for a local proxy"})
		return nil
	case "set":
		if n.get("stmt") != nil {
			b.matches = append(b.matches, unknownMatch{"the limit of set " + n.str("set")})
		}
		return nil
	case "xt":
		if n.str("type") == "match" && n.str("name") == "comment" {
			return nil
		}
		name := strings.TrimSpace(n.str("type") + " " + n.str("name"))
		b.unmodelled = true
		if n.str("type") == "match" {
			b.matches = append(b.matches, unknownMatch{"xt " + name})
			return nil
		}
		b.act(newUnknownAction(strings.TrimSpace("statement xt " + name)))
		return nil
	}
	return notModelled(kind)
}

// verdict reads a verdict statement; nil when n is something else.
func (p *nftParser) verdict(n *jsonNode) (*verdictAction, error) {
	kind, arg, ok := n.only()
	if !ok {
		return nil, nil
	}
	v := &verdictAction{text: kind}
	switch kind {
	case "accept":
		v.kind = outAccept
	case "drop":
		v.kind = outDrop
	case "return":
		v.kind = outReturn
	case "continue":
		v.kind = outContinue
	case "jump", "goto":
		v.kind = outJump
		if kind == "goto" {
			v.kind = outGoto
		}
		name := arg.str("target")
		if v.chain = p.table.chains[name]; v.chain == nil {
			return nil, p.errorf(arg, "chain %q is not declared", name)
		}
		v.text = kind + " " + name
	default:
		return nil, nil
	}
	return v, nil
}

// nftMatch compares an expression with values.
type nftMatch struct {
	key    nftKeyExpr
	op     nftOp
	values nftSpan
	set    *nftSet // instead of values
	what   string
}

type nftOp uint8

const (
	opEqual nftOp = iota
	opNotEqual
	opLess
	opGreater
	opLessEqual
	opGreaterEqual
	opAnyFlag // "in": one of the bits is set
	opNoFlag  // "!": none is
)

var nftOps = map[string]nftOp{
	"==": opEqual, "!=": opNotEqual, "<": opLess, ">": opGreater, "<=": opLessEqual, ">=": opGreaterEqual, "in": opAnyFlag, "!": opNoFlag,
}

func (m *nftMatch) match(x *traversal) tri {
	var key nftKey
	if res := m.key.eval(x, &key); res != yes {
		return res
	}
	return m.compare(&key)
}

func (m *nftMatch) compare(key *nftKey) tri {
	if m.set != nil {
		if m.set.unknown != "" {
			return maybe
		}
		return is((m.set.lookup(key) >= 0) != (m.op == opNotEqual))
	}
	v := key[0]
	switch m.op {
	case opEqual:
		return is(v.within(m.values.first, m.values.last))
	case opNotEqual:
		return is(!v.within(m.values.first, m.values.last))
	case opLess:
		return is(v.less(m.values.first))
	case opGreater:
		return is(m.values.last.less(v))
	case opLessEqual:
		return is(!m.values.last.less(v))
	case opGreaterEqual:
		return is(!v.less(m.values.first))
	case opNoFlag:
		return is(v.and(m.values.first) == u128{})
	}
	return is(v.and(m.values.first) != u128{})
}

func (m *nftMatch) decide(x *traversal) bool {
	sides, offset, ok := m.key.dice()
	if !ok || m.set != nil && m.set.unknown != "" {
		return x.env.Unknown(x.ref(), m.what)
	}
	hits := 0
	for side := offset; side < offset+min(sides, maxDice); side++ {
		if m.compare(&nftKey{{lo: side}}) == yes {
			hits++
		}
	}
	p := float64(hits) / float64(min(sides, maxDice))
	if p == 0 || p == 1 {
		return p == 1
	}
	return x.env.Pick(x.ref(), []float64{p, 1 - p}) == 0
}

func (b *nftRuleBuilder) match(n *jsonNode) error {
	left, right := n.get("left"), n.get("right")
	if left == nil || right == nil {
		return b.p.errorf(n, "match has no left or right side")
	}
	op, ok := nftOps[n.str("op")]
	if !ok {
		return notModelled("operator " + n.str("op"))
	}
	key, err := b.p.keyExpr(left)
	if err != nil {
		return err
	}
	m := &nftMatch{key: key, op: op, what: "match " + key.name()}
	_, _, isObject := right.only()
	kind := ""
	if isObject {
		kind = right.keys[0]
	}
	switch {
	case kind == "set", right.kind == jsonString && strings.HasPrefix(right.text, "@"):
		if m.set, err = b.p.setOf(right, &key, false, ""); err != nil {
			return err
		}
		if len(m.set.types) != len(key.parts) && m.set.unknown == "" {
			return b.p.errorf(right, "the set has keys of %d parts, not %d", len(m.set.types), len(key.parts))
		}
		if m.set.unknown != "" {
			m.what += " in a set of unknown content (" + m.set.unknown + ")"
		}
	case len(key.parts) > 1:
		return notModelled("a concatenation that is not looked up in a set")
	default:
		if key.parts[0].typ == nftFIBDevice && right.text != "0" && right.kind != jsonBool {
			return notModelled("the device of " + key.name())
		}
		if m.values, err = b.p.span(key.parts[0].typ, right); err != nil {
			return err
		}
		if t := key.parts[0].typ; op == opAnyFlag && t != nftCTState && t != nftCTStatus && t != nftTCPFlags && right.kind != jsonArray {
			m.op = opEqual
		}
	}
	b.matches = append(b.matches, m)
	return nil
}

// vmapAction looks a verdict up.
type vmapAction struct {
	key     nftKeyExpr
	set     *nftSet
	unknown *unknownAction
}

func (a *vmapAction) do(x *traversal) outcome {
	if a.set.unknown != "" {
		return a.unknown.do(x)
	}
	index := -1
	if sides, offset, ok := a.key.dice(); ok {
		index = a.set.roll(x, sides, offset)
	} else {
		var key nftKey
		switch a.key.eval(x, &key) {
		case no:
			return outcome{kind: outBreak}
		case maybe:
			return a.unknown.do(x)
		}
		index = a.set.lookup(&key)
	}
	if index < 0 {
		return outcome{kind: outBreak}
	}
	v := a.set.data[index].verdict
	if v == nil {
		return a.unknown.do(x)
	}
	return v.do(x)
}

func (a *vmapAction) targets() []*chain {
	var all []*chain
	for _, d := range a.set.data {
		if d.verdict != nil {
			all = append(all, d.verdict.targets()...)
		}
	}
	return all
}

// lookup compiles the key and data of a map or verdict map.
func (b *nftRuleBuilder) lookup(n *jsonNode, dataType string) (nftKeyExpr, *nftSet, error) {
	keyNode, data := n.get("key"), n.get("data")
	if keyNode == nil || data == nil {
		return nftKeyExpr{}, nil, b.p.errorf(n, "map has no key or data")
	}
	key, err := b.p.keyExpr(keyNode)
	if err != nil {
		return key, nil, err
	}
	s, err := b.p.setOf(data, &key, true, dataType)
	if err == nil && s.unknown == "" && (!s.isMap || len(s.types) != len(key.parts)) {
		err = b.p.errorf(data, "not a map with keys of %d parts", len(key.parts))
	}
	return key, s, err
}

func (b *nftRuleBuilder) vmap(n *jsonNode) error {
	key, s, err := b.lookup(n, "verdict")
	if err != nil {
		return err
	}
	b.act(&vmapAction{key: key, set: s, unknown: newUnknownAction("statement vmap on " + key.name())})
	return nil
}

// nftMangle changes the packet or its connection.
type nftMangle struct {
	value   nftExpr
	set     func(x *traversal, v u128)
	name    string
	unknown *unknownAction
}

func (a *nftMangle) do(x *traversal) outcome {
	v, res := a.value.get(x)
	switch res {
	case no:
		return outcome{kind: outBreak}
	case maybe:
		return a.unknown.do(x)
	}
	a.set(x, v)
	x.traceRule(a.name, true)
	return outcome{}
}

func (b *nftRuleBuilder) mangle(n *jsonNode) error {
	keyNode, valueNode := n.get("key"), n.get("value")
	if keyNode == nil || valueNode == nil {
		return b.p.errorf(n, "mangle has no key or value")
	}
	kind, arg, ok := keyNode.only()
	if !ok {
		return b.p.errorf(keyNode, "expected an expression")
	}
	a := &nftMangle{name: "set " + kind + " " + arg.str("key") + arg.str("field")}
	typ := nftInteger
	switch target := kind + " " + arg.str("key") + arg.str("field"); target {
	case "meta mark":
		a.set = func(x *traversal, v u128) { x.p.Mark = uint32(v.lo) }
	case "ct mark":
		b.p.needTracking()
		a.set = func(x *traversal, v u128) {
			if x.st.Conn != nil {
				x.st.Conn.Mark = uint32(v.lo)
			}
		}
	case "meta nftrace", "meta priority", "meta secmark", "ct event", "ct helper", "ct label", "ct secmark":
		b.act(&noEffect{name: "set " + target})
		return nil
	case "payload dscp":
		typ = nftDSCP
		a.set = func(x *traversal, v u128) { x.p.TOS = x.p.TOS&3 | uint8(v.lo)<<2 }
	case "payload ttl", "payload hoplimit":
		a.set = func(x *traversal, v u128) { x.p.TTL = uint8(v.lo) }
	case "tcp option size":
		if arg.str("name") != "maxseg" {
			return notModelled("tcp option " + arg.str("name"))
		}
		if source, rt, ok := valueNode.only(); ok && source == "rt" && rt.str("key") == "mtu" {
			b.act(&setMSS{clamp: true})
			return nil
		}
		mss, err := b.p.span(nftInteger, valueNode)
		if err != nil {
			return err
		}
		b.act(&setMSS{mss: uint16(min(mss.first.lo, 65535))})
		return nil
	default:
		return notModelled(target)
	}
	var err error
	if a.value, err = b.valueExpr(valueNode, typ); err != nil {
		return err
	}
	a.unknown = newUnknownAction("statement " + a.name + " to " + a.value.name)
	b.act(a)
	return nil
}

// valueExpr compiles the source of a value: a constant, an expression or a map.
func (b *nftRuleBuilder) valueExpr(n *jsonNode, typ nftType) (nftExpr, error) {
	if kind, arg, ok := n.only(); ok {
		if kind != "map" {
			return b.p.expr(n)
		}
		key, s, err := b.lookup(arg, "value")
		if err != nil {
			return nftExpr{}, err
		}
		values := make([]u128, len(s.data))
		for i, d := range s.data {
			span, err := b.p.span(typ, d.node)
			if err != nil {
				return nftExpr{}, err
			}
			values[i] = span.first
		}
		return nftExpr{name: "map", get: func(x *traversal) (u128, tri) {
			var k nftKey
			if s.unknown != "" {
				return u128{}, maybe
			}
			if res := key.eval(x, &k); res != yes {
				return u128{}, res
			}
			i := s.lookup(&k)
			if i < 0 {
				return u128{}, no
			}
			return values[i], yes
		}}, nil
	}
	span, err := b.p.span(typ, n)
	return nftExpr{name: n.text, get: func(*traversal) (u128, tri) { return span.first, yes }}, err
}

// nftNATMap chooses a translation by a look-up.
type nftNATMap struct {
	key     nftKeyExpr
	set     *nftSet
	choices []natAction
	unknown *unknownAction
}

func (a *nftNATMap) do(x *traversal) outcome {
	if a.set.unknown != "" {
		return a.unknown.do(x)
	}
	index := -1
	if sides, offset, ok := a.key.dice(); ok {
		index = a.set.roll(x, sides, offset)
	} else {
		var key nftKey
		switch a.key.eval(x, &key) {
		case no:
			return outcome{kind: outBreak}
		case maybe:
			return a.unknown.do(x)
		}
		index = a.set.lookup(&key)
	}
	if index < 0 {
		return outcome{kind: outBreak}
	}
	return a.choices[index].do(x)
}

var natKinds = map[string]natKind{
	"dnat": kindDNAT, "snat": kindSNAT, "masquerade": kindMasquerade, "redirect": kindRedirect,
}

func (b *nftRuleBuilder) nat(kind string, n *jsonNode) error {
	b.p.needTracking()
	a := natAction{kind: natKinds[kind]}
	switch n.str("family") {
	case "ip":
		a.family = netstack.IPv4
	case "ip6":
		a.family = netstack.IPv6
	}
	var choose *nftNATMap
	for _, field := range []string{"addr", "port"} {
		v := n.get(field)
		if v == nil {
			continue
		}
		if key, arg, ok := v.only(); ok && key == "map" {
			if choose != nil {
				return notModelled("two maps")
			}
			keyExpr, s, err := b.lookup(arg, "value")
			if err != nil {
				return err
			}
			choose = &nftNATMap{key: keyExpr, set: s, unknown: newUnknownAction("statement " + kind + " by a map on " + keyExpr.name())}
			for _, d := range s.data {
				c := a
				if err := b.natValue(&c, field, d.node); err != nil {
					return err
				}
				choose.choices = append(choose.choices, c)
			}
			continue
		}
		if err := b.natValue(&a, field, v); err != nil {
			return err
		}
		if choose != nil {
			for i := range choose.choices {
				choose.choices[i].ports = a.ports
			}
		}
	}
	if choose != nil {
		b.act(choose)
	} else {
		b.act(&a)
	}
	return nil
}

// natValue reads an address, port, range, prefix, or address and port.
func (b *nftRuleBuilder) natValue(a *natAction, field string, n *jsonNode) error {
	if kind, arg, ok := n.only(); ok {
		switch kind {
		case "concat":
			if len(arg.list) != 2 {
				return b.p.errorf(arg, "expected an address and a port")
			}
			if err := b.natValue(a, "addr", &arg.list[0]); err != nil {
				return err
			}
			return b.natValue(a, "port", &arg.list[1])
		case "prefix":
			typ := nftAddr
			span, err := b.p.prefix(typ, arg)
			if err != nil {
				return err
			}
			length, _ := arg.number("len")
			f := netstack.IPv4
			if strings.Contains(arg.str("addr"), ":") {
				f = netstack.IPv6
			}
			a.kind, a.prefix = kindNetmap, netip.PrefixFrom(span.first.addr(f), int(length))
			return nil
		case "range":
		default:
			return notModelled(kind)
		}
	}
	typ := nftAddr
	if field == "port" {
		typ = nftInteger
	}
	span, err := b.p.span(typ, n)
	if err != nil {
		return err
	}
	if field == "port" {
		if span.last.hi != 0 || span.last.lo > 65535 || span.last.less(span.first) {
			return b.p.errorf(n, "invalid port")
		}
		a.ports.hasPort, a.ports.first, a.ports.last = true, uint16(span.first.lo), uint16(span.last.lo)
		return nil
	}
	f := netstack.IPv4
	text := n.text
	if _, arg, ok := n.only(); ok && len(arg.list) > 0 {
		text = arg.list[0].text
	}
	if strings.Contains(text, ":") {
		f = netstack.IPv6
	}
	a.first, a.last = span.first.addr(f), span.last.addr(f)
	return nil
}

// The words of iptables for nftables' kinds of reject.
var (
	nftReject4 = map[string]string{
		"net-unreachable": "icmp-net-unreachable", "host-unreachable": "icmp-host-unreachable", "prot-unreachable": "icmp-proto-unreachable",
		"port-unreachable": "icmp-port-unreachable", "net-prohibited": "icmp-net-prohibited", "host-prohibited": "icmp-host-prohibited",
		"admin-prohibited": "icmp-admin-prohibited",
	}
	nftReject6 = map[string]string{
		"no-route": "icmp6-no-route", "admin-prohibited": "icmp6-adm-prohibited", "addr-unreachable": "icmp6-addr-unreachable",
		"port-unreachable": "icmp6-port-unreachable", "policy-fail": "icmp6-policy-fail", "reject-route": "icmp6-reject-route",
	}
	// icmpx: one name for both (nft_reject_icmp_code).
	nftRejectX = map[string][2]string{
		"no-route":         {"icmp-net-unreachable", "icmp6-no-route"},
		"port-unreachable": {"icmp-port-unreachable", "icmp6-port-unreachable"},
		"host-unreachable": {"icmp-host-unreachable", "icmp6-addr-unreachable"},
		"admin-prohibited": {"icmp-admin-prohibited", "icmp6-adm-prohibited"},
	}
)

// familyMatch stands for the test of the IP version that nft does not print.
type familyMatch netstack.Family

func (m familyMatch) match(x *traversal) tri { return is(x.family == netstack.Family(m)) }

func (b *nftRuleBuilder) reject(n *jsonNode) error {
	typ, code := "icmpx", "port-unreachable"
	if n.kind == jsonObject {
		if t := n.str("type"); t != "" {
			typ = t
		}
		if c := n.get("expr"); c != nil {
			code = c.text
		}
	}
	a := &rejectAction{}
	switch typ {
	case "tcp reset":
		a.with4, a.with6 = "tcp-reset", "tcp-reset"
	case "icmp":
		a.with4 = nftReject4[code]
		b.matches = append(b.matches, familyMatch(netstack.IPv4))
		a.with6 = a.with4
	case "icmpv6":
		a.with6 = nftReject6[code]
		b.matches = append(b.matches, familyMatch(netstack.IPv6))
		a.with4 = a.with6
	case "icmpx":
		a.with4, a.with6 = nftRejectX[code][0], nftRejectX[code][1]
	default:
		return notModelled("type " + typ)
	}
	if a.with4 == "" {
		return notModelled("code " + code)
	}
	b.act(a)
	return nil
}
