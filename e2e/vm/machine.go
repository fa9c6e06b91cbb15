package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// result is what came of a test; one without a status did not end, because the
// machine died.
type result struct {
	output string
	status int
	ended  bool
}

// machineRun is what came of one run of the machine.
type machineRun struct {
	up      string   // what the machine said when it was up, if it was
	missing []string // modules that could not be loaded
	results map[string]result
	console string // the kernel's messages
	done    bool   // it ran to its end
}

// boot starts the machine and waits until it is off. There is no hardware help
// (KVM) that could be relied on, so the processor is emulated. With a control plane,
// it has an interface by which it reaches that one alone.
func boot(kernel kernelFiles, dir string, limit time.Duration, plane *controlPlane) (machineRun, error) {
	console, serial := filepath.Join(dir, "console"), filepath.Join(dir, "output")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	nic, start := []string{"-nic", "none"}, (*exec.Cmd).Start
	if plane != nil {
		nic, start = []string{"-netdev", "user,id=plane", "-device", "virtio-net-pci,netdev=plane,romfile="}, plane.start
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", append(nic,
		"-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "Nehalem", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", kernel.image, "-initrd", filepath.Join(dir, "initrd"),
		"-serial", "file:"+console, "-serial", "file:"+serial,
		"-append", "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr")...)
	var out bytes.Buffer
	qemu.Stdout, qemu.Stderr = &out, &out
	if err := start(qemu); err != nil {
		return machineRun{}, err
	}
	if err := qemu.Wait(); err != nil && ctx.Err() == nil {
		return machineRun{}, fmt.Errorf("%w: %s", err, &out)
	}
	messages, err := os.ReadFile(console)
	if err != nil {
		return machineRun{}, err
	}
	said, err := os.ReadFile(serial)
	if err != nil {
		return machineRun{}, err
	}
	run := parseOutput(said)
	run.console = string(messages)
	return run, nil
}

// parseOutput takes apart what init.sh and the tests wrote.
func parseOutput(text []byte) machineRun {
	run := machineRun{results: make(map[string]result)}
	var current string
	var lines strings.Builder
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimSuffix(scanner.Text(), "\r")
		// A program may end without ending its line.
		at := strings.LastIndex(line, "@@ ")
		if at < 0 {
			lines.WriteString(line + "\n")
			continue
		}
		lines.WriteString(line[:at])
		words := strings.Fields(line[at:])[1:]
		switch {
		case len(words) >= 2 && words[0] == "no-module":
			run.missing = append(run.missing, words[1])
		case len(words) >= 2 && words[0] == "up":
			run.up = strings.Join(words[1:], " ")
		case len(words) == 2 && words[0] == "begin":
			current = words[1]
			lines.Reset()
		case len(words) == 3 && words[0] == "end":
			status, err := strconv.Atoi(words[2])
			run.results[words[1]] = result{lines.String(), status, err == nil}
			current = ""
		case len(words) == 1 && words[0] == "done":
			run.done = true
		}
	}
	if current != "" {
		run.results[current] = result{output: lines.String()}
	}
	return run
}

// kept is where init.sh writes what tests have left.
const kept = "keep"

// unpack puts what tests have left into a directory, if there is one for it.
func (r *machineRun) unpack(dir string) error {
	archive, left := r.results[kept]
	if dir == "" || !left {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tar := exec.Command("tar", "-C", dir, "-xz")
	tar.Stdin = base64.NewDecoder(base64.StdEncoding, strings.NewReader(archive.output))
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack what tests have left: %w: %s", err, out)
	}
	return nil
}

// death are the lines of the console that tell why the machine died.
func (r *machineRun) death() string {
	lines := strings.Split(strings.TrimSpace(r.console), "\n")
	for i, line := range lines {
		if strings.Contains(line, "Oops") || strings.Contains(line, "BUG:") || strings.Contains(line, "Kernel panic") || strings.Contains(line, "general protection") {
			return strings.Join(lines[max(i-3, 0):min(i+40, len(lines))], "\n")
		}
	}
	return strings.Join(lines[max(len(lines)-20, 0):], "\n")
}
