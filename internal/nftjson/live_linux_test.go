package nftjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/internal/nftjson"
	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// chains are what the sections of testdata/rules.txt load their rules into.
var chains = map[string][]string{
	"inet ip ip6": {"inet", "ip", "ip6"}, "bridge": {"bridge"}, "arp": {"arp"}, "netdev": {"netdev"},
	"nat":     {"inet nat prerouting", "ip nat prerouting", "ip6 nat prerouting", "inet filter prerouting", "ip filter prerouting"},
	"postnat": {"inet nat postrouting", "ip nat postrouting", "ip6 nat postrouting"},
}

// better are rules that nft 1.0.6 prints wrongly, and why.
var better = map[string]string{
	"meta l4proto tcp ct original proto-dst { 80, 443 }": "ports as text with the words invalid type",
	"ip saddr . ip dscp { 10.0.0.1 . cs1 }":              "a shift of the field",
	"add @dynmap { ip saddr : tcp dport }":               "a text, with a warning",
	"meta mark >= 3 meta priority <= 9":                  "as one range",
}

// notUnderstood are rules for which the tool is asked.
var notUnderstood = map[string]string{
	`socket cgroupv2 level 1 "."`: "the path of a cgroup",
}

// notReadBack is what nft 1.0.6 prints and does not read: rules, and other
// objects.
var (
	notReadBack = map[string]string{
		"meta l4proto tcp ct original proto-dst { 80, 443 }": "it takes ports for names",
		"add @dynmap { ip saddr : tcp dport }":               "no statement that changes maps",
		"@nh,0,8 5":                                          "it aborts, in the family ip6",
	}
	objectNotReadBack = regexp.MustCompile(`(?m)^\{"(set|map)": .*"(type|map)": (\[.*)?"(integer|string)".*\n|` + // typeof
		`^\{"map": .*"map": "[a-z0-9_]+ \. .*\n|` + // data of several parts
		`^\{"map": .*"name": "tointerval".*\n|` + // data that is a range
		`^\{"chain": .*"dev": \[.*\n|` + // several devices
		`^\{"(ct expectation|synproxy)": .*\n`)
	// lost is what it reads without flags, comments and counters.
	lost = regexp.MustCompile(`(?m)^\{"(table|set)": .*"name": "(d|commented|counted)".*\n`)
)

const objects = ` counter cnt { packets 1 bytes 2 }
 counter cnt2 { packets 1 bytes 2 }
 quota qt { over 100 kbytes used 5 bytes }
 limit lim { rate 5/second }
 ct helper help { type "ftp" protocol tcp; }
 ct expectation expe { protocol udp; dport 9876; timeout 2m; size 12; l3proto ip; }
 synproxy syn { mss 1460; wscale 7; timestamp sack-perm; }
 set dyn { type ipv4_addr; flags dynamic, timeout; timeout 1h; size 100; }
 set dyn2 { type ipv4_addr . inet_service; flags dynamic; }
 set dynmark { type mark; flags dynamic; }
 map dynmap { type ipv4_addr : inet_service; flags dynamic; }
 set named { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.1 } }
 set named2 { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 } }
 map namedv { type ipv4_addr : verdict; elements = { 10.0.0.1 : drop } }
 map namedm { type ipv4_addr : mark; elements = { 10.0.0.1 : 5 } }
`

var refusedLine = regexp.MustCompile(`/dev/stdin:(\d+):`)

// load loads as many of the rules as are taken, each into a chain of its own,
// and returns those, by chain.
func load(t *testing.T, into string, rules []string) map[string]string {
	t.Helper()
	family, hook, base := strings.Cut(into, " ")
	rules = slices.Clone(rules)
	for len(rules) > 0 {
		var b strings.Builder
		byChain := make(map[string]string)
		lines := make(map[int]int)
		fmt.Fprintf(&b, "table %s t {\n", family)
		if family == "ip" || family == "inet" {
			b.WriteString(objects)
		}
		b.WriteString(" chain other { }\n")
		for i, rule := range rules {
			chain := "c" + strconv.Itoa(i)
			byChain[chain] = rule
			fmt.Fprintf(&b, " chain %s {\n", chain)
			if base {
				kind, at, _ := strings.Cut(hook, " ")
				fmt.Fprintf(&b, "  type %s hook %s priority 0\n", kind, at)
			}
			lines[strings.Count(b.String(), "\n")+1] = i
			fmt.Fprintf(&b, "  %s\n }\n", rule)
		}
		b.WriteString("}\n")
		err := nftcheck.Load(b.String())
		if err == nil {
			return byChain
		}
		refused := make(map[int]bool)
		for _, line := range refusedLines(err) {
			if i, ok := lines[line]; ok {
				refused[i] = true
			}
		}
		if len(refused) == 0 {
			t.Fatalf("%s: %v", into, err)
		}
		var kept []string
		for i, rule := range rules {
			if !refused[i] {
				kept = append(kept, rule)
			}
		}
		rules = kept
	}
	return nil
}

// The kernel and the tool judge: what is read over netlink is what the tool
// prints, for every expression and statement, in every family that takes it.
func TestRulesAreWrittenAsNftDoes(t *testing.T) {
	text, err := os.ReadFile("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string][]string)
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case chains[line] != nil:
			section = line
		default:
			sections[section] = append(sections[section], line)
		}
	}
	for section, rules := range sections {
		for _, into := range chains[section] {
			t.Run(into, func(t *testing.T) {
				nftcheck.Namespace(t)
				nftcheck.Run(t, "", "ip", "link", "add", "c0", "type", "veth", "peer", "name", "s0")
				all := make([]string, 0, len(rules))
				for _, rule := range rules {
					if notUnderstood[rule] == "" {
						all = append(all, rule)
					}
				}
				loaded := load(t, into, all)
				differences(t, loaded)
				readBack(t, loaded)
				if into != "inet" && into != "ip" && into != "ip6" {
					return
				}
				for rule, why := range notUnderstood {
					if len(load(t, into, []string{rule})) == 0 {
						continue
					}
					_, err := nftcheck.Difference(t)
					var unknown *nftjson.NotUnderstood
					if !errors.As(err, &unknown) || !strings.Contains(err.Error(), why) {
						t.Errorf("%s: got %v, want that %s is not understood", rule, err, why)
					}
				}
				t.Logf("%d of %d rules loaded", len(loaded), len(rules))
			})
		}
	}
}

var chainOf = regexp.MustCompile(`"chain":"(c\d+)"`)

// differences reports the rules that are written in another way than by the
// tool, except for those that it prints wrongly.
func differences(t *testing.T, rules map[string]string) {
	t.Helper()
	diff, err := nftcheck.Difference(t)
	if err != nil {
		t.Fatal(err)
	}
	for entry := range strings.SplitSeq(diff, "tool ") {
		m := chainOf.FindStringSubmatch(entry)
		if entry == "" || m != nil && better[rules[m[1]]] != "" {
			continue
		}
		rule := "no rule"
		if m != nil {
			rule = rules[m[1]]
		}
		t.Errorf("%s:\ntool %s", rule, entry)
	}
}

var (
	nameOf   = regexp.MustCompile(`"name": "([^"]+)"`)
	ruleLine = regexp.MustCompile(`(?m)^\{"rule": .*"chain": "(c\d+)", .*\n`)
	oneRange = regexp.MustCompile(`\{"set": \[(\{"range": \[\d+, \d+\]\})\]\}`)
	expires  = regexp.MustCompile(`"expires": \d+`)
)

// readBack loads what simulator/netfilter prints of the rule set of the namespace
// with nft, which makes of it the rule set that it was.
func readBack(t *testing.T, rules map[string]string) {
	t.Helper()
	printed := printNFT(t)
	for _, line := range objectNotReadBack.FindAllString(printed, -1) {
		printed = strings.Replace(printed, line, "", 1)
		name := nameOf.FindStringSubmatch(line)[1]
		printed = regexp.MustCompile(`(?m)^\{"rule": .*"@?`+name+`".*\n`).ReplaceAllString(printed, "")
	}
	for _, line := range ruleLine.FindAllStringSubmatch(printed, -1) {
		if why := notReadBack[rules[line[1]]]; why != "" {
			printed = strings.Replace(printed, line[0], "", 1)
		}
	}
	printed = strings.Replace(printed, ",\n]}", "\n]}", 1)
	load := func(text string, args ...string) error {
		return nftcheck.Try(text, "nft", append(args, "-j", "-f", "-")...)
	}
	nftcheck.Run(t, "", "nft", "flush", "ruleset")
	if err := load(printed, "-c"); err != nil {
		t.Errorf("nft does not take what is printed: %v", err)
		head := printed[:max(strings.Index(printed, "\n{\"rule\""), 0)]
		for _, line := range ruleLine.FindAllStringSubmatch(printed, -1) {
			if err := load(head+strings.TrimSuffix(line[0], ",\n")+"]}", "-c"); err != nil {
				t.Errorf("%s: %v", rules[line[1]], err)
			}
		}
		return
	}
	if err := load(printed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(comparable(printed), comparable(printNFT(t))); diff != "" {
		t.Errorf("loaded as printed (-original +printed):\n%s", diff)
	}
}

// comparable are the lines of a rule set, each with its words sorted: the kernel
// says in which order a set is. nft makes a range of a set that is just that.
func comparable(printed string) []string {
	lines := strings.Split(oneRange.ReplaceAllString(lost.ReplaceAllString(printed, ""), "$1"), "\n")
	for i, line := range lines {
		words := strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(" ,[]", c) })
		slices.Sort(words)
		lines[i] = strings.Join(words, " ")
	}
	return lines
}

// printNFT prints the rule set of the namespace, and checks that what is printed
// is read and printed as the same.
func printNFT(t *testing.T) string {
	t.Helper()
	text, err := nftcheck.Live(t)
	if err != nil {
		t.Fatal(err)
	}
	first, err := netfilter.PrintNFT(netstack.Text{File: "nft.json", Data: text})
	if err != nil {
		t.Fatal(err)
	}
	second, err := netfilter.PrintNFT(netstack.Text{File: "nft.json", Data: first})
	if err != nil || string(first) != string(second) {
		t.Fatalf("printed again (%v):\n%s\nat first:\n%s", err, second, first)
	}
	return expires.ReplaceAllString(string(first), `"expires": 60`)
}

// refusedLines are those of which the tool complains.
func refusedLines(err error) []int {
	var lines []int
	for _, m := range refusedLine.FindAllStringSubmatch(err.Error(), -1) {
		line, _ := strconv.Atoi(m[1])
		lines = append(lines, line)
	}
	return lines
}

// loadLines loads a rule set without the lines that are not taken.
func loadLines(t *testing.T, text string) (lines []string) {
	t.Helper()
	lines = strings.Split(text, "\n")
	for {
		err := nftcheck.Load(strings.Join(lines, "\n"))
		if err == nil {
			return lines
		}
		refused := refusedLines(err)
		if len(refused) == 0 {
			t.Fatal(err)
		}
		for _, line := range refused {
			t.Logf("not taken: %s", lines[line-1])
			lines[line-1] = ""
		}
	}
}

func TestSetsAndObjectsAreWrittenAsNftDoes(t *testing.T) {
	nftcheck.Namespace(t)
	nftcheck.Run(t, "", "ip", "link", "add", "c0", "type", "veth", "peer", "name", "s0")
	text, err := os.ReadFile("testdata/sets.nft")
	if err != nil {
		t.Fatal(err)
	}
	loadLines(t, string(text))
	differences(t, nil)
	readBack(t, nil)
}

// nft takes some matches to be implied by others that are not, and leaves them
// out: what the kernel asks for is written.
func TestConditionsThatNftLeavesOut(t *testing.T) {
	for family, rules := range map[string]map[string]string{
		"inet": {
			"udp sport 5000 iiftype ether meta nfproto ipv4 drop": "iiftype == ether",
			"iiftype ether meta nfproto ipv6 drop":                "iiftype == ether",
			"iiftype ether ip saddr 10.0.0.1 drop":                "iiftype == ether",
			"ether saddr 02:00:00:00:00:01 drop":                  "", // asks for it, whoever reads it
		},
		"ip6": {
			"meta protocol ip tcp dport 80 drop":    "protocol == ip",
			"meta protocol ip6 udp dport 5353 drop": "",
		},
	} {
		t.Run(family, func(t *testing.T) {
			nftcheck.Namespace(t)
			loaded := load(t, family, slices.Sorted(maps.Keys(rules)))
			text, err := nftcheck.Live(t)
			if err != nil {
				t.Fatal(err)
			}
			var all struct {
				NFTables []struct {
					Rule *struct {
						Chain string
						Expr  []struct {
							Match *struct {
								Op    string
								Left  struct{ Meta *struct{ Key string } }
								Right any
							}
						}
					}
				}
			}
			if err := json.Unmarshal(text, &all); err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, o := range all.NFTables {
				if o.Rule == nil {
					continue
				}
				seen++
				kept := ""
				for _, e := range o.Rule.Expr {
					if m := e.Match; m != nil && m.Left.Meta != nil && m.Left.Meta.Key != "nfproto" {
						kept += fmt.Sprintf("%s %s %s", m.Left.Meta.Key, m.Op, m.Right)
					}
				}
				if rule := loaded[o.Rule.Chain]; kept != rules[rule] {
					t.Errorf("%s: written with %q, want %q", rule, kept, rules[rule])
				}
			}
			if seen != len(rules) {
				t.Errorf("%d rules of %d seen", seen, len(rules))
			}
			readBack(t, loaded)
		})
	}
}

// Rules of iptables-nft have matches and targets that the kernel shares with
// iptables: nft prints their names.
func TestTablesOfIPTablesAreWrittenAsNftDoes(t *testing.T) {
	nftcheck.Namespace(t)
	nftcheck.Run(t, "", "iptables-nft", "-N", "sub")
	for _, rule := range []string{
		"-A INPUT -p tcp --dport 80 -m comment --comment hi -j ACCEPT",
		"-A INPUT -m statistic --mode random --probability 0.5 -j DROP",
		"-t nat -A POSTROUTING -s 10.0.0.0/8 -o eth+ -j MASQUERADE --random-fully",
		"-A FORWARD -m conntrack --ctstate NEW -m mark --mark 0x1/0xff -j LOG --log-prefix xx",
		"-A FORWARD -p tcp --tcp-flags SYN,ACK SYN -d 1.2.3.4 ! -i lo -j REJECT",
		"-A FORWARD -p icmp --icmp-type 8 -m limit --limit 3/s -j RETURN",
		"-A FORWARD -p udp -m multiport --dports 1,2,3:9 -g sub",
		"-t mangle -A OUTPUT ! -d 10.0.0.0/9 -m tos --tos 0x10 -j MARK --set-xmark 0x1/0xff",
		"-t raw -A PREROUTING -f -s 1.2.3.0/23 -j CT --notrack",
	} {
		nftcheck.Run(t, "", "iptables-nft", strings.Fields(rule)...)
	}
	differences(t, nil)
}
