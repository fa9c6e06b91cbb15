package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// astray explains a packet that ends where nobody knows its destination: its owner
// has no local route to it, or a node on the way sent it elsewhere than where the
// destination's pod runs.
func (c *conversation) astray(l *leg, e *end) {
	found := len(c.path.Findings)
	c.explainWay(l, e)
	c.expected(l, e, found)
}

func (c *conversation) explainWay(l *leg, e *end) {
	switch e.finding.Code {
	case verdict.NoRoute, verdict.NeighbourFailed, verdict.ForwardingDisabled, verdict.RoutingLoop, verdict.TTLExpired:
	default:
		return
	}
	if f, ok := c.w.disowned(l, e); ok {
		c.path.Findings = append(c.path.Findings, f)
		return
	}
	for _, t := range l.taken {
		pod, ok := c.w.cluster.PodByIP(t.dst)
		if !ok || t.host.Kind != netstack.KindNode {
			continue
		}
		if pod.Node == t.host.Node {
			if f, ok := c.w.lostPod(pod, &t); ok {
				c.path.Findings = append(c.path.Findings, f)
			}
			return
		}
		if l.host.Kind == netstack.KindNode && l.host.Node == pod.Node && e.finding.Code == verdict.NoRoute {
			return // it did lead there, by way of others
		}
		node, known := c.w.cluster.Node(pod.Node)
		if !known || slices.Contains(node.IPs, t.next.Gateway) || c.w.owns(pod.Node, t.next.Gateway) {
			continue
		}
		c.path.Findings = append(c.path.Findings, verdict.NewFindingf(verdict.InvalidRoute, t.host.where(t.next.Dev),
			[]string{describeRoute(&t.route), fmt.Sprintf("pod %s runs on node %s (%s)", pod, node.Name, node.IPs)},
			"invalid route %s for packet to %s on %s: it does not lead to node %s, where pod %s runs",
			describeRoute(&t.route), t.dst, t.host, node.Name, pod))
		return
	}
}

// disowned explains a host that has the packet's destination, or the neighbour that
// could not be found, for an address of its own, and no local route to it: it routes
// such packets as those of others, and does not answer ARP (arp_process).
func (w *World) disowned(l *leg, e *end) (verdict.Finding, bool) {
	addrs := []netip.Addr{e.packet.Dst}
	if n := len(l.taken); n > 0 && e.finding.Code == verdict.NeighbourFailed {
		addrs = append(addrs, l.taken[n-1].next.Gateway)
	}
	for _, addr := range addrs {
		owners := w.byAddr[addr]
		if len(owners) != 1 {
			continue // an address that several have is perhaps another's
		}
		h := owners[0]
		if h.lack(netstack.FamilyOf(addr)).routing != "" {
			continue
		}
		a, ok := h.owns(addr)
		if !ok || !a.Usable() || h.links[a.Dev] == nil || !h.links[a.Dev].Up() || h.fib.LocalAt(addr, a.Dev) {
			continue
		}
		return verdict.NewFindingf(verdict.InvalidRoute, h.where(a.Dev), []string{"address " + a.Prefix.String() + " dev " + a.Dev},
			"%s is an address of %s, but no local route leads to it there", addr, h), true
	}
	return verdict.Finding{}, false
}

// lostPod explains why a node sends packets to a pod of its own elsewhere: the
// route through an interface goes away with it.
func (w *World) lostPod(pod *cluster.Pod, t *routeTaken) (verdict.Finding, bool) {
	h := w.byPod[pod.String()]
	if h == nil {
		return verdict.Finding{}, false
	}
	for i := range h.Links {
		port, ok := w.fabric.Peer(&h.Links[i])
		if !ok || port.NS != t.host.Namespace {
			continue
		}
		bridge, bridged := w.fabric.Bridge(port.Link)
		switch {
		case t.next.Dev == port.Link.Name, bridged && t.next.Dev == bridge.Link.Name:
			return verdict.Finding{}, false
		case !port.Link.Up():
			return linkDown(t.host, port.Link), true
		case bridged && !bridge.Link.Up():
			return linkDown(t.host, bridge.Link), true
		}
		return verdict.NewFindingf(verdict.InvalidRoute, t.host.where(t.next.Dev), []string{describeRoute(&t.route), "the pod is behind " + port.Link.Name},
			"invalid route %s for packet to %s on %s: pod %s runs on this node", describeRoute(&t.route), t.dst, t.host, pod), true
	}
	return verdict.Finding{}, false
}
