//go:build amd64 || arm64

package probes

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

const noneAttached = `
# HELP plumbline_probe_attached Whether an eBPF probe is attached and can be read.
# TYPE plumbline_probe_attached gauge
plumbline_probe_attached{mode="none",probe="drops"} 0
plumbline_probe_attached{mode="none",probe="retransmits"} 0
plumbline_probe_attached{mode="none",probe="synack_retransmits"} 0
`

func TestOpenOnAKernelThatLacksSomethingSaysWhat(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		btf          string
		want         string
		notSupported bool
	}{
		{
			"no BTF", filepath.Join(dir, "vmlinux"),
			"not supported: DIR/vmlinux is missing: run a kernel that is built with CONFIG_DEBUG_INFO_BTF=y and, in a container, mount /sys", true,
		},
		{"a file that is not BTF", empty, "read kernel types from DIR/empty: ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Open(Options{BTFPath: c.btf})
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != c.want && (c.notSupported || !strings.HasPrefix(got, c.want)) {
				t.Errorf("error %q, want %q", got, c.want)
			}
			if errors.Is(err, ErrNotSupported) != c.notSupported {
				t.Errorf("error %q wraps ErrNotSupported: %v, want %v", err, !c.notSupported, c.notSupported)
			}
			if err := testutil.CollectAndCompare(p, strings.NewReader(noneAttached)); err != nil {
				t.Error(err)
			}
			for _, s := range p.Status() {
				if !errors.Is(s.Err, err) {
					t.Errorf("status of %s: %v, want %v", s.Probe, s.Err, err)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The kernel is made to look as if it had but one of the tracepoints.
func TestAProbeThatFailsLeavesTheOthersAlone(t *testing.T) {
	l := newLab(t)
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var types []btf.Type
	for _, name := range []string{"skb_drop_reason", "sock", "net", "net_device", "sk_buff", "tcp_skb_cb", "btf_trace_tcp_retransmit_synack"} {
		found, err := kernel.AnyTypesByName(name)
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, found[0])
	}
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, blob, 0o600); err != nil {
		t.Fatal(err)
	}

	p, err := Open(Options{BTFPath: path, Attributor: l.namespaces()})
	t.Cleanup(func() { p.Close() })
	const want = `probe drops: not supported: this kernel has no tracepoint kfree_skb
probe retransmits: not supported: this kernel has no tracepoint tcp_retransmit_skb`
	if !errors.Is(err, ErrNotSupported) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	const attached = `
# HELP plumbline_probe_attached Whether an eBPF probe is attached and can be read.
# TYPE plumbline_probe_attached gauge
plumbline_probe_attached{mode="none",probe="drops"} 0
plumbline_probe_attached{mode="none",probe="retransmits"} 0
plumbline_probe_attached{mode="tp_btf",probe="synack_retransmits"} 1
`
	if err := testutil.CollectAndCompare(p, strings.NewReader(attached), "plumbline_probe_attached"); err != nil {
		t.Error(err)
	}
}

func TestOpenWithoutPermissionNamesTheCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("dropping capabilities one by one needs root")
	}
	for _, c := range []struct {
		name string
		keep []capability
		want string
	}{
		{"none", nil, "the process lacks CAP_BPF and CAP_PERFMON"},
		{"only CAP_BPF", []capability{capBPF}, "the process lacks CAP_PERFMON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := withCapabilities(t, c.keep, func() (*Probes, error) { return Open(Options{Logger: slog.New(slog.DiscardHandler)}) })
			if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNotSupported) {
				t.Errorf("error %v, want one that wraps os.ErrPermission and not ErrNotSupported", err)
			}
			want := fmt.Sprintf("probe drops: %[1]s: permission denied\nprobe retransmits: %[1]s: permission denied\nprobe synack_retransmits: %[1]s: permission denied", c.want)
			if err == nil || strings.ReplaceAll(err.Error(), fs.ErrPermission.Error(), "permission denied") != want {
				t.Errorf("error %q, want %q", err, want)
			}
			if err := testutil.CollectAndCompare(p, strings.NewReader(noneAttached)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTwoCapabilitiesAreEnough(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("dropping capabilities one by one needs root")
	}
	p, err := withCapabilities(t, []capability{capBPF, capPerfmon}, func() (*Probes, error) { return Open(Options{Logger: slog.New(slog.DiscardHandler)}) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want := []Status{{Probe: ProbeDrops, Mode: ModeTracepoint}, {Probe: ProbeRetransmits, Mode: ModeTracepoint}, {Probe: ProbeSynackRetransmits, Mode: ModeTracepoint}}
	if got := p.Status(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("status %v, want %v", got, want)
	}
}

// withCapabilities calls fn on a thread that has only these capabilities, and is not used again.
func withCapabilities(t *testing.T, keep []capability, fn func() (*Probes, error)) (*Probes, error) {
	t.Helper()
	type result struct {
		p   *Probes
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		var data [2]unix.CapUserData
		for _, c := range keep {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
			done <- result{&Probes{}, fmt.Errorf("capset: %w", err)}
			return
		}
		p, err := fn()
		done <- result{p, err}
	}()
	r := <-done
	return r.p, r.err
}

func TestCloseDetachesAndTheMetricsSaySo(t *testing.T) {
	l := newLab(t)
	w := l.open(Options{Attributor: l.namespaces()})
	attached := w.all("plumbline_probe_attached")
	want := map[string]uint64{"tp_btf drops": 1, "tp_btf retransmits": 1, "tp_btf synack_retransmits": 1}
	if !maps.Equal(attached, want) {
		t.Errorf("attached %v, want %v", attached, want)
	}
	for range 2 {
		if err := w.probes.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := testutil.CollectAndCompare(w.probes, strings.NewReader(noneAttached)); err != nil {
		t.Error(err)
	}
}

// In confidentiality lockdown the kernel lets no program read packet headers. Where and why a packet was dropped is still counted.
func TestLockdownLosesOnlyTheProtocol(t *testing.T) {
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			l := newLab(t)
			p := l.namespaces()
			w := l.open(Options{Attributor: p, lockdown: true})
			if got := w.all("plumbline_probe_attached")["tp_btf_lockdown drops"]; got != 1 {
				t.Fatalf("attached %v", w.all("plumbline_probe_attached"))
			}
			l.exec("r", "%s -A FORWARD -p udp --dport 9000 -j DROP", f.iptables)
			l.send("a", f, 6, datagrams{to: f.b})
			w.wantDrops("other", map[string]uint64{"r other NETFILTER_DROP": 6})
		})
	}
}

func TestEventsThatDoNotFitAreCountedAsLost(t *testing.T) {
	const n = 40
	l := newLab(t)
	w := l.open(Options{Attributor: l.namespaces(), MaxEntries: 1})
	for _, f := range families() {
		l.send("a", f, n, datagrams{to: f.b})       // NO_SOCKET at b
		l.send("a", f, n, datagrams{to: f.nowhere}) // IP_INNOROUTES at r
	}
	// One entry cannot hold both. It may even belong to someone else on this machine.
	eventually(t, func() bool {
		return w.all("plumbline_events_lost_total")["tp_btf drops"]+total(w.drops("udp")) >= 4*n
	}, func() string { return fmt.Sprint(w.all("plumbline_events_lost_total"), w.drops("udp")) })
	if got := w.drops("udp"); len(got) > 1 {
		t.Errorf("drops %v, want at most one entry", got)
	}
	if lost := w.all("plumbline_events_lost_total")["tp_btf drops"]; lost < 2*n {
		t.Errorf("%d events lost, want at least %d", lost, 2*n)
	}
}

func TestRunTimeIsExportedOnRequest(t *testing.T) {
	l := newLab(t)
	w := l.open(Options{Attributor: l.namespaces(), RunTime: true})
	l.send("a", families()[0], 1, datagrams{to: families()[0].b})
	w.wantDrops("udp", map[string]uint64{"b udp NO_SOCKET": 1})
	if n, err := testutil.GatherAndCount(w.registry, "plumbline_bpf_run_seconds_total"); err != nil || n != 3 {
		t.Errorf("%d series of run time, %v; want one for each probe", n, err)
	}
	for _, probe := range w.probes.probes {
		if probe.name != ProbeDrops {
			continue
		}
		if run, err := probe.attached.runTime(); err != nil || run <= 0 {
			t.Errorf("run time of the drops probe %v, %v; want more than 0", run, err)
		}
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	l := newLab(t)
	f := families()[0]
	w := l.open(Options{Attributor: l.namespaces(), RunTime: true})
	l.send("a", f, 1, datagrams{to: f.b})
	w.wantDrops("udp", map[string]uint64{"b udp NO_SOCKET": 1})
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// newTestTable fills a map like that of the drops probe, without a probe.
func newTestTable(t testing.TB, entries int) *mapTable[dropKey, dropsDropKey] {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("eBPF maps need root")
	}
	spec, err := loadDrops()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(spec.Maps[dropsMapDrops])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	table, err := newMapTable(m,
		func(k *dropsDropKey) dropKey {
			return dropKey{place{k.Cookie, k.In, k.Out}, dropLabels{k.Reason, k.Protocol}}
		},
		func(k dropKey) dropsDropKey {
			return dropsDropKey{Cookie: k.cookie, In: k.in, Out: k.out, Reason: k.reason, Protocol: k.protocol}
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	values := make([]uint64, table.cpus)
	for i := range entries {
		values[i%table.cpus] = uint64(i)
		values[0]++
		if err := m.Put(testEntry(i), values); err != nil {
			t.Fatal(err)
		}
		clear(values)
	}
	return table
}

// testEntry spreads entries over 200 pods.
func testEntry(i int) dropsDropKey {
	return dropsDropKey{Cookie: uint64(i%200 + 1), In: 2, Reason: uint32(i / 200), Protocol: 17}
}

func TestTableIsReadWholeWithAndWithoutBatches(t *testing.T) {
	const entries = 2*batchSize + 17
	for _, noBatch := range []bool{false, true} {
		t.Run(fmt.Sprintf("noBatch=%v", noBatch), func(t *testing.T) {
			table := newTestTable(t, entries)
			table.noBatch = noBatch
			seen := map[dropKey]uint64{}
			if err := table.read(func(k dropKey, n uint64) { seen[k] += n }); err != nil {
				t.Fatal(err)
			}
			if table.noBatch != noBatch {
				t.Errorf("noBatch = %v after reading", table.noBatch)
			}
			if len(seen) != entries {
				t.Errorf("%d entries, want %d", len(seen), entries)
			}
			for i := range entries {
				e := testEntry(i)
				key := dropKey{place{e.Cookie, e.In, e.Out}, dropLabels{e.Reason, e.Protocol}}
				if seen[key] != uint64(i)+1 {
					t.Fatalf("entry %d counts %d, want %d", i, seen[key], i+1)
				}
			}

			key := dropKey{place{1, 2, 0}, dropLabels{0, 17}}
			if n, err := table.remove(key); err != nil || n != 1 {
				t.Errorf("remove = %d, %v; want 1", n, err)
			}
			if _, err := table.remove(key); !errors.Is(err, errNoEntry) {
				t.Errorf("second remove: %v, want errNoEntry", err)
			}
		})
	}
}

func TestKernelSymbols(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		want       noiseRanges
		err        string
	}{
		{
			"a function ends where the next begins, and its cold part counts too",
			"1000 T before\n2000 t ip6_mc_input\n2080 T next\n0100 t inet_sock_destruct.cold\n0180 t last_of_cold\n2004 d ip6_mc_input_data\n3000 t qdisc_reset\t[module]\n",
			noiseRanges{start: [maxNoise]uint64{0x2000, 0x100}, end: [maxNoise]uint64{0x2080, 0x180}},
			"",
		},
		{"a function that only begins alike does not count", "1000 T qdisc_reset_queue\n2000 T next\n", noiseRanges{}, ""},
		{"a function without an end is left out", "2000 t ip6_mc_input\n", noiseRanges{}, ""},
		{"hidden addresses", "0000 T before\n", noiseRanges{}, "FILE hides addresses: the process lacks CAP_SYSLOG: permission denied"},
		{"not an address", "xyz T before\n", noiseRanges{}, `FILE: address "xyz": strconv.ParseUint: parsing "xyz": invalid syntax`},
		{"too many parts", strings.Repeat("1000 t qdisc_reset.part.0\n", maxNoise+1), noiseRanges{}, "FILE: 17 parts of functions to ignore, room for 16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "kallsyms")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readNoise(path)
			message := ""
			if err != nil {
				message = strings.ReplaceAll(strings.ReplaceAll(err.Error(), path, "FILE"), fs.ErrPermission.Error(), "permission denied")
			}
			if message != c.err {
				t.Errorf("error %q, want %q", message, c.err)
			}
			if got != c.want {
				t.Errorf("ranges %x, want %x", got, c.want)
			}
		})
	}
}

func BenchmarkCollect10000Entries(b *testing.B) {
	const entries = 10_000
	table := newTestTable(b, entries)
	own := pods{}
	for i := range 200 {
		own[place{cookie: uint64(i + 1)}] = fmt.Sprintf("pod-%d", i)
	}
	p := notAttached(Options{Attributor: own}.withDefaults(), nil)
	p.drops = newTracker(table, dropKey.split, dropLabels.overflow, p.options)
	b.ReportAllocs()
	for b.Loop() {
		n := testutil.CollectAndCount(p, dropsMetric)
		if n != 2000+len(p.drops.overflow) {
			b.Fatalf("%d series", n)
		}
	}
}

func BenchmarkUpdate10000Entries(b *testing.B) {
	table := newTestTable(b, 10_000)
	tracker := newTracker(table, dropKey.split, dropLabels.overflow, Options{}.withDefaults())
	now := Options{}.withDefaults().now()
	b.ReportAllocs()
	for b.Loop() {
		if err := tracker.update(now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDrop measures what the kernel spends in the program for a dropped packet, as its own statistics say.
func BenchmarkDrop(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("eBPF needs root")
	}
	p, err := Open(Options{RunTime: true})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	nobody := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	drops := p.find(ProbeDrops).attached.(*tracing)
	before, err := drops.program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_ = unix.Sendto(fd, []byte("x"), 0, nobody)
	}
	after, err := drops.program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount), "ns/drop")
}
