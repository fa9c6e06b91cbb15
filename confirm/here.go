package confirm

import (
	"context"

	"github.com/plumbline-net/plumbline/simulator"
)

// Here sends from the network namespaces of this host, which inside enters by name.
func Here(inside func(namespace string, fn func() error) error) Sender {
	return func(ctx context.Context, from simulator.Start, p Probe) (Seen, error) {
		return Send(ctx, func(fn func() error) error { return inside(from.Namespace, fn) }, p)
	}
}
