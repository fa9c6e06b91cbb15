package exporter

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestEndpointsThatCanBeConfigured(t *testing.T) {
	if d := cmp.Diff(alibaba.Products(), schedules.CloudEndpoints); d != "" {
		t.Error(d)
	}
}

// twoNodes are the nodes of the small cloud: the one is known by its instance, the
// other by its addresses.
func twoNodes() *simulator.Snapshot {
	snap := &simulator.Snapshot{Taken: time.Now()}
	snap.Cluster.Nodes = []corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{ProviderID: "cn-test.i-a"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}, Spec: corev1.NodeSpec{ProviderID: "cn-other.i-b"}},
	}
	for _, n := range []struct{ name, mac, addr string }{
		{"a", "00:16:3e:00:00:01", "10.0.0.1/24"}, {"b", "00:16:3e:00:00:02", "10.0.1.2/24"},
	} {
		mac, _ := netstack.ParseMAC(n.mac)
		addr := netip.MustParsePrefix(n.addr)
		snap.Namespaces = append(snap.Namespaces, &netstack.Namespace{
			Name: n.name + "/host", Kind: netstack.KindNode, Node: n.name, Taken: time.Now(),
			Links:     []netstack.Link{{Index: 2, Name: "eth0", MAC: mac, MTU: 1500, Flags: netstack.FlagUp | netstack.FlagLowerUp}},
			Addresses: []netstack.Address{{Dev: "eth0", Prefix: addr}},
		})
	}
	return snap
}

func TestNodesAsTheCloudKnowsThem(t *testing.T) {
	nodes := CloudNodes(twoNodes(), "cn-test")
	slices.SortFunc(nodes, func(a, b alibaba.Node) int { return strings.Compare(b.Instance, a.Instance) })
	if len(nodes) < 2 || nodes[0].Instance != "i-a" || nodes[0].Addrs[0] != netip.MustParseAddr("10.0.0.1") || nodes[1].Instance != "" {
		t.Errorf("nodes are %+v", nodes)
	}
}

// inCloud is the configuration of a daemon in a cloud.
func inCloud(t *testing.T, s *alibabatest.Server) *schedules.Config {
	t.Helper()
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.KeyID)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", alibabatest.KeySecret)
	config := schedules.Default()
	config.Cloud.Provider, config.Cloud.Region, config.Cloud.Endpoints = schedules.CloudAlibaba, "cn-test", s.Endpoints()
	return config
}

// TestStateHasTheCloudInIt adds facts to what is collected; those that are the same are
// the same ones, so that nothing is compiled again.
func TestStateHasTheCloudInIt(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	var log bytes.Buffer
	c, err := newCloudFacts(inCloud(t, s), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	collected := twoNodes()
	collect := c.added(func(context.Context, time.Duration) (*simulator.Snapshot, error) { return collected, nil })
	first, err := collect(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if f := first.Cloud; len(f.Interfaces) != 2 || len(f.Failed) > 0 || first.CloudTaken.IsZero() {
		t.Errorf("facts are %+v", f)
	}
	if collected.Cloud != nil {
		t.Error("what was collected has changed")
	}
	again, err := collect(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if again.Cloud != first.Cloud {
		t.Error("facts that are the same are others")
	}
	n := newNetwork(collect, false, slog.New(slog.DiscardHandler), newMetrics().phases)
	defer n.close()
	n.maxAge.Store(int64(time.Minute))
	v, err := n.view(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	report, err := v.Diagnose(t.Context(), verdict.Query{From: "node:a", To: "10.0.1.2", Port: 80, Protocol: verdict.TCP})
	if err != nil {
		t.Fatal(err)
	}
	if age := report.Snapshot.CloudAgeSeconds; age == nil || *age < 0 || *age > 600 {
		t.Errorf("age is %v", age)
	}
	s.Untold(t, "the log", log.String())
}

// TestACollectionThatIsGivenUp ends while the cloud is silent.
func TestACollectionThatIsGivenUp(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	s.Fail("ecs.DescribeInstances", alibabatest.Silent)
	c, err := newCloudFacts(inCloud(t, s), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ctx, cancel := context.WithCancel(t.Context())
	collect := c.added(func(context.Context, time.Duration) (*simulator.Snapshot, error) {
		cancel()
		return twoNodes(), nil
	})
	if _, err := collect(ctx, 0); err == nil {
		t.Error("it went on")
	}
}
