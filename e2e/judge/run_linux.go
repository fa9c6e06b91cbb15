package judge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Options of a run.
type Options struct {
	// Trials is how many probes to judge; whole worlds are judged.
	Trials int
	Seed   uint64
	// First is the index of the first world.
	First  uint64
	Kernel Kernel // what worlds cannot have
	// Features restrict what worlds are made of: "match:mark", "route", "iptables".
	Features []string
	// Stop ends the run at the first disagreement.
	Stop bool
	// Enough leaves worlds unbuilt that would show what an element decides, once its features have done so often enough.
	Enough bool
	// Complete goes on, for a quarter of the trials at most, with worlds of what has decided too seldom without a reason. Long
	// runs of all features do.
	Complete bool
	// Workers is how many worlds are judged at once: they wait more than they compute.
	Workers int
	// Save is the directory for disagreements; none is saved when empty.
	Save string
	// Shrink makes a disagreement small before it is saved.
	Shrink bool
	// Record is the directory for recordings of all worlds; none is made when empty.
	Record string
	Log    io.Writer
}

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

// tooMany worlds that fail end a run.
const tooMany = 20

// Run judges until there are enough trials.
func Run(ctx context.Context, o Options) (*Summary, error) {
	if err := removeStale(); err != nil {
		return nil, err
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sum := &Summary{coverage: coverage{}, kernel: o.Kernel, restricted: len(o.Features) > 0, Doubts: map[string]int{}}
	start := time.Now()
	var mu sync.Mutex
	next := o.First
	var group sync.WaitGroup
	reported := start
	for worker := range o.Workers {
		group.Go(func() {
			j := newWorker(worker, o)
			j.known = func(features []string) bool {
				mu.Lock()
				defer mu.Unlock()
				return o.Enough && sum.coverage.enough(features)
			}
			for {
				mu.Lock()
				index := next
				next++
				features := o.Features
				done := ctx.Err() != nil
				if sum.Trials >= o.Trials {
					features = sum.completing(o, index)
					done = done || len(features) == 0
				}
				mu.Unlock()
				if done {
					return
				}
				w := Generate(o.Seed, index, features, o.Kernel)
				r, err := j.judge(ctx, w)
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				sum.Worlds++
				if err != nil {
					text := fmt.Sprintf("%s: %v", w, err)
					sum.Failures = append(sum.Failures, text)
					fmt.Fprintln(o.Log, text)
				} else {
					sum.add(r)
					for _, d := range r.disagreements {
						fmt.Fprintln(o.Log, &d)
					}
					for _, d := range r.unstable {
						fmt.Fprintf(o.Log, "once only: %s\n", &d)
					}
				}
				if o.Stop && (len(sum.Disagreements) > 0 || err != nil) || len(sum.Failures) >= tooMany {
					cancel()
				}
				if time.Since(reported) > 10*time.Second {
					reported = time.Now()
					fmt.Fprintf(o.Log, "%d worlds, %d trials, %d disagreements, %d unknown, %s\n", sum.Worlds, sum.Trials,
						len(sum.Disagreements), sum.Unknown, time.Since(start).Round(time.Second))
				}
				mu.Unlock()
				if err == nil && o.Save != "" {
					for i := range r.disagreements {
						j.save(ctx, &r.disagreements[i])
					}
				}
			}
		})
	}
	group.Wait()
	sum.Elapsed = time.Since(start)
	return sum, context.Cause(ctx)
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

// atOnce is how many features a world is made for that completes a run.
const atOnce = 3

// completing are the features that a run goes on with after its trials, in turn; none if it is over.
func (s *Summary) completing(o Options, turn uint64) []string {
	if !o.Complete && o.Trials < long || s.restricted || s.Trials >= o.Trials+o.Trials/4 {
		return nil
	}
	missing := s.coverage.missing(s.kernel)
	if len(missing) == 0 {
		return nil
	}
	at := int(turn % uint64(len(missing)))
	return slices.Concat(missing[at:], missing[:at])[:min(atOnce, len(missing))]
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

// worker judges one world after the other, under names of its own.
type worker struct {
	options   Options
	prefix    string
	known     func(features []string) bool // whether there is no need to find out what has them
	collector *collector.Collector
	objects   cluster.Objects
}

func newWorker(n int, o Options) *worker {
	j := &worker{options: o, prefix: fmt.Sprintf("%s%d.%d", namePrefix, os.Getpid(), n), known: func([]string) bool { return false }}
	j.collector = collector.New(collector.Options{
		Namespaces:  []string{j.prefix + "-c-*"},
		Cluster:     func() (cluster.Objects, error) { return j.objects, nil },
		Concurrency: 1,
		Logger:      slog.New(slog.DiscardHandler),
	})
	return j
}

// result of one world.
type result struct {
	trials, agreed, unknown, branching int
	disagreements, unstable            []Disagreement
	doubts                             []string
	coverage                           coverage
}

// judge judges one world, and what disagrees once more in a world built anew.
func (j *worker) judge(ctx context.Context, w *World) (*result, error) {
	first, err := j.sit(ctx, w)
	if err != nil {
		return nil, err
	}
	r := &result{trials: len(w.Probes), coverage: coverage{}}
	wrong := map[string]bool{}
	for i := range first.cases {
		c := &first.cases[i]
		switch {
		case c.wrong():
			wrong[c.probe.ID] = true
			continue
		case c.predicted.unknown():
			r.unknown++
			r.doubts = append(r.doubts, c.predicted.doubt())
		default:
			r.agreed++
			if len(c.predicted.Fates) > 1 {
				r.branching++
			}
		}
	}
	if len(wrong) > 0 {
		anew := w.Without(func(*Element) bool { return false }, func(p *Probe) bool { return wrong[p.ID] })
		anew.Apart = true
		again, err := j.sit(ctx, anew)
		if err != nil {
			return nil, err
		}
		for i := range again.cases {
			c := &again.cases[i]
			before := first.find(c.probe.ID)
			d := Disagreement{
				World: w, Probe: *c.probe, Predicted: before.predicted, Observed: before.observed[0], Again: c.observed[0],
				FromBundle: before.bundle, Shares: before.shares,
			}
			if c.wrong() {
				r.disagreements = append(r.disagreements, d)
			} else {
				r.unstable = append(r.unstable, d)
			}
		}
	}
	if j.options.Record != "" {
		return r, first.record(j.options.Record, wrong)
	}
	first.decide(r, wrong)
	for i := range w.Elements {
		if e := &w.Elements[i]; e.Rebuild && !j.known(e.Features) {
			if err := j.rebuild(ctx, first, e, r, wrong); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// session is a world judged once.
type session struct {
	world    *World
	snapshot *simulator.Snapshot
	cases    []verdictCase
}

func (s *session) find(id string) *verdictCase {
	for i := range s.cases {
		if s.cases[i].probe.ID == id {
			return &s.cases[i]
		}
	}
	return nil
}

// verdictCase is a probe with what was said and what was seen of it.
type verdictCase struct {
	probe     *Probe
	predicted *Prediction
	observed  []Observed // of each repetition
	bundle    bool       // the bundle is diagnosed differently
	shares    string     // what is wrong with how often which fate was seen
}

// wrong says whether the simulator and the kernel disagree.
func (c *verdictCase) wrong() bool {
	if c.bundle || c.shares != "" {
		return true
	}
	if c.predicted.unknown() {
		return false
	}
	return slices.ContainsFunc(c.observed, func(o Observed) bool { return !c.predicted.agreesWith(c.probe, &o) })
}

// source makes of what was collected another snapshot of the same state, which has to be diagnosed alike.
type source func(context.Context, *built, *simulator.Snapshot) (*simulator.Snapshot, error)

// sit builds the world, asks the simulator, and sends the probes. The simulator is asked of the collected state, of a bundle,
// and of what further sources make of it.
func (j *worker) sit(ctx context.Context, w *World, further ...source) (s *session, err error) {
	b, err := w.build(ctx, j.prefix)
	defer func() { err = errors.Join(err, b.remove()) }()
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	s = &session{world: w}
	if s.snapshot, err = j.collect(ctx, b); err != nil {
		return nil, err
	}
	live, err := simulator.Compile(s.snapshot)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	fromBundle := func(_ context.Context, _ *built, s *simulator.Snapshot) (*simulator.Snapshot, error) {
		return against.ThroughBundle(s)
	}
	var others []*simulator.World
	for _, from := range append([]source{fromBundle}, further...) {
		snapshot, err := from(ctx, b, s.snapshot)
		if err != nil {
			return nil, err
		}
		other, err := simulator.Compile(snapshot)
		if err != nil {
			return nil, fmt.Errorf("compile the bundle: %w", err)
		}
		others = append(others, other)
	}
	var trials []*trial
	for i := range w.Probes {
		c := verdictCase{probe: &w.Probes[i]}
		if c.predicted, err = predict(live, c.probe); err != nil {
			return nil, err
		}
		for _, w := range others {
			other, err := predict(w, c.probe)
			if err != nil {
				return nil, err
			}
			c.bundle = c.bundle || !c.predicted.same(other)
		}
		s.cases = append(s.cases, c)
		trials = append(trials, c.trials(live)...)
	}
	s.separate(trials)
	observe := b.observeInTurn
	if w.Apart {
		observe = b.observeApart
	}
	if err := observe(ctx, trials); err != nil {
		return nil, err
	}
	for _, t := range trials {
		c := s.find(t.probe.ID)
		c.observed = append(c.observed, t.observed(w))
	}
	for i := range s.cases {
		s.cases[i].checkShares()
	}
	return s, nil
}

// separate keeps trials apart that a translation gives the same addresses and ports: there is room for one of them.
func (s *session) separate(trials []*trial) {
	taken := map[string]bool{}
	for _, t := range trials {
		for _, f := range s.find(t.probe.ID).predicted.Fates {
			if t.probe.AnyPort || f.SeenAs.Port() == 0 || f.SeenAs.Port() == t.probe.SourcePort {
				continue
			}
			ends := fmt.Sprint(t.probe.Protocol, f.SeenAs, f.Destination)
			t.alone = t.alone || taken[ends]
			taken[ends] = true
		}
	}
}

// trials are the sendings of the probe, as patient as the prediction calls for.
func (c *verdictCase) trials(live *simulator.World) []*trial {
	t := trial{probe: c.probe, sourcePort: c.probe.SourcePort, timeout: patient, full: patient, alone: c.predicted.unresolved()}
	for _, f := range c.predicted.Fates {
		if port := f.SeenAs.Port(); port != 0 && port != t.sourcePort {
			t.ports = append(t.ports, port)
		}
	}
	fate, single := c.predicted.single()
	t.expected = fate.Namespace
	switch {
	case !single, c.predicted.unknown():
		// Once connected, the dice are cast.
		t.timeout, t.talk, t.full = careful, patient, patient
	case fate.silent():
		t.timeout, t.full = brief, brief
	case fate.Verdict == verdict.Degraded:
		t.full = brief
	}
	list := []*trial{&t}
	if !single && !c.predicted.unknown() && !c.limited() {
		for round := 1; round < c.probe.Repeat; round++ {
			another := t
			another.round = round
			another.sourcePort += uint16(round)
			if c.alike(live, another.sourcePort) {
				list = append(list, &another)
			}
		}
	}
	return list
}

// limited says whether the kernel tells of a fate by errors that it limits, with nothing to turn that off in a namespace: a
// router without a way sends an address five, and then one a second (ip_error).
func (c *verdictCase) limited() bool {
	return c.probe.To.Is4() && slices.ContainsFunc(c.predicted.Reasons, func(reason string) bool {
		code, _, _ := strings.Cut(reason, " ")
		return slices.Contains([]verdict.Code{verdict.RouteUnreachable, verdict.RouteProhibit, verdict.NoRoute}, verdict.Code(code))
	})
}

// alike says whether the simulator expects the same of the probe from another port: rules may look at it.
func (c *verdictCase) alike(live *simulator.World, port uint16) bool {
	probe := *c.probe
	probe.SourcePort = port
	other, err := predict(live, &probe)
	return err == nil && slices.EqualFunc(c.predicted.Fates, other.Fates, func(a, b Weighed) bool {
		// Connections that are given the same port do not stand beside each other.
		apart := c.probe.AnyPort || a.SeenAs != b.SeenAs || a.SeenAs.Port() == 0
		return apart && a.Verdict == b.Verdict && a.Outcome == b.Outcome && a.Namespace == b.Namespace && a.Destination == b.Destination &&
			a.SeenAs.Addr() == b.SeenAs.Addr()
	})
}

// checkShares compares how often which fate was seen with how likely it is.
func (c *verdictCase) checkShares() {
	n := len(c.observed)
	if n < 2 || c.predicted.unknown() {
		return
	}
	for at := range c.observed {
		like := 0
		for i := range c.predicted.Fates {
			if agrees(c.probe, c.predicted.Fates[i].Fate, &c.observed[at]) {
				like++
			}
		}
		if like > 1 {
			return // what was seen does not tell which of them it was
		}
	}
	for i := range c.predicted.Fates {
		f := &c.predicted.Fates[i]
		seen := 0
		for at := range c.observed {
			if agrees(c.probe, f.Fate, &c.observed[at]) {
				seen++
			}
		}
		if f.Probability >= 0 && !fits(seen, n, f.Probability) {
			c.shares = fmt.Sprintf("%d of %d were %q, which has the probability %.3f", seen, n, f.Fate, f.Probability)
		}
	}
}

// collect reads the world's state. The names are made those of the world, so that what is saved is the same anywhere.
func (j *worker) collect(ctx context.Context, b *built) (*simulator.Snapshot, error) {
	j.objects = b.world.objects()
	snapshot, err := j.collector.Collect(ctx)
	if err != nil {
		return nil, err
	}
	if len(snapshot.Failures) > 0 {
		return nil, fmt.Errorf("collect: %v", snapshot.Failures)
	}
	short := func(name string) string { return strings.TrimPrefix(name, j.prefix+"-c-") }
	for _, ns := range snapshot.Namespaces {
		for part, status := range ns.Parts {
			if status.State == netstack.StateFailed {
				return nil, fmt.Errorf("collect: %s of %s: %s", part, ns.Name, status.Detail)
			}
		}
		ns.Name = short(ns.Name)
		for id, name := range ns.NSIDs {
			ns.NSIDs[id] = short(name)
		}
	}
	return snapshot, nil
}

// decide finds out which elements decided which fates, and counts their features.
func (s *session) decide(r *result, wrong map[string]bool) {
	for i := range s.world.Elements {
		e := &s.world.Elements[i]
		if len(e.Features) == 0 {
			continue
		}
		r.coverage.declare(e.Features)
		snapshot, ok := without(s.snapshot, e)
		if !ok {
			continue
		}
		other, err := simulator.Compile(snapshot)
		if err != nil {
			continue // what is left does not stand alone
		}
		for at := range s.cases {
			c := &s.cases[at]
			if p, err := predict(other, c.probe); err == nil {
				r.coverage.compare(e.Features, c.predicted, p, !wrong[c.probe.ID])
			}
		}
	}
}

// rebuild finds out what an element decided in a world built without it.
func (j *worker) rebuild(ctx context.Context, s *session, e *Element, r *result, wrong map[string]bool) (err error) {
	r.coverage.declare(e.Features)
	b, err := s.world.Without(func(o *Element) bool {
		return o.ID == e.ID || o.Tool == ToolListen && s.world.Namespace(o.Namespace).Hidden
	}, func(*Probe) bool { return true }).build(ctx, j.prefix)
	defer func() { err = errors.Join(err, b.remove()) }()
	if err != nil {
		return fmt.Errorf("build without %s: %w", e.ID, err)
	}
	snapshot, err := j.collect(ctx, b)
	if err != nil {
		return err
	}
	other, err := simulator.Compile(snapshot)
	if err != nil {
		return err
	}
	for at := range s.cases {
		c := &s.cases[at]
		if p, err := predict(other, c.probe); err == nil {
			r.coverage.compare(e.Features, c.predicted, p, !wrong[c.probe.ID])
		}
	}
	return nil
}

// save keeps a disagreement: the world, shrunk if asked for, the bundle, and what was seen.
func (j *worker) save(ctx context.Context, d *Disagreement) {
	w := d.World.Without(func(*Element) bool { return false }, func(p *Probe) bool { return p.ID == d.Probe.ID })
	w.Apart = true
	if j.options.Shrink {
		w = j.shrink(ctx, w)
	}
	s, err := j.sit(ctx, w)
	if err != nil {
		fmt.Fprintf(j.options.Log, "save world %d: %v\n", d.World.Index, err)
		return
	}
	dir := filepath.Join(j.options.Save, fmt.Sprintf("seed-%d-world-%d-%s", w.Seed, w.Index, d.Probe.ID))
	if err := s.write(dir); err != nil {
		fmt.Fprintf(j.options.Log, "save world %d: %v\n", d.World.Index, err)
		return
	}
	fmt.Fprintf(j.options.Log, "saved %s: %s\n", dir, w.describe())
}

func (s *session) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var seen []Regression
	for i := range s.cases {
		seen = append(seen, Regression{s.cases[i].probe.ID, s.cases[i].observed[0]})
	}
	return errors.Join(
		bundle.Write(filepath.Join(dir, savedBundle), s.snapshot),
		writeJSON(filepath.Join(dir, "world.json"), s.world),
		writeJSON(filepath.Join(dir, "observed.json"), seen),
	)
}

// describe lists what of a world is under test.
func (w *World) describe() string {
	var list []string
	for i := range w.Elements {
		if e := &w.Elements[i]; len(e.Features) > 0 {
			table := ""
			if e.Tool == ToolIPTables {
				table = fmt.Sprintf(" %s %s %s", e.Family, e.Backend, e.Table)
			}
			list = append(list, fmt.Sprintf("\n    %s%s: %s", e.Namespace, table, e.Text))
		}
	}
	return strings.Join(list, "")
}
