package netfilter

import (
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// setDim is one dimension of a set's elements.
type setDim uint8

const (
	dimIP setDim = iota
	dimNet
	dimPort // protocol and port
	dimMark
	dimIface
	dimMAC
	dimRawPort // of bitmap:port: a port of TCP or UDP, whichever
)

var setTypes = map[string][]setDim{
	"hash:ip":           {dimIP},
	"hash:net":          {dimNet},
	"hash:mac":          {dimMAC},
	"hash:ip,port":      {dimIP, dimPort},
	"hash:net,port":     {dimNet, dimPort},
	"hash:ip,port,ip":   {dimIP, dimPort, dimIP},
	"hash:ip,port,net":  {dimIP, dimPort, dimNet},
	"hash:net,port,net": {dimNet, dimPort, dimNet},
	"hash:net,net":      {dimNet, dimNet},
	"hash:net,iface":    {dimNet, dimIface},
	"hash:ip,mark":      {dimIP, dimMark},
	"hash:ip,mac":       {dimIP, dimMAC},
	"bitmap:ip":         {dimIP},
	"bitmap:ip,mac":     {dimIP, dimMAC},
	"bitmap:port":       {dimRawPort},
	"list:set":          nil,
}

// maxSetRange is how many elements one "add" of a range may stand for.
const maxSetRange = 1 << 16

// setValue is one dimension of an element, or of a packet.
type setValue struct {
	bits u128
	// extra is the length of a network, and the protocol of a port.
	extra uint8
}

// setKey is an element: no type has more than three dimensions.
type setKey [3]setValue

type setEntry struct {
	nomatch bool
	// anyMAC marks an element of bitmap:ip,mac without a MAC.
	anyMAC bool
}

// ipset is a compiled set.
type ipset struct {
	name, typ string
	dims      []setDim
	family    netstack.Family // 0: any (ports, MACs, lists)
	// unknown says why membership cannot be known; empty when it can.
	unknown     string
	first, last u128 // of a bitmap
	netmask     u128
	hasMask     bool
	markMask    uint32
	maxElem     int
	counters    bool
	entries     map[setKey]setEntry
	// skbinfo is what elements say about the packet's mark; nil without the
	// extension.
	skbinfo map[setKey]markMatch
	// lengths are the prefix lengths in use in each net dimension, longest
	// first: the kernel looks them up in this order, and the first hit decides.
	lengths [3][]uint8
	// ifaces are the elements of hash:net,iface.
	ifaces  map[setValue][]ifaceElement
	members []*ipset // of list:set, in order
	list    bool
	macOpt  bool // bitmap:ip,mac: an element may lack the MAC
}

// ifaceElement is the second part of an element of hash:net,iface.
type ifaceElement struct {
	name    string
	prefix  bool // wildcard
	phys    bool
	nomatch bool
}

// hasNetworks says whether elements may be marked nomatch (IPSET_TYPE_NOMATCH).
func (s *ipset) hasNetworks() bool { return slices.Contains(s.dims, dimNet) }

func (s *ipset) mask(v u128) u128 {
	if s.hasMask {
		return v.and(s.netmask)
	}
	return v
}

// setMatch is the match "set".
type setMatch struct {
	set    *ipset // nil: the dump does not have it
	name   string
	src    []bool // for each dimension: the packet's source side
	invert bool
	// returnNomatch turns matched elements round: those marked nomatch match.
	returnNomatch bool
	// counters says that the match also asks for the counters of the element,
	// which are never those of the dump any more.
	counters bool
}

func (m *setMatch) match(x *traversal) tri {
	res, _ := m.test(x)
	if res == maybe {
		return maybe
	}
	return is((res == yes) != m.invert)
}

func (m *setMatch) decide(x *traversal) bool {
	what := "set " + m.name
	switch {
	case m.set == nil:
		what += ", which was not read"
	case m.set.unknown != "":
		what += " (" + m.set.unknown + ")"
	case m.counters:
		what += " (counters of its elements)"
	}
	return x.env.Unknown(x.ref(), what)
}

// test is ip_set_test; the element is that of a set with elements.
func (m *setMatch) test(x *traversal) (tri, setHit) {
	if m.set == nil {
		return maybe, setHit{}
	}
	return m.set.test(x, m)
}

// setHit is the element that was found.
type setHit struct {
	set *ipset
	key setKey
	setEntry
}

func (s *ipset) test(x *traversal, m *setMatch) (tri, setHit) {
	if s.unknown != "" {
		return maybe, setHit{}
	}
	if s.list {
		for _, member := range s.members {
			// An earlier member that may hit hides what later ones say.
			if res, hit := member.test(x, m); res != no {
				return res, hit
			}
		}
		return no, setHit{}
	}
	key, res := s.keyOf(x, m.src)
	if res != yes {
		return res, setHit{}
	}
	found, hit := s.find(x, &key, m.src)
	switch {
	case !found || hit.nomatch != (m.returnNomatch && s.hasNetworks()):
		return no, setHit{}
	case m.counters && s.counters:
		return maybe, setHit{}
	}
	return yes, hit
}

// keyOf takes the element from the packet (the kadt functions).
func (s *ipset) keyOf(x *traversal, src []bool) (key setKey, res tri) {
	if len(src) < len(s.dims) || s.family != 0 && s.family != x.family {
		return key, no
	}
	for i, dim := range s.dims {
		if dim == dimIface {
			continue
		}
		v, ok := s.value(x, dim, src[i])
		if ok != yes {
			return key, ok
		}
		key[i] = v
	}
	return key, yes
}

// value takes one dimension from the packet.
func (s *ipset) value(x *traversal, dim setDim, src bool) (setValue, tri) {
	switch dim {
	case dimIP, dimNet:
		v := x.dst
		if src {
			v = x.src
		}
		return setValue{bits: s.mask(v)}, yes
	case dimPort:
		v := setValue{extra: uint8(x.p.Protocol)}
		switch {
		case isICMP(x.p.Protocol):
			v.bits.lo = uint64(x.p.ICMPType)<<8 | uint64(x.p.ICMPCode)
		case x.p.HasPorts() && src:
			v.bits.lo = uint64(x.p.SrcPort)
		case x.p.HasPorts():
			v.bits.lo = uint64(x.p.DstPort)
		}
		return v, yes
	case dimRawPort:
		if x.p.Protocol != netstack.ProtoTCP && x.p.Protocol != netstack.ProtoUDP {
			return setValue{}, no
		}
		if src {
			return setValue{bits: u128{lo: uint64(x.p.SrcPort)}}, yes
		}
		return setValue{bits: u128{lo: uint64(x.p.DstPort)}}, yes
	case dimMark:
		return setValue{bits: u128{lo: uint64(x.p.Mark & s.markMask)}}, yes
	case dimMAC:
		if x.st.Local || x.st.In != "" && x.rs.link(x.st.In).Loopback() {
			return setValue{}, no // no frame, or one without addresses
		}
		mac := x.p.DstMAC
		if src {
			mac = x.p.SrcMAC
		}
		if mac == (netstack.MAC{}) {
			return setValue{}, maybe
		}
		return setValue{bits: macBits(mac)}, yes
	}
	return setValue{}, maybe
}

// entry looks one key up, in what the dump says and what rules have changed on
// this walk.
func (s *ipset) entry(x *traversal, key *setKey) (setEntry, bool) {
	if ct := x.st.Conntrack; ct != nil && ct.ipsets != nil {
		if e, ok := ct.ipsets[s][*key]; ok {
			return setEntry{}, e
		}
	}
	e, ok := s.entries[*key]
	return e, ok
}

// find looks the element up, from the longest network to the shortest.
func (s *ipset) find(x *traversal, key *setKey, src []bool) (bool, setHit) {
	width := addrWidth(s.family)
	first, second := -1, -1
	for i, dim := range s.dims {
		if dim != dimNet {
			continue
		}
		if first < 0 {
			first = i
		} else {
			second = i
		}
	}
	hit := func(k *setKey) (bool, setHit) {
		e, ok := s.entry(x, k)
		return ok, setHit{s, *k, e}
	}
	if first < 0 {
		if found, h := hit(key); found || !s.macOpt {
			return found, h
		}
		k := *key
		k[1] = setValue{}
		found, h := hit(&k)
		return found && h.anyMAC, h
	}
	for _, l := range s.lengthsOf(x, first) {
		k := *key
		k[first] = setValue{bits: key[first].bits.and(prefixMask(int(l), width)), extra: l}
		switch {
		case s.dims[len(s.dims)-1] == dimIface:
			elements := s.ifaces[k[first]]
			if len(elements) == 0 {
				continue
			}
			// With interfaces of this network, shorter ones are not looked at
			// ("multi" of mtype_test_cidrs).
			e := findIface(x, elements, src[1])
			if e == nil {
				return false, setHit{}
			}
			return true, setHit{s, k, setEntry{nomatch: e.nomatch}}
		case second < 0:
			if found, h := hit(&k); found {
				return true, h
			}
		default:
			for _, l2 := range s.lengthsOf(x, second) {
				k[second] = setValue{bits: key[second].bits.and(prefixMask(int(l2), width)), extra: l2}
				if found, h := hit(&k); found {
					return true, h
				}
			}
		}
	}
	return false, setHit{}
}

// lengthsOf are the prefix lengths of a dimension. What a rule adds to an empty
// set is whole addresses.
func (s *ipset) lengthsOf(x *traversal, dim int) []uint8 {
	if len(s.lengths[dim]) == 0 && x.st.Conntrack != nil && len(x.st.Conntrack.ipsets[s]) > 0 {
		return []uint8{uint8(addrWidth(s.family))}
	}
	return s.lengths[dim]
}

func findIface(x *traversal, elements []ifaceElement, src bool) *ifaceElement {
	dev := x.st.Out
	if src {
		dev = x.st.In
	}
	if dev == "" {
		return nil
	}
	for i := range elements {
		e := &elements[i]
		// Nothing in iptables asks for the port of a bridge.
		if !e.phys && (dev == e.name || e.prefix && strings.HasPrefix(dev, e.name)) {
			return e
		}
	}
	return nil
}

// changeSet is SET --add-set and --del-set.
type changeSet struct{ add, del *setMatch }

func (a *changeSet) do(x *traversal) outcome {
	if a.add != nil {
		a.add.change(x, true)
	}
	if a.del != nil {
		a.del.change(x, false)
	}
	x.traceRule("set", false)
	return outcome{}
}

// change adds or removes the packet's element, for the rest of the walk.
func (m *setMatch) change(x *traversal, add bool) {
	s := m.set
	if s == nil || s.unknown != "" {
		return
	}
	if s.list {
		for _, member := range s.members {
			// The first that takes it has it (list_set_kadd).
			c := *m
			c.set = member
			c.change(x, add)
			break
		}
		return
	}
	key, res := s.keyOf(x, m.src)
	if res != yes || x.st.Conntrack == nil {
		return
	}
	if s.last != (u128{}) && (key[0].bits.less(s.first) || s.last.less(key[0].bits)) {
		return
	}
	for i, dim := range s.dims {
		switch dim {
		case dimIface:
			return
		case dimNet:
			// As long as the longest network that is there.
			l := s.lengthsOf(x, i)
			key[i].extra = uint8(addrWidth(s.family))
			if len(l) > 0 {
				key[i].extra = l[0]
			}
			key[i].bits = key[i].bits.and(prefixMask(int(key[i].extra), addrWidth(s.family)))
		}
	}
	ct := x.st.Conntrack
	if ct.ipsets == nil {
		ct.ipsets = make(map[*ipset]map[setKey]bool)
	}
	if ct.ipsets[s] == nil {
		ct.ipsets[s] = make(map[setKey]bool)
	}
	ct.ipsets[s][key] = add
}

// mapSet is SET --map-set: what the element says becomes the packet's.
type mapSet struct {
	from setMatch
	mark bool
}

func (a *mapSet) do(x *traversal) outcome {
	res, hit := a.from.test(x)
	switch {
	case res == maybe:
		return newUnknownAction("target SET --map-set " + a.from.name).do(x)
	case res == no || !a.mark || hit.set.skbinfo == nil:
		return outcome{}
	}
	// An element without a mark has mark and mask zero: nothing changes.
	info := hit.set.skbinfo[hit.key]
	x.p.Mark = x.p.Mark&^info.mask ^ info.value
	x.traceRule("mark from a set", true)
	return outcome{}
}
