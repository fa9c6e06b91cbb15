package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func dropPrivileges(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

func TestLabWithoutRootSaysSo(t *testing.T) {
	for _, args := range [][]string{{"lab", "up"}, {"lab", "down"}, {"lab", "status"}, {"lab", "break", "drop-rule"}, {"lab", "fix", "all"}, {"lab", "exec", "node-1", "--", "true"}} {
		code, stderr := asNobody(t, args...)
		if want := "plumbline: lab: needs root: run as root or with sudo\n"; code != statusUsage || stderr != want {
			t.Errorf("%v: got status %d, %q, want status %d, %q", args, code, stderr, statusUsage, want)
		}
	}
}

// withoutLab takes a lab down before the test, which a killed test may have left, and after it.
func withoutLab(t *testing.T, prefix string) {
	t.Helper()
	down := func() {
		if code, _, stderr := plumbline(t, "lab", "down", "--prefix", prefix); code != 0 || stderr != "" {
			t.Errorf("down: got status %d, %q", code, stderr)
		}
	}
	down()
	t.Cleanup(down)
}

func TestLabCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("lab: needs root: run as root or with sudo")
	}
	const prefix = "pllab-cmd"
	lab := func(args ...string) []string { return append([]string{"lab", "--prefix", prefix}, args...) }
	faults := "missing-route, blackhole-route, wrong-gateway, mtu-black-hole, rp-filter, forwarding-off, drop-rule, nft-drop, network-policy, link-down, listener-gone, listener-loopback, backend-dead, packet-loss"
	withoutLab(t, prefix)
	for _, c := range []struct {
		args   []string
		code   int
		stdout string // a part
		stderr string // all
	}{
		{lab("status"), 2, "", `plumbline: lab "pllab-cmd": lab is not up: run "plumbline lab up"`},
		{lab("up", "--spec", "/does/not/exist"), 2, "", "plumbline: read lab: open /does/not/exist: no such file or directory"},
		{lab("up", "now"), 2, "", `plumbline: unknown command "now" for "plumbline lab up"`},
		{lab("up"), 0, "shop/web-0   10.244.1.10 fd00:10:244:1::10   node-1", ""},
		{lab("up"), 2, "", `plumbline: lab "pllab-cmd": lab exists: run "plumbline lab down" first`},
		{lab("status"), 0, "none\n\nmanifests   /run/plumbline/lab/pllab-cmd/cluster", ""},
		{lab("break"), 2, "", "plumbline: lab break needs the name of one fault: see plumbline lab break --help"},
		{lab("break", "gremlins"), 2, "", `plumbline: unknown fault "gremlins": the faults are ` + faults},
		{lab("break", "drop-rule"), 0, "", ""},
		{lab("status"), 0, "drop-rule   NetfilterDrop", ""},
		{lab("fix", "gremlins"), 2, "", `plumbline: unknown fault "gremlins": the faults are ` + faults},
		{lab("fix", "nft-drop"), 1, "", "plumbline: fault nft-drop is not active"},
		{lab("fix", "all"), 0, "", ""},
		{lab("exec", "shop/web-0"), 2, "", "plumbline: lab exec needs a pod or node and a command: plumbline lab exec POD|NODE -- COMMAND"},
		{lab("exec", "shop/web-9", "--", "true"), 2, "", `plumbline: "shop/web-9": the lab has no such pod or node: it has node-1, node-2, shop/web-0, shop/api-0, shop/api-1, shop/db-0, fabric`},
		{lab("exec", "shop/web-0", "--", "sh", "-c", "exit 7"), 7, "", ""},
		{lab("exec", "node-1", "--", "no-such-program"), 127, "", `plumbline: run no-such-program in pllab-cmd-node-1: exec: "no-such-program": executable file not found in $PATH`},
		{lab("exec", "node-1", "--", "test", "-d", "/sys/class/net"), 0, "", ""},
	} {
		code, stdout, stderr := plumbline(t, c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || strings.TrimSuffix(stderr, "\n") != c.stderr {
			t.Errorf("%v: got status %d, %q, %q, want status %d, %q, %q", c.args[3:], code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
	}
}

func TestLabExecRunsInsideTheNamespaceWithoutAShell(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("lab: needs root: run as root or with sudo")
	}
	const prefix = "pllab-exec"
	withoutLab(t, prefix)
	if code, _, stderr := plumbline(t, "lab", "up", "--prefix", prefix); code != 0 {
		t.Fatal(stderr)
	}
	program := exec.Command(os.Args[0], "lab", "exec", "--prefix", prefix, "pod:shop/web-0", "--", "ip", "-br", "-4", "addr", "show", "dev", "eth0")
	program.Env = append(os.Environ(), asMain+"=1")
	out, err := program.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "10.244.1.10/24") {
		t.Errorf("got %q (%v), want the address of web-0", out, err)
	}
	program = exec.Command(os.Args[0], "lab", "exec", "--prefix", prefix, "shop/web-0", "--", "echo", "$HOME; id")
	program.Env = append(os.Environ(), asMain+"=1")
	if out, err := program.CombinedOutput(); err != nil || string(out) != "$HOME; id\n" {
		t.Errorf("got %q (%v), want the argument as it was given", out, err)
	}
}

func TestLabRefusesAPrefixThatNamesCannotBear(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without it that is refused first")
	}
	code, _, stderr := plumbline(t, "lab", "up", "--prefix", "a b")
	if want := "plumbline: lab prefix is not a DNS label: \"a b\"\n"; code != statusUsage || stderr != want {
		t.Errorf("got status %d, %q, want status %d, %q", code, stderr, statusUsage, want)
	}
}
