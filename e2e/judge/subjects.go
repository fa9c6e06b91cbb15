package judge

import (
	"fmt"
	"math/rand/v2"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// subject is a feature that worlds show in turn: what is left to luck decides too seldom.
type subject struct {
	feature string
	// show puts the feature in the way of a flow, so that it decides what becomes of it. It says whether it found a place.
	show func(*builder) bool
}

// subjects lists all of them, in the files show_NAME.go.
func subjects() []subject {
	var list []subject
	for _, part := range [][]subject{rejectSubjects(), targetSubjects(), matchSubjects()} {
		list = append(list, part...)
	}
	return list
}

const (
	// subjectsOfWorld is how many subjects a world has, and showings how often each is shown in it.
	subjectsOfWorld = 4
	showings        = 3
)

// subjects shows those whose turn it is, or those that are asked for: all come round equally often, in ever other company.
func (b *builder) subjects() {
	list := subjects()
	if len(b.only) > 0 {
		var wanted []subject
		for _, s := range list {
			if b.wants(s.feature) {
				wanted = append(wanted, s)
			}
		}
		list = wanted
	}
	for turn := range min(subjectsOfWorld, len(list)) {
		n := b.world.Index*subjectsOfWorld + uint64(turn)
		round := rand.New(rand.NewPCG(b.world.Seed, n/uint64(len(list)))).Perm(len(list))
		s := list[round[n%uint64(len(list))]]
		for range showings {
			s.show(b)
		}
	}
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
	v := x.v
	text := fmt.Sprintf("-s %s -d %s -p %s", v.src, v.dst, v.flow.protocolName())
	if v.flow.Protocol == verdict.ICMP {
		return text + x.echo()
	}
	if v.reply {
		return text + fmt.Sprintf(" -m %s --sport %d --dport %d", v.flow.Protocol, v.sport, v.dport)
	}
	return text + fmt.Sprintf(" -m %s --sport %d --dport %d", v.flow.Protocol, v.sport, v.dport)
}

// shows appends a rule for the one flow.
func (x *xtables) shows(more, target string, features ...string) *Element {
	return x.rule(x.chain, match{text: x.only() + space(more)}, target, features...)
}

func space(text string) string {
	if text == "" {
		return ""
	}
	return " " + text
}
