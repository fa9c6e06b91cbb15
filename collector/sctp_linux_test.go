package collector

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestSCTPEndpointsThatListen(t *testing.T) {
	t.Parallel()
	sockets, err := parseSCTPEndpoints(` ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
       0        0 2   10  29   3868      0 12345 10.0.0.1 192.168.1.1 
       0        0 0   7   30   3869      0 12346 0.0.0.0 
       0        0 2   10  31   36412  1000 12347 0000:0000:0000:0000:0000:0000:0000:0000 
`)
	if err != nil {
		t.Fatal(err)
	}
	any4, any6 := netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("[::]:0")
	listens := func(f netstack.Family, at string, remote netip.AddrPort, uid uint32, inode uint64) netstack.Socket {
		return netstack.Socket{
			Family: f, Protocol: netstack.ProtoSCTP, State: netstack.SocketListen, Local: netip.MustParseAddrPort(at), Remote: remote, UID: uid, Inode: inode,
		}
	}
	want := []netstack.Socket{
		listens(netstack.IPv4, "10.0.0.1:3868", any4, 0, 12345),
		listens(netstack.IPv4, "192.168.1.1:3868", any4, 0, 12345),
		listens(netstack.IPv6, "[::]:36412", any6, 1000, 12347),
	}
	if !slices.Equal(sockets, want) {
		t.Errorf("got %+v\nwant %+v", sockets, want)
	}
	for _, bad := range []string{"header\n1 2 3", "header\n0 0 2 10 29 x 0 1 10.0.0.1", "header\n0 0 2 10 29 1 0 1 nowhere"} {
		if _, err := parseSCTPEndpoints(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestRawSocketsThatTakeSCTP(t *testing.T) {
	ns := newNetns(t, "sctp-raw")
	for _, network := range []string{"ip4:132", "ip6:132", "ip4:1"} {
		insideThread(t, ns, func() error {
			c, err := net.ListenPacket(network, "")
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			return err
		})
	}
	target := &target{proc: "/proc", ns: &netstack.Namespace{}}
	insideThread(t, ns, target.readSCTPSockets)
	var got []string
	for _, s := range target.ns.Sockets {
		got = append(got, netstack.ProtocolName(s.Protocol)+" "+string(s.State)+" "+s.Local.String())
	}
	if want := []string{"raw unconn 0.0.0.0:132", "raw unconn [::]:132"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEndpointsOfTheKernelsSCTP needs a kernel that speaks it: the virtual machine's does.
func TestEndpointsOfTheKernelsSCTP(t *testing.T) {
	ns := newNetns(t, "sctp-kernel")
	open := func(domain, kind int, at unix.Sockaddr, listens bool) error {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, at); err != nil || !listens {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, 8))
	}
	missing := false
	insideThread(t, ns, func() error {
		err := errors.Join(
			open(unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Port: 3868, Addr: [4]byte{127, 0, 0, 1}}, true),
			open(unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Port: 3869}, false),
			open(unix.AF_INET6, unix.SOCK_SEQPACKET, &unix.SockaddrInet6{Port: 3870}, true))
		if missing = errors.Is(err, unix.EPROTONOSUPPORT); missing {
			return nil
		}
		return err
	})
	if missing {
		t.Skip("this kernel lacks SCTP")
	}
	collected := collectNetns(t, ns, netstack.PartLinks, netstack.PartSockets, netstack.PartSysctls)
	var got []string
	for _, s := range collected.Sockets {
		got = append(got, netstack.ProtocolName(s.Protocol)+" "+string(s.State)+" "+s.Local.String())
	}
	slices.Sort(got)
	if want := []string{"sctp listen 127.0.0.1:3868", "sctp listen [::]:3870"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, known := collected.Sysctl("net.sctp.rto_initial"); !known {
		t.Error("net.sctp.rto_initial was not collected")
	}
}
