package collector

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// routed makes a namespace with e0 (10.0.0.1/24, fd00::1/64) and e1 up.
func routed(t testing.TB) string {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 type veth peer name e1
		ip link set e0 addrgenmode none
		ip link set e1 addrgenmode none
		ip link set e0 up
		ip link set e1 up
		ip addr add 10.0.0.1/24 dev e0
		ip addr add fd00::1/64 dev e0 nodad
	`)
	operational(t, ns, "e0", "e1")
	return ns
}

func TestRoutesOfAllTypesAndTables(t *testing.T) {
	ns := routed(t)
	script(t, ns, `
		ip nexthop add id 5 via 10.0.0.5 dev e0
		ip route add default via 10.0.0.254 metric 100
		ip route add 10.1.0.0/16 dev e1 scope link src 10.0.0.1 mtu lock 1400 advmss 1300 hoplimit 33 tos 0x10
		ip route add 10.2.0.0/16 table 1000 nexthop via 10.0.0.2 weight 3 nexthop dev e1
		ip route add 10.3.0.0/16 via 10.9.9.9 dev e0 onlink
		ip route add blackhole 10.4.0.0/16
		ip route add unreachable 10.5.0.0/16 metric 7
		ip route add prohibit 10.6.0.0/16
		ip route add throw 10.7.0.0/16 table 77
		ip route add 10.8.0.0/16 nhid 5
		ip route add 10.9.0.0/16 via inet6 fd00::9 dev e0
		ip -6 route add default via fd00::254 dev e0 metric 50 pref high
		ip -6 route add fd01::/64 nexthop via fd00::2 dev e0 weight 2 nexthop via fd00::3 dev e0
		ip -6 route add fd02::/64 dev e1 mtu 1300 proto 186
		ip -6 route add blackhole fd03::/64 table 300
		ip -6 route add fd04::/64 from fd00:5::/64 dev e0
	`)
	got := collectNetns(t, ns, netstack.PartLinks, netstack.PartRoutes4, netstack.PartRoutes6).Routes

	const boot, kernel = 3, 2 // RTPROT_*
	const link, host = netstack.ScopeLink, netstack.ScopeHost
	const unicast = netstack.RouteUnicast
	via := func(dev, gateway string) netstack.NextHop {
		return netstack.NextHop{Dev: dev, Gateway: address4(gateway), Weight: 1}
	}
	dev := func(dev string) []netstack.NextHop { return hops(netstack.NextHop{Dev: dev, Weight: 1}) }
	weighted := func(h netstack.NextHop, weight int) netstack.NextHop { h.Weight = weight; return h }
	onlink := via("e0", "10.9.9.9")
	onlink.Onlink = true
	v4 := func(r netstack.Route) netstack.Route { r.Family = netstack.IPv4; return r }
	v6 := func(r netstack.Route) netstack.Route { r.Family = netstack.IPv6; return r }
	main := netstack.TableMain
	local := netstack.TableLocal
	want := []netstack.Route{
		v4(netstack.Route{Table: main, Type: unicast, Dst: prefix("0.0.0.0/0"), Protocol: boot, Metric: 100, NextHops: hops(via("e0", "10.0.0.254"))}),
		v4(netstack.Route{Table: main, Type: unicast, Dst: prefix("10.0.0.0/24"), Scope: link, Protocol: kernel, PrefSrc: address4("10.0.0.1"), NextHops: dev("e0")}),
		v4(netstack.Route{
			Table: main, Type: unicast, Dst: prefix("10.1.0.0/16"), Scope: link, Protocol: boot, TOS: 0x10, PrefSrc: address4("10.0.0.1"),
			NextHops: dev("e1"), MTU: 1400, MTULocked: true, AdvMSS: 1300, HopLimit: 33,
		}),
		v4(netstack.Route{
			Table: 1000, Type: unicast, Dst: prefix("10.2.0.0/16"), Protocol: boot,
			NextHops: hops(weighted(via("e0", "10.0.0.2"), 3), netstack.NextHop{Dev: "e1", Weight: 1}),
		}),
		v4(netstack.Route{Table: main, Type: unicast, Dst: prefix("10.3.0.0/16"), Protocol: boot, NextHops: hops(onlink)}),
		v4(netstack.Route{Table: main, Type: netstack.RouteBlackhole, Dst: prefix("10.4.0.0/16"), Protocol: boot}),
		v4(netstack.Route{Table: main, Type: netstack.RouteUnreachable, Dst: prefix("10.5.0.0/16"), Protocol: boot, Metric: 7}),
		v4(netstack.Route{Table: main, Type: netstack.RouteProhibit, Dst: prefix("10.6.0.0/16"), Protocol: boot}),
		v4(netstack.Route{Table: 77, Type: netstack.RouteThrow, Dst: prefix("10.7.0.0/16"), Protocol: boot}),
		v4(netstack.Route{Table: main, Type: unicast, Dst: prefix("10.8.0.0/16"), Protocol: boot, NextHops: hops(via("e0", "10.0.0.5")), NextHopID: 5}),
		v4(netstack.Route{Table: main, Type: unicast, Dst: prefix("10.9.0.0/16"), Protocol: boot, NextHops: hops(via("e0", "fd00::9"))}),
		v4(netstack.Route{Table: local, Type: netstack.RouteLocal, Dst: prefix("10.0.0.1/32"), Scope: host, Protocol: kernel, PrefSrc: address4("10.0.0.1"), NextHops: dev("e0")}),
		v4(netstack.Route{Table: local, Type: netstack.RouteBroadcast, Dst: prefix("10.0.0.255/32"), Scope: link, Protocol: kernel, PrefSrc: address4("10.0.0.1"), NextHops: dev("e0")}),
		v4(netstack.Route{Table: local, Type: netstack.RouteLocal, Dst: prefix("127.0.0.0/8"), Scope: host, Protocol: kernel, PrefSrc: address4("127.0.0.1"), NextHops: dev("lo")}),
		v4(netstack.Route{Table: local, Type: netstack.RouteLocal, Dst: prefix("127.0.0.1/32"), Scope: host, Protocol: kernel, PrefSrc: address4("127.0.0.1"), NextHops: dev("lo")}),
		v4(netstack.Route{Table: local, Type: netstack.RouteBroadcast, Dst: prefix("127.255.255.255/32"), Scope: link, Protocol: kernel, PrefSrc: address4("127.0.0.1"), NextHops: dev("lo")}),

		v6(netstack.Route{Table: main, Type: unicast, Dst: prefix("::/0"), Protocol: boot, Metric: 50, Pref: "high", NextHops: hops(via("e0", "fd00::254"))}),
		v6(netstack.Route{Table: main, Type: unicast, Dst: prefix("fd00::/64"), Protocol: kernel, Metric: 256, NextHops: dev("e0")}),
		v6(netstack.Route{
			Table: main, Type: unicast, Dst: prefix("fd01::/64"), Protocol: boot, Metric: 1024,
			NextHops: hops(weighted(via("e0", "fd00::2"), 2), via("e0", "fd00::3")),
		}),
		v6(netstack.Route{Table: main, Type: unicast, Dst: prefix("fd02::/64"), Protocol: 186, Metric: 1024, MTU: 1300, NextHops: dev("e1")}),
		v6(netstack.Route{Table: 300, Type: netstack.RouteBlackhole, Dst: prefix("fd03::/64"), Protocol: boot, Metric: 1024}),
		v6(netstack.Route{Table: main, Type: unicast, Dst: prefix("fd04::/64"), Src: prefix("fd00:5::/64"), Protocol: boot, Metric: 1024, NextHops: dev("e0")}),
		v6(netstack.Route{Table: local, Type: netstack.RouteLocal, Dst: prefix("::1/128"), Protocol: kernel, NextHops: dev("lo")}),
		v6(netstack.Route{Table: local, Type: netstack.RouteLocal, Dst: prefix("fd00::1/128"), Protocol: kernel, NextHops: dev("e0")}),
		v6(netstack.Route{Table: local, Type: netstack.RouteMulticast, Dst: prefix("ff00::/8"), Protocol: kernel, Metric: 256, NextHops: dev("e0")}),
		v6(netstack.Route{Table: local, Type: netstack.RouteMulticast, Dst: prefix("ff00::/8"), Protocol: kernel, Metric: 256, NextHops: dev("e1")}),
	}
	order := func(a, b netstack.Route) int {
		if c := int(a.Family) - int(b.Family); c != 0 {
			return c
		}
		if c := a.Dst.Addr().Compare(b.Dst.Addr()); c != 0 {
			return c
		}
		if c := a.Dst.Bits() - b.Dst.Bits(); c != 0 {
			return c
		}
		if len(a.NextHops) > 0 && len(b.NextHops) > 0 {
			return slices.Compare([]byte(a.NextHops[0].Dev), []byte(b.NextHops[0].Dev))
		}
		return 0
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	same(t, "routes", want, got)
}

func TestRoutesOverADeadLinkAreMarked(t *testing.T) {
	ns := routed(t)
	inside(t, ns, "ip", "link", "set", "e1", "down")
	var got []netstack.NextHop
	// The kernel notices in its own time (linkwatch_event).
	eventually(t, "the route over e0 is marked", func() bool {
		routes := collectNetns(t, ns, netstack.PartLinks, netstack.PartRoutes4).Routes
		got = find(t, "the route over e0", routes, func(r *netstack.Route) bool { return r.Dst == prefix("10.0.0.0/24") }).NextHops
		return len(got) == 1 && got[0].Linkdown
	})
	same(t, "next hops", hops(netstack.NextHop{Dev: "e0", Weight: 1, Linkdown: true}), got)
}

func TestNextHopObjects(t *testing.T) {
	ns := routed(t)
	script(t, ns, `
		ip nexthop add id 1 via 10.0.0.2 dev e0
		ip nexthop add id 2 via fd00::2 dev e0 onlink
		ip nexthop add id 3 via 10.0.0.3 dev e0
		ip nexthop add id 4 blackhole
		ip nexthop add id 6 via 10.0.0.9 fdb
		ip nexthop add id 10 group 1,5/3
	`)
	same(t, "nexthop objects", []netstack.NextHopObject{
		{ID: 1, NextHop: netstack.NextHop{Dev: "e0", Gateway: address4("10.0.0.2"), Weight: 1}},
		{ID: 2, NextHop: netstack.NextHop{Dev: "e0", Gateway: address4("fd00::2"), Weight: 1, Onlink: true}},
		{ID: 3, NextHop: netstack.NextHop{Dev: "e0", Gateway: address4("10.0.0.3"), Weight: 1}},
		{ID: 4, Blackhole: true, NextHop: netstack.NextHop{Weight: 1}},
		{ID: 6, FDB: true, NextHop: netstack.NextHop{Gateway: address4("10.0.0.9"), Weight: 1}},
		{ID: 10, NextHop: netstack.NextHop{Weight: 1}, Group: []netstack.NextHopMember{{ID: 1, Weight: 5}, {ID: 3, Weight: 1}}},
	}, collectNetns(t, ns, netstack.PartLinks, netstack.PartNextHops).NextHops)
}

func TestRulesWithEveryField(t *testing.T) {
	ns := routed(t)
	script(t, ns, `
		ip rule add pref 100 from 10.1.0.0/16 to 10.2.0.0/16 iif e0 oif e1 fwmark 0x40/0xf0 tos 0x10 lookup 1000
		ip rule add pref 101 not from 10.3.0.1 ipproto tcp sport 1000-2000 dport 80 uidrange 5-7 lookup 77 protocol 99
		ip rule add pref 102 lookup main suppress_prefixlength 0 suppress_ifgroup 3
		ip rule add pref 103 goto 200
		ip rule add pref 104 blackhole
		ip rule add pref 105 unreachable
		ip rule add pref 106 prohibit
		ip rule add pref 200 nop
		ip -6 rule add pref 100 from fd01::/64 lookup 300
	`)
	got := collectNetns(t, ns, netstack.PartRules4, netstack.PartRules6).Rules
	rule := func(family netstack.Family, r netstack.Rule) netstack.Rule {
		r.Family = family
		if r.Action == "" {
			r.Action = netstack.RuleLookup
		}
		if r.SuppressPrefixLen == 0 {
			r.SuppressPrefixLen = -1
		}
		if r.SuppressIfGroup == 0 {
			r.SuppressIfGroup = -1
		}
		return r
	}
	suppress := rule(netstack.IPv4, netstack.Rule{Priority: 102, Table: netstack.TableMain, SuppressIfGroup: 3})
	suppress.SuppressPrefixLen = 0
	const kernel = 2
	same(t, "rules", []netstack.Rule{
		rule(netstack.IPv4, netstack.Rule{Table: netstack.TableLocal, Protocol: kernel}),
		rule(netstack.IPv4, netstack.Rule{
			Priority: 100, Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.0/16"), IIF: "e0", OIF: "e1", Mark: 0x40, Mask: 0xf0, TOS: 0x10, Table: 1000,
		}),
		rule(netstack.IPv4, netstack.Rule{
			Priority: 101, Invert: true, Src: prefix("10.3.0.1/32"), IPProto: 6, SPort: &netstack.PortRange{First: 1000, Last: 2000},
			DPort: &netstack.PortRange{First: 80, Last: 80}, UID: &netstack.UIDRange{First: 5, Last: 7}, Table: 77, Protocol: 99,
		}),
		suppress,
		rule(netstack.IPv4, netstack.Rule{Priority: 103, Action: netstack.RuleGoto, Goto: 200}),
		rule(netstack.IPv4, netstack.Rule{Priority: 104, Action: netstack.RuleBlackhole}),
		rule(netstack.IPv4, netstack.Rule{Priority: 105, Action: netstack.RuleUnreachable}),
		rule(netstack.IPv4, netstack.Rule{Priority: 106, Action: netstack.RuleProhibit}),
		rule(netstack.IPv4, netstack.Rule{Priority: 200, Action: netstack.RuleNop}),
		rule(netstack.IPv4, netstack.Rule{Priority: 32766, Table: netstack.TableMain, Protocol: kernel}),
		rule(netstack.IPv4, netstack.Rule{Priority: 32767, Table: netstack.TableDefault, Protocol: kernel}),
		rule(netstack.IPv6, netstack.Rule{Table: netstack.TableLocal, Protocol: kernel}),
		rule(netstack.IPv6, netstack.Rule{Priority: 100, Src: prefix("fd01::/64"), Table: 300}),
		rule(netstack.IPv6, netstack.Rule{Priority: 32766, Table: netstack.TableMain, Protocol: kernel}),
	}, got)
}

func TestLabelsOfAddresses(t *testing.T) {
	ns := routed(t)
	got := collectNetns(t, ns, netstack.PartLinks, netstack.PartAddrLabels)
	if got.AddrLabels != nil {
		t.Errorf("the kernel's own labels are not known: %v", got.AddrLabels)
	}
	script(t, ns, `
		ip addrlabel flush
		ip addrlabel add prefix fd00:7::/64 label 78
		ip addrlabel add prefix fd00:7::/64 dev e0 label 77
	`)
	got = collectNetns(t, ns, netstack.PartLinks, netstack.PartAddrLabels)
	same(t, "labels", []netstack.AddrLabel{{Prefix: prefix("fd00:7::/64"), Dev: "e0", Label: 77}, {Prefix: prefix("fd00:7::/64"), Label: 78}}, got.AddrLabels)
	script(t, ns, "ip addrlabel flush")
	if got = collectNetns(t, ns, netstack.PartLinks, netstack.PartAddrLabels); got.AddrLabels == nil || len(got.AddrLabels) > 0 {
		t.Errorf("without any label: %v", got.AddrLabels)
	}
}

func TestNeighboursAndForwardingDatabases(t *testing.T) {
	ns := routed(t)
	script(t, ns, `
		ip link add br0 address 02:00:00:00:00:01 type bridge
		ip link add p0 address 02:00:00:00:00:02 type veth peer name p1
		ip link set p0 master br0
		ip link add vx0 type vxlan id 42 local 10.0.0.1 dev e0 dstport 8472 nolearning
		ip neigh add 10.0.0.2 lladdr 02:00:00:00:01:02 dev e0 nud permanent
		ip neigh add 10.0.0.3 lladdr 02:00:00:00:01:03 dev e0 nud noarp
		ip neigh add proxy 10.0.0.4 dev e0
		ip neigh add fd00::2 lladdr 02:00:00:00:01:04 dev e0 nud permanent
		bridge fdb add 02:00:00:00:02:01 dev p0 master static
		bridge fdb append 02:00:00:00:02:02 dev vx0 dst 10.0.0.9 port 4789 vni 7 via e1
	`)
	got := collectNetns(t, ns, netstack.PartLinks, netstack.PartNeighbours, netstack.PartFDB)
	same(t, "neighbours", []netstack.Neighbour{
		{Dev: "e0", IP: address4("10.0.0.2"), MAC: netstack.MAC{2, 0, 0, 0, 1, 2}, State: netstack.NUDPermanent},
		{Dev: "e0", IP: address4("10.0.0.3"), MAC: netstack.MAC{2, 0, 0, 0, 1, 3}, State: netstack.NUDNoARP},
		{Dev: "e0", IP: address4("10.0.0.4"), Proxy: true},
		{Dev: "e0", IP: address4("fd00::2"), MAC: netstack.MAC{2, 0, 0, 0, 1, 4}, State: netstack.NUDPermanent},
	}, slices.SortedFunc(slices.Values(got.Neighbours), func(a, b netstack.Neighbour) int { return a.IP.Compare(b.IP) }))
	own := func(e *netstack.FDBEntry) bool { return e.MAC == netstack.MAC{2, 0, 0, 0, 0, 2} && e.VLAN == 0 }
	same(t, "the port's own entry", netstack.FDBEntry{
		Dev: "p0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 0, 2}, State: netstack.NUDPermanent, Local: true,
	}, find(t, "the port's own entry", got.FDB, own))
	static := func(e *netstack.FDBEntry) bool { return e.MAC == netstack.MAC{2, 0, 0, 0, 2, 1} }
	same(t, "static entry", netstack.FDBEntry{
		Dev: "p0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 2, 1}, State: netstack.NUDNoARP,
	}, find(t, "static entry", got.FDB, static))
	remote := func(e *netstack.FDBEntry) bool { return e.MAC == netstack.MAC{2, 0, 0, 0, 2, 2} }
	same(t, "VXLAN entry", netstack.FDBEntry{
		Dev: "vx0", MAC: netstack.MAC{2, 0, 0, 0, 2, 2}, Dst: address4("10.0.0.9"), Port: 4789, VNI: 7, Via: "e1", State: netstack.NUDPermanent | netstack.NUDNoARP, Self: true,
	}, find(t, "VXLAN entry", got.FDB, remote))
}

// The kernel of the tests has no VLAN filtering: what others answer is given.
func TestVLANsOfBridgePortsAreMergedIntoRanges(t *testing.T) {
	target := &target{ns: &netstack.Namespace{}, names: map[int]string{3: "br0", 4: "p0"}}
	const pvid, untagged = nl.BRIDGE_VLAN_INFO_PVID, nl.BRIDGE_VLAN_INFO_UNTAGGED
	target.setBridgeVLAN(map[int32][]*nl.BridgeVlanInfo{
		4: {{Vid: 12}, {Vid: 10}, {Vid: 11}, {Vid: 13, Flags: untagged}, {Vid: 20, Flags: pvid | untagged}, {Vid: 15}},
		3: {{Vid: 1, Flags: pvid | untagged}, {Vid: 2, Flags: untagged}},
	})
	same(t, "VLANs", []netstack.BridgeVLAN{
		{Dev: "br0", ID: 1, End: 1, PVID: true, Untagged: true},
		{Dev: "br0", ID: 2, End: 2, Untagged: true},
		{Dev: "p0", ID: 10, End: 12},
		{Dev: "p0", ID: 13, End: 13, Untagged: true},
		{Dev: "p0", ID: 15, End: 15},
		{Dev: "p0", ID: 20, End: 20, PVID: true, Untagged: true},
	}, target.ns.BridgeVLAN)
}
