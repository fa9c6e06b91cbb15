package counters

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// sent is the number of datagrams under each fault.
const sent = 7

func port(t *testing.T, pod lab.Pod, protocol string) uint16 {
	t.Helper()
	at := slices.IndexFunc(pod.Ports, func(p lab.PodPort) bool { return strings.EqualFold(p.Protocol, protocol) })
	if at < 0 {
		t.Fatalf("pod %s has no %s port", pod.ID(), protocol)
	}
	return pod.Ports[at].Port
}

// send sends the datagrams from the client pod. The socket is not connected, so
// that an ICMP error for one does not keep the next from being sent; it stays
// open until the test ends, or answers would be dropped for want of it.
func send(t *testing.T, l *lab.Lab, to netip.AddrPort, size int) *net.UDPConn {
	t.Helper()
	name, err := l.Netns(lab.PodEndpoint(l.Spec.Roles.Client))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listenIn(name, to.Addr().Is6())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for i := range sent {
		if _, err := conn.WriteToUDPAddrPort(make([]byte, size), to); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	return conn
}

// listenIn opens a socket in a network namespace that never fragments.
func listenIn(name string, ipv6 bool) (conn *net.UDPConn, err error) {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := netns.GetFromName(name)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	defer func() {
		if back := netns.Set(here); back == nil {
			runtime.UnlockOSThread()
		} else {
			err = errors.Join(err, back) // the thread ends with its goroutine
		}
	}()
	network, level, option, value := "udp4", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if ipv6 {
		network, level, option, value = "udp6", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	conn, err = net.ListenUDP(network, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, value) }); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, set
}

// receive takes an answer to each datagram.
func receive(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for i := range sent {
		if _, _, err := conn.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}
