package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Up builds a lab and returns when its listeners serve. If it fails, or ctx ends, it takes down what it has built.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := preflight(opts.Spec.IPTables); err != nil {
		return nil, err
	}
	l := &Lab{Prefix: opts.Prefix, Spec: opts.Spec, dir: filepath.Join(stateRoot, opts.Prefix), opts: opts}
	l.state = &state{Spec: opts.Spec}
	if err := l.claim(); err != nil {
		return nil, err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, step := range l.steps() {
		err := ctx.Err()
		if err == nil {
			err = opts.step(step.name)
		}
		if err == nil {
			err = step.run(ctx)
		}
		if errors.Is(err, errCrash) {
			return nil, err
		}
		if err != nil {
			err = fmt.Errorf("lab %q: %s: %w", l.Prefix, step.name, err)
			return nil, errors.Join(err, l.tearDown(context.WithoutCancel(ctx)))
		}
	}
	return l, nil
}

// errCrash makes Up stop where it stands, as a killed process does. Tests only.
var errCrash = errors.New("crash")

// claim makes the state directory, which is what says that the prefix is taken.
func (l *Lab) claim() error {
	exists := fmt.Errorf("lab %q: %w: run \"plumbline lab down\" first", l.Prefix, ErrExists)
	for _, name := range l.netnsNames() {
		if netnsExists(name) {
			return exists
		}
	}
	for {
		if err := os.MkdirAll(filepath.Dir(l.dir), 0o755); err != nil {
			return fmt.Errorf("lab %q: %w", l.Prefix, err)
		}
		switch err := os.Mkdir(l.dir, 0o755); {
		case errors.Is(err, fs.ErrExist):
			return exists
		case errors.Is(err, fs.ErrNotExist): // the last other lab went just now, and took the parent with it
		case err != nil:
			return fmt.Errorf("lab %q: %w", l.Prefix, err)
		default:
			return nil
		}
	}
}

type step struct {
	name string
	run  func(context.Context) error
}

func (l *Lab) steps() []step {
	steps := []step{
		{"record the state", func(context.Context) error { return l.state.write(l.dir) }},
		{"make the fabric", l.makeFabric},
	}
	for _, n := range l.Spec.Nodes {
		steps = append(steps, step{"make " + n.Name, func(ctx context.Context) error { return l.makeNode(ctx, n) }})
	}
	for _, p := range l.Spec.Pods {
		steps = append(steps, step{"make " + p.ID(), func(ctx context.Context) error { return l.makePod(ctx, p) }})
	}
	steps = append(
		steps,
		step{"write the Service rules", l.writeRules},
		step{"write the manifests", func(context.Context) error { return writeManifests(l.Spec, l.ClusterDir()) }},
	)
	for _, p := range l.Spec.Pods {
		steps = append(steps, step{"listen in " + p.ID(), func(ctx context.Context) error {
			if len(p.Ports) == 0 {
				return nil
			}
			return l.startListener(ctx, p, false)
		}})
	}
	return append(steps, step{"record that it is up", func(context.Context) error {
		l.state.Up = true
		return l.state.write(l.dir)
	}})
}

// makeNetns makes a namespace whose addresses are usable at once: duplicate address detection would make each wait
// for a second, and there are no duplicates here. It sends every ICMP error that it has: the kernel's limit of a few a
// second for each peer would turn some refusals into silence when connections are made one after the other.
func makeNetns(ctx context.Context, name string) error {
	if _, err := run(ctx, "", nil, "ip", "netns", "add", name); err != nil {
		return err
	}
	err := setSysctls(
		name,
		setting{"net/ipv6/conf/all/accept_dad", "0"},
		setting{"net/ipv6/conf/default/accept_dad", "0"},
		// Not icmp_ratelimit: 0 there empties the bucket that ip_error draws on for routes of a rejecting type.
		setting{"net/ipv4/icmp_ratemask", "0"},
		setting{"net/ipv6/icmp/ratelimit", "0"},
		setting{"net/ipv4/conf/all/rp_filter", "0"},
		setting{"net/ipv4/conf/default/rp_filter", "0"},
	)
	if err != nil {
		return err
	}
	return withLinks(name, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return h.LinkSetUp(lo)
	})
}

// mac gives an interface the address that bridge plugins of CNI derive from its IPv4 address. A bridge without one of
// its own takes that of its lowest port and changes it when pods come, which neighbours then have to learn again.
func mac(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func (l *Lab) makeFabric(ctx context.Context) error {
	name := l.fabricNetns()
	if err := makeNetns(ctx, name); err != nil {
		return err
	}
	err := setSysctls(
		name,
		setting{"net/ipv4/ip_forward", "0"},
		setting{"net/ipv6/conf/all/forwarding", "0"},
		setting{"net/bridge/bridge-nf-call-iptables", "0"},
		setting{"net/bridge/bridge-nf-call-ip6tables", "0"},
	)
	if err != nil {
		return err
	}
	return withLinks(name, func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "fabric0", MTU: l.Spec.MTU, HardwareAddr: mac(l.Spec.Fabric.Addresses[0].Addr())}}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("add fabric0: %w", err)
		}
		return bringUp(h, br, l.Spec.Fabric.Addresses)
	})
}

func (l *Lab) makeNode(ctx context.Context, n Node) error {
	name := l.nodeNetns(n.Name)
	if err := makeNetns(ctx, name); err != nil {
		return err
	}
	if err := l.plugIntoFabric(n, "eth0", n.Name, l.onFabric(n.Addresses)); err != nil {
		return err
	}
	err := withLinks(name, func(h *netlink.Handle) error {
		gw := gateways(n)
		cni := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0", MTU: l.Spec.MTU, HardwareAddr: mac(gw[0])}}
		if err := h.LinkAdd(cni); err != nil {
			return fmt.Errorf("add cni0: %w", err)
		}
		if err := bringUp(h, cni, []netip.Prefix{netip.PrefixFrom(gw[0], n.PodCIDRs[0].Bits()), netip.PrefixFrom(gw[1], n.PodCIDRs[1].Bits())}); err != nil {
			return err
		}
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		for f := range n.Addresses {
			routes := []*netlink.Route{routeVia(eth0, netip.Prefix{}, l.Spec.Fabric.Addresses[f].Addr())}
			for _, other := range l.Spec.Nodes {
				if other.Name != n.Name {
					routes = append(routes, routeVia(eth0, other.PodCIDRs[f], other.Addresses[f]))
				}
			}
			for _, r := range routes {
				if err := h.RouteAdd(r); err != nil {
					return fmt.Errorf("add route %s: %w", r, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return setSysctls(name, append(
		[]setting{
			{"net/ipv4/ip_forward", "1"},
			{"net/ipv6/conf/all/forwarding", "1"},
			{"net/bridge/bridge-nf-call-iptables", "1"},
			{"net/bridge/bridge-nf-call-ip6tables", "1"},
		},
		append(quickNeighbours("eth0"), quickNeighbours("cni0")...)...,
	)...)
}

// quickNeighbours makes resolution of a neighbour that does not answer give up after 0.3 s instead of 3 s. What comes
// of it is the same; it comes before a client of the lab has lost patience.
func quickNeighbours(dev string) []setting {
	return []setting{
		{"net/ipv4/neigh/" + dev + "/retrans_time_ms", "100"},
		{"net/ipv6/neigh/" + dev + "/retrans_time_ms", "100"},
	}
}

// plugIntoFabric lays a wire from a node's interface dev to a port of the fabric's bridge.
func (l *Lab) plugIntoFabric(n Node, dev, port string, addrs []netip.Prefix) error {
	err := l.wire(l.nodeNetns(n.Name), l.fabricNetns(), dev, port, "fabric0", mac(addrs[0].Addr()))
	if err != nil {
		return err
	}
	return withLinks(l.nodeNetns(n.Name), func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("find %s: %w", dev, err)
		}
		return bringUp(h, link, addrs)
	})
}

// wire adds a veth pair between two namespaces and makes its far end a port of a bridge there.
func (l *Lab) wire(near, far, dev, port, bridge string, hw net.HardwareAddr) error {
	err := InNetns(far, func() error {
		return withLinks(near, func(h *netlink.Handle) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.MTU, attrs.HardwareAddr = dev, l.Spec.MTU, hw
			fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open network namespace %s: %w", far, err)
			}
			defer unix.Close(fd)
			if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerNamespace: netlink.NsFd(fd), PeerMTU: uint32(l.Spec.MTU)}); err != nil {
				return fmt.Errorf("add %s: %w", dev, err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return withLinks(far, func(h *netlink.Handle) error {
		link, err := h.LinkByName(port)
		if err != nil {
			return fmt.Errorf("find %s: %w", port, err)
		}
		br, err := h.LinkByName(bridge)
		if err != nil {
			return fmt.Errorf("find %s: %w", bridge, err)
		}
		if err := h.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("make %s a port of %s: %w", port, bridge, err)
		}
		return h.LinkSetUp(link)
	})
}

func (l *Lab) makePod(ctx context.Context, p Pod) error {
	name, node := l.podNetns(p), l.Spec.node(p.Node)
	if err := makeNetns(ctx, name); err != nil {
		return err
	}
	if err := l.wire(name, l.nodeNetns(p.Node), "eth0", hostVeth(p), "cni0", mac(p.Addresses[0])); err != nil {
		return err
	}
	err := withLinks(l.nodeNetns(p.Node), func(h *netlink.Handle) error {
		link, err := h.LinkByName(hostVeth(p))
		if err != nil {
			return fmt.Errorf("find %s: %w", hostVeth(p), err)
		}
		// A pod may reach itself through its Service only if its frames may leave by the port that they came in by.
		if err := h.LinkSetHairpin(link, true); err != nil {
			return fmt.Errorf("set hairpin on %s: %w", hostVeth(p), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return withLinks(name, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		var addrs []netip.Prefix
		for f, a := range p.Addresses {
			addrs = append(addrs, netip.PrefixFrom(a, node.PodCIDRs[f].Bits()))
		}
		if err := bringUp(h, eth0, addrs); err != nil {
			return err
		}
		for f := range p.Addresses {
			r := routeVia(eth0, netip.Prefix{}, gateways(node)[f])
			if err := h.RouteAdd(r); err != nil {
				return fmt.Errorf("add route %s: %w", r, err)
			}
		}
		return nil
	})
}

func (l *Lab) onFabric(addrs []netip.Addr) []netip.Prefix {
	var ps []netip.Prefix
	for f, a := range addrs {
		ps = append(ps, netip.PrefixFrom(a, l.Spec.Fabric.Addresses[f].Bits()))
	}
	return ps
}

func bringUp(h *netlink.Handle, link netlink.Link, addrs []netip.Prefix) error {
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
	}
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", p, link.Attrs().Name, err)
		}
	}
	return nil
}

// routeVia is a route through a gateway; the zero prefix means the default route.
func routeVia(link netlink.Link, dst netip.Prefix, gw netip.Addr) *netlink.Route {
	if !dst.IsValid() {
		dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(dst), Gw: gw.AsSlice()}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (l *Lab) writeRules(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range l.Spec.Nodes {
		for _, f := range []family{ipv4, ipv6} {
			g.Go(func() error {
				_, err := run(ctx, l.nodeNetns(n.Name), proxyRules(l.Spec, f), l.iptables(f)+"-restore", "-w", "5", "--noflush")
				return err
			})
		}
	}
	return g.Wait()
}

// iptables is the name of the program that a family's rules are written with.
func (l *Lab) iptables(f family) string {
	return [...]string{"iptables-", "ip6tables-"}[f] + l.Spec.IPTables
}
