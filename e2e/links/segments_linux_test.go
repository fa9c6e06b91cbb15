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
	const mtu = 1500
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
