package alibaba

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a Reader. It implements prometheus.Collector.
type Metrics struct {
	reader *Reader

	mu       sync.Mutex
	calls    map[string]float64    // by action
	failures map[[2]string]float64 // by action and code

	callsDesc, failuresDesc, ageDesc *prometheus.Desc
}

func newMetrics() *Metrics {
	m := &Metrics{
		calls: map[string]float64{}, failures: map[[2]string]float64{},
		callsDesc: prometheus.NewDesc("plumbline_cloud_calls_total",
			"Requests to the cloud's API, by action.", []string{"action"}, nil),
		failuresDesc: prometheus.NewDesc("plumbline_cloud_call_failures_total",
			"Requests to the cloud's API that failed, by action and by the code of the answer.", []string{"action", "code"}, nil),
		ageDesc: prometheus.NewDesc("plumbline_cloud_facts_age_seconds",
			"Age of the oldest facts that the action told and that diagnoses use, in seconds.", []string{"action"}, nil),
	}
	for _, a := range actions() {
		m.calls[a.name] = 0
	}
	return m
}

// maxCodes bounds the series of codes, which the API invents.
const maxCodes = 200

// called counts a request, if one was sent, and with which code it failed, if it did.
func (m *Metrics) called(action string, failed *APIError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if failed == nil || !failed.unsent {
		m.calls[action]++
	}
	if failed == nil {
		return
	}
	key := [2]string{action, failed.Code}
	if _, known := m.failures[key]; !known && len(m.failures) >= maxCodes {
		key[1] = "other"
	}
	m.failures[key]++
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.callsDesc
	ch <- m.failuresDesc
	ch <- m.ageDesc
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for name, age := range m.reader.ages() {
		ch <- prometheus.MustNewConstMetric(m.ageDesc, prometheus.GaugeValue, age, name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range m.calls {
		ch <- prometheus.MustNewConstMetric(m.callsDesc, prometheus.CounterValue, n, name)
	}
	for key, n := range m.failures {
		ch <- prometheus.MustNewConstMetric(m.failuresDesc, prometheus.CounterValue, n, key[0], key[1])
	}
}
