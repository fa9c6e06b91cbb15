package simulator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// servedCluster is routedCluster with the pods and nodes as objects, others besides, and
// what writes the rules of each node, as iptables-save has them.
func servedCluster(t *testing.T, objects string, rules func(node int) string) *simulator.Snapshot {
	t.Helper()
	s := routedCluster("", 0)
	for n := range clusterNodes {
		objects += fmt.Sprintf(`
---
{apiVersion: v1, kind: Node, metadata: {name: node-%d, labels: {topology.kubernetes.io/zone: zone-%d}}, spec: {podCIDR: 10.128.%d.0/24}, status: {addresses: [{type: InternalIP, address: %s}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pod-%d, namespace: shop}, spec: {nodeName: node-%d}, status: {phase: Running, podIP: %s}}
`, n, n, n, nodeAddr(n), n, n, podOf(n))
	}
	if err := cluster.Decode("objects.yaml", []byte(objects), &s.Cluster); err != nil {
		t.Fatal(err)
	}
	for n := range clusterNodes {
		at := slices.IndexFunc(s.Namespaces, func(ns *netstack.Namespace) bool {
			return ns.Kind == netstack.KindNode && ns.Node == fmt.Sprintf("node-%d", n)
		})
		s.Namespaces[at].IPTables = []netstack.IPTablesDump{{
			Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save.txt", Data: []byte(rules(n))},
		}}
	}
	return s
}

// service is a Service and its EndpointSlice, with the pods of some nodes as endpoints;
// pods are "NODE" or "NODE ZONE", where ZONE is a hint.
func service(name, spec string, pods ...string) string {
	var endpoints []string
	for _, p := range pods {
		node, zone, hinted := strings.Cut(p, " ")
		hints := ""
		if hinted {
			hints = ", hints: {forZones: [{name: " + zone + "}]}"
		}
		endpoints = append(endpoints, fmt.Sprintf("{addresses: [10.128.%s.2], nodeName: node-%s%s}", node, node, hints))
	}
	return fmt.Sprintf(`
---
{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: shop}, spec: {%s}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %s-1, namespace: shop, labels: {kubernetes.io/service-name: %s}},
addressType: IPv4, ports: [{port: 8080}], endpoints: [%s]}
`, name, spec, name, name, strings.Join(endpoints, ", "))
}

// nodePortRules are those of kube-proxy for node port 30081: the endpoints that all may use
// and those of the node, for a Service with externalTrafficPolicy Local.
func nodePortRules(all, local []string) string {
	var b strings.Builder
	b.WriteString("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n:KUBE-NODEPORTS -\n:KUBE-EXT -\n:KUBE-SVC -\n:KUBE-SVL -\n")
	b.WriteString("-A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n-A OUTPUT -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n")
	b.WriteString("-A KUBE-NODEPORTS -p tcp -m tcp --dport 30081 -j KUBE-EXT\n")
	b.WriteString("-A KUBE-EXT -m addrtype --src-type LOCAL -j KUBE-SVC\n-A KUBE-EXT -j KUBE-SVL\n")
	balance(&b, "KUBE-SVC", all)
	balance(&b, "KUBE-SVL", local)
	b.WriteString("COMMIT\n")
	if len(local) == 0 {
		b.WriteString("*filter\n:INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 30081 -m conntrack --ctstate NEW -j DROP\nCOMMIT\n")
	}
	return b.String()
}

// balance translates to one of some endpoints.
func balance(b *strings.Builder, chain string, endpoints []string) {
	for i, e := range endpoints {
		choice := ""
		if left := len(endpoints) - i; left > 1 {
			choice = fmt.Sprintf("-m statistic --mode random --probability %.11f ", 1/float64(left))
		}
		fmt.Fprintf(b, "-A %s -p tcp %s-j DNAT --to-destination %s:8080\n", chain, choice, e)
	}
}

// firstReason is "CODE@NODE: MESSAGE".
func firstReason(r *verdict.Report) string {
	if len(r.Reasons) == 0 {
		return ""
	}
	f := &r.Reasons[0]
	return fmt.Sprintf("%s@%s: %s", f.Code, f.Where.Node, f.Message)
}

// A port of a node is translated there, wherever its client is.
func TestANodePortIsTranslatedOnItsNode(t *testing.T) {
	const local = "type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30081}]"
	const any = "type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30081}]"
	at := func(nodes ...int) (list []string) {
		for _, n := range nodes {
			list = append(list, podOf(n).String())
		}
		return list
	}
	onOne := func(node int) string {
		if node == 1 {
			return nodePortRules(at(1), at(1))
		}
		return nodePortRules(at(1), nil)
	}
	onBoth := func(node int) string {
		if node == 1 || node == 2 {
			return nodePortRules(at(1, 2), at(node))
		}
		return nodePortRules(at(1, 2), nil)
	}
	near := func(node int) string { return nodePortRules(at(node), at(node)) }
	without := func(int) string { return "" }
	const none = "service shop/s has no valid endpoint for 80/tcp on node node-2, and its externalTrafficPolicy is Local"
	for _, test := range []struct {
		name, objects string
		rules         func(int) string
		from          string
		to            int
		want          verdict.Verdict
		reason        string
	}{
		{"no endpoint there, from a node", service("s", local, "1"), onOne, "node:node-1", 2, verdict.Unreachable, "ServiceNoEndpoints@node-2: " + none},
		{"no endpoint there, from a pod", service("s", local, "1"), onOne, "pod:shop/pod-1", 2, verdict.Unreachable, "ServiceNoEndpoints@node-2: " + none},
		{"no endpoint there, from that node", service("s", local, "1"), onOne, "node:node-2", 2, verdict.Reachable, ""},
		{"an endpoint there, from a node", service("s", local, "1"), onOne, "node:node-2", 1, verdict.Reachable, ""},
		{"an endpoint on each, from a node", service("s", local, "1", "2"), onBoth, "node:node-1", 2, verdict.Reachable, ""},
		{"an endpoint on each, from a pod", service("s", local, "1", "2"), onBoth, "pod:shop/pod-1", 2, verdict.Reachable, ""},
		{"a pod that the node takes for one of the cluster", service("s", local, "1"), near, "pod:shop/pod-1", 2, verdict.Reachable, ""},
		{"hints for the node's zone", service("s", any, "1 zone-1", "2 zone-2"), near, "node:node-1", 2, verdict.Reachable, ""},
		{"hints for the node's zone, from a pod", service("s", any, "1 zone-1", "2 zone-2"), near, "pod:shop/pod-1", 2, verdict.Reachable, ""},
		{"dropped before", service("s", local, "2"), func(node int) string {
			if node == 1 {
				return "*filter\n:OUTPUT ACCEPT\n-A OUTPUT -p tcp -m tcp --dport 30081 -j DROP\nCOMMIT\n"
			}
			return nodePortRules(at(2), at(2))
		}, "node:node-1", 2, verdict.Unreachable, "NetfilterDrop@node-1: packet dropped by filter/OUTPUT rule 1: -A OUTPUT -p tcp -m tcp --dport 30081 -j DROP on node node-1"},
		{
			"no rules there", service("s", any, "1"), without, "pod:shop/pod-1", 2, verdict.Unreachable,
			"ServiceBackendMismatch@node-2: endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-2",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := compileWorld(t, servedCluster(t, test.objects, test.rules))
			r := diagnose(t, w, tcp(test.from, nodeAddr(test.to).String(), 30081))
			if first := firstReason(r); r.Verdict != test.want || first != test.reason {
				t.Errorf("%s %s, want %s %s", r.Verdict, first, test.want, test.reason)
			}
		})
	}
}

// An address may be that of a node and of Services, which are told by port and protocol.
func TestAnAddressOfAServiceAndOfANode(t *testing.T) {
	const node = 2
	const owner, shared = "192.168.50.12", "198.51.100.9"
	objects := service("web", "clusterIP: 10.96.0.1, externalIPs: ["+owner+"], ports: [{port: 80}]", "1") +
		service("ports", "clusterIP: 10.96.0.2, type: NodePort, ports: [{port: 80, nodePort: 30082}]") +
		service("one", "clusterIP: 10.96.0.3, externalIPs: ["+shared+"], ports: [{port: 80}]", "1") +
		service("two", "clusterIP: 10.96.0.4, externalIPs: ["+shared+"], ports: [{port: 443}]") +
		service("three", "clusterIP: 10.96.0.5, externalIPs: ["+shared+"], ports: [{port: 25}]", "3")
	balanced := func(mode string) string {
		return `
---
{apiVersion: v1, kind: Service, metadata: {name: balanced, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.96.0.6, loadBalancerSourceRanges: [192.0.2.0/24], ports: [{port: 8443, nodePort: 30084}]},
status: {loadBalancer: {ingress: [{ip: 198.51.100.9}, {ip: 192.168.50.12, ipMode: ` + mode + `}]}}}
`
	}
	rules := func(filter string) func(int) string {
		return func(at int) string {
			text := "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -d " + owner + " -p tcp --dport 80 -j DNAT --to-destination 10.128.1.2:8080\n" +
				"-A PREROUTING -d " + shared + " -p tcp --dport 80 -j DNAT --to-destination 10.128.3.2:8080\nCOMMIT\n"
			if at == node {
				text += "*filter\n:INPUT ACCEPT\n" + filter + "COMMIT\n"
			}
			return text
		}
	}
	for _, test := range []struct {
		name, objects, filter string
		listens               bool // on 22/tcp of the node
		to                    string
		port                  uint16
		want                  verdict.Verdict
		reason                string
	}{
		{"the node's own service", objects, "", true, owner, 22, verdict.Reachable, ""},
		{"nobody at the node's port", objects, "", false, owner, 22, verdict.Unreachable, "NoListener@node-2: no process listening on tcp 192.168.50.12:22 of node node-2"},
		{
			"dropped before the node's service", objects, "-A INPUT -p tcp -m tcp --dport 22 -j DROP\n", true, owner, 22, verdict.Unreachable,
			"NetfilterDrop@node-2: packet dropped by filter/INPUT rule 1: -A INPUT -p tcp -m tcp --dport 22 -j DROP on node node-2",
		},
		{"the Service at the node's address", objects, "", false, owner, 80, verdict.Reachable, ""},
		{"the port of the node for another Service", objects, "", false, owner, 30082, verdict.Unreachable, "ServiceNoEndpoints@node-2: service shop/ports has no valid endpoint for 80/tcp"},
		{"one of two Services", objects, "", false, shared, 80, verdict.Reachable, "ServiceBackendMismatch@node-0: endpoint 10.128.3.2:8080 of service shop/one is unexpected in iptables on node node-0"},
		{"the other, without endpoints", objects, "", false, shared, 443, verdict.Unreachable, "ServiceNoEndpoints@node-0: service shop/two has no valid endpoint for 443/tcp"},
		{"a third, without rules", objects, "", false, shared, 25, verdict.Unreachable, "ServiceBackendMismatch@node-0: endpoint 10.128.3.2:8080 of service shop/three is missing in iptables on node node-0"},
		{
			"a fourth, of a load balancer that does not admit the client", objects + balanced("VIP"), "", false, shared, 8443, verdict.Unreachable,
			"ServiceSourceRangeDeny@node-0: service shop/balanced sourceRanges does not allow 10.128.0.2",
		},
		{
			"a node's address that a load balancer in front has, too", objects + balanced("Proxy"), "", false, owner, 30084, verdict.Unreachable,
			"ServiceNoEndpoints@node-2: service shop/balanced has no valid endpoint for 8443/tcp",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := servedCluster(t, test.objects, rules(test.filter))
			for _, ns := range s.Namespaces {
				if ns.Node == "node-2" && ns.Kind == netstack.KindNode && test.listens {
					ns.Sockets = []netstack.Socket{{
						Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: netip.MustParseAddrPort("0.0.0.0:22"), SendQ: 128,
					}}
				}
				if ns.Node == "node-0" && test.to == shared { // nobody else has the shared address
					ns.Routes = slices.DeleteFunc(ns.Routes, func(r netstack.Route) bool { return ns.Kind == netstack.KindNode && r.Dst.Bits() == 0 })
				}
			}
			r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", test.to, test.port))
			if first := firstReason(r); r.Verdict != test.want || first != test.reason {
				t.Errorf("%s %s, want %s %s", r.Verdict, first, test.want, test.reason)
			}
		})
	}
}

// In IPVS mode each node has the addresses of Services: they are no node's for that.
func TestAnAddressOfAServiceOnItsDevice(t *testing.T) {
	s := routedCluster("ipvs", 1)
	ip := (&proxyrules.Spec{Services: 1}).ClusterIP(0).String()
	if err := cluster.Decode("objects.yaml", []byte(service("s", "clusterIP: "+ip+", ports: [{port: 80}]", "1", "2", "3")), &s.Cluster); err != nil {
		t.Fatal(err)
	}
	const want = "ServiceNoSuchPort@node-0: service shop/s has no port 81/tcp"
	r := diagnose(t, compileWorld(t, s), tcp("pod:"+podName(0), ip, 81))
	if first := firstReason(r); r.Verdict != verdict.Unreachable || first != want {
		t.Errorf("%s %s, want %s", r.Verdict, first, want)
	}
}

// Policies hold for the address of a node, though it may be a Service's, too.
func TestPoliciesHoldForANodeWhoseAddressAServiceHas(t *testing.T) {
	s := servedCluster(t, service("web", "clusterIP: 10.96.0.1, externalIPs: [192.168.50.12], ports: [{port: 80}]", "1"), func(int) string { return "" })
	p := denyAll("shop")
	p[0].Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	s.Cluster.NetworkPolicies = p
	r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-1", "192.168.50.12", 22))
	if r.Policy.Verdict != verdict.PolicyDeny {
		t.Errorf("policy %+v, want a denial", r.Policy)
	}
}

// A service proxy that knows the old endpoint alone lacks the new one.
func TestAServiceProxyThatKnowsTheOldEndpointAlone(t *testing.T) {
	for _, test := range []struct {
		listens  bool // the old one
		want     verdict.Verdict
		severity verdict.Severity
	}{{true, verdict.Reachable, verdict.SeverityWarning}, {false, verdict.Unreachable, verdict.SeverityFatal}} {
		s := servedCluster(t, service("s", "clusterIP: 10.96.0.9, ports: [{port: 80}]", "1"), func(int) string {
			return "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -d 10.96.0.9 -p tcp --dport 80 -j DNAT --to-destination 10.128.3.2:8080\nCOMMIT\n"
		})
		for _, ns := range s.Namespaces {
			if ns.Pod == podName(3) && !test.listens {
				ns.Sockets = nil
			}
		}
		r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", "svc:shop/s", 80))
		var got []string
		for _, f := range r.Reasons {
			if f.Code == verdict.ServiceBackendMismatch {
				got = append(got, fmt.Sprintf("%s: %s %q", f.Severity, f.Message, f.Evidence))
			}
		}
		want := []string{
			fmt.Sprintf(`%s: endpoint 10.128.3.2:8080 of service shop/s is unexpected in iptables on node node-0 ["-A PREROUTING -d 10.96.0.9 -p tcp --dport 80 -j DNAT --to-destination 10.128.3.2:8080"]`, test.severity),
			`warning: endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-0 []`,
		}
		if r.Verdict != test.want || r.Reason() != verdict.ServiceBackendMismatch || !slices.Equal(got, want) {
			t.Errorf("%s %q, want %s %q", r.Verdict, got, test.want, want)
		}
	}
}

// kube-proxy leaves a Service alone that its label gives to another service proxy.
func TestAServiceOfAnotherProxy(t *testing.T) {
	const left = `service shop/s is left to the service proxy "other", by its label: what the rules of nodes make of it is not compared with its endpoints`
	objects := strings.Replace(service("s", "clusterIP: 10.96.0.9, ports: [{port: 80}]", "1"),
		"metadata: {", "metadata: {labels: {service.kubernetes.io/service-proxy-name: other}, ", 1)
	stale := "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -d 10.96.0.9 -p tcp --dport 80 -j DNAT --to-destination 10.128.3.2:8080\nCOMMIT\n"
	for rules, want := range map[string]verdict.Code{"": verdict.SnapshotMissing, stale: ""} {
		r := diagnose(t, compileWorld(t, servedCluster(t, objects, func(int) string { return rules })), tcp("pod:shop/pod-0", "svc:shop/s", 80))
		if r.Reason() != want || !slices.Contains(r.Assumptions, left) {
			t.Errorf("%v, assumed %q, want %q", r.Reasons, r.Assumptions, want)
		}
	}
}

// Rules of the service proxy that are as they should be are not what is missing.
func TestWhatKeepsPacketsFromTheServiceProxy(t *testing.T) {
	const (
		missing  = "endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-0"
		proxy    = "-A PREROUTING -d 10.96.0.9 -p tcp --dport 80 -j DNAT --to-destination 10.128.1.2:8080\n"
		drop     = "*filter\n:FORWARD ACCEPT\n-A FORWARD -d 10.96.0.0/16 -j DROP\nCOMMIT\n*nat\n:PREROUTING ACCEPT\n"
		ends     = ": another rule ends nat/PREROUTING before"
		tracked  = ": what is not tracked is not translated"
		toPort   = "-p tcp --dport 80 -j "
		commit   = "COMMIT\n"
		untrack  = "*raw\n:PREROUTING ACCEPT\n-A PREROUTING " + toPort + "CT --notrack\nCOMMIT\n"
		ofPacket = " for this packet"
	)
	for _, test := range []struct{ name, rules, want, evidence string }{
		{"no rules", drop + commit, missing, "endpoint 10.128.1.2:8080"},
		{"not tracked", untrack + drop + proxy + commit, missing + ofPacket + tracked, "raw/PREROUTING: -A PREROUTING " + toPort + "CT --notrack"},
		{"accepted before", drop + "-A PREROUTING " + toPort + "ACCEPT\n" + proxy + commit, missing + ofPacket + ends, "nat/PREROUTING: -A PREROUTING " + toPort + "ACCEPT"},
		{"returned before", drop + "-A PREROUTING " + toPort + "RETURN\n" + proxy + commit, missing + ofPacket + ends, "nat/PREROUTING: -A PREROUTING " + toPort + "RETURN"},
		{"accepted by a chain before", drop + ":MINE -\n-A MINE " + toPort + "ACCEPT\n-A PREROUTING -j MINE\n" + proxy + commit, missing + ofPacket + ends, "nat/PREROUTING: -A MINE " + toPort + "ACCEPT"},
		{"accepted after", drop + ":KUBE-SERVICES -\n-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING " + toPort + "ACCEPT\n" + commit, missing, "endpoint 10.128.1.2:8080"},
		{"returned from a chain before", drop + ":MINE -\n-A MINE " + toPort + "RETURN\n-A PREROUTING -j MINE\n" + commit, missing, "endpoint 10.128.1.2:8080"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := servedCluster(t, service("s", "clusterIP: 10.96.0.9, ports: [{port: 80}]", "1"), func(int) string { return test.rules })
			r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", "svc:shop/s", 80))
			if r.Verdict != verdict.Unreachable || r.Reason() != verdict.ServiceBackendMismatch || r.Reasons[0].Message != test.want || !strings.HasPrefix(r.Reasons[0].Evidence[0], test.evidence) {
				t.Errorf("%s %+v, want %q with %q", r.Verdict, r.Reasons, test.want, test.evidence)
			}
		})
	}
}

// Nobody answers an echo request to the address of a Service, unless somebody has it.
func TestEchoToAService(t *testing.T) {
	const (
		lacks   = "ServiceNoSuchPort@node-0: service shop/s has no port */icmp"
		drops   = "*filter\n:FORWARD ACCEPT\n-A FORWARD -d 10.96.0.0/16 -j DROP\nCOMMIT\n"
		dropped = "NetfilterDrop@node-0: packet dropped by filter/FORWARD rule 1: -A FORWARD -d 10.96.0.0/16 -j DROP on node node-0"
	)
	for _, test := range []struct {
		name, rules, to string
		verdict         verdict.Verdict
		reasons         []string
	}{
		{"leaves", "", "svc:shop/s", verdict.Unknown, []string{lacks}},
		{"dropped", drops, "svc:shop/s", verdict.Unreachable, []string{lacks, dropped}},
		{"dropped, to its address", drops, "10.96.0.9", verdict.Unreachable, []string{lacks, dropped}},
		{"an address of its load balancer", drops, "10.96.0.10", verdict.Unreachable, []string{dropped}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := servedCluster(t, service("s", "type: LoadBalancer, clusterIP: 10.96.0.9, externalIPs: [10.96.0.10], ports: [{port: 80}]"), func(int) string { return test.rules })
			r := diagnose(t, compileWorld(t, s), verdict.Query{From: "pod:shop/pod-0", To: test.to, Protocol: verdict.ICMP})
			var got []string
			for _, f := range r.Reasons[:min(len(r.Reasons), len(test.reasons))] {
				got = append(got, fmt.Sprintf("%s@%s: %s", f.Code, f.Where.Node, f.Message))
			}
			if r.Verdict != test.verdict || !slices.Equal(got, test.reasons) || test.verdict == verdict.Unreachable && len(r.Reasons) != len(got) {
				t.Errorf("%s %v, want %s %v", r.Verdict, r.Reasons, test.verdict, test.reasons)
			}
		})
	}
}

// A Service that was deleted is translated as long as nobody removes its rules.
func TestADeletedServiceIsStillTranslated(t *testing.T) {
	spec := &proxyrules.Spec{Services: 2}
	objects := service("first", "clusterIP: "+spec.ClusterIP(0).String()+", ports: [{port: 80}]", "1", "2", "3")
	for _, mode := range netstack.ProxyModes() {
		for _, dead := range []bool{false, true} {
			s := routedCluster(mode, 2)
			if err := cluster.Decode("objects.yaml", []byte(objects), &s.Cluster); err != nil {
				t.Fatal(err)
			}
			want := "ServiceBackendMismatch@node-0: endpoint 10.128.1.2:8080 of service 10.96.1.1:80 is unexpected in " + mode + " on node node-0: there is no such service"
			for _, ns := range s.Namespaces {
				if dead && ns.Kind == netstack.KindPod {
					ns.Sockets = nil
				}
			}
			r := diagnose(t, compileWorld(t, s), toLast(2))
			severity := verdict.SeverityWarning
			if dead {
				severity = verdict.SeverityFatal
			}
			if first := firstReason(r); first != want || r.Reasons[0].Severity != severity {
				t.Errorf("%s, dead %t: %s %v, want %s %s", mode, dead, r.Verdict, r.Reasons, severity, want)
			}
			s.Cluster.Missing = map[string]string{"services": "forbidden"}
			if r := diagnose(t, compileWorld(t, s), toLast(2)); slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.ServiceBackendMismatch }) {
				t.Errorf("%s, where Services are not known: %v", mode, r.Reasons)
			}
		}
	}
}

// Node ports are served at addresses that the object of a node lacks, too, but not by
// every configuration: none is missed there.
func TestANodePortAtAnotherAddressOfTheNode(t *testing.T) {
	const second = "192.168.50.212"
	spec := "type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30081}]"
	to := func(pod int) string {
		return nodePortRules([]string{podOf(pod).String()}, []string{podOf(pod).String()})
	}
	const nobody = "NoListener@node-2: no process listening on tcp 192.168.50.212:30081 of node node-2"
	for _, test := range []struct {
		name, objects, rules, mode string
		want                       string
	}{
		{"no endpoints", service("s", spec), "", "", "ServiceNoEndpoints@node-2: service shop/s has no valid endpoint for 80/tcp"},
		{"not served", service("s", spec, "1"), "", "", nobody},
		{"not served in nftables mode", service("s", spec), "", "nftables", nobody},
		{"served", service("s", spec, "2"), to(2), "", ""},
		{"stale", service("s", spec, "1"), to(2), "", "ServiceBackendMismatch@node-2: endpoint 10.128.2.2:8080 of service shop/s is unexpected in iptables on node node-2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := servedCluster(t, test.objects, func(int) string { return test.rules })
			for _, ns := range s.Namespaces {
				if ns.Kind == netstack.KindNode && ns.Node == "node-2" {
					netstacktest.Own(ns, "eth0", netip.MustParsePrefix(second+"/32"))
					ns.Facts = &netstack.HostFacts{ProxyMode: test.mode}
				}
			}
			r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", second, 30081))
			if first := firstReason(r); first != test.want {
				t.Errorf("%s, want %s", first, test.want)
			}
		})
	}
}

// Of a Service that the node knows nothing of, one endpoint stands for all.
func TestAllEndpointsAreMissing(t *testing.T) {
	s := servedCluster(t, service("s", "clusterIP: 10.96.0.9, ports: [{port: 80}]", "1", "2", "3"), func(int) string { return "" })
	r := diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", "svc:shop/s", 80))
	const want = "ServiceBackendMismatch@node-0: endpoint 10.128.1.2:8080 (and 2 more) of service shop/s is missing in iptables on node node-0"
	evidence := []string{
		"endpoint 10.128.1.2:8080 (pod shop/pod-1 on node node-1)", "endpoint 10.128.2.2:8080 (pod shop/pod-2 on node node-2)", "endpoint 10.128.3.2:8080 (pod shop/pod-3 on node node-3)",
	}
	if first := firstReason(r); first != want || !slices.Equal(r.Reasons[0].Evidence, evidence) {
		t.Errorf("%s %q, want %s %q", first, r.Reasons[0].Evidence, want, evidence)
	}
}

// A client outside of the source ranges is dropped; a refusal is for want of endpoints.
func TestARefusalIsForWantOfEndpoints(t *testing.T) {
	const objects = `
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {type: LoadBalancer, clusterIP: 10.96.0.9, loadBalancerSourceRanges: [192.0.2.0/24], ports: [{port: 443}]},
status: {loadBalancer: {ingress: [{ip: 198.51.100.9}]}}}
`
	for target, want := range map[string][]verdict.Code{
		"REJECT": {verdict.ServiceNoEndpoints, verdict.ServiceSourceRangeDeny, verdict.NetfilterReject},
		"DROP":   {verdict.ServiceSourceRangeDeny, verdict.ServiceNoEndpoints, verdict.NetfilterDrop},
	} {
		s := servedCluster(t, objects, func(int) string {
			return "*filter\n:FORWARD ACCEPT\n-A FORWARD -d 198.51.100.9 -p tcp --dport 443 -j " + target + "\nCOMMIT\n"
		})
		var got []verdict.Code
		for _, f := range diagnose(t, compileWorld(t, s), tcp("pod:shop/pod-0", "198.51.100.9", 443)).Reasons {
			got = append(got, f.Code)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// The address of a Service that no node translates leaves by the default route, for a
// router that was not collected: what is wrong with the Service comes first.
func TestAServiceThatLeavesUntranslated(t *testing.T) {
	const beyond = "is an address of the service shop/s, and the packet leaves the collected world with it: whether anything beyond translates it is not known"
	ports := "clusterIP: 10.96.0.9, externalIPs: [198.51.100.9], ports: [{port: 80}]"
	for _, test := range []struct {
		name, objects, from, to string
		port                    uint16
		reasons                 []string // CODE SEVERITY: MESSAGE, but of the last
	}{
		{"a port that it does not have", service("s", ports, "1"), "pod:shop/pod-0", "svc:shop/s", 81, []string{
			"ServiceNoSuchPort undecided: service shop/s has no port 81/tcp", "SnapshotMissing undecided: 10.96.0.9 " + beyond,
		}},
		{"without endpoints", service("s", ports), "pod:shop/pod-0", "svc:shop/s", 80, []string{
			"ServiceNoEndpoints undecided: service shop/s has no valid endpoint for 80/tcp", "SnapshotMissing undecided: 10.96.0.9 " + beyond,
		}},
		{"without rules", service("s", ports, "1"), "pod:shop/pod-0", "svc:shop/s", 80, []string{
			"ServiceBackendMismatch undecided: endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-0", "SnapshotMissing undecided: 10.96.0.9 " + beyond,
		}},
		{"without rules, from a node", service("s", ports, "1"), "node:node-0", "10.96.0.9", 80, []string{
			"ServiceBackendMismatch undecided: endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-0", "SnapshotMissing undecided: 10.96.0.9 " + beyond,
		}},
		{"by an external IP that others have, too", service("s", ports, "1") + service("other", "clusterIP: 10.96.0.8, externalIPs: [198.51.100.9]"), "pod:shop/pod-0", "198.51.100.9", 80, []string{
			"ServiceBackendMismatch undecided: endpoint 10.128.1.2:8080 of service shop/s is missing in iptables on node node-0", "SnapshotMissing undecided: 198.51.100.9 " + beyond,
		}},
		{"an address that no Service has", service("s", ports, "1"), "pod:shop/pod-0", "10.96.0.7", 80, []string{
			"SnapshotMissing undecided: 10.96.0.7 lies in the service range 10.96.0.0/24 (guessed from the cluster IPs), but nothing collected has this address: what happens to the packet beyond is not known",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := diagnose(t, compileWorld(t, servedCluster(t, test.objects, func(int) string { return "" })), tcp(test.from, test.to, test.port))
			var got []string
			for _, f := range r.Reasons[:len(r.Reasons)-1] {
				got = append(got, fmt.Sprintf("%s %s: %s", f.Code, f.Severity, f.Message))
			}
			if last := r.Reasons[len(r.Reasons)-1].Code; r.Verdict != verdict.Unknown || !r.Boundary || last != verdict.LeavesModel || !slices.Equal(got, test.reasons) {
				t.Errorf("%s, %s last, and before\n%q\nwant unknown, and before LeavesModel\n%q", r.Verdict, last, got, test.reasons)
			}
		})
	}
}
