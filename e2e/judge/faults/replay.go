//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/plumbline-net/plumbline/e2e/judge"
)

var summary = regexp.MustCompile(`(\d+) worlds, (\d+) trials in `)

// record has the judge make the recording, unless there is one, and sees that the simulator agrees with it.
func (s *shop) record(ctx context.Context) (err error) {
	if s.recording == "" {
		s.recording = filepath.Join(s.dir, "recording")
	}
	if s.recording, err = filepath.Abs(s.recording); err != nil {
		return err
	}
	files, err := judge.Recordings(s.recording)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		binary, err := s.build(ctx, "judge.test", "./e2e/judge", "test", "-c")
		if err != nil {
			return err
		}
		out, err := s.worlds(ctx, 0, binary, 0, s.trials, "-record", s.recording)
		if summary.Find(out) == nil {
			return fmt.Errorf("the judge: %w\n%s", err, out)
		}
	}
	hit, err := s.replay(ctx, 0)
	if err == nil && hit != nil {
		err = fmt.Errorf("the recording does not fit the simulator as it is: %s", hit.first)
	}
	return err
}

// replay holds the simulator with a fault against the recording. It returns nil if there is nothing to see of it.
func (s *shop) replay(ctx context.Context, fault int) (*found, error) {
	out, err := s.run(ctx, fault, s.binary, s.recording)
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
		if hit == nil {
			if n > s.trials {
				break
			}
			hit = &found{after: n, first: string(text)}
		}
		hit.times++
	}
	return hit, nil
}
