package netfilter

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Ruleset is the compiled packet filtering of one namespace. It is immutable:
// any number of walks may run through it at once.
type Ruleset struct {
	pipelines [2][numHooks]pipeline // by familyIndex
	effects
	ct        ctSettings
	sets      map[string]*ipset
	linkLayer linkLayer
	handles   handles // of rules of nftables
	// links are the namespace's devices by name; nil when they are not known.
	links map[string]*netstack.Link
	ns    *netstack.Namespace // what it was compiled from
}

// effects is what reading rules does beside the rules.
type effects struct {
	// tracking says whether connection tracking is on in a family: the kernel
	// registers its hooks when the first rule needs them.
	tracking          [2]bool
	segments          bool // TellsSegmentsApart
	rules, unmodelled int
}

func (e *effects) add(more effects) {
	for i := range e.tracking {
		e.tracking[i] = e.tracking[i] || more.tracking[i]
	}
	e.segments = e.segments || more.segments
	e.rules += more.rules
	e.unmodelled += more.unmodelled
}

// HasTable says whether a chain of nat is in a table of nftables with that name.
func (rs *Ruleset) HasTable(name string) bool {
	for family := range rs.pipelines {
		for hook := range rs.pipelines[family] {
			for _, c := range rs.pipelines[family][hook].nat {
				if c.table == name {
					return true
				}
			}
		}
	}
	return false
}

// pipeline is what happens at one hook, in order.
type pipeline struct {
	ops []hookOp
	// nat are the chains that set up translations, in order of priority: they
	// run inside the nat operation.
	nat []*chain
}

// hookOp is one entry of a hook.
type hookOp struct {
	priority int
	kind     opKind
	chain    *chain // of opFilter and opRoute
}

type opKind uint8

const (
	opFilter opKind = iota
	opRoute         // opFilter that looks the route up again after a change
	opTrack
	opNAT
	opConfirm
)

// Priorities of <linux/netfilter_ipv4.h>.
const (
	priorityRaw       = -300
	priorityConntrack = -200
	priorityMangle    = -150
	priorityNATDst    = -100
	priorityFilter    = 0
	prioritySecurity  = 50
	priorityNATSrc    = 100
	priorityConfirm   = 1<<31 - 1
)

func familyIndex(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 1
	}
	return 0
}

// chain is a list of rules: a base chain when it hangs at a hook.
type chain struct {
	family  string
	backend netstack.Backend
	table   string
	name    string
	base    bool
	policy  Action // of a base chain
	stage   string // of a base chain, as reports call it
	// uncertain says that the base chain's table may be dormant.
	uncertain bool
	// priority orders the chains of nat among each other.
	priority int
	// age tells which of two base chains with one priority is the younger: it has the greater age, and runs first.
	age   int
	rules []rule
	// first tells the rules of nftables apart, among all that the pool knows: see handles. 0 for others.
	first uint64
	index *chainIndex // nil: the rules are met one by one
	visit
}

func (c *chain) setStage(at Hook) { c.stage = c.table + "/" + at.String() }

// ref names a rule of the chain for reports.
func (c *chain) ref(r *rule, text string) Rule {
	return Rule{Family: c.family, Backend: c.backend, Table: c.table, Chain: c.name, Number: r.number, Text: text}
}

func (c *chain) policyRef() Rule {
	text := "ACCEPT"
	if c.policy == Drop {
		text = "DROP"
	}
	return Rule{Family: c.family, Backend: c.backend, Table: c.table, Chain: c.name, Text: text}
}

// rule is what a rule does, and its place in its chain.
type rule struct {
	*body
	number int
}

// body is a sequence of steps. An iptables rule has one; an nftables rule has
// one more after each statement that does not end it. Rules of several chains may
// have the same body.
type body struct {
	steps []step
	text  string // of iptables
	json  string // of nftables: the dump from the rule's object on
}

// located is a rule of a rule set.
type located struct {
	rs *Ruleset
	*chain
	*rule
}

// String is the rule as the tool prints it. That of nftables is made when it is
// asked for: it takes longer than to evaluate the rule.
func (p located) String() string {
	if p.rule.json == "" {
		return p.rule.text
	}
	return new(Texts).render(p)
}

// render reads a rule of nftables again, and writes it for people.
func (t *Texts) render(p located) string {
	b := p.rule
	t.reader.reset(b.json, 0)
	n, ok := t.reader.value(0)
	if !ok {
		n, _ = parseJSONCarefully("", firstJSON(b.json))
	}
	return renderRule(&n, p.rs.handles.of(p.chain, p.rule.number))
}

// step does its action when all its matches hold; when one does not, the rule
// is over.
type step struct {
	matches []matcher
	action  action // nil: nothing to do
}

// compiler gathers what the parsers of one namespace find.
type compiler struct {
	rs   *Ruleset
	ns   *netstack.Namespace
	pool *Pool
	// local says that the rule just read means something else in other namespaces.
	local bool
	// sets are those of ipset: see set. One that is not there may be missing from the dump.
	sets map[string]*ipset
	// owned are the tables that a dump of iptables-nft shows, as nftables shows them; nil where it does not.
	owned map[ownedTable]*nftTable
	// unread are chains in them that the dump names without their rules.
	unread map[unreadChain]bool
	nft    *nftParser
	nat    [2]bool
	rules  uint64 // of nftables, without a pool
	// lengths counts the looks at the length of a packet that were compiled.
	lengths int
}

type ownedTable struct {
	family netstack.Family
	table  string
}

// Compile builds the rule set of a namespace from its dumps: iptables of each
// family and backend, nftables and ipset.
func Compile(ns *netstack.Namespace) (*Ruleset, error) { return compile(ns, nil) }

func newCompiler(ns *netstack.Namespace, pool *Pool) *compiler {
	return &compiler{rs: &Ruleset{}, ns: ns, pool: pool, owned: make(map[ownedTable]*nftTable), unread: make(map[unreadChain]bool)}
}

func compile(ns *netstack.Namespace, pool *Pool) (*Ruleset, error) {
	c := newCompiler(ns, pool)
	c.rs.settle(ns)
	sets, err := ns.IPSet.Bytes()
	if err != nil {
		return nil, err
	}
	if c.sets, err = parseIPSet(ns.IPSet.File, sets); err != nil {
		return nil, err
	}
	for i := range ns.IPTables {
		if err := c.own(&ns.IPTables[i]); err != nil {
			return nil, err
		}
	}
	if err := c.nftables(&ns.NFT); err != nil {
		return nil, err
	}
	for i := range ns.IPTables {
		if err := c.iptables(&ns.IPTables[i]); err != nil {
			return nil, err
		}
	}
	if err := c.frames(&arptables, &ns.ARPTables); err != nil {
		return nil, err
	}
	if err := c.frames(&ebtables, &ns.EBTables); err != nil {
		return nil, err
	}
	if c.nft != nil {
		if err := c.nft.resolve(); err != nil {
			return nil, err
		}
	}
	c.rs.sets = c.sets
	c.rs.linkLayer.order()
	c.age()
	c.finish()
	if pool != nil {
		pool.sweep()
	}
	return c.rs, nil
}

// set returns a set of ipset, or nil.
func (c *compiler) set(name string) *ipset {
	c.local = true
	return c.sets[name]
}

// transforms says whether there are policies of IPsec.
func (c *compiler) transforms() bool {
	c.local = true
	return len(bytes.TrimSpace(c.ns.XFRM.Data)) > 0
}

// attach hangs a base chain at a hook.
func (c *compiler) attach(f netstack.Family, hook Hook, op hookOp) {
	op.chain.setStage(hook)
	p := &c.rs.pipelines[familyIndex(f)][hook]
	p.ops = append(p.ops, op)
}

// attachNAT hangs a chain into the nat operation of a hook.
func (c *compiler) attachNAT(f netstack.Family, hook Hook, ch *chain) {
	ch.setStage(hook)
	i := familyIndex(f)
	c.nat[i] = true
	c.rs.pipelines[i][hook].nat = append(c.rs.pipelines[i][hook].nat, ch)
}

// age tells the base chains of iptables how old they are: those of the nft backend among all of nftables. The age of legacy
// tables no dump shows: they are taken for younger than those of the nft backend, and older than what nft made.
func (c *compiler) age() {
	legacy := 1
	for _, t := range c.owned {
		if t == nil {
			continue
		}
		for _, s := range t.shadows {
			legacy = max(legacy, s.age+1)
		}
	}
	set := func(ch *chain) {
		switch {
		case ch == nil || ch.backend == "":
		case ch.backend == netstack.BackendNFT:
			if s := c.shadow(ch); s != nil {
				ch.age = s.age
			}
		default:
			ch.age = legacy
		}
	}
	for i := range c.rs.pipelines {
		for hook := range numHooks {
			p := &c.rs.pipelines[i][hook]
			for _, op := range p.ops {
				set(op.chain)
			}
			for _, ch := range p.nat {
				set(ch)
			}
		}
	}
}

// before orders base chains of one priority: the youngest runs first (nf_hook_entries_grow).
func before(a, b *chain) int {
	age := func(ch *chain) int {
		if ch == nil { // an operation of the kernel's own
			return -1
		}
		return ch.age
	}
	return cmp.Compare(age(b), age(a))
}

// finish adds the operations that are not tables, and orders all.
func (c *compiler) finish() {
	for i := range c.rs.pipelines {
		for hook := range numHooks {
			p := &c.rs.pipelines[i][hook]
			if c.rs.tracking[i] {
				switch hook {
				case Prerouting, Output:
					p.ops = append(p.ops, hookOp{priority: priorityConntrack, kind: opTrack})
				case Input, Postrouting:
					p.ops = append(p.ops, hookOp{priority: priorityConfirm, kind: opConfirm})
				}
			}
			if c.nat[i] && c.rs.tracking[i] && hook != Forward {
				// The nat hooks of a family are registered together, at fixed
				// priorities: the priority of an nft nat chain only orders it
				// among the nat chains.
				priority := priorityNATDst
				if hook == Input || hook == Postrouting {
					priority = priorityNATSrc
				}
				p.ops = append(p.ops, hookOp{priority: priority, kind: opNAT})
			}
			slices.SortStableFunc(p.nat, func(a, b *chain) int { return cmp.Or(cmp.Compare(a.priority, b.priority), before(a, b)) })
			slices.SortStableFunc(p.ops, func(a, b hookOp) int {
				return cmp.Or(cmp.Compare(a.priority, b.priority), before(a.chain, b.chain))
			})
		}
	}
}

// needTracking notes that a rule of the family makes the kernel track
// connections.
func (c *compiler) needTracking(f netstack.Family) { c.rs.tracking[familyIndex(f)] = true }

// Coverage says how many rules there are, and how many of them use something
// that is not modelled.
func (rs *Ruleset) Coverage() (rules, unmodelled int) { return rs.rules, rs.unmodelled }
