package nftjson_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/nftjson"
	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
)

// chains are what the sections of testdata/rules.txt load rules into.
var chains = map[string][]string{
	"inet ip ip6": {"inet", "ip", "ip6"}, "bridge": {"bridge"}, "arp": {"arp"}, "netdev": {"netdev"}, "nat": {"inet nat prerouting", "ip nat prerouting", "ip6 nat prerouting"},
	"postnat": {"inet nat postrouting", "ip nat postrouting", "ip6 nat postrouting"},
}

func ruleset(chain, rule string) string {
	family, hook, base := strings.Cut(chain, " ")
	var b strings.Builder
	fmt.Fprintf(&b, "table %s t {\n", family)
	if family == "ip" || family == "inet" {
		b.WriteString(` set dyn { type ipv4_addr; flags dynamic, timeout; timeout 1h; size 100; }
 set dyn2 { type ipv4_addr . inet_service; flags dynamic; }
 set dynmark { type mark; flags dynamic; }
 map dynmap { type ipv4_addr : inet_service; flags dynamic; }
 set named { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.1 } }
 set named2 { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 } }
 map namedv { type ipv4_addr : verdict; elements = { 10.0.0.1 : drop } }
 map namedm { type ipv4_addr : mark; elements = { 10.0.0.1 : 5 } }
 counter cnt { packets 1 bytes 2 }
 counter cnt2 { packets 1 bytes 2 }
 quota qt { 100 kbytes }
 limit lim { rate 5/second }
`)
	}
	switch {
	case strings.Contains(rule, "\"help\""):
		b.WriteString(" ct helper help { type \"ftp\" protocol tcp; }\n")
	case strings.Contains(rule, "tmo"):
		b.WriteString(" ct timeout tmo { protocol tcp; policy = { established : 120, close : 20 } }\n")
	case strings.Contains(rule, "expe"):
		b.WriteString(" ct expectation expe { protocol udp; dport 9876; timeout 2m; size 12; l3proto ip; }\n")
	case strings.Contains(rule, "name \"syn\""):
		b.WriteString(" synproxy syn { mss 1460; wscale 7; timestamp sack-perm; }\n")
	case strings.Contains(rule, "@f"):
		b.WriteString(" flowtable f { hook ingress priority 0; devices = { c0 }; }\n")
	}
	b.WriteString(" chain other { }\n chain c {\n")
	switch {
	case hook != "" && base:
		kind, at, _ := strings.Cut(hook, " ")
		if strings.HasPrefix(rule, "tproxy") || strings.Contains(rule, " tproxy") {
			kind = "filter"
		}
		fmt.Fprintf(&b, "  type %s hook %s priority 0\n", kind, at)
	}
	fmt.Fprintf(&b, "  %s\n }\n}\n", rule)
	return b.String()
}

func TestRulesAreWrittenAsNftDoes(t *testing.T) {
	nftcheck.Namespace(t)
	nftcheck.Run(t, "", "ip", "link", "add", "c0", "type", "veth", "peer", "name", "s0")
	file, err := os.Open("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	loaded, refused := 0, 0
	fallen := make(map[string]int)
	var into []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		rule := strings.TrimSpace(scanner.Text())
		if rule == "" || rule[0] == '#' {
			continue
		}
		if list, ok := chains[rule]; ok {
			into = list
			continue
		}
		for _, chain := range into {
			if err := nftcheck.Load(ruleset(chain, rule)); err != nil {
				refused++
				if os.Getenv("NFTCHECK_REFUSED") != "" {
					t.Logf("%s %s: %v", chain, rule, err)
				}
				continue
			}
			loaded++
			diff, err := nftcheck.Difference(t)
			var unknown *nftjson.NotUnderstood
			switch {
			case errors.As(err, &unknown):
				fallen[rule]++
				t.Logf("%s: %s: %v", chain, rule, err)
			case err != nil:
				t.Fatal(err)
			case diff != "":
				t.Errorf("%s: %s\n%s", chain, rule, diff)
			}
		}
	}
	t.Logf("%d rules loaded, %d refused, %d fell back", loaded, refused, len(fallen))
}
