package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// maxConntrack bounds how many entries of connection tracking are read of a
// namespace: at about a microsecond for each, reading them stays below a tenth
// of a second. A larger table is not collected, and reports say so.
const maxConntrack = 50000

// errTooLarge is returned for what would cost too much to read: the part counts
// as not collected.
var errTooLarge = errors.New("too large to be read")

// Values of <linux/netfilter/nfnetlink_conntrack.h>.
const (
	ctGet = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoInfo  = 4
	ctaHelp       = 5
	ctaMark       = 8
	ctaZone       = 18

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaProtoNum      = 1
	ctaProtoSrcPort  = 2
	ctaProtoDstPort  = 3
	ctaProtoICMPID   = 4
	ctaProtoICMPType = 5
	ctaProtoICMPCode = 6
	ctaProtoICMP6    = 3 // ICMPv6 attributes come this much later

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
)

var tcpStates = [...]string{
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
}

// readConntrack writes the tracked connections as `conntrack -L` does.
func readConntrack(_ context.Context, t *target) error {
	t.ns.Conntrack.File = t.file("conntrack.txt")
	text, err := os.ReadFile(t.proc + "/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return fmt.Errorf("connections are not tracked: %w", ErrNotSupported)
	}
	count, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return fmt.Errorf("number of tracked connections: %w", err)
	case count == 0:
		return nil
	case count > maxConntrack:
		return fmt.Errorf("%d tracked connections: %w", count, errTooLarge)
	case !t.host.has("nf_conntrack_netlink", "ctnetlink_dump_table"):
		return fmt.Errorf("nf_conntrack_netlink is not loaded: %w", errTooLarge)
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a socket for conntrack: %w", notSupported(err))
	}
	defer conn.Close()
	connections, err := dump(conn, ctGet, []byte{unix.AF_UNSPEC, 0, 0, 0})
	if err != nil {
		return fmt.Errorf("read tracked connections: %w", err)
	}
	var out strings.Builder
	for _, body := range connections {
		if err := writeConnection(&out, body); err != nil {
			return fmt.Errorf("read tracked connections: %w", err)
		}
	}
	t.ns.Conntrack.Data = []byte(out.String())
	return nil
}

// ctTuple is one direction of a connection.
type ctTuple struct {
	src, dst netip.Addr
	proto    uint8
	rest     string // ports, or what ICMP has instead
	zone     uint16 // of this direction alone
}

func writeConnection(out *strings.Builder, body []byte) error {
	var original, reply ctTuple
	var status, mark uint32
	var zone uint16
	var helper, state string
	err := attributes(body, nfgenmsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case ctaTupleOrig:
			original = decodeTuple(ad)
		case ctaTupleReply:
			reply = decodeTuple(ad)
		case ctaStatus:
			status = bigEndian32(ad)
		case ctaMark:
			mark = bigEndian32(ad)
		case ctaZone:
			zone = bigEndian16(ad)
		case ctaHelp:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				if ad.Type() == 1 { // CTA_HELP_NAME
					helper = ad.String()
				}
			})
		case ctaProtoInfo:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				if ad.Type() != 1 { // CTA_PROTOINFO_TCP
					return
				}
				nested(ad, func(ad *netlink.AttributeDecoder) {
					if ad.Type() == 1 { // CTA_PROTOINFO_TCP_STATE
						if n := int(ad.Uint8()); n < len(tcpStates) {
							state = " " + tcpStates[n]
						}
					}
				})
			})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	if !original.src.IsValid() || !reply.src.IsValid() {
		return nil // of a family other than IP
	}
	name, ok := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite"}[original.proto]
	if !ok {
		name = "unknown"
	}
	fmt.Fprintf(out, "%-8s %d%s src=%s dst=%s%s", name, original.proto, state, original.src, original.dst, original.rest)
	if original.zone != 0 {
		fmt.Fprintf(out, " zone-orig=%d", original.zone)
	}
	if status&ipsSeenReply == 0 {
		out.WriteString(" [UNREPLIED]")
	}
	fmt.Fprintf(out, " src=%s dst=%s%s", reply.src, reply.dst, reply.rest)
	if reply.zone != 0 {
		fmt.Fprintf(out, " zone-reply=%d", reply.zone)
	}
	if status&ipsAssured != 0 {
		out.WriteString(" [ASSURED]")
	}
	fmt.Fprintf(out, " mark=%d", mark)
	if zone != 0 {
		fmt.Fprintf(out, " zone=%d", zone)
	}
	if helper != "" {
		out.WriteString(" helper=" + helper)
	}
	out.WriteByte('\n')
	return nil
}

func decodeTuple(ad *netlink.AttributeDecoder) (t ctTuple) {
	port := func(b []byte) uint16 {
		if len(b) != 2 {
			return 0
		}
		return binary.BigEndian.Uint16(b)
	}
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case ctaTupleIP:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				switch ad.Type() {
				case 1, 3: // CTA_IP_V4_SRC, CTA_IP_V6_SRC
					t.src = addr(ad)
				case 2, 4:
					t.dst = addr(ad)
				}
			})
		case ctaTupleZone:
			t.zone = bigEndian16(ad)
		case ctaTupleProto:
			var sport, dport, id uint16
			var typ, code uint8
			var ports, icmp bool
			nested(ad, func(ad *netlink.AttributeDecoder) {
				switch ad.Type() {
				case ctaProtoNum:
					t.proto = ad.Uint8()
				case ctaProtoSrcPort:
					sport, ports = port(ad.Bytes()), true
				case ctaProtoDstPort:
					dport, ports = port(ad.Bytes()), true
				case ctaProtoICMPID, ctaProtoICMPID + ctaProtoICMP6:
					id, icmp = port(ad.Bytes()), true
				case ctaProtoICMPType, ctaProtoICMPType + ctaProtoICMP6:
					typ = ad.Uint8()
				case ctaProtoICMPCode, ctaProtoICMPCode + ctaProtoICMP6:
					code = ad.Uint8()
				}
			})
			switch {
			case icmp:
				t.rest = fmt.Sprintf(" type=%d code=%d id=%d", typ, code, id)
			case ports:
				t.rest = fmt.Sprintf(" sport=%d dport=%d", sport, dport)
			}
		}
	})
	return t
}
