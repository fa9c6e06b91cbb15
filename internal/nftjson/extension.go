package nftjson

// Kinds of headers that are found by their type (enum nft_exthdr_op).
const (
	extensionIPv6 = 0
	extensionTCP  = 1
	extensionIPv4 = 2
	extensionSCTP = 3
)

// extensionPresent asks whether there is such a header (NFT_EXTHDR_F_PRESENT).
const extensionPresent = 1

func extension(name string, fields ...field) *protocol {
	return &protocol{name: name, fields: fields}
}

var (
	routing  = extension("rt", of("nexthdr", typeProtocol, 0, 8), of("hdrlength", typeInteger, 8, 8), of("type", typeInteger, 16, 8), of("seg-left", typeInteger, 24, 8))
	routing0 = extension("rt0", of("reserved", typeInteger, 32, 32), of("addr[1]", typeIPv6, 64, 128), of("addr[2]", typeIPv6, 192, 128))
	segments = extension("srh", of("last-entry", typeInteger, 32, 8), of("flags", typeInteger, 40, 8), of("tag", typeInteger, 48, 16),
		of("sid[1]", typeIPv6, 64, 128), of("sid[2]", typeIPv6, 192, 128))

	ipv6Extensions = map[uint32]*protocol{
		0:  extension("hbh", of("nexthdr", typeProtocol, 0, 8), of("hdrlength", typeInteger, 8, 8)),
		43: routing,
		44: extension("frag", of("nexthdr", typeProtocol, 0, 8), of("reserved", typeInteger, 8, 8), of("frag-off", typeInteger, 16, 13),
			of("reserved2", typeInteger, 29, 2), of("more-fragments", typeInteger, 31, 1), of("id", typeInteger, 32, 32)),
		60: extension("dst", of("nexthdr", typeProtocol, 0, 8), of("hdrlength", typeInteger, 8, 8)),
		135: extension("mh", of("nexthdr", typeProtocol, 0, 8), of("hdrlength", typeInteger, 8, 8), of("type", typeMHType, 16, 8),
			of("reserved", typeInteger, 24, 8), of("checksum", typeInteger, 32, 16)),
	}
	tcpOptions = map[uint32]*protocol{
		0:  extension("eol", of("kind", typeInteger, 0, 8)),
		1:  extension("nop", of("kind", typeInteger, 0, 8)),
		2:  extension("maxseg", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("size", typeInteger, 16, 16)),
		3:  extension("window", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("count", typeInteger, 16, 8)),
		4:  extension("sack-perm", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8)),
		5:  extension("sack", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("left", typeInteger, 16, 32), of("right", typeInteger, 48, 32)),
		8:  extension("timestamp", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("tsval", typeInteger, 16, 32), of("tsecr", typeInteger, 48, 32)),
		19: extension("md5sig", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8)),
		30: extension("mptcp", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("subtype", typeInteger, 16, 4)),
		34: extension("fastopen", of("kind", typeInteger, 0, 8), of("length", typeInteger, 8, 8)),
	}
	ipOptions = map[uint32]*protocol{
		131: sourceRoute("lsrr"), 7: sourceRoute("rr"), 137: sourceRoute("ssrr"),
		148: extension("ra", of("type", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("value", typeInteger, 16, 16)),
	}
	sctpChunks = map[uint32]*protocol{
		0:   chunk("data", of("tsn", typeInteger, 32, 32), of("stream", typeInteger, 64, 16), of("ssn", typeInteger, 80, 16), of("ppid", typeInteger, 96, 32)),
		1:   opening("init"),
		2:   opening("init-ack"),
		3:   chunk("sack", of("cum-tsn-ack", typeInteger, 32, 32), of("a-rwnd", typeInteger, 64, 32), of("num-gap-ack-blocks", typeInteger, 96, 16), of("num-dup-tsns", typeInteger, 112, 16)),
		4:   chunk("heartbeat"),
		5:   chunk("heartbeat-ack"),
		6:   chunk("abort"),
		7:   chunk("shutdown", of("cum-tsn-ack", typeInteger, 32, 32)),
		8:   chunk("shutdown-ack"),
		9:   chunk("error"),
		10:  chunk("cookie-echo"),
		11:  chunk("cookie-ack"),
		12:  chunk("ecne", of("lowest-tsn", typeInteger, 32, 32)),
		13:  chunk("cwr", of("lowest-tsn", typeInteger, 32, 32)),
		14:  chunk("shutdown-complete"),
		128: chunk("asconf-ack", of("seqno", typeInteger, 32, 32)),
		192: chunk("forward-tsn", of("new-cum-tsn", typeInteger, 32, 32)),
		193: chunk("asconf", of("seqno", typeInteger, 32, 32)),
	}
)

func chunk(name string, fields ...field) *protocol {
	return extension(name, append([]field{of("type", typeInteger, 0, 8), of("flags", typeInteger, 8, 8), of("length", typeInteger, 16, 16)}, fields...)...)
}

func opening(name string) *protocol {
	return chunk(name, of("init-tag", typeInteger, 32, 32), of("a-rwnd", typeInteger, 64, 32), of("num-outbound-streams", typeInteger, 96, 16),
		of("num-inbound-streams", typeInteger, 112, 16), of("initial-tsn", typeInteger, 128, 32))
}

func sourceRoute(name string) *protocol {
	return extension(name, of("type", typeInteger, 0, 8), of("length", typeInteger, 8, 8), of("ptr", typeInteger, 16, 8), of("addr", typeIPv4, 24, 32))
}

// extensionOf is the header of that kind and type; nil if it has no name.
func extensionOf(op, number uint32) *protocol {
	switch op {
	case extensionIPv6:
		return ipv6Extensions[number]
	case extensionTCP:
		return tcpOptions[number]
	case extensionIPv4:
		return ipOptions[number]
	case extensionSCTP:
		return sctpChunks[number]
	}
	return nil
}

// locate names the field at the offset of an expression (exthdr_init_raw).
func (n *node) locate(offset, width int) bool {
	candidates := []*protocol{n.protocol}
	if n.protocol == routing {
		candidates = []*protocol{routing, segments, routing0}
	}
	for _, p := range candidates {
		for i := range p.fields {
			if f := &p.fields[i]; f.offset == offset && f.bits == width {
				n.protocol, n.field, n.offset, n.bits = p, f, offset, width
				n.typ, n.order = f.typ, orderNetwork
				return true
			}
		}
	}
	return false
}
