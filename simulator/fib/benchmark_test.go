package fib

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// BenchmarkLookup looks addresses up in one table of many routes, of all lengths
// from /8 to /32, and behind many rules that do not match.
func BenchmarkLookup(b *testing.B) {
	for _, routes := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) { benchmarkLookup(b, routes, 0) })
	}
	b.Run("rules=1000", func(b *testing.B) { benchmarkLookup(b, 10, 1000) })
}

func benchmarkLookup(b *testing.B, routes, rules int) {
	ns := &netstack.Namespace{Links: []netstack.Link{{Name: "eth0"}}}
	rule := func(r netstack.Rule) {
		r.Family, r.Action, r.SuppressPrefixLen, r.SuppressIfGroup = netstack.IPv4, netstack.RuleLookup, -1, -1
		ns.Rules = append(ns.Rules, r)
	}
	rule(netstack.Rule{Table: netstack.TableLocal})
	for i := range rules {
		rule(netstack.Rule{Priority: uint32(100 + i), Src: netip.PrefixFrom(spread32(uint32(i)), 24).Masked(), Table: 1000})
	}
	rule(netstack.Rule{Priority: 32766, Table: netstack.TableMain})
	rule(netstack.Rule{Priority: 32767, Table: netstack.TableDefault})
	for i := range routes {
		ns.Routes = append(ns.Routes, netstack.Route{
			Family: netstack.IPv4, Table: netstack.TableMain, Type: netstack.RouteUnicast,
			Dst:      netip.PrefixFrom(spread32(uint32(i)), 8+i%25).Masked(),
			NextHops: []netstack.NextHop{{Dev: "eth0", Weight: 1}},
		})
	}
	f := Compile(ns)
	keys := make([]Key, 256)
	for i := range keys {
		keys[i] = Key{Src: netip.MustParseAddr("192.0.2.1"), Dst: spread32(uint32(i*7919) % uint32(routes)), Protocol: netstack.ProtoTCP}
	}
	b.ReportAllocs()
	b.ResetTimer()
	defer cputime.Measure(b)()
	for i := range b.N {
		if res := f.Lookup(keys[i%len(keys)]); !res.Found() {
			b.Fatal("not found")
		}
	}
}

// spread32 is the i-th of addresses spread over the address space.
func spread32(i uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], i*2654435761|1<<24)
	return netip.AddrFrom4(a)
}
