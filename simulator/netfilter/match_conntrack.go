package netfilter

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ctBits is a set of connection states, as conntrack's --ctstate names them.
type ctBits uint8

const (
	bitInvalid ctBits = 1 << iota
	bitEstablished
	bitRelated
	bitNew
	bitUntracked
	bitSNAT
	bitDNAT
)

var ctStateBits = map[string]ctBits{
	"INVALID": bitInvalid, "ESTABLISHED": bitEstablished, "RELATED": bitRelated, "NEW": bitNew,
	"UNTRACKED": bitUntracked, "SNAT": bitSNAT, "DNAT": bitDNAT,
}

// ctStateBit is the state of the packet. One that tracking has not seen is
// invalid, unless a rule said how to track it: it has a template, which is new.
func (x *traversal) ctStateBit() ctBits {
	switch x.st.CT {
	case CTNone:
		if x.st.template {
			return bitNew
		}
	case CTNew:
		return bitNew
	case CTEstablished:
		return bitEstablished
	case CTRelated:
		return bitRelated
	case CTUntracked:
		return bitUntracked
	}
	return bitInvalid
}

// asksForState says whether a rule that holds does so for one of the states that it
// names, and not because the packet's state is another one.
func (r *rule) asksForState() bool {
	names := func(k *nftKeyExpr) bool {
		return slices.ContainsFunc(k.parts, func(e nftExpr) bool { return e.typ == nftCTState })
	}
	for i := range r.steps {
		for _, m := range r.steps[i].matches {
			switch m := m.(type) {
			case *conntrackMatch:
				if m.hasState && !m.invertState {
					return true
				}
			case *nftMatch:
				if m.op != opNotEqual && names(&m.key) {
					return true
				}
			}
		}
		if a, ok := r.steps[i].action.(*vmapAction); ok && names(&a.key) {
			return true
		}
	}
	return false
}

// ctStatus is a set of IPS_* bits of a connection, in nftables' numbers.
type ctStatus uint16

const (
	statusExpected ctStatus = 1 << iota
	statusSeenReply
	statusAssured
	statusConfirmed
	statusSNAT
	statusDNAT
)

var ctStatusBits = map[string]ctStatus{
	"NONE": 0, "EXPECTED": statusExpected, "SEEN_REPLY": statusSeenReply, "ASSURED": statusAssured, "CONFIRMED": statusConfirmed,
}

func (c *Conn) status() ctStatus {
	var s ctStatus
	for _, b := range [...]struct {
		on  bool
		bit ctStatus
	}{
		{c.SeenReply, statusSeenReply},
		{c.Assured, statusAssured},
		{c.Confirmed, statusConfirmed},
		{c.SrcNAT, statusSNAT},
		{c.DstNAT, statusDNAT},
	} {
		if b.on {
			s |= b.bit
		}
	}
	return s
}

// tupleAddr is a test of an address of the connection.
type tupleAddr struct {
	addrMask
	reply, src, invert bool
}

// tuplePort is a test of a port of the connection.
type tuplePort struct {
	netstack.PortRange
	reply, src, invert bool
}

// conntrackMatch is conntrack and state (xt_conntrack's conntrack_mt).
type conntrackMatch struct {
	hasState, invertState       bool
	state                       ctBits
	hasStatus, invertStatus     bool
	status                      ctStatus
	hasDirection, reply         bool
	hasProtocol, invertProtocol bool
	protocol                    netstack.Protocol
	addrs                       []tupleAddr
	ports                       []tuplePort
	expire                      bool
}

// asksMore says whether it asks for more than the state.
func (m *conntrackMatch) asksMore() bool {
	return m.hasStatus || m.hasDirection || m.hasProtocol || m.expire || len(m.addrs)+len(m.ports) > 0
}

func (m *conntrackMatch) match(x *traversal) tri {
	c := x.st.Conn
	if m.hasState {
		bit := x.ctStateBit()
		if c != nil {
			if c.SrcNAT {
				bit |= bitSNAT
			}
			if c.DstNAT {
				bit |= bitDNAT
			}
		}
		if (m.state&bit != 0) == m.invertState {
			return no
		}
	}
	if c == nil {
		if x.st.CT == CTNone && x.st.template && m.asksMore() {
			return maybe
		}
		// The kernel looks no further, even when more was asked for.
		return is(m.hasState)
	}
	if m.hasDirection && m.reply != x.st.Reply {
		return no
	}
	if m.hasStatus && (m.status&c.status() != 0) == m.invertStatus {
		return no
	}
	if m.hasProtocol && (c.Original.Protocol == m.protocol) == m.invertProtocol {
		return no
	}
	for i := range m.addrs {
		a := &m.addrs[i]
		t := c.tuple(a.reply)
		addr := t.Dst
		if a.src {
			addr = t.Src
		}
		if a.contains(addrBits(addr)) == a.invert {
			return no
		}
	}
	for i := range m.ports {
		p := &m.ports[i]
		t := c.tuple(p.reply)
		port := t.DstPort
		if p.src {
			port = t.SrcPort
		}
		if p.Contains(port) == p.invert {
			return no
		}
	}
	if m.expire {
		return maybe
	}
	return yes
}

func (m *conntrackMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match conntrack --ctexpire")
}
