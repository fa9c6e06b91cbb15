package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// collectTimeout bounds one collection; a host with hundreds of pods takes
// seconds.
const collectTimeout = 2 * time.Minute

// collectFunc reads the network: a collector's, or the reading of a bundle. Agents
// may hand out state that they have, if it is at most maxAge old; Taken is when the
// oldest was read of what is no older than that.
type collectFunc func(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, error)

// network hands out views of what is collected, and shares one collection
// among all who want one at the same time.
type network struct {
	collect collectFunc
	// static says that collecting again would read the same again: a bundle.
	static bool
	// fromAgents says that what is collected may be older than the collection.
	fromAgents bool
	// judges says that views are compiled: an agent hands state out as it is.
	judges bool
	// names asks name servers; nil where nobody is asked.
	names  *confirm.Names
	log    *slog.Logger
	phases *prometheus.HistogramVec // seconds, by phase
	// maxAge is the age, as a time.Duration, from which verdicts are unknown.
	maxAge atomic.Int64

	ctx    context.Context // of collections: they outlive the request that began them
	cancel context.CancelFunc
	flying sync.WaitGroup

	mu      sync.Mutex
	latest  *view
	current *flight
	lastErr error     // of the last collection; nil if it succeeded
	rest    time.Time // until then nothing is collected for callers
}

// Between the beginnings of two collections that callers ask for is a second at least, and
// twice the time of the first, but no longer pause than that.
const (
	afreshInterval = time.Second
	afreshPause    = 30 * time.Second
)

// flight is a collection that is under way.
type flight struct {
	began time.Time
	// notBefore is what was asked for: whoever wants newer state waits for the next.
	notBefore time.Time
	afresh    bool
	done      chan struct{}
}

func newNetwork(collect collectFunc, static bool, log *slog.Logger, phases *prometheus.HistogramVec) *network {
	ctx, cancel := context.WithCancel(context.Background())
	return &network{collect: collect, static: static, judges: true, log: log, phases: phases, ctx: ctx, cancel: cancel, lastErr: errors.New("nothing was collected yet")}
}

// close ends a collection that is under way, and waits for it.
func (n *network) close() {
	n.cancel()
	n.flying.Wait()
}

// View implements schedules.Source.
func (n *network) View(ctx context.Context, notBefore time.Time) (schedules.View, error) {
	v, err := n.view(ctx, notBefore)
	if err != nil {
		return nil, err // not a nil *view in an interface
	}
	return v, nil
}

func (n *network) view(ctx context.Context, notBefore time.Time) (*view, error) {
	return n.wait(ctx, notBefore, false)
}

// afresh is view for whoever may ask as often as they like: collections for them take half
// of the time at most, and all who wait share the next one.
func (n *network) afresh(ctx context.Context, notBefore time.Time) (*view, error) {
	return n.wait(ctx, notBefore, true)
}

func (n *network) wait(ctx context.Context, notBefore time.Time, afresh bool) (*view, error) {
	for joined := false; ; {
		n.mu.Lock()
		if v := n.latest; v != nil && (n.static || !v.began.Before(notBefore)) {
			n.mu.Unlock()
			return v, nil
		}
		if joined {
			// The collection that should have been recent enough failed.
			v, err := n.latest, n.lastErr
			n.mu.Unlock()
			if v == nil {
				return nil, err
			}
			return v, nil
		}
		f := n.current
		if f == nil {
			if err := n.ctx.Err(); err != nil {
				n.mu.Unlock()
				return nil, fmt.Errorf("collect: %w", err)
			}
			now := time.Now()
			if rest := n.rest.Sub(now); afresh && rest > 0 {
				n.mu.Unlock()
				select {
				case <-time.After(rest):
					continue
				case <-ctx.Done():
					return nil, fmt.Errorf("wait for the collector: %w", ctx.Err())
				}
			}
			f = &flight{began: now, notBefore: notBefore, afresh: afresh, done: make(chan struct{})}
			if afresh {
				f.notBefore = now // which is new enough for all who wait
			}
			n.current = f
			n.flying.Go(func() { n.fly(f) })
		}
		// One that was asked for older state is waited for all the same: two at once
		// would only slow each other down.
		joined = !f.notBefore.Before(notBefore)
		n.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the collector: %w", ctx.Err())
		}
	}
}

func (n *network) fly(f *flight) {
	ctx, cancel := context.WithTimeout(n.ctx, collectTimeout)
	defer cancel()
	v, err := n.read(ctx, f)
	n.mu.Lock()
	if err == nil {
		n.latest = v
	}
	changed := (err == nil) != (n.lastErr == nil)
	n.lastErr = err
	n.current = nil
	if f.afresh {
		took := time.Since(f.began)
		n.rest = f.began.Add(max(afreshInterval, took+min(took, afreshPause)))
	}
	n.mu.Unlock()
	close(f.done)
	switch {
	case err != nil && n.ctx.Err() == nil:
		n.log.Error("collecting failed", "err", err)
	case err == nil && changed:
		n.log.Info("collected", "namespaces", len(v.snapshot.Namespaces), "duration", time.Since(f.began))
	}
}

func (n *network) read(ctx context.Context, f *flight) (*view, error) {
	snapshot, err := n.collect(ctx, max(0, f.began.Sub(f.notBefore)))
	if err != nil {
		return nil, err
	}
	collected := time.Now()
	n.phases.WithLabelValues("collect").Observe(collected.Sub(f.began).Seconds())
	v := &view{network: n, snapshot: snapshot, oldest: oldest(snapshot), began: f.began}
	if !n.static && !n.fromAgents {
		// What was just read has times as a bundle stores them, of a clock that may be
		// set; it is as old as the collection at most.
		for node := range v.oldest {
			v.oldest[node] = f.began
		}
	}
	if n.fromAgents && snapshot.Taken.Before(f.began) {
		v.began = snapshot.Taken
	}
	if !n.judges {
		return v, nil
	}
	if v.world, err = n.compile(snapshot); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	n.phases.WithLabelValues("compile").Observe(time.Since(collected).Seconds())
	return v, nil
}

// compile compiles a snapshot with the help of the one before. A namespace whose
// rules cannot be understood becomes one of which nothing is known, and takes no
// other with it; in a bundle, which somebody has made, it is an error.
func (n *network) compile(snapshot *simulator.Snapshot) (*simulator.World, error) {
	var before *simulator.World
	if latest, _ := n.newest(); latest != nil {
		before = latest.world
	}
	for {
		world, err := simulator.Recompile(snapshot, before)
		var malformed *simulator.NamespaceError
		if n.static || !errors.As(err, &malformed) {
			return world, err
		}
		n.log.Error("rules of a network namespace cannot be understood", "namespace", malformed.Namespace, "err", malformed.Err)
		for i, ns := range snapshot.Namespaces {
			if ns.Name == malformed.Namespace {
				snapshot.Namespaces[i] = without(ns, netstack.Status{State: netstack.StateFailed, Detail: malformed.Error()})
			}
		}
	}
}

// snapshot implements snapshot.Source.
func (n *network) snapshot(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, time.Time, error) {
	v, err := n.view(ctx, time.Now().Add(-maxAge))
	if err != nil {
		return nil, time.Time{}, err
	}
	return v.snapshot, v.began, nil
}

// newest returns the latest view without collecting, or nil, with the error of
// the last collection.
func (n *network) newest() (*view, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latest, n.lastErr
}

// keep collects until ctx ends, so often that state never becomes stale while
// collecting works, also if no schedule asks for it.
func (n *network) keep(ctx context.Context) {
	const retry, atMost = 5 * time.Second, time.Minute
	for {
		wait := min(time.Duration(n.maxAge.Load())/2, atMost)
		v, err := n.view(ctx, time.Now().Add(-wait))
		switch {
		case n.static && err == nil:
			return
		case err != nil || time.Since(v.began) > wait:
			wait = retry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// view is a compiled snapshot. It implements schedules.View.
type view struct {
	network  *network
	snapshot *simulator.Snapshot
	world    *simulator.World
	oldest   map[string]time.Time // of each node
	began    time.Time            // of collecting, by this process' clock
}

func (v *view) Taken() time.Time { return v.began }

// rememberedNames is how long bundles have an answer of a name server.
const rememberedNames = 10 * time.Minute

// recorded is the snapshot with what name servers have said of late: it is diagnosed alike.
func (v *view) recorded() *simulator.Snapshot {
	known := v.network.names.Known(time.Now().Add(-rememberedNames))
	if len(known) == 0 {
		return v.snapshot
	}
	copied := *v.snapshot
	copied.Names = append(slices.Clone(copied.Names), known...)
	return &copied
}

func (v *view) Pods() ([]corev1.Pod, error) {
	if why := v.snapshot.Cluster.Missing["pods"]; why != "" {
		return nil, fmt.Errorf("what there is of the cluster's pods is not known: %s", why)
	}
	return v.snapshot.Cluster.Pods, nil
}

// Diagnose answers from the view's state, and what name servers say where the query is
// for a name. It says how old the state is; what is too old decides nothing.
func (v *view) Diagnose(ctx context.Context, q verdict.Query) (*verdict.Report, error) {
	return v.diagnose(q, func() (*verdict.Report, error) { return v.network.names.Diagnose(ctx, v.world, q) })
}

// AsksNames implements schedules.View.
func (v *view) AsksNames(q *verdict.Query) bool { return v.world.AsksNames(q) }

// Recall is Diagnose that asks no name server: what they have said of late is all that it
// knows.
func (v *view) Recall(q verdict.Query) (*verdict.Report, error) {
	return v.diagnose(q, func() (*verdict.Report, error) { return v.network.names.Recall(v.world, q) })
}

// Resolve implements confirm.Subject.
func (v *view) Resolve(ctx context.Context, q *verdict.Query) ([]netip.Addr, string, error) {
	if v.network.static {
		return nil, "", errBundle
	}
	return v.network.names.Resolve(ctx, v.world, q)
}

func (v *view) diagnose(q verdict.Query, answer func() (*verdict.Report, error)) (*verdict.Report, error) {
	began := time.Now()
	report, err := answer()
	if err != nil {
		return nil, err
	}
	if report.Resolution == nil { // which may have had to wait for answers
		v.network.phases.WithLabelValues("simulate").Observe(time.Since(began).Seconds())
	}
	report.ID = q.ID
	report.Snapshot.Taken = report.Snapshot.Taken.UTC()
	report.Snapshot.AgeSeconds = v.ages(began)
	if current := v.snapshot.Cluster.Current; !current.IsZero() {
		age := math.Max(0, began.Sub(current).Seconds())
		report.Snapshot.ClusterAgeSeconds = &age
	}
	if taken := v.snapshot.CloudTaken; !taken.IsZero() {
		age := math.Max(0, began.Sub(taken).Seconds())
		report.Snapshot.CloudAgeSeconds = &age
	}
	v.distrustIfStale(report)
	return report, nil
}

// oldest returns, for each node, when its oldest namespace was taken.
func oldest(snapshot *simulator.Snapshot) map[string]time.Time {
	oldest := make(map[string]time.Time)
	for _, ns := range snapshot.Namespaces {
		taken := snapshot.TakenAt(ns)
		if taken.IsZero() {
			continue // a bundle made by hand may not say
		}
		if at, ok := oldest[ns.Node]; !ok || taken.Before(at) {
			oldest[ns.Node] = taken
		}
	}
	if len(oldest) > 1 {
		delete(oldest, "") // namespaces that are nobody's, beside nodes
	}
	return oldest
}

// ages returns, for each node, the age of its oldest namespace in seconds.
func (v *view) ages(now time.Time) map[string]float64 {
	ages := make(map[string]float64, len(v.oldest))
	for node, taken := range v.oldest {
		ages[node] = math.Max(0, now.Sub(taken).Seconds())
	}
	return ages
}

// distrustIfStale makes unknown what leads through nodes whose state is too old.
func (v *view) distrustIfStale(report *verdict.Report) {
	if v.network.static {
		return // someone who reads a bundle wants to know what was
	}
	limit := time.Duration(v.network.maxAge.Load())
	var findings []verdict.Finding
	for _, node := range slices.Sorted(maps.Keys(report.Snapshot.AgeSeconds)) {
		age := report.Snapshot.AgeSeconds[node]
		if age <= limit.Seconds() || !distrust(report, node) {
			continue
		}
		findings = append(findings, verdict.NewFindingf(verdict.SnapshotStale, verdict.Where{Node: node}, nil,
			"the state of %s is %s old, more than %s", nodeName(node), time.Duration(age*float64(time.Second)).Round(time.Second), limit))
	}
	unknown := false
	if age := report.Snapshot.ClusterAgeSeconds; age != nil && *age > limit.Seconds() {
		unknown = true // what the objects say may matter anywhere
		findings = append(findings, verdict.NewFindingf(verdict.SnapshotStale, verdict.Where{}, nil,
			"the state of the cluster's objects is %s old, more than %s", time.Duration(*age*float64(time.Second)).Round(time.Second), limit))
	}
	if len(findings) == 0 {
		return
	}
	if report.Verdict = simulator.Join(report.Paths); unknown {
		report.Verdict = verdict.Unknown
	}
	report.Reasons = append(findings, report.Reasons...)
}

// distrust makes the paths unknown that lead through a node, and says whether
// there are any.
func distrust(report *verdict.Report, node string) bool {
	some := false
	for i := range report.Paths {
		p := &report.Paths[i]
		through := func(hop verdict.Hop) bool { return hop.Node == node }
		if slices.ContainsFunc(p.Hops, through) || slices.ContainsFunc(p.Reverse, through) {
			p.Verdict, some = verdict.Unknown, true
		}
	}
	return some
}

func nodeName(node string) string {
	if node == "" {
		return "this host"
	}
	return "node " + node
}
