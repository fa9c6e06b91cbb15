package collector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// The tests of this package build network namespaces with known contents and
// compare what is collected with it: the kernel is the judge.

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
}

// newNetns makes a network namespace that is gone after the test, with lo up,
// and returns its name.
func newNetns(t testing.TB, name string) string {
	t.Helper()
	needRoot(t)
	full := fmt.Sprintf("plcoll%d-%s", os.Getpid(), name)
	command(t, "ip", "netns", "add", full)
	t.Cleanup(func() {
		// A test may have deleted it already.
		if _, err := os.Stat("/run/netns/" + full); err == nil {
			command(t, "ip", "netns", "del", full)
		}
	})
	inside(t, full, "ip", "link", "set", "lo", "up")
	return full
}

func command(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func inside(t testing.TB, ns string, args ...string) string {
	t.Helper()
	return command(t, append([]string{"ip", "netns", "exec", ns}, args...)...)
}

// script runs lines of commands in a namespace.
func script(t testing.TB, ns, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if fields := strings.Fields(line); len(fields) > 0 {
			inside(t, ns, fields...)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// collectSnapshot collects with options that see nothing but the test's namespaces.
func collectSnapshot(t testing.TB, c *Collector) *simulator.Snapshot {
	t.Helper()
	snapshot, err := c.Collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// collectNetns collects one namespace, all of whose parts must be readable.
func collectNetns(t testing.TB, name string, parts ...netstack.Part) *netstack.Namespace {
	t.Helper()
	snapshot := collectSnapshot(t, New(Options{Namespaces: []string{name}, Parts: parts}))
	if len(snapshot.Namespaces) != 1 || snapshot.Namespaces[0].Name != name {
		t.Fatalf("collected %d namespaces, want %s alone; failures: %v", len(snapshot.Namespaces), name, snapshot.Failures)
	}
	ns := snapshot.Namespaces[0]
	for part, status := range ns.Parts {
		if status.State == netstack.StateFailed {
			t.Fatalf("%s of %s: %s", part, name, status.Detail)
		}
	}
	return ns
}

var comparers = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, comparers); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

// eventually waits until a condition of the kernel holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// operational waits until the kernel has noticed the carrier of devices: it does
// so later than whoever set them up (linkwatch_event), a bridge later than its
// port, and the IPv6 routes of a device come only then.
func operational(t testing.TB, ns string, devs ...string) {
	t.Helper()
	for _, dev := range devs {
		eventually(t, dev+" is up", func() bool {
			return strings.TrimSpace(inside(t, ns, "cat", "/sys/class/net/"+dev+"/operstate")) == "up"
		})
	}
}

func address4(s string) netip.Addr                  { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix                  { return netip.MustParsePrefix(s) }
func hops(h ...netstack.NextHop) []netstack.NextHop { return h }

func find[T any](t testing.TB, what string, all []T, match func(*T) bool) T {
	t.Helper()
	for i := range all {
		if match(&all[i]) {
			return all[i]
		}
	}
	t.Fatalf("%s was not collected", what)
	panic("unreachable")
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
