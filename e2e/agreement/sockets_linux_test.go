package agreement

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// inside runs fn on a thread of its own in the namespace of a place of the lab.
func inside(t *testing.T, l *lab.Lab, place string, fn func() error) {
	t.Helper()
	where, err := l.ParseEndpoint(place)
	if err != nil {
		t.Fatal(err)
	}
	name, err := l.Netns(where)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- func() error {
			home, err := netns.Get()
			if err != nil {
				return err
			}
			defer home.Close()
			ns, err := netns.GetFromName(name)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := netns.Set(ns); err != nil {
				return err
			}
			return errors.Join(fn(), netns.Set(home))
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// listener is a socket that listens and never accepts.
type listener struct {
	addr    string // in the words of netip
	port    uint16
	options func(fd int) error
	backlog int
}

func (s listener) open(t *testing.T) error {
	addr, err := netip.ParseAddr(s.addr)
	if err != nil {
		return err
	}
	domain := unix.AF_INET6
	if addr.Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if s.options != nil {
		if err := s.options(fd); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, socketAddress(netip.AddrPortFrom(addr, s.port))); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, s.backlog))
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func onlyIPv6(value int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, value) }
}

func onDevice(dev string) func(int) error {
	return func(fd int) error { return unix.BindToDevice(fd, dev) }
}

// TestSocketsTakeConnectionsAsTheKernelLetsThem opens sockets that listen in
// every way, and asks whether the handshake with them succeeds.
func TestSocketsTakeConnectionsAsTheKernelLetsThem(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "sockets", nil)
	pod, err := l.Spec.Pod(far)
	if err != nil {
		t.Fatal(err)
	}
	four, six := pod.Addresses[0], pod.Addresses[1]
	for _, test := range []struct {
		name      string
		sock      listener
		four, six verdict.Code // empty: it takes the connection
		occupants int          // connections that wait to be accepted
	}{
		{name: "all IPv4 addresses", sock: listener{addr: "0.0.0.0", port: 7001, backlog: 8}, six: verdict.NoListener},
		{name: "all addresses of both families", sock: listener{addr: "::", port: 7002, options: onlyIPv6(0), backlog: 8}},
		{name: "all IPv6 addresses and those only", sock: listener{addr: "::", port: 7003, options: onlyIPv6(1), backlog: 8}, four: verdict.NoListener},
		{name: "the IPv4 address", sock: listener{addr: four.String(), port: 7004, backlog: 8}, six: verdict.NoListener},
		{name: "the IPv4 address in an IPv6 socket", sock: listener{addr: "::ffff:" + four.String(), port: 7005, options: onlyIPv6(0), backlog: 8}, six: verdict.NoListener},
		{name: "the IPv6 address", sock: listener{addr: six.String(), port: 7006, backlog: 8}, four: verdict.NoListener},
		{name: "the loopback address", sock: listener{addr: "127.0.0.1", port: 7007, backlog: 8}, four: verdict.NoListener, six: verdict.NoListener},
		{name: "the interface", sock: listener{addr: "::", port: 7008, options: onDevice("eth0"), backlog: 8}},
		{name: "another interface", sock: listener{addr: "::", port: 7009, options: onDevice("lo"), backlog: 8}, four: verdict.NoListener, six: verdict.NoListener},
		{name: "a full accept queue", sock: listener{addr: "::", port: 7010, backlog: 1}, occupants: 2, four: verdict.AcceptQueueFull, six: verdict.AcceptQueueFull},
		{name: "an accept queue with one place left", sock: listener{addr: "::", port: 7011, backlog: 2}, occupants: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			inside(t, l, far, func() error { return test.sock.open(t) })
			for range test.occupants {
				inside(t, l, web, func() error { return occupy(t, netip.AddrPortFrom(four, test.sock.port)) })
			}
			world := against.Compile(t, collect(t, l))
			for _, try := range []struct {
				to   netip.Addr
				want verdict.Code
			}{{four, test.four}, {six, test.six}} {
				r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: try.to.String(), Port: test.sock.port, Protocol: verdict.TCP})
				outcome := handshake(t, l, web, netip.AddrPortFrom(try.to, test.sock.port))
				if len(r.Paths) != 1 {
					t.Fatalf("%d paths: %v", len(r.Paths), r.Reasons)
				}
				if got := string(r.Paths[0].Outcome); got != outcome {
					t.Errorf("%s: simulated %s, the kernel made it %s", try.to, got, outcome)
				}
				if r.Reason() != try.want {
					t.Errorf("%s: reason %q, want %q: %v", try.to, r.Reason(), try.want, r.Reasons)
				}
			}
		})
	}
}

// TestSocketsOfADeviceAndTheirOwnHost connects to sockets that are bound to a device
// from their own host: such packets go round by lo, and come by the device of the address.
func TestSocketsOfADeviceAndTheirOwnHost(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "ownhost", nil)
	pod, err := l.Spec.Pod(far)
	if err != nil {
		t.Fatal(err)
	}
	const onEth0, onLo = 7021, 7022
	for port, dev := range map[uint16]string{onEth0: "eth0", onLo: "lo"} {
		inside(t, l, far, func() error {
			return listener{addr: "::", port: port, options: onDevice(dev), backlog: 8}.open(t)
		})
	}
	world := against.Compile(t, collect(t, l))
	for _, test := range []struct {
		to   netip.Addr
		port uint16
		want string
	}{
		{pod.Addresses[0], onEth0, lab.Established},
		{pod.Addresses[1], onEth0, lab.Established},
		{pod.Addresses[0], onLo, lab.Refused},
		{pod.Addresses[1], onLo, lab.Refused},
		{netip.MustParseAddr("127.0.0.1"), onEth0, lab.Refused},
		{netip.IPv6Loopback(), onEth0, lab.Refused},
		{netip.MustParseAddr("127.0.0.1"), onLo, lab.Established},
		{netip.IPv6Loopback(), onLo, lab.Established},
	} {
		to := netip.AddrPortFrom(test.to, test.port)
		if got := handshake(t, l, far, to); got != test.want {
			t.Errorf("%s: the kernel made it %s, want %s", to, got, test.want)
		}
		r := against.Diagnose(t, world, verdict.Query{From: "pod:" + far, To: test.to.String(), Port: test.port, Protocol: verdict.TCP})
		if len(r.Paths) != 1 || string(r.Paths[0].Outcome) != test.want {
			t.Errorf("%s: want %s: %v", to, test.want, r.Paths)
		}
	}
}

// occupy makes a connection that stays until the test ends.
func occupy(t *testing.T, to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return os.NewSyscallError("connect", unix.Connect(fd, socketAddress(to)))
}

// handshake connects, and says what came of it: whoever listens says nothing.
func handshake(t *testing.T, l *lab.Lab, from string, to netip.AddrPort) (outcome string) {
	t.Helper()
	inside(t, l, from, func() error {
		domain := unix.AF_INET
		if to.Addr().Is6() {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, socketAddress(to)); err != nil && err != unix.EINPROGRESS {
			return os.NewSyscallError("connect", err)
		}
		outcome = lab.Timeout
		for deadline := time.Now().Add(900 * time.Millisecond); outcome == lab.Timeout && time.Now().Before(deadline); {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			n, err := unix.Poll(ready, 100)
			if n == 0 || err == unix.EINTR {
				continue
			}
			errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			switch {
			case err != nil:
				return os.NewSyscallError("getsockopt", err)
			case errno == 0:
				outcome = lab.Established
			case unix.Errno(errno) == unix.ECONNREFUSED:
				outcome = lab.Refused
			default:
				return fmt.Errorf("connect %s: %w", to, unix.Errno(errno))
			}
		}
		return nil
	})
	return outcome
}
