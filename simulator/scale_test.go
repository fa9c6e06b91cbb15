package simulator_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// large is a cluster of many nodes on one wire. Each has 20 pods behind veths, a
// route to the pods of each other node, and chains for its pods that enforce
// network policies. There are two Services of ten pods each for a node, and two
// policies; ten nodes share a namespace of Kubernetes. The first nodes, from which paths start, have the
// rules of kube-proxy for all Services; others have none: they would take
// 0.5 kB for each of their lines and not be asked about any.
type large struct{ nodes int }

const (
	largePods      = 20 // of a node
	largeServices  = 2  // for a node
	largeEndpoints = 10
	largeSources   = 10 // nodes from which paths start
)

func (large) node(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte(n / 250), byte(1 + n%250)})
}

func (large) pod(n, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(128 + n/250), byte(n % 250), byte(2 + i)})
}

func (large) podName(n, i int) string { return fmt.Sprintf("%s/pod-%d-%d", largeNamespace(n), n, i) }

func largeNamespace(node int) string { return fmt.Sprintf("team-%d", node/10) }

// endpoint is the pod that a Service has as its endpoint: it is one of those of
// the Service's own node, or of nine others.
func (l large) endpoint(service, endpoint int) (n, i int) {
	n = service / largeServices
	return n - n%10 + (n+endpoint)%10, service%largeServices*largeEndpoints + endpoint
}

func (l large) snapshot() *simulator.Snapshot {
	spec := &proxyrules.Spec{Services: largeServices * l.nodes, Endpoints: largeEndpoints, Backend: func(service, endpoint int) netip.Addr {
		return l.pod(l.endpoint(service, endpoint))
	}}
	proxy := spec.IPTables()
	s := &simulator.Snapshot{}
	for n := range l.nodes {
		node := blank(fmt.Sprintf("node-%d", n), netstack.KindNode)
		node.Node, node.NSIDs = node.Name, map[int]string{}
		node.Links = []netstack.Link{loopback(), largeDevice(2, "eth0", "", n, 0)}
		own(node, "eth0", netip.PrefixFrom(l.node(n), 16))
		own(node, "lo", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(128 + n/250), byte(n % 250), 1}), 32))
		way(node, "0.0.0.0/0", "eth0", netip.AddrFrom4([4]byte{172, 16, 255, 254}))
		for other := range l.nodes {
			if other != n {
				way(node, netip.PrefixFrom(l.pod(other, 0), 24).Masked().String(), "eth0", l.node(other))
			}
		}
		var pods []*netstack.Namespace
		for i := range largePods {
			dev := fmt.Sprintf("veth%d", i)
			veth := largeDevice(3+i, dev, "veth", n, 1+i)
			veth.Peer, veth.PeerNSID = 2, i
			node.Links = append(node.Links, veth)
			node.NSIDs[i] = fmt.Sprintf("pod-%d-%d", n, i)
			node.Sysctls["net.ipv4.conf."+dev+".forwarding"], node.Sysctls["net.ipv4.conf."+dev+".proxy_arp"] = "1", "1"
			way(node, l.pod(n, i).String()+"/32", dev, netip.Addr{})
			pods = append(pods, l.podNamespace(n, i))
		}
		node.IPTables = []netstack.IPTablesDump{{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: netstack.Text{File: "iptables-save.txt", Data: l.policyRules(n)}}}
		if n < largeSources {
			node.IPTables = append(node.IPTables, netstack.IPTablesDump{Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save-legacy.txt", Data: proxy}})
			node.SetPart(netstack.PartIPTables4Legacy, netstack.Status{State: netstack.StateOK})
		}
		s.Namespaces = append(append(s.Namespaces, node), pods...)
	}
	l.objects(s, spec)
	return s
}

func largeDevice(index int, name, kind string, node, number int) netstack.Link {
	link := device(index, name, kind, 0)
	link.MAC = netstack.MAC{2, byte(index), byte(node >> 8), byte(node), byte(number), 1}
	return link
}

func (l large) podNamespace(n, i int) *netstack.Namespace {
	ns := blank(fmt.Sprintf("pod-%d-%d", n, i), netstack.KindPod)
	ns.Node, ns.Pod = fmt.Sprintf("node-%d", n), l.podName(n, i)
	ns.NSIDs = map[int]string{0: ns.Node}
	eth := largeDevice(2, "eth0", "veth", n, 101+i)
	eth.Peer, eth.PeerNSID = 3+i, 0
	ns.Links = []netstack.Link{loopback(), eth}
	own(ns, "eth0", netip.PrefixFrom(l.pod(n, i), 32))
	gateway := netip.AddrFrom4([4]byte{10, byte(128 + n/250), byte(n % 250), 1})
	way(ns, gateway.String()+"/32", "eth0", netip.Addr{})
	way(ns, "0.0.0.0/0", "eth0", gateway)
	ns.Sockets = []netstack.Socket{{
		Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen,
		Local: netip.AddrPortFrom(netip.IPv4Unspecified(), proxyrules.EndpointPort), SendQ: 128,
	}}
	return ns
}

// policyRules are the rules that enforce the policies of a node's pods: those of
// the cluster may come in by one port.
func (l large) policyRules(n int) []byte {
	var chains, jumps, rules bytes.Buffer
	for i := range largePods {
		fmt.Fprintf(&chains, ":POD-%d-%d - [0:0]\n", n, i)
		fmt.Fprintf(&jumps, "-A FORWARD -d %s/32 -j POD-%d-%d\n", l.pod(n, i), n, i)
		fmt.Fprintf(&rules, `-A POD-%[1]d-%[2]d -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A POD-%[1]d-%[2]d -s 10.128.0.0/9 -p tcp -m tcp --dport 8080 -j ACCEPT
-A POD-%[1]d-%[2]d -j DROP
`, n, i)
	}
	return slices.Concat([]byte("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"), chains.Bytes(), jumps.Bytes(), rules.Bytes(), []byte("COMMIT\n"))
}

func (l large) objects(s *simulator.Snapshot, spec *proxyrules.Spec) {
	c := &s.Cluster
	for n := range l.nodes {
		if n%10 == 0 {
			name := largeNamespace(n)
			c.Namespaces = append(c.Namespaces, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name, "kind": "team"}}})
		}
		c.Nodes = append(c.Nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", n)},
			Spec:       corev1.NodeSpec{PodCIDR: netip.PrefixFrom(l.pod(n, 0), 24).Masked().String()},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: l.node(n).String()}}},
		})
		for i := range largePods {
			ip := l.pod(n, i).String()
			c.Pods = append(c.Pods, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: largeNamespace(n), Name: fmt.Sprintf("pod-%d-%d", n, i), Labels: map[string]string{
					"app": fmt.Sprintf("app-%d", i/largeEndpoints), "node": fmt.Sprint(n % 10),
				}},
				Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", n), Containers: []corev1.Container{{
					Name: "server", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: proxyrules.EndpointPort, Protocol: corev1.ProtocolTCP}},
				}}},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			})
		}
		for k := range largeServices {
			service := n*largeServices + k
			meta := metav1.ObjectMeta{Namespace: largeNamespace(n), Name: fmt.Sprintf("service-%d", service)}
			port, name, ready := int32(proxyrules.EndpointPort), "", true
			c.Services = append(c.Services, corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
				ClusterIP: spec.ClusterIP(service).String(), Ports: []corev1.ServicePort{{Port: proxyrules.ServicePort, TargetPort: intstr.FromInt32(port), Protocol: corev1.ProtocolTCP}},
			}})
			slice := discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
			slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
			for e := range largeEndpoints {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{l.pod(l.endpoint(service, e)).String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
			}
			c.EndpointSlices = append(c.EndpointSlices, slice)
			http := intstr.FromString("http")
			c.NetworkPolicies = append(c.NetworkPolicies, networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Namespace: largeNamespace(n), Name: fmt.Sprintf("policy-%d", service)},
				Spec: networkingv1.NetworkPolicySpec{
					PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", k), "node": fmt.Sprint(n % 10)}},
					PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
					Ingress: []networkingv1.NetworkPolicyIngressRule{{
						From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kind": "team"}}}},
						Ports: []networkingv1.NetworkPolicyPort{{Port: &http}},
					}},
				},
			})
		}
	}
}

// paths are 10,000: from ten pods of each of the first nodes, to pods or to Services.
func (l large) paths(services bool) (list []verdict.Query) {
	for from := range 100 {
		for to := range 100 {
			n := l.nodes/2 + to*l.nodes/250 // on nodes of the second half
			source := "pod:" + l.podName(from/10, from%10)
			if services {
				list = append(list, tcp(source, fmt.Sprintf("svc:%s/service-%d", largeNamespace(n), n*largeServices), proxyrules.ServicePort))
			} else {
				list = append(list, tcp(source, "pod:"+l.podName(n, to%largePods), proxyrules.EndpointPort))
			}
		}
	}
	return list
}

// TestALargeCluster makes sure that the benchmark measures what it says.
func TestALargeCluster(t *testing.T) {
	l := large{nodes: 20}
	w := compileWorld(t, l.snapshot())
	for _, services := range []bool{false, true} {
		for _, q := range l.paths(services)[:100] {
			r := diagnose(t, w, q)
			want := 1
			if services {
				want = largeEndpoints
			}
			if r.Verdict != verdict.Reachable || len(r.Paths) != want || r.Policy.Verdict != verdict.PolicyAllow || len(r.Reasons) > 0 {
				t.Fatalf("%s to %s: %s over %d paths, policy %+v: %v", q.From, q.To, r.Verdict, len(r.Paths), r.Policy, r.Reasons)
			}
		}
	}
}

// BenchmarkLargeCluster makes the reports of 10,000 paths, and says what they
// and the world take.
func BenchmarkLargeCluster(b *testing.B) {
	for _, nodes := range []int{250, 500, 1000} {
		l := large{nodes}
		empty := heapsize.Live()
		s := l.snapshot()
		snapshot := heapsize.Live() - empty
		w := compileWorld(b, s)
		world := heapsize.Live() - empty
		for _, to := range []string{"pods", "services"} {
			b.Run(fmt.Sprintf("nodes=%d/to=%s", nodes, to), func(b *testing.B) {
				paths := l.paths(to == "services")
				reports := make([]*verdict.Report, 0, b.N)
				b.ReportAllocs()
				stop := cputime.Measure(b)
				for i := 0; b.Loop(); i++ {
					r, err := w.Diagnose(paths[i*37%len(paths)])
					if err != nil || r.Verdict != verdict.Reachable {
						b.Fatal(r, err)
					}
					if i < 1000 {
						reports = append(reports, r)
					}
				}
				stop()
				all, number := heapsize.Live(), len(reports)
				clear(reports)
				b.ReportMetric(float64(all-heapsize.Live())/float64(number), "kept-B/path")
				b.ReportMetric(float64(snapshot)/1e6, "snapshot-MB")
				b.ReportMetric(float64(world)/1e6, "world-MB")
				runtime.KeepAlive(reports) // and w and s
			})
		}
		runtime.KeepAlive(s)
	}
}
