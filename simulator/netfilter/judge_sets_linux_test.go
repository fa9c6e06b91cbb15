package netfilter

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

var setTests = flag.Int("set-tests", 20000, "memberships in sets to judge")

// setKind is a type of set that is judged: which of a packet's fields its
// elements have, as a letter each: i address, n network, p port, f interface.
type setKind struct{ typ, dims, options string }

var setKinds = []setKind{
	{"hash:ip", "i", ""},
	{"hash:ip", "i", "netmask 28"},
	{"hash:net", "n", ""},
	{"hash:ip,port", "ip", ""},
	{"hash:ip,port,ip", "ipi", ""},
	{"hash:ip,port,net", "ipn", ""},
	{"hash:net,port", "np", ""},
	{"hash:net,iface", "nf", ""},
	{"bitmap:ip", "i", "range 10.0.0.0/23"},
	{"bitmap:ip", "i", "range 10.0.0.0/23 netmask 28"},
}

// TestSetsHoldWhatTheKernelSaysTheyHold fills random sets, and tests random
// elements in the kernel (IPSET_CMD_TEST) and here.
func TestSetsHoldWhatTheKernelSaysTheyHold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a network namespace")
	}
	runtime.LockOSThread() // for good: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	g := &setJudge{Rand: rand.New(rand.NewPCG(1, 2))}
	held := make(map[string][2]int)
	const perSet = 200
	for range *setTests / perSet {
		kind := setKinds[g.IntN(len(setKinds))]
		g.six = g.IntN(3) == 0 && strings.HasPrefix(kind.typ, "hash:") && kind.options == ""
		g.few = len(kind.dims) > 1
		g.fill(t, kind)
		saved, err := exec.Command("ipset", "save").Output()
		if err != nil {
			t.Fatal(err)
		}
		sets, err := parseIPSet("save", saved)
		if err != nil {
			t.Fatalf("%v\n%s", err, saved)
		}
		for range perSet {
			p, entry := g.element(kind)
			want, err := handle.IpsetTest("s", entry)
			if err != nil {
				t.Fatalf("test %s in %s: %v", p, kind.typ, err)
			}
			x := &traversal{p: p, family: p.Family(), src: addrBits(p.Src), dst: addrBits(p.Dst), st: &State{Packet: p, In: entry.IFace}, env: &fakeEnv{}}
			got, _ := (&setMatch{set: sets["s"], src: []bool{true, true, false}}).test(x)
			if kind.dims == "p" || len(kind.dims) > 1 && kind.dims[1] == 'p' {
				got, _ = (&setMatch{set: sets["s"], src: []bool{kind.dims != "p", false, false}}).test(x)
			}
			count := held[kind.typ]
			if want {
				count[0]++
			} else {
				count[1]++
			}
			held[kind.typ] = count
			if got != is(want) {
				t.Fatalf("%s in on %q: the kernel says %v, simulated %v, in\n%s", p, entry.IFace, want, got, saved)
			}
		}
	}
	for typ, count := range held {
		t.Logf("%s: %d held, %d not", typ, count[0], count[1])
		if count[0] == 0 || count[1] == 0 {
			t.Errorf("%s: %d held, %d not", typ, count[0], count[1])
		}
	}
}

type setJudge struct {
	*rand.Rand
	six bool
	few bool // elements have several parts, which must all fit
}

// address draws one of 64 addresses, or one of four.
func (g *setJudge) address() netip.Addr {
	if g.few && g.six {
		return netip.MustParseAddr(fmt.Sprintf("fd00:0:0:%d::%d", g.IntN(2), g.IntN(2)))
	}
	if g.few {
		return netip.AddrFrom4([4]byte{10, 0, byte(g.IntN(2)), byte(g.IntN(2) * 5)})
	}
	if g.six {
		return netip.MustParseAddr(fmt.Sprintf("fd00:0:0:%d::%d:%d", g.IntN(2), g.IntN(4), g.IntN(8)))
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(g.IntN(4) / 3), byte(g.IntN(32) * 5)})
}

func (g *setJudge) port() uint16 { return []uint16{53, 80, 443, 8000, 8005, 8010}[g.IntN(6)] }

func (g *setJudge) protocol() netstack.Protocol {
	return []netstack.Protocol{netstack.ProtoTCP, netstack.ProtoUDP}[g.IntN(2)]
}

// fill makes the set s anew, with random elements.
func (g *setJudge) fill(t *testing.T, kind setKind) {
	t.Helper()
	_ = exec.Command("ipset", "destroy").Run()
	options := kind.options
	if strings.HasPrefix(kind.typ, "hash:") {
		options += " family inet"
		if g.six {
			options += "6"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "create s %s %s timeout 0\n", kind.typ, options)
	for range 1 + g.IntN(24) {
		var parts []string
		networks := false
		for _, dim := range kind.dims {
			a := g.address()
			switch dim {
			case 'i':
				parts = append(parts, a.String())
			case 'n':
				bits := []int{32, 30, 28, 26, 24, 16}[g.IntN(6)]
				if g.six {
					bits = []int{128, 124, 112, 64, 48}[g.IntN(5)]
				}
				parts = append(parts, netip.PrefixFrom(a, bits).Masked().String())
				networks = true
			case 'p':
				if kind.dims == "p" {
					parts = append(parts, fmt.Sprint(g.port()))
				} else {
					parts = append(parts, fmt.Sprintf("%s:%d", netstack.ProtocolName(g.protocol()), g.port()))
				}
			case 'f':
				parts = append(parts, []string{"eth0", "eth1"}[g.IntN(2)])
			}
		}
		line := "add s " + strings.Join(parts, ",")
		if networks && g.IntN(4) == 0 {
			line += " nomatch"
		}
		if g.IntN(5) == 0 {
			line += " timeout 9000"
		}
		b.WriteString(line + "\n")
	}
	restore := exec.Command("ipset", "-exist", "restore")
	restore.Stdin = strings.NewReader(b.String())
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, b.String())
	}
}

// element draws a packet, and what it is for the set.
func (g *setJudge) element(kind setKind) (*netstack.Packet, *netlink.IPSetEntry) {
	p := &netstack.Packet{Src: g.address(), Dst: g.address(), Protocol: g.protocol(), SrcPort: 1, DstPort: g.port()}
	e := &netlink.IPSetEntry{}
	for i, dim := range kind.dims {
		switch {
		case (dim == 'i' || dim == 'n') && i == 0:
			e.IP = net.IP(p.Src.AsSlice())
		case dim == 'i' || dim == 'n':
			e.IP2 = net.IP(p.Dst.AsSlice())
		case dim == 'p':
			e.Port = &p.DstPort
			if kind.dims != "p" {
				proto := uint8(p.Protocol)
				e.Protocol = &proto
			}
		case dim == 'f':
			e.IFace = []string{"eth0", "eth1"}[g.IntN(2)]
		}
	}
	return p, e
}
