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
	if err := unix.Shutdown(s.fd, unix.SHUT_WR); err != nil && !errors.Is(err, unix.ENOTCONN) { // ENOTCONN: reset already
		return "", fmt.Errorf("shutdown: %w", err)
	}
	if err := s.farewell(ctx); err != nil {
		if errors.Is(err, errSilence) {
			s.detail = fmt.Sprintf("the connection opened, but what followed was not acknowledged within %s", s.probe.Timeout)
			return verdict.OutcomeTimeout, nil
		}
		return "", err
	}
	return verdict.OutcomeEstablished, nil
}

// States of a connection that is being closed (include/net/tcp_states.h), as TCP_INFO
// has them.
const (
	finWait1 = 4
	closing  = 11
)

// politeness is how long the server's own FIN is waited for: closing the socket
// before it has read everything would send a reset.
const politeness = 200 * time.Millisecond

// farewell waits until the FIN is acknowledged, and reads what the server says until
// it has closed its side, too. There is no event for the first, so it is looked for.
func (s *socket) farewell(ctx context.Context) error {
	const step = 2 * time.Millisecond
	buf := make([]byte, 4096)
	acknowledged, patience := false, s.deadline
	for {
		n, err := unix.Read(s.fd, buf)
		switch {
		case n > 0:
			continue
		case err == nil: // end of what the server says
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case acknowledged: // a reset is a server's way to say that it has not read on, and nothing was said
			return nil
		default:
			return err
		}
		ended := err == nil
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return fmt.Errorf("TCP_INFO: %w", err)
		}
		if !acknowledged && info.State != finWait1 && info.State != closing {
			acknowledged = true
			patience = time.Now().Add(min(politeness, time.Until(s.deadline)))
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case acknowledged && (ended || time.Now().After(patience)):
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
