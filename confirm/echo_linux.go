package confirm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Types of ICMP messages.
const (
	echoReply, echoRequest   = 0, 8
	echoReply6, echoRequest6 = 129, 128
)

// onlyEchoReplies keeps from a raw socket what else the namespace receives.
func (s *socket) onlyEchoReplies() error {
	if s.v6() {
		var f unix.ICMPv6Filter // what is set is not passed
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[echoReply6>>5] &^= 1 << (echoReply6 & 31)
		if err := unix.SetsockoptICMPv6Filter(s.fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f); err != nil {
			return fmt.Errorf("set ICMPV6_FILTER: %w", err)
		}
		return nil
	}
	const filter = 1                                                                          // ICMP_FILTER of include/uapi/linux/icmp.h
	if err := unix.SetsockoptInt(s.fd, unix.SOL_RAW, filter, ^(1 << echoReply)); err != nil { // a bit mask, as above
		return fmt.Errorf("set ICMP_FILTER: %w", err)
	}
	return nil
}

// echo sends an echo request as ping does, from a socket that is not connected,
// and once more if nothing is heard.
func (s *socket) echo(ctx context.Context) (verdict.Outcome, error) {
	message := make([]byte, messageHeader, messageHeader+s.probe.payloadSize())
	message[0], message[7] = echoRequest, 1
	reply, header := byte(echoReply), ipv4Header
	if s.v6() {
		message[0], reply, header = echoRequest6, echoReply6, 0
	}
	if _, err := rand.Read(message[4:6]); err != nil {
		return "", err
	}
	message = append(message, s.probe.payload()...)
	if !s.v6() { // the kernel fills in that of ICMPv6
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	mark := bytes.Clone(message[4:8]) // by which the request and the answer are known
	mine := func(to netip.Addr, quoted []byte) bool {
		return to == s.probe.Destination && len(quoted) >= 8 && quoted[0] == message[0] && bytes.Equal(quoted[4:8], mark)
	}
	// Errors of other requests in the namespace come to this socket, too; they are
	// gone once they are read.
	ours := func(err error) error {
		if err == nil || errors.Is(err, unix.EAGAIN) {
			return err
		}
		if foreign := s.readErrors(mine); foreign && s.failure == nil {
			return unix.EAGAIN
		}
		return err
	}
	buf := make([]byte, 256)
	err := s.ask(ctx, func() error {
		to := sockaddr(netip.AddrPortFrom(s.probe.Destination, 0))
		err := ours(unix.Sendto(s.fd, message, 0, to))
		if errors.Is(err, unix.EAGAIN) {
			err = ours(unix.Sendto(s.fd, message, 0, to))
		}
		return err
	}, func() (bool, error) {
		n, sender, err := unix.Recvfrom(s.fd, buf, 0)
		if err != nil {
			return false, ours(err)
		}
		from := addrOf(sender).Addr()
		return from == s.probe.Destination && n >= header+8 && buf[header] == reply && bytes.Equal(buf[header+4:header+8], mark), nil
	})
	if err == nil {
		s.detail = "answered"
	}
	return verdict.OutcomeAnswered, err
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i, octet := range b {
		sum += uint32(octet) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
