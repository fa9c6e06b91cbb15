// Command ratios prints how the compiler and evaluator of rule sets compare with
// the kernel's own tools, and how they grow: a table for people, of which
// docs/performance.md shows one. It loads rules into a network namespace of its
// own, which goes with it, and needs root.
package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// cost is what something took: on the clock, and of the processor, which others
// that use the machine do not change as much.
type cost struct {
	wall, cpu time.Duration
	allocated uint64 // bytes; 0 of other programs
}

// measure runs f, best of three.
func measure(who int, f func() error) (best cost, err error) {
	for i := range 3 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		wall, cpu := time.Now(), cputime.Used(who)
		if err := f(); err != nil {
			return cost{}, err
		}
		c := cost{wall: time.Since(wall), cpu: cputime.Used(who) - cpu}
		runtime.ReadMemStats(&after)
		c.allocated = after.TotalAlloc - before.TotalAlloc
		if i == 0 || c.cpu < best.cpu {
			best = c
		}
	}
	return best, nil
}

func namespace(mode string, s *proxyrules.Spec) *netstack.Namespace {
	if mode == "nftables" {
		return &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: s.NFTablesJSON()}}
	}
	return &netstack.Namespace{IPTables: []netstack.IPTablesDump{{
		Family: netstack.IPv4, Backend: netstack.BackendLegacy, Text: netstack.Text{File: "iptables-save.txt", Data: s.IPTables()},
	}}}
}

func services(n int) *proxyrules.Spec {
	return &proxyrules.Spec{Services: n, Endpoints: 3, NodePortEvery: 100}
}

func run() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	const many, few = 10000, 100
	spec := services(many)
	text := spec.IPTables()
	fmt.Fprintf(w, "%d services, 3 endpoints each: %d lines, %.1f MB of iptables-save\n\n", many, bytes.Count(text, []byte("\n")), float64(len(text))/1e6)

	restore, err := measure(syscall.RUSAGE_CHILDREN, func() error {
		cmd := exec.Command("iptables-legacy-restore")
		cmd.Stdin = bytes.NewReader(text)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("iptables-legacy-restore: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "reading the rules\tclock\tprocessor\tof iptables-legacy-restore\tallocated")
	fmt.Fprintf(w, "iptables-legacy-restore\t%v\t%v\t\t\n", round(restore.wall), round(restore.cpu))
	for _, mode := range []string{"iptables", "nftables"} {
		ns := namespace(mode, spec)
		c, err := measure(syscall.RUSAGE_SELF, func() error {
			_, err := netfilter.Compile(ns)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "parse and compile, %s\t%v\t%v\t%.2f of the clock, %.2f of the processor\t%.0f MB\n", mode, round(c.wall), round(c.cpu),
			float64(c.wall)/float64(restore.wall), float64(c.cpu)/float64(restore.cpu), float64(c.allocated)/1e6)
	}

	fmt.Fprintln(w, "\na packet to the last service\tprocessor\tof 100 services\tallocated")
	for _, mode := range []string{"iptables", "nftables"} {
		var base time.Duration
		for _, n := range []int{few, 1000, many} {
			c, err := packet(mode, n)
			if err != nil {
				return err
			}
			if n == few {
				base = c.cpu
			}
			fmt.Fprintf(w, "%s, %d services\t%v\t%.2f\t%d bytes\n", mode, n, c.cpu, float64(c.cpu)/float64(base), c.allocated)
		}
	}
	return w.Flush()
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// packet is what one packet costs on its way through a node.
func packet(mode string, n int) (cost, error) {
	spec := services(n)
	rs, err := netfilter.Compile(namespace(mode, spec))
	if err != nil {
		return cost{}, err
	}
	const rounds = 100_000
	var st netfilter.State
	c, err := measure(syscall.RUSAGE_SELF, func() error {
		for range rounds {
			p := netstack.Packet{
				Src: proxyrules.PodCIDR.Addr().Next(), Dst: spec.ClusterIP(n - 1), Protocol: netstack.ProtoTCP,
				SrcPort: 40000, DstPort: proxyrules.ServicePort, TCPFlags: netstack.SYN, Length: 60, TTL: 64, MSS: 1460,
			}
			st = netfilter.State{Packet: &p, In: "veth0", Conntrack: netfilter.NewConntrack()}
			for _, hook := range []netfilter.Hook{netfilter.Prerouting, netfilter.Forward, netfilter.Postrouting} {
				if res := rs.Run(netstack.IPv4, hook, &st, world{}); res.Action != netfilter.Accept {
					return fmt.Errorf("%s: %s decides at %s", mode, res.Rule, hook)
				}
				st.Out = "eth0"
			}
			if p.Dst != spec.Endpoint(n-1, 0) {
				return fmt.Errorf("%s: %s is not translated", mode, &p)
			}
		}
		return nil
	})
	return cost{wall: c.wall / rounds, cpu: c.cpu / rounds, allocated: c.allocated / rounds}, err
}

// world is the rest of the world, in which nothing is special.
type world struct{ netfilter.Env }

func (world) Pick(netfilter.Rule, []float64) int                  { return 0 }
func (world) Kernel() string                                      { return "" }
func (world) AddrType(netip.Addr, string) netstack.RouteType      { return netstack.RouteUnicast }
func (world) InterfaceAddr(string, netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false }
