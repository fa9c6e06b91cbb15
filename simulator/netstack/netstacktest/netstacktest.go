// Package netstacktest has small networks for tests.
package netstacktest

import (
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Up are the flags of a link that sends.
const Up = netstack.FlagUp | netstack.FlagLowerUp

// TwoNodes has a bridge with two pods on each of two nodes, whose uplinks share
// a subnet.
func TwoNodes() []*netstack.Namespace {
	node := func(name, address string) *netstack.Namespace {
		return &netstack.Namespace{
			Name:  name,
			NSIDs: map[int]string{0: name + "-a", 1: name + "-b"},
			Links: []netstack.Link{
				{Index: 1, Name: "lo", Kind: "loopback", Flags: Up | netstack.FlagLoopback, PeerNSID: netstack.NoPeerNS},
				{Index: 2, Name: "eth0", Flags: Up, PeerNSID: netstack.NoPeerNS},
				{Index: 3, Name: "cni0", Kind: "bridge", Flags: Up, PeerNSID: netstack.NoPeerNS},
				{Index: 4, Name: "veth-a", Kind: "veth", Flags: Up, Master: "cni0", Peer: 2, PeerNSID: 0, Port: &netstack.BridgePort{State: netstack.BRStateForwarding}},
				{Index: 5, Name: "veth-b", Kind: "veth", Flags: Up, Master: "cni0", Peer: 2, PeerNSID: 1, Port: &netstack.BridgePort{State: netstack.BRStateForwarding}},
			},
			Addresses: []netstack.Address{{Dev: "eth0", Prefix: netip.MustParsePrefix(address)}},
		}
	}
	pod := func(name, node string, peer int) *netstack.Namespace {
		return &netstack.Namespace{
			Name:  name,
			NSIDs: map[int]string{0: node},
			Links: []netstack.Link{{Index: 2, Name: "eth0", Kind: "veth", Flags: Up, Peer: peer, PeerNSID: 0}},
		}
	}
	return []*netstack.Namespace{
		node("n1", "172.30.0.1/24"), pod("n1-a", "n1", 4), pod("n1-b", "n1", 5),
		node("n2", "172.30.0.2/24"), pod("n2-a", "n2", 4), pod("n2-b", "n2", 5),
	}
}

// Find finds a link by the names of its namespace and its own; the test ends if there is none.
func Find(t testing.TB, list []*netstack.Namespace, ns, dev string) (*netstack.Namespace, *netstack.Link) {
	t.Helper()
	for _, n := range list {
		for i := range n.Links {
			if n.Name == ns && n.Links[i].Name == dev {
				return n, &n.Links[i]
			}
		}
	}
	t.Fatalf("no %s in %s", dev, ns)
	return nil, nil
}
