package netfilter

// nftMangle changes the packet or its connection.
type nftMangle struct {
	value   nftExpr
	set     func(x *traversal, v u128)
	name    string
	unknown *unknownAction
}

func (a *nftMangle) do(x *traversal) outcome {
	v, res := a.value.value(x)
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
	a := &nftMangle{name: "set " + kind + " " + arg.str("key")}
	typ := nftInteger
	switch kind {
	case "payload":
		f, name, err := b.p.payloadField(arg)
		if err != nil {
			return err
		}
		a.name, typ = "set "+name, f.typ
		// The kernel breaks off the rule where there is no such field.
		b.matches = append(b.matches, &hasField{f})
		a.set = func(x *traversal, v u128) { f.write(x, v) }
	case "tcp option":
		return b.mangleOption(arg, valueNode)
	case "meta", "ct":
		set, t, err := b.mangleKey(kind, arg)
		if err != nil {
			return err
		}
		if set == nil {
			b.act(&noEffect{name: a.name})
			return nil
		}
		a.set, typ = set, t
	default:
		return notModelled(kind)
	}
	var err error
	if a.value, err = b.p.valueExpr(valueNode, typ); err != nil {
		return err
	}
	a.unknown = newUnknownAction("statement " + a.name + " to " + a.value.name)
	b.act(a)
	return nil
}

// mangleKey compiles what "meta" and "ct" statements set; nil is for what has
// no say in a packet's fate.
func (b *nftRuleBuilder) mangleKey(kind string, n *jsonNode) (func(x *traversal, v u128), nftType, error) {
	onConn := func(set func(c *Conn, v u128)) func(x *traversal, v u128) {
		b.p.needTracking()
		b.p.c.tellsSegmentsApart()
		return func(x *traversal, v u128) {
			if x.st.Conn != nil {
				set(x.st.Conn, v)
			}
		}
	}
	switch key := kind + " " + n.str("key"); key {
	case "meta mark":
		return func(x *traversal, v u128) { x.p.Mark = uint32(v.lo) }, nftInteger, nil
	case "meta priority":
		return func(x *traversal, _ u128) { x.st.prioritySet = true }, nftClass, nil
	case "meta nftrace", "meta secmark":
		return nil, 0, nil
	case "ct mark":
		return onConn(func(c *Conn, v u128) { c.Mark = uint32(v.lo) }), nftInteger, nil
	case "ct label":
		// Labels are only ever added (nf_connlabel_set).
		return onConn(func(c *Conn, v u128) { c.labels = c.labels.or(v) }), nftCTLabel, nil
	case "ct event", "ct eventmask", "ct secmark":
		b.p.needTracking()
		return nil, 0, nil
	case "ct zone":
		b.p.needTracking()
		only := map[string]zoneDirections{"original": zoneOriginal, "reply": zoneReply}[n.str("dir")]
		// nft_ct_set_zone_eval: the first that says how to track has a say, and
		// what said not to had none.
		return func(x *traversal, v u128) {
			if st := x.st; st.Conn == nil && !st.template && (st.CT == CTNone || st.CT == CTUntracked) {
				st.CT, st.template, st.zone = CTNone, true, zone{uint16(v.lo), only}
			}
		}, nftInteger, nil
	default:
		return nil, 0, notModelled(key)
	}
}

// hasField holds for packets that have a field.
type hasField struct{ nftField }

func (f *hasField) match(x *traversal) tri {
	var h header
	return is(f.present(x) && x.readHeader(f.base, &h) != no)
}

// mangleOption compiles what changes a TCP option: the segment size has a say.
func (b *nftRuleBuilder) mangleOption(option, value *jsonNode) error {
	if name := option.str("name"); name != "maxseg" || option.str("field") != "size" {
		return notModelled("tcp option " + name)
	}
	if source, rt, ok := value.only(); ok && source == "rt" && rt.str("key") == "mtu" {
		b.act(&setMSS{clamp: true})
		return nil
	}
	mss, err := b.p.span(nftInteger, value)
	if err != nil {
		return err
	}
	b.act(&setMSS{mss: uint16(min(mss.first.lo, 65535))})
	return nil
}

// valueExpr compiles the source of a value: a constant, an expression or a map.
func (p *nftParser) valueExpr(n *jsonNode, typ nftType) (nftExpr, error) {
	kind, arg, ok := n.only()
	switch {
	case !ok, kind == "prefix", kind == "range":
		span, err := p.span(typ, n)
		return constant(n.text, span.first), err
	case kind == "|" && len(arg.list) > 0 && arg.list[0].kind != jsonObject:
		v, err := p.flags(typ, arg)
		return constant("flags", v), err
	case kind != "map":
		return p.expr(n)
	}
	l, err := p.lookup(arg, "value")
	if err != nil {
		return nftExpr{}, err
	}
	values := make([]u128, len(l.set.data))
	for i, d := range l.set.data {
		if d.node == nil {
			return nftExpr{}, p.errorf(arg, "not a map of values")
		}
		span, err := p.span(typ, d.node)
		if err != nil {
			return nftExpr{}, err
		}
		values[i] = span.first
	}
	return nftExpr{name: "map", get: func(x *traversal) (u128, tri) {
		i, res := l.find(x)
		if res != yes {
			return u128{}, res
		}
		return values[i], yes
	}}, nil
}
