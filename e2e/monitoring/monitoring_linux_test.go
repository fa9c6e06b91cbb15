package monitoring

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/dashboards"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
)

const (
	labPrefix     = "plmon"
	rulesFile     = "../../dashboards/rules/plumbline.yaml"
	dashboardFile = "../../dashboards/plumbline-paths.json"
	runbooks      = "../../docs/runbooks"
)

// configuration has a schedule of each kind: one path, a selector, a deny that must hold, paths that nothing is expected
// of, and more paths than are exported one by one. 9999 is a port that nobody listens on.
const configuration = `
collector: {namespaces: ["%s-*"], manifests: %q, maxAge: 1s}
maxPathSeries: 3
jitter: 0
schedules:
- {name: web-to-api, cron: "@every 2s", from: "pod:shop/web-0", to: "svc:shop/api", port: 80, protocol: tcp, expect: reachable}
- {name: web-to-api-pods, cron: "@every 2s", from: "pod:shop/web-0", to: "pods:shop?app=api", port: 8080, protocol: tcp, expect: reachable}
- {name: db-admin-closed, cron: "@every 2s", from: "pod:shop/web-0", to: "pod:shop/db-0", port: 9999, protocol: tcp, expect: unreachable}
- {name: service-watched, cron: "@every 2s", from: "pod:shop/web-0", to: "svc:shop/api", port: 80, protocol: tcp}
- {name: far-watched, cron: "@every 2s", from: "pod:shop/web-0", to: "pod:shop/api-1", port: 8080, protocol: tcp}
- {name: mesh, cron: "@every 2s", from: "pods:shop", to: "pods:shop?app=api", port: 8080, protocol: tcp, expect: reachable}
`

const (
	servicePath = "pod:shop/web-0->svc:shop/api:80/tcp"
	nearPath    = "pod:shop/web-0->pod:shop/api-0:8080/tcp"
	farPath     = "pod:shop/web-0->pod:shop/api-1:8080/tcp"
	deniedPath  = "pod:shop/web-0->pod:shop/db-0:9999/tcp"
)

// Verdicts by schedule and path, without and with the fault drop-rule.
var (
	healthy = map[string]string{
		"web-to-api " + servicePath:      "reachable",
		"web-to-api-pods " + nearPath:    "reachable",
		"web-to-api-pods " + farPath:     "reachable",
		"db-admin-closed " + deniedPath:  "unreachable",
		"service-watched " + servicePath: "reachable",
		"far-watched " + farPath:         "reachable",
	}
	broken = map[string]string{
		"web-to-api " + servicePath:      "degraded",
		"web-to-api-pods " + nearPath:    "reachable",
		"web-to-api-pods " + farPath:     "unreachable",
		"db-admin-closed " + deniedPath:  "unreachable",
		"service-watched " + servicePath: "degraded",
		"far-watched " + farPath:         "unreachable",
	}
)

// world is everything that runs.
type world struct {
	lab        *lab.Lab
	daemon     string // address
	prometheus prometheus
	receiver   *receiver
}

func build(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the lab needs root")
	}
	for name := range debianPackage {
		lookUp(t, name)
	}
	binary := filepath.Join(t.TempDir(), "plumbline")
	cmd := exec.Command("go", "build", "-o", binary, "../../cmd/plumbline")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build plumbline: %v\n%s", err, out)
	}

	l := against.StartLab(t, lab.Options{Prefix: labPrefix, Executable: binary})

	w := &world{lab: l, daemon: freeAddress(t)}
	config := writeFile(t, "plumbline.yaml", fmt.Sprintf(configuration, labPrefix, l.ClusterDir()))
	start(t, binary, "serve", "--config", config, "--web.listen-address", w.daemon)
	await(t, "plumbline is ready", func() error {
		_, err := get(t.Context(), "http://"+w.daemon+"/-/ready")
		return err
	})
	var webhook string
	w.receiver, webhook = startReceiver(t)
	w.prometheus = startPrometheus(t, w.daemon, startAlertmanager(t, webhook), rulesFile)
	return w
}

func TestPrometheusAndAlertmanagerTellWhatIsBroken(t *testing.T) {
	w := build(t)

	w.awaitVerdicts(t, healthy)
	for name := range w.alerts() {
		if got := w.receiver.firing(name); len(got) > 0 {
			t.Fatalf("nothing is broken, and %s fires for %v", name, slices.Sorted(maps.Keys(got)))
		}
	}

	if err := w.lab.Break(t.Context(), "drop-rule"); err != nil {
		t.Fatal(err)
	}
	w.awaitVerdicts(t, broken)
	w.awaitAlerts(t)
	t.Run("promtool accepts the metrics", w.testMetrics)
	t.Run("every expression of the dashboard has data", w.testDashboard)
	t.Run("every rule is evaluated", w.testRules)
	t.Run("every query of the runbooks can be asked", w.testRunbooks)

	if err := w.lab.Fix(t.Context(), "drop-rule"); err != nil {
		t.Fatal(err)
	}
	w.awaitVerdicts(t, healthy)
	w.awaitResolved(t)
}

// awaitVerdicts waits until Prometheus knows exactly these paths with these verdicts.
func (w *world) awaitVerdicts(t *testing.T, want map[string]string) {
	t.Helper()
	await(t, "verdicts in Prometheus", func() error {
		samples, err := w.prometheus.query(t.Context(), "plumbline_path_verdict == 1")
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, s := range samples {
			got[s.Metric["schedule"]+" "+s.Metric["path"]] = s.Metric["verdict"]
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("are %v, want %v", got, want)
		}
		return nil
	})
}

// alert is a notification that is wanted.
func (w *world) alert(name, severity, summary, description string, labels map[string]string) notification {
	n := notification{
		Status: "firing",
		Labels: map[string]string{"alertname": name, "severity": severity, "job": "plumbline", "instance": w.daemon},
		Annotations: map[string]string{
			"summary": summary, "description": description,
			"runbook_url": "https://github.com/plumbline-net/plumbline/blob/main/docs/runbooks/" + name + ".md",
		},
	}
	maps.Copy(n.Labels, labels)
	return n
}

// alerts are those that the fault drop-rule raises, by name and then by schedule and path, and no others: none of the path
// to the near backend, none of the one that is to be unreachable and is, and no two of one path in one schedule.
func (w *world) alerts() map[string]map[string]notification {
	want := map[string]map[string]notification{
		"PlumblineExpectationNotMet": {},
		"PlumblinePathUnknown":       {},
		"PlumblinePathDegraded": {"service-watched " + servicePath: w.alert("PlumblinePathDegraded", "warning",
			"Path "+servicePath+" is degraded",
			"Some of the ways that "+servicePath+" of schedule service-watched can take fail: some backends, replies or full-size packets "+
				`(plumbline_path_verdict{verdict="degraded"} is 1 on `+w.daemon+").",
			map[string]string{"schedule": "service-watched", "path": servicePath, "verdict": "degraded"})},
		"PlumblinePathUnreachable": {"far-watched " + farPath: w.alert("PlumblinePathUnreachable", "warning",
			"Path "+farPath+" is unreachable",
			farPath+" of schedule far-watched is unreachable, and no expectation says that it should be "+
				`(plumbline_path_verdict{verdict="unreachable"} is 1 on `+w.daemon+").",
			map[string]string{"schedule": "far-watched", "path": farPath, "verdict": "unreachable"})},
		"PlumblineSchedulePathsFailing": {"mesh": w.alert("PlumblineSchedulePathsFailing", "warning",
			"Paths of schedule mesh are unreachable",
			"3 paths of schedule mesh are unreachable. The schedule has more paths than maxPathSeries, so that only /api/v1/schedules on "+w.daemon+" says which.",
			map[string]string{"schedule": "mesh", "verdict": "unreachable"})},
	}
	for _, p := range []struct{ schedule, path, verdict string }{
		{"web-to-api", servicePath, "degraded"},
		{"web-to-api-pods", farPath, "unreachable"},
	} {
		want["PlumblineExpectationNotMet"][p.schedule+" "+p.path] = w.alert("PlumblineExpectationNotMet", "critical",
			fmt.Sprintf("Path %s is not what schedule %s expects", p.path, p.schedule),
			fmt.Sprintf("%s is %s, which is not what schedule %s expects (plumbline_path_expectation_met is 0 on %s).", p.path, p.verdict, p.schedule, w.daemon),
			map[string]string{"schedule": p.schedule, "path": p.path})
	}
	return want
}

func (w *world) awaitAlerts(t *testing.T) {
	t.Helper()
	for name, want := range w.alerts() {
		await(t, name+" at the webhook", func() error { return same(w.receiver.firing(name), want) })
	}
}

func (w *world) awaitResolved(t *testing.T) {
	t.Helper()
	for name, want := range w.alerts() {
		await(t, "end of "+name+" at the webhook", func() error {
			if got := w.receiver.firing(name); len(got) > 0 {
				return fmt.Errorf("%v still fires", slices.Sorted(maps.Keys(got)))
			}
			return same(w.receiver.resolved(name), want)
		})
	}
}

func same(got, want map[string]notification) error {
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		return fmt.Errorf("are of %v, want %v", g, w)
	}
	for key, n := range want {
		if g := got[key]; !maps.Equal(g.Labels, n.Labels) || !maps.Equal(g.Annotations, n.Annotations) {
			return fmt.Errorf("%s is %v, want %v", key, g, n)
		}
	}
	return nil
}

func (w *world) testMetrics(t *testing.T) {
	metrics, err := get(t.Context(), "http://"+w.daemon+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lookUp(t, "promtool"), "check", "metrics")
	cmd.Stdin = bytes.NewReader(metrics)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// grafana replaces variables as Grafana does when "All" is chosen for each.
var grafana = strings.NewReplacer("$schedule", ".*", "$namespace", ".*", "$__rate_interval", "30s", "$__range", "5m")

func (w *world) testDashboard(t *testing.T) {
	d, err := dashboards.ReadDashboard(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	exprs := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			exprs++
			expr := grafana.Replace(target.Expr)
			await(t, fmt.Sprintf("panel %q, query %s:\n%s\n", p.Title, target.RefID, expr), func() error {
				err := w.prometheus.hasData(t.Context(), expr)
				if err != nil {
					w.lose(t)
				}
				return err
			})
		}
	}
	t.Logf("%d expressions of %d panels have data", exprs, len(d.Panels))

	definition := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := definition.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("variable %s: %q is not label_values(SERIES, LABEL)", v.Name, v.Definition)
			continue
		}
		var values []string
		if err := w.prometheus.api(t.Context(), "label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values); err != nil {
			t.Fatal(err)
		}
		if len(values) == 0 {
			t.Errorf("variable %s has no values", v.Name)
		}
	}

	// Who lost what, and why, as real packets tell.
	for _, expr := range []string{
		`plumbline_kernel_drops_total{reason="NETFILTER_DROP",protocol="tcp"} > 0`,
		`plumbline_tcp_retransmits_total{kind="syn",namespace="shop",pod="web-0"} > 0`,
	} {
		if err := w.prometheus.hasData(t.Context(), expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// lose makes a connection of which the fault drops the SYN, and the second one, which the kernel sends after a second.
func (w *world) lose(t *testing.T) {
	t.Helper()
	pod, err := w.lab.Spec.Pod(w.lab.Spec.Roles.Far)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(pod.Addresses[0], 8080)
	fate, err := w.lab.Connect(t.Context(), lab.PodEndpoint(w.lab.Spec.Roles.Client), to, lab.ConnectOptions{Timeout: 1500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if fate.Outcome != lab.Timeout {
		t.Fatalf("a connection to %s through a rule that drops it is %s", to, fate.Outcome)
	}
}

func (w *world) testRules(t *testing.T) {
	file, err := dashboards.ReadRules(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var states []ruleState
	await(t, "evaluation of the rules", func() (err error) {
		states, err = w.prometheus.rules(t.Context())
		return err
	})
	var got, want []string
	for _, r := range states {
		got = append(got, r.Name)
		if r.Health != "ok" {
			t.Errorf("%s %s is %s: %s", r.Type, r.Name, r.Health, r.LastError)
		}
	}
	for _, r := range file.All() {
		want = append(want, r.Record+r.Alert)
		if r.Record == "" {
			continue
		}
		if err := w.prometheus.hasData(t.Context(), r.Record); err != nil {
			t.Errorf("%s: %v", r.Record, err)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Prometheus has the rules %v, want %v", got, want)
	}
}

func (w *world) testRunbooks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	block := regexp.MustCompile("(?s)```promql\n(.*?)```")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range block.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(match[1]) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				queries++
				if _, err := w.prometheus.query(t.Context(), line); err != nil {
					t.Errorf("%s: %v", filepath.Base(file), err)
				}
			}
		}
	}
	if queries == 0 {
		t.Error("the runbooks ask Prometheus nothing")
	}
}
