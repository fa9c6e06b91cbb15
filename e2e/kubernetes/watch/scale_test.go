//go:build k8s && linux

package watch_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// BenchmarkScale fills an API server in three steps, up to 1,000 nodes, 20,000
// pods, 2,000 services with their slices, and 2,000 policies, and prints after
// each what the watcher needs for them.
func BenchmarkScale(b *testing.B) {
	s := start(b)
	had := 0
	for _, nodes := range []int{100, 500, 1000} {
		s.grow(had, nodes)
		had = nodes
		b.Run(fmt.Sprintf("nodes=%d/pods=%d", nodes, 20*nodes), func(b *testing.B) {
			one := *s
			one.t = b
			one.measure(b, nodes)
		})
	}
}

func (s *apiServer) measure(b *testing.B, nodes int) {
	var synced, compiled, state time.Duration
	var held, index int64
	for b.Loop() {
		before := heapsize.Live()
		began := time.Now()
		w, stop := watch(b, s.config(adminToken))
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		if err := w.Settle(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		synced = time.Since(began)
		held = heapsize.Live() - before
		objects := w.State().Objects
		if len(objects.Pods) < 20*nodes || len(objects.Services) < 2*nodes || len(objects.NetworkPolicies) < 2*nodes {
			b.Fatalf("%d pods, %d services, %d policies", len(objects.Pods), len(objects.Services), len(objects.NetworkPolicies))
		}
		before = heapsize.Live()
		began = time.Now()
		x := cluster.Compile(&objects)
		compiled = time.Since(began)
		index = heapsize.Live() - before
		runtime.KeepAlive(x)

		// One change after a state was handed out: the store of the nodes is cloned.
		// Most of it is the API server's time.
		generation := w.State().Generation
		began = time.Now()
		s.label("nodes", "node-1", strconv.FormatInt(began.UnixNano(), 36))
		s.awaitState(w, "the label is there", func(*cluster.Objects) bool { return w.State().Generation != generation })
		state = time.Since(began)
		runtime.KeepAlive(w)
		stop()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(synced.Seconds(), "sync-s")
	b.ReportMetric(float64(held)/1e6, "heap-MB")
	b.ReportMetric(float64(held)/float64(20*nodes), "heap-B/pod")
	b.ReportMetric(compiled.Seconds()*1e3, "compile-ms")
	b.ReportMetric(float64(index)/1e6, "index-MB")
	b.ReportMetric(state.Seconds()*1e3, "change-ms")
	b.ReportMetric(memory(os.Getpid(), "VmHWM"), "peak-rss-MB") // it fills the server, too
}

// memory is a line of the status of a process, in megabytes: VmRSS is what it has, VmHWM the
// most that it ever had.
func memory(pid int, line string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for l := range strings.Lines(string(text)) {
		if kb, found := strings.CutPrefix(l, line+":"); found {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			return float64(n) / 1e3
		}
	}
	return 0
}

// grow adds nodes, with their pods and services, up to a number.
func (s *apiServer) grow(from, to int) {
	s.t.Helper()
	if from == 0 {
		for i := range 50 {
			s.create("namespaces", fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: team-%d, labels: {team: t%d}}}", i, i))
		}
	}
	group, ctx := errgroup.WithContext(s.t.Context())
	group.SetLimit(16)
	for i := from; i < to; i++ {
		group.Go(func() error { return s.growNode(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) growNode(ctx context.Context, n int) error {
	object := func(resource, status, format string, args ...any) error {
		o := parse(s.t, fmt.Sprintf(format, args...))
		r := s.resource(o.GetAPIVersion(), resource, o.GetNamespace())
		if _, err := r.Create(ctx, o, metav1.CreateOptions{}); err != nil || status == "" {
			return err
		}
		_, err := r.Patch(ctx, o.GetName(), types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
		return err
	}
	if err := object("nodes", fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":"10.%d.%d.1"}],"conditions":[{"type":"Ready","status":"True"}]}}`, n/256, n%256),
		"{apiVersion: v1, kind: Node, metadata: {name: node-%d, labels: {topology.kubernetes.io/zone: z%d}}, spec: {podCIDR: 10.%d.%d.0/24, podCIDRs: [10.%d.%d.0/24]}}", n, n%3, 64+n/256, n%256, 64+n/256, n%256); err != nil {
		return err
	}
	for i := range 20 {
		pod := 20*n + i
		app := pod / 10 // two services a node, of ten pods each
		ip := fmt.Sprintf("10.%d.%d.%d", 64+n/256, n%256, i+2)
		status := fmt.Sprintf(`{"status":{"phase":"Running","hostIP":"10.%d.%d.1","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"},{"type":"Initialized","status":"True"},{"type":"PodScheduled","status":"True"}],`+
			`"containerStatuses":[{"name":"app","ready":true,"restartCount":0,"image":"registry.example/app:1","imageID":"registry.example/app@sha256:%064d","containerID":"containerd://%064d","state":{"running":{}}}]}}`, n/256, n%256, ip, ip, pod, pod)
		if err := object("pods", status, "{apiVersion: v1, kind: Pod, metadata: {name: app-%d-7d4b9c6f5-%05d, namespace: team-%d, labels: {app: app-%d, tier: backend, pod-template-hash: 7d4b9c6f5}, annotations: {checksum/config: %q}}, spec: {nodeName: node-%d, containers: [{name: app, image: registry.example/app:1, env: [{name: A, value: b}], ports: [{name: http, containerPort: 8080}]}]}}",
			app, pod, app%50, app, strings.Repeat("0", 64), n); err != nil {
			return err
		}
	}
	for app := 2 * n; app < 2*n+2; app++ {
		var endpoints []string
		for i := range 10 {
			pod := 10*app + i
			endpoints = append(endpoints, fmt.Sprintf("{addresses: [10.%d.%d.%d], nodeName: node-%d, conditions: {ready: true}, targetRef: {kind: Pod, namespace: team-%d, name: app-%d-7d4b9c6f5-%05d}}", 64+n/256, n%256, pod%20+2, n, app%50, app, pod))
		}
		for resource, text := range map[string]string{
			"services":        fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: app-%d, namespace: team-%d}, spec: {selector: {app: app-%d}, ports: [{name: http, port: 80, targetPort: http}]}}", app, app%50, app),
			"endpointslices":  fmt.Sprintf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: app-%d-x, namespace: team-%d, labels: {kubernetes.io/service-name: app-%d}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [%s]}", app, app%50, app, strings.Join(endpoints, ", ")),
			"networkpolicies": fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: app-%d, namespace: team-%d}, spec: {podSelector: {matchLabels: {app: app-%d}}, ingress: [{from: [{podSelector: {matchLabels: {tier: backend}}}, {namespaceSelector: {matchLabels: {team: t1}}}], ports: [{port: http}]}]}}", app, app%50, app),
		} {
			if err := object(resource, "", "%s", text); err != nil {
				return err
			}
		}
	}
	return nil
}
