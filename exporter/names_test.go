package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestNameServersAreAskedForWhatTheSnapshotLacks has shop/web-0 of the sample ask
// 10.244.1.20, which is played here, for a name outside.
func TestNameServersAreAskedForWhatTheSnapshotLacks(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {confirmsPerSecond: 1}\n")})
	server, any53 := netip.MustParseAddr("10.244.1.20"), netip.MustParseAddrPort("0.0.0.0:53")
	collect := d.network.collect
	d.network.collect = func(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, error) {
		s, err := collect(ctx, maxAge)
		if err != nil {
			return nil, err
		}
		for _, ns := range s.Namespaces {
			switch ns.Pod {
			case "shop/web-0":
				ns.ResolvConf = netstack.Text{File: "resolv.conf", Data: []byte("nameserver " + server.String() + "\n")}
				ns.SetPart(netstack.PartResolvConf, netstack.Status{State: netstack.StateOK})
			case "shop/api-0":
				ns.Sockets = append(ns.Sockets, netstack.Socket{Protocol: netstack.ProtoUDP, State: netstack.SocketUnconnected, Local: any53, Remote: netip.AddrPortFrom(any53.Addr(), 0)})
			}
		}
		s.Cluster.Services = append(s.Cluster.Services, alias("api.example"))
		return s, nil
	}
	var asked []string
	d.network.names = &confirm.Names{Ask: func(_ context.Context, q resolver.Question) (confirm.Heard, error) {
		asked = append(asked, q.Name+" at "+q.Server.String())
		return confirm.Heard{Answer: resolver.Answer{Question: q, Status: resolver.OK, Addresses: []netip.Addr{server}}, TTL: time.Minute}, nil
	}}
	reportOf := func(method, target, body string) *verdict.Report {
		t.Helper()
		r := new(verdict.Report)
		if w := ask(t, d, method, target, body); json.Unmarshal(w.Body.Bytes(), r) != nil || r.Verdict == "" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return r
	}
	get := func() *verdict.Report {
		t.Helper()
		return reportOf("GET", "/api/v1/diagnose?from=pod:shop/web-0&to=dns:api.example&port=8080", "")
	}
	post := func() *verdict.Report {
		t.Helper()
		return reportOf("POST", "/api/v1/diagnose", `{"from":"pod:shop/web-0","to":"dns:api.example","port":8080,"protocol":"tcp"}`)
	}
	if r := get(); r.Verdict != verdict.Unknown || r.Reason() != verdict.EndpointUnresolved || len(asked) > 0 {
		t.Errorf("by GET, which sends nothing: %s %v; asked %v", r.Verdict, r.Reasons, asked)
	}
	for range 3 { // later it is known, and counts no longer as what sends packets
		if r := post(); r.Resolution == nil || !slices.Equal(r.Resolution.Addresses, []string{server.String()}) || len(r.Paths) == 0 || r.Paths[0].Destination.IP != server.String() {
			t.Errorf("by POST: %s %v %+v", r.Verdict, r.Reasons, r.Resolution)
		}
	}
	if want := []string{"api.example at " + server.String()}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	live := get()
	if live.Verdict != post().Verdict {
		t.Errorf("by GET, with what is known: %s %v", live.Verdict, live.Reasons)
	}

	if r := reportOf("GET", "/api/v1/diagnose?from=pod:shop/web-0&to=svc:shop/alias&port=8080", ""); r.Resolution == nil || !slices.Equal(r.Resolution.Addresses, []string{server.String()}) || r.Verdict != live.Verdict {
		t.Errorf("by a service that stands for the name: %s %v %+v", r.Verdict, r.Reasons, r.Resolution)
	}

	file := filepath.Join(t.TempDir(), "bundle.tar.zst")
	if err := os.WriteFile(file, ask(t, d, "GET", "/api/v1/bundle", "").Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := bundle.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	w, err := simulator.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Diagnose(live.Query)
	if err != nil {
		t.Fatal(err)
	}
	again.Snapshot = live.Snapshot
	var texts [2]bytes.Buffer
	if err := live.WriteText(&texts[0]); err != nil {
		t.Fatal(err)
	}
	if err := again.WriteText(&texts[1]); err != nil {
		t.Fatal(err)
	}
	if texts[0].String() != texts[1].String() || !strings.Contains(texts[0].String(), "api.example") {
		t.Errorf("the bundle is diagnosed as\n%s\nwhat was live as\n%s", &texts[1], &texts[0])
	}
}

// alias is a service of shop that stands for a name.
func alias(name string) corev1.Service {
	return corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "alias"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: name}}
}

// Whoever may write a Service could have it stand for any name.
func TestAServiceThatStandsForANameTakesTheRightForAllNamespaces(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				ResourceAttributes struct{ Namespace string }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		status := `{"authenticated": true, "user": {"username": "jane"}}`
		if strings.HasSuffix(r.URL.Path, "/subjectaccessreviews") {
			status = fmt.Sprintf(`{"allowed": %v}`, review.Spec.ResourceAttributes.Namespace == "shop")
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status": %s}`, status)
	}))
	t.Cleanup(api.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: "c", Contexts: map[string]*clientcmdapi.Context{"c": {Cluster: "c"}}, Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: api.URL}},
	}, kubeconfig); err != nil {
		t.Fatal(err)
	}
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {authorization: kubernetes}\nkubernetes: {kubeconfig: "+kubeconfig+"}\n")})
	collect := d.network.collect
	d.network.collect = func(ctx context.Context, maxAge time.Duration) (*simulator.Snapshot, error) {
		s, err := collect(ctx, maxAge)
		if err == nil {
			s.Cluster.Services = append(s.Cluster.Services, alias("db.elsewhere.svc.cluster.local"))
		}
		return s, err
	}
	for to, want := range map[string]int{"svc:shop/api": http.StatusOK, "svc:shop/alias": http.StatusForbidden, "dns:db": http.StatusForbidden} {
		w := ask(t, d, "GET", "/api/v1/diagnose?from=pod:shop/web-0&to="+to+"&port=80", "", "Authorization: Bearer token")
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", to, w.Code, w.Body, want)
		}
	}
}
