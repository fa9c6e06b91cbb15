package judge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// sctpPorts are those on which a namespace listens to SCTP.
func (w *World) sctpPorts(ns string) []uint16 {
	var ports []uint16
	for i := range w.Elements {
		e := &w.Elements[i]
		if text, ok := strings.CutPrefix(e.Text, "sctp "); ok && e.Tool == ToolListen && e.Namespace == ns {
			if port, err := strconv.ParseUint(text, 10, 16); err == nil {
				ports = append(ports, uint16(port))
			}
		}
	}
	return ports
}

// listenSCTP opens the SCTP of the calling thread's namespace.
func (b *built) listenSCTP(ns string, ports []uint16) error {
	for _, f := range families {
		l, err := lab.ListenSCTP(f)
		if err != nil {
			return err
		}
		l.Name = ns
		l.Accepts = func(at netip.AddrPort) bool { return slices.Contains(ports, at.Port()) }
		l.Heard = func(tag uint32, seen, at netip.AddrPort) {
			b.ears.note(sctpKey(tag), Arrival{Namespace: ns, Seen: seen, At: at})
		}
		b.ears.serve(l.Close, func() { _ = l.Serve() })
	}
	return nil
}

// sctpKey is what an association is known by.
func sctpKey(tag uint32) string { return fmt.Sprintf("sctp tag %#x", tag) }

// initTag is the tag of a packet of SCTP that asks for an association.
func initTag(packet []byte) (tag uint32, ok bool) {
	const header, initChunk = 12, 1
	if len(packet) < header+8 || packet[header] != initChunk {
		return 0, false
	}
	return binary.BigEndian.Uint32(packet[header+4:]), true
}
