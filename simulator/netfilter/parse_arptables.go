package netfilter

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// arptables are the tables of the kernel's own arptables. FORWARD is of bridges
// (br_nf_forward_arp), and nftables has no such hook.
var arptables = frameDialect{
	family: "arp",
	tables: map[string]frameTable{"filter": {{Input, priorityFilter, ""}, {Output, priorityFilter, ""}, {Forward, priorityFilter, ""}}},
	option: arptablesOption,
	target: arptablesTarget,
}

// Fields of an ARP packet for IPv4 on Ethernet, in bits.
const (
	arpHardwareType   = 0
	arpProtocolType   = 16
	arpHardwareLength = 32
	arpOperation      = 48
	arpSenderMAC      = 64
	arpSenderIP       = 112
	arpTargetMAC      = 144
	arpTargetIP       = 192
)

var arpOperations = map[string]uint64{
	"Request": 1, "Reply": 2, "Request_Reverse": 3, "Reply_Reverse": 4, "DRARP_Request": 5, "DRARP_Reply": 6, "DRARP_Error": 7,
	"InARP_Request": 8, "ARP_NAK": 9,
}

// arptablesOption reads a condition of arp_packet_match.
func arptablesOption(p *frameParser, name string, invert bool) (bool, error) {
	m := &headerMatch{base: baseNetwork, invert: invert, what: "match " + name}
	var err error
	switch name {
	case "-s", "--source-ip", "--src-ip":
		m.offset, m.length = arpSenderIP, 32
		m.value, m.mask, err = p.arpAddress(name)
	case "-d", "--destination-ip", "--dst-ip":
		m.offset, m.length = arpTargetIP, 32
		m.value, m.mask, err = p.arpAddress(name)
	case "--source-mac", "--src-mac", "-z":
		m.offset, m.length = arpSenderMAC, 48
		m.value, m.mask, err = p.macMask(name)
	case "--destination-mac", "--dst-mac", "-y":
		m.offset, m.length = arpTargetMAC, 48
		m.value, m.mask, err = p.macMask(name)
	case "--h-length", "--hlen", "-l":
		m.offset, m.length = arpHardwareLength, 8
		m.value, m.mask, err = p.arpNumber(name, nil, 10, 8)
	case "--opcode":
		m.offset, m.length = arpOperation, 16
		m.value, m.mask, err = p.arpNumber(name, arpOperations, 10, 16)
	case "--h-type", "--htype":
		m.offset, m.length = arpHardwareType, 16
		m.value, m.mask, err = p.arpNumber(name, map[string]uint64{"Ethernet": 1}, 16, 16)
	case "--proto-type", "--ptype":
		m.offset, m.length = arpProtocolType, 16
		m.value, m.mask, err = p.arpNumber(name, map[string]uint64{"ipv4": etherTypeIPv4, "IPv4": etherTypeIPv4}, 0, 16)
	default:
		return false, nil
	}
	if err == nil {
		p.matches = append(p.matches, m)
	}
	return true, err
}

func (p *frameParser) arpAddress(option string) (value, mask u128, err error) {
	text, err := p.value(option)
	if err != nil {
		return value, mask, err
	}
	m, ok := parseAddrMask(netstack.IPv4, text)
	if !ok {
		return value, mask, p.errorf(text, "invalid IPv4 address or mask")
	}
	return m.value, m.mask, nil
}

// arpNumber reads VALUE[/MASK]; values may have names.
func (p *frameParser) arpNumber(option string, names map[string]uint64, base, bits int) (value, mask u128, err error) {
	text, err := p.value(option)
	if err != nil {
		return value, mask, err
	}
	text, maskText, hasMask := strings.Cut(text, "/")
	mask.lo = 1<<bits - 1
	if hasMask {
		if mask.lo, err = p.number(maskText, option, 0, bits); err != nil {
			return value, mask, err
		}
	}
	if n, named := names[text]; named {
		value.lo = n
		return value, mask, nil
	}
	value.lo, err = p.number(text, option, base, bits)
	return value, mask, err
}

// arptablesTarget makes the targets that go on; mangle rewrites the packet, and
// is asked about.
func arptablesTarget(p *frameParser, t *frameTarget) (action, error) {
	switch t.name {
	case "CLASSIFY":
		return &noEffect{name: "classify"}, nil
	case "MARK":
		return p.frameMark(t)
	case "mangle":
		p.unmodelled = true
		return newUnknownAction("target mangle"), nil
	}
	return nil, nil
}

// frameMark is MARK of arptables.
func (p *frameParser) frameMark(t *frameTarget) (action, error) {
	if len(t.options) != 1 {
		return nil, p.errorf(t.name, "target has not one operation")
	}
	o := t.options[0]
	text, maskText, hasMask := strings.Cut(o.value, "/")
	n, err := p.number(text, o.name, 0, 32)
	if err != nil {
		return nil, err
	}
	v, mask := uint32(n), ^uint32(0)
	if hasMask {
		if n, err = p.number(maskText, o.name, 0, 32); err != nil {
			return nil, err
		}
		mask = uint32(n)
	}
	switch o.name {
	case "--set-mark":
		return &setMark{v, mask | v}, nil
	case "--set-xmark":
		return &setMark{v, mask}, nil
	case "--and-mark":
		return &setMark{0, ^v}, nil
	case "--or-mark":
		return &setMark{v, v}, nil
	}
	return nil, p.errorf(o.name, "unknown option")
}
