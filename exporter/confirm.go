package exporter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// confirmation sends real probes for reports, as the configuration bounds them.
type confirmation struct {
	network *network
	send    confirm.Sender
	limit   *rate.Limiter
	config  func() *schedules.Config
	phase   prometheus.Observer
}

func newConfirmation(n *network, send confirm.Sender, config func() *schedules.Config, m *metrics) *confirmation {
	c := &confirmation{
		network: n, send: send, limit: rate.NewLimiter(0, 0), config: config,
		phase: m.phases.WithLabelValues("probe"),
	}
	if !n.judges {
		return c
	}
	// A counter that appears with the value 1 has not increased, as far as Prometheus
	// is concerned.
	for _, simulated := range verdict.Outcomes() {
		for _, observed := range confirm.Outcomes() {
			m.agreement.WithLabelValues(string(simulated), string(observed))
		}
	}
	return c
}

// configure makes later probes follow config.
func (c *confirmation) configure(config schedules.Confirm) {
	c.limit.SetLimit(rate.Limit(config.PerSecond))
	c.limit.SetBurst(config.PerSecond)
}

// confirm adds to the report, which v made, what a real probe sees. If they
// disagree, the report is of a later view.
func (c *confirmation) confirm(ctx context.Context, v *view, report *verdict.Report, later laterView) (*verdict.Report, error) {
	confirmer := confirm.Confirmer{
		Send: c.send, Limit: c.limit, Timeout: c.config().Confirm.Timeout,
		Took: func(d time.Duration) { c.phase.Observe(d.Seconds()) },
	}
	return confirmer.Confirm(ctx, v, report, func(ctx context.Context) (confirm.Subject, error) { return c.again(ctx, later) })
}

// laterView is the view or afresh of a network.
type laterView func(ctx context.Context, notBefore time.Time) (*view, error)

// again is a view of what was collected after now. The error says why there is none.
func (c *confirmation) again(ctx context.Context, later laterView) (confirm.Subject, error) {
	asked := time.Now()
	fresh, err := later(ctx, asked)
	if err != nil {
		return nil, err
	}
	if !fresh.began.Before(asked) {
		return fresh, nil
	}
	if _, err := c.network.newest(); err != nil {
		return nil, err
	}
	return nil, errors.New("what was collected is older than the probe")
}

// ofRun is confirm for a run of a schedule.
func (c *confirmation) ofRun(ctx context.Context, v schedules.View, report *verdict.Report) (*verdict.Report, error) {
	return c.confirm(ctx, v.(*view), report, c.network.view) // which is all that the network hands out
}

var errBundle = errors.New("the state is that of a bundle")

// Start implements confirm.Subject.
func (v *view) Start(q *verdict.Query) (simulator.Start, error) {
	if v.network.static {
		return simulator.Start{}, errBundle
	}
	return v.world.Start(q)
}

// HostEvidence implements confirm.Subject.
func (v *view) HostEvidence(report *verdict.Report) []string { return v.world.HostEvidence(report) }

// insideOwn runs fn in a network namespace of an agent's node: one that it collected
// and that, as far as it knows the objects of the cluster, is a pod's or the node's.
func (d *Daemon) insideOwn(namespace string, fn func() error) error {
	latest, _ := d.network.newest()
	if latest == nil {
		return errors.New("nothing was collected yet")
	}
	objects := &latest.snapshot.Cluster
	for _, ns := range latest.snapshot.Namespaces {
		if ns.Name == namespace && ns.Kind == netstack.KindOther && len(objects.Pods)+len(objects.Nodes) > 0 {
			return fmt.Errorf("%s is neither a pod's nor the node's", namespace)
		}
	}
	return d.live.inside(namespace, fn)
}
