package plugin

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// terway gives pods addresses of the VPC, which belong to network interfaces of the
// node. A pod behind a veth sends by the table of its interface
// (plugin/datapath/policy_router_linux.go); one on an ipvlan, or with an interface
// of its own, sends by that, and only its node reaches it otherwise
// (ipvlan_linux.go, exclusive_eni_linux.go).
type terway struct{}

// Priorities of rules (consts_linux.go), and what is added to an interface's index
// for its table (plugin/driver/utils, GetRouteTableID).
const (
	terwayTo    = 512
	terwayFrom  = 2048
	terwayTable = 1000
)

func (terway) daemon(labels map[string]string) bool {
	return strings.HasPrefix(labels["app"], "terway")
}

func (terway) recognise(p *place, agent string) (string, []string) {
	var by []string
	if p.node != nil {
		for i := range p.node.Rules {
			if r := &p.node.Rules[i]; terwaySends(r) {
				by = append(by, "rule "+ruleWords(r))
				break
			}
		}
		if at := slices.IndexFunc(p.node.Links, func(l netstack.Link) bool { return l.Kind == "ipvlan" && strings.HasPrefix(l.Name, "ipvl_") }); at >= 0 {
			by = append(by, "device "+p.node.Links[at].Name+" of kind ipvlan")
		}
	}
	if len(by) == 0 && agent == "" {
		return "", nil
	}
	return "terway", by
}

// terwaySends says whether a rule is one for what a pod sends.
func terwaySends(r *netstack.Rule) bool {
	return r.Priority == terwayFrom && r.Src.IsValid() && r.Src.IsSingleIP() && r.Table > terwayTable && r.Action == netstack.RuleLookup
}

// terwayRules says whether terway routes by rules on the node: its other datapaths
// do not.
func terwayRules(ns *netstack.Namespace) bool {
	return slices.ContainsFunc(ns.Rules, func(r netstack.Rule) bool {
		return terwaySends(&r) || r.Priority == terwayTo && r.Dst.IsValid() && r.Dst.IsSingleIP() && r.Table == netstack.TableMain
	})
}

func ruleWords(r *netstack.Rule) string {
	selector := "from all"
	if r.Src.IsValid() {
		selector = "from " + host(r.Src)
	}
	if r.Dst.IsValid() {
		selector += " to " + host(r.Dst)
	}
	table := fmt.Sprint(r.Table)
	if r.Table == netstack.TableMain {
		table = "main"
	}
	return fmt.Sprintf("%d: %s lookup %s", r.Priority, selector, table)
}

func host(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (t terway) expect(p *place) []Expectation {
	if p.pod != nil {
		return t.inside(p)
	}
	if p.node == nil {
		return nil
	}
	if p.to != nil && p.to.Node == p.name {
		return t.receives(p)
	}
	if p.from != nil && p.from.Node == p.name {
		return t.sends(p)
	}
	return nil
}

// inside expects that a pod sends by the device that leads to its interface.
func (terway) inside(p *place) []Expectation {
	for _, j := range p.view.Joins(p.pod) {
		if p.family != netstack.IPv4 || j.Inside.Name != "eth0" || !strings.HasPrefix(j.Outside.Name, "cali") {
			continue
		}
		list := p.defaultRoute(wanted{via: calicoGateway, dev: "eth0", more: "onlink"})
		return append(list, p.neighbour("eth0", calicoGateway, j.Outside.MAC)...)
	}
	return nil
}

// receives expects the route from the node to a pod of its own, and the rule that
// has it used for what other pods send, too.
func (terway) receives(p *place) []Expectation {
	ns := p.view.Pod(p.to.String())
	if ns == nil {
		return nil
	}
	if eth0 := link(ns, "eth0"); eth0 != nil && eth0.Kind == "ipvlan" {
		return p.route([]wanted{{dst: p.dst.String(), dev: fmt.Sprintf("ipvl_%d", eth0.Peer), more: "scope link"}})
	}
	joins := p.view.Joins(ns)
	at := slices.IndexFunc(joins, func(j Join) bool { return strings.HasPrefix(j.Outside.Name, "cali") })
	if at < 0 {
		return nil
	}
	list := p.route([]wanted{{dst: p.dst.String(), dev: joins[at].Outside.Name, more: "scope link"}})
	if joins[at].Inside.Name != "eth0" || !terwayRules(p.node) { // veth1, beside an interface of its own
		return list
	}
	want := netstack.Rule{Priority: terwayTo, Dst: single(p.dst), Table: netstack.TableMain}
	return append(list, p.rule(&want, func(r *netstack.Rule) bool { return r.Dst == want.Dst && r.Table == want.Table }, "")...)
}

// sends expects the rule and the table by which a pod's packets leave through the
// interface that its address belongs to.
func (t terway) sends(p *place) []Expectation {
	ns := p.view.Pod(p.from.String())
	if ns == nil || !terwayRules(p.node) || !slices.ContainsFunc(p.view.Joins(ns), func(j Join) bool {
		return j.Inside.Name == "eth0" && strings.HasPrefix(j.Outside.Name, "cali")
	}) {
		return nil
	}
	var table uint32
	var own *netstack.Rule
	for i := range p.node.Rules {
		r := &p.node.Rules[i]
		if !terwaySends(r) || r.Family != p.family {
			continue
		}
		if r.Src == single(p.src) {
			own = r
			break
		}
		switch table {
		case 0:
			table = r.Table
		case r.Table:
		default:
			table = ^uint32(0) // several interfaces: which one has the address is not in view
		}
	}
	if own != nil {
		table = own.Table
	}
	want := netstack.Rule{Priority: terwayFrom, Src: single(p.src), Table: table}
	text := ""
	if table == 0 || table == ^uint32(0) {
		text = fmt.Sprintf("%d: from %s lookup the table of its network interface", terwayFrom, p.src)
	}
	list := p.rule(&want, func(r *netstack.Rule) bool { return terwaySends(r) && r.Src == want.Src }, text)
	if text != "" {
		return list
	}
	at := slices.IndexFunc(p.node.Links, func(l netstack.Link) bool { return l.Index == int(table)-terwayTable })
	if at < 0 {
		return list
	}
	dev, via := p.node.Links[at].Name, netip.Addr{}
	found := longest(p.node, table, p.dst)
	if found != nil && slices.ContainsFunc(found.NextHops, func(h netstack.NextHop) bool { return h.Dev == dev }) {
		via = found.NextHops[0].Gateway
	}
	more := fmt.Sprintf("table %d onlink", table)
	if !via.IsValid() {
		more += ", via the gateway of its vSwitch"
	}
	return append(list, p.routeIn(table, p.dst, []wanted{{dst: "default", via: via, dev: dev, more: more}})...)
}

// rule expects a rule of policy routing.
func (p *place) rule(want *netstack.Rule, is func(*netstack.Rule) bool, text string) []Expectation {
	if !p.known(netstack.PartRules4, netstack.PartRules6) {
		return nil
	}
	if text == "" {
		text = ruleWords(want)
	}
	e := Expectation{Kind: Rule, Want: text, There: "none"}
	for i := range p.node.Rules {
		if r := &p.node.Rules[i]; r.Family == p.family && is(r) {
			e.Met, e.There = true, ruleWords(r)
		}
	}
	return []Expectation{e}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
