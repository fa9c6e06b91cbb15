package netfilter

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// matchNames and targetNames are the extensions of iptables 1.8.9 that a table may have.
var (
	matchNames = strings.Fields(`
		addrtype ah bpf cgroup cluster comment connbytes connlabel connlimit connmark conntrack cpu dccp devgroup dscp dst ecn esp eui64 frag hashlimit hbh
		helper hl icmp icmp6 ipcomp iprange ipv6header ipvs l2tp length limit mac mark mh multiport nfacct osf owner physdev pkttype policy quota rateest realm
		recent rpfilter rt sctp set socket srh state statistic string tcp tcpmss time tos ttl u32 udp udplite`)
	targetNames = strings.Fields(`
		AUDIT CHECKSUM CLASSIFY CLUSTERIP CONNMARK CONNSECMARK CT DNAT DNPT DSCP ECN HL HMARK IDLETIMER LED LOG MARK MASQUERADE NETMAP NFLOG NFQUEUE NOTRACK
		RATEEST REDIRECT REJECT SECMARK SET SNAT SNPT SYNPROXY TCPMSS TCPOPTSTRIP TEE TOS TPROXY TRACE TTL ULOG`)
)

// judgedElsewhere are the matches and targets that packets meet in other tests; empty for those that no kernel of these tests
// loads, which the documentation lists.
var judgedElsewhere = map[string]string{
	"udp": "../../e2e/judge/reasons.go match:udp", "icmp": "../../e2e/judge/reasons.go match:icmp", "icmp6": "../../e2e/judge/reasons.go match:icmp6",
	"sctp": "../../e2e/agreement/sctp_linux_test.go func TestAssociations(", "ipvs": "../../e2e/ipvs/scenarios_linux_test.go -m ipvs",
	"TPROXY": "../../e2e/links/proxies_linux_test.go -j TPROXY", "TRACE": "judge_ways_linux_test.go -j TRACE",
	"cgroup":   "undecidable_test.go -m cgroup",
	"SYNPROXY": "undecidable_test.go -j SYNPROXY",
	"ULOG":     "", "SECMARK": "", "LED": "", "udplite": "", "l2tp": "", "mh": "", "CLUSTERIP": "",
}

// rowOfMatch is the row of the table that a match belongs to.
func rowOfMatch(name string) string {
	switch m := newModule(name).(type) {
	case *opaqueModule:
		return "both ways, as not modelled"
	case *statisticModule:
		return "dice"
	case *recentModule:
		return "both ways, by name, as no snapshot shows what they look at"
	case *extensionModule:
		switch {
		case m.unmodelled:
			return "both ways, as not modelled"
		case m.compile == nil, name == "cgroup":
			return "both ways, by name, as no snapshot shows what they look at"
		case m.family != 0:
			return "extension headers"
		case slices.Contains([]string{"esp", "ah", "ipcomp", "dccp"}, name):
			return "other protocols"
		}
	}
	return "exactly"
}

func rowOfTarget(name string) string {
	switch t := newTarget(name).(type) {
	case nil:
		return "no such target"
	case *opaqueTarget:
		return "both ways, by name"
	case *teeTarget:
		return "send a copy"
	case *hmarkTarget:
		return "branches"
	case *tproxyTarget:
		return "handed over"
	case *skipTarget:
		if _, watches := t.a.(*noEffect); watches {
			return "change nothing"
		}
		return "handed over"
	}
	return "exactly"
}

// TestTheTablesOfTheDocumentationAreThoseOfTheCode compares docs/iptables.md with what is parsed: each match and target stands
// in the row that tells what becomes of it, and nowhere else, and packets meet it.
func TestTheTablesOfTheDocumentationAreThoseOfTheCode(t *testing.T) {
	text := fileText(t, "../../docs/iptables.md")
	_, text, _ = strings.Cut(text, "## Matches")
	matches, targets, _ := strings.Cut(text, "## Targets")
	targets, _, _ = strings.Cut(targets, "## ipset")
	for name := range extensions {
		if !slices.Contains(matchNames, name) {
			t.Errorf("match %s is not among those of iptables", name)
		}
	}
	for name := range spectators {
		if !slices.Contains(targetNames, name) {
			t.Errorf("target %s is not among those of iptables", name)
		}
	}
	judged := judgedRules()
	notLoaded := quotedWords(between(t, text, "Those that no kernel of these tests loads are taken from its source:", "\n\n"))
	for _, kind := range []struct {
		names     []string
		doc, flag string
		row       func(string) string
	}{{matchNames, matches, "-m", rowOfMatch}, {targetNames, targets, "-j", rowOfTarget}} {
		rows := documentedRows(kind.doc)
		for _, name := range kind.names {
			if got, want := rows[name], []string{kind.row(name)}; !slices.Equal(got, want) {
				t.Errorf("docs/iptables.md has %s in the rows %q, and the code in %q", name, got, want)
			}
			if strings.Contains(judged, kind.flag+" "+name+" ") {
				continue
			}
			where, listed := judgedElsewhere[name]
			file, what, _ := strings.Cut(where, " ")
			if !listed || where != "" && !strings.Contains(fileText(t, file), what) {
				t.Errorf("no packets meet %s %s", kind.flag, name)
			}
			if i := slices.Index(notLoaded, name); i >= 0 && where == "" {
				notLoaded = slices.Delete(notLoaded, i, i+1)
			} else if where == "" {
				t.Errorf("docs/iptables.md does not say that no kernel loads %s %s", kind.flag, name)
			}
		}
	}
	if len(notLoaded) > 0 {
		t.Errorf("docs/iptables.md says that no kernel loads %q", notLoaded)
	}
}

// between is the text from one phrase to another.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, text, found := strings.Cut(text, from)
	text, _, ended := strings.Cut(text, to)
	if !found || !ended {
		t.Fatalf("the documentation has nothing between %q and %q", from, to)
	}
	return text
}

// quotedWords are the names in a text that are written as code.
func quotedWords(text string) (words []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// documentedRows says in which rows of a table a name stands, by the rows' titles up to what is in parentheses or after a colon.
func documentedRows(table string) map[string][]string {
	rows := make(map[string][]string)
	word := regexp.MustCompile("`([A-Za-z0-9 ]+)`")
	for line := range strings.Lines(table) {
		title, found := strings.CutPrefix(line, "| ")
		if !found {
			continue
		}
		title, _, _ = strings.Cut(title, " |")
		title, _, _ = strings.Cut(title, " (")
		for _, m := range word.FindAllStringSubmatch(line, -1) {
			rows[m[1]] = append(rows[m[1]], title)
		}
	}
	return rows
}

// judgedRules are the rules that packets of this package meet.
func judgedRules() string {
	rules := slices.Concat(judgeMatches4, judgeMatches6, judgeOutput)
	for _, w := range judgeWays {
		rules = append(rules, w.match)
	}
	for _, r := range append(judgeTargets, judgeSetTargets) {
		rules = append(rules, r.rules)
	}
	return strings.ReplaceAll(strings.Join(rules, "\n"), "\n", " \n") + " "
}

func fileText(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// nftStatements has an example of each statement that the parser tells apart, and of those that nft has besides.
var nftStatements = map[string]string{
	"match":   `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}`,
	"comment": `{"comment": "x"}`, "last": `{"last": null}`, "counter": `{"counter": {"packets": 0, "bytes": 0}}`,
	"dup": `{"dup": {"addr": "10.0.0.9"}}`, "log": `{"log": null}`, "secmark": `{"secmark": "x"}`, "ct timeout": `{"ct timeout": "x"}`,
	"ct expectation": `{"ct expectation": "x"}`, "flow": `{"flow": {"op": "add", "flowtable": "@x"}}`, "ct helper": `{"ct helper": "x"}`,
	"limit": `{"limit": {"rate": 1, "per": "second"}}`, "quota": `{"quota": {"val": 1, "val_unit": "bytes"}}`, "ct count": `{"ct count": {"val": 1}}`,
	"connlimit": `{"connlimit": "x"}`, "meter": `{"meter": {"name": "x", "key": {"meta": {"key": "mark"}}, "stmt": {"limit": {"rate": 1, "per": "second"}}}}`,
	"set":    `{"set": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@s"}}`,
	"map":    `{"map": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "data": 1, "map": "@m"}}`,
	"accept": `{"accept": null}`, "drop": `{"drop": null}`, "return": `{"return": null}`, "continue": `{"continue": null}`,
	"jump": `{"jump": {"target": "x"}}`, "goto": `{"goto": {"target": "x"}}`, "queue": `{"queue": {"num": 0}}`,
	"vmap":   `{"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[1, {"drop": null}]]}}}`,
	"mangle": `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}`, "reset": `{"reset": {"tcp option": {"name": "maxseg"}}}`,
	"dnat": `{"dnat": {"family": "ip", "addr": "10.0.0.9"}}`, "snat": `{"snat": {"family": "ip", "addr": "10.0.0.9"}}`, "masquerade": `{"masquerade": null}`,
	"redirect": `{"redirect": {"port": 80}}`, "reject": `{"reject": {"type": "tcp reset"}}`, "notrack": `{"notrack": null}`,
	"tproxy": `{"tproxy": {"family": "ip", "addr": "10.0.0.9", "port": 80}}`, "fwd": `{"fwd": {"dev": "eth0"}}`,
	"xt": `{"xt": {"type": "target", "name": "x"}}`, "synproxy": `{"synproxy": {"mss": 1460, "wscale": 7}}`, "tunnel": `{"tunnel": "x"}`,
	"osf": `{"osf": {"key": "name"}}`,
}

// TestTheStatementsOfTheDocumentationAreThoseOfTheCode compares docs/nftables.md with what becomes of each statement.
func TestTheStatementsOfTheDocumentationAreThoseOfTheCode(t *testing.T) {
	code := make(map[string][]string)
	for name, statement := range nftStatements {
		code[name] = []string{rowOfStatement(t, statement)}
	}
	rows := documentedRows(between(t, fileText(t, "../../docs/nftables.md"), "\n## Statements\n", "\n\n## "))
	if diff := cmp.Diff(code, rows); diff != "" {
		t.Errorf("the code (-) and docs/nftables.md (+):\n%s", diff)
	}
	source := between(t, fileText(t, "nft_statement.go"), "func (b *nftRuleBuilder) compile(", "\n}\n")
	for _, m := range regexp.MustCompile(`(?m)^\tcase (".*"):$`).FindAllStringSubmatch(source, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if nftStatements[strings.Trim(name, `"`)] == "" {
				t.Errorf("there is no example of the statement %s", name)
			}
		}
	}
}

func rowOfStatement(t *testing.T, statement string) string {
	t.Helper()
	rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: fmt.Appendf(nil, `{"nftables": [{"table": {"family": "ip", "name": "t"}},
{"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr"}}, {"map": {"family": "ip", "table": "t", "name": "m", "type": "ipv4_addr", "map": "mark"}},
{"chain": {"family": "ip", "table": "t", "name": "x"}},
{"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "ip", "table": "t", "chain": "f", "expr": [%s, {"notrack": null}]}}]}`, statement)}})
	if _, unmodelled := rs.Coverage(); unmodelled > 0 {
		return "not modelled"
	}
	var steps []step
	for _, op := range rs.pipelines[0][Forward].ops {
		if op.chain != nil {
			steps = op.chain.rules[0].steps
		}
	}
	for _, m := range steps[0].matches {
		if _, asked := m.(unknownMatch); asked {
			return "both ways, by name"
		}
	}
	switch a := steps[0].action.(type) {
	case *noEffect:
		return "change nothing"
	case *duplicate:
		return "send a copy"
	case *tproxy:
		return "handed over"
	case *verdictAction:
		if a.kind == outQueue {
			return "handed over"
		}
	case notrack:
		if len(steps) == 1 && len(steps[0].matches) == 0 && statement != nftStatements["notrack"] {
			return "change nothing"
		}
	}
	return "exactly"
}
