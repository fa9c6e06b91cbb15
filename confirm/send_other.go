//go:build !linux

package confirm

import (
	"context"
	"errors"
)

// Send fails: there are no network namespaces to send from.
func Send(context.Context, func(fn func() error) error, Probe) (Seen, error) {
	return Seen{}, errors.New("probes are sent on Linux only")
}
