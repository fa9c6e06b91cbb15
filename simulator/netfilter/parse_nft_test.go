package netfilter

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// every-statement.nft.json is what nft 1.0.6 prints for a rule set with every
// kind of statement.
func TestEveryStatementOfNftIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/every-statement.nft.json")
	if err != nil {
		t.Fatal(err)
	}
	rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: data}})
	rules, unmodelled := rs.Coverage()
	if rules != 93 || unmodelled != 2 {
		t.Errorf("Coverage() = %d, %d", rules, unmodelled)
	}
	var unknown []string
	for _, op := range rs.pipelines[0][Forward].ops {
		if op.chain == nil {
			continue
		}
		for _, r := range op.chain.rules {
			for _, s := range r.steps {
				for _, m := range s.matches {
					if u, ok := m.(unknownMatch); ok {
						unknown = append(unknown, u.what)
					}
				}
				if u, ok := s.action.(*unknownAction); ok {
					unknown = append(unknown, u.what)
				}
			}
		}
	}
	wantUnknown := []string{
		"limit", "ct count", "quota", "match meta cpu", "match meta day",
	}
	if diff := cmp.Diff(wantUnknown, unknown); diff != "" {
		t.Errorf("unknown (-want +got):\n%s", diff)
	}
}

func TestMalformedNftIsRefusedByFileLineAndToken(t *testing.T) {
	const head = `{"nftables": [
{"table": {"family": "inet", "name": "t"}},
{"chain": {"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
`
	rule := func(expr string) string {
		return head + `{"rule": {"family": "inet", "table": "t", "chain": "f", "handle": 1, "expr": [` + expr + "]}}\n]}"
	}
	for _, c := range []struct{ name, text, want string }{
		{"no JSON at all", "table inet t {", "f:1: invalid character 'a' in literal true (expecting 'r') at \"able inet t {\""},
		{"a file that was cut off", head, `f:4: unexpected end of JSON at ""`},
		{"text after the end", rule("") + "}", `f:5: invalid character '}' looking for beginning of value at "}}"`},
		{"another document", `{"routes": []}`, `f:1: expected an object with the list "nftables" at "{\"routes\": []}"`},
		{"a chain of an undeclared table", `{"nftables": [{"chain": {"family": "ip", "table": "x", "name": "c"}}]}`, `f:1: table ip x is not declared at "{\"family\": \"ip\", \"table\""`},
		{"a rule of an undeclared chain", head + `{"rule": {"family": "inet", "table": "t", "chain": "g", "expr": []}}]}`, `f:4: chain g is not declared at "{\"family\": \"inet\", \"tabl"`},
		{"a jump to an undeclared chain", rule(`{"jump": {"target": "g"}}`), `f:4: chain "g" is not declared at "{\"target\": \"g\"}}]}}"`},
		{"a loop", rule(`{"jump": {"target": "f"}}`), `f: chains of table t form a loop through this one at "f"`},
		{"an address", rule(`{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.256"}}`), `f:4: invalid IPv4 address at "10.0.0.256"`},
		{"a prefix length", rule(`{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 40}}}}`), `f:4: invalid prefix length 40 at "{\"addr\": \"10.0.0.0\", \"le"`},
		{"a set that is not there", rule(`{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@s"}}`), `f:4: set is not declared at "@s"`},
		{"a policy", `{"nftables": [{"table": {"family": "ip", "name": "t"}}, {"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "prio": 0, "policy": "reject"}}]}`, `f:1: unknown policy at "reject"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(&netstack.Namespace{NFT: netstack.Text{File: "f", Data: []byte(c.text)}})
			if err == nil || err.Error() != c.want {
				t.Errorf("Compile:\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

// readNFT compiles a rule set object by object, or from the tree of all of them,
// and lists its rules. It says false for JSON that is not read object by object.
func readNFT(data []byte, tree bool) (list []string, ok bool, err error) {
	c := newCompiler(&netstack.Namespace{}, NewPool())
	p := newNFTParser(c, "f", data)
	if tree {
		ok, err = true, p.tree()
	} else {
		ok, err = p.stream()
	}
	if !ok || err != nil {
		return nil, ok, err
	}
	if err := p.fillSets(); err != nil {
		return nil, true, err
	}
	if err := p.resolve(); err != nil {
		return nil, true, err
	}
	list = append(list, fmt.Sprint(c.rs.rules, c.rs.unmodelled, c.rs.tracking, c.rs.linkLayer.tracking))
	for _, t := range p.order {
		for _, s := range t.sets {
			list = append(list, fmt.Sprint(t.name, " ", s.name, s.types, s.unknown, s.isMap, len(s.data), s.ranges, s.exact))
		}
		slices.Sort(list)
		for _, c := range t.order {
			for i := range c.rules {
				list = append(list, fmt.Sprint(c.ref(&c.rules[i], located{p.c.rs, c, &c.rules[i]}.String()), len(c.rules[i].steps)))
			}
		}
	}
	return list, true, nil
}

// checkStream holds rule sets that are read object by object against the same
// ones read as a whole: the same rules, or the same error.
func checkStream(t *testing.T, data []byte) (streamed bool) {
	t.Helper()
	got, ok, err := readNFT(data, false)
	if !ok {
		return false
	}
	want, _, wantErr := readNFT(data, true)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.Equal(got, want) {
		t.Fatalf("%q is read as %v, %q\nnot %v, %q", data, err, got, wantErr, want)
	}
	return true
}

func TestRulesAreReadOneByOneAsTheyAreTogether(t *testing.T) {
	statements, err := os.ReadFile("testdata/every-statement.nft.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(statements), string(services(20).NFTablesJSON()), `{"nftables":[]}`, " { \"nftables\" : [ ] }\n",
		`{"nftables":[{"table":{"family":"ip","name":"t"}},{"rule":{"family":"ip","table":"t","chain":"c","expr":[]}}]}`,
		`{"nftables":[{"table":{"family":"ip","name":"t"}},{"a":1,"b":2}]}`,
		`{"nftables":[{"chain":{"family":"ip","table":"t","name":"c"}},7]}`,
	} {
		if !checkStream(t, []byte(text)) {
			t.Errorf("not read one by one: %.80s", text)
		}
	}
	for _, text := range []string{
		`{"nftables":[{}],"other":1}`, `{"other":1,"nftables":[]}`, `{"nftables":{}}`, `{"nftables":[{"a":1.5}]}`, `[]`,
		`{"nftables":[{}{}]}`, `{"nftables":[{},]}`, `{"nftables":[,{}]}`, `{"nftables":[]} 1`, `{"nftables":[`, `{nftables`,
	} {
		if checkStream(t, []byte(text)) {
			t.Errorf("read one by one: %s", text)
		}
	}
}

func FuzzNFT(f *testing.F) {
	data, err := os.ReadFile("testdata/every-statement.nft.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"nftables": [{"table": {"family": "ip", "name": "t"}}, {"chain": {"family": "ip", "table": "t", "name": "c", "type": "nat", "hook": "input", "prio": 0}}, {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"snat": {"addr": "1.1.1.1"}}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkStream(t, data)
		if rs, err := Compile(&netstack.Namespace{NFT: netstack.Text{File: "f", Data: data}}); err == nil {
			runEverything(rs)
			printedNFT(t, data)
		}
	})
}

func TestAKeyOfWhichAPartIsNotKnownMissesWhereTheOthersTell(t *testing.T) {
	const rules = `{"nftables": [{"table": {"family": "ip", "name": "t"}},
{"map": {"family": "ip", "table": "t", "name": "m", "type": ["inet_proto", "inet_service"], "map": "verdict", "elem": [[{"concat": ["tcp", 80]}, {"drop": null}]]}},
{"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "ip", "table": "t", "chain": "f", "expr": [{"vmap": {"key": {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@m"}}]}}]}`
	rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(rules)}})
	env := &fakeEnv{}
	echo := packet(func(p *netstack.Packet) {
		p.Protocol, p.SrcPort, p.DstPort, p.ICMPType = netstack.ProtoICMP, 7, 0, 8
	})
	if res := rs.Run(netstack.IPv4, Forward, &State{Packet: echo}, env); res.Action != Accept || env.asked != nil {
		t.Errorf("an echo: %v, asked %q", res, env.asked)
	}
	if res := rs.Run(netstack.IPv4, Forward, &State{Packet: packet()}, env); res.Action != Drop {
		t.Errorf("TCP to port 80: %v", res)
	}
}

// What is inside a tunnel's packet is not what is outside (nft 1.1 on Linux 6.2 and later).
func TestFieldsOfInnerHeadersAreNotThoseOfTheOuterOnes(t *testing.T) {
	const rules = `{"nftables": [{"table": {"family": "ip", "name": "t"}},
{"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "ip", "table": "t", "chain": "f", "expr": [%s, {"drop": null}]}}]}`
	for statement, asked := range map[string]string{
		`{"match": {"op": "!=", "left": {"payload": {"tunnel": "vxlan", "protocol": "ip", "field": "saddr"}}, "right": "10.9.9.9"}}`: "match inner ip saddr of vxlan",
		`{"match": {"op": "==", "left": {"payload": {"tunnel": "gre", "protocol": "vlan", "field": "id"}}, "right": 5}}`:             "match inner vlan id of gre",
		`{"mangle": {"key": {"payload": {"tunnel": "geneve", "protocol": "ip", "field": "ttl"}}, "value": 5}}`:                       "statement mangle with inner ip ttl of geneve",
	} {
		rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: fmt.Appendf(nil, rules, statement)}})
		env := &fakeEnv{}
		rs.Run(netstack.IPv4, Forward, &State{Packet: packet()}, env)
		if len(env.asked) == 0 || env.asked[0] != asked {
			t.Errorf("%s: asked about %q", statement, env.asked)
		}
		if _, unmodelled := rs.Coverage(); unmodelled != 1 {
			t.Errorf("%s: %d rules are not modelled", statement, unmodelled)
		}
	}
}
