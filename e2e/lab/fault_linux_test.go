package lab

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// newLab builds a lab of a test's own.
func newLab(t *testing.T, prefix string) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(ErrNotRoot)
	}
	if err := Down(t.Context(), Options{Prefix: prefix}); err != nil { // what a killed test left
		t.Fatal(err)
	}
	l, err := Up(t.Context(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// cell is one place of the table of fates: what the client in web-0 does.
type cell struct {
	ipv6    bool
	service bool
	flow    Flow
}

func (c cell) String() string {
	way := "direct"
	if c.service {
		way = "service"
	}
	return fmt.Sprintf("%s %s %s", [...]family{ipv4, ipv6}[b2i(c.ipv6)], way, c.flow)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

var allCells = func() (cells []cell) {
	for _, v6 := range []bool{false, true} {
		for _, service := range []bool{false, true} {
			for _, flow := range []Flow{SameNode, AcrossNodes} {
				cells = append(cells, cell{v6, service, flow})
			}
		}
	}
	return cells
}()

// fates makes a connection for every cell.
func fates(ctx context.Context, l *Lab) (map[cell]Fate, error) {
	client := PodEndpoint(l.Spec.Roles.Client)
	svc, err := l.Spec.Service("shop/api")
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	out := map[cell]Fate{}
	keep := func(c cell, f Fate) {
		mu.Lock()
		defer mu.Unlock()
		out[c] = f
	}
	g, ctx := errgroup.WithContext(ctx)
	for f, v6 := range []bool{false, true} {
		backends := map[Flow]netip.AddrPort{
			SameNode:    netip.AddrPortFrom(l.near().Addresses[f], 8080),
			AcrossNodes: netip.AddrPortFrom(l.far().Addresses[f], 8080),
		}
		for flow, to := range backends {
			g.Go(func() error {
				fate, err := l.Connect(ctx, client, to, ConnectOptions{FullSize: true})
				keep(cell{v6, false, flow}, fate)
				return err
			})
		}
		g.Go(func() error {
			to := netip.AddrPortFrom(svc.ClusterIPs[f], 80)
			each, err := l.ConnectEach(ctx, client, to, []netip.AddrPort{backends[SameNode], backends[AcrossNodes]}, ConnectOptions{FullSize: true})
			for flow, to := range backends {
				keep(cell{v6, true, flow}, each[to])
			}
			return err
		})
	}
	return out, g.Wait()
}

// want is the fate of connections that a fault touches, as it was measured on clusters of real Kubernetes parts.
type want struct {
	outcome  string
	fullSize bool
}

var unharmed = want{Established, true}

var touched = map[string]want{
	"missing-route":     {Timeout, false},
	"blackhole-route":   {Timeout, false},
	"wrong-gateway":     {HostUnreachable, false},
	"mtu-black-hole":    {Established, false},
	"rp-filter":         {Timeout, false},
	"forwarding-off":    {Timeout, false},
	"drop-rule":         {Timeout, false},
	"nft-drop":          {Timeout, false},
	"network-policy":    {Timeout, false},
	"link-down":         {HostUnreachable, false},
	"listener-gone":     {Refused, false},
	"listener-loopback": {Refused, false},
	"backend-dead":      {Refused, false},
}

func checkFates(t *testing.T, l *Lab, got map[cell]Fate, expect func(cell) want) {
	t.Helper()
	for _, c := range allCells {
		f, w := got[c], expect(c)
		if f.Outcome != w.outcome || f.FullSize != w.fullSize {
			t.Errorf("%s: got %s, full size %t (%v), want %s, full size %t", c, f.Outcome, f.FullSize, f.Err, w.outcome, w.fullSize)
		}
		peer := ""
		if w.outcome == Established {
			peer = map[Flow]string{SameNode: l.near().ID(), AcrossNodes: l.far().ID()}[c.flow]
		}
		if f.Peer != peer {
			t.Errorf("%s: answered by %q, want %q", c, f.Peer, peer)
		}
	}
}

// TestEveryFaultDecidesTheFateOfTheFlowsItTouchesAndIsUndoneExactly is the table of fates: the kernel against what each
// Fault says of itself. A lab for each fault lets them run side by side.
func TestEveryFaultDecidesTheFateOfTheFlowsItTouchesAndIsUndoneExactly(t *testing.T) {
	var mu sync.Mutex
	table := map[string]map[cell]Fate{}
	t.Run("faults", func(t *testing.T) {
		for i, f := range Faults() {
			if f.Lossy {
				continue
			}
			w, ok := touched[f.Name]
			if !ok {
				t.Errorf("fault %s has no known fate", f.Name)
				continue
			}
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				l := newLab(t, fmt.Sprintf("pllab-f%d", i))
				before := snapshot(t, l)
				if err := l.Break(ctx, f.Name); err != nil {
					t.Fatal(err)
				}
				got, err := fates(ctx, l)
				if err != nil {
					t.Fatal(err)
				}
				checkFates(t, l, got, func(c cell) want {
					if f.Touches(c.flow, c.ipv6) {
						return w
					}
					return unharmed
				})
				if again, err := Open(l.Prefix); err != nil || !slices.Equal(again.ActiveFaults(), []string{f.Name}) {
					t.Errorf("another process sees the faults %v (%v), want %s", again.ActiveFaults(), err, f.Name)
				}
				if err := l.Fix(ctx, f.Name); err != nil {
					t.Fatal(err)
				}
				after := snapshot(t, l)
				for _, key := range slices.Sorted(maps.Keys(before)) {
					if diff := gocmp.Diff(before[key], after[key]); diff != "" {
						t.Errorf("fix leaves a difference in %s (-before +after):\n%s", key, diff)
					}
				}
				if len(before) != len(after) {
					t.Errorf("fix leaves %d tables and files, before there were %d", len(after), len(before))
				}
				healed, err := fates(ctx, l)
				if err != nil {
					t.Fatal(err)
				}
				checkFates(t, l, healed, func(cell) want { return unharmed })
				mu.Lock()
				defer mu.Unlock()
				table[f.Name] = got
			})
		}
	})
	t.Log("\n" + printTable(table))
}

func printTable(table map[string]map[cell]Fate) string {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprint(tw, "fault")
	for _, c := range allCells {
		fmt.Fprintf(tw, "\t%s", c)
	}
	fmt.Fprintln(tw)
	for _, f := range Faults() {
		if table[f.Name] == nil {
			continue
		}
		fmt.Fprint(tw, f.Name)
		for _, c := range allCells {
			text := table[f.Name][c].Outcome
			if text == Established && !table[f.Name][c].FullSize {
				text += " (small)"
			}
			fmt.Fprintf(tw, "\t%s", text)
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
	return b.String()
}

// volatile are sysctls that change by themselves.
var volatile = regexp.MustCompile(`net/netfilter/nf_conntrack_count|/stable_secret|/retrans_time$|net/ipv4/route/|net/ipv6/route/flush`)

// running are counters, comments and timers in the output of commands.
var running = regexp.MustCompile(`packets \d+ bytes \d+|\[\d+:\d+\]|^#.*|_timer +[0-9.]+|message_age +[0-9.]+`)

// snapshot is everything in the nodes and pods of a lab that decides about packets, sorted.
func snapshot(t *testing.T, l *Lab) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, name := range l.netnsNames() {
		for _, command := range []string{
			"ip -o -d link", "ip -o addr", "ip -N route show table all", "ip -6 -N route show table all", "ip rule", "ip -6 rule",
			"nft list ruleset", "iptables-nft-save", "ip6tables-nft-save", "bridge -d link",
		} {
			text, err := run(t.Context(), name, nil, strings.Fields(command)...)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(string(text)) {
				lines = append(lines, running.ReplaceAllString(strings.TrimSpace(line), ""))
			}
			if strings.HasPrefix(command, "ip ") { // no order decides there
				slices.Sort(lines)
			}
			out[name+": "+command] = lines
		}
		out[name+": sysctl"] = sysctls(t, name)
	}
	manifests, err := os.ReadDir(l.ClusterDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests {
		data, err := os.ReadFile(filepath.Join(l.ClusterDir(), m.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out["cluster/"+m.Name()] = strings.Split(string(data), "\n")
	}
	for _, li := range l.state.Listeners {
		out["listeners"] = append(out["listeners"], fmt.Sprint(li.Pod, " loopback ", li.Loopback))
	}
	slices.Sort(out["listeners"])
	return out
}

func sysctls(t *testing.T, name string) (lines []string) {
	t.Helper()
	err := InNetns(name, func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || volatile.MatchString(path) {
				return err
			}
			if value, err := os.ReadFile(path); err == nil { // some are for writing only
				lines = append(lines, path+"="+strings.TrimSpace(string(value)))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lines, cmp.Compare[string])
	return lines
}
