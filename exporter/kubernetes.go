package exporter

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// apiPatience is how long the first collection waits for the API server. After
// that, what it has not told yet is not known.
const apiPatience = 10 * time.Second

// clusterWatch watches the API server of a cluster while the daemon runs.
type clusterWatch struct {
	watcher *kubernetes.Watcher

	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	deadline time.Time // until when objects waits
}

// newClusterWatch returns nil if the configuration has no API server. The agent of
// a node reads what is the node's: node is empty for all others.
func newClusterWatch(config schedules.Kubernetes, node string, log *slog.Logger) (*clusterWatch, error) {
	access := kubernetes.Access(config)
	if !access.Given() {
		return nil, nil
	}
	client, err := access.Config()
	if err != nil {
		return nil, err
	}
	w, err := kubernetes.New(client, kubernetes.Options{Log: log, Node: node})
	if err != nil {
		return nil, err
	}
	c := &clusterWatch{watcher: w, deadline: time.Now().Add(apiPatience)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(func() { w.Run(c.ctx) })
	return c, nil
}

// stop asks the watcher to end, and those who wait for it to go on.
func (c *clusterWatch) stop() {
	if c != nil {
		c.cancel()
	}
}

// close waits until the watcher has ended.
func (c *clusterWatch) close() {
	if c != nil {
		c.cancel()
		c.running.Wait()
	}
}

// objects are those known at present. What is missing is named in them.
func (c *clusterWatch) objects() (cluster.Objects, error) {
	ctx, cancel := context.WithDeadline(c.ctx, c.deadline)
	defer cancel()
	_ = c.watcher.Settle(ctx)
	return c.watcher.State().Objects, nil
}

// describe describes what collect exports, but for the metrics of collectors.
func (c *clusterWatch) describe(ch chan<- *prometheus.Desc) {
	if c != nil {
		kubernetes.NewMetrics(c.watcher).Describe(ch)
	}
}

// collect exports the watcher's metrics, and how the collector "kubernetes" does.
func (c *clusterWatch) collect(ch chan<- prometheus.Metric) {
	if c == nil {
		return
	}
	kubernetes.NewMetrics(c.watcher).Collect(ch)
	success, took := true, time.Duration(0)
	for _, s := range c.watcher.Status() {
		success = success && s.Missing == "" && !s.Failing
		took += s.Duration
	}
	collector.Export(ch, "kubernetes", took, success)
}
