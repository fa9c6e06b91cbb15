package links

import (
	"io"
	"net"
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
