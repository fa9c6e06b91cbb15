package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// Down removes everything that a lab made: its listeners, namespaces with all that is in them, and files. It needs no
// lab that works, and it is no error if there is none. Other processes that run in the lab's namespaces are left
// alone and reported: such a namespace loses its name and its links, and ends with them. Once begun it goes on to the
// end: ctx carries values only.
func Down(ctx context.Context, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	l := &Lab{Prefix: opts.Prefix, Spec: opts.Spec, dir: filepath.Join(stateRoot, opts.Prefix), opts: opts}
	unlock, err := l.lock(ctx)
	switch {
	case errors.Is(err, ErrNotUp): // nothing is recorded, yet something may be there
	case err != nil:
		return err
	default:
		defer unlock()
	}
	return l.tearDown(context.WithoutCancel(ctx))
}

// Down removes the lab.
func (l *Lab) Down(ctx context.Context) error {
	return Down(ctx, l.opts)
}

func (l *Lab) tearDown(ctx context.Context) error {
	st, err := readState(l.dir)
	switch {
	case errors.Is(err, ErrNotUp):
		st = &state{Spec: l.opts.Spec}
	case err != nil:
		// Writes are atomic, so that somebody else has been at this file. What follows from the prefix can still go.
		st = &state{Spec: l.opts.Spec}
	}
	l.state, l.Spec = st, st.Spec

	var errs []error
	for _, li := range st.Listeners {
		errs = append(errs, killProcess(li.PID, li.Start))
	}
	strays, err := strayListeners(l.Prefix)
	errs = append(errs, err)
	for _, pid := range strays {
		if start, alive := processStart(pid); alive {
			errs = append(errs, killProcess(pid, start))
		}
	}
	errs = append(errs, l.othersInside())
	for _, name := range l.netnsNames() {
		if netnsExists(name) {
			errs = append(errs, removeNetns(ctx, name))
		}
	}
	if err := errors.Join(errs...); err != nil && len(l.remaining()) > 0 {
		return fmt.Errorf("take down lab %q: %w", l.Prefix, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		errs = append(errs, err)
	}
	// The parents go with the last lab.
	for dir := stateRoot; dir != "/run"; dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil {
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take down lab %q: %w", l.Prefix, err)
	}
	return nil
}

func (l *Lab) remaining() []string {
	return slices.DeleteFunc(l.netnsNames(), func(name string) bool { return !netnsExists(name) })
}

// removeNetns deletes a namespace. Its links go first: the kernel would delete them some time later, and not at all
// while a process keeps the namespace.
func removeNetns(ctx context.Context, name string) error {
	err := withLinks(name, func(h *netlink.Handle) error {
		links, err := netlinklist.Whole(h.LinkList)
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		for _, link := range links {
			if link.Type() != "veth" && link.Type() != "bridge" {
				continue
			}
			if err := h.LinkDel(link); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !isNoDevice(err) {
				return fmt.Errorf("delete %s: %w", link.Attrs().Name, err)
			}
		}
		return nil
	})
	// A crash between making the file of a namespace and mounting the namespace on it leaves a plain file.
	if _, delErr := run(ctx, "", nil, "ip", "netns", "del", name); delErr != nil {
		if rmErr := os.Remove(filepath.Join(netnsDir, name)); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return errors.Join(err, delErr)
		}
		return nil
	}
	return err
}

// othersInside names processes in the lab's namespaces that the lab did not start. One that has threads elsewhere is a
// visitor, such as a collector whose first thread reads a namespace: it leaves by itself.
func (l *Lab) othersInside() error {
	inside := map[uint64]string{}
	for _, name := range l.netnsNames() {
		if ino, ok := netnsInode(filepath.Join(netnsDir, name)); ok {
			inside[ino] = name
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("find processes: %w", err)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		ino, ok := netnsOfAllThreads(pid)
		if !ok || inside[ino] == "" {
			continue
		}
		if _, alive := processStart(pid); !alive {
			continue
		}
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		found = append(found, fmt.Sprintf("%d (%s) in %s", pid, strings.TrimSpace(string(comm)), inside[ino]))
	}
	if len(found) > 0 {
		return fmt.Errorf("processes that are not the lab's keep its namespaces alive until they end: %s", strings.Join(found, ", "))
	}
	return nil
}

// netnsOfAllThreads is the network namespace of a process, unless its threads are in several.
func netnsOfAllThreads(pid int) (ino uint64, ok bool) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
	if err != nil {
		return 0, false
	}
	for _, thread := range threads {
		switch i, alive := netnsInode(thread); {
		case !alive: // the thread has ended
		case ok && i != ino:
			return 0, false
		default:
			ino, ok = i, true
		}
	}
	return ino, ok
}
