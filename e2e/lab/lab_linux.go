package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultPrefix is the lab of users who do not name one.
const DefaultPrefix = "lab"

// Options says how to build a lab. The zero value builds the default one.
type Options struct {
	// Prefix of everything that the lab makes. Default: DefaultPrefix.
	Prefix string
	// Spec is what to build. Default: DefaultSpec.
	Spec *Spec
	// Executable is the program that becomes a listener (see ServeIfListener). Default: this one.
	Executable string

	// step is called before each step of Up: tests fail or die there.
	step func(name string) error
}

func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !dnsLabel.MatchString(o.Prefix) {
		return o, fmt.Errorf("%w: %q", ErrPrefix, o.Prefix)
	}
	if o.Spec == nil {
		s, err := DefaultSpec()
		if err != nil {
			return o, err
		}
		o.Spec = s
	}
	if o.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find the lab's own program: %w", err)
		}
		o.Executable = exe
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	return o, nil
}

// Lab is a lab that is up. Its methods may be called at the same time, except Break, Fix and Down.
type Lab struct {
	Prefix string
	Spec   *Spec

	dir   string
	opts  Options
	state *state
}

// Open returns a lab that is up, and ErrNotUp if it is not.
func Open(prefix string) (*Lab, error) {
	opts, err := Options{Prefix: prefix}.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Lab{Prefix: opts.Prefix, dir: filepath.Join(stateRoot, opts.Prefix), opts: opts}
	if err := l.reload(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Lab) reload() error {
	st, err := readState(l.dir)
	if errors.Is(err, ErrNotUp) {
		return fmt.Errorf("lab %q: %w: run \"plumbline lab up\"", l.Prefix, err)
	}
	if err != nil {
		return fmt.Errorf("lab %q: %w", l.Prefix, err)
	}
	if !st.Up {
		return fmt.Errorf("lab %q: %w: it was left half-built: run \"plumbline lab down\"", l.Prefix, ErrNotUp)
	}
	l.state, l.Spec, l.opts.Spec = st, st.Spec, st.Spec
	return nil
}

// Dir is the lab's state directory.
func (l *Lab) Dir() string { return l.dir }

// ClusterDir holds the Kubernetes objects of the cluster as YAML files.
func (l *Lab) ClusterDir() string { return filepath.Join(l.dir, "cluster") }

// ActiveFaults returns the names of the faults that are injected, oldest first.
func (l *Lab) ActiveFaults() []string { return slices.Clone(l.state.Faults) }

// lock keeps other processes from changing the lab until unlock is called. Its file is the state directory itself, so
// that there is nothing to leave behind.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) {
	for {
		f, err := os.Open(l.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lab %q: %w: run \"plumbline lab up\"", l.Prefix, ErrNotUp)
		}
		if err != nil {
			return nil, fmt.Errorf("lock lab %q: %w", l.Prefix, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock lab %q: %w", l.Prefix, err)
			}
			return nil, fmt.Errorf("lab %q is being changed by another command", l.Prefix)
		}
		// The directory may have been removed, and made again, before the lock was ours.
		held, errHeld := f.Stat()
		now, errNow := os.Stat(l.dir)
		if errHeld == nil && errNow == nil && os.SameFile(held, now) {
			return func() {
				// Not only by closing: a child that another goroutine is about to start may hold the file as well.
				unix.Flock(int(f.Fd()), unix.LOCK_UN)
				f.Close()
			}, nil
		}
		f.Close()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// Endpoint is a place in the lab to send from: a pod, a node, or the fabric.
type Endpoint struct {
	// Kind is "pod", "node" or "fabric".
	Kind string
	// Name is NAMESPACE/NAME of a pod, or the name of a node.
	Name string
}

func (e Endpoint) String() string {
	if e.Kind == "fabric" {
		return e.Kind
	}
	return e.Kind + ":" + e.Name
}

// PodEndpoint is the pod called NAMESPACE/NAME.
func PodEndpoint(id string) Endpoint { return Endpoint{Kind: "pod", Name: id} }

// NodeEndpoint is the node of that name.
func NodeEndpoint(name string) Endpoint { return Endpoint{Kind: "node", Name: name} }

// ParseEndpoint understands pod:NAMESPACE/NAME, node:NAME, the two without their kind, and fabric.
func (l *Lab) ParseEndpoint(s string) (Endpoint, error) {
	e := NodeEndpoint(strings.TrimPrefix(s, "node:"))
	switch {
	case s == "fabric":
		e = Endpoint{Kind: "fabric"}
	case strings.Contains(s, "/"):
		e = PodEndpoint(strings.TrimPrefix(s, "pod:"))
	}
	if _, err := l.Netns(e); err != nil {
		return Endpoint{}, fmt.Errorf("%q: %w", s, err)
	}
	return e, nil
}

// Netns returns the name of an endpoint's network namespace.
func (l *Lab) Netns(e Endpoint) (string, error) {
	switch e.Kind {
	case "fabric":
		return l.fabricNetns(), nil
	case "pod":
		if p, err := l.Spec.Pod(e.Name); err == nil {
			return l.podNetns(p), nil
		}
	case "node":
		if n := l.Spec.node(e.Name); n.Name != "" {
			return l.nodeNetns(n.Name), nil
		}
	}
	return "", fmt.Errorf("the lab has no such pod or node: it has %s", strings.Join(l.endpoints(), ", "))
}

func (l *Lab) endpoints() []string {
	var names []string
	for _, n := range l.Spec.Nodes {
		names = append(names, n.Name)
	}
	for _, p := range l.Spec.Pods {
		names = append(names, p.ID())
	}
	return append(names, "fabric")
}

func (l *Lab) fabricNetns() string          { return l.Prefix + "-fabric" }
func (l *Lab) nodeNetns(name string) string { return l.Prefix + "-" + name }
func (l *Lab) podNetns(p Pod) string        { return l.Prefix + "-" + p.Namespace + "-" + p.Name }

// netnsNames returns the namespaces of the lab, pods before the nodes that hold the other ends of their wires.
func (l *Lab) netnsNames() []string {
	var names []string
	for _, p := range l.Spec.Pods {
		names = append(names, l.podNetns(p))
	}
	for _, n := range l.Spec.Nodes {
		names = append(names, l.nodeNetns(n.Name))
	}
	return append(names, l.fabricNetns())
}

// hostVeth is the name of the node's end of a pod's wire.
func hostVeth(p Pod) string { return "veth" + digest(p.ID())[:8] }

// Exec runs a program in an endpoint's network namespace with the caller's standard streams and returns its exit
// status. There is no shell in between. The program dies with the caller, so that it cannot keep the namespace alive.
func (l *Lab) Exec(ctx context.Context, e Endpoint, argv []string) (int, error) {
	name, err := l.Netns(e)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := InNetns(name, cmd.Run); {
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil // as a shell reports it
		}
		return exit.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("run %s in %s: %w", argv[0], name, err)
	}
	return 0, nil
}

// Output runs a program in an endpoint's network namespace and returns what it prints.
func (l *Lab) Output(ctx context.Context, e Endpoint, argv ...string) ([]byte, error) {
	name, err := l.Netns(e)
	if err != nil {
		return nil, err
	}
	return run(ctx, name, nil, argv...)
}
