package main

import "time"

// entry is one test package of the lane.
type entry struct {
	pkg     string        // directory below the module's root
	run     string        // -test.run
	timeout time.Duration // -test.timeout; a test takes about ten times what it takes on the host
	require string        // PLUMBLINE_REQUIRE: features whose absence is a failure
}

// lane is what runs in the machine, in order. To add a package, add a line.
var lane = []entry{
	{"e2e/links", "Bonds|Tunnels|Filters|VRFs", 25 * time.Minute, "all"},
	{"collector", "IPVS|Links", time.Minute, "all"},
	{"e2e/ipvs", ".", 15 * time.Minute, "ipvs"},
}
