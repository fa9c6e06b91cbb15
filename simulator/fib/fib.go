// Package fib looks routes up as the kernel does: policy rules in order of
// priority, each with a table, longest prefix first, then TOS and metric. It
// also chooses source addresses, which the kernel does along with the route.
//
// The rules follow fib_rules_lookup, fib_table_lookup and fib6_table_lookup of
// the Linux kernel. Look-ups never fail: a Result says which route, or error
// route, or nothing, was found.
package fib

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// FIB is the compiled routing state of one namespace. It is immutable and safe
// for concurrent use.
type FIB struct {
	ns       *netstack.Namespace
	rules    [2][]rule // IPv4, IPv6, by priority
	tables   [2]map[uint32]*table
	merged   *table // local and main of IPv4 in one; nil when there are other rules
	objects  map[uint32]*netstack.NextHopObject
	links    map[string]*netstack.Link
	labels   []netstack.AddrLabel
	linkdown [2]map[string]bool // devices on which routes without carrier are ignored
	forwards bool               // net.ipv6.conf.all.forwarding
	useNeigh bool               // net.ipv4.fib_multipath_use_neigh
	// ownGateway are the routes whose gateway is an address of this host.
	ownGateway map[*netstack.Route]bool
	// customLocal says that somebody else than the kernel added local routes of
	// IPv4.
	customLocal bool
	devices     netstack.Index[string, netstack.Address]
	neighbours  netstack.Index[netstack.NeighbourKey, netstack.Neighbour]
}

func familyIndex(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 1
	}
	return 0
}

var kernelLabels = netstack.KernelAddrLabels()

// Compile indexes the routing state of a namespace, which must not change
// afterwards.
func Compile(ns *netstack.Namespace) *FIB {
	f := &FIB{
		ns:         ns,
		objects:    make(map[uint32]*netstack.NextHopObject, len(ns.NextHops)),
		links:      make(map[string]*netstack.Link, len(ns.Links)),
		labels:     ns.AddrLabels,
		devices:    ns.IndexDevices(),
		neighbours: ns.IndexNeighbours(),
	}
	for i := range ns.NextHops {
		f.objects[ns.NextHops[i].ID] = &ns.NextHops[i]
	}
	for i := range ns.Links {
		f.links[ns.Links[i].Name] = &ns.Links[i]
	}
	if f.labels == nil {
		f.labels = kernelLabels
	}
	forwarding, _ := ns.ConfSysctl(netstack.IPv6, "all", "forwarding")
	useNeigh, _ := ns.Sysctl("net.ipv4.fib_multipath_use_neigh")
	f.forwards, f.useNeigh = forwarding != 0, useNeigh != 0
	for i := range f.tables {
		f.tables[i] = make(map[uint32]*table)
	}
	f.compileRules()
	for i := range ns.Routes {
		r := &ns.Routes[i]
		f.customLocal = f.customLocal || r.Family == netstack.IPv4 && r.Type == netstack.RouteLocal && r.Protocol != protocolKernel
		if r.Cached {
			continue
		}
		tables := f.tables[familyIndex(r.Family)]
		t := tables[r.Table]
		if t == nil {
			t = &table{}
			tables[r.Table] = t
		}
		t.add(r)
	}
	if f.merges() {
		f.merged = mergeTables(f.tables[0][netstack.TableLocal], f.tables[0][netstack.TableMain])
		f.merged.index()
	}
	for _, tables := range f.tables {
		for _, t := range tables {
			t.index()
		}
	}
	for i, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		all, _ := ns.ConfSysctl(family, "all", "ignore_routes_with_linkdown")
		for j := range ns.Links {
			dev := ns.Links[j].Name
			own, _ := ns.ConfSysctl(family, dev, "ignore_routes_with_linkdown")
			if own == 0 && (all == 0 || family == netstack.IPv6) {
				continue
			}
			if f.linkdown[i] == nil {
				f.linkdown[i] = make(map[string]bool)
			}
			f.linkdown[i][dev] = true
		}
	}
	f.findOwnGateways()
	return f
}

// Key is what a look-up depends on. Src may be invalid (not chosen yet), IIF
// is empty for locally made packets, OIF unless the socket is bound to a
// device.
type Key struct {
	Src, Dst         netip.Addr
	IIF, OIF         string
	Mark             uint32
	TOS              uint8
	Protocol         netstack.Protocol
	SrcPort, DstPort uint16
	UID              *uint32
	AnyUser          bool // a socket asks, and nobody knows whose
}

// KeyOf returns the key of a packet; iif is empty for locally made packets. Only
// those have a socket with a user: ip_route_input_slow asks as sock_net_uid.
func KeyOf(p *netstack.Packet, iif string) Key {
	k := Key{Src: p.Src, Dst: p.Dst, IIF: iif, Mark: p.Mark, TOS: p.TOS, Protocol: p.Protocol}
	if iif == "" {
		k.UID, k.AnyUser, k.OIF = p.UID, p.AnyUser, p.Bound
	}
	switch {
	case p.HasPorts():
		k.SrcPort, k.DstPort = p.SrcPort, p.DstPort
	case iif == "" && (p.Protocol == netstack.ProtoICMP || p.Protocol == netstack.ProtoICMPv6):
		// A flow has the type and code where it would have ports (union flowi_uli).
		k.DstPort = uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
	}
	return k
}

// Reversed is the key of the way back: of a packet that came in by iif, or is
// locally made, and goes where k comes from.
func (k Key) Reversed(iif string) Key {
	k.Src, k.Dst, k.SrcPort, k.DstPort = k.Dst, k.Src, k.DstPort, k.SrcPort
	k.IIF, k.OIF, k.UID, k.AnyUser = iif, "", nil, false
	return k
}

// Result is what a look-up found.
type Result struct {
	// Type is the route's type, or that of the rule that ended the look-up; ""
	// when nothing matched.
	Type  netstack.RouteType
	Route *netstack.Route // nil when a rule ended the look-up or nothing matched
	Rule  *netstack.Rule
	// NextHops are the usable ways out; several for multipath. See Shares.
	NextHops []netstack.NextHop
	// Unknown names what could not be evaluated, when that decides.
	Unknown string

	all     []netstack.NextHop // with those that are not usable
	matched int                // index in NextHops of the one that the look-up preferred (IPv6)
	shunned []bool             // which of NextHops the look-up would not take (IPv6); nil for none
}

// Found says whether the look-up found a route that delivers or forwards.
func (r *Result) Found() bool {
	switch r.Type {
	case netstack.RouteUnicast, netstack.RouteLocal, netstack.RouteBroadcast, netstack.RouteAnycast, netstack.RouteMulticast:
		return true
	}
	return false
}

// LoopsBack says whether a locally made packet comes in again instead of going
// out: to an own address, or to an anycast address of IPv6 that the kernel added.
// Anycast routes that somebody configured lead out of their device.
func (r *Result) LoopsBack() bool {
	return r.Type == netstack.RouteLocal ||
		r.Type == netstack.RouteAnycast && r.Route.Family == netstack.IPv6 && r.Route.Protocol == protocolKernel
}

// Uses says whether any of the route's next hops, usable or not, is on the
// device: fib_info_nh_uses_dev.
func (r *Result) Uses(dev string) bool {
	return slices.ContainsFunc(r.all, func(h netstack.NextHop) bool { return h.Dev == dev })
}

// LearnsMTU says whether a path MTU that is learnt about one of the NextHops is found
// there again. For nexthop objects IPv6 keeps it at the first with the same device
// and gateway, and nowhere without gateway: fib6_nh_find_match.
func (r *Result) LearnsMTU(at int) bool {
	if r.Route.NextHopID == 0 || r.Route.Family == netstack.IPv4 {
		return true
	}
	way := &r.NextHops[at]
	return way.Gateway.IsValid() && at == slices.IndexFunc(r.NextHops, func(h netstack.NextHop) bool {
		return h.Dev == way.Dev && h.Gateway == way.Gateway
	})
}

// Lookup finds the route for a packet. It is unknown where that depends on which
// of several ways the flow takes.
func (f *FIB) Lookup(k Key) Result { return f.LookupWay(k, nil) }

// LookupDevice is the look-up of netfilter's matches: in IPv6 a route through the
// device that is asked for wins over those of a better metric (ip6_route_lookup).
func (f *FIB) LookupDevice(k Key) Result { return f.lookup(query{Key: &k, byDevice: true}) }

// LookupWay is Lookup for a flow of which it is known which way out of a route it
// takes: the index of one of its NextHops.
func (f *FIB) LookupWay(k Key, way func(*Result) int) Result {
	return f.lookup(query{Key: &k, way: way})
}

// LookupBound is LookupWay for what is sent by one device, the key's OIF. In IPv4 that has to be up, and what no table
// leads to by it is taken for a neighbour there (ip_route_output_key_hash_rcu).
func (f *FIB) LookupBound(k Key, way func(*Result) int) Result {
	link := f.links[k.OIF]
	if k.Dst.Is6() || link == nil {
		return f.LookupWay(k, way)
	}
	if !link.Up() {
		return Result{}
	}
	res := f.LookupWay(k, way)
	if res.Found() || res.Unknown != "" || f.master(&k) != "" {
		return res
	}
	hops := []netstack.NextHop{{Dev: link.Name, Weight: 1}}
	route := &netstack.Route{Family: netstack.IPv4, Type: netstack.RouteUnicast, Dst: netip.PrefixFrom(k.Dst, k.Dst.BitLen()), NextHops: hops}
	return Result{Type: route.Type, Route: route, NextHops: hops, all: hops}
}

func (f *FIB) lookup(q query) Result {
	q.src, q.dst, q.master = keyOf(q.Src), keyOf(q.Dst), f.master(q.Key)
	if q.OIF != "" && q.OIF == q.master {
		// l3mdev_update_flow: bound to the VRF device itself.
		q.OIF = ""
	}
	return f.find(familyIndex(netstack.FamilyOf(q.Dst)), &q)
}

// find looks up in the tables that the rules lead to.
func (f *FIB) find(at int, q *query) Result {
	if at == 0 && f.merged != nil {
		res := f.merged.lookup(f, at, q)
		if res.Route != nil && res.Type != netstack.RouteThrow {
			res.Rule = f.rules[0][1].Rule
			if res.Route.Table == netstack.TableLocal {
				res.Rule = f.rules[0][0].Rule
			}
			return res
		}
		// What main throws does not come to local any more (fib_lookup).
		res = f.lookupTable(at, netstack.TableDefault, q)
		if res.Route == nil || res.Type == netstack.RouteThrow {
			return Result{}
		}
		res.Rule = f.rules[0][2].Rule
		return res
	}
	return f.consult(at, q)
}

// query is a look-up under way.
type query struct {
	*Key
	src, dst key128
	master   string // VRF device that the packet belongs to
	way      func(*Result) int
	scope    netstack.Scope // of the routes looked for, at least (IPv4)
	byDevice bool           // see LookupDevice
}

// master is the VRF of a look-up: l3mdev_update_flow.
func (f *FIB) master(k *Key) string {
	for _, dev := range []string{k.OIF, k.IIF} {
		link := f.links[dev]
		if link == nil {
			continue
		}
		if link.Kind == "vrf" {
			return link.Name
		}
		if m := f.links[link.Master]; m != nil && m.Kind == "vrf" {
			return m.Name
		}
		if dev == k.OIF {
			break
		}
	}
	return ""
}

func (f *FIB) lookupTable(at int, id uint32, q *query) Result {
	t := f.tables[at][id]
	if t == nil {
		return Result{}
	}
	return t.lookup(f, at, q)
}

// merges says whether the kernel keeps the tables local and main of IPv4 in one
// trie, as it does while there are no rules but the three of every namespace
// (fib_trie_unmerge): then a longer prefix in main beats a shorter one in
// local. A namespace that had other rules once stays unmerged, which nothing
// shows.
func (f *FIB) merges() bool { return !f.CustomRules() }

// CustomRules says whether IPv4 has other rules than the three that every
// namespace begins with.
func (f *FIB) CustomRules() bool {
	if len(f.rules[0]) != 3 {
		return true
	}
	for i, id := range []uint32{netstack.TableLocal, netstack.TableMain, netstack.TableDefault} {
		if r := &f.rules[0][i]; r.Table != id || !r.always || r.Action != netstack.RuleLookup {
			return true
		}
	}
	return false
}

// CustomLocalRoutes says whether somebody else than the kernel added local
// routes of IPv4.
func (f *FIB) CustomLocalRoutes() bool { return f.customLocal }

const protocolKernel = 2 // RTPROT_KERNEL

// AddrType is the type that the local and main tables give to an address
// (inet_addr_type, inet_dev_addr_type): unicast when no table knows it. With a
// device, only routes through it count.
func (f *FIB) AddrType(addr netip.Addr, dev string) netstack.RouteType {
	if addr.Is4() && (addr == netip.IPv4Unspecified() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		return netstack.RouteBroadcast
	}
	if addr.IsMulticast() {
		return netstack.RouteMulticast
	}
	res := f.inTable(netstack.TableLocal, addr)
	if res.Route == nil {
		return netstack.RouteUnicast
	}
	if dev != "" && !slices.ContainsFunc(res.NextHops, func(h netstack.NextHop) bool { return h.Dev == dev }) {
		return netstack.RouteUnicast
	}
	return res.Type
}

func (f *FIB) inTable(id uint32, addr netip.Addr) Result {
	return f.lookupTable(familyIndex(netstack.FamilyOf(addr)), id, &query{Key: &Key{Dst: addr}, dst: keyOf(addr)})
}

// Local says whether the namespace takes packets to addr for its own.
func (f *FIB) Local(addr netip.Addr) bool {
	return f.AddrType(addr, "") == netstack.RouteLocal
}

// LocalAt says whether the namespace takes packets that come in by a device for its
// own, by the table of the device's VRF: inet_addr_type_dev_table.
func (f *FIB) LocalAt(addr netip.Addr, dev string) bool {
	if vrf := f.links[f.vrf(dev)]; vrf != nil {
		res := f.inTable(vrf.VRFTable, addr)
		return res.Route != nil && res.Type == netstack.RouteLocal
	}
	return f.Local(addr)
}

// compareRoutes orders the routes of one prefix. IPv4: the table local before
// main where they are merged, then TOS (specific first), then metric. IPv6:
// longest source prefix, then metric.
func compareRoutes(a, b *netstack.Route) int {
	if a.Family == netstack.IPv6 {
		return cmp.Or(cmp.Compare(sourceBits(b), sourceBits(a)), cmp.Compare(a.Metric, b.Metric))
	}
	return cmp.Or(cmp.Compare(b.Table, a.Table), cmp.Compare(b.TOS, a.TOS), cmp.Compare(a.Metric, b.Metric))
}

func sourceBits(r *netstack.Route) int {
	if !r.Src.IsValid() {
		return 0
	}
	return r.Src.Bits()
}
