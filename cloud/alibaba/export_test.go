package alibaba

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// SetClock makes a Reader live by another clock, without pauses and limits.
func (r *Reader) SetClock(now func() time.Time) {
	r.now = now
	for _, l := range r.api.limits {
		l.SetLimit(rate.Inf)
	}
	r.api.pause = func(ctx context.Context, _ int) error { return ctx.Err() }
}

// Pause is how long is waited before another try.
var Pause = pause

// Exhaust leaves a product no request for a while.
func (r *Reader) Exhaust(product string) {
	r.api.limits[product] = rate.NewLimiter(rate.Every(time.Hour), 1)
	r.api.limits[product].Allow()
}

// Endpoint is where a product answers.
func (o *Options) Endpoint(product string) string { return o.endpoint(product).String() }
