package netfilter

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// timeMatch is when a rule holds, in UTC (time_mt).
type timeMatch struct {
	since, until int64  // seconds since 1970
	start, stop  int64  // seconds of the day, over midnight where stop is not later
	weekdays     uint32 // bit 0 is Sunday
	monthdays    uint32 // bit 1 is the first
	contiguous   bool   // what is after midnight belongs to the day before
}

const secondsPerDay = 24 * 60 * 60

// timeMargin is how near to its edges a condition on the time is asked about: the packet is not sent in the moment in
// which the state was read.
const timeMargin = time.Minute

func (m *timeMatch) match(x *traversal) tri {
	now := x.env.Now()
	if now.IsZero() {
		return maybe
	}
	holds := m.holds(now.Unix())
	for second := now.Add(-timeMargin).Unix(); second <= now.Add(timeMargin).Unix(); second++ { // it may hold for one
		if m.holds(second) != holds {
			return maybe
		}
	}
	return is(holds)
}

func (m *timeMatch) decide(x *traversal) bool {
	if x.env.Now().IsZero() {
		return x.env.Unknown(x.ref(), "match time of a state that was read nobody knows when")
	}
	return x.env.Unknown(x.ref(), "match time within a minute of its edge")
}

func (m *timeMatch) holds(second int64) bool {
	if second < m.since || second > m.until {
		return false
	}
	ofDay := second % secondsPerDay
	if m.start < m.stop {
		if ofDay < m.start || ofDay > m.stop {
			return false
		}
	} else {
		if ofDay < m.start && ofDay > m.stop {
			return false
		}
		if m.contiguous && ofDay <= m.stop {
			second -= secondsPerDay
		}
	}
	day := time.Unix(second, 0).UTC()
	return m.weekdays>>day.Weekday()&1 != 0 && m.monthdays>>day.Day()&1 != 0
}

func compileTime(r *ruleParser, o options) (matcher, error) {
	m := &timeMatch{until: math.MaxInt32, stop: secondsPerDay - 1, weekdays: math.MaxUint32, monthdays: math.MaxUint32}
	for _, opt := range o {
		var err error
		switch opt.name {
		case "--datestart":
			m.since, err = parseDate(r, opt)
		case "--datestop":
			m.until, err = parseDate(r, opt)
		case "--timestart":
			m.start, err = parseTimeOfDay(r, opt)
		case "--timestop":
			m.stop, err = parseTimeOfDay(r, opt)
		case "--weekdays":
			m.weekdays, err = parseDays(r, opt, weekdayOf)
		case "--monthdays":
			m.monthdays, err = parseDays(r, opt, monthdayOf)
		case "--contiguous":
			m.contiguous = true
		}
		if err != nil {
			return nil, err
		}
	}
	if o.get("--kerneltz", "--localtz") != nil {
		r.unmodelled = true
		return unknownMatch{"match time in the kernel's time zone"}, nil
	}
	return m, nil
}

func parseDate(r *ruleParser, o option) (int64, error) {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, o.values[0]); err == nil && t.Year() >= 1970 {
			return t.Unix(), nil
		}
	}
	return 0, r.errorf(o.values[0], "invalid date for "+o.name)
}

func parseTimeOfDay(r *ruleParser, o option) (int64, error) {
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(layout, o.values[0]); err == nil {
			return int64(t.Hour()*3600 + t.Minute()*60 + t.Second()), nil
		}
	}
	return 0, r.errorf(o.values[0], "invalid time of day for "+o.name)
}

// parseDays reads days that commas separate into a mask.
func parseDays(r *ruleParser, o option, dayOf func(string) (int, bool)) (mask uint32, err error) {
	for day := range strings.SplitSeq(o.values[0], ",") {
		bit, ok := dayOf(day)
		if !ok {
			return 0, r.errorf(o.values[0], "invalid day for "+o.name)
		}
		mask |= 1 << bit
	}
	if o.invert {
		mask = ^mask
	}
	return mask, nil
}

// weekdayOf knows days by two letters or more, or by number, of which 7 is Sunday.
func weekdayOf(text string) (int, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return n % 7, n >= 1 && n <= 7
	}
	for d := time.Sunday; d <= time.Saturday; d++ {
		if name := d.String(); len(text) >= 2 && len(text) <= len(name) && strings.EqualFold(text, name[:len(text)]) {
			return int(d), true
		}
	}
	return 0, false
}

// monthdayOf knows days as "1" and "1st".
func monthdayOf(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimRight(text, "dhnrst"))
	return n, err == nil && n >= 1 && n <= 31
}
