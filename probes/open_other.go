//go:build !linux || !(amd64 || arm64)

package probes

import (
	"fmt"
	"runtime"
)

// Open attaches the probes; on this platform it always fails. The returned Probes are not nil, and report that none is attached.
func Open(o Options) (*Probes, error) {
	err := fmt.Errorf("eBPF probes on %s/%s: %w", runtime.GOOS, runtime.GOARCH, ErrNotSupported)
	return notAttached(o.withDefaults(), err), err
}
