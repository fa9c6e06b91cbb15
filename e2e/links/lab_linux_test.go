// Package links holds the simulator's link layer against the kernel's: each
// scenario makes a small topology of network namespaces, real connections find
// out what becomes of packets in it, and the diagnosis of the collected state
// must say the same. Scenarios that need a feature the kernel lacks are skipped,
// unless PLUMBLINE_REQUIRE names the feature.
package links

import (
	"encoding/json"
	"flag"
	"fmt"
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

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
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
		exec.Command("ip", "netns", "del", ns).Run() // what a crash has left
		w.command("", "ip", "netns", "add", ns)
		t.Cleanup(func() {
			var err error
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
				if err = exec.Command("ip", "netns", "del", ns).Run(); err == nil {
					return
				}
			}
			t.Errorf("delete %s: %v", ns, err)
		})
		w.command(short, "sysctl", "-qw",
			"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0",
			"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
		w.command(short, "ip", "link", "set", "lo", "up")
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

func (w *world) command(short string, argv ...string) []byte {
	w.t.Helper()
	if short != "" {
		argv = append([]string{"ip", "netns", "exec", w.netns(short)}, argv...)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// address is SUBNET.HOST in a family.
func address(text string, f netstack.Family) string {
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
			w.command(a, "ip", "link", "add", dev, "type", "veth", "peer", "name", peer, "netns", w.netns(b))
			w.command(a, "ip", "link", "set", dev, "up")
			w.command(b, "ip", "link", "set", peer, "up")
		case "addr":
			a, dev, _ := strings.Cut(fields[1], ":")
			for _, f := range families {
				bits, nodad := "/24", []string(nil)
				if f == netstack.IPv6 {
					bits, nodad = "/64", []string{"nodad"}
				}
				w.command(a, append([]string{"ip", "addr", "add", address(fields[2], f) + bits, "dev", dev}, nodad...)...)
			}
		case "settle":
			w.settle()
		case "mac":
			a, dev, _ := strings.Cut(fields[2], ":")
			macs[fields[1]] = strings.TrimSpace(string(w.command(a, "cat", "/sys/class/net/"+dev+"/address")))
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
// ports and addresses change with that.
func (w *world) settle() {
	w.t.Helper()
	for _, short := range w.names {
		deadline := time.Now().Add(20 * time.Second)
		for {
			var links []struct {
				Flags []string
				State string `json:"operstate"`
				Name  string `json:"ifname"`
			}
			if err := json.Unmarshal(w.command(short, "ip", "-j", "link"), &links); err != nil {
				w.t.Fatal(err)
			}
			pending := ""
			for _, l := range links {
				carrier := slices.Contains(l.Flags, "UP") && slices.Contains(l.Flags, "LOWER_UP")
				if carrier && l.State != "UP" && l.State != "UNKNOWN" || !carrier && l.State == "UP" {
					pending = l.Name
				}
			}
			tentative := w.command(short, "ip", "-6", "addr", "show", "tentative")
			if pending == "" && len(strings.TrimSpace(string(tentative))) == 0 {
				for _, l := range links {
					// Connections do not wait long for a neighbour to be given up.
					v4, v6 := "net.ipv4.neigh."+strings.ReplaceAll(l.Name, ".", "/"), "net.ipv6.neigh."+strings.ReplaceAll(l.Name, ".", "/")
					w.command(short, "sysctl", "-qw", v4+".retrans_time_ms=200", v6+".retrans_time_ms=200", v4+".mcast_solicit=5", v6+".mcast_solicit=5")
				}
				break
			}
			if time.Now().After(deadline) {
				w.t.Fatalf("%s: %s does not settle\n%s", short, pending, w.command(short, "ip", "addr"))
			}
		}
	}
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
