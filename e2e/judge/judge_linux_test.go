package judge

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

var (
	trials   = flag.Int("n", 500, "trials: probes to judge, in whole worlds")
	seed     = flag.Uint64("seed", 1, "seed of the worlds")
	first    = flag.Uint64("first", 0, "index of the first world")
	features = flag.String("features", "", "restrict worlds to these features or generators: match:mark,route,iptables; separated by spaces where a name has commas")
	stop     = flag.Bool("stop", false, "stop at the first disagreement")
	workers  = flag.Int("workers", 6, "worlds to judge at once")
	sparing  = flag.Bool("enough", false, "build no world to find out what an element decides that has decided often enough")
	save     = flag.String("save", "", "directory for disagreements, each with its bundle")
	complete = flag.Bool("complete", false, "go on with worlds of what has decided too seldom; runs of 20,000 trials do")
	limit    = flag.Duration("for", 0, "begin no more worlds after this time")
	noShrink = flag.Bool("no-shrink", false, "save disagreements as they are")
	record   = flag.String("record", "", "directory for recordings of all worlds; what their features decide is not looked at")
	logFile  = flag.String("log", "", "file for the report, besides the output")
	hold     = flag.Bool("hold", false, "build the first world, and keep it until interrupted")
	witness  = flag.String("witness", "", "save, below -save, a small world for each of these features in which it decides")
	describe = flag.Bool("describe", false, "print the first world and judge nothing")
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
}

// TestJudge judges random worlds. Its flags follow -args: see the target judge of the Makefile.
func TestJudge(t *testing.T) {
	o := Options{Trials: *trials, Seed: *seed, First: *first, Stop: *stop, Workers: *workers, Enough: *sparing, Complete: *complete, For: *limit, Save: *save, Shrink: !*noShrink, Record: *record, Log: os.Stdout}
	if *features != "" {
		o.Features = strings.Split(*features, ",")
		if strings.Contains(*features, " ") {
			o.Features = strings.Fields(*features)
		}
	}
	if *describe {
		if os.Geteuid() == 0 {
			var err error
			if o.Kernel, err = AskKernel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w := Generate(*seed, *first, o.Features, o.Kernel)
		for i := range w.Probes {
			fmt.Println(&w.Probes[i])
		}
		fmt.Println(w.describe())
		return
	}
	needRoot(t)
	ctx, cancel := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	kernel, err := AskKernel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	o.Kernel = kernel
	if *hold {
		b, err := Generate(*seed, *first, o.Features, kernel).build(ctx, fmt.Sprintf("%s%d.0", namePrefix, os.Getpid()))
		if err == nil {
			fmt.Println("built as", b.prefix)
			<-ctx.Done()
		}
		if err := errors.Join(err, b.remove()); err != nil {
			t.Error(err)
		}
		return
	}
	if *witness != "" {
		j := newWorker(98, o)
		for feature := range strings.SplitSeq(*witness, ",") {
			s, err := j.witness(ctx, feature)
			if err != nil {
				t.Fatalf("%s: %v", feature, err)
			}
			dir := filepath.Join(*save, strings.NewReplacer(":", "-", ",", "-").Replace(feature))
			if err := s.write(dir); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s: %s%s\n", dir, &s.world.Probes[0], s.world.describe())
		}
		return
	}
	sum, err := Run(ctx, o)
	if sum == nil {
		t.Fatal(err)
	}
	sum.Print(os.Stdout)
	if *logFile != "" {
		f, err := os.Create(*logFile)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "judge -n %d -seed %d\n\n", *trials, *seed)
		sum.Print(f)
	}
	if err != nil && !*stop {
		t.Error(err)
	}
	if missing := sum.Missing(); len(missing) > 0 {
		t.Errorf("decided too seldom, without a reason: %s", strings.Join(missing, ", "))
	}
	if sum.Failed() {
		t.Errorf("%d disagreements, %d unknown of %d, %d failures", len(sum.Disagreements), sum.Unknown, sum.Trials, len(sum.Failures))
	}
}

// regressions are the saved worlds.
func regressions(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("testdata/*/world.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

// TestRegressionsFromBundles diagnoses the bundles of saved worlds: what the kernel did is known.
func TestRegressionsFromBundles(t *testing.T) {
	for _, dir := range regressions(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			w, err := ReadWorld(filepath.Join(dir, "world.json"))
			if err != nil {
				t.Fatal(err)
			}
			snapshot, err := bundle.Read(filepath.Join(dir, savedBundle))
			if err != nil {
				t.Fatal(err)
			}
			world, err := simulator.Compile(snapshot)
			if err != nil {
				t.Fatal(err)
			}
			seen, err := readRegressions(filepath.Join(dir, "observed.json"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range w.Probes {
				p := &w.Probes[i]
				predicted, err := predict(world, p)
				if err != nil {
					t.Fatal(err)
				}
				got, ok := seen[p.ID]
				if !ok {
					t.Fatalf("%s: no observation of %s", dir, p.ID)
				}
				if !predicted.agreesWith(p, &got) {
					t.Errorf("%s\nkernel:    %s\nsimulator: %s%s", p, got, predicted, w.describe())
				}
			}
		})
	}
}

// TestRegressionsLive builds the saved worlds again.
func TestRegressionsLive(t *testing.T) {
	needRoot(t)
	j := newWorker(99, Options{Log: os.Stdout})
	j.known = func([]string) bool { return true } // what their elements decide is not asked
	kernel, err := AskKernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range regressions(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			w, err := ReadWorld(filepath.Join(dir, "world.json"))
			if err != nil {
				t.Fatal(err)
			}
			if needs := w.needs(); !kernel.has(needs...) {
				t.Skipf("the kernel lacks one of %v: the lane of the virtual machine has them", needs)
			}
			r, err := j.judge(context.WithoutCancel(t.Context()), w)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.disagreements {
				t.Errorf("%s%s", &d, w.describe())
			}
			if *update {
				s, err := j.sit(context.WithoutCancel(t.Context()), w)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.write(dir); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestWorldsAreTheSameForTheSameSeed compares two drawings.
func TestWorldsAreTheSameForTheSameSeed(t *testing.T) {
	draw := func(index uint64) string {
		text, err := json.Marshal(Generate(1, index, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for index := range uint64(150) { // all subjects have had their turn
		if first, second := draw(index), draw(index); first != second {
			t.Fatalf("world %d differs", index)
		}
	}
}

// TestNFTTakesTheChainsOfWorlds draws worlds and looks for what nft would refuse: a chain declared again as another one, and
// look-ups of routes at an ingress (nft_fib_validate).
func TestNFTTakesTheChainsOfWorlds(t *testing.T) {
	for index := range uint64(600) {
		chains := make(map[string]string)
		for _, e := range Generate(21, index, []string{"nft"}, nil).Elements {
			words := strings.Fields(e.Text)
			if e.Tool != ToolNFT || len(words) < 5 {
				continue
			}
			key := strings.Join(append([]string{e.Namespace}, words[2:5]...), " ")
			switch before, known := chains[key]; {
			case words[1] == "chain" && known && before != e.Text:
				t.Errorf("world %d, %s: %q after %q", index, e.Namespace, e.Text, before)
			case words[1] == "chain":
				chains[key] = e.Text
			case strings.Contains(before, "hook ingress") && strings.Contains(e.Text, " fib "):
				t.Errorf("world %d, %s: %q in %q", index, e.Namespace, e.Text, before)
			}
		}
	}
}

// TestWorldsAddNothingTwice draws worlds and looks for routes and rules that the kernel would refuse, as it has them.
func TestWorldsAddNothingTwice(t *testing.T) {
	for index := range uint64(600) {
		w, seen := Generate(21, index, nil, nil), make(map[string]string)
		for i := range w.Elements {
			e := &w.Elements[i]
			text := strings.TrimPrefix(e.Text, fmt.Sprintf("-%d ", e.Family))
			text, _, _ = strings.Cut(text, " proto ")
			key := e.Namespace + " " + text
			if route, ok := strings.CutPrefix(text, "route add "); ok {
				key = routeKey(e.Namespace, route)
			} else if !strings.HasPrefix(text, "rule add ") {
				continue
			}
			if before, twice := seen[key]; twice {
				t.Errorf("world %d, %s: %q after %q", index, e.Namespace, e.Text, before)
			}
			seen[key] = e.Text
		}
	}
}
