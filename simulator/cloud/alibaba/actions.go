package alibaba

import (
	"encoding/json"
	"strings"
)

// action is one of the OpenAPI: how its responses are read and written.
type action struct {
	name    string // with the product: "ecs.DescribeInstances"
	shared  bool   // another product has one of this name
	counted bool   // TotalCount is that of all there are, and not of one resource
	decode  func(raw []byte) (*response, error)
	write   func(*Facts) any
	merge   func(to, from *Facts)
}

// response is one of an action.
type response struct {
	size  int // how many items it has
	named func(suffix string) bool
	judge func(*judge)
	add   func(*Facts)
}

// listed is an action whose responses list items.
func listed[R, T any](name string, items func(*R) *[]T, into func(*Facts) *[]T, good func(*judge, *T)) action {
	return action{
		name: name,
		decode: func(raw []byte) (*response, error) {
			var r R
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, err
			}
			list := *items(&r)
			return &response{
				size:  len(list),
				named: func(string) bool { return true },
				judge: func(j *judge) {
					for i := range list {
						good(j, &list[i])
					}
				},
				add: func(f *Facts) { *into(f) = append(*into(f), list...) },
			}, nil
		},
		write: func(f *Facts) any {
			var r R
			*items(&r) = *into(f)
			return r
		},
		merge: func(to, from *Facts) { *into(to) = append(*into(to), *into(from)...) },
	}
}

// single is an action whose responses are about one resource each.
func single[T any](name string, into func(*Facts) *[]T, id func(*T) *string, good func(*judge, *T)) action {
	return action{
		name: name,
		decode: func(raw []byte) (*response, error) {
			var r T
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, err
			}
			size := 1
			if *id(&r) == "" {
				size = 0
			}
			return &response{
				size: size,
				named: func(suffix string) bool {
					if *id(&r) == "" {
						*id(&r) = suffix
					}
					return *id(&r) != ""
				},
				judge: func(j *judge) { good(j, &r) },
				add:   func(f *Facts) { *into(f) = append(*into(f), r) },
			}, nil
		},
		write: func(f *Facts) any { return *into(f) },
		merge: func(to, from *Facts) { *into(to) = append(*into(to), *into(from)...) },
	}
}

// total makes TotalCount that of all there are.
func (a action) total() action { a.counted = true; return a }

// both marks an action of two products.
func (a action) both() action { a.shared = true; return a }

// apart makes an action, each of whose responses lists one item alone, write as many
// responses.
func (a action) apart(write func(*Facts) any) action { a.write = write; return a }

// names of actions, as findings give them.
const (
	describeInstances      = "ecs.DescribeInstances"
	describeInterfaces     = "ecs.DescribeNetworkInterfaces"
	describeGroups         = "ecs.DescribeSecurityGroups"
	describeGroupRules     = "ecs.DescribeSecurityGroupAttribute"
	describePrefixLists    = "ecs.DescribePrefixListAttributes"
	describeVPCs           = "vpc.DescribeVpcs"
	describeVSwitches      = "vpc.DescribeVSwitches"
	describeRouteTables    = "vpc.DescribeRouteTableList"
	describeRouteEntries   = "vpc.DescribeRouteEntryList"
	describeNATGateways    = "vpc.DescribeNatGateways"
	describeSNATEntries    = "vpc.DescribeSnatTableEntries"
	describeForwardEntries = "vpc.DescribeForwardTableEntries"
	describeEIPs           = "vpc.DescribeEipAddresses"
	describeNetworkACL     = "vpc.DescribeNetworkAclAttributes"
	describeHaVips         = "vpc.DescribeHaVips"
	describeIPv6           = "vpc.DescribeIpv6Addresses"
	describeEgressOnly     = "vpc.DescribeIpv6EgressOnlyRules"
	describeNetworkACLs    = "vpc.DescribeNetworkAcls"
	describeBalancers      = "slb.DescribeLoadBalancers"
	describeBalancer       = "slb.DescribeLoadBalancerAttribute"
	describeListeners      = "slb.DescribeLoadBalancerListeners"
	describeServerGroup    = "slb.DescribeVServerGroupAttribute"
	describeHealth         = "slb.DescribeHealthStatus"
	describeAccessList     = "slb.DescribeAccessControlListAttribute"
	describeALBListener    = "alb.GetListenerAttribute"
	describeALBAccessList  = "alb.ListAclEntries"
)

// actions are those that are read. Where the name of one begins that of another,
// what follows it in the name of a file tells them apart.
var actions = append(append([]action{
	listed(describeInstances,
		func(r *struct{ Instances struct{ Instance []Instance } }) *[]Instance { return &r.Instances.Instance },
		func(f *Facts) *[]Instance { return &f.Instances }, judgeInstance).total(),
	listed(describeInterfaces,
		func(r *struct {
			NetworkInterfaceSets struct{ NetworkInterfaceSet []NetworkInterface }
		},
		) *[]NetworkInterface {
			return &r.NetworkInterfaceSets.NetworkInterfaceSet
		},
		func(f *Facts) *[]NetworkInterface { return &f.Interfaces }, judgeInterface).total(),
	listed(describeGroups,
		func(r *struct {
			SecurityGroups struct{ SecurityGroup []SecurityGroup }
		},
		) *[]SecurityGroup {
			return &r.SecurityGroups.SecurityGroup
		},
		func(f *Facts) *[]SecurityGroup { return &f.Groups }, func(*judge, *SecurityGroup) {}).total(),
	single(describeGroupRules, func(f *Facts) *[]SecurityGroupAttribute { return &f.GroupRules },
		func(r *SecurityGroupAttribute) *string { return &r.SecurityGroupId }, judgeGroupRules),
	single(describePrefixLists, func(f *Facts) *[]PrefixList { return &f.PrefixLists },
		func(r *PrefixList) *string { return &r.PrefixListId },
		func(j *judge, r *PrefixList) {
			for _, e := range r.Entries.Entry {
				j.prefix(e.Cidr)
			}
		}),
	listed(describeVPCs,
		func(r *struct{ Vpcs struct{ Vpc []VPC } }) *[]VPC { return &r.Vpcs.Vpc },
		func(f *Facts) *[]VPC { return &f.VPCs },
		func(j *judge, v *VPC) {
			j.prefix(v.CidrBlock, v.Ipv6CidrBlock)
			j.prefix(v.SecondaryCidrBlocks.SecondaryCidrBlock...)
			j.prefix(v.UserCidrs.UserCidr...)
		}).total(),
	listed(describeVSwitches,
		func(r *struct{ VSwitches struct{ VSwitch []VSwitch } }) *[]VSwitch { return &r.VSwitches.VSwitch },
		func(f *Facts) *[]VSwitch { return &f.VSwitches },
		func(j *judge, v *VSwitch) { j.prefix(v.CidrBlock, v.Ipv6CidrBlock) }).total(),
	listed(describeRouteTables,
		func(r *struct {
			RouterTableList struct{ RouterTableListType []RouteTable }
		},
		) *[]RouteTable {
			return &r.RouterTableList.RouterTableListType
		},
		func(f *Facts) *[]RouteTable { return &f.RouteTables }, func(*judge, *RouteTable) {}).total(),
	listed(describeRouteEntries,
		func(r *struct {
			RouteEntrys struct{ RouteEntry []RouteEntry }
		},
		) *[]RouteEntry {
			return &r.RouteEntrys.RouteEntry
		},
		func(f *Facts) *[]RouteEntry { return &f.RouteEntries },
		func(j *judge, e *RouteEntry) { j.prefix(e.DestinationCidrBlock) }),
	listed(describeNATGateways,
		func(r *struct {
			NatGateways struct{ NatGateway []NATGateway }
		},
		) *[]NATGateway {
			return &r.NatGateways.NatGateway
		},
		func(f *Facts) *[]NATGateway { return &f.NATGateways },
		func(j *judge, g *NATGateway) {
			for _, ip := range g.IpLists.IpList {
				j.addr(ip.IpAddress, ip.PrivateIpAddress)
			}
		}).total(),
	listed(describeSNATEntries,
		func(r *struct {
			SnatTableEntries struct{ SnatTableEntry []SNATEntry }
		},
		) *[]SNATEntry {
			return &r.SnatTableEntries.SnatTableEntry
		},
		func(f *Facts) *[]SNATEntry { return &f.SNATEntries },
		func(j *judge, e *SNATEntry) {
			j.prefix(e.SourceCIDR)
			j.addr(snatIPs(e)...)
		}),
	listed(describeForwardEntries,
		func(r *struct {
			ForwardTableEntries struct{ ForwardTableEntry []ForwardEntry }
		},
		) *[]ForwardEntry {
			return &r.ForwardTableEntries.ForwardTableEntry
		},
		func(f *Facts) *[]ForwardEntry { return &f.ForwardEntries },
		func(j *judge, e *ForwardEntry) {
			j.addr(e.ExternalIp, e.InternalIp)
			if !same(e.ExternalPort, "any") {
				j.ports(e.ExternalPort)
			}
			if !same(e.InternalPort, "any") {
				j.ports(e.InternalPort)
			}
		}),
	listed(describeEIPs,
		func(r *struct{ EipAddresses struct{ EipAddress []EIP } }) *[]EIP { return &r.EipAddresses.EipAddress },
		func(f *Facts) *[]EIP { return &f.EIPs },
		func(j *judge, e *EIP) { j.addr(e.IpAddress, e.PrivateIpAddress) }).total(),
	listed(describeNetworkACL,
		func(r *struct{ NetworkAclAttribute NetworkACL }) *[]NetworkACL {
			if r.NetworkAclAttribute.NetworkAclId == "" {
				return new([]NetworkACL) // an error
			}
			return &[]NetworkACL{r.NetworkAclAttribute}
		},
		func(f *Facts) *[]NetworkACL { return &f.NetworkACLs }, judgeNetworkACL).apart(aclAttributes),
	listed(describeNetworkACLs,
		func(r *struct {
			NetworkAcls struct{ NetworkAcl []NetworkACL }
		},
		) *[]NetworkACL {
			return &r.NetworkAcls.NetworkAcl
		},
		func(f *Facts) *[]NetworkACL { return &f.NetworkACLs }, judgeNetworkACL).total(),
	listed(describeHaVips,
		func(r *struct{ HaVips struct{ HaVip []HaVip } }) *[]HaVip { return &r.HaVips.HaVip },
		func(f *Facts) *[]HaVip { return &f.HaVips },
		func(j *judge, v *HaVip) { j.addr(v.IpAddress) }).total(),
	listed(describeIPv6,
		func(r *struct {
			Ipv6Addresses struct{ Ipv6Address []IPv6Address }
		},
		) *[]IPv6Address {
			return &r.Ipv6Addresses.Ipv6Address
		},
		func(f *Facts) *[]IPv6Address { return &f.IPv6Addresses },
		func(j *judge, a *IPv6Address) { j.addr(a.Ipv6Address) }).total(),
	listed(describeEgressOnly,
		func(r *struct {
			Ipv6EgressOnlyRules struct{ Ipv6EgressOnlyRule []EgressOnlyRule }
		},
		) *[]EgressOnlyRule {
			return &r.Ipv6EgressOnlyRules.Ipv6EgressOnlyRule
		},
		func(f *Facts) *[]EgressOnlyRule { return &f.EgressOnly }, func(*judge, *EgressOnlyRule) {}),
	listed(describeBalancers,
		func(r *struct {
			LoadBalancers struct{ LoadBalancer []LoadBalancer }
		},
		) *[]LoadBalancer {
			return &r.LoadBalancers.LoadBalancer
		},
		func(f *Facts) *[]LoadBalancer { return &f.LoadBalancers },
		func(j *judge, b *LoadBalancer) { j.addr(b.Address) }).total(),
	single(describeBalancer, func(f *Facts) *[]LoadBalancerAttribute { return &f.Attributes },
		func(r *LoadBalancerAttribute) *string { return &r.LoadBalancerId },
		func(j *judge, r *LoadBalancerAttribute) {
			j.addr(r.Address)
			judgeServers(j, r.BackendServers.BackendServer)
		}),
	listed(describeListeners,
		func(r *struct{ Listeners []Listener }) *[]Listener { return &r.Listeners },
		func(f *Facts) *[]Listener { return &f.Listeners },
		func(j *judge, l *Listener) {
			j.within(l.ListenerPort, 0, 65535, "a port")
			j.within(l.BackendServerPort, -520, 65535, "a port")
		}).total(),
	single(describeServerGroup, func(f *Facts) *[]VServerGroup { return &f.ServerGroups },
		func(r *VServerGroup) *string { return &r.VServerGroupId },
		func(j *judge, r *VServerGroup) { judgeServers(j, r.BackendServers.BackendServer) }),
	single(describeHealth, func(f *Facts) *[]HealthStatus { return &f.Health },
		func(r *HealthStatus) *string { return &r.LoadBalancerId },
		func(j *judge, r *HealthStatus) {
			for _, s := range r.BackendServers.BackendServer {
				j.addr(s.ServerIp)
			}
		}),
	single(describeAccessList, func(f *Facts) *[]AccessList { return &f.AccessLists },
		func(r *AccessList) *string { return &r.AclId },
		func(j *judge, r *AccessList) {
			for _, e := range r.AclEntrys.AclEntry {
				j.prefix(e.AclEntryIP)
			}
		}),
	single(describeALBListener, func(f *Facts) *[]ZonedListenerAttribute { return &f.ALB.ListenerAttributes },
		func(r *ZonedListenerAttribute) *string { return &r.ListenerId }, func(*judge, *ZonedListenerAttribute) {}).both(),
	single(describeALBAccessList, func(f *Facts) *[]ZonedAccessList { return &f.ALB.AccessLists },
		func(r *ZonedAccessList) *string { return &r.AclId },
		func(j *judge, r *ZonedAccessList) {
			for _, e := range r.AclEntries {
				j.prefix(e.Entry)
			}
		}),
}, zoned("nlb.", func(f *Facts) *Balancers { return &f.NLB })...),
	zoned("alb.", func(f *Facts) *Balancers { return &f.ALB })...)

// zoned are the actions of NLB and ALB, which have the same names.
func zoned(product string, of func(*Facts) *Balancers) []action {
	return []action{
		listed(product+"ListLoadBalancers",
			func(r *struct{ LoadBalancers []ZonedLoadBalancer }) *[]ZonedLoadBalancer { return &r.LoadBalancers },
			func(f *Facts) *[]ZonedLoadBalancer { return &of(f).LoadBalancers }, judgeZoned).both().total(),
		single(product+"GetLoadBalancerAttribute",
			func(f *Facts) *[]ZonedLoadBalancer { return &of(f).Attributes },
			func(r *ZonedLoadBalancer) *string { return &r.LoadBalancerId }, judgeZoned).both(),
		listed(product+"ListListeners",
			func(r *struct{ Listeners []ZonedListener }) *[]ZonedListener { return &r.Listeners },
			func(f *Facts) *[]ZonedListener { return &of(f).Listeners },
			func(j *judge, l *ZonedListener) { j.within(l.ListenerPort, 0, 65535, "a port") }).both().total(),
		listed(product+"ListServerGroups",
			func(r *struct{ ServerGroups []ZonedServerGroup }) *[]ZonedServerGroup { return &r.ServerGroups },
			func(f *Facts) *[]ZonedServerGroup { return &of(f).ServerGroups }, func(*judge, *ZonedServerGroup) {}).both().total(),
		listed(product+"ListServerGroupServers",
			func(r *struct{ Servers []ZonedServer }) *[]ZonedServer { return &r.Servers },
			func(f *Facts) *[]ZonedServer { return &of(f).Servers },
			func(j *judge, s *ZonedServer) { j.addr(s.ServerIp); j.within(s.Port, 0, 65535, "a port") }).both(),
		listed(product+"GetListenerHealthStatus",
			func(r *struct{ ListenerHealthStatus []ZonedHealthStatus }) *[]ZonedHealthStatus {
				return &r.ListenerHealthStatus
			},
			func(f *Facts) *[]ZonedHealthStatus { return &of(f).Health }, func(*judge, *ZonedHealthStatus) {}).both(),
	}
}

func judgeInstance(j *judge, i *Instance) {
	j.addr(i.PublicIpAddress.IpAddress...)
	j.addr(i.EipAddress.IpAddress)
	j.addr(i.VpcAttributes.PrivateIpAddress.IpAddress...)
}

func judgeInterface(j *judge, n *NetworkInterface) {
	j.mac(n.MacAddress)
	j.addr(n.PrivateIpAddress, n.AssociatedPublicIp.PublicIpAddress)
	for _, ip := range n.PrivateIpSets.PrivateIpSet {
		j.addr(ip.PrivateIpAddress, ip.AssociatedPublicIp.PublicIpAddress)
	}
	for _, ip := range n.Ipv6Sets.Ipv6Set {
		j.addr(ip.Ipv6Address)
	}
	for _, p := range n.Ipv4PrefixSets.Ipv4PrefixSet {
		j.prefix(p.Ipv4Prefix)
	}
	for _, p := range n.Ipv6PrefixSets.Ipv6PrefixSet {
		j.prefix(p.Ipv6Prefix)
	}
}

func judgeGroupRules(j *judge, r *SecurityGroupAttribute) {
	for i := range r.Permissions.Permission {
		p := &r.Permissions.Permission[i]
		j.within(p.Priority, 1, 100, "a priority")
		j.prefix(p.SourceCidrIp, p.Ipv6SourceCidrIp, p.DestCidrIp, p.Ipv6DestCidrIp)
		j.ports(p.PortRange)
		j.ports(p.SourcePortRange)
	}
}

func judgeNetworkACL(j *judge, a *NetworkACL) {
	for _, list := range [][]NetworkACLEntry{a.IngressAclEntries.IngressAclEntry, a.EgressAclEntries.EgressAclEntry} {
		for _, e := range list {
			j.prefix(e.SourceCidrIp, e.DestinationCidrIp)
			j.ports(e.Port)
		}
	}
}

func judgeServers(j *judge, list []BackendServer) {
	for _, s := range list {
		j.addr(s.ServerIp)
		j.within(s.Port, 0, 65535, "a port")
		j.within(s.Weight, 0, 100, "a weight")
	}
}

func judgeZoned(j *judge, b *ZonedLoadBalancer) {
	for _, z := range b.ZoneMappings {
		for _, a := range z.LoadBalancerAddresses {
			j.addr(a.PrivateIPv4Address, a.PublicIPv4Address, a.Address, a.IntranetAddress, a.Ipv6Address)
		}
	}
}

// snatIPs are the public addresses of an entry.
func snatIPs(e *SNATEntry) []string {
	var list []string
	for s := range strings.SplitSeq(e.SnatIp, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}
