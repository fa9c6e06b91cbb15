package exporter

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
)

// live collects this host with a collector that a reload may replace. It
// exports the collector's metrics.
type live struct {
	log     *slog.Logger
	node    string
	cluster *clusterWatch // nil without an API server

	mu        sync.Mutex
	config    schedules.Collector
	collector *collector.Collector
}

func newLive(config *schedules.Config, cluster *clusterWatch, log *slog.Logger) *live {
	l := &live{log: log, node: config.Node, cluster: cluster}
	l.replace(config.Collector)
	return l
}

func (l *live) replace(config schedules.Collector) {
	l.config = config
	options := collector.Options{Namespaces: config.Namespaces, ManifestDir: config.Manifests, Node: l.node, Logger: l.log}
	if l.cluster != nil {
		options.Cluster = l.cluster.objects
	}
	l.collector = collector.New(options)
}

// configure makes later collections follow config. A collector that has
// nothing to change is kept, with what it remembers.
func (l *live) configure(config schedules.Collector) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.config.Manifests != config.Manifests || !slices.Equal(l.config.Namespaces, config.Namespaces) {
		l.replace(config)
	}
}

func (l *live) current() *collector.Collector {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.collector
}

func (l *live) collect(ctx context.Context, _ time.Duration) (*simulator.Snapshot, error) {
	return l.current().Collect(ctx)
}

// inside runs fn in a network namespace that was collected.
func (l *live) inside(namespace string, fn func() error) error {
	return l.current().Inside(namespace, fn)
}

// Describe implements prometheus.Collector.
func (l *live) Describe(ch chan<- *prometheus.Desc) {
	collector.NewMetrics(l.current()).Describe(ch)
	l.cluster.describe(ch)
}

// Collect implements prometheus.Collector.
func (l *live) Collect(ch chan<- prometheus.Metric) {
	collector.NewMetrics(l.current()).Collect(ch)
	l.cluster.collect(ch)
}
