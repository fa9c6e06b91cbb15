package netstacktest

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Device is an interface that is up.
func Device(index int, name, kind string, mac byte) netstack.Link {
	return netstack.Link{
		Index: index, Name: name, Kind: kind, MAC: netstack.MAC{2, 0, 0, 0, byte(index), mac}, MTU: 1500, OperState: "UP",
		Flags:    Up | netstack.FlagBroadcast | netstack.FlagRunning | netstack.FlagMulticast,
		PeerNSID: netstack.NoPeerNS,
	}
}

// Loopback is lo.
func Loopback() netstack.Link {
	return netstack.Link{
		Index: 1, Name: "lo", Kind: "loopback", MTU: 65536, OperState: "UNKNOWN", PeerNSID: netstack.NoPeerNS,
		Flags: Up | netstack.FlagLoopback | netstack.FlagRunning,
	}
}

// Known is a namespace that forwards IPv4, and of whose IPv4 everything is known.
func Known(name string, kind netstack.Kind) *netstack.Namespace {
	ns := &netstack.Namespace{Name: name, Kind: kind, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}
	for _, dev := range []string{"all", "default", "lo", "eth0", "veth0"} {
		ns.Sysctls["net.ipv4.conf."+dev+".forwarding"] = "1"
	}
	for _, p := range []netstack.Part{
		netstack.PartLinks, netstack.PartAddresses, netstack.PartRoutes4, netstack.PartRules4, netstack.PartNeighbours,
		netstack.PartSockets, netstack.PartSysctls, netstack.PartIPTables4, netstack.PartNFT, netstack.PartIPSet,
	} {
		ns.SetPart(p, netstack.Status{State: netstack.StateOK})
	}
	for _, r := range []struct{ priority, table uint32 }{{0, netstack.TableLocal}, {32766, netstack.TableMain}, {32767, netstack.TableDefault}} {
		ns.Rules = append(ns.Rules, netstack.Rule{
			Family: netstack.IPv4, Priority: r.priority, Action: netstack.RuleLookup, Table: r.table, SuppressPrefixLen: -1, SuppressIfGroup: -1,
		})
	}
	return ns
}

// Own gives a namespace an address, with what the kernel makes of it.
func Own(ns *netstack.Namespace, dev string, prefix netip.Prefix) {
	ns.Addresses = append(ns.Addresses, netstack.Address{Dev: dev, Prefix: prefix})
	hop := []netstack.NextHop{{Dev: dev, Weight: 1}}
	ns.Routes = append(ns.Routes, netstack.Route{
		Family: netstack.IPv4, Table: netstack.TableLocal, Type: netstack.RouteLocal, Scope: netstack.ScopeHost,
		Dst: netip.PrefixFrom(prefix.Addr(), 32), PrefSrc: prefix.Addr(), NextHops: hop,
	})
	if !prefix.IsSingleIP() {
		ns.Routes = append(ns.Routes, netstack.Route{
			Family: netstack.IPv4, Table: netstack.TableMain, Type: netstack.RouteUnicast, Scope: netstack.ScopeLink,
			Dst: prefix.Masked(), PrefSrc: prefix.Addr(), NextHops: hop,
		})
	}
}

// Via adds a route; gateway may be invalid.
func Via(ns *netstack.Namespace, dst, dev string, gateway netip.Addr) {
	r := netstack.Route{
		Family: netstack.IPv4, Table: netstack.TableMain, Type: netstack.RouteUnicast, Dst: netip.MustParsePrefix(dst),
		NextHops: []netstack.NextHop{{Dev: dev, Gateway: gateway, Weight: 1}},
	}
	if !gateway.IsValid() {
		r.Scope = netstack.ScopeLink
	}
	ns.Routes = append(ns.Routes, r)
}
