package links

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	ebpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// programs are eBPF programs that do drop what passes them, of which nothing is
// known but that they are there.
var programs = []scenario{
	{name: "XDP", only: netstack.IPv4, setup: pair, to: "1.2", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.XDP, 0, 1) // XDP_DROP
		inside(t, w, "b", "eth0", func(index int) (ebpflink.Link, error) {
			return ebpflink.AttachXDP(ebpflink.XDPOptions{Program: p, Interface: index, Flags: ebpflink.XDPGenericMode})
		})
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "tcx", only: netstack.IPv4, setup: pair, to: "1.2", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.SchedCLS, 0, 2) // TC_ACT_SHOT
		inside(t, w, "b", "eth0", func(index int) (ebpflink.Link, error) {
			return ebpflink.AttachTCX(ebpflink.TCXOptions{Program: p, Attach: ebpf.AttachTCXIngress, Interface: index})
		})
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "a filter of tc", only: netstack.IPv4, setup: clsact, to: "1.2", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.SchedCLS, 0, 2)
		w.rtnl("b", func(h *netlink.Handle) error {
			link, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			return h.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_IP, Priority: 1, Handle: 1},
				Fd:          p.FD(), Name: "drops", DirectAction: true,
			})
		})
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "sk_lookup", protocols: []string{"tcp", "udp"}, setup: pair, to: "1.2", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.SkLookup, ebpf.AttachSkLookup, 0) // SK_DROP
		err := lab.InNetns(w.netns("b"), func() error {
			ns, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer ns.Close()
			return keep(t)(ebpflink.AttachNetNs(int(ns.Fd()), p))
		})
		if err != nil {
			t.Fatal(err)
		}
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "sk_lookup has no say in pings", protocols: []string{"icmp"}, setup: pair, to: "1.2", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.SkLookup, ebpf.AttachSkLookup, 0)
		err := lab.InNetns(w.netns("b"), func() error {
			ns, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer ns.Close()
			return keep(t)(ebpflink.AttachNetNs(int(ns.Fd()), p))
		})
		if err != nil {
			t.Fatal(err)
		}
	}},
	{name: "a route with a program", only: netstack.IPv4, setup: joined + routed, to: "2.1", attach: func(t *testing.T, w *world) {
		p := constant(t, ebpf.LWTIn, 0, 2) // BPF_DROP
		w.rtnl("n", func(h *netlink.Handle) error {
			routes, err := netlinklist.Whole(func() ([]netlink.Route, error) { return h.RouteList(nil, unix.AF_INET) })
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Gw == nil {
					continue
				}
				encap := &netlink.BpfEncap{}
				if err := encap.SetProg(nl.LWT_BPF_IN, p.FD(), "drops"); err != nil {
					return err
				}
				r.Encap = encap
				return h.RouteReplace(&r)
			}
			return errors.New("no route has a gateway")
		})
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "a route into segments", needs: []string{"seg6"}, only: netstack.IPv6, setup: joined + routed + `
		n ip -6 route replace fd00:9:2::/64 encap seg6 mode encap segs fd00:9:5::2 dev eth0`, to: "2.1", opaque: true, reason: verdict.EBPFOpaque},
}

// controlGroups are programs at the root of the control groups, which concern the
// whole host.
var controlGroups = []scenario{
	{name: "a control group does not send", needs: []string{ownKernel}, only: netstack.IPv4, setup: pair, to: "1.2", attach: func(t *testing.T, _ *world) {
		inCgroup(t, ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, 0)
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "a control group does not connect", needs: []string{ownKernel}, only: netstack.IPv4, protocols: []string{"tcp"}, setup: pair, to: "1.2", attach: func(t *testing.T, _ *world) {
		inCgroup(t, ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, 0)
	}, opaque: true, reason: verdict.EBPFOpaque},
	{name: "a control group connects by the other family", needs: []string{ownKernel}, only: netstack.IPv4, setup: pair, to: "1.2", attach: func(t *testing.T, _ *world) {
		inCgroup(t, ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, 0)
	}},
}

// constant loads a program that returns a constant.
func constant(t *testing.T, kind ebpf.ProgramType, attach ebpf.AttachType, result int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, AttachType: attach, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, result), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// keep closes a link with the test.
func keep(t *testing.T) func(io.Closer, error) error {
	return func(link io.Closer, err error) error {
		if err == nil {
			t.Cleanup(func() { link.Close() })
		}
		return err
	}
}

// inside attaches something to a device of a namespace.
func inside(t *testing.T, w *world, short, dev string, attach func(index int) (ebpflink.Link, error)) {
	t.Helper()
	var index int
	w.rtnl(short, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	err := lab.InNetns(w.netns(short), func() error { return keep(t)(attach(index)) })
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func inCgroup(t *testing.T, kind ebpf.ProgramType, attach ebpf.AttachType, result int32) {
	t.Helper()
	p := constant(t, kind, attach, result)
	if err := keep(t)(ebpflink.AttachCgroup(ebpflink.CgroupOptions{Path: "/sys/fs/cgroup", Attach: attach, Program: p})); err != nil {
		t.Fatal(err)
	}
}
