//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// shop is where faults are put in and looked for.
type shop struct {
	options
	root    string // the module
	dir     string // for what does not stay
	overlay string // what the compiler takes instead
	binary  string // with all faults, and none on
}

// prepare makes the binary: the judge, or the command that replays a recording.
func (s *shop) prepare(ctx context.Context) (err error) {
	if s.root, err = module(ctx); err != nil {
		return err
	}
	if s.overlay, err = overlay(s.root, s.dir, faults); err != nil {
		return err
	}
	if s.live {
		s.binary, err = s.build(ctx, "judge.test", "./e2e/judge", "test", "-c", "-vet=off", "-overlay", s.overlay)
		return err
	}
	s.binary, err = s.build(ctx, "replay", "./e2e/judge/faults/replay", "build", "-overlay", s.overlay)
	if err == nil && !s.check {
		err = s.record(ctx)
	}
	return err
}

// build runs the go command.
func (s *shop) build(ctx context.Context, name, pkg string, command ...string) (string, error) {
	binary := filepath.Join(s.dir, name)
	cmd := exec.CommandContext(ctx, "go", append(command, "-o", binary, pkg)...)
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// run runs a program of the judge's with one of the faults on; 0 is none.
func (s *shop) run(ctx context.Context, fault int, binary string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join(s.root, "e2e", "judge")
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(fault))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return out, err
}
