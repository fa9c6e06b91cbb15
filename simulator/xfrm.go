package simulator

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// policy is one of IPsec's: what it says of the packets that it selects.
type policy struct {
	src, dst         netip.Prefix
	protocol         netstack.Protocol // 0: any
	srcPort, dstPort uint16            // 0: any
	dev              string
	mark, mask       uint32
	dir              string // "out", "in" or "fwd"
	priority         uint32
	block            bool
	transforms       bool // it wants packets encrypted, or decrypted before
	unknown          bool // something else narrows what it selects
	line             string
}

// policies reads what `ip xfrm policy` prints, in the order in which the kernel
// asks them: xfrm_policy_lookup takes the one of the lowest priority.
func policies(text netstack.Text) ([]policy, error) {
	var list []policy
	number := 0
	for line := range strings.Lines(string(text.Data)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var err error
		switch {
		case line[0] != '\t' && line[0] != ' ':
			p := policy{line: strings.TrimSpace(line)}
			if err = p.selector(fields); err == nil {
				list = append(list, p)
			}
		case len(list) == 0:
			err = fmt.Errorf("%q belongs to no policy", strings.TrimSpace(line))
		default:
			err = list[len(list)-1].detail(fields)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", text.File, number, err)
		}
	}
	slices.SortStableFunc(list, func(a, b policy) int { return int(int64(a.priority) - int64(b.priority)) })
	return list, nil
}

// selector reads "src PREFIX dst PREFIX [proto P] [sport N] [dport N] [dev D]".
func (p *policy) selector(fields []string) (err error) {
	for at := 0; at+1 < len(fields) && err == nil; at += 2 {
		key, value := fields[at], fields[at+1]
		switch key {
		case "src":
			p.src, err = prefixOf(value)
		case "dst":
			p.dst, err = prefixOf(value)
		case "proto":
			p.protocol, err = protocolOf(value)
		case "sport":
			p.srcPort, err = portOf(value)
		case "dport":
			p.dstPort, err = portOf(value)
		case "dev":
			p.dev = value
		case "dir":
			p.dir = value
		default:
			p.unknown = true
		}
	}
	if err == nil && (!p.src.IsValid() || !p.dst.IsValid()) {
		err = fmt.Errorf("policy %q has no src and dst", p.line)
	}
	return err
}

// detail reads a line below the selector.
func (p *policy) detail(fields []string) error {
	for at := 0; at+1 < len(fields); at++ {
		value := fields[at+1]
		switch fields[at] {
		case "dir":
			p.dir = value
		case "socket":
			p.dir = "socket"
		case "action":
			p.block = value == "block"
		case "priority":
			n, err := strconv.ParseUint(value, 0, 32)
			if err != nil {
				return fmt.Errorf("priority %q is no number", value)
			}
			p.priority = uint32(n)
		case "mark":
			mark, mask, _ := strings.Cut(value, "/")
			m, err := strconv.ParseUint(mark, 0, 32)
			k, errMask := strconv.ParseUint(mask, 0, 32)
			if err != nil || errMask != nil {
				return fmt.Errorf("mark %q is not MARK/MASK", value)
			}
			p.mark, p.mask = uint32(m), uint32(k)
		case "if_id":
			p.unknown = true
		case "tmpl":
			p.transforms = true
			return nil
		}
	}
	return nil
}

// prefixOf reads a prefix, which ip(8) prints without a length for one address.
func prefixOf(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func protocolOf(text string) (netstack.Protocol, error) {
	for _, p := range []netstack.Protocol{netstack.ProtoTCP, netstack.ProtoUDP, netstack.ProtoICMP, netstack.ProtoSCTP, netstack.ProtoESP} {
		if netstack.ProtocolName(p) == text {
			return p, nil
		}
	}
	switch text {
	case "ipv6-icmp":
		return netstack.ProtoICMPv6, nil
	case "4", "ipencap":
		return protoIPIP, nil
	case "gre":
		return protoGRE, nil
	}
	n, err := strconv.ParseUint(text, 0, 8)
	if err != nil {
		return 0, fmt.Errorf("proto %q is not known", text)
	}
	return netstack.Protocol(n), nil
}

func portOf(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 0, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return uint16(n), nil
}

// selects says whether the policy is about the packet: xfrm_selector_match.
func (p *policy) selects(packet *netstack.Packet, dev string) bool {
	return p.src.Contains(packet.Src) && p.dst.Contains(packet.Dst) &&
		(p.protocol == 0 || p.protocol == packet.Protocol) &&
		(p.srcPort == 0 || p.srcPort == packet.SrcPort) && (p.dstPort == 0 || p.dstPort == packet.DstPort) &&
		(p.dev == "" || p.dev == dev) && packet.Mark&p.mask == p.mark
}

// throughPolicies asks the IPsec policies of a direction: xfrm_lookup for what
// goes out, __xfrm_policy_check for what came in.
// dev is the device by which it does.
func (l *leg) throughPolicies(dir, dev string) (end, bool) {
	if l.host.opaque.policiesUnread {
		return l.through(l.missing(netstack.PartXFRM))
	}
	if len(l.host.opaque.policies) == 0 {
		return end{}, false
	}
	exempt := "disable_policy"
	if dir == "out" {
		exempt = "disable_xfrm"
	}
	if l.host.confMax(l.packet.Family(), dev, exempt) != 0 {
		return end{}, false
	}
	for i := range l.host.opaque.policies {
		p := &l.host.opaque.policies[i]
		if p.dir != dir && p.dir != "" || !p.selects(&l.packet, dev) {
			continue
		}
		f := verdict.NewFindingf(verdict.EncryptionOpaque, l.host.where(dev), []string{p.line},
			"IPsec policy %q (%s) of %s is about %s", p.line, dir, l.host, &l.packet)
		switch {
		case p.block && !p.unknown && p.dir != "":
			f.Severity = verdict.SeverityFatal
			e := l.drop(f)
			if dir == "out" && l.origin == l.host {
				e.notice = notice{kind: noticeErrno, originated: true, errno: errPermission}
			}
			return e, true
		case p.block || p.transforms || p.unknown || p.dir == "":
			if e, stop := l.through(f); stop {
				return e, true
			}
			if p.unknown {
				continue
			}
		}
		return end{}, false
	}
	return end{}, false
}
