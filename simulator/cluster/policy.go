package cluster

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Connection is what network policies judge: who talks to whom, after services
// were translated.
type Connection struct {
	Source, Destination End
	Protocol            verdict.Protocol
	Port                uint16 // of the destination; 0 for ICMP
}

// End is one end of a connection.
type End struct {
	Addr netip.Addr
	// Pod is the pod at this end. Nil means that the pod which owns Addr is
	// looked up.
	Pod *Pod
	// Node is the node that Addr is a local address of, if the caller knows;
	// otherwise it is looked up among the addresses of node objects, which
	// lack those of bridges and tunnels.
	Node string
}

// Direction of a policy's rules.
type Direction string

// Directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// PolicyResult is what the network policies say about a connection.
type PolicyResult struct {
	// Verdict is PolicyNone when no policy selects either end, and also when
	// Unknown is set.
	Verdict verdict.PolicyVerdict
	// Unknown says that the objects do not suffice to decide; Explanation names
	// what is missing.
	Unknown bool
	// Denied lists the directions that deny.
	Denied []Direction
	// Policies are those that isolate, NAMESPACE/NAME, of the directions that
	// deny if one does, of both directions otherwise.
	Policies []string
	// Explanation is one sentence for each direction that a policy isolates.
	Explanation []string
}
