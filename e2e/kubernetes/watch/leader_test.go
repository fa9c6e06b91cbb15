//go:build k8s && linux

package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// prober answers real probes for the agents of two controllers: each run of their schedule
// sends one. It may hold one up, so that whoever runs the schedule is on its way then.
type prober struct {
	t  *testing.T
	mu sync.Mutex
	// probes counts those of each controller; runs are those that are being answered.
	probes [2]int
	runs   [2]int
	// lost are controllers that do not go on with what they are at.
	lost [2]bool
	hold chan struct{} // held up until it is closed; nil for none
	held chan int      // whose probe it is
}

func (p *prober) arm() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := make(chan struct{})
	p.hold = hold
	return sync.OnceFunc(func() { close(hold) })
}

func (p *prober) count(of int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes[of]
}

func (p *prober) lose(who int, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[who] = lost
}

func (p *prober) of(who int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.probes[who]++
		p.runs[who]++
		if other := 1 - who; p.runs[other] > 0 && !p.lost[other] {
			p.t.Error("the schedule runs twice at once")
		}
		hold := p.hold
		p.hold = nil
		p.mu.Unlock()
		if hold != nil {
			p.held <- who
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		p.mu.Lock()
		p.runs[who]--
		p.mu.Unlock()
		_ = json.NewEncoder(w).Encode(confirm.Seen{Outcome: verdict.OutcomeEstablished, Detail: "as the sample has it"})
	})
}

// published is how many results with a probe a controller has published.
func (c *controller) published() (n float64, err error) {
	text, err := ask(c.url, "/metrics")
	if err != nil {
		return 0, err
	}
	for name, value := range series(text) {
		if strings.HasPrefix(name, "plumbline_agreement_total{") {
			n += value
		}
	}
	return n, nil
}

// publishes says that the controller leads, and has published more than so many results.
func (c *controller) publishes(ctx context.Context, more float64) error {
	status, err := c.status(ctx)
	if err != nil {
		return err
	}
	n, err := c.published()
	if err == nil && (!status.Leading || n <= more) {
		err = fmt.Errorf("it leads: %t; it has published %v results", status.Leading, n)
	}
	return err
}

// A leader is killed, or stopped for a while, or cannot renew its lease, while it is in the
// middle of a run: another one goes on, and nothing of that run is published.
func TestALeaderIsLostInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	slow := &link{}
	s := startThrough(t, slow)
	sample := s.populate()
	program := build(t)
	agents := &prober{t: t, held: make(chan int, 1)}
	const lease = 5 * time.Second
	begin := func(who int) *controller {
		t.Helper()
		node1 := http.NewServeMux()
		node1.Handle("/", agentOf(sample, "node-1"))
		node1.Handle(confirm.ProbePath, agents.of(who))
		config := filepath.Join(t.TempDir(), "plumbline.yaml")
		text := fmt.Sprintf(`
kubernetes: {kubeconfig: %q}
web: {authorization: loopback}
collector: {maxAge: 0s}
jitter: 0
controller:
  lease: {namespace: default, name: plumbline, duration: %s}
  agents:
  - {node: node-1, url: %q}
  - {node: node-2, url: %q}
schedules:
- {name: db, cron: "@every 1s", from: pod:shop/web-0, to: svc:shop/db, port: 5432, confirm: true}
`, s.kubeconfig(adminToken), lease, listen(t, node1), listen(t, agentOf(sample, "node-2")))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return s.controller(t, program, config)
	}
	both := [2]*controller{begin(0), begin(1)}
	// onItsWay waits until one of them is in the middle of a run.
	onItsWay := func() (who int, release func()) {
		t.Helper()
		release = agents.arm()
		select {
		case who = <-agents.held:
		case <-time.After(patience):
			t.Fatal("no schedule runs")
		}
		return who, release
	}
	signal := func(who int, signal syscall.Signal) {
		t.Helper()
		if err := both[who].cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	goesOn := func(what string, who int) {
		t.Helper()
		before, err := both[who].published()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.await(what, func(ctx context.Context) error { return both[who].publishes(ctx, before) })
		t.Logf("%s after %.1f s, with a lease of %s", what, time.Since(began).Seconds(), lease)
	}

	victim, release := onItsWay()
	agents.lose(victim, true)
	signal(victim, syscall.SIGKILL)
	_, _ = both[victim].cmd.Process.Wait()
	release()
	other := 1 - victim
	goesOn("the other one goes on when the leader was killed", other)
	// The next one is another process, of which nothing is on its way.
	s.await("what the dead one was at is over", func(context.Context) error {
		agents.mu.Lock()
		defer agents.mu.Unlock()
		if agents.runs[victim] > 0 {
			return errors.New("it is not")
		}
		return nil
	})
	agents.lose(victim, false)
	both[victim] = begin(victim)
	s.await("a new one answers", func(ctx context.Context) error {
		_, err := both[victim].status(ctx)
		return err
	})

	victim, release = onItsWay()
	other = 1 - victim
	// unpublished is how many probes the victim has sent without publishing a result.
	unpublished := func() float64 {
		t.Helper()
		published, err := both[victim].published()
		if err != nil {
			t.Fatal(err)
		}
		return float64(agents.count(victim)) - published
	}
	before := unpublished()
	agents.lose(victim, true)
	signal(victim, syscall.SIGSTOP)
	goesOn("the other one goes on when the leader was stopped", other)
	signal(victim, syscall.SIGCONT)
	release() // and it has the answer that it was waiting for
	s.await("the one that was stopped sees that it does not lead", both[victim].idles)
	if after := unpublished(); before < 1 || after < before {
		t.Errorf("the one that was stopped had sent %v probes without a result, and has published all but %v", before, after)
	}
	agents.lose(victim, false)

	// A write of etcd takes longer than a leader may wait: nobody leads.
	slow.delay.Store(int64(lease / 2))
	reachable := func() {
		t.Helper()
		for _, c := range both {
			if r := whatBecomes(t, c.url, db); r.Verdict != verdict.Reachable {
				t.Errorf("while etcd is slow: %s %v", r.Verdict, r.Reasons)
			}
		}
	}
	s.await("nobody leads", func(ctx context.Context) error {
		reachable()
		return errors.Join(both[0].idles(ctx), both[1].idles(ctx))
	})
	for _, c := range both {
		if err := differ(scrape(t, c.url), map[string]float64{"plumbline_leader": 0, `plumbline_collector_success{collector="kubernetes"}`: 1}); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	namespace := parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: slow}}")
	known := scrape(t, both[0].url)[`plumbline_cluster_objects{resource="namespaces"}`]
	if _, err := s.resource("v1", "namespaces", "").Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	s.await("what changes is seen all the same", func(context.Context) error {
		reachable()
		return differ(scrape(t, both[0].url), map[string]float64{`plumbline_cluster_objects{resource="namespaces"}`: known + 1})
	})
	slow.delay.Store(0)
	s.await("one leads again", func(ctx context.Context) error {
		first, second := both[0].publishes(ctx, 0), both[1].publishes(ctx, 0)
		if first != nil && second != nil {
			return errors.Join(first, second)
		}
		return nil
	})
}
