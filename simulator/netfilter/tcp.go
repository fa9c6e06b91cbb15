package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// tcpState is a state of nf_conntrack_proto_tcp.
type tcpState uint8

const (
	tcpNone tcpState = iota
	tcpSynSent
	tcpSynRecv
	tcpEstablished
	tcpFinWait
	tcpCloseWait
	tcpLastAck
	tcpTimeWait
	tcpClose
	tcpSynSent2
	tcpStates
	// What the transition table says instead of a state.
	tcpInvalid
	tcpIgnore
)

// tcpKind is what the state machine distinguishes of a segment
// (get_conntrack_index).
type tcpKind uint8

const (
	tcpSYN tcpKind = iota
	tcpSYNACK
	tcpFIN
	tcpACK
	tcpRST
	tcpNoFlags
	tcpKinds
)

func tcpKindOf(f netstack.TCPFlags) tcpKind {
	switch {
	case f&netstack.RST != 0:
		return tcpRST
	case f&netstack.SYN != 0:
		if f&netstack.ACK != 0 {
			return tcpSYNACK
		}
		return tcpSYN
	case f&netstack.FIN != 0:
		return tcpFIN
	case f&netstack.ACK != 0:
		return tcpACK
	}
	return tcpNoFlags
}

// tcpNext returns the state after a segment. Sequence numbers are not
// modelled: every segment counts as inside the window.
func tcpNext(reply bool, kind tcpKind, from tcpState) tcpState {
	const (
		no = tcpNone
		ss = tcpSynSent
		sr = tcpSynRecv
		es = tcpEstablished
		fw = tcpFinWait
		cw = tcpCloseWait
		la = tcpLastAck
		tw = tcpTimeWait
		cl = tcpClose
		s2 = tcpSynSent2
		iv = tcpInvalid
		ig = tcpIgnore
	)
	// The transitions of the kernel: a column for each state from tcpNone on.
	original := [tcpKinds][tcpStates]tcpState{
		tcpSYN:     {ss, ss, ig, ig, ig, ig, ig, ss, ss, s2},
		tcpSYNACK:  {iv, iv, sr, iv, iv, iv, iv, iv, iv, sr},
		tcpFIN:     {iv, iv, fw, fw, la, la, la, tw, cl, iv},
		tcpACK:     {es, iv, es, es, cw, cw, tw, tw, cl, iv},
		tcpRST:     {iv, cl, cl, cl, cl, cl, cl, cl, cl, cl},
		tcpNoFlags: {iv, iv, iv, iv, iv, iv, iv, iv, iv, iv},
	}
	answer := [tcpKinds][tcpStates]tcpState{
		tcpSYN:     {iv, s2, iv, iv, iv, iv, iv, ss, iv, s2},
		tcpSYNACK:  {iv, sr, ig, ig, ig, ig, ig, ig, ig, sr},
		tcpFIN:     {iv, iv, fw, fw, la, la, la, tw, cl, iv},
		tcpACK:     {iv, ig, sr, es, cw, cw, tw, tw, cl, ig},
		tcpRST:     {iv, cl, cl, cl, cl, cl, cl, cl, cl, cl},
		tcpNoFlags: {iv, iv, iv, iv, iv, iv, iv, iv, iv, iv},
	}
	if reply {
		return answer[kind][from]
	}
	return original[kind][from]
}

// tcpValidFlags are the combinations that a sane stack sends, apart from PSH,
// ECE and CWR (tcp_valid_flags).
func tcpValidFlags(f netstack.TCPFlags) bool {
	switch f &^ (netstack.PSH | netstack.ECE | netstack.CWR) {
	case netstack.SYN, netstack.SYN | netstack.URG, netstack.SYN | netstack.ACK,
		netstack.RST, netstack.RST | netstack.ACK,
		netstack.FIN | netstack.ACK, netstack.FIN | netstack.ACK | netstack.URG,
		netstack.ACK, netstack.ACK | netstack.URG:
		return true
	}
	return false
}

// tcpSegment advances the connection by a segment (nf_conntrack_tcp_packet).
// It says false when the segment is invalid in the connection's state: then
// the packet does not belong to it.
func (s ctSettings) tcpSegment(c *Conn, p *netstack.Packet, reply bool) bool {
	if !tcpValidFlags(p.TCPFlags) {
		return false
	}
	next := tcpNext(reply, tcpKindOf(p.TCPFlags), c.tcp)
	switch next {
	case tcpInvalid:
		return false
	case tcpIgnore:
		return true
	}
	if !c.Confirmed && next != tcpSynSent && !s.tcpLoose {
		return false // no picking up of connections half-way
	}
	if c.SeenReply && next == tcpEstablished && (c.tcp == tcpSynRecv || c.tcp == tcpEstablished) {
		c.Assured = true
	}
	c.tcp = next
	return true
}
