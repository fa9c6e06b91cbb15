//go:build linux

// Command replay asks the simulator that it is built with about recorded worlds, and prints a line for each probe of which
// it says something else than the kernel did: after how many trials, and what.
//
// usage: replay DIRECTORY
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/plumbline-net/plumbline/e2e/judge"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	files, err := judge.Recordings(dir)
	if err != nil {
		return err
	}
	trials := 0
	for _, file := range files {
		r, err := judge.ReadRecording(file)
		if err != nil {
			return err
		}
		trials += len(r.World.Probes)
		wrong, err := r.Replay()
		if err != nil {
			// What cannot be judged any more is noticed, too.
			fmt.Printf("%d\tworld %d/%d: %s\n", trials, r.World.Seed, r.World.Index, oneLine(err.Error()))
		}
		for i := range wrong {
			fmt.Printf("%d\t%s\n", trials, oneLine(wrong[i].String()))
		}
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
