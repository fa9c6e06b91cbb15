package main

import (
	"os"
	"strings"
	"testing"
)

// TestEveryFaultIsFound puts each fault into the simulator, and has the judge look for it in 2,000 trials.
func TestEveryFaultIsFound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	var table strings.Builder
	err := find(t.Context(), options{trials: 2000, seed: 1, out: &table})
	t.Logf("\n%s", &table)
	if err != nil {
		t.Error(err)
	}
}
