package netfilter

import (
	"net/netip"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// fakeEnv answers from tables, and notes what it was asked.
type fakeEnv struct {
	types   map[string]netstack.RouteType // by "ADDR" or "ADDR%DEV"
	addrs   map[string]string             // by device
	pick    int
	unknown map[string]bool // what to answer; false for what is not there
	reverse bool
	socket  *netstack.Socket
	mtu     int
	noRoute bool
	kernel  string
	now     time.Time

	asked    []string
	weights  []float64
	rerouted int
	copies   []string
}

func (e *fakeEnv) Pick(_ Rule, weights []float64) int {
	e.weights = append(e.weights[:0], weights...)
	return e.pick
}

func (e *fakeEnv) Kernel() string { return e.kernel }

func (e *fakeEnv) Now() time.Time { return e.now }

func (e *fakeEnv) Unknown(_ Rule, what string) bool {
	e.asked = append(e.asked, what)
	return e.unknown[what]
}

func (e *fakeEnv) RouteType(q FIBQuery) (netstack.RouteType, bool) {
	return e.AddrType(q.Dst, q.Dev), true
}

func (e *fakeEnv) AddrType(addr netip.Addr, dev string) netstack.RouteType {
	key := addr.String()
	if dev != "" {
		key += "%" + dev
	}
	if t, ok := e.types[key]; ok {
		return t
	}
	return netstack.RouteUnicast
}

func (e *fakeEnv) RedirectAddr(dev string, _ netstack.Family) (netip.Addr, bool) {
	return e.InterfaceAddr(dev, netip.Addr{})
}

func (e *fakeEnv) InterfaceAddr(dev string, _ netip.Addr) (netip.Addr, bool) {
	a, err := netip.ParseAddr(e.addrs[dev])
	return a, err == nil
}

func (e *fakeEnv) ReversePath(*netstack.Packet, string, bool) bool { return e.reverse }

func (e *fakeEnv) Reroute() bool {
	e.rerouted++
	return !e.noRoute
}

func (e *fakeEnv) FIBDevice(FIBQuery) (string, bool) { return "", true }

func (e *fakeEnv) Proxy(*netstack.Packet, netip.Addr, uint16, string) bool { return e.socket != nil }

func (e *fakeEnv) LocalSocket(*netstack.Packet, string) (*netstack.Socket, bool) {
	return e.socket, true
}

func (e *fakeEnv) Duplicate(_ Hook, to netip.Addr, dev string) {
	e.copies = append(e.copies, to.String()+" "+dev)
}
func (e *fakeEnv) OutMTU(*State) int { return e.mtu }

// packet is a TCP SYN from 10.0.0.1:40000 to 10.0.1.2:80, changed by edit.
func packet(edit ...func(*netstack.Packet)) *netstack.Packet {
	p := &netstack.Packet{
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.1.2"),
		Protocol: netstack.ProtoTCP, SrcPort: 40000, DstPort: 80, TCPFlags: netstack.SYN,
		Length: 60, TTL: 64, MSS: 1460,
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

// dump is a namespace with one iptables dump.
func dump(family netstack.Family, backend netstack.Backend, text string) *netstack.Namespace {
	return &netstack.Namespace{IPTables: []netstack.IPTablesDump{{
		Family: family, Backend: backend, Text: netstack.Text{File: "iptables-save.txt", Data: []byte(text)},
	}}}
}

func mustCompile(t testing.TB, ns *netstack.Namespace) *Ruleset {
	t.Helper()
	rs, err := Compile(ns)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return rs
}

func packet6() *netstack.Packet {
	return packet(func(p *netstack.Packet) {
		p.Src, p.Dst = addr("fd00::1"), addr("fd00:1::2")
	})
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }
