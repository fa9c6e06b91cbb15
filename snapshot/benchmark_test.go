package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// BenchmarkNodes fetches the state of one node after another and compiles it with that of
// the nodes before, as a controller does when it starts. Nodes have the rules of kube-proxy, each in
// an order of its own. It says what the first node takes, and what one more does.
func BenchmarkNodes(b *testing.B) {
	for _, mode := range []string{"iptables", "nftables"} {
		for _, services := range []int{200, 2000} {
			b.Run(fmt.Sprintf("mode=%s/services=%d", mode, services), func(b *testing.B) {
				benchmarkNodes(b, mode, proxyrules.Spec{Services: services, Endpoints: 10, NodePortEvery: 20})
			})
		}
	}
}

func benchmarkNodes(b *testing.B, mode string, spec proxyrules.Spec) {
	store, transport := NewStore(), &http.Transport{}
	defer transport.CloseIdleConnections()
	client := NewClient(&http.Client{Transport: transport}, store, time.Minute)
	all := &simulator.Snapshot{}
	var world *simulator.World
	add := func() {
		spec.Order++
		name := fmt.Sprintf("node-%d", spec.Order)
		state := nodeState(b, client, name, mode, &spec)
		next := &simulator.Snapshot{Namespaces: append(all.Namespaces[:len(all.Namespaces):len(all.Namespaces)], state.Namespaces...)}
		compiled, err := simulator.Recompile(next, world)
		if err != nil {
			b.Fatal(err)
		}
		all, world = next, compiled
	}
	empty := heapsize.Live()
	add()
	first := heapsize.Live()
	stop := cputime.Measure(b)
	for b.Loop() {
		add()
	}
	stop()
	b.ReportMetric(float64(first-empty), "B/first-node")
	more := float64(len(all.Namespaces) - 1)
	b.ReportMetric(float64(heapsize.Live()-first)/more, "B/node")
	_, size := store.Len()
	b.ReportMetric(float64(size)/(more+1), "packed-B/node")
	runtime.KeepAlive(world)
}

// nodeState fetches the state of a node from its agent.
func nodeState(b *testing.B, client *Client, name, mode string, spec *proxyrules.Spec) *State {
	ns := &netstack.Namespace{Name: name, Kind: netstack.KindNode, Node: name}
	ok := netstack.Status{State: netstack.StateOK}
	if mode == "iptables" {
		ns.IPTables = []netstack.IPTablesDump{{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: netstack.Text{Data: spec.IPTables()}}}
		ns.SetPart(netstack.PartIPTables4, ok)
	} else {
		ns.NFT.Data = proxyrules.Numbered(spec.NFTablesJSON(), int(spec.Order))
		ns.SetPart(netstack.PartNFT, ok)
	}
	snap := &simulator.Snapshot{Namespaces: []*netstack.Namespace{ns}}
	agent := httptest.NewServer(NewServer(name, func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		return snap, time.Now(), nil
	}, slog.New(slog.DiscardHandler)))
	defer agent.Close()
	address, err := url.Parse(agent.URL)
	if err != nil {
		b.Fatal(err)
	}
	f, err := client.Fetch(b.Context(), address, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	return f.State
}
