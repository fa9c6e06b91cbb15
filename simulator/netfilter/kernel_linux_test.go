package netfilter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// giveUp is how long a packet may be on its way before it counts as dropped.
const giveUp = 1500 * time.Millisecond

// judge is the topology: the kernel in it decides. Real connections run from a client through a
// router to a server, each in a namespace of its own, and what becomes of each
// is compared with what Run says of the router's rules, as the tools print
// them.
type judge struct {
	t          *testing.T
	parent     *judge // of a subtest
	sourcePort *uint16
	opened     map[string]bool
}

func (j *judge) command(stdin string, name string, args ...string) string {
	j.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		j.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, errOut.String())
	}
	return out.String()
}

func (j *judge) in(ns, stdin string, args ...string) string {
	j.t.Helper()
	return j.command(stdin, "ip", append([]string{"netns", "exec", ns}, args...)...)
}

// within runs f on a thread that lives in the namespace.
func within(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(h)
			_ = h.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func newJudge(t *testing.T) *judge {
	if os.Getuid() != 0 {
		t.Skip("namespaces need root")
	}
	sourcePort := uint16(20000)
	j := &judge{t: t, sourcePort: &sourcePort, opened: make(map[string]bool)}
	remove := func() {
		for _, ns := range []string{judgeClient, judgeRouter, judgeServer} {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
	}
	remove() // what a run that was killed left behind
	t.Cleanup(remove)
	for _, ns := range []string{judgeClient, judgeRouter, judgeServer} {
		j.command("", "ip", "netns", "add", ns)
		j.in(ns, "", "ip", "link", "set", "lo", "up")
		j.in(ns, "", "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
			"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
	}
	groups := map[string]string{"c0": "5", "s0": "0x16", "eth0": "default"}
	for _, side := range []struct{ ns, dev, net4, net6 string }{
		{judgeClient, "c0", "10.77.1.", "fd77:1::"}, {judgeServer, "s0", "10.77.2.", "fd77:2::"},
	} {
		j.command("", "ip", "link", "add", side.dev, "netns", judgeRouter, "type", "veth", "peer", "name", "eth0", "netns", side.ns)
		for _, end := range []struct{ ns, dev, host string }{{judgeRouter, side.dev, "1"}, {side.ns, "eth0", "2"}} {
			j.in(end.ns, "", "ip", "addr", "add", side.net4+end.host+"/24", "dev", end.dev)
			j.in(end.ns, "", "ip", "addr", "add", side.net6+end.host+"/64", "dev", end.dev, "nodad")
			j.in(end.ns, "", "ip", "link", "set", end.dev, "up", "group", groups[end.dev])
		}
		j.in(side.ns, "", "ip", "route", "add", "default", "via", side.net4+"1")
		j.in(side.ns, "", "ip", "-6", "route", "add", "default", "via", side.net6+"1")
	}
	j.in(judgeServer, "", "ip", "addr", "add", "10.77.2.3/24", "dev", "eth0")
	// Copies of packets go to a station that is not there: were it asked for, the sender would be told that nobody answers.
	j.in(judgeRouter, "", "ip", "neigh", "add", "10.77.2.200", "lladdr", "02:00:00:00:00:01", "dev", "s0")
	j.in(judgeRouter, "", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	return j
}

// sub is the same topology in a subtest. Listeners live as long as the
// topology does.
func (j *judge) sub(t *testing.T) *judge {
	c := *j
	c.t, c.parent = t, j
	return &c
}

// listen serves a port in a namespace: it tells each client how it sees the
// connection.
func (j *judge) listen(ns, network string, port uint16) {
	j.t.Helper()
	key := fmt.Sprint(ns, network, port)
	if j.opened[key] {
		return
	}
	j.opened[key] = true
	if j.parent != nil {
		j = j.parent
	}
	err := within(ns, func() error {
		addr := fmt.Sprintf("[::]:%d", port)
		if network == "udp" {
			c, err := net.ListenPacket("udp", addr)
			if err != nil {
				return err
			}
			j.t.Cleanup(func() { _ = c.Close() })
			go func() {
				buf := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(fmt.Sprintf("port %d from %s", port, withoutPort(from))), from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		j.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					// The client speaks first: its data is the established leg.
					if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
						_, _ = fmt.Fprintf(c, "port %d from %s", port, withoutPort(c.RemoteAddr()))
					}
				}()
			}
		}()
		return nil
	})
	if err != nil {
		j.t.Fatalf("listen on port %d in %s: %v", port, ns, err)
	}
}

func withoutPort(a net.Addr) netip.Addr {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap()
}

// try makes the connection and says what became of it.
func (j *judge) try(p probe) string {
	var result string
	local := netip.AddrPortFrom(netip.IPv4Unspecified(), p.src)
	if strings.Contains(p.dst, ":") {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), p.src)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local)}
	if p.network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	}
	err := within(p.from, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), giveUp)
		defer cancel()
		c, err := d.DialContext(ctx, p.network, netip.AddrPortFrom(netip.MustParseAddr(p.dst), p.port).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(giveUp))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		buf := make([]byte, 200)
		n, err := c.Read(buf)
		result = string(buf[:n])
		if n > 0 {
			return nil
		}
		return err
	})
	var timeout net.Error
	switch {
	case err == nil:
		return result
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPROTO):
		return "rejected"
	case errors.Is(err, syscall.EPERM), errors.As(err, &timeout) && timeout.Timeout():
		return "dropped"
	}
	return err.Error()
}

// tryAll makes all connections at once.
func (j *judge) tryAll(probes []probe) []string {
	got := make([]string, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { got[i] = j.try(p) })
	}
	wg.Wait()
	return got
}

// judgeClientMAC is the client's, where a test needs it.
var judgeClientMAC netstack.MAC

// judgeEnv knows the router's addresses and routes.
type judgeEnv struct {
	t            *testing.T
	unknown      []string
	answer       bool // to all that is not known
	pick         int
	alternatives int // that there were to pick
	packet       *netstack.Packet
	out          string // where it leaves by
}

func (e *judgeEnv) Pick(r Rule, w []float64) int {
	if e.alternatives != 0 {
		e.t.Errorf("%v rolls dice %v again", r, w)
	}
	e.alternatives = len(w)
	return e.pick
}

func (*judgeEnv) Now() time.Time { return time.Now() }

func (*judgeEnv) Kernel() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

func (e *judgeEnv) Unknown(r Rule, what string) bool {
	e.unknown = append(e.unknown, what)
	return e.answer
}

func (e *judgeEnv) RouteType(q FIBQuery) (netstack.RouteType, bool) {
	return e.AddrType(q.Dst, q.Dev), true
}

func (e *judgeEnv) AddrType(a netip.Addr, dev string) netstack.RouteType {
	switch s := a.String(); {
	case a.IsLoopback(), strings.HasSuffix(s, "10.77.1.1") && dev != "s0", s == "10.77.2.1" && dev != "c0", s == "fd77:1::1", s == "fd77:2::1":
		return netstack.RouteLocal
	case s == "10.77.1.255", s == "10.77.2.255":
		return netstack.RouteBroadcast
	case a.IsMulticast():
		return netstack.RouteMulticast
	}
	return netstack.RouteUnicast
}

func routerDev(a netip.Addr) string {
	switch s := a.String(); {
	case strings.HasPrefix(s, "10.77.1."), strings.HasPrefix(s, "fd77:1:"):
		return "c0"
	case strings.HasPrefix(s, "10.77.2."), strings.HasPrefix(s, "fd77:2:"):
		return "s0"
	}
	return ""
}

func (e *judgeEnv) RedirectAddr(dev string, family netstack.Family) (netip.Addr, bool) {
	any := netip.IPv4Unspecified()
	if family == netstack.IPv6 {
		any = netip.IPv6Unspecified()
	}
	return e.InterfaceAddr(dev, any)
}

func (e *judgeEnv) InterfaceAddr(dev string, dst netip.Addr) (netip.Addr, bool) {
	addrs := map[string][2]string{"c0": {"10.77.1.1", "fd77:1::1"}, "s0": {"10.77.2.1", "fd77:2::1"}}[dev]
	text := addrs[0]
	if dst.Is6() {
		text = addrs[1]
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

func (e *judgeEnv) ReversePath(p *netstack.Packet, in string, strict bool) bool {
	dev := routerDev(p.Src)
	return dev != "" && (!strict || dev == in)
}

func (e *judgeEnv) FIBDevice(q FIBQuery) (string, bool) {
	dev := routerDev(q.Dst)
	if e.AddrType(q.Dst, "") == netstack.RouteLocal || q.Dev != "" && q.Dev != dev {
		return "", true
	}
	return dev, true
}

func (e *judgeEnv) Reroute() bool {
	e.out = routerDev(e.packet.Dst)
	if e.AddrType(e.packet.Dst, "") == netstack.RouteLocal {
		e.out = "lo"
	}
	return e.out != ""
}

func (e *judgeEnv) Proxy(*netstack.Packet, netip.Addr, uint16, string) bool       { return false }
func (e *judgeEnv) LocalSocket(*netstack.Packet, string) (*netstack.Socket, bool) { return nil, true }
func (e *judgeEnv) Duplicate(Hook, netip.Addr, string)                            {}
func (e *judgeEnv) OutMTU(*State) int                                             { return 1500 }

// passRouter walks a packet through the router, and says where it ends.
func (e *judgeEnv) passRouter(rs *Ruleset, st *State, local bool) (end string) {
	p := st.Packet
	f := p.Family()
	run := func(hooks ...Hook) string {
		for _, h := range hooks {
			var res Result
			if h >= Ingress {
				if h == Egress {
					st.In = ""
				}
				res = rs.RunDevice(h, st, e)
			} else {
				res = rs.Run(f, h, st, e)
			}
			switch res.Action {
			case Drop:
				return "dropped"
			case Reject:
				return "rejected"
			case Queue:
				return "taken"
			}
		}
		return ""
	}
	if local {
		e.packet, e.out = p, routerDev(p.Dst)
		st.Out = e.out
		if end := run(Output); end != "" {
			return end
		}
		st.Out = e.out
		return run(Postrouting, Egress)
	}
	if end := run(Ingress, Prerouting); end != "" {
		return end
	}
	if e.AddrType(p.Dst, "") == netstack.RouteLocal {
		return run(Input)
	}
	st.Out = routerDev(p.Dst)
	p.TTL-- // ip_forward does so before the hook
	return run(Forward, Postrouting, Egress)
}

// simulate says what becomes of the probe.
func (e *judgeEnv) simulate(rs *Ruleset, pr probe) string {
	src := map[string][2]string{judgeClient: {"10.77.1.2", "fd77:1::2"}, judgeRouter: {"10.77.2.1", "fd77:2::1"}}[pr.from]
	dst := netip.MustParseAddr(pr.dst)
	first := netstack.Packet{
		Src: netip.MustParseAddr(src[0]), Dst: dst, Protocol: netstack.ProtoTCP, SrcPort: pr.src, DstPort: pr.port,
		TCPFlags: netstack.SYN, Length: 60, TTL: 64, MSS: 1460, DF: true,
	}
	if dst.Is6() {
		first.Src, first.Length, first.MSS = netip.MustParseAddr(src[1]), 80, 1440
	}
	if pr.network == "udp" {
		first.Protocol, first.TCPFlags, first.Length, first.MSS = netstack.ProtoUDP, 0, first.Length-31, 0
	}
	local := pr.from == judgeRouter
	uid := uint32(0)
	ct := NewConntrack()
	var result string
	// The legs: a SYN or datagram, its answer, and for TCP the first data.
	for leg := range 3 {
		p := first
		if local {
			p.UID = &uid
		}
		if leg == 2 {
			if pr.network == "udp" {
				break
			}
			p.TCPFlags, p.MSS = netstack.ACK, 0
		}
		if leg == 1 {
			continue // below, together with the packet that it answers
		}
		st := &State{Packet: &p, Conntrack: ct}
		p.SrcMAC, p.DstMAC = judgeClientMAC, rs.link("c0").MAC
		if !local {
			st.In = "c0"
		}
		if end := e.passRouter(rs, st, local); end != "" {
			return end
		}
		result = fmt.Sprintf("port %d from %s", p.DstPort, p.Src)
		answer := p
		answer.Src, answer.Dst, answer.SrcPort, answer.DstPort, answer.TTL, answer.UID, answer.Mark = p.Dst, p.Src, p.DstPort, p.SrcPort, 64, nil, 0
		if pr.network != "udp" {
			answer.TCPFlags = netstack.ACK
			if leg == 0 {
				answer.TCPFlags |= netstack.SYN
			}
		}
		back := &State{Packet: &answer, Conntrack: ct}
		atRouter := e.AddrType(p.Dst, "") == netstack.RouteLocal
		if !atRouter {
			back.In = routerDev(answer.Src)
		} else {
			answer.UID = &uid
		}
		if end := e.passRouter(rs, back, atRouter); end != "" {
			return "dropped"
		}
		if answer.Src != dst || answer.SrcPort != pr.port || answer.DstPort != pr.src {
			return "answered by another address" // the client does not know such a connection
		}
	}
	return result
}

// rulesOf reads the router's rules as a collector does.
func (j *judge) rulesOf() *netstack.Namespace {
	ns := &netstack.Namespace{Name: judgeRouter, Links: j.links()}
	for _, d := range []struct {
		family  netstack.Family
		backend netstack.Backend
		tool    string
	}{
		{netstack.IPv4, netstack.BackendNFT, "iptables-nft-save"},
		{netstack.IPv6, netstack.BackendNFT, "ip6tables-nft-save"},
		{netstack.IPv4, netstack.BackendLegacy, "iptables-legacy-save"},
		{netstack.IPv6, netstack.BackendLegacy, "ip6tables-legacy-save"},
	} {
		ns.IPTables = append(ns.IPTables, netstack.IPTablesDump{
			Family: d.family, Backend: d.backend,
			Text: netstack.Text{File: d.tool, Data: []byte(j.in(judgeRouter, "", d.tool))},
		})
	}
	ns.NFT = netstack.Text{File: "nft.json", Data: j.nft()}
	ns.IPSet = netstack.Text{File: "ipset-save.txt", Data: []byte(j.in(judgeRouter, "", "ipset", "save"))}
	return ns
}

// reset empties the router's tables. (Sets may stay in use for a while: tests
// with sets have a router of their own.)
func (j *judge) reset() {
	for _, tool := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
		j.in(judgeRouter, "*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n*filter\nCOMMIT\n", tool)
	}
	j.in(judgeRouter, "flush ruleset", "nft", "-f", "-")
	j.in(judgeRouter, "", "conntrack", "-F")
}

// compare sends every probe, and checks that Run knew what would become of it.
func (j *judge) compare(probes []probe) {
	t := j.t
	t.Helper()
	rs := mustCompile(t, j.rulesOf())
	for i := range probes {
		p := &probes[i]
		if p.from == "" {
			p.from = judgeClient
		}
		if p.network == "" {
			p.network = "tcp"
		}
		if p.dst == "" {
			p.dst = "10.77.2.2"
		}
		*j.sourcePort++
		p.src = *j.sourcePort
		for _, ns := range []string{judgeServer, judgeRouter} {
			j.listen(ns, p.network, p.port)
			for _, port := range []uint16{8080, 2000, 2001, 2002} {
				j.listen(ns, p.network, port) // where translations lead
			}
		}
	}
	got := j.tryAll(probes)
	fates := make(map[string]int)
	for i, p := range probes {
		env := &judgeEnv{t: t}
		want := env.simulate(rs, p)
		for range 3 {
			if got[i] != "dropped" || want == got[i] {
				break
			}
			// Silence proves nothing on a busy machine.
			*j.sourcePort++
			p.src = *j.sourcePort
			got[i] = j.try(p)
			env = &judgeEnv{t: t}
			want = env.simulate(rs, p)
		}
		if drawn := p.drawn != nil && p.drawn(env.Kernel()); drawn != (env.alternatives > 0) {
			t.Errorf("%s %s:%d: %d alternatives, drawn by the kernel %v", p.network, p.dst, p.port, env.alternatives, drawn)
		}
		for pick := 1; pick < env.alternatives && got[i] != want; pick++ {
			env = &judgeEnv{t: t, pick: pick}
			want = env.simulate(rs, p)
		}
		fates[strings.Fields(got[i])[0]]++
		if got[i] != want || len(env.unknown) > 0 {
			t.Errorf("%s %s %s:%d from %s (%s): the kernel says %q, Run says %q, not knowing %q",
				p.name, p.network, p.dst, p.port, p.from, "source port "+fmt.Sprint(p.src), got[i], want, env.unknown)
		}
	}
	t.Logf("%d probes: %v", len(probes), fates)
}

// loadSets makes the sets, without those that this kernel is too old for, and returns the matches that name others.
func (j *judge) loadSets(sets string, matches []string) []string {
	j.t.Helper()
	older, found := strings.CutSuffix(sets, judgeSetsNewer)
	j.in(judgeRouter, older, "ipset", "restore")
	if !found {
		return matches
	}
	err := within(judgeRouter, func() error {
		cmd := exec.Command("ipset", "restore")
		cmd.Stdin = strings.NewReader(judgeSetsNewer)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	switch {
	case err == nil:
		return matches
	case !strings.Contains(err.Error(), "Your kernel is behind"):
		j.t.Fatal(err)
	}
	j.t.Log(err)
	return slices.DeleteFunc(slices.Clone(matches), func(m string) bool { return strings.Contains(m, "bits ") })
}

// account makes an object that counts for the match nfacct.
func (j *judge) account(name string) {
	j.t.Helper()
	err := within(judgeRouter, func() error {
		const newAccount, accountName = unix.NFNL_SUBSYS_ACCT << 8, 1 // NFNL_MSG_ACCT_NEW, NFACCT_NAME
		req := nl.NewNetlinkRequest(newAccount, unix.NLM_F_CREATE|unix.NLM_F_ACK)
		req.AddData(&nl.Nfgenmsg{})
		req.AddData(nl.NewRtAttr(accountName, nl.ZeroTerminated(name)))
		_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		return err
	})
	if err != nil {
		j.t.Fatal(err)
	}
}

func TestTheKernelAgreesOnMatches(t *testing.T) {
	for _, c := range []struct {
		command, dst, sets string
		matches            []string
	}{
		{"iptables-nft-restore", "10.77.2.2", judgeSets, judgeMatches4},
		{"iptables-legacy-restore", "10.77.2.2", judgeSets, judgeMatches4},
		{"ip6tables-nft-restore", "fd77:2::2", judgeSets6, judgeMatches6},
		{"ip6tables-legacy-restore", "fd77:2::2", judgeSets6, judgeMatches6},
	} {
		t.Run(c.command, func(t *testing.T) {
			j := newJudge(t)
			matches := j.loadSets(c.sets, c.matches)
			mac := mustMAC(t, strings.TrimSpace(j.in(judgeClient, "", "cat", "/sys/class/net/eth0/address")))
			judgeClientMAC = netstack.MAC(mac)
			defer func() { judgeClientMAC = netstack.MAC{} }()
			j.account("plnf")
			var mangle, filter strings.Builder
			var probes []probe
			for i, m := range matches {
				m = strings.ReplaceAll(m, "CLIENTMAC", mac.String())
				port := uint16(1000 + i)
				text, chain := &filter, "FORWARD"
				if strings.HasPrefix(m, "-m rpfilter") || strings.HasPrefix(m, "-m socket") {
					text, chain = &mangle, "PREROUTING" // where alone they may stand
				}
				fmt.Fprintf(text, "-A %s -p tcp --dport %d %s -j DROP\n", chain, port, m)
				probes = append(probes, probe{name: m, port: port, dst: c.dst})
			}
			j.in(judgeRouter, "*mangle\n-A FORWARD -j MARK --set-xmark 0x15/0x1f\n"+mangle.String()+
				"COMMIT\n*filter\n:FORWARD ACCEPT\n"+filter.String()+"COMMIT\n", c.command)
			j.compare(probes)
		})
	}
}

// TestConditionsOnTheTimeLoadAtAnyHour: which ones TestTheKernelAgreesOnMatches tries depends on when it runs.
func TestConditionsOnTheTimeLoadAtAnyHour(t *testing.T) {
	j := newJudge(t)
	var text strings.Builder
	for _, month := range []time.Month{time.February, time.December} {
		end := time.Date(2026, month+1, 1, 0, 0, 0, 0, time.UTC)
		for now := end.AddDate(0, 0, -2); now.Before(end.AddDate(0, 0, 1)); now = now.Add(10 * time.Minute) {
			for _, m := range judgeTimes(now) {
				fmt.Fprintf(&text, "-A FORWARD %s -j DROP\n", m)
			}
		}
	}
	for _, command := range []string{"iptables-nft-restore", "iptables-legacy-restore"} {
		j.in(judgeRouter, "*filter\n"+text.String()+"COMMIT\n", command, "--test")
	}
}

func TestTheKernelAgreesOnTargets(t *testing.T) {
	j := newJudge(t)
	for _, c := range judgeTargets {
		for _, command := range c.commands() {
			t.Run(c.name+"/"+command[0], func(t *testing.T) {
				j := j.sub(t)
				j.reset()
				j.in(judgeRouter, c.rules, command...)
				j.compare(slices.Clone(c.probes))
			})
		}
	}
}

func TestTheKernelAgreesOnSetsThatRulesChange(t *testing.T) {
	for _, command := range judgeSetTargets.commands() {
		t.Run(command[0], func(t *testing.T) {
			j := newJudge(t) // sets stay in use for a while
			j.in(judgeRouter, judgeTargetSets, "ipset", "restore")
			j.in(judgeRouter, judgeSetTargets.rules, command...)
			j.compare(slices.Clone(judgeSetTargets.probes))
		})
	}
}

// commands load the rules: by both backends, if iptables does.
func (r *judgeRules) commands() [][]string {
	if r.restore == "nft" {
		return [][]string{{"nft", "-f", "-"}}
	}
	tool, _, _ := strings.Cut(r.restore, "-")
	return [][]string{{tool + "-nft-restore"}, {tool + "-legacy-restore"}}
}

func TestTheKernelAgreesOnOutput(t *testing.T) {
	j := newJudge(t)
	var text strings.Builder
	text.WriteString("*filter\n:OUTPUT ACCEPT\n")
	var probes []probe
	for i, m := range judgeOutput {
		port := uint16(1000 + i)
		fmt.Fprintf(&text, "-A OUTPUT -p tcp --dport %d %s -j DROP\n", port, m)
		probes = append(probes, probe{name: m, port: port, from: judgeRouter})
	}
	j.in(judgeRouter, text.String()+"COMMIT\n", "iptables-nft-restore")
	j.compare(probes)
}

func TestTheKernelAgreesThatBothBackendsFilter(t *testing.T) {
	j := newJudge(t)
	j.in(judgeRouter, "*filter\n:FORWARD ACCEPT\n-A FORWARD -p tcp --dport 1001 -j DROP\n-A FORWARD -p tcp --dport 1003 -j ACCEPT\nCOMMIT\n", "iptables-legacy-restore")
	j.in(judgeRouter, "*filter\n:FORWARD ACCEPT\n-A FORWARD -p tcp --dport 1002:1003 -j DROP\nCOMMIT\n", "iptables-nft-restore")
	j.in(judgeRouter, "table ip own { chain f { type filter hook forward priority 10\n tcp dport 1004 drop\n } \n}", "nft", "-f", "-")
	j.compare(ports(1001, 1002, 1003, 1004, 1005))
}
