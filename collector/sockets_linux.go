package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Of <linux/sock_diag.h> and <linux/inet_diag.h>.
const (
	sockDiagByFamily = 20
	inetDiagReqV2    = 56 // sizes of the structs
	inetDiagMsg      = 72
	// attributes
	inetDiagSKV6Only = 11
	inetDiagMark     = 15 // for who may administer the network
	inetDiagSockOpt  = 22 // of Linux 5.10 and later, which send it unasked
)

// TCP states, which UDP sockets have, too.
const (
	tcpEstablished = 1
	tcpClose       = 7
	tcpListen      = 10
)

// readSockets reads what may take a new packet: TCP listeners, and UDP sockets
// whether connected or not, and what takes SCTP. A diagnosis module that is not loaded is not asked
// for; the text files of /proc/net serve then.
func readSockets(_ context.Context, t *target) error {
	if err := t.readInetSockets(); err != nil {
		return err
	}
	return t.readSCTPSockets()
}

func (t *target) readInetSockets() error {
	if !t.host.has("inet_diag", "inet_diag_register") {
		return t.socketsFromProc()
	}
	conn, err := dialNetlink(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("open a socket for socket diagnosis: %w", notSupported(err))
	}
	defer conn.Close()
	var all []netstack.Socket
	for _, protocol := range []struct {
		number         netstack.Protocol
		states         uint32
		module, symbol string
	}{
		{netstack.ProtoTCP, 1 << tcpListen, "tcp_diag", "tcp_diag_dump"},
		{netstack.ProtoUDP, 1<<tcpEstablished | 1<<tcpClose, "udp_diag", "udp_diag_dump"},
	} {
		if !t.host.has(protocol.module, protocol.symbol) {
			return t.socketsFromProc()
		}
		for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
			body := make([]byte, inetDiagReqV2)
			body[0], body[1] = addressFamily(family), byte(protocol.number)
			binary.NativeEndian.PutUint32(body[4:], protocol.states)
			sockets, err := listOf(conn, sockDiagByFamily, body, func(body []byte) (netstack.Socket, error) { return t.decodeSocket(protocol.number, body) })
			if err != nil {
				return fmt.Errorf("%s sockets of %s: %w", netstack.ProtocolName(protocol.number), family, err)
			}
			all = append(all, sockets...)
		}
	}
	t.ns.Sockets = all
	return nil
}

// decodeSocket reads a struct inet_diag_msg.
func (t *target) decodeSocket(protocol netstack.Protocol, body []byte) (netstack.Socket, error) {
	s := netstack.Socket{Protocol: protocol, Family: netstack.IPv4}
	err := attributes(body, inetDiagMsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case inetDiagSKV6Only:
			s.V6Only = ad.Uint8() != 0
		case inetDiagMark:
			s.Mark = ad.Uint32()
		case inetDiagSockOpt:
			options := ad.Bytes()
			if len(options) == 0 {
				return errors.New("attribute INET_DIAG_SOCKOPT is empty")
			}
			s.Transparent = new(options[0]&sockOptTransparent() != 0)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	size := 4
	if body[0] == unix.AF_INET6 {
		s.Family, size = netstack.IPv6, 16
	}
	s.State = socketState(body[1])
	local, _ := netip.AddrFromSlice(body[8 : 8+size])
	remote, _ := netip.AddrFromSlice(body[24 : 24+size])
	s.Local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(body[4:]))
	s.Remote = netip.AddrPortFrom(remote, binary.BigEndian.Uint16(body[6:]))
	s.Dev = t.device(int(binary.NativeEndian.Uint32(body[40:])))
	s.RecvQ = binary.NativeEndian.Uint32(body[56:])
	s.SendQ = binary.NativeEndian.Uint32(body[60:])
	s.UID = binary.NativeEndian.Uint32(body[64:])
	s.Inode = uint64(binary.NativeEndian.Uint32(body[68:]))
	return s, nil
}

// sockOptTransparent is the bit field transparent of struct inet_diag_sockopt, the
// sixth: compilers begin at the lowest bit of a byte where the lowest byte comes first.
func sockOptTransparent() byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return 1 << 5
	}
	return 1 << 2
}

func socketState(state uint8) netstack.SocketState {
	switch state {
	case tcpEstablished:
		return netstack.SocketEstablished
	case tcpListen:
		return netstack.SocketListen
	}
	return netstack.SocketUnconnected
}
