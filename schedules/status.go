package schedules

import (
	"maps"
	"slices"
	"time"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// maxChanges is how many changes of verdict are remembered for each path.
const maxChanges = 20

// Status is the state of one schedule: a copy, consistent in itself.
type Status struct {
	Name     string           `json:"name"`
	Cron     string           `json:"cron"`
	From     string           `json:"from"`
	To       string           `json:"to"`
	Port     uint16           `json:"port,omitempty"`
	Protocol verdict.Protocol `json:"protocol"`
	Expect   verdict.Verdict  `json:"expect,omitempty"`
	// Next and LastRun are nil if there is none; LastRun is when it ended.
	Next    *time.Time `json:"next"`
	LastRun *time.Time `json:"lastRun"`
	Running bool       `json:"running"`
	Missed  uint64     `json:"missed"`
	// Error is why the last run could not diagnose; empty if it could.
	Error string `json:"error,omitempty"`
	// Capped says that there are too many paths to export metrics for each.
	Capped bool `json:"capped"`
	// Verdicts counts the paths by verdict.
	Verdicts map[verdict.Verdict]int `json:"verdicts"`
	// Failures counts runs by each fatal or partial code that occurred in them.
	Failures map[verdict.Code]uint64 `json:"failures"`
	Paths    []PathStatus            `json:"paths"`
}

// PathStatus is the state of one path of a schedule.
type PathStatus struct {
	Path        string           `json:"path"`
	Source      string           `json:"source"`
	Destination string           `json:"destination"`
	Port        uint16           `json:"port,omitempty"`
	Protocol    verdict.Protocol `json:"protocol"`
	Verdict     verdict.Verdict  `json:"verdict"`
	Reason      verdict.Code     `json:"reason,omitempty"`
	Message     string           `json:"message,omitempty"`
	// Since is since when the verdict and the reason are these.
	Since time.Time `json:"since"`
	// ExpectationMet is nil where the schedule expects nothing in particular.
	ExpectationMet *bool `json:"expectationMet,omitempty"`
	// Failures counts the runs that found the path unreachable or degraded.
	Failures uint64   `json:"failures"`
	Backends Backends `json:"backends"`
	// Observed is what a real probe saw in the last run; nil where none was sent.
	Observed *verdict.Observed `json:"observed,omitempty"`
	// Report is the id of the latest report.
	Report  string   `json:"report"`
	History []Change `json:"history"` // latest first; the first is the present state
}

// Backends counts the ways that a path can take, by what becomes of them.
type Backends struct {
	OK      int `json:"ok"`
	Failing int `json:"failing"`
	Unknown int `json:"unknown"`
}

// Change is a change of a path's verdict or reason.
type Change struct {
	Verdict verdict.Verdict `json:"verdict"`
	Reason  verdict.Code    `json:"reason,omitempty"`
	Since   time.Time       `json:"since"`
	Report  string          `json:"report"` // id; the report may be forgotten by now
}

func (r *Runner) status(s *schedule) Status {
	status := Status{
		Name:     s.Name,
		Cron:     s.Cron,
		From:     s.From.String(),
		To:       s.To.String(),
		Port:     s.Query.Port,
		Protocol: s.Query.Protocol,
		Expect:   s.Query.Expect,
		Next:     optional(s.next),
		LastRun:  optional(s.lastRun),
		Running:  s.running,
		Missed:   s.missed,
		Error:    s.lastError,
		Capped:   len(s.paths) > r.config.MaxPathSeries,
		Verdicts: make(map[verdict.Verdict]int),
		Failures: make(map[verdict.Code]uint64),
		Paths:    make([]PathStatus, 0, len(s.paths)),
	}
	for _, v := range verdict.Verdicts() {
		status.Verdicts[v] = 0
	}
	for code, f := range s.failures {
		status.Failures[code] = f.count
	}
	for _, name := range slices.Sorted(maps.Keys(s.paths)) {
		p := s.paths[name]
		record := r.records.snapshot(p.record)
		status.Verdicts[record.Verdict]++
		status.Paths = append(status.Paths, PathStatus{
			Path:           name,
			Source:         p.query.From,
			Destination:    p.query.To,
			Port:           p.query.Port,
			Protocol:       p.query.Protocol,
			Verdict:        record.Verdict,
			Reason:         record.Reason,
			Message:        record.Message,
			Since:          record.Since,
			ExpectationMet: expectationMet(p.query.Expect, record.Verdict),
			Failures:       p.failures,
			Backends:       p.backends,
			Observed:       p.observed,
			Report:         record.ID,
			History:        slices.Clone(p.history),
		})
	}
	return status
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func expectationMet(expected, present verdict.Verdict) *bool {
	if expected == "" {
		return nil
	}
	met := present == expected
	return &met
}
