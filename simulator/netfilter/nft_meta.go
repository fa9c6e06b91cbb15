package netfilter

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Values of <linux/netfilter.h> and <linux/if_arp.h>.
const (
	nfprotoIPv4   = 2
	nfprotoARP    = 3
	nfprotoNetdev = 5
	nfprotoBridge = 7
	nfprotoIPv6   = 10

	arphrdEther    = 1
	arphrdLoopback = 772
)

// meta compiles what the kernel knows of a packet besides its bytes
// (nft_meta_get_eval).
func (p *nftParser) meta(n *jsonNode) (nftExpr, error) {
	key := n.str("key")
	e := nftExpr{name: "meta " + key}
	number := func(f func(x *traversal) (u128, tri)) (nftExpr, error) {
		e.bits, e.get, e.hostOrder = 32, f, true
		return e, nil
	}
	switch key {
	case "mark":
		e.key, e.mask = keyMark, ^uint32(0)
		return number(func(x *traversal) (u128, tri) { return word(uint64(x.p.Mark)) })
	case "iifname", "iif", "oifname", "oif":
		return ifaceExpr(key), nil
	case "iiftype", "oiftype", "iifgroup", "oifgroup", "iifkind", "oifkind", "ibrname", "obrname":
		return p.ifaceProperty(key)
	case "sdif", "sdifname":
		// Only packets that came in by a VRF have one.
		e.typ = nftIface
		e.get = func(x *traversal) (u128, tri) {
			if x.rs.link(x.rs.link(x.st.In).Master).Kind == "vrf" {
				return u128{}, maybe
			}
			return u128{}, yes
		}
		return e, nil
	case "l4proto":
		e.typ, e.bits, e.key = nftProtocol, 8, keyProtocol
		e.get = func(x *traversal) (u128, tri) {
			if x.st.ARP != nil {
				return u128{}, no
			}
			return word(uint64(x.p.Protocol))
		}
	case "nfproto":
		e.typ, e.bits = nftNFProto, 8
		e.get = func(x *traversal) (u128, tri) { return word(x.nfproto()) }
	case "protocol":
		e.typ, e.bits = nftEtherType, 16
		e.get = func(x *traversal) (u128, tri) { return word(uint64(x.etherType())) }
	case "length":
		p.c.looksAtLength()
		return number(func(x *traversal) (u128, tri) {
			if x.st.ARP == nil && !lengthKnown(x.p) {
				return u128{}, maybe
			}
			return word(x.length())
		})
	case "pkttype":
		e.typ = nftPacketType
		e.get = func(x *traversal) (u128, tri) {
			switch {
			case x.st.Local:
				return word(uint64(packetUnicast))
			case x.atDevice():
				return x.frameKind()
			}
			return word(uint64(x.packetKind()))
		}
	case "skuid":
		return number(func(x *traversal) (u128, tri) {
			switch {
			case !x.st.Local:
				return u128{}, no
			case x.p.UID == nil:
				return u128{}, maybe
			}
			return word(uint64(*x.p.UID))
		})
	case "skgid", "cgroup":
		// Of the socket that sent the packet, of which only the user is known.
		return number(func(x *traversal) (u128, tri) {
			if !x.st.Local {
				return u128{}, no
			}
			return u128{}, maybe
		})
	case "priority":
		e.typ = nftClass
		return number(func(x *traversal) (u128, tri) {
			if x.p.TOS != 0 || x.st.prioritySet {
				return u128{}, maybe // rt_tos2priority, or what a rule chose
			}
			return u128{}, yes
		})
	case "random":
		e.random = &nftRandom{name: key, sides: 1 << 32}
		return number(func(*traversal) (u128, tri) { return u128{}, maybe })
	case "ipsec", "secpath":
		return p.withoutIPsec(e), nil
	default:
		return e, notModelled(e.name)
	}
	return e, nil
}

// withoutIPsec is an expression that is zero for packets which IPsec has not
// transformed; of the others nothing is known.
func (p *nftParser) withoutIPsec(e nftExpr) nftExpr {
	known := yes
	if p.c.transforms() {
		known = maybe
	}
	e.get = func(*traversal) (u128, tri) { return u128{}, known }
	return e
}

// ipsec is a look at the states that a packet was transformed by: without any
// the rule breaks off (nft_xfrm).
func (p *nftParser) ipsec(n *jsonNode) (nftExpr, error) {
	e := nftExpr{name: "ipsec " + n.str("key")}
	if p.c.transforms() {
		return e, notModelled(e.name)
	}
	e.get = func(*traversal) (u128, tri) { return u128{}, no }
	return e, nil
}

func (x *traversal) nfproto() uint64 {
	switch x.chain.family {
	case "netdev":
		return nfprotoNetdev
	case "bridge":
		return nfprotoBridge
	case "arp":
		return nfprotoARP
	}
	if x.family == netstack.IPv6 {
		return nfprotoIPv6
	}
	return nfprotoIPv4
}

// length is that of the buffer: at egress it has the link-layer header again.
func (x *traversal) length() uint64 {
	length := x.p.Length
	if x.st.ARP != nil {
		length = 28
	}
	if x.hook == Egress {
		length += 14
	}
	return uint64(length)
}

// frameKind is what eth_type_trans makes of a frame's destination.
func (x *traversal) frameKind() (u128, tri) {
	mac := x.p.DstMAC
	switch {
	case x.hook == Egress:
		return u128{}, maybe // what it was when it came in
	case mac == netstack.MAC{}:
		return u128{}, maybe
	case mac == netstack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return word(uint64(packetBroadcast))
	case mac[0]&1 != 0:
		return word(uint64(packetMulticast))
	case mac == x.rs.link(x.st.In).MAC:
		return word(uint64(packetUnicast))
	}
	return word(uint64(packetOtherHost))
}

// ifaceExpr is the name of a device, or its index: which stands for the name
// that it has now.
func ifaceExpr(key string) nftExpr {
	e := nftExpr{name: key, typ: nftIface, hostOrder: true, bits: 128}
	if key == "iif" || key == "oif" {
		e.typ, e.bits = nftIfaceIndex, 32
	}
	if key[0] == 'i' {
		e.key = keyIn
		e.get = func(x *traversal) (u128, tri) { return nameBits(x.st.In), yes }
	} else {
		e.key = keyOut
		e.get = func(x *traversal) (u128, tri) { return nameBits(x.st.Out), yes }
	}
	return e
}

// ifaceProperty is a property of the device that the packet comes from or goes
// to; a rule that asks for it where there is none breaks off.
func (p *nftParser) ifaceProperty(key string) (nftExpr, error) {
	e := nftExpr{name: key, hostOrder: true, bits: 32}
	property := func(*netstack.Link) (u128, tri) { return u128{}, maybe }
	switch key[3:] {
	case "type":
		e.typ = nftDeviceType
		property = func(l *netstack.Link) (u128, tri) {
			switch l.Kind {
			case "loopback":
				return word(arphrdLoopback)
			case "veth", "bridge", "vxlan", "macvlan", "macvtap", "vlan", "bond", "dummy", "ifb", "geneve", "vrf", "team":
				return word(arphrdEther)
			}
			return u128{}, maybe
		}
	case "group":
		e.typ = nftDeviceGroup
		property = func(l *netstack.Link) (u128, tri) {
			if l.Group == netstack.UnknownGroup {
				return u128{}, maybe
			}
			return word(uint64(l.Group))
		}
	case "kind":
		e.typ, e.bits = nftText, 128
		property = func(l *netstack.Link) (u128, tri) {
			kind := l.Kind
			if kind == "loopback" {
				kind = "" // which is no kind of rtnl_link_ops
			}
			v, ok := ifaceName(kind)
			return v, is(ok && kind != "")
		}
	case "name": // ibrname, obrname: the bridge of the port
		e.typ, e.bits = nftIface, 128
		property = func(l *netstack.Link) (u128, tri) {
			v, ok := ifaceName(l.Master)
			return v, is(ok && l.Master != "")
		}
	}
	in := key[0] == 'i'
	e.get = func(x *traversal) (u128, tri) {
		dev := x.st.Out
		if in {
			dev = x.st.In
		}
		if dev == "" {
			return u128{}, no
		}
		l, known := x.rs.links[dev]
		if !known {
			return u128{}, maybe
		}
		return property(l)
	}
	return e, nil
}

// routing compiles what the packet's route says (nft_rt_get_eval).
func (p *nftParser) routing(n *jsonNode) (nftExpr, error) {
	key := n.str("key")
	e := nftExpr{name: "rt " + key}
	switch key {
	case "ipsec":
		return p.withoutIPsec(e), nil
	case "mtu":
		// Which is the maximum segment size that fits (get_tcpmss).
		e.get = func(x *traversal) (u128, tri) {
			mtu, headers := x.env.OutMTU(x.st), 20+ipHeader(x.family)
			if mtu <= headers {
				return u128{}, maybe
			}
			return word(uint64(mtu - headers))
		}
		return e, nil
	}
	return e, notModelled(e.name)
}

// socket compiles a look at the local socket that would take the packet
// (nft_socket_eval).
func (p *nftParser) socket(n *jsonNode) (nftExpr, error) {
	key := n.str("key")
	e := nftExpr{name: "socket " + key, hostOrder: true, bits: 32}
	e.get = func(x *traversal) (u128, tri) {
		s, known := x.env.LocalSocket(x.p, x.st.In)
		var set bool
		switch {
		case known && s == nil:
			return u128{}, no
		case known && key == "wildcard":
			set = s.Local.Addr().IsUnspecified()
		case known && key == "transparent" && s.Transparent != nil:
			set = *s.Transparent
		default:
			return u128{}, maybe // the mark is not known of sockets
		}
		if set {
			return word(1)
		}
		return word(0)
	}
	switch key {
	case "transparent", "mark", "wildcard":
		return e, nil
	}
	return e, notModelled(e.name)
}

// extensionHeader compiles a look at IPv6 extension headers, of which packets
// of the model have none (nft_exthdr_ipv6_eval).
func (p *nftParser) extensionHeader(n *jsonNode) (nftExpr, error) {
	e := nftExpr{name: "exthdr " + n.str("name")}
	exists := n.get("field") == nil && n.get("offset") == nil
	if n.str("field") == "nexthdr" {
		e.typ = nftProtocol
	}
	e.get = func(x *traversal) (u128, tri) {
		if x.etherType() != etherTypeIPv6 || !exists {
			return u128{}, no
		}
		return word(0)
	}
	return e, nil
}

// tcpOption compiles a look at a TCP option (nft_exthdr_tcp_eval).
func (p *nftParser) tcpOption(n *jsonNode) (nftExpr, error) {
	name := n.str("name")
	field := n.str("field")
	e := nftExpr{name: "tcp option " + name, bits: 16}
	e.get = func(x *traversal) (u128, tri) {
		if x.st.ARP != nil || x.p.Protocol != netstack.ProtoTCP {
			return u128{}, is(field == "") // "missing" holds
		}
		syn := x.p.TCPFlags&netstack.SYN != 0
		has := maybe
		switch name {
		case "maxseg":
			has = is(syn && x.p.MSS != 0)
		case "sack-perm", "window", "fastopen", "md5sig", "mptcp":
			if !syn {
				has = no // which only open a connection
			}
		}
		switch {
		case field == "":
			if has == yes {
				return word(1)
			}
			return u128{}, orUnknown(has)
		case has == no:
			return u128{}, no
		case name == "maxseg" && field == "size":
			return word(uint64(x.p.MSS))
		}
		return u128{}, maybe
	}
	return e, nil
}

// orUnknown is the answer to a question whether something is there: no is an
// answer, too.
func orUnknown(has tri) tri {
	if has == maybe {
		return maybe
	}
	return yes
}

// ipOption compiles a look at an option of IPv4, of which packets of the model
// have none (nft_exthdr_ipv4_eval).
func (p *nftParser) ipOption(n *jsonNode) (nftExpr, error) {
	exists := n.get("field") == nil
	e := nftExpr{name: "ip option " + n.str("name")}
	e.get = func(x *traversal) (u128, tri) {
		if x.etherType() != etherTypeIPv4 || !exists {
			return u128{}, no
		}
		return word(0)
	}
	return e, nil
}
