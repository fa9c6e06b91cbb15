package witness

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"
)

const (
	// patience is how long the agents may take to answer: a leader asks for grants that
	// often, so that one round may be lost.
	patience = Trust / 3
	// reminder is how often agents are told who leads: some are new, or were restarted.
	reminder = 30 * time.Second
	// look is how often is looked whether the leader leads still.
	look = 250 * time.Millisecond
	// standstill is by how much the clock gets ahead of monotonic time in between, at least, where that stood still as all
	// of a machine did: one that was suspended, or a virtual one that was paused and got the time afterwards.
	standstill = time.Second
)

// Options say what a Leader works with.
type Options struct {
	// Valid is how long its lease lets it lead, from before it was renewed.
	Valid time.Duration
	// Bound is how long after it has renewed its lease it goes on at most; the same for
	// all candidates.
	Bound func() time.Duration
	// Agents are those that are known. An error says that they are not known yet.
	Agents func() ([]*url.URL, error)
	// Tell is Tell, with the agents' client.
	Tell func(ctx context.Context, agent *url.URL, t Term, grant bool) (Answer, error)
	// Gained is called when it begins to lead, Lost when it does not any more. Calls do not overlap.
	Gained, Lost func()
	Log          *slog.Logger
}

// Leader is a candidate that leads while it renews its lease, or else while a majority of the agents lets
// it. Whoever competes for the lease tells it what becomes of that. It is safe for
// concurrent use.
type Leader struct {
	options Options
	wake    chan struct{}
	started time.Time
	wall    func() time.Time // the clock, without its monotonic reading

	mu      sync.Mutex
	term    Term      // the last that it had; zero if none
	renewed time.Time // before the lease was renewed last
	// clear is when nobody else leads any more by grants.
	clear   time.Time
	away    bool      // the API server did not answer when the lease was to be renewed last
	granted time.Time // until when a majority lets it go on
	over    bool      // it does not lead before the lease is renewed
	// ahead is how much more time has passed since it was started by the clock, and stood when was seen last that this
	// grew at once.
	ahead time.Duration
	stood time.Time
	// When agents are to be told, and asked, next.
	confirm, ask time.Time
}

// NewLeader returns a candidate that does not lead.
func NewLeader(options Options) *Leader {
	return &Leader{
		options: options, wake: make(chan struct{}, 1), started: time.Now(), over: true,
		wall: func() time.Time { return time.Now().Round(0) },
	}
}

// Renewed tells that it has a lease, and began to write that then. Free says that whoever
// had it before has let go of it.
func (l *Leader) Renewed(t Term, began time.Time, free bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if leads := l.leads(); t != l.term {
		l.term, l.granted, l.confirm, l.ask = t, time.Time{}, time.Time{}, time.Time{}
		if l.clear = began; !leads && !free {
			l.clear = began.Add(l.options.Bound())
		}
	}
	l.renewed, l.away, l.over = began, false, began.Before(l.stood)
	l.notify()
}

// Missed tells that the lease could not be renewed, or looked at: because the API server
// is away, or because it refused.
func (l *Leader) Missed(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
	l.notify()
}

// Taken tells that another has the lease.
func (l *Leader) Taken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.notify()
}

// Resign ends leading, and says whether the lease may be let go of: not while somebody else
// may lead by grants, whom the next holder would not wait for.
func (l *Leader) Resign() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.notify()
	return !time.Now().Before(l.clear)
}

// Leads says whether nobody else can lead at this moment, also after a pause of this process.
func (l *Leader) Leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads()
}

func (l *Leader) leads() bool {
	now := time.Now()
	ahead := l.wall().Sub(l.started.Round(0)) - now.Sub(l.started)
	if ahead-l.ahead > standstill {
		l.over, l.stood = true, now
		l.options.Log.Warn("this machine stood still, or its clock was set: the lease is renewed before this controller leads on", "for", ahead-l.ahead)
	}
	l.ahead = ahead
	if l.over || now.Before(l.clear) {
		return false
	}
	until := l.renewed.Add(l.options.Valid)
	if l.away && l.granted.After(until) {
		until = earlier(l.granted, l.renewed.Add(l.options.Bound()))
	}
	// Whoever stopped for a moment has stopped: another one may have begun.
	l.over = !now.Before(until)
	return !l.over
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (l *Leader) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run talks to the agents, and tells of each change, until ctx ends.
func (l *Leader) Run(ctx context.Context) {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	tick := time.NewTicker(look)
	defer tick.Stop()
	led := false
	for {
		if next := l.due(); next != nil {
			rounds.Go(func() { next.run(ctx) })
		}
		if leads := ctx.Err() == nil && l.Leads(); leads != led {
			if led = leads; led {
				l.options.Gained()
			} else {
				l.options.Lost()
			}
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-tick.C:
		}
	}
}

// round tells all agents of a term, or asks them all for grants.
type round struct {
	leader *Leader
	term   Term
	grant  bool
	began  time.Time
	until  time.Time // when answers come too late
}

// due is the round that is due, if one is.
func (l *Leader) due() *round {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leads() // finds out whether it is over
	now := time.Now()
	r := &round{leader: l, term: l.term, began: now, until: now.Add(patience)}
	switch {
	case l.over:
		return nil
	case (l.away || now.Sub(l.renewed) > l.options.Valid/2) && !now.Before(l.clear) && !now.Before(l.ask):
		// An API server that is silent takes its time to be away.
		r.grant, l.ask = true, now.Add(patience)
		return r
	case !l.away && !now.Before(l.confirm):
		l.confirm = now.Add(reminder)
		if now.Before(l.clear) {
			l.confirm = now.Add(patience)
		}
		// It is not told of a lease that is renewed when that may have run out.
		r.until = earlier(r.until, l.renewed.Add(l.options.Valid))
		return r
	}
	return nil
}

// run returns when all have answered, or it is too late.
func (r *round) run(ctx context.Context) {
	options := &r.leader.options
	agents, err := options.Agents()
	if err != nil {
		options.Log.Warn("the agents, who witness who leads, are not known", "err", err)
		return
	}
	if len(agents) == 0 && !r.grant {
		r.heard(time.Now()) // nobody grants anything
		return
	}
	ctx, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	type reply struct {
		Answer
		at  time.Time
		err error
	}
	replies := make(chan reply)
	for _, agent := range agents {
		go func() {
			answer, err := options.Tell(ctx, agent, r.term, r.grant)
			replies <- reply{answer, time.Now(), err}
		}()
	}
	var (
		consent int
		free    time.Time // when no grant holds any more of those who consent
		failed  error
		refused *Refusal
	)
	// A majority lets a leader go on. Of any majority one at least is among half of the agents: these know
	// what was granted before they were told, and grant nothing to others from then on.
	need := len(agents)/2 + 1
	if !r.grant {
		need = (len(agents) + 1) / 2
	}
	for range agents {
		one := <-replies
		switch {
		case r.grant && errors.As(one.err, &refused) && refused.Latest.after(r.term):
			r.leader.superseded(r.term, refused.Latest)
		case one.err != nil:
			failed = one.err
		case r.grant && one.Granted < Grant || one.Outstanding > Grant:
			// It has other rules: what it grants may be over when it is relied on.
		default:
			if end := one.at.Add(one.Outstanding); end.After(free) {
				free = end
			}
			if consent++; consent == need {
				r.heard(free)
			}
		}
	}
	if failed != nil {
		options.Log.Debug("agents do not witness who leads", "agents", len(agents), "do", consent, "one", failed)
	}
}

// heard tells that enough have consented; no grant of theirs to others holds from then on.
func (r *round) heard(free time.Time) {
	l := r.leader
	l.mu.Lock()
	defer l.mu.Unlock()
	leads := l.leads() // a majority that comes too late is none
	switch {
	case l.term != r.term:
	case !r.grant:
		l.clear = earlier(l.clear, free)
	case leads:
		if l.granted.Before(time.Now()) {
			l.options.Log.Warn("the lease is not renewed; should the API server stay away, a majority of the agents lets this controller lead on")
		}
		l.granted = r.began.Add(Trust)
	}
	l.notify()
}

// superseded tells that an agent knows a later term. While the lease is renewed, that counts.
func (l *Leader) superseded(t, by Term) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == t {
		l.over = true
		l.options.Log.Warn("another controller has the lease, as agents know", "holder", by.Holder)
	}
	l.notify()
}
