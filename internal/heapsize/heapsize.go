// Package heapsize tells benchmarks how much memory something holds.
package heapsize

import "runtime"

// Live is what is in use of the heap, in bytes, once what nobody holds has been collected.
func Live() int64 {
	var m runtime.MemStats
	runtime.GC() // pools and finalizers let go of what they hold before the second
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
