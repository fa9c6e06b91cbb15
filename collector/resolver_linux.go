package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// errAbsent is returned by a source where nothing tells of its part: the part
// counts as not collected.
var errAbsent = errors.New("nothing tells of it")

// processesLookedAt bounds how many processes of a namespace are asked for a file.
const processesLookedAt = 8

// readResolvConf keeps the resolv.conf of those who live in the namespace, as it
// is: containers of a pod share one.
func readResolvConf(_ context.Context, t *target) error {
	data, err := t.readEtc("resolv.conf")
	if err != nil {
		return err
	}
	t.ns.ResolvConf = netstack.Text{File: t.file("resolv.conf"), Data: data}
	return nil
}

// readHosts does the same for the hosts file.
func readHosts(_ context.Context, t *target) error {
	data, err := t.readEtc("hosts")
	if err != nil {
		return err
	}
	t.ns.Hosts = netstack.Text{File: t.file("hosts"), Data: data}
	return nil
}

// readEtc reads a file of /etc as the processes of the namespace see it: of the
// first that has one.
func (t *target) readEtc(name string) ([]byte, error) {
	for _, pid := range t.pids[:min(len(t.pids), processesLookedAt)] {
		data, err := readInRoot(filepath.Join(t.proc, strconv.Itoa(pid)), t.key, filepath.Join("etc", name), resolver.MaxFile)
		switch {
		case err == nil:
			return data, nil
		case errors.Is(err, os.ErrNotExist): // of a container, such as the one that only holds the namespace; or it has ended
		case errors.Is(err, os.ErrPermission):
			t.note = err.Error()
		default:
			return nil, err
		}
	}
	return nil, errAbsent
}

// readInRoot reads a regular file below the root of a process that is in a
// network namespace. The file system is that of a container, and nothing in it is
// trusted: links lead nowhere outside of it, and what is no regular file is not
// opened for reading.
func readInRoot(process string, key nsKey, name string, limit int64) ([]byte, error) {
	root, err := os.OpenFile(filepath.Join(process, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// The number may be another process's by now.
	if at, err := statNS(filepath.Join(process, "ns", "net")); err != nil || at != key {
		return nil, fmt.Errorf("%s is not in the namespace any more: %w", process, os.ErrNotExist)
	}
	in := func(flags uint64) (*os.File, error) {
		fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: filepath.Join(process, "root", name), Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	found, err := in(unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(int(found.Fd()), &before); err != nil {
		return nil, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s/root/%s is not a regular file", process, name)
	}
	file, err := in(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unix.Fstat(int(file.Fd()), &after); err != nil || keyOf(&before) != keyOf(&after) {
		return nil, fmt.Errorf("%s/root/%s was replaced while it was opened", process, name)
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s/root/%s is larger than %d bytes", process, name, limit)
	}
	return data, nil
}
