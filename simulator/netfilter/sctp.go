package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// sctpState is a state of nf_conntrack_proto_sctp.
type sctpState uint8

const (
	sctpNone sctpState = iota
	sctpClosed
	sctpCookieWait
	sctpCookieEchoed
	sctpEstablished
	sctpShutdown // sent or received: what a new association makes of both is the same
	sctpShutdownAckSent
	sctpHeartbeatSent
)

// sctpPacket advances the connection by a packet of an association that opens
// (nf_conntrack_sctp_packet). It says false when the packet is invalid in the
// connection's state: then it does not belong to it.
func (c *Conn) sctpPacket(p *netstack.Packet, reply bool) bool {
	if !c.Confirmed {
		// Other chunks fail the check of the verification tag, which no INIT has told.
		if p.Chunks != netstack.SCTPInit {
			return false
		}
		c.sctp = sctpClosed
		return true
	}
	if c.sctp == sctpHeartbeatSent && reply && p.Chunks&(netstack.SCTPInit|netstack.SCTPInitAck|netstack.SCTPAbort|netstack.SCTPCookieAck) != 0 {
		return false
	}
	switch {
	case p.Chunks == netstack.SCTPInit && !reply:
		switch c.sctp {
		case sctpShutdown:
			c.sctp = sctpClosed
		case sctpHeartbeatSent:
			c.sctp = sctpCookieWait
		}
		return true
	case p.Chunks == netstack.SCTPInitAck && reply:
		c.answeredInit = true
		if c.sctp == sctpClosed {
			c.sctp = sctpCookieWait
		}
		return true
	}
	// The tag of what the server sends is known from the INIT, that of what the
	// client sends from the INIT-ACK.
	if !reply && !c.answeredInit {
		return false
	}
	switch {
	case p.Chunks&netstack.SCTPAbort != 0:
		c.sctp = sctpClosed
	case p.Chunks&netstack.SCTPCookieEcho != 0 && !reply && c.sctp == sctpCookieWait:
		c.sctp = sctpCookieEchoed
	case p.Chunks&netstack.SCTPCookieAck != 0 && reply && c.sctp == sctpCookieEchoed:
		c.sctp, c.Assured = sctpEstablished, true
	}
	return true
}

// sctpChunksMatch is sctp --chunk-types.
type sctpChunksMatch struct {
	mode   sctpChunksMode
	chunks [256]bool
	// flags are those that a chunk of a type must have set, of those in the mask.
	flags  map[uint8]sctpChunkFlags
	invert bool
}

type sctpChunkFlags struct{ mask, set uint8 }

type sctpChunksMode uint8

const (
	sctpChunksAll sctpChunksMode = iota
	sctpChunksAny
	sctpChunksOnly
)

// sctpFlagsOf are the flags of a chunk as the walk sends it, and which of them are
// known: a message is one chunk, its first and its last, and delivered in order;
// whether it asks to be acknowledged at once, its sender chooses.
func sctpFlagsOf(chunk uint8) sctpChunkFlags {
	if chunk == 0 {
		const last, first, atOnce = 1, 2, 8
		return sctpChunkFlags{mask: 0xff &^ atOnce, set: last | first}
	}
	return sctpChunkFlags{mask: 0xff}
}

func (m *sctpChunksMatch) match(x *traversal) tri {
	if x.p.Protocol != netstack.ProtoSCTP {
		return no
	}
	hit := m.hit(x.p.Chunks)
	if hit == maybe || !m.invert {
		return hit
	}
	return is(hit == no)
}

// hit is match_packet of xt_sctp.
func (m *sctpChunksMatch) hit(carried netstack.SCTPChunks) tri {
	missing, open := false, false
	for chunk := range uint8(16) {
		has := carried&(1<<chunk) != 0
		switch wanted := m.chunks[chunk]; {
		case !has:
			missing = missing || wanted
		case !wanted:
			if m.mode == sctpChunksOnly {
				return no
			}
		default:
			switch m.flagged(chunk) {
			case maybe:
				open = true
			case yes:
				if m.mode == sctpChunksAny {
					return yes
				}
			case no:
				if m.mode == sctpChunksOnly {
					return no
				}
				missing = true
			}
		}
	}
	for _, wanted := range m.chunks[16:] {
		missing = missing || wanted
	}
	if m.mode == sctpChunksAll && missing {
		return no
	}
	if open {
		return maybe
	}
	return is(m.mode != sctpChunksAny)
}

// flagged says whether a chunk that the packet carries has the flags that are asked for.
func (m *sctpChunksMatch) flagged(chunk uint8) tri {
	want, have := m.flags[chunk], sctpFlagsOf(chunk)
	switch {
	case (want.set^have.set)&want.mask&have.mask != 0:
		return no
	case want.mask&^have.mask != 0:
		return maybe
	}
	return yes
}

func (m *sctpChunksMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match sctp --chunk-types")
}

// sctpChunkNames are those of libxt_sctp.
var sctpChunkNames = map[string]uint8{
	"DATA": 0, "INIT": 1, "INIT_ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT_ACK": 5, "ABORT": 6, "SHUTDOWN": 7, "SHUTDOWN_ACK": 8,
	"ERROR": 9, "COOKIE_ECHO": 10, "COOKIE_ACK": 11, "ECN_ECNE": 12, "ECN_CWR": 13, "SHUTDOWN_COMPLETE": 14, "I_DATA": 64, "RE_CONFIG": 130,
	"PAD": 132, "ASCONF": 193, "ASCONF_ACK": 128, "FORWARD_TSN": 192, "I_FORWARD_TSN": 194,
}

// sctpFlagLetters are the flags of chunks, from the lowest bit on.
var sctpFlagLetters = map[uint8]string{0: "EBUI", 64: "EBUI", 6: "T", 14: "T"}

// sctpChunks reads {all|any|only} TYPE[:FLAGS][,…] as iptables-save prints it: an
// upper-case letter is a flag that is set, a lower-case one that is not.
func (r *ruleParser) sctpChunks(name string, invert bool) error {
	mode, err := r.value(name)
	if err != nil {
		return err
	}
	m := &sctpChunksMatch{invert: invert}
	switch mode {
	case "all":
	case "any":
		m.mode = sctpChunksAny
	case "only":
		m.mode = sctpChunksOnly
	default:
		return r.errorf(mode, "want all, any or only")
	}
	list, err := r.value(name)
	if err != nil {
		return err
	}
	for item := range strings.SplitSeq(list, ",") {
		chunk, letters, _ := strings.Cut(item, ":")
		number, known := sctpChunkNames[strings.ToUpper(chunk)]
		switch {
		case chunk == "NONE" && list == "NONE":
			continue
		case chunk == "ALL" && list == "ALL":
			for i := range m.chunks {
				m.chunks[i] = true
			}
			continue
		case !known:
			return r.errorf(item, "unknown type of SCTP chunk")
		}
		m.chunks[number] = true
		for _, letter := range letters {
			bit := strings.IndexRune(sctpFlagLetters[number], letter&^0x20)
			if bit < 0 {
				return r.errorf(item, "unknown flag of the SCTP chunk")
			}
			flag := m.flags[number]
			flag.mask |= 1 << bit
			if letter&0x20 == 0 {
				flag.set |= 1 << bit
			}
			if m.flags == nil {
				m.flags = make(map[uint8]sctpChunkFlags)
			}
			m.flags[number] = flag
		}
	}
	r.add(m)
	return nil
}
