package bundle

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// routeTypes are RTN_* by number; 0 and 11 (xresolve) never reach user space.
func routeTypes() []netstack.RouteType {
	return []netstack.RouteType{
		"", netstack.RouteUnicast, netstack.RouteLocal, netstack.RouteBroadcast, netstack.RouteAnycast, netstack.RouteMulticast,
		netstack.RouteBlackhole, netstack.RouteUnreachable, netstack.RouteProhibit, netstack.RouteThrow, netstack.RouteNAT,
	}
}

// protocols are RTPROT_* by name (iproute2's rt_protos).
func protocols() map[string]uint64 {
	return map[string]uint64{
		"unspec": 0, "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "gated": 8, "ra": 9, "mrt": 10, "zebra": 11,
		"bird": 12, "dnrouted": 13, "xorp": 14, "ntk": 15, "dhcp": 16, "mrouted": 17, "keepalived": 18, "babel": 42,
		"ovn": 84, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188, "rip": 189, "eigrp": 192,
	}
}

// tables are the routing tables that have names everywhere.
func tables() map[string]uint64 {
	return map[string]uint64{"unspec": 0, "default": 253, "main": 254, "local": 255}
}

// What `ip route` leaves out.
const (
	protocolBoot = 3
	defaultTable = uint64(netstack.TableMain)
)

func scopeNames() map[uint64]string {
	return map[uint64]string{0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
}

func formatNamed(n uint64, names map[uint64]string) string {
	if name, ok := names[n]; ok {
		return name
	}
	return strconv.FormatUint(n, 10)
}

// routeReader holds the names, made once for a file.
type routeReader struct {
	*source
	family                    netstack.Family
	types                     map[string]uint64
	tables, protocols, scopes map[string]uint64
}

func newRouteReader(s *source, f netstack.Family) *routeReader {
	r := &routeReader{source: s, family: f, tables: tables(), protocols: protocols(), scopes: scopes(), types: make(map[string]uint64)}
	for i, t := range routeTypes() {
		if t != "" {
			r.types[string(t)] = uint64(i)
		}
	}
	return r
}

func readRoutes4(s *source, n *netstack.Namespace) error { return readRoutes(s, n, netstack.IPv4) }
func readRoutes6(s *source, n *netstack.Namespace) error { return readRoutes(s, n, netstack.IPv6) }

func readRoutes(s *source, n *netstack.Namespace, f netstack.Family) error {
	r := newRouteReader(s, f)
	return s.list("route", func(v *value) {
		if r.isIPv6(v) != (f == netstack.IPv6) {
			// `ip route show table all` without -4 prints both families; those of
			// IPv6 are read from the file that is theirs.
			if f == netstack.IPv6 {
				s.failAt(v.get("dst"), "dst: an IPv4 route in the output of ip -6")
			}
			return
		}
		n.Routes = append(n.Routes, r.route(v))
	})
}

// isIPv6 tells the families apart. "default" alone does not, but IPv6 routes
// have a preference; iproute2 prints a gateway of the other family as "via".
func (r *routeReader) isIPv6(v *value) bool {
	dst := r.field(v, "dst")
	if dst == nil {
		return r.family == netstack.IPv6
	}
	if strings.Contains(dst.text, ":") || v.has("pref") {
		return true
	}
	for _, key := range []string{"from", "gateway", "prefsrc"} {
		if m := v.get(key); m != nil && strings.Contains(m.text, ":") {
			return true
		}
	}
	// Old kernels gave IPv6 routes no preference: "default dev eth0" in the
	// output of ip -6 is taken at its word.
	return dst.text == "default" && r.family == netstack.IPv6 && !v.has("gateway")
}

func (r *routeReader) route(v *value) netstack.Route {
	route := netstack.Route{
		Family:    r.family,
		Table:     uint32(r.named(v, "table", 32, r.tables, defaultTable)),
		Type:      r.routeType(v),
		Dst:       r.prefix(v, "dst"),
		Scope:     netstack.Scope(r.named(v, "scope", 8, r.scopes, 0)),
		Protocol:  uint8(r.named(v, "protocol", 8, r.protocols, protocolBoot)),
		Metric:    uint32(r.number(v, "metric", 32)),
		TOS:       r.tos(v),
		PrefSrc:   r.addr(v, "prefsrc"),
		NextHopID: uint32(r.number(v, "nhid", 32)),
		Pref:      r.text(v, "pref"),
		Cached:    v.has("cache") || r.hasText(v, "flags", "cached"),
	}
	if route.Pref == "medium" {
		route.Pref = ""
	}
	if v.has("from") {
		route.Src = r.prefix(v, "from")
	}
	r.each(v, "metrics", func(m *value) {
		if m.has("mtu") {
			route.MTU = r.int(m, "mtu")
		}
		if m.has("advmss") {
			route.AdvMSS = r.int(m, "advmss")
		}
		if m.has("hoplimit") {
			route.HopLimit = uint8(r.number(m, "hoplimit", 8))
		}
		route.MTULocked = route.MTULocked || r.hasText(m, "lock", "mtu")
	})
	if route.Type.Dropping() {
		return route // without the device that IPv6 gives it, which is not used
	}
	r.each(v, "nexthops", func(hop *value) {
		if !leads(hop) {
			r.failAt(hop, "nexthops: a next hop with neither dev nor gateway nor via")
		}
		route.NextHops = append(route.NextHops, r.nextHop(hop, r.weight(hop)))
	})
	if leads(v) {
		route.NextHops = append(route.NextHops, r.nextHop(v, 1))
	}
	return route
}

// leads says whether the route or next hop names where packets go.
func leads(v *value) bool { return v.has("dev") || v.has("gateway") || v.has("via") }

// weight is that of one of several next hops: 1 or more, as `ip route` prints it.
func (r *routeReader) weight(v *value) int {
	if !v.has("weight") {
		return 1
	}
	weight := r.int(v, "weight")
	if weight == 0 {
		r.failAt(v.get("weight"), "weight: 0 is no share of the packets")
	}
	return weight
}

func (r *routeReader) routeType(v *value) netstack.RouteType {
	n := r.named(v, "type", 8, r.types, 1)
	types := routeTypes()
	if n == 0 || n >= uint64(len(types)) {
		r.failAt(v.get("type"), "type: not a type of route")
		return ""
	}
	return types[n]
}

// tos is a string; a number under the same key is the TOS of the tunnel that
// "encap":"ip" describes.
func (r *routeReader) tos(v *value) uint8 {
	for i := range v.members {
		if m := &v.members[i]; m.key == "tos" && m.kind == jsonString {
			return uint8(r.numberOf(&m.value, "tos", 8))
		}
	}
	return 0
}

// prefix reads "default", an address or a prefix of the reader's family.
func (r *routeReader) prefix(v *value, key string) netip.Prefix {
	m := r.field(v, key)
	text := r.text(v, key)
	if m == nil || r.err != nil {
		return netip.Prefix{}
	}
	if text == "default" || text == "all" {
		if r.family == netstack.IPv6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	p, err := parsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4() != (r.family == netstack.IPv4) {
		r.failAt(m, "%s: not an %s prefix", key, r.family)
		return netip.Prefix{}
	}
	return p
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Prefix(a.BitLen())
}

func (r *routeReader) nextHop(v *value, weight int) netstack.NextHop {
	hop := netstack.NextHop{
		Gateway: r.addr(v, "gateway"),
		Weight:  weight,
		Encap:   r.text(v, "encap"),
	}
	if v.has("dev") {
		hop.Dev = r.name(v, "dev")
	}
	if via := v.get("via"); via != nil {
		if via.kind != jsonObject {
			r.failAt(via, "via: want an object, found %s", via.kind)
			return hop
		}
		hop.Gateway = r.addr(via, "host")
	}
	for _, flag := range r.texts(v, "flags") {
		switch flag.text {
		case "onlink":
			hop.Onlink = true
		case "dead":
			hop.Dead = true
		case "linkdown":
			hop.Linkdown = true
		}
	}
	return hop
}

type viaJSON struct {
	Family string `json:"family"`
	Host   string `json:"host"`
}

type hopJSON struct {
	Encap   string   `json:"encap,omitempty"`
	Gateway string   `json:"gateway,omitempty"`
	Via     *viaJSON `json:"via,omitempty"`
	Dev     string   `json:"dev,omitempty"`
}

type weightedHopJSON struct {
	hopJSON
	Weight int      `json:"weight"`
	Flags  []string `json:"flags"`
}

type metricsJSON struct {
	MTU    int      `json:"mtu,omitempty"`
	AdvMSS int      `json:"advmss,omitempty"`
	Hops   uint8    `json:"hoplimit,omitempty"`
	Lock   []string `json:"lock,omitempty"`
}

type routeJSON struct {
	Type string `json:"type,omitempty"`
	Dst  string `json:"dst"`
	From string `json:"from,omitempty"`
	NHID uint32 `json:"nhid,omitempty"`
	TOS  string `json:"tos,omitempty"`
	hopJSON
	Table    string            `json:"table,omitempty"`
	Protocol string            `json:"protocol,omitempty"`
	Scope    string            `json:"scope,omitempty"`
	PrefSrc  string            `json:"prefsrc,omitempty"`
	Metric   uint32            `json:"metric,omitempty"`
	Flags    []string          `json:"flags"`
	Metrics  []metricsJSON     `json:"metrics,omitempty"`
	Cache    *[]string         `json:"cache,omitempty"`
	Pref     string            `json:"pref,omitempty"`
	NextHops []weightedHopJSON `json:"nexthops,omitempty"`
}

func writeRoutes4(n *netstack.Namespace) ([]byte, error) { return writeRoutes(n, netstack.IPv4) }
func writeRoutes6(n *netstack.Namespace) ([]byte, error) { return writeRoutes(n, netstack.IPv6) }

func writeRoutes(n *netstack.Namespace, f netstack.Family) ([]byte, error) {
	var all []routeJSON
	for i := range n.Routes {
		r := &n.Routes[i]
		if r.Family != f {
			continue
		}
		j, err := routeToJSON(r)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Dst, err)
		}
		all = append(all, j)
	}
	return encode(all)
}

func routeToJSON(r *netstack.Route) (routeJSON, error) {
	kind := slices.Index(routeTypes(), r.Type)
	if kind <= 0 {
		return routeJSON{}, fmt.Errorf("type %q is not a type of route", r.Type)
	}
	j := routeJSON{Dst: formatPrefix(r.Dst), NHID: r.NextHopID, Metric: r.Metric, Flags: []string{}}
	if r.Type != netstack.RouteUnicast {
		j.Type = strconv.Itoa(kind)
	}
	if r.Src.IsValid() {
		j.From = formatPrefix(r.Src)
	}
	if r.TOS != 0 {
		j.TOS = fmt.Sprintf("0x%02x", r.TOS)
	}
	if r.Table != netstack.TableMain {
		j.Table = strconv.FormatUint(uint64(r.Table), 10)
	}
	if r.Protocol != protocolBoot {
		j.Protocol = strconv.Itoa(int(r.Protocol))
	}
	if r.Scope != netstack.ScopeGlobal {
		j.Scope = strconv.Itoa(int(r.Scope))
	}
	if r.PrefSrc.IsValid() {
		j.PrefSrc = r.PrefSrc.String()
	}
	if r.MTU != 0 || r.AdvMSS != 0 || r.HopLimit != 0 || r.MTULocked {
		m := metricsJSON{MTU: r.MTU, AdvMSS: r.AdvMSS, Hops: r.HopLimit}
		if r.MTULocked {
			m.Lock = []string{"mtu"}
		}
		j.Metrics = []metricsJSON{m}
	}
	if r.Cached {
		j.Cache = &[]string{}
	}
	if r.Family == netstack.IPv6 {
		j.Pref = r.Pref
		if j.Pref == "" {
			j.Pref = "medium"
		}
	}
	if len(r.NextHops) == 1 && r.NextHops[0].Weight == 1 {
		j.hopJSON = hopToJSON(&r.NextHops[0], r.Family)
		j.Flags = hopFlags(&r.NextHops[0])
		return j, nil
	}
	for i := range r.NextHops {
		h := &r.NextHops[i]
		j.NextHops = append(j.NextHops, weightedHopJSON{hopToJSON(h, r.Family), h.Weight, hopFlags(h)})
	}
	return j, nil
}

func hopToJSON(h *netstack.NextHop, f netstack.Family) hopJSON {
	j := hopJSON{Encap: h.Encap, Dev: h.Dev}
	switch {
	case !h.Gateway.IsValid():
	case netstack.FamilyOf(h.Gateway) == f:
		j.Gateway = h.Gateway.String()
	case h.Gateway.Is4():
		j.Via = &viaJSON{"inet", h.Gateway.String()}
	default:
		j.Via = &viaJSON{"inet6", h.Gateway.String()}
	}
	return j
}

func hopFlags(h *netstack.NextHop) []string {
	flags := []string{}
	if h.Dead {
		flags = append(flags, "dead")
	}
	if h.Onlink {
		flags = append(flags, "onlink")
	}
	if h.Linkdown {
		flags = append(flags, "linkdown")
	}
	return flags
}

func formatPrefix(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func readNextHops(s *source, n *netstack.Namespace) error {
	r := newRouteReader(s, netstack.IPv4)
	return s.list("nexthop", func(v *value) {
		if s.field(v, "id") == nil {
			return
		}
		o := netstack.NextHopObject{
			ID:        uint32(s.number(v, "id", 32)),
			NextHop:   netstack.NextHop{Weight: 1},
			Blackhole: v.has("blackhole"),
			FDB:       v.has("fdb"),
		}
		s.each(v, "group", func(m *value) {
			if s.field(m, "id") == nil {
				return
			}
			o.Group = append(o.Group, netstack.NextHopMember{ID: uint32(s.number(m, "id", 32)), Weight: r.weight(m)})
		})
		if !o.Blackhole && o.Group == nil {
			o.NextHop = r.nextHop(v, 1)
		}
		n.NextHops = append(n.NextHops, o)
	})
}

type memberJSON struct {
	ID     uint32 `json:"id"`
	Weight int    `json:"weight,omitempty"`
}

type nextHopJSON struct {
	ID    uint32       `json:"id"`
	Group []memberJSON `json:"group,omitempty"`
	hopJSON
	Blackhole present  `json:"blackhole,omitzero"`
	Flags     []string `json:"flags"`
	FDB       present  `json:"fdb,omitzero"`
}

func writeNextHops(n *netstack.Namespace) ([]byte, error) {
	all := make([]nextHopJSON, len(n.NextHops))
	for i := range n.NextHops {
		o := &n.NextHops[i]
		// An object's gateway has the object's family: there is no "via".
		j := nextHopJSON{
			ID: o.ID, hopJSON: hopToJSON(&o.NextHop, netstack.FamilyOf(o.Gateway)),
			Blackhole: present(o.Blackhole), Flags: hopFlags(&o.NextHop), FDB: present(o.FDB),
		}
		for _, m := range o.Group {
			mj := memberJSON{ID: m.ID}
			if m.Weight != 1 {
				mj.Weight = m.Weight
			}
			j.Group = append(j.Group, mj)
		}
		all[i] = j
	}
	return encode(all)
}
