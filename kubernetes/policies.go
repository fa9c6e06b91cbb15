package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// otherPolicies are policies of kinds that not every cluster has. Which it has
// is asked again and again: custom resources come and go.
type otherPolicies struct {
	*resource // of asking
	stores    map[schema.GroupVersionResource]*policyStore
	running   sync.WaitGroup
}

type policyStore struct {
	*store[cluster.OtherPolicy]
	cancel context.CancelFunc
}

// otherPoliciesName is the name of the resource that stands for all of them.
const otherPoliciesName = "otherpolicies"

// run asks until ctx ends, and keeps a store filled for each kind that there is.
func (p *otherPolicies) run(ctx context.Context, c *client) {
	defer p.running.Wait()
	tick := time.NewTicker(p.watcher.options.Discover)
	defer tick.Stop()
	for {
		p.begins()
		if found, err := findPolicies(ctx, c); err != nil {
			p.fails(ctx, err)
		} else {
			p.found(ctx, c, found)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// found begins and ends stores so that there is one for each kind.
func (p *otherPolicies) found(ctx context.Context, c *client, found map[schema.GroupVersionResource]bool) {
	p.watcher.mu.Lock()
	defer p.watcher.mu.Unlock()
	for gvr, s := range p.stores {
		if found[gvr] {
			continue
		}
		s.cancel()
		delete(p.stores, gvr)
		p.watcher.generation++
		p.watcher.options.Log.Info("kubernetes: policies of a kind are gone from the API", "resource", s.name)
	}
	for gvr := range found {
		if p.stores[gvr] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		s := newStore(keepPolicy)
		s.resource = &resource{watcher: p.watcher, name: gvr.Resource + "." + gvr.Group, until: time.Now()}
		p.stores[gvr] = &policyStore{s, cancel}
		p.watcher.generation++
		p.running.Go(func() { s.fill(ctx, c.untyped(gvr), s) })
	}
	p.open = true // until the next time
	p.allowed()
	p.listed()
}

// sorted lists the stores by the names of their resources. The caller holds
// the lock.
func (p *otherPolicies) sorted() []*policyStore {
	return slices.SortedFunc(maps.Values(p.stores), func(a, b *policyStore) int { return cmp.Compare(a.name, b.name) })
}

func keepPolicy(object any) (cluster.OtherPolicy, error) {
	u := object.(*unstructured.Unstructured)
	return cluster.KeepOtherPolicy(u.Object)
}

// findPolicies asks which resources hold policies, and in which version: the
// first that has the kind, as the group lists versions, so the preferred one
// if it does.
func findPolicies(ctx context.Context, c *client) (map[schema.GroupVersionResource]bool, error) {
	var groups metav1.APIGroupList
	if err := c.get(ctx, &groups, "/apis"); err != nil {
		return nil, err
	}
	found := map[schema.GroupVersionResource]bool{}
	for _, group := range groups.Groups {
		if !cluster.HasPolicies(group.Name) {
			continue
		}
		kinds := map[string]bool{}
		for _, version := range group.Versions {
			var resources metav1.APIResourceList
			err := c.get(ctx, &resources, "/apis", group.Name, version.Version)
			if apierrors.IsNotFound(err) {
				continue // it has just gone
			}
			if err != nil {
				return nil, fmt.Errorf("which policies %s has: %w", version.GroupVersion, err)
			}
			for _, r := range resources.APIResources {
				if strings.Contains(r.Name, "/") || kinds[r.Kind] || !cluster.IsOtherPolicy(version.GroupVersion, r.Kind) {
					continue
				}
				kinds[r.Kind] = true
				found[schema.GroupVersionResource{Group: group.Name, Version: version.Version, Resource: r.Name}] = true
			}
		}
	}
	return found, nil
}
