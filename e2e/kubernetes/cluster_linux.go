package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// ComponentsVariable names the environment variable with the directory of the
// programs that hack/kubernetes.sh builds.
const ComponentsVariable = "PLUMBLINE_KUBERNETES"

// ControlPlaneVariable names the environment variable with the address of an API
// server that runs already, for those whose kernel is too slow to run one.
const ControlPlaneVariable = "PLUMBLINE_CONTROL_PLANE"

// Options say which cluster to start.
type Options struct {
	// Components is the directory that hack/kubernetes.sh prints. Default: the
	// value of ComponentsVariable.
	Components string
	// ControlPlane is where the API server of a StartControlPlane is reached.
	// Default: the cluster has one of its own.
	ControlPlane string
	// ProxyMode is that of kube-proxy: iptables, nftables or ipvs.
	ProxyMode string
	// Plugin is the one that connects pods to their node: bridge or ptp; or
	// flannel, which does so by bridge and joins the nodes. Default: bridge.
	Plugin string
	// Nodes is how many there are. Default: 2.
	Nodes int
	// Log is told what is being done; may be nil.
	Log func(format string, args ...any)
}

// Cluster is one that runs. Its methods may be called at the same time.
type Cluster struct {
	// Prefix begins the names of its network namespaces.
	Prefix string
	// API is a client that may do anything.
	API dynamic.Interface

	options Options
	claim   *claim
	dir     string // logs, keys, and the databases of etcd and host-local
	nodes   []node

	processes processes
	kubelets  []*kubelet
	sockets   []io.Closer // those that answer outside, and in control for an API server elsewhere
	marker    marker
	// background ends with the first kubelet that fails, and when stop is called.
	background context.Context
	stop       context.CancelFunc
	work       *errgroup.Group
}

// step is one of those that make a cluster.
type step struct {
	name string
	run  func(context.Context) error
}

// Start starts a cluster and returns when its nodes are ready.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(ctx, o)
	if err != nil {
		return nil, err
	}
	return c.make(ctx, []step{
		{"make the networks", c.makeNetworks},
		{"start the control plane", c.startControlPlane},
		{"register the nodes", c.registerNodes},
		{"start the node agents", c.startNodes},
	})
}

// StartControlPlane starts what has no nodes: they are made by a Start elsewhere
// that is told where the API server is, which listens in the network namespace
// control.
func StartControlPlane(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(ctx, o)
	if err != nil {
		return nil, err
	}
	c.nodes = nil
	return c.make(ctx, []step{
		{"make the network", func(ctx context.Context) error {
			if err := makeNetns(ctx, c.Netns("control")); err != nil {
				return err
			}
			return c.batch(ctx, "control", "address add "+controlAddress+"/32 dev lo")
		}},
		{"start the control plane", c.startControlPlane},
	})
}

func newCluster(ctx context.Context, o Options) (*Cluster, error) {
	if o.Components == "" {
		o.Components = os.Getenv(ComponentsVariable)
	}
	if o.Plugin == "" {
		o.Plugin = "bridge"
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	claim, err := newClaim()
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	c := &Cluster{Prefix: claim.prefix, options: o, claim: claim, dir: claim.dir}
	for i := range o.Nodes {
		c.nodes = append(c.nodes, newNode(i+1))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.work, c.background = errgroup.WithContext(background)
	return c, nil
}

// make takes the steps, and stops the cluster when one fails.
func (c *Cluster) make(ctx context.Context, steps []step) (*Cluster, error) {
	began := time.Now()
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			err = fmt.Errorf("kubernetes %s: %s: %w", c.Prefix, step.name, err)
			return nil, errors.Join(err, c.processes.complaints(), c.Stop())
		}
		c.options.Log("%s after %.1f s", step.name, time.Since(began).Seconds())
	}
	return c, nil
}

// Stop ends the cluster and removes what it has made.
func (c *Cluster) Stop() error {
	c.stop()
	errs := []error{c.work.Wait()}
	for _, k := range c.kubelets {
		k.close()
	}
	for _, s := range c.sockets {
		s.Close()
	}
	errs = append(errs, c.processes.stop(), c.claim.release())
	return errors.Join(errs...)
}

// Netns is the network namespace of a place: a node, a pod as NAMESPACE/NAME,
// control, router or outside.
func (c *Cluster) Netns(place string) string {
	return c.Prefix + slashes.ReplaceAllString(place, "-")
}

var slashes = regexp.MustCompile(`/`)

// Collector says how to collect the state of the cluster: its network
// namespaces from the kernel, its objects as the product's own client reads them.
func (c *Cluster) Collector(ctx context.Context) collector.Options {
	return collector.Options{Namespaces: []string{c.Prefix + "*"}, Cluster: func() (cluster.Objects, error) {
		return kubernetes.Read(ctx, c.Config(), slog.New(slog.DiscardHandler))
	}}
}

// Run executes a program in a place.
func (c *Cluster) Run(ctx context.Context, place string, argv ...string) ([]byte, error) {
	return runIn(ctx, c.Netns(place), argv...)
}
