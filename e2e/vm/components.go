package main

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// componentsVariable names the directory of the parts of Kubernetes, here and in
// the machine (kubernetes.ComponentsVariable).
const componentsVariable = "PLUMBLINE_KUBERNETES"

// prelude is what a package that runs nodes finds: the parts of them, and where
// their API server is: on the host, beyond the user network of QEMU.
const prelude = `ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
mount --make-rshared /
export PLUMBLINE_KUBERNETES=/kubernetes PLUMBLINE_CONTROL_PLANE=10.0.2.2:6443
`

// buildComponents builds the parts of Kubernetes, unless they are there.
func buildComponents(root string) error {
	if err := install(root, "k8s"); err != nil {
		return err
	}
	if os.Getenv(componentsVariable) != "" {
		return nil
	}
	build := exec.Command(filepath.Join(root, "hack/kubernetes.sh"))
	build.Stderr = os.Stderr
	dir, err := build.Output()
	if err != nil {
		return fmt.Errorf("build the parts of Kubernetes: %w", err)
	}
	return os.Setenv(componentsVariable, strings.TrimSpace(string(dir)))
}

// installComponents puts into the machine what runs on nodes.
func (a *archive) installComponents() error {
	for _, name := range []string{"kube-proxy", "kube-router", "coredns"} {
		data, err := os.ReadFile(filepath.Join(os.Getenv(componentsVariable), name))
		if err != nil {
			return err
		}
		a.file(path.Join("/kubernetes", name), data, true)
	}
	for _, name := range []string{"bridge", "host-local", "portmap"} {
		if err := a.copyWithLibraries("/usr/lib/cni/" + name); err != nil {
			return err
		}
	}
	return nil
}
