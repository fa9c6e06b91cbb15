package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// AllFaults is the name by which Fix undoes everything.
const AllFaults = "all"

// Flow is one of the ways from Roles.Client that a fault may lie on. A connection to a Service is on the flow to the
// backend that it is given.
type Flow string

// The flows of a lab.
const (
	// SameNode is Roles.Client to Roles.Near: bridged by one node.
	SameNode Flow = "same-node"
	// AcrossNodes is Roles.Client to Roles.Far: routed by two nodes.
	AcrossNodes Flow = "across-nodes"
)

// Fault is one way of breaking the lab.
type Fault struct {
	Name        string
	Description string
	// Reason is the code that a diagnosis of a flow that the fault touches is expected to name first.
	Reason string
	// Flows that the fault lies on.
	Flows []Flow
	// IPv4 and IPv6 tell which families it lies on: a kernel may know a check for one of them only.
	IPv4, IPv6 bool
	// FullSizeOnly tells that small packets pass.
	FullSizeOnly bool
	// Lossy tells that a connection survives it: what it does is seen in counters, not in fates.
	Lossy bool

	// object is what the fault changes: two faults on one object cannot be told apart, nor undone in any order.
	object string
	inject func(context.Context, *Lab) error
	// undo puts back what Spec says. It also undoes half of an injection, or none.
	undo func(context.Context, *Lab) error
}

// Touches reports whether the fault lies on a flow.
func (f Fault) Touches(flow Flow, ipv6 bool) bool {
	if ipv6 && !f.IPv6 || !ipv6 && !f.IPv4 {
		return false
	}
	return slices.Contains(f.Flows, flow)
}

// Faults returns all faults, in the order of a packet's way from the client.
func Faults() []Fault {
	far := []Flow{AcrossNodes}
	return []Fault{
		{
			// There is a route, the default one, and the packet leaves in good order; then the fabric swallows it, because
			// it does not forward. What is wrong, by what the cluster says of its pods, is the route.
			Name: "missing-route", Reason: "InvalidRoute", Flows: far, IPv4: true, IPv6: true,
			Description: "the client's node has no route to the far node's pods; its default route leads to a fabric that does not forward",
			object:      "route", inject: missingRoute, undo: restoreRoute,
		},
		{
			Name: "blackhole-route", Reason: "RouteBlackhole", Flows: far, IPv4: true, IPv6: true,
			Description: "the client's node has a blackhole route to the far node's pods",
			object:      "route", inject: blackholeRoute, undo: restoreRoute,
		},
		{
			Name: "wrong-gateway", Reason: "InvalidRoute", Flows: far, IPv4: true, IPv6: true,
			Description: "the client's node routes to the far node's pods by a gateway that nobody owns",
			object:      "route", inject: wrongGateway, undo: restoreRoute,
		},
		{
			Name: "mtu-black-hole", Reason: "MTUExceeded", Flows: far, IPv4: true, IPv6: true, FullSizeOnly: true,
			Description: "the client's node has a smaller MTU towards the fabric and drops the ICMP errors that would say so",
			object:      "mtu", inject: mtuBlackHole, undo: undoMTUBlackHole,
		},
		{
			// IPv6 has no rp_filter: there the asymmetric path works, and the lab shows it.
			Name: "rp-filter", Reason: "ReversePathFilter", Flows: far, IPv4: true,
			Description: "the far node answers the client's node by a second interface, and filters strictly by reverse path on the first",
			object:      "second interface", inject: reversePathFilter, undo: undoReversePathFilter,
		},
		{
			Name: "forwarding-off", Reason: "ForwardingDisabled", Flows: far, IPv4: true, IPv6: true,
			Description: "the far node does not forward",
			object:      "forwarding", inject: forwarding("0"), undo: forwarding("1"),
		},
		{
			Name: "drop-rule", Reason: "NetfilterDrop", Flows: far, IPv4: true, IPv6: true,
			Description: "the far node has an iptables rule that drops packets to the far backend's ports",
			object:      "rule drop-rule", inject: dropRules, undo: undoDropRules,
		},
		{
			Name: "nft-drop", Reason: "NetfilterDrop", Flows: far, IPv4: true, IPv6: true,
			Description: "the far node has an nftables table of its own that drops packets to the far backend's ports",
			object:      "table inet lab", inject: nftDrop, undo: undoNftDrop,
		},
		{
			Name: "network-policy", Reason: "NetworkPolicyDeny", Flows: []Flow{SameNode, AcrossNodes}, IPv4: true, IPv6: true,
			Description: "a NetworkPolicy isolates the backends from the client, and rules on their nodes enforce it",
			object:      "policy", inject: networkPolicy, undo: undoNetworkPolicy,
		},
		{
			Name: "link-down", Reason: "InterfaceDown", Flows: far, IPv4: true, IPv6: true,
			Description: "the node's end of the far backend's wire is down",
			object:      "link", inject: linkDown, undo: linkUp,
		},
		{
			Name: "listener-gone", Reason: "NoListener", Flows: far, IPv4: true, IPv6: true,
			Description: "nothing listens in the far backend",
			object:      "far listener", inject: stopFar, undo: restartFar,
		},
		{
			Name: "listener-loopback", Reason: "NoListener", Flows: far, IPv4: true, IPv6: true,
			Description: "the far backend listens on its loopback addresses only",
			object:      "far listener", inject: loopbackFar, undo: restartFar,
		},
		{
			Name: "backend-dead", Reason: "NoListener", Flows: []Flow{SameNode}, IPv4: true, IPv6: true,
			Description: "nothing listens in the near backend, which its Service still lists",
			object:      "near listener", inject: stopNear, undo: restartNear,
		},
		{
			Name: "packet-loss", Reason: "NetfilterDrop", Flows: far, IPv4: true, IPv6: true, Lossy: true,
			Description: "the far node drops every fourth packet to the far backend's ports",
			object:      "rule packet-loss", inject: packetLoss, undo: undoPacketLoss,
		},
	}
}

// FindFault returns the fault of that name, and an *UnknownFaultError if there is none.
func FindFault(name string) (Fault, error) {
	unknown := &UnknownFaultError{Name: name}
	for _, f := range Faults() {
		if f.Name == name {
			return f, nil
		}
		unknown.Known = append(unknown.Known, f.Name)
	}
	return Fault{}, unknown
}

// Break injects a fault. A fault that cannot be injected wholly is undone.
func (l *Lab) Break(ctx context.Context, name string) error {
	f, err := FindFault(name)
	if err != nil {
		return err
	}
	unlock, err := l.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, active := range l.state.Faults {
		if active == f.Name {
			return fmt.Errorf("fault %s is active already", f.Name)
		}
		if other, err := FindFault(active); err == nil && other.object == f.object {
			return fmt.Errorf("fault %s changes the same thing as fault %s, which is active: fix that first", f.Name, active)
		}
	}
	l.state.Faults = append(l.state.Faults, f.Name)
	if err := l.state.write(l.dir); err != nil {
		return err
	}
	if err := f.inject(ctx, l); err != nil {
		return errors.Join(fmt.Errorf("inject fault %s: %w", f.Name, err), l.fix(context.WithoutCancel(ctx), f))
	}
	return nil
}

// Fix undoes a fault, or with AllFaults every one of them, the youngest first.
func (l *Lab) Fix(ctx context.Context, name string) error {
	var faults []Fault
	if name != AllFaults {
		f, err := FindFault(name)
		if err != nil {
			return err
		}
		faults = []Fault{f}
	}
	unlock, err := l.change(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if name == AllFaults {
		for _, active := range slices.Backward(l.state.Faults) {
			f, err := FindFault(active)
			if err != nil {
				return err
			}
			faults = append(faults, f)
		}
	} else if !slices.Contains(l.state.Faults, name) {
		return fmt.Errorf("fault %s is not active", name)
	}
	for _, f := range faults {
		if err := l.fix(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// change locks the lab and reads what other processes have changed.
func (l *Lab) change(ctx context.Context) (unlock func(), err error) {
	unlock, err = l.lock(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.reload(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (l *Lab) fix(ctx context.Context, f Fault) error {
	if err := f.undo(ctx, l); err != nil {
		return fmt.Errorf("undo fault %s: %w", f.Name, err)
	}
	l.state.Faults = slices.DeleteFunc(l.state.Faults, func(name string) bool { return name == f.Name })
	return l.state.write(l.dir)
}

func (l *Lab) client() Pod { return l.Spec.role(l.Spec.Roles.Client) }
func (l *Lab) near() Pod   { return l.Spec.role(l.Spec.Roles.Near) }
func (l *Lab) far() Pod    { return l.Spec.role(l.Spec.Roles.Far) }

func (l *Lab) clientNode() Node { return l.Spec.node(l.client().Node) }
func (l *Lab) farNode() Node    { return l.Spec.node(l.far().Node) }

// onLink runs fn with an interface of a node.
func (l *Lab) onLink(node, dev string, fn func(*netlink.Handle, netlink.Link) error) error {
	return withLinks(l.nodeNetns(node), func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("find %s: %w", dev, err)
		}
		return fn(h, link)
	})
}

// routeMaker returns the route that a node is to have in a family, or nil for none.
type routeMaker func(h *netlink.Handle, f family) (*netlink.Route, error)

// replaceRoutes removes a node's routes to the pods of another node, whatever they have become, and adds what next
// returns instead.
func (l *Lab) replaceRoutes(at, to Node, next routeMaker) error {
	return withLinks(l.nodeNetns(at.Name), func(h *netlink.Handle) error {
		for f, netlinkFamily := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			dst := ipNet(to.PodCIDRs[f])
			routes, err := netlinklist.Whole(func() ([]netlink.Route, error) {
				return h.RouteListFiltered(netlinkFamily, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
			})
			if err != nil {
				return fmt.Errorf("list routes to %s: %w", dst, err)
			}
			for _, r := range routes {
				if err := h.RouteDel(&r); err != nil {
					return fmt.Errorf("delete route %s: %w", r, err)
				}
			}
			r, err := next(h, family(f))
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			if err := h.RouteAdd(r); err != nil {
				return fmt.Errorf("add route %s: %w", r, err)
			}
		}
		return nil
	})
}

// hostGateway makes the routes that Spec asks for.
func hostGateway(to Node) routeMaker {
	return func(h *netlink.Handle, f family) (*netlink.Route, error) {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return nil, fmt.Errorf("find eth0: %w", err)
		}
		return routeVia(eth0, to.PodCIDRs[f], to.Addresses[f]), nil
	}
}

func missingRoute(_ context.Context, l *Lab) error {
	return l.replaceRoutes(l.clientNode(), l.farNode(), func(*netlink.Handle, family) (*netlink.Route, error) { return nil, nil })
}

func blackholeRoute(_ context.Context, l *Lab) error {
	to := l.farNode()
	return l.replaceRoutes(l.clientNode(), to, func(_ *netlink.Handle, f family) (*netlink.Route, error) {
		return &netlink.Route{Dst: ipNet(to.PodCIDRs[f]), Type: unix.RTN_BLACKHOLE}, nil
	})
}

func wrongGateway(_ context.Context, l *Lab) error {
	to := l.farNode()
	to.Addresses = l.Spec.Fabric.Unowned
	return l.replaceRoutes(l.clientNode(), to, hostGateway(to))
}

func restoreRoute(_ context.Context, l *Lab) error {
	return l.replaceRoutes(l.clientNode(), l.farNode(), hostGateway(l.farNode()))
}

// mtuOnTheWay is the least that IPv6 may have, with some room.
const mtuOnTheWay = 1400

func icmpDrop(f family) []string {
	if f == ipv4 {
		return []string{"OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP"}
	}
	return []string{"OUTPUT", "-p", "icmpv6", "--icmpv6-type", "packet-too-big", "-j", "DROP"}
}

func mtuBlackHole(ctx context.Context, l *Lab) error {
	for _, f := range []family{ipv4, ipv6} {
		if err := l.insertRule(ctx, l.clientNode(), f, icmpDrop(f)...); err != nil {
			return err
		}
	}
	return l.setMTU(mtuOnTheWay)
}

func undoMTUBlackHole(ctx context.Context, l *Lab) error {
	for _, f := range []family{ipv4, ipv6} {
		if err := l.deleteRule(ctx, l.clientNode(), f, icmpDrop(f)...); err != nil {
			return err
		}
	}
	return l.setMTU(l.Spec.MTU)
}

func (l *Lab) setMTU(mtu int) error {
	return l.onLink(l.clientNode().Name, "eth0", func(h *netlink.Handle, eth0 netlink.Link) error {
		if err := h.LinkSetMTU(eth0, mtu); err != nil {
			return fmt.Errorf("set the MTU of eth0: %w", err)
		}
		return nil
	})
}

// throughEth1 makes the far node's routes to the client's pods leave by a second interface. The IPv4 gateway is on the
// fabric, to which only eth0 has a prefix: onlink says that eth1 leads there too. IPv6 refuses that, and takes the
// gateway's link-local address, which is of no interface in particular.
func (l *Lab) throughEth1(h *netlink.Handle, f family) (*netlink.Route, error) {
	to := l.clientNode()
	eth1, err := h.LinkByName("eth1")
	if err != nil {
		return nil, fmt.Errorf("find eth1: %w", err)
	}
	if f == ipv6 {
		gw, err := l.linkLocal(to, "eth0")
		if err != nil {
			return nil, err
		}
		return routeVia(eth1, to.PodCIDRs[f], gw), nil
	}
	r := routeVia(eth1, to.PodCIDRs[f], to.Addresses[f])
	r.Flags = int(netlink.FLAG_ONLINK)
	return r, nil
}

func (l *Lab) linkLocal(n Node, dev string) (found netip.Addr, err error) {
	err = l.onLink(n.Name, dev, func(h *netlink.Handle, link netlink.Link) error {
		addrs, err := netlinklist.Whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V6) })
		if err != nil {
			return fmt.Errorf("list addresses of %s: %w", dev, err)
		}
		for _, a := range addrs {
			if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.IsLinkLocalUnicast() {
				found = addr
				return nil
			}
		}
		return fmt.Errorf("%s has no link-local address", dev)
	})
	return found, err
}

func reversePathFilter(_ context.Context, l *Lab) error {
	node := l.farNode()
	name := l.nodeNetns(node.Name)
	// The address is alone in its prefix: a second route to the fabric itself would be another fault.
	var addrs []netip.Prefix
	for _, a := range node.SecondAddresses {
		addrs = append(addrs, netip.PrefixFrom(a, a.BitLen()))
	}
	if err := l.plugIntoFabric(node, "eth1", node.Name+"-1", addrs); err != nil {
		return err
	}
	// Without arp_ignore eth1 would answer for eth0's address too, and requests might come in by either.
	if err := setSysctls(name, setting{"net/ipv4/conf/eth1/arp_ignore", "1"}, setting{"net/ipv4/conf/eth0/rp_filter", "1"}); err != nil {
		return err
	}
	if err := setSysctls(name, quickNeighbours("eth1")...); err != nil {
		return err
	}
	return l.replaceRoutes(node, l.clientNode(), l.throughEth1)
}

func undoReversePathFilter(_ context.Context, l *Lab) error {
	node := l.farNode()
	err := withLinks(l.nodeNetns(node.Name), func(h *netlink.Handle) error {
		eth1, err := h.LinkByName("eth1")
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find eth1: %w", err)
		}
		if err := h.LinkDel(eth1); err != nil {
			return fmt.Errorf("delete eth1: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.replaceRoutes(node, l.clientNode(), hostGateway(l.clientNode())); err != nil {
		return err
	}
	return setSysctls(l.nodeNetns(node.Name), setting{"net/ipv4/conf/eth0/rp_filter", "0"})
}

func forwarding(value string) func(context.Context, *Lab) error {
	return func(_ context.Context, l *Lab) error {
		return setSysctls(
			l.nodeNetns(l.farNode().Name),
			setting{"net/ipv4/ip_forward", value},
			setting{"net/ipv6/conf/all/forwarding", value},
		)
	}
}

// insertRule puts a rule before all others of its chain, which is the first of args.
func (l *Lab) insertRule(ctx context.Context, n Node, f family, args ...string) error {
	argv := append([]string{l.iptables(f), "-w", "5", "-t", "filter", "-I"}, args...)
	_, err := run(ctx, l.nodeNetns(n.Name), nil, argv...)
	return err
}

// deleteRule removes a rule if it is there.
func (l *Lab) deleteRule(ctx context.Context, n Node, f family, args ...string) error {
	name := l.nodeNetns(n.Name)
	argv := func(op string) []string {
		return append([]string{l.iptables(f), "-w", "5", "-t", "filter", op}, args...)
	}
	if _, err := run(ctx, name, nil, argv("-C")...); err != nil {
		return ctx.Err() // it is not there
	}
	_, err := run(ctx, name, nil, argv("-D")...)
	return err
}

// farRules returns the arguments of one rule for each port of the far backend.
func (l *Lab) farRules(f family, args ...string) [][]string {
	var rules [][]string
	for _, p := range l.far().Ports {
		proto := lowerProtocol(p)
		rule := []string{"FORWARD", "-d", hostPrefix(l.far().Addresses[f]), "-p", proto, "-m", proto, "--dport", fmt.Sprint(p.Port)}
		rules = append(rules, append(rule, args...))
	}
	return rules
}

func (l *Lab) eachFarRule(do func(f family, rule []string) error, args ...string) error {
	for _, f := range []family{ipv4, ipv6} {
		for _, rule := range l.farRules(f, args...) {
			if err := do(f, rule); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Lab) insertFarRules(ctx context.Context, args ...string) error {
	return l.eachFarRule(func(f family, rule []string) error { return l.insertRule(ctx, l.farNode(), f, rule...) }, args...)
}

func (l *Lab) deleteFarRules(ctx context.Context, args ...string) error {
	return l.eachFarRule(func(f family, rule []string) error { return l.deleteRule(ctx, l.farNode(), f, rule...) }, args...)
}

func dropRules(ctx context.Context, l *Lab) error     { return l.insertFarRules(ctx, "-j", "DROP") }
func undoDropRules(ctx context.Context, l *Lab) error { return l.deleteFarRules(ctx, "-j", "DROP") }

// everyFourth drops the last packet of each four that meet the rule: the kernel counts, nothing is left to chance, and
// the first SYN gets through.
func everyFourth() []string {
	return []string{"-m", "statistic", "--mode", "nth", "--every", "4", "--packet", "3", "-j", "DROP"}
}

func packetLoss(ctx context.Context, l *Lab) error {
	return l.insertFarRules(ctx, everyFourth()...)
}

func undoPacketLoss(ctx context.Context, l *Lab) error {
	return l.deleteFarRules(ctx, everyFourth()...)
}

// nftDrop stands beside iptables, in a table that iptables-save does not show, at a priority before its filter table.
func nftDrop(ctx context.Context, l *Lab) error {
	text := "table inet lab {\n\tchain forward {\n\t\ttype filter hook forward priority -10; policy accept;\n"
	for f, keyword := range []string{"ip", "ip6"} {
		for _, p := range l.far().Ports {
			text += fmt.Sprintf("\t\t%s daddr %s %s dport %d counter drop\n", keyword, l.far().Addresses[f], lowerProtocol(p), p.Port)
		}
	}
	text += "\t}\n}\n"
	_, err := run(ctx, l.nodeNetns(l.farNode().Name), []byte(text), "nft", "-f", "-")
	return err
}

func undoNftDrop(ctx context.Context, l *Lab) error {
	// Declaring the table first makes deleting it succeed whether it is there or not.
	_, err := run(ctx, l.nodeNetns(l.farNode().Name), []byte("table inet lab\ndelete table inet lab\n"), "nft", "-f", "-")
	return err
}

func (l *Lab) policyFile() string {
	return filepath.Join(l.ClusterDir(), "networkpolicies.yaml")
}

// isolated returns the pods that denyPolicy selects.
func (l *Lab) isolated() []Pod {
	return l.Spec.selected(l.far().Namespace, l.far().Labels)
}

// networkPolicy writes the policy and, on the nodes of the pods that it selects, rules as a policy engine does: one
// chain dispatches by pod, one a pod accepts replies and its own node, one a policy marks what it allows, and what is
// left without the mark is dropped.
func networkPolicy(ctx context.Context, l *Lab) error {
	if err := writeYAML(l.policyFile(), []any{denyPolicy(l.Spec)}); err != nil {
		return err
	}
	for _, n := range l.Spec.Nodes {
		for _, f := range []family{ipv4, ipv6} {
			rules := l.policyRules(n, f)
			if rules == nil {
				continue
			}
			if _, err := run(ctx, l.nodeNetns(n.Name), rules, l.iptables(f)+"-restore", "-w", "5", "--noflush"); err != nil {
				return err
			}
			if err := l.insertRule(ctx, n, f, policyJump()...); err != nil {
				return err
			}
		}
	}
	return nil
}

func undoNetworkPolicy(ctx context.Context, l *Lab) error {
	for _, n := range l.Spec.Nodes {
		for _, f := range []family{ipv4, ipv6} {
			rules := l.policyRules(n, f)
			if rules == nil {
				continue
			}
			if err := l.deleteRule(ctx, n, f, policyJump()...); err != nil {
				return err
			}
			if _, err := run(ctx, l.nodeNetns(n.Name), l.dropPolicyChains(n), l.iptables(f)+"-restore", "-w", "5", "--noflush"); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(l.policyFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove policy: %w", err)
	}
	return nil
}

func linkDown(_ context.Context, l *Lab) error {
	return l.setFarLink((*netlink.Handle).LinkSetDown)
}

func linkUp(_ context.Context, l *Lab) error {
	return l.setFarLink((*netlink.Handle).LinkSetUp)
}

// setFarLink sets the node's end of the far backend's wire up or down, and makes the node forget who is there. It would
// remember the pod's hardware address for some seconds, and send into the void; then it asks again, and nobody answers.
// The lab begins where that ends.
func (l *Lab) setFarLink(set func(*netlink.Handle, netlink.Link) error) error {
	far := l.far()
	return l.onLink(far.Node, hostVeth(far), func(h *netlink.Handle, link netlink.Link) error {
		if err := set(h, link); err != nil {
			return fmt.Errorf("set %s up or down: %w", hostVeth(far), err)
		}
		cni, err := h.LinkByName("cni0")
		if err != nil {
			return fmt.Errorf("find cni0: %w", err)
		}
		for _, a := range far.Addresses {
			err := h.NeighDel(&netlink.Neigh{LinkIndex: cni.Attrs().Index, IP: a.AsSlice()})
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("forget neighbour %s: %w", a, err)
			}
		}
		return nil
	})
}

func stopFar(_ context.Context, l *Lab) error  { return l.stopListeners(l.far().ID()) }
func stopNear(_ context.Context, l *Lab) error { return l.stopListeners(l.near().ID()) }

func loopbackFar(ctx context.Context, l *Lab) error { return l.restartListener(ctx, l.far(), true) }
func restartFar(ctx context.Context, l *Lab) error  { return l.restartListener(ctx, l.far(), false) }

func restartNear(ctx context.Context, l *Lab) error { return l.restartListener(ctx, l.near(), false) }

func (l *Lab) restartListener(ctx context.Context, p Pod, loopback bool) error {
	if err := l.stopListeners(p.ID()); err != nil {
		return err
	}
	return l.startListener(ctx, p, loopback)
}
