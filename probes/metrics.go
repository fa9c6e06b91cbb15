package probes

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	dropsMetric       = "plumbline_kernel_drops_total"
	retransmitsMetric = "plumbline_tcp_retransmits_total"
)

// descriptions of the metrics. Made for each Probes, because a prometheus.Desc is not worth a global.
type descriptions struct {
	drops, retransmits, attached, lost, runTime, overflow *prometheus.Desc
}

func describe() descriptions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descriptions{
		drops: desc(dropsMetric,
			"Packets that the kernel dropped, by the kernel's reason. Empty namespace and pod: the node itself.",
			"reason", "protocol", "namespace", "pod"),
		retransmits: desc(retransmitsMetric,
			"TCP segments that were sent again. Empty namespace and pod: the node itself.",
			"kind", "namespace", "pod"),
		attached: desc("plumbline_probe_attached",
			"Whether an eBPF probe is attached and can be read.",
			"probe", "mode"),
		lost: desc("plumbline_events_lost_total",
			"Events that a probe saw and could not count.",
			"probe", "mode"),
		runTime: desc("plumbline_bpf_run_seconds_total",
			"Time that an eBPF probe ran in the kernel.",
			"probe", "mode"),
		overflow: desc("plumbline_series_overflow_total",
			"Label sets beyond the limit of series, which are counted in the series of namespace and pod \"other\".",
			"metric"),
	}
}

// Describe implements prometheus.Collector.
func (p *Probes) Describe(ch chan<- *prometheus.Desc) {
	d := describe()
	ch <- d.drops
	ch <- d.retransmits
	ch <- d.attached
	ch <- d.lost
	ch <- d.overflow
	if p.options.RunTime {
		ch <- d.runTime
	}
}

// Collect implements prometheus.Collector. It reads the kernel tables.
func (p *Probes) Collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()

	d := describe()
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	now := p.options.now()
	if t := p.drops; t != nil {
		p.report(t.update(now), ProbeDrops)
		t.each(func(s Subject, l dropLabels, n uint64) {
			counter(d.drops, float64(n), p.reasons.name(l.reason), protocolName(l.protocol), s.Namespace, s.Pod)
		})
		counter(d.overflow, float64(t.overflows), dropsMetric)
	}
	if t := p.retransmits; t != nil {
		p.report(t.update(now), ProbeRetransmits, ProbeSynackRetransmits)
		t.each(func(s Subject, l retransmitLabels, n uint64) {
			counter(d.retransmits, float64(n), l.kind.String(), s.Namespace, s.Pod)
		})
		counter(d.overflow, float64(t.overflows), retransmitsMetric)
	}
	for _, probe := range p.probes {
		attached := 0.0
		if probe.attached != nil {
			attached = 1
			if n, err := probe.attached.lost(); err != nil {
				p.report(err, probe.name)
			} else {
				counter(d.lost, float64(n), probe.name, probe.mode)
			}
			if p.options.RunTime && p.stats != nil {
				if run, err := probe.attached.runTime(); err != nil {
					p.report(err, probe.name)
				} else {
					counter(d.runTime, run.Seconds(), probe.name, probe.mode)
				}
			}
			if probe.failing {
				attached = 0
			}
		}
		ch <- prometheus.MustNewConstMetric(d.attached, prometheus.GaugeValue, attached, probe.name, probe.mode)
	}
}

// report notes whether the named probes can be read. Failures are logged when they begin, not at each collection.
func (p *Probes) report(err error, names ...string) {
	for _, probe := range p.probes {
		for _, name := range names {
			if probe.name != name {
				continue
			}
			if err != nil && !probe.failing {
				p.options.Logger.Warn("eBPF probe cannot be read", slog.String("probe", name), slog.Any("error", err))
			}
			probe.failing = err != nil
		}
	}
}
