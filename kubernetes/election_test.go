package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/plumbline-net/plumbline/witness"
)

// leaseServer is as much of an API server as an election needs. It may be away, or refuse.
type leaseServer struct {
	mu     sync.Mutex
	lease  *coordinationv1.Lease
	writes int
	status int  // of all answers; 0 for what is right
	loses  bool // what it says is lost, and what is written is not
	// throttles says that every second question is refused.
	throttles bool
	asked     int
}

func (s *leaseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(status int, reason string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, reason, status)
	}
	if s.status != 0 && !s.loses {
		refuse(s.status, http.StatusText(s.status))
		return
	}
	if r.Method == http.MethodGet {
		if s.asked++; s.throttles && s.asked%2 == 0 {
			refuse(http.StatusTooManyRequests, "TooManyRequests")
			return
		}
	}
	var sent *coordinationv1.Lease
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			refuse(http.StatusBadRequest, "BadRequest")
			return
		}
	}
	switch {
	case r.Method == http.MethodPost && s.lease != nil:
		refuse(http.StatusConflict, "AlreadyExists")
		return
	case r.Method != http.MethodPost && s.lease == nil:
		refuse(http.StatusNotFound, "NotFound")
		return
	case r.Method == http.MethodPut && sent.ResourceVersion != s.lease.ResourceVersion:
		refuse(http.StatusConflict, "Conflict")
		return
	case r.Method != http.MethodGet:
		s.writes++
		if sent.ResourceVersion = fmt.Sprint(s.writes); s.lease == nil {
			sent.UID = types.UID(fmt.Sprintf("made-by-%d", s.writes))
		}
		s.lease = sent
	}
	if s.status != 0 {
		refuse(s.status, http.StatusText(s.status))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.lease)
}

func (s *leaseServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// holder is who has the lease, and how often it was written.
func (s *leaseServer) holder() (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return "", s.writes
	}
	return holderOf(s.lease), s.writes
}

// candidate is one of an election.
type candidate struct {
	*Election
	name         string
	withdraw     func()
	gained, lost int
	mu           sync.Mutex
}

func (c *candidate) counts() (gained, lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gained, c.lost
}

// begin has a candidate compete.
func begin(t *testing.T, server *httptest.Server, name string, lease time.Duration, agents ...*url.URL) *candidate {
	t.Helper()
	c := &candidate{name: name}
	count := func(n *int) func() {
		return func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			*n++
		}
	}
	var err error
	c.Election, err = NewElection(&rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}, ElectionOptions{
		Namespace: "plumbline", Name: "plumbline", Identity: name, Duration: lease, Log: slog.New(slog.DiscardHandler),
		Agents: func() ([]*url.URL, error) { return agents, nil },
		Tell: func(ctx context.Context, agent *url.URL, t witness.Term, grant bool) (witness.Answer, error) {
			return witness.Tell(ctx, http.DefaultClient, agent, t, grant)
		},
		Bound:  func() time.Duration { return time.Hour },
		Gained: count(&c.gained), Lost: count(&c.lost),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	c.withdraw = func() { cancel(); <-ended }
	t.Cleanup(c.withdraw)
	return c
}

// awaitLeader waits until a candidate leads.
func awaitLeader(t *testing.T, what string, c *candidate) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); !c.Leads(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not lead", what)
		}
	}
}

// A lease that was let go of is taken long before it would have run out.
func TestALeaseThatIsLetGoOf(t *testing.T) {
	t.Parallel()
	const lease = 20 * time.Second
	server := httptest.NewServer(&leaseServer{})
	defer server.Close()
	first := begin(t, server, "first", lease)
	awaitLeader(t, "the first one", first)
	second := begin(t, server, "second", lease)
	first.withdraw()
	ended := time.Now()
	awaitLeader(t, "the second one", second)
	if took := time.Since(ended); took > lease*2/3 {
		t.Errorf("with a lease of %s it took %s", lease, took)
	}
}

// An API server that refuses every second question, for it has much to do, is not away: nobody waits for a
// holder that is gone.
func TestAnAPIServerThatThrottlesIsNotAway(t *testing.T) {
	t.Parallel()
	gone := "gone"
	server := httptest.NewServer(&leaseServer{throttles: true, lease: &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "plumbline", Name: "plumbline", UID: "lease", ResourceVersion: "0"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &gone},
	}})
	defer server.Close()
	awaitLeader(t, "who competes with nobody", begin(t, server, "first", 2*time.Second))
}

func TestElection(t *testing.T) {
	const lease = 3 * time.Second
	store := &leaseServer{}
	server := httptest.NewServer(store)
	defer server.Close()
	agent := httptest.NewServer(witness.New())
	defer agent.Close()
	address, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(name string) *candidate {
		t.Helper()
		return begin(t, server, name, lease, address)
	}
	await := func(what string, candidates []*candidate, condition func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(2 * time.Minute); !condition(); <-tick.C {
			leading := 0
			for _, c := range candidates {
				if c.Leads() {
					leading++
				}
			}
			if holder, _ := store.holder(); time.Now().After(end) || leading > 1 {
				t.Fatalf("%s: %d lead; %q has the lease", what, leading, holder)
			}
		}
	}
	renewed := func(more int) func() bool {
		_, before := store.holder()
		return func() bool { _, writes := store.holder(); return writes >= before+more }
	}

	first := begin("first")
	await("the first one leads", nil, first.Leads)
	second := begin("second")
	both := []*candidate{first, second}
	await("the lease is renewed", both, renewed(3))

	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		store.set(func() { store.status = status })
		away := time.Now()
		await("the leader goes on", both, func() bool {
			if !first.Leads() {
				t.Fatalf("it stopped after %s, while the API server answers %d", time.Since(away), status)
			}
			return time.Since(away) > 2*lease
		})
		store.set(func() { store.status = 0 })
		await("the leader renews the lease first", both, renewed(5))
		if holder, _ := store.holder(); holder != first.name || !first.Leads() {
			t.Errorf("after %d the lease is of %q", status, holder)
		}
	}
	// For a moment answers are lost.
	store.set(func() { store.status, store.loses = http.StatusGatewayTimeout, true })
	lost := time.Now()
	await("answers are lost", both, func() bool { return time.Since(lost) > lease*4/5 })
	store.set(func() { store.status, store.loses = 0, false })
	await("the leader renews the lease", both, renewed(5))
	if gained, lost := first.counts(); gained != 1 || lost != 0 {
		t.Errorf("the leader began %d times, and stopped %d times", gained, lost)
	}

	// Who may not is not away.
	store.set(func() { store.status = http.StatusForbidden })
	await("the leader stops", both, func() bool { _, lost := first.counts(); return lost == 1 })
	if holder, _ := store.holder(); holder != first.name {
		t.Errorf("the lease was let go of: %q", holder)
	}
	store.set(func() { store.status = 0 })
	await("somebody leads again", both, func() bool { return first.Leads() || second.Leads() })
	leader, other := first, second
	if second.Leads() {
		leader, other = second, first
	}

	// The leader ends: it lets go of the lease.
	leader.withdraw()
	if holder, _ := store.holder(); holder != "" && holder != other.name {
		t.Errorf("the lease is still of %q", holder)
	}
	await("the other one leads", []*candidate{other}, other.Leads)

	// The lease is deleted: the other one makes it anew.
	store.set(func() { store.lease = nil })
	await("the lease is made anew", nil, func() bool { holder, _ := store.holder(); return holder == other.name })
	await("the other one leads", nil, other.Leads)
	store.set(func() {
		if !strings.HasPrefix(string(store.lease.UID), "made-by-") || store.lease.UID == "made-by-1" {
			t.Errorf("the lease is %s", store.lease.UID)
		}
	})
}
