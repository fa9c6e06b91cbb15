package judge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// lookupWorld is a namespace with routing state, in which look-ups of the
// kernel are compared with the simulator's.
type lookupWorld struct {
	Name string
	// Setup has a command of ip(8) in each line, or "sysctl KEY=VALUE". Those
	// that the kernel refuses are left out: what it took is collected.
	Setup []string

	state *netstack.Namespace
	fib   *fib.FIB
	// stored is the same out of a bundle.
	stored *fib.FIB
	index  map[string]int
	names  map[int]string
	sock   int
	buf    []byte
	seq    uint32
}

// open makes the namespace, collects it, and opens a netlink socket in it.
func (w *lookupWorld) open(ctx context.Context) error {
	_ = exec.Command("ip", "netns", "del", w.Name).Run() // what a crash has left
	if out, err := exec.Command("ip", "netns", "add", w.Name).CombinedOutput(); err != nil {
		return fmt.Errorf("add namespace %s: %w: %s", w.Name, err, out)
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	for _, part := range []netstack.Part{netstack.PartRoutes4, netstack.PartRoutes6, netstack.PartRules4, netstack.PartRules6, netstack.PartNextHops, netstack.PartAddrLabels} {
		if s := w.state.PartStatus(part); s.State != netstack.StateOK {
			return fmt.Errorf("%s of %s: %s %s", part, w.Name, s.State, s.Detail)
		}
	}
	var err error
	w.sock, err = socketIn("/run/netns/" + w.Name)
	return err
}

// collect reads the namespace once it has settled.
func (w *lookupWorld) collect(ctx context.Context) error {
	for {
		snapshot, err := collector.New(collector.Options{Namespaces: []string{w.Name}}).Collect(ctx)
		if err != nil {
			return err
		}
		if len(snapshot.Namespaces) != 1 {
			return fmt.Errorf("%d namespaces collected instead of %s", len(snapshot.Namespaces), w.Name)
		}
		if w.load(snapshot.Namespaces[0]); w.settled() {
			stored, err := against.ThroughBundle(snapshot)
			if err != nil {
				return err
			}
			w.stored = fib.Compile(stored.Namespaces[0])
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s does not settle: %w", w.Name, err)
		}
	}
}

// settled says whether the kernel has done what it does later, on its own
// account: carriers are noticed, and IPv6 addresses have their routes then.
func (w *lookupWorld) settled() bool {
	carrier := make(map[string]bool)
	for i := range w.state.Links {
		l := &w.state.Links[i]
		carrier[l.Name] = l.Up() && l.Carrier()
		if peer := w.names[l.Peer]; l.Up() && peer != "" && peer != l.Name {
			at := slices.IndexFunc(w.state.Links, func(other netstack.Link) bool { return other.Name == peer })
			if both := w.state.Links[at].Up(); both != (l.OperState == "UP") || both != l.Carrier() {
				return false
			}
		}
	}
	for _, a := range w.state.Addresses {
		addr := a.Prefix.Addr()
		if addr.Is6() && carrier[a.Dev] && (!a.Usable() || w.fib.AddrType(addr, "") != netstack.RouteLocal) {
			return false
		}
	}
	return true
}

// run executes the setup: links and settings, and when carriers are noticed,
// which decide about routes, the rest, IPv6 last.
func (w *lookupWorld) run(ctx context.Context) error {
	var links, plain, six bytes.Buffer
	sysctls := []string{"netns", "exec", w.Name, "sysctl", "-qw"}
	for _, line := range w.Setup {
		if setting, ok := strings.CutPrefix(line, "sysctl "); ok {
			sysctls = append(sysctls, setting)
		} else if rest, ok := strings.CutPrefix(line, "-6 "); ok {
			six.WriteString(rest + "\n")
		} else if strings.HasPrefix(line, "link ") {
			links.WriteString(line + "\n")
		} else {
			plain.WriteString(line + "\n")
		}
	}
	batch := func(input *bytes.Buffer, options ...string) {
		cmd := exec.Command("ip", append(options, "-n", w.Name, "-force", "-batch", "-")...)
		cmd.Stdin = input
		_ = cmd.Run() // the kernel may refuse lines
	}
	_ = exec.Command("ip", sysctls...).Run() // those of "default", before there are links
	batch(&links)
	_ = exec.Command("ip", sysctls...).Run()
	if err := w.collect(ctx); err != nil {
		return err
	}
	batch(&plain)
	batch(&six, "-6")
	return w.collect(ctx)
}

func (w *lookupWorld) load(state *netstack.Namespace) {
	w.state, w.fib = state, fib.Compile(state)
	w.index, w.names = make(map[string]int), make(map[int]string)
	for i := range state.Links {
		l := &state.Links[i]
		w.index[l.Name], w.names[l.Index] = l.Index, l.Name
	}
	w.buf = make([]byte, 32<<10)
}

// sends says whether packets of the key are in this namespace: one that came in
// by a device which is there, or that has no address which the kernel refused.
func (w *lookupWorld) sends(k *fib.Key) bool {
	if k.IIF != "" {
		return w.index[k.IIF] != 0
	}
	return !k.Src.IsValid() ||
		slices.ContainsFunc(w.state.Addresses, func(own netstack.Address) bool { return own.Prefix.Addr() == k.Src })
}

func (w *lookupWorld) close() error {
	if w.sock > 0 {
		unix.Close(w.sock)
	}
	return exec.Command("ip", "netns", "del", w.Name).Run()
}

// socketIn opens a routing socket in a namespace: it stays there when the
// thread goes back.
func socketIn(path string) (sock int, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return 0, err
	}
	defer home.Close()
	there, err := os.Open(path)
	if err != nil {
		runtime.UnlockOSThread()
		return 0, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("enter %s: %w", path, err)
	}
	sock, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return 0, fmt.Errorf("come back from %s: %w", path, back) // the thread stays locked, and ends
	}
	runtime.UnlockOSThread()
	return sock, err
}

// Attributes of RTM_GETROUTE that golang.org/x/sys does not name.
const (
	rtaMark    = 16
	rtaUID     = 25
	rtaIPProto = 27
	rtaSPort   = 28
	rtaDPort   = 29

	rtmFLookupTable = 0x1000
)

// ask looks a key up in the kernel: RTM_GETROUTE, as `ip route get` does.
func (w *lookupWorld) ask(k *fib.Key) (string, error) {
	w.seq++
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg, 256)
	family, bits := uint8(unix.AF_INET), uint8(32)
	if k.Dst.Is6() {
		family, bits = unix.AF_INET6, 128
	}
	msg := b[unix.SizeofNlMsghdr:]
	msg[0], msg[1], msg[3] = family, bits, k.TOS
	binary.NativeEndian.PutUint32(msg[8:], rtmFLookupTable)
	attr := func(typ uint16, data []byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		b = append(b, data...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	u32 := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	attr(unix.RTA_DST, k.Dst.AsSlice())
	if k.Src.IsValid() {
		b[unix.SizeofNlMsghdr+2] = bits
		attr(unix.RTA_SRC, k.Src.AsSlice())
	}
	if k.IIF != "" {
		attr(unix.RTA_IIF, u32(uint32(w.index[k.IIF])))
	}
	if k.UID != nil {
		attr(rtaUID, u32(*k.UID))
	} else {
		attr(rtaUID, u32(0)) // as a packet that no socket sent
	}
	if k.OIF != "" {
		attr(unix.RTA_OIF, u32(uint32(w.index[k.OIF])))
	}
	attr(rtaMark, u32(k.Mark))
	if k.Protocol != 0 {
		attr(rtaIPProto, []byte{uint8(k.Protocol)})
		attr(rtaSPort, binary.BigEndian.AppendUint16(nil, k.SrcPort))
		attr(rtaDPort, binary.BigEndian.AppendUint16(nil, k.DstPort))
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[8:], w.seq)
	if err := unix.Sendto(w.sock, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return "", fmt.Errorf("send look-up: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(w.sock, w.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("receive answer: %w", err)
		}
		answer := w.buf[:n]
		if n < unix.SizeofNlMsghdr || binary.NativeEndian.Uint32(answer[8:]) != w.seq {
			continue
		}
		if binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
			code := syscall.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
			return "error " + unix.ErrnoName(code), nil
		}
		return w.render(answer[unix.SizeofNlMsghdr:], k)
	}
}

// answer is what a look-up says, in the words of both sides.
func answer(typ netstack.RouteType, dev string, gateway, src netip.Addr, table uint32, mtu int) string {
	text := fmt.Sprintf("%s table %d src %s", typ, table, src)
	if typ == netstack.RouteLocal {
		return text
	}
	if gateway.IsValid() {
		text += " via " + gateway.String()
	}
	text += " dev " + dev
	if mtu != 0 {
		text += fmt.Sprintf(" mtu %d", mtu)
	}
	return text
}

var routeTypeNames = map[uint8]netstack.RouteType{
	unix.RTN_UNICAST: netstack.RouteUnicast, unix.RTN_LOCAL: netstack.RouteLocal, unix.RTN_BROADCAST: netstack.RouteBroadcast,
	unix.RTN_ANYCAST: netstack.RouteAnycast, unix.RTN_MULTICAST: netstack.RouteMulticast, unix.RTN_BLACKHOLE: netstack.RouteBlackhole,
	unix.RTN_UNREACHABLE: netstack.RouteUnreachable, unix.RTN_PROHIBIT: netstack.RouteProhibit, unix.RTN_THROW: netstack.RouteThrow,
}

// render reads a struct rtmsg with its attributes.
func (w *lookupWorld) render(msg []byte, k *fib.Key) (string, error) {
	typ := routeTypeNames[msg[7]]
	table := uint32(msg[4])
	src := k.Src
	var gateway netip.Addr
	var dev string
	var mtu int
	err := eachAttribute(msg[unix.SizeofRtMsg:], func(kind uint16, data []byte) {
		switch kind {
		case unix.RTA_TABLE:
			table = binary.NativeEndian.Uint32(data)
		case unix.RTA_PREFSRC:
			if !k.Src.IsValid() && k.IIF == "" {
				src, _ = netip.AddrFromSlice(data)
			}
		case unix.RTA_GATEWAY:
			gateway, _ = netip.AddrFromSlice(data)
		case unix.RTA_VIA:
			gateway, _ = netip.AddrFromSlice(data[2:])
		case unix.RTA_OIF:
			dev = w.names[int(binary.NativeEndian.Uint32(data))]
		case unix.RTA_METRICS:
			_ = eachAttribute(data, func(kind uint16, data []byte) {
				if kind == unix.RTAX_MTU {
					mtu = int(binary.NativeEndian.Uint32(data))
				}
			})
		}
	})
	return answer(typ, dev, gateway, src, table, mtu), err
}

func eachAttribute(b []byte, read func(kind uint16, data []byte)) error {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return fmt.Errorf("attribute of %d bytes in %d", n, len(b))
		}
		read(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:n])
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

// simulated is what the simulator says of a look-up: the answers that the kernel
// may give, and how often.
type simulated struct {
	answers []string
	shares  []float64
	unknown string
}

// simulate looks a key up in the simulator, for all ways that its flow may take.
func simulate(f *fib.FIB, k fib.Key) (s simulated) {
	var own netip.Addr
	if k.IIF == "" {
		own = k.Src
	}
	// A look-up may ask, of several routes, which way the flow takes. Those of the
	// first routes are given, the others take their first way, and then each other.
	var walk func(given []int)
	walk = func(given []int) {
		taken, share, asked := slices.Clone(given), 1.0, map[*netstack.Route]int{}
		var ways []int
		res := f.LookupBound(k, func(res *fib.Result) int {
			if way, known := asked[res.Route]; known {
				return way
			}
			if len(asked) == len(taken) {
				taken, ways = append(taken, 0), append(ways, len(res.NextHops))
			}
			way := taken[len(asked)]
			asked[res.Route] = way
			share *= f.Shares(res, own)[way]
			return way
		})
		if share > 0 {
			s.add(f, &k, &res, own, share, asked)
		}
		for i, n := range ways {
			for way := 1; way < n; way++ {
				walk(append(slices.Clone(taken[:len(given)+i]), way))
			}
		}
	}
	walk(nil)
	return s
}

// add adds the answers of one way.
func (s *simulated) add(f *fib.FIB, k *fib.Key, res *fib.Result, own netip.Addr, share float64, asked map[*netstack.Route]int) {
	code := ""
	switch {
	case res.Unknown != "":
		s.unknown = res.Unknown
		return
	case res.Type == netstack.RouteBlackhole:
		code = "EINVAL"
	case res.Type == netstack.RouteProhibit:
		code = "EACCES"
	case res.Type == netstack.RouteUnreachable && res.Route != nil:
		code = "EHOSTUNREACH"
	case !res.Found():
		code = "ENETUNREACH"
	case k.Dst.Is4() && k.IIF != "" && (res.Type == netstack.RouteAnycast || res.Type == netstack.RouteMulticast):
		code = "EINVAL" // a martian destination
	}
	if code != "" {
		s.answers, s.shares = append(s.answers, "error "+code), append(s.shares, share)
		return
	}
	parts := f.Shares(res, own)
	if way, known := asked[res.Route]; known {
		clear(parts)
		parts[way] = 1
	}
	for i, hop := range res.NextHops {
		if parts[i] == 0 {
			continue
		}
		src := k.Src
		if !src.IsValid() && k.IIF == "" {
			src, _ = f.SourceAddress(res, hop, k.Dst)
		}
		dev, table, gateway, mtu := hop.Dev, res.Route.Table, hop.Gateway, res.Route.MTU
		if k.IIF != "" && k.Dst.Is4() && res.Type == netstack.RouteBroadcast {
			dev, gateway, mtu = "lo", netip.Addr{}, 0 // it is delivered here
		}
		if k.Dst.Is6() && res.LoopsBack() {
			dev = "lo" // ip6_rt_get_dev_rcu
		}
		if k.Dst.Is4() && table == netstack.TableLocal && !f.CustomRules() {
			table = netstack.TableMain // the kernel has both in one
		}
		s.answers = append(s.answers, answer(res.Type, dev, gateway, src, table, mtu))
		s.shares = append(s.shares, share*parts[i])
	}
}

// judge compares one look-up; it returns "" if they agree.
func (w *lookupWorld) judge(k fib.Key) (disagreement, kernel string, err error) {
	kernel, err = w.ask(&k)
	if err != nil {
		return "", "", err
	}
	s, stored := simulate(w.fib, k), simulate(w.stored, k)
	switch {
	case s.unknown != stored.unknown || !slices.Equal(s.answers, stored.answers):
		return fmt.Sprintf("%s: the simulator says %q %s, from a bundle %q %s", describeKey(&k), s.answers, s.unknown, stored.answers, stored.unknown), kernel, nil
	case slices.Contains(s.answers, kernel):
		return "", kernel, nil
	case s.unknown != "":
		return "", "unknown: " + s.unknown, nil
	}
	return fmt.Sprintf("%s: the kernel says %q, the simulator %q", describeKey(&k), kernel, s.answers), kernel, nil
}

// describeKey is the command that asks for the key.
func describeKey(k *fib.Key) string {
	text := "ip route get " + k.Dst.String()
	add := func(word string, v any, given bool) {
		if given {
			text += fmt.Sprintf(" %s %v", word, v)
		}
	}
	add("from", k.Src, k.Src.IsValid())
	add("iif", k.IIF, k.IIF != "")
	add("oif", k.OIF, k.OIF != "")
	add("mark", k.Mark, k.Mark != 0)
	add("tos", fmt.Sprintf("%#x", k.TOS), k.TOS != 0)
	if k.UID != nil && k.IIF == "" {
		add("uid", *k.UID, true)
	}
	add("ipproto", k.Protocol, k.Protocol != 0)
	add("sport", k.SrcPort, k.Protocol != 0)
	add("dport", k.DstPort, k.Protocol != 0)
	return text
}
