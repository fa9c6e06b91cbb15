//go:build linux

// Command faults puts plausible mistakes into the simulator, one at a time, and lets the judge look for each. It prints a
// table, and fails when a mistake is not found within so many trials, or when the place of one is not there any more.
//
// Random worlds are built and their probes sent once; what the kernel did is recorded, and each faulty simulator is held
// against that. With -live, worlds are built for each fault until one shows it.
//
// The source is left alone: the compiler is given other files in its place (go build -overlay).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	flag.BoolVar(&o.live, "live", false, "build worlds for each fault")
	flag.StringVar(&o.recording, "recording", "", "directory of the recording: taken if it is there, and else kept there")
	flag.BoolVar(&o.verbose, "v", false, "print what was seen first of each fault")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := find(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	trials               int
	seed                 uint64
	only                 string
	check, live, verbose bool
	recording            string
	out                  io.Writer
}

// found is how a fault was noticed.
type found struct {
	after int    // trials, in whole worlds
	times int    // how many trials differ
	first string // which, and how
}

// find has the judge look for all faults, and prints the table.
func find(ctx context.Context, o options) error {
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
	if err := s.prepare(ctx); err != nil || o.check {
		return err
	}
	look := s.replay
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	if o.live {
		look = s.judge
		group.SetLimit(1)
	}
	hits := make([]*found, len(faults))
	for i := range faults {
		if !only.MatchString(faults[i].name) {
			continue
		}
		group.Go(func() (err error) {
			if hits[i], err = look(ctx, i+1); err != nil {
				return fmt.Errorf("%s: %w", faults[i].name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	table := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tfound after\ttrials that differ")
	var missed notFound
	for i, hit := range hits {
		switch name := faults[i].name; {
		case !only.MatchString(name):
		case hit == nil:
			missed = append(missed, name)
			fmt.Fprintf(table, "%s\tNOT FOUND\t0\n", name)
		default:
			fmt.Fprintf(table, "%s\t%d trials\t%d\n", name, hit.after, hit.times)
			if o.verbose {
				fmt.Fprintf(o.out, "%s: %s\n", name, hit.first)
			}
		}
	}
	table.Flush()
	if len(missed) > 0 {
		return missed
	}
	return nil
}

// notFound are the names of faults that no world has shown.
type notFound []string

func (n notFound) Error() string { return "not found: " + strings.Join(n, "; ") }
