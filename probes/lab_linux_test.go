//go:build amd64 || arm64

package probes

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netcookie"
	"github.com/plumbline-net/plumbline/internal/probetest"
)

// deadline is generous: it only ends a test that fails.
const deadline = 20 * time.Second

// A lab is three namespaces in a row: two pods, "a" and "b", joined by a node "r".
//
//	a (10.77.1.2, fd77:1::2) eth0 -- toa (.1) r tob (.1) -- eth0 b (10.77.2.2, fd77:2::2)
//
// Other tests may drop packets on the same kernel at the same time: a lab only looks at its own namespaces.
type lab struct {
	t       *testing.T
	id      string
	cookies map[string]uint64 // by the names above
	opened  []int             // sockets
}

// labs numbers the labs of this process, some of which exist at the same time.
var labs atomic.Uint32

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and eBPF need root")
	}
	l := &lab{t: t, id: fmt.Sprintf("plprobe-%d-%d", os.Getpid(), labs.Add(1)), cookies: map[string]uint64{}}
	t.Cleanup(func() {
		for _, fd := range l.opened {
			_ = unix.Close(fd)
		}
	})
	for _, ns := range []string{"a", "r", "b"} {
		l.addNamespace(ns)
	}
	for i, ns := range []string{"a", "b"} {
		i++
		l.ip("r", "link add to%s type veth peer name eth0 netns %s", ns, l.netns(ns))
		for _, end := range []struct {
			ns, dev string
			host    int
		}{{"r", "to" + ns, 1}, {ns, "eth0", 2}} {
			l.ip(end.ns, "addr add 10.77.%d.%d/24 dev %s", i, end.host, end.dev)
			l.ip(end.ns, "addr add fd77:%d::%d/64 dev %s nodad", i, end.host, end.dev)
			l.ip(end.ns, "link set %s up", end.dev)
		}
		l.ip(ns, "route add default via 10.77.%d.1", i)
		l.ip(ns, "-6 route add default via fd77:%d::1", i)
	}
	l.sysctl("r", "net.ipv4.ip_forward", "1")
	l.sysctl("r", "net.ipv6.conf.all.forwarding", "1")
	l.resolveNeighbours()
	return l
}

func (l *lab) netns(ns string) string { return l.id + "-" + ns }

func (l *lab) addNamespace(ns string) {
	l.t.Helper()
	l.run("ip", "netns", "add", l.netns(ns))
	l.t.Cleanup(func() { l.run("ip", "netns", "del", l.netns(ns)) })
	l.ip(ns, "link set lo up")
	cookie, err := netcookie.At("/run/netns/" + l.netns(ns))
	if err != nil {
		l.t.Fatal(err)
	}
	l.cookies[ns] = cookie
}

// resolveNeighbours makes the addresses of the path usable and known, so that a test's packets are the only ones.
func (l *lab) resolveNeighbours() {
	l.t.Helper()
	for _, link := range []struct{ ns, dev, peer, peerDev, v4, v6 string }{
		{"a", "eth0", "r", "toa", "10.77.1.1", "fd77:1::1"},
		{"r", "toa", "a", "eth0", "10.77.1.2", "fd77:1::2"},
		{"r", "tob", "b", "eth0", "10.77.2.2", "fd77:2::2"},
		{"b", "eth0", "r", "tob", "10.77.2.1", "fd77:2::1"},
	} {
		var mac string
		l.in(link.peer, func() {
			text, err := exec.Command("ip", "-br", "link", "show", link.peerDev).Output()
			if err != nil {
				l.t.Fatal(err)
			}
			mac = strings.Fields(string(text))[2]
		})
		for _, address := range []string{link.v4, link.v6} {
			l.ip(link.ns, "neigh replace %s lladdr %s dev %s nud permanent", address, mac, link.dev)
		}
	}
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func (l *lab) exec(ns, format string, args ...any) {
	l.t.Helper()
	l.run("ip", append([]string{"netns", "exec", l.netns(ns)}, strings.Fields(fmt.Sprintf(format, args...))...)...)
}

func (l *lab) ip(ns, format string, args ...any) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", l.netns(ns)}, strings.Fields(fmt.Sprintf(format, args...))...)...)
}

func (l *lab) sysctl(ns, name, value string) {
	l.t.Helper()
	l.in(ns, func() {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			l.t.Error(err)
		}
	})
}

// in runs fn in a namespace, on a thread that is not used again. Sockets that fn makes stay in that namespace.
func (l *lab) in(ns string, fn func()) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + l.netns(ns))
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatalf("enter %s: %v", ns, err)
	}
}

// pods names the namespaces of a lab and, for its node, the interfaces that lead to its pods. All else is "elsewhere".
type pods map[place]string

func (p pods) Pod(cookie uint64, ifindex uint32) (Subject, bool) {
	for _, at := range []place{{cookie: cookie, in: ifindex}, {cookie: cookie}} {
		if name, ok := p[at]; ok {
			if name == "" {
				return Subject{}, true
			}
			return Subject{Namespace: "lab", Pod: name}, true
		}
	}
	return Subject{Namespace: "machine", Pod: "elsewhere"}, true
}

// namespaces attributes each namespace of the lab to a pod of the same name.
func (l *lab) namespaces() pods {
	p := pods{}
	for name, cookie := range l.cookies {
		p[place{cookie: cookie}] = name
	}
	return p
}

// open attaches the probes and returns them as a watch, which starts at zero.
func (l *lab) open(o Options) *watch {
	l.t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	p, err := Open(o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			l.t.Error(err)
		}
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p)
	return &watch{t: l.t, probes: p, registry: registry}
}

// watch reads the metrics of the lab's pods.
type watch struct {
	t        *testing.T
	probes   *Probes
	registry *prometheus.Registry
	base     map[string]uint64
}

// all returns the values of a metric by its label values, "namespace" left out, in the order of the label names: "pod protocol reason" for
// drops, "kind pod" for retransmits.
func (w *watch) all(metric string) map[string]uint64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	values := map[string]uint64{}
	for _, family := range families {
		if family.GetName() != metric {
			continue
		}
		for _, m := range family.Metric {
			values[key(m)] = uint64(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return values
}

func key(m *dto.Metric) string {
	var parts []string
	for _, label := range m.Label {
		if label.GetName() != "namespace" {
			parts = append(parts, label.GetValue())
		}
	}
	return strings.Join(parts, " ")
}

// drops returns what the lab's pods dropped since the last start, of one protocol.
func (w *watch) drops(protocol string) map[string]uint64 {
	w.t.Helper()
	drops := w.all(dropsMetric)
	maps.DeleteFunc(drops, func(key string, _ uint64) bool {
		// Without a pod are packets of which the kernel no longer knows the namespace, and not all of these are ours.
		return strings.HasPrefix(key, " ") || strings.HasPrefix(key, "elsewhere ") || !strings.Contains(key, " "+protocol+" ")
	})
	for key, before := range w.base {
		if drops[key] -= before; drops[key] == 0 {
			delete(drops, key)
		}
	}
	return drops
}

// start makes drops count from here.
func (w *watch) start(protocol string) {
	w.t.Helper()
	w.base = nil
	w.base = w.drops(protocol)
}

// wantDrops waits until the lab's pods dropped as many packets of the protocol as are wanted, and requires that it is these and no others.
func (w *watch) wantDrops(protocol string, want map[string]uint64) {
	w.t.Helper()
	if err := w.awaitDrops(protocol, want); err != nil {
		w.t.Error(err)
	}
}

func (w *watch) awaitDrops(protocol string, want map[string]uint64) error {
	var got map[string]uint64
	describe := func() string { return fmt.Sprintf("%s drops %v, want %v", protocol, got, want) }
	err := await(func() bool {
		got = w.drops(protocol)
		return total(got) >= total(want)
	}, describe)
	if err == nil && !maps.Equal(got, want) {
		err = errors.New(describe())
	}
	return errors.Join(err, probetest.Compare(got, want))
}

func total(counts map[string]uint64) uint64 { return sum(slices.Collect(maps.Values(counts))) }

// eventually polls until the condition holds.
func eventually(t *testing.T, condition func() bool, describe func() string) {
	t.Helper()
	if err := await(condition, describe); err != nil {
		t.Fatal(err)
	}
}

func await(condition func() bool, describe func() string) error {
	for end := time.Now().Add(deadline); !condition(); {
		if time.Now().After(end) {
			return fmt.Errorf("timed out: %s", describe())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
