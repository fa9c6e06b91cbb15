// Package verdict holds what a diagnosis says: verdicts, findings with their
// reason codes, paths, hops and the report that HTTP and the command line
// print as JSON. It is data only. Field names and code values are API: they
// are extended, never renamed.
package verdict

import (
	"time"
)

// Verdict is the answer for one path or one report.
type Verdict string

// The four verdicts. Unknown is an honest answer, not an error: something that
// could decide was not modelled, not read or too old, and a finding names it.
const (
	Reachable   Verdict = "reachable"
	Degraded    Verdict = "degraded" // some backends or branches fail, or only full-size packets do
	Unreachable Verdict = "unreachable"
	Unknown     Verdict = "unknown"
)

// Verdicts lists every verdict, in the order in which people read them.
var verdicts = [...]Verdict{Reachable, Degraded, Unreachable, Unknown}

// Verdicts returns every verdict, best first.
func Verdicts() []Verdict { return verdicts[:] }

// Valid says whether v is one of the four verdicts.
func (v Verdict) Valid() bool {
	for _, known := range verdicts {
		if v == known {
			return true
		}
	}
	return false
}

// Severity says what a finding does to the verdict of its path.
type Severity string

// Severities, gravest first. SeverityUndecided makes a verdict unknown.
const (
	SeverityFatal     Severity = "fatal"
	SeverityUndecided Severity = "undecided"
	SeverityPartial   Severity = "partial"
	SeverityWarning   Severity = "warning"
	SeverityInfo      Severity = "info"
)

// Outcome is what a client would see that opens the connection and exchanges
// one small message.
type Outcome string

// Outcomes of a path. Established is TCP's success, Answered that of UDP and
// ICMP; Delivered means that the request arrives but no answer gets back.
const (
	OutcomeEstablished     Outcome = "established"
	OutcomeAnswered        Outcome = "answered"
	OutcomeDelivered       Outcome = "delivered"
	OutcomeRefused         Outcome = "refused"
	OutcomeReset           Outcome = "reset"
	OutcomeTimeout         Outcome = "timeout"
	OutcomeNetUnreachable  Outcome = "net-unreachable"
	OutcomeHostUnreachable Outcome = "host-unreachable"
	OutcomeProhibited      Outcome = "prohibited"
	OutcomeMessageTooLong  Outcome = "message-too-long"
	OutcomeUnknown         Outcome = "unknown"
	// OutcomeUnresolved is of connections to a name that comes to no address: there is no path.
	OutcomeUnresolved Outcome = "unresolved"
	// OutcomeInconclusive is of real probes alone: what was seen, or that nothing was, proves nothing.
	OutcomeInconclusive Outcome = "inconclusive"
)

// outcomes lists every outcome but what only real probes have.
var outcomes = [...]Outcome{
	OutcomeEstablished, OutcomeAnswered, OutcomeDelivered, OutcomeRefused, OutcomeReset, OutcomeTimeout,
	OutcomeNetUnreachable, OutcomeHostUnreachable, OutcomeProhibited, OutcomeMessageTooLong, OutcomeUnknown, OutcomeUnresolved,
}

// Outcomes returns every outcome that may be predicted.
func Outcomes() []Outcome { return outcomes[:] }

// Finding is one reason, with everything an operator needs to act on it.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Where    Where    `json:"where"`
	// Message is one sentence naming the objects and values.
	Message string `json:"message"`
	// Evidence is the exact rule, route, sysctl or object field that decided.
	Evidence []string `json:"evidence"`
	Remedy   string   `json:"remedy"`
	// Docs is the section of docs/reasons.md about Code.
	Docs string `json:"docs"`
}

// Where locates a finding. Empty fields do not apply.
type Where struct {
	Namespace string `json:"namespace,omitempty"` // network namespace
	Node      string `json:"node,omitempty"`
	Pod       string `json:"pod,omitempty"` // NAMESPACE/NAME
	Interface string `json:"interface,omitempty"`
	Resource  string `json:"resource,omitempty"` // Kubernetes or cloud object
}

// HopKind says what a hop is.
type HopKind string

// Kinds of hops.
const (
	HopPod      HopKind = "pod"
	HopNode     HopKind = "node"
	HopBridge   HopKind = "bridge"
	HopWire     HopKind = "wire"
	HopCloud    HopKind = "cloud"
	HopExternal HopKind = "external"
)

// Hop is the stay of the packet in one network namespace (or bridge, or wire).
type Hop struct {
	Namespace string    `json:"namespace"`
	Kind      HopKind   `json:"kind"`
	Node      string    `json:"node"`
	In        string    `json:"in"`
	Out       string    `json:"out"`
	Packet    string    `json:"packet"` // as it arrived
	Steps     []Step    `json:"steps"`
	Findings  []Finding `json:"findings"`
}

// Step is one decision inside a hop: a rule, a route, a translation.
type Step struct {
	Stage  string `json:"stage"` // "nat/PREROUTING", "route", "neighbour", "socket", …
	Chain  string `json:"chain,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Action string `json:"action"`
	Packet string `json:"packet,omitempty"` // after the step, when it changed
}

// Translation is one rewriting of the packet's addresses.
type Translation struct {
	Kind  string `json:"kind"`  // dnat, snat, masquerade, redirect, ipvs
	Where string `json:"where"` // network namespace
	From  string `json:"from"`
	To    string `json:"to"`
	Rule  string `json:"rule"`
}

// Source is the client's end of a path.
type Source struct {
	IP   string `json:"ip"`
	Port uint16 `json:"port"`
}

// Destination is where the packet finally arrived, or was heading.
type Destination struct {
	IP        string `json:"ip"`
	Port      uint16 `json:"port"`
	Namespace string `json:"namespace"` // empty when it left the collected world
}

// Path is one way that the packet may take.
type Path struct {
	// Probability is nil when the kernel's choice cannot be weighed.
	Probability *float64    `json:"probability"`
	Verdict     Verdict     `json:"verdict"`
	Delivered   bool        `json:"delivered"` // the request reached its destination
	Outcome     Outcome     `json:"outcome"`
	Source      Source      `json:"source"`
	Destination Destination `json:"destination"`
	// SeenAs is the client's end as the destination sees it; empty when the
	// request does not get there, and where that is not known.
	SeenAs       Source        `json:"seenAs"`
	Translations []Translation `json:"translations"`
	Hops         []Hop         `json:"hops"`
	Reverse      []Hop         `json:"reverse"`
	Findings     []Finding     `json:"findings"`
	// Opened says that the first packet was answered, whatever became of those after
	// it. Not part of the report.
	Opened bool `json:"-"`
}

// PolicyVerdict is what the Kubernetes API says about a connection,
// independently of what the dataplane does.
type PolicyVerdict string

// Policy verdicts. PolicyNone means that no policy selects either end.
const (
	PolicyAllow PolicyVerdict = "allow"
	PolicyDeny  PolicyVerdict = "deny"
	PolicyNone  PolicyVerdict = "none"
)

// Policy is the evaluation of network policies from the API.
type Policy struct {
	Verdict  PolicyVerdict `json:"verdict"`
	Policies []string      `json:"policies"` // NAMESPACE/NAME of those that decided
}

// Coverage says how many rules the evaluated namespaces hold, and how many
// of those use something that is not modelled.
type Coverage struct {
	Rules      int `json:"rules"`
	Unmodelled int `json:"unmodelled"`
}

// SnapshotInfo dates the state that a report was derived from.
type SnapshotInfo struct {
	Taken time.Time `json:"taken"`
	// AgeSeconds is, for each node, how old its state was when the report was
	// made.
	AgeSeconds map[string]float64 `json:"ageSeconds"`
	// ClusterAgeSeconds is how long ago the Kubernetes objects were known to be what
	// the API server has; absent where they come from elsewhere.
	ClusterAgeSeconds *float64 `json:"clusterAgeSeconds,omitempty"`
	// CloudAgeSeconds is how old the oldest facts of the cloud are; absent without a
	// cloud, and where they come from a bundle.
	CloudAgeSeconds *float64 `json:"cloudAgeSeconds,omitempty"`
}

// Observed is what a real probe saw; present only with Query.Confirm.
type Observed struct {
	Outcome Outcome `json:"outcome"`
	// Agrees says whether the simulation predicted the outcome; nil where that cannot
	// be said, because one of them decides nothing.
	Agrees *bool `json:"agrees"`
	// Source is the client's end: where the probe was sent from.
	Source Source `json:"source"`
	// Detail is what the kernel, or somebody on the way, said of it.
	Detail string `json:"detail"`
}

// Disagrees says that something was observed, and not what was simulated.
func (o *Observed) Disagrees() bool { return o != nil && o.Agrees != nil && !*o.Agrees }

// Resolution says how a destination dns:NAME was resolved, or a Service that has no
// address of its own.
type Resolution struct {
	// Config says where the resolver's configuration is from: the file of the
	// source, or what kubelet writes for its pod. For endpoints, where those are from.
	Config  string   `json:"config"`
	Servers []string `json:"servers"` // in the order in which they are asked
	Search  []string `json:"search"`
	Ndots   int      `json:"ndots"`
	// Tried are the names that were asked for, in order, and what became of each.
	Tried     []TriedName `json:"tried"`
	Addresses []string    `json:"addresses"` // empty if there are none, or if they are not known
}

// TriedName is one name that the resolver asked for.
type TriedName struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	Answer string `json:"answer"` // for people
}

// Report answers one query.
type Report struct {
	ID          string       `json:"id,omitempty"`
	Query       Query        `json:"query"`
	Verdict     Verdict      `json:"verdict"`
	Boundary    bool         `json:"boundary"` // the packet left the collected world
	Reasons     []Finding    `json:"reasons"`
	Paths       []Path       `json:"paths"`
	Policy      Policy       `json:"policy"`
	Assumptions []string     `json:"assumptions"`
	Coverage    Coverage     `json:"coverage"`
	Snapshot    SnapshotInfo `json:"snapshot"`
	// Resolution is there where the destination is a name of DNS, or a Service that stands
	// for one or for its endpoints.
	Resolution *Resolution `json:"resolution,omitempty"`
	Observed   *Observed   `json:"observed,omitempty"`
}

// Reason returns the first reason's code, or "" when there is none.
func (r *Report) Reason() Code {
	if len(r.Reasons) == 0 {
		return ""
	}
	return r.Reasons[0].Code
}
