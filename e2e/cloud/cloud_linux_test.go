package cloud

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	client "github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// world is the lab in its cloud.
type world struct {
	*alibabatest.Server
	lab      *lab.Lab
	base     *alibaba.Facts
	reader   *client.Reader
	snapshot *simulator.Snapshot
	log      strings.Builder
}

func startWorld(t *testing.T) *world {
	t.Helper()
	l := startLab(t)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.KeyID)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", alibabatest.KeySecret)
	w := &world{lab: l, base: account(t)}
	w.Server = alibabatest.New(t, clone(t, w.base))
	var err error
	w.reader, err = client.NewReader(client.Options{
		Region: "cn-test", Endpoints: w.Endpoints(), MaxAge: time.Nanosecond, Keep: time.Nanosecond, Timeout: 3 * time.Second,
		Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.reader.Close)
	w.snapshot = against.Collect(t, collector.Options{Namespaces: []string{prefix + "-node-*", prefix + "-shop-*"}, ManifestDir: l.ClusterDir()})
	return w
}

// with makes the cloud what it should be, but for a fault.
func (w *world) with(t *testing.T, fault func(*alibaba.Facts)) {
	t.Helper()
	fresh := clone(t, w.base)
	if fault != nil {
		fault(fresh)
	}
	w.Change(func(f *alibaba.Facts) { *f = *fresh })
}

// read is the state with what the cloud says now.
func (w *world) read(t *testing.T) *simulator.Snapshot {
	t.Helper()
	s := *w.snapshot
	s.Cloud = w.reader.Fetch(t.Context(), exporter.CloudNodes(w.snapshot, "cn-test"))
	return &s
}

// judge holds a report against what is expected.
func (e *expectation) judge(t *testing.T, r *verdict.Report) {
	t.Helper()
	if err := e.holds(r); err != nil {
		t.Errorf("%s: %v", e.name, err)
	}
}

func (e *expectation) holds(r *verdict.Report) error {
	message, also := "", e.also == ""
	if len(r.Reasons) > 0 {
		message = r.Reasons[0].Message
	}
	for i := range r.Reasons {
		also = also || r.Reasons[i].Code == e.also
	}
	if r.Verdict != e.verdict || r.Reason() != e.reason || !strings.Contains(message, e.phrase) || !also {
		return fmt.Errorf("%s %v, want %s %s %q %s", r.Verdict, r.Reasons, e.verdict, e.reason, e.phrase, e.also)
	}
	return nil
}

// TestTheCloudDecides has every fault that the catalogue knows of a cloud, in rounds of
// those that have nothing to do with each other; then those of the API.
func TestTheCloudDecides(t *testing.T) {
	w := startWorld(t)
	t.Run("served", func(t *testing.T) { serves(t, w) })
	t.Run("confirmed", func(t *testing.T) { confirms(t, w) })
	t.Run("by a controller", func(t *testing.T) { controls(t, w) })
	t.Run("with an API that fails", func(t *testing.T) { suffers(t, w) })
	t.Run("told", func(t *testing.T) { tells(t, w) })
	for _, f := range apiFaults {
		t.Run("API: "+f.name, func(t *testing.T) {
			w.Fail(f.action, f.fault)
			defer w.Heal(f.action)
			s := w.read(t)
			compiled := against.Compile(t, s)
			for _, e := range f.want() {
				r := against.Diagnose(t, compiled, verdict.Query{From: e.from, To: e.to, Port: e.port, Protocol: e.protocol})
				e.judge(t, r)
				f.granted(t, r)
			}
			w.tellsNoSecrets(t, s)
		})
	}
}

// apiFault is a fault of the API, with the questions that it makes unknown and others,
// which it does not.
type apiFault struct {
	name, action string
	fault        alibabatest.Fault
	unknown      []question
	fine         []question
}

var apiFaults = []apiFault{
	{"forbidden", "ecs.DescribeSecurityGroupAttribute", alibabatest.Forbidden, []question{nodeToNode, podToPod, nodeToInternet, internetToSvc}, nil},
	{"nothing of nodes", "ecs.DescribeNetworkInterfaces", alibabatest.Forbidden, []question{nodeToNode, podToPod, nodeToInternet}, nil},
	{"throttled", "vpc.DescribeRouteEntryList", alibabatest.Throttled, []question{podToPod, nodeToInternet, internetToSvc}, []question{internetToPod}},
	{"broken", "slb.DescribeLoadBalancers", alibabatest.Broken, []question{internetToSvc}, []question{podToPod, internetToNLB}},
	{"silent", "vpc.DescribeSnatTableEntries", alibabatest.Silent, []question{podToInternet}, []question{podToPod, internetToSvc}},
	{"half a page", "slb.DescribeHealthStatus", alibabatest.Fault{Truncate: true}, []question{internetToSvc}, []question{podToPod, internetToNLB}},
	{"half of the connection", "vpc.DescribeEipAddresses", alibabatest.Fault{Cut: true}, []question{internetToNode}, []question{podToPod}},
}

func (f *apiFault) want() []expectation {
	list := []expectation{{question: inNode, verdict: verdict.Reachable}}
	for _, q := range f.unknown {
		list = append(list, expectation{q, verdict.Unknown, verdict.CloudAPIFailed, f.action + " failed", ""})
	}
	for _, q := range f.fine {
		list = append(list, expectation{question: q, verdict: verdict.Reachable})
	}
	return list
}

// granted wants a report that is unknown to say what to grant.
func (f *apiFault) granted(t *testing.T, r *verdict.Report) {
	t.Helper()
	if grant := strings.Replace(f.action, ".", ":", 1); r.Verdict == verdict.Unknown && !strings.Contains(r.Reasons[0].Remedy, grant) {
		t.Errorf("the remedy is %q, without %s", r.Reasons[0].Remedy, grant)
	}
}

// tellsNoSecrets looks for credentials, and what else nobody may read, in the log and
// in the bundle of a state.
func (w *world) tellsNoSecrets(t *testing.T, s *simulator.Snapshot) {
	t.Helper()
	var archive strings.Builder
	if err := bundle.WriteArchive(&archive, s); err != nil {
		t.Fatal(err)
	}
	w.Untold(t, "the log", w.log.String())
	w.Untold(t, "the bundle", unpacked(t, archive.String()))
}
