package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Times of a simulated cluster: those that a Lease of 15 seconds has.
const (
	lease = 15 * time.Second
	valid = lease * 2 / 3
	retry = lease / 8
	bound = time.Minute
)

// cluster is an API server with one Lease, agents, and two candidates, in simulated time.
type cluster struct {
	t       *testing.T
	ctx     context.Context
	running sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	agents []*Witness
	// api says which candidates reach the API server, and paths which agents.
	api   [2]bool
	paths [2][]bool
	// late is how long a request may take, each way; one that takes longer than its caller
	// waits arrives all the same.
	late time.Duration

	lease      Term // Holder is empty when it was let go of
	renewals   int
	candidates [2]*Leader
	changes    []string
}

// simulate runs a test in a cluster of so many agents, and never lets two lead at once.
func simulate(t *testing.T, agents int, seed uint64, test func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := &cluster{t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), api: [2]bool{true, true}, lease: Term{Lease: "lease"}}
		for range agents {
			c.agents = append(c.agents, New())
		}
		for who := range c.candidates {
			c.paths[who] = make([]bool, agents)
			for i := range agents {
				c.paths[who][i] = true
			}
			c.begin(who)
		}
		c.running.Go(func() {
			for c.sleep(20 * time.Millisecond) {
				if c.leads(0) && c.leads(1) {
					t.Errorf("two lead at once; %v", c.changes)
					return
				}
			}
		})
		test(c)
		cancel()
		c.running.Wait()
	})
}

// begin starts a candidate, which competes as an elector does.
func (c *cluster) begin(who int) {
	agents := make([]*url.URL, len(c.agents))
	for i := range agents {
		agents[i] = &url.URL{Host: fmt.Sprint(i)}
	}
	note := func(what string) func() {
		return func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.changes = append(c.changes, fmt.Sprintf("%d %s at %s", who, what, time.Now().Format("04:05.00")))
		}
	}
	leader := NewLeader(Options{
		Valid: valid, Bound: func() time.Duration { return bound }, Log: slog.New(slog.DiscardHandler),
		Agents: func() ([]*url.URL, error) { return agents, nil },
		Tell: func(ctx context.Context, agent *url.URL, t Term, grant bool) (Answer, error) {
			return c.tell(ctx, who, agent, t, grant)
		},
		Gained: note("gained"), Lost: note("lost"),
	})
	c.candidates[who] = leader
	c.running.Go(func() { leader.Run(c.ctx) })
	c.running.Go(func() {
		seen, since := -1, time.Now()
		for c.sleep(retry) {
			c.attempt(who, leader, &seen, &since)
		}
	})
}

// attempt is one to renew the lease, or to take it.
func (c *cluster) attempt(who int, leader *Leader, seen *int, since *time.Time) {
	name := fmt.Sprint(who)
	began := time.Now()
	c.sleep(c.some(time.Second))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.api[who]:
		leader.Missed(true)
		return
	case c.lease.Holder == name:
		leader.Renewed(c.lease, began, false)
		c.renewals++
		return
	case c.lease.Holder != "":
		leader.Taken()
		if c.renewals != *seen {
			*seen, *since = c.renewals, time.Now()
		}
		if time.Since(*since) < lease {
			return
		}
	}
	free := c.lease.Holder == ""
	c.renewals++
	c.lease.Number++
	c.lease.Holder = name
	leader.Renewed(c.lease, began, free)
}

// tell carries a request.
func (c *cluster) tell(ctx context.Context, who int, agent *url.URL, t Term, grant bool) (Answer, error) {
	var i int
	_, _ = fmt.Sscan(agent.Host, &i)
	there, back := c.some(c.late), c.some(c.late)
	c.mu.Lock()
	w := c.agents[i] // one that is restarted does not hear what was said to it before
	c.mu.Unlock()
	type reply struct {
		Answer
		error
	}
	answered := make(chan reply, 1)
	c.running.Go(func() {
		if !c.sleep(there) || !c.reaches(who, i) {
			return
		}
		var r reply
		if grant {
			r.Granted, r.error = w.Grant(t)
		} else {
			r.Outstanding, r.error = w.Confirm(t)
		}
		if c.sleep(back) && c.reaches(who, i) {
			answered <- r
		}
	})
	select {
	case r := <-answered:
		return r.Answer, r.error
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// some is a random part of a time.
func (c *cluster) some(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.random.Float64() * float64(d))
}

func (c *cluster) reaches(who, agent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths[who][agent]
}

func (c *cluster) sleep(d time.Duration) bool {
	select {
	case <-c.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c *cluster) leads(who int) bool { return c.candidates[who].Leads() }

// set changes something.
func (c *cluster) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// until waits until a condition holds, which has to come about within a time.
func (c *cluster) until(what string, within time.Duration, condition func() bool) {
	c.t.Helper()
	for end := time.Now().Add(within); !condition(); c.sleep(look) {
		if time.Now().After(end) {
			c.t.Fatalf("not within %s: %s; %v", within, what, c.changes)
		}
	}
}

// always says that a condition holds for a time.
func (c *cluster) always(what string, during time.Duration, condition func() bool) {
	c.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); c.sleep(look) {
		if !condition() {
			c.t.Fatalf("%s does not hold any more; %v", what, c.changes)
		}
	}
}

// leader waits until one leads, and returns who.
func (c *cluster) leader(within time.Duration) (who, other int) {
	c.t.Helper()
	c.until("somebody leads", within, func() bool { return c.leads(0) || c.leads(1) })
	if c.leads(1) {
		return 1, 0
	}
	return 0, 1
}

func TestALeaderGoesOnWhileTheAPIServerIsAway(t *testing.T) {
	simulate(t, 5, 1, func(c *cluster) {
		who, other := c.leader(lease)
		c.sleep(lease) // agents were restarted long ago
		c.set(func() {
			c.api = [2]bool{}
			// Two of five are away, too.
			c.paths[who][0], c.paths[who][1] = false, false
		})
		c.always("it leads", bound-lease, func() bool { return c.leads(who) && !c.leads(other) })
		c.set(func() { c.api[who] = true })
		c.always("it leads when the API server is back", bound, func() bool { return c.leads(who) })
		c.set(func() { c.api[who] = false })
		c.until("it stops when state is too old", bound+look, func() bool { return !c.leads(who) })
		c.always("it is over", bound, func() bool { return !c.leads(who) && !c.leads(other) })
		c.set(func() { c.api = [2]bool{true, true} })
		c.leader(lease + Grant)
		if len(c.changes) < 3 || len(c.changes) > 4 {
			t.Errorf("there is one change at the beginning, and two after the bound: %v", c.changes)
		}
	})
}

func TestALeaderStopsWithoutAMajority(t *testing.T) {
	for _, agents := range []int{0, 1, 4, 5} {
		t.Run(fmt.Sprintf("%d agents", agents), func(t *testing.T) {
			simulate(t, agents, 1, func(c *cluster) {
				who, _ := c.leader(lease)
				c.sleep(lease)
				c.set(func() {
					c.api = [2]bool{}
					for i := range (agents + 1) / 2 {
						c.paths[who][i] = false
					}
				})
				c.until("it stops", valid+retry+time.Second, func() bool { return !c.leads(who) })
				c.set(func() {
					for i := range agents {
						c.paths[who][i] = true
					}
				})
				c.always("it is over", bound, func() bool { return !c.leads(who) })
			})
		})
	}
}

// The leader is lost together with half of the agents, as on a node of two: the other half has not
// let it go on, and is enough to take over.
func TestALeaderIsLostWithHalfOfTheAgents(t *testing.T) {
	for _, agents := range []int{2, 4, 6} {
		t.Run(fmt.Sprintf("%d agents", agents), func(t *testing.T) {
			simulate(t, agents, 1, func(c *cluster) {
				who, other := c.leader(lease)
				c.sleep(lease)
				c.set(func() {
					c.api[who], c.paths[who] = false, make([]bool, agents)
					for i := range agents / 2 {
						c.paths[other][i] = false
					}
				})
				c.until("the other one leads", 2*lease+Grant, func() bool { return c.leads(other) })
				// One less is too few: those that are left may be a majority that lets another go on.
				c.set(func() {
					c.api[who], c.api[other], c.paths[who] = true, false, make([]bool, agents)
					for i := range agents/2 - 1 {
						c.paths[who][i] = true
					}
				})
				c.always("the first one waits", bound-lease, func() bool { return !c.leads(who) })
				c.until("the first one leads", 3*lease, func() bool { return c.leads(who) })
			})
		})
	}
}

// The leader cannot reach the API server, and the agents can: another one leads.
func TestALeaderIsCutOffFromTheAPIServer(t *testing.T) {
	simulate(t, 5, 1, func(c *cluster) {
		who, other := c.leader(lease)
		c.sleep(lease)
		c.set(func() { c.api[who] = false })
		c.until("the other one leads", 2*lease+Grant, func() bool { return c.leads(other) })
		c.always("the other one leads", bound, func() bool { return c.leads(other) })
	})
}

// And the other one cannot reach the agents: it waits until the first one has to stop.
func TestALeaderIsCutOffFromTheAPIServerAndTheOtherFromTheAgents(t *testing.T) {
	simulate(t, 5, 1, func(c *cluster) {
		who, other := c.leader(lease)
		c.sleep(lease)
		c.set(func() { c.api[who], c.paths[other] = false, make([]bool, 5) })
		c.always("the first one leads", bound-lease, func() bool { return c.leads(who) })
		c.until("the other one leads", 3*lease, func() bool { return c.leads(other) })
	})
}

// A lease that was let go of is taken at once; one of whose holder nothing is known, when
// the agents know of no grant.
func TestTakingALease(t *testing.T) {
	simulate(t, 5, 1, func(c *cluster) {
		who, other := c.leader(lease)
		c.set(func() { c.api[who] = false })
		if !c.candidates[who].Resign() || c.leads(who) {
			t.Error("who leads by the lease may let go of it, and does not lead then")
		}
		c.set(func() { c.lease.Holder = "" })
		c.until("the other one leads", retry+time.Second+look, func() bool { return c.leads(other) })
		c.sleep(Grant)
		c.set(func() { c.api[other], c.api[who], c.paths[other] = false, true, make([]bool, 5) })
		c.until("the first one leads", 2*lease, func() bool { return c.leads(who) })
	})
}

// Whoever took a lease and waits for the one before does not let go of it: the next one
// would not wait.
func TestALeaseIsKeptWhileItsHolderWaits(t *testing.T) {
	simulate(t, 3, 1, func(c *cluster) {
		who, other := c.leader(lease)
		c.sleep(lease)
		c.set(func() { c.api[who] = false })
		c.until("the other one has the lease", 2*lease, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.lease.Holder == fmt.Sprint(other)
		})
		if c.leads(other) || c.candidates[other].Resign() {
			t.Error("it leads, or may let go of the lease")
		}
	})
}

// An API server that is silent lets the lease run out before it is known to be away. Grants that are heard of by then
// do not make it lead again: what it does was ended, and ends once.
func TestWhoStoppedLeadsAgainByTheLeaseAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes := 0
		term := Term{Lease: "lease", Holder: "0"}
		leader := NewLeader(Options{
			Valid:  valid,
			Bound:  func() time.Duration { return bound },
			Agents: func() ([]*url.URL, error) { return []*url.URL{{Host: "agent"}}, nil },
			Tell: func(_ context.Context, _ *url.URL, _ Term, grant bool) (Answer, error) {
				if grant {
					return Answer{Granted: Grant}, nil
				}
				return Answer{}, nil
			},
			Gained: func() { changes++ },
			Lost:   func() { changes++ },
			Log:    slog.New(slog.DiscardHandler),
		})
		var running sync.WaitGroup
		running.Go(func() { leader.Run(ctx) })
		defer running.Wait()
		defer cancel()
		leads := func(want bool, when string) {
			t.Helper()
			synctest.Wait()
			if leader.Leads() != want {
				t.Errorf("%s: leads %t, want %t", when, !want, want)
			}
		}

		leader.Renewed(term, time.Now(), true)
		leads(true, "with the lease")
		time.Sleep(valid - look)
		leads(true, "while the lease holds")
		time.Sleep(2 * look)
		leads(false, "the lease has run out, and grants were heard of")
		leader.Missed(true)
		leads(false, "the API server is known to be away")
		leader.Renewed(term, time.Now(), true)
		leads(true, "with the lease again")
		if changes != 3 {
			t.Errorf("it began or stopped %d times, want 3", changes)
		}
	})
}

// A machine that stands still does not see time pass by its monotonic clock: that of day tells, once it is set.
func TestWhoStoodStillRenewsTheLeaseFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := NewLeader(Options{Valid: valid, Bound: func() time.Duration { return bound }, Log: slog.New(slog.DiscardHandler)})
		var set time.Duration
		leader.wall = func() time.Time { return time.Now().Add(set).Round(0) }
		term := Term{Lease: "lease", Holder: "0"}
		leads := func(want bool, when string) {
			t.Helper()
			if leader.Leads() != want {
				t.Errorf("%s: leads %t, want %t", when, !want, want)
			}
		}
		leader.Renewed(term, time.Now(), true)
		for range 10 {
			time.Sleep(look)
			set += standstill / 2
			leads(true, "with a clock that runs fast")
		}
		before := time.Now()
		time.Sleep(look)
		set -= time.Hour
		leads(true, "with a clock that is set back")
		set += 2 * standstill
		leader.Renewed(term, before, false)
		leads(false, "with a lease that was renewed before")
		leader.Renewed(term, time.Now(), false)
		leads(true, "with a lease that was renewed since")
		set += 2 * standstill
		leads(false, "after it stood still again")
		leader.Renewed(term, before, false)
		leads(false, "with what it hears late")
	})
}

// What happens to a cluster is drawn. That two never lead at once is looked at all the time.
func TestTwoNeverLeadAtOnce(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	changes := 0
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			simulate(t, 1+int(seed%6), seed, func(c *cluster) {
				c.late = time.Duration(seed%4) * time.Second
				for range 200 {
					c.sleep(c.some(10 * time.Second))
					c.set(func() { c.happens() })
				}
				c.set(func() {
					c.api, c.late = [2]bool{true, true}, 0
					for i := range c.agents {
						c.paths[0][i], c.paths[1][i] = true, true
					}
				})
				c.leader(2*lease + bound)
				changes += len(c.changes)
			})
		})
	}
	t.Logf("%d times one began to lead, or stopped", changes)
	if changes < int(seeds)*10 {
		t.Error("too little happens")
	}
}

// happens is what may happen at any time.
func (c *cluster) happens() {
	who, agent := c.random.IntN(2), c.random.IntN(len(c.agents))
	switch c.random.IntN(10) {
	case 0:
		c.api = [2]bool{} // it is away
	case 1, 2:
		c.api = [2]bool{true, true}
	case 3, 4, 5:
		c.api[who] = !c.api[who]
	case 6, 7:
		c.paths[who][agent] = !c.paths[who][agent]
	case 8:
		c.agents[agent] = New() // it is restarted
	case 9:
		for i := range c.agents { // they all are reached again
			c.paths[who][i] = true
		}
	}
}

func TestWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Term{"lease", 3, "a"}, Term{"lease", 4, "b"}
		w := New()
		refused := func(t2 Term, latest Term) {
			t.Helper()
			var refusal *Refusal
			if _, err := w.Grant(t2); !errors.As(err, &refusal) || refusal.Latest != latest {
				t.Errorf("a grant for %v: %v", t2, err)
			}
		}
		confirmed := func(t2 Term, want time.Duration) {
			t.Helper()
			if outstanding, err := w.Confirm(t2); err != nil || outstanding != want {
				t.Errorf("%v is confirmed: %v outstanding, %v; want %v", t2, outstanding, err, want)
			}
		}
		granted := func(t2 Term) {
			t.Helper()
			if d, err := w.Grant(t2); err != nil || d != Grant {
				t.Errorf("a grant for %v: %v, %v", t2, d, err)
			}
		}
		gone := func(t2 Term) {
			t.Helper()
			var refusal *Refusal
			if _, err := w.Confirm(t2); !errors.As(err, &refusal) {
				t.Errorf("%v is confirmed: %v", t2, err)
			}
		}

		refused(a, Term{})
		time.Sleep(time.Second)
		confirmed(a, Grant-time.Second) // it may have granted something before it was started
		if _, err := w.Grant(a); !errors.Is(err, errOutstanding) {
			t.Errorf("a grant while another may hold: %v", err)
		}
		time.Sleep(Grant)
		granted(a)
		confirmed(a, 0)
		time.Sleep(3 * time.Second)
		confirmed(b, Grant-3*time.Second)
		confirmed(b, Grant-3*time.Second)
		refused(a, b)
		gone(a)
		gone(Term{"lease", 4, "c"})
		refused(Term{"lease", 5, "c"}, b) // it was not told of that one
		time.Sleep(Grant)
		granted(b)

		// The lease is made anew.
		anew := Term{"anew", 0, "a"}
		refused(anew, b)
		confirmed(anew, Grant)
		gone(b)
		gone(Term{"lease", 9, "b"})
		for i := range 3 * maxGone {
			if _, err := w.Confirm(Term{fmt.Sprint(i), 0, "a"}); err != nil {
				t.Error(err)
			}
		}
		if len(w.gone) != maxGone {
			t.Errorf("it remembers %d leases", len(w.gone))
		}
	})
}
