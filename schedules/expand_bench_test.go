package schedules

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkExpand makes the paths of a schedule between selectors of pods, among
// the 20,000 pods of 1,000 nodes.
func BenchmarkExpand(b *testing.B) {
	pods := make([]corev1.Pod, 20_000)
	for i := range pods {
		pods[i] = corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"app": fmt.Sprintf("app-%d", i/100)},
		}}
	}
	from, err := ParseSelector("pods:shop?app=app-0")
	if err != nil {
		b.Fatal(err)
	}
	few, _ := ParseSelector("pods:shop?app=app-1")
	for i := range 90 {
		pods[100+i].Labels = map[string]string{"app": "others"}
	}
	many, _ := ParseSelector("pods:shop?app=app-2")
	for _, to := range []struct {
		selector Selector
		paths    int
	}{{few, 1_000}, {many, 10_000}} {
		b.Run(fmt.Sprintf("paths=%d", to.paths), func(b *testing.B) {
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
