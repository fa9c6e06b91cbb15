package confirm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// dnsServer answers on 127.0.0.1 of a namespace of the test's own, and remembers the
// names that it was asked for.
type dnsServer struct {
	mu    sync.Mutex
	asked []string
}

func (s *dnsServer) serve(c net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		s.mu.Lock()
		if name := strings.TrimSuffix(q.Name.String(), "."); !slices.Contains(s.asked, name) {
			s.asked = append(s.asked, name)
		}
		s.mu.Unlock()
		m.Response, m.Additionals = true, nil
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch name := q.Name.String(); {
		case strings.HasPrefix(name, "large."): // for a datagram
			m.Truncated = true
		case strings.HasPrefix(name, "broken."):
			m.RCode = dnsmessage.RCodeServerFailure
		case name == "here.example.":
			switch q.Type {
			case dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
			case dnsmessage.TypeAAAA:
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}}}
			}
		default:
			m.RCode = dnsmessage.RCodeNameError
		}
		if packed, err := m.Pack(); err == nil {
			c.WriteTo(packed, from)
		}
	}
}

func startDNS(t *testing.T) (*dnsServer, func(fn func() error) error) {
	t.Helper()
	var own netns.NsHandle
	err := onThread(func() error {
		var err error
		if own, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	inside := func(fn func() error) error {
		return onThread(func() error { return errors.Join(netns.Set(own), fn()) })
	}
	s := new(dnsServer)
	err = inside(func() error {
		c, err := net.ListenPacket("udp", "127.0.0.1:53")
		if err == nil {
			t.Cleanup(func() { c.Close() })
			go s.serve(c)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, inside
}

func TestNameServersAreAsked(t *testing.T) {
	_, inside := startDNS(t)
	for _, test := range []struct {
		server, name string
		status       resolver.Status
		addresses    string
	}{
		{"127.0.0.1", "here.example", resolver.OK, "[192.0.2.1 2001:db8::1]"},
		{"127.0.0.1", "nobody.example", resolver.NotFound, "[]"},
		{"127.0.0.1", "broken.example", resolver.Failed, "[]"},
		{"127.0.0.2", "here.example", resolver.Timeout, "[]"}, // nothing listens
	} {
		a := Heard{Answer: resolver.Answer{Question: resolver.Question{Server: netip.MustParseAddr(test.server), Name: test.name}}}
		if err := inside(func() error { return askName(context.Background(), &a) }); err != nil {
			t.Fatal(err)
		}
		if got := textOf(a.Addresses); a.Status != test.status || got != test.addresses {
			t.Errorf("%s at %s: %s %s (%s), want %s %s", test.name, test.server, a.Status, got, a.Detail, test.status, test.addresses)
		}
	}
}

// What keeps a question from its server, or the answer from who asks, is silence; only
// where nothing was tried is it not known.
func TestWhatKeepsAnswersAway(t *testing.T) {
	_, inside := startDNS(t)
	run := func(argv ...string) {
		t.Helper()
		if err := inside(func() error {
			out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%v: %w: %s", argv, err, out)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(server, name string) (Heard, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h := Heard{Answer: resolver.Answer{Question: resolver.Question{Server: netip.MustParseAddr(server), Name: name}}}
		return h, inside(func() error { return askName(ctx, &h) })
	}
	want := func(server, name string, status resolver.Status, detail string) {
		t.Helper()
		if h, err := ask(server, name); err != nil || h.Status != status || h.Detail != detail {
			t.Errorf("%s at %s: %s (%s) %v, want %s (%s)", name, server, h.Status, h.Detail, err, status, detail)
		}
	}
	run("ip", "route", "add", "prohibit", "192.0.2.1")
	run("ip", "route", "add", "blackhole", "192.0.2.2")
	run("ip", "route", "add", "unreachable", "192.0.2.3")
	want("192.0.2.1", "here.example", resolver.Timeout, "permission denied")
	want("192.0.2.2", "here.example", resolver.Timeout, "invalid argument")
	want("192.0.2.3", "here.example", resolver.Timeout, "no route to host")
	want("192.0.2.4", "here.example", resolver.Timeout, "network is unreachable")

	want("127.0.0.1", "large.example", resolver.Timeout, "connection refused")
	run("nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in tcp dport 53 drop")
	want("127.0.0.1", "large.example", resolver.Timeout, "2 times 2s")
	run("nft", "flush ruleset")

	var mu sync.Mutex
	var answer func(c net.Conn)
	if err := inside(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				answer(c)
				mu.Unlock()
				c.Close()
			}
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	over := func(how func(c net.Conn)) {
		mu.Lock()
		defer mu.Unlock()
		answer = how
	}
	question := func(c net.Conn) []byte {
		length := make([]byte, 2)
		_, _ = io.ReadFull(c, length)
		q := make([]byte, binary.BigEndian.Uint16(length))
		_, _ = io.ReadFull(c, q)
		return q
	}
	over(func(c net.Conn) { question(c) })
	want("127.0.0.1", "large.example", resolver.Timeout, "the connection was closed")
	over(func(c net.Conn) {
		question(c)
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	want("127.0.0.1", "large.example", resolver.Timeout, "connection reset by peer")
	over(func(c net.Conn) {
		question(c)
		_, _ = c.Write([]byte{0, 3, 'o', 'h', '!'})
	})
	want("127.0.0.1", "large.example", resolver.Timeout, "127.0.0.1:53 answers something else over TCP")
	over(func(c net.Conn) {
		var m dnsmessage.Message
		if err := m.Unpack(question(c)); err != nil {
			return
		}
		m.Response = true
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}}}
		}
		packed, _ := m.Pack()
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	})
	if h, err := ask("127.0.0.1", "large.example"); err != nil || h.Status != resolver.OK || textOf(h.Addresses) != "[192.0.2.7]" {
		t.Errorf("over TCP: %+v %v", h, err)
	}

	run("nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }; add rule ip t out udp dport 53 drop")
	want("127.0.0.1", "here.example", resolver.Timeout, "operation not permitted")
	if _, err := ask("127.0.0.1", strings.Repeat("a", 300)); err == nil {
		t.Error("a name that cannot be asked for is said to have been")
	}
	if err := opening(&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}); !errors.As(err, new(unasked)) {
		t.Errorf("without a socket: %v", err)
	}
}

// TestAnAgentAsksAndAnswersAreKept asks through an agent, which asks a server that counts.
func TestAnAgentAsksAndAnswersAreKept(t *testing.T) {
	s, inside := startDNS(t)
	client, agent := here(t, Handler(func(namespace string, fn func() error) error {
		if namespace != "pod" {
			return errors.New("no such network namespace: " + namespace)
		}
		return inside(fn)
	}, rate.NewLimiter(rate.Inf, 0)))
	names := &Names{Ask: func(ctx context.Context, q resolver.Question) (Heard, error) {
		return AskName(ctx, client, agent, strings.TrimPrefix(q.Namespace, "node-1/"), q)
	}}
	question := func(name string) resolver.Question {
		return resolver.Question{Namespace: "node-1/pod", Server: netip.MustParseAddr("127.0.0.1"), Name: name}
	}
	asked := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		some := len(s.asked) > 0
		s.asked = nil
		return some
	}
	for _, test := range []struct {
		name   string
		status resolver.Status
		kept   bool
	}{{"here.example", resolver.OK, true}, {"nobody.example", resolver.NotFound, true}, {"broken.example", resolver.Failed, false}} {
		for _, again := range []bool{false, true} {
			a, ok := names.answer(t.Context(), question(test.name))
			if !ok || a.Question != question(test.name) || a.Status != test.status || asked() == (again && test.kept) {
				t.Errorf("%s, again %t: %+v %t", test.name, again, a, ok)
			}
		}
		if a, err := names.ask(t.Context(), question(test.name)); err != nil || a.Status != test.status || !asked() {
			t.Errorf("%s, now: %+v %v", test.name, a, err)
		}
	}
	known := names.Known(time.Time{})
	if len(known) != 3 || known[1].Name != "here.example" || textOf(known[1].Addresses) != "[192.0.2.1 2001:db8::1]" {
		t.Errorf("%+v are known", known)
	}
	if known := names.Known(time.Now().Add(time.Second)); len(known) > 0 {
		t.Errorf("%+v are known since in a second", known)
	}
	if _, err := names.ask(t.Context(), resolver.Question{Namespace: "node-1/gone", Server: netip.MustParseAddr("127.0.0.1"), Name: "here.example"}); err == nil || !strings.Contains(err.Error(), "no such network namespace: gone") {
		t.Errorf("error %v", err)
	}
}

func textOf(addrs []netip.Addr) string {
	texts := []string{}
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return "[" + strings.Join(texts, " ") + "]"
}

// TestCandidatesAreThoseOfTheCLibrary has getent, which asks as the C library of this
// host does, look names up, and compares what the server was asked for.
func TestCandidatesAreThoseOfTheCLibrary(t *testing.T) {
	out, err := exec.Command("getconf", "GNU_LIBC_VERSION").Output()
	if err != nil || !strings.HasPrefix(string(out), "glibc") {
		t.Skip("the C library is not glibc")
	}
	s, inside := startDNS(t)
	for _, conf := range []string{
		"search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
		"search a.example b.example\noptions ndots:1\n",
		"search a.example\nsearch b.example\noptions ndots:3 ndots:2\n",
		"domain c.example\nsearch .\n",
		"search a.example . b.example\noptions ndots:2\n",
		"domain Upper.Example more\noptions timeout:1 ndots:0\n",
		"search example\n",
		"search a.example\noptions ndots:5\n",
		// What the C library makes of what is malformed.
		"nameserver x\nnameserver\nsearch a.example\n",
		"search a.example\noptions ndots:x\n",
		"search a.example\noptions ndots:-1\n",
		"search a.example\noptions ndots:2x\n",
		"search .a.example b..example c.example\n",
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"+conf), 0o600); err != nil {
			t.Fatal(err)
		}
		config := resolver.ParseConfig([]byte("nameserver 127.0.0.1\n" + conf))
		for _, name := range []string{"api", "api.shop", "api.shop.svc.cluster", "api.shop.", "x.y.z", "here", "broken.shop"} {
			s.mu.Lock()
			s.asked = nil
			s.mu.Unlock()
			_ = inside(func() error {
				// A mount namespace of its own for the file, and only DNS to look names up in.
				return exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec getent -s hosts:dns ahosts "$2"`, "sh", file, name).Run()
			})
			var want []string
			for _, candidate := range config.Candidates(name) {
				want = append(want, candidate)
				if candidate == "here.example" {
					break // the first answer wins
				}
			}
			s.mu.Lock()
			got := make([]string, 0, len(s.asked))
			for _, asked := range s.asked {
				got = append(got, strings.ToLower(asked))
			}
			s.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%q, %s: the C library asks for %v, not %v", conf, name, got, want)
			}
		}
	}
}

// TestHostsAreThoseOfTheCLibrary has getent look names up in a hosts file alone.
func TestHostsAreThoseOfTheCLibrary(t *testing.T) {
	_, inside := startDNS(t) // whose namespace has loopback alone, as good as any
	const hosts = "10.0.0.7 db # a comment\n<TODO> todo\nfe80::1%lo zoned\n010.0.0.1 octal\n10.1 short\n::ffff:10.0.0.9 mapped\n" +
		"10.0.0.300 large\n10.0.0.8\n \t10.0.0.10 indented\n10.0.0.11\tbad..name Other\nlocalhost 127.0.0.1\n2001:db8::1 six\n10.0.0.12 db\n"
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed := resolver.ParseHosts([]byte(hosts))
	for _, name := range []string{"db", "todo", "zoned", "octal", "short", "mapped", "large", "indented", "bad..name", "other", "six"} {
		var out []byte
		_ = inside(func() (err error) {
			out, err = exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/hosts && exec getent -s hosts:files ahosts "$2"`, "sh", file, name).Output()
			return err
		})
		got := []netip.Addr{}
		for line := range strings.Lines(string(out)) {
			if words := strings.Fields(line); words[1] == "STREAM" {
				got = append(got, netip.MustParseAddr(words[0]).Unmap())
			}
		}
		want := slices.Clone(parsed.Lookup(name))
		slices.SortFunc(got, netip.Addr.Compare)
		slices.SortFunc(want, netip.Addr.Compare)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the C library finds %v, not %v", name, got, want)
		}
	}
}

// onThread runs fn on a thread that ends with it, wherever that has gone.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}
