package simulator_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// setFilter gives a node of a cluster these rules in place of its own.
func setFilter(ns *netstack.Namespace, chains, rules string) {
	ns.IPTables[0].Data = []byte("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + chains + rules + "COMMIT\n")
}

// TestChainsThatBranchWithoutEndAreUnknown has rules that would keep the kernel
// busy for hours.
func TestChainsThatBranchWithoutEndAreUnknown(t *testing.T) {
	s := routedCluster("iptables", 1)
	var chains, rules strings.Builder
	rules.WriteString("-A FORWARD -j C0\n")
	for i := range 41 {
		fmt.Fprintf(&chains, ":C%d - [0:0]\n", i)
		if i < 40 {
			rules.WriteString(strings.Repeat(fmt.Sprintf("-A C%d -j C%d\n", i, i+1), 2))
		}
	}
	setFilter(s.Namespaces[0], chains.String(), rules.String())
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "pod:"+podName(1), 8080))
	if r.Verdict != verdict.Unknown || len(r.Paths) != 1 || len(r.Reasons) != 1 || r.Reasons[0].Code != verdict.TooManyBranches ||
		!strings.Contains(r.Reasons[0].Message, "filter") {
		t.Errorf("%s over %d paths: %v", r.Verdict, len(r.Paths), r.Reasons)
	}
}

// TestTooManyQuestionsAreUnknown has more rules that nobody can know than can be
// answered in every combination.
func TestTooManyQuestionsAreUnknown(t *testing.T) {
	s := routedCluster("iptables", 1)
	setFilter(s.Namespaces[0], "", strings.Repeat("-A FORWARD -m limit --limit 1/sec -j MARK --set-mark 1\n", 1000))
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "pod:"+podName(1), 8080))
	if r.Verdict != verdict.Unknown || !slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.TooManyBranches }) {
		t.Errorf("%s over %d paths: %v", r.Verdict, len(r.Paths), r.Reasons)
	}
}

// TestARouteOf64Ways walks all of them.
func TestARouteOf64Ways(t *testing.T) {
	s := routedCluster("iptables", 1)
	node := s.Namespaces[0]
	var hops []netstack.NextHop
	for i := range 64 {
		hops = append(hops, netstack.NextHop{Dev: "eth0", Gateway: netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i)}), Weight: 1})
	}
	for i := range node.Routes {
		if node.Routes[i].Dst.Bits() == 0 {
			node.Routes[i].NextHops = hops
		}
	}
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "198.51.100.1", 443))
	sum := 0.0
	for _, p := range r.Paths {
		sum += *p.Probability
	}
	if len(r.Paths) != 64 || math.Abs(sum-1) > 1e-9 {
		t.Errorf("%s over %d paths of probability %v together: %v", r.Verdict, len(r.Paths), sum, r.Reasons)
	}
}

// TestSegmentsOfAConnectionAreAskedAboutOnce has two rules that nobody can know,
// and one that tells segments apart: each segment by itself would double the
// walks twice.
func TestSegmentsOfAConnectionAreAskedAboutOnce(t *testing.T) {
	s := routedCluster("iptables", 1)
	setFilter(s.Namespaces[0], "", "-A FORWARD -m length --length 9000:9001 -j DROP\n"+
		strings.Repeat("-A FORWARD -m limit --limit 1/sec -j MARK --set-mark 1\n", 2))
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "pod:"+podName(1), 8080))
	if r.Verdict != verdict.Reachable || len(r.Paths) != 1 {
		t.Errorf("%s over %d paths: %v", r.Verdict, len(r.Paths), r.Reasons)
	}
}

// TestTheRuleThatSetTheHopLimitIsNamed where a packet has none left.
func TestTheRuleThatSetTheHopLimitIsNamed(t *testing.T) {
	s := routedCluster("iptables", 1)
	s.Namespaces[0].IPTables[0].Data = []byte("*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j TTL --ttl-set 1\nCOMMIT\n")
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "pod:"+podName(1), 8080))
	const rule = "-A PREROUTING -p tcp -j TTL --ttl-set 1"
	if r.Reason() != verdict.TTLExpired || !slices.Contains(r.Reasons[0].Evidence, rule) || !strings.Contains(r.Reasons[0].Remedy, rule) {
		t.Errorf("%s: %+v", r.Verdict, r.Reasons)
	}
}
