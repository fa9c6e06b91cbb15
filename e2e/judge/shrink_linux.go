package judge

import (
	"context"
	"slices"
)

// shrink leaves out as many of the elements under test as it can while the kernel and the simulator still disagree: delta
// debugging, halves first, then ever smaller parts.
func (j *worker) shrink(ctx context.Context, w *World) *World {
	var under []string
	for i := range w.Elements {
		if len(w.Elements[i].Features) > 0 {
			under = append(under, w.Elements[i].ID)
		}
	}
	for size := max(1, len(under)/2); ; {
		progress := false
		for at := 0; at < len(under) && ctx.Err() == nil; {
			part := under[at:min(at+size, len(under))]
			smaller := w.Without(func(e *Element) bool { return slices.Contains(part, e.ID) }, func(*Probe) bool { return true })
			if j.disagrees(ctx, smaller) {
				w, progress = smaller, true
				under = slices.Delete(slices.Clone(under), at, at+len(part))
				continue
			}
			at += size
		}
		if size == 1 && !progress || ctx.Err() != nil {
			return w
		}
		size = max(1, size/2)
	}
}

// disagrees says whether some probe of the world is not what the simulator says. A world that cannot be built does not.
func (j *worker) disagrees(ctx context.Context, w *World) bool {
	s, err := j.sit(ctx, w)
	return err == nil && slices.ContainsFunc(s.cases, func(c verdictCase) bool { return c.wrong() })
}
