package alibaba

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// What actions take of a list at most.
const (
	instancesAtOnce = 100 // InstanceIds
	addressesAtOnce = 100 // PrivateIpAddress
	balancersAtOnce = 10  // LoadBalancerId of CLB
	zonedAtOnce     = 20  // LoadBalancerIds of NLB and ALB
)

// walk reads everything once: what one call tells, decides what else is asked for.
// What does not depend on each other is asked for at the same time.
type walk struct {
	reader  *Reader
	ctx     context.Context
	running sync.WaitGroup

	mu      sync.Mutex
	nowhere bool            // none of the nodes was found
	told    map[string]bool // calls that were met; whether they are a part of the facts
}

// get is what a call tells, which becomes a part of the facts; nothing where that is
// not known.
func (w *walk) get(act action, about string, p parameters) *alibaba.Facts {
	return w.call(act, about, p, true)
}

// find is the same for what only tells what else to ask for.
func (w *walk) find(act action, p parameters) *alibaba.Facts { return w.call(act, "", p, false) }

func (w *walk) call(act action, about string, p parameters, told bool) *alibaba.Facts {
	key := act.name + "?" + p.text()
	w.mu.Lock()
	again := w.told[key]
	w.told[key] = again || told
	w.mu.Unlock()
	if f := w.reader.get(w.ctx, act, key, about, p); f != nil {
		return f
	}
	return &alibaba.Facts{}
}

// also does something at the same time as others.
func (w *walk) also(do func()) { w.running.Go(do) }

// all reads what there is about the nodes.
func (w *walk) all(nodes []Node) {
	vpcs := w.vpcs(nodes)
	if w.nowhere = len(vpcs) == 0; !w.nowhere {
		for _, vpc := range vpcs {
			w.vpc(vpc)
		}
		// These cannot be selected by VPC.
		w.also(func() { w.get(describeEIPs, "", nil) })
		w.also(func() { w.get(describeHaVips, "", nil) })
		// Those of the Internet are in no VPC, though their backends are.
		w.also(func() { w.balancers(w.get(describeBalancers, "", parameters{"AddressType": "internet"})) })
		w.zoned(&nlb, vpcs, func(f *alibaba.Facts) *alibaba.Balancers { return &f.NLB })
		w.zoned(&alb, vpcs, func(f *alibaba.Facts) *alibaba.Balancers { return &f.ALB })
	}
	w.running.Wait()
}

// vpcs finds those that the nodes are in.
func (w *walk) vpcs(nodes []Node) []string {
	var ids []string
	for _, n := range nodes {
		if n.Instance != "" {
			ids = append(ids, n.Instance)
		}
	}
	slices.Sort(ids)
	found := map[string]string{} // by instance
	for part := range slices.Chunk(slices.Compact(ids), instancesAtOnce) {
		list, _ := json.Marshal(part)
		for _, i := range w.find(describeInstances, parameters{"InstanceIds": string(list)}).Instances {
			found[i.InstanceId] = i.VpcAttributes.VpcId
		}
	}
	vpcs := slices.Collect(maps.Values(found))
	// Other VPCs may have the same addresses: the link-layer address tells whose it is.
	var addrs []string
	macs := map[netstack.MAC]bool{}
	for _, n := range nodes {
		if found[n.Instance] != "" {
			continue
		}
		for _, a := range n.Addrs {
			if a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				addrs = append(addrs, a.String())
			}
		}
		for _, m := range n.MACs {
			macs[m] = true
		}
	}
	slices.Sort(addrs)
	for part := range slices.Chunk(slices.Compact(addrs), addressesAtOnce) {
		for _, i := range w.find(describeInterfaces, parameters{}.repeated("PrivateIpAddress", part)).Interfaces {
			if mac, ok := netstack.ParseMAC(i.MacAddress); ok && macs[mac] {
				vpcs = append(vpcs, i.VpcId)
			}
		}
	}
	slices.Sort(vpcs)
	return slices.DeleteFunc(slices.Compact(vpcs), func(id string) bool { return id == "" })
}

// vpc reads what there is in a VPC.
func (w *walk) vpc(id string) {
	in := parameters{"VpcId": id}
	w.also(func() { w.get(describeVPCs, "", in) })
	w.also(func() { w.get(describeInstances, "", in) })
	w.also(func() {
		var groups []string
		for _, i := range w.get(describeInterfaces, "", in).Interfaces {
			groups = append(groups, i.SecurityGroupIds.SecurityGroupId...)
		}
		w.rules(groups)
	})
	w.also(func() {
		var gateways []string
		for _, a := range w.get(describeIPv6, "", in).IPv6Addresses {
			gateways = append(gateways, a.Ipv6GatewayId)
		}
		w.each(gateways, func(id string) { w.get(describeEgressOnly, "", parameters{"Ipv6GatewayId": id}) })
	})
	w.also(func() { w.get(describeGroups, "", in) })
	w.also(func() {
		var acls []string
		for _, v := range w.get(describeVSwitches, "", in).VSwitches {
			acls = append(acls, v.NetworkAclId)
		}
		w.each(acls, func(id string) { w.get(describeNetworkACL, "", parameters{"NetworkAclId": id}) })
	})
	w.also(func() {
		var tables []string
		for _, t := range w.get(describeRouteTables, "", in).RouteTables {
			tables = append(tables, t.RouteTableId)
		}
		w.each(tables, func(id string) { w.get(describeRouteEntries, "", parameters{"RouteTableId": id}) })
	})
	w.also(func() {
		var gateways []string
		for _, g := range w.get(describeNATGateways, "", in).NATGateways {
			gateways = append(gateways, g.NatGatewayId)
		}
		w.each(gateways, func(id string) { w.get(describeSNATEntries, "", parameters{"NatGatewayId": id}) })
		w.each(gateways, func(id string) { w.get(describeForwardEntries, "", parameters{"NatGatewayId": id}) })
	})
	w.also(func() {
		w.balancers(w.get(describeBalancers, "", parameters{"VpcId": id, "AddressType": "intranet"}))
	})
}

// rules reads those of the groups that interfaces or load balancers are in, and the
// prefix lists that they name.
func (w *walk) rules(groups []string) {
	w.each(groups, func(id string) {
		var lists []string
		for _, g := range w.get(describeGroupRules, "", parameters{"SecurityGroupId": id, "Direction": "all"}).GroupRules {
			for _, p := range g.Permissions.Permission {
				lists = append(lists, p.SourcePrefixListId, p.DestPrefixListId)
			}
		}
		w.each(lists, func(id string) { w.get(describePrefixList, "", parameters{"PrefixListId": id}) })
	})
}

// balancers reads what belongs to those of CLB.
func (w *walk) balancers(f *alibaba.Facts) {
	var ids []string
	for _, b := range f.LoadBalancers {
		ids = append(ids, b.LoadBalancerId)
	}
	w.each(ids, func(id string) { w.get(describeBalancer, "", parameters{"LoadBalancerId": id}) })
	// The answer does not say of which it is.
	w.each(ids, func(id string) { w.get(describeHealth, id, parameters{"LoadBalancerId": id}) })
	slices.Sort(ids)
	for part := range slices.Chunk(ids, balancersAtOnce) {
		w.also(func() {
			var groups, lists []string
			for _, l := range w.get(describeListeners, "", parameters{}.repeated("LoadBalancerId", part)).Listeners {
				groups = append(groups, l.VServerGroupId)
				lists = append(append(lists, l.AclId), l.AclIds...)
			}
			w.each(groups, func(id string) { w.get(describeServerGroup, "", parameters{"VServerGroupId": id}) })
			w.each(lists, func(id string) { w.get(describeAccessList, "", parameters{"AclId": id}) })
		})
	}
}

// zoned reads the load balancers of NLB, or of ALB, in VPCs.
func (w *walk) zoned(z *zoned, vpcs []string, of func(*alibaba.Facts) *alibaba.Balancers) {
	w.also(func() {
		var ids []string
		for _, b := range of(w.get(z.balancers, "", parameters{}.repeated("VpcIds", vpcs))).LoadBalancers {
			ids = append(ids, b.LoadBalancerId)
		}
		w.each(ids, func(id string) {
			for _, b := range of(w.get(z.balancer, "", parameters{"LoadBalancerId": id})).Attributes {
				w.rules(b.SecurityGroupIds)
			}
		})
		slices.Sort(ids)
		for part := range slices.Chunk(ids, zonedAtOnce) {
			w.also(func() {
				var listeners []string
				for _, l := range of(w.get(z.listeners, "", parameters{}.repeated("LoadBalancerIds", part))).Listeners {
					listeners = append(listeners, l.ListenerId)
				}
				w.each(listeners, func(id string) { w.get(z.health, "", parameters{"ListenerId": id}) })
				if z == &alb {
					w.each(listeners, w.albAccess)
				}
			})
		}
	})
	for _, vpc := range vpcs {
		w.also(func() {
			var groups []string
			for _, g := range of(w.get(z.groups, "", parameters{"VpcId": vpc})).ServerGroups {
				groups = append(groups, g.ServerGroupId)
			}
			w.each(groups, func(id string) { w.get(z.servers, "", parameters{"ServerGroupId": id}) })
		})
	}
}

// albAccess reads the access control of a listener of ALB.
func (w *walk) albAccess(listener string) {
	var lists []string
	for _, a := range w.get(describeALBListener, "", parameters{"ListenerId": listener}).ALB.ListenerAttributes {
		for _, r := range a.AclConfig.AclRelations {
			lists = append(lists, r.AclId)
		}
	}
	// The answer does not say of which list it is.
	w.each(lists, func(id string) { w.get(describeALBAccessList, id, parameters{"AclId": id}) })
}

// each does something for each of some resources, at the same time, and once.
func (w *walk) each(ids []string, do func(id string)) {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id != "" {
			w.also(func() { do(id) })
		}
	}
}
