package netfilter

import (
	"hash/maphash"
	"maps"
	"slices"
	"weak"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Pool has rule sets keep once what several of them have: chains whose rules are
// equal and lead to the same chains, rules of long chains, and what is in sets and maps of
// nftables. The rules of
// kube-proxy are nearly the same on all nodes of a cluster. A Pool itself keeps
// nothing: what no rule set has any more, goes. It is not safe for concurrent use.
type Pool struct {
	seed     maphash.Seed
	chains   map[uint64]variants            // by how they are written
	bodies   map[uint64]sharedBody          // of the rules of long chains
	long     map[uint64]weak.Pointer[chain] // by their rules
	elements map[uint64]weak.Pointer[nftElements]
	rules    uint64 // of nftables, that have got a number
	swept    int    // what was there after the last sweep
}

// NewPool returns an empty Pool.
func NewPool() *Pool {
	return &Pool{
		seed: maphash.MakeSeed(), chains: make(map[uint64]variants),
		bodies: make(map[uint64]sharedBody), long: make(map[uint64]weak.Pointer[chain]), elements: make(map[uint64]weak.Pointer[nftElements]),
	}
}

// longChain is the number of rules from where on rules are shared, not chains: the
// order of long chains often is that of a hash table (kube-proxy's KUBE-SERVICES),
// and another on each node.
const longChain = 64

// tableKey says what the words of a rule mean.
type tableKey struct {
	family  netstack.Family
	backend netstack.Backend
	table   string
}

// shared is a chain that may be in several rule sets.
type shared struct {
	chain
	key     tableKey
	text    string // of the rules, as written
	effects effects
	// targets are what rules name that was not taken for a chain, because there was
	// none of that name.
	targets []string
	// guessed says that what nftParser.splitRule takes for the rules of nftables are they.
	guessed bool
}

// variants are the chains that are written the same, and lead to different ones.
type variants struct {
	first weak.Pointer[shared]
	more  []weak.Pointer[shared]
}

// sharedBody is a rule that may be in several chains.
type sharedBody struct {
	key  tableKey
	body weak.Pointer[body]
}

// hash tells texts of tables apart, nearly always.
func (p *Pool) hash(key tableKey, text string) uint64 {
	return p.combine(key, maphash.String(p.seed, text))
}

func (p *Pool) combine(key tableKey, text uint64) uint64 {
	return maphash.Comparable(p.seed, struct {
		key  tableKey
		text uint64
	}{key, text})
}

// find returns a chain that is written like this, and is right; nil for none.
func (p *Pool) find(key tableKey, text string, right func(*shared) bool) *shared {
	return p.chains[p.hash(key, text)].find(func(c *shared) bool { return c.key == key && c.text == text && right(c) })
}

// findText is find for a text that is not kept.
func (p *Pool) findText(key tableKey, text []byte, right func(*shared) bool) *shared {
	return p.chains[p.combine(key, maphash.Bytes(p.seed, text))].find(func(c *shared) bool { return c.key == key && c.text == string(text) && right(c) })
}

func (v variants) find(right func(*shared) bool) *shared {
	if c := v.first.Value(); c != nil && right(c) {
		return c
	}
	for _, w := range v.more {
		if c := w.Value(); c != nil && right(c) {
			return c
		}
	}
	return nil
}

func (p *Pool) add(c *shared) {
	h := p.hash(c.key, c.text)
	v := p.chains[h]
	if v.first.Value() != nil {
		v.more = append(v.more, v.first)
	}
	v.first, v.more = weak.Make(c), alive(v.more)
	p.chains[h] = v
}

func alive(list []weak.Pointer[shared]) []weak.Pointer[shared] {
	return slices.DeleteFunc(list, func(w weak.Pointer[shared]) bool { return w.Value() == nil })
}

// fits says whether the rules would be read as they were, where there are these chains.
func (c *shared) fits(chains map[string]*draft) bool {
	for i := range c.rules {
		var list [1]*chain
		for _, target := range c.rules[i].appendTargets(list[:0]) {
			if d := chains[target.name]; d == nil || d.base {
				return false
			}
		}
	}
	return !slices.ContainsFunc(c.targets, func(name string) bool { return chains[name] != nil })
}

// leadsTo says whether the rules lead to the chains that targets are.
func (c *shared) leadsTo(targets []*draft) bool {
	at := 0
	for i := range c.rules {
		var list [1]*chain
		for _, target := range c.rules[i].appendTargets(list[:0]) {
			if at == len(targets) || targets[at].chain != target {
				return false
			}
			at++
		}
	}
	return at == len(targets)
}

// shareLong returns a chain that is the same as c, or else c, with rules that others have.
func (p *Pool) shareLong(key tableKey, c *chain) *chain {
	h := p.hash(key, c.name)
	for i := range c.rules {
		c.rules[i].body = p.share(key, c.rules[i].body)
		h = h*31 + maphash.Comparable(p.seed, c.rules[i].body)
	}
	if c.base {
		return c
	}
	if same := p.long[h].Value(); same != nil && same.family == c.family && same.backend == c.backend &&
		same.table == c.table && same.name == c.name && slices.Equal(same.rules, c.rules) {
		return same
	}
	p.long[h] = weak.Make(c)
	return c
}

// share returns a rule that is written as b and does the same, or else b.
func (p *Pool) share(key tableKey, b *body) *body {
	var mine, its [1]*chain
	targets := b.appendTargets(mine[:0])
	h := p.hash(key, b.text)
	for _, c := range targets {
		h ^= maphash.Comparable(p.seed, c)
	}
	known := p.bodies[h]
	if same := known.body.Value(); same != nil && known.key == key && same.text == b.text && slices.Equal(same.appendTargets(its[:0]), targets) {
		return same
	}
	own := *b // it does not live as long as its neighbours
	p.bodies[h] = sharedBody{key, weak.Make(&own)}
	return &own
}

// shareElements returns elements that are the same as e, with what other sets have of them. The
// chains that they lead to are shared.
func (p *Pool) shareElements(e *nftElements) *nftElements {
	keys, all := e.hashes(p.seed)
	for _, h := range [...]uint64{all, keys} {
		if known := p.elements[h].Value(); known != nil {
			same, whole := e.like(known)
			if whole {
				return same
			}
			if same != nil {
				e = same
			}
		}
	}
	for _, h := range [...]uint64{all, keys} {
		if p.elements[h].Value() == nil {
			p.elements[h] = weak.Make(e)
		}
	}
	return e
}

// sweep forgets what is not there any more, if that may be much.
func (p *Pool) sweep() {
	if p.len() < 2*p.swept {
		return
	}
	for h, v := range p.chains {
		v.more = alive(v.more)
		p.chains[h] = v
		if v.first.Value() == nil && len(v.more) == 0 {
			delete(p.chains, h)
		}
	}
	maps.DeleteFunc(p.bodies, func(_ uint64, b sharedBody) bool { return b.body.Value() == nil })
	maps.DeleteFunc(p.long, func(_ uint64, c weak.Pointer[chain]) bool { return c.Value() == nil })
	maps.DeleteFunc(p.elements, func(_ uint64, e weak.Pointer[nftElements]) bool { return e.Value() == nil })
	p.swept = max(p.len(), 1024)
}

func (p *Pool) len() int { return len(p.chains) + len(p.bodies) + len(p.long) + len(p.elements) }
