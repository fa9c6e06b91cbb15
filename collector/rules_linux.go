package collector

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Selectors of policy rules that are newer than golang.org/x/sys, with the
// values of <linux/fib_rules.h>.
const (
	fraDSCP          = 25
	fraFlowLabel     = 26
	fraFlowLabelMask = 27
	fraSPortMask     = 28
	fraDPortMask     = 29
	fraDSCPMask      = 30
)

// fibRuleHeader is the size of struct fib_rule_hdr.
const fibRuleHeader = 12

func readRules(family netstack.Family) func(context.Context, *target) error {
	return func(_ context.Context, t *target) error {
		conn, err := t.rtnetlink()
		if err != nil {
			return err
		}
		body := make([]byte, fibRuleHeader)
		body[0] = addressFamily(family)
		rules, err := listOf(conn, unix.RTM_GETRULE, body, func(body []byte) (netstack.Rule, error) { return decodeRule(family, body) })
		if err != nil {
			return err
		}
		t.ns.Rules = append(t.ns.Rules, rules...)
		return nil
	}
}

func addressFamily(family netstack.Family) uint8 {
	if family == netstack.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func decodeRule(family netstack.Family, body []byte) (netstack.Rule, error) {
	r := netstack.Rule{Family: family, SuppressPrefixLen: -1, SuppressIfGroup: -1}
	var src, dst netip.Addr
	dscp := netstack.MaskedByte{Mask: 0x3f} // before Linux 6.15 there is no mask
	label := netstack.MaskedLabel{Mask: 0xfffff}
	var hasDSCP, hasLabel bool
	var unknown uint16
	err := attributes(body, fibRuleHeader, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.FRA_SRC:
			src = addr(ad)
		case unix.FRA_DST:
			dst = addr(ad)
		case unix.FRA_IIFNAME:
			r.IIF = ad.String()
		case unix.FRA_OIFNAME:
			r.OIF = ad.String()
		case unix.FRA_GOTO:
			r.Goto = ad.Uint32()
		case unix.FRA_PRIORITY:
			r.Priority = ad.Uint32()
		case unix.FRA_FWMARK:
			r.Mark = ad.Uint32()
		case unix.FRA_FWMASK:
			r.Mask = ad.Uint32()
		case unix.FRA_TUN_ID:
			if b := ad.Bytes(); len(b) == 8 {
				r.TunnelID = binary.BigEndian.Uint64(b)
			}
		case unix.FRA_SUPPRESS_IFGROUP:
			r.SuppressIfGroup = int(ad.Int32())
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressPrefixLen = int(ad.Int32())
		case unix.FRA_TABLE:
			r.Table = ad.Uint32()
		case unix.FRA_L3MDEV:
			r.L3MDev = ad.Uint8() != 0
		case unix.FRA_UID_RANGE:
			if b := ad.Bytes(); len(b) == 8 {
				r.UID = &netstack.UIDRange{First: binary.NativeEndian.Uint32(b), Last: binary.NativeEndian.Uint32(b[4:])}
			}
		case unix.FRA_PROTOCOL:
			r.Protocol = ad.Uint8()
		case unix.FRA_IP_PROTO:
			r.IPProto = ad.Uint8()
		case unix.FRA_SPORT_RANGE:
			r.SPort = portRange(ad)
		case unix.FRA_DPORT_RANGE:
			r.DPort = portRange(ad)
		case fraDSCP:
			dscp.Value, hasDSCP = ad.Uint8(), true
		case fraDSCPMask:
			dscp.Mask = ad.Uint8()
		case fraSPortMask:
			r.SPortMask = portMask(ad.Uint16())
		case fraDPortMask:
			r.DPortMask = portMask(ad.Uint16())
		case fraFlowLabel:
			label.Value, hasLabel = bigEndian32(ad), true
		case fraFlowLabelMask:
			label.Mask = bigEndian32(ad)
		default:
			if ad.Type() > fraDSCPMask {
				unknown = ad.Type() // newer than this program
			}
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("policy rule: %w", err)
	}
	if unknown != 0 {
		return r, fmt.Errorf("policy rule with priority %d selects by attribute %d, which is not modelled", r.Priority, unknown)
	}
	if hasDSCP {
		r.DSCP = &dscp
	}
	if hasLabel {
		r.FlowLabel = &label
	}
	if r.Src, err = rulePrefix(src, body[2]); err != nil {
		return r, fmt.Errorf("policy rule with priority %d: source: %w", r.Priority, err)
	}
	if r.Dst, err = rulePrefix(dst, body[1]); err != nil {
		return r, fmt.Errorf("policy rule with priority %d: destination: %w", r.Priority, err)
	}
	if tos := body[3]; tos != 0 {
		r.TOS = tos
	}
	if r.Table == 0 {
		r.Table = uint32(body[4])
	}
	action, ok := ruleActions[body[7]]
	if !ok {
		return r, fmt.Errorf("policy rule with priority %d has action %d, which is not modelled", r.Priority, body[7])
	}
	r.Action = action
	r.Invert = binary.NativeEndian.Uint32(body[8:])&unix.FIB_RULE_INVERT != 0
	return r, nil
}

var ruleActions = map[uint8]netstack.RuleAction{
	unix.FR_ACT_TO_TBL:      netstack.RuleLookup,
	unix.FR_ACT_GOTO:        netstack.RuleGoto,
	unix.FR_ACT_NOP:         netstack.RuleNop,
	unix.FR_ACT_BLACKHOLE:   netstack.RuleBlackhole,
	unix.FR_ACT_UNREACHABLE: netstack.RuleUnreachable,
	unix.FR_ACT_PROHIBIT:    netstack.RuleProhibit,
}

// rulePrefix is invalid when the rule does not look at the address.
func rulePrefix(a netip.Addr, bits uint8) (netip.Prefix, error) {
	if !a.IsValid() {
		if bits != 0 {
			return netip.Prefix{}, fmt.Errorf("prefix length %d without an address", bits)
		}
		return netip.Prefix{}, nil
	}
	p := netip.PrefixFrom(a, int(bits))
	if !p.IsValid() {
		return p, fmt.Errorf("prefix length %d of %s", bits, a)
	}
	return p, nil
}

func bigEndian32(ad *netlink.AttributeDecoder) uint32 {
	if b := ad.Bytes(); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// portMask leaves out the mask of all bits, which the kernel gives to each single
// port.
func portMask(mask uint16) uint16 {
	if mask == 0xffff {
		return 0
	}
	return mask
}

func portRange(ad *netlink.AttributeDecoder) *netstack.PortRange {
	b := ad.Bytes()
	if len(b) != 4 {
		return nil
	}
	return &netstack.PortRange{First: binary.NativeEndian.Uint16(b), Last: binary.NativeEndian.Uint16(b[2:])}
}
