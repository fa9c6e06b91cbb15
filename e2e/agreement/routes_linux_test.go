package agreement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// routingWorld is routing state and the keys to look up in it.
type routingWorld struct {
	name string
	// state is given to ip(8) line by line, in a namespace of its own; lines that
	// begin with sysctl are given to that.
	state   string
	lookups int
	key     func(*rand.Rand) fib.Key
}

// devices are three wires, of which the third has no carrier.
const devices = `
link add one type veth peer name onep
link add two type veth peer name twop
link add three type veth peer name threep
link set lo up
link set one up
link set onep up
link set two up
link set twop up
link set three up
addr add 10.1.0.2/24 dev one
addr add 10.1.0.3/24 dev one
addr add 10.1.9.2/24 dev one
addr add 10.2.0.2/24 dev two
addr add 10.3.0.2/24 dev three
addr add 10.4.0.1 peer 10.4.0.9/32 dev two
addr add fd01::2/64 dev one nodad
addr add fd01::3/64 dev one nodad preferred_lft 0
addr add fd02::2/64 dev two nodad
addr add 2001:db8:2::2/64 dev two nodad
addr add fd03::2/64 dev three nodad
sysctl net.ipv4.ip_forward=1
sysctl net.ipv6.conf.all.forwarding=1
sysctl net.ipv4.conf.all.rp_filter=0
`

var routingWorlds = []routingWorld{
	{
		name: "routes of every kind behind rules of every kind", lookups: 900, key: mixedKey,
		state: devices + `
sysctl net.ipv4.conf.three.ignore_routes_with_linkdown=1
sysctl net.ipv6.conf.three.ignore_routes_with_linkdown=1
nexthop add id 1 via 10.1.0.7 dev one
nexthop add id 2 via 10.2.0.7 dev two
nexthop add id 3 blackhole
nexthop add id 10 group 1,3/2
nexthop add id 20 group 1,3
nexthop replace id 20 group 1/2
nexthop add id 21 via fd01::7 dev one
route add default via 10.1.0.1
route add 10.10.0.0/16 via 10.2.0.1
route add 10.10.1.0/24 via 10.1.0.1 src 10.1.0.3
route add 10.10.1.128/25 via 10.2.0.1 metric 50
route add 10.10.1.128/25 via 10.1.0.1 metric 20
route add 10.10.1.128/25 tos 0x10 via 10.2.0.5 metric 90
route add blackhole 10.11.0.0/16
route add unreachable 10.12.0.0/16
route add prohibit 10.13.0.0/16
route add throw 10.14.0.0/16
route add 10.15.0.0/16 nexthop via 10.1.0.1 weight 3 nexthop via 10.2.0.1
route add 10.16.0.0/16 via 10.3.0.1
route add 10.16.1.0/24 nexthop via 10.3.0.1 nexthop via 10.2.0.1
route add 10.17.0.0/24 nhid 1
route add 10.17.1.0/24 nhid 3
route add 10.17.2.0/24 nhid 20
route add 10.18.0.0/16 via 172.16.0.1 dev two onlink
route add 10.19.0.0/16 via inet6 fd01::1 dev one
route add 10.21.0.0/16 dev two scope link
route add local 10.22.0.0/16 dev lo
route add broadcast 10.23.0.7 dev one
route add default via 10.2.0.1 table 100
route add 10.20.0.0/16 via 10.1.0.1 table 100
route add throw 10.14.1.0/24 table 100
route add 10.30.0.0/16 dev two table 200
route add default via 10.1.0.1 table 200
route add default via 10.2.0.9 table 300
route add prohibit default metric 4000 table 500
rule add pref 100 fwmark 0x10/0xf0 lookup 100
rule add pref 110 from 10.2.0.2 lookup 100
rule add pref 120 to 10.30.0.0/16 lookup 200
rule add pref 130 ipproto tcp dport 8000-8080 lookup 100
rule add pref 135 ipproto udp sport 500 lookup 200
rule add pref 140 lookup 200 suppress_prefixlength 0
rule add pref 145 iif two lookup 200
rule add pref 146 iif lo to 10.42.0.0/16 lookup 300
rule add pref 147 oif two to 10.43.0.0/16 lookup 300
rule add pref 148 tos 0x10 to 10.44.0.0/16 lookup 300
rule add pref 149 uidrange 1000-1999 to 10.45.0.0/16 lookup 300
rule add pref 150 not to 10.0.0.0/8 lookup 100
rule add pref 152 not from 10.1.0.0/16 to 10.46.0.0/16 lookup 300
rule add pref 153 not fwmark 0x20/0x20 to 10.47.0.0/16 lookup 300
rule add pref 160 to 10.40.0.0/16 goto 32000
rule add pref 162 to 10.48.0.0/16 goto 30000
rule add pref 164 to 10.49.0.0/16 nop
rule add pref 170 to 10.41.0.0/16 prohibit
rule add pref 171 to 10.41.128.0/17 blackhole
rule add pref 172 to 10.50.0.0/17 blackhole
rule add pref 173 to 10.50.128.0/17 unreachable
rule add pref 180 to 10.51.0.0/16 lookup 999
rule add pref 190 to 10.52.0.0/16 lookup 500
rule add pref 32000 to 10.40.0.0/16 lookup 100
-6 route add default via fd01::1
-6 route add fd10::/32 via fd02::1
-6 route add fd10:0:1::/48 via fd01::1
-6 route add fd10:0:2::/48 via fd01::1 src 2001:db8:2::2
-6 route add fd10:0:3::/48 via fd01::1 metric 50
-6 route add fd10:0:3::/48 via fd02::1 metric 20
-6 route add blackhole fd11::/32
-6 route add unreachable fd12::/32
-6 route add prohibit fd13::/32
-6 route add throw fd14::/32
-6 route add fd15::/32 nexthop via fd01::1 weight 3 nexthop via fd02::1
-6 route add fd16::/32 via fd03::1
-6 route add fd17::/32 nhid 21
-6 route add local fd18::/32 dev lo
-6 route add fd19::/32 dev two
-6 route add 2001:db8:99::/48 via fd01::1
-6 route add default via fd02::1 table 100
-6 route add throw fd14:1::/32 table 100
-6 route add default via fd01::9 table 300
-6 rule add pref 100 fwmark 0x10/0xf0 lookup 100
-6 rule add pref 110 from fd02::2 lookup 100
-6 rule add pref 130 ipproto udp dport 53 lookup 100
-6 rule add pref 140 lookup 100 suppress_prefixlength 0
-6 rule add pref 145 iif two lookup 300
-6 rule add pref 147 oif one to fd1a::/32 lookup 300
-6 rule add pref 148 tos 0x10 to fd1b::/32 lookup 300
-6 rule add pref 149 uidrange 1000-1999 to fd1c::/32 lookup 300
-6 rule add pref 150 not to fc00::/7 lookup 100
-6 rule add pref 160 to fd1d::/32 goto 32000
-6 rule add pref 170 to fd1e::/32 prohibit
-6 rule add pref 171 to fd1f::/32 blackhole
-6 rule add pref 172 to fd20::/32 unreachable
-6 rule add pref 32000 to fd1d::/32 lookup 100
`,
	},
	{
		// Without rules of its own, the kernel keeps the tables local and main of
		// IPv4 in one: the longest prefix wins, be it in the one or the other.
		name: "no rules but the three of every namespace", lookups: 200, key: plainKey,
		state: devices + `
route add local 10.22.0.0/16 dev lo
route add 10.22.1.0/24 via 10.1.0.1
route add unreachable 10.22.2.0/24
route add 10.10.0.0/16 via 10.2.0.1
-6 route add local fd18::/32 dev lo
-6 route add fd18:0:1::/48 via fd01::1
`,
	},
	{
		name: "no default route, and a device without addresses", lookups: 100, key: plainKey,
		state: `
link add one type veth peer name onep
link add two type veth peer name twop
link set lo up
link set one up
link set onep up
link set two up
link set twop up
addr add 192.0.2.1/32 dev lo
addr add 2001:db8::1/128 dev lo
addr add 10.1.0.2/24 dev one scope link
route add 10.10.0.0/16 dev two
route add 10.22.0.0/16 via 10.1.0.1 dev one
-6 route add fd18::/32 dev two
`,
	},
}

// TestRoutesAreFoundAsTheKernelFindsThem compares look-ups with `ip route get`.
func TestRoutesAreFoundAsTheKernelFindsThem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	for i, world := range routingWorlds {
		t.Run(world.name, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("plsimfib%d", i)
			makeRoutes(t, name, world.state)
			snapshot, err := collector.New(collector.Options{Namespaces: []string{name}}).Collect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(snapshot.Namespaces) != 1 {
				t.Fatalf("%d namespaces collected", len(snapshot.Namespaces))
			}
			table := fib.Compile(snapshot.Namespaces[0])
			random := rand.New(rand.NewPCG(1, 2))
			found := make(map[string]int)
			for range world.lookups {
				key := world.key(random)
				args := routeGet(name, &key)
				out, err := exec.Command("ip", args...).CombinedOutput()
				want := kernels(t, out, err, &key)
				found[strings.SplitN(want, " ", 2)[0]]++
				if got := simulated(table, key); !slices.Contains(got, want) {
					t.Errorf("ip %s: simulated %q, the kernel says %q", strings.Join(args[2:], " "), got, want)
				}
			}
			t.Logf("answers of the kernel: %v", found)
		})
	}
}

func makeRoutes(t *testing.T, name, state string) {
	t.Helper()
	_ = exec.Command("ip", "netns", "del", name).Run() // what a crash has left
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for line := range strings.Lines(state) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		args := append([]string{"-n", name}, fields...)
		if fields[0] == "sysctl" {
			args = []string{"netns", "exec", name, "sysctl", "-qw", fields[1]}
		}
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
}

// routeGet is the command that asks the kernel for a key.
func routeGet(name string, k *fib.Key) []string {
	args := []string{"-n", name, "-j"}
	if k.Dst.Is6() {
		args = append(args, "-6")
	}
	args = append(args, "route", "get", k.Dst.String())
	add := func(name string, value any) { args = append(args, name, fmt.Sprint(value)) }
	if k.Src.IsValid() {
		add("from", k.Src)
	}
	if k.IIF != "" {
		add("iif", k.IIF)
	}
	if k.Mark != 0 {
		add("mark", k.Mark)
	}
	if k.TOS != 0 {
		add("tos", fmt.Sprintf("%#x", k.TOS))
	}
	if k.UID != nil && k.IIF == "" {
		add("uid", *k.UID)
	}
	add("ipproto", k.Protocol)
	add("sport", k.SrcPort)
	add("dport", k.DstPort)
	return args
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// mixedKey makes keys that meet every rule and route of the first world.
func mixedKey(r *rand.Rand) fib.Key {
	var k fib.Key
	from := func(list ...string) {
		if s := oneOf(r, list...); s != "" {
			k.Src = netip.MustParseAddr(s)
		}
	}
	uid := oneOf(r, uint32(0), 1000, 1500, 2000)
	k.UID = &uid
	if r.IntN(5) < 3 {
		nets := []byte{
			1, 2, 3, 4, 10, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52,
		}
		k.Dst = netip.AddrFrom4([4]byte{10, oneOf(r, nets...), byte(r.IntN(3)) + oneOf(r, byte(0), 128), byte(4 + r.IntN(250))})
		if r.IntN(10) == 0 {
			k.Dst = netip.AddrFrom4([4]byte{192, 168, byte(r.IntN(256)), 7})
		}
		if r.IntN(20) == 0 {
			k.Dst = netip.MustParseAddr(oneOf(r, "10.1.0.2", "10.1.0.3", "10.2.0.2", "10.4.0.1", "10.4.0.9", "10.1.0.255", "10.23.0.7"))
		}
		if r.IntN(4) == 0 {
			// What arrives: from somebody else, or it would be a martian.
			k.IIF = oneOf(r, "one", "two")
			from("10.1.0.77", "10.2.0.77", "10.200.0.1")
		} else {
			from("", "", "10.1.0.2", "10.1.0.3", "10.2.0.2")
			if r.IntN(20) == 0 {
				k.Dst = netip.MustParseAddr("127.0.0.1")
			}
		}
	} else {
		base := netip.MustParseAddr(oneOf(
			r, "fd01::", "fd02::", "fd10::", "fd10:0:1::", "fd10:0:2::", "fd10:0:3::", "fd11::", "fd12::", "fd13::", "fd14::", "fd14:1::",
			"fd15::", "fd16::", "fd17::", "fd18::", "fd19::", "fd1a::", "fd1b::", "fd1c::", "fd1d::", "fd1e::", "fd1f::", "fd20::",
			"2001:db8::", "2001:db8:99::", "2001:db8:2::",
		)).As16()
		base[15] = byte(4 + r.IntN(250))
		k.Dst = netip.AddrFrom16(base)
		if r.IntN(20) == 0 {
			k.Dst = netip.MustParseAddr(oneOf(r, "fd01::2", "fd02::2", "fd01::3"))
		}
		if r.IntN(4) == 0 {
			k.IIF = oneOf(r, "one", "two")
			from("fd01::77", "fd02::77", "2001:db8:5::1")
		} else {
			from("", "fd01::2", "fd02::2")
		}
	}
	k.Mark = oneOf[uint32](r, 0, 0, 0, 0x10, 0x1f, 0x20)
	k.TOS = oneOf[uint8](r, 0, 0, 0, 0x10)
	k.Protocol = oneOf(r, netstack.ProtoTCP, netstack.ProtoUDP)
	k.SrcPort = oneOf[uint16](r, 500, 40000)
	k.DstPort = oneOf[uint16](r, 53, 443, 443, 7999, 8000, 8080, 8081)
	return k
}

// plainKey makes keys for the worlds with few routes.
func plainKey(r *rand.Rand) fib.Key {
	k := fib.Key{Protocol: netstack.ProtoTCP, SrcPort: 40000, DstPort: 80, UID: new(uint32)}
	if r.IntN(3) > 0 {
		k.Dst = netip.AddrFrom4([4]byte{10, oneOf[byte](r, 1, 2, 10, 22, 22, 99), byte(r.IntN(4)), byte(4 + r.IntN(250))})
	} else {
		k.Dst = netip.MustParseAddr(oneOf(r, "fd18::7", "fd18:0:1::7", "fd01::7", "fd99::7"))
	}
	return k
}

// simulated renders a look-up as "via GATEWAY dev DEV src ADDRESS", once for
// each next hop, or the error.
func simulated(table *fib.FIB, k fib.Key) []string {
	res := table.Lookup(k)
	switch res.Type {
	case netstack.RouteBlackhole:
		return []string{"invalid"}
	case netstack.RouteProhibit:
		return []string{"denied"}
	case netstack.RouteUnreachable:
		if res.Route == nil {
			return []string{"unreachable"} // a rule says ENETUNREACH
		}
		return []string{"no route to host"}
	case netstack.RouteUnicast:
	default:
		if !res.Found() {
			return []string{"unreachable" + res.Unknown}
		}
		return []string{string(res.Type)}
	}
	var ways []string
	for _, hop := range res.NextHops {
		one := res
		one.NextHops = []netstack.NextHop{hop}
		src := k.Src
		if !src.IsValid() {
			src, _ = table.SourceAddress(&one, k.Dst)
		}
		text := "dev " + hop.Dev + " src " + src.String()
		if hop.Gateway.IsValid() {
			text = "via " + hop.Gateway.String() + " " + text
		}
		ways = append(ways, text)
	}
	return ways
}

// kernels renders what `ip -j route get` printed in the same words.
func kernels(t *testing.T, out []byte, err error, k *fib.Key) string {
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
		Type, Gateway, Dev, PrefSrc string
		Via                         struct{ Host string }
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
	if k.Src.IsValid() {
		src = k.Src.String()
	}
	text := "dev " + r.Dev + " src " + src
	if r.Via.Host != "" {
		r.Gateway = r.Via.Host
	}
	if r.Gateway != "" {
		text = "via " + r.Gateway + " " + text
	}
	return text
}
