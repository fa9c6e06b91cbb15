package links

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestSegmentsThatDevicesCutUp has a port of a bridge with a smaller MTU than the stations, whose devices cut up what TCP
// sends (GSO): a bridge and a veth pass what is to be cut up, whatever their MTU, and lose the full-size segment that comes
// alone (is_skb_forwardable). That is what a report says of full-size segments.
func TestSegmentsThatDevicesCutUp(t *testing.T) {
	w := newWorld(t, "sg", "a", "b", "c", "n")
	w.apply(onBridge+"n ip link set pb mtu 1300", []netstack.Family{netstack.IPv4})
	w.settle()
	query := verdict.Query{From: "ns:" + w.netns("a"), To: "10.9.0.2", Port: 80, Protocol: verdict.TCP}
	report := against.Diagnose(t, against.Compile(t, w.collect()), query)
	if report.Verdict != verdict.Degraded || report.Reason() != verdict.MTUExceeded {
		t.Errorf("%s, %s, want %s, %s", report.Verdict, report.Reason(), verdict.Degraded, verdict.MTUExceeded)
	}
	const segment = 1500 - 20 - 20 - 12 // headers, and timestamps
	for _, test := range []struct {
		bytes    int
		arrives  bool
		patience time.Duration
	}{{segment, false, timeout}, {10 * segment, true, time.Minute}} {
		if arrives := w.sends("a", "b", "10.9.0.2:81", test.bytes, test.patience); arrives != test.arrives {
			t.Errorf("%d bytes arrive %v, want %v", test.bytes, arrives, test.arrives)
		}
	}
}

// sends says whether so many bytes, which are written at once, come to a listener.
func (w *world) sends(from, to, address string, size int, patience time.Duration) (arrive bool) {
	w.t.Helper()
	var listener net.Listener
	err := lab.InNetns(w.netns(to), func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer listener.Close()
	err = lab.InNetns(w.netns(from), func() error {
		client, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			return err
		}
		defer server.Close()
		if _, err := client.Write(make([]byte, size)); err != nil {
			return err
		}
		if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, err = io.ReadFull(server, make([]byte, size))
		arrive = err == nil
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return arrive
}

// TestSegmentsThatAreSentAtOnce has rules of the sender that look at the length of packets. They meet what TCP sends at
// once as one packet, and a single segment by itself: where both do not fare alike, a report says so.
func TestSegmentsThatAreSentAtOnce(t *testing.T) {
	iptables := func(name, match string) string {
		return "a " + name + " -A OUTPUT -p tcp " + match + " -j CONNMARK --set-mark 1\n" +
			"a " + name + " -A OUTPUT -p tcp -m connmark --mark 1 -j DROP"
	}
	nft := func(match string) string {
		return "a nft add table inet t\n" +
			"a nft add chain inet t out { type filter hook output priority 0; }\n" +
			"a nft add rule inet t out meta l4proto tcp " + match + " ct mark set 1\n" +
			"a nft add rule inet t out ct mark 1 drop"
	}
	const mtu, single = 1500, "\na ip link set eth0 gso_max_segs 1"
	for _, test := range []struct {
		name, rules string
		family      netstack.Family
		arrives     [2]bool // one segment, and ten
		verdict     verdict.Verdict
		reason      verdict.Code
	}{
		{"longer than the MTU", iptables("iptables", "-m length --length 1501:65535"), netstack.IPv4, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
		{"longer than the MTU, IPv6", iptables("ip6tables", "-m length ! --length 0:1500"), netstack.IPv6, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
		{"longer than the MTU, by the header", iptables("iptables", "-m u32 --u32 0&0xFFFF=1501:65535"), netstack.IPv4, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
		{"longer than the MTU, of nftables", nft("meta length > 1500"), netstack.IPv4, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
		{"longer than the MTU, by the header and nftables", nft("ip length > 1500"), netstack.IPv4, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
		{"as long as the MTU", iptables("iptables", "-m length --length 1500"), netstack.IPv4, [2]bool{false, true}, verdict.Unknown, verdict.UnmodelledRule},
		{"long", iptables("iptables", "-m length --length 1000:65535"), netstack.IPv4, [2]bool{false, false}, verdict.Degraded, verdict.NetfilterDrop},
		{"long, by the header", iptables("iptables", "-m u32 --u32 0&0xFFFF=1000:65535"), netstack.IPv4, [2]bool{false, false}, verdict.Degraded, verdict.NetfilterDrop},
		{"long, IPv6 and nftables", nft("ip6 length >= 1000"), netstack.IPv6, [2]bool{false, false}, verdict.Degraded, verdict.NetfilterDrop},
		{"short of an acknowledgement", iptables("iptables", "-m length --length 0:39"), netstack.IPv4, [2]bool{true, true}, verdict.Reachable, ""},
		{"short of an acknowledgement, of nftables", nft("meta length < 40"), netstack.IPv4, [2]bool{true, true}, verdict.Reachable, ""},
		{"longer than the MTU, one at a time", iptables("iptables", "-m length --length 1501:65535") + single, netstack.IPv4, [2]bool{true, true}, verdict.Reachable, ""},
		{"longer than the MTU, one at a time, IPv6 and nftables", nft("meta length > 1500") + single, netstack.IPv6, [2]bool{true, true}, verdict.Reachable, ""},
		{"as long as the MTU, one at a time", iptables("iptables", "-m length --length 1500") + single, netstack.IPv4, [2]bool{false, false}, verdict.Degraded, verdict.NetfilterDrop},
		{"longer than the MTU at the other end, one at a time", "b iptables -A INPUT -p tcp -m length --length 1501:65535 -j DROP" + single, netstack.IPv4, [2]bool{true, true}, verdict.Reachable, ""},
		{"longer than the MTU, one at a time of another device", iptables("iptables", "-m length --length 1501:65535") + strings.ReplaceAll(single, "eth0", "lo"), netstack.IPv4, [2]bool{true, false}, verdict.Unknown, verdict.UnmodelledRule},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "so", "a", "b", "c", "n")
			w.apply(onBridge+test.rules, []netstack.Family{test.family})
			w.settle()
			to, segment := "10.9.0.2", mtu-20-20-12 // headers, and timestamps
			if test.family == netstack.IPv6 {
				to, segment = "fd00:9:0::2", mtu-40-20-12
			}
			report := against.Diagnose(t, against.Compile(t, w.collect()), verdict.Query{From: "ns:" + w.netns("a"), To: to, Port: 80, Protocol: verdict.TCP})
			if report.Verdict != test.verdict || report.Reason() != test.reason {
				t.Errorf("%s, %s, want %s, %s", report.Verdict, report.Reason(), test.verdict, test.reason)
			}
			if test.reason == verdict.UnmodelledRule && !strings.Contains(report.Paths[0].Findings[0].Message, "segments that are sent at once") {
				t.Errorf("it says %q", report.Paths[0].Findings[0].Message)
			}
			for i, size := range []int{segment, 10 * segment} {
				patience := timeout
				if test.arrives[i] {
					patience = time.Minute
				}
				if arrives := w.sends("a", "b", net.JoinHostPort(to, "81"), size, patience); arrives != test.arrives[i] {
					t.Errorf("%d bytes arrive %v, want %v", size, arrives, test.arrives[i])
				}
			}
		})
	}
}

// TestSegmentsThatTunnelsPutTogether sends segments one at a time into a tunnel. The device at its other end may put them
// together again (gro_cells_receive), and does not have to: a rule that would tell leaves it open.
func TestSegmentsThatTunnelsPutTogether(t *testing.T) {
	w := newWorld(t, "sv", "a", "b")
	w.apply(`
		wire a:eth0 b:eth0
		addr a:eth0 1.1
		addr b:eth0 1.2
		a ip link add t0 mtu 1450 gso_max_segs 1 type vxlan id 7 dstport 4789 local 10.9.1.1 remote 10.9.1.2
		b ip link add t0 mtu 1450 type vxlan id 7 dstport 4789 local 10.9.1.2 remote 10.9.1.1
		a ip link set t0 up
		b ip link set t0 up
		addr a:t0 2.1
		addr b:t0 2.2
		a iptables -A OUTPUT -p tcp -m length --length 1451:65535 -j DROP
		b iptables -A INPUT -p tcp -m length --length 1451:65535 -j DROP`, []netstack.Family{netstack.IPv4})
	w.settle()
	report := against.Diagnose(t, against.Compile(t, w.collect()), verdict.Query{From: "ns:" + w.netns("a"), To: "10.9.2.2", Port: 80, Protocol: verdict.TCP})
	if report.Verdict != verdict.Unknown || report.Reason() != verdict.UnmodelledRule {
		t.Fatalf("%s, %s, want %s, %s", report.Verdict, report.Reason(), verdict.Unknown, verdict.UnmodelledRule)
	}
	if at := report.Paths[0].Findings[0].Where.Namespace; at != w.netns("b") {
		t.Errorf("it is open in %s, want the end of the tunnel", at)
	}
	if !w.sends("a", "b", "10.9.2.2:81", 10*1398, time.Minute) {
		t.Error("what is sent one at a time does not pass the sender's rule")
	}
}

// TestSegmentsThatAreRoutedAgain has a rule that routes what a is about to send to b by another device. How much TCP sends
// at once is still up to the device of the socket's own route (sk_setup_caps).
func TestSegmentsThatAreRoutedAgain(t *testing.T) {
	for _, test := range []struct {
		single  string // device that takes one segment at a time
		arrives bool   // what is ten segments long
		verdict verdict.Verdict
		reason  verdict.Code
	}{
		{"eth0", true, verdict.Reachable, ""},
		{"eth1", false, verdict.Unknown, verdict.UnmodelledRule},
	} {
		t.Run(test.single, func(t *testing.T) {
			w := newWorld(t, "sr", "a", "b")
			w.apply(`
				wire a:eth0 b:eth0
				wire a:eth1 b:eth1
				addr a:eth0 1.1
				addr b:eth0 1.2
				addr a:eth1 2.1
				addr b:eth1 2.2
				b ip addr add 10.9.9.9/32 dev lo
				a ip route add 10.9.9.9 via 10.9.1.2
				a ip route add 10.9.9.9 via 10.9.2.2 table 9
				a ip rule add fwmark 9 table 9
				a iptables -t mangle -A OUTPUT -p tcp -d 10.9.9.9 -j MARK --set-mark 9
				a iptables -A OUTPUT -p tcp -m length --length 1501:65535 -j CONNMARK --set-mark 1
				a iptables -A OUTPUT -p tcp -m connmark --mark 1 -j DROP
				a ip link set `+test.single+` gso_max_segs 1`, []netstack.Family{netstack.IPv4})
			w.settle()
			report := against.Diagnose(t, against.Compile(t, w.collect()), verdict.Query{From: "ns:" + w.netns("a"), To: "10.9.9.9", Port: 80, Protocol: verdict.TCP})
			if report.Verdict != test.verdict || report.Reason() != test.reason {
				t.Errorf("%s, %s, want %s, %s", report.Verdict, report.Reason(), test.verdict, test.reason)
			}
			patience := timeout
			if test.arrives {
				patience = time.Minute
			}
			if arrives := w.sends("a", "b", "10.9.9.9:81", 10*1448, patience); arrives != test.arrives {
				t.Errorf("ten segments arrive %v, want %v", arrives, test.arrives)
			}
		})
	}
}
