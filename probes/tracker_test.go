package probes

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeTable is a kernel table in memory, in a fixed order.
type fakeTable struct {
	order  []fakeKey
	counts map[fakeKey]uint64
	err    error
}

type fakeKey struct {
	place
	label string
}

func (t *fakeTable) add(cookie uint64, in, out uint32, label string, n uint64) {
	key := fakeKey{place{cookie, in, out}, label}
	if _, ok := t.counts[key]; !ok {
		t.order = append(t.order, key)
	}
	t.counts[key] += n
}

func (t *fakeTable) read(fn func(fakeKey, uint64)) error {
	for _, key := range t.order {
		if n, ok := t.counts[key]; ok {
			fn(key, n)
		}
	}
	return t.err
}

func (t *fakeTable) remove(key fakeKey) (uint64, error) {
	n, ok := t.counts[key]
	if !ok {
		return 0, errNoEntry
	}
	delete(t.counts, key)
	return n, nil
}

// fakePods maps cookie/interface to "namespace/pod"; "" is the node.
type fakePods map[string]string

func (f fakePods) Pod(cookie uint64, ifindex uint32) (Subject, bool) {
	name, ok := f[fmt.Sprintf("%d/%d", cookie, ifindex)]
	if !ok {
		name, ok = f[fmt.Sprintf("%d", cookie)]
	}
	if !ok || name == "" {
		return Subject{}, ok
	}
	return Subject{Namespace: "shop", Pod: name}, true
}

const grace = time.Minute

// world is a tracker with everything around it under control.
type world struct {
	t     *testing.T
	table *fakeTable
	pods  fakePods
	now   time.Time
	*tracker[fakeKey, string]
}

func newWorld(t *testing.T, maxSeries int) *world {
	w := &world{t: t, table: &fakeTable{counts: map[fakeKey]uint64{}}, pods: fakePods{}, now: time.Unix(1_000_000, 0)}
	w.tracker = newTracker(w.table,
		func(k fakeKey) (place, string) { return k.place, k.label },
		func(label string) string { return label },
		Options{Attributor: w.pods, MaxSeries: maxSeries, Grace: grace})
	return w
}

// want updates the tracker and compares its series, written "pod label" with "-" for the node.
func (w *world) want(series map[string]uint64) {
	w.t.Helper()
	if err := w.update(w.now); err != nil {
		w.t.Fatal(err)
	}
	got := map[string]uint64{}
	w.each(func(s Subject, label string, n uint64) {
		name := s.Pod
		switch s {
		case Subject{}:
			name = "-"
		case otherSubject:
			name = "(other)"
		}
		if _, ok := got[name+" "+label]; ok {
			w.t.Errorf("series %q appears twice", name+" "+label)
		}
		got[name+" "+label] = n
	})
	if diff := cmp.Diff(series, got); diff != "" {
		w.t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestCountsOfAPodAddUpOverItsPlaces(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"], w.pods["1"], w.pods["1/4"] = "api", "", "api"
	w.table.add(7, 0, 0, "A", 3)
	w.table.add(7, 2, 0, "A", 1)
	w.table.add(1, 4, 0, "A", 2) // dropped by the node, on the pod's interface
	w.table.add(1, 9, 0, "A", 5)
	w.want(map[string]uint64{"api A": 6, "- A": 5})
	w.table.add(1, 4, 0, "A", 1)
	w.table.add(7, 2, 0, "B", 1)
	w.want(map[string]uint64{"api A": 7, "api B": 1, "- A": 5})
}

func TestTheSenderCountsBeforeTheReceiver(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["1"], w.pods["1/4"], w.pods["1/5"] = "", "web", "api"
	w.table.add(1, 4, 5, "A", 1) // web to api
	w.table.add(1, 2, 5, "A", 2) // from elsewhere to api
	w.table.add(1, 4, 2, "A", 4) // web to elsewhere
	w.table.add(1, 0, 5, "A", 8) // the node itself to api
	w.table.add(1, 2, 0, "A", 16)
	w.table.add(1, 2, 3, "A", 32)
	w.want(map[string]uint64{"web A": 5, "api A": 10, "- A": 48})
}

func TestCountsWithoutANamespaceAreTheNodes(t *testing.T) {
	w := newWorld(t, 10)
	w.table.add(0, 0, 0, "A", 3)
	w.want(map[string]uint64{"- A": 3})
}

func TestCountsBeforeThePodIsKnownAreHeldForIt(t *testing.T) {
	w := newWorld(t, 10)
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{})
	w.now = w.now.Add(grace)
	w.table.add(7, 0, 0, "A", 1)
	w.want(map[string]uint64{})
	w.pods["7"] = "api"
	w.want(map[string]uint64{"api A": 4})
}

func TestCountsOfANamespaceThatStaysUnknownAreTheNodesAndStayThere(t *testing.T) {
	w := newWorld(t, 10)
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{})
	w.now = w.now.Add(grace + 1)
	w.table.add(7, 0, 0, "A", 1)
	w.want(map[string]uint64{"- A": 4})
	w.pods["7"] = "api" // known after all: only what follows is the pod's
	w.table.add(7, 0, 0, "A", 10)
	w.want(map[string]uint64{"- A": 4, "api A": 10})
}

func TestAPlaceThatPassesToAnotherPodTakesNothingAlong(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"], w.pods["1"], w.pods["1/4"] = "web", "", "web"
	w.table.add(1, 4, 0, "A", 3)
	w.want(map[string]uint64{"web A": 3})
	w.pods["1/4"] = "api"
	w.table.add(1, 4, 0, "A", 2)
	w.table.add(7, 0, 0, "A", 1)
	w.want(map[string]uint64{"web A": 4, "api A": 2})
}

func TestASeriesStaysForTheGraceOfAPodThatEnded(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"] = "api"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"api A": 3})
	delete(w.pods, "7")
	w.now = w.now.Add(grace)
	w.table.add(7, 0, 0, "A", 1) // the namespace's last packets
	w.want(map[string]uint64{"api A": 4})
	w.now = w.now.Add(1)
	w.want(map[string]uint64{})
	w.now = w.now.Add(grace + 1)
	w.want(map[string]uint64{})
	if len(w.table.counts) != 0 {
		t.Errorf("kernel table still has %v", w.table.counts)
	}
	if len(w.entries)+len(w.places)+len(w.order)+len(w.alive) != 0 {
		t.Errorf("tracker still has entries %v, places %v, alive %v", w.entries, w.places, w.alive)
	}
}

func TestAPodOfTheSameNameContinuesTheSeries(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"] = "db-0"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"db-0 A": 3})
	delete(w.pods, "7")
	w.pods["8"] = "db-0"
	w.now = w.now.Add(grace)
	w.table.add(8, 0, 0, "A", 1)
	w.want(map[string]uint64{"db-0 A": 4})
	w.now = w.now.Add(grace)
	w.want(map[string]uint64{"db-0 A": 4})
}

func TestIdleEntriesLeaveTheKernelAndTheSeriesStays(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"] = "api"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"api A": 3})
	w.now = w.now.Add(grace + 1)
	w.want(map[string]uint64{"api A": 3})
	if len(w.table.counts) != 0 {
		t.Fatalf("kernel table still has %v", w.table.counts)
	}
	w.now = w.now.Add(100 * grace)
	w.want(map[string]uint64{"api A": 3})
	w.table.add(7, 0, 0, "A", 2) // smaller than before, in a new entry
	w.want(map[string]uint64{"api A": 5})
}

// lateTable counts one more event between the last read and the removal.
type lateTable struct{ *fakeTable }

func (t lateTable) remove(key fakeKey) (uint64, error) {
	n, err := t.fakeTable.remove(key)
	return n + 1, err
}

func TestAnEventJustBeforeRemovalIsCounted(t *testing.T) {
	w := newWorld(t, 10)
	w.tracker.table = lateTable{w.table}
	w.pods["7"] = "api"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"api A": 3})
	w.now = w.now.Add(grace + 1)
	w.want(map[string]uint64{"api A": 4})
}

func TestAnEntryMadeAgainBySomeoneElseCountsFromZero(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"] = "api"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"api A": 3})
	w.table.counts[fakeKey{place{7, 0, 0}, "A"}] = 2
	w.want(map[string]uint64{"api A": 5})
}

func TestLabelSetsBeyondTheLimitShareASeriesUntilTheirPodEnds(t *testing.T) {
	w := newWorld(t, 2)
	w.pods["1"], w.pods["2"], w.pods["3"], w.pods["4"] = "p1", "p2", "p3", "p4"
	w.table.add(1, 0, 0, "A", 1)
	w.table.add(2, 0, 0, "A", 2)
	w.table.add(3, 0, 0, "A", 3)
	w.table.add(4, 0, 0, "A", 4)
	w.table.add(4, 0, 0, "B", 5)
	w.want(map[string]uint64{"p1 A": 1, "p2 A": 2, "(other) A": 7, "(other) B": 5})
	if w.overflows != 3 {
		t.Errorf("%d label sets beyond the limit, want 3", w.overflows)
	}

	// Room again: whoever is in the shared series stays there, a newcomer gets the room.
	delete(w.pods, "1")
	w.now = w.now.Add(grace + 1)
	w.want(map[string]uint64{"p2 A": 2, "(other) A": 7, "(other) B": 5})
	w.table.add(3, 0, 0, "A", 10)
	w.pods["5"] = "p5"
	w.table.add(5, 0, 0, "A", 6)
	w.want(map[string]uint64{"p2 A": 2, "p5 A": 6, "(other) A": 17, "(other) B": 5})
	if w.overflows != 3 {
		t.Errorf("%d label sets beyond the limit after a known one was counted again, want 3", w.overflows)
	}

	// The pod ends and another of its name begins: that one may have a series of its own, if there is room.
	delete(w.pods, "3")
	delete(w.pods, "5")
	w.now = w.now.Add(grace + 1)
	w.want(map[string]uint64{"p2 A": 2, "(other) A": 17, "(other) B": 5})
	w.pods["6"] = "p3"
	w.table.add(6, 0, 0, "A", 1)
	w.want(map[string]uint64{"p2 A": 2, "p3 A": 1, "(other) A": 17, "(other) B": 5})
}

func TestAPodNamedLikeTheSharedSeriesIsNoDuplicateOfIt(t *testing.T) {
	w := newWorld(t, 1)
	w.tracker.attributor = everythingIs{otherSubject}
	w.table.add(1, 0, 0, "A", 1)
	w.want(map[string]uint64{"(other) A": 1})
}

type everythingIs struct{ subject Subject }

func (e everythingIs) Pod(uint64, uint32) (Subject, bool) { return e.subject, true }

func TestATableThatCannotBeReadKeepsTheSeries(t *testing.T) {
	w := newWorld(t, 10)
	w.pods["7"] = "api"
	w.table.add(7, 0, 0, "A", 3)
	w.want(map[string]uint64{"api A": 3})
	w.table.err = errors.New("broken")
	if err := w.update(w.now); !errors.Is(err, w.table.err) {
		t.Fatalf("update = %v, want the table's error", err)
	}
	w.table.err = nil
	w.want(map[string]uint64{"api A": 3})
}

// No order of events may make a series of a living pod go down, nor lose or double a count.
func TestSeriesOfLivingPodsNeverGoDown(t *testing.T) {
	w := newWorld(t, 7)
	// A small generator instead of math/rand: the sequence must not change with the library.
	state := uint32(1)
	random := func(n int) int {
		state = state*1664525 + 1013904223
		return int(state>>8) % n
	}
	type series struct {
		s     Subject
		label string
	}
	last := map[series]uint64{}
	var sent uint64
	for range 20_000 {
		pod := uint64(random(5) + 1)
		switch random(8) {
		case 0:
			w.pods[fmt.Sprint(pod)] = fmt.Sprintf("p%d", pod)
		case 1:
			w.pods["9"], w.pods[fmt.Sprintf("9/%d", pod)] = "", fmt.Sprintf("p%d", pod)
		case 2:
			w.now = w.now.Add(time.Duration(random(int(grace)) + 1))
		case 3, 4:
			w.table.add(9, uint32(pod), uint32(random(3)), string(rune('A'+random(3))), 1)
			sent++
		default:
			w.table.add(pod, 0, 0, string(rune('A'+random(3))), 2)
			sent += 2
		}
		if err := w.update(w.now); err != nil {
			t.Fatal(err)
		}
		var total uint64
		now := map[series]uint64{}
		w.each(func(s Subject, label string, n uint64) { now[series{s, label}] = n; total += n })
		for key, before := range last {
			if now[key] < before {
				t.Fatalf("series %v went from %d to %d", key, before, now[key])
			}
		}
		for _, o := range w.order {
			for _, i := range o.increase {
				total += i.count
			}
		}
		if total != sent {
			t.Fatalf("series and what is held back add up to %d, want %d", total, sent)
		}
		last = now
	}
	if len(last) < 8 || w.overflows == 0 {
		t.Fatalf("the sequence did not reach the limit: %d series", len(last))
	}
}
