package netfilter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// withoutIndexes makes the rules be met one by one.
func withoutIndexes(rs *Ruleset) *Ruleset {
	seen := make(map[*chain]bool)
	var visit func(c *chain)
	visit = func(c *chain) {
		if seen[c] {
			return
		}
		seen[c] = true
		c.index = nil
		for i := range c.rules {
			for _, s := range c.rules[i].steps {
				if t, ok := s.action.(chainTargets); ok {
					for _, target := range t.appendTargets(nil) {
						visit(target)
					}
				}
			}
		}
	}
	for i := range rs.pipelines {
		for _, p := range rs.pipelines[i] {
			for _, op := range p.ops {
				if op.chain != nil {
					visit(op.chain)
				}
			}
			for _, c := range p.nat {
				visit(c)
			}
		}
	}
	return rs
}

// indexed counts the chains that have an index.
func indexed(rs *Ruleset) (count int) {
	for i := range rs.pipelines {
		for _, p := range rs.pipelines[i] {
			for _, op := range p.ops {
				if op.chain != nil && op.chain.index != nil {
					count++
				}
			}
		}
	}
	return count
}

// diceEnv answers what cannot be known, and rolls dice, by a fixed sequence; and
// notes each question.
type diceEnv struct {
	fakeEnv
	random *rand.Rand
	log    []string
}

func (e *diceEnv) Pick(rule Rule, weights []float64) int {
	e.log = append(e.log, fmt.Sprintf("pick %s %v", rule, weights))
	return e.random.IntN(len(weights))
}

func (e *diceEnv) Unknown(rule Rule, what string) bool {
	e.log = append(e.log, fmt.Sprintf("unknown %s %s", rule, what))
	return e.random.IntN(2) == 0
}

// randomRules writes chains of rules that overlap, contradict each other, change
// marks on the way, and enter and leave other chains.
type randomRules struct{ *rand.Rand }

func (r randomRules) of(options ...string) string { return options[r.IntN(len(options))] }

func (r randomRules) addr() string {
	return fmt.Sprintf("10.0.%d.%d", r.IntN(2), r.IntN(8))
}

func (r randomRules) matches() string {
	var parts []string
	not := func() string { return r.of("", "", "", "! ") }
	if r.IntN(2) == 0 {
		parts = append(parts, not()+"-d "+r.addr()+r.of("", "", "", "", "/24", "/30", "/255.0.0.3"))
	}
	if r.IntN(3) == 0 {
		parts = append(parts, not()+"-s "+r.addr()+r.of("", "/29"))
	}
	if r.IntN(4) == 0 {
		parts = append(parts, not()+"-i "+r.of("eth0", "eth1", "eth+", "veth3", "+"))
	}
	ports := false
	if r.IntN(2) == 0 {
		proto := r.of("tcp", "udp", "icmp", "tcp")
		invert := not()
		parts = append(parts, invert+"-p "+proto)
		ports = invert == "" && proto != "icmp"
		if ports && r.IntN(2) == 0 {
			parts = append(parts, "-m "+proto+" "+not()+r.of("--dport ", "--dport ", "--sport ")+r.of("80", "81", "82", "83", "80:82"))
		}
	}
	if r.IntN(3) == 0 {
		parts = append(parts, "-m mark "+not()+"--mark "+r.of("0", "0x1", "0x2", "0x3", "0x11", "0x12", "0x1/0x1", "0x10/0x30"))
	}
	switch r.IntN(12) {
	case 0:
		parts = append(parts, "-m limit --limit 1/s")
	case 1:
		parts = append(parts, "-m statistic --mode random --probability 0.25")
	case 2:
		parts = append(parts, "-m martians --who knows")
	case 3:
		if ports {
			parts = append(parts, "-m multiport --dports 80,82")
		}
	case 4:
		parts = append(parts, "-m conntrack --ctstate "+r.of("NEW", "ESTABLISHED", "NEW,INVALID"))
	}
	return strings.Join(parts, " ")
}

// dump has chains C0 to C4, each of which may enter those of a higher number.
func (r randomRules) dump() string {
	var b strings.Builder
	b.WriteString("*mangle\n:PREROUTING ACCEPT [0:0]\n")
	const chains = 5
	for c := range chains {
		fmt.Fprintf(&b, ":C%d - [0:0]\n", c)
	}
	rule := func(name string, below int) {
		target := r.of("ACCEPT", "DROP", "RETURN", "MARK --set-xmark 0x1/0x3", "MARK --set-xmark 0x2/0x3", "MARK --set-xmark 0x10/0xff",
			"MARK --set-mark 0x12", "MARK --or-mark 0x3", "MARK --set-mark 0",
			"TTL --ttl-set 9", "LOG", "CONNMARK --save-mark", "CONNMARK --restore-mark", "WHATISTHIS --so")
		action := "-j " + target
		if below < chains && r.IntN(3) == 0 {
			action = r.of("-j", "-j", "-g") + fmt.Sprintf(" C%d", below+r.IntN(chains-below))
		}
		if r.IntN(25) == 0 {
			action = ""
		}
		fmt.Fprintf(&b, "-A %s %s %s\n", name, r.matches(), action)
	}
	for range 20 + r.IntN(60) {
		rule("PREROUTING", 0)
	}
	for c := range chains {
		for range r.IntN(60) {
			rule(fmt.Sprintf("C%d", c), c+1)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// compareIndexes holds indexes against the rules met one by one: the same fate by
// the same rule, the same packet, steps and questions.
func compareIndexes(t *testing.T, random *rand.Rand, compile func(text string) *Ruleset, dump func() string) {
	t.Helper()
	rules := randomRules{random}
	fates := make(map[Action]int)
	chains := 0
	for range 100 {
		text := dump()
		fast, slow := compile(text), withoutIndexes(compile(text))
		if indexed(slow) != 0 {
			t.Fatal("an index is left")
		}
		chains += indexed(fast)
		for range 40 {
			p := packet(func(p *netstack.Packet) {
				p.Src, p.Dst = netip.MustParseAddr(rules.addr()), netip.MustParseAddr(rules.addr())
				p.Protocol = []netstack.Protocol{netstack.ProtoTCP, netstack.ProtoUDP, netstack.ProtoICMP}[random.IntN(3)]
				p.SrcPort, p.DstPort, p.Mark = uint16(80+random.IntN(4)), uint16(80+random.IntN(4)), uint32(random.IntN(4))
				if p.Protocol == netstack.ProtoICMP {
					p.DstPort, p.ICMPType = 0, 8
				}
			})
			in, seed := rules.of("eth0", "eth1", "veth3", "lo"), random.Uint64()
			run := func(rs *Ruleset) (Result, netstack.Packet, []verdict.Step, []string) {
				k, steps := *p, []verdict.Step{}
				env := &diceEnv{random: rand.New(rand.NewPCG(seed, 1))}
				st := &State{Packet: &k, In: in, Conntrack: NewConntrack(), Steps: &steps}
				res := rs.Run(netstack.IPv4, Prerouting, st, env)
				return res, k, steps, env.log
			}
			wantResult, wantPacket, wantSteps, wantLog := run(slow)
			gotResult, gotPacket, gotSteps, gotLog := run(fast)
			if gotResult != wantResult || gotPacket != wantPacket || !reflect.DeepEqual(gotSteps, wantSteps) || !slices.Equal(gotLog, wantLog) {
				t.Fatalf("%s from %s: with the index %+v, %v\n%v\n%q\nwithout %+v, %v\n%v\n%q\nof\n%s",
					p, in, gotResult, gotPacket.Mark, gotSteps, gotLog, wantResult, wantPacket.Mark, wantSteps, wantLog, text)
			}
			fates[wantResult.Action]++
		}
	}
	if chains < 80 {
		t.Errorf("only %d base chains are indexed", chains)
	}
	if fates[Accept] < 300 || fates[Drop] < 300 {
		t.Errorf("the packets had hardly different fates: %v", fates)
	}
}

func TestIndexedChainsDecideAsOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 7))
	compileText := func(text string) *Ruleset { return mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, text)) }
	compareIndexes(t, random, compileText, randomRules{random}.dump)
}

func TestIndexedChainsOfNftDecideAsOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 7))
	compileJSON := func(text string) *Ruleset {
		return mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(text)}})
	}
	compareIndexes(t, random, compileJSON, randomRules{random}.nft)
}

// nftStatement is one statement of a rule: a match, or something that goes on.
func (r randomRules) nftStatement() string {
	match := func(left, op, right string) string {
		return fmt.Sprintf(`{"match":{"op":%q,"left":%s,"right":%s}}`, op, left, right)
	}
	equal := func() string { return r.of("==", "==", "==", "!=") }
	field := func(protocol, field string) string {
		return fmt.Sprintf(`{"payload":{"protocol":%q,"field":%q}}`, protocol, field)
	}
	const mark, iif = `{"meta":{"key":"mark"}}`, `{"meta":{"key":"iifname"}}`
	addr := strconv.Quote(r.addr())
	switch r.IntN(18) {
	case 0, 1:
		return match(field("ip", r.of("daddr", "daddr", "saddr")), equal(), addr)
	case 3:
		return match(field("ip", r.of("daddr", "saddr")), equal(), r.of(
			`{"prefix":{"addr":"10.0.1.0","len":24}}`, `{"prefix":{"addr":"10.0.0.4","len":30}}`,
			`{"range":["10.0.0.2","10.0.0.5"]}`, `{"range":["10.0.0.0","10.0.0.3"]}`, `{"set":["10.0.0.1","10.0.1.3"]}`))
	case 4, 5, 16:
		return match(field(r.of("tcp", "tcp", "udp", "th"), r.of("dport", "dport", "sport")), r.of("==", "==", "==", "!=", "<", ">="), r.of("80", "81", "82", "83", "84", "85"))
	case 6, 7:
		return match(mark, r.of("==", "==", "==", "!=", "<"), r.of("0", "1", "2", "3", "17", "18"))
	case 8:
		return match(`{"&":[`+mark+`,`+r.of("1", "3", "16", "255")+`]}`, equal(), r.of("0", "1", "2", "16"))
	case 9:
		return match(iif, equal(), strconv.Quote(r.of("eth0", "eth1", "eth*", "veth3", "lo")))
	case 2, 10, 15:
		return match(`{"meta":{"key":"l4proto"}}`, equal(), strconv.Quote(r.of("tcp", "udp", "icmp", "sctp", "esp", "tcp")))
	case 11:
		return match(`{"ct":{"key":"state"}}`, "in", strconv.Quote(r.of("new", "established", "invalid")))
	case 12:
		return `{"mangle":{"key":` + mark + `,"value":` + r.of("0", "1", "2", "18", `{"|":[`+mark+`,3]}`, `{"&":[`+mark+`,16]}`) + `}}`
	case 13:
		return `{"mangle":{"key":` + field("ip", "daddr") + `,"value":` + addr + `}}`
	case 14:
		return r.of(`{"counter":{"packets":0,"bytes":0}}`, `{"log":null}`, `{"limit":{"rate":1,"per":"second"}}`, `{"what is this":null}`)
	}
	return match(`{"numgen":{"mode":"random","mod":4,"offset":0}}`, "==", r.of("0", "1"))
}

// nft is dump in the JSON of nft.
func (r randomRules) nft() string {
	var b strings.Builder
	b.WriteString(`{"nftables":[{"table":{"family":"ip","name":"t"}},{"chain":{"family":"ip","table":"t","name":"pre","type":"filter","hook":"prerouting","prio":-150,"policy":"accept"}}`)
	const chains = 5
	for c := range chains {
		fmt.Fprintf(&b, `,{"chain":{"family":"ip","table":"t","name":"c%d"}}`, c)
	}
	rule := func(name string, below int) {
		var statements []string
		for range 1 + r.IntN(3) {
			statements = append(statements, r.nftStatement())
		}
		switch end := r.of("accept", "drop", "drop", "return", "continue", "jump", "jump", "goto", ""); end {
		case "":
		case "jump", "goto":
			if below < chains {
				statements = append(statements, fmt.Sprintf(`{%q:{"target":"c%d"}}`, end, below+r.IntN(chains-below)))
			}
		default:
			statements = append(statements, fmt.Sprintf(`{%q:null}`, end))
		}
		fmt.Fprintf(&b, `,{"rule":{"family":"ip","table":"t","chain":%q,"handle":1,"expr":[%s]}}`, name, strings.Join(statements, ","))
	}
	for range 20 + r.IntN(60) {
		rule("pre", 0)
	}
	for c := range chains {
		for range r.IntN(60) {
			rule(fmt.Sprintf("c%d", c), c+1)
		}
	}
	b.WriteString("]}")
	return b.String()
}
