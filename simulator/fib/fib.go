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
	rules    [2][]*netstack.Rule // IPv4, IPv6, by priority
	tables   [2]map[uint32]*table
	merged   *table // local and main of IPv4 in one; nil when there are other rules
	objects  map[uint32]*netstack.NextHopObject
	linkdown [2]map[string]bool // devices on which routes without carrier are ignored
}

// table maps prefixes to routes, per prefix length: with at most 33 (129)
// lengths, and seldom more than five in use, this is as good as a trie.
type table struct {
	bits   []int // lengths in use, longest first
	routes map[netip.Prefix][]*netstack.Route
}

func familyIndex(f netstack.Family) int {
	if f == netstack.IPv6 {
		return 1
	}
	return 0
}

// Compile indexes the routing state of a namespace, which must not change
// afterwards.
func Compile(ns *netstack.Namespace) *FIB {
	f := &FIB{ns: ns, objects: make(map[uint32]*netstack.NextHopObject, len(ns.NextHops))}
	for i := range ns.NextHops {
		f.objects[ns.NextHops[i].ID] = &ns.NextHops[i]
	}
	for i := range f.tables {
		f.tables[i] = make(map[uint32]*table)
		f.linkdown[i] = make(map[string]bool)
	}
	for i := range ns.Rules {
		r := &ns.Rules[i]
		at := familyIndex(r.Family)
		f.rules[at] = append(f.rules[at], r)
	}
	for i := range f.rules {
		slices.SortStableFunc(f.rules[i], func(a, b *netstack.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	}
	for i := range ns.Routes {
		r := &ns.Routes[i]
		if r.Cached {
			continue
		}
		tables := f.tables[familyIndex(r.Family)]
		t := tables[r.Table]
		if t == nil {
			t = &table{routes: make(map[netip.Prefix][]*netstack.Route)}
			tables[r.Table] = t
		}
		t.add(r)
	}
	if f.merges() {
		f.merged = mergeTables(f.tables[0][netstack.TableLocal], f.tables[0][netstack.TableMain])
		f.merged.sort()
	}
	for _, tables := range f.tables {
		for _, t := range tables {
			t.sort()
		}
	}
	for i, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		all, _ := ns.ConfSysctl(family, "all", "ignore_routes_with_linkdown")
		for j := range ns.Links {
			dev := ns.Links[j].Name
			own, _ := ns.ConfSysctl(family, dev, "ignore_routes_with_linkdown")
			f.linkdown[i][dev] = all != 0 || own != 0
		}
	}
	return f
}

func (t *table) add(r *netstack.Route) {
	dst := r.Dst.Masked()
	if _, seen := t.routes[dst]; !seen && !slices.Contains(t.bits, dst.Bits()) {
		t.bits = append(t.bits, dst.Bits())
	}
	t.routes[dst] = append(t.routes[dst], r)
}

func (t *table) sort() {
	slices.SortFunc(t.bits, func(a, b int) int { return cmp.Compare(b, a) })
	for _, routes := range t.routes {
		slices.SortStableFunc(routes, compareRoutes)
	}
}

// merges says whether the kernel keeps the tables local and main of IPv4 in one
// trie, as it does while there are no rules but the three of every namespace
// (fib_trie_unmerge): then a longer prefix in main beats a shorter one in
// local. A namespace that had other rules once stays unmerged, which nothing
// shows.
func (f *FIB) merges() bool {
	if len(f.rules[0]) != 3 {
		return false
	}
	for i, id := range []uint32{netstack.TableLocal, netstack.TableMain, netstack.TableDefault} {
		r := f.rules[0][i]
		if r.Action != netstack.RuleLookup || r.Table != id || r.Invert || r.Mask != 0 || r.IIF != "" || r.OIF != "" ||
			r.Src.IsValid() && r.Src.Bits() > 0 || r.Dst.IsValid() && r.Dst.Bits() > 0 {
			return false
		}
	}
	return true
}

// mergeTables joins two tables, either of which may be nil.
func mergeTables(tables ...*table) *table {
	merged := &table{routes: make(map[netip.Prefix][]*netstack.Route)}
	for _, t := range tables {
		if t == nil {
			continue
		}
		for _, routes := range t.routes {
			for _, r := range routes {
				merged.add(r)
			}
		}
	}
	return merged
}

// compareRoutes orders the routes of one prefix: IPv4 by TOS (specific first)
// and metric, IPv6 by length of the source prefix and metric.
func compareRoutes(a, b *netstack.Route) int {
	return cmp.Or(
		cmp.Compare(sourceBits(b), sourceBits(a)),
		cmp.Compare(b.TOS, a.TOS),
		cmp.Compare(a.Metric, b.Metric),
	)
}

func sourceBits(r *netstack.Route) int {
	if !r.Src.IsValid() {
		return 0
	}
	return r.Src.Bits()
}

// Key is what a look-up depends on. Src may be invalid (not chosen yet), IIF
// is empty for locally made packets. No socket is bound to a device.
type Key struct {
	Src, Dst         netip.Addr
	IIF              string
	Mark             uint32
	TOS              uint8
	Protocol         netstack.Protocol
	SrcPort, DstPort uint16
	UID              *uint32
}

// KeyOf returns the key of a packet; iif is empty for locally made packets.
func KeyOf(p *netstack.Packet, iif string) Key {
	return Key{
		Src: p.Src, Dst: p.Dst, IIF: iif, Mark: p.Mark, TOS: p.TOS,
		Protocol: p.Protocol, SrcPort: p.SrcPort, DstPort: p.DstPort, UID: p.UID,
	}
}

// Result is what a look-up found.
type Result struct {
	// Type is the route's type, or that of the rule that ended the look-up; ""
	// when nothing matched.
	Type  netstack.RouteType
	Route *netstack.Route // nil when a rule ended the look-up or nothing matched
	Rule  *netstack.Rule
	// NextHops are the usable ways out; several for multipath.
	NextHops []netstack.NextHop
	// Unknown names what could not be evaluated, when that decides.
	Unknown string
}

// Found says whether the look-up found a route that delivers or forwards.
func (r *Result) Found() bool {
	switch r.Type {
	case netstack.RouteUnicast, netstack.RouteLocal, netstack.RouteBroadcast, netstack.RouteAnycast, netstack.RouteMulticast:
		return true
	}
	return false
}

// Lookup finds the route for a packet.
func (f *FIB) Lookup(k Key) Result {
	at := familyIndex(netstack.FamilyOf(k.Dst))
	if at == 0 && f.merged != nil {
		res := f.merged.lookup(f, at, &k)
		if res.Route != nil && res.Type != netstack.RouteThrow {
			res.Rule = f.rules[0][1]
			if res.Route.Table == netstack.TableLocal {
				res.Rule = f.rules[0][0]
			}
			return res
		}
	}
	rules := f.rules[at]
	for i := 0; i < len(rules); i++ {
		rule := rules[i]
		if !matches(rule, &k) {
			continue
		}
		if rule.L3MDev || rule.TunnelID != 0 {
			return Result{Rule: rule, Unknown: "a rule for VRFs or tunnel ids"}
		}
		switch rule.Action {
		case netstack.RuleNop:
		case netstack.RuleGoto:
			// Like fib_rules_lookup: an unresolved goto is skipped.
			if next := slices.IndexFunc(rules, func(r *netstack.Rule) bool { return r.Priority == rule.Goto }); next > i {
				i = next - 1
			}
		case netstack.RuleBlackhole:
			return Result{Type: netstack.RouteBlackhole, Rule: rule}
		case netstack.RuleUnreachable:
			return Result{Type: netstack.RouteUnreachable, Rule: rule}
		case netstack.RuleProhibit:
			return Result{Type: netstack.RouteProhibit, Rule: rule}
		default:
			res := f.lookupTable(at, rule.Table, &k)
			if res.Route == nil || res.Type == netstack.RouteThrow || suppressed(rule, &res) {
				continue
			}
			if rule.SuppressIfGroup >= 0 && res.Found() {
				res.Unknown = "suppress_ifgroup"
			}
			res.Rule = rule
			return res
		}
	}
	return Result{}
}

func suppressed(rule *netstack.Rule, res *Result) bool {
	return rule.SuppressPrefixLen >= 0 && res.Found() && res.Route.Dst.Bits() <= rule.SuppressPrefixLen
}

func (f *FIB) lookupTable(at int, id uint32, k *Key) Result {
	t := f.tables[at][id]
	if t == nil {
		return Result{}
	}
	return t.lookup(f, at, k)
}

// lookup is fib_table_lookup and fib6_table_lookup.
func (t *table) lookup(f *FIB, at int, k *Key) Result {
	for _, bits := range t.bits {
		prefix, err := k.Dst.Prefix(bits)
		if err != nil {
			continue
		}
		routes := t.routes[prefix]
		for i, r := range routes {
			if r.TOS != 0 && r.TOS != k.TOS {
				continue
			}
			if r.Src.IsValid() && r.Src.Bits() > 0 && (!k.Src.IsValid() || !r.Src.Contains(k.Src)) {
				continue
			}
			res, ok := f.use(at, r)
			if !ok {
				continue
			}
			if at == 1 {
				f.addSiblings(&res, routes[i+1:])
			}
			return res
		}
	}
	return Result{}
}

// use says whether the route serves the key, and with which next hops.
func (f *FIB) use(at int, r *netstack.Route) (Result, bool) {
	hops := r.NextHops
	if r.NextHopID != 0 && len(hops) == 0 {
		object := f.objects[r.NextHopID]
		if object == nil {
			return Result{Type: r.Type, Route: r, Unknown: "a nexthop object that was not collected"}, true
		}
		if object.Blackhole {
			return Result{Type: netstack.RouteBlackhole, Route: r}, true
		}
		hops = f.expand(object)
	}
	switch r.Type {
	case netstack.RouteBlackhole, netstack.RouteUnreachable, netstack.RouteProhibit, netstack.RouteThrow:
		return Result{Type: r.Type, Route: r}, true
	}
	usable := hops
	if slices.ContainsFunc(hops, func(h netstack.NextHop) bool { return !f.usable(at, h) }) {
		usable = nil
		for _, h := range hops {
			if f.usable(at, h) {
				usable = append(usable, h)
			}
		}
	}
	if len(usable) == 0 {
		return Result{}, false
	}
	return Result{Type: r.Type, Route: r, NextHops: usable}, true
}

func (f *FIB) usable(at int, h netstack.NextHop) bool {
	return !h.Dead && !(h.Linkdown && f.linkdown[at][h.Dev])
}

// addSiblings joins the IPv6 routes of equal metric: the kernel keeps them as
// one multipath route.
func (f *FIB) addSiblings(res *Result, rest []*netstack.Route) {
	if res.Type != netstack.RouteUnicast || res.Route == nil {
		return
	}
	var joined bool
	for _, r := range rest {
		if r.Metric != res.Route.Metric || r.Type != netstack.RouteUnicast || sourceBits(r) != sourceBits(res.Route) ||
			!hasGateway(r) || !hasGateway(res.Route) {
			continue
		}
		if other, ok := f.use(1, r); ok && other.Unknown == "" {
			if !joined {
				res.NextHops = slices.Clone(res.NextHops)
				joined = true
			}
			res.NextHops = append(res.NextHops, other.NextHops...)
		}
	}
}

func hasGateway(r *netstack.Route) bool {
	return len(r.NextHops) > 0 && r.NextHops[0].Gateway.IsValid()
}

func (f *FIB) expand(object *netstack.NextHopObject) []netstack.NextHop {
	if len(object.Group) == 0 {
		h := object.NextHop
		h.Weight = max(h.Weight, 1)
		return []netstack.NextHop{h}
	}
	var hops []netstack.NextHop
	for _, member := range object.Group {
		single := f.objects[member.ID]
		if single == nil || single.Blackhole || len(single.Group) > 0 {
			continue
		}
		h := single.NextHop
		h.Weight = max(member.Weight, 1)
		hops = append(hops, h)
	}
	return hops
}

// matches is fib_rule_match with fib4_rule_match and fib6_rule_match.
func matches(r *netstack.Rule, k *Key) bool {
	return selects(r, k) != r.Invert
}

func selects(r *netstack.Rule, k *Key) bool {
	iif := k.IIF
	if iif == "" {
		iif = "lo" // locally made packets come from the loopback device
	}
	switch {
	case r.IIF != "" && r.IIF != iif,
		r.OIF != "", // for sockets that are bound to a device
		(r.Mark^k.Mark)&r.Mask != 0,
		r.Src.IsValid() && r.Src.Bits() > 0 && (!k.Src.IsValid() || !r.Src.Contains(k.Src)),
		r.Dst.IsValid() && !r.Dst.Contains(k.Dst),
		r.TOS != 0 && r.TOS != k.TOS,
		r.IPProto != 0 && r.IPProto != uint8(k.Protocol),
		r.SPort != nil && !r.SPort.Contains(k.SrcPort),
		r.DPort != nil && !r.DPort.Contains(k.DstPort):
		return false
	}
	if r.UID == nil {
		return true
	}
	var uid uint32 // sock_net_uid: without a socket it is root
	if k.UID != nil {
		uid = *k.UID
	}
	return r.UID.First <= uid && uid <= r.UID.Last
}

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
	at := familyIndex(netstack.FamilyOf(addr))
	res := f.lookupTable(at, netstack.TableLocal, &Key{Dst: addr})
	if res.Route == nil {
		return netstack.RouteUnicast
	}
	if dev != "" && !slices.ContainsFunc(res.NextHops, func(h netstack.NextHop) bool { return h.Dev == dev }) {
		return netstack.RouteUnicast
	}
	return res.Type
}

// Local says whether the namespace takes packets to addr for its own.
func (f *FIB) Local(addr netip.Addr) bool {
	return f.AddrType(addr, "") == netstack.RouteLocal
}
