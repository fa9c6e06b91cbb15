package simulator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// dnsPod makes shop/db-0 the cluster's DNS, as kube-system/db-0: what listens there
// is found by the resolv.conf of web-0. It returns the server's address.
func dnsPod(t *testing.T, s *simulator.Snapshot, resolvConf string) netip.Addr {
	t.Helper()
	host := namespace(t, s, "shop-db-0")
	host.Pod = "kube-system/db-0"
	host.Sockets = append(slices.Clone(host.Sockets), netstack.Socket{Protocol: netstack.ProtoUDP, State: netstack.SocketUnconnected, Local: netip.MustParseAddrPort("0.0.0.0:53")})
	var addr netip.Addr
	for i := range s.Cluster.Pods {
		p := &s.Cluster.Pods[i]
		if p.Name == "db-0" {
			p.Namespace, p.Labels = "kube-system", map[string]string{"k8s-app": "kube-dns"}
			addr = netip.MustParseAddr(p.Status.PodIP)
		}
	}
	s.Cluster.Services = append(
		s.Cluster.Services,
		corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.10", Selector: map[string]string{"k8s-app": "kube-dns"}, Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}}},
		},
		corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "alias"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "API.shop.svc.cluster.local."}},
		corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "away"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}},
	)
	client := namespace(t, s, "shop-web-0")
	client.ResolvConf = netstack.Text{File: "resolv.conf", Data: []byte(strings.ReplaceAll(resolvConf, "DNS", addr.String()))}
	client.Hosts = netstack.Text{File: "hosts", Data: []byte("10.244.2.77 known\n")}
	for _, part := range []netstack.Part{netstack.PartResolvConf, netstack.PartHosts} {
		client.SetPart(part, netstack.Status{State: netstack.StateOK})
	}
	return addr
}

const podResolvConf = "nameserver DNS\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"

func triedNames(r *verdict.Report) string {
	var list []string
	if r.Resolution != nil {
		for _, tried := range r.Resolution.Tried {
			list = append(list, tried.Name)
		}
	}
	return strings.Join(list, " ")
}

func TestNamesOfTheCluster(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) { dnsPod(t, s, podResolvConf) })
	api, _ := w.Cluster().Service("shop", "api")
	for _, test := range []struct {
		to, tried, addresses string
		reason               verdict.Code
		verdict              verdict.Verdict
	}{
		{"dns:api", "api.shop.svc.cluster.local", api.ClusterIPs[0].String(), "", ""},
		{"dns:API.shop", "api.shop.shop.svc.cluster.local api.shop.svc.cluster.local", api.ClusterIPs[0].String(), "", ""},
		{"dns:alias", "alias.shop.svc.cluster.local", api.ClusterIPs[0].String(), "", ""},
		{"dns:10-244-1-10.shop.pod.cluster.local.", "10-244-1-10.shop.pod.cluster.local", "10.244.1.10", "", ""},
		{"dns:known", "known", "10.244.2.77", "", ""},
		{"dns:nobody.shop.svc.cluster.local.", "nobody.shop.svc.cluster.local", "", verdict.DNSNameNotFound, verdict.Unreachable},
		{"dns:api.nowhere.svc.cluster.local.", "api.nowhere.svc.cluster.local", "", verdict.DNSNameNotFound, verdict.Unreachable},
		{"dns:example.org.", "", "", verdict.EndpointUnresolved, verdict.Unknown},
		{"dns:away", "", "", verdict.EndpointUnresolved, verdict.Unknown},
	} {
		r := diagnose(t, w, tcp(web, test.to, 80))
		if r.Resolution == nil || triedNames(r) != test.tried || !strings.HasPrefix(strings.Join(r.Resolution.Addresses, " "), test.addresses) {
			t.Errorf("%s: %+v, want %s to give %s; %v", test.to, r.Resolution, test.tried, test.addresses, r.Reasons)
		}
		if test.verdict != "" && (r.Verdict != test.verdict || r.Reason() != test.reason) {
			t.Errorf("%s: %s %v, want %s %s", test.to, r.Verdict, r.Reasons, test.verdict, test.reason)
		}
	}
	named, direct := diagnose(t, w, tcp(web, "dns:api", 80)), diagnose(t, w, tcp(web, "svc:shop/api", 80))
	if named.Verdict != direct.Verdict || named.Reason() != direct.Reason() || len(named.Paths) != len(direct.Paths) {
		t.Errorf("by name %s %s with %d paths, by service %s %s with %d", named.Verdict, named.Reason(), len(named.Paths), direct.Verdict, direct.Reason(), len(direct.Paths))
	}
}

// A service without an address stands for its ready endpoints, at the port that is asked
// for, or for a name.
func TestServicesWithoutAnAddress(t *testing.T) {
	const far, broken, unready = "10.244.2.30", "10.244.2.20", "10.244.1.20"
	no, tcpProtocol := false, corev1.ProtocolTCP
	headless := func(name string, unspecified bool, addrs ...string) func(*simulator.Snapshot) {
		return func(s *simulator.Snapshot) {
			s.Cluster.Services = append(s.Cluster.Services, corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
				Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: 5432, TargetPort: intstr.FromString("db")}}},
			})
			slice := discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
				AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: new(int32(9)), Protocol: &tcpProtocol}},
			}
			for _, a := range addrs {
				e := discoveryv1.Endpoint{Addresses: []string{a}}
				if a == unready && !unspecified {
					e.Conditions.Ready = &no
				}
				slice.Endpoints = append(slice.Endpoints, e)
			}
			s.Cluster.EndpointSlices = append(s.Cluster.EndpointSlices, slice)
		}
	}
	w := world(t, func(s *simulator.Snapshot) {
		dnsPod(t, s, podResolvConf)
		headless("one", false, far, unready)(s)
		headless("all", true, far, unready, broken)(s)
		headless("none", false, unready)(s)
		for name, external := range map[string]string{"addressed": "10.244.2.30", "nobody": "nobody.shop.svc.cluster.local", "known": "known"} {
			s.Cluster.Services = append(s.Cluster.Services, corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: external},
			})
		}
	})
	for _, test := range []struct {
		from, to string
		port     uint16
		want     verdict.Verdict
		reason   verdict.Code
		says     string   // the first reason
		paths    []string // destination and verdict of each
	}{
		{web, "svc:shop/one", 5432, verdict.Reachable, "", "", []string{far + ":5432 reachable"}},
		{web, "svc:shop/one", 9, verdict.Unreachable, verdict.NoListener, far + ":9", []string{far + ":9 unreachable"}},
		{web, "svc:shop/all", 5432, verdict.Degraded, verdict.NoListener, unready, []string{unready + ":5432 unreachable", broken + ":5432 unreachable", far + ":5432 reachable"}},
		{web, "svc:shop/none", 5432, verdict.Unreachable, verdict.ServiceNoEndpoints, "service shop/none has no valid endpoint for 5432/tcp", nil},
		{"pod:shop/nobody", "svc:shop/one", 5432, verdict.Unknown, verdict.EndpointUnresolved, "there is no pod shop/nobody", nil},
		{"svc:shop/db", "svc:shop/one", 5432, verdict.Unknown, verdict.EndpointUnresolved, "a service sends no packets", nil},
		{web, "svc:shop/alias", 80, verdict.Unreachable, verdict.NoListener, "", []string{"fd00:10:244:1::20:8080 unreachable", "fd00:10:244:2::20:8080 unreachable"}},
		{web, "svc:shop/away", 80, verdict.Unknown, verdict.EndpointUnresolved, "answers for example.org is not known", nil},
		{web, "svc:shop/nobody", 80, verdict.Unreachable, verdict.DNSNameNotFound, "cluster DNS knows no address of nobody.shop.svc.cluster.local.", nil},
		{web, "svc:shop/known", 80, verdict.Unknown, verdict.EndpointUnresolved, "answers for known is not known", nil}, // aliases are nothing to hosts files
		{web, "svc:shop/addressed", 5432, verdict.Unreachable, verdict.DNSNameNotFound, "what it is to be an alias of, 10.244.2.30, is an address", nil},
	} {
		r := diagnose(t, w, tcp(test.from, test.to, test.port))
		var paths []string
		for _, p := range r.Paths {
			paths = append(paths, fmt.Sprintf("%s:%d %s", p.Destination.IP, p.Destination.Port, p.Verdict))
		}
		slices.Sort(paths)
		if r.Verdict != test.want || r.Reason() != test.reason || test.says != "" && !strings.Contains(r.Reasons[0].Message, test.says) || !slices.Equal(paths, test.paths) {
			t.Errorf("%s -> %s: %s %v %v, want %s %s %q %v", test.from, test.to, r.Verdict, r.Reasons, paths, test.want, test.reason, test.says, test.paths)
		}
	}

	r := diagnose(t, w, tcp(web, "svc:shop/all", 5432))
	if !slices.Contains(r.Assumptions, "nothing translates the ports of a headless service: clients connect to port 5432 of its pods, whatever its targetPort db stands for") {
		t.Errorf("assumptions %q", r.Assumptions)
	}
	if p := r.Paths[0].Probability; p == nil || *p != 1.0/3 {
		t.Errorf("probability %v", p)
	}
	for to, want := range map[string]bool{"svc:shop/away": true, "dns:api": true, "svc:shop/all": false, "svc:shop/api": false, "pod:shop/db-0": false} {
		if q := tcp(web, to, 80); w.AsksNames(&q) != want {
			t.Errorf("%s: name servers may be asked: %v", to, !want)
		}
	}
	w = world(t, func(s *simulator.Snapshot) {
		headless("one", false, far)(s)
		s.Cluster.Missing = map[string]string{"endpointslices": "forbidden"}
	})
	if r := diagnose(t, w, tcp(web, "svc:shop/one", 5432)); r.Verdict != verdict.Unknown || r.Reasons[0].Message != "which endpoints the headless service shop/one has is not known: forbidden" {
		t.Errorf("%s %v", r.Verdict, r.Reasons)
	}
}

// A line that is none of a hosts file does not make the others unknown, as it does not to
// the C library; a file that could not be read may say anything.
func TestHostsFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		hosts  string
		state  netstack.State
		want   verdict.Verdict
		reason verdict.Code
	}{
		{"a line that is none", "10.244.1.20 here\n<TODO> x\n", netstack.StateOK, verdict.Unreachable, verdict.NoListener},
		{"no such line", "<TODO> here\n", netstack.StateOK, verdict.Unreachable, verdict.DNSNameNotFound},
		{"not collected", "", netstack.StateMissing, verdict.Unreachable, verdict.DNSNameNotFound},
		{"not readable", "", netstack.StateFailed, verdict.Unknown, verdict.CollectorFailed},
	} {
		w := world(t, func(s *simulator.Snapshot) {
			dnsPod(t, s, podResolvConf)
			client := namespace(t, s, "shop-web-0")
			client.Hosts.Data = []byte(test.hosts)
			client.ResolvConf.Data = []byte("nameserver x\n" + strings.Replace(string(client.ResolvConf.Data), "ndots:5", "ndots:x", 1))
			client.SetPart(netstack.PartHosts, netstack.Status{State: test.state})
			s.Names = []resolver.Answer{
				{Question: resolver.Question{Namespace: client.Name, Server: netip.MustParseAddr("10.244.2.30"), Name: "here"}, Status: resolver.NotFound},
			}
		})
		if r := diagnose(t, w, tcp(web, "dns:here", 80)); r.Verdict != test.want || r.Reason() != test.reason {
			t.Errorf("%s: %s %v, want %s %s", test.name, r.Verdict, r.Reasons, test.want, test.reason)
		}
	}
}

// TestNamesOutsideAreAsked plays the caller that asks the name servers.
func TestNamesOutsideAreAsked(t *testing.T) {
	var server netip.Addr
	w := world(t, func(s *simulator.Snapshot) { server = dnsPod(t, s, podResolvConf) })
	q := tcp(web, "dns:example.org", 443)
	lookUp := func(begin func(verdict.Query) (*simulator.Lookup, error)) *simulator.Lookup {
		l, err := begin(q)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := lookUp(w.LookUp).Question()
	if first == nil || first.Name != "example.org" || first.Server != server || first.Namespace != "example-shop-web-0" {
		t.Fatalf("question %v", first)
	}
	if live := lookUp(w.LookUpLive).Question(); live == nil || live.Name != "example.org.shop.svc.cluster.local" {
		t.Errorf("where objects are not believed, the first question is %v", live)
	}
	for _, test := range []struct {
		answer  resolver.Answer
		verdict verdict.Verdict
		reason  verdict.Code
	}{
		{resolver.Answer{Status: resolver.OK, Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.10")}}, "", ""},
		{resolver.Answer{Status: resolver.OK}, verdict.Unreachable, verdict.DNSNameNotFound},
		{resolver.Answer{Status: resolver.NotFound}, verdict.Unreachable, verdict.DNSNameNotFound},
		{resolver.Answer{Status: resolver.Failed, Detail: "SERVFAIL"}, verdict.Unreachable, verdict.DNSTimeout},
		{resolver.Answer{Status: resolver.Timeout}, verdict.Unreachable, verdict.DNSTimeout},
	} {
		test.answer.Question = *first
		l := lookUp(w.LookUp)
		l.Answer(test.answer)
		if again := l.Question(); again != nil {
			t.Errorf("%s: asked again: %v", test.answer.Status, again)
		}
		r := l.Report()
		if test.verdict != "" && (r.Verdict != test.verdict || r.Reason() != test.reason) {
			t.Errorf("%+v: %s %v, want %s %s", test.answer, r.Verdict, r.Reasons, test.verdict, test.reason)
		}
		if test.verdict == "" && (len(r.Paths) == 0 || r.Paths[0].Destination.IP != "10.244.1.10") {
			t.Errorf("%+v: %s %v", test.answer, r.Verdict, r.Reasons)
		}
	}
}

// TestASilentServerIsAskedOnce has a second one that knows.
func TestASilentServerIsAskedOnce(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) { dnsPod(t, s, "nameserver 192.0.2.53\n"+podResolvConf) })
	l, err := w.LookUpLive(tcp(web, "dns:api.shop", 80))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	for q := l.Question(); q != nil; q = l.Question() {
		a := resolver.Answer{Question: *q, Status: resolver.NotFound}
		switch {
		case q.Server == netip.MustParseAddr("192.0.2.53"):
			a.Status = resolver.Timeout
		case q.Name == "api.shop.svc.cluster.local":
			a.Status, a.Addresses = resolver.OK, []netip.Addr{netip.MustParseAddr("10.244.1.10")}
		}
		asked = append(asked, q.Server.String()+" "+q.Name)
		l.Answer(a)
	}
	dns := l.Report().Resolution.Servers[1]
	want := []string{"192.0.2.53 api.shop.shop.svc.cluster.local", dns + " api.shop.shop.svc.cluster.local", dns + " api.shop.svc.cluster.local"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	if addrs, why, err := l.Found(); err != nil || len(addrs) != 1 || addrs[0].String() != "10.244.1.10" {
		t.Errorf("found %v, %q, %v", addrs, why, err)
	}
}

// TestSilenceIsNotTakenForNoSuchName asks for a name with a dot as it is first, and then
// with the search domains.
func TestSilenceIsNotTakenForNoSuchName(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		dnsPod(t, s, "nameserver DNS\nsearch a.example b.example\n")
	})
	l, err := w.LookUp(tcp(web, "dns:api.example", 80))
	if err != nil {
		t.Fatal(err)
	}
	l.Answer(resolver.Answer{Question: *l.Question(), Status: resolver.Timeout})
	if r := l.Report(); l.Question() != nil || r.Verdict != verdict.Unreachable || r.Reason() != verdict.DNSTimeout {
		t.Errorf("%s %v, and asked %v", r.Verdict, r.Reasons, l.Question())
	}
}

// TestACacheOnTheNode has the cluster's DNS at an address that is every node's own, and
// a server there that is bound to no address.
func TestACacheOnTheNode(t *testing.T) {
	for _, cached := range []bool{true, false} {
		w := world(t, func(s *simulator.Snapshot) {
			dnsPod(t, s, "nameserver 169.254.20.10\n")
			if !cached {
				without(s, "fabric") // who is beyond the node is not known
				return
			}
			node := namespace(t, s, "node-1")
			node.Addresses = append(node.Addresses, netstack.Address{Dev: "lo", Prefix: netip.MustParsePrefix("169.254.20.10/32"), Scope: netstack.ScopeHost})
			node.Routes = append(node.Routes, netstack.Route{Family: netstack.IPv4, Table: 255, Type: netstack.RouteLocal, Scope: netstack.ScopeHost, Dst: netip.MustParsePrefix("169.254.20.10/32"), NextHops: []netstack.NextHop{{Dev: "lo"}}, PrefSrc: netip.MustParseAddr("169.254.20.10")})
			any53 := netip.MustParseAddrPort("0.0.0.0:53")
			node.Sockets = append(node.Sockets, netstack.Socket{Protocol: netstack.ProtoUDP, State: netstack.SocketUnconnected, Local: any53, Remote: netip.AddrPortFrom(any53.Addr(), 0)})
		})
		r := diagnose(t, w, verdict.Query{From: web, To: "dns:10-244-1-20.shop.pod.cluster.local.", Protocol: verdict.ICMP})
		doubtful := r.Verdict == verdict.Unknown
		unreachable := slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.DNSServiceUnreachable })
		if doubtful == cached || unreachable || r.Resolution == nil || len(r.Resolution.Addresses) == 0 {
			t.Errorf("with a cache %t: %s %v %+v", cached, r.Verdict, r.Reasons, r.Resolution)
		}
	}
}

func TestTheWayToTheNameServerDecides(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		dnsPod(t, s, podResolvConf)
		namespace(t, s, "shop-db-0").Sockets = nil
	})
	r := diagnose(t, w, tcp(web, "dns:api", 80))
	if r.Verdict != verdict.Unreachable || r.Reason() != verdict.DNSServiceUnreachable || len(r.Reasons) < 2 || r.Reasons[1].Code != verdict.NoListener || len(r.Paths) != 1 {
		t.Errorf("%s %v", r.Verdict, r.Reasons)
	}
	two := world(t, func(s *simulator.Snapshot) {
		dnsPod(t, s, "nameserver 10.244.1.10\n"+podResolvConf)
	})
	r = diagnose(t, two, tcp(web, "dns:api", 80))
	if len(r.Resolution.Addresses) == 0 || len(r.Resolution.Tried) != 2 || !slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool {
		return f.Code == verdict.DNSServiceUnreachable && f.Severity == verdict.SeverityWarning
	}) {
		t.Errorf("with a first server that cannot be reached: %+v %v", r.Resolution, r.Reasons)
	}
}

func TestAPodWithoutItsFileIsConfiguredAsByKubelet(t *testing.T) {
	w := world(t, func(s *simulator.Snapshot) {
		dnsPod(t, s, podResolvConf)
		client := namespace(t, s, "shop-web-0")
		delete(client.Parts, netstack.PartResolvConf)
		for i := range s.Cluster.Pods {
			if p := &s.Cluster.Pods[i]; p.Name == "web-0" {
				p.Spec.DNSPolicy = corev1.DNSNone
				p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53"}, Searches: []string{"Example."}}
			}
		}
	})
	r := diagnose(t, w, tcp(web, "dns:api", 80))
	if r.Resolution == nil || strings.Join(r.Resolution.Servers, " ") != "192.0.2.53" || strings.Join(r.Resolution.Search, " ") != "example" || r.Resolution.Ndots != 1 {
		t.Errorf("%+v %v", r.Resolution, r.Reasons)
	}
}

// What a node's resolv.conf says is not what its pods are given where a resolver on
// loopback stands in it.
func TestAPodThatIsGivenTheNodesFile(t *testing.T) {
	for _, test := range []struct {
		name, node  string
		hostNetwork bool
		servers     string
		reason      verdict.Code
	}{
		{"a server elsewhere", "nameserver 192.0.2.53\n", false, "192.0.2.53", verdict.DNSServiceUnreachable},
		{"systemd-resolved", "nameserver 127.0.0.53\noptions edns0\n", false, "", verdict.SnapshotMissing},
		{"one of two", "nameserver 192.0.2.53\nnameserver ::1\n", false, "", verdict.SnapshotMissing},
		{"systemd-resolved, where the pod reaches it", "nameserver 127.0.0.53\n", true, "127.0.0.53", verdict.DNSServiceUnreachable},
	} {
		w := world(t, func(s *simulator.Snapshot) {
			delete(namespace(t, s, "shop-web-0").Parts, netstack.PartResolvConf)
			node := namespace(t, s, "node-1")
			node.ResolvConf = netstack.Text{File: "resolv.conf", Data: []byte(test.node)}
			node.SetPart(netstack.PartResolvConf, netstack.Status{State: netstack.StateOK})
			for i := range s.Cluster.Pods {
				if p := &s.Cluster.Pods[i]; p.Name == "web-0" {
					p.Spec.DNSPolicy, p.Spec.HostNetwork = corev1.DNSDefault, test.hostNetwork
				}
			}
		})
		r := diagnose(t, w, tcp(web, "dns:api.example", 80))
		servers := ""
		if r.Resolution != nil {
			servers = strings.Join(r.Resolution.Servers, " ")
		}
		if servers != test.servers || r.Reason() != test.reason {
			t.Errorf("%s: servers %q, %s %v, want %q %s", test.name, servers, r.Verdict, r.Reasons, test.servers, test.reason)
		}
	}
}

// The cluster's DNS is not called kube-system/kube-dns everywhere.
func TestTheClustersDNSIsFoundByOtherNames(t *testing.T) {
	service := func(namespace, name, ip string, port int32) corev1.Service {
		return corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: port, Protocol: corev1.ProtocolUDP}}},
		}
	}
	addr := netip.MustParseAddr
	for _, test := range []struct {
		name     string
		services []corev1.Service
		server   string
		want     bool
	}{
		{"OpenShift's", []corev1.Service{service("openshift-dns", "dns-default", "172.30.0.10", 53)}, "172.30.0.10", true},
		{"another service, where it is known", []corev1.Service{service("openshift-dns", "dns-default", "172.30.0.10", 53), service("shop", "bind", "172.30.0.11", 53)}, "172.30.0.11", false},
		{"one of another name", []corev1.Service{service("dns", "coredns", "172.30.0.10", 53)}, "172.30.0.10", true},
		{"one of another port", []corev1.Service{service("dns", "coredns", "172.30.0.10", 5353)}, "172.30.0.10", false},
		{"no service", nil, "172.30.0.10", false},
	} {
		x := world(t, func(s *simulator.Snapshot) { s.Cluster.Services = test.services }).Cluster()
		if got := x.IsDNS(addr(test.server)); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// The API knows aliases that a hosts file which was not collected would have.
func TestHostAliases(t *testing.T) {
	for _, collected := range []bool{false, true} {
		w := world(t, func(s *simulator.Snapshot) {
			dnsPod(t, s, podResolvConf)
			if !collected {
				delete(namespace(t, s, "shop-web-0").Parts, netstack.PartHosts)
			}
			for i := range s.Cluster.Pods {
				if p := &s.Cluster.Pods[i]; p.Name == "web-0" {
					p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.244.1.20", Hostnames: []string{"first", "DB"}}, {IP: "10.244.1.21", Hostnames: []string{"db"}}}
					*p = cluster.KeepPod(p) // as a watcher keeps it
				}
			}
		})
		r, want := diagnose(t, w, tcp(web, "dns:db", 80)), "10.244.1.20 10.244.1.21"
		if collected { // whose file says what there is
			db, _ := w.Cluster().Service("shop", "db")
			want = strings.Trim(fmt.Sprint(db.ClusterIPs), "[]")
		}
		if r.Resolution == nil || strings.Join(r.Resolution.Addresses, " ") != want {
			t.Errorf("with the file collected %t: %+v %v, want %s", collected, r.Resolution, r.Reasons, want)
		}
	}
}
