package confirm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// failure is an error of the socket's error queue, ip(7): struct sock_extended_err.
type failure struct {
	errno              unix.Errno
	origin, kind, code byte
	offender           netip.Addr // who sent it; not valid if the kernel does not say
}

// readErrors empties the socket's error queue, and keeps the last error that is
// about a packet that mine accepts, by its destination and what is quoted of it from
// the transport header on. It says whether there were others.
func (s *socket) readErrors(mine func(to netip.Addr, quoted []byte) bool) (foreign bool) {
	buf, control := make([]byte, 256), make([]byte, 512)
	for {
		size, n, _, to, err := unix.Recvmsg(s.fd, buf, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return foreign
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return foreign
		}
		if !mine(addrOf(to).Addr(), buf[:size]) {
			foreign = true
			continue
		}
		for i := range messages {
			if f, ok := failureOf(&messages[i]); ok {
				s.failure = f
			}
		}
	}
}

func failureOf(m *unix.SocketControlMessage) (*failure, bool) {
	v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
	v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
	const length = 16 // of struct sock_extended_err; the offender's address follows
	if !v4 && !v6 || len(m.Data) < length {
		return nil, false
	}
	f := &failure{errno: unix.Errno(binary.NativeEndian.Uint32(m.Data)), origin: m.Data[4], kind: m.Data[5], code: m.Data[6]}
	if rest := m.Data[length:]; len(rest) >= 2 {
		switch family := binary.NativeEndian.Uint16(rest); {
		case family == unix.AF_INET && len(rest) >= 8:
			f.offender = netip.AddrFrom4([4]byte(rest[4:8]))
		case family == unix.AF_INET6 && len(rest) >= 24:
			f.offender = netip.AddrFrom16([16]byte(rest[8:24])).Unmap()
		}
	}
	return f, true
}

// classify finds the word for an error, and the detail. An error number stands for
// several ICMP messages, of which some say that somebody forbids the packet: those
// are in the error queue.
func (s *socket) classify(err error) (verdict.Outcome, string) {
	if errors.Is(err, errSilence) || errors.Is(err, unix.ETIMEDOUT) {
		return verdict.OutcomeTimeout, fmt.Sprintf("no answer within %s", s.probe.Timeout)
	}
	if s.probe.Protocol != verdict.ICMP { // which has read, among those of others, its own
		s.readErrors(func(netip.Addr, []byte) bool { return true })
	}
	if f := s.failure; f != nil && (f.origin == unix.SO_EE_ORIGIN_ICMP || f.origin == unix.SO_EE_ORIGIN_ICMP6) {
		detail := fmt.Sprintf("ICMP type %d code %d", f.kind, f.code)
		if f.origin == unix.SO_EE_ORIGIN_ICMP6 {
			detail = fmt.Sprintf("ICMPv6 type %d code %d", f.kind, f.code)
		}
		if f.offender.IsValid() && !f.offender.IsUnspecified() {
			detail += " from " + f.offender.String()
		}
		if forbids(f) {
			return verdict.OutcomeProhibited, detail
		}
		return errnoOutcome(f.errno), detail
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return verdict.OutcomeInconclusive, err.Error()
	}
	return errnoOutcome(errno), errno.Error()
}

// forbids knows the codes of RFC 792, 1812 and 4443 for "administratively prohibited"
// and their kin.
func forbids(f *failure) bool {
	if f.origin == unix.SO_EE_ORIGIN_ICMP {
		return f.kind == 3 && (f.code == 9 || f.code == 10 || f.code == 13)
	}
	return f.kind == 1 && (f.code == 1 || f.code == 5 || f.code == 6)
}

func errnoOutcome(errno unix.Errno) verdict.Outcome {
	switch errno {
	case unix.ECONNREFUSED, unix.ENOPROTOOPT, unix.EPROTO:
		return verdict.OutcomeRefused // ENOPROTOOPT is "protocol unreachable", EPROTO its kin of IPv6
	case unix.ECONNRESET, unix.EPIPE:
		return verdict.OutcomeReset
	case unix.EACCES, unix.EPERM, unix.EINVAL:
		return verdict.OutcomeProhibited // EINVAL is what a blackhole route says
	case unix.ENETUNREACH:
		return verdict.OutcomeNetUnreachable
	case unix.EHOSTUNREACH:
		return verdict.OutcomeHostUnreachable
	case unix.EMSGSIZE:
		return verdict.OutcomeMessageTooLong
	case unix.ETIMEDOUT, unix.ENOBUFS:
		return verdict.OutcomeTimeout // ENOBUFS is a drop by the sender's own device
	}
	return verdict.OutcomeInconclusive
}
