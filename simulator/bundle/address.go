package bundle

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// addressFlags are IFA_F_* flags in the words of iproute2, which prints each as
// a member that is true. IFA_F_PERMANENT is missing: it is printed as its
// absence, "dynamic"; and 0x01 is "secondary" or "temporary" by family.
func addressFlags() []flagName[netstack.AddressFlags] {
	return []flagName[netstack.AddressFlags]{
		{"secondary", netstack.AddrSecondary},
		{"temporary", netstack.AddrSecondary},
		{"nodad", netstack.AddrNoDAD},
		{"optimistic", netstack.AddrOptimistic},
		{"dadfailed", netstack.AddrDADFailed},
		{"home", 0x10},
		{"deprecated", netstack.AddrDeprecated},
		{"tentative", netstack.AddrTentative},
		{"mngtmpaddr", 0x100},
		{"noprefixroute", netstack.AddrNoPrefixRoute},
		{"autojoin", 0x400},
		{"stable-privacy", 0x800},
	}
}

// scopes are RT_SCOPE_* by name.
func scopes() map[string]uint64 {
	return map[string]uint64{"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
}

func readAddresses(s *source, n *netstack.Namespace) error {
	names := scopes()
	flags := addressFlags()
	return s.list("link", func(v *value) {
		dev := s.name(v, "ifname")
		at := s.at
		s.at += " (" + dev + ")"
		s.each(v, "addr_info", func(v *value) {
			if len(v.members) == 0 {
				return
			}
			family := s.text(v, "family")
			if family != "inet" && family != "inet6" {
				return
			}
			a := netstack.Address{
				Dev:    dev,
				Prefix: s.localPrefix(v),
				Peer:   s.addr(v, "address"),
				Scope:  netstack.Scope(s.named(v, "scope", 8, names, 0)),
			}
			if m := v.get("local"); m != nil && a.Prefix.IsValid() && a.Prefix.Addr().Is4() != (family == "inet") {
				s.failAt(m, "local: not an address of family %s", family)
			}
			for _, f := range flags {
				if s.truth(v, f.name) {
					a.Flags |= f.bit
				}
			}
			if !s.truth(v, "dynamic") {
				a.Flags |= netstack.AddrPermanent
			}
			n.Addresses = append(n.Addresses, a)
		})
		s.at = at
	})
}

func (s *source) localPrefix(v *value) netip.Prefix {
	if s.field(v, "local") == nil || s.field(v, "prefixlen") == nil {
		return netip.Prefix{}
	}
	addr := s.addr(v, "local")
	bits := s.number(v, "prefixlen", 8)
	if addr.IsValid() && int(bits) > addr.BitLen() {
		s.failAt(v.get("prefixlen"), "prefixlen: longer than the address")
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, int(bits))
}

type addrInfo struct {
	Family    string `json:"family"`
	Local     string `json:"local"`
	Address   string `json:"address,omitempty"`
	PrefixLen int    `json:"prefixlen"`
	Scope     string `json:"scope"`

	Secondary     bool `json:"secondary,omitempty"`
	Temporary     bool `json:"temporary,omitempty"`
	NoDAD         bool `json:"nodad,omitempty"`
	Optimistic    bool `json:"optimistic,omitempty"`
	DADFailed     bool `json:"dadfailed,omitempty"`
	Home          bool `json:"home,omitempty"`
	Deprecated    bool `json:"deprecated,omitempty"`
	Tentative     bool `json:"tentative,omitempty"`
	MngTmpAddr    bool `json:"mngtmpaddr,omitempty"`
	NoPrefixRoute bool `json:"noprefixroute,omitempty"`
	Autojoin      bool `json:"autojoin,omitempty"`
	StablePrivacy bool `json:"stable-privacy,omitempty"`
	Dynamic       bool `json:"dynamic,omitempty"`
}

type addrLinkJSON struct {
	Ifindex int        `json:"ifindex,omitempty"`
	Ifname  string     `json:"ifname"`
	Info    []addrInfo `json:"addr_info"`
}

func writeAddresses(n *netstack.Namespace) ([]byte, error) {
	index := make(map[string]int, len(n.Links))
	for i := range n.Links {
		index[n.Links[i].Name] = n.Links[i].Index
	}
	var all []addrLinkJSON
	for i := range n.Addresses {
		a := &n.Addresses[i]
		// Addresses of a link stand together, and in the kernel's order: the
		// first one of a subnet is the primary one.
		if len(all) == 0 || all[len(all)-1].Ifname != a.Dev {
			all = append(all, addrLinkJSON{Ifindex: index[a.Dev], Ifname: a.Dev})
		}
		last := &all[len(all)-1]
		last.Info = append(last.Info, addressToJSON(a))
	}
	return encode(all)
}

func addressToJSON(a *netstack.Address) addrInfo {
	v4 := a.Prefix.Addr().Is4()
	has := func(bit netstack.AddressFlags) bool { return a.Flags&bit != 0 }
	j := addrInfo{
		Family: "inet6", Local: a.Prefix.Addr().String(), PrefixLen: a.Prefix.Bits(), Scope: formatNamed(uint64(a.Scope), scopeNames()),
		Secondary: v4 && has(netstack.AddrSecondary), Temporary: !v4 && has(netstack.AddrSecondary),
		NoDAD: has(netstack.AddrNoDAD), Optimistic: has(netstack.AddrOptimistic), DADFailed: has(netstack.AddrDADFailed),
		Home: has(0x10), Deprecated: has(netstack.AddrDeprecated), Tentative: has(netstack.AddrTentative),
		MngTmpAddr: has(0x100), NoPrefixRoute: has(netstack.AddrNoPrefixRoute), Autojoin: has(0x400), StablePrivacy: has(0x800),
		Dynamic: !has(netstack.AddrPermanent),
	}
	if v4 {
		j.Family = "inet"
	}
	if a.Peer.IsValid() {
		j.Address = a.Peer.String()
	}
	return j
}
