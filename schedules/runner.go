package schedules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// maxPaths bounds what one schedule may expand to. A selector on both ends
// squares, and a run must end before the next begins.
const maxPaths = 10_000

// View is the network at one instant.
type View interface {
	// Taken is when collecting it began.
	Taken() time.Time
	// Pods fails if it is not known which there are, and then returns none.
	Pods() ([]corev1.Pod, error)
	// Diagnose fails only for a malformed query. It may ask name servers.
	Diagnose(ctx context.Context, q verdict.Query) (*verdict.Report, error)
	// AsksNames says whether it may ask them about the destination.
	AsksNames(q *verdict.Query) bool
}

// Source hands out views.
type Source interface {
	// View returns one that was taken at or after notBefore, collecting if need
	// be. Callers at the same time share one collection. If collecting fails,
	// the latest older view is returned; it is an error only if there is none.
	View(ctx context.Context, notBefore time.Time) (View, error)
}

// Options are what a Runner works with.
type Options struct {
	Source Source
	Log    *slog.Logger
	// Confirm adds to a report, which the view made, what a real probe sees, for
	// schedules that want it. The report that it returns may be of a later view. Its
	// error is the context's. Nil if there are no real probes.
	Confirm func(context.Context, View, *verdict.Report) (*verdict.Report, error)
	// Published, if not nil, is called with every report that is published.
	Published func(*verdict.Report)
	// Leads, if not nil, says whether this runner may run schedules at this moment,
	// and nobody else. A run in which it may not any more publishes nothing.
	Leads func() bool
}

// errNotLeading ends a run that is somebody else's by now.
var errNotLeading = errors.New("another controller leads")

// Runner diagnoses the paths of schedules when they are due. All of its methods
// may be called concurrently.
type Runner struct {
	options Options
	records *records

	ctx    context.Context // ends with Close; runs and their collecting hang on it
	cancel context.CancelFunc
	runs   sync.WaitGroup // and what waits until they are due

	mu        sync.Mutex
	config    *Config
	schedules map[string]*schedule
	closed    bool
}

// schedule is a configured schedule with what its runs left behind. Runner.mu
// guards it.
type schedule struct {
	Schedule
	jitter float64
	ctx    context.Context // ends when the schedule is removed or replaced
	cancel context.CancelFunc

	next         time.Time // when it is due
	running      bool
	missed       uint64
	lastRun      time.Time
	lastError    string
	failures     map[verdict.Code]*failures
	paths        map[string]*pathState
	cappedLogged bool
}

// failures counts the runs that failed for one reason. The run that sees the
// reason first only makes the series, with the value 0; the next run counts it:
// a counter that appears with the value 1 has not increased, as far as
// Prometheus is concerned.
type failures struct {
	count, pending uint64
}

type pathState struct {
	query    verdict.Query
	observed *verdict.Observed // by the last run
	record   *Record
	failures uint64
	backends Backends
	history  []Change
}

// New starts a runner with no schedules. Close it when done.
func New(options Options) *Runner {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{
		options:   options,
		records:   newRecords(time.Now()),
		ctx:       ctx,
		cancel:    cancel,
		config:    Default(),
		schedules: make(map[string]*schedule),
	}
	r.records.resize(r.config.History)
	return r
}

// Close ends all runs and waits for them.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.runs.Wait()
}

// Apply makes c the configuration. Schedules that are the same as before go on
// undisturbed and keep what they counted; a new or changed one starts from
// nothing, and with a run at once.
func (r *Runner) Apply(c *Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.config = c
	r.records.resize(c.History)
	wanted := make(map[string]bool)
	for _, s := range c.Schedules {
		wanted[s.Name] = true
		old := r.schedules[s.Name]
		if old != nil && old.Equal(s) && old.jitter == c.Jitter {
			continue
		}
		if old != nil {
			r.remove(old)
		}
		r.add(s, c.Jitter)
	}
	for name, s := range r.schedules {
		if !wanted[name] {
			r.remove(s)
		}
	}
}

func (r *Runner) add(config Schedule, jitter float64) {
	timing, err := parseCron(config.Cron)
	if err != nil {
		// Parse let it pass, so this is a configuration made by hand.
		r.options.Log.Error("schedule is not run", "schedule", config.Name, "cron", config.Cron, "err", err)
		return
	}
	s := &schedule{
		Schedule: config,
		jitter:   jitter,
		failures: make(map[verdict.Code]*failures),
		paths:    make(map[string]*pathState),
	}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	a := newAlarm(jittered(config.Name, timing, jitter), time.Now())
	s.next = a.next
	r.schedules[config.Name] = s
	r.runs.Go(func() { r.follow(s, a) })
}

// follow runs a schedule at once, and then whenever it is due, until it is removed.
func (r *Runner) follow(s *schedule, a *alarm) {
	run := func() { r.run(s) }
	r.runs.Go(run)
	timer := time.NewTimer(a.wait())
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		}
		if a.rings(time.Now()) {
			r.runs.Go(run)
		}
		r.mu.Lock()
		s.next = a.next
		r.mu.Unlock()
		timer.Reset(a.wait())
	}
}

func (r *Runner) remove(s *schedule) {
	s.cancel()
	for _, p := range s.paths {
		r.records.close(p.record)
	}
	delete(r.schedules, s.Name)
}

// run is one run of a schedule, or none if the previous one is not over.
func (r *Runner) run(s *schedule) {
	if !r.leads() {
		return
	}
	r.mu.Lock()
	if s.running {
		s.missed++
		r.mu.Unlock()
		r.options.Log.Warn("run missed: the previous one is still going on", "schedule", s.Name)
		return
	}
	s.running = true
	config := r.config
	before := make(map[string]verdict.Verdict, len(s.paths))
	for name, p := range s.paths {
		before[name] = p.record.Verdict
	}
	r.mu.Unlock()

	results, err := r.diagnose(s, config, before)
	for i := range results { // not while others wait for the lock: ten thousand take seconds
		results[i].packed = r.records.pack(results[i].report)
	}

	r.mu.Lock()
	s.running = false
	current := s.ctx.Err() == nil && r.leads() && !errors.Is(err, errNotLeading)
	if current {
		r.publish(s, config, results, err)
	}
	r.mu.Unlock()
	if !current {
		return
	}
	if err != nil {
		r.options.Log.Error("schedule cannot be diagnosed", "schedule", s.Name, "err", err)
	}
	if r.options.Published != nil {
		for _, result := range results {
			r.options.Published(result.report)
		}
	}
}

func (r *Runner) leads() bool { return r.options.Leads == nil || r.options.Leads() }

type result struct {
	query  verdict.Query
	report *verdict.Report
	view   View   // that made it; nil if none did
	packed []byte // the report as it is kept: see records.pack
}

// diagnose makes the reports of one run. A schedule that cannot be expanded
// yields one unknown path in its own words, so that it shows and alerts.
func (r *Runner) diagnose(s *schedule, config *Config, before map[string]verdict.Verdict) ([]result, error) {
	view, err := r.options.Source.View(s.ctx, time.Now().Add(-config.Collector.MaxAge))
	if err != nil {
		return []result{s.undecided(verdict.SnapshotMissing, "no state has been collected yet: "+err.Error())}, err
	}
	pods, unknown := view.Pods()
	queries, fault := s.expand(pods)
	if fault != nil && unknown != nil {
		return []result{s.undecided(verdict.EndpointUnresolved, unknown.Error())}, unknown
	}
	if fault != nil {
		return []result{*fault}, errors.New(fault.report.Reasons[0].Message)
	}
	results := make([]result, len(queries))
	atOnce := 1
	if slices.ContainsFunc(queries, func(q verdict.Query) bool { return view.AsksNames(&q) }) {
		atOnce = diagnosesAtOnce(config)
	}
	err = r.forEach(s.ctx, len(queries), atOnce, func(ctx context.Context, i int) error {
		report, err := view.Diagnose(ctx, queries[i])
		results[i] = result{query: queries[i], report: report, view: view}
		return err
	})
	switch {
	case s.ctx.Err() != nil || errors.Is(err, errNotLeading):
		return nil, err
	case err != nil:
		return []result{s.undecided(verdict.EndpointUnresolved, err.Error())}, err
	}
	var doubtful []int
	for i := range results {
		if v := results[i].report.Verdict; failing(v) && before[PathLabel(queries[i])] != v {
			doubtful = append(doubtful, i)
		}
	}
	if err := r.lookAgain(s.ctx, view, results, doubtful, atOnce); err != nil {
		return nil, err
	}
	if s.Query.Confirm && r.options.Confirm != nil {
		err := r.forEach(s.ctx, len(results), probesAtOnce, func(ctx context.Context, i int) (err error) {
			results[i].report, err = r.options.Confirm(ctx, results[i].view, results[i].report)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// probesAtOnce is how many paths of a schedule are waited for at the same time.
const probesAtOnce = 16

// diagnosesAtOnce is how many paths to names are diagnosed at the same time; of others it is one. A name
// server that is silent takes seconds of each path. They wait for one another by no more than a
// quarter of a second before each question: the time for all questions of a path is bounded.
func diagnosesAtOnce(config *Config) int {
	return min(max(config.Confirm.PerSecond/4, 1), probesAtOnce)
}

// forEach does something for each of n paths, for so many at once, until one fails.
func (r *Runner) forEach(ctx context.Context, n, atOnce int, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !r.leads() {
				return errNotLeading
			}
			return do(ctx, i)
		})
	}
	return group.Wait()
}

// lookAgain diagnoses again, from state collected anew, what just began to fail:
// namespaces are not read at one instant, and what looks like a fault may be a
// change that was seen half. The second answer stands. If nothing newer can be
// had (a failing collector, a bundle), the first does.
func (r *Runner) lookAgain(ctx context.Context, view View, results []result, doubtful []int, atOnce int) error {
	if len(doubtful) == 0 {
		return nil
	}
	again, err := r.options.Source.View(ctx, time.Now())
	if err != nil || !again.Taken().After(view.Taken()) {
		return ctx.Err()
	}
	return r.forEach(ctx, len(doubtful), atOnce, func(ctx context.Context, n int) error {
		result := &results[doubtful[n]]
		report, err := again.Diagnose(ctx, result.query)
		if err == nil {
			result.report, result.view = report, again
		}
		return err
	})
}

func failing(v verdict.Verdict) bool { return v == verdict.Unreachable || v == verdict.Degraded }

// expand makes the queries that the schedule stands for now.
func (s *schedule) expand(pods []corev1.Pod) ([]verdict.Query, *result) {
	sources, destinations := s.From.expand(pods), s.To.expand(pods)
	fault := func(code verdict.Code, format string, args ...any) *result {
		f := s.undecided(code, fmt.Sprintf(format, args...))
		return &f
	}
	switch {
	case len(sources) == 0:
		return nil, fault(verdict.EndpointUnresolved, "no running pod matches %s", s.From)
	case len(destinations) == 0:
		return nil, fault(verdict.EndpointUnresolved, "no running pod matches %s", s.To)
	case len(sources)*len(destinations) > maxPaths:
		return nil, fault(verdict.TooManyBranches, "%s and %s make %d paths; a schedule may have %d",
			s.From, s.To, len(sources)*len(destinations), maxPaths)
	}
	queries := make([]verdict.Query, 0, len(sources)*len(destinations))
	for _, from := range sources {
		for _, to := range destinations {
			// What a pod says to itself is of no interest among a set of pods,
			// but someone who names one pod twice means it.
			if from == to && (len(sources) > 1 || len(destinations) > 1) {
				continue
			}
			q := s.Query
			q.From, q.To = from, to
			queries = append(queries, q)
		}
	}
	return queries, nil
}

// undecided is the report of a schedule that could not be diagnosed.
func (s *schedule) undecided(code verdict.Code, message string) result {
	q := s.Query
	q.From, q.To = s.From.String(), s.To.String()
	return result{query: q, report: &verdict.Report{
		Query:       q,
		Verdict:     verdict.Unknown,
		Reasons:     []verdict.Finding{verdict.NewFindingf(code, verdict.Where{}, nil, "%s", message)},
		Paths:       []verdict.Path{},
		Policy:      verdict.Policy{Verdict: verdict.PolicyNone, Policies: []string{}},
		Assumptions: []string{},
		Snapshot:    verdict.SnapshotInfo{AgeSeconds: map[string]float64{}},
	}}
}

// publish makes the results of a run what Status and Reports show.
func (r *Runner) publish(s *schedule, config *Config, results []result, failure error) {
	now := time.Now()
	s.lastRun = now
	s.lastError = ""
	if failure != nil {
		s.lastError = failure.Error()
	}
	for _, f := range s.failures {
		f.count += f.pending
		f.pending = 0
	}
	seen := make(map[verdict.Code]bool)
	present := make(map[string]bool, len(results))
	for _, result := range results {
		for _, code := range FailureCodes(result.report, verdict.SeverityFatal, verdict.SeverityPartial) {
			seen[code] = true
		}
		name := PathLabel(result.query)
		present[name] = true
		p := s.paths[name]
		if p == nil {
			p = &pathState{}
			s.paths[name] = p
		}
		r.update(s.Name, name, p, result, now)
	}
	for code := range seen {
		if f := s.failures[code]; f != nil {
			f.count++
		} else {
			s.failures[code] = &failures{pending: 1}
		}
	}
	for name, p := range s.paths {
		if !present[name] {
			r.records.close(p.record)
			delete(s.paths, name)
		}
	}
	capped := len(s.paths) > config.MaxPathSeries
	if capped && !s.cappedLogged {
		r.options.Log.Warn("schedule has more paths than maxPathSeries: only its schedule-level metrics are exported",
			"schedule", s.Name, "paths", len(s.paths), "maxPathSeries", config.MaxPathSeries)
	}
	s.cappedLogged = s.cappedLogged || capped
}

func (r *Runner) update(schedule, name string, p *pathState, result result, now time.Time) {
	record, changed := r.records.add(p.record, schedule, name, result, now)
	p.query = result.query
	p.observed = result.report.Observed
	p.record = record
	p.backends = countBackends(result.report)
	if failing(record.Verdict) {
		p.failures++
	}
	if !changed {
		return
	}
	if len(p.history) > 0 {
		level := slog.LevelInfo
		if failing(record.Verdict) {
			level = slog.LevelWarn
		}
		r.options.Log.Log(context.Background(), level, "verdict changed", "schedule", schedule, "path", name,
			"verdict", record.Verdict, "reason", record.Reason, "was", p.history[0].Verdict, "message", record.Message)
	}
	p.history = slices.Insert(p.history, 0, Change{Verdict: record.Verdict, Reason: record.Reason, Since: record.Since, Report: record.ID})
	p.history = p.history[:min(len(p.history), maxChanges)]
}

// FailureCodes returns the codes of these severities among a report's reasons,
// each once.
func FailureCodes(report *verdict.Report, severities ...verdict.Severity) []verdict.Code {
	var codes []verdict.Code
	for _, f := range report.Reasons {
		if slices.Contains(severities, f.Severity) && !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

func countBackends(report *verdict.Report) Backends {
	var b Backends
	for _, p := range report.Paths {
		switch p.Verdict {
		case verdict.Reachable:
			b.OK++
		case verdict.Unreachable, verdict.Degraded:
			b.Failing++
		default:
			b.Unknown++
		}
	}
	return b
}

// Reports returns the records that f selects, latest change first.
func (r *Runner) Reports(f Filter) []Record { return r.records.list(f) }

// Report returns the latest report of the record with this id.
func (r *Runner) Report(id string) (*verdict.Report, bool) { return r.records.report(id) }

// Status returns the state of every schedule, sorted by name.
func (r *Runner) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Status, 0, len(r.schedules))
	for _, name := range slices.Sorted(maps.Keys(r.schedules)) {
		all = append(all, r.status(r.schedules[name]))
	}
	return all
}
