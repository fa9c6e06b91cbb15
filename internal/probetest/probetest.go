// Package probetest compares, in tests, what eBPF programs count with what happened.
package probetest

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"testing"
)

// ErrFewer is wrapped by the error of a measurement in which the programs counted fewer events than there were, and
// nothing else is wrong.
var ErrFewer = errors.New("fewer events were counted than there were")

// attempts is more than enough: about one event in five hundred is withheld, on a busy machine.
const attempts = 10

// Measure fails the test if measure fails.
//
// Kernels that shield the machine's own process 1 even from root run no program for what happens while one of its
// threads is interrupted, and do not count these as misses: the tracepoint is passed, and tracefs shows it. A timer's
// retransmit, or the end of a neighbour's queue, is withheld in this way now and then. There, and only there, a measurement
// that finds fewer events is taken once more. A measurement has to begin at counts of its own.
func Measure(t testing.TB, measure func() error) {
	t.Helper()
	err := measure()
	for range attempts - 1 {
		if !errors.Is(err, ErrFewer) || !withholds() {
			break
		}
		t.Logf("once more: %v", err)
		err = measure()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withholds reports whether process 1 is shielded.
func withholds() bool {
	_, err := os.Readlink("/proc/1/ns/net")
	return err != nil
}

// Compare says how counts differ from what was to be counted: nil if they do not.
func Compare[K comparable, N cmp.Ordered](counts, want map[K]N) error {
	if maps.Equal(counts, want) {
		return nil
	}
	for key, n := range counts {
		if n > want[key] {
			return errors.New("more were counted than there were")
		}
	}
	return ErrFewer
}
