package schedules

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// maxDelay bounds the jitter of rare schedules: whoever writes "at three
// o'clock" does not mean "at half past five".
const maxDelay = time.Minute

// parseCron reads a cron expression of five or six fields, a descriptor, or
// @every DURATION.
func parseCron(spec string) (cron.Schedule, error) {
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") {
		// The parser would slice out of range.
		if !strings.Contains(spec, " ") {
			return nil, errors.New("a time zone without a schedule")
		}
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	timing, err := parser.Parse(spec)
	if err != nil {
		return nil, err
	}
	if text, ok := strings.CutPrefix(spec, "@every "); ok {
		// The parser rounds to seconds in silence.
		period, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		if period < time.Second {
			return nil, fmt.Errorf("%s is less than a second", text)
		}
		return every{period: period}, nil
	}
	if timing.Next(reference).IsZero() {
		return nil, errors.New("no such date ever comes")
	}
	return timing, nil
}

// reference is a time from which intervals are measured, so that they do not
// depend on when the daemon starts.
var reference = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

// interval is the shortest time between two of the next runs.
func interval(timing cron.Schedule) time.Duration {
	const samples = 10
	shortest := time.Duration(math.MaxInt64)
	at := timing.Next(reference)
	for range samples {
		next := timing.Next(at)
		if next.IsZero() {
			break
		}
		shortest = min(shortest, next.Sub(at))
		at = next
	}
	return shortest
}

// jittered delays a schedule by a time that depends on its name only, so that
// schedules with the same expression spread, and each of them still runs at
// regular intervals, also across restarts.
func jittered(name string, timing cron.Schedule, jitter float64) cron.Schedule {
	h := fnv.New64a()
	h.Write([]byte(name))
	// FNV leaves the upper bits of short names alike; fold the lower ones in.
	fraction := float64(h.Sum64()%10_007) / 10_007
	longest := min(float64(interval(timing))*jitter, float64(maxDelay))
	delay := time.Duration(fraction * longest).Truncate(time.Millisecond)
	if e, ok := timing.(every); ok {
		return every{period: e.period, delay: delay}
	}
	return delayed{timing: timing, delay: delay}
}

type delayed struct {
	timing cron.Schedule
	delay  time.Duration
}

func (d delayed) Next(t time.Time) time.Time {
	next := d.timing.Next(t.Add(-d.delay))
	if next.IsZero() {
		return next
	}
	return next.Add(d.delay)
}

// every runs at multiples of its period, counted from the zero time. Counting
// from the previous run, as cron's own does, would make runs drift and restarts
// shift them.
type every struct {
	period, delay time.Duration
}

func (e every) Next(t time.Time) time.Time {
	return t.Add(-e.delay).Truncate(e.period).Add(e.period + e.delay)
}
