//go:build k8s && linux

package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/snapshot"
	"github.com/plumbline-net/plumbline/witness"
)

// audience is what tokens for the daemons of this test are for.
const audience = "plumbline"

// serviceAccount makes one, and says where its token is to be asked for.
func (s *apiServer) serviceAccount(namespace, name string) {
	s.t.Helper()
	s.create("serviceaccounts", fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: %s, namespace: %s}}", name, namespace))
}

// token is a bound token of a service account.
func (s *apiServer) token(namespace, name string, audiences ...any) string {
	s.t.Helper()
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"audiences": audiences},
	}}
	var token string
	s.await("a token of "+name, func(ctx context.Context) error {
		answer, err := s.resource("v1", "serviceaccounts", namespace).Create(ctx, request, metav1.CreateOptions{}, "token")
		if err != nil {
			return err
		}
		token, _, _ = unstructured.NestedString(answer.Object, "status", "token")
		return nil
	})
	return token
}

// daemon runs one until the test ends, and returns its URL.
func daemon(t *testing.T, role exporter.Role, log io.Writer, config string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plumbline.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := exporter.New(exporter.Options{Role: role, ConfigFile: file, ListenAddress: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + d.Addr().String()
}

func request(t *testing.T, method, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestTheAPIServerDecidesWhoMayAsk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent collects this host")
	}
	t.Parallel()
	s := start(t)
	for _, namespace := range []string{"shop", "bank", "plumbline"} {
		s.create("namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"}}")
	}
	s.serviceAccount("shop", "developer")
	s.serviceAccount("plumbline", "operator")
	s.serviceAccount("plumbline", "plumbline")
	for _, object := range []struct{ resource, text string }{
		{"roles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: diagnose, namespace: shop},
rules: [{apiGroups: [plumbline.net], resources: [diagnoses], verbs: [create]}]}`},
		{"rolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: diagnose, namespace: shop},
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: diagnose}, subjects: [{kind: ServiceAccount, name: developer, namespace: shop}]}`},
		{"clusterroles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: plumbline-operator},
rules: [{apiGroups: [plumbline.net], resources: [diagnoses, reports, snapshots], verbs: [create, list, get]}, {nonResourceURLs: [/metrics, /-/reload], verbs: [get, post]}]}`},
		{"clusterrolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: plumbline-operator},
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: plumbline-operator}, subjects: [{kind: ServiceAccount, name: operator, namespace: plumbline}]}`},
		// What daemons need, and nothing else: to ask who somebody is, and to fetch state.
		{"clusterrolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: plumbline-reviews},
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}, subjects: [{kind: ServiceAccount, name: plumbline, namespace: plumbline}]}`},
		{"clusterroles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: plumbline-controller},
rules: [{apiGroups: [plumbline.net], resources: [snapshots], verbs: [get]}, {apiGroups: [plumbline.net], resources: [probes], verbs: [create]},
{apiGroups: [plumbline.net], resources: [leaders], verbs: [update]}]}`},
		{"clusterrolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: plumbline-controller},
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: plumbline-controller}, subjects: [{kind: ServiceAccount, name: plumbline, namespace: plumbline}]}`},
	} {
		s.create(object.resource, object.text)
	}
	own := s.token("plumbline", "plumbline")
	kubeconfig := s.kubeconfig(own)
	token := s.token("plumbline", "plumbline", audience)
	s.write("token", token+"\n")
	developer, operator := s.token("shop", "developer", audience), s.token("plumbline", "operator", audience)
	elsewhere := s.token("plumbline", "operator", "somebody-else")

	log := &synclog.Buffer{}
	shared := fmt.Sprintf("kubernetes: {kubeconfig: %q}\nweb: {authorization: kubernetes, audiences: [%s]}\nprobes: {enabled: false}\n", kubeconfig, audience)
	agent := daemon(t, exporter.RoleAgent, log, shared+"node: node-1\ncollector: {namespaces: [host]}\n")
	controller := daemon(t, exporter.RoleController, log, shared+fmt.Sprintf(
		"collector: {maxAge: 0s}\ncontroller: {tokenFile: %q, agents: [{node: node-1, url: %q}]}\n", filepath.Join(s.dir, "token"), agent))

	s.await("the controller has state", func(context.Context) error {
		if status, body := request(t, "GET", controller+"/-/ready", ""); status != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
	s.await("the API server has its own roles", func(ctx context.Context) error {
		_, err := s.resource("rbac.authorization.k8s.io/v1", "clusterroles", "").Get(ctx, "system:auth-delegator", metav1.GetOptions{})
		return err
	})
	s.await("the controller may ask who somebody is, and its agent, too", func(context.Context) error {
		request(t, "GET", controller+"/api/v1/diagnose?from=10.0.0.1&to=10.0.0.2&port=80", operator) // which collects
		status, body := request(t, "GET", controller+"/metrics", operator)
		if status != http.StatusOK || !strings.Contains(body, `plumbline_agent_up{node="node-1"} 1`) {
			return fmt.Errorf("%d %.300s", status, body)
		}
		return nil
	})
	const ask = "/api/v1/diagnose?port=80&from="
	for _, test := range []struct {
		what, base, method, path, token string
		status                          int
		says                            string
	}{
		{"nobody, whether it lives", controller, "GET", "/-/healthy", "", 200, "healthy"},
		{"nobody", controller, "GET", ask + "pod:shop/a&to=pod:shop/b", "", 401, "a token is needed"},
		{"a token that is none", controller, "GET", ask + "pod:shop/a&to=pod:shop/b", "nonsense", 401, "the token is not valid"},
		{"a token for somebody else", controller, "GET", "/metrics", elsewhere, 401, "the token is not valid"},
		{"a developer, in the own namespace", controller, "GET", ask + "pod:shop/a&to=svc:shop/b", developer, 200, "EndpointUnresolved"},
		{"a developer, to another namespace", controller, "GET", ask + "pod:shop/a&to=pod:bank/b", developer, 403, "may not create diagnoses.plumbline.net in namespace bank"},
		{"a developer, from another namespace", controller, "GET", ask + "pod:bank/a&to=pod:shop/b", developer, 403, "may not create diagnoses.plumbline.net in namespace bank"},
		{"a developer, to an address", controller, "GET", ask + "pod:shop/a&to=10.0.0.1", developer, 403, "may not create diagnoses.plumbline.net in all namespaces"},
		{"a developer, from a node", controller, "GET", ask + "node:node-1&to=pod:shop/b", developer, 403, "in all namespaces"},
		{"a developer, through an interface", controller, "GET", ask + "pod:shop/a&to=pod:shop/b&via=node-1/host,eth0", developer, 403, "in all namespaces"},
		{"a developer, for reports", controller, "GET", "/api/v1/reports", developer, 403, "may not list reports.plumbline.net in all namespaces"},
		{"a developer, for schedules", controller, "GET", "/api/v1/schedules", developer, 403, "may not list reports"},
		{"a developer, for the page", controller, "GET", "/", developer, 403, "may not list reports"},
		{"a developer, for the bundle", controller, "GET", "/api/v1/bundle", developer, 403, "may not get snapshots.plumbline.net in all namespaces"},
		{"a developer, for metrics", controller, "GET", "/metrics", developer, 403, "may not get /metrics"},
		{"a developer, to reload", controller, "POST", "/-/reload", developer, 403, "may not post /-/reload"},
		{"an operator, anything", controller, "GET", ask + "node:node-1&to=10.0.0.1", operator, 200, "verdict"},
		{"an operator, for metrics", controller, "GET", "/metrics", operator, 200, `plumbline_agent_up{node="node-1"} 1`},
		{"an operator, for the bundle", controller, "GET", "/api/v1/bundle", operator, 200, ""},
		{"an operator, to reload", controller, "POST", "/-/reload", operator, 200, "reloaded"},
		{"nobody, for a node's state", agent, "GET", snapshot.ManifestPath, "", 401, "a token is needed"},
		{"a developer, for a node's state", agent, "GET", snapshot.ManifestPath, developer, 403, "may not get snapshots"},
		{"a developer, for a blob", agent, "GET", snapshot.BlobPath + strings.Repeat("0", 64), developer, 403, "may not get snapshots"},
		{"an operator, for a node's state", agent, "GET", snapshot.ManifestPath, operator, 200, ""},
		{"nobody, for a real probe", agent, "POST", confirm.ProbePath, "", 401, "a token is needed"},
		{"a developer, for a real probe", agent, "POST", confirm.ProbePath, developer, 403, "may not create probes.plumbline.net in all namespaces"},
		{"the controller, for a real probe that is none", agent, "POST", confirm.ProbePath, token, 400, "probe: EOF"},
		{"nobody, to say who leads", agent, "POST", witness.Path, "", 401, "a token is needed"},
		{"an operator, to say who leads", agent, "POST", witness.Path, operator, 403, "may not update leaders.plumbline.net in all namespaces"},
		{"the controller, to say that nobody leads", agent, "POST", witness.Path, token, 400, "leader: EOF"},
	} {
		status, body := request(t, test.method, test.base+test.path, test.token)
		if status != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %.300s; want %d %q", test.what, status, body, test.status, test.says)
		}
	}
	for _, secret := range []string{own, token, developer, operator, elsewhere} {
		if strings.Contains(log.String(), secret) {
			t.Error("a token is in the log")
		}
	}

	// Without the API server nobody new gets in. What it said last holds, of the controller at its agent, too.
	s.down()
	down := time.Now()
	s.await("the API server has been away for longer than its answers are believed otherwise", func(context.Context) error {
		status, body := request(t, "GET", controller+ask+"ns:node-1/host&to=127.0.0.1", operator) // which collects
		if status == http.StatusOK {
			status, body = request(t, "GET", controller+"/metrics", operator)
		}
		if status != http.StatusOK || !strings.Contains(body, `plumbline_agent_up{node="node-1"} 1`) {
			t.Fatalf("%s after it went: %d %.300s", time.Since(down), status, body)
		}
		if status, body := request(t, "GET", controller+"/api/v1/reports", developer); status != http.StatusForbidden {
			t.Fatalf("who was refused before: %d %.300s", status, body)
		}
		if time.Since(down) < 15*time.Second {
			return errors.New("it has not")
		}
		return nil
	})
	if status, body := request(t, "GET", controller+"/metrics", "one that nobody has asked about yet"); status != http.StatusServiceUnavailable {
		t.Errorf("without the API server: %d %s", status, body)
	}
}
