package netfilter

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// tproxy gives packets to a local socket, whoever they are for: TPROXY, and tproxy
// of nftables.
type tproxy struct {
	// addr and port are those that the socket listens at; those of the packet where
	// they are not set.
	addr netip.Addr
	port uint16
	mark setMark // of iptables
	// native says that a rule of nftables finds no socket and goes on, where iptables
	// drops: nft_tproxy_eval_v4, tproxy_tg4.
	native bool
}

func (a *tproxy) String() string {
	return fmt.Sprintf("take for a local proxy at port %d", a.port)
}

func (a *tproxy) do(x *traversal) outcome {
	if x.p.Protocol != netstack.ProtoTCP && x.p.Protocol != netstack.ProtoUDP {
		return outcome{kind: outBreak}
	}
	port := a.port
	if port == 0 {
		port = x.p.DstPort
	}
	if !x.env.Proxy(x.p, a.addr, port, x.st.In) {
		if a.native {
			return outcome{kind: outBreak}
		}
		x.traceRule("no transparent socket takes the packet", false)
		return outcome{kind: outDrop}
	}
	if x.st.Steps != nil {
		x.traceRule(a.String(), false)
	}
	rule := x.ref()
	x.st.Proxied = &rule
	if a.native {
		return outcome{}
	}
	a.mark.do(x)
	return outcome{kind: outAccept}
}

// tproxyTarget parses TPROXY.
type tproxyTarget struct{ a tproxy }

func (t *tproxyTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--on-port":
		n, err := r.number(name, 16)
		t.a.port = uint16(n)
		return true, err
	case "--on-ip":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return true, r.errorf(text, "invalid address for --on-ip")
		}
		if !addr.IsUnspecified() {
			t.a.addr = addr
		}
		return true, nil
	case "--tproxy-mark":
		value, mask, err := r.masked(name, 32)
		t.a.mark = setMark{uint32(value), uint32(mask)}
		return true, err
	}
	return false, nil
}

func (t *tproxyTarget) finish(*ruleParser) (action, error) { return &t.a, nil }

// tproxy reads the statement of nftables.
func (b *nftRuleBuilder) tproxy(n *jsonNode) error {
	a := &tproxy{native: true}
	switch n.str("family") {
	case "ip":
		b.matches = append(b.matches, familyMatch(netstack.IPv4))
	case "ip6":
		b.matches = append(b.matches, familyMatch(netstack.IPv6))
	}
	if v := n.get("addr"); v != nil {
		if v.kind != jsonString {
			return notModelled("a proxy that is looked up")
		}
		addr, err := netip.ParseAddr(v.text)
		if err != nil {
			return b.p.errorf(v, "invalid address")
		}
		a.addr = addr
	}
	if n.get("port") != nil {
		port, ok := n.number("port")
		if !ok {
			return notModelled("a proxy that is looked up")
		}
		if port < 1 || port > 1<<16-1 {
			return b.p.errorf(n, "invalid port")
		}
		a.port = uint16(port)
	}
	b.act(a)
	return nil
}
