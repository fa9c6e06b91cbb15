// Package monitoring runs a real Prometheus and a real Alertmanager (Debian's
// packages) over a lab and its daemon: what the dashboard shows has to be
// there, and an alert has to reach somebody and to end.
package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

func TestMain(m *testing.M) {
	if lab.IsListener() {
		if err := lab.ServeListener(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	prefix = "plmon"
	// patience is how long a condition may take to come true on a busy machine.
	patience = 3 * time.Minute
	poll     = 200 * time.Millisecond
)

// eventually waits until the condition holds; the error says what is missing.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v: %v", what, t.Context().Err(), err)
		case <-time.After(poll):
		}
	}
}

// freePort returns a port of loopback that nobody uses. Another process may
// take it before the caller does; the program that is then started says so.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a program until the test ends. Its output is shown if the test
// fails.
func start(t *testing.T, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: install Debian's packages prometheus and prometheus-alertmanager (hack/deps.sh test)", err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait() // how it ended matters only to the log
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", program, text)
		}
		log.Close()
	})
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stack is everything that watches the lab.
type stack struct {
	lab        *lab.Lab
	plumbline  string // URLs
	prometheus string
	hook       *webhook
}

const schedule = `
collector:
  namespaces: ["plmon-*"]
  manifests: %s
schedules:
- {name: web-to-api, cron: "@every 1s", from: "pods:shop?app=web", to: "svc:shop/api", port: 80, protocol: tcp, expect: reachable}
- {name: web-to-far, cron: "@every 1s", from: "pods:shop?app=web", to: "pod:shop/api-1", port: 8080, protocol: tcp}
- {name: ping-node, cron: "@every 1s", from: "pods:shop?app=web", to: "node:node-2", protocol: icmp, expect: reachable}
`

const prometheusConfig = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
- {job_name: plumbline, honor_labels: true, static_configs: [{targets: [%q]}]}
`

const alertmanagerConfig = `
route: {receiver: hook, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: %q, send_resolved: true}]}]
`

func startStack(t *testing.T) *stack {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	ctx := t.Context()
	options := lab.Options{Prefix: prefix}
	if err := lab.Down(ctx, options); err != nil { // what a crash has left
		t.Fatal(err)
	}
	l, err := lab.Up(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(ctx), options); err != nil {
			t.Error(err)
		}
	})
	s := &stack{lab: l, hook: newWebhook(t)}
	plumbline, prometheus, alertmanager := freePort(t), freePort(t), freePort(t)
	s.plumbline, s.prometheus = "http://"+plumbline, "http://"+prometheus

	program := filepath.Join(t.TempDir(), "plumbline")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/plumbline").CombinedOutput(); err != nil {
		t.Fatalf("building plumbline: %v\n%s", err, out)
	}
	start(t, program, "serve", "--web.listen-address", plumbline,
		"--config", write(t, "plumbline.yaml", fmt.Sprintf(schedule, l.ClusterDir())))
	start(t, "prometheus-alertmanager", "--cluster.listen-address=", "--web.listen-address="+alertmanager,
		"--storage.path="+t.TempDir(), "--config.file="+write(t, "alertmanager.yaml", fmt.Sprintf(alertmanagerConfig, s.hook.url)))
	start(t, "prometheus", "--web.listen-address="+prometheus, "--storage.tsdb.path="+t.TempDir(),
		"--config.file="+write(t, "prometheus.yaml", fmt.Sprintf(prometheusConfig, hastyRules(t), alertmanager, plumbline)))
	eventually(t, "plumbline is ready", func() error { return ok(ctx, s.plumbline+"/-/ready") })
	eventually(t, "prometheus is ready", func() error { return ok(ctx, s.prometheus+"/-/ready") })
	eventually(t, "alertmanager is ready", func() error { return ok(ctx, "http://"+alertmanager+"/-/ready") })
	return s
}

// hastyRules is a copy of the rules in which nothing waits.
func hastyRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../dashboards/rules/plumbline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name     string           `json:"name"`
			Interval string           `json:"interval"`
			Rules    []map[string]any `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	for i := range file.Groups {
		file.Groups[i].Interval = "1s"
		for _, r := range file.Groups[i].Rules {
			if _, ok := r["for"]; ok {
				r["for"] = "1s"
			}
		}
	}
	hasty, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "rules.yaml", string(hasty))
}

func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", address, resp.Status, body)
	}
	return body, nil
}

func ok(ctx context.Context, address string) error {
	_, err := get(ctx, address)
	return err
}

// query evaluates an expression, and returns how many samples it has.
func (s *stack) query(ctx context.Context, expr string) (int, error) {
	body, err := get(ctx, s.prometheus+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct {
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	return len(answer.Data.Result), nil
}

// alert is one alert as Alertmanager tells a webhook.
type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type webhook struct {
	url    string
	mu     sync.Mutex
	alerts []alert
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	h := &webhook{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Alerts []alert `json:"alerts"`
		}
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.alerts = append(h.alerts, message.Alerts...)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// last returns the latest notification of the alert on the path.
func (h *webhook) last(name, path string) (alert, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range slices.Backward(h.alerts) {
		if a.Labels["alertname"] == name && a.Labels["path"] == path {
			return a, nil
		}
	}
	return alert{}, fmt.Errorf("no notification of %s for %s among %d", name, path, len(h.alerts))
}

// dashboard reads the expressions of the dashboard's panels and variables.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../dashboards/plumbline-paths.json")
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		Title   string `json:"title"`
		Targets []struct {
			RefID string `json:"refId"`
			Expr  string `json:"expr"`
		} `json:"targets"`
	}
	var board struct {
		Panels []struct {
			panel
			Panels []panel `json:"panels"` // of a collapsed row
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	expressions := make(map[string]string)
	for _, p := range board.Panels {
		for _, p := range append(p.Panels, p.panel) {
			for _, target := range p.Targets {
				expressions[p.Title+" "+target.RefID] = target.Expr
			}
		}
	}
	if len(expressions) == 0 {
		t.Fatal("the dashboard has no expressions")
	}
	return expressions
}

var intervals = regexp.MustCompile(`\$__(rate_interval|interval|range)|\$\{__(rate_interval|interval|range)\}`)

// filled replaces Grafana's variables: all of everything, over a minute.
func filled(expr string) string {
	expr = intervals.ReplaceAllString(expr, "1m")
	return regexp.MustCompile(`\$\{?[a-z_]+(:[a-z]+)?\}?`).ReplaceAllString(expr, ".*")
}

// TestDashboardAndAlerts breaks the lab, looks at every expression of the
// dashboard, waits for the alert, mends the lab, and waits for its end.
func TestDashboardAndAlerts(t *testing.T) {
	s := startStack(t)
	ctx := t.Context()
	const fault, path = "drop-rule", "pod:shop/web-0->svc:shop/api:80/tcp"
	if err := s.lab.Break(ctx, fault); err != nil {
		t.Fatal(err)
	}

	t.Run("the metrics are well-formed", func(t *testing.T) { checkMetrics(ctx, t, s.plumbline) })

	var firing alert
	eventually(t, "the alert fires", func() (err error) {
		firing, err = s.hook.last("PlumblineExpectationNotMet", path)
		return err
	})
	want := map[string]string{
		"alertname": "PlumblineExpectationNotMet", "severity": "critical", "job": "plumbline",
		"schedule": "web-to-api", "path": path,
	}
	for name, value := range want {
		if firing.Labels[name] != value {
			t.Errorf("label %s is %q, want %q", name, firing.Labels[name], value)
		}
	}
	if firing.Status != "firing" || !strings.Contains(firing.Annotations["description"], "degraded") ||
		!strings.HasSuffix(firing.Annotations["runbook_url"], "docs/runbooks/PlumblineExpectationNotMet.md") {
		t.Errorf("notification %+v does not say what is wrong", firing)
	}
	eventually(t, "the alert on a path without expectation fires", func() error {
		_, err := s.hook.last("PlumblinePathUnreachable", "pod:shop/web-0->pod:shop/api-1:8080/tcp")
		return err
	})

	for name, expr := range dashboard(t) {
		expr := filled(expr)
		eventually(t, "panel "+name+": "+expr, func() error {
			// Drops and retransmits need traffic, and rates need it to go on.
			if err := s.traffic(ctx); err != nil {
				return err
			}
			samples, err := s.query(ctx, expr)
			if err == nil && samples == 0 {
				err = errors.New("no data")
			}
			return err
		})
	}

	if err := s.lab.Fix(ctx, fault); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alert resolves", func() error {
		a, err := s.hook.last("PlumblineExpectationNotMet", path)
		if err == nil && a.Status != "resolved" {
			err = fmt.Errorf("it is %s", a.Status)
		}
		return err
	})
	if _, err := s.hook.last("PlumblineExpectationNotMet", "pod:shop/web-0->node:node-2/icmp"); err == nil {
		t.Error("an alert fired for a path on which nothing was broken")
	}
}

// traffic sends a SYN, and its repetition, into the dropping rule.
func (s *stack) traffic(ctx context.Context) error {
	far, err := s.lab.Spec.Pod(s.lab.Spec.Roles.Far)
	if err != nil {
		return err
	}
	_, err = s.lab.Connect(ctx, lab.PodEndpoint(s.lab.Spec.Roles.Client),
		netip.AddrPortFrom(far.Addresses[0], far.Ports[0].Port), lab.ConnectOptions{Timeout: 1500 * time.Millisecond})
	return err
}

// checkMetrics runs promtool over the metrics of the daemon.
func checkMetrics(ctx context.Context, t *testing.T, server string) {
	text, err := get(ctx, server+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("%v: install Debian's package prometheus (hack/deps.sh test)", err)
	}
	cmd := exec.CommandContext(ctx, promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
