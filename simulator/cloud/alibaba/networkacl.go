package alibaba

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// networkACL is the rules of vSwitches: those of each direction in their order.
type networkACL struct {
	*NetworkACL
	entries map[direction][]aclEntry
}

type aclEntry struct {
	*NetworkACLEntry
	prefix netip.Prefix
	ports  portRange
}

func (c *Cloud) compileACLs() {
	c.acls = map[string]*networkACL{}
	for i := range c.facts.NetworkACLs {
		n := &c.facts.NetworkACLs[i]
		a := &networkACL{NetworkACL: n, entries: map[direction][]aclEntry{}}
		for k := range n.IngressAclEntries.IngressAclEntry {
			e := &n.IngressAclEntries.IngressAclEntry[k]
			a.entries[ingress] = append(a.entries[ingress], aclEntry{e, prefixOf(e.SourceCidrIp), portsOf(e.Port)})
		}
		for k := range n.EgressAclEntries.EgressAclEntry {
			e := &n.EgressAclEntries.EgressAclEntry[k]
			a.entries[egress] = append(a.entries[egress], aclEntry{e, prefixOf(e.DestinationCidrIp), portsOf(e.Port)})
		}
		c.acls[n.NetworkAclId] = a
	}
}

// aclExempt are the name servers and the metadata of instances, which network ACLs let
// pass whatever their entries say (Network ACLs).
var aclExempt = []netip.Prefix{
	netip.MustParsePrefix("100.100.2.112/28"), netip.MustParsePrefix("100.100.2.128/28"), netip.MustParsePrefix("100.100.100.200/32"),
}

// aclAdmits is what the network ACL of a vSwitch makes of a packet: the first entry that
// matches decides, and remembers nothing. What stays in the vSwitch does not meet it; the
// caller knows.
func (c *Cloud) aclAdmits(vswitch string, d direction, p *netstack.Packet) filtered {
	v := c.vswitches[vswitch]
	if v == nil {
		return filtered{open: c.unread(describeVSwitches, vswitch, "vSwitch "+vswitch)}
	}
	if v.NetworkAclId == "" {
		return filtered{pass: true}
	}
	acl := c.acls[v.NetworkAclId]
	if acl == nil {
		return filtered{open: c.unread(describeNetworkACL, v.NetworkAclId, "network ACL "+v.NetworkAclId)}
	}
	peer := d.peer(p)
	if within(aclExempt, peer) {
		return filtered{pass: true, who: v.NetworkAclId, rule: "name servers and metadata always pass"}
	}
	var b ballot
	for k := range acl.entries[d] {
		e := &acl.entries[d][k]
		match, why := e.matches(peer, p)
		pass := same(e.Policy, "accept")
		if match != no && !pass && !same(e.Policy, "drop") {
			match, why = perhaps, "the policy "+e.Policy
			b.may(true, e.text(), v.NetworkAclId)
		}
		switch match {
		case yes:
			b.must(pass, e.text(), v.NetworkAclId)
			return b.result()
		case perhaps:
			b.may(pass, e.text(), v.NetworkAclId)
			if b.open == nil {
				f := verdict.NewFinding(verdict.UnmodelledRule, where(v.NetworkAclId), []string{e.text()}, e.NetworkAclEntryId, why)
				b.open = &f
			}
		}
	}
	b.must(false, "no entry matches", v.NetworkAclId)
	return b.result()
}

func (e *aclEntry) matches(peer netip.Addr, p *netstack.Packet) (ternary, string) {
	protocol, known := protocolMatches(e.Protocol, p)
	switch {
	case known && !protocol:
		return no, ""
	case !e.prefix.IsValid():
		return perhaps, "no address"
	case !e.prefix.Contains(peer):
		return no, ""
	case !known:
		return perhaps, "protocol " + e.Protocol
	case hasPorts(e.Protocol) && !e.ports.holds(p.DstPort):
		return no, ""
	}
	return yes, ""
}

func (e *aclEntry) text() string {
	return fmt.Sprintf("%s: %s %s %s %s", e.NetworkAclEntryId, e.Policy, e.Protocol, e.Port, e.prefix)
}

// unread explains that a resource is not among the facts.
func (c *Cloud) unread(action, resource, what string) *verdict.Finding {
	if f := c.missing(action, resource, "what there is of "+what); f != nil {
		return f
	}
	f := verdict.NewFindingf(verdict.SnapshotMissing, where(resource), []string{action}, "%s is not among what %s told", what, action)
	return &f
}
