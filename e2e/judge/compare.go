package judge

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Arrival is a probe as a receiver got it.
type Arrival struct {
	Namespace string `json:"namespace"`
	// Seen is the client's end and At the receiver's, both as the receiver sees them.
	Seen netip.AddrPort `json:"seen"`
	At   netip.AddrPort `json:"at"`
	// Passing says that it was seen passing through, or being sent.
	Passing bool `json:"passing,omitempty"`
}

// Observed is a real fate, as far as it can be seen.
type Observed struct {
	Fate
	// Err is what the kernel said, in its words.
	Err string `json:"error,omitempty"`
	// Arrivals are what receivers got, wherever: one of them is in Fate.
	Arrivals []Arrival `json:"arrivals,omitempty"`
}

func (o Observed) String() string {
	s := o.Fate.String()
	if o.Err != "" {
		s += " (" + o.Err + ")"
	}
	for _, a := range o.Arrivals {
		if a.Namespace != o.Namespace {
			s += fmt.Sprintf("; seen at %s as %s from %s", a.Namespace, a.At, a.Seen)
		}
	}
	return s
}

// agrees says whether a real fate is the predicted one. Some of it cannot be seen: whether a request arrived that was
// refused, and what becomes of one that left the collected world. Nor is it always predicted what the client hears.
func agrees(p *Probe, want Fate, got *Observed) bool {
	if want.Namespace == left {
		beyond := append([]Arrival{{Namespace: got.Namespace, At: got.Destination, Seen: got.SeenAs}}, got.Arrivals...)
		return slices.ContainsFunc(beyond, func(a Arrival) bool {
			return (a.Namespace == router || a.Namespace == outside) && a.At == want.Destination && p.sameClient(a.Seen, want.SeenAs)
		})
	}
	if got.Verdict != want.Verdict || got.Outcome != want.Outcome && want.Outcome != verdict.OutcomeUnknown {
		return false
	}
	switch {
	case want.Namespace != "" && got.Namespace == "":
		// A connection that is not established may have left no trace.
		return p.Protocol == verdict.TCP && want.Outcome != verdict.OutcomeEstablished
	case want.Namespace == "":
		return got.Namespace == ""
	}
	return got.Namespace == want.Namespace && got.Destination == want.Destination && p.sameClient(got.SeenAs, want.SeenAs)
}

// sameClient says whether two client's ends are the same, as far as that can be known: the second is that of a prediction,
// which may leave it open.
func (p *Probe) sameClient(a, b netip.AddrPort) bool {
	return a == b || !b.IsValid() || p.AnyPort && a.Addr() == b.Addr()
}

// agreesWith says whether a real fate is among those predicted.
func (p *Prediction) agreesWith(probe *Probe, got *Observed) bool {
	for _, f := range p.Fates {
		if f.Probability != 0 && agrees(probe, f.Fate, got) {
			return true
		}
	}
	return false
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// unlikely bounds how improbable shares may be: one world in a million.
const unlikely = 1e-6

// fits says whether seeing a fate k times of n is credible if its probability is p: both tails of the binomial
// distribution.
func fits(k, n int, p float64) bool {
	if p >= 1 {
		return k == n
	}
	lower, upper := 0.0, 0.0
	for i := range n + 1 {
		mass := math.Exp(logChoose(n, i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
		if i <= k {
			lower += mass
		}
		if i >= k {
			upper += mass
		}
	}
	return min(lower, upper) >= unlikely
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}
