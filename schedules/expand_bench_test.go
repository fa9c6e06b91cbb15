package schedules

import (
	"fmt"
	"testing"

	"github.com/plumbline-net/plumbline/internal/largecluster"
)

// BenchmarkExpand makes the paths of a schedule between selectors of pods, among the
// pods of up to 1,000 nodes, 20 on each.
func BenchmarkExpand(b *testing.B) {
	selector := func(text string) Selector {
		s, err := ParseSelector(text)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	from := selector("pods:team-0?app=app-0")
	for _, nodes := range []int{100, 500, 1000} {
		pods := largecluster.Cluster{Nodes: nodes}.Objects(0, nodes).Pods
		for _, to := range []struct {
			selector Selector
			paths    int
		}{{selector("pods:team-1?app=app-0,node=3"), 1_000}, {selector("pods:team-1?app=app-0"), 10_000}} {
			b.Run(fmt.Sprintf("pods=%d/paths=%d", len(pods), to.paths), func(b *testing.B) {
				b.ReportAllocs()
				s := &schedule{Schedule: Schedule{From: from, To: to.selector}}
				for b.Loop() {
					if queries, fault := s.expand(pods); fault != nil || len(queries) != to.paths {
						b.Fatalf("%d paths, want %d: %v", len(queries), to.paths, fault)
					}
				}
			})
		}
	}
}
