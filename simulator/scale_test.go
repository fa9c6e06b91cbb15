package simulator_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/largecluster"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// largeSources are the nodes from which paths start, and which have the rules of
// kube-proxy: the others would take 0.5 kB for each of their lines, and not be asked about any.
const largeSources = 10

func large(nodes int) *simulator.Snapshot {
	c := largecluster.Cluster{Nodes: nodes, Proxies: largeSources, Mode: "iptables"}
	s := &simulator.Snapshot{Cluster: c.Objects(0, nodes)}
	for n := range nodes {
		s.Namespaces = append(s.Namespaces, c.Node(n)...)
	}
	return s
}

// largePaths are 10,000: from ten pods of each of the first nodes, to pods or to Services.
func largePaths(nodes int, services bool) (list []verdict.Query) {
	for from := range 100 {
		for to := range 100 {
			n := nodes/2 + to*nodes/250 // on nodes of the second half
			source := "pod:" + largecluster.PodName(from/10, from%10)
			if services {
				list = append(list, tcp(source, "svc:"+largecluster.ServiceName(n*largecluster.Services), proxyrules.ServicePort))
			} else {
				list = append(list, tcp(source, "pod:"+largecluster.PodName(n, to%largecluster.Pods), proxyrules.EndpointPort))
			}
		}
	}
	return list
}

// TestALargeCluster makes sure that the benchmark measures what it says.
func TestALargeCluster(t *testing.T) {
	const nodes = 20
	w := compileWorld(t, large(nodes))
	for _, services := range []bool{false, true} {
		for _, q := range largePaths(nodes, services)[:100] {
			r := diagnose(t, w, q)
			want := 1
			if services {
				want = largecluster.Endpoints
			}
			if r.Verdict != verdict.Reachable || len(r.Paths) != want || r.Policy.Verdict != verdict.PolicyAllow || len(r.Reasons) > 0 {
				t.Fatalf("%s to %s: %s over %d paths, policy %+v: %v", q.From, q.To, r.Verdict, len(r.Paths), r.Policy, r.Reasons)
			}
		}
	}
}

// BenchmarkLargeCluster makes the reports of 10,000 paths, and says what they
// and the world take.
func BenchmarkLargeCluster(b *testing.B) {
	for _, nodes := range []int{250, 500, 1000} {
		empty := heapsize.Live()
		s := large(nodes)
		snapshot := heapsize.Live() - empty
		w := compileWorld(b, s)
		world := heapsize.Live() - empty
		for _, to := range []string{"pods", "services"} {
			b.Run(fmt.Sprintf("nodes=%d/to=%s", nodes, to), func(b *testing.B) {
				paths := largePaths(nodes, to == "services")
				reports := make([]*verdict.Report, 0, b.N)
				b.ReportAllocs()
				stop := cputime.Measure(b)
				for i := 0; b.Loop(); i++ {
					r, err := w.Diagnose(paths[i*37%len(paths)])
					if err != nil || r.Verdict != verdict.Reachable {
						b.Fatal(r, err)
					}
					if i < 1000 {
						reports = append(reports, r)
					}
				}
				stop()
				all, number := heapsize.Live(), len(reports)
				clear(reports)
				b.ReportMetric(float64(all-heapsize.Live())/float64(number), "kept-B/path")
				b.ReportMetric(float64(snapshot)/1e6, "snapshot-MB")
				b.ReportMetric(float64(world)/1e6, "world-MB")
				runtime.KeepAlive(reports) // and w and s
			})
		}
		runtime.KeepAlive(s)
	}
}
