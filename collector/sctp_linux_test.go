package collector

import (
	"net"
	"net/netip"
	"slices"
	"testing"

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
