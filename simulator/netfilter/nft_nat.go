package netfilter

import (
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftNAT sets up a translation whose address or port is looked up or read from
// the packet.
type nftNAT struct {
	base    natAction
	addr    *nftNATSource
	port    *nftNATSource
	unknown *unknownAction
}

// nftNATSource is where an address or a port comes from: a map, or an
// expression.
type nftNATSource struct {
	lookup  *nftLookup
	choices []natAction // by index of the map's elements
	expr    nftExpr
	isPort  bool
}

func (a *nftNAT) do(x *traversal) outcome {
	act := a.base
	for _, source := range []*nftNATSource{a.addr, a.port} {
		if source == nil {
			continue
		}
		switch source.apply(x, &act) {
		case no:
			return outcome{kind: outBreak}
		case maybe:
			return a.unknown.do(x)
		}
	}
	return act.do(x)
}

func (s *nftNATSource) apply(x *traversal, act *natAction) tri {
	if s.lookup == nil {
		v, res := s.expr.value(x)
		switch {
		case res != yes:
			return res
		case s.isPort:
			act.ports = natRange{hasPort: true, first: uint16(v.lo), last: uint16(v.lo)}
		default:
			addr := v.addr(x.family)
			act.first, act.last = addr, addr
		}
		return yes
	}
	i, res := s.lookup.find(x)
	if res != yes {
		return res
	}
	c := &s.choices[i]
	if s.isPort {
		act.ports = c.ports
		return yes
	}
	act.kind, act.first, act.last, act.prefix = c.kind, c.first, c.last, c.prefix
	if c.ports.hasPort {
		act.ports = c.ports
	}
	return yes
}

var natKinds = map[string]natKind{
	"dnat": kindDNAT, "snat": kindSNAT, "masquerade": kindMasquerade, "redirect": kindRedirect,
}

func (b *nftRuleBuilder) nat(kind string, n *jsonNode) error {
	b.p.needTracking()
	a := &nftNAT{base: natAction{kind: natKinds[kind]}}
	for _, flag := range n.strings("flags") {
		a.base.random = a.base.random || flag == "random" || flag == "fully-random"
	}
	switch n.str("family") {
	case "ip":
		a.base.family = netstack.IPv4
	case "ip6":
		a.base.family = netstack.IPv6
	}
	for _, field := range []string{"addr", "port"} {
		v := n.get(field)
		if v == nil {
			continue
		}
		source, err := b.natSource(&a.base, field, v)
		if err != nil {
			return err
		}
		if field == "addr" {
			a.addr = source
		} else {
			a.port = source
		}
	}
	if a.addr == nil && a.port == nil {
		b.act(&a.base)
		return nil
	}
	a.unknown = newUnknownAction("statement " + kind + " to " + a.source())
	b.act(a)
	return nil
}

// source names what the translation depends on.
func (a *nftNAT) source() string {
	var names []string
	for _, s := range []*nftNATSource{a.addr, a.port} {
		switch {
		case s == nil:
		case s.lookup != nil:
			names = append(names, "a map on "+s.lookup.key.name())
		default:
			names = append(names, s.expr.name)
		}
	}
	return strings.Join(names, " and ")
}

// natSource reads an address or port into a; it returns the source of one that
// the packet decides.
func (b *nftRuleBuilder) natSource(a *natAction, field string, n *jsonNode) (*nftNATSource, error) {
	s := &nftNATSource{isPort: field == "port"}
	kind, arg, ok := n.only()
	if !ok || kind == "prefix" || kind == "range" || kind == "concat" {
		return nil, b.natValue(a, field, n)
	}
	var err error
	if kind != "map" {
		s.expr, err = b.p.expr(n)
		return s, err
	}
	l, err := b.p.lookup(arg, "value")
	if err != nil {
		return nil, err
	}
	s.lookup = &l
	for _, d := range l.set.data {
		if d.node == nil {
			return nil, b.p.errorf(arg, "not a map of addresses")
		}
		c := natAction{kind: a.kind}
		if err := b.natValue(&c, field, d.node); err != nil {
			return nil, err
		}
		s.choices = append(s.choices, c)
	}
	return s, nil
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
