package collector

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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
	const mount = "41 31 0:38 %s %s rw,relatime - cgroup2 cgroup2 rw\n"
	for name, test := range map[string]struct {
		first, self string // what is mounted
		isRoot      string // whose mount is of the root
		want        string
	}{
		"on a host": {"/", "/", "1", "1"},
		"in a container that sees the host's processes":                  {"/../../..", "/", "1", "1"},
		"in a container that sees them, with the host's groups":          {"/", "/kubepods/c0ffee", "1", "1"},
		"where the first process may not be looked at":                   {"", "/", "self", "self"},
		"where the first process has a part of the tree":                 {"/../kubepods", "/", "self", "self"},
		"in a container that sees its own processes and groups":          {"/", "/", "", "error"},
		"in a container that sees its own processes, of the host's tree": {"/kubepods/c0ffee", "/kubepods/c0ffee", "", "error"},
		"where nothing is mounted":                                       {"", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			place := map[string]string{"1": filepath.Join(proc, "1/root/cgroup"), "self": filepath.Join(proc, "own/cgroup")}
			for pid, root := range map[string]string{"1": test.first, "self": test.self} {
				at := "/cgroup"
				if pid == "self" {
					at = place[pid]
				}
				content := ""
				if root != "" {
					content = fmt.Sprintf(mount, root, at)
				}
				write(t, filepath.Join(proc, pid, "mountinfo"), content)
				write(t, filepath.Join(place[pid], "cgroup.procs"), "")
				if pid != test.isRoot {
					write(t, filepath.Join(place[pid], "cgroup.events"), "populated 1\n")
				}
			}
			got, err := cgroupRoot(proc)
			if (err != nil) != (test.want == "error") || err != nil && !errors.Is(err, errNoCgroupRoot) {
				t.Fatal(err)
			}
			if test.want == "error" {
				return
			}
			same(t, "root", place[test.want], got)
		})
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The kernel's view of a container that has a namespace of control groups of its own
// and does not see the host's processes: its "/" is no root. One that sees them finds it.
func TestTheRootOfTheControlGroupsFromAContainer(t *testing.T) {
	needRoot(t)
	if what := os.Getenv("PLUMBLINE_TEST_CGROUP"); what != "" {
		root, err := cgroupRoot("/proc")
		switch {
		case what == "hidden" && !errors.Is(err, errNoCgroupRoot):
			t.Errorf("root %q, %v; want %v", root, err, errNoCgroupRoot)
		case what == "in view" && (err != nil || !isCgroupRoot(root)):
			t.Errorf("root %q, %v", root, err)
		}
		if what == "hidden" {
			return
		}
		if _, err := readHostPrograms("/proc"); err != nil {
			t.Error(err)
		}
		return
	}
	if err := exec.Command("unshare", "-C", "true").Run(); err != nil {
		t.Skipf("no namespaces of control groups: %v", err)
	}
	// A host of its own: a first process that has the root mounted at /mnt, and the
	// container in a group below.
	const host = `set -e
mount -t cgroup2 none /mnt
group=/mnt/plumbline-test-$1
mkdir "$group"
trap 'echo 0 > /mnt/cgroup.procs; rmdir "$group"' EXIT
echo 0 > "$group/cgroup.procs"
`
	const container = `set -e
mount --bind / /mnt # without what is mounted below
mount -t tmpfs none /mnt/tmp
cp "$0" /mnt/tmp/test
mount --rbind /proc /mnt/proc
mount -t cgroup2 none /mnt/mnt
exec chroot /mnt /tmp/test -test.run "$1"
`
	for what, flags := range map[string]string{"hidden": "-C -m -p -f --mount-proc", "in view": "-C -m"} {
		t.Run(what, func(t *testing.T) {
			command := exec.Command("unshare", "-m", "-p", "-f", "--mount-proc", "--propagation", "private", "sh", "-c",
				host+"unshare "+flags+" sh -c '"+container+"' \"$0\" '^TestTheRootOfTheControlGroupsFromAContainer$'", os.Args[0], fmt.Sprintf("%d-%d", os.Getpid(), len(flags)))
			command.Env = append(os.Environ(), "PLUMBLINE_TEST_CGROUP="+what)
			if out, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
	}
}
