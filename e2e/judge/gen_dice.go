package judge

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// throws is how often a probe is tried on whose way the kernel rolls dice.
const throws = 24

// generateDice puts a choice of the kernel's in the way of a flow: then fates have shares.
func generateDice(b *builder) {
	f := b.flow()
	if f.Protocol == verdict.ICMP { // its identifier is another one each time, but its probe has no port to tell
		return
	}
	if f.fromPod == f.toPod && f.fromNode == f.toNode { // a packet to oneself meets the rule more than once
		return
	}
	views := b.views(f)
	if len(views) == 0 {
		return
	}
	v := one(b, views...)
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: v.hook}
	exact := match{text: fmt.Sprintf("-p %s -m %s --dport %d -s %s -d %s", f.Protocol, f.Protocol, v.dport, v.src, v.dst)}
	if v.reply {
		exact.text = fmt.Sprintf("-p %s -m %s --sport %d -s %s -d %s", f.Protocol, f.Protocol, v.sport, v.src, v.dst)
	}
	at := slot(f.family)
	options := []option[func()]{
		{"match:statistic", func() {
			m := exact
			if f.Protocol == verdict.TCP { // every packet of a connection throws: let only the first
				m.text += " -m conntrack --ctstate NEW"
			}
			m.text += fmt.Sprintf(" -m statistic --mode random --probability %s", one(b, "0.5", "0.25", "0.8"))
			m.features = append(m.features, "match:statistic")
			x.rule(x.chain, m, one(b, "-j DROP", "-j DROP", "-j MARK --set-mark 0x77"), "target:DROP")
			test := exact
			test.text += " -m mark --mark 0x77"
			x.rule(x.chain, test, "-j DROP", "target:DROP")
		}},
	}
	if v.hook == "PREROUTING" && !v.reply {
		options = append(options, option[func()]{"match:statistic-service", func() {
			// As kube-proxy does: one chain a backend.
			x.table, x.backend = "nat", b.translator
			first, second := one(b, b.pods...).addrs[at], one(b, b.pods...).addrs[at]
			m := exact
			m.text += " -m statistic --mode random --probability 0.5"
			m.features = []string{"match:statistic"}
			x.rule(x.chain, m, "-j DNAT --to-destination "+first.String(), "target:DNAT")
			x.rule(x.chain, exact, "-j DNAT --to-destination "+second.String(), "target:DNAT")
		}})
	}
	for _, p := range b.places(f) {
		if p.ns != v.ns || p.in == "" {
			continue
		}
		prefix, _ := p.dst.Prefix(p.dst.BitLen())
		third := b.third(f)
		// Which way IPv6 takes depends on what it knows of the neighbours, too (rt6_check_neigh).
		if f.family == netstack.IPv6 || third == nil || p.dev != "eth0" || b.used[routeKey(p.ns, prefix.String())] {
			continue
		}
		options = append(options, option[func()]{"route:multipath", func() {
			// One way is the usual one, the other leads over a node that drops it.
			via := p.via
			if !via.IsValid() {
				via = p.dst
			}
			b.taken(p.ns, prefix)
			b.sysctl(p.ns, fmt.Sprintf("net.ipv%d.fib_multipath_hash_policy", f.family), "1", "0", "sysctl:fib_multipath_hash_policy")
			mark := b.mark(p.ns)
			b.add(Element{
				Namespace: p.ns, Tool: ToolIP, Family: f.family, Mark: mark, Features: []string{"route:multipath"},
				Text: fmt.Sprintf("-%d route add %s proto %d nexthop via %s dev eth0 weight %d nexthop via %s dev eth0", f.family, prefix, mark, via, 1+b.IntN(3), third.addrs[at]),
			})
			b.iptables(third.name, f.family, x.backend, "mangle", "PREROUTING", fmt.Sprintf("-p %s -s %s -d %s -j DROP", f.Protocol, p.src, p.dst), "target:DROP")
		}})
	}
	pick(b, options).make()
	f.Repeat = throws
}

// third is a node that has nothing to do with the flow.
func (b *builder) third(f *flow) *node {
	for _, n := range b.nodes {
		if n != f.fromNode && n != f.toNode {
			return n
		}
	}
	return nil
}
