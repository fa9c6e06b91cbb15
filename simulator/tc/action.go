package tc

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// verdict is what an action says: TC_ACT_*.
type verdict struct {
	kind   verdictKind
	chain  uint32 // of goto
	jump   uint32 // how many actions to leave out
	dev    string // of redirect
	inward bool
	what   string // is opaque
}

type verdictKind uint8

const (
	verdictContinue   verdictKind = iota // TC_ACT_UNSPEC: the next filter
	verdictPass                          // TC_ACT_OK, and what counts as such
	verdictDrop                          // TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_QUEUED, TC_ACT_TRAP
	verdictPipe                          // the next action
	verdictReclassify                    // the chain once more
	verdictGoto
	verdictJump
	verdictRepeat // the same action once more
	verdictRedirect
	verdictOpaque
)

// action is one of a filter, with what it says when it is through.
type action struct {
	kind string
	do   effect
	then verdict
}

// effect is what an action does. It may end the frame; otherwise the action's own
// verdict counts, or another one.
type effect interface {
	apply(f *Filter, then verdict, frame *Frame, env Env) verdict
}

// act runs the actions of a filter that matches: tcf_action_exec.
func (f *Filter) act(frame *Frame, env Env) outcome {
	last := verdict{kind: verdictPass} // without actions
	for i := 0; i < len(f.actions); i++ {
		a := &f.actions[i]
		last = a.then
		if a.do != nil {
			last = a.do.apply(f, a.then, frame, env)
		}
		switch last.kind {
		case verdictPipe:
			continue
		case verdictJump:
			// It counts from the first action, not from here.
			if last.jump == 0 || last.jump > uint32(len(f.actions)) || last.jump <= uint32(i) {
				return outcome{f, verdict{kind: verdictPass}}
			}
			i = int(last.jump) - 1
			continue
		case verdictRepeat:
			last.kind = verdictPass // tried 32 times, with the same end
		}
		return outcome{f, last}
	}
	if last.kind == verdictPipe || last.kind == verdictJump {
		last.kind = verdictPass
	}
	return outcome{f, last}
}

// none is an action that does nothing to the fate of a packet: csum, sample.
type none struct{}

func (none) apply(_ *Filter, then verdict, _ *Frame, _ Env) verdict { return then }

// mirred sends the frame, or a copy, to another device. Copies are not followed.
type mirred struct {
	redirect, inward bool
	dev              string
}

func (m mirred) apply(_ *Filter, then verdict, _ *Frame, _ Env) verdict {
	if !m.redirect {
		return then
	}
	return verdict{kind: verdictRedirect, dev: m.dev, inward: m.inward}
}

// skbedit changes the mark, or says that the frame is for this host whatever its
// address. Queue and priority decide nothing.
type skbedit struct {
	value, mask uint32
	forHost     bool
}

func (e skbedit) apply(_ *Filter, then verdict, frame *Frame, _ Env) verdict {
	p := frame.Packet
	p.Mark = p.Mark&^e.mask | e.value&e.mask // tcf_skbedit_act
	frame.ForHost = frame.ForHost || e.forHost
	return then
}

// random is gact with a probability: a share of the packets gets another verdict.
type random struct {
	share float64
	other verdict
}

func (r random) apply(f *Filter, then verdict, _ *Frame, env Env) verdict {
	if env.Pick(f, []float64{1 - r.share, r.share}) == 1 {
		return r.other
	}
	return then
}

// police says then when the rate is exceeded.
type police struct{ conform verdict }

func (p police) apply(f *Filter, then verdict, _ *Frame, env Env) verdict {
	if then != p.conform && env.Unknown(f, "police: the rate") {
		return then
	}
	return p.conform
}

// rewrite is an action that may change the packet, drop it, or both.
type rewrite struct{ what string }

func (r rewrite) apply(*Filter, verdict, *Frame, Env) verdict {
	return verdict{kind: verdictOpaque, what: r.what}
}

// compileActions reads "actions".
func compileActions(raw json.RawMessage) ([]action, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("actions: %w", err)
	}
	var actions []action
	for i, raw := range list {
		m, err := members(raw)
		if err != nil {
			return nil, fmt.Errorf("action %d: %w", i+1, err)
		}
		a, err := compileAction(m)
		if err != nil {
			return nil, fmt.Errorf("action %d: %w", i+1, err)
		}
		actions = append(actions, a)
	}
	return actions, nil
}

func compileAction(m object) (a action, err error) {
	a.kind = m.text("kind")
	controls := m.all("control_action")
	if a.then, err = control(controls, 0, verdict{kind: verdictPass}); err != nil {
		return a, err
	}
	switch a.kind {
	case "gact":
		a.do, err = compileGact(m)
	case "mirred":
		a.do = compileMirred(m)
	case "skbedit":
		a.do = compileSkbedit(m)
	case "police":
		p := police{}
		p.conform, err = control(controls, 1, verdict{kind: verdictPass})
		a.do = p
	case "csum", "sample":
		a.do = none{}
	default:
		a.do = rewrite{"action " + a.kind}
	}
	if a.then.kind == verdictOpaque {
		a.do = rewrite{"action " + a.kind}
	}
	return a, err
}

// control reads a control_action.
func control(list []json.RawMessage, at int, absent verdict) (verdict, error) {
	if at >= len(list) {
		return absent, nil
	}
	var c struct {
		Type        string
		Chain, Jump uint32
	}
	if err := json.Unmarshal(list[at], &c); err != nil {
		return verdict{}, fmt.Errorf("control_action: %w", err)
	}
	kinds := map[string]verdictKind{
		"pass": verdictPass, "drop": verdictDrop, "pipe": verdictPipe, "continue": verdictContinue, "reclassify": verdictReclassify,
		"stolen": verdictDrop, "trap": verdictDrop, "queued": verdictDrop, "goto": verdictGoto, "jump": verdictJump, "repeat": verdictRepeat,
	}
	kind, known := kinds[c.Type]
	if !known {
		kind = verdictOpaque
	}
	return verdict{kind: kind, chain: c.Chain, jump: c.Jump}, nil
}

func compileGact(m object) (effect, error) {
	raw := m.get("prob")
	if raw == nil {
		return nil, nil
	}
	p, err := members(raw)
	if err != nil {
		return nil, fmt.Errorf("prob: %w", err)
	}
	n, _ := p.number("val", 10)
	switch kind := p.text("random_type"); {
	case kind == "none", kind == "":
		return nil, nil
	case n == 0 || n > 1<<16-1:
		return rewrite{"gact random " + kind}, nil
	}
	other, err := control(p.all("control_action"), 0, verdict{kind: verdictPass})
	return random{1 / float64(n), other}, err
}

func compileMirred(m object) effect {
	do, direction, dev := m.text("mirred_action"), m.text("direction"), m.text("to_dev")
	known := (do == "redirect" || do == "mirror") && (direction == "egress" || direction == "ingress")
	switch {
	case !known, do == "redirect" && dev == "":
		return rewrite{"action mirred"}
	}
	return mirred{do == "redirect", direction == "ingress", dev}
}

func compileSkbedit(m object) effect {
	var e skbedit
	for _, f := range m {
		switch f.key {
		case "mark":
			value, ok := m.number("mark", 10)
			if !ok || value > 1<<32-1 {
				return rewrite{"action skbedit mark"}
			}
			e.value, e.mask = uint32(value), 1<<32-1
		case "ptype":
			if e.forHost = m.text("ptype") == "host"; !e.forHost {
				return rewrite{"action skbedit ptype " + m.text("ptype")}
			}
		case "unknown":
			return rewrite{"action skbedit with options that are not understood"}
		}
	}
	if mask, ok := m.number("mask", 16); ok && mask < 1<<32 {
		e.mask = uint32(mask)
	} else if m.get("mask") != nil {
		return rewrite{"action skbedit mask"}
	}
	return e
}

// number reads a member that is a number or, in the given base, a string of one.
func (o object) number(key string, base int) (uint64, bool) {
	raw := o.get(key)
	if raw == nil {
		return 0, false
	}
	var n uint64
	if json.Unmarshal(raw, &n) == nil {
		return n, true
	}
	text := o.text(key)
	if len(text) > 2 && text[:2] == "0x" {
		text, base = text[2:], 16
	}
	n, err := strconv.ParseUint(text, base, 64)
	return n, err == nil
}
