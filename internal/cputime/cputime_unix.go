//go:build unix

// Package cputime tells how much processor time something takes: unlike the time on the clock, it does not grow when others
// use the machine.
package cputime

import (
	"syscall"
	"testing"
	"time"
)

// Used is the processor time that RUSAGE_SELF or RUSAGE_CHILDREN has used; 0 if the system does not say.
func Used(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Measure begins to measure; what it returns reports the processor time of each round of a benchmark, as cpu-ns/op.
func Measure(b *testing.B) func() {
	start := Used(syscall.RUSAGE_SELF)
	return func() { b.ReportMetric(float64(Used(syscall.RUSAGE_SELF)-start)/float64(b.N), "cpu-ns/op") }
}
