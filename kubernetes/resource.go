package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// resource is one resource of the API, and how reading it goes.
type resource struct {
	watcher *Watcher
	// name is the resource's, as RBAC has it, with the group for those that not
	// every cluster has: "pods", "ciliumnetworkpolicies.cilium.io".
	name string
	// unwanted says that it is not read at all.
	unwanted bool

	// Guarded by watcher.mu.
	read     bool      // it was listed once, at least
	open     bool      // a watch is open
	current  bool      // the store holds what the API server has
	until    time.Time // when it last was current, if it is not
	refused  error     // the API server does not let it be read
	refusing time.Time // when it began to say so; zero if it did not
	err      error     // the last failure, nil when it went well since
	began    time.Time // of the list that goes on
	duration time.Duration
}

// fill keeps a store filled until ctx ends.
func (r *resource) fill(ctx context.Context, from source, store cache.ReflectorStore) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			if options.Continue == "" {
				r.begins()
			}
			list, err := from.list(ctx, options)
			if err != nil {
				r.fails(ctx, err)
				return nil, err
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			lists := options.SendInitialEvents != nil && *options.SendInitialEvents
			if lists {
				r.begins()
			}
			w, err := from.watch(ctx, options)
			if err != nil {
				r.fails(ctx, err)
				if lists && !errors.As(err, new(apierrors.APIStatus)) {
					// The reflector would wait, deaf to ctx (watchList in reflector.go),
					// if it knew that the connection was refused. It lists instead.
					err = errors.New(err.Error())
				}
				return nil, err
			}
			r.opens(!lists)
			return &watched{w, r}, nil
		},
	}
	discard := logr.Discard() // fails says what there is to say, and once
	cache.NewReflectorWithOptions(lw, nil, store, cache.ReflectorOptions{
		Name: r.name, TypeDescription: r.name, Logger: &discard,
		Backoff: &wait.Backoff{Duration: r.watcher.options.Retry, Factor: 2, Jitter: 0.5, Steps: 5, Cap: 16 * r.watcher.options.Retry},
	}).RunWithContext(logr.NewContext(ctx, discard))
}

// watched tells when a watch ends: a reflector stops each that it was given.
type watched struct {
	watch.Interface
	resource *resource
}

func (w *watched) Stop() {
	w.resource.closes()
	w.Interface.Stop()
}

func (r *resource) begins() {
	r.watcher.mu.Lock()
	defer r.watcher.mu.Unlock()
	r.began = time.Now()
}

// opens notes that a watch is open. One that goes on where an earlier one ended
// is current at once; one that lists first is when all has come.
func (r *resource) opens(current bool) {
	r.watcher.mu.Lock()
	defer r.watcher.mu.Unlock()
	r.open, r.current = true, current
	r.allowed()
	if current {
		r.well()
	}
}

func (r *resource) closes() {
	r.watcher.mu.Lock()
	defer r.watcher.mu.Unlock()
	r.outdated()
	r.open = false
}

func (r *resource) outdated() {
	if r.current {
		r.current, r.until = false, time.Now()
	}
}

// listed notes that the store holds all there is. The caller holds the lock.
func (r *resource) listed() {
	r.changes(func() { r.read = true })
	now := time.Now()
	r.duration, r.until = now.Sub(r.began), now
	if r.current = r.open; r.current {
		r.well()
	}
	r.watcher.tell()
}

func (r *resource) well() {
	if r.err != nil {
		r.watcher.options.Log.Info("kubernetes: reading goes on", "resource", r.name)
		r.err = nil
	}
}

// fails notes that a request failed. If the server says no, and goes on to, the
// objects are not known any more; else it is away, and what it said last holds.
func (r *resource) fails(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.watcher.mu.Lock()
	defer r.watcher.mu.Unlock()
	r.outdated()
	if r.err == nil {
		r.watcher.options.Log.Warn("kubernetes: reading fails", "resource", r.name, "err", err)
	}
	r.changes(func() {
		r.err = err
		if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
			r.refusing = time.Time{}
			return
		}
		now := time.Now()
		if r.refusing.IsZero() {
			r.refusing = now
		}
		// A server that has just started refuses everything, until it has read the
		// roles of its accounts.
		if !r.read || now.Sub(r.refusing) > 10*r.watcher.options.Retry {
			r.refused = err
		}
	})
	r.watcher.tell()
}

// allowed notes that the API server does not refuse. The caller holds the lock.
func (r *resource) allowed() {
	r.changes(func() { r.refused, r.refusing = nil, time.Time{} })
}

// changes makes a change after which something else may be missing than before.
// The caller holds the lock.
func (r *resource) changes(change func()) {
	before := r.missing()
	change()
	if r.missing() != before {
		r.watcher.generation++
	}
}

// missing says why the objects of the resource are not known; empty if they
// are. The caller holds the lock.
func (r *resource) missing() string {
	switch {
	case r.unwanted:
		return "the agent of a node does not read them"
	case r.refused != nil && apierrors.IsForbidden(r.refused):
		return "the API server forbids to list and watch them"
	case r.refused != nil:
		return fmt.Sprintf("the API server does not serve them: %v", r.refused)
	case r.read:
		return ""
	case r.err != nil:
		return fmt.Sprintf("they were not read yet: %v", r.err)
	}
	return "they were not read yet"
}

// settled says whether there is an answer to what the resource holds, be it a
// refusal. The caller holds the lock.
func (r *resource) settled() bool { return r.read || r.refused != nil || r.unwanted }
