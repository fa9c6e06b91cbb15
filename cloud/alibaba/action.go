package alibaba

import "slices"

// product is a part of the OpenAPI: it has a version, an endpoint and quotas.
type product struct {
	name    string
	version string
	// perSecond is how many requests are sent in a second at most: far below what the
	// API allows an account, which others use, too.
	perSecond float64
}

var products = map[string]product{
	"ecs": {"Ecs", "2014-05-26", 20},
	"vpc": {"Vpc", "2016-04-28", 20},
	"slb": {"Slb", "2014-05-15", 20},
	"nlb": {"Nlb", "2022-04-30", 10},
	"alb": {"Alb", "2020-06-16", 10},
}

// paging is how an action hands out a long list.
type paging uint8

const (
	whole     paging = iota // at once
	numbered                // PageNumber, PageSize, TotalCount
	tokens                  // NextToken, MaxResults
	tokensOne               // NextToken, MaxResult
	aclPages                // Page, PageSize, TotalAclEntry
)

// Kinds of facts, by how long they are good for.
type kind uint8

const (
	wiring  kind = iota // what changes seldom: VPCs, vSwitches, lists
	setting             // rules, routes, addresses, listeners
	health              // of backends
)

// action is one of the OpenAPI.
type action struct {
	name   string // with its product, as in the facts
	paging paging
	size   int // of pages: the most that the API allows
	kind   kind
	body   bool // parameters are in the body
}

var (
	describeInstances      = action{"ecs.DescribeInstances", tokens, 100, setting, false}
	describeInterfaces     = action{"ecs.DescribeNetworkInterfaces", tokens, 500, setting, false}
	describeGroups         = action{"ecs.DescribeSecurityGroups", tokens, 100, setting, false}
	describeGroupRules     = action{"ecs.DescribeSecurityGroupAttribute", tokens, 1000, setting, false}
	describePrefixList     = action{"ecs.DescribePrefixListAttributes", whole, 0, wiring, false}
	describeVPCs           = action{"vpc.DescribeVpcs", numbered, 50, wiring, false}
	describeVSwitches      = action{"vpc.DescribeVSwitches", numbered, 50, wiring, false}
	describeRouteTables    = action{"vpc.DescribeRouteTableList", numbered, 50, setting, false}
	describeRouteEntries   = action{"vpc.DescribeRouteEntryList", tokensOne, 100, setting, false}
	describeNATGateways    = action{"vpc.DescribeNatGateways", numbered, 50, setting, false}
	describeSNATEntries    = action{"vpc.DescribeSnatTableEntries", numbered, 50, setting, false}
	describeForwardEntries = action{"vpc.DescribeForwardTableEntries", numbered, 50, setting, false}
	describeEIPs           = action{"vpc.DescribeEipAddresses", numbered, 100, setting, false}
	describeNetworkACL     = action{"vpc.DescribeNetworkAclAttributes", whole, 0, setting, false}
	describeHaVips         = action{"vpc.DescribeHaVips", numbered, 50, setting, false}
	describeIPv6           = action{"vpc.DescribeIpv6Addresses", numbered, 50, setting, false}
	describeEgressOnly     = action{"vpc.DescribeIpv6EgressOnlyRules", numbered, 50, setting, false}
	describeBalancers      = action{"slb.DescribeLoadBalancers", numbered, 100, setting, false}
	describeBalancer       = action{"slb.DescribeLoadBalancerAttribute", whole, 0, setting, false}
	describeListeners      = action{"slb.DescribeLoadBalancerListeners", tokens, 100, setting, false}
	describeServerGroup    = action{"slb.DescribeVServerGroupAttribute", whole, 0, setting, false}
	describeHealth         = action{"slb.DescribeHealthStatus", whole, 0, health, false}
	describeAccessList     = action{"slb.DescribeAccessControlListAttribute", aclPages, 50, setting, false}
	describeALBListener    = action{"alb.GetListenerAttribute", whole, 0, setting, false}
	describeALBAccessList  = action{"alb.ListAclEntries", tokens, 100, setting, false}
)

// zoned are the actions of NLB, or of ALB.
type zoned struct {
	product                                                 string
	balancers, balancer, listeners, groups, servers, health action
}

func zonedActions(product string, body bool) zoned {
	return zoned{
		product:   product,
		balancers: action{product + ".ListLoadBalancers", tokens, 100, setting, false},
		balancer:  action{product + ".GetLoadBalancerAttribute", whole, 0, setting, false},
		listeners: action{product + ".ListListeners", tokens, 100, setting, false},
		groups:    action{product + ".ListServerGroups", tokens, 100, setting, body},
		servers:   action{product + ".ListServerGroupServers", tokens, 100, setting, body},
		health:    action{product + ".GetListenerHealthStatus", tokens, 100, health, false},
	}
}

var (
	nlb = zonedActions("nlb", true)
	alb = zonedActions("alb", false)
)

func (z *zoned) all() []action {
	return []action{z.balancers, z.balancer, z.listeners, z.groups, z.servers, z.health}
}

// actions are all that are called.
func actions() []action {
	return slices.Concat([]action{
		describeInstances, describeInterfaces, describeGroups, describeGroupRules, describePrefixList,
		describeVPCs, describeVSwitches, describeRouteTables, describeRouteEntries,
		describeNATGateways, describeSNATEntries, describeForwardEntries, describeEIPs, describeNetworkACL,
		describeHaVips, describeIPv6, describeEgressOnly,
		describeBalancers, describeBalancer, describeListeners, describeServerGroup, describeHealth, describeAccessList,
		describeALBListener, describeALBAccessList,
	}, nlb.all(), alb.all())
}

// Actions names all actions that a Reader calls, as in "ecs.DescribeInstances".
func Actions() []string {
	var names []string
	for _, a := range actions() {
		names = append(names, a.name)
	}
	return names
}
