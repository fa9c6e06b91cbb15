package alibaba

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var _ cloud.Fabric = (*Cloud)(nil)

// Interface finds the interface that a device is.
func (c *Cloud) Interface(mac netstack.MAC, addrs []netip.Addr) (cloud.Interface, bool) {
	if i := c.ByMAC(mac); i != nil {
		return i.plain(), true
	}
	for _, a := range addrs {
		if i := c.ByAddr(a); i != nil {
			return i.plain(), true
		}
	}
	return cloud.Interface{}, false
}

func (i *Interface) plain() cloud.Interface {
	return cloud.Interface{ID: i.NetworkInterfaceId, Instance: i.InstanceId, MAC: i.MAC, Addrs: i.Addrs}
}

// crossing is a packet on its way.
type crossing struct {
	*Cloud
	*cloud.Crossing
	// hairpins is how often it has come back from the edge of the Internet.
	hairpins int
}

// smtpPort is closed to instances by default (ECS, Security group rules).
const smtpPort = 25

// maxHairpins bounds how often a packet may go from one public address to another.
const maxHairpins = 4

// Carry takes a packet through the cloud.
func (c *Cloud) Carry(in *cloud.Crossing) cloud.End {
	x := &crossing{Cloud: c, Crossing: in}
	if f := x.tooLarge(); f != nil {
		return stopped(*f)
	}
	if in.From.ID == "" {
		return x.fromInternet()
	}
	return x.fromInterface(c.interfaces[in.From.ID])
}

// Answers says whether an address is on the Internet for something in the cloud.
func (c *Cloud) Answers(addr netip.Addr) bool {
	return c.balancers[addr] != nil || c.eips[addr] != nil || c.ipv6[addr] != nil || c.behind(addr) != nil
}

// Unread explains why an address that nothing known answers for may be one of the
// cloud.
func (c *Cloud) Unread(addr netip.Addr) *verdict.Finding {
	actions := []string{describeBalancers, "nlb.ListLoadBalancers", "alb.ListLoadBalancers", describeEIPs, describeNATGateways, describeInterfaces}
	if addr.Is6() {
		actions = append(actions, describeIPv6)
	}
	for _, a := range actions {
		if _, failed := c.facts.Failed[a]; failed {
			return c.missing(a, addr.String(), "what "+addr.String()+" stands for")
		}
	}
	return nil
}

func drop(f *verdict.Finding) cloud.End {
	if f.Severity == verdict.SeverityUndecided {
		return cloud.End{Kind: cloud.Undecided, Finding: *f}
	}
	return cloud.End{Kind: cloud.Dropped, Finding: *f}
}

// stopped is the end of a packet that something stops of which it is not known
// whether it does.
func stopped(f verdict.Finding) cloud.End { return cloud.End{Kind: cloud.Dropped, Finding: f} }

// fromInterface takes what an interface sends: its groups, the network ACL, then
// the VPC's route.
func (x *crossing) fromInterface(i *Interface) cloud.End {
	p := x.Packet
	if i.SourceDestCheck && x.holder(i.VpcId, p.Src) != i {
		f := verdict.NewFindingf(verdict.UnmodelledRule, where(i.NetworkInterfaceId), []string{"SourceDestCheck: true"},
			"interface %s checks sources (SourceDestCheck), which is not modelled, and %s is none of its addresses", i.NetworkInterfaceId, p.Src)
		if x.Doubt(f) {
			return stopped(f)
		}
	}
	if e, stop := x.pass(i, egress); stop {
		return e
	}
	if b := x.balancers[p.Dst]; b != nil && b.vpc == i.VpcId && p.Dst.IsPrivate() {
		if b.vswitches[p.Dst] != i.VSwitchId {
			if e, stop := x.acl(i, egress); stop {
				return e
			}
		}
		if e, is := x.answer(i); is { // it had sent from its own address
			return e
		}
		return x.toBalancer(b)
	}
	neighbour := x.holder(i.VpcId, p.Dst)
	if neighbour == nil || neighbour.VSwitchId != i.VSwitchId {
		if e, stop := x.acl(i, egress); stop {
			return e
		}
	}
	if e, is := x.answer(i); is {
		return e
	}
	if x.outside(i.VpcId, p.Dst) {
		return x.toInternet(i)
	}
	return x.follow(i)
}

// returning turns the fault of a reply's route into that of the way back.
func (x *crossing) returning(f *verdict.Finding) *verdict.Finding {
	if !x.Reply || f.Code != verdict.CloudNoRouteEntry {
		return f
	}
	out := verdict.NewFinding(verdict.CloudSourceRouteMissing, f.Where, f.Evidence, x.Packet.Dst)
	out.Message += ", so replies do not come back" + strings.TrimPrefix(f.Message, fmt.Sprintf("no route entry for destination ip %s", x.Packet.Dst))
	return &out
}

// answer takes a packet back to where it is the answer to, if it is one to what a
// translator had sent. On its way it meets the network ACL of an NLB or ALB twice, too.
func (x *crossing) answer(from *Interface) (cloud.End, bool) {
	sent := *x.Packet
	at, is := x.Sessions.Restore(x.Packet)
	if !is {
		return cloud.End{}, false
	}
	x.Step("cloud/session", "translate back", at)
	vswitch := ""
	if b := x.zoned[at]; b != nil {
		vswitch = b.vswitches[x.Packet.Src]
		if e, stop := x.aclBetween(vswitch, from.VSwitchId, ingress, &sent); stop {
			return e, true
		}
		if e, stop := x.aclBetween(vswitch, x.vswitchOf(b.vpc, x.Packet.Dst), egress, x.Packet); stop {
			return e, true
		}
	}
	return x.back(from, vswitch), true
}

// back takes a reply on whose translation was undone: to a client in the VPC, or
// on the Internet; from something in a vSwitch, if it has one.
func (x *crossing) back(from *Interface, vswitch string) cloud.End {
	for range maxHairpins {
		at, again := x.Sessions.Restore(x.Packet)
		if !again {
			break
		}
		x.Step("cloud/session", "translate back", at)
	}
	if to := x.holder(from.VpcId, x.Packet.Dst); to != nil {
		return x.deliver(to, to.VSwitchId == vswitch)
	}
	if x.outside(from.VpcId, x.Packet.Dst) {
		return cloud.End{Kind: cloud.Left, Via: "the Internet"}
	}
	return x.follow(from)
}

// pass asks the security groups of an interface.
func (x *crossing) pass(i *Interface, d direction) (cloud.End, bool) {
	p, stage := x.Packet, "security group/"+d.String()
	if x.Sessions.Admitted(i.NetworkInterfaceId, p) {
		x.Step(stage, "accept", "established")
		return cloud.End{}, false
	}
	r := x.groupsAdmit(i, d, p)
	switch {
	case r.open != nil:
		if x.Doubt(*r.open) {
			return stopped(*r.open), true
		}
	case !r.pass:
		f := verdict.NewFinding(verdict.SecurityGroupDeny, where(i.NetworkInterfaceId), []string{r.rule}, r.who, p)
		f.Message += fmt.Sprintf(" (%s of %s: %s)", d, i.NetworkInterfaceId, r.rule)
		return drop(&f), true
	}
	x.Step(stage, "accept", r.rule)
	x.Sessions.Admit(i.NetworkInterfaceId, p)
	return cloud.End{}, false
}

// acl asks the network ACL of an interface's vSwitch. It does not see what an interface
// exchanges that has an EIP for its address (Network ACLs).
func (x *crossing) acl(i *Interface, d direction) (cloud.End, bool) {
	if e := x.eipOf[eipKey{resource: i.NetworkInterfaceId}]; e != nil && e.cutThrough() {
		return cloud.End{}, false
	}
	return x.aclOf(i.VSwitchId, d, x.Packet)
}

// aclBetween asks the network ACL of the vSwitch that a load balancer stands in, unless
// the other end of the packet is there, too.
func (x *crossing) aclBetween(vswitch, other string, d direction, p *netstack.Packet) (cloud.End, bool) {
	if vswitch == "" || vswitch == other {
		return cloud.End{}, false
	}
	return x.aclOf(vswitch, d, p)
}

// vswitchOf is that of the interface that has an address; empty if none has.
func (c *Cloud) vswitchOf(vpc string, addr netip.Addr) string {
	if i := c.holder(vpc, addr); i != nil {
		return i.VSwitchId
	}
	return ""
}

// aclOf asks the network ACL of a vSwitch: it remembers no connection.
func (x *crossing) aclOf(vswitch string, d direction, p *netstack.Packet) (cloud.End, bool) {
	r := x.aclAdmits(vswitch, d, p)
	switch {
	case r.open != nil:
		if x.Doubt(*r.open) {
			return stopped(*r.open), true
		}
	case !r.pass:
		f := verdict.NewFindingf(verdict.CloudNetworkACLDeny, where(r.who), []string{r.rule},
			"network ACL %s of vSwitch %s does not allow %s (%s: %s)", r.who, vswitch, p, d, r.rule)
		return drop(&f), true
	case r.rule != "":
		x.Step("network acl/"+d.String(), "accept", r.rule)
	}
	return cloud.End{}, false
}

// outside says whether an address is on the Internet, as the VPC sees it.
func (x *crossing) outside(vpc string, addr netip.Addr) bool {
	if addr.IsPrivate() || serviceRange.Contains(addr) || !addr.IsGlobalUnicast() {
		return false
	}
	return !within(x.vpcs[vpc], addr)
}

// follow takes a packet to the next hop of its route entry.
func (x *crossing) follow(i *Interface) cloud.End {
	p := x.Packet
	r := x.route(i.VpcId, i.VSwitchId, p.Dst)
	if r.fault != nil {
		return drop(x.returning(r.fault))
	}
	h := x.nextHop(&r)
	x.Step("route", h.text(), r.entry.text())
	switch kindOf(h) {
	case hopLocal:
		return x.local(i)
	case hopService, hopOutside:
		return cloud.End{Kind: cloud.Left, Via: h.text()}
	case hopInterface:
		to, f := x.through(h, p.Dst, r.entry)
		if f != nil {
			return drop(f)
		}
		x.expect(to, h, r.entry)
		return x.deliver(to, to.VSwitchId == i.VSwitchId)
	case hopNAT, hopInternet:
		if f := x.private(h, r.entry); f != nil {
			return drop(f)
		}
		f := verdict.NewFindingf(verdict.CloudUnexpectedNextHop, where(r.entry.RouteTableId), []string{r.entry.text()},
			"the next hop for destination ip %s, which is not on the Internet, is %s", p.Dst, h.text())
		return drop(&f)
	}
	f := verdict.NewFindingf(verdict.UnmodelledRule, where(r.entry.RouteTableId), []string{r.entry.text()},
		"route entry %s leads to %s, which is not modelled", r.entry.text(), h.text())
	return drop(&f)
}

// nextHop chooses one of a route entry.
func (x *crossing) nextHop(r *routed) NextHop {
	if len(r.hops) == 1 {
		return r.hops[0]
	}
	return r.hops[x.Choose("route "+r.entry.text(), weights(r.hops))]
}

// expect notes that a packet goes to an instance that has not got its destination.
func (x *crossing) expect(to *Interface, h NextHop, e *routeEntry) {
	if x.Home == nil {
		return
	}
	homes := x.Home(x.Packet.Dst)
	if len(homes) == 0 || slices.Contains(homes, to.InstanceId) {
		return
	}
	f := verdict.NewFinding(verdict.CloudWrongNextHop, where(e.RouteTableId), []string{e.text()}, x.Packet.Dst, strings.Join(homes, " or "), h.NextHopId)
	x.Note(f)
}

// local takes a packet to its destination in the VPC.
func (x *crossing) local(i *Interface) cloud.End {
	p := x.Packet
	if to := x.holder(i.VpcId, p.Dst); to != nil {
		return x.deliver(to, to.VSwitchId == i.VSwitchId)
	}
	if v := x.virtualAt(i.VpcId, p.Dst); v != nil {
		_, f := x.master(v)
		return drop(f)
	}
	if f := x.missing(describeInterfaces, i.VpcId, "who has "+p.Dst.String()); f != nil {
		return drop(f)
	}
	f := verdict.NewFindingf(verdict.SnapshotMissing, where(i.VpcId), []string{describeInterfaces},
		"no interface of VPC %s that was read has %s: either nobody has it, or a service of the cloud", i.VpcId, p.Dst)
	return drop(&f)
}

// deliver hands a packet to an interface, past the network ACL of its vSwitch, if
// it comes from another one, and its groups.
func (x *crossing) deliver(to *Interface, inside bool) cloud.End {
	if !inside {
		if e, stop := x.acl(to, ingress); stop {
			return e
		}
	}
	if e, stop := x.pass(to, ingress); stop {
		x.strangers(to)
		return e
	}
	if f := x.notRunning(to); f != nil {
		return drop(f)
	}
	return cloud.End{Kind: cloud.Delivered, To: to.plain()}
}

// strangers notes that the two ends are in no group together: where nothing lets
// the packet in, that is why.
func (x *crossing) strangers(to *Interface) {
	from := x.interfaces[x.From.ID]
	if from == nil {
		return
	}
	for _, id := range from.SecurityGroupIds.SecurityGroupId {
		if slices.Contains(to.SecurityGroupIds.SecurityGroupId, id) {
			return
		}
	}
	x.Note(verdict.NewFinding(verdict.SecurityGroupMismatch, where(to.NetworkInterfaceId), []string{
		from.NetworkInterfaceId + ": " + strings.Join(from.SecurityGroupIds.SecurityGroupId, ", "),
		to.NetworkInterfaceId + ": " + strings.Join(to.SecurityGroupIds.SecurityGroupId, ", "),
	}, from.NetworkInterfaceId+" and "+to.NetworkInterfaceId))
}

// toInternet takes a packet out of the VPC. A public address of its own comes
// before the default route (NAT gateways: "SNAT entries do not take effect on
// instances that are assigned public IP addresses"); a longer prefix does not.
func (x *crossing) toInternet(i *Interface) cloud.End {
	p := x.Packet
	own, has := x.publicOf(i, p.Src)
	r := x.route(i.VpcId, i.VSwitchId, p.Dst)
	if r.entry == nil {
		switch {
		case has && r.fault.Code == verdict.CloudNoRouteEntry && x.central[i.VpcId]:
			r.fault.Message += ": the VPC has an IPv4 gateway, and what has a public IP needs an entry that leads there"
		case has && r.fault.Code == verdict.CloudNoRouteEntry:
			return x.leaveAs(own, i)
		case r.fault.Code == verdict.CloudNoRouteEntry && p.Dst.Is4() && len(x.natOf[i.VpcId]) == 0 && x.facts.Read[describeNATGateways] && x.facts.Failed[describeNATGateways] == "":
			return drop(x.noPublicIP(i, r.fault.Evidence))
		}
		return drop(x.returning(r.fault))
	}
	if r.fault != nil {
		return drop(r.fault)
	}
	h := x.nextHop(&r)
	kind := kindOf(h)
	if has && r.entry.prefix.Bits() == 0 {
		if kind == hopNAT || kind == hopInternet {
			return x.leaveAs(own, i)
		}
		f := verdict.NewFindingf(verdict.UnmodelledRule, where(i.NetworkInterfaceId), []string{r.entry.text(), own.text},
			"%s of %s competes with route entry %s, which is not modelled", own.text, i.NetworkInterfaceId, r.entry.text())
		if !x.Doubt(f) {
			return x.leaveAs(own, i)
		}
	}
	x.Step("route", h.text(), r.entry.text())
	switch kind {
	case hopNAT:
		return x.throughNAT(i, h, &r)
	case hopInternet:
		if has {
			return x.leaveAs(own, i)
		}
		if p.Dst.Is6() {
			return x.leaveByIPv6(i, h)
		}
		return drop(x.noPublicIP(i, []string{r.entry.text()}))
	case hopInterface:
		to, f := x.through(h, p.Dst, r.entry)
		if f != nil {
			return drop(f)
		}
		return x.deliver(to, to.VSwitchId == i.VSwitchId)
	}
	f := verdict.NewFinding(verdict.CloudUnexpectedNextHop, where(r.entry.RouteTableId), []string{r.entry.text()}, p.Dst, h.text())
	if kind != hopLocal && kind != hopService {
		f.Severity = verdict.SeverityUndecided // a network beside this one may lead there
	}
	return drop(&f)
}

func (x *crossing) noPublicIP(i *Interface, evidence []string) *verdict.Finding {
	if f := x.missing(describeEIPs, i.NetworkInterfaceId, "whether "+i.NetworkInterfaceId+" has an EIP"); f != nil {
		return f
	}
	f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(i.NetworkInterfaceId), evidence,
		"%s of %s has no public IP, and no NAT gateway is on its way to %s", x.Packet.Src, i.NetworkInterfaceId, x.Packet.Dst)
	return &f
}

// leaveAs sends a packet to the Internet with the interface's public address.
func (x *crossing) leaveAs(own public, i *Interface) cloud.End {
	if own.fault != nil {
		return drop(own.fault)
	}
	return x.exit(own, i.NetworkInterfaceId)
}

// throughNAT sends a packet to the Internet by a NAT gateway.
func (x *crossing) throughNAT(i *Interface, h NextHop, r *routed) cloud.End {
	g := x.nat[h.NextHopId]
	if g == nil {
		f := x.missing(describeNATGateways, h.NextHopId, "NAT gateway "+h.NextHopId)
		if f == nil {
			gone := verdict.NewFinding(verdict.CloudNoNextHop, where(r.entry.RouteTableId), []string{r.entry.text()}, x.Packet.Dst)
			gone.Message += ": there is no " + h.text()
			f = &gone
		}
		return drop(f)
	}
	if f := x.private(h, r.entry); f != nil {
		return drop(f)
	}
	if f := x.beyondNAT(g); f != nil {
		return drop(f)
	}
	pool, f := x.sources(g, x.Packet.Src)
	if f != nil {
		return drop(f)
	}
	source := pool[0]
	if len(pool) > 1 {
		source = pool[x.Choose("snat "+source.text, equal(len(pool)))]
	}
	if source.fault != nil {
		return drop(source.fault)
	}
	return x.exit(source, g.NatGatewayId)
}

// private says that a NAT gateway is one between private networks (VPC NAT gateway),
// which translates to addresses that are not on the Internet.
func (x *crossing) private(h NextHop, e *routeEntry) *verdict.Finding {
	if g := x.nat[h.NextHopId]; g == nil || !same(g.NetworkType, "intranet") {
		return nil
	}
	f := verdict.NewFindingf(verdict.UnmodelledRule, where(h.NextHopId), []string{e.text()},
		"route entry %s leads to VPC NAT gateway %s, which is not modelled", e.text(), h.NextHopId)
	return &f
}

// exit translates a packet to its public address, unless the interface has that itself.
// Where that of its destination is the cloud's own, it comes back in.
func (x *crossing) exit(as public, at string) cloud.End {
	p := x.Packet
	if p.Src == as.addr {
		return x.leave(at)
	}
	before := cloud.TupleOf(p)
	p.Src = as.addr
	x.Sessions.Translate(at, before, p)
	x.Translated("snat", at, before.Src.String(), as.addr.String(), as.text)
	x.Step("nat", "source is now "+as.addr.String(), as.text)
	return x.leave(at)
}

// leave sends a packet to the Internet, from where it may come back in.
func (x *crossing) leave(at string) cloud.End {
	p := x.Packet
	if f := x.perhapsTooLarge(); f != nil {
		return stopped(*f)
	}
	if p.Protocol == netstack.ProtoTCP && p.DstPort == smtpPort {
		f := verdict.NewFindingf(verdict.UnmodelledRule, where(at), []string{p.String()},
			"TCP port %d to the Internet is restricted unless Alibaba Cloud has unblocked it for the account, which no API tells", smtpPort)
		f.Remedy = "Send mail by port 465, or apply to have port 25 unblocked."
		if x.Doubt(f) {
			return stopped(f)
		}
	}
	if !x.Answers(p.Dst) {
		return cloud.End{Kind: cloud.Left, Via: "the Internet"}
	}
	if x.hairpins++; x.hairpins > maxHairpins {
		f := verdict.NewFinding(verdict.RoutingLoop, where(at), nil, fmt.Sprintf("%s goes from one public address to the next", p))
		return drop(&f)
	}
	return x.fromInternet()
}

// behind is the interface, and its private address, that a public address stands for.
func (c *Cloud) behind(addr netip.Addr) *target {
	if e := c.eips[addr]; e != nil {
		i := c.named(e.InstanceId)
		if v := c.haVips[e.InstanceId]; v != nil {
			if i = c.named(v.MasterInstanceId); i != nil {
				return &target{i, addrOf(v.IpAddress), c.byEIP(e)}
			}
		}
		if i == nil || len(i.Addrs) == 0 {
			return nil
		}
		private := i.Addrs[0]
		switch a := addrOf(e.PrivateIpAddress); {
		case e.visible():
			private = addr
		case a.IsValid():
			private = a
		}
		return &target{i, private, c.byEIP(e)}
	}
	if t, ok := c.publics[addr]; ok {
		return &t
	}
	return nil
}

// target is what a public address stands for.
type target struct {
	to      *Interface
	private netip.Addr
	public  public
}

// fromInternet takes in a packet for a public address.
func (x *crossing) fromInternet() cloud.End {
	p := x.Packet
	if b := x.balancers[p.Dst]; b != nil {
		return x.toBalancer(b)
	}
	if at, ok := x.Sessions.Again(p); ok {
		x.Step("cloud/session", "translate", at)
		return x.arrived(at)
	}
	if a := x.ipv6[p.Dst]; a != nil {
		return x.fromInternetByIPv6(a)
	}
	e := x.eips[p.Dst]
	for k := range x.facts.NATGateways {
		g := x.nat[x.facts.NATGateways[k].NatGatewayId]
		if e != nil && e.InstanceId != g.NatGatewayId {
			continue
		}
		entry, port := g.forward(p)
		if entry == nil {
			if e == nil {
				continue
			}
			f := x.missing(describeForwardEntries, g.NatGatewayId, "what NAT gateway "+g.NatGatewayId+" forwards")
			if f == nil {
				none := verdict.NewFindingf(verdict.CloudNoPublicIP, where(g.NatGatewayId), []string{e.text()},
					"NAT gateway %s has no DNAT entry for %s: %s stands for nothing there", g.NatGatewayId, p, p.Dst)
				none.Remedy = "Add a DNAT entry for the address, protocol and port."
				f = &none
			}
			return drop(f)
		}
		if f := g.fault(); f != nil {
			return drop(f)
		}
		if e != nil {
			if f := e.fault(); f != nil {
				return drop(f)
			}
		}
		i := x.holder(g.VpcId, entry.internal)
		if i == nil {
			f := x.unread(describeInterfaces, g.VpcId, "the interface that has "+entry.internal.String())
			return drop(f)
		}
		if f := x.redirected(g.VpcId, g.NatGatewayId); f != nil {
			return stopped(*f)
		}
		return x.translateTo(i, entry.internal, port, g.NatGatewayId, entry.ForwardEntryId)
	}
	if t := x.behind(p.Dst); t != nil {
		if t.public.fault != nil {
			return drop(t.public.fault)
		}
		return x.translateTo(t.to, t.private, p.DstPort, t.to.NetworkInterfaceId, t.public.text)
	}
	if e != nil {
		if f := e.fault(); f != nil {
			return drop(f)
		}
		f := x.missing(describeInterfaces, e.AllocationId, "what EIP "+e.IpAddress+" stands for")
		if v := x.haVips[e.InstanceId]; v != nil && f == nil {
			_, f = x.master(v)
		}
		if f == nil {
			f = &verdict.Finding{}
			*f = verdict.NewFindingf(verdict.UnmodelledRule, where(e.AllocationId), []string{e.text()}, "EIP %s is bound to %s %s, which is not modelled", e.IpAddress, e.InstanceType, e.InstanceId)
		}
		return drop(f)
	}
	f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(p.Dst.String()), nil, "%s is no public address of the cloud that was read", p.Dst)
	return drop(&f)
}

// translateTo gives a packet the private address that it is for, unless the interface has
// the public one itself.
func (x *crossing) translateTo(i *Interface, to netip.Addr, port uint16, at, rule string) cloud.End {
	p := x.Packet
	if p.Dst == to {
		return x.enter(i, at)
	}
	before := cloud.TupleOf(p)
	from := endpoint(p.Dst, p.DstPort)
	p.Dst = to
	if p.HasPorts() {
		p.DstPort = port
	}
	x.Sessions.Translate(at, before, p)
	x.Translated("dnat", at, from, endpoint(p.Dst, p.DstPort), rule)
	x.Step("nat", "destination is now "+endpoint(p.Dst, p.DstPort), rule)
	return x.enter(i, at)
}

// enter delivers what has come from the Internet for an interface: what was not for
// a NAT gateway or load balancer, past the route table of the VPC's own gateway.
func (x *crossing) enter(i *Interface, at string) cloud.End {
	if x.interfaces[at] == nil {
		return x.deliver(i, false)
	}
	return x.byGatewayTable(i)
}

func endpoint(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// arrived delivers a packet that a translator had sent on before.
func (x *crossing) arrived(at string) cloud.End {
	for _, vpc := range x.facts.VPCs {
		if i := x.holder(vpc.VpcId, x.Packet.Dst); i != nil {
			return x.enter(i, at)
		}
	}
	f := x.unread(describeInterfaces, at, "the interface that has "+x.Packet.Dst.String())
	return drop(f)
}

// toBalancer hands a packet to a load balancer, which sends it to one of its
// backends.
func (x *crossing) toBalancer(b *balancer) cloud.End {
	p := x.Packet
	vswitch := b.vswitches[p.Dst]
	if e, stop := x.aclBetween(vswitch, x.vswitchOf(b.vpc, p.Src), ingress, p); stop {
		return e
	}
	if at, ok := x.Sessions.Again(p); ok {
		x.Step("cloud/session", "balance", at)
		if i := x.holder(b.vpc, p.Dst); i != nil && b.kind != "slb" {
			return x.toBackend(b, i, vswitch)
		}
		return x.arrived(at)
	}
	if e := x.eips[p.Dst]; e != nil {
		if f := e.fault(); f != nil {
			return drop(f)
		}
	}
	if !p.Dst.IsPrivate() {
		if f := x.redirected(b.vpc, b.id); f != nil {
			return stopped(*f)
		}
	}
	if f := x.perhapsTooLarge(); f != nil {
		return stopped(*f)
	}
	r := x.balance(b, p)
	if r.fault != nil {
		return drop(r.fault)
	}
	for _, f := range r.warnings {
		x.Note(f)
	}
	for _, f := range r.doubts {
		if x.Doubt(f) {
			return stopped(f)
		}
	}
	m := r.backends[0]
	if len(r.backends) > 1 {
		m = r.backends[x.Choose("balance "+b.id, r.weights)]
	}
	if m.open != nil && x.Doubt(*m.open) {
		return stopped(*m.open)
	}
	to, addr, f := x.server(b, m)
	if f != nil {
		return drop(f)
	}
	before := cloud.TupleOf(p)
	from := endpoint(p.Dst, p.DstPort)
	p.Dst = addr
	if m.port != 0 {
		p.DstPort = uint16(m.port)
	}
	if !r.listener.preserves {
		p.Src = x.balancerSource(b)
	}
	x.Sessions.Translate(b.id, before, p)
	x.Translated("dnat", b.id, from, endpoint(p.Dst, p.DstPort), r.listener.group+": "+m.text())
	x.Step(b.kind, "send to "+endpoint(p.Dst, p.DstPort), "listener "+r.listener.text()+", server group "+r.listener.group+": "+m.text())
	if r.listener.proxies {
		f := verdict.NewFinding(verdict.ProxyInterposed, where(b.id), []string{"listener " + r.listener.text()}, before.Dst, b.id)
		x.Note(f)
	}
	return x.toBackend(b, to, vswitch)
}

// toBackend delivers what a load balancer sends. What groups and ACLs make of
// packets from CLB is documented for its own addresses alone (100.64.0.0/10, which
// needs no rule); of those that keep the client's, nothing is, so a group that
// would drop them is a doubt. NLB and ALB send from an interface in a vSwitch.
func (x *crossing) toBackend(b *balancer, to *Interface, vswitch string) cloud.End {
	if b.kind != "slb" {
		if e, stop := x.aclBetween(vswitch, to.VSwitchId, egress, x.Packet); stop {
			return e
		}
		return x.deliver(to, to.VSwitchId == vswitch)
	}
	if e, stop := x.acl(to, ingress); stop {
		return e
	}
	if !serviceRange.Contains(x.Packet.Src) && !x.Sessions.Admitted(to.NetworkInterfaceId, x.Packet) {
		if r := x.groupsAdmit(to, ingress, x.Packet); r.open != nil || !r.pass {
			f := verdict.NewFinding(verdict.SecurityGroupDeny, where(to.NetworkInterfaceId), []string{r.rule}, r.who, x.Packet)
			f.Message += ", if it filters what load balancer " + b.id + " forwards, which is not documented"
			f.Severity = verdict.SeverityUndecided
			if r.open != nil {
				f = *r.open
			}
			if x.Doubt(f) {
				return stopped(f)
			}
		}
	}
	x.Sessions.Admit(to.NetworkInterfaceId, x.Packet)
	if f := x.notRunning(to); f != nil {
		return drop(f)
	}
	return cloud.End{Kind: cloud.Delivered, To: to.plain()}
}

// balancerSource is the address that a load balancer sends from, if not from its
// client's.
func (x *crossing) balancerSource(b *balancer) netip.Addr {
	if len(b.sources) > 0 {
		return b.sources[0]
	}
	return serviceRange.Addr().Next()
}

// server is the interface and address of a backend.
func (x *crossing) server(b *balancer, m *backend) (*Interface, netip.Addr, *verdict.Finding) {
	i := x.named(m.server)
	if i == nil && m.ip.IsValid() {
		i = x.holder(b.vpc, m.ip)
	}
	if i == nil || len(i.Addrs) == 0 {
		f := x.missing(describeInterfaces, m.server, "the interface of backend "+m.server)
		if f == nil {
			unexpected := verdict.NewFinding(codesOf[b.kind].mismatch, where(b.id), []string{m.text()}, m.server)
			unexpected.Message += ": no instance or interface of this name or address exists"
			f = &unexpected
		}
		return nil, netip.Addr{}, f
	}
	if m.ip.IsValid() {
		return i, m.ip, nil
	}
	return i, i.Addrs[0], nil
}
