package exporter

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/privsep"
	"github.com/plumbline-net/plumbline/probes"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/snapshot"
)

// Where the daemon answers unless told otherwise: an agent beside a controller on
// one host is no conflict.
const (
	DefaultListenAddress      = "127.0.0.1:9810"
	DefaultAgentListenAddress = "127.0.0.1:9811"
)

// Role is what a daemon does in a cluster.
type Role int

// Roles. RoleServe does everything for its own host; RoleAgent collects its host
// and hands the state out, and runs the probes; RoleController judges what agents
// have collected.
const (
	RoleServe Role = iota
	RoleAgent
	RoleController
)

// shutdownTimeout bounds how long requests under way may go on after the
// daemon was asked to end. Kubernetes kills after 30 seconds.
const shutdownTimeout = 15 * time.Second

// Options say what the daemon runs with.
type Options struct {
	Role Role
	// ConfigFile is the configuration; empty for the defaults and no schedules.
	ConfigFile string
	// ListenAddress is HOST:PORT; empty for DefaultListenAddress.
	ListenAddress string
	// WebConfigFile is the exporter-toolkit's file for TLS and authentication;
	// empty for neither.
	WebConfigFile string
	// Bundle, if not empty, is a bundle to answer from instead of collecting.
	Bundle string
	// Serve, if not nil, starts the process that listens for an agent, which does
	// not listen itself then: a Front, with the ListenAddress and WebConfigFile of
	// these options.
	Serve func() (*privsep.Child, error)
	Log   *slog.Logger
}

// Daemon is a daemon that listens already. Run it or close it.
type Daemon struct {
	options      Options
	log          *slog.Logger
	*endpoint              // nil for an agent of which another process serves
	metricsAt    *endpoint // nil unless the metrics have an address of their own
	serving      *serving  // nil for all others
	metrics      *metrics
	network      *network
	runner       *schedules.Runner
	confirmation *confirmation
	live         *live                // nil without a collector
	fleet        *fleet               // nil but for a controller
	cluster      *clusterWatch        // nil without an API server
	cloud        *cloudFacts          // nil without a cloud
	reviewer     *kubernetes.Reviewer // nil without authorization by the API server
	*leadership

	reloading sync.Mutex
	config    atomic.Pointer[schedules.Config]
}

// New reads the configuration and begins to listen. Its errors are the
// operator's to correct.
func New(options Options) (*Daemon, error) {
	options.defaults()
	config, err := load(options.ConfigFile)
	if err != nil {
		return nil, err
	}
	d := &Daemon{options: options, log: options.Log, metrics: newMetrics()}
	if err := d.begin(config); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// begin starts what there is to close.
func (d *Daemon) begin(config *schedules.Config) (err error) {
	options := &d.options
	if options.Serve != nil {
		err = check(options, config)
	} else {
		d.endpoint, d.metricsAt, err = newEndpoints(options, config)
	}
	if err != nil {
		return err
	}
	if options.Bundle == "" {
		node := ""
		if options.Role == RoleAgent {
			node = nodeOf(config)
		}
		if d.cluster, err = newClusterWatch(config.Kubernetes, node, options.Log); err != nil {
			return err
		}
	}
	collect, err := d.source(config)
	if err != nil {
		return err
	}
	// Agents hand out what their node has: the controller alone holds credentials.
	if options.Bundle == "" && options.Role != RoleAgent {
		if d.cloud, err = newCloudFacts(config, d.log); err != nil {
			return err
		}
		d.cloud.register(d.metrics.registry)
		collect = d.cloud.added(collect)
	}
	d.network = newNetwork(collect, options.Bundle != "", options.Log, d.metrics.phases)
	d.network.judges, d.network.fromAgents = options.Role != RoleAgent, d.fleet != nil
	if d.leadership, err = d.newLeadership(config); err != nil {
		return err
	}
	d.confirmation = newConfirmation(d.network, d.sender(), d.config.Load, d.metrics)
	if ask := d.asker(); ask != nil && d.network.judges {
		d.network.names = &confirm.Names{Ask: ask, Limit: d.confirmation.limit}
	}
	d.runner = schedules.New(schedules.Options{
		Source: d.network, Log: options.Log, Confirm: d.confirmation.ofRun, Published: d.metrics.published, Leads: d.leads,
	})
	d.metrics.registry.MustRegister(newScheduleMetrics(d.runner.Status), newAgeMetrics(d.network))
	if d.options.Role != RoleAgent {
		d.metrics.registry.MustRegister(d.leader)
	}
	if err := d.apply(config); err != nil {
		return err
	}
	return d.answer(config)
}

func (o *Options) defaults() {
	if o.ListenAddress == "" {
		o.ListenAddress = DefaultListenAddress
		if o.Role == RoleAgent {
			o.ListenAddress = DefaultAgentListenAddress
		}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// answer makes what answers requests, here or in the process that serves.
func (d *Daemon) answer(config *schedules.Config) (err error) {
	s := &server{
		network: d.network, runner: d.runner, metrics: d.metrics, confirmation: d.confirmation, config: d.config.Load,
		reload: d.Reload, leads: d.leads, log: d.log,
	}
	var privileged http.Handler
	if d.options.Role == RoleAgent {
		privileged = s.privileged(snapshot.NewServer(nodeOf(config), d.network.snapshot, d.log), confirm.Handler(d.insideOwn, d.confirmation.limit))
	}
	if d.endpoint == nil {
		d.serving, err = newServing(&d.options, config, privileged)
		return err
	}
	if d.reviewer, err = newReviewer(config.Web, config.Kubernetes); err != nil {
		return err
	}
	s.reviewer, s.listen, s.proof = d.reviewer, d.endpoint.host, d.endpoint.proof
	if d.metricsAt != nil {
		own := &server{config: d.config.Load, log: d.log, listen: d.metricsAt.host}
		d.metricsAt.http.Handler = own.metricsHandler(s.scrape())
	}
	if privileged != nil {
		d.endpoint.http.Handler = s.agentHandler(privileged)
	} else {
		d.endpoint.http.Handler = s.handler()
	}
	return nil
}

// newReviewer returns nil if nobody is to be asked.
func newReviewer(web schedules.Web, cluster schedules.Kubernetes) (*kubernetes.Reviewer, error) {
	if web.Authorization != schedules.AuthorizationKubernetes {
		return nil, nil
	}
	access, err := kubernetes.Access(cluster).Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewReviewer(access, web.Audiences)
}

// source makes what collects the state, as the role has it.
func (d *Daemon) source(config *schedules.Config) (collectFunc, error) {
	options := &d.options
	switch {
	case options.Bundle != "":
		if _, err := bundle.Read(options.Bundle); err != nil {
			return nil, err
		}
		return func(context.Context, time.Duration) (*simulator.Snapshot, error) { return bundle.Read(options.Bundle) }, nil
	case options.Role == RoleController:
		fleet, err := newFleet(config.Controller, d.log)
		if err != nil {
			return nil, err
		}
		fleet.cluster, fleet.objects = d.cluster, d.objects
		d.fleet = fleet
		d.metrics.registry.MustRegister(fleet)
		return fleet.collect, nil
	}
	d.live = newLive(config, d.cluster, options.Log)
	d.metrics.registry.MustRegister(d.live)
	return d.live.collect, nil
}

// sender is what sends real probes, as the role has it.
func (d *Daemon) sender() confirm.Sender {
	if d.live != nil {
		return confirm.Here(d.live.inside)
	}
	if d.fleet != nil {
		return d.fleet.send
	}
	return nil // nothing is confirmed in a bundle
}

// asker is what asks name servers, as the role has it.
func (d *Daemon) asker() confirm.Asker {
	if d.live != nil {
		return confirm.AskHere(d.live.inside)
	}
	if d.fleet != nil {
		return d.fleet.ask
	}
	return nil // a bundle has what was answered
}

// objects are the Kubernetes objects that a controller knows.
func (d *Daemon) objects() (cluster.Objects, error) {
	if d.cluster != nil {
		return d.cluster.objects()
	}
	return collector.ReadManifests(d.config.Load().Collector.Manifests)
}

// nodeOf is the name of the node that an agent speaks for.
func nodeOf(config *schedules.Config) string {
	if config.Node != "" {
		return config.Node
	}
	name, _ := os.Hostname()
	return name
}

// Run serves until ctx ends, then ends what is under way. A daemon runs once.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	if closeProbes := d.openProbes(); closeProbes != nil {
		defer closeProbes()
	}
	group, ctx := errgroup.WithContext(ctx)
	// The lease is let go of when no schedule runs any more.
	campaign, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		d.leadership.run(campaign)
		return nil
	})
	// What is answered until the end, and how it is asked to end.
	serve, shutdown := d.endpoint.serve, d.endpoint.shutdown
	if d.serving != nil {
		serve, shutdown = d.serving.serve, d.serving.shutdown
	}
	group.Go(serve)
	if d.metricsAt != nil {
		group.Go(d.metricsAt.serve)
	}
	group.Go(func() error {
		d.network.keep(ctx)
		return nil
	})
	group.Go(func() error {
		d.watch(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		d.log.Info("shutting down")
		// The runner ends first: its runs would only make requests wait longer.
		d.runner.Close()
		withdraw()
		return errors.Join(shutdown(), d.metricsAt.shutdown())
	})
	return group.Wait()
}

// Close ends everything that New started, as far as it got. It may be called again.
func (d *Daemon) Close() {
	if d.runner != nil {
		d.runner.Close()
	}
	d.cluster.stop()
	if d.network != nil {
		d.network.close()
	}
	d.cloud.close()
	d.cluster.close()
	if d.fleet != nil {
		d.fleet.close()
	}
	if d.reviewer != nil {
		d.reviewer.Close()
	}
	if d.serving != nil {
		d.serving.close()
	}
	d.endpoint.close()
	d.metricsAt.close()
}

// Reload reads the configuration file again. If it is bad, the configuration
// that runs is kept, and the error says why.
func (d *Daemon) Reload() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	config, err := load(d.options.ConfigFile)
	if err != nil {
		d.metrics.reloaded(false, time.Now())
		d.log.Error("configuration is bad; the old one is kept", "err", err)
		return err
	}
	if d.config.Load().Kubernetes != config.Kubernetes {
		d.log.Warn("changes of kubernetes take effect with a restart")
	}
	if !reflect.DeepEqual(d.config.Load().Cloud, config.Cloud) {
		d.log.Warn("changes of cloud take effect with a restart")
	}
	if old := d.config.Load(); old.Probes != config.Probes || old.BPFRunSeconds != config.BPFRunSeconds || old.Node != config.Node || old.Controller.Lease != config.Controller.Lease ||
		old.Web.Authorization != config.Web.Authorization || !slices.Equal(old.Web.Audiences, config.Web.Audiences) ||
		old.Web.MetricsListenAddress != config.Web.MetricsListenAddress || old.Web.MetricsConfigFile != config.Web.MetricsConfigFile {
		d.log.Warn("changes of node, controller.lease, web.authorization, web.audiences, web.metricsListenAddress, web.metricsConfigFile, probes and bpfRunSeconds take effect with a restart")
	}
	if err := d.apply(config); err != nil {
		d.metrics.reloaded(false, time.Now())
		d.log.Error("configuration cannot be used; the old one is kept", "err", err)
		return err
	}
	d.log.Info("configuration loaded", "file", d.options.ConfigFile, "schedules", len(config.Schedules))
	return nil
}

// apply makes config the configuration, or keeps the old one if it cannot.
func (d *Daemon) apply(config *schedules.Config) error {
	if d.fleet != nil {
		if err := d.fleet.configure(config.Controller); err != nil {
			return err
		}
	}
	d.config.Store(config)
	d.network.maxAge.Store(int64(config.SnapshotMaxAge))
	d.cloud.configure(config)
	d.confirmation.configure(config.Confirm)
	if d.live != nil {
		d.live.configure(config.Collector)
	}
	d.runner.Apply(d.runnable(config))
	if d.serving != nil {
		d.serving.instruct(config)
	}
	d.metrics.reloaded(true, time.Now())
	return nil
}

func load(file string) (*schedules.Config, error) {
	config := schedules.Default()
	if file != "" {
		var err error
		if config, err = schedules.Load(file); err != nil {
			return nil, err
		}
	}
	if config.Node == "" {
		// The agents of a cluster share a file, and Kubernetes tells a pod by its
		// environment where it runs; the host may have another name.
		config.Node = os.Getenv("NODE_NAME")
	}
	return config, nil
}

// openProbes attaches what can be attached and says what cannot; the daemon is
// of use without probes. It returns what detaches them, or nil.
func (d *Daemon) openProbes() (closeProbes func()) {
	config := d.config.Load()
	if d.live == nil || !config.Probes.Enabled {
		return nil
	}
	p, err := probes.Open(probes.Options{
		Attributor: &attribution{network: d.network},
		MaxSeries:  config.Probes.MaxSeries,
		RunTime:    config.BPFRunSeconds,
		Logger:     d.log,
	})
	if err != nil {
		d.log.Warn("not every probe is attached; plumbline_probe_attached tells which", "err", err)
	}
	d.metrics.registry.MustRegister(p)
	return func() {
		if err := p.Close(); err != nil {
			d.log.Warn("detach probes", "err", err)
		}
	}
}
