package main

// fault is a plausible mistake in the simulator: one piece of one file, which must occur exactly once, and what stands in
// its place.
type fault struct {
	name, file, old, instead string
}

var faults = []fault{
	{
		"RETURN leaves the calling chain, too", "simulator/netfilter/pipeline.go",
		"return sub, sub.kind != outContinue && sub.kind != outReturn", "return sub, sub.kind != outContinue",
	},
	{
		"goto comes back like a jump", "simulator/netfilter/pipeline.go",
		"\t\treturn x.run(out.chain), true\n", "\t\tsub := x.run(out.chain)\n\t\treturn sub, sub.kind != outContinue && sub.kind != outReturn\n",
	},
	{
		"the policy of a chain is ignored", "simulator/netfilter/pipeline.go",
		"\tif c.policy == Drop {\n\t\treturn Result{Action: Drop, Rule: c.policyRef()}", "\tif c.policy == Drop && len(c.rules) == -1 {\n\t\treturn Result{Action: Drop, Rule: c.policyRef()}",
	},
	{
		"ACCEPT in one base chain ends the hook", "simulator/netfilter/pipeline.go",
		"if res := x.op(p, &p.ops[i]); res.Action != Accept {\n\t\t\treturn res\n\t\t}",
		"if res := x.op(p, &p.ops[i]); res.Action != Accept || p.ops[i].kind == opFilter && x.acted > 0 {\n\t\t\treturn res\n\t\t}",
	},
	{
		"base chains run in the wrong order", "simulator/netfilter/ruleset.go",
		"slices.SortStableFunc(p.ops, func(a, b hookOp) int { return cmp.Compare(a.priority, b.priority) })",
		"slices.SortStableFunc(p.ops, func(a, b hookOp) int { return cmp.Compare(b.priority, a.priority) })",
	},
	{
		"the legacy backend is ignored", "simulator/netfilter/ruleset.go",
		"\t\tif err := c.iptables(&ns.IPTables[i]); err != nil {",
		"\t\tif ns.IPTables[i].Backend == netstack.BackendLegacy {\n\t\t\tcontinue\n\t\t}\n\t\tif err := c.iptables(&ns.IPTables[i]); err != nil {",
	},
	{
		"MARK does nothing", "simulator/netfilter/target.go",
		"x.p.Mark = x.p.Mark&^a.mask ^ a.value", "_ = a.value",
	},
	{
		"MARK forgets its mask", "simulator/netfilter/target.go",
		"x.p.Mark = x.p.Mark&^a.mask ^ a.value", "x.p.Mark = a.value",
	},
	{
		"a mark is matched without its mask", "simulator/netfilter/match_basic.go",
		"is((x.p.Mark&m.mask == m.value) != m.invert)", "is((x.p.Mark == m.value) != m.invert)",
	},
	{
		"port ranges end one too early", "simulator/netstack/route.go",
		"return r.First <= p && p <= r.Last }", "return r.First <= p && (p < r.Last || r.First == r.Last) }",
	},
	{
		"an inverted address is not inverted", "simulator/netfilter/match_basic.go",
		"return is(m.contains(a) != m.invert)", "return is(m.contains(a))",
	},
	{
		"a wildcard of an interface is taken literally", "simulator/netfilter/match_basic.go",
		"dev == m.name || m.prefix && strings.HasPrefix(dev, m.name)", "dev == m.name || m.prefix && strings.HasPrefix(dev, m.name+\"+\")",
	},
	{
		"TCP flags are not masked", "simulator/netfilter/match_basic.go",
		"x.p.TCPFlags&m.mask == m.set", "x.p.TCPFlags == m.set",
	},
	{
		"a first SYN is INVALID", "simulator/netfilter/match_conntrack.go",
		"\tcase CTNew:\n\t\treturn bitNew\n", "\tcase CTNew:\n\t\treturn bitInvalid\n",
	},
	{
		"ctorigdst looks at the reply", "simulator/netfilter/match_conntrack.go",
		"t := c.tuple(a.reply)\n\t\taddr := t.Dst", "t := c.tuple(true)\n\t\taddr := t.Dst",
	},
	{
		"addrtype forgets limit-iface", "simulator/netfilter/match_context.go",
		"\t\tdev = x.st.In\n\tcase m.limitOut:\n\t\tdev = x.st.Out\n\t}\n\tif m.src", "\t\tdev = \"\"\n\tcase m.limitOut:\n\t\tdev = \"\"\n\t}\n\tif m.src",
	},
	{
		"nomatch in a set is ignored", "simulator/netfilter/ipset.go",
		"case !found || hit.nomatch != (m.returnNomatch && s.hasNetworks()):", "case !found:",
	},
	{
		"answers of DNAT are not translated back", "simulator/netfilter/nat.go",
		"\t\treturn c.SrcNAT\n\t}\n\treturn c.DstNAT", "\t\treturn c.SrcNAT\n\t}\n\treturn c.DstNAT && !reply",
	},
	{
		"SNAT happens before routing", "simulator/netfilter/ruleset.go",
		"if hook == Input || hook == Postrouting {\n\t\t\t\t\tpriority = priorityNATSrc",
		"if hook == Input || hook == Postrouting {\n\t\t\t\t\tpriority = priorityRaw",
	},
	{
		"DNAT on OUTPUT does not route again", "simulator/netfilter/nat.go",
		"if x.hook == Output && c.tuple(x.st.Reply).Dst != c.tuple(!x.st.Reply).Src && !x.env.Reroute(x.st) {",
		"if x.hook == Output && c.tuple(x.st.Reply).Dst != c.tuple(!x.st.Reply).Src && !x.st.Reply && false {",
	},
	{
		"loose rp_filter is taken for strict", "simulator/sender.go",
		"mode := h.confMax(netstack.IPv4, dev, \"rp_filter\")", "mode := h.confMax(netstack.IPv4, dev, \"rp_filter\")\n\tif mode == 2 {\n\t\tmode = 1\n\t}",
	},
	{
		"the larger metric wins", "simulator/fib/fib.go",
		"cmp.Compare(b.TOS, a.TOS), cmp.Compare(a.Metric, b.Metric))", "cmp.Compare(b.TOS, a.TOS), cmp.Compare(b.Metric, a.Metric))",
	},
	{
		"\"not\" of a policy rule is ignored", "simulator/fib/rule.go",
		"if selected == r.Invert {", "if !selected {",
	},
	{
		"suppress_prefixlength is ignored", "simulator/fib/rule.go",
		"if res.Route.Dst.Bits() <= r.SuppressPrefixLen {", "if res.Route.Dst.Bits() < 0 {",
	},
	{
		"IPv6 forwards by the setting of the device", "simulator/ip.go",
		"key = netstack.ConfKey(netstack.IPv6, \"all\", \"forwarding\")", "key = netstack.ConfKey(netstack.IPv6, dev, \"forwarding\")",
	},
	{
		"a blackhole route answers like an unreachable one", "simulator/ip.go",
		"return verdict.NewFinding(verdict.RouteBlackhole, at, evidence(res), describeRoute(res)), dropped, errInvalid",
		"return verdict.NewFinding(verdict.RouteBlackhole, at, evidence(res), describeRoute(res)), dropped, errHost",
	},
}
