package fabric

import (
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const up = netstack.FlagUp | netstack.FlagLowerUp

// twoNodes has a bridge with two pods on each of two nodes, whose uplinks share
// a subnet.
func twoNodes() []*netstack.Namespace {
	node := func(name, address string) *netstack.Namespace {
		return &netstack.Namespace{
			Name:  name,
			NSIDs: map[int]string{0: name + "-a", 1: name + "-b"},
			Links: []netstack.Link{
				{Index: 1, Name: "lo", Kind: "loopback", Flags: up | netstack.FlagLoopback, PeerNSID: netstack.NoPeerNS},
				{Index: 2, Name: "eth0", Flags: up, PeerNSID: netstack.NoPeerNS},
				{Index: 3, Name: "cni0", Kind: "bridge", Flags: up, PeerNSID: netstack.NoPeerNS},
				{Index: 4, Name: "veth-a", Kind: "veth", Flags: up, Master: "cni0", Peer: 2, PeerNSID: 0, Port: &netstack.BridgePort{State: netstack.BRStateForwarding}},
				{Index: 5, Name: "veth-b", Kind: "veth", Flags: up, Master: "cni0", Peer: 2, PeerNSID: 1, Port: &netstack.BridgePort{State: netstack.BRStateForwarding}},
			},
			Addresses: []netstack.Address{{Dev: "eth0", Prefix: netip.MustParsePrefix(address)}},
		}
	}
	pod := func(name, node string, peer int) *netstack.Namespace {
		return &netstack.Namespace{
			Name:  name,
			NSIDs: map[int]string{0: node},
			Links: []netstack.Link{{Index: 2, Name: "eth0", Kind: "veth", Flags: up, Peer: peer, PeerNSID: 0}},
		}
	}
	return []*netstack.Namespace{
		node("n1", "172.30.0.1/24"), pod("n1-a", "n1", 4), pod("n1-b", "n1", 5),
		node("n2", "172.30.0.2/24"), pod("n2-a", "n2", 4), pod("n2-b", "n2", 5),
	}
}

func find(t *testing.T, list []*netstack.Namespace, ns, dev string) Port {
	t.Helper()
	for _, n := range list {
		for i := range n.Links {
			if n.Name == ns && n.Links[i].Name == dev {
				return Port{n, &n.Links[i]}
			}
		}
	}
	t.Fatalf("no %s in %s", dev, ns)
	return Port{}
}

func TestPeersAndBridges(t *testing.T) {
	list := twoNodes()
	f := Compile(list)
	peer, ok := f.Peer(find(t, list, "n1-a", "eth0").Link)
	if want := find(t, list, "n1", "veth-a"); !ok || peer != want {
		t.Errorf("the peer of n1-a's eth0 is %v", peer)
	}
	bridge, ok := f.Bridge(peer.Link)
	if want := find(t, list, "n1", "cni0"); !ok || bridge != want {
		t.Errorf("the bridge of veth-a is %v", bridge)
	}
	if ports := f.Ports(bridge.Link); len(ports) != 2 || ports[0] != peer {
		t.Errorf("the ports of cni0 are %v", ports)
	}
	if _, wire := f.Wire(peer.Link); wire {
		t.Error("a veth whose other end was collected is an uplink")
	}
}
