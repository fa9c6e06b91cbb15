package roles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/lab"
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

// The namespace of a pod vanishes, with all that runs in it, while it is collected to be
// asked about: nothing is said that was not so before, meanwhile or after, and
// nothing of others.
func TestThePodAskedAboutVanishesWhileItIsCollected(t *testing.T) {
	l := startLab(t)
	address, _ := start(t, exporter.Options{}, fmt.Sprintf("probes: {enabled: false}\ncollector: {namespaces: [%q], manifests: %q, maxAge: 0s}\n", l.Prefix+"-*", l.ClusterDir()))
	a := newAsker(t, address)
	if r := a.diagnose(across); r.Verdict != verdict.Reachable {
		t.Fatalf("%s: %s", across, say(r))
	}
	name, err := l.Netns(lab.PodEndpoint("shop/api-1"))
	if err != nil {
		t.Fatal(err)
	}
	vanished := make(chan error, 1)
	go func() {
		pids, err := exec.Command("ip", "netns", "pids", name).Output()
		if len(pids) > 0 {
			err = errors.Join(err, exec.Command("kill", append([]string{"-KILL"}, strings.Fields(string(pids))...)...).Run())
		}
		vanished <- errors.Join(err, exec.Command("ip", "netns", "delete", name).Run())
	}()
	expected := map[verdict.Verdict][]verdict.Code{
		verdict.Unreachable: {verdict.NoListener, verdict.NeighbourFailed, verdict.NeighbourStale},
		verdict.Unknown:     {verdict.SnapshotMissing, verdict.CollectorFailed},
	}
	for gone := false; ; {
		r := a.diagnose(across)
		if r.Verdict == verdict.Reachable && gone || r.Verdict != verdict.Reachable && !slices.Contains(expected[r.Verdict], r.Reason()) {
			t.Errorf("%s (vanished before: %t): %s", across, gone, say(r))
		}
		for _, q := range []query{onNode1, {"pod:shop/web-0", "pod:shop/db-0", "5432"}} {
			if r := a.diagnose(q); r.Verdict != verdict.Reachable {
				t.Errorf("%s: %s", q, say(r))
			}
		}
		if gone {
			break
		}
		select {
		case err := <-vanished:
			if gone = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	status, metrics := a.get("/metrics")
	if status != http.StatusOK {
		t.Fatal(status, metrics)
	}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "plumbline_collector_success{") && !strings.HasSuffix(line, " 1\n") {
			t.Errorf("what has vanished is no failure: %s", line)
		}
	}
}
