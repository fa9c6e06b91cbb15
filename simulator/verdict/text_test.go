package verdict_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestText compares reports for people with the files in testdata.
func TestText(t *testing.T) {
	half := 0.5
	at := verdict.Where{Namespace: "node-2", Node: "node-2", Interface: "cni0"}
	drop := verdict.NewFindingf(verdict.NetfilterDrop, at, []string{"-A FORWARD -d 10.244.2.20/32 -p tcp -m tcp --dport 8080 -j DROP"},
		"packet dropped by filter/FORWARD rule 1: -A FORWARD -d 10.244.2.20/32 -p tcp -m tcp --dport 8080 -j DROP on node node-2")
	unmodelled := verdict.NewFindingf(verdict.UnmodelledRule, at, nil, "filter/FORWARD rule 7 uses match u32, which is not modelled")
	query := verdict.Query{From: "pod:shop/web-0", To: "svc:shop/api", Port: 80, Protocol: verdict.TCP}
	for name, r := range map[string]*verdict.Report{
		"reachable": {
			Query: verdict.Query{From: "pod:shop/web-0", To: "10.244.2.30", Protocol: verdict.ICMP}, Verdict: verdict.Reachable,
			Policy: verdict.Policy{Verdict: verdict.PolicyNone},
			Paths: []verdict.Path{{
				Verdict: verdict.Reachable, Outcome: verdict.OutcomeAnswered, Delivered: true,
				Hops: []verdict.Hop{
					{Namespace: "shop-web-0", Kind: verdict.HopPod, Out: "eth0"},
					{Kind: verdict.HopWire, In: "eth0", Out: "eth0"},
					{Namespace: "shop-db-0", Kind: verdict.HopPod, In: "eth0"},
				},
				Reverse: []verdict.Hop{{Namespace: "shop-db-0", Kind: verdict.HopPod, Out: "eth0"}, {Namespace: "shop-web-0", Kind: verdict.HopPod, In: "eth0"}},
			}},
		},
		"degraded": {
			Query: query, Verdict: verdict.Degraded, Reasons: []verdict.Finding{drop},
			Policy:      verdict.Policy{Verdict: verdict.PolicyDeny, Policies: []string{"shop/deny-all", "shop/deny-web"}},
			Assumptions: []string{"the client's port is an ephemeral one: 45678 stands for all"},
			Paths: []verdict.Path{
				{Probability: &half, Verdict: verdict.Reachable, Outcome: verdict.OutcomeEstablished, Delivered: true, Hops: []verdict.Hop{
					{Namespace: "shop-web-0", Kind: verdict.HopPod, Out: "eth0"},
					{Namespace: "shop-api-0", Kind: verdict.HopPod, In: "eth0"},
				}},
				{Probability: &half, Verdict: verdict.Unreachable, Outcome: verdict.OutcomeTimeout, Findings: []verdict.Finding{drop}, Hops: []verdict.Hop{
					{Namespace: "shop-web-0", Kind: verdict.HopPod, Out: "eth0"},
					{Namespace: "node-2", Kind: verdict.HopNode, In: "eth0", Findings: []verdict.Finding{drop}, Steps: []verdict.Step{
						{Stage: "nat/PREROUTING", Action: "DNAT", Packet: "tcp 10.244.1.10:45678 > 10.244.2.20:8080"},
						{Stage: "filter/FORWARD", Action: "DROP"},
					}},
				}},
			},
		},
		"unknown": {
			Query: query, Verdict: verdict.Unknown, Reasons: []verdict.Finding{unmodelled, drop},
			Policy:   verdict.Policy{Verdict: verdict.PolicyAllow},
			Coverage: verdict.Coverage{Rules: 120, Unmodelled: 1},
			Paths:    []verdict.Path{{Verdict: verdict.Unknown, Outcome: verdict.OutcomeUnknown, Findings: []verdict.Finding{unmodelled}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if err := r.WriteText(&got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTextHasNoSpaceAtTheEndOfLines(t *testing.T) {
	var text strings.Builder
	r := verdict.Report{Verdict: verdict.Reachable, Policy: verdict.Policy{Verdict: verdict.PolicyNone}, Paths: []verdict.Path{{Verdict: verdict.Reachable, Outcome: verdict.OutcomeEstablished, Hops: []verdict.Hop{{Namespace: "node-1", Kind: verdict.HopNode}}}}}
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "node-1 ") {
		t.Errorf("no hop in %q", &text)
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasSuffix(line, " \n") {
			t.Errorf("%q ends with a space", line)
		}
	}
}
