package confirm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Send sends a probe. Its socket is opened by inside, which runs its argument on a
// thread in the network namespace to send from; a socket stays where it was opened.
func Send(ctx context.Context, inside func(fn func() error) error, p Probe) (Seen, error) {
	if err := p.Validate(); err != nil {
		return Seen{}, err
	}
	s := &socket{probe: &p, fd: -1, deadline: time.Now().Add(p.Timeout)}
	if err := inside(s.open); err != nil {
		return Seen{}, err
	}
	defer unix.Close(s.fd)
	talk := map[verdict.Protocol]func(context.Context) (verdict.Outcome, error){
		verdict.TCP: s.handshake, verdict.UDP: s.datagram, verdict.ICMP: s.echo,
	}[p.Protocol]
	outcome, err := talk(ctx)
	if ctx.Err() != nil {
		return Seen{}, ctx.Err()
	}
	seen := Seen{Outcome: outcome, Detail: s.detail, Source: s.local()}
	if err != nil {
		seen.Outcome, seen.Detail = s.classify(err)
	}
	return seen, nil
}

// socket is the client's.
type socket struct {
	probe    *Probe
	fd       int
	deadline time.Time
	detail   string
	failure  *failure // the last that the error queue told
}

// open makes the socket in the thread's network namespace.
func (s *socket) open() error {
	domain, kind, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if s.v6() {
		domain = unix.AF_INET6
	}
	switch s.probe.Protocol {
	case verdict.UDP:
		kind = unix.SOCK_DGRAM
	case verdict.ICMP:
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP
		if s.v6() {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	err := as(s.probe.UID, func() (err error) {
		s.fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
		return err
	})
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := s.prepare(); err != nil {
		unix.Close(s.fd)
		return err
	}
	return nil
}

// as runs fn with the user of the thread's file accesses, who is the owner of
// sockets that it opens (sock_init_data): of what rules and routes ask.
func as(uid *uint32, fn func() error) error {
	if uid == nil {
		return fn()
	}
	own, err := unix.SetfsuidRetUid(int(*uid))
	if err != nil {
		return err
	}
	defer unix.Setfsuid(own)
	// Both calls return what was before, and no error; -1 changes nothing.
	if now, _ := unix.SetfsuidRetUid(-1); now != int(*uid) {
		return fmt.Errorf("act as user %d: %w", *uid, unix.EPERM)
	}
	return fn()
}

// prepare gives the socket what rules and routes may look at.
func (s *socket) prepare() error {
	p := s.probe
	level, tos, receive := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_RECVERR
	discover, always := unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	own := netip.IPv4Unspecified()
	if s.v6() {
		level, tos, receive = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_RECVERR
		discover, always = unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
		own = netip.IPv6Unspecified()
	}
	set := func(wanted bool, what string, level, option, value int) error {
		if !wanted {
			return nil
		}
		if err := unix.SetsockoptInt(s.fd, level, option, value); err != nil {
			return fmt.Errorf("set %s: %w", what, err)
		}
		return nil
	}
	err := errors.Join(
		// ICMP errors as they come, with type and code: those too that TCP takes for transient.
		set(true, "IP_RECVERR", level, receive, 1),
		set(p.Mark != 0, "the mark", unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)),
		set(p.DSCP != 0, "the DSCP", level, tos, int(p.DSCP)<<2),
		// One packet of that size is what was asked about, not fragments of it.
		set(p.Protocol != verdict.TCP, "IP_MTU_DISCOVER", level, discover, always),
		// A past probe may hold the port still, in TIME_WAIT.
		set(p.SourcePort != 0, "SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
	)
	if err == nil && p.Protocol == verdict.ICMP {
		err = s.onlyEchoReplies()
	}
	if err != nil || p.SourcePort == 0 && !p.Source.IsValid() {
		return err
	}
	if p.Source.IsValid() {
		own = p.Source
	}
	at := netip.AddrPortFrom(own, p.SourcePort)
	if err := unix.Bind(s.fd, sockaddr(at)); err != nil {
		return fmt.Errorf("send from %s: %w", at, err)
	}
	return nil
}

func (s *socket) v6() bool { return s.probe.Destination.Is6() }

func (s *socket) target() netip.AddrPort {
	return netip.AddrPortFrom(s.probe.Destination, s.probe.Port)
}

// local is the client's end, as far as it has one.
func (s *socket) local() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	at := addrOf(sa)
	if at.Addr().IsUnspecified() {
		return netip.AddrPort{}
	}
	if s.probe.Protocol == verdict.ICMP { // the number of the protocol
		at = netip.AddrPortFrom(at.Addr(), 0)
	}
	return at
}

// errSilence is what is seen of nothing.
var errSilence = errors.New("no answer")

// wait waits until one of the events, or an error of the socket, or until.
func (s *socket) wait(ctx context.Context, events int16, until time.Time) error {
	// The context has no file to wait for, so it is looked at between waits.
	const slice = 50 * time.Millisecond
	for {
		left := time.Until(until)
		if left <= 0 {
			return errSilence
		}
		ready := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
		n, err := unix.Poll(ready, int(min(left, slice)/time.Millisecond)+1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		}
	}
}

// connect connects the socket.
func (s *socket) connect(ctx context.Context) error {
	err := unix.Connect(s.fd, sockaddr(s.target()))
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if err := s.wait(ctx, unix.POLLOUT, s.deadline); err != nil {
		return err
	}
	return s.pending()
}

// pending is the error that waits at the socket, if there is one.
func (s *socket) pending() error {
	s.readErrors(func(netip.Addr, []byte) bool { return true })
	if errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return err
	} else if errno != 0 {
		return unix.Errno(errno)
	}
	if s.failure != nil {
		return s.failure.errno
	}
	return nil
}

// retries is the number of parts of its time after which a datagram is sent again
// that was not answered.
const retries = 2

// datagram sends one, and once more if nothing is heard.
func (s *socket) datagram(ctx context.Context) (verdict.Outcome, error) {
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	buf := make([]byte, 512)
	err := s.ask(ctx, func() error {
		_, err := unix.Write(s.fd, s.probe.payload())
		return err
	}, func() (bool, error) {
		n, err := unix.Read(s.fd, buf)
		if err == nil {
			s.detail = fmt.Sprintf("answered with %d bytes", n)
		}
		return err == nil, err
	})
	if errors.Is(err, errSilence) || errors.Is(err, unix.ENOBUFS) {
		s.detail = fmt.Sprintf("no answer within %s: that a datagram is not answered says nothing", s.probe.Timeout)
		return verdict.OutcomeInconclusive, nil
	}
	return verdict.OutcomeAnswered, err
}

// ask sends, and reads until there is an answer or an error; both of them know
// EAGAIN.
func (s *socket) ask(ctx context.Context, send func() error, read func() (bool, error)) error {
	part := s.probe.Timeout / retries
	for until := s.deadline.Add(-part * (retries - 1)); ; until = until.Add(part) {
		if err := send(); err != nil {
			return err
		}
		for {
			err := s.wait(ctx, unix.POLLIN, until)
			if errors.Is(err, errSilence) && until.Before(s.deadline) {
				break
			}
			if err != nil {
				return err
			}
			if answered, err := read(); answered || err != nil && !errors.Is(err, unix.EAGAIN) {
				return err
			}
		}
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
