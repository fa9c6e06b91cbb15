//go:build amd64 || arm64

package probes

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/internal/probetest"
)

// The kernel's own counters of the namespace are the judge: TcpRetransSegs counts data, SYN and SYN-ACK together, and each segment of a large
// buffer; TCPSynRetrans those of them that are a SYN or SYN-ACK.
func TestRetransmitsAreThoseOfTheNamespacesOwnCounter(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name string
		lose func(l *lab, f family)
		want string // the kind and pod that must retransmit
	}{
		{"data is lost", func(l *lab, f family) {
			l.exec("r", "%s -A FORWARD -i toa -p tcp -m length --length 1000:65535 -m statistic --mode nth --every 9 --packet 3 -j DROP", f.iptables)
		}, "data a"},
		{"single segments of data are lost", func(l *lab, f family) {
			l.exec("a", "ip link set eth0 gso_max_segs 1")
			l.exec("r", "%s -A FORWARD -i toa -p tcp -m length --length 1000:65535 -m statistic --mode nth --every 50 --packet 20 -j DROP", f.iptables)
		}, "data a"},
		{"the first SYN is lost", func(l *lab, f family) {
			l.exec("r", "%s -A FORWARD -i toa -p tcp --syn -m statistic --mode nth --every 1000 --packet 0 -j DROP", f.iptables)
		}, "syn a"},
		{"the SYN-ACKs are late", func(l *lab, f family) {
			// The first two SYN-ACKs: the client repeats its SYN as well, which the server answers with another SYN-ACK.
			l.exec("r", "%s -A FORWARD -i tob -p tcp --tcp-flags SYN,ACK SYN,ACK -m statistic --mode nth --every 1000 --packet 0 -j DROP", f.iptables)
			// So that the server repeats it by its own clock only.
			l.exec("r", "%s -A FORWARD -i toa -p tcp --syn -m statistic --mode nth --every 1000 --packet 1 -j DROP", f.iptables)
		}, "synack b"},
	} {
		for _, f := range families() {
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				t.Parallel() // the kernel waits a second before it repeats a SYN
				probetest.Measure(t, func() error {
					l := newLab(t)
					w := l.open(Options{Attributor: l.namespaces()})
					c.lose(l, f)
					l.transfer(f, size)

					// A busy machine may repeat more than what was lost: the counters of the kernel say what, not the fault.
					var got, judge map[string]uint64
					err := await(func() bool {
						got, judge = w.retransmits(), l.judge()
						return judge[c.want] > 0 && maps.Equal(got, judge)
					}, func() string { return fmt.Sprintf("retransmits %v, kernel %v, want some %q", got, judge, c.want) })
					return errors.Join(err, probetest.Compare(got, judge))
				})
			})
		}
	}
}

// judge returns what the kernel's counters of a and b say, as "kind pod". Only a opens connections, so that only b answers any.
func (l *lab) judge() map[string]uint64 {
	counts := map[string]uint64{}
	for pod, handshake := range map[string]string{"a": "syn", "b": "synack"} {
		all, synOrSynack := l.counter(pod, "snmp", "Tcp:", "RetransSegs"), l.counter(pod, "netstat", "TcpExt:", "TCPSynRetrans")
		counts[handshake+" "+pod] = synOrSynack
		counts["data "+pod] = all - synOrSynack
	}
	maps.DeleteFunc(counts, func(_ string, n uint64) bool { return n == 0 })
	return counts
}

// transfer sends bytes from a to b over TCP and waits until all have arrived and both ends are closed.
func (l *lab) transfer(f family, size int64) {
	l.t.Helper()
	at := netip.AddrPortFrom(f.b, 9000).String()
	var listener net.Listener
	l.in("b", func() {
		var err error
		if listener, err = net.Listen("tcp", at); err != nil {
			l.t.Error(err)
		}
	})
	defer listener.Close()
	received := make(chan int64)
	go func() {
		var n int64
		conn, err := listener.Accept()
		if err == nil {
			n, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
		received <- n
	}()
	l.in("a", func() {
		conn, err := net.DialTimeout("tcp", at, deadline)
		if err != nil {
			l.t.Error(err)
			return
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
			l.t.Error(err)
		}
		if n, err := io.Copy(conn, io.LimitReader(zeros{}, size)); err != nil || n != size {
			l.t.Errorf("sent %d of %d: %v", n, size, err)
		}
	})
	select {
	case n := <-received:
		if n != size {
			l.t.Errorf("received %d bytes of %d", n, size)
		}
	case <-time.After(deadline):
		l.t.Error("the transfer did not end")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// retransmits returns the counts of the lab's pods, as "kind pod".
func (w *watch) retransmits() map[string]uint64 {
	w.t.Helper()
	counts := w.all(retransmitsMetric)
	maps.DeleteFunc(counts, func(key string, _ uint64) bool {
		return strings.HasSuffix(key, " ") || strings.HasSuffix(key, " elsewhere")
	})
	return counts
}

// counter reads a value of /proc/net/FILE in a namespace: one line of names, one of values, each after a prefix.
func (l *lab) counter(ns, file, prefix, name string) uint64 {
	l.t.Helper()
	var n uint64
	l.in(ns, func() {
		text, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			l.t.Error(err)
			return
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if fields[0] != prefix {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			if n, err = strconv.ParseUint(fields[slices.Index(names, name)], 10, 64); err != nil {
				l.t.Error(err)
			}
		}
	})
	return n
}
