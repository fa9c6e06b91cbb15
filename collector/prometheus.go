package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	successDesc = prometheus.NewDesc("plumbline_collector_success",
		"Whether a collector read its part of all network namespaces in the last run (1), or failed on some (0).",
		[]string{"collector"}, nil)
	durationDesc = prometheus.NewDesc("plumbline_collector_duration_seconds",
		"Time that a collector took in the last run, summed over network namespaces.",
		[]string{"collector"}, nil)
)

var _ prometheus.Collector = (*Metrics)(nil)

// Metrics exports how the collectors did in the last run. It is apart from
// Collector because prometheus.Collector would take the name Collect.
type Metrics struct{ collector *Collector }

// NewMetrics returns the metrics of c. Before its first run there are none.
func NewMetrics(c *Collector) *Metrics { return &Metrics{c} }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- successDesc
	ch <- durationDesc
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	type sum struct {
		took   time.Duration
		failed bool
	}
	sums := make(map[string]sum)
	for _, r := range m.collector.Results() {
		s := sums[r.Collector]
		s.took += r.Duration
		s.failed = s.failed || r.Err != nil
		sums[r.Collector] = s
	}
	for name, s := range sums {
		Export(ch, name, s.took, !s.failed)
	}
}

// Export exports how a collector did whose name none of Results has. It must be
// exported together with Metrics, which describes it.
func Export(ch chan<- prometheus.Metric, name string, took time.Duration, ok bool) {
	success := 0.0
	if ok {
		success = 1
	}
	ch <- prometheus.MustNewConstMetric(successDesc, prometheus.GaugeValue, success, name)
	ch <- prometheus.MustNewConstMetric(durationDesc, prometheus.GaugeValue, took.Seconds(), name)
}
