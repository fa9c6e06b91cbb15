package netfilter

import (
	"net/netip"
	"strconv"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Balance is the connection of IPVS that a packet belongs to, on its way from the
// client to a destination to which it was translated: the one that ipvs_mt finds.
type Balance struct{ Virtual netip.AddrPort }

// ipvsMatch is ipvs.
type ipvsMatch struct {
	property *bool // --ipvs alone
	// Of the connection; nil where they are not asked about.
	proto           *netstack.Protocol
	port            *uint16
	addr            *netip.Prefix
	reply, masq     *bool
	controlled      bool
	notProto, notTo bool
	notPort         bool
}

func (m *ipvsMatch) match(x *traversal) tri {
	if m.property != nil {
		return is(x.st.Balanced == *m.property)
	}
	b := x.st.Balance
	switch {
	case !x.st.Balanced || b == nil,
		m.proto != nil && (x.p.Protocol == *m.proto) == m.notProto,
		m.port != nil && (b.Virtual.Port() == *m.port) == m.notPort,
		m.addr != nil && m.addr.Contains(b.Virtual.Addr()) == m.notTo,
		m.reply != nil && (x.st.Conn == nil || x.st.Reply != *m.reply),
		m.masq != nil && !*m.masq:
		return no
	case m.controlled:
		return maybe
	}
	return yes
}

func (m *ipvsMatch) decide(x *traversal) bool {
	return x.env.Unknown(x.ref(), "match ipvs --vportctl")
}

func compileIPVS(r *ruleParser, o options) (matcher, error) {
	m := &ipvsMatch{}
	for _, opt := range o {
		value := ""
		if len(opt.values) > 0 {
			value = opt.values[0]
		}
		bad := func() (matcher, error) { return nil, r.errorf(value, "invalid value for "+opt.name) }
		switch opt.name {
		case "--ipvs":
			if len(o) == 1 {
				m.property = new(bool)
				*m.property = !opt.invert
			}
		case "--vproto":
			p, ok := parseProtocol(value)
			if !ok {
				return bad()
			}
			m.proto, m.notProto = &p, opt.invert
		case "--vport":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return bad()
			}
			port := uint16(n)
			m.port, m.notPort = &port, opt.invert
		case "--vportctl":
			m.controlled = true
		case "--vaddr":
			p, err := netip.ParsePrefix(value)
			if err != nil {
				a, err := netip.ParseAddr(value)
				if err != nil {
					return bad()
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			p = p.Masked()
			m.addr, m.notTo = &p, opt.invert
		case "--vdir":
			reply := value == "REPLY"
			if !reply && value != "ORIGINAL" {
				return bad()
			}
			m.reply = &reply
		case "--vmethod":
			masq := value == "MASQ"
			if !masq && value != "GATE" && value != "IPIP" {
				return bad()
			}
			masq = masq != opt.invert
			m.masq = &masq
		}
	}
	return m, nil
}
