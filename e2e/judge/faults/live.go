//go:build linux

package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// judge has worlds built until the judge finds what it would not without the fault. It returns nil if there is nothing.
func (s *shop) judge(ctx context.Context, fault int) (*found, error) {
	trials := 0
	for next := 0; trials < s.trials; {
		n, world, probe, err := s.first(ctx, fault, next, s.trials-trials)
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
		if _, _, same, err := s.first(ctx, 0, world, 1); err != nil {
			return nil, err
		} else if same == "" {
			return &found{trials, 1, fmt.Sprintf("world %d/%d, %s", s.seed, world, probe)}, nil
		}
		next = world + 1 // in which the judge has something to say without any fault
	}
	return nil, nil
}

var (
	broken  = regexp.MustCompile(`(?m)^world \d+/(\d+): `)
	differs = regexp.MustCompile(`(?m)^world \d+/(\d+), (q\d+: .*)$`)
)

// first judges random worlds until there are enough trials, or one differs.
func (s *shop) first(ctx context.Context, fault, from, n int) (trials, world int, probe string, err error) {
	out, err := s.worlds(ctx, fault, s.binary, from, n, "-stop", "-no-shrink")
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

// worlds runs the judge over n trials of random worlds.
func (s *shop) worlds(ctx context.Context, fault int, binary string, from, n int, more ...string) ([]byte, error) {
	return s.run(ctx, fault, binary, append([]string{
		"-test.run", "^TestJudge$", "-test.timeout", "0", "-first", strconv.Itoa(from), "-n", strconv.Itoa(n),
		"-seed", strconv.FormatUint(s.seed, 10),
	}, more...)...)
}
