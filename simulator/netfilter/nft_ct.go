package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ct compiles what is known of the packet's connection (nft_ct_get_eval).
func (p *nftParser) ct(n *jsonNode) (nftExpr, error) {
	p.needTracking()
	key, dir := n.str("key"), n.str("dir")
	e := nftExpr{name: strings.Join(strings.Fields("ct "+dir+" "+key), " "), hostOrder: true, bits: 32}
	if key == "state" {
		e.typ = nftCTState
		e.get = func(x *traversal) (u128, tri) {
			bit := uint64(x.ctStateBit())
			if bit == uint64(bitUntracked) {
				bit = nftUntracked
			}
			return word(bit)
		}
		return e, nil
	}
	get, err := p.ctField(&e, key, dir)
	if err != nil {
		return e, err
	}
	// Without a connection the rule breaks off; a template is none.
	e.get = func(x *traversal) (u128, tri) {
		if x.st.Conn == nil {
			return u128{}, no
		}
		return get(x, x.st.Conn)
	}
	return e, nil
}

type ctGetter func(x *traversal, c *Conn) (u128, tri)

func (p *nftParser) ctField(e *nftExpr, key, dir string) (ctGetter, error) {
	tuple := func(x *traversal, c *Conn) *Tuple {
		switch dir {
		case "original":
			return c.tuple(false)
		case "reply":
			return c.tuple(true)
		}
		return c.tuple(x.st.Reply)
	}
	unknown := func(*traversal, *Conn) (u128, tri) { return u128{}, maybe }
	switch key {
	case "status":
		e.typ = nftCTStatus
		return func(_ *traversal, c *Conn) (u128, tri) { return word(uint64(c.status())) }, nil
	case "mark":
		return func(_ *traversal, c *Conn) (u128, tri) { return word(uint64(c.Mark)) }, nil
	case "direction":
		e.typ = nftCTDirection
		return func(x *traversal, _ *Conn) (u128, tri) {
			if x.st.Reply {
				return word(1)
			}
			return word(0)
		}, nil
	case "protocol":
		e.typ = nftProtocol
		return func(x *traversal, c *Conn) (u128, tri) { return word(uint64(tuple(x, c).Protocol)) }, nil
	case "l3proto":
		e.typ = nftNFProto
		return func(_ *traversal, c *Conn) (u128, tri) {
			if c.Original.Dst.Is4() {
				return word(nfprotoIPv4)
			}
			return word(nfprotoIPv6)
		}, nil
	case "proto-src":
		return func(x *traversal, c *Conn) (u128, tri) { return word(uint64(tuple(x, c).SrcPort)) }, nil
	case "proto-dst":
		return func(x *traversal, c *Conn) (u128, tri) {
			t := tuple(x, c)
			if isICMP(t.Protocol) {
				return word(uint64(t.ICMPType)<<8 | uint64(t.ICMPCode)) // the union's bytes
			}
			return word(uint64(t.DstPort))
		}, nil
	case "saddr", "ip saddr", "ip6 saddr", "daddr", "ip daddr", "ip6 daddr":
		e.typ, e.hostOrder = nftAddr, false
		var want netstack.Family
		switch {
		case strings.HasPrefix(key, "ip6"):
			e.typ, want, e.bits = nftIPv6, netstack.IPv6, 128
		case strings.HasPrefix(key, "ip"):
			e.typ, want = nftIPv4, netstack.IPv4
		}
		src := strings.HasSuffix(key, "saddr")
		return func(x *traversal, c *Conn) (u128, tri) {
			if want != 0 && want != x.family {
				return u128{}, no
			}
			if src {
				return addrBits(tuple(x, c).Src), yes
			}
			return addrBits(tuple(x, c).Dst), yes
		}, nil
	case "label":
		e.typ = nftCTLabel
		return func(_ *traversal, c *Conn) (u128, tri) { return c.labels, yes }, nil
	case "helper":
		e.typ = nftText
		p.c.local = true
		if v, _ := p.c.ns.Sysctl(helperSysctl); v != 0 {
			return unknown, nil // the kernel assigns them by port
		}
		return func(_ *traversal, c *Conn) (u128, tri) {
			v, ok := ifaceName(c.helper)
			return v, is(ok && c.helper != "")
		}, nil
	case "zone":
		return func(_ *traversal, c *Conn) (u128, tri) {
			if dir != "" {
				return word(uint64(c.zone.of(dir == "reply")))
			}
			return word(uint64(c.zone.id))
		}, nil
	case "expiration", "id", "bytes", "packets", "avgpkt":
		return unknown, nil
	}
	return nil, notModelled(e.name)
}
