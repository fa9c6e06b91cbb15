package simulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// withServices gives node-1 of the sample n services of three endpoints each, in
// the shape of kube-proxy's rules; the last of them has db-0 as an endpoint, three
// times over.
func withServices(tb testing.TB, n int) *simulator.Snapshot {
	tb.Helper()
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		tb.Fatal(err)
	}
	var chains, rules strings.Builder
	for i := range n {
		vip := fmt.Sprintf("10.97.%d.%d", i>>8, i&255)
		fmt.Fprintf(&chains, ":KUBE-SVC-%08X - [0:0]\n", i)
		fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"shop/s-%d cluster IP\" -m tcp --dport 80 -j KUBE-SVC-%08X\n", vip, i, i)
		fmt.Fprintf(&rules, "-A KUBE-SVC-%08X ! -s 10.244.0.0/16 -d %s/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n", i, vip)
		for e := range 3 {
			pod := fmt.Sprintf("10.244.%d.%d", 100+i>>6, (i&63)*3+e)
			if i == n-1 {
				pod = "10.244.2.30"
			}
			statistic := ""
			if e < 2 {
				statistic = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(3-e))
			}
			fmt.Fprintf(&chains, ":KUBE-SEP-%08X-%d - [0:0]\n", i, e)
			fmt.Fprintf(&rules, "-A KUBE-SVC-%08X%s -j KUBE-SEP-%08X-%d\n", i, statistic, i, e)
			fmt.Fprintf(&rules, "-A KUBE-SEP-%08X-%d -s %s/32 -j KUBE-MARK-MASQ\n", i, e, pod)
			fmt.Fprintf(&rules, "-A KUBE-SEP-%08X-%d -p tcp -m tcp -j DNAT --to-destination %s:5432\n", i, e, pod)
		}
	}
	for i := range namespace(tb, s, "node-1").IPTables {
		d := &namespace(tb, s, "node-1").IPTables[i]
		before, nat, found := strings.Cut(string(d.Data), "*nat\n")
		if d.Family != netstack.IPv4 || !found {
			continue
		}
		body, after, found := strings.Cut(nat, "COMMIT\n")
		if !found {
			tb.Fatalf("%s: table nat has no end", d.File)
		}
		d.Data = []byte(before + "*nat\n" + chains.String() + body + rules.String() + "COMMIT\n" + after)
		return s
	}
	tb.Fatal("node-1 has no nat table")
	return nil
}

// lastOf1000 asks for the service that comes last in the rules.
var lastOf1000 = tcp(web, "10.97.3.231", 80)

func compileWorld(tb testing.TB, s *simulator.Snapshot) *simulator.World {
	tb.Helper()
	w, err := simulator.Compile(s)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// TestAThousandServices makes sure that the benchmarks measure what they say.
func TestAThousandServices(t *testing.T) {
	r := diagnose(t, compileWorld(t, withServices(t, 1000)), lastOf1000)
	if r.Verdict != verdict.Reachable || len(r.Paths) != 3 {
		t.Fatalf("%s over %d paths: %v", r.Verdict, len(r.Paths), r.Reasons)
	}
	for _, p := range r.Paths {
		if p.Destination.IP != "10.244.2.30" || p.Destination.Port != 5432 || *p.Probability < 0.33 || *p.Probability > 0.34 {
			t.Errorf("a path leads to %v with probability %v", p.Destination, *p.Probability)
		}
	}
}

// BenchmarkCompile compiles the seven namespaces of the sample, as they are and
// with 1,000 services on a node.
func BenchmarkCompile(b *testing.B) {
	for name, services := range map[string]int{"sample": 0, "1000 services": 1000} {
		b.Run(name, func(b *testing.B) {
			s := withServices(b, services)
			b.ReportAllocs()
			for b.Loop() {
				compileWorld(b, s)
			}
		})
	}
}

// BenchmarkDiagnose makes whole reports: every leg, with its trace.
func BenchmarkDiagnose(b *testing.B) {
	w := compileWorld(b, withServices(b, 1000))
	icmp := verdict.Query{From: web, To: "pod:shop/db-0", Protocol: verdict.ICMP}
	for name, q := range map[string]verdict.Query{
		"echo across nodes, two packets":        icmp,
		"pod across nodes, four packets":        tcp(web, "pod:shop/db-0", 5432),
		"pod across nodes, dropped":             tcp(web, "pod:shop/api-1", 8080),
		"service with 1 backend":                tcp(web, "svc:shop/db", 5432),
		"last of 1000 services, three backends": lastOf1000,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Diagnose(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
