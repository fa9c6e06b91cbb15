package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// collections is a network that takes so long to collect, and counts.
type collections struct {
	*server
	handler http.Handler

	mu    sync.Mutex
	began []time.Time
	err   error
}

func collecting(t *testing.T, snapshot *simulator.Snapshot, took time.Duration) *collections {
	c := &collections{}
	config := schedules.Default()
	config.Collector.MaxAge = time.Hour // so that only what fails is collected again
	metrics := newMetrics()
	n := newNetwork(func(context.Context, time.Duration) (*simulator.Snapshot, error) {
		c.mu.Lock()
		c.began = append(c.began, time.Now())
		err := c.err
		c.mu.Unlock()
		time.Sleep(took)
		copied := *snapshot
		return &copied, err
	}, false, slog.New(slog.DiscardHandler), metrics.phases)
	t.Cleanup(n.close)
	n.maxAge.Store(int64(time.Hour))
	c.server = &server{network: n, metrics: metrics, config: func() *schedules.Config { return config }, log: n.log}
	c.handler = c.server.handler()
	return c
}

// count is how often was collected, and when last.
func (c *collections) count() (int, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.began), c.began[len(c.began)-1]
}

// fails asks what is not reachable, and is answered from state that is no older than the question.
func (c *collections) fails(t *testing.T) {
	asked := time.Now()
	w := show(t, c.handler, "http://localhost/api/v1/diagnose?from=pod:shop/web-0&to=pod:shop/nobody&port=80", "", "192.0.2.1")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "EndpointUnresolved") {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	if _, last := c.count(); last.Before(asked) {
		t.Errorf("a question after %s is answered from state of before", asked)
	}
}

func TestWhatFailsIsCollectedAgainForAllTogether(t *testing.T) {
	snapshot, err := bundle.Read(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ took, interval time.Duration }{
		{10 * time.Millisecond, time.Second},
		{3 * time.Second, 6 * time.Second},
		{time.Minute, 90 * time.Second},
	} {
		t.Run(fmt.Sprint(test.took), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := collecting(t, snapshot, test.took)
				c.fails(t) // the first collection is of no question
				began := time.Now()
				var callers sync.WaitGroup
				for i := range 50 {
					callers.Go(func() {
						time.Sleep(time.Duration(i) * test.took / 50)
						c.fails(t)
					})
				}
				callers.Wait()
				for range 10 {
					c.fails(t)
				}
				passed := time.Since(began)
				if n, _ := c.count(); n > 2+int(passed/test.interval) {
					t.Errorf("%d collections within %s", n, passed)
				}
				if passed > 14*test.interval {
					t.Errorf("60 questions took %s", passed)
				}
			})
		})
	}
}

// A schedule confirms what begins to fail, whatever callers ask.
func TestSchedulesDoNotWaitForCallers(t *testing.T) {
	snapshot, err := bundle.Read(sample)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const took = 3 * time.Second
		c := collecting(t, snapshot, took)
		c.fails(t)
		time.Sleep(time.Minute)
		c.fails(t)
		began := time.Now()
		if v, err := c.network.View(t.Context(), began); err != nil || v.Taken().Before(began) || time.Since(began) != took {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// State that cannot be had anew is no reason not to answer.
func TestWhoWaitsForACollectionThatFailsIsAnswered(t *testing.T) {
	snapshot, err := bundle.Read(sample)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := collecting(t, snapshot, time.Second)
		c.fails(t)
		c.mu.Lock()
		c.err = errors.New("no privileges")
		c.mu.Unlock()
		began := time.Now()
		for range 5 {
			c.fails(t)
		}
		if n, _ := c.count(); n != 6 || time.Since(began) != 9*time.Second {
			t.Errorf("%d collections, after %s", n, time.Since(began))
		}
	})
}
