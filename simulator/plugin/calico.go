package plugin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// calico gives nodes blocks of addresses and routes to each: by the node's address,
// through the IPIP device, or through the VXLAN device
// (felix/dataplane/linux/route_mgr.go, updateRoutes, noEncapRoute; ipip_mgr.go,
// vxlan_mgr.go, route; BIRD with krt_tunnel, confd/pkg/backends/calico). On its own
// node a block is a blackhole (blackholeRoutes), in which each pod has a route to
// its device (cni-plugin/pkg/dataplane/linux/dataplane_linux.go, SetupRoutes).
type calico struct{}

// Annotations of calico-node (libcalico-go/lib/backend/k8s/resources/node.go).
const (
	calicoAddress  = "projectcalico.org/IPv4Address"
	calicoAddress6 = "projectcalico.org/IPv6Address"
	calicoIPIP     = "projectcalico.org/IPv4IPIPTunnelAddr"
	calicoVXLAN    = "projectcalico.org/IPv4VXLANTunnelAddr"
	calicoVXLAN6   = "projectcalico.org/IPv6VXLANTunnelAddr"
)

// Protocols of the routes between nodes: BIRD's, and Felix' own
// (dataplanedefs.DefaultRouteProto).
const (
	protocolBIRD  = 12
	protocolFelix = 80
)

// calicoTunnel is the IPIP device (dataplanedefs.IPIPIfaceName).
const calicoTunnel = "tunl0"

// calicoGateway is the address to which pods send all; nobody has it, and the
// pod's device on the node answers for it (proxy_arp).
var calicoGateway = netip.MustParseAddr("169.254.1.1")

func (calico) daemon(labels map[string]string) bool {
	return labels["k8s-app"] == "calico-node" || labels["k8s-app"] == "canal"
}

func (calico) recognise(p *place, agent string) (string, []string) {
	var by []string
	for _, key := range []string{calicoAddress, calicoAddress6} {
		if value := annotation(p.object, key); value != "" {
			by = append(by, fmt.Sprintf("annotation %s=%s of node %s", key, value, p.name))
		}
	}
	if p.node != nil {
		if dev := link(p.node, p.vtep()); dev != nil && dev.VXLAN != nil {
			by = append(by, "device "+dev.Name+" of kind vxlan")
		}
		if at := slices.IndexFunc(p.node.Routes, func(r netstack.Route) bool { return r.Family == p.family && fromCalico(&r) }); at >= 0 {
			by = append(by, "route "+there(&p.node.Routes[at]))
		}
	}
	if len(by) == 0 && agent == "" {
		return "", nil
	}
	return "calico", by
}

// fromCalico says whether a route is one between nodes, or a block's blackhole.
// Those through the VXLAN device are known by that: they have the protocol of any
// route.
func fromCalico(r *netstack.Route) bool {
	return r.Table == netstack.TableMain && (r.Protocol == protocolBIRD || r.Protocol == protocolFelix ||
		len(r.NextHops) == 1 && strings.HasPrefix(r.NextHops[0].Dev, "vxlan") && strings.HasSuffix(r.NextHops[0].Dev, ".calico"))
}

// vtep is the name of the VXLAN device (dataplanedefs.VXLANIfaceNameV4).
func (p *place) vtep() string {
	if p.family == netstack.IPv6 {
		return "vxlan-v6.calico"
	}
	return "vxlan.calico"
}

func (c calico) expect(p *place) []Expectation {
	switch {
	case p.pod != nil:
		return c.inside(p)
	case p.to == nil:
		return nil
	case p.to.Node == p.name:
		join, ok := p.view.port(p.to)
		if !ok || !strings.HasPrefix(join.Outside.Name, "cali") {
			return nil
		}
		return p.route([]wanted{{dst: p.dst.String(), dev: join.Outside.Name, more: "scope link"}})
	}
	peer, known := p.view.Cluster.Node(p.to.Node)
	if !known || p.node == nil || !c.routes(p, peer) {
		return nil
	}
	ways := c.ways(p, peer)
	preferred, others := []wanted{}, []wanted{}
	for _, w := range []way{byAddress, byIPIP, byVXLAN} {
		for _, target := range c.wanted(p, peer, w) {
			if slices.Contains(ways, w) && !slices.ContainsFunc(preferred, func(x wanted) bool { return x.dev == target.dev }) {
				preferred = append(preferred, target)
			} else {
				others = append(others, target)
			}
		}
	}
	list := p.route(preferred, others...)
	if len(list) > 0 && !list[0].Met {
		list[0].Met = c.learned(p)
	}
	if len(list) == 0 || len(ways) != 1 || ways[0] != byVXLAN {
		return list
	}
	dev := link(p.view.Node(peer.Name), p.vtep())
	if dev == nil {
		return list
	}
	list = append(list, p.neighbour(p.vtep(), c.tunnelAddress(p, peer), dev.MAC)...)
	return append(list, p.forwarding(p.vtep(), dev.MAC, c.address(p, peer))...)
}

// learned says whether the route is one that BIRD has learned with a next hop of
// the network around: what that is told to route is not in view.
func (calico) learned(p *place) bool {
	r := longest(p.node, netstack.TableMain, p.dst)
	return r != nil && r.Protocol == protocolBIRD && r.Type == netstack.RouteUnicast && r.Dst.Bits() > 0 &&
		!slices.ContainsFunc(r.NextHops, func(h netstack.NextHop) bool {
			_, node := p.view.Cluster.NodeByIP(h.Gateway)
			return node || h.Dev == calicoTunnel || h.Dev == p.vtep() || !h.Gateway.IsValid()
		})
}

// routes says whether calico routes between the nodes at all, and does not only
// enforce policies in the network of another (as on clouds, and in canal).
func (c calico) routes(p *place, peer *cluster.Node) bool {
	for _, ns := range []*netstack.Namespace{p.node, p.view.Node(peer.Name)} {
		if ns == nil {
			continue
		}
		if link(ns, p.vtep()) != nil || slices.ContainsFunc(ns.Routes, func(r netstack.Route) bool { return r.Family == p.family && fromCalico(&r) }) {
			return true
		}
	}
	return annotation(p.object, calicoIPIP) != "" || c.tunnelAddress(p, peer).IsValid()
}

// inside expects that a pod sends all to the gateway, and that its device on the
// node answers for it.
func (calico) inside(p *place) []Expectation {
	if p.family != netstack.IPv4 || p.node == nil {
		return nil
	}
	for _, j := range p.view.Joins(p.pod) {
		if j.Inside.Name == "eth0" && strings.HasPrefix(j.Outside.Name, "cali") {
			list := p.defaultRoute(wanted{via: calicoGateway, dev: j.Inside.Name})
			return append(list, p.answers(j.Outside.Name, calicoGateway, j.Inside.Name)...)
		}
	}
	return nil
}

// way is how calico gets to another node.
type way uint8

const (
	byAddress way = iota
	byIPIP
	byVXLAN
)

// wanted are the routes to a node's block, by each of the node's addresses.
func (c calico) wanted(p *place, peer *cluster.Node, w way) []wanted {
	block := c.block(p, peer)
	if w == byVXLAN {
		if via := c.tunnelAddress(p, peer); via.IsValid() {
			return []wanted{{dst: block, via: via, dev: p.vtep(), more: "onlink"}}
		}
		return nil
	}
	if w == byIPIP && p.family == netstack.IPv6 {
		return nil
	}
	addrs := []netip.Addr{}
	for _, a := range append([]netip.Addr{c.address(p, peer)}, peer.IPs...) {
		if a.IsValid() && netstack.FamilyOf(a) == p.family && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	var list []wanted
	for _, a := range addrs {
		r := wanted{dst: block, via: a, dev: c.uplink(p), more: "proto bird"}
		if w == byIPIP {
			r.dev, r.more = calicoTunnel, "proto bird onlink"
		} else if to := longest(p.node, netstack.TableMain, a); !onLink(p.node, a) && to != nil && len(to.NextHops) == 1 && to.NextHops[0].Gateway.IsValid() {
			r.via, r.dev = to.NextHops[0].Gateway, to.NextHops[0].Dev // which leads to it
		}
		list = append(list, r)
	}
	return list
}

// uplink is the device that has the node's address.
func (c calico) uplink(p *place) string {
	if p.object == nil {
		return ""
	}
	return device(p.node, c.address(p, p.object))
}

// block is the block that holds the pod's address: its node has it as a blackhole.
func (calico) block(p *place, peer *cluster.Node) string {
	if ns := p.view.Node(peer.Name); ns != nil {
		for i := range ns.Routes {
			if r := &ns.Routes[i]; r.Type == netstack.RouteBlackhole && fromCalico(r) && r.Dst.Contains(p.dst) {
				return r.Dst.String()
			}
		}
	}
	return "the block of " + p.dst.String()
}

// address is the one that a node tells the others, or its first.
func (calico) address(p *place, n *cluster.Node) netip.Addr {
	key := calicoAddress
	if p.family == netstack.IPv6 {
		key = calicoAddress6
	}
	addr, _ := annotated(n, key)
	if !addr.IsValid() {
		addr, _ = n.IP(p.family == netstack.IPv6)
	}
	return addr
}

// tunnelAddress is the one of a node's VXLAN device.
func (calico) tunnelAddress(p *place, n *cluster.Node) netip.Addr {
	key := calicoVXLAN
	if p.family == netstack.IPv6 {
		key = calicoVXLAN6
	}
	if addr, _ := annotated(n, key); addr.IsValid() {
		return addr
	}
	if ns := p.view.Node(n.Name); ns != nil {
		return gatewayOn(ns, p.vtep(), p.family)
	}
	return netip.Addr{}
}

// ways says how calico would get to a node. Pools tell it, and they are not in
// view: so the routes to other nodes do, which are on the same subnet or not as that one is
// (CrossSubnet), and those of that node. Without any, the devices do.
func (c calico) ways(p *place, peer *cluster.Node) []way {
	same := c.together(p, p.object, peer)
	at := c.nodesByAddress(p)
	for _, from := range []*cluster.Node{p.object, peer} {
		if from == nil {
			continue
		}
		ns := p.view.Node(from.Name)
		if ns == nil {
			continue
		}
		for i := range ns.Routes {
			r := &ns.Routes[i]
			if r.Family != p.family || !fromCalico(r) || len(r.NextHops) != 1 || !r.NextHops[0].Gateway.IsValid() || r.Dst.Contains(p.dst) {
				continue
			}
			target := at(r.NextHops[0].Gateway)
			if target == nil || c.together(p, from, target) != same {
				continue
			}
			switch r.NextHops[0].Dev {
			case calicoTunnel:
				return []way{byIPIP}
			case p.vtep():
				return []way{byVXLAN}
			}
			return []way{byAddress}
		}
	}
	var ways []way
	switch {
	case link(p.node, p.vtep()) != nil:
		ways = append(ways, byVXLAN)
	case p.family == netstack.IPv4 && (annotation(p.object, calicoIPIP) != "" || gatewayOn(p.node, calicoTunnel, p.family).IsValid()):
		ways = append(ways, byIPIP)
	}
	if same || len(ways) == 0 {
		ways = append(ways, byAddress)
	}
	return ways
}

// nodesByAddress finds the node that has an address, or a tunnel with it.
func (c calico) nodesByAddress(p *place) func(netip.Addr) *cluster.Node {
	var ends map[netip.Addr]*cluster.Node
	return func(addr netip.Addr) *cluster.Node {
		if n, ok := p.view.Cluster.NodeByIP(addr); ok {
			return n
		}
		if ends == nil {
			ends = map[netip.Addr]*cluster.Node{}
			for _, n := range p.view.Cluster.Nodes() {
				ends[c.address(p, n)], ends[c.tunnelAddress(p, n)] = n, n
			}
		}
		return ends[addr]
	}
}

// together says whether two nodes are on the same subnet.
func (c calico) together(p *place, a, b *cluster.Node) bool {
	if a == nil || b == nil {
		return false
	}
	key := calicoAddress
	if p.family == netstack.IPv6 {
		key = calicoAddress6
	}
	to := c.address(p, b)
	if _, prefix := annotated(a, key); prefix.IsValid() && !prefix.IsSingleIP() {
		return prefix.Masked().Contains(to)
	}
	return onLink(p.view.Node(a.Name), to)
}
