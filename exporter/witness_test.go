package exporter

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/witness"
)

// newAgent is the half of an agent that listens, with nothing behind it.
func newAgent(t *testing.T) *url.URL {
	t.Helper()
	s := &server{config: schedules.Default, log: slog.New(slog.DiscardHandler), listen: "127.0.0.1"}
	server := httptest.NewServer(s.agentHandler(http.NotFoundHandler()))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestWhatAnAgentIsToldOfLeadersIsChecked(t *testing.T) {
	agent := newAgent(t)
	const term = `{"lease":"a","number":3,"holder":"one"}`
	for _, test := range []struct {
		what, method, body, header string
		status                     int
		says                       string
	}{
		{"a question", "GET", "", "", 405, "/agent/v1/leader does not do GET, only"},
		{"nothing", "POST", "", "", 400, `{"error":{"code":"bad-term","message":"leader: EOF"}}`},
		{"no lease", "POST", `{"number":3,"holder":"one"}`, "", 400, "leader: lease: want a UID"},
		{"no holder", "POST", `{"lease":"a","number":3}`, "", 400, "leader: holder: want a name"},
		{"a number that is none", "POST", `{"lease":"a","number":-1,"holder":"one"}`, "", 400, "leader: number: want none below 0"},
		{"a name that is too long", "POST", `{"lease":"a","holder":"` + strings.Repeat("a", 1000) + `"}`, "", 400, "leader: holder"},
		{"an unknown field", "POST", `{"lease":"a","holder":"one","for":"ever"}`, "", 400, `unknown field \"for\"`},
		{"more than one", "POST", term + term, "", 400, "text after the JSON object"},
		{"a large body", "POST", `{"lease":"` + strings.Repeat("a", 65<<10) + `"}`, "", 413, "too-large"},
		{"the page of another site", "POST", term, "Sec-Fetch-Site: cross-site", 403, "cross-origin"},
		{"another name of the server", "POST", term, "Host: example.org", 403, "host-not-allowed"},
		{"a grant before anything", "POST", `{"lease":"a","number":3,"holder":"one","grant":true}`, "", 409, "who leads is not known here"},
		{"a term", "POST", term, "", 200, `{"outstanding":`},
		{"the term before", "POST", `{"lease":"a","number":2,"holder":"two"}`, "", 409, `"latest":{"lease":"a","number":3,"holder":"one"}`},
		{"a grant just after its start", "POST", `{"lease":"a","number":3,"holder":"one","grant":true}`, "", 409, "may still hold"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, agent.JoinPath(witness.Path).String(), strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(test.header, ": "); ok {
			req.Header.Set(name, value)
			req.Host = req.Header.Get("Host")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body json.RawMessage
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.status || !strings.Contains(string(body), test.says) {
			t.Errorf("%s: %d %s, want %d %s", test.what, resp.StatusCode, body, test.status, test.says)
		}
	}
}

func TestAControllerTellsAgentsWhoLeads(t *testing.T) {
	agent := newAgent(t)
	fleet, err := newFleet(schedules.Controller{Agents: []schedules.Agent{{Node: "node-1", URL: agent}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.close()
	fleet.objects = func() (cluster.Objects, error) { return cluster.Objects{}, nil }
	agents, err := fleet.agents()
	if err != nil || len(agents) != 1 || agents[0].String() != agent.String() {
		t.Fatalf("%v, %v", agents, err)
	}
	one, two := witness.Term{Lease: "a", Number: 3, Holder: "one"}, witness.Term{Lease: "a", Number: 2, Holder: "two"}
	if answer, err := fleet.tell(t.Context(), agents[0], one, false); err != nil || answer.Outstanding <= 0 || answer.Outstanding > witness.Grant {
		t.Errorf("one that is new: %+v, %v", answer, err)
	}
	_, err = fleet.tell(t.Context(), agents[0], two, true)
	if refusal := (*witness.Refusal)(nil); !errors.As(err, &refusal) || refusal.Latest != one {
		t.Errorf("one that is refused: %v", err)
	}
	if _, err := fleet.tell(t.Context(), agents[0].JoinPath("elsewhere"), one, false); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("who is no witness: %v", err)
	}

	// Pods that are not known may be agents.
	fleet.config.Discover.Namespace = "plumbline"
	fleet.objects = func() (cluster.Objects, error) {
		return cluster.Objects{Missing: map[string]string{"pods": "forbidden"}}, nil
	}
	if agents, err := fleet.agents(); err == nil {
		t.Errorf("while pods are not known, agents are %v", agents)
	}
}
