package netfilter

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
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
	word := regexp.MustCompile("`([A-Za-z0-9]+)`")
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
