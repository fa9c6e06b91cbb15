package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// kubelet stands in for a node's kubelet: it runs the pods that are bound to
// the node. What would be a process in an image is a container's args, each a
// socket to open: tcp/8080. Only the image coredns is a program. A process that
// does nothing holds what the pod sees of /etc.
type kubelet struct {
	cluster *Cluster
	node    *node

	mu   sync.Mutex
	pods map[types.UID]*pod
}

// pod is one that runs.
type pod struct {
	attachment *attachment // nil with hostNetwork
	sockets    []io.Closer
	processes  []string
	dns        string // the network namespace in which it answers DNS
}

// run follows the node's pods until ctx ends.
func (k *kubelet) run(ctx context.Context) error {
	mine := metav1.ListOptions{FieldSelector: "spec.nodeName=" + k.node.name}
	for ctx.Err() == nil {
		// Watches end after some minutes: the list tells what was missed.
		list, err := k.cluster.resource("v1", "Pod", "").List(ctx, mine)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		there := map[types.UID]bool{}
		for i := range list.Items {
			there[list.Items[i].GetUID()] = true
			if err := k.sync(ctx, &list.Items[i]); err != nil {
				return err
			}
		}
		for uid := range k.pods {
			if !there[uid] {
				if err := k.remove(ctx, uid); err != nil {
					return err
				}
			}
		}
		if err := k.follow(ctx, mine, list.GetResourceVersion()); err != nil {
			return err
		}
	}
	return nil
}

func (k *kubelet) follow(ctx context.Context, mine metav1.ListOptions, from string) error {
	mine.ResourceVersion = from
	w, err := k.cluster.resource("v1", "Pod", "").Watch(ctx, mine)
	if err != nil {
		return nil // the next list says whether it is serious
	}
	defer w.Stop()
	for {
		var event watch.Event
		select {
		case <-ctx.Done():
			return nil
		case event = <-w.ResultChan():
		}
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok { // the watch is over, or has failed
			return nil
		}
		switch event.Type {
		case watch.Added, watch.Modified:
			err = k.sync(ctx, object)
		case watch.Deleted:
			err = k.remove(ctx, object.GetUID())
		}
		if err != nil {
			return err
		}
	}
}

// sync starts a pod that does not run. One that is being deleted runs on until
// its object is gone: its process takes all the grace there is.
func (k *kubelet) sync(ctx context.Context, object *unstructured.Unstructured) error {
	if n, _, _ := unstructured.NestedString(object.Object, "spec", "nodeName"); n != k.node.name {
		return nil
	}
	if k.pods[object.GetUID()] != nil || object.GetDeletionTimestamp() != nil {
		return nil
	}
	var p corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &p); err != nil {
		return err
	}
	started, addrs, err := k.start(ctx, &p)
	k.mu.Lock()
	k.pods[p.UID] = started
	k.mu.Unlock()
	if err == nil {
		err = k.report(ctx, &p, addrs)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("run pod %s/%s on %s: %w", p.Namespace, p.Name, k.node.name, err)
	}
	return nil
}

func (k *kubelet) start(ctx context.Context, object *corev1.Pod) (*pod, []string, error) {
	id := object.Namespace + "/" + object.Name
	netns := k.cluster.Netns(k.node.name)
	p := &pod{}
	addrs := []string{k.node.addrs[0].String(), k.node.addrs[1].String()}
	if !object.Spec.HostNetwork {
		netns = k.cluster.Netns(id)
		a := &attachment{id: string(object.UID), netns: netns}
		for _, c := range object.Spec.Containers {
			for _, port := range c.Ports {
				if port.HostPort != 0 {
					a.ports = append(a.ports, portMapping{int64(port.HostPort), int64(port.ContainerPort), string(port.Protocol), port.HostIP})
				}
			}
		}
		if err := makeNetns(ctx, netns); err != nil {
			return p, nil, err
		}
		p.attachment = a
		var err error
		if addrs, err = k.cluster.attach(ctx, k.node, a); err != nil {
			return p, nil, err
		}
	}
	for _, c := range object.Spec.Containers {
		sockets, err := listen(netns, id, c.Args)
		p.sockets = append(p.sockets, sockets...)
		if err == nil {
			err = k.startProcesses(ctx, p, object, &c)
		}
		if err != nil {
			return p, nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return p, addrs, nil
}

// startProcesses starts those of a container. Pods in their node's network have no
// files of their own.
func (k *kubelet) startProcesses(ctx context.Context, p *pod, object *corev1.Pod, container *corev1.Container) error {
	id := object.Namespace + "/" + object.Name
	name, place := containerName(id), id
	if p.attachment == nil {
		place = k.node.name
	}
	etc, err := k.cluster.writeEtc(object, name)
	if err != nil {
		return err
	}
	if len(p.processes) == 0 && p.attachment != nil {
		if err := k.cluster.startContainer(name, place, etc, "sleep", "infinity"); err != nil {
			return err
		}
		p.processes = append(p.processes, name)
	}
	if container.Image != dnsImage {
		return nil
	}
	name = dnsImage + "-" + name
	relay, err := k.cluster.startDNS(ctx, place, name, etc)
	if relay != nil {
		p.sockets = append(p.sockets, relay)
	}
	if err == nil {
		p.processes, p.dns = append(p.processes, name), k.cluster.Netns(place)
	}
	return err
}

// containerName is what a pod's first process is called.
func containerName(pod string) string { return "pod-" + slashes.ReplaceAllString(pod, "-") }

// report writes the pod's status.
func (k *kubelet) report(ctx context.Context, object *corev1.Pod, addrs []string) error {
	now := metav1.Now()
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: k.node.addrs[0].String(), PodIP: addrs[0], StartTime: &now,
		HostIPs: []corev1.HostIP{{IP: k.node.addrs[0].String()}, {IP: k.node.addrs[1].String()}},
	}
	for _, a := range addrs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: a})
	}
	ready := corev1.ConditionTrue
	for _, c := range object.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, Ready: k.probe(ctx, c.ReadinessProbe, addrs[0]), Image: c.Image, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}
		if !s.Ready {
			ready = corev1.ConditionFalse
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: ready, LastTransitionTime: now})
	}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = k.cluster.resource("v1", "Pod", object.Namespace).Patch(ctx, object.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil // deleted in the meantime
	}
	return err
}

// probe asks a container, from its node, whether it is ready: once, for what
// containers do here they do from the start.
func (k *kubelet) probe(ctx context.Context, probe *corev1.Probe, addr string) (ready bool) {
	if probe == nil || probe.TCPSocket == nil {
		return true
	}
	err := lab.InNetns(k.cluster.Netns(k.node.name), func() error {
		d := net.Dialer{Timeout: time.Second}
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(probe.TCPSocket.Port.IntValue())))
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil
}

// remove ends a pod and gives back what it had.
func (k *kubelet) remove(ctx context.Context, uid types.UID) error {
	p := k.pods[uid]
	if p == nil {
		return nil
	}
	p.close()
	for _, name := range p.processes {
		if err := k.cluster.end(name); err != nil {
			return err
		}
	}
	if p.attachment != nil {
		err := errors.Join(k.cluster.detach(ctx, k.node, p.attachment), lab.RemoveNetns(p.attachment.netns))
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, uid)
	return nil
}

// close closes the sockets of all pods.
func (k *kubelet) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		p.close()
	}
}

func (p *pod) close() {
	for _, s := range p.sockets {
		s.Close()
	}
}
