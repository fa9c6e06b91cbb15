package judge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
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
	// Complete goes on, for nine times as many trials at most, with worlds of what has been asked for and decided too seldom
	// without a reason. Long runs of all features do, too, for a quarter of their trials.
	Complete bool
	// For ends the run after this time, if it is set: worlds that have begun are judged to their end.
	For time.Duration
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
	kernel := new(sync.RWMutex)
	next := o.First
	var group sync.WaitGroup
	reported := start
	for worker := range o.Workers {
		group.Go(func() {
			j := newWorker(worker, o)
			j.kernel = kernel
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
				done := ctx.Err() != nil || o.For > 0 && time.Since(start) > o.For
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
				if err == nil && o.Save != "" && len(r.disagreements) > 0 {
					kernel.Lock()
					for i := range r.disagreements {
						j.save(ctx, &r.disagreements[i])
					}
					kernel.Unlock()
				}
			}
		})
	}
	group.Wait()
	sum.Elapsed = time.Since(start)
	return sum, context.Cause(ctx)
}

// worker judges one world after the other, under names of its own.
type worker struct {
	options Options
	prefix  string
	known   func(features []string) bool // whether there is no need to find out what has them
	// kernel is held for writing by who must have it alone: namespaces share more of it than they should. A rule that traces
	// anywhere has nftables hash what it sees, and the next host takes that hash when it chooses among several ways.
	kernel    *sync.RWMutex
	collector *collector.Collector
	objects   cluster.Objects
}

func newWorker(n int, o Options) *worker {
	j := &worker{options: o, prefix: fmt.Sprintf("%s%d.%d", namePrefix, os.Getpid(), n), known: func([]string) bool { return false }, kernel: new(sync.RWMutex)}
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

// judge judges one world, and each probe that disagrees once more.
func (j *worker) judge(ctx context.Context, w *World) (*result, error) {
	j.kernel.RLock()
	defer j.kernel.RUnlock()
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
			if err := j.again(ctx, w, c, r); err != nil {
				return nil, err
			}
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

// again judges a probe that disagreed once more, in a world built anew where nothing was sent before it, and while there is no
// other: the kernel tells an address of errors only so often, and remembers what it was told of paths.
func (j *worker) again(ctx context.Context, w *World, before *verdictCase, r *result) error {
	alone := w.Without(func(*Element) bool { return false }, func(p *Probe) bool { return p.ID == before.probe.ID })
	alone.Apart = true
	j.kernel.RUnlock()
	j.kernel.Lock()
	s, err := j.sit(ctx, alone)
	j.kernel.Unlock()
	j.kernel.RLock()
	if err != nil {
		return err
	}
	c := &s.cases[0]
	d := Disagreement{
		World: w, Probe: *c.probe, Predicted: before.predicted, Observed: before.observed[0], Again: c.observed[0],
		FromBundle: before.bundle, Shares: before.shares,
	}
	if c.wrong() {
		r.disagreements = append(r.disagreements, d)
	} else {
		r.unstable = append(r.unstable, d)
	}
	return nil
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
	s.compare(other, e, r, wrong)
	return nil
}
