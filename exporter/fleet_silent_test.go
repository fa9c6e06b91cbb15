package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/snapshot"
)

// nodes are agents by host, without a network between: what they answer takes no time, unless they
// are silent from a path on.
type nodes struct {
	mu     sync.Mutex
	agents map[string]http.Handler
	silent map[string]string
	// held are requests that are not answered.
	held int
}

func (n *nodes) silence(from string, hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range hosts {
		if n.silent[host] = from; from == "" {
			delete(n.silent, host)
		}
	}
}

func (n *nodes) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	agent, from := n.agents[r.URL.Host], n.silent[r.URL.Host]
	silent := from != "" && strings.HasPrefix(r.URL.Path, from)
	if silent {
		n.held++
	}
	n.mu.Unlock()
	if silent {
		<-r.Context().Done()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.held--
		return nil, context.Cause(r.Context())
	}
	w := httptest.NewRecorder()
	agent.ServeHTTP(w, r)
	return w.Result(), nil
}

// silentFleet is a fleet of so many agents, in simulated time, and the names of their nodes.
func silentFleet(t *testing.T, count int, timeout time.Duration) (*fleet, *nodes, []string) {
	t.Helper()
	n := &nodes{agents: make(map[string]http.Handler), silent: make(map[string]string)}
	config := schedules.Controller{Timeout: timeout}
	var names []string
	for i := range count {
		name := fmt.Sprintf("node-%d", i+1)
		names = append(names, name)
		changes := 0
		n.agents[name] = snapshot.NewServer(name, func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
			changes++
			host := &netstack.Namespace{Name: "host", Kind: netstack.KindNode, Links: []netstack.Link{{Index: changes, Name: name}}}
			host.SetPart(netstack.PartLinks, netstack.Status{State: netstack.StateOK})
			return &simulator.Snapshot{Namespaces: []*netstack.Namespace{host}}, time.Now(), nil
		}, slog.New(slog.DiscardHandler))
		config.Agents = append(config.Agents, schedules.Agent{Node: name, URL: &url.URL{Scheme: "http", Host: name}})
	}
	fleet, err := newFleet(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	fleet.http = &http.Client{Transport: n}
	if err := fleet.configure(config); err != nil {
		t.Fatal(err)
	}
	fleet.objects = func() (cluster.Objects, error) { return cluster.Objects{}, nil }
	return fleet, n, names
}

// collected collects, and returns which nodes' state is known, and how long that took.
func collected(t *testing.T, f *fleet, maxAge time.Duration) (known map[string]bool, took time.Duration, snap *simulator.Snapshot) {
	t.Helper()
	began := time.Now()
	snap, err := f.collect(t.Context(), maxAge)
	if err != nil {
		t.Fatal(err)
	}
	known = make(map[string]bool)
	for _, ns := range snap.Namespaces {
		known[ns.Node] = ns.Known(netstack.PartLinks)
	}
	return known, time.Since(began), snap
}

// up is what plumbline_agent_up says.
func up(f *fleet) map[string]bool {
	metrics := make(chan prometheus.Metric, 4096)
	f.Collect(metrics)
	close(metrics)
	all := make(map[string]bool)
	for m := range metrics {
		if m.Desc() != f.up {
			continue
		}
		var value dto.Metric
		if err := m.Write(&value); err == nil {
			all[value.Label[0].GetValue()] = value.Gauge.GetValue() == 1
		}
	}
	return all
}

// Nodes are switched off: all connections to them hang. That is waited for once.
func TestSilentAgentsKeepNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 30 * time.Second
		f, nodes, names := silentFleet(t, 201, timeout)
		defer f.close()
		healthy, others := names[0], names[1:]
		nodes.silence("/", others...)
		for again, want := range []time.Duration{timeout, doubtPatience, doubtPatience, doubtPatience} {
			known, took, snap := collected(t, f, 0)
			if took != want {
				t.Errorf("collection %d took %s, want %s", again+1, took, want)
			}
			if !maps.Equal(known, map[string]bool{healthy: true}) || len(snap.Failures) != len(others) {
				t.Errorf("collection %d: known is %v, and %d have failed", again+1, known, len(snap.Failures))
			}
			if said := snap.Failures["agent of node node-2"]; !strings.Contains(said, "it takes longer than 30s") {
				t.Errorf("collection %d says of node-2: %q", again+1, said)
			}
			upNow := up(f)
			if len(upNow) != len(names) {
				t.Errorf("%d nodes have a metric", len(upNow))
			}
			for name, up := range upNow {
				if up != (name == healthy) {
					t.Errorf("collection %d: %s is up: %t", again+1, name, up)
				}
			}
		}

		// They come back, and are asked as all others.
		nodes.silence("", others...)
		time.Sleep(timeout) // what hangs is over
		for again := range 2 {
			if known, took, snap := collected(t, f, 0); took != 0 || len(known) != len(names) || len(snap.Failures) > 0 {
				t.Errorf("collection %d, when all are back: %s, %d known, failed have %v", again+1, took, len(known), snap.Failures)
			}
		}

		// And are lost again: what there was is known to be there, and no more.
		nodes.silence("/", others...)
		collected(t, f, 0)
		known, took, _ := collected(t, f, 0)
		if took != doubtPatience || len(known) != len(names) {
			t.Errorf("without them again: %s, of %d is known who is there", took, len(known))
		}
		for name, is := range known {
			if is != (name == healthy) {
				t.Errorf("without them again, the state of %s is known: %t", name, is)
			}
		}
	})
}

// Agents that hand over a manifest and then nothing hold turns that others wait for, but once.
func TestAgentsThatStopInTheMiddleTakeNoTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		f, nodes, names := silentFleet(t, 201, timeout)
		defer f.close()
		healthy, others := names[0], names[1:]
		nodes.silence(snapshot.BlobPath, others...)
		for range 2 {
			if _, took, _ := collected(t, f, 0); took > transferTimeout {
				t.Errorf("a collection took %s", took)
			}
		}
		if !up(f)[healthy] {
			t.Error("who answers is not up")
		}
		for range 3 {
			began := time.Now()
			if known, took, snap := collected(t, f, 0); !known[healthy] || took > doubtPatience || snap.Nodes[healthy].Before(began) {
				t.Errorf("%s, known is %v, that of who answers as of %s", took, known, snap.Nodes[healthy])
			}
		}
	})
}

// What has not come in time is left out, and comes with the next collection.
func TestACollectionPublishesWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, nodes, names := silentFleet(t, 3, time.Hour)
		defer f.close()
		nodes.silence("/", names[1])
		known, took, snap := collected(t, f, 0)
		if took != transferTimeout || !maps.Equal(known, map[string]bool{"node-1": true, "node-3": true}) || snap.Failures["agent of node node-2"] != "it has not answered yet" {
			t.Errorf("%s, known is %v, failed have %v", took, known, snap.Failures)
		}
		if got := up(f); !maps.Equal(got, map[string]bool{"node-1": true, "node-3": true}) {
			t.Errorf("one that may answer still: up are %v", got)
		}
		if _, took, _ := collected(t, f, 0); took != doubtPatience {
			t.Errorf("it is waited for again, %s", took)
		}
		// Its pod is replaced: whom nobody asked yet is not silent.
		f.config.Agents[1].URL = &url.URL{Scheme: "http", Host: "replaced"}
		nodes.agents["replaced"] = nodes.agents["node-2"]
		if known, took, _ := collected(t, f, 0); took != 0 || !known["node-2"] {
			t.Errorf("the agent that replaces it: %s, known is %v", took, known)
		}
		synctest.Wait()
		if nodes.held > 0 {
			t.Error("the one before is asked still")
		}

		// A node is gone while its agent is asked.
		nodes.silence("/", "replaced")
		collected(t, f, 0)
		f.config.Agents = f.config.Agents[:1]
		if known, took, snap := collected(t, f, 0); took != 0 || len(known) != 1 || len(snap.Failures) > 0 {
			t.Errorf("without the node: %s, known is %v, failed have %v", took, known, snap.Failures)
		}
		synctest.Wait()
		alone, _, _ := silentFleet(t, 1, time.Hour)
		defer alone.close()
		collected(t, alone, 0)
		want, _ := alone.store.Len()
		if blobs, _ := f.store.Len(); nodes.held > 0 || len(f.nodes) != 1 || blobs != want {
			t.Errorf("of nodes that are gone %d requests are under way; %d nodes, %d blobs", nodes.held, len(f.nodes), blobs)
		}
	})
}

// What comes between two collections is there to remember when the agent is silent in the next one.
func TestAnAgentAnswersBetweenCollections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, nodes, names := silentFleet(t, 1, 30*time.Second)
		defer f.close()
		nodes.silence("/", names...)
		collected(t, f, 0)
		agent := nodes.agents[names[0]]
		nodes.agents[names[0]] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * doubtPatience)
			agent.ServeHTTP(w, r)
		})
		nodes.silence("", names...)
		if known, took, snap := collected(t, f, 0); took != doubtPatience || len(known) > 0 || len(snap.Failures) == 0 {
			t.Errorf("before it answers: %s, known is %v, failed have %v", took, known, snap.Failures)
		}
		time.Sleep(10 * doubtPatience)
		nodes.silence("/", names...)
		if known, _, snap := collected(t, f, 0); !maps.Equal(known, map[string]bool{names[0]: false}) || len(snap.Failures) == 0 {
			t.Errorf("silent again: known is %v, failed have %v", known, snap.Failures)
		}
	})
}

// Who is known not to answer is sent no orders, and who stops in the middle of one is waited for briefly.
func TestProbesDoNotWaitForSilentAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, nodes, names := silentFleet(t, 1, 30*time.Second)
		defer f.close()
		const takes = 2 * time.Second
		from := simulator.Start{Namespace: qualified(names[0], "host")}
		send := func(says string, want time.Duration) {
			t.Helper()
			began := time.Now()
			_, err := f.send(t.Context(), from, confirm.Probe{Timeout: takes})
			if took := time.Since(began); took != want || err == nil || !strings.HasPrefix(err.Error(), "agent of node node-1: ") || !strings.Contains(err.Error(), says) {
				t.Errorf("after %s: %v; want %q after %s", took, err, says, want)
			}
		}
		collected(t, f, 0)
		nodes.silence("/", names...)
		send("context deadline exceeded", orderTimeout+takes)
		collected(t, f, 0)
		send("it did not hand over its state just now: ", 0)
		if _, err := f.ask(t.Context(), resolver.Question{Namespace: from.Namespace}); err == nil || !strings.Contains(err.Error(), "it takes longer than 30s") {
			t.Errorf("a question of a name: %v", err)
		}
		nodes.silence("", names...)
		time.Sleep(time.Minute)
		collected(t, f, 0)
		send("404", 0) // it is asked, and knows states only
	})
}

// A collection that is ended by the end of the process is an error, and nothing goes on.
func TestShutdownEndsWhatSilentAgentsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, nodes, names := silentFleet(t, 3, time.Minute)
		nodes.silence("/", names...)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := f.collect(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		f.close()
		if nodes.held > 0 {
			t.Error("agents are asked still")
		}
	})
}

// What an agent could not see of its node, its controller says, too.
func TestWhatAnAgentCouldNotSeeIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, nodes, _ := silentFleet(t, 2, 30*time.Second)
		defer f.close()
		nodes.agents["node-2"] = snapshot.NewServer("node-2", func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
			return &simulator.Snapshot{Failures: map[string]string{"processes of the host": "3 may not be looked at"}}, time.Now(), nil
		}, slog.New(slog.DiscardHandler))
		want := map[string]string{"node node-2: processes of the host": "3 may not be looked at"}
		if _, _, snap := collected(t, f, 0); !maps.Equal(snap.Failures, want) {
			t.Errorf("failed have %v, want %v", snap.Failures, want)
		}
	})
}
