package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// mark is what the packet bears, as far as no rule changes it.
func (v *view) mark() uint32 {
	if v.local && !v.reply && (v.hook == "OUTPUT" || v.hook == "POSTROUTING") {
		return v.flow.Mark
	}
	return 0
}

// fromItsPod says whether the packet has just come from its pod, with the address that the pod's link has.
func (v *view) fromItsPod() bool {
	return v.flow.fromPod != nil && !v.reply && v.ns == v.flow.fromNode.name && v.in != "" && v.physIn == "" && v.hook != "POSTROUTING"
}

// generateIPSet drops what is in a set, or lets it pass where all else is dropped.
func generateIPSet(b *builder) {
	f := b.flow()
	views := b.views(f)
	if b.asks("set:hash:mac", "set:hash:ip,mac") && b.chance(75) { // few packets have an address of the link that is known
		fromPods := func() []view {
			return slices.DeleteFunc(b.views(f), func(v view) bool { return !v.fromItsPod() })
		}
		for views = fromPods(); len(views) == 0 && b.chance(95); views = fromPods() {
			f = b.flow()
		}
	}
	if len(views) == 0 {
		return
	}
	v := one(b, views...)
	if v.hook == "POSTROUTING" && v.in == "" && v.out == "" {
		return
	}
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: "mangle", chain: v.hook}
	name := fmt.Sprintf("s%d", len(b.world.Elements))
	family := "inet"
	if f.family == netstack.IPv6 {
		family = "inet6"
	}
	// The source or the destination, and sometimes a neighbour of it.
	direction, addr, port := "dst", v.dst, v.dport
	if b.chance(40) {
		direction, addr, port = "src", v.src, v.sport
	}
	if b.chance(15) {
		addr = addr.Next()
	}
	protocol := string(f.Protocol)
	if port == 0 {
		protocol = one(b, "icmp:8/0", "icmp:0/0")
		if f.family == netstack.IPv6 {
			protocol = one(b, "icmpv6:128/0", "icmpv6:129/0")
		}
	} else {
		protocol += fmt.Sprintf(":%d", x.near(int(port)))
	}
	create := func(kind, options string) {
		b.ipset(v.ns, fmt.Sprintf("create %s %s%s", name, kind, options))
	}
	entry := func(kind, text string) { b.ipset(v.ns, fmt.Sprintf("add %s %s", name, text), "set:"+kind) }
	both := direction + "," + direction
	flags := direction
	hash := func(kind, flag, text string) func() {
		return func() {
			create(kind, " family "+family+one(b, "", " hashsize 64", " timeout 0", " counters", " comment"))
			entry(kind, text)
			flags = flag
		}
	}
	other := v.src
	otherDirection := "src"
	if direction == "src" {
		other, otherDirection = v.dst, "dst"
	}
	wide := x.prefix(addr)
	if wide.IsSingleIP() {
		wide, _ = addr.Prefix(addr.BitLen() - 4)
	}
	options := []option[func()]{
		{"set:hash:ip", hash("hash:ip", direction, addr.String())},
		{"set:hash:net", hash("hash:net", direction, wide.Masked().String())},
		{"set:nomatch", func() {
			create("hash:net", " family "+family)
			b.ipset(v.ns, fmt.Sprintf("add %s %s", name, wide.Masked()), "set:hash:net")
			b.ipset(v.ns, fmt.Sprintf("add %s %s nomatch", name, one(b, netip.PrefixFrom(addr, addr.BitLen()), netip.PrefixFrom(addr.Next(), addr.BitLen()))), "set:nomatch")
		}},
		{"set:hash:ip,port", hash("hash:ip,port", both, addr.String()+","+protocol)},
		{"set:hash:ip,port,ip", hash("hash:ip,port,ip", both+","+otherDirection, addr.String()+","+protocol+","+other.String())},
		{"set:hash:net,port", hash("hash:net,port", both, wide.Masked().String()+","+protocol)},
		{"set:hash:ip,port,net", hash("hash:ip,port,net", both+","+otherDirection, addr.String()+","+protocol+","+netip.PrefixFrom(other, other.BitLen()-2).Masked().String())},
		{"set:list:set", func() {
			create("hash:ip", " family "+family)
			entry("hash:ip", addr.String())
			b.ipset(v.ns, fmt.Sprintf("create %sl list:set", name))
			b.ipset(v.ns, fmt.Sprintf("add %sl %s", name, name), "set:list:set")
			name += "l"
		}},
	}
	// Types that not every kernel has.
	type kind struct{ name, flags, entry string }
	rare := []kind{
		{"hash:net,net", direction + "," + otherDirection, wide.Masked().String() + "," + netip.PrefixFrom(other, other.BitLen()-2).Masked().String()},
		{"hash:net,port,net", both + "," + otherDirection, wide.Masked().String() + "," + protocol + "," + netip.PrefixFrom(other, other.BitLen()-2).Masked().String()},
		{"hash:ip,mark", both, fmt.Sprintf("%s,0x%08x", addr, one(b, v.mark(), v.mark(), 0x20))},
	}
	if v.fromItsPod() {
		mac := strings.ToUpper(one(b, f.fromPod.mac(), f.fromPod.mac(), "02:00:00:00:99:99"))
		rare = append(rare, kind{"hash:mac", "src", mac}, kind{"hash:ip,mac", "src,src", v.src.String() + "," + mac})
	}
	for _, k := range rare {
		if !b.kernel.has(k.name) {
			continue
		}
		make := hash(k.name, k.flags, k.entry)
		if k.name == "hash:mac" { // of no family
			make = func() { create(k.name, ""); entry(k.name, k.entry); flags = k.flags }
		}
		options = append(options, option[func()]{"set:" + k.name, make})
	}
	if dev := v.in; dev != "" && direction == "src" && (v.hook == "PREROUTING" || v.hook == "INPUT" || v.hook == "FORWARD") {
		options = append(options, option[func()]{"set:hash:net,iface", hash("hash:net,iface", "src,src", wide.Masked().String()+","+one(b, dev, dev, "other"))})
	}
	if f.family == netstack.IPv4 {
		base := netip.PrefixFrom(addr, 24).Masked()
		options = append(options, option[func()]{"set:bitmap:ip", func() {
			create("bitmap:ip", " range "+base.String())
			entry("bitmap:ip", addr.String())
		}})
	}
	if port != 0 {
		options = append(options, option[func()]{"set:bitmap:port", func() {
			create("bitmap:port", " range 0-65535")
			entry("bitmap:port", fmt.Sprint(x.near(int(port))))
		}})
	}
	pick(b, options).make()
	m := x.selector()
	m.text += fmt.Sprintf(" -m set %s--match-set %s %s", x.not(15), name, flags)
	m.features = append(m.features, "match:set")
	if b.chance(70) {
		x.rule(x.chain, m, "-j DROP", "target:DROP")
		return
	}
	x.rule(x.chain, m, "-j ACCEPT", "target:ACCEPT")
	x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
}
