package fib

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/plumbline-net/plumbline/internal/heapsize"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// TestTablesFindWhatIsThere compares tables with a search through all routes.
func TestTablesFindWhatIsThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var routes []netstack.Route
		tab := &table{}
		lengths := []int{0, 8, 24, 24, 31, 32}
		if round%2 == 1 {
			lengths = []int{0, 7, 64, 64, 65, 128}
		}
		address := func() netip.Addr {
			a := netip.AddrFrom4([4]byte{10 + byte(rnd.IntN(2)), 0, byte(rnd.IntN(20)), byte(rnd.IntN(4))})
			if round%2 == 1 {
				b := a.As4()
				a = netip.AddrFrom16([16]byte{0xfc, b[0], 2: b[2], 7: b[0], 15: b[3]})
			}
			return a
		}
		for i := range rnd.IntN(100) {
			dst := netip.PrefixFrom(address(), lengths[rnd.IntN(len(lengths))]).Masked()
			routes = append(routes, netstack.Route{Family: netstack.FamilyOf(dst.Addr()), Dst: dst, Metric: uint32(rnd.IntN(3)), NextHopID: uint32(i)})
		}
		for i := range routes {
			tab.add(&routes[i])
		}
		tab.index()
		for range 100 {
			at := address()
			var got []*netstack.Route
			for i := range tab.levels {
				l := &tab.levels[i]
				got = append(got, l.find(keyOf(at).and(l.mask))...)
			}
			var want []*netstack.Route
			for i := range routes {
				if routes[i].Dst.Contains(at) {
					want = append(want, &routes[i])
				}
			}
			slices.SortStableFunc(want, func(a, b *netstack.Route) int {
				if a.Dst.Bits() != b.Dst.Bits() {
					return b.Dst.Bits() - a.Dst.Bits()
				}
				return compareRoutes(a, b)
			})
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, %s: %d routes, want %d", round, at, len(got), len(want))
			}
		}
	}
}

// TestARouteTakesLittle holds what a node with a route to each of many others takes beside the
// routes themselves.
func TestARouteTakesLittle(t *testing.T) {
	const routes = 4000
	ns := &netstack.Namespace{}
	for _, table := range []uint32{netstack.TableLocal, netstack.TableMain, netstack.TableDefault} {
		ns.Rules = append(ns.Rules, netstack.Rule{Family: netstack.IPv4, Action: netstack.RuleLookup, Table: table, SuppressPrefixLen: -1, SuppressIfGroup: -1})
	}
	for i := range routes {
		ns.Routes = append(ns.Routes, netstack.Route{
			Family: netstack.IPv4, Table: netstack.TableMain, Type: netstack.RouteUnicast,
			Dst:      netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 250), byte(i % 250), 0}), 24),
			NextHops: []netstack.NextHop{{Dev: "eth0", Gateway: netip.AddrFrom4([4]byte{172, 16, byte(i / 250), byte(i % 250)}), Weight: 1}},
		})
	}
	before := heapsize.Live()
	f := Compile(ns)
	if each := (heapsize.Live() - before) / routes; each > 48 {
		t.Errorf("a route takes %d bytes, want 48 at most", each)
	}
	if res := f.Lookup(Key{Dst: netip.MustParseAddr("10.15.249.1")}); !res.Found() {
		t.Error("nothing found")
	}
}
