//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

type controlPlane struct{}

func startControlPlane() (*controlPlane, error) {
	return nil, errors.New("the control plane of a cluster needs Linux")
}

func (*controlPlane) start(cmd *exec.Cmd) error { return cmd.Start() }

func (*controlPlane) stop() {}
