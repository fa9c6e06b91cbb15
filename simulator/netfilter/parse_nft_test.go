package netfilter

import (
	"os"
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
	if rules != 92 || unmodelled != 14 {
		t.Errorf("Coverage() = %d, %d", rules, unmodelled)
	}
	want := []OpaqueChain{
		{Family: "arp", Table: "b", Chain: "f", Hook: "input"},
		{Family: "bridge", Table: "b", Chain: "f", Hook: "forward"},
		{Family: "inet", Table: "t2", Chain: "i", Hook: "ingress"},
		{Family: "netdev", Table: "nd", Chain: "i", Hook: "ingress"},
	}
	if diff := cmp.Diff(want, rs.Opaque()); diff != "" {
		t.Errorf("Opaque() (-want +got):\n%s", diff)
	}
	for _, hook := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
		for _, op := range rs.pipelines[0][hook].ops {
			if op.chain == nil {
				continue
			}
			for _, r := range op.chain.rules {
				t.Logf("%s %s", op.chain.name, r.text)
				for _, s := range r.steps {
					for _, m := range s.matches {
						if u, ok := m.(unknownMatch); ok {
							t.Logf("     unknown: %s", u.what)
						}
					}
					if u, ok := s.action.(*unknownAction); ok {
						t.Logf("     unknown: %s", u.what)
					}
				}
			}
		}
	}
}
