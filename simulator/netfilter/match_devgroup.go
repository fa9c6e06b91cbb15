package netfilter

import (
	"math"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// devgroupMatch is devgroup: the groups of the devices by which the packet comes
// and goes (xt_devgroup).
type devgroupMatch struct{ src, dst *groupTest }

type groupTest struct {
	value, mask uint32
	invert      bool
}

func (m *devgroupMatch) match(x *traversal) tri {
	in, out := m.src.holds(x.rs.links[x.st.In]), m.dst.holds(x.rs.links[x.st.Out])
	switch {
	case in == no || out == no:
		return no
	case in == maybe || out == maybe:
		return maybe
	}
	return yes
}

func (m *devgroupMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match devgroup") }

func (t *groupTest) holds(l *netstack.Link) tri {
	switch {
	case t == nil:
		return yes
	case l == nil, l.Group == netstack.UnknownGroup:
		return maybe
	}
	return is((t.value^l.Group)&t.mask == 0 != t.invert)
}

// compileDevgroup reads GROUP[/MASK]. A group may have a name, which only its
// host knows.
func compileDevgroup(r *ruleParser, given options) (matcher, error) {
	m := &devgroupMatch{}
	for i := range given {
		o := &given[i]
		text, maskText, masked := strings.Cut(o.values[0], "/")
		mask, err := uint64(math.MaxUint32), error(nil)
		if masked {
			if mask, err = strconv.ParseUint(maskText, 0, 32); err != nil {
				return nil, r.errorf(o.values[0], "invalid value for "+o.name)
			}
		}
		if text == "default" {
			text = "0"
		}
		value, err := strconv.ParseUint(text, 0, 32)
		if err != nil {
			return unknownMatch{"match devgroup"}, nil
		}
		test := &groupTest{uint32(value), uint32(mask), o.invert}
		if o.name == "--src-group" {
			m.src = test
		} else {
			m.dst = test
		}
	}
	if len(given) == 0 {
		return nil, r.errorf("devgroup", "match has no condition")
	}
	return m, nil
}
