package judge

import "fmt"

// nftCondition is a condition of nftables that holds of a flow's packets, or of the first of them, where it fits.
type nftCondition struct {
	feature string
	fits    func(*view) bool
	text    func(*nftables) string
}

func nftConditions() []nftCondition {
	always := func(list ...string) func(*nftables) string {
		return func(x *nftables) string { return one(x.builder, list...) }
	}
	return []nftCondition{
		{"nft:iifname", func(v *view) bool { return v.in != "" && v.at("PREROUTING", "INPUT", "FORWARD") }, func(x *nftables) string {
			return one(x.builder, fmt.Sprintf("iifname %q", x.v.in), `iifname != "lo"`, fmt.Sprintf("iifname { %q, \"lo\" }", x.v.in))
		}},
		{"nft:oifname", func(v *view) bool { return v.out != "" && v.at("OUTPUT", "POSTROUTING", "FORWARD") }, func(x *nftables) string {
			return one(x.builder, fmt.Sprintf("oifname %q", x.v.out), `oifname != "lo"`, fmt.Sprintf("oifname { %q, \"lo\" }", x.v.out))
		}},
		{"nft:wildcard", func(v *view) bool { return v.in != "" && v.at("PREROUTING", "INPUT", "FORWARD") }, func(x *nftables) string {
			return one(x.builder, fmt.Sprintf("iifname %q", x.v.in[:len(x.v.in)-1]+"*"), `iifname != "lo*"`)
		}},
		{"nft:iif", func(v *view) bool { return v.in != "" && v.at("PREROUTING", "INPUT", "FORWARD") }, func(x *nftables) string {
			return one(x.builder, fmt.Sprintf("iif %q", x.v.in), `iif != "lo"`)
		}},
		{"nft:skuid", func(v *view) bool { return v.local && !v.reply && v.hook == "OUTPUT" }, func(x *nftables) string {
			uid := x.v.user()
			return one(x.builder, fmt.Sprintf("skuid %d", uid), fmt.Sprintf("skuid != %d", uid+1), fmt.Sprintf("skuid %d-%d", uid, uid+5))
		}},
		{"nft:hash", nil, func(x *nftables) string {
			return fmt.Sprintf("jhash %s saddr . %s daddr mod %d seed %#x %s", x.ip(), x.ip(), 3+x.IntN(3), 1+x.IntN(1<<30), one(x.builder, "0", "!= 0", "< 2"))
		}},
		{"nft:symhash", nil, always("symhash mod 1 0", "symhash mod 1 != 1")},
		{"nft:anonymous-vmap", nil, func(x *nftables) string {
			return fmt.Sprintf("%s saddr { %s } %s daddr != { %s }", x.ip(), x.v.src, x.ip(), other(x.v.flow.family))
		}},
		{"nft:interval", nil, func(x *nftables) string {
			return fmt.Sprintf("%s saddr %s-%s", x.ip(), x.v.src.Prev(), x.v.src.Next())
		}},
		{"nft:ct-state", nil, func(x *nftables) string {
			if x.v.reply {
				return one(x.builder, "ct state established", "ct state != new", "ct state { established, related }")
			}
			return one(x.builder, "ct state new", "ct state != established", "ct state { new, untracked }")
		}},
		{"nft:ct-status", nil, func(x *nftables) string {
			if x.v.reply {
				return "ct status seen-reply"
			}
			return "ct status & (snat | dnat) == 0"
		}},
		{"nft:ct-tuple", nil, func(x *nftables) string {
			ip, src := x.ip(), x.v.src
			if x.v.reply {
				src = x.v.dst
			}
			return one(x.builder, fmt.Sprintf("ct original %s daddr %s", ip, x.v.flow.To), fmt.Sprintf("ct reply %s saddr %s", ip, x.v.flow.To), fmt.Sprintf("ct reply %s daddr %s", ip, src), fmt.Sprintf("ct original %s saddr %s", ip, src))
		}},
		{"nft:fib-oif", func(v *view) bool { return v.hook == "PREROUTING" && v.physIn == "" }, always("fib saddr . iif oif exists", "fib saddr . iif oif != 0", "fib saddr . mark . iif oif exists")},
		{"nft:fib-type", nil, func(x *nftables) string {
			v := x.v
			local := v.hook == "INPUT"
			switch {
			case local:
				return one(x.builder, "fib daddr type local", "fib daddr type != unicast", "fib saddr type != local")
			case v.local:
				return one(x.builder, "fib saddr type local", "fib daddr type unicast")
			}
			return one(x.builder, "fib saddr type { local, unicast }", "fib daddr type != { broadcast, blackhole }")
		}},
		{"nft:ct-direction", nil, func(x *nftables) string {
			if x.v.reply {
				return "ct direction reply"
			}
			return one(x.builder, "ct direction original", "ct direction != reply")
		}},
		{"nft:anonymous-set", nil, func(x *nftables) string {
			return fmt.Sprintf("%s saddr { %s, %s }", x.ip(), x.v.src, other(x.v.flow.family))
		}},
		{"nft:saddr", nil, func(x *nftables) string {
			p, _ := x.v.src.Prefix(x.v.src.BitLen() - x.IntN(9))
			return one(x.builder, fmt.Sprintf("%s saddr %s", x.ip(), p), fmt.Sprintf("%s saddr != %s", x.ip(), other(x.v.flow.family)))
		}},
		{"nft:daddr", nil, func(x *nftables) string {
			p, _ := x.v.dst.Prefix(x.v.dst.BitLen() - x.IntN(9))
			return one(x.builder, fmt.Sprintf("%s daddr %s", x.ip(), p), fmt.Sprintf("%s daddr != %s", x.ip(), other(x.v.flow.family)))
		}},
		{"nft:dscp", nil, func(x *nftables) string {
			if x.v.reply {
				return x.ip() + " dscp != 0x33"
			}
			return fmt.Sprintf("%s dscp %d", x.ip(), x.v.flow.DSCP)
		}},
		{"nft:iiftype", func(v *view) bool { return v.in != "" && v.at("PREROUTING", "INPUT", "FORWARD") }, always("iiftype ether", "iiftype != loopback")},
		{"nft:meta-length", nil, always("meta length 28-65535", "meta length > 27", "meta length != 1")},
		{"nft:meta-nfproto", nil, func(x *nftables) string { return "meta l4proto != { 1, 99 }" }},
		{"nft:meta-pkttype", arriving, always("meta pkttype host", "meta pkttype != broadcast", "meta pkttype { host, multicast }")},
		{"nft:ttl", nil, func(x *nftables) string {
			if ipv6(&x.v) {
				return one(x.builder, "ip6 hoplimit > 10", "ip6 hoplimit 60-64", "ip6 hoplimit != 9")
			}
			return one(x.builder, "ip ttl > 10", "ip ttl 60-64", "ip ttl != 9")
		}},
		{"nft:ports", func(v *view) bool { return v.dport != 0 }, func(x *nftables) string {
			return one(x.builder, fmt.Sprintf("th dport { %d, 7 }", x.v.dport), fmt.Sprintf("th sport . th dport { %d . %d }", x.v.sport, x.v.dport), fmt.Sprintf("th sport != %d", x.v.sport+1))
		}},
		{"nft:raw", func(v *view) bool { return v.dport != 0 }, func(x *nftables) string { return fmt.Sprintf("@th,16,16 %d", x.v.dport) }},
		{"nft:tcp-flags", func(v *view) bool { return tcp(v) && !v.reply }, always("tcp flags syn", "tcp flags & (syn | ack) == syn", "tcp flags & (fin | syn | rst | ack) == syn")},
		{"nft:tcp-option", func(v *view) bool { return tcp(v) && !v.reply }, always("tcp option maxseg exists", "tcp option maxseg size 500-1460")},
	}
}

// holds says whether the condition can stand in the rules of the place.
func (c *nftCondition) holds(x *nftables) bool {
	return (c.fits == nil || c.fits(&x.v)) && (x.priority > -200 || len(c.feature) < 6 || c.feature[:6] != "nft:ct")
}

// truths are up to two conditions that hold besides: a rule with them decides by them, too.
func (x *nftables) truths(text string) string {
	list := nftConditions()
	for range x.IntN(3) {
		if c := &list[x.IntN(len(list))]; c.holds(x) {
			text += " " + c.text(x)
			x.held = append(x.held, c.feature)
		}
	}
	return text
}
