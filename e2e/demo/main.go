//go:build linux

// Command demo shows Plumbline's whole job on this host: it builds a small
// cluster out of network namespaces, breaks it in two places, lets the daemon
// diagnose it on schedule, and prints what it finds. `make demo` runs it.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	prefix = "demo"
	// deadline is how long the daemon may take to judge every path once.
	deadline = time.Minute
	refresh  = 2 * time.Second
	// stopTimeout is how long the daemon may take to end.
	stopTimeout = 20 * time.Second
)

//go:embed plumbline.yaml
var config []byte

// faults are what is broken in the lab.
var faults = []string{"drop-rule", "mtu-black-hole"}

// want is what the daemon has to say of each path, with these faults.
var want = map[string]answer{
	"pod:shop/web-0->svc:shop/api:80/tcp":     {verdict.Degraded, verdict.NetfilterDrop},
	"pod:shop/web-0->pod:shop/api-0:8080/tcp": {verdict.Reachable, ""},
	"pod:shop/web-0->pod:shop/api-1:8080/tcp": {verdict.Unreachable, verdict.NetfilterDrop},
	"pod:shop/web-0->svc:shop/db:5432/tcp":    {verdict.Degraded, verdict.MTUExceeded},
	"pod:shop/web-0->node:node-2/icmp":        {verdict.Reachable, ""},
	"node:node-1->pod:shop/db-0:22/tcp":       {verdict.Unreachable, verdict.NoListener},
}

type answer struct {
	verdict verdict.Verdict
	reason  verdict.Code
}

func main() {
	once := flag.Bool("once", false, "print the table once, check it against the injected faults, and exit")
	binary := flag.String("plumbline", "bin/plumbline", "the program to demonstrate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *binary, *once)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, once bool) (err error) {
	program, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	options := lab.Options{Prefix: prefix, Executable: program}
	if err := lab.Down(ctx, options); err != nil { // what a crash has left
		return err
	}
	fmt.Println("building a cluster of two nodes out of network namespaces")
	cluster, err := lab.Up(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Println("taking the cluster down")
		// ctx may be over: cleaning up is not.
		err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), options))
	}()
	for _, name := range faults {
		fault, err := lab.FindFault(name)
		if err != nil {
			return err
		}
		fmt.Printf("breaking it: %s (%s)\n", name, fault.Description)
		if err := cluster.Break(ctx, name); err != nil {
			return err
		}
	}
	d, err := startDaemon(ctx, program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	rows, err := d.judged(ctx)
	if err != nil {
		return err
	}
	if once {
		printTable(os.Stdout, rows)
		printHints(os.Stdout, d.url)
		return check(rows)
	}
	return d.watch(ctx)
}

// daemon is a running `plumbline serve`.
type daemon struct {
	cmd  *exec.Cmd
	url  string
	dir  string
	done chan error
}

func startDaemon(ctx context.Context, program string) (*daemon, error) {
	dir, err := os.MkdirTemp("", "plumbline-demo-")
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, done: make(chan error, 1)}
	file := filepath.Join(dir, "plumbline.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer log.Close()
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d.url = "http://" + address
	// Not CommandContext: the daemon is asked to end, not killed.
	d.cmd = exec.Command(program, "serve", "--config", file, "--web.listen-address", address)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// Ctrl-C in a terminal is for this process, which then stops the daemon.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { d.done <- d.cmd.Wait() }()
	fmt.Printf("started the daemon at %s\n", d.url)
	return d, nil
}

// freeAddress is the daemon's usual address, or one that is free.
func freeAddress(ctx context.Context) (string, error) {
	var listen net.ListenConfig
	for _, address := range []string{"127.0.0.1:9810", "127.0.0.1:0"} {
		if l, err := listen.Listen(ctx, "tcp", address); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no port is free on 127.0.0.1")
}

// stop ends the daemon and shows its log if it did not end well.
func (d *daemon) stop() error {
	defer os.RemoveAll(d.dir)
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	var err error
	select {
	case err = <-d.done:
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		err = fmt.Errorf("the daemon did not end within %s: %w", stopTimeout, <-d.done)
	}
	if err == nil {
		return nil
	}
	log, readErr := os.ReadFile(filepath.Join(d.dir, "log"))
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("the daemon: %w; it said:\n%s", err, log)
}

// judged waits until every path has been judged once.
func (d *daemon) judged(ctx context.Context) ([]row, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("the daemon did not judge every path within %s", deadline))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		rows, err := d.rows(ctx)
		if err == nil && len(rows) >= len(want) {
			return rows, nil
		}
		select {
		case err := <-d.done:
			d.done <- err // stop wants to know, too
			return nil, errors.New("the daemon ended")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// row is one path of one schedule.
type row struct {
	schedule string
	schedules.PathStatus
}

func (d *daemon) rows(ctx context.Context) ([]row, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/api/v1/schedules", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var body struct {
		Schedules []schedules.Status `json:"schedules"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range body.Schedules {
		for _, p := range s.Paths {
			rows = append(rows, row{s.Name, p})
		}
	}
	return rows, nil
}

// watch shows the table until the context ends.
func (d *daemon) watch(ctx context.Context) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		rows, err := d.rows(ctx)
		if err != nil {
			return err
		}
		var screen strings.Builder
		screen.WriteString("\x1b[H\x1b[2J") // home, clear
		printTable(&screen, rows)
		printHints(&screen, d.url)
		fmt.Fprintf(&screen, "\nbreak more, or fix it, in another terminal:\n  bin/plumbline lab fix --prefix %s %s\n\nCtrl-C ends the demo and cleans up.\n", prefix, faults[0])
		fmt.Print(screen.String())
		select {
		case err := <-d.done:
			d.done <- err
			return errors.New("the daemon ended")
		case <-ctx.Done():
			fmt.Println()
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPATH\tVERDICT\tREASON\tAS EXPECTED\tSINCE")
	for _, r := range rows {
		expected := "-"
		if met := r.ExpectationMet; met != nil && *met {
			expected = "yes"
		} else if met != nil {
			expected = "NO"
		}
		reason := string(r.Reason)
		if reason == "" {
			reason = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Path, r.Verdict, reason, expected, r.Since.Local().Format(time.TimeOnly))
	}
	t.Flush()
	fmt.Fprintln(w)
	told := make(map[string]bool)
	for _, r := range rows {
		if r.Message != "" && !told[r.Message] {
			told[r.Message] = true
			fmt.Fprintf(w, "%s: %s\n", r.Reason, r.Message)
		}
	}
}

func printHints(w io.Writer, url string) {
	fmt.Fprintf(w, `
ask it yourself:
  curl -s '%[1]s/api/v1/diagnose?from=pod:shop/web-0&to=svc:shop/api&port=80&protocol=tcp'
  curl -s '%[1]s/api/v1/reports?verdict=unreachable'
  curl -s %[1]s/metrics | grep ^plumbline_path_verdict
`, url)
}

// check compares what the daemon says with what was broken.
func check(rows []row) error {
	var wrong []error
	seen := make(map[string]bool)
	for _, r := range rows {
		seen[r.Path] = true
		expected, ok := want[r.Path]
		if !ok {
			wrong = append(wrong, fmt.Errorf("unexpected path %s", r.Path))
			continue
		}
		if got := (answer{r.Verdict, r.Reason}); got != expected {
			wrong = append(wrong, fmt.Errorf("%s: %s %s, but it is %s %s", r.Path, got.verdict, got.reason, expected.verdict, expected.reason))
		}
	}
	for path := range want {
		if !seen[path] {
			wrong = append(wrong, fmt.Errorf("no verdict for %s", path))
		}
	}
	if wrong == nil {
		fmt.Printf("\nall %d verdicts and reasons are right\n", len(rows))
	}
	return errors.Join(wrong...)
}
