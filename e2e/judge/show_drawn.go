package judge

import (
	"fmt"
	"strings"
)

// drawnSubjects are features that generators draw among many others, each alone: a condition on a flow of which it mostly holds,
// a set that mostly has it.
func drawnSubjects() []subject {
	var list []subject
	for _, feature := range []string{
		"match:-s", "match:-d", "match:cluster", "match:connmark",
	} {
		list = append(list, subject{feature: feature, show: func(b *builder) bool {
			return b.xtSpot([]string{"filter", "mangle"}, func(v *view) bool {
				x := &xtables{builder: b, v: *v, table: "mangle", chain: v.hook}
				return drawn(x.conditions(), feature) != nil
			}).showDrawn(feature)
		}})
	}
	for _, feature := range []string{
		"set:bitmap:ip", "set:bitmap:port", "set:hash:ip", "set:hash:ip,port", "set:hash:ip,port,ip", "set:hash:ip,port,net", "set:hash:net,iface", "set:hash:net,port", "set:list:set", "set:nomatch",
	} {
		list = append(list, subject{feature: feature, show: func(b *builder) bool {
			return b.only1(feature, generateIPSet)
		}})
	}
	for _, feature := range []string{"rule:from", "rule:iif", "rule:ipproto", "rule:not", "rule:suppress"} {
		list = append(list, subject{feature: feature, show: func(b *builder) bool { return b.only1(feature, generateRoutes) }})
	}
	for _, feature := range []string{"nft:concat", "nft:ct-mark", "nft:notrack", "nft:objects", "nft:payload-set", "nft:set"} {
		list = append(list, subject{feature: feature, show: func(b *builder) bool { return b.only1(feature, generateNFT) }})
	}
	for _, feature := range []string{"link:down", "link:mtu", "sysctl:disable_ipv6", "policy:DROP"} {
		list = append(list, subject{feature: feature, apart: true, show: func(b *builder) bool {
			for _, n := range b.nodes {
				b.talk(n.pods[0], b.nodes[0].pods[len(b.nodes[0].pods)-1])
			}
			if feature == "policy:DROP" {
				return b.only1(feature, generateIPTables)
			}
			return b.only1(feature, generateLinks)
		}})
	}
	list = append(list, subject{feature: "set:bitmap:ip,mac", show: func(b *builder) bool {
		x := b.xtSpot([]string{"filter", "mangle"}, func(v *view) bool {
			return arriving(v) && !ipv6(v) && !v.reply && v.flow.fromPod != nil && v.ns == v.flow.fromNode.name
		})
		if x == nil {
			return false
		}
		name := fmt.Sprintf("macs%d", len(x.world.Elements))
		x.ipset(x.v.ns, fmt.Sprintf("create %s bitmap:ip,mac range %s/24", name, x.v.src))
		x.ipset(x.v.ns, fmt.Sprintf("add %s %s,%s", name, x.v.src, strings.ToUpper(x.v.flow.fromPod.mac())), "set:bitmap:ip,mac")
		x.shows("-m set --match-set "+name+" src,src", "-j DROP", "match:set", "target:DROP")
		return true
	}})
	list = append(list, subject{feature: "target:SET", show: func(b *builder) bool {
		x := b.xtSpot([]string{"filter", "mangle"}, nil)
		if x != nil {
			x.remember()
		}
		return x != nil
	}})
	return list
}

// only1 runs a generator until it has made the feature.
func (b *builder) only1(feature string, generate func(*builder)) bool {
	before := b.only
	defer func() { b.only = before }()
	b.only = []string{feature}
	from := len(b.world.Elements)
	for range 6 {
		generate(b)
		for _, e := range b.world.Elements[from:] {
			for _, f := range e.Features {
				if f == feature {
					return true
				}
			}
		}
	}
	return false
}

// drawn makes the feature, by the first of the options that does; nil if none does.
func drawn(options []option[func() string], feature string) func() string {
	for _, o := range options {
		if o.feature == feature {
			return o.make
		}
	}
	return nil
}

// showDrawn drops what the condition holds of.
func (x *xtables) showDrawn(feature string) bool {
	if x == nil {
		return false
	}
	text := drawn(x.conditions(), feature)()
	if feature == "match:-s" || feature == "match:-d" { // the addresses are what it is about
		x.rule(x.chain, match{text: x.ports() + " " + text}, "-j DROP", feature, "target:DROP")
		return true
	}
	x.shows(text, "-j DROP", feature, "target:DROP")
	return true
}
