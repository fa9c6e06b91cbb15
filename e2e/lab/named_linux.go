package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NewNetns makes a named network namespace, as `ip netns add` does, without a process. The thread comes back from it:
// were it the process's first one, and stayed, then others would take the new namespace for that of the process.
func NewNetns(name string) error {
	return comingBack(func() error {
		h, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		return h.Close()
	})
}

// RemoveNetns removes what NewNetns has made, if it is there.
func RemoveNetns(name string) error {
	path := filepath.Join(netnsDir, name)
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err := os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		} else if time.Now().After(deadline) {
			return fmt.Errorf("remove network namespace %s: %w", name, err)
		}
	}
}
