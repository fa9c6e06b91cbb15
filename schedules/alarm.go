package schedules

import (
	"time"

	"github.com/robfig/cron/v3"
)

// glance is the longest wait before the clock is looked at again: it may have been set.
const glance = 5 * time.Second

// alarm says when a schedule is due, by a clock that somebody may set at any time. Set
// forward, it makes what was left out one run; set back, it makes due again what was due
// before. Cron's own runner would wait until the clock is where it was.
type alarm struct {
	timing cron.Schedule
	looked time.Time // at the clock
	next   time.Time // zero for never
}

func newAlarm(timing cron.Schedule, now time.Time) *alarm {
	return &alarm{timing, now, timing.Next(now)}
}

// rings says whether the schedule is due now.
func (a *alarm) rings(now time.Time) bool {
	return a.ringsAfter(now.Sub(a.looked), now)
}

// ringsAfter is rings when so much time has passed since the last look, whatever the
// clock says.
func (a *alarm) ringsAfter(passed time.Duration, now time.Time) bool {
	// By less, a run that has just been is not due again: the wait is longer, that is all.
	setBack := passed-wall(now).Sub(wall(a.looked)) > time.Second
	due := !setBack && !a.next.IsZero() && !wall(now).Before(wall(a.next))
	if a.looked = now; due || setBack {
		a.next = a.timing.Next(now)
	}
	return due
}

// wait is how long to wait before the next look.
func (a *alarm) wait() time.Duration {
	if a.next.IsZero() {
		return glance
	}
	return min(wall(a.next).Sub(wall(a.looked)), glance)
}

// wall is a time without its monotonic reading, by which times are compared otherwise.
func wall(t time.Time) time.Time { return t.Round(0) }
