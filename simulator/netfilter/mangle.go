package netfilter

import (
	"encoding/binary"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// stripMSS is TCPOPTSTRIP of the segment size: without it, the other end takes
// the default.
type stripMSS struct{ strips bool }

func (a *stripMSS) do(x *traversal) outcome {
	if a.strips && x.p.Protocol == netstack.ProtoTCP && x.p.MSS != 0 {
		x.p.MSS = 0
		x.traceRule("remove MSS", true)
	}
	return outcome{}
}

// setECN is ECN.
type setECN struct {
	ip          bool
	ect         uint8
	mask, flags netstack.TCPFlags
}

func (a *setECN) do(x *traversal) outcome {
	if a.ip {
		x.p.TOS = x.p.TOS&^3 | a.ect
	}
	if x.p.Protocol == netstack.ProtoTCP {
		x.p.TCPFlags = x.p.TCPFlags&^a.mask | a.flags
	}
	x.traceRule("set ECN", true)
	return outcome{}
}

// setPriority is CLASSIFY.
type setPriority struct{}

func (setPriority) do(x *traversal) outcome {
	x.st.prioritySet = true
	x.traceRule("classify", false)
	return outcome{}
}

// hashMark is HMARK. The hash is the same for all packets of a flow; which one
// it is, we let the dice say.
type hashMark struct{ modulus, offset uint32 }

func (a *hashMark) do(x *traversal) outcome {
	r := &nftRandom{name: "hmark", sides: uint64(a.modulus), offset: uint64(a.offset), ofFlow: true}
	v, _ := x.draw(r)
	x.p.Mark = uint32(v)
	x.traceRule("mark with a hash", true)
	return outcome{}
}

// prefixTranslation is SNPT and DNPT: it exchanges the prefix of an address and
// changes another word of it so that checksums stay right (RFC 6296).
type prefixTranslation struct {
	dst        bool
	to         netip.Prefix
	length     int
	adjustment uint16
}

func newPrefixTranslation(dst bool, from, to netip.Prefix) *prefixTranslation {
	// ip6t_npt_checkentry: the sum of one less that of the other.
	a := &prefixTranslation{dst: dst, to: to, length: max(from.Bits(), to.Bits())}
	a.adjustment = onesAdd(prefixSum(from), ^prefixSum(to))
	return a
}

// prefixSum is the Internet checksum of a prefix, not inverted.
func prefixSum(p netip.Prefix) uint16 {
	b := p.Addr().As16()
	var sum uint16
	for i := 0; i < len(b); i += 2 {
		sum = onesAdd(sum, binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

// onesAdd adds in one's complement.
func onesAdd(a, b uint16) uint16 {
	sum := uint32(a) + uint32(b)
	return uint16(sum + sum>>16)
}

func (a *prefixTranslation) do(x *traversal) outcome {
	addr := &x.p.Src
	if a.dst {
		addr = &x.p.Dst
	}
	mask := prefixMask(a.length, 128)
	b := addrBits(*addr).and(mask.not()).or(addrBits(a.to.Addr()).and(mask)).addr(netstack.IPv6).As16()
	// ip6t_npt_map_pfx: the fourth word, or the first behind it that is not all
	// ones.
	at := 3
	if a.length > 48 {
		for at = 4; at < 8 && binary.BigEndian.Uint16(b[2*at:]) == 0xffff; at++ {
		}
		if at == 8 {
			return outcome{kind: outDrop}
		}
	}
	sum := onesAdd(binary.BigEndian.Uint16(b[2*at:]), a.adjustment)
	if sum == 0xffff {
		sum = 0
	}
	binary.BigEndian.PutUint16(b[2*at:], sum)
	*addr = netip.AddrFrom16(b)
	x.sync()
	x.traceRule("translate the prefix", true)
	return outcome{}
}
