package collector

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	ebpflink "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// bpfAttachments has the shape of `bpftool -j net`, without what tc.json and
// the links say already, and with what hangs on the namespace itself and on
// the root of the control groups.
type bpfAttachments struct {
	TC       []bpfDevice `json:"tc,omitempty"`
	SkLookup []bpfProg   `json:"sk_lookup,omitempty"`
	Cgroup   []bpfCgroup `json:"cgroup,omitempty"`
	// Netfilter are those of the whole host: the kernel does not tell of which
	// namespace a link is.
	Netfilter []bpfNetfilter `json:"netfilter,omitempty"`
}

type bpfNetfilter struct {
	Family   uint32 `json:"pf"`
	Hook     uint32 `json:"hook"`
	Priority int32  `json:"prio"`
	bpfProg
}

type bpfProg struct {
	ID uint32 `json:"prog_id"`
}

type bpfDevice struct {
	Dev   string `json:"devname"`
	Index int    `json:"ifindex"`
	Kind  string `json:"kind"` // "tcx/ingress", …
	bpfProg
}

type bpfCgroup struct {
	Type string `json:"attach_type"`
	bpfProg
}

// deviceAttachments are what may hang on an interface beside XDP and tc.
var deviceAttachments = []struct {
	kind   string
	attach ebpf.AttachType
	netkit bool // on such devices only
}{
	{"tcx/ingress", ebpf.AttachTCXIngress, false},
	{"tcx/egress", ebpf.AttachTCXEgress, false},
	{"netkit/primary", ebpf.AttachNetkitPrimary, true},
	{"netkit/peer", ebpf.AttachNetkitPeer, true},
}

// cgroupAttachments are those that translate or drop what processes send.
var cgroupAttachments = []struct {
	name   string
	attach ebpf.AttachType
}{
	{"cgroup_inet_ingress", ebpf.AttachCGroupInetIngress},
	{"cgroup_inet_egress", ebpf.AttachCGroupInetEgress},
	{"cgroup_inet4_connect", ebpf.AttachCGroupInet4Connect},
	{"cgroup_inet6_connect", ebpf.AttachCGroupInet6Connect},
	{"cgroup_udp4_sendmsg", ebpf.AttachCGroupUDP4Sendmsg},
	{"cgroup_udp6_sendmsg", ebpf.AttachCGroupUDP6Sendmsg},
}

// readBPF notes which eBPF programs are attached where packets of the
// namespace pass. Control groups below the root are not searched.
func readBPF(_ context.Context, t *target) error {
	t.ns.BPF.File = t.file("bpf.json")
	var found bpfAttachments
	var err error
	if found.TC, err = t.devicePrograms(); err != nil {
		return err
	}
	if found.SkLookup, err = attachedAt(t.proc+"/thread-self/ns/net", ebpf.AttachSkLookup); err != nil {
		return fmt.Errorf("query sk_lookup: %w", err)
	}
	shared, err := t.programs()
	if err != nil {
		return err
	}
	found.Cgroup, found.Netfilter = shared.cgroup, shared.netfilter
	if len(found.TC)+len(found.SkLookup)+len(found.Cgroup)+len(found.Netfilter) > 0 {
		t.ns.BPF.Data, err = json.Marshal([]bpfAttachments{found})
	}
	return err
}

// hostPrograms are those that no namespace has for itself: a run reads them once.
type hostPrograms struct {
	cgroup    []bpfCgroup
	netfilter []bpfNetfilter
}

func readHostPrograms(proc string) (found hostPrograms, err error) {
	root, err := cgroupRoot(proc)
	if err != nil {
		return found, err
	}
	if root != "" {
		for _, a := range cgroupAttachments {
			programs, err := attachedAt(root, a.attach)
			if err != nil {
				return found, fmt.Errorf("query %s of %s: %w", a.name, root, err)
			}
			for _, p := range programs {
				found.cgroup = append(found.cgroup, bpfCgroup{a.name, p})
			}
		}
	}
	found.netfilter, err = netfilterPrograms()
	return found, err
}

// netfilterPrograms lists the programs at hooks of netfilter. A link that is being
// made just now is EAGAIN to who lists it (bpf_link_by_id): the list is begun anew.
func netfilterPrograms() (list []bpfNetfilter, err error) {
	const tries = 100
	for range tries {
		if list, err = listNetfilterPrograms(); !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return list, err
}

func listNetfilterPrograms() (list []bpfNetfilter, err error) {
	var links ebpflink.Iterator
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		switch {
		case errors.Is(err, ebpf.ErrNotSupported):
			continue // a kind of link that is not known
		case err != nil:
			return nil, fmt.Errorf("read a link of eBPF: %w", err)
		}
		if n := info.Netfilter(); n != nil {
			list = append(list, bpfNetfilter{uint32(n.ProtocolFamily), uint32(n.Hook), n.Priority, bpfProg{uint32(info.Program)}})
		}
	}
	if err := links.Err(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("list the links of eBPF: %w", err)
	}
	return list, nil
}

// devicePrograms lists the programs on interfaces that are neither XDP nor
// filters of tc.
func (t *target) devicePrograms() ([]bpfDevice, error) {
	var out []bpfDevice
	for i := range t.ns.Links {
		l := &t.ns.Links[i]
		for _, a := range deviceAttachments {
			if a.netkit && l.Kind != "netkit" {
				continue
			}
			programs, err := attached(l.Index, a.attach)
			if err != nil {
				return nil, fmt.Errorf("query %s of %s: %w", a.kind, l.Name, err)
			}
			for _, p := range programs {
				out = append(out, bpfDevice{l.Name, l.Index, a.kind, p})
			}
		}
	}
	return out, nil
}

// attached lists the programs at a place. A kernel that does not know the
// place has none there.
func attached(target int, at ebpf.AttachType) ([]bpfProg, error) {
	result, err := ebpflink.QueryPrograms(ebpflink.QueryOptions{Target: target, Attach: at})
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENXIO):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var out []bpfProg
	for _, p := range result.Programs {
		out = append(out, bpfProg{uint32(p.ID)})
	}
	return out, nil
}

func attachedAt(path string, at ebpf.AttachType) ([]bpfProg, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return attached(int(file.Fd()), at)
}

// errNoCgroupRoot says that programs at the root of the control groups cannot be
// told from none.
var errNoCgroupRoot = errors.New("the root of the host's control groups is not in view, and eBPF programs there are not known: share the host's processes (hostPID) or its namespace of control groups (--cgroupns=host) with this container")

// cgroupRoot is where the root of the control groups (version 2) is mounted;
// empty when no program can be there, because nobody has it mounted. In a
// container with a namespace of its own for them, "/" is the container's group, and
// the root is further up, where the host's first process has it mounted
// (cgroup_show_path).
func cgroupRoot(proc string) (string, error) {
	above := func(root string) bool {
		return root == "/" || strings.HasPrefix(root, "/..") && strings.Trim(root, "/.") == ""
	}
	first, err := cgroupMounts(filepath.Join(proc, "1", "mountinfo"))
	if err != nil {
		return "", err
	}
	own, err := cgroupMounts(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return "", err
	}
	for _, m := range first {
		if at := filepath.Join(proc, "1", "root", m.at); above(m.root) && isCgroupRoot(at) {
			return at, nil
		}
	}
	for _, m := range own {
		if m.root == "/" && isCgroupRoot(m.at) {
			return m.at, nil
		}
	}
	if len(first)+len(own) > 0 || !initialCgroupNamespace(proc) {
		return "", errNoCgroupRoot
	}
	return "", nil
}

// isCgroupRoot says whether a group is the root of the hierarchy, and not only of
// what a namespace shows of it: the root alone has no cgroup.events
// (CFTYPE_NOT_ON_ROOT).
func isCgroupRoot(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "cgroup.events"))
	return errors.Is(err, os.ErrNotExist)
}

// initialCgroupNamespace says whether this process is in the namespace of control
// groups that the kernel starts with (PROC_CGROUP_INIT_INO), or there are none.
func initialCgroupNamespace(proc string) bool {
	const initial = 0xeffffffb
	key, err := statNS(filepath.Join(proc, "self", "ns", "cgroup"))
	return errors.Is(err, os.ErrNotExist) || err == nil && key.inode == initial
}

// cgroupMount is a mount of control groups (version 2): which of them, and where.
type cgroupMount struct{ root, at string }

// cgroupMounts lists those that a process sees; none if it may not be looked at.
func cgroupMounts(mountinfo string) (list []cgroupMount, err error) {
	data, err := os.ReadFile(mountinfo)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find the root of the control groups: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			list = append(list, cgroupMount{fields[3], unescapeOctal(fields[4])})
		}
	}
	return list, nil
}
