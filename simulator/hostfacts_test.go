package simulator_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// What hosts say of themselves is evidence where it explains, and changes no verdict.
func TestHostsExplain(t *testing.T) {
	fullTable := func(t *testing.T, s *simulator.Snapshot) {
		ns := namespace(t, s, "node-1")
		ns.Sysctls["net.netfilter.nf_conntrack_count"] = ns.Sysctls["net.netfilter.nf_conntrack_max"]
	}
	notReady := func(_ *testing.T, s *simulator.Snapshot) {
		for i := range s.Cluster.Nodes {
			s.Cluster.Nodes[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady"}}
		}
	}
	proxyLags := func(_ *testing.T, s *simulator.Snapshot) {
		for i := range s.Cluster.EndpointSlices {
			slice := &s.Cluster.EndpointSlices[i]
			for j := range slice.Endpoints {
				slice.Endpoints[j].Addresses = []string{"10.244.9.9"}
			}
		}
	}
	message := func(event netstack.KernelEvent, ago time.Duration) netstack.KernelMessage {
		return netstack.KernelMessage{KernelSaid: netstack.KernelSaid{Event: event}, Count: 1, First: time.Time{}.Add(ago), Last: time.Time{}.Add(ago)} // dated below
	}
	conntrack := message(netstack.EventConntrackFull, time.Minute)
	of := func(m netstack.KernelMessage, change func(*netstack.KernelMessage)) netstack.KernelMessage {
		change(&m)
		return m
	}
	toDB := tcp(web, "pod:shop/db-0", 5432)
	for _, test := range []struct {
		name   string
		change func(*testing.T, *simulator.Snapshot)
		facts  netstack.HostFacts
		query  verdict.Query
		code   verdict.Code
		want   []string // parts of the lines that there are more
	}{
		{
			"the kernel says that the table is full", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{conntrack}},
			toDB, verdict.ConntrackTableFull,
			[]string{"the kernel of node node-1 said 1m0s before the state was read: nf_conntrack: table full, dropping packet"},
		},
		{
			"it says so often", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{of(conntrack, func(m *netstack.KernelMessage) { m.Count = 7 })}},
			toDB, verdict.ConntrackTableFull,
			[]string{"said 1m0s before the state was read, and 7 times since 20"},
		},
		{
			"it does not say when", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{{KernelSaid: conntrack.KernelSaid, Count: 7}}},
			toDB, verdict.ConntrackTableFull,
			[]string{"said at some time, 7 times: nf_conntrack"},
		},
		{
			"it said so of this namespace", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{of(conntrack, func(m *netstack.KernelMessage) { m.Namespace = "example-node-1" })}},
			toDB, verdict.ConntrackTableFull,
			[]string{"table full in netns example-node-1"},
		},
		{
			"it said so of another namespace", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{of(conntrack, func(m *netstack.KernelMessage) { m.Namespace = "example-shop-db-0" })}},
			toDB, verdict.ConntrackTableFull, nil,
		},
		{
			"it said so long ago", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{message(netstack.EventConntrackFull, 2*time.Hour)}},
			toDB, verdict.ConntrackTableFull, nil,
		},
		{
			"it says something else", fullTable,
			netstack.HostFacts{Messages: []netstack.KernelMessage{message(netstack.EventNeighbourOverflow, time.Minute)}},
			toDB, verdict.ConntrackTableFull, nil,
		},
		{
			"a process that should listen was killed", nil,
			netstack.HostFacts{Messages: []netstack.KernelMessage{message(netstack.EventCgroupOutOfMemory, time.Second)}},
			tcp(web, "pod:shop/api-0", 8080), verdict.NoListener,
			[]string{"Memory cgroup out of memory"},
		},
		{"the kubelet does not answer", notReady, netstack.HostFacts{
			Kernel: "6.1", Load: [3]float64{80, 70, 60}, Processors: 4, MemoryPressure: 42,
			Daemons: []netstack.Daemon{{Name: "kubelet", Asked: "http://127.0.0.1:10248/healthz", Failure: "connection refused"}, {Name: "crio", Asked: "/run/crio/crio.sock"}},
		}, toDB, verdict.NodeNotReady, []string{
			"runs Linux 6.1 since 0001-01-01T00:00:00Z; load 80.00 70.00 60.00 on 4 processors; tasks waited for memory for 42 % of a minute",
			"kubelet runs on node node-1 since 0001-01-01T00:00:00Z, and does not answer at http://127.0.0.1:10248/healthz: connection refused",
			"crio runs on node node-1 since 0001-01-01T00:00:00Z, and answers at /run/crio/crio.sock",
		}},
		{"there is no kubelet", notReady, netstack.HostFacts{Kernel: "6.1"}, toDB, verdict.NodeNotReady, []string{"runs Linux 6.1", "no process kubelet was found on node node-1"}},
		{"K3s is the kubelet", notReady, netstack.HostFacts{Daemons: []netstack.Daemon{{Name: "k3s-agent"}}}, toDB, verdict.NodeNotReady, []string{"runs Linux", "k3s-agent runs on node node-1"}},
		{"kube-proxy has died", proxyLags, netstack.HostFacts{}, tcp(web, "svc:shop/db", 5432), verdict.ServiceBackendMismatch, []string{"no process kube-proxy was found on node node-1"}},
		{
			"kube-proxy says its mode", proxyLags,
			netstack.HostFacts{ProxyMode: "nftables", Daemons: []netstack.Daemon{{Name: "kube-proxy", Asked: "http://127.0.0.1:10249/proxyMode"}}},
			tcp(web, "svc:shop/db", 5432), verdict.ServiceBackendMismatch,
			[]string{"answers at http://127.0.0.1:10249/proxyMode, in mode nftables"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			find := func(r *verdict.Report) verdict.Finding {
				i := slices.IndexFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == test.code })
				if i < 0 {
					t.Fatalf("%s is not among %v", test.code, r.Reasons)
				}
				return r.Reasons[i]
			}
			change := func(s *simulator.Snapshot) {
				if test.change != nil {
					test.change(t, s)
				}
			}
			before := diagnose(t, world(t, change), test.query)
			after := diagnose(t, world(t, func(s *simulator.Snapshot) {
				change(s)
				for i := range s.Namespaces {
					ns := s.Namespaces[i]
					if ns.Kind != netstack.KindNode {
						continue
					}
					facts := test.facts
					facts.Messages = slices.Clone(facts.Messages)
					for j := range facts.Messages {
						m := &facts.Messages[j]
						if ago := m.Last.Sub(time.Time{}); ago > 0 {
							m.First, m.Last = s.TakenAt(ns).Add(-ago), s.TakenAt(ns).Add(-ago)
						}
					}
					ns.Facts = &facts
				}
			}), test.query)
			if after.Verdict != before.Verdict || after.Reason() != before.Reason() || len(after.Reasons) != len(before.Reasons) {
				t.Errorf("%s %s, and without facts %s %s", after.Verdict, after.Reason(), before.Verdict, before.Reason())
			}
			had, has := find(before).Evidence, find(after).Evidence
			if len(has) != len(had)+len(test.want) {
				t.Fatalf("evidence %q, and without facts %q", has, had)
			}
			for i, want := range test.want {
				if line := has[len(had)+i]; !strings.Contains(line, want) {
					t.Errorf("%q has not %q", line, want)
				}
			}
			if test.facts.ProxyMode != "" && !strings.Contains(find(after).Message, "in "+test.facts.ProxyMode+" on node") {
				t.Error(find(after).Message)
			}
		})
	}
}

// A message that names an address or a port is about that alone.
func TestHostEvidence(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		for _, ns := range s.Namespaces {
			if ns.Kind != netstack.KindNode {
				continue
			}
			said := func(said netstack.KernelSaid) netstack.KernelMessage {
				return netstack.KernelMessage{KernelSaid: said, Count: 1}
			}
			ns.Facts = &netstack.HostFacts{Messages: []netstack.KernelMessage{
				said(netstack.KernelSaid{Event: netstack.EventSYNFlood, Port: 5432}),
				said(netstack.KernelSaid{Event: netstack.EventSYNFlood, Port: 80}),
				said(netstack.KernelSaid{Event: netstack.EventDuplicateAddress, Device: "eth0", Address: netip.MustParseAddr("fd00:dead::1")}),
				said(netstack.KernelSaid{Event: netstack.EventOutOfMemory}),
			}}
		}
	})
	lines := w.HostEvidence(diagnose(t, w, tcp(web, "pod:shop/db-0", 5432)))
	if len(lines) != 2 || !strings.Contains(lines[0], "SYN flooding on port 5432") || !strings.Contains(lines[1], "SYN flooding on port 5432") {
		t.Errorf("%q", lines)
	}
}
