package judge

import (
	"fmt"
	"math/rand/v2"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// associationEdge is a condition about associations that is easily misread: an association is dropped where it holds.
type associationEdge struct {
	reply, closed bool // seen on the way back; of a port on which nobody listens
	nft           bool
	condition     string
}

func associationEdges() []associationEdge {
	var list []associationEdge
	add := func(e associationEdge, conditions ...string) {
		for _, e.condition = range conditions {
			list = append(list, e)
		}
	}
	add(associationEdge{}, "--chunk-types any INIT,DATA", "--chunk-types any DATA:U", "--chunk-types any DATA:b", "--chunk-types any DATA:uBE",
		"! --chunk-types any INIT,COOKIE_ECHO,DATA", "! --chunk-types only INIT,COOKIE_ECHO", "-m conntrack --ctstate INVALID", "-m conntrack --ctstatus ASSURED")
	add(associationEdge{reply: true}, "--chunk-types only SACK", "--chunk-types only DATA", "--chunk-types all SACK,DATA", "--chunk-types any COOKIE_ACK",
		"-m conntrack --ctstatus ASSURED")
	add(associationEdge{reply: true, closed: true}, "-m conntrack --ctstate INVALID", "-m conntrack --ctstate INVALID", "--chunk-types any ABORT")
	add(associationEdge{nft: true}, "sctp chunk cookie-echo exists", "sctp chunk init missing sctp chunk cookie-echo missing", "sctp chunk abort missing",
		"sctp chunk data flags & 7 == 3", "sctp chunk data flags & 4 == 4")
	add(associationEdge{reply: true, nft: true}, "sctp chunk sack exists sctp chunk data exists", "sctp chunk sack exists", "sctp chunk cookie-ack length 4")
	return list
}

// showAssociationEdges shows those whose turn it is, each of an association of its own between pods of two nodes.
func (b *builder) showAssociationEdges(number uint64) {
	list := associationEdges()
	total := uint64(len(list))
	for n := b.world.Index * number; n < (b.world.Index+1)*number; n++ {
		e := list[rand.New(rand.NewPCG(b.world.Seed, n/total)).Perm(len(list))[n%total]]
		f := b.visit(one(b, b.pods...), one(b, netstack.IPv4, netstack.IPv6), verdict.SCTP)
		if f == nil {
			return
		}
		if e.closed {
			f.Port = closedPort
		}
		var views []view
		for _, v := range b.views(f) {
			if v.reply == e.reply && v.physIn == "" && v.at(hooksOf["filter"]...) {
				views = append(views, v)
			}
		}
		if len(views) == 0 {
			continue
		}
		v := one(b, views...)
		if e.nft {
			x := &nftables{builder: b, v: v, table: "inet judge"}
			x.base("filter", one(b, -149, -10, 1, 60))
			x.rule(x.chain, x.only()+" "+e.condition, "drop", "nft:sctp-chunk", "nft:drop")
			continue
		}
		x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: one(b, "mangle", "filter"), chain: v.hook}
		x.bare(e.condition, "-j DROP", "match:sctp", "target:DROP")
	}
	b.redirectAssociation()
}

// redirectAssociation makes one end at another port, of a host on the way or of the destination.
func (b *builder) redirectAssociation() {
	f := b.visit(one(b, b.pods...), one(b, netstack.IPv4, netstack.IPv6), verdict.SCTP)
	if f == nil {
		return
	}
	for _, v := range b.views(f) {
		if !v.reply && v.physIn == "" && v.hook == "PREROUTING" && b.chance(50) {
			x := &xtables{builder: b, v: v, backend: b.translator, table: "nat", chain: v.hook}
			x.bare("", fmt.Sprintf("-j REDIRECT --to-ports %d", one(b, openPorts...)), "match:sctp", "target:REDIRECT")
			return
		}
	}
}
