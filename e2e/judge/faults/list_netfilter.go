//go:build linux

package main

var xtablesFaults = []fault{
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
		"if res := x.op(p, &p.ops[i]); res.Action != Accept {",
		"if res := x.op(p, &p.ops[i]); res.Action != Accept || p.ops[i].kind == opFilter && x.acted > 0 {",
	},
	{
		"base chains run in the wrong order", "simulator/netfilter/ruleset.go",
		"cmp.Or(cmp.Compare(a.priority, b.priority), before(a.chain, b.chain))", "cmp.Or(cmp.Compare(b.priority, a.priority), before(a.chain, b.chain))",
	},
	{
		"of base chains with one priority the oldest runs first", "simulator/netfilter/ruleset.go",
		"cmp.Compare(age(b), age(a))", "cmp.Compare(age(a), age(b))",
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
		"restore-mark forgets its masks", "simulator/netfilter/target.go",
		"x.p.Mark = x.p.Mark&^a.nfMask ^ a.shifted(c.Mark&a.ctMask)", "x.p.Mark = a.shifted(c.Mark)",
	},
	{
		"save-mark forgets its masks", "simulator/netfilter/target.go",
		"c.Mark = c.Mark&^a.ctMask ^ a.shifted(x.p.Mark&a.nfMask)", "c.Mark = a.shifted(x.p.Mark)",
	},
	{
		"the zone of a connection is ignored", "simulator/netfilter/conntrack.go",
		"if *c.tuple(reply) == *tuple && c.zone.of(reply) == z.of(reply) {", "if *c.tuple(reply) == *tuple {",
	},
	{
		"the shortest network of a set decides", "simulator/netfilter/ipset_parse.go",
		"func(a, b uint8) int { return cmp.Compare(b, a) }", "func(a, b uint8) int { return cmp.Compare(a, b) }",
	},
	{
		"multiport --ports looks at the destination alone", "simulator/netfilter/match_basic.go",
		"hit = m.contains(x.p.SrcPort) || m.contains(x.p.DstPort)", "hit = m.contains(x.p.DstPort)",
	},
	{
		"an answer is not ESTABLISHED", "simulator/netfilter/conntrack.go",
		"\t\tc.SeenReply = true\n\t\treturn c, CTEstablished, true", "\t\tc.SeenReply = true\n\t\treturn c, CTNew, true",
	},
}

var nftablesFaults = []fault{
	{
		"the policy drop of an nft chain is ignored", "simulator/netfilter/parse_nft.go",
		"\t\treturn Drop, nil\n", "\t\treturn Accept, nil\n",
	},
	{
		"base chains of nft run by the size of their priority alone", "simulator/netfilter/parse_nft.go",
		"priority: int(priority), devices", "priority: max(int(priority), -int(priority)), devices",
	},
	{
		"the element * of a map is ignored", "simulator/netfilter/nft_set.go",
		"best := s.catchAll\n", "best := -1\n",
	},
	{
		"all elements of a map are as likely for numgen", "simulator/netfilter/nft_random.go",
		"weights[w] = float64(counts[i]) / float64(r.sides)", "weights[w] = float64(min(counts[i], 1)) / float64(len(order))",
	},
	{
		"intervals of a set end one too early", "simulator/netfilter/nft_set.go",
		"if !key[i].within(r.first[i], r.last[i]) {", "if !key[i].within(r.first[i], r.last[i]) || key[i] == r.last[i] && r.first[i] != r.last[i] {",
	},
	{
		"goto in a verdict map comes back", "simulator/netfilter/nft_map.go",
		"\treturn a.set.data[index].verdict.do(x)\n", "\tout := a.set.data[index].verdict.do(x)\n\tif out.kind == outGoto {\n\t\tout.kind = outJump\n\t}\n\treturn out\n",
	},
	{
		"a verdict map without the key drops", "simulator/netfilter/nft_map.go",
		"\tcase res == no:\n\t\treturn outcome{kind: outBreak}\n\tcase res == maybe || a.set", "\tcase res == no:\n\t\treturn outcome{kind: outDrop}\n\tcase res == maybe || a.set",
	},
}

var natFaults = []fault{
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
		"if x.hook == Output && c.tuple(x.st.Reply).Dst != c.tuple(!x.st.Reply).Src && !x.env.Reroute() {",
		"if x.hook == Output && c.tuple(x.st.Reply).Dst != c.tuple(!x.st.Reply).Src && !x.st.Reply && false {",
	},
	{
		"nat chains run in the wrong order", "simulator/netfilter/ruleset.go",
		"cmp.Or(cmp.Compare(a.priority, b.priority), before(a, b))", "cmp.Or(cmp.Compare(b.priority, a.priority), before(a, b))",
	},
	{
		"MASQUERADE takes an address of any device", "simulator/fib/source.go",
		"return f.selectIPv4(dev, gateway, netstack.ScopeGlobal)", "return f.otherIPv4(netstack.ScopeGlobal, func(string) bool { return true })",
	},
	{
		"REDIRECT goes to loopback on PREROUTING, too", "simulator/netfilter/nat.go",
		"\tif x.hook == Output {\n\t\tif x.family == netstack.IPv4 {", "\tif x.hook == Output || x.hook == Prerouting {\n\t\tif x.family == netstack.IPv4 {",
	},
	{
		"NETMAP keeps the network and takes the host", "simulator/netfilter/nat.go",
		"old.and(mask.not()).or(addrBits(a.prefix.Addr()).and(mask)).addr(x.family)", "old.and(mask).or(addrBits(a.prefix.Addr()).and(mask.not())).addr(x.family)",
	},
	{
		"ICMP errors are not translated back", "simulator/netfilter/nat.go",
		"\t\tx.natError(c, m)\n", "",
	},
}
