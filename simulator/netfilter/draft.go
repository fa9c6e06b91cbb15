package netfilter

import (
	"slices"
	"strings"
)

// draft is a chain of iptables while its table is read.
type draft struct {
	name   string
	base   bool
	policy Action
	rules  []rule
	jumps  []jump // of the rules
	local  bool   // its rules mean something else in other namespaces
	// text is how the rules are written, if others may share the chain. Where the pool
	// has it, they are read only if they lead to other chains here: like is one that is
	// written the same.
	text    string
	like    *shared
	effects effects  // of reading them
	names   []string // see shared.targets
	targets []*draft // that the rules lead to, in their order
	chain   *chain   // that was made of it
	shadow  *shadow  // the same in nftables, if that shows it
	unread  bool     // iptables-nft shows none of its rules
	visit
}

// odd says whether nftables shows rules of the chain that iptables-save may show as something else.
func (d *draft) odd() bool { return d.shadow != nil && len(d.shadow.odd) > 0 }

func (d *draft) appendTargets(list []*draft) []*draft { return append(list, d.targets...) }

// parseNext reads the next line, or the rules of one chain that come next.
func (p *iptablesParser) parseNext() error {
	if p.c.pool == nil {
		p.next()
		return p.parseLine()
	}
	text, lines := p.block()
	if lines == 0 || p.table == "" {
		p.next()
		return p.parseLine()
	}
	d := p.chains[firstWord(text[len(appendRule):])]
	if d == nil {
		return p.parseText(text)
	}
	p.flush()
	whole := !d.base && d.rules == nil && d.text == "" && lines < longChain && !d.odd()
	if whole {
		if c := p.c.pool.find(p.key(), text, func(c *shared) bool { return c.fits(p.chains) }); c != nil {
			d.text, d.like = c.text, c
			p.c.rs.add(c.effects)
			p.text, p.line = p.text[len(text):], p.line+lines
			return nil
		}
	}
	// What is kept of the rules keeps their text, but not the whole dump.
	parts := []string{strings.Clone(text)}
	if lines >= longChain { // of which rules are shared one by one
		p.slabs = ruleSlabs{}
		defer func() { p.slabs = ruleSlabs{} }()
		parts = parts[:0]
		for line := range strings.Lines(text) {
			parts = append(parts, strings.Clone(line))
		}
	}
	before := p.c.rs.effects
	p.c.rs.effects, p.rule.targets = effects{}, p.rule.targets[:0]
	for _, part := range parts {
		if err := p.parseText(part); err != nil {
			return err
		}
	}
	p.flush()
	d.effects = p.c.rs.effects
	p.c.rs.add(before)
	if whole && !d.local {
		d.text, d.names = parts[0], p.names()
	}
	return nil
}

// names returns what the rules just read name that is no chain. There are few such names.
func (p *iptablesParser) names() []string {
	for i, name := range p.rule.targets {
		if p.named[name] == "" {
			name = strings.Clone(name)
			p.named[name] = name
		}
		p.rule.targets[i] = p.named[name]
	}
	return p.slabs.names.list(p.rule.targets)
}

const appendRule = "-A "

// block returns the next lines, if they are rules of one chain, and their number.
func (p *iptablesParser) block() (text string, lines int) {
	rest, ok := strings.CutPrefix(p.text, appendRule)
	end := strings.IndexAny(rest, " \n")
	if !ok || end < 0 || rest[end] == '\n' {
		return "", 0
	}
	prefix := p.text[:len(appendRule)+end+1]
	for rest = p.text; strings.HasPrefix(rest, prefix); lines++ {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return p.text[:len(p.text)-len(rest)], lines
}

// parseText reads lines that are written as the next ones of the dump.
func (p *iptablesParser) parseText(text string) error {
	rest := p.text[len(text):]
	p.text = text
	for p.next() {
		if err := p.parseLine(); err != nil {
			return err
		}
	}
	p.text = rest
	return nil
}

// read reads the rules of a chain that were not read because the pool has such.
func (p *iptablesParser) read(d *draft) error {
	if d.like == nil {
		return nil
	}
	d.effects, d.names, d.like = d.like.effects, d.like.targets, nil
	p.flush()
	effects, text, line, cur := p.c.rs.effects, p.text, p.line, p.cur
	own := d.text
	p.text, d.text = own, ""
	err := p.parseText(own)
	p.flush()
	d.text = own
	p.c.rs.effects, p.text, p.line, p.cur = effects, text, line, cur
	return err
}

// resolve finds the chains that the rules lead to.
func (p *iptablesParser) resolve(d *draft) *SyntaxError {
	start := len(p.targets)
	defer func() { d.targets = p.targets[start:len(p.targets):len(p.targets)] }()
	if d.like != nil {
		for i := range d.like.rules {
			var list [1]*chain
			for _, target := range d.like.rules[i].appendTargets(list[:0]) {
				p.targets = append(p.targets, p.chains[target.name])
			}
		}
		return nil
	}
	for _, j := range d.jumps {
		target := p.chains[j.name]
		switch {
		case target == nil:
			return &SyntaxError{File: p.file, Line: j.line, Token: j.name, Msg: "chain or target is not defined"}
		case target.base:
			return &SyntaxError{File: p.file, Line: j.line, Token: j.name, Msg: "jump to a built-in chain"}
		}
		p.targets = append(p.targets, target)
	}
	if d.base && !d.unread && p.native != nil && d.shadow == nil && (len(d.rules) > 0 || d.policy == Drop) {
		d.rules = slices.Concat(unlikeNFT, d.rules)
	}
	if d.odd() {
		if len(d.rules) != d.shadow.rules {
			d.rules = slices.Concat(unlikeNFT, d.rules)
		}
		for i := range d.rules { // of which those of iptables lead nowhere yet
			for _, c := range d.rules[i].appendTargets(nil) {
				if target := p.chains[c.name]; target != nil {
					p.targets = append(p.targets, target)
				}
			}
		}
	}
	return nil
}

// build makes the chain, or takes an equal one from the pool. Those that it leads to are
// made.
func (p *iptablesParser) build(d *draft) error {
	pool := p.c.pool
	if pool != nil && !d.base && d.text == "" && d.rules == nil {
		d.text = "# " + d.name // a chain without rules
	}
	if d.text != "" {
		if c := pool.find(p.key(), d.text, func(c *shared) bool { return c.leadsTo(d.targets) }); c != nil {
			d.chain = &c.chain
			return nil
		}
		if err := p.read(d); err != nil {
			return err
		}
	}
	for i, j := range d.jumps {
		j.action.chain = d.targets[i].chain
	}
	if d.odd() {
		of := chain{rules: d.rules}
		of.retarget(func(c *chain) *chain {
			if target := p.chains[c.name]; target != nil && target.shadow != nil && c == &target.shadow.chain {
				return target.chain
			}
			return c
		})
	}
	name := d.name // of the dump, which is not kept
	if at := strings.Index(d.text, name); at >= 0 {
		name = d.text[at : at+len(name)]
	} else {
		name = strings.Clone(name)
	}
	made := chain{
		family: familyName(p.family), backend: p.backend, table: p.table, name: name,
		base: d.base, policy: d.policy, rules: d.rules,
	}
	if d.text != "" {
		c := &shared{chain: made, key: p.key(), text: d.text, effects: d.effects, targets: d.names}
		pool.add(c)
		d.chain = &c.chain
	} else {
		c := new(chain)
		*c, d.chain = made, c
		if pool != nil && len(c.rules) >= longChain && !d.local {
			if d.chain = pool.shareLong(p.key(), c); d.chain != c {
				return nil
			}
		}
	}
	d.chain.buildIndex()
	return nil
}
