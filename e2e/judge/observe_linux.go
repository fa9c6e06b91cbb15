package judge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// ears are the sockets of a world that receive.
type ears struct {
	mu       sync.Mutex
	arrivals map[string][]Arrival // by what the probe's packets carry
	closers  []func() error
	group    sync.WaitGroup
}

func newEars() *ears { return &ears{arrivals: map[string][]Arrival{}} }

func (e *ears) note(message string, a Arrival) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, known := range e.arrivals[message] {
		if known == a {
			return
		}
	}
	e.arrivals[message] = append(e.arrivals[message], a)
}

func (e *ears) heard(message string) []Arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.arrivals[message]
}

// serve runs fn until it returns because what closer closes is closed.
func (e *ears) serve(closer func() error, fn func()) {
	e.mu.Lock()
	e.closers = append(e.closers, closer)
	e.mu.Unlock()
	e.group.Go(fn)
}

func (e *ears) close() {
	e.mu.Lock()
	closers := e.closers
	e.closers = nil
	e.mu.Unlock()
	for _, c := range closers {
		_ = c()
	}
	e.group.Wait()
}

// listen opens the sockets of a namespace's listeners, and those that hear its echo requests.
func (b *built) listen(_ context.Context, ns string, elements []*Element) error {
	return b.within(ns, func() error {
		for _, e := range elements {
			words := strings.Fields(e.Text)
			if words[0] == "sctp" {
				continue
			}
			hosts := []string{"0.0.0.0", "::"}
			if len(words) > 2 {
				hosts = words[2:]
			}
			for _, host := range hosts {
				if err := b.open(ns, words[0], net.JoinHostPort(host, words[1])); err != nil {
					return fmt.Errorf("%s: listen %s: %w", e.ID, e.Text, err)
				}
			}
		}
		if ports := b.world.sctpPorts(ns); len(ports) > 0 {
			if err := b.listenSCTP(ns, ports); err != nil {
				return err
			}
		}
		for _, f := range families {
			if err := b.hearEcho(ns, f); err != nil {
				return fmt.Errorf("hear echo requests: %w", err)
			}
		}
		if b.world.Namespace(ns).Hidden {
			return b.capture(ns)
		}
		return nil
	})
}

func (b *built) open(ns, proto, address string) error {
	host, _, _ := net.SplitHostPort(address)
	version := "4"
	if strings.Contains(host, ":") {
		version = "6"
	}
	if proto == "tcp" {
		l, err := net.Listen("tcp"+version, address)
		if err != nil {
			return err
		}
		b.ears.serve(l.Close, func() { b.ears.serveTCP(ns, l) })
		return nil
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return wantAddresses(c) }}
	c, err := config.ListenPacket(context.Background(), "udp"+version, address)
	if err != nil {
		return err
	}
	conn := c.(*net.UDPConn)
	b.ears.serve(conn.Close, func() { b.ears.serveUDP(ns, conn) })
	return nil
}

// wantAddresses asks the kernel to tell with each packet where it was sent to.
func wantAddresses(c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

func addrPort(a net.Addr) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

func (e *ears) serveTCP(ns string, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		e.serve(c.Close, func() {
			defer c.Close()
			a := Arrival{Namespace: ns, Seen: addrPort(c.RemoteAddr()), At: addrPort(c.LocalAddr())}
			e.note(tcpKey(a.Seen.Port()), a)
			lab.Answer(c, ns)
		})
	}
}

// tcpKey is what a TCP connection is known by until it carries anything: the client's port, which most translations
// leave alone.
func tcpKey(port uint16) string { return "tcp port " + strconv.Itoa(int(port)) }

// serveUDP answers as most servers do, from the address that the route back has.
func (e *ears) serveUDP(ns string, c *net.UDPConn) {
	buf, oob := make([]byte, 2048), make([]byte, 256)
	local := c.LocalAddr().(*net.UDPAddr)
	for {
		n, m, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if strings.Contains(err.Error(), "use of closed") {
				return
			}
			continue // such as the port unreachable that an earlier answer met
		}
		to := destination(oob[:m])
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !to.IsValid() {
			to = local.AddrPort().Addr()
		}
		e.note(string(buf[:n]), Arrival{Namespace: ns, Seen: netip.AddrPortFrom(from.Addr().WithZone(""), from.Port()), At: netip.AddrPortFrom(to, uint16(local.Port))})
		_, _ = c.WriteToUDPAddrPort(lab.AnswerTo(buf[:n], ns), from)
	}
}

// destination reads the address that a packet was sent to.
func destination(oob []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO:
			return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0])).Addr)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO:
			return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0])).Addr).Unmap()
		}
	}
	return netip.Addr{}
}

// hearEcho opens a raw socket in the calling thread's namespace: it gets a copy of each echo request that the kernel answers.
func (b *built) hearEcho(ns string, f netstack.Family) error {
	network, address, request, header, ignore := "ip4:icmp", "0.0.0.0", byte(8), 0, "net.ipv4.icmp_echo_ignore_all"
	if f == netstack.IPv6 {
		network, address, request, ignore = "ip6:ipv6-icmp", "::", 128, "net.ipv6.icmp.echo_ignore_all"
	}
	// Raw sockets come before the kernel's own ears.
	if value, err := os.ReadFile(sysctlPath(ignore)); err == nil && strings.TrimSpace(string(value)) != "0" {
		return nil
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return wantAddresses(c) }}
	c, err := config.ListenPacket(context.Background(), network, address)
	if err != nil {
		return err
	}
	conn := c.(*net.IPConn)
	b.ears.serve(conn.Close, func() {
		buf, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, m, _, from, err := conn.ReadMsgIP(buf, oob)
			if err != nil {
				return
			}
			message := buf[:n]
			if f == netstack.IPv4 && n > 0 && message[0]>>4 == 4 { // ReadMsgIP leaves the header
				header = int(message[0]&15) * 4
			}
			if n < header+8 || message[header] != request {
				continue
			}
			to := destination(oob[:m])
			source, _ := netip.AddrFromSlice(from.IP)
			b.ears.note(string(message[header+8:]), Arrival{Namespace: ns, Seen: netip.AddrPortFrom(source.Unmap().WithZone(""), 0), At: netip.AddrPortFrom(to, 0)})
		}
	})
	return nil
}

// halfOpen notes the connections of which the request arrived and the handshake was not finished.
func (b *built) halfOpen(ns string) error {
	return b.within(ns, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_INET_DIAG)
		if err != nil {
			return err
		}
		defer handle.Close()
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := handle.SocketDiagTCP(family)
			if err != nil {
				return err
			}
			for _, s := range sockets {
				const synRecv = 3
				if s.State != synRecv {
					continue
				}
				seen, _ := netip.AddrFromSlice(s.ID.Destination)
				at, _ := netip.AddrFromSlice(s.ID.Source)
				a := Arrival{
					Namespace: ns, Seen: netip.AddrPortFrom(seen.Unmap(), s.ID.DestinationPort),
					At: netip.AddrPortFrom(at.Unmap(), s.ID.SourcePort),
				}
				b.ears.note(tcpKey(a.Seen.Port()), a)
			}
		}
		return nil
	})
}

// Patience with what is predicted to arrive, with what is predicted to be silent, and with what may be either: TCP tries again
// after a second, and is then given another chance by the kernel's dice.
const (
	patient = 6 * time.Second
	brief   = 950 * time.Millisecond
	careful = 950 * time.Millisecond
)

// observation is what became of one probe.
type observation struct {
	fate lab.Fate
	// arrivals are what receivers got of it, wherever.
	arrivals []Arrival
}

// trial is one sending of a probe.
type trial struct {
	probe      *Probe
	sourcePort uint16
	round      int
	// expected is where it is predicted to arrive.
	expected string
	// ports are those that translations are predicted to give to the client.
	ports []uint16
	// timeout of the handshake, of what follows, and of the full-size part.
	timeout, talk, full time.Duration
	// alone says that others would decide what becomes of it.
	alone bool
	seen  observation
}

// name tells the trial from others, and message is what its packets carry.
func (t *trial) name() string    { return fmt.Sprintf("%s.%d", t.probe.ID, t.round) }
func (t *trial) message() string { return lab.Payload(string(t.probe.Protocol), t.name()) }

// observeInTurn sends some trials apart, and then the others at once: those of which the simulator expects that neighbours do
// not find each other, or that packets are too large, because others may teach a host the neighbour or the MTU of the path, and
// those that are in each other's way.
func (b *built) observeInTurn(ctx context.Context, trials []*trial) error {
	var alone, others []*trial
	for _, t := range trials {
		if t.alone {
			alone = append(alone, t)
		} else {
			others = append(others, t)
		}
	}
	if err := b.observeApart(ctx, alone); err != nil {
		return err
	}
	return b.observe(ctx, others)
}

// observeApart sends one trial after the other. What a namespace has learned of its neighbours, path MTUs and connections is
// forgotten in between: it depends on who talked before, and the simulator knows the state before any of them.
func (b *built) observeApart(ctx context.Context, trials []*trial) error {
	for _, t := range trials {
		if err := b.observe(ctx, []*trial{t}); err != nil {
			return err
		}
		if err := b.forget(); err != nil {
			return fmt.Errorf("forget what was learned: %w", err)
		}
	}
	return nil
}

func (b *built) forget() error {
	for i := range b.world.Namespaces {
		err := b.within(b.world.Namespaces[i].Name, func() error {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
			if err != nil {
				return err
			}
			defer h.Close()
			if err := h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
				return err
			}
			for _, family := range []string{"-4", "-6"} {
				if out, err := exec.Command("ip", family, "route", "flush", "cache").CombinedOutput(); err != nil {
					return fmt.Errorf("forget path MTUs: %w: %s", err, out)
				}
			}
			if err := renewRoutes(h); err != nil {
				return fmt.Errorf("renew routes into tunnels: %w", err)
			}
			for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
				list, err := netlinklist.Whole(func() ([]netlink.Neigh, error) { return h.NeighList(0, family) })
				if err != nil {
					return err
				}
				for _, n := range list {
					if n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
						if err := h.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
							return err
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// renewRoutes makes the IPv6 routes into tunnels of GRE again: the kernel notes the MTU of the path at the route itself, for each
// processor, where nothing shows it and no flushing reaches it (tnl_update_pmtu).
func renewRoutes(h *netlink.Handle) error {
	links, err := netlinklist.Whole(h.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Type() != "gre" && l.Type() != "gretap" {
			continue
		}
		routes, err := netlinklist.Whole(func() ([]netlink.Route, error) { return h.RouteList(l, unix.AF_INET6) })
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Type != unix.RTN_UNICAST || len(r.MultiPath) > 0 {
				continue
			}
			if err := h.RouteReplace(&r); err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
		}
	}
	return nil
}

// observe sends all trials at once, and then looks what came of them.
func (b *built) observe(ctx context.Context, trials []*trial) error {
	var group errgroup.Group
	for _, t := range trials {
		group.Go(func() (err error) {
			p := t.probe
			hops := 0
			if p.Via != "" {
				hops = 65 // with the router on its way, it enters as if it had been sent there
			}
			t.seen.fate, err = lab.ConnectFrom(ctx, b.netns(p.From), netip.AddrPortFrom(p.To, p.Port), lab.ConnectOptions{
				Protocol: string(p.Protocol), Timeout: t.timeout, TalkTimeout: t.talk, FullTimeout: t.full, FullSize: p.Protocol == verdict.TCP,
				Source: p.Source, SourcePort: t.sourcePort, Message: t.name(), Mark: p.Mark, DSCP: p.DSCP, UID: p.UID,
				Unconnected: true, HopLimit: hops,
			})
			return err
		})
	}
	err := group.Wait()
	if err != nil {
		return err
	}
	for _, t := range trials {
		b.await(t)
	}
	for i := range b.world.Namespaces {
		if err := b.halfOpen(b.world.Namespaces[i].Name); err != nil {
			return fmt.Errorf("look for half-open connections: %w", err)
		}
	}
	for _, t := range trials {
		t.seen.arrivals = b.arrivals(t)
	}
	return nil
}

// arrivals are what has been heard of the trial.
func (b *built) arrivals(t *trial) []Arrival {
	switch t.probe.Protocol {
	case verdict.SCTP:
		return b.ears.heard(sctpKey(lab.SCTPTag(t.name())))
	case verdict.UDP, verdict.ICMP:
		return b.ears.heard(t.message())
	}
	list := b.ears.heard(tcpKey(t.sourcePort))
	for _, port := range t.ports {
		list = append(list, b.ears.heard(tcpKey(port))...)
	}
	return list
}

// await waits for the arrival that is predicted, or was answered: the answer may be back before the receiver has told of
// the request.
func (b *built) await(t *trial) {
	if t.expected == "" && t.seen.fate.Outcome != lab.Answered || t.probe.Protocol == verdict.TCP && t.expected != left {
		return
	}
	for deadline := time.Now().Add(brief); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if slices.ContainsFunc(b.arrivals(t), func(a Arrival) bool { return a.Passing == (t.expected == left) }) {
			return
		}
	}
}

// observed puts together what the client and the receivers saw.
func (t *trial) observed(w *World) Observed {
	p, seen := t.probe, &t.seen
	o := Observed{Fate: Fate{Outcome: verdict.Outcome(seen.fate.Outcome), Verdict: verdict.Unreachable}, Arrivals: seen.arrivals}
	if seen.fate.Err != nil {
		o.Err = seen.fate.Err.Error()
	}
	for _, a := range seen.arrivals {
		if a.Passing || w.Namespace(a.Namespace).Hidden {
			continue
		}
		o.Namespace, o.Destination, o.SeenAs = a.Namespace, a.At, a.Seen
	}
	switch o.Outcome {
	case verdict.OutcomeEstablished:
		o.Namespace, o.Destination, o.SeenAs = seen.fate.Peer, unmapped(seen.fate.At), unmapped(seen.fate.Seen)
		o.Verdict = verdict.Degraded
		if seen.fate.FullSize || p.Protocol == verdict.SCTP {
			o.Verdict = verdict.Reachable
		}
	case verdict.OutcomeAnswered:
		o.Verdict = verdict.Reachable
	case verdict.OutcomeTimeout:
		if p.Protocol == verdict.UDP && o.Namespace != "" {
			// Silence is all that the client can see; that the datagram arrived, the receiver alone knows.
			o.Outcome, o.Verdict = verdict.OutcomeDelivered, verdict.Degraded
		}
	}
	// Each repetition has a port of its own: what was asked about is the first.
	asked := func(a netip.AddrPort) netip.AddrPort {
		if a.Port() == t.sourcePort && t.round > 0 {
			return netip.AddrPortFrom(a.Addr(), p.SourcePort)
		}
		return a
	}
	o.SeenAs = asked(o.SeenAs)
	o.Arrivals = slices.Clone(o.Arrivals)
	for i := range o.Arrivals {
		o.Arrivals[i].Seen = asked(o.Arrivals[i].Seen)
	}
	return o
}
