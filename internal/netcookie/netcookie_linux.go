package netcookie

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Current returns the cookie of the calling thread's network namespace. It needs no privilege.
func Current() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("namespace cookie: open a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("namespace cookie: SO_NETNS_COOKIE: %w", err)
	}
	return cookie, nil
}

// At returns the cookie of the network namespace whose file is at path, for example /run/netns/NAME or /proc/PID/ns/net. It enters the namespace
// on a thread of its own, for which it needs CAP_SYS_ADMIN; the caller's thread stays where it is.
func At(path string) (uint64, error) {
	type result struct {
		cookie uint64
		err    error
	}
	done := make(chan result)
	go func() {
		cookie, err := visit(path)
		done <- result{cookie, err}
	}()
	r := <-done
	return r.cookie, r.err
}

func visit(path string) (uint64, error) {
	target, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("namespace cookie: %w", err)
	}
	defer target.Close()

	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("namespace cookie: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("namespace cookie: enter %s: %w", path, err)
	}
	cookie, err := Current()
	// A thread that cannot go home stays locked, so that the runtime ends it together with this goroutine instead of giving it to others.
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return cookie, err
}
