package exporter

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/snapshot"
)

// TestAgentsAreAskedForStateAsOldAsMayBe has an agent with state of a minute ago:
// whoever is content with that gets it, and nobody takes it for newer than it is. Another one
// cannot collect any more: how old its state is says nothing of the first one's.
func TestAgentsAreAskedForStateAsOldAsMayBe(t *testing.T) {
	const age = time.Minute
	var asked []time.Duration
	agent := httptest.NewServer(snapshot.NewServer("node-1", func(_ context.Context, maxAge time.Duration) (*simulator.Snapshot, time.Time, error) {
		asked = append(asked, maxAge)
		began := time.Now()
		if maxAge >= age {
			began = began.Add(-age)
		}
		return &simulator.Snapshot{Namespaces: []*netstack.Namespace{{Name: "host", Kind: netstack.KindNode}}}, began, nil
	}, slog.New(slog.DiscardHandler)))
	t.Cleanup(agent.Close)
	const old = 2 * time.Hour
	lastState, lastCollected := &simulator.Snapshot{Namespaces: []*netstack.Namespace{{Name: "host", Kind: netstack.KindNode}}}, time.Now().Add(-old)
	broken := httptest.NewServer(snapshot.NewServer("node-2", func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		return lastState, lastCollected, nil
	}, slog.New(slog.DiscardHandler)))
	t.Cleanup(broken.Close)
	config := schedules.Controller{Timeout: time.Minute}
	for node, at := range map[string]string{"node-1": agent.URL, "node-2": broken.URL} {
		address, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		config.Agents = append(config.Agents, schedules.Agent{Node: node, URL: address})
	}
	fleet, err := newFleet(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.close)
	fleet.objects = func() (cluster.Objects, error) { return cluster.Objects{}, nil }
	n := newNetwork(fleet.collect, false, slog.New(slog.DiscardHandler), newMetrics().phases)
	n.fromAgents = true
	t.Cleanup(n.close)

	view := func(notBefore time.Time) *view {
		t.Helper()
		v, err := n.view(t.Context(), notBefore)
		if err != nil {
			t.Fatal(err)
		}
		if v.began.Before(notBefore) {
			t.Errorf("state of %s, which is before %s", v.began, notBefore)
		}
		if age := time.Since(v.oldest["node-2"]); age < old || age > old+time.Hour {
			t.Errorf("the state of node-2 is said to be %s old", age)
		}
		if node := v.oldest["node-1"]; !monotonic(v.began) || !monotonic(node) {
			t.Errorf("the ages of what is from %s, node-1 %s, change with the clock", v.began, node)
		}
		return v
	}
	began := time.Now()
	first := view(began.Add(-time.Hour))
	if len(asked) != 1 || asked[0] < 59*time.Minute || asked[0] > time.Hour {
		t.Errorf("asked for state of at most %v, want an hour", asked)
	}
	if began.Sub(first.began) < age-time.Second {
		t.Errorf("state of a minute ago is said to be of %s, at %s", first.began, began)
	}
	if again := view(began.Add(-time.Hour)); again != first || len(asked) != 1 {
		t.Errorf("the same was collected again: %v", asked)
	}
	// It is older than this, though it was fetched later.
	second := view(began.Add(-age / 2))
	if len(asked) != 2 || asked[1] >= age {
		t.Errorf("asked for state of at most %v, want half a minute", asked)
	}
	// What confirms a failure is collected anew.
	if third := view(time.Now()); len(asked) != 3 || asked[2] != 0 || !third.Taken().After(second.Taken()) {
		t.Errorf("asked for state of at most %v; taken at %s, and %s before", asked, third.Taken(), second.Taken())
	}
}

// TestAgentsAreFoundAmongPods holds controller.discover against pods of all kinds.
func TestAgentsAreFoundAmongPods(t *testing.T) {
	pod := func(namespace, app, node, ip string, phase corev1.PodPhase) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: ip, Phase: phase},
		}
	}
	selector, err := labels.Parse("app=agent")
	if err != nil {
		t.Fatal(err)
	}
	config := &schedules.Controller{
		Discover: schedules.Discover{Namespace: "plumbline", Selector: selector, Port: 9810},
		Agents:   []schedules.Agent{{Node: "node-3", URL: &url.URL{Scheme: "http", Host: "configured:1"}}},
	}
	got := map[string]string{}
	for node, address := range agentsOf(config, &cluster.Objects{Pods: []corev1.Pod{
		pod("plumbline", "agent", "node-1", "192.0.2.1", corev1.PodRunning),
		pod("plumbline", "agent", "node-2", "2001:db8::2", corev1.PodRunning),
		pod("plumbline", "agent", "node-3", "192.0.2.3", corev1.PodRunning),
		pod("plumbline", "controller", "node-4", "192.0.2.4", corev1.PodRunning),
		pod("other", "agent", "node-5", "192.0.2.5", corev1.PodRunning),
		pod("plumbline", "agent", "node-6", "192.0.2.6", corev1.PodPending),
		pod("plumbline", "agent", "node-7", "192.0.2.7", corev1.PodFailed),
		pod("plumbline", "agent", "node-8", "", corev1.PodRunning),
		pod("plumbline", "agent", "", "192.0.2.9", corev1.PodRunning),
		// The one that replaces it is not there yet.
		pod("plumbline", "agent", "node-1", "192.0.2.10", corev1.PodSucceeded),
	}}) {
		got[node] = address.String()
	}
	want := map[string]string{"node-1": "https://192.0.2.1:9810", "node-2": "https://[2001:db8::2]:9810", "node-3": "http://configured:1"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	config.Discover = schedules.Discover{}
	if got := agentsOf(config, &cluster.Objects{Pods: []corev1.Pod{pod("", "", "node-1", "192.0.2.1", corev1.PodRunning)}}); len(got) != 1 {
		t.Errorf("nothing is to be found, and got %v", got)
	}
}

// A collection that yields what is older than the probe is none that a probe can be held against.
func TestStateFromBeforeAProbeIsNotCollectedAgain(t *testing.T) {
	n := newNetwork(func(context.Context, time.Duration) (*simulator.Snapshot, error) {
		return &simulator.Snapshot{Taken: time.Now().Add(-time.Hour)}, nil
	}, false, slog.New(slog.DiscardHandler), newMetrics().phases)
	n.fromAgents = true
	t.Cleanup(n.close)
	subject, err := (&confirmation{network: n}).again(t.Context(), n.view)
	if subject != nil || err == nil || err.Error() != "what was collected is older than the probe" {
		t.Errorf("%v, error %v", subject, err)
	}
}

// TestTheAgentOfTheNodeIsAsked has an agent that answers whatever it is asked.
func TestTheAgentOfTheNodeIsAsked(t *testing.T) {
	var order string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		order = r.Method + " " + r.URL.Path + " " + string(body)
		_, _ = io.WriteString(w, `{"status":"ok","addresses":["192.0.2.1"],"ttl":1000000000}`)
	}))
	t.Cleanup(agent.Close)
	address, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := newFleet(schedules.Controller{Timeout: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.close)
	fleet.urls = map[string]*url.URL{"node-1": address}
	q := resolver.Question{Namespace: qualified("node-1", "pod-a"), Server: netip.MustParseAddr("10.96.0.10"), Name: "example.org"}
	heard, err := fleet.ask(t.Context(), q)
	if err != nil || heard.Question != q || heard.Status != resolver.OK || heard.TTL != time.Second || len(heard.Addresses) != 1 {
		t.Errorf("heard %+v, %v", heard, err)
	}
	if want := `POST /agent/v1/probe {"namespace":"pod-a","question":{"server":"10.96.0.10","name":"example.org"}}`; order != want {
		t.Errorf("the agent was asked for\n%s, not\n%s", order, want)
	}
	q.Namespace = qualified("node-2", "pod-a")
	if _, err := fleet.ask(t.Context(), q); err == nil || err.Error() != "node-2/pod-a is on no node that has an agent" {
		t.Errorf("error %v", err)
	}
}

// What a node's kernel says of a network namespace names it as the controller does.
func TestMessagesOfAKernelNameNamespacesOfItsNode(t *testing.T) {
	of := func(namespace string) *netstack.HostFacts {
		return &netstack.HostFacts{Messages: []netstack.KernelMessage{
			{KernelSaid: netstack.KernelSaid{Event: netstack.EventConntrackFull}},
			{KernelSaid: netstack.KernelSaid{Event: netstack.EventConntrackFull, Namespace: namespace}},
		}}
	}
	fetched := of("host")
	if got := qualifiedFacts("a", fetched); !reflect.DeepEqual(got, of("a/host")) || !reflect.DeepEqual(fetched, of("host")) {
		t.Errorf("%+v, of %+v", got, fetched)
	}
	if got := qualifiedFacts("a", nil); got != nil {
		t.Errorf("%+v, of nothing", got)
	}
}
