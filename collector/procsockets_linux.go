package collector

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// socketsFromProc reads the sockets from the text files of /proc/net, which
// need no module. They do not say four things: the interface that a socket is
// bound to, the limit of an accept queue (both queues are left at 0), whether it is
// transparent, and whether an IPv6 socket takes IPv4 packets: the namespace's default is taken.
func (t *target) socketsFromProc() error {
	bindV6Only := false
	if text, err := os.ReadFile(t.proc + "/sys/net/ipv6/bindv6only"); err == nil {
		bindV6Only = string(bytes.TrimSpace(text)) == "1"
	}
	var all []netstack.Socket
	for _, file := range []struct {
		name     string
		protocol netstack.Protocol
		family   netstack.Family
	}{
		{"tcp", netstack.ProtoTCP, netstack.IPv4},
		{"tcp6", netstack.ProtoTCP, netstack.IPv6},
		{"udp", netstack.ProtoUDP, netstack.IPv4},
		{"udp6", netstack.ProtoUDP, netstack.IPv6},
	} {
		data, err := os.ReadFile(t.procNet(file.name))
		if err != nil {
			if file.family == netstack.IPv6 && os.IsNotExist(err) {
				continue // a kernel without IPv6
			}
			return err
		}
		sockets, err := parseProcSockets(string(data), file.protocol, file.family)
		if err != nil {
			return fmt.Errorf("/proc/net/%s: %w", file.name, err)
		}
		for i := range sockets {
			sockets[i].V6Only = file.family == netstack.IPv6 && bindV6Only
		}
		all = append(all, sockets...)
	}
	t.ns.Sockets = all
	return nil
}

// parseProcSockets keeps TCP listeners and all UDP sockets; see proc_net(5).
func parseProcSockets(text string, protocol netstack.Protocol, family netstack.Family) ([]netstack.Socket, error) {
	var out []netstack.Socket
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for number, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			return nil, fmt.Errorf("line %d has %d fields, not 10", number+2, len(fields))
		}
		state, err := strconv.ParseUint(fields[3], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("line %d: state %q", number+2, fields[3])
		}
		if protocol == netstack.ProtoTCP && state != tcpListen {
			continue
		}
		s := netstack.Socket{Family: family, Protocol: protocol, State: socketState(uint8(state))}
		if s.Local, err = parseProcAddr(fields[1]); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+2, err)
		}
		if s.Remote, err = parseProcAddr(fields[2]); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+2, err)
		}
		uid, err := strconv.ParseUint(fields[7], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: user id %q", number+2, fields[7])
		}
		s.UID = uint32(uid)
		if s.Inode, err = strconv.ParseUint(fields[9], 10, 64); err != nil {
			return nil, fmt.Errorf("line %d: inode %q", number+2, fields[9])
		}
		out = append(out, s)
	}
	return out, nil
}

// parseProcAddr reads "0100007F:1F90": words of an address in the machine's
// byte order, and a port.
func parseProcAddr(text string) (netip.AddrPort, error) {
	words, portText, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("address %q", text)
	}
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q", text)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip, uint16(port)), nil
}
