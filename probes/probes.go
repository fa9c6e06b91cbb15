// Package probes counts, with eBPF, the packets that the kernel drops and the TCP segments that it sends again, and exposes the counts as
// Prometheus metrics by pod and reason.
//
// Only rare kernel paths are hooked, and the counting is done in the kernel: nothing wakes user space for a packet. Values are read when
// the metrics are collected. The C sources are in the directory bpf; the generated Go and object files are committed.
//
// Error contract: an error that wraps [ErrNotSupported] says that this kernel, or operating system, lacks what a probe needs; one that wraps
// [os.ErrPermission] says that the process lacks a capability. Each probe stands alone: one that cannot be attached does not hinder the others.
//
// The package does not know Kubernetes nor finds namespaces: an [Attributor], given by the caller, says which pod a namespace belongs to.
package probes

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrNotSupported is wrapped by errors that say what the kernel or operating system lacks.
var ErrNotSupported = errors.New("not supported")

// DefaultBTFPath is where Linux shows the description of its own types.
const DefaultBTFPath = "/sys/kernel/btf/vmlinux"

// Subject is whose packets are counted. The zero Subject stands for the node itself: its own namespace, and what cannot be given to a pod.
type Subject struct {
	Namespace string // the Kubernetes namespace
	Pod       string
}

// otherSubject takes what is beyond Options.MaxSeries.
var otherSubject = Subject{Namespace: "other", Pod: "other"}

// An Attributor knows to which pod a place in the kernel belongs.
type Attributor interface {
	// Pod returns the pod of the network namespace with this cookie; or, where that is a node's namespace, the pod at the other end of its
	// interface with this index, which may be 0. The zero Subject with true means the node itself. False means that the namespace is not known,
	// or not known yet: counts are held back for Options.Grace in case it will be.
	//
	// A node's packet has two interfaces. The pod of the one that it arrived by counts first, which is the pod that sent it.
	//
	// Pod is called for each place at each collection, from one goroutine at a time, and should not block.
	Pod(cookie uint64, ifindex uint32) (Subject, bool)
}

// Options for Open. The zero value is usable: it counts everything for the node.
type Options struct {
	// Attributor names the pods. Without one, everything is counted for the zero Subject.
	Attributor Attributor

	// MaxSeries bounds the series of each metric; label sets beyond it are counted in the series namespace="other", pod="other", of which there
	// is one for each reason or kind. Default 2000.
	MaxSeries int

	// MaxEntries bounds each table in the kernel; what does not fit is counted as lost. An entry takes about 80 bytes and 8 for each CPU, and the
	// memory is taken at once. Default 16384.
	MaxEntries int

	// Grace is how long a place may be unknown to the Attributor before it is counted for the node, how long the series of a pod stay after the
	// pod has gone, and how long an entry stays in the kernel without being counted up. Default 5 minutes.
	Grace time.Duration

	// RunTime exports how long the programs run. Needs CAP_SYS_ADMIN, and makes the kernel time every eBPF program of the machine.
	RunTime bool

	// BTFPath is the file with the running kernel's type information. Default DefaultBTFPath.
	BTFPath string

	// Logger is told about failures while metrics are collected. Default slog.Default().
	Logger *slog.Logger

	// For tests.
	now       func() time.Time
	lockdown  bool // behave as under lockdown=confidentiality
	keepNoise bool // count what noiseFunctions free
}

func (o Options) withDefaults() Options {
	if o.MaxSeries <= 0 {
		o.MaxSeries = 2000
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = 16384
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Minute
	}
	if o.BTFPath == "" {
		o.BTFPath = DefaultBTFPath
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.now == nil {
		o.now = time.Now
	}
	return o
}

// Names of the probes, as in the label "probe".
const (
	ProbeDrops             = "drops"
	ProbeRetransmits       = "retransmits"
	ProbeSynackRetransmits = "synack_retransmits"
)

// Modes of a probe, as in the label "mode".
const (
	// ModeNone: not attached.
	ModeNone = "none"
	// ModeTracepoint: attached to a tracepoint with type information (tp_btf).
	ModeTracepoint = "tp_btf"
	// ModeTracepointLockdown: the same without reading packet headers and routes, which a kernel in confidentiality lockdown refuses. The
	// protocol of a drop is "other" unless its socket tells, and a pod is not recognised by the interface that a packet is routed to.
	ModeTracepointLockdown = "tp_btf_lockdown"
)

// Status says how a probe is attached.
type Status struct {
	Probe string
	Mode  string
	Err   error // why it is not attached, or nil
}

// Probes are the attached eBPF programs. They implement prometheus.Collector; collecting and closing may happen at the same time.
type Probes struct {
	options Options

	mu          sync.Mutex
	probes      []*probe
	drops       *tracker[dropKey, dropLabels]
	retransmits *tracker[retransmitKey, retransmitLabels]
	reasons     reasonNames
	stats       func() error // stops run-time statistics
}

// probe is one program and what it is attached to.
type probe struct {
	name     string
	mode     string
	err      error
	attached attachment // nil if it is not
	failing  bool       // its table could not be read
}

// attachment is a program in the kernel.
type attachment interface {
	// lost returns the number of events that could not be counted.
	lost() (uint64, error)
	// runTime is zero unless statistics are on.
	runTime() (time.Duration, error)
	Close() error
}

// Status returns one entry for each probe.
func (p *Probes) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := make([]Status, len(p.probes))
	for i, probe := range p.probes {
		status[i] = Status{Probe: probe.name, Mode: probe.mode, Err: probe.err}
	}
	return status
}

// Close detaches all programs. The metrics say so afterwards. Closing again does nothing.
func (p *Probes) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, probe := range p.probes {
		if probe.attached != nil {
			errs = append(errs, probe.attached.Close())
		}
		probe.attached, probe.mode = nil, ModeNone
	}
	if p.stats != nil {
		errs = append(errs, p.stats())
		p.stats = nil
	}
	p.drops, p.retransmits = nil, nil
	return errors.Join(errs...)
}

// notAttached returns Probes of which none is attached, for the same reason.
func notAttached(o Options, err error) *Probes {
	p := &Probes{options: o}
	for _, name := range []string{ProbeDrops, ProbeRetransmits, ProbeSynackRetransmits} {
		p.probes = append(p.probes, &probe{name: name, mode: ModeNone, err: err})
	}
	return p
}
