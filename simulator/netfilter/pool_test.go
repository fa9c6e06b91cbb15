package netfilter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// compileIn compiles a dump with what a pool has.
func compileIn(t testing.TB, pool *Pool, ns *netstack.Namespace) *Ruleset {
	t.Helper()
	rs, err := Recompile(ns, nil, pool)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// eachChain visits all chains of a rule set that a packet can reach, each once.
func eachChain(rs *Ruleset, visit func(*chain)) {
	seen := make(map[*chain]bool)
	var reach func(c *chain)
	reach = func(c *chain) {
		if c == nil || seen[c] {
			return
		}
		seen[c] = true
		visit(c)
		targets := c.appendTargets(nil) // those of maps are in any order
		slices.SortStableFunc(targets, func(a, b *chain) int { return cmp.Compare(a.name, b.name) })
		for _, target := range targets {
			reach(target)
		}
	}
	for family := range rs.pipelines {
		for _, p := range rs.pipelines[family] {
			for _, op := range p.ops {
				reach(op.chain)
			}
			for _, c := range p.nat {
				reach(c)
			}
		}
	}
}

// describe writes down all of a rule set but who shares it.
func describe(rs *Ruleset) string {
	var all []string
	numbers := make(map[*chain]int)
	eachChain(rs, func(c *chain) { numbers[c] = len(numbers) })
	eachChain(rs, func(c *chain) {
		var b strings.Builder
		fmt.Fprintf(&b, "%d %s %s %s/%s base %t %d %s %d %d\n", numbers[c], c.family, c.backend, c.table, c.name, c.base, c.policy, c.stage, c.priority, c.age)
		for i := range c.rules {
			r := &c.rules[i]
			fmt.Fprintf(&b, "  %d %s", r.number, located{rs, c, r})
			for _, s := range r.steps {
				for _, m := range s.matches {
					fmt.Fprintf(&b, " %T", m)
					if r.json == "" { // others hold functions
						fmt.Fprintf(&b, " %v", m)
					}
				}
				fmt.Fprintf(&b, " %T", s.action)
				if m, ok := s.action.(*vmapAction); ok {
					b.WriteString(describeMap(m.set, numbers))
				} else if t, ok := s.action.(chainTargets); ok {
					for _, target := range t.appendTargets(nil) {
						fmt.Fprintf(&b, " to %d %s", numbers[target], target.name)
					}
				} else if r.json == "" {
					fmt.Fprintf(&b, " %+v", s.action)
				}
			}
			b.WriteByte('\n')
		}
		if c.index != nil {
			fmt.Fprintf(&b, "  %v %v %d %v\n", c.index.dims, c.index.first, c.index.rest, c.index.next)
		}
		all = append(all, b.String())
	})
	return fmt.Sprintf("%+v\n%s", rs.effects, strings.Join(all, ""))
}

// describeMap writes down where a map leads.
func describeMap(s *nftSet, numbers map[*chain]int) string {
	var all []string
	add := func(key string, index int) {
		d := s.data[index]
		all = append(all, fmt.Sprintf("\n    %s: %s %t", key, d.verdict, d.stateful))
		if d.verdict.chain != nil {
			all[len(all)-1] += fmt.Sprintf(" to %d", numbers[d.verdict.chain])
		}
	}
	for key, i := range s.exact {
		add(fmt.Sprint(key), i)
	}
	for _, r := range s.ranges {
		add(fmt.Sprint(r.first, r.last, r.reach), r.index)
	}
	if s.catchAll >= 0 {
		add("*", s.catchAll)
	}
	return strings.Join(slices.Sorted(slices.Values(all)), "")
}

// TestWhatRuleSetsShareIsWhatEachWouldHave changes the rules of one node at random into those
// of many others, and compiles each with what the others have, and alone.
func TestWhatRuleSetsShareIsWhatEachWouldHave(t *testing.T) {
	spec := proxyrules.Spec{Services: 90, Endpoints: 3, NodePortEvery: 7, Idle: 2}
	lines := strings.SplitAfter(strings.TrimSuffix(string(spec.IPTables()), "\n"), "\n")
	rnd := rand.New(rand.NewPCG(1, 2))
	pool := NewPool()
	var kept []*Ruleset
	refused := 0
	for range 150 {
		node := slices.Clone(lines)
		for range rnd.IntN(6) {
			// Mostly rules of one table change places, go, come twice, or lead elsewhere.
			i, j := rnd.IntN(len(node)), rnd.IntN(len(node))
			switch rnd.IntN(7) {
			case 0:
				if strings.HasPrefix(node[i], "-A") && strings.HasPrefix(node[j], "-A") {
					node[i], node[j] = node[j], node[i]
				}
			case 1:
				if strings.HasPrefix(node[i], "-A") {
					node = slices.Delete(node, i, i+1)
				}
			case 2:
				if strings.HasPrefix(node[i], "-A") {
					node = slices.Insert(node, i, node[i])
				}
			case 3:
				from, to := strings.LastIndex(node[i], " -j "), strings.LastIndex(node[j], " -j ")
				if from >= 0 && to >= 0 {
					node[i] = node[i][:from] + node[j][to:]
				}
			case 4:
				node[i] = strings.Replace(node[i], "[0:0]", fmt.Sprintf("[%d:%d]", i, j), 1)
			case 5:
				node[i] = strings.Replace(node[i], " -j KUBE-S", " -j KUBE-X", 1)
			case 6:
				node[i] = strings.Replace(node[i], "--to-destination 10.", "--to-destination 11.", 1)
			}
		}
		if rs := compileBoth(t, pool, dump(netstack.IPv4, netstack.BackendNFT, strings.Join(node, ""))); rs != nil {
			kept = append(kept, rs)
		} else {
			refused++
		}
	}
	checkSharing(t, kept, refused)
}

// compileBoth compiles rules alone and with what a pool has, and compares. It returns nil for
// those that are refused.
func compileBoth(t *testing.T, pool *Pool, ns *netstack.Namespace) *Ruleset {
	t.Helper()
	alone, err := Compile(ns)
	shared, sharedErr := Recompile(ns, nil, pool)
	if err != nil || sharedErr != nil {
		if !reflect.DeepEqual(err, sharedErr) {
			t.Fatalf("alone: %v; with others: %v", err, sharedErr)
		}
		return nil
	}
	got, want := strings.Split(describe(shared), "\n"), strings.Split(describe(alone), "\n")
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d:\n%s\nalone:\n%s", i, got[i], want[min(i, len(want)-1)])
		}
	}
	return shared
}

// checkSharing makes sure that most rule sets can be compiled, and have most chains in common.
func checkSharing(t *testing.T, kept []*Ruleset, refused int) {
	t.Helper()
	if len(kept) < 75 || refused < 5 {
		t.Errorf("%d rule sets, and %d that are refused: too few", len(kept), refused)
	}
	chains := make(map[*chain]bool)
	total := 0
	for _, rs := range kept {
		eachChain(rs, func(c *chain) { chains[c] = true; total++ })
	}
	if len(chains) > total/10 {
		t.Errorf("%d chains are %d different ones", total, len(chains))
	}
}

// TestWhatRuleSetsOfNftShareIsWhatEachWouldHave is the same for nftables, where each node has handles
// of its own.
func TestWhatRuleSetsOfNftShareIsWhatEachWouldHave(t *testing.T) {
	spec := proxyrules.Spec{Services: 60, Endpoints: 3, NodePortEvery: 7, Idle: 2, Nodes: []netip.Addr{addr("192.168.1.1")}}
	var ruleset struct {
		Objects []json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(spec.NFTablesJSON(), &ruleset); err != nil {
		t.Fatal(err)
	}
	const rulePrefix, handle = `{"rule":`, `"handle":0`
	target := regexp.MustCompile(`"target":"[^"]*"`)
	rnd := rand.New(rand.NewPCG(3, 4))
	pool := NewPool()
	var kept []*Ruleset
	refused := 0
	for n := range 120 {
		var objects []string
		for i, o := range ruleset.Objects {
			objects = append(objects, strings.Replace(changeElements(t, rnd, o), handle, fmt.Sprintf(`"handle":%d`, 10*n+i+1), 1))
		}
		for range rnd.IntN(6) {
			i, j := rnd.IntN(len(objects)), rnd.IntN(len(objects))
			if !strings.HasPrefix(objects[i], rulePrefix) || !strings.HasPrefix(objects[j], rulePrefix) {
				continue
			}
			switch rnd.IntN(6) {
			case 0:
				objects[i], objects[j] = objects[j], objects[i]
			case 1:
				objects = slices.Delete(objects, i, i+1)
			case 2:
				objects = slices.Insert(objects, i, objects[i])
			case 3:
				if to := target.FindString(objects[j]); to != "" {
					objects[i] = target.ReplaceAllString(objects[i], to)
				}
			case 4:
				objects[i] = strings.Replace(objects[i], `"target":"`, `"target":"no-`, 1)
			case 5:
				objects[i] = strings.Replace(objects[i], `"addr":"10.`, `"addr":"11.`, 1)
			}
		}
		data := `{"nftables":[` + strings.Join(objects, ",\n") + `]}`
		if rs := compileBoth(t, pool, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(data)}}); rs != nil {
			kept = append(kept, rs)
		} else {
			refused++
		}
	}
	checkSharing(t, kept, refused)
	whole, keys := make(map[*nftElements]bool), make(map[uintptr]bool)
	for _, rs := range kept {
		e := mapOf(rs, "services").nftElements
		whole[e], keys[reflect.ValueOf(e.exact).Pointer()] = true, true
	}
	if len(keys) > len(kept)/4 || len(whole) > len(kept)*2/3 {
		t.Errorf("%d nodes have %d different maps, of %d different keys", len(kept), len(whole), len(keys))
	}
}

// changeElements lists the elements of a set or map in another order, and seldom changes one or leaves it out.
func changeElements(t *testing.T, rnd *rand.Rand, object json.RawMessage) string {
	if !bytes.Contains(object, []byte(`"elem":[[`)) {
		return string(object)
	}
	var of map[string]map[string]any
	if err := json.Unmarshal(object, &of); err != nil {
		t.Fatal(err)
	}
	elements := of["map"]["elem"].([]any)
	rnd.Shuffle(len(elements), func(i, j int) { elements[i], elements[j] = elements[j], elements[i] })
	switch rnd.IntN(20) {
	case 0:
		of["map"]["elem"] = elements[1:]
	case 1, 2, 3, 4:
		elements[0].([]any)[1] = map[string]any{"drop": nil}
	}
	changed, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// mapOf returns the first map by which a chain leads to others.
func mapOf(rs *Ruleset, name string) (set *nftSet) {
	eachChain(rs, func(c *chain) {
		for _, r := range c.rules {
			for _, s := range r.steps {
				if m, ok := s.action.(*vmapAction); ok && c.name == name && set == nil {
					set = m.set
				}
			}
		}
	})
	return set
}

// TestEachNodeHasItsOwnHandles names the rule of each node with the handle that it has there.
func TestEachNodeHasItsOwnHandles(t *testing.T) {
	pool := NewPool()
	var texts Texts
	var chains []*chain
	for _, handle := range []int{7, 8, 4294967296, 7} {
		rs := compileIn(t, pool, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: fmt.Appendf(nil, `{"nftables": [{"table": {"family": "inet", "name": "t", "handle": 1}},
{"chain": {"family": "inet", "table": "t", "name": "deep", "handle": %[1]d1}},
{"chain": {"family": "inet", "table": "t", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "inet", "table": "t", "chain": "f", "handle": 3, "expr": [{"jump": {"target": "deep"}}]}},
{"rule": {"family": "inet", "table": "t", "chain": "deep", "handle": 9, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 81}}, {"drop": null}]}},
{"rule": {"family": "inet", "table": "t", "chain": "deep", "handle": %[1]d, "expr": [{"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]}}]}`, handle)}})
		st := State{Packet: packet(), In: "veth0", Out: "eth0", Conntrack: NewConntrack(), Texts: &texts}
		res := rs.Run(netstack.IPv4, Forward, &st, &fakeEnv{})
		if got, want := res.Rule.String(), fmt.Sprintf("t/deep rule 2: counter drop # handle %d", handle); res.Action != Drop || got != want {
			t.Errorf("%q, want %q", got, want)
		}
		eachChain(rs, func(c *chain) {
			if c.name == "deep" {
				chains = append(chains, c)
			}
		})
	}
	if chains[0] != chains[1] || chains[0] != chains[3] {
		t.Error("handles keep nodes from sharing a chain")
	}
}

// TestRulesOfLongChainsAreShared has two nodes whose KUBE-SERVICES is in different orders.
func TestRulesOfLongChainsAreShared(t *testing.T) {
	spec := proxyrules.Spec{Services: 200, Endpoints: 2}
	pool := NewPool()
	bodies := func(rs *Ruleset) map[*body]int {
		all := make(map[*body]int)
		eachChain(rs, func(c *chain) {
			if c.name == "KUBE-SERVICES" && c.table == "nat" {
				for i := range c.rules {
					all[c.rules[i].body] = c.rules[i].number
				}
			}
		})
		return all
	}
	a := bodies(compileIn(t, pool, dump(netstack.IPv4, netstack.BackendNFT, string(spec.IPTables()))))
	spec.Order = 1
	b := bodies(compileIn(t, pool, dump(netstack.IPv4, netstack.BackendNFT, string(spec.IPTables()))))
	if len(a) != 201 || maps.Equal(a, b) {
		t.Fatalf("%d rules, in the same order", len(a))
	}
	for body := range a {
		if b[body] == 0 {
			t.Fatalf("not shared: %s", body.text)
		}
	}
}

// TestANodeThatDiffersHasItsOwnVerdict asks nodes that share nearly all of their rules.
func TestANodeThatDiffersHasItsOwnVerdict(t *testing.T) {
	const text = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [7:420]
:OUTPUT ACCEPT [0:0]
:ONE - [0:0]
:TWO - [0:0]
:THREE - [0:0]
-A FORWARD -j ONE
-A ONE -j TWO
-A TWO -s 10.9.9.9/32 -j DROP
-A TWO -j THREE
-A THREE -p tcp -m tcp --dport 81 -j DROP
COMMIT
`
	set := func(addr string) string { return "create s hash:ip family inet\nadd s " + addr + "\n" }
	// Rules with counters are read one by one.
	long := strings.Repeat("[0:0] -A THREE -s 10.7.7.7/32 -j DROP\n", 70) + "[0:0] -A THREE -m set --match-set s dst -j DROP\n"
	pool := NewPool()
	all := map[string]*Ruleset{}
	for _, c := range []struct{ name, old, new, sets, want string }{
		{"as most", "", "", "", ""},
		{"other counters", "[7:420]", "[8:480]", "", ""},
		{"as most again", "", "", "", ""},
		{"one rule deep down", "--dport 81", "--dport 80", "", "filter/THREE rule 1: -A THREE -p tcp -m tcp --dport 80 -j DROP"},
		{"the same rule leads to a chain that is another", "-A THREE -p tcp -m tcp --dport 81 -j DROP", "-A THREE -j DROP", "", "filter/THREE rule 1: -A THREE -j DROP"},
		{"one rule more before it", "-A THREE -p", "-A THREE -j LOG\n-A THREE -j DROP\n-A THREE -p", "", "filter/THREE rule 2: -A THREE -j DROP"},
		{"a rule in another place", "COMMIT", "-A TWO -j DROP\nCOMMIT", "", "filter/TWO rule 3: -A TWO -j DROP"},
		{"a rule with its counters", "COMMIT", "[3:180] -A TWO -j DROP\nCOMMIT", "", "filter/TWO rule 3: -A TWO -j DROP"},
		{"the policy", ":FORWARD ACCEPT", ":FORWARD DROP", "", "filter/FORWARD policy: DROP"},
		{"a target", "-A THREE -p", "-A THREE -j LOG\n-A THREE -p", "", ""},
		{"a chain with the name of a target", ":THREE - [0:0]\n", ":THREE - [0:0]\n:LOG - [0:0]\n-A LOG -j DROP\n-A THREE -j LOG\n", "", "filter/LOG rule 1: -A LOG -j DROP"},
		{"a set without the address", "-A THREE -p", "-A THREE -m set --match-set s dst -j DROP\n-A THREE -p", set("10.0.1.3"), ""},
		{"a set with the address", "-A THREE -p", "-A THREE -m set --match-set s dst -j DROP\n-A THREE -p", set("10.0.1.2"), "filter/THREE rule 1: -A THREE -m set --match-set s dst -j DROP"},
		{"a long chain, and a set without the address", "-A THREE -p", long + "-A THREE -p", set("10.0.1.3"), ""},
		{"a long chain, and a set with the address", "-A THREE -p", long + "-A THREE -p", set("10.0.1.2"), "filter/THREE rule 71: -A THREE -m set --match-set s dst -j DROP"},
		{"as most at last", "", "", "", ""},
	} {
		ns := dump(netstack.IPv4, netstack.BackendLegacy, strings.Replace(text, c.old, c.new, 1))
		ns.IPSet = netstack.Text{File: "ipset-save.txt", Data: []byte(c.sets)}
		rs := compileIn(t, pool, ns)
		all[c.name] = rs
		st := State{Packet: packet(), In: "veth0", Out: "eth0", Conntrack: NewConntrack()}
		got := ""
		if res := rs.Run(netstack.IPv4, Forward, &st, &fakeEnv{}); res.Action != Accept {
			got = res.Rule.String()
		}
		if got != c.want {
			t.Errorf("%s: dropped by %q, want %q", c.name, got, c.want)
		}
	}
	chains := func(name string) map[string]*chain {
		m := make(map[string]*chain)
		eachChain(all[name], func(c *chain) { m[c.name] = c })
		return m
	}
	first, counted, other := chains("as most"), chains("other counters"), chains("one rule deep down")
	for _, name := range []string{"ONE", "TWO", "THREE"} {
		if first[name] != counted[name] || first[name] != chains("as most at last")[name] {
			t.Errorf("%s is not shared", name)
		}
		if first[name] == other[name] {
			t.Errorf("%s is shared, and leads elsewhere", name)
		}
	}
}

// TestAPoolKeepsNothing lets go of rule sets.
func TestAPoolKeepsNothing(t *testing.T) {
	spec := proxyrules.Spec{Services: 100, Endpoints: 2}
	pool := NewPool()
	func() {
		rs := compileIn(t, pool, dump(netstack.IPv4, netstack.BackendNFT, string(spec.IPTables())))
		nft := compileIn(t, pool, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: spec.NFTablesJSON()}})
		runtime.GC()
		pool.swept = 0
		if pool.sweep(); len(pool.chains) < 600 || len(pool.bodies) < 100 || len(pool.elements) < 2 {
			t.Errorf("%d chains, %d rules and %d sets of two that are used are known", len(pool.chains), len(pool.bodies), len(pool.elements))
		}
		runtime.KeepAlive(rs)
		runtime.KeepAlive(nft)
	}()
	runtime.GC()
	pool.swept = 0
	if pool.sweep(); pool.len() > 0 {
		t.Errorf("%d chains, %d rules and %d sets of none are known", len(pool.chains)+len(pool.long), len(pool.bodies), len(pool.elements))
	}
}

type torn struct{}

func (torn) Unpack() ([]byte, error) { return nil, errors.New("torn") }

// TestTextsThatCannotBeUnpackedAreErrors has no rules taken for none.
func TestTextsThatCannotBeUnpackedAreErrors(t *testing.T) {
	for i := range 4 {
		ns := dump(netstack.IPv4, netstack.BackendNFT, "")
		text := ns.Packable()[i]
		if text.Packed = torn(struct{}{}); text == &ns.Conntrack {
			continue // which package simulator reads
		}
		if _, err := Compile(ns); err == nil || !strings.Contains(err.Error(), "torn") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestKnownRulesAreNotReadAgain compiles the rules of a second node, whose order and handles are others,
// and looks at what it allocates: what is read is decoded into memory of its own.
func TestKnownRulesAreNotReadAgain(t *testing.T) {
	spec := proxyrules.Spec{Services: 300, Endpoints: 5}
	pool := NewPool()
	var kept []*Ruleset
	node := func() uint64 {
		spec.Order++
		ns := &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: proxyrules.Numbered(spec.NFTablesJSON(), 10*int(spec.Order))}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		kept = append(kept, compileIn(t, pool, ns))
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc - uint64(len(ns.NFT.Data)) // a copy of the text
	}
	first, second := node(), node()
	if second > first/3 {
		t.Errorf("the second node allocates %d kB, the first %d kB", second>>10, first>>10)
	}
	if a, b := describe(kept[1]), describe(compileIn(t, NewPool(), kept[1].ns)); a != b {
		t.Error("known rules are others than those that are read")
	}
}

// TestARuleSetDoesNotKeepItsDump has all that a rule set keeps of a dump in one that is much larger.
func TestARuleSetDoesNotKeepItsDump(t *testing.T) {
	const padding = 4 << 20
	data := `{"nftables": [{"table": {"family": "ip", "name": "t", "handle": 1}}, {"table": {"family": "netdev", "name": "d", "handle": 2}},` +
		strings.Repeat(" ", padding) + `
{"set": {"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr", "handle": 1, "elem": ["10.0.0.1", {"elem": {"val": "10.0.0.2", "comment": "no"}}]}},
{"map": {"family": "ip", "name": "verdicts", "table": "t", "type": "ipv4_addr", "handle": 2, "map": "verdict", "elem": [["10.0.0.1", {"drop": null}], ["10.0.0.2", {"accept": null}],
["10.0.0.3", {"return": null}], ["10.0.0.4", {"continue": null}], ["10.0.0.5", {"goto": {"target": "deep"}}]]}},
{"map": {"family": "ip", "name": "values", "table": "t", "type": "ipv4_addr", "handle": 2, "map": "ipv4_addr", "elem": [["10.0.0.1", "10.9.0.1"], ["10.0.0.2", "10.9.0.2"]]}},
{"chain": {"family": "netdev", "table": "d", "name": "in", "handle": 1, "dev": "eth0", "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept"}},
{"chain": {"family": "ip", "table": "t", "name": "deep", "handle": 3}},
{"chain": {"family": "ip", "table": "t", "name": "pre", "handle": 4, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
{"rule": {"family": "ip", "table": "t", "chain": "pre", "handle": 6, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@s"}}, {"vmap": {"key": {"payload": {"protocol": "ip", "field": "daddr"}}, "data": "@verdicts"}}]}},
{"rule": {"family": "ip", "table": "t", "chain": "pre", "handle": 7, "expr": [{"dnat": {"addr": {"map": {"key": {"payload": {"protocol": "ip", "field": "daddr"}}, "data": "@values"}}}}]}}]}`
	for _, pool := range []*Pool{nil, NewPool()} {
		before := heapsize.Live()
		rs := compileIn(t, pool, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(data)}})
		rs.ns = nil // which may have it packed
		if kept := heapsize.Live() - before; kept > padding/4 {
			t.Errorf("%d bytes are kept, and a dump has %d", kept, len(data))
		}
		if rules, unmodelled := rs.Coverage(); rules != 2 || unmodelled != 0 || len(rs.linkLayer.device[0]) != 1 {
			t.Errorf("%d rules, %d of them not modelled, and %d chains of devices", rules, unmodelled, len(rs.linkLayer.device[0]))
		}
		for _, test := range []struct{ dst, want string }{{"10.0.0.1", "10.9.0.1"}, {"10.0.0.9", "10.0.0.9"}} {
			st := State{Packet: packet(func(p *netstack.Packet) { p.Src, p.Dst = addr("10.8.8.8"), addr(test.dst) }), In: "veth0", Conntrack: NewConntrack()}
			if res := rs.Run(netstack.IPv4, Prerouting, &st, &fakeEnv{}); res.Action != Accept || st.Packet.Dst != addr(test.want) {
				t.Errorf("%v to %s, want %s", res.Action, st.Packet.Dst, test.want)
			}
		}
		runtime.KeepAlive(data)
	}
}

// TestHandlesAreThoseThatWerePacked asks for those of rules that a rule set has, and of others.
func TestHandlesAreThoseThatWerePacked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	want := make(map[uint64]uint32)
	for rule := uint64(1); rule < 1<<40; rule += 1 + rnd.Uint64N(1<<rnd.Uint64N(30)) {
		want[rule] = uint32(rnd.Uint64N(1<<rnd.Uint64N(33))) | 1
	}
	var list []ruleHandle
	for rule, handle := range want {
		list = append(list, ruleHandle{rule, handle})
	}
	h := packHandles(list)
	for rule := range want {
		c := &chain{first: max(rule, 200) - 199}
		for n := 1; n < 260; n++ {
			if got := h.of(c, n); got != want[c.first+uint64(n)-1] {
				t.Fatalf("rule %d has handle %d, not %d", c.first+uint64(n)-1, got, want[c.first+uint64(n)-1])
			}
		}
	}
	if got := h.of(&chain{}, 1); got != 0 {
		t.Errorf("a chain of iptables has rules with the handle %d", got)
	}
	list = list[:0]
	for i := range 64_000 {
		list = append(list, ruleHandle{uint64(i + 1), uint32(1000 + i)})
	}
	if h := packHandles(list); len(h.packed)+24*len(h.pages) > 2*len(list) {
		t.Errorf("%d handles that follow each other take %d bytes and %d pages", len(list), len(h.packed), len(h.pages))
	}
}
