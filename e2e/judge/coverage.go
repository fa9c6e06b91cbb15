package judge

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// tally counts for one feature the trials whose fate it decided, and those of them in which the kernel and the simulator
// agreed; and those of which the simulator said, because of it, that it does not know.
type tally struct{ decided, agreed, asked int }

// coverage counts by feature.
type coverage map[string]*tally

func (c coverage) count(features []string, agreed bool) {
	c.declare(features)
	for _, f := range features {
		c[f].decided++
		if agreed {
			c[f].agreed++
		}
	}
}

// compare counts what an element with the features decides of a probe, if anything: it is as predicted with it, and without
// it otherwise.
func (c coverage) compare(features []string, with, without *Prediction, agreed bool) bool {
	switch {
	case !with.unknown() && !with.same(without):
		c.count(features, agreed)
		return true
	case with.unknown() && !without.unknown():
		c.declare(features)
		for _, f := range features {
			c[f].asked++
		}
		return true
	}
	return false
}

// declare makes a feature appear in the table even if it never decides.
func (c coverage) declare(features []string) {
	for _, f := range features {
		if c[f] == nil {
			c[f] = &tally{}
		}
	}
}

func (c coverage) merge(other coverage) {
	for f, t := range other {
		c.declare([]string{f})
		c[f].decided += t.decided
		c[f].agreed += t.agreed
		c[f].asked += t.asked
	}
}

// enough is how often a feature has to decide.
const enough = 30

// enough says whether all of the features have decided often enough.
func (c coverage) enough(features []string) bool {
	return !slices.ContainsFunc(features, func(f string) bool { return c[f] == nil || c[f].decided < enough })
}

// print writes the table. What decided too seldom has a reason, or is found missing.
func (c coverage) print(w io.Writer, k Kernel) {
	c.declare(wanted)
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		return cmp.Or(cmp.Compare(group(a), group(b)), cmp.Compare(a, b))
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "feature\tdecided\tagreed\trate\t")
	for _, name := range names {
		t := c[name]
		rate, note := "-", ""
		if t.decided > 0 {
			rate = fmt.Sprintf("%.2f%%", 100*float64(t.agreed)/float64(t.decided))
		}
		if t.decided < enough {
			note = cmp.Or(k.reason(name), "seldom")
		}
		if t.asked > 0 {
			note = strings.TrimSpace(fmt.Sprintf("unknown in %d %s", t.asked, note))
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\n", name, t.decided, t.agreed, rate, note)
	}
	tw.Flush()
}

func group(feature string) string {
	for i := range feature {
		if feature[i] == ':' {
			return feature[:i]
		}
	}
	return feature
}
