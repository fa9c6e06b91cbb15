// Package links holds the simulator's link layer against the kernel's: each
// scenario makes a small topology of network namespaces, real connections find
// out what becomes of packets in it, and the diagnosis of the collected state
// must say the same. Scenarios that need a feature the kernel lacks are skipped,
// unless PLUMBLINE_REQUIRE names the feature.
package links

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const prefix = "pllk-"

// world is a topology of namespaces, by their short names.
type world struct {
	t     *testing.T
	name  string
	names []string
}

func (w *world) netns(short string) string { return prefix + w.name + "-" + short }

// newWorld makes the namespaces, with a server in each.
func newWorld(t *testing.T, name string, shorts ...string) *world {
	t.Helper()
	w := &world{t: t, name: name, names: shorts}
	for _, short := range shorts {
		ns := w.netns(short)
		_ = lab.RemoveNetns(ns) // what a crash has left
		if err := lab.NewNetns(ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := lab.RemoveNetns(ns); err != nil {
				t.Error(err)
			}
		})
		w.command(short, "sysctl", "-qw",
			"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0",
			"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
		w.up(short, "lo")
		w.serve(short)
	}
	return w
}

// serve listens in a namespace: TCP and UDP, both families.
func (w *world) serve(short string) {
	w.t.Helper()
	err := lab.InNetns(w.netns(short), func() error {
		for _, f := range []string{"4", "6"} {
			l, err := net.Listen("tcp"+f, ":80")
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { l.Close() })
			go lab.ServeTCP(l, short)
			c, err := net.ListenPacket("udp"+f, ":80")
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { c.Close() })
			go lab.ServeUDP(c, short)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// command runs a command in a namespace. Settings are written here: a process for each would take most of the time in a
// virtual machine.
func (w *world) command(short string, argv ...string) []byte {
	w.t.Helper()
	var out []byte
	err := lab.InNetns(w.netns(short), func() (err error) {
		if argv[0] == "sysctl" {
			return setSysctls(argv[1:])
		}
		out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		w.t.Fatalf("%s: %s: %v\n%s", short, strings.Join(argv, " "), err, out)
	}
	return out
}

// setSysctls does what sysctl -qw does.
func setSysctls(settings []string) error {
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			continue
		}
		path := "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// rtnl calls fn with a netlink socket of a namespace.
func (w *world) rtnl(short string, fn func(*netlink.Handle) error) {
	w.t.Helper()
	err := lab.InNetns(w.netns(short), func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
	if err != nil {
		w.t.Fatalf("%s: %v", short, err)
	}
}

// up sets a link up.
func (w *world) up(short, dev string) {
	w.t.Helper()
	w.rtnl(short, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return err
		}
		return h.LinkSetUp(link)
	})
}

// wire joins two namespaces with a veth.
func (w *world) wire(a, dev, b, peer string) {
	w.t.Helper()
	at, err := netns.GetFromName(w.netns(b))
	if err != nil {
		w.t.Fatal(err)
	}
	defer at.Close()
	w.rtnl(a, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: dev}, PeerName: peer, PeerNamespace: netlink.NsFd(at)})
	})
	w.up(a, dev)
	w.up(b, peer)
}

// address is SUBNET.HOST in a family, or the unspecified address.
func address(text string, f netstack.Family) string {
	if text == unspecified {
		return map[netstack.Family]string{netstack.IPv4: "0.0.0.0", netstack.IPv6: "::"}[f]
	}
	subnet, host, ok := strings.Cut(text, ".")
	if !ok {
		panic("not SUBNET.HOST: " + text)
	}
	if f == netstack.IPv6 {
		return fmt.Sprintf("fd00:9:%s::%s", subnet, host)
	}
	return fmt.Sprintf("10.9.%s.%s", subnet, host)
}

// words of a line that depend on the family: {1.2} is host 2 of subnet 1, {1/}
// that subnet.
var words = regexp.MustCompile(`\{(\d+\.\d+|\d+/|ip|iptables|icmp|bits)\}`)

func expand(line string, f netstack.Family) string {
	six := f == netstack.IPv6
	return words.ReplaceAllStringFunc(line, func(word string) string {
		switch word = strings.Trim(word, "{}"); {
		case word == "ip" && six:
			return "ip -6"
		case word == "ip":
			return "ip -4"
		case word == "iptables" && six:
			return "ip6tables"
		case word == "icmp" && six:
			return "ipv6-icmp"
		case word == "bits" && six:
			return "64"
		case word == "bits":
			return "24"
		case word == "iptables", word == "icmp":
			return word
		case strings.HasSuffix(word, "/") && six:
			return "fd00:9:" + word[:len(word)-1] + "::/64"
		case strings.HasSuffix(word, "/"):
			return "10.9." + word[:len(word)-1] + ".0/24"
		}
		return address(word, f)
	})
}

var bothFamilies = []netstack.Family{netstack.IPv4, netstack.IPv6}

// apply runs the lines of a set-up. A line is one of
//
//	wire A:DEV B:DEV       a veth between two namespaces, up
//	addr A:DEV SUBNET.HOST an address in each family
//	settle                 wait until links and ports are in their states
//	mac WORD A:DEV         from here on, WORD is the device's address
//	A COMMAND...           a command in a namespace; with a word of a family, in
//	                       each; {A} is the full name of namespace A
func (w *world) apply(setup string, families []netstack.Family) {
	w.t.Helper()
	macs := map[string]string{}
	for line := range strings.Lines(setup) {
		line = strings.TrimSpace(line)
		for _, short := range w.names {
			line = strings.ReplaceAll(line, "{"+short+"}", w.netns(short))
		}
		for word, mac := range macs {
			line = strings.ReplaceAll(line, word, mac)
		}
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		switch fields[0] {
		case "wire":
			a, dev, _ := strings.Cut(fields[1], ":")
			b, peer, _ := strings.Cut(fields[2], ":")
			w.wire(a, dev, b, peer)
		case "addr":
			a, dev, _ := strings.Cut(fields[1], ":")
			w.rtnl(a, func(h *netlink.Handle) error {
				link, err := h.LinkByName(dev)
				if err != nil {
					return err
				}
				for _, f := range families {
					own := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address(fields[2], f)), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
					if f == netstack.IPv4 {
						own.Mask, own.Flags = net.CIDRMask(24, 32), 0
					}
					if err := h.AddrAdd(link, own); err != nil {
						return fmt.Errorf("%s: %w", line, err)
					}
				}
				return nil
			})
		case "settle":
			w.settle()
		case "mac":
			a, dev, _ := strings.Cut(fields[2], ":")
			w.rtnl(a, func(h *netlink.Handle) error {
				link, err := h.LinkByName(dev)
				if err == nil {
					macs[fields[1]] = link.Attrs().HardwareAddr.String()
				}
				return err
			})
		default:
			if !words.MatchString(line) {
				w.command(fields[0], fields[1:]...)
				continue
			}
			for _, f := range families {
				fields := strings.Fields(expand(line, f))
				w.command(fields[0], fields[1:]...)
			}
		}
	}
}

// settle waits until the kernel has noticed which links have a carrier: bridge
// ports and addresses change with that. What a device of one namespace has noticed,
// those on it in others notice next: so all are asked twice.
func (w *world) settle() {
	w.t.Helper()
	for _, short := range slices.Concat(w.names, w.names) {
		if err := lab.Settle(w.t.Context(), w.netns(short), 20*time.Second); err != nil {
			w.t.Fatalf("%s: %v", short, err)
		}
		w.rtnl(short, hasten)
	}
}

// hasten has neighbours given up soon: connections do not wait long.
func hasten(h *netlink.Handle) error {
	links, err := netlinklist.Whole(h.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		for _, dir := range []string{"/proc/sys/net/ipv4/neigh/", "/proc/sys/net/ipv6/neigh/"} {
			for name, value := range map[string]string{"/retrans_time_ms": "200", "/mcast_solicit": "5"} {
				// Interfaces with a small MTU have no settings of IPv6.
				if err := os.WriteFile(dir+l.Attrs().Name+name, []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
}

func (w *world) collect() *simulator.Snapshot {
	w.t.Helper()
	return against.Collect(w.t, collector.Options{Namespaces: []string{w.netns("*")}})
}

func TestMain(m *testing.M) {
	// Scenarios wait more than they compute.
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p != nil && p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := p.Value.Set("6"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
