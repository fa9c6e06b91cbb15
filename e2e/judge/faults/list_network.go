//go:build linux

package main

var routeFaults = []fault{
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
		"v, _ := h.ConfSysctl(netstack.IPv6, \"all\", \"forwarding\")", "v, _ := h.ConfSysctl(netstack.IPv6, dev, \"forwarding\")",
	},
	{
		"a blackhole route answers like an unreachable one", "simulator/ip.go",
		"typed(verdict.RouteBlackhole), dropped, errInvalid",
		"typed(verdict.RouteBlackhole), dropped, errHost",
	},
	{
		"rp_filter of \"all\" is ignored", "simulator/sender.go",
		"mode := h.confMax(netstack.IPv4, dev, \"rp_filter\")", "mode, _ := h.ConfSysctl(netstack.IPv4, dev, \"rp_filter\")",
	},
	{
		"policy rules of one priority run in reverse", "simulator/fib/rule.go",
		"\t\tslices.SortStableFunc(rules, ", "\t\tslices.Reverse(rules)\n\t\tslices.SortStableFunc(rules, ",
	},
	{
		"forwarding is asked of the device by which the packet leaves", "simulator/ip.go",
		"\tforwarding := l.forwarding(in.Name)\n", "\tforwarding := l.forwarding(in.Name)\n\tif len(l.route.NextHops) > 0 {\n\t\tforwarding = l.forwarding(l.route.NextHops[0].Dev)\n\t}\n",
	},
	{
		"the scope of addresses is ignored", "simulator/fib/source.go",
		" || min(a.Scope, local) > scope {", " || local > netstack.ScopeHost {",
	},
	{
		"the ways of a multipath route weigh the same", "simulator/fib/nexthop.go",
		"bound[i] = sum / total", "bound[i] = float64(i+1) / float64(len(hops)) * (sum / sum) * (total / total)",
	},
	{
		"throw ends the look-up", "simulator/fib/rule.go",
		"if res.Route == nil || res.Type == netstack.RouteThrow || f.suppressed(", "if res.Route == nil || f.suppressed(",
	},
	{
		"the mark of a policy rule has no mask", "simulator/fib/rule.go",
		"(r.Mark^q.Mark)&r.Mask != 0,", "r.Mask != 0 && r.Mark != q.Mark,",
	},
	{
		"ranges of users end one too early", "simulator/fib/rule.go",
		"r.UID.Last < uid {", "r.UID.Last <= uid {",
	},
	{
		"goto of a policy rule is ignored", "simulator/fib/rule.go",
		"\t\t\t\ti = r.next - 1\n", "\t\t\t\ti = max(i, 0)\n",
	},
	{
		"a router tells nobody that a packet is too big", "simulator/ip.go",
		"\te.notice.typ, e.notice.code = tooBig(l.packet.Family())\n", "\tif l.host != l.origin {\n\t\te.notice = notice{}\n\t}\n",
	},
	{
		"DF is ignored by routers", "simulator/ip.go",
		"\tif mtu := l.forwardMTU(l.host, p.Family()); p.Length > mtu && p.DF {\n", "\tif mtu := l.forwardMTU(l.host, p.Family()); p.Length > mtu {\n\t\tp.DF = false\n\t}\n\tif mtu := 0; mtu > 0 {\n",
	},
	{
		"the MTU of a route is ignored", "simulator/mtu.go",
		"if w.route.Route != nil && w.route.Route.MTU > 0 {", "if w.route.Route != nil && w.route.Route.MTU > maxMTU {",
	},
	{
		"routers leave the hop limit alone", "simulator/ip.go",
		"\tp.TTL--\n", "",
	},
}

var linkFaults = []fault{
	{
		"every port of a bridge has hairpin on", "simulator/bridge.go",
		"in.Valid() && (out.Link.Port == nil || !out.Link.Port.Hairpin) {", "in.Valid() && out.Link.Port == nil {",
	},
	{
		"no port of a bridge has hairpin on", "simulator/bridge.go",
		"in.Valid() && (out.Link.Port == nil || !out.Link.Port.Hairpin) {", "in.Valid() {",
	},
	{
		"isolation of ports is ignored", "simulator/segment.go",
		"in.Link.Port != nil && in.Link.Port.Isolated && p.Isolated:", "in.Link.Port == nil && p.Isolated:",
	},
	{
		"an isolated port is isolated from all", "simulator/segment.go",
		"in.Link.Port != nil && in.Link.Port.Isolated && p.Isolated:", "in.Link.Port != nil && (in.Link.Port.Isolated || p.Isolated):",
	},
	{
		"bridged packets never meet iptables", "simulator/bridge.go",
		"\treturn v != 0 || own\n", "\treturn v != 0 && own\n",
	},
	{
		"bridged packets always meet iptables", "simulator/bridge.go",
		"\treturn v != 0 || own\n", "\treturn v != 0 || own || true\n",
	},
	{
		"a permanent neighbour is asked for all the same", "simulator/neighbour.go",
		"if cached != nil && cached.Fixed() {", "if cached != nil && cached.Fixed() {\n\t\tcached = nil\n\t}\n\tif cached != nil && cached.Fixed() {",
	},
	{
		"arp_ignore is ignored", "simulator/arp.go",
		"mode := h.confMax(netstack.IPv4, dev, \"arp_ignore\")", "mode := 0",
	},
	{
		"proxy_arp is ignored", "simulator/arp.go",
		"if h.proxiesARP(dev, &res) || h.proxies(dev, addr) {", "if h.proxies(dev, addr) {",
	},
}
