package links

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// scenario is a topology, and connections through it.
type scenario struct {
	name  string
	needs []string // features of the kernel
	setup string   // see world.apply
	// attach puts eBPF programs where the scenario wants them.
	attach func(*testing.T, *world)
	from   string // namespace; "a" by default
	to     string // SUBNET.HOST, or unspecified
	source string // the client is bound to it, if it is not empty
	only   netstack.Family
	// protocols are those to try; all by default.
	protocols []string
	// again has each connection made twice, and the second judged: a tunnel tells
	// of an error with the packet after the one that met it.
	again bool
	// first has only the first connection judged, with more patience: it may teach its sender the MTU of the path.
	first bool
	// either says that the outcome must be unknown, and the verdict what the kernel makes it.
	either bool
	// untold has sockets not tell whether they are transparent, as of kernels before Linux 5.10.
	untold bool
	// opaque says that the verdict must be unknown, whatever the kernel does.
	opaque bool
	// reason is the first one; empty for a path that works. small is that of
	// protocols without full-size packets, where it differs.
	reason verdict.Code
	small  *verdict.Code
	// rule stands in the first finding, if it is not empty.
	rule string
}

var none verdict.Code

// namespaces are those that the scenario names: a to c are ends, m and n the
// nodes between them.
func (s *scenario) namespaces() []string {
	var list []string
	for _, short := range []string{"a", "b", "c", "m", "n"} {
		if strings.Contains(s.setup, "\t"+short+" ") || strings.Contains(s.setup, short+":") || strings.Contains(s.setup, "{"+short+"}") {
			list = append(list, short)
		}
	}
	return list
}

func (s *scenario) run(t *testing.T, name string) {
	need(t, s.needs...)
	w := newWorld(t, name, s.namespaces()...)
	families := bothFamilies
	if s.only != 0 {
		families = []netstack.Family{s.only}
	}
	w.apply(s.setup, families)
	w.settle()
	if s.attach != nil {
		s.attach(t, w)
	}
	snapshot := w.collect()
	for _, ns := range snapshot.Namespaces {
		for i := range ns.Sockets {
			if s.untold {
				ns.Sockets[i].Transparent = nil
			}
		}
	}
	live := against.Compile(t, snapshot)
	read, err := against.ThroughBundle(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	stored := against.Compile(t, read)
	protocols := s.protocols
	if protocols == nil {
		protocols = []string{"tcp", "udp", "icmp"}
	}
	from := s.from
	if from == "" {
		from = "a"
	}
	var group errgroup.Group
	for _, f := range families {
		for _, proto := range protocols {
			to := netip.AddrPortFrom(netip.MustParseAddr(address(s.to, f)), 80)
			query := verdict.Query{From: "ns:" + w.netns(from), To: to.Addr().String(), Port: 80, Protocol: verdict.Protocol(proto)}
			if proto == "icmp" {
				query.Port = 0
			}
			var source netip.Addr
			if s.source != "" {
				source = netip.MustParseAddr(address(s.source, f))
				query.From = source.String()
			}
			report := against.Diagnose(t, live, query)
			if diff := cmp.Diff(report, against.Diagnose(t, stored, query)); diff != "" {
				t.Errorf("%s %s: the report of a bundle differs (-live +bundle):\n%s", f, proto, diff)
			}
			group.Go(func() error {
				options := lab.ConnectOptions{Protocol: proto, FullSize: proto == "tcp", Timeout: timeout, Source: source}
				if s.first && report.Verdict == verdict.Reachable {
					options.Timeout = tries * timeout
				}
				fate, err := lab.ConnectFrom(t.Context(), w.netns(from), to, options)
				for try := 0; err == nil && (try == 0 && s.again || try < tries && !s.first && hasty(fate, report)); try++ {
					fate, err = lab.ConnectFrom(t.Context(), w.netns(from), to, options)
				}
				if err == nil {
					s.agree(t, fmt.Sprintf("%s %s", f, proto), proto, fate, report)
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// timeout is how long a connection waits, and tries how often it is made again
// when it ends in silence where something is expected to be heard: on a busy
// machine, a neighbour may be given up later than that.
const (
	timeout = 1500 * time.Millisecond
	tries   = 3
)

func hasty(fate lab.Fate, report *verdict.Report) bool {
	if len(report.Paths) != 1 || report.Verdict == verdict.Unknown {
		return false
	}
	path := &report.Paths[0]
	return fate.Outcome == lab.Timeout && path.Outcome != verdict.OutcomeTimeout && path.Outcome != verdict.OutcomeDelivered ||
		fate.Outcome == lab.Established && !fate.FullSize && path.Verdict == verdict.Reachable
}

// agree compares the report with the fate of the real connection.
func (s *scenario) agree(t *testing.T, name, proto string, fate lab.Fate, report *verdict.Report) {
	t.Helper()
	if len(report.Paths) != 1 {
		t.Errorf("%s: %d paths: %v", name, len(report.Paths), report.Reasons)
		return
	}
	path := &report.Paths[0]
	reason := s.reason
	if s.small != nil && proto != "tcp" {
		reason = *s.small
	}
	if len(path.Findings) > 0 && !strings.Contains(path.Findings[0].Message, s.rule) {
		t.Errorf("%s: the first finding does not name %q: %s", name, s.rule, path.Findings[0].Message)
	}
	if s.opaque {
		against.FirstReason(t, name, path, reason)
		if path.Verdict != verdict.Unknown {
			t.Errorf("%s: verdict %s where it cannot be known (the kernel made it %s): %v", name, path.Verdict, fate.Outcome, path.Findings)
		}
		return
	}
	if s.either {
		against.FirstReason(t, name, path, reason)
		if path.Outcome != verdict.OutcomeUnknown || path.Verdict != verdict.Unreachable || fate.Outcome == lab.Established {
			t.Errorf("%s: simulated %s, %s; the kernel made it %s: %v", name, path.Outcome, path.Verdict, fate.Outcome, path.Findings)
		}
		return
	}
	if s.again && proto != "tcp" && path.Outcome == verdict.OutcomeUnknown {
		// The second one hears what the first has taught the tunnel: which of them is asked about, is not known.
		against.FirstReason(t, name, path, reason)
		if path.Verdict != verdict.Unreachable || fate.Outcome != string(verdict.OutcomeHostUnreachable) {
			t.Errorf("%s: simulated %s; the kernel made it %s: %v", name, path.Verdict, fate.Outcome, path.Findings)
		}
		return
	}
	against.Agree(t, name, proto, fate, path, reason)
}

// runAll runs the scenarios of one kind at once.
func runAll(t *testing.T, kind string, scenarios []scenario) {
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, fmt.Sprintf("%s%d", kind, i))
		})
	}
}

func TestBridges(t *testing.T)       { runAll(t, "br", bridges) }
func TestVXLAN(t *testing.T)         { runAll(t, "vx", vxlans) }
func TestMACVLAN(t *testing.T)       { runAll(t, "mv", macvlans) }
func TestARP(t *testing.T)           { runAll(t, "ar", arps) }
func TestHopLimits(t *testing.T)     { runAll(t, "hl", hopLimits) }
func TestPolicies(t *testing.T)      { runAll(t, "po", policies) }
func TestSelves(t *testing.T)        { runAll(t, "se", selves) }
func TestIPv6Off(t *testing.T)       { runAll(t, "6o", ipv6Off) }
func TestForeign(t *testing.T)       { runAll(t, "fo", foreign) }
func TestVXLANSettings(t *testing.T) { runAll(t, "vs", vxlanSettings) }
func TestPathMTUs(t *testing.T)      { runAll(t, "pm", pathMTUs) }
func TestARPless(t *testing.T)       { runAll(t, "al", arpless) }
func TestQueues(t *testing.T)        { runAll(t, "qu", queued) }

// The kernel of the virtual machine has these; that of the host may not.
func TestVLAN(t *testing.T)     { runAll(t, "vl", vlans) }
func TestBonds(t *testing.T)    { runAll(t, "bo", bonds) }
func TestTunnels(t *testing.T)  { runAll(t, "tu", ipTunnels) }
func TestIPVLAN(t *testing.T)   { runAll(t, "iv", ipvlans) }
func TestFilters(t *testing.T)  { runAll(t, "fi", filters) }
func TestVRFs(t *testing.T)     { runAll(t, "vr", vrfs) }
func TestPrograms(t *testing.T) { runAll(t, "pr", programs) }
func TestProxies(t *testing.T)  { runAll(t, "px", proxies) }

func TestBridgeRejects(t *testing.T) { runAll(t, "rj", bridgeRejects) }

// They do not run beside others.
func TestControlGroups(t *testing.T) {
	for i, s := range controlGroups {
		t.Run(s.name, func(t *testing.T) { s.run(t, fmt.Sprintf("cg%d", i)) })
	}
}
