package collector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netcookie"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Collect reads the host. The error wraps ErrPrivileges when the process may
// not enter namespaces, and the context's error when it ended; it is also an error
// if the node's own namespace cannot be told. Whatever else went wrong is in the
// snapshot.
func (c *Collector) Collect(ctx context.Context) (*simulator.Snapshot, error) {
	c.run.Lock()
	defer c.run.Unlock()

	if err := ValidateGlobs(c.options.Namespaces); err != nil {
		return nil, err
	}
	if !privileged() {
		return nil, ErrPrivileges
	}
	snapshot := &simulator.Snapshot{Taken: wallClock(), Kernel: kernelRelease()}
	objects, given, err := c.objects()
	if err != nil {
		return nil, err
	}
	snapshot.Cluster = objects

	start := time.Now()
	all, failures, err := discover(c.proc)
	if err != nil {
		return nil, err
	}
	found := Result{Collector: "namespaces", Duration: time.Since(start)}
	if why := failures[processesFailure]; why != "" {
		found.Err = errors.New(why)
		c.log.Warn("some "+processesFailure+" may not be looked at", "err", why)
	}
	defer func() {
		for _, n := range all {
			n.close()
		}
	}()
	all = c.readIdentities(all, failures)
	// What was not asked for may vanish unmentioned.
	maps.DeleteFunc(failures, func(name, _ string) bool {
		namespace, ok := strings.CutPrefix(name, failurePrefix)
		return ok && !c.wanted(namespace)
	})
	snapshot.Failures = failures
	identities := make([]*identity, len(all))
	for i, n := range all {
		identities[i] = n.identity
		n.excluded = !n.host && len(n.mounts) > 0 && !c.wanted(n.mounts[0])
	}
	hostname := c.options.Node
	if hostname == "" {
		hostname, _ = os.Hostname()
	}
	if err := identify(identities, objects, given, hostname); err != nil {
		return nil, err
	}

	wanted := slices.DeleteFunc(slices.Clone(all), func(n *netns) bool { return !c.wanted(n.name) })
	snapshot.Namespaces = make([]*netstack.Namespace, len(wanted))
	results := make([][]Result, len(wanted))
	shared := &target{
		programs: sync.OnceValues(func() (hostPrograms, error) { return readHostPrograms(c.proc) }),
		facts:    sync.OnceValues(func() (netstack.HostFacts, error) { return c.state.readHostFacts(all) }),
	}
	var group errgroup.Group
	group.SetLimit(c.options.Concurrency)
	var progress sync.Mutex
	done := 0
	for i, n := range wanted {
		group.Go(func() error {
			snapshot.Namespaces[i], results[i] = c.collectOne(ctx, n, all, shared)
			if c.options.Progress != nil {
				progress.Lock()
				defer progress.Unlock()
				done++
				c.options.Progress(done, len(wanted), n.name)
			}
			return nil
		})
	}
	_ = group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	places := make(map[string]place, len(wanted))
	for i, n := range wanted {
		places[n.name] = place{key: n.key, paths: n.paths, cookie: snapshot.Namespaces[i].Cookie}
	}
	slices.SortFunc(snapshot.Namespaces, func(a, b *netstack.Namespace) int { return strings.Compare(a.Name, b.Name) })
	c.finish(append(results, []Result{found}), places)
	snapshot.Ended = wallClock()
	return snapshot, nil
}

// finish publishes the results, and forgets the rule sets of namespaces that
// are gone.
func (c *Collector) finish(results [][]Result, places map[string]place) {
	flat := slices.Concat(results...)
	slices.SortStableFunc(flat, func(a, b Result) int { return strings.Compare(a.Namespace, b.Namespace) })
	c.mu.Lock()
	c.results, c.places = flat, places
	c.mu.Unlock()
	c.state.forgetUnused()
}

// readIdentities reads the addresses by which namespaces are told apart. A
// namespace that cannot be entered is reported, and not collected.
func (c *Collector) readIdentities(all []*netns, failures map[string]string) []*netns {
	return slices.DeleteFunc(all, func(n *netns) bool {
		err := inNamespace(int(n.file.Fd()), func() error {
			conn, err := dialNetlink(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer conn.Close()
			addresses, err := listAddresses(conn)
			for _, a := range addresses {
				if ip := a.Prefix.Addr(); !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
					n.addrs = append(n.addrs, ip)
				}
			}
			return err
		})
		if err != nil {
			failures[failurePrefix+preferredName(n.identity)] = err.Error()
			n.close()
		}
		return err != nil
	})
}

// collectOne reads one namespace, on one thread inside it. Shared has what is read
// once in a run.
func (c *Collector) collectOne(ctx context.Context, n *netns, all []*netns, shared *target) (*netstack.Namespace, []Result) {
	ns := &netstack.Namespace{Name: n.name, Kind: n.kind, Node: n.node, Pod: n.pod, PodUID: n.podUID, Taken: wallClock()}
	var results []Result
	err := inNamespace(int(n.file.Fd()), func() error {
		ns.Cookie, _ = netcookie.Current() // 0 before Linux 5.14
		t := &target{ns: ns, key: n.key, pids: n.pids, proc: c.proc, host: &c.state, rules: c.state.cacheOf(ns.Cookie), programs: shared.programs, facts: shared.facts}
		defer t.close()
		for _, source := range c.state.sources {
			if len(c.options.Parts) > 0 && !slices.Contains(c.options.Parts, source.part) {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			results = append(results, c.readPart(ctx, source, t))
		}
		ns.NSIDs = namespaceIDs(ns, all)
		return nil
	})
	if err != nil {
		c.failRemaining(ns, err)
	}
	return ns, results
}

// readPart runs one source and records how it went.
func (c *Collector) readPart(ctx context.Context, source source, t *target) Result {
	start := time.Now()
	t.note = ""
	err := source.read(ctx, t)
	result := Result{Collector: string(source.part), Namespace: t.ns.Name, Duration: time.Since(start), Note: t.note}
	if t.note != "" {
		c.log.Debug("part of a network namespace was read in another way", "namespace", t.ns.Name, "collector", source.part, "reason", t.note)
	}
	switch {
	case err == nil:
		t.ns.SetPart(source.part, netstack.Status{State: netstack.StateOK})
	case errors.Is(err, errAbsent):
	case errors.Is(err, ErrNotSupported):
		t.ns.SetPart(source.part, netstack.Status{State: netstack.StateUnsupported})
	case errors.Is(err, errTooLarge):
		t.ns.SetPart(source.part, netstack.Status{State: netstack.StateMissing, Detail: err.Error()})
	default:
		result.Err = err
		t.ns.SetPart(source.part, netstack.Status{State: netstack.StateFailed, Detail: err.Error()})
		c.log.Warn("part of a network namespace could not be read", "namespace", t.ns.Name, "collector", source.part, "err", err)
	}
	return result
}

// failRemaining marks what was not read of a namespace that could not be
// entered, or not to the end.
func (c *Collector) failRemaining(ns *netstack.Namespace, err error) {
	for _, source := range c.state.sources {
		if _, done := ns.Parts[source.part]; !done {
			ns.SetPart(source.part, netstack.Status{State: netstack.StateFailed, Detail: err.Error()})
		}
	}
}

// namespaceIDs finds which namespaces the ids stand for by which this one's
// interfaces refer to their peers' namespaces. The kernel answers only in the
// other direction, the id of a given namespace, so all are tried until no id
// is left; namespaces with most to offer (the host's, nodes') come first.
func namespaceIDs(ns *netstack.Namespace, all []*netns) map[int]string {
	missing := make(map[int]bool)
	for i := range ns.Links {
		if id := ns.Links[i].PeerNSID; id >= 0 {
			missing[id] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	defer handle.Close()
	ids := make(map[int]string, len(missing))
	for _, other := range all {
		if len(missing) == 0 {
			break
		}
		if id, err := handle.GetNetNsIdByFd(int(other.file.Fd())); err == nil && missing[id] {
			ids[id] = other.name
			delete(missing, id)
		}
	}
	return ids
}

// privileged says whether this process may enter network namespaces and read
// their rule sets.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.Geteuid() == 0
	}
	const needed = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return data[0].Effective&needed == needed
}

func kernelRelease() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// wallClock is the time as a bundle stores it, without the monotonic reading
// that Go adds: what is derived from it must not depend on the way it took.
func wallClock() time.Time { return time.Now().UTC().Round(0) }
