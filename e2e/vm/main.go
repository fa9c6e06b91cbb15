// Command vm runs tests on another kernel than the host's: on that of Debian
// 12, in a virtual machine, with every part of the network stack that a cluster
// node may use. It is what `make test-vm` does.
//
// A machine that dies is started once more, with the tests that have no result.
// When it cannot be set up the tests are skipped, with a word about it; under
// CI=true that is a failure.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("pkg", "", "run only packages that match this regular expression")
	run := flag.String("run", "", "run these tests of each package, and not those of the lane")
	args := flag.String("args", "", "give each package these flags, after those of the lane")
	timeout := flag.Duration("timeout", 0, "give each package this much time, and not that of the lane")
	verbose := flag.Bool("v", false, "print the output of tests that pass, too")
	keep := flag.String("keep", "", "put here what tests leave in the machine's /tmp/keep")
	flag.Parse()
	passed, err := runLane(*only, *verbose, *keep, func(e *entry) {
		e.run, e.args, e.timeout = cmp.Or(*run, e.run), e.args+" "+*args, cmp.Or(*timeout, e.timeout)
	})
	switch {
	case err != nil && os.Getenv("CI") != "true":
		fmt.Println("SKIP: no test ran in the virtual machine:", err)
	case err != nil:
		fmt.Fprintln(os.Stderr, "the virtual machine cannot be set up:", err)
		os.Exit(1)
	case !passed:
		os.Exit(1)
	}
}

// runLane says whether all tests passed; the error is one of the set-up.
func runLane(only string, verbose bool, keep string, change func(*entry)) (passed bool, err error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return false, err
	}
	var entries []entry
	all := lane
	if only != "" {
		all = slices.Concat(lane, asked)
	}
	for _, e := range all {
		change(&e)
		if pattern.MatchString(e.pkg) {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return false, fmt.Errorf("no package of the lane matches %q", only)
	}
	if runtime.GOARCH != "amd64" {
		return false, errors.New("it needs an amd64 host")
	}
	root, err := output("go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return false, err
	}
	root = strings.TrimSpace(root)
	if err := install(root, "vm"); err != nil {
		return false, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return false, err
	}
	kernel, err := fetchKernel(filepath.Join(cache, "plumbline", "vm"))
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "plumbline-vm-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if slices.ContainsFunc(entries, func(e entry) bool { return e.pkg == clusters }) {
		if err := buildComponents(root); err != nil {
			return false, err
		}
	}
	tests, err := buildTests(root, dir, entries)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false, nil // wrong code, not a wrong set-up
	}
	for attempt := 1; ; attempt++ {
		result, err := attemptTests(kernel, dir, tests)
		if err != nil {
			return false, err
		}
		left, failed := report(tests, result, verbose)
		if err := result.unpack(keep); err != nil {
			return false, err
		}
		switch {
		case failed:
			return false, nil
		case result.done:
			return true, nil
		}
		fmt.Printf("the machine died (attempt %d of 2); its last words:\n%s\n", attempt, result.death())
		if attempt == 2 {
			return false, nil
		}
		tests = left
	}
}

// install gets the Debian packages that a task needs: see hack/deps.sh.
func install(root, task string) error {
	deps := exec.Command(filepath.Join(root, "hack/deps.sh"), task)
	deps.Stdout, deps.Stderr = os.Stdout, os.Stderr
	if err := deps.Run(); err != nil {
		return fmt.Errorf("hack/deps.sh %s: %w", task, err)
	}
	// For root's commands, whoever calls.
	return os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
}

// attemptTests runs tests in a machine made for them.
func attemptTests(kernel kernelFiles, dir string, tests []test) (machineRun, error) {
	file, err := os.Create(filepath.Join(dir, "initrd"))
	if err != nil {
		return machineRun{}, err
	}
	err = image(newArchive(file), kernel, tests)
	if err := errors.Join(err, file.Close()); err != nil {
		return machineRun{}, fmt.Errorf("make the machine's file system: %w", err)
	}
	limit := 3 * time.Minute // to start and to stop
	for _, t := range tests {
		limit += t.timeout
	}
	var plane *controlPlane
	if slices.ContainsFunc(tests, func(t test) bool { return t.pkg == clusters }) {
		if plane, err = startControlPlane(); err != nil {
			return machineRun{}, err
		}
		defer plane.stop()
	}
	started := time.Now()
	run, err := boot(kernel, dir, limit, plane)
	if err != nil {
		return machineRun{}, err
	}
	fmt.Printf("Linux %s; %.0f s in all\n", run.up, time.Since(started).Seconds())
	if len(run.missing) > 0 {
		return machineRun{}, fmt.Errorf("modules that did not load: %s\n%s", strings.Join(run.missing, " "), run.death())
	}
	return run, nil
}

// report prints what came of the tests. It returns those without a result.
func report(tests []test, run machineRun, verbose bool) (left []test, failed bool) {
	for _, t := range tests {
		r := run.results[t.name]
		if !r.ended {
			left = append(left, t)
			continue
		}
		passed := strings.Count(r.output, "--- PASS")
		bad := r.status != 0 || passed == 0 // what it names may be gone
		word := "ok  "
		if bad {
			word, failed = "FAIL", true
		}
		fmt.Printf("%s %s: %d passed, %d skipped\n", word, t.pkg, passed, strings.Count(r.output, "--- SKIP"))
		if verbose || bad {
			fmt.Print(r.output)
			continue
		}
		for line := range strings.Lines(r.output) {
			if strings.Contains(line, "--- SKIP") {
				fmt.Print(line)
			}
		}
	}
	return left, failed
}
