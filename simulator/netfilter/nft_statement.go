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
	case "comment", "last":
		return nil
	case "counter":
		return b.mappedObject(kind, n)
	case "dup":
		to, err := netip.ParseAddr(n.str("addr"))
		if err != nil { // another packet may go elsewhere, or the copy to a device, as what it is
			b.act(&noEffect{name: kind})
			return nil
		}
		b.act(&duplicate{name: kind, dev: n.str("dev"), to: to})
		return nil
	case "log", "secmark", "ct timeout", "ct expectation":
		b.act(&noEffect{name: kind})
		return nil
	case "flow":
		// The connection's later packets take the short cut; those that are
		// walked are not later than the one that enters it.
		b.act(&noEffect{name: "offload to flow table " + n.str("flowtable")})
		return nil
	case "ct helper":
		p.needTracking()
		p.c.local = true
		b.act(&setHelper{b.table.helpers[n.text]})
		return nil
	case "limit", "quota", "ct count", "connlimit":
		if err := b.mappedObject(kind, n); err != nil {
			return err
		}
		what := kind
		if n.kind == jsonString {
			what += " " + n.text
		}
		b.matches = append(b.matches, unknownMatch{what})
		return nil
	case "meter":
		return b.perElement(n.get("stmt"), "meter "+n.str("name"))
	case "set", "map":
		return b.updateSet(kind, n)
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
	case "reset":
		if name := n.get("tcp option"); name != nil && name.str("name") == "maxseg" {
			b.act(&setMSS{remove: true})
			return nil
		}
		b.act(&noEffect{name: "remove an option"})
		return nil
	case "dnat", "snat", "masquerade", "redirect":
		return b.nat(kind, n)
	case "reject":
		return b.reject(n)
	case "notrack":
		b.act(notrack{})
		return nil
	case "tproxy":
		return b.tproxy(n)
	case "fwd":
		return b.forward(n)
	case "xt":
		name := strings.TrimSpace(n.str("type") + " " + n.str("name"))
		if name == "match comment" {
			return nil
		}
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

// setHelper gives a helper to a connection that begins (nft_ct_helper_obj_eval).
type setHelper struct{ name string }

func (a *setHelper) do(x *traversal) outcome {
	if c := x.st.Conn; c != nil && !c.Confirmed {
		c.helper = a.name
		x.traceRule("set helper", false)
	}
	return outcome{}
}

// divert is fwd: the frame leaves by another device (nft_fwd_netdev).
type divert struct {
	device  string
	gateway netip.Addr
}

func (a *divert) do(x *traversal) outcome {
	x.traceRule("forward to "+a.device, false)
	return outcome{kind: outDivert, divert: a}
}

func (b *nftRuleBuilder) forward(n *jsonNode) error {
	a := &divert{}
	for _, field := range []string{"dev", "addr"} {
		v := n.get(field)
		switch {
		case v == nil && field == "dev":
			return b.p.errorf(n, "fwd has no device")
		case v == nil:
			continue
		case v.kind != jsonString:
			return notModelled("a device or address that is looked up")
		case field == "dev":
			a.device = v.text
		default:
			addr, err := netip.ParseAddr(v.text)
			if err != nil {
				return b.p.errorf(v, "invalid address")
			}
			a.gateway = addr
			b.matches = append(b.matches, familyMatch(netstack.FamilyOf(addr)))
		}
	}
	b.act(a)
	return nil
}

// verdict reads a verdict statement; nil when n is something else.
func (p *nftParser) verdict(n *jsonNode) (*verdictAction, error) {
	kind, arg, ok := n.only()
	if !ok {
		return nil, nil
	}
	v := &verdictAction{}
	switch kind { // which is not kept: it is a part of the dump
	case "accept":
		v.kind, v.text = outAccept, "accept"
	case "drop":
		v.kind, v.text = outDrop, "drop"
	case "return":
		v.kind, v.text = outReturn, "return"
	case "continue":
		v.kind, v.text = outContinue, "continue"
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
