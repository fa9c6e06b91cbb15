package bundle

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func readAddrLabels(s *source, n *netstack.Namespace) error {
	n.AddrLabels = []netstack.AddrLabel{} // also where none is left
	return s.list("label", func(v *value) {
		m := s.field(v, "address")
		if m == nil {
			return
		}
		addr, bits := s.addr(v, "address"), int(s.number(v, "prefixlen", 8))
		if !addr.Is6() || bits > 128 {
			s.failAt(m, "address: not a prefix of IPv6")
			return
		}
		n.AddrLabels = append(n.AddrLabels, netstack.AddrLabel{
			Prefix: netip.PrefixFrom(addr, bits), Dev: s.text(v, "ifname"), Label: uint32(s.number(v, "label", 32)),
		})
	})
}

type addrLabelJSON struct {
	Address   string `json:"address"`
	PrefixLen int    `json:"prefixlen"`
	Ifname    string `json:"ifname,omitempty"`
	Label     uint32 `json:"label"`
}

func writeAddrLabels(n *netstack.Namespace) ([]byte, error) {
	all := make([]addrLabelJSON, len(n.AddrLabels))
	for i, l := range n.AddrLabels {
		all[i] = addrLabelJSON{l.Prefix.Addr().String(), l.Prefix.Bits(), l.Dev, l.Label}
	}
	return encode(all)
}
