package netfilter

import (
	"bytes"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Recompile is Compile, which was has done for an earlier state of the
// namespace: rules that did not change since are not compiled again. A nil was
// stands for no such state. What the rule set has in common with others of the
// pool, they share; a nil pool shares nothing.
func Recompile(ns *netstack.Namespace, was *Ruleset, pool *Pool) (*Ruleset, error) {
	if was == nil || !sameRules(ns, was.ns) {
		return compile(ns, pool)
	}
	rs := *was
	rs.settle(ns)
	return &rs, nil
}

// settle takes in what rules ask the namespace about when they are evaluated.
func (rs *Ruleset) settle(ns *netstack.Namespace) {
	rs.ns, rs.ct, rs.links = ns, newCTSettings(ns), nil
	for i := range ns.Links {
		if rs.links == nil {
			rs.links = make(map[string]*netstack.Link, len(ns.Links))
		}
		rs.links[ns.Links[i].Name] = &ns.Links[i]
	}
}

// sameRules says whether everything that is looked at in compiling is the same.
// Dumps that nothing changed are often the same memory, which is seen at once.
func sameRules(a, b *netstack.Namespace) bool {
	sameText := func(a, b netstack.Text) bool {
		return a.File == b.File && a.Packed == b.Packed && bytes.Equal(a.Data, b.Data)
	}
	helperA, _ := a.Sysctl(helperSysctl)
	helperB, _ := b.Sysctl(helperSysctl)
	return helperA == helperB &&
		slices.EqualFunc(a.IPTables, b.IPTables, func(a, b netstack.IPTablesDump) bool {
			return a.Family == b.Family && a.Backend == b.Backend && sameText(a.Text, b.Text)
		}) &&
		sameText(a.ARPTables, b.ARPTables) && sameText(a.EBTables, b.EBTables) &&
		sameText(a.NFT, b.NFT) && sameText(a.IPSet, b.IPSet) && sameText(a.XFRM, b.XFRM) &&
		// Names in rules stand for indexes (nft_value.go).
		slices.EqualFunc(a.Links, b.Links, func(a, b netstack.Link) bool { return a.Index == b.Index && a.Name == b.Name })
}
