package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/plumbline-net/plumbline/e2e/judge"
)

// prepareReplay has the judge make the recording, unless there is one, and sees that the simulator agrees with it.
func (s *shop) prepareReplay(ctx context.Context) error {
	if s.recording == "" {
		s.recording = filepath.Join(s.dir, "recording")
	}
	var err error
	if s.recording, err = filepath.Abs(s.recording); err != nil {
		return err
	}
	files, err := judge.Recordings(s.recording)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		binary, err := s.buildJudge(ctx, s.dir)
		if err != nil {
			return err
		}
		out, err := s.test(ctx, binary, "-n", strconv.Itoa(s.trials), "-seed", strconv.FormatUint(s.seed, 10), "-record", s.recording)
		if summary.Find(out) == nil {
			return fmt.Errorf("the judge: %w\n%s", err, out)
		}
	}
	hit, err := s.replay(ctx, s.dir)
	if err != nil {
		return err
	}
	if hit != nil {
		return fmt.Errorf("the recording does not fit the simulator as it is: %s", hit.first)
	}
	return nil
}

// replay holds the simulator against the recording.
func (s *shop) replay(ctx context.Context, dir string) (*found, error) {
	binary, err := s.buildReplay(ctx, dir)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, binary, s.recording).Output()
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	var hit *found
	for line := range bytes.Lines(out) {
		after, text, _ := bytes.Cut(bytes.TrimSpace(line), []byte("\t"))
		n, err := strconv.Atoi(string(after))
		if err != nil {
			return nil, fmt.Errorf("replay: %q", line)
		}
		if hit == nil && n <= s.trials {
			hit = &found{after: n, first: string(text)}
		}
		if hit != nil {
			hit.times++
		}
	}
	return hit, nil
}
