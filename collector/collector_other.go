//go:build !linux

package collector

import (
	"context"
	"fmt"
	"runtime"

	"github.com/plumbline-net/plumbline/simulator"
)

type hostState struct{}

type place struct{}

func newHostState(string) hostState { return hostState{} }

// Collect returns ErrNotSupported.
func (c *Collector) Collect(context.Context) (*simulator.Snapshot, error) {
	return nil, fmt.Errorf("collect the network state of a %s host: %w", runtime.GOOS, ErrNotSupported)
}

// Inside returns ErrNotSupported.
func (c *Collector) Inside(string, func() error) error { return ErrNotSupported }
