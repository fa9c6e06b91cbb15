package nftjson

// Layers of headers (enum proto_bases): the base of a payload expression in the
// kernel is one less.
const (
	layerNone = iota
	layerLink
	layerNetwork
	layerTransport
	layerInner
	layers
)

var layerNames = [layers]string{"", "ll", "nh", "th", "ih"}

// protocol describes a header. Fields are in the order of their offsets, from 1
// on: matches that nft merged are taken apart in that order.
type protocol struct {
	name   string
	layer  int
	length int // in bits, of headers that may follow one another in a layer
	key    int // the field that names the protocol of the next layer
	fields []field
}

type field struct {
	name   string
	typ    *dataType
	offset int // in bits
	bits   int
	meta   bool // stands for a meta expression
	icmp   uint8
	hasDep bool // only with the ICMP type icmp
}

type link struct {
	number uint32
	to     *protocol
}

// over is the protocol with that number in the next layer.
func (p *protocol) over(number uint32) *protocol {
	for _, l := range p.links() {
		if l.number == number {
			return l.to
		}
	}
	return nil
}

// numberOf is the number under which a protocol is in the next layer.
func (p *protocol) numberOf(q *protocol) (uint32, bool) {
	for _, l := range p.links() {
		if l.to == q {
			return l.number, true
		}
	}
	return 0, false
}

// header numbers fields from 1 on; the one before stands for a meta expression,
// or for none.
func header(name string, layer int, fields ...field) *protocol {
	return &protocol{name: name, layer: layer, fields: append([]field{l4proto}, fields...)}
}

// keyed is a header of which a field names what follows.
func keyed(name string, layer, length, key int, fields ...field) *protocol {
	p := header(name, layer, fields...)
	p.length, p.key = length, key
	return p
}

var l4proto = field{name: "l4proto", typ: typeProtocol, bits: 8, meta: true}

func of(name string, typ *dataType, offset, width int) field {
	return field{name: name, typ: typ, offset: offset, bits: width}
}

func ofICMP(name string, typ *dataType, offset, width int, icmp uint8) field {
	return field{name: name, typ: typ, offset: offset, bits: width, icmp: icmp, hasDep: true}
}

var (
	protoUnknown = &protocol{name: "unknown"}

	protoAH = keyed("ah", layerTransport, 0, 1, of("nexthdr", typeProtocol, 0, 8), of("hdrlength", typeInteger, 8, 8),
		of("reserved", typeInteger, 16, 16), of("spi", typeInteger, 32, 32), of("sequence", typeInteger, 64, 32))
	protoESP  = header("esp", layerTransport, of("spi", typeInteger, 0, 32), of("sequence", typeInteger, 32, 32))
	protoComp = keyed("comp", layerTransport, 0, 1, of("nexthdr", typeProtocol, 0, 8), of("flags", typeBitmask, 8, 8), of("cpi", typeInteger, 16, 16))
	protoICMP = keyed("icmp", layerTransport, 0, 1, of("type", typeICMPType, 0, 8), of("code", typeICMPCode, 8, 8), of("checksum", typeInteger, 16, 16),
		ofICMP("id", typeInteger, 32, 16, 8), ofICMP("sequence", typeInteger, 48, 16, 8), ofICMP("gateway", typeInteger, 32, 32, 5),
		ofICMP("mtu", typeInteger, 48, 16, 3))
	protoIGMP = keyed("igmp", layerTransport, 0, 1, of("type", typeIGMPType, 0, 8), of("mrt", typeInteger, 8, 8), of("checksum", typeInteger, 16, 16),
		of("group", typeIPv4, 32, 32))
	protoUDP = header("udp", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16), of("length", typeInteger, 32, 16),
		of("checksum", typeInteger, 48, 16))
	protoUDPLite = header("udplite", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16),
		of("csumcov", typeInteger, 32, 16), of("checksum", typeInteger, 48, 16))
	protoTCP = header("tcp", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16), of("sequence", typeInteger, 32, 32),
		of("ackseq", typeInteger, 64, 32), of("doff", typeInteger, 96, 4), of("reserved", typeInteger, 100, 4), of("flags", typeTCPFlag, 104, 8),
		of("window", typeInteger, 112, 16), of("checksum", typeInteger, 128, 16), of("urgptr", typeInteger, 144, 16))
	protoDCCP = header("dccp", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16), of("type", typeDCCPType, 67, 4))
	protoSCTP = header("sctp", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16), of("vtag", typeInteger, 32, 32),
		of("checksum", typeInteger, 64, 32))
	// protoTH is what all transport headers have.
	protoTH = header("th", layerTransport, of("sport", typeService, 0, 16), of("dport", typeService, 16, 16))

	protoIP = header("ip", layerNetwork, of("version", typeInteger, 0, 4), of("hdrlength", typeInteger, 4, 4), of("dscp", typeDSCP, 8, 6),
		of("ecn", typeECN, 14, 2), of("length", typeInteger, 16, 16), of("id", typeInteger, 32, 16), of("frag-off", typeInteger, 48, 16),
		of("ttl", typeInteger, 64, 8), of("protocol", typeProtocol, 72, 8), of("checksum", typeInteger, 80, 16), of("saddr", typeIPv4, 96, 32),
		of("daddr", typeIPv4, 128, 32))
	protoICMPv6 = keyed("icmpv6", layerTransport, 0, 1, of("type", typeICMPv6Type, 0, 8), of("code", typeICMPv6Code, 8, 8), of("checksum", typeInteger, 16, 16),
		ofICMP("parameter-problem", typeInteger, 32, 32, 4), ofICMP("mtu", typeInteger, 32, 32, 2), ofICMP("id", typeInteger, 32, 16, 128),
		ofICMP("sequence", typeInteger, 48, 16, 128), ofICMP("max-delay", typeInteger, 32, 16, 130))
	protoIP6 = header("ip6", layerNetwork, of("version", typeInteger, 0, 4), of("dscp", typeDSCP, 4, 6), of("ecn", typeECN, 10, 2),
		of("flowlabel", typeInteger, 12, 20), of("length", typeInteger, 32, 16), of("nexthdr", typeProtocol, 48, 8), of("hoplimit", typeInteger, 56, 8),
		of("saddr", typeIPv6, 64, 128), of("daddr", typeIPv6, 192, 128))
	protoARP = header("arp", layerNetwork, of("htype", typeInteger, 0, 16), of("ptype", typeEtherType, 16, 16), of("hlen", typeInteger, 32, 8),
		of("plen", typeInteger, 40, 8), of("operation", typeARPOp, 48, 16), of("saddr ether", typeEther, 64, 48), of("saddr ip", typeIPv4, 112, 32),
		of("daddr ether", typeEther, 144, 48), of("daddr ip", typeIPv4, 192, 32))

	protoVLAN = keyed("vlan", layerLink, 32, 4, of("pcp", typeInteger, 0, 3), of("dei", typeInteger, 3, 1), of("id", typeInteger, 4, 12),
		of("type", typeEtherType, 16, 16))
	protoEther = keyed("ether", layerLink, 112, 3, of("daddr", typeEther, 0, 48), of("saddr", typeEther, 48, 48), of("type", typeEtherType, 96, 16))

	// What the families inet and netdev have in place of a link layer, and both
	// families of IP together in place of a network layer.
	protoInet        = &protocol{name: "inet", layer: layerLink, fields: []field{{name: "nfproto", typ: typeNFProto, bits: 8, meta: true}}}
	protoNetdev      = &protocol{name: "netdev", layer: layerLink, fields: []field{{name: "protocol", typ: typeEtherType, bits: 16, meta: true}}}
	protoInetService = &protocol{name: "inet-service", layer: layerTransport, fields: []field{l4proto}}
)

// Which protocols follow which.
var (
	networkLinks   = []link{{0x800, protoIP}, {0x806, protoARP}, {0x86dd, protoIP6}, {0x8100, protoVLAN}, {0x88a8, protoVLAN}}
	inetLinks      = []link{{familyIPv4, protoIP}, {familyIPv6, protoIP6}}
	stackedLinks   = []link{{50, protoESP}, {51, protoAH}, {108, protoComp}, {17, protoUDP}, {136, protoUDPLite}, {6, protoTCP}, {33, protoDCCP}, {132, protoSCTP}}
	transportLinks = append([]link{{1, protoICMP}, {2, protoIGMP}, {58, protoICMPv6}}, stackedLinks...)
)

func (p *protocol) links() []link {
	switch p {
	case protoIP, protoIP6, protoInetService:
		return transportLinks
	case protoEther, protoVLAN, protoNetdev:
		return networkLinks
	case protoInet:
		return inetLinks
	case protoAH, protoComp:
		return stackedLinks
	}
	return nil
}

// isKey says whether a field names the protocol of the next layer. nft itself
// asks for "meta l4proto", and never for these of IP (proto_key_is_protocol).
func (p *protocol) isKey(index int) bool {
	return index > 0 && index == p.key || p == protoIP && p.fields[index].name == "protocol" || p == protoIP6 && p.fields[index].name == "nexthdr"
}

// hookProtocol is the lowest protocol that the chains of a family see.
func hookProtocol(family uint8) *protocol {
	switch family {
	case familyBridge:
		return protoEther
	case familyNetdev:
		return protoNetdev
	case familyInet:
		return protoInet
	case familyIPv4:
		return protoIP
	case familyIPv6:
		return protoIP6
	case familyARP:
		return protoARP
	}
	return nil
}
