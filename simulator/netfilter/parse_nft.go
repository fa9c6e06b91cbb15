package netfilter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftTable is one table while it is compiled.
type nftTable struct {
	family, name string
	dormant      bool
	garbled      bool // it may be dormant, or not
	// skip: iptables-nft showed this table, and its chains are those.
	skip   bool
	chains map[string]*chain
	order  []*chain
	sets   map[string]*nftSet
	// helpers are the types of its objects of kind "ct helper".
	helpers map[string]string
}

func (t *nftTable) families() []netstack.Family {
	switch t.family {
	case "ip":
		return []netstack.Family{netstack.IPv4}
	case "ip6":
		return []netstack.Family{netstack.IPv6}
	case "bridge", "netdev", "arp":
		return nil
	}
	return []netstack.Family{netstack.IPv4, netstack.IPv6}
}

type nftBase struct {
	chain    *chain
	table    *nftTable
	typ      string
	hook     string
	priority int
	devices  []string
}

// nftParser compiles the output of "nft -j list ruleset".
type nftParser struct {
	c      *compiler
	file   string
	data   []byte
	text   string // the same
	tables map[[2]string]*nftTable
	order  []*nftTable
	bases  []nftBase
	age    int // of the base chain last seen
	// table and tracking belong to the rule being compiled.
	table *nftTable
	// bits is the width of the expression whose values are read; 0 when it does
	// not matter.
	bits int
}

func (p *nftParser) errorf(n *jsonNode, format string, args ...any) error {
	token := n.text
	if token == "" {
		start := max(n.end-1, 0)
		token = excerpt(p.data, start)
	}
	return &SyntaxError{File: p.file, Line: lineAt(p.data, n.end), Token: token, Msg: fmt.Sprintf(format, args...)}
}

// notModelled is the error of an expression that is well-formed but not
// understood: the rule that has it becomes undecidable.
type notModelled string

func (e notModelled) Error() string { return string(e) }

func (c *compiler) nftables(text *netstack.Text) error {
	if len(strings.TrimSpace(string(text.Data))) == 0 {
		return nil
	}
	root, err := parseJSON(text.File, text.Data)
	if err != nil {
		return err
	}
	p := &nftParser{c: c, file: text.File, data: text.Data, text: string(text.Data), tables: make(map[[2]string]*nftTable)}
	list := root.get("nftables")
	if list == nil || list.kind != jsonArray {
		return p.errorf(&root, `expected an object with the list "nftables"`)
	}
	// Maps and rules refer to chains, and rules to sets, in any order.
	for _, pass := range []func(kind string, n *jsonNode) error{p.declare, p.elements, p.rule} {
		for i := range list.list {
			kind, n, ok := list.list[i].only()
			if !ok {
				return p.errorf(&list.list[i], "expected an object with one member")
			}
			if err := pass(kind, n); err != nil {
				return err
			}
		}
	}
	return p.finish()
}

// find returns the table that an object belongs to; nil when it is skipped.
func (p *nftParser) find(n *jsonNode) (*nftTable, error) {
	t := p.tables[[2]string{n.str("family"), n.str("table")}]
	if t == nil {
		return nil, p.errorf(n, "table %s %s is not declared", n.str("family"), n.str("table"))
	}
	return t, nil
}

// declare reads tables, chains and the heads of sets.
func (p *nftParser) declare(kind string, n *jsonNode) error {
	switch kind {
	case "table":
		t := &nftTable{
			family: n.str("family"), name: n.str("name"),
			chains: make(map[string]*chain), sets: make(map[string]*nftSet), helpers: make(map[string]string),
		}
		if t.family == "" || t.name == "" {
			return p.errorf(n, "table has no family or name")
		}
		key := [2]string{t.family, t.name}
		if p.tables[key] != nil {
			return p.errorf(n, "table %s %s occurs twice", t.family, t.name)
		}
		for _, flag := range n.strings("flags") {
			switch flag {
			case "dormant":
				t.dormant = true
			case "owner", "persist":
			default:
				// nft 1.0.6 prints a text at random for any flag.
				t.garbled = true
			}
		}
		if t.family == "ip" || t.family == "ip6" {
			t.skip = p.c.owned[ownedTable{t.families()[0], t.name}]
		}
		p.tables[key] = t
		p.order = append(p.order, t)
	case "chain":
		t, err := p.find(n)
		if err != nil {
			return err
		}
		if n.str("hook") != "" { // nft lists the oldest first
			p.age += 2
		}
		if t.skip {
			p.c.ages[[3]string{t.family, t.name, n.str("name")}] = p.age
			return nil
		}
		return p.chain(t, n)
	case "set", "map":
		t, err := p.find(n)
		if err != nil || t.skip {
			return err
		}
		return p.set(t, kind, n)
	case "ct helper":
		t, err := p.find(n)
		if err != nil || t.skip {
			return err
		}
		t.helpers[n.str("name")] = n.str("type")
	}
	return nil
}

func (p *nftParser) set(t *nftTable, kind string, n *jsonNode) error {
	p.table = t
	s := newNFTSet(n.str("name"))
	if s.name == "" {
		return p.errorf(n, "%s has no name", kind)
	}
	size, _ := n.number("size")
	s.size = int(min(max(size, 0), 1<<31-1))
	t.sets[s.name] = s
	return p.setType(s, n)
}

var nftHooks = map[string]Hook{
	"prerouting": Prerouting, "input": Input, "forward": Forward, "output": Output, "postrouting": Postrouting,
}

func (p *nftParser) chain(t *nftTable, n *jsonNode) error {
	name := n.str("name")
	if name == "" {
		return p.errorf(n, "chain has no name")
	}
	if t.chains[name] != nil {
		return p.errorf(n, "chain %s occurs twice", name)
	}
	ch := &chain{family: t.family, table: t.name, name: name}
	t.chains[name] = ch
	t.order = append(t.order, ch)
	hook := n.str("hook")
	if hook == "" {
		return nil
	}
	ch.base, ch.age = true, p.age
	switch policy := n.str("policy"); policy {
	case "", "accept":
	case "drop":
		ch.policy = Drop
	default:
		return p.errorf(n.get("policy"), "unknown policy")
	}
	priority, ok := n.number("prio")
	if !ok {
		return p.errorf(n, "base chain %s has no priority", name)
	}
	p.bases = append(p.bases, nftBase{
		chain: ch, table: t, typ: n.str("type"), hook: hook, priority: int(priority), devices: n.strings("dev"),
	})
	return nil
}

// elements reads the elements of named sets and maps.
func (p *nftParser) elements(kind string, n *jsonNode) error {
	if kind != "set" && kind != "map" {
		return nil
	}
	t, err := p.find(n)
	if err != nil || t.skip {
		return err
	}
	p.table = t
	s := t.sets[n.str("name")]
	if kind == "map" {
		s.dataType = n.str("map")
		s.isMap = true
	}
	return p.fillSet(s, n.get("elem"))
}

func (p *nftParser) rule(kind string, n *jsonNode) error {
	if kind != "rule" {
		return nil
	}
	t, err := p.find(n)
	if err != nil || t.skip {
		return err
	}
	ch := t.chains[n.str("chain")]
	if ch == nil {
		return p.errorf(n, "chain %s is not declared", n.str("chain"))
	}
	p.c.rs.rules++
	expr := n.get("expr")
	if expr == nil || expr.kind != jsonArray {
		return p.errorf(n, "rule has no list of expressions")
	}
	r := rule{number: len(ch.rules) + 1, json: p.text[n.end-1:]}
	p.table = t
	b := &nftRuleBuilder{p: p, table: t}
	for i := range expr.list {
		if err := b.statement(&expr.list[i]); err != nil {
			return err
		}
	}
	r.steps = b.done()
	if b.unmodelled {
		p.c.rs.unmodelled++
	}
	ch.rules = append(ch.rules, r)
	return nil
}

// finish checks for loops and hangs the base chains at their hooks.
func (p *nftParser) finish() error {
	for _, t := range p.order {
		if loop := findLoop(t.order); loop != nil {
			return &SyntaxError{File: p.file, Token: loop.name, Msg: "chains of table " + t.name + " form a loop through this one"}
		}
		for _, ch := range t.order {
			ch.buildIndex()
		}
	}
	for _, b := range slices.Backward(p.bases) {
		if b.table.dormant {
			continue
		}
		b.chain.uncertain = b.table.garbled
		hook, known := nftHooks[b.hook]
		if !known || b.table.families() == nil {
			if !p.c.rs.linkLayer.attach(b) {
				return &SyntaxError{File: p.file, Token: b.hook, Msg: "unknown hook of chain " + b.chain.name + " of family " + b.table.family}
			}
			continue
		}
		for _, f := range b.table.families() {
			switch b.typ {
			case "nat":
				b.chain.priority = b.priority
				p.c.attachNAT(f, hook, b.chain)
			case "route":
				p.c.attach(f, hook, hookOp{priority: b.priority, kind: opRoute, chain: b.chain})
			default:
				p.c.attach(f, hook, hookOp{priority: b.priority, chain: b.chain})
			}
		}
	}
	return nil
}

// needTracking notes that the table's family needs connection tracking.
func (p *nftParser) needTracking() {
	for _, f := range p.table.families() {
		p.c.needTracking(f)
	}
	if p.table.family == "bridge" {
		p.c.rs.linkLayer.tracking = true
	}
}
