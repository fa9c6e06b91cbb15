package probes

import (
	"errors"
	"fmt"
	"time"
)

// A table is a kernel map of counters.
type table[K comparable] interface {
	// read calls fn for each entry. Counts only grow while their entry lives.
	read(fn func(key K, count uint64)) error
	// remove deletes an entry and returns its last count, or errNoEntry.
	remove(key K) (uint64, error)
}

var errNoEntry = errors.New("no such entry")

// place is where the kernel counted something, as the kernel knows it.
type place struct {
	cookie  uint64 // of the network namespace
	in, out uint32 // interfaces there, or 0
}

// seriesKey identifies one series of a metric; L holds the labels besides the subject's.
type seriesKey[L comparable] struct {
	subject Subject
	labels  L
}

// A tracker turns the entries of a kernel table into series whose values never go down while their pod lives.
//
// The table's entries come and go: they are removed when they are idle, so that the namespaces of past pods do not fill it. The pod of a place
// comes and goes too, and is often learned after the first drop. So a tracker only takes *increments* from the table, and adds each one
// to the series that its place belongs to at that moment. What was added to a series stays there.
type tracker[K, L comparable] struct {
	table      table[K]
	split      func(K) (place, L)
	overflowAs func(L) L
	attributor Attributor
	grace      time.Duration
	maxSeries  int

	entries map[K]*entry[L]
	places  map[place]*origin[L]
	order   []*origin[L] // places, in the order of their first appearance
	series  map[seriesKey[L]]uint64
	alive   map[Subject]time.Time // when the attributor last named the subject

	overflow   map[L]uint64              // the "other" series
	overflowed map[seriesKey[L]]struct{} // label sets that are counted there
	overflows  uint64                    // how many ever were
}

// entry is one entry of the kernel table, as last read.
type entry[L comparable] struct {
	count   uint64
	changed time.Time
	labels  L
	origin  *origin[L]
}

// origin is a place and the subject that it belongs to.
type origin[L comparable] struct {
	place    place
	subject  Subject
	settled  bool      // subject is the answer, until there is a better one
	known    time.Time // when the attributor last knew the place, or when it first appeared
	entries  int
	increase []increment[L] // not yet added to a series
}

type increment[L comparable] struct {
	labels L
	count  uint64
}

func newTracker[K, L comparable](t table[K], split func(K) (place, L), overflowAs func(L) L, o Options) *tracker[K, L] {
	return &tracker[K, L]{
		table:      t,
		split:      split,
		overflowAs: overflowAs,
		attributor: o.Attributor,
		grace:      o.Grace,
		maxSeries:  o.MaxSeries,
		entries:    map[K]*entry[L]{},
		places:     map[place]*origin[L]{},
		series:     map[seriesKey[L]]uint64{},
		alive:      map[Subject]time.Time{},
		overflow:   map[L]uint64{},
		overflowed: map[seriesKey[L]]struct{}{},
	}
}

// update brings the series up to date with the table. After an error the series hold what could be read.
func (t *tracker[K, L]) update(now time.Time) error {
	err := t.table.read(func(key K, count uint64) { t.note(key, count, now) })
	if err != nil {
		err = fmt.Errorf("read: %w", err)
	}
	t.attribute(now)
	err = errors.Join(err, t.removeIdle(now))
	t.forget(now)
	return err
}

// note takes in one entry of the table.
func (t *tracker[K, L]) note(key K, count uint64, now time.Time) {
	e, ok := t.entries[key]
	if !ok {
		at, labels := t.split(key)
		e = &entry[L]{labels: labels, origin: t.originOf(at, now), changed: now}
		e.origin.entries++
		t.entries[key] = e
	}
	if count < e.count { // removed by someone else and made again
		e.count = 0
	}
	if count > e.count {
		e.origin.increase = append(e.origin.increase, increment[L]{e.labels, count - e.count})
		e.count, e.changed = count, now
	}
}

func (t *tracker[K, L]) originOf(at place, now time.Time) *origin[L] {
	o, ok := t.places[at]
	if !ok {
		o = &origin[L]{place: at, known: now}
		t.places[at] = o
		t.order = append(t.order, o)
	}
	return o
}

// attribute finds the subject of each place and adds the increments of those that have one.
func (t *tracker[K, L]) attribute(now time.Time) {
	for _, o := range t.order {
		subject, ok := t.subjectOf(o.place)
		switch {
		case ok:
			o.subject, o.settled, o.known = subject, true, now
			t.alive[subject] = now
		case now.Sub(o.known) > t.grace:
			// Never known, or gone for good. Counting it as nobody's is better than not at all.
			o.subject, o.settled = Subject{}, true
		}
		t.flush(o)
	}
}

// subjectOf asks for the pod that sent the packet first, and for the one that it goes to only if that is none.
func (t *tracker[K, L]) subjectOf(at place) (Subject, bool) {
	if at.cookie == 0 || t.attributor == nil {
		return Subject{}, true
	}
	subject, known := t.attributor.Pod(at.cookie, at.in)
	if known && subject != (Subject{}) || at.out == 0 {
		return subject, known
	}
	if receiver, ok := t.attributor.Pod(at.cookie, at.out); ok && receiver != (Subject{}) {
		return receiver, true
	}
	return subject, known
}

func (t *tracker[K, L]) flush(o *origin[L]) {
	if !o.settled {
		return
	}
	for _, i := range o.increase {
		t.add(seriesKey[L]{o.subject, i.labels}, i.count)
	}
	o.increase = o.increase[:0]
}

func (t *tracker[K, L]) add(key seriesKey[L], n uint64) {
	if _, ok := t.series[key]; ok {
		t.series[key] += n
		return
	}
	_, over := t.overflowed[key]
	switch {
	case key.subject == otherSubject: // a pod of that name would be a duplicate of the "other" series
	case over:
	case len(t.series) < t.maxSeries:
		t.series[key] = n
		return
	default:
		// Stays in the "other" series even when there is room again: a series that begins late with a small value would look like a reset.
		t.overflowed[key] = struct{}{}
		t.overflows++
	}
	t.overflow[t.overflowAs(key.labels)] += n
}

// removeIdle deletes the entries that no longer grow. Their counts are in the series; should they grow again, they begin a new entry at zero.
func (t *tracker[K, L]) removeIdle(now time.Time) error {
	for key, e := range t.entries {
		if now.Sub(e.changed) <= t.grace {
			continue
		}
		count, err := t.table.remove(key)
		switch {
		case errors.Is(err, errNoEntry):
		case err != nil:
			return fmt.Errorf("remove an idle entry: %w", err)
		case count > e.count:
			e.origin.increase = append(e.origin.increase, increment[L]{e.labels, count - e.count})
			t.flush(e.origin)
		}
		e.origin.entries--
		delete(t.entries, key)
	}
	return nil
}

// forget drops the series of the subjects that ended, and the places that have nothing more to tell.
func (t *tracker[K, L]) forget(now time.Time) {
	ended := func(s Subject) bool { return s != (Subject{}) && now.Sub(t.alive[s]) > t.grace }
	for key := range t.series {
		if ended(key.subject) {
			delete(t.series, key)
		}
	}
	for key := range t.overflowed {
		if ended(key.subject) {
			delete(t.overflowed, key)
		}
	}
	for s := range t.alive {
		if ended(s) {
			delete(t.alive, s)
		}
	}
	kept := t.order[:0]
	for _, o := range t.order {
		// The place of a living pod is kept without entries: it is how the pod is known to live.
		if o.entries == 0 && len(o.increase) == 0 && o.settled && o.subject == (Subject{}) {
			delete(t.places, o.place)
			continue
		}
		kept = append(kept, o)
	}
	clear(t.order[len(kept):])
	t.order = kept
}

// each calls fn for every series, the "other" ones included.
func (t *tracker[K, L]) each(fn func(s Subject, labels L, count uint64)) {
	for key, count := range t.series {
		fn(key.subject, key.labels, count)
	}
	for labels, count := range t.overflow {
		fn(otherSubject, labels, count)
	}
}
