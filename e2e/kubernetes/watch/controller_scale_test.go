//go:build k8s && linux

package watch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/internal/largecluster"
	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/snapshot"
)

// BenchmarkController runs a controller against an API server and the agents of 100, 500
// and 1,000 nodes, each with the rules of kube-proxy for all Services, and prints what its process
// takes: until it has all state and has judged the 100 paths of a schedule to a Service
// of ten pods, and after it has collected all again.
func BenchmarkController(b *testing.B) {
	s := start(b)
	program := build(b)
	had := 0
	for _, nodes := range []int{100, 500, 1000} {
		s.enlarge(had, nodes)
		had = nodes
		for _, mode := range []string{"iptables", "nftables"} {
			b.Run(fmt.Sprintf("mode=%s/nodes=%d", mode, nodes), func(b *testing.B) {
				one := *s
				one.t = b
				for b.Loop() {
					one.control(b, program, largecluster.Cluster{Nodes: nodes, Proxies: nodes, Mode: mode})
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// enlarge adds the objects of nodes.
func (s *apiServer) enlarge(from, to int) {
	s.t.Helper()
	objects := largecluster.Cluster{Nodes: to}.Objects(from, to)
	group, ctx := errgroup.WithContext(s.t.Context())
	group.SetLimit(16)
	put := func(apiVersion, kind, resource string, typed any) {
		group.Go(func() error { return s.put(ctx, apiVersion, kind, resource, typed) })
	}
	for i := range objects.Namespaces {
		put("v1", "Namespace", "namespaces", &objects.Namespaces[i])
	}
	if err := group.Wait(); err != nil { // the others are in them
		s.t.Fatal(err)
	}
	group, ctx = errgroup.WithContext(s.t.Context())
	group.SetLimit(16)
	for i := range objects.Nodes {
		put("v1", "Node", "nodes", &objects.Nodes[i])
	}
	for i := range objects.Pods {
		put("v1", "Pod", "pods", &objects.Pods[i])
	}
	for i := range objects.Services {
		put("v1", "Service", "services", &objects.Services[i])
	}
	for i := range objects.EndpointSlices {
		put("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", &objects.EndpointSlices[i])
	}
	for i := range objects.NetworkPolicies {
		put("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", &objects.NetworkPolicies[i])
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// put creates an object with its status.
func (s *apiServer) put(ctx context.Context, apiVersion, kind, resource string, typed any) error {
	object, err := untyped(apiVersion, kind, typed)
	if err != nil {
		return err
	}
	of := s.resource(apiVersion, resource, object.GetNamespace())
	if _, err := of.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	return patchStatus(ctx, of, object)
}

// agent answers as the agent of a node does whose state never changes: a thousand real ones
// in one process would take more than what is measured.
type agent struct {
	mu      sync.Mutex
	answers map[string]*httptest.ResponseRecorder // by path
}

// record has a real one answer all questions once.
func (a *agent) record(ctx context.Context, c largecluster.Cluster, n int) error {
	a.answers = make(map[string]*httptest.ResponseRecorder)
	server := snapshot.NewServer(largecluster.NodeName(n), func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		return &simulator.Snapshot{Namespaces: c.Node(n)}, time.Now(), nil
	}, quiet)
	client := snapshot.NewClient(&http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.answers[r.URL.Path] = w
		return &http.Response{StatusCode: w.Code, Header: w.Header(), ContentLength: -1, Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())), Request: r}, nil
	})}, snapshot.NewStore(), time.Hour)
	_, err := client.Fetch(ctx, &url.URL{Scheme: "http", Host: "agent"}, 0, nil)
	return err
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known := a.answers[r.URL.Path]
	if known == nil {
		http.NotFound(w, r)
		return
	}
	maps.Copy(w.Header(), known.Header())
	if r.URL.Path == snapshot.ManifestPath {
		w.Header().Set(snapshot.AgeHeader, "0")
	}
	if etag := known.Header().Get("ETag"); etag != "" && r.Header.Get("If-None-Match") == etag {
		w.Header().Del("Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(known.Body.Bytes())
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// control runs a controller of a cluster and reports what it takes.
func (s *apiServer) control(b *testing.B, program string, c largecluster.Cluster) {
	agents := http.NewServeMux()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(2)
	for n := range c.Nodes {
		a := &agent{}
		agents.Handle("/"+largecluster.NodeName(n)+"/", http.StripPrefix("/"+largecluster.NodeName(n), a))
		group.Go(func() error { return a.record(ctx, c, n) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	var config bytes.Buffer
	fmt.Fprintf(&config, `
kubernetes: {kubeconfig: %q}
web: {authorization: loopback}
snapshotMaxAge: 1h
jitter: 0
collector: {maxAge: 0s}
schedules:
- {name: large, cron: "@every 1s", from: "pods:team-0?app=app-0", to: %q, port: 80}
controller:
  timeout: 5m
  agents:
`, s.kubeconfig(adminToken), "svc:"+largecluster.ServiceName(c.Nodes/2*largecluster.Services))
	hosts := listen(b, agents)
	for n := range c.Nodes {
		name := largecluster.NodeName(n)
		fmt.Fprintf(&config, "  - {node: %s, url: %q}\n", name, hosts+"/"+name)
	}
	file := filepath.Join(b.TempDir(), "plumbline.yaml")
	if err := os.WriteFile(file, config.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	log := &synclog.Buffer{}
	address := "127.0.0.1:" + freePort(b)
	base := "http://" + address
	process := exec.Command(program, "controller", "--config", file, "--web.listen-address", address)
	process.Stderr = log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	}()
	s.await("the controller answers", func(context.Context) error {
		_, err := ask(base, "/-/healthy")
		return err
	})
	const runs = `plumbline_schedule_last_run_timestamp_seconds{schedule="large"}`
	ran := 0.0
	settled := func(what string) map[string]float64 {
		var now map[string]float64
		deadline := time.Now().Add(time.Hour)
		for {
			text, err := ask(base, "/metrics")
			if err != nil {
				b.Fatalf("%s: %v\n%s", what, err, log)
			}
			now = series(text)
			if now[`plumbline_schedule_paths{schedule="large",verdict="reachable"}`] == 100 && now[runs] > ran {
				ran = now[runs]
				return now
			}
			if time.Now().After(deadline) {
				b.Fatalf("%s: %v\n%s", what, differ(now, map[string]float64{`plumbline_schedule_paths{schedule="large",verdict="reachable"}`: 100}), log)
			}
			time.Sleep(time.Second)
		}
	}
	now := settled("all paths are reachable")
	b.ReportMetric(time.Since(began).Seconds(), "start-s")
	b.ReportMetric(now["process_cpu_seconds_total"], "start-cpu-s")
	cpu := now["process_cpu_seconds_total"]
	now = settled("all is collected again")
	now = settled("and again")
	b.ReportMetric((now["process_cpu_seconds_total"]-cpu)/2, "again-cpu-s")
	b.ReportMetric(now["go_memstats_heap_alloc_bytes"]/1e6, "heap-MB")
	b.ReportMetric(memory(process.Process.Pid, "VmRSS"), "rss-MB")
	b.ReportMetric(memory(process.Process.Pid, "VmHWM"), "peak-rss-MB")
	simulate := `{phase="simulate"}`
	b.ReportMetric(1e3*now["plumbline_diagnosis_duration_seconds_sum"+simulate]/now["plumbline_diagnosis_duration_seconds_count"+simulate], "ms/path")
}
