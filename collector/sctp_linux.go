package collector

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readSCTPSockets adds the SCTP endpoints that listen, and the raw sockets that
// take SCTP, to the namespace's sockets.
func (t *target) readSCTPSockets() error {
	bindV6Only, _ := os.ReadFile(t.proc + "/sys/net/ipv6/bindv6only")
	for _, file := range []struct {
		name  string
		parse func(text string) ([]netstack.Socket, error)
	}{
		{"sctp/eps", parseSCTPEndpoints},
		{"raw", parseRawSCTP(netstack.IPv4)},
		{"raw6", parseRawSCTP(netstack.IPv6)},
	} {
		data, err := os.ReadFile(t.procNet(file.name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without it
		}
		if err != nil {
			return err
		}
		sockets, err := file.parse(string(data))
		if err != nil {
			return fmt.Errorf("/proc/net/%s: %w", file.name, err)
		}
		for _, s := range sockets {
			s.V6Only = s.Family == netstack.IPv6 && (s.Protocol == netstack.ProtoRaw || strings.TrimSpace(string(bindV6Only)) == "1")
			t.ns.Sockets = append(t.ns.Sockets, s)
		}
	}
	return nil
}

// parseSCTPEndpoints reads a line for each endpoint (sctp_eps_seq_show): its
// state, port, user and inode are the 4th and the 6th to the 8th field, the
// addresses that it is bound to follow.
func parseSCTPEndpoints(text string) ([]netstack.Socket, error) {
	var out []netstack.Socket
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for number, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			return nil, fmt.Errorf("line %d has %d fields, not 8", number+2, len(fields))
		}
		if fields[3] != strconv.Itoa(tcpListen) {
			continue
		}
		port, err1 := strconv.ParseUint(fields[5], 10, 16)
		uid, err2 := strconv.ParseUint(fields[6], 10, 32)
		inode, err3 := strconv.ParseUint(fields[7], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+2, err)
		}
		for _, field := range fields[8:] {
			addr, err := netip.ParseAddr(field)
			if err != nil {
				return nil, fmt.Errorf("line %d: address %q", number+2, field)
			}
			family := netstack.FamilyOf(addr)
			remote := netip.IPv4Unspecified()
			if family == netstack.IPv6 {
				remote = netip.IPv6Unspecified()
			}
			out = append(out, netstack.Socket{
				Family: family, Protocol: netstack.ProtoSCTP, State: netstack.SocketListen, Local: netip.AddrPortFrom(addr, uint16(port)),
				Remote: netip.AddrPortFrom(remote, 0), UID: uint32(uid), Inode: inode,
			})
		}
	}
	return out, nil
}

// parseRawSCTP reads raw sockets, which have the protocol's number for a port.
func parseRawSCTP(family netstack.Family) func(string) ([]netstack.Socket, error) {
	return func(text string) ([]netstack.Socket, error) {
		var out []netstack.Socket
		all, err := parseProcSockets(text, netstack.ProtoRaw, family)
		for _, s := range all {
			if s.Local.Port() == unix.IPPROTO_SCTP {
				out = append(out, s)
			}
		}
		return out, err
	}
}
