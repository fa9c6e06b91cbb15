package netstack

import "net/netip"

// AddrLabel puts the addresses of IPv6 in a prefix into a group: a source in the group of the destination is preferred
// (RFC 6724).
type AddrLabel struct {
	Prefix netip.Prefix
	Dev    string // whose addresses are meant; empty for any
	Label  uint32
}

// KernelAddrLabels are those of a namespace that nobody has given others (ip6addrlbl_init_table), in the order in which they
// are tried, and those of one length by their addresses.
func KernelAddrLabels() []AddrLabel {
	return []AddrLabel{
		{Prefix: netip.MustParsePrefix("::1/128"), Label: 0},
		{Prefix: netip.MustParsePrefix("::/96"), Label: 3},
		{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96), Label: 4},
		{Prefix: netip.MustParsePrefix("2001::/32"), Label: 6},
		{Prefix: netip.MustParsePrefix("2001:10::/28"), Label: 7},
		{Prefix: netip.MustParsePrefix("2002::/16"), Label: 2},
		{Prefix: netip.MustParsePrefix("3ffe::/16"), Label: 12},
		{Prefix: netip.MustParsePrefix("fec0::/10"), Label: 11},
		{Prefix: netip.MustParsePrefix("fc00::/7"), Label: 5},
		{Prefix: netip.MustParsePrefix("::/0"), Label: 1},
	}
}
