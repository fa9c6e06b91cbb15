package nftjson

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// dataType is a type of nft: how a value is written.
type dataType struct {
	id      int // as the kernel keeps it with a set
	name    string
	order   byteOrder
	size    int // in bits; 0 where it varies
	bitmask bool
	text    bool
	prefix  bool // nft writes prefixes of it
	symbols []symbol
	write   func(w *writer, n *node)
}

type symbol struct {
	name  string
	value uint64
}

// Types by the numbers that nft gave them (enum datatypes); nft stores these in
// the kernel, so they do not change.
var (
	typeInvalid   = &dataType{name: "invalid", write: func(w *writer, n *node) { w.fail("a value of no type") }}
	typeVerdict   = &dataType{id: 1, name: "verdict"}
	typeNFProto   = &dataType{id: 2, name: "nf_proto", size: 8, symbols: []symbol{{"ipv4", 2}, {"ipv6", 10}}}
	typeBitmask   = &dataType{id: 3, name: "bitmask"}
	typeInteger   = &dataType{id: 4, name: "integer"}
	typeString    = &dataType{id: 5, name: "string", order: orderHost, text: true}
	typeLLAddr    = &dataType{id: 6, name: "ll_addr", order: orderNetwork, write: writeLLAddr}
	typeIPv4      = &dataType{id: 7, name: "ipv4_addr", order: orderNetwork, size: 32, prefix: true, write: writeAddr}
	typeIPv6      = &dataType{id: 8, name: "ipv6_addr", order: orderNetwork, size: 128, prefix: true, write: writeAddr}
	typeEther     = &dataType{id: 9, name: "ether_addr", order: orderNetwork, size: 48, write: writeLLAddr}
	typeEtherType = &dataType{id: 10, name: "ether_type", order: orderNetwork, size: 16, symbols: []symbol{
		{"ip", 0x800}, {"arp", 0x806}, {"ip6", 0x86dd}, {"8021q", 0x8100}, {"8021ad", 0x88a8},
	}}
	typeARPOp = &dataType{id: 11, name: "arp_op", order: orderNetwork, size: 16, symbols: []symbol{
		{"request", 1}, {"reply", 2}, {"rrequest", 3}, {"rreply", 4}, {"inrequest", 8}, {"inreply", 9}, {"nak", 10},
	}}
	typeProtocol = &dataType{id: 12, name: "inet_proto", size: 8, write: writeProtocol}
	typeService  = &dataType{id: 13, name: "inet_service", order: orderNetwork, size: 16}
	typeICMPType = &dataType{id: 14, name: "icmp_type", order: orderNetwork, size: 8, symbols: []symbol{
		{"echo-reply", 0},
		{"destination-unreachable", 3},
		{"source-quench", 4},
		{"redirect", 5},
		{"echo-request", 8},
		{"router-advertisement", 9},
		{"router-solicitation", 10},
		{"time-exceeded", 11},
		{"parameter-problem", 12},
		{"timestamp-request", 13},
		{"timestamp-reply", 14},
		{"info-request", 15},
		{"info-reply", 16},
		{"address-mask-request", 17},
		{"address-mask-reply", 18},
	}}
	typeTCPFlag = &dataType{id: 15, name: "tcp_flag", order: orderNetwork, size: 8, bitmask: true, symbols: []symbol{
		{"fin", 1}, {"syn", 2}, {"rst", 4}, {"psh", 8}, {"ack", 16}, {"urg", 32}, {"ecn", 64}, {"cwr", 128},
	}}
	typeDCCPType = &dataType{id: 16, name: "dccp_pkttype", size: 4, symbols: []symbol{
		{"request", 0},
		{"response", 1},
		{"data", 2},
		{"ack", 3},
		{"dataack", 4},
		{"closereq", 5},
		{"close", 6},
		{"reset", 7},
		{"sync", 8},
		{"syncack", 9},
	}}
	typeMHType = &dataType{id: 17, name: "mh_type", order: orderNetwork, size: 8, symbols: []symbol{
		{"binding-refresh-request", 0},
		{"home-test-init", 1},
		{"careof-test-init", 2},
		{"home-test", 3},
		{"careof-test", 4},
		{"binding-update", 5},
		{"binding-acknowledgement", 6},
		{"binding-error", 7},
		{"fast-binding-update", 8},
		{"fast-binding-acknowledgement", 9},
		{"fast-binding-advertisement", 10},
		{"experimental-mobility-header", 11},
		{"home-agent-switch-message", 12},
	}}
	typeTime    = &dataType{id: 18, name: "time", order: orderHost, size: 32, write: func(w *writer, n *node) { w.uint(n.value.low / 1000) }}
	typeMark    = &dataType{id: 19, name: "mark", order: orderHost, size: 32, prefix: true}
	typeIfIndex = &dataType{id: 20, name: "iface_index", order: orderHost, size: 32, write: func(w *writer, n *node) { w.string(w.device(int(n.value.low))) }}
	typeIfType  = &dataType{id: 21, name: "iface_type", order: orderHost, size: 16, symbols: []symbol{
		{"ether", 1}, {"ppp", 512}, {"ipip", 768}, {"ipip6", 769}, {"loopback", 772}, {"sit", 776}, {"ipgre", 778},
	}}
	typeRealm   = &dataType{id: 22, name: "realm", order: orderHost, size: 32, prefix: true, write: writeRealm}
	typeClass   = &dataType{id: 23, name: "classid", order: orderHost, size: 32, write: writeClass}
	typeUID     = &dataType{id: 24, name: "uid", order: orderHost, size: 32}
	typeGID     = &dataType{id: 25, name: "gid", order: orderHost, size: 32}
	typeCTState = &dataType{id: 26, name: "ct_state", order: orderHost, size: 32, bitmask: true, symbols: []symbol{
		{"invalid", 1}, {"new", 8}, {"established", 2}, {"related", 4}, {"untracked", 64},
	}}
	typeCTDir    = &dataType{id: 27, name: "ct_dir", size: 8, symbols: []symbol{{"original", 0}, {"reply", 1}}}
	typeCTStatus = &dataType{id: 28, name: "ct_status", order: orderHost, size: 32, bitmask: true, symbols: []symbol{
		{"expected", 1}, {"seen-reply", 2}, {"assured", 4}, {"confirmed", 8}, {"snat", 16}, {"dnat", 32}, {"dying", 512},
	}}
	typeICMPv6Type = &dataType{id: 29, name: "icmpv6_type", order: orderNetwork, size: 8, symbols: []symbol{
		{"destination-unreachable", 1},
		{"packet-too-big", 2},
		{"time-exceeded", 3},
		{"parameter-problem", 4},
		{"echo-request", 128},
		{"echo-reply", 129},
		{"mld-listener-query", 130},
		{"mld-listener-report", 131},
		{"mld-listener-done", 132},
		{"nd-router-solicit", 133},
		{"nd-router-advert", 134},
		{"nd-neighbor-solicit", 135},
		{"nd-neighbor-advert", 136},
		{"nd-redirect", 137},
		{"router-renumbering", 138},
		{"ind-neighbor-solicit", 141},
		{"ind-neighbor-advert", 142},
		{"mld2-listener-report", 143},
	}}
	typeCTLabel = &dataType{id: 30, name: "ct_label", order: orderHost, size: 128, bitmask: true, write: func(w *writer, n *node) {
		w.uint(uint64(n.value.lowestOne(0)))
	}}
	typePacket = &dataType{id: 31, name: "pkt_type", order: orderHost, size: 8, symbols: []symbol{
		{"host", 0}, {"broadcast", 1}, {"multicast", 2}, {"other", 3},
	}}
	typeICMPCode = &dataType{id: 32, name: "icmp_code", order: orderNetwork, size: 8, symbols: []symbol{
		{"net-unreachable", 0},
		{"host-unreachable", 1},
		{"prot-unreachable", 2},
		{"port-unreachable", 3},
		{"net-prohibited", 9},
		{"host-prohibited", 10},
		{"admin-prohibited", 13},
		{"frag-needed", 4},
	}}
	typeICMPv6Code = &dataType{id: 33, name: "icmpv6_code", order: orderNetwork, size: 8, symbols: []symbol{
		{"no-route", 0}, {"admin-prohibited", 1}, {"addr-unreachable", 3}, {"port-unreachable", 4}, {"policy-fail", 5}, {"reject-route", 6},
	}}
	typeICMPXCode = &dataType{id: 34, name: "icmpx_code", order: orderNetwork, size: 8, symbols: []symbol{
		{"port-unreachable", 1}, {"admin-prohibited", 3}, {"no-route", 0}, {"host-unreachable", 2},
	}}
	typeDevGroup = &dataType{id: 35, name: "devgroup", order: orderHost, size: 32, prefix: true, symbols: []symbol{{"default", 0}}}
	typeDSCP     = &dataType{id: 36, name: "dscp", order: orderNetwork, size: 6, symbols: []symbol{
		{"cs0", 0},
		{"cs1", 0x08},
		{"cs2", 0x10},
		{"cs3", 0x18},
		{"cs4", 0x20},
		{"cs5", 0x28},
		{"cs6", 0x30},
		{"cs7", 0x38},
		{"lephb", 0x01},
		{"af11", 0x0a},
		{"af12", 0x0c},
		{"af13", 0x0e},
		{"af21", 0x12},
		{"af22", 0x14},
		{"af23", 0x16},
		{"af31", 0x1a},
		{"af32", 0x1c},
		{"af33", 0x1e},
		{"af41", 0x22},
		{"af42", 0x24},
		{"af43", 0x26},
		{"va", 0x2c},
		{"ef", 0x2e},
	}}
	typeECN = &dataType{id: 37, name: "ecn", order: orderNetwork, size: 2, symbols: []symbol{
		{"not-ect", 0}, {"ect1", 1}, {"ect0", 2}, {"ce", 3},
	}}
	typeFIBAddr = &dataType{id: 38, name: "fib_addrtype", order: orderHost, size: 32, symbols: []symbol{
		{"unspec", 0},
		{"unicast", 1},
		{"local", 2},
		{"broadcast", 3},
		{"anycast", 4},
		{"multicast", 5},
		{"blackhole", 6},
		{"unreachable", 7},
		{"prohibit", 8},
		{"throw", 9},
		{"nat", 10},
		{"xresolve", 11},
	}}
	typeBoolean = &dataType{id: 39, name: "boolean", size: 1, write: func(w *writer, n *node) { w.bool(!n.value.zero()) }}
	typeCTEvent = &dataType{id: 40, name: "ct_event", order: orderHost, size: 32, bitmask: true, symbols: []symbol{
		{"new", 1},
		{"related", 2},
		{"destroy", 4},
		{"reply", 8},
		{"assured", 16},
		{"protoinfo", 32},
		{"helper", 64},
		{"mark", 128},
		{"seqadj", 256},
		{"secmark", 512},
		{"label", 1024},
	}}
	typeIfName   = &dataType{id: 41, name: "ifname", order: orderHost, size: 128, text: true}
	typeIGMPType = &dataType{id: 42, name: "igmp_type", order: orderNetwork, size: 8, symbols: []symbol{
		{"membership-query", 0x11},
		{"membership-report-v1", 0x12},
		{"membership-report-v2", 0x16},
		{"leave-group", 0x17},
		{"membership-report-v3", 0x22},
	}}
	typeDate = &dataType{id: 43, name: "time", order: orderHost, size: 64, write: writeDate}
	typeHour = &dataType{id: 44, name: "hour", order: orderHost, size: 32, write: writeHour}
	typeDay  = &dataType{id: 45, name: "day", order: orderHost, size: 8, symbols: []symbol{
		{"Sunday", 0}, {"Monday", 1}, {"Tuesday", 2}, {"Wednesday", 3}, {"Thursday", 4}, {"Friday", 5}, {"Saturday", 6},
	}}
	typeCgroup = &dataType{id: 46, name: "cgroupsv2", order: orderHost, size: 64, write: func(w *writer, n *node) { w.fail("the path of a cgroup") }}
)

var dataTypes = func() [64]*dataType {
	var list [64]*dataType
	for _, t := range []*dataType{
		typeVerdict, typeNFProto, typeBitmask, typeInteger, typeString, typeLLAddr, typeIPv4, typeIPv6, typeEther, typeEtherType,
		typeARPOp, typeProtocol, typeService, typeICMPType, typeTCPFlag, typeDCCPType, typeMHType, typeTime, typeMark, typeIfIndex,
		typeIfType, typeRealm, typeClass, typeUID, typeGID, typeCTState, typeCTDir, typeCTStatus, typeICMPv6Type, typeCTLabel,
		typePacket, typeICMPCode, typeICMPv6Code, typeICMPXCode, typeDevGroup, typeDSCP, typeECN, typeFIBAddr, typeBoolean,
		typeCTEvent, typeIfName, typeIGMPType, typeDate, typeHour, typeDay, typeCgroup,
	} {
		list[t.id] = t
	}
	return list
}()

const (
	typeBits = 6 // of the number of a type, of which several make a concatenation
	typeMask = 1<<typeBits - 1
	// verdictData is the type of the data of verdict maps (NFT_DATA_VERDICT).
	verdictData = 0xffffff00
)

// typesOf are the types of which the kernel keeps the number, one or a
// concatenation; nil if one is unknown.
func typesOf(id uint32) []*dataType {
	if id == verdictData {
		return []*dataType{typeVerdict}
	}
	var list []*dataType
	for shift := 30; shift >= 0; shift -= typeBits {
		part := id >> shift & typeMask
		if part == 0 && len(list) == 0 {
			continue
		}
		t := dataTypes[part]
		if t == nil {
			return nil
		}
		list = append(list, t)
	}
	return list
}

// protocolNames are those of /etc/protocols that nft and the simulator know.
var protocolNames = map[uint64]string{
	0: "ip", 1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 8: "egp", 9: "igp", 12: "pup", 17: "udp", 27: "rdp", 33: "dccp", 41: "ipv6",
	43: "ipv6-route", 44: "ipv6-frag", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts",
	88: "eigrp", 89: "ospf", 94: "ipip", 97: "etherip", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 132: "sctp", 136: "udplite",
}

func writeProtocol(w *writer, n *node) {
	if name, ok := protocolNames[n.value.low]; ok && !w.numeric {
		w.string(name)
		return
	}
	writeInteger(w, n)
}

func writeInteger(w *writer, n *node) {
	if n.value.high == 0 {
		w.uint(n.value.low)
		return
	}
	w.string(fmt.Sprintf("0x%x%016x", n.value.high, n.value.low))
}

func writeAddr(w *writer, n *node) {
	size := n.typ.size / 8
	if size == 4 && n.value.right(32) != (number{}) {
		w.fail("an address that is too wide")
		return
	}
	addr, _ := netip.AddrFromSlice(n.value.bytes(size))
	w.addr(addr)
}

func writeLLAddr(w *writer, n *node) {
	text := hex.EncodeToString(n.value.bytes((n.bits + 7) / 8))
	var b []byte
	for i := 0; i < len(text); i += 2 {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, text[i:i+2]...)
	}
	w.string(string(b))
}

func writeRealm(w *writer, n *node) {
	if n.value.zero() {
		w.string("cosmos")
		return
	}
	w.string(strconv.FormatUint(n.value.low, 10))
}

func writeClass(w *writer, n *node) {
	switch v := n.value.low; v {
	case 0:
		w.string("none")
	case 0xffffffff:
		w.string("root")
	default:
		w.string(strconv.FormatUint(v>>16, 16) + ":" + strconv.FormatUint(v&0xffff, 16))
	}
}

// writeDate and writeHour use the time zone of the host, as nft does.
func writeDate(w *writer, n *node) {
	w.string(time.Unix(int64(n.value.low/1e9), 0).Local().Format(time.DateTime))
}

func writeHour(w *writer, n *node) {
	_, offset := time.Now().Zone()
	const day = 24 * 60 * 60
	s := (int(n.value.low) + offset) % day
	text := fmt.Sprintf("%02d:%02d", s/3600, s/60%60)
	if s%60 != 0 {
		text += fmt.Sprintf(":%02d", s%60)
	}
	w.string(text)
}
