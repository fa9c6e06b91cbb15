package judge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// subject is a feature that worlds show in turn: what is left to luck decides too seldom.
type subject struct {
	feature string
	// show puts the feature in the way of a flow, so that it decides what becomes of it. It says whether it found a place.
	show func(*builder) bool
	// bridged says that it takes a node with two pods on its bridge.
	bridged bool
	// apart says that it touches more than a flow, or what neighbours know: it has a world with few probes.
	apart bool
	// exact says that its rules have to be as they are, with nothing besides.
	exact bool
}

// elusive are features that find no place in many worlds, and how often more their turn comes.
var elusive = map[string]int{
	"reject:tcp-reset": 1, "match:socket": 1, "match:rpfilter": 1, "match:cluster": 1, "match:physdev": 1, "target:none": 1, "target:NOTRACK": 1,
	"set:hash:ip,port,ip": 1, "set:hash:net,iface": 1, "set:bitmap:ip": 1, "nft:notrack": 1, "nft:set": 1, "nft:dnat": 1, "nft:arp": 1,
	"sysctl:icmp_echo_ignore_all": 1, "sysctl:accept_local": 2, "bridge:bcast_flood": 1, "bridge:mcast_flood": 2, "link:mtu": 2, "source:ipv6": 1,
}

// subjects lists all of them, in the files show_NAME.go.
func subjects() []subject {
	list := slices.Concat(rejectSubjects(), targetSubjects(), matchSubjects(), routeSubjects(), sysctlSubjects(), nftSubjects(), bridgeSubjects(), neighbourSubjects(), drawnSubjects(), doubtSubjects(), sourceSubjects())
	for _, s := range list {
		for range elusive[s.feature] {
			list = append(list, s)
		}
	}
	return list
}

const (
	// subjectsOfWorld is how many subjects a world has, and showings how often each is shown in it.
	subjectsOfWorld = 10
	showings        = 3
	// One world in apartWorlds has those that need it for themselves: fewer, and shown once.
	apartWorlds          = 6
	subjectsOfApartWorld = 4
	probesOfApartWorld   = 6
)

// chooseSubjects draws those whose turn it is, of all or of those that are asked for. All come round equally often, in ever
// other company.
func (b *builder) chooseSubjects() {
	var list [2][]subject
	for _, s := range subjects() {
		if b.wants(s.feature) {
			at := 0
			if s.apart {
				at = 1
			}
			list[at] = append(list[at], s)
		}
	}
	at, turn, count := 0, b.world.Index-b.world.Index/apartWorlds, uint64(subjectsOfWorld)
	switch {
	case len(list[1]) == 0:
		turn = b.world.Index
	case b.world.Index%apartWorlds == apartWorlds-1:
		at, turn, count = 1, b.world.Index/apartWorlds, subjectsOfApartWorld
	case len(list[0]) == 0:
		at, turn, count = 1, b.world.Index, subjectsOfApartWorld
	}
	total := uint64(len(list[at]))
	for n := turn * count; n < turn*count+min(count, total); n++ {
		round := rand.New(rand.NewPCG(b.world.Seed, n/total)).Perm(int(total))
		b.turn = append(b.turn, list[at][round[n%total]])
	}
	b.world.Apart = at == 1 && total > 0
}

// showSubjects shows the subjects of the world.
func (b *builder) showSubjects() {
	if b.world.Apart {
		b.noneFromOutside()
		b.world.Probes = b.world.Probes[:min(len(b.world.Probes), probesOfApartWorld)]
	}
	defer func() { b.rich = false }()
	for _, s := range b.turn {
		b.rich = !s.exact
		if s.apart {
			s.show(b)
			continue
		}
		for range showings {
			s.show(b)
		}
	}
}

// ask adds a probe that a subject needs.
func (b *builder) ask(from string, to netip.Addr, protocol verdict.Protocol) *flow {
	i := len(b.world.Probes)
	for slices.ContainsFunc(b.world.Probes, func(p Probe) bool { return p.ID == fmt.Sprintf("q%d", i) }) {
		i++
	}
	p := Probe{ID: fmt.Sprintf("q%d", i), From: from, To: to, Protocol: protocol, Port: one(b, openPorts...), SourcePort: uint16(20001 + i*40)}
	b.world.Probes = append(b.world.Probes, p)
	b.aimed[p.ID] = true
	return b.flowOf(&b.world.Probes[len(b.world.Probes)-1])
}

// spot finds a flow and a place on its way that fit. No two subjects share a flow.
func (b *builder) spot(fits func(*view) bool) (view, bool) {
	for _, i := range b.Perm(len(b.world.Probes)) {
		p := &b.world.Probes[i]
		if b.aimed[p.ID] || p.Port == closedPort {
			continue
		}
		f := b.flowOf(p)
		if f.fromPod == f.toPod && f.fromNode == f.toNode {
			continue
		}
		views := b.views(f)
		for _, j := range b.Perm(len(views)) {
			if v := &views[j]; v.reply && f.toNode == nil { // what comes back from outside is not known
				continue
			}
			if fits(&views[j]) {
				b.aimed[p.ID] = true
				return views[j], true
			}
		}
	}
	return view{}, false
}

// hooksOf are the hooks of a table of iptables.
var hooksOf = map[string][]string{
	"raw":    {"PREROUTING", "OUTPUT"},
	"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
	"nat":    {"PREROUTING", "OUTPUT", "POSTROUTING"},
}

// xtSpot is a place for rules of iptables, in one of the tables. Its selector takes the one flow.
func (b *builder) xtSpot(tables []string, fits func(*view) bool) *xtables {
	table := one(b, tables...)
	v, ok := b.spot(func(v *view) bool {
		return v.at(hooksOf[table]...) && (table != "nat" || !v.reply) && (fits == nil || fits(v))
	})
	if !ok {
		return nil
	}
	x := &xtables{builder: b, v: v, backend: one(b, netstack.BackendLegacy, netstack.BackendNFT), table: table, chain: v.hook}
	if table == "nat" {
		x.backend = b.translator
	}
	return x
}

// at says whether the view is at one of the hooks.
func (v *view) at(hooks ...string) bool {
	for _, h := range hooks {
		if h == v.hook {
			return true
		}
	}
	return false
}

// only is a selector that takes one flow's packets in one direction.
func (x *xtables) only() string {
	return fmt.Sprintf("-s %s -d %s %s", x.v.src, x.v.dst, x.ports())
}

// ports is a selector by protocol and both ports.
func (x *xtables) ports() string {
	v := x.v
	text := "-p " + v.flow.protocolName()
	if v.flow.Protocol == verdict.ICMP {
		return text + x.echo()
	}
	return text + fmt.Sprintf(" -m %s --sport %d --dport %d", v.flow.Protocol, v.sport, v.dport)
}

// shows appends a rule for the one flow, by conditions that hold of its first packet.
func (x *xtables) shows(more, target string, features ...string) *Element {
	return x.in(x.chain, more, target, features...)
}

func (x *xtables) in(chain, more, target string, features ...string) *Element {
	text, holds := x.only()+space(more), []string(nil)
	if x.rich {
		text, holds = x.truths(text)
	}
	return x.rule(chain, match{text: text, features: holds}, target, features...)
}

// bare appends a rule for the one flow, of any packet.
func (x *xtables) bare(more, target string, features ...string) *Element {
	return x.rule(x.chain, match{text: x.only() + space(more)}, target, features...)
}

func space(text string) string {
	if text == "" {
		return ""
	}
	return " " + text
}
