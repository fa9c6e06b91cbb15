package netfilter

import "net/netip"

// duplicate is TEE, and dup of nftables: what becomes of the copy says nothing of
// the packet, but its sender hears of it.
type duplicate struct {
	name, dev string
	to        netip.Addr
}

func (a *duplicate) do(x *traversal) outcome {
	x.traceRule(a.name, false)
	x.env.Duplicate(x.hook, a.to, a.dev)
	return outcome{}
}

type teeTarget struct{ duplicate }

func (t *teeTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--gateway":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		to, ok := parseAddr(r.p.family, text)
		if !ok {
			return true, r.errorf(text, "invalid "+r.p.family.String()+" address")
		}
		t.to = to
	case "--oif":
		dev, err := r.value(name)
		if err != nil {
			return true, err
		}
		t.dev = dev
	default:
		return false, nil
	}
	return true, nil
}

func (t *teeTarget) finish(r *ruleParser) (action, error) {
	if !t.to.IsValid() {
		return nil, r.errorf("TEE", "target needs --gateway")
	}
	t.name = "tee"
	return &t.duplicate, nil
}
