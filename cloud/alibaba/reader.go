package alibaba

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Defaults of Options.
const (
	DefaultMaxAge  = time.Minute
	DefaultTimeout = 30 * time.Second
	DefaultKeep    = 5 * time.Minute
)

// Options of a Reader.
type Options struct {
	Region string
	// Endpoints are where products answer, by their names (Products); the public ones
	// for those that are not there.
	Endpoints map[string]*url.URL
	// Credentials is where they come from; CredentialsAuto when empty.
	Credentials string
	// MaxAge is how old facts may be before they are asked for again: health of backends
	// half of it, and what seldom changes twice. DefaultMaxAge when zero.
	MaxAge time.Duration
	// Keep is how old facts may be that cannot be read again, before they are not known
	// any more. DefaultKeep when zero; SetKeep changes it.
	Keep time.Duration
	// Timeout bounds one reading. DefaultTimeout when zero.
	Timeout time.Duration
	Log     *slog.Logger
}

// endpoint is where a product, or another service, answers.
func (o *Options) endpoint(service string) *url.URL {
	switch u := o.Endpoints[service]; {
	case u != nil:
		return u
	case service == serviceMetadata:
		return &url.URL{Scheme: "http", Host: "100.100.100.200"}
	case service == "slb" && o.Region == "cn-hangzhou": // the only one that is not like the others (CLB API, Endpoints)
		return &url.URL{Scheme: "https", Host: "slb.aliyuncs.com"}
	}
	return &url.URL{Scheme: "https", Host: service + "." + o.Region + ".aliyuncs.com"}
}

// Node is where one of the snapshot's nodes can be found in the cloud: by its
// instance, or by what its network namespace has.
type Node struct {
	Instance string
	MACs     []netstack.MAC
	Addrs    []netip.Addr
}

// Reader reads the facts, and keeps them. It is safe for concurrent use.
type Reader struct {
	options Options
	api     *api
	metrics *Metrics
	log     *slog.Logger
	now     func() time.Time

	reading sync.Mutex // held by the one who asks the API

	mu      sync.Mutex
	entries map[string]*entry // by action and parameters
	parts   []*alibaba.Facts  // of all entries that are told
	facts   *alibaba.Facts    // those together
	failing map[string]string // as it was logged
}

// entry is what one call told, all of its pages.
type entry struct {
	asking sync.Mutex // by one at a time

	action action
	facts  *alibaba.Facts // nil before the first success
	read   time.Time      // when that was
	tried  time.Time
	err    *APIError // of the last try
}

// NewReader makes a Reader that has read nothing yet. It asks nobody. It fails where
// the SDK would print requests, with credentials in them.
func NewReader(o Options) (*Reader, error) {
	if slices.Contains(strings.Split(os.Getenv("DEBUG"), ","), "sdk") {
		return nil, errors.New("DEBUG=sdk in the environment would print credentials")
	}
	o.MaxAge, o.Timeout, o.Keep = cmp.Or(o.MaxAge, DefaultMaxAge), cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.Keep, DefaultKeep)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := newMetrics()
	r := &Reader{
		options: o, api: newAPI(&o, m), metrics: m, log: o.Log, now: time.Now,
		entries: map[string]*entry{}, facts: nothing("it was not asked yet"), failing: map[string]string{},
	}
	m.reader = r
	return r, nil
}

// nothing are facts of which nothing is known, not even which devices are the cloud's.
func nothing(why string) *alibaba.Facts {
	return &alibaba.Facts{Failed: map[string]string{describeInterfaces.name: why}}
}

// Metrics are those of the Reader.
func (r *Reader) Metrics() *Metrics { return r.metrics }

// Close ends connections that are idle.
func (r *Reader) Close() {
	r.api.credentials.sts.CloseIdleConnections() // and those of the API, which it shares
	r.api.credentials.metadata.CloseIdleConnections()
}

// Fetch returns the facts of the VPCs that the nodes are in. It asks for those that
// are too old, which is bounded in time and ends with the context. What cannot be
// read is in Failed of the facts, by action; what was read before is kept for a
// while. The facts are not to be changed; without a change of the cloud they are the
// same as before.
func (r *Reader) Fetch(ctx context.Context, nodes []Node) *alibaba.Facts {
	r.reading.Lock()
	defer r.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	w := &walk{reader: r, ctx: ctx, told: map[string]bool{}}
	w.all(nodes)
	return r.assemble(w)
}

// Facts are those of the last Fetch, without asking, and when the oldest of them was
// read; zero if none was.
func (r *Reader) Facts() (*alibaba.Facts, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var oldest time.Time
	for _, e := range r.entries {
		if r.known(e) != nil && (oldest.IsZero() || e.read.Before(oldest)) {
			oldest = e.read
		}
	}
	return r.facts, oldest
}

// SetKeep changes how old facts may be that cannot be read again.
func (r *Reader) SetKeep(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.options.Keep = cmp.Or(d, DefaultKeep)
}

// age is how old facts of a kind may be.
func (r *Reader) age(k kind) time.Duration {
	switch k {
	case wiring:
		return 2 * r.options.MaxAge
	case health:
		return r.options.MaxAge / 2
	}
	return r.options.MaxAge
}

// retryAfter is how long what failed is left alone: a call that is refused is refused
// again, and who is throttled should not insist.
func (r *Reader) retryAfter(k kind) time.Duration { return r.age(k) / 4 }

// get is what a call tells: as it was kept, or asked for now. It is nil where that is
// not known.
func (r *Reader) get(ctx context.Context, act action, key, about string, p parameters) *alibaba.Facts {
	r.mu.Lock()
	e := r.entries[key]
	if e == nil {
		e = &entry{action: act}
		r.entries[key] = e
	}
	r.mu.Unlock()
	e.asking.Lock()
	defer e.asking.Unlock()
	r.mu.Lock()
	now := r.now()
	due := now.Sub(e.tried) >= r.age(act.kind)
	if e.err != nil {
		due = now.Sub(e.tried) >= r.retryAfter(act.kind)
	}
	r.mu.Unlock()
	if due {
		facts, err := r.ask(ctx, act, about, p)
		r.mu.Lock()
		e.tried, e.err = r.now(), err
		if err == nil {
			e.read = e.tried
			if e.facts == nil || !reflect.DeepEqual(e.facts, facts) {
				e.facts = facts
			}
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known(e)
}

// known are the facts of an entry, unless they are too old to be told.
func (r *Reader) known(e *entry) *alibaba.Facts {
	if e.facts == nil || e.err != nil && r.now().Sub(e.read) > r.options.Keep {
		return nil
	}
	return e.facts
}

// ask calls the API and reads the answer as a bundle's file would be.
func (r *Reader) ask(ctx context.Context, act action, about string, p parameters) (*alibaba.Facts, *APIError) {
	answers, err := r.api.pages(ctx, act, p)
	if err != nil {
		return nil, fails(act.name, err)
	}
	file := act.name
	if about != "" {
		file += "." + about
	}
	facts := new(alibaba.Facts)
	if err := alibaba.Decode(file+".json", slices.Concat(answers...), facts); err != nil {
		return nil, &APIError{Action: act.name, Code: codeMalformed, Detail: plain(err.Error())}
	}
	if why := facts.Failed[act.name]; why != "" && act.paging != tokens {
		return nil, &APIError{Action: act.name, Code: codeMalformed, Detail: why}
	}
	return facts, nil
}

// text tells parameters apart from others.
func (p parameters) text() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		b.WriteString(name + "=" + p[name] + "&")
	}
	return b.String()
}

// assemble makes the facts of all entries that a walk has met, and forgets the
// others.
func (r *Reader) assemble(w *walk) *alibaba.Facts {
	r.mu.Lock()
	defer r.mu.Unlock()
	var parts []*alibaba.Facts
	failed := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(r.entries)) {
		e := r.entries[key]
		told, met := w.told[key]
		if !met {
			delete(r.entries, key)
			continue
		}
		if known := r.known(e); known != nil {
			if told {
				parts = append(parts, known)
			}
		} else if e.err != nil {
			failed[e.action.name] = e.err.reason()
		}
	}
	r.report()
	if w.nowhere && len(failed) == 0 {
		failed = nothing("none of the nodes is in region " + r.options.Region).Failed
	}
	// Between two collections little is due, and most often nothing.
	if slices.Equal(parts, r.parts) && maps.Equal(failed, r.facts.Failed) {
		return r.facts
	}
	r.parts = parts
	if fresh := alibaba.Merge(parts, failed); !reflect.DeepEqual(fresh, r.facts) {
		r.facts = fresh
	}
	return r.facts
}

// report logs what has begun to fail, and what does so no more.
func (r *Reader) report() {
	failing := map[string]string{}
	// In one order: of several failures of an action the same one is told each time.
	for _, key := range slices.Sorted(maps.Keys(r.entries)) {
		if e := r.entries[key]; e.err != nil {
			failing[e.action.name] = e.err.reason()
		}
	}
	for name, why := range failing {
		if r.failing[name] != why {
			r.log.Warn("the cloud's API does not answer", "action", name, "err", why)
		}
	}
	for name := range r.failing {
		if failing[name] == "" {
			r.log.Info("the cloud's API answers", "action", name)
		}
	}
	r.failing = failing
}

// ages are those of the oldest facts of each action, in seconds.
func (r *Reader) ages() map[string]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ages := map[string]float64{}
	for _, e := range r.entries {
		if r.known(e) != nil {
			name := e.action.name
			ages[name] = max(ages[name], r.now().Sub(e.read).Seconds(), 0)
		}
	}
	return ages
}
