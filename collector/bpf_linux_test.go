package collector

import (
	"net"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	ebpflink "github.com/cilium/ebpf/link"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// program loads a program that returns a constant.
func program(t testing.TB, kind ebpf.ProgramType, result int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         kind,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, result), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// insideThread runs fn on a thread in a namespace.
func insideThread(t testing.TB, ns string, fn func() error) {
	t.Helper()
	file, err := os.Open("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := inNamespace(int(file.Fd()), fn); err != nil {
		t.Fatal(err)
	}
}

func attachXDP(t testing.TB, ns, dev string) {
	t.Helper()
	p := program(t, ebpf.XDP, 2) // XDP_PASS
	insideThread(t, ns, func() error {
		iface, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		l, err := ebpflink.AttachXDP(ebpflink.XDPOptions{Program: p, Interface: iface.Index, Flags: ebpflink.XDPGenericMode})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
}

func TestTCXProgramsAreNoted(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 index 30 type veth peer name e1 index 31
	`)
	if got := collectNetns(t, ns, netstack.PartLinks, netstack.PartBPF); got.BPF.Data != nil {
		t.Fatalf("without programs: %s", got.BPF.Data)
	}
	p := program(t, ebpf.SchedCLS, -1)
	insideThread(t, ns, func() error {
		l, err := ebpflink.AttachTCX(ebpflink.TCXOptions{Program: p, Attach: ebpf.AttachTCXIngress, Interface: 30})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	want := `[{"tc":[{"devname":"e0","ifindex":30,"kind":"tcx/ingress","prog_id":` + itoa(uint64(id)) + `}]}]`
	if got := string(collectNetns(t, ns, netstack.PartLinks, netstack.PartBPF).BPF.Data); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
