package counters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/probetest"
)

// retransmit is a series of plumbline_tcp_retransmits_total.
type retransmit struct {
	place, pod, kind string
}

var (
	clientData    = retransmit{"node-1", "shop/web-0", "data"}
	clientSYN     = retransmit{"node-1", "shop/web-0", "syn"}
	backendData   = retransmit{"node-2", "shop/api-1", "data"}
	backendSYNACK = retransmit{"node-2", "shop/api-1", "synack"}
)

// breaks injects a fault of the lab.
func breaks(name string) func(context.Context, *lab.Lab) error {
	return func(ctx context.Context, l *lab.Lab) error { return l.Break(ctx, name) }
}

// loseSYNACK makes the far node drop the answer to each SYN.
func loseSYNACK(ctx context.Context, l *lab.Lab) error {
	for _, iptables := range []string{"iptables-", "ip6tables-"} {
		_, err := l.Output(ctx, lab.NodeEndpoint("node-2"), iptables+l.Spec.IPTables, "-w", "-I", "FORWARD", "-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN,ACK", "-j", "DROP")
		if err != nil {
			return err
		}
	}
	return nil
}

func TestLossShowsAsRetransmits(t *testing.T) {
	for _, c := range []struct {
		lost      string
		lose      func(context.Context, *lab.Lab) error
		timeout   time.Duration
		outcome   string       // what the client sees; empty: that is left to chance
		must, may []retransmit // what rises, and what can rise with it
	}{
		{
			"every fourth packet to the backend", breaks("packet-loss"), 3 * time.Second, "",
			[]retransmit{clientData},
			[]retransmit{clientSYN, backendData, backendSYNACK},
		},
		{"every SYN", breaks("drop-rule"), 2500 * time.Millisecond, lab.Timeout, []retransmit{clientSYN}, nil},
		{"every SYN-ACK", loseSYNACK, 2500 * time.Millisecond, lab.Timeout, []retransmit{clientSYN, backendSYNACK}, nil},
	} {
		t.Run(c.lost+" is lost", func(t *testing.T) {
			// A lab each: connections of the one before would go on sending.
			l := startLab(t)
			ds := startDaemons(t, l)
			ctx := t.Context()
			if err := c.lose(ctx, l); err != nil {
				t.Fatal(err)
			}
			far, err := l.Spec.Pod(l.Spec.Roles.Far)
			if err != nil {
				t.Fatal(err)
			}
			connect := func(fullSize bool) error {
				var connections errgroup.Group
				for _, a := range far.Addresses {
					to := netip.AddrPortFrom(a, port(t, far, "TCP"))
					connections.Go(func() error {
						fate, err := l.Connect(ctx, lab.PodEndpoint(l.Spec.Roles.Client), to, lab.ConnectOptions{FullSize: fullSize, Timeout: c.timeout})
						if err == nil && c.outcome != "" && fate.Outcome != c.outcome {
							err = fmt.Errorf("a connection to %s is %s, want %s", to, fate.Outcome, c.outcome)
						}
						return err
					})
				}
				return connections.Wait()
			}
			var rise loss
			probetest.Measure(t, func() error {
				before, err := readLoss(ctx, l, ds)
				if err != nil {
					return err
				}
				full := true
				if err := connect(full); err != nil {
					return err
				}
				return against.Await(t, patience, poll, func() error {
					now, err := readLoss(ctx, l, ds)
					if err != nil {
						return err
					}
					rise = now.since(before)
					err = rise.check(c.must, c.may)
					if err != nil && c.outcome == "" {
						// It may have been acknowledgements that were lost. Connections of two lengths do not
						// for ever have the fourth packet in the same place.
						full = !full
						return errors.Join(err, connect(full))
					}
					return err
				})
			})
			t.Logf("%s is lost:\n%s", c.lost, rise)
		})
	}
}

// loss is what the daemons count, beside what the kernel counts itself.
type loss struct {
	retransmits counts[retransmit]
	drops       counts[drop]
	// retransSegs is TcpRetransSegs of each pod that has a part in it.
	retransSegs counts[string]
	// ruleHits is the number of packets that the dropping rules of node-2 were met by.
	ruleHits float64
}

func (l loss) since(before loss) loss {
	return loss{l.retransmits.since(before.retransmits), l.drops.since(before.drops), l.retransSegs.since(before.retransSegs), l.ruleHits - before.ruleHits}
}

func (l loss) String() string {
	var b strings.Builder
	for r, n := range l.retransmits {
		fmt.Fprintf(&b, "%s %s retransmits of %s: %v\n", r.place, r.kind, r.pod, n)
	}
	for pod, n := range l.retransSegs {
		fmt.Fprintf(&b, "TcpRetransSegs of %s: %v\n", pod, n)
	}
	for d, n := range l.drops {
		fmt.Fprintf(&b, "%s %s drops of %s: %v\n", d.place, d.reason, d.protocol, n)
	}
	fmt.Fprintf(&b, "packets that the rules of node-2 dropped: %v\n", l.ruleHits)
	return b.String()
}

// check compares the two. It fails if nothing was lost.
func (l loss) check(must, may []retransmit) error {
	segments := counts[string]{}
	for r, n := range l.retransmits {
		if !slices.Contains(must, r) && !slices.Contains(may, r) {
			return fmt.Errorf("%v rose by %v", r, n)
		}
		segments[r.pod] += n
	}
	for _, r := range must {
		if l.retransmits[r] == 0 {
			return fmt.Errorf("%v did not rise", r)
		}
	}
	if err := probetest.Compare(segments, l.retransSegs); err != nil {
		return fmt.Errorf("the daemons count %v retransmits, TcpRetransSegs rose by %v: %w", segments, l.retransSegs, err)
	}
	want := counts[drop]{{"node-2", "NETFILTER_DROP", "tcp", ""}: l.ruleHits}
	if err := probetest.Compare(l.drops, want); err != nil {
		return fmt.Errorf("the daemons count %v drops, the rules %v: %w", l.drops, want, err)
	}
	return nil
}

// readLoss reads all counters at a moment when nothing changes: connections that their client gave up go on for a while.
func readLoss(ctx context.Context, l *lab.Lab, ds daemons) (loss, error) {
	before, err := readKernel(ctx, l)
	if err != nil {
		return loss{}, err
	}
	if before.retransmits, err = scrape(ctx, ds, "plumbline_tcp_retransmits_total", func(place string, labels map[string]string) (retransmit, bool) {
		return retransmit{place, podOf(labels), labels["kind"]}, true
	}); err != nil {
		return loss{}, err
	}
	if before.drops, err = readDrops(ctx, ds); err != nil {
		return loss{}, err
	}
	after, err := readKernel(ctx, l)
	if err != nil {
		return loss{}, err
	}
	if !maps.Equal(before.retransSegs, after.retransSegs) || before.ruleHits != after.ruleHits {
		return loss{}, errors.New("segments were sent while the counters were read")
	}
	return before, nil
}

// readKernel reads what the kernel counts itself.
func readKernel(ctx context.Context, l *lab.Lab) (loss, error) {
	read := loss{retransSegs: counts[string]{}}
	for _, pod := range l.Spec.Pods {
		text, err := l.Output(ctx, lab.PodEndpoint(pod.ID()), "cat", "/proc/net/snmp")
		if err != nil {
			return loss{}, err
		}
		if read.retransSegs[pod.ID()], err = snmp(string(text), "Tcp", "RetransSegs"); err != nil {
			return loss{}, err
		}
	}
	for _, save := range []string{"iptables-" + l.Spec.IPTables + "-save", "ip6tables-" + l.Spec.IPTables + "-save"} {
		text, err := l.Output(ctx, lab.NodeEndpoint("node-2"), save, "-c", "-t", "filter")
		if err != nil {
			return loss{}, err
		}
		for line := range strings.Lines(string(text)) {
			// [PACKETS:BYTES] -A CHAIN … -j DROP
			packets, rule, ok := strings.Cut(strings.TrimPrefix(line, "["), ":")
			if !ok || !strings.HasPrefix(line, "[") || !strings.HasSuffix(strings.TrimSpace(rule), "-j DROP") {
				continue
			}
			n, err := strconv.ParseFloat(packets, 64)
			if err != nil {
				return loss{}, fmt.Errorf("%s: %q: %w", save, line, err)
			}
			read.ruleHits += n
		}
	}
	return read, nil
}

// snmp reads a value from the text of /proc/net/snmp.
func snmp(text, table, name string) (float64, error) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != table+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if at := slices.Index(names, name); at > 0 && at < len(fields) {
			return strconv.ParseFloat(fields[at], 64)
		}
	}
	return 0, fmt.Errorf("no %s %s in /proc/net/snmp", table, name)
}
