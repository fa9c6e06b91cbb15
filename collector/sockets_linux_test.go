package collector

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// open listens inside a namespace; control sets options before the bind.
func open(t testing.TB, ns, network, address string, options ...func(fd int) error) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) {
			for _, option := range options {
				if err = option(int(fd)); err != nil {
					return
				}
			}
		}); e != nil {
			return e
		}
		return err
	}}
	insideThread(t, ns, func() error {
		if network[:3] == "udp" {
			conn, err := config.ListenPacket(context.Background(), network, address)
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return err
		}
		listener, err := config.Listen(context.Background(), network, address)
		if err == nil {
			t.Cleanup(func() { listener.Close() })
		}
		return err
	})
}

func v6only(v int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v) }
}

func transparent(level, option int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, option, 1) }
}

func mark(value int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, value) }
}

func device(name string) func(int) error {
	return func(fd int) error { return unix.BindToDevice(fd, name) }
}

// socketsOf are the sockets of a namespace without what the kernel chose.
func socketsOf(t testing.TB, sockets []netstack.Socket) []netstack.Socket {
	t.Helper()
	sockets = slices.Clone(sockets)
	for i := range sockets {
		if sockets[i].Inode == 0 {
			t.Errorf("socket %v has no inode", sockets[i].Local)
		}
		sockets[i].Inode = 0
	}
	slices.SortFunc(sockets, func(a, b netstack.Socket) int {
		return cmp.Or(cmp.Compare(a.Local.Port(), b.Local.Port()), cmp.Compare(a.Family, b.Family))
	})
	return sockets
}

func boundInAllWays(t testing.TB) string {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 type veth peer name e1
		ip link set e0 up
		ip addr add fe80::1/64 dev e0 nodad
		sysctl -qw net.core.somaxconn=33
	`)
	open(t, ns, "tcp4", "127.0.0.1:1001")
	open(t, ns, "tcp4", "0.0.0.0:1002", mark(0x7f000001))
	open(t, ns, "tcp6", "[::]:1003", v6only(1))
	open(t, ns, "tcp6", "[::]:1004", v6only(0))
	open(t, ns, "tcp4", "0.0.0.0:1005", device("e0"))
	open(t, ns, "udp4", "127.0.0.1:1006")
	open(t, ns, "udp6", "[::1]:1007", mark(7))
	open(t, ns, "udp6", "[::]:1008", v6only(0))
	open(t, ns, "tcp4", "0.0.0.0:1009", transparent(unix.IPPROTO_IP, unix.IP_TRANSPARENT))
	open(t, ns, "tcp6", "[::]:1010", v6only(0), transparent(unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT))
	open(t, ns, "udp4", "10.0.0.9:1011", transparent(unix.IPPROTO_IP, unix.IP_TRANSPARENT)) // an address of nobody here
	insideThread(t, ns, func() error {
		conn, err := net.Dial("udp4", "127.0.0.1:1006")
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	})
	insideThread(t, ns, func() error {
		// Two connections that nobody accepts.
		for range 2 {
			conn, err := net.Dial("tcp4", "127.0.0.1:1001")
			if err != nil {
				return err
			}
			t.Cleanup(func() { conn.Close() })
		}
		return nil
	})
	return ns
}

func expectedSockets(connected netip.AddrPort) []netstack.Socket {
	ap := netip.MustParseAddrPort
	none4, none6 := ap("0.0.0.0:0"), ap("[::]:0")
	tcp, udp := netstack.ProtoTCP, netstack.ProtoUDP
	listen, unconn := netstack.SocketListen, netstack.SocketUnconnected
	list := []netstack.Socket{
		{Family: netstack.IPv4, Protocol: tcp, State: listen, Local: ap("127.0.0.1:1001"), Remote: none4, RecvQ: 2, SendQ: 33},
		{Family: netstack.IPv4, Protocol: tcp, State: listen, Local: ap("0.0.0.0:1002"), Remote: none4, SendQ: 33, Mark: 0x7f000001},
		{Family: netstack.IPv6, Protocol: tcp, State: listen, Local: ap("[::]:1003"), Remote: none6, V6Only: true, SendQ: 33},
		{Family: netstack.IPv6, Protocol: tcp, State: listen, Local: ap("[::]:1004"), Remote: none6, SendQ: 33},
		{Family: netstack.IPv4, Protocol: tcp, State: listen, Local: ap("0.0.0.0:1005"), Remote: none4, Dev: "e0", SendQ: 33},
		{Family: netstack.IPv4, Protocol: udp, State: unconn, Local: ap("127.0.0.1:1006"), Remote: none4},
		{Family: netstack.IPv6, Protocol: udp, State: unconn, Local: ap("[::1]:1007"), Remote: none6, V6Only: true, Mark: 7},
		{Family: netstack.IPv6, Protocol: udp, State: unconn, Local: ap("[::]:1008"), Remote: none6},
		{Family: netstack.IPv4, Protocol: tcp, State: listen, Local: ap("0.0.0.0:1009"), Remote: none4, SendQ: 33},
		{Family: netstack.IPv6, Protocol: tcp, State: listen, Local: ap("[::]:1010"), Remote: none6, SendQ: 33},
		{Family: netstack.IPv4, Protocol: udp, State: unconn, Local: ap("10.0.0.9:1011"), Remote: none4},
		{Family: netstack.IPv4, Protocol: udp, State: netstack.SocketEstablished, Local: connected, Remote: ap("127.0.0.1:1006")},
	}
	for i := range list {
		list[i].Transparent = new(list[i].Local.Port() >= 1009 && list[i].State != netstack.SocketEstablished)
	}
	return list
}

func TestSocketsBoundInAllWays(t *testing.T) {
	ns := boundInAllWays(t)
	var got []netstack.Socket
	eventually(t, "both connections in the accept queue", func() bool {
		got = socketsOf(t, collectNetns(t, ns, netstack.PartLinks, netstack.PartSockets).Sockets)
		return len(got) > 0 && got[0].RecvQ == 2
	})
	same(t, "sockets", expectedSockets(got[len(got)-1].Local), got)
}

// Where the diagnosis modules are not loaded, /proc/net has to do: it does not
// tell queues, devices, v6only, marks, and who is transparent.
func TestSocketsWithoutTheDiagnosisModules(t *testing.T) {
	ns := boundInAllWays(t)
	target := &target{ns: &netstack.Namespace{}, proc: "/proc"}
	insideThread(t, ns, target.socketsFromProc)
	got := socketsOf(t, target.ns.Sockets)
	want := expectedSockets(got[len(got)-1].Local)
	for i := range want {
		want[i].RecvQ, want[i].SendQ, want[i].Dev, want[i].V6Only, want[i].Transparent, want[i].Mark = 0, 0, "", false, nil, 0
	}
	same(t, "sockets", want, got)
}

// Kernels before Linux 5.10 tell no options.
func TestSocketsOfAKernelThatTellsNoOptions(t *testing.T) {
	header := make([]byte, inetDiagMsg)
	header[0], header[1] = unix.AF_INET, tcpListen
	attribute := func(typ uint16, data ...byte) []byte {
		raw, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: typ, Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		return append(slices.Clone(header), raw...)
	}
	for _, test := range []struct {
		name string
		body []byte
		want *bool
	}{
		{"no options", header, nil},
		{"other attributes", attribute(inetDiagSKV6Only, 0), nil},
		{"no option is set", attribute(inetDiagSockOpt, 0, 0), new(false)},
		{"all but it", attribute(inetDiagSockOpt, ^sockOptTransparent(), 0xff), new(false)},
		{"it alone, and a byte of a later kernel", attribute(inetDiagSockOpt, sockOptTransparent(), 0, 1), new(true)},
	} {
		s, err := new(target).decodeSocket(netstack.ProtoTCP, test.body)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		same(t, test.name, test.want, s.Transparent)
	}
	if _, err := new(target).decodeSocket(netstack.ProtoTCP, attribute(inetDiagSockOpt)); err == nil {
		t.Error("an empty attribute is taken for options")
	}
}

func TestMalformedSocketTables(t *testing.T) {
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	const rest = " 00000000:00000000 00:00000000 00000000     0        0 99 1\n"
	for name, test := range map[string]struct{ text, want string }{
		"too short":   {header + "0: 0100007F:1F90 00000000:0000\n", "line 2 has 3 fields, not 10"},
		"bad state":   {header + "0: 0100007F:1F90 00000000:0000 XY" + rest, `line 2: state "XY"`},
		"bad address": {header + "0: 01007F:1F90 00000000:0000 0A" + rest, `line 2: address "01007F:1F90"`},
		"bad port":    {header + "0: 0100007F:1F90 00000000:10000 0A" + rest, `line 2: port "00000000:10000"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseProcSockets(test.text, netstack.ProtoTCP, netstack.IPv4)
			if err == nil || err.Error() != test.want {
				t.Errorf("got error %v, want %s", err, test.want)
			}
		})
	}
	if got, err := parseProcSockets(header, netstack.ProtoTCP, netstack.IPv4); err != nil || got != nil {
		t.Errorf("empty table: got %v, %v", got, err)
	}
}

func BenchmarkCollect10000Sockets(b *testing.B) {
	ns := newNetns(b, "a")
	insideThread(b, ns, func() error {
		for port := range 10_000 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			b.Cleanup(func() { unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 10_000 + port}); err != nil {
				return err
			}
			if err := unix.Listen(fd, 1); err != nil {
				return err
			}
		}
		return nil
	})
	var sockets []netstack.Socket
	b.ReportAllocs()
	for b.Loop() {
		sockets = collectNetns(b, ns, netstack.PartLinks, netstack.PartSockets).Sockets
	}
	if len(sockets) != 10_000 {
		b.Fatalf("collected %d sockets", len(sockets))
	}
}
