package roles

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Namespaces that come and go while the host is collected do no harm to others.
func TestNamespacesThatVanishWhileTheyAreCollected(t *testing.T) {
	l := startLab(t)
	address, _ := start(t, exporter.Options{}, fmt.Sprintf("probes: {enabled: false}\ncollector: {namespaces: [%q], manifests: %q, maxAge: 0s}\n", l.Prefix+"-*", l.ClusterDir()))
	a := newAsker(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	defer churn.Wait()
	defer cancel()
	n := 0
	churn.Go(func() {
		for ; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("%s-gone-%d", l.Prefix, n%4)
			for _, what := range []string{"add", "delete"} {
				if out, err := exec.Command("ip", "netns", what, name).CombinedOutput(); err != nil {
					t.Errorf("ip netns %s %s: %v: %s", what, name, err, out)
				}
			}
		}
	})
	for range 15 {
		for _, q := range []query{onNode1, across} {
			if r := a.diagnose(q); r.Verdict != verdict.Reachable {
				t.Errorf("%s: %s", q, say(r))
			}
		}
	}
	cancel()
	churn.Wait()
	if n == 0 {
		t.Error("no namespace came and went")
	}
}
