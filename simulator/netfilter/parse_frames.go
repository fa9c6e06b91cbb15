package netfilter

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// frameDialect is what arptables and ebtables do not share.
type frameDialect struct {
	family string // "arp" or "bridge"
	tables map[string]frameTable
	// option handles an option of the tool, or says that the tool has none of
	// that name.
	option func(p *frameParser, name string, invert bool) (bool, error)
	// target makes the action of a target with options of its own; nil for one
	// that is not modelled.
	target func(p *frameParser, t *frameTarget) (action, error)
}

// frameTable says at which hooks a table has its built-in chains.
type frameTable []frameHook

type frameHook struct {
	hook     Hook
	priority int
	name     string // of the chain, where it is not the hook's
}

// frameTarget is a target with its options.
type frameTarget struct {
	name    string
	options []frameOption
}

type frameOption struct{ name, value string }

// frameParser reads one dump of arptables-save or ebtables-save: tables of the
// legacy tools.
type frameParser struct {
	lineScanner
	*frameDialect
	c *compiler

	seen   map[string]bool
	table  string // being read; empty before the first
	kind   frameTable
	chains map[string]*chain
	order  []*chain
	// declared are the lines of chains.
	declared map[*chain]int
	// ends are the policies of chains that users made: the last rule of each.
	ends map[*chain]rule

	// Of the rule that is being read:
	tokens     []string
	matches    []matcher
	target     *frameTarget
	unmodelled bool
	jumps      []jump
}

// frames compiles a dump.
func (c *compiler) frames(dialect *frameDialect, dump *netstack.Text) error {
	p := &frameParser{
		lineScanner: lineScanner{file: dump.File, text: string(dump.Data)}, frameDialect: dialect,
		c: c, seen: make(map[string]bool),
	}
	for p.next() {
		if err := p.parseLine(); err != nil {
			return err
		}
	}
	return p.endTable()
}

func (p *frameParser) parseLine() error {
	line := strings.TrimSpace(p.cur)
	p.cur = line
	switch {
	case line == "" || line[0] == '#':
		return nil
	case line[0] == '*':
		return p.beginTable(line[1:])
	case p.table == "":
		return p.errorf(firstWord(line), "expected *TABLE")
	case line == "COMMIT": // which these tools need not write
		return p.endTable()
	case line[0] == ':':
		return p.declareChain()
	}
	return p.parseRule()
}

func (p *frameParser) beginTable(name string) error {
	if err := p.endTable(); err != nil {
		return err
	}
	kind, ok := p.tables[name]
	if !ok {
		return p.errorf(name, "unknown table")
	}
	if p.seen[name] {
		return p.errorf(name, "table occurs twice")
	}
	p.seen[name] = true
	p.table, p.kind = name, kind
	p.chains, p.order, p.declared, p.ends, p.jumps = make(map[string]*chain), nil, make(map[*chain]int), make(map[*chain]rule), nil
	return nil
}

// builtin returns the place of a built-in chain.
func (t frameTable) builtin(name string) (frameHook, bool) {
	for _, h := range t {
		if cmp.Or(h.name, h.hook.String()) == name {
			return h, true
		}
	}
	return frameHook{}, false
}

// declareChain reads ":NAME POLICY".
func (p *frameParser) declareChain() error {
	name, policy, err := p.declaration()
	if err != nil {
		return err
	}
	if p.chains[name] != nil {
		return p.errorf(name, "chain declared twice")
	}
	ch := &chain{family: p.family, backend: netstack.BackendLegacy, table: p.table, name: name}
	_, ch.base = p.kind.builtin(name)
	switch {
	case policy == "ACCEPT" && ch.base, (policy == "-" || policy == "RETURN") && !ch.base:
	case policy == "DROP" && ch.base && p.table == "broute":
		p.ends[ch] = rule{body: &body{steps: []step{{action: newUnknownAction("target DROP of BROUTING")}}, text: policy}}
	case policy == "DROP" && ch.base:
		ch.policy = Drop
	case (policy == "ACCEPT" || policy == "DROP") && p.family == "bridge":
		// Chains that users make have policies, too: ebt_do_table.
		p.ends[ch] = rule{body: &body{steps: []step{{action: standardTarget(policy)}}, text: policy}}
	case ch.base:
		return p.errorf(policy, "invalid policy of a built-in chain")
	default:
		return p.errorf(policy, "invalid policy of a user-defined chain")
	}
	p.chains[name], p.declared[ch] = ch, p.line
	p.order = append(p.order, ch)
	return nil
}

// standardTarget is a verdict that is no chain; nil for other names.
func standardTarget(name string) *verdictAction {
	switch name {
	case "ACCEPT":
		return &verdictAction{kind: outAccept, text: "accept"}
	case "DROP":
		return &verdictAction{kind: outDrop, text: "drop"}
	case "RETURN":
		return &verdictAction{kind: outReturn, text: "return"}
	case "QUEUE":
		return &verdictAction{kind: outQueue, text: "queue"}
	case "CONTINUE":
		return &verdictAction{kind: outContinue, text: "continue"}
	}
	return nil
}

// parseRule reads "[packets:bytes] -A CHAIN …".
func (p *frameParser) parseRule() error {
	name, tokens, line, err := p.addition("-A")
	if err != nil {
		return err
	}
	ch := p.chains[name]
	if ch == nil {
		return p.errorf(name, "chain is not declared")
	}
	p.tokens, p.matches, p.target, p.unmodelled = tokens, nil, nil, false
	for len(p.tokens) > 0 {
		if err := p.parseOption(); err != nil {
			return err
		}
	}
	do, err := p.finishTarget(ch)
	if err != nil {
		return err
	}
	r := rule{body: &body{text: line}, number: len(ch.rules) + 1}
	if do != nil {
		r.steps = []step{{matches: p.matches, action: do}}
	}
	ch.rules = append(ch.rules, r)
	p.c.rs.rules++
	if p.unmodelled {
		p.c.rs.unmodelled++
	}
	return nil
}

func (p *frameParser) parseOption() error {
	name := p.tokens[0]
	p.tokens = p.tokens[1:]
	invert := name == "!"
	if invert {
		if len(p.tokens) == 0 {
			return p.errorf(name, "nothing to negate")
		}
		name = p.tokens[0]
		p.tokens = p.tokens[1:]
	}
	if !strings.HasPrefix(name, "-") {
		return p.errorf(name, "expected an option")
	}
	if len(p.tokens) > 0 && p.tokens[0] == "!" { // the older place of it
		if invert {
			return p.errorf(name, "option is negated twice")
		}
		invert = true
		p.tokens = p.tokens[1:]
	}
	switch name {
	case "-j", "--jump":
		text, err := p.value(name)
		switch {
		case err != nil:
			return err
		case invert:
			return p.errorf(name, "option cannot be negated")
		case p.target != nil:
			return p.errorf(text, "a rule has one target")
		}
		p.target = &frameTarget{name: text}
		return nil
	case "-c", "--set-counters":
		for range 2 {
			text, err := p.value(name)
			if err != nil {
				return err
			}
			if !isDigits(text) {
				return p.errorf(text, "invalid counter")
			}
		}
		return nil
	case "-i", "--in-interface", "-o", "--out-interface", "--in-if", "--out-if":
		text, err := p.interfaceName(name)
		if err == nil {
			p.matches = append(p.matches, newIfaceMatch(text, name == "-i" || strings.HasPrefix(name, "--in"), invert))
		}
		return err
	}
	if known, err := p.option(p, name, invert); known || err != nil {
		return err
	}
	if p.target != nil && strings.HasPrefix(name, "--") {
		o := frameOption{name: name}
		if len(p.tokens) > 0 && !strings.HasPrefix(p.tokens[0], "-") {
			o.value = p.tokens[0]
			p.tokens = p.tokens[1:]
		}
		p.target.options = append(p.target.options, o)
		return nil
	}
	return p.errorf(name, "unknown option")
}

// value takes the argument of an option.
func (p *frameParser) value(option string) (string, error) {
	if len(p.tokens) == 0 {
		return "", p.errorf(option, "option needs a value")
	}
	v := p.tokens[0]
	p.tokens = p.tokens[1:]
	return v, nil
}

func (p *frameParser) interfaceName(option string) (string, error) {
	text, err := p.value(option)
	if err == nil && (text == "" || len(text) > 15) {
		err = p.errorf(text, "invalid interface name")
	}
	return text, err
}

// finishTarget makes the action of the rule; nil for a rule that only counts.
func (p *frameParser) finishTarget(at *chain) (action, error) {
	t := p.target
	if t == nil {
		return nil, nil
	}
	if len(t.options) == 0 {
		if a := standardTarget(t.name); a != nil {
			if a.kind == outDrop && p.table == "broute" { // the frame is routed
				p.unmodelled = true
				return newUnknownAction("target DROP of BROUTING"), nil
			}
			if a.kind == outReturn && at.base && p.family == "bridge" {
				return nil, nil // ebt_do_table goes on
			}
			return a, nil
		}
		if to := p.chains[t.name]; to != nil && to.base {
			return nil, p.errorf(t.name, "jump to a built-in chain")
		}
	}
	a, err := p.frameDialect.target(p, t)
	if a != nil || err != nil {
		return a, err
	}
	if len(t.options) == 0 {
		// A chain, or a target that is not modelled: that is known at the table's end.
		v := &verdictAction{kind: outJump}
		p.jumps = append(p.jumps, jump{name: t.name, line: p.line, action: v})
		return v, nil
	}
	p.unmodelled = true
	return newUnknownAction("target " + t.name), nil
}

// endTable resolves jumps and hangs the built-in chains at their hooks.
func (p *frameParser) endTable() error {
	if p.table == "" {
		return nil
	}
	for _, j := range p.jumps {
		if j.action.chain = p.chains[j.name]; j.action.chain == nil {
			return &SyntaxError{File: p.file, Line: j.line, Token: j.name, Msg: "chain or target is not defined"}
		}
	}
	for ch, end := range p.ends {
		ch.rules = append(ch.rules, end)
	}
	if _, loop := sortChains(p.order); loop != nil {
		return &SyntaxError{File: p.file, Line: p.declared[loop], Token: loop.name, Msg: "chains of table " + p.table + " form a loop"}
	}
	for _, ch := range p.order {
		if at, ok := p.kind.builtin(ch.name); ok {
			ch.priority = at.priority
			p.c.rs.linkLayer.hang(p.family, at.hook, deviceChain{chain: ch})
		}
	}
	p.table = ""
	return nil
}

// number reads an unsigned number of at most bits bits.
func (p *frameParser) number(text, option string, base, bits int) (uint64, error) {
	if base == 16 {
		text = strings.TrimPrefix(text, "0x")
	}
	n, err := strconv.ParseUint(text, base, bits)
	if err != nil {
		return 0, p.errorf(text, "invalid number for "+option)
	}
	return n, nil
}

// macMask reads MAC[/MASK].
func (p *frameParser) macMask(option string) (value, mask u128, err error) {
	text, err := p.value(option)
	if err != nil {
		return value, mask, err
	}
	name, maskText, hasMask := strings.Cut(text, "/")
	mac, ok := netstack.ParseMAC(name)
	bits := netstack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if ok && hasMask {
		bits, ok = netstack.ParseMAC(maskText)
	}
	if !ok {
		return value, mask, p.errorf(text, "invalid hardware address or mask")
	}
	return macBits(mac), macBits(bits), nil
}
