package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// hostTraces is what a lab of that prefix has left on the host: namespaces, listeners, state files, and any link of the
// host's own namespace whatever its name.
func hostTraces(t *testing.T, prefix string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	names, err := filepath.Glob(filepath.Join(netnsDir, prefix+"-*"))
	if err != nil {
		t.Fatal(err)
	}
	out["namespaces"] = names
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		out["host links"] = append(out["host links"], l.Name)
	}
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cmdlines {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("\x00--prefix\x00"+prefix+"\x00")) {
			out["processes"] = append(out["processes"], string(data))
		}
	}
	if _, err := os.Stat(filepath.Join(stateRoot, prefix)); err == nil {
		out["state"] = []string{prefix}
	}
	return out
}

// asRoot skips a test that cannot be without root, and removes what a killed run of it left.
func asRoot(t *testing.T, prefixes ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(ErrNotRoot)
	}
	for _, prefix := range prefixes {
		if err := Down(t.Context(), Options{Prefix: prefix}); err != nil {
			t.Fatal(err)
		}
	}
}

func sameTraces(t *testing.T, before, after map[string][]string) {
	t.Helper()
	if diff := gocmp.Diff(before, after); diff != "" {
		t.Errorf("something is left behind (-before +after):\n%s", diff)
	}
}

func TestDownLeavesNothingOfALabThatIsUpAndBroken(t *testing.T) {
	const prefix = "pllab-down"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	l, err := Up(t.Context(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	up := hostTraces(t, prefix)
	if len(up["namespaces"]) != 7 || len(up["processes"]) != 4 || len(up["state"]) != 1 {
		t.Errorf("up made %v, want 7 namespaces, 4 listeners and their state", up)
	}
	if !slices.Equal(up["host links"], before["host links"]) {
		t.Errorf("up changed the host's links to %v", up["host links"])
	}
	for _, fault := range []string{"rp-filter", "network-policy", "listener-loopback", "nft-drop"} {
		if err := l.Break(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameTraces(t, before, hostTraces(t, prefix))
	if err := l.Down(t.Context()); err != nil {
		t.Errorf("down of nothing: %v", err)
	}
	if _, err := Open(prefix); !errors.Is(err, ErrNotUp) {
		t.Errorf("open after down: got %v, want %v", err, ErrNotUp)
	}
}

func stepNames(t *testing.T) []string {
	t.Helper()
	spec, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range (&Lab{Spec: spec}).steps() {
		names = append(names, s.name)
	}
	return names
}

func TestUpThatFailsAtAnyStepTakesDownWhatItHasBuilt(t *testing.T) {
	asRoot(t)
	for i, name := range stepNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := fmt.Sprintf("pllab-e%d", i)
			asRoot(t, prefix)
			before := hostTraces(t, prefix)
			boom := errors.New("boom")
			_, err := Up(t.Context(), Options{Prefix: prefix, step: func(step string) error {
				if step == name {
					return boom
				}
				return nil
			}})
			if want := fmt.Sprintf("lab %q: %s: boom", prefix, name); !errors.Is(err, boom) || err.Error() != want {
				t.Errorf("got error %v, want %s", err, want)
			}
			sameTraces(t, before, hostTraces(t, prefix))
		})
	}
}

func TestDownLeavesNothingOfAnUpThatCrashedAtAnyStep(t *testing.T) {
	asRoot(t)
	for i, name := range stepNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := fmt.Sprintf("pllab-c%d", i)
			asRoot(t, prefix)
			before := hostTraces(t, prefix)
			_, err := Up(t.Context(), Options{Prefix: prefix, step: func(step string) error {
				if step == name {
					return errCrash
				}
				return nil
			}})
			if !errors.Is(err, errCrash) {
				t.Fatalf("got error %v, want the crash", err)
			}
			if len(hostTraces(t, prefix)["state"]) == 0 {
				t.Error("the crashed lab has no state: this test shows nothing")
			}
			if _, err := Up(t.Context(), Options{Prefix: prefix}); !errors.Is(err, ErrExists) {
				t.Errorf("up on what a crash left: got %v, want %v", err, ErrExists)
			}
			if _, err := Open(prefix); !errors.Is(err, ErrNotUp) {
				t.Errorf("open what a crash left: got %v, want %v", err, ErrNotUp)
			}
			if err := Down(t.Context(), Options{Prefix: prefix}); err != nil {
				t.Fatal(err)
			}
			sameTraces(t, before, hostTraces(t, prefix))
		})
	}
}

// upAndHang makes this test program run Up and hang at the step that the variable names.
const upAndHang = "LAB_TEST_HANG_AT"

func hang() {
	_, err := Up(context.Background(), Options{Prefix: os.Getenv("LAB_TEST_PREFIX"), step: func(step string) error {
		if step == os.Getenv(upAndHang) {
			fmt.Println("there")
			select {}
		}
		return nil
	}})
	fmt.Println(err)
}

func TestDownLeavesNothingOfAnUpThatWasKilled(t *testing.T) {
	const prefix = "pllab-kill"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), upAndHang+"=listen in shop/db-0", "LAB_TEST_PREFIX="+prefix)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 5)
	if _, err := out.Read(text); err != nil || string(text) != "there" {
		t.Fatalf("up said %q (%v)", text, err)
	}
	if err := Down(t.Context(), Options{Prefix: prefix}); err == nil || err.Error() != `lab "pllab-kill" is being changed by another command` {
		t.Errorf("down beside a running up: got %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := hostTraces(t, prefix); len(got["namespaces"]) != 7 || len(got["processes"]) != 3 {
		t.Errorf("the killed up left %v, want 7 namespaces and 3 listeners", got)
	}
	if err := Down(t.Context(), Options{Prefix: prefix}); err != nil {
		t.Fatal(err)
	}
	sameTraces(t, before, hostTraces(t, prefix))
}

func TestDownFindsListenersThatNoStateFileKnows(t *testing.T) {
	const prefix = "pllab-stray"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	l, err := Up(t.Context(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), Options{Prefix: prefix}); err != nil {
		t.Fatal(err)
	}
	sameTraces(t, before, hostTraces(t, prefix))
}

func TestDownLeavesNothingOfALabWhoseStateIsDamaged(t *testing.T) {
	const prefix = "pllab-damaged"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	l, err := Up(t.Context(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.Dir(), "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := `lab "pllab-damaged": read state /run/plumbline/lab/pllab-damaged/state.json: unexpected end of JSON input`
	if _, err := Open(prefix); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if err := Down(t.Context(), Options{Prefix: prefix}); err != nil {
		t.Fatal(err)
	}
	sameTraces(t, before, hostTraces(t, prefix))
}

func TestDownSparesAProcessThatHasTheReusedPidOfAListener(t *testing.T) {
	asRoot(t, "pllab-pid")
	l, err := Up(t.Context(), Options{Prefix: "pllab-pid"})
	if err != nil {
		t.Fatal(err)
	}
	bystander := exec.Command("sleep", "600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer bystander.Wait()
	defer bystander.Process.Kill()
	start, _ := processStart(bystander.Process.Pid)
	l.state.Listeners = append(l.state.Listeners, listener{Pod: "shop/web-0", PID: bystander.Process.Pid, Start: start - 1})
	if err := l.state.write(l.dir); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, alive := processStart(bystander.Process.Pid); !alive {
		t.Error("down killed a process that was not its own")
	}
}

func TestDownNamesAndSparesProcessesThatOthersStartedInTheLab(t *testing.T) {
	const prefix = "pllab-guest"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	l, err := Up(t.Context(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	guest := exec.Command("sleep", "600")
	if err := InNetns(l.podNetns(l.near()), guest.Start); err != nil {
		t.Fatal(err)
	}
	defer guest.Wait()
	defer guest.Process.Kill()
	err = l.Down(t.Context())
	want := fmt.Sprintf(`take down lab "pllab-guest": processes that are not the lab's keep its namespaces alive until they end: %d (sleep) in pllab-guest-shop-api-0`, guest.Process.Pid)
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if _, alive := processStart(guest.Process.Pid); !alive {
		t.Error("down killed a process that was not its own")
	}
	sameTraces(t, before, hostTraces(t, prefix))
}

func TestTwoLabsOfOnePrefixCannotBeAndOthersAreSpared(t *testing.T) {
	l := newLab(t, "pllab-a")
	other := newLab(t, "pllab-a-b") // its names begin with those of the first
	if _, err := Up(t.Context(), Options{Prefix: "pllab-a"}); err == nil || err.Error() != `lab "pllab-a": lab exists: run "plumbline lab down" first` {
		t.Errorf("second up: got error %v", err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := hostTraces(t, other.Prefix); len(got["namespaces"]) != 7 || len(got["processes"]) != 4 {
		t.Errorf("down of one lab left %v of another", got)
	}
}

func TestUpNamesTheMissingToolAndItsPackage(t *testing.T) {
	asRoot(t)
	t.Setenv("PATH", t.TempDir())
	_, err := Up(t.Context(), Options{Prefix: "pllab-tool"})
	if want := "lab: ip is not installed: apt-get install iproute2"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestLegacyRulesGiveServicesToo(t *testing.T) {
	asRoot(t, "pllab-legacy")
	spec, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec.IPTables = "legacy"
	l, err := Up(t.Context(), Options{Prefix: "pllab-legacy", Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if out, err := l.Output(t.Context(), NodeEndpoint("node-1"), "nft", "list", "ruleset"); err != nil || strings.Contains(string(out), "KUBE") {
		t.Errorf("the rules are in nftables (%v):\n%s", err, out)
	}
	got, err := fates(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	checkFates(t, l, got, func(cell) want { return unharmed })
}

func TestFaultsThatChangeOneThingExcludeEachOtherAndAllAreFixedAtOnce(t *testing.T) {
	l := newLab(t, "pllab-many")
	ctx := t.Context()
	before := snapshot(t, l)
	var injected []string
	objects := map[string]string{}
	for _, f := range Faults() {
		err := l.Break(ctx, f.Name)
		if first := objects[f.object]; first != "" {
			want := fmt.Sprintf("fault %s changes the same thing as fault %s, which is active: fix that first", f.Name, first)
			if err == nil || err.Error() != want {
				t.Errorf("got error %v, want %s", err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[f.object] = f.Name
		injected = append(injected, f.Name)
	}
	if got := l.ActiveFaults(); !slices.Equal(got, injected) || len(got) != len(Faults())-3 {
		t.Errorf("active faults are %v, want %v", got, injected)
	}
	if err := l.Break(ctx, "drop-rule"); err == nil || err.Error() != "fault drop-rule is active already" {
		t.Errorf("second injection: got error %v", err)
	}
	if err := l.Fix(ctx, AllFaults); err != nil {
		t.Fatal(err)
	}
	if err := l.Fix(ctx, "drop-rule"); err == nil || err.Error() != "fault drop-rule is not active" {
		t.Errorf("second fix: got error %v", err)
	}
	after := snapshot(t, l)
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if diff := gocmp.Diff(before[key], after[key]); diff != "" {
			t.Errorf("fix leaves a difference in %s (-before +after):\n%s", key, diff)
		}
	}
	want := `unknown fault "gremlins": the faults are missing-route, blackhole-route, wrong-gateway, mtu-black-hole, rp-filter, forwarding-off, drop-rule, nft-drop, network-policy, link-down, listener-gone, listener-loopback, backend-dead, packet-loss`
	if err := l.Break(ctx, "gremlins"); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if err := l.Fix(ctx, "gremlins"); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestACancelledUpLeavesNothing(t *testing.T) {
	const prefix = "pllab-ctx"
	asRoot(t, prefix)
	before := hostTraces(t, prefix)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := Up(ctx, Options{Prefix: prefix, step: func(step string) error {
		if step == "write the Service rules" {
			cancel()
		}
		return nil
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	sameTraces(t, before, hostTraces(t, prefix))
}

func TestAProcessThatVisitsANamespaceWithOneThreadIsNotInside(t *testing.T) {
	const name = "pllab-visited"
	if os.Geteuid() != 0 {
		t.Fatal("needs root to make network namespaces: run as root")
	}
	t.Cleanup(func() {
		if err := RemoveNetns(name); err != nil {
			t.Error(err)
		}
	})
	if err := NewNetns(name); err != nil {
		t.Fatal(err)
	}
	visited, ok := netnsInode(filepath.Join(netnsDir, name))
	if !ok {
		t.Fatal("the namespace was not made")
	}
	err := InNetns(name, func() error {
		if thread, _ := netnsInode("/proc/thread-self/ns/net"); thread != visited {
			t.Errorf("the thread is in %d, want %d", thread, visited)
		}
		if ino, ok := netnsOfAllThreads(os.Getpid()); ok {
			t.Errorf("all threads are in %d, want them to be in several namespaces", ino)
		}
		guest := exec.Command("sleep", "600")
		if err := guest.Start(); err != nil {
			return err
		}
		defer guest.Wait()
		defer guest.Process.Kill()
		if ino, ok := netnsOfAllThreads(guest.Process.Pid); !ok || ino != visited {
			t.Errorf("the process that was started inside is in %d (%t), want %d", ino, ok, visited)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
