package fabric

import (
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
)

func find(t *testing.T, list []*netstack.Namespace, ns, dev string) Port {
	t.Helper()
	n, l := netstacktest.Find(t, list, ns, dev)
	return Port{n, l}
}

func TestPeersAndBridges(t *testing.T) {
	list := netstacktest.TwoNodes()
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

// TestWires has nodes in one subnet, one in another, and one that is in both.
func TestWires(t *testing.T) {
	node := func(name string, addrs ...string) *netstack.Namespace {
		ns := &netstack.Namespace{Name: name}
		for i, addr := range addrs {
			dev := "eth" + string(rune('0'+i))
			ns.Links = append(ns.Links, netstack.Link{Index: i + 1, Name: dev, PeerNSID: netstack.NoPeerNS})
			if addr != "" {
				ns.Addresses = append(ns.Addresses, netstack.Address{Dev: dev, Prefix: netip.MustParsePrefix(addr)})
			}
		}
		return ns
	}
	list := []*netstack.Namespace{
		node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24", "10.0.0.3/24"), node("wide", "10.0.1.1/16"), node("far", "10.0.9.1/24"), node("none", ""),
	}
	f := Compile(list)
	for _, c := range []struct{ ns, dev, want string }{
		{"a", "eth0", "b/eth0 b/eth1 wide/eth0 "},
		{"b", "eth1", "a/eth0 wide/eth0 "},
		{"wide", "eth0", "a/eth0 b/eth0 b/eth1 far/eth0 "},
		{"far", "eth0", "wide/eth0 "},
		{"none", "eth0", ""},
	} {
		at := find(t, list, c.ns, c.dev)
		wire, ok := f.Wire(at.Link)
		got := ""
		for _, p := range wire {
			if p.NS != at.NS {
				got += p.NS.Name + "/" + p.Link.Name + " "
			}
		}
		if !ok || got != c.want {
			t.Errorf("%s/%s leads to %q, want %q", c.ns, c.dev, got, c.want)
		}
	}
}
