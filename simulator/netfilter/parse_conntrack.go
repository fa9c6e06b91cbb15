package netfilter

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Entries are the connections that a namespace's kernel knew when its state was
// read, by both of their tuples.
type Entries struct {
	byTuple   map[entryKey]*Conn
	droppable bool
}

type entryKey struct {
	tuple Tuple
	reply bool
	zone  uint16
}

// Len is the number of entries.
func (e *Entries) Len() int { return len(e.byTuple) / 2 }

// Droppable says whether the kernel may drop one of the connections for a new one, when its table is full: one that is not
// assured (early_drop_list).
func (e *Entries) Droppable() bool { return e.droppable }

// find returns a copy of the entry that has the tuple: a walk may change it.
func (e *Entries) find(tuple *Tuple, z zone) (c *Conn, reply bool) {
	if e == nil {
		return nil, false
	}
	for _, reply := range []bool{false, true} {
		if c := e.byTuple[entryKey{*tuple, reply, z.of(reply)}]; c != nil {
			own := *c
			return &own, reply
		}
	}
	return nil, false
}

// ParseConntrack reads what `conntrack -L`, also with -o extended, and
// /proc/net/nf_conntrack print. An error is a *SyntaxError with its line.
func ParseConntrack(file string, data []byte) (*Entries, error) {
	e := &Entries{byTuple: make(map[entryKey]*Conn)}
	s := &lineScanner{file: file, text: string(data)}
	for s.next() {
		// The tool's last line tells how many it has shown.
		if strings.TrimSpace(s.cur) == "" || strings.HasPrefix(s.cur, "conntrack v") {
			continue
		}
		c, err := parseEntry(s)
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		e.droppable = e.droppable || !c.Assured
		for _, reply := range []bool{false, true} {
			key := entryKey{*c.tuple(reply), reply, c.zone.of(reply)}
			if _, taken := e.byTuple[key]; !taken {
				e.byTuple[key] = c
			}
		}
	}
	return e, nil
}

// parseEntry reads one line; nil for an entry of a protocol that no query is
// about.
func parseEntry(s *lineScanner) (*Conn, error) {
	fields := strings.Fields(s.cur)
	if fields[0] == "ipv4" || fields[0] == "ipv6" {
		fields = fields[min(2, len(fields)):]
	}
	if len(fields) < 3 {
		return nil, s.errorf(s.cur, "want a protocol, its number and two tuples")
	}
	number, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil {
		return nil, s.errorf(fields[1], "not the number of a protocol")
	}
	c := &Conn{Confirmed: true, SeenReply: true, existing: true, srcDone: true, dstDone: true}
	protocol := netstack.Protocol(number)
	tuples := [2]Tuple{{Protocol: protocol}, {Protocol: protocol}}
	at := -1
	for _, field := range fields[2:] {
		key, value, pair := strings.Cut(field, "=")
		switch {
		case field == "[UNREPLIED]":
			c.SeenReply = false
		case field == "[ASSURED]":
			c.Assured = true
		case field[0] == '[':
			// OFFLOAD and its kin.
		case !pair:
			if state, ok := tcpStateNames[field]; ok && protocol == netstack.ProtoTCP {
				c.tcp = state
			}
			if state, ok := sctpStateNames[field]; ok && protocol == netstack.ProtoSCTP {
				c.sctp, c.answeredInit = state, state != sctpClosed
			}
		case key == "src":
			if at++; at > 1 {
				return nil, s.errorf(field, "a third tuple")
			}
			tuples[at].Src, err = netip.ParseAddr(value)
		case key == "dst", key == "sport", key == "dport", key == "type", key == "code", key == "id":
			if at < 0 {
				return nil, s.errorf(field, "before the source address")
			}
			err = tuples[at].set(key, value)
		case key == "mark":
			c.Mark, err = parseUint32(value)
		case key == "zone", key == "zone-orig", key == "zone-reply":
			var id uint64
			id, err = strconv.ParseUint(value, 10, 16)
			c.zone = zone{uint16(id), zoneOptions["--"+key]}
		case key == "helper":
			c.helper = value
		}
		if err != nil {
			return nil, s.errorf(field, "not a value for "+key)
		}
	}
	for i := range tuples {
		t := &tuples[i]
		switch {
		case !t.Src.IsValid() || !t.Dst.IsValid():
			return nil, s.errorf(s.cur, "want two tuples with source and destination")
		case t.Src.Is4() != t.Dst.Is4() || t.Src.Zone() != "" || t.Dst.Zone() != "":
			return nil, s.errorf(t.Dst.String(), "not a destination for "+t.Src.String())
		}
	}
	c.Original, c.Reply = tuples[0], tuples[1]
	inverse, ok := c.Original.invert()
	if !ok {
		return nil, nil
	}
	c.SrcNAT = inverse.Dst != c.Reply.Dst || inverse.DstPort != c.Reply.DstPort
	c.DstNAT = inverse.Src != c.Reply.Src || !isICMP(protocol) && inverse.SrcPort != c.Reply.SrcPort
	return c, nil
}

func (t *Tuple) set(key, value string) error {
	if key == "dst" {
		a, err := netip.ParseAddr(value)
		t.Dst = a
		return err
	}
	bits := 16
	if key == "type" || key == "code" {
		bits = 8
	}
	n, err := strconv.ParseUint(value, 10, bits)
	switch key {
	case "sport", "id":
		t.SrcPort = uint16(n)
	case "dport":
		t.DstPort = uint16(n)
	case "type":
		t.ICMPType = uint8(n)
	case "code":
		t.ICMPCode = uint8(n)
	}
	return err
}

func parseUint32(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	return uint32(n), err
}

// tcpStateNames are those of tcp_conntrack_names.
var tcpStateNames = map[string]tcpState{
	"NONE": tcpNone, "SYN_SENT": tcpSynSent, "SYN_RECV": tcpSynRecv, "ESTABLISHED": tcpEstablished, "FIN_WAIT": tcpFinWait,
	"CLOSE_WAIT": tcpCloseWait, "LAST_ACK": tcpLastAck, "TIME_WAIT": tcpTimeWait, "CLOSE": tcpClose, "SYN_SENT2": tcpSynSent2,
}

// sctpStateNames are those of sctp_conntrack_names.
var sctpStateNames = map[string]sctpState{
	"CLOSED": sctpClosed, "COOKIE_WAIT": sctpCookieWait, "COOKIE_ECHOED": sctpCookieEchoed, "ESTABLISHED": sctpEstablished,
	"SHUTDOWN_SENT": sctpShutdown, "SHUTDOWN_RECD": sctpShutdown, "SHUTDOWN_ACK_SENT": sctpShutdownAckSent, "HEARTBEAT_SENT": sctpHeartbeatSent,
}
