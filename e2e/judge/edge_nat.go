package judge

import (
	"fmt"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func lower(hook string) string { return strings.ToLower(hook) }

// natEdges are translations and what sees the packet before and after them.
func natEdges() []subject {
	return []subject{
		{feature: "target:SNAT", show: (*builder).seenBeforeSNAT},
		{feature: "target:MASQUERADE", show: (*builder).masqueradedAtHome},
		{feature: "nft:nat", show: (*builder).translatedOnce},
		{feature: "target:DNAT", show: (*builder).sentElsewhere},
		{feature: "target:REJECT", show: (*builder).rejectedBehindNAT},
	}
}

// seenBeforeSNAT looks at the source in POSTROUTING, before it is translated or after.
func (b *builder) seenBeforeSNAT() bool {
	x := b.leaving()
	if x == nil {
		return false
	}
	original, own := x.v.src, x.v.flow.fromNode.addrs[slot(x.v.flow.family)]
	x.shows("", one(b, "-j MASQUERADE", "-j SNAT --to-source "+own.String()), "target:SNAT")
	x.v.src = original
	if b.chance(40) {
		x.table = "mangle"
		x.shows("", "-j DROP", "target:DROP")
		return true
	}
	priority := one(b, 90, 99)
	if b.chance(40) {
		x.v.src, priority = own, one(b, 101, 110)
	}
	y := &nftables{builder: b, v: x.v, table: "inet judge"}
	y.base("filter", priority)
	y.rule(y.chain, y.only(), "drop", "nft:drop", "nft:priority")
	return true
}

// masqueradedAtHome gives what comes to a node's pods from elsewhere the address by which the node reaches them.
func (b *builder) masqueradedAtHome() bool {
	x := b.xtSpot([]string{"nat"}, func(v *view) bool {
		f := v.flow
		return f.family == netstack.IPv4 && v.hook == "POSTROUTING" && v.physIn == "" && f.toPod != nil && f.fromNode != f.toNode && v.ns == f.toNode.name
	})
	if x == nil {
		return false
	}
	x.shows("", "-j MASQUERADE", "target:MASQUERADE")
	return true
}

// translatedOnce has two chains that translate a destination, of which the first one wins.
func (b *builder) translatedOnce() bool {
	x := b.nftSpot(func(v *view) bool { return ofPods("PREROUTING")(v) && withPorts(v) })
	if x == nil {
		return false
	}
	at := slot(x.v.flow.family)
	family := ""
	if strings.HasPrefix(x.table, "inet ") {
		family = " " + x.ip()
	}
	priorities := []int{-130, -85}
	if b.chance(50) {
		priorities = []int{-85, -130}
	}
	for i, p := range priorities {
		x.base("nat", p)
		port := openPorts[i*2+b.IntN(2)]
		to := one(b, b.pods...).addrs[at].String()
		if at == 1 {
			to = "[" + to + "]"
		}
		x.rule(x.chain, x.only(), fmt.Sprintf("dnat%s to %s:%d", family, to, port), "nft:nat", "nft:priority")
	}
	return true
}

// sentElsewhere translates what a node sends to another way out than its route's.
func (b *builder) sentElsewhere() bool {
	x := b.xtSpot([]string{"nat"}, func(v *view) bool {
		return v.hook == "OUTPUT" && v.local && v.flow.fromPod == nil && v.flow.fromNode != nil && v.out != ""
	})
	if x == nil {
		return false
	}
	var list []*pod
	for _, p := range b.pods {
		if p.node == x.v.flow.fromNode && p.side() != x.v.out || p.node != x.v.flow.fromNode && x.v.out != x.v.flow.fromNode.uplink {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return false
	}
	x.shows("", "-j DNAT --to-destination "+one(b, list...).addrs[slot(x.v.flow.family)].String(), "target:DNAT")
	return true
}

// rejectedBehindNAT rejects what comes with a node's address: the error is for the pod that it stands for.
func (b *builder) rejectedBehindNAT() bool {
	x := b.xtSpot([]string{"nat"}, func(v *view) bool {
		return ofPods("POSTROUTING")(v) && v.out == v.flow.fromNode.uplink && v.flow.toNode != nil
	})
	if x == nil {
		return false
	}
	x.shows("", "-j MASQUERADE", "target:MASQUERADE")
	for _, v := range b.views(x.v.flow) {
		if v.ns != x.v.flow.toNode.name || v.reply || !v.at("FORWARD", "INPUT") {
			continue
		}
		at := slot(v.flow.family)
		v.src = x.v.flow.fromNode.addrs[at]
		y := &xtables{builder: b, v: v, backend: x.backend, table: "filter", chain: v.hook}
		kind := one(b, [2]string{"icmp-host-prohibited", "icmp6-adm-prohibited"}, [2]string{"icmp-port-unreachable", "icmp6-port-unreachable"}, [2]string{"icmp-net-unreachable", "icmp6-no-route"})[at]
		y.in(v.hook, "", "-j REJECT --reject-with "+kind, "target:REJECT", "reject:"+kind)
		return true
	}
	return false
}
