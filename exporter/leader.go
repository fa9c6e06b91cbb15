package exporter

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/schedules"
)

// leadership is whether a controller may run schedules. Without an election it
// always may.
type leadership struct {
	election *kubernetes.Election // nil without one
	gained   atomic.Bool          // as far as the election has told
	leader   prometheus.GaugeFunc
}

// newLeadership takes part in an election if the configuration has one; changed is
// called when the outcome has.
func (d *Daemon) newLeadership(config *schedules.Config) (*leadership, error) {
	l := &leadership{}
	if lease := config.Controller.Lease; d.options.Role == RoleController && lease != (schedules.Lease{}) {
		access, err := kubernetes.Access(config.Kubernetes).Config()
		if err != nil {
			return nil, err
		}
		hostname, _ := os.Hostname()
		l.election, err = kubernetes.NewElection(access, kubernetes.ElectionOptions{
			Namespace: lease.Namespace, Name: lease.Name, Duration: lease.Duration, Log: d.log,
			// Two processes on one host are two candidates.
			Identity: fmt.Sprintf("%s_%s", hostname, rand.Text()[:8]),
			Agents:   d.fleet.agents, Tell: d.fleet.tell, Bound: func() time.Duration { return d.config.Load().SnapshotMaxAge },
			Gained: func() { d.lead(true) }, Lost: func() { d.lead(false) },
		})
		if err != nil {
			return nil, err
		}
	}
	l.leader = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "plumbline_leader",
		Help: "Whether this daemon runs schedules (1), or another controller does, or nobody (0).",
	}, func() float64 { return truth(l.leads()) })
	return l, nil
}

// leads says whether schedules may run at this moment.
func (l *leadership) leads() bool { return l.election == nil || l.election.Leads() }

// run competes until ctx ends.
func (l *leadership) run(ctx context.Context) {
	if l.election != nil {
		l.election.Run(ctx)
	}
}

// lead begins or ends what only a leader does.
func (d *Daemon) lead(gained bool) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.leadership.gained.Store(gained)
	d.runner.Apply(d.runnable(d.config.Load()))
}

// runnable is the configuration with the schedules that this daemon is to run.
func (d *Daemon) runnable(config *schedules.Config) *schedules.Config {
	if d.options.Role != RoleAgent && (d.leadership.election == nil || d.leadership.gained.Load()) {
		return config
	}
	without := *config
	without.Schedules = nil
	return &without
}
