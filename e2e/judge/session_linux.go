package judge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

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
	counted   []string   // features that have decided it, or made it unknown
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
	t := trial{probe: c.probe, sourcePort: c.probe.SourcePort, timeout: patient, full: patient, alone: c.predicted.unresolved() || c.predicted.narrow()}
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
		if ports := b.world.sctpPorts(ns.Name); len(ports) > 0 {
			var listeners []netip.AddrPort
			for _, port := range ports {
				listeners = append(listeners, netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port))
			}
			lab.ShowSCTP(ns, listeners...)
		}
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
		s.compare(other, e, r, wrong)
	}
}

// compare counts the probes of which an element decides what the world without it says. A feature that several elements
// have decides a probe once.
func (s *session) compare(without *simulator.World, e *Element, r *result, wrong map[string]bool) {
	for at := range s.cases {
		c := &s.cases[at]
		p, err := predict(without, c.probe)
		if err != nil {
			continue
		}
		features := slices.DeleteFunc(slices.Clone(e.Features), func(f string) bool { return slices.Contains(c.counted, f) })
		if r.coverage.compare(features, c.predicted, p, !wrong[c.probe.ID]) {
			c.counted = append(c.counted, features...)
		}
	}
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
