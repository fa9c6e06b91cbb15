package netfilter

import (
	"slices"
	"strconv"
	"strings"
)

// likeness is a chain of the pool whose rules are written as those of a chain of this rule set, but for
// their handles. They are read only if they lead to other chains here.
type likeness struct {
	*shared
	place int // of the first of the rules, which come one after another
}

// leads stands for rules that were not read: it leads to the same chains. It is in no chain that
// is evaluated.
type leads []*chain

func (leads) do(*traversal) outcome { return outcome{} }

func (l leads) appendTargets(list []*chain) []*chain { return append(list, l...) }

func (l leads) retarget(to func(*chain) *chain) {
	for i := range l {
		l[i] = to(l[i])
	}
}

const (
	beginRule = `{"rule"` // which is in no string: quotes are escaped there
	handleKey = `"handle":`
)

// splitRule guesses where the rule ends whose object begins at a place, and where its handle is. Whether
// that is right knows who has read a rule that is written the same: see guessed.
func (p *nftParser) splitRule(at int) (r nftRuleAt, ok bool) {
	if !strings.HasPrefix(p.text[at:], beginRule) {
		return r, false
	}
	size := strings.Index(p.text[at+1:], beginRule)
	if size < 0 {
		return r, false
	}
	object := strings.TrimRight(p.text[at:at+1+size], ", \n")
	r = nftRuleAt{place: at, end: at + len(object), handleStart: at + guessHandle(object)}
	for r.handleEnd = r.handleStart; r.handleEnd < r.end && '0' <= p.text[r.handleEnd] && p.text[r.handleEnd] <= '9'; r.handleEnd++ {
	}
	return r, r.handleEnd > r.handleStart
}

// guessHandle is where the first handle of an object is; its end if there is none.
func guessHandle(object string) int {
	at := strings.Index(object, handleKey)
	if at < 0 {
		return len(object)
	}
	at += len(handleKey)
	if at < len(object) && object[at] == ' ' {
		at++
	}
	return at
}

// handle is that of a rule; 0 for what is none.
func (p *nftParser) handle(at nftRuleAt) uint32 {
	h, _ := strconv.ParseUint(p.text[at.handleStart:at.handleEnd], 10, 32)
	if p.text[at.handleStart] == '0' {
		return 0
	}
	return uint32(h)
}

// inner is what is in the object of a rule, which begins like this; "" if it does not.
func inner(object string) string {
	object = strings.TrimPrefix(strings.TrimPrefix(object, beginRule), ":")
	return strings.TrimPrefix(object, " ")
}

// like takes the rules of one chain that come next for those of a chain of the pool. If there is none
// whose rules are written the same it says false, and nothing has happened.
func (p *nftParser) like(at int) bool {
	t := p.known
	if p.c.pool == nil || p.careful || t == nil || at < p.unlike {
		return false
	}
	first, ok := p.splitRule(at)
	if !ok {
		return false
	}
	head := p.text[at:first.handleStart] // with which the rules of the chain begin
	_, name, _ := strings.Cut(head, `"chain":`)
	name, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, " "), `"`), `"`)
	p.block = append(p.block[:0], name...)
	from := len(p.numbers)
	for next := at; strings.HasPrefix(p.text[next:], head); next = p.reader.at {
		r, ok := p.splitRule(next)
		if !ok {
			break // there is no guess at the end of the last rule of all
		}
		p.block = append(append(append(append(p.block, '\n'), inner(head)...), '0'), p.text[r.handleEnd:r.end]...)
		p.numbers = append(p.numbers, p.handle(r))
		p.unlike, p.reader.at = r.end, r.end
		p.reader.take(',')
		p.reader.space()
	}
	numbers := p.numbers[from:len(p.numbers):len(p.numbers)]
	p.reader.at = p.unlike
	ch := t.chains[name]
	if t.shadows != nil || ch == nil || ch.base || p.begun[ch] || p.likes[ch] != nil || slices.Contains(numbers, 0) {
		return false
	}
	c := p.c.pool.findText(t.key, p.block, func(c *shared) bool { return c.guessed })
	if c == nil {
		return false
	}
	targets := c.appendTargets(nil)
	for i, target := range targets {
		if targets[i] = t.chains[target.name]; targets[i] == nil {
			return false
		}
	}
	if len(targets) > 0 {
		ch.rules = []rule{{body: &body{steps: []step{{action: leads(targets)}}}}}
	}
	p.likes[ch], p.handles[ch] = &likeness{c, at}, numbers
	return true
}

// takeLike returns the chain of the pool that is like ch and leads where ch does. If there
// is none, it reads the rules.
func (p *nftParser) takeLike(t *nftTable, ch *chain, targets []*chain) (*shared, error) {
	like := p.likes[ch]
	same := func(c *shared) bool {
		p.targets = c.appendTargets(p.targets[:0])
		return slices.Equal(p.targets, targets)
	}
	c := like.shared
	if !same(c) {
		c = p.c.pool.find(t.key, like.text, same)
	}
	if c != nil {
		p.c.rs.add(c.effects)
		return c, nil
	}
	n := len(p.handles[ch])
	ch.rules, p.handles[ch] = nil, nil
	for at := like.place; n > 0; n-- {
		r, _ := p.splitRule(at)
		if err := p.ruleAt(r); err != nil {
			return nil, err
		}
		p.reader.reset(p.text, r.end)
		p.reader.take(',')
		p.reader.space()
		at = p.reader.at
	}
	return nil, nil
}
