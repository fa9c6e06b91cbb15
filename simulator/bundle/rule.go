package bundle

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// errUnmodelled is returned for text that is well-formed and says something that the
// data model has no place for: the part is then known to exist, but not known.
type errUnmodelled struct{ detail string }

func (e *errUnmodelled) Error() string { return e.detail }

// ruleKeys are the members of a rule that are understood. Any other could be a
// selector, without which the rule would seem to match more than it does.
func ruleKeys() map[string]bool {
	keys := make(map[string]bool)
	for _, k := range []string{
		"priority", "not", "src", "srclen", "dst", "dstlen", "tos", "dscp", "fwmark", "fwmask", "iif", "iif_detached", "oif", "oif_detached",
		"l3mdev", "uid_start", "uid_end", "ipproto", "sport", "sport_start", "sport_end", "dport", "dport_start", "dport_end",
		"dscp_mask", "sport_mask", "dport_mask", "flowlabel", "flowlabel_mask",
		"tun_id", "table", "suppress_prefixlen", "suppress_prefixlength", "suppress_ifgroup", "goto", "unresolved", "nop", "action", "protocol",
	} {
		keys[k] = true
	}
	return keys
}

// ipProtocols are the protocols that iproute2 knows by name (inet_proto_n2a
// asks /etc/protocols; these are the ones with ports or types).
func ipProtocols() map[string]uint64 {
	return map[string]uint64{
		"icmp": 1, "igmp": 2, "ipip": 4, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
		"ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "udplite": 136,
	}
}

// ruleActions are FR_ACT_* by number and name.
func ruleActions() map[string]netstack.RuleAction {
	return map[string]netstack.RuleAction{
		"6": netstack.RuleBlackhole, "blackhole": netstack.RuleBlackhole,
		"7": netstack.RuleUnreachable, "unreachable": netstack.RuleUnreachable,
		"8": netstack.RuleProhibit, "prohibit": netstack.RuleProhibit,
	}
}

func readRules4(s *source, n *netstack.Namespace) error { return readRules(s, n, netstack.IPv4) }
func readRules6(s *source, n *netstack.Namespace) error { return readRules(s, n, netstack.IPv6) }

func readRules(s *source, n *netstack.Namespace, f netstack.Family) error {
	r := newRouteReader(s, f)
	keys := ruleKeys()
	protocols := ipProtocols()
	for name, number := range ipProtocols() {
		protocols["ipproto-"+strconv.FormatUint(number, 10)] = number
		protocols[name] = number
	}
	actions := ruleActions()
	var unmodelled error
	err := s.list("rule", func(v *value) {
		for i := range v.members {
			if m := &v.members[i]; !keys[m.key] && unmodelled == nil {
				s.failAt(&m.value, "%s is not modelled", m.key)
				unmodelled, s.err = &errUnmodelled{s.err.Error()}, nil
			}
		}
		n.Rules = append(n.Rules, r.rule(v, protocols, actions))
	})
	if err != nil {
		return err
	}
	return unmodelled
}

func (r *routeReader) rule(v *value, protocols map[string]uint64, actions map[string]netstack.RuleAction) netstack.Rule {
	rule := netstack.Rule{
		Family:            r.family,
		Priority:          uint32(r.number(v, "priority", 32)),
		Invert:            v.has("not"),
		Src:               r.selector(v, "src", "srclen"),
		Dst:               r.selector(v, "dst", "dstlen"),
		IIF:               r.text(v, "iif"),
		OIF:               r.text(v, "oif"),
		Mark:              uint32(r.number(v, "fwmark", 32)),
		TOS:               uint8(r.number(v, "tos", 8)),
		SPort:             r.ports(v, "sport"),
		DPort:             r.ports(v, "dport"),
		SPortMask:         uint16(r.number(v, "sport_mask", 16)),
		DPortMask:         uint16(r.number(v, "dport_mask", 16)),
		L3MDev:            v.has("l3mdev"),
		TunnelID:          r.number(v, "tun_id", 64),
		Action:            netstack.RuleLookup,
		Table:             uint32(r.named(v, "table", 32, r.tables, 0)),
		Goto:              uint32(r.number(v, "goto", 32)),
		SuppressPrefixLen: -1,
		SuppressIfGroup:   -1,
		Protocol:          uint8(r.named(v, "protocol", 8, r.protocols, 0)),
	}
	for _, mask := range []*uint16{&rule.SPortMask, &rule.DPortMask} {
		if *mask == 0xffff {
			*mask = 0 // a single port
		}
	}
	if m := v.get("ipproto"); m != nil {
		rule.IPProto = r.ipProto(m, protocols)
	}
	if v.has("dscp") {
		rule.DSCP = &netstack.MaskedByte{Value: uint8(r.number(v, "dscp", 6)), Mask: 0x3f}
		if v.has("dscp_mask") {
			rule.DSCP.Mask = uint8(r.number(v, "dscp_mask", 6))
		}
	}
	if v.has("flowlabel") {
		rule.FlowLabel = &netstack.MaskedLabel{Value: uint32(r.number(v, "flowlabel", 20)), Mask: 0xfffff}
		if v.has("flowlabel_mask") {
			rule.FlowLabel.Mask = uint32(r.number(v, "flowlabel_mask", 20))
		}
	}
	switch {
	case v.has("fwmask"):
		rule.Mask = uint32(r.number(v, "fwmask", 32))
	case v.has("fwmark"):
		rule.Mask = 0xffffffff
	}
	if v.has("uid_start") || v.has("uid_end") {
		if r.field(v, "uid_start") != nil && r.field(v, "uid_end") != nil {
			rule.UID = &netstack.UIDRange{First: uint32(r.number(v, "uid_start", 32)), Last: uint32(r.number(v, "uid_end", 32))}
		}
	}
	for _, key := range []string{"suppress_prefixlen", "suppress_prefixlength"} {
		if v.has(key) {
			rule.SuppressPrefixLen = r.int(v, key)
		}
	}
	if v.has("suppress_ifgroup") {
		rule.SuppressIfGroup = int(r.named(v, "suppress_ifgroup", 31, map[string]uint64{"default": 0}, 0))
	}
	switch {
	case v.has("goto"):
		rule.Action = netstack.RuleGoto
	case v.has("nop"):
		rule.Action = netstack.RuleNop
	case v.has("action"):
		action, ok := actions[v.get("action").text]
		if !ok {
			r.failAt(v.get("action"), "action: not an action of a rule")
		}
		rule.Action = action
	case !v.has("table") && !v.has("l3mdev"):
		r.fail(v.offset, r.tokenAt(v.offset), "neither table nor action")
	}
	return rule
}

// ipProto reads a protocol's name or number; "ipproto-6" is what ip -N prints.
func (r *routeReader) ipProto(m *value, names map[string]uint64) uint8 {
	if n, ok := names[m.text]; ok && m.kind == jsonString {
		return uint8(n)
	}
	plain := *m
	if len(plain.text) > len("ipproto-") && plain.text[:len("ipproto-")] == "ipproto-" {
		plain.text = plain.text[len("ipproto-"):]
	}
	n, err := parseNumber(&plain, 8)
	if err != nil {
		r.failAt(m, "ipproto: neither a number of 8 bits nor a name that is known")
	}
	return uint8(n)
}

// selector reads an address with its length beside it; "all" is none.
func (r *routeReader) selector(v *value, key, length string) netip.Prefix {
	m := v.get(key)
	if m == nil || m.text == "all" {
		return netip.Prefix{}
	}
	addr := r.addr(v, key)
	if r.err != nil {
		return netip.Prefix{}
	}
	if addr.Is4() != (r.family == netstack.IPv4) {
		r.failAt(m, "%s: not an %s address", key, r.family)
		return netip.Prefix{}
	}
	bits := addr.BitLen()
	if v.has(length) {
		bits = r.int(v, length)
	}
	p := netip.PrefixFrom(addr, bits)
	if r.err == nil && !p.IsValid() {
		r.failAt(v.get(length), "%s: longer than the address", length)
		return netip.Prefix{}
	}
	return p
}

func (r *routeReader) ports(v *value, key string) *netstack.PortRange {
	if v.has(key) {
		p := uint16(r.number(v, key, 16))
		return &netstack.PortRange{First: p, Last: p}
	}
	if !v.has(key+"_start") && !v.has(key+"_end") {
		return nil
	}
	if r.field(v, key+"_start") == nil || r.field(v, key+"_end") == nil {
		return nil
	}
	return &netstack.PortRange{First: uint16(r.number(v, key+"_start", 16)), Last: uint16(r.number(v, key+"_end", 16))}
}

type ruleJSON struct {
	Priority          uint32  `json:"priority"`
	Not               present `json:"not,omitzero"`
	Src               string  `json:"src"`
	SrcLen            *int    `json:"srclen,omitempty"`
	Dst               string  `json:"dst,omitempty"`
	DstLen            *int    `json:"dstlen,omitempty"`
	TOS               string  `json:"tos,omitempty"`
	DSCP              string  `json:"dscp,omitempty"`
	DSCPMask          string  `json:"dscp_mask,omitempty"`
	FlowLabel         string  `json:"flowlabel,omitempty"`
	FlowLabelMask     string  `json:"flowlabel_mask,omitempty"`
	FwMark            string  `json:"fwmark,omitempty"`
	FwMask            string  `json:"fwmask,omitempty"`
	IIF               string  `json:"iif,omitempty"`
	OIF               string  `json:"oif,omitempty"`
	L3MDev            present `json:"l3mdev,omitzero"`
	UIDStart          *uint32 `json:"uid_start,omitempty"`
	UIDEnd            *uint32 `json:"uid_end,omitempty"`
	IPProto           string  `json:"ipproto,omitempty"`
	SPort             *uint16 `json:"sport,omitempty"`
	SPortStart        *uint16 `json:"sport_start,omitempty"`
	SPortEnd          *uint16 `json:"sport_end,omitempty"`
	SPortMask         string  `json:"sport_mask,omitempty"`
	DPort             *uint16 `json:"dport,omitempty"`
	DPortStart        *uint16 `json:"dport_start,omitempty"`
	DPortEnd          *uint16 `json:"dport_end,omitempty"`
	DPortMask         string  `json:"dport_mask,omitempty"`
	TunID             uint64  `json:"tun_id,omitempty"`
	Table             string  `json:"table,omitempty"`
	SuppressPrefixLen *int    `json:"suppress_prefixlen,omitempty"`
	SuppressIfGroup   string  `json:"suppress_ifgroup,omitempty"`
	Protocol          string  `json:"protocol,omitempty"`
	Goto              *uint32 `json:"goto,omitempty"`
	Nop               present `json:"nop,omitzero"`
	Action            string  `json:"action,omitempty"`
}

func writeRules4(n *netstack.Namespace) ([]byte, error) { return writeRules(n, netstack.IPv4) }
func writeRules6(n *netstack.Namespace) ([]byte, error) { return writeRules(n, netstack.IPv6) }

func writeRules(n *netstack.Namespace, f netstack.Family) ([]byte, error) {
	var all []ruleJSON
	for i := range n.Rules {
		r := &n.Rules[i]
		if r.Family != f {
			continue
		}
		j, err := ruleToJSON(r)
		if err != nil {
			return nil, fmt.Errorf("rule of priority %d: %w", r.Priority, err)
		}
		all = append(all, j)
	}
	return encode(all)
}

func ruleToJSON(r *netstack.Rule) (ruleJSON, error) {
	j := ruleJSON{
		Priority: r.Priority, Not: present(r.Invert), Src: "all", IIF: r.IIF, OIF: r.OIF,
		L3MDev: present(r.L3MDev), TunID: r.TunnelID,
	}
	if r.Src.IsValid() {
		j.Src, j.SrcLen = formatSelector(r.Src)
	}
	if r.Dst.IsValid() {
		j.Dst, j.DstLen = formatSelector(r.Dst)
	}
	if r.TOS != 0 {
		j.TOS = fmt.Sprintf("0x%02x", r.TOS)
	}
	if r.DSCP != nil {
		j.DSCP, j.DSCPMask = strconv.Itoa(int(r.DSCP.Value)), fmt.Sprintf("%#x", r.DSCP.Mask)
	}
	if r.FlowLabel != nil {
		j.FlowLabel, j.FlowLabelMask = fmt.Sprintf("%#x", r.FlowLabel.Value), fmt.Sprintf("%#x", r.FlowLabel.Mask)
	}
	if r.SPortMask != 0 {
		j.SPortMask = fmt.Sprintf("%#x", r.SPortMask)
	}
	if r.DPortMask != 0 {
		j.DPortMask = fmt.Sprintf("%#x", r.DPortMask)
	}
	if r.Mask != 0 || r.Mark != 0 {
		j.FwMark = fmt.Sprintf("0x%x", r.Mark)
		if r.Mask != 0xffffffff {
			j.FwMask = fmt.Sprintf("0x%x", r.Mask)
		}
	}
	if r.UID != nil {
		j.UIDStart, j.UIDEnd = &r.UID.First, &r.UID.Last
	}
	if r.IPProto != 0 {
		j.IPProto = "ipproto-" + strconv.Itoa(int(r.IPProto))
	}
	j.SPort, j.SPortStart, j.SPortEnd = formatPorts(r.SPort)
	j.DPort, j.DPortStart, j.DPortEnd = formatPorts(r.DPort)
	if r.Table != 0 {
		j.Table = strconv.FormatUint(uint64(r.Table), 10)
	}
	if r.SuppressPrefixLen >= 0 {
		j.SuppressPrefixLen = &r.SuppressPrefixLen
	}
	if r.SuppressIfGroup >= 0 {
		j.SuppressIfGroup = strconv.Itoa(r.SuppressIfGroup)
	}
	if r.Protocol != 0 {
		j.Protocol = strconv.Itoa(int(r.Protocol))
	}
	switch r.Action {
	case netstack.RuleLookup:
		if r.Table == 0 && !r.L3MDev {
			return j, fmt.Errorf("no table to look up")
		}
	case netstack.RuleGoto:
		j.Goto = &r.Goto
	case netstack.RuleNop:
		j.Nop = true
	case netstack.RuleBlackhole:
		j.Action = "6"
	case netstack.RuleUnreachable:
		j.Action = "7"
	case netstack.RuleProhibit:
		j.Action = "8"
	default:
		return j, fmt.Errorf("action %q is not an action of a rule", r.Action)
	}
	return j, nil
}

func formatSelector(p netip.Prefix) (string, *int) {
	if p.IsSingleIP() {
		return p.Addr().String(), nil
	}
	bits := p.Bits()
	return p.Addr().String(), &bits
}

func formatPorts(r *netstack.PortRange) (single, first, last *uint16) {
	switch {
	case r == nil:
		return nil, nil, nil
	case r.First == r.Last:
		return &r.First, nil, nil
	}
	return nil, &r.First, &r.Last
}
