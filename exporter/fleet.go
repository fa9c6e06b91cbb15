package exporter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/snapshot"
	"github.com/plumbline-net/plumbline/witness"
)

const (
	// doubtPatience is how long a collection waits for an agent that did not answer when it was
	// last asked. It is asked all the same: what it says later is part of the next collection.
	doubtPatience = 2 * time.Second
	// transferTimeout is how long a collection waits for all others.
	transferTimeout = collectTimeout * 3 / 4
	// dialTimeout bounds connecting: a node that is switched off says nothing.
	dialTimeout = 3 * time.Second
	// orderTimeout is what an agent may take for an order, beside what following it takes.
	orderTimeout = 5 * time.Second
)

// fleet collects a cluster from its agents. It exports how they do.
type fleet struct {
	log     *slog.Logger
	cluster *clusterWatch // whose metrics it exports, too; may be nil
	// objects returns the Kubernetes objects.
	objects func() (cluster.Objects, error)
	known   cluster.Objects // those of the last collection; for collect alone
	store   *snapshot.Store

	ctx     context.Context // of fetches: they outlive the collection that began them
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows, not during a transfer
	config schedules.Controller
	http   *http.Client
	// trusted fetches, by http, from agents that answered when they were last asked, and doubted from
	// all others, which take no turns from those.
	trusted, doubted *snapshot.Client
	urls             map[string]*url.URL // of agents by node, as last asked
	closer           func()
	nodes            map[string]*node

	up, bytes, blobs *prometheus.Desc
}

// node is what is known of one node. Fleet.mu guards it.
type node struct {
	fetch *fetch // that is under way; nil for none
	agent string // who was asked last
	state *snapshot.State
	taken time.Time
	err   error // of the last fetch that ended
	bytes int64 // fetched so far
	// members are the namespaces of state as the world has them, by those that
	// were fetched.
	members map[*netstack.Namespace]*netstack.Namespace
	// absent are members that nothing is known of but who is there, while the
	// agent does not answer.
	absent []*netstack.Namespace
}

// wanted says how old state may be: at most maxAge, when a collection begins.
type wanted struct {
	maxAge    time.Duration
	notBefore time.Time
}

// fetch is one of a node's state.
type fetch struct {
	wanted // whoever wants newer state asks again
	// doubtful says that collections do not wait for it for long. Fleet.mu guards it.
	doubtful bool
	cancel   context.CancelFunc
	done     chan struct{}
}

func newFleet(config schedules.Controller, log *slog.Logger) (*fleet, error) {
	f := &fleet{
		log: log, store: snapshot.NewStore(), nodes: make(map[string]*node),
		up: desc("agent_up",
			"Whether the node's agent answered when it was last asked for its state (1).", "node"),
		bytes: desc("agent_fetched_bytes_total",
			"Bytes of state that were fetched from the node's agent, compressed.", "node"),
		blobs: desc("snapshot_blob_bytes",
			"Bytes that the state of all nodes takes, compressed, with the dumps by which those of others are written; what several have counts once."),
	}
	if err := f.configure(config); err != nil {
		return nil, err
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

// configure makes later collections follow config.
func (f *fleet) configure(config schedules.Controller) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.http == nil || f.config.TLS != config.TLS || f.config.TokenFile != config.TokenFile {
		client, closer, err := newAgentClient(config)
		if err != nil {
			return fmt.Errorf("controller: %w", err)
		}
		if f.closer != nil {
			f.closer()
		}
		f.http, f.closer = client, closer
	}
	f.config = config
	f.trusted = snapshot.NewClient(f.http, f.store, config.Timeout)
	f.doubted = snapshot.NewClient(f.http, f.store, config.Timeout)
	return nil
}

func (f *fleet) close() {
	f.cancel()
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closer()
}

// newAgentClient makes what talks to agents. Certificates, keys and the token are
// read again when their files change.
func newAgentClient(config schedules.Controller) (client *http.Client, closer func(), err error) {
	c := commonconfig.HTTPClientConfig{TLSConfig: commonconfig.TLSConfig{
		CAFile: config.TLS.CAFile, CertFile: config.TLS.CertFile, KeyFile: config.TLS.KeyFile, ServerName: config.TLS.ServerName,
		MinVersion: commonconfig.TLSVersion(tls.VersionTLS13),
	}}
	if config.TokenFile != "" {
		c.Authorization = &commonconfig.Authorization{Type: "Bearer", CredentialsFile: config.TokenFile}
	}
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	// Agents are asked directly, whatever the environment says of proxies.
	client, err = commonconfig.NewClientFromConfig(c, "plumbline", commonconfig.WithHTTP2Disabled(),
		commonconfig.WithDialContextFunc((&net.Dialer{Timeout: dialTimeout}).DialContext))
	if err != nil {
		return nil, nil, err
	}
	return client, client.CloseIdleConnections, nil
}

// agentsOf lists the agents by node: those that are configured, and the running
// pods of agents.
func agentsOf(config *schedules.Controller, objects *cluster.Objects) map[string]*url.URL {
	all := make(map[string]*url.URL)
	if d := config.Discover; d.Namespace != "" {
		for i := range objects.Pods {
			pod := &objects.Pods[i]
			if pod.Namespace != d.Namespace || pod.Spec.NodeName == "" || pod.Status.PodIP == "" ||
				pod.Status.Phase != corev1.PodRunning || !d.Selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			all[pod.Spec.NodeName] = &url.URL{Scheme: "https", Host: net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(d.Port)))}
		}
	}
	for _, a := range config.Agents {
		all[a.Node] = a.URL
	}
	return all
}

// collect asks all agents for state that is at most maxAge old. It fails only when there is no agent
// to ask: one that does not answer leaves its node's namespaces without state.
func (f *fleet) collect(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, error) {
	f.mu.Lock()
	config := f.config
	f.mu.Unlock()
	// Ages are counted from these times, which keep their monotonic readings: UTC() drops them.
	snap := &simulator.Snapshot{Taken: time.Now(), Nodes: make(map[string]time.Time)}
	var err error
	if snap.Cluster, err = f.objects(); err != nil {
		// Those that were read last are better than none.
		f.log.Error("Kubernetes objects cannot be read; the last ones are used", "err", err)
		snap.Cluster, snap.Failures = f.known, map[string]string{"Kubernetes objects": err.Error()}
	}
	f.known = snap.Cluster
	agents := agentsOf(&config, &snap.Cluster)
	if len(agents) == 0 {
		return nil, errors.Join(errors.New("there is no agent: controller.agents names none, and no pod is one by controller.discover"), err)
	}
	f.mu.Lock()
	f.urls = agents
	f.mu.Unlock()
	maxAge = min(maxAge, maxFetchedAge)
	want := wanted{maxAge, snap.Taken.Add(-maxAge)}
	f.transfer(ctx, want, agents)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	own := collector.ByNode(&snap.Cluster)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.nodes)) {
		n := f.nodes[name]
		if agents[name] == nil {
			f.abandon(n)
			f.trusted.Release(n.state)
			delete(f.nodes, name)
			continue
		}
		// What is older than was asked for, as of an agent that cannot collect, says nothing of others.
		if n.err == nil && n.taken.Before(snap.Taken) && !n.taken.Before(want.notBefore) {
			snap.Taken = n.taken
		}
		f.merge(snap, name, n, own[name])
	}
	snap.Ended = time.Now()
	return snap, nil
}

// send has the agent of the source's node send a probe.
func (f *fleet) send(ctx context.Context, from simulator.Start, p confirm.Probe) (seen confirm.Seen, err error) {
	err = f.order(ctx, from.Namespace, p.Timeout, func(ctx context.Context, client *http.Client, agent *url.URL, namespace string) error {
		seen, err = confirm.Ask(ctx, client, agent, namespace, p)
		return err
	})
	return seen, err
}

// ask has the agent of the node ask a name server.
func (f *fleet) ask(ctx context.Context, q resolver.Question) (h confirm.Heard, err error) {
	err = f.order(ctx, q.Namespace, confirm.MaxTimeout, func(ctx context.Context, client *http.Client, agent *url.URL, namespace string) error {
		h, err = confirm.AskName(ctx, client, agent, namespace, q)
		return err
	})
	return h, err
}

// agents are those that are known at present, collected from or not. There are none of a bundle.
func (f *fleet) agents() ([]*url.URL, error) {
	if f == nil {
		return nil, nil
	}
	objects, err := f.objects()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	config := f.config
	f.mu.Unlock()
	if why, missing := objects.Missing["pods"]; missing && config.Discover.Namespace != "" {
		return nil, fmt.Errorf("the pods of the cluster are not known: %s", why)
	}
	return slices.Collect(maps.Values(agentsOf(&config, &objects))), nil
}

// tell tells an agent who leads.
func (f *fleet) tell(ctx context.Context, agent *url.URL, t witness.Term, grant bool) (witness.Answer, error) {
	f.mu.Lock()
	client := f.http
	f.mu.Unlock()
	return witness.Tell(ctx, client, agent, t, grant)
}

// order has fn give an order to the agent of a network namespace, who knows it by another
// name and takes a while to follow. Who does not answer is not asked.
func (f *fleet) order(ctx context.Context, namespace string, takes time.Duration, fn func(context.Context, *http.Client, *url.URL, string) error) error {
	node, name, ok := strings.Cut(namespace, "/") // see qualified
	f.mu.Lock()
	client, agent := f.http, f.urls[node]
	var silent error
	if n := f.nodes[node]; n != nil && agent != nil && n.silent(agent.String()) {
		silent = n.err
	}
	f.mu.Unlock()
	switch {
	case agent == nil || !ok:
		return fmt.Errorf("%s is on no node that has an agent", namespace)
	case silent != nil:
		return fmt.Errorf("agent of node %s: it did not hand over its state just now: %w", node, silent)
	}
	within, cancel := context.WithTimeout(ctx, orderTimeout+takes)
	defer cancel()
	if err := fn(within, client, agent, name); err != nil {
		return fmt.Errorf("agent of node %s: %w", node, err)
	}
	return nil
}

// maxFetchedAge is how old the state is that agents are asked for, at most.
const maxFetchedAge = 24 * time.Hour

// transfer asks all agents for state, and waits until they have answered, as far as they do in time.
func (f *fleet) transfer(ctx context.Context, want wanted, agents map[string]*url.URL) {
	late, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	soon, cancel := context.WithTimeout(ctx, doubtPatience)
	defer cancel()
	var group sync.WaitGroup
	for name, agent := range agents {
		group.Go(func() { f.await(soon, late, name, agent, want) })
	}
	group.Wait()
}

// await asks one agent. What has begun before is waited for first, and may be too old.
func (f *fleet) await(soon, late context.Context, name string, agent *url.URL, want wanted) {
	for again := true; again; {
		fetch, until := f.begin(name, agent, want), late
		f.mu.Lock()
		if fetch.doubtful {
			until = soon
		}
		f.mu.Unlock()
		again = fetch.notBefore.Before(want.notBefore)
		select {
		case <-fetch.done:
		case <-until.Done():
			f.mu.Lock()
			fetch.doubtful = true
			f.mu.Unlock()
			return
		}
	}
}

// begin begins to fetch a node's state, unless that goes on already.
func (f *fleet) begin(name string, agent *url.URL, want wanted) *fetch {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	if n == nil {
		n = &node{members: make(map[*netstack.Namespace]*netstack.Namespace)}
		f.nodes[name] = n
	}
	address := agent.String()
	if n.fetch != nil && n.agent == address {
		return n.fetch
	}
	f.abandon(n) // it is another agent's
	ctx, cancel := context.WithCancel(f.ctx)
	now := &fetch{wanted: want, doubtful: n.silent(address), cancel: cancel, done: make(chan struct{})}
	n.fetch, n.agent = now, address
	client, before := f.trusted, n.state
	if now.doubtful {
		client = f.doubted
	}
	f.running.Go(func() {
		defer close(now.done)
		defer cancel()
		fetched, err := client.Fetch(ctx, agent, want.maxAge, before)
		if err == nil && fetched.State.Manifest.Node != name {
			// No agent speaks for another node.
			err = fmt.Errorf("%s answers for node %q", agent.Host, fetched.State.Manifest.Node)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		current := n.fetch == now
		if current {
			n.fetch = nil
			f.answered(client, name, n, fetched, err)
		}
		if (err != nil || !current) && fetched.State != before {
			client.Release(fetched.State)
		}
	})
	return now
}

// abandon ends a fetch of which nobody wants to know any more.
func (f *fleet) abandon(n *node) {
	if n.fetch != nil {
		n.fetch.cancel()
		n.fetch = nil
	}
}

// silent says that the agent did not answer when it was last asked.
func (n *node) silent(agent string) bool { return n.err != nil && n.agent == agent }

func (f *fleet) answered(client *snapshot.Client, name string, n *node, fetched snapshot.Fetched, err error) {
	if (err == nil) != (n.err == nil) || n.taken.IsZero() && n.err == nil {
		if err != nil {
			f.log.Error("agent does not answer", "node", name, "err", err)
		} else {
			f.log.Info("agent answers", "node", name, "namespaces", len(fetched.State.Namespaces))
		}
	}
	n.err = err
	if err != nil {
		return
	}
	n.bytes += fetched.Bytes
	if fetched.State != n.state {
		client.Release(n.state)
	}
	n.state, n.taken, n.absent = fetched.State, fetched.Taken, nil
}

// merge adds the namespaces of a node, of whose objects own are.
func (f *fleet) merge(snap *simulator.Snapshot, name string, n *node, own cluster.Objects) {
	err := n.err
	if err == nil && n.state == nil {
		err = errors.New("it has not answered yet")
	}
	failed := func(what, why string) {
		if snap.Failures == nil {
			snap.Failures = make(map[string]string)
		}
		snap.Failures[what] = why
	}
	if err != nil {
		failed("agent of node "+name, err.Error())
	}
	if n.state == nil {
		return
	}
	for what, why := range n.state.Manifest.Failures {
		failed("node "+name+": "+what, why)
	}
	snap.Nodes[name] = n.taken
	if snap.Kernel == "" {
		snap.Kernel = n.state.Manifest.Kernel
	}
	if n.err == nil || n.absent == nil {
		own.Missing = snap.Cluster.Missing
		n.refresh(name, own, len(snap.Cluster.Pods)+len(snap.Cluster.Nodes) > 0)
	}
	if n.err == nil {
		snap.Namespaces = append(snap.Namespaces, n.sorted()...)
		return
	}
	if n.absent == nil {
		for _, ns := range n.sorted() {
			n.absent = append(n.absent, without(ns, netstack.Status{
				State: netstack.StateMissing, Detail: fmt.Sprintf("the agent of node %s does not answer: %v", name, n.err),
			}))
		}
	}
	snap.Namespaces = append(snap.Namespaces, n.absent...)
}

// refresh makes the members from what was fetched. One that is the same as before
// stays the same pointer: it is not compiled again.
func (n *node) refresh(name string, own cluster.Objects, known bool) {
	fresh := make([]*netstack.Namespace, len(n.state.Namespaces))
	for i, ns := range n.state.Namespaces {
		member := *ns
		fresh[i] = &member
	}
	if known { // else they are whose their agent says
		collector.Identify(name, fresh, own)
	}
	members := make(map[*netstack.Namespace]*netstack.Namespace, len(fresh))
	for i, ns := range n.state.Namespaces {
		member := fresh[i]
		member.Node, member.Name = name, qualified(name, ns.Name)
		old := n.members[ns]
		if old != nil && old.Kind == member.Kind && old.Pod == member.Pod {
			members[ns] = old
			continue
		}
		member.Facts = qualifiedFacts(name, ns.Facts)
		member.NSIDs = make(map[int]string, len(ns.NSIDs))
		for id, peer := range ns.NSIDs {
			member.NSIDs[id] = qualified(name, peer)
		}
		members[ns] = member
	}
	n.members = members
}

func (n *node) sorted() []*netstack.Namespace {
	all := make([]*netstack.Namespace, 0, len(n.members))
	for _, ns := range n.state.Namespaces {
		all = append(all, n.members[ns])
	}
	return all
}

// qualified is the name of a node's network namespace in the cluster: every node
// has one that is called host.
func qualified(node, namespace string) string { return node + "/" + namespace }

// qualifiedFacts are those of a node's host, whose messages name namespaces.
func qualifiedFacts(node string, facts *netstack.HostFacts) *netstack.HostFacts {
	if facts == nil {
		return nil
	}
	own := *facts
	own.Messages = slices.Clone(facts.Messages)
	for i := range own.Messages {
		if m := &own.Messages[i]; m.Namespace != "" {
			m.Namespace = qualified(node, m.Namespace)
		}
	}
	return &own
}

// without is a namespace of which nothing is known but who was there: its links
// and addresses say who would have answered.
func without(ns *netstack.Namespace, why netstack.Status) *netstack.Namespace {
	rest := &netstack.Namespace{
		Name: ns.Name, Kind: ns.Kind, Node: ns.Node, Pod: ns.Pod, PodUID: ns.PodUID, Taken: ns.Taken, Cookie: ns.Cookie, NSIDs: ns.NSIDs,
		Links: ns.Links, Addresses: ns.Addresses,
	}
	for part := range ns.Parts {
		rest.SetPart(part, why)
	}
	return rest
}

// Describe implements prometheus.Collector.
func (f *fleet) Describe(ch chan<- *prometheus.Desc) {
	ch <- f.up
	ch <- f.bytes
	ch <- f.blobs
	if f.cluster != nil {
		f.cluster.describe(ch)
		collector.NewMetrics(collector.New(collector.Options{})).Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	f.cluster.collect(ch)
	_, size := f.store.Len()
	ch <- prometheus.MustNewConstMetric(f.blobs, prometheus.GaugeValue, float64(size))
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.nodes {
		if n.err != nil || n.state != nil { // else it has not had the time to answer yet
			ch <- prometheus.MustNewConstMetric(f.up, prometheus.GaugeValue, truth(n.err == nil), name)
		}
		ch <- prometheus.MustNewConstMetric(f.bytes, prometheus.CounterValue, float64(n.bytes), name)
	}
}
