package bundle

import (
	"bytes"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// lines yields the lines of a text with the offset of each.
func lines(data []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for offset := 0; offset < len(data); {
			end := len(data)
			if i := bytes.IndexByte(data[offset:], '\n'); i >= 0 {
				end = offset + i
			}
			if !yield(offset, string(data[offset:end])) {
				return
			}
			offset = end + 1
		}
	}
}

// socketProtocols are the netids of ss(8) that carry what is modelled; those
// with 0 are other kinds of sockets, which ss prints when asked for all.
func socketProtocols() map[string]netstack.Protocol {
	return map[string]netstack.Protocol{
		"tcp": netstack.ProtoTCP, "udp": netstack.ProtoUDP, "sctp": netstack.ProtoSCTP, "udplite": netstack.ProtoUDPLite,
		"raw": netstack.ProtoRaw, "dccp": 0, "mptcp": 0, "icmp6": 0, "nl": 0, "p_raw": 0, "p_dgr": 0, "tipc": 0, "xdp": 0,
		"u_str": 0, "u_dgr": 0, "u_seq": 0, "v_str": 0, "v_dgr": 0, "???": 0,
	}
}

// socketStates are the states that ss(8) prints.
func socketStates() map[string]bool {
	states := make(map[string]bool)
	for _, s := range []string{
		"ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "BOUND-INACTIVE",
	} {
		states[s] = true
	}
	return states
}

func readSockets(s *source, n *netstack.Namespace) error {
	protocols, states := socketProtocols(), socketStates()
	for offset, line := range lines(s.data) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "Netid" { // the header, without -H
			continue
		}
		protocol, ok := protocols[fields[0]]
		switch {
		case !ok:
			s.fail(offset, fields[0], "not a kind of socket")
		case len(fields) < 6:
			s.fail(offset, line, "want netid, state, two queues and two addresses")
		case !states[fields[1]]:
			s.fail(offset, fields[1], "not a state of a socket")
		}
		if s.err != nil {
			return s.err
		}
		if protocol == 0 {
			continue
		}
		socket := netstack.Socket{Protocol: protocol, State: netstack.SocketState(strings.ToLower(fields[1]))}
		socket.RecvQ = uint32(s.queue(offset, fields[2]))
		socket.SendQ = uint32(s.queue(offset, fields[3]))
		local, dev := s.endpoint(offset, fields[4])
		socket.Local, socket.Dev = local, dev
		socket.Remote, _ = s.endpoint(offset, fields[5])
		socket.Family = netstack.IPv6
		if socket.Local.Addr().Is4() {
			socket.Family = netstack.IPv4
		}
		// Without -e there is no "v6only:1", but "[::]" instead of "*".
		socket.V6Only = strings.HasPrefix(fields[4], "[::]")
		s.socketDetails(offset, afterFields(line, 6), &socket)
		if s.err != nil {
			return s.err
		}
		n.Sockets = append(n.Sockets, socket)
	}
	return nil
}

// afterFields is what follows the first n fields of a line.
func afterFields(line string, n int) string {
	for range n {
		line = strings.TrimLeft(line, " \t")
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			return ""
		}
		line = line[i:]
	}
	return line
}

func (s *source) queue(offset int, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		s.fail(offset, text, "queue: want a number of 32 bits")
	}
	return n
}

// endpoint reads ADDRESS[%DEVICE]:PORT, where IPv6 addresses are in brackets,
// and "*" is the unspecified IPv6 address of a socket that takes both families.
func (s *source) endpoint(offset int, text string) (netip.AddrPort, string) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		s.fail(offset, text, "address without a port")
		return netip.AddrPort{}, ""
	}
	host, port := text[:colon], text[colon+1:]
	var number uint64
	if port != "*" {
		var err error
		if number, err = strconv.ParseUint(port, 10, 16); err != nil {
			s.fail(offset, text, "not a port (use ss -n)")
			return netip.AddrPort{}, ""
		}
	}
	host, dev, _ := strings.Cut(host, "%")
	// The bracket closes before the device: [fe80::1]%eth0.
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "*" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(number)), dev
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		s.fail(offset, text, "not an IP address")
		return netip.AddrPort{}, ""
	}
	return netip.AddrPortFrom(addr, uint16(number)), dev
}

// sockOptions is where --inet-sockopt begins to list the options that are set.
const sockOptions = " inet-sockopt: ("

// socketDetails reads what -e, -p and --inet-sockopt add. Unknown details are of no account.
func (s *source) socketDetails(offset int, text string, socket *netstack.Socket) {
	// A process may have any name, with spaces too: users:(("name",pid=1,fd=3),…)
	if before, after, ok := strings.Cut(text, `users:(("`); ok {
		name, rest, ok := strings.Cut(after, `",pid=`)
		users, tail, closed := strings.Cut(rest, "))")
		if !ok || !closed {
			s.fail(offset, "users:", "users: want ((\"name\",pid=N,…))")
			return
		}
		pid, _, _ := strings.Cut(users, ",")
		if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
			s.fail(offset, pid, "users: not a process id")
			return
		}
		socket.Process = printable(name) + "," + pid
		text = before + tail
	}
	// It comes last: what is before may hold names of control groups.
	if i := strings.LastIndex(text, sockOptions); i >= 0 {
		list, _, closed := strings.Cut(text[i+len(sockOptions):], ")")
		if !closed {
			s.fail(offset, "inet-sockopt:", "inet-sockopt: want ( OPTION …)")
			return
		}
		socket.Transparent = new(slices.Contains(strings.Fields(list), "transparent"))
		text = text[:i]
	}
	for _, word := range strings.Fields(text) {
		key, value, ok := strings.Cut(word, ":")
		if !ok {
			continue
		}
		var err error
		switch key {
		case "ino":
			socket.Inode, err = strconv.ParseUint(value, 10, 64)
		case "fwmark":
			var mark uint64
			mark, err = strconv.ParseUint(value, 0, 32)
			socket.Mark = uint32(mark)
		case "uid":
			var uid uint64
			uid, err = strconv.ParseUint(value, 10, 32)
			socket.UID = uint32(uid)
		case "v6only":
			if value != "0" && value != "1" {
				err = strconv.ErrSyntax
			}
			socket.V6Only = value == "1" && socket.Family == netstack.IPv6
		}
		if err != nil {
			s.fail(offset, word, "%s: not a number", key)
			return
		}
	}
}

func writeSockets(n *netstack.Namespace) ([]byte, error) {
	names := make(map[netstack.Protocol]string)
	for name, protocol := range socketProtocols() {
		if protocol != 0 {
			names[protocol] = name
		}
	}
	states := socketStates()
	var out bytes.Buffer
	for i := range n.Sockets {
		k := &n.Sockets[i]
		name, ok := names[k.Protocol]
		state := strings.ToUpper(string(k.State))
		if !ok || !states[state] {
			return nil, fmt.Errorf("socket %s: protocol %d or state %q is not one that ss prints", k.Local, k.Protocol, k.State)
		}
		fmt.Fprintf(&out, "%-4s %-6s %d %d %s %s", name, state, k.RecvQ, k.SendQ, formatEndpoint(k, k.Local, k.Dev), formatEndpoint(k, k.Remote, ""))
		if k.Process != "" {
			comma := strings.LastIndexByte(k.Process, ',')
			if _, err := strconv.ParseUint(k.Process[comma+1:], 10, 32); err != nil || comma < 0 {
				return nil, fmt.Errorf("socket %s: process %q is not NAME,PID", k.Local, k.Process)
			}
			fmt.Fprintf(&out, ` users:(("%s",pid=%s,fd=0))`, printable(k.Process[:comma]), k.Process[comma+1:])
		}
		if k.UID != 0 {
			fmt.Fprintf(&out, " uid:%d", k.UID)
		}
		fmt.Fprintf(&out, " ino:%d sk:%x", k.Inode, i+1)
		if k.Mark != 0 {
			fmt.Fprintf(&out, " fwmark:%#x", k.Mark)
		}
		if k.Family == netstack.IPv6 {
			fmt.Fprintf(&out, " v6only:%d", number(k.V6Only))
		}
		out.WriteString(" <->")
		if k.Transparent != nil {
			out.WriteString(sockOptions)
			if *k.Transparent {
				out.WriteString(" transparent")
			}
			out.WriteByte(')')
		}
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// printable replaces what would end the name of a process, or its line: any
// program may give itself any name.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

func formatEndpoint(k *netstack.Socket, e netip.AddrPort, dev string) string {
	host := e.Addr().String()
	switch {
	case e.Addr().IsUnspecified() && e.Addr().Is6() && !k.V6Only:
		host = "*"
	case e.Addr().Is6():
		host = "[" + host + "]"
	}
	if dev != "" {
		host += "%" + dev
	}
	if e.Port() == 0 {
		return host + ":*"
	}
	return host + ":" + strconv.Itoa(int(e.Port()))
}
