package netfilter

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

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
		for _, target := range c.appendTargets(nil) {
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
			fmt.Fprintf(&b, "  %d %s", r.number, r)
			for _, s := range r.steps {
				for _, m := range s.matches {
					fmt.Fprintf(&b, " %T %v", m, m)
				}
				fmt.Fprintf(&b, " %T", s.action)
				if t, ok := s.action.(chainTargets); ok {
					for _, target := range t.appendTargets(nil) {
						fmt.Fprintf(&b, " to %d %s", numbers[target], target.name)
					}
				} else {
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
		ns := dump(netstack.IPv4, netstack.BackendNFT, strings.Join(node, ""))
		alone, err := Compile(ns)
		shared, sharedErr := Recompile(ns, nil, pool)
		if err != nil || sharedErr != nil {
			if refused++; !reflect.DeepEqual(err, sharedErr) {
				t.Fatalf("alone: %v; with others: %v", err, sharedErr)
			}
			continue
		}
		if got, want := describe(shared), describe(alone); got != want {
			gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
			for i := range gotLines {
				if i >= len(wantLines) || gotLines[i] != wantLines[i] {
					t.Fatalf("line %d:\n%s\nalone:\n%s", i, gotLines[i], wantLines[min(i, len(wantLines)-1)])
				}
			}
		}
		kept = append(kept, shared)
	}
	if len(kept) < 75 || refused < 5 {
		t.Errorf("%d rule sets, and %d that are refused: too few", len(kept), refused)
	}
	// They have most chains in common.
	chains := make(map[*chain]bool)
	total := 0
	for _, rs := range kept {
		eachChain(rs, func(c *chain) { chains[c] = true; total++ })
	}
	if len(chains) > total/10 {
		t.Errorf("%d chains are %d different ones", total, len(chains))
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
			t.Fatalf("not shared: %s", body)
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
		runtime.GC()
		pool.swept = 0
		if pool.sweep(); len(pool.chains) < 300 || len(pool.bodies) < 100 {
			t.Errorf("%d chains and %d rules of one that is used are known", len(pool.chains), len(pool.bodies))
		}
		runtime.KeepAlive(rs)
	}()
	runtime.GC()
	pool.swept = 0
	if pool.sweep(); pool.len() > 0 {
		t.Errorf("%d chains and %d rules of none are known", len(pool.chains)+len(pool.long), len(pool.bodies))
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
