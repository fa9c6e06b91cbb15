package cluster_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

type (
	slice   = discoveryv1.EndpointSlice
	service = corev1.Service
)

var addr = netip.MustParseAddr

func TestOwner(t *testing.T) {
	x := cluster.Compile(shop(t))
	tests := []struct{ name, addr, want string }{
		{"a pod owns its address", "10.244.1.3", "pod shop/api-0"},
		{"a pod owns its second address", "fd00:1::3", "pod shop/api-0"},
		{"an IPv4 address may be written as IPv6", "::ffff:10.244.1.3", "pod shop/api-0"},
		{"a pod that has ended owns nothing any more", "10.244.1.2", "pod shop/web-0"},
		{"a node owns its address, not the pods of its network", "192.168.0.1", "node a"},
		{"a node owns its external address", "203.0.113.1", "node a"},
		{"a service owns its cluster IP", "10.96.0.20", "service shop/api"},
		{"a service owns its second cluster IP", "fd02::20", "service shop/api"},
		{"a service owns its external IP", "198.51.100.7", "service shop/api"},
		{"a service owns its load balancer's address", "198.51.100.8", "service shop/api"},
		{"nobody owns an address of the internet", "8.8.8.8", ""},
		{"nobody owns an address that is free in a pod range", "10.244.1.200", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if o, ok := x.Owner(addr(tt.addr)); ok {
				got = o.String()
				if len(o.Others) != 0 {
					t.Errorf("others: %v", o.Others)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnAddressOfTwoPodsIsAmbiguous(t *testing.T) {
	x := cluster.Compile(decode(t, `
apiVersion: v1
kind: PodList
items:
- {metadata: {name: a, namespace: n}, status: {phase: Running, podIP: 10.0.0.1}}
- {metadata: {name: b, namespace: n}, status: {phase: Running, podIP: 10.0.0.1}}
`))
	if p, ok := x.PodByIP(addr("10.0.0.1")); ok {
		t.Errorf("PodByIP picked %s", p)
	}
	if pods := x.PodsByIP(addr("10.0.0.1")); len(pods) != 2 {
		t.Errorf("PodsByIP: %v", pods)
	}
	o, ok := x.Owner(addr("10.0.0.1"))
	if diff := cmp.Diff([]string{"pod n/b"}, o.Others); !ok || diff != "" {
		t.Errorf("%t %s", ok, diff)
	}
}

func TestInKnownRange(t *testing.T) {
	service := func(ips ...string) *cluster.Objects {
		o := &cluster.Objects{}
		for _, ip := range ips {
			o.Services = append(o.Services, corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip}})
		}
		return o
	}
	tests := []struct {
		name    string
		objects *cluster.Objects
		addr    string
		want    string
	}{
		{"the pod range of a node", shop(t), "10.244.2.77", "pod range 10.244.2.0/24 of node b"},
		{"the IPv6 pod range of a node", shop(t), "fd00:1::77", "pod range fd00:1::/64 of node a"},
		{"a pod range of IPv4 in the notation of IPv6", &cluster.Objects{Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"::ffff:10.244.2.0/120"}}}}}, "10.244.2.77", "pod range 10.244.2.0/24 of node a"},
		{"the /24 around a lone cluster IP", service("10.96.0.10"), "10.96.0.200", "service range 10.96.0.0/24 (guessed from the cluster IPs)"},
		{"not the next /24", service("10.96.0.10"), "10.96.1.1", ""},
		{"all between two cluster IPs", service("10.96.0.10", "10.100.0.1"), "10.98.7.7", "service range 10.96.0.0/13 (guessed from the cluster IPs)"},
		{"not all between two cluster IPs that are far apart", service("10.96.0.10", "172.20.0.1"), "100.64.0.1", ""},
		{"but the surroundings of each of them", service("10.96.0.10", "172.20.0.1"), "172.20.0.9", "service range 172.20.0.0/24 (guessed from the cluster IPs)"},
		{"the /112 around an IPv6 cluster IP", service("fd02::20"), "fd02::ff", "service range fd02::/112 (guessed from the cluster IPs)"},
		{"nothing for headless services", service("None"), "10.96.0.1", ""},
		{"nothing of the internet", shop(t), "8.8.8.8", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := cluster.Compile(tt.objects).InKnownRange(addr(tt.addr))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q %t, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestLists(t *testing.T) {
	x := cluster.Compile(shop(t))
	got := []string{}
	for _, n := range x.Nodes() {
		got = append(got, n.Name)
	}
	for _, s := range x.Services() {
		got = append(got, s.String())
	}
	if diff := cmp.Diff([]string{"a", "b", "shop/alias", "shop/api", "shop/db"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestServicesMayShareAnExternalIP(t *testing.T) {
	x := cluster.Compile(decode(t, `
apiVersion: v1
kind: ServiceList
items:
- {metadata: {name: a, namespace: n}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 53}], externalIPs: [198.51.100.7, 198.51.100.7]}}
- {metadata: {name: b, namespace: n}, spec: {clusterIP: 10.96.0.2, ports: [{port: 443}, {port: 53, protocol: UDP}, {port: 80, protocol: UDP}], externalIPs: [198.51.100.7]}}
- {metadata: {name: c, namespace: n}, spec: {clusterIP: 10.96.0.3, ports: [{port: 80, protocol: UDP}], externalIPs: [198.51.100.7]}}
- metadata: {name: d, namespace: n}
  spec: {type: LoadBalancer, clusterIP: 10.96.0.4, ports: [{port: 25}]}
  status: {loadBalancer: {ingress: [{ip: 198.51.100.7, ipMode: Proxy}]}}
`))
	for _, tt := range []struct {
		port     uint16
		protocol verdict.Protocol
		want     string
	}{
		{80, verdict.TCP, "n/a"},
		{443, verdict.TCP, "n/b"},
		{53, verdict.TCP, "n/a"},
		{53, verdict.UDP, "n/b"},
		{80, verdict.UDP, ""}, // two claim it
		{22, verdict.TCP, ""},
		{25, verdict.TCP, ""}, // of its load balancer
	} {
		s, ok := x.ServiceAt(addr("198.51.100.7"), tt.port, tt.protocol)
		if ok != (tt.want != "") || ok && s.String() != tt.want {
			t.Errorf("%d/%s leads to %v, want %q", tt.port, tt.protocol, s, tt.want)
		}
	}
	if s, ok := x.ServiceByIP(addr("198.51.100.7")); ok {
		t.Errorf("ServiceByIP picked %s", s)
	}
	if list := x.ServicesByIP(addr("198.51.100.7")); len(list) != 4 {
		t.Errorf("ServicesByIP: %v", list)
	}
	if s, ok := x.ServiceByIP(addr("10.96.0.2")); !ok || s.String() != "n/b" {
		t.Errorf("ServiceByIP: %v", s)
	}
}

func TestSelectPods(t *testing.T) {
	x := cluster.Compile(shop(t))
	tests := []struct {
		name, namespace, selector string
		want                      []string
	}{
		{"by one label", "shop", "app=api", []string{"shop/api-0", "shop/api-1"}},
		{"by a set", "shop", "app in (web,job)", []string{"shop/job-0", "shop/web-0"}},
		{"by absence", "shop", "!tier,app!=job", []string{"shop/api-0", "shop/api-1"}},
		{"all of a namespace", "monitoring", "", []string{"monitoring/exporter-a", "monitoring/scraper"}},
		{"in every namespace", "", "app=web", []string{"shop/web-0", "unlisted/stranger"}},
		{"none", "shop", "app=none", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			selector, err := labels.Parse(tt.selector)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range x.SelectPods(tt.namespace, selector) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPodPortsAreThoseOfContainersThatStay(t *testing.T) {
	x := cluster.Compile(shop(t))
	p, _ := x.Pod("shop", "api-0")
	want := []cluster.ContainerPort{
		{Name: "mesh", Port: 15090, Protocol: verdict.TCP},
		{Name: "http", Port: 8080, Protocol: verdict.TCP},
		{Name: "dns", Port: 5353, Protocol: verdict.UDP},
		{Name: "host", Port: 9000, Protocol: verdict.TCP, HostPort: 9001},
	}
	if diff := cmp.Diff(want, p.Ports); diff != "" {
		t.Error(diff)
	}
}

func TestNodeAddressesBeginWithTheInternalOnes(t *testing.T) {
	x := cluster.Compile(shop(t))
	n, _ := x.Node("a")
	want := []netip.Addr{addr("192.168.0.1"), addr("fd01::1"), addr("203.0.113.1")}
	if diff := cmp.Diff(want, n.IPs, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if ip, ok := n.IP(true); !ok || ip != addr("fd01::1") {
		t.Errorf("IPv6 address: %s", ip)
	}
}

func TestFindingsOfPodsAndNodes(t *testing.T) {
	x := cluster.Compile(shop(t))
	extra := cluster.Compile(decode(t, `
apiVersion: v1
kind: PodList
items:
- {metadata: {name: pending, namespace: n}, status: {phase: Pending}}
- {metadata: {name: nothing, namespace: n}}
- {metadata: {name: leaving, namespace: n, deletionTimestamp: "2026-01-02T03:04:05Z"}, status: {phase: Running, conditions: [{type: Ready, status: "True"}]}}
- {metadata: {name: gated, namespace: n}, status: {phase: Running, conditions: [{type: Ready, status: "False", reason: ReadinessGatesNotReady}], containerStatuses: [{name: c, ready: true}]}}
- {metadata: {name: manifest, namespace: n}, status: {phase: Running}}
`))
	pod := func(x *cluster.Index, namespace, name string) []verdict.Finding {
		p, ok := x.Pod(namespace, name)
		if !ok {
			t.Fatalf("no pod %s", name)
		}
		return p.Findings()
	}
	node := func(name string) []verdict.Finding {
		n, ok := x.Node(name)
		if !ok {
			t.Fatalf("no node %s", name)
		}
		return n.Findings()
	}
	tests := []struct {
		name     string
		findings []verdict.Finding
		code     verdict.Code
		message  string
		evidence []string
	}{
		{name: "nothing is wrong with a ready pod", findings: pod(x, "shop", "web-0")},
		{name: "nothing is known against a pod of a manifest", findings: pod(extra, "n", "manifest")},
		{name: "nothing is wrong with a ready node", findings: node("a")},
		{
			"a container waits", pod(x, "shop", "api-1"), verdict.PodNotReady, "pod container api of shop/api-1 is not ready",
			[]string{"status.containerStatuses api: not ready, waiting CrashLoopBackOff, restarted 4 times", "status.conditions Ready: False ContainersNotReady"},
		},
		{"a pod has ended", pod(x, "shop", "job-0"), verdict.PodNotRunning, "pod shop/job-0 is Succeeded, not Running", []string{"status.phase: Succeeded"}},
		{"a pod is pending", pod(extra, "n", "pending"), verdict.PodNotRunning, "pod n/pending is Pending, not Running", []string{"status.phase: Pending"}},
		{"a pod has no phase", pod(extra, "n", "nothing"), verdict.PodNotRunning, "pod n/nothing is Unknown, not Running", []string{"status.phase: Unknown"}},
		{"a pod terminates", pod(extra, "n", "leaving"), verdict.PodNotReady, "pod n/leaving is not ready: it is terminating", []string{"metadata.deletionTimestamp: 2026-01-02T03:04:05Z"}},
		{
			"a readiness gate is closed", pod(extra, "n", "gated"), verdict.PodNotReady,
			"pod n/gated is not ready, though each pod container is: a readiness gate, or a node that is not ready",
			[]string{"status.conditions Ready: False ReadinessGatesNotReady"},
		},
		{"a node is silent", node("b"), verdict.NodeNotReady, "node b is not ready", []string{"status.conditions Ready: Unknown NodeStatusUnknown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.code == "" {
				if len(tt.findings) != 0 {
					t.Errorf("got %v", tt.findings)
				}
				return
			}
			if len(tt.findings) != 1 {
				t.Fatalf("%d findings", len(tt.findings))
			}
			f := tt.findings[0]
			if f.Code != tt.code || f.Severity != verdict.SeverityWarning || f.Message != tt.message {
				t.Errorf("got %s %s %q", f.Code, f.Severity, f.Message)
			}
			if diff := cmp.Diff(tt.evidence, f.Evidence); diff != "" {
				t.Error(diff)
			}
		})
	}
}
