package alibaba

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Cloud is compiled facts. It is immutable and safe for concurrent use.
type Cloud struct {
	facts      *Facts
	instances  map[string]*Instance
	interfaces map[string]*Interface
	primary    map[string]*Interface // by instance
	byMAC      map[netstack.MAC]*Interface
	byAddr     map[netip.Addr][]*Interface
	delegated  map[netip.Prefix][]*Interface // by the prefixes that they have
	lengths    []int                         // of those prefixes, the longest first
	haVips     map[string]*HaVip
	virtual    map[netip.Addr][]*HaVip
	ipv6       map[netip.Addr]*IPv6Address
	egressOnly map[string]*EgressOnlyRule // by the id of the IPv6 address
	members    map[place]*Interface
	groups     map[string]*group
	lists      map[string][]netip.Prefix
	vpcs       map[string][]netip.Prefix // the blocks of each
	vswitches  map[string]*VSwitch
	acls       map[string]*networkACL
	tables     map[string]*routeTable   // by id
	tableOf    map[string]*routeTable   // by vSwitch
	systemOf   map[string]*routeTable   // by VPC
	gatewayOf  map[string][]*routeTable // by VPC: tables for what comes from the Internet
	central    map[string]bool          // VPCs whose way to the Internet is an IPv4 gateway
	nat        map[string]*natGateway
	natOf      map[string][]*natGateway // by VPC
	eips       map[netip.Addr]*EIP
	eipOf      map[eipKey]*EIP
	balancers  map[netip.Addr]*balancer
	zoned      map[string]*balancer     // those of NLB and ALB, by id
	access     map[string][]accessEntry // lists of who may, or may not, use listeners
	publics    map[netip.Addr]target    // public addresses that are told by interfaces and instances alone
}

// Interface is a network interface with its addresses.
type Interface struct {
	*NetworkInterface
	MAC   netstack.MAC
	Addrs []netip.Addr // the primary one first
}

// place is one on a trunk, which an interface of its own takes.
type place struct {
	trunk string
	vlan  int
}

// Compile indexes the facts.
func Compile(f *Facts) *Cloud {
	c := &Cloud{
		facts:      f,
		instances:  indexed(f.Instances, func(i *Instance) string { return i.InstanceId }),
		interfaces: make(map[string]*Interface, len(f.Interfaces)),
		primary:    make(map[string]*Interface, len(f.Instances)),
		byMAC:      make(map[netstack.MAC]*Interface, len(f.Interfaces)),
		members:    map[place]*Interface{},
		byAddr:     make(map[netip.Addr][]*Interface, len(f.Interfaces)),
		vpcs:       make(map[string][]netip.Prefix, len(f.VPCs)),
		vswitches:  indexed(f.VSwitches, func(v *VSwitch) string { return v.VSwitchId }),
		delegated:  map[netip.Prefix][]*Interface{},
		haVips:     indexed(f.HaVips, func(v *HaVip) string { return v.HaVipId }),
		virtual:    make(map[netip.Addr][]*HaVip, len(f.HaVips)),
		ipv6:       make(map[netip.Addr]*IPv6Address, len(f.IPv6Addresses)),
		egressOnly: indexed(f.EgressOnly, func(r *EgressOnlyRule) string { return r.InstanceId }),
	}
	for i := range f.Interfaces {
		c.addInterface(&f.Interfaces[i])
	}
	for i := range f.VPCs {
		c.addVPC(&f.VPCs[i])
	}
	for i := range f.HaVips {
		v := &f.HaVips[i]
		c.virtual[addrOf(v.IpAddress)] = append(c.virtual[addrOf(v.IpAddress)], v)
	}
	for i := range f.IPv6Addresses {
		c.ipv6[addrOf(f.IPv6Addresses[i].Ipv6Address)] = &f.IPv6Addresses[i]
	}
	c.compileGroups()
	c.compileACLs()
	c.compileRoutes()
	c.compileNAT()
	c.compileBalancers()
	return c
}

// indexed finds resources by their names.
func indexed[T any](list []T, id func(*T) string) map[string]*T {
	out := make(map[string]*T, len(list))
	for i := range list {
		out[id(&list[i])] = &list[i]
	}
	return out
}

func (c *Cloud) addVPC(v *VPC) {
	blocks := []netip.Prefix{prefixOf(v.CidrBlock), prefixOf(v.Ipv6CidrBlock)}
	for _, s := range slices.Concat(v.SecondaryCidrBlocks.SecondaryCidrBlock, v.UserCidrs.UserCidr) {
		blocks = append(blocks, prefixOf(s))
	}
	c.vpcs[v.VpcId] = blocks
}

func (c *Cloud) addInterface(n *NetworkInterface) {
	if n.InstanceId == "" && n.Attachment.InstanceId != "" {
		attached := *n // the facts are the snapshot's
		attached.InstanceId = n.Attachment.InstanceId
		n = &attached
	}
	i := &Interface{NetworkInterface: n}
	add := func(s string) {
		if a := addrOf(s); a.IsValid() && !slices.Contains(i.Addrs, a) {
			i.Addrs = append(i.Addrs, a)
		}
	}
	add(n.PrivateIpAddress)
	for _, ip := range n.PrivateIpSets.PrivateIpSet {
		add(ip.PrivateIpAddress)
	}
	for _, ip := range n.Ipv6Sets.Ipv6Set {
		add(ip.Ipv6Address)
	}
	for _, p := range n.Ipv4PrefixSets.Ipv4PrefixSet {
		c.delegate(i, prefixOf(p.Ipv4Prefix))
	}
	for _, p := range n.Ipv6PrefixSets.Ipv6PrefixSet {
		c.delegate(i, prefixOf(p.Ipv6Prefix))
	}
	c.interfaces[n.NetworkInterfaceId] = i
	if mac, ok := netstack.ParseMAC(n.MacAddress); ok {
		i.MAC = mac
		c.byMAC[mac] = i
	}
	if a := &n.Attachment; a.TrunkNetworkInterfaceId != "" {
		c.members[place{a.TrunkNetworkInterfaceId, int(a.DeviceIndex)}] = i
	}
	if same(n.Type, "Primary") {
		c.primary[n.InstanceId] = i
	}
	for _, a := range i.Addrs {
		c.byAddr[a] = append(c.byAddr[a], i)
	}
}

// delegate gives an interface all addresses of a prefix.
func (c *Cloud) delegate(i *Interface, p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	c.delegated[p] = append(c.delegated[p], i)
	if !slices.Contains(c.lengths, p.Bits()) {
		c.lengths = append(c.lengths, p.Bits())
		slices.SortFunc(c.lengths, func(a, b int) int { return b - a })
	}
}

// UnreadInterfaces implements cloud.Fabric.
func (c *Cloud) UnreadInterfaces() *verdict.Finding {
	return c.missing(describeInterfaces, "", "which devices are interfaces of the cloud")
}

// ByMAC is the interface with a link-layer address.
func (c *Cloud) ByMAC(mac netstack.MAC) *Interface {
	if mac == (netstack.MAC{}) {
		return nil
	}
	return c.byMAC[mac]
}

// ByAddr is the only interface that has an address, in whatever VPC.
func (c *Cloud) ByAddr(addr netip.Addr) *Interface {
	if list := c.byAddr[addr]; len(list) == 1 {
		return list[0]
	}
	return nil
}

// named is an interface, or the primary one of an instance.
func (c *Cloud) named(id string) *Interface {
	if i := c.interfaces[id]; i != nil {
		return i
	}
	return c.primary[id]
}

// Member is the interface that a VLAN on a trunk stands for.
func (c *Cloud) Member(trunk string, vlan uint16) (cloud.Interface, bool) {
	if i := c.members[place{trunk, int(vlan)}]; i != nil {
		return i.plain(), true
	}
	return cloud.Interface{}, false
}

// holder is the interface of a VPC that has an address: of its own, or of a prefix,
// or a virtual one that is with it now.
func (c *Cloud) holder(vpc string, addr netip.Addr) *Interface {
	for _, i := range c.byAddr[addr] {
		if i.VpcId == vpc {
			return i
		}
	}
	for _, bits := range c.lengths {
		p, err := addr.Prefix(bits)
		if err != nil {
			continue // longer than an IPv4 address
		}
		for _, i := range c.delegated[p] {
			if i.VpcId == vpc {
				return i
			}
		}
	}
	if v := c.virtualAt(vpc, addr); v != nil {
		return c.named(v.MasterInstanceId)
	}
	return nil
}

// virtualAt is the high-availability virtual address of a VPC.
func (c *Cloud) virtualAt(vpc string, addr netip.Addr) *HaVip {
	for _, v := range c.virtual[addr] {
		if v.VpcId == vpc {
			return v
		}
	}
	return nil
}

// master is the interface that a virtual address is with.
func (c *Cloud) master(v *HaVip) (*Interface, *verdict.Finding) {
	if i := c.named(v.MasterInstanceId); i != nil {
		return i, nil
	}
	if v.MasterInstanceId != "" {
		return nil, c.unread(describeInterfaces, v.HaVipId, "the interface of "+v.MasterInstanceId)
	}
	f := verdict.NewFinding(verdict.CloudNoNextHop, where(v.HaVipId), v.AssociatedInstances.AssociatedInstance, v.IpAddress)
	f.Message += ": HaVip " + v.HaVipId + " is with none of its instances"
	return nil, &f
}

func within(list []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// where locates a finding at a resource.
func where(resource string) verdict.Where { return verdict.Where{Resource: resource} }

// missing explains that an action was not read, and names what needs it; nil when
// it was, completely.
func (c *Cloud) missing(action, resource, why string) *verdict.Finding {
	if reason, failed := c.facts.Failed[action]; failed {
		f := verdict.NewFindingf(verdict.CloudAPIFailed, where(resource), []string{action + ": " + reason},
			"%s failed (%s), so %s is not known", action, reason, why)
		f.Remedy = "Grant " + permission(action) + " to the role that Plumbline has, or wait until the API answers again."
		return &f
	}
	if !c.facts.Read[action] {
		f := verdict.NewFindingf(verdict.SnapshotMissing, where(resource), []string{action}, "%s was not read, so %s is not known", action, why)
		return &f
	}
	return nil
}

// permission is the action of RAM that allows one of the API.
func permission(action string) string {
	return strings.Replace(action, ".", ":", 1)
}
