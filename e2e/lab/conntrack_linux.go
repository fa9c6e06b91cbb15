package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// Backend says where a node's conntrack sends a connection: the address and port that answer it, by the client's own
// end as Fate.Local has it. It reports false if there is no entry: a packet that is dropped on its way through the node
// leaves none, and a refused connection takes its own away. ServiceHits knows of those too.
func (l *Lab) Backend(ctx context.Context, node, proto string, client netip.AddrPort) (netip.AddrPort, bool, error) {
	name, err := l.Netns(NodeEndpoint(node))
	if err != nil {
		return netip.AddrPort{}, false, err
	}
	number, ok := map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[proto]
	if !ok {
		return netip.AddrPort{}, false, fmt.Errorf("conntrack of %s: protocol %q is neither tcp nor udp", node, proto)
	}
	netlinkFamily := netlink.InetFamily(unix.AF_INET)
	if client.Addr().Is6() {
		netlinkFamily = unix.AF_INET6
	}
	var backend netip.AddrPort
	err = withLinks(name, func(h *netlink.Handle) error {
		flows, err := netlinklist.Whole(func() ([]*netlink.ConntrackFlow, error) {
			return h.ConntrackTableList(netlink.ConntrackTable, netlinkFamily)
		})
		if err != nil {
			return fmt.Errorf("read conntrack: %w", err)
		}
		for _, f := range flows {
			if f.Forward.Protocol == number && f.Forward.SrcPort == client.Port() && f.Forward.SrcIP.Equal(net.IP(client.Addr().AsSlice())) {
				if addr, ok := netip.AddrFromSlice(f.Reverse.SrcIP); ok {
					backend = netip.AddrPortFrom(addr.Unmap(), f.Reverse.SrcPort)
				}
			}
		}
		return ctx.Err()
	}, unix.NETLINK_NETFILTER)
	return backend, backend.IsValid(), err
}

// destinationNAT matches a rule with counters in the output of iptables-save -c that translates a destination.
var destinationNAT = regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A KUBE-SEP-\S+ .* -j DNAT --to-destination (\S+)$`)

// ServiceHits counts, for each backend, the connections that a node's Service rules have given it. Two readings around
// one connection tell which backend it was given, whatever became of it then.
func (l *Lab) ServiceHits(ctx context.Context, node string, wantIPv6 bool) (map[netip.AddrPort]uint64, error) {
	f := ipv4
	if wantIPv6 {
		f = ipv6
	}
	out, err := l.Output(ctx, NodeEndpoint(node), l.iptables(f)+"-save", "-c", "-t", "nat")
	if err != nil {
		return nil, err
	}
	hits := map[netip.AddrPort]uint64{}
	for _, m := range destinationNAT.FindAllSubmatch(bytes.TrimSpace(out), -1) {
		n, errCount := strconv.ParseUint(string(m[1]), 10, 64)
		addr, errAddr := netip.ParseAddrPort(string(m[2]))
		if errCount != nil || errAddr != nil {
			return nil, fmt.Errorf("rules of %s: %q is not understood", node, m[0])
		}
		hits[addr] += n
	}
	return hits, nil
}
