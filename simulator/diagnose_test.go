package simulator_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// world compiles the sample bundle after a change: the lab in which a rule of
// node-2 drops what goes to api-1, and nothing listens in api-0.
func world(t testing.TB, change func(*simulator.Snapshot)) *simulator.World {
	t.Helper()
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	w, err := simulator.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// namespace finds a namespace of the sample by the end of its name.
func namespace(t testing.TB, s *simulator.Snapshot, name string) *netstack.Namespace {
	t.Helper()
	at := slices.IndexFunc(s.Namespaces, func(ns *netstack.Namespace) bool { return ns.Name == "example-"+name })
	if at < 0 {
		t.Fatalf("no namespace %s in the sample", name)
	}
	return s.Namespaces[at]
}

func without(s *simulator.Snapshot, name string) {
	s.Namespaces = slices.DeleteFunc(s.Namespaces, func(ns *netstack.Namespace) bool { return ns.Name == "example-"+name })
}

func diagnose(t testing.TB, w *simulator.World, q verdict.Query) *verdict.Report {
	t.Helper()
	r, err := w.Diagnose(q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tcp(from, to string, port uint16) verdict.Query {
	return verdict.Query{From: from, To: to, Port: port, Protocol: verdict.TCP}
}

const web = "pod:shop/web-0"

func TestWhatCannotBeResolvedIsUnknownAndSaysWhy(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) { without(s, "shop-db-0") })
	for _, test := range []struct {
		query   verdict.Query
		code    verdict.Code
		message string
	}{
		{tcp("pod:shop/nobody", web, 80), verdict.EndpointUnresolved, "there is no pod shop/nobody in the snapshot"},
		{tcp(web, "svc:shop/nothing", 80), verdict.EndpointUnresolved, "there is no service shop/nothing in the snapshot"},
		{tcp("node:node-9", web, 80), verdict.EndpointUnresolved, "there is no node node-9 in the snapshot"},
		{tcp("ns:elsewhere", web, 80), verdict.EndpointUnresolved, "there is no network namespace elsewhere in the snapshot"},
		{tcp("dns:api.shop", web, 80), verdict.EndpointUnresolved, "dns:api.shop: a name sends no packets; ask about a pod, a node or an address"},
		{tcp("svc:shop/api", web, 80), verdict.EndpointUnresolved, "svc:shop/api: a service sends no packets; ask about one of its pods"},
		{tcp("10.244.1.10", "fd00:10:244:2::20", 80), verdict.EndpointUnresolved, "10.244.1.10 and fd00:10:244:2::20 have no address of the same IP version"},
		{tcp("203.0.113.9", web, 80), verdict.EndpointUnresolved, `no collected namespace has the address 203.0.113.9; say with "via" where its packets enter`},
		{verdict.Query{From: web, To: "0.0.0.0", Port: 80, Protocol: verdict.SCTP}, verdict.EndpointUnresolved, "0.0.0.0 cannot be reached: SCTP connects to no unspecified address"},
		{tcp("10.244.2.99", web, 80), verdict.SnapshotMissing, "10.244.2.99 lies in the pod range 10.244.2.0/24 of node node-2, but nothing collected has this address"},
		{tcp("pod:shop/db-0", web, 8080), verdict.SnapshotMissing, `the network namespace of pod shop/db-0 on node "node-2" was not collected`},
		{
			verdict.Query{From: "203.0.113.9", To: web, Port: 80, Protocol: verdict.TCP, Via: &verdict.Via{Namespace: "example-node-1", Interface: "eth9"}},
			verdict.EndpointUnresolved, "via: there is no interface eth9 in node node-1",
		},
	} {
		r := diagnose(t, w, test.query)
		if r.Verdict != verdict.Unknown || r.Reason() != test.code || r.Reasons[0].Message != test.message || len(r.Paths) != 0 {
			t.Errorf("%s -> %s: %s %v, want unknown %s %q", test.query.From, test.query.To, r.Verdict, r.Reasons, test.code, test.message)
		}
	}
}

// Where a pod that does not run leaves no packet to follow, that is the reason: neither its
// name is wrong, nor does an agent fail to collect its network namespace.
func TestAPodThatIsNotThere(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		ended("10.244.2.40")(t, s)
		s.Cluster.Pods = append(s.Cluster.Pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "new"}, Status: corev1.PodStatus{Phase: corev1.PodPending},
		})
		for i := range s.Cluster.Pods {
			if p := &s.Cluster.Pods[i]; p.Name == "api-0" { // whose init containers run, and of which the kubelet has not told
				p.Status = corev1.PodStatus{Phase: corev1.PodPending}
			}
		}
	})
	const pending, ended = "pod shop/new is Pending, not Running", "pod shop/job-0 is Succeeded, not Running"
	for _, test := range []struct {
		query   verdict.Query
		want    verdict.Verdict
		message string
		paths   int
	}{
		{tcp(web, "pod:shop/new", 80), verdict.Unreachable, pending, 0},
		{tcp("pod:shop/new", web, 80), verdict.Unknown, pending, 0},
		{tcp("pod:shop/new", "svc:shop/db", 5432), verdict.Unknown, pending, 0},
		{tcp("pod:shop/job-0", web, 80), verdict.Unknown, ended, 0},
		{tcp("pod:shop/job-0", "pod:shop/new", 80), verdict.Unreachable, pending, 0},
		{tcp("pod:shop/api-0", "pod:shop/db-0", 5432), verdict.Reachable, "pod shop/api-0 is Pending, not Running", 1},
	} {
		r := diagnose(t, w, test.query)
		if r.Verdict != test.want || r.Reason() != verdict.PodNotRunning || r.Reasons[0].Message != test.message || len(r.Reasons) != 1 || len(r.Paths) != test.paths {
			t.Errorf("%s -> %s: %s %v, %d paths, want %s %q", test.query.From, test.query.To, r.Verdict, r.Reasons, len(r.Paths), test.want, test.message)
		}
	}
}

func TestResourcesThatWereNotReadAreNamed(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		s.Cluster.Services = nil
		s.Cluster.Missing = map[string]string{"services": "forbidden"}
	})
	r := diagnose(t, w, tcp(web, "svc:shop/db", 5432))
	const want = "there may be a service shop/db, but what there is of the cluster's services is not known: forbidden"
	if r.Verdict != verdict.Unknown || r.Reason() != verdict.EndpointUnresolved || r.Reasons[0].Message != want {
		t.Errorf("got %s %v", r.Verdict, r.Reasons)
	}
	r = diagnose(t, w, tcp(web, "pod:shop/db-0", 5432))
	if r.Verdict != verdict.Reachable || !slices.Contains(r.Assumptions, "what there is of the cluster's services is not known: forbidden") {
		t.Errorf("got %s %v, assuming %q", r.Verdict, r.Reasons, r.Assumptions)
	}
}

// A proxy's rules cannot be held against endpoints that nobody knows.
func TestEndpointsThatWereNotReadAreNoneThatLack(t *testing.T) {
	for _, resource := range []string{"endpointslices", "nodes"} {
		w := world(t, func(s *simulator.Snapshot) {
			s.Cluster.EndpointSlices = nil
			s.Cluster.Missing = map[string]string{resource: "forbidden"}
		})
		r := diagnose(t, w, tcp(web, "svc:shop/db", 5432))
		if r.Verdict != verdict.Reachable || slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool {
			return f.Code == verdict.ServiceNoEndpoints || f.Code == verdict.ServiceBackendMismatch
		}) {
			t.Errorf("without %s: %s %v", resource, r.Verdict, r.Reasons)
		}
	}
}

func TestEndpointsOfEveryKind(t *testing.T) {
	w := world(t, nil)
	for _, test := range []struct {
		query verdict.Query
		want  verdict.Verdict
	}{
		{tcp(web, "pod:shop/db-0", 5432), verdict.Reachable},
		{tcp(web, "svc:shop/db", 5432), verdict.Reachable},
		{tcp("10.244.1.10", "10.244.2.30", 5432), verdict.Reachable},
		{tcp("fd00:10:244:1::10", "pod:shop/db-0", 5432), verdict.Reachable},
		{tcp("node:node-1", "pod:shop/db-0", 5432), verdict.Reachable},
		{tcp("ns:example-shop-web-0", "ns:example-shop-db-0", 5432), verdict.Reachable},
		{verdict.Query{From: web, To: "node:node-2", Protocol: verdict.ICMP}, verdict.Reachable},
		{
			verdict.Query{
				From: "172.30.0.1", To: "10.244.2.30", Port: 5432, Protocol: verdict.TCP,
				Via: &verdict.Via{Namespace: "example-node-2", Interface: "eth0"},
			}, verdict.Reachable,
		},
		{tcp(web, "pod:shop/api-0", 8080), verdict.Unreachable},
		{tcp(web, "pod:shop/api-1", 8080), verdict.Unreachable},
	} {
		if r := diagnose(t, w, test.query); r.Verdict != test.want {
			t.Errorf("%s -> %s: %s, want %s: %v", test.query.From, test.query.To, r.Verdict, test.want, r.Reasons)
		}
	}
}

// TestWhatIsMissingIsUnknownOnlyWhereItDecides takes parts of the state away.
func TestWhatIsMissingIsUnknownOnlyWhereItDecides(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*testing.T, *simulator.Snapshot)
		query  verdict.Query
		want   verdict.Verdict
		reason verdict.Code
	}{
		{"the sockets of the destination", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "shop-db-0").Parts, netstack.PartSockets)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.SnapshotMissing},
		{"the sockets of the source", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "shop-web-0").Parts, netstack.PartSockets)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, ""},
		{"the routes of a node on the way", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "node-2").Parts, netstack.PartRoutes4)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.SnapshotMissing},
		{"the routes of a node that is not on the way", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "node-2").Parts, netstack.PartRoutes4)
		}, tcp(web, "pod:shop/api-0", 8080), verdict.Unreachable, verdict.NoListener},
		{"the IPv6 rules, for an IPv4 packet", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "node-2").Parts, netstack.PartRules6)
		}, tcp(web, "10.244.2.30", 5432), verdict.Reachable, ""},
		{"the sysctls of a node", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "node-2").Parts, netstack.PartSysctls)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.SnapshotMissing},
		{"iptables, which a collector failed to read", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-2").SetPart(netstack.PartIPTables4, netstack.Status{State: netstack.StateFailed, Detail: "iptables-nft-save: not found"})
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.CollectorFailed},
		{"the tc filters, which are taken as none", func(t *testing.T, s *simulator.Snapshot) {
			delete(namespace(t, s, "node-2").Parts, netstack.PartTC)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, ""},
		{"the tc filters, which a collector failed to read", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-2").SetPart(netstack.PartTC, netstack.Status{State: netstack.StateFailed, Detail: "busy"})
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.CollectorFailed},
		{"the IPsec policies, which a collector failed to read", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-2").SetPart(netstack.PartXFRM, netstack.Status{State: netstack.StateFailed, Detail: "busy"})
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.CollectorFailed},
		{"the eBPF programs of a node on the way, which a collector failed to read", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-2").SetPart(netstack.PartBPF, netstack.Status{State: netstack.StateFailed, Detail: "busy"})
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.CollectorFailed},
		{"the eBPF programs of the source, which may send it elsewhere", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-web-0").SetPart(netstack.PartBPF, netstack.Status{State: netstack.StateFailed, Detail: "busy"})
		}, tcp(web, "pod:shop/db-0", 5433), verdict.Unknown, verdict.CollectorFailed},
		{
			"a node on the way", func(_ *testing.T, s *simulator.Snapshot) { without(s, "node-2") },
			tcp(web, "10.244.2.30", 5432), verdict.Unknown, verdict.SnapshotMissing,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, world(t, func(s *simulator.Snapshot) { test.change(t, s) }), test.query)
			if r.Verdict != test.want || r.Reason() != test.reason {
				t.Errorf("%s %v, want %s %s", r.Verdict, r.Reasons, test.want, test.reason)
			}
		})
	}
}

// Whose socket it is, decides in rules for users, and of a query without uid nobody knows.
func TestRulesForUsers(t *testing.T) {
	nobody, root, other := (*uint32)(nil), new(uint32(0)), new(uint32(1000))
	forRoot := netstack.Rule{Family: netstack.IPv4, Priority: 100, Action: netstack.RuleUnreachable, UID: &netstack.UIDRange{First: 0, Last: 0}}
	forOther := forRoot
	forOther.UID = &netstack.UIDRange{First: 1000, Last: 1000}
	ofAnotherPort := forRoot
	ofAnotherPort.DPort = &netstack.PortRange{First: 443, Last: 443}
	owner := netstack.IPTablesDump{Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables.txt", Data: []byte("*filter\n:OUTPUT ACCEPT\n-A OUTPUT -m owner --uid-owner 0 -j DROP\nCOMMIT\n")}}
	const unsaid = "of a query without uid"
	for _, test := range []struct {
		name   string
		at     string
		rule   *netstack.Rule
		uid    *uint32
		want   verdict.Verdict
		reason verdict.Code
		text   string
	}{
		{"a route for root", "shop-web-0", &forRoot, root, verdict.Unreachable, verdict.RouteUnreachable, "rule 100"},
		{"a route for root, of another", "shop-web-0", &forRoot, other, verdict.Reachable, "", ""},
		{"a route for root, of nobody knows whom", "shop-web-0", &forRoot, nobody, verdict.Unknown, verdict.UnmodelledRule, "a rule for users, " + unsaid},
		{"a route for others", "shop-web-0", &forOther, other, verdict.Unreachable, verdict.RouteUnreachable, "rule 100"},
		{"a route for others, of nobody knows whom", "shop-web-0", &forOther, nobody, verdict.Unknown, verdict.UnmodelledRule, "a rule for users, " + unsaid},
		{"a route for root, to another port", "shop-web-0", &ofAnotherPort, nobody, verdict.Reachable, "", ""},
		{"a route for root, forwarded", "node-1", &forRoot, other, verdict.Unreachable, verdict.RouteUnreachable, "rule 100"}, // no socket is root's
		{"a route for others, forwarded", "node-1", &forOther, nobody, verdict.Reachable, "", ""},
		{"an answer's route for root", "shop-db-0", &forRoot, nobody, verdict.Unreachable, verdict.RouteUnreachable, "rule 100"}, // whose socket is known
		{"root dropped", "shop-web-0", nil, root, verdict.Unreachable, verdict.NetfilterDrop, "--uid-owner 0"},
		{"root dropped, of another", "shop-web-0", nil, other, verdict.Reachable, "", ""},
		{"root dropped, of nobody knows whom", "shop-web-0", nil, nobody, verdict.Unknown, verdict.UnmodelledRule, "match owner " + unsaid},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world(t, func(s *simulator.Snapshot) {
				ns := namespace(t, s, test.at)
				if test.rule != nil {
					ns.Rules = append([]netstack.Rule{*test.rule}, ns.Rules...)
				} else {
					ns.IPTables = append(ns.IPTables, owner)
				}
			})
			q := tcp(web, "pod:shop/db-0", 5432)
			q.UID = test.uid
			r := diagnose(t, w, q)
			if r.Verdict != test.want || r.Reason() != test.reason || test.text != "" && !strings.Contains(r.Reasons[0].Message+strings.Join(r.Reasons[0].Evidence, " "), test.text) {
				t.Errorf("%s %v, want %s %s %q", r.Verdict, r.Reasons, test.want, test.reason, test.text)
			}
		})
	}
}

// TestWhatIsNotModelledIsNeverSeenThrough adds what the simulator does not
// evaluate.
func TestWhatIsNotModelledIsNeverSeenThrough(t *testing.T) {
	toDB := tcp(web, "pod:shop/db-0", 5432)
	toDropped := tcp(web, "pod:shop/api-1", 8080)
	rule := func(t *testing.T, s *simulator.Snapshot, line string) {
		t.Helper()
		for i := range namespace(t, s, "node-2").IPTables {
			d := &namespace(t, s, "node-2").IPTables[i]
			if d.Family == netstack.IPv4 && strings.Contains(string(d.Data), "-A FORWARD") {
				d.Data = []byte(strings.Replace(string(d.Data), "-A FORWARD", line+"\n-A FORWARD", 1))
				return
			}
		}
		t.Fatal("node-2 has no FORWARD rules")
	}
	for _, test := range []struct {
		name   string
		change func(*testing.T, *simulator.Snapshot)
		query  verdict.Query
		want   verdict.Verdict
		reason verdict.Code
		text   string // in the message
	}{
		{"a match that decides", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p tcp -m string --string "x" --algo bm -j DROP`)
		}, toDB, verdict.Unknown, verdict.UnmodelledRule, "string"},
		{"a match that decides nothing, since the packet is dropped anyway", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p tcp -m string --string "x" --algo bm -j DROP`)
		}, toDropped, verdict.Unreachable, verdict.NetfilterDrop, ""},
		{"a match in a rule for other packets", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p udp -m string --string "x" --algo bm -j DROP`)
		}, toDB, verdict.Reachable, "", ""},
		{"a rate limit", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p tcp -m limit --limit 5/sec -j DROP`)
		}, toDB, verdict.Unknown, verdict.UnmodelledRule, "limit"},
		{"dice", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p tcp -m tcp --syn -m statistic --mode random --probability 0.25 -j DROP`)
		}, toDB, verdict.Degraded, verdict.NetfilterDrop, "statistic"},
		{"a queue to user space", func(t *testing.T, s *simulator.Snapshot) {
			rule(t, s, `-A FORWARD -p tcp -j NFQUEUE --queue-num 1`)
		}, toDB, verdict.Unknown, verdict.UserspaceDecides, "NFQUEUE"},
		{"an XDP program", func(t *testing.T, s *simulator.Snapshot) {
			for i := range namespace(t, s, "node-2").Links {
				l := &namespace(t, s, "node-2").Links[i]
				l.XDP = l.Name == "eth0"
			}
		}, toDB, verdict.Unknown, verdict.EBPFOpaque, "XDP"},
		{"a tc filter", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-1").TC = netstack.Text{File: "tc.json", Data: []byte(`[{"dev":"eth0","protocol":"all","kind":"bpf"}]`)}
		}, toDB, verdict.Unknown, verdict.TCDrop, "eth0"},
		{"a program of a cgroup", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-web-0").BPF = netstack.Text{File: "bpf.json", Data: []byte(`[{"cgroup":[{"attach_type":"cgroup_inet4_connect","prog_id":7}]}]`)}
		}, toDB, verdict.Unknown, verdict.EBPFOpaque, "cgroup_inet4_connect program 7"},
		{"a program of a cgroup that drops, perhaps", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").BPF = netstack.Text{File: "bpf.json", Data: []byte(`[{"cgroup":[{"attach_type":"cgroup_inet_ingress","prog_id":8}]}]`)}
		}, toDB, verdict.Unknown, verdict.EBPFOpaque, "cgroup_inet_ingress program 8"},
		{"a program at a hook of netfilter", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-1").BPF = netstack.Text{File: "bpf.json", Data: []byte(`[{"netfilter":[{"pf":2,"hook":2,"prio":-128,"prog_id":9}]}]`)}
		}, toDB, verdict.Unknown, verdict.EBPFOpaque, "netfilter FORWARD program 9"},
		{"programs that this packet does not meet, and a route that ends it", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "node-1").BPF = netstack.Text{File: "bpf.json", Data: []byte(`[{"netfilter":[{"pf":10,"hook":2,"prog_id":9},{"pf":2,"hook":1,"prog_id":9}],"cgroup":[{"attach_type":"cgroup_device","prog_id":7},{"attach_type":"cgroup_inet6_connect","prog_id":7}]}]`)}
			rule(t, s, `-A FORWARD -p tcp -j DROP`)
		}, toDB, verdict.Unreachable, verdict.NetfilterDrop, "FORWARD"},
		{"IPsec policies", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-web-0").XFRM = netstack.Text{File: "xfrm.txt", Data: []byte("src 10.0.0.0/8 dst 10.0.0.0/8\n\tdir out priority 0 ptype main\n\ttmpl src 1.1.1.1 dst 2.2.2.2\n\t\tproto esp reqid 0 mode tunnel\n")}
		}, toDB, verdict.Unknown, verdict.EncryptionOpaque, "IPsec"},
		{"an IPVS service without destinations", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").IPVS = netstack.Text{File: "ipvsadm-save.txt", Data: []byte("-A -t 10.244.2.30:5432 -s rr\n")}
		}, toDB, verdict.Unreachable, verdict.IPVSNoDestination, "no destination for 10.244.2.30:5432"},
		{"an IPVS service with a destination here", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").IPVS = netstack.Text{File: "ipvsadm-save.txt", Data: []byte("-A -t 10.244.2.30:5432 -s rr\n-a -t 10.244.2.30:5432 -r 10.244.2.30:5432 -m -w 1\n")}
		}, toDB, verdict.Reachable, "", ""},
		{"an IPVS service that could not be read", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").SetPart(netstack.PartIPVS, netstack.Status{State: netstack.StateFailed, Detail: "busy"})
		}, toDB, verdict.Unknown, verdict.CollectorFailed, "busy"},
		{"an IPVS service of another port", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").IPVS = netstack.Text{File: "ipvsadm-save.txt", Data: []byte("-A -t 10.244.2.30:80 -s rr\n")}
		}, toDB, verdict.Reachable, "", ""},
		{"a device of another kind", func(t *testing.T, s *simulator.Snapshot) {
			for i := range namespace(t, s, "node-1").Links {
				if l := &namespace(t, s, "node-1").Links[i]; l.Name == "eth0" {
					l.Kind = "geneve"
				}
			}
		}, toDB, verdict.Unknown, verdict.UnmodelledRule, "geneve"},
		{"a full conntrack table", func(t *testing.T, s *simulator.Snapshot) {
			ns := namespace(t, s, "node-1")
			ns.Sysctls["net.netfilter.nf_conntrack_count"] = ns.Sysctls["net.netfilter.nf_conntrack_max"]
		}, toDB, verdict.Unreachable, verdict.ConntrackTableFull, "node-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, world(t, func(s *simulator.Snapshot) { test.change(t, s) }), test.query)
			if r.Verdict != test.want || r.Reason() != test.reason || test.text != "" && !strings.Contains(r.Reasons[0].Message, test.text) {
				t.Errorf("%s %v, want %s %s with %q", r.Verdict, r.Reasons, test.want, test.reason, test.text)
			}
		})
	}
}

func TestObjectsExplainWhatTheDataplaneMeets(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*testing.T, *simulator.Snapshot)
		query  verdict.Query
		want   verdict.Verdict
		codes  []verdict.Code // in this order, whatever else
	}{
		{"a service without endpoints", func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.EndpointSlices = nil
		}, tcp(web, "svc:shop/api", 80), verdict.Unreachable, []verdict.Code{verdict.ServiceNoEndpoints}},
		{"a port that the service does not have", nil, tcp(web, "svc:shop/db", 80), verdict.Unreachable, []verdict.Code{verdict.ServiceNoSuchPort}},
		{"a service proxy that lags behind", func(_ *testing.T, s *simulator.Snapshot) {
			for i := range s.Cluster.EndpointSlices {
				for j := range s.Cluster.EndpointSlices[i].Endpoints {
					e := &s.Cluster.EndpointSlices[i].Endpoints[j]
					for k, a := range e.Addresses {
						if a == "10.244.2.30" {
							e.Addresses[k] = "10.244.2.31"
						}
					}
				}
			}
		}, tcp(web, "svc:shop/db", 5432), verdict.Reachable, []verdict.Code{verdict.ServiceBackendMismatch}},
		{"a pod that is not running, where nobody listens", func(_ *testing.T, s *simulator.Snapshot) {
			for i := range s.Cluster.Pods {
				if p := &s.Cluster.Pods[i]; p.Name == "api-0" {
					p.Status.Phase = "Pending"
				}
			}
		}, tcp(web, "pod:shop/api-0", 8080), verdict.Unreachable, []verdict.Code{verdict.PodNotRunning, verdict.NoListener}},
		{"a service proxy that has an endpoint too many", func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.EndpointSlices = slices.DeleteFunc(s.Cluster.EndpointSlices, func(e discoveryv1.EndpointSlice) bool {
				return slices.ContainsFunc(e.Endpoints, func(e discoveryv1.Endpoint) bool { return slices.Contains(e.Addresses, "10.244.2.20") })
			})
		}, tcp(web, "svc:shop/api", 80), verdict.Unreachable, []verdict.Code{verdict.ServiceNoEndpoints, verdict.NoListener}},
		{"a service proxy that wrote nothing", func(t *testing.T, s *simulator.Snapshot) {
			for i := range namespace(t, s, "node-1").IPTables {
				namespace(t, s, "node-1").IPTables[i].Data = nil
			}
			namespace(t, s, "node-1").NFT.Data = nil
		}, tcp(web, "svc:shop/db", 5432), verdict.Unreachable, []verdict.Code{verdict.ServiceBackendMismatch, verdict.NoRoute}},
		{"a service proxy that leads to an endpoint that has gone", func(t *testing.T, s *simulator.Snapshot) {
			for i := range s.Cluster.EndpointSlices {
				for j := range s.Cluster.EndpointSlices[i].Endpoints {
					if e := &s.Cluster.EndpointSlices[i].Endpoints[j]; slices.Contains(e.Addresses, "10.244.2.30") {
						e.Addresses = []string{"10.244.2.31"}
					}
				}
			}
			db := namespace(t, s, "shop-db-0")
			db.Sockets = nil
		}, tcp(web, "svc:shop/db", 5432), verdict.Unreachable, []verdict.Code{verdict.ServiceBackendMismatch, verdict.NoListener}},
		{"a client without a route is no fault of the service proxy", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-web-0").Routes = nil
		}, tcp(web, "svc:shop/db", 5432), verdict.Unreachable, []verdict.Code{verdict.NoRoute}},
		{"a client that is not ready, where nobody listens", func(t *testing.T, s *simulator.Snapshot) {
			unready(s, "web-0")
			namespace(t, s, "shop-db-0").Sockets = nil
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, []verdict.Code{verdict.NoListener, verdict.PodNotReady}},
		{"a client that is not ready, as its interface is down", func(t *testing.T, s *simulator.Snapshot) {
			unready(s, "web-0")
			for i := range namespace(t, s, "shop-web-0").Links {
				if l := &namespace(t, s, "shop-web-0").Links[i]; l.Name == "eth0" {
					l.Flags &^= netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp
				}
			}
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, []verdict.Code{verdict.PodNotReady, verdict.InterfaceDown}},
		{"a client's node that is not ready, where nobody listens", func(t *testing.T, s *simulator.Snapshot) {
			for i := range s.Cluster.Nodes {
				if s.Cluster.Nodes[i].Name == "node-1" {
					s.Cluster.Nodes[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
				}
			}
			namespace(t, s, "shop-db-0").Sockets = nil
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, []verdict.Code{verdict.NoListener, verdict.NodeNotReady}},
		{"a pod that is not ready, and serves all the same", func(_ *testing.T, s *simulator.Snapshot) {
			unready(s, "db-0")
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, []verdict.Code{verdict.PodNotReady}},
		{"a node that is not ready, and forwards all the same", func(_ *testing.T, s *simulator.Snapshot) {
			for i := range s.Cluster.Nodes {
				s.Cluster.Nodes[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
			}
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, []verdict.Code{verdict.NodeNotReady}},
		{"a policy that denies what a rule drops", func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.NetworkPolicies = denyAll("shop")
		}, tcp(web, "pod:shop/api-1", 8080), verdict.Unreachable, []verdict.Code{verdict.NetworkPolicyDeny, verdict.NetfilterDrop}},
		{"a policy that denies what nothing drops", func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.NetworkPolicies = denyAll("shop")
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, []verdict.Code{verdict.NetworkPolicyNotEnforced}},
		{"a policy of another namespace", func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.NetworkPolicies = denyAll("elsewhere")
		}, tcp(web, "pod:shop/api-1", 8080), verdict.Unreachable, []verdict.Code{verdict.NetfilterDrop}},
		{"an address that another namespace took", func(t *testing.T, s *simulator.Snapshot) {
			// db-0's namespace is api-1's now: the pods' addresses were swapped.
			db, api := namespace(t, s, "shop-db-0"), namespace(t, s, "shop-api-1")
			db.Pod, api.Pod = api.Pod, db.Pod
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, []verdict.Code{verdict.DeliveredElsewhere}},
		{
			"a pod that has ended, and whose address another has", ended("10.244.2.30"),
			tcp(web, "pod:shop/job-0", 5432), verdict.Unreachable,
			[]verdict.Code{verdict.PodNotRunning, verdict.DeliveredElsewhere},
		},
		{
			"a pod that has ended, and whose address another has who does not listen", ended("10.244.2.30"),
			tcp(web, "pod:shop/job-0", 80), verdict.Unreachable,
			[]verdict.Code{verdict.PodNotRunning, verdict.DeliveredElsewhere, verdict.NoListener},
		},
		{
			"a pod that has ended, and whose address nobody has", ended("10.244.2.40"),
			tcp(web, "pod:shop/job-0", 80), verdict.Unreachable,
			[]verdict.Code{verdict.PodNotRunning},
		},
		{
			"the address itself of a pod that has ended", ended("10.244.2.30"),
			tcp(web, "10.244.2.30", 80), verdict.Unreachable,
			[]verdict.Code{verdict.NoListener},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, world(t, func(s *simulator.Snapshot) {
				if test.change != nil {
					test.change(t, s)
				}
			}), test.query)
			var codes []verdict.Code
			for _, f := range r.Reasons {
				codes = append(codes, f.Code)
			}
			at := -1
			for _, want := range test.codes {
				next := slices.Index(codes, want)
				if next <= at {
					t.Errorf("reasons %v, want %v in this order", codes, test.codes)
				}
				at = next
			}
			if r.Verdict != test.want || len(codes) == 0 || codes[0] != test.codes[0] {
				t.Errorf("%s %v, want %s with %v first", r.Verdict, r.Reasons, test.want, test.codes[0])
			}
		})
	}
}

// ended adds a pod that has run to its end on node-2, job-0, with the address that it had.
func ended(ip string) func(*testing.T, *simulator.Snapshot) {
	return func(_ *testing.T, s *simulator.Snapshot) {
		s.Cluster.Pods = append(s.Cluster.Pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "job-0"}, Spec: corev1.PodSpec{NodeName: "node-2"},
			Status: corev1.PodStatus{Phase: corev1.PodSucceeded, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
		})
	}
}

// Whether a policy of the destination sees a source before or after it was
// translated is up to the network plugin. Those of the source are its pod's.
func TestPoliciesOfATranslatedSource(t *testing.T) {
	masquerade := func(t *testing.T, s *simulator.Snapshot) {
		dumps := namespace(t, s, "node-1").IPTables
		for i := range dumps {
			before, after, found := bytes.Cut(dumps[i].Data, []byte("*nat\n"))
			if found && dumps[i].Family == netstack.IPv4 {
				nat := bytes.Replace(after, []byte("COMMIT\n"), []byte("-A POSTROUTING -s 10.244.1.10/32 -j MASQUERADE\nCOMMIT\n"), 1)
				dumps[i].Data = slices.Concat(before, []byte("*nat\n"), nat)
			}
		}
	}
	pods := func(block string) []networkingv1.NetworkPolicy {
		p := denyAll("shop")
		p[0].Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: block}}}}}
		return p
	}
	outward := denyAll("shop")
	outward[0].Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	const nobody, theSource = "192.0.2.0/24", "10.244.1.10/32"
	for _, test := range []struct {
		name       string
		translated bool
		policies   []networkingv1.NetworkPolicy
		want       verdict.PolicyVerdict
	}{
		{"denied as it is", false, pods(nobody), verdict.PolicyDeny},
		{"denied before and after", true, pods(nobody), verdict.PolicyDeny},
		{"allowed as it is", false, pods(theSource), verdict.PolicyAllow},
		{"allowed before, denied after", true, pods(theSource), verdict.PolicyNone},
		{"denied to the pod, whose address is translated later", true, outward, verdict.PolicyDeny},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, world(t, func(s *simulator.Snapshot) {
				s.Cluster.NetworkPolicies = test.policies
				if test.translated {
					masquerade(t, s)
				}
			}), tcp(web, "pod:shop/db-0", 5432))
			if got := len(r.Paths[0].Translations) > 0; got != test.translated {
				t.Fatalf("translations %v", r.Paths[0].Translations)
			}
			warned := slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.NetworkPolicyNotEnforced })
			const open = "whether policies allow it is not known: 10.244.1.10 is translated to 172.30.0.11, and it is up to the network plugin which of the two they see"
			if slices.Contains(r.Assumptions, open) != (test.want == verdict.PolicyNone) {
				t.Errorf("assumptions %q", r.Assumptions)
			}
			if r.Verdict != verdict.Reachable || r.Policy.Verdict != test.want || warned != (test.want == verdict.PolicyDeny) {
				t.Errorf("%s, policy %+v, %v", r.Verdict, r.Policy, r.Reasons)
			}
		})
	}
}

// TestPoliciesAreHeldAgainstWhatIsSeen has policies deny connections of which it is
// not seen that something drops them: they go on, or nobody can see what becomes of them.
func TestPoliciesAreHeldAgainstWhatIsSeen(t *testing.T) {
	outward := func(s *simulator.Snapshot) {
		s.Cluster.NetworkPolicies = denyAll("shop")
		s.Cluster.NetworkPolicies[0].Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	}
	inward := func(s *simulator.Snapshot) { s.Cluster.NetworkPolicies = denyAll("shop") }
	connects := func(t *testing.T, s *simulator.Snapshot) {
		namespace(t, s, "shop-web-0").BPF = netstack.Text{File: "bpf.json", Data: []byte(`[{"cgroup":[{"attach_type":"cgroup_inet4_connect","prog_id":7}]}]`)}
	}
	for _, test := range []struct {
		name     string
		change   func(*testing.T, *simulator.Snapshot)
		query    verdict.Query
		want     verdict.Verdict
		policy   verdict.PolicyVerdict
		findings []string // all reasons, and how severe they are
		open     string   // what is assumed
	}{
		{"what leaves the collected world", func(_ *testing.T, s *simulator.Snapshot) {
			without(s, "fabric")
			outward(s)
		}, tcp(web, "172.31.9.9", 443), verdict.Reachable, verdict.PolicyDeny, []string{"info LeavesModel", "warning NetworkPolicyNotEnforced"}, ""},
		{"what is delivered, and nobody listens to", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-db-0").Sockets = nil
			inward(s)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, verdict.PolicyDeny, []string{"fatal NoListener", "warning NetworkPolicyNotEnforced"}, ""},
		{"what never comes to where it would be dropped", func(t *testing.T, s *simulator.Snapshot) {
			namespace(t, s, "shop-web-0").Routes = nil
			inward(s)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unreachable, verdict.PolicyDeny, []string{"fatal NoRoute"}, ""},
		{"a program that nobody can evaluate", func(t *testing.T, s *simulator.Snapshot) {
			connects(t, s)
			inward(s)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.PolicyDeny, []string{"undecided EBPFOpaque", "warning NetworkPolicyDeny"}, ""},
		{"a program that may translate a service", func(t *testing.T, s *simulator.Snapshot) {
			connects(t, s)
			inward(s)
		}, tcp(web, "svc:shop/db", 5432), verdict.Unknown, verdict.PolicyDeny, []string{"undecided EBPFOpaque", "warning NetworkPolicyDeny"}, ""},
		{
			"a program that may translate a service, of whose endpoints one is denied", func(t *testing.T, s *simulator.Snapshot) {
				connects(t, s)
				inward(s)
				s.Cluster.NetworkPolicies[0].Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"denied": "yes"}}
				for i := range s.Cluster.Pods {
					if p := &s.Cluster.Pods[i]; p.Name == "api-1" {
						p.Labels = map[string]string{"denied": "yes"}
					}
				}
			}, tcp(web, "svc:shop/api", 80), verdict.Unknown, verdict.PolicyNone,
			[]string{"undecided EBPFOpaque"},
			"whether policies allow it is not known: they allow some endpoints of the service shop/api, and deny others",
		},
		{"a client that was not collected", func(_ *testing.T, s *simulator.Snapshot) {
			without(s, "shop-web-0")
			outward(s)
		}, tcp(web, "svc:shop/db", 5432), verdict.Unknown, verdict.PolicyDeny, []string{"undecided SnapshotMissing", "warning NetworkPolicyDeny"}, ""},
		{"objects alone", func(_ *testing.T, s *simulator.Snapshot) {
			s.Namespaces = nil
			inward(s)
		}, tcp(web, "pod:shop/db-0", 5432), verdict.Unknown, verdict.PolicyDeny, []string{"undecided SnapshotMissing", "warning NetworkPolicyDeny"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, world(t, func(s *simulator.Snapshot) { test.change(t, s) }), test.query)
			var findings []string
			for _, f := range r.Reasons {
				findings = append(findings, fmt.Sprintf("%s %s", f.Severity, f.Code))
			}
			if r.Verdict != test.want || r.Policy.Verdict != test.policy || !slices.Equal(findings, test.findings) {
				t.Errorf("%s, policy %+v, %q: %v; want %s, %s, %q", r.Verdict, r.Policy, findings, r.Reasons, test.want, test.policy, test.findings)
			}
			if test.open != "" && !slices.Contains(r.Assumptions, test.open) {
				t.Errorf("assumptions %q, want %q", r.Assumptions, test.open)
			}
		})
	}
}

// unready has a pod not be ready.
func unready(s *simulator.Snapshot, name string) {
	for i := range s.Cluster.Pods {
		if p := &s.Cluster.Pods[i]; p.Name == name {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		}
	}
}

func denyAll(namespace string) []networkingv1.NetworkPolicy {
	return []networkingv1.NetworkPolicy{{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "deny-all"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}},
	}}
}

// TestTwoOwnersOfAnAddress has a second pod answer for the address of api-0:
// whom web-0 has heard, it sends to.
// Sockets that share a port take as many connections each, and answer with their own marks.
func TestSocketsAtOnePlaceAnswerWithTheirOwnMarks(t *testing.T) {
	for _, c := range []struct {
		marks []uint32
		want  verdict.Verdict
		lost  float64
	}{
		{[]uint32{7}, verdict.Unreachable, 1},
		{[]uint32{7, 7}, verdict.Unreachable, 1},
		{[]uint32{8, 9}, verdict.Reachable, 0},
		{[]uint32{8, 7, 9, 9}, verdict.Degraded, 0.25},
	} {
		w := world(t, func(s *simulator.Snapshot) {
			ns := namespace(t, s, "shop-db-0")
			ns.Rules = append(ns.Rules, netstack.Rule{
				Family: netstack.IPv4, Priority: 50, Mark: 7, Mask: ^uint32(0), Action: netstack.RuleProhibit, SuppressPrefixLen: -1, SuppressIfGroup: -1,
			})
			at := slices.IndexFunc(ns.Sockets, func(s netstack.Socket) bool {
				return s.Protocol == netstack.ProtoTCP && s.State == netstack.SocketListen && s.Local.Port() == 5432
			})
			one := ns.Sockets[at]
			ns.Sockets = slices.Delete(ns.Sockets, at, at+1)
			for _, mark := range c.marks {
				one.Mark = mark
				ns.Sockets = append(ns.Sockets, one)
			}
		})
		r := diagnose(t, w, tcp("ns:example-shop-web-0", "ns:example-shop-db-0", 5432))
		if r.Verdict != c.want {
			t.Errorf("marks %d: %s, want %s", c.marks, r.Verdict, c.want)
		}
		lost := 0.0
		for _, p := range r.Paths {
			if p.Verdict == verdict.Unreachable && p.Findings[0].Code == verdict.RouteProhibit {
				lost += *p.Probability
			}
		}
		if lost != c.lost {
			t.Errorf("marks %d: a share of %g is lost, want %g", c.marks, lost, c.lost)
		}
	}
}

func TestTwoOwnersOfAnAddress(t *testing.T) {
	shared := netip.MustParseAddr("10.244.1.99")
	give := func(t *testing.T, s *simulator.Snapshot) (api, node *netstack.Namespace) {
		t.Helper()
		api, node = namespace(t, s, "shop-api-0"), namespace(t, s, "node-1")
		for ns, dev := range map[*netstack.Namespace]string{api: "eth0", node: "cni0"} {
			ns.Addresses = append(ns.Addresses, netstack.Address{Dev: dev, Prefix: netip.PrefixFrom(shared, 24)})
			ns.Routes = append(ns.Routes, netstack.Route{
				Family: netstack.IPv4, Table: netstack.TableLocal, Type: netstack.RouteLocal, Scope: netstack.ScopeHost,
				Dst: netip.PrefixFrom(shared, 32), NextHops: []netstack.NextHop{{Dev: dev, Weight: 1}},
			})
		}
		return api, node
	}
	query := verdict.Query{From: web, To: shared.String(), Protocol: verdict.ICMP}
	served := func(r *verdict.Report) []string {
		var list []string
		for i := range r.Paths {
			list = append(list, r.Paths[i].Destination.Namespace)
		}
		slices.Sort(list)
		return list
	}
	both := diagnose(t, world(t, func(s *simulator.Snapshot) { give(t, s) }), query)
	if got := served(both); !slices.Equal(got, []string{"example-node-1", "example-shop-api-0"}) {
		t.Errorf("paths lead to %v, want one to each owner", got)
	}
	one := diagnose(t, world(t, func(s *simulator.Snapshot) {
		api, _ := give(t, s)
		client := namespace(t, s, "shop-web-0")
		for i := range api.Links {
			if api.Links[i].Name == "eth0" {
				client.Neighbours = append(client.Neighbours, netstack.Neighbour{Dev: "eth0", IP: shared, MAC: api.Links[i].MAC, State: netstack.NUDReachable})
			}
		}
	}), query)
	if got := served(one); !slices.Equal(got, []string{"example-shop-api-0"}) {
		t.Errorf("paths lead to %v, want only the one that the neighbour entry names", got)
	}
}

// TestTheEdgeOfTheWorld leaves the fabric out, as it is in a real cluster: the
// uplinks of the nodes lead to a wire that nobody collected.
func TestTheEdgeOfTheWorld(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		without(s, "fabric")
		s.Namespaces = append(s.Namespaces, &netstack.Namespace{
			Name: "apart", Kind: netstack.KindOther,
			Links:     []netstack.Link{{Index: 1, Name: "eth0", Kind: "dummy", Flags: netstack.FlagUp}},
			Addresses: []netstack.Address{{Dev: "eth0", Prefix: netip.MustParsePrefix("172.31.9.8/24")}},
		})
	})
	for _, test := range []struct {
		name     string
		query    verdict.Query
		want     verdict.Verdict
		reason   verdict.Code
		boundary bool
	}{
		{"another node is on the same wire", tcp(web, "pod:shop/db-0", 5432), verdict.Reachable, "", false},
		{"what nobody in the cluster owns leaves", tcp("node:node-1", "172.31.9.9", 443), verdict.Reachable, verdict.LeavesModel, true},
		{"what leaves for an address that a namespace has may come back", tcp("node:node-1", "172.31.9.8", 443), verdict.Unknown, verdict.SnapshotMissing, true},
		{"a gateway may translate what its own network sends", tcp("node:node-1", "198.18.0.1", 443), verdict.Unknown, verdict.EgressNotTranslated, true},
		{"an address in a pod range of the cluster is somebody's", tcp("node:node-1", "10.244.2.200", 443), verdict.Unreachable, verdict.NeighbourFailed, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, w, test.query)
			if r.Verdict != test.want || r.Reason() != test.reason || r.Boundary != test.boundary {
				t.Errorf("%s %v (boundary %v), want %s %s (%v)", r.Verdict, r.Reasons, r.Boundary, test.want, test.reason, test.boundary)
			}
		})
	}
}

// TestAStaleNeighbourIsTheNextHop has a node's entry of another node be wrong: that entry is named, and not the pod behind.
func TestAStaleNeighbourIsTheNextHop(t *testing.T) {
	hop := netip.MustParseAddr("172.30.0.12")
	r := diagnose(t, world(t, func(s *simulator.Snapshot) {
		node := namespace(t, s, "node-1")
		node.Neighbours = slices.DeleteFunc(node.Neighbours, func(n netstack.Neighbour) bool { return n.IP == hop })
		node.Neighbours = append(node.Neighbours, netstack.Neighbour{Dev: "eth0", IP: hop, MAC: netstack.MAC{2, 0, 0, 0, 0, 0x77}, State: netstack.NUDPermanent})
	}), tcp(web, "pod:shop/db-0", 5432))
	const want = "neighbour 172.30.0.12 resolves to the wrong link-layer address 02:00:00:00:00:77: nobody on fabric0 has it"
	if r.Verdict != verdict.Unreachable || r.Reason() != verdict.NeighbourStale || r.Reasons[0].Message != want {
		t.Errorf("%s %v, want %s", r.Verdict, r.Reasons, want)
	}
}

// TestWhoMayTranslateAPrivateSource has a pod whose packets the node does not masquerade:
// nothing beyond knows its address, but a cloud might.
func TestWhoMayTranslateAPrivateSource(t *testing.T) {
	for _, test := range []struct {
		provider string
		want     verdict.Verdict
	}{
		{"", verdict.Unreachable},
		{"kind://docker/kind/node-1", verdict.Unreachable},
		{"cn-hangzhou.i-1", verdict.Unknown},
	} {
		r := diagnose(t, world(t, func(s *simulator.Snapshot) {
			without(s, "fabric")
			node := namespace(t, s, "node-1")
			node.IPTables = nil
			for i := range s.Cluster.Nodes {
				s.Cluster.Nodes[i].Spec.ProviderID = test.provider
			}
		}), tcp(web, "198.18.0.1", 443))
		if r.Verdict != test.want || r.Reason() != verdict.EgressNotTranslated || !r.Boundary {
			t.Errorf("of a node of %q: %s %v, want %s", test.provider, r.Verdict, r.Reasons, test.want)
		}
	}
}

// TestAnAddressThatIsNotAnsweredForMayBeAnothers has a node keep silent about an address, as a server behind a balancer does: on
// a wire with others, they may answer.
func TestAnAddressThatIsNotAnsweredForMayBeAnothers(t *testing.T) {
	shared := netip.MustParseAddr("172.30.0.200")
	w := world(t, func(s *simulator.Snapshot) {
		without(s, "fabric")
		node := namespace(t, s, "node-2")
		node.Addresses = append(node.Addresses, netstack.Address{Dev: "lo", Prefix: netip.PrefixFrom(shared, 32)})
		node.Routes = append(node.Routes, netstack.Route{Family: netstack.IPv4, Dst: netip.PrefixFrom(shared, 32), Table: 255, Type: netstack.RouteLocal, NextHops: []netstack.NextHop{{Dev: "lo"}}})
		node.Sysctls["net.ipv4.conf.all.arp_ignore"] = "1"
	})
	r := diagnose(t, w, tcp("node:node-1", shared.String(), 443))
	if r.Verdict != verdict.Unknown || r.Reason() != verdict.SnapshotMissing || r.Reasons[0].Where.Node != "node-2" {
		t.Errorf("%s %v, want unknown SnapshotMissing at node-2", r.Verdict, r.Reasons)
	}
}

// TestAReplyThatLeavesTheWorldMayComeBack gives a node a second uplink, to a wire
// that nobody collected, and the way to the client by it.
func TestAReplyThatLeavesTheWorldMayComeBack(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		node := namespace(t, s, "node-2")
		node.Links = append(node.Links, netstack.Link{
			Index: 99, Name: "eth9", MAC: netstack.MAC{2, 0, 0, 0, 9, 9}, MTU: 1500, PeerNSID: netstack.NoPeerNS,
			Flags: netstack.FlagUp | netstack.FlagLowerUp | netstack.FlagRunning | netstack.FlagBroadcast, OperState: "UP",
		})
		node.Addresses = append(node.Addresses, netstack.Address{Dev: "eth9", Prefix: netip.MustParsePrefix("192.0.2.7/32")})
		for i := range node.Routes {
			r := &node.Routes[i]
			if r.Dst == netip.MustParsePrefix("10.244.1.0/24") {
				r.NextHops = []netstack.NextHop{{Dev: "eth9", Gateway: netip.MustParseAddr("192.0.2.1"), Weight: 1, Onlink: true}}
			}
		}
	})
	r := diagnose(t, w, tcp(web, "pod:shop/db-0", 5432))
	if r.Verdict != verdict.Unknown || r.Reason() != verdict.SnapshotMissing || r.Reasons[0].Where.Interface != "eth9" {
		t.Errorf("%s %v, want unknown SnapshotMissing at eth9", r.Verdict, r.Reasons)
	}
}

func TestASnapshotWithoutObjectsSaysSo(t *testing.T) {
	w := compileWorld(t, &simulator.Snapshot{})
	for name, kind := range map[string]string{web: "pod shop/web-0", "node:node-1": "node node-1", "svc:shop/api": "service shop/api"} {
		r, err := w.Diagnose(tcp(name, "10.0.0.1", 80))
		if err != nil {
			t.Fatal(err)
		}
		want := "there is no " + kind + " in the snapshot, which has no Kubernetes objects at all"
		if r.Verdict != verdict.Unknown || len(r.Reasons) != 1 || r.Reasons[0].Message != want {
			t.Errorf("%s: %s %v, want unknown: %s", name, r.Verdict, r.Reasons, want)
		}
	}
}

// Workspaces go from one query to the next: nothing of a query is left in the
// reports of others, whether they are made after it or at the same time.
func TestReportsDoNotDependOnThoseBefore(t *testing.T) {
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	icmp := verdict.Query{From: web, To: "pod:shop/db-0", Protocol: verdict.ICMP}
	queries := []verdict.Query{
		tcp(web, "svc:shop/api", 80), icmp, tcp(web, "pod:shop/db-0", 5432), tcp(web, "pod:shop/api-1", 8080), tcp(web, "svc:shop/db", 5432),
	}
	text := func(r *verdict.Report) string {
		data, err := r.AppendJSON(nil)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	report := func(w *simulator.World, q verdict.Query) *verdict.Report {
		r, err := w.Diagnose(q)
		if err != nil {
			t.Error(err)
		}
		return r
	}
	var alone []string
	for _, q := range queries {
		alone = append(alone, text(report(compileWorld(t, s), q)))
	}
	shared := compileWorld(t, s)
	var all sync.WaitGroup
	for first := range queries {
		all.Go(func() {
			made := make([]*verdict.Report, len(queries))
			for range 20 {
				for i := range queries {
					at := (first + i) % len(queries)
					made[at] = report(shared, queries[at])
				}
				for i, r := range made {
					if got := text(r); got != alone[i] {
						t.Errorf("query %d among others:\n%s\nalone:\n%s", i, got, alone[i])
						return
					}
				}
			}
		})
	}
	all.Wait()
}
