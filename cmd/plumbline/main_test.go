package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// asMain makes this test program behave as plumbline itself, for what only a process of its own can show.
const asMain = "PLUMBLINE_TEST_MAIN"

func TestMain(m *testing.M) {
	interceptListener()
	if os.Getenv(asMain) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){
		"plumbline": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// plumbline runs a command line in this process.
func plumbline(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestVersionTellsWhatTheProgramWasBuiltFrom(t *testing.T) {
	code, stdout, stderr := plumbline(t, "version")
	if code != 0 || stderr != "" {
		t.Fatalf("got status %d, %q", code, stderr)
	}
	want := fmt.Sprintf(", %s, %s/%s)\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if !strings.HasPrefix(stdout, "plumbline ") || !strings.Contains(stdout, " (commit ") || !strings.HasSuffix(stdout, want) {
		t.Errorf("got %q, want plumbline VERSION (commit COMMIT%s", stdout, want)
	}
}

func TestWrongUsageIsOneLineAndStatusTwo(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, `plumbline: unknown command "frobnicate": see plumbline --help`},
		{[]string{"version", "now"}, `plumbline: unknown command "now" for "plumbline version"`},
		{[]string{"--colour"}, "plumbline: unknown flag: --colour: see plumbline --help"},
		{[]string{"collect", "-o", "/tmp/never-written", "--manifests", "/", "--in-cluster"}, "plumbline: collect: --manifests and --kubeconfig or --in-cluster exclude each other"},
		{[]string{"collect", "-o", "/tmp/never-written", "--kubeconfig", "/nonexistent"}, "plumbline: collect: kubernetes: kubeconfig /nonexistent: stat /nonexistent: no such file or directory"},
		{[]string{"diagnose", "--from", "node:a", "--to", "node:b", "--port", "1", "--kubeconfig", "/nonexistent"}, "plumbline: kubernetes: kubeconfig /nonexistent: stat /nonexistent: no such file or directory"},
	} {
		code, stdout, stderr := plumbline(t, c.args...)
		if code != statusUsage || stdout != "" || stderr != c.want+"\n" {
			t.Errorf("%v: got status %d, %q, %q, want status %d, %q", c.args, code, stdout, stderr, statusUsage, c.want)
		}
	}
}

// asNobody runs plumbline in a process without privileges.
func asNobody(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "plumbline")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "plumbline")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.Dir = "/"
	dropPrivileges(cmd)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), errOut.String()
}
