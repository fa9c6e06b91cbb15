package judge

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Summary of a run.
type Summary struct {
	Worlds, Trials, Agreed, Unknown, Branching int
	// Disagreements of two runs of the same world; Unstable ones showed only once.
	Disagreements, Unstable []Disagreement
	// Failures are worlds that could not be built, collected or compiled.
	Failures []string
	// Doubts count what the simulator did not know, by its first reason.
	Doubts   map[string]int
	coverage coverage
	kernel   Kernel
	// restricted says that not all features were asked for.
	restricted bool
	Elapsed    time.Duration
}

// Disagreement is a probe of which the simulator said something else than the kernel.
type Disagreement struct {
	World      *World      `json:"-"`
	Probe      Probe       `json:"probe"`
	Predicted  *Prediction `json:"predicted"`
	Observed   Observed    `json:"observed"`
	Again      Observed    `json:"again"`
	FromBundle bool        `json:"fromBundle,omitempty"`
	// Shares are set if each fate was among those predicted, but not as often.
	Shares string `json:"shares,omitempty"`
}

func (d *Disagreement) String() string {
	s := fmt.Sprintf("%s, %s\n  kernel:    %s\n", d.World, &d.Probe, d.Observed)
	if d.Again.Outcome != "" {
		s += fmt.Sprintf("  again:     %s\n", d.Again)
	}
	s += fmt.Sprintf("  simulator: %s", d.Predicted)
	if d.Shares != "" {
		s += "\n  shares:    " + d.Shares
	}
	if d.FromBundle {
		s += "\n  the bundle is diagnosed differently"
	}
	return s
}

func (s *Summary) add(r *result) {
	s.Trials += r.trials
	s.Agreed += r.agreed
	s.Unknown += r.unknown
	s.Branching += r.branching
	s.Disagreements = append(s.Disagreements, r.disagreements...)
	s.Unstable = append(s.Unstable, r.unstable...)
	s.coverage.merge(r.coverage)
	for _, d := range r.doubts {
		s.Doubts[d]++
	}
}

// long is how many trials have to show all that is wanted.
const long = 20_000

// atOnce is how many features a world is made for that completes a run, where they fit into one: kinds of links do not.
const atOnce = 3

// completing are the features that a run goes on with after its trials, in turn; none if it is over. Two worlds are of
// link kinds and two are not, if both are missing: what a kind shows depends on whether its world is an odd one (kinds).
func (s *Summary) completing(o Options, turn uint64) []string {
	more := o.Trials / 4
	if o.Complete {
		more = 9 * o.Trials
	}
	if !o.Complete && (o.Trials < long || s.restricted) || s.Trials >= o.Trials+more {
		return nil
	}
	missing := slices.DeleteFunc(s.coverage.missing(s.kernel), func(f string) bool { return !asksFor(o.Features, f) })
	if len(missing) == 0 {
		return nil
	}
	var kinds, others []string
	for _, f := range missing {
		if isKind(f) {
			kinds = append(kinds, f)
		} else {
			others = append(others, f)
		}
	}
	list, count := others, atOnce
	if len(kinds) > 0 && (len(others) == 0 || turn%4 < 2) {
		list, count = kinds, 1
	}
	at := int(turn / 4 % uint64(len(list)))
	return slices.Concat(list[at:], list[:at])[:min(count, len(list))]
}

// Missing are the features that decided too seldom, without a reason, in a long run of all of them.
func (s *Summary) Missing() []string {
	if s.Trials < long || s.restricted {
		return nil
	}
	return s.coverage.missing(s.kernel)
}

// Failed says whether the simulator is not as good as it should be, or the run does not show it.
func (s *Summary) Failed() bool {
	return len(s.Missing()) > 0 || len(s.Disagreements) > 0 || len(s.Failures) > 0 || s.Unknown*100 > s.Trials
}

// Print writes the report of a run.
func (s *Summary) Print(w io.Writer) {
	s.coverage.print(w, s.kernel)
	fmt.Fprintln(w)
	if missing := s.Missing(); len(missing) > 0 {
		fmt.Fprintf(w, "decided less than %d times, without a reason: %s\n\n", enough, strings.Join(missing, ", "))
	}
	s.kernel.print(w)
	for _, d := range slices.SortedFunc(maps.Keys(s.Doubts), func(a, b string) int { return s.Doubts[b] - s.Doubts[a] }) {
		fmt.Fprintf(w, "unknown %d times: %s\n", s.Doubts[d], d)
	}
	fmt.Fprintf(w, "\n%d worlds, %d trials in %s: %d agreed, %d disagreed, %d unknown (%.2f%%); in %d the kernel had a choice; %d once only; %d worlds failed\n",
		s.Worlds, s.Trials, s.Elapsed.Round(time.Second), s.Agreed, len(s.Disagreements), s.Unknown, 100*float64(s.Unknown)/float64(max(s.Trials, 1)),
		s.Branching, len(s.Unstable), len(s.Failures))
}
