package bundle

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// values compares the types of netip by value.
func values() cmp.Options {
	return cmp.Options{
		cmpopts.IgnoreFields(alibaba.Facts{}, "Pages"),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// everything is a snapshot in which every field that a bundle stores is used.
func everything() *simulator.Snapshot {
	const up = netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp | netstack.FlagBroadcast | netstack.FlagMulticast
	ok := netstack.Status{State: netstack.StateOK}
	started := time.Date(2026, 2, 3, 4, 5, 6, 789000000, time.UTC)
	text := func(ns, file, data string) netstack.Text {
		return netstack.Text{File: "netns/" + ns + "/" + file, Data: []byte(data)}
	}
	node := &netstack.Namespace{
		Name: "node-1", Kind: netstack.KindNode, Node: "node-1", Taken: started.Add(time.Second),
		NSIDs: map[int]string{0: "pod:shop/web", 7: "other"},
		Parts: map[netstack.Part]netstack.Status{
			netstack.PartLinks: ok, netstack.PartAddresses: ok, netstack.PartAddrLabels: ok, netstack.PartRoutes4: ok, netstack.PartRoutes6: ok,
			netstack.PartRules4: ok, netstack.PartRules6: ok, netstack.PartNextHops: ok, netstack.PartNeighbours: ok,
			netstack.PartFDB: ok, netstack.PartBridgeVLAN: ok, netstack.PartSockets: ok, netstack.PartSysctls: ok,
			netstack.PartIPTables4: ok, netstack.PartIPTables6: ok, netstack.PartIPTables4Legacy: ok, netstack.PartIPTables6Legacy: ok,
			netstack.PartARPTablesLegacy: ok, netstack.PartEBTablesLegacy: ok, netstack.PartResolvConf: ok, netstack.PartHosts: ok, netstack.PartHostFacts: ok,
			netstack.PartNFT: ok, netstack.PartIPSet: ok, netstack.PartIPVS: ok, netstack.PartTC: ok, netstack.PartXFRM: ok,
			netstack.PartConntrack: {State: netstack.StateFailed, Detail: "conntrack: permission denied"},
			netstack.PartBPF:       {State: netstack.StateUnsupported},
		},
		Links: []netstack.Link{
			{Index: 1, Name: "lo", Kind: "loopback", MTU: 65536, OperState: "UNKNOWN", PeerNSID: -1, Flags: netstack.FlagLoopback | netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp},
			{Index: 2, Name: "eth0", MAC: netstack.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500, OperState: "UP", PeerNSID: -1, Flags: up | 1<<30, XDP: true, SingleSegments: true},
			{
				Index: 3, Name: "br0", Kind: "bridge", MAC: netstack.MAC{2, 0, 0, 0, 0, 2}, MTU: 1500, OperState: "UP", PeerNSID: -1, Flags: up,
				Bridge: &netstack.Bridge{VLANFiltering: true, VLANProtocol: "802.1ad", DefaultPVID: 1, NFCallIPTables: true, NFCallIP6Tables: true, NFCallARPTables: true, MulticastSnooping: true},
			},
			{
				Index: 4, Name: "veth0", Kind: "veth", MAC: netstack.MAC{2, 0, 0, 0, 0, 3}, MTU: 1450, OperState: "UP", Peer: 2, PeerNSID: 0, Flags: up, Master: "br0",
				Port: &netstack.BridgePort{State: 3, Hairpin: true, Isolated: true, Learning: true, Flood: true, ProxyARP: true, Guard: true, NoMulticastFlood: true, NoBroadcastFlood: true, NeighVLANSuppress: true, ProxyARPWiFi: true, BackupPort: "veth1", NeighSuppress: true, Locked: true, VLANTunnel: true},
			},
			{
				Index: 5, Name: "veth1", Kind: "veth", MAC: netstack.MAC{2, 0, 0, 0, 0, 4}, MTU: 1450, OperState: "LOWERLAYERDOWN", Peer: 6, PeerNSID: -1, Master: "br0",
				Flags: netstack.FlagUp | netstack.FlagBroadcast, Port: &netstack.BridgePort{State: 4},
			},
			{Index: 6, Name: "veth2", Kind: "veth", MAC: netstack.MAC{2, 0, 0, 0, 0, 5}, MTU: 1450, OperState: "DOWN", Peer: 5, PeerNSID: -1},
			{
				Index: 7, Name: "vx4", Kind: "vxlan", MAC: netstack.MAC{2, 0, 0, 0, 0, 6}, MTU: 1450, OperState: "UNKNOWN", PeerNSID: -1, Flags: up,
				VXLAN: &netstack.VXLAN{VNI: 42, Local: addr("10.0.0.1"), Group: addr("239.1.1.1"), Port: 4789, Underlay: "eth0", Learning: true, L3Miss: true, L2Miss: true, Proxy: true, VNIFilter: true, TTL: 9, TOS: 1, DF: "inherit"},
			},
			{
				Index: 8, Name: "vx6", Kind: "vxlan", MTU: 1430, OperState: "UNKNOWN", PeerNSID: -1,
				VXLAN: &netstack.VXLAN{VNI: 43, Local: addr("fd00::1"), Group: addr("fd00::2"), Port: 8472, External: true, SrcPorts: [2]uint16{5000, 6000}, NoChecksum6: true, TakesNoChecksum6: true, RemoteChecksum: true},
			},
			{Index: 9, Name: "eth0.5", Kind: "vlan", MTU: 1500, OperState: "UP", Peer: 2, PeerNSID: -1, Flags: up, VLAN: &netstack.VLAN{ID: 5, Protocol: "802.1ad"}},
			{Index: 10, Name: "mv0", Kind: "macvlan", MTU: 1500, Peer: 99, PeerNSID: -1, Mode: "bridge"},
			{Index: 11, Name: "tun0", Kind: "ipip", MTU: 1480, PeerNSID: -1, Flags: netstack.FlagNoARP | netstack.FlagPointToPoint, Tunnel: &netstack.Tunnel{Local: addr("10.0.0.1"), Remote: addr("10.0.0.2"), TTL: 64, TOS: 1, PMTUDisc: true}},
			{Index: 12, Name: "tun1", Kind: "ip6tnl", MTU: 1480, PeerNSID: -1, Tunnel: &netstack.Tunnel{Protocol: "any", EncapLimit: true}},
			{Index: 13, Name: "vrf0", Kind: "vrf", MTU: 65575, PeerNSID: -1, VRFTable: 100},
			{
				Index: 20, Name: "gre1", Kind: "gretap", MTU: 1462, PeerNSID: -1,
				Tunnel: &netstack.Tunnel{Remote: addr("10.0.0.9"), Underlay: "eth0", InKey: new(uint32(5)), OutKey: new(uint32(1 << 31)), InChecksum: true, OutChecksum: true, InSequence: true, OutSequence: true, Encap: "gue"},
			},
			{Index: 21, Name: "gre2", Kind: "gre", MTU: 1476, PeerNSID: -1, Tunnel: &netstack.Tunnel{External: true}},
			{Index: 22, Name: "bond0", Kind: "bond", MTU: 1500, PeerNSID: -1, Mode: "802.3ad", Bond: &netstack.Bond{ActiveSlave: "s0", Aggregator: 2}},
			{Index: 23, Name: "s0", Kind: "veth", Peer: 99, PeerNSID: -1, Master: "bond0", BondPort: &netstack.BondPort{Active: true, Up: true, Aggregator: 2}},
			{Index: 24, Name: "s1", Kind: "veth", Peer: 98, PeerNSID: -1, Master: "bond0", BondPort: &netstack.BondPort{}},
			{Index: 25, Name: "ipv0", Kind: "ipvlan", Peer: 2, PeerNSID: -1, Mode: "l3s", Flag: "private"},
			{Index: 26, Name: "mv1", Kind: "macvlan", Peer: 2, PeerNSID: -1, Mode: "source", SourceMACs: []netstack.MAC{{2, 0, 0, 0, 0, 9}, {2, 0, 0, 0, 0, 8}}},
			{Index: 14, Name: "veth3", Kind: "veth", MTU: 1500, Peer: 3, PeerNSID: unknownNSID},
		},
		Addresses: []netstack.Address{
			{Dev: "eth0", Prefix: prefix("10.0.0.1/24"), Flags: netstack.AddrPermanent},
			{Dev: "eth0", Prefix: prefix("10.0.0.5/24"), Flags: netstack.AddrSecondary | netstack.AddrNoPrefixRoute},
			{Dev: "br0", Prefix: prefix("10.9.0.1/32"), Peer: addr("10.9.0.2"), Scope: netstack.ScopeLink, Flags: netstack.AddrPermanent},
			{Dev: "br0", Prefix: prefix("fd00::1/64"), Scope: 33, Flags: netstack.AddrPermanent | netstack.AddrTentative | netstack.AddrDADFailed | netstack.AddrOptimistic | netstack.AddrNoDAD | netstack.AddrDeprecated | 0x10 | 0x100 | 0x400 | 0x800},
			{Dev: "eth0", Prefix: prefix("fe80::1/64"), Scope: netstack.ScopeLink, Flags: netstack.AddrSecondary},
		},
		Rules: []netstack.Rule{
			{Family: netstack.IPv4, Action: netstack.RuleLookup, Table: 255, SuppressPrefixLen: -1, SuppressIfGroup: -1, Protocol: 2},
			{
				Family: netstack.IPv4, Priority: 100, Invert: true, Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.1/32"), IIF: "eth0", OIF: "br0",
				Mark: 0x10, Mask: 0xff, TOS: 0x10, IPProto: 6, SPort: &netstack.PortRange{First: 80, Last: 80}, DPort: &netstack.PortRange{First: 1, Last: 0xffff},
				UID: &netstack.UIDRange{First: 0, Last: 1000}, TunnelID: 1 << 40, Action: netstack.RuleLookup, Table: 1 << 31, SuppressPrefixLen: 0, SuppressIfGroup: 4, Protocol: 77,
			},
			{Family: netstack.IPv4, Priority: 101, Mark: 0, Mask: 0xffffffff, Action: netstack.RuleGoto, Goto: 200, SuppressPrefixLen: -1, SuppressIfGroup: -1},
			{Family: netstack.IPv4, Priority: 102, Mark: 0, Mask: 0x4000, Action: netstack.RuleNop, SuppressPrefixLen: -1, SuppressIfGroup: -1},
			{Family: netstack.IPv6, Priority: 103, Action: netstack.RuleBlackhole, SuppressPrefixLen: -1, SuppressIfGroup: -1},
			{Family: netstack.IPv6, Priority: 104, Src: prefix("fd00::/64"), Action: netstack.RuleUnreachable, SuppressPrefixLen: -1, SuppressIfGroup: -1},
			{Family: netstack.IPv6, Priority: 105, Action: netstack.RuleProhibit, SuppressPrefixLen: -1, SuppressIfGroup: -1},
			{Family: netstack.IPv6, Priority: 106, L3MDev: true, Action: netstack.RuleLookup, SuppressPrefixLen: -1, SuppressIfGroup: -1},
		},
		Routes: []netstack.Route{
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("0.0.0.0/0"), Protocol: 3, NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: addr("10.0.0.254"), Weight: 1}}},
			{
				Family: netstack.IPv4, Table: 1000, Type: netstack.RouteUnicast, Dst: prefix("10.4.0.0/16"), Scope: netstack.ScopeLink, Protocol: 4, Metric: 7, TOS: 0x10, PrefSrc: addr("10.0.0.1"),
				NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: addr("fd00::5"), Weight: 1, Onlink: true, Dead: true, Linkdown: true, Encap: "mpls"}}, MTU: 1400, MTULocked: true, AdvMSS: 1300, HopLimit: 33,
			},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.5.0.0/16"), Protocol: 0, NextHopID: 7},
			{Family: netstack.IPv4, Table: 255, Type: netstack.RouteLocal, Dst: prefix("10.0.0.1/32"), Scope: netstack.ScopeHost, Protocol: 2, PrefSrc: addr("10.0.0.1"), NextHops: []netstack.NextHop{{Dev: "eth0", Weight: 1}}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.6.0.0/16"), Protocol: 3, NextHops: []netstack.NextHop{
				{Dev: "eth0", Gateway: addr("10.0.0.2"), Weight: 1}, {Dev: "eth0", Gateway: addr("10.0.0.3"), Weight: 256, Dead: true, Encap: "ip"},
			}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.7.0.0/16"), Protocol: 3, NextHops: []netstack.NextHop{{Dev: "eth0", Weight: 3}}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteBlackhole, Dst: prefix("10.8.0.0/16"), Protocol: 3},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnreachable, Dst: prefix("10.9.0.0/16"), Protocol: 3},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteProhibit, Dst: prefix("10.10.0.0/16"), Protocol: 3},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteThrow, Dst: prefix("10.11.0.0/16"), Protocol: 3},
			{Family: netstack.IPv6, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("::/0"), Src: prefix("fd02::/64"), Protocol: 9, Metric: 1024, Pref: "high", NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: addr("fe80::1"), Weight: 1}}},
			{Family: netstack.IPv6, Table: 255, Type: netstack.RouteMulticast, Dst: prefix("ff00::/8"), Protocol: 2, Metric: 256, NextHops: []netstack.NextHop{{Dev: "eth0", Weight: 1}}, Cached: true},
		},
		NextHops: []netstack.NextHopObject{
			{ID: 5, NextHop: netstack.NextHop{Dev: "eth0", Gateway: addr("10.0.0.9"), Weight: 1, Onlink: true}},
			{ID: 6, NextHop: netstack.NextHop{Dev: "eth0", Gateway: addr("fd00::9"), Weight: 1, Encap: "seg6"}},
			{ID: 7, NextHop: netstack.NextHop{Weight: 1}, Group: []netstack.NextHopMember{{ID: 5, Weight: 2}, {ID: 6, Weight: 1}}},
			{ID: 8, NextHop: netstack.NextHop{Weight: 1}, Blackhole: true},
			{ID: 9, NextHop: netstack.NextHop{Gateway: addr("10.0.0.7"), Weight: 1}, FDB: true},
		},
		AddrLabels: []netstack.AddrLabel{
			{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96), Label: 4},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Dev: "eth0", Label: 1<<32 - 1},
			{Prefix: netip.MustParsePrefix("::/0")},
		},
		Neighbours: []netstack.Neighbour{
			{Dev: "eth0", IP: addr("10.0.0.2"), MAC: netstack.MAC{2, 0, 0, 0, 1, 1}, State: netstack.NUDReachable},
			{Dev: "eth0", IP: addr("fe80::1"), State: netstack.NUDFailed},
			{Dev: "eth0", IP: addr("10.0.0.3"), Proxy: true},
			{Dev: "eth0", IP: addr("10.0.0.4"), MAC: netstack.MAC{2, 0, 0, 0, 1, 2}, State: netstack.NUDNoARP | netstack.NUDPermanent},
		},
		FDB: []netstack.FDBEntry{
			{Dev: "veth0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 2, 1}, VLAN: 5, State: netstack.NUDPermanent, Local: true},
			{Dev: "veth0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 2, 2}, State: netstack.NUDReachable},
			{Dev: "veth0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 2, 3}, State: netstack.NUDStale},
			{Dev: "veth0", Master: "br0", MAC: netstack.MAC{2, 0, 0, 0, 2, 4}, State: netstack.NUDNoARP},
			{Dev: "vx4", Dst: addr("10.0.0.9"), VNI: 44, Port: 5000, Via: "eth0", State: netstack.NUDPermanent, Self: true},
			{Dev: "vx6", MAC: netstack.MAC{2, 0, 0, 0, 2, 5}, Dst: addr("fd00::9"), State: netstack.NUDReachable | netstack.NUDNoARP, Self: true},
		},
		BridgeVLAN: []netstack.BridgeVLAN{
			{Dev: "veth0", ID: 1, End: 1, PVID: true, Untagged: true},
			{Dev: "veth0", ID: 10, End: 20},
			{Dev: "veth1", ID: 4094, End: 4094},
		},
		Sockets: []netstack.Socket{
			{Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("0.0.0.0:80"), Remote: addrPort("0.0.0.0:0"), UID: 33, Inode: 77, RecvQ: 1, SendQ: 128, Process: "my  server,12", Transparent: new(true), Mark: 0xffffffff},
			{Family: netstack.IPv6, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("[::]:81"), Remote: addrPort("[::]:0")},
			{Family: netstack.IPv6, Protocol: netstack.ProtoUDP, State: netstack.SocketUnconnected, Local: addrPort("[::]:53"), Remote: addrPort("[::]:0"), V6Only: true, Dev: "eth0.5", Transparent: new(false)},
			{Family: netstack.IPv6, Protocol: netstack.ProtoUDP, State: netstack.SocketEstablished, Local: addrPort("[::ffff:10.0.0.1]:53"), Remote: addrPort("[::ffff:10.0.0.2]:9")},
			{Family: netstack.IPv4, Protocol: netstack.ProtoSCTP, State: netstack.SocketListen, Local: addrPort("10.0.0.1:9"), Remote: addrPort("0.0.0.0:0"), Dev: "eth0"},
		},
		Sysctls: map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv4.conf.eth0/5.rp_filter": "2", "net.ipv4.ip_local_reserved_ports": "", "net.ipv4.ip_local_port_range": "32768\t60999",
			"net.ipv4.vs.conntrack": "1", "net.core.two_lines": "a = b\nc",
		},
		IPTables: []netstack.IPTablesDump{
			{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: text("node-1", "iptables-save.txt", "*filter\nCOMMIT\n")},
			{Family: netstack.IPv6, Backend: netstack.BackendNFT, Text: netstack.Text{File: "netns/node-1/ip6tables-save.txt"}},
			{Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: text("node-1", "iptables-save-legacy.txt", "*nat\nCOMMIT\n")},
			{Family: netstack.IPv6, Backend: netstack.BackendLegacy, Text: text("node-1", "ip6tables-save-legacy.txt", "*raw\nCOMMIT\n")},
		},
		ARPTables:  text("node-1", "arptables-save-legacy.txt", "*filter\n:INPUT ACCEPT\n"),
		EBTables:   text("node-1", "ebtables-save-legacy.txt", "*filter\n:FORWARD DROP\n"),
		ResolvConf: text("node-1", "resolv.conf", "search a\nnameserver 10.96.0.10\n"), Hosts: text("node-1", "hosts", "127.0.0.1 localhost\n"),
		Facts: &netstack.HostFacts{
			Kernel: "6.1.0", Booted: started.Add(-time.Hour).Truncate(time.Second), Processors: 4, Load: [3]float64{0.5, 1.25, 2}, MemoryPressure: 3.5,
			Daemons: []netstack.Daemon{
				{Name: "kubelet", Started: started.Truncate(time.Second), Asked: "http://127.0.0.1:10248/healthz", Failure: "connection refused"},
				{Name: "kube-proxy"},
			},
			ProxyMode: "nftables",
			Messages: []netstack.KernelMessage{
				{KernelSaid: netstack.KernelSaid{Event: netstack.EventConntrackFull, Namespace: "pod:shop/web"}, Count: 3, First: started.Truncate(time.Second), Last: started.Truncate(time.Second)},
				{KernelSaid: netstack.KernelSaid{Event: netstack.EventNeighbourOverflow, Family: netstack.IPv6}, Count: 1},
				{KernelSaid: netstack.KernelSaid{Event: netstack.EventSYNFlood, Address: addr("10.0.0.1"), Port: 80}, Count: 1},
				{KernelSaid: netstack.KernelSaid{Event: netstack.EventLinkDown, Device: "eth0"}, Count: 1},
			},
		},
		NFT: text("node-1", "nft.json", `{"nftables":[]}`), IPSet: text("node-1", "ipset-save.txt", "create a hash:ip\n"),
		IPVS: text("node-1", "ipvsadm-save.txt", "-A -t 10.0.0.1:80 -s rr\n"), TC: text("node-1", "tc.json", "[]"), XFRM: netstack.Text{File: "netns/node-1/xfrm.txt"},
	}
	pod := &netstack.Namespace{
		Name: "pod:shop/web", Kind: netstack.KindPod, Node: "node-1", Pod: "shop/web",
		Parts: map[netstack.Part]netstack.Status{
			netstack.PartSysctls: ok, netstack.PartIPVS: {State: netstack.StateUnsupported},
			netstack.PartLinks: {State: netstack.StateFailed, Detail: "it vanished"},
		},
	}
	return &simulator.Snapshot{
		Taken: started, Ended: started.Add(3 * time.Second), Kernel: "6.1.0-44-amd64",
		Namespaces: []*netstack.Namespace{node, pod},
		Cluster: cluster.Objects{Pods: []corev1.Pod{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		}}, Missing: map[string]string{"networkpolicies": "forbidden"}},
		Failures: map[string]string{"cloud": "throttled"},
		Names: []resolver.Answer{
			{Question: resolver.Question{Namespace: "pod:shop/web", Server: addr("10.96.0.10"), Name: "example.org"}, Status: resolver.OK, Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}},
			{Question: resolver.Question{Namespace: "pod:shop/web", Server: addr("10.96.0.10"), Name: "nobody.example"}, Status: resolver.Failed, Detail: "SERVFAIL"},
		},
		Cloud: &alibaba.Facts{
			VPCs:   []alibaba.VPC{{VpcId: "vpc-1", CidrBlock: "10.0.0.0/8"}},
			Read:   map[string]bool{"vpc.DescribeVpcs": true, "vpc.DescribeVSwitches": true},
			Failed: map[string]string{"ecs.DescribeInstances": "Forbidden.RAM: not authorized"},
		},
	}
}

func TestWhatIsWrittenIsReadBackTheSame(t *testing.T) {
	for _, name := range []string{"directory", "b.tar", "b.tar.gz", "b.tgz", "b.tar.zst"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := Write(path, everything()); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(everything(), got, values()); diff != "" {
				t.Errorf("read back (-written +read):\n%s", diff)
			}
		})
	}
}

func TestAStreamIsReadBackTheSameAndHasTheSameBytesEachTime(t *testing.T) {
	var first, second bytes.Buffer
	if err := WriteArchive(&first, everything()); err != nil {
		t.Fatal(err)
	}
	if err := WriteArchive(&second, everything()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same snapshot made different bytes")
	}
	got, err := ReadArchive(&first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything(), got, values()); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
}

func TestTheCookieIsNotStored(t *testing.T) {
	snap := &simulator.Snapshot{Namespaces: []*netstack.Namespace{{Name: "a", Kind: netstack.KindOther, Cookie: 4711}}}
	var buf bytes.Buffer
	if err := WriteArchive(&buf, snap); err != nil {
		t.Fatal(err)
	}
	got, err := ReadArchive(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if cookie := got.Namespaces[0].Cookie; cookie != 0 {
		t.Errorf("cookie = %d, want 0", cookie)
	}
}

func mapFS(files map[string]string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return fsys
}

func TestABundleMadeByHandIsRead(t *testing.T) {
	for name, top := range map[string]string{"at the top": "", "in a directory of its own": "support-4711/"} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadFS(mapFS(map[string]string{
				top + "netns/n1/ip-route.json":          `[{"dst":"default","gateway":"10.0.0.254","dev":"eth0","flags":[]}]`,
				top + "netns/n1/iptables-save.txt":      "",
				top + "netns/n1/sysctl.txt":             "kernel.ostype = Linux\nnet.ipv4.ip_forward = 1\n",
				top + "netns/n1/host.json":              "",
				top + "netns/n1/notes/from-support.md":  "hello",
				top + "cloud/alibaba/DescribeVpcs.json": `{"Vpcs": {"Vpc": [{"VpcId": "vpc-1"}]}}`,
			}))
			if err != nil {
				t.Fatal(err)
			}
			ok := netstack.Status{State: netstack.StateOK}
			vpcs := &alibaba.Facts{VPCs: []alibaba.VPC{{VpcId: "vpc-1"}}, Read: map[string]bool{"vpc.DescribeVpcs": true}, Failed: map[string]string{}}
			want := &simulator.Snapshot{Cloud: vpcs, Namespaces: []*netstack.Namespace{{
				Name: "n1", Kind: netstack.KindOther,
				Parts: map[netstack.Part]netstack.Status{
					netstack.PartRoutes4: ok, netstack.PartIPTables4: ok, netstack.PartSysctls: ok, netstack.PartHostFacts: ok, netstack.PartIPVS: {State: netstack.StateUnsupported},
				},
				Routes: []netstack.Route{{
					Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("0.0.0.0/0"), Protocol: 3,
					NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: addr("10.0.0.254"), Weight: 1}},
				}},
				Sysctls:  map[string]string{"net.ipv4.ip_forward": "1"},
				IPTables: []netstack.IPTablesDump{{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: netstack.Text{File: "netns/n1/iptables-save.txt"}}},
			}}}
			if diff := cmp.Diff(want, got, values()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusOfAPart(t *testing.T) {
	info := func(status string) string {
		return `{"formatVersion":1,"namespaces":{"n1":{"collectors":{"routes4":` + status + `}}}}`
	}
	route := `[{"dst":"default","dev":"eth0","flags":[]}]`
	tests := []struct {
		name, info, file string
		noFile           bool
		want             netstack.Status
	}{
		{name: "a file that is there is ok", file: route, want: netstack.Status{State: netstack.StateOK}},
		{name: "an empty file is ok", want: netstack.Status{State: netstack.StateOK}},
		{name: "a missing file is missing", noFile: true, want: netstack.Status{State: netstack.StateMissing}},
		{name: "a file that was taken out is missing", info: info(`{"status":"ok"}`), noFile: true, want: netstack.Status{State: netstack.StateMissing}},
		{
			name: "a collector that failed says why", info: info(`{"status":"failed","detail":"denied"}`), noFile: true,
			want: netstack.Status{State: netstack.StateFailed, Detail: "denied"},
		},
		{
			name: "a collector that failed half-way is not ok", info: info(`{"status":"failed","detail":"denied"}`), file: route,
			want: netstack.Status{State: netstack.StateFailed, Detail: "denied"},
		},
		{name: "what the kernel does not have is unsupported", info: info(`{"status":"unsupported"}`), noFile: true, want: netstack.Status{State: netstack.StateUnsupported}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"netns/n1/meta.json": `{"kind":"node"}`}
			if tt.info != "" {
				files["bundle.json"] = tt.info
			}
			if !tt.noFile {
				files["netns/n1/ip-route.json"] = tt.file
			}
			snap, err := ReadFS(mapFS(files))
			if err != nil {
				t.Fatal(err)
			}
			if got := snap.Namespaces[0].PartStatus(netstack.PartRoutes4); got != tt.want {
				t.Errorf("status = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestIPVSIsAbsentOnlyWhereTheSysctlsSaySo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sysctl *string
		want   netstack.State
	}{
		{"no sysctl.txt", nil, netstack.StateMissing},
		{"no net.ipv4.vs.*", new("net.ipv4.ip_forward = 1\n"), netstack.StateUnsupported},
		{"net.ipv4.vs.* without ipvsadm-save.txt", new("net.ipv4.vs.conntrack = 1\n"), netstack.StateMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"netns/n1/meta.json": `{"kind":"node"}`}
			if tt.sysctl != nil {
				files["netns/n1/sysctl.txt"] = *tt.sysctl
			}
			snap, err := ReadFS(mapFS(files))
			if err != nil {
				t.Fatal(err)
			}
			if got := snap.Namespaces[0].PartStatus(netstack.PartIPVS).State; got != tt.want {
				t.Errorf("state = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMetaSaysThatIPTablesIsLegacy(t *testing.T) {
	snap, err := ReadFS(mapFS(map[string]string{
		"netns/n1/meta.json":          `{"kind":"node","iptables":"legacy"}`,
		"netns/n1/iptables-save.txt":  "*filter\nCOMMIT\n",
		"netns/n1/ip6tables-save.txt": "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	n := snap.Namespaces[0]
	want := []netstack.IPTablesDump{
		{Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "netns/n1/iptables-save.txt", Data: []byte("*filter\nCOMMIT\n")}},
		{Family: netstack.IPv6, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "netns/n1/ip6tables-save.txt"}},
	}
	if diff := cmp.Diff(want, n.IPTables); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n.Known(netstack.PartIPTables4) || !n.Known(netstack.PartIPTables4Legacy) {
		t.Errorf("parts = %v, want iptables-legacy alone", n.Parts)
	}
}

func TestARuleThatIsNotModelledMakesItsPartUnknown(t *testing.T) {
	snap, err := ReadFS(mapFS(map[string]string{
		"netns/n1/ip-rule.json": `[{"priority":0,"src":"all","table":"255"},
{"priority":9,"src":"all","vnipolicy":"0x1","table":"254"}]`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for part, want := range map[netstack.Part]netstack.Status{
		netstack.PartRules4: {State: netstack.StateFailed, Detail: `netns/n1/ip-rule.json:2: rule 2: vnipolicy is not modelled at "0x1"`},
	} {
		if got := snap.Namespaces[0].PartStatus(part); got != want {
			t.Errorf("status of %s = %+v, want %+v", part, got, want)
		}
	}
}

func TestAWriteThatFailsLeavesNothingBehind(t *testing.T) {
	named := func(names ...string) *simulator.Snapshot {
		snap := new(simulator.Snapshot)
		for _, name := range names {
			snap.Namespaces = append(snap.Namespaces, &netstack.Namespace{Name: name, Kind: netstack.KindOther})
		}
		return snap
	}
	with := func(change func(*netstack.Namespace)) *simulator.Snapshot {
		snap := named("a")
		n := snap.Namespaces[0]
		for _, f := range formats() {
			n.SetPart(f.part, netstack.Status{State: netstack.StateOK})
		}
		change(n)
		return snap
	}
	tests := []struct {
		name, file string
		snap       *simulator.Snapshot
		want       string
	}{
		{"a directory that is not empty", "full", named("a"), "the directory is not empty: refusing to overwrite it"},
		{"an archive where a directory is", "full.tar", named("a"), "is a directory: refusing to overwrite it"},
		{"an archive of a kind that is not written", "b.zip", named("a"), "archives are .tar, .tar.gz or .tar.zst, not .zip"},
		{"a path in a directory that is not there", "nowhere/b", named("a"), "no such file or directory"},
		{"a namespace without a name", "b", named(""), `namespace "" cannot be the name of a directory`},
		{"a namespace that would lead out", "b", named(".."), `namespace ".." cannot be the name of a directory`},
		{"two namespaces of one name", "b", named("a", "a"), `namespace "a": a namespace of this name came before`},
		{
			"routes that nobody collected", "b",
			with(func(n *netstack.Namespace) {
				delete(n.Parts, netstack.PartRoutes4)
				n.Routes = []netstack.Route{{Family: netstack.IPv4}}
			}),
			`namespace "a": routes4 are missing but there are some`,
		},
		{
			"a route of no type", "b",
			with(func(n *netstack.Namespace) {
				n.Routes = []netstack.Route{{Family: netstack.IPv4, Dst: prefix("10.0.0.0/8"), Type: "xresolve"}}
			}),
			`namespace "a": route 10.0.0.0/8: type "xresolve" is not a type of route`,
		},
		{
			"a rule without an action", "b", with(func(n *netstack.Namespace) { n.Rules = []netstack.Rule{{Family: netstack.IPv6, Priority: 7}} }),
			`namespace "a": rule of priority 7: action "" is not an action of a rule`,
		},
		{
			"a rule without a table", "b",
			with(func(n *netstack.Namespace) {
				n.Rules = []netstack.Rule{{Family: netstack.IPv4, Priority: 7, Action: netstack.RuleLookup}}
			}),
			`namespace "a": rule of priority 7: no table to look up`,
		},
		{
			"a neighbour in no state", "b",
			with(func(n *netstack.Namespace) { n.Neighbours = []netstack.Neighbour{{IP: addr("10.0.0.1"), State: 0x100}} }),
			`namespace "a": neighbour 10.0.0.1: state 0x100 is not known`,
		},
		{
			"a socket in no state", "b",
			with(func(n *netstack.Namespace) {
				n.Sockets = []netstack.Socket{{Protocol: 6, State: "open", Local: addrPort("10.0.0.1:80")}}
			}),
			`namespace "a": socket 10.0.0.1:80: protocol 6 or state "open" is not one that ss prints`,
		},
		{
			"a process without a number", "b",
			with(func(n *netstack.Namespace) {
				n.Sockets = []netstack.Socket{{Protocol: 6, State: "listen", Local: addrPort("10.0.0.1:80"), Process: "nginx"}}
			}),
			`namespace "a": socket 10.0.0.1:80: process "nginx" is not NAME,PID`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"full/x", "full.tar/x"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, tt.file)
			err := Write(path, tt.snap)
			if want := "bundle " + path + ": " + tt.want; err == nil || err.Error() != want {
				t.Fatalf("error = %v\nwant    %s", err, want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 2 {
				t.Errorf("the directory holds %v, want what was there before", entries)
			}
		})
	}
}

func TestWritingToAnEmptyDirectoryOrOverAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old.tar"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"empty", "old.tar"} {
		path := filepath.Join(dir, name)
		if err := Write(path, everything()); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if others := info.Mode().Perm() & 0o077; others != 0 {
			t.Errorf("%s has mode %s: others can read it", name, info.Mode())
		}
	}
}

func TestAProcessCannotBreakTheLineOfItsSocket(t *testing.T) {
	n := &netstack.Namespace{Name: "a", Kind: netstack.KindOther, Sockets: []netstack.Socket{{
		Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen,
		Local: addrPort("0.0.0.0:80"), Remote: addrPort("0.0.0.0:0"), Process: "a\",pid=1)) uid:5\nudp,12",
	}}}
	data, err := writeSockets(n)
	if err != nil {
		t.Fatal(err)
	}
	got := new(netstack.Namespace)
	if err := readSockets(&source{file: "sockets.txt", data: data}, got); err != nil {
		t.Fatal(err)
	}
	want := n.Sockets[0]
	want.Process = "a?,pid=1)) uid:5?udp,12"
	if diff := cmp.Diff([]netstack.Socket{want}, got.Sockets, values()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkReadOneNamespaceWith10000Routes(b *testing.B) {
	n := &netstack.Namespace{Name: "node-1", Kind: netstack.KindNode}
	n.SetPart(netstack.PartRoutes4, netstack.Status{State: netstack.StateOK})
	for i := range 10_000 {
		n.Routes = append(n.Routes, netstack.Route{
			Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Protocol: 3,
			Dst:      netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24),
			NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: addr("10.0.0.254"), Weight: 1}},
		})
	}
	dir := filepath.Join(b.TempDir(), "b")
	if err := Write(dir, &simulator.Snapshot{Namespaces: []*netstack.Namespace{n}}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		snap, err := Read(dir)
		if err != nil {
			b.Fatal(err)
		}
		if got := len(snap.Namespaces[0].Routes); got != 10_000 {
			b.Fatal(fmt.Errorf("%d routes", got))
		}
	}
}

func TestTheLayoutIsTheOneOfTheContract(t *testing.T) {
	files, err := encodeSnapshot(everything())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		"bundle.json", "cluster/pods.yaml", "cloud/alibaba/DescribeVpcs.json", "cloud/alibaba/DescribeVSwitches.json", "cloud/alibaba/DescribeInstances.failed.json", "netns/pod:shop%2Fweb/meta.json", "netns/pod:shop%2Fweb/sysctl.txt",
		"netns/node-1/meta.json", "netns/node-1/ip-link.json", "netns/node-1/ip-addr.json", "netns/node-1/ip-addrlabel.json", "netns/node-1/ip-route.json", "netns/node-1/ip6-route.json",
		"netns/node-1/ip-nexthop.json", "netns/node-1/ip-rule.json", "netns/node-1/ip6-rule.json", "netns/node-1/ip-neigh.json", "netns/node-1/bridge-fdb.json",
		"netns/node-1/bridge-vlan.json", "netns/node-1/iptables-save.txt", "netns/node-1/ip6tables-save.txt", "netns/node-1/iptables-save-legacy.txt",
		"netns/node-1/ip6tables-save-legacy.txt", "netns/node-1/arptables-save-legacy.txt", "netns/node-1/ebtables-save-legacy.txt", "netns/node-1/nft.json", "netns/node-1/ipset-save.txt", "netns/node-1/ipvsadm-save.txt",
		"netns/node-1/sockets.txt", "netns/node-1/sysctl.txt", "netns/node-1/tc.json", "netns/node-1/xfrm.txt", "netns/node-1/resolv.conf", "netns/node-1/hosts", "netns/node-1/host.json", "names.json",
	} {
		if _, ok := files[file]; !ok {
			t.Errorf("%s is not there", file)
		}
		delete(files, file)
	}
	for file := range files {
		t.Errorf("%s should not be there", file)
	}
}
