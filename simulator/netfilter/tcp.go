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
