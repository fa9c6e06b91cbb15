//go:build amd64 || arm64

package probes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Open attaches the probes. Needs Linux 5.17 with BTF, CAP_BPF and CAP_PERFMON; with CAP_SYSLOG, frees that lose nothing are told from drops more
// exactly (see noiseFunctions).
//
// The returned Probes are never nil. The error joins the reasons of those that could not be attached, which the metrics report too; the others
// count. Close detaches them.
func Open(o Options) (*Probes, error) {
	o = o.withDefaults()
	kernel, err := readKernel(o.BTFPath)
	if err != nil {
		return notAttached(o, err), err
	}

	p := notAttached(o, nil)
	p.reasons = kernel.reasons
	var errs []error
	if err := p.attachDrops(kernel); err != nil {
		errs = append(errs, err)
	}
	if err := p.attachRetransmits(kernel); err != nil {
		errs = append(errs, err)
	}
	if o.RunTime {
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err != nil {
			errs = append(errs, explain("run-time statistics", err))
		} else {
			p.stats = stats.Close
		}
	}
	return p, errors.Join(errs...)
}

// kernel is what the running kernel says about itself.
type kernel struct {
	types   *btf.Spec
	reasons reasonNames
}

func readKernel(path string) (*kernel, error) {
	types, err := btf.LoadSpec(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s is missing: run a kernel that is built with CONFIG_DEBUG_INFO_BTF=y and, in a container, mount /sys", ErrNotSupported, path)
	case err != nil:
		return nil, fmt.Errorf("read kernel types from %s: %w", path, err)
	}
	k := &kernel{types: types, reasons: reasonNames{}}
	var enum *btf.Enum
	if err := types.TypeByName("skb_drop_reason", &enum); err != nil {
		// The retransmit probes would work, but a kernel this old lacks other things that attribution needs.
		return nil, fmt.Errorf("%w: %s has no enum skb_drop_reason: run Linux 5.17 or later", ErrNotSupported, path)
	}
	for _, v := range enum.Values {
		k.reasons[uint32(v.Value)] = v.Name
	}
	return k, nil
}

// arguments returns how many arguments a tracepoint passes.
func (k *kernel) arguments(tracepoint string) (int, error) {
	var def *btf.Typedef
	if err := k.types.TypeByName("btf_trace_"+tracepoint, &def); err != nil {
		return 0, fmt.Errorf("%w: this kernel has no tracepoint %s", ErrNotSupported, tracepoint)
	}
	if ptr, ok := btf.As[*btf.Pointer](def); ok {
		if fn, ok := btf.As[*btf.FuncProto](ptr.Target); ok && len(fn.Params) > 0 {
			return len(fn.Params) - 1, nil // the first is the context of the tracepoint itself
		}
	}
	return 0, fmt.Errorf("%w: tracepoint %s has an unexpected type", ErrNotSupported, tracepoint)
}

func (p *Probes) attachDrops(k *kernel) error {
	probe := p.find(ProbeDrops)
	fail := func(err error) error {
		probe.err = explain("probe "+probe.name, err)
		return probe.err
	}
	arguments, err := k.arguments("kfree_skb")
	if err != nil {
		return fail(err)
	}
	noise, err := readNoise("/proc/kallsyms")
	if p.options.keepNoise {
		noise = noiseRanges{}
	}
	if err != nil {
		p.options.Logger.Info("the drops probe cannot tell all harmless frees from drops", "error", err)
	}

	// From the fullest to the least: the first that the kernel accepts is used. The error of the fullest is the one worth reporting.
	modes := []string{ModeTracepoint, ModeTracepointLockdown}
	if p.options.lockdown {
		modes = modes[1:]
	}
	var first error
	for _, mode := range modes {
		a, t, err := p.loadDrops(k, arguments, noise, mode)
		if err == nil {
			probe.attached, probe.mode = a, mode
			p.drops = newTracker(t, dropKey.split, dropLabels.overflow, p.options)
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fail(first)
}

func (p *Probes) loadDrops(k *kernel, arguments int, noise noiseRanges, mode string) (attachment, table[dropKey], error) {
	spec, err := loadDrops()
	if err != nil {
		return nil, nil, err
	}
	spec.Maps[dropsMapDrops].MaxEntries = uint32(p.options.MaxEntries)
	for _, v := range []struct {
		name  string
		value any
	}{
		{dropsVarHasRxSk, arguments >= 4},
		{dropsVarReadMemory, mode == ModeTracepoint},
		{dropsVarNoiseStart, noise.start},
		{dropsVarNoiseEnd, noise.end},
	} {
		if err := spec.Variables[v.name].Set(v.value); err != nil {
			return nil, nil, fmt.Errorf("set %s: %w", v.name, err)
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: k.types}})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	t, err := newMapTable(c.Maps[dropsMapDrops], func(k *dropsDropKey) dropKey {
		return dropKey{place{k.Cookie, k.In, k.Out}, dropLabels{k.Reason, k.Protocol}}
	}, func(k dropKey) dropsDropKey {
		return dropsDropKey{Cookie: k.cookie, In: k.in, Out: k.out, Reason: k.reason, Protocol: k.protocol}
	})
	if err != nil {
		return nil, nil, err
	}
	a, err := attach(c, dropsProgCountDrop, dropsMapDropsLost, 0)
	if err != nil {
		return nil, nil, errors.Join(err, t.Close())
	}
	a.closers = append(a.closers, t)
	return a, t, nil
}

type retransmitProgram struct {
	probe, program string
	lost           retransmitsRetransmitProgram // its place in the array of lost events
	tracepoint     string
}

// attachRetransmits attaches two programs that share one table. Each may fail alone.
func (p *Probes) attachRetransmits(k *kernel) error {
	programs := []retransmitProgram{
		{ProbeRetransmits, retransmitsProgCountRetransmit, retransmitsRetransmitProgramCOUNT_RETRANSMIT, "tcp_retransmit_skb"},
		{ProbeSynackRetransmits, retransmitsProgCountSynack, retransmitsRetransmitProgramCOUNT_SYNACK, "tcp_retransmit_synack"},
	}
	var errs []error
	var shared map[string]*ebpf.Map
	for _, want := range programs {
		probe := p.find(want.probe)
		a, maps, err := p.loadRetransmits(k, want, shared)
		if err != nil {
			probe.err = explain("probe "+probe.name, err)
			errs = append(errs, probe.err)
			continue
		}
		probe.attached, probe.mode = a, ModeTracepoint
		if shared != nil {
			continue
		}
		shared = maps
		for _, m := range maps {
			a.closers = append(a.closers, m)
		}
		t, err := newMapTable(maps[retransmitsMapRetransmits], func(k *retransmitsRetransmitKey) retransmitKey {
			return retransmitKey{place{cookie: k.Cookie}, retransmitLabels{retransmitKind(k.Kind)}}
		}, func(k retransmitKey) retransmitsRetransmitKey {
			return retransmitsRetransmitKey{Cookie: k.cookie, Kind: uint32(k.kind)}
		})
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		a.closers = append(a.closers, t)
		p.retransmits = newTracker(t, retransmitKey.split, retransmitLabels.overflow, p.options)
	}
	return errors.Join(errs...)
}

// loadRetransmits attaches one program to the given maps or, if there are none, to new ones, which it returns.
func (p *Probes) loadRetransmits(k *kernel, want retransmitProgram, maps map[string]*ebpf.Map) (*tracing, map[string]*ebpf.Map, error) {
	arguments, err := k.arguments(want.tracepoint)
	if err != nil {
		return nil, nil, err
	}
	spec, err := loadRetransmits()
	if err != nil {
		return nil, nil, err
	}
	if want.program == retransmitsProgCountRetransmit {
		if err := spec.Variables[retransmitsVarHasResult].Set(arguments >= 3); err != nil {
			return nil, nil, fmt.Errorf("set %s: %w", retransmitsVarHasResult, err)
		}
	}
	spec.Maps[retransmitsMapRetransmits].MaxEntries = uint32(p.options.MaxEntries)
	for name := range spec.Programs {
		if name != want.program {
			delete(spec.Programs, name)
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: k.types},
		MapReplacements: maps,
	})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	a, err := attach(c, want.program, retransmitsMapRetransmitsLost, uint32(want.lost))
	if err != nil {
		return nil, nil, err
	}
	if maps != nil {
		return a, maps, nil
	}
	made := map[string]*ebpf.Map{}
	for _, name := range []string{retransmitsMapRetransmits, retransmitsMapRetransmitsLost} {
		made[name] = c.DetachMap(name)
	}
	return a, made, nil
}

func (p *Probes) find(name string) *probe {
	for _, probe := range p.probes {
		if probe.name == name {
			return probe
		}
	}
	panic("unknown probe " + name)
}

// tracing is a program attached to a tracepoint.
type tracing struct {
	program *ebpf.Program
	link    link.Link
	noRoom  *ebpf.Map // array of events that found no room
	index   uint32    // in noRoom
	closers []io.Closer
}

// attach takes the program out of the collection.
func attach(c *ebpf.Collection, program, noRoom string, index uint32) (*tracing, error) {
	m, err := c.Maps[noRoom].Clone()
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", noRoom, err)
	}
	a := &tracing{program: c.DetachProgram(program), noRoom: m, index: index}
	a.closers = []io.Closer{a.program, a.noRoom}
	a.link, err = link.AttachTracing(link.TracingOptions{Program: a.program})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s: %w", program, err), a.Close())
	}
	return a, nil
}

// lost returns the events for which the table had no room, and those during which the kernel would not run the program a second time on a CPU.
func (a *tracing) lost() (uint64, error) {
	var n uint64
	if err := a.noRoom.Lookup(a.index, &n); err != nil {
		return 0, fmt.Errorf("read lost events: %w", err)
	}
	stats, err := a.program.Stats()
	if err != nil {
		return 0, fmt.Errorf("read lost events: %w", err)
	}
	return n + stats.RecursionMisses, nil
}

func (a *tracing) runTime() (time.Duration, error) {
	stats, err := a.program.Stats()
	if err != nil {
		return 0, fmt.Errorf("read run time: %w", err)
	}
	return stats.Runtime, nil
}

func (a *tracing) Close() error {
	var errs []error
	if a.link != nil {
		errs = append(errs, a.link.Close())
	}
	for _, c := range a.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// explain says what is missing when the kernel refuses, which its own error numbers do not.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, ErrNotSupported):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: %w: %w", what, ErrNotSupported, err)
	case errors.As(err, new(*ebpf.VerifierError)):
		// Not wrapped: its error number, EACCES, would pass for a missing permission.
		return fmt.Errorf("%s: the kernel's verifier refuses the program: %v", what, err)
	case errors.Is(err, unix.EPERM):
		needed := []capability{capBPF, capPerfmon}
		if what == "run-time statistics" {
			needed = []capability{capSysAdmin}
		}
		missing, capErr := missingCapabilities("/proc/thread-self/status", needed)
		if capErr == nil && missing != "" {
			return fmt.Errorf("%s: the process lacks %s: %w", what, missing, os.ErrPermission)
		}
		return fmt.Errorf("%s: refused by the kernel although the process has the capabilities (lockdown or a security module): %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
