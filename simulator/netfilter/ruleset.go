package netfilter

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Ruleset is the compiled packet filtering of one namespace. It is immutable:
// any number of walks may run through it at once.
type Ruleset struct {
	rules, unmodelled int
	opaque            []OpaqueChain
}

// OpaqueChain is a base chain at a hook which is not evaluated (bridge, netdev,
// arp), but could drop or change a packet that passes it.
type OpaqueChain struct {
	Family, Table, Chain string
	Hook                 string // "ingress", "egress", "prerouting", "forward", …
	Devices              []string
}

// Compile builds the rule set of a namespace from its dumps.
func Compile(ns *netstack.Namespace) (*Ruleset, error) {
	return &Ruleset{}, nil
}

// Run passes the packet through one hook.
func (rs *Ruleset) Run(family netstack.Family, hook Hook, st *State, env Env) Result {
	return Result{}
}

// Coverage says how many rules there are, and how many of them use something
// that is not modelled.
func (rs *Ruleset) Coverage() (rules, unmodelled int) { return rs.rules, rs.unmodelled }

// Opaque lists the base chains that Run does not evaluate.
func (rs *Ruleset) Opaque() []OpaqueChain { return rs.opaque }
