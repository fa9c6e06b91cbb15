package alibaba_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	model "github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nodes are those of the small cloud.
var nodes = []alibaba.Node{{Instance: "i-a"}, {Instance: "i-b"}}

// node is one that may be found by what its network namespace has.
func node(instance, mac, addr string) alibaba.Node {
	m, _ := netstack.ParseMAC(mac)
	return alibaba.Node{Instance: instance, MACs: []netstack.MAC{m}, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
}

// reader reads a cloud with the key of its account.
func reader(t *testing.T, s *alibabatest.Server, change ...func(*alibaba.Options)) *alibaba.Reader {
	t.Helper()
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.KeyID)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", alibabatest.KeySecret)
	o := alibaba.Options{Region: "cn-test", Endpoints: s.Endpoints()}
	for _, c := range change {
		c(&o)
	}
	r, err := alibaba.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// same compares facts, in whatever order.
func same(t *testing.T, got, want *model.Facts) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(model.Facts{}, "Read", "Failed", "Pages"),
		cmpopts.SortSlices(func(a, b model.SecurityGroupAttribute) bool { return a.SecurityGroupId < b.SecurityGroupId }),
		cmpopts.SortSlices(func(a, b model.LoadBalancer) bool { return a.LoadBalancerId < b.LoadBalancerId }),
		cmpopts.SortSlices(func(a, b model.LoadBalancerAttribute) bool { return a.LoadBalancerId < b.LoadBalancerId }),
		cmpopts.SortSlices(func(a, b model.HealthStatus) bool { return a.LoadBalancerId < b.LoadBalancerId }),
	); d != "" {
		t.Error(d)
	}
}

func TestEverythingIsRead(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	f := reader(t, s).Fetch(t.Context(), nodes)
	same(t, f, alibabatest.Small())
	if len(f.Failed) > 0 {
		t.Errorf("failed: %v", f.Failed)
	}
	actions := slices.Sorted(slices.Values(alibaba.Actions()))
	if d := cmp.Diff(actions, slices.Sorted(maps.Keys(s.Calls()))); d != "" {
		t.Errorf("actions that were called: %s", d)
	}
	if d := cmp.Diff(actions, slices.Sorted(maps.Keys(f.Read))); d != "" {
		t.Errorf("actions that were read: %s", d)
	}
}

// TestEndpoints has what is published of each product (API, Endpoints).
func TestEndpoints(t *testing.T) {
	for _, c := range []struct{ region, product, want string }{
		{"cn-hangzhou", "ecs", "https://ecs.cn-hangzhou.aliyuncs.com"},
		{"cn-hangzhou", "vpc", "https://vpc.cn-hangzhou.aliyuncs.com"},
		{"cn-hangzhou", "slb", "https://slb.aliyuncs.com"},
		{"cn-beijing", "slb", "https://slb.cn-beijing.aliyuncs.com"},
		{"cn-hangzhou", "nlb", "https://nlb.cn-hangzhou.aliyuncs.com"},
		{"ap-southeast-1", "alb", "https://alb.ap-southeast-1.aliyuncs.com"},
		{"cn-hangzhou", "sts", "https://sts.cn-hangzhou.aliyuncs.com"},
		{"cn-hangzhou", "metadata", "http://100.100.100.200"},
	} {
		if got := (&alibaba.Options{Region: c.region}).Endpoint(c.product); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.product, c.region, got, c.want)
		}
	}
}
