package netfilter

import (
	"cmp"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ipsetParser reads the output of "ipset save".
type ipsetParser struct {
	lineScanner
	sets     map[string]*ipset
	elements int // of all sets
}

const (
	// defaultMaxElem is IPSET_DEFAULT_MAXELEM: a hash holds no more, unless it
	// was created to.
	defaultMaxElem = 65536
	// maxElements bounds what one dump may make us hold.
	maxElements = 1 << 22
)

func parseIPSet(file string, data []byte) (map[string]*ipset, error) {
	p := &ipsetParser{lineScanner: lineScanner{file: file, text: string(data)}, sets: make(map[string]*ipset)}
	for p.next() {
		fields, err := p.words()
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "create", "-N", "n":
			err = p.create(fields)
		case "add", "-A", "a":
			err = p.add(fields)
		case "COMMIT":
		default:
			err = p.errorf(fields[0], "unknown ipset command")
		}
		if err != nil {
			return nil, err
		}
	}
	for _, s := range p.sets {
		for i := range s.lengths {
			slices.SortFunc(s.lengths[i], func(a, b uint8) int { return cmp.Compare(b, a) })
		}
	}
	return p.sets, nil
}

// words splits the current line as ipset does: double quotes keep white space,
// and nothing escapes them. Other white space than blanks and tabs, which ipset drops
// without separating words, is in no dump, and refused.
func (p *ipsetParser) words() ([]string, error) {
	p.tokens = p.tokens[:0]
	rest := strings.TrimLeft(p.cur, " \t")
	for rest != "" {
		var word string
		if rest[0] == '"' {
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				return nil, p.errorf(rest, "quote is not closed")
			}
			word, rest = rest[1:1+end], rest[2+end:]
		} else {
			end := strings.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}
			word, rest = rest[:end], rest[end:]
			if strings.ContainsAny(word, "\r\v\f") {
				return nil, p.errorf(word, "white space that does not separate words")
			}
		}
		p.tokens = append(p.tokens, word)
		rest = strings.TrimLeft(rest, " \t")
	}
	return p.tokens, nil
}

// maxSetName is IPSET_MAXNAMELEN without the final zero.
const maxSetName = 31

func (p *ipsetParser) create(fields []string) error {
	if len(fields) < 3 {
		return p.errorf(fields[len(fields)-1], "create needs a name and a type")
	}
	name, typ := strings.Clone(fields[1]), fields[2]
	if p.sets[name] != nil {
		return p.errorf(name, "set created twice")
	}
	if name == "" || len(name) > maxSetName {
		return p.errorf(name, "invalid name of a set")
	}
	dims, known := setTypes[typ]
	s := &ipset{
		name: name, typ: strings.Clone(typ), dims: dims, family: netstack.IPv4, markMask: ^uint32(0), maxElem: defaultMaxElem,
		entries: make(map[setKey]setEntry), list: typ == "list:set", macOpt: typ == "bitmap:ip,mac",
	}
	p.sets[name] = s
	if !known {
		s.unknown = "set type " + s.typ
		return nil
	}
	switch typ {
	case "hash:mac", "bitmap:port", "list:set":
		s.family = 0
	}
	for i := 3; i < len(fields); i++ {
		opt := fields[i]
		switch opt {
		case "counters":
			s.counters = true
			continue
		case "comment", "forceadd":
			continue
		case "skbinfo":
			s.skbinfo = make(map[setKey]markMatch)
			continue
		}
		if i+1 == len(fields) {
			return p.errorf(opt, "option has no value")
		}
		i++
		if err := p.createOption(s, opt, fields[i]); err != nil {
			return err
		}
	}
	if strings.HasPrefix(typ, "bitmap:") && s.first == s.last && s.first == (u128{}) {
		return p.errorf(typ, "a bitmap needs a range")
	}
	return nil
}

func (p *ipsetParser) createOption(s *ipset, opt, value string) error {
	switch opt {
	case "family":
		switch value {
		case "inet", "ipv4":
			s.family = netstack.IPv4
		case "inet6", "ipv6":
			s.family = netstack.IPv6
		default:
			return p.errorf(value, "unknown family")
		}
	case "maxelem":
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return p.errorf(value, "invalid "+opt)
		}
		s.maxElem = int(n)
	case "hashsize", "timeout", "bucketsize", "initval", "size", "probes", "resize", "gc":
		if _, err := strconv.ParseUint(value, 0, 32); err != nil {
			return p.errorf(value, "invalid "+opt)
		}
	case "range":
		dim := dimIP
		if s.typ == "bitmap:port" {
			dim = dimRawPort
		}
		var ok bool
		if s.first, s.last, ok = s.bounds(dim, value); !ok {
			return p.errorf(value, "invalid range")
		}
	case "netmask":
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil || n == 0 || int(n) > addrWidth(s.family) {
			return p.errorf(value, "invalid netmask")
		}
		s.hasMask, s.netmask = true, prefixMask(int(n), addrWidth(s.family))
	case "bitmask":
		a, ok := parseAddr(s.family, value)
		if !ok {
			return p.errorf(value, "invalid bitmask")
		}
		s.hasMask, s.netmask = true, addrBits(a)
	case "markmask":
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return p.errorf(value, "invalid markmask")
		}
		s.markMask = uint32(n)
	default:
		s.unknown = "set option " + strings.Clone(opt)
	}
	return nil
}

func (p *ipsetParser) add(fields []string) error {
	if len(fields) < 3 {
		return p.errorf(fields[len(fields)-1], "add needs a set and an element")
	}
	s := p.sets[fields[1]]
	if s == nil {
		return p.errorf(fields[1], "add to a set that was not created")
	}
	if s.unknown != "" {
		return nil
	}
	var e setEntry
	var info *markMatch
	var wildcard bool
	place, anchor := "", ""
	for i := 3; i < len(fields); i++ {
		opt := fields[i]
		switch opt {
		case "nomatch":
			e.nomatch = true
			continue
		case "wildcard":
			wildcard = true
			continue
		case "timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue", "before", "after":
		default:
			s.unknown = "element option " + strings.Clone(opt)
			continue
		}
		i++
		if i == len(fields) {
			return p.errorf(opt, "option has no value")
		}
		value, ok := fields[i], true
		switch opt {
		case "timeout", "packets", "bytes":
			_, err := strconv.ParseUint(value, 10, 64)
			ok = err == nil
		case "skbmark":
			info, ok = parseSKBMark(value)
		case "skbqueue":
			_, err := strconv.ParseUint(value, 10, 16)
			ok = err == nil
		case "before", "after":
			place, anchor = opt, value
		}
		if !ok {
			return p.errorf(value, "invalid "+opt)
		}
	}
	elem := fields[2]
	if s.list {
		return p.addMember(s, elem, place, anchor)
	}
	if place != "" {
		return p.errorf(place, "only lists have an order")
	}
	parts := strings.Split(elem, ",")
	if s.macOpt && len(parts) == 1 {
		parts = append(parts, "00:00:00:00:00:00")
		e.anyMAC = true
	}
	if len(parts) != len(s.dims) {
		return p.errorf(elem, "element has the wrong number of parts")
	}
	if s.dims[len(s.dims)-1] == dimIface {
		return p.addIface(s, parts, wildcard, e)
	}
	var choices [3][]setValue
	total := 1
	for i, part := range parts {
		values, ok := s.parseValue(s.dims[i], part)
		if !ok {
			return p.errorf(part, "invalid element of set "+s.name)
		}
		if s.last != (u128{}) && i == 0 && (values[0].bits.less(s.first) || s.last.less(values[len(values)-1].bits)) {
			return p.errorf(part, "element is out of the range of set "+s.name)
		}
		choices[i] = values
		if total *= len(values); total > maxSetRange {
			return p.errorf(elem, "range too large")
		}
	}
	if p.elements += total; p.elements > maxElements {
		return p.errorf(elem, "too many elements")
	}
	var key setKey
	s.addAll(choices[:len(parts)], 0, &key, e, info)
	if s.first == s.last && len(s.entries) > s.maxElem {
		return p.errorf(elem, "set "+s.name+" is full")
	}
	return nil
}

// parseSKBMark reads MARK[/MASK] of an element.
func parseSKBMark(text string) (*markMatch, bool) {
	value, mask, found := strings.Cut(text, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	m := uint64(math.MaxUint32)
	if err == nil && found {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	return &markMatch{value: uint32(v), mask: uint32(m)}, err == nil
}

func (p *ipsetParser) addMember(s *ipset, name, place, anchor string) error {
	m := p.sets[name]
	switch {
	case m == nil:
		return p.errorf(name, "member of list "+s.name+" is not a set of this dump")
	case m.list:
		return p.errorf(name, "member of list "+s.name+" is itself a list")
	case place == "":
		s.members = append(s.members, m)
		return nil
	}
	at := slices.IndexFunc(s.members, func(m *ipset) bool { return m.name == anchor })
	if at < 0 {
		return p.errorf(anchor, "not a member of list "+s.name)
	}
	if place == "after" {
		at++
	}
	s.members = slices.Insert(s.members, at, m)
	return nil
}

func (s *ipset) addAll(choices [][]setValue, i int, key *setKey, e setEntry, info *markMatch) {
	if i == len(choices) {
		s.entries[*key] = e
		if info != nil && s.skbinfo != nil {
			s.skbinfo[*key] = *info
		}
		return
	}
	for _, v := range choices[i] {
		key[i] = v
		if s.dims[i] == dimNet {
			s.addLength(i, v.extra)
		}
		s.addAll(choices, i+1, key, e, info)
	}
}

func (s *ipset) addLength(dim int, length uint8) {
	if !slices.Contains(s.lengths[dim], length) {
		s.lengths[dim] = append(s.lengths[dim], length)
	}
}

func (p *ipsetParser) addIface(s *ipset, parts []string, wildcard bool, e setEntry) error {
	values, ok := s.parseValue(dimNet, parts[0])
	if !ok {
		return p.errorf(parts[0], "invalid element of set "+s.name)
	}
	name, phys := strings.CutPrefix(parts[1], "physdev:")
	if name == "" || len(name) > 15 {
		return p.errorf(parts[1], "invalid interface name")
	}
	if s.ifaces == nil {
		s.ifaces = make(map[setValue][]ifaceElement)
	}
	for _, v := range values {
		s.addLength(0, v.extra)
		s.ifaces[v] = append(s.ifaces[v], ifaceElement{name: strings.Clone(name), prefix: wildcard, phys: phys, nomatch: e.nomatch})
	}
	return nil
}

// bounds reads ADDRESS, ADDRESS/PREFIX or FIRST-LAST, of addresses or ports.
func (s *ipset) bounds(dim setDim, text string) (first, last u128, ok bool) {
	firstText, lastText, found := strings.Cut(text, "-")
	if !found {
		lastText = firstText
	}
	if dim == dimRawPort {
		a, ok1 := parsePort(firstText)
		b, ok2 := parsePort(lastText)
		return u128{lo: uint64(a)}, u128{lo: uint64(b)}, ok1 && ok2 && a <= b
	}
	if !found && strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		if err != nil || n.Addr().Is4() != (s.family == netstack.IPv4) {
			return first, last, false
		}
		mask := prefixMask(n.Bits(), addrWidth(s.family))
		first = addrBits(n.Masked().Addr())
		return first, first.or(mask.xor(prefixMask(addrWidth(s.family), addrWidth(s.family)))), true
	}
	a, ok1 := parseAddr(s.family, firstText)
	b, ok2 := parseAddr(s.family, lastText)
	return addrBits(a), addrBits(b), ok1 && ok2 && !b.Less(a)
}

// parseValue reads one part of an element; ranges yield several values.
func (s *ipset) parseValue(dim setDim, text string) ([]setValue, bool) {
	switch dim {
	case dimIP, dimNet:
		return s.parseAddresses(dim, text)
	case dimPort:
		proto, port := netstack.ProtoTCP, text
		if p, rest, found := strings.Cut(text, ":"); found {
			var ok bool
			if proto, ok = parseProtocol(p); !ok {
				return nil, false
			}
			port = rest
		}
		if isICMP(proto) {
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
		m, ok := netstack.ParseMAC(text)
		return []setValue{{bits: macBits(m)}}, ok
	}
	return nil, false
}

func (s *ipset) parseAddresses(dim setDim, text string) ([]setValue, bool) {
	if addr, length, found := strings.Cut(text, "/"); found && dim == dimNet {
		a, ok := parseAddr(s.family, addr)
		n, err := strconv.ParseUint(length, 10, 8)
		if !ok || err != nil || int(n) > addrWidth(s.family) {
			return nil, false
		}
		return []setValue{{bits: s.mask(addrBits(a).and(prefixMask(int(n), addrWidth(s.family)))), extra: uint8(n)}}, true
	}
	first, last, ok := s.bounds(dim, text)
	if !ok {
		return nil, false
	}
	if first == last {
		v := setValue{bits: s.mask(first)}
		if dim == dimNet {
			v.extra = uint8(addrWidth(s.family))
		}
		return []setValue{v}, true
	}
	return s.span(dim, first, last)
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
	full := prefixMask(width, width)
	for {
		// The largest network that begins at first and ends by last.
		zeros := bits.TrailingZeros64(first.lo)
		if first.lo == 0 {
			zeros = 64 + bits.TrailingZeros64(first.hi)
		}
		n := width - min(zeros, width)
		end := first.or(full.xor(prefixMask(n, width)))
		for last.less(end) {
			n++
			end = first.or(full.xor(prefixMask(n, width)))
		}
		values = append(values, setValue{bits: s.mask(first), extra: uint8(n)})
		if end == last {
			return values, true
		}
		first = end.plus(1)
	}
}

func macBits(m netstack.MAC) u128 {
	var v u128
	for _, b := range m {
		v.lo = v.lo<<8 | uint64(b)
	}
	return v
}
