package roles

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
	"github.com/plumbline-net/plumbline/snapshot"
)

const (
	prefix = "plrole"
	// patience is how long a condition may take to come true on a busy machine.
	patience = time.Minute
)

func TestMain(m *testing.M) {
	lab.ServeIfListener()
	goleak.VerifyTestMain(m)
}

func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	return against.StartLab(t, lab.Options{Prefix: prefix})
}

// start runs a daemon with a configuration, until the test ends or stop is called.
func start(t *testing.T, options exporter.Options, config string) (address *url.URL, stop func()) {
	t.Helper()
	options.ConfigFile = filepath.Join(t.TempDir(), "plumbline.yaml")
	if err := os.WriteFile(options.ConfigFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if options.ListenAddress == "" {
		options.ListenAddress = "127.0.0.1:0"
	}
	options.Log = slog.New(slog.DiscardHandler)
	d, err := exporter.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return &url.URL{Scheme: "http", Host: d.Addr().String()}, stop
}

// names lists the network namespaces that are on a node.
func names(t *testing.T, l *lab.Lab, node string) []string {
	t.Helper()
	endpoints := []lab.Endpoint{lab.NodeEndpoint(node)}
	for _, p := range l.Spec.Pods {
		if p.Node == node {
			endpoints = append(endpoints, lab.PodEndpoint(p.ID()))
		}
	}
	var all []string
	for _, e := range endpoints {
		name, err := l.Netns(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}

// front stands between a controller and an agent, for what goes wrong there.
type front struct {
	*httptest.Server
	agent     atomic.Pointer[url.URL]
	transport *http.Transport
	// answer, if not nil, changes what the agent answers. It is set between requests.
	answer func(*http.Response) error
	// fault, if not nil, answers instead and says so.
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newFront(t *testing.T, agent *url.URL) *front {
	t.Helper()
	f := &front{transport: &http.Transport{}}
	f.agent.Store(agent)
	proxy := &httputil.ReverseProxy{
		Transport: f.transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(f.agent.Load()) },
		ErrorLog:  log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			if f.answer == nil {
				return nil
			}
			return f.answer(r)
		},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil && (*fault)(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.Close()
		f.transport.CloseIdleConnections()
	})
	return f
}

func (f *front) breaks(fault func(http.ResponseWriter, *http.Request) bool) { f.fault.Store(&fault) }

func (f *front) mend() { f.fault.Store(nil) }

// asker asks a daemon.
type asker struct {
	t      *testing.T
	base   *url.URL
	client *http.Client
}

func newAsker(t *testing.T, base *url.URL) *asker {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &asker{t, base, &http.Client{Transport: transport}}
}

func (a *asker) get(path string) (status int, body string) {
	a.t.Helper()
	resp, err := a.client.Get(a.base.String() + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func (a *asker) diagnose(q query) *verdict.Report {
	a.t.Helper()
	status, body := a.get("/api/v1/diagnose?" + url.Values{"from": {q.from}, "to": {q.to}, "port": {q.port}}.Encode())
	if status != http.StatusOK {
		a.t.Fatalf("%s: %d %s", q, status, body)
	}
	r := new(verdict.Report)
	if err := json.Unmarshal([]byte(body), r); err != nil {
		a.t.Fatal(err)
	}
	return r
}

// confirm is diagnose with a real probe.
func (a *asker) confirm(q query) *verdict.Report {
	a.t.Helper()
	body := fmt.Sprintf(`{"from":%q,"to":%q,"port":%s,"protocol":"tcp","confirm":true}`, q.from, q.to, q.port)
	resp, err := a.client.Post(a.base.JoinPath("/api/v1/diagnose").String(), "application/json", strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	r := &verdict.Report{}
	if err := json.NewDecoder(resp.Body).Decode(r); err != nil || resp.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %s, %v", q, resp.Status, err)
	}
	return r
}

type query struct{ from, to, port string }

func (q query) String() string { return q.from + " to " + q.to }

var (
	onNode1   = query{"pod:shop/web-0", "pod:shop/api-0", "8080"}
	onNode2   = query{"pod:shop/api-1", "pod:shop/db-0", "5432"}
	across    = query{"pod:shop/web-0", "pod:shop/api-1", "8080"}
	toService = query{"pod:shop/web-0", "svc:shop/api", "80"}
	toNode    = query{"pod:shop/web-0", "node:node-2", "22"}
)

func say(r *verdict.Report) string {
	text := string(r.Verdict)
	for _, f := range r.Reasons {
		text += fmt.Sprintf("\n  %s (%s): %s", f.Code, f.Where.Node, f.Message)
	}
	return text
}

// cluster is the lab with an agent on each node, and a controller. What is told
// of the nodes comes from the objects of the lab; agents know none.
type cluster struct {
	*lab.Lab
	agents map[string]*front
	stops  map[string]func()
	config string // of a controller
	*asker
	// whole is one daemon that sees everything.
	whole *asker
}

func startCluster(t *testing.T, agentConfig string) *cluster {
	t.Helper()
	l := startLab(t)
	c := &cluster{Lab: l, agents: make(map[string]*front), stops: make(map[string]func())}
	c.config = fmt.Sprintf("collector: {manifests: %q, maxAge: 0s}\ncontroller:\n  timeout: 20s\n  agents:\n", l.ClusterDir())
	for _, n := range l.Spec.Nodes {
		address, stop := c.startAgent(t, n.Name, agentConfig)
		c.agents[n.Name], c.stops[n.Name] = newFront(t, address), stop
		c.config += fmt.Sprintf("  - {node: %s, url: %q}\n", n.Name, c.agents[n.Name].URL)
	}
	address, _ := start(t, exporter.Options{Role: exporter.RoleController}, c.config)
	c.asker = newAsker(t, address)
	address, _ = start(t, exporter.Options{}, fmt.Sprintf("probes: {enabled: false}\ncollector: {namespaces: [%q], manifests: %q, maxAge: 0s}\n", l.Prefix+"-*", l.ClusterDir()))
	c.whole = newAsker(t, address)
	return c
}

func (c *cluster) startAgent(t *testing.T, node, more string) (*url.URL, func()) {
	t.Helper()
	return start(t, exporter.Options{Role: exporter.RoleAgent}, fmt.Sprintf(
		"node: %s\nprobes: {enabled: false}\ncollector: {namespaces: [%s], maxAge: 0s}\n%s", node, strings.Join(names(t, c.Lab, node), ", "), more))
}

func TestAControllerJudgesAsOneDaemonThatSeesEverything(t *testing.T) {
	c := startCluster(t, "")
	compare := func(when string) {
		t.Helper()
		for _, q := range []query{onNode1, onNode2, across, toService, toNode} {
			got, want := c.diagnose(q), c.whole.diagnose(q)
			if got.Verdict != want.Verdict || got.Reason() != want.Reason() || len(got.Paths) != len(want.Paths) {
				t.Errorf("%s, %s: the controller says %s\nwhere one daemon says %s", when, q, say(got), say(want))
			}
			if len(got.Snapshot.AgeSeconds) != 2 {
				t.Errorf("%s, %s: ages %v, want those of both nodes", when, q, got.Snapshot.AgeSeconds)
			}
		}
	}
	compare("with nothing broken")
	if r := c.diagnose(across); r.Verdict != verdict.Reachable {
		t.Errorf("%s: %s", across, say(r))
	}
	for _, fault := range []string{"drop-rule", "blackhole-route", "link-down"} {
		if err := c.Break(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
		compare("with the fault " + fault)
		if r := c.diagnose(across); r.Verdict != verdict.Unreachable {
			t.Errorf("%s, %s: %s", fault, across, say(r))
		}
		if err := c.Fix(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
	}
	compare("after the faults")

	// Real probes are sent by the agent of the source's node, which knows no objects.
	for q, source := range map[query]string{across: "10.244.1.10", onNode2: "10.244.2.20", toService: "10.244.1.10"} {
		r := c.confirm(q)
		if o := r.Observed; o == nil || o.Outcome != verdict.OutcomeEstablished || o.Agrees == nil || !*o.Agrees || o.Source.IP != source {
			t.Errorf("%s: observed %+v (%q), want established from %s", q, o, r.Assumptions, source)
		}
	}
	if err := c.Break(t.Context(), "drop-rule"); err != nil {
		t.Fatal(err)
	}
	if r := c.confirm(across); r.Observed == nil || r.Observed.Outcome != verdict.OutcomeTimeout || r.Observed.Agrees == nil || !*r.Observed.Agrees {
		t.Errorf("%s, which is dropped: observed %+v (%q), want a timeout as simulated", across, r.Observed, r.Assumptions)
	}
	if err := c.Fix(t.Context(), "drop-rule"); err != nil {
		t.Fatal(err)
	}
	c.agents["node-1"].breaks(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == confirm.ProbePath {
			http.Error(w, "no", http.StatusForbidden)
		}
		return r.URL.Path == confirm.ProbePath
	})
	want := "nothing was sent to confirm this: agent of node node-1: "
	if r := c.confirm(across); r.Observed != nil || !strings.Contains(strings.Join(r.Assumptions, "\n"), want) || r.Verdict != verdict.Reachable {
		t.Errorf("%s, when the agent refuses: observed %+v, %s, %q; want %q", across, r.Observed, say(r), r.Assumptions, want)
	}
}

// State is as old as the agent's monotonic clock says, whatever time it takes it
// to be there; what is too old decides nothing, where it would.
func TestTheAgeOfState(t *testing.T) {
	c := startCluster(t, "")
	c.agents["node-2"].answer = func(r *http.Response) error {
		r.Header.Set("Date", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		return nil
	}
	r := c.diagnose(across)
	if age, ok := r.Snapshot.AgeSeconds["node-2"]; !ok || age < 0 || age > patience.Seconds() || r.Verdict != verdict.Reachable {
		t.Errorf("by an agent whose clock is wrong: %v s, %s", age, say(r))
	}
	c.agents["node-2"].answer = func(r *http.Response) error {
		if r.Header.Get(snapshot.AgeHeader) != "" {
			r.Header.Set(snapshot.AgeHeader, "3600")
		}
		return nil
	}
	for q, want := range map[query]verdict.Verdict{onNode1: verdict.Reachable, onNode2: verdict.Unknown, across: verdict.Unknown} {
		r := c.diagnose(q)
		if r.Verdict != want || want == verdict.Unknown && (r.Reason() != verdict.SnapshotStale || r.Reasons[0].Where.Node != "node-2") {
			t.Errorf("with state of node-2 that is an hour old, %s: %s, want %s", q, say(r), want)
		}
		if age := r.Snapshot.AgeSeconds["node-2"]; age < 3600 {
			t.Errorf("the report says that the state of node-2 is %v s old", age)
		}
	}
}

// What is known with both agents, and without that of node-2.
var (
	whole = map[query]verdict.Verdict{
		onNode1: verdict.Reachable, onNode2: verdict.Reachable, across: verdict.Reachable, toService: verdict.Reachable,
	}
	half = map[query]verdict.Verdict{
		onNode1: verdict.Reachable, onNode2: verdict.Unknown, across: verdict.Unknown, toService: verdict.Unknown,
	}
)

// check demands verdicts, and of those that are unknown that they say so of node-2's agent.
func (c *cluster) check(when string, want map[query]verdict.Verdict) {
	c.t.Helper()
	for q, want := range want {
		r := c.diagnose(q)
		if r.Verdict != want {
			c.t.Errorf("%s, %s: %s, want %s", when, q, say(r), want)
		}
		if want != verdict.Unknown {
			continue
		}
		var found bool
		for _, f := range r.Reasons {
			found = found || f.Code == verdict.SnapshotMissing && f.Where.Node == "node-2" && strings.Contains(f.Message, "the agent of node node-2 does not answer")
		}
		if !found {
			c.t.Errorf("%s, %s: no SnapshotMissing that names node-2 and its agent: %s", when, q, say(r))
		}
	}
}

func TestAnAgentThatDoesNotAnswerMakesItsNodeUnknownAndNothingElse(t *testing.T) {
	c := startCluster(t, "")
	if r := c.diagnose(across); r.Verdict != verdict.Reachable {
		t.Fatalf("%s: %s", across, say(r))
	}
	c.check("with both agents", whole)

	// A transfer breaks off: headers and a part of a blob arrive.
	var cut atomic.Int64
	c.agents["node-2"].breaks(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, snapshot.BlobPath) {
			return false
		}
		cut.Add(1)
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, err := c.Output(t.Context(), lab.NodeEndpoint("node-2"), "ip", "route", "add", "192.0.2.0/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	c.check("with an answer that breaks off", half)
	if cut.Load() == 0 {
		t.Error("no transfer was cut")
	}
	c.agents["node-2"].mend()
	c.check("after that", whole)

	c.stops["node-2"]()
	c.check("without the agent", half)
	if status, body := c.get("/metrics"); status != http.StatusOK || !strings.Contains(body, `plumbline_agent_up{node="node-1"} 1`) || !strings.Contains(body, `plumbline_agent_up{node="node-2"} 0`) {
		t.Error("plumbline_agent_up does not tell which agent is gone")
	}
	if status, body := c.get("/api/v1/bundle"); status != http.StatusOK {
		t.Errorf("the bundle of what is left: %d %s", status, body)
	}
	address, _ := c.startAgent(t, "node-2", "")
	c.agents["node-2"].agent.Store(address)
	c.check("with another agent", whole)
}

// An agent that never answered leaves nothing to remember: what is on its node is
// known from the objects alone.
func TestAnAgentThatNeverAnswered(t *testing.T) {
	l := startLab(t)
	c := &cluster{Lab: l}
	address, _ := c.startAgent(t, "node-1", "")
	config := fmt.Sprintf("collector: {manifests: %q, maxAge: 0s}\ncontroller:\n  agents:\n  - {node: node-1, url: %q}\n  - {node: node-2, url: 'http://127.0.0.1:1'}\n", l.ClusterDir(), address)
	controller, _ := start(t, exporter.Options{Role: exporter.RoleController}, config)
	a := newAsker(t, controller)
	for q, want := range map[query]verdict.Verdict{onNode1: verdict.Reachable, onNode2: verdict.Unknown, across: verdict.Unknown} {
		r := a.diagnose(q)
		if r.Verdict != want || want == verdict.Unknown && r.Reason() != verdict.SnapshotMissing {
			t.Errorf("%s: %s, want %s", q, say(r), want)
		}
	}
}

// An agent speaks for its own node only.
func TestAnAgentThatAnswersForAnotherNode(t *testing.T) {
	l := startLab(t)
	c := &cluster{Lab: l}
	address, _ := c.startAgent(t, "node-1", "")
	config := fmt.Sprintf("collector: {manifests: %q, maxAge: 0s}\ncontroller:\n  agents:\n  - {node: node-1, url: %q}\n  - {node: node-2, url: %q}\n", l.ClusterDir(), address, address)
	controller, _ := start(t, exporter.Options{Role: exporter.RoleController}, config)
	a := newAsker(t, controller)
	if r := a.diagnose(onNode1); r.Verdict != verdict.Reachable {
		t.Errorf("%s: %s", onNode1, say(r))
	}
	if r := a.diagnose(across); r.Verdict != verdict.Unknown {
		t.Errorf("%s: %s", across, say(r))
	}
	if _, body := a.get("/metrics"); !strings.Contains(body, `plumbline_agent_up{node="node-2"} 0`) {
		t.Error("an agent that answers for another node counts as up")
	}
}
