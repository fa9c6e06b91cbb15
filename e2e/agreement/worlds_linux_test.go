package agreement

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var bothFamilies = []netstack.Family{netstack.IPv4, netstack.IPv6}

// TestADetourOverAThirdNode sends requests over a node that replies bypass: it
// sees half of each connection, and drops what it takes for invalid.
func TestADetourOverAThirdNode(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "detour", func(s *lab.Spec) {
		third := s.Nodes[1]
		third.Name, third.SecondAddresses = "node-3", nil
		third.Addresses = []netip.Addr{netip.MustParseAddr("172.30.0.13"), netip.MustParseAddr("fd00:172:30::13")}
		third.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:10:244:3::/64")}
		s.Nodes = append(s.Nodes, third)
	})
	const detour = `node-1 {ip} route replace {pods-2} via {node-3}`
	apply(t, l, detour, bothFamilies)
	// kube-proxy's rule is what drops.
	judgeScenario(t, l, &scenario{to: far, reason: verdict.ConntrackInvalid}, bothFamilies)
	judgeScenario(t, l, &scenario{to: far, proto: "udp"}, bothFamilies)
	judgeScenario(t, l, &scenario{to: far, proto: "icmp"}, bothFamilies)
	apply(t, l, `node-3 {iptables} -D KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`, bothFamilies)
	judgeScenario(t, l, &scenario{to: far}, bothFamilies)
}

// TestOneOfTwoWaysIsDead has a route with two next hops, of which one leads
// nowhere: which of them a connection takes, the kernel's hash decides.
func TestOneOfTwoWaysIsDead(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "multipath", nil)
	apply(t, l, `
		node-1 sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1
		node-1 {ip} route replace {pods-2} nexthop via {node-2} nexthop via {nobody}`, bothFamilies)
	world := against.Compile(t, collect(t, l))
	for at, f := range bothFamilies {
		pod, err := l.Spec.Pod(far)
		if err != nil {
			t.Fatal(err)
		}
		to := netip.AddrPortFrom(pod.Addresses[at], 8080)
		r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.TCP})
		simulated := map[string]bool{}
		for _, p := range r.Paths {
			simulated[string(p.Outcome)] = true
		}
		if r.Verdict != verdict.Degraded || len(r.Paths) != 2 || len(simulated) != 2 || r.Reason() != verdict.InvalidRoute {
			t.Errorf("%s: %s, outcomes %v, reasons %v; want degraded by an invalid route, one path for each way", f, r.Verdict, simulated, r.Reasons)
		}
		seen := map[string]bool{}
		for port := uint16(20000); port < 20064 && len(seen) < 2; port++ {
			fate, err := l.Connect(t.Context(), lab.PodEndpoint(web), to, lab.ConnectOptions{SourcePort: port})
			if err != nil {
				t.Fatal(err)
			}
			if seen[fate.Outcome] = true; !simulated[fate.Outcome] {
				t.Fatalf("%s: the kernel made it %s, which no path says: %v", f, fate.Outcome, simulated)
			}
		}
		if len(seen) != 2 {
			t.Errorf("%s: of 64 connections all were %v", f, seen)
		}
	}
}

// TestAPartOfTheClusterIsCollected asks about what lies beyond, with one node and
// its pods collected.
func TestAPartOfTheClusterIsCollected(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "part", nil)
	snapshot, err := collector.New(collector.Options{
		Namespaces:  []string{l.Prefix + "-node-1", l.Prefix + "-shop-web-0", l.Prefix + "-shop-api-0"},
		ManifestDir: l.ClusterDir(),
	}).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	world := against.Compile(t, snapshot)
	for _, test := range []struct {
		name, to string
		port     uint16
		want     verdict.Verdict
		reason   verdict.Code
		boundary bool
	}{
		{"a pod on the node", "pod:" + near, 8080, verdict.Reachable, "", false},
		{"a pod on a node that was not collected", "pod:" + far, 8080, verdict.Unknown, verdict.SnapshotMissing, true},
		{"an address in the range of that node's pods", "10.244.2.200", 80, verdict.Unknown, verdict.SnapshotMissing, true},
		{"that node", "node:node-2", 22, verdict.Unknown, verdict.SnapshotMissing, true},
		{"a service with one backend there", "svc:shop/api", 80, verdict.Unknown, verdict.SnapshotMissing, true},
		{"a service with its only backend there", "svc:shop/db", 5432, verdict.Unknown, verdict.SnapshotMissing, true},
		{"a private address outside of the cluster", "192.168.7.7", 443, verdict.Reachable, verdict.LeavesModel, true},
		{"a public address, with a private source", "8.8.8.8", 443, verdict.Unreachable, verdict.EgressNotTranslated, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: test.to, Port: test.port, Protocol: verdict.TCP})
			if r.Verdict != test.want || r.Reason() != test.reason || r.Boundary != test.boundary {
				t.Errorf("%s %v, boundary %v; want %s %s, %v", r.Verdict, r.Reasons, r.Boundary, test.want, test.reason, test.boundary)
			}
		})
	}
}

// TestANodePortOfAnotherNode is translated there, and comes back from there.
func TestANodePortOfAnotherNode(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "nodeport", nil)
	world := against.Compile(t, collect(t, l))
	for at, f := range bothFamilies {
		for _, from := range []string{web, "node-1"} {
			client, err := l.ParseEndpoint(from)
			if err != nil {
				t.Fatal(err)
			}
			to := netip.AddrPortFrom(l.Spec.Nodes[1].Addresses[at], 30080)
			fate, err := l.Connect(t.Context(), client, to, lab.ConnectOptions{FullSize: true})
			if err != nil {
				t.Fatal(err)
			}
			r := against.Diagnose(t, world, verdict.Query{From: client.String(), To: to.Addr().String(), Port: to.Port(), Protocol: verdict.TCP})
			if len(r.Paths) != 2 {
				t.Fatalf("%s from %s: %d paths, want one for each backend: %v", f, from, len(r.Paths), r.Reasons)
			}
			for i := range r.Paths {
				against.Agree(t, fmt.Sprintf("%s from %s to backend %s", f, from, r.Paths[i].Destination.IP), "tcp", fate, &r.Paths[i], "")
			}
		}
	}
}
