// Package netlinklist asks the kernel for lists by the netlink library.
package netlinklist

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// Attempts bounds how often a list is asked for again that the kernel marked as inconsistent (NLM_F_DUMP_INTR), because
// something changed while it was written.
const Attempts = 10

// ErrInterrupted is the error of a list that changed during each attempt.
var ErrInterrupted = errors.New("the state kept changing while it was being read")

// Whole asks for a list until the kernel wrote it without a change in between. What the library returns beside
// ErrDumpInterrupted is half a list, and never passed on.
func Whole[T any](list func() (T, error)) (T, error) {
	for range Attempts {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	var none T
	return none, ErrInterrupted
}
