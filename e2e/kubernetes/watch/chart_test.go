//go:build k8s && linux

package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-net/plumbline/charts"
)

// resources are those that a chart's objects are of, by kind.
var resources = map[string]string{
	"ConfigMap": "configmaps", "Secret": "secrets", "Service": "services", "ServiceAccount": "serviceaccounts",
	"DaemonSet": "daemonsets", "Deployment": "deployments", "PodDisruptionBudget": "poddisruptionbudgets", "NetworkPolicy": "networkpolicies",
	"Certificate": "certificates", "PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules",
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "Role": "roles", "RoleBinding": "rolebindings",
}

func TestChart(t *testing.T) {
	chart := charts.Open(filepath.Join("..", "..", ".."))
	files, err := chart.ValueFiles()
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	s := start(t)
	s.create("namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: net}}")
	s.create("namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: other}}")
	for _, level := range []string{"restricted", "privileged"} {
		s.create("namespaces", fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: %[1]s}}}", level))
	}
	s.await("the API server has its own roles", func(ctx context.Context) error {
		_, err := s.resource("rbac.authorization.k8s.io/v1", "clusterroles", "").Get(ctx, "system:auth-delegator", metav1.GetOptions{})
		return err
	})
	for _, resource := range []string{"certificates.cert-manager.io", "podmonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"} {
		s.define(resource)
	}
	for _, file := range files {
		t.Run("the API server takes "+strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			objects := renderChart(t, chart, "--values", file)
			for _, object := range objects {
				if err := s.take(t.Context(), object, true); err != nil {
					t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
				}
			}
			if len(objects) < 5 {
				t.Errorf("there are %d objects", len(objects))
			}
		})
	}
	t.Run("the API server knows what a PodMonitor has", func(t *testing.T) {
		monitor := parse(t, "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: a, namespace: net}, spec: {selector: {}, podMetricsEndpoints: [{prot: https}]}}")
		if err := s.take(t.Context(), monitor, true); err == nil || !strings.Contains(err.Error(), "podMetricsEndpoints[0].prot") {
			t.Errorf("one that has something else: %v", err)
		}
	})
	t.Run("Pod Security", func(t *testing.T) { podSecurity(t, s, chart) })
	t.Run("accounts may do what they need and nothing else", func(t *testing.T) { rights(t, s, chart) })
}

// operators are the modules that define kinds which the chart has objects of, and the
// files there, by resource and group.
var operators = map[string]string{
	"github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/%[2]s_%[1]s.yaml",
	"github.com/cert-manager/cert-manager":               "deploy/crds/%[2]s_%[1]s.yaml",
}

// define makes a resource of an operator known, as the operator itself defines it.
func (s *apiServer) define(resource string) {
	s.t.Helper()
	download := exec.Command("go", "mod", "download", "-json")
	download.Dir = filepath.Join("..", "operators")
	out, err := download.Output()
	if err != nil {
		s.t.Fatalf("go mod download: %v\n%s", err, out)
	}
	plural, group, _ := strings.Cut(resource, ".")
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var module struct{ Path, Dir string }
		if err := decoder.Decode(&module); err != nil {
			s.t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(module.Dir, fmt.Sprintf(operators[module.Path], plural, group)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.create("customresourcedefinitions", string(text))
		s.await("the API server serves "+resource, func(ctx context.Context) error {
			_, err := s.resource(group+"/v1", plural, "net").List(ctx, metav1.ListOptions{})
			return err
		})
		return
	}
	s.t.Fatalf("no operator defines %s", resource)
}

func renderChart(t *testing.T, chart *charts.Chart, args ...string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := chart.Render(t.Context(), "rel", "net", args...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// take applies an object as Helm does, and refuses fields that the API does not know.
func (s *apiServer) take(ctx context.Context, object *unstructured.Unstructured, dry bool) error {
	options := metav1.PatchOptions{FieldManager: "helm", FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	text, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	resource := s.resource(object.GetAPIVersion(), resources[object.GetKind()], object.GetNamespace())
	_, err = resource.Patch(ctx, object.GetName(), "application/apply-patch+yaml", text, options)
	return err
}

// podSecurity shows what levels of Pod Security admit the pods of both roles: the API
// server's own admission decides.
func podSecurity(t *testing.T, s *apiServer, chart *charts.Chart) {
	pods := map[string]map[string]any{}
	for _, object := range renderChart(t, chart) {
		if kind := object.GetKind(); kind == "DaemonSet" || kind == "Deployment" {
			pods[kind], _, _ = unstructured.NestedMap(object.Object, "spec", "template")
		}
	}
	for _, test := range []struct {
		kind, level string
		refused     string
	}{
		{"Deployment", "restricted", ""},
		{"DaemonSet", "privileged", ""},
		{"DaemonSet", "restricted", "violates PodSecurity"},
	} {
		pod := &unstructured.Unstructured{Object: maps.Clone(pods[test.kind])}
		pod.SetAPIVersion("v1")
		pod.SetKind("Pod")
		pod.SetName("one")
		unstructured.RemoveNestedField(pod.Object, "spec", "priorityClassName") // kubelets' own namespaces have that one
		_, err := s.resource("v1", "pods", test.level).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
			t.Errorf("a pod of the %s where the level is %s: %v; want %q", test.kind, test.level, err, test.refused)
		}
	}
}

// rights installs the chart's accounts and roles, and asks as each account.
func rights(t *testing.T, s *apiServer, chart *charts.Chart) {
	for _, object := range renderChart(t, chart) {
		if kind := object.GetKind(); kind == "ServiceAccount" || strings.Contains(kind, "Role") {
			if err := s.take(t.Context(), object, false); err != nil {
				t.Fatalf("%s %s: %v", kind, object.GetName(), err)
			}
		}
	}
	s.create("secrets", "{apiVersion: v1, kind: Secret, metadata: {name: password, namespace: net}}")
	const (
		core      = "v1"
		discovery = "discovery.k8s.io/v1"
		net       = "networking.k8s.io/v1"
		leases    = "coordination.k8s.io/v1"
		lease     = "rel-plumbline-controller"
	)
	list := func(ctx context.Context, r dynamic.ResourceInterface) error {
		_, err := r.List(ctx, metav1.ListOptions{Limit: 1})
		return err
	}
	watch := func(ctx context.Context, r dynamic.ResourceInterface) error {
		// From whatever the server has: for what is newest it takes three seconds to make sure.
		w, err := r.Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err == nil {
			w.Stop()
		}
		return err
	}
	get := func(name string) func(context.Context, dynamic.ResourceInterface) error {
		return func(ctx context.Context, r dynamic.ResourceInterface) error {
			_, err := r.Get(ctx, name, metav1.GetOptions{})
			return err
		}
	}
	create := func(text string) func(context.Context, dynamic.ResourceInterface) error {
		object := parse(t, text)
		return func(ctx context.Context, r dynamic.ResourceInterface) error {
			_, err := r.Create(ctx, object, metav1.CreateOptions{})
			return err
		}
	}
	update := func(name string) func(context.Context, dynamic.ResourceInterface) error {
		return func(ctx context.Context, r dynamic.ResourceInterface) error {
			_, err := r.Update(ctx, parse(t, "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: "+name+"}}"), metav1.UpdateOptions{})
			return err
		}
	}
	remove := func(name string) func(context.Context, dynamic.ResourceInterface) error {
		return func(ctx context.Context, r dynamic.ResourceInterface) error {
			return r.Delete(ctx, name, metav1.DeleteOptions{})
		}
	}
	both, agent, controller, nobody := "agent controller", "agent", "controller", ""
	tests := []struct {
		what                          string
		apiVersion, resource, whereIn string
		do                            func(context.Context, dynamic.ResourceInterface) error
		who                           string
	}{
		{"list pods", core, "pods", "", list, both},
		{"watch pods", core, "pods", "", watch, both},
		{"list nodes", core, "nodes", "", list, both},
		{"watch nodes", core, "nodes", "", watch, both},
		{"list services", core, "services", "", list, controller},
		{"watch services", core, "services", "", watch, controller},
		{"list namespaces", core, "namespaces", "", list, controller},
		{"list endpointslices", discovery, "endpointslices", "", list, controller},
		{"watch endpointslices", discovery, "endpointslices", "", watch, controller},
		{"list networkpolicies", net, "networkpolicies", "", list, controller},
		{"review a token", "authentication.k8s.io/v1", "tokenreviews", "", create("{apiVersion: authentication.k8s.io/v1, kind: TokenReview, metadata: {}, spec: {token: t}}"), both},
		{"review an access", "authorization.k8s.io/v1", "subjectaccessreviews", "", create("{apiVersion: authorization.k8s.io/v1, kind: SubjectAccessReview, metadata: {}, spec: {user: u, nonResourceAttributes: {path: /metrics, verb: get}}}"), both},
		{"create the lease", leases, "leases", "net", create("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: " + lease + ", namespace: net}}"), controller},
		{"get the lease", leases, "leases", "net", get(lease), controller},
		{"update the lease", leases, "leases", "net", update(lease), controller},
		{"get another lease", leases, "leases", "net", get("other"), nobody},
		{"update another lease", leases, "leases", "net", update("other"), nobody},
		{"delete the lease", leases, "leases", "net", remove(lease), nobody},
		{"create a lease elsewhere", leases, "leases", "other", create("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: " + lease + ", namespace: other}}"), nobody},
		{"list secrets", core, "secrets", "", list, nobody},
		{"list the own secrets", core, "secrets", "net", list, nobody},
		{"get a secret of the own namespace", core, "secrets", "net", get("password"), nobody},
		{"list configmaps", core, "configmaps", "net", list, nobody},
		{"get a pod", core, "pods", "net", get("none"), nobody},
		{"delete a pod", core, "pods", "net", remove("none"), nobody},
		{"create a pod", core, "pods", "net", create("{apiVersion: v1, kind: Pod, metadata: {name: evil, namespace: net}, spec: {containers: [{name: c, image: i}]}}"), nobody},
		{"list cluster roles", "rbac.authorization.k8s.io/v1", "clusterroles", "", list, nobody},
	}
	ask := func(ctx context.Context, account string, client dynamic.Interface, i int) error {
		test := tests[i]
		version, err := schema.ParseGroupVersion(test.apiVersion)
		if err != nil {
			return err
		}
		err = test.do(ctx, client.Resource(version.WithResource(test.resource)).Namespace(test.whereIn))
		if meta.IsNoMatchError(err) || err != nil && !errors.As(err, new(apierrors.APIStatus)) {
			return fmt.Errorf("%s, to %s: %w", account, test.what, err)
		}
		// What is not there, or is the same, was allowed all the same.
		if got, want := !apierrors.IsForbidden(err), strings.Contains(test.who, account); got != want {
			return fmt.Errorf("%s may %s: %t, want %t (%v)", account, test.what, got, want, err)
		}
		return nil
	}
	for _, account := range []string{agent, controller} {
		client, err := dynamic.NewForConfig(s.config(s.token("net", "rel-plumbline-"+account)))
		if err != nil {
			t.Fatal(err)
		}
		// The authorizer learns of roles a moment after they are there, one by one.
		for i := range tests {
			if strings.Contains(tests[i].who, account) {
				s.await(account+" may "+tests[i].what, func(ctx context.Context) error { return ask(ctx, account, client, i) })
			}
		}
		for i := range tests {
			if err := ask(t.Context(), account, client, i); err != nil {
				t.Error(err)
			}
		}
	}
}
