//go:build k8s && linux

package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	node   = corev1.Node
	slice  = discoveryv1.EndpointSlice
	policy = networkingv1.NetworkPolicy
)

var quiet = slog.New(slog.DiscardHandler)

// watch runs a watcher until the returned function, or the test, ends it.
func watch(t testing.TB, config *rest.Config) (*kubernetes.Watcher, func()) {
	t.Helper()
	w, err := kubernetes.New(config, kubernetes.Options{Log: quiet, Retry: 50 * time.Millisecond, Discover: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	stop := func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return w, stop
}

// settled is watch that has read all it may.
func settled(t testing.TB, config *rest.Config) *kubernetes.Watcher {
	t.Helper()
	w, _ := watch(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	return w
}

func podsOf(o *cluster.Objects, namespace string) int {
	n := 0
	for i := range o.Pods {
		if o.Pods[i].Namespace == namespace {
			n++
		}
	}
	return n
}

// awaitState waits until the state is as a test wants it.
func (s *apiServer) awaitState(w *kubernetes.Watcher, what string, wanted func(*cluster.Objects) bool) kubernetes.State {
	s.t.Helper()
	var state kubernetes.State
	s.await(what, func(context.Context) error {
		if state = w.State(); wanted(&state.Objects) {
			return nil
		}
		return fmt.Errorf("%d pods, %d nodes, %d services, missing %v", len(state.Objects.Pods), len(state.Objects.Nodes), len(state.Objects.Services), state.Objects.Missing)
	})
	return state
}

// crowd creates pods in a namespace of its own.
func (s *apiServer) crowd(namespace string, count int) {
	s.t.Helper()
	s.create("namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+", labels: {team: x}}}")
	group, ctx := errgroup.WithContext(s.t.Context())
	group.SetLimit(16)
	for i := range count {
		object := parse(s.t, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: p-%d, namespace: %s, labels: {app: web}, annotations: {secret: x}}, spec: {containers: [{name: c, image: none, ports: [{name: http, containerPort: 80}]}]}}", i, namespace))
		group.Go(func() error {
			_, err := s.resource("v1", "pods", namespace).Create(ctx, object, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) disperse(namespace string) {
	s.t.Helper()
	now := int64(0)
	if err := s.resource("v1", "pods", namespace).DeleteCollection(s.t.Context(), metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// heartbeat is what a kubelet tells of its node all the time.
func (s *apiServer) heartbeat(node string, at time.Time) {
	s.t.Helper()
	status := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"}],"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":%q,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, at.UTC().Format(time.RFC3339))
	if _, err := s.resource("v1", "nodes", "").Patch(s.t.Context(), node, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) label(resource, name, value string) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"changed":%q}}}`, value)
	if _, err := s.resource("v1", resource, "").Patch(s.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func TestWatcher(t *testing.T) {
	s := start(t)
	for _, test := range []struct {
		name string
		run  func(*apiServer)
	}{
		{"objects come, change and go in numbers", objectsInNumbers},
		{"heartbeats of nodes change nothing", heartbeatsChangeNothing},
		{"kinds of policies come and go", kindsComeAndGo},
		{"cut connections lose nothing", cutConnectionsLoseNothing},
		{"connections that fall silent are found dead", silenceIsFoundOut},
		{"what one may not read is missing, and nothing else", forbiddenIsMissing},
		{"an agent keeps to its node", agentKeepsToItsNode},
		{"once is enough for a bundle", readOnce},
		{"collect writes what is allowed, and names what was refused", collectWrites},
		{"the daemon says what it knows and how old it is", daemonSays},
		{"while etcd stands still, what was known holds", etcdStandsStill},
		{"a server that dies leaves what it said, and returns", serverDiesAndReturns},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := *s
			one.t = t
			test.run(&one)
			s.server = one.server
		})
	}
}

func objectsInNumbers(s *apiServer) {
	w := settled(s.t, s.config(adminToken))
	s.crowd("crowd", 500)
	full := s.awaitState(w, "500 pods are there", func(o *cluster.Objects) bool { return podsOf(o, "crowd") == 500 })
	for i := range full.Objects.Pods {
		if p := &full.Objects.Pods[i]; len(p.Annotations)+len(p.ManagedFields) > 0 || p.Spec.Containers[0].Image != "" || p.Spec.Containers[0].Ports[0].Name != "http" {
			s.t.Fatalf("kept of a pod: %+v", p)
		}
	}
	s.create("services", "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: crowd}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}")
	s.create("networkpolicies", "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: crowd}, spec: {podSelector: {}}}")
	s.create("endpointslices", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: crowd, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.244.0.9]}], ports: [{port: 80}]}")
	s.awaitState(w, "one of each is there", func(o *cluster.Objects) bool {
		return slices.ContainsFunc(o.EndpointSlices, func(e slice) bool { return e.Name == "web-1" && e.Endpoints[0].Addresses[0] == "10.244.0.9" }) &&
			len(o.NetworkPolicies) == 1 && o.NetworkPolicies[0].Name == "deny" && len(o.Missing) == 0
	})
	s.disperse("crowd")
	empty := s.awaitState(w, "no pod is left", func(o *cluster.Objects) bool { return podsOf(o, "crowd") == 0 })
	if podsOf(&full.Objects, "crowd") != 500 || empty.Generation == full.Generation {
		s.t.Errorf("an old state has changed: %d pods", podsOf(&full.Objects, "crowd"))
	}
}

func heartbeatsChangeNothing(s *apiServer) {
	s.create("nodes", "{apiVersion: v1, kind: Node, metadata: {name: beating}}")
	s.heartbeat("beating", time.Unix(1_800_000_000, 0))
	w := settled(s.t, s.config(adminToken))
	for round := 0; ; round++ {
		before := w.State()
		for i := range 10 {
			s.heartbeat("beating", time.Unix(1_800_000_010+int64(10*round+i), 0))
		}
		// What comes after them on the same watch shows that they have come.
		label := fmt.Sprintf("round-%d", round)
		s.label("nodes", "beating", label)
		after := s.awaitState(w, "the label is there", func(o *cluster.Objects) bool {
			return slices.ContainsFunc(o.Nodes, func(n node) bool { return n.Labels["changed"] == label })
		})
		others := after.Objects
		if others.Nodes = before.Objects.Nodes; !others.Same(&before.Objects) && round < 10 {
			continue // the API server itself has made something
		}
		if after.Generation != before.Generation+1 {
			s.t.Errorf("ten heartbeats and a label are %d changes", after.Generation-before.Generation)
		}
		return
	}
}

const guardKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusternetworkpolicies.policy.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, a test"}
spec:
  group: policy.networking.k8s.io
  scope: Cluster
  names: {kind: ClusterNetworkPolicy, listKind: ClusterNetworkPolicyList, plural: clusternetworkpolicies, singular: clusternetworkpolicy}
  versions:
  - name: v1alpha2
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func kindsComeAndGo(s *apiServer) {
	w := settled(s.t, s.config(adminToken))
	s.create("customresourcedefinitions", guardKind)
	const guard = "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: %s}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: %s, from: [{namespaces: {}}]}]}}"
	s.create("clusternetworkpolicies", fmt.Sprintf(guard, "known", "Deny"))
	s.create("clusternetworkpolicies", fmt.Sprintf(guard, "novel", "Slow"))
	state := s.awaitState(w, "the policies are there", func(o *cluster.Objects) bool {
		return len(o.AdminPolicies) == 1 && len(o.OtherPolicies) == 1 && len(o.Missing) == 0
	})
	if known, novel := state.Objects.AdminPolicies[0].String(), state.Objects.OtherPolicies[0].String(); known != "ClusterNetworkPolicy known" || novel != "ClusterNetworkPolicy novel" {
		s.t.Errorf("got %s, and not understood %s", known, novel)
	}
	resources := func() (list []string) {
		for _, r := range w.Status() {
			list = append(list, r.Resource)
		}
		return list
	}
	if !slices.Contains(resources(), "clusternetworkpolicies.policy.networking.k8s.io") {
		s.t.Errorf("got %v", resources())
	}
	if err := s.resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "").Delete(s.t.Context(), "clusternetworkpolicies.policy.networking.k8s.io", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.awaitState(w, "the kind is gone", func(o *cluster.Objects) bool {
		return len(o.AdminPolicies)+len(o.OtherPolicies)+len(o.Missing) == 0 && !slices.Contains(resources(), "clusternetworkpolicies.policy.networking.k8s.io")
	})
}

func cutConnectionsLoseNothing(s *apiServer) {
	var all connections
	config := s.config(adminToken)
	config.Dial = all.dial
	w := settled(s.t, config)
	s.crowd("cut", 50)
	s.awaitState(w, "50 pods are there", func(o *cluster.Objects) bool { return podsOf(o, "cut") == 50 })
	for range 3 {
		if all.cut() == 0 {
			s.t.Fatal("there was no connection to cut")
		}
		s.await("there are new connections", func(context.Context) error {
			all.mu.Lock()
			defer all.mu.Unlock()
			if len(all.open) == 0 {
				return errors.New("none")
			}
			return nil
		})
		if state := w.State(); podsOf(&state.Objects, "cut") != 50 || len(state.Objects.Missing) > 0 {
			s.t.Fatalf("%d pods, missing %v", podsOf(&state.Objects, "cut"), state.Objects.Missing)
		}
	}
	s.disperse("cut")
	s.create("nodes", "{apiVersion: v1, kind: Node, metadata: {name: after-the-cut}}")
	s.awaitState(w, "what happened meanwhile is there", func(o *cluster.Objects) bool {
		return podsOf(o, "cut") == 0 && slices.ContainsFunc(o.Nodes, func(n node) bool { return n.Name == "after-the-cut" })
	})
}

func silenceIsFoundOut(s *apiServer) {
	// As the package has it, but for the times: 30 and 15 seconds.
	s.t.(*testing.T).Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	s.t.(*testing.T).Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	var all connections
	config := s.config(adminToken)
	config.Dial = all.dial
	w := settled(s.t, config)
	s.await("all is watched", func(context.Context) error {
		if age := time.Since(w.State().Objects.Current); age > time.Second {
			return fmt.Errorf("it is %v old", age)
		}
		return nil
	})
	if all.hush() == 0 {
		s.t.Fatal("there was no connection")
	}
	s.create("nodes", "{apiVersion: v1, kind: Node, metadata: {name: in-the-silence}}")
	s.awaitState(w, "what was not heard is there", func(o *cluster.Objects) bool {
		return slices.ContainsFunc(o.Nodes, func(n node) bool { return n.Name == "in-the-silence" })
	})
}

// allow lets the reader read resources of the API.
func (s *apiServer) allow(name string, resources ...string) {
	s.t.Helper()
	s.create("clusterroles", fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: %s}, rules: [{apiGroups: ['', discovery.k8s.io, networking.k8s.io], resources: [%s], verbs: [list, watch]}]}", name, strings.Join(resources, ", ")))
	s.create("clusterrolebindings", fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: %s}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]}", name, name))
}

func forbiddenIsMissing(s *apiServer) {
	s.allow("most", "pods", "nodes", "services", "endpointslices", "namespaces")
	var all connections
	config := s.config(readerToken)
	config.Dial = all.dial
	w, _ := watch(s.t, config)
	want := map[string]string{"networkpolicies": "the API server forbids to list and watch them"}
	state := s.awaitState(w, "all but one resource is known", func(o *cluster.Objects) bool { return maps.Equal(o.Missing, want) })
	if len(state.Objects.Namespaces) == 0 || len(state.Objects.Services) == 0 || state.Objects.Current.IsZero() {
		s.t.Errorf("got %d namespaces, %d services", len(state.Objects.Namespaces), len(state.Objects.Services))
	}
	s.create("networkpolicies", "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: seen, namespace: default}, spec: {podSelector: {}}}")
	s.allow("rest", "networkpolicies")
	s.awaitState(w, "it is known once it may be read", func(o *cluster.Objects) bool {
		return len(o.Missing) == 0 && slices.ContainsFunc(o.NetworkPolicies, func(p policy) bool { return p.Name == "seen" })
	})
	if err := s.resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", "").Delete(s.t.Context(), "rest", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.awaitState(w, "it is missing again when it is asked for again", func(o *cluster.Objects) bool {
		if !slices.ContainsFunc(w.Status(), func(r kubernetes.Status) bool { return r.Failing }) {
			all.cut() // a watch that is open goes on
		}
		return maps.Equal(o.Missing, want)
	})
}

func agentKeepsToItsNode(s *apiServer) {
	for _, name := range []string{"mine", "other"} {
		s.create("nodes", "{apiVersion: v1, kind: Node, metadata: {name: "+name+"}}")
		s.create("pods", "{apiVersion: v1, kind: Pod, metadata: {name: of-"+name+", namespace: default}, spec: {nodeName: "+name+", containers: [{name: c, image: none}]}}")
	}
	w, err := kubernetes.New(s.config(adminToken), kubernetes.Options{Log: quiet, Node: "mine"})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := w.Settle(ctx); err != nil {
		s.t.Fatal(err)
	}
	o := w.State().Objects
	if len(o.Nodes) != 1 || o.Nodes[0].Name != "mine" || len(o.Pods) != 1 || o.Pods[0].Name != "of-mine" || o.Missing["services"] == "" {
		s.t.Errorf("got %d nodes, %d pods, missing %v", len(o.Nodes), len(o.Pods), o.Missing)
	}
	if status := w.Status(); len(status) != 2 || status[0].Missing+status[1].Missing != "" {
		s.t.Errorf("got %+v", status)
	}
	s.create("pods", "{apiVersion: v1, kind: Pod, metadata: {name: later, namespace: default}, spec: {nodeName: mine, containers: [{name: c, image: none}]}}")
	s.awaitState(w, "a later pod of the node is there", func(o *cluster.Objects) bool { return len(o.Pods) == 2 })
	now := int64(0)
	for _, pod := range []string{"of-mine", "of-other", "later"} {
		if err := s.resource("v1", "pods", "default").Delete(s.t.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			s.t.Fatal(err)
		}
	}
	s.awaitState(w, "and no pod is left", func(o *cluster.Objects) bool { return len(o.Pods) == 0 })
}

func readOnce(s *apiServer) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.await("the account may not read network policies any more", func(ctx context.Context) error {
		objects, err := kubernetes.Read(ctx, s.config(readerToken), quiet)
		if err == nil && objects.Missing["networkpolicies"] == "" {
			err = errors.New("it may")
		}
		return err
	})
	objects, err := kubernetes.Read(ctx, s.config(readerToken), quiet)
	if err != nil || len(objects.Missing) != 1 || len(objects.Namespaces) < 2 {
		s.t.Errorf("%v, missing %v, %d namespaces", err, objects.Missing, len(objects.Namespaces))
	}
	away := s.config(adminToken)
	away.Host = "https://127.0.0.1:" + freePort(s.t)
	if _, err := kubernetes.Read(ctx, away, quiet); err == nil || !strings.Contains(err.Error(), "kubernetes: pods: they were not read yet: ") {
		s.t.Errorf("of a server that is not there: %v", err)
	}
}

func collectWrites(s *apiServer) {
	s.crowd("collected", 1)
	program, output := build(s.t), filepath.Join(s.t.TempDir(), "bundle")
	text, err := exec.Command(program, "collect", "--output", output, "--namespaces", "none-of-them", "--kubeconfig", s.kubeconfig(readerToken)).CombinedOutput()
	if err != nil || !strings.Contains(string(text), "networkpolicies of the cluster: the API server forbids to list and watch them\n") {
		s.t.Errorf("%v: %s", err, text)
	}
	pods, err := os.ReadFile(filepath.Join(output, "cluster", "pods.yaml"))
	if err != nil || !strings.Contains(string(pods), "namespace: collected") {
		s.t.Errorf("%v: %s", err, pods)
	}
	for _, word := range []string{"secret", "image", "managedFields", readerToken} {
		if strings.Contains(string(pods), word) {
			s.t.Errorf("%s is in the bundle:\n%s", word, pods)
		}
	}
	read, err := bundle.Read(output)
	if err != nil || read.Cluster.Missing["networkpolicies"] == "" {
		s.t.Errorf("read back: %v, %+v", err, read)
	}
	s.disperse("collected")
}

// serve runs the daemon on the cluster's objects until the test ends, and returns
// what asks it.
func (s *apiServer) serve(token, config string) (get func(path string) (string, error)) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "plumbline.yaml")
	text := config + "probes: {enabled: false}\nkubernetes: {kubeconfig: " + s.kubeconfig(token) + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	d, err := exporter.New(exporter.Options{ConfigFile: file, ListenAddress: "127.0.0.1:0", Log: quiet})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(path string) (string, error) {
		r, err := client.Get("http://" + d.Addr().String() + path)
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
}

func diagnose(get func(string) (string, error)) (report verdict.Report, err error) {
	body, err := get("/api/v1/diagnose?from=node:beating&to=svc:default/kubernetes&port=443")
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal([]byte(body), &report)
}

func daemonSays(s *apiServer) {
	get := s.serve(readerToken, "collector: {namespaces: [none-of-them]}\n")
	var report verdict.Report
	s.await("the daemon answers", func(context.Context) (err error) {
		report, err = diagnose(get)
		return err
	})
	if report.Verdict != verdict.Unknown || report.Reason() != verdict.SnapshotMissing || report.Snapshot.ClusterAgeSeconds == nil {
		s.t.Errorf("of a node that is known, and was not collected: %s %v, %v old", report.Verdict, report.Reasons, report.Snapshot.ClusterAgeSeconds)
	}
	// What was listed is current once it is watched.
	s.await("the metrics say the same", func(context.Context) error {
		body, err := get("/metrics")
		for _, line := range []string{
			`plumbline_cluster_resource_known{resource="networkpolicies"} 0`, `plumbline_cluster_resource_known{resource="pods"} 1`,
			`plumbline_cluster_state_age_seconds{resource="nodes"} 0`, `plumbline_collector_success{collector="kubernetes"} 0`,
		} {
			if !strings.Contains(body, line+"\n") {
				err = errors.Join(err, fmt.Errorf("no %s among them", line))
			}
		}
		return err
	})
}

// While etcd does not answer nothing changes in the cluster, so that what the daemon
// knows is as new as anything; how long that lasts is all the same.
func etcdStandsStill(s *apiServer) {
	get := s.serve(adminToken, "collector: {namespaces: [none-of-them], maxAge: 0s}\n")
	known := func(what string) {
		s.t.Helper()
		s.await(what, func(context.Context) error {
			report, err := diagnose(get)
			if err == nil && (report.Reason() != verdict.SnapshotMissing || report.Snapshot.ClusterAgeSeconds == nil) {
				err = fmt.Errorf("%s %v, %v", report.Verdict, report.Reasons, report.Snapshot)
			}
			return err
		})
	}
	known("the daemon knows the cluster")
	if err := s.store.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	running := sync.OnceFunc(func() { _ = s.store.Process.Signal(syscall.SIGCONT) })
	defer running()
	s.await("each thread of etcd has stopped", func(context.Context) error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.store.Process.Pid))
		for _, thread := range threads {
			if stat, _ := os.ReadFile(thread); !strings.Contains(string(stat), ") T ") {
				err = errors.Join(err, fmt.Errorf("%s", stat))
			}
		}
		return err
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.resource("v1", "namespaces", "").Create(ctx, parse(s.t, "{apiVersion: v1, kind: Namespace, metadata: {name: late}}"), metav1.CreateOptions{}); err == nil {
		s.t.Error("the API server writes without etcd")
	}
	known("the daemon answers from what it knew")
	running()
	// It may have to elect itself again, and refuse until then.
	s.await("the API server writes again", func(ctx context.Context) error {
		_, err := s.resource("v1", "namespaces", "").Create(ctx, parse(s.t, "{apiVersion: v1, kind: Namespace, metadata: {name: thawed}}"), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	w := settled(s.t, s.config(adminToken))
	s.awaitState(w, "what comes after that is seen", func(o *cluster.Objects) bool {
		return slices.ContainsFunc(o.Namespaces, func(n corev1.Namespace) bool { return n.Name == "thawed" })
	})
	known("the daemon goes on")
}

func serverDiesAndReturns(s *apiServer) {
	w := settled(s.t, s.config(adminToken))
	s.crowd("away", 20)
	s.awaitState(w, "20 pods are there", func(o *cluster.Objects) bool { return podsOf(o, "away") == 20 })
	get := s.serve(adminToken, "collector: {namespaces: [none-of-them], maxAge: 0s}\nsnapshotMaxAge: 2s\n")
	answers := func(what string, is func(verdict.Report) bool) {
		s.t.Helper()
		s.await(what, func(context.Context) error {
			report, err := diagnose(get)
			if err == nil && !is(report) {
				err = fmt.Errorf("%s %v, %v", report.Verdict, report.Reasons, report.Snapshot)
			}
			return err
		})
	}
	stale := func(r verdict.Report) bool {
		return r.Reason() == verdict.SnapshotStale && strings.HasPrefix(r.Reasons[0].Message, "the state of the cluster's objects is ")
	}
	fresh := func(r verdict.Report) bool {
		return r.Reason() == verdict.SnapshotMissing && *r.Snapshot.ClusterAgeSeconds < 1
	}
	answers("the daemon knows the cluster", fresh)
	s.down()
	down := time.Now()
	answers("the daemon answers from what it knew", func(r verdict.Report) bool {
		return *r.Snapshot.ClusterAgeSeconds > 1 && slices.ContainsFunc(r.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.SnapshotMissing })
	})
	answers("the daemon trusts its state no more", stale)
	s.await("each resource is seen to be out of date", func(context.Context) error {
		for _, r := range w.Status() {
			if !r.Failing {
				return fmt.Errorf("%s does not fail", r.Resource)
			}
		}
		return nil
	})
	state := w.State()
	if podsOf(&state.Objects, "away") != 20 || len(state.Objects.Missing) > 0 || !state.Objects.Current.Before(down.Add(patience)) {
		s.t.Errorf("%d pods, missing %v", podsOf(&state.Objects, "away"), state.Objects.Missing)
	}
	if again := w.State(); again.Objects.Current.After(state.Objects.Current) || again.Generation != state.Generation {
		s.t.Errorf("while the server is away, the state of %v became one of %v", state.Objects.Current, again.Objects.Current)
	}
	s.up()
	returned := time.Now()
	s.disperse("away")
	s.awaitState(w, "the state is current again", func(o *cluster.Objects) bool {
		return podsOf(o, "away") == 0 && o.Current.After(returned) && len(o.Missing) == 0
	})
	answers("the daemon trusts its state again", fresh)
}
