// Package ipvs holds the simulator's IPVS against the kernel's: real connections
// through virtual services find out who answers, and the diagnosis of the
// collected state must say the same. It is skipped where the kernel has no IPVS,
// unless PLUMBLINE_REQUIRE names "ipvs" or "all".
package ipvs

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
)

// The world: a node n that balances, with two servers and a client on its
// bridge, and a client c outside.
//
//	c 10.9.0.1 ── c0 n br0 10.9.1.254 ── p 10.9.1.1, q 10.9.1.2, a 10.9.1.3
//	               kube-ipvs0 10.9.9.9
var namespaces = []string{"c", "n", "p", "q", "a"}

const links = `
	n link add kube-ipvs0 type dummy
	n link add br0 type bridge forward_delay 0
	n link set br0 up
	n link add c0 type veth peer name eth0 netns {c}
	n link set c0 up
	n link add p0 type veth peer name eth0 netns {p}
	n link set p0 up master br0
	n link add q0 type veth peer name eth0 netns {q}
	n link set q0 up master br0
	n link add a0 type veth peer name eth0 netns {a}
	n link set a0 up master br0
	c link set eth0 up
	p link set eth0 up
	q link set eth0 up
	a link set eth0 up
`

const addresses = `
	n addr add 9.9/FULL dev kube-ipvs0
	n addr add 1.254/NET dev br0
	n addr add 0.254/NET dev c0
	c addr add 0.1/NET dev eth0
	p addr add 1.1/NET dev eth0
	q addr add 1.2/NET dev eth0
	a addr add 1.3/NET dev eth0
	c route add default via 0.254
	p route add default via 1.254
	q route add default via 1.254
	a route add default via 1.254
`

// netns is the full name of a namespace: each family has a world of its own.
func (f *family) netns(short string) string { return "plipvs" + f.option + "-" + short }

// family writes SUBNET.HOST of a set-up in the words of a family.
type family struct {
	name             string
	base, separator  string
	iptables, option string
}

var families = []family{
	{"IPv4", "10.9.", ".", "iptables", "-4"},
	{"IPv6", "fd00:9:", "::", "ip6tables", "-6"},
}

func (f *family) addr(short string) string {
	subnet, host, _ := strings.Cut(short, ".")
	return f.base + subnet + f.separator + host
}

// host is an address with a port: brackets belong to IPv6.
func (f *family) host(short, port string) string { return net.JoinHostPort(f.addr(short), port) }

func need(t *testing.T) {
	t.Helper()
	_, err := os.Stat("/proc/net/ip_vs")
	if err == nil && os.Geteuid() == 0 {
		return
	}
	for name := range strings.SplitSeq(os.Getenv("PLUMBLINE_REQUIRE"), ",") {
		if name == "ipvs" || name == "all" {
			t.Fatal("this kernel has no IPVS")
		}
	}
	t.Skip("needs root, and a kernel with IPVS")
}

func (f *family) command(t *testing.T, ns string, argv ...string) {
	t.Helper()
	if ns != "" {
		argv = append([]string{"ip", "netns", "exec", f.netns(ns)}, argv...)
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// makeWorld makes the namespaces and links of one family, with a server on
// port 80 in each.
func (f *family) makeWorld(t *testing.T) {
	t.Helper()
	for _, ns := range namespaces {
		exec.Command("ip", "netns", "del", f.netns(ns)).Run() // what a crash has left
		f.command(t, "", "ip", "netns", "add", f.netns(ns))
		t.Cleanup(func() { exec.Command("ip", "netns", "del", f.netns(ns)).Run() })
		f.command(t, ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0",
			"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
			"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		f.command(t, ns, "ip", "link", "set", "lo", "up")
	}
	for line := range strings.Lines(links + addresses) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		for i, word := range words {
			short, bits, isNet := strings.Cut(word, "/")
			switch {
			case strings.HasPrefix(word, "{"):
				words[i] = f.netns(strings.Trim(word, "{}"))
			case isNet:
				words[i] = f.addr(short) + "/" + map[string]string{"NET4": "24", "NET6": "64", "FULL4": "32", "FULL6": "128"}[bits+f.option[1:]]
			case isShort(word):
				words[i] = f.addr(word)
			}
		}
		f.command(t, words[0], append([]string{"ip", f.option}, words[1:]...)...)
	}
	for _, ns := range namespaces {
		f.serve(t, ns)
	}
	for _, ns := range namespaces {
		for deadline := time.Now().Add(20 * time.Second); ; {
			out, err := exec.Command("ip", "netns", "exec", f.netns(ns), "sh", "-c", "ip -6 addr show tentative; ip link | grep -c LOWERLAYERDOWN; true").Output()
			if err == nil && strings.TrimSpace(string(out)) == "0" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not settle: %s %v", ns, out, err)
			}
		}
	}
}

// isShort says whether a word is SUBNET.HOST.
func isShort(word string) bool {
	subnet, host, ok := strings.Cut(word, ".")
	digits := func(s string) bool {
		return s != "" && !slices.ContainsFunc([]rune(s), func(r rune) bool { return r < '0' || r > '9' })
	}
	return ok && digits(subnet) && digits(host)
}

func (f *family) serve(t *testing.T, ns string) {
	t.Helper()
	err := lab.InNetns(f.netns(ns), func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go lab.ServeTCP(l, ns)
		c, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		go lab.ServeUDP(c, ns)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (f *family) collect(t *testing.T) *simulator.World {
	t.Helper()
	return against.Compile(t, against.Collect(t, collector.Options{Namespaces: []string{f.netns("*")}}))
}
