package netfilter

import (
	"math"
	"strings"
)

// ebtables are the tables of the kernel's own ebtables, at NF_BR_PRI_*. Its
// BROUTING has frames routed that it drops, and is asked about.
var ebtables = frameDialect{
	family: "bridge",
	tables: map[string]frameTable{
		"filter": {{Input, -200, ""}, {Forward, -200, ""}, {Output, 200, ""}},
		"nat":    {{Prerouting, -300, ""}, {Output, 100, ""}, {Postrouting, 300, ""}},
		"broute": {{Prerouting, math.MinInt32, "BROUTING"}},
	},
	option: ebtablesOption,
	target: func(*frameParser, *frameTarget) (action, error) { return nil, nil },
}

// etherTypes are those that ebtables has names for, and more numbers than names
// are ever on a way.
var etherTypes = map[string]uint64{"IPv4": etherTypeIPv4, "IPv6": etherTypeIPv6, "ARP": etherTypeARP, "802_1Q": etherTypeVLAN}

// Fields of an Ethernet header, in bits.
const (
	etherDestination = 0
	etherSource      = 48
)

// ebtablesOption reads a condition of ebt_basic_match; those of matches are asked
// about.
func ebtablesOption(p *frameParser, name string, invert bool) (bool, error) {
	m := &headerMatch{base: baseLink, invert: invert, what: "match " + name}
	var err error
	switch name {
	case "-p", "--protocol", "--proto":
		return true, p.etherType(name, invert)
	case "-s", "--source", "--src":
		m.offset, m.length = etherSource, 48
		m.value, m.mask, err = p.macMask(name)
	case "-d", "--destination", "--dst":
		m.offset, m.length = etherDestination, 48
		m.value, m.mask, err = p.macMask(name)
	default:
		if p.target != nil || !strings.HasPrefix(name, "--") {
			return false, nil
		}
		for len(p.tokens) > 0 && !strings.HasPrefix(p.tokens[0], "-") && p.tokens[0] != "!" {
			p.tokens = p.tokens[1:]
		}
		p.unmodelled = true
		p.matches = append(p.matches, unknownMatch{"match " + name})
		return true, nil
	}
	if err == nil {
		p.matches = append(p.matches, m)
	}
	return true, err
}

// etherType reads what -p asks for.
func (p *frameParser) etherType(option string, invert bool) error {
	text, err := p.value(option)
	if err != nil {
		return err
	}
	n, named := etherTypes[text]
	if !named && text != "LENGTH" { // of frames without a type, which no packet is in
		if n, err = p.number(text, option, 0, 16); err != nil {
			return err
		}
	}
	p.matches = append(p.matches, &etherTypeMatch{uint16(n), invert})
	return nil
}
