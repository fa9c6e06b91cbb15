// Package collector reads the network state of one Linux host: every network
// namespace that it has, each into a netstack.Namespace, together a
// simulator.Snapshot. It needs no container runtime and changes nothing: it
// asks the kernel only for what is there already, so that no module is loaded,
// no table created and no hook registered by being looked at.
//
// Errors: Collect returns an error only when nothing can be collected at all,
// for want of privileges, because it is not known which namespace is the node's, or
// because the context ended. Everything else is
// recorded where it belongs and leaves the rest untouched: a part of a
// namespace that could not be read has StateFailed with the reason, one that
// the kernel does not have has StateUnsupported, and a namespace that could
// not be entered is in Snapshot.Failures.
//
// The package works on Linux; elsewhere Collect returns ErrNotSupported.
package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ErrNotSupported is returned by what a kernel, or this operating system, does
// not have.
var ErrNotSupported = errors.New("not supported")

// ErrPrivileges is returned by Collect when the process may not enter network
// namespaces.
var ErrPrivileges = errors.New("collecting needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run it with sudo, or diagnose a bundle that was collected elsewhere with --bundle")

// ErrNoNamespace is returned by Inside for a name that the last Collect did not give
// to a namespace, or whose namespace is gone.
var ErrNoNamespace = errors.New("no such network namespace")

// ErrManifests is returned by Collect when the manifests of
// Options.ManifestDir cannot be read.
var ErrManifests = errors.New("read manifests")

// Options say what to collect. The zero value collects everything that the
// host has, with no cluster objects.
type Options struct {
	// Namespaces are globs (path.Match) over the names of network namespaces;
	// empty for all.
	Namespaces []string
	// Parts are the parts to collect; empty for all.
	Parts []netstack.Part
	// Cluster returns the Kubernetes objects that name pods and nodes. It wins
	// over ManifestDir.
	Cluster func() (cluster.Objects, error)
	// ManifestDir is a directory of Kubernetes manifests (*.yaml, *.yml,
	// *.json, not searched recursively) that is read at each Collect.
	ManifestDir string
	// Node is the name of the node that this host is; the host's name when empty.
	Node string
	// Proc is where the host's proc file system is mounted; "/proc" when empty.
	Proc string
	// Concurrency is the number of namespaces read at once; the number of
	// processors, at most four, when zero.
	Concurrency int
	// Logger receives what goes wrong with single parts; slog.Default when nil.
	Logger *slog.Logger
	// Progress, when not nil, is called after each namespace. Calls do not
	// overlap.
	Progress func(done, total int, namespace string)
}

// Result is how one collector did on one namespace in the last run.
type Result struct {
	Collector string // the name of the part that it reads; "namespaces", which finds them, has no Namespace
	Namespace string
	Duration  time.Duration
	Err       error // nil when read, or when the kernel has no such thing
	// Note says why a part was not read in the usual way: why a tool had to be
	// asked for what is otherwise read from the kernel.
	Note string
}

// Collector collects snapshots of this host. It may be used by several
// goroutines; runs of Collect exclude one another.
type Collector struct {
	options Options
	proc    string
	log     *slog.Logger
	state   hostState

	run     sync.Mutex // held during Collect
	mu      sync.Mutex // guards what follows
	results []Result
	places  map[string]place // of the namespaces of the last run, by name
}

// New returns a collector. It touches nothing yet.
func New(options Options) *Collector {
	c := &Collector{options: options, proc: options.Proc, log: options.Logger}
	if c.proc == "" {
		c.proc = "/proc"
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if c.options.Concurrency <= 0 {
		c.options.Concurrency = min(4, runtime.GOMAXPROCS(0))
	}
	c.state = newHostState(c.proc)
	return c
}

// Results are those of the last finished run, sorted by namespace and then in
// the order of collection.
func (c *Collector) Results() []Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.results)
}

// ValidateGlobs says whether the patterns of Options.Namespaces are well-formed.
func ValidateGlobs(patterns []string) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("namespace pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// wanted says whether a namespace of that name is to be collected.
func (c *Collector) wanted(name string) bool {
	if len(c.options.Namespaces) == 0 {
		return true
	}
	return slices.ContainsFunc(c.options.Namespaces, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// objects are the cluster objects to name namespaces by; given says whether
// there is any source of them.
func (c *Collector) objects() (objects cluster.Objects, given bool, err error) {
	switch {
	case c.options.Cluster != nil:
		objects, err = c.options.Cluster()
		return objects, true, err
	case c.options.ManifestDir != "":
		objects, err = ReadManifests(c.options.ManifestDir)
		return objects, true, err
	}
	return cluster.Objects{}, false, nil
}

// ReadManifests reads the Kubernetes objects in a directory, as Options.ManifestDir
// says; "" has none. The error wraps ErrManifests.
func ReadManifests(dir string) (cluster.Objects, error) {
	var objects cluster.Objects
	if dir == "" {
		return objects, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return objects, fmt.Errorf("%w: %w", ErrManifests, err)
	}
	for _, entry := range entries {
		if !manifest(entry) {
			continue
		}
		file := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			return objects, fmt.Errorf("%w: %w", ErrManifests, err)
		}
		if err := cluster.Decode(file, data, &objects); err != nil {
			return objects, fmt.Errorf("%w: %w", ErrManifests, err)
		}
	}
	return objects, nil
}

func manifest(entry fs.DirEntry) bool {
	switch strings.ToLower(filepath.Ext(entry.Name())) {
	case ".yaml", ".yml", ".json":
		return !entry.IsDir()
	}
	return false
}
