package netfilter

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// iptables-nft keeps its tables in nftables, where anybody may change them. iptables-nft-save shows them as well as it
// can: base chains that iptables has not are left out, of two conditions on one field the last is shown, and what it
// cannot say (a set, a range of addresses, a verdict map) is left out of the rule. So nftables has the last word about
// these tables. What it cannot tell itself, as it only knows their names, are the matches and targets of iptables.

// shadow is a chain that iptables-nft-save shows, as nftables shows it.
type shadow struct {
	// chain stands for made, the one that is made of iptables' text, in what nftables shows, until that is made.
	chain chain
	made  *chain
	age   int
	rules int // how many there are
	// odd are the rules that iptables-nft-save may show as something else, by number.
	odd map[int]nftRuleAt
	// unread says that it cannot show any, and policy is the chain's.
	unread bool
	policy Action
}

func newShadow(t *nftTable, name string, age int) *shadow {
	return &shadow{chain: chain{family: t.family, table: t.name, name: name, rules: unlikeNFT}, age: age}
}

// unlikeNFT stands for rules that are not known, as the two dumps tell different things: they were read at different
// times.
var unlikeNFT = []rule{{&body{
	text:  "(the rules in nftables are not those of iptables-save)",
	steps: []step{{action: newUnknownAction("the chain, which nftables shows with other rules than iptables-save")}},
}, 0}}

func (s *shadow) add(at nftRuleAt, n *jsonNode) {
	s.rules++
	if !s.unread && ordinary(n.get("expr")) {
		return
	}
	if s.odd == nil {
		s.odd = make(map[int]nftRuleAt)
	}
	at.handleStart, at.handleEnd = 0, 0 // it is kept with its handle
	s.odd[s.rules] = at
}

// own notes the tables that a dump of iptables-nft shows.
func (c *compiler) own(dump *netstack.IPTablesDump) error {
	if dump.Backend != netstack.BackendNFT {
		return nil
	}
	data, err := dump.Bytes()
	if err != nil {
		return err
	}
	var table ownedTable
	for line := range bytes.Lines(data) {
		if line[0] == '-' || line[0] == ':' { // rules and chains, as nearly all are
			continue
		}
		line = bytes.TrimSpace(line)
		if name, ok := bytes.CutPrefix(line, []byte("*")); ok {
			table = ownedTable{dump.Family, string(name)}
			c.owned[table] = nil
		}
		if name, ok := bytes.CutPrefix(line, []byte("# Chain `")); ok {
			if name, ok = bytes.CutSuffix(name, []byte("' is incompatible, use 'nft' tool.")); ok {
				c.unread[unreadChain{table, string(name)}] = true
			}
		}
	}
	return nil
}

// unreadChain is a chain of which iptables-nft shows no rules.
type unreadChain struct {
	ownedTable
	chain string
}

// shadow returns a chain of iptables-nft as nftables shows it; nil if it does not.
func (c *compiler) shadow(ch *chain) *shadow {
	f := netstack.IPv4
	if ch.family == familyName(netstack.IPv6) {
		f = netstack.IPv6
	}
	if t := c.owned[ownedTable{f, ch.table}]; t != nil {
		return t.shadows[ch.name]
	}
	return nil
}

// shadowOf returns the chain of a rule; nil if iptables-nft-save does not show it.
func (p *nftParser) shadowOf(n *jsonNode) *shadow {
	if t := p.tables[[2]string{n.str("family"), n.str("table")}]; t != nil && t.shadows != nil {
		return t.shadows[n.str("chain")]
	}
	return nil
}

// showable says whether iptables-nft-save shows a chain of its tables: base chains only where
// iptables has them itself (nft_is_chain_compatible).
func showable(t *nftTable, n *jsonNode) bool {
	name := n.str("hook")
	if name == "" {
		return true
	}
	kind, chain := iptablesTables[t.name], n.str("name")
	hook, builtin := kind.builtin(chain)
	if !builtin || hook != nftHooks[name] {
		return false
	}
	typ, priority := "filter", kind.at(netstack.BackendNFT)
	switch {
	case kind.nat:
		typ, priority = "nat", priorityNATDst
		if manipOf(hook) == manipSrc {
			priority = priorityNATSrc
		}
	case t.name == "mangle" && hook == Output:
		typ = "route"
	}
	prio, ok := n.number("prio")
	return ok && int(prio) == priority && n.str("type") == typ
}

// ordinary says whether a rule is one that iptables-nft-save shows as what it is: with conditions as iptables-nft
// makes them, each field once.
func ordinary(expr *jsonNode) bool {
	if expr == nil {
		return false
	}
	var seen shownFields
	for i := range expr.list {
		kind, arg, ok := expr.list[i].only()
		if !ok {
			return false
		}
		switch kind {
		case "counter", "limit", "log", "xt", "comment":
			if arg.kind == jsonString { // a named one
				return false
			}
		case "accept", "drop", "return", "jump", "goto":
		case "match":
			if !seen.add(arg) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// shownFields are the fields that the conditions of a rule look at.
type shownFields struct {
	list [12]string
	n    int
	// protocol is that which l4proto has to be, and transport that of ports and flags.
	protocol, transport string
}

// add notes the field of a condition. It says false for one that iptables-nft does not make, or not beside the others.
func (f *shownFields) add(match *jsonNode) bool {
	left, right, op := match.get("left"), match.get("right"), match.str("op")
	if left == nil || right == nil || f.n == len(f.list) {
		return false
	}
	equals := op == "==" || op == "!="
	mask := ""
	if kind, list, ok := left.only(); ok && kind == "&" && len(list.list) == 2 {
		left, mask = &list.list[0], cmp.Or(list.list[1].text, "some")
	}
	var field string
	kind, arg, _ := left.only()
	switch kind {
	case "meta":
		field = arg.str("key")
		switch field {
		case "iifname", "oifname", "l4proto":
			if !equals || mask != "" || !isOne(right) {
				return false
			}
		case "mark":
			if !equals || !isOne(right) {
				return false
			}
		default:
			return false
		}
	case "payload":
		var protocol string
		protocol, field = arg.str("protocol"), arg.str("field")
		switch protocol + " " + field {
		case "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
			if kind, _, ok := right.only(); !equals || !isOne(right) && (!ok || kind != "prefix" || mask != "") {
				return false
			}
		case "ip protocol":
			if !equals || mask != "" || !isOne(right) {
				return false
			}
			field = "l4proto"
		case "ip frag-off":
			if !equals || mask != "8191" || right.text != "0" { // -f
				return false
			}
		case "tcp sport", "tcp dport", "udp sport", "udp dport":
			kind, _, ok := right.only()
			compares := nftOps[op] >= opLess && nftOps[op] <= opGreaterEqual
			if mask != "" || !((equals || compares) && isOne(right) || equals && ok && kind == "range") {
				return false
			}
		case "tcp flags":
			if !equals || mask == "" || !isOne(right) && right.kind != jsonArray {
				return false
			}
		default:
			return false
		}
		if protocol == "tcp" || protocol == "udp" {
			if f.transport != "" && f.transport != protocol {
				return false
			}
			f.transport = protocol
		}
	default:
		return false
	}
	if field == "l4proto" {
		if f.protocol = "another"; op == "==" {
			f.protocol = right.text
		}
	}
	if f.transport != "" && f.protocol != "" && f.protocol != f.transport || slices.Contains(f.list[:f.n], field) {
		return false
	}
	f.list[f.n] = field
	f.n++
	return true
}

// isOne says whether the right side of a match is one value.
func isOne(right *jsonNode) bool {
	return right.kind == jsonNumber || right.kind == jsonString && !strings.HasPrefix(right.text, "@")
}

// correct makes what iptables-nft-save shows of a rule into what it is. A rule without matches and targets of iptables is
// wholly in nftables; of others the text is right, but it may lack conditions. Where there is no text, they are asked about.
func (p *nftParser) correct(t *nftTable, at nftRuleAt, shown *body) (right body, unmodelled bool, err error) {
	err = p.withRule(at, func(n *jsonNode, text string, _ uint32) error {
		p.table = t
		expr := n.get("expr")
		if expr == nil || expr.kind != jsonArray {
			return p.errorf(n, "rule has no list of expressions")
		}
		xt := shown != nil && slices.ContainsFunc(expr.list, func(n jsonNode) bool { kind, _, _ := n.only(); return kind == "xt" })
		b := &nftRuleBuilder{p: p, table: t}
		for i := range expr.list {
			if kind, _, _ := expr.list[i].only(); xt && kind != "match" {
				continue
			}
			if err := b.statement(&expr.list[i]); err != nil {
				return err
			}
		}
		unmodelled = b.unmodelled
		if !xt {
			right = body{json: text, steps: b.done()}
			return nil
		}
		right = *shown
		if right.steps = slices.Clone(shown.steps); len(right.steps) > 0 {
			right.steps[0].matches = slices.Concat(b.matches, right.steps[0].matches)
		}
		return nil
	})
	return right, unmodelled, err
}

// readNative makes the rules of a chain of which the text shows none.
func (p *iptablesParser) readNative(d *draft) error {
	d.local = true
	if d.shadow == nil {
		d.rules = unlikeNFT
		return nil
	}
	d.rules, d.policy = nil, d.shadow.policy
	for number := 1; number <= d.shadow.rules; number++ {
		b, unmodelled, err := p.c.nft.correct(p.native, d.shadow.odd[number], nil)
		if err != nil {
			return err
		}
		d.rules = append(d.rules, rule{p.slabs.bodies.one(b), number})
		p.c.rs.rules++
		if unmodelled {
			p.c.rs.unmodelled++
		}
	}
	return nil
}
