// Package largecluster makes up clusters of many nodes, to measure what they cost.
package largecluster

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
)

// Cluster is one of many nodes on one wire. Each has 20 pods behind veths, a
// route to the pods of each other node, and chains for its pods that enforce
// network policies. There are two Services of ten pods each for a node, and two
// policies; ten nodes share a namespace of Kubernetes.
type Cluster struct {
	Nodes int
	// Proxies are the first so many nodes, which have the rules of kube-proxy for all
	// Services, each in an order of its own.
	Proxies int
	// Mode is kube-proxy's, "iptables" or "nftables".
	Mode string
}

// How many there are of each.
const (
	Pods      = 20 // of a node
	Services  = 2  // for a node
	Endpoints = 10 // of a Service
)

func nodeAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte(n / 250), byte(1 + n%250)})
}

func podAddr(n, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(128 + n/250), byte(n % 250), byte(2 + i)})
}

// PodName is that of a node's pod, with its namespace.
func PodName(n, i int) string { return fmt.Sprintf("%s/pod-%d-%d", namespace(n), n, i) }

// ServiceName is that of a Service, with its namespace.
func ServiceName(service int) string {
	return fmt.Sprintf("%s/service-%d", namespace(service/Services), service)
}

// NodeName is that of a node.
func NodeName(n int) string { return fmt.Sprintf("node-%d", n) }

func namespace(node int) string { return fmt.Sprintf("team-%d", node/10) }

// endpoint is the pod that a Service has as its endpoint: it is one of those of
// the Service's own node, or of nine others.
func endpoint(service, endpoint int) netip.Addr {
	n := service / Services
	return podAddr(n-n%10+(n+endpoint)%10, service%Services*Endpoints+endpoint)
}

func (c Cluster) proxy() proxyrules.Spec {
	return proxyrules.Spec{Services: Services * c.Nodes, Endpoints: Endpoints, Backend: endpoint}
}

// Node is the state of a node and of its pods, the same each time.
func (c Cluster) Node(n int) []*netstack.Namespace {
	node := netstacktest.Known(NodeName(n), netstack.KindNode)
	node.Node, node.NSIDs = node.Name, map[int]string{}
	node.Links = []netstack.Link{netstacktest.Loopback(), device(2, "eth0", "", n, 0)}
	netstacktest.Own(node, "eth0", netip.PrefixFrom(nodeAddr(n), 16))
	netstacktest.Own(node, "lo", netip.PrefixFrom(gateway(n), 32))
	netstacktest.Via(node, "0.0.0.0/0", "eth0", netip.AddrFrom4([4]byte{172, 16, 255, 254}))
	for other := range c.Nodes {
		if other != n {
			netstacktest.Via(node, podRange(other), "eth0", nodeAddr(other))
		}
	}
	list := []*netstack.Namespace{node}
	for i := range Pods {
		dev := fmt.Sprintf("veth%d", i)
		veth := device(3+i, dev, "veth", n, 1+i)
		veth.Peer, veth.PeerNSID = 2, i
		node.Links = append(node.Links, veth)
		node.NSIDs[i] = fmt.Sprintf("pod-%d-%d", n, i)
		node.Sysctls["net.ipv4.conf."+dev+".forwarding"], node.Sysctls["net.ipv4.conf."+dev+".proxy_arp"] = "1", "1"
		netstacktest.Via(node, podAddr(n, i).String()+"/32", dev, netip.Addr{})
		list = append(list, pod(n, i))
	}
	node.IPTables = []netstack.IPTablesDump{{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: netstack.Text{File: "iptables-save.txt", Data: policyRules(n)}}}
	if n >= c.Proxies {
		return list
	}
	spec := c.proxy()
	spec.Order = uint64(n + 1)
	if c.Mode == "nftables" {
		node.NFT = netstack.Text{File: "nft.json", Data: proxyrules.Numbered(spec.NFTablesJSON(), n)}
		return list
	}
	node.IPTables = append(node.IPTables, netstack.IPTablesDump{Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save-legacy.txt", Data: spec.IPTables()}})
	node.SetPart(netstack.PartIPTables4Legacy, netstack.Status{State: netstack.StateOK})
	return list
}

func gateway(n int) netip.Addr { return podAddr(n, -1) }

func podRange(n int) string { return netip.PrefixFrom(podAddr(n, 0), 24).Masked().String() }

func device(index int, name, kind string, node, number int) netstack.Link {
	link := netstacktest.Device(index, name, kind, 0)
	link.MAC = netstack.MAC{2, byte(index), byte(node >> 8), byte(node), byte(number), 1}
	return link
}

func pod(n, i int) *netstack.Namespace {
	ns := netstacktest.Known(fmt.Sprintf("pod-%d-%d", n, i), netstack.KindPod)
	ns.Node, ns.Pod = NodeName(n), PodName(n, i)
	ns.NSIDs = map[int]string{0: ns.Node}
	eth := device(2, "eth0", "veth", n, 101+i)
	eth.Peer, eth.PeerNSID = 3+i, 0
	ns.Links = []netstack.Link{netstacktest.Loopback(), eth}
	netstacktest.Own(ns, "eth0", netip.PrefixFrom(podAddr(n, i), 32))
	netstacktest.Via(ns, gateway(n).String()+"/32", "eth0", netip.Addr{})
	netstacktest.Via(ns, "0.0.0.0/0", "eth0", gateway(n))
	ns.Sockets = []netstack.Socket{{
		Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen,
		Local: netip.AddrPortFrom(netip.IPv4Unspecified(), proxyrules.EndpointPort), Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), SendQ: 128,
	}}
	return ns
}

// policyRules are the rules that enforce the policies of a node's pods: those of
// the cluster may come in by one port.
func policyRules(n int) []byte {
	var chains, jumps, rules bytes.Buffer
	for i := range Pods {
		fmt.Fprintf(&chains, ":POD-%d-%d - [0:0]\n", n, i)
		fmt.Fprintf(&jumps, "-A FORWARD -d %s/32 -j POD-%d-%d\n", podAddr(n, i), n, i)
		fmt.Fprintf(&rules, `-A POD-%[1]d-%[2]d -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A POD-%[1]d-%[2]d -s 10.128.0.0/9 -p tcp -m tcp --dport 8080 -j ACCEPT
-A POD-%[1]d-%[2]d -j DROP
`, n, i)
	}
	return slices.Concat([]byte("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"), chains.Bytes(), jumps.Bytes(), rules.Bytes(), []byte("COMMIT\n"))
}

// Objects are those of nodes from first up to the last one before end.
func (c Cluster) Objects(first, end int) (o cluster.Objects) {
	spec := c.proxy()
	for n := first; n < end; n++ {
		if n%10 == 0 {
			o.Namespaces = append(o.Namespaces, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(n), Labels: map[string]string{corev1.LabelMetadataName: namespace(n), "kind": "team"}}})
		}
		o.Nodes = append(o.Nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: NodeName(n)},
			Spec:       corev1.NodeSpec{PodCIDR: podRange(n), PodCIDRs: []string{podRange(n)}},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddr(n).String()}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
		for i := range Pods {
			ip := podAddr(n, i).String()
			o.Pods = append(o.Pods, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace(n), Name: fmt.Sprintf("pod-%d-%d", n, i), Labels: map[string]string{
					"app": fmt.Sprintf("app-%d", i/Endpoints), "node": fmt.Sprint(n % 10),
				}},
				Spec: corev1.PodSpec{NodeName: NodeName(n), Containers: []corev1.Container{{
					Name: "server", Image: "none", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: proxyrules.EndpointPort, Protocol: corev1.ProtocolTCP}},
				}}},
				Status: corev1.PodStatus{
					Phase: corev1.PodRunning, HostIP: nodeAddr(n).String(), PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
					Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
				},
			})
		}
		for service := n * Services; service < (n+1)*Services; service++ {
			meta := metav1.ObjectMeta{Namespace: namespace(n), Name: fmt.Sprintf("service-%d", service)}
			port, portName, ready := int32(proxyrules.EndpointPort), "", true
			o.Services = append(o.Services, corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
				ClusterIP: spec.ClusterIP(service).String(),
				Ports:     []corev1.ServicePort{{Port: proxyrules.ServicePort, TargetPort: intstr.FromInt32(port), Protocol: corev1.ProtocolTCP}},
			}})
			slice := discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}}
			slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
			for e := range Endpoints {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{endpoint(service, e).String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
			}
			o.EndpointSlices = append(o.EndpointSlices, slice)
			http := intstr.FromString("http")
			o.NetworkPolicies = append(o.NetworkPolicies, networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace(n), Name: fmt.Sprintf("policy-%d", service)},
				Spec: networkingv1.NetworkPolicySpec{
					PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", service%Services), "node": fmt.Sprint(n % 10)}},
					PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
					Ingress: []networkingv1.NetworkPolicyIngressRule{{
						From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kind": "team"}}}},
						Ports: []networkingv1.NetworkPolicyPort{{Port: &http}},
					}},
				},
			})
		}
	}
	return o
}
