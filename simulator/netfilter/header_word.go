package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// HeaderWord reads four bytes of an IP packet, and which of their bits are known.
// It says no behind the packet's end.
func HeaderWord(p *netstack.Packet, offset int) (value, known uint32, ok bool) {
	var network, transport header
	if p.Family() == netstack.IPv4 {
		ipv4Header(p, &network)
	} else {
		ipv6Header(p, &network)
	}
	transportHeader(p, &transport)
	return headerWord(p.Length, &network, &transport, uint32(offset))
}

func headerWord(length int, network, transport *header, at uint32) (v, known uint32, ok bool) {
	if uint64(at)+4 > uint64(length) {
		return 0, 0, false
	}
	for i := range uint32(4) {
		h, offset := network, int(at+i)
		if offset >= h.length {
			h, offset = transport, offset-h.length
		}
		v, known = v<<8, known<<8
		if offset < min(h.length, maxHeader) {
			v |= uint32(h.data[offset] & h.known[offset])
			known |= uint32(h.known[offset])
		}
	}
	return v, known, true
}
