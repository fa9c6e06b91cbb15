package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// asMain makes this test program behave as plumbline itself, for what only a process of its own can show.
const asMain = "PLUMBLINE_TEST_MAIN"

func TestMain(m *testing.M) {
	interceptListener()
	if os.Getenv(asMain) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){
		"plumbline": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// plumbline runs a command line in this process.
func plumbline(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestVersionTellsWhatTheProgramWasBuiltFrom(t *testing.T) {
	code, stdout, stderr := plumbline(t, "version")
	if code != 0 || stderr != "" {
		t.Fatalf("got status %d, %q", code, stderr)
	}
	want := fmt.Sprintf(", %s, %s/%s)\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if !strings.HasPrefix(stdout, "plumbline ") || !strings.Contains(stdout, " (commit ") || !strings.HasSuffix(stdout, want) {
		t.Errorf("got %q, want plumbline VERSION (commit COMMIT%s", stdout, want)
	}
}

func TestWrongUsageIsOneLineAndStatusTwo(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, `plumbline: unknown command "frobnicate": see plumbline --help`},
		{[]string{"version", "now"}, `plumbline: unknown command "now" for "plumbline version"`},
		{[]string{"--colour"}, "plumbline: unknown flag: --colour: see plumbline --help"},
		{[]string{"collect", "-o", "/tmp/never-written", "--manifests", "/", "--in-cluster"}, "plumbline: collect: --manifests and --kubeconfig or --in-cluster exclude each other"},
		{[]string{"collect", "-o", "/tmp/never-written", "--kubeconfig", "/nonexistent"}, "plumbline: collect: kubernetes: kubeconfig /nonexistent: stat /nonexistent: no such file or directory"},
		{[]string{"diagnose", "--from", "node:a", "--to", "node:b", "--port", "1", "--kubeconfig", "/nonexistent"}, "plumbline: kubernetes: kubeconfig /nonexistent: stat /nonexistent: no such file or directory"},
	} {
		code, stdout, stderr := plumbline(t, c.args...)
		if code != statusUsage || stdout != "" || stderr != c.want+"\n" {
			t.Errorf("%v: got status %d, %q, %q, want status %d, %q", c.args, code, stdout, stderr, statusUsage, c.want)
		}
	}
}

// asNobody runs plumbline in a process without privileges.
func asNobody(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "plumbline")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "plumbline")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.Dir = "/"
	dropPrivileges(cmd)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), errOut.String()
}

func TestHelpFitsTheNarrowestTerminals(t *testing.T) {
	var all func(*cobra.Command)
	all = func(c *cobra.Command) {
		var out bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(c.CommandPath())[1:], "--help"), &out, &out); code != statusOK {
			t.Errorf("%s --help: status %d", c.CommandPath(), code)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpWidth {
				t.Errorf("%s --help: %d characters: %s", c.CommandPath(), n, line)
			}
			if strings.ContainsAny(line, "\x1b\t") {
				t.Errorf("%s --help: %q", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			all(sub)
		}
	}
	all(newRootCommand())
}

func TestWhatIsInterruptedSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"diagnose", "--server", "http://127.0.0.1:1", "--from", "10.0.0.1", "--to", "10.0.0.2", "--port", "80"}, &out, &errs)
	if code != statusInterrupted || errs.String() != "plumbline: interrupted\n" {
		t.Errorf("status %d: %s", code, &errs)
	}
}

// TestCommandsOfTheDocumentsAreThere parses every command line that a document tells its reader to type.
func TestCommandsOfTheDocumentsAreThere(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, document := range append(append(documents, runbooks...), "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documentedCommand.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(m[1] + m[2])
			for i := range words {
				words[i] = strings.Trim(words[i], `'"`)
			}
			if len(words) == 0 || strings.ContainsAny(words[0], ".…,") {
				continue
			}
			found++
			c, rest, err := newRootCommand().Find(words)
			switch {
			case err != nil:
			case !c.HasParent() && !strings.HasPrefix(words[0], "-"):
				err = fmt.Errorf("no command %s", words[0])
			case c.Name() != "exec":
				err = c.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s: plumbline %s: %v", document, strings.Join(words, " "), err)
			}
		}
	}
	if found < 10 {
		t.Errorf("%d commands were found", found)
	}
}

// documentedCommand is one in a block of code or in line.
var documentedCommand = regexp.MustCompile("(?m)^    (?:bin/)?plumbline ([a-z-][^|#\n]*)|`plumbline ([a-z-][^`\n|]*)`")
