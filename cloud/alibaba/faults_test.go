package alibaba_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	model "github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// clock is one that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// quick is a reader that does not pause, and its clock.
func quick(t *testing.T, s *alibabatest.Server, change ...func(*alibaba.Options)) (*alibaba.Reader, *clock) {
	r := reader(t, s, change...)
	c := &clock{time.Now()}
	r.SetClock(c.now)
	return r, c
}

// TestOneActionFails makes each action fail in turn, in each way that an API has: it is
// in the facts with what the API said, and nothing else is, but what could not be asked
// for without it.
func TestOneActionFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault alibabatest.Fault
		want  string
	}{
		{"refused", alibabatest.Forbidden, "Forbidden.RAM: User not authorized to operate on the specified resource, or this API doesn't support RAM. AuthPrincipalOwnerId: …"},
		{"throttled", alibabatest.Throttled, "Throttling.User: Request was denied due to user flow control."},
		{"broken", alibabatest.Broken, "ServiceUnavailable: The request has failed due to a temporary failure of the server."},
		{"half of the answer", alibabatest.Fault{Truncate: true}, "Malformed: the answer is not complete JSON"},
		{"a connection that ends", alibabatest.Fault{Cut: true}, "Unreachable: unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := alibabatest.New(t, alibabatest.Small())
			actions := alibaba.Actions()
			if c.fault != alibabatest.Forbidden { // those of each style of paging
				actions = []string{"ecs.DescribeInstances", "vpc.DescribeVpcs", "vpc.DescribeRouteEntryList", "slb.DescribeHealthStatus", "nlb.ListServerGroups"}
			}
			for _, action := range actions {
				s.Fail(action, c.fault)
				r, _ := quick(t, s)
				f := r.Fetch(t.Context(), alsoByAddress)
				if len(f.Failed) != 1 || f.Failed[action] != c.want {
					t.Errorf("%s: failed is %v", action, f.Failed)
				}
				// The nodes are found by their addresses, too.
				if action != "ecs.DescribeNetworkInterfaces" && len(f.Interfaces) != 2 {
					t.Errorf("%s: there are %d interfaces", action, len(f.Interfaces))
				}
				s.Heal()
			}
		})
	}
}

var alsoByAddress = []alibaba.Node{node("i-a", "00:16:3e:00:00:01", "10.0.0.1"), node("i-b", "00:16:3e:00:00:02", "10.0.1.2")}

func TestTheAPIIsSilent(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	s.Fail("vpc.DescribeVpcs", alibabatest.Silent)
	r, _ := quick(t, s, func(o *alibaba.Options) { o.Timeout = 300 * time.Millisecond })
	f := r.Fetch(t.Context(), nodes)
	if want := "Timeout: no answer in time"; f.Failed["vpc.DescribeVpcs"] != want {
		t.Errorf("failed is %v", f.Failed)
	}
}

// TestWhatIsSilentKeepsNothingElseFromBeingRead has actions not answer in turn, but those that
// tell what else to ask for: all others are called before it is tried again.
func TestWhatIsSilentKeepsNothingElseFromBeingRead(t *testing.T) {
	for action, resources := range map[string]int{
		"vpc.DescribeSnatTableEntries": 1, "vpc.DescribeForwardTableEntries": 1, "slb.DescribeLoadBalancerAttribute": 2, "slb.DescribeHealthStatus": 2,
		"alb.GetListenerHealthStatus": 1, "alb.ListAclEntries": 1, "nlb.GetListenerHealthStatus": 1,
	} {
		s := alibabatest.New(t, alibabatest.Small())
		s.Fail(action, alibabatest.Silent)
		r, _ := quick(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan *model.Facts)
		go func() { done <- r.Fetch(ctx, nodes) }()
		for len(s.Calls()) < len(alibaba.Actions()) && s.Calls()[action] <= resources {
			time.Sleep(time.Millisecond)
		}
		if calls := s.Calls(); len(calls) < len(alibaba.Actions()) {
			t.Errorf("%s: only %d actions were called", action, len(calls))
		}
		cancel()
		<-done
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	s.Fail("ecs.DescribeInstances", alibabatest.Silent)
	r := reader(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *model.Facts)
	go func() { done <- r.Fetch(ctx, nodes) }()
	for s.Calls()["ecs.DescribeInstances"] == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if f := <-done; f.Failed["ecs.DescribeInstances"] == "" {
		t.Errorf("failed is %v", f.Failed)
	}
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	for _, fault := range []alibabatest.Fault{alibabatest.Throttled, alibabatest.Broken, {Truncate: true}, {Cut: true}} {
		fault.Times = 3
		s := alibabatest.New(t, alibabatest.Small())
		s.Fail("vpc.DescribeVSwitches", fault)
		r, _ := quick(t, s)
		if f := r.Fetch(t.Context(), nodes); len(f.Failed) > 0 || len(f.VSwitches) != 2 {
			t.Errorf("after %+v: failed is %v", fault, f.Failed)
		}
		if n := s.Calls()["vpc.DescribeVSwitches"]; n != 4 {
			t.Errorf("%d calls", n)
		}
	}
	s := alibabatest.New(t, alibabatest.Small())
	s.Fail("vpc.DescribeVSwitches", alibabatest.Forbidden)
	r, _ := quick(t, s)
	r.Fetch(t.Context(), nodes)
	if n := s.Calls()["vpc.DescribeVSwitches"]; n != 1 {
		t.Errorf("%d calls of what is refused", n)
	}
}

func TestPausesGrow(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if alibaba.Pause(ended, 10) == nil {
		t.Error("a pause outlives its context")
	}
}

// TestPages reads a cloud that hands out one or two items at a time.
func TestPages(t *testing.T) {
	for _, size := range []int{1, 2} {
		s := alibabatest.New(t, many())
		s.PageSize(size)
		r, _ := quick(t, s)
		f := r.Fetch(t.Context(), nodes)
		same(t, whole(f), whole(many()))
		if len(f.Failed) > 0 {
			t.Errorf("failed: %v", f.Failed)
		}
	}
}

// many is a small cloud with long lists.
func many() *model.Facts {
	f := alibabatest.Small()
	f.PrefixLists = append(f.PrefixLists, model.PrefixList{PrefixListId: "pl-2"})
	web := &f.GroupRules[1].Permissions
	for i := range 4 {
		p := web.Permission[1]
		p.SecurityGroupRuleId, p.PortRange = fmt.Sprintf("sgr-%d", 10+i), fmt.Sprintf("%d/%d", 8000+i, 8000+i)
		if i == 3 {
			p.SourceCidrIp, p.SourcePrefixListId = "", "pl-2"
		}
		web.Permission = append(web.Permission, p)
		e := f.RouteEntries[0]
		e.RouteEntryId, e.DestinationCidrBlock = fmt.Sprintf("rte-%d", 10+i), fmt.Sprintf("10.1.%d.0/24", i)
		f.RouteEntries = append(f.RouteEntries, e)
	}
	for i := range 100 {
		a := f.AccessLists[0].AclEntrys.AclEntry[0]
		a.AclEntryIP = fmt.Sprintf("203.0.%d.0/24", i)
		f.AccessLists[0].AclEntrys.AclEntry = append(f.AccessLists[0].AclEntrys.AclEntry, a)
	}
	return f
}

// whole puts together what comes in pages of one resource.
func whole(f *model.Facts) *model.Facts {
	all := *f
	all.GroupRules, all.AccessLists = nil, nil
	at := map[string]int{}
	for _, g := range f.GroupRules {
		i, known := at[g.SecurityGroupId]
		if !known {
			at[g.SecurityGroupId] = len(all.GroupRules)
			all.GroupRules = append(all.GroupRules, g)
			continue
		}
		all.GroupRules[i].Permissions.Permission = append(all.GroupRules[i].Permissions.Permission, g.Permissions.Permission...)
	}
	for _, l := range f.AccessLists {
		if len(all.AccessLists) == 0 {
			all.AccessLists = append(all.AccessLists, l)
			continue
		}
		all.AccessLists[0].AclEntrys.AclEntry = append(all.AccessLists[0].AclEntrys.AclEntry, l.AclEntrys.AclEntry...)
	}
	return &all
}

// TestAListThatIsNotWhole fails its action: half of the rules decide nothing.
func TestAListThatIsNotWhole(t *testing.T) {
	for _, c := range []struct {
		action string
		fault  alibabatest.Fault
		want   string
	}{
		{"vpc.DescribeVSwitches", alibabatest.Fault{Missing: true}, "Malformed: 1 of 2 were read"},
		{"slb.DescribeAccessControlListAttribute", alibabatest.Fault{Missing: true}, "Malformed: 0 of 1 were read"},
		{"ecs.DescribeSecurityGroups", alibabatest.Fault{Endless: true}, "Malformed: a page names itself as the next"},
	} {
		s := alibabatest.New(t, alibabatest.Small())
		s.Fail(c.action, c.fault)
		r, _ := quick(t, s)
		if f := r.Fetch(t.Context(), nodes); f.Failed[c.action] != c.want || len(f.Failed) != 1 {
			t.Errorf("%s: failed is %v", c.action, f.Failed)
		}
	}
	// The second page of a group's rules fails: none of them are known.
	s := alibabatest.New(t, many())
	s.PageSize(2)
	r, c := quick(t, s)
	s.Fail("ecs.DescribeSecurityGroupAttribute", alibabatest.Forbidden)
	if f := r.Fetch(t.Context(), nodes); len(f.GroupRules) > 0 || f.Read["ecs.DescribeSecurityGroupAttribute"] {
		t.Errorf("rules are %+v", f.GroupRules)
	}
	s.Heal()
	c.at = c.at.Add(time.Minute)
	if f := r.Fetch(t.Context(), nodes); len(f.Failed) > 0 || len(whole(f).GroupRules) != 2 {
		t.Errorf("failed is %v", f.Failed)
	}
}

// TestWhatWasReadIsKept asks again when facts are too old, each kind in its time, and
// keeps what cannot be read again for some minutes.
func TestWhatWasReadIsKept(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	r, c := quick(t, s)
	first := r.Fetch(t.Context(), nodes)
	calls := s.Calls()
	if f := r.Fetch(t.Context(), nodes); f != first {
		t.Error("facts that are the same are others")
	}
	asked := func(action string) int { return s.Calls()[action] - calls[action] }
	start := c.at
	for _, step := range []struct {
		after               time.Duration
		health, rules, vpcs int
	}{
		{30 * time.Second, 2, 0, 0},
		{60 * time.Second, 4, 2, 0},
		{120 * time.Second, 6, 4, 1},
	} {
		c.at = start.Add(step.after)
		if f := r.Fetch(t.Context(), nodes); f != first {
			t.Error("facts that are the same are others")
		}
		if h, g, v := asked("slb.DescribeHealthStatus"), asked("ecs.DescribeSecurityGroupAttribute"), asked("vpc.DescribeVpcs"); h != step.health || g != step.rules || v != step.vpcs {
			t.Errorf("after %s: %d, %d and %d calls, want %+v", step.after, h, g, v, step)
		}
	}

	s.Fail("ecs.DescribeSecurityGroupAttribute", alibabatest.Throttled)
	read := c.at
	c.at = read.Add(4 * time.Minute)
	f := r.Fetch(t.Context(), nodes)
	if f != first {
		t.Errorf("after 4 minutes: failed is %v", f.Failed)
	}
	if _, oldest := r.Facts(); !oldest.Equal(read) {
		t.Errorf("the oldest facts are of %s, want %s", oldest, read)
	}
	r.SetKeep(7 * time.Minute)
	c.at = read.Add(6 * time.Minute)
	if f := r.Fetch(t.Context(), nodes); f != first {
		t.Errorf("after 6 minutes of 7: failed is %v", f.Failed)
	}
	r.SetKeep(0)
	if f := r.Fetch(t.Context(), nodes); !strings.HasPrefix(f.Failed["ecs.DescribeSecurityGroupAttribute"], "Throttling.User") || len(f.GroupRules) > 0 {
		t.Errorf("after 6 minutes: failed is %v", f.Failed)
	}
	s.Heal()
	c.at = c.at.Add(time.Minute)
	if f := r.Fetch(t.Context(), nodes); len(f.Failed) > 0 || len(f.GroupRules) != 2 {
		t.Errorf("failed is %v", f.Failed)
	}
}

func TestAChangeIsRead(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	r, c := quick(t, s)
	first := r.Fetch(t.Context(), nodes)
	s.Change(func(f *model.Facts) {
		f.GroupRules[1].Permissions.Permission[0].Policy = "Drop"
		f.LoadBalancers, f.Attributes = f.LoadBalancers[:1], f.Attributes[:1]
	})
	c.at = c.at.Add(time.Minute)
	f := r.Fetch(t.Context(), nodes)
	if f == first || len(f.LoadBalancers) != 1 || len(f.Health) != 1 || len(f.Failed) > 0 {
		t.Errorf("%d load balancers with the health of %d, failed is %v", len(f.LoadBalancers), len(f.Health), f.Failed)
	}
	want := "Drop"
	for _, g := range f.GroupRules {
		if g.SecurityGroupId == "sg-2" && g.Permissions.Permission[0].Policy != want {
			t.Error("the rule is as before")
		}
	}
}

// TestOtherVPCs leaves alone what is not the nodes'.
func TestOtherVPCs(t *testing.T) {
	cloud := alibabatest.Small()
	other := cloud.Instances[0]
	other.InstanceId, other.VpcAttributes.VpcId = "i-x", "vpc-2"
	eni := cloud.Interfaces[0]
	// The same address, in another VPC.
	eni.NetworkInterfaceId, eni.InstanceId, eni.VpcId, eni.MacAddress = "eni-x", "i-x", "vpc-2", "00:16:3e:00:00:99"
	cloud.Instances, cloud.Interfaces = append(cloud.Instances, other), append(cloud.Interfaces, eni)
	cloud.VPCs = append(cloud.VPCs, model.VPC{VpcId: "vpc-2", CidrBlock: "10.0.0.0/8"})
	s := alibabatest.New(t, cloud)
	for name, nodes := range map[string][]alibaba.Node{
		"by instances": nodes,
		"by addresses": {node("", "00:16:3e:00:00:01", "10.0.0.1")},
		"both":         {{Instance: "i-gone"}, node("", "00:16:3e:00:00:02", "10.0.1.2")},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := quick(t, s)
			same(t, r.Fetch(t.Context(), nodes), alibabatest.Small())
		})
	}
}

// TestNodesOfNoCloud says that it is not known which devices are the cloud's.
func TestNodesOfNoCloud(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	r, _ := quick(t, s)
	before, _ := r.Facts()
	for _, f := range []*model.Facts{before, r.Fetch(t.Context(), []alibaba.Node{node("i-x", "00:16:3e:00:00:99", "10.0.0.1")})} {
		if f.Failed["ecs.DescribeNetworkInterfaces"] == "" || f.Empty() {
			t.Errorf("facts are %+v", f)
		}
	}
}

func TestRequestsAreLimited(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	r := reader(t, s)
	r.Exhaust("slb")
	f := r.Fetch(t.Context(), nodes)
	if want := "Timeout: there was no time left to send the request"; f.Failed["slb.DescribeLoadBalancers"] != want || len(f.Failed) != 1 {
		t.Errorf("failed is %v", f.Failed)
	}
	if n, want := len(s.Calls()), len(metric(t, r, "plumbline_cloud_calls_total", 1)); n == 0 || n != want {
		t.Errorf("%d actions were called, and %d are counted", n, want)
	}
	failed := metric(t, r, "plumbline_cloud_call_failures_total", 1)
	if len(failed) == 0 || slices.ContainsFunc(failed, func(action string) bool { return !strings.HasPrefix(action, "slb.") }) {
		t.Errorf("failures are counted of %v", failed)
	}
}

// metric are the actions of which a counter of a Reader is at least so much.
func metric(t *testing.T, r *alibaba.Reader, name string, least float64) []string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.Metrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetCounter().GetValue() >= least {
				actions = append(actions, m.GetLabel()[0].GetValue())
			}
		}
	}
	return actions
}
