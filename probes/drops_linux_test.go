//go:build amd64 || arm64

package probes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/probetest"
)

// family is one of the two IP versions in the lab.
type family struct {
	name     string
	iptables string
	af       int
	level    int // of socket options
	a, b     netip.Addr
	nowhere  netip.Addr // without a route on the node
	absent   netip.Addr // on b's link, owned by nobody
	any      string
}

func families() []family {
	return []family{
		{
			"IPv4", "iptables", unix.AF_INET, unix.IPPROTO_IP,
			netip.MustParseAddr("10.77.1.2"), netip.MustParseAddr("10.77.2.2"), netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("10.77.2.99"), "0.0.0.0/0",
		},
		{
			"IPv6", "ip6tables", unix.AF_INET6, unix.IPPROTO_IPV6,
			netip.MustParseAddr("fd77:1::2"), netip.MustParseAddr("fd77:2::2"), netip.MustParseAddr("fd88::1"), netip.MustParseAddr("fd77:2::99"), "::/0",
		},
	}
}

func sockaddr(ip netip.Addr, port int) unix.Sockaddr {
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
}

// datagrams are UDP packets from a pod.
type datagrams struct {
	to      netip.Addr
	from    netip.Addr // empty: the pod's own
	size    int
	options map[int]int // of the IP level
	raw     []byte      // the whole UDP packet, for a raw socket
	refused error       // what the sender is told
}

func (l *lab) send(ns string, f family, n int, d datagrams) {
	l.t.Helper()
	l.in(ns, func() {
		kind, protocol, port := unix.SOCK_DGRAM, unix.IPPROTO_UDP, 9000
		if d.raw != nil {
			kind, port = unix.SOCK_RAW, 0
		}
		fd, err := unix.Socket(f.af, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			l.t.Error(err)
			return
		}
		defer unix.Close(fd)
		for option, value := range d.options {
			if err := unix.SetsockoptInt(fd, f.level, option, value); err != nil {
				l.t.Errorf("socket option %d: %v", option, err)
			}
		}
		if d.from.IsValid() {
			if err := unix.Bind(fd, sockaddr(d.from, 0)); err != nil {
				l.t.Errorf("bind to %s: %v", d.from, err)
			}
		}
		payload := d.raw
		if payload == nil {
			payload = make([]byte, max(d.size, 1))
		}
		for range n {
			if err := unix.Sendto(fd, payload, 0, sockaddr(d.to, port)); !errors.Is(err, d.refused) {
				l.t.Errorf("send to %s: %v, want %v", d.to, err, d.refused)
			}
		}
	})
}

// listen opens a UDP socket that nobody reads, until the test ends.
func (l *lab) listen(ns string, f family, receiveBuffer int) int {
	l.t.Helper()
	var fd int
	l.in(ns, func() {
		var err error
		if fd, err = unix.Socket(f.af, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			l.t.Error(err)
			return
		}
		address := netip.IPv4Unspecified()
		if f.af == unix.AF_INET6 {
			address = netip.IPv6Unspecified()
		}
		if err := unix.Bind(fd, sockaddr(address, 9000)); err != nil {
			l.t.Error(err)
		}
		if receiveBuffer > 0 {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
				l.t.Error(err)
			}
		}
	})
	l.opened = append(l.opened, fd)
	return fd
}

// Each fault is made in a lab of its own, hit by an exact number of packets, and must show as exactly that many drops.
func TestEachFaultShowsAsItsReason(t *testing.T) {
	const n = 7
	for _, c := range []struct {
		fault string
		make  func(l *lab, f family) datagrams // what to send from a
		at    string                           // the namespace that drops
		v4    string                           // the reason, empty: does not exist in this family
		v6    string
	}{
		{"netfilter drops in INPUT", func(l *lab, f family) datagrams {
			l.listen("b", f, 0)
			l.exec("b", "%s -A INPUT -p udp --dport 9000 -j DROP", f.iptables)
			return datagrams{to: f.b}
		}, "b", "NETFILTER_DROP", "NETFILTER_DROP"},
		{"netfilter drops in FORWARD", func(l *lab, f family) datagrams {
			l.exec("r", "%s -A FORWARD -p udp --dport 9000 -j DROP", f.iptables)
			return datagrams{to: f.b}
		}, "r", "NETFILTER_DROP", "NETFILTER_DROP"},
		{"netfilter rejects in FORWARD", func(l *lab, f family) datagrams {
			l.exec("r", "%s -A FORWARD -p udp --dport 9000 -j REJECT", f.iptables)
			return datagrams{to: f.b}
		}, "r", "NETFILTER_DROP", "NETFILTER_DROP"},
		{"netfilter drops in OUTPUT", func(l *lab, f family) datagrams {
			l.exec("a", "%s -A OUTPUT -p udp --dport 9000 -j DROP", f.iptables)
			return datagrams{to: f.b, refused: unix.EPERM}
		}, "a", "NETFILTER_DROP", "NETFILTER_DROP"},
		{"netfilter drops behind an extension header", func(l *lab, f family) datagrams {
			l.exec("r", "%s -A FORWARD -i toa -o tob -j DROP", f.iptables)
			// Fragments: a fragment header stands before UDP. Three to a datagram make the count 7, with one small one.
			l.exec("a", "ip link set eth0 mtu 1280")
			l.send("a", f, 2, datagrams{to: f.b, size: 3000})
			return datagrams{to: f.b}
		}, "r", "", "NETFILTER_DROP"},
		{"no socket listens", func(_ *lab, f family) datagrams {
			return datagrams{to: f.b}
		}, "b", "NO_SOCKET", "NO_SOCKET"},
		{"the reverse path filter refuses the source", func(l *lab, f family) datagrams {
			l.sysctl("r", "net.ipv4.conf.toa.rp_filter", "1")
			l.ip("a", "addr add 10.99.0.1/32 dev lo")
			l.ip("r", "route add 10.99.0.0/24 dev tob")
			return datagrams{to: f.b, from: netip.MustParseAddr("10.99.0.1")}
		}, "r", "IP_RPFILTER", ""},
		{"the node has no route", func(_ *lab, f family) datagrams {
			return datagrams{to: f.nowhere}
		}, "r", "IP_INNOROUTES", "IP_INNOROUTES"},
		{"the node has a blackhole route", func(l *lab, f family) datagrams {
			l.ip("r", "route add blackhole %s/%d", f.nowhere, f.nowhere.BitLen())
			return datagrams{to: f.nowhere}
		}, "r", "NOT_SPECIFIED", "NOT_SPECIFIED"},
		{"the time to live ends", func(_ *lab, f family) datagrams {
			option := unix.IP_TTL
			if f.af == unix.AF_INET6 {
				option = unix.IPV6_UNICAST_HOPS
			}
			return datagrams{to: f.b, options: map[int]int{option: 1}}
		}, "r", "IP_INHDR", "IP_INHDR"},
		{"the packet is too big and must not be fragmented", func(l *lab, f family) datagrams {
			l.ip("r", "link set tob mtu 1280")
			// Probing ignores the path MTU that the node reports back, so that every packet is sent.
			option, value := unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
			if f.af == unix.AF_INET6 {
				option, value = unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
			}
			return datagrams{to: f.b, size: 1400, options: map[int]int{option: value}}
		}, "r", "PKT_TOO_BIG", "PKT_TOO_BIG"},
		{"nobody owns the address", func(l *lab, f family) datagrams {
			// The packets wait in the neighbour's queue until resolution is given up.
			l.sysctl("r", fmt.Sprintf("net.%s.neigh.tob.retrans_time_ms", strings.ToLower(f.name)), "300")
			return datagrams{to: f.absent}
		}, "r", "NEIGH_FAILED", "NOT_SPECIFIED"},
		{"the checksum is wrong", func(l *lab, f family) datagrams {
			l.listen("b", f, 0)
			raw := binary.BigEndian.AppendUint16(nil, 9001)
			raw = binary.BigEndian.AppendUint16(raw, 9000)
			raw = binary.BigEndian.AppendUint16(raw, 9) // the length
			return datagrams{to: f.b, raw: append(raw, 0xba, 0xad, 'x')}
		}, "b", "UDP_CSUM", "UDP_CSUM"},
		{"a full queue", func(l *lab, f family) datagrams {
			l.exec("r", "tc qdisc replace dev tob root blackhole")
			return datagrams{to: f.b}
		}, "r", "QDISC_DROP", "QDISC_DROP"},
	} {
		for _, f := range families() {
			reason := c.v4
			if f.af == unix.AF_INET6 {
				reason = c.v6
			}
			if reason == "" {
				continue
			}
			t.Run(c.fault+"/"+f.name, func(t *testing.T) {
				probetest.Measure(t, func() error {
					l := newLab(t)
					w := l.open(Options{Attributor: l.namespaces()})
					l.send("a", f, 1, datagrams{to: f.a.Prev(), size: 1}) // to the node, where nobody listens: the probe works
					if err := w.awaitDrops("udp", map[string]uint64{"r udp NO_SOCKET": 1}); err != nil {
						return err
					}
					w.start("udp")

					d := c.make(l, f)
					already := total(w.drops("udp"))
					l.send("a", f, n-int(already), d)
					return w.awaitDrops("udp", map[string]uint64{c.at + " udp " + reason: n})
				})
			})
		}
	}
}

func TestAFullReceiveBufferDropsWhatIsNotReceived(t *testing.T) {
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			const n = 200
			l := newLab(t)
			w := l.open(Options{Attributor: l.namespaces()})
			fd := l.listen("b", f, 4096)
			l.send("a", f, n, datagrams{to: f.b, size: 1000})

			var received uint64
			eventually(t, func() bool {
				for buffer := make([]byte, 2000); ; received++ {
					if _, err := unix.Read(fd, buffer); err != nil {
						break
					}
				}
				return received+total(w.drops("udp")) >= n
			}, func() string { return fmt.Sprintf("received %d, drops %v", received, w.drops("udp")) })
			if received == 0 || received == n {
				t.Fatalf("received %d of %d, want some", received, n)
			}
			w.wantDrops("udp", map[string]uint64{"b udp SOCKET_RCVBUFF": n - received})
		})
	}
}

// A free that loses nothing must not be counted. That there was one is seen by a second set of probes, which does not tell the difference.
func TestHarmlessFreesAreNoDrops(t *testing.T) {
	const n = 20
	for _, c := range []struct {
		name string
		free func(l *lab, f family)
		seen string // what the second set of probes counts
		n    uint64
	}{
		{"unread data of a closed UDP socket", func(l *lab, f family) {
			fd := l.listen("b", f, 0)
			l.send("a", f, n, datagrams{to: f.b})
			l.close(fd)
		}, " udp NOT_SPECIFIED", n}, // without a pod: UDP overwrites the device of queued packets
		{"unread data of a closed raw socket", func(l *lab, f family) {
			l.listen("b", f, 0)
			fd := -1
			l.in("b", func() {
				var err error
				if fd, err = unix.Socket(f.af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP); err != nil {
					l.t.Error(err)
				}
			})
			l.send("a", f, n, datagrams{to: f.b})
			l.close(fd)
		}, "b udp QUEUE_PURGE", n},
		{"what a deleted queueing discipline held", func(l *lab, f family) {
			l.listen("b", f, 0)
			l.exec("r", "tc qdisc replace dev tob root tbf rate 8kbit burst 2000 limit 100000")
			l.send("a", f, n, datagrams{to: f.b, size: 1000})
			l.exec("r", "tc qdisc del dev tob root")
		}, "r udp NOT_SPECIFIED", 1}, // how many are still held depends on time
		{"a multicast group that nobody joined", func(l *lab, f family) {
			group := netip.MustParseAddr("ff02::77:1234")
			l.ip("a", "-6 route add ff02::77:1234/128 dev eth0 table local")
			l.send("a", f, n, datagrams{to: group})
		}, "r udp NOT_SPECIFIED", n},
	} {
		for _, f := range families() {
			if f.af == unix.AF_INET && strings.Contains(c.name, "multicast") {
				continue // counted: IPv4 gives a reason for it
			}
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				l := newLab(t)
				w := l.open(Options{Attributor: l.namespaces()})
				control := l.open(Options{Attributor: l.namespaces(), keepNoise: true})
				c.free(l, f)
				eventually(t, func() bool { return control.all(dropsMetric)[c.seen] >= c.n }, func() string {
					return fmt.Sprintf("want %q %d in %v", c.seen, c.n, control.all(dropsMetric))
				})
				w.wantDrops("udp", map[string]uint64{})
				if got := w.all(dropsMetric)[c.seen]; got != 0 {
					t.Errorf("%d drops %q, want none", got, c.seen)
				}
				l.exec("r", "%s -A FORWARD -p udp -j DROP", f.iptables)
				l.send("a", f, 3, datagrams{to: f.b}) // the probe works
				w.wantDrops("udp", map[string]uint64{"r udp NETFILTER_DROP": 3})
			})
		}
	}
}

func (l *lab) close(fd int) {
	l.t.Helper()
	l.opened = slices.DeleteFunc(l.opened, func(open int) bool { return open == fd })
	if err := unix.Close(fd); err != nil {
		l.t.Error(err)
	}
}

// A node drops in its own namespace; the interface says for which pod.
func TestDropsOfANodeAreThoseOfThePodAtItsInterface(t *testing.T) {
	for _, c := range []struct {
		name  string
		leads map[string]string // interfaces of the node that lead to a pod
		want  string
	}{
		{"the sender is known", map[string]string{"toa": "web"}, "web udp NETFILTER_DROP"},
		{"the receiver is known", map[string]string{"tob": "api"}, "api udp NETFILTER_DROP"},
		{"both are known", map[string]string{"toa": "web", "tob": "api"}, "web udp NETFILTER_DROP"},
		{"neither is known", nil, " udp NETFILTER_DROP"},
	} {
		for _, f := range families() {
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				l := newLab(t)
				p := pods{{cookie: l.cookies["r"]}: ""}
				for dev, pod := range c.leads {
					p[place{cookie: l.cookies["r"], in: l.ifindex("r", dev)}] = pod
				}
				w := l.open(Options{Attributor: p})
				l.exec("r", "%s -A FORWARD -p udp --dport 9000 -j DROP", f.iptables)
				l.send("a", f, 5, datagrams{to: f.b})
				var got uint64
				eventually(t, func() bool { got = w.all(dropsMetric)[c.want]; return got >= 5 }, func() string { return fmt.Sprint(w.all(dropsMetric)) })
				if got != 5 {
					t.Errorf("%d drops %q, want 5", got, c.want)
				}
			})
		}
	}
}

func (l *lab) ifindex(ns, dev string) uint32 {
	l.t.Helper()
	var index uint32
	l.in(ns, func() {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			l.t.Error(err)
			return
		}
		index = uint32(link.Index)
	})
	return index
}
