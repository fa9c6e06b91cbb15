package judge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// linkKind makes worlds in which links of one kind decide who reaches whom: a stage of its own, with flaws.
type linkKind struct {
	feature string
	needs   []string // of the kernel
	stage   func(*joint)
	flaws   string // the prefix of what can be wrong, where kinds have that in common
}

// is says whether the feature, which is asked for, is one of the kind's; "kinds" is one of all.
func (k *linkKind) is(feature string) bool {
	return feature == "kinds" || feature == k.feature || strings.HasPrefix(feature, k.feature+":") ||
		k.flaws != "" && (feature == k.flaws || strings.HasPrefix(feature, k.flaws+":"))
}

// linkKinds lists all of them. The files gen_link_kinds_NAME.go have their stages.
func linkKinds() []linkKind {
	return []linkKind{
		{"link:vxlan", []string{"vxlan"}, stageVXLAN, ""},
		{"link:ipip", []string{"ipip"}, func(j *joint) { stageTunnel(j, "ipip") }, "link:tunnel"},
		{"link:sit", []string{"sit"}, func(j *joint) { stageTunnel(j, "sit") }, "link:tunnel"},
		{"link:gre", []string{"gre"}, func(j *joint) { stageTunnel(j, "gre") }, "link:tunnel"},
		{"link:gretap", []string{"gretap"}, func(j *joint) { stageTunnel(j, "gretap") }, "link:tunnel"},
		{"link:ip6tnl", []string{"ip6tnl"}, func(j *joint) { stageTunnel(j, "ip6tnl") }, "link:tunnel"},
		{"link:macvlan", []string{"macvlan"}, stageMACVLAN, ""},
		{"link:ipvlan", []string{"ipvlan"}, stageIPVLAN, ""},
		{"link:vlan", []string{"vlan"}, stageVLAN, ""},
		{"link:vlan-filtering", []string{"vlan", "vlan-filtering"}, stageFiltering, ""},
		{"link:bond", []string{"bond"}, stageBond, ""},
		{"link:vrf", []string{"vrf"}, stageVRF, ""},
		{"link:tun", []string{"tun"}, stageTun, ""},
	}
}

// everyKind is how many worlds there are to one of link kinds.
const everyKind = 5

// isKind says whether a feature is one of link kinds, or all of them: "kinds".
func isKind(feature string) bool {
	return slices.ContainsFunc(linkKinds(), func(k linkKind) bool { return k.is(feature) })
}

// kinds makes a world of link kinds, if this is to be one.
func (b *builder) kinds() bool {
	var list []linkKind
	for _, k := range linkKinds() {
		wanted := len(b.only) == 0 || slices.ContainsFunc(b.only, func(o string) bool {
			return k.is(o)
		})
		if wanted && b.kernel.has(k.needs...) {
			list = append(list, k)
		}
	}
	switch {
	case len(list) == 0, len(b.only) == 0 && b.world.Index%everyKind != everyKind-1:
		return false
	case slices.ContainsFunc(b.only, func(o string) bool { return !isKind(o) }) && b.chance(50):
		return false // other features are asked for, too
	}
	turn := b.world.Index
	if len(b.only) == 0 {
		turn /= everyKind
	}
	k := list[turn%uint64(len(list))]
	// Which flaws the stage has to offer, a rehearsal tells: they come in turn, too.
	scratch := *b
	scratch.Rand = rand.New(rand.NewPCG(b.world.Seed, b.world.Index))
	scratch.world, scratch.marks, scratch.used = &World{}, map[string]uint8{}, map[string]bool{}
	rehearsal := &joint{builder: &scratch, kind: k}
	k.stage(rehearsal)
	j := &joint{builder: b, kind: k}
	round := turn / uint64(len(list))
	sound := b.asks(k.feature) && round%2 == 1 // where nothing is wrong, the link itself decides
	if len(rehearsal.offered) > 0 && !sound {
		j.turn = rehearsal.offered[round%uint64(len(rehearsal.offered))]
	}
	k.stage(j)
	j.probes()
	return true
}

// joint is a world of link kinds under construction. Subnet S has the addresses 10.9.S.H and fd00:9:S::H.
type joint struct {
	*builder
	kind linkKind
	ends []end
	// offered are the flaws that could have been drawn so far, and turn is the one whose turn it is.
	offered []string
	turn    string
	// open says that part of the way between the nodes is not collected.
	open bool
}

// end is an address of a namespace, in both families, that sends probes and gets them.
type end struct {
	ns    string
	addrs [2]netip.Addr
	// alone says that only one of the families has it.
	alone netstack.Family
}

// pair is a host of a subnet.
func pair(subnet, host int) [2]netip.Addr {
	return [2]netip.Addr{
		netip.AddrFrom4([4]byte{10, 9, byte(subnet), byte(host)}),
		netip.MustParseAddr(fmt.Sprintf("fd00:9:%d::%d", subnet, host)),
	}
}

// mac is the link-layer address of what a stage has to name.
func mac(subnet, host int) string { return fmt.Sprintf("02:00:00:09:%02x:%02x", subnet, host) }

// flaw says whether to make what has the feature: when it is its turn, or when it is asked for, and seldom otherwise.
func (j *joint) flaw(name string) bool {
	feature := j.features(name)[0]
	if !slices.Contains(j.offered, feature) {
		j.offered = append(j.offered, feature)
	}
	return j.chance(6) || feature == j.turn || slices.Contains(j.only, feature)
}

// features are those of a link of the stage's kind.
func (j *joint) features(names ...string) []string {
	var list []string
	for _, n := range names {
		switch {
		case n == "":
			list = append(list, j.kind.feature)
		case j.kind.flaws != "" && !strings.HasPrefix(n, "mode-"):
			list = append(list, j.kind.flaws+":"+n)
		default:
			list = append(list, j.kind.feature+":"+n)
		}
	}
	return list
}

// made adds a line that makes a link; in worlds without its features, it is another line.
func (j *joint) made(ns, text, otherwise string, features ...string) {
	e := Element{Namespace: ns, Tool: ToolLink, Text: text}
	if len(features) > 0 && otherwise != text {
		e.Otherwise, e.Features, e.Rebuild = otherwise, features, true
	}
	j.add(e)
}

// bridged adds a line of the tool bridge.
func (j *joint) bridged(ns, text string, features ...string) {
	j.add(Element{Namespace: ns, Tool: ToolBridge, Text: text, Features: features, Rebuild: len(features) > 0})
}

func (j *joint) pod(name string) {
	j.namespace(Namespace{Name: name, Kind: netstack.KindPod})
}

func (j *joint) node(name string, addrs ...netip.Addr) {
	j.namespace(Namespace{Name: name, Kind: netstack.KindNode, Addresses: addrs})
}

// wire joins two namespaces with a veth, both ends up.
func (j *joint) wire(a, dev, b, peer string) {
	j.link(a, "link add %s type veth peer name %s netns @%s", dev, peer, b)
	j.ip(a, "link set %s up", dev)
	j.ip(b, "link set %s up", peer)
}

// switched makes a bridge of a namespace's devices.
func (j *joint) switched(ns, bridge string, ports ...string) {
	j.link(ns, "link add %s type bridge", bridge)
	for _, p := range ports {
		j.ip(ns, "link set %s master %s", p, bridge)
	}
	j.ip(ns, "link set %s up", bridge)
}

// address gives a device the addresses of a host in a subnet, and lets them be probed.
func (j *joint) address(ns, dev string, subnet, host int) {
	p := pair(subnet, host)
	j.ip(ns, "addr add %s/24 dev %s", p[0], dev)
	j.ip(ns, "-6 addr add %s/64 dev %s nodad", p[1], dev)
	weight := 1
	if j.world.Namespace(ns).Kind == netstack.KindPod {
		weight = 3
	}
	for range weight {
		j.ends = append(j.ends, end{ns: ns, addrs: p})
	}
}

// to adds routes to a subnet in each family; via is a host of another subnet, or none.
func (j *joint) to(ns string, subnet int, via [2]netip.Addr, rest string, features ...string) {
	p := pair(subnet, 0)
	for i, f := range families {
		prefix := netip.PrefixFrom(p[i], []int{24, 64}[i]).String()
		if subnet == 0 {
			prefix = "default"
		}
		hop := ""
		if via[i].IsValid() {
			hop = "via " + via[i].String() + " "
		}
		if len(features) > 0 {
			j.route(ns, f, "route", prefix+" "+hop+rest, features...)
		} else {
			j.ip(ns, "-%d route add %s %s%s", f, prefix, hop, rest)
		}
	}
}

// stop drops packets on their way, with rules of one family.
func (j *joint) stop(ns string, f netstack.Family, chain, match string, features ...string) {
	j.iptables(ns, f, one(j.builder, netstack.BackendLegacy, netstack.BackendNFT), "filter", chain, match+" -j DROP", features...)
}

// probes draws who talks to whom.
func (j *joint) probes() {
	pinged := map[string]bool{}
	count := 16
	if j.world.Apart {
		count = 10
	}
	for tries := 0; len(j.world.Probes) < count && tries < 500; tries++ {
		from, to, at := one(j.builder, j.ends...), one(j.builder, j.ends...), j.IntN(2)
		i := len(j.world.Probes)
		p := Probe{ID: fmt.Sprintf("q%d", i), From: from.ns, To: to.addrs[at], Port: one(j.builder, openPorts...), SourcePort: uint16(20001 + i*40)}
		switch {
		case from.ns == to.ns, from.ns == outside, to.alone != 0 && to.alone != families[at], from.alone != 0 && from.alone != families[at]:
			continue
		case j.chance(55):
			p.Protocol = verdict.TCP
		case j.chance(65):
			p.Protocol = verdict.UDP
		default:
			p.Protocol, p.Port, p.SourcePort = verdict.ICMP, 0, 0
			if key := from.ns + fmt.Sprint(at); pinged[key] {
				continue // a raw socket hears of the errors of another's echo request
			} else {
				pinged[key] = true
			}
		}
		if j.chance(10) {
			p.Mark = one[uint32](j.builder, 1, 0x10)
		}
		j.world.Probes = append(j.world.Probes, p)
	}
}

// underlay makes the nodes n1 and n2, joined by a wire, by a switch that is not collected, or over a router. It returns
// the subnets of their uplinks; their host numbers there are 1 and 2.
func (j *joint) underlay() [2]int {
	over := one(j.builder, "wire", "wire", "switch", "router")
	subnets := [2]int{5, 5}
	if over == "router" {
		subnets[1] = 7
	}
	first, second := pair(subnets[0], 1), pair(subnets[1], 2)
	if over == "switch" {
		j.open = true
		j.namespace(Namespace{Name: router, Kind: netstack.KindOther, Hidden: true})
	}
	if over == "router" {
		j.namespace(Namespace{Name: "r", Kind: netstack.KindOther})
	}
	j.node("n1", first[:]...)
	j.node("n2", second[:]...)
	switch over {
	case "wire":
		j.wire("n1", "eth0", "n2", "eth0")
	case "switch":
		j.wire(router, "port1", "n1", "eth0")
		j.wire(router, "port2", "n2", "eth0")
		j.switched(router, "br0", "port1", "port2")
	case "router":
		j.wire("r", "r1", "n1", "eth0")
		j.wire("r", "r2", "n2", "eth0")
		j.address("r", "r1", 5, 254)
		j.address("r", "r2", 7, 254)
	}
	j.address("n1", "eth0", subnets[0], 1)
	j.address("n2", "eth0", subnets[1], 2)
	if over == "router" {
		var features []string
		if j.chance(30) {
			features = j.features("underlay-route")
		}
		j.to("n1", 7, pair(5, 254), "dev eth0", features...)
		j.to("n2", 5, pair(7, 254), "dev eth0")
		if j.flaw("underlay-mtu") {
			j.rebuilt("r", "link set r2 mtu 1400", j.features("underlay-mtu")...)
		}
	} else if over == "wire" && j.flaw("underlay-mtu") {
		j.rebuilt("n1", "link set eth0 mtu 1400", j.features("underlay-mtu")...)
	}
	return subnets
}

// behind puts a pod behind a node, on a wire of its own: subnet and host are the pod's, and the node has host 254.
func (j *joint) behind(node, pod string, subnet, host int) {
	j.pod(pod)
	dev := "to" + pod
	j.wire(node, dev, pod, "eth0")
	j.address(node, dev, subnet, 254)
	j.address(pod, "eth0", subnet, host)
	j.to(pod, 0, pair(subnet, 254), "dev eth0")
}

// onBridge puts a pod on the bridge br0 of a node.
func (j *joint) onBridge(node, pod string, subnet, host int) {
	j.pod(pod)
	dev := "to" + pod
	j.wire(node, dev, pod, "eth0")
	j.ip(node, "link set %s master br0", dev)
	j.address(pod, "eth0", subnet, host)
}
