package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// netnsDir is where ip-netns(8) keeps the names of network namespaces.
const netnsDir = "/run/netns"

// The addresses of a cluster. Each cluster has the same ones: nothing of them is
// seen outside of its namespaces. Those of nodes are public: what leaves a cluster
// with a private source needs a translation that no node has.
const (
	controlAddress = "192.0.2.10"
	// podRange4 and podRange6 are cut into one range for each node.
	podRange4, podRange6         = "10.244.0.0/16", "fd00:244::/48"
	serviceRange4, serviceRange6 = "10.96.0.0/16", "fd00:96::/112"
	outside4, outside6           = "203.0.113.10", "2001:db8:113::10"
	// loadBalancers4 and loadBalancers6 are addresses that the router sends to node-1.
	loadBalancers4, loadBalancers6 = "198.51.100.0/24", "2001:db8:51::/64"
)

// node is a node of the cluster.
type node struct {
	name  string
	addrs [2]netip.Addr   // IPv4 and IPv6
	pods  [2]netip.Prefix // set when the API has given them
	mtu   int             // of pods
}

func newNode(number int) node {
	return node{name: fmt.Sprintf("node-%d", number), mtu: 1500, addrs: [2]netip.Addr{
		netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + number)}),
		netip.MustParseAddr(fmt.Sprintf("2001:db8:30::%d", 10+number)),
	}}
}

// makeNetworks makes all namespaces but those of pods, and joins them.
func (c *Cluster) makeNetworks(ctx context.Context) error {
	places := []string{"router", "outside", "control"}
	for _, n := range c.nodes {
		places = append(places, n.name)
	}
	for _, p := range places {
		if err := makeNetns(ctx, c.Netns(p)); err != nil {
			return err
		}
	}
	hosts := []node{{name: "control", addrs: [2]netip.Addr{netip.MustParseAddr(controlAddress), netip.MustParseAddr("2001:db8:30::10")}}}
	hosts = append(hosts, c.nodes...)
	err := c.batch(ctx, "router", `
		link add nodes type bridge
		link set nodes address 0a:58:c0:00:02:01 up
		address add 192.0.2.1/24 dev nodes
		address add 2001:db8:30::1/64 dev nodes nodad
		link add outside type veth peer name eth0 netns `+c.Netns("outside")+`
		link set outside up
		address add 203.0.113.1/24 dev outside
		address add 2001:db8:113::1/64 dev outside nodad
		route add blackhole default
		route add blackhole ::/0
		route add `+loadBalancers4+` via 192.0.2.11
		route add `+loadBalancers6+` via 2001:db8:30::11`)
	if err != nil {
		return err
	}
	err = c.batch(ctx, "outside", `
		link set eth0 up
		address add `+outside4+`/24 dev eth0
		address add `+outside6+`/64 dev eth0 nodad
		route add default via 203.0.113.1
		route add default via 2001:db8:113::1`)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if err := c.batch(ctx, "router", `
			link add `+h.name+` type veth peer name eth0 netns `+c.Netns(h.name)+`
			link set `+h.name+` master nodes up`); err != nil {
			return err
		}
		if err := c.batch(ctx, h.name, `
			link set eth0 up
			address add `+h.addrs[0].String()+`/24 dev eth0
			address add `+h.addrs[1].String()+`/64 dev eth0 nodad
			route add default via 192.0.2.1
			route add default via 2001:db8:30::1`); err != nil {
			return err
		}
	}
	// The router's bridge is a switch: rules do not see what it forwards.
	err = errors.Join(
		sysctl(c.Netns("router"), "net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1", "net/bridge/bridge-nf-call-iptables=0", "net/bridge/bridge-nf-call-ip6tables=0"),
		c.serveOutside())
	for _, n := range c.nodes {
		err = errors.Join(err, sysctl(c.Netns(n.name), "net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
			"net/bridge/bridge-nf-call-iptables=1", "net/bridge/bridge-nf-call-ip6tables=1"), quickNeighbours(c.Netns(n.name)))
	}
	return err
}

// serveOutside opens the sockets that answer outside.
func (c *Cluster) serveOutside() error {
	sockets, err := listen(c.Netns("outside"), "outside", []string{"tcp/443", "udp/53"})
	c.sockets = append(c.sockets, sockets...)
	return err
}

// routePods makes each node route to the pods of the others, and translate the
// sources of pods that speak to others, by the rules of iptables that flannel writes.
func (c *Cluster) routePods(ctx context.Context) error {
	for _, n := range c.nodes {
		var routes strings.Builder
		for _, other := range c.nodes {
			if other.name != n.name {
				fmt.Fprintf(&routes, "route add %s via %s\nroute add %s via %s\n", other.pods[0], other.addrs[0], other.pods[1], other.addrs[1])
			}
		}
		if err := c.batch(ctx, n.name, routes.String()); err != nil {
			return err
		}
		for version, tool := range []string{"iptables", "ip6tables"} {
			all := [...]string{podRange4, podRange6}[version]
			multicast := [...]string{"224.0.0.0/4", "ff00::/8"}[version]
			for _, rule := range []string{
				"-s " + all + " -d " + all + " -j RETURN",
				"-s " + all + " ! -d " + multicast + " -j MASQUERADE --random-fully",
				"! -s " + all + " -d " + n.pods[version].String() + " -j RETURN",
				"! -s " + all + " -d " + all + " -j MASQUERADE --random-fully",
			} {
				argv := append([]string{tool, "-w", "-t", "nat", "-A", "POSTROUTING"}, strings.Fields(rule)...)
				if _, err := c.Run(ctx, n.name, argv...); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// batch runs commands of ip(8), one a line.
func (c *Cluster) batch(ctx context.Context, place, commands string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(commands+"\n"), &complaint
	if err := lab.InNetns(c.Netns(place), cmd.Run); err != nil {
		return fmt.Errorf("ip in %s: %w: %s", place, err, complaint.Bytes())
	}
	return nil
}

// makeNetns makes a namespace in which addresses can be used at once, and in
// which each ICMP error is sent: see the lab's, which does the same.
func makeNetns(ctx context.Context, name string) error {
	if err := lab.NewNetns(name); err != nil {
		return err
	}
	if err := sysctl(
		name,
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv4/icmp_ratemask=0", "net/ipv6/icmp/ratelimit=0",
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
	); err != nil {
		return err
	}
	_, err := runIn(ctx, name, "ip", "link", "set", "lo", "up")
	return err
}

// quickNeighbours makes all interfaces of a namespace give up on a neighbour
// that does not answer after 0.3 s instead of 3 s, as in the lab: before a
// client has lost its patience.
func quickNeighbours(netns string) error {
	return lab.InNetns(netns, func() error {
		files, err := filepath.Glob("/proc/sys/net/ipv[46]/neigh/*/retrans_time_ms")
		for _, f := range files {
			if e := os.WriteFile(f, []byte("100"), 0); !errors.Is(e, os.ErrNotExist) { // an interface that has gone
				err = errors.Join(err, e)
			}
		}
		return err
	})
}

// removeNetworks removes the namespaces whose names begin with a prefix.
func removeNetworks(prefix string) error {
	names, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, lab.RemoveNetns(filepath.Base(n)))
	}
	return errors.Join(errs...)
}

// sysctl writes settings, PATH=VALUE below /proc/sys.
func sysctl(netns string, settings ...string) error {
	return lab.InNetns(netns, func() error {
		for _, s := range settings {
			path, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
				return fmt.Errorf("%s: %w", netns, err)
			}
		}
		return nil
	})
}

// runIn executes a program in a network namespace and returns what it prints.
func runIn(ctx context.Context, netns string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := lab.InNetns(netns, cmd.Run); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %s: %w: %s", netns, strings.Join(argv, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), nil
}

// listen opens sockets in a namespace, PROTOCOL/PORT each, that answer as the
// lab's do and give their name.
func listen(netns, name string, ports []string) (sockets []io.Closer, err error) {
	err = lab.InNetns(netns, func() error {
		for _, p := range ports {
			protocol, port, _ := strings.Cut(p, "/")
			switch protocol {
			case "tcp":
				l, err := net.Listen("tcp", ":"+port)
				if err != nil {
					return err
				}
				sockets = append(sockets, l)
				go lab.ServeTCP(l, name)
			case "udp":
				// One for each version: the other's addresses are no trouble then.
				for _, network := range []string{"udp4", "udp6"} {
					s, err := net.ListenPacket(network, ":"+port)
					if err != nil {
						return err
					}
					sockets = append(sockets, s)
					go lab.ServeUDP(s, name)
				}
			case "sctp":
				number, err := strconv.ParseUint(port, 10, 16)
				if err != nil {
					return err
				}
				for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
					s, err := lab.ListenSCTP(family)
					if err != nil {
						return err
					}
					s.Name, s.Accepts = name, func(at netip.AddrPort) bool { return at.Port() == uint16(number) }
					sockets = append(sockets, s)
					go s.Serve()
				}
			default:
				return fmt.Errorf("listen as %s: %q is none of tcp/PORT, udp/PORT, sctp/PORT", name, p)
			}
		}
		return nil
	})
	return sockets, err
}
