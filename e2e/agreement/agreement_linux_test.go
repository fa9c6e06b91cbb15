// Package agreement holds the simulator against the kernel: every fault that
// the lab can inject is judged by real connections, and the diagnosis of the
// collected state must say the same.
package agreement

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestMain(m *testing.M) {
	lab.ServeIfListener()
	// Labs wait more than they compute.
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p != nil && p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := p.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const prefix = "plsim"

func startLab(t *testing.T, name string, change func(*lab.Spec)) *lab.Lab {
	t.Helper()
	spec, err := lab.DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(spec)
	}
	options := lab.Options{Prefix: prefix + name, Spec: spec}
	l := against.StartLab(t, options)
	t.Cleanup(func() {
		// A collector of another test may be looking into these namespaces just now.
		ctx := context.WithoutCancel(t.Context())
		for deadline := time.Now().Add(10 * time.Second); lab.Down(ctx, options) != nil && time.Now().Before(deadline); {
		}
	})
	return l
}

func collect(t *testing.T, l *lab.Lab) *simulator.Snapshot {
	t.Helper()
	return against.Collect(t, collector.Options{Namespaces: []string{l.Prefix + "-*"}, ManifestDir: l.ClusterDir()})
}

// cell is one entry of the table: one fault, one family, one way to a backend.
type cell struct {
	fault   lab.Fault // zero: nothing is broken
	ipv6    bool
	service bool
	flow    lab.Flow
	backend netip.AddrPort

	fate    lab.Fate
	path    *verdict.Path
	verdict verdict.Verdict
	reasons []verdict.Finding
}

func (c *cell) name() string {
	way := string(c.flow)
	if c.service {
		way = "service/" + way
	}
	fault := c.fault.Name
	if fault == "" {
		fault = "none"
	}
	return fmt.Sprintf("%s/%s/%s", fault, familyName(c.ipv6), way)
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// wanted is the verdict that the kernel's fate calls for.
func (c *cell) wanted() verdict.Verdict {
	switch {
	case c.fate.Outcome != lab.Established:
		return verdict.Unreachable
	case !c.fate.FullSize:
		return verdict.Degraded
	}
	return verdict.Reachable
}

func (c *cell) check(t *testing.T) {
	t.Helper()
	if got, want := string(c.path.Outcome), c.fate.Outcome; got != want {
		t.Errorf("outcome: simulated %s, the kernel made it %s (%v)", got, want, c.fate.Err)
	}
	if got, want := c.verdict, c.wanted(); got != want {
		t.Errorf("verdict: simulated %s, the kernel made it %s", got, want)
	}
	if c.fault.Name != "" && c.fault.Touches(c.flow, c.ipv6) {
		if len(c.reasons) == 0 || string(c.reasons[0].Code) != c.fault.Reason {
			t.Errorf("first reason: %s, injected %s", codes(c.reasons), c.fault.Reason)
		}
		return
	}
	for _, f := range c.reasons {
		if f.Severity != verdict.SeverityInfo && f.Severity != verdict.SeverityWarning {
			t.Errorf("reason %s (%s) on a path without a fault: %s", f.Code, f.Severity, f.Message)
		}
	}
}

func codes(findings []verdict.Finding) string {
	if len(findings) == 0 {
		return "none"
	}
	var list []string
	for _, f := range findings {
		list = append(list, string(f.Code))
	}
	return strings.Join(list, ",")
}

// TestEveryFault is the table: every fault in both families, to the pod on the
// same node, to the pod across nodes, and through the Service to each of them.
func TestEveryFault(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := startLab(t, backend, func(s *lab.Spec) { s.IPTables = backend })
			faults := []lab.Fault{{}}
			for _, f := range lab.Faults() {
				if !f.Lossy { // a connection survives those
					faults = append(faults, f)
				}
			}
			var cells []cell
			for _, fault := range faults {
				cells = append(cells, judge(t, l, fault)...)
			}
			for i := range cells {
				c := &cells[i]
				t.Run(c.name(), c.check)
			}
			printTable(t, cells)
		})
	}
}

// judge injects one fault, and returns its row of the table.
func judge(t *testing.T, l *lab.Lab, fault lab.Fault) []cell {
	t.Helper()
	ctx := t.Context()
	if fault.Name != "" {
		if err := l.Break(ctx, fault.Name); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Fix(ctx, fault.Name); err != nil {
				t.Fatal(err)
			}
		}()
	}
	snapshot := collect(t, l)
	world := against.Compile(t, snapshot)
	cells := make([][]cell, 2)
	var group errgroup.Group
	for at, ipv6 := range []bool{false, true} {
		group.Go(func() (err error) {
			cells[at], err = judgeFamily(ctx, l, world, fault, ipv6)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("fault %q: %v", fault.Name, err)
	}
	sameFromBundle(t, snapshot, world, l)
	return append(cells[0], cells[1]...)
}

func judgeFamily(ctx context.Context, l *lab.Lab, world *simulator.World, fault lab.Fault, ipv6 bool) ([]cell, error) {
	at := 0
	if ipv6 {
		at = 1
	}
	client := lab.PodEndpoint(l.Spec.Roles.Client)
	options := lab.ConnectOptions{FullSize: true}
	flows := map[netip.AddrPort]lab.Flow{}
	var backends []netip.AddrPort
	var cells []cell
	for _, target := range []struct {
		pod  string
		flow lab.Flow
	}{{l.Spec.Roles.Near, lab.SameNode}, {l.Spec.Roles.Far, lab.AcrossNodes}} {
		pod, err := l.Spec.Pod(target.pod)
		if err != nil {
			return nil, err
		}
		to := netip.AddrPortFrom(pod.Addresses[at], pod.Ports[0].Port)
		flows[to] = target.flow
		backends = append(backends, to)
		fate, err := l.Connect(ctx, client, to, options)
		if err != nil {
			return nil, err
		}
		report, err := world.Diagnose(verdict.Query{
			From: "pod:" + l.Spec.Roles.Client, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.TCP,
		})
		if err != nil {
			return nil, err
		}
		if len(report.Paths) != 1 {
			return nil, fmt.Errorf("%d paths to pod %s: %v", len(report.Paths), target.pod, report.Reasons)
		}
		cells = append(cells, cell{
			fault: fault, ipv6: ipv6, flow: target.flow, backend: to, fate: fate,
			path: &report.Paths[0], verdict: report.Verdict, reasons: report.Reasons,
		})
	}
	service, err := l.Spec.Service("shop/api")
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(service.ClusterIPs[at], service.Ports[0].Port)
	fates, err := l.ConnectEach(ctx, client, to, backends, options)
	if err != nil {
		return nil, err
	}
	report, err := world.Diagnose(verdict.Query{
		From: "pod:" + l.Spec.Roles.Client, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.TCP,
	})
	if err != nil {
		return nil, err
	}
	for _, backend := range backends {
		path := pathTo(report, backend)
		if path == nil {
			return nil, fmt.Errorf("no path of the report leads to %s: %d paths", backend, len(report.Paths))
		}
		cells = append(cells, cell{
			fault: fault, ipv6: ipv6, service: true, flow: flows[backend], backend: backend,
			fate: fates[backend], path: path, verdict: path.Verdict, reasons: path.Findings,
		})
	}
	return cells, nil
}

func pathTo(r *verdict.Report, backend netip.AddrPort) *verdict.Path {
	at := slices.IndexFunc(r.Paths, func(p verdict.Path) bool {
		return p.Destination.IP == backend.Addr().String() && p.Destination.Port == backend.Port()
	})
	if at < 0 {
		return nil
	}
	return &r.Paths[at]
}

// sameFromBundle writes the snapshot as a bundle, and compares the reports of
// what is read from it with those of the live state.
func sameFromBundle(t *testing.T, snapshot *simulator.Snapshot, live *simulator.World, l *lab.Lab) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lab.tar.zst")
	if err := bundle.Write(path, snapshot); err != nil {
		t.Fatal(err)
	}
	read, err := bundle.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	stored := against.Compile(t, read)
	for _, q := range queries(l) {
		want, got := against.Diagnose(t, live, q), against.Diagnose(t, stored, q)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s -> %s: the bundle is diagnosed differently (-live +bundle):\n%s", q.From, q.To, diff)
		}
	}
}

// queries asks about every way in the lab that a test cares for.
func queries(l *lab.Lab) []verdict.Query {
	var list []verdict.Query
	from := "pod:" + l.Spec.Roles.Client
	for _, pod := range l.Spec.Pods {
		for _, addr := range pod.Addresses {
			for _, p := range pod.Ports {
				list = append(list, verdict.Query{From: from, To: addr.String(), Port: p.Port, Protocol: verdict.Protocol(strings.ToLower(p.Protocol))})
			}
			list = append(list, verdict.Query{From: from, To: addr.String(), Protocol: verdict.ICMP})
		}
	}
	for _, s := range l.Spec.Services {
		for _, addr := range s.ClusterIPs {
			for _, p := range s.Ports {
				list = append(list, verdict.Query{From: from, To: addr.String(), Port: p.Port, Protocol: verdict.Protocol(strings.ToLower(p.Protocol))})
			}
		}
	}
	for _, n := range l.Spec.Nodes {
		list = append(list,
			verdict.Query{From: from, To: "node:" + n.Name, Protocol: verdict.ICMP},
			verdict.Query{From: "node:" + n.Name, To: from, Protocol: verdict.ICMP})
	}
	return list
}

func printTable(t *testing.T, cells []cell) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault/family/way\tkernel\tfull size\tsimulated\tverdict\tfirst reason")
	for i := range cells {
		c := &cells[i]
		first := "-"
		if len(c.reasons) > 0 {
			first = string(c.reasons[0].Code)
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%s\t%s\t%s\n", c.name(), c.fate.Outcome, c.fate.FullSize, c.path.Outcome, c.verdict, first)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel and simulator, cell by cell:\n%s", b.String())
}
