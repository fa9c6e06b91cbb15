package kubernetes

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/plumbline-net/plumbline/internal/heapsize"
)

var (
	_ cache.ReflectorStore    = (*store[corev1.Pod])(nil)
	_ cache.TransformingStore = (*store[corev1.Pod])(nil)
)

// idle is a watcher that asks nobody.
func idle(tb testing.TB) *Watcher {
	tb.Helper()
	w, err := New(&rest.Config{Host: "https://192.0.2.1"}, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// pod is one of a ReplicaSet, as an API server sends it.
func pod(i int) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("api-7d4b9c6f5-%05d", i), Namespace: fmt.Sprintf("team-%d", i%50), UID: "0b8f5a3e-5b7f-4b0e-9f3c-000000000001",
			Labels:        map[string]string{"app": fmt.Sprintf("api-%d", i%2000), "pod-template-hash": "7d4b9c6f5", "tier": "backend"},
			Annotations:   map[string]string{"kubectl.kubernetes.io/last-applied-configuration": string(make([]byte, 2000))},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(string(make([]byte, 1500)))}},
		},
		Spec: corev1.PodSpec{
			NodeName:       fmt.Sprintf("node-%d", i%1000),
			InitContainers: []corev1.Container{{Name: "mesh", RestartPolicy: &always, Image: "registry.example/mesh:1"}},
			Containers: []corev1.Container{{
				Name: "api", Image: "registry.example/api:1.2.3", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: "secret"}},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			}},
			Volumes: []corev1.Volume{{Name: "token"}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: "10.0.0.1", PodIP: fmt.Sprintf("10.%d.%d.%d", 64+i/65536, i/256%256, i%256),
			PodIPs:            []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", 64+i/65536, i/256%256, i%256)}},
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "api", Ready: true, ContainerID: fmt.Sprintf("containerd://%064d", i), Image: "registry.example/api:1.2.3"}},
		},
	}
}

func node(name string, heartbeat time.Time, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(heartbeat)}},
		Images:     []corev1.ContainerImage{{Names: []string{"registry.example/api:1.2.3"}}},
	}}
}

func names(pods []corev1.Pod) []string {
	list := make([]string, len(pods))
	for i := range pods {
		list[i] = pods[i].Name
	}
	slices.Sort(list)
	return list
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestStatesShareWhatDidNotChange(t *testing.T) {
	w := idle(t)
	must(t, w.pods.Replace([]any{pod(1), pod(2), pod(3)}, "1"))
	must(t, w.nodes.Replace([]any{node("a", time.Unix(1, 0), corev1.ConditionTrue)}, "1"))
	first := w.State()
	if again := w.State(); again.Generation != first.Generation || !again.Objects.Same(&first.Objects) {
		t.Error("nothing happened, and yet the objects are other ones")
	}
	must(t, w.nodes.Update(node("a", time.Unix(60, 0), corev1.ConditionTrue)))
	must(t, w.pods.Replace([]any{pod(3), pod(2), pod(1)}, "2"))
	if again := w.State(); again.Generation != first.Generation || !again.Objects.Same(&first.Objects) {
		t.Error("a heartbeat, and a list of the same, have made other objects")
	}

	must(t, w.nodes.Update(node("a", time.Unix(61, 0), corev1.ConditionFalse)))
	second := w.State()
	if second.Generation == first.Generation || second.Objects.Same(&first.Objects) {
		t.Error("a node that is not ready any more has changed nothing")
	}
	if &second.Objects.Pods[0] != &first.Objects.Pods[0] {
		t.Error("pods, which did not change, were copied")
	}
	must(t, w.pods.Delete(pod(2)))
	must(t, w.pods.Add(pod(4)))
	must(t, w.pods.Delete(cache.DeletedFinalStateUnknown{Key: "team-9/nobody"}))
	if got := names(second.Objects.Pods); !slices.Equal(got, names([]corev1.Pod{*pod(1), *pod(2), *pod(3)})) {
		t.Errorf("an old state has changed: %v", got)
	}
	if got := names(w.State().Objects.Pods); !slices.Equal(got, names([]corev1.Pod{*pod(1), *pod(3), *pod(4)})) {
		t.Errorf("got %v", got)
	}
	if got := second.Objects.Nodes[0].Status.Conditions[0].Status; got != corev1.ConditionFalse {
		t.Errorf("got %v", got)
	}
}

func TestOnlyWhatIsNeededIsKept(t *testing.T) {
	w := idle(t)
	must(t, w.pods.Replace([]any{pod(1)}, "1"))
	p := w.State().Objects.Pods[0]
	if len(p.Annotations)+len(p.ManagedFields)+len(p.Spec.Volumes)+len(p.Spec.Containers[0].Env) > 0 || p.Spec.Containers[0].Image != "" {
		t.Errorf("got %+v", p)
	}
	if p.Spec.NodeName != "node-1" || p.Status.PodIP != "10.64.0.1" || p.Labels["app"] != "api-1" {
		t.Errorf("got %+v", p)
	}
}

func TestWhatWasNotReadIsMissing(t *testing.T) {
	w := idle(t)
	all := []string{"endpointslices", "namespaces", "networkpolicies", "nodes", "otherpolicies", "pods", "services"}
	before := w.State()
	if got := slices.Sorted(maps.Keys(before.Objects.Missing)); !slices.Equal(got, all) || !before.Objects.Current.IsZero() {
		t.Errorf("got %v, current at %v", got, before.Objects.Current)
	}
	must(t, w.pods.Replace(nil, "1"))
	if after := w.State(); after.Objects.Missing["pods"] != "" || after.Generation == before.Generation || after.Objects.Current.IsZero() {
		t.Errorf("got %+v", after)
	}
	w.policies.fails(t.Context(), apierrors.NewForbidden(schema.GroupResource{Resource: "networkpolicies"}, "", nil))
	must(t, w.policies.Replace([]any{&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}}, "1"))
	if got := w.State().Objects; got.Missing["networkpolicies"] != "the API server forbids to list and watch them" || len(got.NetworkPolicies) != 0 {
		t.Errorf("of policies that may be listed, but not watched: %+v", got)
	}
	w.policies.opens(true)
	if got := w.State().Objects; got.Missing["networkpolicies"] != "" || len(got.NetworkPolicies) != 1 {
		t.Errorf("once they may be: %+v", got)
	}
	w.policies.fails(t.Context(), apierrors.NewInternalError(fmt.Errorf("etcd is away")))
	if got := w.State(); got.Objects.Missing["networkpolicies"] != "" || len(got.Objects.NetworkPolicies) != 1 {
		t.Errorf("a server that fails takes nothing away: %+v", got)
	}
}

func TestAServerThatHasJustStartedRefusesForAWhile(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil)
	w := idle(t)
	must(t, w.pods.Replace([]any{pod(1)}, "1"))
	w.pods.fails(t.Context(), forbidden)
	if got := w.State().Objects; got.Missing["pods"] != "" || len(got.Pods) != 1 {
		t.Errorf("one refusal has taken what was known: %+v", got.Missing)
	}
	w.options.Retry = 0 // as if it had gone on for long
	w.pods.refusing = w.pods.refusing.Add(-1)
	w.pods.fails(t.Context(), forbidden)
	if got := w.State().Objects; got.Missing["pods"] == "" || len(got.Pods) != 0 {
		t.Errorf("what may not be read any more is known: %+v", got)
	}
}

func TestAskingForKindsOfPoliciesMayFailForAWhile(t *testing.T) {
	w := idle(t)
	w.others.fails(t.Context(), apierrors.NewForbidden(schema.GroupResource{Resource: "apis"}, "", nil))
	if w.State().Objects.Missing["otherpolicies"] == "" {
		t.Error("which kinds there are is known, though nobody may ask")
	}
	w.others.found(t.Context(), w.client, nil)
	if got := w.State().Objects.Missing["otherpolicies"]; got != "" {
		t.Errorf("once one may: %s", got)
	}
}

// filled adds the i-th object of each kind.
var filled = map[string]func(w *Watcher, i int) error{
	"pod": func(w *Watcher, i int) error { return w.pods.Add(pod(i)) },
	"service": func(w *Watcher, i int) error {
		return w.services.Add(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("api-%d", i), Namespace: fmt.Sprintf("team-%d", i%50), Labels: map[string]string{"app": fmt.Sprintf("api-%d", i)}},
			Spec: corev1.ServiceSpec{
				ClusterIP: fmt.Sprintf("10.96.%d.%d", i/256, i%256), ClusterIPs: []string{fmt.Sprintf("10.96.%d.%d", i/256, i%256)}, Selector: map[string]string{"app": fmt.Sprintf("api-%d", i)},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}},
			},
		})
	},
	"policy": func(w *Watcher, i int) error {
		selector := metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("api-%d", i)}}
		port := intstr.FromString("http")
		return w.policies.Add(&networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("api-%d", i), Namespace: fmt.Sprintf("team-%d", i%50)},
			Spec: networkingv1.NetworkPolicySpec{PodSelector: selector, Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{PodSelector: &selector}}, Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
			}}},
		})
	},
}

// heapOf is what is kept of each of count objects of a kind, in bytes of the heap.
func heapOf(tb testing.TB, kind string, count int) int64 {
	tb.Helper()
	w := idle(tb)
	before := heapsize.Live()
	for i := range count {
		must(tb, filled[kind](w, i))
	}
	each := (heapsize.Live() - before) / int64(count)
	runtime.KeepAlive(w)
	return each
}

// TestWhatIsKeptOfTheClusterIsLittle holds what docs/performance.md says of each object. What nobody
// needs of them, such as managed fields, annotations and environments, may be of any size.
func TestWhatIsKeptOfTheClusterIsLittle(t *testing.T) {
	for kind, most := range map[string]int64{"pod": 3500, "service": 1800, "policy": 1200} {
		if each := heapOf(t, kind, 4000); each > most || each < most/2 {
			t.Errorf("a %s takes %d bytes, want %d at most, and not much less", kind, each, most)
		}
	}
}

// BenchmarkMemory prints what is kept, in bytes of the heap for each object.
func BenchmarkMemory(b *testing.B) {
	for _, kind := range slices.Sorted(maps.Keys(filled)) {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(heapOf(b, kind, 20_000)), "heap-B/object")
			}
		})
	}
}
