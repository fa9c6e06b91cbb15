package schedules

import (
	"testing"
	"time"
)

func TestJitterDelaysByTheNameAlone(t *testing.T) {
	start := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for _, spec := range []string{"*/1 * * * *", "@every 1m", "0 */1 * * * *", "@hourly"} {
		timing, err := parseCron(spec)
		if err != nil {
			t.Fatal(err)
		}
		distinct := make(map[time.Duration]bool)
		for _, name := range []string{"a", "b", "c", "web-to-api", "web-to-db"} {
			first := jittered(name, timing, 0.1).Next(start)
			again := jittered(name, timing, 0.1).Next(start.Add(time.Microsecond))
			if !first.Equal(again) {
				t.Errorf("%s %s: next run is %s, but %s when asked a moment later", spec, name, first, again)
			}
			period := interval(timing)
			delay := first.Sub(start.Truncate(period)) % period
			if limit := min(period/10, maxDelay); delay < 0 || delay > limit {
				t.Errorf("%s %s: delayed by %s, want at most %s", spec, name, delay, limit)
			}
			second := jittered(name, timing, 0.1).Next(first)
			if got := second.Sub(first); got != period {
				t.Errorf("%s %s: runs are %s apart, want %s", spec, name, got, period)
			}
			distinct[delay] = true
		}
		if len(distinct) != 5 {
			t.Errorf("%s: 5 names share %d delays", spec, len(distinct))
		}
	}
}

func TestWithoutJitterRunsAreOnTime(t *testing.T) {
	start := time.Date(2026, 3, 1, 10, 0, 7, 0, time.UTC)
	for spec, want := range map[string]time.Time{
		"*/5 * * * *":                       time.Date(2026, 3, 1, 10, 5, 0, 0, time.UTC),
		"30 * * * * *":                      time.Date(2026, 3, 1, 10, 0, 30, 0, time.UTC),
		"@every 10s":                        time.Date(2026, 3, 1, 10, 0, 10, 0, time.UTC),
		"@daily":                            time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
		"CRON_TZ=Asia/Shanghai 0 19 1 3 *":  time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC),
		"CRON_TZ=Europe/Berlin 0 12 1 3 *":  time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC),
		"CRON_TZ=America/New_York @monthly": time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC).AddDate(0, 1, 0).Add(-time.Hour),
	} {
		timing, err := parseCron(spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := jittered("a", timing, 0).Next(start); !got.Equal(want) {
			t.Errorf("%s: next run is %s, want %s", spec, got.UTC(), want)
		}
	}
}

func TestARareScheduleIsDelayedByAMinuteAtMost(t *testing.T) {
	timing, err := parseCron("0 3 * * *")
	if err != nil {
		t.Fatal(err)
	}
	three := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	for _, name := range []string{"a", "b", "c", "d"} {
		if delay := jittered(name, timing, 0.5).Next(three.Add(-time.Hour)).Sub(three); delay < 0 || delay > time.Minute {
			t.Errorf("%s: delayed by %s, want at most a minute", name, delay)
		}
	}
}
