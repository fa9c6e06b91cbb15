package schedules

import (
	"bytes"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/internal/largecluster"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func sampleReport(tb testing.TB) *verdict.Report {
	tb.Helper()
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		tb.Fatal(err)
	}
	w, err := simulator.Compile(s)
	if err != nil {
		tb.Fatal(err)
	}
	report, err := w.Diagnose(verdict.Query{From: "pod:shop/web-0", To: "svc:shop/api", Port: 80, Protocol: verdict.TCP})
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func TestReportsThatAreKeptAreAsTheyWere(t *testing.T) {
	rs, report := newRecords(time.Unix(0, 0)), sampleReport(t)
	record, _ := rs.add(nil, "a", "b", result{report: report, packed: rs.pack(report)}, time.Unix(1, 0))
	kept, ok := rs.report(record.ID)
	if !ok {
		t.Fatal("it is not there")
	}
	want, err := report.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := kept.AppendJSON(nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

// BenchmarkKeepReport packs reports as in BenchmarkLargeCluster of the simulator: how many
// nodes there are makes no difference to them.
func BenchmarkKeepReport(b *testing.B) {
	c := largecluster.Cluster{Nodes: 20, Proxies: 1, Mode: "iptables"}
	snapshot := &simulator.Snapshot{Cluster: c.Objects(0, c.Nodes)}
	for n := range c.Nodes {
		snapshot.Namespaces = append(snapshot.Namespaces, c.Node(n)...)
	}
	w, err := simulator.Compile(snapshot)
	if err != nil {
		b.Fatal(err)
	}
	for _, to := range []struct {
		kind, name string
		port       uint16
	}{
		{"pod", "pod:" + largecluster.PodName(10, 0), 8080},
		{"service", "svc:" + largecluster.ServiceName(10*largecluster.Services), 80},
	} {
		b.Run("to="+to.kind, func(b *testing.B) {
			report, err := w.Diagnose(verdict.Query{From: "pod:" + largecluster.PodName(0, 0), To: to.name, Port: to.port, Protocol: verdict.TCP})
			if err != nil || report.Verdict != verdict.Reachable {
				b.Fatal(report, err)
			}
			rs := newRecords(time.Unix(0, 0))
			var packed []byte
			b.ReportAllocs()
			for b.Loop() {
				packed = rs.pack(report)
			}
			data, err := report.AppendJSON(nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data)), "JSON-B")
			b.ReportMetric(float64(len(packed)), "kept-B")
		})
	}
}
