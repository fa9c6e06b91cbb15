package nftjson_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
)

// processor reports the processor time of each round, which does not grow when
// others use the machine as that on the clock does.
func processor(b *testing.B, who int) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkRead reads the rule set of kube-proxy for so many Services from the
// kernel, and has the tool print it.
func BenchmarkRead(b *testing.B) {
	for _, services := range []int{1000, 10000} {
		spec := &proxyrules.Spec{Services: services, Endpoints: 3, NodePortEvery: 100}
		// Each has a namespace of its own: the goroutine of the test is in none.
		b.Run(fmt.Sprintf("netlink/services=%d", services), func(b *testing.B) {
			nftcheck.Namespace(b)
			if err := nftcheck.Load(string(spec.NFTables())); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			defer processor(b, syscall.RUSAGE_SELF)()
			for b.Loop() {
				data, err := nftcheck.Live(b)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(data)))
			}
		})
		b.Run(fmt.Sprintf("tool/services=%d", services), func(b *testing.B) {
			nftcheck.Namespace(b)
			if err := nftcheck.Load(string(spec.NFTables())); err != nil {
				b.Fatal(err)
			}
			defer processor(b, syscall.RUSAGE_CHILDREN)()
			for b.Loop() {
				nftcheck.Run(b, "", "nft", "-j", "list", "ruleset")
			}
		})
	}
}
