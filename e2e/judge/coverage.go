package judge

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// tally counts for one feature the trials whose fate it decided, and those of them in which the kernel and the simulator
// agreed.
type tally struct{ decided, agreed int }

// coverage counts by feature.
type coverage map[string]*tally

func (c coverage) count(features []string, agreed bool) {
	for _, f := range features {
		t := c[f]
		if t == nil {
			t = &tally{}
			c[f] = t
		}
		t.decided++
		if agreed {
			t.agreed++
		}
	}
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
	}
}

// enough is how often a feature has to decide.
const enough = 30

// enough says whether all of the features have decided often enough.
func (c coverage) enough(features []string) bool {
	return !slices.ContainsFunc(features, func(f string) bool { return c[f] == nil || c[f].decided < enough })
}

// print writes the table: what decided least comes last.
func (c coverage) print(w io.Writer) {
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
			note = "seldom"
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
