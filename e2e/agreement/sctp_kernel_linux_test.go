package agreement

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestTheKernelsOwnSCTP needs a kernel that speaks it, as the virtual machine's: what associating does there is what the
// simulator says, and what the lab's ends do in its place (TestAssociations).
func TestTheKernelsOwnSCTP(t *testing.T) {
	if !kernelSpeaksSCTP() {
		t.Skip("this kernel lacks SCTP")
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
			"a drop of aborts", "node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any ABORT -j DROP",
			"node-1 {iptables} -D FORWARD -p sctp -m sctp --chunk-types any ABORT -j DROP", diameter + 1, verdict.NoListener,
		},
		{
			"a reject of cookies, also of those that connection tracking does not know", "node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT",
			"node-1 {iptables} -D FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT", diameter, verdict.NetfilterReject,
		},
		{
			"a reject of cookies behind a drop of what is invalid", "node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT",
			"node-2 {iptables} -D FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT", diameter, verdict.NetfilterReject,
		},
		{
			"a reject of cookies, as if their protocol was not spoken", "node-1 iptables -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT --reject-with icmp-proto-unreachable",
			"node-1 iptables -D FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT --reject-with icmp-proto-unreachable", diameter, verdict.NetfilterReject,
		},
	} {
		apply(t, l, s.change, families)
		world := against.Compile(t, collect(t, l))
		for _, f := range families {
			if f == netstack.IPv6 && strings.HasPrefix(s.change, "node-1 iptables") {
				continue
			}
			to := netip.AddrPortFrom(netip.MustParseAddr(words(t, l, f).Replace("{"+far+"}")), s.port)
			r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.SCTP})
			var fate lab.Fate
			inside(t, l, web, func() error { fate.Outcome, fate.Err = associate(to); return nil })
			t.Logf("%s, %s: %s", s.name, f, fate.Outcome)
			if doubt := r.Paths[0].Outcome == verdict.OutcomeUnknown; doubt != strings.HasSuffix(s.name, "what is invalid") {
				t.Errorf("%s, %s: simulated %s", s.name, f, r.Paths[0].Outcome)
			}
			against.Agree(t, s.name+" "+f.String(), "sctp", fate, &r.Paths[0], s.reason)
		}
		apply(t, l, s.undo, families)
	}
}

// associate connects with the kernel's SCTP, and waits for what comes of it: a connect that blocks does not hear of ICMP
// errors (sctp_wait_for_connect).
func associate(to netip.AddrPort) (outcome string, err error) {
	domain, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	if to.Addr().Is6() {
		domain, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return lab.Unknown, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return lab.Unknown, err
	}
	if err := unix.Connect(fd, socketAddress(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return lab.Unknown, err
	}
	// An error that comes while the socket is in use is only noted: the next one, of what is sent again after rto_initial, is heard.
	const patience = 10_000 // milliseconds
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, patience)
	if err != nil {
		return lab.Unknown, err
	}
	if ready == 0 {
		return lab.Timeout, nil
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return lab.Unknown, err
	case errno == 0:
		return lab.Established, nil
	case unix.Errno(errno) == unix.ECONNREFUSED:
		return lab.Refused, nil
	}
	return lab.Unknown, unix.Errno(errno)
}

// kernelSpeaksSCTP says whether this one does.
func kernelSpeaksSCTP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}
