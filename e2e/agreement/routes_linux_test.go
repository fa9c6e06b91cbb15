package agreement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// routingState is given to ip(8) line by line, in a namespace of its own.
const routingState = `
link add name one type veth peer name onep
link add name two type veth peer name twop
link set lo up
link set one up
link set onep up
link set two up
link set twop up
addr add 10.1.0.2/24 dev one
addr add 10.1.0.3/24 dev one
addr add 10.2.0.2/24 dev two
addr add fd01::2/64 dev one nodad
addr add fd02::2/64 dev two nodad
route add default via 10.1.0.1
route add 10.10.0.0/16 via 10.2.0.1
route add 10.10.1.0/24 via 10.1.0.1 src 10.1.0.3
route add 10.10.1.128/25 via 10.2.0.1 metric 50
route add 10.10.1.128/25 via 10.1.0.1 metric 20
route add blackhole 10.11.0.0/16
route add unreachable 10.12.0.0/16
route add prohibit 10.13.0.0/16
route add throw 10.14.0.0/16
route add default via 10.2.0.1 table 100
route add 10.20.0.0/16 via 10.1.0.1 table 100
route add 10.30.0.0/16 dev two table 200
route add default via 10.1.0.1 table 200
rule add pref 100 fwmark 0x10/0xf0 lookup 100
rule add pref 110 from 10.2.0.2 lookup 100
rule add pref 120 to 10.30.0.0/16 lookup 200
rule add pref 130 ipproto tcp dport 8000-8080 lookup 100
rule add pref 140 lookup 200 suppress_prefixlength 0
rule add pref 150 not to 10.0.0.0/8 lookup 100
rule add pref 160 to 10.40.0.0/16 goto 32000
rule add pref 170 to 10.41.0.0/16 prohibit
rule add pref 32000 to 10.40.0.0/16 lookup 100
-6 route add default via fd01::1
-6 route add fd10::/32 via fd02::1
-6 route add fd10:0:1::/48 via fd01::1
-6 route add blackhole fd11::/32
-6 route add unreachable fd12::/32
-6 route add prohibit fd13::/32
-6 route add default via fd02::1 table 100
-6 rule add pref 100 fwmark 0x10/0xf0 lookup 100
-6 rule add pref 110 from fd02::2 lookup 100
-6 rule add pref 130 ipproto udp dport 53 lookup 100
`

// TestRoutesAreFoundAsTheKernelFindsThem compares look-ups with `ip route get`.
func TestRoutesAreFoundAsTheKernelFindsThem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	const name = "plfib"
	_ = exec.Command("ip", "netns", "del", name).Run() // what a crash has left
	ip := func(args ...string) ([]byte, error) { return exec.Command("ip", args...).CombinedOutput() }
	if out, err := ip("netns", "add", name); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := ip("netns", "del", name); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for line := range strings.Lines(routingState) {
		if fields := strings.Fields(line); len(fields) > 0 {
			if out, err := ip(append([]string{"-n", name}, fields...)...); err != nil {
				t.Fatalf("ip %s: %v: %s", strings.TrimSpace(line), err, out)
			}
		}
	}
	snapshot, err := collector.New(collector.Options{Namespaces: []string{name}}).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Namespaces) != 1 {
		t.Fatalf("%d namespaces collected", len(snapshot.Namespaces))
	}
	table := fib.Compile(snapshot.Namespaces[0])
	random := rand.New(rand.NewPCG(1, 2))
	const lookups = 400
	for range lookups {
		key := randomKey(random)
		args := []string{"-n", name, "-j"}
		if key.Dst.Is6() {
			args = append(args, "-6")
		}
		args = append(args, "route", "get", key.Dst.String())
		if key.Src.IsValid() {
			args = append(args, "from", key.Src.String())
		}
		if key.Mark != 0 {
			args = append(args, "mark", fmt.Sprint(key.Mark))
		}
		if key.Protocol != 0 {
			args = append(args, "ipproto", strconv.Itoa(int(key.Protocol)), "dport", strconv.Itoa(int(key.DstPort)))
		}
		out, err := ip(args...)
		if got, want := simulated(table, key), kernels(t, out, err); got != want {
			t.Errorf("ip %s: simulated %q, the kernel says %q", strings.Join(args[2:], " "), got, want)
		}
	}
}

func randomKey(r *rand.Rand) fib.Key {
	var k fib.Key
	if r.IntN(3) > 0 {
		nets := []byte{1, 2, 10, 11, 12, 13, 14, 20, 30, 40, 41, 50}
		k.Dst = netip.AddrFrom4([4]byte{10, nets[r.IntN(len(nets))], byte(r.IntN(3)), byte(4 + r.IntN(250))})
		if r.IntN(10) == 0 {
			k.Dst = netip.AddrFrom4([4]byte{192, 168, byte(r.IntN(256)), 7})
		}
		if sources := []string{"", "", "10.1.0.2", "10.1.0.3", "10.2.0.2"}; true {
			if s := sources[r.IntN(len(sources))]; s != "" {
				k.Src = netip.MustParseAddr(s)
			}
		}
	} else {
		prefixes := []string{"fd01::", "fd02::", "fd10::", "fd10:0:1::", "fd11::", "fd12::", "fd13::", "2001:db8::"}
		base := netip.MustParseAddr(prefixes[r.IntN(len(prefixes))]).As16()
		base[15] = byte(4 + r.IntN(250))
		k.Dst = netip.AddrFrom16(base)
		if s := []string{"", "fd01::2", "fd02::2"}[r.IntN(3)]; s != "" {
			k.Src = netip.MustParseAddr(s)
		}
	}
	k.Mark = []uint32{0, 0, 0x10, 0x1f, 0x20}[r.IntN(5)]
	if r.IntN(3) == 0 {
		k.Protocol = []netstack.Protocol{netstack.ProtoTCP, netstack.ProtoUDP}[r.IntN(2)]
		k.DstPort = []uint16{53, 7999, 8000, 8080, 8081}[r.IntN(5)]
	}
	return k
}

// simulated renders a look-up as "via GATEWAY dev DEV src ADDRESS" or the error.
func simulated(table *fib.FIB, k fib.Key) string {
	res := table.Lookup(k)
	switch res.Type {
	case netstack.RouteBlackhole:
		return "invalid"
	case netstack.RouteProhibit:
		return "denied"
	case netstack.RouteUnreachable:
		return "no route to host"
	case netstack.RouteUnicast:
	default:
		if !res.Found() {
			return "unreachable"
		}
		return string(res.Type)
	}
	hop := res.NextHops[0]
	src := k.Src
	if !src.IsValid() {
		src, _ = table.SourceAddress(&res, k.Dst)
	}
	text := "dev " + hop.Dev + " src " + src.String()
	if hop.Gateway.IsValid() {
		text = "via " + hop.Gateway.String() + " " + text
	}
	return text
}

func kernels(t *testing.T, out []byte, err error) string {
	t.Helper()
	if err != nil {
		for said, word := range map[string]string{
			"Invalid argument": "invalid", "Permission denied": "denied", "No route to host": "no route to host", "Network is unreachable": "unreachable",
		} {
			if strings.Contains(string(out), said) {
				return word
			}
		}
		return string(out)
	}
	var routes []struct {
		Type, Gateway, Dev, PrefSrc, From string
	}
	if err := json.Unmarshal(out, &routes); err != nil || len(routes) != 1 {
		t.Fatalf("ip printed %s: %v", out, err)
	}
	r := routes[0]
	switch r.Type {
	case "blackhole":
		return "invalid"
	case "prohibit":
		return "denied"
	case "unreachable":
		return "no route to host"
	case "", "unicast":
	default:
		return r.Type
	}
	src := r.PrefSrc
	if r.From != "" && r.From != "::" {
		src = r.From
	}
	text := "dev " + r.Dev + " src " + src
	if r.Gateway != "" {
		text = "via " + r.Gateway + " " + text
	}
	return text
}
