package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// Recording is a world that was judged: its state as it was collected, and what the kernel made of its probes. With it,
// another simulator can be held against the kernel without building the world again.
type Recording struct {
	World  *World `json:"world"`
	Bundle []byte `json:"bundle"` // an archive
	// Seen is what was observed of each probe on which the kernel and the simulator agreed, by its id.
	Seen map[string][]Observed `json:"seen"`
}

// record keeps the session, without the probes that were judged wrong: what was seen of those may not be all.
func (s *session) record(dir string, wrong map[string]bool) error {
	r := Recording{World: s.world, Seen: map[string][]Observed{}}
	var archive bytes.Buffer
	if err := bundle.WriteArchive(&archive, s.snapshot); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r.Bundle = archive.Bytes()
	for i := range s.cases {
		if c := &s.cases[i]; !wrong[c.probe.ID] && !c.predicted.unknown() {
			r.Seen[c.probe.ID] = c.observed
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("world-%06d.json", s.world.Index)), data, 0o644)
}

// Recordings lists the files of a directory's recordings, by the index of their worlds.
func Recordings(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "world-*.json"))
	slices.Sort(files)
	return files, err
}

// ReadRecording reads one of them.
func ReadRecording(file string) (*Recording, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Recording)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Replay asks the simulator about the recorded probes, and returns those of which it says something else than the kernel.
func (r *Recording) Replay() ([]Disagreement, error) {
	snapshot, err := bundle.ReadArchive(bytes.NewReader(r.Bundle))
	if err != nil {
		return nil, err
	}
	world, err := simulator.Compile(snapshot)
	if err != nil {
		return nil, err
	}
	var list []Disagreement
	for i := range r.World.Probes {
		c := verdictCase{probe: &r.World.Probes[i]}
		if c.observed = r.Seen[c.probe.ID]; len(c.observed) == 0 {
			continue
		}
		if c.predicted, err = predict(world, c.probe); err != nil {
			return nil, err
		}
		c.checkShares()
		if c.wrong() {
			list = append(list, Disagreement{World: r.World, Probe: *c.probe, Predicted: c.predicted, Observed: c.observed[0], Shares: c.shares})
		}
	}
	return list, nil
}
