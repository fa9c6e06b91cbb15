package exporter

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// cloudPatience is how long a collection waits for the cloud's API. After that, what
// was read before holds, and the reading goes on.
const cloudPatience = 10 * time.Second

// NewCloudReader makes what reads the cloud that a configuration names; nil for none.
func NewCloudReader(config *schedules.Config, log *slog.Logger) (*alibaba.Reader, error) {
	c := config.Cloud
	if c.Provider != schedules.CloudAlibaba {
		return nil, nil
	}
	return alibaba.NewReader(alibaba.Options{
		Region: c.Region, Endpoints: c.Endpoints, Credentials: c.Credentials,
		MaxAge: c.MaxAge, Keep: config.SnapshotMaxAge, Timeout: c.Timeout, Log: log,
	})
}

// CloudNodes are the nodes of a snapshot as the cloud may know them.
func CloudNodes(snap *simulator.Snapshot, region string) []alibaba.Node {
	by := map[string]*alibaba.Node{}
	at := func(node string) *alibaba.Node {
		if by[node] == nil {
			by[node] = new(alibaba.Node)
		}
		return by[node]
	}
	for i := range snap.Cluster.Nodes {
		node := &snap.Cluster.Nodes[i]
		// As the cloud's controller manager writes it: REGION.INSTANCE.
		if id, ok := strings.CutPrefix(node.Spec.ProviderID, region+"."); ok {
			at(node.Name).Instance = id
		}
	}
	for _, ns := range snap.Namespaces {
		if ns.Kind != netstack.KindNode {
			continue
		}
		n := at(ns.Node)
		for i := range ns.Links {
			if mac := ns.Links[i].MAC; mac != (netstack.MAC{}) {
				n.MACs = append(n.MACs, mac)
			}
		}
		for _, a := range ns.Addresses {
			n.Addrs = append(n.Addrs, a.Prefix.Addr())
		}
	}
	nodes := make([]alibaba.Node, 0, len(by))
	for _, n := range by {
		nodes = append(nodes, *n)
	}
	return nodes
}

// cloudFacts adds to what is collected what is known of the cloud. All of its methods
// may be called on nil: there is no cloud then.
type cloudFacts struct {
	reader *alibaba.Reader
	region string

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	current chan struct{} // closed when the reading that is under way is over; nil without
}

// newCloudFacts returns nil if the configuration has no cloud.
func newCloudFacts(config *schedules.Config, log *slog.Logger) (*cloudFacts, error) {
	reader, err := NewCloudReader(config, log)
	if reader == nil {
		return nil, err
	}
	c := &cloudFacts{reader: reader, region: config.Cloud.Region}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// added is a source of state with what is known of the cloud added to it.
func (c *cloudFacts) added(collect collectFunc) collectFunc {
	if c == nil {
		return collect
	}
	return func(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, error) {
		snap, err := collect(ctx, maxAge)
		if err != nil {
			return nil, err
		}
		patience := time.NewTimer(cloudPatience)
		defer patience.Stop()
		select {
		case <-c.read(CloudNodes(snap, c.region)):
		case <-patience.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		own := *snap // an agent's collector may have kept it
		own.Cloud, own.CloudTaken = c.reader.Facts()
		return &own, nil
	}
}

// read asks for what is due, unless that goes on already, and says when it is over.
func (c *cloudFacts) read(nodes []alibaba.Node) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		return c.current
	}
	done := make(chan struct{})
	c.current = done
	c.running.Go(func() {
		c.reader.Fetch(c.ctx, nodes)
		c.mu.Lock()
		c.current = nil
		c.mu.Unlock()
		close(done)
	})
	return done
}

// configure takes what may change while the daemon runs.
func (c *cloudFacts) configure(config *schedules.Config) {
	if c != nil {
		c.reader.SetKeep(config.SnapshotMaxAge)
	}
}

// close ends what goes on, and waits for it.
func (c *cloudFacts) close() {
	if c != nil {
		c.cancel()
		c.running.Wait()
		c.reader.Close()
	}
}

// register exports the metrics.
func (c *cloudFacts) register(r *prometheus.Registry) {
	if c != nil {
		r.MustRegister(c.reader.Metrics())
	}
}
