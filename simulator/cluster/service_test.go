package cluster_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// endpoint is a line "ADDRESS NODE [condition…]" of a test's EndpointSlice;
// conditions are +ready -ready +serving … and zone=Z, node=N hints.
func endpoint(line string) string {
	words := strings.Fields(line)
	conditions, zone, node := []string{}, "", ""
	for _, w := range words[2:] {
		switch {
		case strings.HasPrefix(w, "zone="):
			zone = fmt.Sprintf("forZones: [{name: %s}]", w[5:])
		case strings.HasPrefix(w, "node="):
			node = fmt.Sprintf("forNodes: [{name: %s}]", w[5:])
		default:
			conditions = append(conditions, fmt.Sprintf("%s: %t", w[1:], w[0] == '+'))
		}
	}
	hints := strings.Trim(zone+", "+node, ", ")
	return fmt.Sprintf("- {addresses: [%s], nodeName: %s, conditions: {%s}, hints: {%s}}\n", words[0], words[1], strings.Join(conditions, ", "), hints)
}

func serviceWith(t *testing.T, spec string, endpoints ...string) (*cluster.Index, *cluster.Service) {
	t.Helper()
	text := `
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/zone: west}}
status: {addresses: [{type: InternalIP, address: 198.18.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, labels: {topology.kubernetes.io/zone: east}}
status: {addresses: [{type: InternalIP, address: 192.0.2.12}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: n}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}], ` + spec + `}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: n, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
`
	for _, e := range endpoints {
		text += endpoint(e)
	}
	x := cluster.Compile(decode(t, text))
	s, ok := x.Service("n", "s")
	if !ok {
		t.Fatal("no service")
	}
	return x, s
}

func addresses(backends []cluster.Backend) []string {
	list := []string{}
	for _, b := range backends {
		list = append(list, b.Addr.String())
	}
	return list
}

func TestBackendsOf(t *testing.T) {
	onA := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a"}
	externalOnA := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a", External: true}
	podToExternalOnA := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a", External: true, FromInside: true}
	ipvs := func(t cluster.Traffic) cluster.Traffic { t.IPVS = true; return t }
	const (
		internalLocal = "internalTrafficPolicy: Local"
		accessible    = "externalIPs: [192.0.2.9], "
		publish       = "publishNotReadyAddresses: true"
		externalLocal = "type: NodePort, externalTrafficPolicy: Local"
	)
	tests := []struct {
		name      string
		spec      string
		endpoints []string
		traffic   cluster.Traffic
		want      []string
	}{
		{"ready endpoints", "", []string{"10.0.0.1 a +ready", "10.0.0.2 b +ready"}, onA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"endpoints without conditions, which are ready", "", []string{"10.0.0.1 a"}, onA, []string{"10.0.0.1:8080"}},
		{"not those that are not ready", "", []string{"10.0.0.1 a -ready", "10.0.0.2 b +ready"}, onA, []string{"10.0.0.2:8080"}},
		{"not those that terminate while others are ready", "", []string{"10.0.0.1 a -ready +serving +terminating", "10.0.0.2 b +ready"}, onA, []string{"10.0.0.2:8080"}},
		{"those that serve while they terminate when none is ready", "", []string{"10.0.0.1 a -ready +serving +terminating", "10.0.0.2 b -ready -serving +terminating"}, onA, []string{"10.0.0.1:8080"}},
		{"none that serves without being ready or terminating", "", []string{"10.0.0.1 a -ready +serving"}, onA, []string{}},
		{"an endpoint of two slices or twice in one, once", "", []string{"10.0.0.1 a -ready", "10.0.0.1 a +ready"}, onA, []string{"10.0.0.1:8080"}},
		{"a pod that has the address of one that terminates", publish, []string{"10.0.0.1 a +ready +terminating", "10.0.0.1 b -ready", "10.0.0.2 b"}, onA, []string{"10.0.0.2:8080"}},
		{"a pod that has the address of one that terminates, found first", publish, []string{"10.0.0.1 b -ready", "10.0.0.1 a +ready +terminating", "10.0.0.2 b"}, onA, []string{"10.0.0.2:8080"}},
		{"the own node with internalTrafficPolicy Local", internalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, onA, []string{"10.0.0.1:8080"}},
		{"nothing with internalTrafficPolicy Local and no endpoint here", internalLocal, []string{"10.0.0.2 b"}, onA, []string{}},
		{"the draining one here with internalTrafficPolicy Local, though others are ready", internalLocal, []string{"10.0.0.1 a -ready +serving +terminating", "10.0.0.2 b"}, onA, []string{"10.0.0.1:8080"}},
		{"all nodes from outside in spite of internalTrafficPolicy Local", "type: NodePort, " + internalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, externalOnA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"the own node from outside with externalTrafficPolicy Local", externalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, externalOnA, []string{"10.0.0.1:8080"}},
		{"nothing from outside with externalTrafficPolicy Local and no endpoint here", externalLocal, []string{"10.0.0.2 b"}, externalOnA, []string{}},
		{"all nodes from a pod with externalTrafficPolicy Local", externalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, podToExternalOnA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"all nodes through the cluster IP with externalTrafficPolicy Local", externalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, onA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"the own node even from a pod with externalTrafficPolicy Local and IPVS", externalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, ipvs(podToExternalOnA), []string{"10.0.0.1:8080"}},
		{"all nodes from outside with externalTrafficPolicy Local, IPVS and no endpoint here", accessible + externalLocal, []string{"10.0.0.2 b"}, ipvs(externalOnA), []string{"10.0.0.2:8080"}},
		{"all nodes with internalTrafficPolicy Local, IPVS, an external IP and no endpoint here", accessible + internalLocal, []string{"10.0.0.2 b"}, ipvs(onA), []string{"10.0.0.2:8080"}},
		{"nothing with internalTrafficPolicy Local, IPVS, a cluster IP alone and no endpoint here", internalLocal, []string{"10.0.0.2 b"}, ipvs(onA), []string{}},
		{"the own zone when all are hinted", "", []string{"10.0.0.1 a zone=west", "10.0.0.2 b zone=east"}, onA, []string{"10.0.0.1:8080"}},
		{"the own node when all are hinted for nodes", "", []string{"10.0.0.1 a zone=west node=a", "10.0.0.2 b zone=west node=b"}, onA, []string{"10.0.0.1:8080"}},
		{"all zones when one endpoint has no hint", "", []string{"10.0.0.1 a zone=west", "10.0.0.2 b"}, onA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"all zones when none is hinted for this one", "", []string{"10.0.0.1 a zone=north", "10.0.0.2 b zone=east"}, onA, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"the own zone of those that are ready", "", []string{"10.0.0.1 a -ready", "10.0.0.2 b zone=west", "10.0.0.3 b zone=east"}, onA, []string{"10.0.0.2:8080"}},
		{"all when the node is not known", internalLocal, []string{"10.0.0.1 a", "10.0.0.2 b"}, cluster.Traffic{Port: 80, Protocol: verdict.TCP}, []string{"10.0.0.1:8080", "10.0.0.2:8080"}},
		{"nothing for another port", "", []string{"10.0.0.1 a"}, cluster.Traffic{Port: 81, Protocol: verdict.TCP}, []string{}},
		{"nothing for another protocol", "", []string{"10.0.0.1 a"}, cluster.Traffic{Port: 80, Protocol: verdict.UDP}, []string{}},
		{"nothing for another family", "", []string{"10.0.0.1 a"}, cluster.Traffic{Port: 80, Protocol: verdict.TCP, IPv6: true}, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, s := serviceWith(t, tt.spec, tt.endpoints...)
			if diff := cmp.Diff(tt.want, addresses(x.Backends(s, tt.traffic))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBackendsAcrossSlices(t *testing.T) {
	x := cluster.Compile(shop(t))
	service := func(name string) *cluster.Service {
		s, ok := x.Service("shop", name)
		if !ok {
			t.Fatalf("no service %s", name)
		}
		return s
	}
	tests := []struct {
		name     string
		service  string
		port     uint16
		protocol verdict.Protocol
		ipv6     bool
		all      []string
		usable   []string
	}{
		{"a named targetPort is another number in each slice", "api", 80, verdict.TCP, false, []string{"10.244.1.3:8080", "10.244.2.3:9090"}, []string{"10.244.1.3:8080"}},
		{"a port that only one slice has", "api", 53, verdict.UDP, false, []string{"10.244.1.3:5353"}, []string{"10.244.1.3:5353"}},
		{"the slices of the other family", "api", 80, verdict.TCP, true, []string{"[fd00:1::3]:8080"}, []string{"[fd00:1::3]:8080"}},
		{"a headless service keeps the client's port", "db", 5432, verdict.TCP, false, []string{"10.244.2.30:5432", "10.244.2.31:5432"}, []string{"10.244.2.30:5432"}},
		{"a headless service, even of a port that it does not declare", "db", 99, verdict.UDP, false, []string{"10.244.2.30:99", "10.244.2.31:99"}, []string{"10.244.2.30:99"}},
		{"an ExternalName service has none", "alias", 80, verdict.TCP, false, []string{}, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := service(tt.service)
			if diff := cmp.Diff(tt.all, addresses(x.Endpoints(s, tt.port, tt.protocol, tt.ipv6))); diff != "" {
				t.Errorf("all: %s", diff)
			}
			traffic := cluster.Traffic{Port: tt.port, Protocol: tt.protocol, IPv6: tt.ipv6, Node: "a"}
			if diff := cmp.Diff(tt.usable, addresses(x.Backends(s, traffic))); diff != "" {
				t.Errorf("usable: %s", diff)
			}
		})
	}
}

func TestSlicesOfHeadlessServicesAreNoneOfKubeProxy(t *testing.T) {
	text := `
apiVersion: v1
kind: Service
metadata: {name: s, namespace: n}
spec: {clusterIP: ADDRESS, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: n, labels: {kubernetes.io/service-name: s, service.kubernetes.io/headless: ""}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
`
	for ip, want := range map[string][]string{"10.96.0.1": {}, "None": {"10.0.0.1:80"}} {
		x := cluster.Compile(decode(t, strings.Replace(text, "ADDRESS", ip, 1)))
		s, _ := x.Service("n", "s")
		if diff := cmp.Diff(want, addresses(x.Backends(s, cluster.Traffic{Port: 80, Protocol: verdict.TCP}))); diff != "" {
			t.Errorf("cluster IP %s: %s", ip, diff)
		}
	}
}

func TestPortsOfASliceAreFoundByName(t *testing.T) {
	x := cluster.Compile(decode(t, `
apiVersion: v1
kind: Service
metadata: {name: s, namespace: n}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: n, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: admin, port: 9000}, {name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
`))
	s, _ := x.Service("n", "s")
	for port, want := range map[uint16]string{80: "10.0.0.1:8080", 81: "10.0.0.1:9000"} {
		got := addresses(x.Backends(s, cluster.Traffic{Port: port, Protocol: verdict.TCP}))
		if diff := cmp.Diff([]string{want}, got); diff != "" {
			t.Errorf("port %d: %s", port, diff)
		}
	}
}

func TestBackendNamesItsPodAndNode(t *testing.T) {
	x := cluster.Compile(shop(t))
	s, _ := x.Service("shop", "api")
	got := []string{}
	for _, b := range x.Endpoints(s, 80, verdict.TCP, false) {
		got = append(got, b.String())
	}
	want := []string{
		"10.244.1.3:8080 (pod shop/api-0 on node a)",
		"10.244.2.3:9090 (pod shop/api-1 on node b, not ready)", // found by its address: it has no targetRef
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestServiceLookups(t *testing.T) {
	x := cluster.Compile(shop(t))
	s, ok := x.ServiceByNodePort(30080, verdict.TCP)
	if !ok || s.String() != "shop/api" {
		t.Fatalf("node port 30080: %v", s)
	}
	if _, ok := x.ServiceByNodePort(30080, verdict.UDP); ok {
		t.Error("node port 30080 was found for udp")
	}
	if !s.HasPort(53, verdict.UDP) || s.HasPort(53, verdict.TCP) {
		t.Error("port 53 is declared for udp only")
	}
	if s.HealthCheckNodePort != 32000 {
		t.Errorf("health check node port %d", s.HealthCheckNodePort)
	}
	if !s.IsExternal(addr("198.51.100.7")) || !s.IsExternal(addr("198.51.100.8")) || s.IsExternal(addr("10.96.0.20")) {
		t.Error("external addresses are the external IP and the load balancer's, not the cluster IP")
	}
	if ip, ok := s.ClusterIP(true); !ok || ip != addr("fd02::20") {
		t.Errorf("IPv6 cluster IP %s", ip)
	}
	if db, _ := x.Service("shop", "db"); !db.Headless {
		t.Error("db is headless")
	}
	if alias, _ := x.Service("shop", "alias"); alias.ExternalName != "db.example.com" {
		t.Errorf("external name %q", alias.ExternalName)
	}
	if _, ok := x.Service("shop", "none"); ok {
		t.Error("a service that does not exist was found")
	}
}

func TestServiceFindings(t *testing.T) {
	const balancer = `type: LoadBalancer, loadBalancerSourceRanges: [198.18.0.0/15]}
status: {loadBalancer: {ingress: [{ip: 198.51.100.8}, {ip: "2001:db8::8"}]}`
	clusterIP, lb, lb6 := addr("10.96.0.1"), addr("198.51.100.8"), addr("2001:db8::8")
	ready := []string{"10.0.0.1 a +ready"}
	traffic := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a"}
	external := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a", External: true}
	externalOnB := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "b", External: true}
	nodePort := cluster.Traffic{Port: 80, Protocol: verdict.TCP, Node: "a", External: true, NodePort: true}
	tests := []struct {
		name      string
		spec      string
		endpoints []string
		traffic   cluster.Traffic
		client    netip.Addr
		addr      netip.Addr
		code      verdict.Code
		message   string
		evidence  []string
	}{
		{name: "nothing is wrong", endpoints: ready, traffic: traffic, client: addr("10.0.0.9"), addr: clusterIP},
		{
			"the port is not declared", "", ready,
			cluster.Traffic{Port: 81, Protocol: verdict.TCP},
			addr("10.0.0.9"), clusterIP,
			verdict.ServiceNoSuchPort, "service n/s has no port 81/tcp",
			[]string{"spec.ports: 80/tcp"},
		},
		{
			"no endpoint is ready", "",
			[]string{"10.0.0.1 a -ready -serving +terminating"},
			traffic, addr("10.0.0.9"), clusterIP,
			verdict.ServiceNoEndpoints, "service n/s has no valid endpoint for 80/tcp",
			[]string{"endpoint 10.0.0.1:8080 (on node a, not ready, terminating, not serving)"},
		},
		{
			"there is no endpoint at all", "selector: {app: typo}", nil, traffic, addr("10.0.0.9"), clusterIP,
			verdict.ServiceNoEndpoints, "service n/s has no valid endpoint for 80/tcp",
			[]string{"no EndpointSlice of n/s lists an IPv4 endpoint for 80/tcp", "spec.selector app=typo matches 0 pods"},
		},
		{
			"no endpoint is on this node and the policy is Local", "internalTrafficPolicy: Local",
			[]string{"10.0.0.2 b"},
			traffic, addr("10.0.0.9"), clusterIP,
			verdict.ServiceNoEndpoints, "service n/s has no valid endpoint for 80/tcp on node a, and its internalTrafficPolicy is Local",
			[]string{"endpoint 10.0.0.2:8080 (on node b)"},
		},
		{
			"many endpoints are not ready", "",
			[]string{"10.0.0.1 a -ready", "10.0.0.2 a -ready", "10.0.0.3 a -ready", "10.0.0.4 a -ready", "10.0.0.5 a -ready", "10.0.0.6 a -ready", "10.0.0.7 a -ready"},
			traffic, addr("10.0.0.9"), clusterIP,
			verdict.ServiceNoEndpoints, "service n/s has no valid endpoint for 80/tcp",
			[]string{
				"endpoint 10.0.0.1:8080 (on node a, not ready)", "endpoint 10.0.0.2:8080 (on node a, not ready)", "endpoint 10.0.0.3:8080 (on node a, not ready)",
				"endpoint 10.0.0.4:8080 (on node a, not ready)", "endpoint 10.0.0.5:8080 (on node a, not ready)", "and 2 more endpoints",
			},
		},
		{
			"the client is outside of the source ranges", balancer, ready, external, addr("203.0.113.9"), lb,
			verdict.ServiceSourceRangeDeny, "service n/s sourceRanges does not allow 203.0.113.9",
			[]string{"spec.loadBalancerSourceRanges: 198.18.0.0/15"},
		},
		{name: "the client is in the source ranges", spec: balancer, endpoints: ready, traffic: external, client: addr("198.19.0.1"), addr: lb},
		{name: "source ranges in the notation of IPv6", spec: strings.Replace(balancer, "198.18.0.0/15", `"::ffff:198.18.0.0/111"`, 1), endpoints: ready, traffic: external, client: addr("198.19.0.1"), addr: lb},
		{name: "source ranges do not hold for the cluster IP", spec: balancer, endpoints: ready, traffic: traffic, client: addr("203.0.113.9"), addr: clusterIP},
		{name: "source ranges do not hold for a node port at a node that the load balancer names", spec: balancer, endpoints: ready, traffic: nodePort, client: addr("203.0.113.9"), addr: lb},
		{name: "source ranges of IPv4 do not hold for IPv6", spec: balancer, endpoints: ready, traffic: external, client: addr("2001:db8::1"), addr: lb6},
		{name: "source ranges let the balancer's own address in with the node", spec: balancer, endpoints: ready, traffic: external, client: lb, addr: lb},
		{name: "source ranges that the balancer's own address is in", spec: strings.Replace(balancer, "198.18.0.0/15", "198.51.100.0/24", 1), endpoints: ready, traffic: externalOnB, client: lb, addr: lb},
		{
			"the balancer's own address, of a node outside of the source ranges", balancer, ready, externalOnB, lb, lb,
			verdict.ServiceSourceRangeDeny, "service n/s sourceRanges does not allow 198.51.100.8",
			[]string{"spec.loadBalancerSourceRanges: 198.18.0.0/15"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, s := serviceWith(t, tt.spec, tt.endpoints...)
			findings := x.ServiceFindings(s, tt.traffic, tt.client, tt.addr)
			if tt.code == "" {
				if len(findings) != 0 {
					t.Errorf("got %v", findings)
				}
				return
			}
			if len(findings) != 1 {
				t.Fatalf("got %v", findings)
			}
			f := findings[0]
			if f.Code != tt.code || f.Message != tt.message || f.Severity != verdict.SeverityFatal {
				t.Errorf("got %s %s %q", f.Severity, f.Code, f.Message)
			}
			if diff := cmp.Diff(tt.evidence, f.Evidence); diff != "" {
				t.Error(diff)
			}
		})
	}
}
