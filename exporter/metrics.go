package exporter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// metrics are those that the daemon counts itself. What has its state
// elsewhere, as schedules and views have, is read when it is scraped.
type metrics struct {
	phases         *prometheus.HistogramVec
	failures       *prometheus.CounterVec
	agreement      *prometheus.CounterVec
	reloadSuccess  prometheus.Gauge
	reloadSeconds  prometheus.Gauge
	registry       *prometheus.Registry
	failureReasons map[verdict.Code]prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "plumbline_diagnosis_duration_seconds",
			Help:                            "Time that each phase of a diagnosis took, in seconds: collect and compile once for each collection, simulate once for each path, probe once for each real probe.",
			Buckets:                         []float64{.00001, .0001, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"phase"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "plumbline_diagnosis_failures_total",
			Help: "Published diagnoses, scheduled or on demand, that gave this reason for not being reachable: fatal, partial or undecided.",
		}, []string{"reason"}),
		agreement: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "plumbline_agreement_total",
			Help: "Published reports with a real probe, by the outcome that was simulated and the one that was observed.",
		}, []string{"simulated", "observed"}),
		reloadSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "plumbline_config_last_reload_successful",
			Help: "Whether the last attempt to load the configuration succeeded (1), or the one before it still runs (0).",
		}),
		reloadSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "plumbline_config_last_reload_timestamp_seconds",
			Help: "Unix time at which the configuration that runs was loaded, in seconds.",
		}),
		registry:       prometheus.NewRegistry(),
		failureReasons: make(map[verdict.Code]prometheus.Counter),
	}
	for _, phase := range []string{"collect", "compile", "simulate", "probe"} {
		m.phases.WithLabelValues(phase)
	}
	for _, reason := range verdict.Catalogue() {
		m.failureReasons[reason.Code] = m.failures.WithLabelValues(string(reason.Code))
	}
	m.registry.MustRegister(m.phases, m.failures, m.agreement, m.reloadSuccess, m.reloadSeconds,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		version.NewCollector("plumbline"))
	return m
}

// published counts the reasons of a report that someone gets to see, and how a real
// probe agrees with it.
func (m *metrics) published(report *verdict.Report) {
	if o := report.Observed; o != nil {
		m.agreement.WithLabelValues(string(confirm.Simulated(report)), string(o.Outcome)).Inc()
	}
	for _, code := range schedules.FailureCodes(report, verdict.SeverityFatal, verdict.SeverityPartial, verdict.SeverityUndecided) {
		if counter := m.failureReasons[code]; counter != nil {
			counter.Inc()
		}
	}
}

func (m *metrics) reloaded(ok bool, now time.Time) {
	if !ok {
		m.reloadSuccess.Set(0)
		return
	}
	m.reloadSuccess.Set(1)
	m.reloadSeconds.Set(float64(now.UnixNano()) / 1e9)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("plumbline_"+name, help, labels, nil)
}

// scheduleMetrics exports the state of schedules as it is: what a schedule or
// path has left behind vanishes with it.
type scheduleMetrics struct {
	status func() []schedules.Status

	paths, failures, lastRun, missed            *prometheus.Desc
	verdict, met, pathFailures, backends, facts *prometheus.Desc
}

func newScheduleMetrics(status func() []schedules.Status) *scheduleMetrics {
	return &scheduleMetrics{
		status: status,
		paths: desc("schedule_paths",
			"Paths of the schedule by the verdict of its last run.", "schedule", "verdict"),
		failures: desc("schedule_failures_total",
			"Runs of the schedule in which this fatal or partial reason occurred; a reason starts at 0 with the run that sees it first, which the next run counts.",
			"schedule", "reason"),
		lastRun: desc("schedule_last_run_timestamp_seconds",
			"Unix time at which the schedule's last run ended, in seconds.", "schedule"),
		missed: desc("schedule_missed_runs_total",
			"Runs of the schedule that were left out because the previous one was still going on.", "schedule"),
		verdict: desc("path_verdict",
			"Whether this is the present verdict of the path (1) or not (0).", "schedule", "path", "verdict"),
		met: desc("path_expectation_met",
			"Whether the present verdict is what the schedule expects (1); 0 also when it is unknown.", "schedule", "path"),
		pathFailures: desc("path_failures_total",
			"Runs that found the path unreachable or degraded.", "schedule", "path"),
		backends: desc("path_backends",
			"Ways that the path can take, such as the backends of a service, by what becomes of a packet there.", "schedule", "path", "state"),
		facts: desc("path_info",
			"What the path's label consists of; the value is always 1.", "schedule", "path", "source", "destination", "port", "protocol"),
	}
}

// Describe implements prometheus.Collector.
func (m *scheduleMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.paths, m.failures, m.lastRun, m.missed, m.verdict, m.met, m.pathFailures, m.backends, m.facts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *scheduleMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, s := range m.status() {
		for _, v := range verdict.Verdicts() {
			gauge(m.paths, float64(s.Verdicts[v]), s.Name, string(v))
		}
		for code, count := range s.Failures {
			counter(m.failures, count, s.Name, string(code))
		}
		if s.LastRun != nil {
			gauge(m.lastRun, float64(s.LastRun.UnixNano())/1e9, s.Name)
		}
		counter(m.missed, s.Missed, s.Name)
		if s.Capped {
			continue
		}
		for _, p := range s.Paths {
			for _, v := range verdict.Verdicts() {
				gauge(m.verdict, truth(p.Verdict == v), s.Name, p.Path, string(v))
			}
			if p.ExpectationMet != nil {
				gauge(m.met, truth(*p.ExpectationMet), s.Name, p.Path)
			}
			counter(m.pathFailures, p.Failures, s.Name, p.Path)
			gauge(m.backends, float64(p.Backends.OK), s.Name, p.Path, "ok")
			gauge(m.backends, float64(p.Backends.Failing), s.Name, p.Path, "failing")
			gauge(m.backends, float64(p.Backends.Unknown), s.Name, p.Path, "unknown")
			gauge(m.facts, 1, s.Name, p.Path, p.Source, p.Destination, portText(p.Port), string(p.Protocol))
		}
	}
}

// ageMetrics exports how old the latest view is.
type ageMetrics struct {
	network *network
	age     *prometheus.Desc
}

func newAgeMetrics(n *network) *ageMetrics {
	return &ageMetrics{n, desc("snapshot_age_seconds",
		"Age of the oldest part of the node's state that diagnoses use, in seconds; no series before the first collection.", "node")}
}

// Describe implements prometheus.Collector.
func (m *ageMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.age }

// Collect implements prometheus.Collector.
func (m *ageMetrics) Collect(ch chan<- prometheus.Metric) {
	latest, _ := m.network.newest()
	if latest == nil {
		return
	}
	for node, age := range latest.ages(time.Now()) {
		ch <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, age, node)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
