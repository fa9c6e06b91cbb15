package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/plumbline-net/plumbline/witness"
)

// ElectionOptions say what candidates compete for.
type ElectionOptions struct {
	// Namespace and Name are those of the Lease.
	Namespace, Name string
	// Identity tells this candidate from all others.
	Identity string
	// Duration is how long a leader that is not heard of any more leads; 15
	// seconds when zero. It gives up itself after two thirds of that, unless witnesses
	// let it go on while the API server is away.
	Duration time.Duration
	// Agents are the witnesses, Tell tells them of a leader, and Bound is how long the
	// leader may go on after it renewed the lease last: see witness.Options.
	Agents func() ([]*url.URL, error)
	Tell   func(ctx context.Context, agent *url.URL, t witness.Term, grant bool) (witness.Answer, error)
	Bound  func() time.Duration
	// Gained is called when this candidate begins to lead, Lost when it does not
	// any more. Calls do not overlap.
	Gained, Lost func()
	Log          *slog.Logger
}

// Election takes part in an election by Lease, as client-go holds them.
type Election struct {
	http    *http.Client
	leader  *witness.Leader
	lock    *candidacy
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
	config.QPS = -1 // it asks in a rhythm of its own, and a limit would look like an API server that is away
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	client, err := coordinationv1client.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	lease := options.Namespace + "/" + options.Name
	leader := witness.NewLeader(witness.Options{
		Valid: deadline(options.Duration), Bound: options.Bound, Agents: options.Agents, Tell: options.Tell, Log: options.Log,
		Gained: func() {
			options.Log.Info("this controller leads", "lease", lease, "identity", options.Identity)
			options.Gained()
		},
		Lost: func() {
			options.Log.Warn("this controller does not lead any more", "lease", lease)
			options.Lost()
		},
	})
	e := &Election{http: httpClient, leader: leader, lock: &candidacy{
		LeaseInterface: client.Leases(options.Namespace), identity: options.Identity, hold: options.Duration / 2, leader: leader,
	}}
	e.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: options.Namespace, Name: options.Name},
			Client:     e.lock,
			LockConfig: resourcelock.ResourceLockConfig{Identity: options.Identity},
		},
		LeaseDuration: options.Duration, RenewDeadline: deadline(options.Duration), RetryPeriod: options.Duration / 8,
		// Whoever ends Run has ended its work before.
		ReleaseOnCancel: true,
		// They come late, and know of the lease only: see witness.Leader.
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return e, nil
}

func deadline(duration time.Duration) time.Duration { return duration * 2 / 3 }

// Run competes until ctx ends, and lets go of the lease then. What may be done by
// the leader alone has to have ended before.
func (e *Election) Run(ctx context.Context) {
	defer utilnet.CloseIdleConnectionsFor(e.http.Transport)
	var leading sync.WaitGroup
	defer leading.Wait()
	leading.Go(func() { e.leader.Run(ctx) })
	e.lock.ctx = ctx
	for ctx.Err() == nil {
		e.elector.Run(ctx)
	}
}

// Leads says whether nobody else can lead at this moment. Others wait for Duration
// since they saw the lease renewed; this is less than that since it began to
// renew it, also after a pause of this process; and for grants of witnesses to run out.
func (e *Election) Leads() bool { return e.leader.Leads() }

// candidacy tells the leader what becomes of the lease. It is for the one goroutine
// of an elector.
type candidacy struct {
	coordinationv1client.LeaseInterface
	identity string
	hold     time.Duration
	leader   *witness.Leader
	ctx      context.Context // of the elector

	holder string // of the lease as it was seen last
	// seen is when that was, and back since when it has been seen without a long gap: a server that has much to
	// do and refuses some questions is not away.
	seen, back time.Time
}

// Leases implements coordinationv1client.LeasesGetter.
func (c *candidacy) Leases(string) coordinationv1client.LeaseInterface { return c }

// Get implements coordinationv1client.LeaseInterface.
func (c *candidacy) Get(ctx context.Context, name string, options metav1.GetOptions) (*coordinationv1.Lease, error) {
	lease, err := c.LeaseInterface.Get(ctx, name, options)
	if err != nil {
		return nil, c.missed(err)
	}
	c.holder = holderOf(lease)
	now := time.Now()
	if now.Sub(c.seen) > c.hold {
		c.back = now
	}
	c.seen = now
	if c.holder != "" && c.holder != c.identity {
		c.leader.Taken()
	}
	return lease, nil
}

// Create implements coordinationv1client.LeaseInterface. Who had a lease that was deleted
// has not let go of it.
func (c *candidacy) Create(ctx context.Context, lease *coordinationv1.Lease, options metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return c.wrote(false, func() (*coordinationv1.Lease, error) { return c.LeaseInterface.Create(ctx, lease, options) })
}

// Update implements coordinationv1client.LeaseInterface.
func (c *candidacy) Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	switch {
	case holderOf(lease) == "":
		// An elector lets go of the lease also when it could not renew it in time. Witnesses
		// may let it go on.
		if c.ctx.Err() == nil || !c.leader.Resign() {
			return nil, errors.New("the lease is kept")
		}
		return c.LeaseInterface.Update(ctx, lease, options)
	case c.holder != "" && c.holder != c.identity && time.Since(c.back) < c.hold:
		// Whom witnesses let lead meanwhile goes on without a gap.
		return nil, errors.New("the API server was away just now: its holder renews the lease first")
	}
	return c.wrote(c.holder == "", func() (*coordinationv1.Lease, error) { return c.LeaseInterface.Update(ctx, lease, options) })
}

// wrote notes when the lease was renewed: the time before it was written.
func (c *candidacy) wrote(free bool, write func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	began := time.Now()
	lease, err := write()
	if err != nil {
		return nil, c.missed(err)
	}
	c.holder = c.identity
	record := resourcelock.LeaseSpecToLeaderElectionRecord(&lease.Spec)
	c.leader.Renewed(witness.Term{Lease: string(lease.UID), Number: int64(record.LeaderTransitions), Holder: c.identity}, began, free)
	return lease, nil
}

func (c *candidacy) missed(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return err // who wrote it, perhaps this one without hearing of it, the elector looks up next
	}
	c.leader.Missed(isAway(err))
	return err
}

// holderOf is empty if nobody has the lease.
func holderOf(lease *coordinationv1.Lease) string {
	return resourcelock.LeaseSpecToLeaderElectionRecord(&lease.Spec).HolderIdentity
}
