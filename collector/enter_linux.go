package collector

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netcookie"
)

// place is how a namespace is found again that was collected.
type place struct {
	key    nsKey
	paths  []string
	cookie uint64 // 0 where the kernel has none
}

// Inside runs fn on a thread inside a network namespace, named as the last Collect
// did. A namespace that has come in its place since then is not entered: the error
// wraps ErrNoNamespace.
func (c *Collector) Inside(name string, fn func() error) error {
	c.mu.Lock()
	at, ok := c.places[name]
	c.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoNamespace, name)
	}
	n := &netns{key: at.key, paths: at.paths}
	if err := n.open(); err != nil {
		return fmt.Errorf("%w: %s %w", ErrNoNamespace, name, err)
	}
	defer n.close()
	return inNamespace(int(n.file.Fd()), func() error {
		// Inodes are given again, cookies are not.
		if cookie, err := netcookie.Current(); err == nil && cookie != at.cookie {
			return fmt.Errorf("%w: %s is another one by now", ErrNoNamespace, name)
		}
		return fn()
	})
}

// inNamespace runs fn on a thread of its own inside the network namespace of
// fd: sockets that fn opens, files of /proc that it reads and processes that it
// starts belong there. A thread that could not be brought back is never
// returned to the runtime's pool: it ends with its goroutine.
func inNamespace(fd int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		restored, err := runInside(fd, fn)
		if restored {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func runInside(fd int, fn func() error) (restored bool, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("open the current network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter the network namespace: %w", err)
	}
	err = fn()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return false, errors.Join(err, fmt.Errorf("leave the network namespace: %w", back))
	}
	return true, err
}
