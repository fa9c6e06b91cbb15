package simulator

import (
	"errors"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Start is where the packets of a query begin, and where they are sent to: what a
// real client needs to know that is to do the same.
type Start struct {
	Namespace string // network namespace of the client
	// Source is the address that the client's socket is bound to; not valid where
	// the kernel chooses.
	Source      netip.Addr
	Destination netip.Addr
}

// Start says where the packets of q begin. The error says why there is no such
// place among the namespaces of the snapshot.
func (w *World) Start(q *verdict.Query) (Start, error) {
	l, err := w.LookUp(*q)
	switch {
	case err != nil:
		return Start{}, err
	case q.Via != nil:
		return Start{}, errors.New("the packet comes from outside of what was collected")
	case l.refused != nil:
		return Start{}, errors.New(l.refused.Message)
	case l.name != "":
		return Start{}, errors.New("real probes go to addresses: ask about one that the name stands for")
	}
	f, _, _, finding := w.resolveFlow(q, nil)
	if finding != nil {
		return Start{}, errors.New(finding.Message)
	}
	if f.cloud {
		return Start{}, errors.New("the packet comes from the Internet: " + f.packet.Src.String() + " is no address of what was collected")
	}
	return Start{Namespace: f.from.Name, Source: f.packet.Src, Destination: f.packet.Dst}, nil
}
