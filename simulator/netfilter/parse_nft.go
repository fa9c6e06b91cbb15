package netfilter

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftTable is one table while it is compiled.
type nftTable struct {
	family, name string
	key          tableKey // for the pool
	dormant      bool
	garbled      bool // it may be dormant, or not
	// shadows are the chains of a table that iptables-nft shows; nil of others.
	shadows map[string]*shadow
	chains  map[string]*chain
	order   []*chain
	sets    map[string]*nftSet
	local   map[*chain]bool // chains with rules that mean something else in other namespaces
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

// nftRuleAt is the place of a rule, up to its end, and of its handle in it; ends are
// 0 where they are not known.
type nftRuleAt struct {
	place, end             int
	handleStart, handleEnd int
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
	c    *compiler
	file string
	data []byte
	text string // the same
	// Objects of the rule set are elements of list, or, where that is nil, at
	// places in the text, from where reader reads them again: all of them at once
	// would need many times the memory.
	list   []jsonNode
	reader fastJSON
	object jsonNode // that was read last
	// sets and rules are where objects are that refer to others: sets and maps to
	// chains, rules to both, which are known once all objects have been seen.
	sets   []int
	rules  []nftRuleAt
	tables map[[2]string]*nftTable
	order  []*nftTable
	bases  []nftBase
	age    int // of the base chain last seen
	// table is that of the rule being compiled.
	table *nftTable
	// handles are those of rules, by chain; nil of rules that are shown as they are.
	handles map[*chain][]uint32
	// numbered are the same, by the numbers of rules.
	numbered []ruleHandle
	texts    strings.Builder // of a chain's rules
	// bits is the width of the expression whose values are read; 0 when it does
	// not matter.
	bits int

	// Where there is a pool, likes are chains whose rules are not read, as it has such, and begun
	// are those of which rules are. Who finds rules of the former somewhere else, too, begins anew, careful.
	likes   map[*chain]*likeness
	begun   map[*chain]bool
	careful bool
	again   bool
	unlike  int       // up to where rules are not like any others
	known   *nftTable // that of the rule read last
	block   []byte    // the rules of a chain, without their handles
	numbers []uint32  // their handles
	targets []*chain  // of a chain that may be the same
	// effects are those of the rules of chains, and odd the chains whose rules are not as splitRule takes them.
	effects map[*chain]effects
	odd     map[*chain]bool
	oddRule bool // the rule just read is not
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
	data, err := text.Bytes()
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return err
	}
	p := newNFTParser(c, text.File, data)
	ok, err := p.stream()
	if ok && p.again {
		p = newNFTParser(c, text.File, data)
		p.careful = true
		ok, err = p.stream()
	}
	if !ok {
		p = newNFTParser(c, text.File, data)
		err = p.tree()
	}
	if err != nil {
		return err
	}
	c.nft = p
	return p.fillSets()
}

// fillSets reads the elements of sets and maps, which refer to chains, now that all are declared.
func (p *nftParser) fillSets() error {
	for _, at := range p.sets {
		if err := p.elements(p.at(at).only()); err != nil {
			return err
		}
	}
	return nil
}

// resolve reads the rules, which refer to chains and sets, now that those are there, and the chains
// of iptables-nft are made.
func (p *nftParser) resolve() error {
	for _, at := range p.rules {
		if err := p.ruleAt(at); err != nil {
			return err
		}
	}
	return p.finish()
}

func newNFTParser(c *compiler, file string, data []byte) *nftParser {
	p := &nftParser{c: c, file: file, data: data, text: string(data), tables: make(map[[2]string]*nftTable), handles: make(map[*chain][]uint32)}
	if c.pool != nil {
		p.likes, p.begun = make(map[*chain]*likeness), make(map[*chain]bool)
		p.effects, p.odd = make(map[*chain]effects), make(map[*chain]bool)
	}
	return p
}

// stream reads the objects one by one, as long as the JSON is such as nft writes
// it: it says false for any other, and then nothing of it counts. An error is that
// of an object, in JSON that is well-formed to its end.
func (p *nftParser) stream() (ok bool, err error) {
	r := &p.reader
	r.reset(p.text, 0)
	if !r.take('{') || !r.takeKey("nftables") || !r.take('[') {
		return false, nil
	}
	for first := true; !r.take(']'); first = false {
		if !first && !r.take(',') {
			return false, nil
		}
		r.space()
		at := r.at
		if err == nil && p.like(at) {
			continue
		}
		n, ok := p.read(at)
		if !ok {
			return false, nil
		}
		if err == nil {
			err = p.declare(at, n)
		}
	}
	return r.take('}') && r.ends(), err
}

// tree reads any JSON.
func (p *nftParser) tree() error {
	root, err := parseJSON(p.file, p.data)
	if err != nil {
		return err
	}
	list := root.get("nftables")
	if list == nil || list.kind != jsonArray {
		return p.errorf(&root, `expected an object with the list "nftables"`)
	}
	p.list = list.list
	for i := range p.list {
		if err := p.declare(i, &p.list[i]); err != nil {
			return err
		}
	}
	return nil
}

// at returns an object, which is there until the next one is asked for.
func (p *nftParser) at(place int) *jsonNode {
	if p.list != nil {
		return &p.list[place]
	}
	n, _ := p.read(place)
	return n
}

// read reads an object of the text.
func (p *nftParser) read(at int) (*jsonNode, bool) {
	p.reader.reset(p.text, at)
	var ok bool
	p.object, ok = p.reader.value(2)
	return &p.object, ok
}

// find returns the table that an object belongs to.
func (p *nftParser) find(n *jsonNode) (*nftTable, error) {
	t := p.tables[[2]string{n.str("family"), n.str("table")}]
	if t == nil {
		return nil, p.errorf(n, "table %s %s is not declared", n.str("family"), n.str("table"))
	}
	return t, nil
}

// declare reads tables, chains and the heads of sets.
func (p *nftParser) declare(place int, object *jsonNode) error {
	kind, n, ok := object.only()
	if !ok {
		return p.errorf(object, "expected an object with one member")
	}
	switch kind {
	case "rule":
		at := nftRuleAt{place: place}
		if p.list == nil {
			at.end = p.reader.at
			if h := n.get("handle"); h != nil && h.kind == jsonNumber {
				at.handleStart, at.handleEnd = int(h.end)-len(h.text), int(h.end)
			}
		}
		if s := p.shadowOf(n); s != nil {
			s.add(at, n)
			return nil
		}
		p.rules = append(p.rules, at)
		if p.c.pool != nil {
			p.begin(n)
		}
	case "table":
		t := &nftTable{
			family: strings.Clone(n.str("family")), name: strings.Clone(n.str("name")),
			chains: make(map[string]*chain), sets: make(map[string]*nftSet), local: make(map[*chain]bool), helpers: make(map[string]string),
		}
		if t.family == "" || t.name == "" {
			return p.errorf(n, "table has no family or name")
		}
		t.key.table = t.family + " " + t.name
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
			own := ownedTable{t.families()[0], t.name}
			if _, owned := p.c.owned[own]; owned {
				t.shadows = make(map[string]*shadow)
				p.c.owned[own] = t
			}
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
		return p.chain(t, n)
	case "set", "map":
		t, err := p.find(n)
		if err != nil {
			return err
		}
		p.sets = append(p.sets, place)
		return p.set(t, kind, n)
	case "ct helper":
		t, err := p.find(n)
		if err != nil {
			return err
		}
		t.helpers[n.str("name")] = strings.Clone(n.str("type"))
	}
	return nil
}

// begin notes that a chain has a rule that is to be read.
func (p *nftParser) begin(n *jsonNode) {
	if p.known = p.tables[[2]string{n.str("family"), n.str("table")}]; p.known == nil {
		return
	}
	if ch := p.known.chains[n.str("chain")]; ch != nil {
		p.begun[ch] = true
		p.again = p.again || p.likes[ch] != nil
	}
}

func (p *nftParser) set(t *nftTable, kind string, n *jsonNode) error {
	p.table = t
	s := newNFTSet(strings.Clone(n.str("name")))
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

// policy reads that of a base chain; others have none.
func (p *nftParser) policy(n *jsonNode) (Action, error) {
	switch policy := n.str("policy"); policy {
	case "", "accept":
		return Accept, nil
	case "drop":
		return Drop, nil
	}
	return Accept, p.errorf(n.get("policy"), "unknown policy")
}

func (p *nftParser) chain(t *nftTable, n *jsonNode) (err error) {
	name := strings.Clone(n.str("name")) // which does not keep the whole dump
	if name == "" {
		return p.errorf(n, "chain has no name")
	}
	if t.chains[name] != nil {
		return p.errorf(n, "chain %s occurs twice", name)
	}
	if t.shadows != nil && showable(t, n) {
		s := newShadow(t, name, p.age)
		s.unread = p.c.unread[unreadChain{ownedTable{t.families()[0], t.name}, name}]
		t.shadows[name], t.chains[name] = s, &s.chain
		s.policy, err = p.policy(n)
		return err
	}
	ch := &chain{family: t.family, table: t.name, name: name}
	t.chains[name] = ch
	t.order = append(t.order, ch)
	hook := n.str("hook")
	if hook == "" {
		return nil
	}
	ch.base, ch.age = true, p.age
	if ch.policy, err = p.policy(n); err != nil {
		return err
	}
	priority, ok := n.number("prio")
	if !ok {
		return p.errorf(n, "base chain %s has no priority", name)
	}
	p.bases = append(p.bases, nftBase{
		chain: ch, table: t, typ: n.str("type"), hook: hook, priority: int(priority), devices: p.devices(n),
	})
	return nil
}

// devices are those of a base chain.
func (p *nftParser) devices(n *jsonNode) []string {
	list := n.strings("dev")
	for i := range list {
		list[i] = strings.Clone(list[i])
	}
	return list
}

// elements reads the elements of a named set or map.
func (p *nftParser) elements(kind string, n *jsonNode, _ bool) error {
	t, err := p.find(n)
	if err != nil {
		return err
	}
	p.table = t
	s := t.sets[n.str("name")]
	if kind == "map" {
		s.dataType = strings.Clone(n.str("map"))
		s.isMap = true
	}
	if err := p.fillSet(s, n.get("elem")); err != nil {
		return err
	}
	if s.isMap && s.dataType != "verdict" {
		p.reader = fastJSON{} // whose memory the values of the map are in, until rules have been read
	}
	return nil
}

// ruleAt compiles a rule from a copy of its text, which does not keep the whole dump.
// The copy is without the handle, which is another one on each node.
func (p *nftParser) ruleAt(at nftRuleAt) error { return p.withRule(at, p.rule) }

func (p *nftParser) withRule(at nftRuleAt, use func(n *jsonNode, text string, handle uint32) error) error {
	if at.end == 0 {
		_, n, _ := p.at(at.place).only()
		return use(n, p.text[n.end-1:], 0)
	}
	text, handle := p.text[at.place:at.end], uint64(0)
	if at.handleEnd > 0 {
		if h, err := strconv.ParseUint(p.text[at.handleStart:at.handleEnd], 10, 32); err == nil && h > 0 {
			handle = h
			text = p.text[at.place:at.handleStart] + "0" + p.text[at.handleEnd:at.end]
		}
	}
	if handle == 0 {
		text = strings.Clone(text)
	}
	p.oddRule = handle == 0 || guessHandle(text) != at.handleStart-at.place || !strings.HasPrefix(inner(text), "{")
	p.reader.reset(text, 0)
	var ok bool
	if p.object, ok = p.reader.value(2); ok {
		_, n, _ := p.object.only()
		if err := use(n, text[n.end-1:], uint32(handle)); err == nil {
			return nil
		}
	}
	// What is wrong is told by its place in the dump.
	_, n, _ := p.at(at.place).only()
	return use(n, p.text[n.end-1:], 0)
}

func (p *nftParser) rule(n *jsonNode, text string, handle uint32) error {
	t, err := p.find(n)
	if err != nil {
		return err
	}
	ch := t.chains[n.str("chain")]
	if ch == nil {
		return p.errorf(n, "chain %s is not declared", n.str("chain"))
	}
	expr := n.get("expr")
	if expr == nil || expr.kind != jsonArray {
		return p.errorf(n, "rule has no list of expressions")
	}
	r := rule{body: &body{json: text}, number: len(ch.rules) + 1}
	p.table, p.c.local = t, false
	before := p.c.rs.effects
	p.c.rs.effects = effects{}
	b := &nftRuleBuilder{p: p, table: t}
	for i := range expr.list {
		if err := b.statement(&expr.list[i]); err != nil {
			return err
		}
	}
	r.steps = b.done()
	p.c.rs.rules++
	if b.unmodelled {
		p.c.rs.unmodelled++
	}
	if p.effects != nil {
		e := p.effects[ch]
		e.add(p.c.rs.effects)
		p.effects[ch] = e
		p.odd[ch] = p.odd[ch] || p.oddRule
	}
	p.c.rs.add(before)
	ch.rules = append(ch.rules, r)
	p.handles[ch] = append(p.handles[ch], handle)
	if p.c.local || p.list != nil {
		t.local[ch] = true
	}
	return nil
}

// namedSet returns a set of the table, which other namespaces do not have.
func (p *nftParser) namedSet(t *nftTable, name string) *nftSet {
	p.c.local = true
	return t.sets[name]
}

// share makes the chains of a table those of the pool, as far as it has them. They come after
// those that they lead to.
func (p *nftParser) share(t *nftTable, order []*chain) error {
	key := t.key
	if len(order) == 0 {
		return nil
	}
	same := make(map[*chain]*chain, len(order))
	for _, s := range t.shadows {
		same[&s.chain] = s.made
	}
	to := func(c *chain) *chain {
		if s := same[c]; s != nil {
			return s
		}
		return c
	}
	var mine, its []*chain
	for _, ch := range order {
		ch.retarget(to)
		if p.likes[ch] != nil {
			mine = ch.appendTargets(mine[:0])
			c, err := p.takeLike(t, ch, mine)
			if err != nil {
				return err
			}
			if c != nil {
				same[ch] = &c.chain
				p.number(&c.chain, p.handles[ch])
				continue
			}
			ch.retarget(to)
		}
		handles := p.handles[ch]
		if p.c.pool != nil && !ch.base && !t.local[ch] {
			p.texts.Reset()
			p.texts.WriteString(ch.name)
			for i := range ch.rules {
				p.texts.WriteByte('\n')
				p.texts.WriteString(ch.rules[i].json)
			}
			text := p.texts.String()
			mine = ch.appendTargets(mine[:0])
			if c := p.c.pool.find(key, text, func(c *shared) bool {
				its = c.appendTargets(its[:0])
				return slices.Equal(mine, its)
			}); c != nil {
				same[ch] = &c.chain
			} else {
				at := len(ch.name)
				for i := range ch.rules { // which need no text beside the chain's
					b := ch.rules[i].body
					b.json = text[at+1 : at+1+len(b.json)]
					at += 1 + len(b.json)
				}
				c := &shared{chain: *ch, key: key, text: text, effects: p.effects[ch], guessed: !p.odd[ch] && t.families() != nil}
				c.first = p.allot(len(c.rules))
				c.buildIndex()
				p.c.pool.add(c)
				same[ch] = &c.chain
			}
			ch = same[ch]
		} else {
			ch.first = p.allot(len(ch.rules))
			ch.buildIndex()
		}
		p.number(ch, handles)
	}
	for i, ch := range t.order {
		t.order[i] = to(ch)
	}
	return nil
}

// allot returns the number of the first of so many rules.
func (p *nftParser) allot(rules int) uint64 {
	all := &p.c.rules
	if p.c.pool != nil {
		all = &p.c.pool.rules
	}
	first := *all + 1
	*all += uint64(rules)
	return first
}

// number notes the handles of a chain's rules.
func (p *nftParser) number(ch *chain, handles []uint32) {
	for i, h := range handles {
		if h != 0 {
			p.numbered = append(p.numbered, ruleHandle{ch.first + uint64(i), h})
		}
	}
}

// finish checks for loops and hangs the base chains at their hooks.
func (p *nftParser) finish() error {
	for _, t := range p.order {
		order, loop := sortChains(t.order)
		if loop != nil {
			return &SyntaxError{File: p.file, Token: loop.name, Msg: "chains of table " + t.name + " form a loop through this one"}
		}
		if err := p.share(t, order); err != nil {
			return err
		}
		for _, s := range t.sets { // which the rules that lead by them have pointed to shared chains
			s.settle(p.c.pool)
		}
	}
	p.c.rs.handles = packHandles(p.numbered)
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
