package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// resource is a client for the objects of one kind; in all namespaces if
// namespace is "".
func (c *Cluster) resource(version, kind, namespace string) dynamic.ResourceInterface {
	gv, _ := schema.ParseGroupVersion(version)
	plural := strings.ToLower(kind) + "s"
	if p, ok := strings.CutSuffix(plural, "ys"); ok {
		plural = p + "ies"
	}
	return c.API.Resource(gv.WithResource(plural)).Namespace(namespace)
}

// clusterScoped are the kinds that live in no namespace.
var clusterScoped = []string{"Namespace", "Node"}

func (c *Cluster) resourceOf(o *unstructured.Unstructured) dynamic.ResourceInterface {
	if o.GetNamespace() == "" && !slices.Contains(clusterScoped, o.GetKind()) {
		o.SetNamespace("default")
	}
	return c.resource(o.GetAPIVersion(), o.GetKind(), o.GetNamespace())
}

// Apply creates the objects of a manifest. A status in it is written, too, as
// the one who is in charge of it would.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	objects, err := parse(manifest)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if _, err := c.resourceOf(o).Create(ctx, o, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		status := o.Object["status"]
		if status == nil {
			continue
		}
		patch, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			return err
		}
		if _, err := c.resourceOf(o).Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("write the status of %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// Patch changes an object of a kind of version v1, and waits until lists have it so.
func (c *Cluster) Patch(ctx context.Context, kind, namespace, name, patch string) error {
	return c.patch(ctx, kind, namespace, name, patch)
}

// PatchStatus is Patch of what the object's controller says of it.
func (c *Cluster) PatchStatus(ctx context.Context, kind, namespace, name, patch string) error {
	return c.patch(ctx, kind, namespace, name, patch, "status")
}

func (c *Cluster) patch(ctx context.Context, kind, namespace, name, patch string, subresources ...string) error {
	resource := c.resource("v1", kind, namespace)
	changed, err := resource.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	if err != nil {
		return err
	}
	version := func(o *unstructured.Unstructured) (n uint64) {
		n, _ = strconv.ParseUint(o.GetResourceVersion(), 10, 64)
		return n
	}
	// Lists come from the API server's cache.
	return await(ctx, "the change of "+name+" is in lists", func(ctx context.Context) error {
		all, err := resource.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range all.Items {
			if o := &all.Items[i]; o.GetName() == name && version(o) < version(changed) {
				return fmt.Errorf("it is of version %s still", o.GetResourceVersion())
			}
		}
		return nil
	})
}

// DeleteGently asks for an object to be deleted, of a kind of version v1 or a
// network policy. A pod is terminating then until its grace has passed.
func (c *Cluster) DeleteGently(ctx context.Context, kind, namespace, name string) error {
	version := "v1"
	if kind == "NetworkPolicy" {
		version = "networking.k8s.io/v1"
	}
	return c.resource(version, kind, namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// Delete deletes the objects of a manifest, and waits until they and the pods
// that they had are gone. Objects that are gone already are no error.
func (c *Cluster) Delete(ctx context.Context, manifest string) error {
	objects, err := parse(manifest)
	if err != nil {
		return err
	}
	now, owned := int64(0), metav1.DeletePropagationForeground
	for _, o := range slices.Backward(objects) {
		err := c.resourceOf(o).Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &owned})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return await(ctx, "the objects are gone", func(ctx context.Context) error {
		for _, o := range objects {
			if _, err := c.resourceOf(o).Get(ctx, o.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return errors.Join(fmt.Errorf("%s %s is there", o.GetKind(), o.GetName()), err)
			}
		}
		return c.removed(ctx)
	})
}

// removed says in its error which pods still run, though their objects are gone.
func (c *Cluster) removed(ctx context.Context) error {
	pods, err := c.resource("v1", "Pod", "").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	there := map[types.UID]bool{}
	for i := range pods.Items {
		there[pods.Items[i].GetUID()] = true
	}
	for _, k := range c.kubelets {
		k.mu.Lock()
		running := slices.Collect(maps.Keys(k.pods))
		k.mu.Unlock()
		for _, uid := range running {
			if !there[uid] {
				return fmt.Errorf("a pod of %s still runs", k.node.name)
			}
		}
	}
	return nil
}

// objects returns what lists the objects that tests wait for. It does not watch:
// what it says is what the API says now.
func (c *Cluster) objects(ctx context.Context) func() (cluster.Objects, error) {
	return func() (o cluster.Objects, err error) {
		err = errors.Join(
			list(ctx, c.resource("v1", "Namespace", ""), &o.Namespaces),
			list(ctx, c.resource("v1", "Node", ""), &o.Nodes),
			list(ctx, c.resource("v1", "Pod", ""), &o.Pods),
			list(ctx, c.resource("v1", "Service", ""), &o.Services),
			list(ctx, c.resource("discovery.k8s.io/v1", "EndpointSlice", ""), &o.EndpointSlices),
			list(ctx, c.resource("networking.k8s.io/v1", "NetworkPolicy", ""), &o.NetworkPolicies),
		)
		return o, err
	}
}

func list[T any](ctx context.Context, from dynamic.ResourceInterface, into *[]T) error {
	objects, err := from.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range objects.Items {
		var o T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects.Items[i].Object, &o); err != nil {
			return fmt.Errorf("%s %s: %w", objects.Items[i].GetKind(), objects.Items[i].GetName(), err)
		}
		*into = append(*into, o)
	}
	return nil
}

// Settled waits until all that the API has been told is done: pods run, each
// service has the endpoints of its pods, and the proxies of the nodes named
// have programmed them.
func (c *Cluster) Settled(ctx context.Context, proxies ...string) error {
	if err := await(ctx, "pods run and services have their endpoints", func(ctx context.Context) error {
		o, err := c.objects(ctx)()
		if err != nil {
			return err
		}
		return errors.Join(context.Cause(c.background), unsettled(&o), c.deployed(ctx), c.removed(ctx))
	}); err != nil {
		return err
	}
	return c.Programmed(ctx, proxies...)
}

// deployed says in its error which deployments lack pods.
func (c *Cluster) deployed(ctx context.Context) error {
	sets, err := c.resource("apps/v1", "Deployment", "").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range sets.Items {
		wanted, _, _ := unstructured.NestedInt64(sets.Items[i].Object, "spec", "replicas")
		there, _, _ := unstructured.NestedInt64(sets.Items[i].Object, "status", "replicas")
		if wanted != there {
			return fmt.Errorf("deployment %s has %d pods of %d", sets.Items[i].GetName(), there, wanted)
		}
	}
	return nil
}

// unsettled says in its error what is still to be done.
func unsettled(o *cluster.Objects) error {
	type end struct {
		address string
		ready   bool
	}
	for i := range o.Pods {
		if p := &o.Pods[i]; p.Spec.NodeName != "" && p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("pod %s/%s is %s", p.Namespace, p.Name, p.Status.Phase)
		}
	}
	for i := range o.Services {
		s := &o.Services[i]
		if len(s.Spec.Selector) == 0 {
			continue
		}
		wanted, there := map[end]bool{}, map[end]bool{}
		for j := range o.Pods {
			p := &o.Pods[j]
			if p.Namespace != s.Namespace || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
				continue
			}
			ready := p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) || s.Spec.PublishNotReadyAddresses
			for _, ip := range p.Status.PodIPs {
				for _, family := range s.Spec.IPFamilies {
					if (family == corev1.IPv6Protocol) == strings.Contains(ip.IP, ":") {
						wanted[end{ip.IP, ready}] = true
					}
				}
			}
		}
		for j := range o.EndpointSlices {
			slice := &o.EndpointSlices[j]
			if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name {
				continue
			}
			for _, e := range slice.Endpoints {
				for _, a := range e.Addresses {
					there[end{a, e.Conditions.Ready == nil || *e.Conditions.Ready}] = true
				}
			}
		}
		if !maps.Equal(wanted, there) {
			return fmt.Errorf("service %s/%s has the endpoints %v, its pods are %v", s.Namespace, s.Name, there, wanted)
		}
	}
	return nil
}
