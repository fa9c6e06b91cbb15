// Package alibaba holds what is known of a network on Alibaba Cloud, and what the
// cloud makes of a packet: security groups, network ACLs, VPC routes, NAT
// gateways and EIPs, load balancers.
//
// The facts are responses of the OpenAPI, of which the fields that decide
// something are kept, under their names there: what names an account, an owner
// or a key has no place in them. Decode reads them, Files writes them. Compile
// indexes them for the walk.
//
// Read it in the order of a packet: interface.go (whose it is), securitygroup.go
// and networkacl.go (what lets it out), route.go, nat.go and balancer.go (where it
// goes), carry.go (all of it).
package alibaba

import (
	"maps"
	"net/netip"
	"strings"
)

// Facts is what was read of a cloud. The zero value is a cloud of which nothing
// was read.
type Facts struct {
	Instances      []Instance
	Interfaces     []NetworkInterface
	Groups         []SecurityGroup
	GroupRules     []SecurityGroupAttribute
	PrefixLists    []PrefixList
	VPCs           []VPC
	VSwitches      []VSwitch
	RouteTables    []RouteTable
	RouteEntries   []RouteEntry
	NATGateways    []NATGateway
	SNATEntries    []SNATEntry
	ForwardEntries []ForwardEntry
	EIPs           []EIP
	NetworkACLs    []NetworkACL
	HaVips         []HaVip
	IPv6Addresses  []IPv6Address
	EgressOnly     []EgressOnlyRule
	LoadBalancers  []LoadBalancer
	Attributes     []LoadBalancerAttribute
	Listeners      []Listener
	ServerGroups   []VServerGroup
	Health         []HealthStatus
	AccessLists    []AccessList
	NLB, ALB       Balancers

	// Read are the actions that were read, and Failed those that failed, or of which
	// a part is missing, with the reason: "ecs.DescribeInstances".
	Read   map[string]bool
	Failed map[string]string

	// Pages is how much of each action there is.
	Pages map[string]PageCount
}

// Empty says whether nothing was read, nor tried.
func (f *Facts) Empty() bool { return f == nil || len(f.Read)+len(f.Failed) == 0 }

// Merge puts facts together that are about different resources. What failed is added
// to what they say.
func Merge(parts []*Facts, failed map[string]string) *Facts {
	all := &Facts{Read: map[string]bool{}, Failed: map[string]string{}}
	for _, part := range parts {
		for i := range actions {
			if actions[i].name != describeNetworkACLs { // which has those of another
				actions[i].merge(all, part)
			}
		}
		maps.Copy(all.Read, part.Read)
	}
	maps.Copy(all.Failed, failed)
	return all
}

// Instance is an ECS instance (DescribeInstances).
type Instance struct {
	InstanceId     string
	InstanceName   string
	Status         string // Pending, Running, Starting, Stopping, Stopped
	OperationLocks struct {
		LockReason []struct{ LockReason string } // financial, security, Recycling, dedicatedhostfinancial
	}
	PublicIpAddress struct{ IpAddress []string }
	EipAddress      struct{ IpAddress, AllocationId string }
	VpcAttributes   struct {
		VpcId, VSwitchId string
		PrivateIpAddress struct{ IpAddress []string }
	}
}

// NetworkInterface is an elastic network interface (DescribeNetworkInterfaces).
type NetworkInterface struct {
	NetworkInterfaceId string
	Type               string // Primary, Secondary, Trunk, Member
	Status             string // Available, Attaching, InUse, Detaching, Deleting, Linked, …
	InstanceId         string
	VpcId, VSwitchId   string
	MacAddress         string
	PrivateIpAddress   string
	SourceDestCheck    boolean
	SecurityGroupIds   struct{ SecurityGroupId []string }
	AssociatedPublicIp PublicIP
	Attachment         struct {
		InstanceId              string
		DeviceIndex             number // of a member: the VLAN on its trunk
		TrunkNetworkInterfaceId string
	}
	PrivateIpSets struct {
		PrivateIpSet []struct {
			PrivateIpAddress   string
			Primary            boolean
			AssociatedPublicIp PublicIP
		}
	}
	Ipv6Sets struct {
		Ipv6Set []struct{ Ipv6Address string }
	}
	Ipv4PrefixSets struct{ Ipv4PrefixSet []struct{ Ipv4Prefix string } }
	Ipv6PrefixSets struct{ Ipv6PrefixSet []struct{ Ipv6Prefix string } }
}

// PublicIP is one that is bound to a private one.
type PublicIP struct{ PublicIpAddress, AllocationId string }

// SecurityGroup is one of DescribeSecurityGroups, which alone tells its type.
type SecurityGroup struct {
	SecurityGroupId   string
	SecurityGroupName string
	SecurityGroupType string // normal, enterprise
	VpcId             string
}

// SecurityGroupAttribute is what DescribeSecurityGroupAttribute says of a group.
type SecurityGroupAttribute struct {
	SecurityGroupId   string
	VpcId             string
	InnerAccessPolicy string // Accept, Drop
	Permissions       struct{ Permission []Permission }
}

// Permission is a rule of a security group.
type Permission struct {
	SecurityGroupRuleId string
	Direction           string // ingress, egress
	Policy              string // Accept, Drop
	Priority            number // 1 to 100, 1 first
	IpProtocol          string // TCP, UDP, ICMP, ICMPv6, GRE, ALL, or a number
	PortRange           string // of the destination, "80/80"; "-1/-1": all
	SourcePortRange     string
	// Port lists, in place of ranges.
	PortRangeListId       string `json:",omitempty"`
	SourcePortRangeListId string `json:",omitempty"`
	NicType               string // intranet in a VPC
	SourceCidrIp          string
	Ipv6SourceCidrIp      string
	SourceGroupId         string
	SourcePrefixListId    string
	DestCidrIp            string
	Ipv6DestCidrIp        string
	DestGroupId           string
	DestPrefixListId      string
}

// PrefixList is one of DescribePrefixListAttributes.
type PrefixList struct {
	PrefixListId  string
	AddressFamily string // IPv4, IPv6
	Entries       struct{ Entry []struct{ Cidr string } }
}

// VPC is one of DescribeVpcs.
type VPC struct {
	VpcId               string
	CidrBlock           string
	Ipv6CidrBlock       string
	SecondaryCidrBlocks struct{ SecondaryCidrBlock []string }
	UserCidrs           struct{ UserCidr []string }
}

// VSwitch is one of DescribeVSwitches.
type VSwitch struct {
	VSwitchId     string
	VpcId         string
	CidrBlock     string
	Ipv6CidrBlock string
	NetworkAclId  string
	RouteTable    struct{ RouteTableId string }
}

// RouteTable is one of DescribeRouteTableList.
type RouteTable struct {
	RouteTableId   string
	RouteTableType string // System, Custom
	AssociateType  string // VSwitch, Gateway
	Status         string // Pending, Available
	VpcId          string
	VSwitchIds     struct{ VSwitchId []string }
	GatewayIds     struct{ GatewayIds []string }
}

// RouteEntry is one of DescribeRouteEntryList.
type RouteEntry struct {
	RouteEntryId         string
	RouteTableId         string
	DestinationCidrBlock string
	Type                 string // System, Custom, BGP, CEN, ECR
	Status               string // Pending, Available, Modifying
	NextHops             struct{ NextHop []NextHop }
}

// NextHop is where a route entry leads.
type NextHop struct {
	NextHopType string // local, service, Instance, NetworkInterface, HaVip, NatGateway, VpcPeer, …
	NextHopId   string
	Enabled     *number // 0, 1; absent where there is one next hop
	Weight      number
}

// NATGateway is one of DescribeNatGateways.
type NATGateway struct {
	NatGatewayId    string
	Status          string // Creating, Available, Modifying, Deleting, Converting
	BusinessStatus  string // Normal, FinancialLocked, SecurityLocked
	NetworkType     string // internet, intranet
	VpcId           string
	ForwardTableIds struct{ ForwardTableId []string }
	SnatTableIds    struct{ SnatTableId []string }
	// NatGatewayPrivateInfo names the vSwitch that the gateway stands in.
	NatGatewayPrivateInfo struct{ VswitchId string }
	IpLists               struct {
		IpList []struct{ IpAddress, PrivateIpAddress, AllocationId, UsingStatus string }
	}
}

// SNATEntry is one of DescribeSnatTableEntries.
type SNATEntry struct {
	SnatEntryId     string
	SnatTableId     string
	NatGatewayId    string
	Status          string // Pending, Available, Modifying, Deleting
	SourceCIDR      string
	SourceVSwitchId string
	SnatIp          string // one, or several with commas
}

// ForwardEntry is one of DescribeForwardTableEntries: DNAT.
type ForwardEntry struct {
	ForwardEntryId string
	ForwardTableId string
	NatGatewayId   string
	Status         string // Pending, Available, Modifying, Deleting
	IpProtocol     string // TCP, UDP, Any
	ExternalIp     string
	ExternalPort   string // a port, a range with a slash, any
	InternalIp     string
	InternalPort   string
}

// EIP is one of DescribeEipAddresses.
type EIP struct {
	AllocationId     string
	IpAddress        string
	PrivateIpAddress string
	Status           string // Associating, Unassociating, InUse, Available, Releasing
	BusinessStatus   string // Normal, FinancialLocked
	InstanceId       string
	InstanceType     string // Nat, SlbInstance, EcsInstance, NetworkInterface, HaVip, IpAddress
	Mode             string // NAT, MULTI_BINDED, BINDED
	Bandwidth        string
	OperationLocks   struct {
		LockReason []struct{ LockReason string } // financial, security
	}
}

// HaVip is a private address that moves between instances, or interfaces
// (DescribeHaVips).
type HaVip struct {
	HaVipId             string
	IpAddress           string
	VpcId, VSwitchId    string
	MasterInstanceId    string // who has it now: an instance, or an interface
	AssociatedInstances struct {
		AssociatedInstance []string `json:"associatedInstance"`
	}
}

// IPv6Address is one of DescribeIpv6Addresses.
type IPv6Address struct {
	Ipv6AddressId         string
	Ipv6Address           string
	Ipv6GatewayId         string
	VpcId                 string
	Ipv6InternetBandwidth struct {
		Ipv6InternetBandwidthId string // empty: it is not on the Internet
		Bandwidth               number
		BusinessStatus          string // Normal, FinancialLocked, SecurityLocked
	}
}

// EgressOnlyRule is one of DescribeIpv6EgressOnlyRules.
type EgressOnlyRule struct {
	Ipv6EgressOnlyRuleId string
	InstanceId           string // of the IPv6 address
	InstanceType         string // Ipv6Address
	Status               string // Creating, Created, Deleting, …
}

// NetworkACL is one of DescribeNetworkAclAttributes, or of DescribeNetworkAcls.
type NetworkACL struct {
	NetworkAclId      string
	VpcId             string
	Status            string // Available, Modifying
	IngressAclEntries struct{ IngressAclEntry []NetworkACLEntry }
	EgressAclEntries  struct{ EgressAclEntry []NetworkACLEntry }
	Resources         struct {
		Resource []struct{ ResourceId, ResourceType, Status string }
	}
}

// NetworkACLEntry is a rule of a network ACL: they are in order.
type NetworkACLEntry struct {
	NetworkAclEntryId   string
	NetworkAclEntryName string
	EntryType           string // custom, system, service
	IpVersion           string // IPV4, IPV6
	Policy              string // accept, drop
	Protocol            string // tcp, udp, icmp, icmpv6, gre, all
	Port                string // of the destination
	SourceCidrIp        string
	DestinationCidrIp   string
}

// same says whether an enumeration of the API has a value: not all of its parts
// agree with their documentation on case.
func same(a, b string) bool { return strings.EqualFold(a, b) }

// addrOf reads an address that Decode has judged.
func addrOf(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

// prefixOf reads a CIDR block, or a single address, that Decode has judged.
func prefixOf(s string) netip.Prefix {
	p, _ := parsePrefix(s)
	return p
}

// parsePrefix reads a CIDR block; a single address is one of its own.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}
