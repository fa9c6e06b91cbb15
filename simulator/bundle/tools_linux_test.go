package bundle

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// netns makes two namespaces for a test, and returns what runs ip in the first.
func netns(t *testing.T) (name, other string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: a network namespace cannot be made")
	}
	name, other = fmt.Sprintf("plbun-%d", os.Getpid()), fmt.Sprintf("plbun-%d-pod", os.Getpid())
	for _, ns := range []string{name, other} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
	}
	return name, other
}

func run(t *testing.T, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, stderr.String())
	}
	return string(out)
}

// contract is how the files of a bundle are made by hand.
func contract() map[string]string {
	return map[string]string{
		"ip-link.json": "ip -j -d link", "ip-addr.json": "ip -j addr", "ip-addrlabel.json": "ip -j addrlabel", "ip-nexthop.json": "ip -j nexthop",
		"ip-route.json": "ip -j -N route show table all", "ip6-route.json": "ip -6 -j -N route show table all",
		"ip-rule.json": "ip -j -N rule", "ip6-rule.json": "ip -6 -j -N rule", "ip-neigh.json": "ip -j neigh",
		"bridge-fdb.json": "bridge -j fdb", "bridge-vlan.json": "bridge -j vlan", "sockets.txt": "ss -OHanltu -e --inet-sockopt", "sysctl.txt": "sysctl -a",
	}
}

func TestTheOutputOfTheRealToolsIsReadAsWhatWasMade(t *testing.T) {
	ns, pod := netns(t)
	// No link-local addresses and no DAD: addresses are those made here.
	for _, key := range []string{"net.ipv6.conf.default.addr_gen_mode=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv4.ip_forward=1"} {
		run(t, "ip", "netns", "exec", ns, "sysctl", "-q", "-w", key)
	}
	for _, args := range []string{
		"link set lo up",
		"link add v0 index 10 address 02:00:00:00:00:10 mtu 1450 type veth peer name v1 index 11 address 02:00:00:00:00:11",
		"link add br0 index 12 address 02:00:00:00:00:12 type bridge mcast_snooping 0",
		"link set v0 master br0 up",
		"link set v1 up",
		"link set br0 up",
		"link set v0 type bridge_slave hairpin on isolated on learning off",
		"link add vx0 index 13 address 02:00:00:00:00:13 type vxlan id 42 dstport 4790 local 10.0.0.1 dev v1 nolearning",
		"link add p.0 index 14 address 02:00:00:00:00:14 type veth peer name eth0 index 15 netns " + pod,
		"link add mv0 index 16 address 02:00:00:00:00:16 link v1 type macvlan mode bridge",
		"addr add 10.0.0.1/24 dev v1",
		"addr add 10.0.0.5/24 dev v1",
		"addr add 10.9.0.1 peer 10.9.0.2/32 dev br0",
		"addr add fd00::1/64 dev v1 nodad",
		"route add default via 10.0.0.254",
		"route add 10.1.0.0/16 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.0.3 weight 3",
		"route add blackhole 10.2.0.0/16",
		"route add 10.3.0.0/16 via inet6 fd00::5 dev v1",
		"route add 10.4.0.0/16 tos 0x10 via 10.44.0.1 dev v1 onlink mtu 1400 advmss 1300 hoplimit 33 table 1000 metric 7 src 10.0.0.5 proto static",
		"route add throw 10.8.0.0/16 table 1000",
		"nexthop add id 5 via 10.0.0.9 dev v1",
		"nexthop add id 6 via 10.0.0.8 dev v1",
		"nexthop add id 7 group 5,2/6",
		"nexthop add id 8 blackhole",
		"route add 10.6.0.0/16 nhid 7",
		"-6 route add default via fd00::fe pref high",
		"-6 route add fd01::/64 from fd02::/64 via fd00::2",
		"-6 route add unreachable fd04::/64",
		"rule add from 10.1.2.0/24 fwmark 0x10/0xff iif v1 oif br0 ipproto tcp sport 80 dport 100-200 uidrange 0-1000 lookup 1000 suppress_prefixlength 8 pref 100",
		"rule add not to 10.1.0.0/16 tos 0x10 goto 200 pref 101",
		"rule add nop pref 200",
		"rule add blackhole from 9.9.9.9 pref 201",
		"rule add fwmark 0x4000 unreachable pref 202",
		"-6 rule add from fd00::/64 table 5 pref 7",
		"addrlabel flush",
		"addrlabel add prefix ::ffff:0:0/96 label 4",
		"addrlabel add prefix fd00:7::/64 label 78",
		"addrlabel add prefix fd00:7::/64 dev v1 label 77",
		"neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev v1",
		"neigh add fd00::77 lladdr 02:00:00:00:00:78 dev v1",
	} {
		run(t, append([]string{"ip", "-n", ns}, strings.Fields(args)...)...)
	}
	run(t, "ip", "netns", "exec", ns, "bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "v0", "master", "static")
	run(t, "ip", "netns", "exec", ns, "bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx0", "dst", "10.0.0.99", "vni", "43", "port", "5000", "via", "v1")
	listen(t, ns)

	n := readByHand(t, ns)
	const up = netstack.FlagUp | netstack.FlagRunning | netstack.FlagLowerUp | netstack.FlagBroadcast | netstack.FlagMulticast
	const down = netstack.FlagBroadcast | netstack.FlagMulticast
	mac := func(last byte) netstack.MAC { return netstack.MAC{2, 0, 0, 0, 0, last} }
	hop := func(gateway string) netstack.NextHop {
		return netstack.NextHop{Dev: "v1", Gateway: addr(gateway), Weight: 1}
	}
	weighted := func(gateway string, weight int) netstack.NextHop {
		h := hop(gateway)
		h.Weight = weight
		return h
	}
	rule := func(f netstack.Family, priority, table uint32) netstack.Rule {
		return netstack.Rule{Family: f, Priority: priority, Action: netstack.RuleLookup, Table: table, SuppressPrefixLen: -1, SuppressIfGroup: -1}
	}
	changed := func(r netstack.Rule, change func(*netstack.Rule)) netstack.Rule {
		change(&r)
		return r
	}

	t.Run("links", func(t *testing.T) {
		want := []netstack.Link{
			{Index: 10, Name: "v0", Kind: "veth", MAC: mac(0x10), MTU: 1450, Flags: up, OperState: "UP", Peer: 11, PeerNSID: -1, Master: "br0", Port: &netstack.BridgePort{State: 3, Hairpin: true, Isolated: true, Flood: true}},
			{Index: 11, Name: "v1", Kind: "veth", MAC: mac(0x11), MTU: 1500, Flags: up, OperState: "UP", Peer: 10, PeerNSID: -1},
			{Index: 12, Name: "br0", Kind: "bridge", MAC: mac(0x12), MTU: 1450, Flags: up, OperState: "UP", PeerNSID: -1, Bridge: &netstack.Bridge{}},
			{Index: 13, Name: "vx0", Kind: "vxlan", MAC: mac(0x13), MTU: 1450, Flags: down, OperState: "DOWN", PeerNSID: -1, VXLAN: &netstack.VXLAN{VNI: 42, Local: addr("10.0.0.1"), Port: 4790, Underlay: "v1"}},
			{Index: 14, Name: "p.0", Kind: "veth", MAC: mac(0x14), MTU: 1500, Flags: down, OperState: "DOWN", Peer: 15, PeerNSID: 0},
			{Index: 16, Name: "mv0", Kind: "macvlan", MAC: mac(0x16), MTU: 1500, Flags: down, OperState: "DOWN", Peer: 11, PeerNSID: -1, Mode: "bridge"},
		}
		var got []netstack.Link
		for _, l := range n.Links {
			if l.Bridge != nil {
				// Whether a kernel has VLAN filtering decides the default.
				l.Bridge.DefaultPVID = 0
			}
			if l.Index >= 10 {
				got = append(got, l)
			} else if l.Name == "lo" && (l.Kind != "loopback" || !l.Loopback() || !l.Up()) {
				t.Errorf("lo = %+v", l)
			}
		}
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		want := []netstack.Address{
			{Dev: "lo", Prefix: prefix("127.0.0.1/8"), Scope: netstack.ScopeHost, Flags: netstack.AddrPermanent},
			{Dev: "lo", Prefix: prefix("::1/128"), Scope: netstack.ScopeHost, Flags: netstack.AddrPermanent},
			{Dev: "v1", Prefix: prefix("10.0.0.1/24"), Flags: netstack.AddrPermanent},
			{Dev: "v1", Prefix: prefix("10.0.0.5/24"), Flags: netstack.AddrPermanent | netstack.AddrSecondary},
			{Dev: "v1", Prefix: prefix("fd00::1/64"), Flags: netstack.AddrPermanent | netstack.AddrNoDAD},
			{Dev: "br0", Prefix: prefix("10.9.0.1/32"), Peer: addr("10.9.0.2"), Flags: netstack.AddrPermanent},
		}
		var got []netstack.Address
		for _, a := range n.Addresses {
			a.Flags &^= 0x200 // ::1 has IFA_F_NOPREFIXROUTE from Linux 6.2 on
			got = append(got, a)
		}
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("routes", func(t *testing.T) {
		want := []netstack.Route{
			{
				Family: netstack.IPv4, Table: 1000, Type: netstack.RouteUnicast, Dst: prefix("10.4.0.0/16"), Protocol: 4, Metric: 7, TOS: 0x10, PrefSrc: addr("10.0.0.5"),
				NextHops: []netstack.NextHop{{Dev: "v1", Gateway: addr("10.44.0.1"), Weight: 1, Onlink: true}}, MTU: 1400, AdvMSS: 1300, HopLimit: 33,
			},
			{Family: netstack.IPv4, Table: 1000, Type: netstack.RouteThrow, Dst: prefix("10.8.0.0/16"), Protocol: 3},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("0.0.0.0/0"), Protocol: 3, NextHops: []netstack.NextHop{hop("10.0.0.254")}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.1.0.0/16"), Protocol: 3, NextHops: []netstack.NextHop{hop("10.0.0.2"), weighted("10.0.0.3", 3)}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteBlackhole, Dst: prefix("10.2.0.0/16"), Protocol: 3},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.3.0.0/16"), Protocol: 3, NextHops: []netstack.NextHop{hop("fd00::5")}},
			{Family: netstack.IPv4, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("10.6.0.0/16"), Protocol: 3, NextHopID: 7, NextHops: []netstack.NextHop{weighted("10.0.0.9", 2), hop("10.0.0.8")}},
			{Family: netstack.IPv6, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("fd01::/64"), Src: prefix("fd02::/64"), Protocol: 3, Metric: 1024, NextHops: []netstack.NextHop{hop("fd00::2")}},
			{Family: netstack.IPv6, Table: 254, Type: netstack.RouteUnreachable, Dst: prefix("fd04::/64"), Protocol: 3, Metric: 1024},
			{Family: netstack.IPv6, Table: 254, Type: netstack.RouteUnicast, Dst: prefix("::/0"), Protocol: 3, Metric: 1024, Pref: "high", NextHops: []netstack.NextHop{hop("fd00::fe")}},
		}
		var got []netstack.Route
		kernel := make(map[string]netstack.RouteType)
		for _, r := range n.Routes {
			if r.Protocol == 2 {
				kernel[r.Dst.String()] = r.Type
				continue
			}
			got = append(got, r)
		}
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for dst, want := range map[string]netstack.RouteType{
			"10.0.0.0/24": netstack.RouteUnicast, "10.0.0.1/32": netstack.RouteLocal, "10.0.0.255/32": netstack.RouteBroadcast,
			"fd00::1/128": netstack.RouteLocal, "ff00::/8": netstack.RouteMulticast,
		} {
			if kernel[dst] != want {
				t.Errorf("the kernel's route to %s is %q, want %q", dst, kernel[dst], want)
			}
		}
	})
	t.Run("rules", func(t *testing.T) {
		want := []netstack.Rule{
			rule(netstack.IPv4, 0, 255),
			changed(rule(netstack.IPv4, 100, 1000), func(r *netstack.Rule) {
				r.Src, r.Mark, r.Mask, r.IIF, r.OIF, r.IPProto, r.SuppressPrefixLen = prefix("10.1.2.0/24"), 0x10, 0xff, "v1", "br0", 6, 8
				r.SPort, r.DPort, r.UID = &netstack.PortRange{First: 80, Last: 80}, &netstack.PortRange{First: 100, Last: 200}, &netstack.UIDRange{Last: 1000}
			}),
			changed(rule(netstack.IPv4, 101, 0), func(r *netstack.Rule) {
				r.Invert, r.Dst, r.TOS, r.Action, r.Goto = true, prefix("10.1.0.0/16"), 0x10, netstack.RuleGoto, 200
			}),
			changed(rule(netstack.IPv4, 200, 0), func(r *netstack.Rule) { r.Action = netstack.RuleNop }),
			changed(rule(netstack.IPv4, 201, 0), func(r *netstack.Rule) { r.Action, r.Src = netstack.RuleBlackhole, prefix("9.9.9.9/32") }),
			changed(rule(netstack.IPv4, 202, 0), func(r *netstack.Rule) { r.Action, r.Mark, r.Mask = netstack.RuleUnreachable, 0x4000, 0xffffffff }),
			rule(netstack.IPv4, 32766, 254),
			rule(netstack.IPv4, 32767, 253),
			rule(netstack.IPv6, 0, 255),
			changed(rule(netstack.IPv6, 7, 5), func(r *netstack.Rule) { r.Src = prefix("fd00::/64") }),
			rule(netstack.IPv6, 32766, 254),
		}
		if diff := cmp.Diff(want, n.Rules, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("nexthops", func(t *testing.T) {
		want := []netstack.NextHopObject{
			{ID: 5, NextHop: hop("10.0.0.9")},
			{ID: 6, NextHop: hop("10.0.0.8")},
			{ID: 7, NextHop: netstack.NextHop{Weight: 1}, Group: []netstack.NextHopMember{{ID: 5, Weight: 2}, {ID: 6, Weight: 1}}},
			{ID: 8, NextHop: netstack.NextHop{Weight: 1}, Blackhole: true},
		}
		if diff := cmp.Diff(want, n.NextHops, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("labels", func(t *testing.T) {
		want := []netstack.AddrLabel{
			{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96), Label: 4},
			{Prefix: netip.MustParsePrefix("fd00:7::/64"), Dev: "v1", Label: 77},
			{Prefix: netip.MustParsePrefix("fd00:7::/64"), Label: 78},
		}
		if diff := cmp.Diff(want, n.AddrLabels, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("neighbours", func(t *testing.T) {
		want := []netstack.Neighbour{
			{Dev: "v1", IP: addr("10.0.0.77"), MAC: mac(0x77), State: netstack.NUDPermanent},
			{Dev: "v1", IP: addr("fd00::77"), MAC: mac(0x78), State: netstack.NUDPermanent},
		}
		var got []netstack.Neighbour
		for _, e := range n.Neighbours {
			if e.State == netstack.NUDPermanent { // others are what the kernel tries to find
				got = append(got, e)
			}
		}
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("forwarding database", func(t *testing.T) {
		want := []netstack.FDBEntry{
			{Dev: "v0", Master: "br0", MAC: mac(0x99), State: netstack.NUDNoARP},
			{Dev: "v0", Master: "br0", MAC: mac(0x10), State: netstack.NUDPermanent, Local: true},
			{Dev: "vx0", Dst: addr("10.0.0.99"), VNI: 43, Port: 5000, Via: "v1", State: netstack.NUDPermanent, Self: true},
		}
		got := make(map[netstack.MAC]netstack.FDBEntry)
		for _, e := range n.FDB {
			if e.VLAN == 0 && e.Dev != "br0" {
				got[e.MAC] = e
			}
		}
		for _, w := range want {
			if diff := cmp.Diff(w, got[w.MAC], values()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	})
	t.Run("sockets", func(t *testing.T) {
		want := map[string]netstack.Socket{
			"80": {Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("127.0.0.1:80"), Remote: addrPort("0.0.0.0:0")},
			"81": {Family: netstack.IPv6, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("[::]:81"), Remote: addrPort("[::]:0")},
			"82": {Family: netstack.IPv6, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("[::]:82"), Remote: addrPort("[::]:0"), V6Only: true},
			"83": {Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("0.0.0.0:83"), Remote: addrPort("0.0.0.0:0")},
			"85": {Family: netstack.IPv4, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("0.0.0.0:85"), Remote: addrPort("0.0.0.0:0"), Mark: 0x1234},
			"84": {Family: netstack.IPv6, Protocol: netstack.ProtoTCP, State: netstack.SocketListen, Local: addrPort("[::]:84"), Remote: addrPort("[::]:0"), V6Only: true},
			"53": {Family: netstack.IPv4, Protocol: netstack.ProtoUDP, State: netstack.SocketUnconnected, Local: addrPort("10.0.0.1:53"), Remote: addrPort("0.0.0.0:0"), Dev: "v1"},
		}
		for port, s := range want {
			s.Transparent = new(port == "83" || port == "84")
			want[port] = s
		}
		got := make(map[string]netstack.Socket)
		for _, s := range n.Sockets {
			if s.Inode == 0 {
				t.Errorf("socket %s has no inode", s.Local)
			}
			if s.Protocol == netstack.ProtoTCP && s.SendQ == 0 {
				t.Errorf("socket %s has an accept queue of length 0", s.Local)
			}
			s.Inode, s.SendQ = 0, 0
			got[fmt.Sprint(s.Local.Port())] = s
		}
		delete(got, "4790") // of the VXLAN, in kernels that show it
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("sysctls", func(t *testing.T) {
		for key, want := range map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.p/0.addr_gen_mode": "1"} {
			if got, ok := n.Sysctls[key]; !ok || got != want {
				t.Errorf("%s = %q, want %q", key, got, want)
			}
		}
		for key := range n.Sysctls {
			if !strings.HasPrefix(key, "net.") {
				t.Errorf("%s is kept", key)
			}
		}
	})
}

// readByHand makes a bundle of a namespace as the contract says, as soon as the
// kernel has brought up what has a carrier, and reads it.
func readByHand(t *testing.T, ns string) *netstack.Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "netns/host"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, command := range contract() {
			out := run(t, append([]string{"ip", "netns", "exec", ns}, strings.Fields(command)...)...)
			if err := os.WriteFile(filepath.Join(dir, "netns/host", file), []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		snap, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := snap.Namespaces[0]
		var settled int
		for _, l := range n.Links {
			if l.OperState == "UP" && (l.Port == nil || l.Port.State == netstack.BRStateForwarding) {
				settled++
			}
		}
		if settled == 3 {
			for part, status := range n.Parts {
				if status.State != netstack.StateOK && part != netstack.PartIPVS {
					t.Errorf("%s is %+v", part, status)
				}
			}
			return n
		}
		select {
		case <-ctx.Done():
			t.Fatalf("v0, v1 and br0 did not come up: %+v", n.Links)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// listen opens sockets in a namespace for the time of a test.
func listen(t *testing.T, ns string) {
	t.Helper()
	option := func(level, name, value int) func(string, string, syscall.RawConn) error {
		return func(_, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); e != nil {
				return e
			}
			return err
		}
	}
	bind := func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "v1") }); e != nil {
			return e
		}
		return err
	}
	done := make(chan error)
	go func() {
		// The thread stays in the namespace, and ends with the goroutine.
		runtime.LockOSThread()
		done <- func() error {
			fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return err
			}
			for _, s := range []struct {
				network, address string
				control          func(string, string, syscall.RawConn) error
			}{
				{"tcp4", "127.0.0.1:80", nil},
				{"tcp6", "[::]:81", option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)},
				{"tcp6", "[::]:82", option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)},
				{"tcp4", "0.0.0.0:83", option(unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)},
				{"tcp4", "0.0.0.0:85", option(unix.SOL_SOCKET, unix.SO_MARK, 0x1234)},
				{"tcp6", "[::]:84", option(unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1)},
			} {
				l, err := (&net.ListenConfig{Control: s.control}).Listen(t.Context(), s.network, s.address)
				if err != nil {
					return err
				}
				t.Cleanup(func() { l.Close() })
			}
			c, err := (&net.ListenConfig{Control: bind}).ListenPacket(t.Context(), "udp4", "10.0.0.1:53")
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatalf("listen in %s: %v", ns, err)
	}
}
