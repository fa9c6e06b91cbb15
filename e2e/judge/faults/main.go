// Command faults puts plausible mistakes into the simulator, one at a time, and lets the judge look for each. It prints a
// table, and fails when a mistake is not found within so many trials, or when the place of one is not there any more.
//
// Random worlds are built and their probes sent once, to the simulator's agreement; what the kernel did is recorded, and
// each faulty simulator is held against that. With -live, each has the worlds built for itself, until it is found out.
//
// The source is left alone: the compiler is given another file in its place (go build -overlay).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"
)

func main() {
	o := options{out: os.Stdout}
	flag.IntVar(&o.trials, "n", 2000, "trials within which a fault has to be found")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the worlds")
	flag.StringVar(&o.only, "run", "", "only faults whose names match")
	flag.BoolVar(&o.check, "check", false, "only see whether all faults can be put in and compile")
	flag.BoolVar(&o.live, "live", false, "build the worlds for each fault")
	flag.StringVar(&o.recording, "recording", "", "directory of the recording: used when there is one, kept when it has to be made")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	trials      int
	seed        uint64
	only        string
	check, live bool
	recording   string
	out         io.Writer
}

// found is how a fault was noticed.
type found struct {
	after int    // trials, in whole worlds
	times int    // how many trials differ
	first string // which, and how
}

// shop is where faults are put in and looked for.
type shop struct {
	options
	root string // the module
	dir  string // for what does not stay
}

// run has the judge look for all faults, and prints the table.
func run(ctx context.Context, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &shop{options: o, dir: dir}
	if s.root, err = module(ctx); err != nil {
		return err
	}
	look := s.replay
	switch {
	case o.check:
		look = s.compile
	case o.live:
		look, err = s.live, s.prepareLive(ctx)
	default:
		err = s.prepareReplay(ctx)
	}
	if err != nil {
		return err
	}
	results := make([]*found, len(faults))
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	if o.live {
		group.SetLimit(1)
	}
	for i := range faults {
		f := &faults[i]
		if !only.MatchString(f.name) {
			continue
		}
		group.Go(func() error {
			own := filepath.Join(dir, fmt.Sprint(i))
			err := s.put(f, own)
			if err == nil {
				results[i], err = look(ctx, own)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			return os.RemoveAll(own)
		})
	}
	if err := group.Wait(); err != nil || o.check {
		return err
	}
	table := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tfound after\ttrials that differ\tthe first")
	var missed []string
	for i, hit := range results {
		switch f := &faults[i]; {
		case !only.MatchString(f.name):
		case hit == nil:
			missed = append(missed, f.name)
			fmt.Fprintf(table, "%s\tNOT FOUND\t\t\n", f.name)
		default:
			fmt.Fprintf(table, "%s\t%d trials\t%d\t%s\n", f.name, hit.after, hit.times, hit.first)
		}
	}
	table.Flush()
	if len(missed) > 0 {
		return fmt.Errorf("not found: %s", strings.Join(missed, "; "))
	}
	return nil
}
