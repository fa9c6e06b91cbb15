//go:build linux

package main

import "slices"

// fault is a plausible mistake in the simulator: one piece of one file, which must occur exactly once, and what stands in
// its place.
type fault struct {
	name, file, old, instead string
}

var faults = slices.Concat(xtablesFaults, nftablesFaults, natFaults, sctpFaults, routeFaults, linkFaults)
