package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// sound is the judge without a fault.
func (s *shop) sound() string { return filepath.Join(s.dir, "judge.test") }

// prepareLive makes it.
func (s *shop) prepareLive(ctx context.Context) error {
	_, err := s.buildJudge(ctx, s.dir)
	return err
}

// live has worlds built until the judge finds what it would not without the fault. It returns nil if there is nothing.
func (s *shop) live(ctx context.Context, dir string) (*found, error) {
	binary, err := s.buildJudge(ctx, dir)
	if err != nil {
		return nil, err
	}
	trials := 0
	for next := 0; trials < s.trials; {
		n, world, probe, err := s.worlds(ctx, binary, next, s.trials-trials)
		if err != nil {
			return nil, err
		}
		trials += n
		if probe == "" {
			if world < next {
				return nil, nil
			}
			next = world + 1 // could not be built
			continue
		}
		if _, _, same, err := s.worlds(ctx, s.sound(), world, 1); err != nil {
			return nil, err
		} else if same == "" {
			return &found{trials, 1, fmt.Sprintf("world %d/%d, %s", s.seed, world, probe)}, nil
		}
		next = world + 1 // in which the judge has something to say without any fault
	}
	return nil, nil
}

var (
	summary = regexp.MustCompile(`(\d+) worlds, (\d+) trials in `)
	broken  = regexp.MustCompile(`(?m)^world \d+/(\d+): `)
	differs = regexp.MustCompile(`(?m)^world \d+/(\d+), (q\d+: .*)$`)
)

// worlds judges random worlds until there are enough trials, or one differs.
func (s *shop) worlds(ctx context.Context, binary string, from, n int) (trials, world int, probe string, err error) {
	out, err := s.test(ctx, binary, "-n", strconv.Itoa(n), "-seed", strconv.FormatUint(s.seed, 10), "-first", strconv.Itoa(from), "-stop", "-no-shrink")
	m := summary.FindSubmatch(out)
	if m == nil {
		return 0, 0, "", fmt.Errorf("the judge: %w\n%s", err, out)
	}
	trials, _ = strconv.Atoi(string(m[2]))
	world = -1
	if w := broken.FindSubmatch(out); w != nil {
		world, _ = strconv.Atoi(string(w[1]))
	}
	if w := differs.FindSubmatch(out); w != nil {
		world, _ = strconv.Atoi(string(w[1]))
		probe = string(w[2])
	}
	return trials, world, probe, nil
}

// test runs the judge over random worlds.
func (s *shop) test(ctx context.Context, binary string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, append([]string{"-test.run", "^TestJudge$", "-test.timeout", "0"}, args...)...)
	cmd.Dir = filepath.Join(s.root, "e2e", "judge")
	return cmd.CombinedOutput()
}
