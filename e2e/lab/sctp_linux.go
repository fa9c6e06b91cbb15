package lab

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// A kernel without SCTP still carries its packets, tracks them and translates them. The ends are here: as much of RFC 9260
// as opens an association and exchanges one message, over raw sockets.

// Types of chunks.
const (
	sctpData       = 0
	sctpInit       = 1
	sctpInitAck    = 2
	sctpSack       = 3
	sctpAbort      = 6
	sctpCookieEcho = 10
	sctpCookieAck  = 11
)

const (
	sctpHeader      = 12
	sctpCookieParam = 7
	sctpOneMessage  = 3 // the flags of a chunk that begins and ends a message
)

type sctpChunk struct {
	kind, flags byte
	value       []byte
}

type sctpPacket struct {
	from, to uint16
	tag      uint32
	chunks   []sctpChunk
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p *sctpPacket) bytes() []byte {
	b := binary.BigEndian.AppendUint16(nil, p.from)
	b = binary.BigEndian.AppendUint16(b, p.to)
	b = binary.BigEndian.AppendUint32(b, p.tag)
	b = append(b, 0, 0, 0, 0)
	for _, c := range p.chunks {
		b = append(b, c.kind, c.flags)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(c.value)))
		b = append(b, c.value...)
		b = append(b, make([]byte, -len(c.value)&3)...)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli)) // RFC 9260, appendix A
	return b
}

// parseSCTP reads a packet. One whose checksum is wrong is none.
func parseSCTP(b []byte) (p sctpPacket, ok bool) {
	if len(b) < sctpHeader {
		return p, false
	}
	sum := binary.LittleEndian.Uint32(b[8:])
	b = slices.Clone(b)
	copy(b[8:], []byte{0, 0, 0, 0})
	if crc32.Checksum(b, castagnoli) != sum {
		return p, false
	}
	p = sctpPacket{from: binary.BigEndian.Uint16(b), to: binary.BigEndian.Uint16(b[2:]), tag: binary.BigEndian.Uint32(b[4:])}
	for b = b[sctpHeader:]; len(b) >= 4; {
		length := int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			return p, false
		}
		p.chunks = append(p.chunks, sctpChunk{b[0], b[1], b[4:length]})
		b = b[min((length+3)&^3, len(b)):]
	}
	return p, len(p.chunks) > 0
}

// chunk returns the value of the packet's chunk of a type, if it is as long as size at least.
func (p *sctpPacket) chunk(kind byte, size int) ([]byte, bool) {
	for _, c := range p.chunks {
		if c.kind == kind && len(c.value) >= size {
			return c.value, true
		}
	}
	return nil, false
}

// opening is the value of an INIT and of its answer: tag, window, streams, and the first number.
func opening(tag uint32) []byte {
	const window, streams, first = 1 << 16, 1, 1
	b := binary.BigEndian.AppendUint32(nil, tag)
	b = binary.BigEndian.AppendUint32(b, window)
	b = binary.BigEndian.AppendUint32(b, streams<<16|streams)
	return binary.BigEndian.AppendUint32(b, first)
}

func dataChunk(message []byte) sctpChunk {
	value := binary.BigEndian.AppendUint32(nil, 1) // its number
	return sctpChunk{sctpData, sctpOneMessage, append(append(value, make([]byte, 8)...), message...)}
}

const (
	dataHeader = 12
	// sctpPatience is as TCP's with a SYN; a kernel's own SCTP waits longer (rto_initial).
	sctpPatience = time.Second
)

// SCTPTag is the tag by which a client's INIT is known, wherever it comes out: that of its message, or any.
func SCTPTag(message string) uint32 {
	var random [4]byte
	if message == "" {
		_, _ = rand.Read(random[:]) // which never fails
		return binary.BigEndian.Uint32(random[:]) | 1
	}
	return crc32.ChecksumIEEE([]byte(message)) | 1
}

// talkSCTP opens an association, says a message and reads the listener's answer.
func talkSCTP(c *conversation, opts ConnectOptions, fate *Fate) error {
	port, own := opts.SourcePort, SCTPTag(opts.Message)
	if port == 0 {
		port = uint16(32768 + SCTPTag("")%28000)
	}
	routed := fate.Local.Addr().IsValid() // as it was before there were rules
	fate.Local = netip.AddrPortFrom(fate.Local.Addr(), port)
	last := time.Now().Add(opts.Timeout)
	// ask sends a chunk, again after a second, and reads packets until one carries the answer.
	var ask func(tag uint32, say sctpChunk, answer byte, size int) ([]byte, error)
	ask = func(tag uint32, say sctpChunk, answer byte, size int) ([]byte, error) {
		again := time.Now().Add(sctpPatience)
		if again.After(last) {
			again = last
		}
		c.file.SetDeadline(again)
		packet := sctpPacket{port, c.to.Port(), tag, []sctpChunk{say}}
		if err := c.send(packet.bytes()); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOBUFS) {
			// Those two are loss to a kernel's own SCTP (sctp_packet_transmit).
			if !c.aboutSCTP(port) || deaf(tag, err) {
				err = c.send(packet.bytes()) // another's error was waiting
				if routed && noRoute(err) {
					err = nil // a rule led the packet astray: to a kernel's own SCTP, that is loss
				}
			}
			if err != nil {
				return nil, err
			}
		}
		buf := make([]byte, 2048)
		for {
			n, from, err := c.receive(buf)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(last):
				return ask(tag, say, answer, size)
			case errors.Is(err, os.ErrDeadlineExceeded):
				return nil, err
			case err != nil && c.aboutSCTP(port) && !deaf(tag, err):
				return nil, err
			case err != nil:
				continue
			}
			p, ok := parseSCTP(transportOf(buf[:n], c.to.Addr()))
			if !ok || from.Unmap() != c.to.Addr() || p.from != c.to.Port() || p.to != port || p.tag != own {
				continue
			}
			if _, aborted := p.chunk(sctpAbort, 0); aborted {
				return nil, unix.ECONNREFUSED
			}
			if value, ok := p.chunk(answer, size); ok {
				return value, nil
			}
		}
	}
	start, err := ask(0, sctpChunk{sctpInit, 0, opening(own)}, sctpInitAck, 20)
	if err != nil {
		return err
	}
	peer := binary.BigEndian.Uint32(start)
	length := int(binary.BigEndian.Uint16(start[18:])) // of the parameter
	if binary.BigEndian.Uint16(start[16:]) != sctpCookieParam || length < 4 || 16+length > len(start) {
		return fmt.Errorf("the INIT-ACK %x has no cookie", start)
	}
	if _, err := ask(peer, sctpChunk{sctpCookieEcho, 0, start[20 : 16+length]}, sctpCookieAck, 0); err != nil {
		return err
	}
	answer, err := ask(peer, dataChunk([]byte(Payload("sctp", opts.Message))), sctpData, dataHeader)
	if err != nil {
		return err
	}
	return fate.connected(string(answer[dataHeader:]))
}

// deaf says whether a client does not listen to an error, as a kernel's own: once it knows the server's tag, no longer to
// "protocol unreachable" (TYPE_SCTP_OTHER_ICMP_PROTO_UNREACH).
func deaf(tag uint32, err error) bool {
	return tag != 0 && (errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EPROTO))
}

// noRoute says whether an error is that of a route, or of there being none.
func noRoute(err error) bool {
	return slices.ContainsFunc([]error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL}, func(e error) bool { return errors.Is(err, e) })
}

// aboutSCTP says whether the errors that wait are about packets of the client's port: a raw socket hears those of its
// whole namespace.
func (c *conversation) aboutSCTP(port uint16) bool {
	return c.readErrors(func(to netip.Addr, quoted []byte) bool {
		return to == c.to.Addr() && len(quoted) >= 4 && binary.BigEndian.Uint16(quoted) == port && binary.BigEndian.Uint16(quoted[2:]) == c.to.Port()
	})
}

// transportOf cuts the IP header off what a raw socket hands over: IPv4 has it, IPv6 does not.
func transportOf(b []byte, family netip.Addr) []byte {
	if !family.Is4() || len(b) < 20 {
		return b
	}
	return b[min(int(b[0]&15)*4, len(b)):]
}

// SCTPListener is the SCTP of a network namespace, in one family.
type SCTPListener struct {
	conn   *net.IPConn
	family netip.Addr
	// Name is what answers bear.
	Name string
	// Accepts says whether somebody listens at an address; the client is told of it if nobody does.
	Accepts func(at netip.AddrPort) bool
	// Heard is told of every INIT that is accepted, by its tag.
	Heard func(tag uint32, seen, at netip.AddrPort)

	mu           sync.Mutex
	associations map[[2]netip.AddrPort]uint32 // the client's tag
}

// ListenSCTP opens the raw socket in the calling thread's network namespace.
func ListenSCTP(family netstack.Family) (*SCTPListener, error) {
	network, host := "ip4:sctp", netip.IPv4Unspecified()
	if family == netstack.IPv6 {
		network, host = "ip6:sctp", netip.IPv6Unspecified()
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		})
	}}
	network = strings.Replace(network, "sctp", fmt.Sprint(unix.IPPROTO_SCTP), 1)
	conn, err := config.ListenPacket(context.Background(), network, host.String())
	if err != nil {
		return nil, fmt.Errorf("listen to SCTP: %w", err)
	}
	return &SCTPListener{conn: conn.(*net.IPConn), family: host, associations: map[[2]netip.AddrPort]uint32{}}, nil
}

// Close ends Serve.
func (l *SCTPListener) Close() error { return l.conn.Close() }

// Serve answers clients until the listener is closed.
func (l *SCTPListener) Serve() error {
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, m, _, from, err := l.conn.ReadMsgIP(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // such as an error about an earlier answer
		}
		p, ok := parseSCTP(transportOf(buf[:n], l.family))
		to, dev := destinationOf(oob[:m])
		source, known := netip.AddrFromSlice(from.IP)
		if !ok || !to.IsValid() || !known {
			continue
		}
		seen, at := netip.AddrPortFrom(source.Unmap(), p.from), netip.AddrPortFrom(to, p.to)
		if tag, chunks := l.answer(&p, seen, at); chunks != nil {
			reply := sctpPacket{p.to, p.from, tag, chunks}
			_, _, _ = l.conn.WriteMsgIP(reply.bytes(), sourceOf(to, dev), from)
		}
	}
}

// answer is what the server says to a packet, and the tag that it says it with.
func (l *SCTPListener) answer(p *sctpPacket, seen, at netip.AddrPort) (tag uint32, chunks []sctpChunk) {
	ends := [2]netip.AddrPort{seen, at}
	if value, ok := p.chunk(sctpInit, 16); ok {
		tag = binary.BigEndian.Uint32(value)
		if !l.Accepts(at) {
			return tag, []sctpChunk{{kind: sctpAbort}}
		}
		if l.Heard != nil {
			l.Heard(tag, seen, at)
		}
		own := SCTPTag("")
		cookie := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, own), tag)
		parameter := append([]byte{0, sctpCookieParam, 0, byte(4 + len(cookie))}, cookie...)
		return tag, []sctpChunk{{kind: sctpInitAck, value: append(opening(own), parameter...)}}
	}
	if cookie, ok := p.chunk(sctpCookieEcho, 8); ok && binary.BigEndian.Uint32(cookie) == p.tag {
		tag = binary.BigEndian.Uint32(cookie[4:])
		l.mu.Lock()
		l.associations[ends] = tag
		l.mu.Unlock()
		return tag, []sctpChunk{{kind: sctpCookieAck}}
	}
	l.mu.Lock()
	tag, open := l.associations[ends]
	l.mu.Unlock()
	if _, ok := p.chunk(sctpData, dataHeader); ok && open {
		sack := binary.BigEndian.AppendUint32(nil, 1) // what has come so far
		sack = binary.BigEndian.AppendUint32(sack, 1<<16)
		message := Payload("sctp", fmt.Sprintf("%s %s %s ", l.Name, seen, at))
		return tag, []sctpChunk{{kind: sctpSack, value: append(sack, 0, 0, 0, 0)}, dataChunk([]byte(message))}
	}
	return 0, nil
}

// destinationOf reads the address that a packet was sent to, and the device by which it came; sourceOf tells the address
// to send from. One of a link does not do without its device.
func destinationOf(oob []byte) (to netip.Addr, dev uint32) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, 0
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO:
			return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0])).Addr), 0
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0]))
			return netip.AddrFrom16(info.Addr), info.Ifindex
		}
	}
	return netip.Addr{}, 0
}

func sourceOf(a netip.Addr, dev uint32) []byte {
	if a.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	}
	if !a.IsLinkLocalUnicast() {
		dev = 0
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16(), Ifindex: dev})
}

// ShowSCTP adds the listeners of a namespace to its state: a kernel's own SCTP would show them (/proc/net/sctp/eps), and
// its settings, but raw sockets do not.
func ShowSCTP(ns *netstack.Namespace, listeners ...netip.AddrPort) {
	if ns.Sysctls == nil {
		ns.Sysctls = map[string]string{}
	}
	ns.Sysctls["net.sctp.rto_initial"] = "3000"
	for _, at := range listeners {
		family := netstack.FamilyOf(at.Addr())
		ns.Sockets = append(ns.Sockets, netstack.Socket{
			Family: family, Protocol: netstack.ProtoSCTP, State: netstack.SocketListen, Local: at,
			Remote: netip.AddrPortFrom(map[netstack.Family]netip.Addr{netstack.IPv4: netip.IPv4Unspecified(), netstack.IPv6: netip.IPv6Unspecified()}[family], 0),
			V6Only: family == netstack.IPv6,
		})
	}
}
