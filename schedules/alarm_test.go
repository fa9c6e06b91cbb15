package schedules

import (
	"slices"
	"testing"
	"time"
)

// What passes between two looks is real time; what the clock says then is up to whoever
// sets it.
func TestAScheduleIsDueByAClockThatIsSet(t *testing.T) {
	start := time.Date(2026, 3, 1, 10, 0, 5, 0, time.UTC)
	const hour = time.Hour
	type look struct{ passed, set time.Duration }
	steady := func(n int) (looks []look) {
		for range n {
			looks = append(looks, look{passed: 5 * time.Second})
		}
		return looks
	}
	for _, test := range []struct {
		what  string
		looks []look
		runs  []string // by the clock
	}{
		{"a clock that nobody sets", steady(36), []string{"10:01:00", "10:02:00", "10:03:00"}},
		{"set back by an hour", slices.Concat(steady(12), []look{{5 * time.Second, -hour}}, steady(24)), []string{"10:01:00", "09:02:00", "09:03:00"}},
		{"set back at the very moment at which it is due", slices.Concat(steady(10), []look{{5 * time.Second, -hour}}, steady(12)), []string{"09:02:00"}},
		{"set forward by an hour", slices.Concat(steady(12), []look{{5 * time.Second, hour}}, steady(12)), []string{"10:01:00", "11:01:10", "11:02:00"}},
		{"set forward by a day", slices.Concat(steady(1), []look{{5 * time.Second, 24 * hour}}, steady(12)), []string{"10:00:15", "10:01:00"}},
		{"set back by so little that what was due stays done", slices.Concat(steady(11), []look{{10 * time.Millisecond, -500 * time.Millisecond}, {490 * time.Millisecond, 0}}, steady(12)), []string{"10:01:00", "10:02:00"}},
		{"set back and forth", slices.Concat([]look{{5 * time.Second, -hour}, {5 * time.Second, hour}}, steady(10)), []string{"10:00:15", "10:01:00"}},
	} {
		timing, err := parseCron("* * * * *")
		if err != nil {
			t.Fatal(err)
		}
		now := start
		a := newAlarm(timing, now)
		var runs []string
		for _, l := range test.looks {
			now = now.Add(l.passed + l.set)
			if a.ringsAfter(l.passed, now) {
				runs = append(runs, now.Format(time.TimeOnly))
			}
			if wait := a.wait(); wait <= 0 || wait > glance {
				t.Errorf("%s: at %s it waits for %s", test.what, now.Format(time.TimeOnly), wait)
			}
		}
		if !slices.Equal(runs, test.runs) {
			t.Errorf("%s: it ran at %v, want %v", test.what, runs, test.runs)
		}
	}
}
