package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// nftChunks are the chunks of SCTP that nft names, by their type.
var nftChunks = map[string]uint8{
	"data": 0, "init": 1, "init-ack": 2, "sack": 3, "heartbeat": 4, "heartbeat-ack": 5, "abort": 6, "shutdown": 7, "shutdown-ack": 8,
	"error": 9, "cookie-echo": 10, "cookie-ack": 11, "ecne": 12, "cwr": 13, "shutdown-complete": 14, "asconf-ack": 128,
	"forward-tsn": 192, "asconf": 193,
}

// sctpChunk compiles a look at a chunk of SCTP (nft_exthdr_sctp_eval): whether the
// packet has it, or a field of the first one.
func (p *nftParser) sctpChunk(n *jsonNode) (nftExpr, error) {
	name, field := n.str("name"), n.str("field")
	e := nftExpr{name: "sctp chunk " + name, typ: nftInteger}
	chunk, ok := nftChunks[name]
	if !ok {
		return e, notModelled(e.name)
	}
	has := func(x *traversal) bool {
		return x.st.ARP == nil && x.p.Protocol == netstack.ProtoSCTP && chunk < 16 && x.p.Chunks&(1<<chunk) != 0
	}
	if field == "" {
		e.get = func(x *traversal) (u128, tri) {
			if has(x) {
				return word(1)
			}
			return word(0) // "missing" holds, of other protocols, too
		}
		return e, nil
	}
	e.name += " " + field
	var value, known uint64
	switch field {
	case "type":
		e.bits, value, known = 8, uint64(chunk), 0xff
	case "flags":
		flags := sctpFlagsOf(chunk)
		e.bits, value, known = 8, uint64(flags.set), uint64(flags.mask)
	case "length":
		const header = 4
		e.bits, value = 16, header
		if chunk == nftChunks["cookie-ack"] { // which has nothing else
			known = 0xffff
		}
	default: // what the ends choose: tags, numbers, windows, streams
		e.bits = 32
	}
	e.bitsKnown = func(*traversal) (v, bits u128) { return u128{lo: value & known}, u128{lo: known} }
	whole := known == 1<<e.bits-1
	e.get = func(x *traversal) (u128, tri) {
		switch {
		case !has(x):
			return u128{}, no
		case !whole:
			return u128{}, maybe
		}
		return word(value)
	}
	return e, nil
}
