package simulator

import (
	"time"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Snapshot is the collected state that a World is compiled from: what the
// collector reads from a host, and what a bundle stores.
type Snapshot struct {
	// Taken is when collecting began, Ended when it was over.
	Taken, Ended time.Time
	Kernel       string // uname -r of the host
	Namespaces   []*netstack.Namespace
	Cluster      cluster.Objects
	// Failures are collectors that failed as a whole, by name.
	Failures map[string]string
}
