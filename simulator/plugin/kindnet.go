package plugin

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// kindnet routes to each node's range by the node's address
// (images/kindnetd/cmd/kindnetd/routes.go, syncRoute, of kubernetes-sigs/kind). Its
// pods, and those of any that calls the plugin ptp, are each behind a pair of
// their own (plugins/main/ptp/ptp.go, setupHostVeth and setupContainerVeth, of
// containernetworking/plugins).
type kindnet struct{}

func (kindnet) daemon(labels map[string]string) bool {
	return labels["app"] == "kindnet" || labels["k8s-app"] == "kindnet"
}

func (kindnet) recognise(p *place, agent string) (string, []string) {
	var by []string
	if p.node != nil {
		if at := pointToPoint(p.node, p.family); at != nil {
			by = append(by, fmt.Sprintf("route %s scope host to a veth that has the gateway's address", at))
		}
	}
	switch {
	case agent != "":
		return "kindnet", by
	case len(by) > 0:
		return "ptp", by
	}
	return "", nil
}

// pointToPoint is a route that ptp makes, next to the gateway's address on the same
// device; nil for none.
func pointToPoint(ns *netstack.Namespace, f netstack.Family) *netstack.Route {
	for i := range ns.Routes {
		r := &ns.Routes[i]
		if r.Family != f || r.Table != netstack.TableMain || !r.Dst.IsSingleIP() || len(r.NextHops) != 1 || r.NextHops[0].Gateway.IsValid() {
			continue
		}
		if f == netstack.IPv4 && r.Scope != netstack.ScopeHost { // ip.AddHostRoute; IPv6 has no scopes
			continue
		}
		if l := link(ns, r.NextHops[0].Dev); l == nil || l.Kind != "veth" || l.Master != "" {
			continue
		}
		if gatewayOn(ns, r.NextHops[0].Dev, f).IsValid() {
			return r
		}
	}
	return nil
}

// gatewayOn is the address of its own that a device has with no prefix around it.
func gatewayOn(ns *netstack.Namespace, dev string, f netstack.Family) netip.Addr {
	for i := range ns.Addresses {
		if a := &ns.Addresses[i]; a.Dev == dev && a.Prefix.IsSingleIP() && netstack.FamilyOf(a.Prefix.Addr()) == f {
			return a.Prefix.Addr()
		}
	}
	return netip.Addr{}
}

func (kindnet) expect(p *place) []Expectation {
	switch {
	case p.pod != nil:
		return p.behindPair()
	case p.to == nil:
		return nil
	case p.to.Node == p.name:
		join, ok := p.view.port(p.to)
		if !ok || join.Bridge != nil || strings.HasPrefix(join.Outside.Name, "cali") {
			return nil
		}
		return p.route([]wanted{{dst: p.dst.String(), dev: join.Outside.Name, more: "scope host"}})
	}
	if p.view.Daemons[p.name][kindnetAt] == "" {
		return nil // ptp does not care for other nodes
	}
	peer, known := p.view.Cluster.Node(p.to.Node)
	if !known {
		return nil
	}
	via, ok := peer.IP(p.family == netstack.IPv6)
	for _, prefix := range peer.PodCIDRs {
		if ok && prefix.Contains(p.dst) {
			return p.route([]wanted{{dst: prefix.Masked().String(), via: via}})
		}
	}
	return nil
}

// behindPair expects that a pod sends by the gateway, whose address its pair's other
// end has.
func (p *place) behindPair() []Expectation {
	if p.node == nil || p.dst.IsLinkLocalUnicast() {
		return nil
	}
	for _, j := range p.view.Joins(p.pod) {
		if j.Inside.Name != "eth0" || j.Bridge != nil {
			continue
		}
		gateway := gatewayOn(p.node, j.Outside.Name, p.family)
		if !gateway.IsValid() || gateway == p.dst {
			return nil
		}
		return p.defaultRoute(wanted{via: gateway, dev: j.Inside.Name})
	}
	return nil
}
