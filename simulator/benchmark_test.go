package simulator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// routedCluster is a cluster of four nodes on one wire, each with one pod behind
// a veth, a route to the pods of each other, and the rules of kube-proxy for any
// number of Services. The client is the pod of node 0; each of the others is an
// endpoint of every Service.
func routedCluster(mode string, services int) *simulator.Snapshot {
	return routedClusterOf(clusterNodes, mode, services)
}

// routedClusterOf is such a cluster of at most 200 nodes.
func routedClusterOf(nodes int, mode string, services int) *simulator.Snapshot {
	spec := &proxyrules.Spec{
		Services: services, Endpoints: 3, NodePortEvery: 100,
		Backend: func(_, endpoint int) netip.Addr { return podOf(endpoint + 1) },
	}
	s := &simulator.Snapshot{}
	for n := range nodes {
		s.Namespaces = append(s.Namespaces, clusterNode(n, nodes, mode, spec), clusterPod(n))
	}
	return s
}

const clusterNodes = 4

func podOf(node int) netip.Addr    { return netip.AddrFrom4([4]byte{10, 128, byte(node), 2}) }
func nodeAddr(node int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + node)}) }

func podName(node int) string { return fmt.Sprintf("shop/pod-%d", node) }

func clusterNode(n, nodes int, mode string, spec *proxyrules.Spec) *netstack.Namespace {
	ns := netstacktest.Known(fmt.Sprintf("node-%d", n), netstack.KindNode)
	ns.Node = ns.Name
	ns.NSIDs = map[int]string{0: fmt.Sprintf("pod-%d", n)}
	veth := netstacktest.Device(3, "veth0", "veth", byte(n))
	veth.Peer, veth.PeerNSID = 2, 0
	ns.Links = []netstack.Link{netstacktest.Loopback(), netstacktest.Device(2, "eth0", "", byte(n)), veth}
	netstacktest.Own(ns, "eth0", netip.PrefixFrom(nodeAddr(n), 24))
	netstacktest.Own(ns, "veth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128, byte(n), 1}), 32))
	netstacktest.Via(ns, podOf(n).String()+"/32", "veth0", netip.Addr{})
	netstacktest.Via(ns, "0.0.0.0/0", "eth0", netip.AddrFrom4([4]byte{192, 168, 50, 1}))
	for other := range nodes {
		if other != n {
			netstacktest.Via(ns, fmt.Sprintf("10.128.%d.0/24", other), "eth0", nodeAddr(other))
		}
	}
	switch mode {
	case "iptables":
		ns.IPTables = []netstack.IPTablesDump{{
			Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save.txt", Data: spec.IPTables()},
		}}
	case "nftables":
		ns.NFT = netstack.Text{File: "nft.json", Data: spec.NFTablesJSON()}
	case "ipvs": // each ClusterIP is the node's own
		dev := "kube-ipvs0"
		ns.Links = append(ns.Links, netstacktest.Device(4, dev, "dummy", byte(n)))
		ns.Sysctls["net.ipv4.vs.conntrack"] = "1"
		ns.SetPart(netstack.PartIPVS, netstack.Status{State: netstack.StateOK})
		ns.IPVS.File = "ipvsadm-save.txt"
		for i := range spec.Services {
			netstacktest.Own(ns, dev, netip.PrefixFrom(spec.ClusterIP(i), 32))
			ns.IPVS.Data = fmt.Appendf(ns.IPVS.Data, "-A -t %s:%d -s rr\n", spec.ClusterIP(i), proxyrules.ServicePort)
			for e := range spec.Endpoints {
				ns.IPVS.Data = fmt.Appendf(ns.IPVS.Data, "-a -t %s:%d -r %s:%d -m -w 1\n",
					spec.ClusterIP(i), proxyrules.ServicePort, spec.Backend(i, e), proxyrules.EndpointPort)
			}
		}
	}
	return ns
}

func clusterPod(n int) *netstack.Namespace {
	ns := netstacktest.Known(fmt.Sprintf("pod-%d", n), netstack.KindPod)
	ns.Node, ns.Pod = fmt.Sprintf("node-%d", n), podName(n)
	ns.NSIDs = map[int]string{0: ns.Node}
	eth := netstacktest.Device(2, "eth0", "veth", 0x80|byte(n))
	eth.Peer, eth.PeerNSID = 3, 0
	ns.Links = []netstack.Link{netstacktest.Loopback(), eth}
	netstacktest.Own(ns, "eth0", netip.PrefixFrom(podOf(n), 32))
	gateway := netip.AddrFrom4([4]byte{10, 128, byte(n), 1})
	netstacktest.Via(ns, gateway.String()+"/32", "eth0", netip.Addr{})
	netstacktest.Via(ns, "0.0.0.0/0", "eth0", gateway)
	ns.Sockets = []netstack.Socket{{
		Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen,
		Local: netip.AddrPortFrom(netip.IPv4Unspecified(), proxyrules.EndpointPort), SendQ: 128,
	}}
	return ns
}

// toLast asks for the Service that comes last in the rules.
func toLast(services int) verdict.Query {
	ip := (&proxyrules.Spec{Services: services}).ClusterIP(services - 1)
	return tcp("pod:"+podName(0), ip.String(), proxyrules.ServicePort)
}

func compileWorld(tb testing.TB, s *simulator.Snapshot) *simulator.World {
	tb.Helper()
	w, err := simulator.Compile(s)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// TestServicesInACluster makes sure that the benchmarks measure what they say.
func TestServicesInACluster(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		r := diagnose(t, compileWorld(t, routedCluster(mode, 500)), toLast(500))
		if r.Verdict != verdict.Reachable || len(r.Paths) != 3 {
			t.Fatalf("%s: %s over %d paths: %v", mode, r.Verdict, len(r.Paths), r.Reasons)
		}
		for i, p := range r.Paths {
			if p.Destination.IP != podOf(i+1).String() || p.Destination.Port != proxyrules.EndpointPort || *p.Probability < 0.33 || *p.Probability > 0.34 {
				t.Errorf("%s: path %d leads to %v with probability %v", mode, i, p.Destination, *p.Probability)
			}
			if len(p.Hops) < 4 || len(p.Reverse) < 4 || len(p.Translations) != 1 {
				t.Errorf("%s: path %d has %d hops, %d back, and %d translations", mode, i, len(p.Hops), len(p.Reverse), len(p.Translations))
			}
		}
	}
}

// What the API names and the rules lack, or the other way round, is told with
// the mode of the proxy whose rules they are.
func TestMissingAndUnexpectedBackends(t *testing.T) {
	ip := (&proxyrules.Spec{Services: 10}).ClusterIP(9).String()
	stranger := netip.MustParseAddr("10.128.9.2")
	var endpoints []discoveryv1.Endpoint
	for _, a := range []netip.Addr{podOf(1), podOf(2), stranger} {
		endpoints = append(endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}})
	}
	name, target := "", int32(proxyrules.EndpointPort)
	objects := cluster.Objects{
		Services: []corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "last"},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: proxyrules.ServicePort}}},
		}},
		EndpointSlices: []discoveryv1.EndpointSlice{{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "last-1", Labels: map[string]string{discoveryv1.LabelServiceName: "last"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &target}},
		}},
	}
	for _, mode := range netstack.ProxyModes() {
		s := routedCluster(mode, 10)
		s.Cluster = objects
		r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), "svc:shop/last", proxyrules.ServicePort))
		if r.Verdict != verdict.Reachable {
			t.Errorf("%s: %s, want reachable: a difference alone changes nothing", mode, r.Verdict)
		}
		var got []string
		for _, f := range r.Reasons {
			if f.Code == verdict.ServiceBackendMismatch {
				got = append(got, string(f.Severity)+": "+f.Message)
			}
		}
		slices.Sort(got)
		want := []string{
			fmt.Sprintf("warning: endpoint %s:%d of service shop/last is unexpected in %s on node node-0", podOf(3), proxyrules.EndpointPort, mode),
			fmt.Sprintf("warning: endpoint %s:%d of service shop/last is missing in %s on node node-0", stranger, proxyrules.EndpointPort, mode),
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nwant\n%q", mode, got, want)
		}
	}
}

// BenchmarkCompile compiles the seven namespaces of the sample.
func BenchmarkCompile(b *testing.B) {
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer cputime.Measure(b)()
	for b.Loop() {
		compileWorld(b, s)
	}
}

// BenchmarkReport makes whole reports as JSON: from a pod to the last Service,
// which has three endpoints on other nodes; every leg, with its trace.
func BenchmarkReport(b *testing.B) {
	for _, mode := range []string{"iptables", "nftables"} {
		for _, services := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("mode=%s/services=%d", mode, services), func(b *testing.B) {
				w := compileWorld(b, routedCluster(mode, services))
				q := toLast(services)
				var data []byte
				b.ReportAllocs()
				defer cputime.Measure(b)()
				for b.Loop() {
					r, err := w.Diagnose(q)
					if err != nil {
						b.Fatal(err)
					}
					if data, err = r.AppendJSON(data[:0]); err != nil || len(data) < 1000 {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkEndpoints makes reports on a Service with a thousand endpoints, each a path of
// its own, which are compared with those that the API names.
func BenchmarkEndpoints(b *testing.B) {
	const endpoints = 1000
	spec := &proxyrules.Spec{Services: 1, Endpoints: endpoints, Backend: func(_, endpoint int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 128, byte(1 + endpoint/250), byte(2 + endpoint%250)})
	}}
	s := routedClusterOf(6, "nftables", 1)
	name, target := "", int32(proxyrules.EndpointPort)
	slice := discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "s-1", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &target}},
	}
	for i := range endpoints {
		addr := spec.Backend(0, i)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}})
		node, pod := s.Namespaces[2*(1+i/250)], s.Namespaces[2*(1+i/250)+1]
		if addr != podOf(1+i/250) {
			netstacktest.Own(pod, "eth0", netip.PrefixFrom(addr, 32))
			netstacktest.Via(node, addr.String()+"/32", "veth0", netip.Addr{})
		}
	}
	s.Namespaces[0].NFT.Data = spec.NFTablesJSON()
	s.Cluster.EndpointSlices = []discoveryv1.EndpointSlice{slice}
	s.Cluster.Services = []corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "s"},
		Spec:       corev1.ServiceSpec{ClusterIP: spec.ClusterIP(0).String(), Ports: []corev1.ServicePort{{Port: proxyrules.ServicePort}}},
	}}
	w := compileWorld(b, s)
	b.ReportAllocs()
	defer cputime.Measure(b)()
	for b.Loop() {
		r, err := w.Diagnose(tcp("pod:"+podName(0), "svc:shop/s", proxyrules.ServicePort))
		if err != nil {
			b.Fatal(err)
		}
		if r.Verdict != verdict.Reachable || len(r.Paths) != endpoints || len(r.Reasons) > 0 {
			b.Fatal(r.Verdict, len(r.Paths), r.Reasons)
		}
	}
}

// BenchmarkDiagnose makes reports on the sample.
func BenchmarkDiagnose(b *testing.B) {
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		b.Fatal(err)
	}
	w := compileWorld(b, s)
	icmp := verdict.Query{From: web, To: "pod:shop/db-0", Protocol: verdict.ICMP}
	for name, q := range map[string]verdict.Query{
		"echo across nodes, two packets": icmp,
		"pod across nodes, four packets": tcp(web, "pod:shop/db-0", 5432),
		"pod across nodes, dropped":      tcp(web, "pod:shop/api-1", 8080),
		"service with 1 backend":         tcp(web, "svc:shop/db", 5432),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer cputime.Measure(b)()
			for b.Loop() {
				if _, err := w.Diagnose(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
