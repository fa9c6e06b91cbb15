//go:build !linux

package privsep

import (
	"context"
	"errors"
	"net"
)

var errLinux = errors.New("an agent needs Linux")

// Child is the half that serves, as a process.
type Child struct {
	Channel net.Conn
}

// Spawn fails.
func Spawn(User, ...string) (*Child, error) { return nil, errLinux }

// Instruct fails.
func (*Child) Instruct(any) error { return errLinux }

// End does nothing.
func (*Child) End() {}

// Done never is.
func (*Child) Done() <-chan struct{} { return nil }

// Status fails.
func (*Child) Status() (int, error) { return 1, errLinux }

// Close does nothing.
func (*Child) Close() {}

// Inherit fails.
func Inherit(context.Context) (*Client, error) { return nil, errLinux }
