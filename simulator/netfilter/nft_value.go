package netfilter

import (
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nftType is how the text of a value is read.
type nftType uint8

const (
	nftInteger nftType = iota
	nftIPv4
	nftIPv6
	nftAddr // of either family: what the text says
	nftProtocol
	nftIface
	nftMAC
	nftCTState
	nftCTStatus
	nftCTDirection
	nftICMPType
	nftICMPv6Type
	nftICMPCode
	nftICMPv6Code
	nftNFProto
	nftEtherType
	nftTCPFlags
	nftDSCP
	nftRouteType
	nftPacketType
	nftIfaceIndex // by name, too
	nftARPOperation
	nftECN
	nftIGMPType
	nftClass
	nftDeviceType
	nftDeviceGroup
	nftCTLabel
	nftText // of at most 15 bytes
)

// nftSetTypes maps the types of named sets.
var nftSetTypes = map[string]nftType{
	"ipv4_addr": nftIPv4, "ipv6_addr": nftIPv6, "inet_proto": nftProtocol, "inet_service": nftInteger, "mark": nftInteger,
	"ifname": nftIface, "iface_index": nftIfaceIndex, "ether_addr": nftMAC, "ct_state": nftCTState, "ct_status": nftCTStatus,
	"ct_dir": nftCTDirection, "icmp_type": nftICMPType, "icmpv6_type": nftICMPv6Type, "icmp_code": nftICMPCode,
	"icmpv6_code": nftICMPv6Code, "nf_proto": nftNFProto, "ether_type": nftEtherType, "tcp_flag": nftTCPFlags,
	"dscp": nftDSCP, "fib_addrtype": nftRouteType, "pkt_type": nftPacketType, "integer": nftInteger, "uid": nftInteger, "gid": nftInteger,
	"invalid": nftInteger, "arp_op": nftARPOperation, "ecn": nftECN, "igmp_type": nftIGMPType, "classid": nftClass,
	"iface_type": nftDeviceType, "devgroup": nftDeviceGroup, "ct_label": nftCTLabel, "boolean": nftInteger,
	"ct_id": nftInteger, "cgroup": nftInteger, "ct_event": nftInteger, "icmpx_code": nftInteger, "mh_type": nftInteger,
	"lladdr": nftMAC,
}

// Names of values, by type.
var nftNames = map[nftType]map[string]uint64{
	nftCTState: {
		"invalid": uint64(bitInvalid), "established": uint64(bitEstablished), "related": uint64(bitRelated),
		"new": uint64(bitNew), "untracked": nftUntracked,
	},
	nftCTStatus: {
		"expected": uint64(statusExpected), "seen-reply": uint64(statusSeenReply), "assured": uint64(statusAssured),
		"confirmed": uint64(statusConfirmed), "snat": uint64(statusSNAT), "dnat": uint64(statusDNAT), "dying": 1 << 9,
	},
	nftCTDirection: {"original": 0, "reply": 1},
	nftICMPCode: {
		"net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3, "frag-needed": 4,
		"net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
	},
	nftICMPv6Code: {
		"no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5, "reject-route": 6,
	},
	nftNFProto:   {"ipv4": 2, "ipv6": 10},
	nftEtherType: {"ip": 0x800, "ip6": 0x86dd, "arp": 0x806, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88a8},
	nftTCPFlags: {
		"fin": uint64(netstack.FIN), "syn": uint64(netstack.SYN), "rst": uint64(netstack.RST), "psh": uint64(netstack.PSH),
		"ack": uint64(netstack.ACK), "urg": uint64(netstack.URG), "ecn": uint64(netstack.ECE), "cwr": uint64(netstack.CWR),
	},
	nftRouteType: {
		"unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
		"unreachable": 7, "prohibit": 8, "throw": 9, "nat": 10,
	},
	nftPacketType: {
		"host": uint64(packetUnicast), "unicast": uint64(packetUnicast), "broadcast": uint64(packetBroadcast),
		"multicast": uint64(packetMulticast), "other": uint64(packetOtherHost),
	},
	nftARPOperation: {
		"request": 1, "reply": 2, "rrequest": 3, "rreply": 4, "inrequest": 8, "inreply": 9, "nak": 10,
	},
	nftECN: {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3},
	nftIGMPType: {
		"membership-query": 0x11, "membership-report-v1": 0x12, "membership-report-v2": 0x16, "leave-group": 0x17,
		"membership-report-v3": 0x22,
	},
	nftDeviceType:  {"ether": arphrdEther, "loopback": arphrdLoopback, "ppp": 512, "ipip": 768, "ipip6": 769, "sit": 776, "ipgre": 778},
	nftDeviceGroup: {"default": 0},
	nftClass:       {"none": 0, "root": 0xffffffff},
}

// nftUntracked is the bit of nftables' ct state; the bits of ctBits above it
// are iptables' own.
const nftUntracked = 64

// nftSpan is a range of values; most have the same ends.
type nftSpan struct{ first, last u128 }

func single(v u128) nftSpan { return nftSpan{v, v} }

// span reads a value, prefix or range.
func (p *nftParser) span(t nftType, n *jsonNode) (nftSpan, error) {
	switch n.kind {
	case jsonArray:
		// Flags that are or-ed.
		v, err := p.flags(t, n)
		return single(v), err
	case jsonObject:
		key, arg, ok := n.only()
		if !ok {
			return nftSpan{}, p.errorf(n, "expected an object with one member")
		}
		switch key {
		case "prefix":
			return p.prefix(t, arg)
		case "range":
			if len(arg.list) != 2 {
				return nftSpan{}, p.errorf(arg, "a range has two ends")
			}
			first, err := p.span(t, &arg.list[0])
			if err != nil {
				return nftSpan{}, err
			}
			last, err := p.span(t, &arg.list[1])
			if err != nil {
				return nftSpan{}, err
			}
			return nftSpan{first.first, last.last}, nil
		case "|":
			v, err := p.flags(t, arg)
			return single(v), err
		case "elem":
			val := arg.get("val")
			if val == nil {
				return nftSpan{}, p.errorf(arg, "element has no value")
			}
			return p.span(t, val)
		}
		return nftSpan{}, notModelled("value " + key)
	}
	return p.scalarSpan(t, n)
}

func (p *nftParser) flags(t nftType, n *jsonNode) (u128, error) {
	var v u128
	for i := range n.list {
		s, err := p.span(t, &n.list[i])
		if err != nil {
			return v, err
		}
		v = v.or(s.first)
	}
	return v, nil
}

func (p *nftParser) prefix(t nftType, n *jsonNode) (nftSpan, error) {
	addr := n.get("addr")
	length, ok := n.number("len")
	if addr == nil || !ok {
		return nftSpan{}, p.errorf(n, "prefix has no address or length")
	}
	s, err := p.scalarSpan(t, addr)
	if err != nil {
		return nftSpan{}, err
	}
	width := p.width(t, addr.text)
	if length < 0 || length > int64(width) {
		return nftSpan{}, p.errorf(n, "invalid prefix length %d", length)
	}
	host := prefixMask(128-width+int(length), 128).not()
	first := s.first.and(host.not())
	return nftSpan{first, first.or(host)}, nil
}

// width is that of a type in bits. nft prints a look at the high bits of any
// field as a prefix.
func (p *nftParser) width(t nftType, text string) int {
	switch t {
	case nftIPv4:
		return 32
	case nftIPv6:
		return 128
	case nftAddr:
		if strings.Contains(text, ":") {
			return 128
		}
		return 32
	case nftMAC:
		return 48
	case nftIface, nftIfaceIndex, nftText:
		return 128
	}
	if p.bits > 0 {
		return p.bits
	}
	return 32
}

// scalarSpan reads a string, number or boolean.
func (p *nftParser) scalarSpan(t nftType, n *jsonNode) (nftSpan, error) {
	if n.kind == jsonNull {
		return nftSpan{}, p.errorf(n, "value missing")
	}
	text := n.text
	switch t {
	case nftIPv4, nftIPv6:
		f := netstack.IPv4
		if t == nftIPv6 {
			f = netstack.IPv6
		}
		if a, ok := parseAddr(f, text); ok {
			return single(addrBits(a)), nil
		}
		if t == nftIPv4 && n.kind == jsonNumber { // nft 1.0.6 takes the gateway of ICMP for one
			return p.scalarSpan(nftInteger, n)
		}
		return nftSpan{}, p.errorf(n, "invalid %s address", f)
	case nftAddr:
		for _, f := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
			if a, ok := parseAddr(f, text); ok {
				return single(addrBits(a)), nil
			}
		}
		return nftSpan{}, p.errorf(n, "invalid address")
	case nftIface:
		return p.ifaceSpan(n)
	case nftIfaceIndex:
		return p.indexSpan(n)
	case nftText:
		if v, ok := ifaceName(text); ok {
			return single(v), nil
		}
		return nftSpan{}, notModelled("value " + strconv.Quote(text))
	case nftCTLabel:
		// A label is the number of a bit.
		if bit, err := strconv.ParseUint(text, 0, 7); err == nil {
			return single(u128{lo: 1}.shiftLeft(uint(bit))), nil
		}
	case nftClass:
		if v, ok := parseClass(text); ok {
			return single(u128{lo: uint64(v)}), nil
		}
	case nftMAC:
		if m, ok := netstack.ParseMAC(text); ok {
			return single(macBits(m)), nil
		}
		return nftSpan{}, p.errorf(n, "invalid MAC address")
	case nftProtocol:
		if proto, ok := parseProtocol(text); ok {
			return single(u128{lo: uint64(proto)}), nil
		}
		return nftSpan{}, p.errorf(n, "unknown protocol")
	case nftICMPType, nftICMPv6Type:
		proto := netstack.ProtoICMP
		if t == nftICMPv6Type {
			proto = netstack.ProtoICMPv6
		}
		if typ, ok := parseICMPType(proto, text); ok && !typ.any {
			return single(u128{lo: uint64(typ.typ)}), nil
		}
		return nftSpan{}, p.errorf(n, "unknown ICMP type")
	case nftDSCP:
		if v, ok := parseDSCPClass(text); ok {
			return single(u128{lo: uint64(v)}), nil
		}
	}
	if v, ok := nftNames[t][text]; ok {
		return single(u128{lo: v}), nil
	}
	if n.kind == jsonBool {
		if text == "true" {
			return single(u128{lo: 1}), nil
		}
		return single(u128{}), nil
	}
	if v, err := strconv.ParseUint(text, 0, 64); err == nil {
		return single(u128{lo: v}), nil
	}
	if v, err := strconv.ParseInt(text, 10, 64); err == nil && n.kind == jsonNumber {
		return single(u128{lo: uint64(v)}), nil // nft prints 64 bits with a sign
	}
	return nftSpan{}, notModelled("value " + strconv.Quote(text))
}

// ifaceSpan reads an interface's name; "eth*" is every name that begins so.
func (p *nftParser) ifaceSpan(n *jsonNode) (nftSpan, error) {
	name, wildcard := strings.CutSuffix(n.text, "*")
	if before, escaped := strings.CutSuffix(name, `\`); wildcard && escaped {
		name, wildcard = before+"*", false
	}
	first, ok := ifaceName(name)
	if !ok {
		return nftSpan{}, p.errorf(n, "invalid interface name")
	}
	if !wildcard {
		return single(first), nil
	}
	rest := u128{^uint64(0), ^uint64(0)}
	if len(name) > 0 {
		rest = prefixMask(8*len(name), 128).not()
	}
	return nftSpan{first, first.or(rest)}, nil
}

// noSuchDevice is above all names: an index that no device has.
var noSuchDevice = u128{^uint64(0), ^uint64(0)}

// indexSpan reads an index: the name of the device that has it, or its number
// if none has.
func (p *nftParser) indexSpan(n *jsonNode) (nftSpan, error) {
	p.c.local = true
	index, err := strconv.Atoi(n.text)
	if err != nil || p.c.rs.links[n.text] != nil {
		return p.ifaceSpan(n)
	}
	if index == 0 {
		return single(u128{}), nil
	}
	for name, l := range p.c.rs.links {
		if l.Index == index {
			v, _ := ifaceName(name)
			return single(v), nil
		}
	}
	if p.c.rs.links == nil {
		return nftSpan{}, notModelled("interface index " + n.text)
	}
	return single(noSuchDevice), nil
}

// parseClass reads a traffic class: MAJOR:MINOR in hexadecimal.
func parseClass(text string) (uint32, bool) {
	major, minor, ok := strings.Cut(text, ":")
	if !ok {
		return 0, false
	}
	var parts [2]uint64
	for i, s := range []string{major, minor} {
		if s == "" {
			continue
		}
		v, err := strconv.ParseUint(s, 16, 16)
		if err != nil {
			return 0, false
		}
		parts[i] = v
	}
	return uint32(parts[0]<<16 | parts[1]), true
}
