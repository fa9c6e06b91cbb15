//go:build unix

package simulator_test

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is the processor time that this process has used: unlike the time on
// the clock, it does not grow when others use the machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measureCPU reports the processor time of each round of a benchmark.
func measureCPU(b *testing.B) func() {
	start := cpuTime()
	return func() { b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op") }
}
