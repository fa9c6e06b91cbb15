package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// ElectionOptions say what candidates compete for.
type ElectionOptions struct {
	// Namespace and Name are those of the Lease.
	Namespace, Name string
	// Identity tells this candidate from all others.
	Identity string
	// Duration is how long a leader that is not heard of any more leads; 15
	// seconds when zero. It gives up itself after two thirds of that.
	Duration time.Duration
	// Gained is called when this candidate begins to lead, Lost when it does not
	// any more. Calls do not overlap.
	Gained, Lost func()
	Log          *slog.Logger
}

// Election takes part in an election by Lease, as client-go holds them.
type Election struct {
	options ElectionOptions
	http    *http.Client
	lock    *timedLock
	elector *leaderelection.LeaderElector
}

// NewElection returns a candidate that does nothing yet.
func NewElection(config *rest.Config, options ElectionOptions) (*Election, error) {
	if options.Duration == 0 {
		options.Duration = 15 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	config = ownConfig(config)
	// An answer that comes later than this is too late to lead by.
	config.Timeout = deadline(options.Duration) / 2
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	client, err := coordinationv1.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	e := &Election{options: options, http: httpClient, lock: &timedLock{Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: options.Namespace, Name: options.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: options.Identity},
	}}}
	gained := false // only between calls of Run's elector, which do not overlap
	e.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: e.lock, LeaseDuration: options.Duration, RenewDeadline: deadline(options.Duration), RetryPeriod: options.Duration / 8,
		// Whoever calls Run has ended its work before.
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			// It has a goroutine of its own, and may come late: see timedLock.
			OnStartedLeading: func(context.Context) {},
			OnStoppedLeading: func() {
				if gained {
					gained = false
					options.Log.Warn("this controller does not lead any more", "lease", e.lock.Describe())
					options.Lost()
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	e.lock.acquired = func() {
		if !gained {
			gained = true
			options.Log.Info("this controller leads", "lease", e.lock.Describe(), "identity", options.Identity)
			options.Gained()
		}
	}
	return e, nil
}

func deadline(duration time.Duration) time.Duration { return duration * 2 / 3 }

// Run competes until ctx ends, and lets go of the lease then. What may be done by
// the leader alone has to have ended before.
func (e *Election) Run(ctx context.Context) {
	defer utilnet.CloseIdleConnectionsFor(e.http.Transport)
	for ctx.Err() == nil {
		e.elector.Run(ctx)
		e.lock.renewed.Store(nil)
	}
}

// Leads says whether nobody else can lead at this moment. Others wait for Duration
// since they saw the lease renewed; this is less than that since it began to
// renew it, also after a pause of this process.
func (e *Election) Leads() bool {
	renewed := e.lock.renewed.Load()
	return renewed != nil && time.Since(*renewed) < deadline(e.options.Duration)
}

// timedLock notes when the lease was renewed last: the time before it was written.
type timedLock struct {
	resourcelock.Interface
	acquired func() // called after each renewal
	renewed  atomic.Pointer[time.Time]
}

// Create implements resourcelock.Interface.
func (l *timedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.note(record, func() error { return l.Interface.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *timedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.note(record, func() error { return l.Interface.Update(ctx, record) })
}

func (l *timedLock) note(record resourcelock.LeaderElectionRecord, write func() error) error {
	began := time.Now()
	if record.HolderIdentity != l.Identity() { // it is let go of
		l.renewed.Store(nil)
		return write()
	}
	if err := write(); err != nil {
		return err
	}
	l.renewed.Store(&began)
	l.acquired()
	return nil
}
