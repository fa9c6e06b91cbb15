//go:build k8s && linux

package watch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
	"github.com/plumbline-net/plumbline/snapshot"
	"github.com/plumbline-net/plumbline/witness"
)

// TestFaults has a controller that diagnoses the sample's cluster: its objects are those of
// the API server, and its state is what agents of its two nodes hand out.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := start(t)
	sample := s.populate()
	config := fmt.Sprintf(`
kubernetes: {kubeconfig: %q}
web: {authorization: loopback, diagnosesPerSecond: 1000}
probes: {enabled: false}
collector: {maxAge: 0s}
snapshotMaxAge: 40s
maxPathSeries: 1000
jitter: 0
controller:
  agents:
  - {node: node-1, url: %q}
  - {node: node-2, url: %q}
`, s.kubeconfig(adminToken), listen(t, agentOf(sample, "node-1")), listen(t, agentOf(sample, "node-2")))
	f := &faults{apiServer: s, log: &synclog.Buffer{}}
	f.url = daemon(t, exporter.RoleController, f.log, config+`
schedules:
- {name: db, cron: "@every 1s", from: "pods:shop?app=web", to: svc:shop/db, port: 5432, expect: reachable}
- {name: api, cron: "@every 1s", from: pod:shop/web-0, to: pod:shop/api-1, port: 8080, expect: reachable}
`)
	f.elected = daemon(t, exporter.RoleController, f.log, config+"  lease: {namespace: default, name: faults, duration: 5s}\n")
	f.await("schedules run, and one controller of one leads", func(context.Context) error {
		return differ(scrape(f.t, f.url), map[string]float64{
			`plumbline_schedule_paths{schedule="db",verdict="reachable"}`: 1, `plumbline_schedule_paths{schedule="api",verdict="unreachable"}`: 1,
		}, scrape(f.t, f.elected), map[string]float64{"plumbline_leader": 1})
	})
	for _, test := range []struct {
		name string
		run  func(*faults)
	}{
		{"500 pods are deleted at once", (*faults).crowdVanishes},
		{"the API server is away for a minute", (*faults).serverIsAway},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := *f
			one.apiServer = new(*s)
			one.t = t
			test.run(&one)
			s.server = one.server
		})
	}
}

type faults struct {
	*apiServer
	url     string // of a controller that is alone
	elected string // of one that competes for a lease, and has no schedules
	log     *synclog.Buffer
}

// sample is the bundle of a lab's cluster.
func sample(t testing.TB) *simulator.Snapshot {
	t.Helper()
	snap, err := bundle.Read("../../../examples/lab.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// agentOf is an agent that has collected what the sample has of a node, just now, and
// witnesses who leads.
func agentOf(sample *simulator.Snapshot, node string) http.Handler {
	own := *sample
	own.Namespaces = slices.DeleteFunc(slices.Clone(sample.Namespaces), func(ns *netstack.Namespace) bool { return ns.Node != node })
	mux := http.NewServeMux()
	mux.Handle("/", snapshot.NewServer(node, func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		return &own, time.Now(), nil
	}, quiet))
	mux.Handle("POST "+witness.Path, witness.New())
	return mux
}

// listen serves until the test ends, and returns the URL.
func listen(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// populate creates the objects of the sample, Services without their IPv6 addresses.
func (s *apiServer) populate() *simulator.Snapshot {
	s.t.Helper()
	sample := sample(s.t)
	objects := sample.Cluster
	for i := range objects.Namespaces {
		s.object("v1", "Namespace", "namespaces", &objects.Namespaces[i])
	}
	for i := range objects.Nodes {
		s.object("v1", "Node", "nodes", &objects.Nodes[i])
	}
	for i := range objects.Pods {
		for j := range objects.Pods[i].Spec.Containers {
			objects.Pods[i].Spec.Containers[j].Image = "none"
		}
		s.object("v1", "Pod", "pods", &objects.Pods[i])
	}
	for i := range objects.Services {
		spec, single := &objects.Services[i].Spec, corev1.IPFamilyPolicySingleStack
		spec.ClusterIPs, spec.IPFamilies, spec.IPFamilyPolicy = spec.ClusterIPs[:1], spec.IPFamilies[:1], &single
		s.object("v1", "Service", "services", &objects.Services[i])
	}
	for i := range objects.EndpointSlices {
		s.object("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", &objects.EndpointSlices[i])
	}
	return sample
}

// object creates an object with its status.
func (s *apiServer) object(apiVersion, kind, resource string, typed any) {
	s.t.Helper()
	object, err := untyped(apiVersion, kind, typed)
	if err != nil {
		s.t.Fatal(err)
	}
	of := s.resource(apiVersion, resource, object.GetNamespace())
	s.await("the API server takes "+kind+" "+object.GetName(), func(ctx context.Context) error {
		_, err := of.Create(ctx, object, metav1.CreateOptions{})
		return err
	})
	if err := patchStatus(s.t.Context(), of, object); err != nil {
		s.t.Fatalf("status of %s %s: %v", kind, object.GetName(), err)
	}
}

// untyped is an object as it is sent.
func untyped(apiVersion, kind string, typed any) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	object := &unstructured.Unstructured{Object: fields}
	if err == nil {
		object.SetAPIVersion(apiVersion)
		object.SetKind(kind)
		object.SetUID("")
	}
	return object, err
}

// patchStatus gives an object that was created its status, but for Services and namespaces,
// which get their own.
func patchStatus(ctx context.Context, of dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	status := object.Object["status"]
	if kind := object.GetKind(); status == nil || kind == "Service" || kind == "Namespace" {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err == nil {
		_, err = of.Patch(ctx, object.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	return err
}

// ask asks a daemon.
func ask(base, path string) (string, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(base + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return string(body), err
}

// scrape returns the series of a daemon.
func scrape(t testing.TB, base string) map[string]float64 {
	t.Helper()
	text, err := ask(base, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return series(text)
}

// series are those of a text, by name and labels.
func series(text string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if at := strings.LastIndexByte(line, '}'); at >= 0 {
			name, value = line[:at+1], strings.TrimSpace(line[at+1:])
		}
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = number
		}
	}
	return all
}

// differ says in its error which series are not as wanted: pairs of them, and what is wanted.
func differ(pairs ...map[string]float64) error {
	for ; len(pairs) > 0; pairs = pairs[2:] {
		for name, want := range pairs[1] {
			if got, ok := pairs[0][name]; !ok || got != want {
				return fmt.Errorf("%s is %v (%t), want %v", name, got, ok, want)
			}
		}
	}
	return nil
}

// Where to, from pod shop/web-0 of the sample: one can be reached, one cannot.
const (
	db  = "svc:shop/db&port=5432"
	api = "pod:shop/api-1&port=8080"
)

func whatBecomes(t testing.TB, base, to string) (r verdict.Report) {
	t.Helper()
	body, err := ask(base, "/api/v1/diagnose?from=pod:shop/web-0&to="+to)
	if err == nil {
		err = json.Unmarshal([]byte(body), &r)
	}
	if err != nil || r.Snapshot.ClusterAgeSeconds == nil {
		t.Fatalf("%v: %s", err, body)
	}
	return r
}

// paths are those of a schedule, with what its last run said of each.
func (f *faults) paths(schedule string) (list []struct {
	Path    string
	Source  string
	Verdict verdict.Verdict
	Reason  verdict.Code
},
) {
	f.t.Helper()
	var status struct {
		Schedules []struct {
			Name  string
			Paths json.RawMessage
		}
	}
	body, err := ask(f.url, "/api/v1/schedules")
	if err == nil {
		err = json.Unmarshal([]byte(body), &status)
	}
	for _, s := range status.Schedules {
		if s.Name == schedule && err == nil {
			err = json.Unmarshal(s.Paths, &list)
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// crowdVanishes has pods without containers, as on nodes whose agents are not there.
func (f *faults) crowdVanishes() {
	const crowd = 500
	group, ctx := errgroup.WithContext(f.t.Context())
	group.SetLimit(16)
	for i := range crowd {
		object := parse(f.t, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: crowd-%d, namespace: shop, labels: {app: web, crowd: large}}, spec: {nodeName: node-3, containers: [{name: c, image: none}]}}", i))
		ip := fmt.Sprintf("10.250.%d.%d", i/250, 1+i%250)
		status := fmt.Sprintf(`{"status": {"phase": "Running", "podIP": %q, "podIPs": [{"ip": %q}]}}`, ip, ip)
		group.Go(func() error {
			pods := f.resource("v1", "pods", "shop")
			if _, err := pods.Create(ctx, object, metav1.CreateOptions{}); err != nil {
				return err
			}
			_, err := pods.Patch(ctx, object.GetName(), types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		f.t.Fatal(err)
	}
	of := func(series map[string]float64, source string) (n int) {
		for name := range series {
			if strings.HasPrefix(name, `plumbline_path_info{`) && strings.Contains(name, `schedule="db"`) && strings.Contains(name, `source="`+source) {
				n++
			}
		}
		return n
	}
	f.await("each of them is a path", func(context.Context) error {
		now := scrape(f.t, f.url)
		if n := of(now, "pod:shop/crowd-"); n != crowd {
			return fmt.Errorf("%d are", n)
		}
		return differ(now, map[string]float64{
			`plumbline_schedule_paths{schedule="db",verdict="unknown"}`: crowd, `plumbline_schedule_paths{schedule="db",verdict="reachable"}`: 1,
			`plumbline_cluster_objects{resource="pods"}`: crowd + 4,
		})
	})

	zero := int64(0)
	if err := f.resource("v1", "pods", "shop").DeleteCollection(f.t.Context(), metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{LabelSelector: "crowd=large"}); err != nil {
		f.t.Fatal(err)
	}
	before := crowd + 1
	f.await("no path is left of them", func(context.Context) error {
		paths := f.paths("db")
		if len(paths) > before {
			f.t.Errorf("%d paths became %d", before, len(paths))
		}
		before = len(paths)
		for _, p := range paths {
			// Nothing is known of where they were: that they are gone is no failure.
			if want := map[bool]verdict.Verdict{true: verdict.Reachable, false: verdict.Unknown}[p.Source == "pod:shop/web-0"]; p.Verdict != want {
				f.t.Errorf("%s is %s, %s; want %s", p.Path, p.Verdict, p.Reason, want)
			}
		}
		if len(paths) != 1 {
			return fmt.Errorf("%d are", len(paths))
		}
		return nil
	})
	now := scrape(f.t, f.url)
	if err := differ(now, map[string]float64{
		`plumbline_schedule_paths{schedule="db",verdict="reachable"}`: 1, `plumbline_schedule_paths{schedule="db",verdict="unknown"}`: 0,
		`plumbline_schedule_paths{schedule="db",verdict="unreachable"}`: 0, `plumbline_schedule_paths{schedule="db",verdict="degraded"}`: 0,
		`plumbline_cluster_objects{resource="pods"}`: 4, `plumbline_collector_success{collector="kubernetes"}`: 1,
	}); err != nil {
		f.t.Error(err)
	}
	for name := range now {
		if strings.Contains(name, "crowd-") {
			f.t.Errorf("a series is left: %s", name)
		}
		if strings.HasPrefix(name, `plumbline_schedule_failures_total{`) && strings.Contains(name, `schedule="db"`) {
			f.t.Errorf("a run is said to have failed: %s", name)
		}
	}
}

// serverIsAway has the API server away until the objects are said to be older than a
// minute, which is beyond snapshotMaxAge.
func (f *faults) serverIsAway() {
	const limit, enough = 40, 60
	check := func(what string, r verdict.Report, want verdict.Verdict, reason verdict.Code) {
		f.t.Helper()
		age := *r.Snapshot.ClusterAgeSeconds
		if age > limit {
			want, reason = verdict.Unknown, verdict.SnapshotStale
		}
		if r.Verdict != want || r.Reason() != reason {
			f.t.Errorf("%s, %.1f s after the API server was heard of: %s %v; want %s %s", what, age, r.Verdict, r.Reasons, want, reason)
		}
	}
	runs := func() float64 {
		return scrape(f.t, f.url)[`plumbline_schedule_last_run_timestamp_seconds{schedule="db"}`]
	}

	f.down()
	age, trusted, distrusted := 0.0, 0, 0
	f.await("its objects are older than a minute", func(context.Context) error {
		r := whatBecomes(f.t, f.url, db)
		check("of what can be reached", r, verdict.Reachable, "")
		now := *r.Snapshot.ClusterAgeSeconds
		if now < age {
			f.t.Errorf("objects that were %v s old are %v s old", age, now)
		}
		if age = now; age > limit {
			distrusted++
		} else {
			trusted++
		}
		check("of what cannot", whatBecomes(f.t, f.url, api), verdict.Unreachable, verdict.NetfilterDrop)
		check("by the controller that is elected", whatBecomes(f.t, f.elected, db), verdict.Reachable, "")
		if leads := scrape(f.t, f.elected)["plumbline_leader"]; leads != 1 && age < limit-10 || leads != 0 && age > limit+10 {
			f.t.Errorf("when objects are %.1f s old, plumbline_leader is %v; it goes on until they decide nothing any more", age, leads)
		}
		if age <= enough {
			return fmt.Errorf("they are %v s old", age)
		}
		return nil
	})
	if trusted == 0 || distrusted == 0 {
		f.t.Errorf("%d verdicts were of objects that are new enough, %d of such that are not", trusted, distrusted)
	}
	last := runs()
	f.await("schedules go on", func(context.Context) error {
		if now := runs(); now <= last {
			return fmt.Errorf("the last run was at %v", now)
		}
		return nil
	})
	now := scrape(f.t, f.url)
	if err := differ(now, map[string]float64{
		`plumbline_schedule_paths{schedule="db",verdict="unknown"}`: 1, `plumbline_schedule_paths{schedule="api",verdict="unknown"}`: 1,
		`plumbline_collector_success{collector="kubernetes"}`: 0, `plumbline_cluster_resource_known{resource="pods"}`: 1,
		`plumbline_agent_up{node="node-1"}`: 1, `plumbline_agent_up{node="node-2"}`: 1, `plumbline_cluster_objects{resource="pods"}`: 4,
	}, scrape(f.t, f.elected), map[string]float64{"plumbline_leader": 0}); err != nil {
		f.t.Error(err)
	}
	for _, resource := range []string{"pods", "nodes", "services", "endpointslices", "namespaces", "networkpolicies"} {
		if age := now[fmt.Sprintf("plumbline_cluster_state_age_seconds{resource=%q}", resource)]; age <= enough {
			f.t.Errorf("the metric says that %s are %v s old", resource, age)
		}
	}
	for _, path := range []string{"/-/healthy", "/-/ready"} {
		if _, err := ask(f.url, path); err != nil {
			f.t.Errorf("%s: %v", path, err)
		}
	}

	f.up()
	f.await("all is as it was", func(context.Context) error {
		now := scrape(f.t, f.url)
		for name, age := range now {
			if strings.HasPrefix(name, "plumbline_cluster_state_age_seconds") && age > 0 {
				return fmt.Errorf("%s is %v", name, age)
			}
		}
		return differ(now, map[string]float64{
			`plumbline_schedule_paths{schedule="db",verdict="reachable"}`: 1, `plumbline_schedule_paths{schedule="api",verdict="unreachable"}`: 1,
			`plumbline_collector_success{collector="kubernetes"}`: 1,
		}, scrape(f.t, f.elected), map[string]float64{"plumbline_leader": 1})
	})
}
