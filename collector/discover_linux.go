package collector

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// failurePrefix is what the names of namespaces have in Snapshot.Failures.
const failurePrefix = "namespace "

// processesFailure stands in Snapshot.Failures for processes of which it is not known
// in which namespaces they are.
const processesFailure = "processes of the host"

// firstInode is that of the kernel's first network namespace, which is the host's, from
// Linux 6.18 on (NET_NS_INIT_INO in linux/nsfs.h). Kernels before that, and all other
// namespaces, have numbers from 0xf0000000.
const firstInode = 0xeffffff9

// nsKey identifies a network namespace: its inode on the nsfs device.
type nsKey struct{ dev, inode uint64 }

// netns is a discovered network namespace, held open: an open descriptor keeps
// it alive, so that it cannot vanish while it is being read.
type netns struct {
	*identity
	key   nsKey
	paths []string // ways to open it, best first
	file  *os.File
}

// close lets go of the namespace.
func (n *netns) close() {
	if n.file != nil {
		n.file.Close()
	}
}

// discover finds every network namespace that a mount or a process of the host
// holds, and opens it. Those that vanished before they could be opened are
// in failures, and that there are processes which may not be looked at.
func discover(proc string) (all []*netns, failures map[string]string, err error) {
	byKey := make(map[nsKey]*netns)
	var hosts *netns
	get := func(key nsKey, path string) *netns {
		n := byKey[key]
		if n == nil {
			n = &netns{identity: &identity{inode: key.inode}, key: key}
			byKey[key] = n
		}
		n.paths = append(n.paths, path)
		return n
	}

	// The first process shares the host's namespaces; where it may not be
	// looked at, this process is the best guess. Its first thread may be in
	// another namespace for a while, as those that read the others are.
	first := filepath.Join(proc, "1", "ns", "net")
	key, err := statNS(first)
	if err == nil {
		hosts = get(key, first)
		if os.Getpid() == 1 { // of a container
			err = errors.New("process 1 is this one, not the host's")
		}
	} else {
		path := filepath.Join(proc, "thread-self", "ns", "net")
		key, notOwn := statNS(path)
		if notOwn != nil {
			return nil, nil, fmt.Errorf("find the host's network namespace: neither process 1 nor this one is in %s", proc)
		}
		hosts = get(key, path)
		err = &os.PathError{Op: "look at", Path: first, Err: err}
	}
	hosts.host = true
	if hosts.inode != firstInode {
		hosts.guess = err
	}
	mounts := nsMounts(proc)
	slices.SortStableFunc(mounts, byName)
	for _, m := range mounts {
		if key, err := statNS(m.path); err == nil && key.inode == m.inode {
			n := get(key, m.path)
			n.mounts = append(n.mounts, m.name)
		}
	}
	denied := 0
	for _, pid := range processes(proc) {
		path := filepath.Join(proc, strconv.Itoa(pid), "ns", "net")
		key, err := statNS(path)
		if err != nil {
			// Others have ended. The first one is dealt with above.
			if errors.Is(err, os.ErrPermission) && pid != 1 {
				denied++
			}
			continue
		}
		if byKey[key] != hosts && visits(proc, pid, key) {
			continue
		}
		n := get(key, path)
		n.pids = append(n.pids, pid)
		if n.podUID == "" && !n.host {
			if text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup")); err == nil {
				n.podUID = podUIDOf(string(text))
			}
		}
	}

	failures = make(map[string]string)
	if denied > 0 {
		failures[processesFailure] = fmt.Sprintf("%d may not be looked at, and network namespaces that only they are in are not found: %s", denied, howToSee)
	}
	for _, n := range byKey {
		if err := n.open(); err != nil {
			failures[failurePrefix+preferredName(n.identity)] = err.Error()
			continue
		}
		all = append(all, n)
	}
	// The host first, then in the order in which the kernel made them, as far
	// as inodes tell: stable from run to run.
	slices.SortFunc(all, func(a, b *netns) int {
		if a.host != b.host {
			if a.host {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.inode, b.inode)
	})
	return all, failures, nil
}

// threadsLookedAt bounds what a process with thousands of threads costs: visits
// are made by single threads.
const threadsLookedAt = 16

// visits says that the process is in the namespace with its first thread only,
// as those are that read or set up the namespaces of others: it does not live
// there, and its pod has nothing to do with it.
func visits(proc string, pid int, key nsKey) bool {
	dir := filepath.Join(proc, strconv.Itoa(pid), "task")
	threads := processes(dir)
	for _, thread := range threads[:min(len(threads), threadsLookedAt)] {
		if at, err := statNS(filepath.Join(dir, strconv.Itoa(thread), "ns", "net")); err == nil && at != key {
			return true
		}
	}
	return false
}

// open opens the namespace by the first path that still leads to it.
func (n *netns) open() error {
	var errs []error
	for _, path := range n.paths {
		file, err := os.Open(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(file.Fd()), &st); err != nil || keyOf(&st) != n.key {
			file.Close()
			errs = append(errs, fmt.Errorf("%s is not the namespace any more", path))
			continue
		}
		n.file = file
		return nil
	}
	return fmt.Errorf("vanished while it was being opened: %w", errors.Join(errs...))
}

func statNS(path string) (nsKey, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsKey{}, err
	}
	return keyOf(&st), nil
}

func keyOf(st *unix.Stat_t) nsKey { return nsKey{uint64(st.Dev), st.Ino} }

// nsMount is a bind mount of a network namespace, such as `ip netns add` and
// container runtimes make.
type nsMount struct {
	name  string
	path  string
	inode uint64
}

// byName sorts what `ip netns` knows before the mounts of others.
func byName(a, b nsMount) int {
	rank := func(m nsMount) int {
		if strings.HasSuffix(filepath.Dir(m.path), "/run/netns") {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.name, b.name))
}

// nsMounts reads the mounts that this process and the host's first process
// see. The latter matters in a container; its mounts are reached through its
// root directory.
func nsMounts(proc string) []nsMount {
	var out []nsMount
	if data, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo")); err == nil {
		out = parseMountinfo(data, "/")
	}
	if data, err := os.ReadFile(filepath.Join(proc, "1", "mountinfo")); err == nil {
		out = append(out, parseMountinfo(data, filepath.Join(proc, "1", "root"))...)
	}
	return out
}

// parseMountinfo finds mounts of network namespaces; see proc_pid_mountinfo(5).
// A mount's root is "net:[INODE]" then.
func parseMountinfo(data []byte, root string) []nsMount {
	var out []nsMount
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		number, ok := strings.CutPrefix(fields[3], "net:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err != nil {
			continue
		}
		path := unescapeOctal(fields[4])
		out = append(out, nsMount{name: filepath.Base(path), path: filepath.Join(root, path), inode: inode})
	}
	return out
}

// unescapeOctal undoes the \040 that the kernel writes for a space.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// processes lists the ids of processes, or of the threads of one, ascending.
func processes(proc string) []int {
	dir, err := os.Open(proc)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
