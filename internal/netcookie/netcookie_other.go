//go:build !linux

package netcookie

import (
	"errors"
	"fmt"
)

// Current is available on Linux only.
func Current() (uint64, error) {
	return 0, fmt.Errorf("namespace cookie: %w", errors.ErrUnsupported)
}

// At is available on Linux only.
func At(path string) (uint64, error) {
	return 0, fmt.Errorf("namespace cookie of %s: %w", path, errors.ErrUnsupported)
}
