package netfilter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// iptablesTable says at which hooks a table has its built-in chains.
type iptablesTable struct {
	priority int
	hooks    []Hook
	nat      bool
}

var iptablesTables = map[string]iptablesTable{
	"raw":      {priority: priorityRaw, hooks: []Hook{Prerouting, Output}},
	"mangle":   {priority: priorityMangle, hooks: []Hook{Prerouting, Input, Forward, Output, Postrouting}},
	"nat":      {hooks: []Hook{Prerouting, Input, Output, Postrouting}, nat: true},
	"filter":   {priority: priorityFilter, hooks: []Hook{Input, Forward, Output}},
	"security": {priority: prioritySecurity, hooks: []Hook{Input, Forward, Output}},
}

// builtin returns the hook of a built-in chain.
func (t iptablesTable) builtin(chain string) (Hook, bool) {
	for _, h := range t.hooks {
		if h.String() == chain {
			return h, true
		}
	}
	return 0, false
}

// at is the priority of a table's chains that filter: those of security stand elsewhere in nftables (xtables_ipv4 of iptables-nft).
func (t iptablesTable) at(backend netstack.Backend) int {
	if t.priority == prioritySecurity && backend == netstack.BackendNFT {
		return 150
	}
	return t.priority
}

// iptablesParser reads one dump of iptables-save.
type iptablesParser struct {
	lineScanner
	c       *compiler
	family  netstack.Family
	backend netstack.Backend

	tables map[string]bool
	table  string // being read; empty between COMMIT and the next *TABLE
	kind   iptablesTable
	native *nftTable // the same in nftables, if that shows it
	chains map[string]*draft
	order  []*draft // in the order of the dump
	rule   ruleParser
	// current is the chain of the last rule, and pending its rules since then.
	current *draft
	pending []rule
	drafts  slab[draft]
	jumps   slab[jump]
	targets []*draft          // of all chains: see draft.targets
	named   map[string]string // see names
	slabs   ruleSlabs
}

// ruleSlabs is what rules are made of.
type ruleSlabs struct {
	rules    slab[rule]
	bodies   slab[body]
	names    slab[string]
	steps    slab[step]
	matchers slab[matcher]
	addrs    slab[addrMatch]
	jumps    slab[verdictAction]
}

// flush gives the rules that were read to their chain. Dumps have the rules of
// a chain together.
func (p *iptablesParser) flush() {
	if p.current == nil {
		return
	}
	if p.current.rules == nil {
		p.current.rules = p.slabs.rules.list(p.pending)
	} else {
		p.current.rules = append(p.current.rules, p.pending...)
	}
	if p.current.jumps == nil {
		p.current.jumps = p.jumps.list(p.rule.jumps)
	} else {
		p.current.jumps = append(p.current.jumps, p.rule.jumps...)
	}
	p.pending, p.rule.jumps = p.pending[:0], p.rule.jumps[:0]
}

func newIPTablesParser(c *compiler, dump *netstack.IPTablesDump) (*iptablesParser, error) {
	data, err := dump.Bytes()
	if err != nil {
		return nil, err
	}
	p := &iptablesParser{
		lineScanner: lineScanner{file: dump.File, text: string(data)},
		c:           c, family: dump.Family, backend: dump.Backend,
		tables: make(map[string]bool), named: make(map[string]string),
	}
	p.rule.p = p
	return p, nil
}

func (p *iptablesParser) key() tableKey { return tableKey{p.family, p.backend, p.table} }

func (c *compiler) iptables(dump *netstack.IPTablesDump) error {
	p, err := newIPTablesParser(c, dump)
	if err != nil {
		return err
	}
	for p.text != "" {
		if err := p.parseNext(); err != nil {
			return err
		}
	}
	return p.ended()
}

// ended says whether the dump is complete.
func (p *iptablesParser) ended() error {
	if p.table != "" {
		p.line++
		return p.errorf("", "the dump ends before COMMIT of table "+p.table)
	}
	return nil
}

func (p *iptablesParser) parseLine() error {
	line := strings.TrimSpace(p.cur)
	p.cur = line
	if line == "" || line[0] == '#' {
		return nil
	}
	if p.table == "" {
		if line[0] != '*' {
			return p.errorf(firstWord(line), "expected *TABLE")
		}
		return p.beginTable(line[1:])
	}
	switch {
	case line == "COMMIT":
		return p.commit()
	case line[0] == ':':
		return p.declareChain()
	case line[0] == '*':
		return p.errorf(line, "table "+p.table+" has no COMMIT")
	}
	return p.parseRule()
}

func (p *iptablesParser) beginTable(name string) error {
	kind, ok := iptablesTables[name]
	if !ok {
		return p.errorf(name, "unknown table")
	}
	if p.tables[name] {
		return p.errorf(name, "table occurs twice")
	}
	p.tables[name] = true
	p.table, p.kind = strings.Clone(name), kind
	// There is seldom more than a chain in so many bytes.
	p.chains = make(map[string]*draft, len(p.text)/512)
	p.order, p.current = nil, nil
	p.native = nil
	if p.backend == netstack.BackendNFT {
		p.native = p.c.owned[ownedTable{p.family, name}]
	}
	return nil
}

// declareChain reads ":NAME POLICY [packets:bytes]".
func (p *iptablesParser) declareChain() error {
	name, policy, err := p.declaration()
	if err != nil {
		return err
	}
	if p.chains[name] != nil {
		return p.errorf(name, "chain declared twice")
	}
	ch := p.drafts.one(draft{name: name})
	_, ch.base = p.kind.builtin(name)
	switch {
	case policy == "-" && !ch.base:
	case policy == "ACCEPT" && ch.base:
	case policy == "DROP" && ch.base:
		ch.policy = Drop
	case ch.base:
		return p.errorf(policy, "invalid policy of a built-in chain")
	default:
		return p.errorf(policy, "a user-defined chain has no policy")
	}
	if p.native != nil {
		ch.shadow = p.native.shadows[name]
	}
	if p.backend == netstack.BackendNFT {
		ch.unread = p.c.unread[unreadChain{ownedTable{p.family, p.table}, name}]
	}
	p.chains[name] = ch
	p.order = append(p.order, ch)
	return nil
}

// parseRule reads "[packets:bytes] -A CHAIN …".
func (p *iptablesParser) parseRule() error {
	name, tokens, line, err := p.addition("--append")
	if err != nil {
		return err
	}
	ch := p.current
	if ch == nil || ch.name != name {
		if ch = p.chains[name]; ch == nil {
			return p.errorf(name, "chain is not declared")
		}
		p.flush()
		p.current = ch
	}
	if ch.text != "" { // and here are more rules
		if err := p.read(ch); err != nil {
			return err
		}
		ch.text = ""
		return p.parseRule()
	}
	p.c.local = false
	steps, err := p.rule.parse(tokens)
	if err != nil {
		return err
	}
	b, number, unmodelled := body{steps: steps, text: line}, len(ch.rules)+len(p.pending)+1, p.rule.unmodelled
	if ch.odd() {
		p.c.local = true
		if at, odd := ch.shadow.odd[number]; odd {
			if b, unmodelled, err = p.c.nft.correct(p.native, at, &b); err != nil {
				return err
			}
			unmodelled = unmodelled || b.json == "" && p.rule.unmodelled
		}
	}
	ch.local = ch.local || p.c.local
	p.pending = append(p.pending, rule{p.slabs.bodies.one(b), number})
	p.c.rs.rules++
	if unmodelled {
		p.c.rs.unmodelled++
	}
	return nil
}

// commit makes the chains of a table, and hangs the built-in ones at their hooks.
func (p *iptablesParser) commit() error {
	p.flush()
	for _, d := range p.order {
		if d.unread {
			if err := p.readNative(d); err != nil {
				return err
			}
		}
	}
	var undefined *SyntaxError
	for _, d := range p.order {
		if err := p.resolve(d); err != nil && (undefined == nil || err.Line < undefined.Line) {
			undefined = err
		}
	}
	if undefined != nil {
		return undefined
	}
	order, loop := sortChains(p.order)
	if loop != nil {
		return p.errorf("COMMIT", "chains of table "+p.table+" form a loop through "+loop.name)
	}
	for _, d := range order {
		if err := p.build(d); err != nil {
			return err
		}
		if d.shadow != nil {
			d.shadow.made = d.chain
		}
	}
	for _, d := range p.order {
		ch := d.chain
		hook, ok := p.kind.builtin(d.name)
		if !ok || p.native != nil && p.native.dormant {
			continue
		}
		if p.native != nil && d.shadow == nil && len(d.rules) == 0 {
			continue // which accepts: iptables-nft-save shows base chains that are not there
		}
		ch.uncertain = p.native != nil && p.native.garbled
		switch {
		case p.kind.nat:
			ch.priority = priorityNATDst
			if manipOf(hook) == manipSrc {
				ch.priority = priorityNATSrc
			}
			p.c.attachNAT(p.family, hook, ch)
		case p.table == "mangle" && hook == Output:
			p.c.attach(p.family, hook, hookOp{priority: p.kind.priority, kind: opRoute, chain: ch})
		default:
			p.c.attach(p.family, hook, hookOp{priority: p.kind.at(p.backend), chain: ch})
		}
	}
	p.table = ""
	return nil
}

// visit is how far the search for loops has come with a chain.
type visit uint8

const (
	unseen visit = iota
	open
	closed
)

func (v *visit) visited() *visit { return v }

// sortable is a chain, made or not.
type sortable[C any] interface {
	comparable
	appendTargets(list []C) []C
	visited() *visit
}

// sortChains returns the chains so that each comes after those that it leads to, or one
// that can reach itself. The kernel refuses such tables; evaluating one would not
// end.
func sortChains[C sortable[C]](chains []C) (order []C, loop C) {
	// Each chain on the way has its targets in a part of the list.
	type frame struct {
		c          C
		start, end int
	}
	var stack []frame
	var targets []C
	enter := func(c C) {
		*c.visited() = open
		start := len(targets)
		targets = c.appendTargets(targets)
		stack = append(stack, frame{c, start, len(targets)})
	}
	for _, start := range chains {
		if *start.visited() != unseen {
			continue
		}
		enter(start)
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.start == top.end {
				*top.c.visited() = closed
				order = append(order, top.c)
				stack = stack[:len(stack)-1]
				continue
			}
			top.end--
			next := targets[top.end]
			targets = targets[:top.end]
			switch *next.visited() {
			case open:
				return nil, next
			case unseen:
				enter(next)
			}
		}
	}
	return order, loop
}

// chainTargets is an action that may enter chains.
type chainTargets interface {
	appendTargets(list []*chain) []*chain
	// retarget has the action enter others in their place.
	retarget(to func(*chain) *chain)
}

func (a *verdictAction) retarget(to func(*chain) *chain) {
	if a.chain != nil {
		a.chain = to(a.chain)
	}
}

func (a *verdictAction) appendTargets(list []*chain) []*chain {
	if a.chain == nil {
		return list
	}
	return append(list, a.chain)
}

func (c *chain) appendTargets(list []*chain) []*chain {
	for i := range c.rules {
		list = c.rules[i].appendTargets(list)
	}
	return list
}

func (c *chain) retarget(to func(*chain) *chain) {
	for i := range c.rules {
		for _, s := range c.rules[i].steps {
			if a, ok := s.action.(chainTargets); ok {
				a.retarget(to)
			}
		}
	}
}

func (b *body) appendTargets(list []*chain) []*chain {
	for _, s := range b.steps {
		if t, ok := s.action.(chainTargets); ok {
			list = t.appendTargets(list)
		}
	}
	return list
}

// jump is a reference to a chain, to be resolved.
type jump struct {
	name   string
	line   int
	action *verdictAction
}

// ruleParser reads the specification of one rule.
type ruleParser struct {
	p      *iptablesParser
	tokens []string
	// jumps are the places that name a chain, resolved at COMMIT: a chain may
	// be declared after the rule that jumps to it. Targets are names that would
	// be chains if there were such.
	jumps   []jump
	targets []string

	matches []matcher
	// before is done before the action, when all matches hold.
	before     []action
	action     action
	unmodelled bool
	protocol   netstack.Protocol
	hasProto   bool
	// protocols are the matches of -p that rules share.
	protocols [2][256]*protoMatch
	ports     map[portMatchKey]*portMatch
	// modules are the match extensions of the rule, in order.
	modules []module
	target  targetModule
	// printer, when there is one, is told what was read; took says who took the
	// last option.
	printer *rulePrinter
	took    partOf
}

// module is a match extension that collects its options.
type module interface {
	// option handles an option and takes its values, or says that the option
	// is not one of its own.
	option(r *ruleParser, name string, invert bool) (bool, error)
	// finish adds what the options mean to the rule.
	finish(r *ruleParser) error
}

// targetModule is a target extension.
type targetModule interface {
	option(r *ruleParser, name string, invert bool) (bool, error)
	finish(r *ruleParser) (action, error)
}

func (r *ruleParser) errorf(token, msg string) error { return r.p.errorf(token, msg) }

// value takes the argument of an option.
func (r *ruleParser) value(option string) (string, error) {
	if len(r.tokens) == 0 {
		return "", r.errorf(option, "option needs a value")
	}
	v := r.tokens[0]
	r.tokens = r.tokens[1:]
	return v, nil
}

// portMatchKey is a portMatch of one range.
type portMatchKey struct {
	netstack.PortRange
	side   portSide
	invert bool
}

// Rules share their tests of protocols and ports: there are few of them.

func (r *ruleParser) protoMatch(proto netstack.Protocol, invert bool) *protoMatch {
	i := 0
	if invert {
		i = 1
	}
	m := &r.protocols[i][proto]
	if *m == nil {
		*m = &protoMatch{proto: proto, invert: invert}
	}
	return *m
}

func (r *ruleParser) portMatch(side portSide, ports netstack.PortRange, invert bool) *portMatch {
	key := portMatchKey{ports, side, invert}
	m := r.ports[key]
	if m == nil {
		if r.ports == nil {
			r.ports = make(map[portMatchKey]*portMatch)
		}
		m = &portMatch{side: side, ranges: []netstack.PortRange{ports}, invert: invert}
		r.ports[key] = m
	}
	return m
}

func (r *ruleParser) add(m matcher) { r.matches = append(r.matches, m) }

func (r *ruleParser) parse(tokens []string) ([]step, error) {
	r.tokens = tokens
	r.matches, r.before, r.action, r.unmodelled, r.hasProto, r.protocol = r.matches[:0], nil, nil, false, false, 0
	r.modules, r.target = r.modules[:0], nil
	if r.printer != nil {
		r.printer.parts = r.printer.parts[:0]
	}
	for len(r.tokens) > 0 {
		name := r.tokens[0]
		r.tokens = r.tokens[1:]
		invert := false
		if name == "!" {
			if len(r.tokens) == 0 {
				return nil, r.errorf(name, "nothing to negate")
			}
			invert = true
			name = r.tokens[0]
			r.tokens = r.tokens[1:]
		}
		values := r.tokens
		r.took = ofRule
		if err := r.option(name, invert); err != nil {
			return nil, err
		}
		if r.printer != nil {
			values = values[:len(values)-len(r.tokens)]
			r.printer.parts = append(r.printer.parts, part{r.took, name, invert, values})
		}
	}
	for _, m := range r.modules {
		if err := m.finish(r); err != nil {
			return nil, err
		}
	}
	if r.target != nil {
		a, err := r.target.finish(r)
		if err != nil {
			return nil, err
		}
		r.action = a
	}
	if r.action == nil && len(r.before) == 0 {
		// A rule without a target counts, and does nothing else.
		return nil, nil
	}
	slabs := &r.p.slabs
	matches := slabs.matchers.list(r.matches)
	if len(r.before) == 0 {
		return slabs.steps.list([]step{{matches: matches, action: r.action}}), nil
	}
	var steps []step
	for _, a := range append(r.before, r.action) {
		steps = append(steps, step{matches: matches, action: a})
		matches = nil
	}
	return steps, nil
}

func (r *ruleParser) option(name string, invert bool) error {
	if name == "--proto" {
		// The policy match has an option of this name, which goes before -p's.
		for _, m := range r.modules {
			if p, ok := m.(*policyModule); ok {
				r.took = ofMatch
				_, err := p.option(r, name, invert)
				return err
			}
		}
	}
	if own, err := r.ownOption(name, invert); own || err != nil {
		return err
	}
	return r.extensionOption(name, invert)
}

// ownOption reads an option that rules have without any extension, or says that this
// is none.
func (r *ruleParser) ownOption(name string, invert bool) (bool, error) {
	switch name {
	case "-s", "--source", "--src":
		return true, r.address(name, true, invert)
	case "-d", "--destination", "--dst":
		return true, r.address(name, false, invert)
	case "-i", "--in-interface":
		return true, r.iface(name, true, invert)
	case "-o", "--out-interface":
		return true, r.iface(name, false, invert)
	case "-p", "--protocol", "--proto":
		return true, r.proto(name, invert)
	case "-f", "--fragment":
		// Packets of a walk are whole: only "! -f" takes them.
		if !invert {
			r.add(never{})
		}
		return true, nil
	case "-c", "--set-counters":
		return true, r.counters(name)
	case "-m", "--match":
		if invert {
			return true, r.errorf(name, "option cannot be negated")
		}
		text, err := r.value(name)
		if err == nil {
			r.modules = append(r.modules, newModule(text))
		}
		return true, err
	case "-j", "--jump", "-g", "--goto":
		if invert {
			return true, r.errorf(name, "option cannot be negated")
		}
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if r.action != nil || r.target != nil {
			return true, r.errorf(text, "a rule has one target")
		}
		return true, r.jump(text, name == "-g" || name == "--goto")
	}
	return false, nil
}

func (r *ruleParser) address(option string, src, invert bool) error {
	text, err := r.value(option)
	if err != nil {
		return err
	}
	m, ok := parseAddrMask(r.p.family, text)
	if !ok {
		return r.errorf(text, "invalid "+r.p.family.String()+" address or mask")
	}
	if m.mask != (u128{}) || invert {
		r.add(r.p.slabs.addrs.one(addrMatch{addrMask: m, src: src, invert: invert}))
	}
	return nil
}

func (r *ruleParser) iface(option string, in, invert bool) error {
	text, err := r.value(option)
	if err != nil {
		return err
	}
	if text == "" || len(text) > 15 {
		return r.errorf(text, "invalid interface name")
	}
	if text != "+" || invert {
		r.add(newIfaceMatch(text, in, invert))
	}
	return nil
}

func (r *ruleParser) proto(option string, invert bool) error {
	text, err := r.value(option)
	if err != nil {
		return err
	}
	proto, ok := parseProtocol(text)
	if !ok && text != "all" {
		return r.errorf(text, "unknown protocol")
	}
	if text == "all" || proto == 0 && r.p.family == netstack.IPv4 {
		if invert {
			r.add(never{})
		}
		return nil
	}
	r.protocol, r.hasProto = proto, !invert
	r.add(r.protoMatch(proto, invert))
	return nil
}

func (r *ruleParser) counters(option string) error {
	for range 2 {
		text, err := r.value(option)
		if err != nil {
			return err
		}
		if !isDigits(text) {
			return r.errorf(text, "invalid counter")
		}
	}
	return nil
}

// extensionOption gives an option to the extension of the rule that knows it.
func (r *ruleParser) extensionOption(name string, invert bool) error {
	if r.target != nil {
		r.took = ofTarget
		if ok, err := r.target.option(r, name, invert); ok || err != nil {
			return err
		}
	}
	r.took = ofMatch
	for i := len(r.modules) - 1; i >= 0; i-- {
		if _, opaque := r.modules[i].(*opaqueModule); opaque {
			continue
		}
		if ok, err := r.modules[i].option(r, name, invert); ok || err != nil {
			return err
		}
	}
	// iptables loads the protocol's match by itself.
	if r.hasProto {
		if m := protocolModule(r.protocol); m != nil {
			r.took = ofProtocol
			if ok, err := m.option(r, name, invert); ok || err != nil {
				return err
			}
		}
	}
	// What nobody knows belongs to a match that is not modelled, if there is one.
	r.took = ofMatch
	for _, m := range r.modules {
		if o, opaque := m.(*opaqueModule); opaque {
			_, err := o.option(r, name, invert)
			return err
		}
	}
	return r.errorf(name, "unknown option")
}

// jump reads the argument of -j or -g.
func (r *ruleParser) jump(name string, isGoto bool) error {
	if !isGoto && r.p.chains[name] == nil {
		if !slices.Contains(r.targets, name) {
			r.targets = append(r.targets, name)
		}
		switch name {
		case "ACCEPT", "DROP", "RETURN", "QUEUE":
			r.action = standardTarget(name)
			return nil
		}
		if t := newTarget(name); t != nil {
			r.target = t
			return nil
		}
		if len(r.tokens) > 0 && (strings.HasPrefix(r.tokens[0], "--") || r.tokens[0] == "!") {
			// Chains take no options: this is a target that we do not know.
			r.target = &opaqueTarget{name: name}
			return nil
		}
	}
	kind := outJump
	if isGoto {
		kind = outGoto
	}
	if d := r.p.chains[name]; d != nil && d.base {
		return r.errorf(name, "jump to a built-in chain")
	}
	a := r.p.slabs.jumps.one(verdictAction{kind: kind})
	r.jumps = append(r.jumps, jump{name: name, line: r.p.line, action: a})
	r.action = a
	return nil
}

// number reads an unsigned number of at most bits bits, decimal, octal or
// hexadecimal as the tools take it.
func (r *ruleParser) number(option string, bits int) (uint64, error) {
	text, err := r.value(option)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		return 0, r.errorf(text, "invalid number for "+option)
	}
	return n, nil
}

// masked reads VALUE[/MASK].
func (r *ruleParser) masked(option string, bits int) (value, mask uint64, err error) {
	text, err := r.value(option)
	if err != nil {
		return 0, 0, err
	}
	valueText, maskText, hasMask := strings.Cut(text, "/")
	mask = ^uint64(0) >> (64 - bits)
	if value, err = strconv.ParseUint(valueText, 0, bits); err == nil && hasMask {
		mask, err = strconv.ParseUint(maskText, 0, bits)
	}
	if err != nil {
		return 0, 0, r.errorf(text, "invalid value for "+option)
	}
	return value, mask, nil
}

// numberRange reads FIRST[:LAST], either of which may be left out.
func (r *ruleParser) numberRange(option string, maximum uint64) (first, last uint64, err error) {
	text, err := r.value(option)
	if err != nil {
		return 0, 0, err
	}
	first, last, ok := parseRange(text, ":", maximum)
	if !ok {
		return 0, 0, r.errorf(text, "invalid range for "+option)
	}
	return first, last, nil
}

func parseRange(text, sep string, maximum uint64) (first, last uint64, ok bool) {
	firstText, lastText, found := strings.Cut(text, sep)
	last = maximum
	var err error
	if firstText != "" {
		if first, err = strconv.ParseUint(firstText, 0, 64); err != nil {
			return 0, 0, false
		}
	}
	switch {
	case !found:
		if firstText == "" {
			return 0, 0, false
		}
		last = first
	case lastText != "":
		if last, err = strconv.ParseUint(lastText, 0, 64); err != nil {
			return 0, 0, false
		}
	}
	return first, last, first <= last && last <= maximum
}
