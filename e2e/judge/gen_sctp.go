package judge

import (
	"math/rand/v2"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	associationsOfWorld = 3
	sctpRules           = 3
	sctpEdges           = 5
)

// associations adds probes of SCTP to a finished world, and puts something in the way of most. They have dice of their
// own: the rest of the world is as it would be without them.
func (b *builder) associations() {
	asked := b.wantsAny(generator{name: "sctp", features: []string{"match:sctp", "match:sctp-chunks", "nft:sctp", "nft:sctp-chunk"}})
	if b.world.Apart || len(b.only) > 0 && !asked {
		return
	}
	times := 1
	if asked {
		times = 6
	}
	const apart = 0x5c79
	b.Rand = rand.New(rand.NewPCG(b.world.Seed^apart, b.world.Index))
	for i := range b.world.Namespaces {
		for _, port := range openPorts {
			b.listen(b.world.Namespaces[i].Name, "sctp", port)
		}
	}
	var added []string
	for range times * associationsOfWorld {
		var ends []string
		for i := range b.pods {
			ends = append(ends, b.pods[i].name, b.pods[i].name)
		}
		for _, n := range b.nodes {
			ends = append(ends, n.name)
		}
		from := one(b, ends...)
		at := b.IntN(2)
		to := one(b, b.pods...).addrs[at]
		switch {
		case b.chance(15):
			to = one(b, b.nodes...).addrs[at]
		case b.chance(8):
			to = outsideAddrs[at]
		}
		f := b.ask(from, to, verdict.SCTP)
		if b.chance(6) {
			f.Port = closedPort
		}
		if b.chance(15) {
			f.Mark = one[uint32](b, 1, 0x10, 0x4000)
		}
		if b.chance(10) {
			f.UID = new(one[uint32](b, 1000, 65534))
		}
		added = append(added, f.ID)
	}
	for range times * sctpRules {
		id := one(b, added...)
		f := b.flowOf(&b.world.Probes[slices.IndexFunc(b.world.Probes, func(p Probe) bool { return p.ID == id })])
		views := b.views(f)
		if len(views) == 0 {
			continue
		}
		v := one(b, views...)
		if b.chance(35) {
			b.nftAssociation(v)
		} else {
			b.xtAssociation(v)
		}
	}
	b.showAssociationEdges(uint64(times * sctpEdges))
}

// xtAssociation puts a rule of iptables in the way of an association.
func (b *builder) xtAssociation(v view) {
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: one(b, tablesOf[v.hook]...), chain: v.hook}
	if x.table == "nat" {
		x.backend = b.translator
		x.translate()
		return
	}
	one(b, x.dropChunks, x.dropChunks, x.dropChunks, x.drop, x.drop, x.reject, x.reject, x.accept, x.subchain, x.mark, x.notrack)()
}

// dropChunks drops by chunks alone.
func (x *xtables) dropChunks() {
	m := x.selector()
	m.text += " " + x.chunks()
	m.features = append(m.features, "match:sctp", "match:sctp-chunks")
	x.rule(x.chain, m, "-j DROP", "target:DROP")
}

// nftAssociation puts a rule of nftables in its way.
func (b *builder) nftAssociation(v view) {
	family := "inet"
	if b.chance(40) {
		family = (&nftables{v: v}).ip()
	}
	x := &nftables{builder: b, v: v, table: family + " judge"}
	x.held = []string{"nft:sctp"}
	one(b, x.drop, x.drop, x.reject, x.accept, x.vmap, x.subchain, x.set, x.concat, x.translate)()
}

// chunks are conditions about the chunks of an association.
func (x *xtables) chunks() string {
	list := []string{"INIT", "COOKIE_ECHO", "DATA", "INIT,DATA", "DATA:uBE", "DATA:U", "COOKIE_ECHO,SHUTDOWN"}
	if x.v.reply {
		list = []string{"INIT_ACK", "COOKIE_ACK", "SACK", "SACK,DATA", "DATA:BE", "COOKIE_ACK,ABORT"}
	}
	return x.not(15) + "--chunk-types " + one(x.builder, "any ", "any ", "all ", "only ") + one(x.builder, list...)
}
