package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// series is the kernel that the machine runs: that of Debian 12, which is the
// oldest one in wide use with type information for eBPF.
const series = "6.1."

// kernelFiles is an unpacked kernel.
type kernelFiles struct {
	image   string
	modules string
}

// fetchKernel gets the newest kernel of the series that this Debian offers. It
// is unpacked into dir, and not installed.
func fetchKernel(dir string) (kernelFiles, error) {
	const meta = "linux-image-cloud-amd64"
	out, err := output("apt-cache", "depends", "--important", meta)
	if err != nil {
		return kernelFiles{}, err
	}
	_, name, found := strings.Cut(out, "Depends: linux-image-")
	if !found {
		return kernelFiles{}, fmt.Errorf("%s depends on no kernel:\n%s", meta, out)
	}
	name, _, _ = strings.Cut(name, "\n")
	if !strings.HasPrefix(name, series) {
		return kernelFiles{}, fmt.Errorf("this Debian offers Linux %s, and not %sx", name, series)
	}
	root := filepath.Join(dir, name)
	kernel := kernelFiles{filepath.Join(root, "boot", "vmlinuz-"+name), filepath.Join(root, "lib/modules", name)}
	if _, err := os.Stat(root); err == nil {
		return kernel, nil
	}
	fmt.Printf("fetching linux-image-%s\n", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernelFiles{}, err
	}
	work, err := os.MkdirTemp(dir, "new-")
	if err != nil {
		return kernelFiles{}, err
	}
	defer os.RemoveAll(work)
	// As root: apt's own user may have no access to the directory.
	download := exec.Command("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "linux-image-"+name)
	download.Dir = work
	if out, err := download.CombinedOutput(); err != nil {
		return kernelFiles{}, fmt.Errorf("download linux-image-%s: %w\n%s", name, err, out)
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return kernelFiles{}, fmt.Errorf("download linux-image-%s: got %q", name, packages)
	}
	unpacked := filepath.Join(work, "unpacked")
	if _, err := output("dpkg", "-x", packages[0], unpacked); err != nil {
		return kernelFiles{}, err
	}
	return kernel, os.Rename(unpacked, root)
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out), nil
}
