package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// Options say how to watch. The zero value is useful.
type Options struct {
	// Log receives what goes wrong, once for each change; slog.Default when nil.
	Log *slog.Logger

	// Retry is the first wait after a failure; the longest is 16 times that. A second
	// when zero.
	Retry time.Duration
	// Discover is the time between two looks at which kinds of policies there are; 30
	// seconds when zero.
	Discover time.Duration
	// Node, if not empty, is all that is read: the node of this name and its pods.
	// That is what the agent of a node needs to know whose its namespaces are.
	Node string
}

// Watcher keeps the state of a cluster while it runs. Its methods may be called
// by several goroutines.
type Watcher struct {
	options Options
	client  *client

	mu         sync.Mutex // guards what the stores and resources hold
	generation uint64
	changed    chan struct{} // closed and replaced when a resource was read, or was not
	pods       *store[corev1.Pod]
	nodes      *store[corev1.Node]
	services   *store[corev1.Service]
	slices     *store[discoveryv1.EndpointSlice]
	namespaces *store[corev1.Namespace]
	policies   *store[networkingv1.NetworkPolicy]
	others     *otherPolicies
	fillers    []func(context.Context)
	state      *State // the last one that was asked for, of this generation
}

// State is what was known of a cluster at one moment.
type State struct {
	// Objects must not be changed; later states share parts of them. Current in
	// them is zero if nothing was ever read.
	Objects cluster.Objects
	// Generation is another number whenever Objects are other ones, but for Current.
	Generation uint64
}

// New returns a watcher. It asks nothing before Run.
func New(config *rest.Config, options Options) (*Watcher, error) {
	if options.Log == nil {
		options.Log = slog.Default()
	}
	if options.Retry == 0 {
		options.Retry = time.Second
	}
	if options.Discover == 0 {
		options.Discover = 30 * time.Second
	}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	w := &Watcher{options: options, client: c, changed: make(chan struct{})}
	ofNode, itself := "", ""
	if options.Node != "" {
		ofNode, itself = "spec.nodeName="+options.Node, "metadata.name="+options.Node
	}
	core, discovery, networking := corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion
	w.pods = add(w, "pods", c.source(core, "pods", ofNode, func() runtime.Object { return new(corev1.PodList) }), keepPod)
	w.nodes = add(w, "nodes", c.source(core, "nodes", itself, func() runtime.Object { return new(corev1.NodeList) }), cluster.KeepNode)
	ofAgent := w.fillers
	w.services = add(w, "services", c.source(core, "services", "", func() runtime.Object { return new(corev1.ServiceList) }), cluster.KeepService)
	w.slices = add(w, "endpointslices", c.source(discovery, "endpointslices", "", func() runtime.Object { return new(discoveryv1.EndpointSliceList) }), keepEndpointSlice)
	w.namespaces = add(w, "namespaces", c.source(core, "namespaces", "", func() runtime.Object { return new(corev1.NamespaceList) }), cluster.KeepNamespace)
	w.policies = add(w, "networkpolicies", c.source(networking, "networkpolicies", "", func() runtime.Object { return new(networkingv1.NetworkPolicyList) }), cluster.KeepNetworkPolicy)
	w.others = &otherPolicies{resource: &resource{watcher: w, name: otherPoliciesName}, stores: map[schema.GroupVersionResource]*policyStore{}}
	w.fillers = append(w.fillers, func(ctx context.Context) { w.others.run(ctx, c) })
	if options.Node != "" {
		w.fillers = ofAgent
		for _, r := range []*resource{w.services.resource, w.slices.resource, w.namespaces.resource, w.policies.resource, w.others.resource} {
			r.unwanted = true
		}
	}
	return w, nil
}

// add makes the store of a resource that every cluster has.
func add[T any](w *Watcher, name string, from source, keep func(*T) T) *store[T] {
	s := newStore(func(object any) (T, error) { return keep(any(object).(*T)), nil })
	s.resource = &resource{watcher: w, name: name}
	w.fillers = append(w.fillers, func(ctx context.Context) { s.fill(ctx, from, cache.ReflectorStore(s)) })
	return s
}

// Run reads and watches until ctx ends. A watcher runs once.
func (w *Watcher) Run(ctx context.Context) {
	defer w.client.close()
	var running sync.WaitGroup
	for _, fill := range w.fillers {
		running.Go(func() { fill(ctx) })
	}
	running.Wait()
}

// State returns what is known at this moment. Asked twice for one generation, it
// returns the same objects.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil || w.state.Generation != w.generation {
		w.state = &State{Objects: w.objects(), Generation: w.generation}
	}
	state := *w.state
	state.Objects.Current = w.currentAt(time.Now())
	return state
}

func (w *Watcher) objects() cluster.Objects {
	o := cluster.Objects{
		Pods: objects(w.pods), Nodes: objects(w.nodes), Services: objects(w.services),
		EndpointSlices: objects(w.slices), Namespaces: objects(w.namespaces), NetworkPolicies: objects(w.policies),
	}
	for _, other := range w.others.sorted() {
		o.AddOtherPolicies(objects(other.store))
	}
	for _, r := range w.resources() {
		if why := r.missing(); why != "" {
			if o.Missing == nil {
				o.Missing = map[string]string{}
			}
			o.Missing[r.name] = why
		}
	}
	return o
}

// currentAt is the last moment, at most now, at which all that is known was current.
func (w *Watcher) currentAt(now time.Time) time.Time {
	current, any := now, false
	for _, r := range w.resources() {
		if r.missing() != "" {
			continue
		}
		any = true
		if !r.current && r.until.Before(current) {
			current = r.until
		}
	}
	if !any {
		return time.Time{}
	}
	return current
}

// objects are those of a store; none if it is not known what there is.
func objects[T any](s *store[T]) []T {
	if s.missing() != "" {
		return nil
	}
	return s.share()
}

// resources lists all, those that come and go in the order of their names. The
// caller holds the lock.
func (w *Watcher) resources() []*resource {
	all := []*resource{
		w.pods.resource, w.nodes.resource, w.services.resource, w.slices.resource,
		w.namespaces.resource, w.policies.resource, w.others.resource,
	}
	for _, other := range w.others.sorted() {
		all = append(all, other.resource)
	}
	return all
}

// tell wakes those who wait. The caller holds the lock.
func (w *Watcher) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Settle waits until each resource was read or refused, or ctx ends. Its error
// names what was not read, and why.
func (w *Watcher) Settle(ctx context.Context) error {
	return w.wait(ctx, (*resource).settled)
}

func (w *Watcher) wait(ctx context.Context, enough func(*resource) bool) error {
	for {
		w.mu.Lock()
		var lacking []error
		waiting := false
		for _, r := range w.resources() {
			if !r.settled() {
				lacking = append(lacking, fmt.Errorf("%s: %s", r.name, r.missing()))
			}
			waiting = waiting || !enough(r)
		}
		changed := w.changed
		w.mu.Unlock()
		if !waiting {
			return errors.Join(lacking...)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(append(lacking, ctx.Err())...)
		}
	}
}

// Read reads the state of a cluster once. A server that cannot be reached is an
// error; what it refuses is missing from the objects.
func Read(ctx context.Context, config *rest.Config, log *slog.Logger) (cluster.Objects, error) {
	w, err := New(config, Options{Log: log})
	if err != nil {
		return cluster.Objects{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(done)
	}()
	err = w.wait(ctx, func(r *resource) bool { return r.settled() || r.err != nil })
	state := w.State()
	cancel()
	<-done
	if err != nil {
		return cluster.Objects{}, fmt.Errorf("kubernetes: %w", err)
	}
	return state.Objects, nil
}
