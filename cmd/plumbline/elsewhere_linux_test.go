package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// elsewhere is like another machine: the program runs as nobody, in a network
// namespace of its own with nothing in it, and can read its arguments only.
type elsewhere struct{ program, dir string }

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	dir, err := os.MkdirTemp("", "plumbline")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e := &elsewhere{program: filepath.Join(dir, "plumbline"), dir: dir}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	e.put(t, "plumbline", program, 0o755)
	return e
}

// put makes a file that everybody can read.
func (e *elsewhere) put(t *testing.T, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(e.dir, name)
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func (e *elsewhere) copy(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return e.put(t, filepath.Base(path), data, 0o644)
}

func (e *elsewhere) run(t *testing.T, args ...string) (code int, stdout, stderr []byte) {
	t.Helper()
	cmd := exec.Command(e.program, args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.Dir = "/"
	dropPrivileges(cmd)
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.Bytes(), errOut.Bytes()
}

func reports(t *testing.T, text []byte) []verdict.Report {
	t.Helper()
	var list []verdict.Report
	for line := range bytes.Lines(text) {
		var r verdict.Report
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, r)
	}
	return list
}

// TestABundleDiagnosedElsewhereGivesTheReportsOfTheLiveState collects the lab
// twice: for a live diagnosis, and for a bundle that is diagnosed without root
// and without the lab. Only the times may differ.
func TestABundleDiagnosedElsewhereGivesTheReportsOfTheLiveState(t *testing.T) {
	ctx := t.Context()
	const prefix = "plelse"
	l := against.StartLab(t, lab.Options{Prefix: prefix})
	for _, fault := range []string{"network-policy", "mtu-black-hole"} {
		if err := l.Break(ctx, fault); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a live diagnosis is confirmed by a real probe", func(t *testing.T) {
		live := []string{"diagnose", "--namespaces", prefix + "-*", "--manifests", l.ClusterDir(), "--from", "pod:shop/web-0", "--confirm"}
		code, stdout, stderr := plumbline(t, append(live, "--to", "pod:shop/db-0", "--port", "5432", "-o", "json")...)
		if o := reports(t, []byte(stdout))[0].Observed; code != statusReachable && code != statusUnreachable || o == nil || o.Agrees == nil || !*o.Agrees {
			t.Errorf("status %d, %s: observed %+v", code, stderr, o)
		}
		code, stdout, stderr = plumbline(t, append(live, "--to", "pod:shop/db-0", "--protocol", "icmp")...)
		if code != statusReachable || !strings.Contains(stdout, "\nobserved answered, as simulated: answered\n") {
			t.Errorf("status %d, %s:\n%s", code, stderr, stdout)
		}
	})
	queries := strings.Join([]string{
		`{"id":"denied","from":"pod:shop/web-0","to":"svc:shop/api","port":80,"protocol":"tcp"}`,
		`{"id":"large","from":"pod:shop/web-0","to":"fd00:10:244:2::30","port":5432,"protocol":"tcp"}`,
		`{"id":"ping","from":"node:node-1","to":"pod:shop/db-0","protocol":"icmp"}`,
		`{"id":"outside","from":"pod:shop/db-0","to":"198.51.100.7","port":443,"protocol":"tcp"}`,
		`{"id":"nobody","from":"pod:shop/none","to":"pod:shop/db-0","port":80,"protocol":"udp"}`,
	}, "\n") + "\n"
	there := newElsewhere(t)
	file := there.put(t, "queries.jsonl", []byte(queries), 0o644)

	code, live, stderr := plumbline(t, "diagnose", "--namespaces", prefix+"-*", "--manifests", l.ClusterDir(), "--queries", file, "-o", "json")
	if code != statusUnreachable || stderr != "" {
		t.Fatalf("live: status %d, %s", code, stderr)
	}
	path := filepath.Join(t.TempDir(), "lab.tar.zst")
	if code, _, stderr := plumbline(t, "collect", "--namespaces", prefix+"-*", "--manifests", l.ClusterDir(), "--output", path); code != statusOK {
		t.Fatalf("collect: status %d, %s", code, stderr)
	}
	code, stored, errOut := there.run(t, "diagnose", "--bundle", there.copy(t, path), "--queries", file, "-o", "json")
	if code != statusUnreachable || len(errOut) != 0 {
		t.Fatalf("elsewhere: status %d, %s", code, errOut)
	}

	want, got := reports(t, []byte(live)), reports(t, stored)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(verdict.Report{}, "Snapshot")); diff != "" {
		t.Errorf("the bundle's reports differ (-live +bundle):\n%s", diff)
	}
	for i, expected := range []struct {
		verdict verdict.Verdict
		reason  verdict.Code
	}{
		{verdict.Unreachable, verdict.NetworkPolicyDeny},
		{verdict.Degraded, verdict.MTUExceeded},
		{verdict.Reachable, ""},
		{verdict.Unreachable, verdict.NoRoute},
		{verdict.Unknown, verdict.EndpointUnresolved},
	} {
		if r := &got[i]; r.Verdict != expected.verdict || r.Reason() != expected.reason {
			t.Errorf("%s: %s, %s; want %s, %s", r.ID, r.Verdict, r.Reason(), expected.verdict, expected.reason)
		}
	}
}

// TestTheSampleBundleIsDiagnosedWithoutPrivileges is what the README promises.
func TestTheSampleBundleIsDiagnosedWithoutPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to drop its privileges")
	}
	there := newElsewhere(t)
	sample := there.copy(t, "../../examples/lab.tar.zst")
	code, stdout, stderr := there.run(t, "diagnose", "--bundle", sample, "--from", "pod:shop/web-0", "--to", "pod:shop/api-1", "--port", "8080")
	if code != statusUnreachable || len(stderr) != 0 || !bytes.Contains(stdout, []byte("reason  NetfilterDrop (fatal)")) {
		t.Errorf("status %d, stderr %q:\n%s", code, stderr, stdout)
	}
}

func TestLiveDiagnosisWithoutRootSaysWhatToDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to drop its privileges")
	}
	code, _, stderr := newElsewhere(t).run(t, "diagnose", "--from", "10.0.0.1", "--to", "10.0.0.2", "--port", "80")
	want := "plumbline: collecting needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run it with sudo, or diagnose a bundle that was collected elsewhere with --bundle\n"
	if code != statusUsage || string(stderr) != want {
		t.Errorf("status %d, %q; want status %d, %q", code, stderr, statusUsage, want)
	}
}
