package simulator_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Whatever changes between two snapshots, a world that was compiled with the help
// of the one before reports as one that was compiled without.
func TestRecompiledWorldsReportAsCompiledOnes(t *testing.T) {
	read := func() *simulator.Snapshot {
		s, err := bundle.Read("../examples/lab.tar.zst")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	node := func(t *testing.T, s *simulator.Snapshot) *netstack.Namespace { return namespace(t, s, "node-1") }
	for name, change := range map[string]func(*testing.T, *simulator.Snapshot){
		"nothing":   func(*testing.T, *simulator.Snapshot) {},
		"a sysctl":  func(t *testing.T, s *simulator.Snapshot) { node(t, s).Sysctls["net.ipv4.conf.all.forwarding"] = "0" },
		"the links": func(t *testing.T, s *simulator.Snapshot) { node(t, s).Links[1].Flags &^= netstack.FlagUp },
		"the routes": func(t *testing.T, s *simulator.Snapshot) {
			n := node(t, s)
			n.Routes = slices.DeleteFunc(n.Routes, func(r netstack.Route) bool { return r.Table == netstack.TableMain })
		},
		"the rules": func(t *testing.T, s *simulator.Snapshot) {
			n := node(t, s)
			n.IPTables = slices.Clone(n.IPTables)
			i := slices.IndexFunc(n.IPTables, func(d netstack.IPTablesDump) bool {
				return d.Family == netstack.IPv4 && d.Backend == netstack.BackendNFT
			})
			n.IPTables[i].Data = bytes.ReplaceAll(n.IPTables[i].Data, []byte(":FORWARD ACCEPT"), []byte(":FORWARD DROP"))
		},
		"the cluster's objects": func(_ *testing.T, s *simulator.Snapshot) { s.Cluster.Services = nil },
		"what is not known of the cluster": func(_ *testing.T, s *simulator.Snapshot) {
			s.Cluster.Missing = map[string]string{"pods": "forbidden"}
		},
		"a namespace that went": func(_ *testing.T, s *simulator.Snapshot) { without(s, "shop-api-0") },
	} {
		t.Run(name, func(t *testing.T) {
			before := compileWorld(t, read())
			s := read()
			// All but what changes is the same memory, as it is in a controller.
			for i, ns := range s.Namespaces {
				if ns.Node != "node-1" || ns.Kind != netstack.KindNode {
					s.Namespaces[i] = before.Snapshot().Namespaces[i]
				}
			}
			s.Cluster = before.Snapshot().Cluster
			change(t, s)
			again, err := simulator.Recompile(s, before)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range []verdict.Query{
				tcp(web, "svc:shop/api", 80), tcp(web, "pod:shop/db-0", 5432), tcp(web, "pod:shop/api-1", 8080), tcp("node:node-1", "svc:shop/db", 5432),
			} {
				if diff := cmp.Diff(text(t, compileWorld(t, s), q), text(t, again, q)); diff != "" {
					t.Errorf("%s to %s:\n%s", q.From, q.To, diff)
				}
			}
		})
	}
}

func text(t *testing.T, w *simulator.World, q verdict.Query) string {
	t.Helper()
	data, err := diagnose(t, w, q).AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// BenchmarkRecompile compiles 100 nodes, each with the rules of 100 Services: all
// of them, and with the help of a world in which one node was different.
func BenchmarkRecompile(b *testing.B) {
	const nodes, services = 100, 100
	s := routedClusterOf(nodes, "nftables", services)
	before := compileWorld(b, s)
	changed := func(change func(*netstack.Namespace)) *simulator.Snapshot {
		other := *s
		other.Namespaces = slices.Clone(s.Namespaces)
		n := *s.Namespaces[0]
		change(&n)
		other.Namespaces[0] = &n
		return &other
	}
	for _, test := range []struct {
		name   string
		world  *simulator.World
		change func(*netstack.Namespace)
	}{
		{"changed=everything", nil, func(*netstack.Namespace) {}},
		{"changed=sockets of one node", before, func(n *netstack.Namespace) { n.Sockets = slices.Clone(n.Sockets) }},
		{"changed=rules of one node", before, func(n *netstack.Namespace) {
			n.NFT.Data = (&proxyrules.Spec{Services: services + 1, Endpoints: 3}).NFTablesJSON()
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := changed(test.change)
			b.ReportAllocs()
			defer cputime.Measure(b)()
			for b.Loop() {
				if _, err := simulator.Recompile(s, test.world); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
