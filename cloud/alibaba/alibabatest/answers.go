package alibabatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// answerer is how an action answers from the resources.
type answerer struct {
	items func(*alibaba.Facts) any // a list of resources
	at    string                   // where they stand in the answer; empty where one resource is all of it
	// filters are parameters that select, with the field that they are compared with;
	// "-" for those that select nothing here.
	filters map[string]string
	// inside is the list of a single resource that has pages.
	inside string
	limit  int // of a page
	page   string
}

// Styles of paging.
const (
	byNumber = "PageNumber"
	byToken  = "MaxResults"
	byTokenN = "MaxResult" // DescribeRouteEntryList
	byPage   = "Page"      // DescribeAccessControlListAttribute
)

type facts = alibaba.Facts

func answerers() map[string]answerer {
	all := map[string]answerer{
		"ecs.DescribeInstances": {
			func(f *facts) any { return f.Instances }, "Instances.Instance",
			map[string]string{"InstanceIds": "InstanceId", "VpcId": "VpcAttributes.VpcId"},
			"", 100, byToken,
		},
		"ecs.DescribeNetworkInterfaces": {
			func(f *facts) any { return f.Interfaces }, "NetworkInterfaceSets.NetworkInterfaceSet",
			map[string]string{"PrivateIpAddress[]": "PrivateIpAddress", "VpcId": "VpcId"},
			"", 500, byToken,
		},
		"ecs.DescribeSecurityGroups": {
			func(f *facts) any { return f.Groups }, "SecurityGroups.SecurityGroup",
			map[string]string{"VpcId": "VpcId"},
			"", 100, byToken,
		},
		"ecs.DescribeSecurityGroupAttribute": {
			func(f *facts) any { return f.GroupRules }, "",
			map[string]string{"SecurityGroupId": "SecurityGroupId", "Direction": "-"},
			"Permissions.Permission", 1000, byToken,
		},
		"ecs.DescribePrefixListAttributes": {
			func(f *facts) any { return f.PrefixLists }, "", map[string]string{"PrefixListId": "PrefixListId"}, "", 0, "",
		},
		"vpc.DescribeVpcs": {
			func(f *facts) any { return f.VPCs }, "Vpcs.Vpc", map[string]string{"VpcId": "VpcId"}, "", 50, byNumber,
		},
		"vpc.DescribeVSwitches": {
			func(f *facts) any { return f.VSwitches }, "VSwitches.VSwitch", map[string]string{"VpcId": "VpcId"}, "", 50, byNumber,
		},
		"vpc.DescribeRouteTableList": {
			func(f *facts) any { return f.RouteTables }, "RouterTableList.RouterTableListType", map[string]string{"VpcId": "VpcId"}, "", 50, byNumber,
		},
		"vpc.DescribeRouteEntryList": {
			func(f *facts) any { return f.RouteEntries }, "RouteEntrys.RouteEntry", map[string]string{"RouteTableId": "RouteTableId"}, "", 100, byTokenN,
		},
		"vpc.DescribeNatGateways": {
			func(f *facts) any { return f.NATGateways }, "NatGateways.NatGateway", map[string]string{"VpcId": "VpcId"}, "", 50, byNumber,
		},
		"vpc.DescribeSnatTableEntries": {
			func(f *facts) any { return f.SNATEntries }, "SnatTableEntries.SnatTableEntry", map[string]string{"NatGatewayId": "NatGatewayId"}, "", 50, byNumber,
		},
		"vpc.DescribeForwardTableEntries": {
			func(f *facts) any { return f.ForwardEntries }, "ForwardTableEntries.ForwardTableEntry", map[string]string{"NatGatewayId": "NatGatewayId"}, "", 50, byNumber,
		},
		"vpc.DescribeEipAddresses": {
			func(f *facts) any { return f.EIPs }, "EipAddresses.EipAddress", nil, "", 100, byNumber,
		},
		"vpc.DescribeNetworkAclAttributes": {
			func(f *facts) any { return f.NetworkACLs }, "NetworkAclAttribute", map[string]string{"NetworkAclId": "NetworkAclId"}, "", 0, "",
		},
		"vpc.DescribeHaVips": {
			func(f *facts) any { return f.HaVips }, "HaVips.HaVip", nil, "", 50, byNumber,
		},
		"vpc.DescribeIpv6Addresses": {
			func(f *facts) any { return f.IPv6Addresses }, "Ipv6Addresses.Ipv6Address", map[string]string{"VpcId": "VpcId"}, "", 50, byNumber,
		},
		"vpc.DescribeIpv6EgressOnlyRules": {
			// Rules do not name their gateway: there is one.
			func(f *facts) any { return f.EgressOnly }, "Ipv6EgressOnlyRules.Ipv6EgressOnlyRule", map[string]string{"Ipv6GatewayId": "-"}, "", 50, byNumber,
		},
		"alb.GetListenerAttribute": {
			func(f *facts) any { return f.ALB.ListenerAttributes }, "", map[string]string{"ListenerId": "ListenerId"}, "", 0, "",
		},
		"alb.ListAclEntries": {
			func(f *facts) any { return f.ALB.AccessLists }, "", map[string]string{"AclId": "AclId"}, "AclEntries", 100, byToken,
		},
		"slb.DescribeLoadBalancers": {
			func(f *facts) any { return f.LoadBalancers }, "LoadBalancers.LoadBalancer",
			map[string]string{"VpcId": "VpcId", "AddressType": "AddressType"},
			"", 100, byNumber,
		},
		"slb.DescribeLoadBalancerAttribute": {
			func(f *facts) any { return f.Attributes }, "", map[string]string{"LoadBalancerId": "LoadBalancerId"}, "", 0, "",
		},
		"slb.DescribeLoadBalancerListeners": {
			func(f *facts) any { return f.Listeners }, "Listeners", map[string]string{"LoadBalancerId[]": "LoadBalancerId"}, "", 100, byToken,
		},
		"slb.DescribeVServerGroupAttribute": {
			func(f *facts) any { return f.ServerGroups }, "", map[string]string{"VServerGroupId": "VServerGroupId"}, "", 0, "",
		},
		"slb.DescribeHealthStatus": {
			func(f *facts) any { return f.Health }, "", map[string]string{"LoadBalancerId": "LoadBalancerId"}, "", 0, "",
		},
		"slb.DescribeAccessControlListAttribute": {
			func(f *facts) any { return f.AccessLists }, "", map[string]string{"AclId": "AclId"}, "AclEntrys.AclEntry", 50, byPage,
		},
	}
	for product, of := range map[string]func(*facts) *alibaba.Balancers{
		"nlb": func(f *facts) *alibaba.Balancers { return &f.NLB }, "alb": func(f *facts) *alibaba.Balancers { return &f.ALB },
	} {
		all[product+".ListLoadBalancers"] = answerer{
			func(f *facts) any { return of(f).LoadBalancers }, "LoadBalancers", map[string]string{"VpcIds[]": "VpcId"}, "", 100, byToken,
		}
		all[product+".GetLoadBalancerAttribute"] = answerer{
			func(f *facts) any { return of(f).Attributes }, "", map[string]string{"LoadBalancerId": "LoadBalancerId"}, "", 0, "",
		}
		all[product+".ListListeners"] = answerer{
			func(f *facts) any { return of(f).Listeners }, "Listeners", map[string]string{"LoadBalancerIds[]": "LoadBalancerId"}, "", 100, byToken,
		}
		all[product+".ListServerGroups"] = answerer{
			// Facts do not have the VPC of a group: all of them are in the one.
			func(f *facts) any { return of(f).ServerGroups }, "ServerGroups", map[string]string{"VpcId": "-"}, "", 100, byToken,
		}
		all[product+".ListServerGroupServers"] = answerer{
			func(f *facts) any { return of(f).Servers }, "Servers", map[string]string{"ServerGroupId": "ServerGroupId"}, "", 100, byToken,
		}
		all[product+".GetListenerHealthStatus"] = answerer{
			func(f *facts) any { return of(f).Health }, "ListenerHealthStatus", map[string]string{"ListenerId": "ListenerId"}, "", 100, byToken,
		}
	}
	return all
}

// problem is an answer that is an error.
type problem struct {
	status        int
	code, message string
}

// answer makes the answer of an action. It names what the test does wrong.
func (a *answerer) answer(name string, op *operation, f *alibaba.Facts, given map[string]string) (map[string]any, *problem, []string) {
	var bad []string
	items := a.items(f)
	if a.at == "" {
		for parameter, field := range a.filters {
			if field != "-" {
				items = only(items, field, given[parameter])
			}
		}
	}
	list := plain(items).([]any)
	list = slices.DeleteFunc(list, func(item any) bool {
		for parameter, path := range a.filters {
			if wanted := wantedOf(given, parameter); path != "-" && len(wanted) > 0 && !slices.ContainsFunc(values(item, path), func(s string) bool { return slices.Contains(wanted, s) }) {
				return true
			}
		}
		return false
	})
	out := map[string]any{"RequestId": "8B0B2F4D-26B8-4E0F-8F3D-" + Marker}
	for field, value := range map[string]any{"Success": true, "Code": "200", "HttpStatusCode": 200.0, "Message": ""} {
		if op.response.fields[field] != nil {
			out[field] = value
		}
	}
	single := a.at == "" || name == "vpc.DescribeNetworkAclAttributes"
	if single && len(list) == 0 {
		return nil, &problem{http.StatusNotFound, "InvalidResource.NotFound", "The specified resource does not exist."}, nil
	}
	counted := list
	if single {
		one := list[0].(map[string]any)
		if name == "slb.DescribeHealthStatus" {
			delete(one, "LoadBalancerId") // which is added to facts
		}
		if name == "alb.ListAclEntries" {
			delete(one, "AclId")
		}
		if a.at == "" {
			for field, value := range one {
				out[field] = value
			}
		} else {
			out[a.at] = one
		}
		if a.inside != "" {
			counted = at(one, a.inside).([]any)
		}
	}
	paged, problem := a.cut(out, op, counted, given)
	if problem != nil {
		return nil, problem, nil
	}
	switch {
	case !single:
		put(out, a.at, paged)
	case a.inside != "":
		put(out, a.inside, paged)
	}
	rendered := op.response.render(out, name, &bad).(map[string]any)
	return rendered, nil, bad
}

// cut takes the page that is asked for, and says in the answer which it is.
func (a *answerer) cut(out map[string]any, op *operation, list []any, given map[string]string) ([]any, *problem) {
	say := func(field string, value any) {
		if f := op.response.fields[field]; f != nil {
			if n, ok := value.(int); ok {
				value = float64(n)
			}
			out[field] = value
		}
	}
	number := func(name string, otherwise, most int) (int, *problem) {
		text, ok := given[name]
		if !ok {
			return otherwise, nil
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return 0, &problem{http.StatusBadRequest, "InvalidParameter", fmt.Sprintf("The specified parameter %q is not valid.", name)}
		}
		return n, nil
	}
	switch a.page {
	case byNumber, byPage:
		size, bad := number("PageSize", 10, a.limit)
		if bad != nil {
			return nil, bad
		}
		page, bad := number(a.page, 1, 1<<20)
		if bad != nil {
			return nil, bad
		}
		say("TotalCount", len(list))
		say("TotalAclEntry", len(list))
		say("PageNumber", page)
		say("PageSize", size)
		return list[min((page-1)*size, len(list)):min(page*size, len(list))], nil
	case byToken, byTokenN:
		size, bad := number(a.page, 20, a.limit)
		if bad != nil {
			return nil, bad
		}
		from := 0
		if token := given["NextToken"]; token != "" {
			n, err := strconv.Atoi(strings.TrimPrefix(token, "next-"))
			if err != nil || n > len(list) {
				return nil, &problem{http.StatusBadRequest, "InvalidNextToken", "The specified NextToken is invalid."}
			}
			from = n
		}
		to := min(from+size, len(list))
		// Of ECS it counts nothing with NextToken and MaxResults.
		say("TotalCount", len(list))
		say("MaxResults", size)
		say("NextToken", "")
		say("PageNumber", 0)
		say("PageSize", 0)
		if to < len(list) {
			say("NextToken", fmt.Sprintf("next-%d", to))
		}
		return list[from:to], nil
	}
	return list, nil
}

// only are the items that have a value in a field: in a large cloud, others cost time.
func only(items any, field, value string) any {
	all := reflect.ValueOf(items)
	some := reflect.MakeSlice(all.Type(), 0, 1)
	for i := range all.Len() {
		if all.Index(i).FieldByName(field).String() == value {
			some = reflect.Append(some, all.Index(i))
		}
	}
	return some.Interface()
}

// plain is a value as JSON has it.
func plain(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	if out == nil {
		return []any{}
	}
	return out
}

// wantedOf are the values of a parameter: of a list, of a JSON list, or one.
func wantedOf(given map[string]string, parameter string) []string {
	name, list := strings.CutSuffix(parameter, "[]")
	if !list {
		value, ok := given[name]
		var many []string
		switch {
		case !ok:
			return nil
		case json.Unmarshal([]byte(value), &many) == nil:
			return many
		}
		return []string{value}
	}
	var many []string
	for i := 1; ; i++ {
		value, ok := given[name+"."+strconv.Itoa(i)]
		if !ok {
			return many
		}
		many = append(many, value)
	}
}

// at is what stands at a path.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	if v == nil {
		return []any{}
	}
	return v
}

func values(v any, path string) []string {
	s, _ := at(v, path).(string)
	return []string{s}
}

// put sets what stands at a path.
func put(m map[string]any, path string, v any) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := m[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[name] = inner
		}
		m = inner
	}
	m[names[len(names)-1]] = v
}
