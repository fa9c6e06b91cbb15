package collector

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestLinksOfEveryKindThatThisKernelHas(t *testing.T) {
	a, b := newNetns(t, "a"), newNetns(t, "b")
	script(t, a, `
		ip link add br0 address 02:00:00:00:00:01 type bridge nf_call_iptables 1
		ip link add p0 address 02:00:00:00:00:02 mtu 1400 type veth peer name e0 address 02:00:00:00:00:03 netns `+b+`
		ip link set p0 master br0 up
		ip link set p0 type bridge_slave isolated on hairpin on learning off flood off guard on proxy_arp on
		ip link set p0 type bridge_slave mcast_flood off bcast_flood off neigh_suppress on locked on proxy_arp_wifi on
		ip link add p9 index 55 address 02:00:00:00:00:09 type veth peer name q9 index 56 address 02:00:00:00:00:0a
		ip link set p9 master br0
		ip link set p0 type bridge_slave backup_port p9
		ip link add p1 index 50 address 02:00:00:00:00:04 type veth peer name q1 index 51 address 02:00:00:00:00:05
		ip link add m0 index 52 link q1 address 02:00:00:00:00:06 type macvlan mode private
		ip link add vx0 index 53 address 02:00:00:00:00:07 type vxlan id 42 local 10.77.0.1 dev p1 dstport 8472 nolearning proxy ttl 7 tos inherit df inherit
		ip link add vx6 index 54 address 02:00:00:00:00:08 type vxlan id 43 group ff05::7 dev p1 dstport 4789
		ip link set br0 up
	`)
	inside(t, b, "ip", "link", "set", "e0", "up")
	index := func(ns, dev string) int {
		n, err := strconv.Atoi(strings.TrimSpace(inside(t, ns, "cat", "/sys/class/net/"+dev+"/ifindex")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	mac := func(last byte) netstack.MAC { return netstack.MAC{2, 0, 0, 0, 0, last} }
	operational(t, a, "p0", "br0")
	ns := collectNetns(t, a, netstack.PartLinks)

	const idle = netstack.FlagBroadcast | netstack.FlagMulticast
	const up = idle | netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp
	const lo = netstack.FlagLoopback | netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp
	p0 := find(t, "p0", ns.Links, func(l *netstack.Link) bool { return l.Name == "p0" })
	// Not every kernel is built with multicast snooping and VLAN filtering; where
	// it is, snooping is on, and VLAN 1 the default.
	built := inside(t, a, "ls", "/sys/class/net/br0/bridge")
	snooping, pvid, vlan := strings.Contains(built, "multicast_snooping"), uint16(0), ""
	if strings.Contains(built, "default_pvid") {
		pvid, vlan = 1, "802.1Q"
	}
	want := map[string]netstack.Link{
		"lo": {Index: 1, Name: "lo", Kind: "loopback", MTU: 65536, Flags: lo, OperState: "UNKNOWN", PeerNSID: netstack.NoPeerNS},
		"br0": {
			Index: index(a, "br0"), Name: "br0", Kind: "bridge", MAC: mac(1), MTU: 1400, Flags: up, OperState: "UP", PeerNSID: netstack.NoPeerNS,
			Bridge: &netstack.Bridge{NFCallIPTables: true, MulticastSnooping: snooping, DefaultPVID: pvid, VLANProtocol: vlan},
		},
		"p0": {
			Index: index(a, "p0"), Name: "p0", Kind: "veth", MAC: mac(2), MTU: 1400, Flags: p0.Flags, OperState: "UP",
			Peer: index(b, "e0"), PeerNSID: p0.PeerNSID, Master: "br0",
			Port: &netstack.BridgePort{State: netstack.BRStateForwarding, Hairpin: true, Isolated: true, ProxyARP: true, Guard: true, NoMulticastFlood: true, NoBroadcastFlood: true, NeighSuppress: true, Locked: true, ProxyARPWiFi: true, BackupPort: "p9"},
		},
		"p1": {Index: 50, Name: "p1", Kind: "veth", MAC: mac(4), MTU: 1500, Flags: idle, OperState: "DOWN", Peer: 51, PeerNSID: netstack.NoPeerNS},
		"q1": {Index: 51, Name: "q1", Kind: "veth", MAC: mac(5), MTU: 1500, Flags: idle, OperState: "DOWN", Peer: 50, PeerNSID: netstack.NoPeerNS},
		"p9": {
			Index: 55, Name: "p9", Kind: "veth", MAC: mac(9), MTU: 1500, Flags: idle, OperState: "DOWN", Peer: 56, PeerNSID: netstack.NoPeerNS, Master: "br0",
			Port: &netstack.BridgePort{Learning: true, Flood: true},
		},
		"q9": {Index: 56, Name: "q9", Kind: "veth", MAC: mac(10), MTU: 1500, Flags: idle, OperState: "DOWN", Peer: 55, PeerNSID: netstack.NoPeerNS},
		"m0": {Index: 52, Name: "m0", Kind: "macvlan", MAC: mac(6), MTU: 1500, Flags: idle, OperState: "DOWN", Peer: 51, PeerNSID: netstack.NoPeerNS, Mode: "private"},
		"vx0": {
			Index: 53, Name: "vx0", Kind: "vxlan", MAC: mac(7), MTU: 1450, Flags: idle, OperState: "DOWN", PeerNSID: netstack.NoPeerNS,
			VXLAN: &netstack.VXLAN{VNI: 42, Local: address4("10.77.0.1"), Port: 8472, Underlay: "p1", Proxy: true, TTL: 7, TOS: 1, DF: "inherit"},
		},
		"vx6": {
			Index: 54, Name: "vx6", Kind: "vxlan", MAC: mac(8), MTU: 1430, Flags: idle, OperState: "DOWN", PeerNSID: netstack.NoPeerNS,
			VXLAN: &netstack.VXLAN{VNI: 43, Group: address4("ff05::7"), Port: 4789, Underlay: "p1", Learning: true},
		},
	}
	got := make(map[string]netstack.Link)
	for _, l := range ns.Links {
		got[l.Name] = l
	}
	same(t, "links", want, got)
	same(t, "namespaces by id", map[int]string{p0.PeerNSID: b}, ns.NSIDs)
	if !p0.Up() || !p0.Carrier() {
		t.Errorf("p0 has flags %#x, want it up and with carrier", p0.Flags)
	}
}

// The kinds that the kernel of the tests does not have are decoded from bytes
// as other kernels send them.
func TestSettingsOfLinks(t *testing.T) {
	u8 := func(typ uint16, v uint8) netlink.Attribute { return netlink.Attribute{Type: typ, Data: []byte{v}} }
	u16 := func(typ uint16, v uint16) netlink.Attribute {
		return netlink.Attribute{Type: typ, Data: nl.Uint16Attr(v)}
	}
	u32 := func(typ uint16, v uint32) netlink.Attribute {
		return netlink.Attribute{Type: typ, Data: nl.Uint32Attr(v)}
	}
	ip := func(typ uint16, a string) netlink.Attribute {
		return netlink.Attribute{Type: typ, Data: address4(a).AsSlice()}
	}
	for name, test := range map[string]struct {
		kind  string
		attrs []netlink.Attribute
		want  netstack.Link
	}{
		"a VLAN has an id and a protocol": {
			"vlan",
			[]netlink.Attribute{u16(nl.IFLA_VLAN_ID, 30), {Type: nl.IFLA_VLAN_PROTOCOL, Data: []byte{0x81, 0x00}}},
			netstack.Link{VLAN: &netstack.VLAN{ID: 30, Protocol: "802.1Q"}},
		},
		"a VLAN of the provider": {
			"vlan",
			[]netlink.Attribute{u16(nl.IFLA_VLAN_ID, 31), {Type: nl.IFLA_VLAN_PROTOCOL, Data: []byte{0x88, 0xa8}}},
			netstack.Link{VLAN: &netstack.VLAN{ID: 31, Protocol: "802.1ad"}},
		},
		"a VRF has a table":         {"vrf", []netlink.Attribute{u32(unix.IFLA_VRF_TABLE, 77)}, netstack.Link{VRFTable: 77}},
		"ipvlan has a mode":         {"ipvlan", []netlink.Attribute{u16(nl.IFLA_IPVLAN_MODE, 2)}, netstack.Link{Mode: "l3s"}},
		"macvtap has macvlan modes": {"macvtap", []netlink.Attribute{u32(nl.IFLA_MACVLAN_MODE, 8)}, netstack.Link{Mode: "passthru"}},
		"a bond has a mode":         {"bond", []netlink.Attribute{u8(nl.IFLA_BOND_MODE, 4)}, netstack.Link{Mode: "802.3ad", Bond: &netstack.Bond{}}},
		"an unheard-of mode is a number": {
			"bond", []netlink.Attribute{u8(nl.IFLA_BOND_MODE, 99)}, netstack.Link{Mode: "mode-99", Bond: &netstack.Bond{}},
		},
		"an IPIP tunnel to anywhere has no remote end": {
			"ipip",
			[]netlink.Attribute{ip(nl.IFLA_IPTUN_LOCAL, "10.0.0.1"), ip(nl.IFLA_IPTUN_REMOTE, "0.0.0.0")},
			netstack.Link{Tunnel: &netstack.Tunnel{Local: address4("10.0.0.1")}},
		},
		"an IPv6 tunnel has ends": {
			"ip6tnl",
			[]netlink.Attribute{ip(nl.IFLA_IPTUN_LOCAL, "fd00::1"), ip(nl.IFLA_IPTUN_REMOTE, "fd00::2")},
			netstack.Link{Tunnel: &netstack.Tunnel{Local: address4("fd00::1"), Remote: address4("fd00::2"), EncapLimit: true}},
		},
		"a GRE tunnel has ends": {
			"gre",
			[]netlink.Attribute{
				ip(nl.IFLA_GRE_LOCAL, "10.0.0.1"), ip(nl.IFLA_GRE_REMOTE, "10.0.0.2"),
				{Type: nl.IFLA_GRE_IKEY, Data: []byte{0, 0, 0, 5}},
				{Type: nl.IFLA_GRE_OKEY, Data: []byte{0, 0, 0, 6}},
				{Type: nl.IFLA_GRE_IFLAGS, Data: []byte{0x20, 0}},
			},
			netstack.Link{Tunnel: &netstack.Tunnel{Local: address4("10.0.0.1"), Remote: address4("10.0.0.2"), InKey: new(uint32(5))}},
		},
		"a kind without settings of interest": {"wireguard", []netlink.Attribute{u32(1, 1)}, netstack.Link{}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := netlink.MarshalAttributes(test.attrs)
			if err != nil {
				t.Fatal(err)
			}
			var l link
			if err := l.decodeData(test.kind, data); err != nil {
				t.Fatal(err)
			}
			same(t, test.kind, test.want, l.Link)
		})
	}
	var l link
	data, err := netlink.MarshalAttributes([]netlink.Attribute{u8(unix.IFLA_VRF_TABLE, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.decodeData("vrf", data); err == nil {
		t.Error("a table of one byte was taken for a number of four")
	}
}

func TestXDPIsNoted(t *testing.T) {
	ns := newNetns(t, "a")
	inside(t, ns, "ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1")
	attachXDP(t, ns, "e0")
	for _, l := range collectNetns(t, ns, netstack.PartLinks).Links {
		if want := l.Name == "e0"; l.XDP != want {
			t.Errorf("XDP on %s is %v, want %v", l.Name, l.XDP, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 type veth peer name e1
		ip link set e0 addrgenmode none
		ip link set e1 addrgenmode none
		ip link set e0 up
		ip link set e1 up
		ip addr add 10.1.0.1/24 dev e0
		ip addr add 10.1.0.2/24 dev e0
		ip addr add 10.2.0.1 peer 10.2.0.9 dev e0 scope link
		ip addr add fd00:1::1/64 dev e0 nodad noprefixroute
		ip addr add fd00:2::1 peer fd00:2::9/128 dev e0 nodad
	`)
	const permanent = netstack.AddrPermanent
	got := collectNetns(t, ns, netstack.PartLinks, netstack.PartAddresses).Addresses
	slices.SortFunc(got, func(a, b netstack.Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	same(t, "addresses", []netstack.Address{
		{Dev: "e0", Prefix: prefix("10.1.0.1/24"), Flags: permanent},
		{Dev: "e0", Prefix: prefix("10.1.0.2/24"), Flags: permanent | netstack.AddrSecondary},
		{Dev: "e0", Prefix: prefix("10.2.0.1/32"), Peer: address4("10.2.0.9"), Scope: netstack.ScopeLink, Flags: permanent},
		{Dev: "lo", Prefix: prefix("127.0.0.1/8"), Scope: netstack.ScopeHost, Flags: permanent},
		{Dev: "lo", Prefix: prefix("::1/128"), Scope: netstack.ScopeHost, Flags: permanent},
		{Dev: "e0", Prefix: prefix("fd00:1::1/64"), Flags: permanent | netstack.AddrNoDAD | netstack.AddrNoPrefixRoute},
		{Dev: "e0", Prefix: prefix("fd00:2::1/128"), Peer: address4("fd00:2::9"), Flags: permanent | netstack.AddrNoDAD},
	}, got)
}
