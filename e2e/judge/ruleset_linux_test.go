package judge

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

var update = flag.Bool("update", false, "write what came of the probes into the files of rule sets, where all agree")

// The main thread stays where it is, so that none ends up in a world for good: it is by the main thread's namespace that
// the collector knows the host's when it may not look at process 1.
func init() { runtime.LockOSThread() }

// TestRulesetsOfOtherSoftware loads rule sets as kube-proxy, container engines, network plugins and firewalls write them,
// and judges what becomes of packets: the simulator has to agree with the kernel when it is fed by the collector, by a
// bundle, and by the very text that was loaded.
func TestRulesetsOfOtherSoftware(t *testing.T) {
	needRoot(t)
	if err := removeStale(); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("testdata/rulesets/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	prefixes := make(chan *worker, len(paths))
	for i := range paths {
		prefixes <- newWorker(100+i, Options{})
	}
	for _, path := range paths {
		r, err := ReadRuleset(path)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			j := <-prefixes
			s, err := j.sit(context.WithoutCancel(t.Context()), r.World, r.throughText)
			if err != nil {
				t.Fatal(err)
			}
			failed := s.report(t)
			for i, want := range r.Expected {
				if got := s.cases[i].predicted.fates(); got != want && !*update {
					t.Errorf("%s: %s; the file says %s", s.cases[i].probe, got, want)
				}
			}
			if *update && !failed {
				if err := r.write(s); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// report says what is wrong, and whether anything is.
func (s *session) report(t *testing.T) (failed bool) {
	t.Helper()
	for i := range s.cases {
		c := &s.cases[i]
		switch {
		case c.bundle:
			t.Errorf("%s: the bundle, or the text of the rules, is diagnosed differently from the collected state: %s", c.probe, c.predicted)
		case c.predicted.unknown():
			// The table of the file says where this has to be so.
			t.Logf("%s: %s\n  kernel:    %s", c.probe, c.predicted, c.observed[0])
			continue
		case c.wrong():
			for at := range c.observed {
				if o := &c.observed[at]; !c.predicted.agreesWith(c.probe, o) {
					t.Errorf("%s\n  kernel:    %s\n  simulator: %s", c.probe, o, c.predicted)
					break
				}
			}
			if c.shares != "" {
				t.Errorf("%s: %s", c.probe, c.shares)
			}
		default:
			continue
		}
		failed = true
	}
	return failed
}

// throughText reads a bundle whose rules are those of the file, and of `nft -j list ruleset`, as an operator would put
// them there.
func (r *Ruleset) throughText(ctx context.Context, b *built, collected *simulator.Snapshot) (*simulator.Snapshot, error) {
	dir, err := os.MkdirTemp("", "ruleset")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := bundle.Write(dir, collected); err != nil {
		return nil, err
	}
	for _, f := range r.archive.Files {
		ns, name, _ := strings.Cut(f.Name, "/")
		kind, ok := rulesetFiles[name]
		if !ok {
			continue
		}
		if name == "nft" {
			var out []byte
			if err := b.within(ns, func() (err error) {
				out, err = exec.CommandContext(ctx, "nft", "-j", "list", "ruleset").Output()
				return err
			}); err != nil {
				return nil, fmt.Errorf("nft -j list ruleset: %w", err)
			}
			kind.bundle, f.Data = "nft.json", out
		}
		file := filepath.Join(dir, "netns", ns, kind.bundle)
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("the collector's bundle has no %s", kind.bundle)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			return nil, err
		}
	}
	return bundle.Read(dir)
}

// fates is what is predicted, without what differs from one probe to the next: the client's port.
func (p *Prediction) fates() string {
	var list []string
	for _, f := range p.Fates {
		if f.unknown() {
			list = append(list, "unknown")
			continue
		}
		s := fmt.Sprintf("%s %s", f.Verdict, f.Outcome)
		if f.Namespace != "" {
			at := f.Destination.String()
			if f.Destination.Port() == 0 {
				at = f.Destination.Addr().String()
			}
			s += fmt.Sprintf(" at %s as %s from %s", f.Namespace, at, f.SeenAs.Addr())
		}
		list = append(list, s)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " | ")
}

// write puts the fates into the file.
func (r *Ruleset) write(s *session) error {
	for i := range r.archive.Files {
		f := &r.archive.Files[i]
		if f.Name != "probes" {
			continue
		}
		var out strings.Builder
		n := 0
		for line := range strings.Lines(string(f.Data)) {
			if question, _, _ := strings.Cut(strings.TrimSpace(line), " = "); question != "" && question[0] != '#' {
				line = question + " = " + s.cases[n].predicted.fates() + "\n"
				n++
			}
			out.WriteString(line)
		}
		f.Data = []byte(out.String())
	}
	return os.WriteFile(r.path, txtar.Format(r.archive), 0o644)
}
