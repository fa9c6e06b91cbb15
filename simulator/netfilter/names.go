package netfilter

import (
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// protocolNames are those of /etc/protocols that rule sets use, and the ones
// that iptables has of its own.
var protocolNames = map[string]netstack.Protocol{
	"ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "ipip": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12,
	"udp": 17, "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37, "idpr-cmtp": 38,
	"ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ipv6-crypt": 50, "ah": 51,
	"ipv6-auth": 51, "skip": 57, "icmpv6": 58, "ipv6-icmp": 58, "icmp6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73,
	"vmtp": 81, "eigrp": 88, "ospf": 89, "ospfigp": 89, "ax.25": 93, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "comp": 108,
	"vrrp": 112, "l2tp": 115, "isis": 124, "sctp": 132, "fc": 133, "mh": 135, "ipv6-mh": 135, "mobility-header": 135,
	"udplite": 136, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140, "wesp": 141, "rohc": 142,
}

// parseProtocol reads a protocol's name or number.
func parseProtocol(text string) (netstack.Protocol, bool) {
	switch text {
	case "tcp":
		return netstack.ProtoTCP, true
	case "udp":
		return netstack.ProtoUDP, true
	}
	if n, err := strconv.ParseUint(text, 0, 8); err == nil {
		return netstack.Protocol(n), true
	}
	if p, ok := protocolNames[text]; ok {
		return p, true
	}
	p, ok := protocolNames[strings.ToLower(text)]
	return p, ok
}

// icmpType is a type of ICMP message with a range of codes.
type icmpType struct {
	any                 bool
	typ                 uint8
	firstCode, lastCode uint8
}

type icmpName struct {
	typ, first, last uint8
}

// The names of libipt_icmp.c, libip6t_icmp6.c, and of nftables.
var icmpNames = map[string]icmpName{
	"echo-reply": {0, 0, 255}, "pong": {0, 0, 255},
	"destination-unreachable": {3, 0, 255}, "network-unreachable": {3, 0, 0}, "host-unreachable": {3, 1, 1},
	"protocol-unreachable": {3, 2, 2}, "port-unreachable": {3, 3, 3}, "fragmentation-needed": {3, 4, 4},
	"source-route-failed": {3, 5, 5}, "network-unknown": {3, 6, 6}, "host-unknown": {3, 7, 7},
	"network-prohibited": {3, 9, 9}, "host-prohibited": {3, 10, 10}, "TOS-network-unreachable": {3, 11, 11},
	"TOS-host-unreachable": {3, 12, 12}, "communication-prohibited": {3, 13, 13},
	"host-precedence-violation": {3, 14, 14}, "precedence-cutoff": {3, 15, 15},
	"source-quench": {4, 0, 255}, "redirect": {5, 0, 255}, "network-redirect": {5, 0, 0}, "host-redirect": {5, 1, 1},
	"TOS-network-redirect": {5, 2, 2}, "TOS-host-redirect": {5, 3, 3},
	"echo-request": {8, 0, 255}, "ping": {8, 0, 255}, "router-advertisement": {9, 0, 255}, "router-solicitation": {10, 0, 255},
	"time-exceeded": {11, 0, 255}, "ttl-exceeded": {11, 0, 255}, "ttl-zero-during-transit": {11, 0, 0}, "ttl-zero-during-reassembly": {11, 1, 1},
	"parameter-problem": {12, 0, 255}, "ip-header-bad": {12, 0, 0}, "required-option-missing": {12, 1, 1},
	"timestamp-request": {13, 0, 255}, "timestamp-reply": {14, 0, 255},
	"info-request": {15, 0, 255}, "info-reply": {16, 0, 255},
	"address-mask-request": {17, 0, 255}, "address-mask-reply": {18, 0, 255},
}

var icmpv6Names = map[string]icmpName{
	"destination-unreachable": {1, 0, 255}, "no-route": {1, 0, 0}, "communication-prohibited": {1, 1, 1}, "beyond-scope": {1, 2, 2},
	"address-unreachable": {1, 3, 3}, "port-unreachable": {1, 4, 4}, "failed-policy": {1, 5, 5}, "reject-route": {1, 6, 6},
	"packet-too-big": {2, 0, 255}, "time-exceeded": {3, 0, 255}, "ttl-exceeded": {3, 0, 255}, "ttl-zero-during-transit": {3, 0, 0},
	"ttl-zero-during-reassembly": {3, 1, 1}, "parameter-problem": {4, 0, 255}, "bad-header": {4, 0, 0},
	"unknown-header-type": {4, 1, 1}, "unknown-option": {4, 2, 2},
	"echo-request": {128, 0, 255}, "ping": {128, 0, 255}, "echo-reply": {129, 0, 255}, "pong": {129, 0, 255},
	"mld-listener-query": {130, 0, 255}, "mld-listener-report": {131, 0, 255}, "mld-listener-done": {132, 0, 255}, "mld-listener-reduction": {132, 0, 255},
	"router-solicitation": {133, 0, 255}, "nd-router-solicit": {133, 0, 255}, "router-advertisement": {134, 0, 255}, "nd-router-advert": {134, 0, 255},
	"neighbour-solicitation": {135, 0, 255}, "neighbor-solicitation": {135, 0, 255}, "nd-neighbor-solicit": {135, 0, 255},
	"neighbour-advertisement": {136, 0, 255}, "neighbor-advertisement": {136, 0, 255}, "nd-neighbor-advert": {136, 0, 255},
	"redirect": {137, 0, 255}, "nd-redirect": {137, 0, 255}, "router-renumbering": {138, 0, 255},
	"ind-neighbor-solicit": {141, 0, 255}, "ind-neighbor-advert": {142, 0, 255}, "mld2-listener-report": {143, 0, 255},
}

// parseICMPType reads "any", a name, TYPE or TYPE/CODE.
func parseICMPType(proto netstack.Protocol, text string) (icmpType, bool) {
	if text == "any" && proto == netstack.ProtoICMP {
		return icmpType{any: true}, true
	}
	names := icmpNames
	if proto == netstack.ProtoICMPv6 {
		names = icmpv6Names
	}
	if n, ok := names[text]; ok {
		return icmpType{typ: n.typ, firstCode: n.first, lastCode: n.last}, true
	}
	typeText, codeText, hasCode := strings.Cut(text, "/")
	typ, err := strconv.ParseUint(typeText, 10, 8)
	if err != nil {
		return icmpType{}, false
	}
	t := icmpType{typ: uint8(typ), lastCode: 255}
	if typ == 255 && proto == netstack.ProtoICMP {
		t.any = true
	}
	if hasCode {
		code, err := strconv.ParseUint(codeText, 10, 8)
		if err != nil {
			return icmpType{}, false
		}
		t.firstCode, t.lastCode = uint8(code), uint8(code)
	}
	return t, true
}

var tcpFlagNames = map[string]netstack.TCPFlags{
	"FIN": netstack.FIN, "SYN": netstack.SYN, "RST": netstack.RST, "PSH": netstack.PSH,
	"ACK": netstack.ACK, "URG": netstack.URG, "ECE": netstack.ECE, "CWR": netstack.CWR,
	// The classic six: iptables' ALL leaves ECE and CWR out.
	"ALL": netstack.FIN | netstack.SYN | netstack.RST | netstack.PSH | netstack.ACK | netstack.URG, "NONE": 0,
}

func parseTCPFlags(text string) (netstack.TCPFlags, bool) {
	if n, err := strconv.ParseUint(text, 0, 8); err == nil {
		return netstack.TCPFlags(n), true
	}
	var flags netstack.TCPFlags
	for name := range strings.SplitSeq(text, ",") {
		f, ok := tcpFlagNames[strings.ToUpper(name)]
		if !ok {
			return 0, false
		}
		flags |= f
	}
	return flags, true
}

// parseDSCPClass knows the names of RFC 2474, 2597 and 3246.
func parseDSCPClass(text string) (uint8, bool) {
	name := strings.ToUpper(text)
	switch {
	case name == "BE" || name == "DF":
		return 0, true
	case name == "EF":
		return 46, true
	case name == "VA" || name == "VOICE-ADMIT":
		return 44, true
	case name == "LE":
		return 1, true
	case len(name) == 3 && name[:2] == "CS" && name[2] >= '0' && name[2] <= '7':
		return (name[2] - '0') << 3, true
	case len(name) == 4 && name[:2] == "AF" && name[2] >= '1' && name[2] <= '4' && name[3] >= '1' && name[3] <= '3':
		return (name[2]-'0')<<3 | (name[3]-'0')<<1, true
	}
	return 0, false
}
