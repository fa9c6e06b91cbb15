package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/plumbline-net/plumbline/e2e/kubernetes"
	"github.com/plumbline-net/plumbline/e2e/lab"
)

// controlPlane is that of the nodes that run in the machine.
type controlPlane struct{ *kubernetes.Cluster }

func startControlPlane() (*controlPlane, error) {
	c, err := kubernetes.StartControlPlane(context.Background(), kubernetes.Options{})
	return &controlPlane{c}, err
}

// start starts a program that sees the control plane at its loopback interface,
// and nothing else.
func (p *controlPlane) start(cmd *exec.Cmd) error { return lab.InNetns(p.Netns("control"), cmd.Start) }

func (p *controlPlane) stop() {
	if err := p.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
