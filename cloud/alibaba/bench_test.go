package alibaba_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	model "github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// large is a cloud of 5,000 instances, 200 security groups of 100 rules each, and 50
// load balancers with 100 backends each.
func large() *model.Facts {
	f := alibabatest.Small()
	for i := range 5000 {
		n, e := f.Instances[1], f.Interfaces[1]
		n.InstanceId, e.InstanceId, e.NetworkInterfaceId = fmt.Sprintf("i-%d", i), fmt.Sprintf("i-%d", i), fmt.Sprintf("eni-%d", i)
		e.PrivateIpAddress, e.MacAddress = fmt.Sprintf("10.1.%d.%d", i/250, i%250), fmt.Sprintf("00:16:3e:01:%02x:%02x", i/250, i%250)
		e.SecurityGroupIds.SecurityGroupId = []string{fmt.Sprintf("sg-l-%d", i%200)}
		f.Instances, f.Interfaces = append(f.Instances, n), append(f.Interfaces, e)
	}
	for i := range 200 {
		g, a := f.Groups[1], f.GroupRules[1]
		g.SecurityGroupId, a.SecurityGroupId = fmt.Sprintf("sg-l-%d", i), fmt.Sprintf("sg-l-%d", i)
		rule := a.Permissions.Permission[1]
		a.Permissions.Permission = nil
		for p := range 100 {
			rule.PortRange = fmt.Sprintf("%d/%d", 8000+p, 8000+p)
			a.Permissions.Permission = append(a.Permissions.Permission, rule)
		}
		f.Groups, f.GroupRules = append(f.Groups, g), append(f.GroupRules, a)
	}
	for i := range 50 {
		id := fmt.Sprintf("lb-l-%d", i)
		b, a, l, s, h := f.LoadBalancers[1], f.Attributes[1], f.Listeners[1], f.ServerGroups[0], f.Health[1]
		b.LoadBalancerId, a.LoadBalancerId, l.LoadBalancerId, s.LoadBalancerId, h.LoadBalancerId = id, id, id, id, id
		l.VServerGroupId, s.VServerGroupId = "rsp-"+id, "rsp-"+id
		member, state := s.BackendServers.BackendServer[0], h.BackendServers.BackendServer[0]
		s.BackendServers.BackendServer, h.BackendServers.BackendServer = nil, nil
		for n := range 100 {
			member.ServerId, state.ServerId = fmt.Sprintf("i-%d", 100*i+n), fmt.Sprintf("i-%d", 100*i+n)
			s.BackendServers.BackendServer = append(s.BackendServers.BackendServer, member)
			h.BackendServers.BackendServer = append(h.BackendServers.BackendServer, state)
		}
		f.LoadBalancers, f.Attributes, f.Listeners = append(f.LoadBalancers, b), append(f.Attributes, a), append(f.Listeners, l)
		f.ServerGroups, f.Health = append(f.ServerGroups, s), append(f.Health, h)
	}
	return f
}

// BenchmarkFetch reads a large cloud without the limits on requests; the cloud's own
// work is in it. "unchanged" is what a minute later costs.
func BenchmarkFetch(b *testing.B) {
	b.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.KeyID)
	b.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", alibabatest.KeySecret)
	s := alibabatest.New(b, large())
	fetch := func(b *testing.B, r *alibaba.Reader) {
		f := r.Fetch(b.Context(), nodes)
		if len(f.Interfaces) != 5002 || len(f.GroupRules) < 200 || len(f.Failed) > 0 {
			b.Fatalf("%d interfaces, %d groups, failed %v", len(f.Interfaces), len(f.GroupRules), f.Failed)
		}
	}
	fresh := func(b *testing.B) (*alibaba.Reader, *clock) {
		r, err := alibaba.NewReader(alibaba.Options{Region: "cn-test", Endpoints: s.Endpoints(), Timeout: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		c := &clock{time.Now()}
		r.SetClock(c.now)
		b.Cleanup(r.Close)
		return r, c
	}
	b.Run("first", func(b *testing.B) {
		before, n := s.Calls(), 0
		for b.Loop() {
			r, _ := fresh(b)
			fetch(b, r)
		}
		for action, calls := range s.Calls() {
			n += calls - before[action]
		}
		b.ReportMetric(float64(n)/float64(b.N), "calls/op")
	})
	b.Run("unchanged", func(b *testing.B) {
		r, c := fresh(b)
		fetch(b, r)
		for b.Loop() {
			c.at = c.at.Add(2 * time.Minute)
			fetch(b, r)
		}
	})
	b.Run("nothing due", func(b *testing.B) {
		r, _ := fresh(b)
		fetch(b, r)
		for b.Loop() {
			fetch(b, r)
		}
	})
}
