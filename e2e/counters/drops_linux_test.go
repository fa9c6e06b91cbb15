package counters

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/internal/probetest"
)

// drop is a series of plumbline_kernel_drops_total, and the place whose daemon exports it.
type drop struct {
	place    string
	reason   string
	protocol string
	pod      string // empty: the place itself
}

// udp is a dropped datagram that counts for a place itself.
func udp(place, reason string) []drop { return []drop{{place, reason, "udp", ""}} }

// udpOf is one that counts for a pod.
func udpOf(place, reason, pod string) []drop { return []drop{{place, reason, "udp", pod}} }

// readDrops reads the drops that the tests cause: nothing else in the lab sends UDP or meets a rule that drops.
// Others, such as those of neighbour discovery, come and go.
func readDrops(ctx context.Context, ds daemons) (counts[drop], error) {
	return scrape(ctx, ds, "plumbline_kernel_drops_total", func(place string, labels map[string]string) (drop, bool) {
		d := drop{place, labels["reason"], labels["protocol"], podOf(labels)}
		return d, d.protocol == "udp" || d.reason == "NETFILTER_DROP"
	})
}

// expectation says what becomes of a datagram from the client under a fault.
type expectation struct {
	fault string // empty: none
	near  bool   // sent to the near pod instead of the far one
	size  int    // bytes of it; a small one by default
	// What is dropped for each datagram; nothing if it arrives.
	ipv4, ipv6 []drop
}

func (e expectation) String() string {
	fault, to := e.fault, "far"
	if fault == "" {
		fault = "no fault"
	}
	if e.near {
		to = "near"
	}
	text := fault + " to the " + to + " pod"
	if e.size > 0 {
		text += fmt.Sprintf(" with %d bytes", e.size)
	}
	return text
}

// onBridges is for the lab as it is. What a node drops between its network interfaces counts for the node: the pods
// hang on a bridge, and that is the interface that the packets arrive by or leave through.
var onBridges = []expectation{
	{},
	{near: true},
	// The default route leads to the fabric, which knows no way either. As a host that does not forward, it blames the
	// address in IPv4 (ip_route_input_slow).
	{fault: "missing-route", ipv4: udp(fabric, "IP_INADDRERRORS"), ipv6: udp(fabric, "IP_INNOROUTES")},
	// Both families drop at a blackhole without naming a reason.
	{fault: "blackhole-route", ipv4: udp("node-1", "NOT_SPECIFIED"), ipv6: udp("node-1", "NOT_SPECIFIED")},
	// Neighbour discovery frees the queue of a failed neighbour without naming a reason.
	{fault: "wrong-gateway", ipv4: udp("node-1", "NEIGH_FAILED"), ipv6: udp("node-1", "NOT_SPECIFIED")},
	// Small ones pass. For each that does not, the error message is dropped, too.
	{fault: "mtu-black-hole"},
	{
		fault: "mtu-black-hole", size: 1440,
		ipv4: append(udp("node-1", "PKT_TOO_BIG"), drop{place: "node-1", reason: "NETFILTER_DROP", protocol: "icmp"}),
		ipv6: append(udp("node-1", "PKT_TOO_BIG"), drop{place: "node-1", reason: "NETFILTER_DROP", protocol: "icmpv6"}),
	},
	// There is no rp_filter for IPv6: the datagrams arrive.
	{fault: "rp-filter", ipv4: udp("node-2", "IP_RPFILTER")},
	// A route is found, but the host may not use it.
	{fault: "forwarding-off", ipv4: udp("node-2", "IP_INADDRERRORS"), ipv6: udp("node-2", "IP_INADDRERRORS")},
	{fault: "drop-rule", ipv4: udp("node-2", "NETFILTER_DROP"), ipv6: udp("node-2", "NETFILTER_DROP")},
	{fault: "nft-drop", ipv4: udp("node-2", "NETFILTER_DROP"), ipv6: udp("node-2", "NETFILTER_DROP")},
	{fault: "network-policy", ipv4: udp("node-2", "NETFILTER_DROP"), ipv6: udp("node-2", "NETFILTER_DROP")},
	// Between two ports of a bridge, the packet still is the port's that it arrived by, and that is the sender's.
	{
		fault: "network-policy", near: true,
		ipv4: udpOf("node-1", "NETFILTER_DROP", "shop/web-0"), ipv6: udpOf("node-1", "NETFILTER_DROP", "shop/web-0"),
	},
	{fault: "link-down", ipv4: udp("node-2", "NEIGH_FAILED"), ipv6: udp("node-2", "NOT_SPECIFIED")},
	{fault: "listener-gone", ipv4: udpOf("node-2", "NO_SOCKET", "shop/api-1"), ipv6: udpOf("node-2", "NO_SOCKET", "shop/api-1")},
	{fault: "listener-loopback", ipv4: udpOf("node-2", "NO_SOCKET", "shop/api-1"), ipv6: udpOf("node-2", "NO_SOCKET", "shop/api-1")},
	{fault: "backend-dead"},
	{fault: "backend-dead", near: true, ipv4: udpOf("node-1", "NO_SOCKET", "shop/api-0"), ipv6: udpOf("node-1", "NO_SOCKET", "shop/api-0")},
}

func TestEachFaultDropsExactlyThePacketsThatMeetIt(t *testing.T) {
	missing := map[string]bool{}
	for _, f := range lab.Faults() {
		missing[f.Name] = !f.Lossy
	}
	for _, e := range onBridges {
		delete(missing, e.fault)
	}
	for name, drops := range missing {
		if drops {
			t.Errorf("nothing is expected of fault %s", name)
		}
	}
	l := startLab(t)
	checkDrops(t, l, startDaemons(t, l), onBridges)
}

// onWires is for pods without a bridge: each at the end of a wire that its node routes to. There the wire names the pod.
var onWires = []expectation{
	{},
	{near: true},
	{fault: "blackhole-route", ipv4: udpOf("node-1", "NOT_SPECIFIED", "shop/web-0"), ipv6: udpOf("node-1", "NOT_SPECIFIED", "shop/web-0")},
	{fault: "wrong-gateway", ipv4: udpOf("node-1", "NEIGH_FAILED", "shop/web-0"), ipv6: udpOf("node-1", "NOT_SPECIFIED", "shop/web-0")},
	// Both the sender and the receiver are known: it is the sender's.
	{
		fault: "network-policy", near: true,
		ipv4: udpOf("node-1", "NETFILTER_DROP", "shop/web-0"), ipv6: udpOf("node-1", "NETFILTER_DROP", "shop/web-0"),
	},
	// At the far node the sender is not known: it is the receiver's.
	{fault: "drop-rule", ipv4: udpOf("node-2", "NETFILTER_DROP", "shop/api-1"), ipv6: udpOf("node-2", "NETFILTER_DROP", "shop/api-1")},
	// The reverse path is checked before there is a route to the receiver.
	{fault: "rp-filter", ipv4: udp("node-2", "IP_RPFILTER")},
	{fault: "listener-gone", ipv4: udpOf("node-2", "NO_SOCKET", "shop/api-1"), ipv6: udpOf("node-2", "NO_SOCKET", "shop/api-1")},
}

func TestWhatANodeDropsCountsForThePodAtTheEndOfTheWire(t *testing.T) {
	l := startLab(t)
	for _, id := range []string{l.Spec.Roles.Client, l.Spec.Roles.Near, l.Spec.Roles.Far} {
		pod, err := l.Spec.Pod(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := routeTo(l, pod); err != nil {
			t.Fatalf("route to %s: %v", id, err)
		}
	}
	checkDrops(t, l, startDaemons(t, l), onWires)
}

// routeTo takes the node's end of a pod's wire off the bridge and routes the pod's addresses to it. The pod's gateway
// is there now: IPv4 answers for any address of the node, IPv6 only for those of the wire itself. Nobody else is, so
// that the pod sends everything to the gateway.
func routeTo(l *lab.Lab, pod lab.Pod) error {
	wire, err := linkIn(l, lab.PodEndpoint(pod.ID()), func(h *netlink.Handle) (netlink.Link, error) {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return nil, err
		}
		routes, err := netlinklist.Whole(func() ([]netlink.Route, error) { return h.RouteList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Gw == nil && r.Dst != nil && r.Dst.IP.IsGlobalUnicast() {
				if err := h.RouteDel(&r); err != nil {
					return nil, fmt.Errorf("delete route %s: %w", r, err)
				}
			}
		}
		return link, nil
	})
	if err != nil {
		return err
	}
	_, err = linkIn(l, lab.NodeEndpoint(pod.Node), func(h *netlink.Handle) (netlink.Link, error) {
		link, err := h.LinkByIndex(wire.Attrs().ParentIndex)
		if err != nil {
			return nil, err
		}
		if err := h.LinkSetNoMaster(link); err != nil {
			return nil, err
		}
		bridge, err := h.LinkByName("cni0")
		if err != nil {
			return nil, err
		}
		gateways, err := netlinklist.Whole(func() ([]netlink.Addr, error) { return h.AddrList(bridge, netlink.FAMILY_V6) })
		if err != nil {
			return nil, err
		}
		for _, gw := range gateways {
			if !gw.IP.IsGlobalUnicast() {
				continue
			}
			own := &netlink.Addr{IPNet: &net.IPNet{IP: gw.IP, Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
			if err := h.AddrAdd(link, own); err != nil {
				return nil, fmt.Errorf("add address %s: %w", own, err)
			}
		}
		for _, a := range pod.Addresses {
			dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}); err != nil {
				return nil, fmt.Errorf("add route %s: %w", dst, err)
			}
		}
		return link, nil
	})
	return err
}

// linkIn runs find with a handle of an endpoint's namespace.
func linkIn(l *lab.Lab, e lab.Endpoint, find func(*netlink.Handle) (netlink.Link, error)) (netlink.Link, error) {
	name, err := l.Netns(e)
	if err != nil {
		return nil, err
	}
	ns, err := netns.GetFromName(name)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return find(h)
}

func checkDrops(t *testing.T, l *lab.Lab, ds daemons, expectations []expectation) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tFAMILY\tPLACE\tPOD\tREASON\tPROTOCOL\tSENT\tCOUNTED")
	for _, e := range expectations {
		target := l.Spec.Roles.Far
		if e.near {
			target = l.Spec.Roles.Near
		}
		pod, err := l.Spec.Pod(target)
		if err != nil {
			t.Fatal(err)
		}
		if e.fault != "" {
			if err := l.Break(t.Context(), e.fault); err != nil {
				t.Fatal(err)
			}
		}
		for family, drops := range [][]drop{e.ipv4, e.ipv6} {
			name := []string{"IPv4", "IPv6"}[family]
			t.Run(e.String()+"/"+name, func(t *testing.T) {
				rise := datagrams(t, l, ds, netip.AddrPortFrom(pod.Addresses[family], port(t, pod, "UDP")), max(e.size, 16), drops)
				for d, n := range rise {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%v\n", e, name, d.place, orDash(d.pod), d.reason, d.protocol, sent, n)
				}
				if len(rise) == 0 {
					fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t%d\t0\n", e, name, sent)
				}
			})
		}
		if e.fault != "" {
			if err := l.Fix(t.Context(), e.fault); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("drops by fault:\n%s", table.String())
}

// datagrams sends them and waits until the counters have risen by want for each, and by nothing else; then it looks
// once more whether they stay there.
func datagrams(t *testing.T, l *lab.Lab, ds daemons, to netip.AddrPort, size int, want []drop) counts[drop] {
	t.Helper()
	rise := counts[drop]{}
	for _, d := range want {
		rise[d] = sent
	}
	probetest.Measure(t, func() error {
		before, err := readDrops(t.Context(), ds)
		if err != nil {
			return err
		}
		conn := send(t, l, to, size)
		if len(want) == 0 {
			receive(t, conn)
		}
		risen := func() error {
			now, err := readDrops(t.Context(), ds)
			if err != nil {
				return err
			}
			got := now.since(before)
			if err := probetest.Compare(got, rise); err != nil {
				return fmt.Errorf("the drops rose by %v, want %v: %w", got, rise, err)
			}
			return nil
		}
		if err := against.Await(t, patience, poll, risen); err != nil {
			return err
		}
		if err := risen(); err != nil {
			return fmt.Errorf("a moment later: %w", err)
		}
		return nil
	})
	return rise
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
