package kubernetes

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is how reading one resource goes.
type Status struct {
	Resource string // as RBAC has it, with the group for those that not every cluster has
	// Current is the last moment at which what is known was what the API server
	// has; zero before the resource was first read.
	Current time.Time
	Objects int
	// Duration is the time that reading all of it took last.
	Duration time.Duration
	// Missing says why the objects are not known; empty if they are.
	Missing string
	// Failing says that the last request failed.
	Failing bool
}

// Status returns that of each resource that is read.
func (w *Watcher) Status() []Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[*resource]int{
		w.pods.resource: w.pods.len(), w.nodes.resource: w.nodes.len(), w.services.resource: w.services.len(),
		w.slices.resource: w.slices.len(), w.namespaces.resource: w.namespaces.len(), w.policies.resource: w.policies.len(),
	}
	for _, other := range w.others.sorted() {
		counts[other.resource] = other.len()
		counts[w.others.resource] += other.len()
	}
	now := time.Now()
	var list []Status
	for _, r := range w.resources() {
		if r.unwanted {
			continue
		}
		s := Status{Resource: r.name, Objects: counts[r], Duration: r.duration, Missing: r.missing(), Failing: r.err != nil}
		switch {
		case r.current:
			s.Current = now
		case r.read:
			s.Current = r.until
		}
		list = append(list, s)
	}
	return list
}

var (
	ageDesc = prometheus.NewDesc("plumbline_cluster_state_age_seconds",
		"Time since what is known of a resource was known to be what the API server has, in seconds: 0 while it is watched.", []string{"resource"}, nil)
	objectsDesc = prometheus.NewDesc("plumbline_cluster_objects",
		"Objects of a resource that are known.", []string{"resource"}, nil)
	knownDesc = prometheus.NewDesc("plumbline_cluster_resource_known",
		"Whether what there is of a resource is known (1), or diagnoses that depend on it are unknown (0).", []string{"resource"}, nil)
)

// Metrics exports how reading each resource goes.
type Metrics struct{ watcher *Watcher }

var _ prometheus.Collector = (*Metrics)(nil)

// NewMetrics returns the metrics of w.
func NewMetrics(w *Watcher) *Metrics { return &Metrics{w} }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ageDesc, objectsDesc, knownDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, s := range m.watcher.Status() {
		known := 0.0
		if s.Missing == "" {
			known = 1
		}
		ch <- prometheus.MustNewConstMetric(knownDesc, prometheus.GaugeValue, known, s.Resource)
		ch <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(s.Objects), s.Resource)
		if !s.Current.IsZero() {
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, max(0, now.Sub(s.Current).Seconds()), s.Resource)
		}
	}
}
