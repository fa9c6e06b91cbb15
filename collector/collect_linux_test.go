package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/internal/cputime"
	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// hookState is what a namespace tells of its rule sets and hooks.
func hookState(t testing.TB, ns string) string {
	t.Helper()
	var b strings.Builder
	insideThread(t, ns, func() error {
		files := []string{
			"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names", "/proc/thread-self/net/arp_tables_names",
			"/proc/sys/net/netfilter/nf_conntrack_count",
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			fmt.Fprintf(&b, "%s: %q %v\n", file, text, err)
		}
		entries, err := os.ReadDir("/proc/thread-self/net/netfilter")
		if err != nil {
			return err
		}
		for _, entry := range entries {
			fmt.Fprintln(&b, entry.Name())
		}
		conn, err := dialNetlink(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer conn.Close()
		state, err := queryNFT(conn)
		fmt.Fprintf(&b, "nftables: %+v %v\n", state, err)
		return nil
	})
	return b.String()
}

// modules are the loaded ones; a kernel without modules has none to load.
func modules(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/modules")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		names = append(names, strings.Fields(line)[0])
	}
	return strings.Join(names, " ")
}

func TestCollectingChangesNothing(t *testing.T) {
	a, b := newNetns(t, "a"), newNetns(t, "b")
	script(t, a, "ip link add e0 type veth peer name e1 netns "+b+"\nip link set e0 up\nip addr add 10.0.0.1/24 dev e0")
	script(t, b, "ip link set e1 up\nip addr add 10.0.0.2/24 dev e1")
	// Traffic makes entries in the connection table if tracking is on.
	traffic := func() {
		insideThread(t, a, func() error {
			conn, err := net.Dial("udp4", "10.0.0.2:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			return err
		})
	}
	traffic()
	modulesBefore, before := modules(t), hookState(t, a)
	c := New(Options{Namespaces: []string{a, b}})
	for range 2 {
		collectSnapshot(t, c)
	}
	traffic()
	same(t, "modules", modulesBefore, modules(t))
	same(t, "tables and hooks", before, hookState(t, a))
	if !strings.Contains(before, `nf_conntrack_count: "0\n"`) {
		t.Errorf("connection tracking was on to begin with:\n%s", before)
	}

	// The same check notices a tool that is careless.
	inside(t, a, "iptables-legacy", "-t", "nat", "-L", "-n")
	traffic()
	if after := hookState(t, a); after == before {
		t.Error("listing a legacy table did not show in tables and hooks: the check is blind")
	}
}

func TestNamespacesOfMountsAndOfProcesses(t *testing.T) {
	named := newNetns(t, "a")
	anonymous := exec.Command("sleep", "600")
	anonymous.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := anonymous.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = anonymous.Process.Kill(); _ = anonymous.Wait() })
	pid := anonymous.Process.Pid
	// One more mount of the same namespace, with a name that needs escaping.
	dir := filepath.Join(t.TempDir(), "with space")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(dir, fmt.Sprintf("plcoll%d z", os.Getpid()))
	if err := os.WriteFile(mount, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/run/netns/"+named, mount, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })

	snapshot := collectSnapshot(t, New(Options{Parts: []netstack.Part{netstack.PartLinks}}))
	seen := make(map[string]int)
	cookies := make(map[uint64]string)
	for _, ns := range snapshot.Namespaces {
		seen[ns.Name]++
		if other, ok := cookies[ns.Cookie]; ok {
			t.Errorf("%s and %s are one namespace", ns.Name, other)
		}
		cookies[ns.Cookie] = ns.Name
	}
	for _, name := range []string{HostNamespace, named, "pid-" + strconv.Itoa(pid)} {
		if seen[name] != 1 {
			t.Errorf("%s was collected %d times, want once", name, seen[name])
		}
	}
	if !slices.IsSortedFunc(snapshot.Namespaces, func(a, b *netstack.Namespace) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("namespaces are not sorted by name")
	}
}

func TestAProcessThatVisitsWithOneThreadDoesNotLiveThere(t *testing.T) {
	path := "/run/netns/" + newNetns(t, "a")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	key, err := statNS(path)
	if err != nil {
		t.Fatal(err)
	}
	err = inNamespace(int(file.Fd()), func() error {
		// The name of a thread stands for that of a process whose first thread
		// is inside: which one is first is not for a test to choose.
		if !visits("/proc", unix.Gettid(), key) {
			t.Error("a thread that reads the namespace is taken for a process that lives there")
		}
		resident := exec.Command("sleep", "600")
		if err := resident.Start(); err != nil {
			return err
		}
		defer resident.Wait()
		defer resident.Process.Kill()
		if visits("/proc", resident.Process.Pid, key) {
			t.Error("a process that was started inside is taken for a visitor")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPodsAreKnownByTheirAddresses(t *testing.T) {
	pod, node := newNetns(t, "pod"), newNetns(t, "node")
	script(t, pod, "ip link add e0 type veth peer name e1 netns "+node+"\nip addr add 10.44.0.5/24 dev e0")
	script(t, node, "ip addr add 192.168.44.1/24 dev e1")
	objects := cluster.Objects{Pods: []corev1.Pod{testPod("web", "node-7", "10.44.0.5")}}
	objects.Nodes = []corev1.Node{{}}
	objects.Nodes[0].Name = "node-7"
	objects.Nodes[0].Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.44.1"}}
	snapshot := collectSnapshot(t, New(Options{
		Namespaces: []string{pod, node},
		Cluster:    func() (cluster.Objects, error) { return objects, nil },
		Parts:      []netstack.Part{netstack.PartLinks},
	}))
	type what struct {
		Kind      netstack.Kind
		Node, Pod string
		Peers     []string
	}
	got := make(map[string]what)
	for _, ns := range snapshot.Namespaces {
		var peers []string
		for _, name := range ns.NSIDs {
			peers = append(peers, name)
		}
		got[ns.Name] = what{ns.Kind, ns.Node, ns.Pod, peers}
	}
	same(t, "namespaces", map[string]what{
		pod:  {netstack.KindPod, "node-7", "shop/web", []string{node}},
		node: {netstack.KindNode, "node-7", "", []string{pod}},
	}, got)
	same(t, "objects", objects.Pods, snapshot.Cluster.Pods)
}

func TestANamespaceThatVanishesIsReportedAndTheRestCollected(t *testing.T) {
	stays, goes := newNetns(t, "stays"), newNetns(t, "goes")
	key, err := statNS("/run/netns/" + goes)
	if err != nil {
		t.Fatal(err)
	}
	// Found, and deleted before it was opened.
	n := &netns{identity: &identity{inode: key.inode, mounts: []string{goes}}, key: key, paths: []string{"/run/netns/" + goes}}
	command(t, "ip", "netns", "del", goes)
	want := "vanished while it was being opened: open /run/netns/" + goes + ": no such file or directory"
	if err := n.open(); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	// The name may lead to another namespace by then.
	n.paths = []string{"/run/netns/" + stays}
	want = "vanished while it was being opened: /run/netns/" + stays + " is not the namespace any more"
	if err := n.open(); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}

	// One that cannot be entered is reported.
	broken, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	failures := make(map[string]string)
	all := New(Options{}).readIdentities([]*netns{{identity: &identity{mounts: []string{"broken"}}, file: broken}}, failures)
	same(t, "namespaces that can be read", 0, len(all))
	same(t, "failures", map[string]string{"namespace broken": "enter the network namespace: invalid argument"}, failures)

	// Deleted while it is read: an open namespace stays whole until the end.
	goes = newNetns(t, "goes2")
	c := New(Options{Namespaces: []string{stays, goes}, Concurrency: 1})
	c.state.sources = append([]source{{"deleter", func(_ context.Context, t2 *target) error {
		if t2.ns.Name == goes {
			return exec.Command("/usr/bin/env", "ip", "netns", "del", goes).Run()
		}
		return nil
	}}}, c.state.sources...)
	snapshot := collectSnapshot(t, c)
	for _, ns := range snapshot.Namespaces {
		for part, status := range ns.Parts {
			if status.State == netstack.StateFailed {
				t.Errorf("%s of %s: %s", part, ns.Name, status.Detail)
			}
		}
		same(t, "interfaces of "+ns.Name, 1, len(ns.Links))
	}
	same(t, "namespaces", 2, len(snapshot.Namespaces))
}

func TestAFailingCollectorIsReportedAndTheOthersAreNotAffected(t *testing.T) {
	ns := newNetns(t, "a")
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartLinks, netstack.PartNFT, netstack.PartIPVS}, Logger: quiet()})
	c.state.sources = []source{
		{netstack.PartLinks, readLinks},
		{netstack.PartNFT, func(context.Context, *target) error { return errors.New("out of luck") }},
		{netstack.PartIPVS, func(context.Context, *target) error { return fmt.Errorf("no such thing: %w", ErrNotSupported) }},
	}
	got := collectSnapshot(t, c).Namespaces[0]
	same(t, "parts", map[netstack.Part]netstack.Status{
		netstack.PartLinks: {State: netstack.StateOK},
		netstack.PartNFT:   {State: netstack.StateFailed, Detail: "out of luck"},
		netstack.PartIPVS:  {State: netstack.StateUnsupported},
	}, got.Parts)
	same(t, "links", 1, len(got.Links))

	want := `
		# HELP plumbline_collector_success Whether a collector read its part of all network namespaces in the last run (1), or failed on some (0).
		# TYPE plumbline_collector_success gauge
		plumbline_collector_success{collector="ipvs"} 1
		plumbline_collector_success{collector="links"} 1
		plumbline_collector_success{collector="namespaces"} 1
		plumbline_collector_success{collector="nft"} 0
	`
	if err := testutil.CollectAndCompare(NewMetrics(c), strings.NewReader(want), "plumbline_collector_success"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(NewMetrics(c), "plumbline_collector_duration_seconds"); n != 4 {
		t.Errorf("got %d durations, want 4", n)
	}
}

// A process without privileges is told what to do.
func TestWithoutPrivileges(t *testing.T) {
	if os.Geteuid() == 0 && os.Getenv("PLUMBLINE_TEST_UNPRIVILEGED") == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join("/tmp", fmt.Sprintf("plcoll%d.test", os.Getpid()))
		data, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, data, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(copied) })
		cmd := exec.Command(copied, "-test.run", "^TestWithoutPrivileges$", "-test.v")
		cmd.Dir = "/"
		cmd.Env = []string{"PLUMBLINE_TEST_UNPRIVILEGED=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutPrivileges") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	_, err := New(Options{}).Collect(context.Background())
	const want = "collecting needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run it with sudo, or diagnose a bundle that was collected elsewhere with --bundle"
	if !errors.Is(err, ErrPrivileges) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCollectRefuses(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("apiVersion: v1\nkind: [\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"a malformed pattern":          {Options{Namespaces: []string{"a[b"}}, `namespace pattern "a[b": syntax error in pattern`},
		"a missing manifest directory": {Options{ManifestDir: "/nonexistent"}, "read manifests: open /nonexistent: no such file or directory"},
		"a /proc that is not one":      {Options{Proc: dir}, "find the host's network namespace: neither process 1 nor this one is in " + dir},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.options).Collect(context.Background())
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := New(Options{ManifestDir: dir}).Collect(context.Background()); !errors.Is(err, ErrManifests) || !strings.Contains(err.Error(), bad) {
		t.Errorf("got %v, want an error about %s", err, bad)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(Options{}).Collect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the context ended", err)
	}
}

func TestThreadsComeBack(t *testing.T) {
	ns := newNetns(t, "a")
	file, err := os.Open("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	home, err := statNS("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var inside nsKey
	failure := errors.New("it went wrong inside")
	err = inNamespace(int(file.Fd()), func() error {
		inside, _ = statNS("/proc/thread-self/ns/net")
		return failure
	})
	if err != failure {
		t.Errorf("got %v", err)
	}
	if want, _ := statNS("/run/netns/" + ns); inside != want {
		t.Errorf("ran in %v, want %v", inside, want)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if key, err := statNS(thread); err == nil && key != home {
			t.Errorf("%s is still elsewhere", thread)
		}
	}
	runtime.KeepAlive(file)
	if err := inNamespace(-1, func() error { return nil }); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v for a bad descriptor", err)
	}
}

// scripted is a netlink socket that answers as told.
type scripted struct {
	answers [][]byte
	calls   int
}

func (s *scripted) dump(netlink.Message) (*dumpReply, error) {
	answer := s.answers[min(s.calls, len(s.answers)-1)]
	s.calls++
	reply := new(dumpReply)
	return reply, reply.add(answer, 7)
}

// dumped is a datagram with a message for each text, and one that ends the dump.
func dumped(flags, lastFlags uint16, code int32, texts ...string) (data []byte) {
	message := func(kind, flags uint16, body []byte) {
		data = binary.NativeEndian.AppendUint32(data, uint32(unix.SizeofNlMsghdr+len(body)))
		data = binary.NativeEndian.AppendUint16(data, kind)
		data = binary.NativeEndian.AppendUint16(data, unix.NLM_F_MULTI|flags)
		data = binary.NativeEndian.AppendUint64(data, 7) // sequence number and port
		data = append(data, body...)
		for len(data)%unix.NLMSG_ALIGNTO != 0 {
			data = append(data, 0)
		}
	}
	for _, text := range texts {
		message(unix.RTM_NEWLINK, flags, []byte(text))
	}
	message(unix.NLMSG_DONE, lastFlags, binary.NativeEndian.AppendUint32(nil, uint32(-code)))
	return data
}

func TestInterruptedDumpsAreRepeated(t *testing.T) {
	read := func(s *scripted) (got []string, err error) {
		return listOf(s, 1, nil, func(body []byte) (string, error) { return string(body), nil })
	}
	whole := dumped(0, 0, 0, "new", "whole")
	for name, half := range map[string][]byte{
		"marked at an object":           dumped(unix.NLM_F_DUMP_INTR, 0, 0, "old", "half"),
		"marked at the end alone":       dumped(0, unix.NLM_F_DUMP_INTR, 0, "old", "half"),
		"nothing is left of the answer": dumped(0, unix.NLM_F_DUMP_INTR, 0),
		"given up with an error":        dumped(0, 0, int32(unix.EINTR), "old"),
	} {
		t.Run(name, func(t *testing.T) {
			once := &scripted{answers: [][]byte{half, whole}}
			got, err := read(once)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "objects", []string{"new", "whole"}, got)
			same(t, "attempts", 2, once.calls)

			always := &scripted{answers: [][]byte{half}}
			if got, err := read(always); !errors.Is(err, netlinklist.ErrInterrupted) || got != nil {
				t.Errorf("got %q, %v", got, err)
			}
			same(t, "attempts", netlinklist.Attempts, always.calls)
		})
	}
	if _, err := read(&scripted{answers: [][]byte{dumped(0, 0, int32(unix.EPERM), "old")}}); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}

// The kernel writes a part of a dump when the part before it is read, and the first at the request. When the addresses
// that are left to be written have gone by then, only the end of the dump tells.
func TestTheKernelMarksDumpsDuringChanges(t *testing.T) {
	const addresses = 2000 // more than the first part holds
	ns := newNetns(t, "churn")
	var add strings.Builder
	for i := range addresses {
		fmt.Fprintf(&add, "addr add 10.0.%d.%d/32 dev lo\n", i/250, 1+i%250)
	}
	command := exec.Command("ip", "-n", ns, "-batch", "-")
	command.Stdin = strings.NewReader(add.String())
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	insideThread(t, ns, func() error {
		conn, err := dialNetlink(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer conn.Close()
		request := netlink.Message{
			Header: netlink.Header{Type: unix.RTM_GETADDR, Flags: netlink.Request | netlink.Dump}, Data: make([]byte, unix.SizeofIfAddrmsg),
		}
		request.Data[0] = unix.AF_INET
		reply, err := conn.dump(request)
		if err != nil {
			return err
		}
		if len(reply.bodies) < addresses || reply.interrupted {
			t.Errorf("%d addresses, interrupted %v", len(reply.bodies), reply.interrupted)
		}
		sent, err := conn.Send(request)
		if err != nil {
			return err
		}
		script(t, ns, "ip addr flush dev lo")
		reply, err = conn.answer(sent.Header.Sequence)
		if err != nil {
			return err
		}
		if len(reply.bodies) == 0 || len(reply.bodies) >= addresses || !reply.interrupted {
			t.Errorf("a dump of %d addresses, interrupted %v, although they went away", len(reply.bodies), reply.interrupted)
		}
		return nil
	})
}

func TestParseMountinfo(t *testing.T) {
	const text = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
42 41 0:4 net:[4026532176] /run/netns/blue rw shared:2 - nsfs nsfs rw
43 41 0:4 net:[4026532177] /run/docker/netns/a\040b rw - nsfs nsfs rw
44 41 0:4 mnt:[4026532178] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
45 41 0:4 net:[broken] /run/netns/broken rw - nsfs nsfs rw
short line
`
	got := fmt.Sprintf("%+v", parseMountinfo([]byte(text), "/host"))
	same(t, "mounts", "[{name:blue path:/host/run/netns/blue inode:4026532176} {name:a b path:/host/run/docker/netns/a b inode:4026532177}]", got)
}

func TestTruncatedMessagesAreErrors(t *testing.T) {
	target := &target{names: map[int]string{}}
	for name, decode := range map[string]func([]byte) error{
		"link":      func(b []byte) error { _, err := decodeLink(b); return err },
		"address":   func(b []byte) error { _, err := decodeAddress(b); return err },
		"rule":      func(b []byte) error { _, err := decodeRule(netstack.IPv4, b); return err },
		"route":     func(b []byte) error { _, _, err := target.decodeRoute(netstack.IPv4, b); return err },
		"nexthop":   func(b []byte) error { _, err := target.decodeNextHop(b); return err },
		"neighbour": func(b []byte) error { _, err := decodeNeighbour(b); return err },
		"socket":    func(b []byte) error { _, err := target.decodeSocket(netstack.ProtoTCP, b); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range [][]byte{nil, {1, 2, 3}, append(make([]byte, inetDiagMsg), 0xff, 0xff, 1)} {
				if decode(body) == nil {
					t.Errorf("%d bytes were taken for a %s", len(body), name)
				}
			}
		})
	}
}

func TestUnknownSelectorsOfRulesAreNamed(t *testing.T) {
	body := make([]byte, fibRuleHeader)
	body[7] = unix.FR_ACT_TO_TBL
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.FRA_PRIORITY, Data: []byte{7, 0, 0, 0}}, {Type: fraDSCPMask + 1, Data: []byte{0, 0, 0, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "policy rule with priority 7 selects by attribute 31, which is not modelled"
	if _, err := decodeRule(netstack.IPv6, append(body, attrs...)); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func BenchmarkCollectNamespace(b *testing.B) {
	ns := routed(b)
	inside(b, ns, "iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
	c := New(Options{Namespaces: []string{ns}, Logger: quiet()})
	for b.Loop() {
		if _, err := c.Collect(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCollectUnchanged collects a node again that is as it was: with the
// links, routes and neighbours of one in a cluster of 1,000 nodes, then with the
// rules of kube-proxy for 1,000 Services, too, of which 100 have session affinity
// to three endpoints each, or with 110 pods.
func BenchmarkCollectUnchanged(b *testing.B) {
	var batch strings.Builder
	for i := range 60 {
		fmt.Fprintf(&batch, "link add v%d type veth peer name w%d\nlink set v%d up\nlink set w%d up\n", i, i, i, i)
	}
	for i := range 1000 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.0/24 via 10.0.0.%d dev e0\n", 128+i/250, i%250, 2+i%250)
		fmt.Fprintf(&batch, "neighbour add 10.0.%d.%d dev e1 lladdr 02:00:00:00:%02x:%02x nud permanent\n", i/250, i%250, i/250, i%250)
	}
	rules := &proxyrules.Spec{Services: 1000, Endpoints: 3, NodePortEvery: 100}
	affinity := append(rules.NFTables(), "table ip affinity {\n"...)
	for i := range 300 {
		affinity = fmt.Appendf(affinity, "set s%d { type ipv4_addr; flags dynamic,timeout; timeout 3h; elements = { 10.0.0.1, 10.0.0.2, 10.0.0.3 } }\n", i)
	}
	affinity = append(affinity, "}\n"...)
	for _, test := range []struct {
		name string
		file []byte
		load []string
		pods int
	}{
		{name: "rules=none"},
		{name: "rules=none/pods=110", pods: 110},
		{name: "rules=nftables", file: rules.NFTables(), load: []string{"nft", "-f"}},
		{name: "rules=nftables/affinity=300", file: affinity, load: []string{"nft", "-f"}},
		{name: "rules=iptables-legacy", file: rules.IPTables(), load: []string{"iptables-legacy-restore"}},
	} {
		b.Run(test.name, func(b *testing.B) {
			ns := routed(b)
			namespaces := []string{ns}
			for i := range test.pods {
				pod := newNetns(b, fmt.Sprint("pod", i))
				script(b, ns, fmt.Sprintf("ip link add p%d up type veth peer name eth0 netns %s", i, pod))
				script(b, pod, fmt.Sprintf("ip link set eth0 up\nip addr add 10.0.0.%d/32 dev eth0\nip route add default dev eth0", 2+i))
				namespaces = append(namespaces, pod)
			}
			load := func(data []byte, command ...string) {
				file := filepath.Join(b.TempDir(), "input")
				if err := os.WriteFile(file, data, 0o600); err != nil {
					b.Fatal(err)
				}
				inside(b, ns, append(command, file)...)
			}
			load([]byte(batch.String()), "ip", "-batch")
			if test.file != nil {
				load(test.file, test.load...)
			}
			c := New(Options{Namespaces: namespaces, Logger: quiet()})
			collectSnapshot(b, c)
			b.ReportAllocs()
			tools := cputime.Used(syscall.RUSAGE_CHILDREN)
			stop := cputime.Measure(b)
			for b.Loop() {
				collectSnapshot(b, c)
			}
			stop()
			b.ReportMetric(float64(cputime.Used(syscall.RUSAGE_CHILDREN)-tools)/float64(b.N), "tools-cpu-ns/op")
		})
	}
}
