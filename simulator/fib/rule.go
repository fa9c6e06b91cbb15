package fib

import (
	"cmp"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// legacyTOS are the bits of a TOS that routes and rules of IPv4 with `tos` look
// at (INET_DSCP_LEGACY_TOS_MASK); a rule with `dscp` looks at all six of a DSCP.
const legacyTOS = 0x1c

// rule is a policy rule, made ready to be asked often.
type rule struct {
	*netstack.Rule
	always   bool // it selects everything
	src, dst cidr
	next     int // index of the rule that a goto leads to; 0 when there is none
}

// compileRules sorts the rules and resolves where gotos lead.
func (f *FIB) compileRules() {
	for i := range f.ns.Rules {
		r := &f.ns.Rules[i]
		at := familyIndex(r.Family)
		f.rules[at] = append(f.rules[at], rule{Rule: r, always: selectsAll(r), src: newCIDR(r.Src), dst: newCIDR(r.Dst)})
	}
	for _, rules := range f.rules {
		slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.Priority, b.Priority) })
		for i := range rules {
			// A goto without target, and one backwards, is skipped (fib_rules_lookup).
			next := slices.IndexFunc(rules, func(r rule) bool { return r.Priority == rules[i].Goto })
			if rules[i].Action == netstack.RuleGoto && next > i {
				rules[i].next = next
			}
		}
	}
}

func selectsAll(r *netstack.Rule) bool {
	return !r.Invert && r.Src.Bits() <= 0 && r.Dst.Bits() <= 0 && r.IIF == "" && r.OIF == "" && r.Mask == 0 && r.Mark == 0 &&
		r.TOS == 0 && r.DSCP == nil && r.FlowLabel == nil && r.IPProto == 0 && r.SPort == nil && r.DPort == nil && r.UID == nil &&
		!r.L3MDev && r.TunnelID == 0 && r.SuppressPrefixLen < 0 && r.SuppressIfGroup < 0
}

// consult asks the rules in order: fib_rules_lookup.
func (f *FIB) consult(at int, q *query) Result {
	rules := f.rules[at]
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		if !r.always {
			selected, unknown := f.selects(r, q)
			if unknown != "" {
				return Result{Rule: r.Rule, Unknown: unknown}
			}
			if selected == r.Invert {
				continue
			}
		}
		switch r.Action {
		case netstack.RuleNop:
		case netstack.RuleGoto:
			if r.next > i {
				i = r.next - 1
			}
		case netstack.RuleBlackhole:
			return Result{Type: netstack.RouteBlackhole, Rule: r.Rule}
		case netstack.RuleUnreachable:
			return Result{Type: netstack.RouteUnreachable, Rule: r.Rule}
		case netstack.RuleProhibit:
			return Result{Type: netstack.RouteProhibit, Rule: r.Rule}
		default:
			id := r.Table
			if r.L3MDev {
				id = f.links[q.master].VRFTable
			}
			res := f.lookupTable(at, id, q)
			if res.Route == nil || res.Type == netstack.RouteThrow || f.suppressed(r, &res, q) {
				continue
			}
			res.Rule = r.Rule
			return res
		}
	}
	return Result{}
}

// suppressed is fib4_rule_suppress and fib6_rule_suppress. IPv6 looks at the
// device of the way that the flow takes, IPv4 at that of the first.
func (f *FIB) suppressed(r *rule, res *Result, q *query) bool {
	if !res.Found() {
		return false
	}
	if res.Route.Dst.Bits() <= r.SuppressPrefixLen {
		return true
	}
	if r.SuppressIfGroup < 0 || len(res.NextHops) == 0 {
		return false
	}
	if slices.ContainsFunc(res.all, func(h netstack.NextHop) bool {
		link := f.links[h.Dev]
		return link != nil && link.Group == netstack.UnknownGroup
	}) {
		res.Unknown = "the number of a device's group"
		return false
	}
	if r.Family == netstack.IPv4 {
		return f.inGroup(res.all[0].Dev, r.SuppressIfGroup)
	}
	in := func(h netstack.NextHop) bool { return f.inGroup(h.Dev, r.SuppressIfGroup) }
	switch first := in(res.NextHops[0]); {
	case !slices.ContainsFunc(res.NextHops, func(h netstack.NextHop) bool { return in(h) != first }):
		return first
	case q.way == nil:
		res.Unknown = "suppress_ifgroup for one of several ways"
		return false
	}
	return in(res.NextHops[q.way(res)])
}

func (f *FIB) inGroup(dev string, group int) bool {
	link := f.links[dev]
	return link != nil && int(link.Group) == group
}

// selects is fib_rule_match with fib4_rule_match and fib6_rule_match, without
// the inversion. It names what cannot be known, if that would decide.
func (f *FIB) selects(r *rule, q *query) (selected bool, unknown string) {
	switch {
	case r.IIF != "" && !f.selectsIIF(r.IIF, q),
		r.OIF != "" && !f.selectsOIF(r.OIF, q),
		(r.Mark^q.Mark)&r.Mask != 0,
		r.L3MDev && (q.master == "" || f.links[q.master] == nil || f.links[q.master].VRFTable == 0),
		!r.src.contains(q.src),
		r.src.bits > 0 && r.Family == netstack.IPv6 && !q.Src.IsValid(),
		!r.dst.contains(q.dst),
		!selectsTOS(r.Rule, q.TOS),
		r.IPProto != 0 && r.IPProto != uint8(q.Protocol),
		!selectsPort(r.SPort, r.SPortMask, q.SrcPort),
		!selectsPort(r.DPort, r.DPortMask, q.DstPort):
		return false, ""
	}
	if r.UID != nil && !q.AnyUser {
		var uid uint32 // sock_net_uid: without a socket it is root
		if q.UID != nil {
			uid = *q.UID
		}
		if uid < r.UID.First || r.UID.Last < uid {
			return false, ""
		}
	}
	if r.TunnelID != 0 {
		// Only packets out of a tunnel in external mode have an id.
		if in := f.links[q.IIF]; in != nil && in.VXLAN != nil && in.VXLAN.External {
			return false, "a rule for tunnel ids"
		}
		return false, ""
	}
	if r.FlowLabel != nil && r.FlowLabel.Mask != 0 {
		if q.IIF != "" {
			return false, "a rule for flow labels" // which the sender made up
		}
		if r.FlowLabel.Value&r.FlowLabel.Mask != 0 {
			return false, ""
		}
	}
	if r.UID != nil && q.AnyUser {
		return false, "a rule for users, of a query without uid"
	}
	return true, ""
}

// selectsIIF is fib_rule_iif_match: locally made packets come from lo, and a
// rule for a VRF device means all that belongs to the VRF.
func (f *FIB) selectsIIF(dev string, q *query) bool {
	if link := f.links[dev]; link != nil && link.Kind == "vrf" {
		return q.master == dev
	}
	if q.IIF == "" {
		return dev == "lo"
	}
	return dev == q.IIF
}

// selectsOIF is fib_rule_oif_match.
func (f *FIB) selectsOIF(dev string, q *query) bool {
	if link := f.links[dev]; link != nil && link.Kind == "vrf" {
		return q.master == dev
	}
	return dev == q.OIF
}

func selectsTOS(r *netstack.Rule, tos uint8) bool {
	if r.DSCP != nil {
		return (r.DSCP.Value^tos>>2)&r.DSCP.Mask == 0
	}
	if r.TOS == 0 {
		return true
	}
	if r.Family == netstack.IPv4 {
		return r.TOS == tos&legacyTOS
	}
	return r.TOS == tos&^3
}

// selectsPort is fib_rule_port_match.
func selectsPort(want *netstack.PortRange, mask, port uint16) bool {
	switch {
	case want == nil:
		return true
	case mask != 0:
		return (want.First^port)&mask == 0
	}
	return want.Contains(port)
}
