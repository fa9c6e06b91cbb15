package exporter

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/probes"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// scrape returns the samples of gauges and counters, as "name{label="value",…}".
func scrape(t *testing.T, d *Daemon) map[string]float64 {
	t.Helper()
	families, err := d.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	samples := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			name := f.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetGauge() != nil:
				samples[name] = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				samples[name] = m.GetCounter().GetValue()
			}
		}
	}
	return samples
}

func only(samples map[string]float64, prefix string) map[string]float64 {
	kept := make(map[string]float64)
	for name, value := range samples {
		if strings.HasPrefix(name, prefix) {
			kept[name] = value
		}
	}
	return kept
}

func TestMetricsOfASchedule(t *testing.T) {
	file := configFile(t, oneSchedule)
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: file})
	ran(t, d)
	const path = `path="pod:shop/web-0->pod:shop/api-1:8080/tcp",schedule="web-to-far"`
	want := map[string]float64{
		`plumbline_path_verdict{` + path + `,verdict="reachable"}`:   0,
		`plumbline_path_verdict{` + path + `,verdict="degraded"}`:    0,
		`plumbline_path_verdict{` + path + `,verdict="unreachable"}`: 1,
		`plumbline_path_verdict{` + path + `,verdict="unknown"}`:     0,
		`plumbline_path_expectation_met{` + path + `}`:               0,
		`plumbline_path_failures_total{` + path + `}`:                1,
		`plumbline_path_backends{` + path + `,state="ok"}`:           0,
		`plumbline_path_backends{` + path + `,state="failing"}`:      1,
		`plumbline_path_backends{` + path + `,state="unknown"}`:      0,
		`plumbline_path_info{destination="pod:shop/api-1",path="pod:shop/web-0->pod:shop/api-1:8080/tcp",port="8080",protocol="tcp",schedule="web-to-far",source="pod:shop/web-0"}`: 1,
	}
	if diff := cmp.Diff(want, only(scrape(t, d), "plumbline_path_")); diff != "" {
		t.Errorf("path metrics (-want +got):\n%s", diff)
	}
	want = map[string]float64{
		`plumbline_schedule_paths{schedule="web-to-far",verdict="reachable"}`:   0,
		`plumbline_schedule_paths{schedule="web-to-far",verdict="degraded"}`:    0,
		`plumbline_schedule_paths{schedule="web-to-far",verdict="unreachable"}`: 1,
		`plumbline_schedule_paths{schedule="web-to-far",verdict="unknown"}`:     0,
	}
	if diff := cmp.Diff(want, only(scrape(t, d), "plumbline_schedule_paths")); diff != "" {
		t.Errorf("paths of the schedule (-want +got):\n%s", diff)
	}
	// A reason begins at 0 with the run that sees it first.
	if got, ok := scrape(t, d)[`plumbline_schedule_failures_total{reason="NetfilterDrop",schedule="web-to-far"}`]; !ok || got != 0 {
		t.Errorf("plumbline_schedule_failures_total after the first run is %v (%v), want 0", got, ok)
	}
	if got := scrape(t, d)[`plumbline_diagnosis_failures_total{reason="NetfilterDrop"}`]; got != 1 {
		t.Errorf("plumbline_diagnosis_failures_total of NetfilterDrop is %v, want 1", got)
	}

	// What a schedule has left behind goes with it.
	if err := os.WriteFile(file, []byte("schedules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"plumbline_path_", "plumbline_schedule_"} {
		if left := only(scrape(t, d), prefix); len(left) > 0 {
			t.Errorf("series are left of a schedule that is gone: %v", left)
		}
	}
}

func TestEveryReasonIsCountedFromTheStart(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	samples := scrape(t, d)
	for _, reason := range verdict.Catalogue() {
		if got, ok := samples[`plumbline_diagnosis_failures_total{reason="`+string(reason.Code)+`"}`]; !ok || got != 0 {
			t.Errorf("%s: %v (%v), want 0", reason.Code, got, ok)
		}
	}
}

func TestAScheduleWithTooManyPathsExportsCountsOnly(t *testing.T) {
	d, log := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, `
maxPathSeries: 1
schedules:
- {name: all, cron: "@every 1h", from: "pods:shop?app=web", to: "pods:shop?app=api", port: 8080}
`)})
	ran(t, d)
	samples := scrape(t, d)
	if left := only(samples, "plumbline_path_"); len(left) > 0 {
		t.Errorf("series of paths beyond the cap: %v", left)
	}
	if got := samples[`plumbline_schedule_paths{schedule="all",verdict="unreachable"}`]; got != 2 {
		t.Errorf("%v paths are unreachable, want 2", got)
	}
	if got := strings.Count(log.String(), "more paths than maxPathSeries"); got != 1 {
		t.Errorf("the log says so %d times:\n%s", got, log)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, oneSchedule)})
	ran(t, d)
	problems, err := testutil.GatherAndLint(d.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

var descName = regexp.MustCompile(`fqName: "(plumbline_[a-z0-9_]+)"`)

// described lists the metrics that a collector may export.
func described(c prometheus.Collector) []string {
	ch := make(chan *prometheus.Desc)
	go func() {
		c.Describe(ch)
		close(ch)
	}()
	var names []string
	for d := range ch {
		if m := descName.FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

func TestEveryMetricIsDocumented(t *testing.T) {
	m := newMetrics()
	// What cannot be attached here describes its metrics all the same.
	p, _ := probes.Open(probes.Options{BTFPath: "/nonexistent", RunTime: true})
	defer p.Close()
	fleet, err := newFleet(schedules.Controller{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.close()
	cloud, err := alibaba.NewReader(alibaba.Options{Region: "cn-test"})
	if err != nil {
		t.Fatal(err)
	}
	exported := slices.Concat(
		described(cloud.Metrics()),
		described(m.phases), described(m.failures), described(m.agreement), described(m.reloadSuccess), described(m.reloadSeconds),
		described(newScheduleMetrics(func() []schedules.Status { return nil })),
		described(newAgeMetrics(nil)), described(p), described(kubernetes.NewMetrics(nil)),
		described(collector.NewMetrics(collector.New(collector.Options{}))),
		described(fleet), []string{"plumbline_build_info", "plumbline_leader"},
	)
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(plumbline_[a-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	sort.Strings(exported)
	sort.Strings(documented)
	if diff := cmp.Diff(slices.Compact(exported), documented); diff != "" {
		t.Errorf("docs/metrics.md differs from what is exported (-exported +documented):\n%s", diff)
	}
}

func TestAttributionNamesThePodBehindAnInterface(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	node := &netstack.Namespace{
		Name: "node", Kind: netstack.KindNode, Node: "n", Cookie: 1, NSIDs: map[int]string{5: "pod"},
		Links: []netstack.Link{
			{Index: 2, Name: "eth0", PeerNSID: netstack.NoPeerNS},
			{Index: 3, Name: "veth1", Kind: "veth", Peer: 2, PeerNSID: 5},
		},
	}
	pod := &netstack.Namespace{Name: "pod", Kind: netstack.KindPod, Pod: "shop/web-0", Cookie: 2}
	d.network.latest = &view{network: d.network, snapshot: &simulator.Snapshot{Namespaces: []*netstack.Namespace{node, pod}}}
	a := &attribution{network: d.network}
	web := probes.Subject{Namespace: "shop", Pod: "web-0"}
	for _, test := range []struct {
		name   string
		cookie uint64
		index  uint32
		want   probes.Subject
		known  bool
	}{
		{"in the pod", 2, 7, web, true},
		{"at the pod's end in the node", 1, 3, web, true},
		{"at the node's uplink", 1, 2, probes.Subject{}, true},
		{"in a namespace that nobody collected", 9, 3, probes.Subject{}, false},
	} {
		if got, known := a.Pod(test.cookie, test.index); got != test.want || known != test.known {
			t.Errorf("%s: %+v (%v), want %+v (%v)", test.name, got, known, test.want, test.known)
		}
	}
}

func TestWhoNeverRunsSchedulesSaysNothingOfLeading(t *testing.T) {
	for role, want := range map[Role]bool{RoleServe: true, RoleController: true, RoleAgent: false} {
		d, _ := newDaemon(t, Options{Role: role})
		if leads, told := scrape(t, d)["plumbline_leader"]; told != want || want && leads != 1 {
			t.Errorf("role %d: plumbline_leader is %v (%t)", role, leads, told)
		}
	}
}
