package confirm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// handshake opens a connection, and closes it. That the FIN is acknowledged shows
// that segments of the established connection get through, in both directions,
// without saying a word to the server.
func (s *socket) handshake(ctx context.Context) (verdict.Outcome, error) {
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	s.detail = "the connection opened, and was closed"
	// What is transient to TCP is so once there is a connection.
	level, receive := unix.IPPROTO_IP, unix.IP_RECVERR
	if s.v6() {
		level, receive = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	if err := unix.SetsockoptInt(s.fd, level, receive, 0); err != nil {
		return "", fmt.Errorf("unset IP_RECVERR: %w", err)
	}
	acknowledged, err := s.acknowledged()
	if err != nil {
		return "", err
	}
	if err := unix.Shutdown(s.fd, unix.SHUT_WR); err != nil && !errors.Is(err, unix.ENOTCONN) { // ENOTCONN: reset already
		return "", fmt.Errorf("shutdown: %w", err)
	}
	if err := s.farewell(ctx, acknowledged); err != nil {
		if errors.Is(err, errSilence) {
			s.detail = fmt.Sprintf("the connection opened, but what followed was not acknowledged within %s", s.probe.Timeout)
			return verdict.OutcomeTimeout, nil
		}
		return "", err
	}
	return verdict.OutcomeEstablished, nil
}

// acknowledged counts what the server has acknowledged: SYN and FIN are one each
// (tcp_snd_una_update).
func (s *socket) acknowledged() (uint64, error) {
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, fmt.Errorf("TCP_INFO: %w", err)
	}
	return info.Bytes_acked, nil
}

// politeness is how long the server's own FIN is waited for: closing the socket
// before it has read everything would send a reset.
const politeness = 200 * time.Millisecond

// farewell waits until more than before is acknowledged, which is the FIN, and reads
// what the server says until it has closed its side, too. There is no event for the
// first, so it is looked for.
func (s *socket) farewell(ctx context.Context, before uint64) error {
	const step = 2 * time.Millisecond
	buf := make([]byte, 4096)
	gone, patience := false, s.deadline
	for {
		now, err := s.acknowledged()
		if err != nil {
			return err
		}
		if !gone && now > before {
			gone = true
			patience = time.Now().Add(min(politeness, time.Until(s.deadline)))
		}
		n, err := unix.Read(s.fd, buf)
		ended := n == 0 && err == nil
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			if now, fault := s.acknowledged(); fault == nil && now > before {
				return nil // the server's way to end
			}
			return err
		case gone && (ended || time.Now().After(patience)):
			return nil
		case time.Now().After(patience):
			return errSilence
		}
		if ended { // readable for ever
			time.Sleep(step)
		} else if err := s.wait(ctx, unix.POLLIN, time.Now().Add(step)); err != nil && !errors.Is(err, errSilence) {
			return err
		}
	}
}
