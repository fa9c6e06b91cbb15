package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// flannel gives each node the range that its Node object has, and routes between
// them: host-gw by the nodes' addresses (pkg/backend/hostgw/hostgw.go,
// RegisterNetwork), vxlan through a device (pkg/backend/vxlan/vxlan_network.go,
// handleSubnetEvents). The pods of a node are behind a bridge.
type flannel struct{}

// Annotations by which nodes tell each other (pkg/subnet/kube/annotations.go).
const (
	flannelType     = "flannel.alpha.coreos.com/backend-type"
	flannelData     = "flannel.alpha.coreos.com/backend-data"
	flannelDataV6   = "flannel.alpha.coreos.com/backend-v6-data"
	flannelPublic   = "flannel.alpha.coreos.com/public-ip"
	flannelPublicV6 = "flannel.alpha.coreos.com/public-ipv6"
)

func (flannel) daemon(labels map[string]string) bool {
	return labels["app"] == "flannel" || labels["k8s-app"] == "flannel" || labels["k8s-app"] == "canal"
}

func (flannel) recognise(p *place, _ string) (string, []string) {
	backend, by := flannelBackend(p)
	if backend == "" {
		return "", nil
	}
	return "flannel (" + backend + ")", by
}

// flannelBackend is the backend of a node: what it tells, or vxlan if it has the device.
// Of others there are no expectations.
func flannelBackend(p *place) (backend string, by []string) {
	if backend = annotation(p.object, flannelType); backend != "" {
		by = append(by, fmt.Sprintf("annotation %s=%s of node %s", flannelType, backend, p.name))
	}
	if dev := flannelDevice(p.node, p.family); dev != nil {
		by = append(by, "device "+dev.Name+" of kind vxlan")
		if backend == "" {
			backend = "vxlan"
		}
	}
	if backend != "vxlan" && backend != "host-gw" {
		return "", nil
	}
	return backend, by
}

// flannelDevice is the VXLAN device, which is named for its VNI (vxlan.go, RegisterNetwork).
func flannelDevice(ns *netstack.Namespace, f netstack.Family) *netstack.Link {
	if ns == nil {
		return nil
	}
	for i := range ns.Links {
		if l := &ns.Links[i]; l.VXLAN != nil && l.Name == flannelName(f, l.VXLAN.VNI) {
			return l
		}
	}
	return nil
}

func flannelName(f netstack.Family, vni uint32) string {
	if f == netstack.IPv6 {
		return fmt.Sprintf("flannel-v6.%d", vni)
	}
	return fmt.Sprintf("flannel.%d", vni)
}

// lease is what a node tells the others.
type lease struct {
	node   *cluster.Node
	subnet netip.Prefix
	public netip.Addr
	mac    netstack.MAC
	vni    uint32
}

func (p *place) lease(node *cluster.Node) (lease, bool) {
	l := lease{node: node, vni: 1}
	for _, prefix := range node.PodCIDRs {
		if netstack.FamilyOf(prefix.Addr()) == p.family {
			l.subnet = prefix.Masked()
			break
		}
	}
	public, data := flannelPublic, flannelData
	if p.family == netstack.IPv6 {
		public, data = flannelPublicV6, flannelDataV6
	}
	if l.public, _ = annotated(node, public); !l.public.IsValid() {
		l.public, _ = node.IP(p.family == netstack.IPv6)
	}
	var told struct {
		VNI     uint32
		VtepMAC string
	}
	if json.Unmarshal([]byte(annotation(node, data)), &told) == nil {
		l.mac, _ = netstack.ParseMAC(told.VtepMAC)
		if told.VNI != 0 {
			l.vni = told.VNI
		}
	}
	if dev := flannelDevice(p.view.Node(node.Name), p.family); dev != nil && l.mac == (netstack.MAC{}) {
		l.mac, l.vni = dev.MAC, dev.VXLAN.VNI
	}
	return l, l.subnet.IsValid() && l.public.IsValid()
}

func (flannel) expect(p *place) []Expectation {
	if p.pod != nil || p.to == nil {
		return nil
	}
	backend, _ := flannelBackend(p)
	if p.to.Node == p.name {
		return p.bridged()
	}
	peer, known := p.view.Cluster.Node(p.to.Node)
	if !known {
		return nil
	}
	there, ok := p.lease(peer)
	if !ok || !there.subnet.Contains(p.dst) {
		return nil
	}
	direct := wanted{dst: there.subnet.String(), via: there.public, dev: p.external()}
	if backend == "host-gw" {
		return p.route([]wanted{direct})
	}
	dev := flannelName(p.family, there.vni)
	if own := flannelDevice(p.node, p.family); own != nil {
		dev = own.Name
	}
	tunnel := wanted{dst: there.subnet.String(), via: there.subnet.Addr(), dev: dev, more: "onlink"}
	preferred, other := tunnel, direct
	if p.directly(there) {
		preferred, other = direct, tunnel
	}
	list := p.route([]wanted{preferred}, other)
	if len(list) > 0 && list[0].Met {
		if found := longest(p.node, netstack.TableMain, p.dst); slices.ContainsFunc(hopsOf(p.node, found), direct.leads) {
			return list
		}
	} else if preferred == direct {
		return list
	}
	list = append(list, p.neighbour(dev, there.subnet.Addr(), there.mac)...)
	return append(list, p.forwarding(dev, there.mac, there.public)...)
}

// external is the device that has the node's own address.
func (p *place) external() string {
	if p.object == nil {
		return ""
	}
	own, _ := p.lease(p.object)
	return device(p.node, own.public)
}

// directly says whether flannel would route to a node without a tunnel: with
// DirectRouting it does so where the node is on the same link. No state tells the
// option but the routes to others.
func (p *place) directly(to lease) bool {
	if !onLink(p.node, to.public) {
		return false
	}
	for i := range p.node.Routes {
		r := &p.node.Routes[i]
		if r.Family != p.family || r.Table != netstack.TableMain || len(r.NextHops) != 1 || !r.NextHops[0].Gateway.IsValid() {
			continue
		}
		n, known := p.view.Cluster.NodeByIP(r.NextHops[0].Gateway)
		if known && n != to.node && slices.ContainsFunc(n.PodCIDRs, func(c netip.Prefix) bool { return c.Masked() == r.Dst }) {
			return true
		}
	}
	back := p.view.Node(to.node.Name)
	if back == nil || p.object == nil {
		return false
	}
	own, ok := p.lease(p.object)
	if !ok {
		return false
	}
	found := longest(back, netstack.TableMain, own.subnet.Addr())
	return found != nil && slices.ContainsFunc(hopsOf(back, found), wanted{via: own.public}.leads)
}

// bridged expects that a node reaches a pod of its own through the bridge that it
// is a port of: the plugin bridge (plugins/main/bridge/bridge.go, cmdAdd) gives the
// bridge an address, and the kernel the route to its range.
func (p *place) bridged() []Expectation {
	join, ok := p.view.port(p.to)
	if !ok || join.Bridge == nil {
		return nil
	}
	subnet := ""
	if p.object != nil {
		for _, prefix := range p.object.PodCIDRs {
			if prefix.Contains(p.dst) {
				subnet = prefix.Masked().String()
			}
		}
	}
	if subnet == "" {
		return nil
	}
	return p.route([]wanted{{dst: subnet, dev: join.Bridge.Name, more: "proto kernel scope link"}})
}
