//go:build !linux

package main

import (
	"os/exec"
	"testing"
)

func dropPrivileges(*exec.Cmd) {}

func TestLabNeedsLinux(t *testing.T) {
	code, stderr := asNobody(t, "lab", "up")
	if want := "plumbline: lab needs Linux\n"; code != statusUsage || stderr != want {
		t.Errorf("got status %d, %q, want status %d, %q", code, stderr, statusUsage, want)
	}
}
