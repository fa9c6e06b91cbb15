package netfilter

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
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
	// prefix is the length of a network; port sets keep the protocol here.
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
	name   string
	dims   []setDim
	family netstack.Family // 0: any (ports, marks, MACs, lists)
	// unknown says why membership cannot be known; empty when it can.
	unknown  string
	netmask  u128
	hasMask  bool
	markMask uint32
	entries  map[setKey]setEntry
	// lengths are the prefix lengths in use in each net dimension, longest
	// first: the kernel looks them up in this order, and the first hit decides.
	lengths [3][]uint8
	// ifaces are the elements of hash:net,iface.
	ifaces  []ifaceElement
	members []string // of list:set, in order
	list    bool
	macOpt  bool // bitmap:ip,mac: an element may lack the MAC
}

// ifaceElement is an element of hash:net,iface.
type ifaceElement struct {
	net     setValue
	name    string
	prefix  bool // wildcard
	phys    bool
	nomatch bool
}

// parseIPSet reads the output of "ipset save".
func parseIPSet(file string, data []byte) (map[string]*ipset, error) {
	sets := make(map[string]*ipset)
	sc := lineScanner{file: file, text: string(data)}
	for sc.next() {
		fields, err := sc.fields()
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "create", "-N", "n":
			err = sc.createSet(sets, fields)
		case "add", "-A", "a":
			err = sc.addToSet(sets, fields)
		case "COMMIT":
		default:
			err = sc.errorf(fields[0], "unknown ipset command")
		}
		if err != nil {
			return nil, err
		}
	}
	for _, s := range sets {
		for _, m := range s.members {
			if sets[m] == nil {
				return nil, &SyntaxError{File: file, Line: 0, Token: m, Msg: "member of list " + s.name + " is not a set of this dump"}
			}
			if sets[m].list {
				return nil, &SyntaxError{File: file, Line: 0, Token: m, Msg: "member of list " + s.name + " is itself a list"}
			}
		}
		s.sortLengths()
	}
	return sets, nil
}

func (s *ipset) sortLengths() {
	for i := range s.lengths {
		slices.SortFunc(s.lengths[i], func(a, b uint8) int { return cmp.Compare(b, a) })
	}
}

func (sc *lineScanner) createSet(sets map[string]*ipset, fields []string) error {
	if len(fields) < 3 {
		return sc.errorf(fields[len(fields)-1], "create needs a name and a type")
	}
	name, typ := fields[1], fields[2]
	if sets[name] != nil {
		return sc.errorf(name, "set created twice")
	}
	dims, known := setTypes[typ]
	s := &ipset{
		name: name, dims: dims, family: netstack.IPv4, markMask: ^uint32(0),
		entries: make(map[setKey]setEntry), list: typ == "list:set", macOpt: typ == "bitmap:ip,mac",
	}
	sets[name] = s
	if !known {
		s.unknown = "set type " + typ
		return nil
	}
	switch typ {
	case "hash:mac", "bitmap:port", "list:set":
		s.family = 0
	}
	for i := 3; i < len(fields); i++ {
		opt := fields[i]
		switch opt {
		case "counters", "comment", "skbinfo", "forceadd":
			continue
		}
		if i+1 == len(fields) {
			return sc.errorf(opt, "option has no value")
		}
		i++
		value := fields[i]
		switch opt {
		case "family":
			switch value {
			case "inet", "ipv4":
				s.family = netstack.IPv4
			case "inet6", "ipv6":
				s.family = netstack.IPv6
			default:
				return sc.errorf(value, "unknown family")
			}
		case "hashsize", "maxelem", "timeout", "bucketsize", "initval", "size", "range", "probes", "resize", "gc":
		case "netmask":
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil || int(n) > addrWidth(s.family) {
				return sc.errorf(value, "invalid netmask")
			}
			s.hasMask, s.netmask = true, prefixMask(int(n), addrWidth(s.family))
		case "bitmask":
			a, ok := parseAddr(s.family, value)
			if !ok {
				return sc.errorf(value, "invalid bitmask")
			}
			s.hasMask, s.netmask = true, addrBits(a)
		case "markmask":
			n, err := strconv.ParseUint(value, 0, 32)
			if err != nil {
				return sc.errorf(value, "invalid markmask")
			}
			s.markMask = uint32(n)
		default:
			s.unknown = "set option " + opt
		}
	}
	return nil
}

func (sc *lineScanner) addToSet(sets map[string]*ipset, fields []string) error {
	if len(fields) < 3 {
		return sc.errorf(fields[len(fields)-1], "add needs a set and an element")
	}
	s := sets[fields[1]]
	if s == nil {
		return sc.errorf(fields[1], "add to a set that was not created")
	}
	if s.unknown != "" {
		return nil
	}
	var e setEntry
	var wildcard bool
	for i := 3; i < len(fields); i++ {
		switch fields[i] {
		case "nomatch":
			e.nomatch = true
		case "wildcard":
			wildcard = true
		case "timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue", "before", "after":
			i++
			if i == len(fields) {
				return sc.errorf(fields[i-1], "option has no value")
			}
		default:
			s.unknown = "element option " + fields[i]
		}
	}
	elem := fields[2]
	if s.list {
		s.members = append(s.members, elem)
		return nil
	}
	parts := strings.Split(elem, ",")
	if s.macOpt && len(parts) == 1 {
		parts = append(parts, "00:00:00:00:00:00")
		e.anyMAC = true
	}
	if len(parts) != len(s.dims) {
		return sc.errorf(elem, "element has the wrong number of parts")
	}
	if s.dims[len(s.dims)-1] == dimIface {
		return sc.addIface(s, parts, wildcard, e)
	}
	var choices [3][]setValue
	total := 1
	for i, part := range parts {
		values, ok := s.parseValue(s.dims[i], part)
		if !ok {
			return sc.errorf(part, "invalid element of set "+s.name)
		}
		choices[i] = values
		if total *= len(values); total > maxSetRange {
			return sc.errorf(elem, "range too large")
		}
	}
	var key setKey
	s.addAll(choices[:len(parts)], 0, &key, e)
	return nil
}

func (s *ipset) addAll(choices [][]setValue, i int, key *setKey, e setEntry) {
	if i == len(choices) {
		s.entries[*key] = e
		return
	}
	for _, v := range choices[i] {
		key[i] = v
		if s.dims[i] == dimNet && !slices.Contains(s.lengths[i], v.extra) {
			s.lengths[i] = append(s.lengths[i], v.extra)
		}
		s.addAll(choices, i+1, key, e)
	}
}

func (sc *lineScanner) addIface(s *ipset, parts []string, wildcard bool, e setEntry) error {
	values, ok := s.parseValue(dimNet, parts[0])
	if !ok {
		return sc.errorf(parts[0], "invalid element of set "+s.name)
	}
	name, phys := strings.CutPrefix(parts[1], "physdev:")
	if name == "" || len(name) > 15 {
		return sc.errorf(parts[1], "invalid interface name")
	}
	for _, v := range values {
		if !slices.Contains(s.lengths[0], v.extra) {
			s.lengths[0] = append(s.lengths[0], v.extra)
		}
		s.ifaces = append(s.ifaces, ifaceElement{net: v, name: name, prefix: wildcard, phys: phys, nomatch: e.nomatch})
	}
	return nil
}

// parseValue reads one part of an element; ranges yield several values.
func (s *ipset) parseValue(dim setDim, text string) ([]setValue, bool) {
	width := addrWidth(s.family)
	switch dim {
	case dimIP, dimNet:
		if text == "" {
			return nil, false
		}
		if first, last, found := strings.Cut(text, "-"); found {
			a, ok1 := parseAddr(s.family, first)
			b, ok2 := parseAddr(s.family, last)
			if !ok1 || !ok2 || b.Less(a) {
				return nil, false
			}
			return s.span(dim, addrBits(a), addrBits(b))
		}
		addrText, lenText, hasLen := strings.Cut(text, "/")
		a, ok := parseAddr(s.family, addrText)
		if !ok {
			return nil, false
		}
		n := width
		if hasLen {
			l, err := strconv.ParseUint(lenText, 10, 8)
			if err != nil || int(l) > width {
				return nil, false
			}
			n = int(l)
		}
		mask := prefixMask(n, width)
		v := addrBits(a).and(mask)
		if dim == dimNet {
			return []setValue{{bits: v, extra: uint8(n)}}, true
		}
		if n == width {
			return []setValue{{bits: s.mask(v)}}, true
		}
		full := prefixMask(width, width)
		return s.span(dim, v, v.or(full.xor(mask)))
	case dimPort:
		proto, port := netstack.ProtoTCP, text
		if p, rest, found := strings.Cut(text, ":"); found {
			var ok bool
			if proto, ok = parseProtocol(p); !ok {
				return nil, false
			}
			port = rest
		}
		if proto == netstack.ProtoICMP || proto == netstack.ProtoICMPv6 {
			t, ok := parseICMPType(proto, port)
			if !ok || t.any {
				return nil, false
			}
			return []setValue{{bits: u128{lo: uint64(t.typ)<<8 | uint64(t.firstCode)}, extra: uint8(proto)}}, true
		}
		return portSpan(port, uint8(proto))
	case dimRawPort:
		return portSpan(text, 0)
	case dimMark:
		n, err := strconv.ParseUint(text, 0, 32)
		return []setValue{{bits: u128{lo: n & uint64(s.markMask)}}}, err == nil
	case dimMAC:
		m, ok := parseMAC(text)
		return []setValue{{bits: macBits(m)}}, ok
	}
	return nil, false
}

func portSpan(text string, proto uint8) ([]setValue, bool) {
	firstText, lastText, found := strings.Cut(text, "-")
	if !found {
		lastText = firstText
	}
	first, ok1 := parsePort(firstText)
	last, ok2 := parsePort(lastText)
	if !ok1 || !ok2 || last < first {
		return nil, false
	}
	values := make([]setValue, 0, int(last-first)+1)
	for p := uint64(first); p <= uint64(last); p++ {
		values = append(values, setValue{bits: u128{lo: p}, extra: proto})
	}
	return values, true
}

func (s *ipset) mask(v u128) u128 {
	if s.hasMask {
		return v.and(s.netmask)
	}
	return v
}

// span covers a range of addresses: with single addresses, or with the fewest
// networks.
func (s *ipset) span(dim setDim, first, last u128) ([]setValue, bool) {
	width := addrWidth(s.family)
	var values []setValue
	if dim == dimIP {
		if last.minus(first) >= maxSetRange {
			return nil, false
		}
		for v := first; ; v = v.plus(1) {
			values = append(values, setValue{bits: s.mask(v)})
			if v == last {
				return values, true
			}
		}
	}
	for {
		// The largest network that begins at first and ends by last.
		zeros := bits.TrailingZeros64(first.lo)
		if first.lo == 0 {
			zeros = 64 + bits.TrailingZeros64(first.hi)
		}
		n := width - min(zeros, width)
		full := prefixMask(width, width)
		end := first.or(full.xor(prefixMask(n, width)))
		for last.less(end) {
			n++
			end = first.or(full.xor(prefixMask(n, width)))
		}
		values = append(values, setValue{bits: first, extra: uint8(n)})
		if end == last {
			return values, true
		}
		first = end.plus(1)
	}
}

// setMatch is the match "set".
type setMatch struct {
	set    *ipset // nil: the dump does not have it
	name   string
	src    []bool // for each dimension: the packet's source side
	invert bool
	// returnNomatch turns matched elements round: those marked nomatch match.
	returnNomatch bool
}

func (m *setMatch) match(x *traversal) tri {
	if m.set == nil {
		return maybe
	}
	res := m.set.test(x, m.src, m.returnNomatch)
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
	}
	return x.env.Unknown(x.ref(), what)
}

// test is ip_set_test.
func (s *ipset) test(x *traversal, src []bool, returnNomatch bool) tri {
	if s.unknown != "" {
		return maybe
	}
	if s.list {
		result := no
		for _, m := range s.members {
			switch x.rs.sets[m].test(x, src, returnNomatch) {
			case yes:
				return yes
			case maybe:
				result = maybe
			}
		}
		return result
	}
	if len(src) < len(s.dims) || s.family != 0 && s.family != x.family {
		return no
	}
	var key setKey
	for i, dim := range s.dims {
		if dim == dimIface {
			continue
		}
		v, ok := s.value(x, dim, src[i])
		if ok != yes {
			return ok
		}
		key[i] = v
	}
	found, e := s.find(x, &key, src)
	if !found {
		return no
	}
	return is(e.nomatch == returnNomatch)
}

// value takes one dimension from the packet.
func (s *ipset) value(x *traversal, dim setDim, src bool) (setValue, tri) {
	switch dim {
	case dimIP, dimNet:
		v := x.dst
		if src {
			v = x.src
		}
		if dim == dimIP {
			v = s.mask(v)
		}
		return setValue{bits: v}, yes
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

// find looks the element up, from the longest network to the shortest.
func (s *ipset) find(x *traversal, key *setKey, src []bool) (bool, setEntry) {
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
	if first < 0 {
		if e, ok := s.entries[*key]; ok {
			return true, e
		}
		if s.macOpt {
			k := *key
			k[1] = setValue{}
			if e, ok := s.entries[k]; ok && e.anyMAC {
				return true, e
			}
		}
		return false, setEntry{}
	}
	for _, l := range s.lengths[first] {
		k := *key
		k[first] = setValue{bits: key[first].bits.and(prefixMask(int(l), width)), extra: l}
		if s.dims[len(s.dims)-1] == dimIface {
			if found, e := s.findIface(x, k[first], src[1]); found {
				return true, e
			}
			continue
		}
		if second < 0 {
			if e, ok := s.entries[k]; ok {
				return true, e
			}
			continue
		}
		for _, l2 := range s.lengths[second] {
			k[second] = setValue{bits: key[second].bits.and(prefixMask(int(l2), width)), extra: l2}
			if e, ok := s.entries[k]; ok {
				return true, e
			}
		}
	}
	return false, setEntry{}
}

func (s *ipset) findIface(x *traversal, net setValue, src bool) (bool, setEntry) {
	name, phys := x.st.Out, x.st.PhysOut
	if src {
		name, phys = x.st.In, x.st.PhysIn
	}
	for i := range s.ifaces {
		e := &s.ifaces[i]
		if e.net != net {
			continue
		}
		dev := name
		if e.phys {
			dev = phys
		}
		if dev != "" && (dev == e.name || e.prefix && strings.HasPrefix(dev, e.name)) {
			return true, setEntry{nomatch: e.nomatch}
		}
	}
	return false, setEntry{}
}

func parseMAC(text string) (netstack.MAC, bool) {
	var m netstack.MAC
	if len(text) != 17 {
		return m, false
	}
	for i := range m {
		if i > 0 && text[3*i-1] != ':' {
			return m, false
		}
		b, err := strconv.ParseUint(text[3*i:3*i+2], 16, 8)
		if err != nil {
			return m, false
		}
		m[i] = byte(b)
	}
	return m, true
}

func macBits(m netstack.MAC) u128 {
	var v u128
	for _, b := range m {
		v.lo = v.lo<<8 | uint64(b)
	}
	return v
}
