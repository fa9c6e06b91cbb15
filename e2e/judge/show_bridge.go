package judge

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// bridgeSubjects are settings of the ports of a bridge: they concern all that passes.
func bridgeSubjects() []subject {
	var list []subject
	add := func(feature string, show func(b *builder, n *node, client, server *pod)) {
		list = append(list, subject{feature: feature, bridged: true, apart: true, show: func(b *builder) bool {
			n := b.nodes[0]
			at := b.IntN(2)
			show(b, n, n.pods[at], n.pods[1-at])
			return true
		}})
	}
	// port changes a port, and asks for what has to pass it, in both families.
	port := func(feature string, settings ...string) {
		add(feature, func(b *builder, n *node, client, server *pod) {
			// Or a timer has ports that listen or learn forward after a while.
			b.link(n.name, "link set cni0 type bridge forward_delay 0")
			for _, s := range settings {
				b.late(n.name, fmt.Sprintf("link set %s type bridge_slave %s", server.veth, s), feature)
			}
			b.late(n.name, "link set cni0 type bridge fdb_flush") // the pods have been heard
			b.talk(client, server)
		})
	}
	port("bridge:state", "state 1") // of a bridge without STP, blocking ports are made to forward at once (br_port_state_selection)
	port("bridge:state", "state 2")
	port("bridge:flood", "learning off", "flood off")
	port("bridge:locked", "locked on")
	port("bridge:bcast_flood", "bcast_flood off")
	port("bridge:mcast_flood", "mcast_flood off")
	add("bridge:isolated", func(b *builder, n *node, client, server *pod) {
		for _, p := range n.pods {
			b.late(n.name, fmt.Sprintf("link set %s type bridge_slave isolated on", p.veth), "bridge:isolated")
		}
		b.talk(client, server)
	})
	add("bridge:fdb", func(b *builder, n *node, client, server *pod) {
		// Of a port that nothing is flooded to, and that learns nothing, only the entry knows.
		for _, s := range []string{"learning off", "flood off"} {
			b.late(n.name, fmt.Sprintf("link set %s type bridge_slave %s", server.veth, s), "bridge:flood")
		}
		b.late(n.name, "link set cni0 type bridge fdb_flush")
		b.add(Element{Namespace: n.name, Tool: ToolBridge, Text: fmt.Sprintf("fdb replace %s dev %s master static", server.mac(), server.veth), Features: []string{"bridge:fdb"}})
		b.talk(client, server)
	})
	add("bridge:hairpin", func(b *builder, n *node, client, server *pod) {
		// The other pod's address is translated to the client's own.
		for i := range 4 {
			f := b.ask(client.name, server.addrs[i%2], one(b, verdict.TCP, verdict.UDP))
			for _, v := range b.views(f) {
				if v.ns != n.name || v.reply || !v.at("PREROUTING", "POSTROUTING") {
					continue
				}
				x := &xtables{builder: b, v: v, backend: b.translator, table: "nat", chain: v.hook}
				if v.hook == "PREROUTING" {
					x.shows("", "-j DNAT --to-destination "+client.addrs[i%2].String(), "target:DNAT")
					continue
				}
				x.v.dst = client.addrs[i%2] // and its source, which it would not take from outside
				x.bare("", "-j MASQUERADE", "target:MASQUERADE")
			}
		}
		b.late(n.name, fmt.Sprintf("link set %s type bridge_slave hairpin on", client.veth), "bridge:hairpin")
	})
	return list
}

// talk has two pods send to each other.
func (b *builder) talk(client, server *pod) {
	for at := range 4 {
		at %= len(families)
		b.ask(client.name, server.addrs[at], one(b, verdict.TCP, verdict.UDP))
		b.ask(server.name, client.addrs[at], one(b, verdict.TCP, verdict.UDP))
	}
}

// late adds a line of ip for links that are up.
func (b *builder) late(ns, text string, features ...string) {
	b.add(Element{Namespace: ns, Tool: ToolLate, Text: text, Features: features})
}
