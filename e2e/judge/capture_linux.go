package judge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// capture notes whatever passes through a hidden namespace: there is no telling otherwise that a request got that far.
func (b *built) capture(ns string) error {
	// ETH_P_ALL in network byte order.
	all := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20); err != nil {
		unix.Close(fd)
		return fmt.Errorf("capture: %w", err)
	}
	file := os.NewFile(uintptr(fd), "capture")
	b.ears.serve(file.Close, func() {
		buf := make([]byte, 2048)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			b.ears.notePacket(ns, buf[:n])
		}
	})
	return nil
}

// notePacket notes a request by what it carries, or, of TCP, by the client's port.
func (e *ears) notePacket(ns string, packet []byte) {
	if len(packet) < 20 {
		return
	}
	var src, dst netip.Addr
	var protocol byte
	var rest []byte
	switch packet[0] >> 4 {
	case 4:
		src, dst = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		protocol = packet[9]
		rest = packet[min(int(packet[0]&15)*4, len(packet)):]
	case 6:
		if len(packet) < 40 {
			return
		}
		src, dst = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		protocol, rest = packet[6], packet[40:]
	default:
		return
	}
	if len(rest) < 8 {
		return
	}
	ports := func() (netip.AddrPort, netip.AddrPort) {
		return netip.AddrPortFrom(src, binary.BigEndian.Uint16(rest)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(rest[2:]))
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		if seen, at := ports(); len(rest) >= 14 && rest[13]&0x12 == 0x02 { // SYN without ACK
			e.note(tcpKey(seen.Port()), Arrival{ns, seen, at, true})
		}
	case unix.IPPROTO_UDP:
		seen, at := ports()
		e.note(string(bytes.TrimRight(rest[8:], "\x00")), Arrival{ns, seen, at, true})
	case unix.IPPROTO_SCTP:
		if tag, ok := initTag(rest); ok {
			seen, at := ports()
			e.note(sctpKey(tag), Arrival{ns, seen, at, true})
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if rest[0] == 8 || rest[0] == 128 {
			e.note(string(bytes.TrimRight(rest[8:], "\x00")), Arrival{ns, netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), true})
		}
	}
}
