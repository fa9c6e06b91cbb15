package netfilter

import (
	"math"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// traversal is one run of a hook: the packet, in a form that is cheap to match.
type traversal struct {
	rs     *Ruleset
	family netstack.Family
	hook   Hook
	st     *State
	env    Env
	p      *netstack.Packet
	// src and dst are the addresses of p: see sync.
	src, dst u128
	// chain and rule are being evaluated.
	chain *chain
	rule  *rule
	stage string // of its base chain
	// acted counts the actions that were done, and steps the rules that were
	// met.
	acted, steps int
	traced       int
}

// maxSteps is how many rules a packet may meet at one hook. The kernel has no
// such bound: chains that branch without a loop can keep it busy for ever.
const maxSteps = 1 << 20

// maxTraced is how many steps of one hook a report shows.
const maxTraced = 2048

// sync renews what the traversal derives from the packet after that has changed.
func (x *traversal) sync() {
	x.p = x.st.Packet
	x.src, x.dst = addrBits(x.p.Src), addrBits(x.p.Dst)
}

// begin makes ready for a run through a hook. The traversal is kept in the state,
// where it costs no memory of its own.
func (st *State) begin(rs *Ruleset, family netstack.Family, hook Hook, env Env) *traversal {
	x := &st.run
	*x = traversal{rs: rs, family: family, hook: hook, st: st, env: env}
	x.sync()
	return x
}

// place is ref without the text of the rule.
func (x *traversal) place() Rule {
	return Rule{Family: x.chain.family, Backend: x.chain.backend, Table: x.chain.table, Chain: x.chain.name, Number: x.rule.number}
}

func (x *traversal) ref() Rule { return x.chain.ref(x.rule, x.text()) }

// text is the rule as the tool prints it.
func (x *traversal) text() string {
	p := located{x.rs, x.chain, x.rule}
	if x.rule.json == "" || x.st.Texts == nil {
		return p.String()
	}
	return keep(&x.st.Texts.rules, p, x.st.Texts.render)
}

// Run passes the packet through one hook. It changes st: the packet, its
// connection, the steps and translations. Result.Rule says which rule or
// policy decided when the packet does not pass.
func (rs *Ruleset) Run(family netstack.Family, hook Hook, st *State, env Env) Result {
	return rs.RunBetween(family, hook, math.MinInt, math.MaxInt, st, env)
}

// RunBetween is Run for what sits at priorities from first, and below last.
func (rs *Ruleset) RunBetween(family netstack.Family, hook Hook, first, last int, st *State, env Env) Result {
	x := st.begin(rs, family, hook, env)
	if st.Conn == nil && first == math.MinInt && !st.Balanced && (hook == Prerouting || hook == Output) {
		st.zone, st.zoneFromMark, st.template, st.prioritySet = zone{}, false, false, false
	}
	switch hook {
	case Prerouting:
		st.Local = false
	case Output:
		st.Local = st.Local || !st.Balanced
	}
	p := &rs.pipelines[familyIndex(family)][hook]
	for i := range p.ops {
		if p.ops[i].priority < first || p.ops[i].priority >= last {
			continue
		}
		before := x.noted()
		if res := x.op(p, &p.ops[i]); res.Action != Accept {
			return x.rivalled(res, p.ops[i:], before)
		}
	}
	return Result{}
}

// noted is how many steps have been noted.
func (x *traversal) noted() int {
	if x.st.Steps == nil {
		return 0
	}
	return len(*x.st.Steps)
}

// rivalled is the result of the first operation, which stops the packet, or that of another one which may come before it.
// Of base chains with one priority the youngest runs first, and a dump tells the age of the chains of one table alone. It
// matters here where they stop the packet in different ways. Before is how many steps had been noted.
func (x *traversal) rivalled(res Result, ops []hookOp, before int) Result {
	first := ops[0].chain
	for i := 1; i < len(ops) && ops[i].priority == ops[0].priority; i++ {
		rival := ops[i].chain
		if first == nil || rival == nil || rival.family == first.family && rival.table == first.table && rival.backend == first.backend {
			continue
		}
		packet, after := *x.p, x.noted()
		var conn Conn
		if x.st.Conn != nil {
			conn = *x.st.Conn
		}
		other := x.runBase(rival)
		if other.Action != Accept && (other.Action != res.Action || other.RejectWith != res.RejectWith) &&
			x.env.Unknown(other.Rule, "the order of chains with one priority (the other one is "+res.Rule.Chain+" of table "+res.Rule.Table+")") {
			if x.st.Steps != nil {
				*x.st.Steps = slices.Delete(*x.st.Steps, before, after)
			}
			return other
		}
		*x.p = packet
		if x.st.Conn != nil {
			*x.st.Conn = conn
		}
		x.sync()
		if x.st.Steps != nil {
			*x.st.Steps = (*x.st.Steps)[:after]
		}
	}
	return res
}

func (x *traversal) op(p *pipeline, op *hookOp) Result {
	switch op.kind {
	case opTrack:
		x.track()
	case opConfirm:
		x.confirm()
	case opNAT:
		return x.nat(p.nat)
	case opRoute:
		before := *x.p
		res := x.runBase(op.chain)
		if res.Action == Accept && rerouteNeeded(&before, x.p) && !x.env.Reroute() {
			return Result{Action: Drop, Rule: op.chain.policyRef(), NoRoute: true}
		}
		return res
	default:
		return x.runBase(op.chain)
	}
	return Result{}
}

// rerouteNeeded is the test of ipt_mangle_out and nf_route_table_hook4 (and
// their IPv6 siblings, which look at the hop limit in place of the TOS).
func rerouteNeeded(before, after *netstack.Packet) bool {
	if before.Src != after.Src || before.Dst != after.Dst || before.Mark != after.Mark {
		return true
	}
	if after.Family() == netstack.IPv4 {
		return before.TOS != after.TOS
	}
	return before.TTL != after.TTL || before.TOS != after.TOS
}

// runBase runs a base chain and, if no rule decides, its policy.
func (x *traversal) runBase(c *chain) Result {
	if c.uncertain && !x.env.Unknown(c.policyRef(), "a table of which the snapshot does not tell whether it is dormant") {
		return Result{}
	}
	x.stage = c.stage
	out := x.run(c)
	switch out.kind {
	case outAccept:
		return Result{}
	case outDrop:
		return Result{Action: Drop, Rule: x.ref(), ByState: x.rule.asksForState(), NoRoute: out.noRoute}
	case outReject:
		return Result{Action: Reject, Rule: x.ref(), RejectWith: out.rejectWith}
	case outQueue:
		return Result{Action: Queue, Rule: x.ref()}
	case outExhausted:
		return Result{Action: Exhausted, Rule: x.ref()}
	case outDivert:
		return Result{Action: Divert, Rule: x.ref(), Device: out.divert.device, Gateway: out.divert.gateway}
	}
	// The end of the chain, or a return from it.
	if x.st.Steps != nil && (c.policy != Accept || len(c.rules) > 0) {
		action := "policy ACCEPT"
		if c.policy == Drop {
			action = "policy DROP"
		}
		x.trace(c, "", action, false)
	}
	if c.policy == Drop {
		return Result{Action: Drop, Rule: c.policyRef()}
	}
	return Result{}
}

// run evaluates the rules of a chain until one decides. Depth is bounded:
// compiling refuses loops.
func (x *traversal) run(c *chain) outcome {
	if c.index != nil {
		return x.runIndexed(c)
	}
	for i := range c.rules {
		if out, over := x.apply(c, &c.rules[i]); over {
			return out
		}
	}
	return outcome{}
}

// apply evaluates one rule, and the chains that it enters. It says whether the
// chain is over with that.
func (x *traversal) apply(c *chain, r *rule) (out outcome, over bool) {
	x.chain, x.rule = c, r
	if x.steps++; x.steps > maxSteps {
		return outcome{kind: outExhausted}, true
	}
	out = x.eval(r)
	switch out.kind {
	case outContinue:
		return out, false
	case outJump:
		sub := x.run(out.chain)
		return sub, sub.kind != outContinue && sub.kind != outReturn
	case outGoto:
		// A goto leaves this chain for good: where the other one ends, the
		// chain that jumped here goes on.
		return x.run(out.chain), true
	}
	return out, true
}

func (x *traversal) eval(r *rule) outcome {
	for i := range r.steps {
		s := &r.steps[i]
		if !x.matches(s.matches) {
			return outcome{}
		}
		if s.action == nil {
			continue
		}
		x.acted++
		switch out := s.action.do(x); out.kind {
		case outContinue:
		case outBreak:
			return outcome{}
		default:
			return out
		}
	}
	return outcome{}
}

// matches says whether all hold. What cannot be known is only asked about when
// everything that can be known says yes.
func (x *traversal) matches(list []matcher) bool {
	var open int
	for _, m := range list {
		switch m.match(x) {
		case no:
			return false
		case maybe:
			open++
		}
	}
	if open == 0 {
		return true
	}
	for _, m := range list {
		if m.match(x) != maybe {
			continue
		}
		if !m.(decider).decide(x) {
			return false
		}
	}
	return true
}

// trace notes what a rule did. Callers check that steps are wanted, so that
// texts are only made then.
func (x *traversal) trace(c *chain, ruleText, action string, changed bool) {
	if x.traced++; x.traced > maxTraced {
		return
	}
	s := verdict.Step{Stage: x.stage, Chain: c.name, Rule: ruleText, Action: action}
	if changed {
		if x.st.Texts != nil {
			s.Packet = x.st.Texts.Packet(x.p)
		} else {
			s.Packet = x.p.String()
		}
	}
	*x.st.Steps = append(*x.st.Steps, s)
}

func (x *traversal) traceRule(action string, changed bool) {
	if x.st.Steps != nil {
		x.trace(x.chain, x.text(), action, changed)
	}
}
