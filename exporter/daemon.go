package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
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
	Log    *slog.Logger
}

// Daemon is a daemon that listens already. Run it or close it.
type Daemon struct {
	options  Options
	log      *slog.Logger
	listener net.Listener
	metrics  *metrics
	network  *network
	runner   *schedules.Runner
	live     *live                // nil without a collector
	fleet    *fleet               // nil but for a controller
	cluster  *clusterWatch        // nil without an API server
	reviewer *kubernetes.Reviewer // nil without authorization by the API server
	*leadership
	http *http.Server

	reloading sync.Mutex
	config    atomic.Pointer[schedules.Config]
}

// New reads the configuration and begins to listen. Its errors are the
// operator's to correct.
func New(options Options) (*Daemon, error) {
	if options.ListenAddress == "" {
		options.ListenAddress = DefaultListenAddress
		if options.Role == RoleAgent {
			options.ListenAddress = DefaultAgentListenAddress
		}
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	config, err := load(options.ConfigFile)
	if err != nil {
		return nil, err
	}
	host, err := checkListen(options.ListenAddress, options.WebConfigFile, config.Web.Authorization != "")
	if err != nil {
		return nil, err
	}
	listener, err := listen(options.ListenAddress)
	if err != nil {
		return nil, err
	}
	d := &Daemon{options: options, log: options.Log, listener: listener, metrics: newMetrics()}
	if options.Bundle == "" {
		if d.cluster, err = newClusterWatch(config.Kubernetes, options.Log); err != nil {
			listener.Close()
			return nil, err
		}
	}
	collect, err := d.source(config)
	if err != nil {
		d.cluster.close()
		listener.Close()
		return nil, err
	}
	d.network = newNetwork(collect, options.Bundle != "", options.Log, d.metrics.phases)
	d.network.judges = options.Role != RoleAgent
	if d.leadership, err = d.newLeadership(config); err != nil {
		d.network.close()
		d.cluster.close()
		listener.Close()
		return nil, err
	}
	d.runner = schedules.New(schedules.Options{Source: d.network, Log: options.Log, Published: d.metrics.published, Leads: d.leads})
	d.metrics.registry.MustRegister(d.leader, newScheduleMetrics(d.runner.Status), newAgeMetrics(d.network))
	if err := d.apply(config); err != nil {
		d.Close()
		return nil, err
	}
	s := &server{
		network: d.network, runner: d.runner, metrics: d.metrics, config: d.config.Load,
		reload: d.Reload, leads: d.leads, log: options.Log, listen: host,
	}
	if config.Web.Authorization != "" {
		access, err := kubernetes.Access(config.Kubernetes).Config()
		if err == nil {
			d.reviewer, err = kubernetes.NewReviewer(access, config.Web.Audiences)
		}
		if err != nil {
			d.Close()
			return nil, err
		}
		s.reviewer = d.reviewer
	}
	handler := s.handler()
	if options.Role == RoleAgent {
		handler = s.agentHandler(snapshot.NewServer(nodeOf(config), d.network.snapshot, options.Log))
	}
	d.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelWarn),
	}
	return d, nil
}

// source makes what collects the state, as the role has it.
func (d *Daemon) source(config *schedules.Config) (collectFunc, error) {
	options := &d.options
	switch {
	case options.Bundle != "":
		return func(context.Context) (*simulator.Snapshot, error) { return bundle.Read(options.Bundle) }, nil
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

// Addr is the address that the daemon listens on.
func (d *Daemon) Addr() net.Addr { return d.listener.Addr() }

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
	group.Go(func() error {
		systemd := false
		flags := &web.FlagConfig{
			WebListenAddresses: &[]string{d.options.ListenAddress}, WebSystemdSocket: &systemd, WebConfigFile: &d.options.WebConfigFile,
		}
		err := web.Serve(d.listener, d.http, flags, d.log)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve: %w", err)
	})
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
		return d.shutdown()
	})
	return group.Wait()
}

func (d *Daemon) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := d.http.Shutdown(ctx); err != nil {
		d.log.Warn("requests were cut off", "err", err)
		return d.http.Close()
	}
	return nil
}

// Close ends everything that New started. It may be called again.
func (d *Daemon) Close() {
	d.runner.Close()
	d.cluster.stop()
	d.network.close()
	d.cluster.close()
	if d.fleet != nil {
		d.fleet.close()
	}
	if d.reviewer != nil {
		d.reviewer.Close()
	}
	d.listener.Close() // closed by the server, usually
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
	if old := d.config.Load(); old.Probes != config.Probes || old.BPFRunSeconds != config.BPFRunSeconds || old.Node != config.Node || old.Controller.Lease != config.Controller.Lease ||
		old.Web.Authorization != config.Web.Authorization || !slices.Equal(old.Web.Audiences, config.Web.Audiences) {
		d.log.Warn("changes of node, controller.lease, web.authorization, web.audiences, probes and bpfRunSeconds take effect with a restart")
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
	if d.live != nil {
		d.live.configure(config.Collector)
	}
	d.runner.Apply(d.runnable(config))
	d.metrics.reloaded(true, time.Now())
	return nil
}

func load(file string) (*schedules.Config, error) {
	if file == "" {
		return schedules.Default(), nil
	}
	return schedules.Load(file)
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

// checkListen refuses to show the network to others without asking who they
// are. Reviews says that the API server is asked whose a token is. It returns the
// host part of address.
func checkListen(address, webConfig string, reviews bool) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("--web.listen-address: %w", err)
	}
	var c web.Config
	if webConfig != "" {
		if err := web.Validate(webConfig); err != nil {
			return "", fmt.Errorf("--web.config.file %s: %w", webConfig, err)
		}
		data, err := os.ReadFile(webConfig)
		if err != nil {
			return "", fmt.Errorf("--web.config.file: %w", err)
		}
		if err := yaml.UnmarshalStrict(data, &c); err != nil {
			return "", fmt.Errorf("--web.config.file: %s: %w", webConfig, err)
		}
	}
	encrypted := c.TLSConfig.TLSCert != "" || c.TLSConfig.TLSCertPath != ""
	// TLS alone does not ask who is there.
	authenticates := len(c.Users) > 0 || c.TLSConfig.ClientAuth == "RequireAndVerifyClientCert" || reviews
	addr, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && addr.Unmap().IsLoopback()
	switch {
	case reviews && len(c.Users) > 0:
		return "", errors.New("web.authorization and basic_auth_users in --web.config.file exclude each other: both are in the header Authorization")
	case loopback:
	case !authenticates:
		return "", fmt.Errorf("--web.listen-address %s: listening beyond loopback needs authentication: "+
			"give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in --web.config.file", address)
	case reviews && !encrypted:
		return "", fmt.Errorf("--web.listen-address %s: tokens beyond loopback need TLS: give tls_server_config in --web.config.file", address)
	}
	return host, nil
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: the port is in use, perhaps by another plumbline; stop it, or choose another with --web.listen-address", address)
	case err != nil:
		return nil, fmt.Errorf("--web.listen-address: %w", err)
	}
	return l, nil
}
