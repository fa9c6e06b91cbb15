package alibaba

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// direction is that of a packet, as its interface sees it.
type direction bool

const (
	ingress direction = false
	egress  direction = true
)

func (d direction) String() string {
	if d == egress {
		return "egress"
	}
	return "ingress"
}

// peer is the other end of a packet.
func (d direction) peer(p *netstack.Packet) netip.Addr {
	if d == egress {
		return p.Dst
	}
	return p.Src
}

// group is a security group.
type group struct {
	id         string
	kind       string // normal, enterprise; empty if not read
	listed     bool   // DescribeSecurityGroups has it
	attributes bool   // its rules were read
	inner      string
	rules      map[direction][]*rule // in the order of their priority
}

// rule is one of a group.
type rule struct {
	*Permission
	group          *group
	ports, sources portRange
	from, to       selector
}

// selector is what a rule says of one end of a packet: all that is given holds.
type selector struct {
	prefix   netip.Prefix
	group    string
	list     string
	anything bool // nothing is given
}

func (c *Cloud) compileGroups() {
	c.groups, c.lists = map[string]*group{}, map[string][]netip.Prefix{}
	at := func(id string) *group {
		if c.groups[id] == nil {
			c.groups[id] = &group{id: id, rules: map[direction][]*rule{}}
		}
		return c.groups[id]
	}
	for _, g := range c.facts.Groups {
		known := at(g.SecurityGroupId)
		known.kind, known.listed = g.SecurityGroupType, true
	}
	for i := range c.facts.GroupRules {
		a := &c.facts.GroupRules[i]
		g := at(a.SecurityGroupId)
		g.attributes = true
		if a.InnerAccessPolicy != "" {
			g.inner = a.InnerAccessPolicy
		}
		for k := range a.Permissions.Permission {
			p := &a.Permissions.Permission[k]
			d := ingress
			if same(p.Direction, "egress") {
				d = egress
			}
			g.rules[d] = append(g.rules[d], &rule{
				Permission: p, group: g, ports: portsOf(p.PortRange), sources: portsOf(p.SourcePortRange),
				from: newSelector(p.SourceCidrIp, p.Ipv6SourceCidrIp, p.SourceGroupId, p.SourcePrefixListId),
				to:   newSelector(p.DestCidrIp, p.Ipv6DestCidrIp, p.DestGroupId, p.DestPrefixListId),
			})
		}
	}
	for _, g := range c.groups {
		for _, list := range g.rules {
			slices.SortStableFunc(list, func(a, b *rule) int { return int(a.Priority - b.Priority) })
		}
	}
	for _, l := range c.facts.PrefixLists {
		entries := make([]netip.Prefix, 0, len(l.Entries.Entry))
		for _, e := range l.Entries.Entry {
			entries = append(entries, prefixOf(e.Cidr))
		}
		c.lists[l.PrefixListId] = entries
	}
}

func newSelector(cidr, cidr6, group, list string) selector {
	s := selector{group: group, list: list}
	switch {
	case cidr != "":
		s.prefix = prefixOf(cidr)
	case cidr6 != "":
		s.prefix = prefixOf(cidr6)
	}
	s.anything = !s.prefix.IsValid() && group == "" && list == ""
	return s
}

// ternary is whether something holds, as far as that is known.
type ternary uint8

const (
	no ternary = iota
	yes
	perhaps
)

func and(a, b ternary) ternary {
	if a == no || b == no {
		return no
	}
	return max(a, b)
}

func is(b bool) ternary {
	if b {
		return yes
	}
	return no
}

// filtered is what a list of rules makes of a packet.
type filtered struct {
	pass bool
	rule string           // the one that decided, or the default
	who  string           // the group, or ACL, of the rule
	open *verdict.Finding // set when it cannot be said
}

// groupsAdmit is what the security groups of an interface make of the first packet
// of a connection.
//
// All rules of all groups are pooled and sorted by priority; at one priority Drop
// comes before Accept. Then come the defaults. What a basic group whose members
// may talk (InnerAccessPolicy) accepts, no rule drops.
func (c *Cloud) groupsAdmit(i *Interface, d direction, p *netstack.Packet) filtered {
	peer := d.peer(p)
	ids := i.SecurityGroupIds.SecurityGroupId
	who := strings.Join(ids, ", ")
	var pool []*rule
	var unread, doubt *verdict.Finding
	for _, id := range ids {
		g := c.groups[id]
		if g == nil || !g.attributes {
			if unread = c.missing(describeGroupRules, id, "what security group "+id+" allows"); unread == nil {
				f := verdict.NewFindingf(verdict.SnapshotMissing, where(id), []string{describeGroupRules}, "the rules of security group %s were not read", id)
				unread = &f
			}
			continue
		}
		switch accepts, why := c.innerAccepts(g, i, peer); accepts {
		case yes:
			return filtered{pass: true, who: id, rule: "InnerAccessPolicy of " + id + " is Accept"}
		case perhaps:
			doubt = why
		}
		pool = append(pool, g.rules[d]...)
	}
	if len(ids) > 1 {
		slices.SortStableFunc(pool, func(a, b *rule) int { return int(a.Priority - b.Priority) })
	}
	v := ballot{open: unread}
	if unread != nil {
		v.may(true, "", "")
		v.may(false, "", "")
	}
	if doubt != nil {
		v.may(true, "", "")
		v.open = doubt
	}
	c.count(&v, pool, i.VpcId, p)
	if !v.closed {
		c.countDefault(&v, ids, i, d, peer)
	}
	out := v.result()
	if out.who == "" {
		out.who = who
	}
	return out
}

// balancerAdmits is what the security groups of a load balancer make of its client.
// They see what comes in alone, and what no rule is about passes (NLB, Add an NLB
// instance to a security group).
func (c *Cloud) balancerAdmits(b *balancer, p *netstack.Packet) filtered {
	var v ballot
	var pool []*rule
	for _, id := range b.groups {
		g := c.groups[id]
		if g == nil || !g.attributes {
			if v.open == nil {
				v.open = c.unread(describeGroupRules, id, "security group "+id)
			}
			v.may(true, "", "")
			v.may(false, "", "")
			continue
		}
		pool = append(pool, g.rules[ingress]...)
	}
	slices.SortStableFunc(pool, func(a, b *rule) int { return int(a.Priority - b.Priority) })
	c.count(&v, pool, b.vpc, p)
	if !v.closed {
		v.must(true, "no rule matches, and load balancers accept by default", "")
	}
	return v.result()
}

// count counts rules that are sorted by priority.
func (c *Cloud) count(v *ballot, pool []*rule, vpc string, p *netstack.Packet) {
	for from := 0; from < len(pool) && !v.closed; {
		to := from
		for to < len(pool) && pool[to].Priority == pool[from].Priority {
			to++
		}
		c.countLevel(v, pool[from:to], vpc, p)
		from = to
	}
}

// ballot gathers what the packet's fate may be, from the first rule to the last.
type ballot struct {
	outcomes [2]*filtered     // by whether it passes
	open     *verdict.Finding // what is not known
	closed   bool
}

func (v *ballot) may(pass bool, rule, who string) {
	at := 0
	if pass {
		at = 1
	}
	if v.outcomes[at] == nil {
		v.outcomes[at] = &filtered{pass: pass, rule: rule, who: who}
	}
}

func (v *ballot) must(pass bool, rule, who string) {
	v.may(pass, rule, who)
	v.closed = true
}

func (v *ballot) result() filtered {
	switch {
	case v.outcomes[0] == nil:
		return *v.outcomes[1]
	case v.outcomes[1] == nil:
		return *v.outcomes[0]
	}
	return filtered{open: v.open}
}

// countLevel counts the rules of one priority: drops first.
func (c *Cloud) countLevel(v *ballot, level []*rule, vpc string, p *netstack.Packet) {
	for _, policy := range []string{"Drop", "Accept"} {
		pass := policy == "Accept"
		for _, r := range level {
			known := same(r.Policy, "Drop") || same(r.Policy, "Accept")
			if known && !same(r.Policy, policy) {
				continue
			}
			match, why := c.matches(r, vpc, p)
			if !known && match != no {
				match, why = perhaps, c.unmodelled(r, "the policy "+r.Policy)
			}
			switch match {
			case yes:
				v.must(pass, r.text(), r.group.id)
				return
			case perhaps:
				if v.open == nil {
					v.open = why
				}
				v.may(pass, r.text(), r.group.id)
			}
		}
	}
}

// countDefault counts what happens to a packet that no rule is about.
func (c *Cloud) countDefault(v *ballot, ids []string, i *Interface, d direction, peer netip.Addr) {
	if len(ids) == 0 {
		v.must(false, "the interface is in no security group", i.NetworkInterfaceId)
		return
	}
	if d == ingress {
		v.must(false, "no rule matches, and security groups drop incoming packets by default", "")
		return
	}
	for _, id := range ids {
		g := c.groups[id]
		switch {
		case g == nil || g.kind == "":
			if v.open == nil {
				if v.open = c.missing(describeGroups, id, "the type of security group "+id); v.open == nil {
					f := verdict.NewFindingf(verdict.SnapshotMissing, where(id), []string{describeGroups}, "security group %s is not among those that were read, so its type is not known", id)
					v.open = &f
				}
			}
			v.may(true, "", "")
			v.must(false, "", "")
			return
		case same(g.kind, "enterprise"):
			v.must(false, "no rule matches, and enterprise security groups drop outgoing packets by default", id)
			return
		case same(g.inner, "Drop") && c.member(id, i.VpcId, peer):
			v.must(false, "no rule matches, and InnerAccessPolicy of "+id+" is Drop", id)
			return
		}
	}
	v.must(true, "no rule matches, and basic security groups accept outgoing packets by default", ids[0])
}

// innerAccepts says whether both ends are in a basic group whose members may talk
// to each other.
func (c *Cloud) innerAccepts(g *group, i *Interface, peer netip.Addr) (ternary, *verdict.Finding) {
	switch {
	case !same(g.inner, "Accept") || same(g.kind, "enterprise"):
		return no, nil
	case c.member(g.id, i.VpcId, peer):
		if g.kind == "" {
			return perhaps, c.unread(describeGroups, g.id, "security group "+g.id)
		}
		return yes, nil
	case c.holder(i.VpcId, peer) == nil && c.facts.Failed[describeInterfaces] != "":
		return perhaps, c.missing(describeInterfaces, g.id, "who is in security group "+g.id)
	}
	return no, nil
}

// member says whether an address is one of an interface in a group.
func (c *Cloud) member(group, vpc string, addr netip.Addr) bool {
	i := c.holder(vpc, addr)
	return i != nil && slices.Contains(i.SecurityGroupIds.SecurityGroupId, group)
}

// matches says whether a rule is about the packet, and what is not known if that
// cannot be said.
func (c *Cloud) matches(r *rule, vpc string, p *netstack.Packet) (ternary, *verdict.Finding) {
	protocol, known := protocolMatches(r.IpProtocol, p)
	if !known {
		return perhaps, c.unmodelled(r, "protocol "+r.IpProtocol)
	}
	if !protocol {
		return no, nil
	}
	list := r.PortRangeListId + r.SourcePortRangeListId
	switch {
	case !hasPorts(r.IpProtocol):
	case !r.ports.holds(p.DstPort) || !r.sources.holds(p.SrcPort):
		return no, nil
	case list == "" && r.PortRange == "":
		list = "no range of ports"
	case list != "":
		list = "port list " + list
	}
	if r.from.anything && r.to.anything {
		return perhaps, c.unmodelled(r, "no source and no destination")
	}
	from, why := c.selects(r, r.from, vpc, p.Src)
	to, whyTo := c.selects(r, r.to, vpc, p.Dst)
	if why == nil {
		why = whyTo
	}
	result := and(from, to)
	if result != no && list != "" {
		return perhaps, c.unmodelled(r, list)
	}
	if result != no && r.NicType != "" && !same(r.NicType, "intranet") {
		return perhaps, c.unmodelled(r, "network type "+r.NicType)
	}
	return result, why
}

// selects says whether one end of a packet is what a rule says of it.
func (c *Cloud) selects(r *rule, s selector, vpc string, addr netip.Addr) (ternary, *verdict.Finding) {
	result := yes
	var why *verdict.Finding
	if s.prefix.IsValid() {
		result = is(s.prefix.Contains(addr))
	}
	if s.group != "" && result != no {
		switch {
		case c.member(s.group, vpc, addr):
		case c.holder(vpc, addr) != nil:
			result = no
		default: // nobody in this VPC: of a peer, of another account, or no interface at all
			if f := c.missing(describeInterfaces, r.group.id, "who is in security group "+s.group); f != nil {
				result, why = perhaps, f
			} else if g := c.groups[s.group]; g == nil || !g.listed {
				f := verdict.NewFindingf(verdict.SnapshotMissing, where(s.group), []string{r.text()},
					"security group %s, which a rule of %s names, was not read: who is in it is not known", s.group, r.group.id)
				result, why = perhaps, &f
			} else {
				result = no
			}
		}
	}
	if s.list != "" && result != no {
		entries, known := c.lists[s.list]
		switch {
		case !known:
			f := c.missing(describePrefixLists, s.list, "what prefix list "+s.list+" holds")
			if f == nil {
				missing := verdict.NewFindingf(verdict.SnapshotMissing, where(s.list), []string{r.text()}, "prefix list %s was not read", s.list)
				f = &missing
			}
			result, why = perhaps, f
		case !within(entries, addr):
			result = no
		}
	}
	return result, why
}

func (c *Cloud) unmodelled(r *rule, what string) *verdict.Finding {
	f := verdict.NewFinding(verdict.UnmodelledRule, where(r.group.id), []string{r.text()}, r.name(), what)
	return &f
}

// protocolMatches says whether a packet is of a protocol, and whether that is one
// that is known.
func protocolMatches(name string, p *netstack.Packet) (match, known bool) {
	switch strings.ToUpper(name) {
	case "ALL":
		return true, true
	case "TCP":
		return p.Protocol == netstack.ProtoTCP, true
	case "UDP":
		return p.Protocol == netstack.ProtoUDP, true
	case "ICMP":
		return p.Protocol == netstack.ProtoICMP, true
	case "ICMPV6":
		return p.Protocol == netstack.ProtoICMPv6, true
	case "GRE":
		return p.Protocol == protoGRE, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return err == nil && netstack.Protocol(n) == p.Protocol, err == nil
}

const protoGRE netstack.Protocol = 47

// hasPorts says whether ranges of ports mean anything in rules of a protocol.
func hasPorts(name string) bool {
	return same(name, "TCP") || same(name, "UDP") || name == "6" || name == "17"
}

// name identifies a rule: old ones have no id.
func (r *rule) name() string {
	if r.SecurityGroupRuleId != "" {
		return r.SecurityGroupRuleId
	}
	return "of " + r.group.id
}

// text shows a rule as a line.
func (r *rule) text() string {
	peer := func(s selector) string {
		var parts []string
		if s.prefix.IsValid() {
			parts = append(parts, s.prefix.String())
		}
		return strings.Join(append(parts, strings.Fields(s.group+" "+s.list)...), " and ")
	}
	var b strings.Builder
	if r.SecurityGroupRuleId != "" {
		b.WriteString(r.SecurityGroupRuleId + ": ")
	}
	fmt.Fprintf(&b, "%s %s priority %d %s %s", r.Direction, r.Policy, r.Priority, r.IpProtocol, r.PortRange)
	if from := peer(r.from); from != "" {
		b.WriteString(" from " + from)
	}
	if !r.sources.all {
		b.WriteString(" port " + r.SourcePortRange)
	}
	if to := peer(r.to); to != "" {
		b.WriteString(" to " + to)
	}
	return b.String()
}
