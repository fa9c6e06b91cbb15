package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/largecluster"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// BenchmarkNodes fetches the state of one node after another and compiles it with that of
// the nodes before, as a controller does when it starts. Nodes have the rules of kube-proxy, each in
// an order of its own. It says what the first two nodes take, who have nothing to share yet, and what one more does.
func BenchmarkNodes(b *testing.B) {
	for _, mode := range []string{"iptables", "nftables"} {
		for _, services := range []int{200, 2000} {
			b.Run(fmt.Sprintf("mode=%s/services=%d", mode, services), func(b *testing.B) {
				benchmarkNodes(b, ruleNodes(mode, proxyrules.Spec{Services: services, Endpoints: 10, NodePortEvery: 20}))
			})
		}
	}
}

// BenchmarkLargeCluster is BenchmarkNodes with nodes of a cluster of 1,000: with routes to all others, and
// 20 pods; with the rules for 2,000 Services, and without.
func BenchmarkLargeCluster(b *testing.B) {
	for _, mode := range []string{"none", "iptables", "nftables"} {
		b.Run("mode="+mode, func(b *testing.B) {
			c := largecluster.Cluster{Nodes: 1000, Mode: mode}
			if mode != "none" {
				c.Proxies = c.Nodes
			}
			benchmarkNodes(b, c.Node)
		})
	}
}

func benchmarkNodes(b *testing.B, node func(n int) []*netstack.Namespace) {
	f := newFetcher()
	defer f.close()
	empty := heapsize.Live()
	f.add(b, node)
	f.add(b, node)
	first := heapsize.Live()
	stop := cputime.Measure(b)
	for b.Loop() {
		f.add(b, node)
	}
	stop()
	b.ReportMetric(float64(first-empty), "B/first-nodes")
	more := float64(f.nodes - 2)
	b.ReportMetric(float64(heapsize.Live()-first)/more, "B/node")
	_, size := f.client.store.Len()
	b.ReportMetric(float64(size)/(more+2), "packed-B/node")
	runtime.KeepAlive(f)
}

// rulesOf are the rules of kube-proxy on a node.
func rulesOf(mode string, spec proxyrules.Spec, node int) []byte {
	spec.Order = uint64(node)
	if mode == "iptables" {
		return spec.IPTables()
	}
	return proxyrules.Numbered(spec.NFTablesJSON(), node)
}

// ruleNodes are nodes that have nothing but the rules of kube-proxy.
func ruleNodes(mode string, spec proxyrules.Spec) func(n int) []*netstack.Namespace {
	return func(n int) []*netstack.Namespace {
		name := fmt.Sprintf("node-%d", n)
		ns := &netstack.Namespace{Name: name, Kind: netstack.KindNode, Node: name}
		ok, text := netstack.Status{State: netstack.StateOK}, netstack.Text{Data: rulesOf(mode, spec, n+1)}
		if mode == "iptables" {
			ns.IPTables = []netstack.IPTablesDump{{Family: netstack.IPv4, Backend: netstack.BackendNFT, Text: text}}
			ns.SetPart(netstack.PartIPTables4, ok)
		} else {
			ns.NFT = text
			ns.SetPart(netstack.PartNFT, ok)
		}
		return []*netstack.Namespace{ns}
	}
}

// fetcher keeps the state of nodes as a controller does.
type fetcher struct {
	client *Client
	close  func()
	nodes  int
	all    *simulator.Snapshot
	world  *simulator.World
}

func newFetcher() *fetcher {
	transport := &http.Transport{}
	return &fetcher{
		client: NewClient(&http.Client{Transport: transport}, NewStore(), time.Minute), close: transport.CloseIdleConnections,
		all: &simulator.Snapshot{},
	}
}

// add fetches the state of one more node from its agent, and compiles all.
func (f *fetcher) add(tb testing.TB, node func(n int) []*netstack.Namespace) {
	tb.Helper()
	snap := &simulator.Snapshot{Namespaces: node(f.nodes)}
	f.nodes++
	agent := httptest.NewServer(NewServer(snap.Namespaces[0].Name, func(context.Context, time.Duration) (*simulator.Snapshot, time.Time, error) {
		return snap, time.Now(), nil
	}, slog.New(slog.DiscardHandler)))
	defer agent.Close()
	address, err := url.Parse(agent.URL)
	if err != nil {
		tb.Fatal(err)
	}
	fetched, err := f.client.Fetch(tb.Context(), address, 0, nil)
	if err != nil {
		tb.Fatal(err)
	}
	f.all = &simulator.Snapshot{Namespaces: slices.Concat(f.all.Namespaces, fetched.State.Namespaces)}
	if f.world, err = simulator.Recompile(f.all, f.world); err != nil {
		tb.Fatal(err)
	}
}

// TestOneMoreNodeTakesLittle holds what docs/performance.md says of the rules of kube-proxy: what nodes have in common
// is kept once.
func TestOneMoreNodeTakesLittle(t *testing.T) {
	const nodes = 10
	for mode, most := range map[string]int64{"iptables": 180_000, "nftables": 90_000} {
		f := newFetcher()
		node := ruleNodes(mode, proxyrules.Spec{Services: 500, Endpoints: 5, NodePortEvery: 20})
		f.add(t, node)
		f.add(t, node)
		before := heapsize.Live()
		for range nodes {
			f.add(t, node)
		}
		if each := (heapsize.Live() - before) / nodes; each > most {
			t.Errorf("%s: one more node takes %d bytes, want %d at most", mode, each, most)
		}
		runtime.KeepAlive(f)
		f.close()
	}
}
