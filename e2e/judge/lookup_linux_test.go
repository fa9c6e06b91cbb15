package judge

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

var (
	lookups    = flag.Int("lookups", 20000, "look-ups of routes to judge")
	lookupFrom = flag.Uint64("lookup-first", 0, "index of the first world of look-ups")
)

// lookupsInWorld is how many look-ups are judged in one world.
const lookupsInWorld = 1000

// TestLookups compares look-ups of the kernel and of simulator/fib in random
// worlds of rules, routes, nexthop objects and addresses.
func TestLookups(t *testing.T) {
	needRoot(t)
	kinds, decided := make(map[string]int), coverage{}
	judged, unknown, wrong, worlds := 0, 0, 0, 0
	for index := *lookupFrom; index < *lookupFrom+uint64(*lookups/lookupsInWorld); index++ {
		g, setup := drawLookups(*seed, index)
		w := &lookupWorld{Name: fmt.Sprintf("pljl%d-%d", os.Getpid(), index), Setup: setup}
		n := judgeLookups(t, w, g, index, kinds, decided)
		if wrong += n; n > 0 {
			worlds++
		}
		if worlds == 5 {
			break
		}
	}
	for kind, n := range kinds {
		judged += n
		if strings.Contains(kind, "unknown") {
			unknown += n
		}
	}
	report := func(w io.Writer) {
		decided.printLookups(w, kinds)
		fmt.Fprintf(w, "\n%d look-ups of routes, seed %d: %d disagreed, %d unknown\n", judged, *seed, wrong, unknown)
	}
	report(os.Stdout)
	if *logFile != "" {
		f, err := os.OpenFile(*logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) // after the report of TestJudge
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintln(f)
		report(f)
	}
	if unknown*100 > judged {
		t.Errorf("%d of %d look-ups are unknown", unknown, judged)
	}
	if seldom := decided.seldomInLookups(); judged >= 200000 && len(seldom) > 0 {
		t.Errorf("decided less than %d look-ups: %s", enough, strings.Join(seldom, ", "))
	}
}

// TestFlowsSpreadAsTheKernelSpreadsThem counts which next hop many flows take.
// The kernel's hash has a fixed seed here.
func TestFlowsSpreadAsTheKernelSpreadsThem(t *testing.T) {
	needRoot(t)
	setup := []string{
		"sysctl net.ipv4.fib_multipath_hash_seed=1", "sysctl net.ipv4.fib_multipath_hash_policy=1", "sysctl net.ipv6.fib_multipath_hash_policy=1",
		"sysctl net.ipv4.ip_forward=1", "sysctl net.ipv6.conf.all.forwarding=1", "sysctl net.ipv4.conf.default.rp_filter=0", "sysctl net.ipv4.conf.all.rp_filter=0",
		"sysctl net.ipv4.conf.default.ignore_routes_with_linkdown=1", "sysctl net.ipv6.conf.default.ignore_routes_with_linkdown=1",
		"link set lo up",
	}
	for i := range 4 {
		setup = append(setup, fmt.Sprintf("link add d%d type veth peer name p%d", i, i), fmt.Sprintf("link set d%d up", i), fmt.Sprintf("link set p%d up", i))
		setup = append(setup, fmt.Sprintf("addr add 10.%d.0.1/24 dev d%d", i, i), fmt.Sprintf("addr add fd00:%d::1/64 dev d%d nodad", i, i))
		setup = append(setup, fmt.Sprintf("nexthop add id %d via 10.%d.0.9 dev d%d", 1+i, i, i), fmt.Sprintf("nexthop add id %d via fd00:%d::9 dev d%d", 11+i, i, i))
	}
	setup = append(setup,
		"nexthop add id 21 group 1,1/2,2/4,5", "nexthop add id 22 group 11,250/12,100/14,200",
		"route add 10.10.0.0/16 nexthop via 10.0.0.9 weight 1 nexthop via 10.1.0.9 weight 2 nexthop via 10.2.0.9 weight 8 nexthop via 10.3.0.9 weight 3",
		"route add 10.11.0.0/16 nhid 21",
		"-6 route add fd10::/16 nexthop via fd00:0::9 weight 1 nexthop via fd00:1::9 weight 2 nexthop via fd00:2::9 weight 8 nexthop via fd00:3::9 weight 3",
		"-6 route add fd11::/16 nhid 22",
		"link set d0 group 3", "-6 rule add to fd12::/16 pref 5 lookup main suppress_ifgroup 3", "-6 rule add to fd12::/16 pref 6 lookup 50",
		"-6 route add fd12::/16 nexthop via fd00:0::9 weight 3 nexthop via fd00:1::9 weight 2", "-6 route add fd12::/16 via fd00:3::9 table 50",
	)
	w := &lookupWorld{Name: fmt.Sprintf("pljs%d", os.Getpid()), Setup: setup}
	defer w.close()
	if err := w.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "-n", w.Name, "link", "set", "p2", "down").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := w.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	for _, c := range []struct{ name, src, dst, iif string }{
		{"an IPv4 flow that has no address", "", "10.10.0.1", ""},
		{"an IPv4 flow with the address of one of the ways", "10.1.0.1", "10.10.0.1", ""},
		{"a forwarded IPv4 flow", "198.18.0.1", "10.10.0.1", "d0"},
		{"IPv4 over a group", "", "10.11.0.1", ""},
		{"IPv4 over a group with an address", "10.1.0.1", "10.11.0.1", ""},
		{"IPv6", "", "fd10::1", ""},
		{"IPv6 with an address", "fd00:1::1", "fd10::1", ""},
		{"a forwarded IPv6 flow", "2001:db8::1", "fd10::1", "d3"},
		{"IPv6 over a group", "", "fd11::1", ""},
		{"IPv6 with one of the ways suppressed", "", "fd12::1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const flows = 6000
			k := fib.Key{Dst: addr(c.dst), IIF: c.iif, Protocol: netstack.ProtoTCP, UID: new(uint32)}
			if c.src != "" {
				k.Src = addr(c.src)
			}
			seen := make(map[string]int)
			for i := range flows {
				k.SrcPort, k.DstPort = uint16(1000+i), uint16(1+i%7)
				kernel, err := w.ask(&k)
				if err != nil {
					t.Fatal(err)
				}
				seen[kernel]++
			}
			s := simulate(w.fib, k)
			if len(s.shares) == 0 {
				t.Fatalf("unknown: %s, the kernel says %v", s.unknown, seen)
			}
			for i, a := range s.answers {
				deviation := 5 * math.Sqrt(s.shares[i]*(1-s.shares[i])/flows)
				if got := float64(seen[a]) / flows; math.Abs(got-s.shares[i]) > deviation {
					t.Errorf("%s: %.3f of the flows, simulated %.3f", a, got, s.shares[i])
				}
				delete(seen, a)
			}
			for a, n := range seen {
				t.Errorf("%s: %d flows, none simulated", a, n)
			}
		})
	}
}

// TestLookupRegressions repeats the saved look-ups.
func TestLookupRegressions(t *testing.T) {
	needRoot(t)
	paths, err := filepath.Glob("testdata/lookups/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no look-ups saved", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			c, err := readLookupCase(path)
			if err != nil {
				t.Fatal(err)
			}
			text, kernel, err := c.try(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if text != "" {
				t.Error(text)
			}
			if want := "unknown: " + c.Unknown; strings.HasPrefix(kernel, "unknown") && kernel != want || c.Unknown != "" && kernel != want {
				t.Errorf("%q, want %q", kernel, want)
			}
		})
	}
}

// judgeLookups judges one world, counts what decided, and says how often the simulator was wrong. One
// disagreement of a world is saved, if there is a place for it.
func judgeLookups(t *testing.T, w *lookupWorld, g *lookupGenerator, index uint64, kinds map[string]int, decided coverage) int {
	t.Helper()
	defer w.close()
	if err := w.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong, without := 0, lookupsWithout(w.state)
	for range lookupsInWorld {
		k := g.key()
		for !w.sends(&k) {
			k = g.key()
		}
		text, kernel, err := w.judge(k)
		if err != nil {
			t.Fatal(err)
		}
		family := "IPv4 "
		if k.Dst.Is6() {
			family = "IPv6 "
		}
		kind, _, _ := strings.Cut(kernel, " table")
		kinds[family+kind]++
		decided.countLookup(k, simulate(w.fib, k), without, text == "")
		if text == "" {
			continue
		}
		if wrong++; wrong > 5 {
			break
		}
		t.Errorf("world %d: %s", index, text)
		if wrong == 1 && *save != "" {
			saveLookup(t, &lookupCase{Setup: w.Setup, Key: k, Kernel: kernel}, fmt.Sprintf("seed-%d-lookups-%d.json", *seed, index))
		}
	}
	if wrong > 0 && *describe {
		t.Logf("world %d:\n%s", index, strings.Join(w.Setup, "\n"))
	}
	return wrong
}

func saveLookup(t *testing.T, c *lookupCase, name string) {
	t.Helper()
	if !*noShrink {
		c.shrink(t.Context())
	}
	path := filepath.Join(*save, name)
	if err := errors.Join(os.MkdirAll(*save, 0o755), writeJSON(path, c)); err != nil {
		t.Error(err)
	}
	t.Logf("saved %s:\n%s", path, strings.Join(c.Setup, "\n"))
}
