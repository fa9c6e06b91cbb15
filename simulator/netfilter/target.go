package netfilter

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// outcome is what an action makes of the traversal.
type outcome struct {
	kind       outcomeKind
	chain      *chain // of outJump and outGoto
	rejectWith string
	noRoute    bool
	divert     *divert // of outDivert
}

type outcomeKind uint8

const (
	outContinue outcomeKind = iota
	outAccept
	outDrop
	outReject
	outQueue
	outDivert
	outReturn
	outJump
	outGoto
	outExhausted // too many rules were met
	outBreak     // this rule does not go on: a look-up found nothing
)

// action is what a rule does to a packet that it matches.
type action interface {
	do(x *traversal) outcome
}

// verdictAction ends, leaves or enters a chain.
type verdictAction struct {
	kind       outcomeKind
	chain      *chain
	rejectWith string
	text       string // for traces; empty when it follows from kind and chain
}

func (a *verdictAction) String() string {
	switch {
	case a.text != "" || a.chain == nil:
		return a.text
	case a.kind == outGoto:
		return "goto " + a.chain.name
	}
	return "jump " + a.chain.name
}

func (a *verdictAction) do(x *traversal) outcome {
	if x.st.Steps != nil {
		text := a.text
		switch {
		case text != "":
		case x.st.Texts != nil:
			text = keep(&x.st.Texts.actions, a, (*verdictAction).String)
		default:
			text = a.String()
		}
		x.traceRule(text, false)
	}
	return outcome{kind: a.kind, chain: a.chain, rejectWith: a.rejectWith}
}

// rejectAction is REJECT. Words are those of iptables in each family: a rule
// of the inet family meets both.
type rejectAction struct{ with4, with6 string }

func (a *rejectAction) do(x *traversal) outcome {
	with := a.with4
	if x.family == netstack.IPv6 {
		with = a.with6
	}
	if x.st.Steps != nil {
		x.traceRule("reject with "+with, false)
	}
	return outcome{kind: outReject, rejectWith: with}
}

// noEffect is an action that never changes a packet's fate: logging, counting.
type noEffect struct{ name string }

func (a *noEffect) do(x *traversal) outcome {
	x.traceRule(a.name, false)
	return outcome{}
}

// unknownAction could end the packet's way, let it pass, or change nothing.
// All three ways are walked.
type unknownAction struct{ what, accepts string }

func newUnknownAction(what string) *unknownAction {
	return &unknownAction{what: what, accepts: what + " (accepting the packet)"}
}

func (a *unknownAction) do(x *traversal) outcome {
	switch {
	case x.env.Unknown(x.ref(), a.what):
		x.traceRule("unknown: assumed to drop", false)
		return outcome{kind: outDrop}
	case x.env.Unknown(x.ref(), a.accepts):
		x.traceRule("unknown: assumed to accept", false)
		return outcome{kind: outAccept}
	}
	x.traceRule("unknown: assumed to go on", false)
	return outcome{}
}

// setMark is MARK: mark = mark AND NOT mask, XOR value.
type setMark struct{ value, mask uint32 }

func (a *setMark) do(x *traversal) outcome {
	x.p.Mark = x.p.Mark&^a.mask ^ a.value
	x.traceRule("mark", true)
	return outcome{}
}

type connmarkOp uint8

const (
	connmarkSet connmarkOp = iota
	connmarkSave
	connmarkRestore
)

// setConnmark is CONNMARK (connmark_tg_shift).
type setConnmark struct {
	op                    connmarkOp
	value, ctMask, nfMask uint32
	shift                 int8 // to the left; to the right when negative
}

func (a *setConnmark) shifted(v uint32) uint32 {
	if a.shift < 0 {
		return v >> -a.shift
	}
	return v << a.shift
}

func (a *setConnmark) do(x *traversal) outcome {
	c := x.st.Conn
	if c == nil {
		return outcome{}
	}
	switch a.op {
	case connmarkSet:
		c.Mark = a.shifted(c.Mark&^a.ctMask ^ a.value)
		x.traceRule("set connection mark", false)
	case connmarkSave:
		c.Mark = c.Mark&^a.ctMask ^ a.shifted(x.p.Mark&a.nfMask)
		x.traceRule("save mark to the connection", false)
	case connmarkRestore:
		x.p.Mark = x.p.Mark&^a.nfMask ^ a.shifted(c.Mark&a.ctMask)
		x.traceRule("restore mark from the connection", true)
	}
	return outcome{}
}

// notrack keeps a packet out of connection tracking, if nothing was decided
// about that before.
type notrack struct{}

func (notrack) do(x *traversal) outcome {
	if x.st.Conn == nil && x.st.CT == CTNone && !x.st.template {
		x.st.CT = CTUntracked
		x.traceRule("notrack", false)
	}
	return outcome{}
}

// setTemplate is CT: it says how the packet is going to be tracked. Only the
// first such rule has a say (xt_ct_target).
type setTemplate struct {
	zone     zone
	fromMark bool
}

func (a *setTemplate) do(x *traversal) outcome {
	st := x.st
	if st.Conn == nil && st.CT == CTNone && !st.template {
		st.template, st.zone, st.zoneFromMark = true, a.zone, a.fromMark
		x.traceRule("ct", false)
	}
	return outcome{}
}

// defaultMSS is that of a SYN without the option (RFC 9293, 3.7.1).
func defaultMSS(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 1220
	}
	return 536
}

// setMSS is TCPMSS. It never raises the option.
type setMSS struct {
	// add gives a SYN without the option one (tcpmss_mangle_packet; nftables
	// does not).
	add    bool
	mss    uint16
	clamp  bool
	remove bool
}

func (a *setMSS) do(x *traversal) outcome {
	p := x.p
	if p.Protocol != netstack.ProtoTCP || p.TCPFlags&netstack.SYN == 0 || p.MSS == 0 && !a.add {
		return outcome{}
	}
	if a.remove {
		p.MSS = 0
		x.traceRule("remove MSS", true)
		return outcome{}
	}
	mss := int(a.mss)
	if a.clamp {
		headers := 40
		if x.family == netstack.IPv6 {
			headers = 60
		}
		mtu := x.env.OutMTU(x.st)
		if mtu <= headers {
			return outcome{}
		}
		mss = mtu - headers
	}
	if p.MSS == 0 {
		mss = min(mss, defaultMSS(x.family))
	}
	if p.MSS == 0 || mss < int(p.MSS) {
		p.MSS = uint16(mss)
		x.traceRule("set MSS", true)
	}
	return outcome{}
}

// setTOS is TOS and DSCP: tos = tos AND NOT mask, XOR value.
type setTOS struct{ value, mask uint8 }

func (a *setTOS) do(x *traversal) outcome {
	x.p.TOS = x.p.TOS&^a.mask ^ a.value
	x.traceRule("set TOS", true)
	return outcome{}
}

type ttlOp uint8

const (
	ttlSet ttlOp = iota
	ttlInc
	ttlDec
)

// ActionSetTTL is what steps say of a rule that has set the hop limit.
const ActionSetTTL = "set TTL"

// setTTL is TTL and HL.
type setTTL struct {
	op    ttlOp
	value uint8
}

func (a *setTTL) do(x *traversal) outcome {
	switch a.op {
	case ttlSet:
		x.p.TTL = a.value
	case ttlInc:
		x.p.TTL = uint8(min(int(x.p.TTL)+int(a.value), 255))
	case ttlDec:
		x.p.TTL = uint8(max(int(x.p.TTL)-int(a.value), 0))
	}
	x.traceRule(ActionSetTTL, true)
	return outcome{}
}
