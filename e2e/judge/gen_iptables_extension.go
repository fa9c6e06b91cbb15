package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// extensions are conditions of the rarer matches.
func (x *xtables) extensions() []option[func() string] {
	v := x.v
	f := v.flow
	list := []option[func() string]{
		{"match:set", x.set},
		{"match:set", x.set},
		{"match:ecn", func() string { return "-m ecn " + x.not(30) + "--ecn-ip-ect " + one(x.builder, "0", "0", "1") }},
		{"match:connlabel", func() string { return "-m connlabel " + x.not(50) + "--label 3" }},
		{"match:connmark", func() string { return "-m connmark " + x.not(40) + "--mark 0x0/0xff" }},
		{"match:cluster", func() string {
			total := 2 + x.IntN(3)
			return fmt.Sprintf("-m cluster --cluster-total-nodes %d %s--cluster-local-node %d --cluster-hash-seed %d", total, x.not(30), 1+x.IntN(total), x.IntN(1000))
		}},
		{"match:u32", x.u32},
		{"match:statistic", func() string {
			return "-m statistic --mode random " + x.not(30) + "--probability " + one(x.builder, "0", "1")
		}},
	}
	if f.Protocol == verdict.TCP {
		list = append(
			list,
			option[func() string]{"match:tcp-option", func() string { return "-m tcp " + x.not(30) + "--tcp-option 2" }},
			option[func() string]{"match:tcpmss", func() string {
				return "-m tcpmss " + x.not(20) + "--mss " + one(x.builder, "1:1300", "1300:1500", "1440", "1460")
			}},
		)
	}
	if v.hook == "FORWARD" || v.hook == "INPUT" || v.hook == "POSTROUTING" {
		list = append(list, option[func() string]{"match:physdev", func() string {
			return "-m physdev " + one(x.builder, "--physdev-is-bridged", "! --physdev-is-bridged", "--physdev-is-in", "! --physdev-is-in", "--physdev-in v+")
		}})
	}
	if f.family == netstack.IPv6 {
		list = append(
			list,
			option[func() string]{"match:ipv6header", func() string {
				return "-m ipv6header " + x.not(30) + "--header " + one(x.builder, "prot", "hop", "hop,prot") + one(x.builder, " --soft", "")
			}},
		)
	} else {
		list = append(list, option[func() string]{"match:-f", func() string { return x.not(70) + "-f" }})
	}
	return list
}

// u32 looks at the addresses and ports in the raw packet.
func (x *xtables) u32() string {
	v := x.v
	word := func(a netip.Addr, at int) uint32 {
		b := a.AsSlice()[at:]
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	src, dst, ports := 12, 16, "0>>22&0x3C@0"
	last := 0
	if v.flow.family == netstack.IPv6 {
		src, dst, ports, last = 8+12, 24+12, "40", 12
	}
	tests := []string{
		fmt.Sprintf("%d=%#x", src, word(v.src, last)), fmt.Sprintf("%d=%#x:%#x", dst, word(v.dst, last)-uint32(x.IntN(3)), word(v.dst, last)),
		fmt.Sprintf("%d&0xFF=%d", dst, x.near(int(word(v.dst, last)&0xff))), fmt.Sprintf("%d>>8&0xFFFF=0:%#x", src, word(v.src, last)>>8&0xffff),
	}
	if v.dport != 0 {
		tests = append(tests, fmt.Sprintf("%s&0xFFFF=%d", ports, x.near(int(v.dport))), fmt.Sprintf("%s>>16=%d:65535,1:5", ports, x.near(int(v.sport))))
	}
	text := one(x.builder, tests...)
	if x.chance(30) {
		text += "&&" + one(x.builder, tests...)
	}
	return fmt.Sprintf("-m u32 %s--u32 %q", x.not(20), text)
}

// set makes a set that knows the packet, or nearly, and a condition on it.
func (x *xtables) set() string {
	v := x.v
	f := v.flow
	name := fmt.Sprintf("set%d", len(x.world.Elements))
	proto := f.protocolName()
	side := func(src bool) (string, netip.Addr, uint16) {
		if src {
			return "src", v.src, v.sport
		}
		return "dst", v.dst, v.dport
	}
	first, a, aPort := side(x.chance(50))
	second, _, bPort := side(x.chance(50))
	third, c, _ := side(x.chance(50))
	if x.chance(15) {
		a = a.Next()
	}
	port := fmt.Sprintf("%s:%d", proto, x.near(int(bPort)))
	if x.chance(30) && bPort > 1 {
		port = fmt.Sprintf("%s:%d-%d", proto, bPort-1, x.near(int(bPort)))
	}
	if bPort == 0 {
		kind := "echo-request"
		if v.reply {
			kind = "echo-reply"
		}
		port = fmt.Sprintf("%s:%s", map[netstack.Family]string{netstack.IPv4: "icmp", netstack.IPv6: "icmpv6"}[f.family], kind)
	}
	dev := map[bool]string{true: v.in, false: v.out}[second == "src"]
	network := x.prefix(a)
	options := []option[[]string]{ // the type, its options, directions, elements
		{"set:hash:ip", []string{"hash:ip", "", first, a.String()}},
		{"set:hash:ip", []string{"hash:ip", fmt.Sprintf("netmask %d", a.BitLen()-8), first, a.Next().String()}},
		{"set:hash:net", []string{"hash:net", "", first, network.String()}},
		{"set:hash:ip,port", []string{"hash:ip,port", "", first + "," + second, a.String() + "," + port}},
		{"set:hash:net,port", []string{"hash:net,port", "", first + "," + second, network.String() + "," + port}},
		{"set:hash:ip,port,ip", []string{"hash:ip,port,ip", "", first + "," + second + "," + third, a.String() + "," + port + "," + c.String()}},
		{"set:hash:ip,port,net", []string{"hash:ip,port,net", "", first + "," + second + "," + third, a.String() + "," + port + "," + x.prefix(c).String()}},
	}
	if network.Bits() < a.BitLen() {
		options = append(options, option[[]string]{"set:nomatch", []string{"hash:net", "", first, network.String(), netip.PrefixFrom(a, a.BitLen()).String() + " nomatch"}})
	}
	if dev != "" {
		options = append(
			options,
			option[[]string]{"set:hash:net,iface", []string{"hash:net,iface", "", first + "," + second, network.String() + "," + dev}},
			option[[]string]{"set:hash:net,iface", []string{"hash:net,iface", "", first + "," + second, network.String() + "," + dev, netip.PrefixFrom(a, a.BitLen()).String() + ",other0"}},
			option[[]string]{"set:hash:net,iface", []string{"hash:net,iface", "", first + "," + second, network.String() + "," + dev[:1] + " wildcard"}},
		)
	}
	if aPort != 0 && f.Protocol != verdict.SCTP {
		options = append(options, option[[]string]{"set:bitmap:port", []string{"bitmap:port", "range 0-65535", first, fmt.Sprintf("%d-%d", aPort-min(aPort, 3), x.near(int(aPort)))}})
	}
	if f.family == netstack.IPv4 {
		around, _ := a.Prefix(24)
		options = append(
			options,
			option[[]string]{"set:bitmap:ip", []string{"bitmap:ip", "range " + around.String(), first, a.String()}},
			option[[]string]{"set:bitmap:ip", []string{"bitmap:ip", "range " + around.String() + " netmask 28", first, a.String()}},
		)
	}
	o := pick(x.builder, options)
	typ, settings, directions, elements := o.make[0], o.make[1], o.make[2], o.make[3:]
	create := "create " + name + " " + typ
	if typ[:4] == "hash" && f.family == netstack.IPv6 {
		create += " family inet6"
	}
	if settings != "" {
		create += " " + settings
	}
	x.ipset(v.ns, create)
	for _, e := range elements {
		x.ipset(v.ns, "add "+name+" "+e, o.feature)
	}
	if x.chance(15) {
		list := name + "l"
		x.ipset(v.ns, "create "+list+" list:set")
		x.ipset(v.ns, "add "+list+" "+name, "set:list:set")
		name = list
	}
	flags := ""
	if o.feature == "set:nomatch" && x.chance(40) {
		flags = " --return-nomatch"
	}
	return fmt.Sprintf("-m set %s--match-set %s %s%s", x.not(20), name, directions, flags)
}

// rewrite changes a field of the packet, and drops what a match then sees.
func (x *xtables) rewrite() {
	if x.table != "mangle" {
		x.drop()
		return
	}
	type change struct{ target, test string }
	options := []option[change]{
		{"target:DSCP", change{"DSCP --set-dscp 0x12", "-m dscp --dscp 0x12"}},
		{"target:TOS", change{"TOS --set-tos 0x10/0x3f", "-m tos --tos 0x10/0x3f"}},
		{"target:TOS", change{"TOS --or-tos 0x08", "-m tos --tos 0x08/0x08"}},
		{"target:CONNMARK", change{"CONNMARK --set-xmark 0x3/0xff --left-shift-mark 4", "-m connmark --mark 0x30"}},
		{"target:HMARK", change{"HMARK --hmark-tuple src,dst --hmark-mod 1 --hmark-offset 0x77 --hmark-rnd 5", "-m mark --mark 0x77"}},
	}
	if x.v.flow.family == netstack.IPv4 {
		options = append(options, option[change]{"target:TTL", change{"TTL --ttl-set 33", "-m ttl --ttl-eq 33"}}, option[change]{"target:TTL", change{"TTL --ttl-inc 9", "-m ttl --ttl-gt 64"}})
	} else {
		options = append(options, option[change]{"target:HL", change{"HL --hl-set 33", "-m hl --hl-eq 33"}}, option[change]{"target:HL", change{"HL --hl-dec 30", "-m hl --hl-lt 35"}})
	}
	if x.v.flow.Protocol == verdict.TCP {
		options = append(
			options,
			option[change]{"target:TCPMSS", change{"TCPMSS --set-mss 1000", "-m tcpmss --mss 1000"}},
			option[change]{"target:TCPOPTSTRIP", change{"TCPOPTSTRIP --strip-options mss", "-m tcp --syn -m tcp ! --tcp-option 2"}},
		)
	}
	o := pick(x.builder, options)
	m := x.matches(true)
	if o.feature == "target:TCPMSS" {
		m.text += " -m tcp --tcp-flags SYN,RST SYN"
	}
	x.rule(x.chain, m, "-j "+o.make.target, o.feature)
	test := x.selector()
	test.text += " " + o.make.test
	x.rule(x.chain, test, "-j DROP", "target:DROP")
}

// remember puts the packet into a set, which a rule about later packets asks.
func (x *xtables) remember() {
	if x.table == "nat" {
		x.drop()
		return
	}
	v := x.v
	name := fmt.Sprintf("seen%d", len(x.world.Elements))
	typ, directions := "hash:ip", "dst"
	if x.chance(50) {
		typ, directions = "hash:ip,port", "src,dst"
	}
	create := "create " + name + " " + typ
	if v.flow.family == netstack.IPv6 {
		create += " family inet6"
	}
	x.ipset(v.ns, create)
	x.rule(x.chain, x.matches(true), "-j SET --add-set "+name+" "+directions, "target:SET")
	test := x.selector()
	test.text += " -m set --match-set " + name + " " + directions
	x.rule(x.chain, test, "-j DROP", "target:DROP", "match:set")
}
