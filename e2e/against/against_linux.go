// Package against holds diagnoses against the fates of real connections: what the tests of several packages share.
package against

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// StartLab builds a lab for a test, and takes it down after it. Without root the test is skipped. The test's package
// calls lab.ServeIfListener first of all.
func StartLab(t testing.TB, options lab.Options) *lab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	ctx := t.Context()
	if err := lab.Down(ctx, options); err != nil { // what a crash has left
		t.Fatal(err)
	}
	l, err := lab.Up(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(ctx), options); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Collect reads the state of namespaces; any part that cannot be read fails the test.
func Collect(t testing.TB, o collector.Options) *simulator.Snapshot {
	t.Helper()
	snapshot, err := collector.New(o).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Failures) > 0 {
		t.Fatalf("collectors failed: %v", snapshot.Failures)
	}
	for _, ns := range snapshot.Namespaces {
		for part, status := range ns.Parts {
			if status.State == netstack.StateFailed && part != netstack.PartEBTablesLegacy { // which is a finding of its scenario
				t.Fatalf("the %s of %s could not be read: %s", part, ns.Name, status.Detail)
			}
		}
	}
	return snapshot
}

// Compile makes a snapshot ready for diagnoses.
func Compile(t testing.TB, s *simulator.Snapshot) *simulator.World {
	t.Helper()
	w, err := simulator.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Diagnose answers a query. Each of its findings has to point at what docs/reasons.md says about its code.
func Diagnose(t testing.TB, w *simulator.World, q verdict.Query) *verdict.Report {
	t.Helper()
	r, err := w.Diagnose(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Paths {
		for _, f := range p.Findings {
			if f.Docs != "docs/reasons.md#"+strings.ToLower(string(f.Code)) || f.Remedy == "" {
				t.Errorf("%v: a finding of %s points at %q, and advises %q", q, f.Code, f.Docs, f.Remedy)
			}
		}
	}
	return r
}

// ThroughBundle writes the snapshot as a bundle and reads it back.
func ThroughBundle(s *simulator.Snapshot) (*simulator.Snapshot, error) {
	var archive bytes.Buffer
	if err := bundle.WriteArchive(&archive, s); err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	read, err := bundle.ReadArchive(&archive)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return read, nil
}

// Agree compares a path with the fate of a real connection along it: outcome, verdict, and the first reason.
func Agree(t testing.TB, name, protocol string, fate lab.Fate, path *verdict.Path, reason verdict.Code) {
	t.Helper()
	FirstReason(t, name, path, reason)
	want := verdict.Unreachable
	switch {
	case fate.Outcome == lab.Established && protocol == "tcp" && !fate.FullSize:
		want = verdict.Degraded
	case fate.Outcome == lab.Established, fate.Outcome == lab.Answered:
		want = verdict.Reachable
	}
	outcome := fate.Outcome
	if protocol == "udp" && path.Outcome == verdict.OutcomeDelivered && outcome == lab.Timeout {
		// Silence is all that the client can see; that the datagram arrives, the listener alone knows.
		outcome, want = string(verdict.OutcomeDelivered), verdict.Degraded
	}
	if protocol == "sctp" && path.Outcome == verdict.OutcomeUnknown && want == verdict.Unreachable {
		// That it fails is known; whether the client hears of it, depends on what its socket is doing.
		outcome = string(verdict.OutcomeUnknown)
	}
	if string(path.Outcome) != outcome || path.Verdict != want {
		t.Errorf("%s: simulated %s, %s; the kernel made it %s (full size: %v, %v): %v\n%s",
			name, path.Outcome, path.Verdict, fate.Outcome, fate.FullSize, fate.Err, path.Findings, Trace(path))
	}
}

// FirstReason compares the first finding of a path, none if it is empty.
func FirstReason(t testing.TB, name string, path *verdict.Path, want verdict.Code) {
	t.Helper()
	var first verdict.Code
	if len(path.Findings) > 0 {
		first = path.Findings[0].Code
	}
	if first != want {
		t.Errorf("%s: first reason %q, want %q: %v\n%s", name, first, want, path.Findings, Trace(path))
	}
}

// Trace is a path hop by hop, for the message of a failure.
func Trace(p *verdict.Path) string {
	var text strings.Builder
	for _, hops := range [][]verdict.Hop{p.Hops, p.Reverse} {
		for _, h := range hops {
			fmt.Fprintf(&text, "%s: %s -> %s: %s\n", h.Namespace, h.In, h.Out, h.Packet)
			for _, step := range h.Steps {
				fmt.Fprintf(&text, "\t%s %s %s %s %s\n", step.Stage, step.Chain, step.Action, step.Rule, step.Packet)
			}
		}
		text.WriteString("--\n")
	}
	return text.String()
}

// Await waits until a condition holds, which it asks for now and then. It returns what
// the condition said last if that is not so after some time.
func Await(t testing.TB, patience, poll time.Duration, condition func() error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not after %s: %w", patience, err)
		case <-tick.C:
		}
	}
}
