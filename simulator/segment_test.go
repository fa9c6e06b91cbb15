package simulator

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
)

func find(t *testing.T, list []*netstack.Namespace, ns, dev string) fabric.Port {
	t.Helper()
	n, l := netstacktest.Find(t, list, ns, dev)
	return fabric.Port{NS: n, Link: l}
}

// said renders stations as "NAMESPACE/DEVICE", with what stands in the way.
func said(stations []station) []string {
	words := [...]string{"", "down", "port state", "isolated", "VLAN", "no flood", "locked", "no VLANs", "switch of a VLAN", "unknown", "shared device"}
	var list []string
	for _, s := range stations {
		text := s.NS.Name + "/" + s.Link.Name
		if s.barrier != unbarred {
			text += ": " + words[s.barrier] + " at " + s.at.NS.Name + "/" + s.at.Link.Name
		}
		list = append(list, text)
	}
	return list
}

// TestVLANsThatMaySuppressRequests has a bridge that knows the neighbour who is asked for, or does not, and a port of which
// each VLAN says for itself whether such requests are suppressed (neigh_vlan_suppress).
func TestVLANsThatMaySuppressRequests(t *testing.T) {
	wanted, mac := netip.MustParseAddr("10.244.1.11"), netstack.MAC{2, 0, 0, 0, 0, 9}
	for _, test := range []struct {
		name           string
		known, filters bool
		stations       []string
	}{
		{"the neighbour is known", true, true, []string{"n1/cni0.1: switch of a VLAN at n1/veth-b", "n1-b/eth0: switch of a VLAN at n1/veth-b"}},
		{"the neighbour is not known", false, true, []string{"n1/cni0.1", "n1-b/eth0"}},
		{"the bridge has no VLANs", true, false, []string{"n1/cni0", "n1-b/eth0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			list := netstacktest.TwoNodes()
			n := list[0]
			find(t, list, "n1", "veth-b").Link.Port.NeighVLANSuppress = true
			dev, vlan := "cni0", uint16(0)
			if test.filters {
				dev, vlan = "cni0.1", 1
				find(t, list, "n1", "cni0").Link.Bridge = &netstack.Bridge{VLANFiltering: true, VLANProtocol: "802.1Q", DefaultPVID: 1}
				n.Links = append(n.Links, netstack.Link{Index: 6, Name: dev, Kind: "vlan", Flags: netstacktest.Up, Peer: 3, PeerNSID: netstack.NoPeerNS, VLAN: &netstack.VLAN{ID: 1, Protocol: "802.1Q"}})
				n.SetPart(netstack.PartBridgeVLAN, netstack.Status{State: netstack.StateOK})
				for _, port := range []string{"cni0", "veth-a", "veth-b"} {
					n.BridgeVLAN = append(n.BridgeVLAN, netstack.BridgeVLAN{Dev: port, ID: 1, End: 1, PVID: true, Untagged: port != "cni0"})
				}
			}
			if test.known {
				n.Neighbours = []netstack.Neighbour{{Dev: dev, IP: wanted, MAC: mac, State: netstack.NUDPermanent}}
				n.FDB = []netstack.FDBEntry{{Dev: "veth-b", Master: "cni0", MAC: mac, VLAN: vlan}}
			}
			w, err := Compile(&Snapshot{Namespaces: list})
			if err != nil {
				t.Fatal(err)
			}
			s := newWorkspace(w).segment(find(t, list, "n1-a", "eth0"), wanted)
			if diff := cmp.Diff(test.stations, said(s.stations)); diff != "" {
				t.Errorf("stations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStationsOfASegment(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*testing.T, []*netstack.Namespace)
		ns, dev  string
		stations []string
		open     bool
	}{
		{name: "a pod sees its bridge and the other pod", ns: "n1-a", dev: "eth0", stations: []string{"n1/cni0", "n1-b/eth0"}},
		{name: "a bridge sees its pods", ns: "n1", dev: "cni0", stations: []string{"n1-a/eth0", "n1-b/eth0"}},
		{name: "an uplink sees the other on its wire, and perhaps more", ns: "n1", dev: "eth0", stations: []string{"n2/eth0"}, open: true},
		{name: "isolated ports do not see each other, but see the bridge", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "veth-a").Link.Port.Isolated = true
			find(t, l, "n1", "veth-b").Link.Port.Isolated = true
		}, stations: []string{"n1/cni0", "n1-b/eth0: isolated at n1/veth-b"}},
		{name: "one isolated port sees all", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "veth-a").Link.Port.Isolated = true
		}, stations: []string{"n1/cni0", "n1-b/eth0"}},
		{name: "a blocked port hides what is behind it", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "veth-b").Link.Port.State = 4
		}, stations: []string{"n1/cni0", "n1-b/eth0: port state at n1/veth-b"}},
		{name: "a blocked port hides everything from what is behind it", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "veth-a").Link.Port.State = 4
		}, stations: []string{"n1/cni0: port state at n1/veth-a", "n1-b/eth0: port state at n1/veth-a"}},
		{name: "a port is disabled because the pod set its end down", ns: "n1", dev: "cni0", change: func(t *testing.T, l []*netstack.Namespace) {
			port := find(t, l, "n1", "veth-a").Link
			port.Flags &^= netstack.FlagLowerUp
			port.Port.State = 0
			find(t, l, "n1-a", "eth0").Link.Flags = 0
		}, stations: []string{"n1-b/eth0", "n1-a/eth0: down at n1-a/eth0"}},
		{name: "a bridge that is down, which disables its ports, is the cause", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "cni0").Link.Flags = 0
			find(t, l, "n1", "veth-a").Link.Port.State = 0
			find(t, l, "n1", "veth-b").Link.Port.State = 0
		}, stations: []string{"n1/cni0: down at n1/cni0", "n1-b/eth0: down at n1/cni0"}},
		{name: "a bridge that filters VLANs which were not collected is not seen through", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "cni0").Link.Bridge = &netstack.Bridge{VLANFiltering: true}
		}, stations: []string{"n1/cni0: no VLANs at n1/cni0", "n1-b/eth0: no VLANs at n1/cni0"}},
		{name: "uplinks in other subnets share no wire", ns: "n1", dev: "eth0", change: func(_ *testing.T, l []*netstack.Namespace) {
			l[3].Addresses[0].Prefix = netip.MustParsePrefix("192.168.0.2/24")
		}, open: true},
		{name: "a wire into a namespace that was not collected is an uplink", ns: "n1-a", dev: "eth0", change: func(_ *testing.T, l []*netstack.Namespace) {
			delete(l[1].NSIDs, 0)
			delete(l[0].NSIDs, 0)
		}, open: true},
		{name: "one end of a wire that knows the other's namespace is enough", ns: "n1-a", dev: "eth0", change: func(_ *testing.T, l []*netstack.Namespace) {
			delete(l[1].NSIDs, 0)
		}, stations: []string{"n1/cni0", "n1-b/eth0"}},
		{name: "ends that do not name each other are not joined", ns: "n1-a", dev: "eth0", change: func(t *testing.T, l []*netstack.Namespace) {
			find(t, l, "n1", "veth-a").Link.Peer = 9
		}, open: true},
		{name: "bridges that are joined in a circle end the search", ns: "n1-a", dev: "eth0", change: func(_ *testing.T, l []*netstack.Namespace) {
			l[0].Links = append(
				l[0].Links,
				netstack.Link{Index: 6, Name: "x", Kind: "veth", Flags: netstacktest.Up, Master: "cni0", Peer: 7, PeerNSID: netstack.NoPeerNS},
				netstack.Link{Index: 7, Name: "y", Kind: "veth", Flags: netstacktest.Up, Master: "cni0", Peer: 6, PeerNSID: netstack.NoPeerNS},
			)
		}, stations: []string{"n1/cni0", "n1-b/eth0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			list := netstacktest.TwoNodes()
			if test.change != nil {
				test.change(t, list)
			}
			w, err := Compile(&Snapshot{Namespaces: list})
			if err != nil {
				t.Fatal(err)
			}
			s := newWorkspace(w).segment(find(t, list, test.ns, test.dev), noAddr)
			if diff := cmp.Diff(test.stations, said(s.stations)); diff != "" || s.open != test.open {
				t.Errorf("open %v, want %v; stations (-want +got):\n%s", s.open, test.open, diff)
			}
		})
	}
}
