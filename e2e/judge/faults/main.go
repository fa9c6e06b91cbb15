// Command faults puts plausible mistakes into the simulator, one at a time, and lets the judge look for each: random
// worlds first, then the rule sets of other software. It prints a table, and fails when a mistake is not found, or when
// the place of one is not there any more.
//
// The source is left alone: the compiler is given another file in its place (go build -overlay).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	var o options
	flag.IntVar(&o.trials, "n", 2000, "trials within which a fault has to be found")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the worlds")
	flag.StringVar(&o.only, "run", "", "only faults whose names match")
	flag.BoolVar(&o.check, "check", false, "only see whether all faults can be put in and compile")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	trials int
	seed   uint64
	only   string
	check  bool
}

// found is how a fault was noticed first.
type found struct {
	trials int    // 0: not by random worlds
	probe  string // the first to differ
}

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
	clean, binary := filepath.Join(dir, "clean.test"), filepath.Join(dir, "judge.test")
	if !o.check {
		if err := build(ctx, clean, ""); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "fault\tfound after\tby")
	var missed []string
	for i := range faults {
		f := &faults[i]
		if !only.MatchString(f.name) {
			continue
		}
		overlay, err := f.overlay(dir)
		if err != nil {
			return err
		}
		if err := build(ctx, binary, overlay); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if o.check {
			continue
		}
		hit, err := judge(ctx, clean, binary, o)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		switch {
		case hit == nil:
			missed = append(missed, f.name)
			fmt.Fprintf(table, "%s\tNOT FOUND\t\n", f.name)
		case hit.trials == 0:
			fmt.Fprintf(table, "%s\t-\trule set %s\n", f.name, hit.probe)
		default:
			fmt.Fprintf(table, "%s\t%d trials\t%s\n", f.name, hit.trials, hit.probe)
		}
		table.Flush()
	}
	if len(missed) > 0 {
		return fmt.Errorf("not found: %s", strings.Join(missed, "; "))
	}
	return nil
}

// overlay writes the file with the fault, and tells the compiler to take it.
func (f *fault) overlay(dir string) (string, error) {
	source, err := filepath.Abs(f.file)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), f.old); n != 1 {
		return "", fmt.Errorf("%s: %s has the place for it %d times, want once: %q", f.name, f.file, n, f.old)
	}
	changed := filepath.Join(dir, "fault.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), f.old, f.instead, 1)), 0o644); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o644)
}

func build(ctx context.Context, binary, overlay string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, "./e2e/judge")
	if overlay == "" {
		cmd.Args = []string{"go", "test", "-c", "-o", binary, "./e2e/judge"}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the judge: %w\n%s", err, out)
	}
	return nil
}

var (
	summary = regexp.MustCompile(`(\d+) worlds, (\d+) trials in `)
	broken  = regexp.MustCompile(`(?m)^world \d+/(\d+): `)
	differs = regexp.MustCompile(`(?m)^world \d+/(\d+), (q\d+: .*)$`)
	failed  = regexp.MustCompile(`(?m)^    --- FAIL: TestRulesetsOfOtherSoftware/(\S+)`)
)

// judge runs the judge until it finds what it would not without the fault. It returns nil if there is nothing.
func judge(ctx context.Context, clean, binary string, o options) (*found, error) {
	trials := 0
	for next := 0; trials < o.trials; {
		n, world, probe, err := worlds(ctx, binary, o.seed, next, o.trials-trials)
		if err != nil {
			return nil, err
		}
		trials += n
		if probe == "" {
			if world < next {
				break
			}
			next = world + 1 // could not be built
			continue
		}
		if _, _, same, err := worlds(ctx, clean, o.seed, world, 1); err != nil {
			return nil, err
		} else if same == "" {
			return &found{trials, fmt.Sprintf("world %d/%d, %s", o.seed, world, probe)}, nil
		}
		next = world + 1 // in which the judge has something to say without any fault
	}
	return rulesets(ctx, clean, binary)
}

// worlds judges random worlds until there are enough trials, or one differs.
func worlds(ctx context.Context, binary string, seed uint64, from, n int) (trials, world int, probe string, err error) {
	out, err := test(ctx, binary, "-test.run", "^TestJudge$", "-n", strconv.Itoa(n), "-seed", strconv.FormatUint(seed, 10),
		"-first", strconv.Itoa(from), "-stop", "-no-shrink")
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

// rulesets judges the rule sets of other software.
func rulesets(ctx context.Context, clean, binary string) (*found, error) {
	out, err := test(ctx, binary, "-test.run", "^TestRulesetsOfOtherSoftware$")
	if err == nil {
		return nil, nil
	}
	for _, m := range failed.FindAllSubmatch(out, -1) {
		if _, err := test(ctx, clean, "-test.run", "^TestRulesetsOfOtherSoftware$/^"+regexp.QuoteMeta(string(m[1]))+"$"); err == nil {
			return &found{probe: string(m[1])}, nil
		}
	}
	return nil, nil
}

func test(ctx context.Context, binary string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, append(args, "-test.timeout", "0")...)
	cmd.Dir = "e2e/judge"
	return cmd.CombinedOutput()
}
