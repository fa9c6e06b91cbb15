package exporter

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/snapshot"
)

// apiServer knows the token "of-ann", who may do everything that is in no namespace.
type apiServer struct{ tokens, rights atomic.Int64 }

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
		s.tokens.Add(1)
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		if name, ok := strings.CutPrefix(review.Spec.Token, "of-"); ok {
			review.Status.Authenticated, review.Status.User.Username = true, name
		}
		_ = json.NewEncoder(w).Encode(review)
		return
	}
	s.rights.Add(1)
	var review authorizationv1.SubjectAccessReview
	_ = json.NewDecoder(r.Body).Decode(&review)
	review.Status.Allowed = review.Spec.ResourceAttributes.Namespace == ""
	_ = json.NewEncoder(w).Encode(review)
}

// reviewed is a server that asks an API server.
func reviewed(t *testing.T, web schedules.Web) (*server, *apiServer) {
	t.Helper()
	api := &apiServer{}
	listener := httptest.NewServer(api)
	t.Cleanup(listener.Close)
	reviewer, err := kubernetes.NewReviewer(&rest.Config{Host: listener.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reviewer.Close)
	config := schedules.Default()
	config.Web = web
	return &server{
		config: func() *schedules.Config { return config }, listen: "example.com", reviewer: reviewer,
		log: slog.New(slog.DiscardHandler), metrics: newMetrics(),
	}, api
}

func show(t *testing.T, h http.Handler, target, token, address string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	r.RemoteAddr = address + ":1000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWhoShowsTokensOfNobodyIsLimited(t *testing.T) {
	s, api := reviewed(t, schedules.Web{})
	h := s.agentHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "state") }))
	if w := show(t, h, snapshot.ManifestPath, "of-ann", "192.0.2.1"); w.Code != http.StatusOK {
		t.Fatalf("ann: %d %s", w.Code, w.Body)
	}
	tries := 0
	for ; ; tries++ {
		if tries == 1000 {
			t.Fatal("a thousand tokens at once are asked about")
		}
		w := show(t, h, snapshot.ManifestPath, strings.Repeat("x", tries+1), "192.0.2.1")
		if w.Code == http.StatusUnauthorized {
			continue
		}
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"too-many-requests"`) {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		break
	}
	if n := api.tokens.Load(); tries < strangersPerSecond-1 || n != int64(tries)+1 {
		t.Errorf("%d questions for %d tokens of nobody", n, tries)
	}
	if w := show(t, h, snapshot.ManifestPath, "of-ann", "192.0.2.1"); w.Code != http.StatusOK {
		t.Errorf("ann, from the same address: %d %s", w.Code, w.Body)
	}
	if w := show(t, h, snapshot.ManifestPath, "of-bob", "192.0.2.2"); w.Code != http.StatusOK {
		t.Errorf("bob, from another address: %d %s", w.Code, w.Body)
	}
}

// Any namespace may be named in a query, and what may be done in it has to be asked about.
func TestWhoAsksTooOftenIsNotAskedAbout(t *testing.T) {
	s, api := reviewed(t, schedules.Web{DiagnosesPerSecond: 1, ConfirmsPerSecond: 1})
	h := s.handler()
	for i := range 1000 {
		name := strings.Repeat("a", i%200+1)
		w := show(t, h, "/api/v1/diagnose?port=80&from=pod:"+name+"/a&to=pod:"+name+"/b", "of-ann", "192.0.2.1")
		if w.Code == http.StatusForbidden {
			continue
		}
		if w.Code != http.StatusTooManyRequests {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if n := api.rights.Load(); n != int64(i) {
			t.Errorf("the API server was asked %d times what ann may do, of %d questions", n, i)
		}
		return
	}
	t.Error("a thousand questions at once are asked about")
}
