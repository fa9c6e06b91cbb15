package fib

import (
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const missingObject = "a nexthop object that was not collected"

// hops are the next hops of a route, those of its nexthop object if it has one.
func (f *FIB) hops(r *netstack.Route) (hops []netstack.NextHop, blackhole bool, unknown string) {
	if r.NextHopID == 0 {
		return r.NextHops, false, ""
	}
	object := f.objects[r.NextHopID]
	switch {
	case object == nil && len(r.NextHops) > 0:
		return r.NextHops, false, "" // what the kernel printed in place of it
	case object == nil:
		return nil, false, missingObject
	case object.Blackhole:
		return nil, true, ""
	case len(object.Group) == 0:
		hop := object.NextHop
		hop.Weight = max(hop.Weight, 1)
		return []netstack.NextHop{hop}, false, ""
	}
	for _, member := range object.Group {
		single := f.objects[member.ID]
		if single == nil {
			return nil, false, missingObject
		}
		if single.Blackhole {
			return nil, true, "" // the only one of its group
		}
		hop := single.NextHop
		hop.Weight = max(member.Weight, 1)
		hops = append(hops, hop)
	}
	return hops, false, ""
}

// useIPv4 says whether the route serves the query, and with which next hops:
// the end of fib_table_lookup.
func (f *FIB) useIPv4(r *netstack.Route, q *query) (Result, bool) {
	hops, blackhole, unknown := f.hops(r)
	switch {
	case unknown != "":
		return Result{Type: r.Type, Route: r, Unknown: unknown}, true
	case blackhole:
		return Result{Type: netstack.RouteBlackhole, Route: r}, true
	case r.Type.Dropping():
		return Result{Type: r.Type, Route: r}, true
	}
	usable := f.usableHops(0, hops, q.OIF)
	if len(usable) == 0 {
		return Result{}, false
	}
	if f.ownGateway[r] {
		return Result{Type: r.Type, Route: r, Unknown: "whether its gateway, an address of this host, was one when the route was made"}, true
	}
	return Result{Type: r.Type, Route: r, NextHops: usable, all: hops}, true
}

// findOwnGateways notes the IPv4 routes whose gateway is an address of this host.
// If it was one when the route was made, the kernel sends to the destination itself
// (fib_check_nh, rt_set_nexthop); nothing shows whether it was.
func (f *FIB) findOwnGateways() {
	type asked struct {
		table   uint32
		dev     string
		gateway netip.Addr
	}
	known := make(map[asked]bool)
	for i := range f.ns.Routes {
		r := &f.ns.Routes[i]
		if r.Family != netstack.IPv4 || r.Cached {
			continue
		}
		table := r.Table
		if r.NextHopID != 0 {
			table = netstack.TableMain
		}
		hops, _, _ := f.hops(r)
		for _, h := range hops {
			if !h.Gateway.Is4() || h.Onlink {
				continue
			}
			key := asked{table, h.Dev, h.Gateway}
			own, seen := known[key]
			if !seen {
				own = f.isOwn(h.Gateway, h.Dev, table)
				known[key] = own
			}
			if own {
				if f.ownGateway == nil {
					f.ownGateway = make(map[*netstack.Route]bool)
				}
				f.ownGateway[r] = true
			}
		}
	}
}

// isOwn is the look-up of fib_check_nh_v4_gw: in the route's own table first.
func (f *FIB) isOwn(gateway netip.Addr, dev string, table uint32) bool {
	q := query{Key: &Key{Dst: gateway, OIF: dev}, dst: keyOf(gateway), scope: netstack.ScopeLink}
	var res Result
	if table != netstack.TableMain {
		res = f.lookupTable(0, table, &q)
	}
	if res.Route == nil || res.Type.Dropping() {
		res = f.find(0, &q)
	}
	return res.Type == netstack.RouteLocal
}

// usableHops leaves out what is dead or, where that is ignored, has no carrier.
func (f *FIB) usableHops(at int, hops []netstack.NextHop, oif string) []netstack.NextHop {
	serves := func(h *netstack.NextHop) bool {
		return !h.Dead && !(h.Linkdown && f.linkdown[at][h.Dev]) && (oif == "" || at == 1 || h.Dev == oif)
	}
	for i := range hops {
		if serves(&hops[i]) {
			continue
		}
		usable := slices.Clone(hops[:i])
		for j := i + 1; j < len(hops); j++ {
			if serves(&hops[j]) {
				usable = append(usable, hops[j])
			}
		}
		return usable
	}
	return hops
}

// selectIPv6Route is find_rr_leaf and fib6_select_path: the routes of the
// lowest metric first; when none of them serves, the best of all others.
func (f *FIB) selectIPv6Route(routes []*netstack.Route, q *query, reachable bool) (Result, bool) {
	if q.byDevice {
		return f.matchDevice(routes, q)
	}
	n := 1
	for n < len(routes) && routes[n].Metric == routes[0].Metric {
		n++
	}
	if res, ok := f.bestIPv6(routes[:n], q, reachable); ok {
		return res, true
	}
	if n == len(routes) {
		return Result{}, false
	}
	return f.bestIPv6(routes[n:], q, reachable)
}

// bestIPv6 finds the route with the best score (rt6_score_route); the first of
// equals.
func (f *FIB) bestIPv6(routes []*netstack.Route, q *query, reachable bool) (best Result, ok bool) {
	high := -1
	from := 0
	for i, r := range routes {
		hops, blackhole, unknown := f.hops(r)
		switch {
		case unknown != "":
			return Result{Type: r.Type, Route: r, Unknown: unknown}, true
		case blackhole:
			return Result{Type: netstack.RouteBlackhole, Route: r}, true
		case r.Type.Dropping():
			hops = []netstack.NextHop{{Dev: "lo"}} // which is where the kernel puts it
		}
		usable := f.usableHops(1, hops, q.OIF)
		won := false
		var shunned []bool
		for j := range usable {
			score, serves := f.score(r, &usable[j], q, reachable)
			if !serves && len(usable) > 1 {
				if shunned == nil {
					shunned = make([]bool, len(usable))
				}
				shunned[j] = true
			}
			if !serves || score <= high {
				continue
			}
			high, ok, from, won = score, true, i, true
			best = Result{Type: r.Type, Route: r, NextHops: usable, all: hops, matched: j}
		}
		if won {
			best.shunned = shunned
		}
	}
	if !ok {
		return Result{}, false
	}
	if best.Type.Dropping() {
		best.NextHops, best.all = nil, nil
		return best, true
	}
	f.addSiblings(&best, routes[from+1:])
	return best, true
}

// matchDevice is rt6_device_match: the first route through the device that is
// asked for, at any metric; where there is none, the first of all, unless the
// scope of the address needs the device.
func (f *FIB) matchDevice(routes []*netstack.Route, q *query) (Result, bool) {
	leads := func(h netstack.NextHop) bool { return !h.Dead && f.deviceMatches(h.Dev, q) }
	for i, r := range routes {
		hops, _, unknown := f.hops(r)
		if unknown != "" {
			return Result{Type: r.Type, Route: r, Unknown: unknown}, true
		}
		if r.Type.Dropping() {
			hops = []netstack.NextHop{{Dev: "lo"}}
		}
		if at := slices.IndexFunc(hops, leads); at >= 0 {
			return f.selectPath(routes[i:], hops, at, q), true
		}
	}
	first := routes[0]
	hops, blackhole, _ := f.hops(first)
	switch {
	case q.OIF != "" && q.Dst.IsLinkLocalUnicast(): // RT6_LOOKUP_F_IFACE
		return Result{}, false
	case blackhole:
		return Result{Type: netstack.RouteBlackhole, Route: first}, true
	case first.Type.Dropping():
		return Result{Type: first.Type, Route: first}, true
	case len(hops) == 0 || hops[0].Dead:
		return Result{}, false
	}
	return f.selectPath(routes, hops, 0, q), true
}

// deviceMatches is __rt6_device_match: without a device, one with the source
// address is asked for, and if that is of global scope, any will do.
func (f *FIB) deviceMatches(dev string, q *query) bool {
	switch {
	case q.OIF != "":
		return dev == q.OIF
	case !q.Src.IsValid():
		return false
	case !q.Src.IsLinkLocalUnicast():
		return f.Local(q.Src)
	}
	for a := range f.devices.Each(dev) {
		if a.Prefix.Addr() == q.Src {
			return true
		}
	}
	return false
}

// selectPath is fib6_select_path of ip6_pol_route_lookup: who asked for a device
// gets the way that was matched, others that of the flow.
func (f *FIB) selectPath(routes []*netstack.Route, hops []netstack.NextHop, at int, q *query) Result {
	res := Result{Type: routes[0].Type, Route: routes[0], NextHops: hops[at : at+1], all: hops}
	if q.OIF == "" {
		if usable := f.usableHops(1, hops, ""); len(usable) > 0 {
			res.NextHops = usable
		}
		f.addSiblings(&res, routes[1:])
	}
	return res
}

// score is rt6_score_route: 2 for the right device, plus the router preference.
func (f *FIB) score(r *netstack.Route, h *netstack.NextHop, q *query, reachable bool) (score int, serves bool) {
	want := q.OIF
	if want == "" {
		want = q.IIF
	}
	strict := q.Dst.IsLinkLocalUnicast() || q.Dst.IsMulticast() || q.OIF != "" && !q.Src.IsValid()
	switch {
	case want == "" || want == h.Dev:
		score = 2
	case strict:
		return 0, false // RT6_NUD_FAIL_HARD
	}
	switch r.Pref {
	case "high":
		score |= 3 << 2
	case "low":
		score |= 1 << 2
	default:
		score |= 2 << 2
	}
	if reachable && h.Gateway.IsValid() && f.neighbourFailed(h.Dev, h.Gateway) {
		return 0, false // RT6_NUD_FAIL_PROBE
	}
	return score, true
}

func (f *FIB) neighbourState(dev string, ip netip.Addr) (netstack.NeighbourState, bool) {
	n := f.neighbours.First(netstack.NeighbourKey{Dev: dev, IP: ip})
	if n == nil {
		return 0, false
	}
	return n.State, true
}

func (f *FIB) neighbourFailed(dev string, ip netip.Addr) bool {
	state, known := f.neighbourState(dev, ip)
	return known && state&netstack.NUDFailed != 0
}

// good is ipv4_good_nh and ipv6_good_nh: the neighbour is not known to be
// missing.
func (f *FIB) good(h *netstack.NextHop) bool {
	const valid = netstack.NUDPermanent | netstack.NUDNoARP | netstack.NUDReachable | netstack.NUDProbe | netstack.NUDStale | netstack.NUDDelay
	if !h.Gateway.IsValid() {
		return true
	}
	state, known := f.neighbourState(h.Dev, h.Gateway)
	return !known || state&valid != 0
}

// addSiblings joins the IPv6 routes of equal metric, which the kernel keeps as
// one multipath route, where they were printed one by one.
func (f *FIB) addSiblings(res *Result, rest []*netstack.Route) {
	if res.Type != netstack.RouteUnicast || res.Route.NextHopID != 0 || !hasGateway(res.Route) {
		return
	}
	joined := false
	for _, r := range rest {
		if r.Metric != res.Route.Metric || r.Type != netstack.RouteUnicast || r.NextHopID != 0 || !hasGateway(r) {
			continue
		}
		if !joined {
			res.NextHops, res.all = slices.Clone(res.NextHops), slices.Clone(res.all)
			joined = true
		}
		res.NextHops = append(res.NextHops, f.usableHops(1, r.NextHops, "")...)
		res.all = append(res.all, r.NextHops...)
	}
}

// hasGateway is rt6_qualify_for_ecmp.
func hasGateway(r *netstack.Route) bool {
	return len(r.NextHops) > 0 && r.NextHops[0].Gateway.IsValid()
}

// Shares says which part of the flows takes each of the result's next hops: 0
// for those that none takes. src is the source address that a locally made
// packet has already; invalid when it has none, or is forwarded.
func (f *FIB) Shares(res *Result, src netip.Addr) []float64 {
	n := len(res.NextHops)
	shares := make([]float64, n)
	if n < 2 {
		if n == 1 {
			shares[0] = 1
		}
		return shares
	}
	bound := bounds(res.NextHops)
	switch {
	case res.Route.NextHopID != 0 && f.objects[res.Route.NextHopID] != nil:
		// nexthop_select_path_hthr
		spread(shares, bound, func(i int) bool { return f.good(&res.NextHops[i]) })
	case res.Route.Family == netstack.IPv6:
		// fib6_select_path: those that do not serve leave their part to the one
		// that the look-up matched.
		spread(shares, bound, func(int) bool { return true })
		for i, shunned := range res.shunned {
			if shunned {
				shares[res.matched] += shares[i]
				shares[i] = 0
			}
		}
	default:
		// fib_select_multipath prefers ways out whose address the packet has.
		mine := make([]bool, n)
		any := false
		for i := range res.NextHops {
			h := &res.NextHops[i]
			if f.useNeigh && !f.good(h) {
				continue
			}
			a, ok := f.hopSource(res.Route, h)
			mine[i] = ok && src.IsValid() && a == src
			any = any || mine[i]
		}
		spread(shares, bound, func(i int) bool {
			return (!f.useNeigh || f.good(&res.NextHops[i])) && (!any || mine[i])
		})
	}
	return shares
}

// bounds are the upper ends of the hash values that belong to each next hop,
// where 1 is all: fib_rebalance, rt6_upper_bound_set.
func bounds(hops []netstack.NextHop) []float64 {
	var total, sum float64
	for i := range hops {
		total += float64(max(hops[i].Weight, 1))
	}
	bound := make([]float64, len(hops))
	for i := range hops {
		sum += float64(max(hops[i].Weight, 1))
		bound[i] = sum / total
	}
	return bound
}

// spread gives each eligible next hop the hash values up to its bound that no
// earlier one took, and what is left over to the first.
func spread(shares, bound []float64, eligible func(int) bool) {
	first, taken := -1, 0.0
	for i := range shares {
		if !eligible(i) {
			continue
		}
		if first < 0 {
			first = i
		}
		shares[i] = bound[i] - taken
		taken = bound[i]
	}
	first = max(first, 0)
	shares[first] += 1 - taken
}

// gateway4 is the gateway as an IPv4 route compares it with addresses.
func gateway4(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	return netip.Addr{}
}
