package exporter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/plumbline-net/plumbline/kubernetes"
)

func TestEachCallerIsLimitedForItself(t *testing.T) {
	l, now := &limits{}, time.Unix(1000, 0)
	take := func(caller string, perSecond int) time.Duration { return l.wait(caller, perSecond, now) }
	for i := range 2 {
		if d := take("a", 2); d != 0 {
			t.Fatalf("question %d of 2 waits %s", i, d)
		}
	}
	if d := take("a", 2); d != time.Second/2 {
		t.Errorf("the third question waits %s, want 500ms", d)
	}
	if d := take("a", 2); d != time.Second/2 {
		t.Errorf("one that was refused counts: %s", d)
	}
	if d := take("b", 2); d != 0 {
		t.Errorf("somebody else waits %s", d)
	}
	now = now.Add(time.Second / 2)
	if d := take("a", 2); d != 0 {
		t.Errorf("after half a second: %s", d)
	}
	if d := take("a", 4); d != time.Second/4 {
		t.Errorf("with another limit: %s, want 250ms", d)
	}
	// However many callers there are, memory is bounded, and so is what they may do.
	for i := range 2 * maxCallers {
		take(strconv.Itoa(i), 1)
	}
	if len(l.callers) > maxCallers+1 {
		t.Errorf("%d callers are remembered", len(l.callers))
	}
	if d := take("yet another", 1); d <= 0 {
		t.Error("beyond that, nothing is bounded")
	}
	now = now.Add(time.Minute)
	if d := take("yet another", 1); d != 0 || len(l.callers) > 3 {
		t.Errorf("after a minute: %s, %d callers", d, len(l.callers))
	}
}

// basic is the header of a caller who says a name.
func basic(name string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":password"))
}

func TestWhoAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {diagnosesPerSecond: 3, confirmsPerSecond: 1}\n")})
	const path = "/api/v1/diagnose?from=pod:shop/web-0&to=pod:shop/api-1&port=8080"
	// Before the limit has let through another one; no machine is that slow for ever.
	limited := func(method, body string) {
		t.Helper()
		target := path
		if body != "" {
			target, _, _ = strings.Cut(path, "?")
		}
		for i := range 1000 {
			// A name that nobody has checked makes no other caller.
			w := ask(t, d, method, target, body, basic(strconv.Itoa(i)))
			if w.Code == http.StatusOK {
				continue
			}
			seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
			if w.Code != http.StatusTooManyRequests || err != nil || seconds < 1 || !strings.Contains(w.Body.String(), `"too-many-requests"`) {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			return
		}
		t.Error("a thousand questions at once are answered")
	}
	limited("GET", "")
	if w := ask(t, d, "GET", "/api/v1/schedules", ""); w.Code != http.StatusOK {
		t.Errorf("what is not limited: %d", w.Code)
	}
	limited("POST", `{"from":"pod:shop/web-0","to":"pod:shop/api-1","port":8080,"protocol":"tcp","confirm":true}`)
}

func TestEachUserIsLimitedForItself(t *testing.T) {
	users := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(users, []byte("basic_auth_users: {a: $2y$05$abcdefghijklmnopqrstuuJwCZ0cKWQ5Yy7RgYyq2Xw0LQvHKyYBa}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _ := newDaemon(t, Options{Bundle: sample, WebConfigFile: users, ConfigFile: configFile(t, "web: {diagnosesPerSecond: 1}\n")})
	const path = "/api/v1/diagnose?from=pod:shop/web-0&to=pod:shop/api-1&port=8080"
	for range 1000 {
		if w := ask(t, d, "GET", path, "", basic("a")); w.Code == http.StatusTooManyRequests {
			if w := ask(t, d, "GET", path, "", basic("b")); w.Code != http.StatusOK {
				t.Errorf("another user: %d %s", w.Code, w.Body)
			}
			return
		}
	}
	t.Error("a thousand questions at once are answered")
}

// Whoever could choose who they are would have a limit of their own each time.
func TestCallersAreWhoWasChecked(t *testing.T) {
	subject := func(name string) *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: name}} }
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{subject("ann")}, VerifiedChains: [][]*x509.Certificate{{subject("ann")}}}
	claimed := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{subject("ann")}}
	for _, test := range []struct {
		proof proof
		tls   *tls.ConnectionState
		name  string
		user  *kubernetes.User
		want  string
	}{
		{want: "address 192.0.2.1"},
		{name: "ann", want: "address 192.0.2.1"},
		{proof: proof{password: true}, name: "ann", want: "name ann"},
		{tls: claimed, name: "bob", want: "address 192.0.2.1"},
		{tls: verified, name: "bob", want: "certificate CN=ann"},
		{proof: proof{certificate: true, password: true}, tls: verified, name: "bob", want: "name bob"},
		{proof: proof{certificate: true}, tls: verified, user: &kubernetes.User{Name: "bob"}, want: "user bob"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.RemoteAddr, r.TLS = "192.0.2.1:1000", test.tls
		if test.name != "" {
			r.SetBasicAuth(test.name, "password")
		}
		c := echo.New().NewContext(r, httptest.NewRecorder())
		if test.user != nil {
			c.Set(userKey, test.user)
		}
		if got := (&server{proof: test.proof}).caller(c); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestMetricsAtAnAddressOfTheirOwn(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {metricsListenAddress: '127.0.0.1:0'}\n")})
	if w := ask(t, d, "GET", "/metrics", ""); w.Code != http.StatusNotFound {
		t.Errorf("beside the API: %d", w.Code)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- d.Run(ctx) }()
	for path, want := range map[string]int{"/metrics": 200, "/-/healthy": 200, "/": 404, "/api/v1/reports": 404, "/api/v1/bundle": 404, "/-/reload": 404} {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + d.metricsAt.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	_, err := New(Options{Bundle: sample, ListenAddress: "127.0.0.1:0", ConfigFile: configFile(t, "web: {metricsListenAddress: '0.0.0.0:0'}\n")})
	if want := "web.metricsListenAddress 0.0.0.0:0: listening beyond loopback needs authentication: " +
		"give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in web.metricsConfigFile"; err == nil || err.Error() != want {
		t.Errorf("for everybody: %v, want %s", err, want)
	}
}

// On a node of a cluster, pods on the host's network share its loopback.
func TestLoopbackIsNoIdentityInACluster(t *testing.T) {
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: u, user: {token: secret}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	passwords := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(passwords, []byte("basic_auth_users: {a: $2y$05$abcdefghijklmnopqrstuuJwCZ0cKWQ5Yy7RgYyq2Xw0LQvHKyYBa}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const agents = "controller: {agents: [{node: a, url: 'http://127.0.0.1:1'}]}\n"
	for name, test := range map[string]struct {
		role    Role
		web     string // in the configuration
		file    string // of the exporter toolkit
		refused bool
	}{
		"an agent":                         {role: RoleAgent, refused: true},
		"a controller":                     {role: RoleController, refused: true},
		"an agent that asks for tokens":    {role: RoleAgent, web: "web: {authorization: kubernetes}\n"},
		"an agent that asks for passwords": {role: RoleAgent, file: passwords},
		"a controller that says so":        {role: RoleController, web: "web: {authorization: loopback}\n"},
		"a daemon of one host":             {role: RoleServe},
	} {
		d, err := New(Options{
			Role: test.role, ListenAddress: "127.0.0.1:0", WebConfigFile: test.file,
			ConfigFile: configFile(t, fmt.Sprintf("kubernetes: {kubeconfig: %q}\n%s%s", kubeconfig, agents, test.web)),
		})
		if err == nil {
			d.Close()
		}
		if refused := err != nil && strings.Contains(err.Error(), "many share loopback"); refused != test.refused || err != nil && !refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
