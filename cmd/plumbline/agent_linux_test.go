package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/privsep"
	"github.com/plumbline-net/plumbline/snapshot"
)

// agent is the process of one, and the one that serves for it.
type agent struct {
	t    *testing.T
	cmd  *exec.Cmd
	base string // URL
	done chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// startAgent starts one, and waits until it listens.
func startAgent(t *testing.T) *agent {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent has privileges to give up")
	}
	a, err := tryAgent(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tryAgent is startAgent for one that may not get as far. The command line before,
// if any, is to execute what follows it.
func tryAgent(t *testing.T, before []string, args ...string) (*agent, error) {
	t.Helper()
	argv := append(append(before, os.Args[0], "agent", "--web.listen-address=127.0.0.1:0"), args...)
	a := &agent{t: t, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	a.cmd.Env = append(os.Environ(), asMain+"=1")
	a.cmd.Dir = "/"
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(a.done)
		defer close(listening)
		address := regexp.MustCompile(`msg=listening address=(\S+)`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			a.mu.Lock()
			a.log.WriteString(lines.Text() + "\n")
			a.mu.Unlock()
			if m := address.FindStringSubmatch(lines.Text()); m != nil {
				listening <- m[1]
			}
		}
		_ = a.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
	})
	address, ok := <-listening
	if !ok {
		return nil, fmt.Errorf("the agent does not listen: %s", a.said())
	}
	a.base = "http://" + address
	return a, nil
}

func (a *agent) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

func (a *agent) get(path string) (int, string) {
	a.t.Helper()
	return a.ask(http.MethodGet, path, "")
}

func (a *agent) post(path, body string) (int, string) {
	a.t.Helper()
	return a.ask(http.MethodPost, path, body)
}

func (a *agent) ask(method, path, content string) (int, string) {
	a.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, strings.NewReader(content))
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := client.Do(request)
	if err != nil {
		a.t.Fatalf("%v; the agent says: %s", err, a.said())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// serving is the process that serves for the agent.
func (a *agent) serving() int {
	a.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, file := range all {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if fields[1] != strconv.Itoa(a.cmd.Process.Pid) || !strings.Contains(string(command), "\x00"+serveAgent+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			a.t.Fatal(err)
		}
		return pid
	}
	a.t.Fatalf("no process serves for the agent: %s", a.said())
	return 0
}

// gone waits until a process has ended, whoever its parent is now.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not end", pid)
		}
	}
}

// statuses are the lines of /proc/PID/task/TID/status of all threads, by key.
func statuses(t *testing.T, pid int) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		status := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.TrimSpace(value)
		}
		all = append(all, status)
	}
	return all
}

// listeners lists the sockets of a process that listen, or take datagrams at an address
// of the network.
func listeners(t *testing.T, pid int) (all []string) {
	t.Helper()
	own := make(map[string]bool)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("open files of %d: %v", pid, err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	// The column of the inode; and that which says that a socket listens, and how.
	for _, table := range []struct {
		name         string
		inode, state int
		listens      string
	}{{"tcp", 9, 3, "0A"}, {"tcp6", 9, 3, "0A"}, {"udp", 9, 3, ""}, {"udp6", 9, 3, ""}, {"raw", 9, 3, ""}, {"raw6", 9, 3, ""}, {"unix", 6, 3, "00010000"}} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table.name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > table.inode && own[fields[table.inode]] && (table.listens == "" || fields[table.state] == table.listens) {
				all = append(all, table.name+" "+strings.TrimSpace(line))
			}
		}
	}
	return all
}

func TestAnAgentDividesPrivilegesFromListening(t *testing.T) {
	a := startAgent(t)
	serving := a.serving()
	threads := statuses(t, serving)
	if len(threads) == 0 {
		t.Fatal("the process that serves has no threads")
	}
	for _, status := range threads {
		const none = "0000000000000000"
		for key, want := range map[string]string{
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Groups": "",
			"Uid": fours(privsep.DefaultUser.UID), "Gid": fours(privsep.DefaultUser.GID),
		} {
			if status[key] != want {
				t.Errorf("the process that serves has %s %s, want %s", key, status[key], want)
			}
		}
	}
	if own := listeners(t, serving); len(own) != 1 || !strings.HasPrefix(own[0], "tcp ") {
		t.Errorf("the process that serves listens at %q, want one TCP port", own)
	}
	if own := listeners(t, a.cmd.Process.Pid); len(own) != 0 {
		t.Errorf("the process that has privileges listens at %q", own)
	}
	if status, body := a.get(snapshot.ManifestPath); status != http.StatusOK || body == "" {
		t.Errorf("%s: %d, %d bytes", snapshot.ManifestPath, status, len(body))
	}
	if status, body := a.get("/-/ready"); status != http.StatusOK || body != "ready\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	if status, body := a.get("/metrics"); status != http.StatusOK || !strings.Contains(body, "plumbline_probe_attached") {
		t.Errorf("metrics: %d %.200s", status, body)
	}
	if status, body := a.get(snapshot.BlobPath + "../../../etc/passwd"); status != http.StatusNotFound {
		t.Errorf("what is no blob: %d %q", status, body)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(a.base, "http://"), ":")
	probe := `{"namespace":"host","probe":{"protocol":"tcp","destination":"127.0.0.1","port":` + port + `,"timeout":5000000000}}`
	if status, body := a.post(confirm.ProbePath, probe); status != http.StatusOK || !strings.Contains(body, `"outcome":"established"`) {
		t.Errorf("a real probe: %d %q", status, body)
	}
	if status, body := a.post(confirm.ProbePath, strings.Replace(probe, "127.0.0.1", "localhost", 1)); status != http.StatusBadRequest {
		t.Errorf("a real probe to a name: %d %q", status, body)
	}

	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-a.done
	if code := a.cmd.ProcessState.ExitCode(); code != statusOK {
		t.Errorf("after SIGTERM: status %d, %s", code, a.said())
	}
	gone(t, serving)
}

// fours is how a status file tells a number that is the same for real, effective, saved
// and file system's.
func fours(n uint32) string { return fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", n) }

// Containers whose images run as 65532, as distroless' do, and the half that serves do
// not see each other's files.
func TestTheHalfThatServesIsNoOtherContainersUser(t *testing.T) {
	a := startAgent(t)
	nonroot := &syscall.Credential{Uid: 65532, Gid: 65532}
	serves := &syscall.Credential{Uid: privsep.DefaultUser.UID, Gid: privsep.DefaultUser.GID}
	other := exec.Command("cat")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: nonroot}
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = other.Wait()
	})
	for _, test := range []struct {
		who  string
		as   *syscall.Credential
		pid  int
		sees bool
	}{
		{"the half that serves of the other container", serves, other.Process.Pid, false},
		{"the other container of the half that serves", nonroot, a.serving(), false},
		{"a container of another of its user", nonroot, other.Process.Pid, true}, // which is why
	} {
		look := exec.Command("readlink", fmt.Sprintf("/proc/%d/root", test.pid))
		look.SysProcAttr = &syscall.SysProcAttr{Credential: test.as}
		if out, err := look.CombinedOutput(); (err == nil) != test.sees {
			t.Errorf("%s sees %q, %v; want that it sees: %t", test.who, out, err, test.sees)
		}
	}
}

// Neither half outlives the other, whichever is killed.
func TestTheHalvesOfAnAgentEndTogether(t *testing.T) {
	a := startAgent(t)
	serving := a.serving()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, serving)

	a = startAgent(t)
	if err := syscall.Kill(a.serving(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-a.done
	if code, want := a.cmd.ProcessState.ExitCode(), "plumbline: the half that serves has ended: signal: killed\n"; code != statusError || !strings.HasSuffix(a.said(), want) {
		t.Errorf("status %d, want %d; it says %q, want %q", code, statusError, a.said(), want)
	}
}

func TestAnAgentThatCannotListen(t *testing.T) {
	a := startAgent(t)
	second := exec.Command(os.Args[0], "agent", "--web.listen-address="+strings.TrimPrefix(a.base, "http://"))
	second.Env = append(os.Environ(), asMain+"=1")
	out, _ := second.CombinedOutput()
	if code, want := second.ProcessState.ExitCode(), "the port is in use"; code != statusUsage || strings.Count(string(out), want) != 1 {
		t.Errorf("status %d, want %d; it says %q, want %q once", code, statusUsage, out, want)
	}
}
