package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module finds the source.
func module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// put writes the file with the fault to a new directory, and what makes the compiler take it.
func (s *shop) put(f *fault, dir string) error {
	source := filepath.Join(s.root, f.file)
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), f.old); n != 1 {
		return fmt.Errorf("%s has the place for it %d times, want once: %q", f.file, n, f.old)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	changed := filepath.Join(dir, "fault.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), f.old, f.instead, 1)), 0o644); err != nil {
		return err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		return err
	}
	return os.WriteFile(overlay(dir), list, 0o644)
}

// overlay is the file that names what the compiler takes instead.
func overlay(dir string) string { return filepath.Join(dir, "overlay.json") }

// build runs the go command that makes a binary in dir, with the fault that was put there, if any.
func (s *shop) build(ctx context.Context, dir, binary string, command ...string) (string, error) {
	binary = filepath.Join(dir, binary)
	command = append(command, "-o", binary)
	if _, err := os.Stat(overlay(dir)); err == nil {
		command = append(command, "-overlay", overlay(dir))
	}
	kind := "./e2e/judge/faults/replay"
	if command[0] == "test" {
		kind = "./e2e/judge"
	}
	cmd := exec.CommandContext(ctx, "go", append(command, kind)...)
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// buildReplay makes the command that replays a recording.
func (s *shop) buildReplay(ctx context.Context, dir string) (string, error) {
	return s.build(ctx, dir, "replay", "build")
}

// buildJudge makes the judge.
func (s *shop) buildJudge(ctx context.Context, dir string) (string, error) {
	return s.build(ctx, dir, "judge.test", "test", "-c", "-vet=off")
}

// compile sees whether the simulator compiles with the fault.
func (s *shop) compile(ctx context.Context, dir string) (*found, error) {
	_, err := s.buildReplay(ctx, dir)
	return nil, err
}
