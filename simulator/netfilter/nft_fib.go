package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// fib is a look-up in the routing tables: the type of an address, or the
// device by which one would answer (nft_fib_ipv4.c, nft_fib_ipv6.c).
func (p *nftParser) fib(n *jsonNode) (nftExpr, error) {
	flags, result := n.strings("flags"), n.str("result")
	has := make(map[string]bool)
	for _, f := range flags {
		has[f] = true
	}
	e := nftExpr{name: "fib " + strings.Join(flags, " . ") + " " + result, hostOrder: true, bits: 32}
	// The device that the look-up is bound to.
	bound := func(st *State) string {
		switch {
		case has["oif"]:
			return st.Out
		case has["iif"]:
			return st.In
		}
		return ""
	}
	switch result {
	case "type":
		e.typ = nftRouteType
		e.get = func(x *traversal) (u128, tri) {
			if x.st.ARP != nil {
				return u128{}, no
			}
			q := FIBQuery{Src: x.p.Src, Dst: x.p.Dst, Dev: bound(x.st)}
			if has["saddr"] {
				q.Src, q.Dst = q.Dst, q.Src
			}
			if has["mark"] {
				q.Mark = x.p.Mark
			}
			t, known := x.addrType(q)
			if !known {
				return u128{}, maybe
			}
			v, ok := nftNames[nftRouteType][string(t)]
			if !ok {
				return u128{}, maybe
			}
			return word(v)
		}
		return e, nil
	case "oif", "oifname":
		e.typ = nftIface
		if result == "oif" {
			e.typ = nftIfaceIndex
		}
		e.get = func(x *traversal) (u128, tri) { return x.fibDevice(has["saddr"], has["mark"], has["iif"], bound(x.st)) }
		return e, nil
	}
	return e, notModelled(e.name)
}

// addrType is the type of the address that is looked up.
func (x *traversal) addrType(q FIBQuery) (t netstack.RouteType, known bool) {
	if q.Dst.Is4() {
		return x.env.AddrType(q.Dst, q.Dev), true
	}
	return x.env.RouteType(q)
}

// fibDevice is nft_fib4_eval and nft_fib6_eval: zero when there is no device.
func (x *traversal) fibDevice(back, mark, iif bool, dev string) (u128, tri) {
	if x.st.ARP != nil {
		return u128{}, no
	}
	name := func(dev string) (u128, tri) {
		v, _ := ifaceName(dev)
		return v, yes
	}
	if x.st.In == "lo" && (x.hook == Prerouting || x.hook == Input) {
		return name("lo") // nft_fib_can_skip
	}
	q := FIBQuery{Src: x.p.Src, Dst: x.p.Dst, TOS: x.p.TOS, Dev: dev}
	if back {
		q.Src, q.Dst = q.Dst, q.Src
		if x.hook == Forward && iif {
			q.IIF = x.st.Out
		}
	}
	if mark {
		q.Mark = x.p.Mark
	}
	if x.family == netstack.IPv4 && x.p.Src.IsUnspecified() {
		return u128{}, maybe // DHCP: not modelled
	}
	found, known := x.env.FIBDevice(q)
	if !known {
		return u128{}, maybe
	}
	return name(found)
}
