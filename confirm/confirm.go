// Package confirm sends what a query asks about for real, from the network
// namespace that the simulation starts in, and holds what came of it against what
// was predicted: a TCP handshake, a datagram, an echo request. It is the only part
// of Plumbline that sends packets to what it looks at.
//
// A probe is a handful of packets from one socket to one address, bounded in time
// and, all together, in number. No application data is sent over TCP; the
// connection is closed with FIN as soon as it is open.
//
// Errors: Send fails where nothing could be sent, and says why. What becomes of
// packets that were sent is an outcome, never an error.
package confirm

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Defaults of a Confirmer.
const (
	DefaultTimeout   = 2 * time.Second
	DefaultPerSecond = 20
)

// Sender sends a probe from where the simulation starts. The error says why
// nothing was sent.
type Sender func(ctx context.Context, from simulator.Start, p Probe) (Seen, error)

// Subject is the simulated network that a probe is held against.
type Subject interface {
	Start(q *verdict.Query) (simulator.Start, error)
	Diagnose(ctx context.Context, q verdict.Query) (*verdict.Report, error)
	// Resolve is Names.Resolve.
	Resolve(ctx context.Context, q *verdict.Query) (addrs []netip.Addr, why string, err error)
	// HostEvidence is what the hosts on the way say of lost packets.
	HostEvidence(report *verdict.Report) []string
}

// Confirmer confirms reports. It may be used by several goroutines, which share the
// bound on the number of probes.
type Confirmer struct {
	Send    Sender
	Timeout time.Duration // of one probe
	Limit   *rate.Limiter // of probes
	// Took, if not nil, is told how long each probe took.
	Took func(time.Duration)
}

// New returns a confirmer with the default bounds.
func New(send Sender) *Confirmer {
	return &Confirmer{Send: send, Timeout: DefaultTimeout, Limit: rate.NewLimiter(DefaultPerSecond, DefaultPerSecond)}
}

// Confirm sends what the report is about and adds what was observed, or to the
// assumptions why nothing was sent. Where the two disagree, the state is read again
// by again, simulated and probed once more, and that report is returned: what
// looked like a contradiction may have been a change in between. The error is the
// context's.
func (c *Confirmer) Confirm(ctx context.Context, of Subject, report *verdict.Report, again func(context.Context) (Subject, error)) (*verdict.Report, error) {
	if err := c.observe(ctx, of, report); err != nil || !report.Observed.Disagrees() {
		return report, err
	}
	first := report.Observed.Outcome
	fresh, err := again(ctx)
	switch {
	case ctx.Err() != nil:
		return report, ctx.Err()
	case err != nil:
		contradict(of, report, "the state could not be collected again: "+err.Error())
		return report, nil
	}
	second, err := fresh.Diagnose(ctx, report.Query)
	if err != nil { // it was diagnosed before
		return report, err
	}
	if err := c.observe(ctx, fresh, second); err != nil {
		return report, err
	}
	if second.Observed.Disagrees() {
		contradict(fresh, second, "so it was before the state was collected again")
		return second, nil
	}
	second.Assumptions = append(second.Assumptions, fmt.Sprintf(
		"a first probe ended in %s, which the state then known did not predict: it was collected again, and this report is of what it is now", first))
	return second, nil
}

// observe sends the probe once, and judges what came of it.
func (c *Confirmer) observe(ctx context.Context, of Subject, report *verdict.Report) error {
	nothing := func(why error) {
		report.Assumptions = append(report.Assumptions, "nothing was sent to confirm this: "+why.Error())
	}
	q := report.Query
	if named(report) {
		addrs, why, err := of.Resolve(ctx, &q)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			nothing(err)
			return nil
		case len(addrs) == 0:
			report.Observed = &verdict.Observed{Outcome: verdict.OutcomeUnresolved, Detail: why}
			report.Observed.Agrees = agreement(report, verdict.OutcomeUnresolved, netip.Addr{})
			return nil
		}
		q.To = preferred(addrs, report.Resolution).String()
	}
	start, err := of.Start(&q)
	if err != nil {
		nothing(err)
		return nil
	}
	p := probeOf(&q, start)
	if err := p.unsupported(); err != nil {
		report.Observed = &verdict.Observed{Outcome: verdict.OutcomeInconclusive, Detail: err.Error()}
		return nil
	}
	if err := p.Validate(); err != nil {
		nothing(err)
		return nil
	}
	p.Timeout = c.patience(report)
	if err := c.Limit.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		nothing(fmt.Errorf("too many probes are waiting: %w", err))
		return nil
	}
	began := time.Now()
	seen, err := c.Send(ctx, start, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		nothing(err)
		return nil
	}
	if c.Took != nil {
		c.Took(time.Since(began))
	}
	report.Observed = &verdict.Observed{Outcome: seen.Outcome, Detail: seen.Detail, Agrees: agreement(report, seen.Outcome, p.Destination)}
	if named(report) {
		report.Observed.Detail = fmt.Sprintf("the name was resolved to %s: %s", p.Destination, seen.Detail)
	}
	if seen.Source.IsValid() {
		report.Observed.Source = verdict.Source{IP: seen.Source.Addr().String(), Port: seen.Source.Port()}
	}
	return nil
}

// named says whether a report is on a query for a name, or for a service that has no
// address of its own.
func named(report *verdict.Report) bool {
	_, named := report.Query.DNSName()
	return named || report.Resolution != nil
}

// preferred is the first of the addresses that a name has come to which is among those
// that were walked to: servers change their order.
func preferred(addrs []netip.Addr, simulated *verdict.Resolution) netip.Addr {
	for _, a := range addrs {
		if simulated != nil && slices.Contains(simulated.Addresses, a.String()) {
			return a
		}
	}
	return addrs[0]
}

// resolutionTime is what the kernel takes to find out that a neighbour does not
// answer: three requests, one second each, in its default setting.
const resolutionTime = 3500 * time.Millisecond

// patience is how long the answer is waited for.
func (c *Confirmer) patience(report *verdict.Report) time.Duration {
	if slices.ContainsFunc(report.Paths, func(p verdict.Path) bool { return p.Outcome == verdict.OutcomeHostUnreachable }) {
		return max(c.Timeout, resolutionTime)
	}
	return c.Timeout
}

// agreement says whether the outcome, at an address, is one that the report predicts; nil
// where neither can be said.
func agreement(report *verdict.Report, seen verdict.Outcome, at netip.Addr) *bool {
	yes, no := true, false
	switch {
	case !named(report):
	case unresolved(report) && seen == verdict.OutcomeUnresolved:
		return &yes
	case unresolved(report):
		return &no
	case report.Resolution == nil || len(report.Resolution.Addresses) == 0: // not known
		return nil
	case seen == verdict.OutcomeUnresolved && report.Verdict == verdict.Unknown:
		return nil
	case seen == verdict.OutcomeUnresolved || !slices.Contains(report.Resolution.Addresses, at.String()):
		return &no
	}
	return agreementOf(report.Paths, seen)
}

// unresolved says that the report has the name come to nothing, for certain.
func unresolved(report *verdict.Report) bool {
	return report.Resolution != nil && len(report.Resolution.Addresses) == 0 && report.Verdict == verdict.Unreachable
}

func agreementOf(paths []verdict.Path, seen verdict.Outcome) *bool {
	agrees, open := false, seen == verdict.OutcomeInconclusive || len(paths) == 0
	for i := range paths {
		p := &paths[i]
		switch {
		case impossible(p):
		case predicted(p) == seen, leaves(p) && arrives(seen):
			agrees = true
		case predicted(p) == verdict.OutcomeUnknown, leaves(p):
			open = true // what comes after the boundary was not simulated
		case p.Opened && seen == verdict.OutcomeEstablished:
			open = true // it is data that does not get through, and the probe sends none
		}
	}
	if open && !agrees {
		return nil
	}
	return &agrees
}

// impossible says that the kernel never chooses the path.
func impossible(p *verdict.Path) bool { return p.Probability != nil && *p.Probability == 0 }

// predicted is the outcome of a path, if it is certain.
func predicted(p *verdict.Path) verdict.Outcome {
	if p.Verdict == verdict.Unknown {
		return verdict.OutcomeUnknown
	}
	return p.Outcome
}

// leaves says that the packet left the collected world in good order.
func leaves(p *verdict.Path) bool {
	return predicted(p) == verdict.OutcomeDelivered && p.Destination.Namespace == ""
}

func arrives(o verdict.Outcome) bool {
	return o == verdict.OutcomeEstablished || o == verdict.OutcomeAnswered
}

// Simulated is the one outcome that stands for all that a report's paths predict:
// the one that was observed, if they agree; unknown, if nothing can be said; or else
// the likeliest.
func Simulated(report *verdict.Report) verdict.Outcome {
	if o := report.Observed; o != nil && o.Outcome != verdict.OutcomeInconclusive {
		switch {
		case o.Agrees == nil:
			return verdict.OutcomeUnknown
		case *o.Agrees:
			return o.Outcome
		}
	}
	if unresolved(report) {
		return verdict.OutcomeUnresolved
	}
	best, odds := verdict.OutcomeUnknown, -1.0
	for i := range report.Paths {
		p := &report.Paths[i]
		likely := 0.0 // as far as is known
		if p.Probability != nil {
			likely = *p.Probability
		}
		if !impossible(p) && likely > odds {
			best, odds = predicted(p), likely
		}
	}
	return best
}

// contradict adds the finding that the probe saw something else.
func contradict(of Subject, report *verdict.Report, twice string) {
	q, o := &report.Query, report.Observed
	evidence := []string{"observed: " + o.Detail}
	for node, age := range report.Snapshot.AgeSeconds {
		if node == "" {
			node = "this host"
		}
		evidence = append(evidence, fmt.Sprintf("the state of %s was %.0f s old", node, age))
	}
	slices.Sort(evidence[1:])
	evidence = append(append(evidence, twice), of.HostEvidence(report)...)
	report.Reasons = append(report.Reasons, verdict.NewFindingf(verdict.ObservedDisagrees, verdict.Where{}, evidence,
		"a real %s probe from %s to %s ended in %s, where the simulation says %s", q.Protocol, q.From, q.To, o.Outcome, Simulated(report)))
}
