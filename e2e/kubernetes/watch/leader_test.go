//go:build k8s && linux

package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
	"github.com/plumbline-net/plumbline/witness"
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
	nodes := [2]http.Handler{agentOf(sample, "node-1"), agentOf(sample, "node-2")} // both have the same
	begin := func(who int) *controller {
		t.Helper()
		node1 := http.NewServeMux()
		node1.Handle("/", nodes[0])
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
`, s.kubeconfig(adminToken), lease, listen(t, node1), listen(t, nodes[1]))
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
		s.soon(what, began, lease)
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

	// A write of etcd takes longer than a leader may wait: the agents let it lead on.
	slow.delay.Store(int64(lease / 2))
	reachable := func() {
		t.Helper()
		for _, c := range both {
			if r := whatBecomes(t, c.url, db); r.Verdict != verdict.Reachable {
				t.Errorf("while etcd is slow: %s %v", r.Verdict, r.Reasons)
			}
		}
	}
	began := time.Now()
	s.await("the leader goes on for longer than its lease", func(ctx context.Context) error {
		reachable()
		leading, err1 := both[other].status(ctx)
		idle, err2 := both[victim].status(ctx)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !leading.Leading || idle.Leading || len(idle.Schedules) > 0 {
			t.Errorf("after %.1f s: of the leader %+v, of the other one %+v", time.Since(began).Seconds(), leading, idle)
		}
		return both[other].runs(ctx, began.Add(2*lease))
	})
	for who, leads := range map[int]float64{other: 1, victim: 0} {
		if err := differ(scrape(t, both[who].url), map[string]float64{"plumbline_leader": leads, `plumbline_collector_success{collector="kubernetes"}`: 1}); err != nil {
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

// The API server is away for longer than a lease, and then from the leader alone. Agents, who find
// out who asks as ever, witness who leads.
func TestALeaderIsWitnessed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: agents collect this host")
	}
	t.Parallel()
	s := start(t)
	sample := s.populate()
	program := build(t)
	for _, object := range []struct{ resource, text string }{
		{"namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: plumbline}}"},
		{"clusterroles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: leads},
rules: [{apiGroups: [plumbline.net], resources: [leaders], verbs: [update]}]}`},
		{"clusterrolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: leads},
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: leads}, subjects: [{kind: ServiceAccount, name: controller, namespace: plumbline}]}`},
	} {
		s.create(object.resource, object.text)
	}
	s.serviceAccount("plumbline", "controller")
	s.write("token", s.token("plumbline", "controller", audience)+"\n")

	// What the agents of three nodes say of their state is the sample's. Who leads is told to real ones.
	var nodes [3]http.Handler
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i+1)
		witnessing, err := url.Parse(daemon(t, exporter.RoleAgent, io.Discard, fmt.Sprintf(
			"node: %s\nkubernetes: {kubeconfig: %q}\nweb: {authorization: kubernetes, audiences: [%s]}\nprobes: {enabled: false}\ncollector: {namespaces: [none-of-them]}\n",
			name, s.kubeconfig(adminToken), audience)))
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.Handle("/", agentOf(sample, name))
		mux.Handle("POST "+witness.Path, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(witnessing) }})
		nodes[i] = mux
	}
	agents := &prober{t: t}
	const lease = 15 * time.Second
	var (
		both  [2]*controller
		links [2]link
	)
	for who := range both {
		node1 := http.NewServeMux()
		node1.Handle("/", nodes[0])
		node1.Handle(confirm.ProbePath, agents.of(who))
		config := filepath.Join(t.TempDir(), "plumbline.yaml")
		text := fmt.Sprintf(`
kubernetes: {kubeconfig: %q}
web: {authorization: loopback}
collector: {maxAge: 0s}
jitter: 0
controller:
  tokenFile: %q
  lease: {namespace: default, name: plumbline, duration: %s}
  agents:
  - {node: node-1, url: %q}
  - {node: node-2, url: %q}
  - {node: node-3, url: %q}
schedules:
- {name: db, cron: "@every 1s", from: pod:shop/web-0, to: svc:shop/db, port: 5432, confirm: true}
`, s.kubeconfigAt(fmt.Sprintf("kubeconfig-%d", who), links[who].listen(t, "127.0.0.1:"+s.port), adminToken), filepath.Join(s.dir, "token"),
			lease, listen(t, node1), listen(t, nodes[1]), listen(t, nodes[2]))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		both[who] = s.controller(t, program, config)
	}
	var leader, other int
	s.await("one leads", func(ctx context.Context) error {
		var errs [2]error
		for leader = range both {
			other = 1 - leader
			if errs[leader] = both[leader].publishes(ctx, 0); errs[leader] == nil {
				return nil
			}
		}
		return errors.Join(errs[:]...)
	})

	before := agents.count(leader)
	goesOn := func(age float64) func(context.Context) error {
		return func(ctx context.Context) error {
			status, err1 := both[leader].status(ctx)
			idle, err2 := both[other].status(ctx)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			now := scrape(t, both[leader].url)
			was := now[`plumbline_cluster_state_age_seconds{resource="pods"}`]
			if !status.Leading || idle.Leading || len(idle.Schedules) > 0 {
				t.Fatalf("when state is %.1f s old: of the leader %+v, of the other one %+v", was, status, idle)
			}
			if err := differ(now, map[string]float64{
				"plumbline_leader": 1, `plumbline_path_verdict{path="pod:shop/web-0->svc:shop/db:5432/tcp",schedule="db",verdict="reachable"}`: 1,
			}); err != nil {
				t.Errorf("when state is %.1f s old: %v", was, err)
			}
			if was < age {
				return fmt.Errorf("it is %.1f s old", was)
			}
			return nil
		}
	}
	if err := s.server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.await("the leader goes on while the API server is silent", goesOn(2*lease.Seconds()))
	s.down()
	s.await("the leader goes on while there is no API server", goesOn(60))
	runs := agents.count(leader) - before
	t.Logf("while the API server was away for a minute, the leader ran its schedule %d times, and the other one %d times", runs, agents.count(other))
	if runs < 10 || agents.count(other) > 0 {
		t.Error("that is too few, or too many")
	}
	s.up()
	s.await("one leads when it is back", func(ctx context.Context) error {
		renewed, err := s.renewed(ctx)
		if err == nil && time.Since(renewed) > lease/3 {
			err = fmt.Errorf("the lease was renewed at %s", renewed)
		}
		return err
	})
	s.await("one publishes", func(ctx context.Context) error {
		if status, err := both[other].status(ctx); err == nil && status.Leading {
			leader, other = other, leader
		}
		return errors.Join(both[leader].publishes(ctx, 0), both[other].idles(ctx))
	})

	links[leader].cut()
	began := time.Now()
	s.await("the other one leads when the leader is cut off", func(ctx context.Context) error { return both[other].publishes(ctx, 0) })
	s.soon("schedules went on when the leader was cut off", began, lease)
	s.await("the leader that was cut off has stopped", both[leader].idles)
	links[leader].mend()
	s.await("the other one goes on", func(ctx context.Context) error {
		return errors.Join(both[other].runs(ctx, time.Now().Add(-time.Minute)), both[leader].idles(ctx))
	})
}

// renewed is when the lease was renewed last.
func (s *apiServer) renewed(ctx context.Context) (time.Time, error) {
	object, err := s.resource("coordination.k8s.io/v1", "leases", "default").Get(ctx, "plumbline", metav1.GetOptions{})
	if err != nil {
		return time.Time{}, err
	}
	text, _, _ := unstructured.NestedString(object.Object, "spec", "renewTime")
	return time.Parse(time.RFC3339, text)
}
