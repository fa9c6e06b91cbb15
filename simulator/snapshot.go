package simulator

import (
	"time"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// Snapshot is the collected state that a World is compiled from: what the
// collector reads from a host, and what a bundle stores.
type Snapshot struct {
	// Taken is when collecting began, Ended when it was over.
	Taken, Ended time.Time
	Kernel       string // uname -r of the host
	Namespaces   []*netstack.Namespace
	Cluster      cluster.Objects
	// Cloud is what was read of the cloud whose network joins the nodes; nil for none.
	Cloud *alibaba.Facts
	// CloudTaken is when the oldest of what decides of it was read; zero if nobody knows.
	CloudTaken time.Time
	// Nodes says when the state of a node's namespaces was read last, by the
	// node's name, where that is later than they say: they were found to be as
	// before.
	Nodes map[string]time.Time
	// Names are answers that name servers have given to those who live in the
	// namespaces.
	Names []resolver.Answer
	// Failures are collectors that failed as a whole, by name.
	Failures map[string]string
}

// TakenAt is when the state of a namespace was read; zero if nobody knows.
func (s *Snapshot) TakenAt(ns *netstack.Namespace) time.Time {
	if t, ok := s.Nodes[ns.Node]; ok {
		return t
	}
	if ns.Taken.IsZero() {
		return s.Taken
	}
	return ns.Taken
}
