package netfilter

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// sizes are the numbers of Services, of three endpoints each, that the rules
// are measured with.
var sizes = []int{100, 1000, 10000}

func services(n int) *proxyrules.Spec {
	return &proxyrules.Spec{Services: n, Endpoints: 3, NodePortEvery: 100}
}

// proxied is a namespace with the rules of kube-proxy in one of its modes.
func proxied(mode string, n int) *netstack.Namespace {
	if mode == "iptables" {
		return dump(netstack.IPv4, netstack.BackendNFT, string(services(n).IPTables()))
	}
	return &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: services(n).NFTablesJSON()}}
}

func eachSize(b *testing.B, run func(b *testing.B, mode string, n int)) {
	for _, mode := range []string{"iptables", "nftables"} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("mode=%s/services=%d", mode, n), func(b *testing.B) { run(b, mode, n) })
		}
	}
}

// BenchmarkCompile parses and compiles.
func BenchmarkCompile(b *testing.B) {
	eachSize(b, func(b *testing.B, mode string, n int) {
		ns := proxied(mode, n)
		size := len(ns.NFT.Data)
		if mode == "iptables" {
			size = len(ns.IPTables[0].Data)
		}
		b.SetBytes(int64(size))
		b.ReportAllocs()
		defer cputime.Measure(b)()
		for b.Loop() {
			mustCompile(b, ns)
		}
	})
}

// toLastService passes a packet for the last Service through all that a node
// does to it on the way to one of its backends.
func toLastService(tb testing.TB, rs *Ruleset, env Env, p *netstack.Packet, st *State) {
	*st = State{Packet: p, In: "veth0", Conntrack: st.Conntrack}
	for _, hook := range []Hook{Prerouting, Forward, Postrouting} {
		if hook != Prerouting {
			st.Out = "eth0"
		}
		if res := rs.Run(netstack.IPv4, hook, st, env); res.Action != Accept {
			tb.Fatalf("not accepted at %s: %+v", hook, res)
		}
	}
}

// BenchmarkPacket passes a packet to the last Service without a trace.
func BenchmarkPacket(b *testing.B) {
	eachSize(b, func(b *testing.B, mode string, n int) {
		rs := mustCompile(b, proxied(mode, n))
		env := &fakeEnv{addrs: map[string]string{"eth0": "192.168.0.1"}}
		dst, src := services(n).ClusterIP(n-1), proxyrules.PodCIDR.Addr().Next()
		var st State
		b.ReportAllocs()
		defer cputime.Measure(b)()
		for b.Loop() {
			p := netstack.Packet{
				Src: src, Dst: dst, Protocol: netstack.ProtoTCP, SrcPort: 40000, DstPort: proxyrules.ServicePort,
				TCPFlags: netstack.SYN, Length: 60, TTL: 64, MSS: 1460,
			}
			st.Conntrack = NewConntrack()
			toLastService(b, rs, env, &p, &st)
			if p.DstPort != proxyrules.EndpointPort || p.Dst != services(n).Endpoint(n-1, 0) {
				b.Fatalf("not translated: %v", &p)
			}
		}
	})
}

// BenchmarkNodes compiles the rules of kube-proxy on one node after another, where each
// has the Services in another order, as kube-proxy writes them. It says what one
// more node takes, without the text that its rules were read from.
func BenchmarkNodes(b *testing.B) {
	for _, mode := range []string{"iptables", "nftables"} {
		for _, n := range []int{200, 2000} {
			b.Run(fmt.Sprintf("mode=%s/services=%d", mode, n), func(b *testing.B) { benchmarkNodes(b, mode, n) })
		}
	}
}

func benchmarkNodes(b *testing.B, mode string, n int) {
	spec := proxyrules.Spec{Services: n, Endpoints: 10, NodePortEvery: 20}
	pool, nodes := NewPool(), make([]*Ruleset, 0, b.N+1)
	var used time.Duration
	node := func() {
		spec.Order++
		ns := dump(netstack.IPv4, netstack.BackendNFT, "")
		if mode == "iptables" {
			ns.IPTables[0].Data = spec.IPTables()
		} else {
			ns.NFT.Data = proxyrules.Numbered(spec.NFTablesJSON(), int(spec.Order))
		}
		start := cputime.Used(syscall.RUSAGE_SELF)
		rs, err := Recompile(ns, nil, pool)
		used += cputime.Used(syscall.RUSAGE_SELF) - start
		if err != nil {
			b.Fatal(err)
		}
		rs.ns = nil
		nodes = append(nodes, rs)
	}
	empty := heapsize.Live()
	node()
	b.ReportMetric(float64(used), "cpu-ns/first-node")
	first := heapsize.Live()
	used = 0
	for b.Loop() {
		node()
	}
	b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/node")
	b.ReportMetric(float64(first-empty), "B/first-node")
	b.ReportMetric(float64(heapsize.Live()-first)/float64(len(nodes)-1), "B/node")
	runtime.KeepAlive(nodes)
	runtime.KeepAlive(pool)
}
