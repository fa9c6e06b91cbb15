package confirm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// Bounds of what is asked of one server. A resolver asks each twice.
const (
	dnsTries   = 2
	dnsTimeout = 2 * time.Second // of one try
	maxMessage = 4096
)

// AskHere asks from the network namespaces of this host, which inside enters by name.
func AskHere(inside func(namespace string, fn func() error) error) Asker {
	return func(ctx context.Context, q resolver.Question) (h Heard, err error) {
		h.Question = q
		err = inside(q.Namespace, func() error { return askName(ctx, &h) })
		return h, err
	}
}

// unasked is an error before there was a packet: it says nothing of the network.
type unasked struct{ error }

func (e unasked) Unwrap() error { return e.error }

// opening tells an error of opening a socket from one of its packets.
func opening(err error) error {
	if failed := (*os.SyscallError)(nil); errors.As(err, &failed) && failed.Syscall == "socket" {
		return unasked{err}
	}
	return err
}

// askName asks for both addresses of a name. The error says why nothing could be asked:
// once there is a socket, all that keeps an answer away is silence to a resolver.
func askName(ctx context.Context, a *Heard) error {
	a.Status, a.TTL = resolver.OK, maxKept
	var missing int
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		m, err := exchange(ctx, a.Server, a.Name, kind)
		switch {
		case errors.As(err, new(unasked)):
			return err
		case err != nil: // whatever became of the packets, or kept them from being sent
			a.Status, a.Addresses, a.Detail, a.TTL = resolver.Timeout, nil, silenceOf(err), 0
			return nil
		}
		a.TTL = min(a.TTL, lifetime(m))
		switch m.RCode {
		case dnsmessage.RCodeSuccess:
			a.Addresses = append(a.Addresses, addressesOf(m)...)
		case dnsmessage.RCodeNameError:
			missing++
		default:
			a.Status, a.Addresses, a.Detail, a.TTL = resolver.Failed, nil, strings.TrimPrefix(m.RCode.String(), "RCode"), 0
			return nil
		}
	}
	if missing > 0 && len(a.Addresses) == 0 {
		a.Status = resolver.NotFound
	}
	return nil
}

// exchange asks one question as resolvers do: by datagram, again after silence,
// and by TCP if the answer does not fit.
func exchange(ctx context.Context, server netip.Addr, name string, kind dnsmessage.Type) (*dnsmessage.Message, error) {
	full, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, unasked{err}
	}
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: full, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := question.Pack()
	if err != nil {
		return nil, unasked{err}
	}
	target := netip.AddrPortFrom(server, dnsPort)
	for range dnsTries {
		var m *dnsmessage.Message
		if m, err = overUDP(ctx, target, packed, &question); err == nil && m.Truncated {
			m, err = overTCP(ctx, target, packed, &question)
		}
		if err == nil || !timedOut(err) {
			return m, err
		}
	}
	return nil, err
}

func until(ctx context.Context) time.Time {
	t := time.Now().Add(dnsTimeout)
	if end, ok := ctx.Deadline(); ok && end.Before(t) {
		t = end
	}
	return t
}

func overUDP(ctx context.Context, to netip.AddrPort, packed []byte, question *dnsmessage.Message) (*dnsmessage.Message, error) {
	// Not by a Dialer: what it does on other threads is in another namespace.
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, opening(err)
	}
	defer c.Close()
	if err := c.SetDeadline(until(ctx)); err != nil {
		return nil, err
	}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if m, ok := answerTo(buf[:n], question); ok {
			return m, nil
		}
	}
}

func overTCP(ctx context.Context, to netip.AddrPort, packed []byte, question *dnsmessage.Message) (*dnsmessage.Message, error) {
	d := net.Dialer{Deadline: until(ctx)}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, opening(err)
	}
	defer c.Close()
	if err := c.SetDeadline(until(ctx)); err != nil {
		return nil, err
	}
	if _, err := c.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)); err != nil {
		return nil, err
	}
	length := make([]byte, 2)
	if _, err := io.ReadFull(c, length); err != nil {
		return nil, err
	}
	message := make([]byte, int(length[0])<<8|int(length[1]))
	if _, err := io.ReadFull(c, message); err != nil {
		return nil, err
	}
	m, ok := answerTo(message, question)
	if !ok {
		return nil, fmt.Errorf("%s answers something else over TCP", to)
	}
	return m, nil
}

// answerTo says whether a message is the answer to a question; others are not heard.
func answerTo(packed []byte, question *dnsmessage.Message) (*dnsmessage.Message, bool) {
	m := new(dnsmessage.Message)
	if err := m.Unpack(packed); err != nil {
		return nil, false
	}
	same := func(a, b dnsmessage.Question) bool {
		return a.Type == b.Type && a.Class == b.Class && strings.EqualFold(a.Name.String(), b.Name.String())
	}
	return m, m.Response && m.ID == question.ID && len(m.Questions) == 1 && same(m.Questions[0], question.Questions[0])
}

// silenceOf says why there is no answer, without what is different each time.
func silenceOf(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case timedOut(err):
		return fmt.Sprintf("%d times %s", dnsTries, dnsTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	}
	return err.Error()
}

// timedOut says whether time ran out. A Dialer's error is not os.ErrDeadlineExceeded then.
func timedOut(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// lifetime is how long an answer may be kept; one that there is nothing, as long as the
// server's SOA record says (RFC 2308: 5).
func lifetime(m *dnsmessage.Message) time.Duration {
	records := m.Answers
	if len(records) == 0 {
		records = m.Authorities
	}
	seconds := uint32(0)
	for i, r := range records {
		ttl := r.Header.TTL
		if soa, ok := r.Body.(*dnsmessage.SOAResource); ok {
			ttl = min(ttl, soa.MinTTL)
		}
		if i == 0 || ttl < seconds {
			seconds = ttl
		}
	}
	return time.Duration(seconds) * time.Second
}

// addressesOf are those of an answer, whatever aliases lead to them.
func addressesOf(m *dnsmessage.Message) []netip.Addr {
	var list []netip.Addr
	for _, r := range m.Answers {
		var addr netip.Addr
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			addr = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			addr = netip.AddrFrom16(body.AAAA).Unmap()
		}
		if addr.IsValid() && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	return list
}
