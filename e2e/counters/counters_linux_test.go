// Package counters holds the kernel's own counters, as the daemon exports
// them, against what was sent: each fault of the lab drops exactly the packets
// that met it, for the reason and the subject that the table names.
package counters

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

func TestMain(m *testing.M) {
	if lab.IsListener() {
		if err := lab.ServeListener(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	prefix = "plcnt"
	// sent is the number of datagrams under each fault.
	sent = 7
	// patience is how long a counter may take to show on a busy machine.
	patience = time.Minute
	poll     = 100 * time.Millisecond
)

// daemon is a running `plumbline serve`.
type daemon struct{ url string }

func startDaemon(t *testing.T, l *lab.Lab) *daemon {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "plumbline")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/plumbline").CombinedOutput(); err != nil {
		t.Fatalf("building plumbline: %v\n%s", err, out)
	}
	config := filepath.Join(dir, "plumbline.yaml")
	text := fmt.Sprintf("collector: {namespaces: [\"%s-*\"], manifests: %q}\n", l.Prefix, l.ClusterDir())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var log strings.Builder
	cmd := exec.Command(program, "serve", "--config", config, "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// The death signal comes when this thread ends: it has to last.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the daemon: %v", err)
		}
		if t.Failed() {
			t.Logf("the daemon said:\n%s", log.String())
		}
	})
	d := &daemon{url: "http://" + address}
	eventually(t, "the daemon is ready", func() error {
		_, err := d.get(t.Context(), "/-/ready")
		return err
	})
	return d
}

func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(poll)
	}
}

func (d *daemon) get(ctx context.Context, path string) (io.Reader, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return strings.NewReader(string(body)), err
}

// counts are the values of a metric by its labels, as they are printed.
type counts map[string]float64

func (d *daemon) counts(ctx context.Context, metric, label string) (counts, error) {
	body, err := d.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	result := counts{}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), metric+"{")
		if !ok {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		if !ok || !strings.Contains(labels, label) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, err
		}
		result[labels] = n
	}
	return result, lines.Err()
}

// risen is what has been added since before.
func (c counts) risen(before counts) counts {
	delta := counts{}
	for labels, n := range c {
		if d := n - before[labels]; d != 0 {
			delta[labels] = d
		}
	}
	return delta
}

// settled waits until the counters have risen by what is wanted, and looks once
// more whether they stay there.
func (d *daemon) settled(t *testing.T, metric, label string, before, want counts) {
	t.Helper()
	var got counts
	deadline := time.Now().Add(patience)
	for rounds := 0; rounds < 2; {
		now, err := d.counts(t.Context(), metric, label)
		if err != nil {
			t.Fatal(err)
		}
		got = now.risen(before)
		if maps.Equal(got, want) {
			rounds++
		} else if rounds > 0 || time.Now().After(deadline) {
			t.Errorf("%s rose by %v, want %v", metric, got, want)
			return
		}
		time.Sleep(poll)
	}
}

const drops = "plumbline_kernel_drops_total"

// drop is what the counters have to say.
type drop struct {
	reason string
	pod    string // NAMESPACE/NAME; empty for a node
}

func (d drop) labels() string {
	namespace, pod, _ := strings.Cut(d.pod, "/")
	return fmt.Sprintf(`namespace=%q,pod=%q,protocol="udp",reason=%q`, namespace, pod, d.reason)
}

// expected names, for each fault, the drop of a datagram in IPv4 and IPv6; nil
// where it arrives. What a node drops counts for the node: the pods hang on a
// bridge, which is the interface that the node's network layer sees.
var expected = map[string]struct {
	ipv4, ipv6 *drop
	near       bool // send to the near pod
	size       int  // bytes of the datagram; a small one by default
}{
	"": {},
	// The default route leads to the fabric, which knows no way either, and as a
	// host that does not forward IPv4 blames the address (ip_route_input_slow).
	"missing-route": {ipv4: &drop{reason: "IP_INADDRERRORS"}, ipv6: &drop{reason: "IP_INNOROUTES"}},
	// Both families drop at a blackhole without naming a reason.
	"blackhole-route": {ipv4: &drop{reason: "NOT_SPECIFIED"}, ipv6: &drop{reason: "NOT_SPECIFIED"}},
	// ndisc frees the queue of a failed neighbour without naming a reason.
	"wrong-gateway":  {ipv4: &drop{reason: "NEIGH_FAILED"}, ipv6: &drop{reason: "NOT_SPECIFIED"}},
	"link-down":      {ipv4: &drop{reason: "NEIGH_FAILED"}, ipv6: &drop{reason: "NOT_SPECIFIED"}},
	"mtu-black-hole": {ipv4: &drop{reason: "PKT_TOO_BIG"}, ipv6: &drop{reason: "PKT_TOO_BIG"}, size: 1440},
	// There is no rp_filter for IPv6: the datagrams arrive.
	"rp-filter": {ipv4: &drop{reason: "IP_RPFILTER"}},
	// A route is found, but the host may not use it.
	"forwarding-off":    {ipv4: &drop{reason: "IP_INADDRERRORS"}, ipv6: &drop{reason: "IP_INADDRERRORS"}},
	"drop-rule":         {ipv4: &drop{reason: "NETFILTER_DROP"}, ipv6: &drop{reason: "NETFILTER_DROP"}},
	"nft-drop":          {ipv4: &drop{reason: "NETFILTER_DROP"}, ipv6: &drop{reason: "NETFILTER_DROP"}},
	"network-policy":    {ipv4: &drop{reason: "NETFILTER_DROP"}, ipv6: &drop{reason: "NETFILTER_DROP"}},
	"listener-gone":     {ipv4: &drop{"NO_SOCKET", "shop/api-1"}, ipv6: &drop{"NO_SOCKET", "shop/api-1"}},
	"listener-loopback": {ipv4: &drop{"NO_SOCKET", "shop/api-1"}, ipv6: &drop{"NO_SOCKET", "shop/api-1"}},
	"backend-dead":      {ipv4: &drop{"NO_SOCKET", "shop/api-0"}, ipv6: &drop{"NO_SOCKET", "shop/api-0"}, near: true},
}

func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	ctx, options := t.Context(), lab.Options{Prefix: prefix}
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

func TestEveryFaultDropsExactlyThePacketsThatMeetIt(t *testing.T) {
	l := startLab(t)
	d := startDaemon(t, l)
	names := []string{""}
	for _, f := range lab.Faults() {
		if !f.Lossy {
			names = append(names, f.Name)
		}
	}
	var table strings.Builder
	for _, name := range names {
		want, ok := expected[name]
		if !ok {
			t.Errorf("nothing is expected of fault %s", name)
			continue
		}
		target := l.Spec.Roles.Far
		if want.near {
			target = l.Spec.Roles.Near
		}
		pod, err := l.Spec.Pod(target)
		if err != nil {
			t.Fatal(err)
		}
		if name != "" {
			if err := l.Break(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		for at, drop := range []*drop{want.ipv4, want.ipv6} {
			family := []string{"IPv4", "IPv6"}[at]
			t.Run(orNone(name)+"/"+family, func(t *testing.T) {
				before, err := d.counts(t.Context(), drops, `protocol="udp"`)
				if err != nil {
					t.Fatal(err)
				}
				rise := counts{}
				if drop != nil {
					rise[drop.labels()] = sent
					fmt.Fprintf(&table, "%-18s %s  %-15s %-12s %d\n", orNone(name), family, drop.reason, drop.pod, sent)
				}
				conn := send(t, l, netip.AddrPortFrom(pod.Addresses[at], port(t, pod, "UDP")), max(want.size, 16))
				defer conn.Close()
				if drop == nil {
					receive(t, conn)
				}
				d.settled(t, drops, `protocol="udp"`, before, rise)
			})
		}
		if name != "" {
			if err := l.Fix(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("drops by fault:\n%s", table.String())
}

func orNone(fault string) string {
	if fault == "" {
		return "none"
	}
	return fault
}

func port(t *testing.T, pod lab.Pod, protocol string) uint16 {
	t.Helper()
	at := slices.IndexFunc(pod.Ports, func(p lab.PodPort) bool { return strings.EqualFold(p.Protocol, protocol) })
	if at < 0 {
		t.Fatalf("pod %s has no %s port", pod.ID(), protocol)
	}
	return pod.Ports[at].Port
}

// send sends the datagrams from the client pod. The socket is not connected, so
// that an ICMP error for one does not keep the next from being sent; it is to
// be kept open, or answers would be dropped for want of it.
func send(t *testing.T, l *lab.Lab, to netip.AddrPort, size int) *net.UDPConn {
	t.Helper()
	name, err := l.Netns(lab.PodEndpoint(l.Spec.Roles.Client))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listenIn(name, to.Addr().Is6())
	if err != nil {
		t.Fatal(err)
	}
	for i := range sent {
		if _, err := conn.WriteToUDPAddrPort(make([]byte, size), to); err != nil {
			conn.Close()
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	return conn
}

// listenIn opens a socket in a network namespace that never fragments.
func listenIn(name string, ipv6 bool) (conn *net.UDPConn, err error) {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := netns.GetFromName(name)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	defer func() {
		if back := netns.Set(here); back == nil {
			runtime.UnlockOSThread()
		} else {
			err = errors.Join(err, back) // the thread ends with its goroutine
		}
	}()
	network, level, option, value := "udp4", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if ipv6 {
		network, level, option, value = "udp6", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	conn, err = net.ListenUDP(network, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, value) }); err != nil {
		return nil, err
	}
	return conn, set
}

// receive takes an answer to each datagram.
func receive(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for i := range sent {
		if _, _, err := conn.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}

// TestLossShowsAsRetransmits compares with the namespace's own counter.
func TestLossShowsAsRetransmits(t *testing.T) {
	l := startLab(t)
	d := startDaemon(t, l)
	ctx := t.Context()
	if err := l.Break(ctx, "packet-loss"); err != nil {
		t.Fatal(err)
	}
	client := lab.PodEndpoint(l.Spec.Roles.Client)
	far, err := l.Spec.Pod(l.Spec.Roles.Far)
	if err != nil {
		t.Fatal(err)
	}
	retransSegs := func() float64 {
		t.Helper()
		text, err := l.Output(ctx, client, "cat", "/proc/net/snmp")
		if err != nil {
			t.Fatal(err)
		}
		n, err := snmp(string(text), "Tcp", "RetransSegs")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const metric, label = "plumbline_tcp_retransmits_total", `pod="web-0"`
	before, err := d.counts(ctx, metric, label)
	if err != nil {
		t.Fatal(err)
	}
	start := retransSegs()
	for range 3 {
		for _, addr := range far.Addresses {
			// Whether a single connection survives the loss does not matter.
			to := netip.AddrPortFrom(addr, port(t, far, "TCP"))
			if _, err := l.Connect(ctx, client, to, lab.ConnectOptions{FullSize: true, Timeout: 3 * time.Second}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var now, counted float64
	eventually(t, "the daemon counts what the namespace counts", func() error {
		now = retransSegs() - start
		after, err := d.counts(ctx, metric, label)
		if err != nil {
			return err
		}
		counted = 0
		for _, n := range after.risen(before) {
			counted += n
		}
		if now == 0 || counted != now {
			return fmt.Errorf("%v retransmits are counted, TcpRetransSegs rose by %v", counted, now)
		}
		return nil
	})
	t.Logf("web-0 retransmitted %v segments, the daemon counted %v", now, counted)
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
