package plugin

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nodes are 10.0.0.1 (a), .2 (b) and 10.0.9.3 (c), each with a range and a pod
// behind what the test says.
const nodes = `
	node a 10.0.0.1 10.244.1.0/24
	node b 10.0.0.2 10.244.2.0/24
	node c 10.0.9.3 10.244.3.0/24
	a link eth0
	b link eth0
	c link eth0
	a addr 10.0.0.1/24 dev eth0
	b addr 10.0.0.2/24 dev eth0
	c addr 10.0.9.3/24 dev eth0
	a route default via 10.0.0.254 dev eth0
	pod pa 10.244.1.5 a
	pod pb 10.244.2.5 b
	pod pc 10.244.3.5 c
`

// parse makes a cluster of lines such as "a route 10.244.2.0/24 via 10.0.0.2 dev eth0".
func parse(t *testing.T, text string) *View {
	t.Helper()
	objects := cluster.Objects{}
	byNode, byPod := map[string]*netstack.Namespace{}, map[string]*netstack.Namespace{}
	joins := map[*netstack.Namespace][]Join{}
	known := func(ns *netstack.Namespace) *netstack.Namespace {
		for _, p := range []netstack.Part{
			netstack.PartLinks, netstack.PartRoutes4, netstack.PartRoutes6, netstack.PartRules4, netstack.PartRules6,
			netstack.PartNeighbours, netstack.PartFDB, netstack.PartSysctls,
		} {
			ns.SetPart(p, netstack.Status{State: netstack.StateOK})
		}
		return ns
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		options := map[string]string{}
		for i := 0; i+1 < len(f); i++ {
			options[f[i]] = f[i+1]
		}
		switch f[0] {
		case "node":
			n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: f[1], Annotations: map[string]string{}}}
			for _, a := range strings.Split(f[2], ",") {
				n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
			}
			n.Spec.PodCIDRs = strings.Split(f[3], ",")
			n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
			objects.Nodes = append(objects.Nodes, n)
			byNode[f[1]] = known(&netstack.Namespace{Name: f[1], Kind: netstack.KindNode, Node: f[1], Sysctls: map[string]string{}})
			continue
		case "pod":
			p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: f[1]}, Spec: corev1.PodSpec{NodeName: f[3]}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: f[2]}}
			objects.Pods = append(objects.Pods, p)
			byPod[f[1]] = known(&netstack.Namespace{Name: f[1], Kind: netstack.KindPod, Node: f[3], Pod: "x/" + f[1]})
			continue
		case "agent":
			key, value, _ := strings.Cut(f[2], "=")
			objects.Pods = append(objects.Pods, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "agent-" + f[1], Labels: map[string]string{key: value}},
				Spec:       corev1.PodSpec{NodeName: f[1], HostNetwork: !slices.Contains(f, "alone")},
			})
			continue
		}
		ns := byNode[f[0]]
		if ns == nil {
			ns = byPod[f[0]]
		}
		switch f[1] {
		case "gone": // not collected
			delete(byNode, f[0])
		case "annotation":
			key, value, _ := strings.Cut(f[2], "=")
			for i := range objects.Nodes {
				if objects.Nodes[i].Name == f[0] {
					objects.Nodes[i].Annotations[key] = value
				}
			}
		case "link":
			l := netstack.Link{Name: f[2], Index: len(ns.Links) + 1, Kind: options["kind"], MAC: macOf(options["mac"]), Flags: netstack.FlagUp}
			if slices.Contains(f, "down") {
				l.Flags = 0
			}
			if l.Kind == "vxlan" {
				l.VXLAN = &netstack.VXLAN{VNI: 1}
			}
			ns.Links = append(ns.Links, l)
			if pod := options["pod"]; pod != "" {
				inside := "eth0"
				if options["inside"] != "" {
					inside = options["inside"]
				}
				j := Join{Inside: &netstack.Link{Name: inside, Kind: "veth"}, Outside: &l}
				if options["bridge"] != "" {
					j.Bridge = &netstack.Link{Name: options["bridge"], Kind: "bridge"}
				}
				joins[byPod[pod]] = append(joins[byPod[pod]], j)
			}
		case "addr":
			ns.Addresses = append(ns.Addresses, netstack.Address{Dev: options["dev"], Prefix: netip.MustParsePrefix(f[2])})
		case "route":
			ns.Routes = append(ns.Routes, parseRoute(t, f[2:], options))
		case "neigh":
			ns.Neighbours = append(ns.Neighbours, netstack.Neighbour{Dev: options["dev"], IP: netip.MustParseAddr(f[2]), MAC: macOf(options["lladdr"]), State: netstack.NUDPermanent})
		case "fdb":
			ns.FDB = append(ns.FDB, netstack.FDBEntry{Dev: options["dev"], MAC: macOf(f[2]), Dst: netip.MustParseAddr(options["dst"])})
		case "rule":
			r := netstack.Rule{Family: netstack.IPv4, Action: netstack.RuleLookup, Table: netstack.TableMain, Priority: uint32(number(t, f[2]))}
			if options["lookup"] != "main" {
				r.Table = uint32(number(t, options["lookup"]))
			}
			if a, err := netip.ParseAddr(options["from"]); err == nil {
				r.Src = single(a)
			}
			if a, err := netip.ParseAddr(options["to"]); err == nil {
				r.Dst = single(a)
			}
			ns.Rules = append(ns.Rules, r)
		case "sysctl":
			key, value, _ := strings.Cut(f[2], "=")
			ns.Sysctls[key] = value
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return &View{
		Cluster: cluster.Compile(&objects), Daemons: FindDaemons(objects.Pods),
		Node:  func(name string) *netstack.Namespace { return byNode[name] },
		Pod:   func(name string) *netstack.Namespace { return byPod[strings.TrimPrefix(name, "x/")] },
		Joins: func(pod *netstack.Namespace) []Join { return joins[pod] },
	}
}

// recognised are the plugins that something speaks for at a namespace's node.
func (v *View) recognised(at *netstack.Namespace) (names []string) {
	p := v.place(at, netip.Addr{}, netip.IPv4Unspecified())
	for k, known := range plugins {
		if name, _ := known.recognise(p, v.Daemons[p.name][k]); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func macOf(text string) netstack.MAC {
	mac, _ := netstack.ParseMAC(text)
	return mac
}

func parseRoute(t *testing.T, f []string, options map[string]string) netstack.Route {
	t.Helper()
	r := netstack.Route{Type: netstack.RouteUnicast, Table: netstack.TableMain, Protocol: 3}
	if f[0] == "blackhole" {
		r.Type, f = netstack.RouteBlackhole, f[1:]
	}
	switch {
	case f[0] == "default" && strings.Contains(options["via"], ":"):
		r.Dst = netip.MustParsePrefix("::/0")
	case f[0] == "default":
		r.Dst = netip.MustParsePrefix("0.0.0.0/0")
	case strings.Contains(f[0], "/"):
		r.Dst = netip.MustParsePrefix(f[0])
	default:
		r.Dst = single(netip.MustParseAddr(f[0]))
	}
	r.Family = netstack.FamilyOf(r.Dst.Addr())
	if r.Type == netstack.RouteUnicast {
		h := netstack.NextHop{Dev: options["dev"], Weight: 1}
		h.Gateway, _ = netip.ParseAddr(options["via"])
		r.NextHops = []netstack.NextHop{h}
	}
	switch options["proto"] {
	case "bird":
		r.Protocol = protocolBIRD
	case "80":
		r.Protocol = protocolFelix
	}
	if options["table"] != "" {
		r.Table = uint32(number(t, options["table"]))
	}
	if options["metric"] != "" {
		r.Metric = uint32(number(t, options["metric"]))
	}
	switch options["scope"] {
	case "link":
		r.Scope = netstack.ScopeLink
	case "host":
		r.Scope = netstack.ScopeHost
	}
	return r
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(text, ":"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// row is a state, and what a plugin expects of it for a packet.
type row struct {
	name  string
	state string // beside nodes, and what the table shares
	at    string // node or pod; a by default
	from  string // pa's address by default
	to    string // pb's by default
	// want are the expectations: "+ KIND WANT" for one that is met, and "- KIND WANT: THERE".
	want []string
}

func (r *row) run(t *testing.T, p plugin, shared string) {
	t.Helper()
	v := parse(t, nodes+shared+r.state)
	at := v.Node(or(r.at, "a"))
	if at == nil {
		at = v.Pod(or(r.at, "a"))
	}
	place := v.place(at, netip.MustParseAddr(or(r.from, "10.244.1.5")), netip.MustParseAddr(or(r.to, "10.244.2.5")))
	var got []string
	for _, e := range p.expect(place) {
		if e.Met {
			got = append(got, fmt.Sprintf("+ %s %s", e.Kind, e.Want))
		} else {
			got = append(got, fmt.Sprintf("- %s %s: %s", e.Kind, e.Want, e.There))
		}
	}
	if !slices.Equal(got, r.want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(r.want, "\n\t"))
	}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
