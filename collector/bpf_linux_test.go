package collector

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// A program on tcx is noted among the attachments, and among the filters, too.
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
	got := collectNetns(t, ns, netstack.PartLinks, netstack.PartTC, netstack.PartBPF)
	same(t, "bpf.json", want, string(got.BPF.Data))
	same(t, "tc.json", `[{"dev":"e0","kind":"tcx","parent":"ingress","protocol":"all"}]`, string(got.TC.Data))
}

func TestSocketLookupProgramsAreNoted(t *testing.T) {
	ns := newNetns(t, "a")
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	file, err := os.Open("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l, err := ebpflink.AttachNetNs(int(file.Fd()), p)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	same(t, "bpf.json", `[{"sk_lookup":[{"prog_id":`+itoa(uint64(id))+`}]}]`, string(collectNetns(t, ns, netstack.PartLinks, netstack.PartBPF).BPF.Data))
}

func TestTheRootOfTheControlGroups(t *testing.T) {
	const mount = "41 31 0:38 %s /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
	for name, test := range map[string]struct{ first, self, want string }{
		"on a host": {"/", "/", "/sys/fs/cgroup"},
		"in a container that sees the host's processes":            {"/../../..", "/", "1/root/sys/fs/cgroup"},
		"in a container that sees its own":                         {"/", "/", "/sys/fs/cgroup"},
		"where the first process has a part of the tree":           {"/../kubepods", "/", "/sys/fs/cgroup"},
		"where a part of the tree is mounted, and the root is not": {"/kubepods", "/kubepods", ""},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			for pid, root := range map[string]string{"1": test.first, "self": test.self} {
				if err := os.MkdirAll(filepath.Join(proc, pid, "root/sys/fs/cgroup"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(proc, pid, "mountinfo"), fmt.Appendf(nil, mount, root), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if test.want != "" && test.want[0] != '/' {
				test.want = filepath.Join(proc, test.want)
			}
			same(t, "root", test.want, cgroupRoot(proc))
		})
	}
}
