package judge

import (
	"context"
	"slices"

	"github.com/plumbline-net/plumbline/simulator"
)

// shrink leaves out as many of the elements under test as it can while the kernel and the simulator still disagree.
func (j *worker) shrink(ctx context.Context, w *World) *World {
	return shrinkWhile(ctx, w, func(smaller *World) bool { return j.disagrees(ctx, smaller) })
}

// shrinkWhile leaves out elements under test.
func shrinkWhile(ctx context.Context, w *World, holds func(*World) bool) *World {
	var under []string
	for i := range w.Elements {
		if len(w.Elements[i].Features) > 0 {
			under = append(under, w.Elements[i].ID)
		}
	}
	with := func(left []string) *World {
		return w.Without(func(e *Element) bool { return slices.Contains(under, e.ID) && !slices.Contains(left, e.ID) }, func(*Probe) bool { return true })
	}
	return with(shrinkList(ctx, under, func(left []string) bool { return holds(with(left)) }))
}

// shrinkList is delta debugging: it leaves out halves first, then ever smaller
// parts, as long as something holds of what is left.
func shrinkList(ctx context.Context, list []string, holds func([]string) bool) []string {
	for size := max(1, len(list)/2); ; {
		progress := false
		for at := 0; at < len(list) && ctx.Err() == nil; {
			smaller := slices.Delete(slices.Clone(list), at, min(at+size, len(list)))
			if holds(smaller) {
				list, progress = smaller, true
				continue
			}
			at += size
		}
		if size == 1 && !progress || ctx.Err() != nil {
			return list
		}
		size = max(1, size/2)
	}
}

// disagrees says whether some probe of the world is not what the simulator says. A world that cannot be built does not.
func (j *worker) disagrees(ctx context.Context, w *World) bool {
	s, err := j.sit(ctx, w)
	return err == nil && slices.ContainsFunc(s.cases, func(c verdictCase) bool { return c.wrong() })
}

// witness finds a world in which an element with the feature decides a probe's fate, and shrinks it to what is needed for
// that fate: a regression test of something that the kernel and the simulator agree on.
func (j *worker) witness(ctx context.Context, feature string) (*session, error) {
	for index := j.options.First; ctx.Err() == nil; index++ {
		w := Generate(j.options.Seed, index, []string{feature}, j.options.Kernel)
		s, err := j.sit(ctx, w)
		if err != nil {
			return nil, err
		}
		for i := range w.Elements {
			e := &w.Elements[i]
			if !slices.Contains(e.Features, feature) {
				continue
			}
			snapshot, ok := without(s.snapshot, e)
			if !ok {
				continue
			}
			other, err := simulator.Compile(snapshot)
			if err != nil {
				continue
			}
			for at := range s.cases {
				c := &s.cases[at]
				if p, err := predict(other, c.probe); err != nil || c.wrong() || len(c.predicted.Fates) != 1 || c.predicted.unknown() || c.predicted.same(p) {
					continue
				}
				alone := w.Without(func(*Element) bool { return false }, func(p *Probe) bool { return p.ID == c.probe.ID })
				alone.Apart = true
				var last *session
				shrinkWhile(ctx, alone, func(smaller *World) bool {
					if !slices.ContainsFunc(smaller.Elements, func(o Element) bool { return o.ID == e.ID }) {
						return false
					}
					t, err := j.sit(ctx, smaller)
					if err != nil || t.cases[0].wrong() || !t.cases[0].predicted.same(c.predicted) {
						return false
					}
					last = t
					return true
				})
				if last != nil {
					return last, nil
				}
			}
		}
	}
	return nil, ctx.Err()
}
