package roles

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var setClock = flag.Bool("set-clock", false, "run the test that sets this machine's clock")

// Somebody sets the clock of a machine with agents and a controller, by an hour: schedules
// go on, verdicts are of new state, and old state is as old as it is.
func TestTheClockIsSet(t *testing.T) {
	if !*setClock {
		t.Skip("it sets the clock of the machine, so only with -set-clock: make test-vm has a machine for that")
	}
	off := time.Duration(0)
	turn := func(by time.Duration) {
		t.Helper()
		off += by
		now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { turn(-off) })
	// A machine without a processor of its own takes its time to collect.
	const patience = 4 * patience
	c := startCluster(t, "")
	config := strings.Replace(c.config, "timeout: 20s", "timeout: 2m", 1)
	address, _ := start(t, exporter.Options{Role: exporter.RoleController}, config+fmt.Sprintf(
		"schedules:\n- {name: across, cron: '@every 1s', from: %q, to: %q, port: %s}\n", across.from, across.to, across.port))
	a := newAsker(t, address)
	await := func(what string, condition func() error) {
		t.Helper()
		if err := against.Await(t, patience, 50*time.Millisecond, condition); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	scheduled := func(want verdict.Verdict) func() error {
		return func() error {
			var list struct {
				Schedules []struct {
					Paths []struct {
						Verdict verdict.Verdict
						Message string
					}
				}
			}
			status, body := a.get("/api/v1/schedules")
			if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK || len(list.Schedules) != 1 {
				return fmt.Errorf("%d %s: %w", status, body, err)
			}
			if paths := list.Schedules[0].Paths; len(paths) != 1 || paths[0].Verdict != want {
				return fmt.Errorf("the schedule says %+v, want %s", paths, want)
			}
			return nil
		}
	}
	fresh := func(when string, want verdict.Verdict) {
		t.Helper()
		r := a.diagnose(across)
		if r.Verdict != want {
			t.Errorf("%s, %s: %s, want %s", when, across, say(r), want)
		}
		for _, node := range []string{"node-1", "node-2"} {
			if age, ok := r.Snapshot.AgeSeconds[node]; !ok || age > patience.Seconds() {
				t.Errorf("%s, the state of %s is said to be %v s old", when, node, age)
			}
		}
	}
	await("the schedule runs", scheduled(verdict.Reachable))
	for _, by := range []time.Duration{-time.Hour, time.Hour, time.Hour, -time.Hour} {
		when := fmt.Sprintf("with the clock set by %s", by)
		turn(by)
		fresh(when, verdict.Reachable)
		if err := c.Break(t.Context(), "drop-rule"); err != nil {
			t.Fatal(err)
		}
		await(when+", the schedule sees what is broken", scheduled(verdict.Unreachable))
		fresh(when, verdict.Unreachable)
		if err := c.Fix(t.Context(), "drop-rule"); err != nil {
			t.Fatal(err)
		}
		await(when+", the schedule sees that it is mended", scheduled(verdict.Reachable))
	}

	c.stops["node-2"]()
	age := func(when string) float64 {
		t.Helper()
		r := a.diagnose(across)
		if r.Verdict != verdict.Unknown || r.Reason() != verdict.SnapshotMissing {
			t.Errorf("%s, %s: %s", when, across, say(r))
		}
		return r.Snapshot.AgeSeconds["node-2"]
	}
	before := age("without an agent")
	turn(-time.Hour)
	back := age("without an agent, the clock set back")
	turn(2 * time.Hour)
	forward := age("without an agent, the clock set forward")
	if !(before > 0 && back > before && forward > back && forward < time.Hour.Seconds()) {
		t.Errorf("the state of a node without an agent is %v s old, then %v, then %v", before, back, forward)
	}
}
