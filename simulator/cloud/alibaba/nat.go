package alibaba

import (
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// natGateway is a NAT gateway with its entries.
type natGateway struct {
	*NATGateway
	snat []snatEntry
	dnat []forwardEntry
}

type snatEntry struct {
	*SNATEntry
	source netip.Prefix
}

type forwardEntry struct {
	*ForwardEntry
	external, internal           netip.Addr
	externalPorts, internalPorts portRange
}

// eipKey is what an EIP is bound to: an instance, an interface, a gateway, with the
// private address where it is bound to one of several.
type eipKey struct {
	resource string
	private  netip.Addr
}

func (c *Cloud) compileNAT() {
	c.nat, c.natOf = map[string]*natGateway{}, map[string][]*natGateway{}
	c.eips, c.eipOf = map[netip.Addr]*EIP{}, map[eipKey]*EIP{}
	byTable := map[string]*natGateway{}
	for i := range c.facts.NATGateways {
		g := &natGateway{NATGateway: &c.facts.NATGateways[i]}
		c.nat[g.NatGatewayId] = g
		c.natOf[g.VpcId] = append(c.natOf[g.VpcId], g)
		for _, id := range g.SnatTableIds.SnatTableId {
			byTable[id] = g
		}
		for _, id := range g.ForwardTableIds.ForwardTableId {
			byTable[id] = g
		}
	}
	gateway := func(id, table string) *natGateway {
		if g := c.nat[id]; g != nil {
			return g
		}
		return byTable[table]
	}
	for i := range c.facts.SNATEntries {
		e := &c.facts.SNATEntries[i]
		source := prefixOf(e.SourceCIDR)
		if v := c.vswitches[e.SourceVSwitchId]; v != nil && !source.IsValid() {
			source = prefixOf(v.CidrBlock)
		}
		if g := gateway(e.NatGatewayId, e.SnatTableId); g != nil {
			g.snat = append(g.snat, snatEntry{e, source})
		}
	}
	for i := range c.facts.ForwardEntries {
		e := &c.facts.ForwardEntries[i]
		if g := gateway(e.NatGatewayId, e.ForwardTableId); g != nil {
			g.dnat = append(g.dnat, forwardEntry{e, addrOf(e.ExternalIp), addrOf(e.InternalIp), portsOf(e.ExternalPort), portsOf(e.InternalPort)})
		}
	}
	for i := range c.facts.EIPs {
		e := &c.facts.EIPs[i]
		c.eips[addrOf(e.IpAddress)] = e
		if e.InstanceId != "" && !same(e.Status, "Available") {
			c.eipOf[eipKey{e.InstanceId, addrOf(e.PrivateIpAddress)}] = e
			if _, taken := c.eipOf[eipKey{resource: e.InstanceId}]; !taken {
				c.eipOf[eipKey{resource: e.InstanceId}] = e
			}
		}
	}
	c.compilePublics()
}

// compilePublics finds what public addresses stand for.
func (c *Cloud) compilePublics() {
	c.publics = map[netip.Addr]target{}
	for k := range c.facts.Interfaces {
		i := c.interfaces[c.facts.Interfaces[k].NetworkInterfaceId]
		for _, a := range i.Addrs {
			if own, has := c.publicOf(i, a); has {
				c.publics[own.addr] = target{i, a, own}
			}
		}
	}
}

// public is the address on the Internet of a private address of an interface.
type public struct {
	addr  netip.Addr
	text  string           // what it is
	fault *verdict.Finding // why it does not work
}

// publicOf is the EIP, or fixed public address, by which a private address of an
// interface is on the Internet. An EIP of the instance stands for the primary
// address of its primary interface; one of an interface for that address it is
// bound to, its primary one unless it says another.
func (c *Cloud) publicOf(i *Interface, private netip.Addr) (public, bool) {
	if e := c.eips[private]; e != nil && e.visible() && e.InstanceId == i.NetworkInterfaceId {
		return c.byEIP(e), true
	}
	if e := c.eipOf[eipKey{resource: i.NetworkInterfaceId}]; e != nil && e.visible() {
		return public{}, false // the private address has no part in it
	}
	primary := len(i.Addrs) > 0 && i.Addrs[0] == private
	if v := c.virtualAt(i.VpcId, private); v != nil {
		e := c.eipOf[eipKey{resource: v.HaVipId}]
		if e == nil {
			return public{}, false
		}
		return c.byEIP(e), true
	}
	if e := c.eipOf[eipKey{i.NetworkInterfaceId, private}]; e != nil {
		return c.byEIP(e), true
	}
	if primary {
		if e := c.eipOf[eipKey{resource: i.NetworkInterfaceId}]; e != nil && (e.PrivateIpAddress == "" || addrOf(e.PrivateIpAddress) == private) {
			return c.byEIP(e), true
		}
		if same(i.Type, "Primary") && i.InstanceId != "" {
			if e := c.eipOf[eipKey{resource: i.InstanceId}]; e != nil {
				return c.byEIP(e), true
			}
			if in := c.instances[i.InstanceId]; in != nil {
				if len(in.PublicIpAddress.IpAddress) > 0 {
					return c.byAddress(addrOf(in.PublicIpAddress.IpAddress[0]), "public IP of "+i.InstanceId), true
				}
				if a := addrOf(in.EipAddress.IpAddress); a.IsValid() {
					return c.byAddress(a, "EIP of "+i.InstanceId), true
				}
			}
		}
		if a := addrOf(i.AssociatedPublicIp.PublicIpAddress); a.IsValid() {
			return c.byAddress(a, "EIP of "+i.NetworkInterfaceId), true
		}
	}
	for _, ip := range i.PrivateIpSets.PrivateIpSet {
		if a := addrOf(ip.AssociatedPublicIp.PublicIpAddress); a.IsValid() && addrOf(ip.PrivateIpAddress) == private {
			return c.byAddress(a, "EIP of "+i.NetworkInterfaceId), true
		}
	}
	return public{}, false
}

func (c *Cloud) byAddress(a netip.Addr, text string) public {
	if e := c.eips[a]; e != nil {
		return c.byEIP(e)
	}
	return public{addr: a, text: text}
}

func (c *Cloud) byEIP(e *EIP) public {
	return public{addr: addrOf(e.IpAddress), text: "EIP " + e.AllocationId, fault: e.fault()}
}

// cutThrough says that an interface has the EIP in place of its private address
// (EIP, Associate an EIP with an ENI: cut-through mode).
func (e *EIP) cutThrough() bool { return same(e.Mode, "BINDED") }

// visible says that an interface has the EIP itself: in place of its private address, or
// beside it (multi-EIP-to-ENI mode). Nothing is translated.
func (e *EIP) visible() bool { return e.cutThrough() || same(e.Mode, "MULTI_BINDED") }

// fault says why an EIP carries nothing: it is not bound, or locked.
func (e *EIP) fault() *verdict.Finding {
	why := ""
	switch {
	case e.Status != "" && !same(e.Status, "InUse"):
		why = "its status is " + e.Status
	case e.BusinessStatus != "" && !same(e.BusinessStatus, "Normal"):
		why = "its business status is " + e.BusinessStatus
	case e.Bandwidth == "0":
		why = "its bandwidth is 0"
	}
	for _, lock := range e.OperationLocks.LockReason {
		if lock.LockReason != "" {
			why = "it is locked: " + lock.LockReason
		}
	}
	if why == "" {
		return nil
	}
	f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(e.AllocationId), []string{e.text()},
		"EIP %s (%s) of %s carries no traffic: %s", e.IpAddress, e.AllocationId, e.InstanceId, why)
	f.Remedy = "Renew or unlock the EIP, or bind it again."
	return &f
}

func (e *EIP) text() string {
	return strings.TrimSpace(strings.Join([]string{e.AllocationId, e.IpAddress, e.Status, e.BusinessStatus, e.InstanceType, e.InstanceId}, " "))
}

// fault says why a NAT gateway translates nothing.
func (g *natGateway) fault() *verdict.Finding {
	why := ""
	switch {
	case g.Status != "" && !same(g.Status, "Available") && !same(g.Status, "Modifying"):
		why = "its status is " + g.Status
	case g.BusinessStatus != "" && !same(g.BusinessStatus, "Normal"):
		why = "its business status is " + g.BusinessStatus
	}
	if why == "" {
		return nil
	}
	f := verdict.NewFindingf(verdict.CloudNoSNAT, where(g.NatGatewayId), []string{g.NatGatewayId + " " + g.Status + " " + g.BusinessStatus},
		"NAT gateway %s translates nothing: %s", g.NatGatewayId, why)
	f.Remedy = "Renew or unlock the NAT gateway."
	return &f
}

// sources are the addresses that a NAT gateway may give to what a private address
// sends: that of a DNAT entry for all ports, else those of the SNAT entry with the
// longest prefix (CreateSnatEntry), of which it takes any (SNAT IP address pools).
func (c *Cloud) sources(g *natGateway, private netip.Addr) ([]public, *verdict.Finding) {
	if f := g.fault(); f != nil {
		return nil, f
	}
	for k := range g.dnat {
		if e := &g.dnat[k]; e.internal == private && e.anyPort() && same(e.Status, "Available") {
			return []public{c.natAddress(g, e.external, e.ForwardEntryId)}, nil
		}
	}
	var best *snatEntry
	pending := ""
	for k := range g.snat {
		e := &g.snat[k]
		if !e.source.Contains(private) {
			continue
		}
		if !same(e.Status, "Available") && !same(e.Status, "Modifying") {
			pending = e.SnatEntryId + " is " + e.Status
			continue
		}
		if best == nil || e.source.Bits() > best.source.Bits() {
			best = e
		}
	}
	if best == nil {
		if f := c.missing(describeSNATEntries, g.NatGatewayId, "what NAT gateway "+g.NatGatewayId+" does for "+private.String()); f != nil {
			return nil, f
		}
		evidence := make([]string, 0, len(g.snat))
		for _, e := range g.snat {
			evidence = append(evidence, e.text())
		}
		f := verdict.NewFinding(verdict.CloudNoSNAT, where(g.NatGatewayId), evidence, g.NatGatewayId, private)
		if pending != "" {
			f.Message += ": " + pending
		}
		return nil, &f
	}
	ips := snatIPs(best.SNATEntry)
	if len(ips) == 0 {
		f := verdict.NewFinding(verdict.CloudNoSNAT, where(g.NatGatewayId), []string{best.text()}, g.NatGatewayId, private)
		f.Message += ": " + best.SnatEntryId + " has no public IP"
		return nil, &f
	}
	pool := make([]public, 0, len(ips))
	for _, ip := range ips {
		pool = append(pool, c.natAddress(g, addrOf(ip), best.SnatEntryId))
	}
	return pool, nil
}

// natAddress is a public address of a NAT gateway: an EIP that is bound to it.
func (c *Cloud) natAddress(g *natGateway, a netip.Addr, entry string) public {
	p := public{addr: a, text: entry}
	if e := c.eips[a]; e != nil {
		if p.fault = e.fault(); p.fault == nil && e.InstanceId != "" && e.InstanceId != g.NatGatewayId {
			f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(e.AllocationId), []string{e.text()},
				"EIP %s of entry %s is bound to %s, not to NAT gateway %s", e.IpAddress, entry, e.InstanceId, g.NatGatewayId)
			p.fault = &f
		}
	}
	return p
}

func (e *snatEntry) text() string {
	from := e.SourceCIDR
	if from == "" {
		from = e.SourceVSwitchId
	}
	return e.SnatEntryId + ": " + from + " as " + e.SnatIp + " " + e.Status
}

func (e *forwardEntry) anyPort() bool { return same(e.ExternalPort, "any") }

// forward finds the DNAT entry for a packet to a public address of the gateway, and
// the port it leads to: an entry for the port comes before one for all.
func (g *natGateway) forward(p *netstack.Packet) (e *forwardEntry, port uint16) {
	for _, all := range []bool{false, true} {
		for k := range g.dnat {
			e := &g.dnat[k]
			if e.external != p.Dst || e.anyPort() != all || !same(e.Status, "Available") {
				continue
			}
			if !same(e.IpProtocol, "any") {
				if match, _ := protocolMatches(e.IpProtocol, p); !match {
					continue
				}
			}
			if all {
				return e, p.DstPort
			}
			if p.HasPorts() && e.externalPorts.holds(p.DstPort) {
				return e, e.internalPorts.first + p.DstPort - e.externalPorts.first
			}
		}
	}
	return nil, 0
}
