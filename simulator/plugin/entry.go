package plugin

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// wanted is a route that a plugin installs.
type wanted struct {
	dst  string // as it is printed
	via  netip.Addr
	dev  string // empty when any device will do
	more string // options
}

func (w wanted) String() string {
	text := w.dst
	if w.via.IsValid() {
		text += " via " + w.via.String()
	}
	if w.dev != "" {
		text += " dev " + w.dev
	}
	if w.more != "" {
		text += " " + w.more
	}
	return text
}

// leads says whether a way out is the wanted one.
func (w wanted) leads(h netstack.NextHop) bool {
	return h.Gateway == w.via && (w.dev == "" || h.Dev == w.dev)
}

// route expects that the longest match of table main for the packet leads one of
// some ways. preferred is how the plugin would have it; of the others, each is as
// good.
func (p *place) route(preferred []wanted, others ...wanted) []Expectation {
	return p.routeIn(netstack.TableMain, p.dst, preferred, others...)
}

// defaultRoute expects the route to all that no other route leads to. Those may be
// of other networks that a pod has, which are not the plugin's.
func (p *place) defaultRoute(w wanted) []Expectation {
	w.dst = "default"
	any := netip.IPv4Unspecified()
	if p.family == netstack.IPv6 {
		any = netip.IPv6Unspecified()
	}
	return p.routeIn(netstack.TableMain, any, []wanted{w})
}

func (p *place) routeIn(table uint32, to netip.Addr, preferred []wanted, others ...wanted) []Expectation {
	if !p.known(netstack.PartRoutes4, netstack.PartRoutes6) || len(preferred) == 0 {
		return nil
	}
	at := p.at()
	found := longest(at, table, to)
	e := Expectation{Kind: Route, Dev: preferred[0].dev, Of: to, There: there(found)}
	var words []string
	for _, w := range preferred {
		words = append(words, w.String())
	}
	e.Want = strings.Join(words, " or ")
	all := slices.Concat(preferred, others)
	if found != nil && found.Type == netstack.RouteUnicast && (found.Dst.Bits() > 0 || preferred[0].dst == "default") {
		hops := hopsOf(at, found)
		e.Met = len(hops) > 0 && !slices.ContainsFunc(hops, func(h netstack.NextHop) bool {
			return !slices.ContainsFunc(all, func(w wanted) bool { return w.leads(h) })
		})
	}
	if dev := preferred[0].dev; !e.Met && dev != "" && at.Known(netstack.PartLinks) {
		if l := link(at, dev); l == nil {
			e.There += ", and " + dev + " is missing"
		} else if !l.Up() {
			e.There += ", and " + dev + " is down"
		}
	}
	return []Expectation{e}
}

// longest is the route of a table that holds an address: the longest prefix, then
// the lowest metric.
func longest(ns *netstack.Namespace, table uint32, to netip.Addr) *netstack.Route {
	var best *netstack.Route
	for i := range ns.Routes {
		r := &ns.Routes[i]
		if r.Table != table || r.Cached || r.TOS != 0 || r.Src.IsValid() || !r.Dst.Contains(to) {
			continue
		}
		if best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	return best
}

// hopsOf are the ways out of a route, those of a nexthop object too.
func hopsOf(ns *netstack.Namespace, r *netstack.Route) []netstack.NextHop {
	if r.NextHopID == 0 || len(r.NextHops) > 0 {
		return r.NextHops
	}
	var hops []netstack.NextHop
	for i := range ns.NextHops {
		if o := &ns.NextHops[i]; o.ID == r.NextHopID && len(o.Group) == 0 {
			hops = append(hops, o.NextHop)
		}
	}
	return hops
}

// there is what is there in the place of a route. The protocol tells who put it
// there.
func there(r *netstack.Route) string {
	if r == nil {
		return "none"
	}
	text := r.String()
	if name, ok := protocols[r.Protocol]; ok {
		text += " proto " + name
	} else if r.Protocol != 0 {
		text += " proto " + strconv.Itoa(int(r.Protocol))
	}
	return text
}

// protocols are names of RTPROT_* that ip(8) knows too.
var protocols = map[uint8]string{1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", protocolBIRD: "bird", 16: "dhcp", 186: "bgp"}

// neighbour expects an entry that nobody is asked for.
func (p *place) neighbour(dev string, ip netip.Addr, mac netstack.MAC) []Expectation {
	at := p.at()
	if at == nil || !at.Known(netstack.PartNeighbours) || dev == "" || !ip.IsValid() || mac == (netstack.MAC{}) {
		return nil
	}
	e := Expectation{Kind: Neighbour, Dev: dev, Of: ip, There: "none", Want: fmt.Sprintf("%s lladdr %s dev %s nud permanent", ip, mac, dev)}
	for i := range at.Neighbours {
		if n := &at.Neighbours[i]; n.Dev == dev && n.IP == ip && !n.Proxy {
			e.Met = n.MAC == mac && n.Resolved()
			e.There = fmt.Sprintf("%s lladdr %s dev %s", ip, n.MAC, dev)
			if !n.Resolved() {
				e.There = ip.String() + " dev " + dev + ", not resolved"
			}
		}
	}
	return []Expectation{e}
}

// forwarding expects an entry of a VXLAN device's database.
func (p *place) forwarding(dev string, mac netstack.MAC, remote netip.Addr) []Expectation {
	at := p.at()
	if at == nil || !at.Known(netstack.PartFDB) || dev == "" || !remote.IsValid() || mac == (netstack.MAC{}) {
		return nil
	}
	e := Expectation{Kind: Forwarding, Dev: dev, Of: remote, There: "none for " + mac.String(), Want: fmt.Sprintf("%s dev %s dst %s self permanent", mac, dev, remote)}
	for i := range at.FDB {
		if f := &at.FDB[i]; f.Dev == dev && f.MAC == mac && f.Master == "" {
			e.There = fmt.Sprintf("%s dev %s dst %s", mac, dev, f.Dst)
			if e.Met = f.Dst == remote || f.NextHopID != 0; e.Met {
				break
			}
		}
	}
	return []Expectation{e}
}

// answers expects that a device on the node answers ARP for an address that it does
// not have, which a pod looks for on inside: its own proxy_arp, or that of all.
func (p *place) answers(dev string, addr netip.Addr, inside string) []Expectation {
	const key = "proxy_arp"
	if p.node == nil || !p.node.Known(netstack.PartSysctls) {
		return nil
	}
	name := "net.ipv4.conf." + strings.ReplaceAll(dev, ".", "/") + "." + key
	own, _ := p.node.ConfSysctl(netstack.IPv4, dev, key)
	all, _ := p.node.ConfSysctl(netstack.IPv4, "all", key)
	return []Expectation{{Kind: Setting, Dev: inside, Of: addr, Want: name + " = 1", There: fmt.Sprintf("%s = %d", name, own), Met: own != 0 || all != 0}}
}
