package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	// patience is how long a condition may take to come true on a busy machine.
	patience = 2 * time.Minute
	poll     = 200 * time.Millisecond
)

// daemon is plumbline serve, with a schedule for each question.
type daemon struct {
	base   *url.URL
	client *http.Client
	log    *synclog.Buffer
}

func serve(t *testing.T, w *world, schedules []question) *daemon {
	t.Helper()
	return serveWith(t, w, "maxAge: 1s, timeout: 5s", schedules)
}

// serveWith is serve with settings of how the cloud is read.
func serveWith(t *testing.T, w *world, settings string, schedules []question) *daemon {
	t.Helper()
	config := w.cloudConfig(settings) + fmt.Sprintf(`
probes: {enabled: false}
collector: {namespaces: ["%[1]s-node-*", "%[1]s-shop-*"], manifests: %[2]q, maxAge: 1s}
schedules:
`, prefix, w.lab.ClusterDir())
	for _, q := range schedules {
		config += fmt.Sprintf("- {name: %s, cron: '@every 1s', from: %q, to: %q, port: %d, protocol: %s}\n", q.name, q.from, q.to, q.port, q.protocol)
	}
	return start(t, exporter.RoleServe, config)
}

// cloudConfig is the part of a configuration that names the cloud.
func (w *world) cloudConfig(settings string) string {
	return fmt.Sprintf("cloud: {provider: alibaba, region: cn-test, credentials: environment, %s, endpoints: {ecs: %[2]q, vpc: %[2]q, slb: %[2]q, nlb: %[2]q, alb: %[2]q}}\n", settings, w.URL())
}

// start runs a daemon of a role until the test ends.
func start(t *testing.T, role exporter.Role, config string) *daemon {
	t.Helper()
	d := &daemon{client: &http.Client{Transport: &http.Transport{}}, log: new(synclog.Buffer)}
	options := exporter.Options{
		Role: role, ConfigFile: filepath.Join(t.TempDir(), "plumbline.yaml"), ListenAddress: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if err := os.WriteFile(options.ConfigFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	served, err := exporter.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- served.Run(ctx) }()
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	d.base = &url.URL{Scheme: "http", Host: served.Addr().String()}
	return d
}

// get asks the daemon for a page, or, with a body, posts it.
func (d *daemon) get(path, body string) (string, error) {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequest(method, d.base.String()+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := d.client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, data)
	}
	return string(data), err
}

func (d *daemon) ask(q question, confirm bool) (*verdict.Report, string, error) {
	body, err := d.get("/api/v1/diagnose", fmt.Sprintf(`{"from": %q, "to": %q, "port": %d, "protocol": %q, "confirm": %v}`, q.from, q.to, q.port, q.protocol, confirm))
	if err != nil {
		return nil, "", err
	}
	r := new(verdict.Report)
	return r, body, json.Unmarshal([]byte(body), r)
}

// counted is what a schedule has counted of a reason.
func (d *daemon) counted(schedule string, reason verdict.Code) (float64, error) {
	text, err := d.get("/metrics", "")
	if err != nil {
		return 0, err
	}
	prefix := fmt.Sprintf("plumbline_schedule_failures_total{reason=%q,schedule=%q} ", reason, schedule)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, prefix); ok {
			var n float64
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, nil
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	if err := against.Await(t, patience, poll, condition); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// expects waits until the daemon says what is expected.
func (d *daemon) expects(t *testing.T, want []expectation) {
	t.Helper()
	for _, e := range want {
		eventually(t, e.name, func() error {
			r, _, err := d.ask(e.question, false)
			if err != nil {
				return err
			}
			return e.holds(r)
		})
	}
}

// serves has all faults of the cloud, one round after the other: the reports say what
// they are, and schedules count them.
func serves(t *testing.T, w *world) {
	var asked []question
	for _, e := range healthy {
		asked = append(asked, e.question)
	}
	d := serve(t, w, asked)
	d.expects(t, healthy)
	for _, r := range rounds {
		t.Run(r.name, func(t *testing.T) {
			before := map[string]float64{}
			for _, e := range r.want {
				n, err := d.counted(e.name, e.reason)
				if err != nil {
					t.Fatal(err)
				}
				before[e.name] = n
			}
			w.with(t, r.fault)
			d.expects(t, r.want)
			for _, e := range r.want {
				if e.verdict != verdict.Unreachable {
					continue
				}
				eventually(t, "the schedule "+e.name, func() error {
					n, err := d.counted(e.name, e.reason)
					if err == nil && n <= before[e.name] {
						err = fmt.Errorf("counts %v of %s, and %v before", n, e.reason, before[e.name])
					}
					return err
				})
			}
		})
	}
	w.with(t, nil)
	d.expects(t, healthy)
}

// confirms sends packets through the lab, whose fabric does what the cloud is told to:
// what is observed is what was predicted.
func confirms(t *testing.T, w *world) {
	d := serve(t, w, nil)
	fabric := func(t *testing.T, rule string) {
		t.Helper()
		iptables := "ip netns exec " + prefix + "-fabric iptables-nft "
		run(t, iptables+rule)
		t.Cleanup(func() { run(t, iptables+strings.Replace(rule, "-A ", "-D ", 1)) })
	}
	observed := func(t *testing.T, e expectation, outcome verdict.Outcome, agrees bool) {
		t.Helper()
		d.expects(t, []expectation{e}) // the cloud has been read
		r, body, err := d.ask(e.question, true)
		switch {
		case err != nil:
			t.Error(err)
		case r.Observed == nil || r.Observed.Outcome != outcome || r.Observed.Agrees == nil || *r.Observed.Agrees != agrees:
			t.Errorf("%s: %s", e.name, body)
		}
	}
	for _, e := range []expectation{{question: nodeToNode, verdict: verdict.Reachable}, {question: podToPod, verdict: verdict.Reachable}, {question: ownPodToPod, verdict: verdict.Reachable}, healthy[6]} {
		t.Run(e.name, func(t *testing.T) { observed(t, e, verdict.OutcomeEstablished, true) })
	}
	t.Run("what a group drops", func(t *testing.T) {
		w.with(t, rounds[0].fault)
		denied := rounds[0].want[0]
		// The cloud alone knows of it: what is observed contradicts.
		observed(t, denied, verdict.OutcomeEstablished, false)
		fabric(t, "-A FORWARD -s 10.244.0.0/16 -d 10.244.0.0/16 -j DROP")
		observed(t, denied, verdict.OutcomeTimeout, true)
	})
	for to, outcome := range map[string]verdict.Outcome{node1: verdict.OutcomeTimeout, node2: verdict.OutcomeEstablished} {
		t.Run("an internal load balancer that leads to "+to, func(t *testing.T) {
			w.with(t, onlyBackend(to))
			fabric(t, "-t nat -A PREROUTING -d "+classicInner+" -p tcp --dport 80 -j DNAT --to-destination "+to+":30080")
			e := expectation{question: nodeToInnerLB, verdict: verdict.Reachable}
			if to == node1 { // the client's own node: it does not take what comes from itself
				e.verdict, e.reason = verdict.Unreachable, verdict.MartianSource
			}
			observed(t, e, outcome, true)
		})
	}
	w.with(t, nil)
	t.Run("from the Internet", func(t *testing.T) {
		d.expects(t, []expectation{{question: internetToSvc, verdict: verdict.Reachable}})
		r, body, err := d.ask(internetToSvc, true)
		if err != nil || r.Observed != nil || !strings.Contains(body, "nothing was sent to confirm this: the packet comes from the Internet: "+internet) {
			t.Errorf("%v %s", err, body)
		}
		// What the load balancer sends to nodes is sent here by the fabric.
		for _, node := range []string{node1, node2} {
			if err := fromFabric(node + ":30080"); err != nil {
				t.Errorf("the node's half of the way: %v", err)
			}
		}
	})
}

// controls has agents on the nodes, which know of no cloud, and a controller that does.
func controls(t *testing.T, w *world) {
	config := w.cloudConfig("maxAge: 1s, timeout: 5s") + fmt.Sprintf("collector: {manifests: %q, maxAge: 1s}\ncontroller:\n  agents:\n", w.lab.ClusterDir())
	for node, pods := range map[string][]string{"node-1": {"web-0", "api-0"}, "node-2": {"api-1", "db-0", "eni-0"}} {
		names := []string{prefix + "-" + node}
		for _, p := range pods {
			names = append(names, prefix+"-shop-"+p)
		}
		agent := start(t, exporter.RoleAgent, fmt.Sprintf("node: %s\nprobes: {enabled: false}\ncollector: {namespaces: [%s], maxAge: 1s}\n", node, strings.Join(names, ", ")))
		config += fmt.Sprintf("  - {node: %s, url: %q}\n", node, agent.base)
	}
	d := start(t, exporter.RoleController, config)
	d.expects(t, healthy)
	w.with(t, rounds[1].fault)
	d.expects(t, rounds[1].want)
	w.with(t, nil)
	// The agent of the source's node sends what the controller has judged.
	d.expects(t, []expectation{{question: podToPod, verdict: verdict.Reachable}})
	if r, body, err := d.ask(podToPod, true); err != nil || r.Observed == nil || r.Observed.Outcome != verdict.OutcomeEstablished || r.Observed.Agrees == nil || !*r.Observed.Agrees {
		t.Errorf("%v %s", err, body)
	}
}

// fromFabric makes a connection as somebody on the Internet does, whose address the load
// balancer keeps.
func fromFabric(to string) error {
	return lab.InNetns(prefix+"-fabric", func() error {
		dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(internet)}}
		c, err := dialer.Dial("tcp4", to)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// unpacked is the text of a bundle, which has something of the cloud.
func unpacked(t *testing.T, archive string) string {
	t.Helper()
	z, err := zstd.NewReader(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	if err != nil || !bytes.Contains(text, []byte("cloud/alibaba/")) {
		t.Errorf("the bundle has nothing of the cloud, %v", err)
	}
	return string(text)
}

// suffers has a daemon whose API fails in every other way than by refusing, each time for another
// action: each question that one of them could decide is not known, and all else is.
func suffers(t *testing.T, w *world) {
	faults := []struct {
		action string
		fault  alibabatest.Fault
		asked  question
		what   string
	}{
		{"slb.DescribeVServerGroupAttribute", alibabatest.Throttled, internetToSvc, "Throttling.User"},
		{"nlb.ListLoadBalancers", alibabatest.Broken, internetToNLB, "ServiceUnavailable"},
		{"vpc.DescribeSnatTableEntries", alibabatest.Silent, podToInternet, "Timeout"},
		{"alb.GetListenerHealthStatus", alibabatest.Fault{Truncate: true}, internetToALB, "Malformed"},
		{"vpc.DescribeForwardTableEntries", alibabatest.Fault{Cut: true}, internetToDNAT, "Unreachable"},
	}
	for _, f := range faults {
		w.Fail(f.action, f.fault)
	}
	defer w.Heal()
	// What is silent takes the whole time of a reading, and is asked again after a fourth of maxAge.
	d := serveWith(t, w, "maxAge: 20s, timeout: 4s", nil)
	for _, f := range faults {
		d.expects(t, []expectation{{f.asked, verdict.Unknown, verdict.CloudAPIFailed, f.action + " failed (" + f.what, ""}})
		r, _, err := d.ask(f.asked, false)
		if grant := "Grant " + strings.Replace(f.action, ".", ":", 1); err != nil || len(r.Reasons) == 0 || !strings.HasPrefix(r.Reasons[0].Remedy, grant) {
			t.Errorf("%s: %v, %+v", grant, err, r)
		}
	}
	for _, q := range []question{nodeToNode, podToPod, ownPodToPod, inNode, eipToInternet, internetToNode, internetToPod} {
		d.expects(t, []expectation{{question: q, verdict: verdict.Reachable, reason: reasonOf(q)}})
	}
	w.Heal()
	d.expects(t, healthy)
}

// reasonOf is what is said of a question while the cloud is as it should be.
func reasonOf(q question) verdict.Code {
	return healthy[slices.IndexFunc(healthy, func(e expectation) bool { return e.question == q })].reason
}

// tells has a daemon of which an action is refused: only what that could decide is not
// known, and nothing that it says or writes holds what nobody may read.
func tells(t *testing.T, w *world) {
	const action = "ecs.DescribeSecurityGroupAttribute"
	w.Fail(action, alibabatest.Forbidden)
	defer w.Heal(action)
	d := serve(t, w, []question{podToPod})
	said := map[string]string{}
	for _, e := range []expectation{
		{podToPod, verdict.Unknown, verdict.CloudAPIFailed, action + " failed (Forbidden.RAM", ""},
		{question: inNode, verdict: verdict.Reachable},
	} {
		d.expects(t, []expectation{e})
		_, body, err := d.ask(e.question, false)
		if err != nil {
			t.Fatal(err)
		}
		said["report of "+e.name] = body
	}
	if !strings.Contains(said["report of "+podToPod.name], "Grant ecs:DescribeSecurityGroupAttribute") {
		t.Errorf("the report does not say what to grant: %s", said["report of "+podToPod.name])
	}
	for _, page := range []string{"/api/v1/bundle", "/metrics", "/api/v1/reports", "/api/v1/schedules"} {
		text, err := d.get(page, "")
		if err != nil {
			t.Fatal(err)
		}
		said[page] = text
	}
	said["/api/v1/bundle"] = unpacked(t, said["/api/v1/bundle"])
	said["log"] = d.log.String()
	for place, text := range said {
		w.Untold(t, place, text)
	}
}
