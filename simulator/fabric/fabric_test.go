package fabric

import (
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
