package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Outcomes of a connection, as the client sees them: the words of a report's path.
const (
	Established     = "established"
	Answered        = "answered"
	Refused         = "refused"
	Reset           = "reset"
	Timeout         = "timeout"
	NetUnreachable  = "net-unreachable"
	HostUnreachable = "host-unreachable"
	Prohibited      = "prohibited"
	MessageTooLong  = "message-too-long"
	// Unknown is an error that none of the words describes; Fate.Err has it.
	Unknown = "unknown"
)

// What is said, in bytes of payload: a message and its answer over TCP and UDP, an echo request as ping sends it, and, in
// full-size segments, more than a window that nobody acknowledges (TCP_INIT_CWND).
const (
	messageSize  = 128
	echoSize     = 56
	fullSegments = 16
)

// ConnectOptions says what to try.
type ConnectOptions struct {
	// Protocol is "tcp" (the default), "udp", "sctp" or "icmp".
	Protocol string
	// Timeout of each part of the conversation: the handshake, the small message, the full-size one. Default: 0.9 s.
	// The lab's nodes give up on a neighbour after 0.3 s, so that less would hide HostUnreachable behind Timeout. TCP
	// sends another SYN after 1 s, which a Service may give to another backend.
	Timeout time.Duration
	// SourcePort is the client's port; 0 takes any.
	SourcePort uint16
	// TalkTimeout is the Timeout of what follows the handshake; the same when 0.
	TalkTimeout time.Duration
	// Source is the client's address; the kernel chooses one if it is not valid.
	Source netip.Addr
	// FullSize asks for as much data in each direction as takes several full-size segments. TCP only.
	FullSize bool
	// FullTimeout is the Timeout of that; the same when 0.
	FullTimeout time.Duration
	// Message is what a datagram carries, or the client says first, filled up with Payload; "hello" when empty.
	Message string
	// Unconnected makes ICMP send as ping does, from a socket that is not connected. It hears the errors of any request of its
	// namespace.
	Unconnected bool
	// Mark, DSCP and UID are those of the client's socket.
	Mark uint32
	DSCP uint8
	UID  *uint32
	// HopLimit is that of its packets; the kernel's default when 0.
	HopLimit int
}

// Fate is what became of a real connection.
type Fate struct {
	// Outcome of the handshake and one small message, with its answer.
	Outcome string
	// FullSize tells that full-size segments were exchanged, too. Silence about UDP and ICMP: they do not try.
	FullSize bool
	// Peer is the pod that answered, and "" if none did.
	Peer string
	// Seen is the client's end as the listener saw it; TCP only.
	Seen netip.AddrPort
	// At is the listener's end as it saw it, if it said so; TCP only.
	At netip.AddrPort
	// Local is the client's end; its address is not valid if the client never got one.
	Local netip.AddrPort
	// Err is what the kernel said, in its words, where it failed.
	Err error
}

// Connect makes a real connection from a namespace of the lab and says what becomes of it. The error is about trying;
// what the network does is in the Fate. With icmp the port of to is ignored.
func (l *Lab) Connect(ctx context.Context, from Endpoint, to netip.AddrPort, opts ConnectOptions) (Fate, error) {
	name, err := l.Netns(from)
	if err != nil {
		return Fate{}, fmt.Errorf("connect from %s: %w", from, err)
	}
	return ConnectFrom(ctx, name, to, opts)
}

// ConnectFrom is Connect from any named network namespace.
func ConnectFrom(ctx context.Context, name string, to netip.AddrPort, opts ConnectOptions) (Fate, error) {
	if opts.Protocol == "" {
		opts.Protocol = "tcp"
	}
	if opts.Timeout == 0 {
		opts.Timeout = 900 * time.Millisecond
	}
	talk, ok := map[string]func(*conversation, ConnectOptions, *Fate) error{"tcp": talkTCP, "udp": talkUDP, "icmp": talkICMP, "sctp": talkSCTP}[opts.Protocol]
	if !ok {
		return Fate{}, fmt.Errorf("connect from %s: protocol %q is none of tcp, udp, sctp, icmp", name, opts.Protocol)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	var c *conversation
	if err := InNetns(name, func() (err error) { c, err = openConversation(to, opts); return err }); err != nil {
		return Fate{}, fmt.Errorf("connect from %s to %s: %w", name, to, err)
	}
	defer c.file.Close()
	defer context.AfterFunc(ctx, func() { c.file.SetDeadline(time.Unix(1, 0)) })()

	var fate Fate
	err := c.connect(opts.Timeout)
	fate.Local = c.local()
	if opts.Protocol == "icmp" || opts.Protocol == "sctp" { // the kernel has the protocol's number there
		fate.Local = netip.AddrPortFrom(fate.Local.Addr(), 0)
	}
	if err == nil {
		err = talk(c, opts, &fate)
	}
	if ctx.Err() != nil {
		return Fate{}, fmt.Errorf("connect from %s to %s: %w", name, to, ctx.Err())
	}
	if err != nil {
		fate.Err = err
	}
	if fate.Outcome == "" {
		fate.Outcome = c.classify(err)
	}
	return fate, nil
}

// maxTries bounds how often ConnectEach asks a Service: with two backends the odds of missing one are 2 to the -40.
const maxTries = 40

// ConnectEach connects to a Service until every one of backends has been given a connection, and returns the fate of the
// first that each was given. Which one that is, the counters of the Service rules on the client's node tell: nothing
// else may use the same Service there in the meantime.
func (l *Lab) ConnectEach(ctx context.Context, from Endpoint, to netip.AddrPort, backends []netip.AddrPort, opts ConnectOptions) (map[netip.AddrPort]Fate, error) {
	node := from.Name
	if from.Kind == "pod" {
		p, err := l.Spec.Pod(from.Name)
		if err != nil {
			return nil, fmt.Errorf("connect from %s: %w", from, err)
		}
		node = p.Node
	}
	fates := map[netip.AddrPort]Fate{}
	before, err := l.ServiceHits(ctx, node, to.Addr().Is6())
	if err != nil {
		return nil, err
	}
	for range maxTries {
		fate, err := l.Connect(ctx, from, to, opts)
		if err != nil {
			return nil, err
		}
		after, err := l.ServiceHits(ctx, node, to.Addr().Is6())
		if err != nil {
			return nil, err
		}
		var given []netip.AddrPort
		for _, b := range backends {
			if after[b] > before[b] {
				given = append(given, b)
			}
		}
		before = after
		if len(given) != 1 {
			continue // the client tried again, and was given another one
		}
		if _, seen := fates[given[0]]; !seen {
			fates[given[0]] = fate
		}
		if len(fates) == len(backends) {
			return fates, nil
		}
	}
	return nil, fmt.Errorf("connect from %s to %s: after %d connections only %d of %d backends have been given one", from, to, maxTries, len(fates), len(backends))
}

// conversation is a socket in a namespace of the lab.
type conversation struct {
	file *os.File
	to   netip.AddrPort
	// started is what connect(2) said at once.
	started error
	// unconnected: each packet names its destination.
	unconnected bool
	// source is where the kernel would connect from, of a socket that is not connected.
	source netip.AddrPort
	// forbidden: an ICMP error said so.
	forbidden bool
}

// openConversation opens a socket in the calling thread's network namespace and begins to connect it.
func openConversation(to netip.AddrPort, opts ConnectOptions) (*conversation, error) {
	domain, unspecified := unix.AF_INET, netip.IPv4Unspecified()
	kind, proto := unix.SOCK_STREAM, 0
	if to.Addr().Is6() {
		domain, unspecified = unix.AF_INET6, netip.IPv6Unspecified()
	}
	switch {
	case opts.Protocol == "udp":
		kind = unix.SOCK_DGRAM
	case opts.Protocol == "icmp":
		to = netip.AddrPortFrom(to.Addr(), 0)
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP
		if to.Addr().Is6() {
			proto = unix.IPPROTO_ICMPV6
		}
	case opts.Protocol == "sctp":
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_SCTP
	}
	c := &conversation{to: to}
	var fd int
	open := func() error {
		err := asUser(opts.UID, func() (err error) {
			fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
			return os.NewSyscallError("open socket", err)
		})
		if err != nil {
			return err
		}
		c.file = os.NewFile(uintptr(fd), "socket")
		if err := c.prepare(fd, opts, unspecified); err != nil {
			c.file.Close()
			return err
		}
		return nil
	}
	if err := open(); err != nil {
		return nil, err
	}
	if c.unconnected = opts.Protocol == "icmp" && opts.Unconnected; c.unconnected {
		return c, nil
	}
	if kind == unix.SOCK_RAW {
		to = netip.AddrPortFrom(to.Addr(), 0)
	}
	c.started = unix.Connect(fd, sockaddr(to))
	if errors.Is(c.started, unix.EINPROGRESS) {
		c.started = nil
	}
	if opts.Protocol == "sctp" {
		// A kernel's own SCTP looks up the route without a source, and keeps the source that the route asks for
		// (sctp_v4_get_dst, sctp_v6_get_dst): so does a raw socket that is not connected. Connecting it would look up the
		// route once more, with the source: what comes of that is nothing to SCTP.
		c.source, c.started = c.local(), nil
		c.file.Close()
		if err := open(); err != nil {
			return nil, err
		}
		c.unconnected = true
	}
	return c, nil
}

// asUser runs fn with the user of the calling thread's file accesses: sockets that it opens are that user's.
func asUser(uid *uint32, fn func() error) error {
	if uid == nil {
		return fn()
	}
	own, err := unix.SetfsuidRetUid(int(*uid))
	if err != nil {
		return fmt.Errorf("become user %d: %w", *uid, err)
	}
	defer unix.Setfsuid(own)
	return fn()
}

// prepare sets what opts ask for.
func (c *conversation) prepare(fd int, opts ConnectOptions, unspecified netip.Addr) error {
	if err := c.hearErrors(fd, true); err != nil {
		return err
	}
	set := func(what string, level, option, value int) error {
		if value == 0 {
			return nil
		}
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return fmt.Errorf("set %s: %w", what, err)
		}
		return nil
	}
	level, option, hops := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	if c.to.Addr().Is6() {
		level, option, hops = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	}
	if err := errors.Join(set("SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(opts.Mark)), set("DSCP", level, option, int(opts.DSCP)<<2), set("hop limit", level, hops, opts.HopLimit)); err != nil {
		return err
	}
	if opts.SourcePort == 0 && !opts.Source.IsValid() {
		return nil
	}
	// A port that a past connection still holds in TIME_WAIT is free enough for a test.
	if err := set("SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	own := netip.AddrPortFrom(unspecified, opts.SourcePort)
	if opts.Source.IsValid() {
		own = netip.AddrPortFrom(opts.Source, opts.SourcePort)
	}
	if opts.Protocol == "sctp" { // ports are its own
		if !opts.Source.IsValid() {
			return nil
		}
		own = netip.AddrPortFrom(opts.Source, 0)
	}
	if err := unix.Bind(fd, sockaddr(own)); err != nil {
		return fmt.Errorf("bind to %s: %w", own, err)
	}
	return nil
}

// hearErrors makes the kernel hand over ICMP errors as they came: those that it takes for transient too, and with the
// type and code that an error number alone does not tell.
func (c *conversation) hearErrors(fd int, on bool) error {
	level, option, value := unix.IPPROTO_IP, unix.IP_RECVERR, 0
	if c.to.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	if on {
		value = 1
	}
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("set IP_RECVERR: %w", err)
	}
	return nil
}

// connect waits until the socket is connected, or is not going to be.
func (c *conversation) connect(timeout time.Duration) error {
	if c.started != nil {
		return os.NewSyscallError("connect", c.started)
	}
	c.deadline(timeout)
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(ready, 0); err != nil || n == 0 {
			return false
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			result = os.NewSyscallError("getsockopt", err)
		} else if errno != 0 {
			result = os.NewSyscallError("connect", unix.Errno(errno))
		}
		return true
	})
	return errors.Join(err, result)
}

func (c *conversation) deadline(timeout time.Duration) { c.file.SetDeadline(time.Now().Add(timeout)) }

func (c *conversation) control(fn func(fd int)) {
	if raw, err := c.file.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

func (c *conversation) local() (local netip.AddrPort) {
	if c.source.IsValid() {
		return c.source
	}
	c.control(func(fd int) {
		sa, _ := unix.Getsockname(fd)
		local = addrOf(sa)
	})
	if local.Addr().IsUnspecified() {
		return netip.AddrPort{}
	}
	return local
}

// addrOf is the address and port of a socket address, if it has any.
func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// Payload is a message as it is sent: filled up to the size that messages of the protocol have.
func Payload(protocol, message string) string {
	size := messageSize
	if protocol == "icmp" {
		size = echoSize
	}
	message = cmp.Or(message, "hello")
	return message + strings.Repeat(".", max(size-len(message), 0))
}

// talkTCP says a message, reads the listener's answer, and exchanges full-size segments: first its own, then the
// listener's, so that each direction has to be acknowledged by segments without data.
func talkTCP(c *conversation, opts ConnectOptions, fate *Fate) error {
	// What TCP takes for transient is so once there is a connection.
	var err error
	segment := 0
	c.control(func(fd int) {
		if err = c.hearErrors(fd, false); err == nil {
			segment, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG)
		}
	})
	if err != nil {
		return err
	}
	size := 0
	if opts.FullSize {
		size = fullSegments * segment
	}
	c.deadline(cmp.Or(opts.TalkTimeout, opts.Timeout))
	if _, err := io.WriteString(c.file, Payload("tcp", fmt.Sprintf("%s %d ", cmp.Or(opts.Message, "hello"), size))); err != nil {
		return err
	}
	answer := make([]byte, messageSize)
	if _, err := io.ReadFull(c.file, answer); err != nil {
		return err
	}
	if err := fate.connected(string(answer)); err != nil {
		return err
	}
	if !opts.FullSize {
		return nil
	}
	c.deadline(cmp.Or(opts.FullTimeout, opts.Timeout))
	if _, err := c.file.Write(make([]byte, size)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c.file, int64(size)); err != nil {
		return err
	}
	fate.FullSize = true
	return nil
}

// connected takes what the receiver says of a connection: who it is, and by which addresses it sees the client and itself.
func (f *Fate) connected(answer string) (err error) {
	words := strings.Fields(answer)
	if len(words) < 3 {
		return fmt.Errorf("the answer %q names no addresses", answer)
	}
	if f.Seen, err = netip.ParseAddrPort(words[1]); err != nil {
		return fmt.Errorf("the answer %q names no address: %w", answer, err)
	}
	if f.At, err = netip.ParseAddrPort(words[2]); err != nil {
		return fmt.Errorf("the answer %q names no second address: %w", answer, err)
	}
	f.Peer, f.Outcome = words[0], Established
	return nil
}

// talkUDP expects a datagram back that holds the pod's name and, in the room left, what was sent.
func talkUDP(c *conversation, opts ConnectOptions, fate *Fate) error {
	c.deadline(opts.Timeout)
	message := []byte(Payload("udp", opts.Message))
	if _, err := c.file.Write(message); err != nil {
		return err
	}
	buf := make([]byte, 512)
	n, err := c.file.Read(buf)
	if err != nil {
		return err
	}
	peer, payload, _ := bytes.Cut(buf[:n], []byte{' '})
	if n != len(message) || !bytes.HasPrefix(message, payload) {
		return fmt.Errorf("the answer %q does not hold what was sent", buf[:n])
	}
	fate.Peer, fate.Outcome = string(peer), Answered
	return nil
}

// talkICMP sends one echo request.
func talkICMP(c *conversation, opts ConnectOptions, fate *Fate) error {
	request, reply, header := byte(8), byte(0), 20
	if c.to.Addr().Is6() {
		request, reply, header = 128, 129, 0
	}
	message := make([]byte, 8, 8+echoSize)
	message[0], message[7] = request, 1
	if _, err := rand.Read(message[4:6]); err != nil {
		return err
	}
	message = append(message, Payload("icmp", opts.Message)...)
	if !c.to.Addr().Is6() { // the kernel fills in that of ICMPv6
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	c.deadline(opts.Timeout)
	if err := c.send(message); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := c.receive(buf)
		if err != nil {
			// An unconnected one hears of the errors of others, such as the kernel's own answers to echo requests.
			if c.unconnected && !errors.Is(err, os.ErrDeadlineExceeded) && !c.readErrors(func(to netip.Addr, quoted []byte) bool {
				return to == c.to.Addr() && len(quoted) >= 8 && quoted[0] == request && bytes.Equal(quoted[4:8], message[4:8])
			}) {
				continue
			}
			return err
		}
		// A raw socket hears all ICMP, and only whom it asked does it take for an answer. Connected to the unspecified address,
		// it is to an address of its host, and hears that only.
		if (from == c.to.Addr().WithZone("") || c.to.Addr().IsUnspecified()) && n >= header+8 && buf[header] == reply && bytes.Equal(buf[header+4:header+8], message[4:8]) {
			fate.Outcome = Answered
			return nil
		}
	}
}

// receive reads a packet, and tells who sent it.
func (c *conversation) receive(buf []byte) (n int, from netip.Addr, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, from, err
	}
	var sender unix.Sockaddr
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, sender, failed = unix.Recvfrom(int(fd), buf, 0)
		return !errors.Is(failed, unix.EAGAIN)
	})
	switch a := sender.(type) {
	case *unix.SockaddrInet4:
		from = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		from = netip.AddrFrom16(a.Addr)
	}
	if err == nil {
		err = os.NewSyscallError("read", failed)
	}
	return n, from, err
}

func (c *conversation) send(message []byte) (err error) {
	if !c.unconnected {
		_, err = c.file.Write(message)
		return err
	}
	// The port of a raw socket is the number of its protocol, or none.
	c.control(func(fd int) { err = unix.Sendto(fd, message, 0, sockaddr(netip.AddrPortFrom(c.to.Addr(), 0))) })
	return os.NewSyscallError("sendto", err)
}

// checksum is that of RFC 1071 over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// classify finds the word for an error. EHOSTUNREACH and ENETUNREACH stand for several ICMP codes, of which some say
// that somebody forbids it: those are in the socket's error queue.
func (c *conversation) classify(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.ENOBUFS):
		// ENOBUFS is a drop by the sender's own device: most sockets hear nothing of it (udp_send_skb), and none if the
		// packet has waited for a neighbour.
		return Timeout
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EPROTO):
		return Refused // ENOPROTOOPT is what "protocol unreachable" says, EPROTO its kin of IPv6: an unknown next header
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return Reset
	case c.prohibited(), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL):
		return Prohibited // EINVAL is what a blackhole route says
	case errors.Is(err, unix.ENETUNREACH):
		return NetUnreachable
	case errors.Is(err, unix.EHOSTUNREACH):
		return HostUnreachable
	case errors.Is(err, unix.EMSGSIZE):
		return MessageTooLong
	}
	return Unknown
}

// prohibited reports whether an ICMP error said that somebody forbids the packet.
func (c *conversation) prohibited() bool {
	c.readErrors(func(netip.Addr, []byte) bool { return true })
	return c.forbidden
}

// readErrors empties the socket's error queue. It says whether there was an error that is about what mine accepts: the
// packet that the error quotes, by its destination, and from its transport header on.
func (c *conversation) readErrors(mine func(to netip.Addr, quoted []byte) bool) (found bool) {
	c.control(func(fd int) {
		buf, oob := make([]byte, 256), make([]byte, 512)
		for {
			size, n, _, to, err := unix.Recvmsg(fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			messages, err := unix.ParseSocketControlMessage(oob[:n])
			if err != nil {
				return
			}
			if !mine(addrOf(to).Addr(), buf[:size]) {
				continue
			}
			found = true
			for _, m := range messages {
				if len(m.Data) >= int(unsafe.Sizeof(unix.SockExtendedErr{})) {
					// struct sock_extended_err: errno (4 bytes), origin, type, code.
					c.forbidden = c.forbidden || forbids(m.Data[4], m.Data[5], m.Data[6])
				}
			}
		}
	})
	return found
}

// forbids knows the codes of RFC 792, 1812 and 4443 for "administratively prohibited".
func forbids(origin, icmpType, code byte) bool {
	switch origin {
	case unix.SO_EE_ORIGIN_ICMP:
		return icmpType == 3 && (code == 9 || code == 10 || code == 13)
	case unix.SO_EE_ORIGIN_ICMP6:
		return icmpType == 1 && (code == 1 || code == 5 || code == 6)
	}
	return false
}
