package judge

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ruleFeatures say which policy rules have a feature: without it, they are not there.
var ruleFeatures = map[string]func(r *netstack.Rule) bool{
	"rule:from":             func(r *netstack.Rule) bool { return r.Src.IsValid() },
	"rule:to":               func(r *netstack.Rule) bool { return r.Dst.IsValid() },
	"rule:iif":              func(r *netstack.Rule) bool { return r.IIF != "" },
	"rule:oif":              func(r *netstack.Rule) bool { return r.OIF != "" },
	"rule:mark":             func(r *netstack.Rule) bool { return r.Mask != 0 },
	"rule:tos":              func(r *netstack.Rule) bool { return r.TOS != 0 },
	"rule:ipproto":          func(r *netstack.Rule) bool { return r.IPProto != 0 },
	"rule:sport":            func(r *netstack.Rule) bool { return r.SPort != nil },
	"rule:dport":            func(r *netstack.Rule) bool { return r.DPort != nil },
	"rule:uidrange":         func(r *netstack.Rule) bool { return r.UID != nil },
	"rule:not":              func(r *netstack.Rule) bool { return r.Invert },
	"rule:goto":             func(r *netstack.Rule) bool { return r.Action == netstack.RuleGoto },
	"rule:suppress":         func(r *netstack.Rule) bool { return r.SuppressPrefixLen >= 0 },
	"rule:suppress_ifgroup": func(r *netstack.Rule) bool { return r.SuppressIfGroup >= 0 },
}

// routeFeatures say which routes have a feature.
var routeFeatures = map[string]func(r *netstack.Route) bool{
	"route:blackhole":   ofType(netstack.RouteBlackhole),
	"route:unreachable": ofType(netstack.RouteUnreachable),
	"route:prohibit":    ofType(netstack.RouteProhibit),
	"route:throw":       ofType(netstack.RouteThrow),
	"route:local":       ofType(netstack.RouteLocal),
	"route:broadcast":   ofType(netstack.RouteBroadcast),
	"route:anycast":     ofType(netstack.RouteAnycast),
	"route:multicast":   ofType(netstack.RouteMulticast),
	"route:table": func(r *netstack.Route) bool {
		return r.Table != netstack.TableMain && r.Table != netstack.TableLocal && r.Table != netstack.TableDefault
	},
	"route:metric":    func(r *netstack.Route) bool { return r.Metric > 0 && r.Metric < 10 }, // those that are drawn
	"route:multipath": func(r *netstack.Route) bool { return r.NextHopID == 0 && len(r.NextHops) > 1 },
	"route:onlink": func(r *netstack.Route) bool {
		return slices.ContainsFunc(r.NextHops, func(hop netstack.NextHop) bool { return hop.Onlink })
	},
	"route:src":      func(r *netstack.Route) bool { return r.PrefSrc.IsValid() },
	"route:mtu":      func(r *netstack.Route) bool { return r.MTU != 0 },
	"route:tos":      func(r *netstack.Route) bool { return r.TOS != 0 },
	"route:from":     func(r *netstack.Route) bool { return r.Src.IsValid() },
	"nexthop:object": func(r *netstack.Route) bool { return r.NextHopID != 0 },
	"route:device":   func(r *netstack.Route) bool { return len(r.NextHops) == 1 && !r.NextHops[0].Gateway.IsValid() },
	"route:pref":     func(r *netstack.Route) bool { return r.Pref != "" && r.Pref != "medium" },
	"route:via-inet6": func(r *netstack.Route) bool {
		return len(r.NextHops) > 0 && r.Dst.Addr().Is4() && r.NextHops[0].Gateway.Is6()
	},
}

// addrLabels are those of a namespace that has others than the kernel's own.
const addrLabels = "source:label"

func ofType(typ netstack.RouteType) func(*netstack.Route) bool {
	return func(r *netstack.Route) bool { return r.Type == typ }
}

// lookupsWithout are the routing tables that a namespace would have without each of the features that it has.
func lookupsWithout(state *netstack.Namespace) map[string]*fib.FIB {
	without := make(map[string]*fib.FIB)
	for feature, has := range ruleFeatures {
		other := *state
		other.Rules = slices.DeleteFunc(slices.Clone(state.Rules), func(r netstack.Rule) bool { return has(&r) })
		if len(other.Rules) < len(state.Rules) {
			without[feature] = fib.Compile(&other)
		}
	}
	for feature, has := range routeFeatures {
		other := *state
		other.Routes = slices.DeleteFunc(slices.Clone(state.Routes), func(r netstack.Route) bool { return has(&r) })
		if len(other.Routes) < len(state.Routes) {
			without[feature] = fib.Compile(&other)
		}
	}
	if state.AddrLabels != nil {
		other := *state
		other.AddrLabels = nil
		without[addrLabels] = fib.Compile(&other)
	}
	return without
}

// countLookup counts the features without which the look-up would have another answer.
func (c coverage) countLookup(k fib.Key, with simulated, without map[string]*fib.FIB, agreed bool) {
	for feature, f := range without {
		if s := simulate(f, k); s.unknown != with.unknown || !slices.Equal(s.answers, with.answers) {
			c.count([]string{feature}, agreed)
		}
	}
}

// printLookups writes how many look-ups came to what, and in how many each feature decided.
func (c coverage) printLookups(w io.Writer, kinds map[string]int) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "look-up of a route, of the kernel\ttimes")
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(t, "%s\t%d\n", kind, kinds[kind])
	}
	fmt.Fprintln(t, "\nfeature\tdecided\tagreed")
	for _, feature := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(t, "%s\t%d\t%d\n", feature, c[feature].decided, c[feature].agreed)
	}
	t.Flush()
}

// seldomInLookups are the features that decided too seldom.
func (c coverage) seldomInLookups() []string {
	features := slices.AppendSeq(slices.Collect(maps.Keys(ruleFeatures)), maps.Keys(routeFeatures))
	features = append(features, addrLabels)
	return slices.DeleteFunc(slices.Sorted(slices.Values(features)), func(f string) bool { return c.enough([]string{f}) })
}
