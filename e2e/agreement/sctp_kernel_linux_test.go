package agreement

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestTheKernelsOwnSCTP needs a kernel that speaks it, as the virtual machine's: what associating does there is what the
// simulator says, and what the lab's ends do in its place (TestAssociations).
func TestTheKernelsOwnSCTP(t *testing.T) {
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP); err != nil {
		t.Skipf("this kernel lacks SCTP: %v", err)
	} else {
		unix.Close(fd)
	}
	l := startQuick(t, "own-sctp", nil)
	inside(t, l, far, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet6{Port: diameter}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, 8))
	})
	families := []netstack.Family{netstack.IPv4, netstack.IPv6}
	for _, s := range []struct {
		name, change, undo string
		port               uint16
		reason             verdict.Code
	}{
		{"nothing is changed", "", "", diameter, ""},
		{"nobody listens on the port", "", "", diameter + 1, verdict.NoListener},
		{
			"a drop in the client's OUTPUT", "shop/web-0 {iptables} -A OUTPUT -p sctp -j DROP",
			"shop/web-0 {iptables} -D OUTPUT -p sctp -j DROP", diameter, verdict.NetfilterDrop,
		},
		{
			"a reject in the client's OUTPUT", "shop/web-0 {iptables} -A OUTPUT -p sctp -j REJECT",
			"shop/web-0 {iptables} -D OUTPUT -p sctp -j REJECT", diameter, verdict.NetfilterReject,
		},
		{
			"a reject of the cookie", "node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT",
			"node-2 {iptables} -D FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT", diameter, verdict.NetfilterReject,
		},
		{
			"a drop of aborts", "node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any ABORT -j DROP",
			"node-1 {iptables} -D FORWARD -p sctp -m sctp --chunk-types any ABORT -j DROP", diameter + 1, verdict.NoListener,
		},
	} {
		apply(t, l, s.change, families)
		world := against.Compile(t, collect(t, l))
		for _, f := range families {
			to := netip.AddrPortFrom(netip.MustParseAddr(words(t, l, f).Replace("{"+far+"}")), s.port)
			r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.SCTP})
			var fate lab.Fate
			inside(t, l, web, func() error { fate.Outcome, fate.Err = associate(to); return nil })
			against.Agree(t, s.name+" "+f.String(), "sctp", fate, &r.Paths[0], s.reason)
		}
		apply(t, l, s.undo, families)
	}
}

// associate connects with the kernel's SCTP.
func associate(to netip.AddrPort) (outcome string, err error) {
	domain, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	if to.Addr().Is6() {
		domain, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return lab.Unknown, err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	if err := errors.Join(unix.SetsockoptInt(fd, level, option, 1), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)); err != nil {
		return lab.Unknown, err
	}
	switch err := unix.Connect(fd, socketAddress(to)); {
	case err == nil:
		return lab.Established, nil
	case errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ETIMEDOUT):
		return lab.Timeout, err
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOPROTOOPT):
		return lab.Refused, err
	default:
		return lab.Unknown, err
	}
}
