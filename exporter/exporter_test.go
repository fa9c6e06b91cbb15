package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestMain(m *testing.M) {
	serveAsListener() // if it is one of a lab
	goleak.VerifyTestMain(m)
}

const sample = "../examples/lab.tar.zst"

// newDaemon starts nothing but the listener and the schedules; requests go to
// its handler directly.
func newDaemon(t *testing.T, options Options) (*Daemon, *synclog.Buffer) {
	t.Helper()
	log := &synclog.Buffer{}
	options.Log = slog.New(slog.NewTextHandler(log, nil))
	if options.ListenAddress == "" {
		options.ListenAddress = "127.0.0.1:0"
	}
	d, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, log
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plumbline.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask sends a request to the handler. A header is "Name: value".
func ask(t *testing.T, d *Daemon, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:9810"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	d.http.Handler.ServeHTTP(w, r)
	return w
}

func TestRefusalsAreJSONWithTheRightStatus(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	type request struct {
		method, target, body string
		headers              []string
	}
	for name, test := range map[string]struct {
		request request
		status  int
		code    string
		message string
	}{
		"an unknown path": {
			request{method: "GET", target: "/api/v2"}, 404, "not-found", "there is no /api/v2; / lists what there is",
		},
		"a method that the path does not have": {
			request{method: "DELETE", target: "/api/v1/schedules"}, 405, "method-not-allowed", "/api/v1/schedules does not do DELETE, only OPTIONS, GET, HEAD",
		},
		"reloading by GET": {
			request{method: "GET", target: "/-/reload"}, 405, "method-not-allowed", "/-/reload does not do GET, only OPTIONS, POST",
		},
		"a query without a destination": {
			request{method: "GET", target: "/api/v1/diagnose?from=10.0.0.1&port=80"},
			400, "bad-query",
			"to: missing; expected pod:NAMESPACE/NAME, node:NAME, svc:NAMESPACE/NAME, ns:NETNS, dns:NAME or an IP address",
		},
		"an endpoint that is none": {
			request{method: "GET", target: "/api/v1/diagnose?from=pod:web&to=10.0.0.1&port=80"},
			400, "bad-query",
			`from: "pod:web": expected pod:NAMESPACE/NAME`,
		},
		"a port that is no number": {
			request{method: "GET", target: "/api/v1/diagnose?from=10.0.0.1&to=10.0.0.2&port=http"},
			400, "bad-query",
			`port: "http" is not a whole number from 1 to 65535`,
		},
		"a misspelt parameter": {
			request{method: "GET", target: "/api/v1/diagnose?from=10.0.0.1&too=10.0.0.2"}, 400, "bad-query", `unknown parameter "too"`,
		},
		"confirming by GET": {
			request{method: "GET", target: "/api/v1/diagnose?from=10.0.0.1&to=10.0.0.2&port=80&confirm=true"},
			400, "bad-query",
			`confirm: "true" sends packets, which GET does not; confirm is for POST`,
		},
		"a body that is no JSON": {
			request{method: "POST", target: "/api/v1/diagnose", body: "from=10.0.0.1"},
			400, "bad-query",
			"query: invalid character 'r' in literal false (expecting 'a')",
		},
		"an unknown field": {
			request{method: "POST", target: "/api/v1/diagnose", body: `{"form":"10.0.0.1"}`}, 400, "bad-query", `query: json: unknown field "form"`,
		},
		"a field of another type": {
			request{method: "POST", target: "/api/v1/diagnose", body: `{"from":1}`}, 400, "bad-query", "query: from: number: expected a string",
		},
		"no body": {
			request{method: "POST", target: "/api/v1/diagnose"}, 400, "bad-query", "query: is empty: expected a JSON object",
		},
		"a query string that is none": {
			request{method: "GET", target: "/api/v1/diagnose?from=10.0.0.1&to=10.0.0.2&port=80&from=%zz"}, 400, "bad-query", `invalid URL escape "%zz"`,
		},
		"a body that is too large": {
			request{method: "POST", target: "/api/v1/diagnose", body: strings.Repeat(" ", 65<<10)}, 413, "too-large", "the body is larger than 64KiB",
		},
		"a report that is not there": {
			request{method: "GET", target: "/api/v1/reports/x-1"}, 404, "not-found", `there is no report "x-1", or it made room for later ones`,
		},
		"a verdict that is none": {
			request{method: "GET", target: "/api/v1/reports?verdict=broken"},
			400, "bad-parameter",
			`verdict: "broken" is not reachable, degraded, unreachable or unknown`,
		},
		"a name that another site gave this server": {
			request{method: "GET", target: "/metrics", headers: []string{"Host: evil.example"}},
			403, "host-not-allowed",
			`host "evil.example" is not a name of this server; web.allowedHosts in the configuration adds names`,
		},
		"an address that is not this server's": {
			request{method: "GET", target: "/metrics", headers: []string{"Host: 192.0.2.1:9810"}},
			403, "host-not-allowed",
			`host "192.0.2.1:9810" is not a name of this server; web.allowedHosts in the configuration adds names`,
		},
		"a request from another site's page": {
			request{method: "POST", target: "/-/reload", headers: []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}},
			403, "cross-origin",
			"POST requests from the pages of other sites are refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(t, d, test.request.method, test.request.target, test.request.body, test.request.headers...)
			var answer struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatalf("%v in %q", err, w.Body)
			}
			if w.Code != test.status || answer.Error.Code != test.code || answer.Error.Message != test.message {
				t.Errorf("got %d %s %q; want %d %s %q", w.Code, answer.Error.Code, answer.Error.Message, test.status, test.code, test.message)
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestNamesOfThisServerAreAllowed(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {allowedHosts: [plumbline.example]}\n")})
	for _, host := range []string{"localhost", "LOCALHOST:9810", "127.0.0.1", "127.9.9.9:80", "[::1]:9810", "plumbline.example:9810"} {
		if w := ask(t, d, "GET", "/-/healthy", "", "Host: "+host); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", host, w.Code, w.Body)
		}
	}
}

func TestDiagnoseByGETAndPOSTIsTheSame(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	var reports [2]verdict.Report
	for i, w := range []*httptest.ResponseRecorder{
		ask(t, d, "GET", "/api/v1/diagnose?id=7&from=pod:shop/web-0&to=pod:shop/api-1&port=8080", ""),
		ask(t, d, "POST", "/api/v1/diagnose", `{"id":"7","from":"pod:shop/web-0","to":"pod:shop/api-1","port":8080,"protocol":"tcp"}`),
	} {
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &reports[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range reports {
		if r.ID != "7" || r.Verdict != verdict.Unreachable || r.Reason() != verdict.NetfilterDrop {
			t.Errorf("got %s %s %s, want 7 unreachable NetfilterDrop", r.ID, r.Verdict, r.Reason())
		}
	}
}

const oneSchedule = `
schedules:
- {name: web-to-far, cron: "@every 1h", from: "pods:shop?app=web", to: "pod:shop/api-1", port: 8080, protocol: tcp, expect: reachable}
`

// ran waits until every schedule has run once.
func ran(t *testing.T, d *Daemon) []schedules.Status {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		status, done := d.runner.Status(), true
		for _, s := range status {
			done = done && s.LastRun != nil
		}
		if done {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("not every schedule ran: %+v", status)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestReportsOfASchedule(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, oneSchedule)})
	status := ran(t, d)
	if len(status) != 1 || len(status[0].Paths) != 1 {
		t.Fatalf("status %+v", status)
	}
	path := status[0].Paths[0]
	if path.Path != "pod:shop/web-0->pod:shop/api-1:8080/tcp" || path.Verdict != verdict.Unreachable || path.Reason != verdict.NetfilterDrop ||
		path.ExpectationMet == nil || *path.ExpectationMet {
		t.Errorf("path %+v", path)
	}
	w := ask(t, d, "GET", "/api/v1/reports/"+path.Report, "")
	var record struct {
		Report verdict.Report `json:"report"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &record); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	for target, want := range map[string]int{
		"/api/v1/reports":                     1,
		"/api/v1/reports?verdict=unreachable": 1,
		"/api/v1/reports?verdict=reachable":   0,
		"/api/v1/reports?schedule=web-to-far": 1,
		"/api/v1/reports?schedule=nobody":     0,
		"/api/v1/reports?path=" + "x":         0,
	} {
		w := ask(t, d, "GET", target, "")
		var list struct{ Reports []json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Reports) != want {
			t.Errorf("%s: %d reports (%v), want %d", target, len(list.Reports), err, want)
		}
	}
	if w := ask(t, d, "GET", "/", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "pod:shop/web-0-&gt;pod:shop/api-1:8080/tcp") {
		t.Errorf("the page does not show the path: %d %s", w.Code, w.Body)
	}
}

func TestReadyWhenStateWasCollected(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	if w := ask(t, d, "GET", "/-/ready", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("ready before anything was collected: %d %s", w.Code, w.Body)
	}
	if w := ask(t, d, "GET", "/api/v1/bundle", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a bundle before anything was collected: %d", w.Code)
	}
	if _, err := d.network.View(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if w := ask(t, d, "GET", "/-/ready", ""); w.Code != http.StatusOK || w.Body.String() != "ready\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := ask(t, d, "GET", "/api/v1/bundle", "")
	served, err := bundle.ReadArchive(w.Body)
	if err != nil || len(served.Namespaces) != 7 || w.Header().Get("Content-Type") != "application/zstd" {
		t.Errorf("bundle: %v, %q", err, w.Header().Get("Content-Type"))
	}
}

func TestACollectorThatFailsIsSaid(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	d.network.collect = func(context.Context, time.Duration) (*simulator.Snapshot, error) {
		return nil, errors.New("no privileges")
	}
	w := ask(t, d, "GET", "/api/v1/diagnose?from=10.0.0.1&to=10.0.0.2&port=80", "")
	if want := `{"error":{"code":"not-ready","message":"no state has been collected yet: no privileges"}}` + "\n"; w.Code != http.StatusServiceUnavailable || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, d, "GET", "/-/ready", ""); !strings.Contains(w.Body.String(), "no privileges") {
		t.Errorf("%s", w.Body)
	}
}

func TestAStaleSnapshotDecidesNothing(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	d.network.static = false // as if it had been collected from this host
	v, err := d.network.view(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for node, taken := range v.oldest {
		// The clock was set since: by what the state itself says it is from long ago.
		if !taken.Equal(v.began) || !monotonic(taken) {
			t.Errorf("the state of %s, read just now, is from %s", node, taken)
		}
		v.oldest[node] = taken.Add(-time.Hour)
	}
	r, err := v.Diagnose(t.Context(), verdict.Query{From: "pod:shop/web-0", To: "pod:shop/api-1", Port: 8080, Protocol: verdict.TCP})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verdict.Unknown || r.Reason() != verdict.SnapshotStale || r.Reasons[0].Where.Node != "node-1" {
		t.Errorf("got %s %s of %s, want unknown SnapshotStale of node-1", r.Verdict, r.Reason(), r.Reasons[0].Where.Node)
	}
}

// monotonic says whether what passes since a time does not hang on a clock that somebody
// may set.
func monotonic(t time.Time) bool { return t != t.Round(0) }

func TestReloadKeepsTheOldConfigurationWhenTheNewIsBad(t *testing.T) {
	file := configFile(t, oneSchedule)
	d, log := newDaemon(t, Options{Bundle: sample, ConfigFile: file})
	if err := os.WriteFile(file, []byte("schedules:\n- name: a\n  cron: \"61 * * * *\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := ask(t, d, "POST", "/-/reload", "")
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), file+`:3: schedules[0].cron: \"61 * * * *\"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if status := d.runner.Status(); len(status) != 1 || status[0].Name != "web-to-far" {
		t.Errorf("the old schedule is gone: %+v", status)
	}
	if text := log.String(); !strings.Contains(text, "configuration is bad; the old one is kept") {
		t.Errorf("the log does not say so:\n%s", text)
	}
	if got := scrape(t, d)["plumbline_config_last_reload_successful"]; got != 0 {
		t.Errorf("plumbline_config_last_reload_successful is %v", got)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(oneSchedule, "web-to-far", "other")), 0o600); err != nil {
		t.Fatal(err)
	}
	if w := ask(t, d, "POST", "/-/reload", ""); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if status := d.runner.Status(); len(status) != 1 || status[0].Name != "other" {
		t.Errorf("the new schedule is not there: %+v", status)
	}
	if got := scrape(t, d)["plumbline_config_last_reload_successful"]; got != 1 {
		t.Errorf("plumbline_config_last_reload_successful is %v", got)
	}
}

func TestWhatIsWrongWithListening(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := taken.Addr().String()
	for _, test := range []struct{ address, want string }{
		{inUse, "listen on " + inUse + ": the port is in use, perhaps by another plumbline; stop it, or choose another with --web.listen-address"},
		{"0.0.0.0:0", "--web.listen-address 0.0.0.0:0: listening beyond loopback needs authentication: give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in --web.config.file"},
		{":9810", "--web.listen-address :9810: listening beyond loopback needs authentication: give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in --web.config.file"},
		{"127.0.0.1", "--web.listen-address: address 127.0.0.1: missing port in address"},
	} {
		d, err := New(Options{ListenAddress: test.address, Bundle: sample, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			d.Close()
			t.Errorf("%s: no error", test.address)
		} else if err.Error() != test.want {
			t.Errorf("%s: %q, want %q", test.address, err, test.want)
		}
	}
}

func TestRunEndsWhatIsUnderWay(t *testing.T) {
	d, log := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, oneSchedule)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	resp, err := http.Get("http://" + d.Addr().String() + "/-/healthy")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "shutting down") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}
