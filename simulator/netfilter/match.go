package netfilter

// tri is the answer of a match.
type tri uint8

const (
	no tri = iota
	yes
	maybe // the matcher is a decider
)

func is(b bool) tri {
	if b {
		return yes
	}
	return no
}

// matcher is one condition of a rule. It does not change anything, so that
// conditions can be asked in any order, and twice.
type matcher interface {
	match(x *traversal) tri
}

// decider is a matcher that can answer maybe: decide asks the Env.
type decider interface {
	matcher
	decide(x *traversal) bool
}

// unknownMatch is a condition that cannot be known: one that is not modelled,
// or that depends on state which no dump shows.
type unknownMatch struct{ what string }

func (m unknownMatch) match(*traversal) tri     { return maybe }
func (m unknownMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), m.what) }

// never holds for no packet.
type never struct{}

func (never) match(*traversal) tri { return no }
