package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// xtablesEdges are matches and targets of iptables.
func xtablesEdges() []subject {
	anywhere, mangle := []string{"filter", "mangle"}, []string{"mangle"}
	conditions := func(feature string, tables []string, fits func(*view) bool, text func(*xtables) string) subject {
		return subject{feature: feature, show: func(b *builder) bool {
			x := b.xtSpot(tables, fits)
			if x == nil {
				return false
			}
			x.decides(text(x), feature)
			return true
		}}
	}
	return []subject{
		{feature: "target:MARK", show: func(b *builder) bool { return b.xtSpot(mangle, nil).masksMark() }},
		{feature: "target:CONNMARK", show: func(b *builder) bool { return b.xtSpot(mangle, nil).restoresMark() }},
		{feature: "target:CONNMARK", show: func(b *builder) bool { return b.xtSpot(mangle, nil).savesMark() }},
		{feature: "target:CT", show: (*builder).zoned},
		conditions("match:mark", mangle, nil, func(x *xtables) string {
			set := x.Uint32()&0xffff0 | 0x5
			x.shows("", fmt.Sprintf("-j MARK --set-mark %#x", set), "target:MARK")
			mask := one[uint32](x.builder, 0xff, 0xf, 0xfff, 0xff00ff)
			return fmt.Sprintf("-m mark %s--mark %#x/%#x", x.not(30), (set^one[uint32](x.builder, 0, 0, 1))&mask, mask)
		}),
		conditions("match:tcp-flags", anywhere, func(v *view) bool { return v.flow.Protocol == verdict.TCP }, func(x *xtables) string {
			// Each looks at some of the flags only.
			return "-m tcp " + x.not(25) + "--tcp-flags " + one(x.builder, "SYN SYN", "ACK ACK", "ACK NONE", "SYN,FIN SYN", "RST,FIN NONE", "ACK,RST ACK", "PSH NONE", "SYN,RST SYN")
		}),
		{feature: "match:addrtype", show: (*builder).typedByDevice},
		{feature: "match:-s", show: func(b *builder) bool { return b.xtSpot(anywhere, withPorts).besideNetwork() }},
		conditions("match:multiport", anywhere, withPorts, func(x *xtables) string {
			v := x.v
			side, port := one(x.builder, "--ports", "--ports", "--ports", "--ports", "--sports"), int(v.sport)
			return "-m multiport " + x.not(25) + side + " " + one(
				x.builder, fmt.Sprint(port), fmt.Sprintf("7,%d", port), fmt.Sprintf("%d,%d", v.dport+1, port), fmt.Sprintf("%d:%d", port-min(port, 3), port), fmt.Sprintf("%d:%d,7", port, port+2), fmt.Sprintf("%d:%d", port+1, port+4))
		}),
		conditions("match:tcp", anywhere, withPorts, func(x *xtables) string {
			v := x.v
			side, port := "--dport", int(v.dport)
			if x.chance(50) {
				side, port = "--sport", int(v.sport)
			}
			first := port - x.IntN(3)
			return fmt.Sprintf("-m %s %s%s %d:%d", v.flow.Protocol, x.not(25), side, first, max(first, port+one(x.builder, -1, 0, 0, 1)))
		}),
		conditions("match:-i", anywhere, func(v *view) bool { return v.in != "" && v.at("PREROUTING", "INPUT", "FORWARD") }, func(x *xtables) string {
			dev := x.v.in
			return x.not(25) + "-i " + one(x.builder, dev+"+", dev[:len(dev)-1]+"+", dev[:1]+"+", dev[:len(dev)-1]+"x+")
		}),
		conditions("match:ctorig", anywhere, nil, func(x *xtables) string {
			v, origin := x.v, x.origSource()
			return "-m conntrack " + x.not(25) + one(
				x.builder, "--ctorigdst "+v.flow.To.String(), "--ctorigdst "+origin.String(), "--ctorigsrc "+origin.String(), "--ctreplsrc "+v.flow.To.String(), "--ctrepldst "+origin.String())
		}),
		conditions("match:ttl", anywhere, func(v *view) bool { return v.flow.fromNode != v.flow.toNode }, func(x *xtables) string {
			module, hops := "ttl --ttl", one(x.builder, 64, 63, 63, 62)
			if x.v.flow.family == netstack.IPv6 {
				module = "hl --hl"
			}
			return fmt.Sprintf("-m %s-%s %d", module, one(x.builder, "eq", "eq", "lt", "gt"), hops)
		}),
		{feature: "match:set", show: (*builder).nested},
		{feature: "policy:DROP", show: (*builder).policed},
		{feature: "target:RETURN", show: func(b *builder) bool { return b.xtSpot(anywhere, nil).comesBack() }},
	}
}

// decides drops what the condition holds of, or lets only that pass.
func (x *xtables) decides(text string, feature string) {
	if x.chance(60) {
		x.shows(text, "-j DROP", feature, "target:DROP")
		return
	}
	x.shows(text, "-j ACCEPT", feature, "target:ACCEPT")
	x.shows("", "-j DROP", "target:DROP")
}

// masksMark changes some bits of a mark that has others, and looks at all of them.
func (x *xtables) masksMark() bool {
	if x == nil {
		return false
	}
	before, value, mask := x.Uint32()&0xfffff, x.Uint32()&0xff0, one[uint32](x.builder, 0xff0, 0xf0, 0xffff, 0xff00)
	x.shows("", fmt.Sprintf("-j MARK --set-mark %#x", before), "target:MARK")
	set, after := fmt.Sprintf("--set-xmark %#x/%#x", value, mask), before&^mask^value
	switch x.IntN(4) {
	case 0:
		set, after = fmt.Sprintf("--set-mark %#x/%#x", value, mask), before&^(mask|value)|value
	case 1:
		set, after = fmt.Sprintf("--or-mark %#x", value), before|value
	case 2:
		set, after = fmt.Sprintf("--and-mark %#x", value), before&value
	}
	x.shows("", "-j MARK "+set, "target:MARK")
	x.decides(fmt.Sprintf("-m mark --mark %#x", after), "match:mark")
	return true
}

// restoresMark takes some bits of a connection's mark into some of the packet's.
func (x *xtables) restoresMark() bool {
	if x == nil {
		return false
	}
	packet, conn := x.Uint32()&0xfffff, x.Uint32()&0xfffff
	nf, ct := one[uint32](x.builder, 0xff0, 0xffff, 0xf), one[uint32](x.builder, 0xff0, 0xff, 0xffff0)
	x.shows("", fmt.Sprintf("-j MARK --set-mark %#x", packet), "target:MARK")
	x.shows("", fmt.Sprintf("-j CONNMARK --set-mark %#x", conn), "target:CONNMARK")
	x.shows("", fmt.Sprintf("-j CONNMARK --restore-mark --nfmask %#x --ctmask %#x", nf, ct), "target:CONNMARK")
	x.decides(fmt.Sprintf("-m mark --mark %#x", packet&^nf^conn&ct), "match:mark")
	return true
}

// savesMark is the other way round.
func (x *xtables) savesMark() bool {
	if x == nil {
		return false
	}
	packet, conn := x.Uint32()&0xfffff, x.Uint32()&0xfffff
	nf, ct := one[uint32](x.builder, 0xff0, 0xff, 0xffff0), one[uint32](x.builder, 0xff0, 0xffff, 0xf)
	x.shows("", fmt.Sprintf("-j MARK --set-mark %#x", packet), "target:MARK")
	x.shows("", fmt.Sprintf("-j CONNMARK --set-mark %#x", conn), "target:CONNMARK")
	x.shows("", fmt.Sprintf("-j CONNMARK --save-mark --nfmask %#x --ctmask %#x", nf, ct), "target:CONNMARK")
	x.decides(fmt.Sprintf("-m connmark --mark %#x", conn&^ct^packet&nf), "match:connmark")
	return true
}

// zoned puts the packets of one direction, or of both, into a zone of connections, and asks what the answers are.
func (b *builder) zoned() bool {
	x := b.xtSpot([]string{"raw"}, func(v *view) bool { return v.hook == "PREROUTING" && !v.reply && v.physIn == "" && withPorts(v) })
	if x == nil {
		return false
	}
	for _, v := range b.views(x.v.flow) {
		if v.ns != x.v.ns || !v.reply || v.hook != "PREROUTING" && v.hook != "OUTPUT" {
			continue
		}
		x.shows("", "-j CT --zone 7", "target:CT")
		x.v, x.chain = v, v.hook
		switch x.IntN(3) {
		case 0:
			x.shows("", "-j CT --zone 7", "target:CT")
		case 1:
			x.shows("", "-j CT --zone 8", "target:CT")
		}
		x.table = "mangle"
		x.decides("-m conntrack --ctstate "+one(x.builder, "ESTABLISHED", "ESTABLISHED", "NEW,INVALID"), "match:ctstate")
		return true
	}
	return false
}

// typedByDevice asks for the type of an address at a device that has it, or has it not.
func (b *builder) typedByDevice() bool {
	n, from, at := one(b, b.nodes...), one(b, b.pods...), b.IntN(2)
	to := n.addrs[at]
	switch {
	case from.node != n && !n.routed:
		to = n.ranges[at].Addr().Next() // which the bridge has, and it comes by the uplink
	case b.chance(75):
		from = one(b, n.pods...) // it comes by the pods' side
	}
	f := b.ask(from.name, to, one(b, verdict.TCP, verdict.UDP))
	f.toNode = n
	var list []view
	for _, v := range b.views(f) {
		if v.ns == n.name && !v.reply && v.at("PREROUTING", "INPUT") {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return false
	}
	v := one(b, list...)
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: v.hook}
	x.decides("-m addrtype "+x.not(30)+"--dst-type "+one(b, "LOCAL", "LOCAL", "UNICAST")+" --limit-iface-in", "match:addrtype")
	return true
}

// besideNetwork excepts a network that holds the address, or ends beside it.
func (x *xtables) besideNetwork() bool {
	if x == nil {
		return false
	}
	v := x.v
	side, a := "-s", v.src
	if x.chance(50) {
		side, a = "-d", v.dst
	}
	network := netip.PrefixFrom(a, a.BitLen()-one(x.builder, 0, 0, 1, 4))
	if x.chance(40) { // the next one
		flipped := a.AsSlice()
		last := a.BitLen() - network.Bits()
		flipped[len(flipped)-1] ^= 1 << last
		other, _ := netip.AddrFromSlice(flipped)
		network = netip.PrefixFrom(other, network.Bits())
	}
	text := fmt.Sprintf("-p %s -m %s --sport %d --dport %d %s%s %s", v.flow.Protocol, v.flow.Protocol, v.sport, v.dport, x.not(65), side, network.Masked())
	if x.chance(60) {
		x.rule(x.chain, match{text: text}, "-j DROP", "match:"+side, "target:DROP")
		return true
	}
	x.rule(x.chain, match{text: text}, "-j ACCEPT", "match:"+side, "target:ACCEPT")
	x.shows("", "-j DROP", "target:DROP")
	return true
}

// nested makes a set of networks within each other, some of which are excepted.
func (b *builder) nested() bool {
	x := b.xtSpot([]string{"filter", "mangle"}, nil)
	if x == nil {
		return false
	}
	side, a := "src", x.v.src
	if b.chance(50) {
		side, a = "dst", x.v.dst
	}
	name := fmt.Sprintf("in%d", len(b.world.Elements))
	create := "create " + name + " hash:net"
	if x.v.flow.family == netstack.IPv6 {
		create += " family inet6"
	}
	b.ipset(x.v.ns, create)
	except := b.chance(50)
	for _, less := range []int{0, 3, 6} {
		if less == 0 && b.chance(30) {
			continue // the longest does not hold it
		}
		entry := "add " + name + " " + netip.PrefixFrom(a, a.BitLen()-less).Masked().String()
		if except {
			b.ipset(x.v.ns, entry+" nomatch", "set:nomatch")
		} else {
			b.ipset(x.v.ns, entry, "set:hash:net")
		}
		except = !except
	}
	x.decides("-m set "+x.not(20)+"--match-set "+name+" "+side, "match:set")
	return true
}

// policed leaves one flow to a policy of DROP, from which a rule may save it.
func (b *builder) policed() bool {
	x := b.xtSpot([]string{"filter"}, withPorts)
	if x == nil || !b.once("policy "+x.v.ns+x.chain) {
		return false
	}
	v := x.v
	b.chain(v.ns, v.flow.family, x.backend, x.table, x.chain, "DROP", "policy:DROP")
	rest := func(text string) { x.rule(x.chain, match{text: text}, "-j ACCEPT", "target:ACCEPT") }
	rest("! -p " + string(v.flow.Protocol))
	rest(fmt.Sprintf("-p %s -m %s ! --sport %d", v.flow.Protocol, v.flow.Protocol, v.sport))
	rest(fmt.Sprintf("-p %s -m %s ! --dport %d", v.flow.Protocol, v.flow.Protocol, v.dport))
	if b.chance(40) {
		x.shows("", "-j ACCEPT", "target:ACCEPT")
	}
	return true
}

// comesBack returns from one chain, or two, to a rule that decides.
func (x *xtables) comesBack() bool {
	if x == nil {
		return false
	}
	last, chains := func() string { return one(x.builder, "-j DROP", "-j ACCEPT", "") }, []string{x.chain, x.sub()}
	if x.chance(60) {
		chains = append(chains, x.sub())
	}
	for i, chain := range chains {
		switch {
		case i == len(chains)-1: // the innermost
			x.in(chain, "", one(x.builder, "-j RETURN", "-j RETURN", ""), "target:RETURN")
			x.in(chain, "", last())
		case i == 0:
			x.in(chain, "", "-j "+chains[1], "target:jump")
			x.in(chain, "", one(x.builder, "-j DROP", "-j DROP", "-j DROP", "-j ACCEPT"))
		default:
			x.in(chain, "", one(x.builder, "-j ", "-g ")+chains[i+1], "target:jump")
			x.in(chain, "", one(x.builder, "", last()))
		}
	}
	return true
}
